/* SPDX-License-Identifier: MIT */
#include "core/run.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/ext/tls.h>
#include "core/api.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/config/descriptors.h"
#include "core/config/diag.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/metrics.h"
#include "core/flow/crash.h"
#include "core/flow/pipeline.h"
#include "core/flow/providers.h"
#include "core/flow/watch/control_watch.h"
#include "core/flow/watch/watchdog.h"
#include "core/config_watch.h"
#include "core/reload.h"
#include "core/report.h"
#include "core/sandbox.h"
#include "core/service.h"
#include "core/undrained.h"

enum { EXIT_BAD_CONFIG = 78 };

struct run {
	struct api api; /* first: verbs get it */
	const struct run_options *options;
	struct loader *loader;
	struct ev_loop *ev;
	struct pipeline *pipeline;
	struct metrics *metrics;
	ev_signal term, interrupt, hangup;
	ev_async closed;   /* a component has closed */
	ev_timer deadline; /* of draining */
	ev_timer ping, crl, second;
	struct service service;
	struct sandbox sandbox;
	struct reload *reload;
	ev_timer step; /* wakes the loop while components drain for a reload */
	struct config_watch config_watch;
	bool reloading;
	const char *again;           /* by whom it was asked for once more; NULL: by nobody */
	struct admin_request *asked; /* for a reload, of the admin port: to be answered */
	ev_timer ask;                /* its event is fed: begins what was asked for */
	int signal;                  /* to end the program, that came meanwhile; 0: none */
	bool hurries;                /* it came twice */
	bool draining, forced;
	uint64_t term_ns; /* when it was asked to end, monotonic */
};

/* ---- the end ---- */

static void on_component_closed(void *arg)
{
	struct run *r = arg;

	ev_async_send(r->ev, &r->closed);
}

static void on_closed(struct ev_loop *ev, ev_async *w, int events)
{
	(void)events;
	struct run *r = w->data;

	if (pipeline_drained(r->pipeline))
		ev_break(ev, EVBREAK_ALL);
}

static void on_deadline(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)events;
	struct run *r = w->data;

	undrained_tell(r->pipeline);
	r->forced = true;
	ev_break(ev, EVBREAK_ALL);
}

/* began_ns: when it was asked for. */
static void begin_to_end(struct run *r, int signal, uint64_t began_ns)
{
	const uint64_t now_ns = clock_now(), until_ns = began_ns + r->options->shutdown_timeout_ns;

	r->draining = true;
	r->term_ns = began_ns;
	log_info("Shutting down signal=%s", sigabbrev_np(signal));
	service_stopping(&r->service);
	health_set(r->pipeline->health, "host", "shutting down");
	ev_timer_set(&r->deadline, until_ns > now_ns ? (double)(until_ns - now_ns) / 1e9 : 0., 0.);
	ev_timer_start(r->ev, &r->deadline);
	pipeline_drain(r->pipeline, on_component_closed, r);
}

static void on_term(struct ev_loop *ev, ev_signal *w, int events)
{
	(void)events;
	struct run *r = w->data;
	const uint64_t repeat_ns =
		1000000000u; /* a supervisor that signals process and group means it once */

	if ((r->draining || r->signal) && clock_now() - r->term_ns < repeat_ns)
		return;
	if (r->draining) {
		log_warn("Second signal, stopping at once signal=%s", sigabbrev_np(w->signum));
		r->forced = true;
		ev_break(ev, EVBREAK_ALL);
		return;
	}
	if (!r->reloading) {
		begin_to_end(r, w->signum, clock_now());
		return;
	}
	log_info("Shutting down when the reload under way is over signal=%s", sigabbrev_np(w->signum));
	r->hurries = r->signal != 0;
	r->signal = w->signum;
	r->term_ns = clock_now();
}

/* ---- reloading ---- */

static void on_step(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)ev;
	(void)w;
	(void)events; /* that the loop wakes up is all that matters */
}

/* While components drain, the rest goes on. */
static void wait_a_moment(void *arg, uint64_t ns)
{
	struct run *r = arg;

	ev_timer_set(&r->step, (double)ns / 1e9, 0.);
	ev_timer_start(r->ev, &r->step);
	ev_run(r->ev, EVRUN_ONCE);
	ev_timer_stop(r->ev, &r->step);
}

