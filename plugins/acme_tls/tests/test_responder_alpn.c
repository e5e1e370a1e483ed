/* SPDX-License-Identifier: MIT */
/* test_responder_alpn - the responder of tls-alpn-01, asked by GnuTLS in the same loop and by OpenSSL's
 * command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <cmocka.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "plugins/identity/names.h"
#include "plugins/acme_tls/client/responder.h"

#define AUTH "DGyRejmCefe7v4NfDGDKfA.oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"

struct fixture {
	struct ev_loop *loop;
	struct responder *r;
	int asked;
	char name[300], peer[100];
	bool remove_when_asked;
};

static void note(void *arg, const char *name, const char *peer)
{
	struct fixture *f = arg;

	f->asked++;
	snprintf(f->name, sizeof f->name, "%s", name);
	snprintf(f->peer, sizeof f->peer, "%s", peer);
	if (f->remove_when_asked)
		responder_remove(f->r, name, NULL);
}

static void add(struct fixture *f, const char *name, const char *authorization)
{
	char why[300] = "";

	if (responder_add(f->r, name, NULL, authorization, why, sizeof why))
		fail_msg("%s", why);
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){.loop = ev_loop_new(0)};
	struct responder_options o = {
		.alpn = true, .loop = f->loop, .address = "127.0.0.1", .asked = note, .arg = f};
	assert_int_equal(responder_new(&o, &f->r), 0);
}

static void end(struct fixture *f)
{
	responder_free(f->r);
	ev_loop_destroy(f->loop);
}

/* ---- a client ---- */

struct client {
	const char *sni, *alpn[2], *priorities;
};

struct outcome {
	int rc, alert; /* of the handshake */
	gnutls_protocol_t version;
	char alpn[20];
	unsigned char cert[4000];
	size_t cert_len;
};

static int call(uint16_t port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
		int error = errno;
		close(fd);
		return -error;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void shake(struct fixture *f, gnutls_session_t session, struct outcome *out)
{
	gnutls_datum_t chosen;
	unsigned n = 0;

	while ((out->rc = gnutls_handshake(session)) == GNUTLS_E_AGAIN)
		ev_run(f->loop, EVRUN_ONCE);
	if (out->rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		out->alert = (int)gnutls_alert_get(session);
	if (out->rc)
		return;
	out->version = gnutls_protocol_get_version(session);
	if (gnutls_alpn_get_selected_protocol(session, &chosen) == 0)
		snprintf(out->alpn, sizeof out->alpn, "%.*s", (int)chosen.size, (const char *)chosen.data);
	const gnutls_datum_t *peer = gnutls_certificate_get_peers(session, &n);
	assert_int_equal(n, 1);
	out->cert_len = peer->size;
	memcpy(out->cert, peer->data, peer->size);
	/* the responder ends it */
	char text[10];
	ssize_t got;
	while ((got = gnutls_record_recv(session, text, sizeof text)) == GNUTLS_E_AGAIN)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(got, 0);
}

static struct outcome visit(struct fixture *f, const struct client *c)
{
	struct outcome out = {0};
	gnutls_certificate_credentials_t credentials;
	gnutls_session_t session;
	gnutls_datum_t alpn[2];
	unsigned n = 0;
	int fd = call(responder_port(f->r));

	assert_true(fd >= 0);
	assert_int_equal(gnutls_certificate_allocate_credentials(&credentials), 0);
	assert_int_equal(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	assert_int_equal(gnutls_priority_set_direct(session, c->priorities ? c->priorities : "NORMAL", NULL),
			 0);
	assert_int_equal(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), 0);
	if (c->sni)
		assert_int_equal(gnutls_server_name_set(session, GNUTLS_NAME_DNS, c->sni, strlen(c->sni)), 0);
	for (; n < 2 && c->alpn[n]; n++)
		alpn[n] = (gnutls_datum_t){(unsigned char *)(uintptr_t)c->alpn[n],
					   (unsigned)strlen(c->alpn[n])};
	if (n)
		assert_int_equal(gnutls_alpn_set_protocols(session, alpn, n, 0), 0);
	gnutls_transport_set_int(session, fd);
	shake(f, session, &out);
	gnutls_deinit(session);
	gnutls_certificate_free_credentials(credentials);
	close(fd);
	return out;
}

/* The certificate is one for the challenge: RFC 8737 section 3. */
static void check_certificate(const struct outcome *o, const char *name, const char *authorization)
{
	gnutls_x509_crt_t crt;
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)o->cert, (unsigned)o->cert_len};
	unsigned char expected[34] = {0x04, 0x20}, got[100], raw[16];
	size_t n = sizeof got, len = name_address(name, raw);
	unsigned critical = 0, kind, status;

	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	assert_int_equal(gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_DER), 0);
	gnutls_hash_fast(GNUTLS_DIG_SHA256, authorization, strlen(authorization), expected + 2);
	assert_int_equal(
		gnutls_x509_crt_get_extension_by_oid(crt, "1.3.6.1.5.5.7.1.31", 0, got, &n, &critical), 0);
	assert_int_equal(critical, 1);
	assert_int_equal(n, sizeof expected);
	assert_memory_equal(got, expected, n);
	n = sizeof got;
	assert_int_equal(gnutls_x509_crt_get_subject_alt_name2(crt, 0, got, &n, &kind, NULL),
			 len ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME);
	assert_int_equal(n, len ? len : strlen(name));
	assert_memory_equal(got, len ? (const void *)raw : name, n);
	n = sizeof got;
	assert_int_equal(gnutls_x509_crt_get_subject_alt_name2(crt, 1, got, &n, &kind, NULL),
			 GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
	/* signed by itself */
	assert_int_equal(gnutls_x509_crt_verify(crt, &crt, 1, 0, &status), 0);
	assert_int_equal(status & GNUTLS_CERT_SIGNATURE_FAILURE, 0);
	gnutls_x509_crt_deinit(crt);
}

