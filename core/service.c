/* SPDX-License-Identifier: MIT */
#include "core/service.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/notify.h"
#include "core/flow/pipeline.h"
#include "core/report.h"

/* Longer than two ticks and than components are given to stop after draining; a host that hangs is ended
 * after that. */
#define EXTENSION "EXTEND_TIMEOUT_USEC=15000000"

/* A manager that is away must not fill the log, but who looks for why a start times out has to find it. */
static void warn(struct service *s, int rc)
{
	if (rc == -EAGAIN && !s->unread)
		log_warn("The service manager does not read its socket, see NOTIFY_SOCKET; what it was to be "
			 "told is sent again each second");
	else if (rc < 0 && rc != -EAGAIN)
		log_warn("Cannot notify the service manager, see NOTIFY_SOCKET error=\"%s\"", strerror(-rc));
	s->unread = rc == -EAGAIN;
}

/* Never waits: the control loop has others to serve. */
static void pay_owed(struct service *s)
{
	uint32_t sent = 0;

	for (; sent < s->n_owed; sent++) {
		const int rc = notify_send(s->owed[sent]);
		warn(s, rc);
		if (rc == -EAGAIN)
			break;
	}
	s->n_owed -= sent;
	memmove(s->owed[0], s->owed[sent], s->n_owed * sizeof s->owed[0]);
}

static void tell(struct service *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct service *s, const char *fmt, ...)
{
	va_list ap;

	if (s->n_owed == SERVICE_OWED) { /* a reload is two of them: the last ones count */
		s->n_owed -= 2;
		memmove(s->owed[0], s->owed[2], s->n_owed * sizeof s->owed[0]);
	}
	va_start(ap, fmt);
	vsnprintf(s->owed[s->n_owed++], sizeof s->owed[0], fmt, ap);
	va_end(ap);
	pay_owed(s);
}

static void on_watchdog(struct ev_loop *ev, ev_timer *w, int events)
{
	(void)ev;
	(void)events;
	struct service *s = w->data;

	if (!s->blocked)
		warn(s, notify_send("WATCHDOG=1"));
}

void service_init(struct service *s, const struct pipeline *p)
{
	const double every_s = (double)notify_watchdog_ns() / 1e9;

	*s = (struct service){.pipeline = p};
	ev_timer_init(&s->watchdog, on_watchdog, 0., every_s);
	s->watchdog.data = s;
}

static uint64_t count_held(const struct pipeline *p)
{
	uint64_t held = 0;

	for (size_t i = 0; i < p->n_components; i++) {
		struct totals t;
		report_totals(p->components[i], &t);
		held += t.held;
	}
	return held;
}

static void describe(const struct service *s, char *text, size_t size)
{
	char trouble[384];

	if (s->draining)
		snprintf(text, size, "draining, %llu events left",
			 (unsigned long long)count_held(s->pipeline));
	else if (health_summary(s->pipeline->health, trouble, sizeof trouble))
		snprintf(text, size, "running, but %s", trouble);
	else
		snprintf(text, size, "running");
}

void service_ready(struct service *s, struct ev_loop *ev)
{
	describe(s, s->status, sizeof s->status);
	tell(s, "READY=1\nSTATUS=%s", s->status);
	if (s->watchdog.repeat > 0.)
		ev_timer_start(ev, &s->watchdog);
}

void service_reloading(struct service *s)
{
	snprintf(s->status, sizeof s->status, "reading the configuration again");
	tell(s, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=%s", (unsigned long long)(clock_now() / 1000),
	     s->status);
}

void service_reloaded(struct service *s)
{
	describe(s, s->status, sizeof s->status);
	tell(s, "READY=1\nSTATUS=%s", s->status);
}

void service_stopping(struct service *s)
{
	s->draining = true;
	snprintf(s->status, sizeof s->status, "draining");
	tell(s, "STOPPING=1\nSTATUS=draining\n" EXTENSION);
}

static void set_blocked(struct service *s, bool blocked)
{
	if (blocked && !s->blocked && s->watchdog.repeat > 0.)
		log_error("A loop is blocked, see the lines above; the service manager's watchdog is not fed "
			  "until it answers, and restarts the program after that watchdog_s=%.0f",
			  2. * s->watchdog.repeat);
	s->blocked = blocked;
}

void service_tick(struct service *s, bool blocked)
{
	char status[sizeof s->status];

	set_blocked(s, blocked);
	describe(s, status, sizeof status);
	pay_owed(s);
	if (s->n_owed)
		return;
	bool news = strcmp(status, s->status) != 0;
	if (news || s->draining)
		tell(s, "STATUS=%s%s", status, s->draining ? "\n" EXTENSION : "");
	memcpy(s->status, status, sizeof status);
}
