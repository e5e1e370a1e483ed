/* SPDX-License-Identifier: MIT */
/*
 * ws_tls - see ws_tls.h.  Verification runs in a callback of the SSL_CTX that takes the place of OpenSSL's
 * own, because libwebsockets' verify callbacks accept too much; failures are counted by an object that dies
 * with its SSL.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <semstreams/base/host_name.h>
#include <semstreams/ext/tls-openssl.h>
#include <semstreams/ext/tls.h>
#include <semstreams/sugar.h>
#include "ws_tls.h"

#define WHY_SIZE                   512
#define ALERT_CERTIFICATE_REQUIRED 116 /* OpenSSL 3.0 has no name for it */
#define MAX_CHAIN                  16  /* certificates shown to check_peer */

struct failure {
	int32_t code; /* SS_TLS_FAIL_... */
	char why[WHY_SIZE];
};

struct ws_tls {
	struct ws_tls_options options;
	char *server_name;
	bool watching;
	bool insecure; /* as of the newest material */
	bool require;
	uint64_t built;                       /* generation of the newest context */
	SSL_CTX *server;                      /* libwebsockets' */
	struct tls_openssl_identity identity; /* what a server shows */
	struct failure last;                  /* client: why the dial failed */
	bool failed;
};

/* One handshake, from its first step until it is done or its SSL is freed. */
struct handshake {
	struct ws_tls *tls;
	bool heard; /* the peer sent something */
	bool blamed;
	bool ignored; /* nothing of it is to be told */
	struct failure failure;
	char peer[INET6_ADDRSTRLEN];
};

/* What is left of it when it is done, and when a server has read something after that. */
static const char handshake_done;

/* OpenSSL's registry of indices is the process's, so these are too: written once. */
static pthread_once_t indices_once = PTHREAD_ONCE_INIT;
static int handshake_index, tls_index;

static void handshake_free(struct handshake *h);

/* ---- between OpenSSL's verdicts on a chain and SS_TLS_FAIL_... ---- */

/* Of a verdict X509_V_...: SS_TLS_FAIL_..., -1 if it is good. */
static int32_t fail_of_error(long error)
{
	switch (error) {
	case X509_V_OK:
		return -1;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return SS_TLS_FAIL_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return SS_TLS_FAIL_NOT_YET_VALID;
	case X509_V_ERR_INVALID_PURPOSE:
		return SS_TLS_FAIL_PURPOSE;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return SS_TLS_FAIL_NAME;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_INVALID_CA:
		return SS_TLS_FAIL_UNKNOWN_CA;
	default:
		return SS_TLS_FAIL_OTHER;
	}
}

/* The verdict that makes OpenSSL send the alert that fits. */
static int error_of_fail(int32_t fail)
{
	switch (fail) {
	case SS_TLS_FAIL_UNKNOWN_CA:
		return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	case SS_TLS_FAIL_EXPIRED:
		return X509_V_ERR_CERT_HAS_EXPIRED;
	case SS_TLS_FAIL_NOT_YET_VALID:
		return X509_V_ERR_CERT_NOT_YET_VALID;
	case SS_TLS_FAIL_PURPOSE:
		return X509_V_ERR_INVALID_PURPOSE;
	case SS_TLS_FAIL_NAME:
		return X509_V_ERR_HOSTNAME_MISMATCH;
	case SS_TLS_FAIL_REVOKED:
		return X509_V_ERR_CERT_REVOKED;
	default:
		return X509_V_ERR_APPLICATION_VERIFICATION;
	}
}

static void on_ssl_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	if (ptr && ptr != &handshake_done)
		handshake_free(ptr);
}

static void make_indices(void)
{
	handshake_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, on_ssl_free);
	tls_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static bool is_server(const struct ws_tls *t)
{
	return t->options.role == SS_TLS_SERVER;
}

/* ---- reasons ---- */

