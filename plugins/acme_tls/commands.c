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
#include "renewal_state.h"
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
	int port;            /* port_lock(), negative: not held */
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

static int load_cert(const struct command *c, struct stored_cert *cert)
{
	return stored_cert_load(c->store, (const char *const *)c->setup->names, c->setup->n_names, cert);
}

/* ---- status ---- */

struct facts {
	int64_t now;
	struct stored_cert cert;
	char broken[512]; /* why the stored certificate cannot be used */
	bool has_account;
	struct store_account account;
	struct store_state state;
	struct renew_decision next;
	char root[CHAIN_FINGERPRINT]; /* "": not known */
};

static void gather(const struct command *c, struct facts *f)
{
	*f = (struct facts){.now = wall_now()};
	if (c->store) {
		int rc = load_cert(c, &f->cert);
		if (rc && rc != -ENOENT)
			snprintf(f->broken, sizeof f->broken, "%s", store_why(c->store));
		f->has_account = store_account_load(c->store, &f->account) == 0;
		store_state_load(c->store, &f->state);
	}
	if (f->cert.exists && chain_root_fingerprint(f->cert.chain.pem, c->ca_files, f->root))
		f->root[0] = '\0';
	struct renew_facts facts = record_facts(c->setup, &f->cert, &f->state);
	f->next = renew_decide(&facts, f->now);
}

static void release(struct facts *f)
{
	stored_cert_done(&f->cert);
	if (f->has_account)
		store_account_done(&f->account);
	store_state_done(&f->state);
}

/* When it will be tried: due, or after what it has to wait for. */
static int64_t next_try(const struct facts *f)
{
	int64_t wait = f->next.why != RENEW_NOT_DUE && !f->next.now ? f->state.next_try : 0;
	if (wait < f->state.ca_try && wait)
		wait = f->state.ca_try;
	return wait > f->next.due_at ? wait : f->next.due_at;
}

/* Less than a tenth of its lifetime is left: renewal must have failed. */
static bool expires_soon(const struct facts *f)
{
	const struct chain_info *chain = &f->cert.chain;
	return chain->not_after - f->now < (chain->not_after - chain->not_before) / 10;
}

/* What is wrong with the certificate; NULL: nothing. */
static const char *trouble(const struct facts *f)
{
	if (f->broken[0])
		return f->broken;
	if (!f->cert.exists)
		return "there is none yet; nothing has been obtained";
	if (f->now >= f->cert.chain.not_after)
		return "expired";
	if (f->now < f->cert.chain.not_before)
		return "not valid yet; is this machine's clock right?";
	if (f->state.revoked)
		return "revoked";
	if (!f->cert.names_match)
		return "not for the names in \"domains\"";
	if (expires_soon(f))
		return "expires soon: less than a tenth of its lifetime is left";
	return NULL;
}

static const char *verdict(const struct facts *f)
{
	const char *what = trouble(f);
	return what ? what : "good";
}

__attribute__((format(printf, 3, 4))) static void row(struct command *c, const char *what, const char *format,
						      ...)
{
	char raw[1024], clean[1024], line[1152];
	va_list ap;
	va_start(ap, format);
	vsnprintf(raw, sizeof raw, format, ap);
	va_end(ap);
	name_harmless(raw, strlen(raw), clean, sizeof clean);
	snprintf(line, sizeof line, "  %-13s %s\n", what, clean);
	c->print(c->arg, line);
}

static void print_certificate(struct command *c, const struct facts *f)
{
	const struct chain_info *chain = &f->cert.chain;
	int64_t left = chain->not_after - f->now;
	row(c, "subject", "%s", chain->subject);
	row(c, "issuer", "%s, root %s", chain->issuer, chain->root);
	if (f->root[0]) /* two roots may have one name */
		row(c, "root SHA-256", "%s", f->root);
	row(c, "serial", "%s", chain->serial);
	row(c, "valid from", "%s", time_text(chain->not_before).s);
	row(c, "valid until", "%s (%s%s)", time_text(chain->not_after).s,
	    span_text(left > 0 ? left : -left).s, left > 0 ? " left" : " ago");
}

static void print_rest(struct command *c, const struct facts *f)
{
	int64_t next = next_try(f);
	if (next > f->now)
		row(c, "next renewal", "%s (in %s)", time_text(next).s, span_text(next - f->now).s);
	else
		row(c, "next renewal", "due now");
	if (f->state.last_success)
		row(c, "obtained", "%s", time_text(f->state.last_success).s);
	row(c, "failures", "%" PRIu32 "%s", f->state.failures, f->state.failures ? " in a row" : "");
	if (f->state.last_error)
		row(c, "last error", "%s", f->state.last_error);
	row(c, "directory", "%s", c->setup->conf->directory_url);
	if (f->has_account)
		row(c, "account", "%s (%s)", f->account.url ? f->account.url : "not registered",
		    f->account.email ? f->account.email : "");
	else
		row(c, "account", "none yet");
}

