/* SPDX-License-Identifier: MIT */
/*
 * semstreams/plugin.h - the plugin ABI of semstreams, major version 1: the core of it.  Services that a
 * plugin may ask for (loop, JSON fields, positions, attributes, TLS) are in semstreams/ext/.
 *
 * A plugin is a shared object that exports one data symbol, semstreams_entry_v1.  It has no undefined symbol
 * of the host: whatever it needs of the host it calls through the tables below.  No third-party type appears
 * here.  The header compiles as C11 and as C++11.
 *
 * Domains.  Each function and callback has one of three tags:
 *   [ctl]   Called in the control thread, before the instance starts or after it has stopped.
 *   [inst]  Called on the loop that the instance lives on, never two at once for one instance, so a plugin
 *           needs no lock.  start, process, timers, file descriptors, posts and so on.  The thread may be
 *           another one from call to call.
 *   [any]   Called in any thread, at any time between create and destroy.
 *
 * Ownership.  Each side frees what it allocated.  Arguments are borrowed for the duration of the call unless
 * the comment says otherwise.  Descriptors and option tables are constant and live as long as the process.
 *
 * Units.  len, size and names that end in _size: bytes; _ns and _ms: nano- and milliseconds.  Times of day
 * are those since 1970-01-01T00:00:00Z.
 *
 * Errors.  Functions that return int32_t return 0, or a negative errno.  Output parameters are set on success
 * only.  A call that breaks a rule has no effect and is named in the log.
 *
 * Growth.  Structs that begin with struct_size may grow at the end.  Whoever allocates such a struct sets the
 * size; the other side reads a member that is younger than version 1.0 only where SS_KNOWS says that it is
 * there.  A member that is absent counts as zero.
 */
#ifndef SEMSTREAMS_PLUGIN_H
#define SEMSTREAMS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The major version of the ABI, which the name of the entry has at its end. */
#define SS_ABI_MAJOR 1
/* Of the one symbol that a plugin exports, in objects that hide all others. */
#define SS_EXPORT __attribute__((visibility("default")))

/* Does the struct at p have member m?  Only needed for members that are younger than version 1.0. */
#define SS_KNOWS(p, type, m) ((p)->struct_size >= offsetof(type, m) + sizeof(((const type *)0)->m))

/* Log levels.  The gaps leave room for others. */
enum { SS_LOG_ERROR = 0, SS_LOG_WARN = 10, SS_LOG_INFO = 20, SS_LOG_DEBUG = 30 };

/* What a component is.  A source has outputs, a sink has inputs, a processor has both.  A provider has
 * neither: it brings TLS certificates (semstreams/ext/tls-provider.h). */
enum { SS_KIND_SOURCE = 1, SS_KIND_PROCESSOR = 2, SS_KIND_SINK = 4, SS_KIND_PROVIDER = 8 };

/* Flags of a component type. */
enum {
	/* Its callbacks may wait, or compute for more than about a millisecond at a time: an instance gets a
	 * loop, which is a thread, of its own.  Without the flag it shares the loop of the chain it is in, so
	 * that a batch goes from one component to the next without a wake-up. */
	SS_OWN_LOOP = 1,
	/* All files that it opens by name after create are told: by options with SS_OPT_READS or
	 * SS_OPT_WRITES, or by claims "reads:PATH" and "writes:PATH".  The host may keep the process to
	 * those.  Without the flag it does so only if the configuration lists paths. */
	SS_TELLS_PATHS = 2,
	/* Of a sink: it reaches nothing but files, which its options name, so that `semstreams test` runs it.
	 * Of sinks without the flag a test only sees what comes to them. */
	SS_FILES_ONLY = 4
};

/* What process() did with a batch. */
enum {
	/* The plugin is finished with it.  Events that were neither emitted nor dropped count as filtered (in
	 * a processor) or delivered (in a sink). */
	SS_DONE = 0,
	/* The plugin keeps it and calls host->done() for it later, exactly once.  It needs no reference of
	 * its own for that. */
	SS_KEPT = 1,
	/* The plugin did not take it.  It is offered again after host->input_ready(); until then no other
	 * batch is. */
	SS_BUSY = 2
};

/* What became of events.  A token reports the worst status of all its holders. */
enum {
	SS_DELIVERED = 0, /* all that should have them have them, as durably as configured */
	SS_DROPPED = 1,   /* lost by a configured policy, and counted; do not send them again */
	SS_FAILED = 2     /* could not be stored or passed on; send them again */
};

/* ---- events, batches, tokens ------------------------------------------------------------------- */

