/* SPDX-License-Identifier: MIT */
/*
 * session - requests to the CA (RFC 8555 section 6): signatures, nonces, what to try again and when.  On the
 * client's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "client.h"
#include "plugins/acme_tls/jws.h"

#define DIRECTORY_LIFE (86400 * SECOND)
#define CONNECT_NS     (10 * SECOND)
#define TOTAL_NS       (30 * SECOND)
#define BODY_MAX       (256 << 10)
#define RATE_MIN       64u /* bytes/s */
#define BAD_NONCES_MAX 10
#define WAITS_MAX      3 /* times that Retry-After is waited for, per request */
#define NONCE_MAX      512
#define REPEAT_FIRST   (SECOND / 4)

static void session_try(struct acme *);

static void nonces_forget(struct session *s)
{
	while (s->n_nonces)
		free(s->nonces[--s->n_nonces]);
}

static void nonce_keep(struct session *s, const char *nonce)
{
	if (!nonce || !*nonce || strlen(nonce) > NONCE_MAX ||
	    nonce[strspn(nonce, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")])
		return;
	char *copy = strdup(nonce);
	if (!copy)
		return;
	if (s->n_nonces == NONCES) {
		free(s->nonces[0]);
		memmove(s->nonces, s->nonces + 1, (NONCES - 1) * sizeof *s->nonces);
		s->n_nonces--;
	}
	s->nonces[s->n_nonces++] = copy;
}

static void ask_forget(struct session *s)
{
	free(s->url);
	free(s->payload);
	s->url = s->payload = NULL;
}

int session_open(struct acme *a, char *why, size_t why_size)
{
	const struct http_options options = {
		.loop = a->o.loop,
		.user_agent = "semstreams/" PACKAGE_VERSION,
		.ca_files = a->o.ca_files,
		.n_ca_files = a->o.n_ca_files,
		.origin = a->o.directory_url,
		.connect_ns = CONNECT_NS,
		.total_ns = TOTAL_NS,
		.max_body = BODY_MAX,
		.min_rate = RATE_MIN,
	};
	return http_new(&options, &a->s.http, why, why_size);
}

void session_close(struct acme *a, bool well)
{
	struct session *s = &a->s;
	http_free(s->http);
	s->http = NULL;
	s->call = NULL;
	s->heard = s->fetching_nonce = false;
	s->retry_after = 0;
	nonces_forget(s);
	ask_forget(s);
	/* what went wrong may be due to links that changed */
	if (!well && s->has_directory) {
		message_done(&s->directory.json);
		s->has_directory = false;
	}
}

/* ---- answers */

static void answer_pass_on(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct session *s = &a->s;
	acme_then *then = s->ask.then;
	/* the next request may be made in then */
	char *url = s->url, *payload = s->payload;
	s->url = s->payload = NULL;
	then(a, reply, problem);
	free(url);
	free(payload);
}

void session_broken(struct acme *a, const struct http_reply *reply)
{
	if (reply->error == -EINVAL || reply->error == -EMSGSIZE)
		errand_fail(a, ACME_BROKEN, false, "%s", reply->why);
	else
		errand_fail(a, ACME_UNREACHABLE, false, "%s", reply->why);
}

static void repeat_later(struct acme *a)
{
	struct session *s = &a->s;
	s->repeats++;
	errand_wait(a, REPEAT_FIRST << (s->repeats - 1), session_try);
}

/* No answer.  A CA that never answered is not asked again: what keeps us from it will not go in a second. */
static void answer_none(struct acme *a, const struct http_reply *reply)
{
	struct session *s = &a->s;
	bool passing =
		reply->error == -ECONNRESET || reply->error == -ETIMEDOUT || reply->error == -ECONNREFUSED;
	if (s->heard && passing && s->repeats < s->ask.repeat)
		repeat_later(a);
	else if (s->ask.may_break)
		answer_pass_on(a, reply, NULL);
	else
		session_broken(a, reply);
}

/* The CA wants to be left alone for some time. */
static void answer_wait(struct acme *a, const struct problem *problem)
{
	struct session *s = &a->s;
	uint64_t until = now_ns() + (uint64_t)s->retry_after * SECOND;
	char text[400];
	if (s->retry_after)
		s->not_before = until;
	if (s->retry_after && s->waits < WAITS_MAX && until < a->e.deadline) {
		s->waits++;
		errand_wait(a, (uint64_t)s->retry_after * SECOND, session_try);
		return;
	}
	problem_text(problem, text, sizeof text);
	if (s->retry_after)
		errand_fail(a, ACME_RATE_LIMITED, false, "%s; the CA asks to come back in %lld s", text,
			    (long long)s->retry_after);
	else
		errand_fail(a, ACME_RATE_LIMITED, false, "%s", text);
}

static void answer_bad_nonce(struct acme *a, const struct problem *problem)
{
	struct session *s = &a->s;
	if (s->bad_nonces >= BAD_NONCES_MAX) {
		errand_refused(a, problem);
		return;
	}
	/* with the nonce that came along: the newest is taken */
	s->bad_nonces++;
	session_try(a);
}

static void answer_error(struct acme *a, const struct http_reply *reply)
{
	struct session *s = &a->s;
	struct problem problem;
	problem_read(reply->body, reply->len, reply->status, &problem);
	bool limited = reply->status == 429 || problem_is(&problem, "rateLimited");
	bool ours = reply->status >= 500 && reply->status != 501;
	if (problem_is(&problem, "badNonce"))
		answer_bad_nonce(a, &problem);
	else if (limited || (reply->status == 503 && s->retry_after))
		answer_wait(a, &problem);
	else if (ours && s->repeats < s->ask.repeat)
		repeat_later(a);
	else if (problem_is(&problem, "accountDoesNotExist") && !s->ask.by_jwk && !s->fetching_nonce)
		account_lost(a);
	else if (s->fetching_nonce)
		errand_refused(a, &problem);
	else
		answer_pass_on(a, reply, &problem);
}

/* Retry-After as seconds, a date being told by the CA's own clock if it says what that is. */
static int64_t retry_after(const struct http_reply *reply)
{
	int64_t now;
	if (!reply->date || !message_http_date(reply->date, &now))
		now = (int64_t)time(NULL);
	return message_retry_after(reply->retry_after, now);
}

static void on_reply(void *arg, const struct http_reply *reply)
{
	struct acme *a = arg;
	struct session *s = &a->s;
	s->call = NULL;
	s->retry_after = 0;
	if (reply->error) {
		answer_none(a, reply);
		return;
	}
	s->heard = true;
	s->retry_after = retry_after(reply);
	nonce_keep(s, reply->nonce);
	if (reply->status >= 400) {
		answer_error(a, reply);
	} else if (reply->status < 200 || reply->status >= 300) {
		char to[200] = "another address";
		if (reply->location)
			message_text(reply->location, to, sizeof to);
		errand_fail(
			a, ACME_BROKEN, true,
			"the CA redirects to %s, which is not followed: put the right URL into directory_url",
			to);
	} else if (!s->fetching_nonce) {
		answer_pass_on(a, reply, NULL);
	} else if (!s->n_nonces) {
		errand_fail(a, ACME_BROKEN, false, "the CA gives no nonce where it says that it does");
	} else {
		session_try(a);
	}
}

/* ---- requests */

static void session_send(struct acme *a, const char *what, const char *method, const char *url,
			 const char *body, const char *accept)
{
	char text[100] = "out of memory";
	struct http_reply refused = {0};
	if (a->e.requests >= a->e.requests_max) {
		errand_fail(a, ACME_BROKEN, false, "there is no end after %u requests, while %s",
			    a->e.requests, a->e.doing);
		return;
	}
	a->e.requests++;
	if (a->o.counted)
		a->o.counted(a->o.arg, what);
	int err = http_send(a->s.http, method, url, body, accept, on_reply, a, &a->s.call, text, sizeof text);
	if (!err)
		return;
	if (err != -EINVAL) {
		errand_fail(a, ACME_LOCAL, false, "%s", text);
		return;
	}
	char foreign[100];
	message_text(url, foreign, sizeof foreign);
	refused.error = err;
	snprintf(refused.why, sizeof refused.why, "the CA's address for %s, %s, %s", what, foreign, text);
	answer_none(a, &refused);
}

static void session_sign(struct acme *a)
{
	struct session *s = &a->s;
	char *nonce = s->nonces[--s->n_nonces], *body = NULL;
	int err = jws_sign(s->ask.key ? s->ask.key : a->key, s->ask.by_jwk ? NULL : a->account.url, nonce,
			   s->url, s->payload, &body);
	free(nonce);
	if (err < 0) {
		errand_fail(a, ACME_LOCAL, err == -EINVAL, "a request cannot be signed: %s",
			    err == -EINVAL ? "the account's key is of no use for it" : strerror(-err));
		return;
	}
	session_send(a, s->ask.what, "POST", s->url, body, s->ask.accept);
	free(body);
}

static void session_try(struct acme *a)
{
	struct session *s = &a->s;
	uint64_t now = now_ns();
	s->fetching_nonce = false;
	if (now < s->not_before) {
		if (s->not_before < a->e.deadline)
			errand_wait(a, s->not_before - now, session_try);
		else
			errand_fail(a, ACME_RATE_LIMITED, false,
				    "the CA has asked to be left alone for another %llu s",
				    (unsigned long long)((s->not_before - now) / SECOND + 1));
	} else if (!s->payload) {
		session_send(a, s->ask.what, "GET", s->url, NULL, s->ask.accept);
	} else if (s->n_nonces) {
		session_sign(a);
	} else {
		s->fetching_nonce = true;
		session_send(a, "newNonce", "HEAD", s->directory.new_nonce, NULL, NULL);
	}
}

void session_ask(struct acme *a, const struct ask *ask)
{
	struct session *s = &a->s;
	ask_forget(s);
	s->ask = *ask;
	s->url = strdup(ask->url);
	s->payload = ask->payload ? strdup(ask->payload) : NULL;
	s->repeats = s->bad_nonces = s->waits = 0;
	if (!s->url || (ask->payload && !s->payload))
		errand_fail(a, ACME_LOCAL, false, "out of memory");
	else
		session_try(a);
}

/* ---- the directory */

static void on_directory(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	char why[256] = "out of memory";
	struct session *s = &a->s;
	if (problem && problem->status == 404) {
		errand_fail(a, ACME_REFUSED, true,
			    "the CA has nothing at %s (HTTP status 404): is the ACME provisioner in "
			    "directory_url the one that the CA has?",
			    a->o.directory_url);
		return;
	}
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	int err = message_directory(reply->body, reply->len, &s->directory, why, sizeof why);
	if (err < 0) {
		errand_fail(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, "%s: check directory_url",
			    why);
		return;
	}
	s->has_directory = true;
	s->directory_until = now_ns() + DIRECTORY_LIFE;
	a->after_directory(a);
}

void session_directory(struct acme *a, acme_step *then)
{
	struct session *s = &a->s;
	a->after_directory = then;
	if (s->has_directory && now_ns() < s->directory_until) {
		then(a);
		return;
	}
	if (s->has_directory) {
		message_done(&s->directory.json);
		s->has_directory = false;
	}
	session_ask(a, &(struct ask){.what = "directory",
				     .url = a->o.directory_url,
				     .repeat = 2,
				     .then = on_directory});
}
