/* SPDX-License-Identifier: MIT */
/* The client of step-ca's API against a server over real TLS that answers as step-ca does, or worse. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <gnutls/gnutls.h>
#include <semstreams/ext/step-ca.h>
#include "sdk/test-host/tests/tls_certs.h"

#define SECOND UINT64_C(1000000000)

/* ---- the server: a thread that serves one connection after the other ---- */

enum mood { ANSWER, SILENT, ENDLESS, MANY_FIELDS, BREAK };

static struct {
	int listener;
	uint16_t port;
	pthread_t thread;
	gnutls_certificate_credentials_t credentials;
	/* of the next answer; set while no request is under way */
	enum mood mood;
	char head[200], body[8192];
	/* of the last request */
	char request[8192];
	unsigned shown; /* certificates that the client has shown */
	atomic_int requests;
	atomic_int turn;  /* counted when the next answer is set */
	atomic_bool busy; /* with a connection */
} server;

static struct cert root, leaf, other;
static char folder[] = "/tmp/semstreams-test.XXXXXX", ca_file[64], other_file[64], url[64];
static char *root_pem, *leaf_pem, *leaf_key, fingerprint[65];

static void send_text(gnutls_session_t tls, const char *text)
{
	for (size_t len = strlen(text); len;) {
		ssize_t n = gnutls_record_send(tls, text, len);
		if (n < 0 && gnutls_error_is_fatal((int)n))
			return;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

static void answer(gnutls_session_t tls)
{
	char more[1024], head[300];
	memset(more, 'x', sizeof more);
	memcpy(more, "X: ", 3);
	memcpy(more + sizeof more - 3, "\r\n", 3);
	switch (server.mood) {
	case ANSWER:
		snprintf(head, sizeof head, "HTTP/1.1 %sContent-Length: %zu\r\n\r\n", server.head,
			 strlen(server.body));
		send_text(tls, head);
		send_text(tls, server.body);
		break;
	case SILENT:
		gnutls_record_recv(tls, more, 1); /* until the client goes */
		break;
	case ENDLESS:
		send_text(tls, "HTTP/1.1 200 OK\r\n\r\n");
		for (int i = 0; i < 2000; i++)
			send_text(tls, more);
		break;
	case MANY_FIELDS:
		send_text(tls, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 2000; i++)
			send_text(tls, more);
		break;
	case BREAK:
		send_text(tls, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
		break;
	}
}

static bool request_read(gnutls_session_t tls)
{
	for (size_t used = 0;;) {
		ssize_t n = gnutls_record_recv(tls, server.request + used, sizeof server.request - 1 - used);
		if (n <= 0)
			return false;
		used += (size_t)n;
		server.request[used] = '\0';
		const char *end = strstr(server.request, "\r\n\r\n");
		const char *length = strcasestr(server.request, "content-length:");
		size_t body = length ? strtoul(length + 15, NULL, 10) : 0;
		if (end && used >= (size_t)(end + 4 - server.request) + body)
			return true;
	}
}

static void serve(int fd)
{
	gnutls_session_t tls;
	gnutls_init(&tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(tls);
	gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, server.credentials);
	gnutls_certificate_server_set_request(tls, GNUTLS_CERT_REQUEST);
	gnutls_transport_set_int(tls, fd);
	if (gnutls_handshake(tls) >= 0) {
		server.shown = 0;
		gnutls_certificate_get_peers(tls, &server.shown);
		if (request_read(tls)) {
			server.requests++;
			answer(tls);
		}
		gnutls_bye(tls, GNUTLS_SHUT_WR);
	}
	gnutls_deinit(tls);
	close(fd);
}

static void *server_run(void *arg)
{
	int fd;
	while ((fd = accept(server.listener, NULL, NULL)) >= 0) {
		server.busy = true;
		if (atomic_load(&server.turn) >= 0)
			serve(fd);
		server.busy = false;
	}
	return arg;
}

/* What the server has noted belongs to the test, until the next request. */
static void await_server(void)
{
	while (server.busy)
		sched_yield();
}

static void will_be(enum mood mood)
{
	await_server();
	server.mood = mood;
	atomic_fetch_add(&server.turn, 1);
}

static const char *request(void)
{
	await_server();
	return server.request;
}

static unsigned certificates_shown(void)
{
	await_server();
	return server.shown;
}

__attribute__((format(printf, 2, 3))) static void will_answer(const char *status, const char *format, ...)
{
	va_list ap;
	await_server();
	va_start(ap, format);
	vsnprintf(server.body, sizeof server.body, format, ap);
	va_end(ap);
	snprintf(server.head, sizeof server.head, "%s\r\n", status);
	will_be(ANSWER);
}

/* ---- certificates ---- */

/* pem as it stands in a JSON string, malloced. */
static char *in_json(const char *pem)
{
	char *out = malloc(2 * strlen(pem) + 1), *to = out;
	for (; *pem; pem++)
		if (*pem == '\n') {
			*to++ = '\\';
			*to++ = 'n';
		} else {
			*to++ = *pem;
		}
	*to = '\0';
	return out;
}

static struct cert authority(const char *name)
{
	int64_t now = time(NULL);
	return cert_make(
		&(struct cert_spec){
			.cns = {{name, 0}}, .ca = true, .from = now - CERT_DAY, .to = now + CERT_DAY},
		NULL);
}

static void make_certificates(void)
{
	int64_t now = time(NULL);
	unsigned char digest[32];
	size_t len = sizeof digest;
	const struct cert *chain = &root;
	gnutls_datum_t key;
	root = authority("Test root");
	other = authority("Other root");
	leaf = cert_make(&(struct cert_spec){.cns = {{"localhost", 0}},
					     .dns = {{"localhost", 0}},
					     .ip = {127, 0, 0, 1},
					     .ip_len = 4,
					     .from = now - CERT_DAY,
					     .to = now + CERT_DAY},
			 &root);
	root_pem = cert_chain_pem(&chain, 1);
	cert_write_chain(ca_file, &chain, 1);
	chain = &other;
	cert_write_chain(other_file, &chain, 1);
	chain = &leaf;
	leaf_pem = cert_chain_pem(&chain, 1);
	CERT_OK(gnutls_x509_privkey_export2_pkcs8(leaf.key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
						  &key));
	leaf_key = strndup((const char *)key.data, key.size);
	gnutls_free(key.data);
	CERT_OK(gnutls_x509_crt_get_fingerprint(root.crt, GNUTLS_DIG_SHA256, digest, &len));
	for (size_t i = 0; i < len; i++)
		snprintf(fingerprint + 2 * i, 3, "%02X", digest[i]);
}

static int group_setup(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	static const char *const variables[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	(void)state;
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	signal(SIGPIPE, SIG_IGN); /* as the host does */
	if (!mkdtemp(folder))
		return -1;
	snprintf(ca_file, sizeof ca_file, "%s/ca.pem", folder);
	snprintf(other_file, sizeof other_file, "%s/other.pem", folder);
	make_certificates();
	gnutls_certificate_allocate_credentials(&server.credentials);
	CERT_OK(gnutls_certificate_set_x509_key(server.credentials, &leaf.crt, 1, leaf.key));
	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.listener, (struct sockaddr *)&address, sizeof address) ||
	    listen(server.listener, 8) || getsockname(server.listener, (struct sockaddr *)&address, &len))
		return -1;
	server.port = ntohs(address.sin_port);
	snprintf(url, sizeof url, "https://127.0.0.1:%u/", server.port);
	return pthread_create(&server.thread, NULL, server_run, NULL);
}

static int group_teardown(void **state)
{
	(void)state;
	shutdown(server.listener, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.listener);
	gnutls_certificate_free_credentials(server.credentials);
	cert_drop(&root);
	cert_drop(&leaf);
	cert_drop(&other);
	free(root_pem);
	free(leaf_pem);
	free(leaf_key);
	unlink(ca_file);
	unlink(other_file);
	return rmdir(folder);
}

/* ---- clients ---- */

static struct step_ca *client(const char *trusted, uint64_t timeout_ns)
{
	const char *files[] = {trusted, NULL};
	struct step_ca *ca = NULL;
	char why[256] = "";
	int rc = step_ca_new(&(struct step_ca_options){.url = url,
						       .ca_files = trusted ? files : NULL,
						       .timeout_ns = timeout_ns,
						       .max_reply = 4096},
			     &ca, why, sizeof why);
	if (rc)
		fail_msg("%s", why);
	return ca;
}

static void assert_says(const struct step_ca_result *result, enum step_ca_fail fail, const char *words)
{
	if (result->fail != fail || !strstr(result->why, words))
		fail_msg("failure %d: %s\nexpected %d: %s", (int)result->fail, result->why, (int)fail, words);
	if (strncmp(result->why, "https://127.0.0.1:", 18) != 0)
		fail_msg("no URL: %s", result->why);
}

/* A JWT with this payload, malloced; its signature is nobody's. */
static char *token_of(const char *payload)
{
	gnutls_datum_t in = {(void *)(uintptr_t)payload, (unsigned)strlen(payload)}, out;
	char *token = NULL;
	CERT_OK(gnutls_base64_encode2(&in, &out));
	for (unsigned i = 0; i < out.size; i++)
		out.data[i] = out.data[i] == '+' ? '-' : out.data[i] == '/' ? '_' : out.data[i];
	assert_true(asprintf(&token, "eyJhbGciOiJFUzI1NiJ9.%.*s.c2VjcmV0\n",
			     (int)strcspn((char *)out.data, "="), (char *)out.data) > 0);
	gnutls_free(out.data);
	return token;
}

/* ---- tests ---- */

static void test_url(void **state)
{
	static const char *const bad[] = {"http://ca:9000", "ca:9000",         "https://",     "https:///x",
					  "https://a@ca",   "https://ca/?a=b", "https://ca#x", "https://c a"};
	struct step_ca *ca = NULL;
	char why[256];
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(step_ca_new(&(struct step_ca_options){.url = bad[i], .url_option = "--ca"},
					     &ca, why, sizeof why),
				 -EINVAL);
		assert_int_equal(strncmp(why, "--ca ", 5), 0);
	}
	const char *missing[] = {"/nowhere/ca.pem", NULL};
	assert_int_equal(
		step_ca_new(&(struct step_ca_options){.url = url, .ca_files = missing}, &ca, why, sizeof why),
		-EINVAL);
	assert_string_equal(why, "ca_bundle: /nowhere/ca.pem cannot be read: No such file or directory");
	step_ca_free(NULL);
}

static void test_health(void **state)
{
	struct step_ca *ca = client(ca_file, 0);
	struct step_ca_result result;
	(void)state;
	will_answer("200 OK", "{\"status\":\"ok\"}");
	assert_int_equal(step_ca_health(ca, &result), 0);
	assert_int_equal(strncmp(request(), "GET /health HTTP/1.1\r\n", 22), 0);
	will_answer("200 OK", "{\"status\":\"ill\"}");
	assert_int_equal(step_ca_health(ca, &result), -EAGAIN);
	will_answer("200 OK", "<html>");
	assert_int_equal(step_ca_health(ca, &result), -EPROTO);
	assert_says(&result, STEP_CA_BROKEN,
		    "/health: the answer is not a JSON object: is ca_url the address");
	will_answer("404 Not Found", "nothing here");
	assert_int_equal(step_ca_health(ca, &result), -EPROTO);
	assert_says(&result, STEP_CA_BROKEN, "HTTP status 404 without a message of step-ca");
	will_answer("503 Busy\r\nRetry-After: 17", "{\"message\":\"later\"}");
	assert_int_equal(step_ca_health(ca, &result), -EAGAIN);
	assert_int_equal(result.retry_after, 17);
	assert_int_equal(result.status, 503);
	assert_says(&result, STEP_CA_BUSY, "HTTP status 503: later");
	step_ca_free(ca);
}

/* Whoever is not trusted gets no request at all. */
static void test_trust(void **state)
{
	struct step_ca *ca = client(other_file, 0);
	struct step_ca_result result;
	char *chain = NULL;
	int before = server.requests;
	(void)state;
	will_answer("200 OK", "{\"status\":\"ok\"}");
	assert_int_equal(step_ca_sign(ca, "csr", "a.b.c", NULL, &chain, &result), -EKEYREJECTED);
	assert_says(&result, STEP_CA_UNTRUSTED, "signed by unknown authority: set ca_bundle");
	assert_int_equal(server.requests, before);
	step_ca_free(ca);
}

static void test_root(void **state)
{
	struct step_ca *ca = client(other_file, 0);
	struct step_ca_result result;
	char *pem = NULL, *quoted = in_json(root_pem), wrong[65], spaced[130] = "", path[100];
	(void)state;
	/* from a CA that is not trusted, and is from then on */
	for (size_t i = 0; i < 64; i += 2)
		snprintf(spaced + strlen(spaced), 4, "%s%.2s", i ? ":" : "", fingerprint + i);
	will_answer("200 OK", "{\"ca\":\"junk before\\n%s\"}", quoted);
	assert_int_equal(step_ca_root(ca, spaced, &pem, &result), 0);
	assert_string_equal(pem, root_pem);
	free(pem);
	pem = NULL;
	will_answer("200 OK", "{\"status\":\"ok\"}");
	assert_int_equal(step_ca_health(ca, &result), 0);
	step_ca_free(ca);
	/* another one */
	ca = client(other_file, 0);
	memset(wrong, 'a', 64);
	wrong[64] = '\0';
	will_answer("200 OK", "{\"ca\":\"%s\"}", quoted);
	assert_int_equal(step_ca_root(ca, wrong, &pem, &result), -EKEYREJECTED);
	assert_says(&result, STEP_CA_UNTRUSTED, "somebody else answers, or the fingerprint is of another CA");
	snprintf(path, sizeof path, "GET /root/%s HTTP/1.1", wrong);
	assert_int_equal(strncmp(request(), path, strlen(path)), 0);
	assert_null(pem);
	assert_int_equal(step_ca_health(ca, &result), -EKEYREJECTED);
	will_answer("404 Not Found", "{\"status\":404,\"message\":\"not found\"}");
	assert_int_equal(step_ca_root(ca, wrong, &pem, &result), -EKEYREJECTED);
	assert_says(&result, STEP_CA_UNTRUSTED, "has no root with this fingerprint");
	will_answer("200 OK", "{\"ca\":\"no PEM\"}");
	assert_int_equal(step_ca_root(ca, wrong, &pem, &result), -EPROTO);
	assert_int_equal(step_ca_root(ca, "abc", &pem, &result), -EINVAL);
	assert_int_equal(step_ca_root(ca, "", NULL, &result), -EINVAL);
	assert_null(pem);
	free(quoted);
	step_ca_free(ca);
}

static void test_sign(void **state)
{
	struct step_ca *ca = client(ca_file, 0);
	struct step_ca_result result;
	char *chain = NULL;
	(void)state;
	will_answer("201 Created", "{\"crt\":\"A\",\"certChain\":[\"A\",\"B\\n\"]}");
	assert_int_equal(step_ca_sign(ca, "the \"csr\"\n", "a.b.c\n", "24h", &chain, &result), 0);
	assert_string_equal(chain, "A\nB\n");
	free(chain);
	chain = NULL;
	assert_int_equal(strncmp(request(), "POST /1.0/sign HTTP/1.1\r\n", 25), 0);
	assert_non_null(strstr(request(), "\r\nContent-Type: application/json\r\n"));
	assert_non_null(
		strstr(request(),
		       "\r\n\r\n{\"csr\":\"the \\\"csr\\\"\\n\",\"ott\":\"a.b.c\",\"notAfter\":\"24h\"}"));
	assert_int_equal(certificates_shown(), 0);
	will_answer("201 Created", "{\"certChain\":[1,2]}");
	assert_int_equal(step_ca_sign(ca, "csr", "a.b.c", NULL, &chain, &result), -EPROTO);
	will_answer("403 Forbidden", "{\"message\":\"names\\u001b[31m do not match\"}");
	assert_int_equal(step_ca_sign(ca, "csr", "a.b.c", NULL, &chain, &result), -EPERM);
	assert_says(&result, STEP_CA_REFUSED,
		    "HTTP status 403: names?[31m do not match); the token has to be for");
	assert_int_equal(step_ca_sign(ca, "csr", " \n", NULL, &chain, &result), -EINVAL);
	assert_says(&result, STEP_CA_TOKEN, "the token is empty");
	assert_null(chain);
	step_ca_free(ca);
}

/* Each reason why a CA refuses a token is named, with what to do. */
static void test_token(void **state)
{
	static const struct {
		const char *payload, *said, *words;
	} cases[] = {
		/* as newer ones say */
		{"{\"exp\":%1$lld}", "authority.authorizeToken: token already used",
		 "was used already: get a new one, and find out"},
		{"{\"exp\":%1$lld,\"iat\":1763287200}",
		 "authority.authorizeToken: token issued before the bootstrap of certificate authority",
		 "the token was made 2025-11-16T10:00:00Z, before the CA was last started"},
		{"{\"exp\":%1$lld,\"aud\":\"https://elsewhere/1.0/sign\"}",
		 "provisioner not found or invalid audience",
		 "the token is for https://elsewhere/1.0/sign: set ca_url to that CA"},
		/* as 0.19 does of all of them */
		{"{\"exp\":1763287200}", "lacked authorization",
		 "the token expired 2025-11-16T10:00:00Z, and the clock"},
		{"{\"nbf\":%1$lld}", "lacked authorization", "is not valid before "},
		{"{\"exp\":%1$lld,\"aud\":[\"https://127.0.0.11/1.0/sign\"]}", "lacked authorization",
		 "the token is for https://127.0.0.11/1.0/sign: set ca_url to that CA"},
		{"{\"exp\":%1$lld,\"aud\":[]}", "lacked authorization", "the token is for nobody"},
		{"{\"exp\":%1$lld,\"iat\":1763287200,\"aud\":\"https://127.0.0.1:1/1.0/sign\"}",
		 "lacked authorization",
		 "was used already, or was made 2025-11-16T10:00:00Z before the CA was last started"},
		{"{\"exp\":1e300,\"nbf\":-1e300,\"iat\":\"x\",\"aud\":7}", "lacked authorization",
		 "for nobody"},
		{"[]", "lacked authorization", "the token is for nobody"},
		{"no JSON", "lacked authorization", "not a JSON Web Token"},
	};
	struct step_ca *ca = client(ca_file, 0);
	struct step_ca_result result;
	char *chain = NULL, payload[200];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(payload, sizeof payload, cases[i].payload, (long long)time(NULL) + 3600);
		char *token = token_of(payload);
		will_answer("401 Unauthorized", "{\"status\":401,\"message\":\"%s\"}", cases[i].said);
		assert_int_equal(step_ca_sign(ca, "csr", token, NULL, &chain, &result), -EACCES);
		assert_says(&result, STEP_CA_TOKEN, cases[i].words);
		assert_non_null(strstr(result.why, "HTTP status 401"));
		assert_null(strstr(result.why, "c2VjcmV0"));
		free(token);
	}
	step_ca_free(ca);
}