/* The first reason counts: what follows is its consequence. */
static void blame(struct handshake *h, int32_t code, const char *why)
{
	if (!h || h->blamed)
		return;
	h->blamed = true;
	h->failure.code = code;
	snprintf(h->failure.why, sizeof h->failure.why, "%s", why);
	struct ws_tls *t = h->tls;
	if (!is_server(t) && !t->failed) {
		t->failed = true;
		t->last = h->failure;
	}
}

static void count(struct ws_tls *t, int32_t code)
{
	if (t->options.api)
		t->options.api->count_failure(t->options.self, t->options.role, code);
}

/* A handshake that was never finished.  A client's is told by whoever dialled. */
static void handshake_free(struct handshake *h)
{
	struct ws_tls *t = h->tls;
	if (is_server(t) && !h->ignored && (h->heard || h->blamed)) {
		if (!h->blamed)
			blame(h, SS_TLS_FAIL_OTHER, "TLS handshake broken off by the peer");
		count(t, h->failure.code);
		char text[WHY_SIZE + INET6_ADDRSTRLEN + 16];
		snprintf(text, sizeof text, "%s%s%s", h->failure.why, h->peer[0] ? " peer=" : "", h->peer);
		t->options.failed(t->options.arg, text);
	}
	free(h);
}

static struct handshake *handshake_of(const SSL *ssl)
{
	void *p = SSL_get_ex_data(ssl, handshake_index);
	return p == &handshake_done ? NULL : p;
}

/* ---- verification ---- */

/* Stop at the first error, as OpenSSL does without a callback. */
static int take_verdict(int ok, X509_STORE_CTX *store)
{
	(void)store;
	return ok;
}

static void free_ders(struct ss_der *ders, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		OPENSSL_free((void *)ders[i].data);
}

/* The certificates as they were shown, leaf first; out has room for MAX_CHAIN. */
static uint32_t ders_of(X509 *leaf, STACK_OF(X509) * shown, struct ss_der *out)
{
	uint32_t n = 0;
	for (int i = -1; i < sk_X509_num(shown) && n < MAX_CHAIN; i++) {
		X509 *x = i < 0 ? leaf : sk_X509_value(shown, i);
		if (!x || (i >= 0 && leaf && X509_cmp(x, leaf) == 0))
			continue;
		unsigned char *der = NULL;
		int len = i2d_X509(x, &der);
		if (len > 0)
			out[n++] = (struct ss_der){der, (size_t)len};
	}
	return n;
}

/* 0 or -EACCES with *failure. */
static int decide(struct ws_tls *t, X509 *leaf, STACK_OF(X509) * shown, long error, char *name,
		  size_t name_size, struct failure *failure)
{
	int32_t verdict = fail_of_error(error);
	*failure = (struct failure){.code = verdict < 0 ? SS_TLS_FAIL_OTHER : verdict};
	name[0] = '\0';
	if (!t->options.api) {
		if (verdict >= 0)
			snprintf(failure->why, sizeof failure->why, "certificate of %s refused: %s",
				 t->server_name, X509_verify_cert_error_string(error));
		return verdict < 0 ? 0 : -EACCES;
	}
	struct ss_der ders[MAX_CHAIN];
	uint32_t n = ders_of(leaf, shown, ders);
	int32_t rc = t->options.api->check_peer(t->options.self, t->options.role, ders, n, verdict,
						t->server_name, name, name_size, &failure->code, failure->why,
						sizeof failure->why);
	free_ders(ders, n);
	if (rc == 0 && verdict < 0)
		return 0;
	if (!failure->why[0])
		snprintf(failure->why, sizeof failure->why, "certificate refused: %s",
			 X509_verify_cert_error_string(error));
	name[0] = '\0';
	return -EACCES;
}

