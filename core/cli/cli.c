/* SPDX-License-Identifier: MIT */
/* cli - see cli.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/plugin.h>
#include "core/cli/cli.h"
#include "core/config/diag.h"
#include "core/admin/log.h"
#include <semstreams/base/nearest.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/tls.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define FOR(x)   (1u << (x))
#define ALL      (~0u)
#define FOR_HOST (FOR(CLI_STATUS) | FOR(CLI_TOP) | FOR(CLI_RELOAD) | FOR(CLI_CONFIG_SHOW) | FOR(CLI_TAP))
#define FOR_CONFIG                                                                                           \
	(FOR(CLI_RUN) | FOR(CLI_CHECK) | FOR(CLI_GRAPH) | FOR(CLI_CERT) | FOR(CLI_DOCTOR) | FOR_HOST)
#define FOR_LOG   (FOR(CLI_RUN) | FOR(CLI_CHECK) | FOR(CLI_CERT))
#define FOR_TYPES (FOR(CLI_PLUGINS_LIST) | FOR(CLI_PLUGINS_DESCRIBE) | FOR(CLI_SCHEMA))

#define DEFAULT_SHUTDOWN_NS UINT64_C(30000000000)
#define DEFAULT_TIMEOUT_NS  UINT64_C(10000000000)
#define INTERVAL_LEAST      INT64_C(100000000)
#define INTERVAL_MOST       INT64_C(3600000000000)

enum option_id {
	OPT_CONFIG,
	OPT_PLUGINS,
	OPT_LOG_LEVEL,
	OPT_LOG_FORMAT,
	OPT_SHUTDOWN_TIMEOUT,
	OPT_WATCH_CONFIG,
	OPT_VALIDATE,
	OPT_FORMAT,
	OPT_JSON,
	OPT_MARKDOWN,
	OPT_ROLE,
	OPT_ADMIN,
	OPT_ONCE,
	OPT_INTERVAL,
	OPT_CONNECT,
	OPT_TIMEOUT,
	OPT_EFFECTIVE,
	OPT_RUNNING,
	OPT_LIMIT,
	OPT_WHERE,
	OPT_REDACT,
	OPT_KIND,
	OPT_LANG,
	OPT_DIR,
	OPT_TEMPLATE,
	OPT_HELP,
	OPT_VERSION,
};

#define TEXT_OF_CONFIG "configuration file [" CLI_DEFAULT_CONFIG "]"

static const struct option {
	const char *name; /* with its dashes */
	char letter;
	const char *value; /* what its value is called; NULL: it has none */
	unsigned commands;
	const char *help;
} options[] = {
	[OPT_CONFIG] = {"--config", 'c', "FILE", FOR_CONFIG | FOR_TYPES, TEXT_OF_CONFIG},
	[OPT_PLUGINS] = {"--plugins", 0, "DIR", FOR_CONFIG | FOR_TYPES | FOR(CLI_PLUGINS_NEW),
			 "search DIR for plugins first; may be repeated"},
	[OPT_LOG_LEVEL] = {"--log-level", 0, "LEVEL", FOR_LOG,
			   "error, warn, info or debug; overrides the configuration"},
	[OPT_LOG_FORMAT] = {"--log-format", 0, "FORMAT", FOR_LOG,
			    "logfmt or json; overrides the configuration"},
	[OPT_SHUTDOWN_TIMEOUT] = {"--shutdown-timeout", 0, "DURATION", FOR(CLI_RUN),
				  "how long to wait for queued events at the end [30s]"},
	[OPT_WATCH_CONFIG] = {"--watch-config", 0, NULL, FOR(CLI_RUN),
			      "take over the configuration whenever its file has changed"},
	[OPT_VALIDATE] = {"--validate", 0, NULL, FOR(CLI_RUN),
			  "only check the configuration, like 'semstreams check'"},
	[OPT_FORMAT] = {"--format", 0, "FORMAT", FOR(CLI_GRAPH), "text, dot (Graphviz) or mermaid [text]"},
	[OPT_JSON] = {"--json", 0, NULL,
		      FOR(CLI_PLUGINS_LIST) | FOR(CLI_PLUGINS_DESCRIBE) | FOR(CLI_STATUS) | FOR(CLI_TOP) |
			      FOR(CLI_RELOAD) | FOR(CLI_TAP) | FOR(CLI_DOCTOR),
		      "print a JSON document; durations are in ns"},
	[OPT_MARKDOWN] = {"--markdown", 0, NULL, FOR(CLI_PLUGINS_DESCRIBE),
			  "print the tables of options, metrics and drop reasons for a page"},
	[OPT_ROLE] = {"--role", 0, "ROLE", FOR(CLI_CERT),
		      "server or client, if each has a certificate of its own"},
	[OPT_ADMIN] = {"--admin", 0, "ADDRESS", FOR_HOST,
		       "ask the host at /socket or host:port, not where the configuration says"},
	[OPT_ONCE] = {"--once", 0, NULL, FOR(CLI_TOP), "print once and exit"},
	[OPT_INTERVAL] = {"--interval", 0, "DURATION", FOR(CLI_TOP), "time that rates are taken over [1s]"},
	[OPT_CONNECT] = {"--connect", 0, NULL, FOR(CLI_CHECK),
			 "also connect to peers and CAs; nothing is taken from them"},
	[OPT_TIMEOUT] = {"--timeout", 0, "DURATION", FOR(CLI_CHECK) | FOR(CLI_DOCTOR),
			 "how long all examinations may take together [10s]"},
	[OPT_EFFECTIVE] = {"--effective", 0, NULL, FOR(CLI_CONFIG_SHOW), "with every default filled in"},
	[OPT_RUNNING] = {"--running", 0, NULL, FOR(CLI_CONFIG_SHOW),
			 "what the running host has, not the file"},
	[OPT_LIMIT] = {"--limit", 0, "N", FOR(CLI_TAP), "end after N events [no limit]"},
	[OPT_WHERE] = {"--where", 0, "CONDITION", FOR(CLI_TAP),
		       "show events that meet a condition, written as the filter's \"where\""},
	[OPT_REDACT] = {"--redact", 0, "FIELD", FOR(CLI_TAP),
			"hide a member or an attribute; may be repeated"},
	[OPT_KIND] = {"--kind", 0, "KIND", FOR(CLI_PLUGINS_NEW), "source, processor, sink or tls"},
	[OPT_LANG] = {"--lang", 0, "LANGUAGE", FOR(CLI_PLUGINS_NEW), "c, c++ or rust [c]"},
	[OPT_DIR] = {"--dir", 0, "DIR", FOR(CLI_PLUGINS_NEW), "make the folder in DIR [.]"},
	[OPT_TEMPLATE] = {"--template", 0, "DIR", FOR(CLI_PLUGINS_NEW),
			  "use the templates in DIR, not those of the SDK"},
	[OPT_HELP] = {"--help", 'h', NULL, ALL, "print this help"},
	[OPT_VERSION] = {"--version", 'V', NULL, ALL, "print version, plugin ABI, plugin folder and build"},
};

