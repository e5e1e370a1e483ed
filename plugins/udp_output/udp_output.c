/* SPDX-License-Identifier: MIT */
/*
 * udp_output - sink: one datagram per event, many with one system call; all of it runs on the instance's
 * loop.  At most one batch is under way, and that only while the kernel has no room for it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include "udp_output.h"

#define TICK_NS         1000000000U /* troubles that are over are noticed, connecting is tried again */
#define WAIT_FIRST_NS   1000000U    /* for room in the kernel; doubled */
#define WAIT_LONGEST_NS 64000000U   /* up to this */
#define MAX_REFUSALS    8           /* of earlier datagrams, reported while one is to be sent */

struct udp_output {
	const struct ss_host *host;
	const struct udp_conf *conf;
	struct ss_iface loop;
	struct udp_target target;
	int fd; /* negative: not started */
	bool connected;
	struct mmsghdr *msgs; /* conf->batch of both */
	struct iovec *iov;

	struct ss_batch *batch; /* under way; NULL: none */
	uint32_t next;          /* its first event that has not been sent or dropped */
	uint64_t dropped;       /* of its events */
	uint32_t refusals;      /* since a datagram was sent */
	bool busy, draining;    /* the host waits: to give the next batch, for the end */
	uint32_t wait, tick;    /* timers */
	uint64_t wait_ns;

	bool degraded;
	bool troubled; /* since the last tick something went wrong, */
	bool sent;     /* or right */
};

static const struct ss_loop *loop_of(const struct udp_output *o)
{
	return o->loop.vtbl;
}

/* ---- how well it goes ---- */

static void degrade(struct udp_output *o, const char *what, int err)
{
	char reason[160];

	o->troubled = true;
	if (o->degraded)
		return;
	o->degraded = true;
	snprintf(reason, sizeof reason, "%s: %s", what, strerror(err));
	o->host->set_degraded(o->host, reason);
	ss_log(o->host, SS_LOG_WARN, "UDP output %s; going on address=%s port=%d", reason, o->conf->address,
	       (int)o->conf->port);
}

static void recover(struct udp_output *o)
{
	o->degraded = false;
	o->host->set_degraded(o->host, NULL);
	ss_log(o->host, SS_LOG_INFO, "UDP output sends again address=%s port=%d", o->conf->address,
	       (int)o->conf->port);
}

/* A route, or the interface of an address, that may be there later. */
static bool is_passing(int err)
{
	return err == ENETUNREACH || err == EHOSTUNREACH || err == ENETDOWN || err == EADDRNOTAVAIL ||
	       err == ENODEV || err == EAGAIN || err == ENOBUFS || err == ENOMEM;
}

/* Connected, the socket hears that nobody listens, and the kernel looks up the route once.  0 or a positive
 * errno. */
static int make_connection(struct udp_output *o)
{
	if (connect(o->fd, &o->target.to.sa, o->target.len) != 0)
		return errno;
	o->connected = true;
	return 0;
}

static void on_tick(void *arg)
{
	struct udp_output *o = arg;

	bool connects = !o->connected && make_connection(o) == 0;
	if (connects || (o->degraded && o->sent && !o->troubled))
		recover(o);
	o->sent = o->troubled = false;
}

/* ---- sending ---- */

static void drop(struct udp_output *o, uint32_t reason, uint32_t n)
{
	o->host->drop(o->host, reason, n);
	o->dropped += n;
	o->next += n;
	o->refusals = 0;
}

/* The next events that are not too long; how many. */
static uint32_t gather(const struct udp_output *o)
{
	uint32_t n = 0;

	for (uint32_t i = o->next; i < o->batch->count && n < o->conf->batch; i++, n++) {
		const struct ss_event *e = &o->batch->events[i];
		if (e->len > o->conf->max_datagram)
			break;
		/* sending does not write there */
		o->iov[n] = (struct iovec){.iov_base = (void *)(uintptr_t)e->data, .iov_len = e->len};
	}
	return n;
}

static void account(struct udp_output *o, uint32_t n)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += o->iov[i].iov_len;
	o->host->metric_add(o->host, UDP_METRIC_DATAGRAMS, n);
	o->host->metric_add(o->host, UDP_METRIC_BYTES, (int64_t)bytes);
	o->next += n;
	o->refusals = 0;
	o->wait_ns = 0;
	o->sent = true;
}

