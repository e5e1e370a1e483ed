/* SPDX-License-Identifier: MIT */
/* operation - see operation.h. */
#include "operation.h"
#include "plugins/identity/time_text.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE                                                                                                \
	(120 * SETUP_SECOND) /* beyond order_timeout, in case the program does not keep its own deadline */

struct operation {
	const struct acme_setup *setup;
	struct operation_events events;
	bool wants_chain, ended;
	pid_t pid;
	int fd;
	uint64_t deadline; /* monotonic ns */
	struct obtain_result result;
	size_t len, high, total;
	char text[PROTOCOL_LINE_MAX]; /* a line that is not complete yet */
};

/* ---- the result ---- */

/* The process has not done its work. */
__attribute__((format(printf, 2, 3))) static void break_off(struct operation *op, const char *format, ...)
{
	struct obtain_result *r = &op->result;
	va_list ap;
	va_start(ap, format);
	snprintf(r->why, sizeof r->why, "%.200s ", op->setup->program);
	vsnprintf(r->why + strlen(r->why), sizeof r->why - strlen(r->why), format, ap);
	va_end(ap);
	r->fail = OBTAIN_LOCAL;
	op->ended = true;
}

/* Nothing is taken on trust that decides what is served. */
static void take_certificate(struct operation *op, const char *pem, const char *key_pem)
{
	const struct setup *s = &op->setup->common;
	struct identity_key *key = NULL;
	char why[256] = "out of memory";
	int rc = key_load(key_pem, strlen(key_pem), &key, why, sizeof why);
	if (rc == 0)
		rc = chain_read(pem, strlen(pem), key, s->names, s->n_names, &op->result.chain, why,
				sizeof why);
	key_free(key);
	if (rc == 0 && !(op->result.key_pem = strdup(key_pem)))
		rc = -ENOMEM;
	if (rc)
		break_off(op, "returned an invalid certificate: %s", why);
}

static void take_result(struct operation *op, const json_t *r)
{
	const char *why = member_text(r, "why"), *pem = member_text(r, "chain"), *key = member_text(r, "key"),
		   *url = member_text(r, "ari_url");
	int64_t fail = member_number(r, "fail");
	struct obtain_result *result = &op->result;
	result->fail = fail >= OBTAIN_OK && fail <= OBTAIN_LOCAL ? (enum obtain_fail)fail : OBTAIN_LOCAL;
	result->permanent = json_is_true(json_object_get(r, "permanent"));
	result->retry_after = member_number(r, "retry_after");
	result->ari_start = member_number(r, "ari_start");
	result->ari_end = member_number(r, "ari_end");
	result->ari_url = url ? strdup(url) : NULL;
	snprintf(result->why, sizeof result->why, "%s", why ? why : "");
	op->ended = true;
	if (result->fail == OBTAIN_OK && op->wants_chain && pem && key)
		take_certificate(op, pem, key);
	else if (result->fail == OBTAIN_OK && op->wants_chain)
		break_off(op, "returned no certificate");
}

/* ---- what the process says ---- */

static void take_line(struct operation *op, const char *line, size_t len)
{
	json_t *root = json_loadb(line, len, 0, NULL);
	const char *log = member_text(root, "log"), *request = member_text(root, "counted");
	const json_t *result = json_object_get(root, "result");
	if (log)
		op->events.log(op->events.arg, (int32_t)member_number(root, "level"), log);
	else if (request && op->events.counted)
		op->events.counted(op->events.arg, request);
	else if (result)
		take_result(op, result);
	key_json_free(root);
}

static void take_lines(struct operation *op, size_t n)
{
	op->len += n;
	op->total += n;
	op->high = op->len > op->high ? op->len : op->high;
	const char *at = op->text, *end = op->text + op->len;
	for (const char *newline; !op->ended && (newline = memchr(at, '\n', (size_t)(end - at)));) {
		take_line(op, at, (size_t)(newline - at));
		at = newline + 1;
	}
	op->len = (size_t)(end - at);
	memmove(op->text, at, op->len);
	if (!op->ended && (op->len == PROTOCOL_LINE_MAX || op->total > PROTOCOL_TEXT_MAX))
		break_off(op, "said more than %u bytes",
			  op->len == PROTOCOL_LINE_MAX ? PROTOCOL_LINE_MAX : PROTOCOL_TEXT_MAX);
}

