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
 *   [inst]  everything that moves data of one instance (start, process, timers, file descriptors, posts, ...):
 *           never two at once per instance, on the loop the instance lives on.  A plugin needs no lock.
 *   [any]   thread-safe, from any thread, at any time between create and destroy.
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
#define SS_EXPORT __attribute__((visibility("default")))

/* Did whoever filled *p know member m?  Only needed for members younger than 1.0. */
#define SS_KNOWS(p, type, m) \
	((p)->struct_size >= offsetof(type, m) + sizeof(((const type *)0)->m))

/* Log levels; gaps on purpose. */
enum { SS_LOG_ERROR = 0, SS_LOG_WARN = 10, SS_LOG_INFO = 20, SS_LOG_DEBUG = 30 };

/* What a component is.  A source has no input, a sink no output, a processor both. */
enum { SS_KIND_SOURCE = 1, SS_KIND_PROCESSOR = 2, SS_KIND_SINK = 4, SS_KIND_PROVIDER = 8 };

/* What process() did with a batch. */
enum {
	SS_DONE = 0, /* finished with it: events neither emitted nor dropped count as filtered (processor) or
	              * delivered (sink) */
	SS_KEPT = 1, /* keeps it, without a reference of its own, until it calls host->done() for it */
	SS_BUSY = 2  /* did not take it: offered again after host->ready() */
};

/* What became of the events behind a token; the worst of all holders is reported. */
enum {
	SS_DELIVERED = 0, /* everybody who was to have them has them, as durably as configured */
	SS_DROPPED = 1,   /* lost to a configured policy, and counted: do not send again */
	SS_FAILED = 2     /* could not be kept: send again */
};

/* ---- events, batches, tokens ---------------------------------------------------------------------------- */

/* One event: opaque bytes (JSON text by convention) and when they were received. */
struct ss_event {
	const uint8_t *data;  /* in the memory of the batch or of one of its ancestors; not NUL-terminated */
	uint32_t len;         /* bytes */
	uint32_t flags;       /* 0; a processor passes on what it does not know */
	uint64_t time_ns;     /* wall clock at receipt, ns since 1970-01-01T00:00:00Z */
	uint64_t seq;         /* sequence in the stream of the batch's position, 0 = none */
};

struct ss_token; /* opaque: the promise to tell a source what became of its events */

/*
 * A batch: rows that point into memory the batch keeps alive.  Made by the host (batch_new), filled by its
 * maker, immutable once emitted; reference counted and shared by everybody it is sent to.  May grow.
 */
struct ss_batch {
	uint32_t struct_size;
	uint32_t count;           /* rows in use; set by the maker */
	uint32_t capacity;        /* rows allocated */
	uint32_t footprint;       /* bytes of memory to account for; 0 = payload plus index (the host works it out) */
	struct ss_event *events;  /* rows; to be written by the maker only, before emit */
	uint8_t *data;            /* memory of its own, NULL if it has none; to be written like events */
	size_t size;              /* bytes at data */
	struct ss_token *token;   /* NULL = nobody waits for an acknowledgement */
};

/* Where in a resumable stream a batch lies.  Fixed size. */
struct ss_position {
	uint8_t epoch[16]; /* identity of the sender's log; sequences of different epochs do not compare */
	uint64_t seq;      /* of the newest event covered */
};

/* ---- options -------------------------------------------------------------------------------------------- */

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
	const char *default_text;    /* as it would stand in the config, strings without quotes; NULL = not set */
	const char *help;            /* one sentence, with the unit */
	const char *const *choices;  /* SS_OPT_ENUM: NULL-ended */
	const char *schema;          /* SS_OPT_JSON: a JSON Schema of the value, for editors; NULL = anything */
	uint32_t type, flags;
	uint32_t offset;             /* of the member in the conf struct */
	uint32_t reserved;
	int64_t min, max;            /* INT, BYTES, DURATION (ns); both 0 = no limits but the type's */
};

/* ---- metrics -------------------------------------------------------------------------------------------- */

enum { SS_METRIC_COUNTER = 1, SS_METRIC_GAUGE = 2 };

