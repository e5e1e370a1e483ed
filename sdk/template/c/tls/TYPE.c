/* SPDX-License-Identifier: MIT */
/* @TYPE@: a provider of TLS identities, "mode": "@MODE@", that takes certificate and key from two files and
 * looks for new ones every interval.  Replace load() by what asks your vault, agent or CA. */
#include <fcntl.h>
#include <stdlib.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>

enum { PEM_MAX = 1 << 20 }; /* bytes */

/* What the configuration says.  Strings are const char *, everything else is int64_t. */
struct conf {
	int64_t enabled; /* the host looks at it, and makes no instance if it is 0 */
	const char *cert_file, *key_file;
	int64_t interval; /* ns */
};

/* From this table the host checks the configuration, fills struct conf, prints help and a JSON Schema. */
static const struct ss_option options[] = {
	SS_OPT(struct conf, enabled, SS_OPT_BOOL, "true", "Use this provider."),
	SS_OPT(struct conf, cert_file, SS_OPT_STRING, NULL, "The certificate and its chain, PEM.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, key_file, SS_OPT_STRING, NULL, "The key of the certificate, PEM.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, interval, SS_OPT_DURATION, "1m", "Time between two looks at the files.",
	       .min = 1000000, .max = INT64_C(86400000000000)),
};

struct instance {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop, publish;
	uint32_t timer; /* 0: none */
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct instance){.host = host, .conf = conf};
	int32_t rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, offsetof(struct ss_tls_publish, publish_signer),
				 &s->publish);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*self = s;
	return 0;
}

static void wipe(char *key, size_t len)
{
	if (key)
		explicit_bzero(key, len);
	free(key);
}

/* The timer: both files, published.  What is no news is ignored by the host, so nothing is compared here. */
static void load(void *self)
{
	struct instance *s = self;
	const struct ss_tls_publish *publish = s->publish.vtbl;
	const char *file = s->conf->cert_file;
	char *chain = NULL, *key = NULL, why[256], text[512];
	size_t chain_len = 0, key_len = 0;

	int32_t rc = ss_file_read(AT_FDCWD, file, PEM_MAX, &chain, &chain_len, NULL);
	if (rc == 0) {
		file = s->conf->key_file;
		rc = ss_file_read(AT_FDCWD, file, PEM_MAX, &key, &key_len, NULL);
	}
	if (rc < 0) {
		snprintf(text, sizeof text, "cannot read %s: %s", file, strerror(-rc));
		publish->unavailable(s->publish.self, text);
	} else if (publish->publish(s->publish.self, "@MODE@", chain, key, why, sizeof why) < 0) {
		/* the files may be half replaced: what was published before stays in use */
		ss_log(s->host, SS_LOG_WARN, "Certificate and key are no good, trying again reason=\"%s\"",
		       why);
	}
	free(chain);
	wipe(key, key_len);
}

static int32_t start(void *self)
{
	struct instance *s = self;
	uint64_t interval = (uint64_t)s->conf->interval;

	load(s); /* components that need the certificate start afterwards */
	return ((const struct ss_loop *)s->loop.vtbl)
		->timer(s->loop.self, interval, interval, load, s, &s->timer);
}

static void stop(void *self)
{
	struct instance *s = self;

	((const struct ss_loop *)s->loop.vtbl)->cancel(s->loop.self, s->timer);
	s->timer = 0;
}

/* Sections of the configuration with the same key have the same certificate. */
static const char *identity(void *self)
{
	return ((struct instance *)self)->conf->key_file;
}

static const struct ss_tls_provider provider = {.struct_size = sizeof provider, .identity = identity};

static int32_t extension(void *self, const char *id, uint32_t min_size, struct ss_iface *out)
{
	if (strcmp(id, SS_TLS_PROVIDER) != 0)
		return -ENOENT;
	if (min_size > sizeof provider)
		return -ENOTSUP;
	*out = (struct ss_iface){.vtbl = &provider, .self = self};
	return 0;
}

/* clang-format off */
static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_PROVIDER, .type = "@TYPE@",
	.version = "0.1.0", .summary = "Brings certificate and key from two files.", .license = "MIT",
	.options = options, .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],
	.conf_size = sizeof(struct conf), .create = create, .destroy = free, .start = start, .stop = stop,
	.extension = extension,
	.flags = SS_TELLS_PATHS, /* SS_OPT_READS has told both */
};
/* clang-format on */
SS_REGISTER(&component);
