/* SPDX-License-Identifier: MIT */
/* host_command - see host_command.h.  What a host says may hold texts of strangers: see clean(). */
#include "core/cli/host_command.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>
#include "core/cli/cli.h"
#include "core/cli/effective.h"
#include "core/cli/host_client.h"
#include "core/cli/load.h"
#include "core/cli/table.h"

/* ---- reading an answer ---- */

static int complain(const char *why)
{
	fprintf(stderr, "semstreams: %s\n", why);
	return 1;
}

/* The document at path; NULL: told on stderr, or in why where that is not NULL. */
static json_t *get(const struct host_address *at, const char *path, char *told)
{
	struct ss_strbuf answer = {0};
	json_t *json = NULL;
	char why[512];

	int status = host_ask(at, path, NULL, &answer, why);
	if (status >= 0 && status != 200)
		snprintf(why, sizeof why, "the host at %.200s says %d: %.200s", at->text, status,
			 ss_strbuf_cstr(&answer));
	if (status == 200) {
		json = json_loadb(answer.bytes ? answer.bytes : "", answer.len, 0, NULL);
		snprintf(why, sizeof why, "what the host at %.300s says is no JSON", at->text);
	}
	ss_strbuf_done(&answer);
	if (!json && told)
		snprintf(told, 512, "%s", why);
	else if (!json)
		complain(why);
	return json;
}

static int print_json(json_t *json)
{
	int rc = json_dumpf(json, stdout, JSON_INDENT(2));

	putchar('\n');
	json_decref(json);
	return rc == 0 ? 0 : 1;
}

/* A text without what moves a cursor, in one of a few buffers that take turns. */
static const char *clean(const json_t *value)
{
	static char buffers[8][256];
	static unsigned turn;
	char *to = buffers[turn++ % 8];
	const char *from = json_string_value(value);
	size_t n = 0;

	for (; from && *from && n + 1 < sizeof buffers[0]; from++) {
		const unsigned char c = (unsigned char)*from;
		const bool c1 = c == 0xc2 && (unsigned char)from[1] >= 0x80 && (unsigned char)from[1] < 0xa0;
		to[n++] = c < 0x20 || c == 0x7f || c1 ? '?' : *from;
		from += c1;
	}
	to[n] = '\0';
	return to;
}

static const char *text(const json_t *object, const char *key)
{
	return clean(json_object_get(object, key));
}

static long long number(const json_t *object, const char *key)
{
	return (long long)json_number_value(json_object_get(object, key));
}

/* The most of its limits that a queue uses, per cent. */
static int fill(const json_t *queue)
{
	const double events =
		100.0 * (double)number(queue, "events") / (double)number(queue, "capacity_events");
	const double bytes = 100.0 * (double)number(queue, "bytes") / (double)number(queue, "capacity_bytes");

	return (int)(events > bytes ? events : bytes);
}

/* Of the fullest queue before a component; -1: there is none. */
static int fullest(const json_t *status, const char *id)
{
	const json_t *queue;
	size_t i;
	int most = -1;

	json_array_foreach(json_object_get(status, "queues"), i, queue)
	{
		const char *to = json_string_value(json_object_get(queue, "to"));
		if (to && strcmp(to, id) == 0 && fill(queue) > most)
			most = fill(queue);
	}
	return most;
}

/* "file, edge" */
static void print_names(const json_t *list, char *to, size_t size)
{
	const json_t *name;
	size_t i, n = 0;

	*to = '\0';
	json_array_foreach(list, i, name) if (n < size) n +=
		(size_t)snprintf(to + n, size - n, "%s%s", i ? ", " : "", clean(name));
}

/* ---- tables ---- */

static void print_table(struct table *t)
{
	putchar('\n');
	table_print(t, 0, stdout);
	table_done(t);
}

static void add_heads(struct table *t, const char *const *heads)
{
	for (size_t i = 0; i < t->columns; i++)
		table_add(t, "%s", heads[i]);
}

static void print_health(const json_t *status)
{
	static const char *const lists[] = {"reasons", "degraded"};
	const json_t *health = json_object_get(status, "health"), *row;
	char span[32];
	size_t k;

	printf("semstreams %s on %s, up %s, %s\n", text(status, "version"), text(status, "host"),
	       ss_format_span(number(health, "uptime_seconds") * 1000000000, span, sizeof span),
	       text(health, "status"));
	for (size_t i = 0; i < 2; i++)
		json_array_foreach(json_object_get(health, lists[i]), k, row)
			printf("%s  %s: %s (since %s)\n", i ? "worse " : "cannot", text(row, "component"),
			       text(row, "reason"), text(row, "since"));
}

