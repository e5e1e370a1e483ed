/* SPDX-License-Identifier: MIT */
/* Unit tests of mavlink, in the host that the SDK has for tests.  Vectors are frames that another encoder
 * made. */
#include <semstreams/test-host.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "frame.h"

enum { METRIC_FRAMES, METRIC_REFUSED };

#define HEARTBEAT   "fd090000070101000000040000000203510403381c"
#define HEARTBEAT_1 "fe09080101000400000002035104038282"
#define TEXT        "fd0d0000000101fd00000661202271756f74652220c3a95cd7"
#define ARM         "fd2000000001014c00000000803f000000000000000000000000000000000000000000000000900101013bf3"
/* key 00 01 .. 1f, link 2, timestamp 1000 */
#define SIGNED "fd090100090101000000040000000203510403488802e80300000000f21462e5455b"
#define KEY    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

static struct ss_test_host host, other;
static int failures;
static char folder[] = "/tmp/test-mavlink-XXXXXX", key_file[64];

static void check(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "failed: %s; log, errors:\n%s%s", what, host.log, host.errors);
		failures++;
	}
}

/* ---- helpers ---- */

static void begin(struct ss_test_host *h, const char *const *options)
{
	ss_test_host_init(h, semstreams_entry_v1.components[0]);
	check(ss_test_host_create(h, ss_test_host_configure(h, options)) == 0, "create");
	check(h->desc->start(h->self) == 0, "start");
}

static void begin_decode(void)
{
	begin(&host, (const char *const[]){"mode", "decode", NULL});
}

/* One event of these bytes; how many came out on the first output. */
static uint32_t process(struct ss_test_host *h, const uint8_t *bytes, size_t len, uint64_t time_ns)
{
	char *text = malloc(len + 1);
	uint32_t n = 0;

	ss_test_host_clear(h);
	memset(text, 'x', len);
	text[len] = '\0';
	struct ss_batch *batch = ss_test_host_batch(h, (const char *const[]){text}, 1);
	free(text);
	if (len)
		memcpy((void *)(uintptr_t)batch->events[0].data, bytes, len);
	if (time_ns)
		batch->events[0].time_ns = time_ns;
	check(ss_test_host_process(h, 0, batch) == SS_DONE, "process");
	h->host.batch_unref(batch);
	for (uint32_t i = 0; i < h->n_emitted; i++)
		n += h->emitted[i].port == 0 ? h->emitted[i].batch->count : 0;
	return n;
}

static size_t from_hex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
		out[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return n;
}

static uint32_t process_hex(const char *hex)
{
	uint8_t bytes[4096];

	return process(&host, bytes, from_hex(hex, bytes), 0);
}

static const struct ss_event *emitted(const struct ss_test_host *h, uint32_t port)
{
	for (uint32_t i = 0; i < h->n_emitted; i++)
		if (h->emitted[i].port == port)
			return h->emitted[i].batch->events;
	return NULL;
}

static bool is_text(const struct ss_event *e, const char *want)
{
	bool same = e && e->len == strlen(want) && memcmp(e->data, want, e->len) == 0;

	if (!same)
		fprintf(stderr, "got %.*s\nwanted %s\n", e ? (int)e->len : 0, e ? (const char *)e->data : "",
			want);
	return same;
}

static bool is_hex(const struct ss_event *e, const char *hex)
{
	uint8_t bytes[512];
	size_t len = from_hex(hex, bytes);

	return e && e->len == len && memcmp(e->data, bytes, len) == 0;
}

static bool is_refused(enum mav_fault fault)
{
	return host.metrics[METRIC_REFUSED + fault] == 1 && host.metrics[METRIC_FRAMES] == 0;
}

/* ---- the dialect ---- */

