/* SPDX-License-Identifier: MIT */
/* udp_socket - opens and binds one socket, joins groups, and asks the kernel for what it dropped; on the
 * loop. */
#include "udp_input.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/host_name.h>

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

int32_t udp_socket_open(const struct udp_conf *conf, const struct udp_groups *groups, uint16_t port,
			struct udp_bound *out, char *why, size_t size)
{
	int fd = open_bound(conf, groups->n > 0, port, why, size);
	return fd < 0 ? fd : udp_socket_set_up(fd, conf, groups, out, why, size);
}

int32_t udp_socket_set_up(int fd, const struct udp_conf *conf, const struct udp_groups *groups,
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

void udp_socket_resize(struct udp_bound *bound, const struct udp_conf *conf)
{
	bound->receive_buffer = set_receive_buffer(bound->fd, conf->receive_buffer);
}

int32_t udp_socket_shut(int fd)
{
	struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {.len = 1, .filter = &refuse};
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

/* A connected socket gets datagrams of its peer only, and this one's peer is itself. */
int32_t udp_socket_leave(const struct udp_bound *bound)
{
	union udp_addr self = bound->addr;
	if (self.sa.sa_family == AF_INET && self.v4.sin_addr.s_addr == htonl(INADDR_ANY))
		self.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (self.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&self.v6.sin6_addr))
		self.v6.sin6_addr = in6addr_loopback;
	return connect(bound->fd, &self.sa, udp_addr_len(&self)) == 0 ? 0 : -errno;
}

int32_t udp_socket_drops(int fd, uint32_t *drops)
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

uint32_t udp_gro_segment(const struct msghdr *msg)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int size = 0;
	if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO &&
	    c->cmsg_len >= CMSG_LEN(sizeof size))
		memcpy(&size, CMSG_DATA(c), sizeof size);
	return size > 0 ? (uint32_t)size : 0;
}

uint64_t udp_socket_discard(int fd)
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
