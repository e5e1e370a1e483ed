/* SPDX-License-Identifier: MIT */
/* The metrics page: its exact text, hostile names and labels, and what promtool says of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/admin/metrics.h"

static char *print(struct metrics *m)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_int_equal(metrics_print(m, out), 0);
	fclose(out);
	assert_int_equal(strlen(text), size);
	return text;
}

static void expect(void (*collect)(void *, struct metrics_page *), const char *want)
{
	struct metrics *m = metrics_new();
	assert_int_equal(metrics_add_collector(m, collect, NULL), 0);
	char *text = print(m);
	assert_string_equal(text, want);
	free(text);
	metrics_free(m);
}

static void two_families(void *arg, struct metrics_page *page)
{
	(void)arg;
	char labels[64] = "", copy[] = "semstreams_events_in_total";
	metrics_label(labels, sizeof labels, "component", "udp");
	metrics_sample_int(page, "semstreams_events_in_total", "Events.", SS_METRIC_COUNTER, labels, 5);
	metrics_sample_int(page, "semstreams_events_held", "Held \\ events\nnow \"here\".", SS_METRIC_GAUGE,
			   NULL, -7);
	metrics_label(labels, sizeof labels, "x", "y");
	metrics_sample_int(page, strcmp(copy, "") ? "semstreams_events_in_total" : NULL, "Other.",
			   SS_METRIC_GAUGE, labels, INT64_MAX);
	metrics_sample_int(page, "semstreams_events_held", NULL, SS_METRIC_GAUGE, "", INT64_MIN);
}

static void test_families(void **state)
{
	(void)state;
	expect(two_families, "# HELP semstreams_events_in_total Events.\n"
			     "# TYPE semstreams_events_in_total counter\n"
			     "semstreams_events_in_total{component=\"udp\"} 5\n"
			     "semstreams_events_in_total{component=\"udp\",x=\"y\"} 9223372036854775807\n"
			     "# HELP semstreams_events_held Held \\\\ events\\nnow \"here\".\n"
			     "# TYPE semstreams_events_held gauge\n"
			     "semstreams_events_held -7\n"
			     "semstreams_events_held -9223372036854775808\n");
}

static const double values[] = {
	0, 1, -1, 0.1, 1.0 / 3, 1e14, 1e15, 1e22, 123456789.25, DBL_MIN, DBL_MAX, 5e-324, 1763287200.123};

static void doubles(void *arg, struct metrics_page *page)
{
	(void)arg;
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		metrics_sample(page, "v", "V.", SS_METRIC_GAUGE, NULL, values[i]);
	metrics_sample(page, "v", "V.", SS_METRIC_GAUGE, NULL, (double)NAN);
	metrics_sample(page, "v", "V.", SS_METRIC_GAUGE, NULL, (double)INFINITY);
	metrics_sample(page, "v", "V.", SS_METRIC_GAUGE, NULL, -(double)INFINITY);
}

static void test_doubles(void **state)
{
	(void)state;
	static const char want[] =
		"# HELP v V.\n# TYPE v gauge\n"
		"v 0\nv 1\nv -1\nv 0.1\nv 0.3333333333333333\nv 100000000000000\nv 1e+15\nv 1e+22\n"
		"v 123456789.25\nv 2.2250738585072014e-308\nv 1.7976931348623157e+308\n"
		"v 4.94065645841247e-324\nv 1763287200.123\nv NaN\nv +Inf\nv -Inf\n";
	expect(doubles, want);
	/* a locale with a decimal comma, where one is installed */
	static const char *const commas[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "nl_NL.UTF-8"};
	for (size_t i = 0; i < sizeof commas / sizeof commas[0]; i++) {
		if (!setlocale(LC_ALL, commas[i]))
			continue;
		expect(doubles, want);
		assert_string_equal(localeconv()->decimal_point, ",");
		setlocale(LC_ALL, "C");
		return;
	}
	print_message("no locale with a decimal comma installed: that part was not tested\n");
}

static void hostile(void *arg, struct metrics_page *page)
{
	(void)arg;
	static const char *const bad[] = {"x",
					  "x=",
					  "x=\"",
					  "x=\"a",
					  "x=\"a\",",
					  "x=\"a\"y=\"b\"",
					  "1x=\"a\"",
					  "x=\"a\nb\"",
					  "x=\"a\\x\"",
					  "x=\"a\\",
					  "x=\"\xff\"",
					  ",x=\"a\"",
					  "x=\"a\"} 5\ny{z=\"b\"",
					  " ",
					  "x:y=\"a\"",
					  "x=\"\xc3\"",
					  "x=\"a\\\""};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		metrics_sample_int(page, "good", "G.", SS_METRIC_GAUGE, bad[i], 1);
	metrics_sample_int(page, "bad name", "B.", SS_METRIC_GAUGE, NULL, 1);
	metrics_sample_int(page, "1bad", "B.", SS_METRIC_GAUGE, NULL, 1);
	metrics_sample_int(page, "", "B.", SS_METRIC_GAUGE, NULL, 1);
	metrics_sample_int(page, "a\nb", "B.", SS_METRIC_GAUGE, NULL, 1);
	metrics_sample_int(page, "good2", "bad \xff help", SS_METRIC_GAUGE, "x=\"} \\\" \\\\ \\n \xc3\xa9\"",
			   1);
}

