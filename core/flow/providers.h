/* SPDX-License-Identifier: MIT */
/*
 * providers - the hidden components that bring TLS certificates, made from config->providers.  Control thread
 * only.
 */
#pragma once
#include "core/flow/component.h"

#include <semstreams/ext/tls-provider.h>

/* The face of a provider's instance; NULL: it has none. */
const struct ss_tls_provider *provider_face(const struct component *, void **self);

/*
 * Create an instance per role that has a provider, into members[0..TLS_ROLES); *n is how many are to be
 * destroyed and freed in any case.  Roles whose instances have the same identity get one together, if their
 * settings are the same; else that is an error.  Those whose options are wrong are passed over.  0; -EINVAL
 * with errors in diag; -ENOMEM.
 */
int providers_create(const struct config *, struct health *, struct tls_identity *, struct diag *,
		     struct component *members, size_t *n);
/* After an operator's SIGHUP: what failed is tried at once. */
void providers_retry(const struct component *members, size_t n);