/* In the place of X509_verify_cert: 1 = good. */
static int verify(X509_STORE_CTX *store, void *arg)
{
	struct ws_tls *t = arg;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	if (t->insecure && !is_server(t)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	X509_STORE_CTX_set_verify_cb(store, take_verdict);
	int ok = X509_verify_cert(store) == 1;
	int error = X509_STORE_CTX_get_error(store);
	if (!ok && error == X509_V_OK)
		X509_STORE_CTX_set_error(store, error = X509_V_ERR_UNSPECIFIED);
	char name[256];
	struct failure failure;
	if (decide(t, X509_STORE_CTX_get0_cert(store), X509_STORE_CTX_get0_untrusted(store), error, name,
		   sizeof name, &failure) == 0)
		return 1;
	blame(handshake_of(ssl), failure.code, failure.why);
	if (ok)
		X509_STORE_CTX_set_error(store, error_of_fail(failure.code));
	return 0;
}

int ws_tls_check(struct ws_tls *t, void *connection, char *name, size_t name_size, char *why, size_t why_size)
{
	SSL *ssl = connection;
	name[0] = '\0';
	if (t->insecure && !is_server(t))
		return 0;
	X509 *leaf = SSL_get_peer_certificate(ssl);
	if (!leaf && is_server(t) && !t->require)
		return 0;
	long error = SSL_get_verify_result(ssl);
	struct failure failure;
	int rc = 0;
	if (leaf) {
		rc = decide(t, leaf, SSL_get_peer_cert_chain(ssl), error, name, name_size, &failure);
	} else {
		failure = (struct failure){SS_TLS_FAIL_NO_CERT, "no certificate shown"};
		rc = -EACCES;
	}
	X509_free(leaf);
	if (rc == 0)
		return 0;
	snprintf(why, why_size, "%s", failure.why);
	if (is_server(t)) {
		count(t, failure.code);
	} else if (!t->failed) {
		t->failed = true;
		t->last = failure;
	}
	return rc;
}

/* ---- what OpenSSL tells of a handshake ---- */

/* A client came without a certificate. */
static void blame_no_certificate(struct handshake *h)
{
	struct ws_tls *t = h->tls;
	struct failure f = {.code = SS_TLS_FAIL_NO_CERT};
	char name[256] = "";
	if (t->options.api)
		t->options.api->check_peer(t->options.self, t->options.role, NULL, 0, SS_TLS_FAIL_NO_CERT,
					   NULL, name, sizeof name, &f.code, f.why, sizeof f.why);
	blame(h, SS_TLS_FAIL_NO_CERT, f.why[0] ? f.why : "client certificate required but not provided");
}

/* Why OpenSSL itself gave up, from its error queue. */
static void blame_error(struct handshake *h, unsigned long error)
{
	char why[WHY_SIZE];
	int32_t code = SS_TLS_FAIL_OTHER;
	const char *text = ERR_reason_error_string(error);
	bool server = is_server(h->tls);
	switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		blame_no_certificate(h);
		return;
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return; /* nothing to report of one that only connects */
#endif
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_NO_PROTOCOLS_AVAILABLE:
	case SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		code = SS_TLS_FAIL_VERSION;
		snprintf(why, sizeof why, "TLS version of the %s is below min_version",
			 server ? "client" : "server");
		break;
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		snprintf(why, sizeof why, "plain HTTP on a port that speaks TLS");
		break;
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
		snprintf(why, sizeof why, "the %s does not speak TLS here", server ? "client" : "server");
		break;
	case SSL_R_CERT_CB_ERROR:
		snprintf(why, sizeof why, "no certificate to show yet");
		break;
	default:
		snprintf(why, sizeof why, "TLS handshake failed: %s", text ? text : "unknown reason");
	}
	blame(h, code, why);
}

static void blame_alert(struct handshake *h, int alert)
{
	int32_t code = SS_TLS_FAIL_OTHER;
	char why[WHY_SIZE];
	bool server = is_server(h->tls);
	const char *text = SSL_alert_desc_string_long(alert);
	switch (alert & 0xff) {
	case SSL_AD_CLOSE_NOTIFY:
	case SSL_AD_USER_CANCELLED:
		return;
	case SSL_AD_PROTOCOL_VERSION:
		code = SS_TLS_FAIL_VERSION;
		break;
	case ALERT_CERTIFICATE_REQUIRED:
		code = SS_TLS_FAIL_NO_CERT;
		text = "certificate required";
		break;
	}
	snprintf(why, sizeof why, "the %s refused the TLS handshake: %s", server ? "client" : "server", text);
	blame(h, code, why);
}

