/* SPDX-License-Identifier: MIT */
/* message - see message.h. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <curl/curl.h>
#include <jansson.h>
#include "message.h"
#include "plugins/identity/names.h"

#define DAY 86400

static const char *const status_words[] = {"pending", "ready",       "processing", "valid",
					   "invalid", "deactivated", "expired",    "revoked"};

void append_list(char *out, size_t size, const char *format, va_list args)
{
	size_t used = strlen(out);
	vsnprintf(out + used, size - used, format, args);
}

void append(char *out, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	append_list(out, size, format, args);
	va_end(args);
}

void message_text(const char *in, char *out, size_t size)
{
	name_harmless(in, strlen(in), out, size);
	for (char *quote = out; (quote = strchr(quote, '"')); quote++)
		*quote = '\'';
}

/* ---- documents */

enum message_status message_status(const json_t *in)
{
	const char *word = member_text(in, "status");
	size_t i = 0;
	while (word && i < MESSAGE_OTHER && strcmp(word, status_words[i]) != 0)
		i++;
	return word ? (enum message_status)i : MESSAGE_OTHER;
}

const json_t *message_error(const json_t *in)
{
	const json_t *error = json_object_get(in, "error");
	return json_is_object(error) ? error : NULL;
}

bool message_window(const json_t *in, int64_t *start, int64_t *end)
{
	const json_t *window = json_object_get(in, "suggestedWindow");
	const char *from = member_text(window, "start"), *to = member_text(window, "end");
	return from && to && message_time(from, start) && message_time(to, end) && *start < *end;
}

struct reader {
	const char *what; /* "order" */
	char *why;
	size_t why_size;
};

static int __attribute__((format(printf, 2, 3))) bad(const struct reader *r, const char *format, ...)
{
	va_list args;
	snprintf(r->why, r->why_size, "the CA's %s ", r->what);
	va_start(args, format);
	append_list(r->why, r->why_size, format, args);
	va_end(args);
	return -EINVAL;
}

static int check_url(const struct reader *r, const char *key, const json_t *url)
{
	if (!url || json_is_null(url) || (json_is_string(url) && message_url_ok(json_string_value(url))))
		return 0;
	return bad(r, "has something other than a URL as \"%s\"", key);
}

static int check_needed_url(const struct reader *r, const char *key, const json_t *url)
{
	if (url && !json_is_null(url))
		return check_url(r, key, url);
	return bad(r, "is not an ACME directory: \"%s\" is missing", key);
}

static int check_status(const struct reader *r, const char *key, const json_t *status)
{
	return json_is_string(status) ? 0 : bad(r, "has no \"%s\"", key);
}

static int check_identifier(const struct reader *r, const char *key, const json_t *identifier)
{
	const char *value = member_text(identifier, "value");
	(void)key;
	if (!member_text(identifier, "type") || !value || !*value || strlen(value) > MESSAGE_NAME_MAX)
		return bad(r, "has an identifier without type and value");
	return 0;
}

static int check_authorization(const struct reader *r, const char *key, const json_t *url)
{
	(void)key;
	if (json_is_string(url) && message_url_ok(json_string_value(url)))
		return 0;
	return bad(r, "lists an authorization that is not a URL");
}

/* The token of a type that is not known is not checked: such a challenge is never chosen. */
static int check_challenge(const struct reader *r, const char *key, const json_t *challenge)
{
	(void)key;
	if (!member_text(challenge, "type"))
		return bad(r, "has a challenge without \"type\"");
	int rc = check_status(r, "status", json_object_get(challenge, "status"));
	return rc ? rc : check_url(r, "url", json_object_get(challenge, "url"));
}

static int check_renewal(const struct reader *r, const char *key, const json_t *renewal)
{
	int64_t start, end;
	(void)key;
	if (message_window(renewal, &start, &end))
		return 0;
	return bad(r, "has no suggestedWindow from an earlier to a later time");
}