static const char *const command_names[] = {
	[CLI_RUN] = "run",
	[CLI_CHECK] = "check",
	[CLI_GRAPH] = "graph",
	[CLI_PLUGINS_LIST] = "plugins list",
	[CLI_PLUGINS_DESCRIBE] = "plugins describe",
	[CLI_PLUGINS_NEW] = "plugins new",
	[CLI_SCHEMA] = "schema",
	[CLI_CERT] = "cert",
	[CLI_STATUS] = "status",
	[CLI_TOP] = "top",
	[CLI_RELOAD] = "reload",
	[CLI_DOCTOR] = "doctor",
	[CLI_CONFIG_SHOW] = "config show",
	[CLI_TAP] = "tap",
	[CLI_HELP] = "help",
};

struct parser {
	struct cli_options *out;
	FILE *err;
	unsigned seen; /* FOR(option id) */
	bool help, version;
	char **words; /* what is no option, in place in argv */
	size_t n_words;
};

__attribute__((format(printf, 2, 3))) static int usage(const struct parser *p, const char *fmt, ...)
{
	va_list ap;
	fputs("semstreams: ", p->err);
	va_start(ap, fmt);
	vfprintf(p->err, fmt, ap);
	va_end(ap);
	fputs("; see semstreams --help\n", p->err);
	return EXIT_USAGE;
}

