/* SPDX-License-Identifier: MIT */
/*
 * responder_alpn - answers tls-alpn-01 (RFC 8737; addresses: RFC 8738): a TLS handshake with a certificate
 * made for the challenge, for clients of ALPN acme-tls/1 only.  In the loop's thread.
 */
#include "responder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "plugins/identity/names.h"

enum {
	HANDSHAKE_MAX = 16 * 1024, /* bytes of one handshake message */
	CALLS_AT_ONCE = 8,
	DAY = 86400,
};
static const char identifier_oid[] = "1.3.6.1.5.5.7.1.31";
static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

/* ---- the certificate of a challenge ---- */

static int put_identifier(gnutls_x509_crt_t crt, const char *key_authorization)
{
	unsigned char value[2 + 32] = {0x04, 32}; /* OCTET STRING */
	int rc = gnutls_hash_fast(GNUTLS_DIG_SHA256, key_authorization, strlen(key_authorization), value + 2);
	return rc ? rc : gnutls_x509_crt_set_extension_by_oid(crt, identifier_oid, value, sizeof value, 1);
}

static int put_name(gnutls_x509_crt_t crt, const char *name)
{
	unsigned char raw[16];
	size_t len = name_address(name, raw);
	return len ? gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, raw, (unsigned)len,
							  GNUTLS_FSAN_SET)
		   : gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name,
							  (unsigned)strlen(name), GNUTLS_FSAN_SET);
}

static int fill(gnutls_x509_crt_t crt, const struct answer *a, gnutls_x509_privkey_t key)
{
	static const char cn[] = "ACME challenge";
	unsigned char serial[16];
	time_t now = time(NULL);
	int rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
	serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, of full length */
	if (rc || (rc = gnutls_x509_crt_set_version(crt, 3)) ||
	    (rc = gnutls_x509_crt_set_serial(crt, serial, sizeof serial)) ||
	    (rc = gnutls_x509_crt_set_activation_time(crt, now - DAY)) ||
	    (rc = gnutls_x509_crt_set_expiration_time(crt, now + 7 * DAY)) ||
	    (rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn, sizeof cn - 1)) ||
	    (rc = gnutls_x509_crt_set_key(crt, key)) || (rc = put_name(crt, a->name)) ||
	    (rc = put_identifier(crt, a->key_authorization)))
		return rc;
	return gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

static int make_credentials(const struct answer *a)
{
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t crt = NULL;
	int rc = gnutls_x509_privkey_init(&key);
	if (rc == 0)
		rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
						  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc == 0)
		rc = gnutls_x509_crt_init(&crt);
	if (rc == 0)
		rc = fill(crt, a, key);
	if (rc == 0)
		rc = gnutls_certificate_set_x509_key(a->credentials, &crt, 1, key);
	if (crt)
		gnutls_x509_crt_deinit(crt);
	if (key)
		gnutls_x509_privkey_deinit(key);
	return rc;
}

static void unmake(struct answer *a)
{
	gnutls_certificate_free_credentials(a->credentials);
}

static int make(struct answer *a, char *why, size_t why_size)
{
	gnutls_certificate_credentials_t credentials;
	if (name_for_sni(a->name, a->sni, sizeof a->sni)) {
		snprintf(why, why_size, "\"%s\" is neither a DNS name nor an address", a->name);
		return -EINVAL;
	}
	if (gnutls_certificate_allocate_credentials(&credentials))
		return -ENOMEM;
	a->credentials = credentials;
	int rc = make_credentials(a);
	if (!rc)
		return 0;
	snprintf(why, why_size, "cannot make a certificate to answer for %s: %s", a->name,
		 gnutls_strerror(rc));
	return -EINVAL;
}

/* ---- handshakes ---- */

struct alpn_conn {
	struct conn base;
	gnutls_session_t session;
	struct answer *named; /* by SNI */
	bool saying_bye;
};

