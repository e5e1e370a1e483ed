/* SPDX-License-Identifier: MIT */
/* commands - see commands.h. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <semstreams/sugar.h>
#include "operation.h"
#include "plugins/identity/cert_command.h"
#include "plugins/identity/names.h"

#define EXIT_USAGE 2

/* What is asked for, besides what every provider has. */
struct asked {
	const struct acme_setup *setup;
	const char *reason;
	bool keep, yes;
};

static struct asked *asked(const struct cert_command *c)
{
	return c->owner;
}

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

/* ---- status ---- */

/* NULL: there is none. */
static struct store_account *load_account(struct cert_command *c, struct store_account *out)
{
	return c->store && store_account_load(c->store, out) == 0 ? out : NULL;
}

static void rows(struct cert_command *c)
{
	struct store_account account = {0};
	if (load_account(c, &account))
		cert_command_row(c, "account", "%s (%s)", account.url ? account.url : "not registered",
				 account.email ? account.email : "");
	else
		cert_command_row(c, "account", "none yet");
	store_account_done(&account);
}

static void members(struct cert_command *c, json_t *status)
{
	struct store_account account = {0};
	json_object_set_new(status, "account",
			    load_account(c, &account)
				    ? json_pack("{s:s?, s:s?}", "email", account.email, "url", account.url)
				    : json_null());
	store_account_done(&account);
}

/* ---- operations ---- */

static void on_log(void *arg, int32_t level, const char *text)
{
	const struct cert_command *c = arg;
	c->host->log(c->host, level, text);
}

/* To its end; the exit status.  Takes over request. */
static int carry_out(struct cert_command *c, json_t *request)
{
	const struct operation_events events = {.log = on_log, .arg = c};
	struct obtain_result wrong = {.fail = OBTAIN_LOCAL}, *result = &wrong;
	struct operation *operation = NULL;
	const char *kind = member_text(request, "operation");
	bool issues = kind && strcmp(kind, "issue") == 0;
	if (cert_command_has_to_wait(c)) {
		key_json_free(request);
		return EX_TEMPFAIL;
	}
	if (operation_start(asked(c)->setup, request, c->ca_files, &events, &operation, wrong.why,
			    sizeof wrong.why) == 0)
		result = operation_wait(operation);
	int code = cert_command_ended(c, issues, result);
	operation_free(operation);
	return code;
}

static int obtain(struct cert_command *c)
{
	return carry_out(c, operation_issue(asked(c)->setup, &c->cert));
}

/* ---- verbs ---- */

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

static int revoke_cert(struct cert_command *c)
{
	if (c->broken[0])
		ss_log(c->host, SS_LOG_WARN, "%s", c->broken);
	if (!c->cert.exists) {
		ss_log(c->host, SS_LOG_ERROR, "There is no certificate in %s to revoke", c->setup->path);
		return EXIT_FAILURE;
	}
	int code = carry_out(c, json_pack("{s:s, s:s, s:i}", "operation", "revoke", "chain",
					  c->cert.chain.pem, "reason", reason_code(asked(c)->reason)));
	if (code != EXIT_SUCCESS)
		return code;
	cert_command_say(c, "Certificate %s revoked.\n", c->cert.chain.serial);
	c->state.revoked = true;
	store_state_save(c->store, &c->state);
	return asked(c)->keep ? EXIT_SUCCESS : cert_command_obtain(c);
}

static int change_account(struct cert_command *c)
{
	int code = carry_out(c, json_pack("{s:s}", "operation", c->verb));
	if (code == EXIT_SUCCESS)
		cert_command_say(
			c, strcmp(c->verb, "rollover") == 0
				   ? "The ACME account has a new key.\n"
				   : "The ACME account is deactivated; the next order needs a new one.\n");
	return code;
}

static const struct cert_verb verbs[] = {
	{"revoke", revoke_cert, true},
	{"rollover", change_account, true},
	{"deactivate", change_account, true},
	{0},
};

/* ---- the command ---- */

static int option(struct cert_command *c, const char *const *argv, uint32_t left)
{
	struct asked *a = asked(c);
	bool revokes = strcmp(c->verb, "revoke") == 0;
	if (strcmp(argv[0], "--yes") == 0 && strcmp(c->verb, "deactivate") == 0)
		a->yes = true;
	else if (strcmp(argv[0], "--keep") == 0 && revokes)
		a->keep = true;
	else if (strncmp(argv[0], "--reason=", 9) == 0 && revokes)
		a->reason = argv[0] + 9;
	else if (strcmp(argv[0], "--reason") == 0 && revokes && left > 1) {
		a->reason = argv[1];
		return 2;
	} else
		return 0;
	return 1;
}

static int refuse(struct cert_command *c)
{
	const char *said = usage;
	if (reason_code(asked(c)->reason) >= 0) {
		if (strcmp(c->verb, "deactivate") != 0 || asked(c)->yes)
			return 0;
		said = "A deactivated account cannot be restored: say \"deactivate --yes\" if that is "
		       "meant.\n";
	}
	c->print(c->arg, said);
	return EXIT_USAGE;
}

static const struct cert_provider provider = {
	.usage = usage,
	.url_word = "directory",
	.verbs = verbs,
	.option = option,
	.refuse = refuse,
	.obtain = obtain,
	.rows = rows,
	.members = members,
};

int32_t commands_run(const struct ss_host *host, const struct acme_setup *setup, const char *const *ca_files,
		     uint32_t argc, const char *const *argv, void (*print)(void *arg, const char *text),
		     void *arg)
{
	struct asked a = {.setup = setup, .reason = "unspecified"};
	struct cert_command c = {.host = host,
				 .setup = &setup->common,
				 .provider = &provider,
				 .owner = &a,
				 .ca_files = ca_files,
				 .print = print,
				 .arg = arg};
	return cert_command_run(&c, argc, argv);
}