static void test_hostile(void **state)
{
	(void)state;
	expect(hostile, "# HELP good2 bad \xef\xbf\xbd help\n# TYPE good2 gauge\n"
			"good2{x=\"} \\\" \\\\ \\n \xc3\xa9\"} 1\n"
			"# 21 samples left out: malformed name or labels\n");
}

static void test_label(void **state)
{
	(void)state;
	char buf[64] = "";
	metrics_label(buf, sizeof buf, "a", "q\"b\\s\nn\xff\xc3\xa9");
	assert_string_equal(buf, "a=\"q\\\"b\\\\s\\nn\xef\xbf\xbd\xc3\xa9\"");
	metrics_label(buf, sizeof buf, "b", "");
	assert_string_equal(buf, "a=\"q\\\"b\\\\s\\nn\xef\xbf\xbd\xc3\xa9\",b=\"\"");
	for (size_t size = 1; size < 20; size++) {
		memset(buf, '#', sizeof buf);
		buf[0] = '\0';
		metrics_label(buf, size, "key", "\"\"\"\"\"");
		assert_true(strlen(buf) < size);
		assert_int_equal(buf[size], '#');
		assert_true(buf[0] == '\0' || buf[strlen(buf) - 1] == '"');
		assert_int_equal(buf[0] != '\0', size >= 7);
	}
	snprintf(buf, sizeof buf, "a=\"1\"");
	metrics_label(buf, 9, "b", "2");
	assert_string_equal(buf, "a=\"1\"");
	metrics_label(buf, 12, "b", "2");
	assert_string_equal(buf, "a=\"1\",b=\"2\"");
}

/* Enough families and samples to fill buckets and grow buffers. */
static char names[1000][32];

static void many(void *arg, struct metrics_page *page)
{
	(void)arg;
	char label[32];
	for (int sample = 0; sample < 20; sample++) {
		for (int i = 0; i < 1000; i++) {
			label[0] = '\0';
			metrics_label(label, sizeof label, "n", (char[]){(char)('a' + sample), '\0'});
			metrics_sample_int(page, names[i], "N.", SS_METRIC_GAUGE, label, i);
		}
	}
}

static void test_many(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	for (int i = 0; i < 1000; i++)
		snprintf(names[i], sizeof names[i], "name_%d", i);
	metrics_add_collector(m, many, NULL);
	char *text = print(m), *save = NULL;
	int i = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), i++) {
		char want[128];
		int name = i / 22, row = i % 22;
		if (row == 0)
			snprintf(want, sizeof want, "# HELP name_%d N.", name);
		else if (row == 1)
			snprintf(want, sizeof want, "# TYPE name_%d gauge", name);
		else
			snprintf(want, sizeof want, "name_%d{n=\"%c\"} %d", name, 'a' + row - 2, name);
		assert_string_equal(line, want);
	}
	assert_int_equal(i, 22000);
	free(text);
	metrics_free(m);
	metrics_free(NULL);
}

static double value_of(const char *text, const char *name)
{
	char key[128];
	snprintf(key, sizeof key, "\n%s ", name);
	const char *p = strstr(text, key);
	if (!p)
		fail_msg("no %s", name);
	return strtod(p + strlen(key), NULL);
}

static void test_process(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	struct rlimit limit;
	assert_int_equal(metrics_add_process(m), 0);
	char *text = print(m);
	assert_non_null(strstr(text, "\nsemstreams_build_info{version=\""));
	assert_non_null(strstr(text, "\",abi=\"1\"} 1\n"));
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_true(value_of(text, "process_max_fds") == (double)limit.rlim_cur ||
		    limit.rlim_cur == RLIM_INFINITY);
	double start = value_of(text, "process_start_time_seconds"), now = (double)time(NULL);
	assert_true(start <= now + 1 && start > now - 3600);
	double resident = value_of(text, "process_resident_memory_bytes");
	assert_true(resident > 100000 && resident <= value_of(text, "process_virtual_memory_bytes"));
	assert_true(value_of(text, "process_cpu_seconds_total") > 0);
	assert_true(value_of(text, "process_threads") >= 1);
	double fds = value_of(text, "process_open_fds");
	free(text);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	text = print(m);
	assert_true(value_of(text, "process_open_fds") == fds + 1);
	assert_true(value_of(text, "process_start_time_seconds") == start);
	close(fd);
	free(text);
	metrics_free(m);
}

/* No complaint, not even about style. */
static void test_promtool(void **state)
{
	(void)state;
	if (system("promtool --version >/dev/null 2>&1") != 0) {
		print_message("promtool is not installed\n");
		skip();
	}
	char name[] = "/tmp/metrics.XXXXXX", command[128];
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	FILE *out = fdopen(fd, "w");
	struct metrics *m = metrics_new();
	metrics_add_process(m);
	metrics_add_collector(m, two_families, NULL);
	metrics_add_collector(m, hostile, NULL);
	metrics_add_collector(m, doubles, NULL);
	assert_int_equal(metrics_print(m, out), 0);
	fclose(out);
	snprintf(command, sizeof command, "promtool check metrics <%s 2>&1", name);
	FILE *lint = popen(command, "r");
	char said[4096];
	size_t n = fread(said, 1, sizeof said - 1, lint);
	said[n] = '\0';
	assert_string_equal(said, "");
	assert_int_equal(pclose(lint), 0);
	unlink(name);
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families), cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_hostile),  cmocka_unit_test(test_label),
		cmocka_unit_test(test_many),     cmocka_unit_test(test_process),
		cmocka_unit_test(test_promtool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
