/* SPDX-License-Identifier: MIT */
/*
 * metrics - collects samples from whoever has them and prints the Prometheus text format (version 0.0.4).
 * Collectors are added by the control thread at start and run in the thread that prints.
 */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <semstreams/plugin.h> /* SS_METRIC_... */

struct metrics;
struct metrics_page; /* samples of one scrape, grouped by family */

struct metrics *metrics_new(void);
void metrics_free(struct metrics *);
/* 0 or -ENOMEM */
int metrics_add_collector(struct metrics *, void (*collect)(void *arg, struct metrics_page *), void *arg);

/*
 * One sample, from a collector.  Equal names make one family; the first name, help and kind count.  name and
 * help must outlive the page.  labels is the text between the braces without them, NULL or "" for none, each
 * value escaped with metrics_label; copied.
 */
void metrics_sample(struct metrics_page *, const char *name, const char *help, uint32_t kind,
		    const char *labels, double value);
void metrics_sample_int(struct metrics_page *, const char *name, const char *help, uint32_t kind,
			const char *labels, int64_t value);
/* The metrics of the host itself; names, kinds and helps are in metrics.c, those of plugins in their own
 * tables. */
enum host_metric {
	METRIC_EVENTS_IN,
	METRIC_EVENTS_CREATED,
	METRIC_EVENTS_OUT,
	METRIC_EVENTS_FILTERED,
	METRIC_EVENTS_DROPPED,
	METRIC_EVENTS_HELD,
	METRIC_EVENTS_OVERDUE,
	METRIC_POSITIONS,
	METRIC_POSITIONS_RETIRED,
	METRIC_QUEUE_EVENTS,
	METRIC_QUEUE_CAPACITY,
	METRIC_QUEUE_BYTES,
	METRIC_QUEUE_CAPACITY_BYTES,
	METRIC_TLS_FAILURES,
	METRIC_TLS_REVOKED_PEERS,
	METRIC_CERTIFICATE_EXPIRY_TIME,
	METRIC_CERTIFICATE_EXPIRY,
	METRIC_CRL_EXPIRY_TIME,
	METRIC_CRL_REVOKED,
	METRIC_TLS_RELOADS,
	METRIC_TLS_RELOAD_FAILURES,
	METRIC_TLS_INSECURE,
	METRIC_TLS_FALLBACK,
	METRIC_RELOAD_GENERATION,
	METRIC_RELOADS,
	METRIC_RELOAD_LAST_SUCCESS,
	METRIC_RELOAD_LAST_TIME,
	METRIC_RELOAD_PAUSE,
	METRIC_RELOAD_COMPONENTS,
	METRIC_BUILD_INFO,
	METRIC_PROCESS_CPU,
	METRIC_PROCESS_OPEN_FDS,
	METRIC_PROCESS_MAX_FDS,
	METRIC_PROCESS_VIRTUAL,
	METRIC_PROCESS_RESIDENT,
	METRIC_PROCESS_THREADS,
	METRIC_PROCESS_START,
	HOST_METRICS,
};
void metrics_host(struct metrics_page *, enum host_metric, const char *labels, int64_t value);
void metrics_host_real(struct metrics_page *, enum host_metric, const char *labels, double value);
/* key="value" with the value escaped, appended to buf (with a comma if buf is not empty), cut at size. */
void metrics_label(char *buf, size_t size, const char *key, const char *value);

/* Run all collectors and print; families in the order they first appeared.  0 or -ENOMEM. */
int metrics_print(struct metrics *, FILE *);

/* semstreams_build_info and the process_* family, as Prometheus clients name them. */
int metrics_add_process(struct metrics *);
