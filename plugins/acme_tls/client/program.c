/* SPDX-License-Identifier: MIT */
/*
 * semstreams-acme - one errand at a CA, for who holds the other end of the socket; see protocol.h.  Ends with
 * the errand, or when the socket is closed.
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
#include "acme.h"
#include "plugins/acme_tls/protocol.h"

#define NAMES_MAX 100
#define FILES_MAX 64

struct errand {
	struct ev_loop *loop;
	json_t *request;
	struct acme_options options;
	const char *names[NAMES_MAX], *files[FILES_MAX];
	struct store *store;
	struct acme *client;
};

/* ---- answers ---- */

/* Who is gone needs none. */
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

static void on_done(void *arg, const struct acme_result *r)
{
	struct errand *e = arg;
	json_t *result = json_pack("{s:i, s:o, s:b, s:I, s:I, s:I, s:s?, s:s?, s:s?}", "fail", (int)r->fail,
				   "why", text_of(r->why), "permanent", (int)r->permanent, "retry_after",
				   (json_int_t)r->retry_after, "ari_start", (json_int_t)r->ari_start,
				   "ari_end", (json_int_t)r->ari_end, "ari_url", r->ari_url, "chain",
				   r->chain ? r->chain->pem : NULL, "key", r->key_pem);
	answer(json_pack("{s:o}", "result", result));
	ev_break(e->loop, EVBREAK_ALL);
}

static void refuse(const char *why)
{
	answer(json_pack("{s:{s:i, s:o}}", "result", "fail", (int)ACME_LOCAL, "why", text_of(why)));
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

static const char *text(const struct errand *e, const char *key)
{
	return json_string_value(json_object_get(e->request, key));
}

static int64_t number(const struct errand *e, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(e->request, key));
}

static size_t list(const struct errand *e, const char *key, const char **out, size_t max)
{
	const json_t *array = json_object_get(e->request, key);
	size_t n = json_array_size(array);
	if (n > max)
		n = max;
	for (size_t i = 0; i < n; i++) {
		out[i] = json_string_value(json_array_get(array, i));
		if (!out[i])
			return i;
	}
	return n;
}

static void take_options(struct errand *e)
{
	e->options = (struct acme_options){
		.loop = e->loop,
		.store = e->store,
		.directory_url = text(e, "directory_url"),
		.email = text(e, "email"),
		.names = e->names,
		.n_names = list(e, "names", e->names, NAMES_MAX),
		.challenge = number(e, "challenge") == ACME_TLS_ALPN_01 ? ACME_TLS_ALPN_01 : ACME_HTTP_01,
		.challenge_address = text(e, "challenge_address"),
		.challenge_port = (uint16_t)number(e, "challenge_port"),
		.ca_files = e->files,
		.n_ca_files = list(e, "ca_files", e->files, FILES_MAX),
		.eab_kid = text(e, "eab_kid"),
		.eab_mac = text(e, "eab_mac"),
		.profile = text(e, "profile"),
		.preferred_chain = text(e, "preferred_chain"),
		.reuse_key = json_is_true(json_object_get(e->request, "reuse_key")),
		.order_ns = (uint64_t)number(e, "order_ns"),
		.log = on_log,
		.counted = on_counted,
		.arg = e,
	};
}

static int begin(struct errand *e)
{
	const char *what = text(e, "operation");
	if (strcmp(what, "issue") == 0)
		return acme_issue(e->client, text(e, "old_ari_id"), text(e, "old_key"), on_done, e);
	if (strcmp(what, "revoke") == 0 && text(e, "chain"))
		return acme_revoke(e->client, text(e, "chain"), (int)number(e, "reason"), on_done, e);
	if (strcmp(what, "rollover") == 0)
		return acme_rollover(e->client, on_done, e);
	if (strcmp(what, "deactivate") == 0)
		return acme_deactivate(e->client, on_done, e);
	if (strcmp(what, "ari") == 0 && text(e, "ari_id"))
		return acme_ari(e->client, text(e, "ari_id"), on_done, e);
	return -EINVAL;
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

static int run(struct errand *e)
{
	ev_io io;
	char why[512] = "out of memory";
	take_options(e);
	if (!e->options.directory_url || !e->options.email || !text(e, "operation") ||
	    acme_new(&e->options, &e->client, why, sizeof why)) {
		refuse(why);
		return EXIT_FAILURE;
	}
	ev_io_init(&io, on_socket, PROTOCOL_FD, EV_READ);
	ev_io_start(e->loop, &io);
	if (begin(e) == 0)
		ev_run(e->loop, 0);
	else
		refuse("out of memory");
	acme_free(e->client);
	return EXIT_SUCCESS;
}

int main(void)
{
	struct errand e = {0};
	char why[512];
	prctl(PR_SET_DUMPABLE, 0); /* keys are in here */
	int type;
	socklen_t size = sizeof type;
	if (getsockopt(PROTOCOL_FD, SOL_SOCKET, SO_TYPE, &type, &size)) {
		fputs("semstreams-acme is a part of semstreams, which starts it; see \"semstreams cert\".\n",
		      stderr);
		return 2;
	}
	e.request = read_request();
	if (!json_is_object(e.request) || !text(&e, "storage_path"))
		return 2;
	e.loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	if (!e.loop || store_open(text(&e, "storage_path"), &e.store, why, sizeof why)) {
		refuse(e.loop ? why : "no event loop can be made");
		return EXIT_FAILURE;
	}
	int code = run(&e);
	store_free(e.store);
	ev_loop_destroy(e.loop);
	json_decref(e.request);
	return code;
}