static void print_text(struct command *c, const struct facts *f)
{
	char names[512] = "";
	size_t used = 0;
	for (size_t i = 0; i < c->setup->n_names && used < sizeof names; i++)
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
					 c->setup->names[i]);
	row(c, "names", "%s", names);
	row(c, "certificate", "%s", verdict(f));
	row(c, "file", "%s", c->setup->chain_path);
	if (f->cert.exists)
		print_certificate(c, f);
	print_rest(c, f);
}

static json_t *time_json(int64_t at)
{
	return at ? json_string(time_text(at).s) : json_null();
}

static json_t *certificate_json(const struct facts *f)
{
	const struct chain_info *chain = &f->cert.chain;
	if (!f->cert.exists)
		return json_null();
	return json_pack("{s:s, s:s, s:s, s:s*, s:s, s:o, s:o, s:I, s:b, s:b}", "subject", chain->subject,
			 "issuer", chain->issuer, "root", chain->root, "root_sha256",
			 f->root[0] ? f->root : NULL, "serial", chain->serial, "not_before",
			 time_json(chain->not_before), "not_after", time_json(chain->not_after),
			 "remaining_seconds", (json_int_t)(chain->not_after - f->now), "names_match",
			 (int)f->cert.names_match, "revoked", (int)f->state.revoked);
}

static json_t *account_json(const struct facts *f)
{
	if (!f->has_account)
		return json_null();
	return json_pack("{s:s?, s:s?}", "email", f->account.email, "url", f->account.url);
}

