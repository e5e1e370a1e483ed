/* SPDX-License-Identifier: MIT */
/* cert_command - see cert_command.h.  Control thread; nothing is started. */
#include "core/cli/cert_command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>
#include <semstreams/base/nearest.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/tls/cert.h"
#include "core/cli/cli.h"
#include "core/config/config.h"
#include "core/admin/clock.h"
#include "core/flow/providers.h"
#include "core/cli/table.h"
#include "core/tls/tls_files.h"

static const char *const role_names[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};

/* ---- a certificate from files ---- */

/* Foreign text on a terminal. */
static void add_text(struct table *t, const char *what, const void *text, size_t len)
{
	const unsigned char *from = text;
	char *shown = malloc(len + 1);

	for (size_t i = 0; shown && i < len; i++)
		shown[i] = from[i] < 0x20 || from[i] == 0x7f ? '?' : (char)from[i];
	if (shown)
		shown[len] = '\0';
	table_add(t, "%s", what);
	table_add(t, "%s", shown ? shown : "");
	free(shown);
}

/* Of the subject or the issuer, malloced; NULL: it cannot be read. */
static char *dn_text(gnutls_x509_crt_t crt, bool issuer)
{
	gnutls_x509_dn_t dn;

	if (issuer ? gnutls_x509_crt_get_issuer(crt, &dn) : gnutls_x509_crt_get_subject(crt, &dn))
		return NULL;
	return tls_dn_text(dn);
}

static void add_dn(struct table *t, const char *what, gnutls_x509_crt_t crt, bool issuer)
{
	char *text = dn_text(crt, issuer);

	if (text)
		add_text(t, what, text, strlen(text));
	free(text);
}

struct name_list {
	void (*add)(void *arg, const char *name, size_t len);
	void *arg;
};

static bool pass_name(void *arg, unsigned kind, const uint8_t *name, size_t len)
{
	struct name_list *to = arg;
	char address[INET6_ADDRSTRLEN];

	if (kind == GNUTLS_SAN_DNSNAME)
		to->add(to->arg, (const char *)name, len);
	else if (kind == GNUTLS_SAN_IPADDRESS && (len == 4 || len == 16) &&
		 inet_ntop(len == 4 ? AF_INET : AF_INET6, name, address, sizeof address))
		to->add(to->arg, address, strlen(address));
	return true;
}

/* Call add for each DNS name and address. */
static void each_name(gnutls_x509_crt_t crt, void (*add)(void *arg, const char *name, size_t len), void *arg)
{
	struct name_list to = {.add = add, .arg = arg};

	tls_each_san(crt, pass_name, &to);
}

static void add_name(void *arg, const char *name, size_t len)
{
	struct ss_strbuf *all = arg;
	ss_strbuf_text(all, all->len ? ", " : "");
	ss_strbuf_add(all, name, len);
}

static void add_names(struct table *t, gnutls_x509_crt_t crt)
{
	struct ss_strbuf all = {0};
	each_name(crt, add_name, &all);
	if (all.len)
		add_text(t, "names", all.bytes, all.len);
	ss_strbuf_done(&all);
}

static void add_validity(struct table *t, gnutls_x509_crt_t crt, int64_t now)
{
	int64_t from = cert_not_before(crt), to = cert_not_after(crt);
	long long minutes = (long long)(to < now ? now - to : to - now) / 60, days = minutes / 1440;
	char when[CERT_SHOWN], span[48];

	table_add(t, "valid from");
	table_add(t, "%s%s", cert_show_time(when, from), from > now ? " (not yet)" : "");
	if (days > 1)
		snprintf(span, sizeof span, "%lld days", days);
	else
		snprintf(span, sizeof span, "%lldh%lldm", minutes / 60, minutes % 60);
	table_add(t, "valid until");
	table_add(t, "%s (%s%s%s)", cert_show_time(when, to), to < now ? "expired " : "", span,
		  to < now ? " ago" : " left");
}

