/* SPDX-License-Identifier: MIT */
#include "thinning.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <semstreams/ext/fields.h>

#define MAX_RATE 1000000000 /* events and burst */

/* How far events of one key may be out of order before it is taken for a clock that was set back. */
#define KEYED_DISORDER_NS 10000000000u

#define MAX_KEY_FIELDS 8
#define HASH_OF_HASHES 0xff /* no type of a value: that of several values as one key */

/* The fields whose values together are the key of an event. */
struct key {
	uint32_t n; /* 0: all events have one key */
	int paths[MAX_KEY_FIELDS];
};

struct keyed_slot {
	uint64_t hash[2]; /* stands for the values of the key */
	uint64_t time_ns; /* deadband: of the last that passed; rate limit: of the last refill */
	union {
		struct ss_number value; /* deadband: the last that passed */
		uint64_t level;         /* rate limit: what is left, an event costs rate->per */
	};
	uint32_t chain, newer, older; /* indices of slots, 0 = none */
	bool fresh;                   /* nothing is known of this key yet */
};

struct keyed {
	struct keyed_slot *slots; /* from 1 */
	uint32_t *heads, mask;    /* chains by hash */
	uint32_t n, max;
	uint32_t newest, oldest;
	uint64_t evicted; /* since the start */
	uint64_t secret[2];
	struct ss_iface fields;
	struct ss_scratch scratch;
};

struct deadband {
	struct keyed *keys;
	int field; /* index of its path */
	struct key key;
	double threshold;
	struct ss_number exact; /* the threshold, if it is no percentage */
	bool percent;
	uint64_t max_interval_ns; /* 0 = none */
};

struct rate_limit {
	struct keyed *keys;
	struct key key;
	uint64_t events, per_ns;
	uint64_t capacity; /* burst, in nanoseconds times events */
	uint64_t full_ns;  /* an empty bucket is full after this */
};

struct sample {
	uint64_t one_in, seen;
	struct key key;
	struct ss_iface fields;
	struct ss_scratch scratch;
};

/* ---- the table ---- */

static void keyed_free(struct keyed *k)
{
	if (!k)
		return;
	free(k->slots);
	free(k->heads);
	free(k->scratch.bytes);
	free(k);
}

static struct keyed *keyed_new(uint32_t max, const struct ss_iface *fields)
{
	struct keyed *k = calloc(1, sizeof *k);
	uint32_t heads = 16;

	if (!k)
		return NULL;
	while (heads < max)
		heads *= 2;
	k->max = max;
	k->mask = heads - 1;
	k->fields = *fields;
	k->slots = calloc((size_t)max + 1, sizeof *k->slots);
	k->heads = calloc(heads, sizeof *k->heads);
	if (!k->slots || !k->heads || getrandom(k->secret, sizeof k->secret, 0) != sizeof k->secret) {
		keyed_free(k);
		return NULL;
	}
	return k;
}

/* Take a slot out of the order of use. */
static void unlink_use(struct keyed *k, struct keyed_slot *s)
{
	*(s->newer ? &k->slots[s->newer].older : &k->newest) = s->older;
	*(s->older ? &k->slots[s->older].newer : &k->oldest) = s->newer;
}

static void link_newest(struct keyed *k, struct keyed_slot *s)
{
	uint32_t index = (uint32_t)(s - k->slots);

	s->newer = 0;
	s->older = k->newest;
	*(k->newest ? &k->slots[k->newest].newer : &k->oldest) = index;
	k->newest = index;
}

/* A slot nobody uses, at the price of the oldest key if need be. */
static struct keyed_slot *new_slot(struct keyed *k)
{
	if (k->n < k->max)
		return &k->slots[++k->n];
	struct keyed_slot *s = &k->slots[k->oldest];
	uint32_t *at = &k->heads[s->hash[0] & k->mask];
	while (*at != k->oldest)
		at = &k->slots[*at].chain;
	*at = s->chain;
	unlink_use(k, s);
	k->evicted++;
	return s;
}

