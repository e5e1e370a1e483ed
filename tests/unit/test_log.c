/* SPDX-License-Identifier: MIT */
/* Lines of the log: both formats, hostile text, repeats by a fake clock, a reader that stands still, many
 * threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "core/admin/log.c" /* for its clock and its descriptor */

static struct timespec fake = {.tv_sec = 1763287200}; /* 2025-11-16T10:00:00.000Z */
#define T "2025-11-16T10:00:00.000Z "

static int fake_clock(clockid_t id, struct timespec *now)
{
	(void)id;
	*now = fake;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	sink.fd = memfd_create("log", MFD_CLOEXEC);
	sink.clock = fake_clock;
	sink.stuck = sink.torn = false;
	sink.lost = 0;
	memset(sink.repeats, 0, sizeof sink.repeats);
	fake.tv_sec = 1763287200;
	log_setup(SS_LOG_DEBUG, false);
	return sink.fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	return close(sink.fd);
}

/* What was written since the last call; static memory. */
static const char *written(void)
{
	static char buf[1 << 20];
	ssize_t n = pread(sink.fd, buf, sizeof buf - 1, 0);
	assert_true(n >= 0);
	buf[n] = '\0';
	assert_int_equal(ftruncate(sink.fd, 0), 0);
	lseek(sink.fd, 0, SEEK_SET);
	return buf;
}

static void expect_text(const char *component, const char *text, const char *want)
{
	log_text(SS_LOG_INFO, component, text);
	assert_string_equal(written(), want);
}

static void test_logfmt(void **state)
{
	(void)state;
	expect_text(NULL, "Server started", T "INFO Server started\n");
	expect_text("udp", "Server started port=8080", T "INFO Server started port=8080 component=udp\n");
	expect_text("udp", "Bare", T "INFO Bare component=udp\n");
	expect_text("a", "key=1", T "INFO key=1 component=a\n");
	expect_text(NULL, "key=1", T "INFO key=1\n");
	expect_text("a", "", T "INFO component=a\n");
	expect_text("a", "Text  k=1   l=2  ", T "INFO Text k=1 l=2 component=a\n");
	expect_text("a", "Reason was reason=it broke down code=7",
		    T "INFO Reason was reason=\"it broke down\" code=7 component=a\n");
	expect_text("a", "Domains domains=[\"x.y\", \"k= z=1\"] n=2",
		    T "INFO Domains domains=\"[\\\"x.y\\\", \\\"k= z=1\\\"]\" n=2 component=a\n");
	expect_text(NULL, "Domains domains=[\"x.y\",\"z\"] e= f=a=b",
		    T "INFO Domains domains=[\"x.y\",\"z\"] e=\"\" f=\"a=b\"\n");
	expect_text("a", "Name \"x y=1\" is bad k=\"a \\\" b=2\"",
		    T "INFO Name \"x y=1\" is bad k=\"a \\\" b=2\" component=a\n");
	expect_text("a", "A 5\" disk k=1 \"open", T "INFO A 5\" disk k=\"1 \\\"open\" component=a\n");
	expect_text("a", "Not keys: A=1 =2 9a=3 a-b=4 ok.k_1=5",
		    T "INFO Not keys: A=1 =2 9a=3 a-b=4 ok.k_1=5 component=a\n");
	log_printf(SS_LOG_ERROR, "x", "Number %d n=%d", 1, 2);
	log_warn("Two");
	log_debug("Three");
	log_printf(5, NULL, "Four");
	log_printf(INT32_MIN, NULL, "Five");
	assert_string_equal(written(), T "ERROR Number 1 n=2 component=x\n" T "WARN Two\n" T "DEBUG Three\n" T
					 "WARN Four\n" T "ERROR Five\n");
	log_setup(SS_LOG_WARN, false);
	assert_true(log_enabled(SS_LOG_WARN));
	assert_false(log_enabled(SS_LOG_INFO));
	log_info("Unseen");
	assert_string_equal(written(), "");
}