/* With the certificate itself, and by mutual TLS. */
static void test_renew_and_revoke(void **state)
{
	struct step_ca *ca = client(ca_file, 0);
	struct step_ca_result result;
	char *chain = NULL;
	(void)state;
	will_answer("201 Created", "{\"certChain\":[\"A\"]}");
	assert_int_equal(step_ca_renew(ca, leaf_pem, leaf_key, &chain, &result), 0);
	assert_string_equal(chain, "A\n");
	assert_true(certificates_shown() > 0);
	assert_int_equal(strncmp(request(), "POST /1.0/renew HTTP/1.1\r\n", 26), 0);
	free(chain);
	chain = NULL;
	will_answer("401 Unauthorized", "{\"message\":\"certificate has been revoked\"}");
	assert_int_equal(step_ca_renew(ca, leaf_pem, leaf_key, &chain, &result), -EACCES);
	assert_says(&result, STEP_CA_UNAUTHORIZED, "certificate has been revoked): if it was revoked");
	assert_int_equal(step_ca_renew(ca, leaf_pem, "no key", &chain, &result), -EINVAL);
	assert_says(&result, STEP_CA_LOCAL, "the certificate or its key cannot be used");
	struct step_ca_revocation r = {.serial = "1234", .chain_pem = leaf_pem, .key_pem = leaf_key};
	will_answer("200 OK", "{\"status\":\"ok\"}");
	assert_int_equal(step_ca_revoke(ca, &r, &result), 0);
	assert_true(certificates_shown() > 0);
	assert_non_null(
		strstr(request(), "{\"serial\":\"1234\",\"reasonCode\":0,\"reason\":\"\",\"passive\":true}"));
	r.token = "a.b.c";
	assert_int_equal(step_ca_revoke(ca, &r, &result), 0);
	assert_int_equal(certificates_shown(), 0);
	assert_non_null(strstr(request(), "\"ott\":\"a.b.c\""));
	r.serial = "0xab";
	assert_int_equal(step_ca_revoke(ca, &r, &result), -EINVAL);
	step_ca_free(ca);
}

