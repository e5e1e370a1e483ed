/* SPDX-License-Identifier: MIT */
/*
 * semstreams-acme - one operation at a CA, for the process that holds the other end of the socket; see
 * protocol.h.  Ends with the operation, or when the socket is closed.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/protocol.h"

#define NAMES_MAX 100
#define FILES_MAX 64

/* ---- answers ---- */

/* Nobody is left to read it: end. */
static void answer(json_t *root)
{
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (!text)
		_exit(EXIT_FAILURE);
	size_t len = strlen(text);
	text[len] = '\n'; /* in place of the NUL */
	for (size_t at = 0; at <= len;) {
		ssize_t n = send(PROTOCOL_FD, text + at, len + 1 - at, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		at += n > 0 ? (size_t)n : 0;
	}
	explicit_bzero(text, len);
	free(text);
}

/* What a CA said may be in it, so it may not be UTF-8. */
static json_t *text_of(const char *text)
{
	json_t *value = json_string(text ? text : "");
	return value ? value : json_string("(not UTF-8)");
}

static void on_log(void *arg, int32_t level, const char *text)
{
	(void)arg;
	answer(json_pack("{s:o, s:i}", "log", text_of(text), "level", (int)level));
}

static void on_counted(void *arg, const char *what)
{
	(void)arg;
	answer(json_pack("{s:s}", "counted", what));
}

static void answer_result(const struct client_result *r)
{
	json_t *result = json_pack("{s:i, s:o, s:b, s:I, s:I, s:I, s:s?, s:s?, s:s?}", "fail", (int)r->fail,
				   "why", text_of(r->why), "permanent", (int)r->permanent, "retry_after",
				   (json_int_t)r->retry_after, "ari_start", (json_int_t)r->ari_start,
				   "ari_end", (json_int_t)r->ari_end, "ari_url", r->ari_url, "chain",
				   r->chain ? r->chain->pem : NULL, "key", r->key_pem);
	answer(json_pack("{s:o}", "result", result));
}

static int refuse(const char *why)
{
	answer(json_pack("{s:{s:i, s:o}}", "result", "fail", (int)ACME_LOCAL, "why", text_of(why)));
	return EXIT_FAILURE;
}

/* ---- the request ---- */

/* The one line there is; NULL: there is none. */
static json_t *read_request(void)
{
	size_t len = 0, size = PROTOCOL_LINE_MAX;
	char *text = malloc(size);
	json_t *root = NULL;
	while (text && len < size) {
		ssize_t n = recv(PROTOCOL_FD, text + len, size - len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (text[len - 1] == '\n') {
			root = json_loadb(text, len - 1, 0, NULL);
			break;
		}
	}
	if (text)
		explicit_bzero(text, len);
	free(text);
	return root;
}

static const char *text(const json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

static int64_t number(const json_t *request, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(request, key));
}

static size_t list(const json_t *request, const char *key, const char **out, size_t max)
{
	const json_t *array = json_object_get(request, key);
	size_t n = 0;
	while (n < max && (out[n] = json_string_value(json_array_get(array, n))))
		n++;
	return n;
}

/* ---- the process ---- */

/* Nothing comes any more but the end. */
static void on_socket(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)io;
	(void)events;
	_exit(EXIT_FAILURE);
}

static int run(struct ev_loop *loop, struct store *store, const json_t *request)
{
	const char *names[NAMES_MAX], *files[FILES_MAX];
	const struct client_options options = {
		.loop = loop,
		.store = store,
		.directory_url = text(request, "directory_url"),
		.email = text(request, "email"),
		.names = names,
		.n_names = list(request, "names", names, NAMES_MAX),
		.challenge =
			number(request, "challenge") == ACME_TLS_ALPN_01 ? ACME_TLS_ALPN_01 : ACME_HTTP_01,
		.challenge_address = text(request, "challenge_address"),
		.challenge_port = (uint16_t)number(request, "challenge_port"),
		.ca_files = files,
		.n_ca_files = list(request, "ca_files", files, FILES_MAX),
		.eab_kid = text(request, "eab_kid"),
		.eab_mac = text(request, "eab_mac"),
		.profile = text(request, "profile"),
		.preferred_chain = text(request, "preferred_chain"),
		.reuse_key = json_is_true(json_object_get(request, "reuse_key")),
		.order_ns = (uint64_t)number(request, "order_ns"),
		.log = on_log,
		.counted = on_counted,
	};
	const struct client_request what = {
		.operation = text(request, "operation"),
		.old_ari_id = text(request, "old_ari_id"),
		.old_key_pem = text(request, "old_key"),
		.chain_pem = text(request, "chain"),
		.reason = (int)number(request, "reason"),
		.ari_id = text(request, "ari_id"),
	};
	ev_io io;
	if (!options.directory_url || !options.email || !what.operation)
		return refuse("the request is incomplete");
	ev_io_init(&io, on_socket, PROTOCOL_FD, EV_READ);
	ev_io_start(loop, &io);
	struct client *c = client_run(&options, &what);
	if (c)
		answer_result(&c->result);
	else
		refuse("out of memory");
	ev_io_stop(loop, &io);
	client_free(c);
	return c ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void)
{
	struct store *store = NULL;
	char why[512];
	int type, code;
	socklen_t size = sizeof type;
	prctl(PR_SET_DUMPABLE, 0); /* keys are in here */
	if (getsockopt(PROTOCOL_FD, SOL_SOCKET, SO_TYPE, &type, &size)) {
		fputs("semstreams-acme is a part of semstreams, which starts it; see \"semstreams cert\".\n",
		      stderr);
		return 2;
	}
	json_t *request = read_request();
	if (!json_is_object(request) || !text(request, "storage_path"))
		return 2;
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	if (!loop)
		code = refuse("cannot create an event loop");
	else if (store_open(text(request, "storage_path"), &store, why, sizeof why))
		code = refuse(why);
	else
		code = run(loop, store, request);
	store_free(store);
	if (loop)
		ev_loop_destroy(loop);
	json_decref(request);
	return code;
}
