/* SPDX-License-Identifier: MIT */
/* doctor - see doctor.h.  Control thread. */
#include "core/doctor/doctor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>
#include <semstreams/base/strbuf.h>
#include "core/admin/log.h"
#include "core/cli/cli.h"
#include "core/cli/load.h"
#include "core/doctor/findings.h"
#include "core/doctor/machine.h"
#include "core/doctor/probes.h"
#include "core/doctor/reach.h"
#include "core/flow/pipeline.h"

static int examine(const struct config *config, const struct cli_options *o, bool network_only,
		   struct findings *found)
{
	struct probes *probes = probes_new(o->timeout_ns);
	int rc = probes ? 0 : -ENOMEM;

	if (rc == 0 && !network_only)
		rc = machine_probes(config, probes);
	if (rc == 0)
		rc = reach_probes(config, probes);
	if (rc == 0)
		probes_run(probes, found);
	return rc;
}

int doctor_connect(const struct config *config, const struct cli_options *o)
{
	struct findings found = {0};
	int rc = examine(config, o, true, &found);

	if (rc == 0)
		rc = findings_print(&found, false, stdout);
	if (rc == 0)
		rc = found.problems < INT_MAX ? (int)found.problems : INT_MAX;
	findings_done(&found);
	return rc;
}

/* What check says. */
static void add_diag(const struct diag *diag, const char *file, struct findings *found)
{
	for (size_t i = 0; i < diag->n; i++) {
		const struct diag_item *item = &diag->items[i];
		struct ss_strbuf where = {0};
		if (item->level == DIAG_SKIP)
			continue;
		ss_strbuf_text(&where, item->file ? item->file : file);
		if (item->place.line)
			ss_strbuf_printf(&where, ":%u:%u", item->place.line, item->place.column);
		if (item->pointer && *item->pointer)
			ss_strbuf_printf(&where, " %s", item->pointer);
		findings_add(found, item->level == DIAG_ERROR ? FINDING_PROBLEM : FINDING_WARNING, "config",
			     ss_strbuf_cstr(&where),
			     item->level == DIAG_ERROR ? "correct the configuration there, or what it names"
						       : NULL,
			     "%s", item->text);
		ss_strbuf_done(&where);
	}
	if (!diag->errors)
		findings_add(found, FINDING_OK, "config", file, NULL, "can be used");
}

static void add_user(struct findings *found)
{
	char subject[32];

	snprintf(subject, sizeof subject, "id %u", (unsigned)geteuid());
	findings_add(
		found, FINDING_OK, "user", subject, NULL,
		"permissions are examined as this user%s; they count for the service if it runs as the same",
		geteuid() == 0 ? " (root)" : "");
}

int doctor_command(const struct cli_options *o)
{
	struct pipeline *pipeline = NULL;
	struct findings found = {0};
	struct loaded l;
	int code = 1, rc = load_config(o, &l);

	log_setup(SS_LOG_ERROR, false);
	if (rc == 0)
		rc = pipeline_create(l.config, &l.diag, &pipeline);
	else if (rc == -EINVAL && l.config)
		pipeline_check(l.config, &l.diag);
	if (rc != -ENOMEM) {
		add_user(&found);
		add_diag(&l.diag, o->config ? o->config : CLI_DEFAULT_CONFIG, &found);
	}
	if (rc != -ENOMEM && l.config)
		rc = examine(l.config, o, false, &found);
	if (rc != -ENOMEM)
		rc = findings_print(&found, o->json, stdout);
	log_flush();
	if (rc == -ENOMEM)
		fputs("semstreams: out of memory\n", stderr);
	else
		code = found.problems ? 1 : 0;
	findings_done(&found);
	pipeline_free(pipeline);
	load_done(&l);
	return code;
}
