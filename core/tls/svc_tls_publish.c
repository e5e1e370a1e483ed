/* SPDX-License-Identifier: MIT */
/* svc_tls_publish - the service "semstreams.tls-publish/1": what a provider of certificates tells the host.
 */
#include <errno.h>
#include <stdio.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/flow/component.h"

static int32_t publish(void *self, const char *source, const char *chain_pem, const char *key_pem, char *why,
		       size_t why_size)
{
	const struct component *c = self;

	if (!source || !chain_pem || !key_pem) {
		snprintf(why, why_size, "source, certificate or key is missing");
		return -EINVAL;
	}
	return tls_identity_publish(c->tls, c->tls_roles, source, chain_pem, key_pem, why, why_size);
}

static void unavailable(void *self, const char *reason)
{
	const struct component *c = self;

	tls_identity_unavailable(c->tls, c->tls_roles, reason);
}

static const char *const *ca_files(void *self)
{
	static const char *const none[] = {NULL};
	const struct component *c = self;
	const char **paths = c->config->tls.roles[SS_TLS_CLIENT].ca_paths;

	return (c->tls_roles & 1u << SS_TLS_CLIENT) && paths ? paths : none;
}

const struct ss_tls_publish tls_publish_service = {
	.struct_size = sizeof(struct ss_tls_publish),
	.publish = publish,
	.unavailable = unavailable,
	.ca_files = ca_files,
};
