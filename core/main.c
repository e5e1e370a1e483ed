/* SPDX-License-Identifier: MIT */
/*
 * main - the program: does what the command line says.  Output goes to stdout, whose errors count as failure;
 * diagnostics go to stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/nearest.h>
#include "core/cli/cert_command.h"
#include "core/cli/cli.h"
#include "core/cli/describe.h"
#include "core/cli/host_command.h"
#include "core/cli/load.h"
#include "core/cli/new_plugin.h"
#include "core/admin/log.h"
#include "core/config/descriptors.h"
#include "core/config/wiring.h"
#include "core/flow/pipeline.h"
#include "core/run.h"
#include "core/sandbox.h"
#include "core/cli/schema.h"
#include "core/cli/tap_command.h"
#include "core/doctor/doctor.h"

#define S(n) ((n) == 1 ? "" : "s")

static int out_of_memory(void)
{
	fputs("semstreams: out of memory\n", stderr);
	return 1;
}

/* Exit code for what a function of this program returned. */
static int code_of(int rc)
{
	if (rc == -ENOMEM)
		return out_of_memory();
	return rc == -EINVAL ? EXIT_CONFIG : rc < 0 ? 1 : 0;
}

static int print_json(json_t *value)
{
	if (!value || json_dumpf(value, stdout, JSON_INDENT(2)) < 0) {
		json_decref(value);
		return ferror(stdout) ? 1 : out_of_memory();
	}
	putchar('\n');
	json_decref(value);
	return 0;
}

static void set_up_log(const struct cli_options *o, const struct config *config)
{
	int level = config ? config->log_level : SS_LOG_INFO;
	bool json = config && config->log_json;

	log_setup(o->log_level >= 0 ? o->log_level : level, o->log_json >= 0 ? o->log_json : json);
	if (o->log_json < 0 && (!config || config->log_journal))
		log_use_journal();
}

/* ---- run and check --------------------------------------------------------------------------------------
 */

static int run(const struct cli_options *o)
{
	struct run_options options = {.shutdown_timeout_ns = o->shutdown_timeout_ns,
				      .log_level = o->log_level,
				      .log_json = o->log_json,
				      .watch_config = o->watch_config};
	struct loaded l;

	run_hold_hangup();
	int code = code_of(load_config(o, &l));
	set_up_log(o, l.config);
	if (code == EXIT_CONFIG && l.config)
		pipeline_check(l.config, &l.diag);
	if (code != 0)
		diag_print(&l.diag, stderr);
	else
		run_log_warnings(&l.diag);
	if (code == 0)
		code = run_host(l.config, l.loader, &options);
	log_flush();
	load_done(&l);
	return code;
}

static size_t count_providers(const struct config *config)
{
	const struct config_component *c = config->providers;
	size_t n = 0;

	for (size_t i = 0; i < TLS_ROLES; i++)
		n += c[i].desc && (i == 0 || c[i].desc != c[0].desc);
	return n;
}

static void print_ok(const struct config *config, const struct diag *diag)
{
	size_t queues = 0, plugins = count_providers(config);

	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		size_t k = 0;
		queues += c->n_inputs;
		while (config->components[k].desc != c->desc)
			k++;
		plugins += k == i;
	}
	printf("ok: %zu component%s, %zu queue%s, %zu plugin%s", config->n_components,
	       S(config->n_components), queues, S(queues), plugins, S(plugins));
	if (diag->warnings)
		printf(", %zu warning%s", diag->warnings, S(diag->warnings));
	putchar('\n');
}

static int check(const struct cli_options *o)
{
	struct pipeline *pipeline = NULL;
	struct loaded l;
	struct diag *diag = &l.diag;

	int rc = load_config(o, &l);
	set_up_log(o, l.config);
	if (rc == 0)
		rc = pipeline_create(l.config, diag, &pipeline);
	else if (rc == -EINVAL && l.config)
		pipeline_check(l.config, diag);
	if (rc == 0)
		diag_add(diag, DIAG_SKIP, NULL, (struct place){0}, NULL,
			 "nothing was started: no address was bound, %s, and of all files "
			 "only certificates and keys were opened",
			 o->connect ? "peers were asked only" : "no peer was contacted");
	if (rc == 0)
		wiring_hints(l.config, diag);
	log_flush();
	diag_print(diag, stderr);
	if (rc == 0)
		print_ok(l.config, diag);
	else if (rc == -EINVAL)
		printf("%zu error%s, %zu warning%s\n", diag->errors, S(diag->errors), diag->warnings,
		       S(diag->warnings));
	if (rc == 0 && o->connect)
		rc = doctor_connect(l.config, o);
	pipeline_free(pipeline);
	load_done(&l);
	return rc < 0 ? code_of(rc) : rc > 0;
}

/* ---- the others -----------------------------------------------------------------------------------------
 */

static int graph(const struct cli_options *o)
{
	struct loaded l;
	int rc = load_config(o, &l);

	diag_print(&l.diag, stderr);
	if (rc == 0)
		rc = graph_print(l.config, o->format, stdout);
	load_done(&l);
	return code_of(rc);
}

