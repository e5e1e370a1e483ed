/* SPDX-License-Identifier: MIT */
/* revoke - see revoke.h. */
#include "pki/revocation/revoke.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include "pki/issue.h"
#include "pki/revocation/crl.h"
#include "pki/revocation/index.h"

enum { WEEK = 7 * 86400, SERIAL_MAX = 64 /* bytes */ };

/* Takes over value. */
static int print_json(json_t *value)
{
	int rc = value && json_dumpf(value, stdout, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;

	putchar('\n');
	json_decref(value);
	return rc;
}

/* ---- making and showing lists ---- */

/* The number of the list that is to be replaced: the index may have been lost.  0: there is none. */
static int number_in(const char *path, gnutls_x509_crt_t ca, uint64_t *out, struct fault *f)
{
	struct crls lists;
	int rc = crls_load(path, &lists, f);

	*out = 0;
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (!crl_is_of(lists.v[0], ca))
		rc = refuse(f, "%s is the revocation list of another CA: give another name", path);
	else if (!crl_number(lists.v[0], out))
		rc = refuse(f, "%s: its number is too large to be followed by another", path);
	crls_done(&lists);
	return rc;
}

static int write_file(const char *path, const struct ss_strbuf *content, struct fault *f)
{
	const char *slash = strrchr(path, '/');
	char folder[4096];
	int n = snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1,
			 slash ? path : ".");
	int dir = n < (int)sizeof folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir < 0)
		return refuse(f, "%s cannot be written: %s", path, strerror(errno));
	int rc = ss_file_write(dir, slash ? slash + 1 : path, content->bytes, content->len, 0644);
	close(dir);
	return rc ? refuse(f, "%s cannot be written: %s", path, strerror(-rc)) : 0;
}

static int check_ca(gnutls_x509_crt_t ca, const struct key *key, struct fault *f)
{
	unsigned usage, critical;
	char name[256];

	certificate_subject(ca, name);
	if (!certificate_is_ca(ca))
		return refuse(f, "\"%s\" is no CA: it has no revocation list", name);
	if (gnutls_x509_crt_get_key_usage(ca, &usage, &critical) == 0 && !(usage & GNUTLS_KEY_CRL_SIGN))
		return refuse(f, "\"%s\" may not sign revocation lists: its key usage lacks CRL Sign", name);
	if (!certificate_is_for(ca, key))
		return refuse(
			f, "the key is not that of \"%s\": give the key that belongs to the CA's certificate",
			name);
	return 0;
}

static int make(const struct options *o, struct crl_order *l, struct index *index, struct fault *f)
{
	struct ss_strbuf pem = {0};
	uint64_t published;
	int rc = check_ca(l->ca, l->key, f);

	if (rc == 0)
		rc = number_in(o->words[0], l->ca, &published, f);
	if (rc)
		return rc;
	l->number = (published > index->crl_number ? published : index->crl_number) + 1;
	l->now_s = time(NULL);
	l->life_s = o->life_s ? o->life_s : WEEK;
	if (l->now_s + l->life_s > gnutls_x509_crt_get_expiration_time(l->ca))
		fprintf(stderr, "semstreams pki: note: the CA ends before the next list is due\n");
	rc = crl_make(l, &pem, f);
	if (rc == 0) /* first, so that a number is never used twice */
		rc = index_number(index, l->number, f);
	if (rc == 0)
		rc = write_file(o->words[0], &pem, f);
	ss_strbuf_done(&pem);
	return rc;
}

static int print_made(const struct options *o, const struct crl_order *l)
{
	char this[40], next[40];

	ss_format_time(l->now_s, this, sizeof this);
	ss_format_time(l->now_s + l->life_s, next, sizeof next);
	if (o->json)
		return print_json(json_pack("{s:s, s:I, s:s, s:s, s:I}", "crl", o->words[0], "number",
					    (json_int_t)l->number, "this_update", this, "next_update", next,
					    "revoked", (json_int_t)l->n));
	printf("%s: number %" PRIu64 ", %zu revoked, until %s\n", o->words[0], l->number, l->n, next);
	return 0;
}