static void on_message(int sent, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	(void)version, (void)type, (void)buf, (void)len, (void)arg;
	struct handshake *h = handshake_of(ssl);
	if (!sent && h)
		h->heard = true;
}

static void name_peer(SSL *ssl, struct handshake *h)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	if (getpeername(SSL_get_fd(ssl), (struct sockaddr *)&sa, &len) == 0)
		getnameinfo((struct sockaddr *)&sa, len, h->peer, sizeof h->peer, NULL, 0, NI_NUMERICHOST);
}

static void handshake_start(SSL *ssl)
{
	struct ws_tls *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_index);
	if (!t || SSL_get_ex_data(ssl, handshake_index))
		return;
	struct handshake *h = calloc(1, sizeof *h);
	if (!h)
		return; /* then only its reason is lost */
	h->tls = t;
	if (!SSL_set_ex_data(ssl, handshake_index, h)) {
		free(h);
		return;
	}
	name_peer(ssl, h);
	if (!is_server(t)) {
		/* libwebsockets also sends addresses, and cuts those of IPv6 at their first colon */
		struct ss_host_name host;
		bool named = ss_host_name_read(t->server_name, strlen(t->server_name), &host) == 0 &&
			     !host.address_len;
		SSL_set_tlsext_host_name(ssl, named ? host.text : NULL);
	}
}

static void on_info(const SSL *ssl, int where, int ret)
{
	struct handshake *h = handshake_of(ssl);
	unsigned long error;
	if (where & SSL_CB_HANDSHAKE_START) {
		handshake_start((SSL *)ssl);
	} else if (!h) {
		return;
	} else if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT) {
		blame_alert(h, ret);
	} else if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT) {
		if (ret >> 8 == SSL3_AL_FATAL && (error = ERR_peek_last_error()))
			blame_error(h, error);
		if (ret >> 8 == SSL3_AL_FATAL && h->tls->options.alerted)
			h->tls->options.alerted(h->tls->options.arg, SSL_get_fd(ssl));
	} else if ((where & SSL_CB_EXIT) && ret < 0) {
		if ((error = ERR_peek_last_error()))
			blame_error(h, error);
	} else if ((where & SSL_CB_HANDSHAKE_DONE) && is_server(h->tls)) {
		/* a TLS 1.3 client is told of its refusal only later */
		SSL_set_ex_data((SSL *)ssl, handshake_index, (void *)&handshake_done);
		SSL_set_msg_callback((SSL *)ssl, NULL);
		free(h);
	} else if (where & SSL_CB_HANDSHAKE_DONE) {
		SSL_set_msg_callback((SSL *)ssl, NULL);
	}
}

bool ws_tls_cut(struct ws_tls *t, void *connection, const char *why)
{
	SSL *ssl = connection;
	(void)t;
	if (!ssl || SSL_is_init_finished(ssl))
		return false;
	blame(handshake_of(ssl), SS_TLS_FAIL_OTHER, why);
	return true;
}

void ws_tls_ignore(void *connection)
{
	struct handshake *h = handshake_of(connection);
	if (h)
		h->ignored = true;
}

void ws_tls_dialling(struct ws_tls *t)
{
	t->failed = false;
	t->last.why[0] = '\0';
}

const char *ws_tls_why(struct ws_tls *t)
{
	if (t->failed) {
		t->failed = false;
		count(t, t->last.code);
	}
	return t->last.why;
}

/* ---- reading from an open connection ---- */

ssize_t ws_tls_read(void *connection, void *buf, size_t size, bool ahead)
{
	SSL *ssl = connection;
	ERR_clear_error();
	SSL_set_read_ahead(ssl, ahead);
	int n = SSL_read(ssl, buf, size < INT_MAX ? (int)size : INT_MAX);
	if (n > 0)
		return n;
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: /* of an answer to a change of keys: it goes out with what is sent next */
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		return -EIO;
	}
}

