/* SPDX-License-Identifier: MIT */
/*
 * config - from a JSON file to a checked graph of components.  Pure but for reading the file, the secrets it
 * names and the environment.  Everything wrong goes to one diag.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"
#include "core/config/admin_config.h"
#include "core/config/sandbox_config.h"
#include "core/config/tls_config.h"

struct claims;
struct rates;
struct loader;

enum overflow { OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST };

struct queue_limits {
	uint64_t events;
	uint64_t bytes; /* payload and index */
	enum overflow overflow;
};

#define CONFIG_MAX_COMPONENTS 256
#define CONFIG_MAX_INPUTS     256 /* of one component */
#define CONFIG_MAX_ID         63  /* bytes */
#define QUEUE_EVENTS_DEFAULT  65536
#define QUEUE_BYTES_DEFAULT   (64u << 20)

struct config_input {
	size_t from;   /* index of the component, never its own */
	uint32_t port; /* its output */
	struct queue_limits limits;
	struct jnode *node; /* where it is written; NULL: by list order */
};

struct config_component {
	char *id, *type;
	char *worker;               /* NULL: a loop of its own */
	struct jnode *node;         /* the component's object */
	struct jnode *options;      /* its "config"; NULL if absent */
	struct queue_limits limits; /* of its inputs that have none of their own */
	struct config_input *inputs;
	size_t n_inputs;
	uint32_t tls_roles; /* whose certificate it provides, 1 << SS_TLS_...; 0 in "components" */
	bool complete;      /* id, type and options are right: an instance may be created */
	bool testable;      /* an instance may be created to look for further errors, not to run */
	const struct ss_component *desc; /* set by config_resolve; the loader's */
	void *conf;                      /* desc->conf_size bytes, filled; strings belong to it */
	char **strings;                  /* what conf points to */
	size_t n_strings;
	const char **wrong; /* keys of its options that are wrong, which has been reported */
	size_t n_wrong;
};

struct config {
	unsigned borrowers; /* who keep it beside its owner; of the control thread */
	struct jdoc *doc;
	struct config_component *components;
	size_t n_components;
	char **plugin_paths;
	size_t n_plugin_paths;
	uint64_t watchdog_ns;   /* a callback that takes longer is reported */
	uint64_t held_watch_ns; /* batches kept for longer are reported; 0: none are */
	bool strict;            /* check all rules of the plugin ABI ("plugins": {"strict": true}) */
	char *admin_listen;     /* "host:port", NULL = no admin port ("admin": {"listen": "off"}) */
	struct admin_config admin;
	int log_level; /* SS_LOG_... */
	bool log_json;
	bool log_journal;     /* entries with fields if stderr is the journal */
	uint32_t max_streams; /* whose positions a component remembers ("positions") */
	uint32_t
		forget_streams_min; /* minutes after which one is forgotten that nothing came of; 0 = never */
	struct jnode *security;     /* the "security" object, NULL if absent; references in its strings are
				     * resolved, but those in the settings of TLS providers */
	bool security_unclear;      /* a reference in it could not be resolved, which was reported */
	struct claims *claims;      /* what is taken by the admin port and by instances */
	struct rates *rates;        /* how much instances may send */
	struct tls_config tls;      /* set by config_resolve */
	struct sandbox_config sandbox;
	/* Hidden components by role, of those whose certificate is from a provider; id NULL: none.  Set by
	 * config_resolve. */
	struct config_component providers[TLS_ROLES];
};

#define TLS_PROVIDER_SHARED "tls" /* id of a provider for both roles */

/*
 * Read and check everything that needs no plugin: syntax, keys, types, ids, inputs' ids, cycles.  *out is set
 * even with errors as long as the file is an object, so that config_resolve can find more (components may
 * lack id and type then); 0, -EINVAL with errors in diag, or -ENOMEM.
 */
int config_load(const char *file, struct diag *, struct config **out);
/* The same from memory: tests and fuzzing. */
int config_parse(const char *file, const char *text, size_t len, struct diag *, struct config **out);

/*
 * Look the types up, check each component's options against its table into conf, check and complete the
 * wiring by kind (list order for a component that takes input and has no "inputs"; warnings for loose ends).
 * 0, -EINVAL, -ENOMEM.
 */
int config_resolve(struct config *, struct loader *, struct diag *);

/* Report an error below a component's "config", as struct ss_host.config_error has it. */
void config_component_error(const struct config *, const struct config_component *, struct diag *,
			    const char *pointer, const char *text);

/* The component takes a resource, as in claim of struct ss_host, for itself; an error at pointer if another
 * has it. 0, -EEXIST, -ENOMEM. */
int config_claim(const struct config *, const struct config_component *, struct diag *, const char *pointer,
		 const char *resource);

/* Give it back, as its owner or after config_ref(); the last one frees it.  NULL is allowed. */
void config_free(struct config *);
/* Keep it until config_free() is called once more; returns it. */
const struct config *config_ref(const struct config *);
