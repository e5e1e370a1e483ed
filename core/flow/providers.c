/* SPDX-License-Identifier: MIT */
/* providers - see providers.h. */
#include "core/flow/providers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/tls-provider.h>
#include "core/config/difference.h"
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
	const struct ss_option *o = difference_next(a, b, NULL);
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
