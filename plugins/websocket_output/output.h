/* SPDX-License-Identifier: MIT */
/* output - what the parts of websocket_output share.  All of it runs on the instance's loop. */
#pragma once
#include <semstreams/base/attribute_block.h>
#include <semstreams/base/ring.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include <semstreams/ext/rate.h>
#include "plugins/websocket/transport/endpoint.h"
#include "plugins/websocket/link/link_session.h"
#include "plugins/websocket/peers.h"
#include "plugins/spool/sendlog.h"

enum { FORMAT_RAW, FORMAT_ENVELOPE };
enum { OVERFLOW_AUTO, OVERFLOW_BLOCK, OVERFLOW_DROP_OLDEST };

struct output_conf {
	struct endpoint_conf endpoint;
	const char *spool, *rate_group, *stream;
	int64_t buffer, overflow, max_frame, links, max_consumers, plain, format, backlog, gather;
	int64_t max_rate, burst, priority, attributes;
};

enum { REASON_NO_CONSUMER, REASON_LOST };
enum {
	METRIC_UNACKED = PEER_METRICS_END,
	METRIC_LOG_BYTES,
	METRIC_LOG_AGE,
	METRIC_LOG_CORRUPT,
	METRIC_LOG_USED,
	METRIC_LOG_LIMIT,
	METRIC_LOG_UNSYNCED,
	METRIC_LOST_FULL,
	METRIC_LOST_AGE,
	METRIC_LOST_CORRUPT,
	METRIC_RENEWALS,
	METRIC_FORGOTTEN,
	METRIC_REFUSED,
	METRIC_SENT_BYTES,
	METRIC_RATE_WAITS,
	METRIC_NOT_ENVELOPED,
	METRIC_SLOW
};

struct output;

/* One connection. */
struct output_peer {
	struct peer common; /* first */
	struct output *out;
	/* plain */
	struct chunk *chunk; /* being sent; we hold a reference */
	size_t offset;
	/* link: a plain peer has no memory for what follows */
	struct link_sender session;
	uint64_t next_seq;              /* to be sent next */
	uint64_t turn;                  /* it waits for the rate since this turn; 0: it does not */
	struct link_control waiting[4]; /* did not fit, to be sent first */
	uint32_t n_waiting;
	struct peer_meter meter;
};

/* Why the last connection of a consumer ended. */
struct parting {
	char consumer[LINK_NAME_MAX];
	char *error; /* NULL: as it should */
};

/* A run of whole frames, shared by all plain peers. */
struct chunk {
	uint32_t refs;
	size_t len, size;
	uint64_t start; /* position of its first byte */
	struct chunk *next;
	uint8_t data[];
};

/* A batch in the log that is not finished yet. */
struct held {
	struct ss_batch *batch;
	uint64_t first_seq, last_seq; /* of its events in the log */
};

struct output {
	const struct ss_host *host;
	const struct output_conf *conf;
	struct endpoint endpoint;
	const struct ss_loop *loop;
	void *loop_self;
	const struct ss_fields *fields;
	void *fields_self;
	struct ss_reader *control, *any;
	struct peers peers;
	uint32_t tick;
	uint64_t renewed_ns, ticked_ns;
	bool busy, draining, known; /* known: some consumer asked for a link once */

	struct sendlog *log;
	struct sendlog_options log_options;
	char *spool_path;
	const struct ss_positions *positions; /* NULL: without a spool, or the host has none */
	void *positions_self;
	uint8_t *snapshot; /* a buffer */
	size_t snapshot_allocated;
	const struct ss_rate *rate; /* NULL: links may send as fast as they can */
	void *rate_self;
	uint32_t rate_timer; /* 0: nothing waits for the rate */
	uint64_t turns;
	struct parting *partings;
	uint32_t n_partings;
	struct ss_ring held;                   /* struct held */
	uint8_t *frame;                        /* WS_PRE and max_frame */
	struct ss_attribute_writer attributes; /* of the message under way */

	struct chunk *tail;            /* being filled; we hold a reference */
	uint64_t framed;               /* bytes ever framed */
	uint64_t message;              /* number of the last envelope */
	uint64_t flushed;              /* of framed, what plain peers were offered */
	uint64_t flushed_ns, flush_ns; /* when that ended, how long it took */
	uint32_t gathering;            /* timer; 0: nothing waits */
};

/* websocket_output.c */
void output_settle(struct output *); /* finish the batches that are safe */

/* link_out.c */
void link_out_open(struct output_peer *);
void link_out_message(struct output_peer *, bool binary, const uint8_t *data, size_t len);
void link_out_pump(struct output_peer *);
void link_out_tick(struct output_peer *);
void link_out_closed(struct output_peer *, int code, bool by_peer);
bool link_out_here(void *output, const char *consumer); /* for sendlog_check_consumers */

/* list_out.c: for the page of peers */
void list_out(void *output, const struct ss_peer_rows *);
/* The link of a peer ends. */
void list_out_parting(struct output_peer *, int code, bool by_peer, const char *why);
void list_out_done(struct output *);

/* plain_out.c */
int plain_out_frame(struct output *, const struct ss_batch *); /* for all plain peers */
void plain_out_flush(struct output *, bool now); /* to all of them, unless it is better to wait */
void plain_out_open(struct output_peer *);
void plain_out_pump(struct output_peer *);
void plain_out_close(struct output_peer *);
void plain_out_done(struct output *);

static inline struct output_peer *first_peer(const struct output *out)
{
	return (struct output_peer *)out->peers.first;
}
static inline struct output_peer *next_peer(const struct output_peer *p)
{
	return (struct output_peer *)p->common.next;
}

/* rate.c */
int rate_join(struct output *); /* as the options say; errors of the configuration are reported */
/* May the peer, which has records to send, send now?  *most bytes, or one record.  If not, it is called
 * again. */
bool rate_allows(struct output_peer *, uint64_t *most);
void rate_sent(struct output_peer *, size_t bytes);
void rate_reconfigured(struct output *); /* the host has another limit for it, or none */
void rate_rest(struct output *);         /* unless somebody waits: nothing is to be sent */

/* spool_option.c */
int output_read_spool(struct output *);
