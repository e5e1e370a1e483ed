/* SPDX-License-Identifier: MIT */
/* api - see api.h. */
#include "core/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/log_tail.h"
#include "core/admin/metrics.h"
#include "core/admin/page.h"
#include "core/cli/effective.h"
#include "core/config/config.h"
#include "core/flow/pipeline.h"
#include "core/peers_page.h"
#include "core/tap_view.h"
#include "core/view.h"

#define TICK_S    1.0 /* between two states of the live stream */
#define LOG_LINES 100

/* ---- documents ---- */

static int refuse(FILE *body, int status, const char *why)
{
	fprintf(body, "{\"error\":\"%s\"}\n", why);
	return status;
}

/* Takes the reference. */
static int print_json(json_t *json, FILE *body)
{
	int rc = json ? json_dumpf(json, body, JSON_COMPACT) : -1;

	json_decref(json);
	fputc('\n', body);
	return rc == 0 ? 200 : 500;
}

/* A document without arguments. */
static int print_view(const struct api *api, const struct admin_request *r, enum view view, const char *name,
		      FILE *body)
{
	static const char *const none[] = {NULL};
	json_t *json;

	if (admin_stray_argument(r, none))
		return refuse(body, 400, "this page has no arguments");
	json = view_json(view, api->pipeline);
	return print_json(name && json ? json_pack("{s:o}", name, json) : json, body);
}

static int page_status(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_STATUS, NULL, body);
}

static int page_pipeline(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_PIPELINE, NULL, body);
}

static int page_components(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_COMPONENTS, "components", body);
}

static int page_queues(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_QUEUES, "queues", body);
}

static int page_certificates(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_CERTIFICATES, "certificates", body);
}

static int page_spools(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_SPOOLS, "spools", body);
}

static int page_storage(void *arg, const struct admin_request *r, FILE *body)
{
	return print_view(arg, r, VIEW_STORAGE, "storage", body);
}

static int page_links(void *arg, const struct admin_request *r, FILE *body)
{
	const struct api *api = arg;

	return peers_page(api->pipeline, r, body);
}

static int page_log(void *arg, const struct admin_request *r, FILE *body)
{
	static const char *const known[] = {"after", NULL};
	const char *text = admin_argument(r, "after");
	struct ss_strbuf lines = {0};
	char *end = NULL;

	(void)arg;
	const uint64_t after = text ? strtoull(text, &end, 10) : 0;
	if (admin_stray_argument(r, known) || (text && (*text < '0' || *text > '9' || *end)))
		return refuse(body, 400, "the argument is after, the number of a line");
	const uint64_t newest = log_tail_print(after, LOG_LINES, &lines);
	fprintf(body, "{\"level\":\"%s\",\"lines\":[%s],\"newest\":%llu}\n", log_level_name(),
		ss_strbuf_cstr(&lines), (unsigned long long)newest);
	const bool failed = lines.failed;
	ss_strbuf_done(&lines);
	return failed ? 500 : 200;
}

/* {"level": "debug"} */
static int set_log_level(void *arg, const struct admin_request *r, FILE *body)
{
	size_t len;
	const char *text = admin_body(r, &len), *name;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	(void)arg;
	const int level = json_unpack_ex(json, NULL, JSON_STRICT, "{s:s}", "level", &name) == 0
				  ? log_level_parse(name)
				  : -EINVAL;
	json_decref(json);
	if (level < 0)
		return refuse(body, 400,
			      "expected {\\\"level\\\": \\\"error\\\", \\\"warn\\\", "
			      "\\\"info\\\" or \\\"debug\\\"}");
	log_set_level(level);
	log_info("Log level changed until the next start level=%s", log_level_name());
	fprintf(body, "{\"level\":\"%s\"}\n", log_level_name());
	return 200;
}