static const struct ss_field missing = {.type = SS_JSON_MISSING};

/* The hash of an event's key; a field that is missing is a value too.  0; -ENOMEM; -EINVAL. */
static int key_hash(const struct key *key, const struct ss_field *fields, const struct ss_iface *service,
		    struct ss_scratch *scratch, const uint64_t secret[2], uint64_t out[2])
{
	uint64_t hashes[MAX_KEY_FIELDS][2];

	if (key->n <= 1)
		return ss_value_hash(service, scratch, key->n ? &fields[key->paths[0]] : &missing, secret,
				     out);
	for (uint32_t i = 0; i < key->n; i++) {
		int rc = ss_value_hash(service, scratch, &fields[key->paths[i]], secret, hashes[i]);
		if (rc < 0)
			return rc;
	}
	ss_hash_bytes(secret, HASH_OF_HASHES, hashes, key->n * sizeof hashes[0], out);
	return 0;
}

/* The slot of an event's key, which counts as used now.  NULL: out of memory. */
static struct keyed_slot *keyed_get(struct keyed *k, const struct key *key, const struct ss_field *fields)
{
	struct keyed_slot *s;
	uint64_t hash[2];

	if (key_hash(key, fields, &k->fields, &k->scratch, k->secret, hash) < 0)
		return NULL;
	uint32_t *head = &k->heads[hash[0] & k->mask];
	for (uint32_t i = *head; i; i = s->chain) {
		s = &k->slots[i];
		if (s->hash[0] != hash[0] || s->hash[1] != hash[1])
			continue;
		if (i != k->newest) {
			unlink_use(k, s);
			link_newest(k, s);
		}
		return s;
	}
	s = new_slot(k);
	*s = (struct keyed_slot){.hash = {hash[0], hash[1]}, .chain = *head, .fresh = true};
	*head = (uint32_t)(s - k->slots);
	link_newest(k, s);
	return s;
}

/* Index of a path, added to paths, which stands at member name of the present place, or there; -1 if it was
 * reported, or -ENOMEM, which goes to option. */
static int add_path(json_t *path, const char *name, struct ss_json_option *option, struct ss_paths *paths)
{
	if (!json_is_string(path)) {
		ss_json_error(option, name, "must be a string, the path of a field, found %s",
			      ss_json_type(path));
		return -1;
	}
	if (strlen(json_string_value(path)) != json_string_length(path)) {
		ss_json_error(option, name, "must not contain a NUL character");
		return -1;
	}
	int index = ss_paths_add(paths, option->at, name, json_string_value(path));
	if (index < 0)
		option->err = index;
	return index;
}

/* {"key": path} or {"key": [path, ...]}, or neither. */
static void compile_key(json_t *json, struct ss_json_option *option, struct ss_paths *paths, struct key *out)
{
	json_t *path, *key = json_object_get(json, "key");
	size_t i;

	*out = (struct key){0};
	if (!json_is_array(key)) {
		out->paths[0] = key ? add_path(key, "key", option, paths) : -1;
		out->n = key ? 1 : 0;
		return;
	}
	if (json_array_size(key) < 1 || json_array_size(key) > MAX_KEY_FIELDS) {
		ss_json_error(option, "key", "must be the path of a field, or an array of 1 to %d paths",
			      MAX_KEY_FIELDS);
		return;
	}
	size_t before = ss_json_enter(option, "key");
	json_array_foreach(key, i, path)
	{
		size_t list = ss_json_enter_index(option, i);
		out->paths[out->n++] = add_path(path, NULL, option, paths);
		ss_json_leave(option, list);
	}
	ss_json_leave(option, before);
}

static bool is_object(json_t *json, struct ss_json_option *option)
{
	if (!json_is_object(json))
		ss_json_error(option, NULL, "must be an object, found %s", ss_json_type(json));
	return json_is_object(json);
}

