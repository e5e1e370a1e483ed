/* SPDX-License-Identifier: MIT */
/*
 * commands - "semstreams cert ...": what operators do by hand, on the same storage as a running host and
 * beside it.  The lock keeps both from ordering at once; a host sees within a second what changed.  In the
 * control thread, on a loop of its own.
 */
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include "record.h"
#include "text.h"
#include "turn.h"

#define LOCK_TRIES 150 /* every fifth of a second: 30 s */
#define EXIT_USAGE 2

static const char usage[] =
	"usage: semstreams cert VERB\n"
	"  status [--json]            the certificate, when it is renewed, what went wrong last\n"
	"  issue                      get a certificate if there is none that fits\n"
	"  renew [--force]            renew it if it is due, or in any case\n"
	"  revoke [--reason REASON] [--keep]\n"
	"                             revoke it and get another, or keep it; REASON: unspecified, "
	"keyCompromise,\n"
	"                             affiliationChanged, superseded, cessationOfOperation, "
	"privilegeWithdrawn\n"
	"  rollover                   change the key of the ACME account\n"
	"  deactivate --yes           give up the ACME account for good\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage, 75 try again later.\n";

__attribute__((format(printf, 2, 3))) static void say(struct command *c, const char *format, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	c->print(c->arg, text);
}

/* ---- waiting for the lock ---- */

/* The lock, and the turn to answer challenges. */
static int try(struct command *c)
{
	const struct acme_conf *conf = c->t->setup.conf;
	int rc = store_lock(c->store);
	if (rc || !c->wants_turn)
		return rc;
	c->turn = turn_take(conf->challenge_address, challenge_port(conf));
	return c->turn == -EAGAIN ? -EAGAIN : 0;
}

static void on_try(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct command *c = timer->data;
	(void)events;
	c->lock_error = try(c);
	if (c->lock_error != -EAGAIN || --c->lock_tries == 0)
		ev_break(loop, EVBREAK_ALL);
}

/* 0, or the exit status. */
static int lock(struct command *c)
{
	ev_timer timer;
	c->lock_error = try(c);
	if (c->lock_error == -EAGAIN) {
		say(c, "Waiting for another process that works with %s ...\n", c->t->setup.path);
		c->lock_tries = LOCK_TRIES;
		ev_timer_init(&timer, on_try, .2, .2);
		timer.data = c;
		ev_timer_start(c->loop, &timer);
		ev_run(c->loop, 0);
		ev_timer_stop(c->loop, &timer);
	}
	/* whose turn it is need not be told apart from who has the port: the client will see */
	if (c->lock_error == 0 || store_lock(c->store) == 0)
		return 0;
	ss_log(c->t->host, SS_LOG_ERROR, "storage_path %s cannot be locked: %s", c->t->setup.path,
	       c->lock_error == -EAGAIN ? "another process has been at it for half a minute, try again later"
					: strerror(-c->lock_error));
	return c->lock_error == -EAGAIN ? EX_TEMPFAIL : EXIT_FAILURE;
}

/* ---- errands ---- */

static void on_log(void *arg, int32_t level, const char *text)
{
	const struct command *c = arg;
	c->t->host->log(c->t->host, level, text);
}

static void on_counted(void *arg, const char *what)
{
	(void)arg;
	(void)what;
}

static void on_done(void *arg, const struct acme_result *result)
{
	struct command *c = arg;
	c->result = *result;
	if (result->fail == ACME_OK && result->chain) {
		c->not_after = result->chain->not_after;
		int rc = record_success(c->store, &c->t->setup, result->chain, result->key_pem, wall_now(),
					c->result.why, sizeof c->result.why);
		if (rc)
			c->result.fail = rc == -ERANGE ? ACME_BROKEN : ACME_STORAGE;
	}
	c->result.chain = NULL;
	c->result.key_pem = c->result.ari_url = NULL;
	ev_break(c->loop, EVBREAK_ALL);
}

