/* SPDX-License-Identifier: MIT */
/* helper_storage - an instance of storage in a folder of its own, on the test host. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/storage/storage.h"
#include <semstreams/test-host.h>

/* Also in children, of which cmocka knows nothing. */
#define need(cond)                                                                                           \
	do {                                                                                                 \
		if (!(cond)) {                                                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                           \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

#define await(f, cond)                                                                                       \
	do {                                                                                                 \
		for (int tries_ = 0; !(cond) && tries_ < 3000; tries_++)                                     \
			ss_test_host_run(&(f)->host, 5);                                                     \
		need(cond);                                                                                  \
	} while (0)

enum { BATCHES = 4096 };

struct fixture {
	struct ss_test_host host;
	struct storage_conf conf;
	char dir[64], path[128], record[128];
	struct ss_batch *batches[BATCHES];
	int n;
};

/* Of the world that takes the place of the C library (helper_disk, helper_crash): as it is without trouble,
 * and without anybody waiting in it. */
void world_reset(void);
void world_release(void);

const struct ss_component *desc(void);
int setup(void **state);
int teardown(void **state);
void create(struct fixture *);
int try_start(struct fixture *);
void start(struct fixture *);
/* Stop and destroy the instance. */
void end(struct fixture *);
/* Who sent a row of a batch that was not pushed yet, by certificate. */
void set_peer(struct fixture *, struct ss_batch *, uint32_t row, const char *peer);
int push_on(struct fixture *, uint32_t port, struct ss_batch *);
void idle(struct fixture *);
/* Everything is out. */
void drain(struct fixture *);
/* The plugin's threads count as well. */
int64_t metric(const struct fixture *, uint32_t row);
bool logged(const struct fixture *, const char *text);

/* A file's content, NUL added, malloced; "" if there is none.  n may be NULL. */
char *slurp(const char *path, size_t *n);
void assert_file(const char *path, const char *expected);
void put_file(const char *path, const char *text, size_t n);
/* Names in a directory that hold part, sorted, each followed by a space. */
const char *list(const char *dir, const char *part, char *buf, size_t size);
