/* SPDX-License-Identifier: MIT */
/* options - see options.h: checked as far as that is possible without a file or a network. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/base/url.h>
#include "key.h"
#include "names.h"
#include "options.h"

#define OPT(member, type, def, text, ...) SS_OPT(struct acme_conf, member, type, def, text, __VA_ARGS__)
#define DAY_NS                            (86400 * ACME_SECOND)
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
	    .min = ACME_SECOND, .max = 3650 * DAY_NS),
	OPT(storage_path, SS_OPT_STRING, NULL, "folder for the ACME account, the certificate and its key",
	    .flags = SS_OPT_REQUIRED),
	OPT(ca_bundle, SS_OPT_STRING, NULL,
	    "file with the CA certificates to trust for the HTTPS of the ACME server; not set: "
	    "security.tls.client.ca_files, else those of the system"),
	OPT(check_interval, SS_OPT_DURATION, "1h", "longest time between two checks whether to renew",
	    .min = ACME_SECOND, .max = DAY_NS),
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
	    .min = 10 * ACME_SECOND, .max = DAY_NS),
	OPT(ari, SS_OPT_BOOL, "true", "renew earlier if the CA asks for it (RFC 9773)"),
};

/* ---- checks ---- */

/* Why it is not host[:port]; NULL: it is. */
static const char *authority_fault(const char *text, size_t len, char *why, size_t size)
{
	struct ss_host_name read;
	char name[SS_HOST_NAME_MAX + 3] = "", fault[400];
	size_t n = len;
	while (n && isdigit((unsigned char)text[n - 1]))
		n--;
	bool has_port = n && text[n - 1] == ':';
	unsigned long port = has_port && n < len ? strtoul(text + n, NULL, 10) : 443;
	size_t name_len = has_port ? n - 1 : len;
	/* "%25eth0" of a link-local address is not part of what is checked */
	const char *zone = text[0] == '[' ? memchr(text, '%', name_len) : NULL;
	snprintf(why, size, "has the port %.*s; ports are 1 to 65535", (int)(len - n), text + n);
	if (port == 0 || port > 65535)
		return why;
	snprintf(name, sizeof name, "%.*s%s", (int)(zone ? (size_t)(zone - text) : name_len), text,
		 zone ? "]" : "");
	if (name_read(name, &read, fault, sizeof fault) == 0) {
		if (name[0] != '*' && (name[0] == '[' || !strchr(name, ':')))
			return NULL;
		snprintf(fault, sizeof fault, "is no host of a URL; an IPv6 address stands in brackets");
	}
	snprintf(why, size, "has the host \"%s\", which %s", name, fault);
	return why;
}

