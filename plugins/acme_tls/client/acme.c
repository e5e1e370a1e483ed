/* SPDX-License-Identifier: MIT */
/*
 * acme - the client and its errands: begin, waits, end.  On the loop given; see acme.h and client.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <semstreams/plugin.h>
#include "client.h"

#define REQUESTS_MAX      100 /* of an errand, and: */
#define REQUESTS_PER_NAME 10
#define SKEW_MATTERS      300 /* seconds */

uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

void acme_log(struct acme *a, int32_t level, const char *format, ...)
{
	char text[1024];
	va_list args;
	if (!a->o.log)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	a->o.log(a->o.arg, level, text);
}

void errand_doing(struct acme *a, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(a->e.doing, sizeof a->e.doing, format, args);
	va_end(args);
}

/* ---- waiting */

static void on_wait(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct acme *a = timer->data;
	(void)events;
	ev_timer_stop(loop, timer);
	a->after_wait(a);
}

void errand_wait(struct acme *a, uint64_t ns, acme_step *then)
{
	a->after_wait = then;
	ev_timer_stop(a->o.loop, &a->wait);
	ev_now_update(a->o.loop);
	ev_timer_set(&a->wait, (double)ns / 1e9, 0.);
	ev_timer_start(a->o.loop, &a->wait);
}

void errand_poll(struct acme *a, uint64_t ns, acme_step *then)
{
	uint64_t asked = (uint64_t)a->s.retry_after * SECOND, now = now_ns();
	if (!asked) {
		errand_wait(a, ns, then);
	} else if (now + asked < a->e.deadline) {
		if (a->s.not_before < now + asked)
			a->s.not_before = now + asked;
		errand_wait(a, asked, then);
	} else {
		a->s.not_before = now + asked;
		errand_fail(a, ACME_RATE_LIMITED, false,
			    "the CA asks to come back in %lld s, which is later than this attempt may last: "
			    "it was %s",
			    (long long)a->s.retry_after, a->e.doing);
	}
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct acme *a = timer->data;
	(void)events;
	ev_timer_stop(loop, timer);
	errand_fail(a, ACME_TIMEOUT, false, "out of time while %s", a->e.doing);
}

/* ---- the end */

static const char *challenge_name(const struct acme *a)
{
	return a->o.challenge == ACME_TLS_ALPN_01 ? "TLS-ALPN-01" : "HTTP-01";
}

/* The words that operators' guides know. */
static void what_failed(const struct acme *a, enum acme_fail fail, char *out, size_t size)
{
	bool validating = a->order && a->order->validating;
	if (fail == ACME_UNREACHABLE)
		snprintf(out, size, "failed to connect to ACME server");
	else if (a->e.registering)
		snprintf(out, size, "account registration failed");
	else if (fail == ACME_CHALLENGE_FAILED || (validating && fail == ACME_TIMEOUT))
		snprintf(out, size, "%s challenge failed: challenge validation failed", challenge_name(a));
	else if (validating && fail == ACME_LOCAL)
		snprintf(out, size, "%s challenge failed", challenge_name(a));
	else
		snprintf(out, size, "%s", a->e.failure);
}

static bool skew(const struct acme *a, int64_t *seconds)
{
	return a->s.http && http_skew(a->s.http, seconds) && llabs(*seconds) > SKEW_MATTERS;
}

void errand_fail(struct acme *a, enum acme_fail fail, bool permanent, const char *format, ...)
{
	struct acme_result result = {.fail = fail, .permanent = permanent};
	char detail[sizeof result.why], failed[128];
	int64_t seconds;
	va_list args;
	va_start(args, format);
	vsnprintf(detail, sizeof detail, format, args);
	va_end(args);
	what_failed(a, fail, failed, sizeof failed);
	if (a->e.registering && (fail == ACME_REFUSED || fail == ACME_BROKEN))
		result.fail = ACME_ACCOUNT;
	size_t used = (size_t)snprintf(result.why, sizeof result.why, "%s: %s", failed, detail);
	if (fail == ACME_UNREACHABLE && used < sizeof result.why)
		used += (size_t)snprintf(result.why + used, sizeof result.why - used, " (%s)",
					 a->o.directory_url);
	if (used < sizeof result.why && skew(a, &seconds))
		snprintf(result.why + used, sizeof result.why - used,
			 "; this machine's clock is %lld s %s the CA's", (long long)llabs(seconds),
			 seconds > 0 ? "behind" : "ahead of");
	/* it becomes the quoted value of a field in the log */
	for (char *quote = result.why; (quote = strchr(quote, '"')); quote++)
		*quote = '\'';
	errand_end(a, &result);
}

void errand_refused(struct acme *a, const struct problem *problem)
{
	char text[512];
	problem_text(problem, text, sizeof text);
	errand_fail(a,
		    problem_is(problem, "rateLimited") || problem->status == 429 ? ACME_RATE_LIMITED
										 : ACME_REFUSED,
		    problem_permanent(problem), "%s", text);
}

static void errand_forget(struct acme *a, bool well)
{
	ev_timer_stop(a->o.loop, &a->wait);
	ev_timer_stop(a->o.loop, &a->deadline);
	session_close(a, well);
	free(a->certificate_id);
	free(a->leaf);
	free(a->old_ari_id);
	key_text_free(a->old_key_text);
	a->certificate_id = a->leaf = a->old_ari_id = a->old_key_text = NULL;
	key_free(a->new_key);
	a->new_key = NULL;
	a->e.running = a->e.registering = false;
}

