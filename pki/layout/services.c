/* SPDX-License-Identifier: MIT */
/* services - see services.h. */
#include "services.h"

#include <string.h>
#include <unistd.h>
#include "pki/join/online.h"
#include "pki/request.h"

static const char *const services[] = {"keycloak", "vaultwarden", "vault",      "temporal",
				       "postgres", "grafana",     "prometheus", "nats"};

/* Who signs. */
struct signer {
	struct options options; /* the tree's, as for its CA */
	struct online ca;
	struct issuer issuer; /* if the CA is not asked */
	bool online;
};

static void signer_done(struct signer *s)
{
	online_done(&s->ca);
	issuer_done(&s->issuer);
}

/* The CA of the tree, if it runs: as a client of it finds it.  0, also if it does not run. */
static int find_ca(const struct tree *t, struct signer *s, struct fault *f)
{
	char path[PATH_MAX];
	int rc = tree_path(t, "config/step-ca/defaults.json", path, f);
	json_t *defaults = rc ? NULL : json_load_file(path, 0, NULL);
	const char *named = t->o->ca,
		   *url = named ? named : json_string_value(json_object_get(defaults, "ca-url"));

	if (rc == 0 && named && strncmp(named, "https://", 8) != 0)
		rc = refuse(f, "--ca is the URL of the tree's step-ca here, not \"%s\"", named);
	else if (rc == 0 && url && !t->o->ca_key) {
		rc = online_open(&s->options, url, NULL, &s->ca, f);
		if (rc == 0)
			rc = online_health(&s->ca, f);
		s->online = rc == 0;
		if (rc == -EINVAL && !named) {
			fprintf(stderr,
				"semstreams pki: note: the key of the tree's intermediate signs, as no CA "
				"runs: %s\n",
				f->text);
			rc = 0;
		}
	}
	json_decref(defaults);
	return rc;
}

static int signer_open(const struct tree *t, struct signer *s, struct fault *f)
{
	*s = (struct signer){.options = *t->o};
	s->options.roots = t->root;
	s->options.provisioner = "admin";
	s->options.ca_passphrase = tree_passphrase(t, &t->o->ca_passphrase);
	int rc = find_ca(t, s, f);
	if (rc == 0 && !s->online)
		rc = issuer_load(t->issuer, t->o->ca_key ? t->o->ca_key : t->issuer_key,
				 &s->options.ca_passphrase, &s->issuer, f);
	if (rc)
		signer_done(s);
	return rc;
}

static int add_names(const struct tree *t, const char *service, struct names *out, struct fault *f)
{
	const char *const own[] = {service, "localhost", "127.0.0.1"};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof own / sizeof *own; i++)
		rc = names_add(out, own[i], NULL, f);
	for (size_t i = 0; rc == 0 && i < t->o->names.n; i++)
		rc = names_add(out, t->o->names.v[i].text, NULL, f);
	return rc;
}

/* ---- by the running CA ---- */

static int order(struct signer *s, const struct issue *what, struct fileset *set, struct certificates *chain,
		 struct fault *f)
{
	const struct online_claims claims = {.path = "/1.0/sign",
					     .subject = what->subject,
					     .names = what->names,
					     .profile = what->profile};
	struct key key = {0};
	struct ss_strbuf csr = {0}, token = {.secret = true};
	gnutls_x509_crt_t root;
	int rc = key_new(what->key_type ? what->key_type : what->profile->key_type, &key, f);

	if (rc == 0)
		rc = request_new(&key, what->subject, what->names, &csr, f);
	if (rc == 0)
		rc = key_pem(&key, what->passphrase, &set->v[0].content, f);
	if (rc == 0)
		rc = online_token(&s->ca, &s->options, &claims, &token, f);
	if (rc == 0)
		rc = online_sign(&s->ca, ss_strbuf_cstr(&csr), ss_strbuf_cstr(&token), what->life_s, &key,
				 chain, &root, f);
	for (unsigned i = 0; rc == 0 && i < chain->n; i++)
		rc = certificate_pem(chain->v[i], &set->v[1].content);
	ss_strbuf_done(&csr);
	ss_strbuf_done(&token);
	key_done(&key);
	return rc;
}

static int issue_online(struct tree *t, const struct member *m, const struct issue *what, struct signer *s,
			struct fault *f)
{
	struct fileset set = {0};
	struct certificates chain = {0};

	fileset_add(&set, what->key, 0600);
	fileset_add(&set, what->crt, 0644);
	int rc = fileset_check(&set, what->replace, f);
	if (rc == 0)
		rc = order(s, what, &set, &chain, f);
	if (rc == 0)
		rc = fileset_write(&set, f);
	if (rc == 0)
		rc = issue_print(chain.v[0], what->crt, what->key, t->o->json);
	if (rc == 0)
		rc = tree_record(t, m, chain.v[0], what->profile->name, what->names);
	certificates_done(&chain);
	fileset_done(&set);
	return rc;
}

/* ---- */

static int make(struct tree *t, const char *service, struct signer *s, struct fault *f)
{
	static const struct passphrase open;
	char crt[80], key[80];
	struct member m;
	struct names san = {0};

	snprintf(crt, sizeof crt, "data/certs/%s/%s.crt", service, service);
	snprintf(key, sizeof key, "data/certs/%s/%s.key", service, service);
	int rc = tree_member(t, crt, key, &m, f);
	if (rc == 0 && !t->o->force && access(m.crt, F_OK) == 0 && access(m.key, F_OK) == 0) {
		if (!t->o->json)
			printf("%s: kept\n", m.crt);
		return 0;
	}
	if (rc == 0)
		rc = add_names(t, service, &san, f);
	const struct issue what = {.profile = &profile_service,
				   .subject = service,
				   .key_type = t->o->key_type,
				   .crt = m.crt,
				   .key = m.key,
				   .names = &san,
				   .passphrase = &open,
				   .life_s = t->life_s,
				   .path_len = -1,
				   .replace = t->o->force,
				   .chain = true};
	if (rc == 0)
		rc = s->online ? issue_online(t, &m, &what, s, f) : tree_issue(t, &m, &what, &s->issuer, f);
	names_done(&san);
	return rc ? rc : tree_save(t, f);
}

int services_make(struct tree *t, struct fault *f)
{
	struct signer s;
	int rc = signer_open(t, &s, f);

	if (rc)
		return rc;
	for (size_t i = 0; rc == 0 && i < sizeof services / sizeof *services; i++)
		rc = make(t, services[i], &s, f);
	signer_done(&s);
	if (rc == 0 && !t->o->json)
		puts("All service certificates generated!");
	return rc;
}