static void add_hex(struct table *t, const char *what, const unsigned char *bytes, size_t n)
{
	char text[3 * 64 + 1] = "";
	size_t at = 0;

	for (size_t i = 0; i < n && i < 64; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%02X", i ? ":" : "", bytes[i]);
	table_add(t, "%s", what);
	table_add(t, "%s", text);
}

static void print_leaf(const struct tls_role *role, const struct cert_list *chain, int64_t now)
{
	struct table t = {.columns = 2};
	unsigned char bytes[64];
	size_t n = sizeof bytes;
	gnutls_x509_crt_t leaf = chain->certs[0];

	add_text(&t, "file", role->cert.path, strlen(role->cert.path));
	add_dn(&t, "subject", leaf, false);
	add_names(&t, leaf);
	add_dn(&t, "issuer", leaf, true);
	if (gnutls_x509_crt_get_serial(leaf, bytes, &n) == 0)
		add_hex(&t, "serial", bytes, n);
	add_validity(&t, leaf, now);
	n = sizeof bytes;
	if (gnutls_x509_crt_get_fingerprint(leaf, GNUTLS_DIG_SHA256, bytes, &n) == 0)
		add_hex(&t, "SHA-256", bytes, n);
	table_add(&t, "chain");
	table_add(&t, "%u certificate%s", chain->n, chain->n == 1 ? "" : "s");
	table_print(&t, 2, stdout);
	table_done(&t);
}

/* ---- the same as JSON ---- */

/* What is not UTF-8 becomes U+FFFD. */
static json_t *text_json(const void *text, size_t len)
{
	struct ss_strbuf quoted = {0};
	ss_strbuf_json(&quoted, text, len);
	json_t *value = json_loads(ss_strbuf_cstr(&quoted), JSON_DECODE_ANY, NULL);
	ss_strbuf_done(&quoted);
	return value ? value : json_string("");
}

static json_t *dn_json(gnutls_x509_crt_t crt, bool issuer)
{
	char *text = dn_text(crt, issuer);
	json_t *value = text ? text_json(text, strlen(text)) : json_null();

	free(text);
	return value;
}

static json_t *hex_json(const unsigned char *bytes, size_t n)
{
	char text[2 * 64 + 1] = "";
	for (size_t i = 0; i < n && i < 64; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static void append_name(void *array, const char *name, size_t len)
{
	json_array_append_new(array, text_json(name, len));
}

static json_t *leaf_json(const struct cert_list *chain, int64_t now)
{
	char from[CERT_SHOWN], to[CERT_SHOWN];
	unsigned char serial[64], hash[64];
	size_t n_serial = sizeof serial, n_hash = sizeof hash;
	gnutls_x509_crt_t leaf = chain->certs[0];
	json_t *names = json_array();

	each_name(leaf, append_name, names);
	if (gnutls_x509_crt_get_serial(leaf, serial, &n_serial))
		n_serial = 0;
	if (gnutls_x509_crt_get_fingerprint(leaf, GNUTLS_DIG_SHA256, hash, &n_hash))
		n_hash = 0;
	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:I, s:o, s:i}", "subject", dn_json(leaf, false),
			 "issuer", dn_json(leaf, true), "names", names, "serial", hex_json(serial, n_serial),
			 "not_before", cert_show_time(from, cert_not_before(leaf)), "not_after",
			 cert_show_time(to, cert_not_after(leaf)), "remaining_seconds",
			 (json_int_t)(cert_not_after(leaf) - now), "sha256", hex_json(hash, n_hash), "chain",
			 (int)chain->n);
}

/* ---- a pair of files ---- */

static void complain(void *arg, enum diag_level level, const struct tls_file *file, const char *text)
{
	(void)arg, (void)file;
	fflush(stdout);
	fprintf(stderr, "%s: %s\n", level == DIAG_ERROR ? "error" : "warning", text);
}

/* 0: it is good to be used; 1: it is not.  Into json, if that is not NULL, else printed. */
static int show_pair(const struct tls_role *role, uint32_t number, json_t *json)
{
	const struct tls_complaints complaints = {.add = complain};
	struct tls_generation *g = NULL;
	struct cert_list chain;
	char why[256];
	int64_t now = (int64_t)(clock_wall() / 1000000000u);
	int code = 1;

	int rc = tls_files_load(role, number, now, &complaints, NULL, &g);
	if (rc == 0 && g->chain &&
	    cert_list_load(g->chain, strlen(g->chain), CERT_MAX_CHAIN, &chain, why, sizeof why) == 0) {
		if (json)
			json_object_set_new(json, "certificate", leaf_json(&chain, now));
		else
			print_leaf(role, &chain, now);
		cert_list_free(&chain);
		code = g->material.not_after < now || g->material.not_before > now;
	}
	tls_generation_unref(g);
	if (json) {
		json_object_set_new(json, "good", json_boolean(code == 0));
		json_object_set_new(json, "file", text_json(role->cert.path, strlen(role->cert.path)));
	}
	return code;
}

/* ---- by the provider ---- */

/* To a struct ss_strbuf, or to standard output. */
static void print(void *arg, const char *text)
{
	if (arg)
		ss_strbuf_text(arg, text);
	else
		fputs(text, stdout);
}

static int by_provider(const struct component *c, size_t n_words, const char *const *words,
		       struct ss_strbuf *out)
{
	void *self;
	const struct ss_tls_provider *face = provider_face(c, &self);

	if (!face->command) {
		fprintf(stderr, "semstreams: the provider %s has no commands\n", c->desc->type);
		return EXIT_FAILURE;
	}
	int code = face->command(self, (uint32_t)n_words, words, print, out);
	return code < 0 ? EXIT_FAILURE : code;
}

/* ---- whom it is about ---- */

struct targets {
	const struct config *config;
	struct component members[TLS_ROLES];
	size_t n_members;
	uint32_t wanted; /* roles, 1 << SS_TLS_... */
};

/* The provider of a role; NULL: it is from files. */
static const struct component *provider_of(const struct targets *t, uint32_t role)
{
	for (size_t i = 0; i < t->n_members; i++) {
		if (t->members[i].tls_roles & 1u << role)
			return &t->members[i];
	}
	return NULL;
}

/* What the provider says of its certificate: the members of its object, or its text. */
static int provider_json(const struct component *c, size_t n_words, const char *const *words, json_t *json)
{
	struct ss_strbuf out = {0};
	int code = by_provider(c, n_words, words, &out);
	json_t *said = json_loads(ss_strbuf_cstr(&out), 0, NULL);

	if (json_is_object(said))
		json_object_update_missing(json, said);
	else
		json_object_set_new(json, "text", text_json(out.bytes, out.len));
	json_decref(said);
	ss_strbuf_done(&out);
	return code;
}

/* One object for all roles asked about: {"server": {"mode": ...}, "client": ...}. */
static int status_json(const struct targets *t, size_t n_words, const char *const *words)
{
	json_t *root = json_object();
	int code = EXIT_SUCCESS;

	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		const struct tls_role *role = &t->config->tls.roles[i];
		const struct component *c = provider_of(t, i);
		int one = EXIT_SUCCESS;
		if (!(t->wanted & 1u << i))
			continue;
		json_t *json = json_pack("{s:s, s:n}", "mode", c ? role->mode : "manual", "certificate");
		if (c) {
			json_object_del(json, "certificate");
			one = provider_json(c, n_words, words, json);
		} else if (role->cert.path) {
			one = show_pair(role, i, json);
		}
		if (c && role->cert.path) {
			json_t *fallback = json_object();
			show_pair(role, i, fallback);
			json_object_set_new(json, "fallback", fallback);
		}
		json_object_set_new(root, role_names[i], json);
		code = one ? one : code;
	}
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
	return code;
}

