/* SPDX-License-Identifier: MIT */
/* fuzz_fields - any bytes as a document, compared with Jansson, and their beginning as a path. */
#include "core/fields/fields.h"
#include "sdk/test-host/tests/json_jansson.h"

#include <semstreams/ext/fields.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fields_path paths[] = {
	{.text = "", .n = 0},
	{.text = "a", .name = {"a"}, .n = 1},
	{.text = "a.b", .name = {"a", "b"}, .n = 2},
	{.text = "/a/0", .name = {"a", "0"}, .n = 2},
	{.text = "0", .name = {"0"}, .n = 1},
	{.text = "1.1", .name = {"1", "1"}, .n = 2},
	{.text = "sensor", .name = {"sensor"}, .n = 1},
	{.text = "longer than 16 bytes.a", .name = {"longer than 16 bytes", "a"}, .n = 2},
	{.text = "/~0~1", .name = {"~/"}, .n = 1},
	{.text = "/", .name = {""}, .n = 1},
	{.text = "\xc3\xa9", .name = {"\xc3\xa9"}, .n = 1},
};
enum { PATHS = sizeof paths / sizeof paths[0] };

static struct ss_reader *reader;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	if (!reader) {
		const char *texts[PATHS];
		for (unsigned i = 0; i < PATHS; i++)
			texts[i] = paths[i].text;
		if (fields_service.compile(NULL, texts, PATHS, &reader, NULL))
			abort();
	}
	compare_with_jansson(&fields_service, reader, paths, PATHS, json, size, NULL);

	/* up to three paths from the beginning; whatever they find lies in the document */
	char text[64] = "";
	memcpy(text, data, size < sizeof text - 1 ? size : sizeof text - 1);
	char *line = text;
	const char *lines[3];
	for (unsigned i = 0; i < 3; i++)
		lines[i] = line ? strsep(&line, "\n") : "";
	struct ss_reader *own;
	uint32_t bad = 3;
	if (fields_service.compile(NULL, lines, 3, &own, &bad)) {
		if (bad > 2)
			abort();
		return 0;
	}
	struct ss_field out[3];
	if (fields_service.read(NULL, own, json, size, out, NULL) == 0)
		for (unsigned i = 0; i < 3; i++)
			if (out[i].type != SS_JSON_MISSING &&
			    (out[i].text < json || out[i].text + out[i].len > json + size))
				abort();
	fields_service.free(NULL, own);
	return 0;
}