/* What the kernel said instead of sending the next datagram.  False: wait. */
static bool handle_error(struct udp_output *o, int err)
{
	switch (err) {
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
		o->host->metric_add(o->host, UDP_METRIC_WAITS, 1);
		return false;
	case EINTR:
		return true;
	case ECONNREFUSED: /* of an earlier datagram; this one was not tried */
		o->host->metric_add(o->host, UDP_METRIC_REFUSED, 1);
		degrade(o, "is refused, nobody listens there", err);
		if (++o->refusals >= MAX_REFUSALS)
			drop(o, UDP_REASON_UNREACHABLE, 1);
		return true;
	case EMSGSIZE:
		drop(o, UDP_REASON_TOO_LONG, 1);
		return true;
	default:
		o->host->metric_add(o->host, UDP_METRIC_ERRORS, 1);
		degrade(o, "cannot send", err);
		drop(o, UDP_REASON_UNREACHABLE, 1);
		return true;
	}
}

/* One system call, or the next drop; false: the kernel has no room now. */
static bool send_some(struct udp_output *o)
{
	uint32_t n = gather(o);

	if (n == 0) {
		drop(o, UDP_REASON_TOO_LONG, 1);
		return true;
	}
	if (!o->connected) {
		o->troubled = true;
		drop(o, UDP_REASON_UNREACHABLE, n);
		return true;
	}
	int sent = sendmmsg(o->fd, o->msgs, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return handle_error(o, errno);
	account(o, (uint32_t)sent);
	return true;
}

static void finish(struct udp_output *o, int32_t status)
{
	struct ss_batch *batch = o->batch;

	o->batch = NULL;
	o->host->done(o->host, batch, status);
}

static void on_wait_over(void *arg);

/* The batch under way, as far as the kernel takes it; what is left is tried again a little later. */
static int32_t go_on(struct udp_output *o)
{
	while (o->next < o->batch->count) {
		if (send_some(o))
			continue;
		o->wait_ns = o->wait_ns ? 2 * o->wait_ns : WAIT_FIRST_NS;
		if (o->wait_ns > WAIT_LONGEST_NS)
			o->wait_ns = WAIT_LONGEST_NS;
		return loop_of(o)->timer(o->loop.self, o->wait_ns, 0, on_wait_over, o, &o->wait);
	}
	finish(o, o->dropped ? SS_DROPPED : SS_DELIVERED);
	return 0;
}

static void on_wait_over(void *arg)
{
	struct udp_output *o = arg;

	o->wait = 0;
	if (go_on(o) != 0)
		finish(o, SS_FAILED);
	if (o->batch)
		return;
	if (o->busy) {
		o->busy = false;
		o->host->input_ready(o->host);
	}
	if (o->draining)
		o->host->drained(o->host);
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct udp_output *o = self;

	(void)port;
	if (o->batch) {
		o->busy = true;
		return SS_BUSY;
	}
	o->batch = batch;
	o->next = 0;
	o->dropped = 0;
	if (go_on(o) != 0)
		finish(o, SS_FAILED);
	return SS_KEPT;
}

static int32_t drain(void *self)
{
	struct udp_output *o = self;

	o->draining = true;
	return o->batch ? SS_BUSY : 0;
}

/* ---- life cycle ---- */

static void destroy(void *self)
{
	struct udp_output *o = self;

	if (!o)
		return;
	free(o->msgs);
	free(o->iov);
	free(o);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct udp_output *o = calloc(1, sizeof *o);
	int32_t rc = o ? 0 : -ENOMEM;

	if (rc == 0) {
		o->host = host;
		o->conf = conf;
		o->fd = -1;
		o->msgs = calloc((size_t)o->conf->batch, sizeof *o->msgs);
		o->iov = calloc((size_t)o->conf->batch, sizeof *o->iov);
		rc = o->msgs && o->iov ? host->query(host, SS_LOOP, sizeof(struct ss_loop), &o->loop)
				       : -ENOMEM;
	}
	if (rc == 0)
		rc = udp_target_check(host, conf, &o->target);
	if (rc != 0) {
		destroy(o);
		return rc;
	}
	for (int64_t i = 0; i < o->conf->batch; i++)
		o->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &o->iov[i], .msg_iovlen = 1};
	*self = o;
	return 0;
}

static void stop(void *self)
{
	struct udp_output *o = self;

	loop_of(o)->cancel(o->loop.self, o->wait);
	loop_of(o)->cancel(o->loop.self, o->tick);
	o->wait = o->tick = 0;
	if (o->batch)
		finish(o, SS_FAILED); /* its rest was not sent */
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}

