/* SPDX-License-Identifier: MIT */
/*
 * ack_subject - what the subject says by which a message of JetStream is acknowledged:
 *
 *	$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<seq>.<consumer
 *seq>.<time>.<pending>[.<token>]
 *
 * Pure; any thread.
 */
#pragma once
#include <stdint.h>

struct ack_subject {
	uint64_t delivered;    /* how often, this time included */
	uint64_t seq;          /* in the stream */
	uint64_t consumer_seq; /* 1 for the first message that the consumer sends, and so on */
	uint64_t time_ns;      /* when the stream stored it, since 1970 */
	uint64_t pending;      /* messages of the stream that the consumer has not sent yet */
};

/* 0; -EINVAL: it is none, as of a message that comes from no stream. */
int ack_subject_read(const char *subject, struct ack_subject *out);
