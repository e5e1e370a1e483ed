/* SPDX-License-Identifier: MIT */
#include "endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/base/host_name.h>
#include <semstreams/ext/tls.h>
#include "ws_url.h"

static int read_origins(struct endpoint *e)
{
	json_error_t error;
	json_t *list = json_loads(e->conf->allowed_origins, 0, &error);
	size_t n = json_array_size(list);
	int rc = 0;

	e->origins = calloc(n + 1, sizeof *e->origins);
	if (!e->origins)
		rc = -ENOMEM;
	if (rc == 0 && !json_is_array(list))
		rc = ss_config_error(e->host, "/allowed_origins", "expected an array of strings");
	for (size_t i = 0, k = 0; rc != -ENOMEM && i < n; i++) {
		const char *origin = json_string_value(json_array_get(list, i));
		const char *why = "it is no string";
		char pointer[64];
		int bad = origin ? ws_origin_parse(origin, &e->origins[k], &why) : -EINVAL;
		snprintf(pointer, sizeof pointer, "/allowed_origins/%zu", i);
		if (bad == -EINVAL)
			bad = ss_config_error(e->host, pointer,
					      "expected an origin such as \"https://hub.example\": %s", why);
		k += bad == 0;
		rc = bad ? bad : rc;
	}
	json_decref(list);
	return rc;
}

/* Whom it dials: that can be tried before it is started. */
static int claim_peer(const struct endpoint *e)
{
	char *resource = NULL;

	if (!SS_KNOWS(e->host, struct ss_host, claim))
		return 0;
	if (asprintf(&resource, "reaches:%s", e->conf->url) < 0)
		return -ENOMEM;
	int rc = e->host->claim(e->host, "/url", resource) == -ENOMEM ? -ENOMEM : 0;
	free(resource);
	return rc;
}

/* A port that is listened on is one component's, and each client takes a descriptor, also while it waits. */
static int claim_port(const struct endpoint *e)
{
	const struct endpoint_conf *c = e->conf;
	char resource[128];

	if (c->url || !SS_KNOWS(e->host, struct ss_host, claim))
		return 0;
	const struct ws_limits limits = {.max_clients = (uint32_t)c->max_clients,
					 .max_handshakes = (uint32_t)c->max_handshakes};
	snprintf(resource, sizeof resource, "descriptors:%llu", (unsigned long long)ws_descriptors(&limits));
	(void)e->host->claim(e->host, "/max_clients", resource);
	if (c->port == 0)
		return 0;
	snprintf(resource, sizeof resource, "tcp:%s:%d", c->bind, (int)c->port);
	return e->host->claim(e->host, "/port", resource) == -ENOMEM ? -ENOMEM : 0;
}

/* All that is wrong is told at once. */
static int check_options(const struct ss_host *host, const struct endpoint_conf *conf, struct ws_url *url)
{
	const char *why = conf->bind[0] ? ss_address_fault(conf->bind) : NULL;
	int rc = 0;

	if (why)
		rc = ss_config_error(host, "/bind", "\"%s\" %s", conf->bind, why);
	if (conf->path[0] != '/')
		rc = ss_config_error(host, "/path", "a path must begin with a slash");
	else if (strpbrk(conf->path, "?#"))
		rc = ss_config_error(host, "/path",
				     "a path has no query and no fragment; write ? as %%3F, # as %%23");
	if (conf->url && ws_url_parse(conf->url, url, &why) < 0) {
		rc = ss_config_error(host, "/url", "%s", why);
		url->secure = false;
	}
	if (conf->dead_after <= conf->ping_interval)
		rc = ss_config_error(host, "/dead_after", "must be longer than ping_interval");
	if (conf->retry_max < conf->retry_min)
		rc = ss_config_error(host, "/retry_max", "must not be shorter than retry_min");
	return rc;
}

