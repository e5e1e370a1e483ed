/* SPDX-License-Identifier: MIT */
/*
 * fanin - thousands of edges in one process, dialing one hub: certificates of their own, the link protocol as
 * a real sender speaks it, and some hostile ones if asked.  tests/bench/fanin.py runs it.
 *
 *     fanin --port N --edges N [--ca-cert FILE --ca-key FILE --trust FILE] [--rate N] [--size N] [--hostile
 * %]
 *
 * Commands on stdin, each answered by a line of JSON: "start" and "stop" events; "stats"; "mark" the time
 * from which "wait back SECONDS" counts good edges that are live again; "wait acked SECONDS" until all that
 * was made is acknowledged; "report FILE" for fanin_check; end of file ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "core/fields/fields.h"
#include "fanin.h"

struct command {
	struct fanin *f;
	struct ev_io in;
	struct ev_timer poll, tick;
	char text[256];
	size_t len;
	char waits_for; /* 'b' or 'a', 0 = for nothing */
	uint64_t marked_ns, deadline_ns;
};

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

uint64_t pick(struct fanin *f, uint64_t n)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return f->random * UINT64_C(2685821657736338717) % n;
}

_Noreturn void die(const char *what)
{
	fprintf(stderr, "fanin: %s: %s\n", what, errno ? strerror(errno) : "wrong");
	exit(1);
}

/* ---- answers ---- */

/* Upper edge of the bucket below which this share of the latencies lies, ms. */
static double latency(const struct totals *t, double share)
{
	uint64_t all = 0, below = 0;

	for (int i = 0; i < BUCKETS; i++)
		all += t->latency[i];
	for (int i = 0; all && i < BUCKETS; i++) {
		below += t->latency[i];
		if ((double)below >= share * (double)all)
			return (double)(i < 8 ? (uint64_t)i + 1 : (uint64_t)(i % 8 + 9) << (i / 8 - 1)) /
			       1000;
	}
	return 0;
}

static void sums(const struct fanin *f, uint64_t made[2], uint64_t acked[2])
{
	made[0] = made[1] = acked[0] = acked[1] = 0;
	for (uint64_t i = 0; i < f->conf.edges; i++) {
		bool hostile = f->edges[i].kind != GOOD;
		made[hostile] += edge_made(&f->edges[i]);
		acked[hostile] += f->edges[i].acked;
	}
}

static void print_stats(struct fanin *f)
{
	struct totals *t = &f->totals;
	uint64_t made[2], acked[2];

	sums(f, made, acked);
	printf("{\"t\":%.6f,\"edges\":%llu,\"good\":%llu,\"live\":%llu,\"good_live\":%llu,\"made\":%llu,"
	       "\"acked\":"
	       "%llu,\"hostile_acked\":%llu,\"dials\":%llu,\"handshakes\":%llu,\"lives\":%llu,\"messages\":%"
	       "llu,"
	       "\"bytes\":%llu,\"acks\":%llu,\"ack_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f},\"why\":\"%"
	       "s\","
	       "\"ends\":{",
	       (double)now_ns() / 1e9, (unsigned long long)f->conf.edges, (unsigned long long)f->n_good,
	       (unsigned long long)f->n_live, (unsigned long long)f->n_good_live, (unsigned long long)made[0],
	       (unsigned long long)acked[0], (unsigned long long)acked[1], (unsigned long long)t->dials,
	       (unsigned long long)t->handshakes, (unsigned long long)t->lives,
	       (unsigned long long)t->messages, (unsigned long long)t->bytes, (unsigned long long)t->acks,
	       latency(t, 0.5), latency(t, 0.99), latency(t, 1), t->why);
	for (int i = 0; i < CODES && t->codes[i].n; i++)
		printf("%s\"%d\":%llu", i ? "," : "", t->codes[i].code, (unsigned long long)t->codes[i].n);
	puts("}}");
	memset(t->latency, 0, sizeof t->latency);
}

