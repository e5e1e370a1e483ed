/* SPDX-License-Identifier: MIT */
/* provenance - see provenance.h. */
#include "provenance.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include "input.h"

enum { TRUSTED_MAX = 10000 };

/* ---- whom to believe ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int wrong(const struct ss_host *host)
{
	return ss_config_error(host, "/trust_origin",
			       "must be a list of at most %d names of certificates, such as "
			       "[\"relay.example\"], each of 1 to %d bytes",
			       TRUSTED_MAX, SS_ATTR_NAME_MAX);
}

int provenance_create(struct input *in)
{
	struct provenance *p = &in->provenance;
	json_t *list = json_loads(in->conf->trust_origin, JSON_DECODE_ANY, NULL);
	const size_t n = json_array_size(list);
	int rc = json_is_array(list) && n <= TRUSTED_MAX ? 0 : wrong(in->host);

	p->trusted = rc == 0 ? calloc(n + 1, sizeof *p->trusted) : NULL;
	if (rc == 0 && !p->trusted)
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		const char *name = json_string_value(json_array_get(list, i));
		const size_t len = name ? json_string_length(json_array_get(list, i)) : 0;
		if (len == 0 || len > SS_ATTR_NAME_MAX || strlen(name) != len)
			rc = wrong(in->host);
		else if (!(p->trusted[p->n_trusted++] = strdup(name)))
			rc = -ENOMEM;
	}
	if (rc == 0)
		qsort(p->trusted, p->n_trusted, sizeof *p->trusted, compare);
	json_decref(list);
	return rc;
}

void provenance_destroy(struct input *in)
{
	for (size_t i = 0; i < in->provenance.n_trusted; i++)
		free(in->provenance.trusted[i]);
	free(in->provenance.trusted);
}

static void look_who_wants(struct input *in)
{
	struct ss_iface service;

	if (in->host->query(in->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &service) < 0 ||
	    !((const struct ss_attribute_service *)service.vtbl)->wanted(service.self))
		return;
	in->provenance.service = service.vtbl;
	in->provenance.self = service.self;
}

void provenance_start(struct input *in)
{
	look_who_wants(in);
	in->provenance.asks = in->provenance.service && in->provenance.n_trusted;
}

static bool trusts(const struct provenance *p, const char *name)
{
	return p->asks && bsearch(&name, p->trusted, p->n_trusted, sizeof *p->trusted, compare);
}

void provenance_reconfigure(struct input *in, struct input *fresh)
{
	struct provenance *p = &in->provenance, *other = &fresh->provenance;
	char **trusted = p->trusted;
	const size_t n_trusted = p->n_trusted;

	p->trusted = other->trusted;
	p->n_trusted = other->n_trusted;
	other->trusted = trusted;
	other->n_trusted = n_trusted;
	p->asks = p->service && p->n_trusted;
	for (struct peer *peer = in->peers.first; peer; peer = peer->next) {
		struct provenance_peer *from = &((struct input_peer *)peer)->provenance;
		from->trusted = from->name && trusts(p, peer->name);
	}
}

/* ---- sets ---- */

static void set_value(struct ss_attributes *a, uint32_t which, const char *text)
{
	a->values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
}

/* A name as a part of a path. */
static size_t put_name(char *to, const char *name)
{
	char *at = to;

	for (; *name; name++) {
		if (*name == '/' || *name == '%')
			at += sprintf(at, *name == '/' ? "%%2F" : "%%25");
		else
			*at++ = *name;
	}
	*at = '\0';
	return (size_t)(at - to);
}