/* After acme_...(): wait for its end.  The exit status. */
static int await(struct command *c, int rc)
{
	if (rc == 0)
		ev_run(c->loop, 0);
	else
		c->result = (struct acme_result){.fail = ACME_LOCAL, .why = "out of memory"};
	acme_free(c->client);
	c->client = NULL;
	if (c->result.fail == ACME_OK)
		return EXIT_SUCCESS;
	record_command_failure(c->store, &c->result, wall_now());
	bool later = !c->result.permanent &&
		     (c->result.fail == ACME_UNREACHABLE || c->result.fail == ACME_RATE_LIMITED ||
		      c->result.fail == ACME_TIMEOUT || c->result.retry_after > 0);
	if (c->result.retry_after > 0)
		ss_log(c->t->host, SS_LOG_ERROR, "%s; the CA asks to wait %s", c->result.why,
		       text_duration(c->result.retry_after).s);
	else
		ss_log(c->t->host, SS_LOG_ERROR, "%s", c->result.why);
	return later ? EX_TEMPFAIL : EXIT_FAILURE;
}

/* 0, or the exit status: the CA may have asked to be left alone. */
static int begin(struct command *c)
{
	const struct client_sink sink = {.log = on_log, .counted = on_counted, .arg = c};
	struct store_state state;
	char why[512];
	record_load(c->store, &state);
	int64_t until = state.ca_try, now = wall_now();
	store_state_done(&state);
	if (until > now && until < now + RENEW_MAX_WAIT) {
		ss_log(c->t->host, SS_LOG_ERROR, "The CA asked not to be asked again before %s, in %s",
		       text_time(until).s, text_duration(until - now).s);
		return EX_TEMPFAIL;
	}
	if (client_new(c->t, c->loop, c->store, &sink, &c->client, why, sizeof why) == 0)
		return 0;
	ss_log(c->t->host, SS_LOG_ERROR, "%s", why);
	return EXIT_FAILURE;
}

static int issue(struct command *c, const struct held *held)
{
	const struct setup *s = &c->t->setup;
	int code = begin(c);
	if (code)
		return code;
	say(c, "Getting a certificate for %s from %s ...\n", s->names_json, s->conf->directory_url);
	code = await(c,
		     acme_issue(c->client, held->there && held->chain.ari_id[0] ? held->chain.ari_id : NULL,
				held->there ? held->key_pem : NULL, on_done, c));
	if (code == EXIT_SUCCESS)
		say(c,
		    "Certificate valid until %s saved to %s; a running semstreams takes it within a "
		    "second.\n",
		    text_time(c->not_after).s, s->chain_path);
	return code;
}

/* ---- verbs ---- */

static void load(struct command *c, struct held *held)
{
	char why[512] = "";
	if (held_load(held, c->store, &c->t->setup, why, sizeof why))
		ss_log(c->t->host, SS_LOG_WARN, "%s", why);
}

/* An attempt that failed does not keep an operator from trying. */
static struct renew_decision decide(struct command *c, const struct held *held)
{
	struct store_state state;
	record_load(c->store, &state);
	struct renew_facts f = record_facts(&c->t->setup, held, &state);
	f.next_try = 0;
	store_state_done(&state);
	return renew_decide(&f, wall_now());
}

static int issue_if(struct command *c, bool force, bool only_missing)
{
	struct held held;
	load(c, &held);
	struct renew_decision d = decide(c, &held);
	bool missing = d.why == RENEW_NO_CERT || d.why == RENEW_EXPIRED || d.why == RENEW_NAMES ||
		       d.why == RENEW_REVOKED;
	int code = EXIT_SUCCESS;
	if (force || (only_missing ? missing : d.now))
		code = issue(c, &held);
	else if (only_missing)
		say(c, "There is a certificate, valid until %s; \"renew --force\" gets another.\n",
		    text_time(held.chain.not_after).s);
	else
		say(c,
		    "Renewal is due %s, the certificate is valid until %s; \"renew --force\" renews it "
		    "now.\n",
		    text_time(d.due_at).s, text_time(held.chain.not_after).s);
	held_done(&held);
	return code;
}

static int reason_code(const char *name)
{
	static const struct {
		const char *name;
		int code;
	} reasons[] = {
		{"unspecified", 0}, {"keyCompromise", 1},        {"affiliationChanged", 3},
		{"superseded", 4},  {"cessationOfOperation", 5}, {"privilegeWithdrawn", 9},
	};
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (strcasecmp(reasons[i].name, name) == 0)
			return reasons[i].code;
	return -1;
}

