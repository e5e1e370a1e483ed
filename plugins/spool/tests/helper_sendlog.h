/* SPDX-License-Identifier: MIT */
/* helper_sendlog - a log with its owner, on the test host and in a folder of its own. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "plugins/spool/spool.h"
#include <semstreams/test-host.h>

enum { MIB = 1 << 20 };
extern const struct ss_component component;

struct loss {
	uint64_t from, to;
	char reason[16];
};

struct rig {
	struct ss_test_host host;
	struct sendlog *log;
	struct sendlog_options options;
	char base[64], path[96]; /* the spool is path: folders below base that are not there yet */
	uint64_t committed;
	uint32_t forgotten, rooms, troubles, recoveries, n_lost;
	char health[300], degraded[300]; /* "" = well */
	struct loss lost[512];
	char trouble[128];
	struct ss_position taken; /* newest event appended with an epoch; the snapshot */
	int tell;                 /* descriptor to write committed sequences to, -1 = none */
};

struct reader {
	uint64_t next, n, gaps, bytes;
	uint32_t stop_after; /* 0 = never */
	bool bad;
};

int setup(void **state);
int teardown(void **state);
int open_log_rc(struct rig *r, char why[256]);
void open_log(struct rig *r);
void close_log(struct rig *r);
uint32_t record(uint64_t seq, char *to, uint32_t size);
uint64_t wall_ns(void);
struct ss_batch *batch_of(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch, uint64_t time_ns);
int append(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch);
struct ss_position stored(const struct rig *r);
int ack(struct rig *r, const char *consumer, uint64_t seq);
void settle(struct rig *r);
bool take(void *arg, uint64_t seq, const struct ss_event *e);
uint64_t read_all(struct rig *r, uint64_t seq, uint32_t piece, struct reader *rd);
uint64_t lost_records(const struct rig *r, const char *reason);
uint64_t disk_size(const struct rig *r);

/* Run the loop until cond; fail if nothing comes of it. */
#define wait_for(r, cond)                                                                                    \
	do {                                                                                                 \
		for (int tries_ = 0; !(cond); tries_++) {                                                    \
			if (tries_ > 100)                                                                    \
				fail_msg("nothing came of: %s", #cond);                                      \
			ss_test_host_run(&(r)->host, 200);                                                   \
		}                                                                                            \
	} while (0)

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
