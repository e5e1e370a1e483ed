/* SPDX-License-Identifier: MIT */
/* view - see view.h.  Jansson's functions take the NULL that a failed allocation left. */
#include "core/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>
#include <gnutls/x509.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-names.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/flow/pipeline.h"
#include "core/flow/services/peers.h"
#include "core/report.h"
#include "core/tls/cert.h"

#define LINKS_MAX 100 /* in the whole; /api/v1/links has pages of them */

static const char *const overflow_names[] = {"block", "drop_newest", "drop_oldest"};
static const char *const role_names[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};

static const char *kind_name(const struct component *c)
{
	return c->desc->kind == SS_KIND_SOURCE ? "source"
	       : c->desc->kind == SS_KIND_SINK ? "sink"
					       : "processor";
}

static json_t *count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *time_json(int64_t seconds)
{
	char text[32];

	return seconds > 0 ? json_string(ss_format_time(seconds, text, sizeof text)) : json_null();
}

/* Which output of its source a queue hangs on; NULL where it has one only. */
static json_t *output_json(const struct edge *e)
{
	const char *const *names = e->from->desc->outputs;

	for (size_t port = 0; names && names[0] && names[1] && port < e->from->n_ports; port++)
		for (size_t i = 0; i < e->from->ports[port].n; i++)
			if (e->from->ports[port].edges[i] == e)
				return json_string(names[port]);
	return json_null();
}

/* ---- the graph ---- */

static json_t *graph_json(struct pipeline *p)
{
	json_t *components = json_array(), *queues = json_array();

	for (size_t i = 0; i < p->n_components; i++) {
		const struct component *c = p->components[i];
		const char *worker = c->config_component ? c->config_component->worker : NULL;
		json_array_append_new(components, json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?}", "id", c->id,
							    "type", c->desc->type, "kind", kind_name(c),
							    "version", c->desc->version, "summary",
							    c->desc->summary, "worker", worker));
	}
	for (size_t i = 0; i < p->n_edges; i++) {
		const struct edge *e = &p->edges[i];
		json_array_append_new(queues, json_pack("{s:s, s:o, s:s}", "from", e->from->id, "output",
							output_json(e), "to", e->to->id));
	}
	return json_pack("{s:o, s:o}", "components", components, "queues", queues);
}

/* ---- components ---- */

static json_t *dropped_json(const struct component *c, const struct totals *t)
{
	json_t *reasons = json_object();

	for (uint32_t i = 0; i < DROP_REASONS; i++) {
		const char *reason = component_reason(c, i);
		if (reason && t->dropped[i])
			json_object_set_new(reasons, reason, count(t->dropped[i]));
	}
	if (t->queue_full)
		json_object_set_new(reasons, "queue_full", count(t->queue_full));
	return reasons;
}

static bool is_stuck(const struct edge *e)
{
	return atomic_load_explicit(&e->queue->stuck, memory_order_relaxed);
}

/* Those whose queues it waits for. */
static json_t *held_up_by(const struct pipeline *p, const struct component *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_edges; i++)
		if (p->edges[i].from == c && is_stuck(&p->edges[i]))
			json_array_append_new(list, json_string(p->edges[i].to->id));
	return list;
}

static json_t *component_json(const struct pipeline *p, const struct component *c)
{
	uint64_t since = atomic_load_explicit(&c->busy_since_ns, memory_order_relaxed), now = clock_now();
	char reason[512];
	struct totals t;

	report_totals(c, &t);
	bool closed = atomic_load_explicit(&c->closed, memory_order_relaxed);
	bool trouble = health_reason(p->health, c->id, reason, sizeof reason);
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s?}", "id", c->id, "type", c->desc->type, "kind",
				 kind_name(c), "state", closed ? "closed" : "running", "trouble",
				 trouble ? reason : NULL);
	json_object_set_new(json, "in", count(t.in));
	json_object_set_new(json, "created", count(t.created));
	json_object_set_new(json, "out", count(t.out));
	json_object_set_new(json, "filtered", count(t.filtered));
	json_object_set_new(json, "dropped", count(t.dropped_all));
	json_object_set_new(json, "dropped_by_reason", dropped_json(c, &t));
	json_object_set_new(json, "held", count(t.held));
	json_object_set_new(json, "refuses_input_seconds",
			    since && since < now ? json_real((double)(now - since) / 1e9) : json_null());
	json_object_set_new(json, "held_up_by", held_up_by(p, c));
	return json;
}

