/* SPDX-License-Identifier: MIT */
/*
 * subject - the subject that an event is published to, by a template: literals, {component}, attributes as
 * {peer}, {origin}, {input} and {address}, and fields of the payload by their JSON pointer, as {/sensor/id}.
 * In a value stay A-Z a-z 0-9 _ - @ : + = , and all other bytes become %XX, so that no value is a wildcard or
 * makes another part.  As % never stays, it begins what is no value: %none, and %unverified: in front of a
 * name that no certificate says.  One thread.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/plugin.h>

enum {
	SUBJECT_MAX = 512, /* bytes, NUL included */
	SUBJECT_PARTS = 16,
	SUBJECT_VALUE_MAX = 128 /* bytes of a value, encoded */
};

struct subject_part {
	char *literal;  /* what stands in front of it */
	int attribute;  /* SS_ATTR_...; -1: a field; -2: nothing, it is the end */
	uint32_t field; /* index */
};

struct subject {
	struct subject_part parts[SUBJECT_PARTS];
	size_t n;
	struct ss_iface fields;
	struct ss_reader *reader; /* NULL: no field is named */
	uint32_t n_fields;
	struct ss_scratch scratch;
	bool by_attributes;
};

/* [ctl] 0; -EINVAL after config_error(); -ENOMEM. */
int subject_parse(struct subject *, const struct ss_host *, const char *pointer, const char *text);
void subject_done(struct subject *);
/* The subject of an event; NULL, or what is wrong with it: a word, for headers and messages. */
const char *subject_write(struct subject *, const struct ss_batch *, const struct ss_event *,
			  char out[SUBJECT_MAX]);
/* Does a subject match one with wildcards? */
bool subject_matches(const char *pattern, const char *subject);
/* Why a text without fields is no subject to publish to; NULL: it is one. */
const char *subject_fault(const char *text);
