/* SPDX-License-Identifier: MIT */
/*
 * semstreams/ext/tls-names.h - the names in a certificate of GnuTLS, read in one way by the host and the
 * provider of certificates.  Not installed.  Pure, any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gnutls/x509.h>

/* Not NUL-terminated, any byte may be in it; false: no more.  name is NULL for a CN that cannot be decoded,
 * and len its ASN.1 tag. */
typedef bool tls_name_fn(void *arg, const uint8_t *name, size_t len);

/*
 * The CNs in order, exactly by their OID, in UTF-8 whatever string they are written as (RFC 5280, 4.1.2.4): a
 * TeletexString counts as Latin-1, as those who write it mean it.  What a UTF8String holds is passed on as it
 * is.  Did it have any?
 */
bool tls_each_cn(gnutls_x509_dn_t, tls_name_fn *each, void *arg);
/* kind: GNUTLS_SAN_DNSNAME, _IPADDRESS, ...; otherwise as above. */
typedef bool tls_san_fn(void *arg, unsigned kind, const uint8_t *name, size_t len);
/* The names of the SAN in order, as they are in the certificate.  0, -ENOENT: there is no SAN, -EINVAL: it
 * cannot be read. */
int tls_each_san(gnutls_x509_crt_t, tls_san_fn *each, void *arg);

/*
 * "CN=a,O=b", the last part first (RFC 4514), decoded in the same way, control bytes and what is no UTF-8 as
 * \XX; malloced, NULL if out of memory.
 */
char *tls_dn_text(gnutls_x509_dn_t);
