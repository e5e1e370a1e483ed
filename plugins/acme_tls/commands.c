/* SPDX-License-Identifier: MIT */
/* commands - see commands.h. */
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/nearest.h>
#include <semstreams/sugar.h>
#include "names.h"
#include "operation.h"
#include "renewal_schedule.h"
#include "time_text.h"

#define LOCK_WAIT_NS 200000000 /* between two tries */
#define LOCK_TRIES   150       /* 30 s in all */
#define EXIT_USAGE   2

/* One command. */
struct command {
	const struct ss_host *host;
	const struct setup *setup;
	const char *const *ca_files;
	void (*print)(void *arg, const char *text);
	void *arg;
	const char *verb, *reason;
	bool json, force, keep, yes;
	struct store *store; /* NULL: storage_path does not exist */

	/* what is in the store */
	int64_t now;
	struct stored_cert cert;
	char broken[512]; /* why the stored certificate cannot be used */
	struct store_state state;
};

static const char usage[] =
	"usage: semstreams cert VERB\n"
	"  status [--json]            the certificate, its next renewal and the last error\n"
	"  issue                      get a certificate unless there is one that fits\n"
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

static void look(struct command *c)
{
	c->now = wall_now();
	if (!c->store)
		return;
	int rc = stored_cert_load(c->store, c->setup->names, c->setup->n_names, &c->cert);
	if (rc && rc != -ENOENT)
		snprintf(c->broken, sizeof c->broken, "%s", store_why(c->store));
	store_state_load(c->store, &c->state);
}

/* own_wait: as the host does, which waits after a failed attempt. */
static struct renew_decision decide(const struct command *c, bool own_wait)
{
	struct renew_facts f = record_facts(c->setup, &c->cert, &c->state);
	if (!own_wait)
		f.next_try = 0;
	return renew_decide(&f, c->now);
}

/* ---- status ---- */

/* When it will be tried: due, or after what it has to wait for. */
static int64_t next_try(const struct command *c)
{
	struct renew_decision d = decide(c, true);
	int64_t wait = d.why != RENEW_NOT_DUE && !d.now ? c->state.next_try : 0;
	if (wait < c->state.ca_try && wait)
		wait = c->state.ca_try;
	return wait > d.due_at ? wait : d.due_at;
}

/* What is wrong with the certificate; NULL: nothing. */
static const char *trouble(const struct command *c)
{
	const struct chain_info *chain = &c->cert.chain;
	if (c->broken[0])
		return c->broken;
	if (!c->cert.exists)
		return "there is none yet; nothing has been obtained";
	if (c->now >= chain->not_after)
		return "expired";
	if (c->now < chain->not_before)
		return "not valid yet; is this machine's clock right?";
	if (c->state.revoked)
		return "revoked";
	if (!c->cert.names_match)
		return "not for the names in \"domains\"";
	/* renewal must have failed */
	if (chain->not_after - c->now < (chain->not_after - chain->not_before) / 10)
		return "expires soon: less than a tenth of its lifetime is left";
	return NULL;
}

__attribute__((format(printf, 3, 4))) static void row(struct command *c, const char *what, const char *format,
						      ...)
{
	char raw[1000], clean[1000];
	va_list ap;
	va_start(ap, format);
	vsnprintf(raw, sizeof raw, format, ap);
	va_end(ap);
	name_harmless(raw, strlen(raw), clean, sizeof clean);
	say(c, "  %-13s %s\n", what, clean);
}

static void print_certificate(struct command *c, const char *root)
{
	const struct chain_info *chain = &c->cert.chain;
	int64_t left = chain->not_after - c->now;
	row(c, "subject", "%s", chain->subject);
	row(c, "issuer", "%s, root %s", chain->issuer, chain->root);
	if (root) /* two roots may have one name */
		row(c, "root SHA-256", "%s", root);
	row(c, "serial", "%s", chain->serial);
	row(c, "valid from", "%s", time_text(chain->not_before).s);
	row(c, "valid until", "%s (%s%s)", time_text(chain->not_after).s,
	    span_text(left > 0 ? left : -left).s, left > 0 ? " left" : " ago");
}