/*
 * One row of a component's metric table.  The host adds the label component="<id>".  label is one fixed extra
 * label, as in reason="truncated"; rows may share a name if they differ in it.  No label may hold what a peer sent.
 */
struct ss_metric {
	const char *name;  /* whole name, semstreams_..., counters end in _total */
	const char *help;
	const char *label; /* NULL, or: key="value" */
	uint32_t kind;
	uint32_t reserved;
};

/* ---- the host as one instance sees it ------------------------------------------------------------------- */

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

	/* [any] Write a finished line to the log, under the component's name.  Further "key=value" pairs may follow the
	 * message in text.  Equal lines in quick succession are counted, not repeated. */
	void (*log)(const struct ss_host *, int32_t level, const char *text);

	/* [ctl] In create only: report that the value at pointer (RFC 6901, relative to the component's "config", "" =
	 * all of it) is wrong and why.  The host adds file, line and column.  Any number of times; then return -EINVAL. */
	void (*config_error)(const struct ss_host *, const char *pointer, const char *text);

	/* [inst] A batch for up to rows events with bytes of memory of its own (0 = none); NULL if out of memory.  The
	 * caller owns the one reference.  With a parent, the batch keeps the parent's memory alive, so rows may point
	 * there, and shares its token; in a processor, each row then stands for one event of the parent. */
	struct ss_batch *(*batch_new)(const struct ss_host *, struct ss_batch *parent, uint32_t rows, size_t bytes);
	/* [any] */
	void (*batch_ref)(struct ss_batch *);
	/* [any] NULL is allowed. */
	void (*batch_unref)(struct ss_batch *);

	/* [inst] Send a batch to whatever is wired to output port (0 is the first of the descriptor's outputs).  Takes
	 * references of its own, never the caller's; from now on the batch is immutable.  Never fails: what a full
	 * blocking queue cannot take waits in the host, which then pauses the source or stops calling process(). */
	void (*emit)(const struct ss_host *, uint32_t port, struct ss_batch *);

	/* [inst] Count n events as lost for reasons[reason] of the descriptor.  In a processor or sink they are events of
	 * the batches it was given; in a source they are events that were never emitted. */
	void (*drop)(const struct ss_host *, uint32_t reason, uint64_t n);

	/* [inst] End of a batch that process() kept; status is one of SS_DELIVERED, SS_DROPPED, SS_FAILED.  The
	 * batch is not to be touched any more. */
	void (*done)(const struct ss_host *, struct ss_batch *, int32_t status);

	/* [inst] After SS_BUSY: offer input again. */
	void (*ready)(const struct ss_host *);

	/* [inst] After drain() returned SS_BUSY: now everything is out. */
	void (*drained)(const struct ss_host *);

	/* [inst] In a source, before emit: tell acked(self, cookie, status) when all events of this batch and of all
	 * batches made from it have been dealt with.  position (may be NULL) says where they lie in a stream that can
	 * be resumed; it is copied.  -ENOMEM. */
	int32_t (*track)(const struct ss_host *, struct ss_batch *, uint64_t cookie, const struct ss_position *position);

	/* [any] The position given to track(); -ENOENT if there is none.  source is the id of the component that made
	 * it, valid as long as the batch. */
	int32_t (*position)(const struct ss_batch *, struct ss_position *position, const char **source);

	/* [any] Hold a token beyond its batch (a window, a check-point); NULL is allowed. */
	void (*token_ref)(struct ss_token *);
	/* [any] Let go of it: status as in done(); NULL is allowed. */
	void (*token_unref)(struct ss_token *, int32_t status);

	/* [inst] Why the component cannot work at the moment, for /readyz and the log; NULL = it can again. */
	void (*unready)(const struct ss_host *, const char *reason);

	/* [any] Add to metrics[metric] of the descriptor: cheap on the instance's own loop, thread-safe anywhere. */
	void (*metric_add)(const struct ss_host *, uint32_t metric, int64_t delta);
	/* [any] Set a gauge. */
	void (*metric_set)(const struct ss_host *, uint32_t metric, int64_t value);

	/* [any] A service by id; -ENOENT: this host does not have it, -ENOTSUP: its struct is smaller than min_size. */
	int32_t (*query)(const struct ss_host *, const char *id, uint32_t min_size, struct ss_iface *out);
};