/* Who leaves may drain for half of the time there is; the other half is for those who take its place. */
static bool is_to_end(void *arg)
{
	const struct run *r = arg;

	return r->hurries || (r->signal && clock_now() - r->term_ns >= r->options->shutdown_timeout_ns / 2);
}

/* What was asked for meanwhile is done afterwards. */
static int reload(struct run *r, struct diag *diag)
{
	r->reloading = true;
	service_reloading(&r->service);
	control_watch_begin(r->pipeline->config->watchdog_ns, NULL);
	int rc = reload_run(r->reload, diag);
	control_watch_end();
	service_reloaded(&r->service);
	r->reloading = false;
	r->api.config = r->pipeline->config;
	if (rc == -EIO) {
		r->forced = true;
		ev_break(r->ev, EVBREAK_ALL);
	} else if (r->signal) {
		begin_to_end(r, r->signal, r->term_ns);
	}
	return rc;
}

/* All that is read from files; by whom it was asked for goes to the log. */
static int reload_all(struct run *r, const char *by, struct diag *diag)
{
	log_info("Reading the configuration and certificate files again %s", by);
	tls_identity_reload(r->pipeline->tls);
	admin_port_reload(&r->api.port);
	int rc = reload(r, diag);
	if (rc != -EIO)
		providers_retry(r->pipeline->providers, r->pipeline->n_providers);
	return rc;
}

/* Now, or when the one that is under way is over. */
static void reload_soon(struct run *r, const char *by)
{
	struct diag diag;

	for (r->again = by; r->again && !r->reloading && !r->draining && !r->forced;) {
		by = r->again;
		r->again = NULL;
		diag_init(&diag);
		reload_all(r, by, &diag);
		diag_done(&diag);
	}
}

static void on_config_changed(void *arg)
{
	reload_soon(arg, "by=--watch-config");
}

static void answer(struct run *r, struct admin_request *request, int rc, const struct diag *diag)
{
	char *text = NULL;
	size_t n = 0;
	FILE *body = open_memstream(&text, &n);
	int status = body ? reload_answer(r->reload, rc, diag, body) : 500;

	if (body && fclose(body) != 0)
		status = 500;
	admin_answer(request, status, text, n);
}

/* Not within the call of a page: no other one could be served meanwhile. */
static void on_asked(struct ev_loop *ev, ev_timer *w, int events)
{
	struct run *r = w->data;
	struct admin_request *request = r->asked;
	struct diag diag;
	int rc = -EBUSY;

	(void)ev;
	(void)events;
	diag_init(&diag);
	if (r->draining || r->reloading)
		diag_add(&diag, DIAG_ERROR, NULL, (struct place){0}, NULL, "%s",
			 r->draining ? "the program is shutting down"
				     : "the configuration is being reloaded already; try again");
	else
		rc = reload_all(r, "by=/api/v1/reload", &diag);
	r->asked = NULL;
	answer(r, request, rc, &diag);
	diag_done(&diag);
	if (r->again)
		reload_soon(r, r->again);
}

static void begin_reload(void *arg, struct admin_request *request)
{
	struct run *r = arg;
	struct diag diag;

	if (!r->asked) {
		r->asked = request;
		ev_feed_event(r->ev, &r->ask, EV_TIMER);
		return;
	}
	diag_init(&diag);
	diag_add(&diag, DIAG_ERROR, NULL, (struct place){0}, NULL,
		 "the configuration is being reloaded already; try again");
	answer(r, request, -EBUSY, &diag);
	diag_done(&diag);
}

/* What POST does, by who may: see docs/admin-api.md.  Their arg is struct run. */
static const struct admin_page verbs[] = {
	{.path = "/api/v1/reload", .content_type = "application/json", .begin = begin_reload},
	{.path = NULL},
};

static void on_hangup(struct ev_loop *ev, ev_signal *w, int events)
{
	(void)ev;
	(void)events;
	reload_soon(w->data, "signal=HUP");
}

/* ---- regular work ---- */

static void on_ping(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)ev;
	(void)events;
	struct run *r = w->data;

	admin_port_poll(&r->api.port);
	tls_identity_poll(r->pipeline->tls);
	tls_identity_remind(r->pipeline->tls, clock_now());
}

