/* SPDX-License-Identifier: MIT */
/* options - see options.h: checked as far as that is possible without a file or a network. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include "plugins/identity/key.h"
#include "plugins/identity/names.h"
#include "options.h"

#define OPT(member, type, def, text, ...) SS_OPT(struct acme_conf, member, type, def, text, __VA_ARGS__)
#define EAB_MIN                           16 /* bytes of the MAC key; fewer are a part of one */
#define EAB_USUAL                         32 /* bytes, of SHA-256 */

static const char *const challenges[] = {"http-01", "tls-alpn-01", NULL};

const struct ss_option acme_options_table[ACME_N_OPTIONS] = {
	OPT(enabled, SS_OPT_BOOL, "true",
	    "obtain certificates by ACME; false: use cert_file and key_file only"),
	OPT(directory_url, SS_OPT_STRING, NULL, "URL of the CA's ACME directory, https://...",
	    .flags = SS_OPT_REQUIRED),
	OPT(email, SS_OPT_STRING, NULL, "contact address of the ACME account", .flags = SS_OPT_REQUIRED),
	OPT(domains, SS_OPT_JSON, NULL,
	    "array of the DNS names or IP addresses the certificate is for; the first is its common name",
	    .flags = SS_OPT_REQUIRED,
	    .schema = "{\"type\":\"array\",\"minItems\":1,\"maxItems\":100,\"uniqueItems\":true,"
		      "\"items\":{\"type\":\"string\",\"minLength\":1}}"),
	OPT(challenge_type, SS_OPT_ENUM, "http-01", "challenge by which the CA verifies the names",
	    .choices = challenges),
	OPT(renew_before, SS_OPT_DURATION, "8h",
	    "renew when less than this is left; more than half of the lifetime is cut to half",
	    .min = SETUP_SECOND, .max = 3650 * SETUP_DAY),
	OPT(storage_path, SS_OPT_STRING, NULL, "folder for the ACME account, the certificate and its key",
	    .flags = SS_OPT_REQUIRED | SS_OPT_WRITES),
	OPT(ca_bundle, SS_OPT_STRING, NULL,
	    "file with the CA certificates to trust for the HTTPS of the ACME server; not set: "
	    "security.tls.client.ca_files, else those of the system",
	    .flags = SS_OPT_READS),
	OPT(check_interval, SS_OPT_DURATION, "1h", "longest time between two checks whether to renew",
	    .min = SETUP_SECOND, .max = SETUP_DAY),
	OPT(challenge_address, SS_OPT_STRING, "", "IP address to answer challenges on; \"\": every address"),
	OPT(challenge_port, SS_OPT_INT, NULL,
	    "port to answer challenges on; not set: 80 for http-01, 443 for tls-alpn-01, where CAs connect",
	    .min = 1, .max = 65535),
	OPT(eab_kid, SS_OPT_STRING, NULL, "key id of the external account binding, if the CA requires one"),
	OPT(eab_hmac, SS_OPT_STRING, NULL, "MAC key of the external account binding, base64url or base64",
	    .flags = SS_OPT_SECRET),
	OPT(profile, SS_OPT_STRING, NULL, "certificate profile to request; not set: the CA's default"),
	OPT(preferred_chain, SS_OPT_STRING, NULL,
	    "common name of the preferred root where the CA offers several chains"),
	OPT(reuse_key, SS_OPT_BOOL, "false", "renew with the same key instead of a new one"),
	OPT(order_timeout, SS_OPT_DURATION, "10m", "abandon an order that takes longer",
	    .min = 10 * SETUP_SECOND, .max = SETUP_DAY),
	OPT(ari, SS_OPT_BOOL, "true", "renew earlier if the CA asks for it (RFC 9773)"),
};

/* ---- checks ---- */

/* Why it is not one address as it can stand in a mailto: URL; NULL: it is. */
static const char *email_fault(const char *email)
{
	const char *at = strchr(email, '@');
	if (strncasecmp(email, "mailto:", 7) == 0)
		return "is an address without \"mailto:\"";
	bool good = at && at > email && name_is_dns(at + 1) && at[1] != '*' && strlen(email) <= 254;
	for (const char *p = email; good && p < at; p++)
		good = isalnum((unsigned char)*p) || strchr(".!#$&'*+-/=^_`{|}~", *p);
	return good ? NULL : "is not an e-mail address, like \"admin@example.com\"";
}

/* 0 where there is no fault. */
static int32_t report(const struct ss_host *host, const char *pointer, const char *fault)
{
	return fault ? ss_config_error(host, pointer, "%s", fault) : 0;
}