static int unknown(const struct parser *p, const char *what, const char *word, const char *const *known,
		   size_t n)
{
	const char *nearest = ss_nearest(word, known, n);

	if (nearest)
		return usage(p, "unknown %s '%s' (did you mean '%s'?)", what, word, nearest);
	return usage(p, "unknown %s '%s'", what, word);
}

/* ---- options --------------------------------------------------------------------------------------------
 */

/* Behind "cert VERB" options that are not ours are the provider's. */
static bool is_foreign(const struct parser *p, size_t i)
{
	return p->n_words > 1 && strcmp(p->words[0], command_names[CLI_CERT]) == 0 &&
	       (i == N(options) || !(options[i].commands & FOR(CLI_CERT)));
}

static int unknown_option(const struct parser *p, const char *word)
{
	const char *names[N(options)];
	char name[64];

	for (size_t i = 0; i < N(options); i++)
		names[i] = options[i].name;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
	return unknown(p, "option", name, names, N(options));
}

static int set_number(const struct parser *p, enum option_id id, const char *value)
{
	static const char *const formats[] = {"logfmt", "json"};
	static const char *const roles[] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};
	struct cli_options *o = p->out;
	int64_t ns;
	int n;

	switch (id) {
	case OPT_LOG_LEVEL:
		o->log_level = log_level_parse(value);
		if (o->log_level < 0)
			return usage(p, "--log-level is error, warn, info or debug, not '%s'", value);
		return 0;
	case OPT_LOG_FORMAT:
		for (n = 0; n < 2 && strcmp(value, formats[n]) != 0; n++)
			;
		if (n == 2)
			return usage(p, "--log-format is logfmt or json, not '%s'", value);
		o->log_json = n;
		return 0;
	case OPT_ROLE:
		for (n = 0; n < 2 && strcmp(value, roles[n]) != 0; n++)
			;
		if (n == 2)
			return usage(p, "--role is server or client, not '%s'", value);
		o->role = n;
		return 0;
	case OPT_INTERVAL:
		if (ss_parse_duration(value, &ns) < 0 || ns < INTERVAL_LEAST || ns > INTERVAL_MOST)
			return usage(p, "--interval is a duration from 100ms to 1h, not '%s'", value);
		o->interval_ns = ns;
		return 0;
	case OPT_LIMIT:
		if (ss_parse_integer(value, &o->limit) < 0 || o->limit < 1)
			return usage(p, "--limit is a number of events, from 1, not '%s'", value);
		return 0;
	case OPT_TIMEOUT:
		if (ss_parse_duration(value, &ns) < 0 || ns < INTERVAL_LEAST || ns > INTERVAL_MOST)
			return usage(p, "--timeout is a duration from 100ms to 1h, not '%s'", value);
		o->timeout_ns = (uint64_t)ns;
		return 0;
	case OPT_SHUTDOWN_TIMEOUT:
		if (ss_parse_duration(value, &ns) < 0)
			return usage(p, "--shutdown-timeout is a duration " SS_DURATION_FORM ", not '%s'",
				     value);
		o->shutdown_timeout_ns = (uint64_t)ns;
		return 0;
	default:
		n = graph_format_parse(value);
		if (n < 0)
			return usage(p, "--format is text, dot or mermaid, not '%s'", value);
		o->format = (enum graph_format)n;
		return 0;
	}
}

/* One word of a list. */
static int set_choice(const struct parser *p, enum option_id id, const char *value, const char *const *list,
		      size_t n, const char **out)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], value) == 0) {
			*out = list[i];
			return 0;
		}
	return unknown(p, options[id].name + 2, value, list, n);
}