static void on_crl(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)ev;
	(void)events;
	struct run *r = w->data;

	tls_identity_poll_crls(r->pipeline->tls);
}

static void on_second(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)ev;
	(void)events;
	struct run *r = w->data;

	service_tick(&r->service, watchdog_look(r->pipeline));
	pipeline_reap(r->pipeline);
	log_tick();
}

static void mask_hangup(int how)
{
	sigset_t hangup;

	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	sigprocmask(how, &hangup, NULL);
}

void run_hold_hangup(void)
{
	mask_hangup(SIG_BLOCK);
}

static void watch(struct run *r)
{
	const double ping_s = 5., crl_s = 0.2; /* who is revoked is to be cut off within a second */

	ev_signal_init(&r->term, on_term, SIGTERM);
	ev_signal_init(&r->interrupt, on_term, SIGINT);
	ev_signal_init(&r->hangup, on_hangup, SIGHUP);
	ev_async_init(&r->closed, on_closed);
	ev_timer_init(&r->deadline, on_deadline, 0., 0.);
	ev_timer_init(&r->ping, on_ping, ping_s, ping_s);
	ev_timer_init(&r->crl, on_crl, crl_s, crl_s);
	ev_timer_init(&r->second, on_second, 1., 1.);
	ev_timer_init(&r->step, on_step, 0., 0.);
	ev_timer_init(&r->ask, on_asked, 0., 0.);
	r->second.data = r->step.data = r->ask.data = r;
	r->term.data = r->interrupt.data = r->hangup.data = r->closed.data = r->deadline.data = r->ping.data =
		r->crl.data = r;
	ev_signal_start(r->ev, &r->term);
	ev_signal_start(r->ev, &r->interrupt);
	ev_signal_start(r->ev, &r->hangup);
	ev_async_start(r->ev, &r->closed);
	ev_timer_start(r->ev, &r->ping);
	if (tls_identity_has_crls(r->pipeline->tls))
		ev_timer_start(r->ev, &r->crl);
	ev_timer_start(r->ev, &r->second);
	mask_hangup(SIG_UNBLOCK);
}

/* The bare minimum if a component hangs: its thread may be anywhere. */
static _Noreturn void end_hard(const struct pipeline *p)
{
	report_stopped(p);
	log_flush();
	_exit(EXIT_FAILURE);
}

static int watch_config(struct run *r, const struct config *config)
{
	if (!r->options->watch_config)
		return 0;
	int rc = config_watch_start(&r->config_watch, r->ev, config->doc->file, on_config_changed, r);
	if (rc)
		log_error("Cannot watch the configuration; leave --watch-config out, or name a file file=%s "
			  "error=\"%s\"",
			  config->doc->file, strerror(-rc));
	return rc;
}