static json_t *components_json(struct pipeline *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_components; i++)
		json_array_append_new(list, component_json(p, p->components[i]));
	return list;
}

static json_t *queues_json(struct pipeline *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_edges; i++) {
		const struct edge *e = &p->edges[i];
		const struct queue *q = e->queue;
		json_array_append_new(
			list,
			json_pack("{s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:b}", "from", e->from->id,
				  "output", output_json(e), "to", e->to->id, "events",
				  (json_int_t)queue_events(q), "capacity_events",
				  (json_int_t)q->limits.events, "bytes", (json_int_t)queue_bytes(q),
				  "capacity_bytes", (json_int_t)q->limits.bytes, "overflow",
				  overflow_names[q->limits.overflow], "dropped",
				  (json_int_t)atomic_load_explicit(&q->dropped_events, memory_order_relaxed),
				  "producer_waits", (int)is_stuck(e)));
	}
	return list;
}

/* ---- spools and storage ---- */

static const struct ss_metric *metric_row(const struct component *c, uint32_t i)
{
	return (const struct ss_metric *)((const char *)c->desc->metrics + (size_t)i * c->desc->metric_size);
}

/* A component's metrics that begin so, by the rest of their names, labels added up; NULL: it has none. */
static json_t *family_json(const struct component *c, const char *prefix)
{
	json_t *json = NULL;

	for (uint32_t i = 0; i < c->desc->n_metrics; i++) {
		const char *name = metric_row(c, i)->name;
		if (strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		if (!json)
			json = json_pack("{s:s}", "component", c->id);
		name += strlen(prefix);
		json_int_t before = json_integer_value(json_object_get(json, name));
		json_object_set_new(json, name, json_integer(before + component_metric(c, i)));
	}
	return json;
}

/* Who has such metrics has such a thing: the host knows no type by name. */
static json_t *families_json(struct pipeline *p, const char *prefix)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_components; i++) {
		json_t *json = family_json(p->components[i], prefix);
		if (json)
			json_array_append_new(list, json);
	}
	return list;
}

/* ---- certificates ---- */

static bool append_name(void *arg, unsigned kind, const uint8_t *name, size_t len)
{
	json_t *text = kind == GNUTLS_SAN_DNSNAME ? json_stringn((const char *)name, len) : NULL;

	if (text)
		json_array_append_new(arg, text);
	return true;
}

static json_t *dn_json(gnutls_x509_crt_t crt, bool issuer)
{
	gnutls_x509_dn_t dn;
	char *text = NULL;

	if ((issuer ? gnutls_x509_crt_get_issuer(crt, &dn) : gnutls_x509_crt_get_subject(crt, &dn)) == 0)
		text = tls_dn_text(dn);
	json_t *json = json_string(text);
	free(text);
	return json ? json : json_null();
}

static void add_leaf(json_t *json, const char *chain_pem)
{
	struct cert_list chain;
	char why[256];

	if (!chain_pem ||
	    cert_list_load(chain_pem, strlen(chain_pem), CERT_MAX_CHAIN, &chain, why, sizeof why))
		return;
	json_t *names = json_array();
	tls_each_san(chain.certs[0], append_name, names);
	json_object_set_new(json, "subject", dn_json(chain.certs[0], false));
	json_object_set_new(json, "issuer", dn_json(chain.certs[0], true));
	json_object_set_new(json, "names", names);
	cert_list_free(&chain);
}

/* A metric of the provider of that role by the end of its name; -1: there is none. */
static int64_t provider_metric(const struct pipeline *p, uint32_t role, const char *end)
{
	for (size_t i = 0; i < p->n_providers; i++) {
		const struct component *c = &p->providers[i];
		for (uint32_t k = 0; (c->tls_roles & 1u << role) && k < c->desc->n_metrics; k++) {
			const char *name = metric_row(c, k)->name;
			size_t len = strlen(name), n = strlen(end);
			if (len > n && strcmp(name + len - n, end) == 0)
				return component_metric(c, k);
		}
	}
	return -1;
}

