/* SPDX-License-Identifier: MIT */
#include <semstreams/base/two_slot.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/file_atomic.h>

/* A head: magic 8, generation 8, length of the content 4, its CRC-32C 4, 0 4, CRC-32C of what stands before
 * 4; little-endian.  A slot: the head twice, the content. */
enum { HEAD = SS_SLOT_HEAD / 2, HEAD_SUM = HEAD - 4 };

struct head {
	uint64_t generation;
	uint32_t len, sum;
};

static void put_number(uint8_t *to, uint64_t u, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] = (uint8_t)(u >> 8 * i);
}

static uint64_t get_number(const uint8_t *from, unsigned n)
{
	uint64_t u = 0;

	for (unsigned i = 0; i < n; i++)
		u |= (uint64_t)from[i] << 8 * i;
	return u;
}

static void write_head(uint8_t to[HEAD], const char magic[8], const struct head *h)
{
	memset(to, 0, HEAD);
	memcpy(to, magic, 8);
	put_number(to + 8, h->generation, 8);
	put_number(to + 16, h->len, 4);
	put_number(to + 20, h->sum, 4);
	put_number(to + HEAD_SUM, ss_crc32c(0, to, HEAD_SUM), 4);
}

static bool read_head(const uint8_t from[HEAD], const char magic[8], struct head *h)
{
	if (memcmp(from, magic, 8) != 0 || get_number(from + HEAD_SUM, 4) != ss_crc32c(0, from, HEAD_SUM))
		return false;
	h->generation = get_number(from + 8, 8);
	h->len = (uint32_t)get_number(from + 16, 4);
	h->sum = (uint32_t)get_number(from + 20, 4);
	return true;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* What stands in slot i; *head is set unless its generation is 0. */
static int read_slot(struct ss_two_slot *t, uint32_t i, struct ss_slot *out, struct head *head)
{
	ssize_t got = ss_pread_all(t->fd, t->slot, t->slot_size, (off_t)i * t->slot_size);

	*out = (struct ss_slot){.state = SS_SLOT_EMPTY};
	*head = (struct head){0};
	if (got < 0)
		return (int)got;
	if (is_zero(t->slot, (size_t)got))
		return 0;
	out->state = SS_SLOT_DAMAGED;
	if (got < SS_SLOT_HEAD ||
	    (!read_head(t->slot, t->magic, head) && !read_head(t->slot + HEAD, t->magic, head)))
		return 0;
	out->generation = head->generation;
	const uint8_t *content = t->slot + SS_SLOT_HEAD;
	if (head->len > (size_t)got - SS_SLOT_HEAD || ss_crc32c(0, content, head->len) != head->sum)
		return 0;
	out->bytes = malloc((size_t)head->len + 1);
	if (!out->bytes)
		return -ENOMEM;
	memcpy(out->bytes, content, head->len);
	out->bytes[head->len] = 0;
	out->len = head->len;
	out->state = SS_SLOT_WHOLE;
	return 0;
}

/* May the other slot hold, or have held, something newer than, and other than, the whole one? */
static bool in_doubt(const struct ss_slot *other, const struct head *its, const struct head *whole)
{
	if (other->state == SS_SLOT_WHOLE)
		return false;
	if (other->state == SS_SLOT_EMPTY)
		return whole->generation > 1; /* the slots are written in turn: this one was */
	if (!other->generation)
		return true;
	return its->generation > whole->generation && (its->len != whole->len || its->sum != whole->sum);
}

int ss_two_slot_open(struct ss_two_slot *t, int fd, const char magic[8], uint32_t slot_size,
		     struct ss_two_slot_found *found)
{
	struct ss_slot slots[2] = {{.state = SS_SLOT_EMPTY}, {.state = SS_SLOT_EMPTY}};
	struct head heads[2];
	int rc = 0;

	*found = (struct ss_two_slot_found){0};
	*t = (struct ss_two_slot){.fd = fd, .slot_size = slot_size, .slot = calloc(1, slot_size)};
	memcpy(t->magic, magic, sizeof t->magic);
	if (!t->slot)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < 2; i++)
		rc = read_slot(t, i, &slots[i], &heads[i]);
	if (rc < 0) {
		free(slots[0].bytes);
		free(slots[1].bytes);
		ss_two_slot_close(t);
		return rc;
	}
	bool whole[2] = {slots[0].state == SS_SLOT_WHOLE, slots[1].state == SS_SLOT_WHOLE};
	uint32_t first = whole[1] && (!whole[0] || slots[1].generation > slots[0].generation);
	for (uint32_t i = 0; i < 2; i++)
		if (slots[i].generation > t->generation)
			t->generation = slots[i].generation;
	/* nothing counts: spare what a person may want to look at */
	t->next = whole[first] ? !first : slots[0].state == SS_SLOT_DAMAGED;
	found->slots[0] = slots[first];
	found->slots[1] = slots[!first];
	found->n = whole[0] + whole[1];
	if (whole[first])
		found->doubt = in_doubt(&slots[!first], &heads[!first], &heads[first]);
	else
		found->doubt = slots[0].state == SS_SLOT_DAMAGED || slots[1].state == SS_SLOT_DAMAGED;
	return 0;
}

void ss_two_slot_use_other(struct ss_two_slot *t)
{
	t->next = !t->next;
}

void ss_two_slot_found_done(struct ss_two_slot_found *found)
{
	free(found->slots[0].bytes);
	free(found->slots[1].bytes);
	*found = (struct ss_two_slot_found){0};
}

int ss_two_slot_reserve(struct ss_two_slot *t, size_t len)
{
	if (len > t->slot_size - SS_SLOT_HEAD)
		return -EMSGSIZE;
	memset(t->slot, 0, SS_SLOT_HEAD + len);
	int rc = ss_pwrite_all(t->fd, t->slot, SS_SLOT_HEAD + len, 0);
	return rc < 0 ? rc : ss_pwrite_all(t->fd, t->slot, SS_SLOT_HEAD + len, t->slot_size);
}

int ss_two_slot_write(struct ss_two_slot *t, const void *bytes, size_t len)
{
	if (len > t->slot_size - SS_SLOT_HEAD)
		return -EMSGSIZE;
	struct head h = {t->generation + 1, (uint32_t)len, ss_crc32c(0, bytes, len)};
	write_head(t->slot, t->magic, &h);
	memcpy(t->slot + HEAD, t->slot, HEAD);
	if (len)
		memcpy(t->slot + SS_SLOT_HEAD, bytes, len);
	int rc = ss_pwrite_all(t->fd, t->slot, SS_SLOT_HEAD + len, (off_t)t->next * t->slot_size);
	if (rc == 0 && fdatasync(t->fd) < 0)
		rc = -errno;
	if (rc < 0)
		return rc;
	t->generation++;
	t->next = !t->next;
	return 0;
}

int ss_two_slot_write_both(struct ss_two_slot *t, const void *bytes, size_t len)
{
	int rc = ss_two_slot_write(t, bytes, len);

	return rc < 0 ? rc : ss_two_slot_write(t, bytes, len);
}

void ss_two_slot_close(struct ss_two_slot *t)
{
	free(t->slot);
	t->slot = NULL;
}
