/* SPDX-License-Identifier: MIT */
/* Tests of the outbox: what leaves when, under which number, and what a checkpoint has of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/aggregate/outbox.h"
#include <semstreams/test-host.h>

#define MANY (64u << 20)

static const char *const outputs[] = {"result", "late", NULL};
static const struct ss_component desc = {
	.struct_size = sizeof desc, .kind = SS_KIND_PROCESSOR, .type = "outbox", .outputs = outputs};

struct fixture {
	struct ss_test_host h;
	struct outbox *box;
};

static void begin(struct fixture *f, bool numbered)
{
	ss_test_host_init(&f->h, &desc);
	assert_int_equal(outbox_new(&f->h.host, numbered, &f->box), 0);
}

static void end(struct fixture *f)
{
	outbox_free(f->box);
	ss_test_host_done(&f->h);
}

static void put(struct fixture *f, uint32_t port, const char *text)
{
	assert_true(outbox_put(f->box, port, text, strlen(text)));
}

/* What was emitted since the last time: "port:number=text ...; " for each batch. */
static const char *emitted(struct fixture *f)
{
	static char text[8192];
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < f->h.n_emitted; i++) {
		const struct ss_batch *b = f->h.emitted[i].batch;
		len += (size_t)snprintf(text + len, sizeof text - len, "%u:", f->h.emitted[i].port);
		for (uint32_t k = 0; k < b->count; k++)
			len += (size_t)snprintf(text + len, sizeof text - len, "%llu=%.*s ",
						(unsigned long long)b->events[k].seq, (int)b->events[k].len,
						(const char *)b->events[k].data);
		len += (size_t)snprintf(text + len, sizeof text - len, "; ");
	}
	ss_test_host_clear(&f->h);
	return text;
}

static void position_is(const struct fixture *f, uint32_t batch, uint64_t seq)
{
	struct ss_position at;
	const char *source;

	assert_int_equal(f->h.host.position(f->h.emitted[batch].batch, &at, &source), 0);
	assert_int_equal(at.seq, seq);
	assert_memory_equal(at.epoch, f->box->epoch, sizeof at.epoch);
}

static void leaves_at_once_without_numbers(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f, false);
	put(&f, 0, "a");
	put(&f, 0, "");
	put(&f, 1, "b");
	assert_int_equal(f.box->n_unsent, 3);
	assert_int_equal(outbox_emit(f.box, 0, false), 0);
	assert_null(f.h.emitted[0].batch->token);
	assert_string_equal(emitted(&f), "0:0=a 0= ; 1:0=b ; ");
	assert_int_equal(f.box->n_unsent, 0);
	assert_int_equal(f.box->bytes, 0);
	end(&f);
}

static void waits_for_its_check_point(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f, true);
	put(&f, 0, "a");
	put(&f, 0, "b");
	put(&f, 1, "c");
	put(&f, 0, "d");
	put(&f, 0, "e");
	assert_int_equal(f.box->last, 5);
	assert_int_equal(outbox_emit(f.box, 0, true), 0);
	assert_string_equal(emitted(&f), "");
	assert_int_equal(outbox_emit(f.box, 4, false), 0);
	position_is(&f, 0, 2);
	position_is(&f, 1, 3);
	position_is(&f, 2, 4);
	assert_string_equal(emitted(&f), "0:1=a 2=b ; 1:3=c ; 0:4=d ; ");
	assert_int_equal(f.box->n_unsent, 1);
	assert_int_equal(outbox_emit(f.box, 4, false), 0);
	assert_string_equal(emitted(&f), "");

	/* acknowledged in any order; it stays until all before it are */
	assert_int_equal(outbox_gone(f.box), 0);
	outbox_acked(f.box, 1, SS_DELIVERED);
	assert_int_equal(outbox_gone(f.box), 0);
	outbox_acked(f.box, 0, SS_DROPPED);
	assert_int_equal(outbox_gone(f.box), 3);
	outbox_acked(f.box, 0, SS_DELIVERED); /* told already */
	outbox_acked(f.box, 99, SS_DELIVERED);
	assert_int_equal(outbox_gone(f.box), 3);
	assert_int_equal(outbox_emit(f.box, 5, false), 0);
	assert_string_equal(emitted(&f), "0:5=e ; ");
	outbox_acked(f.box, 3, SS_DELIVERED);
	outbox_acked(f.box, 2, SS_DELIVERED);
	assert_int_equal(outbox_gone(f.box), 5);
	assert_int_equal(f.box->bytes, 0);
	put(&f, 0, "f");
	assert_int_equal(f.box->last, 6);
	end(&f);
}