/* ---- component types ------------------------------------------------------------------------------------ */

/* Callbacks may be NULL where the text does not say otherwise. */
struct ss_component {
	uint32_t struct_size;
	uint32_t kind;                      /* one of SS_KIND_... */
	const char *type;                   /* what "type" says in the config; [a-z0-9_], at most 63 bytes */
	const char *version, *summary, *license;

	const struct ss_option *options;    /* rows option_size apart */
	uint32_t option_size, n_options;
	const struct ss_metric *metrics;    /* rows metric_size apart */
	uint32_t metric_size, n_metrics;
	const char *const *outputs;         /* names of the output ports, NULL-ended; NULL = one, unnamed */
	const char *const *reasons;         /* why drop() loses events, NULL-ended */
	size_t conf_size;                   /* the host allocates, fills by the option table, owns until destroy returns */

	/* [ctl] Check conf, make *self.  No sockets, threads or files that others could see: `semstreams check` calls it
	 * too.  -EINVAL after config_error(), -ENOMEM, ...  Needed. */
	int32_t (*create)(const struct ss_host *, const void *conf, void **self);
	/* [ctl] Undo create; the instance has been stopped.  Needed. */
	void (*destroy)(void *self);
	/* [inst] Open sockets and files.  The host has started everything behind this component already. */
	int32_t (*start)(void *self);
	/* [inst] Close what start opened; also called when start of another component failed. */
	void (*stop)(void *self);
	/* [inst] One batch from input port; SS_DONE, SS_KEPT or SS_BUSY, or -errno: the batch is counted as dropped,
	 * reason "error".  Only called when every blocking queue behind has room.  Needed unless a source or provider. */
	int32_t (*process)(void *self, uint32_t port, struct ss_batch *);
	/* [inst] Source: a queue is full, take in nothing more / there is room again; also while it drains. */
	void (*pause)(void *self);
	void (*resume)(void *self);
	/* [inst] Shutting down.  A source stops taking in and emits what it holds; a processor emits what it holds; a sink
	 * makes it durable.  No input comes any more.  0, or SS_BUSY and later host->drained(). */
	int32_t (*drain)(void *self);
	/* [inst] What became of a tracked batch; in any order. */
	void (*acked)(void *self, uint64_t cookie, int32_t status);
	/* [inst] Called with nothing else to do before the loop sleeps: flush what was put off for more input. */
	void (*idle)(void *self);
	/* [ctl] Further faces of the instance, by id, as in ss_host.query. */
	int32_t (*extension)(void *self, const char *id, uint32_t min_size, struct ss_iface *out);
};

/* Data, so nothing runs when the file is looked at; the name carries the major version. */
struct ss_entry {
	uint32_t struct_size;
	uint32_t n_components;
	const struct ss_component *const *components;
};
extern SS_EXPORT const struct ss_entry semstreams_entry_v1;

/* SS_REGISTER(&a, &b); once per shared object. */
#define SS_REGISTER(...)                                                                       \
	static const struct ss_component *const ss_components_[] = {__VA_ARGS__};              \
	SS_EXPORT const struct ss_entry semstreams_entry_v1 = {                                \
	    (uint32_t)sizeof(struct ss_entry),                                                 \
	    (uint32_t)(sizeof ss_components_ / sizeof ss_components_[0]), ss_components_}

/* ---- services ------------------------------------------------------------------------------------------- */