/* One event: bytes that the host does not look at (JSON text by convention), and when they were received. */
struct ss_event {
	const uint8_t *data; /* in memory of the batch or of one of its parents, valid as long as the
				batch; not NUL-terminated */
	uint32_t len;        /* bytes */
	uint16_t flags;      /* 0; a processor passes on bits that it does not know */
	uint16_t attributes; /* 1 + index into the batch's attributes; 0: none; see
				semstreams/ext/attributes.h */
	uint64_t time_ns;    /* wall clock when received, ns since 1970-01-01T00:00:00Z */
	uint64_t seq;        /* sequence in the stream that the batch's position is of; 0 = none */
};

struct ss_attributes; /* semstreams/ext/attributes.h */
struct ss_token;      /* opaque: the promise to report to a source what became of its events */

/*
 * A batch: rows that point into memory which the batch keeps alive.  host->batch_new() makes it and whoever
 * called that fills it in.  Once emitted it is immutable, and shared by all that it is sent to; it is freed
 * when its last reference is gone.
 */
struct ss_batch {
	uint32_t struct_size;
	uint32_t count;    /* rows in use, at most capacity; set by the maker */
	uint32_t capacity; /* rows allocated */
	/* Bytes of memory that queues account for; 0: the host computes payload plus rows.  Set by the maker
	 * where the batch keeps more memory alive than its rows show. */
	uint32_t footprint;
	struct ss_event *events; /* rows; written by the maker only, before emit */
	uint8_t *data;           /* memory of its own, written like events; NULL if it has none */
	size_t size;             /* bytes at data */
	struct ss_token *token;  /* NULL: nobody waits for an acknowledgement */
	/* What rows name by their member attributes; the host's.  A batch made from a parent has those that
	 * its parent had, so that rows which are copied keep their index. */
	const struct ss_attributes *const *attributes;
	uint32_t n_attributes; /* how many those are */
	uint32_t reserved;     /* 0 */
};

/* Where a batch is in a stream that can be resumed.  This struct does not grow. */
struct ss_position {
	uint8_t stream[16]; /* which of the source's streams; all zero where it has one only */
	uint8_t epoch[16];  /* identity of the sender's log; sequences of different epochs cannot be compared
			     */
	uint64_t seq;       /* of the newest event */
};

/* ---- options ----------------------------------------------------------------------------------- */

/* Types of options.  In the conf struct, a string or JSON is a const char * (NULL: not set); all else is an
 * int64_t. */
enum {
	SS_OPT_STRING = 1,   /* any text */
	SS_OPT_INT = 2,      /* an integer */
	SS_OPT_BOOL = 3,     /* 0 or 1 */
	SS_OPT_BYTES = 4,    /* "64MiB" or an integer */
	SS_OPT_DURATION = 5, /* "500ms", "8h"; stored in ns */
	SS_OPT_ENUM = 6,     /* one of the choices; stored as its index */
	SS_OPT_JSON = 7      /* any JSON value, stored as its text; create checks it */
};
/* Flags of an option, combined by |. */
enum {
	SS_OPT_REQUIRED = 1,   /* a configuration without it is refused */
	SS_OPT_SECRET = 2,     /* its value is shown in no message, page or log line */
	SS_OPT_DEPRECATED = 4, /* it is taken, with a warning */
	SS_OPT_READS = 8,      /* SS_OPT_STRING: the path of a file or folder that is read */
	SS_OPT_WRITES = 16,    /* SS_OPT_STRING: the path of a file or folder that is written.  Where it has a
				 '%', the folder before that is meant. */
	SS_OPT_LIVE = 32,      /* reconfigure() takes over another value while the instance runs */
	SS_OPT_REFUSALS = 64   /* it says what becomes of events that the instance refuses: where no option
				* with this flag is set and nothing reads the output "error", `semstreams
				* check` gives a hint */
};

/* One row of a type's table of options.  What it points to is constant, as long as the process. */
struct ss_option {
	const char *key;            /* its name in the config */
	const char *default_text;   /* as written in the config, a string without quotes; NULL: not set */
	const char *help;           /* one sentence, with the unit */
	const char *const *choices; /* SS_OPT_ENUM: NULL-terminated */
	const char *schema;   /* SS_OPT_JSON: a JSON Schema of the value, for editors; NULL: any value */
	uint32_t type, flags; /* SS_OPT_..., the flags combined by | */
	uint32_t offset;      /* of the member in the conf struct */
	uint32_t reserved;    /* 0 */
	int64_t min, max;     /* SS_OPT_INT, BYTES, DURATION (ns); both 0: no limits but those of the type */
};