static void batches_have_limits(void **state)
{
	(void)state;
	struct fixture f;
	char *large = malloc(40000);

	memset(large, 'x', 39999);
	large[39999] = '\0';
	begin(&f, true);
	for (int i = 0; i < 300; i++)
		put(&f, 0, "a");
	put(&f, 0, large);
	put(&f, 0, large);
	assert_int_equal(outbox_emit(f.box, 302, false), 0);
	assert_int_equal(f.h.n_emitted, 3);
	assert_int_equal(f.h.emitted[0].batch->count, 256);
	assert_int_equal(f.h.emitted[1].batch->count, 45);
	assert_int_equal(f.h.emitted[2].batch->count, 1);
	free(large);
	end(&f);
}

/* What is not acknowledged is not heaped up somewhere else as well. */
static void goes_out_as_fast_as_it_is_taken(void **state)
{
	(void)state;
	struct fixture f;
	char *large = malloc(1 << 20);
	uint64_t told = 0;

	memset(large, 'x', (1 << 20) - 1);
	large[(1 << 20) - 1] = '\0';
	begin(&f, true);
	for (int i = 0; i < 30; i++)
		put(&f, 0, large);
	assert_true(f.box->bytes > 30u << 20);
	assert_int_equal(outbox_emit(f.box, 30, false), 0);
	uint32_t first = f.h.n_emitted;
	assert_in_range(first, 5, 15);
	assert_int_equal(outbox_emit(f.box, 30, false), 0);
	assert_int_equal(f.h.n_emitted, first);
	outbox_acked(f.box, told++, SS_DELIVERED);
	assert_int_equal(outbox_emit(f.box, 30, false), 0);
	assert_int_equal(f.h.n_emitted, first + 1);
	assert_int_equal(outbox_emit(f.box, 30, true), 0); /* it is to end */
	assert_int_equal(f.h.n_emitted, 30);
	while (told < 30)
		outbox_acked(f.box, told++, SS_DELIVERED);
	assert_int_equal(f.box->bytes, 0);
	free(large);
	end(&f);
}

static void goes_out_again_after_a_failure(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f, true);
	for (int i = 0; i < 4; i++) {
		put(&f, 0, "a");
		put(&f, 1, "b");
	}
	assert_int_equal(outbox_emit(f.box, 3, false), 0);
	emitted(&f);
	outbox_acked(f.box, 0, SS_DELIVERED);
	outbox_acked(f.box, 1, SS_FAILED);
	assert_true(f.box->failed);
	assert_int_equal(outbox_emit(f.box, 8, false), 0);
	assert_string_equal(emitted(&f), "");
	outbox_again(f.box); /* one is still under way */
	assert_int_equal(outbox_emit(f.box, 8, false), 0);
	assert_string_equal(emitted(&f), "");
	assert_int_equal(f.box->n_unsent, 5);
	outbox_acked(f.box, 2, SS_DELIVERED);
	assert_int_equal(outbox_gone(f.box), 1);
	outbox_again(f.box);
	assert_false(f.box->failed);
	assert_int_equal(f.box->n_unsent, 7);
	assert_int_equal(outbox_emit(f.box, 4, false), 0);
	assert_string_equal(emitted(&f), "1:2=b ; 0:3=a ; 1:4=b ; ");
	outbox_acked(f.box, 2, SS_DELIVERED); /* of the first time */
	assert_int_equal(outbox_gone(f.box), 1);
	for (uint64_t cookie = 3; cookie < 6; cookie++)
		outbox_acked(f.box, cookie, SS_DELIVERED);
	assert_int_equal(outbox_gone(f.box), 4);
	end(&f);
}

static void out_of_memory(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f, true);
	put(&f, 0, "a");
	put(&f, 1, "b");
	f.h.fail_batch_new = 1;
	assert_int_equal(outbox_emit(f.box, 2, false), -ENOMEM);
	assert_string_equal(emitted(&f), "0:1=a ; ");
	f.h.fail_batch_new = UINT32_MAX;
	assert_int_equal(outbox_emit(f.box, 2, false), 0);
	assert_string_equal(emitted(&f), "1:2=b ; ");
	end(&f);
}

/* ---- checkpoints ---- */

static void load(struct fixture *f, const struct ss_strbuf *saved)
{
	struct ss_unpack r = {.at = (uint8_t *)saved->bytes, .end = (uint8_t *)saved->bytes + saved->len};

	assert_int_equal(outbox_load(f->box, &r), 0);
	assert_ptr_equal(r.at, r.end);
}