/* What the MAVLink project publishes of its messages: id, CRC_EXTRA, bytes without extensions. */
static const struct {
	uint32_t id;
	uint8_t crc_extra, minimum;
} published[] = {
	{0, 50, 9},    {1, 124, 31},   {2, 137, 12},  {4, 237, 14},   {11, 89, 6},     {20, 214, 20},
	{21, 159, 2},  {22, 220, 25},  {23, 168, 23}, {24, 24, 30},   {25, 23, 101},   {26, 170, 22},
	{27, 144, 26}, {29, 115, 14},  {30, 39, 28},  {31, 246, 32},  {32, 185, 28},   {33, 104, 28},
	{36, 222, 21}, {40, 230, 4},   {41, 28, 4},   {42, 28, 2},    {43, 132, 2},    {44, 221, 4},
	{45, 232, 2},  {46, 11, 2},    {47, 153, 3},  {48, 41, 13},   {49, 39, 12},    {51, 196, 4},
	{62, 183, 26}, {65, 118, 42},  {66, 148, 6},  {69, 243, 11},  {73, 38, 37},    {74, 20, 20},
	{75, 158, 35}, {76, 152, 33},  {77, 143, 3},  {84, 143, 53},  {109, 185, 9},   {110, 84, 254},
	{111, 34, 16}, {125, 203, 6},  {141, 47, 32}, {147, 154, 36}, {148, 178, 60},  {230, 163, 42},
	{241, 90, 32}, {242, 104, 52}, {244, 95, 6},  {245, 130, 2},  {251, 170, 18},  {252, 44, 18},
	{253, 83, 51}, {254, 46, 9},   {256, 71, 42}, {300, 217, 22}, {385, 147, 133},
};

static void test_dialect(void)
{
	char what[64];

	check(sizeof published / sizeof *published >= 40, "forty messages");
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		const struct mav_message *m = mav_message_by_id(published[i].id);
		snprintf(what, sizeof what, "message %u as published", published[i].id);
		check(m && m->crc_extra == published[i].crc_extra && m->minimum == published[i].minimum,
		      what);
		check(m && mav_message_by_name(m->name, strlen(m->name)) == m, "found by name");
	}
	check(!mav_message_by_id(3) && !mav_message_by_name("HEARTBEA", 8), "no others");
}

/* ---- decoding ---- */

static void test_known_frames(void)
{
	begin_decode();
	check(process_hex(HEARTBEAT) == 1, "one");
	check(is_text(emitted(&host, 0),
		      "{\"sysid\":1,\"compid\":1,\"msgid\":0,\"name\":\"HEARTBEAT\",\"seq\":7,"
		      "\"version\":2,\"fields\":{\"type\":2,\"autopilot\":3,\"base_mode\":81,"
		      "\"custom_mode\":4,\"system_status\":4,\"mavlink_version\":3}}"),
	      "version 2");
	process_hex(HEARTBEAT_1);
	check(is_text(emitted(&host, 0),
		      "{\"sysid\":1,\"compid\":1,\"msgid\":0,\"name\":\"HEARTBEAT\",\"seq\":8,"
		      "\"version\":1,\"fields\":{\"type\":2,\"autopilot\":3,\"base_mode\":81,"
		      "\"custom_mode\":4,\"system_status\":4,\"mavlink_version\":3}}"),
	      "version 1");
	process_hex(TEXT);
	check(is_text(emitted(&host, 0),
		      "{\"sysid\":1,\"compid\":1,\"msgid\":253,\"name\":\"STATUSTEXT\",\"seq\":0,"
		      "\"version\":2,\"fields\":{\"severity\":6,\"text\":\"a \\\"quote\\\" "
		      "\xc3\xa9\",\"id\":0,\"chunk_seq\":0}}"),
	      "text");
	process_hex(SIGNED);
	check(strstr((const char *)emitted(&host, 0)->data,
		     "\"signature\":{\"link\":2,\"timestamp\":1000,\"value\":\"f21462e5455b\",\"verified\":"
		     "false}}"),
	      "signature that nobody checks");
	ss_test_host_done(&host);
}

static void test_several_in_a_datagram(void)
{
	begin_decode();
	check(process_hex(HEARTBEAT HEARTBEAT_1 TEXT ARM) == 4, "four");
	check(host.metrics[METRIC_FRAMES] == 4, "counted");
	check(process_hex("0102" HEARTBEAT "03" HEARTBEAT "ff") == 2, "with something between");
	check(host.metrics[METRIC_REFUSED + MAV_NO_FRAME] == 3, "which is refused");
	check(host.dropped[MAV_NO_FRAME] == 0, "the event is not lost");
	ss_test_host_done(&host);
}

