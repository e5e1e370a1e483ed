/* SPDX-License-Identifier: MIT */
/*
 * remote - the client of a CA, see acme.h and protocol.h: starts the program, hands the errand over, passes
 * on what it says. What it says is checked, but it is a part of this program.  On the loop given; only
 * starting it takes time, some milliseconds.
 */
#include "remote.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "plugins/acme_tls/client/acme.h"

extern char **environ;

#define GRACE 120. /* seconds behind the deadline of an order */

struct acme {
	struct acme_options o;
	ev_io io;
	ev_timer deadline; /* in case the program does not keep its own */
	bool wants_chain;
	pid_t pid;
	int fd;     /* -1: nothing under way */
	char *text; /* what has come and is not a line yet */
	size_t len, size, total;
	acme_done *done;
	void *arg;
	bool *freed; /* set by acme_free() while a callback runs */
};

int acme_new(const struct acme_options *options, struct acme **out, char *why, size_t why_size)
{
	if (access(remote_program(), X_OK)) {
		int rc = -errno;
		snprintf(why, why_size, "%s cannot be run: %s; it is a part of semstreams", remote_program(),
			 strerror(-rc));
		return rc;
	}
	struct acme *a = calloc(1, sizeof *a);
	if (!a) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	a->o = *options;
	a->fd = -1;
	*out = a;
	return 0;
}

/* Closing the socket ends the program.  Who reaps children in this process may have reaped it. */
static void hang_up(struct acme *a)
{
	if (a->fd < 0)
		return;
	ev_io_stop(a->o.loop, &a->io);
	ev_timer_stop(a->o.loop, &a->deadline);
	close(a->fd);
	a->fd = -1;
	waitpid(a->pid, NULL, WNOHANG);
	if (a->text)
		explicit_bzero(a->text, a->size); /* it held a key */
	free(a->text);
	a->text = NULL;
	a->len = a->size = a->total = 0;
}

void acme_free(struct acme *a)
{
	if (!a)
		return;
	if (a->freed)
		*a->freed = true;
	hang_up(a);
	free(a);
}

/* ---- the end ---- */

static void end(struct acme *a, const struct acme_result *result)
{
	acme_done *done = a->done;
	hang_up(a);
	a->done = NULL;
	done(a->arg, result);
}

static void end_badly(struct acme *a, const char *why)
{
	struct acme_result result = {.fail = ACME_LOCAL};
	snprintf(result.why, sizeof result.why, "failed to obtain certificate from ACME server: %s", why);
	end(a, &result);
}

static int64_t number(const json_t *object, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(object, key));
}

/* The certificate is read again here: nothing is taken on trust that decides what is served. */
static void end_with_certificate(struct acme *a, struct acme_result *result, const char *pem,
				 const char *key_pem)
{
	struct acme_key *key = NULL;
	struct chain_info chain;
	char why[256], text[320];
	int rc = key_load(key_pem, strlen(key_pem), &key, why, sizeof why);
	if (rc == 0)
		rc = chain_read(pem, strlen(pem), key, a->o.names, a->o.n_names, &chain, why, sizeof why);
	key_free(key);
	if (rc) {
		snprintf(text, sizeof text, "%s brought what it should not: %s", remote_program(), why);
		end_badly(a, text);
		return;
	}
	result->chain = &chain;
	result->key_pem = key_pem;
	end(a, result);
	chain_done(&chain);
}

static void on_result(struct acme *a, const json_t *r)
{
	const char *why = json_string_value(json_object_get(r, "why"));
	const char *pem = json_string_value(json_object_get(r, "chain"));
	const char *key = json_string_value(json_object_get(r, "key"));
	int64_t fail = number(r, "fail");
	struct acme_result result = {.permanent = json_is_true(json_object_get(r, "permanent")),
				     .retry_after = number(r, "retry_after"),
				     .ari_start = number(r, "ari_start"),
				     .ari_end = number(r, "ari_end"),
				     .ari_url = json_string_value(json_object_get(r, "ari_url"))};
	result.fail = fail >= ACME_OK && fail <= ACME_LOCAL ? (enum acme_fail)fail : ACME_LOCAL;
	snprintf(result.why, sizeof result.why, "%s", why ? why : "");
	if (result.fail == ACME_OK && a->wants_chain && pem && key)
		end_with_certificate(a, &result, pem, key);
	else if (result.fail == ACME_OK && a->wants_chain)
		end_badly(a, "the program that talks to it brought no certificate");
	else
		end(a, &result);
}

/* ---- what it says ---- */

/* True if that was the end, and nothing of a may be touched any more. */
static bool on_line(struct acme *a, const char *line, size_t len)
{
	json_t *root = json_loadb(line, len, 0, NULL);
	const char *text = json_string_value(json_object_get(root, "log"));
	const char *what = json_string_value(json_object_get(root, "counted"));
	const json_t *result = json_object_get(root, "result");
	if (text && a->o.log)
		a->o.log(a->o.arg, (int32_t)number(root, "level"), text);
	else if (what && a->o.counted)
		a->o.counted(a->o.arg, what);
	else if (result)
		on_result(a, result);
	json_decref(root);
	return result && !text && !what;
}