static int print_list(const struct options *o, const struct index *x)
{
	json_t *list = o->json ? json_array() : NULL;
	char when[40];

	for (size_t i = 0; i < x->n; i++) {
		const struct index_entry *e = &x->entries[i];
		if (!e->since_s)
			continue;
		ss_format_time(e->since_s, when, sizeof when);
		if (list)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "serial_number",
							      e->serial, "since", when, "reason", e->reason,
							      "subject", e->subject ? e->subject : ""));
		else
			printf("%s  %s  %s  %s\n", e->serial, when, e->reason, e->subject ? e->subject : "");
	}
	return o->json ? print_json(json_pack("{s:I, s:o}", "number", (json_int_t)x->crl_number, "revoked",
					      list))
		       : 0;
}

static int show(const struct options *o)
{
	struct certificates ca;
	struct index index;
	struct fault f;
	int rc = certificates_load(o->ca, &ca, &f);

	if (rc)
		return failed(rc, &f);
	rc = index_open(o->ca, ca.v[0], false, &index, &f);
	certificates_done(&ca);
	if (rc)
		return failed(rc, &f);
	rc = print_list(o, &index);
	index_close(&index);
	return rc ? failed(rc, &f) : 0;
}

int revoke_list(const struct options *o)
{
	struct issuer issuer = {0};
	struct index index;
	struct fault f;

	if (!o->ca)
		return wrong_usage("--ca is needed: whose list?");
	if (o->n_words == 0)
		return show(o);
	if (!o->ca_key)
		return wrong_usage("--ca-key is needed to sign the list");
	int rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &issuer, &f);
	if (rc)
		return failed(rc, &f);
	rc = index_open(o->ca, issuer.chain.v[0], true, &index, &f);
	if (rc == 0) {
		struct crl_order l = {.index = &index, .ca = issuer.chain.v[0], .key = &issuer.key};
		rc = make(o, &l, &index, &f);
		if (rc == 0)
			rc = print_made(o, &l);
		index_close(&index);
	}
	issuer_done(&issuer);
	return rc ? failed(rc, &f) : 0;
}

/* ---- revoking ---- */

/* Decimal digits as hex, with two digits a byte; false: too many. */
static bool hex_of_decimal(const char *text, char out[SERIAL_HEX])
{
	unsigned char bytes[SERIAL_MAX] = {0};
	size_t first = 0;

	for (; *text; text++) {
		unsigned carry = (unsigned)(*text - '0');
		for (size_t i = SERIAL_MAX; i-- > 0;) {
			carry += bytes[i] * 10u;
			bytes[i] = (unsigned char)carry;
			carry >>= 8;
		}
		if (carry)
			return false;
	}
	while (first < SERIAL_MAX - 1 && !bytes[first])
		first++;
	if (bytes[first] & 0x80 && first > 0)
		first--; /* as certificates have it */
	for (size_t i = first; i < SERIAL_MAX; i++)
		snprintf(out + 2 * (i - first), 3, "%02x", bytes[i]);
	return true;
}

/* Hex digits, also with 0x before them and colons between; false: it is something else. */
static bool hex_of_hex(const char *text, char out[SERIAL_HEX])
{
	char digits[2 * SERIAL_MAX + 1];
	size_t n = 0;

	if (text[0] == '0' && (text[1] | 0x20) == 'x')
		text += 2;
	for (; *text && n < 2 * SERIAL_MAX; text++) {
		char c = *text >= 'A' && *text <= 'F' ? (char)(*text | 0x20) : *text;
		if (strchr("0123456789abcdef", c))
			digits[n++] = c;
		else if (c != ':')
			return false;
	}
	digits[n] = '\0';
	if (*text || n == 0)
		return false;
	const char *from = digits;
	while (strlen(from) > 2 && from[0] == '0')
		from++;
	bool odd = strlen(from) % 2;
	bool top = !odd && strchr("89abcdef", from[0]) && strlen(from) < 2 * SERIAL_MAX;
	snprintf(out, SERIAL_HEX, "%s%s", odd ? "0" : top ? "00" : "", from);
	return true;
}

/* As it is written, the entry of it: digits alone are decimal, unless the index knows them as hex only. */
static int find_serial(const struct options *o, const struct index *x, char serial[SERIAL_HEX],
		       struct index_entry *e, struct fault *f)
{
	const char *word = o->words[0];
	char hex[SERIAL_HEX] = "", decimal[SERIAL_HEX] = "";
	bool digits = strspn(word, "0123456789") == strlen(word);