static int32_t start(void *self)
{
	struct udp_output *o = self;
	char why[256], source[INET6_ADDRSTRLEN + 32];

	o->fd = udp_target_open(&o->target, o->conf, why, sizeof why);
	if (o->fd < 0) {
		ss_log(o->host, SS_LOG_ERROR, "UDP output: %s", why);
		return o->fd;
	}
	int err = make_connection(o);
	if (err && !is_passing(err)) {
		ss_log(o->host, SS_LOG_ERROR, "UDP output: cannot send to address \"%s\"%s: %s",
		       o->conf->address,
		       err == EACCES ? " (if it is a broadcast address, set broadcast to true)" : "",
		       strerror(err));
		stop(o);
		return -err;
	}
	udp_target_source(o->fd, source, sizeof source);
	ss_log(o->host, SS_LOG_INFO, "UDP output sending address=%s port=%d from=%s", o->conf->address,
	       (int)o->conf->port, source);
	if (err)
		degrade(o, "cannot send, trying every second", err);
	int32_t rc = loop_of(o)->timer(o->loop.self, TICK_NS, TICK_NS, on_tick, o, &o->tick);
	if (rc != 0)
		stop(o);
	return rc;
}

/* What is under way goes on with the next system call. */
static void reconfigure(void *self, void *fresh)
{
	struct udp_output *o = self, *other = fresh;
	struct mmsghdr *msgs = o->msgs;
	struct iovec *iov = o->iov;

	o->conf = other->conf;
	o->msgs = other->msgs;
	o->iov = other->iov;
	other->msgs = msgs;
	other->iov = iov;
	if (o->fd >= 0)
		udp_target_tune(o->fd, &o->target, o->conf);
}

/* ---- descriptor ---- */

static const struct ss_option options[] = {
	SS_OPT(struct udp_conf, address, SS_OPT_STRING, NULL,
	       "Numeric IPv4 or IPv6 address to send to; may be a multicast group.",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct udp_conf, port, SS_OPT_INT, NULL, "UDP port to send to.", .min = 1, .max = 65535,
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct udp_conf, bind, SS_OPT_STRING, NULL,
	       "Numeric address of this machine to send from; chosen by the kernel if not set."),
	SS_OPT(struct udp_conf, bind_port, SS_OPT_INT, "0", "UDP port to send from; 0 picks a free port.",
	       .max = 65535),
	SS_OPT(struct udp_conf, interface, SS_OPT_STRING, NULL,
	       "Network interface on which to send to a multicast group; chosen by the kernel if not set."),
	SS_OPT(struct udp_conf, ttl, SS_OPT_INT, NULL,
	       "How many routers a datagram may pass, plus one; if not set, 1 to a multicast group and what "
	       "the system has else.",
	       .min = 1, .max = 255, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, loopback, SS_OPT_BOOL, "true",
	       "Programs on this machine that have joined the multicast group get the datagrams, too.",
	       .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, broadcast, SS_OPT_BOOL, "false", "Allow address to be a broadcast address."),
	SS_OPT(struct udp_conf, send_buffer, SS_OPT_BYTES, "1MiB",
	       "Bytes of datagrams that the kernel may hold before they leave; limited by net.core.wmem_max.",
	       .min = 4096, .max = 1 << 30, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, max_datagram, SS_OPT_BYTES, "65507",
	       "Longest event, in bytes, that is sent; longer ones are dropped and counted.", .min = 1,
	       .max = UDP_MAX_PAYLOAD, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, batch, SS_OPT_INT, "128",
	       "Maximum number of datagrams sent with one system call.", .min = 1, .max = 1024,
	       .flags = SS_OPT_LIVE),
};

static const struct ss_metric metrics[] = {
	[UDP_METRIC_DATAGRAMS] = {.name = "semstreams_udp_sent_datagrams_total",
				  .help = "Datagrams that the kernel took.",
				  .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_BYTES] = {.name = "semstreams_udp_sent_bytes_total",
			      .help = "Payload bytes of these datagrams.",
			      .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_REFUSED] = {.name = "semstreams_udp_refused_total",
				.help = "Answers that nobody listens there (ICMP port unreachable), to "
					"datagrams that were sent before.",
				.kind = SS_METRIC_COUNTER},
	[UDP_METRIC_WAITS] = {.name = "semstreams_udp_send_waits_total",
			      .help = "Times that sending waited as the kernel had no room.",
			      .kind = SS_METRIC_COUNTER},
	[UDP_METRIC_ERRORS] = {.name = "semstreams_udp_send_errors_total",
			       .help = "Datagrams that the kernel could not send, as without a route.",
			       .kind = SS_METRIC_COUNTER},
};

static const char *const reasons[] = {
	[UDP_REASON_TOO_LONG] = "too_long",
	[UDP_REASON_UNREACHABLE] = "unreachable",
	NULL,
};

static const struct ss_component udp_output = {
	.struct_size = sizeof udp_output,
	.kind = SS_KIND_SINK,
	.type = "udp_output",
	.version = "1.0",
	.summary = "Sends each event as a UDP datagram.",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
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
	.process = process,
	.drain = drain,
	.reconfigure = reconfigure,
};
SS_REGISTER(&udp_output);