static int page_config(void *arg, const struct admin_request *r, FILE *body)
{
	static const char *const known[] = {"effective", NULL};
	const struct api *api = arg;
	const char *effective = admin_argument(r, "effective");

	if (admin_stray_argument(r, known) ||
	    (effective && strcmp(effective, "true") != 0 && strcmp(effective, "false") != 0))
		return refuse(body, 400, "the argument is effective, true or false");
	return print_json(
		effective_config(api->config, api->loader, !effective || strcmp(effective, "true") == 0),
		body);
}

static int page_metrics(void *arg, FILE *body)
{
	const struct api *api = arg;

	return metrics_print(api->metrics, body) == 0 ? 200 : 500;
}

static int page_live(void *arg, FILE *body)
{
	(void)arg; /* that somebody answers is the answer */
	fputs("{\"status\":\"ok\"}\n", body);
	return 200;
}

static int page_ready(void *arg, FILE *body)
{
	const struct api *api = arg;

	return health_print(api->pipeline->health, body) ? 200 : 503;
}

/* ---- the live stream: a state each second, and lines of the log as they come ---- */

/* "event: state\ndata: {...}\n\n" */
static void add_state(const struct api *api, struct ss_strbuf *out)
{
	json_t *json = view_json(VIEW_STATUS, api->pipeline);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (text) {
		ss_strbuf_text(out, "event: state\ndata: ");
		ss_strbuf_text(out, text);
		ss_strbuf_text(out, "\n\n");
	}
	free(text);
}

/* Lines behind number `after`; the number of the newest. */
static uint64_t add_lines(uint64_t after, struct ss_strbuf *out)
{
	struct ss_strbuf lines = {0};
	const uint64_t newest = log_tail_print(after, LOG_LINES, &lines);

	for (size_t i = 0; i < lines.len; i++)
		if (lines.bytes[i] == '\n')
			lines.bytes[i] = ' ';
	if (lines.len)
		ss_strbuf_printf(out, "event: log\ndata: [");
	ss_strbuf_add(out, lines.bytes ? lines.bytes : "", lines.len);
	if (lines.len)
		ss_strbuf_text(out, "]\n\n");
	ss_strbuf_done(&lines);
	return newest;
}

/* Building a state may take a tenth of the time at most, however many components there are, or one that does
 * not answer when it is asked for its links. */
static void on_tick(struct ev_loop *ev, struct ev_timer *w, int events)
{
	const uint64_t began = clock_now();
	struct api *api = w->data;
	struct ss_strbuf out = {0};

	(void)events;
	if (api->n_streams == 0) {
		ev_timer_stop(ev, w);
		return;
	}
	add_state(api, &out);
	api->log_number = add_lines(api->log_number, &out);
	for (size_t i = 0; i < api->n_streams; i++) /* who is behind misses this one */
		admin_stream_write(api->streams[i], out.bytes, out.len);
	ss_strbuf_done(&out);
	const double took = (double)(clock_now() - began) / 1e9;
	w->repeat = took * 10. > TICK_S ? took * 10. : TICK_S;
	ev_timer_again(ev, w);
}

struct watcher {
	struct api *api;
	struct admin_stream *stream;
};

static void on_gone(void *of)
{
	struct watcher *watcher = of;
	struct api *api = watcher->api;

	for (size_t i = 0; i < api->n_streams; i++)
		if (api->streams[i] == watcher->stream)
			api->streams[i] = api->streams[--api->n_streams];
	free(watcher);
}

static int open_events(void *arg, const struct admin_request *r, struct admin_stream *stream)
{
	struct api *api = arg;
	struct ss_strbuf out = {0};
	struct watcher *watcher;

	(void)r;
	if (api->n_streams == API_STREAMS_MAX || !(watcher = malloc(sizeof *watcher)))
		return 503;
	*watcher = (struct watcher){.api = api, .stream = stream};
	admin_stream_watch(stream, on_gone, watcher);
	api->streams[api->n_streams++] = stream;
	ss_strbuf_text(&out, "retry: 2000\n\n");
	add_state(api, &out);
	const uint64_t newest = add_lines(0, &out);
	admin_stream_write(stream, out.bytes, out.len);
	ss_strbuf_done(&out);
	if (!ev_is_active(&api->tick)) {
		api->log_number = newest;
		ev_timer_again(api->ev, &api->tick);
	}
	return 200;
}