/* ---- metrics ----------------------------------------------------------------------------------- */

/* Kinds of metrics: one only grows, the other goes up and down. */
enum { SS_METRIC_COUNTER = 1, SS_METRIC_GAUGE = 2 };

/*
 * One row of a type's table of metrics.  The host adds the label component="<id>".  A row may have one more
 * label, which is fixed, as in reason="truncated"; rows may share a name if their labels differ.  No label
 * may contain what a peer sent.  Strings are constant, as long as the process.
 */
struct ss_metric {
	const char *name;  /* the whole name, semstreams_...; that of a counter ends in _total */
	const char *help;  /* one sentence */
	const char *label; /* key="value", or NULL */
	uint32_t kind;     /* SS_METRIC_... */
	uint32_t reserved; /* 0 */
};

/* ---- the host as one instance sees it ---------------------------------------------------------- */

/* An interface that was asked for by its id.  Both pointers are valid as long as the instance. */
struct ss_iface {
	const void *vtbl; /* the struct of the service, which begins with struct_size */
	void *self;       /* the first argument of its functions */
};

/* One for each instance, valid from create until destroy returns. */
struct ss_host {
	uint32_t struct_size;
	uint32_t reserved; /* 0 */
	void *impl;        /* the host's */
	const char *id;    /* of the component in the config; valid as long as this struct */

	/* [any] Write a line to the log, under the id of the component.  text is a message, which "key=value"
	 * pairs may follow.  Equal messages in quick succession are counted instead of written. */
	void (*log)(const struct ss_host *, int32_t level, const char *text);

	/* [ctl] In create only: report that the value at pointer (RFC 6901, relative to the component's
	 * "config"; "" is all of it) is wrong, and why.  The host adds file, line and column.  May be called
	 * several times; create then returns -EINVAL. */
	void (*config_error)(const struct ss_host *, const char *pointer, const char *text);

	/* [inst] Make a batch with room for at least that many rows and with at least that many bytes of
	 * memory of its own (0: none).  The caller owns the one reference.  NULL: out of memory. With a
	 * parent (borrowed), the batch holds a reference to it, so that rows may point into its memory, and
	 * shares its token.  In a processor each row of such a batch stands for one event of the parent. */
	struct ss_batch *(*batch_new)(const struct ss_host *, struct ss_batch *parent, uint32_t rows,
				      size_t bytes);
	/* [any] Add a reference. */
	void (*batch_ref)(struct ss_batch *);
	/* [any] Give a reference back; the batch is freed with the last one.  NULL is allowed. */
	void (*batch_unref)(struct ss_batch *);

	/* [inst] Send a batch to all that is wired to an output; port is an index into outputs of the
	 * descriptor. The caller keeps its reference.  From now on nobody changes the batch.  Never fails:
	 * what a full blocking queue cannot take waits in the host, which pauses the source or stops calling
	 * process() until there is room.  Not after drain() has ended. */
	void (*emit)(const struct ss_host *, uint32_t port, struct ss_batch *);

	/* [inst] Count n events as lost for reasons[reason] of the descriptor.  In a processor or sink these
	 * are events of batches that process() was given and has not finished; in a source, events that were
	 * never emitted. */
	void (*drop)(const struct ss_host *, uint32_t reason, uint64_t n);

	/* [inst] Finish a batch that process() keeps, once; status is SS_DELIVERED, SS_DROPPED or SS_FAILED.
	 * May be called before that process() has returned SS_KEPT.  The batch must not be touched
	 * afterwards. */
	void (*done)(const struct ss_host *, struct ss_batch *, int32_t status);

	/* [inst] After process() returned SS_BUSY: offer the batch again. */
	void (*input_ready)(const struct ss_host *);

	/* [inst] After drain() returned SS_BUSY: all that the instance held is out now. */
	void (*drained)(const struct ss_host *);

	/* [inst] In a source, before emit: have acked(self, cookie, status) called once all events of this
	 * batch, and of all batches made from it, are finished.  position (copied; NULL: none) says where
	 * they are in a stream that can be resumed: see semstreams/ext/positions.h.  -ENOMEM. */
	int32_t (*track)(const struct ss_host *, struct ss_batch *, uint64_t cookie,
			 const struct ss_position *position);

	/* [any] Get the position that was given to track(), and the id of the source that gave it, which is
	 * valid as long as the batch.  -ENOENT: the batch has none. */
	int32_t (*position)(const struct ss_batch *, struct ss_position *position, const char **source);

