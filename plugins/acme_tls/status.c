/* SPDX-License-Identifier: MIT */
/* status - "semstreams cert status": what the store has and what will become of it.  Nothing is changed. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "commands.h"
#include "names.h"
#include "record.h"
#include "text.h"

struct facts {
	const struct setup *setup;
	int64_t now;
	struct held held;
	char broken[512]; /* why what is in the store cannot be used */
	bool has_account;
	struct store_account account;
	struct store_state state;
	struct renew_decision next;
};

static void gather(struct facts *f, struct store *store, const struct setup *setup)
{
	char why[512];
	*f = (struct facts){.setup = setup, .now = wall_now()};
	if (store) {
		held_load(&f->held, store, setup, f->broken, sizeof f->broken);
		f->has_account = store_account_load(store, &f->account, why, sizeof why) == 0;
		record_load(store, &f->state);
	}
	struct renew_facts facts = record_facts(setup, &f->held, &f->state);
	f->next = renew_decide(&facts, f->now);
}

static void release(struct facts *f)
{
	held_done(&f->held);
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

static bool is_good(const struct facts *f)
{
	return f->held.there && f->now < f->held.chain.not_after && f->now >= f->held.chain.not_before &&
	       f->held.names_match && !f->state.revoked;
}

static const char *verdict(const struct facts *f)
{
	if (f->broken[0])
		return f->broken;
	if (!f->held.there)
		return "there is none yet, nothing has been obtained";
	if (f->now >= f->held.chain.not_after)
		return "expired";
	if (f->now < f->held.chain.not_before)
		return "not valid yet: is this machine's clock right?";
	if (f->state.revoked)
		return "revoked";
	if (!f->held.names_match)
		return "for other names than \"domains\" has";
	return "good";
}

/* ---- for people ---- */

static void row(struct command *c, const char *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void row(struct command *c, const char *what, const char *format, ...)
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
	const struct chain_info *chain = &f->held.chain;
	int64_t left = chain->not_after - f->now;
	row(c, "subject", "%s", chain->subject);
	row(c, "issuer", "%s, root %s", chain->issuer, chain->root);
	row(c, "serial", "%s", chain->serial);
	row(c, "valid from", "%s", text_time(chain->not_before).s);
	row(c, "valid until", "%s (%s%s)", text_time(chain->not_after).s,
	    text_span(left > 0 ? left : -left).s, left > 0 ? " left" : " ago");
}

static void print_rest(struct command *c, const struct facts *f)
{
	int64_t next = next_try(f);
	if (next > f->now)
		row(c, "next renewal", "%s (in %s)", text_time(next).s, text_span(next - f->now).s);
	else
		row(c, "next renewal", "due now");
	if (f->state.last_success)
		row(c, "obtained", "%s", text_time(f->state.last_success).s);
	row(c, "failures", "%" PRIu32 "%s", f->state.failures, f->state.failures ? " in a row" : "");
	if (f->state.last_error)
		row(c, "last error", "%s", f->state.last_error);
	row(c, "directory", "%s", f->setup->conf->directory_url);
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
	for (size_t i = 0; i < f->setup->n_names && used < sizeof names; i++)
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
					 f->setup->names[i]);
	row(c, "names", "%s", names);
	row(c, "certificate", "%s", verdict(f));
	row(c, "file", "%s", f->setup->chain_path);
	if (f->held.there)
		print_certificate(c, f);
	print_rest(c, f);
}

/* ---- for programs ---- */

static json_t *time_json(int64_t at)
{
	return at ? json_string(text_time(at).s) : json_null();
}

static json_t *certificate_json(const struct facts *f)
{
	const struct chain_info *chain = &f->held.chain;
	if (!f->held.there)
		return json_null();
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:b, s:b}", "subject", chain->subject, "issuer",
			 chain->issuer, "root", chain->root, "serial", chain->serial, "not_before",
			 time_json(chain->not_before), "not_after", time_json(chain->not_after),
			 "remaining_seconds", (json_int_t)(chain->not_after - f->now), "names_match",
			 (int)f->held.names_match, "revoked", (int)f->state.revoked);
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
		json_pack("{s:b, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:s?}", "good", (int)is_good(f),
			  "state", verdict(f), "domains", json_loads(f->setup->names_json, 0, NULL), "file",
			  f->setup->chain_path, "directory_url", f->setup->conf->directory_url, "account",
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

int status_print(struct command *c, bool as_json)
{
	struct facts f;
	gather(&f, c->store, &c->t->setup);
	if (as_json)
		print_json(c, &f);
	else
		print_text(c, &f);
	int code = is_good(&f) ? EXIT_SUCCESS : EXIT_FAILURE;
	release(&f);
	return code;
}
