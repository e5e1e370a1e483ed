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

void provenance_start(struct input *in)
{
	struct ss_iface service;

	if (in->host->query(in->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &service) < 0 ||
	    !((const struct ss_attribute_service *)service.vtbl)->wanted(service.self))
		return;
	in->provenance.service = service.vtbl;
	in->provenance.self = service.self;
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

int provenance_open(struct input *in, struct provenance_peer *p, const struct ws_conn *conn, const char *name)
{
	const struct provenance *all = &in->provenance;
	struct ss_attributes values = {.struct_size = sizeof values};
	char address[WS_ADDRESS_MAX], other[SS_ATTR_NAME_MAX + 16], path[3 * SS_ATTR_NAME_MAX + 1];

	*p = (struct provenance_peer){0};
	if (!all->service)
		return 0;
	if (name && strlen(name) > SS_ATTR_NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(other, sizeof other, "unverified:%s", in->host->id);
	set_value(&values, SS_ATTR_PEER, name ? name : other);
	ws_address(conn, address);
	set_value(&values, SS_ATTR_ADDRESS, address);
	set_value(&values, SS_ATTR_INPUT, in->host->id);
	if (name) {
		values.flags = SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED;
		set_value(&values, SS_ATTR_ORIGIN, name);
		put_name(path, name);
		set_value(&values, SS_ATTR_PATH, path);
		p->trusted = bsearch(&name, all->trusted, all->n_trusted, sizeof *all->trusted, compare);
	}
	return all->service->make(all->self, &values, &p->set);
}

void provenance_close(struct input *in, struct provenance_peer *p)
{
	if (p->set)
		in->provenance.service->unref(in->provenance.self, p->set);
	p->set = NULL;
}

uint16_t provenance_attach(struct input *in, const struct provenance_peer *p, struct ss_batch *b)
{
	const int32_t at = p->set ? in->provenance.service->attach(in->provenance.self, b, p->set) : 0;

	return at > 0 ? (uint16_t)at : 0;
}

void provenance_rows(struct input *in, const struct provenance_peer *p, struct ss_batch *b)
{
	const uint16_t at = provenance_attach(in, p, b);

	for (uint32_t i = 0; at && i < b->count; i++)
		b->events[i].attributes = at;
}
