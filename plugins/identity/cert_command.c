/* SPDX-License-Identifier: MIT */
/* cert_command - see cert_command.h. */
#include "cert_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/nearest.h>
#include <semstreams/sugar.h>
#include "names.h"
#include "time_text.h"

#define LOCK_WAIT_NS 200000000 /* between two tries */
#define LOCK_TRIES   150       /* 30 s in all */
#define EXIT_USAGE   2

void cert_command_say(struct cert_command *c, const char *format, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	c->print(c->arg, text);
}

static void look(struct cert_command *c)
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
static struct renew_decision decide(const struct cert_command *c, bool own_wait)
{
	struct renew_facts f = record_facts(c->setup, &c->cert, &c->state);
	if (!own_wait)
		f.next_try = 0;
	return renew_decide(&f, c->now);
}

/* ---- status ---- */

/* When it will be tried: due, or after what it has to wait for. */
static int64_t next_try(const struct cert_command *c)
{
	struct renew_decision d = decide(c, true);
	int64_t wait = d.why != RENEW_NOT_DUE && !d.now ? c->state.next_try : 0;
	if (wait < c->state.ca_try && wait)
		wait = c->state.ca_try;
	return wait > d.due_at ? wait : d.due_at;
}

/* What is wrong with the certificate; NULL: nothing. */
static const char *trouble(const struct cert_command *c)
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

void cert_command_row(struct cert_command *c, const char *what, const char *format, ...)
{
	char raw[1000], clean[1000];
	va_list ap;
	va_start(ap, format);
	vsnprintf(raw, sizeof raw, format, ap);
	va_end(ap);
	name_harmless(raw, strlen(raw), clean, sizeof clean);
	cert_command_say(c, "  %-13s %s\n", what, clean);
}

static void print_certificate(struct cert_command *c, const char *root)
{
	const struct chain_info *chain = &c->cert.chain;
	int64_t left = chain->not_after - c->now;
	cert_command_row(c, "subject", "%s", chain->subject);
	cert_command_row(c, "issuer", "%s, root %s", chain->issuer, chain->root);
	if (root) /* two roots may have one name */
		cert_command_row(c, "root SHA-256", "%s", root);
	cert_command_row(c, "serial", "%s", chain->serial);
	cert_command_row(c, "valid from", "%s", time_text(chain->not_before).s);
	cert_command_row(c, "valid until", "%s (%s%s)", time_text(chain->not_after).s,
			 span_text(left > 0 ? left : -left).s, left > 0 ? " left" : " ago");
}

static void print_text(struct cert_command *c, const char *root)
{
	const char *wrong = trouble(c);
	int64_t next = next_try(c);
	char names[512] = "";
	size_t used = 0;
	for (size_t i = 0; i < c->setup->n_names && used < sizeof names; i++)
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
					 c->setup->names[i]);
	cert_command_row(c, "names", "%s", names);
	cert_command_row(c, "certificate", "%s", wrong ? wrong : "good");
	cert_command_row(c, "file", "%s", c->setup->chain_path);
	if (c->cert.exists)
		print_certificate(c, root);
	if (next > c->now)
		cert_command_row(c, "next renewal", "%s (in %s)", time_text(next).s,
				 span_text(next - c->now).s);
	else
		cert_command_row(c, "next renewal", "due now");
	if (c->state.last_success)
		cert_command_row(c, "obtained", "%s", time_text(c->state.last_success).s);
	cert_command_row(c, "failures", "%" PRIu32 "%s", c->state.failures,
			 c->state.failures ? " in a row" : "");
	if (c->state.last_error)
		cert_command_row(c, "last error", "%s", c->state.last_error);
	cert_command_row(c, c->provider->url_word, "%s", c->setup->shown_url);
	if (c->provider->rows)
		c->provider->rows(c);
}

static json_t *time_json(int64_t at)
{
	return at ? json_string(time_text(at).s) : json_null();
}

static json_t *certificate_json(const struct cert_command *c, const char *root)
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

