/* SPDX-License-Identifier: MIT */
/*
 * udp_input - source: one event per datagram, or per line of a datagram; all of it runs on the instance's
 * loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/host_name.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include "udp_input.h"

/* ---- one bound socket ---- */

struct udp_bound {
	int fd;
	union udp_addr addr;     /* where it listens */
	uint32_t receive_buffer; /* payload bytes the kernel granted */
	bool gro;
};

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

static int32_t failed(char *why, size_t size, const char *what, const char *value, int err)
{
	snprintf(why, size, "%s%s%s%s: %s", what, value ? " \"" : "", value ? value : "", value ? "\"" : "",
		 strerror(err));
	return -err;
}

/* The size is what the configuration counts in; the kernel doubles it for its own overhead. */
static uint32_t set_receive_buffer(int fd, int64_t bytes)
{
	if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)bytes) != 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, (int)bytes);
	int granted = 0;
	socklen_t len = sizeof granted;
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &len);
	return (uint32_t)granted / 2;
}

static int32_t join(int fd, const union udp_addr *group, unsigned index)
{
	struct group_req req = {.gr_interface = index};
	memcpy(&req.gr_group, group, udp_addr_len(group));
	if (group->sa.sa_family == AF_INET6 && group->v6.sin6_scope_id && !index)
		req.gr_interface = group->v6.sin6_scope_id;
	int level = group->sa.sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	return setsockopt(fd, level, MCAST_JOIN_GROUP, &req, sizeof req) == 0 ? 0 : -errno;
}

static int32_t join_all(int fd, const struct udp_conf *conf, const struct udp_groups *groups, char *why,
			size_t size)
{
	unsigned index = conf->interface ? if_nametoindex(conf->interface) : 0;
	if (conf->interface && !index)
		return failed(why, size, "interface", conf->interface, errno);
	for (uint32_t i = 0; i < groups->n; i++) {
		int32_t rc = join(fd, &groups->addr[i], index);
		char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 2];
		uint16_t port;
		udp_addr_format(&groups->addr[i], text, sizeof text, &port);
		if (rc == -ENODEV && !index)
			return failed(why, size,
				      "multicast: no route says on which network interface to join the group "
				      "(set interface)",
				      text, -rc);
		if (rc != 0)
			return failed(why, size, "multicast: cannot join group", text, -rc);
	}
	return 0;
}

/* A socket for conf->bind; "::" means 0.0.0.0 where there is no IPv6. */
static int open_bound(const struct udp_conf *conf, bool shared, uint16_t port, char *why, size_t size)
{
	union udp_addr addr;
	if (udp_addr_parse(conf->bind, port, &addr) != 0)
		return failed(why, size, "bind", conf->bind, EINVAL);
	bool any = strcmp(conf->bind, "::") == 0;
	for (;;) {
		int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = errno;
		if (fd >= 0) {
			if (any && addr.sa.sa_family == AF_INET6)
				set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
			if (conf->sockets > 1)
				set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
			if (shared)
				set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
			if (bind(fd, &addr.sa, udp_addr_len(&addr)) == 0)
				return fd;
			err = errno;
			close(fd);
		}
		if (!any || addr.sa.sa_family == AF_INET || (err != EAFNOSUPPORT && err != EADDRNOTAVAIL)) {
			char what[64];
			snprintf(what, sizeof what, "cannot listen on port %u of bind", port);
			failed(why, size, what, conf->bind, err);
			const size_t used = strlen(why);
			snprintf(why + used, size - used, "%s", ss_bind_remedy(err, true));
			return -err;
		}
		udp_addr_parse("0.0.0.0", port, &addr);
	}
}

/* [inst] Join with a socket that is bound already, and closed if that fails: 0, or -errno and why as one
 * line. */