static void test_refused_frames(void)
{
	static const struct {
		const char *hex;
		enum mav_fault fault;
	} cases[] = {
		{"", MAV_NO_FRAME},
		{"00", MAV_NO_FRAME},
		{"fd", MAV_TRUNCATED},
		{"fe0908010100", MAV_TRUNCATED},
		{"fd090000070101000000040000000203510403381d", MAV_BAD_CRC},
		{"fd090000070101030000040000000203510403381c", MAV_UNKNOWN_MESSAGE},
		{"fd090200070101000000040000000203510403381c", MAV_INCOMPATIBLE},
		{"fe020801010004008ab6", MAV_BAD_CRC},
	};

	begin_decode();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		check(process_hex(cases[i].hex) == 0, cases[i].hex);
		check(is_refused(cases[i].fault), cases[i].hex);
		check(host.dropped[cases[i].fault] == 1, "nobody reads the output error");
	}
	/* a frame of version 1 that is too short, and right in itself */
	const struct mav_frame f = {.version = 1,
				    .message = mav_message_by_id(0),
				    .payload = (const uint8_t *)"\1\2",
				    .payload_len = 2};
	uint8_t bytes[MAV_FRAME_MAX];
	check(process(&host, bytes, mav_frame_write(&f, bytes), 0) == 0 && is_refused(MAV_BAD_LENGTH),
	      "short");
	ss_test_host_done(&host);
}

/* A key that passes by is neither shown nor kept. */
static void test_secret_message(void)
{
	const uint8_t payload[42] = {1, 1, [2] = 's', 'e', 'c', 'r', 'e', 't', [41] = 1};
	const struct mav_frame f = {
		.version = 2, .message = mav_message_by_id(256), .payload = payload, .payload_len = 42};
	uint8_t bytes[MAV_FRAME_MAX + 64];
	size_t len = mav_frame_write(&f, bytes);

	begin_decode();
	check(process(&host, bytes, len, 0) == 0 && is_refused(MAV_NOT_ALLOWED), "not decoded");
	check(host.n_emitted == 0 && host.dropped[MAV_NOT_ALLOWED] == 1, "dropped");
	check(strstr(host.log, "SETUP_SIGNING") && !strstr(host.log, "ecret"), "the log has no key");
	len += from_hex(HEARTBEAT, bytes + len);
	check(process(&host, bytes, len, 0) == 1 && host.dropped[MAV_NOT_ALLOWED] == 0,
	      "the frame behind it");
	ss_test_host_done(&host);
}

/* ---- there and back ---- */

static uint32_t seed = 1;

static uint8_t any_byte(void)
{
	seed = seed * 1664525 + 1013904223;
	return (uint8_t)(seed >> 24);
}

/* Whatever is in it, also a NaN, texts that are none, zeros at the end that are sent, bytes that are unknown.
 */
static size_t any_frame(const struct mav_message *m, uint8_t *out)
{
	static const uint8_t special[] = {0, 0xff, 0x7f, 0x80, 0xc0, 1};
	uint8_t payload[255], signature[MAV_SIGNATURE_LEN];
	struct mav_frame f = {.version = m->id < 256 && any_byte() % 2 ? 1 : 2,
			      .seq = any_byte(),
			      .sysid = any_byte(),
			      .compid = any_byte(),
			      .message = m,
			      .payload = payload};
	uint8_t kind = any_byte() % 4;

	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = kind == 0                 ? special[any_byte() % sizeof special]
			     : kind == 1 && i % 3 == 0 ? any_byte()
			     : kind == 2               ? any_byte()
						       : (uint8_t)(any_byte() % 2 ? 0 : any_byte());
	for (size_t i = 0; i < sizeof signature; i++)
		signature[i] = any_byte();
	if (f.version == 2) {
		f.compat_flags = any_byte() % 3 ? 0 : any_byte();
		f.signature = any_byte() % 2 ? signature : NULL;
	}
	f.payload_len = mav_frame_payload_len(m, f.version, payload);
	if (any_byte() % 3 == 0) /* of any length */
		f.payload_len = f.version == 2 ? any_byte() : m->minimum | any_byte();
	return mav_frame_write(&f, out);
}

static void test_there_and_back(void)
{
	uint8_t bytes[MAV_FRAME_MAX];
	char what[64];

	begin_decode();
	begin(&other, (const char *const[]){"mode", "encode", "allow", "\"all\"", NULL});
	for (size_t i = 0; i < mav_dialect.n; i++)
		for (int n = 0; n < 200 && mav_dialect.messages[i].id != MAV_SECRET_ID; n++) {
			size_t len = any_frame(&mav_dialect.messages[i], bytes);
			const struct ss_event *e = process(&host, bytes, len, 0) ? emitted(&host, 0) : NULL;
			const struct ss_event *back =
				e && process(&other, e->data, e->len, 0) ? emitted(&other, 0) : NULL;
			bool same = back && back->len == len && memcmp(back->data, bytes, len) == 0;
			if (!same && e)
				fprintf(stderr, "%.*s\n", (int)e->len, (const char *)e->data);
			snprintf(what, sizeof what, "%s comes back", mav_dialect.messages[i].name);
			check(same, what);
			if (!same)
				n = 200;
		}
	ss_test_host_done(&other);
	ss_test_host_done(&host);
}