static struct answer *find(const struct responder *r, const char *sni)
{
	for (struct answer *a = r->answers; a; a = a->next)
		if (!a->removed && strcasecmp(a->sni, sni) == 0)
			return a;
	return NULL;
}

/* In the client's hello, before the certificate is chosen. */
static int on_name(gnutls_session_t session)
{
	struct alpn_conn *c = gnutls_session_get_ptr(session);
	char sni[sizeof((struct answer *)0)->sni];
	size_t len = sizeof sni;
	unsigned kind;
	if (gnutls_server_name_get(session, sni, &len, &kind, 0) || kind != GNUTLS_NAME_DNS)
		return GNUTLS_E_UNRECOGNIZED_NAME;
	struct answer *a = find(c->base.responder, sni);
	if (!a)
		return GNUTLS_E_UNRECOGNIZED_NAME;
	c->named = a;
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, a->credentials);
}

/* Behind the client's hello: GnuTLS lets clients pass that do not use ALPN at all. */
static int on_hello(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
		    const gnutls_datum_t *message)
{
	struct alpn_conn *c = gnutls_session_get_ptr(session);
	gnutls_datum_t chosen;
	(void)type;
	(void)when;
	(void)message;
	if (!incoming)
		return 0;
	if (!c->named || gnutls_alpn_get_selected_protocol(session, &chosen))
		return GNUTLS_E_NO_APPLICATION_PROTOCOL;
	c->base.answer = c->named;
	return 0;
}

static int open_conn(struct conn *base, int fd)
{
	struct alpn_conn *c = (struct alpn_conn *)base;
	unsigned char protocol[] = "acme-tls/1"; /* is copied */
	gnutls_datum_t alpn = {.data = protocol, .size = sizeof protocol - 1};
	if (gnutls_init(&c->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS))
		return -ENOMEM;
	gnutls_session_set_ptr(c->session, c);
	gnutls_handshake_set_max_packet_length(c->session, HANDSHAKE_MAX);
	gnutls_handshake_set_post_client_hello_function(c->session, on_name);
	gnutls_handshake_set_hook_function(c->session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
					   on_hello);
	gnutls_transport_set_int(c->session, fd);
	if (gnutls_priority_set_direct(c->session, priorities, NULL) == 0 &&
	    gnutls_alpn_set_protocols(c->session, &alpn, 1, GNUTLS_ALPN_MANDATORY) == 0)
		return 0;
	gnutls_deinit(c->session);
	return -ENOMEM;
}

static void close_conn(struct conn *base)
{
	struct alpn_conn *c = (struct alpn_conn *)base;
	gnutls_deinit(c->session);
}

static bool must_wait(int rc)
{
	return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

/* The CA has seen all it wants with the handshake (RFC 8737 section 3). */
static enum conn_next say_bye(struct alpn_conn *c)
{
	c->saying_bye = true;
	return must_wait(gnutls_bye(c->session, GNUTLS_SHUT_WR)) ? CONN_WRITE : CONN_LINGER;
}

static enum conn_next step(struct conn *base, int fd)
{
	struct alpn_conn *c = (struct alpn_conn *)base;
	(void)fd;
	if (c->saying_bye)
		return say_bye(c);
	for (int i = 0; i < CALLS_AT_ONCE; i++) {
		int rc = gnutls_handshake(c->session);
		if (rc == 0)
			return say_bye(c);
		if (must_wait(rc))
			return gnutls_record_get_direction(c->session) ? CONN_WRITE : CONN_READ;
		if (!gnutls_error_is_fatal(rc))
			continue;
		gnutls_alert_send_appropriate(c->session, rc);
		return CONN_LINGER;
	}
	return CONN_READ;
}

const struct responder_kind responder_alpn = {
	.conn_size = sizeof(struct alpn_conn),
	.ca_port = 443,
	.make = make,
	.unmake = unmake,
	.open = open_conn,
	.step = step,
	.close = close_conn,
};
