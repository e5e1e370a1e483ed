/* SPDX-License-Identifier: MIT */
/*
 * session - what the steps of an operation do: ask the CA (RFC 8555 section 6: signatures, nonces, what is
 * tried again and when), wait, log, fail.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include <semstreams/base/url.h>
#include "client.h"
#include "plugins/identity/time_text.h"

#define CONNECT_NS     (10 * SECOND)
#define TOTAL_NS       (30 * SECOND)
#define BODY_MAX       (256 << 10)
#define RATE_MIN       64u /* bytes/s */
#define BAD_NONCES_MAX 10
#define WAITS_MAX      3 /* times that Retry-After is waited for, per request */
#define REPEAT_FIRST   (SECOND / 4)
#define SKEW_MATTERS   300 /* seconds */

/* ---- the log, waits, the end */

void client_log(struct client *c, int32_t level, const char *format, ...)
{
	char text[1024];
	va_list args;
	if (!c->o.log)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	c->o.log(c->o.arg, level, text);
}

void client_doing(struct client *c, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(c->doing, sizeof c->doing, format, args);
	va_end(args);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	*(bool *)timer->data = true;
}

/* The words that operators' guides know. */
static void what_failed(const struct client *c, enum obtain_fail fail, char *out, size_t size)
{
	const char *challenge = c->o.challenge == ACME_TLS_ALPN_01 ? "TLS-ALPN-01" : "HTTP-01";
	bool validating = c->order && c->order->validating;
	if (fail == OBTAIN_UNREACHABLE)
		snprintf(out, size, "failed to connect to ACME server");
	else if (c->registering)
		snprintf(out, size, "account registration failed");
	else if (fail == OBTAIN_CHALLENGE_FAILED || (validating && fail == OBTAIN_TIMEOUT))
		snprintf(out, size, "%s challenge failed: challenge validation failed", challenge);
	else if (validating && fail == OBTAIN_LOCAL)
		snprintf(out, size, "%s challenge failed", challenge);
	else
		snprintf(out, size, "%s", c->failure);
}

static bool skewed(const struct client *c)
{
	return c->s.has_skew && llabs(c->s.skew) > SKEW_MATTERS;
}

int client_fail(struct client *c, enum obtain_fail fail, bool permanent, const char *format, ...)
{
	struct obtain_result *result = &c->result;
	char failed[128];
	va_list args;
	what_failed(c, fail, failed, sizeof failed);
	if (c->registering && (fail == OBTAIN_REFUSED || fail == OBTAIN_BROKEN))
		fail = OBTAIN_ACCOUNT;
	*result = (struct obtain_result){.fail = fail, .permanent = permanent};
	append(result->why, sizeof result->why, "%s: ", failed);
	va_start(args, format);
	append_list(result->why, sizeof result->why, format, args);
	va_end(args);
	if (fail == OBTAIN_UNREACHABLE)
		append(result->why, sizeof result->why, " (%s)", c->shown_url);
	if (skewed(c))
		append(result->why, sizeof result->why, "; this machine's clock is %lld s %s the CA's",
		       (long long)llabs(c->s.skew), c->s.skew > 0 ? "behind" : "ahead of");
	/* it becomes the quoted value of a field in the log */
	for (char *quote = result->why; (quote = strchr(quote, '"')); quote++)
		*quote = '\'';
	return -ECANCELED;
}

int client_no_memory(struct client *c)
{
	return client_fail(c, OBTAIN_LOCAL, false, "out of memory");
}

static int timed_out(struct client *c)
{
	return client_fail(c, OBTAIN_TIMEOUT, false, "out of time while %s", c->doing);
}

static int wait_for(struct client *c, uint64_t ns)
{
	uint64_t now = monotonic_now(), left = c->deadline > now ? c->deadline - now : 0;
	bool over = false;
	ev_timer timer;
	ev_timer_init(&timer, on_timer, (double)(ns < left ? ns : left) / 1e9, 0.);
	timer.data = &over;
	ev_now_update(c->o.loop);
	ev_timer_start(c->o.loop, &timer);
	while (!over)
		ev_run(c->o.loop, EVRUN_ONCE);
	return ns < left ? 0 : timed_out(c);
}

int client_poll(struct client *c, uint64_t ns)
{
	uint64_t asked = (uint64_t)c->s.retry_after * SECOND, until = monotonic_now() + asked;
	if (!asked)
		return wait_for(c, ns);
	if (c->s.not_before < until)
		c->s.not_before = until;
	if (until < c->deadline)
		return wait_for(c, asked);
	return client_fail(c, OBTAIN_RATE_LIMITED, false,
			   "the CA asks to come back in %lld s, which is after the deadline of this attempt; "
			   "it was %s",
			   (long long)c->s.retry_after, c->doing);
}

