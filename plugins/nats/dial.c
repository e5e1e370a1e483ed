/* SPDX-License-Identifier: MIT */
#include "plugins/nats/dial.h"

#include <linux/tcp.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <semstreams/base/strbuf.h>
#include "plugins/nats/watch.h"

/* What a handshake sends, with a long chain of certificates, and a connection in use has soon passed. */
enum { HANDSHAKE_BYTES = 64 * 1024, DESCRIPTORS_MAX = 1 << 20 };

void notice_unref(struct notice *n)
{
	if (n && atomic_fetch_sub(&n->refs, 1) == 1)
		free(n);
}

/* ---- what libnats calls in threads of its own ---- */

static void on_lame_duck(natsConnection *nc, void *closure)
{
	struct notice *notice = closure;

	(void)nc;
	atomic_store(&notice->lame_duck, true);
}

/* The last that is called for a connection that was made. */
static void on_closed(natsConnection *nc, void *closure)
{
	(void)nc;
	notice_unref(closure);
}

/* Without a handler libnats prints to standard error.  What is wrong shows in answers that do not come. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
	(void)nc;
	(void)sub;
	(void)status;
	(void)closure;
}

/* ---- connecting ---- */

void dial_host(const char *url, char *host, size_t host_size, char *port, size_t port_size)
{
	const char *at = strstr(url, "://") + 3, *end;

	if (*at == '[') {
		end = strchr(++at, ']');
		snprintf(host, host_size, "%.*s", (int)(end - at), at);
		end++;
	} else {
		end = at + strcspn(at, ":");
		snprintf(host, host_size, "%.*s", (int)(end - at), at);
	}
	snprintf(port, port_size, "%s", *end == ':' ? end + 1 : "4222");
}

/* Where the socket of this attempt may lead. */
static void note_addresses(struct dial *d, const char *host, const char *port)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	unsigned n = 0;

	if (getaddrinfo(host, port, &hints, &found) != 0)
		return;
	for (const struct addrinfo *a = found; a && n < 8; a = a->ai_next)
		if (a->ai_addrlen <= sizeof d->addresses[0])
			memcpy(&d->addresses[n++], a->ai_addr, a->ai_addrlen);
	freeaddrinfo(found);
	atomic_store(&d->n_addresses, n);
}

/* The next step, if all before it went well. */
#define TRY(call)                                                                                            \
	do                                                                                                   \
		if (s == NATS_OK)                                                                            \
			s = call;                                                                            \
	while (0)

static void add_certificate(X509 *cert, struct ss_strbuf *out)
{
	BIO *text = BIO_new(BIO_s_mem());
	char *bytes;

	if (text && PEM_write_bio_X509(text, cert)) {
		const long len = BIO_get_mem_data(text, &bytes);
		ss_strbuf_add(out, bytes, (size_t)len);
	} else {
		out->failed = true;
	}
	BIO_free(text);
}

/*
 * Of a certificate that it is given in memory libnats shows the leaf only.  OpenSSL adds those in between if
 * it finds them among the CAs.  They are not trusted by that, as without its root no chain ends there; so a
 * root that is among them is left out.
 */
static void add_intermediates(const char *chain, struct ss_strbuf *out)
{
	BIO *text = BIO_new_mem_buf(chain, -1);
	X509 *cert;

	for (int i = 0; text && (cert = PEM_read_bio_X509(text, NULL, NULL, NULL)); i++) {
		if (i > 0 && X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) != 0)
			add_certificate(cert, out);
		X509_free(cert);
	}
	ERR_clear_error(); /* the end of the text is one */
	BIO_free(text);
}

static natsStatus set_authorities(natsOptions *o, const struct ss_tls_material *tls)
{
	struct ss_strbuf all = {0};
	natsStatus s = NATS_OK;

	if (tls->ca_pem)
		ss_strbuf_text(&all, tls->ca_pem);
	ss_strbuf_char(&all, '\n');
	if (tls->chain_pem)
		add_intermediates(tls->chain_pem, &all);
	if (all.failed)
		s = NATS_NO_MEMORY;
	else if (strstr(ss_strbuf_cstr(&all), "BEGIN"))
		s = natsOptions_SetCATrustedCertificates(o, ss_strbuf_cstr(&all));
	ss_strbuf_done(&all);
	return s;
}

static natsStatus set_tls(natsOptions *o, const struct ss_tls_material *tls, const char *host)
{
	natsStatus s = natsOptions_SetSecure(o, true);

	if (tls->chain_pem && tls->key_pem)
		TRY(natsOptions_SetCertificatesChain(o, tls->chain_pem, tls->key_pem));
	TRY(set_authorities(o, tls));
	if (tls->flags & SS_TLS_INSECURE)
		TRY(natsOptions_SkipServerVerification(o, true));
	else
		TRY(natsOptions_SetExpectedHostname(o, host));
	return s;
}