	if (!hex_of_hex(word, hex) || (digits && !hex_of_decimal(word, decimal)))
		return refuse(f, "%s is neither a file nor a serial in hex or decimal", word);
	const struct index_entry *by_hex = index_find(x, hex),
				 *by_decimal = digits ? index_find(x, decimal) : NULL;
	if (by_hex && by_decimal && by_hex != by_decimal)
		return refuse(f,
			      "%s is a serial in decimal and another in hex: write 0x before it if it is hex",
			      word);
	const struct index_entry *known = by_decimal ? by_decimal : by_hex;
	strcpy(serial, known ? known->serial : digits ? decimal : hex);
	*e = known ? *known : (struct index_entry){.serial = serial};
	if (!known && !o->force)
		return refuse(f,
			      "the serial %s is not known: this CA has issued no such certificate, says %s; "
			      "give the "
			      "certificate, or --force",
			      serial, x->path);
	return 0;
}

static int find_certificate(const char *path, gnutls_x509_crt_t ca, char serial[SERIAL_HEX],
			    char subject[256], struct index_entry *e, struct fault *f)
{
	struct certificates c = {0};
	char name[256];
	int rc = certificates_load(path, &c, f);

	if (rc)
		return rc;
	certificate_subject(c.v[0], subject);
	*e = (struct index_entry){.serial = certificate_serial(c.v[0], serial),
				  .subject = subject,
				  .not_after_s = gnutls_x509_crt_get_expiration_time(c.v[0])};
	if (!certificate_signed_by(c.v[0], ca))
		rc = refuse(f, "%s: \"%s\" has not been issued by \"%s\": give the CA that signed it", path,
			    subject, certificate_subject(ca, name));
	certificates_done(&c);
	return rc;
}

static int change(const struct options *o, struct index *x, const struct index_entry *e, struct fault *f)
{
	const struct index_entry *known = index_find(x, e->serial);
	const char *reason = o->reason ? o->reason : "unspecified";
	int64_t now = time(NULL);
	char when[40];
	int rc;

	if (o->reinstate && (!known || !known->since_s))
		return refuse(f, "the certificate with the serial %s is not revoked", e->serial);
	if (o->reinstate && strcmp(known->reason, "certificateHold") != 0 && !o->force)
		return refuse(f,
			      "the certificate with the serial %s is revoked for good (%s); only "
			      "certificateHold is "
			      "taken back without --force",
			      e->serial, known->reason);
	if (!o->reinstate && known && known->since_s && strcmp(known->reason, reason) == 0)
		return refuse(f, "the certificate with the serial %s is revoked already, since %s (%s)",
			      e->serial, ss_format_time(known->since_s, when, sizeof when), known->reason);
	if (!o->reinstate && known && known->since_s)
		now = known->since_s; /* another reason, the same moment */
	rc = o->reinstate ? index_reinstate(x, e->serial, f) : index_revoke(x, e, now, reason, f);
	if (rc)
		return rc;
	if (o->json)
		return print_json(json_pack("{s:s, s:s, s:b, s:s*}", "serial_number", e->serial, "subject",
					    e->subject ? e->subject : "", "revoked", !o->reinstate, "reason",
					    o->reinstate ? NULL : reason));
	printf("%s: \"%s\" is %s; make the list anew with \"semstreams pki crl\"\n", e->serial,
	       e->subject ? e->subject : "", o->reinstate ? "not revoked any more" : "revoked");
	return 0;
}

int revoke_one(const struct options *o)
{
	struct certificates ca;
	struct index index;
	struct index_entry e = {0};
	struct fault f;
	char serial[SERIAL_HEX], subject[256];

	if (!o->ca)
		return wrong_usage("--ca is needed: who has signed it?");
	int rc = certificates_load(o->ca, &ca, &f);
	if (rc)
		return failed(rc, &f);
	rc = index_open(o->ca, ca.v[0], true, &index, &f);
	if (rc == 0) {
		rc = access(o->words[0], F_OK) == 0
			     ? find_certificate(o->words[0], ca.v[0], serial, subject, &e, &f)
			     : find_serial(o, &index, serial, &e, &f);
		if (rc == 0)
			rc = change(o, &index, &e, &f);
		index_close(&index);
	}
	certificates_done(&ca);
	return rc ? failed(rc, &f) : 0;
}