int client_refused(struct client *c, const struct problem *problem)
{
	bool limited = problem_is(problem, "rateLimited") || problem->status == 429;
	return client_fail(c, limited ? OBTAIN_RATE_LIMITED : OBTAIN_REFUSED, problem->permanent, "%s",
			   problem->text);
}

int order_useless(struct client *c, enum obtain_fail fail, bool permanent, const char *format, ...)
{
	char why[sizeof c->result.why];
	va_list args;
	va_start(args, format);
	vsnprintf(why, sizeof why, format, args);
	va_end(args);
	if (!c->order || !c->order->resumed)
		return client_fail(c, fail, permanent, "%s", why);
	client_log(c, SS_LOG_INFO, "Discarding the ACME order of an earlier attempt reason=\"%s\"", why);
	return -ESTALE;
}

/* ---- nonces */

/* What a request has cost so far. */
struct tries {
	unsigned repeats, bad_nonces, waits;
};

static void nonce_keep(struct session *s, const char *nonce)
{
	if (nonce && *nonce && strlen(nonce) <= NONCE_MAX && !nonce[strspn(nonce, BASE64URL)])
		strcpy(s->nonce, nonce);
}

/* ---- answers.  -EAGAIN: try again */

static int repeat_later(struct client *c, struct tries *t)
{
	int rc = wait_for(c, REPEAT_FIRST << t->repeats++);
	return rc ? rc : -EAGAIN;
}

/* No answer.  A CA that never answered is not asked again: the cause
 * will not be gone in a second. */
static int answer_none(struct client *c, const struct ask *ask, struct tries *t)
{
	const char *why = c->s.reply.why;
	int error = c->s.reply.error;
	bool passing = error == -ECONNRESET || error == -ETIMEDOUT || error == -ECONNREFUSED;
	if (c->s.heard && passing && t->repeats < ask->repeat)
		return repeat_later(c, t);
	if (ask->how & ASK_MAY_BREAK)
		return 0;
	return client_fail(c, error == -EMSGSIZE ? OBTAIN_BROKEN : OBTAIN_UNREACHABLE, false, "%s", why);
}

/* The CA wants to be left alone for some time. */
static int answer_wait(struct client *c, struct tries *t)
{
	struct session *s = &c->s;
	uint64_t until = monotonic_now() + (uint64_t)s->retry_after * SECOND;
	if (s->retry_after)
		s->not_before = until;
	if (s->retry_after && t->waits < WAITS_MAX && until < c->deadline) {
		t->waits++;
		return -EAGAIN;
	}
	if (s->retry_after)
		return client_fail(c, OBTAIN_RATE_LIMITED, false, "%s; the CA asks to retry in %lld s",
				   s->problem.text, (long long)s->retry_after);
	return client_fail(c, OBTAIN_RATE_LIMITED, false, "%s", s->problem.text);
}

static int answer_problem(struct client *c, const struct ask *ask, bool for_nonce, struct tries *t)
{
	struct session *s = &c->s;
	long status = s->reply.status;
	problem_read(s->reply.body, s->reply.len, status, &s->problem);
	/* the refusal brought a nonce, and the newest is taken */
	if (problem_is(&s->problem, "badNonce") && t->bad_nonces++ < BAD_NONCES_MAX)
		return -EAGAIN;
	if (status == 429 || problem_is(&s->problem, "rateLimited") || (status == 503 && s->retry_after))
		return answer_wait(c, t);
	if (status >= 500 && status != 501 && t->repeats < ask->repeat)
		return repeat_later(c, t);
	if (for_nonce || problem_is(&s->problem, "badNonce"))
		return client_refused(c, &s->problem);
	if (problem_is(&s->problem, "accountDoesNotExist") && !(ask->how & (ASK_GET | ASK_BY_JWK)))
		return -ENOKEY;
	return 0;
}

/* Learn from the reply's fields.  A date in Retry-After is by the CA's own clock, if the CA tells that. */
static void fields_read(struct session *s)
{
	int64_t ours = (int64_t)time(NULL), theirs;
	if (!s->reply.date || !message_http_date(s->reply.date, &theirs)) {
		theirs = ours;
	} else {
		s->has_skew = true;
		s->skew = theirs - ours;
	}
	s->retry_after = message_retry_after(s->reply.retry_after, theirs);
	nonce_keep(s, s->reply.nonce);
}