static void test_hostile_logfmt(void **state)
{
	(void)state;
	expect_text("a", "One\n" T "INFO Forged\r\t\x1b[31m\x7f k=a\nb",
		    T "INFO One\\n" T "INFO Forged\\r\\t\\x1b[31m\\x7f k=a\\nb component=a\n");
	expect_text("a", "k=\"a\nb\"", T "INFO k=\"a\\nb\" component=a\n");
	expect_text("a\nb", "M", T "INFO M component=a\\nb\n");
	expect_text(NULL, "bad \xff\xc3 \xc0\xaf \xed\xa0\x80 \xf5 good \xc3\xa9 \xf0\x9f\x90\x84",
		    T
		    "INFO bad \\xff\\xc3 \\xc0\\xaf \\xed\\xa0\\x80 \\xf5 good \xc3\xa9 \xf0\x9f\x90\x84\n");
	expect_text(NULL, "csi \xc2\x9b bidi \xe2\x80\xae line \xe2\x80\xa8",
		    T "INFO csi \\u009b bidi \\u202e line \\u2028\n");
}

static json_t *json_line(const char *component, const char *text)
{
	json_error_t error;
	log_text(SS_LOG_INFO, component, text);
	const char *line = written();
	size_t n = strlen(line);
	assert_true(n > 0 && n <= LINE_SIZE);
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	json_t *root = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!root)
		fail_msg("%s in %s", error.text, line);
	assert_true(json_is_string(json_object_get(root, "time")));
	assert_string_equal(json_string_value(json_object_get(root, "level")), "INFO");
	assert_true(json_is_string(json_object_get(root, "message")));
	return root;
}

static void test_json(void **state)
{
	(void)state;
	log_setup(SS_LOG_DEBUG, true);
	expect_text("udp", "Started port=8080 rate=-0.5 name=\"a b\" d=[\"x\", \"y\"]",
		    "{\"time\":\"2025-11-16T10:00:00.000Z\",\"level\":\"INFO\",\"message\":\"Started\","
		    "\"component\":\"udp\","
		    "\"port\":8080,\"rate\":-0.5,\"name\":\"a b\",\"d\":\"[\\\"x\\\", \\\"y\\\"]\"}\n");
	expect_text(NULL, "",
		    "{\"time\":\"2025-11-16T10:00:00.000Z\",\"level\":\"INFO\",\"message\":\"\"}\n");
	/* numbers and what only looks like them */
	expect_text(
		NULL,
		"a=0 b=-0 c=007 d=1. e=.5 f=1e5 g=1.2.3 h=- i= j=5 MB k=\"5\" l=999999999999999999 "
		"m=9999999999999999999 n=+1 o=0.25",
		"{\"time\":\"2025-11-16T10:00:00.000Z\",\"level\":\"INFO\",\"message\":\"\",\"a\":0,\"b\":-0,"
		"\"c\":\"007\","
		"\"d\":\"1.\",\"e\":\".5\",\"f\":\"1e5\",\"g\":\"1.2.3\",\"h\":\"-\",\"i\":\"\",\"j\":"
		"\"5 MB\","
		"\"k\":\"5\",\"l\":999999999999999999,\"m\":\"9999999999999999999\",\"n\":\"+1\",\"o\":0."
		"25}\n");
	expect_text(NULL, "M a=true b=false c=\"true\" d=True e=null",
		    "{\"time\":\"2025-11-16T10:00:00.000Z\",\"level\":\"INFO\",\"message\":\"M\",\"a\":true,"
		    "\"b\":false,\"c\":\"true\",\"d\":\"True\",\"e\":\"null\"}\n");
	json_t *root =
		json_line("c", "M time=1 level=2 message=3 component=4 \\ v=\"q\\\"\\\\\\n\\x41\\z\\x4\"");
	assert_string_equal(json_string_value(json_object_get(root, "component")), "c");
	assert_int_equal(json_integer_value(json_object_get(root, "_time")), 1);
	assert_string_equal(json_string_value(json_object_get(root, "_component")), "4 \\");
	assert_string_equal(json_string_value(json_object_get(root, "v")), "q\"\\\nA\\z\\x4");
	json_decref(root);
	root = json_line("c", "M\n\"\\\x01 \xff \xc2\x9b k=\x02");
	assert_string_equal(json_string_value(json_object_get(root, "message")),
			    "M\n\"\\\x01 \xef\xbf\xbd \xc2\x9b");
	assert_string_equal(json_string_value(json_object_get(root, "k")), "\x02");
	json_decref(root);
}