static void goes_on_after_a_restart(void **state)
{
	(void)state;
	struct ss_strbuf saved = {0};
	struct fixture f, g;
	uint8_t epoch[16];

	begin(&f, true);
	for (int i = 0; i < 4; i++)
		put(&f, i & 1, "ab");
	assert_int_equal(outbox_emit(f.box, 4, false), 0);
	outbox_acked(f.box, 0, SS_DELIVERED);
	outbox_save_begin(f.box, &saved);
	put(&f, 0, "later");
	assert_true(outbox_save_step(f.box, MANY));
	assert_true(outbox_save_step(f.box, MANY));
	memcpy(epoch, f.box->epoch, sizeof epoch);
	end(&f);

	begin(&g, true);
	assert_memory_not_equal(epoch, g.box->epoch, sizeof epoch);
	load(&g, &saved);
	assert_memory_equal(epoch, g.box->epoch, sizeof epoch);
	assert_int_equal(g.box->last, 4);
	assert_int_equal(outbox_gone(g.box), 1);
	assert_int_equal(g.box->n_unsent, 3);
	put(&g, 0, "new");
	assert_int_equal(outbox_emit(g.box, 4, false), 0);
	position_is(&g, 0, 2);
	assert_string_equal(emitted(&g), "1:2=ab ; 0:3=ab ; 1:4=ab ; ");
	assert_int_equal(outbox_emit(g.box, 5, false), 0);
	assert_string_equal(emitted(&g), "0:5=new ; ");
	assert_int_equal(outbox_renew(g.box), 0);
	assert_memory_not_equal(epoch, g.box->epoch, sizeof epoch);
	end(&g);
	ss_strbuf_done(&saved);
}

/* Saved a little at a time, while some are acknowledged and others come. */
static void is_saved_while_it_is_used(void **state)
{
	(void)state;

	for (uint64_t saved_first = 0; saved_first < 12; saved_first++) {
		for (uint64_t gone = 0; gone <= 10; gone++) {
			struct ss_strbuf saved = {0};
			struct fixture f, g;
			begin(&f, true);
			for (int i = 0; i < 10; i++) {
				put(&f, 0, "0123456789");
				assert_int_equal(outbox_emit(f.box, 10, false), 0);
			}
			outbox_save_begin(f.box, &saved);
			for (uint64_t i = 0; i < saved_first; i++)
				outbox_save_step(f.box, 1);
			for (uint64_t i = 0; i < gone; i++)
				outbox_acked(f.box, i, SS_DELIVERED);
			put(&f, 0, "later");
			assert_int_equal(outbox_emit(f.box, 11, false), 0);
			while (!outbox_save_step(f.box, 1))
				;
			end(&f);
			begin(&g, true);
			load(&g, &saved);
			assert_int_equal(g.box->last, 10);
			/* none is missing of those that were not acknowledged */
			uint64_t had = saved_first < 10 ? saved_first : 10;
			assert_int_equal(g.box->n_unsent, had > gone ? 10 : had + 10 - gone);
			assert_int_equal(outbox_emit(g.box, 10, false), 0);
			const struct ss_batch *b = g.h.n_emitted ? g.h.emitted[0].batch : NULL;
			for (uint32_t i = 0; b && i < b->count; i++)
				assert_int_equal(b->events[b->count - 1 - i].seq,
						 i < 10 - gone || had > gone ? 10 - i
									     : had - (i - (10 - gone)));
			end(&g);
			ss_strbuf_done(&saved);
		}
	}
}

static void damage_is_refused(void **state)
{
	(void)state;
	struct ss_strbuf saved = {0};
	struct fixture f;

	begin(&f, true);
	for (int i = 0; i < 3; i++)
		put(&f, 0, "result");
	outbox_save_begin(f.box, &saved);
	while (!outbox_save_step(f.box, MANY))
		;
	end(&f);
	for (size_t len = 0; len < saved.len; len++) {
		struct ss_unpack r = {.at = (uint8_t *)saved.bytes, .end = (uint8_t *)saved.bytes + len};
		begin(&f, true);
		assert_int_equal(outbox_load(f.box, &r), -EINVAL);
		end(&f);
	}
	for (size_t i = 0; i < saved.len; i++) {
		struct ss_unpack r = {.at = (uint8_t *)saved.bytes,
				      .end = (uint8_t *)saved.bytes + saved.len};
		saved.bytes[i] ^= 0xff;
		begin(&f, true);
		(void)outbox_load(f.box, &r); /* whatever it makes of it, it stays within its bounds */
		(void)outbox_emit(f.box, UINT64_MAX, true);
		end(&f);
		saved.bytes[i] ^= (char)0xff;
	}
	ss_strbuf_done(&saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_at_once_without_numbers),
		cmocka_unit_test(waits_for_its_check_point),
		cmocka_unit_test(batches_have_limits),
		cmocka_unit_test(goes_out_as_fast_as_it_is_taken),
		cmocka_unit_test(goes_out_again_after_a_failure),
		cmocka_unit_test(out_of_memory),
		cmocka_unit_test(goes_on_after_a_restart),
		cmocka_unit_test(is_saved_while_it_is_used),
		cmocka_unit_test(damage_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
