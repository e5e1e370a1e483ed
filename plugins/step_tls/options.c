/* SPDX-License-Identifier: MIT */
/* options - see options.h: checked as far as that is possible without a file or a network. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include "options.h"

#define OPT(member, type, def, text, ...) SS_OPT(struct step_conf, member, type, def, text, __VA_ARGS__)

const struct ss_option step_options_table[STEP_N_OPTIONS] = {
	OPT(enabled, SS_OPT_BOOL, "true",
	    "obtain certificates from step-ca; false: use cert_file and key_file only"),
	OPT(ca_url, SS_OPT_STRING, NULL, "address of step-ca, like https://ca.example:9000",
	    .flags = SS_OPT_REQUIRED),
	OPT(fingerprint, SS_OPT_STRING, NULL,
	    "SHA-256 of the CA's root certificate in hex: the root is fetched from the CA and trusted if it "
	    "is that one"),
	OPT(ca_bundle, SS_OPT_STRING, NULL,
	    "file with the CA certificates to trust for the HTTPS of step-ca; neither this nor fingerprint "
	    "set: security.tls.client.ca_files, else those of the system",
	    .flags = SS_OPT_READS),
	OPT(token, SS_OPT_STRING, NULL,
	    "one-time token with which the first certificate is obtained, and the next after one has expired",
	    .flags = SS_OPT_SECRET),
	OPT(token_file, SS_OPT_STRING, NULL,
	    "file with that token, read when it is needed: it may appear later, and be removed after use"),
	OPT(domains, SS_OPT_JSON, NULL,
	    "array of the DNS names or IP addresses the certificate is for; the first is its common name. "
	    "Exactly those of the token",
	    .flags = SS_OPT_REQUIRED,
	    .schema = "{\"type\":\"array\",\"minItems\":1,\"maxItems\":100,\"uniqueItems\":true,"
		      "\"items\":{\"type\":\"string\",\"minLength\":1}}"),
	OPT(storage_path, SS_OPT_STRING, NULL, "folder for the certificate and its key",
	    .flags = SS_OPT_REQUIRED | SS_OPT_WRITES),
	OPT(renew_after, SS_OPT_INT, "66", "percent of the certificate's lifetime after which it is renewed",
	    .min = 50, .max = 95),
	OPT(lifetime, SS_OPT_DURATION, NULL,
	    "lifetime to ask for with the token; not set: the provisioner's default",
	    .min = 10 * SETUP_SECOND, .max = 3650 * SETUP_DAY),
	OPT(check_interval, SS_OPT_DURATION, "1h", "longest time between two checks whether to renew",
	    .min = SETUP_SECOND, .max = SETUP_DAY),
	OPT(timeout, SS_OPT_DURATION, "30s", "give up a request to the CA that takes longer",
	    .min = SETUP_SECOND, .max = 600 * SETUP_SECOND),
};

static int32_t check_url(const struct ss_host *host, const char *url)
{
	char why[700];
	const char *fault = setup_url_fault(url, "the address of a step-ca, like \"https://ca.example:9000\"",
					    "step-ca", why, sizeof why);
	if (!fault && strchr(url, '?'))
		fault = "has a query, which step-ca does not use: remove the ? and everything behind it";
	else if (!fault && strstr(url, "/acme/"))
		fault = "is an ACME directory: remove everything behind the port, or use \"mode\": \"acme\"";
	return fault ? ss_config_error(host, "/ca_url", "%s", fault) : 0;
}

static int32_t check_fingerprint(const struct ss_host *host, const char *text)
{
	size_t n = 0;
	bool hex = true;
	for (; text && *text; text++)
		if (!strchr(": -", *text)) {
			hex = hex && isxdigit((unsigned char)*text);
			n++;
		}
	if (!text || (hex && n == 64))
		return 0;
	return ss_config_error(
		host, "/fingerprint",
		"is not the SHA-256 of a certificate, 64 hexadecimal digits; \"semstreams pki fingerprint "
		"FILE\" prints that of a root");
}

/* The file, which others are not to read, and its whole folder: each token is another file, which need not be
 * there yet. */
static int32_t claim_token(const struct ss_host *host, const char *file)
{
	const char *slash = strrchr(file, '/');
	char *folder = NULL, *secret = NULL;
	int32_t rc = -ENOMEM;
	if (!SS_KNOWS(host, struct ss_host, claim))
		return 0;
	int len = !slash ? 1 : slash == file ? 1 : (int)(slash - file);
	if (asprintf(&folder, "reads:%.*s", len, slash ? file : ".") < 0)
		folder = NULL;
	if (asprintf(&secret, "secret:%s", file) < 0)
		secret = NULL;
	if (folder && secret)
		rc = host->claim(host, "/token_file", folder);
	if (folder && secret && rc != -ENOMEM)
		rc = host->claim(host, "/token_file", secret);
	free(folder);
	free(secret);
	return rc == -ENOMEM ? rc : 0;
}

/* A root that is known by its fingerprint is fetched at start. */
static int32_t claim_ca(const struct ss_host *host, const struct step_conf *conf)
{
	const size_t len = strlen(conf->ca_url);
	return setup_claim_ca(host, "/ca_url", conf->ca_url,
			      len && conf->ca_url[len - 1] == '/' ? "health" : "/health",
			      conf->fingerprint ? "any" : conf->ca_bundle);
}

static int32_t check_rest(const struct ss_host *host, const struct step_conf *conf)
{
	int32_t rc = 0;
	if (conf->fingerprint && conf->ca_bundle)
		rc = ss_config_error(host, "/fingerprint",
				     "cannot be used with ca_bundle: remove one of them");
	if (conf->ca_bundle && !conf->ca_bundle[0])
		rc = ss_config_error(host, "/ca_bundle",
				     "is empty; remove it to trust the CAs of the system");
	if (conf->token && conf->token_file)
		rc = ss_config_error(host, "/token", "cannot be used with token_file: remove one of them");
	if (conf->token_file && !conf->token_file[0])
		rc = ss_config_error(host, "/token_file", "is empty");
	if (!conf->storage_path[0])
		rc = ss_config_error(host, "/storage_path", "is empty");
	return rc;
}

int32_t step_setup_init(struct step_setup *s, const struct ss_host *host, const struct step_conf *conf)
{
	*s = (struct step_setup){.conf = conf,
				 .common = {.renew_percent = 100 - conf->renew_after,
					    .check_interval = conf->check_interval / SETUP_SECOND}};
	/* all of them, in this order, so that every error is reported */
	int32_t bad[4];
	bad[0] = check_url(host, conf->ca_url);
	bad[1] = check_fingerprint(host, conf->fingerprint);
	bad[2] = setup_read_names(&s->common, host, conf->domains);
	bad[3] = check_rest(host, conf);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (bad[i])
			return bad[i];
	if (claim_ca(host, conf) == -ENOMEM)
		return -ENOMEM;
	char **fingerprint = &s->common.fingerprint;
	int rc = setup_make_texts(&s->common, conf->ca_url, conf->storage_path);
	if (rc == 0 &&
	    asprintf(fingerprint, "%s %s root=%s ca=%s", conf->ca_url, s->common.names_json,
		     conf->fingerprint ? conf->fingerprint : "", conf->ca_bundle ? conf->ca_bundle : "") < 0)
		*fingerprint = NULL;
	if (rc == 0 && !*fingerprint)
		rc = -ENOMEM;
	return rc == 0 && conf->token_file ? claim_token(host, conf->token_file) : rc;
}