static int32_t udp_socket_set_up(int fd, const struct udp_conf *conf, const struct udp_groups *groups,
				 struct udp_bound *out, char *why, size_t size)
{
	struct udp_bound bound = {.fd = fd};
	socklen_t len = sizeof bound.addr;
	int32_t rc = 0;
	if (getsockname(fd, &bound.addr.sa, &len) != 0) {
		rc = failed(why, size, "getsockname", NULL, errno);
		goto out;
	}
	/* only our own groups, not those that other programs of the machine have joined */
	set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	if (bound.addr.sa.sa_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
	bound.receive_buffer = set_receive_buffer(fd, conf->receive_buffer);
	if (conf->sockets > 1) /* of one that was handed over, so that others can join it */
		set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	bound.gro = set_int(fd, IPPROTO_UDP, UDP_GRO, conf->gro != 0) == 0 && conf->gro;
	rc = join_all(fd, conf, groups, why, size);
out:
	if (rc != 0)
		close(fd);
	else
		*out = bound;
	return rc;
}

/* [inst] Open, bind, join.  0, or -errno and why as one line. */
static int32_t udp_socket_open(const struct udp_conf *conf, const struct udp_groups *groups, uint16_t port,
			       struct udp_bound *out, char *why, size_t size)
{
	int fd = open_bound(conf, groups->n > 0, port, why, size);
	return fd < 0 ? fd : udp_socket_set_up(fd, conf, groups, out, why, size);
}

/* [inst] Give it the receive buffer of the configuration. */
static void udp_socket_resize(struct udp_bound *bound, const struct udp_conf *conf)
{
	bound->receive_buffer = set_receive_buffer(bound->fd, conf->receive_buffer);
}

/* [inst] From now on the kernel drops, and counts, whatever arrives; what has arrived can still be read. */
static int32_t udp_socket_shut(int fd)
{
	struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {.len = 1, .filter = &refuse};
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

/* A connected socket gets datagrams of its peer only, and this one's peer is itself. */
/* [inst] From now on senders are refused, as if nobody listened; what has arrived can still be read. */
static int32_t udp_socket_leave(const struct udp_bound *bound)
{
	union udp_addr self = bound->addr;
	if (self.sa.sa_family == AF_INET && self.v4.sin_addr.s_addr == htonl(INADDR_ANY))
		self.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (self.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&self.v6.sin6_addr))
		self.v6.sin6_addr = in6addr_loopback;
	return connect(bound->fd, &self.sa, udp_addr_len(&self)) == 0 ? 0 : -errno;
}

/* [inst] Datagrams the kernel dropped at this socket since it was opened, modulo 2^32. */
static int32_t udp_socket_drops(int fd, uint32_t *drops)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof info;
	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
		return -errno;
	if (len < (SK_MEMINFO_DROPS + 1) * sizeof info[0])
		return -ENOTSUP;
	*drops = info[SK_MEMINFO_DROPS];
	return 0;
}

/* [inst] Take everything out of a socket and throw it away; how many datagrams. */
static uint64_t udp_socket_discard(int fd)
{
	uint64_t datagrams = 0;
	uint8_t control[CMSG_SPACE(sizeof(int))];
	for (;;) {
		struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof control};
		ssize_t len = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
		if (len < 0)
			return datagrams;
		uint32_t size = udp_gro_segment(&msg);
		datagrams += size && size < len ? ((uint32_t)len + size - 1) / size : 1;
	}
}

/* ---- the component ---- */

#define READS_PER_WAKEUP 4            /* then other components on the loop run */
#define TICK_NS          1000000000U  /* kernel drops are read, a failed socket is retried */
#define WARN_EVERY_NS    60000000000U /* about kernel drops */

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
	struct ss_iface loop, handover; /* the latter may be none */
	struct udp_allow allow;
	struct udp_groups groups;
	struct udp_recv recv;
	struct udp_socket sockets[UDP_MAX_SOCKETS];
	uint32_t
		n_sockets; /* those beyond the configured ones are of the instance before, and only emptied */
	uint32_t tick;
	bool paused; /* by the host */
	bool failed; /* by an error: tried again on the next tick */
	bool draining;
	bool hands_over;     /* the sockets, with what is in them */
	uint32_t drained;    /* sockets read to the end */
	uint64_t drain_left; /* bytes the socket being drained can still have */
	uint64_t warned_ns;
};

/* ---- when to read ---- */

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

static uint32_t own_sockets(const struct udp_input *in)
{
	return in->n_sockets < in->conf->sockets ? in->n_sockets : (uint32_t)in->conf->sockets;
}

static void close_last(struct udp_input *in)
{
	const struct udp_socket *s = &in->sockets[--in->n_sockets];
	loop_of(in)->cancel(in->loop.self, s->watch);
	close(s->bound.fd);
}

/* Those that nothing comes to any more. */
static void close_emptied(struct udp_input *in)
{
	while (in->n_sockets > own_sockets(in) && !in->paused) {
		while (!in->paused && read_once(in, &in->sockets[in->n_sockets - 1]) >= 0)
			;
		if (in->paused || in->failed)
			return;
		close_last(in);
	}
}

static void on_tick(void *arg)
{
	struct udp_input *in = arg;
	count_kernel_drops(in);
	if (!in->draining)
		close_emptied(in);
	udp_recv_tidy(&in->recv);
	if (in->failed && !in->paused && !in->draining)
		for (uint32_t i = 0; i < in->n_sockets && read_once(in, &in->sockets[i]) >= 0; i++)
			;
}

