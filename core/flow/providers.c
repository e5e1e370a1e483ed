/* SPDX-License-Identifier: MIT */
/* providers - see providers.h. */
#include "core/flow/providers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/tls-provider.h>
#include "core/config/jdoc.h"

const struct ss_tls_provider *provider_face(const struct component *c, void **self)
{
	struct ss_iface face;

	if (c->desc->extension(c->self, SS_TLS_PROVIDER, offsetof(struct ss_tls_provider, retry), &face) < 0)
		return NULL;
	*self = face.self;
	return face.vtbl;
}

void providers_retry(const struct component *members, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		void *self;
		const struct ss_tls_provider *face = provider_face(&members[i], &self);
		if (face && SS_KNOWS(face, struct ss_tls_provider, retry) && face->retry)
			face->retry(self);
	}
}

/* What it has in common with nobody else; NULL: nothing. */
static const char *identity(const struct component *c)
{
	void *self;
	const struct ss_tls_provider *face = provider_face(c, &self);

	return face && face->identity ? face->identity(self) : NULL;
}

/* ---- are two configs the same? ---- */

static bool same_number(const struct jnode *a, const struct jnode *b)
{
	return a->text_len == b->text_len && memcmp(a->text, b->text, a->text_len) == 0;
}

static bool same_value(const struct jnode *a, const struct jnode *b)
{
	if (a->type != b->type || a->n != b->n)
		return false;
	if (a->type == J_STRING)
		return strcmp(a->string, b->string) == 0;
	if (a->type == J_NUMBER)
		return same_number(a, b);
	const struct jnode *other = b->child;
	for (const struct jnode *child = a->child; child; child = child->next) {
		const struct jnode *pair = a->type == J_OBJECT ? jnode_get(b, child->name) : other;
		if (!pair || !same_value(child, pair))
			return false;
		other = other->next;
	}
	return true;
}

static const void *member(const struct config_component *c, const struct ss_option *o)
{
	return (const char *)c->conf + o->offset;
}

static bool same_option(const struct config_component *a, const struct config_component *b,
			const struct ss_option *o)
{
	const struct jnode *in_a = a->options ? jnode_get(a->options, o->key) : NULL;
	const struct jnode *in_b = b->options ? jnode_get(b->options, o->key) : NULL;

	if (o->type == SS_OPT_JSON && in_a && in_b) /* blanks do not matter */
		return same_value(in_a, in_b);
	if (o->type != SS_OPT_STRING && o->type != SS_OPT_JSON)
		return memcmp(member(a, o), member(b, o), sizeof(int64_t)) == 0;
	const char *text_a = *(const char *const *)member(a, o), *text_b = *(const char *const *)member(b, o);
	return text_a == text_b || (text_a && text_b && strcmp(text_a, text_b) == 0);
}

/* The first option in which they differ; NULL: none. */
static const struct ss_option *difference(const struct config_component *a, const struct config_component *b)
{
	for (uint32_t i = 0; i < a->desc->n_options; i++) {
		const struct ss_option *o =
			(const struct ss_option *)(const void *)((const char *)a->desc->options +
								 (size_t)i * a->desc->option_size);
		if (!same_option(a, b, o))
			return o;
	}
	return NULL;
}

/* ---- making ---- */

static int create(const struct config *config, const struct config_component *cc, struct health *health,
		  struct tls_identity *tls, struct diag *diag, struct component *c)
{
	void *self;
	int rc = component_create(c, config, cc, health, tls, diag);

	if (rc || provider_face(c, &self))
		return rc;
	jdoc_report(config->doc, diag, DIAG_ERROR, cc->node, J_VALUE, "a bug of the plugin: %s has no \"%s\"",
		    c->desc->type, SS_TLS_PROVIDER);
	return -EINVAL;
}

/* Two of one identity would get in each other's way: the first serves both. */
static int share(const struct config *config, struct component *first, struct component *second, size_t *n,
		 struct diag *diag)
{
	const struct config_component *a = first->config_component, *b = second->config_component;
	const char *id_a = identity(first), *id_b = identity(second);

	if (a->desc != b->desc || !id_a || !id_b || strcmp(id_a, id_b) != 0)
		return 0;
	const struct ss_option *o = difference(a, b);
	if (o) {
		const struct jnode *at = b->options ? jnode_get(b->options, o->key) : NULL;
		char *other = jnode_pointer(a->options ? a->options : a->node);
		jdoc_report(config->doc, diag, DIAG_ERROR,
			    at           ? at
			    : b->options ? b->options
					 : b->node,
			    J_VALUE,
			    "the identity \"%s\" is that of %s too, so all settings have to be the same, but "
			    "\"%s\" "
			    "differs; make them the same, or let each section have its own",
			    id_b, other ? other : "the other section", o->key);
		free(other);
		return -EINVAL;
	}
	component_destroy(second);
	component_free(second);
	(*n)--;
	first->id = first->host.id = TLS_PROVIDER_SHARED;
	first->tls_roles |= b->tls_roles;
	return 0;
}

int providers_create(const struct config *config, struct health *health, struct tls_identity *tls,
		     struct diag *diag, struct component *members, size_t *n)
{
	int rc = 0;

	*n = 0;
	for (size_t i = 0; i < TLS_ROLES; i++) {
		const struct config_component *cc = &config->providers[i];
		if (!cc->complete)
			continue;
		int err = create(config, cc, health, tls, diag, &members[(*n)++]);
		if (err && rc != -ENOMEM)
			rc = err == -ENOMEM ? -ENOMEM : -EINVAL;
	}
	if (rc == 0 && *n == TLS_ROLES)
		rc = share(config, &members[0], &members[1], n, diag);
	return rc;
}
