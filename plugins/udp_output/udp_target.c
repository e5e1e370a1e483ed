/* SPDX-License-Identifier: MIT */
/* udp_target - where datagrams go: addresses of the configuration, checked at create, and the socket made of
 * them at start. */
#include "udp_output.h"

#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/base/host_name.h>

/* ---- the configuration ---- */

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

int32_t udp_target_check(const struct ss_host *host, const struct udp_conf *conf, struct udp_target *out)
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

/* ---- the socket ---- */

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

void udp_target_tune(int fd, const struct udp_target *t, const struct udp_conf *conf)
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

int udp_target_open(const struct udp_target *t, const struct udp_conf *conf, char *why, size_t size)
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

void udp_target_source(int fd, char *text, size_t size)
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