/* ---- handing over ---- */

/* To an instance that listens on the same port. */
static bool is_succeeded(const struct udp_input *in)
{
	const struct ss_handover *to = in->handover.vtbl;
	char name[UDP_RESOURCE_SIZE];
	return to && udp_conf_resource(in->conf, &in->groups, name) && to->wanted(in->handover.self, name);
}

/* With it, how many of its drops are counted: the kernel may drop more before the successor looks. */
static bool hand_over(const struct udp_input *in, const struct udp_socket *s)
{
	const struct ss_handover *to = in->handover.vtbl;
	char name[UDP_RESOURCE_SIZE];
	return in->hands_over && udp_conf_resource(in->conf, &in->groups, name) &&
	       to->give_noted(in->handover.self, name, s->bound.fd, s->drops_seen) == 0;
}

/* The next socket of the instance before; negative: there is none. */
static int take_over(struct udp_input *in)
{
	const struct ss_handover *from = in->handover.vtbl;
	char name[UDP_RESOURCE_SIZE];
	uint64_t drops;
	if (!from || in->n_sockets == UDP_MAX_SOCKETS || !udp_conf_resource(in->conf, &in->groups, name))
		return -1;
	int fd = from->take_noted(in->handover.self, name, &drops);
	if (fd >= 0)
		in->sockets[in->n_sockets].drops_seen = (uint32_t)drops;
	return fd;
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
	if (host->query(host, SS_HANDOVER, sizeof(struct ss_handover), &in->handover) != 0)
		in->handover.vtbl = NULL;
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
	for (uint32_t i = in->hands_over ? own_sockets(in) : 0; i < in->n_sockets; i++) {
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
	while (in->n_sockets > own_sockets(in))
		close_last(in);
	for (uint32_t i = 0; i < in->n_sockets; i++) {
		loop_of(in)->cancel(in->loop.self, in->sockets[i].watch);
		if (!hand_over(in, &in->sockets[i]))
			close(in->sockets[i].bound.fd);
	}
	in->n_sockets = 0;
	udp_recv_done(&in->recv);
}

/* Open the next socket, or go on with this one if there is one; the first decides on the port when it is to
 * be any.
 */
static int32_t open_next(struct udp_input *in, int fd)
{
	struct udp_socket *s = &in->sockets[in->n_sockets];
	char why[256], address[INET6_ADDRSTRLEN + 24];
	uint16_t port = (uint16_t)in->conf->port;
	if (in->n_sockets)
		udp_addr_format(&in->sockets[0].bound.addr, address, sizeof address, &port);
	int32_t rc = fd >= 0 ? udp_socket_set_up(fd, in->conf, &in->groups, &s->bound, why, sizeof why)
			     : udp_socket_open(in->conf, &in->groups, port, &s->bound, why, sizeof why);
	if (rc != 0) {
		ss_log(in->host, SS_LOG_ERROR, "UDP input: %s", why);
		return rc;
	}
	s->input = in;
	s->watch = 0;
	in->n_sockets++;
	rc = loop_of(in)->fd(in->loop.self, s->bound.fd, SS_FD_READ, on_readable, s, &s->watch);
	if (rc == 0 && udp_socket_drops(s->bound.fd, fd >= 0 ? &(uint32_t){0} : &s->drops_seen) != 0)
		ss_log(in->host, SS_LOG_WARN,
		       "UDP input: kernel does not report socket drops; "
		       "semstreams_udp_kernel_dropped_total stays 0");
	return rc;
}

/* What the instance before had open beyond what this one wants still holds datagrams. */
static int32_t take_rest(struct udp_input *in)
{
	int32_t rc = 0;
	int fd;
	while (rc == 0 && (fd = take_over(in)) >= 0) {
		rc = open_next(in, fd);
		if (rc == 0)
			rc = udp_socket_leave(&in->sockets[in->n_sockets - 1].bound);
	}
	return rc;
}

static void report_buffer(const struct udp_input *in)
{
	const struct udp_bound *bound = &in->sockets[0].bound;

	in->host->metric_set(in->host, UDP_METRIC_RECEIVE_BUFFER, bound->receive_buffer);
	if (bound->receive_buffer < in->conf->receive_buffer)
		ss_log(in->host, SS_LOG_WARN,
		       "UDP receive buffer is smaller than requested: raise net.core.rmem_max with sysctl, "
		       "or grant CAP_NET_ADMIN receive_buffer=%" PRIu32 " requested=%" PRId64,
		       bound->receive_buffer, in->conf->receive_buffer);
}

static void report(const struct udp_input *in)
{
	const struct udp_bound *bound = &in->sockets[0].bound;
	char address[INET6_ADDRSTRLEN + 24];
	uint16_t port;
	udp_addr_format(&bound->addr, address, sizeof address, &port);
	in->host->metric_set(in->host, UDP_METRIC_LOCAL_PORT, port);
	ss_log(in->host, SS_LOG_INFO,
	       "UDP input listening address=%s port=%u receive_buffer=%" PRIu32 " sockets=%" PRIu32 " gro=%s",
	       address, port, bound->receive_buffer, own_sockets(in), bound->gro ? "true" : "false");
	report_buffer(in);
}

static int32_t start(void *self)
{
	struct udp_input *in = self;
	int32_t rc = udp_recv_init(&in->recv, in->host, in->conf, in->conf->allow ? &in->allow : NULL);
	while (rc == 0 && in->n_sockets < in->conf->sockets)
		rc = open_next(in, take_over(in));
	if (rc == 0)
		rc = take_rest(in);
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
	in->hands_over = is_succeeded(in);
	if (in->hands_over) {
		in->drained = own_sockets(in);
		return drain_on(in);
	}
	for (uint32_t i = 0; i < in->n_sockets; i++)
		udp_socket_shut(in->sockets[i].bound.fd);
	return drain_on(in);
}

/* Senders and datagrams are judged by the new options from the next read on. */
static void reconfigure(void *self, void *fresh)
{
	struct udp_input *in = self, *other = fresh;
	const bool other_buffer = in->conf->receive_buffer != other->conf->receive_buffer;
	const struct udp_allow allow = in->allow;

	in->conf = other->conf;
	in->allow = other->allow;
	other->allow = allow;
	udp_recv_reconfigure(&in->recv, in->conf, in->conf->allow ? &in->allow : NULL);
	if (!other_buffer)
		return;
	for (uint32_t i = 0; i < in->n_sockets; i++)
		udp_socket_resize(&in->sockets[i].bound, in->conf);
	report_buffer(in);
}

/* ---- for tests of configurations ---- */

/* "192.0.2.1:4711", "[2001:db8::1]:4711"; NULL: some address. */
static int32_t read_sender(const char *text, union udp_addr *out)
{
	char address[INET6_ADDRSTRLEN + 24];
	int64_t port;
	if (!text)
		text = "127.0.0.1:9";
	const char *colon = strrchr(text, ':');
	size_t brackets = *text == '[', len = colon ? (size_t)(colon - text) : 0;
	if (len <= 2 * brackets || (brackets && colon[-1] != ']') || len >= sizeof address ||
	    ss_parse_integer(colon + 1, &port) != 0 || port < 0 || port > 65535)
		return -EINVAL;
	snprintf(address, sizeof address, "%.*s", (int)(len - 2 * brackets), text + brackets);
	return udp_addr_parse(address, (uint16_t)port, out) == 0 ? 0 : -EINVAL;
}

static int32_t inject(void *self, const struct ss_message *m)
{
	struct udp_input *in = self;
	union udp_addr from;
	int32_t rc = read_sender(m->address, &from);
	if (rc == 0 && m->len > UDP_MAX_DATAGRAM)
		rc = -EMSGSIZE;
	if (rc == 0 && !in->recv.host)
		rc = udp_recv_init(&in->recv, in->host, in->conf, in->conf->allow ? &in->allow : NULL);
	return rc ? rc : udp_recv_take(&in->recv, m->data, m->len, &from);
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
	       .min = 4096, .max = 1 << 30, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, max_datagram, SS_OPT_BYTES, "65527",
	       "Longest datagram, in bytes, that is received whole.", .min = 1, .max = UDP_MAX_DATAGRAM,
	       .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, truncated, SS_OPT_ENUM, "drop",
	       "What to do with a datagram longer than max_datagram: drop it or keep its beginning.",
	       .choices = truncated_choices, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, split, SS_OPT_ENUM, "none",
	       "none: each datagram is one event; lines: each non-empty line is one event, without its line "
	       "break.",
	       .choices = split_choices, .flags = SS_OPT_LIVE),
	SS_OPT(struct udp_conf, allow, SS_OPT_JSON, NULL,
	       "Address or network (CIDR), or array of them, allowed to send; datagrams from others are "
	       "dropped and counted.",
	       .schema = ADDRESSES, .flags = SS_OPT_LIVE),
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
	.pause = pause_reading,
	.resume = resume_reading,
	.drain = drain,
	.inject = inject,
	.reconfigure = reconfigure,
};
SS_REGISTER(&udp_input);