static void print_components(const json_t *status)
{
	static const char *const heads[] = {"COMPONENT", "IN",   "OUT",   "FILTERED",
					    "DROPPED",   "HELD", "QUEUE", "WAITS FOR"};
	struct table t = {.columns = 8};
	const json_t *c;
	size_t i;

	add_heads(&t, heads);
	json_array_foreach(json_object_get(status, "components"), i, c)
	{
		const int most = fullest(status, text(c, "id"));
		char names[256];
		table_add(&t, "%s", text(c, "id"));
		table_add(&t, "%lld", number(c, "in"));
		table_add(&t, "%lld", number(c, "out"));
		table_add(&t, "%lld", number(c, "filtered"));
		table_add(&t, "%lld", number(c, "dropped"));
		table_add(&t, "%lld", number(c, "held"));
		if (most < 0)
			table_add(&t, "-");
		else
			table_add(&t, "%d%%", most);
		print_names(json_object_get(c, "held_up_by"), names, sizeof names);
		table_add(&t, "%s", names);
	}
	print_table(&t);
}

static void print_links(const json_t *status)
{
	static const char *const heads[] = {"LINK", "PEER",    "STATE",    "SINCE",
					    "LAG",  "UNACKED", "EVENTS/S", "LAST ERROR"};
	const json_t *links = json_object_get(status, "links"), *row;
	struct table t = {.columns = 8};
	size_t i;

	if (json_array_size(json_object_get(links, "peers")) == 0)
		return;
	add_heads(&t, heads);
	json_array_foreach(json_object_get(links, "peers"), i, row)
	{
		const bool named = json_is_string(json_object_get(row, "name"));
		table_add(&t, "%s", text(row, "component"));
		table_add(&t, "%s", text(row, named ? "name" : "address"));
		table_add(&t, "%s", text(row, "state"));
		table_add(&t, "%s", text(row, "since"));
		table_add(&t, "%lld", number(row, "lag"));
		table_add(&t, "%lld", number(row, "unacknowledged"));
		table_add(&t, "%.1f", json_number_value(json_object_get(row, "rate")));
		table_add(&t, "%s", text(row, "last_error"));
	}
	print_table(&t);
	if (number(links, "total") > (long long)i)
		printf("and %lld more: see /api/v1/links\n", number(links, "total") - (long long)i);
}

static void print_certificates(const json_t *status)
{
	static const char *const heads[] = {"CERTIFICATE",  "SUBJECT",  "VALID UNTIL", "LEFT",
					    "NEXT RENEWAL", "FAILURES", "LAST ERROR"};
	const json_t *list = json_object_get(status, "certificates"), *row;
	struct table t = {.columns = 7};
	char span[32];
	size_t i;

	if (json_array_size(list) == 0)
		return;
	add_heads(&t, heads);
	json_array_foreach(list, i, row)
	{
		const long long left = number(row, "remaining_seconds");
		table_add(&t, "%s, %s", text(row, "role"), text(row, "mode"));
		table_add(&t, "%s", text(row, "subject"));
		table_add(&t, "%s", text(row, "not_after"));
		if (!json_is_string(json_object_get(row, "not_after")))
			table_add(&t, "none");
		else
			table_add(&t, "%s%s", left < 0 ? "expired " : "",
				  ss_format_span((left < 0 ? -left : left) * 1000000000, span, sizeof span));
		table_add(&t, "%s", text(row, "next_renewal"));
		table_add(&t, "%lld", number(row, "failures_in_a_row"));
		table_add(&t, "%s", text(row, "last_error"));
	}
	print_table(&t);
}

static void print_spools(const json_t *status)
{
	static const char *const heads[] = {"SPOOL", "USED", "LIMIT", "OLDEST", "LOST", "CORRUPT"};
	const json_t *list = json_object_get(status, "spools"), *row;
	struct table t = {.columns = 6};
	char used[32], limit[32], age[32];
	size_t i;

	if (json_array_size(list) == 0)
		return;
	add_heads(&t, heads);
	json_array_foreach(list, i, row)
	{
		table_add(&t, "%s", text(row, "component"));
		table_add(&t, "%s", ss_format_about((uint64_t)number(row, "used_bytes"), used, sizeof used));
		table_add(&t, "%s",
			  ss_format_about((uint64_t)number(row, "limit_bytes"), limit, sizeof limit));
		table_add(&t, "%s",
			  ss_format_span(number(row, "oldest_age_seconds") * 1000000000, age, sizeof age));
		table_add(&t, "%lld", number(row, "lost_events_total"));
		table_add(&t, "%lld", number(row, "corrupt_events"));
	}
	print_table(&t);
}

