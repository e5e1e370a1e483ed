/* SPDX-License-Identifier: MIT */
/*
 * message - what a CA says, taken as hostile.  Pure; see message.h.
 */
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
#include "plugins/acme_tls/names.h"

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

bool message_token_ok(const char *token)
{
	size_t n = strspn(token, BASE64URL);
	return n > 0 && n <= MESSAGE_TOKEN_MAX && !token[n];
}

void message_done(struct message *m)
{
	json_decref(m->json);
	m->json = NULL;
}

/* ---- documents */

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

static const char *text(const json_t *in, const char *key)
{
	return json_string_value(json_object_get(in, key));
}

/* An URL that may be missing. */
static int read_url(const struct reader *r, const char *key, const json_t *in, const char **out)
{
	const json_t *value = json_object_get(in, key);
	*out = json_string_value(value);
	if (!value || json_is_null(value) || (*out && message_url_ok(*out)))
		return 0;
	return bad(r, "has something other than a URL as \"%s\"", key);
}

static int read_status(const struct reader *r, const json_t *in, enum message_status *out, const char **word)
{
	size_t i = 0;
	*word = text(in, "status");
	if (!*word)
		return bad(r, "has no \"status\"");
	while (i < MESSAGE_OTHER && strcmp(*word, status_words[i]) != 0)
		i++;
	*out = (enum message_status)i;
	return 0;
}

static const json_t *error_member(const json_t *in)
{
	const json_t *error = json_object_get(in, "error");
	return json_is_object(error) ? error : NULL;
}

/* Reads an element, into the place of its number. */
typedef int read_element(const struct reader *, const json_t *, struct message *, size_t i);

static int read_identifier(const struct reader *r, const json_t *in, struct message *m, size_t i)
{
	struct message_identifier *out = &m->identifiers[i];
	out->type = text(in, "type");
	out->value = text(in, "value");
	if (!out->type || !out->value || !*out->value || strlen(out->value) > MESSAGE_NAME_MAX)
		return bad(r, "has an identifier without type and value");
	return 0;
}

static int read_authorization_url(const struct reader *r, const json_t *in, struct message *m, size_t i)
{
	m->authorizations[i] = json_string_value(in);
	if (!m->authorizations[i] || !message_url_ok(m->authorizations[i]))
		return bad(r, "lists an authorization that is not a URL");
	return 0;
}

static int read_challenge(const struct reader *r, const json_t *in, struct message *m, size_t i)
{
	struct message_challenge *out = &m->challenges[i];
	const char *word;
	out->type = text(in, "type");
	if (!out->type)
		return bad(r, "has a challenge without \"type\"");
	/* the token of a type that is not known is not checked: such a challenge is never chosen */
	out->token = text(in, "token");
	out->error = error_member(in);
	int rc = read_status(r, in, &out->status, &word);
	return rc ? rc : read_url(r, "url", in, &out->url);
}

/* An array that may be missing. */
static int read_list(const struct reader *r, const char *key, struct message *m, size_t most, size_t *n,
		     read_element *read)
{
	const json_t *list = json_object_get(m->json, key);
	int rc = 0;
	*n = json_array_size(list);
	if (list && !json_is_array(list))
		return bad(r, "has something other than a list as \"%s\"", key);
	if (*n > most)
		return bad(r, "has %zu \"%s\", more than the limit of %zu", *n, key, most);
	for (size_t i = 0; i < *n && !rc; i++)
		rc = read(r, json_array_get(list, i), m, i);
	return rc;
}

static int read_directory(const struct reader *r, struct message *d)
{
	const struct {
		const char *key;
		const char **to;
		bool needed;
	} links[] = {
		{"newNonce", &d->new_nonce, true},    {"newAccount", &d->new_account, true},
		{"newOrder", &d->new_order, true},    {"revokeCert", &d->revoke_cert, false},
		{"keyChange", &d->key_change, false}, {"renewalInfo", &d->renewal_info, false},
	};
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		int rc = read_url(r, links[i].key, d->json, links[i].to);
		if (rc)
			return rc;
		if (!*links[i].to && links[i].needed)
			return bad(r, "is not an ACME directory: \"%s\" is missing", links[i].key);
	}
	const json_t *meta = json_object_get(d->json, "meta");
	d->eab_required = json_is_true(json_object_get(meta, "externalAccountRequired"));
	d->profiles = json_object_get(meta, "profiles");
	return 0;
}

static int read_account(const struct reader *r, struct message *m)
{
	return read_status(r, m->json, &m->status, &m->status_word);
}

static int read_order(const struct reader *r, struct message *m)
{
	int rc = read_status(r, m->json, &m->status, &m->status_word);
	m->error = error_member(m->json);
	if (!rc)
		rc = read_list(r, "identifiers", m, MESSAGE_LIST_MAX, &m->n_identifiers, read_identifier);
	if (!rc)
		rc = read_list(r, "authorizations", m, MESSAGE_LIST_MAX, &m->n_authorizations,
			       read_authorization_url);
	if (!rc)
		rc = read_url(r, "finalize", m->json, &m->finalize);
	return rc ? rc : read_url(r, "certificate", m->json, &m->certificate);
}

static int read_authorization(const struct reader *r, struct message *m)
{
	int rc = read_status(r, m->json, &m->status, &m->status_word);
	m->n_identifiers = 1;
	if (!rc)
		rc = read_identifier(r, json_object_get(m->json, "identifier"), m, 0);
	return rc ? rc : read_list(r, "challenges", m, MESSAGE_CHOICES_MAX, &m->n_challenges, read_challenge);
}

