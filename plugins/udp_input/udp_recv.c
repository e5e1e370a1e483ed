/* SPDX-License-Identifier: MIT */
/*
 * udp_recv - datagrams of a socket become batches, read in groups straight into their memory.
 *
 * An arena (a batch without rows) is filled front to back: each message of a read gets a slot in it, what is
 * longer runs over into the spill area, which is mapped once and hardly ever touched.  Rows are child batches
 * of the arena, so it lives until the last of them is gone.  Slots follow the length of what arrives, up to
 * the 64 KiB a message can have when the kernel hands over several datagrams as one (UDP_GRO).
 */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/sugar.h>
#include "udp_input.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

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

/* ---- who sent it ---- */

/* The kernel tells from now on, or not any more. */
static void ask_for_names(struct udp_recv *r, bool asks)
{
	r->asks = asks;
	for (int64_t i = 0; i < r->conf->batch; i++)
		r->msgs[i].msg_hdr.msg_name = asks ? &r->names[i] : NULL;
}

/* If somebody downstream wants to know by now.  False: out of memory. */
static bool know_senders(struct udp_recv *r)
{
	if (r->senders || !udp_senders_wanted(&r->attributes_of))
		return true;
	ask_for_names(r, true);
	r->senders = udp_senders_new(&r->attributes_of, r->host->id);
	return r->senders != NULL;
}

uint32_t udp_gro_segment(const struct msghdr *msg)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int size = 0;
	if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO &&
	    c->cmsg_len >= CMSG_LEN(sizeof size))
		memcpy(&size, CMSG_DATA(c), sizeof size);
	return size > 0 ? (uint32_t)size : 0;
}

/* ---- one read ---- */

/* As most messages of one read are. */
static bool is_same_sender(const union udp_addr *a, const union udp_addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr && a->v4.sin_port == b->v4.sin_port;
	return memcmp(a->v6.sin6_addr.s6_addr, b->v6.sin6_addr.s6_addr, sizeof a->v6.sin6_addr.s6_addr) ==
		       0 &&
	       a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

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
			const bool again = r->out && is_same_sender(&r->names[i], r->from);
			r->from = &r->names[i];
			if (!again)
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
	(void)know_senders(r); /* without memory events have no attributes */
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
	const size_t slot = r->slot;
	struct iovec *iov = r->iov;
	uint8_t *at = r->arena->data + r->used;
	for (uint32_t i = 0; i < n; i++, at += slot)
		iov[2 * i] = (struct iovec){.iov_base = at, .iov_len = slot};
	for (uint32_t i = 0; r->control && i < n; i++)
		r->msgs[i].msg_hdr.msg_controllen = CONTROL;
	for (uint32_t i = 0; r->asks && i < n; i++)
		r->msgs[i].msg_hdr.msg_namelen = sizeof r->names[i];
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

static void stamp(struct udp_recv *r)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	r->time_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

int64_t udp_recv_read(struct udp_recv *r, int fd)
{
	r->more = false;
	uint32_t asked = prepare(r);
	if (!asked)
		return -ENOMEM;
	int n = recvmmsg(fd, r->msgs, asked, MSG_DONTWAIT, NULL);
	if (n < 0)
		return -errno;
	stamp(r);
	deliver(r, (uint32_t)n);
	int64_t bytes = (int64_t)r->bytes;
	account(r);
	adapt(r, (uint32_t)n, asked);
	r->more = (uint32_t)n == asked;
	return bytes;
}

int32_t udp_recv_take(struct udp_recv *r, const uint8_t *data, size_t len, const union udp_addr *from)
{
	if (!prepare(r))
		return -ENOMEM;
	struct mmsghdr *m = &r->msgs[0];
	size_t in_slot = min_size(len, r->slot);
	memcpy(r->iov[0].iov_base, data, in_slot);
	memcpy(r->iov[1].iov_base, data + in_slot, len - in_slot);
	m->msg_len = (uint32_t)len;
	m->msg_hdr.msg_controllen = 0;
	if (r->names)
		r->names[0] = *from;
	stamp(r);
	deliver(r, 1);
	account(r);
	return 0;
}

void udp_recv_tidy(struct udp_recv *r)
{
	if (!r->spill_used)
		return;
	r->spill_used = false;
	madvise(r->spill, (size_t)r->conf->batch * MESSAGE_MAX, MADV_DONTNEED);
}

void udp_recv_done(struct udp_recv *r)
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

int32_t udp_recv_init(struct udp_recv *r, const struct ss_host *host, const struct udp_conf *conf,
		      struct udp_allow *allow)
{
	size_t n = (size_t)conf->batch;
	*r = (struct udp_recv){.host = host, .conf = conf, .allow = allow, .slot = SLOT_FIRST};
	r->vlen = (uint32_t)min_size(VLEN_FIRST, n);
	r->msgs = calloc(n, sizeof *r->msgs);
	r->iov = calloc(n, 2 * sizeof *r->iov);
	r->control = conf->gro ? calloc(n, CONTROL) : NULL;
	r->names = calloc(n, sizeof *r->names);
	void *spill = mmap(NULL, n * MESSAGE_MAX, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r->spill = spill == MAP_FAILED ? NULL : spill;
	if (!r->msgs || !r->iov || (conf->gro && !r->control) || !r->names || !r->spill) {
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
		};
	}
	host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &r->attributes_of);
	if (allow)
		ask_for_names(r, true);
	if (!know_senders(r)) {
		udp_recv_done(r);
		return -ENOMEM;
	}
	return 0;
}

void udp_recv_reconfigure(struct udp_recv *r, const struct udp_conf *conf, struct udp_allow *allow)
{
	r->conf = conf;
	r->allow = allow;
	ask_for_names(r, allow || r->senders);
}