int provenance_open(struct input *in, struct provenance_peer *p, const char *address, const char *name)
{
	const struct provenance *all = &in->provenance;
	struct ss_attributes values = {.struct_size = sizeof values};
	char other[SS_ATTR_NAME_MAX + 16], path[3 * SS_ATTR_NAME_MAX + 1];

	*p = (struct provenance_peer){0};
	if (!all->service)
		look_who_wants(in);
	if (!all->service)
		return 0;
	if (name && strlen(name) > SS_ATTR_NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(other, sizeof other, "unverified:%s", in->host->id);
	set_value(&values, SS_ATTR_PEER, name ? name : other);
	set_value(&values, SS_ATTR_ADDRESS, address);
	set_value(&values, SS_ATTR_INPUT, in->host->id);
	if (name) {
		values.flags = SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED;
		set_value(&values, SS_ATTR_ORIGIN, name);
		put_name(path, name);
		set_value(&values, SS_ATTR_PATH, path);
		p->trusted = trusts(all, name);
	}
	p->name = name ? strdup(path) : NULL;
	if (name && !p->name)
		return -ENOMEM;
	return all->service->make(all->self, &values, &p->set);
}

void provenance_close(struct input *in, struct provenance_peer *p)
{
	if (p->set)
		in->provenance.service->unref(in->provenance.self, p->set);
	p->set = NULL;
	free(p->name);
	p->name = NULL;
}

uint16_t provenance_attach(struct input *in, const struct provenance_peer *p, struct ss_batch *b)
{
	const int32_t at = p->set ? in->provenance.service->attach(in->provenance.self, b, p->set) : 0;

	return at > 0 ? (uint16_t)at : 0;
}

uint64_t provenance_room(const struct input *in, uint64_t message)
{
	const uint64_t most = SS_ATTRIBUTE_SET_MAX + SS_ATTRIBUTE_BLOCK_HEAD + SS_ATTRIBUTE_BLOCK_SET +
			      2 * SS_ATTRIBUTE_BLOCK_RUN;

	if (!in->provenance.asks)
		return 0;
	return message / 8 < most ? message / 8 : most;
}

/* ---- what a peer says ---- */

/* The path of an event that a trusted peer relays: the peer comes last.  One that is too long is left out. */
static void set_path(struct ss_attributes *a, const struct provenance_peer *p,
		     const struct ss_attribute *said, char path[SS_ATTR_PATH_MAX + 1])
{
	const size_t more = strlen(p->name);

	a->values[SS_ATTR_PATH] = (struct ss_attribute){0};
	if (said->len + 1 + more > SS_ATTR_PATH_MAX)
		return;
	memcpy(path, said->text, said->len);
	path[said->len] = '/';
	memcpy(path + said->len + 1, p->name, more + 1);
	set_value(a, SS_ATTR_PATH, path);
}

/* What is believed of a set that a trusted peer says; NULL: out of memory. */
static const struct ss_attributes *believe(const struct input *in, const struct provenance_peer *p,
					   const struct ss_attributes *said)
{
	const struct ss_attribute origin = said->values[SS_ATTR_ORIGIN], path = said->values[SS_ATTR_PATH];
	struct ss_attributes values = *p->set;
	const struct ss_attributes *out = NULL;
	char text[SS_ATTR_PATH_MAX + 1];

	if (origin.text)
		values.values[SS_ATTR_ORIGIN] = origin;
	if (origin.text || path.text)
		set_path(&values, p, path.text ? &path : &origin, text);
	for (uint32_t i = SS_ATTR_ADDRESS; i < SS_ATTR_COUNT; i++)
		values.values[i] = said->values[i]; /* of the first input, or unknown */
	if (in->provenance.service->make(in->provenance.self, &values, &out) < 0)
		return NULL;
	return out;
}

static bool names_another(const struct provenance_peer *p, const struct ss_attributes *said)
{
	const struct ss_attribute own = ss_attribute_get(p->set, SS_ATTR_ORIGIN),
				  other = said->values[SS_ATTR_ORIGIN];

	return other.text && (other.len != own.len || memcmp(other.text, own.text, own.len) != 0);
}

/* The sets of a message in a batch: what rows name each by, by its number.  NULL: out of memory. */
static uint16_t *attach_all(struct input *in, const struct provenance_peer *p, const struct link_data *d,
			    struct ss_batch *b)
{
	const struct provenance *all = &in->provenance;
	uint16_t *at = calloc((size_t)d->attributes.n_sets + 1, sizeof *at);
	struct ss_attributes said;
	size_t len;

	if (!at)
		return NULL;
	at[0] = provenance_attach(in, p, b);
	for (uint32_t i = 1; i <= d->attributes.n_sets; i++) {
		const uint8_t *bytes = ss_attribute_block_set(&d->attributes, i, &len);
		const struct ss_attributes *set =
			ss_attribute_set_read(bytes, len, &said) == 0 ? believe(in, p, &said) : NULL;
		const int32_t n = set ? all->service->attach(all->self, b, set) : 0;
		at[i] = n > 0 ? (uint16_t)n : 0;
		all->service->unref(all->self, set);
	}
	return at;
}

/* Of the runs of a message the rows that are in the batch get what at says, by the number of their set. */
static void spread(const struct link_data *d, const uint16_t *at, struct ss_batch *b)
{
	uint32_t skip = d->count - b->count, row = 0, set;

	for (uint32_t run = 0; run < d->attributes.n_runs; run++) {
		uint32_t n = ss_attribute_block_run(&d->attributes, run, &set);
		const uint32_t left_out = n < skip ? n : skip;
		skip -= left_out;
		for (n -= left_out; n; n--)
			b->events[row++].attributes = at[set];
	}
}

/* Events of a peer that is not believed, whose origin it says to be another. */
static void count_untrusted(const struct input *in, const struct provenance_peer *p,
			    const struct link_data *d)
{
	struct ss_attributes said;
	uint64_t events = 0;
	uint32_t set;
	size_t len;

	for (uint32_t run = 0; run < d->attributes.n_runs; run++) {
		const uint32_t n = ss_attribute_block_run(&d->attributes, run, &set);
		const uint8_t *bytes = set ? ss_attribute_block_set(&d->attributes, set, &len) : NULL;
		if (bytes && ss_attribute_set_read(bytes, len, &said) == 0 && names_another(p, &said))
			events += n;
	}
	if (events)
		in->host->metric_add(in->host, METRIC_UNTRUSTED, (int64_t)events);
}

void provenance_rows(struct input *in, const struct provenance_peer *p, const struct link_data *d,
		     struct ss_batch *b)
{
	uint16_t *at = NULL;

	if (d->has_attributes && !p->trusted)
		count_untrusted(in, p, d);
	if (!p->set)
		return;
	if (d->has_attributes && p->trusted && (at = attach_all(in, p, d, b))) {
		spread(d, at, b);
		free(at);
		return;
	}
	const uint16_t own = provenance_attach(in, p, b);
	for (uint32_t i = 0; own && i < b->count; i++)
		b->events[i].attributes = own;
}
