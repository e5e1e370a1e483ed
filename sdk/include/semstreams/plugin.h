/* SPDX-License-Identifier: MIT */
/*
 * semstreams/plugin.h - the plugin ABI of semstreams, major version 1.
 *
 * A plugin is a shared object that exports one data symbol, semstreams_entry_v1, and has no undefined
 * symbol of the host: everything it may ask for comes through the tables below.  No third-party type
 * crosses the border.  The header compiles as C11 and as C++11.
 *
 * Domains.  Each function and callback carries one of three tags:
 *   [ctl]   life-cycle calls from the control thread; never while the instance runs.
 *   [inst]  everything that moves data of one instance (start, process, timers, file descriptors, posts,
 * ...): never two at once per instance, on the loop the instance lives on.  A plugin needs no lock. [any]
 * thread-safe, from any thread, at any time between create and destroy.
 *
 * Ownership.  Each side frees what it made.  What is passed in is borrowed for the call unless the comment
 * says longer.  Descriptors and option tables are immutable and live for ever.
 *
 * Errors.  Functions return 0 or a negative errno; out-parameters are set on success only.
 *
 * Growth.  Structs that start with struct_size may grow at the end; whoever allocates one fills in its size,
 * the other side reads a member younger than 1.0 only where SS_KNOWS says so.  Absent means zero.
 */
#ifndef SEMSTREAMS_PLUGIN_H
#define SEMSTREAMS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SS_ABI_MAJOR 1
#define SS_EXPORT    __attribute__((visibility("default")))

/* Did whoever filled *p know member m?  Only needed for members younger than 1.0. */
#define SS_KNOWS(p, type, m) ((p)->struct_size >= offsetof(type, m) + sizeof(((const type *)0)->m))

/* Log levels; gaps on purpose. */
enum { SS_LOG_ERROR = 0, SS_LOG_WARN = 10, SS_LOG_INFO = 20, SS_LOG_DEBUG = 30 };

/* What a component is.  A source has no input, a sink no output, a processor both. */
enum { SS_KIND_SOURCE = 1, SS_KIND_PROCESSOR = 2, SS_KIND_SINK = 4, SS_KIND_PROVIDER = 8 };

/* Flags of a component type. */
enum {
	/* Its callbacks may wait, or compute for more than about a millisecond at a time: an instance gets a
	 * loop, which is a thread, of its own.  Without the flag it shares the loop of the chain it is in, so
	 * that a batch goes from one component to the next without a wake-up. */
	SS_OWN_LOOP = 1
};

/* What process() did with a batch. */
enum {
	SS_DONE = 0, /* finished with it: events neither emitted nor dropped count as filtered (processor) or
		      * delivered (sink) */
	SS_KEPT = 1, /* keeps it, without a reference of its own, until it calls host->done() for it */
	SS_BUSY = 2  /* did not take it: offered again after host->input_ready() */
};

/* What became of the events behind a token; the worst of all holders is reported. */
enum {
	SS_DELIVERED = 0, /* everybody who was to have them has them, as durably as configured */
	SS_DROPPED = 1,   /* lost to a configured policy, and counted: do not send again */
	SS_FAILED = 2     /* could not be kept: send again */
};

/* ---- events, batches, tokens ----------------------------------------------------------------------------
 */

/* One event: opaque bytes (JSON text by convention) and when they were received. */
struct ss_event {
	const uint8_t *data; /* in the memory of the batch or of one of its ancestors; not NUL-terminated */
	uint32_t len;        /* bytes */
	uint32_t flags;      /* 0; a processor passes on what it does not know */
	uint64_t time_ns;    /* wall clock at receipt, ns since 1970-01-01T00:00:00Z */
	uint64_t seq;        /* sequence in the stream of the batch's position, 0 = none */
};

struct ss_token; /* opaque: the promise to tell a source what became of its events */

/*
 * A batch: rows that point into memory the batch keeps alive.  Made by the host (batch_new), filled by its
 * maker, immutable once emitted; reference counted and shared by everybody it is sent to.  May grow.
 */
struct ss_batch {
	uint32_t struct_size;
	uint32_t count;     /* rows in use; set by the maker */
	uint32_t capacity;  /* rows allocated */
	uint32_t footprint; /* bytes of memory to account for; 0 = payload plus index (the host works it out)
			     */
	struct ss_event *events; /* rows; to be written by the maker only, before emit */
	uint8_t *data;           /* memory of its own, NULL if it has none; to be written like events */
	size_t size;             /* bytes at data */
	struct ss_token *token;  /* NULL = nobody waits for an acknowledgement */
};

/* Where in a resumable stream a batch lies.  Fixed size. */
struct ss_position {
	uint8_t epoch[16]; /* identity of the sender's log; sequences of different epochs do not compare */
	uint64_t seq;      /* of the newest event covered */
};

/* ---- options --------------------------------------------------------------------------------------------
 */

/*
 * In the conf struct, strings and JSON are const char * (NULL = not set), everything else is int64_t.
 */
