/* SPDX-License-Identifier: MIT */
/*
 * semstreams-acme - one operation at a CA, for the process that holds the other end of the socket; see
 * protocol.h.  Ends with the operation, or when the socket is closed.
 */
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/protocol.h"

#define NAMES_MAX 100
#define FILES_MAX 64

/* ---- answers ---- */

/* A line to the socket, which may have a key in it.  Nobody is left to read it: end. */
static void answer(json_t *root)
{
	char *line = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (!line || ss_write_all(PROTOCOL_FD, line, strlen(line)) || ss_write_all(PROTOCOL_FD, "\n", 1))
		_exit(EXIT_FAILURE);
	key_text_free(line);
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

static void answer_result(const struct obtain_result *r)
{
	answer(json_pack("{s:{s:i, s:o, s:b, s:I, s:I, s:I, s:s?, s:s?, s:s?}}", "result", "fail",
			 (int)r->fail, "why", text_of(r->why), "permanent", (int)r->permanent, "retry_after",
			 (json_int_t)r->retry_after, "ari_start", (json_int_t)r->ari_start, "ari_end",
			 (json_int_t)r->ari_end, "ari_url", r->ari_url, "chain", r->chain.pem, "key",
			 r->key_pem));
}

static int refuse(const char *why)
{
	struct obtain_result r = {.fail = OBTAIN_LOCAL};
	snprintf(r.why, sizeof r.why, "%s", why);
	answer_result(&r);
	return EXIT_FAILURE;
}

/* ---- the process ---- */

/* Jansson's: keys and secrets are in what it reads and writes. */
static void wipe_and_free(void *block)
{
	if (block)
		explicit_bzero(block, malloc_usable_size(block));
	free(block);
}

/* The one line that comes; NULL: it does not, or is not JSON. */
static json_t *read_request(void)
{
	enum { ROOM = 16384 };
	struct ss_strbuf line = {.secret = true};
	ssize_t n = 0;
	do {
		char *to = ss_strbuf_room(&line, ROOM);
		n = to ? read(PROTOCOL_FD, to, ROOM) : -1;
		line.len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && line.bytes[line.len - 1] != '\n' && line.len < PROTOCOL_LINE_MAX);
	json_t *request = n > 0 ? json_loadb(line.bytes, line.len, 0, NULL) : NULL;
	ss_strbuf_done(&line);
	return request;
}

/* Nothing comes any more but the end. */
static void on_socket(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)io;
	(void)events;
	_exit(EXIT_FAILURE);
}

static size_t list(const json_t *request, const char *key, const char **out, size_t max)
{
	const json_t *array = json_object_get(request, key);
	size_t n = 0;
	while (n < max && (out[n] = json_string_value(json_array_get(array, n))))
		n++;
	return n;
}

static int run(struct ev_loop *loop, struct store *store, const json_t *request)
{
	const char *names[NAMES_MAX], *files[FILES_MAX];
	const struct client_options options = {
		.loop = loop,
		.store = store,
		.directory_url = member_text(request, "directory_url"),
		.email = member_text(request, "email"),
		.names = names,
		.n_names = list(request, "names", names, NAMES_MAX),
		.challenge = member_number(request, "challenge") == ACME_TLS_ALPN_01 ? ACME_TLS_ALPN_01
										     : ACME_HTTP_01,
		.challenge_address = member_text(request, "challenge_address"),
		.challenge_port = (uint16_t)member_number(request, "challenge_port"),
		.ca_files = files,
		.n_ca_files = list(request, "ca_files", files, FILES_MAX),
		.eab_kid = member_text(request, "eab_kid"),
		.eab_mac = member_text(request, "eab_mac"),
		.profile = member_text(request, "profile"),
		.preferred_chain = member_text(request, "preferred_chain"),
		.reuse_key = json_is_true(json_object_get(request, "reuse_key")),
		.order_ns = (uint64_t)member_number(request, "order_ns"),
		.log = on_log,
		.counted = on_counted,
	};
	const struct client_request what = {
		.operation = member_text(request, "operation"),
		.old_ari_id = member_text(request, "old_ari_id"),
		.old_key_pem = member_text(request, "old_key"),
		.chain_pem = member_text(request, "chain"),
		.reason = (int)member_number(request, "reason"),
		.ari_id = member_text(request, "ari_id"),
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
	signal(SIGPIPE, SIG_IGN);
	json_set_alloc_funcs(malloc, wipe_and_free);
	json_t *request = read_request();
	if (!member_text(request, "storage_path"))
		return 2;
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	if (!loop)
		code = refuse("cannot create an event loop");
	else if (store_open(member_text(request, "storage_path"), &store, why, sizeof why))
		code = refuse(why);
	else
		code = run(loop, store, request);
	store_free(store);
	if (loop)
		ev_loop_destroy(loop);
	json_decref(request);
	return code;
}
