/* SPDX-License-Identifier: MIT */
/* udp_addr - numeric addresses, networks and the lists of them in the configuration; parsed at create,
 * matched per read. */
#include "udp_input.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/base/host_name.h>

int32_t udp_addr_parse(const char *text, uint16_t port, union udp_addr *out)
{
	char host[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "%");
	union udp_addr addr = {0};
	if (len >= sizeof host)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	if (!text[len] && inet_pton(AF_INET, host, &addr.v4.sin_addr) == 1) {
		addr.v4.sin_family = AF_INET;
		addr.v4.sin_port = htons(port);
	} else if (inet_pton(AF_INET6, host, &addr.v6.sin6_addr) == 1) {
		addr.v6.sin6_family = AF_INET6;
		addr.v6.sin6_port = htons(port);
		if (text[len] && !(addr.v6.sin6_scope_id = if_nametoindex(text + len + 1)))
			return -ENODEV;
	} else {
		return -EINVAL;
	}
	*out = addr;
	return 0;
}

socklen_t udp_addr_len(const union udp_addr *addr)
{
	return addr->sa.sa_family == AF_INET ? sizeof addr->v4 : sizeof addr->v6;
}

void udp_addr_format(const union udp_addr *addr, char *address, size_t size, uint16_t *port)
{
	*port = ntohs(addr->sa.sa_family == AF_INET ? addr->v4.sin_port : addr->v6.sin6_port);
	if (getnameinfo(&addr->sa, udp_addr_len(addr), address, (socklen_t)size, NULL, 0, NI_NUMERICHOST) !=
	    0)
		address[0] = '\0';
}

/* ---- lists ---- */

/* Call fn for the string, or for each string of the array; errors of all of them are reported. */
static int32_t each_string(const struct ss_host *host, const char *key, const char *text, size_t max,
			   int32_t (*fn)(const struct ss_host *, const char *pointer, const char *value,
					 void *arg),
			   void *arg)
{
	char pointer[64];
	snprintf(pointer, sizeof pointer, "/%s", key);
	json_t *list = json_loads(text, JSON_DECODE_ANY, NULL);
	int32_t rc = 0;
	if (json_is_string(list)) {
		rc = fn(host, pointer, json_string_value(list), arg);
	} else if (!json_is_array(list)) {
		rc = ss_config_error(host, pointer, "expected an address or an array of addresses");
	} else if (json_array_size(list) > max) {
		rc = ss_config_error(host, pointer, "at most %zu addresses are allowed", max);
	} else {
		size_t i;
		json_t *item;
		json_array_foreach(list, i, item)
		{
			snprintf(pointer, sizeof pointer, "/%s/%zu", key, i);
			int32_t one = json_is_string(item)
					      ? fn(host, pointer, json_string_value(item), arg)
					      : ss_config_error(host, pointer, "expected a string");
			rc = one ? one : rc;
		}
	}
	json_decref(list);
	return rc;
}

/* IPv4 as ::ffff:a.b.c.d */
bool udp_addr_map(const union udp_addr *addr, uint64_t out[2])
{
	struct in6_addr six = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
	if (addr->sa.sa_family == AF_INET)
		memcpy(&six.s6_addr[12], &addr->v4.sin_addr, 4);
	else
		six = addr->v6.sin6_addr;
	memcpy(out, &six, sizeof six);
	return IN6_IS_ADDR_V4MAPPED(&six);
}

static int32_t add_net(const struct ss_host *host, const char *pointer, const char *value, void *arg)
{
	struct udp_allow *allow = arg;
	char text[INET6_ADDRSTRLEN + 1];
	size_t len = strcspn(value, "/");
	union udp_addr addr;
	if (len >= sizeof text || strchr(value, '%'))
		goto bad;
	memcpy(text, value, len);
	text[len] = '\0';
	if (udp_addr_parse(text, 0, &addr) != 0)
		goto bad;
	long bits = addr.sa.sa_family == AF_INET ? 32 : 128, prefix = bits;
	if (value[len] == '/') {
		char *end;
		prefix = strtol(value + len + 1, &end, 10);
		if (value[len + 1] < '0' || value[len + 1] > '9' || *end || prefix > bits)
			goto bad;
	}
	struct udp_net net;
	net.v4 = udp_addr_map(&addr, net.addr);
	prefix += 128 - bits;
	uint8_t mask[16];
	for (long i = 0; i < 16; i++)
		mask[i] = prefix >= 8 * (i + 1) ? 0xff
			  : prefix <= 8 * i     ? 0
						: (uint8_t)(0xff00 >> (prefix - 8 * i));
	memcpy(net.mask, mask, sizeof mask);
	if ((net.addr[0] & ~net.mask[0]) || (net.addr[1] & ~net.mask[1]))
		return ss_config_error(host, pointer, "\"%s\" has address bits set after its prefix", value);
	struct udp_net *nets = reallocarray(allow->nets, allow->n + 1, sizeof *nets);
	if (!nets)
		return -ENOMEM;
	allow->nets = nets;
	nets[allow->n++] = net;
	return 0;
bad:
	return ss_config_error(host, pointer,
			       "\"%s\" is neither an IPv4 or IPv6 address nor a network such as 192.0.2.0/24",
			       value);
}

int32_t udp_allow_parse(const struct ss_host *host, const char *json, struct udp_allow *allow)
{
	return each_string(host, "allow", json, UDP_MAX_ALLOW, add_net, allow);
}

void udp_allow_done(struct udp_allow *allow)
{
	free(allow->nets);
	*allow = (struct udp_allow){0};
}