/* ---- answers ---- */

static void answers_with_a_certificate(void **state)
{
	static const struct {
		const char *priorities;
		gnutls_protocol_t version;
	} cases[] = {
		{"NORMAL", GNUTLS_TLS1_3},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2", GNUTLS_TLS1_2},
		/* the first hello has no key share that fits: HelloRetryRequest */
		{"NORMAL:-GROUP-ALL:+GROUP-SECP521R1:+GROUP-SECP256R1", GNUTLS_TLS1_3},
	};
	struct fixture f;

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	add(&f, "b.example", "other." AUTH);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct client c = {
			.sni = "a.example", .alpn = {"acme-tls/1"}, .priorities = cases[i].priorities};
		struct outcome o = visit(&f, &c);
		assert_int_equal(o.rc, 0);
		assert_int_equal(o.version, cases[i].version);
		assert_string_equal(o.alpn, "acme-tls/1");
		check_certificate(&o, "a.example", AUTH);
	}
	assert_int_equal(f.asked, 3);
	assert_string_equal(f.name, "a.example");
	assert_string_equal(f.peer, "127.0.0.1");
	struct client b = {.sni = "B.example", .alpn = {"h2", "acme-tls/1"}};
	struct outcome o = visit(&f, &b);
	assert_int_equal(o.rc, 0);
	assert_string_equal(o.alpn, "acme-tls/1");
	check_certificate(&o, "b.example", "other." AUTH);
	end(&f);
}