/* What "plugins new" makes. */
static int set_package(const struct parser *p, enum option_id id, const char *value)
{
	static const char *const kinds[] = {"source", "processor", "sink", "tls"};
	static const char *const langs[] = {"c", "c++", "rust"};
	struct cli_options *o = p->out;

	if (id == OPT_KIND)
		return set_choice(p, id, value, kinds, N(kinds), &o->kind);
	if (id == OPT_LANG)
		return set_choice(p, id, value, langs, N(langs), &o->lang);
	if (id == OPT_DIR)
		o->dir = value;
	else
		o->template = value;
	return 0;
}

static int set_option(struct parser *p, enum option_id id, const char *value)
{
	struct cli_options *o = p->out;

	p->seen |= FOR(id);
	if (value && *value == '\0')
		return usage(p, "%s needs a %s, not an empty text", options[id].name, options[id].value);
	if (options[id].commands == FOR(CLI_PLUGINS_NEW))
		return set_package(p, id, value);
	switch (id) {
	case OPT_CONFIG:
		o->config = value;
		return 0;
	case OPT_PLUGINS:
		o->folders[o->n_folders++] = value;
		return 0;
	case OPT_WATCH_CONFIG:
		o->watch_config = true;
		return 0;
	case OPT_VALIDATE:
		o->validate = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_MARKDOWN:
		o->markdown = true;
		return 0;
	case OPT_ADMIN:
		o->admin = value;
		return 0;
	case OPT_ONCE:
		o->once = true;
		return 0;
	case OPT_CONNECT:
		o->connect = true;
		return 0;
	case OPT_EFFECTIVE:
		o->effective = true;
		return 0;
	case OPT_RUNNING:
		o->running = true;
		return 0;
	case OPT_WHERE:
		o->where = value;
		return 0;
	case OPT_REDACT:
		o->redact[o->n_redact++] = value;
		return 0;
	case OPT_HELP:
		p->help = true;
		return 0;
	case OPT_VERSION:
		p->version = true;
		return 0;
	default:
		return set_number(p, id, value);
	}
}

/* An option in argv[0], its value there behind '=' or in argv[1]; *used = how many of argv it took. */
static int long_option(struct parser *p, char **argv, int *used)
{
	const char *word = argv[0], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word), i = 0;

	while (i < N(options) && (strlen(options[i].name) != len || memcmp(options[i].name, word, len) != 0))
		i++;
	*used = 1;
	if (is_foreign(p, i)) {
		p->words[p->n_words++] = argv[0];
		return 0;
	}
	if (i == N(options))
		return unknown_option(p, word);
	if (!options[i].value) {
		if (equals)
			return usage(p, "%s takes no value", options[i].name);
		return set_option(p, (enum option_id)i, NULL);
	}
	if (equals)
		return set_option(p, (enum option_id)i, equals + 1);
	if (!argv[1])
		return usage(p, "%s needs a %s", options[i].name, options[i].value);
	*used = 2;
	return set_option(p, (enum option_id)i, argv[1]);
}

/* The same for "-c FILE", "-cFILE" and "-h". */
static int short_option(struct parser *p, char **argv, int *used)
{
	const char *word = argv[0];
	size_t i = 0;

	while (i < N(options) && options[i].letter != word[1])
		i++;
	*used = 1;
	if (is_foreign(p, i)) {
		p->words[p->n_words++] = argv[0];
		return 0;
	}
	if (i == N(options) || (!options[i].value && word[2]))
		return unknown_option(p, word);
	if (!options[i].value)
		return set_option(p, (enum option_id)i, NULL);
	if (word[2])
		return set_option(p, (enum option_id)i, word + 2);
	if (!argv[1])
		return usage(p, "-%c needs a %s", word[1], options[i].value);
	*used = 2;
	return set_option(p, (enum option_id)i, argv[1]);
}

