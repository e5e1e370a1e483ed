/* SPDX-License-Identifier: MIT */
/*
 * names - DNS names and addresses that certificates are for, and strangers' texts made fit to be shown. Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <semstreams/base/host_name.h>

/* 4 or 16 bytes into raw; 0: not an address. */
size_t name_address(const char *name, unsigned char raw[16]);
/* The same DNS name, in any case, or the same address, in any form. */
bool name_same(const char *, const char *);
/* Letters, digits, - and _ in labels of at most 63; "*." may stand in front.  In ASCII, without a dot at the
 * end. */
bool name_is_dns(const char *name);
/* A name of the configuration, in the form in which CAs and certificates have it.  -EINVAL with why it cannot
 * be used, and what to write instead. */
int name_read(const char *name, struct ss_host_name *out, char *why, size_t why_size);
/* What a server is called in TLS' SNI (RFC 8738 section 6): a DNS name itself, of an address its name in
 * in-addr.arpa or ip6.arpa.  -EINVAL: neither, or out is too small. */
int name_for_sni(const char *name, char *out, size_t size);
/* text as valid UTF-8 without control characters and without those that change the direction or are
 * invisible, cut to what fits; a '?' for each that is not. */
void name_harmless(const char *text, size_t len, char *out, size_t size);
