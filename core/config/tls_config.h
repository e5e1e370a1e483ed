/* SPDX-License-Identifier: MIT */
/*
 * tls_config - "security.tls" of the configuration, checked.  Control thread only; pure: no file it names is
 * opened.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h> /* SS_TLS_... */
#include "core/config/diag.h"
#include "core/config/jdoc.h"

struct loader;

#define TLS_MAX_FILES 64   /* in a list of CA files */
#define TLS_MAX_NAMES 4096 /* in allowed_client_cns */
#define TLS_MAX_NAME  255  /* bytes of one of them */

/* The members of "security.tls", said once: tls_config.c accepts no others, and the JSON Schema is made of
 * them. */
#define TLS_MAX_KEYS 16 /* of a section */

struct tls_section;
struct tls_key {
	const char *name, *help;
	const char *schema;    /* JSON Schema of the value; NULL: a section */
	const char *otherwise; /* default, as JSON; NULL: none */
	const struct tls_section
		*section; /* NULL with a schema of NULL: an object, whose members are a provider's */
};
struct tls_section {
	const char *help;
	const char *rules; /* JSON Schema of what concerns several members; NULL: none */
	const struct tls_key *keys;
	size_t n;
	bool has_modes; /* settings of modes may stand here, each under the mode's name */
};
extern const struct tls_section tls_security;

enum { TLS_ROLES = 2 }; /* SS_TLS_SERVER, SS_TLS_CLIENT */

struct tls_file {
	char *path;               /* NULL: none */
	const struct jnode *node; /* where it is written */
};

struct tls_role {
	bool on;
	const char *mode; /* of a provider, whose turn comes before the files; NULL: files only */
	const struct ss_component *provider; /* the loader's; NULL: none, or not found, which was reported */
	struct tls_file cert, key;           /* both or none */
	struct tls_file *ca;
	const char **ca_paths; /* the same, NULL-ended; NULL: none */
	size_t n_ca;
	struct tls_file *crl; /* revocation lists */
	size_t n_crl;
	bool crl_soft;      /* peers are let in though a list is missing or out of date */
	const char **names; /* server: allowed_client_cns; the document's */
	size_t n_names;
	bool open_key;               /* whoever else may read the key, it is accepted */
	uint32_t min_version, flags; /* as in struct ss_tls_material */
};

struct tls_config {
	struct tls_role roles[TLS_ROLES];
};

/*
 * security is the member "security" of the document, NULL if absent, its references resolved already.  The
 * loader (NULL: every mode is taken as it is) finds the providers of modes and must outlive *out as the
 * document must; *out is to be released in any case.  0, -EINVAL with all errors in diag,
 * -ENOMEM.
 */
int tls_config_read(const struct jdoc *, const struct jnode *security, struct loader *, struct diag *,
		    struct tls_config *out);
void tls_config_done(struct tls_config *);