static void print_text(struct command *c, const struct store_account *account, const char *root)
{
	const char *wrong = trouble(c);
	int64_t next = next_try(c);
	char names[512] = "";
	size_t used = 0;
	for (size_t i = 0; i < c->setup->n_names && used < sizeof names; i++)
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
					 c->setup->names[i]);
	row(c, "names", "%s", names);
	row(c, "certificate", "%s", wrong ? wrong : "good");
	row(c, "file", "%s", c->setup->chain_path);
	if (c->cert.exists)
		print_certificate(c, root);
	if (next > c->now)
		row(c, "next renewal", "%s (in %s)", time_text(next).s, span_text(next - c->now).s);
	else
		row(c, "next renewal", "due now");
	if (c->state.last_success)
		row(c, "obtained", "%s", time_text(c->state.last_success).s);
	row(c, "failures", "%" PRIu32 "%s", c->state.failures, c->state.failures ? " in a row" : "");
	if (c->state.last_error)
		row(c, "last error", "%s", c->state.last_error);
	row(c, "directory", "%s", c->setup->shown_url);
	if (account)
		row(c, "account", "%s (%s)", account->url ? account->url : "not registered",
		    account->email ? account->email : "");
	else
		row(c, "account", "none yet");
}

static json_t *time_json(int64_t at)
{
	return at ? json_string(time_text(at).s) : json_null();
}

static json_t *certificate_json(const struct command *c, const char *root)
{
	const struct chain_info *chain = &c->cert.chain;
	if (!c->cert.exists)
		return json_null();
	return json_pack("{s:s, s:s, s:s, s:s*, s:s, s:o, s:o, s:I, s:b, s:b}", "subject", chain->subject,
			 "issuer", chain->issuer, "root", chain->root, "root_sha256", root, "serial",
			 chain->serial, "not_before", time_json(chain->not_before), "not_after",
			 time_json(chain->not_after), "remaining_seconds",
			 (json_int_t)(chain->not_after - c->now), "names_match", (int)c->cert.names_match,
			 "revoked", (int)c->state.revoked);
}

static void print_json(struct command *c, const struct store_account *account, const char *root_sha256)
{
	const char *wrong = trouble(c);
	json_t *known = account ? json_pack("{s:s?, s:s?}", "email", account->email, "url", account->url)
				: json_null();
	json_t *root =
		json_pack("{s:b, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:s?}", "good", !wrong, "state",
			  wrong ? wrong : "good", "domains", json_loads(c->setup->names_json, 0, NULL),
			  "file", c->setup->chain_path, "directory_url", c->setup->shown_url, "account",
			  known, "certificate", certificate_json(c, root_sha256), "next_renewal",
			  time_json(next_try(c)), "last_success", time_json(c->state.last_success),
			  "failures", (json_int_t)c->state.failures, "last_error", c->state.last_error);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	if (text) {
		c->print(c->arg, text);
		c->print(c->arg, "\n");
	}
	free(text);
	json_decref(root);
}