static int revoke_held(struct command *c, int reason, bool keep)
{
	struct held held;
	load(c, &held);
	int code = EXIT_FAILURE;
	if (!held.there)
		ss_log(c->t->host, SS_LOG_ERROR, "There is no certificate in %s to revoke", c->t->setup.path);
	else if ((code = begin(c)) == 0)
		code = await(c, acme_revoke(c->client, held.chain.pem, reason, on_done, c));
	if (code == EXIT_SUCCESS) {
		say(c, "Certificate %s revoked.\n", held.chain.serial);
		record_revoked(c->store);
		code = keep ? EXIT_SUCCESS : issue(c, &held);
	}
	held_done(&held);
	return code;
}

static int on_account(struct command *c, int (*errand)(struct acme *, acme_done *, void *arg),
		      const char *done)
{
	int code = begin(c);
	if (code == 0)
		code = await(c, errand(c->client, on_done, c));
	if (code == EXIT_SUCCESS)
		say(c, "%s\n", done);
	return code;
}

/* ---- the words ---- */

struct words {
	const char *verb, *reason;
	bool json, force, keep, yes;
};

static bool parse(struct words *w, uint32_t argc, const char *const *argv)
{
	*w = (struct words){.verb = argc ? argv[0] : "", .reason = "unspecified"};
	bool revokes = strcmp(w->verb, "revoke") == 0;
	for (uint32_t i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0 && strcmp(w->verb, "status") == 0)
			w->json = true;
		else if (strcmp(argv[i], "--force") == 0 && strcmp(w->verb, "renew") == 0)
			w->force = true;
		else if (strcmp(argv[i], "--yes") == 0 && strcmp(w->verb, "deactivate") == 0)
			w->yes = true;
		else if (strcmp(argv[i], "--keep") == 0 && revokes)
			w->keep = true;
		else if (strcmp(argv[i], "--reason") == 0 && revokes && i + 1 < argc)
			w->reason = argv[++i];
		else if (strncmp(argv[i], "--reason=", 9) == 0 && revokes)
			w->reason = argv[i] + 9;
		else
			return false;
	}
	return reason_code(w->reason) >= 0;
}

static int carry_out(struct command *c, const struct words *w)
{
	if (strcmp(w->verb, "status") == 0)
		return status_print(c, w->json);
	c->wants_turn = strcmp(w->verb, "issue") == 0 || strcmp(w->verb, "renew") == 0 ||
			strcmp(w->verb, "revoke") == 0;
	int code = lock(c);
	if (code)
		return code;
	if (strcmp(w->verb, "issue") == 0)
		return issue_if(c, false, true);
	if (strcmp(w->verb, "renew") == 0)
		return issue_if(c, w->force, false);
	if (strcmp(w->verb, "revoke") == 0)
		return revoke_held(c, reason_code(w->reason), w->keep);
	if (strcmp(w->verb, "rollover") == 0)
		return on_account(c, acme_rollover, "The ACME account has a new key.");
	return on_account(c, acme_deactivate,
			  "The ACME account is deactivated; the next order needs a new one.");
}

static bool is_verb(const struct words *w)
{
	static const char *const verbs[] = {"status", "issue", "renew", "revoke", "rollover", "deactivate"};
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verbs[i], w->verb) == 0)
			return true;
	return false;
}

int32_t commands_run(struct acme_tls *t, uint32_t argc, const char *const *argv,
		     void (*print)(void *arg, const char *text), void *arg)
{
	struct command c = {.t = t, .print = print, .arg = arg, .turn = -1};
	struct words w;
	char why[512];
	if (!parse(&w, argc, argv) || !is_verb(&w)) {
		print(arg, usage);
		return EXIT_USAGE;
	}
	if (strcmp(w.verb, "deactivate") == 0 && !w.yes) {
		print(arg, "A deactivated account cannot be had back: say \"deactivate --yes\" if that is "
			   "meant.\n");
		return EXIT_USAGE;
	}
	/* a look makes no folder, which would be the wrong user's perhaps */
	if (strcmp(w.verb, "status") == 0 && access(t->setup.path, F_OK) && errno == ENOENT)
		return status_print(&c, w.json);
	if (store_open(t->setup.path, &c.store, why, sizeof why)) {
		ss_log(t->host, SS_LOG_ERROR, "%s", why);
		return EXIT_FAILURE;
	}
	int code = EXIT_FAILURE;
	c.loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	if (c.loop)
		code = carry_out(&c, &w);
	else
		ss_log(t->host, SS_LOG_ERROR, "No event loop can be made: %s", strerror(errno));
	if (c.turn >= 0)
		close(c.turn);
	store_free(c.store);
	if (c.loop)
		ev_loop_destroy(c.loop);
	return code;
}