/* Whatever bytes, of whatever length: one line, at most 4 KiB, valid JSON. */
static void test_any_bytes(void **state)
{
	(void)state;
	static const char alphabet[] = "a=\"\\ \n\xff\xc3\xa9x0.\x01{}[]_k=1 ";
	char text[2 * LINE_SIZE];
	unsigned seed = 1;
	for (int round = 0; round < 4000; round++) {
		size_t n = round < 3000 ? seed % 200 : LINE_SIZE - 300 + seed % 600;
		for (size_t i = 0; i < n; i++) {
			seed = seed * 1103515245u + 12345u;
			text[i] = round % 2 ? alphabet[(seed >> 16) % (sizeof alphabet - 1)]
					    : (char)((seed >> 16) | 1);
		}
		text[n] = '\0';
		seed = seed * 1103515245u + 12345u;
		fake.tv_sec += 60;
		log_setup(SS_LOG_DEBUG, true);
		log_text(SS_LOG_INFO, "c", text);
		const char *line = written();
		json_error_t error;
		json_t *root = json_loads(line, JSON_ALLOW_NUL, &error);
		if (!root)
			fail_msg("%s: %s", error.text, line);
		json_decref(root);
		assert_true(strlen(line) <= LINE_SIZE);
		fake.tv_sec += 60;
		log_setup(SS_LOG_DEBUG, false);
		log_text(SS_LOG_INFO, "c", text);
		line = written();
		assert_true(strlen(line) <= LINE_SIZE);
		assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
		for (const char *p = line; p[1]; p++)
			assert_true((unsigned char)*p >= 0x20);
	}
}

static void test_cut(void **state)
{
	(void)state;
	char text[3 * LINE_SIZE];
	static const char *const heads[] = {"", "k=", "k=\"", "M a=1 long_", "M d=12345"};
	for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
		for (size_t n = LINE_SIZE - 120; n < LINE_SIZE + 20; n++) {
			size_t head = strlen(heads[h]);
			memcpy(text, heads[h], head);
			memset(text + head, h == 4 ? '1' : 'x', n);
			strcpy(text + head + n, h == 2 ? "\" z=1 end" : h == 3 ? "=1" : " z=1 end");
			for (int json = 0; json < 2; json++) {
				fake.tv_sec += 60;
				log_setup(SS_LOG_DEBUG, json);
				log_text(SS_LOG_INFO, "comp", text);
				const char *line = written();
				size_t len = strlen(line);
				assert_true(len <= LINE_SIZE);
				bool whole = strstr(line, h == 3 ? "=1 component=comp\n"
								 : "end\" component=comp\n") ||
					     strstr(line, "end\"}\n") || (h == 3 && strstr(line, "x\":1}\n"));
				bool cut = strstr(line, json ? ",\"cut\":true}\n"
							     : " component=comp cut=true\n") != NULL;
				assert_int_equal(whole, !cut);
				if (cut && h < 3) /* room was kept for the component */
					assert_true(len > LINE_SIZE - 60);
				json_t *root = json ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;
				assert_true(!json || root);
				json_decref(root);
			}
		}
	}
	/* cut by printf already */
	memset(text, 'y', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	log_setup(SS_LOG_DEBUG, false);
	log_printf(SS_LOG_INFO, NULL, "%s", text);
	const char *line = written();
	assert_non_null(strstr(line, "y cut=true\n"));
	assert_true(strlen(line) > LINE_SIZE - 16);
	/* a component that does not fit leaves no name without a value */
	log_setup(SS_LOG_DEBUG, true);
	for (size_t n = LINE_SIZE - 100; n < LINE_SIZE - 40; n++) {
		text[n] = '\0';
		json_decref(json_line("component_name", text));
		text[n] = 'y';
	}
}