/* The instance's loop.  Callbacks run [inst]. */
#define SS_LOOP "semstreams.loop/1"
enum { SS_FD_READ = 1, SS_FD_WRITE = 2 };
struct ss_loop {
	uint32_t struct_size, reserved;
	/* [inst] Call fn(arg) after first_ns, then each every_ns (0 = once). */
	int32_t (*timer)(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
	                 uint32_t *id);
	/* [inst] Call fn(arg, events) whenever fd is ready for one of events.  The fd stays the plugin's; cancel first,
	 * then close. */
	int32_t (*fd)(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
	              uint32_t *id);
	/* [inst] Other events for an fd watch; 0 = none for now. */
	int32_t (*change)(void *self, uint32_t id, uint32_t events);
	/* [inst] End a watch or timer; after return fn is not called again.  0 and unknown ids are ignored. */
	void (*cancel)(void *self, uint32_t id);
	/* [any] Run fn(arg) soon, [inst]; at the latest between stop and destroy. */
	int32_t (*post)(void *self, void (*fn)(void *arg), void *arg);
	/* [any] Monotonic clock, ns. */
	uint64_t (*now)(void *self);
	/* [inst] In start: batches may come up to ns late, as they wait for something else anyway.  Where all that follows says
	 * so, the host takes in more at once under load, which saves CPU. */
	void (*patience)(void *self, uint64_t ns);
};

/*
 * Reading fields of JSON documents (RFC 8259) in place: finds any number of fields in one validating pass, without
 * allocating.  All [any].
 */
#define SS_FIELDS "semstreams.fields/1"
enum {
	SS_JSON_MISSING = 0,
	SS_JSON_NULL = 1,
	SS_JSON_FALSE = 2,
	SS_JSON_TRUE = 3,
	SS_JSON_NUMBER = 4,
	SS_JSON_STRING = 5,
	SS_JSON_ARRAY = 6,
	SS_JSON_OBJECT = 7
};
enum { SS_FIELD_ESCAPED = 1, /* the string holds backslash escapes: unescape() before comparing */
       SS_FIELD_INTEGER = 2  /* the number has neither fraction nor exponent */
};
struct ss_field {
	const char *text; /* in the document: a string without its quotes, anything else as it stands */
	uint32_t len;
	uint16_t type;    /* SS_JSON_... */
	uint16_t flags;   /* SS_FIELD_... */
};
struct ss_reader; /* opaque: a compiled set of paths; immutable, shareable between threads */
struct ss_fields {
	uint32_t struct_size, reserved;
	/* Compile paths: a JSON pointer (RFC 6901: "", "/a/0/b") if it is empty or starts with '/', else a dotted path
	 * ("a.b", "a.0").  The strings are copied.  -EINVAL with *bad = its index, -ENOMEM. */
	int32_t (*compile)(void *self, const char *const *paths, uint32_t n, struct ss_reader **out, uint32_t *bad);
	void (*free)(void *self, struct ss_reader *);
	/* Look every path up in one document: out[i] belongs to path i.  Of equal names in one object the last counts.
	 * -EINVAL: not a JSON text, -ELOOP: nested deeper than 64; then out is undefined and *where (may be NULL) is
	 * the offset of the first wrong byte. */
	int32_t (*read)(void *self, const struct ss_reader *, const void *json, size_t len, struct ss_field *out,
	                size_t *where);
	/* A number as double, correctly rounded.  -EINVAL: not a number, -ERANGE: overflows a double. */
	int32_t (*number)(void *self, const struct ss_field *, double *out);
	/* A number as int64.  -EINVAL: not an integer, -ERANGE: does not fit. */
	int32_t (*integer)(void *self, const struct ss_field *, int64_t *out);
	/* A string's value as UTF-8 into buf: its length, which may be more than size (then nothing was written).  A lone
	 * surrogate becomes U+FFFD.  -EINVAL: not a string. */
	int64_t (*unescape)(void *self, const struct ss_field *, char *buf, size_t size);
};

/* The libev loop itself, a struct ev_loop *, for libraries that run on libev.  [inst]; libev's rules apply. */
#define SS_LOOP_LIBEV "semstreams.loop.libev/1"
struct ss_loop_libev {
	uint32_t struct_size, reserved;
	void *(*ev_loop)(void *self);
	/* After the library's own watchers have run code of this instance: the host looks for work to do. */
	void (*touched)(void *self);
};

