/* SPDX-License-Identifier: MIT */
/* store_state - state.json: what renewal remembers.  Whatever is wrong in it counts as not there. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "store_impl.h"

#define STATE "state.json"

static int64_t get_time(const json_t *root, const char *key)
{
	const json_t *v = json_object_get(root, key);
	return json_is_integer(v) && json_integer_value(v) > 0 ? (int64_t)json_integer_value(v) : 0;
}

static int get_text(const json_t *root, const char *key, char **out)
{
	const json_t *v = json_object_get(root, key);
	if (!json_is_string(v))
		return 0;
	*out = strdup(json_string_value(v));
	return *out ? 0 : -ENOMEM;
}

static int parse(const json_t *root, struct store_state *out)
{
	const json_t *order = json_object_get(root, "order"), *ari = json_object_get(root, "ari");
	int64_t failures = get_time(root, "failures");
	int rc = get_text(order, "url", &out->order_url);
	if (rc == 0)
		rc = get_text(order, "key", &out->order_key_pem);
	if (rc == 0)
		rc = get_text(root, "last_error", &out->last_error);
	if (rc == 0)
		rc = get_text(root, "config", &out->config);
	if (rc == 0)
		rc = get_text(ari, "id", &out->ari_id);
	out->failures = failures > UINT32_MAX ? UINT32_MAX : (uint32_t)failures;
	out->next_try = get_time(root, "next_try");
	out->ca_try = get_time(root, "ca_try");
	out->last_success = get_time(root, "last_success");
	out->jitter = get_time(root, "jitter");
	out->revoked = json_is_true(json_object_get(root, "revoked"));
	out->ari_at = get_time(ari, "at");
	out->ari_start = get_time(ari, "start");
	out->ari_end = get_time(ari, "end");
	out->ari_check = get_time(ari, "check");
	return rc;
}

int store_state_load(struct store *s, struct store_state *out, char *why, size_t why_size)
{
	struct store_state state = {0};
	char *text = NULL;
	size_t len = 0;
	json_error_t error;
	int rc = store_read(s->dir, STATE, false, &text, &len);
	if (rc == -ENOENT) {
		*out = state;
		return 0;
	}
	if (rc)
		return store_fail_at(s, "cannot read", STATE, why, why_size, rc);
	json_t *root = json_loadb(text, len, 0, &error);
	explicit_bzero(text, len); /* it may hold a key */
	free(text);
	if (!json_is_object(root))
		rc = store_fail(why, why_size, -EINVAL, "%s/" STATE " is broken, line %d: %s", s->path,
				error.line, root ? "not an object" : error.text);
	else if (parse(root, &state))
		rc = store_fail(why, why_size, -ENOMEM, "out of memory");
	json_decref(root);
	if (rc) {
		store_state_done(&state);
		return rc;
	}
	*out = state;
	return 0;
}

static char *state_text(const struct store_state *state)
{
	json_t *root = json_pack(
		"{s:{s:s?, s:s?}, s:I, s:I, s:I, s:s?, s:I, s:I, s:b, s:s?, s:{s:s?, s:I, s:I, s:I, s:I}}",
		"order", "url", state->order_url, "key", state->order_key_pem, "failures",
		(json_int_t)state->failures, "next_try", (json_int_t)state->next_try, "ca_try",
		(json_int_t)state->ca_try, "last_error", state->last_error, "last_success",
		(json_int_t)state->last_success, "jitter", (json_int_t)state->jitter, "revoked",
		(int)state->revoked, "config", state->config, "ari", "id", state->ari_id, "at",
		(json_int_t)state->ari_at, "start", (json_int_t)state->ari_start, "end",
		(json_int_t)state->ari_end, "check", (json_int_t)state->ari_check);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	return text;
}

int store_state_save(struct store *s, const struct store_state *state, char *why, size_t why_size)
{
	char *text = state_text(state);
	if (!text)
		return store_fail(why, why_size, -ENOMEM, "out of memory");
	int rc = store_write(s->dir, STATE, text);
	explicit_bzero(text, strlen(text));
	free(text);
	return rc ? store_fail_at(s, "cannot write", STATE, why, why_size, rc) : 0;
}

void store_state_done(struct store_state *state)
{
	free(state->order_url);
	if (state->order_key_pem)
		explicit_bzero(state->order_key_pem, strlen(state->order_key_pem));
	free(state->order_key_pem);
	free(state->last_error);
	free(state->config);
	free(state->ari_id);
	*state = (struct store_state){0};
}

bool store_state_changed(struct store *s)
{
	struct store_stamp before = s->state;
	s->state = store_stamp(s, STATE);
	return !store_same_stamp(&before, &s->state);
}