	/* [any] Hold a token for longer than its batch, as for a window or a checkpoint.  NULL is allowed. */
	void (*token_ref)(struct ss_token *);
	/* [any] Give a token that was held back; status as in done().  NULL is allowed. */
	void (*token_unref)(struct ss_token *, int32_t status);

	/* [inst] Say why the component cannot work at the moment: /readyz answers 503 with this reason
	 * (copied). NULL: it can again. */
	void (*set_health)(const struct ss_host *, const char *reason);

	/* [any] Add to metrics[metric] of the descriptor. */
	void (*metric_add)(const struct ss_host *, uint32_t metric, int64_t delta);
	/* [any] Set metrics[metric] of the descriptor, a gauge. */
	void (*metric_set)(const struct ss_host *, uint32_t metric, int64_t value);

	/* [any] Get a service by its id: its functions and their first argument, valid as long as the
	 * instance. -ENOENT: this host does not have it.  -ENOTSUP: its struct is smaller than min_size. */
	int32_t (*query)(const struct ss_host *, const char *id, uint32_t min_size, struct ss_iface *out);

	/* [inst] Say why the component works worse than it should (a peer that is away, a disk that fills):
	 * /readyz shows the reason (copied) in "degraded".  NULL: it works well again.  Independent of
	 * set_health(). */
	void (*set_degraded)(const struct ss_host *, const char *reason);

	/* [ctl] In create only: the instance will use this resource alone: "file:/data/x", "tcp:ADDRESS:PORT"
	 * or "udp:ADDRESS:PORT", where ADDRESS is numeric (0.0.0.0 and :: stand for all of their family), or
	 * empty for all of both families.  If another component claims it as well, the host reports an error
	 * at pointer, as config_error() does; providers share, and have to take turns.  "descriptors:N" is no
	 * claim for itself: as many files and sockets the instance may have open at once; the host raises the
	 * limit, or warns at pointer where it cannot.  Nor are "reads:PATH" and "writes:PATH", files and
	 * folders that are in no option with SS_OPT_READS or SS_OPT_WRITES, and "capability:NAME", one of
	 * Linux that start makes use of if the process has it; nor "reaches:URL", a peer or a CA that the
	 * instance connects to, of ws, wss, http or https, which `semstreams check --connect` and `semstreams
	 * doctor` ask with a plain GET.  Its certificate is verified against what security.tls.client trusts;
	 * behind the URL may stand " ca=PATH", another file of CAs, or " ca=any" where the instance verifies
	 * it in a way of its own; of nats and tls, a server of NATS, its greeting is looked at, and behind
	 * the URL may stand " version=N.N REMEDY", the least version, and what to do about an older one; nor
	 * "secret:PATH", a file with a secret, about which the host warns at
	 * pointer if it is there and open to group or others.  -EEXIST, -ENOMEM.
	 */
	int32_t (*claim)(const struct ss_host *, const char *pointer, const char *resource);

	/* [inst] 1 if a component reads this output, else 0: what is emitted there then comes out nowhere. */
	int32_t (*output_read)(const struct ss_host *, uint32_t port);
};

/* ---- messages for tests ------------------------------------------------------------------------ */

/* What a source is given in a test of a configuration, as if it had come in from outside.  Borrowed during
 * the call. */
struct ss_message {
	uint32_t struct_size, reserved;
	const uint8_t *data; /* a datagram, a message; not NUL-terminated */
	size_t len;          /* bytes at data */
	const char *address; /* who sent it: "192.0.2.1:4711", "[2001:db8::1]:4711"; NULL: not said */
	const char *peer;    /* the name of its verified certificate; NULL: it has none */
};

/* ---- component types --------------------------------------------------------------------------- */

/* A component type.  Callbacks may be NULL unless the comment says "required".  The descriptor and all it
 * points to is constant, as long as the process. */
struct ss_component {
	uint32_t struct_size;
	uint32_t kind;       /* one of SS_KIND_... */
	const char *type;    /* the value of "type" in the config: [a-z0-9_], at most 63 bytes; required */
	const char *version; /* of the type, for people */
	const char *summary; /* what it does, in one sentence */
	const char *license; /* by its SPDX name */

	const struct ss_option *options; /* its table of options; NULL: none */
	uint32_t option_size;            /* rows are so far apart: sizeof(struct ss_option) */
	uint32_t n_options;              /* rows */
	const struct ss_metric *metrics; /* its table of metrics; NULL: none */
	uint32_t metric_size;            /* rows are so far apart: sizeof(struct ss_metric) */
	uint32_t n_metrics;              /* rows */
	const char *const *outputs;      /* names of the outputs, NULL-terminated; NULL: one without a name */
	const char *const *reasons;      /* why drop() loses events, NULL-terminated; NULL: none */
	size_t conf_size; /* of the conf struct, which the host allocates and fills by the option table */

