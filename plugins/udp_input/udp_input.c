/* SPDX-License-Identifier: MIT */
/*
 * udp_input - source: one event per datagram, or per line of a datagram, read in groups straight into the
 * memory of batches; all of it runs on the instance's loop.
 *
 * An arena (a batch without rows) is filled front to back: each message of a read gets a slot in it, what is
 * longer runs over into the spill area, which is mapped once and hardly ever touched.  Rows are child batches
 * of the arena, so it lives until the last of them is gone.  Slots follow the length of what arrives, up to
 * the 64 KiB a message can have when the kernel hands over several datagrams as one (UDP_GRO).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include "udp_input.h"

#define ARENA_SIZE  ((256U << 10) - 256) /* with the host's header still a power of two; it may give more */
#define MESSAGE_MAX (64U << 10) /* more than any message is long, so nothing is ever cut by the kernel */
#define SLOT_MIN    256U
#define SLOT_FIRST  2048U /* any datagram of an Ethernet */
#define SLOT_STEP   128U
#define LINE        64U  /* rows start on cache lines of their own */
#define MOVE_MAX    256U /* short messages are moved together when slots are this much longer: */
#define MOVE_SLOT   2048U
#define WINDOW      64U /* messages after which slots may get shorter */
#define VLEN_FIRST  16U
#define ROWS_MAX    1024U /* of one batch; only lines and GRO can bring more at once */
#define CONTROL     CMSG_SPACE(sizeof(int))

#define READS_PER_WAKEUP 4            /* then other components on the loop run */
#define TICK_NS          1000000000U  /* kernel drops are read, a failed socket is retried */
#define WARN_EVERY_NS    60000000000U /* about kernel drops */

struct udp_recv {
	const struct ss_host *host;
	const struct udp_conf *conf;
	struct udp_allow *allow; /* NULL = everybody */

	struct mmsghdr *msgs;        /* conf->batch of each */
	struct iovec *iov;           /* two per message: a slot of the arena, then the spill area */
	uint8_t *control;            /* NULL without GRO */
	union udp_addr *names;       /* NULL: nobody asks who sent it */
	struct udp_senders *senders; /* NULL: nobody wants attributes */
	uint8_t *spill;              /* mapped; takes the rest of what is longer than a slot */
	bool spill_used;

	struct ss_batch *arena;
	size_t used;                     /* bytes of the arena that rows may point to */
	size_t slot;                     /* bytes a message is given in the arena */
	uint32_t vlen;                   /* messages to ask for in the next read */
	uint32_t received;               /* since lengths were last looked at: messages, */
	uint32_t spilled;                /* those longer than a slot, */
	size_t longest_spilled, longest; /* the longest of them, and of the others */

	struct ss_batch *parent;    /* memory the rows under way lie in */
	struct ss_batch *out;       /* rows not emitted yet */
	const union udp_addr *from; /* with senders: of the message at hand, */
	uint16_t attributes;        /* and what its rows in out name */
	size_t pinned;              /* bytes of memory they hold on to */
	uint32_t hint;              /* rows to make room for */
	uint64_t time_ns;
	uint64_t datagrams, bytes, truncated; /* of this read */
	uint64_t dropped[UDP_REASON_UNREAD + 1];

	bool more; /* the last read came back full: there may be more */
};

struct udp_input;

struct udp_socket {
	struct udp_input *input;
	struct udp_bound bound;
	uint32_t watch;
	uint32_t drops_seen;
};

struct udp_input {
	const struct ss_host *host;
	const struct udp_conf *conf;
	struct ss_iface loop;
	struct udp_allow allow;
	struct udp_groups groups;
	struct udp_recv recv;
	struct udp_socket sockets[UDP_MAX_SOCKETS];
	uint32_t n_sockets;
	uint32_t tick;
	bool paused; /* by the host */
	bool failed; /* by an error: tried again on the next tick */
	bool draining;
	uint32_t drained;    /* sockets read to the end */
	uint64_t drain_left; /* bytes the socket being drained can still have */
	uint64_t warned_ns;
};

