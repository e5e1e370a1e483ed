/* SPDX-License-Identifier: MIT */
/* options - see options.h. */
#include "options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/pkcs11.h>
#include <semstreams/base/nearest.h>
#include <semstreams/base/units.h>
#include "revocation/index.h"

enum id {
	OPT_CA,
	OPT_CA_KEY,
	OPT_CA_FILE,
	OPT_CA_ENV,
	OPT_CA_PROMPT,
	OPT_KEY_TYPE,
	OPT_PASS_FILE,
	OPT_PASS_ENV,
	OPT_PASS_PROMPT,
	OPT_PROFILE,
	OPT_SAN,
	OPT_VALIDITY,
	OPT_PATH_LENGTH,
	OPT_ROOTS,
	OPT_INTERMEDIATE,
	OPT_CRL,
	OPT_NAME,
	OPT_PURPOSE,
	OPT_KEY,
	OPT_EXEC,
	OPT_REUSE_KEY,
	OPT_LAYOUT,
	OPT_LOCATION,
	OPT_ADDRESS,
	OPT_FINGERPRINT,
	OPT_TOKEN_FILE,
	OPT_TOKEN_ENV,
	OPT_PROVISIONER,
	OPT_PROVIDER,
	OPT_WAIT,
	OPT_LISTEN,
	OPT_REASON,
	OPT_REINSTATE,
	OPT_FORCE,
	OPT_MODULE,
	OPT_JSON,
	OPT_HELP,
	N_OPTIONS
};