static int status(const struct targets *t, size_t n_words, const char *const *words)
{
	const struct component *shown = NULL;
	int code = EXIT_SUCCESS;

	for (size_t i = 1; i < n_words; i++)
		if (strcmp(words[i], "--json") == 0)
			return status_json(t, n_words, words);
	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		const struct tls_role *role = &t->config->tls.roles[i];
		const struct component *c = provider_of(t, i);
		int one = EXIT_SUCCESS;
		if (!(t->wanted & 1u << i) || (c && c == shown))
			continue;
		bool both = c && (c->tls_roles & t->wanted) == 3;
		printf("%s, mode \"%s\"\n", both ? "server and client" : role_names[i],
		       c ? role->mode : "manual");
		if (c)
			one = by_provider(shown = c, n_words, words, NULL);
		else if (role->cert.path)
			one = show_pair(role, i, NULL);
		else
			puts("  no certificate");
		for (uint32_t k = i; c && k < TLS_ROLES; k++) {
			const struct tls_role *other = &t->config->tls.roles[k];
			if (provider_of(t, k) != c || !(t->wanted & 1u << k) || !other->cert.path)
				continue;
			printf("%s, fallback\n", role_names[k]);
			show_pair(other, k, NULL);
		}
		code = one ? one : code;
	}
	return code;
}

static int act(const struct targets *t, size_t n_words, const char *const *words)
{
	const struct component *one = NULL;

	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		const struct component *c = t->wanted & 1u << i ? provider_of(t, i) : NULL;
		if (c && one && c != one) {
			fprintf(stderr, "semstreams: server and client have certificates of their own; add "
					"--role server or "
					"--role client\n");
			return EXIT_USAGE;
		}
		one = c ? c : one;
	}
	if (one)
		return by_provider(one, n_words, words, NULL);
	static const char *const verbs[] = {"status"};
	const char *near = ss_nearest(words[0], verbs, 1);
	if (near) {
		fprintf(stderr, "semstreams: unknown verb '%s' (did you mean '%s'?)\n", words[0], near);
		return EXIT_USAGE;
	}
	fprintf(stderr,
		"semstreams: the certificate comes from cert_file and key_file (mode \"manual\"), so there "
		"is nothing to %s; only 'cert status' works\n",
		words[0]);
	return EXIT_FAILURE;
}

int cert_command(struct config *config, int role, size_t n_words, const char *const *words, struct diag *diag)
{
	struct targets t = {.config = config};
	struct tls_identity *tls;
	int rc;

	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		if (config->tls.roles[i].on && (role < 0 || (uint32_t)role == i))
			t.wanted |= 1u << i;
	}
	if (!t.wanted) {
		fprintf(stderr, "semstreams: %s uses no TLS%s%s\n", config->doc->file, role < 0 ? "" : " as ",
			role < 0 ? "" : role_names[role]);
		return EXIT_FAILURE;
	}
	rc = tls_identity_new(config->doc, &config->tls, false, NULL, diag, &tls);
	if (rc)
		return rc;
	rc = providers_create(config, NULL, tls, diag, t.members, &t.n_members);
	if (rc == 0)
		rc = strcmp(words[0], "status") == 0 ? status(&t, n_words, words) : act(&t, n_words, words);
	for (size_t i = 0; i < t.n_members; i++) {
		component_destroy(&t.members[i]);
		component_free(&t.members[i]);
	}
	tls_identity_free(tls);
	return rc;
}