static int answer_judge(struct client *c, const struct ask *ask, bool for_nonce, struct tries *t)
{
	struct session *s = &c->s;
	s->retry_after = 0;
	if (s->reply.error)
		return answer_none(c, ask, t);
	s->heard = true;
	fields_read(s);
	if (s->reply.status >= 400)
		return answer_problem(c, ask, for_nonce, t);
	if (s->reply.status < 200 || s->reply.status >= 300) {
		char to[200] = "another address";
		if (s->reply.location)
			ss_url_redact(s->reply.location, to, sizeof to);
		return client_fail(
			c, OBTAIN_BROKEN, true,
			"the CA redirects to %s, which is not followed: put the right URL into directory_url",
			to);
	}
	if (!for_nonce)
		return 0;
	if (s->nonce[0])
		return -EAGAIN;
	return client_broken(c, "the CA's newNonce resource returned no nonce");
}

/* ---- requests */

static int send_request(struct client *c, const char *what, const struct http_request *q)
{
	struct http_reply *reply = &c->s.reply;
	char foreign[100];
	if (c->requests >= c->requests_max)
		return client_broken(c, "gave up after %u requests while %s", c->requests, c->doing);
	c->requests++;
	if (c->o.counted)
		c->o.counted(c->o.arg, what);
	http_ask(c->s.http, q, reply);
	if (reply->error == -EINVAL) {
		message_text(q->url, foreign, sizeof foreign);
		return order_broken(c, "the CA's address for %s, %s, %s", what, foreign, reply->why);
	}
	if (reply->error == -ENOMEM)
		return client_no_memory(c);
	return reply->error && monotonic_now() >= c->deadline ? timed_out(c) : 0;
}

static int send_signed(struct client *c, const char *what, const char *url, const struct ask *ask,
		       const char *payload)
{
	struct session *s = &c->s;
	char *body = NULL;
	int rc = jws_sign(ask->key ? ask->key : c->key, ask->how & ASK_BY_JWK ? NULL : c->account.url,
			  s->nonce, url, payload, &body);
	s->nonce[0] = '\0';
	if (rc < 0)
		return client_fail(c, OBTAIN_LOCAL, rc == -EINVAL, "a request cannot be signed: %s",
				   rc == -EINVAL ? "the account's key cannot sign requests" : strerror(-rc));
	rc = send_request(c, what,
			  &(struct http_request){.method = "POST",
						 .url = url,
						 .body = body,
						 .accept = ask->accept,
						 .deadline = c->deadline});
	free(body);
	return rc;
}

/* The CA said not to come before. */
static int leave_alone(struct client *c)
{
	uint64_t now = monotonic_now();
	if (now >= c->s.not_before)
		return now < c->deadline ? 0 : timed_out(c);
	if (c->s.not_before < c->deadline)
		return wait_for(c, c->s.not_before - now);
	return client_fail(c, OBTAIN_RATE_LIMITED, false,
			   "the CA asked for no requests during another %llu s",
			   (unsigned long long)((c->s.not_before - now) / SECOND + 1));
}

/* An internal error may be all that a CA says of an account that it has forgotten, as step-ca does when it
 * was restored without its database: ask, once in an operation, whether the account exists. */
static int confirm_account(struct client *c)
{
	struct session *s = &c->s;
	const struct problem first = s->problem;
	const char *const *links = s->reply.links;
	c->account_confirmed = true;
	int rc = session_find_account(c, NULL, true);
	if (!rc && s->refusal && problem_is(s->refusal, "accountDoesNotExist"))
		rc = -ENOKEY;
	s->problem = first;
	s->reply = (struct http_reply){.status = first.status, .body = "", .links = links};
	return rc;
}

/* Until there is an answer to go on with.  payload NULL: an unsigned GET. */
static int ask_persistently(struct client *c, const char *what, const char *url, const char *payload,
			    const struct ask *ask)
{
	struct session *s = &c->s;
	struct http_request get = {
		.method = "GET", .url = url, .accept = ask->accept, .deadline = c->deadline};
	struct http_request head = {
		.method = "HEAD", .url = member_text(s->directory, "newNonce"), .deadline = c->deadline};
	struct tries tries = {0};
	int rc;
	do {
		bool for_nonce = payload && !s->nonce[0];
		rc = leave_alone(c);
		if (!rc && for_nonce)
			rc = send_request(c, "newNonce", &head);
		else if (!rc)
			rc = payload ? send_signed(c, what, url, ask, payload) : send_request(c, what, &get);
		if (!rc)
			rc = answer_judge(c, ask, for_nonce, &tries);
	} while (rc == -EAGAIN);
	if (!rc && !s->reply.error && s->reply.status >= 500 && s->reply.status != 501 &&
	    !(ask->how & (ASK_GET | ASK_BY_JWK)) && !c->account_confirmed)
		rc = confirm_account(c);
	return rc;
}