static void report(const struct fanin *f, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file)
		die(path);
	for (uint64_t i = 0; i < f->conf.edges; i++) {
		const struct edge *e = &f->edges[i];
		fprintf(file, "%s %llu %llu\n", e->name, (unsigned long long)e->acked,
			(unsigned long long)edge_made(e));
	}
	if (fclose(file))
		die(path);
	puts("{}");
}

/* ---- commands ---- */

static void print_wait(struct command *c, bool done, uint64_t n)
{
	const struct totals *t = &c->f->totals;

	c->waits_for = 0;
	printf("{\"done\":%s,\"n\":%llu,\"of\":%llu,\"seconds\":%.6f,\"handshakes\":%llu,\"handshake_"
	       "seconds\":%.6f}\n",
	       done ? "true" : "false", (unsigned long long)n, (unsigned long long)c->f->n_good,
	       (double)(now_ns() - c->marked_ns) / 1e9, (unsigned long long)t->handshakes_marked,
	       (double)(t->handshake_last - t->handshake_first) / 1e9);
	fflush(stdout);
}

static void on_poll(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct command *c = timer->data;
	struct fanin *f = c->f;
	uint64_t n = 0;

	(void)loop;
	(void)events;
	if (!c->waits_for)
		return;
	if (c->waits_for == 'b')
		n = f->n_good_live == f->n_good ? f->n_back : f->n_good_live;
	for (uint64_t i = 0; c->waits_for == 'a' && i < f->conf.edges; i++)
		n += f->edges[i].kind == GOOD && f->edges[i].acked == edge_made(&f->edges[i]);
	if (n == f->n_good || now_ns() >= c->deadline_ns)
		print_wait(c, n == f->n_good, n);
}

static void mark(struct command *c)
{
	struct fanin *f = c->f;

	for (uint64_t i = 0; i < f->conf.edges; i++)
		f->edges[i].back = false;
	f->n_back = 0;
	f->totals.handshakes_marked = 0;
	f->totals.handshake_first = f->totals.handshake_last = 0;
	c->marked_ns = now_ns();
}

static void start(struct fanin *f)
{
	struct timespec wall;

	f->start_ns = now_ns();
	clock_gettime(CLOCK_REALTIME, &wall);
	f->wall_ns = (uint64_t)wall.tv_sec * SEC + (uint64_t)wall.tv_nsec - f->start_ns;
	for (uint64_t i = 0; i < f->conf.edges; i++)
		edge_wake(&f->edges[i]);
}

static void obey(struct command *c, char *line)
{
	struct fanin *f = c->f;

	if (strncmp(line, "wait ", 5) == 0 && strchr(line + 5, ' ')) {
		c->waits_for = line[5];
		c->deadline_ns = now_ns() + strtoull(strchr(line + 5, ' '), NULL, 10) * SEC;
		return; /* answered by on_poll */
	}
	if (strncmp(line, "report ", 7) == 0) {
		report(f, line + 7);
	} else if (strcmp(line, "stats") == 0) {
		print_stats(f);
	} else {
		if (strcmp(line, "start") == 0)
			start(f);
		else if (strcmp(line, "stop") == 0)
			f->stop_ns = now_ns();
		else if (strcmp(line, "mark") == 0)
			mark(c);
		else
			die(line);
		puts("{}");
	}
	fflush(stdout);
}

static void on_command(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct command *c = io->data;
	ssize_t n = read(0, c->text + c->len, sizeof c->text - 1 - c->len);

	(void)events;
	if (n <= 0) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	c->len += (size_t)n;
	c->text[c->len] = '\0';
	char *line = c->text, *end;
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		obey(c, line);
		line = end + 1;
	}
	c->len = strlen(line);
	memmove(c->text, line, c->len);
}

static void on_tick(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct command *c = timer->data;

	(void)loop;
	(void)events;
	for (uint64_t i = 0; i < c->f->conf.edges; i++)
		edge_tick(&c->f->edges[i]);
}

/* ---- options ---- */

