/* SPDX-License-Identifier: MIT */
/*
 * toy_tls - a provider of TLS identities for tests: "mode": "toy" publishes what it is told to through a
 * datagram socket.  Commands are words with blanks between: "publish CERT KEY", "unavailable REASON...".
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>

enum { MESSAGE_MAX = 4096, PEM_MAX = 65536 };

struct conf {
	int64_t enabled;
	const char *storage_path, *control, *cert, *key, *names;
	int64_t size;
};

struct toy {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop, publish;
	int fd;
	uint32_t watch;
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, enabled, SS_OPT_BOOL, "true", "use it"),
	SS_OPT(struct conf, storage_path, SS_OPT_STRING, NULL, "its identity", .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, control, SS_OPT_STRING, NULL, "socket for commands, made at start"),
	SS_OPT(struct conf, cert, SS_OPT_STRING, NULL, "published at start"),
	SS_OPT(struct conf, key, SS_OPT_STRING, NULL, "its key"),
	SS_OPT(struct conf, names, SS_OPT_JSON, "[]", "anything"),
	SS_OPT(struct conf, size, SS_OPT_BYTES, "1KiB", "anything"),
};
static const struct ss_metric metrics[] = {
	{"semstreams_toy_published_total", "Certificates published.", NULL, SS_METRIC_COUNTER, 0},
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct toy *t = calloc(1, sizeof *t);
	const struct conf *c = conf;

	if (!t)
		return -ENOMEM;
	*t = (struct toy){.host = host, .conf = conf, .fd = -1};
	int32_t rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &t->loop);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, offsetof(struct ss_tls_publish, publish_signer),
				 &t->publish);
	if (rc == 0 && strcmp(c->storage_path, "/wrong") == 0)
		rc = ss_config_error(host, "/storage_path", "no place for an identity");
	if (rc < 0) {
		free(t);
		return rc;
	}
	*self = t;
	return 0;
}

static bool slurp(const char *path, char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, PEM_MAX - 1);
	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n >= 0;
}

static void publish(struct toy *t, const char *cert, const char *key)
{
	const struct ss_tls_publish *p = t->publish.vtbl;
	char *chain_pem = malloc(PEM_MAX), *key_pem = malloc(PEM_MAX), why[256] = "no file";
	int32_t rc = -ENOENT;

	if (chain_pem && key_pem && slurp(cert, chain_pem) && slurp(key, key_pem))
		rc = p->publish(t->publish.self, "Toy", chain_pem, key_pem, why, sizeof why);
	if (rc == 0)
		t->host->metric_add(t->host, 0, 1);
	ss_log(t->host, SS_LOG_INFO, "Toy published result=%d why=\"%s\"", rc, rc ? why : "");
	free(chain_pem);
	free(key_pem);
}

static void on_command(void *arg, uint32_t events)
{
	struct toy *t = arg;
	char text[MESSAGE_MAX + 1];
	ssize_t n = recv(t->fd, text, MESSAGE_MAX, MSG_DONTWAIT);

	(void)events;
	if (n <= 0)
		return;
	text[n] = '\0';
	char *word = strchr(text, ' '), *second = word ? strchr(word + 1, ' ') : NULL;
	if (strncmp(text, "publish ", 8) == 0 && second) {
		*second = '\0';
		publish(t, word + 1, second + 1);
	} else if (strncmp(text, "unavailable ", 12) == 0) {
		((const struct ss_tls_publish *)t->publish.vtbl)->unavailable(t->publish.self, word + 1);
	} else if (strcmp(text, "unready") == 0) {
		t->host->set_health(t->host, "toy broken");
	} else {
		t->host->set_health(t->host, NULL);
	}
}

static int32_t start(void *self)
{
	struct toy *t = self;
	const struct ss_loop *loop = t->loop.vtbl;
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const char *const *files =
		((const struct ss_tls_publish *)t->publish.vtbl)->ca_files(t->publish.self);

	ss_log(t->host, SS_LOG_INFO, "Toy starts first_ca=%s", files[0] ? files[0] : "-");
	if (t->conf->cert)
		publish(t, t->conf->cert, t->conf->key);
	if (!t->conf->control)
		return 0;
	snprintf(at.sun_path, sizeof at.sun_path, "%s", t->conf->control);
	t->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0 || bind(t->fd, (struct sockaddr *)&at, sizeof at) < 0)
		return -errno;
	return loop->fd(t->loop.self, t->fd, SS_FD_READ, on_command, t, &t->watch);
}

static void stop(void *self)
{
	struct toy *t = self;

	((const struct ss_loop *)t->loop.vtbl)->cancel(t->loop.self, t->watch);
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	ss_log(t->host, SS_LOG_INFO, "Toy stops");
}

static const char *identity(void *self)
{
	return ((struct toy *)self)->conf->storage_path;
}

/* "WORD..." prints the words; "fail" fails. */
static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	struct toy *t = self;
	struct ss_iface none;

	t->host->metric_add(t->host, 0, 1);
	t->host->set_health(t->host, "nobody hears this");
	if (t->host->query(t->host, "no.such/1", 0, &none) != -ENOENT)
		return 9;
	if (strcmp(argv[0], "fail") == 0) {
		ss_log(t->host, SS_LOG_ERROR, "Toy fails");
		return 7;
	}
	print(arg, t->conf->storage_path);
	for (uint32_t i = 0; i < argc; i++) {
		print(arg, " ");
		print(arg, argv[i]);
	}
	print(arg, "\n");
	return 0;
}

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider, .identity = identity, .command = command};

static int32_t extension(void *self, const char *id, uint32_t min_size, struct ss_iface *out)
{
	if (strcmp(id, SS_TLS_PROVIDER) != 0)
		return -ENOENT;
	if (min_size > sizeof provider)
		return -ENOTSUP;
	*out = (struct ss_iface){.vtbl = &provider, .self = self};
	return 0;
}

static const struct ss_component component = {
	.struct_size = sizeof component,
	.kind = SS_KIND_PROVIDER,
	.type = "toy_tls",
	.version = "1",
	.summary = "A provider for tests",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = 1,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = free,
	.start = start,
	.stop = stop,
	.extension = extension,
};
SS_REGISTER(&component);