static int read_single_challenge(const struct reader *r, struct message *m)
{
	m->n_challenges = 1;
	return read_challenge(r, m->json, m, 0);
}

static int read_renewal(const struct reader *r, struct message *m)
{
	const json_t *window = json_object_get(m->json, "suggestedWindow");
	const char *start = text(window, "start"), *end = text(window, "end");
	if (!start || !end || !message_time(start, &m->start) || !message_time(end, &m->end) ||
	    m->end <= m->start)
		return bad(r, "has no suggestedWindow from an earlier to a later time");
	return read_url(r, "explanationURL", m->json, &m->explanation);
}

int message_read(enum message_kind kind, const char *body, size_t len, struct message *out, char *why,
		 size_t why_size)
{
	static const struct {
		const char *what;
		int (*read)(const struct reader *, struct message *);
	} kinds[] = {
		[MESSAGE_DIRECTORY] = {"directory", read_directory},
		[MESSAGE_ACCOUNT] = {"account", read_account},
		[MESSAGE_ORDER] = {"order", read_order},
		[MESSAGE_AUTHORIZATION] = {"authorization", read_authorization},
		[MESSAGE_CHALLENGE] = {"challenge", read_single_challenge},
		[MESSAGE_RENEWAL] = {"renewal information", read_renewal},
	};
	const struct reader r = {.what = kinds[kind].what, .why = why, .why_size = why_size};
	char foreign[JSON_ERROR_TEXT_LENGTH];
	json_error_t error;
	int rc;
	if (!kinds[kind].read) /* MESSAGE_NONE */
		return -EINVAL;
	*out = (struct message){.json = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error)};
	if (json_is_object(out->json))
		rc = kinds[kind].read(&r, out);
	else if (out->json)
		rc = bad(&r, "is not a JSON object");
	else if (json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	else {
		message_text(error.text, foreign, sizeof foreign);
		rc = bad(&r, "is not JSON: %s", foreign);
	}
	if (rc)
		message_done(out);
	return rc;
}

bool message_profiles(const struct message *d, const char *wanted, char *out, size_t size)
{
	const char *name;
	json_t *value;
	char text[64];
	out[0] = '\0';
	json_object_foreach((json_t *)d->profiles, name, value)
	{
		message_text(name, text, sizeof text);
		append(out, size, "%s%s", out[0] ? ", " : "", text);
	}
	return json_object_get(d->profiles, wanted) != NULL;
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

int url_origin(const char *url, char *out, size_t size, char *why, size_t why_size)
{
	char *scheme = NULL, *user = NULL, *host = NULL, *port = NULL;
	const char *wrong = NULL;
	CURLU *u = curl_url();
	if (!u)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
		wrong = "is not a URL";
	else if (strcasecmp(scheme, "https") != 0)
		wrong = "does not begin with https://";
	else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		wrong = "contains a user name";
	else
		snprintf(out, size, "%s:%s", host, port);
	if (wrong)
		snprintf(why, why_size, "%s", wrong);
	curl_free(scheme);
	curl_free(user);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return wrong ? -EINVAL : 0;
}

int url_check(const char *directory_url, const char *url, char *why, size_t why_size)
{
	char ours[300], theirs[300];
	int rc = url_origin(directory_url, ours, sizeof ours, why, why_size);
	if (!rc)
		rc = url_origin(url, theirs, sizeof theirs, why, why_size);
	if (rc || strcasecmp(ours, theirs) == 0)
		return rc;
	snprintf(why, why_size, "is not at %s, the host of directory_url", ours);
	return -EINVAL;
}

/* To be released by curl_free(); NULL: it cannot be resolved. */
static char *whole(const char *base, const char *reference, unsigned flags)
{
	char *text = NULL;
	CURLU *u = curl_url();
	if (!u || (base && curl_url_set(u, CURLUPART_URL, base, 0)) ||
	    curl_url_set(u, CURLUPART_URL, reference, 0) || curl_url_get(u, CURLUPART_URL, &text, flags))
		text = NULL;
	curl_url_cleanup(u);
	return text;
}

bool url_same(const char *a, const char *b)
{
	char *one = whole(NULL, a, CURLU_NO_DEFAULT_PORT), *other = whole(NULL, b, CURLU_NO_DEFAULT_PORT);
	bool same = one && other ? !strcmp(one, other) : !strcmp(a, b);
	curl_free(one);
	curl_free(other);
	return same;
}

void url_resolve(const char *base, const char *reference, char *out, size_t size)
{
	/* a whole one stays letter by letter, as the CA may compare it so */
	char *text = !*reference || strstr(reference, "://") ? NULL : whole(base, reference, 0);
	snprintf(out, size, "%s", text ? text : reference);
	curl_free(text);
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
	const char *full = text(in, "type"), *says = text(in, "detail");
	char detail[256] = "";
	size_t i = 0, n = sizeof meanings / sizeof *meanings;
	type[0] = '\0';
	if (full && !strncmp(full, acme, sizeof acme - 1))
		message_text(full + sizeof acme - 1, type, PROBLEM_TYPE);
	else if (full && strcmp(full, "about:blank") != 0)
		message_text(strrchr(full, ':') ? strrchr(full, ':') + 1 : full, type, PROBLEM_TYPE);
	if (says || (says = text(in, "title")))
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
		const char *of = text(json_object_get(sub, "identifier"), "value");
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