static bool is_ready(const json_t *status)
{
	return strcmp(text(json_object_get(status, "health"), "status"), "ready") == 0;
}

static int status_command(const struct cli_options *o, const struct host_address *at)
{
	json_t *status = get(at, "/api/v1/status", NULL);
	int code;

	if (!status)
		return 1;
	code = is_ready(status) ? 0 : 1;
	if (o->json)
		return print_json(status) ? 1 : code;
	print_health(status);
	print_components(status);
	print_links(status);
	print_certificates(status);
	print_spools(status);
	json_decref(status);
	return code;
}

/* ---- top ---- */

static const json_t *find_component(const json_t *status, const char *id)
{
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(status, "components"), i, c)
	{
		const char *name = json_string_value(json_object_get(c, "id"));
		if (name && strcmp(name, id) == 0)
			return c;
	}
	return NULL;
}

/* Per second between the two; a counter that fell back was another process's. */
static double rate(const json_t *before, const json_t *now, const char *key, double seconds)
{
	const long long n = number(now, key) - number(before, key);

	return before && n > 0 && seconds > 0 ? (double)n / seconds : 0.0;
}

static json_t *rates_json(const json_t *before, const json_t *now)
{
	static const char *const keys[] = {"in", "out", "filtered", "dropped"};
	const double seconds = json_number_value(json_object_get(now, "monotonic_seconds")) -
			       json_number_value(json_object_get(before, "monotonic_seconds"));
	json_t *list = json_array();
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(now, "components"), i, c)
	{
		const char *id = json_string_value(json_object_get(c, "id"));
		const json_t *was = id ? find_component(before, id) : NULL;
		const int most = id ? fullest(now, id) : -1;
		json_t *row = json_pack("{s:s?, s:O, s:O, s:O?}", "id", id, "type",
					json_object_get(c, "type"), "held", json_object_get(c, "held"),
					"held_up_by", json_object_get(c, "held_up_by"));
		for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
			char name[32];
			snprintf(name, sizeof name, "%s_per_second", keys[k]);
			json_object_set_new(row, name, json_real(rate(was, c, keys[k], seconds)));
		}
		json_object_set_new(row, "queue_percent", most < 0 ? json_null() : json_integer(most));
		json_array_append_new(list, row);
	}
	return json_pack("{s:f, s:O?, s:o, s:O?}", "seconds", seconds, "health",
			 json_object_get(now, "health"), "components", list, "links",
			 json_object_get(json_object_get(now, "links"), "peers"));
}

static void print_top(const json_t *rates)
{
	static const char *const heads[] = {"COMPONENT", "IN/S", "OUT/S", "FILTERED/S",
					    "DROPPED/S", "HELD", "QUEUE", "WAITS FOR"};
	static const char *const keys[] = {"in_per_second", "out_per_second", "filtered_per_second",
					   "dropped_per_second"};
	struct table t = {.columns = 8};
	const json_t *c;
	size_t i;

	add_heads(&t, heads);
	json_array_foreach(json_object_get(rates, "components"), i, c)
	{
		const json_t *queue = json_object_get(c, "queue_percent");
		char names[256];
		table_add(&t, "%s", text(c, "id"));
		for (size_t k = 0; k < 4; k++)
			table_add(&t, "%.0f", json_number_value(json_object_get(c, keys[k])));
		table_add(&t, "%lld", number(c, "held"));
		if (json_is_integer(queue))
			table_add(&t, "%lld%%", (long long)json_integer_value(queue));
		else
			table_add(&t, "-");
		print_names(json_object_get(c, "held_up_by"), names, sizeof names);
		table_add(&t, "%s", names);
	}
	print_table(&t);
}