static int status(struct command *c)
{
	struct store_account account = {0};
	bool has_account = c->store && store_account_load(c->store, &account) == 0;
	char root[CHAIN_FINGERPRINT];
	bool has_root = c->cert.exists && chain_root_fingerprint(c->cert.chain.pem, c->ca_files, root) == 0;
	(c->json ? print_json : print_text)(c, has_account ? &account : NULL, has_root ? root : NULL);
	store_account_done(&account);
	return trouble(c) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the lock ---- */

/* 0, or the exit status. */
static int lock(struct command *c)
{
	const struct timespec pause = {.tv_nsec = LOCK_WAIT_NS};
	int rc = -EAGAIN;
	for (int i = 0; rc == -EAGAIN && i <= LOCK_TRIES; i++) {
		if (i == 1)
			say(c, "Waiting for another process that works with %s ...\n", c->setup->path);
		if (i > 0)
			nanosleep(&pause, NULL);
		rc = store_lock(c->store);
	}
	if (rc == 0)
		return 0;
	ss_log(c->host, SS_LOG_ERROR, "storage_path %s cannot be locked: %s", c->setup->path,
	       rc == -EAGAIN ? "locked by another process for 30 s; retry later" : strerror(-rc));
	return rc == -EAGAIN ? EX_TEMPFAIL : EXIT_FAILURE;
}

/* ---- operations ---- */

static void on_log(void *arg, int32_t level, const char *text)
{
	const struct command *c = arg;
	c->host->log(c->host, level, text);
}

/* The exit status after a failure, which is logged and remembered. */
static int failed(struct command *c, bool counts, const struct operation_result *result)
{
	uint32_t failures = 0;
	bool later = !result->permanent &&
		     (result->fail == ACME_UNREACHABLE || result->fail == ACME_RATE_LIMITED ||
		      result->fail == ACME_TIMEOUT || result->retry_after > 0);
	record_failure(c->store, NULL, result, 0, wall_now(), counts ? &failures : NULL);
	if (result->retry_after > 0)
		ss_log(c->host, SS_LOG_ERROR, "%s; the CA asks to wait %s", result->why,
		       duration_text(result->retry_after).s);
	else
		ss_log(c->host, SS_LOG_ERROR, "%s", result->why);
	return later ? EX_TEMPFAIL : EXIT_FAILURE;
}

/* The CA may have asked to be left alone. */
static bool has_to_wait(const struct command *c)
{
	int64_t until = c->state.ca_try, now = wall_now();
	if (until <= now || until >= now + RENEW_MAX_WAIT)
		return false;
	ss_log(c->host, SS_LOG_ERROR, "The CA asked not to be asked again before %s, in %s",
	       time_text(until).s, duration_text(until - now).s);
	return true;
}

/* To its end; the exit status.  Takes over request. */
static int carry_out(struct command *c, json_t *request)
{
	const struct operation_events events = {.log = on_log, .arg = c};
	struct operation_result wrong = {.fail = ACME_LOCAL}, *result = &wrong;
	struct operation *operation = NULL;
	const char *kind = member_text(request, "operation");
	bool issues = kind && strcmp(kind, "issue") == 0;
	if (has_to_wait(c)) {
		key_json_free(request);
		return EX_TEMPFAIL;
	}
	if (operation_start(c->setup, request, c->ca_files, &events, &operation, wrong.why,
			    sizeof wrong.why) == 0)
		result = operation_wait(operation);
	if (result->fail == ACME_OK && issues)
		record_success(c->store, c->setup, result, wall_now());
	int code = result->fail == ACME_OK ? EXIT_SUCCESS : failed(c, issues, result);
	if (code == EXIT_SUCCESS && issues) {
		say(c,
		    "Certificate valid until %s saved to %s; a running semstreams uses it within a second.\n",
		    time_text(result->chain.not_after).s, c->setup->chain_path);
		if (store_warning(c->store))
			ss_log(c->host, SS_LOG_WARN, "%s", store_warning(c->store));
	}
	operation_free(operation);
	return code;
}

static int obtain(struct command *c)
{
	say(c, "Getting a certificate for %s from %s ...\n", c->setup->names_json, c->setup->shown_url);
	return carry_out(c, operation_issue(c->setup, &c->cert));
}

/* ---- verbs ---- */

static void warn_if_broken(const struct command *c)
{
	if (c->broken[0])
		ss_log(c->host, SS_LOG_WARN, "%s", c->broken);
}

/* A failed attempt does not keep an operator from trying again. */
static int issue_or_renew(struct command *c)
{
	bool only_missing = strcmp(c->verb, "issue") == 0;
	warn_if_broken(c);
	struct renew_decision d = decide(c, false);
	bool missing = d.why == RENEW_NO_CERT || d.why == RENEW_EXPIRED || d.why == RENEW_NAMES ||
		       d.why == RENEW_REVOKED;
	if (c->force || (only_missing ? missing : d.now))
		return obtain(c);
	struct time_text until = time_text(c->cert.chain.not_after);
	if (only_missing)
		say(c, "There is a certificate, valid until %s; \"renew --force\" gets another.\n", until.s);
	else
		say(c,
		    "Renewal is due %s, the certificate is valid until %s; \"renew --force\" renews it "
		    "now.\n",
		    time_text(d.due_at).s, until.s);
	return EXIT_SUCCESS;
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

static int revoke_cert(struct command *c)
{
	warn_if_broken(c);
	if (!c->cert.exists) {
		ss_log(c->host, SS_LOG_ERROR, "There is no certificate in %s to revoke", c->setup->path);
		return EXIT_FAILURE;
	}
	int code = carry_out(c, json_pack("{s:s, s:s, s:i}", "operation", "revoke", "chain",
					  c->cert.chain.pem, "reason", reason_code(c->reason)));
	if (code != EXIT_SUCCESS)
		return code;
	say(c, "Certificate %s revoked.\n", c->cert.chain.serial);
	c->state.revoked = true;
	store_state_save(c->store, &c->state);
	return c->keep ? EXIT_SUCCESS : obtain(c);
}

static int change_account(struct command *c)
{
	int code = carry_out(c, json_pack("{s:s}", "operation", c->verb));
	if (code == EXIT_SUCCESS)
		say(c, strcmp(c->verb, "rollover") == 0
			       ? "The ACME account has a new key.\n"
			       : "The ACME account is deactivated; the next order needs a new one.\n");
	return code;
}

static const struct verb {
	const char *name;
	int (*run)(struct command *);
	bool wants_lock;
} verbs[] = {
	{"status", status, false},          {"issue", issue_or_renew, true},
	{"renew", issue_or_renew, true},    {"revoke", revoke_cert, true},
	{"rollover", change_account, true}, {"deactivate", change_account, true},
};

/* ---- the command ---- */

static const struct verb *parse(struct command *c, uint32_t argc, const char *const *argv)
{
	const struct verb *verb = NULL;
	c->verb = argc ? argv[0] : "";
	c->reason = "unspecified";
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verbs[i].name, c->verb) == 0)
			verb = &verbs[i];
	bool revokes = strcmp(c->verb, "revoke") == 0;
	for (uint32_t i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0 && strcmp(c->verb, "status") == 0)
			c->json = true;
		else if (strcmp(argv[i], "--force") == 0 && strcmp(c->verb, "renew") == 0)
			c->force = true;
		else if (strcmp(argv[i], "--yes") == 0 && strcmp(c->verb, "deactivate") == 0)
			c->yes = true;
		else if (strcmp(argv[i], "--keep") == 0 && revokes)
			c->keep = true;
		else if (strcmp(argv[i], "--reason") == 0 && revokes && i + 1 < argc)
			c->reason = argv[++i];
		else if (strncmp(argv[i], "--reason=", 9) == 0 && revokes)
			c->reason = argv[i] + 9;
		else
			return NULL;
	}
	return reason_code(c->reason) >= 0 ? verb : NULL;
}

