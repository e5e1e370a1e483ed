/* SPDX-License-Identifier: MIT */
#include "core/reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/metrics.h"
#include "core/config/config.h"
#include "core/config/difference.h"
#include "core/flow/pipeline.h"
#include "core/flow/reload/transition.h"
#include "core/report.h"
#include "core/run.h"
#include "core/sandbox.h"

struct reload {
	struct reload_setup setup;
	bool running, failed;
	uint64_t generation; /* 1: of the start */
	uint64_t successes, failures;
	int64_t last_s;                  /* unix time of the last attempt; 0: none */
	struct transition_result result; /* of the last that succeeded */
};

struct reload *reload_new(const struct reload_setup *setup)
{
	struct reload *r = calloc(1, sizeof *r);

	if (r)
		*r = (struct reload){.setup = *setup, .generation = 1};
	return r;
}

void reload_free(struct reload *r)
{
	free(r);
}

/* ---- what needs a restart ---- */

static const struct jnode *section(const struct config *config, const char *name)
{
	return jnode_get(config->doc->root, name);
}

static void refuse(const struct config *config, const struct jnode *at, const char *what, struct diag *diag)
{
	jdoc_report(config->doc, diag, DIAG_ERROR, at ? at : config->doc->root, J_VALUE,
		    "a change of %s needs a restart; put it back, or restart the program", what);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_list(const char *const *a, const char *const *b)
{
	while (a && b && *a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return (!a || !*a) && (!b || !*b);
}

static bool same_plugins(const struct config *a, const struct config *b)
{
	bool same = a->strict == b->strict && a->n_plugin_paths == b->n_plugin_paths;

	for (size_t i = 0; same && i < a->n_plugin_paths; i++)
		same = strcmp(a->plugin_paths[i], b->plugin_paths[i]) == 0;
	return same;
}

/* Is a section written the same but for one member, whose changes are taken over? */
static bool is_watch(const struct jnode *node)
{
	return strcmp(node->name, "watchdog") == 0 || strcmp(node->name, "held_watch") == 0;
}

/* But for what changes in place. */
static bool same_section(const struct jnode *a, const struct jnode *b)
{
	if (!a || !b)
		return a == b;
	for (const struct jnode *child = a->child; child; child = child->next)
		if (!is_watch(child) && !difference_none(child, jnode_get(b, child->name)))
			return false;
	for (const struct jnode *child = b->child; child; child = child->next)
		if (!is_watch(child) && !jnode_get(a, child->name))
			return false;
	return true;
}

static bool same_crls(const struct tls_role *a, const struct tls_role *b)
{
	bool same = a->n_crl == b->n_crl && a->crl_soft == b->crl_soft;

	for (size_t i = 0; same && i < a->n_crl; i++)
		same = strcmp(a->crl[i].path, b->crl[i].path) == 0;
	return same;
}

/* What of a role is not allowed_client_cns. */
static bool same_role(const struct tls_role *a, const struct tls_role *b)
{
	return a->on == b->on && same_text(a->mode, b->mode) && a->provider == b->provider &&
	       same_text(a->cert.path, b->cert.path) && same_text(a->key.path, b->key.path) &&
	       same_list(a->ca_paths, b->ca_paths) && a->open_key == b->open_key &&
	       a->min_version == b->min_version && a->flags == b->flags && same_crls(a, b);
}

static bool same_provider(const struct config_component *a, const struct config_component *b)
{
	return a->complete == b->complete && (!a->complete || !difference_next(a, b, NULL));
}

static void refuse_tls(const struct config *before, const struct config *config, struct diag *diag)
{
	static const char *const names[TLS_ROLES] = {"server", "client"};
	const struct jnode *security = section(config, "security");
	const struct jnode *tls = security ? jnode_get(security, "tls") : NULL;

	for (size_t i = 0; i < TLS_ROLES; i++) {
		const struct jnode *at = tls ? jnode_get(tls, names[i]) : NULL;
		if (!same_role(&before->tls.roles[i], &config->tls.roles[i]) ||
		    !same_provider(&before->providers[i], &config->providers[i]))
			refuse(config,
			       at    ? at
			       : tls ? tls
				     : security,
			       i == SS_TLS_SERVER ? "security.tls.server other than allowed_client_cns"
						  : "security.tls.client",
			       diag);
	}
}

static int check_host_settings(const struct config *before, const struct config *config, struct diag *diag)
{
	const size_t errors = diag->errors;

	if (!same_plugins(before, config))
		refuse(config, section(config, "plugins"), "\"plugins\"", diag);
	if (!same_section(section(before, "admin"), section(config, "admin")))
		refuse(config, section(config, "admin"),
		       "\"admin\" other than \"watchdog\" and \"held_watch\"", diag);
	if (before->log_json != config->log_json)
		refuse(config, section(config, "log"), "the log's \"format\"", diag);
	if (before->max_streams != config->max_streams ||
	    before->forget_streams_min != config->forget_streams_min)
		refuse(config, section(config, "positions"), "\"positions\"", diag);
	if (!same_section(section(before, "sandbox"), section(config, "sandbox")))
		refuse(config, section(config, "sandbox"), "\"sandbox\"", diag);
	refuse_tls(before, config, diag);
	return diag->errors > errors ? -EINVAL : 0;
}

/* ---- carrying it out ---- */

/* All that is wrong, as at start. */
static int read_file(struct reload *r, const char *file, struct diag *diag, struct config **out)
{
	int rc = config_load(file, diag, out);

	if (*out) {
		int rc2 = config_resolve(*out, r->setup.loader, diag);
		rc = rc2 ? rc2 : rc;
		if (rc == -EINVAL)
			pipeline_check(*out, diag);
	}
	return rc;
}

static void wait(void *arg, uint64_t ns)
{
	const struct reload *r = arg;

	r->setup.wait(r->setup.arg, ns);
}

static bool hurry(void *arg)
{
	const struct reload *r = arg;

	return r->setup.hurry(r->setup.arg);
}

static void gone(void *arg, const struct component *c)
{
	(void)arg;
	report_gone(c);
}

static void apply_host_settings(struct reload *r, const struct config *config)
{
	const struct tls_role *server = &config->tls.roles[SS_TLS_SERVER];

	if (r->setup.log_level < 0)
		log_setup(config->log_level, r->setup.log_json >= 0 ? r->setup.log_json : config->log_json);
	if (server->on && tls_identity_set_names(r->setup.pipeline->tls, server->names, server->n_names) < 0)
		log_error("Out of memory, keeping the old allowed_client_cns");
}

static int take_over(struct reload *r, const struct config *config, struct diag *diag)
{
	const struct transition_hooks hooks = {
		.wait = wait, .hurry = hurry, .gone = gone, .arg = r, .drain_ns = r->setup.drain_ns};
	const uint64_t began = clock_now();
	struct transition_result result;

	int rc = check_host_settings(r->setup.pipeline->config, config, diag);
	if (rc == 0 && !sandbox_permits(r->setup.sandbox, config, diag))
		rc = -EINVAL;
	if (rc == 0)
		rc = transition_run(r->setup.pipeline, config, &hooks, diag, &result);
	if (rc)
		return rc;
	apply_host_settings(r, config);
	run_log_warnings(diag);
	r->generation++;
	r->result = result;
	log_info("Configuration reloaded generation=%" PRIu64 " kept=%zu changed=%zu replaced=%zu added=%zu "
		 "removed=%zu pause_ms=%.3f took_ms=%.1f",
		 r->generation, result.kept, result.changed, result.replaced, result.added, result.removed,
		 (double)result.pause_ns / 1e6, (double)(clock_now() - began) / 1e6);
	return 0;
}

static const struct diag_item *first_error(const struct diag *diag)
{
	for (size_t i = 0; i < diag->n; i++)
		if (diag->items[i].level == DIAG_ERROR)
			return &diag->items[i];
	return NULL;
}

static void report_failure(struct reload *r, const char *file, const struct diag *diag, int rc)
{
	const struct diag_item *first = first_error(diag);
	const char *reason = first ? first->text : strerror(-rc);
	char shown[1024], text[1200];

	log_error("Changed configuration cannot be used, keeping the old one generation=%" PRIu64
		  " file=%s line=%u column=%u errors=%zu error=%s",
		  r->generation, file, first ? first->place.line : 0, first ? first->place.column : 0,
		  diag->errors, log_value(shown, sizeof shown, reason));
	snprintf(text, sizeof text, "the changed configuration cannot be used, %s:%u:%u: %s", file,
		 first ? first->place.line : 0, first ? first->place.column : 0, reason);
	health_degrade(r->setup.pipeline->health, HEALTH_CONFIGURATION, text);
}

int reload_run(struct reload *r, struct diag *diag)
{
	struct config *config = NULL;

	if (r->running) {
		diag_add(diag, DIAG_ERROR, NULL, (struct place){0}, NULL,
			 "the configuration is being reloaded already; try again");
		return -EBUSY;
	}
	r->running = true;
	char *file = strdup(r->setup.pipeline->config->doc->file);
	int rc = file ? read_file(r, file, diag, &config) : -ENOMEM;
	if (rc == 0)
		rc = take_over(r, config, diag);
	if (rc)
		report_failure(r, file ? file : "", diag, rc);
	else
		health_degrade(r->setup.pipeline->health, HEALTH_CONFIGURATION, NULL);
	r->failed = rc != 0;
	r->successes += rc == 0;
	r->failures += rc != 0;
	r->last_s = (int64_t)(clock_wall() / 1000000000u);
	config_free(config);
	free(file);
	r->running = false;
	return rc;
}

static json_t *problem_json(const struct diag_item *item)
{
	return json_pack("{s:s, s:s?, s:i, s:i, s:s?, s:s}", "level",
			 item->level == DIAG_ERROR ? "error" : "warning", "file", item->file, "line",
			 (int)item->place.line, "column", (int)item->place.column, "pointer", item->pointer,
			 "reason", item->text);
}

static json_t *success_json(const struct reload *r)
{
	const struct transition_result *t = &r->result;

	return json_pack("{s:I, s:f, s:{s:I, s:I, s:I, s:I, s:I}}", "generation", (json_int_t)r->generation,
			 "pause_seconds", (double)t->pause_ns / 1e9, "components", "none",
			 (json_int_t)t->kept, "in_place", (json_int_t)t->changed, "replaced",
			 (json_int_t)t->replaced, "added", (json_int_t)t->added, "removed",
			 (json_int_t)t->removed);
}

int reload_answer(const struct reload *r, int rc, const struct diag *diag, FILE *body)
{
	const struct diag_item *first = first_error(diag);
	json_t *problems = json_array();
	json_t *json = rc == 0 ? success_json(r)
			       : json_pack("{s:s, s:I}", "error", first ? first->text : strerror(-rc),
					   "generation", (json_int_t)r->generation);

	for (size_t i = 0; i < diag->n; i++)
		if (diag->items[i].level != DIAG_SKIP)
			json_array_append_new(problems, problem_json(&diag->items[i]));
	if (!json || json_object_set_new(json, "problems", problems) || json_dumpf(json, body, JSON_COMPACT))
		rc = -ENOMEM;
	json_decref(json);
	fputc('\n', body);
	return rc == 0 ? 200 : rc == -EBUSY ? 409 : rc == -EINVAL ? 422 : 500;
}

void reload_collect(void *reload, struct metrics_page *page)
{
	const struct reload *r = reload;

	metrics_host(page, METRIC_RELOAD_GENERATION, NULL, (int64_t)r->generation);
	metrics_host(page, METRIC_RELOADS, "result=\"success\"", (int64_t)r->successes);
	metrics_host(page, METRIC_RELOADS, "result=\"failure\"", (int64_t)r->failures);
	metrics_host(page, METRIC_RELOAD_LAST_SUCCESS, NULL, !r->failed);
	metrics_host(page, METRIC_RELOAD_LAST_TIME, NULL, r->last_s);
	metrics_host_real(page, METRIC_RELOAD_PAUSE, NULL, (double)r->result.pause_ns / 1e9);
	metrics_host(page, METRIC_RELOAD_COMPONENTS, "change=\"none\"", (int64_t)r->result.kept);
	metrics_host(page, METRIC_RELOAD_COMPONENTS, "change=\"in_place\"", (int64_t)r->result.changed);
	metrics_host(page, METRIC_RELOAD_COMPONENTS, "change=\"replaced\"", (int64_t)r->result.replaced);
	metrics_host(page, METRIC_RELOAD_COMPONENTS, "change=\"added\"", (int64_t)r->result.added);
	metrics_host(page, METRIC_RELOAD_COMPONENTS, "change=\"removed\"", (int64_t)r->result.removed);
}
