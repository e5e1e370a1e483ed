/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/attribute_block.h - the attributes of a run of events as bytes, for protocols and files:
 * each different set once, then which events have which.  Numbers are big-endian:
 *
 *	u32 sets, u32 runs
 *	sets times { u32 end of the set within the bytes of all sets }
 *	runs times { u32 events, at least 1; u32 set, from 1; 0: none }
 *	the sets: u8 flags, u8 bits of the attributes present (1 << SS_ATTR_...), and for each of them in this
 *	order u16 length, at least 1, and its bytes
 *
 * Any thread; a writer is one thread's at a time.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_ATTRIBUTE_BLOCK_H
#define SEMSTREAMS_BASE_ATTRIBUTE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/attributes.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a set at most, and what a block has besides its sets. */
enum {
	/* a set at most */
	SS_ATTRIBUTE_SET_MAX =
		2 + SS_ATTR_COUNT * 2 + (SS_ATTR_COUNT - 1) * SS_ATTR_NAME_MAX + SS_ATTR_PATH_MAX,
	SS_ATTRIBUTE_BLOCK_HEAD = 8, /* a block, besides its sets and runs */
	SS_ATTRIBUTE_BLOCK_SET = 4,  /* each set, besides its bytes */
	SS_ATTRIBUTE_BLOCK_RUN = 8   /* each run */
};

/* [any] The bytes of a set, without @peer, which whoever receives an event knows himself; how many, 0 if
 * nothing is left. */
size_t ss_attribute_set_write(const struct ss_attributes *, uint8_t out[SS_ATTRIBUTE_SET_MAX]);
/* [any] How many bytes ss_attribute_set_write() writes. */
size_t ss_attribute_set_size(const struct ss_attributes *);
/* [any] May an attribute have this text?  UTF-8 without control characters. */
bool ss_attribute_text_valid(const char *text, size_t len);
/* [any] The other way round; texts point into the bytes, and are valid as long as those.  0; -EINVAL. */
int ss_attribute_set_read(const uint8_t *set, size_t len, struct ss_attributes *out);

/* A block that is being made.  Zeroed to begin with; its members are private. */
struct ss_attribute_writer {
	struct ss_strbuf ends, runs, sets;
	uint32_t n_sets, n_runs;
	uint32_t last, events; /* the run that is not in runs yet */
	uint32_t recent[256];  /* by hash: numbers of sets */
};
/* [any] Empty, its memory kept. */
void ss_attribute_writer_clear(struct ss_attribute_writer *);
/* [any] Free the memory. */
void ss_attribute_writer_done(struct ss_attribute_writer *);
/* [any] The number of a set in the block so far; 0: it is not there, or len is 0. */
uint32_t ss_attribute_writer_find(const struct ss_attribute_writer *, const uint8_t *set, size_t len);
/* [any] By how much one more event with this set (len 0: none) would make the block longer, at most. */
size_t ss_attribute_writer_cost(const struct ss_attribute_writer *, const uint8_t *set, size_t len);
/* [any] One more event.  0; -ENOMEM. */
int ss_attribute_writer_add(struct ss_attribute_writer *, const uint8_t *set, size_t len);
/* [any] One more event, with the set that was added last. */
void ss_attribute_writer_again(struct ss_attribute_writer *);
/* [any] The length of the block; 0 if no event has attributes. */
size_t ss_attribute_writer_size(const struct ss_attribute_writer *);
/* [any] The block, so many bytes. */
void ss_attribute_writer_put(const struct ss_attribute_writer *, uint8_t *to);

/* A block that was checked; it points into the bytes, and is valid as long as those.  Its members are
 * private, but for their numbers. */
struct ss_attribute_block {
	const uint8_t *ends, *runs, *sets;
	uint32_t n_sets, n_runs;
};
/* [any] Check a block wholly: it is exactly so long, its runs are so many events, and its sets can be read.
 * 0; -EINVAL. */
int ss_attribute_block_read(const void *bytes, size_t len, uint64_t events, struct ss_attribute_block *out);
/* [any] The same without a check, of a block that was checked before, or made here. */
void ss_attribute_block_open(const void *bytes, struct ss_attribute_block *out);
/* [any] A set by its number, from 1 to n_sets; in the bytes of the block, valid as long as those. */
const uint8_t *ss_attribute_block_set(const struct ss_attribute_block *, uint32_t number, size_t *len);
/* [any] A run by its index: how many events, and *set, the number of their set or 0. */
uint32_t ss_attribute_block_run(const struct ss_attribute_block *, uint32_t run, uint32_t *set);

#ifdef __cplusplus
}
#endif
#endif