static const struct option names[] = {
	{"address", 1, NULL, 'a'},      {"port", 1, NULL, 'p'},
	{"path", 1, NULL, 'P'},         {"edges", 1, NULL, 'n'},
	{"rate", 1, NULL, 'r'},         {"size", 1, NULL, 's'},
	{"ca-cert", 1, NULL, 'c'},      {"ca-key", 1, NULL, 'k'},
	{"trust", 1, NULL, 't'},        {"hostile", 1, NULL, 'H'},
	{"flush-ms", 1, NULL, 'f'},     {"retry-min-ms", 1, NULL, 'm'},
	{"retry-max-ms", 1, NULL, 'M'}, {"retry-stable-ms", 1, NULL, 'S'},
	{"spread-ms", 1, NULL, 'w'},    {"heartbeat-ms", 1, NULL, 'b'},
	{"seed", 1, NULL, 'z'},         {"plain", 0, NULL, 'x'},
	{"streams", 0, NULL, 'y'},      {NULL, 0, NULL, 0},
};

static void read_options(struct conf *c, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		uint64_t number = optarg ? strtoull(optarg, NULL, 10) : 0;
		switch (option) {
		case 'a':
			c->address = optarg;
			break;
		case 'p':
			c->port = number;
			break;
		case 'P':
			c->path = optarg;
			break;
		case 'n':
			c->edges = number;
			break;
		case 'r':
			c->rate = strtod(optarg, NULL);
			break;
		case 's':
			c->size = number;
			break;
		case 'c':
			c->ca_cert = optarg;
			break;
		case 'k':
			c->ca_key = optarg;
			break;
		case 't':
			c->trust = optarg;
			break;
		case 'H':
			c->hostile = number;
			break;
		case 'f':
			c->flush_ms = number;
			break;
		case 'm':
			c->retry_min_ms = number;
			break;
		case 'M':
			c->retry_max_ms = number;
			break;
		case 'S':
			c->retry_stable_ms = number;
			break;
		case 'w':
			c->spread_ms = number;
			break;
		case 'b':
			c->heartbeat_ms = number;
			break;
		case 'z':
			c->seed = number;
			break;
		case 'x':
			c->plain = true;
			break;
		case 'y':
			c->streams = true;
			break;
		default:
			exit(2);
		}
	}
	if (!c->port || !c->edges || c->size > 65536 || c->edges > 60000 || c->hostile > 100 ||
	    !!c->ca_cert != (c->ca_key && c->trust)) {
		fputs("fanin: see its first lines for how it is used\n", stderr);
		exit(2);
	}
}

static void prepare(struct fanin *f)
{
	struct rlimit limit;

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	f->random = f->conf.seed;
	if (!f->random && getrandom(&f->random, sizeof f->random, 0) < 0)
		die("getrandom");
	f->random |= 1;
	f->period_ns = f->conf.rate > 0 ? (uint64_t)(1e9 / f->conf.rate) : 0;
	f->loop = ev_default_loop(EVFLAG_AUTO);
	f->edges = calloc(f->conf.edges, sizeof *f->edges);
	if (!f->loop || !f->edges || link_control_reader(&fields_service, NULL, &f->reader) < 0)
		die("start");
	if (f->conf.ca_cert)
		certs_open(f);
	for (uint32_t i = 0; i < f->conf.edges; i++)
		edge_init(f, i);
}

int main(int argc, char **argv)
{
	static struct fanin f = {.conf = {.address = "127.0.0.1",
					  .path = "/fan-in",
					  .size = 100,
					  .flush_ms = 1,
					  .retry_min_ms = 500,
					  .retry_max_ms = 30000,
					  .retry_stable_ms = 60000,
					  .heartbeat_ms = 20000}};
	static struct command c = {.f = &f};

	read_options(&f.conf, argc, argv);
	prepare(&f);
	ev_io_init(&c.in, on_command, 0, EV_READ);
	ev_timer_init(&c.poll, on_poll, 0.01, 0.01);
	ev_timer_init(&c.tick, on_tick, 1, 1);
	c.in.data = c.poll.data = c.tick.data = &c;
	ev_io_start(f.loop, &c.in);
	ev_timer_start(f.loop, &c.poll);
	ev_timer_start(f.loop, &c.tick);
	mark(&c);
	ev_run(f.loop, 0);
	return 0;
}