enum {
	SS_OPT_STRING = 1,
	SS_OPT_INT = 2,
	SS_OPT_BOOL = 3,     /* 0 or 1 */
	SS_OPT_BYTES = 4,    /* "64MiB" or an integer */
	SS_OPT_DURATION = 5, /* "500ms", "8h"; stored in ns */
	SS_OPT_ENUM = 6,     /* one of choices; stored as its index */
	SS_OPT_JSON = 7      /* any JSON value, stored as its text; the plugin checks it in create */
};
enum { SS_OPT_REQUIRED = 1, SS_OPT_SECRET = 2, SS_OPT_DEPRECATED = 4 };

struct ss_option {
	const char *key;
	const char
		*default_text; /* as it would stand in the config, strings without quotes; NULL = not set */
	const char *help;      /* one sentence, with the unit */
	const char *const *choices; /* SS_OPT_ENUM: NULL-ended */
	const char *schema; /* SS_OPT_JSON: a JSON Schema of the value, for editors; NULL = anything */
	uint32_t type, flags;
	uint32_t offset; /* of the member in the conf struct */
	uint32_t reserved;
	int64_t min, max; /* INT, BYTES, DURATION (ns); both 0 = no limits but the type's */
};

/* ---- metrics --------------------------------------------------------------------------------------------
 */

enum { SS_METRIC_COUNTER = 1, SS_METRIC_GAUGE = 2 };

/*
 * One row of a component's metric table.  The host adds the label component="<id>".  label is one fixed extra
 * label, as in reason="truncated"; rows may share a name if they differ in it.  No label may hold what a peer
 * sent.
 */
struct ss_metric {
	const char *name; /* whole name, semstreams_..., counters end in _total */
	const char *help;
	const char *label; /* NULL, or: key="value" */
	uint32_t kind;
	uint32_t reserved;
};

/* ---- the host as one instance sees it -------------------------------------------------------------------
 */

struct ss_iface {
	const void *vtbl; /* the service's struct; starts with struct_size */
	void *self;       /* first argument of its functions */
};

/* One per instance, valid from create until destroy returns. */
struct ss_host {
	uint32_t struct_size;
	uint32_t reserved;
	void *impl;
	const char *id; /* the component's id in the config */

	/* [any] Write a finished line to the log, under the component's name.  Further "key=value" pairs may
	 * follow the message in text.  Equal lines in quick succession are counted, not repeated. */
	void (*log)(const struct ss_host *, int32_t level, const char *text);

	/* [ctl] In create only: report that the value at pointer (RFC 6901, relative to the component's
	 * "config", "" = all of it) is wrong and why.  The host adds file, line and column.  Any number of
	 * times; then return -EINVAL. */
	void (*config_error)(const struct ss_host *, const char *pointer, const char *text);

	/* [inst] A batch for up to rows events with bytes of memory of its own (0 = none); NULL if out of
	 * memory.  The caller owns the one reference.  With a parent, the batch keeps the parent's memory
	 * alive, so rows may point there, and shares its token; in a processor, each row then stands for one
	 * event of the parent. */
	struct ss_batch *(*batch_new)(const struct ss_host *, struct ss_batch *parent, uint32_t rows,
				      size_t bytes);
	/* [any] */
	void (*batch_ref)(struct ss_batch *);
	/* [any] NULL is allowed. */
	void (*batch_unref)(struct ss_batch *);

	/* [inst] Send a batch to whatever is wired to output port (0 is the first of the descriptor's
	 * outputs).  Takes references of its own, never the caller's; from now on the batch is immutable.
	 * Never fails: what a full blocking queue cannot take waits in the host, which then pauses the source
	 * or stops calling process(). */
	void (*emit)(const struct ss_host *, uint32_t port, struct ss_batch *);

	/* [inst] Count n events as lost for reasons[reason] of the descriptor.  In a processor or sink they
	 * are events of the batches it was given; in a source they are events that were never emitted. */
	void (*drop)(const struct ss_host *, uint32_t reason, uint64_t n);

	/* [inst] End of a batch that process() kept; status is one of SS_DELIVERED, SS_DROPPED, SS_FAILED.
	 * The batch is not to be touched any more. */
	void (*done)(const struct ss_host *, struct ss_batch *, int32_t status);

	/* [inst] After SS_BUSY: offer input again. */
	void (*input_ready)(const struct ss_host *);

	/* [inst] After drain() returned SS_BUSY: now everything is out. */
	void (*drained)(const struct ss_host *);

	/* [inst] In a source, before emit: tell acked(self, cookie, status) when all events of this batch and
	 * of all batches made from it have been dealt with.  position (may be NULL) says where they lie in a
	 * stream that can be resumed; it is copied.  -ENOMEM. */
	int32_t (*track)(const struct ss_host *, struct ss_batch *, uint64_t cookie,
			 const struct ss_position *position);

	/* [any] The position given to track(); -ENOENT if there is none.  source is the id of the component
	 * that made it, valid as long as the batch. */
	int32_t (*position)(const struct ss_batch *, struct ss_position *position, const char **source);

