/* SPDX-License-Identifier: MIT */
/* online_none - see online.h; for builds without libcurl, where nobody is asked over HTTPS. */
#include "online.h"

int online_open(const struct options *options, const char *url, const char *fingerprint, struct online *out,
		struct fault *f)
{
	(void)options, (void)fingerprint;
	*out = (struct online){0};
	return refuse(f, "%s: this program was built without libcurl, so it can ask nobody: use files", url);
}

void online_done(struct online *o)
{
	certificates_done(&o->roots);
}

/* Nobody gets so far. */
int online_health(struct online *o, struct fault *f)
{
	(void)o;
	return refuse(f, "built without libcurl");
}

int online_sign(struct online *o, const char *csr, const char *token, int64_t life_s, const struct key *key,
		struct certificates *chain, gnutls_x509_crt_t *root, struct fault *f)
{
	(void)o, (void)csr, (void)token, (void)life_s, (void)key, (void)chain, (void)root;
	return refuse(f, "built without libcurl");
}

int online_renew(struct online *o, const struct certificates *chain, const struct key *key,
		 struct certificates *out, gnutls_x509_crt_t *root, struct fault *f)
{
	(void)o, (void)chain, (void)key, (void)out, (void)root;
	return refuse(f, "built without libcurl");
}

int online_join(struct online *o, const char *tenant, const char *csr, json_t **reply, struct fault *f)
{
	(void)o, (void)tenant, (void)csr, (void)reply;
	return refuse(f, "built without libcurl");
}

int online_token(struct online *o, const struct options *options, const struct online_claims *claims,
		 struct ss_strbuf *token, struct fault *f)
{
	(void)o, (void)options, (void)claims, (void)token;
	return refuse(f, "built without libcurl");
}

int online_revoke(struct online *o, const struct options *options, gnutls_x509_crt_t crt, const char *chain,
		  const char *key, struct fault *f)
{
	(void)o, (void)options, (void)crt, (void)chain, (void)key;
	return refuse(f, "built without libcurl");
}
