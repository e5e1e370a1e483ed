/* SPDX-License-Identifier: MIT */
/* options - the command line of "semstreams pki": a verb, its operands, and what it was told.  Pure but for
 * messages on stderr. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "key.h"
#include "names.h"
#include "profile.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { FILES_MAX = 16 }; /* of a kind in options */

struct options {
	size_t verb;        /* its number in the table */
	const char **words; /* operands; in argv */
	size_t n_words;
	struct passphrase passphrase, ca_passphrase;
	const char *ca, *ca_key, *key, *roots, *name, *exec, *layout;
	const char *intermediates[FILES_MAX], *crls[FILES_MAX];
	size_t n_intermediates, n_crls;
	const char *reason; /* to revoke; one of index_reasons[] */
	const char *locations[64];
	size_t n_locations;
	const char *address;           /* NULL: the layout's */
	const struct profile *profile; /* NULL: the verb's */
	const char *key_type;          /* NULL: the profile's */
	int64_t life_s;                /* 0: the profile's */
	int path_len;                  /* -1: the profile's */
	struct names names;
	const char *fingerprint, *token_file, *token_env, *provisioner, *provider, *listen;
	int64_t wait_s;
	bool json, force, reuse_key, help, client, reinstate;
};

struct verb {
	const char *name, *operands, *help;
	size_t min, max;  /* of operands */
	unsigned options; /* bits, by group: OPTION_... */
	int (*run)(const struct options *);
};
enum {
	TAKES_CA = 1,      /* --ca, --ca-key and its passphrase */
	TAKES_KEY = 2,     /* --passphrase-... */
	TAKES_PROFILE = 4, /* --profile */
	TAKES_NAMES = 8,   /* --san */
	TAKES_LIFE = 16,   /* --validity */
	TAKES_LENGTH = 32, /* --path-length */
	TAKES_FORCE = 64,
	TAKES_VERIFY = 128, /* --roots, --intermediate, --crl, --name, --purpose, --key */
	TAKES_RENEW = 256,  /* --exec, --reuse-key */
	TAKES_LAYOUT = 512,
	TAKES_TYPE = 1024,           /* --key-type */
	TAKES_PLACES = 2048,         /* --location, --address */
	TAKES_CA_URL = 1 << 16,      /* --ca with a URL, --fingerprint, --roots */
	TAKES_TOKEN = 1 << 17,       /* --token-file, --token-env */
	TAKES_PROVISIONER = 1 << 18, /* --provisioner, --ca-passphrase-... */
	TAKES_PROVIDER = 1 << 19,    /* --provider, --wait */
	TAKES_ROOTS = 1 << 20,
	TAKES_LISTEN = 1 << 21,
	TAKES_REVOKE = 1 << 22, /* --key, --reason, --reinstate */
};

/* 0; -1: help was asked for; EXIT_USAGE, EXIT_FAILED after a message.  options_done() in any case. */
int options_parse(int argc, char **argv, const struct verb *verbs, size_t n, struct options *);
void options_done(struct options *);
/* Tell what is wrong with the command line, and be EXIT_USAGE. */
int wrong_usage(const char *text);
/* Help in general (verb NULL) or for one verb. */
void options_help(const struct verb *verbs, size_t n, const struct verb *, FILE *);