static size_t round_up(size_t n, size_t step)
{
	return (n + step - 1) / step * step;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* ---- rows ---- */

static void flush(struct udp_recv *r)
{
	struct ss_batch *out = r->out;
	if (!out)
		return;
	r->out = NULL;
	out->footprint = (uint32_t)(r->pinned + out->capacity * sizeof(struct ss_event) +
				    out->n_attributes * UDP_SET_BYTES);
	r->pinned = 0;
	r->host->emit(r->host, 0, out);
	r->host->batch_unref(out);
}

static void add_row(struct udp_recv *r, const uint8_t *data, uint32_t len)
{
	if (r->out && r->out->count == r->out->capacity)
		flush(r);
	if (!r->out) {
		r->out = r->host->batch_new(r->host, r->parent, r->hint, 0);
		if (!r->out) {
			r->dropped[UDP_REASON_NO_MEMORY]++;
			return;
		}
		r->attributes = r->from ? udp_senders_attach(r->senders, r->out, r->from) : 0;
	}
	r->out->events[r->out->count++] = (struct ss_event){
		.data = data, .len = len, .attributes = r->attributes, .time_ns = r->time_ns};
}

static void add_lines(struct udp_recv *r, const uint8_t *data, uint32_t len)
{
	const uint8_t *end = data + len, *at = data;
	bool empty = true;
	while (at < end) {
		const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
		const uint8_t *next = stop ? stop + 1 : end;
		if (!stop)
			stop = end;
		if (stop > at && stop[-1] == '\r')
			stop--;
		if (stop > at) {
			add_row(r, at, (uint32_t)(stop - at));
			empty = false;
		}
		at = next;
	}
	if (empty)
		r->dropped[UDP_REASON_EMPTY]++;
}

static void add_datagram(struct udp_recv *r, const uint8_t *data, uint32_t len)
{
	if (len > r->conf->max_datagram) {
		r->truncated++;
		if (r->conf->truncated == UDP_TRUNCATED_DROP) {
			r->dropped[UDP_REASON_TRUNCATED]++;
			return;
		}
		len = (uint32_t)r->conf->max_datagram;
	}
	if (len == 0)
		r->dropped[UDP_REASON_EMPTY]++;
	else if (r->conf->split == UDP_SPLIT_LINES)
		add_lines(r, data, len);
	else
		add_row(r, data, len);
}

/* The datagrams of one message: all segment bytes long but the last. */
static void add_message(struct udp_recv *r, const uint8_t *data, uint32_t len, uint32_t segment)
{
	for (; len > segment; data += segment, len -= segment)
		add_datagram(r, data, segment);
	add_datagram(r, data, len);
}

/* A message longer than its slot: its two parts are put together in memory of their own. */
static void add_spilled(struct udp_recv *r, const struct iovec *iov, uint32_t len, uint32_t segment,
			uint32_t datagrams)
{
	flush(r);
	struct ss_batch *own = r->host->batch_new(r->host, NULL, 0, len);
	r->spill_used = true;
	if (!own) {
		r->dropped[UDP_REASON_NO_MEMORY] += datagrams;
		return;
	}
	memcpy(own->data, iov[0].iov_base, r->slot);
	memcpy(own->data + r->slot, iov[1].iov_base, len - r->slot);
	r->parent = own;
	r->pinned = len;
	add_message(r, own->data, len, segment);
	flush(r);
	r->parent = r->arena;
	r->pinned = 0;
	r->host->batch_unref(own);
}

/* ---- one read ---- */

/* Turn n messages into rows; fill is how far the arena is in use. */
static void deliver(struct udp_recv *r, uint32_t n)
{
	size_t slot = r->slot, base = r->used, fill = base;
	for (uint32_t i = 0; i < n; i++) {
		const struct mmsghdr *m = &r->msgs[i];
		uint32_t len = m->msg_len, segment = len, datagrams = 1;
		if (r->control && m->msg_hdr.msg_controllen >= sizeof(struct cmsghdr)) {
			uint32_t size = udp_gro_segment(&m->msg_hdr);
			if (size && size < len) {
				segment = size;
				datagrams = (len + size - 1) / size;
			}
		}
		r->datagrams += datagrams;
		r->bytes += len;
		if (r->allow && !udp_allow_ok(r->allow, &r->names[i])) {
			r->dropped[UDP_REASON_NOT_ALLOWED] += datagrams;
			continue;
		}
		if (r->senders) {
			r->from = &r->names[i];
			r->attributes = r->out ? udp_senders_attach(r->senders, r->out, r->from) : 0;
		}
		size_t rows = datagrams + (n - i - 1);
		if (r->conf->split == UDP_SPLIT_LINES)
			rows = max_size(rows, len / 32 + (n - i));
		r->hint = (uint32_t)min_size(rows, ROWS_MAX);
		if (len > slot) {
			r->longest_spilled = max_size(r->longest_spilled, len);
			r->spilled++;
			add_spilled(r, &r->iov[2 * i], len, segment, datagrams);
			continue;
		}
		size_t at = base + i * slot;
		if (len <= MOVE_MAX && slot >= MOVE_SLOT && fill < at) {
			memmove(r->arena->data + fill, r->arena->data + at, len);
			at = fill;
		}
		size_t end = at + round_up(len, LINE);
		r->pinned += end - fill;
		fill = end;
		r->longest = max_size(r->longest, len);
		add_message(r, r->arena->data + at, len, segment);
	}
	flush(r);
	r->pinned = 0;
	r->received += n;
	r->used = fill;
}

/* Count once per read. */
static void account(struct udp_recv *r)
{
	const struct ss_host *h = r->host;
	h->metric_add(h, UDP_METRIC_DATAGRAMS, (int64_t)r->datagrams);
	h->metric_add(h, UDP_METRIC_BYTES, (int64_t)r->bytes);
	if (r->truncated)
		h->metric_add(h, UDP_METRIC_TRUNCATED, (int64_t)r->truncated);
	for (uint32_t i = 0; i <= UDP_REASON_UNREAD; i++) {
		if (r->dropped[i])
			h->drop(h, i, r->dropped[i]);
		r->dropped[i] = 0;
	}
	r->datagrams = r->bytes = r->truncated = 0;
}

/* ---- memory ---- */

static void set_slot(struct udp_recv *r, size_t longest)
{
	r->slot = min_size(max_size(round_up(longest, SLOT_STEP), SLOT_MIN), MESSAGE_MAX);
}

/* Make room in the arena for the next read and point the messages there; how many, 0 = out of memory. */
static uint32_t prepare(struct udp_recv *r)
{
	size_t least = min_size(r->vlen, max_size(ARENA_SIZE / 2 / r->slot, 1));
	if (r->arena && r->arena->size - r->used < least * r->slot) {
		r->host->batch_unref(r->arena);
		r->arena = NULL;
	}
	if (!r->arena) {
		r->arena = r->host->batch_new(r->host, NULL, 0, ARENA_SIZE);
		r->used = 0;
	}
	r->parent = r->arena;
	if (!r->arena)
		return 0;
	uint32_t n = (uint32_t)min_size(r->vlen, (r->arena->size - r->used) / r->slot);
	uint8_t *at = r->arena->data + r->used;
	for (uint32_t i = 0; i < n; i++, at += r->slot) {
		struct msghdr *msg = &r->msgs[i].msg_hdr;
		msg->msg_iov[0] = (struct iovec){.iov_base = at, .iov_len = r->slot};
		if (r->control)
			msg->msg_controllen = CONTROL;
		if (r->names)
			msg->msg_namelen = sizeof r->names[i];
	}
	return n;
}

/* After a read of n out of asked: slots as long as what comes, as many as came at once. */
static void adapt(struct udp_recv *r, uint32_t n, uint32_t asked)
{
	bool grow = r->spilled && r->spilled * 8 >= r->received;
	if (grow || r->received >= WINDOW) {
		if (grow)
			set_slot(r, r->longest_spilled);
		else if (r->longest < r->slot / 2)
			set_slot(r, r->longest);
		r->received = r->spilled = 0;
		r->longest = r->longest_spilled = 0;
	}
	if (n == asked)
		r->vlen = (uint32_t)min_size(r->vlen * 4, (size_t)r->conf->batch);
	else if (n < r->vlen / 4 && r->vlen > VLEN_FIRST)
		r->vlen /= 2;
}

/* Read once and emit what came: bytes received, or -errno (-EAGAIN: nothing there). */
static int64_t udp_recv_read(struct udp_recv *r, int fd)
{
	r->more = false;
	uint32_t asked = prepare(r);
	if (!asked)
		return -ENOMEM;
	int n = recvmmsg(fd, r->msgs, asked, MSG_DONTWAIT, NULL);
	if (n < 0)
		return -errno;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	r->time_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	deliver(r, (uint32_t)n);
	int64_t bytes = (int64_t)r->bytes;
	account(r);
	adapt(r, (uint32_t)n, asked);
	r->more = (uint32_t)n == asked;
	return bytes;
}

/* Now and then: give back memory that rare long datagrams needed. */
static void udp_recv_tidy(struct udp_recv *r)
{
	if (!r->spill_used)
		return;
	r->spill_used = false;
	madvise(r->spill, (size_t)r->conf->batch * MESSAGE_MAX, MADV_DONTNEED);
}

static void udp_recv_done(struct udp_recv *r)
{
	if (!r->host)
		return;
	r->host->batch_unref(r->arena);
	if (r->spill)
		munmap(r->spill, (size_t)r->conf->batch * MESSAGE_MAX);
	free(r->msgs);
	free(r->iov);
	free(r->control);
	free(r->names);
	udp_senders_free(r->senders);
	*r = (struct udp_recv){0};
}

static int32_t udp_recv_init(struct udp_recv *r, const struct ss_host *host, const struct udp_conf *conf,
			     struct udp_allow *allow)
{
	size_t n = (size_t)conf->batch;
	*r = (struct udp_recv){.host = host, .conf = conf, .allow = allow, .slot = SLOT_FIRST};
	r->vlen = (uint32_t)min_size(VLEN_FIRST, n);
	r->msgs = calloc(n, sizeof *r->msgs);
	r->iov = calloc(n, 2 * sizeof *r->iov);
	r->control = conf->gro ? calloc(n, CONTROL) : NULL;
	int32_t rc = udp_senders_new(host, &r->senders);
	const bool named = allow || r->senders;
	r->names = named ? calloc(n, sizeof *r->names) : NULL;
	void *spill = mmap(NULL, n * MESSAGE_MAX, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r->spill = spill == MAP_FAILED ? NULL : spill;
	if (!r->msgs || !r->iov || (conf->gro && !r->control) || (named && !r->names) || !r->spill ||
	    rc < 0) {
		udp_recv_done(r);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		r->iov[2 * i + 1] =
			(struct iovec){.iov_base = r->spill + i * MESSAGE_MAX, .iov_len = MESSAGE_MAX};
		r->msgs[i].msg_hdr = (struct msghdr){
			.msg_iov = &r->iov[2 * i],
			.msg_iovlen = 2,
			.msg_control = r->control ? r->control + i * CONTROL : NULL,
			.msg_name = r->names ? &r->names[i] : NULL,
		};
	}
	return 0;
}

/* ---- the component: when to read ---- */

static const struct ss_loop *loop_of(const struct udp_input *in)
{
	return in->loop.vtbl;
}

static void watch_all(struct udp_input *in)
{
	uint32_t events = in->paused || in->failed || in->draining ? 0 : SS_FD_READ;
	for (uint32_t i = 0; i < in->n_sockets; i++)
		loop_of(in)->change(in->loop.self, in->sockets[i].watch, events);
}

/* ---- reading ---- */

/* Errors of one datagram, or that end by themselves: the next read goes on. */
static bool is_transient(int64_t rc)
{
	return rc == -EINTR || rc == -ECONNREFUSED || rc == -EHOSTUNREACH || rc == -ENETUNREACH ||
	       rc == -EHOSTDOWN || rc == -EMSGSIZE || rc == -EPROTO || rc == -ENOPROTOOPT;
}

static void set_failed(struct udp_input *in, int64_t rc)
{
	char reason[128];
	snprintf(reason, sizeof reason, "cannot receive: %s", strerror((int)-rc));
	if (!in->failed)
		ss_log(in->host, SS_LOG_ERROR, "UDP input %s; retrying every second", reason);
	in->failed = true;
	in->host->set_health(in->host, reason);
	watch_all(in);
}

static void set_recovered(struct udp_input *in)
{
	in->failed = false;
	in->host->set_health(in->host, NULL);
	watch_all(in);
}

/* One read: bytes >= 0, or -EAGAIN when there is nothing to be read now. */
static int64_t read_once(struct udp_input *in, const struct udp_socket *s)
{
	int64_t rc = udp_recv_read(&in->recv, s->bound.fd);
	if (rc < 0 && rc != -EAGAIN && rc != -EINTR)
		in->host->metric_add(in->host, UDP_METRIC_ERRORS, 1);
	if (rc < 0 && is_transient(rc))
		return 0;
	if (rc < 0 && rc != -EAGAIN) {
		set_failed(in, rc);
		return -EAGAIN;
	}
	if (in->failed)
		set_recovered(in);
	return rc;
}

static void on_readable(void *arg, uint32_t events)
{
	struct udp_socket *s = arg;
	struct udp_input *in = s->input;
	(void)events;
	for (int i = 0; i < READS_PER_WAKEUP && !in->paused; i++)
		if (read_once(in, s) < 0 || !in->recv.more)
			break;
}

/* ---- kernel drops ---- */

static void count_kernel_drops(struct udp_input *in)
{
	uint64_t lost = 0;
	for (uint32_t i = 0; i < in->n_sockets; i++) {
		struct udp_socket *s = &in->sockets[i];
		uint32_t drops;
		if (udp_socket_drops(s->bound.fd, &drops) != 0)
			continue;
		lost += (uint32_t)(drops - s->drops_seen);
		s->drops_seen = drops;
	}
	if (!lost)
		return;
	in->host->metric_add(in->host, UDP_METRIC_KERNEL_DROPPED, (int64_t)lost);
	uint64_t now = loop_of(in)->now(in->loop.self);
	if (in->draining || (in->warned_ns && now - in->warned_ns < WARN_EVERY_NS))
		return;
	in->warned_ns = now;
	ss_log(in->host, SS_LOG_WARN,
	       "Kernel dropped UDP datagrams: downstream too slow or receive_buffer too small "
	       "datagrams=%" PRIu64,
	       lost);
}

static void on_tick(void *arg)
{
	struct udp_input *in = arg;
	count_kernel_drops(in);
	udp_recv_tidy(&in->recv);
	if (in->failed && !in->paused && !in->draining)
		for (uint32_t i = 0; i < in->n_sockets && read_once(in, &in->sockets[i]) >= 0; i++)
			;
}

/* ---- life cycle ---- */

static void destroy(void *self)
{
	struct udp_input *in = self;
	udp_allow_done(&in->allow);
	free(in);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct udp_input *in = calloc(1, sizeof *in);
	if (!in)
		return -ENOMEM;
	in->host = host;
	in->conf = conf;
	int32_t rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &in->loop);
	if (rc == 0)
		rc = udp_conf_check(host, conf, &in->allow, &in->groups);
	if (rc != 0) {
		destroy(in);
		return rc;
	}
	*self = in;
	return 0;
}

/* Whatever reached the sockets until now is counted, even if nobody waited for drain() to end. */
static void stop(void *self)
{
	struct udp_input *in = self;
	uint64_t unread = 0;
	for (uint32_t i = 0; i < in->n_sockets; i++) {
		udp_socket_leave(&in->sockets[i].bound);
		unread += udp_socket_discard(in->sockets[i].bound.fd);
	}
	if (unread) {
		in->host->metric_add(in->host, UDP_METRIC_DATAGRAMS, (int64_t)unread);
		in->host->drop(in->host, UDP_REASON_UNREAD, unread);
	}
	in->draining = true;
	count_kernel_drops(in);
	loop_of(in)->cancel(in->loop.self, in->tick);
	in->tick = 0;
	for (uint32_t i = 0; i < in->n_sockets; i++) {
		loop_of(in)->cancel(in->loop.self, in->sockets[i].watch);
		close(in->sockets[i].bound.fd);
	}
	in->n_sockets = 0;
	udp_recv_done(&in->recv);
}

/* Open the next socket; the first decides on the port when it is to be any. */
static int32_t open_next(struct udp_input *in)
{
	struct udp_socket *s = &in->sockets[in->n_sockets];
	char why[256], address[INET6_ADDRSTRLEN + 24];
	uint16_t port = (uint16_t)in->conf->port;
	if (in->n_sockets)
		udp_addr_format(&in->sockets[0].bound.addr, address, sizeof address, &port);
	int32_t rc = udp_socket_open(in->conf, &in->groups, port, &s->bound, why, sizeof why);
	if (rc != 0) {
		ss_log(in->host, SS_LOG_ERROR, "UDP input: %s", why);
		return rc;
	}
	s->input = in;
	s->watch = 0;
	in->n_sockets++;
	rc = loop_of(in)->fd(in->loop.self, s->bound.fd, SS_FD_READ, on_readable, s, &s->watch);
	if (rc == 0 && udp_socket_drops(s->bound.fd, &s->drops_seen) != 0)
		ss_log(in->host, SS_LOG_WARN,
		       "UDP input: kernel does not report socket drops; "
		       "semstreams_udp_kernel_dropped_total stays 0");
	return rc;
}

static void report(const struct udp_input *in)
{
	const struct udp_bound *bound = &in->sockets[0].bound;
	char address[INET6_ADDRSTRLEN + 24];
	uint16_t port;
	udp_addr_format(&bound->addr, address, sizeof address, &port);
	in->host->metric_set(in->host, UDP_METRIC_LOCAL_PORT, port);
	in->host->metric_set(in->host, UDP_METRIC_RECEIVE_BUFFER, bound->receive_buffer);
	ss_log(in->host, SS_LOG_INFO,
	       "UDP input listening address=%s port=%u receive_buffer=%" PRIu32 " sockets=%" PRIu32 " gro=%s",
	       address, port, bound->receive_buffer, in->n_sockets, bound->gro ? "true" : "false");
	if (bound->receive_buffer < in->conf->receive_buffer)
		ss_log(in->host, SS_LOG_WARN,
		       "UDP receive buffer is smaller than requested: raise net.core.rmem_max with sysctl, "
		       "or grant CAP_NET_ADMIN receive_buffer=%" PRIu32 " requested=%" PRId64,
		       bound->receive_buffer, in->conf->receive_buffer);
}

static int32_t start(void *self)
{
	struct udp_input *in = self;
	int32_t rc = udp_recv_init(&in->recv, in->host, in->conf, in->conf->allow ? &in->allow : NULL);
	while (rc == 0 && in->n_sockets < in->conf->sockets)
		rc = open_next(in);
	if (rc == 0)
		rc = loop_of(in)->timer(in->loop.self, TICK_NS, TICK_NS, on_tick, in, &in->tick);
	if (rc != 0) {
		stop(in);
		return rc;
	}
	report(in);
	return 0;
}

/* Read what the sockets still hold, as far as the host takes it. */
static int32_t drain_on(struct udp_input *in)
{
	for (; in->drained < in->n_sockets; in->drained++, in->drain_left = 0) {
		const struct udp_socket *s = &in->sockets[in->drained];
		if (!in->drain_left)
			in->drain_left = 2 * (uint64_t)s->bound.receive_buffer + UDP_MAX_DATAGRAM;
		while (in->drain_left) {
			if (in->paused)
				return SS_BUSY;
			int64_t n = read_once(in, s);
			if (n < 0)
				break;
			in->drain_left -= (uint64_t)n < in->drain_left ? (uint64_t)n : in->drain_left;
		}
	}
	count_kernel_drops(in);
	return 0;
}

static void pause_reading(void *self)
{
	struct udp_input *in = self;
	in->paused = true;
	watch_all(in);
}

static void resume_reading(void *self)
{
	struct udp_input *in = self;
	in->paused = false;
	if (!in->draining)
		watch_all(in);
	else if (in->drained < in->n_sockets && drain_on(in) == 0)
		in->host->drained(in->host);
}

/* What comes from now on is refused by the kernel and counted, so a flood cannot prolong it. */
static int32_t drain(void *self)
{
	struct udp_input *in = self;
	in->draining = true;
	watch_all(in);
	for (uint32_t i = 0; i < in->n_sockets; i++)
		udp_socket_shut(in->sockets[i].bound.fd);
	return drain_on(in);
}

/* ---- descriptor ---- */

#define ADDRESSES "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]}"

static const char *const split_choices[] = {"none", "lines", NULL};
static const char *const truncated_choices[] = {"drop", "keep", NULL};

static const struct ss_option options[] = {
	SS_OPT(struct udp_conf, port, SS_OPT_INT, "14550",
	       "UDP port to listen on; 0 picks a free port and logs it.", .max = 65535),
	SS_OPT(struct udp_conf, bind, SS_OPT_STRING,
	       "::", "Numeric IPv4 or IPv6 address to listen on; \"::\" means all addresses, IPv4 and IPv6."),
	SS_OPT(struct udp_conf, multicast, SS_OPT_JSON, NULL,
	       "Multicast group, or array of groups, to join; numeric IPv4 or IPv6 addresses.",
	       .schema = ADDRESSES),
	SS_OPT(struct udp_conf, interface, SS_OPT_STRING, NULL,
	       "Network interface on which to join the multicast groups; chosen by the kernel if not set."),
	SS_OPT(struct udp_conf, sockets, SS_OPT_INT, "1",
	       "Number of sockets that share the port (SO_REUSEPORT); each has its own receive buffer.",
	       .min = 1, .max = UDP_MAX_SOCKETS),
	SS_OPT(struct udp_conf, receive_buffer, SS_OPT_BYTES, "8MiB",
	       "Bytes of datagrams that the kernel may hold for each socket; limited by net.core.rmem_max.",
	       .min = 4096, .max = 1 << 30),
	SS_OPT(struct udp_conf, max_datagram, SS_OPT_BYTES, "65527",
	       "Longest datagram, in bytes, that is received whole.", .min = 1, .max = UDP_MAX_DATAGRAM),
	SS_OPT(struct udp_conf, truncated, SS_OPT_ENUM, "drop",
	       "What to do with a datagram longer than max_datagram: drop it or keep its beginning.",
	       .choices = truncated_choices),
	SS_OPT(struct udp_conf, split, SS_OPT_ENUM, "none",
	       "none: each datagram is one event; lines: each non-empty line is one event, without its line "
	       "break.",
	       .choices = split_choices),
	SS_OPT(struct udp_conf, allow, SS_OPT_JSON, NULL,
	       "Address or network (CIDR), or array of them, allowed to send; datagrams from others are "
	       "dropped and counted.",
	       .schema = ADDRESSES),
	SS_OPT(struct udp_conf, gro, SS_OPT_BOOL, "true",
	       "Let the kernel combine datagrams of one sender into one read (UDP_GRO), where supported."),
	SS_OPT(struct udp_conf, batch, SS_OPT_INT, "128",
	       "Maximum number of datagrams read with one system call.", .min = 1, .max = 1024),
};

static const struct ss_metric metrics[] = {
	[UDP_METRIC_DATAGRAMS] = {.name = "semstreams_udp_datagrams_total",
				  .help = "Datagrams read, including those dropped afterwards.",
				  .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_BYTES] = {.name = "semstreams_udp_bytes_total",
			      .help = "Payload bytes read.",
			      .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_KERNEL_DROPPED] =
		{.name = "semstreams_udp_kernel_dropped_total",
		 .help = "Packets that the kernel dropped before they were read; several "
			 "datagrams combined into one (gro) count once.",
		 .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_TRUNCATED] = {.name = "semstreams_udp_truncated_total",
				  .help = "Datagrams longer than max_datagram.",
				  .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_ERRORS] = {.name = "semstreams_udp_receive_errors_total",
			       .help = "Reads that failed.",
			       .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_LOCAL_PORT] = {.name = "semstreams_udp_local_port",
				   .help = "UDP port on which the component listens.",
				   .kind = SS_METRIC_GAUGE},
	[UDP_METRIC_RECEIVE_BUFFER] = {.name = "semstreams_udp_receive_buffer_bytes",
				       .help = "Receive buffer that the kernel granted to each socket.",
				       .kind = SS_METRIC_GAUGE},
};

static const char *const reasons[] = {
	[UDP_REASON_TRUNCATED] = "truncated",     [UDP_REASON_EMPTY] = "empty",
	[UDP_REASON_NOT_ALLOWED] = "not_allowed", [UDP_REASON_NO_MEMORY] = "no_memory",
	[UDP_REASON_UNREAD] = "unread",           NULL,
};

static const struct ss_component udp_input = {
	.struct_size = sizeof udp_input,
	.kind = SS_KIND_SOURCE,
	.type = "udp_input",
	.version = "1.0",
	.summary = "Receives UDP datagrams: one event per datagram or per line.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.reasons = reasons,
	.conf_size = sizeof(struct udp_conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.pause = pause_reading,
	.resume = resume_reading,
	.drain = drain,
};
SS_REGISTER(&udp_input);