/* For a verb that does not exist. */
static void suggest(const struct command *c)
{
	const char *names[sizeof verbs / sizeof *verbs];
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		names[i] = verbs[i].name;
		if (strcmp(names[i], c->verb) == 0)
			return;
	}
	const char *nearest = ss_nearest(c->verb, names, sizeof verbs / sizeof *verbs);
	if (nearest)
		ss_log(c->host, SS_LOG_ERROR, "Unknown verb '%.40s', did you mean '%s'?", c->verb, nearest);
	else
		ss_log(c->host, SS_LOG_ERROR, "Unknown verb '%.40s'", c->verb);
}

int32_t commands_run(const struct ss_host *host, const struct setup *setup, const char *const *ca_files,
		     uint32_t argc, const char *const *argv, void (*print)(void *arg, const char *text),
		     void *arg)
{
	struct command c = {.host = host, .setup = setup, .ca_files = ca_files, .print = print, .arg = arg};
	const struct verb *verb = parse(&c, argc, argv);
	char why[512];
	if (!verb) {
		suggest(&c);
		print(arg, usage);
		return EXIT_USAGE;
	}
	if (strcmp(c.verb, "deactivate") == 0 && !c.yes) {
		print(arg, "A deactivated account cannot be restored: say \"deactivate --yes\" if that is "
			   "meant.\n");
		return EXIT_USAGE;
	}
	/* status makes no folder: it might belong to the wrong user */
	bool look_only = !verb->wants_lock && access(setup->path, F_OK) && errno == ENOENT;
	if (!look_only && store_open(setup->path, &c.store, why, sizeof why)) {
		ss_log(host, SS_LOG_ERROR, "%s", why);
		return EXIT_FAILURE;
	}
	int code = verb->wants_lock ? lock(&c) : 0;
	if (code == 0) {
		look(&c);
		code = verb->run(&c);
	}
	stored_cert_done(&c.cert);
	store_state_done(&c.state);
	store_free(c.store);
	return code;
}
