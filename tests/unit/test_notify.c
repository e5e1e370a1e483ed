/* SPDX-License-Identifier: MIT */
/* The service manager's protocol, against datagram sockets of our own: by path and abstract. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "core/admin/notify.h"

static int manager(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(name);
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] != '@'))),
			 0);
	return fd;
}

static void expect(int fd, const char *want)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT);
	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, want);
}

static void test_path(void **state)
{
	(void)state;
	char dir[] = "/tmp/notify.XXXXXX", name[64];
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof name, "%s/s", dir);
	int fd = manager(name);
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("READY=1\nSTATUS=Running"), 0);
	expect(fd, "READY=1\nSTATUS=Running");
	assert_int_equal(notify_send("WATCHDOG=1"), 0);
	expect(fd, "WATCHDOG=1");
	close(fd);
	assert_int_equal(notify_send("STOPPING=1"), -ECONNREFUSED);
	unlink(name);
	assert_int_equal(notify_send("STOPPING=1"), -ENOENT);
	rmdir(dir);
}

static void test_abstract(void **state)
{
	(void)state;
	char name[64];
	snprintf(name, sizeof name, "@semstreams-test-%d", (int)getpid());
	int fd = manager(name);
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("READY=1"), 0);
	expect(fd, "READY=1");
	close(fd);
}

/* Whoever does not read holds nobody up, and is told when there is room. */
static void test_full(void **state)
{
	(void)state;
	char name[64];
	int rc;
	snprintf(name, sizeof name, "@semstreams-test-full-%d", (int)getpid());
	int fd = manager(name);
	setenv("NOTIFY_SOCKET", name, 1);
	alarm(60);
	do
		rc = notify_send("READY=1");
	while (rc == 0);
	assert_int_equal(rc, -EAGAIN);
	for (int i = 0; i < 100; i++)
		assert_int_equal(notify_send("READY=1"), -EAGAIN);
	alarm(0);
	expect(fd, "READY=1");
	assert_int_equal(notify_send("READY=1"), 0);
	close(fd);
}

static void test_nobody(void **state)
{
	(void)state;
	char name[200];
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_send("READY=1"), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(notify_send("READY=1"), 0);
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	assert_int_equal(notify_send("READY=1"), -EAFNOSUPPORT);
	memset(name, 'x', sizeof name - 1);
	name[0] = '/';
	name[sizeof name - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("READY=1"), -ENAMETOOLONG);
	unsetenv("NOTIFY_SOCKET");
}

static void test_watchdog(void **state)
{
	(void)state;
	char pid[32];
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(notify_watchdog_ns(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_watchdog_ns(), UINT64_C(15000000000));
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_ns(), UINT64_C(15000000000));
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ns(), 0);
	unsetenv("WATCHDOG_PID");
	static const char *const bad[] = {
		"", "-1", "x", "10s", " 5", "99999999999999999999999", "18446744073709551615"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		setenv("WATCHDOG_USEC", bad[i], 1);
		assert_int_equal(notify_watchdog_ns(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),   cmocka_unit_test(test_abstract), cmocka_unit_test(test_full),
		cmocka_unit_test(test_nobody), cmocka_unit_test(test_watchdog),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