static const struct {
	const char *name, *value;
	unsigned group; /* 0: of all verbs */
	const char *help;
} table[N_OPTIONS] = {
	[OPT_CA] = {"--ca", "FILE|URL", TAKES_CA | TAKES_CA_URL,
		    "certificate of the CA that signs, or a step-ca"},
	[OPT_CA_KEY] = {"--ca-key", "FILE|URI", TAKES_CA, "its key, in a file or a PKCS#11 token"},
	[OPT_CA_FILE] = {"--ca-passphrase-file", "FILE", TAKES_CA | TAKES_PROVISIONER,
			 "passphrase of that key, PIN of the token, or a provisioner's password"},
	[OPT_CA_ENV] = {"--ca-passphrase-env", "NAME", TAKES_CA | TAKES_PROVISIONER,
			"the same from an environment variable"},
	[OPT_CA_PROMPT] = {"--ca-passphrase-prompt", NULL, TAKES_CA | TAKES_PROVISIONER,
			   "the same, asked for at the terminal"},
	[OPT_KEY_TYPE] = {"--key-type", "TYPE", TAKES_TYPE,
			  "rsa2048, rsa3072, rsa4096, p256, p384 or ed25519"},
	[OPT_PASS_FILE] = {"--passphrase-file", "FILE", TAKES_KEY,
			   "encrypt KEY with the first line of a file; PIN of a token"},
	[OPT_PASS_ENV] = {"--passphrase-env", "NAME", TAKES_KEY, "the same from an environment variable"},
	[OPT_PASS_PROMPT] = {"--passphrase-prompt", NULL, TAKES_KEY, "the same, asked for at the terminal"},
	[OPT_PROFILE] = {"--profile", "NAME", TAKES_PROFILE,
			 "intermediate-ca, sub-ca, service-leaf or device-leaf"},
	[OPT_SAN] = {"--san", "NAME", TAKES_NAMES, "a DNS name or address; may be given several times"},
	[OPT_VALIDITY] = {"--validity", "DURATION", TAKES_LIFE, "until its end, like \"8760h\" or \"365d\""},
	[OPT_PATH_LENGTH] = {"--path-length", "N", TAKES_LENGTH, "how many CAs may follow below this one"},
	[OPT_ROOTS] = {"--roots", "FILE", TAKES_VERIFY | TAKES_CA_URL | TAKES_ROOTS,
		       "certificates that are trusted"},
	[OPT_INTERMEDIATE] = {"--intermediate", "FILE", TAKES_VERIFY,
			      "CAs between; may be given several times"},
	[OPT_CRL] = {"--crl", "FILE", TAKES_VERIFY,
		     "revocation lists of the CAs; may be given several times"},
	[OPT_NAME] = {"--name", "NAME", TAKES_VERIFY, "a name or address that it has to be for"},
	[OPT_PURPOSE] = {"--purpose", "PURPOSE", TAKES_VERIFY, "server or client [server with --name]"},
	[OPT_KEY] = {"--key", "FILE", TAKES_VERIFY | TAKES_REVOKE, "the key that it has to be for"},
	[OPT_EXEC] = {"--exec", "COMMAND", TAKES_RENEW,
		      "run by sh for each renewed certificate, with PKI_NAME, PKI_CERT, PKI_KEY"},
	[OPT_REUSE_KEY] = {"--reuse-key", NULL, TAKES_RENEW, "keep the key"},
	[OPT_LAYOUT] = {"--layout", "NAME", TAKES_LAYOUT, "internal, federation, provider or step-ca"},
	[OPT_LOCATION] = {"--location", "NAME", TAKES_PLACES,
			  "a location of the federation [a, b, c]; may be given several times"},
	[OPT_ADDRESS] = {"--address", "ADDRESS", TAKES_PLACES, "where step-ca is to listen [:9000]"},
	[OPT_FINGERPRINT] = {"--fingerprint", "HEX", TAKES_CA_URL,
			     "SHA-256 of the root that is trusted [STEP_CA_FINGERPRINT]"},
	[OPT_TOKEN_FILE] = {"--token-file", "FILE", TAKES_TOKEN, "a one-time token of the CA"},
	[OPT_TOKEN_ENV] = {"--token-env", "NAME", TAKES_TOKEN, "the same from an environment variable"},
	[OPT_PROVISIONER] = {"--provisioner", "NAME", TAKES_PROVISIONER,
			     "whose key signs tokens of step-ca [iot-bridge]"},
	[OPT_PROVIDER] = {"--provider", "URL", TAKES_PROVIDER,
			  "where the provider runs \"semstreams pki join-serve\""},
	[OPT_WAIT] = {"--wait", "DURATION", TAKES_PROVIDER, "how long approval is waited for [10m]"},
	[OPT_LISTEN] = {"--listen", "ADDRESS:PORT", TAKES_LISTEN, "where to listen [127.0.0.1:9443]"},
	[OPT_REASON] =
		{"--reason", "REASON", TAKES_REVOKE,
		 "keyCompromise, cACompromise, superseded, cessationOfOperation, certificateHold, ..."},
	[OPT_REINSTATE] = {"--reinstate", NULL, TAKES_REVOKE,
			   "take back what was revoked as certificateHold"},
	[OPT_FORCE] =
		{"--force", NULL, TAKES_FORCE,
		 "replace files that are there; renew what is not due; revoke a serial that is not known"},
	[OPT_MODULE] = {"--pkcs11-module", "FILE", 0, "use the tokens of this module, too"},
	[OPT_JSON] = {"--json", NULL, 0, "print JSON"},
	[OPT_HELP] = {"--help", NULL, 0, "print this help"},
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list ap;

	fputs("semstreams pki: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("; see semstreams pki --help\n", stderr);
	return EXIT_USAGE;
}

int wrong_usage(const char *text)
{
	return usage("%s", text);
}

static int unknown(const char *what, const char *word, const char *const *known, size_t n)
{
	const char *nearest = ss_nearest(word, known, n);

	return nearest ? usage("unknown %s \"%s\" (did you mean \"%s\"?)", what, word, nearest)
		       : usage("unknown %s \"%s\"", what, word);
}

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

/* A secret on the command line can be read by everybody who lists processes. */
static int check_key_path(const char *path)
{
	if (key_is_uri(path) && strstr(path, "pin-value"))
		return usage("a PIN does not belong on the command line: leave pin-value out of the URI and "
			     "give a file by "
			     "--passphrase-file or --ca-passphrase-file");
	return 0;
}

static int set_profile(struct options *o, const char *value)
{
	const char *names[8];
	size_t n = 0;

	for (; profiles[n]; n++) {
		names[n] = profiles[n]->name;
		if (strcmp(value, names[n]) == 0)
			o->profile = profiles[n];
	}
	return o->profile ? 0 : unknown("profile", value, names, n);
}

static int set_number(struct options *o, enum id id, const char *value)
{
	int64_t n;

	if (id == OPT_WAIT) {
		if (ss_parse_duration(value, &n) < 0 || n < 0)
			return usage("--wait is a duration " SS_DURATION_FORM ", not \"%s\"", value);
		o->wait_s = n / 1000000000;
		return 0;
	}
	if (id == OPT_VALIDITY) {
		if (ss_parse_duration(value, &n) < 0 || n < 1000000000)
			return usage("--validity is a duration " SS_DURATION_FORM
				     " of a second or more, not \"%s\"",
				     value);
		o->life_s = n / 1000000000;
		return 0;
	}
	if (ss_parse_integer(value, &n) < 0 || n < 0 || n > 15)
		return usage("--path-length is a number from 0 to 15, not \"%s\"", value);
	o->path_len = (int)n;
	return 0;
}

static int set_san(struct options *o, const char *value)
{
	struct fault f;
	bool was_dns = false;
	int rc = names_add(&o->names, value, &was_dns, &f);

	if (rc == -ENOMEM) {
		fputs("semstreams pki: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	if (rc)
		return usage("--san %s", f.text);
	if (was_dns)
		fprintf(stderr,
			"semstreams pki: warning: %s is an address: it becomes an IP name, as clients look "
			"for no "
			"address among DNS names\n",
			value);
	return 0;
}

static int set_reason(struct options *o, const char *value)
{
	const char *names[16];
	size_t n = 0;

	for (; index_reasons[n].name; n++) {
		names[n] = index_reasons[n].name;
		if (strcmp(value, names[n]) == 0)
			o->reason = names[n];
	}
	return o->reason ? 0 : unknown("reason", value, names, n);
}

static int set_choice(struct options *o, enum id id, const char *value)
{
	static const char *const layouts[] = {"internal", "federation", "provider", "step-ca", NULL};
	size_t i = 0;

	switch (id) {
	case OPT_KEY_TYPE:
		while (key_types[i] && strcmp(key_types[i], value) != 0)
			i++;
		o->key_type = key_types[i];
		return o->key_type ? 0 : unknown("type of key", value, key_types, count(key_types));
	case OPT_LAYOUT:
		while (layouts[i] && strcmp(layouts[i], value) != 0)
			i++;
		o->layout = layouts[i];
		return o->layout ? 0 : unknown("layout", value, layouts, count(layouts));
	default:
		o->client = strcmp(value, "client") == 0;
		return o->client || strcmp(value, "server") == 0
			       ? 0
			       : usage("--purpose is server or client, not \"%s\"", value);
	}
}

static int add_file(const char **list, size_t *n, const char *option, const char *value)
{
	if (*n == FILES_MAX)
		return usage("too many %s", option);
	list[(*n)++] = value;
	return 0;
}

/* It becomes part of names of files. */
static int add_location(struct options *o, const char *value)
{
	if (strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(value) || *value == '-')
		return usage("--location is of lower-case letters, digits and \"-\", not \"%s\"", value);
	if (strlen(value) > 40)
		return usage("--location is too long: \"%s\"", value);
	if (o->n_locations == sizeof o->locations / sizeof *o->locations)
		return usage("too many --location");
	o->locations[o->n_locations++] = value;
	return 0;
}

static int add_module(const char *path)
{
	int rc = gnutls_pkcs11_add_provider(path, NULL);

	if (rc == 0)
		return 0;
	fprintf(stderr, "semstreams pki: %s: this PKCS#11 module cannot be used: %s\n", path,
		gnutls_strerror(rc));
	return EXIT_FAILED;
}

static int set_flag(struct options *o, enum id id)
{
	bool *flags[N_OPTIONS] = {[OPT_CA_PROMPT] = &o->ca_passphrase.prompt,
				  [OPT_PASS_PROMPT] = &o->passphrase.prompt,
				  [OPT_REUSE_KEY] = &o->reuse_key,
				  [OPT_REINSTATE] = &o->reinstate,
				  [OPT_FORCE] = &o->force,
				  [OPT_JSON] = &o->json,
				  [OPT_HELP] = &o->help};

	*flags[id] = true;
	return 0;
}

static int set(struct options *o, enum id id, const char *value)
{
	const char **texts[N_OPTIONS] = {[OPT_CA] = &o->ca,
					 [OPT_CA_KEY] = &o->ca_key,
					 [OPT_CA_FILE] = &o->ca_passphrase.file,
					 [OPT_CA_ENV] = &o->ca_passphrase.env,
					 [OPT_PASS_FILE] = &o->passphrase.file,
					 [OPT_PASS_ENV] = &o->passphrase.env,
					 [OPT_ROOTS] = &o->roots,
					 [OPT_NAME] = &o->name,
					 [OPT_KEY] = &o->key,
					 [OPT_EXEC] = &o->exec,
					 [OPT_ADDRESS] = &o->address,
					 [OPT_FINGERPRINT] = &o->fingerprint,
					 [OPT_TOKEN_FILE] = &o->token_file,
					 [OPT_TOKEN_ENV] = &o->token_env,
					 [OPT_PROVISIONER] = &o->provisioner,
					 [OPT_PROVIDER] = &o->provider,
					 [OPT_LISTEN] = &o->listen};

	if (!table[id].value)
		return set_flag(o, id);
	if (!*value)
		return usage("%s needs a %s, not an empty text", table[id].name, table[id].value);
	if (texts[id]) {
		*texts[id] = value;
		return id == OPT_CA_KEY ? check_key_path(value) : 0;
	}
	switch (id) {
	case OPT_PROFILE:
		return set_profile(o, value);
	case OPT_SAN:
		return set_san(o, value);
	case OPT_INTERMEDIATE:
		return add_file(o->intermediates, &o->n_intermediates, "--intermediate", value);
	case OPT_LOCATION:
		return add_location(o, value);
	case OPT_CRL:
		return add_file(o->crls, &o->n_crls, "--crl", value);
	case OPT_REASON:
		return set_reason(o, value);
	case OPT_MODULE:
		return add_module(value);
	case OPT_KEY_TYPE:
	case OPT_LAYOUT:
	case OPT_PURPOSE:
		return set_choice(o, id, value);
	default:
		return set_number(o, id, value);
	}
}

static int unknown_option(const char *word, size_t len)
{
	const char *names[N_OPTIONS];
	char name[64];

	for (size_t i = 0; i < N_OPTIONS; i++)
		names[i] = table[i].name;
	snprintf(name, sizeof name, "%.*s", (int)len, word);
	return unknown("option", name, names, N_OPTIONS);
}

/* An option in argv[0], its value there behind '=' or in argv[1]; *used = how many of argv it took. */
static int option(struct options *o, const struct verb *verb, char **argv, int *used)
{
	const char *word = argv[0], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word), i = 0;

	*used = 1;
	while (i < N_OPTIONS && (strlen(table[i].name) != len || memcmp(table[i].name, word, len) != 0))
		i++;
	if (strcmp(word, "-h") == 0)
		i = OPT_HELP;
	if (i == N_OPTIONS)
		return unknown_option(word, len);
	if (table[i].group && !(table[i].group & verb->options))
		return usage("%s does not go with \"%s\"", table[i].name, verb->name);
	if (!table[i].value)
		return equals ? usage("%s takes no value", table[i].name) : set(o, (enum id)i, NULL);
	if (equals)
		return set(o, (enum id)i, equals + 1);
	if (!argv[1])
		return usage("%s needs a %s", table[i].name, table[i].value);
	*used = 2;
	return set(o, (enum id)i, argv[1]);
}

static int find_verb(const char *word, const struct verb *verbs, size_t n, size_t *out)
{
	const char *names[32];

	for (size_t i = 0; i < n; i++) {
		names[i] = verbs[i].name;
		*out = i;
		if (strcmp(word, names[i]) == 0)
			return 0;
	}
	return unknown("command", word, names, n);
}

static int check_words(const struct options *o, const struct verb *v)
{
	if (o->n_words < v->min)
		return usage("\"%s\" needs %s", v->name, v->operands);
	if (o->n_words > v->max)
		return usage("unexpected word \"%s\": \"%s\" takes %s", o->words[v->max], v->name,
			     v->max ? v->operands : "no operands");
	for (size_t i = 0; i < o->n_words; i++) {
		if (!*o->words[i])
			return usage("an operand of \"%s\" is an empty text", v->name);
		int rc = check_key_path(o->words[i]);
		if (rc)
			return rc;
	}
	return 0;
}

int options_parse(int argc, char **argv, const struct verb *verbs, size_t n, struct options *o)
{
	bool only_words = false;

	*o = (struct options){.path_len = -1,
			      .wait_s = 600,
			      .provisioner = "iot-bridge",
			      .passphrase.options =
				      "--passphrase-file, --passphrase-env or --passphrase-prompt",
			      .ca_passphrase.options =
				      "--ca-passphrase-file, --ca-passphrase-env or --ca-passphrase-prompt"};
	o->words = calloc((size_t)argc + 1, sizeof *o->words);
	if (!o->words)
		return EXIT_FAILED;
	if (argc < 2)
		return usage("a command is missing");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		o->verb = n;
		return argc > 2 && find_verb(argv[2], verbs, n, &o->verb) ? EXIT_USAGE : -1;
	}
	int rc = find_verb(argv[1], verbs, n, &o->verb), used;
	for (char **at = argv + 2; rc == 0 && *at; at += used) {
		used = 1;
		if (only_words || at[0][0] != '-' || !at[0][1])
			o->words[o->n_words++] = *at;
		else if (strcmp(*at, "--") == 0)
			only_words = true;
		else
			rc = option(o, &verbs[o->verb], at, &used);
	}
	if (rc == 0 && o->help)
		return -1;
	return rc ? rc : check_words(o, &verbs[o->verb]);
}

void options_done(struct options *o)
{
	free(o->words);
	names_done(&o->names);
}

void options_help(const struct verb *verbs, size_t n, const struct verb *verb, FILE *to)
{
	char left[48];

	if (verb) {
		fprintf(to, "semstreams pki %s %s [OPTIONS]\n\n%s\n\n", verb->name, verb->operands,
			verb->help);
	} else {
		fputs("semstreams pki makes and keeps certificates: roots, CAs, services and devices.\n\n",
		      to);
		for (size_t i = 0; i < n; i++) {
			snprintf(left, sizeof left, "%s %s", verbs[i].name, verbs[i].operands);
			fprintf(to, "  semstreams pki %s\n", left);
		}
		fputs("  semstreams pki help COMMAND\n\n", to);
	}
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (table[i].group && !(verb && (table[i].group & verb->options)))
			continue;
		snprintf(left, sizeof left, "%s%s%s", table[i].name, table[i].value ? " " : "",
			 table[i].value ? table[i].value : "");
		fprintf(to, "  %-28s  %s\n", left, table[i].help);
	}
	fputs("\nExit codes: 0 success, 1 failure, or a certificate that is wrong or expires soon, 2 wrong "
	      "usage.\n",
	      to);
}