static void test_repeats(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++)
		log_printf(SS_LOG_WARN, "udp", "Datagram cut len=%d", i);
	log_printf(SS_LOG_WARN, "other", "Datagram cut len=9");
	log_printf(SS_LOG_INFO, "udp", "Datagram cut len=9");
	assert_string_equal(
		written(),
		T "WARN Datagram cut len=0 component=udp\n" T "WARN Datagram cut len=1 component=udp\n" T
		  "WARN Datagram cut len=2 component=udp\n" T "WARN Datagram cut len=3 component=udp\n" T
		  "WARN Datagram cut len=4 component=udp\n" T "WARN Datagram cut len=9 component=other\n" T
		  "INFO Datagram cut len=9 component=udp\n");
	fake.tv_sec += 9;
	log_tick();
	assert_string_equal(written(), "");
	fake.tv_sec += 1;
	log_info("Else");
	assert_string_equal(written(), "2025-11-16T10:00:10.000Z WARN Datagram cut repeated=3 component=udp\n"
				       "2025-11-16T10:00:10.000Z INFO Else\n");
	log_printf(SS_LOG_WARN, "udp", "Datagram cut len=1");
	assert_string_equal(written(), "2025-11-16T10:00:10.000Z WARN Datagram cut len=1 component=udp\n");

	log_setup(SS_LOG_DEBUG, true);
	for (int i = 0; i < 6; i++)
		log_error("Broken \"x\" n=1");
	written();
	log_flush();
	assert_string_equal(written(),
			    "{\"time\":\"2025-11-16T10:00:10.000Z\",\"level\":\"ERROR\",\"message\":\"Broken "
			    "\\\"x\\\"\",\"repeated\":1}\n");
	log_flush();
	fake.tv_sec += 20;
	log_tick();
	assert_string_equal(written(), "");

	/* silence ends the window without another line */
	log_setup(SS_LOG_DEBUG, false);
	for (int i = 0; i < 7; i++)
		log_info("Quiet");
	written();
	fake.tv_sec += 10;
	log_tick();
	assert_string_equal(written(), "2025-11-16T10:00:40.000Z INFO Quiet repeated=2\n");
}

/* More kinds of messages than rows: none is lost, the displaced one's repeats are told first. */
static void test_repeat_table_full(void **state)
{
	(void)state;
	char want[512], message[400];
	memset(message, 'm', sizeof message - 1);
	memcpy(message, "\xc3\xa9", 2);
	memcpy(message + 195, "\xc3\xa9\xc3\xa9", 4);
	message[sizeof message - 1] = '\0';
	for (int i = 0; i < 6; i++)
		log_text(SS_LOG_INFO, "comp", message);
	fake.tv_sec += 1;
	for (int i = 0; i < 63; i++)
		log_info("Kind %d", i);
	written();
	log_info("Kind 63");
	snprintf(want, sizeof want,
		 "2025-11-16T10:00:01.000Z INFO %.195s... repeated=1 "
		 "component=comp\n2025-11-16T10:00:01.000Z INFO "
		 "Kind 63\n",
		 message);
	assert_string_equal(written(), want);
	for (int i = 64; i < 1000; i++)
		log_info("Kind %d", i);
	const char *all = written();
	int lines = 0;
	for (; *all; all++)
		lines += *all == '\n';
	assert_int_equal(lines, 936);
}