/* ---- deadband ---- */

static const char *const deadband_keys[] = {"field", "key", "threshold", "max_interval", NULL};

static void compile_threshold(struct deadband *d, json_t *json, struct ss_json_option *option)
{
	json_t *threshold = json_object_get(json, "threshold");
	const char *text = json_string_value(threshold);
	double percent;

	if (json_is_number(threshold)) {
		ss_json_number(option, threshold, &d->exact);
		d->threshold = d->exact.d;
	} else if (text && strlen(text) > 1 && strspn(text, "0123456789.") == strlen(text) - 1 &&
		   text[strlen(text) - 1] == '%') {
		/* read as JSON: strtod would heed the locale */
		char number[32] = "";

		memcpy(number, text, strlen(text) < sizeof number ? strlen(text) - 1 : 0);
		json_t *parsed = json_loads(number, JSON_DECODE_ANY, NULL);
		percent = json_number_value(parsed);
		json_decref(parsed);
		d->percent = true;
		d->threshold = percent / 100;
	}
	if (!(d->threshold > 0))
		ss_json_error(option, threshold ? "threshold" : NULL,
			      threshold ? "must be a number greater than 0, or a percentage such as \"5%%\""
					: "\"threshold\" is missing");
}

static void deadband_free(struct deadband *d)
{
	if (d)
		keyed_free(d->keys);
	free(d);
}

static int deadband_compile(json_t *json, struct ss_json_option *option, struct ss_paths *paths,
			    uint32_t max_keys, const struct ss_iface *fields, struct deadband **out)
{
	struct deadband *d = calloc(1, sizeof *d);

	if (!d) {
		option->err = -ENOMEM;
		return -ENOMEM;
	}
	if (is_object(json, option)) {
		ss_json_keys(option, json, deadband_keys);
		json_t *field = json_object_get(json, "field");
		if (field)
			d->field = add_path(field, "field", option, paths);
		else
			ss_json_error(option, NULL, "\"field\" is missing");
		compile_key(json, option, paths, &d->key);
		compile_threshold(d, json, option);
		ss_json_duration(option, json, "max_interval", &d->max_interval_ns);
	}
	if (!option->err && !(d->keys = keyed_new(max_keys, fields)))
		option->err = -ENOMEM;
	if (option->err)
		deadband_free(d);
	else
		*out = d;
	return option->err;
}

static bool has_moved(const struct deadband *d, const struct ss_number *from, const struct ss_number *to)
{
	double least = d->percent ? d->threshold * fabs(from->d) : d->threshold;
	double moved;

	if (from->integer && to->integer) {
		uint64_t exact = from->i > to->i ? (uint64_t)from->i - (uint64_t)to->i
						 : (uint64_t)to->i - (uint64_t)from->i;
		const struct ss_number n = {.integer = true, .i = (int64_t)exact, .d = (double)exact};
		if (!d->percent && exact <= INT64_MAX)
			return exact > 0 && ss_number_compare(&n, &d->exact) >= 0;
		return exact > 0 && n.d >= least;
	}
	/* 0.7 - 0.4 falls short of 0.3 by a rounding error, which is not meant */
	moved = fabs(to->d - from->d);
	return moved > 0 && moved + 4 * DBL_EPSILON * fmax(fabs(from->d), fabs(to->d)) >= least;
}

/* May this event pass?  1 or 0, or -ENOMEM.  *slot is for deadband_passed, once it is sure that it does; NULL
 * if the field is not a number, which always passes. */
static int deadband_check(struct deadband *d, const struct ss_field *fields, uint64_t time_ns,
			  struct keyed_slot **slot)
{
	const struct ss_field *f = &fields[d->field];
	struct ss_number value;