static int parse_words(struct parser *p, char **argv)
{
	bool only_words = false;

	while (*argv) {
		int used = 1, rc = 0;
		if (only_words || argv[0][0] != '-' || argv[0][1] == '\0')
			p->words[p->n_words++] = argv[0];
		else if (strcmp(argv[0], "--") == 0)
			only_words = true;
		else if (argv[0][1] == '-')
			rc = long_option(p, argv, &used);
		else
			rc = short_option(p, argv, &used);
		if (rc)
			return rc;
		argv += used;
	}
	return 0;
}

/* ---- commands -------------------------------------------------------------------------------------------
 */

/* Commands of two words, in the order of the enum where several begin alike. */
static const struct pair {
	const char *first, *needs;
	const char *second[5]; /* one that has no command is a program beside this one */
	enum cli_command commands[3];
	size_t n_commands;
} pairs[] = {
	{"plugins",
	 "'list', 'describe TYPE', 'new NAME' or 'check FILE.so'",
	 {"list", "describe", "new", "check"},
	 {CLI_PLUGINS_LIST, CLI_PLUGINS_DESCRIBE, CLI_PLUGINS_NEW},
	 3},
	{"config", "'show'", {"show"}, {CLI_CONFIG_SHOW}, 1},
};

/* First the programs beside this one, of which main.c takes the name where nothing stands before it. */
enum { BESIDE = 4 };
static const char *const first_words[] = {"spool", "replay",  "pki",    "test", "run",   "check",
					  "graph", "plugins", "schema", "cert", "help",  "status",
					  "top",   "config",  "reload", "tap",  "doctor"};

bool cli_is_beside(const char *word)
{
	size_t i = 0;

	while (i < BESIDE && strcmp(word, first_words[i]) != 0)
		i++;
	return i < BESIDE;
}

static int not_first(const struct parser *p, const char *command)
{
	return usage(p, "options of '%s' stand behind it", command);
}

static int take_second(struct parser *p, const struct pair *pair, enum cli_command *command, size_t *used)
{
	size_t n = 0, k = 0;

	while (pair->second[n])
		n++;
	*command = pair->commands[0];
	if (p->n_words < 2)
		return p->help ? 0 : usage(p, "%s needs %s", pair->first, pair->needs);
	while (k < n && strcmp(p->words[1], pair->second[k]) != 0)
		k++;
	if (k == n)
		return unknown(p, "command", p->words[1], pair->second, n);
	if (k >= pair->n_commands)
		return not_first(p, p->words[1]);
	*command = pair->commands[k];
	*used = 2;
	return 0;
}

/* Take the command's name from the words. */
static int take_command(struct parser *p, enum cli_command *command)
{
	static const enum cli_command of_first[] = {
		CLI_RUN,    CLI_CHECK, CLI_GRAPH,       CLI_PLUGINS_LIST, CLI_SCHEMA, CLI_CERT,  CLI_HELP,
		CLI_STATUS, CLI_TOP,   CLI_CONFIG_SHOW, CLI_RELOAD,       CLI_TAP,    CLI_DOCTOR};
	size_t i = 0, used = 1;
	int rc = 0;

	while (i < N(first_words) && strcmp(p->words[0], first_words[i]) != 0)
		i++;
	if (i == N(first_words) && strchr(p->words[0], '.') &&
	    !ss_nearest(p->words[0], first_words, N(first_words)))
		return usage(p, "unknown command '%s' (did you mean '--config %s'?)", p->words[0],
			     p->words[0]);
	if (i == N(first_words))
		return unknown(p, "command", p->words[0], first_words, N(first_words));
	if (i < BESIDE)
		return not_first(p, first_words[i]);
	*command = of_first[i - BESIDE];
	for (size_t k = 0; rc == 0 && k < N(pairs); k++)
		if (strcmp(first_words[i], pairs[k].first) == 0)
			rc = take_second(p, &pairs[k], command, &used);
	if (rc)
		return rc;
	used = used < p->n_words ? used : p->n_words;
	p->words += used;
	p->n_words -= used;
	return 0;
}

/* What is left of the words: a verb and whatever it wants. */
static int take_verb(struct parser *p)
{
	struct cli_options *o = p->out;

	if (p->n_words == 0)
		return usage(p, "cert needs a verb, as in 'semstreams cert status'");
	o->words = calloc(p->n_words, sizeof *o->words);
	if (!o->words)
		return 1;
	o->n_words = p->n_words;
	for (size_t i = 0; i < p->n_words; i++)
		o->words[i] = p->words[i];
	return 0;
}

