/* SPDX-License-Identifier: MIT */
#include "signing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

enum { VALUE_LEN = 6, STAMP_LEN = 7 /* link and timestamp */ };

#define EPOCH_NS      UINT64_C(1420070400000000000) /* 2015-01-01T00:00:00Z */
#define UNIT_NS       10000u
#define STALE         UINT64_C(6000000) /* a minute */
#define TIMESTAMP_MAX ((UINT64_C(1) << 48) - 1)

int mav_signing_init(struct mav_signing *s, const uint8_t key[MAV_KEY_LEN], uint32_t max)
{
	s->streams = calloc(max, sizeof *s->streams);
	if (!s->streams)
		return -ENOMEM;
	s->max = max;
	memcpy(s->key, key, MAV_KEY_LEN);
	return 0;
}

void mav_signing_done(struct mav_signing *s)
{
	free(s->streams);
	OPENSSL_cleanse(s->key, sizeof s->key);
	*s = (struct mav_signing){0};
}

/* The first bytes of SHA-256 over the key and the frame up to its timestamp. */
static bool sign(const struct mav_signing *s, const uint8_t *bytes, size_t len, uint8_t value[VALUE_LEN])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
		  EVP_DigestUpdate(ctx, s->key, sizeof s->key) == 1 &&
		  EVP_DigestUpdate(ctx, bytes, len) == 1 && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;

	EVP_MD_CTX_free(ctx);
	if (ok)
		memcpy(value, digest, VALUE_LEN);
	return ok;
}

static uint64_t read_timestamp(const uint8_t *signature)
{
	uint64_t t = 0;

	for (int i = 6; i > 0; i--)
		t = t << 8 | signature[i];
	return t;
}

static uint64_t timestamp_of(uint64_t ns)
{
	return ns > EPOCH_NS ? (ns - EPOCH_NS) / UNIT_NS : 0;
}

bool mav_signing_is_genuine(const struct mav_signing *s, const struct mav_frame *f)
{
	uint8_t value[VALUE_LEN];
	size_t covered = f->len - VALUE_LEN;

	return sign(s, f->bytes, covered, value) && CRYPTO_memcmp(value, f->bytes + covered, VALUE_LEN) == 0;
}

static struct mav_stream *find(struct mav_signing *s, uint32_t who)
{
	if (s->at < s->n && s->streams[s->at].who == who)
		return &s->streams[s->at];
	for (uint32_t i = 0; i < s->n; i++)
		if (s->streams[i].who == who) {
			s->at = i;
			return &s->streams[i];
		}
	return NULL;
}

enum mav_fault mav_signing_check(struct mav_signing *s, const struct mav_frame *f, uint64_t now_ns)
{
	uint64_t t = read_timestamp(f->signature), now = timestamp_of(now_ns);
	uint32_t who = (uint32_t)f->sysid << 16 | (uint32_t)f->compid << 8 | f->signature[0];

	if (!mav_signing_is_genuine(s, f))
		return MAV_BAD_SIGNATURE;
	struct mav_stream *stream = find(s, who);
	if (stream && t <= stream->last)
		return MAV_OLD_TIMESTAMP;
	if (!stream) {
		uint64_t newest = now > s->newest ? now : s->newest;
		if (t + STALE < newest)
			return MAV_OLD_TIMESTAMP;
		if (s->n == s->max)
			return MAV_TOO_MANY_STREAMS;
		stream = &s->streams[s->n++];
		stream->who = who;
	}
	stream->last = t;
	if (t > s->newest)
		s->newest = t;
	return MAV_FINE;
}

void mav_signing_sign(struct mav_signing *s, uint8_t *bytes, size_t len, uint8_t link, uint64_t now_ns)
{
	uint8_t *signature = bytes + len - MAV_SIGNATURE_LEN;
	uint64_t t = timestamp_of(now_ns);

	if (t <= s->newest)
		t = s->newest + 1;
	s->newest = t & TIMESTAMP_MAX;
	signature[0] = link;
	for (int i = 1; i < STAMP_LEN; i++, t >>= 8)
		signature[i] = (uint8_t)t;
	if (!sign(s, bytes, len - VALUE_LEN, signature + STAMP_LEN))
		memset(signature + STAMP_LEN, 0, VALUE_LEN); /* nobody accepts it */
}
