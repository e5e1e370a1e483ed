/* SPDX-License-Identifier: MIT */
/*
 * A bare publisher of libnats, as tests/bench/nats.py compares nats_output with: asynchronous publishing to
 *JetStream, so many messages under way, and nothing else.
 *
 *	nats_publish URL SUBJECT COUNT SIZE PENDING
 *	nats_publish --loop URL SUBJECT COUNT SIZE PENDING
 *
 * Prints "events seconds cpu_seconds".  With --loop messages are published in portions of PENDING, each of
 *which is waited for, as `nats bench --js --pubbatch` does.  The first number of a message's payload is its
 *number.
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static _Noreturn void give_up(const char *what, natsStatus s)
{
	fprintf(stderr, "nats_publish: %s: %s\n", what, natsStatus_GetText(s));
	exit(1);
}

static void check(const char *what, natsStatus s)
{
	if (s != NATS_OK)
		give_up(what, s);
}

static volatile int refused;

static void on_refused(jsCtx *js, jsPubAckErr *e, void *arg)
{
	(void)js;
	(void)arg;
	if (!refused)
		fprintf(stderr, "nats_publish: refused: %s\n", e->ErrText);
	refused = 1;
}

static void wait_for_all(jsCtx *js)
{
	jsPubOptions o;

	jsPubOptions_Init(&o);
	o.MaxWait = 120000;
	check("waiting for acknowledgements", js_PublishAsyncComplete(js, &o));
}

int main(int argc, char **argv)
{
	const int loop = argc > 1 && strcmp(argv[1], "--loop") == 0;
	natsConnection *nc = NULL;
	jsCtx *js = NULL;
	jsOptions o;

	if (argc != 6 + loop) {
		fprintf(stderr, "usage: nats_publish [--loop] URL SUBJECT COUNT SIZE PENDING\n");
		return 2;
	}
	argv += loop;
	const long count = atol(argv[3]), size = atol(argv[4]), pending = atol(argv[5]);
	char *payload = malloc((size_t)size + 32);
	if (!payload || count < 1 || size < 32 || pending < 1)
		return 2;
	check("connecting", natsConnection_ConnectTo(&nc, argv[1]));
	jsOptions_Init(&o);
	o.PublishAsync.MaxPending = loop ? 0 : pending;
	o.PublishAsync.StallWait = 60000;
	o.PublishAsync.ErrHandler = on_refused;
	check("JetStream", natsConnection_JetStream(&js, nc, &o));

	const double began = seconds(), cpu = cpu_seconds();
	for (long i = 0; i < count && !refused; i++) {
		memset(payload, 'x', (size_t)size);
		const int n = snprintf(payload, 32, "{\"seq\":%ld,\"pad\":\"", 1000000000 + i);
		payload[n] = 'x';
		memcpy(payload + size - 2, "\"}", 2);
		check("publishing", js_PublishAsync(js, argv[2], payload, (int)size, NULL));
		if (loop && (i + 1) % pending == 0)
			wait_for_all(js);
	}
	wait_for_all(js);
	printf("%ld %.6f %.6f\n", count, seconds() - began, cpu_seconds() - cpu);
	jsCtx_Destroy(js);
	natsConnection_Destroy(nc);
	nats_Close();
	free(payload);
	return refused;
}