/* What is looked at in a document. */
static const struct rule {
	enum message_kind kind;
	const char *key; /* NULL: the document itself */
	int (*check)(const struct reader *, const char *key, const json_t *value);
	size_t most; /* elements of a list, which may be missing; 0: it is no list */
} rules[] = {
	{MESSAGE_DIRECTORY, "newNonce", check_needed_url, 0},
	{MESSAGE_DIRECTORY, "newAccount", check_needed_url, 0},
	{MESSAGE_DIRECTORY, "newOrder", check_needed_url, 0},
	{MESSAGE_DIRECTORY, "revokeCert", check_url, 0},
	{MESSAGE_DIRECTORY, "keyChange", check_url, 0},
	{MESSAGE_DIRECTORY, "renewalInfo", check_url, 0},
	{MESSAGE_ACCOUNT, "status", check_status, 0},
	{MESSAGE_ORDER, "status", check_status, 0},
	{MESSAGE_ORDER, "identifiers", check_identifier, MESSAGE_LIST_MAX},
	{MESSAGE_ORDER, "authorizations", check_authorization, MESSAGE_LIST_MAX},
	{MESSAGE_ORDER, "finalize", check_url, 0},
	{MESSAGE_ORDER, "certificate", check_url, 0},
	{MESSAGE_AUTHORIZATION, "status", check_status, 0},
	{MESSAGE_AUTHORIZATION, "identifier", check_identifier, 0},
	{MESSAGE_AUTHORIZATION, "challenges", check_challenge, MESSAGE_CHOICES_MAX},
	{MESSAGE_CHALLENGE, NULL, check_challenge, 0},
	{MESSAGE_RENEWAL, NULL, check_renewal, 0},
	{MESSAGE_RENEWAL, "explanationURL", check_url, 0},
};

static int check(const struct reader *r, const struct rule *rule, const json_t *document)
{
	const json_t *value = rule->key ? json_object_get(document, rule->key) : document;
	size_t n = json_array_size(value);
	int rc = 0;
	if (!rule->most)
		return rule->check(r, rule->key, value);
	if (value && !json_is_array(value))
		return bad(r, "has something other than a list as \"%s\"", rule->key);
	if (n > rule->most)
		return bad(r, "has %zu \"%s\", more than the limit of %zu", n, rule->key, rule->most);
	for (size_t i = 0; i < n && !rc; i++)
		rc = rule->check(r, rule->key, json_array_get(value, i));
	return rc;
}

int message_read(enum message_kind kind, const char *body, size_t len, json_t **out, char *why,
		 size_t why_size)
{
	static const char *const kinds[] = {
		[MESSAGE_DIRECTORY] = "directory", [MESSAGE_ACCOUNT] = "account",
		[MESSAGE_ORDER] = "order",         [MESSAGE_AUTHORIZATION] = "authorization",
		[MESSAGE_CHALLENGE] = "challenge", [MESSAGE_RENEWAL] = "renewal information",
	};
	const struct reader r = {.what = kinds[kind], .why = why, .why_size = why_size};
	char foreign[JSON_ERROR_TEXT_LENGTH];
	json_error_t error;
	json_t *json = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);
	int rc = 0;
	*out = NULL;
	if (!json && json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	if (!json) {
		message_text(error.text, foreign, sizeof foreign);
		return bad(&r, "is not JSON: %s", foreign);
	}
	if (!json_is_object(json))
		rc = bad(&r, "is not a JSON object");
	for (size_t i = 0; i < sizeof rules / sizeof *rules && !rc; i++)
		if (rules[i].kind == kind)
			rc = check(&r, &rules[i], json);
	if (rc)
		json_decref(json);
	else
		*out = json;
	return rc;
}

bool message_profiles(const json_t *directory, const char *wanted, char *out, size_t size)
{
	json_t *profiles = json_object_get(json_object_get(directory, "meta"), "profiles"), *value;
	const char *name;
	char text[64];
	out[0] = '\0';
	json_object_foreach(profiles, name, value)
	{
		message_text(name, text, sizeof text);
		append(out, size, "%s%s", out[0] ? ", " : "", text);
	}
	return json_object_get(profiles, wanted) != NULL;
}

/* ---- header fields and times */

bool message_http_date(const char *text, int64_t *seconds)
{
	/* a year is missed by curl_getdate() in numbers of its own making only */
	if (!strpbrk(text, "ADFJMNOS"))
		return false;
	time_t t = curl_getdate(text, NULL);
	if (t == (time_t)-1)
		return false;
	*seconds = t;
	return true;
}

int64_t message_retry_after(const char *value, int64_t now)
{
	char *end;
	if (!value)
		return 0;
	int64_t seconds = strtoll(value, &end, 10); /* the nearest there is, if it is too large */
	if (end == value || end[strspn(end, " \t")]) {
		if (!message_http_date(value, &seconds))
			return 0;
		seconds -= now;
	}
	return seconds < 1 ? 1 : seconds > DAY ? DAY : seconds;
}

/* Does it begin like the pattern, where 0 stands for any digit? */
static bool is_like(const char *text, const char *pattern)
{
	for (; *pattern; text++, pattern++)
		if (*pattern == '0' ? !isdigit((unsigned char)*text)
				    : toupper((unsigned char)*text) != *pattern)
			return false;
	return true;
}