/*
 * Positions make resumable streams arrive exactly once.  A keeper is a component that commits, together with what it keeps
 * durably, the newest position per source; after a restart it drops what it already has (by ss_event.seq and the
 * position's epoch), and sources begin behind the lowest position kept.  Components that take input are started before
 * those that feed them, so all keepers have spoken when a source asks.
 *
 * What a keeper compares is ss_event.seq, per input and source, with the newest it took of that epoch: an event that is not
 * above it is dropped as a duplicate, whatever its bytes are.  0 is never a duplicate; another epoch begins anew.
 * So in one epoch a source
 *   - gives each event the seq it has for good, growing from event to event, and none to two events;
 *   - may send again what it sent, in order, from anywhere: keepers that have it drop it, others take it;
 *   - after SS_FAILED sends again from the first event that failed, with the same seqs.  That mends a failure at the end of
 *     what was sent.  A keeper that took later events has passed the failed ones: sent again in this epoch they are
 *     duplicates to it, and stay lost there (counted by whoever failed them).  To bring them all the same a source needs
 *     another epoch, in which everything it sends again is new to every keeper.
 * A keeper that can fail a batch in the midst of a stream and wants it again takes nothing behind it either (SS_BUSY, or fails
 * that as well), so that the position it commits has no hole before it.
 */
#define SS_POSITIONS "semstreams.positions/1"
struct ss_positions {
	uint32_t struct_size, reserved;
	/* [inst] in start: this instance is a keeper. */
	void (*keeper)(void *self);
	/* [inst] in start, after keeper(): what it has, through this input port, of the stream of the component with id source.
	 * Positions are kept per input: a stream may come on several ways. */
	int32_t (*kept)(void *self, uint32_t port, const char *source, const struct ss_position *);
	/* [inst] of a source, in start or later: the lowest position that all keepers behind it have.  -ENOENT: one of them has
	 * nothing, or they disagree about the epoch, or there is none: begin with the oldest there is. */
	int32_t (*resume)(void *self, struct ss_position *out);
};

/*
 * TLS identity: what "security.tls" says, as PEM, in immutable generations.  From a provider to whoever makes connections.
 */
#define SS_TLS "semstreams.tls/1"
enum { SS_TLS_SERVER = 0, SS_TLS_CLIENT = 1 };
enum {
	SS_TLS_REQUIRE_PEER = 1, /* a server refuses clients without a certificate */
	SS_TLS_VERIFY_PEER = 2,  /* a certificate that is shown must verify */
	SS_TLS_SYSTEM_CA = 4,    /* trust the system's pool as well as ca_pem */
	SS_TLS_INSECURE = 8,     /* a client does not verify the server at all */
	SS_TLS_PENDING = 16      /* a provider is about to bring the first certificate: who dials may wait for it */
};
struct ss_tls_material {
	uint32_t struct_size;
	uint32_t role;
	uint64_t generation;   /* grows with every change */
	const char *chain_pem; /* leaf first; NULL: no certificate (yet): a server lets handshakes fail */
	const char *key_pem;   /* PKCS #8 or what openssl writes; NULL with chain_pem */
	const char *ca_pem;    /* whom to trust, all files in one; NULL: nobody but the system's pool if flagged */
	int64_t not_before, not_after; /* of the leaf, seconds since 1970; 0 without one */
	uint32_t min_version;  /* 0x0303 TLS 1.2, 0x0304 TLS 1.3 */
	uint32_t flags;
	const char *source;    /* where the certificate is from, for messages: "manual", "ACME", "fallback"; NULL without one */
};
struct ss_der {
	const uint8_t *data;
	size_t len;
};
/* Why a handshake was refused; rows of semstreams_mtls_handshake_failures_total{reason}. */
enum {
	SS_TLS_FAIL_NO_CERT = 0, SS_TLS_FAIL_UNKNOWN_CA, SS_TLS_FAIL_EXPIRED, SS_TLS_FAIL_NOT_YET_VALID,
	SS_TLS_FAIL_PURPOSE, SS_TLS_FAIL_NAME, SS_TLS_FAIL_VERSION, SS_TLS_FAIL_OTHER, SS_TLS_FAILS
};
struct ss_tls {
	uint32_t struct_size, reserved;
	/* [any] 1 if security.tls turns TLS on for this role (server.enabled; a client section that exists). */
	int32_t (*enabled)(void *self, uint32_t role);
	/* [any] The newest generation; NULL if TLS is off for the role.  Release it. */
	const struct ss_tls_material *(*acquire)(void *self, uint32_t role);
	void (*release)(void *self, const struct ss_tls_material *);
	/* [inst] changed(arg) runs [inst] after a new generation came. */
	int32_t (*watch)(void *self, void (*changed)(void *arg), void *arg);
	void (*unwatch)(void *self);
	/*
	 * [any] Decide about a peer: chain as it was shown, leaf first (n 0: none), error = X.509 verification's verdict so far as
	 * SS_TLS_FAIL_... or -1 for good.  A server asks whether the leaf's CN or a DNS SAN is in allowed_client_cns; a client
	 * whether the leaf is good for host.  0: welcome, name (the verified CN, or first DNS SAN) is filled in.  Else
	 * -EACCES, *fail = SS_TLS_FAIL_..., why = one sentence for the log in the operator's words ("certificate signed by
	 * unknown authority: ...", "client certificate CN 'x' not in allowed list", "certificate expired 2025-11-16T10:00:00Z").
	 */
	int32_t (*check_peer)(void *self, uint32_t role, const struct ss_der *chain, uint32_t n, int32_t error,
	                      const char *host, char *name, size_t name_size, int32_t *fail, char *why, size_t why_size);
	/* [any] Count a refused handshake. */
	void (*count_failure)(void *self, uint32_t role, int32_t fail);
};

