/* SPDX-License-Identifier: MIT */
/* redaction - members of JSON texts, and attributes of events, that are not to be shown. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>

struct redaction;

/*
 * From a list of fields: "@peer", and names ("password") or paths ("user.name", "/user/name") of members.
 * One is hidden wherever a path in the text ends like that, also behind items of lists: rather too much than
 * too little.  0; -EINVAL, -ENOMEM, see why.
 */
int redaction_new(const json_t *fields, char why[512], struct redaction **out);
void redaction_free(struct redaction *); /* NULL is allowed */

/* Is this attribute hidden, as "@peer"? */
bool redaction_hides(const struct redaction *, const char *attribute);
/* Append the text without blanks and with what is to be hidden replaced; the rest stays as it is written.
 * False: that is no JSON, and nothing was appended. */
bool redaction_apply(const struct redaction *, const char *json, size_t len, struct ss_strbuf *out);