static int take_point(struct parser *p)
{
	if (p->n_words == 0)
		return usage(p, "tap needs a component, as in 'semstreams tap udp'");
	if (p->n_words > 1)
		return usage(p, "unexpected word '%s'", p->words[1]);
	p->out->point = p->words[0];
	return 0;
}

static int take_name(struct parser *p)
{
	if (p->n_words == 0)
		return usage(p, "plugins new needs a name, as in 'semstreams plugins new mine --kind sink'");
	if (p->n_words > 1)
		return usage(p, "unexpected word '%s'", p->words[1]);
	if (!p->out->kind)
		return usage(p, "plugins new needs --kind source, processor, sink or tls");
	p->out->name = p->words[0];
	return 0;
}

/* What is left of the words: a file or a type. */
static int take_operand(struct parser *p)
{
	struct cli_options *o = p->out;
	bool file = FOR(o->command) & FOR_CONFIG && o->command != CLI_TAP,
	     type = o->command == CLI_PLUGINS_DESCRIBE;

	if (type && p->n_words == 0)
		return usage(p, "plugins describe needs a TYPE");
	if (p->n_words == 0)
		return 0;
	if (p->n_words > 1 || !(file || type))
		return usage(p, "unexpected word '%s'", p->words[p->n_words > 1 && (file || type) ? 1 : 0]);
	if (file && o->config)
		return usage(p, "two configuration files, '%s' and '%s'", o->config, p->words[0]);
	if (file && o->command == CLI_RUN && strcmp(p->words[0], "-") == 0)
		return usage(p, "run needs a file, not standard input");
	if (file)
		o->config = p->words[0];
	else
		o->type = p->words[0];
	return 0;
}

static int check_options(const struct parser *p)
{
	for (size_t i = 0; i < N(options); i++)
		if ((p->seen & FOR(i)) && !(options[i].commands & FOR(p->out->command)))
			return usage(p, "%s does not go with '%s'", options[i].name,
				     command_names[p->out->command]);
	return 0;
}

/* "semstreams help [COMMAND]" */
static int help_topic(struct parser *p)
{
	p->out->topic = CLI_HELP;
	p->help = true; /* so that "plugins" needs no second word */
	return p->n_words ? take_command(p, &p->out->topic) : 0;
}

int cli_parse(int argc, char **argv, struct cli_options *out, FILE *err)
{
	struct parser p = {.out = out, .err = err};

	*out = (struct cli_options){.log_level = -1,
				    .log_json = -1,
				    .role = -1,
				    .shutdown_timeout_ns = DEFAULT_SHUTDOWN_NS,
				    .interval_ns = 1000000000,
				    .timeout_ns = DEFAULT_TIMEOUT_NS};
	char **words = calloc((size_t)argc + 1, sizeof *words);
	out->folders = calloc((size_t)argc + 1, sizeof *out->folders);
	p.words = words;
	out->redact = calloc((size_t)argc + 1, sizeof *out->redact);
	int rc = words && out->folders && out->redact ? 0 : 1;
	if (rc == 0 && argc > 0)
		rc = parse_words(&p, argv + 1);
	bool command_given = p.n_words > 0;
	if (rc == 0 && command_given)
		rc = take_command(&p, &out->command);
	if (rc)
		goto out;
	if (p.version) {
		out->command = CLI_VERSION;
	} else if (out->command == CLI_HELP) {
		rc = help_topic(&p);
	} else if (p.help) {
		out->topic = command_given ? out->command : CLI_HELP;
		out->command = CLI_HELP;
	} else {
		rc = check_options(&p);
		if (rc == 0)
			rc = out->command == CLI_CERT          ? take_verb(&p)
			     : out->command == CLI_TAP         ? take_point(&p)
			     : out->command == CLI_PLUGINS_NEW ? take_name(&p)
							       : take_operand(&p);
	}
out:
	free(words);
	return rc;
}