/* RFC 8738 section 6 */
static void answers_for_addresses(void **state)
{
	static const struct {
		const char *name, *sni;
	} cases[] = {
		{"192.0.2.7", "7.2.0.192.in-addr.arpa"},
		{"2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	};
	struct fixture f;

	(void)state;
	begin(&f);
	for (size_t i = 0; i < 2; i++)
		add(&f, cases[i].name, AUTH);
	for (size_t i = 0; i < 2; i++) {
		struct client c = {.sni = cases[i].sni, .alpn = {"acme-tls/1"}};
		struct outcome o = visit(&f, &c);
		assert_int_equal(o.rc, 0);
		check_certificate(&o, cases[i].name, AUTH);
	}
	assert_string_equal(f.name, "2001:db8::1");
	end(&f);
}

static void refuses_others(void **state)
{
	static const struct {
		struct client client;
		int alert;
	} cases[] = {
		{{.sni = "a.example"}, GNUTLS_A_NO_APPLICATION_PROTOCOL},
		{{.sni = "a.example", .alpn = {"h2", "http/1.1"}}, GNUTLS_A_NO_APPLICATION_PROTOCOL},
		{{.sni = "a.example", .alpn = {"acme-tls/2"}}, GNUTLS_A_NO_APPLICATION_PROTOCOL},
		{{.sni = "b.example", .alpn = {"acme-tls/1"}}, GNUTLS_A_UNRECOGNIZED_NAME},
		{{.sni = "a.exampl", .alpn = {"acme-tls/1"}}, GNUTLS_A_UNRECOGNIZED_NAME},
		{{.alpn = {"acme-tls/1"}}, GNUTLS_A_UNRECOGNIZED_NAME},
		{{.sni = "a.example", .alpn = {"acme-tls/1"}, .priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.1"},
		 GNUTLS_A_PROTOCOL_VERSION},
	};
	struct fixture f;

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (int old = 0; old < 2; old++) {
			struct client c = cases[i].client;
			if (!c.priorities && old)
				c.priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
			struct outcome o = visit(&f, &c);
			if (o.rc != GNUTLS_E_FATAL_ALERT_RECEIVED || o.alert != cases[i].alert)
				fail_msg("case %zu: %s, alert %d", i, gnutls_strerror(o.rc), o.alert);
		}
	assert_int_equal(f.asked, 0);
	end(&f);
}

static void newest_answer_counts(void **state)
{
	struct fixture f;
	struct client c = {.sni = "a.example", .alpn = {"acme-tls/1"}};
	char why[300];

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	add(&f, "A.example", "second");
	struct outcome o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	check_certificate(&o, "A.example", "second");
	assert_int_equal(responder_add(f.r, "not a name", NULL, AUTH, why, sizeof why), -EINVAL);
	assert_string_equal(why, "\"not a name\" is neither a DNS name nor an address");
	end(&f);
}

/* The answer goes while its handshake is under way. */
static void removal_during_a_handshake(void **state)
{
	struct fixture f;
	struct client c = {.sni = "a.example", .alpn = {"acme-tls/1"}};

	(void)state;
	begin(&f);
	f.remove_when_asked = true;
	add(&f, "a.example", AUTH);
	uint16_t port = responder_port(f.r);
	struct outcome o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	check_certificate(&o, "a.example", AUTH);
	assert_int_equal(responder_port(f.r), 0);
	assert_int_equal(call(port), -ECONNREFUSED);
	add(&f, "a.example", "again");
	o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	check_certificate(&o, "a.example", "again");
	end(&f);
}

/* ---- hostile visitors ---- */

static void wait_closed(struct fixture *f, int fd)
{
	char text[2000];

	for (;;) {
		ssize_t n = recv(fd, text, sizeof text, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
		if (n < 0)
			ev_run(f->loop, EVRUN_ONCE);
	}
}

static void noise(void **state)
{
	static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\x01",
					    "\x16\x03\x01\x00\x00", "\x15\x03\x03\x00\x02\x02\x28",
					    "\x80\x2e\x01\x00\x02"};
	static const size_t lens[] = {18, 6, 5, 7, 5};
	struct fixture f;
	int fds[5];
	struct client c = {.sni = "a.example", .alpn = {"acme-tls/1"}};

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	for (size_t i = 0; i < 5; i++) {
		fds[i] = call(responder_port(f.r));
		assert_int_equal(send(fds[i], texts[i], lens[i], MSG_NOSIGNAL), lens[i]);
	}
	/* a message of 16 MiB is announced */
	int large = call(responder_port(f.r));
	assert_int_equal(send(large, "\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, MSG_NOSIGNAL), 9);
	struct outcome o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	wait_closed(&f, large);
	for (size_t i = 0; i < 5; i++) {
		wait_closed(&f, fds[i]); /* at the latest by its deadline */
		close(fds[i]);
	}
	close(large);
	end(&f);
}

/* Alerts that are warnings only do not keep the loop busy, nor the connection beyond its deadline. */
static void endless_warnings(void **state)
{
	struct fixture f;
	char alerts[7 * 500];
	struct client c = {.sni = "a.example", .alpn = {"acme-tls/1"}};

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	for (size_t i = 0; i < 500; i++)
		memcpy(alerts + 7 * i, "\x15\x03\x03\x00\x02\x01\x5a", 7);
	int fd = call(responder_port(f.r));
	assert_int_equal(send(fd, alerts, sizeof alerts, MSG_NOSIGNAL), sizeof alerts);
	struct outcome o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	wait_closed(&f, fd);
	close(fd);
	end(&f);
}

static void crowds(void **state)
{
	struct fixture f;
	int fds[70];
	struct client c = {.sni = "a.example", .alpn = {"acme-tls/1"}};

	(void)state;
	begin(&f);
	add(&f, "a.example", AUTH);
	for (size_t i = 0; i < 70; i++) {
		fds[i] = call(responder_port(f.r));
		assert_true(fds[i] >= 0);
		ev_run(f.loop, EVRUN_ONCE);
	}
	for (size_t i = 0; i < 6; i++)
		wait_closed(&f, fds[i]);
	struct outcome o = visit(&f, &c);
	assert_int_equal(o.rc, 0);
	for (size_t i = 0; i < 70; i++)
		close(fds[i]);
	end(&f);
}

/* ---- OpenSSL ---- */

struct reader {
	ev_io io;
	char text[20000];
	size_t n;
	bool ended;
};

static void on_text(struct ev_loop *loop, ev_io *io, int events)
{
	struct reader *r = io->data;
	ssize_t n = read(io->fd, r->text + r->n, sizeof r->text - 1 - r->n);

	(void)events;
	if (n > 0) {
		r->n += (size_t)n;
		return;
	}
	r->ended = true;
	ev_io_stop(loop, io);
}

/* What the command says, while the loop runs. */
static void run(struct fixture *f, const char *command, struct reader *r)
{
	FILE *from = popen(command, "re");

	*r = (struct reader){0};
	ev_io_init(&r->io, on_text, fileno(from), EV_READ);
	r->io.data = r;
	ev_io_start(f->loop, &r->io);
	while (!r->ended)
		ev_run(f->loop, EVRUN_ONCE);
	pclose(from);
}

static void openssl_sees_it(void **state)
{
	static const char *const versions[] = {"-tls1_2", "-tls1_3"};
	static struct reader r;
	struct fixture f;
	unsigned char hash[32];
	char command[700], dump[100] = "0420", *to = dump + 4;

	(void)state;
	if (system("openssl version >/dev/null 2>&1"))
		skip();
	begin(&f);
	add(&f, "a.example", AUTH);
	gnutls_hash_fast(GNUTLS_DIG_SHA256, AUTH, strlen(AUTH), hash);
	for (size_t i = 0; i < sizeof hash; i++)
		to += sprintf(to, "%02X", hash[i]);
	for (size_t i = 0; i < 2; i++) {
		snprintf(command, sizeof command,
			 "visit='openssl s_client -connect 127.0.0.1:%u -servername a.example %s'; exec "
			 "</dev/null 2>&1; "
			 "got=$($visit -alpn acme-tls/1); echo \"$got\"; echo \"$got\" | openssl x509 -noout "
			 "-text; "
			 "echo \"$got\" | openssl x509 -outform DER | openssl asn1parse -inform DER; "
			 "$visit -alpn h2",
			 responder_port(f.r), versions[i]);
		run(&f, command, &r);
		if (!strstr(r.text, dump))
			fail_msg("no %s in:\n%s", dump, r.text);
		assert_non_null(strstr(r.text, "ALPN protocol: acme-tls/1\n"));
		assert_non_null(strstr(r.text, "DNS:a.example\n"));
		assert_non_null(strstr(r.text, "1.3.6.1.5.5.7.1.31: critical\n"));
		assert_non_null(strstr(r.text, "prime256v1"));
		assert_non_null(strstr(r.text, "alert no application protocol"));
	}
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_with_a_certificate),
		cmocka_unit_test(answers_for_addresses),
		cmocka_unit_test(refuses_others),
		cmocka_unit_test(newest_answer_counts),
		cmocka_unit_test(removal_during_a_handshake),
		cmocka_unit_test(noise),
		cmocka_unit_test(endless_warnings),
		cmocka_unit_test(crowds),
		cmocka_unit_test(openssl_sees_it),
	};
	return cmocka_run_group_tests_name("responder_alpn", tests, NULL, NULL);
}
