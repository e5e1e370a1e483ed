/* SPDX-License-Identifier: MIT */
/*
 * svc_tls - the services "semstreams.tls/1", the pipeline's TLS identity as one component sees it, and
 * "semstreams.tls-publish/1", what a provider of certificates reports to the host.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/admin/log.h"
#include "core/flow/component.h"
#include "core/tls/tls_generation.h"
#include "core/tls/tls_peer.h"

static int32_t enabled(void *self, uint32_t role)
{
	const struct component *c = self;

	return c->tls && tls_identity_enabled(c->tls, role);
}

static void use_signers(void *self)
{
	struct component *c = self;

	c->tls_signers = true;
}

static const struct ss_tls_material *acquire(void *self, uint32_t role)
{
	struct component *c = self;
	const struct ss_tls_material *m = c->tls ? tls_identity_acquire(c->tls, role) : NULL;

	if (!m || !m->signer || c->tls_signers)
		return m;
	if (!atomic_exchange(&c->tls_signer_refused, true))
		log_printf(SS_LOG_ERROR, c->id,
			   "Component has no certificate: the key signs elsewhere, which its plugin cannot "
			   "use; update the plugin, or give it a certificate with a key file");
	return tls_identity_without_certificate(m);
}

static void release(void *self, const struct ss_tls_material *material)
{
	(void)self;
	tls_identity_release(material);
}

/* [inst] */
static void run_changed(void *arg)
{
	struct component *c = arg;

	if (!c->tls_changed) /* it has stopped watching meanwhile */
		return;
	c->tls_changed(c->tls_changed_arg);
}

static int notify(struct tls_watcher *w)
{
	struct component *c =
		(struct component *)(void *)((char *)w - offsetof(struct component, tls_watcher));

	return c->loop ? component_post(c, run_changed, c) : -EAGAIN;
}

static int32_t watch(void *self, void (*changed)(void *arg), void *arg)
{
	struct component *c = self;

	if (!c->tls)
		return -ENOENT;
	if (c->tls_changed)
		return -EALREADY;
	c->tls_changed = changed;
	c->tls_changed_arg = arg;
	c->tls_watcher.notify = notify;
	tls_identity_watch(c->tls, &c->tls_watcher);
	return 0;
}

void tls_service_clear(struct component *c)
{
	if (!c->tls_changed)
		return;
	tls_identity_unwatch(c->tls, &c->tls_watcher);
	c->tls_changed = NULL;
}

static void unwatch(void *self)
{
	tls_service_clear(self);
}

static int32_t check_peer(void *self, uint32_t role, const struct ss_der *chain, uint32_t n, int32_t error,
			  const char *host, char *name, size_t name_size, int32_t *fail, char *why,
			  size_t why_size)
{
	const struct component *c = self;

	return tls_identity_check_peer(c->tls, role, chain, n, error, host, name, name_size, fail, why,
				       why_size);
}

static int32_t recheck_peer(void *self, uint32_t role, const struct ss_der *chain, uint32_t n,
			    const char *host, const char *name, int64_t *valid_until, int32_t *fail,
			    char *why, size_t why_size)
{
	const struct component *c = self;
	const struct tls_known_peer peer = {.role = role, .chain = chain, .n = n, .host = host, .name = name};

	return tls_identity_recheck_peer(c->tls, &peer, valid_until, fail, why, why_size);
}

static int32_t listed(void *self, const char *name)
{
	const struct component *c = self;

	return c->tls && tls_identity_listed(c->tls, name);
}

static void count_failure(void *self, uint32_t role, int32_t fail)
{
	const struct component *c = self;

	if (c->tls)
		tls_identity_count_failure(c->tls, role, fail);
}

const struct ss_tls tls_service = {
	.struct_size = sizeof(struct ss_tls),
	.enabled = enabled,
	.acquire = acquire,
	.release = release,
	.watch = watch,
	.unwatch = unwatch,
	.check_peer = check_peer,
	.count_failure = count_failure,
	.recheck_peer = recheck_peer,
	.listed = listed,
	.use_signers = use_signers,
};

/* ---- for providers ---- */

static int32_t publish(void *self, const char *source, const char *chain_pem, const char *key_pem, char *why,
		       size_t why_size)
{
	const struct component *c = self;

	if (!source || !chain_pem || !key_pem) {
		snprintf(why, why_size, "source, certificate or key is missing");
		return -EINVAL;
	}
	const struct tls_pair pair = {.source = source, .chain_pem = chain_pem, .key_pem = key_pem};
	return tls_identity_publish(c->tls, c->tls_roles, &pair, why, why_size);
}

static int32_t publish_signer(void *self, const char *source, const char *chain_pem,
			      const struct ss_tls_signer *signer, char *why, size_t why_size)
{
	const struct component *c = self;

	if (!source || !chain_pem || !signer || !SS_KNOWS(signer, struct ss_tls_signer, unref)) {
		snprintf(why, why_size, "source, certificate or signer is missing");
		return -EINVAL;
	}
	const struct tls_pair pair = {.source = source, .chain_pem = chain_pem, .signer = signer};
	return tls_identity_publish(c->tls, c->tls_roles, &pair, why, why_size);
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
	.publish_signer = publish_signer,
};