static void print_json(struct cert_command *c, const char *root_sha256)
{
	const char *wrong = trouble(c);
	char url_key[32];
	snprintf(url_key, sizeof url_key, "%s_url", c->provider->url_word);
	json_t *root =
		json_pack("{s:b, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:I, s:s?}", "good", !wrong, "state",
			  wrong ? wrong : "good", "domains", json_loads(c->setup->names_json, 0, NULL),
			  "file", c->setup->chain_path, url_key, c->setup->shown_url, "certificate",
			  certificate_json(c, root_sha256), "next_renewal", time_json(next_try(c)),
			  "last_success", time_json(c->state.last_success), "failures",
			  (json_int_t)c->state.failures, "last_error", c->state.last_error);
	if (root && c->provider->members)
		c->provider->members(c, root);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	if (text) {
		c->print(c->arg, text);
		c->print(c->arg, "\n");
	}
	free(text);
	json_decref(root);
}

static int status(struct cert_command *c)
{
	char root[CHAIN_FINGERPRINT];
	bool has_root = c->cert.exists && chain_root_fingerprint(c->cert.chain.pem, c->ca_files, root) == 0;
	(c->json ? print_json : print_text)(c, has_root ? root : NULL);
	return trouble(c) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the lock ---- */

/* 0, or the exit status. */
static int lock(struct cert_command *c)
{
	const struct timespec pause = {.tv_nsec = LOCK_WAIT_NS};
	int rc = -EAGAIN;
	for (int i = 0; rc == -EAGAIN && i <= LOCK_TRIES; i++) {
		if (i == 1)
			cert_command_say(c, "Waiting for another process that works with %s ...\n",
					 c->setup->path);
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

/* ---- what an attempt came to ---- */

/* The exit status after a failure, which is logged and remembered. */
static int failed(struct cert_command *c, bool counts, const struct obtain_result *result)
{
	uint32_t failures = 0;
	bool later = !result->permanent &&
		     (result->fail == OBTAIN_UNREACHABLE || result->fail == OBTAIN_RATE_LIMITED ||
		      result->fail == OBTAIN_TIMEOUT || result->retry_after > 0);
	record_failure(c->store, NULL, result, 0, wall_now(), counts ? &failures : NULL);
	if (result->retry_after > 0)
		ss_log(c->host, SS_LOG_ERROR, "%s; the CA asks to wait %s", result->why,
		       duration_text(result->retry_after).s);
	else
		ss_log(c->host, SS_LOG_ERROR, "%s", result->why);
	return later ? EX_TEMPFAIL : EXIT_FAILURE;
}

/* The CA may have asked to be left alone. */
bool cert_command_has_to_wait(const struct cert_command *c)
{
	int64_t until = c->state.ca_try, now = wall_now();
	if (until <= now || until >= now + RENEW_MAX_WAIT)
		return false;
	ss_log(c->host, SS_LOG_ERROR, "The CA asked not to be asked again before %s, in %s",
	       time_text(until).s, duration_text(until - now).s);
	return true;
}

int cert_command_ended(struct cert_command *c, bool issues, struct obtain_result *result)
{
	if (result->fail == OBTAIN_OK && issues)
		record_success(c->store, c->setup, result, wall_now());
	int code = result->fail == OBTAIN_OK ? EXIT_SUCCESS : failed(c, issues, result);
	if (code == EXIT_SUCCESS && issues) {
		cert_command_say(c,
				 "Certificate valid until %s saved to %s; a running semstreams uses it "
				 "within a second.\n",
				 time_text(result->chain.not_after).s, c->setup->chain_path);
		if (store_warning(c->store))
			ss_log(c->host, SS_LOG_WARN, "%s", store_warning(c->store));
	}
	return code;
}

int cert_command_obtain(struct cert_command *c)
{
	cert_command_say(c, "Getting a certificate for %s from %s ...\n", c->setup->names_json,
			 c->setup->shown_url);
	if (store_has_room(c->store)) {
		struct obtain_result wrong = {.fail = OBTAIN_STORAGE};
		snprintf(wrong.why, sizeof wrong.why, "%s", store_why(c->store));
		return cert_command_ended(c, true, &wrong);
	}
	return c->provider->obtain(c);
}

/* ---- verbs ---- */

static void warn_if_broken(const struct cert_command *c)
{
	if (c->broken[0])
		ss_log(c->host, SS_LOG_WARN, "%s", c->broken);
}

/* A failed attempt does not keep an operator from trying again. */
static int issue_or_renew(struct cert_command *c)
{
	bool only_missing = strcmp(c->verb, "issue") == 0;
	warn_if_broken(c);
	struct renew_decision d = decide(c, false);
	bool missing = d.why == RENEW_NO_CERT || d.why == RENEW_EXPIRED || d.why == RENEW_NAMES ||
		       d.why == RENEW_REVOKED;
	if (c->force || (only_missing ? missing : d.now))
		return cert_command_obtain(c);
	struct time_text until = time_text(c->cert.chain.not_after);
	if (only_missing)
		cert_command_say(c,
				 "There is a certificate, valid until %s; \"renew --force\" gets another.\n",
				 until.s);
	else
		cert_command_say(
			c,
			"Renewal is due %s, the certificate is valid until %s; \"renew --force\" renews it "
			"now.\n",
			time_text(d.due_at).s, until.s);
	return EXIT_SUCCESS;
}

static const struct cert_verb common[] = {
	{"status", status, false},
	{"issue", issue_or_renew, true},
	{"renew", issue_or_renew, true},
	{0},
};

/* ---- the command ---- */

static const struct cert_verb *find(const struct cert_verb *verb, const char *name)
{
	while (verb && verb->name && strcmp(verb->name, name) != 0)
		verb++;
	return verb && verb->name ? verb : NULL;
}

/* NULL: wrong usage. */
static const struct cert_verb *parse(struct cert_command *c, uint32_t argc, const char *const *argv)
{
	const struct cert_provider *provider = c->provider;
	c->verb = argc ? argv[0] : "";
	const struct cert_verb *verb = find(common, c->verb);
	if (!verb)
		verb = find(provider->verbs, c->verb);
	for (uint32_t i = 1; verb && i < argc; i++) {
		int taken = provider->option ? provider->option(c, argv + i, argc - i) : 0;
		if (strcmp(argv[i], "--json") == 0 && strcmp(c->verb, "status") == 0)
			c->json = true;
		else if (strcmp(argv[i], "--force") == 0 && strcmp(c->verb, "renew") == 0)
			c->force = true;
		else if (taken > 0)
			i += (uint32_t)taken - 1;
		else
			return NULL;
	}
	return verb;
}

/* For a verb that does not exist. */
static void suggest(const struct cert_command *c)
{
	const char *names[16];
	size_t n = 0;
	for (const struct cert_verb *v = common; v->name; v++)
		names[n++] = v->name;
	for (const struct cert_verb *v = c->provider->verbs; v && v->name && n < sizeof names / sizeof *names;
	     v++)
		names[n++] = v->name;
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], c->verb) == 0)
			return;
	const char *nearest = ss_nearest(c->verb, names, n);
	if (nearest)
		ss_log(c->host, SS_LOG_ERROR, "Unknown verb '%.40s', did you mean '%s'?", c->verb, nearest);
	else
		ss_log(c->host, SS_LOG_ERROR, "Unknown verb '%.40s'", c->verb);
}

int32_t cert_command_run(struct cert_command *c, uint32_t argc, const char *const *argv)
{
	const struct cert_verb *verb = parse(c, argc, argv);
	char why[512];
	if (!verb) {
		suggest(c);
		c->print(c->arg, c->provider->usage);
		return EXIT_USAGE;
	}
	int code = c->provider->refuse ? c->provider->refuse(c) : 0;
	if (code)
		return code;
	/* status makes no folder: it might belong to the wrong user */
	bool look_only = !verb->wants_lock && access(c->setup->path, F_OK) && errno == ENOENT;
	if (!look_only && store_open(c->setup->path, &c->store, why, sizeof why)) {
		ss_log(c->host, SS_LOG_ERROR, "%s", why);
		return EXIT_FAILURE;
	}
	code = verb->wants_lock ? lock(c) : 0;
	if (code == 0) {
		look(c);
		code = verb->run(c);
	}
	stored_cert_done(&c->cert);
	store_state_done(&c->state);
	store_free(c->store);
	return code;
}