static void take_lines(struct acme *a)
{
	bool freed = false;
	a->freed = &freed;
	for (char *newline; (newline = memchr(a->text, '\n', a->len));) {
		size_t used = (size_t)(newline - a->text) + 1;
		bool ended = on_line(a, a->text, used - 1);
		if (freed)
			return;
		if (ended)
			break;
		a->len -= used;
		memmove(a->text, a->text + used, a->len);
	}
	a->freed = NULL;
}

/* Room for more; not by realloc, which would leave copies of a key behind. */
static bool make_room(struct acme *a)
{
	if (a->size - a->len >= 4096)
		return true;
	size_t size = a->size ? 2 * a->size : 16384;
	char *text = size > 2 * PROTOCOL_LINE_MAX ? NULL : malloc(size);
	if (!text)
		return false;
	if (a->text) {
		memcpy(text, a->text, a->len);
		explicit_bzero(a->text, a->size);
	}
	free(a->text);
	a->text = text;
	a->size = size;
	return true;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct acme *a = io->data;
	(void)loop;
	(void)events;
	if (!make_room(a) || a->total > PROTOCOL_TEXT_MAX) {
		end_badly(a, "the program that talks to it says too much");
		return;
	}
	ssize_t n = recv(a->fd, a->text + a->len, a->size - a->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end_badly(a, "the program that talks to it, semstreams-acme, ended before its time");
		return;
	}
	a->len += (size_t)n;
	a->total += (size_t)n;
	take_lines(a);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	end_badly(timer->data, "the program that talks to it does not come to an end");
}

/* ---- the beginning ---- */

static json_t *texts(const char *const *list, size_t n)
{
	json_t *array = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

/* extra is taken over.  NULL: out of memory. */
static char *request(const struct acme *a, const char *errand, json_t *extra)
{
	const struct acme_options *o = &a->o;
	json_t *root =
		json_pack("{s:s, s:s, s:s, s:s, s:o, s:i, s:s?, s:i, s:o}", "operation", errand,
			  "storage_path", store_path(o->store), "directory_url", o->directory_url, "email",
			  o->email, "names", texts(o->names, o->n_names), "challenge", (int)o->challenge,
			  "challenge_address", o->challenge_address, "challenge_port", (int)o->challenge_port,
			  "ca_files", texts(o->ca_files, o->n_ca_files));
	json_t *more = json_pack("{s:s?, s:s?, s:s?, s:s?, s:b, s:I}", "eab_kid", o->eab_kid, "eab_mac",
				 o->eab_mac, "profile", o->profile, "preferred_chain", o->preferred_chain,
				 "reuse_key", (int)o->reuse_key, "order_ns", (json_int_t)o->order_ns);
	char *text = NULL;
	if (root && more && extra && json_object_update(root, more) == 0 &&
	    json_object_update(root, extra) == 0)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	json_decref(more);
	json_decref(extra);
	return text;
}

/* With nothing of ours but the socket, in a group of its own: a terminal's Ctrl-C is not for it. */
static int spawn(struct acme *a, int theirs)
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
			rc = -posix_spawn(&a->pid, remote_program(), &actions, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

/* The program reads at once; a request is smaller than a socket's buffer by far. */
static int send_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int begin(struct acme *a, const char *text)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	int rc = spawn(a, pair[1]);
	close(pair[1]);
	if (rc == 0)
		rc = send_all(pair[0], text, strlen(text));
	if (rc == 0)
		rc = send_all(pair[0], "\n", 1);
	if (rc) {
		close(pair[0]);
		return rc;
	}
	a->fd = pair[0];
	ev_io_init(&a->io, on_readable, a->fd, EV_READ);
	a->io.data = a;
	ev_io_start(a->o.loop, &a->io);
	ev_timer_init(&a->deadline, on_deadline, (double)a->o.order_ns / 1e9 + GRACE, 0.);
	a->deadline.data = a;
	ev_now_update(a->o.loop);
	ev_timer_start(a->o.loop, &a->deadline);
	return 0;
}

static int start(struct acme *a, const char *errand, json_t *extra, acme_done *done, void *arg)
{
	if (a->fd >= 0) {
		json_decref(extra);
		return -EBUSY;
	}
	char *text = request(a, errand, extra);
	if (!text)
		return -ENOMEM;
	int rc = begin(a, text);
	explicit_bzero(text, strlen(text));
	free(text);
	a->done = done;
	a->arg = arg;
	a->wants_chain = strcmp(errand, "issue") == 0;
	return rc;
}

int acme_issue(struct acme *a, const char *old_ari_id, const char *old_key_pem, acme_done *done, void *arg)
{
	json_t *extra = json_pack("{s:s?, s:s?}", "old_ari_id", old_ari_id, "old_key",
				  a->o.reuse_key ? old_key_pem : NULL);
	return start(a, "issue", extra, done, arg);
}

int acme_revoke(struct acme *a, const char *chain_pem, int reason, acme_done *done, void *arg)
{
	return start(a, "revoke", json_pack("{s:s, s:i}", "chain", chain_pem, "reason", reason), done, arg);
}

int acme_rollover(struct acme *a, acme_done *done, void *arg)
{
	return start(a, "rollover", json_object(), done, arg);
}

int acme_deactivate(struct acme *a, acme_done *done, void *arg)
{
	return start(a, "deactivate", json_object(), done, arg);
}

int acme_ari(struct acme *a, const char *ari_id, acme_done *done, void *arg)
{
	return start(a, "ari", json_pack("{s:s}", "ari_id", ari_id), done, arg);
}