void ws_tls_end(void *ssl)
{
	ERR_clear_error();
	SSL_shutdown(ssl);
	ERR_clear_error();
}

bool ws_tls_pending(void *ssl)
{
	return SSL_has_pending(ssl) == 1;
}

void ws_tls_digest(const void *bytes, size_t len, uint8_t out[32])
{
	SHA256(bytes, len, out);
}

/* ---- contexts ---- */

/* What no configuration changes. */
static int set_policy(struct ws_tls *t, SSL_CTX *ctx)
{
	SSL_CTX_set_info_callback(ctx, on_info);
	SSL_CTX_set_msg_callback(ctx, on_message);
	SSL_CTX_set_cert_verify_callback(ctx, verify, t);
	return SSL_CTX_set_ex_data(ctx, tls_index, t) == 1 ? tls_openssl_policy(ctx) : -ENOMEM;
}

static const struct ss_tls_material default_client = {.struct_size = sizeof default_client,
						      .role = SS_TLS_CLIENT,
						      .generation = 1,
						      .min_version = TLS1_2_VERSION,
						      .flags = SS_TLS_SYSTEM_CA | SS_TLS_VERIFY_PEER};

static const struct ss_tls_material *acquire(const struct ws_tls *t)
{
	return t->options.api ? t->options.api->acquire(t->options.self, t->options.role) : &default_client;
}

static void release(const struct ws_tls *t, const struct ss_tls_material *m)
{
	if (t->options.api && m)
		t->options.api->release(t->options.self, m);
}

static int show_certificate(SSL *ssl, void *arg)
{
	struct ws_tls *t = arg;
	if (!t->identity.leaf)
		return 0;
	SSL_certs_clear(ssl);
	return SSL_use_cert_and_key(ssl, t->identity.leaf, t->identity.key, t->identity.chain, 1) == 1;
}

static int set_expected_name(SSL_CTX *ctx, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1)
		return 0;
	ERR_clear_error();
	return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 ? 0 : -EINVAL;
}

/* Put material into the server's context; on failure the old stays. */
static int server_apply(struct ws_tls *t, const struct ss_tls_material *m)
{
	const char *why = "min_version is not possible";
	struct tls_openssl_identity id;
	int rc = tls_openssl_identity_read(m, &id, &why);
	if (rc == 0)
		rc = tls_openssl_trust(t->server, m, true, &why);
	if (rc == 0)
		rc = tls_openssl_version(t->server, m);
	if (rc < 0) {
		tls_openssl_identity_free(&id);
		ss_log(t->options.host, SS_LOG_ERROR, "TLS of the server not changed: %s", why);
		return rc;
	}
	int mode = SSL_VERIFY_NONE;
	if (m->flags & (SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER))
		mode = SSL_VERIFY_PEER;
	t->require = m->flags & SS_TLS_REQUIRE_PEER;
	if (t->require)
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_verify(t->server, mode, NULL);
	tls_openssl_identity_free(&t->identity);
	t->identity = id;
	t->built = m->generation;
	return 0;
}

int ws_tls_furnish(struct ws_tls *t, void *ssl_ctx)
{
	t->server = ssl_ctx;
	int rc = set_policy(t, t->server);
	if (rc < 0)
		return rc;
	SSL_CTX_set_cert_cb(t->server, show_certificate, t);
	SSL_CTX_set_session_id_context(t->server, (const unsigned char *)"semstreams", 10);
	const struct ss_tls_material *m = acquire(t);
	rc = m ? server_apply(t, m) : -ENOENT;
	release(t, m);
	return rc;
}