	/* [any] Hold a token beyond its batch (a window, a checkpoint); NULL is allowed. */
	void (*token_ref)(struct ss_token *);
	/* [any] Let go of it: status as in done(); NULL is allowed. */
	void (*token_unref)(struct ss_token *, int32_t status);

	/* [inst] Why the component cannot work at the moment, for /readyz and the log; NULL = it can again.
	 */
	void (*set_health)(const struct ss_host *, const char *reason);

	/* [any] Add to metrics[metric] of the descriptor: cheap on the instance's own loop, thread-safe
	 * anywhere. */
	void (*metric_add)(const struct ss_host *, uint32_t metric, int64_t delta);
	/* [any] Set a gauge. */
	void (*metric_set)(const struct ss_host *, uint32_t metric, int64_t value);

	/* [any] A service by id; -ENOENT: this host does not have it, -ENOTSUP: its struct is smaller than
	 * min_size. */
	int32_t (*query)(const struct ss_host *, const char *id, uint32_t min_size, struct ss_iface *out);

	/* [inst] Why the component works, but worse than it should (a peer that is away, a disk that fills),
	 * for "degraded" of /readyz; NULL = no more.  Independent of set_health().  See SS_KNOWS. */
	void (*set_degraded)(const struct ss_host *, const char *reason);

	/* [ctl] In create only: the instance will take this for itself: "file:/data/x", "tcp:ADDRESS:PORT" or
	 * "udp:ADDRESS:PORT" (ADDRESS numeric, empty for all).  If another component claims it as well, the
	 * host reports an error at pointer, as config_error() does.  0, -EEXIST, -ENOMEM.  See SS_KNOWS. */
	int32_t (*claim)(const struct ss_host *, const char *pointer, const char *resource);
};

/* ---- component types ------------------------------------------------------------------------------------
 */

/* Callbacks may be NULL where the text does not say otherwise. */
struct ss_component {
	uint32_t struct_size;
	uint32_t kind;    /* one of SS_KIND_... */
	const char *type; /* what "type" says in the config; [a-z0-9_], at most 63 bytes */
	const char *version, *summary, *license;

	const struct ss_option *options; /* rows option_size apart */
	uint32_t option_size, n_options;
	const struct ss_metric *metrics; /* rows metric_size apart */
	uint32_t metric_size, n_metrics;
	const char *const *outputs; /* names of the output ports, NULL-ended; NULL = one, unnamed */
	const char *const *reasons; /* why drop() loses events, NULL-ended */
	size_t conf_size; /* the host allocates, fills by the option table, owns until destroy returns */

	/* [ctl] Check conf, make *self.  No sockets, threads or files that others could see: `semstreams
	 * check` calls it too.  -EINVAL after config_error(), -ENOMEM, ...  Needed. */
	int32_t (*create)(const struct ss_host *, const void *conf, void **self);
	/* [ctl] Undo create; the instance has been stopped.  Needed. */
	void (*destroy)(void *self);
	/* [inst] Open sockets and files.  The host has started everything behind this component already. */
	int32_t (*start)(void *self);
	/* [inst] Close what start opened; also called when start of another component failed. */
	void (*stop)(void *self);
	/* [inst] One batch from input port; SS_DONE, SS_KEPT or SS_BUSY, or -errno: the batch is counted as
	 * dropped, reason "error".  Only called when every blocking queue behind has room.  Needed unless a
	 * source or provider. */
	int32_t (*process)(void *self, uint32_t port, struct ss_batch *);
	/* [inst] Source: a queue is full, take in nothing more / there is room again; also while it drains.
	 */
	void (*pause)(void *self);
	void (*resume)(void *self);
	/* [inst] Shutting down.  A source stops taking in and emits what it holds; a processor emits what it
	 * holds; a sink makes it durable.  No input comes any more.  0, or SS_BUSY and later host->drained().
	 */
	int32_t (*drain)(void *self);
	/* [inst] What became of a tracked batch; in any order. */
	void (*acked)(void *self, uint64_t cookie, int32_t status);
	/* [inst] Called with nothing else to do before the loop sleeps: flush what was put off for more
	 * input. */
	void (*idle)(void *self);
	/* [ctl] Further faces of the instance, by id, as in ss_host.query. */
	int32_t (*extension)(void *self, const char *id, uint32_t min_size, struct ss_iface *out);

	uint32_t flags; /* SS_OWN_LOOP */
	uint32_t reserved;
};

/* Data, so nothing runs when the file is looked at; the name carries the major version. */
struct ss_entry {
	uint32_t struct_size;
	uint32_t n_components;
	const struct ss_component *const *components;
};
extern SS_EXPORT const struct ss_entry semstreams_entry_v1;

/* SS_REGISTER(&a, &b); once per shared object. */
#define SS_REGISTER(...)                                                                                     \
	static const struct ss_component *const ss_components_[] = {__VA_ARGS__};                            \
	const struct ss_entry semstreams_entry_v1 = {                                                        \
		(uint32_t)sizeof(struct ss_entry),                                                           \
		(uint32_t)(sizeof ss_components_ / sizeof ss_components_[0]), ss_components_}

#ifdef __cplusplus
}
#endif
#endif