/*
 * Providers of TLS identities.  "mode": "acme" in security.tls.server or .client makes the host start an instance of the
 * component type acme_tls (mode + "_tls", kind SS_KIND_PROVIDER), whose config is the section's member of the mode's name
 * ("acme": {...}).  Providers start before everything else and stop after it.  Sections whose instances have the same
 * identity share one instance.  "enabled": false in the config keeps the host from making an instance at all; the option
 * table has to know the key.
 */
#define SS_TLS_PROVIDER "semstreams.tls-provider/1" /* from the instance, by extension(); needed */
struct ss_tls_provider {
	uint32_t struct_size, reserved;
	/* [ctl] What tells one identity from another, as the folder its key is kept in; valid as long as the instance. */
	const char *(*identity)(void *self);
	/*
	 * [ctl] Instead of start(), in a process of its own: carry out an operator's command ("semstreams cert VERB ..."), argv[0]
	 * = "status", "issue", "renew", "revoke", "rollover", ...; beside a running host, on the same storage.  print(arg, text)
	 * takes what goes to standard output.  Returns the exit status; errors are logged.  There is no loop of the host's, so
	 * SS_LOOP is of no use here.  May be NULL.
	 */
	int32_t (*command)(void *self, uint32_t argc, const char *const *argv, void (*print)(void *arg, const char *text),
	                   void *arg);
};
#define SS_TLS_PUBLISH "semstreams.tls-publish/1" /* for providers, by query() */
struct ss_tls_publish {
	uint32_t struct_size, reserved;
	/*
	 * [inst] In start or later: a certificate to be used from now on, leaf first, and its key, PEM; copied.  source goes into
	 * messages ("ACME").  -EINVAL with why: they do not match, cannot be read, or have expired; what was in use stays.  The
	 * same pair again is no news.  When it takes the place of another the host logs "Hot-reloaded certificate without
	 * downtime"; in which file it is kept the provider says itself.
	 */
	int32_t (*publish)(void *self, const char *source, const char *chain_pem, const char *key_pem, char *why,
	                   size_t why_size);
	/*
	 * [inst] In start or later: there is none that is valid, and why.  The host falls back to cert_file and key_file where they
	 * are configured and is degraded, else it is unready and handshakes fail; it logs and shows this itself.  publish()
	 * ends it.  Until the first call of either the host is unready.
	 */
	void (*unavailable)(void *self, const char *reason);
	/*
	 * [any] From start or command on: the files with the CAs that security.tls.client trusts (its ca_files), NULL-ended, valid
	 * as long as the instance: for a provider that was not told whom to trust when it talks to its CA.  None, if the
	 * instance does not serve clients or ca_files is not set: the system's pool.
	 */
	const char *const *(*ca_files)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