void cli_done(struct cli_options *o)
{
	free(o->folders);
	free(o->words);
	free(o->redact);
	o->folders = o->words = o->redact = NULL;
}

/* ---- help -----------------------------------------------------------------------------------------------
 */

static const char help_general[] =
	"semstreams runs a pipeline that a JSON file describes; each stage of it is a plugin.\n"
	"\n"
	"  semstreams [run] [-c FILE]          run the pipeline until SIGTERM or SIGINT\n"
	"  semstreams check [-c] FILE          report everything that is wrong with a configuration\n"
	"  semstreams doctor [-c] FILE         find what keeps a configuration from working here\n"
	"  semstreams graph [-c] FILE          show how the components are connected\n"
	"  semstreams plugins list             list the available component types\n"
	"  semstreams plugins describe TYPE    show options, metrics and outputs of a type\n"
	"  semstreams plugins new NAME         make a package for a plugin of your own\n"
	"  semstreams plugins check FILE.so    try whether a plugin keeps to the rules\n"
	"  semstreams cert status|VERB         show certificates; issue, renew or revoke them\n"
	"  semstreams spool ls|check|dump DIR  inspect the folder of a spool\n"
	"  semstreams replay FILE... --to URL  send events in again that were refused and stored\n"
	"  semstreams pki VERB                 make, verify and renew certificates of your own\n"
	"  semstreams status                   show what a running host does\n"
	"  semstreams top                      show its rates, refreshed until it is interrupted\n"
	"  semstreams reload                   have a running host take over its changed configuration\n"
	"  semstreams tap COMPONENT            show a sample of the events that pass in a running host\n"
	"  semstreams config show [-c] FILE    print a configuration, secrets hidden\n"
	"  semstreams test FILE...             run tests of a configuration, without network or waiting\n"
	"  semstreams schema                   print a JSON Schema of the configuration, for editors\n"
	"  semstreams help [COMMAND]           or: semstreams COMMAND --help\n";

static const char exit_codes[] =
	"\nExit codes: 0 success, 1 failure, 2 wrong usage, 78 wrong configuration.\n";