static int find_tls(struct endpoint *e, bool needed)
{
	struct ss_iface tls;

	if (e->host->query(e->host, SS_TLS, offsetof(struct ss_tls, listed), &tls) == 0) {
		e->tls = tls.vtbl;
		e->tls_self = tls.self;
		if (SS_KNOWS(e->tls, struct ss_tls, use_signers) && e->tls->use_signers)
			e->tls->use_signers(e->tls_self);
	}
	if (needed && !(e->tls && e->tls->enabled(e->tls_self, SS_TLS_CLIENT)))
		return ss_config_error(e->host, "/url",
				       "wss:// needs \"security\": {\"tls\": {\"client\": {...}}}");
	return 0;
}

int endpoint_check(struct endpoint *e, const struct ss_host *host, const struct endpoint_conf *conf)
{
	struct ws_url url = {0};

	*e = (struct endpoint){.host = host, .conf = conf};
	int rc = check_options(host, conf, &url), bad;

	if ((bad = read_origins(e)) != 0)
		rc = bad;
	if (rc != -ENOMEM && (bad = claim_port(e)) != 0)
		rc = bad;
	if (rc == 0 && conf->url)
		rc = claim_peer(e);
	if (rc != -ENOMEM && (bad = find_tls(e, url.secure)) != 0)
		rc = bad;
	return rc;
}

bool endpoint_verifies(const struct endpoint *e)
{
	if (e->conf->url || !e->tls || !e->tls->enabled(e->tls_self, SS_TLS_SERVER))
		return false;
	const struct ss_tls_material *m = e->tls->acquire(e->tls_self, SS_TLS_SERVER);
	bool verifies = m && m->flags & (SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER);
	e->tls->release(e->tls_self, m);
	return verifies;
}

bool endpoint_name_is_reserved(const struct endpoint *e, const char *name)
{
	return e->tls && SS_KNOWS(e->tls, struct ss_tls, listed) && e->tls->listed &&
	       e->tls->listed(e->tls_self, name);
}

static struct ws_options options_of(const struct endpoint *e)
{
	const struct endpoint_conf *c = e->conf;

	return (struct ws_options){
		.bind = c->bind,
		.port = (uint16_t)c->port,
		.path = c->path,
		.url = c->url,
		.retry_min_ns = (uint64_t)c->retry_min,
		.retry_max_ns = (uint64_t)c->retry_max,
		.stable_ns = (uint64_t)c->retry_stable,
		.stream = e->stream,
		.allowed_origins = (const char *const *)e->origins,
		.limits = {.max_clients = (uint32_t)c->max_clients,
			   .max_handshakes = (uint32_t)c->max_handshakes,
			   .max_address_handshakes = (uint32_t)c->max_address_handshakes,
			   .max_message = (size_t)c->max_message,
			   .handshake_ns = (uint64_t)c->handshake_timeout,
			   .ping_ns = (uint64_t)c->ping_interval,
			   .dead_ns = (uint64_t)c->dead_after,
			   .close_ns = (uint64_t)c->close_timeout},
		.rx_buffer = e->rx_buffer,
		.tls = e->tls,
		.tls_self = e->tls_self,
	};
}

int endpoint_open(struct endpoint *e, const char *const *subprotocols, const struct ws_events *events,
		  void *arg)
{
	struct ws_options options = options_of(e);

	options.subprotocols = subprotocols;
	return ws_open(e->host, &options, events, arg, &e->ws);
}

void endpoint_reconfigure(struct endpoint *e, struct endpoint *fresh)
{
	char **origins = e->origins;

	e->conf = fresh->conf;
	e->origins = fresh->origins;
	fresh->origins = origins;
	if (!e->ws)
		return;
	const struct ws_options options = options_of(e);
	ws_reconfigure(e->ws, &options);
}

void endpoint_close(struct endpoint *e, int code, const char *reason)
{
	if (!e->ws)
		return;
	ws_close_all(e->ws, code, reason);
	ws_free(e->ws);
	e->ws = NULL;
}

void endpoint_done(struct endpoint *e)
{
	endpoint_close(e, 1001, "");
	for (size_t i = 0; e->origins && e->origins[i]; i++)
		free(e->origins[i]);
	free(e->origins);
	e->origins = NULL;
}