	*slot = NULL;
	if (f->type != SS_JSON_NUMBER)
		return 1;
	struct keyed_slot *s = *slot = keyed_get(d->keys, &d->key, fields);
	if (!s)
		return -ENOMEM;
	if (s->fresh)
		return 1;
	if (d->max_interval_ns) {
		if (time_ns >= s->time_ns ? time_ns - s->time_ns >= d->max_interval_ns
					  : s->time_ns - time_ns > KEYED_DISORDER_NS)
			return 1;
	}
	ss_number_read(&d->keys->fields, f, &value);
	return has_moved(d, &s->value, &value);
}

static void deadband_passed(struct deadband *d, const struct ss_field *fields, uint64_t time_ns,
			    struct keyed_slot *s)
{
	if (!s)
		return;
	ss_number_read(&d->keys->fields, &fields[d->field], &s->value);
	s->value.text = NULL;
	s->time_ns = time_ns;
	s->fresh = false;
}

/* ---- rate limit ---- */

static const char *const rate_keys[] = {"key", "events", "per", "burst", NULL};

static uint64_t compile_count(json_t *json, const char *name, uint64_t otherwise,
			      struct ss_json_option *option)
{
	json_t *count = json_object_get(json, name);

	if (!count && otherwise)
		return otherwise;
	if (json_is_integer(count) && json_integer_value(count) > 0 && json_integer_value(count) <= MAX_RATE)
		return (uint64_t)json_integer_value(count);
	ss_json_error(option, count ? name : NULL,
		      count ? "\"%s\" must be an integer from 1 to %d" : "\"%s\" is missing", name, MAX_RATE);
	return 1;
}

static void rate_limit_free(struct rate_limit *r)
{
	if (r)
		keyed_free(r->keys);
	free(r);
}

static int rate_limit_compile(json_t *json, struct ss_json_option *option, struct ss_paths *paths,
			      uint32_t max_keys, const struct ss_iface *fields, struct rate_limit **out)
{
	struct rate_limit *r = calloc(1, sizeof *r);

	if (!r) {
		option->err = -ENOMEM;
		return -ENOMEM;
	}
	if (is_object(json, option)) {
		ss_json_keys(option, json, rate_keys);
		compile_key(json, option, paths, &r->key);
		r->events = compile_count(json, "events", 0, option);
		r->per_ns = 1000000000;
		ss_json_duration(option, json, "per", &r->per_ns);
		uint64_t burst = compile_count(json, "burst", r->events, option);
		if (__builtin_mul_overflow(burst, r->per_ns, &r->capacity) || r->capacity > INT64_MAX)
			ss_json_error(option, json_object_get(json, "burst") ? "burst" : "events",
				      "too large for so long a \"per\"; reduce both in proportion");
		r->full_ns = r->capacity / r->events + 1;
	}
	if (!option->err && !(r->keys = keyed_new(max_keys, fields)))
		option->err = -ENOMEM;
	if (option->err)
		rate_limit_free(r);
	else
		*out = r;
	return option->err;
}

/* Take one event out of its key's bucket: 1; 0: it is empty; -ENOMEM. */
static int rate_limit_take(struct rate_limit *r, const struct ss_field *fields, uint64_t time_ns)
{
	struct keyed_slot *s = keyed_get(r->keys, &r->key, fields);

	if (!s)
		return -ENOMEM;
	uint64_t waited = time_ns > s->time_ns ? time_ns - s->time_ns : 0;
	if (s->fresh || waited >= r->full_ns || (!waited && s->time_ns - time_ns > KEYED_DISORDER_NS)) {
		s->level = r->capacity;
		s->time_ns = time_ns;
		s->fresh = false;
	} else if (waited) {
		s->level += waited * r->events;
		if (s->level > r->capacity)
			s->level = r->capacity;
		s->time_ns = time_ns;
	}
	if (s->level < r->per_ns)
		return 0;
	s->level -= r->per_ns;
	return 1;
}

/* ---- sample ---- */

