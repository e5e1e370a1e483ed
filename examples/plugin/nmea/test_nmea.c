/* SPDX-License-Identifier: MIT */
/* Unit tests of nmea in the test host; those of the sentences themselves are in sentence.rs. */
#include <semstreams/base/refusal.h>
#include "check.h"

/* refusals.rs has so many bytes for it */
_Static_assert(sizeof(struct ss_refusals) <= 384, "struct ss_refusals has outgrown refusals.rs");

#define VTG "$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48"
#define VTG_JSON                                                                                             \
	"{\"type\":\"VTG\",\"talker\":\"GP\",\"course\":54.7,\"course_magnetic\":34.4,\"speed_kn\":5.5,"     \
	"\"speed_kmh\":10.2}"

static int32_t all_are_read(const struct ss_host *of, uint32_t port)
{
	(void)of, (void)port;
	return 1;
}

/* With somebody who reads what is refused. */
static void begin_read(void)
{
	begin(NULL);
	host.host.output_read = all_are_read;
}

static void test_sentences_become_json(void)
{
	const char *const texts[] = {VTG, "$GPGSV,1,1,00*79", VTG "\r\n"};
	begin(NULL);
	check(process(texts, 3) == SS_DONE, "process");
	check_emitted(VTG_JSON "\n" VTG_JSON "\n");
	check(host.n_emitted == 1 && host.emitted[0].batch->events[1].seq == 3,
	      "the sequence is that of the sentence");
	check(host.emitted[0].batch->events[1].time_ns == UINT64_C(1000000000000000002), "and the time");
	check(host.dropped[0] + host.dropped[1] == 0, "another type is filtered");
	ss_test_host_done(&host);
}

static void test_refused_ones_keep_their_bytes(void)
{
	const char *const texts[] = {"no sentence", VTG, "$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*00"};
	uint32_t n = 0;
	begin_read();
	check(process(texts, 3) == SS_DONE, "process");
	check_emitted(VTG_JSON "\n");
	char *refused = ss_test_host_text(&host, 1);
	check(strcmp(refused, "no sentence\n$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*00\n") == 0, refused);
	free(refused);
	for (uint32_t i = 0; i < host.n_emitted; i++) {
		const struct ss_batch *batch = host.emitted[i].batch;
		for (uint32_t row = 0; host.emitted[i].port == 1 && row < batch->count; row++, n++) {
			const struct ss_attribute why =
				ss_attribute_get(ss_attributes_of(batch, &batch->events[row]), SS_ATTR_ERROR);
			const char *expected = n == 0 ? "malformed" : "bad_checksum";
			check(why.len == strlen(expected) && memcmp(why.text, expected, why.len) == 0,
			      expected);
		}
	}
	check(n == 2, "both say why");
	ss_test_host_done(&host);
}

static void test_refused_ones_that_nobody_reads(void)
{
	const char *const texts[] = {"x", "y", "$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*00"};
	begin(NULL);
	check(process(texts, 3) == SS_DONE, "process");
	check(host.n_emitted == 0, "nothing is emitted");
	check(host.dropped[0] == 2 && host.dropped[1] == 1, "each is counted by its reason");
	ss_test_host_done(&host);
}

static void test_checksums_may_be_missing(void)
{
	const char *const options[] = {"checksum", "false", NULL};
	const char *const texts[] = {"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K"};
	begin(options);
	check(process(texts, 1) == SS_DONE, "process");
	check_emitted(VTG_JSON "\n");
	ss_test_host_done(&host);
}

static void test_out_of_memory(void)
{
	const char *const texts[] = {"x", VTG};
	begin_read();
	struct ss_batch *batch = ss_test_host_batch(&host, texts, 2);
	host.fail_batch_new = 0;
	check(ss_test_host_process(&host, 0, batch) < 0, "process reports it");
	host.fail_batch_new = 1;
	check(ss_test_host_process(&host, 0, batch) == SS_DONE, "sentences come first");
	check(host.dropped[2] == 1, "a refused one is counted");
	host.fail_batch_new = UINT32_MAX;
	check(ss_test_host_process(&host, 0, batch) == SS_DONE, "and it goes on");
	host.host.batch_unref(batch);
	ss_test_host_done(&host);
}

int main(void)
{
	run("sentences become JSON", test_sentences_become_json);
	run("refused ones keep their bytes", test_refused_ones_keep_their_bytes);
	run("refused ones that nobody reads", test_refused_ones_that_nobody_reads);
	run("checksums may be missing", test_checksums_may_be_missing);
	run("out of memory", test_out_of_memory);
	return result();
}