static void forget(json_t **document)
{
	json_decref(*document);
	*document = NULL;
}

static int read_message(struct client *c, enum message_kind kind)
{
	struct session *s = &c->s;
	char why[256];
	int rc = message_read(kind, s->reply.body, s->reply.len, &s->message, why, sizeof why);
	if (rc == -EINVAL && kind == MESSAGE_DIRECTORY)
		return client_broken(c, "%s: check directory_url", why);
	if (rc == -EINVAL)
		return order_broken(c, "%s", why);
	return rc ? client_no_memory(c) : 0;
}

int session_ask(struct client *c, const char *what, const char *url, json_t *payload, const struct ask *ask)
{
	struct session *s = &c->s;
	char *text = ask->how & ASK_LOOK ? strdup("") : payload ? json_dumps(payload, JSON_COMPACT) : NULL;
	json_decref(payload);
	forget(&s->message);
	s->refusal = NULL;
	int rc = text || ask->how & ASK_GET ? ask_persistently(c, what, url, text, ask) : client_no_memory(c);
	free(text);
	if (rc || s->reply.error)
		return rc;
	if (s->reply.status < 400)
		return ask->expect ? read_message(c, ask->expect) : 0;
	s->refusal = &s->problem;
	if (ask->how & ASK_MAY_REFUSE || (ask->passes && problem_is(s->refusal, ask->passes)))
		return 0;
	return client_refused(c, s->refusal);
}

int session_find_account(struct client *c, const struct identity_key *key, bool may_fail)
{
	return session_ask(c, "newAccount", member_text(c->s.directory, "newAccount"),
			   json_pack("{sb}", "onlyReturnExisting", 1),
			   &(struct ask){.how = ASK_BY_JWK | (may_fail ? ASK_MAY_REFUSE | ASK_MAY_BREAK : 0),
					 .key = key,
					 .passes = "accountDoesNotExist",
					 .repeat = may_fail ? 0 : 2});
}

/* ---- from the directory to the end */

int session_open(struct client *c)
{
	struct session *s = &c->s;
	const struct http_options options = {
		.loop = c->o.loop,
		.user_agent = "semstreams/" PACKAGE_VERSION,
		.ca_files = c->o.ca_files,
		.n_ca_files = c->o.n_ca_files,
		.origin = c->o.directory_url,
		.connect_ns = CONNECT_NS,
		.total_ns = TOTAL_NS,
		.max_body = BODY_MAX,
		.min_rate = RATE_MIN,
	};
	char why[512] = "out of memory";
	forget(&s->directory);
	if (!s->http && http_new(&options, &s->http, why, sizeof why) < 0)
		return client_fail(c, OBTAIN_LOCAL, false, "%s", why);
	client_doing(c, "asking for the CA's directory");
	int rc = session_ask(
		c, "directory", c->o.directory_url, NULL,
		&(struct ask){.how = ASK_GET | ASK_MAY_REFUSE, .expect = MESSAGE_DIRECTORY, .repeat = 2});
	if (!rc && s->refusal)
		rc = s->refusal->status != 404
			     ? client_refused(c, s->refusal)
			     : client_fail(c, OBTAIN_REFUSED, true,
					   "the CA has nothing at %s (HTTP status 404): is the ACME "
					   "provisioner in directory_url the one that the CA has?",
					   c->shown_url);
	if (rc)
		return rc;
	s->directory = s->message;
	s->message = NULL;
	return 0;
}

void session_close(struct client *c)
{
	struct session *s = &c->s;
	uint64_t now = monotonic_now();
	if (c->result.fail && s->not_before > now)
		c->result.retry_after = (int64_t)((s->not_before - now + SECOND - 1) / SECOND);
	/* certificates are judged by the clock */
	if (skewed(c))
		client_log(c, SS_LOG_WARN,
			   "Clock of this machine differs from the ACME server's, set it right seconds=%lld",
			   (long long)-s->skew);
	http_free(s->http);
	s->http = NULL;
	s->nonce[0] = '\0';
	forget(&s->message);
	forget(&s->directory);
}