static uint32_t encode(const char *json)
{
	return process(&host, (const uint8_t *)json, strlen(json), 0);
}

static void test_nothing_is_allowed_by_default(void)
{
	begin(&host, (const char *const[]){"mode", "encode", NULL});
	check(encode("{\"sysid\":1,\"compid\":1,\"name\":\"MISSION_ITEM_REACHED\",\"fields\":{\"seq\":1}}") ==
		      0,
	      "out");
	check(is_refused(MAV_NOT_ALLOWED), "not allowed");
	ss_test_host_done(&host);
}

#define COMMAND(rest)                                                                                        \
	"{\"sysid\":1,\"compid\":1,\"name\":\"COMMAND_LONG\",\"fields\":{\"command\":400,\"target_system\":" \
	"1,"                                                                                                 \
	"\"target_component\":1,\"confirmation\":0,\"param1\":1,\"param2\":0,\"param3\":0,\"param4\":0,"     \
	"\"param5\":0,\"param6\":0,\"param7\":0" rest

static void test_only_what_is_allowed(void)
{
	static const struct {
		const char *json;
		enum mav_fault fault;
	} cases[] = {
		{"{\"sysid\":1", MAV_NOT_JSON},
		{"{\"sysid\":1,\"compid\":1,\"name\":\"SET_MODE\",\"fields\":{}}", MAV_NOT_ALLOWED},
		{"{\"sysid\":1,\"compid\":1,\"msgid\":11,\"fields\":{}}", MAV_NOT_ALLOWED},
		{"{\"sysid\":1,\"compid\":1,\"name\":\"SET_MOOD\",\"fields\":{}}", MAV_UNKNOWN_MESSAGE},
		{"{\"sysid\":1,\"compid\":1,\"fields\":{}}", MAV_UNKNOWN_MESSAGE},
		{COMMAND("},\"msgid\":11}"), MAV_BAD_FIELD},
		{COMMAND("},\"version\":3}"), MAV_BAD_FIELD},
		{COMMAND("},\"seq\":256}"), MAV_BAD_FIELD},
		{COMMAND("},\"len\":2}"), MAV_BAD_FIELD},
		{COMMAND(",\"param7\":\"1\"}}"), MAV_BAD_FIELD},
		{COMMAND(",\"param7\":1e39}}"), MAV_BAD_FIELD},
		{COMMAND(",\"param7\":null}}"), MAV_BAD_FIELD},
		{COMMAND(",\"param7\":\"NaN:3f800000\"}}"), MAV_BAD_FIELD},
		{COMMAND(",\"command\":65536}}"), MAV_BAD_FIELD},
		{COMMAND(",\"command\":-1}}"), MAV_BAD_FIELD},
		{COMMAND(",\"command\":4.0}}"), MAV_BAD_FIELD},
		{COMMAND(",\"command\":18446744073709551616}}"), MAV_BAD_FIELD},
		{"{\"sysid\":1,\"compid\":1,\"name\":\"COMMAND_LONG\",\"fields\":{\"command\":400}}",
		 MAV_BAD_FIELD},
	};

	begin(&host, (const char *const[]){"mode", "encode", "allow", "[\"COMMAND_LONG\"]", NULL});
	check(encode(COMMAND("}}")) == 1 && is_hex(emitted(&host, 0), ARM), "what is allowed, as a frame");
	check(encode(COMMAND("},\"seq\":77}")) == 1 && emitted(&host, 0)->data[4] == 77, "a seq of its own");
	check(encode(COMMAND("}}")) == 1 && emitted(&host, 0)->data[4] == 1, "the next seq");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		check(encode(cases[i].json) == 0, cases[i].json);
		check(is_refused(cases[i].fault), cases[i].json);
	}
	ss_test_host_done(&host);
}

/* ---- signatures ---- */

static void write_key(const char *text, mode_t mode)
{
	FILE *file = fopen(key_file, "w");

	check(file && fputs(text, file) >= 0 && fclose(file) == 0 && chmod(key_file, mode) == 0, "key file");
}