	/* [ctl] Check conf, which is valid until destroy returns, and set *self.  Opens no socket or file and
	 * starts no thread: `semstreams check` calls it, too.  -EINVAL after config_error(), -ENOMEM.
	 * Required. */
	int32_t (*create)(const struct ss_host *, const void *conf, void **self);
	/* [ctl] Free the instance, which has been stopped or was never started.  Required. */
	void (*destroy)(void *self);
	/* [inst] Open sockets and files.  All components downstream have started.  0, or -errno after the
	 * plugin has logged why: then the program ends. */
	int32_t (*start)(void *self);
	/* [inst] Close what start opened.  Called once after start, also when this or another start failed.
	 */
	void (*stop)(void *self);
	/* [inst] Take one batch (borrowed) that came in by that input: SS_DONE, SS_KEPT, SS_BUSY, or a
	 * negative errno; then its events count as dropped, reason "error".  Only called while every blocking
	 * queue downstream has room.  Required in a processor or sink. */
	int32_t (*process)(void *self, uint32_t port, struct ss_batch *);
	/* [inst] In a source: a queue downstream is full, emit nothing more. */
	void (*pause)(void *self);
	/* [inst] In a source: there is room again.  Both are also called while the source drains. */
	void (*resume)(void *self);
	/* [inst] The program ends and no more input comes.  A source stops taking in and emits what it holds;
	 * a processor emits what it holds; a sink makes it durable.  0: nothing is held any more.  SS_BUSY:
	 * host->drained() will be called.  -errno: it failed, which is logged, and counts as 0. */
	int32_t (*drain)(void *self);
	/* [inst] In a source: what became of a batch that was given to track().  In any order. */
	void (*acked)(void *self, uint64_t cookie, int32_t status);
	/* [inst] The loop has nothing more to do for now, and the instance was called since the last time:
	 * pass on or write what was gathered. */
	void (*idle)(void *self);
	/* [ctl] Get a further interface of the instance by its id; as ss_host.query.  0; -ENOENT; -ENOTSUP.
	 */
	int32_t (*extension)(void *self, const char *id, uint32_t min_size, struct ss_iface *out);

	uint32_t flags;    /* SS_OWN_LOOP, SS_TELLS_PATHS, SS_FILES_ONLY, combined by | */
	uint32_t reserved; /* 0 */

	/* Members below are younger than version 1.0: see SS_KNOWS. */

	/* [inst] In a source, for `semstreams test`: take a message (borrowed) as if it had come in from
	 * outside, and emit what comes of it at once or in idle().  start() is not called, so nothing is
	 * open; pause(), resume(), drain() and stop() come as if it had been.  -EINVAL: the address is none;
	 * -ENOMEM. */
	int32_t (*inject)(void *self, const struct ss_message *);
	/* [inst] The configuration was read again, and only options with SS_OPT_LIVE have changed: take them
	 * over from fresh, an instance that create() has made of the new conf and that was never started, by
	 * exchanging what was made of them; fresh is destroyed afterwards.  Its conf takes the place of the
	 * old one, which is not valid any more when this returns; services that fresh has asked its host for
	 * are valid as long as its conf.  It cannot fail: what could has been done by create().  Absent: an
	 * instance whose options have changed is replaced. */
	void (*reconfigure)(void *self, void *fresh);
};

/* What a plugin exports.  It is data, so that no code runs when the file is examined.  The name of the symbol
 * has the major version. */
struct ss_entry {
	uint32_t struct_size;
	uint32_t n_components;                        /* how many */
	const struct ss_component *const *components; /* constant, as long as the process */
};
/* The entry of this plugin, which SS_REGISTER defines. */
extern SS_EXPORT const struct ss_entry semstreams_entry_v1;

/* Define the entry: SS_REGISTER(&a, &b); once in a shared object. */
#define SS_REGISTER(...)                                                                                     \
	static const struct ss_component *const ss_components_[] = {__VA_ARGS__};                            \
	const struct ss_entry semstreams_entry_v1 = {                                                        \
		(uint32_t)sizeof(struct ss_entry),                                                           \
		(uint32_t)(sizeof ss_components_ / sizeof ss_components_[0]), ss_components_}

#ifdef __cplusplus
}
#endif
#endif