static const char *const help_texts[] = {
	[CLI_RUN] =
		"semstreams [run] [-c FILE] [OPTIONS]\n"
		"\n"
		"Runs the pipeline in the foreground; the log goes to standard error.  On SIGTERM or SIGINT\n"
		"the sources stop, queued events are processed, and the program exits; a second signal "
		"exits\n"
		"at once.\n",
	[CLI_CHECK] =
		"semstreams check [-c] FILE [OPTIONS]\n"
		"\n"
		"Reports everything that is wrong with a configuration: a line each, with place and reason.\n"
		"FILE may be '-' for standard input.  The code is the one that starts the pipeline; lines\n"
		"that begin with 'skipped' name what only a start can show.  With --connect peers and CAs\n"
		"are reached, too; exit code 1 means that one of them was not.\n",
	[CLI_DOCTOR] = "semstreams doctor [-c] FILE [OPTIONS]\n"
		       "\n"
		       "Finds what keeps a configuration from working on this machine, and says how to mend "
		       "it: its\n"
		       "errors, clock, ports, folders, keys, limits, and names, connections and certificates "
		       "of peers\n"
		       "and CAs.  Nothing is started or changed; a host may be running.  Exit code 1: a "
		       "problem was\n"
		       "found.\n",
	[CLI_GRAPH] = "semstreams graph [-c] FILE [OPTIONS]\n"
		      "\n"
		      "Shows how the components are connected, with the limits of each queue.\n",
	[CLI_PLUGINS_LIST] =
		"semstreams plugins list [OPTIONS]\n"
		"\n"
		"Lists the component types of all plugins that 'run' would find: name, kind, version, "
		"file.\n"
		"With -c FILE, the plugin folders of that configuration are searched, too.\n",
	[CLI_PLUGINS_DESCRIBE] =
		"semstreams plugins describe TYPE [OPTIONS]\n"
		"\n"
		"Shows a component type: its options, metrics, outputs and drop reasons.\n"
		"With -c FILE, the plugin folders of that configuration are searched, too.\n",
	[CLI_PLUGINS_NEW] =
		"semstreams plugins new NAME --kind KIND [OPTIONS]\n"
		"\n"
		"Makes the folder NAME with a plugin that works: its source, its build, its unit tests and\n"
		"a pipeline to run it in.  Nothing is overwritten.\n",
	[CLI_SCHEMA] =
		"semstreams schema [OPTIONS]\n"
		"\n"
		"Prints a JSON Schema (draft 2020-12) of the configuration, with the options of all plugins\n"
		"found.  An editor checks and completes a configuration that starts with \"$schema\": "
		"\"FILE\".\n"
		"With -c FILE, the plugin folders of that configuration are searched, too.\n",
	[CLI_CERT] = "semstreams cert [-c FILE] [OPTIONS] VERB [WORDS]...\n"
		     "\n"
		     "Shows or changes the certificates of \"security\": {\"tls\": ...}, whether the "
		     "pipeline runs "
		     "or not.\n"
		     "'cert status' works in every mode, 'cert status --json' prints JSON.  All other verbs "
		     "belong\n"
		     "to the provider of the mode, with everything that follows them: issue, renew, revoke, "
		     "rollover\n"
		     "with mode \"acme\".  Exit code 1 also means that a certificate is not usable.\n",
	[CLI_STATUS] = "semstreams status [-c FILE] [OPTIONS]\n"
		       "\n"
		       "Shows what a running host does: health, components, links, certificates, spools.  It "
		       "is asked\n"
		       "where its configuration says, \"admin\": {\"socket\": ...} or \"listen\".  Exit code "
		       "1 also means "
		       "that\n"
		       "it is not ready.\n",
	[CLI_TOP] = "semstreams top [-c FILE] [OPTIONS]\n"
		    "\n"
		    "Shows the rates of a running host until it is interrupted: events a second, queues, who "
		    "waits\n"
		    "for whom, links.\n",
	[CLI_RELOAD] =
		"semstreams reload [-c FILE] [OPTIONS]\n"
		"\n"
		"Has a running host read its configuration again and take it over, as a whole or not at\n"
		"all, and waits for that.  What is wrong is printed with its line and column, and the\n"
		"exit code is 1: then the host goes on with what it had.  It is asked where FILE says,\n"
		"by \"admin\": {\"socket\": ...}.\n",
	[CLI_TAP] =
		"semstreams tap COMPONENT[.OUTPUT|:in] [-c FILE] [OPTIONS]\n"
		"\n"
		"Shows a sample of the events that leave a component of a running host, or come to it "
		"(:in),\n"
		"with their attributes, until it is interrupted.  The stream is not slowed: what the "
		"sample has no\n"
		"room for is counted, on standard error.  The host is asked at its unix socket, \"admin\": "
		"{\"socket\": ...}.\n",
	[CLI_CONFIG_SHOW] = "semstreams config show [-c] FILE [OPTIONS]\n"
			    "\n"
			    "Prints a configuration as JSON: values of secrets are hidden, references such "
			    "as ${env:NAME}\n"
			    "stay as they are.\n",
};

static void print_option(const struct option *o, FILE *to)
{
	char left[40];

	snprintf(left, sizeof left, "%c%c%s %s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
		 o->letter ? "," : " ", o->name, o->value ? " " : "", o->value ? o->value : "");
	fprintf(to, "  %-32s  %s\n", left, o->help);
}

void cli_print_help(enum cli_command topic, FILE *to)
{
	bool general = topic >= N(help_texts) || !help_texts[topic];
	unsigned shown = general ? FOR(CLI_HELP) : FOR(topic);

	fprintf(to, "%s\n", general ? help_general : help_texts[topic]);
	for (size_t i = 0; i < N(options); i++)
		if ((options[i].commands & shown) || (general && i <= OPT_PLUGINS))
			print_option(&options[i], to);
	fputs(exit_codes, to);
}