static void test_signatures(void)
{
	/* of the stream's first frame it is 10 ms later than it says */
	const uint64_t time_ns = UINT64_C(1420070400000000000) + 1001 * UINT64_C(10000) + 10000000;
	uint8_t bytes[64];
	size_t len = from_hex(SIGNED, bytes);

	write_key(KEY, 0600);
	begin(&host, (const char *const[]){"mode", "decode", "key_file", key_file, "max_streams", "1", NULL});
	check(process_hex(HEARTBEAT) == 0 && is_refused(MAV_UNSIGNED), "unsigned");
	for (size_t i = 21; i < len; i++) { /* link, timestamp, signature */
		bytes[i] ^= 1;
		check(process(&host, bytes, len, time_ns) == 0 && is_refused(MAV_BAD_SIGNATURE), "bent");
		bytes[i] ^= 1;
	}
	check(process(&host, bytes, len, time_ns + UINT64_C(61000000000)) == 0 &&
		      is_refused(MAV_OLD_TIMESTAMP),
	      "a stream that begins more than a minute ago");
	check(process(&host, bytes, len, time_ns) == 1, "genuine");
	check(strstr((const char *)emitted(&host, 0)->data, "\"verified\":true"), "and says so");
	check(process(&host, bytes, len, time_ns) == 0 && is_refused(MAV_OLD_TIMESTAMP), "replayed");
	ss_test_host_done(&host);

	begin(&host,
	      (const char *const[]){"mode", "decode", "key_file", key_file, "accept_unsigned", "true", NULL});
	check(process_hex(HEARTBEAT) == 1, "unsigned where that is accepted");
	bytes[33] ^= 1;
	check(process(&host, bytes, len, time_ns) == 0 && is_refused(MAV_BAD_SIGNATURE), "bent all the same");
	ss_test_host_done(&host);
}

/* What one signs the other accepts, and no more streams than there is room for. */
static void test_signing(void)
{
	uint8_t frame[MAV_FRAME_MAX];
	size_t len;

	write_key(KEY, 0600);
	begin(&host, (const char *const[]){"mode", "encode", "allow", "[\"COMMAND_LONG\"]", "key_file",
					   key_file, "link", "7", NULL});
	begin(&other,
	      (const char *const[]){"mode", "decode", "key_file", key_file, "max_streams", "1", NULL});
	for (int i = 0; i < 3; i++) { /* in one tick of the clock, too */
		check(encode(COMMAND("}}")) == 1, "signed");
		len = emitted(&host, 0)->len;
		memcpy(frame, emitted(&host, 0)->data, len);
		check(frame[2] == MAV_SIGNED && frame[len - MAV_SIGNATURE_LEN] == 7, "flag and link");
		check(process(&other, frame, len, 0) == 1, "accepted");
	}
	check(process(&other, frame, len, 0) == 0 && other.metrics[METRIC_REFUSED + MAV_OLD_TIMESTAMP] == 1,
	      "once");
	check(encode("{\"sysid\":2" /* another stream */
		     ",\"compid\":1,\"name\":\"COMMAND_LONG\",\"fields\":{\"command\":1,\"target_system\":1,"
		     "\"target_component\":1,\"confirmation\":0,\"param1\":1,\"param2\":0,\"param3\":0,"
		     "\"param4\":0,\"param5\":0,\"param6\":0,\"param7\":0}}") == 1,
	      "of another system");
	check(process(&other, emitted(&host, 0)->data, emitted(&host, 0)->len, 0) == 0 &&
		      other.metrics[METRIC_REFUSED + MAV_TOO_MANY_STREAMS] == 1,
	      "no room");
	check(encode(COMMAND("},\"signature\":{\"link\":1,\"timestamp\":5,\"value\":\"001122334455\"}}")) ==
			      0 &&
		      is_refused(MAV_BAD_SIGNATURE),
	      "a signature that is not the key's");
	ss_test_host_done(&other);
	ss_test_host_done(&host);
}

static void test_keys(void)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *error;
	} cases[] = {
		{KEY, 0644, "can be read by others"},
		{"0001", 0600, "is not a key"},
		{"", 0600, "is not a key"},
		{"zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 0600, "is not a key"},
		{KEY KEY, 0600, "is not a key"},
	};
	const char *const options[] = {"mode", "decode", "key_file", key_file, NULL};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_key(cases[i].text, cases[i].mode);
		ss_test_host_init(&host, semstreams_entry_v1.components[0]);
		check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
		check(host.desc->start(host.self) < 0 && strstr(host.log, cases[i].error), cases[i].error);
		check(!strstr(host.log, "0102"), "the key is not in the log");
		ss_test_host_done(&host);
	}
	write_key("0123456789abcdef0123456789abcdef", 0600);
	begin(&host, options);
	ss_test_host_done(&host);
}

