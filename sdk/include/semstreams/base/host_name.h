/* SPDX-License-Identifier: MIT */
/* semstreams/base/host_name.h - hosts as URLs, Host fields and certificates write them, in one form.  Pure.
 * All functions are [any].  Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_BASE_HOST_NAME_H
#define SEMSTREAMS_BASE_HOST_NAME_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The longest name, in bytes without the NUL. */
#define SS_HOST_NAME_MAX 255

/* A host in that form. */
struct ss_host_name {
	/* without brackets, without the dot at the end (RFC 6066, section 3); a name in lower case, an
	 * address as RFC 5952 writes it */
	char text[SS_HOST_NAME_MAX + 1];
	unsigned char address[16]; /* in network order, if it is one */
	unsigned address_len;      /* bytes, 4 or 16; 0: it is a name */
};

/* Bring a host into that form.  0; -EINVAL: empty, too long, or brackets around what is no IPv6 address. */
int ss_host_name_read(const char *text, size_t len, struct ss_host_name *out);
/* The same name, whatever the case of its ASCII letters, or the same address, in whatever form. */
bool ss_host_name_same(const struct ss_host_name *, const struct ss_host_name *);
/* Is it meant to be an IPv4 address, as its last label is a number?  No top-level domain is one: what is not
 * an address then is a mistake. */
bool ss_host_name_is_numeric(const char *text);
/* Why no host has such a name, and what to write, as a constant; NULL: it can be one's, or it is an address.
 */
const char *ss_host_name_fault(const struct ss_host_name *);
/* Why a text is no address that a socket can be bound to, and what to write, as a constant; NULL: it is one.
 * Behind % may stand the interface of a link-local address. */
const char *ss_address_fault(const char *text);
/* What to do where no socket could be bound, by the errno of that, as a constant that begins with "; "; "" if
 * its text says all.  udp: of a datagram socket, else of a TCP listener. */
const char *ss_bind_remedy(int error, bool udp);

#ifdef __cplusplus
}
#endif
#endif