static void sample_free(struct sample *s)
{
	if (!s)
		return;
	free(s->scratch.bytes);
	free(s);
}

/* {"one_in": n, "key": path or paths}: each n-th event, or all events of one in n keys. */
static int sample_compile(json_t *json, struct ss_json_option *option, struct ss_paths *paths,
			  const struct ss_iface *fields, struct sample **out)
{
	static const char *const known[] = {"one_in", "key", NULL};
	json_t *one_in = json_object_get(json, "one_in");
	struct sample *s = calloc(1, sizeof *s);

	if (!s) {
		option->err = -ENOMEM;
		return -ENOMEM;
	}
	s->fields = *fields;
	if (!json_is_object(json)) {
		ss_json_error(option, NULL, "must be an object such as {\"one_in\": 10}, found %s",
			      ss_json_type(json));
	} else {
		ss_json_keys(option, json, known);
		if (!json_is_integer(one_in) || json_integer_value(one_in) < 1)
			ss_json_error(option, one_in ? "one_in" : NULL,
				      "\"one_in\" must be an integer of at least 1");
		else
			s->one_in = (uint64_t)json_integer_value(one_in);
		compile_key(json, option, paths, &s->key);
	}
	if (option->err)
		sample_free(s);
	else
		*out = s;
	return option->err;
}

/* 1: the event belongs to the sample; 0; -ENOMEM. */
static int sample_take(struct sample *s, const struct ss_field *fields)
{
	/* the same keys on every host and after every start, so that samples can be put together */
	static const uint64_t known_to_all[2] = {0x73616d706c65, 1};
	uint64_t hash[2];

	if (!s->key.n)
		return s->seen++ % s->one_in == 0;
	int rc = key_hash(&s->key, fields, &s->fields, &s->scratch, known_to_all, hash);
	return rc < 0 ? rc : hash[0] % s->one_in == 0;
}

/* ---- all of them ---- */

void thinning_compile(struct thinning *t, enum thinning_way way, json_t *json, struct ss_json_option *option,
		      struct ss_paths *paths, uint32_t max_keys, const struct ss_iface *fields)
{
	if (way == THINNING_SAMPLE)
		sample_compile(json, option, paths, fields, &t->sample);
	else if (way == THINNING_DEADBAND)
		deadband_compile(json, option, paths, max_keys, fields, &t->deadband);
	else
		rate_limit_compile(json, option, paths, max_keys, fields, &t->rate_limit);
}

void thinning_done(struct thinning *t)
{
	deadband_free(t->deadband);
	rate_limit_free(t->rate_limit);
	sample_free(t->sample);
}

int thinning_pass(struct thinning *t, const struct ss_field *fields, uint64_t time_ns,
		  uint32_t suppressed[THINNING_WAYS])
{
	struct keyed_slot *slot = NULL;
	int rc = 1;

	if (t->sample) {
		rc = sample_take(t->sample, fields);
		suppressed[THINNING_SAMPLE] += rc == 0;
	}
	if (rc > 0 && t->deadband) {
		rc = deadband_check(t->deadband, fields, time_ns, &slot);
		suppressed[THINNING_DEADBAND] += rc == 0;
	}
	if (rc > 0 && t->rate_limit) {
		rc = rate_limit_take(t->rate_limit, fields, time_ns);
		suppressed[THINNING_RATE_LIMIT] += rc == 0;
	}
	if (rc > 0 && t->deadband)
		deadband_passed(t->deadband, fields, time_ns, slot);
	return rc;
}

bool thinning_keys(const struct thinning *t, enum thinning_way way, uint32_t *n, uint64_t *evicted)
{
	const struct keyed *k = way == THINNING_DEADBAND && t->deadband       ? t->deadband->keys
				: way == THINNING_RATE_LIMIT && t->rate_limit ? t->rate_limit->keys
									      : NULL;

	if (!k)
		return false;
	*n = k->n;
	*evicted = k->evicted;
	return true;
}