struct obtain_result *operation_read(struct operation *op)
{
	if (op->ended)
		return &op->result;
	ssize_t n = recv(op->fd, op->text + op->len, PROTOCOL_LINE_MAX - op->len, MSG_DONTWAIT);
	if (n > 0)
		take_lines(op, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		break_off(op, "ended without a result");
	else if (monotonic_now() >= op->deadline)
		break_off(op, "did not end in time");
	return op->ended ? &op->result : NULL;
}

struct obtain_result *operation_wait(struct operation *op)
{
	struct obtain_result *result;
	while (!(result = operation_read(op))) {
		struct pollfd ready = {.fd = op->fd, .events = POLLIN};
		poll(&ready, 1, 1000);
	}
	return result;
}

int operation_fd(const struct operation *op)
{
	return op->fd;
}

/* Closing the socket ends the process.  The host's loop reaps children, and may have reaped this one. */
void operation_free(struct operation *op)
{
	if (!op)
		return;
	if (op->fd >= 0) {
		close(op->fd);
		waitpid(op->pid, NULL, WNOHANG);
	}
	explicit_bzero(op->text, op->high); /* it held a key */
	chain_done(&op->result.chain);
	key_text_free(op->result.key_pem);
	free(op->result.ari_url);
	free(op);
}

/* ---- the start ---- */

json_t *operation_issue(const struct acme_setup *s, const struct stored_cert *old)
{
	return json_pack("{s:s, s:s?, s:s?}", "operation", "issue", "old_ari_id",
			 old->chain.ari_id[0] ? old->chain.ari_id : NULL, "old_key",
			 s->conf->reuse_key ? old->key_pem : NULL);
}

/* The line to send, request with the settings; NULL: out of memory. */
static char *request_text(const struct acme_setup *s, json_t *request, const char *const *ca_files)
{
	const struct acme_conf *c = s->conf;
	json_t *files = json_array();
	for (; ca_files && *ca_files; ca_files++)
		json_array_append_new(files, json_string(*ca_files));
	json_t *settings =
		json_pack("{s:s, s:s, s:s, s:o, s:i, s:s, s:i, s:o, s:s?, s:s?, s:s?, s:s?, s:b, s:I}",
			  "storage_path", s->common.path, "directory_url", c->directory_url, "email",
			  c->email, "names", json_loads(s->common.names_json, 0, NULL), "challenge",
			  (int)c->challenge_type, "challenge_address", c->challenge_address, "challenge_port",
			  (int)s->challenge_port, "ca_files", files, "eab_kid", c->eab_kid, "eab_mac",
			  c->eab_hmac, "profile", c->profile, "preferred_chain", c->preferred_chain,
			  "reuse_key", (int)c->reuse_key, "order_ns", (json_int_t)c->order_timeout);
	char *line = settings && json_object_update(request, settings) == 0
			     ? key_json_text(request, JSON_COMPACT)
			     : NULL;
	json_decref(settings);
	return line;
}

/* With nothing of ours but the socket, in a group of its own: a terminal's Ctrl-C is not for it. */
static int spawn(struct operation *op, int theirs)
{
	char *const argv[] = {(char *)"semstreams-acme", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, usual;
	sigemptyset(&none);
	sigfillset(&usual);
	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	int rc = -posix_spawnattr_init(&attr);
	if (rc == 0) {
		posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							POSIX_SPAWN_SETPGROUP);
		posix_spawnattr_setsigmask(&attr, &none);
		posix_spawnattr_setsigdefault(&attr, &usual);
		rc = -posix_spawn_file_actions_adddup2(&actions, theirs, PROTOCOL_FD);
		if (rc == 0)
			rc = -posix_spawn(&op->pid, op->setup->program, &actions, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

/* The program reads at once, and a request is smaller by far than a socket's buffer.  line ends in the NUL,
 * which is sent as a newline. */
static int send_line(int fd, char *line)
{
	size_t len = strlen(line) + 1;
	line[len - 1] = '\n';
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < len;) {
		ssize_t n = send(fd, line + at, len - at, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			rc = -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	line[len - 1] = '\0';
	return rc;
}

static int start(struct operation *op, char *line)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	int rc = spawn(op, pair[1]);
	close(pair[1]);
	if (rc == 0)
		op->fd = pair[0];
	else
		close(pair[0]);
	return rc ? rc : send_line(op->fd, line);
}

int operation_start(const struct acme_setup *s, json_t *request, const char *const *ca_files,
		    const struct operation_events *events, struct operation **out, char *why, size_t why_size)
{
	struct operation *op = calloc(1, sizeof *op);
	char *line = request_text(s, request, ca_files);
	int rc = -ENOMEM;
	if (op)
		op->fd = -1;
	if (op && line) {
		op->setup = s;
		op->events = *events;
		op->wants_chain = strcmp(member_text(request, "operation"), "issue") == 0;
		op->deadline = monotonic_now() + (uint64_t)(s->conf->order_timeout + GRACE);
		rc = start(op, line);
	}
	key_text_free(line);
	key_json_free(request);
	if (rc) {
		snprintf(why, why_size, "%s cannot be run: %s; is semstreams installed completely?",
			 s->program, strerror(-rc));
		operation_free(op);
		return rc;
	}
	*out = op;
	return 0;
}