static void test_value(void **state)
{
	(void)state;
	char buf[64];
	assert_string_equal(log_value(buf, sizeof buf, "plain"), "plain");
	assert_string_equal(log_value(buf, sizeof buf, ""), "\"\"");
	assert_string_equal(log_value(buf, sizeof buf, "a b"), "\"a b\"");
	assert_string_equal(log_value(buf, sizeof buf, "a=b"), "\"a=b\"");
	assert_string_equal(log_value(buf, sizeof buf, "q\"\\\n\x01\xff"), "\"q\\\"\\\\\\n\\x01\\xff\"");
	assert_string_equal(log_value(buf, sizeof buf, "\xc3\xa9"), "\xc3\xa9");
	assert_string_equal(log_value(buf, 10, "123456789"), "123456789");
	assert_string_equal(log_value(buf, 10, "1234567890"), "123456...");
	assert_string_equal(log_value(buf, 10, "12 4567"), "\"12 4567\"");
	assert_string_equal(log_value(buf, 10, "12 45678"), "\"12 4...\"");
	assert_string_equal(log_value(buf, 10, "12 4\n\n\n\n"), "\"12 4...\"");
	assert_string_equal(log_value(buf, 10, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"),
			    "\xc3\xa9\xc3\xa9\xc3\xa9...");
	for (size_t size = 0; size < 12; size++) {
		memset(buf, '#', sizeof buf);
		log_value(buf, size, "ab \"\xff\n defghijklmno");
		assert_true(size == 0 || strlen(buf) < size);
		assert_int_equal(buf[size], '#');
	}
	/* through the log and back */
	char text[256];
	static const char original[] = "a \"b\" c=\\ \n end";
	log_setup(SS_LOG_DEBUG, true);
	snprintf(text, sizeof text, "M k=%s z=1", log_value(buf, sizeof buf, original));
	json_t *root = json_line(NULL, text);
	assert_string_equal(json_string_value(json_object_get(root, "k")), original);
	assert_int_equal(json_integer_value(json_object_get(root, "z")), 1);
	json_decref(root);
}

static void test_priority(void **state)
{
	(void)state;
	struct stat st;
	char stream[64];
	assert_int_equal(fstat(sink.fd, &st), 0);
	snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_setup(SS_LOG_DEBUG, false);
	log_error("E");
	log_warn("W");
	log_info("I");
	log_debug("D");
	assert_string_equal(written(), "<3>" T "ERROR E\n<4>" T "WARN W\n<6>" T "INFO I\n<7>" T "DEBUG D\n");
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_setup(SS_LOG_DEBUG, false);
	log_error("Other");
	assert_string_equal(written(), T "ERROR Other\n");
	unsetenv("JOURNAL_STREAM");
}

static void test_level_names(void **state)
{
	(void)state;
	assert_int_equal(log_level_parse("error"), SS_LOG_ERROR);
	assert_int_equal(log_level_parse("warn"), SS_LOG_WARN);
	assert_int_equal(log_level_parse("info"), SS_LOG_INFO);
	assert_int_equal(log_level_parse("debug"), SS_LOG_DEBUG);
	assert_int_equal(log_level_parse("INFO"), -EINVAL);
	assert_int_equal(log_level_parse(""), -EINVAL);
}

/* Nobody reads the pipe, blocking or not: lines are lost and counted, nobody waits for ever. */
static void reader_stands_still(int flags)
{
	int fds[2], memfd = sink.fd;
	static char buf[1 << 20];
	assert_int_equal(pipe2(fds, O_CLOEXEC | flags), 0);
	sink.fd = fds[1];
	for (int i = 0; i < 3000; i++)
		log_info("A line of some length to fill the pipe with, number %d", i);
	assert_true(sink.stuck);
	uint64_t lost = sink.lost;
	assert_true(lost > 0 && lost < 3000);
	ssize_t n = read(fds[0], buf, sizeof buf - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	int lines = 0;
	for (char *p = buf; *p; p++)
		lines += *p == '\n';
	assert_int_equal((uint64_t)lines + lost, 3000);
	log_info("After");
	n = read(fds[0], buf, sizeof buf - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	char want[256];
	snprintf(want, sizeof want,
		 T "WARN Log lines lost, standard error was not read lines=%llu\n" T "INFO After\n",
		 (unsigned long long)lost);
	assert_string_equal(buf, want);
	assert_int_equal(sink.lost, 0);
	close(fds[0]);
	close(fds[1]);
	sink.fd = memfd;
}

static void test_reader_stands_still(void **state)
{
	(void)state;
	reader_stands_still(0);
	memset(sink.repeats, 0, sizeof sink.repeats);
	reader_stands_still(O_NONBLOCK);
}

/* A line written in part is ended before the next one begins. */
static void test_torn(void **state)
{
	(void)state;
	sink.torn = true;
	log_info("Next");
	assert_string_equal(written(), "\n" T "INFO Next\n");
	log_info("Next2");
	assert_string_equal(written(), T "INFO Next2\n");
}

#define THREADS 8
#define LINES   400

static void *many_lines(void *arg)
{
	char id[16];
	snprintf(id, sizeof id, "t%d", *(int *)arg);
	for (int i = 0; i < LINES; i++) {
		log_printf(SS_LOG_INFO, id, "Line %d pad=\"%0200d\"", i, 0);
		log_printf(SS_LOG_INFO, "all", "Same n=%d", i);
		if (i % 100 == 0)
			log_setup(SS_LOG_INFO, false);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	int ids[THREADS], lines = 0, same = 0, held = 0;
	for (int i = 0; i < THREADS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, many_lines, &ids[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_flush();
	static char copy[1 << 20];
	char *save = NULL;
	strcpy(copy, written());
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int thread, number;
		if (sscanf(line, T "INFO Line %d pad=\"%*200[0]\" component=t%d", &number, &thread) == 2) {
			lines++;
		} else if (strncmp(line, T "INFO Same n=", sizeof T + 11) == 0) {
			same++;
		} else {
			assert_int_equal(sscanf(line, T "INFO Same repeated=%d component=all", &number), 1);
			held += number;
		}
	}
	assert_int_equal(lines, THREADS * LINES);
	assert_int_equal(same + held, THREADS * LINES);
	assert_true(held > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_logfmt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_logfmt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repeat_table_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_value, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priority, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_stands_still, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
