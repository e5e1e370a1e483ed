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
	size_t n = strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
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

static int read_object(const struct reader *r, const char *body, size_t len, json_t **out)
{
	char text[JSON_ERROR_TEXT_LENGTH];
	json_error_t error;
	*out = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(*out))
		return 0;
	if (*out) {
		json_decref(*out);
		*out = NULL;
		return bad(r, "is not a JSON object");
	}
	if (json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	message_text(error.text, text, sizeof text);
	return bad(r, "is not JSON: %s", text);
}

/* An URL that may be missing. */
static int read_url(const struct reader *r, const json_t *in, const char *key, const char **out)
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
	*word = json_string_value(json_object_get(in, "status"));
	if (!*word)
		return bad(r, "has no \"status\"");
	while (i < MESSAGE_OTHER && strcmp(*word, status_words[i]) != 0)
		i++;
	*out = (enum message_status)i;
	return 0;
}

static int read_identifier(const struct reader *r, const json_t *in, struct message_identifier *out)
{
	out->type = json_string_value(json_object_get(in, "type"));
	out->value = json_string_value(json_object_get(in, "value"));
	if (!out->type || !out->value || !*out->value || strlen(out->value) > MESSAGE_NAME_MAX)
		return bad(r, "has an identifier without type and value");
	return 0;
}

/* An array that may be missing. */
static int read_list(const struct reader *r, const json_t *in, const char *key, size_t most,
		     const json_t **out, size_t *n)
{
	*out = json_object_get(in, key);
	*n = json_array_size(*out);
	if (*out && !json_is_array(*out))
		return bad(r, "has something other than a list as \"%s\"", key);
	return *n > most ? bad(r, "has %zu \"%s\", more than the limit of %zu", *n, key, most) : 0;
}

static const json_t *error_member(const json_t *in)
{
	const json_t *error = json_object_get(in, "error");
	return json_is_object(error) ? error : NULL;
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
		int rc = read_url(r, d->json, links[i].key, links[i].to);
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
	const json_t *list;
	int rc = read_status(r, m->json, &m->status, &m->status_word);
	if (!rc)
		rc = read_list(r, m->json, "identifiers", MESSAGE_LIST_MAX, &list, &m->n_identifiers);
	for (size_t i = 0; !rc && i < m->n_identifiers; i++)
		rc = read_identifier(r, json_array_get(list, i), &m->identifiers[i]);
	if (!rc)
		rc = read_list(r, m->json, "authorizations", MESSAGE_LIST_MAX, &list, &m->n_authorizations);
	for (size_t i = 0; !rc && i < m->n_authorizations; i++) {
		m->authorizations[i] = json_string_value(json_array_get(list, i));
		if (!m->authorizations[i] || !message_url_ok(m->authorizations[i]))
			return bad(r, "lists an authorization that is not a URL");
	}
	if (!rc)
		rc = read_url(r, m->json, "finalize", &m->finalize);
	if (!rc)
		rc = read_url(r, m->json, "certificate", &m->certificate);
	m->error = error_member(m->json);
	return rc;
}

static int read_challenge(const struct reader *r, const json_t *in, struct message_challenge *out)
{
	const char *word;
	out->type = json_string_value(json_object_get(in, "type"));
	if (!out->type)
		return bad(r, "has a challenge without \"type\"");
	/* the token of a type that is not known is not checked: such a challenge is never chosen */
	out->token = json_string_value(json_object_get(in, "token"));
	out->error = error_member(in);
	int rc = read_status(r, in, &out->status, &word);
	return rc ? rc : read_url(r, in, "url", &out->url);
}

static int read_authorization(const struct reader *r, struct message *m)
{
	const json_t *list;
	int rc = read_status(r, m->json, &m->status, &m->status_word);
	m->n_identifiers = 1;
	if (!rc)
		rc = read_identifier(r, json_object_get(m->json, "identifier"), &m->identifiers[0]);
	if (!rc)
		rc = read_list(r, m->json, "challenges", MESSAGE_CHOICES_MAX, &list, &m->n_challenges);
	for (size_t i = 0; !rc && i < m->n_challenges; i++)
		rc = read_challenge(r, json_array_get(list, i), &m->challenges[i]);
	return rc;
}