static void test_wrong_options(void)
{
	static const struct {
		const char *mode, *key, *value, *error;
	} cases[] = {
		{"decode", "allow", "\"all\"", "/allow: is for \"mode\": \"encode\""},
		{"encode", "allow", "[\"SET_MODE\",\"SET_MOOD\"]", "/allow/1: \"SET_MOOD\" is no message"},
		{"encode", "allow", "[\"SETUP_SIGNING\"]", "/allow/0: \"SETUP_SIGNING\" has a key in it"},
		{"encode", "allow", "\"SET_MODE\"", "/allow: must be an array"},
		{"decode", "accept_unsigned", "true",
		 "/accept_unsigned: is only used together with key_file"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *const options[] = {"mode", cases[i].mode, cases[i].key, cases[i].value, NULL};
		ss_test_host_init(&host, semstreams_entry_v1.components[0]);
		check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == -EINVAL,
		      "refused");
		check(strstr(host.errors, cases[i].error), cases[i].error);
		ss_test_host_done(&host);
	}
}

/* ---- hostile bytes ---- */

static void test_bent_bytes(void)
{
	uint8_t bytes[2048];

	begin_decode();
	begin(&other, (const char *const[]){"mode", "encode", "allow", "\"all\"", NULL});
	for (int n = 0; n < 20000; n++) {
		size_t len = 0;
		for (int k = any_byte() % 4; k >= 0; k--)
			len += any_frame(&mav_dialect.messages[any_byte() % mav_dialect.n], bytes + len);
		for (int k = any_byte() % 4; k > 0; k--)
			bytes[((size_t)any_byte() << 8 | any_byte()) % len] ^= (uint8_t)(1 << any_byte() % 8);
		len -= any_byte() % 4 ? 0 : any_byte() % len;
		if (process(&host, bytes, len, 0) == 0)
			continue;
		/* what came out, bent in its turn */
		const struct ss_event *e = emitted(&host, 0);
		if (e->len > sizeof bytes)
			continue;
		memcpy(bytes, e->data, len = e->len);
		bytes[((size_t)any_byte() << 8 | any_byte()) % len] = any_byte();
		process(&other, bytes, len, 0);
	}
	for (int n = 0; n < 20000; n++) {
		size_t len = any_byte();
		for (size_t i = 0; i < len; i++)
			bytes[i] = any_byte() % 8 ? any_byte() : 0xfd;
		process(&host, bytes, len, 0);
	}
	ss_test_host_done(&other);
	ss_test_host_done(&host);
	check(true, "still here");
}

static void test_out_of_memory(void)
{
	const char *const texts[] = {"xxxxxxxxxxxxxxxxxxxxx"};
	uint8_t bytes[64];

	begin_decode();
	struct ss_batch *batch = ss_test_host_batch(&host, texts, 1);
	memcpy((void *)(uintptr_t)batch->events[0].data, bytes, from_hex(HEARTBEAT, bytes));
	host.fail_batch_new = 0;
	check(ss_test_host_process(&host, 0, batch) < 0, "process reports that memory ran out");
	host.host.batch_unref(batch);
	ss_test_host_done(&host);
}

/* Prints TAP, the Test Anything Protocol; whoever does not read it looks at the exit status. */
int main(void)
{
	static const struct {
		const char *name;
		void (*test)(void);
	} tests[] = {
		{"the dialect is as published", test_dialect},
		{"known frames", test_known_frames},
		{"several in a datagram", test_several_in_a_datagram},
		{"refused frames", test_refused_frames},
		{"a message with a secret", test_secret_message},
		{"there and back", test_there_and_back},
		{"nothing is allowed by default", test_nothing_is_allowed_by_default},
		{"only what is allowed", test_only_what_is_allowed},
		{"signatures", test_signatures},
		{"signing", test_signing},
		{"keys", test_keys},
		{"wrong options", test_wrong_options},
		{"bent bytes", test_bent_bytes},
		{"out of memory", test_out_of_memory},
	};
	const int n = (int)(sizeof tests / sizeof *tests);

	if (!mkdtemp(folder))
		return EXIT_FAILURE;
	snprintf(key_file, sizeof key_file, "%s/key", folder);
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		int before = failures;
		tests[i].test();
		printf("%sok %d - %s\n", failures > before ? "not " : "", i + 1, tests[i].name);
	}
	unlink(key_file);
	rmdir(folder);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