bool message_time(const char *text, int64_t *seconds)
{
	struct tm tm = {0}, zone = {0};
	if (!is_like(text, "0000-00-00") || !strptime(text, "%Y-%m-%d", &tm) || tm.tm_year < 70 ||
	    !text[10] || !strchr("Tt ", text[10]) || !is_like(text + 11, "00:00:00") ||
	    !strptime(text + 11, "%H:%M:%S", &tm) || tm.tm_sec > 60)
		return false;
	const char *p = text + 19;
	if (*p == '.') {
		if (!isdigit((unsigned char)p[1]))
			return false;
		p += 1 + strspn(p + 1, "0123456789");
	}
	bool utc = is_like(p, "Z"), offset = is_like(p, "+00:00") || is_like(p, "-00:00");
	if (p[utc ? 1 : offset ? 6 : 0] || !(utc || (offset && strptime(p + 1, "%H:%M", &zone))))
		return false;
	int ahead = zone.tm_hour * 3600 + zone.tm_min * 60;
	*seconds = (int64_t)timegm(&tm) - (*p == '-' ? -ahead : ahead);
	return true;
}

bool message_link(const char *field, const char *rel, char *out, size_t size)
{
	char url[MESSAGE_URL_MAX + 1];
	int used = 0;
	if (sscanf(field, " <%2048[^>]>%n", url, &used) != 1 || !used || strlen(url) >= size ||
	    !message_url_ok(url))
		return false;
	strcpy(out, url);
	/* its parameters: rel=alternate, or rel="alternate next" */
	for (const char *p = strchr(field + used, ';'); p; p = strchr(p, ';')) {
		p += 1 + strspn(p + 1, " \t");
		if (strncasecmp(p, "rel=", 4) != 0)
			continue;
		for (p += p[4] == '"' ? 5 : 4; *p && !strchr("\";", *p); p += strspn(p, " ")) {
			size_t len = strcspn(p, " \";");
			if (len == strlen(rel) && !strncasecmp(p, rel, len))
				return true;
			p += len;
		}
	}
	return false;
}

/* ---- where URLs lead */

bool message_url_ok(const char *url)
{
	size_t n = 0;
	for (; url[n]; n++)
		if (url[n] <= ' ' || (unsigned char)url[n] >= 0x7f || n >= MESSAGE_URL_MAX)
			return false;
	return n > 0;
}

const char *url_origin(const char *url, char out[URL_ORIGIN])
{
	char *scheme = NULL, *user = NULL, *host = NULL, *port = NULL;
	const char *wrong = NULL;
	struct ss_host_name name;
	CURLU *u = curl_url();
	if (curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) || ss_host_name_read(host, strlen(host), &name) ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
		wrong = "is not a URL";
	else if (strcasecmp(scheme, "https") != 0)
		wrong = "does not begin with https://";
	else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		wrong = "contains a user name";
	else
		snprintf(out, URL_ORIGIN, host[0] == '[' ? "[%s]:%s" : "%s:%s", name.text, port);
	curl_free(scheme);
	curl_free(user);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return wrong;
}

int url_check(const char *directory_url, const char *url, char *why, size_t why_size)
{
	char ours[URL_ORIGIN], theirs[URL_ORIGIN];
	const char *wrong = url_origin(directory_url, ours);
	if (!wrong)
		wrong = url_origin(url, theirs);
	if (wrong)
		snprintf(why, why_size, "%s", wrong);
	else if (!strcmp(ours, theirs))
		return 0;
	else
		snprintf(why, why_size, "is not at %s, the host of directory_url", ours);
	return -EINVAL;
}

/* Path and query of a URL with an origin. */
static const char *target(const char *url)
{
	const char *authority = strstr(url, "://") + 3, *path = authority + strcspn(authority, "/?#");
	return *path ? path : "/";
}

bool url_same(const char *a, const char *b)
{
	char one[URL_ORIGIN], other[URL_ORIGIN];
	return !strcmp(a, b) || (!url_origin(a, one) && !url_origin(b, other) && !strcmp(one, other) &&
				 !strcmp(target(a), target(b)));
}

void url_resolve(const char *base, const char *reference, char *out, size_t size)
{
	char *text = NULL;
	CURLU *u = curl_url();
	/* a whole one stays letter by letter, as the CA may compare it so */
	if (*reference && !strstr(reference, "://") && !curl_url_set(u, CURLUPART_URL, base, 0) &&
	    !curl_url_set(u, CURLUPART_URL, reference, 0))
		curl_url_get(u, CURLUPART_URL, &text, 0);
	snprintf(out, size, "%s", text ? text : reference);
	curl_free(text);
	curl_url_cleanup(u);
}

/* ---- problem documents */