static int serve(struct run *r, const struct config *config)
{
	const uint64_t stop_timeout_ns = 5000000000u;
	uint64_t started = clock_now();

	int rc = api_open(&r->api, r->ev, verbs);
	if (rc == 0)
		rc = watch_config(r, config);
	if (rc == 0)
		rc = sandbox_enter(&r->sandbox, config);
	control_watch_begin(config->watchdog_ns, NULL);
	if (rc == 0)
		rc = pipeline_start(r->pipeline);
	control_watch_end();
	if (rc)
		return EXIT_FAILURE;
	log_info("Pipeline running components=%zu threads=%zu admin=%s start_ms=%.1f config=%s",
		 r->pipeline->n_components, r->pipeline->n_workers, api_address(&r->api),
		 (double)(clock_now() - started) / 1e6, config->doc->file);
	service_ready(&r->service, r->ev);

	ev_run(r->ev, 0);

	if (pipeline_stop(r->pipeline, stop_timeout_ns))
		end_hard(r->pipeline);
	uint64_t lost = report_stopped(r->pipeline);
	if (lost)
		log_error("Events were lost at the end, see the lines above events=%llu",
			  (unsigned long long)lost);
	log_info("Stopped drained=%s", r->forced || lost ? "false" : "true");
	return r->forced || lost ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Whatever the parent left behind: our signals come; a closed pipe or a file at its size limit is an error
 * code. */
static void set_up_signals(void)
{
	sigset_t ours;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

static void log_warning(const struct diag_item *item)
{
	char reason[2048], file[512], pointer[512];

	log_value(reason, sizeof reason, item->text);
	if (!item->file)
		log_warn("Configuration warning reason=%s", reason);
	else
		log_warn("Configuration warning file=%s line=%u column=%u pointer=%s reason=%s",
			 log_value(file, sizeof file, item->file), item->place.line, item->place.column,
			 log_value(pointer, sizeof pointer, item->pointer ? item->pointer : ""), reason);
}

void run_log_warnings(const struct diag *diag)
{
	for (size_t i = 0; i < diag->n; i++)
		if (diag->items[i].level == DIAG_WARN)
			log_warning(&diag->items[i]);
}

/* Before a library runs out of them in the middle of something. */
static bool has_descriptors(const struct config *config)
{
	const uint64_t limit = descriptors_set(0), least = descriptors_least(config->n_components);

	if (limit < least)
		log_error("No more than %llu files can be open (RLIMIT_NOFILE), and %llu are needed to "
			  "start; raise the limit (LimitNOFILE of systemd, the ulimit nofile of a container)",
			  (unsigned long long)limit, (unsigned long long)least);
	return limit >= least;
}

static struct reload *make_reload(struct run *r)
{
	const uint64_t drain_ns = 10000000000u;
	const struct reload_setup setup = {
		.pipeline = r->pipeline,
		.loader = r->loader,
		.sandbox = &r->sandbox,
		.log_level = r->options->log_level,
		.log_json = r->options->log_json,
		.drain_ns = r->options->shutdown_timeout_ns < drain_ns ? r->options->shutdown_timeout_ns
								       : drain_ns,
		.wait = wait_a_moment,
		.hurry = is_to_end,
		.arg = r,
	};

	return reload_new(&setup);
}

/* In another thread, while a component's destroy() keeps the program from ending. */
static void end_without_it(void)
{
	log_error("Ending without the component that does not return, see the lines above");
	log_flush();
	_exit(EXIT_FAILURE);
}

static void free_pipeline(struct pipeline *p)
{
	control_watch_begin(p ? p->config->watchdog_ns : 0, end_without_it);
	pipeline_free(p);
	control_watch_end();
}

int run_host(struct config *config, struct loader *loader, const struct run_options *options)
{
	struct run r = {.options = options, .loader = loader};
	struct diag diag;
	int code = EXIT_FAILURE;

	set_up_signals();
	crash_watch(config->log_json);
	diag_init(&diag);
	log_info("Starting semstreams version=%s components=%zu", PACKAGE_VERSION, config->n_components);

	if (!has_descriptors(config))
		goto out;
	/* not beyond: a sandbox is for each thread that there is afterwards */
	control_watch_begin(config->watchdog_ns, NULL);
	int rc = pipeline_create(config, &diag, &r.pipeline);
	control_watch_end();
	if (rc) {
		diag_print(&diag, stderr);
		code = rc == -ENOMEM ? EXIT_FAILURE : EXIT_BAD_CONFIG;
		goto out;
	}
	run_log_warnings(&diag);
	descriptors_set(claims_descriptors(config->claims, 0));
	r.ev = ev_default_loop(EVFLAG_NOENV);
	r.metrics = metrics_new();
	r.reload = make_reload(&r);
	if (!r.ev || !r.metrics || !r.reload || metrics_add_process(r.metrics) ||
	    metrics_add_collector(r.metrics, report_collect, r.pipeline) ||
	    metrics_add_collector(r.metrics, reload_collect, r.reload)) {
		log_error("Out of memory or file descriptors at start");
		goto out;
	}
	r.api.pipeline = r.pipeline;
	r.api.config = config;
	r.api.loader = loader;
	r.api.metrics = r.metrics;
	service_init(&r.service, r.pipeline);
	watch(&r);
	code = serve(&r, config);
out:
	config_watch_stop(&r.config_watch);
	api_close(&r.api);
	sandbox_done(&r.sandbox);
	metrics_free(r.metrics);
	reload_free(r.reload);
	free_pipeline(r.pipeline);
	crash_unwatch();
	diag_done(&diag);
	log_flush();
	return code;
}