static int cert(const struct cli_options *o)
{
	struct loaded l;
	int rc = load_config(o, &l);

	set_up_log(o, l.config);
	if (rc == 0)
		rc = cert_command(l.config, o->role, o->n_words, o->words, &l.diag);
	log_flush();
	if (rc < 0)
		diag_print(&l.diag, stderr);
	load_done(&l);
	return rc < 0 ? code_of(rc) : rc;
}

static enum describe_form form_of(const struct cli_options *o)
{
	return o->json ? DESCRIBE_JSON : o->markdown ? DESCRIBE_MARKDOWN : DESCRIBE_TEXT;
}

static int describe(const struct cli_options *o, struct loader *loader)
{
	size_t n = loader_count(loader);
	const char *known[n + 1], *file, *why;

	for (size_t i = 0; i < n; i++) {
		const struct ss_component *desc = loader_type(loader, i, &file);
		known[i] = desc->type;
		if (strcmp(desc->type, o->type) != 0)
			continue;
		return code_of(describe_type(desc, file, form_of(o), stdout));
	}
	const char *nearest = ss_nearest(o->type, known, n);
	loader_find(loader, o->type, &why);
	if (why)
		fprintf(stderr, "semstreams: cannot load type '%s': %s\n", o->type, why);
	else
		fprintf(stderr, "semstreams: unknown type '%s'%s%s%s; see semstreams plugins list\n", o->type,
			nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
	return 1;
}

static int types(const struct cli_options *o)
{
	struct loaded l;
	int code = code_of(load_types(o, &l));

	diag_print(&l.diag, stderr);
	if (code == 0 && o->command == CLI_PLUGINS_LIST)
		code = code_of(describe_list(l.loader, form_of(o), stdout));
	else if (code == 0 && o->command == CLI_PLUGINS_DESCRIBE)
		code = describe(o, l.loader);
	else if (code == 0)
		code = print_json(schema_config(l.loader));
	load_done(&l);
	return code;
}

static int version(void)
{
	printf("semstreams %s\nplugin ABI %d\nplugins in %s\n", PACKAGE_VERSION, SS_ABI_MAJOR,
	       load_plugin_dir);
#ifdef SS_CONFIGURE_SUMMARY
	printf("built with %s\n", SS_CONFIGURE_SUMMARY);
#endif
	return 0;
}

static int dispatch(const struct cli_options *o)
{
	descriptors_set(0); /* plugins need one each, even to be looked at */
	switch (o->command) {
	case CLI_RUN:
		return o->validate ? check(o) : run(o);
	case CLI_CHECK:
		return check(o);
	case CLI_DOCTOR:
		return doctor_command(o);
	case CLI_GRAPH:
		return graph(o);
	case CLI_CERT:
		return cert(o);
	case CLI_STATUS:
	case CLI_TOP:
	case CLI_RELOAD:
	case CLI_CONFIG_SHOW:
		return host_command(o);
	case CLI_TAP:
		return tap_command(o);
	case CLI_PLUGINS_NEW:
		return new_plugin(o);
	case CLI_HELP:
		cli_print_help(o->topic, stdout);
		return 0;
	case CLI_VERSION:
		return version();
	default:
		return types(o);
	}
}

/* A closed standard stream would be the next file that is opened, and written to; like this, writing fails.
 */
static void keep_standard_streams(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			_exit(1);
}

/* Whatever was printed has to have arrived. */
static int finish_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	if (errno != EPIPE) /* who closes the pipe knows */
		fprintf(stderr, "semstreams: cannot write to standard output: %s\n",
			errno ? strerror(errno) : "write error");
	return code ? code : 1;
}

/* `semstreams spool ...`, `replay ...` and so on: programs beside this one, which need nothing of it. */
static int run_beside(const char *name, char **argv)
{
	char program[sizeof PKGLIBEXECDIR + 32];

	snprintf(program, sizeof program, PKGLIBEXECDIR "/semstreams-%s", name);
	execv(program, argv);
	fprintf(stderr, "semstreams: cannot run %s: %s\n", program, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct cli_options options;

	sandbox_hide_memory();
	keep_standard_streams();
	if (argc > 1 && cli_is_beside(argv[1]))
		return run_beside(argv[1], argv + 1);
	if (argc > 2 && strcmp(argv[1], "plugins") == 0 && strcmp(argv[2], "check") == 0)
		return run_beside("plugins-check", argv + 2);
	if (argc == 3 && strcmp(argv[1], "help") == 0 && cli_is_beside(argv[2]))
		return run_beside(argv[2], (char *[]){argv[2], "--help", NULL});
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* other programs have uses for them: not to be killed by habit */
	signal(SIGUSR2, SIG_IGN);
	int code = cli_parse(argc, argv, &options, stderr);
	if (code == 0)
		code = dispatch(&options);
	cli_done(&options);
	return finish_output(code);
}
