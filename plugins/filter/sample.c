/* SPDX-License-Identifier: MIT */
/* sample - see sample.h. */
#include <errno.h>
#include <stdlib.h>
#include <semstreams/ext/fields.h>
#include "keyed.h"
#include "sample.h"

int sample_compile(json_t *json, struct ss_json_option *spec, struct ss_paths *paths,
		   const struct ss_iface *fields, struct sample **out)
{
	static const char *const known[] = {"one_in", "key", NULL};
	json_t *one_in = json_object_get(json, "one_in");
	struct sample *s = calloc(1, sizeof *s);

	if (!s) {
		spec->err = -ENOMEM;
		return -ENOMEM;
	}
	s->fields = *fields;
	s->key = -1;
	if (!json_is_object(json)) {
		ss_json_error(spec, NULL, "must be an object such as {\"one_in\": 10}, found %s",
			      ss_json_type(json));
	} else {
		ss_json_keys(spec, json, known);
		if (!json_is_integer(one_in) || json_integer_value(one_in) < 1)
			ss_json_error(spec, one_in ? "one_in" : NULL,
				      "\"one_in\" must be an integer of at least 1");
		else
			s->one_in = (uint64_t)json_integer_value(one_in);
		s->key = compile_path(json, "key", false, spec, paths);
	}
	if (spec->err)
		sample_free(s);
	else
		*out = s;
	return spec->err;
}

void sample_free(struct sample *s)
{
	if (!s)
		return;
	free(s->scratch.bytes);
	free(s);
}

int sample_take(struct sample *s, const struct ss_field *fields)
{
	/* the same keys on every host and after every start, so that samples can be put together */
	static const uint64_t known_to_all[2] = {0x73616d706c65, 1};
	uint64_t hash[2];

	if (s->key < 0)
		return s->seen++ % s->one_in == 0;
	int rc = ss_value_hash(&s->fields, &s->scratch, &fields[s->key], known_to_all, hash);
	return rc < 0 ? rc : hash[0] % s->one_in == 0;
}