static natsStatus set_options(struct dial *d, natsOptions *o, const char *host)
{
	const struct nats_settings *set = d->settings;
	natsStatus s = natsOptions_SetURL(o, d->url);

	TRY(natsOptions_SetName(o, d->name));
	TRY(natsOptions_SetTimeout(o, set->timeout / 1000000));
	TRY(natsOptions_SetAllowReconnect(o, false));
	TRY(natsOptions_SetIgnoreDiscoveredServers(o, true));
	/* pings would come from a thread of libnats; owners ask the server something now and then */
	TRY(natsOptions_SetPingInterval(o, 0));
	TRY(natsOptions_SetIOBufSize(o, NATS_BUFFER));
	/* else a thread of libnats would ask for write events, which the loop, asleep, does not notice */
	TRY(natsOptions_SetSendAsap(o, true));
	TRY(natsOptions_SetEventLoop(o, d->watch, watch_attach, watch_read, watch_write, watch_detach));
	TRY(natsOptions_SetErrorHandler(o, on_error, NULL));
	TRY(natsOptions_SetClosedCB(o, on_closed, d->notice));
	TRY(natsOptions_SetLameDuckModeCB(o, on_lame_duck, d->notice));
	if (set->user)
		TRY(natsOptions_SetUserInfo(o, set->user, set->password ? set->password : ""));
	if (set->token)
		TRY(natsOptions_SetToken(o, set->token));
	if (d->tls)
		TRY(set_tls(o, d->tls, host));
	return s;
}

static natsStatus open_inbox(struct dial *d)
{
	char subject[sizeof d->prefix + 2];
	natsInbox *inbox = NULL;
	natsStatus s = natsInbox_Create(&inbox);

	if (s != NATS_OK)
		return s;
	snprintf(d->prefix, sizeof d->prefix, "%s.%s.", d->settings->inbox_prefix, strrchr(inbox, '.') + 1);
	natsInbox_Destroy(inbox);
	snprintf(subject, sizeof subject, "%s*", d->prefix);
	s = natsConnection_SubscribeSync(&d->inbox, d->nc, subject);
	TRY(natsSubscription_SetPendingLimits(d->inbox, -1, -1)); /* it is emptied after each read */
	return s;
}

static void explain(struct dial *d, natsStatus s)
{
	natsStatus last;
	const char *text = nats_GetLastError(&last);
	const char *remedy = "";

	if (s == NATS_SECURE_CONNECTION_REQUIRED || (s == NATS_SSL_ERROR && !d->tls))
		remedy = "; the server wants TLS: write tls:// and configure security.tls.client";
	else if (s == NATS_SECURE_CONNECTION_WANTED)
		remedy = "; it does not offer TLS: set up tls there, or write nats://";
	else if (s == NATS_CONNECTION_AUTH_FAILED)
		remedy = "; see user, password, token, and who may connect there";
	else if (d->tls && (s == NATS_PROTOCOL_ERROR || s == NATS_IO_ERROR || s == NATS_CONNECTION_CLOSED))
		remedy = "; perhaps it does not accept the certificate of security.tls.client: see its log";
	snprintf(d->why, sizeof d->why, "%s%s%.240s%s", natsStatus_GetText(s), text && *text ? ": " : "",
		 text ? text : "", remedy);
}

void dial_run(void *arg)
{
	struct dial *d = arg;
	natsOptions *options = NULL;
	char host[256], port[16];

	dial_host(d->url, host, sizeof host, port, sizeof port);
	note_addresses(d, host, port);
	natsStatus s = natsOptions_Create(&options);
	TRY(set_options(d, options, host));
	if (s == NATS_OK) {
		atomic_fetch_add(&d->notice->refs, 1); /* on_closed()'s */
		atomic_store(&d->notice->lame_duck, false);
		s = natsConnection_Connect(&d->nc, options);
		if (s != NATS_OK)
			notice_unref(d->notice);
	}
	TRY(open_inbox(d));
	if (s != NATS_OK) {
		explain(d, s);
		natsSubscription_Destroy(d->inbox);
		natsConnection_Destroy(d->nc);
		d->inbox = NULL;
		d->nc = NULL;
	}
	natsOptions_Destroy(options);
}

/* ---- a handshake that does not end ---- */

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a->ss_family == AF_INET6 && a6->sin6_port == b6->sin6_port &&
	       memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

/* Connected to where this attempt leads, and nothing sent yet but a handshake. */
static bool is_handshake(const struct dial *d, unsigned n, int fd)
{
	struct sockaddr_storage peer = {0};
	struct tcp_info info = {0};
	socklen_t peer_len = sizeof peer, info_len = sizeof info;
	bool leads_there = false;

	if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0)
		return false;
	for (unsigned i = 0; i < n; i++)
		leads_there |= same_address(&peer, &d->addresses[i]);
	return leads_there && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0 &&
	       info.tcpi_bytes_acked < HANDSHAKE_BYTES;
}

/*
 * libnats tells nobody of its socket before the handshake is over, so it is looked for.  If another component
 * has only just connected to the same server, it may lose its connection by this, and connects anew.
 */
void dial_abort(struct dial *d)
{
	const unsigned n = atomic_load(&d->n_addresses);
	struct rlimit limit;
	int end = 1024;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		end = limit.rlim_cur < DESCRIPTORS_MAX ? (int)limit.rlim_cur : DESCRIPTORS_MAX;
	for (int fd = 3; n > 0 && fd < end; fd++)
		if (is_handshake(d, n, fd))
			shutdown(fd, SHUT_RDWR);
}