static const struct meaning {
	const char *type, *means;
	bool permanent;
} meanings[] = {
	{"accountDoesNotExist", "the CA does not know the account", false},
	{"alreadyReplaced", "the certificate was replaced already", true},
	{"alreadyRevoked", "the certificate is revoked already", true},
	{"badCSR", "the CA does not accept the certificate request", true},
	{"badNonce", "the CA refused every nonce that it issued", false},
	{"badPublicKey", "the CA does not accept this key", true},
	{"badRevocationReason", "the CA does not allow this reason for a revocation", true},
	{"badSignatureAlgorithm", "the CA does not accept the account key's kind of signature", true},
	{"caa", "CAA records in the DNS forbid this CA to issue for the domain: add it to them", true},
	{"compound", "there are several problems", false},
	{"connection",
	 "the CA could not connect to the domain: its port 80 (http-01) or 443 (tls-alpn-01) must be open to "
	 "the CA",
	 false},
	{"dns", "the CA could not resolve the domain: check its DNS records where the CA looks them up",
	 false},
	{"externalAccountRequired",
	 "the CA wants an external account binding (EAB): configure the key id and the HMAC key that it gave "
	 "you",
	 true},
	{"incorrectResponse",
	 "the CA got a wrong answer: does another program or machine answer for the domain?", false},
	{"invalidContact", "the CA does not accept the email address", true},
	{"invalidProfile", "the CA does not have this profile", true},
	{"malformed", "the CA did not understand the request", true},
	{"orderNotReady", "the order was not ready", false},
	{"rateLimited", "the CA's rate limit is exceeded", false},
	{"rejectedIdentifier", "the CA's policy does not allow this domain", true},
	{"serverInternal", "the CA has an internal error: see its log", false},
	{"tls", "the CA's TLS connection to this machine failed", false},
	{"unauthorized", "the CA does not authorize this", true},
	{"unsupportedContact", "the CA does not accept this kind of contact", true},
	{"unsupportedIdentifier", "the CA does not issue for this kind of name", true},
	{"userActionRequired", "the CA requires a person to act first, for example to agree to new terms",
	 true},
};

/* The words of one problem behind those in out, and its type.  Is it permanent? */
static bool read_part(const json_t *in, long status, char type[PROBLEM_TYPE], char *out, size_t size)
{
	static const char acme[] = "urn:ietf:params:acme:error:";
	const char *full = member_text(in, "type"), *says = member_text(in, "detail");
	char detail[256] = "";
	size_t i = 0, n = sizeof meanings / sizeof *meanings;
	type[0] = '\0';
	if (full && !strncmp(full, acme, sizeof acme - 1))
		message_text(full + sizeof acme - 1, type, PROBLEM_TYPE);
	else if (full && strcmp(full, "about:blank") != 0)
		message_text(strrchr(full, ':') ? strrchr(full, ':') + 1 : full, type, PROBLEM_TYPE);
	if (says || (says = member_text(in, "title")))
		message_text(says, detail, sizeof detail);
	while (i < n && strcmp(type, meanings[i].type) != 0)
		i++;
	const char *means = i < n           ? meanings[i].means
			    : status == 404 ? "the CA has nothing at this address"
			    : status == 501 ? "the CA cannot do this"
			    : status >= 500 ? "the CA reports an internal error"
			    : detail[0]     ? ""
					    : "the CA gives no reason";
	append(out, size, "%s%s%s", means, *means && detail[0] ? ": " : "", detail);
	if (type[0] && status)
		append(out, size, " (%s, HTTP status %ld)", type, status);
	else if (type[0])
		append(out, size, " (%s)", type);
	else if (status)
		append(out, size, " (HTTP status %ld)", status);
	if (i < n)
		return meanings[i].permanent;
	return status == 501 ||
	       (status >= 400 && status < 500 && status != 408 && status != 425 && status != 429);
}

void problem_from(const json_t *in, long status, struct problem *out)
{
	const json_t *subs = json_object_get(in, "subproblems"), *sub;
	char type[PROBLEM_TYPE];
	size_t i;
	*out = (struct problem){.status = status};
	out->permanent = read_part(in, status, out->type, out->text, sizeof out->text);
	json_array_foreach(subs, i, sub)
	{
		const char *of = member_text(json_object_get(sub, "identifier"), "value");
		char name[128];
		message_text(of ? of : "", name, sizeof name);
		if (i == PROBLEM_SUBS) {
			append(out->text, sizeof out->text, "; and %zu more", json_array_size(subs) - i);
			break;
		}
		append(out->text, sizeof out->text, "; %s%s", name, name[0] ? ": " : "");
		if (read_part(sub, 0, type, out->text, sizeof out->text))
			out->permanent = true;
	}
}

void problem_read(const char *body, size_t len, long status, struct problem *out)
{
	json_t *json = json_loadb(body, len, 0, NULL);
	problem_from(json, status, out);
	json_decref(json);
}

bool problem_is(const struct problem *p, const char *type)
{
	return !strcmp(p->type, type);
}