static void pause_for(int64_t ns)
{
	struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	fflush(stdout);
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* One picture of the time between two answers. */
static int show(const struct cli_options *o, const json_t *before, const json_t *now, bool clear)
{
	json_t *rates = rates_json(before, now);

	if (o->json)
		return print_json(rates);
	if (clear)
		fputs("\033[H\033[J", stdout);
	print_health(now);
	print_top(rates);
	print_links(now);
	json_decref(rates);
	return ferror(stdout) ? 1 : 0;
}

/* Until it is interrupted, or with --once a single time; a host that is restarted meanwhile comes back. */
static int top_command(const struct cli_options *o, const struct host_address *at)
{
	const bool clear = !o->once && !o->json && isatty(STDOUT_FILENO);
	json_t *before = get(at, "/api/v1/status", NULL);
	int code = before ? 0 : 1;
	char why[512];

	while (code == 0) {
		pause_for(o->interval_ns);
		json_t *now = get(at, "/api/v1/status", why);
		if (now)
			code = show(o, before, now, clear);
		else if (o->once)
			code = complain(why);
		else
			printf("%s%s\n", clear ? "\033[H\033[J" : "", why);
		if (now) {
			json_decref(before);
			before = now;
		}
		if (o->once)
			break;
	}
	json_decref(before);
	return code;
}

/* ---- reload ---- */

static void print_problems(const json_t *answer, FILE *to)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(json_object_get(answer, "problems"), i, problem)
	{
		const char *file = json_string_value(json_object_get(problem, "file"));
		const char *pointer = json_string_value(json_object_get(problem, "pointer"));
		fprintf(to, "%s ", json_string_value(json_object_get(problem, "level")));
		if (file)
			fprintf(to, "%s:%" JSON_INTEGER_FORMAT ":%" JSON_INTEGER_FORMAT " %s  ", file,
				json_integer_value(json_object_get(problem, "line")),
				json_integer_value(json_object_get(problem, "column")),
				pointer ? pointer : "");
		fprintf(to, "%s\n", json_string_value(json_object_get(problem, "reason")));
	}
}

static json_int_t number_of(const json_t *answer, const char *change)
{
	return json_integer_value(json_object_get(json_object_get(answer, "components"), change));
}

static void print_reload(const json_t *answer, bool success)
{
	const json_int_t generation = json_integer_value(json_object_get(answer, "generation"));

	print_problems(answer, stderr);
	if (!success) {
		fprintf(stderr, "semstreams: refused, generation %" JSON_INTEGER_FORMAT " goes on\n",
			generation);
		return;
	}
	printf("generation %" JSON_INTEGER_FORMAT ": %" JSON_INTEGER_FORMAT " kept, %" JSON_INTEGER_FORMAT
	       " changed in place, %" JSON_INTEGER_FORMAT " replaced, %" JSON_INTEGER_FORMAT
	       " added, %" JSON_INTEGER_FORMAT " removed\n",
	       generation, number_of(answer, "none"), number_of(answer, "in_place"),
	       number_of(answer, "replaced"), number_of(answer, "added"), number_of(answer, "removed"));
}

static int reload_command(const struct cli_options *o, const struct host_address *at)
{
	struct ss_strbuf text = {0};
	char why[512];

	int status = host_ask(at, "/api/v1/reload", "", &text, why);
	json_t *answer = status > 0 ? json_loadb(text.bytes ? text.bytes : "", text.len, 0, NULL) : NULL;
	if (!answer && status > 0)
		snprintf(why, sizeof why, "the host at %.200s says %d: %.200s", at->text, status,
			 ss_strbuf_cstr(&text));
	ss_strbuf_done(&text);
	if (!answer)
		return complain(why);
	if (o->json || !json_object_get(answer, "generation"))
		print_json(answer);
	else {
		print_reload(answer, status == 200);
		json_decref(answer);
	}
	return status == 200 ? 0 : 1;
}

/* ---- config show ---- */

static int config_command(const struct cli_options *o)
{
	struct loaded l;
	json_t *json = NULL;

	int rc = load_config(o, &l);
	diag_print(&l.diag, stderr);
	if (rc == 0)
		json = effective_config(l.config, l.loader, o->effective);
	load_done(&l);
	if (json)
		return print_json(json);
	return rc == -EINVAL ? EXIT_CONFIG : complain("out of memory");
}

int host_command(const struct cli_options *o)
{
	struct host_address at;
	json_t *json;

	if (o->command == CLI_CONFIG_SHOW && !o->running)
		return config_command(o);
	if (host_find(o, &at))
		return o->config ? EXIT_CONFIG : 1;
	if (o->command == CLI_STATUS)
		return status_command(o, &at);
	if (o->command == CLI_RELOAD)
		return reload_command(o, &at);
	if (o->command == CLI_TOP)
		return top_command(o, &at);
	json = get(&at, o->effective ? "/api/v1/config" : "/api/v1/config?effective=false", NULL);
	return json ? print_json(json) : 1;
}
