/* SPDX-License-Identifier: MIT */
/*
 * udp_output - sink: one datagram per event, many with one system call; all of it runs on the instance's
 * loop.  At most one batch is under way, and that only while the kernel has no room for it.
 */
#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <semstreams/base/host_name.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include "udp_output.h"

/* ---- the target: addresses of the configuration ---- */

/* A numeric address, with %interface where it is link-local. */
static int32_t read_address(const struct ss_host *host, const char *key, const char *text, int64_t port,
			    struct sockaddr *out, socklen_t *len)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = SOCK_DGRAM};
	const char *fault = ss_address_fault(text);
	struct addrinfo *found = NULL;
	char pointer[16], service[8];

	snprintf(pointer, sizeof pointer, "/%s", key);
	snprintf(service, sizeof service, "%u", (unsigned)(uint16_t)port);
	if (fault)
		return ss_config_error(host, pointer, "\"%s\" %s", text, fault);
	if (getaddrinfo(text, service, &hints, &found) != 0)
		return ss_config_error(host, pointer, "\"%s\": this machine has no such network interface",
				       text);
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static bool is_group(const struct udp_target *t)
{
	return t->to.sa.sa_family == AF_INET ? IN_MULTICAST(ntohl(t->to.v4.sin_addr.s_addr))
					     : IN6_IS_ADDR_MULTICAST(&t->to.v6.sin6_addr);
}

static bool is_any(const struct udp_target *t)
{
	return t->to.sa.sa_family == AF_INET ? t->to.v4.sin_addr.s_addr == htonl(INADDR_ANY)
					     : IN6_IS_ADDR_UNSPECIFIED(&t->to.v6.sin6_addr);
}

static int32_t check_to(const struct ss_host *host, const struct udp_conf *conf, struct udp_target *t)
{
	int32_t rc = read_address(host, "address", conf->address, conf->port, &t->to.sa, &t->len);

	if (rc != 0)
		return rc;
	if (is_any(t))
		return ss_config_error(host, "/address",
				       "\"%s\" means all addresses, and is nobody's to send to",
				       conf->address);
	if (conf->interface &&
	    (!conf->interface[0] || strlen(conf->interface) >= IF_NAMESIZE || strpbrk(conf->interface, "/ ")))
		return ss_config_error(host, "/interface",
				       "\"%s\" is not the name of a network interface, such as eth0",
				       conf->interface);
	if (conf->interface && !is_group(t))
		return ss_config_error(host, "/interface",
				       "is only used with an address that is a multicast "
				       "group (224.0.0.0/4 or ff00::/8)");
	return 0;
}

static int32_t check_from(const struct ss_host *host, const struct udp_conf *conf, struct udp_target *t)
{
	socklen_t len;
	int32_t rc;

	t->from.sa.sa_family = t->to.sa.sa_family;
	if (conf->bind) {
		rc = read_address(host, "bind", conf->bind, conf->bind_port, &t->from.sa, &len);
		if (rc == 0 && t->len && len != t->len)
			rc = ss_config_error(host, "/bind",
					     "\"%s\" and address \"%s\" must both be IPv4, or "
					     "both IPv6",
					     conf->bind, conf->address);
		return rc;
	}
	/* the port is at the same place in both */
	t->from.v4.sin_port = htons((uint16_t)conf->bind_port);
	return 0;
}

/* [ctl] Read and check all addresses of the configuration, and claim the port that is sent from; what is
 * wrong goes to config_error. */
static int32_t udp_target_check(const struct ss_host *host, const struct udp_conf *conf,
				struct udp_target *out)
{
	struct udp_target t = {0};
	char resource[INET6_ADDRSTRLEN + IF_NAMESIZE + 16];
	int32_t rc = check_to(host, conf, &t), bad = check_from(host, conf, &t);

	if (bad != 0)
		rc = bad;
	if (rc == 0 && conf->bind_port && SS_KNOWS(host, struct ss_host, claim)) {
		snprintf(resource, sizeof resource, "udp:%s:%d", conf->bind ? conf->bind : "",
			 (int)conf->bind_port);
		if (host->claim(host, "/bind_port", resource) == -ENOMEM)
			rc = -ENOMEM;
	}
	if (rc == 0)
		*out = t;
	return rc;
}

/* ---- the target: its socket ---- */

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

static int failed(char *why, size_t size, const char *what, const char *value, int err)
{
	snprintf(why, size, "%s \"%s\": %s", what, value, strerror(err));
	return -err;
}

static int set_interface(int fd, const struct udp_target *t, const struct udp_conf *conf, char *why,
			 size_t size)
{
	bool v4 = t->to.sa.sa_family == AF_INET;
	int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
	struct ip_mreqn via = {.imr_ifindex = conf->interface ? (int)if_nametoindex(conf->interface) : 0};

	if (conf->interface && !via.imr_ifindex)
		return failed(why, size, "interface", conf->interface, errno);
	if (conf->interface && (v4 ? setsockopt(fd, level, IP_MULTICAST_IF, &via, sizeof via)
				   : set_int(fd, level, IPV6_MULTICAST_IF, via.imr_ifindex)) != 0)
		return failed(why, size, "interface", conf->interface, errno);
	return 0;
}

/* [inst] Set what can be set while it sends: send_buffer, ttl, loopback. */
static void udp_target_tune(int fd, const struct udp_target *t, const struct udp_conf *conf)
{
	const bool v4 = t->to.sa.sa_family == AF_INET, group = is_group(t);
	const int level = v4 ? IPPROTO_IP : IPPROTO_IPV6, ttl = conf->ttl ? (int)conf->ttl : -1;

	if (set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)conf->send_buffer) != 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUF, (int)conf->send_buffer);
	if (group)
		set_int(fd, level, v4 ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP, conf->loopback != 0);
	if (group)
		set_int(fd, level, v4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS, ttl);
	else
		set_int(fd, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS, ttl);
}

/* What is sent to the socket would stay in its buffer unread.  Without memory for the filter it does. */
static void take_nothing(int fd)
{
	struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &refuse};

	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* [inst] A socket that sends from there and takes nothing in, not connected yet: the descriptor; or -errno
 * and why as one line. */
static int udp_target_open(const struct udp_target *t, const struct udp_conf *conf, char *why, size_t size)
{
	int fd = socket(t->to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = 0;

	if (fd < 0)
		return failed(why, size, "cannot open a socket for address", conf->address, errno);
	take_nothing(fd);
	udp_target_tune(fd, t, conf);
	if (conf->broadcast)
		set_int(fd, SOL_SOCKET, SO_BROADCAST, 1);
	if (is_group(t))
		rc = set_interface(fd, t, conf, why, size);
	if (rc == 0 && bind(fd, &t->from.sa, t->len) != 0) {
		char what[64];
		snprintf(what, sizeof what, "cannot send from port %d of bind", (int)conf->bind_port);
		rc = failed(why, size, what, conf->bind ? conf->bind : "", errno);
	}
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* [inst] The address that the socket sends from as "ADDRESS:PORT". */
static void udp_target_source(int fd, char *text, size_t size)
{
	struct sockaddr_storage self;
	socklen_t len = sizeof self;
	char address[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], port[8];

	snprintf(text, size, "?");
	if (getsockname(fd, (struct sockaddr *)&self, &len) == 0 &&
	    getnameinfo((struct sockaddr *)&self, len, address, sizeof address, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(text, size, strchr(address, ':') ? "[%s]:%s" : "%s:%s", address, port);
}

/* ---- the component ---- */

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