static json_t *certificate_json(struct pipeline *p, uint32_t role)
{
	const struct ss_tls_material *m = tls_identity_acquire(p->tls, role);
	const char *mode = p->config->tls.roles[role].mode;
	const int64_t now = (int64_t)(clock_wall() / 1000000000u);
	int64_t failures = provider_metric(p, role, "_failures_in_a_row");
	char id[32], reason[1024];

	if (!m)
		return NULL;
	snprintf(id, sizeof id, "tls.%s", role_names[role]);
	bool trouble = health_reason(p->health, id, reason, sizeof reason);
	json_t *json = json_pack("{s:s, s:s, s:s?, s:n, s:n, s:[]}", "role", role_names[role], "mode",
				 mode ? mode : "manual", "source", m->chain_pem ? m->source : NULL, "subject",
				 "issuer", "names");
	add_leaf(json, m->chain_pem);
	json_object_set_new(json, "not_before", time_json(m->not_before));
	json_object_set_new(json, "not_after", time_json(m->not_after));
	json_object_set_new(json, "remaining_seconds",
			    m->chain_pem ? json_integer(m->not_after - now) : json_null());
	json_object_set_new(json, "generation", count(m->generation));
	json_object_set_new(json, "next_renewal",
			    time_json(provider_metric(p, role, "_next_renewal_timestamp_seconds")));
	json_object_set_new(json, "last_renewal",
			    time_json(provider_metric(p, role, "_last_success_timestamp_seconds")));
	json_object_set_new(json, "failures_in_a_row", failures < 0 ? json_null() : json_integer(failures));
	json_object_set_new(json, "last_error", trouble ? json_string(reason) : json_null());
	tls_identity_release(m);
	return json;
}

static json_t *certificates_json(struct pipeline *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		json_t *json = p->config->tls.roles[i].on ? certificate_json(p, i) : NULL;
		if (json)
			json_array_append_new(list, json);
	}
	return list;
}

/* ---- all ---- */

/* What is printed as JSON by others. */
static json_t *links_json(struct pipeline *p)
{
	const struct peers_query query = {.limit = LINKS_MAX};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	int rc = peers_print(p->components, p->n_components, query, out);
	if (fclose(out) != 0)
		rc = -1;
	json_t *json = rc == 0 ? json_loadb(text, size, 0, NULL) : NULL;
	free(text);
	return json;
}

static json_t *health_json(struct pipeline *p)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	health_print(p->health, out);
	json_t *json = fclose(out) == 0 ? json_loadb(text, size, 0, NULL) : NULL;
	free(text);
	return json;
}

static json_t *process_json(void)
{
	struct rusage usage;
	long long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "re");

	if (statm && fscanf(statm, "%*d %lld", &pages) != 1)
		pages = 0;
	if (statm)
		fclose(statm);
	getrusage(RUSAGE_SELF, &usage);
	return json_pack("{s:i, s:f, s:I}", "pid", (int)getpid(), "cpu_seconds",
			 (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
			 "resident_bytes", (json_int_t)pages * sysconf(_SC_PAGESIZE));
}

static json_t *status_json(struct pipeline *p)
{
	char host[256] = "";
	json_t *json = json_object();

	gethostname(host, sizeof host - 1);
	json_object_set_new(json, "version", json_string(PACKAGE_VERSION));
	json_object_set_new(json, "host", json_string(host));
	json_object_set_new(json, "config_file", json_string(p->config->doc->file));
	json_object_set_new(json, "time", time_json((int64_t)(clock_wall() / 1000000000u)));
	json_object_set_new(json, "monotonic_seconds", json_real((double)clock_now() / 1e9));
	json_object_set_new(json, "process", process_json());
	json_object_set_new(json, "health", health_json(p));
	json_object_set_new(json, "components", components_json(p));
	json_object_set_new(json, "queues", queues_json(p));
	json_object_set_new(json, "links", links_json(p));
	json_object_set_new(json, "certificates", certificates_json(p));
	json_object_set_new(json, "spools", families_json(p, "semstreams_spool_"));
	json_object_set_new(json, "storage", families_json(p, "semstreams_storage_"));
	return json;
}

json_t *view_json(enum view view, struct pipeline *p)
{
	switch (view) {
	case VIEW_PIPELINE:
		return graph_json(p);
	case VIEW_COMPONENTS:
		return components_json(p);
	case VIEW_QUEUES:
		return queues_json(p);
	case VIEW_CERTIFICATES:
		return certificates_json(p);
	case VIEW_SPOOLS:
		return families_json(p, "semstreams_spool_");
	case VIEW_STORAGE:
		return families_json(p, "semstreams_storage_");
	default:
		return status_json(p);
	}
}
