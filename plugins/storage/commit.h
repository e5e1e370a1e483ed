/* SPDX-License-Identifier: MIT */
/*
 * commit - the record beside a component's files: how much of them is committed, and the host's snapshot of
 * the positions that belong to it.  Two slots, so a commit is one write and one fdatasync
 * (semstreams/base/two_slot.h). Used in the instance's loop; only commit_write may run in the sync job's
 * thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/two_slot.h>
#include "path.h"

/* What of the files is not committed: nothing; what lies in one file behind length; in each of the files of a
 * ledger what lies behind the length it has there: the one numbered inode, length bytes of it (ledger.h). */
enum { CUTS_NOTHING, CUTS_FILE, CUTS_FILES };

/* What a record says. */
struct commit_record {
	uint32_t cuts; /* CUTS_... */
	char rel[REL_MAX];
	uint64_t inode, born_ns, length;
	const uint8_t *snapshot; /* of positions, where the record was read */
	size_t snapshot_len;
};

struct commit {
	int fd, dirfd;
	bool entry_dirty; /* its directory entry is not known to be on disk */
	struct ss_two_slot slots;
};

/* What was found: the newest record that can be read first. */
struct commit_found {
	struct commit_record records[2];
	int n;
	bool doubt; /* a damaged slot may have held a newer record, whose events were acknowledged */
	struct ss_two_slot_found slots;
};

/* The file name for a component, below the prefix. */
void commit_name(const char *id, char name[256]);

/* Open the record of a component, locked, made if create says so.  The caller calls commit_found_done().  0,
 * -ENOENT, or -errno with the reason in why. */
int commit_open(struct commit **, const struct path *, const char *id, bool create, struct commit_found *,
		char why[WHY_MAX]);
void commit_found_done(struct commit_found *);
/* NULL is allowed. */
void commit_close(struct commit *);
/* Delete it, durably: 0 or -errno. */
int commit_remove(struct commit *, const char *id);

/* The record as bytes, but for the snapshot, which is to follow. */
void commit_encode(const struct commit_record *, struct ss_strbuf *);
/* What was encoded, with the snapshot in its place; false: it is no record. */
bool commit_decode(const uint8_t *bytes, size_t size, struct commit_record *);
/* Make encoded bytes the record: 0 or -errno; both: in both slots, at a clean end. */
int commit_write(struct commit *, const struct ss_strbuf *, bool both);