/* Warn once of a clock that is wrong: certificates are judged by it. */
static void tell_skew(struct acme *a)
{
	int64_t seconds;
	if (a->e.told_skew || !skew(a, &seconds))
		return;
	a->e.told_skew = true;
	acme_log(a, SS_LOG_WARN,
		 "Clock of this machine differs from the ACME server's, set it right seconds=%lld",
		 (long long)-seconds);
}

void errand_end(struct acme *a, struct acme_result *result)
{
	struct order *order = a->order;
	acme_done *done = a->e.done;
	void *arg = a->e.arg;
	uint64_t now = now_ns();
	if (result->fail && a->s.not_before > now)
		result->retry_after = (int64_t)((a->s.not_before - now + SECOND - 1) / SECOND);
	tell_skew(a);
	if (order)
		order_quiet(a);
	errand_forget(a, result->fail == ACME_OK);
	if (result->fail && a->e.drop)
		a->e.drop(a, result);
	/* a new errand may begin in done, and the client may end there */
	void (*drop)(struct acme *, const struct acme_result *) = result->fail ? NULL : a->e.drop;
	bool freed = false;
	a->order = NULL;
	a->freed = &freed;
	done(arg, result);
	if (!freed) {
		a->freed = NULL;
		if (drop)
			drop(a, result);
	}
	order_free(order);
}

/* ---- the beginning */

static void errand_work(struct acme *a)
{
	a->e.begin(a);
}

static void errand_account(struct acme *a)
{
	if (a->e.by_account)
		account_ready(a, errand_work);
	else
		errand_work(a);
}

static void errand_begin(struct acme *a)
{
	char why[256] = "out of memory";
	a->e.registering = false;
	if (!a->s.http && session_open(a, why, sizeof why) < 0) {
		errand_fail(a, ACME_LOCAL, false, "%s", why);
		return;
	}
	if (a->e.by_account && !account_load(a))
		return;
	errand_doing(a, "asking for the CA's directory");
	session_directory(a, errand_account);
}

int errand_start(struct acme *a, const struct errand *errand)
{
	if (a->e.running)
		return -EBUSY;
	uint64_t life = errand->deadline; /* as long as it may last; from here on when it ends */
	a->e = *errand;
	a->e.running = true;
	a->e.deadline = now_ns() + life;
	a->e.requests_max = REQUESTS_MAX + REQUESTS_PER_NAME * (unsigned)a->o.n_names;
	errand_doing(a, "beginning");
	ev_now_update(a->o.loop);
	ev_timer_set(&a->deadline, (double)life / 1e9, 0.);
	ev_timer_start(a->o.loop, &a->deadline);
	errand_wait(a, 0, errand_begin);
	return 0;
}

void errand_restart(struct acme *a)
{
	struct order *order = a->order;
	a->e.restarted = true;
	if (order) {
		order_quiet(a);
		a->order = NULL;
		order_free(order);
	}
	errand_wait(a, 0, errand_begin);
}

/* ---- the client */

static void responder_asked(void *arg, const char *name_or_token, const char *peer)
{
	char name[96], from[64];
	message_text(name_or_token, name, sizeof name);
	message_text(peer ? peer : "", from, sizeof from);
	acme_log(arg, SS_LOG_DEBUG, "ACME challenge asked for what=%s peer=%s", name, from);
}

static int responder_make(struct acme *a)
{
	const struct responder_options options = {
		.loop = a->o.loop,
		.address = a->o.challenge_address ? a->o.challenge_address : "",
		.port = a->o.challenge_port,
		.asked = responder_asked,
		.arg = a,
	};
	return a->o.challenge == ACME_TLS_ALPN_01 ? responder_alpn_new(&options, &a->responder)
						  : responder_http_new(&options, &a->responder);
}

/* What is in the store already, for the log. */
static void account_announce(struct acme *a)
{
	char why[256] = "";
	if (store_account_load(a->o.store, &a->account, why, sizeof why) < 0)
		return;
	a->has_account = true;
	if (a->account.url && a->account.directory && !strcmp(a->account.directory, a->o.directory_url)) {
		acme_log(a, SS_LOG_INFO, "ACME account loaded from storage email=%s",
			 a->account.email ? a->account.email : "");
		a->told_account = true;
	}
}

int acme_new(const struct acme_options *options, struct acme **out, char *why, size_t why_size)
{
	struct acme *a = calloc(1, sizeof *a);
	if (!a) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	a->o = *options;
	ev_init(&a->wait, on_wait);
	ev_init(&a->deadline, on_deadline);
	a->wait.data = a->deadline.data = a;
	int err = session_open(a, why, why_size);
	if (!err) {
		err = responder_make(a);
		if (err < 0)
			snprintf(why, why_size, "out of memory");
	}
	if (err < 0) {
		acme_free(a);
		return err;
	}
	account_announce(a);
	*out = a;
	return 0;
}

void acme_free(struct acme *a)
{
	if (!a)
		return;
	if (a->freed)
		*a->freed = true;
	struct order *order = a->order;
	if (order)
		order_quiet(a);
	errand_forget(a, false);
	order_free(order);
	if (a->has_account)
		store_account_done(&a->account);
	key_free(a->key);
	responder_free(a->responder);
	free(a);
}