static int read_single_challenge(const struct reader *r, struct message *m)
{
	m->n_challenges = 1;
	return read_challenge(r, m->json, &m->challenges[0]);
}

static int read_renewal(const struct reader *r, struct message *m)
{
	const json_t *window = json_object_get(m->json, "suggestedWindow");
	const char *start = json_string_value(json_object_get(window, "start"));
	const char *end = json_string_value(json_object_get(window, "end"));
	if (!start || !end || !message_time(start, &m->start) || !message_time(end, &m->end) ||
	    m->end <= m->start)
		return bad(r, "has no suggestedWindow from an earlier to a later time");
	return read_url(r, m->json, "explanationURL", &m->explanation);
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
	*out = (struct message){0};
	int rc = read_object(&r, body, len, &out->json);
	if (!rc)
		rc = kinds[kind].read(&r, out);
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

static int64_t clamp(int64_t seconds)
{
	return seconds < 1 ? 1 : seconds > DAY ? DAY : seconds;
}

int64_t message_retry_after(const char *value, int64_t now)
{
	int64_t date;
	if (!value)
		return 0;
	while (*value == ' ' || *value == '\t')
		value++;
	const char *digits = value + (*value == '-' || *value == '+');
	size_t n = strspn(digits, "0123456789");
	if (n && !digits[n + strspn(digits + n, " \t")]) {
		if (*value == '-')
			return 1;
		while (*digits == '0') {
			digits++;
			n--;
		}
		return n > 6 ? DAY : clamp(strtol(digits, NULL, 10));
	}
	if (!message_http_date(value, &date))
		return 0;
	return clamp(date - now);
}

/* Exactly n digits. */
static bool number(const char **p, int n, int *out)
{
	*out = 0;
	for (int i = 0; i < n; i++, (*p)++) {
		if (!isdigit((unsigned char)**p))
			return false;
		*out = *out * 10 + (**p - '0');
	}
	return true;
}

static bool letter(const char **p, const char *set)
{
	if (!**p || !strchr(set, **p))
		return false;
	(*p)++;
	return true;
}

bool message_time(const char *text, int64_t *seconds)
{
	struct tm tm = {0};
	int hours = 0, minutes = 0;
	const char *p = text;
	if (!(number(&p, 4, &tm.tm_year) && letter(&p, "-") && number(&p, 2, &tm.tm_mon) && letter(&p, "-") &&
	      number(&p, 2, &tm.tm_mday) && letter(&p, "Tt ") && number(&p, 2, &tm.tm_hour) &&
	      letter(&p, ":") && number(&p, 2, &tm.tm_min) && letter(&p, ":") && number(&p, 2, &tm.tm_sec)))
		return false;
	if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	if (*p == '.') {
		size_t n = strspn(p + 1, "0123456789");
		if (!n)
			return false;
		p += 1 + n;
	}
	int east = *p == '-' ? -1 : 1;
	if (!letter(&p, "Zz") && !(letter(&p, "+-") && number(&p, 2, &hours) && letter(&p, ":") &&
				   number(&p, 2, &minutes) && hours < 24 && minutes < 60))
		return false;
	if (*p)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*seconds = (int64_t)timegm(&tm) - east * (hours * 3600 + minutes * 60);
	return true;
}

/* Does this parameter, "rel=alternate" or "rel="alternate next"", name the relation? */
static bool relation_is(const char *p, const char *end, const char *rel)
{
	size_t len = strlen(rel);
	if (p < end && *p == '"')
		p++;
	while (p < end && *p != '"' && *p != ';') {
		const char *word = p;
		while (p < end && *p != ' ' && *p != '"' && *p != ';')
			p++;
		if ((size_t)(p - word) == len && !strncasecmp(word, rel, len))
			return true;
		if (p < end && *p == ' ')
			p++;
	}
	return false;
}

bool message_link(const char *field, const char *rel, char *out, size_t size)
{
	const char *end = field + strlen(field), *p = field + strspn(field, " \t");
	if (*p++ != '<')
		return false;
	size_t n = strcspn(p, ">");
	if (p[n] != '>' || n == 0 || n >= size || n > MESSAGE_URL_MAX)
		return false;
	memcpy(out, p, n);
	out[n] = '\0';
	if (!message_url_ok(out))
		return false;
	for (p = strchr(p + n, ';'); p; p = strchr(p, ';')) {
		p++;
		p += strspn(p, " \t");
		if (!strncasecmp(p, "rel=", 4) && relation_is(p + 4, end, rel))
			return true;
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

static const struct {
	const char *type, *means;
	bool permanent;
} table[] = {
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

static size_t row_of(const char *type)
{
	size_t i = 0;
	while (i < sizeof table / sizeof *table && strcmp(type, table[i].type) != 0)
		i++;
	return i;
}

static bool known(size_t row)
{
	return row < sizeof table / sizeof *table;
}

static void part_read(const json_t *in, struct problem_part *out)
{
	static const char acme[] = "urn:ietf:params:acme:error:";
	const char *type = json_string_value(json_object_get(in, "type"));
	const char *detail = json_string_value(json_object_get(in, "detail"));
	const char *name = json_string_value(json_object_get(json_object_get(in, "identifier"), "value"));
	if (!detail)
		detail = json_string_value(json_object_get(in, "title"));
	if (type && !strncmp(type, acme, sizeof acme - 1))
		message_text(type + sizeof acme - 1, out->type, sizeof out->type);
	else if (type && strcmp(type, "about:blank") != 0)
		message_text(strrchr(type, ':') ? strrchr(type, ':') + 1 : type, out->type, sizeof out->type);
	if (detail)
		message_text(detail, out->detail, sizeof out->detail);
	if (name)
		message_text(name, out->name, sizeof out->name);
}

void problem_from(const json_t *in, struct problem *out)
{
	*out = (struct problem){0};
	if (!json_is_object(in))
		return;
	part_read(in, &out->main);
	const json_t *subs = json_object_get(in, "subproblems");
	for (size_t i = 0; i < json_array_size(subs); i++) {
		if (out->n_subs == PROBLEM_SUBS)
			out->n_subs_left++;
		else
			part_read(json_array_get(subs, i), &out->subs[out->n_subs++]);
	}
}

void problem_read(const char *body, size_t len, long status, struct problem *out)
{
	json_t *json = json_loadb(body, len, 0, NULL);
	problem_from(json, out);
	out->status = status;
	json_decref(json);
}

bool problem_is(const struct problem *p, const char *type)
{
	return !strcmp(p->main.type, type);
}

static bool part_permanent(const struct problem_part *part)
{
	size_t row = row_of(part->type);
	return known(row) && table[row].permanent;
}

bool problem_permanent(const struct problem *p)
{
	for (size_t i = 0; i < p->n_subs; i++)
		if (part_permanent(&p->subs[i]))
			return true;
	if (known(row_of(p->main.type)))
		return part_permanent(&p->main);
	switch (p->status) {
	case 408:
	case 425:
	case 429:
		return false;
	case 501:
		return true;
	default:
		return p->status >= 400 && p->status < 500;
	}
}

static void part_text(const struct problem_part *part, long status, char *out, size_t size)
{
	size_t row = row_of(part->type);
	bool said = true;
	if (known(row))
		append(out, size, "%s", table[row].means);
	else if (status == 404)
		append(out, size, "the CA has nothing at this address");
	else if (status == 501)
		append(out, size, "the CA cannot do this");
	else if (status >= 500)
		append(out, size, "the CA reports an internal error");
	else
		said = false;
	if (part->detail[0])
		append(out, size, "%s%s", said ? ": " : "", part->detail);
	else if (!said)
		append(out, size, "the CA gives no reason");
	if (part->type[0] && status)
		append(out, size, " (%s, HTTP status %ld)", part->type, status);
	else if (part->type[0])
		append(out, size, " (%s)", part->type);
	else if (status)
		append(out, size, " (HTTP status %ld)", status);
}

void problem_text(const struct problem *p, char *out, size_t size)
{
	out[0] = '\0';
	part_text(&p->main, p->status, out, size);
	for (size_t i = 0; i < p->n_subs; i++) {
		append(out, size, "; %s%s", p->subs[i].name, p->subs[i].name[0] ? ": " : "");
		part_text(&p->subs[i], 0, out, size);
	}
	if (p->n_subs_left)
		append(out, size, "; and %zu more", p->n_subs_left);
}
