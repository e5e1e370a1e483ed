/* SPDX-License-Identifier: MIT */
/*
 * problem - error replies of a CA in an operator's words.  Pure; see problem.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <jansson.h>
#include "message.h"
#include "problem.h"

static const struct {
	const char *type, *means;
	bool permanent;
} table[] = {
	{"accountDoesNotExist", "the CA does not know the account", false},
	{"alreadyReplaced", "the certificate was replaced already", true},
	{"alreadyRevoked", "the certificate is revoked already", true},
	{"badCSR", "the CA does not accept the certificate request", true},
	{"badNonce", "the CA refused every nonce that it gave", false},
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
	{"rateLimited", "the CA limits how often it is asked", false},
	{"rejectedIdentifier", "the CA's policy does not allow this domain", true},
	{"serverInternal", "the CA has an internal error: see its log", false},
	{"tls", "the CA met a TLS error at this machine", false},
	{"unauthorized", "the CA does not authorize this", true},
	{"unsupportedContact", "the CA does not accept this kind of contact", true},
	{"unsupportedIdentifier", "the CA does not issue for this kind of name", true},
	{"userActionRequired", "the CA wants a person to act first, as to agree to new terms", true},
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

/* printf at the end of what is in out. */
static void __attribute__((format(printf, 4, 5)))
append(char *out, size_t size, size_t *used, const char *format, ...)
{
	va_list args;
	if (*used + 1 >= size)
		return;
	va_start(args, format);
	int n = vsnprintf(out + *used, size - *used, format, args);
	va_end(args);
	if (n > 0)
		*used = (size_t)n < size - *used ? *used + (size_t)n : size - 1;
}

static void part_text(const struct problem_part *part, long status, char *out, size_t size, size_t *used)
{
	size_t row = row_of(part->type);
	bool said = true;
	if (known(row))
		append(out, size, used, "%s", table[row].means);
	else if (status == 404)
		append(out, size, used, "the CA has nothing at this address");
	else if (status == 501)
		append(out, size, used, "the CA cannot do this");
	else if (status >= 500)
		append(out, size, used, "the CA has an error of its own");
	else
		said = false;
	if (part->detail[0])
		append(out, size, used, "%s%s", said ? ": " : "", part->detail);
	else if (!said)
		append(out, size, used, "the CA refuses without a reason");
	if (part->type[0] && status)
		append(out, size, used, " (%s, HTTP status %ld)", part->type, status);
	else if (part->type[0])
		append(out, size, used, " (%s)", part->type);
	else if (status)
		append(out, size, used, " (HTTP status %ld)", status);
}

void problem_text(const struct problem *p, char *out, size_t size)
{
	size_t used = 0;
	if (!size)
		return;
	out[0] = '\0';
	part_text(&p->main, p->status, out, size, &used);
	for (size_t i = 0; i < p->n_subs; i++) {
		append(out, size, &used, "; %s%s", p->subs[i].name, p->subs[i].name[0] ? ": " : "");
		part_text(&p->subs[i], 0, out, size, &used);
	}
	if (p->n_subs_left)
		append(out, size, &used, "; and %zu more", p->n_subs_left);
}
