/* SPDX-License-Identifier: MIT */
/* pkcs11_tls: a provider of TLS identities, "mode": "pkcs11", whose key stays in a PKCS#11 token: the
 * certificate is a file, which is looked at every interval, and handshakes are signed by the token. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>
#include "token_key.h"

enum { PEM_MAX = 1 << 20 }; /* bytes */

struct conf {
	int64_t enabled; /* the host looks at it, and makes no instance if it is 0 */
	const char *module, *key, *pin_file, *cert_file;
	int64_t interval; /* ns */
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, enabled, SS_OPT_BOOL, "true", "Use this provider."),
	SS_OPT(struct conf, module, SS_OPT_STRING, NULL, "The library of the token's maker, a file.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, key, SS_OPT_STRING, NULL,
	       "URI of an EC key (RFC 7512), as \"pkcs11:token=NAME;object=NAME\", without its PIN.",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, pin_file, SS_OPT_STRING, NULL,
	       "File with the token's PIN, which nobody else may read.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, cert_file, SS_OPT_STRING, NULL, "The certificate of the key and its chain, PEM.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, interval, SS_OPT_DURATION, "1m",
	       "Time between two looks at the certificate's file.", .min = 1000000,
	       .max = INT64_C(86400000000000)),
};

struct instance {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop, publish;
	uint32_t timer;        /* 0: none */
	struct token_key *key; /* NULL: to be opened */
	bool refused;          /* the PIN was wrong: it is not tried again before its file changes */
	struct timespec pin_changed;
};

/* "semstreams check" warns then where others may read the PIN. */
static int32_t claim_pin(const struct ss_host *host, const struct conf *conf)
{
	char resource[PATH_MAX + 8];

	snprintf(resource, sizeof resource, "secret:%s", conf->pin_file);
	return host->claim(host, "/pin_file", resource) == -ENOMEM ? -ENOMEM : 0;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct instance){.host = host, .conf = conf};
	int32_t rc = 0;
	if (strncmp(s->conf->key, "pkcs11:", 7) != 0 || strstr(s->conf->key, "pin-")) {
		host->config_error(host, "/key",
				   "must begin with \"pkcs11:\" and not have a PIN, which is for pin_file");
		rc = -EINVAL;
	}
	if (rc == 0)
		rc = claim_pin(host, conf);
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, sizeof(struct ss_tls_publish), &s->publish);
	if (rc == -ENOTSUP)
		ss_log(host, SS_LOG_ERROR,
		       "This host cannot use keys that sign elsewhere; install a newer semstreams");
	if (rc < 0) {
		free(s);
		return rc;
	}
	*self = s;
	return 0;
}

static void destroy(void *self)
{
	struct instance *s = self;

	token_key_unref(s->key);
	free(s);
}

/* ---- the key ---- */

/* The PIN, up to the end of the line.  0, or an error with why. */
static int read_pin(struct instance *s, char pin[TOKEN_PIN_MAX], struct timespec *changed, char *why,
		    size_t why_size)
{
	char *text = NULL;
	size_t len = 0;
	struct stat st;
	int rc = ss_file_read(AT_FDCWD, s->conf->pin_file, TOKEN_PIN_MAX - 1, &text, &len, &st);

	if (rc < 0) {
		snprintf(why, why_size, "cannot read pin_file %s: %s", s->conf->pin_file, strerror(-rc));
		return rc;
	}
	*changed = st.st_mtim;
	if (ss_file_is_private(&st)) {
		snprintf(pin, TOKEN_PIN_MAX, "%.*s", (int)strcspn(text, "\r\n"), text);
	} else {
		snprintf(why, why_size, "others may read or write pin_file %s: chmod 600 it",
			 s->conf->pin_file);
		rc = -EPERM;
	}
	explicit_bzero(text, len);
	free(text);
	return rc;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int open_key(struct instance *s, char *why, size_t why_size)
{
	char pin[TOKEN_PIN_MAX] = "";
	struct timespec changed = {0};
	struct token_key *key = NULL;

	int rc = read_pin(s, pin, &changed, why, why_size);
	if (rc == 0 && s->refused && same_time(&changed, &s->pin_changed)) {
		snprintf(why, why_size, "the PIN in %s is wrong and is not tried again before that changes",
			 s->conf->pin_file);
		rc = -EACCES;
	} else if (rc == 0) {
		rc = token_key_open(s->conf->module, s->conf->key, pin, &key, why, why_size);
		s->refused = rc == -EACCES;
		s->pin_changed = changed;
	}
	explicit_bzero(pin, sizeof pin);
	if (rc == 0)
		s->key = key;
	return rc;
}

/* ---- the certificate ---- */

/* The timer: what is no news is ignored by the host, so nothing is compared here. */
static void load(void *self)
{
	struct instance *s = self;
	const struct ss_tls_publish *publish = s->publish.vtbl;
	char *chain = NULL, why[512] = "";
	size_t len;

	if (s->key && token_key_failed(s->key)) {
		ss_log(s->host, SS_LOG_WARN, "The token has failed to sign, opening its key anew");
		token_key_unref(s->key);
		s->key = NULL;
	}
	int rc = s->key ? 0 : open_key(s, why, sizeof why);
	if (rc == 0) {
		rc = ss_file_read(AT_FDCWD, s->conf->cert_file, PEM_MAX, &chain, &len, NULL);
		if (rc < 0)
			snprintf(why, sizeof why, "cannot read %s: %s", s->conf->cert_file, strerror(-rc));
	}
	if (rc < 0)
		publish->unavailable(s->publish.self, why);
	else if (publish->publish_signer(s->publish.self, "pkcs11", chain, token_key_signer(s->key), why,
					 sizeof why) < 0)
		/* the file may be half replaced: what was published before stays in use */
		ss_log(s->host, SS_LOG_WARN, "Certificate is no good, trying again path=%s reason=\"%s\"",
		       s->conf->cert_file, why);
	free(chain);
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

/* Sections of the configuration with the same key and file have the same identity. */
static const char *identity(void *self)
{
	return ((struct instance *)self)->conf->cert_file;
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
	.struct_size = sizeof component, .kind = SS_KIND_PROVIDER, .type = "pkcs11_tls", .version = "0.1.0",
	.summary = "Has a TLS key in a PKCS#11 token sign.", .license = "MIT",
	.options = options, .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],
	.conf_size = sizeof(struct conf), .create = create, .destroy = destroy, .start = start, .stop = stop,
	.extension = extension,
	.flags = SS_OWN_LOOP, /* opening a token takes its time; and its module opens files of its own */
};
/* clang-format on */
SS_REGISTER(&component);