/* ---- the table ---- */

#define JSON "application/json"

static const struct admin_page pages[] = {
	{.path = "/metrics",
	 .content_type = "text/plain; version=0.0.4; charset=utf-8",
	 .write = page_metrics},
	{.path = "/livez", .content_type = JSON, .write = page_live},
	{.path = "/readyz", .content_type = JSON, .write = page_ready},
	{.path = "/health", .content_type = JSON, .write = page_ready},
	{.path = "/peers", .content_type = JSON, .answer = page_links},
	{.path = "/api/v1/status", .content_type = JSON, .answer = page_status},
	{.path = "/api/v1/pipeline", .content_type = JSON, .answer = page_pipeline},
	{.path = "/api/v1/components", .content_type = JSON, .answer = page_components},
	{.path = "/api/v1/queues", .content_type = JSON, .answer = page_queues},
	{.path = "/api/v1/links", .content_type = JSON, .answer = page_links},
	{.path = "/api/v1/certificates", .content_type = JSON, .answer = page_certificates},
	{.path = "/api/v1/spools", .content_type = JSON, .answer = page_spools},
	{.path = "/api/v1/storage", .content_type = JSON, .answer = page_storage},
	{.path = "/api/v1/log", .content_type = JSON, .answer = page_log, .act = set_log_level},
	{.path = "/api/v1/config", .content_type = JSON, .answer = page_config},
	{.path = "/api/v1/tap", .content_type = "application/x-ndjson", .follow = tap_view_open},
	{.path = "/api/v1/events", .content_type = "text/event-stream", .open = open_events},
	{.path = NULL},
};

/* ---- the ports ---- */

/* One that nobody chose is not worth the start. */
static int open_socket(struct api *api, struct admin_settings *settings)
{
	const struct admin_config *config = &api->config->admin;
	char why[256], *listen = NULL;

	if (asprintf(&listen, "unix:%s", config->socket) < 0)
		return -ENOMEM;
	settings->listen = listen;
	settings->group = config->socket_group;
	int rc = admin_start(api->ev, settings, api, why, &api->socket);
	free(listen);
	if (rc && config->socket_chosen)
		log_error("Cannot open the admin socket; set \"admin\": {\"socket\": ...} error=\"%s\"", why);
	else if (rc)
		log_warn("Cannot open the admin socket, so commands cannot reach this host; set \"admin\": "
			 "{\"socket\": ...} error=\"%s\"",
			 why);
	return rc && config->socket_chosen ? rc : 0;
}

int api_open(struct api *api, struct ev_loop *ev, const struct admin_page *verbs)
{
	struct admin_settings settings = {.max_streams = api->config->admin.max_streams,
					  .pages = {pages, verbs, page_files}};
	int rc = 0;

	api->ev = ev;
	ev_timer_init(&api->tick, on_tick, 0., TICK_S);
	api->tick.data = api;
	if (api->config->admin_listen)
		rc = admin_port_open(&api->port, ev, api->config, api->pipeline->health, &settings, api);
	if (rc == 0 && api->config->admin.socket)
		rc = open_socket(api, &settings);
	return rc;
}

const char *api_address(const struct api *api)
{
	const struct admin *admin = api->port.now ? api->port.now : api->socket;

	return admin ? admin_address(admin) : "off";
}

void api_close(struct api *api)
{
	admin_port_close(&api->port);
	admin_stop(api->socket);
	api->socket = NULL;
	if (api->ev)
		ev_timer_stop(api->ev, &api->tick);
}
