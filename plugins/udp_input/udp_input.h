/* SPDX-License-Identifier: MIT */
/* udp_input - what the files of the plugin share: its configuration, addresses and sockets. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <semstreams/plugin.h>

#define UDP_MAX_SOCKETS  16
#define UDP_MAX_GROUPS   64
#define UDP_MAX_ALLOW    1024
#define UDP_MAX_DATAGRAM 65527 /* payload of the longest IPv6 packet; IPv4 has 20 bytes less */

enum { UDP_SPLIT_NONE, UDP_SPLIT_LINES };
enum { UDP_TRUNCATED_DROP, UDP_TRUNCATED_KEEP };

struct udp_conf {
	int64_t port;
	const char *bind;
	const char *multicast; /* JSON */
	const char *interface;
	int64_t sockets;
	int64_t receive_buffer;
	int64_t max_datagram;
	int64_t truncated;
	int64_t split;
	const char *allow; /* JSON */
	int64_t gro;
	int64_t batch;
};

/* Rows of the descriptor's metric and reason tables. */
enum {
	UDP_METRIC_DATAGRAMS,
	UDP_METRIC_BYTES,
	UDP_METRIC_KERNEL_DROPPED,
	UDP_METRIC_TRUNCATED,
	UDP_METRIC_ERRORS,
	UDP_METRIC_LOCAL_PORT,
	UDP_METRIC_RECEIVE_BUFFER,
};
enum {
	UDP_REASON_TRUNCATED,
	UDP_REASON_EMPTY,
	UDP_REASON_NOT_ALLOWED,
	UDP_REASON_NO_MEMORY,
	UDP_REASON_UNREAD
};

/* ---- udp_addr.c: addresses and lists of them ---- */

/* Any address a datagram can be sent to or from. */
union udp_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A network; IPv4 lies in ::ffff:0:0/96, as in datagrams that reach an IPv6 socket. */
struct udp_net {
	uint64_t addr[2], mask[2]; /* network byte order */
	bool v4;
};

struct udp_allow {
	struct udp_net *nets;
	uint32_t n;
	uint64_t last[2]; /* the sender asked about last, and the answer */
	bool last_known, last_ok;
};

struct udp_groups {
	union udp_addr addr[UDP_MAX_GROUPS];
	uint32_t n;
};

/* [ctl] A numeric IPv4 or IPv6 address, with %interface where it is link-local; -EINVAL, -ENODEV: no such
 * interface. */
int32_t udp_addr_parse(const char *text, uint16_t port, union udp_addr *out);
socklen_t udp_addr_len(const union udp_addr *);
/* [ctl] Read a list of networks; what is wrong goes to config_error. */
int32_t udp_allow_parse(const struct ss_host *, const char *json, struct udp_allow *);
/* [ctl] Read and check all addresses of the configuration, and claim the port; likewise. */
int32_t udp_conf_check(const struct ss_host *, const struct udp_conf *, struct udp_allow *,
		       struct udp_groups *);
#define UDP_RESOURCE_SIZE 128
/* The name of the port as claimed; false: it is not claimed. */
bool udp_conf_resource(const struct udp_conf *, const struct udp_groups *, char name[UDP_RESOURCE_SIZE]);
void udp_allow_done(struct udp_allow *);
/* [inst] May this sender send? */
bool udp_allow_ok(struct udp_allow *, const union udp_addr *sender);

/* host:port as text */
void udp_addr_format(const union udp_addr *, char *address, size_t size, uint16_t *port);
/* 128 bits in network byte order, IPv4 mapped into IPv6; is it IPv4? */
bool udp_addr_map(const union udp_addr *, uint64_t out[2]);

/* ---- udp_senders.c: attributes of events, by sender ---- */

struct udp_senders;
#define UDP_SET_BYTES 256 /* of memory that a batch holds for each sender, about */
/* [inst] Does anybody downstream want attributes of this host, which may have none (vtbl NULL)? */
bool udp_senders_wanted(const struct ss_iface *attributes);
/* [inst] NULL: out of memory. */
struct udp_senders *udp_senders_new(const struct ss_iface *attributes, const char *input);
void udp_senders_free(struct udp_senders *); /* NULL is allowed */
/* [inst] What rows of the batch name by their member attributes, of datagrams from there; 0: out of memory.
 */
uint16_t udp_senders_attach(struct udp_senders *, struct ss_batch *, const union udp_addr *from);

/* ---- udp_recv.c: datagrams of a socket become batches ---- */

struct udp_recv {
	const struct ss_host *host;
	const struct udp_conf *conf;
	struct udp_allow *allow; /* NULL = everybody */

	struct mmsghdr *msgs;          /* conf->batch of each */
	struct iovec *iov;             /* two per message: a slot of the arena, then the spill area */
	uint8_t *control;              /* NULL without GRO */
	union udp_addr *names;         /* who sent it, where somebody asks */
	bool asks;                     /* the kernel is to tell it */
	struct ss_iface attributes_of; /* the service; vtbl NULL: the host has none */
	struct udp_senders *senders;   /* NULL: nobody wants attributes */
	uint8_t *spill;                /* mapped; takes the rest of what is longer than a slot */
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

/* [inst] In start.  allow NULL: everybody may send.  -ENOMEM. */
int32_t udp_recv_init(struct udp_recv *, const struct ss_host *, const struct udp_conf *,
		      struct udp_allow *allow);
/* [inst] Other options, with the same batch and gro. */
void udp_recv_reconfigure(struct udp_recv *, const struct udp_conf *, struct udp_allow *allow);
/* [inst] What is left of one that was zeroed or started. */
void udp_recv_done(struct udp_recv *);
/* [inst] Read once and emit what came: bytes received, or -errno (-EAGAIN: nothing there). */
int64_t udp_recv_read(struct udp_recv *, int fd);
/* [inst] One datagram as if it had been read; -ENOMEM. */
int32_t udp_recv_take(struct udp_recv *, const uint8_t *data, size_t len, const union udp_addr *from);
/* [inst] Now and then: give back memory that rare long datagrams needed. */
void udp_recv_tidy(struct udp_recv *);

/* [inst] Length of the datagrams in a message that the kernel put together; 0: it is one datagram. */
uint32_t udp_gro_segment(const struct msghdr *);