/* Why it is not the URL of a directory; NULL: it is. */
static const char *url_fault(const char *url, char *why, size_t size)
{
	static const char scheme[] = "https://";
	if (strncasecmp(url, "http://", 7) == 0)
		return "must be https: accounts are not registered over an unencrypted connection";
	if (strncasecmp(url, scheme, sizeof scheme - 1) != 0)
		return "must be the URL of an ACME directory, like "
		       "\"https://step-ca.local:9000/acme/acme/directory\"";
	const char *rest = url + sizeof scheme - 1;
	size_t host_len = strcspn(rest, "/?#");
	const char *fault = authority_fault(rest, host_len, why, size);
	/* a password may have a slash in it; nothing of it is shown */
	if (memchr(rest, '@', host_len) || (fault && strchr(rest, '@')))
		return "contains a user name or password, which ACME does not use: remove everything between "
		       "https:// and the host, with the @";
	if (strchr(rest, '#'))
		return "has a fragment, which is not sent to a server: remove the # and everything behind it";
	if (host_len == 0 || strlen(url) > 2048)
		return "has no usable host name";
	for (const char *p = url; !fault && *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return "has a character that is not allowed in a URL";
	return fault;
}

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
static int32_t claim_port(const struct setup *s, const struct ss_host *host)
{
	char resource[128];
	if (!SS_KNOWS(host, struct ss_host, claim))
		return 0;
	snprintf(resource, sizeof resource, "tcp:%s:%u", s->conf->challenge_address, s->challenge_port);
	return host->claim(host, "/challenge_port", resource);
}

static int32_t check_rest(const struct setup *s, const struct ss_host *host)
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

/* ---- names ---- */

static int32_t add_name(struct setup *s, const struct ss_host *host, const char *pointer, const char *name)
{
	struct ss_host_name read;
	char why[400];
	if (strncmp(name, "*.", 2) == 0)
		return ss_config_error(
			host, pointer,
			"is a wildcard, which needs a dns-01 challenge; that is not supported");
	if (name_read(name, &read, why, sizeof why))
		return ss_config_error(host, pointer, "%s", why);
	for (size_t i = 0; i < s->n_names; i++)
		if (strcmp(s->names[i], read.text) == 0)
			return ss_config_error(host, pointer, "is listed twice");
	char *copy = strdup(read.text);
	if (!copy)
		return -ENOMEM;
	s->names[s->n_names++] = copy;
	return 0;
}

static int32_t read_names(struct setup *s, const struct ss_host *host, const char *text)
{
	char pointer[32];
	json_t *array = json_loads(text, JSON_DECODE_ANY, NULL);
	size_t n = json_array_size(array);
	int32_t rc = 0;
	if (n == 0)
		rc = ss_config_error(host, "/domains",
				     "must be an array of names, like [\"semstreams.local\"]");
	else if (n > ACME_MAX_NAMES)
		rc = ss_config_error(host, "/domains", "has more than %d names", ACME_MAX_NAMES);
	for (size_t i = 0; rc != -ENOMEM && i < n && i < ACME_MAX_NAMES; i++) {
		const json_t *name = json_array_get(array, i);
		snprintf(pointer, sizeof pointer, "/domains/%zu", i);
		int32_t bad = json_is_string(name) ? add_name(s, host, pointer, json_string_value(name))
						   : ss_config_error(host, pointer, "must be a string");
		rc = bad ? bad : rc;
	}
	json_decref(array);
	return rc;
}

static int make_texts(struct setup *s)
{
	const struct acme_conf *c = s->conf;
	json_t *names = json_array();
	ss_url_redact(c->directory_url, s->shown_url, sizeof s->shown_url);
	for (size_t i = 0; i < s->n_names; i++)
		json_array_append_new(names, json_string(s->names[i]));
	s->names_json = names ? json_dumps(names, JSON_COMPACT) : NULL;
	json_decref(names);
	s->path = strdup(c->storage_path);
	if (!s->names_json || !s->path)
		return -ENOMEM;
	for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--)
		s->path[n - 1] = '\0';
	if (asprintf(&s->chain_path, "%s/certificate.pem", s->path) < 0)
		s->chain_path = NULL;
	if (asprintf(&s->fingerprint, "%s %s %s %s [%s]:%d eab=%s profile=%s ca=%s", c->directory_url,
		     c->email, s->names_json, challenges[c->challenge_type], c->challenge_address,
		     (int)c->challenge_port, c->eab_kid ? c->eab_kid : "", c->profile ? c->profile : "",
		     c->ca_bundle ? c->ca_bundle : "") < 0)
		s->fingerprint = NULL;
	return s->chain_path && s->fingerprint ? 0 : -ENOMEM;
}

int32_t setup_init(struct setup *s, const struct ss_host *host, const struct acme_conf *conf)
{
	*s = (struct setup){.conf = conf,
			    .program = PKGLIBEXECDIR "/semstreams-acme",
			    .challenge_port = (uint16_t)(conf->challenge_port   ? conf->challenge_port
							 : conf->challenge_type ? 443
										: 80),
			    .renew_before = conf->renew_before / ACME_SECOND,
			    .check_interval = conf->check_interval / ACME_SECOND};
	/* all of them, in this order, so that every error is reported */
	int32_t bad[5];
	char why[700];
	bad[0] = report(host, "/directory_url", url_fault(conf->directory_url, why, sizeof why));
	bad[1] = report(host, "/email", email_fault(conf->email));
	bad[2] = read_names(s, host, conf->domains);
	bad[3] = check_eab(host, conf);
	bad[4] = check_rest(s, host);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (bad[i])
			return bad[i];
	return make_texts(s);
}

void setup_done(struct setup *s)
{
	for (size_t i = 0; i < s->n_names; i++)
		free((char *)s->names[i]);
	free(s->names_json);
	free(s->path);
	free(s->chain_path);
	free(s->fingerprint);
	*s = (struct setup){0};
}