void *ws_tls_client_ctx(struct ws_tls *t)
{
	const struct ss_tls_material *m = acquire(t);
	struct tls_openssl_identity id = {0};
	const char *why = "security.tls has no client section";
	SSL_CTX *ctx = m ? SSL_CTX_new(TLS_client_method()) : NULL;
	if (m)
		why = "min_version is not possible";
	bool ok = ctx && set_policy(t, ctx) == 0 && tls_openssl_version(ctx, m) == 0 &&
		  tls_openssl_identity_read(m, &id, &why) == 0 && tls_openssl_trust(ctx, m, false, &why) == 0;
	if (ok) {
		why = "certificate, key or name cannot be used";
		ok = set_expected_name(ctx, t->server_name) == 0 &&
		     (!id.leaf || SSL_CTX_use_cert_and_key(ctx, id.leaf, id.key, id.chain, 1) == 1);
	}
	tls_openssl_identity_free(&id);
	if (ok) {
		t->insecure = m->flags & SS_TLS_INSECURE;
		t->built = m->generation;
	} else {
		ss_log(t->options.host, SS_LOG_ERROR, "no TLS for the client: %s", why);
		ERR_clear_error();
		SSL_CTX_free(ctx);
		ctx = NULL;
	}
	release(t, m);
	return ctx;
}

void ws_tls_ctx_free(void *ssl_ctx)
{
	SSL_CTX_free(ssl_ctx);
}

/* ---- open connections, when trust has changed or a certificate has ended ---- */

int ws_tls_recheck(struct ws_tls *t, void *connection, const char *name, int64_t *valid_until, char *why,
		   size_t why_size)
{
	SSL *ssl = connection;
	X509 *leaf = SSL_get_peer_certificate(ssl);
	struct ss_der ders[MAX_CHAIN];
	struct failure failure = {.code = SS_TLS_FAIL_OTHER};
	int rc = 0;

	*valid_until = 0;
	if (t->options.api && SS_KNOWS(t->options.api, struct ss_tls, recheck_peer) &&
	    t->options.api->recheck_peer) {
		uint32_t n = leaf ? ders_of(leaf, SSL_get_peer_cert_chain(ssl), ders) : 0;
		rc = t->options.api->recheck_peer(t->options.self, t->options.role, ders, n, t->server_name,
						  name, valid_until, &failure.code, failure.why,
						  sizeof failure.why);
		free_ders(ders, n);
	}
	X509_free(leaf);
	if (rc < 0)
		snprintf(why, why_size, "%s", failure.why);
	return rc;
}

bool ws_tls_waits(const struct ws_tls *t)
{
	const struct ss_tls_material *m = acquire(t);
	bool waits = m && (m->flags & SS_TLS_PENDING);
	release(t, m);
	return waits;
}

bool ws_tls_stale(const struct ws_tls *t)
{
	const struct ss_tls_material *m = acquire(t);
	bool stale = m && m->generation != t->built;
	release(t, m);
	return stale;
}

void ws_tls_refresh(struct ws_tls *t)
{
	if (!is_server(t) || !t->server)
		return;
	const struct ss_tls_material *m = acquire(t);
	if (m && m->generation != t->built)
		server_apply(t, m);
	release(t, m);
}

static void on_change(void *arg)
{
	struct ws_tls *t = arg;
	ws_tls_refresh(t);
	t->options.changed(t->options.arg);
}

int ws_tls_new(const struct ws_tls_options *options, struct ws_tls **out)
{
	pthread_once(&indices_once, make_indices);
	struct ws_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->options = *options;
	t->server_name = options->server_name ? strdup(options->server_name) : NULL;
	t->options.server_name = t->server_name;
	int rc = options->server_name && !t->server_name ? -ENOMEM : 0;
	if (rc == 0 && options->api) {
		rc = options->api->watch(options->self, on_change, t);
		t->watching = rc == 0;
	}
	if (rc < 0) {
		ss_log(options->host, SS_LOG_ERROR, "TLS: %s", strerror(-rc));
		ws_tls_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void ws_tls_free(struct ws_tls *t)
{
	if (!t)
		return;
	if (t->watching)
		t->options.api->unwatch(t->options.self);
	tls_openssl_identity_free(&t->identity);
	free(t->server_name);
	free(t);
}