static int32_t check_eab(const struct ss_host *host, const struct acme_conf *conf)
{
	static const char convert[] =
		"if the CA gave the key in hex, convert it: xxd -r -p | basenc --base64url";
	uint8_t *mac = NULL;
	size_t len = 0;
	if (!conf->eab_kid != !conf->eab_hmac)
		return ss_config_error(host, conf->eab_kid ? "/eab_kid" : "/eab_hmac",
				       "needs %s, too: the CA gives both",
				       conf->eab_kid ? "eab_hmac" : "eab_kid");
	if (!conf->eab_hmac)
		return 0;
	int rc = base64url_decode(conf->eab_hmac, &mac, &len);
	if (mac)
		explicit_bzero(mac, len);
	free(mac);
	if (rc == -ENOMEM)
		return rc;
	const char *digits = conf->eab_hmac + (strncasecmp(conf->eab_hmac, "0x", 2) ? 0 : 2);
	bool hex = !digits[strspn(digits, "0123456789abcdefABCDEF")];
	if (rc)
		return ss_config_error(host, "/eab_hmac", "is not base64%s%s", hex ? "; " : "",
				       hex ? convert : "");
	if (len < EAB_MIN)
		return ss_config_error(host, "/eab_hmac",
				       "is a key of %zu byte%s, and CAs give keys of at least %d: copy the "
				       "whole key",
				       len, len == 1 ? "" : "s", EAB_USUAL);
	if (hex)
		ss_log(host, SS_LOG_WARN,
		       "eab_hmac looks like hexadecimal digits, but is read as base64url; %s", convert);
	else if (len < EAB_USUAL)
		ss_log(host, SS_LOG_WARN,
		       "eab_hmac is a key of %zu bytes, and HS256 wants at least %d (RFC 7518 section 3.2); "
		       "is it the whole key that the CA gave?",
		       len, EAB_USUAL);
	return 0;
}

/* While a challenge is open: whoever has the port at all other times has it then, too. */
static int32_t claim_port(const struct acme_setup *s, const struct ss_host *host)
{
	char resource[128];
	if (!SS_KNOWS(host, struct ss_host, claim))
		return 0;
	snprintf(resource, sizeof resource, "tcp:%s:%u", s->conf->challenge_address, s->challenge_port);
	return host->claim(host, "/challenge_port", resource);
}

static int32_t check_rest(const struct acme_setup *s, const struct ss_host *host)
{
	const struct acme_conf *conf = s->conf;
	unsigned char raw[16];
	int32_t rc = 0;
	if (conf->challenge_address[0] && !name_address(conf->challenge_address, raw))
		rc = ss_config_error(host, "/challenge_address", "\"%s\" is not a numeric address",
				     conf->challenge_address);
	if (claim_port(s, host) == -ENOMEM)
		return -ENOMEM;
	if (!conf->storage_path[0])
		rc = ss_config_error(host, "/storage_path", "is empty");
	if (conf->ca_bundle && !conf->ca_bundle[0])
		rc = ss_config_error(host, "/ca_bundle",
				     "is empty; remove it to trust the CAs of the system");
	return rc;
}

static int make_fingerprint(struct acme_setup *s)
{
	const struct acme_conf *c = s->conf;
	char **out = &s->common.fingerprint;
	if (asprintf(out, "%s %s %s %s [%s]:%d eab=%s profile=%s ca=%s", c->directory_url, c->email,
		     s->common.names_json, challenges[c->challenge_type], c->challenge_address,
		     (int)c->challenge_port, c->eab_kid ? c->eab_kid : "", c->profile ? c->profile : "",
		     c->ca_bundle ? c->ca_bundle : "") < 0)
		*out = NULL;
	return *out ? 0 : -ENOMEM;
}

int32_t acme_setup_init(struct acme_setup *s, const struct ss_host *host, const struct acme_conf *conf)
{
	static const char example[] =
		"the URL of an ACME directory, like \"https://step-ca.local:9000/acme/acme/directory\"";
	*s = (struct acme_setup){.conf = conf,
				 .program = PKGLIBEXECDIR "/semstreams-acme",
				 .challenge_port = (uint16_t)(conf->challenge_port   ? conf->challenge_port
							      : conf->challenge_type ? 443
										     : 80),
				 .common = {.renew_before = conf->renew_before / SETUP_SECOND,
					    .check_interval = conf->check_interval / SETUP_SECOND,
					    .ari = conf->ari}};
	/* all of them, in this order, so that every error is reported */
	int32_t bad[5];
	char why[700];
	bad[0] = report(host, "/directory_url",
			setup_url_fault(conf->directory_url, example, "ACME", why, sizeof why));
	bad[1] = report(host, "/email", email_fault(conf->email));
	bad[2] = setup_read_names(&s->common, host, conf->domains);
	bad[3] = check_eab(host, conf);
	bad[4] = check_rest(s, host);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (bad[i])
			return bad[i];
	int rc = setup_claim_ca(host, "/directory_url", conf->directory_url, "", conf->ca_bundle);
	if (rc == 0)
		rc = setup_make_texts(&s->common, conf->directory_url, conf->storage_path);
	return rc ? rc : make_fingerprint(s);
}