bool udp_allow_ok(struct udp_allow *allow, const union udp_addr *sender)
{
	uint64_t addr[2];
	bool v4 = udp_addr_map(sender, addr);
	if (allow->last_known && addr[0] == allow->last[0] && addr[1] == allow->last[1])
		return allow->last_ok;
	bool ok = false;
	for (uint32_t i = 0; i < allow->n && !ok; i++) {
		const struct udp_net *net = &allow->nets[i];
		ok = net->v4 == v4 && (addr[0] & net->mask[0]) == net->addr[0] &&
		     (addr[1] & net->mask[1]) == net->addr[1];
	}
	allow->last[0] = addr[0];
	allow->last[1] = addr[1];
	allow->last_known = true;
	allow->last_ok = ok;
	return ok;
}

static int32_t add_group(const struct ss_host *host, const char *pointer, const char *value, void *arg)
{
	struct udp_groups *groups = arg;
	union udp_addr addr;
	int32_t rc = udp_addr_parse(value, 0, &addr);
	if (rc == -ENODEV)
		return ss_config_error(host, pointer, "\"%s\": this machine has no such network interface",
				       value);
	if (rc != 0)
		return ss_config_error(host, pointer, "\"%s\" is not a numeric IPv4 or IPv6 address", value);
	bool group = addr.sa.sa_family == AF_INET ? IN_MULTICAST(ntohl(addr.v4.sin_addr.s_addr))
						  : IN6_IS_ADDR_MULTICAST(&addr.v6.sin6_addr);
	if (!group)
		return ss_config_error(host, pointer,
				       "\"%s\" is not a multicast address (224.0.0.0/4 or ff00::/8)", value);
	groups->addr[groups->n++] = addr;
	return 0;
}

static int32_t groups_parse(const struct ss_host *host, const char *json, struct udp_groups *groups)
{
	return each_string(host, "multicast", json, UDP_MAX_GROUPS, add_group, groups);
}

/* ---- all of the configuration that is about addresses ---- */

bool udp_conf_resource(const struct udp_conf *conf, const struct udp_groups *groups,
		       char name[UDP_RESOURCE_SIZE])
{
	snprintf(name, UDP_RESOURCE_SIZE, "udp:%s:%d", strcmp(conf->bind, "::") == 0 ? "" : conf->bind,
		 (int)conf->port);
	return conf->port != 0 && !groups->n;
}

/*
 * Each socket would get a part of the datagrams only, if the kernel allows two at all.  Multicast sockets do
 * share a port, each with groups of its own.
 */
static int32_t claim_port(const struct ss_host *host, const struct udp_conf *conf,
			  const struct udp_groups *groups)
{
	char resource[UDP_RESOURCE_SIZE];
	if (!udp_conf_resource(conf, groups, resource) || !SS_KNOWS(host, struct ss_host, claim))
		return 0;
	return host->claim(host, "/port", resource) == -ENOMEM ? -ENOMEM : 0;
}

/* A buffer above the system's limit. */
static int32_t claim_capability(const struct ss_host *host, const struct udp_conf *conf)
{
	FILE *file = fopen("/proc/sys/net/core/rmem_max", "re");
	long long limit = 0;
	bool enough = file && fscanf(file, "%lld", &limit) == 1 && limit >= conf->receive_buffer;

	if (file)
		fclose(file);
	if (enough || !SS_KNOWS(host, struct ss_host, claim))
		return 0;
	return host->claim(host, "/receive_buffer", "capability:net_admin") == -ENOMEM ? -ENOMEM : 0;
}

int32_t udp_conf_check(const struct ss_host *host, const struct udp_conf *conf, struct udp_allow *allow,
		       struct udp_groups *groups)
{
	union udp_addr addr = {0};
	int32_t rc = 0, bad;
	const char *fault = ss_address_fault(conf->bind);
	if (fault)
		rc = ss_config_error(host, "/bind", "\"%s\" %s", conf->bind, fault);
	else if (udp_addr_parse(conf->bind, 0, &addr) != 0)
		rc = ss_config_error(host, "/bind", "\"%s\": this machine has no such network interface",
				     conf->bind);
	if (conf->allow && (bad = udp_allow_parse(host, conf->allow, allow)) != 0)
		rc = bad;
	if (conf->multicast && (bad = groups_parse(host, conf->multicast, groups)) != 0)
		rc = bad;
	if (groups->n && conf->sockets > 1)
		rc = ss_config_error(host, "/sockets",
				     "must be 1 with multicast: each socket would get every datagram");
	for (uint32_t i = 0; addr.sa.sa_family == AF_INET && i < groups->n; i++)
		if (groups->addr[i].sa.sa_family == AF_INET6)
			rc = ss_config_error(host, "/multicast",
					     "an IPv6 group cannot be joined when bind is an IPv4 address");
	if (conf->interface &&
	    (!conf->interface[0] || strlen(conf->interface) >= IF_NAMESIZE || strpbrk(conf->interface, "/ ")))
		rc = ss_config_error(host, "/interface",
				     "\"%s\" is not the name of a network interface, such as eth0",
				     conf->interface);
	if (conf->interface && !groups->n && rc == 0)
		rc = ss_config_error(host, "/interface", "is only used together with multicast");
	if (rc != -ENOMEM && (bad = claim_port(host, conf, groups)) != 0)
		rc = bad;
	if (rc != -ENOMEM && (bad = claim_capability(host, conf)) != 0)
		rc = bad;
	return rc;
}