static void print_json(struct command *c, const struct facts *f)
{
	json_t *root =
		json_pack("{s:b, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:s?}", "good", !trouble(f),
			  "state", verdict(f), "domains", json_loads(c->setup->names_json, 0, NULL), "file",
			  c->setup->chain_path, "directory_url", c->setup->conf->directory_url, "account",
			  account_json(f), "certificate", certificate_json(f), "next_renewal",
			  time_json(next_try(f)), "last_success", time_json(f->state.last_success),
			  "failures", (json_int_t)f->state.failures, "last_error", f->state.last_error);
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
	struct facts f;
	gather(c, &f);
	if (c->json)
		print_json(c, &f);
	else
		print_text(c, &f);
	int code = !trouble(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
	release(&f);
	return code;
}

/* ---- the lock ---- */

/* The store, and for those who answer challenges the port. */
static int try_lock(struct command *c, bool wants_port)
{
	int rc = store_lock(c->store);
	if (rc || !wants_port)
		return rc;
	c->port = port_lock(c->setup->conf->challenge_address, c->setup->challenge_port);
	return c->port == -EAGAIN ? -EAGAIN : 0;
}

/* 0, or the exit status. */
static int lock(struct command *c, bool wants_port)
{
	const struct timespec pause = {.tv_nsec = LOCK_WAIT_NS};
	int rc = try_lock(c, wants_port);
	if (rc == -EAGAIN)
		say(c, "Waiting for another process that works with %s ...\n", c->setup->path);
	for (int i = 0; rc == -EAGAIN && i < LOCK_TRIES; i++) {
		rc = try_lock(c, wants_port);
		if (rc == -EAGAIN)
			nanosleep(&pause, NULL);
	}
	/* only the store has to be locked: whether the port is free, the operation will find out */
	if (rc == 0 || store_lock(c->store) == 0)
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
static int failed(struct command *c, enum operation_kind kind, const struct operation_result *result)
{
	bool later = !result->permanent &&
		     (result->fail == ACME_UNREACHABLE || result->fail == ACME_RATE_LIMITED ||
		      result->fail == ACME_TIMEOUT || result->retry_after > 0);
	record_command_failure(c->store, result, kind == OPERATION_ISSUE, wall_now());
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
	struct store_state state;
	store_state_load(c->store, &state);
	int64_t until = state.ca_try, now = wall_now();
	store_state_done(&state);
	if (until <= now || until >= now + RENEW_MAX_WAIT)
		return false;
	ss_log(c->host, SS_LOG_ERROR, "The CA asked not to be asked again before %s, in %s",
	       time_text(until).s, duration_text(until - now).s);
	return true;
}

/* To its end; the exit status. */
static int carry_out(struct command *c, struct operation_request *request)
{
	const struct operation_events events = {.log = on_log, .arg = c};
	struct operation_result wrong = {.fail = ACME_LOCAL};
	struct operation *operation;
	if (has_to_wait(c))
		return EX_TEMPFAIL;
	request->ca_files = c->ca_files;
	if (operation_start(c->setup, request, &events, &operation, wrong.why, sizeof wrong.why))
		return failed(c, request->kind, &wrong);
	const struct operation_result *result = operation_wait(operation);
	if (result->fail == ACME_OK && request->kind == OPERATION_ISSUE) {
		int rc = record_success(c->store, c->setup, result, wall_now(), wrong.why, sizeof wrong.why);
		if (rc == 0)
			say(c,
			    "Certificate valid until %s saved to %s; a running semstreams uses it within a "
			    "second.\n",
			    time_text(result->chain.not_after).s, c->setup->chain_path);
		else
			result = &wrong;
		if (rc == 0 && store_warning(c->store))
			ss_log(c->host, SS_LOG_WARN, "%s", store_warning(c->store));
	}
	int code = result->fail == ACME_OK ? EXIT_SUCCESS : failed(c, request->kind, result);
	operation_free(operation);
	return code;
}

static int obtain(struct command *c, const struct stored_cert *cert)
{
	struct operation_request request = {.kind = OPERATION_ISSUE, .old_key_pem = cert->key_pem};
	if (cert->chain.ari_id[0])
		request.old_ari_id = cert->chain.ari_id;
	say(c, "Getting a certificate for %s from %s ...\n", c->setup->names_json,
	    c->setup->conf->directory_url);
	return carry_out(c, &request);
}

/* ---- verbs ---- */

static void load_cert_or_warn(struct command *c, struct stored_cert *cert)
{
	int rc = load_cert(c, cert);
	if (rc && rc != -ENOENT)
		ss_log(c->host, SS_LOG_WARN, "%s", store_why(c->store));
}

/* A failed attempt does not keep an operator from trying again. */
static struct renew_decision decide(struct command *c, const struct stored_cert *cert)
{
	struct store_state state;
	store_state_load(c->store, &state);
	struct renew_facts f = record_facts(c->setup, cert, &state);
	f.next_try = 0;
	store_state_done(&state);
	return renew_decide(&f, wall_now());
}

static int issue_or_renew(struct command *c)
{
	struct stored_cert cert;
	bool only_missing = strcmp(c->verb, "issue") == 0;
	load_cert_or_warn(c, &cert);
	struct renew_decision d = decide(c, &cert);
	bool missing = d.why == RENEW_NO_CERT || d.why == RENEW_EXPIRED || d.why == RENEW_NAMES ||
		       d.why == RENEW_REVOKED;
	int code = EXIT_SUCCESS;
	if (c->force || (only_missing ? missing : d.now))
		code = obtain(c, &cert);
	else if (only_missing)
		say(c, "There is a certificate, valid until %s; \"renew --force\" gets another.\n",
		    time_text(cert.chain.not_after).s);
	else
		say(c,
		    "Renewal is due %s, the certificate is valid until %s; \"renew --force\" renews it "
		    "now.\n",
		    time_text(d.due_at).s, time_text(cert.chain.not_after).s);
	stored_cert_done(&cert);
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

static int revoke_cert(struct command *c)
{
	struct stored_cert cert;
	int code = EXIT_FAILURE;
	load_cert_or_warn(c, &cert);
	struct operation_request request = {
		.kind = OPERATION_REVOKE, .chain_pem = cert.chain.pem, .reason = reason_code(c->reason)};
	if (!cert.exists)
		ss_log(c->host, SS_LOG_ERROR, "There is no certificate in %s to revoke", c->setup->path);
	else
		code = carry_out(c, &request);
	if (code == EXIT_SUCCESS) {
		say(c, "Certificate %s revoked.\n", cert.chain.serial);
		record_revoked(c->store);
		code = c->keep ? EXIT_SUCCESS : obtain(c, &cert);
	}
	stored_cert_done(&cert);
	return code;
}

static int rollover(struct command *c)
{
	int code = carry_out(c, &(struct operation_request){.kind = OPERATION_ROLLOVER});
	if (code == EXIT_SUCCESS)
		say(c, "The ACME account has a new key.\n");
	return code;
}

static int deactivate(struct command *c)
{
	int code = carry_out(c, &(struct operation_request){.kind = OPERATION_DEACTIVATE});
	if (code == EXIT_SUCCESS)
		say(c, "The ACME account is deactivated; the next order needs a new one.\n");
	return code;
}

static const struct verb {
	const char *name;
	int (*run)(struct command *);
	bool wants_lock, wants_port;
} verbs[] = {
	{"status", status, false, false},      {"issue", issue_or_renew, true, true},
	{"renew", issue_or_renew, true, true}, {"revoke", revoke_cert, true, true},
	{"rollover", rollover, true, false},   {"deactivate", deactivate, true, false},
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
	struct command c = {
		.host = host, .setup = setup, .ca_files = ca_files, .print = print, .arg = arg, .port = -1};
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
	int code = verb->wants_lock ? lock(&c, verb->wants_port) : 0;
	if (code == 0)
		code = verb->run(&c);
	if (c.port >= 0)
		close(c.port);
	store_free(c.store);
	return code;
}