/* What a CA, or who stands in its place, can do to us has a limit. */
static void test_limits(void **state)
{
	struct step_ca *ca = client(ca_file, SECOND / 2);
	struct step_ca_result result;
	(void)state;
	will_be(SILENT);
	assert_int_equal(step_ca_health(ca, &result), -ETIMEDOUT);
	assert_says(&result, STEP_CA_UNREACHABLE, "within");
	step_ca_free(ca);
	ca = client(ca_file, 0);
	will_be(ENDLESS);
	assert_int_equal(step_ca_health(ca, &result), -EMSGSIZE);
	assert_says(&result, STEP_CA_BROKEN, "the reply is too large");
	will_be(MANY_FIELDS);
	assert_int_equal(step_ca_health(ca, &result), -EMSGSIZE);
	will_be(BREAK);
	assert_int_equal(step_ca_health(ca, &result), -ECONNRESET);
	assert_says(&result, STEP_CA_UNREACHABLE, "the connection broke");
	step_ca_free(ca);
}

static void *cancel_later(void *arg)
{
	while (!server.requests)
		sched_yield();
	step_ca_cancel(arg);
	return NULL;
}

static void test_cancel(void **state)
{
	struct step_ca *ca = client(ca_file, 600 * SECOND);
	struct step_ca_result result;
	pthread_t thread;
	(void)state;
	will_be(SILENT);
	server.requests = 0;
	assert_int_equal(pthread_create(&thread, NULL, cancel_later, ca), 0);
	assert_int_equal(step_ca_health(ca, &result), -ECANCELED);
	assert_int_equal(result.fail, STEP_CA_CANCELLED);
	pthread_join(thread, NULL);
	assert_int_equal(step_ca_health(ca, &result), -ECANCELED);
	step_ca_free(ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_trust),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_sign),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_renew_and_revoke),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
