/* SPDX-License-Identifier: MIT */
/* health - a list of the components that cannot work; those that can are not in it.  Any thread; one mutex.
 */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/admin/health.h"
#include "core/admin/hidden.h"
#include <semstreams/base/utf8.h>

struct trouble {
	struct trouble *next;
	char *component;
	char reason[512];
	bool mild;    /* degraded only */
	time_t since; /* of the first reason, not the latest */
};

struct health {
	pthread_mutex_t lock;
	struct trouble *troubles; /* oldest first */
	struct timespec started;
};

struct health *health_new(void)
{
	struct health *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	pthread_mutex_init(&h->lock, NULL);
	clock_gettime(CLOCK_MONOTONIC, &h->started);
	return h;
}

static void trouble_free(struct trouble *t)
{
	if (!t)
		return;
	free(t->component);
	free(t);
}

void health_free(struct health *h)
{
	if (!h)
		return;
	for (struct trouble *t = h->troubles, *next; t; t = next) {
		next = t->next;
		trouble_free(t);
	}
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* Copy what is UTF-8, '?' for other bytes; cut between characters. */
static void copy_text(char *to, size_t size, const char *s)
{
	uint32_t code;
	size_t at = 0, used, n = strlen(s);
	for (; n > 0; s += used, n -= used) {
		used = ss_utf8_next(s, n, &code);
		bool good = used > 0;
		if (!good)
			used = 1;
		if (at + used >= size)
			break;
		memcpy(to + at, good ? s : "?", used);
		at += used;
	}
	to[at] = '\0';
}

static struct trouble *trouble_new(const char *component)
{
	struct trouble *t = calloc(1, sizeof *t);
	size_t size = strlen(component) + 1;
	if (!t || !(t->component = malloc(size))) {
		trouble_free(t);
		return NULL;
	}
	copy_text(t->component, size, component);
	t->since = time(NULL);
	return t;
}

/* [lock] */
static bool set(struct health *h, const char *component, const char *reason, bool mild)
{
	struct trouble **at = &h->troubles, *t;
	while (*at && ((*at)->mild != mild || strcmp((*at)->component, component) != 0))
		at = &(*at)->next;
	t = *at;
	if (!reason) {
		if (t)
			*at = t->next;
		trouble_free(t);
		return t != NULL;
	}
	char text[sizeof t->reason], shown[2 * sizeof text];
	copy_text(text, sizeof text, hidden_any() ? hidden_text(reason, shown, sizeof shown) : reason);
	if (t && strcmp(t->reason, text) == 0)
		return false;
	if (!t)
		t = *at = trouble_new(component);
	if (!t)
		return false;
	memcpy(t->reason, text, sizeof text);
	t->mild = mild;
	return true;
}

bool health_set(struct health *h, const char *component, const char *reason)
{
	pthread_mutex_lock(&h->lock);
	bool changed = set(h, component, reason, false);
	pthread_mutex_unlock(&h->lock);
	return changed;
}

bool health_degrade(struct health *h, const char *component, const char *reason)
{
	pthread_mutex_lock(&h->lock);
	bool changed = set(h, component, reason, true);
	pthread_mutex_unlock(&h->lock);
	return changed;
}

bool health_reason(struct health *h, const char *component, char *text, size_t size)
{
	const struct trouble *found = NULL;
	pthread_mutex_lock(&h->lock);
	for (const struct trouble *t = h->troubles; t; t = t->next)
		if (strcmp(t->component, component) == 0 && (!found || found->mild))
			found = t;
	if (found)
		copy_text(text, size, found->reason);
	pthread_mutex_unlock(&h->lock);
	return found != NULL;
}

/* Of two, which is told first?  Who has just asked for a reload wants to know whether it was accepted. */
static int urgency(const struct trouble *t)
{
	return strcmp(t->component, HEALTH_CONFIGURATION) == 0 ? 2 : !t->mild;
}

bool health_summary(struct health *h, char *text, size_t size)
{
	const struct trouble *first = NULL;
	char more[32] = "";
	size_t n = 0;

	pthread_mutex_lock(&h->lock);
	for (const struct trouble *t = h->troubles; t; t = t->next, n++)
		if (!first || urgency(t) > urgency(first))
			first = t;
	if (n > 1)
		snprintf(more, sizeof more, "; and %zu more", n - 1);
	if (first)
		snprintf(text, size, "%s: %.200s%s", first->component, first->reason, more);
	pthread_mutex_unlock(&h->lock);
	for (char *c = text; first && *c; c++)
		if ((unsigned char)*c < ' ') /* a line feed would begin another assignment */
			*c = ' ';
	return first != NULL;
}

static json_t *trouble_json(const struct trouble *t)
{
	char since[32] = "";
	struct tm tm;
	if (gmtime_r(&t->since, &tm))
		strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_pack("{s:s, s:s, s:s}", "component", t->component, "reason", t->reason, "since", since);
}

bool health_print(struct health *h, FILE *out)
{
	struct timespec now;
	json_t *reasons = json_array(), *degraded = json_array();
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&h->lock);
	bool ready = true;
	for (struct trouble *t = h->troubles; t; t = t->next) {
		json_array_append_new(t->mild ? degraded : reasons, trouble_json(t));
		ready = ready && t->mild;
	}
	pthread_mutex_unlock(&h->lock);
	json_int_t uptime = now.tv_sec - h->started.tv_sec - (now.tv_nsec < h->started.tv_nsec);
	json_t *root = json_pack("{s:s, s:I, s:o, s:o}", "status", ready ? "ready" : "not ready",
				 "uptime_seconds", uptime, "reasons", reasons, "degraded", degraded);
	if (root) {
		json_dumpf(root, out, JSON_COMPACT);
		fputc('\n', out);
	}
	json_decref(root);
	return ready;
}
