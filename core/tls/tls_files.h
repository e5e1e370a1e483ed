/* SPDX-License-Identifier: MIT */
/*
 * tls_files - the files of one TLS role, read together and checked against each other into one generation.
 * Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <semstreams/plugin.h>
#include "core/config/diag.h"
#include "core/config/tls_config.h"
#include "core/tls/tls_generation.h"

#define TLS_MAX_FILE  (4u << 20) /* bytes */
#define TLS_COMPLAINT 640        /* bytes of one of them */

/* Identifies one state of a file. */
struct tls_stamp {
	bool there;
	dev_t dev;
	ino_t ino;
	off_t size;
	int64_t modified_ns, changed_ns; /* wall clock; a new mode counts as a change */
};

struct stat;
struct tls_stamp tls_stamp_of(const struct stat *);
struct tls_stamp tls_stamp_at(const char *path);

/* A role's files are numbered: certificate, key, CAs; stamps are an array of that many. */
size_t tls_files_count(const struct tls_role *);
void tls_files_stamp(const struct tls_role *, struct tls_stamp *stamps);
bool tls_stamps_equal(const struct tls_stamp *, const struct tls_stamp *, size_t n);

/* Receiver of the problems of files; the text names the file.  file NULL: the problem is that of none. */
struct tls_complaints {
	void (*add)(void *arg, enum diag_level, const struct tls_file *, const char *text);
	void *arg;
};

/*
 * Read and check all files; the certificate's source is "manual", beside a provider "fallback".  stamps (may
 * be NULL) are those of what was read, also on failure.  0 with one reference at *out, -EINVAL or -EAGAIN (a
 * file is being written to) after complaints, -ENOMEM.
 */
int tls_files_load(const struct tls_role *, uint32_t role, int64_t now, const struct tls_complaints *,
		   struct tls_stamp *stamps, struct tls_generation **out);
