/* SPDX-License-Identifier: MIT */
/* admin_config - see admin_config.h. */
#include "core/config/admin_config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <semstreams/base/host_name.h>
#include <semstreams/base/units.h>
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/config/expand.h"
#include "core/config/options.h"
#include "core/config/secret_file.h"

#define ADMIN_DEFAULT "127.0.0.1:9600"

struct admin_conf {
	const char *listen, *socket, *socket_group;
	int64_t max_streams, watchdog, held_watch;
	const char *tls; /* read by a table of its own */
};
static const struct ss_option admin_options[] = {
	{.key = "listen",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct admin_conf, listen),
	 .default_text = ADMIN_DEFAULT},
	{.key = "socket",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct admin_conf, socket),
	 .default_text = "auto"},
	{.key = "socket_group", .type = SS_OPT_STRING, .offset = offsetof(struct admin_conf, socket_group)},
	{.key = "max_streams",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct admin_conf, max_streams),
	 .default_text = "8",
	 .min = 0,
	 .max = 24},
	{.key = "tls", .type = SS_OPT_JSON, .offset = offsetof(struct admin_conf, tls)},
	{.key = "watchdog",
	 .type = SS_OPT_DURATION,
	 .offset = offsetof(struct admin_conf, watchdog),
	 .default_text = "5s",
	 .min = 1000000000,
	 .max = INT64_C(3600000000000)},
	{.key = "held_watch",
	 .type = SS_OPT_DURATION,
	 .offset = offsetof(struct admin_conf, held_watch),
	 .default_text = "1m",
	 .min = 1000000000,
	 .max = INT64_C(86400000000000)},
};
static const struct option_table admin_table = OPTION_TABLE(admin_options, struct admin_conf);

struct tls_conf {
	const char *cert_file, *key_file, *client_ca_file;
	const char *writers; /* an array */
};
static const struct ss_option tls_options[] = {
	{.key = "cert_file",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct tls_conf, cert_file),
	 .flags = SS_OPT_REQUIRED},
	{.key = "key_file",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct tls_conf, key_file),
	 .flags = SS_OPT_REQUIRED},
	{.key = "client_ca_file", .type = SS_OPT_STRING, .offset = offsetof(struct tls_conf, client_ca_file)},
	{.key = "writers",
	 .type = SS_OPT_JSON,
	 .offset = offsetof(struct tls_conf, writers),
	 .default_text = "[]"},
};
static const struct option_table tls_table = OPTION_TABLE(tls_options, struct tls_conf);

/* What is wrong with "host:port", "[v6]:port" or "unix:/path"; NULL: nothing. */
static const char *listen_fault(const char *s)
{
	struct ss_host_name name;
	const char *fault;
	int64_t port;
	char *address;
	if (strncmp(s, "unix:", 5) == 0)
		return s[5] == '/' ? NULL : "a socket's path begins with a slash";
	const char *colon = strrchr(s, ':');
	if (!colon || colon == s)
		return "host and port are two";
	if (ss_parse_integer(colon + 1, &port) || port < 0 || port > 65535)
		return "the port is no number from 0 to 65535";
	if (*s != '[') {
		if (memchr(s, ':', (size_t)(colon - s)))
			return "an IPv6 address stands in brackets";
		if (ss_host_name_read(s, (size_t)(colon - s), &name) < 0)
			return "no host has such a name";
		return name.address_len && colon[-1] == '.' ? "there is no dot behind an address"
							    : ss_host_name_fault(&name);
	}
	if (colon[-1] != ']')
		return "the bracket of an IPv6 address is not closed";
	address = strndup(s + 1, (size_t)(colon - s - 2));
	fault = !address || !strchr(address, ':') ? "what stands in the brackets is no IPv6 address"
						  : ss_address_fault(address);
	free(address);
	return fault;
}

/* The admin port is the host's.  0, -ENOMEM. */
static int claim_admin(struct config *config)
{
	const char *listen = config->admin_listen, *other, *colon = strrchr(listen, ':');
	char resource[512];

	if (strncmp(listen, "unix:", 5) == 0 || !colon || strcmp(colon, ":0") == 0)
		return 0;
	if (strncmp(listen, "localhost:", 10) == 0)
		snprintf(resource, sizeof resource, "tcp:127.0.0.1%s", colon);
	else if (strncmp(listen, "[::]:", 5) == 0) /* the kernel's default: both families */
		snprintf(resource, sizeof resource, "tcp:%s", colon);
	else if (*listen == '[')
		snprintf(resource, sizeof resource, "tcp:%.*s%s", (int)(colon - listen - 2), listen + 1,
			 colon);
	else
		snprintf(resource, sizeof resource, "tcp:%s", listen);
	return claims_add(config->claims, NULL, resource, &other) == -ENOMEM ? -ENOMEM : 0;
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

static int read_listen(struct config *config, const struct jnode *node, const char *listen, struct diag *diag)
{
	const bool off = strcmp(listen, "off") == 0;
	const char *fault = off ? NULL : listen_fault(listen);
	char shown[JSHOWN_SIZE];

	if (fault)
		jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(node, "listen"), J_VALUE,
			    "expected \"host:port\", \"[v6 address]:port\", \"unix:/path\" or "
			    "\"off\", got %s: %s",
			    jnode_shown(jnode_get(node, "listen"), shown), fault);
	if (off)
		return 0;
	return copy_text(&config->admin_listen, listen) ? claim_admin(config) : -ENOMEM;
}

/* The one in the folder that systemd made for us, if there is no other. */
static int default_socket(struct admin_config *admin)
{
	const char *folder = getenv("RUNTIME_DIRECTORY");

	if (!folder || *folder != '/' || strchr(folder, ':'))
		return 0;
	return asprintf(&admin->socket, "%s/" ADMIN_RUNTIME_SOCKET, folder) < 0 ? -ENOMEM : 0;
}

static int read_socket(struct config *config, const struct jnode *node, const struct admin_conf *conf,
		       struct diag *diag)
{
	struct admin_config *admin = &config->admin;
	const struct jnode *at = jnode_get(node, "socket");
	char shown[JSHOWN_SIZE];

	if (!copy_text(&admin->socket_group, conf->socket_group))
		return -ENOMEM;
	if (strcmp(conf->socket, "off") == 0)
		return 0;
	if (strcmp(conf->socket, "auto") == 0)
		return default_socket(admin);
	if (conf->socket[0] != '/' || strlen(conf->socket) >= sizeof((struct sockaddr_un *)0)->sun_path)
		jdoc_report(config->doc, diag, DIAG_ERROR, at, J_VALUE,
			    "expected the path of a socket (from the root, 107 bytes at most), \"auto\" or "
			    "\"off\", got %s",
			    jnode_shown(at, shown));
	admin->socket_chosen = true;
	return copy_text(&admin->socket, conf->socket) ? 0 : -ENOMEM;
}

static int read_writers(struct config *config, const struct jnode *node, struct diag *diag)
{
	struct admin_config *admin = &config->admin;
	char shown[JSHOWN_SIZE];

	if (!node)
		return 0;
	if (node->type != J_ARRAY) {
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE,
			    "expected an array of names, got %s", jnode_shown(node, shown));
		return 0;
	}
	admin->writers = calloc(node->n + 1, sizeof *admin->writers);
	if (!admin->writers)
		return -ENOMEM;
	for (const struct jnode *child = node->child; child; child = child->next) {
		if (child->type != J_STRING || !*child->string)
			jdoc_report(config->doc, diag, DIAG_ERROR, child, J_VALUE,
				    "expected the name of a client's certificate, got %s",
				    jnode_shown(child, shown));
		else if (!copy_text(&admin->writers[admin->n_writers++], child->string))
			return -ENOMEM;
	}
	if (node->n && !jnode_get(node->parent, "client_ca_file"))
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_NAME,
			    "\"client_ca_file\" is missing: without it clients have no names");
	return 0;
}

static void warn_of_readers(struct config *config, const struct jnode *node, struct diag *diag)
{
	char text[2 * PATH_MAX + 256];

	if (secret_file_exposed(config->admin.key_file, text, sizeof text))
		jdoc_report(config->doc, diag, DIAG_WARN, node, J_VALUE, "%s", text);
}

static int read_tls(struct config *config, const struct jnode *node, struct diag *diag)
{
	struct admin_config *admin = &config->admin;
	struct options options;

	if (!node)
		return 0;
	if (!config->admin_listen || strncmp(config->admin_listen, "unix:", 5) == 0)
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_NAME,
			    "TLS is for \"listen\": \"host:port\", and there is no such port");
	int rc = options_fill(&tls_table, config->doc, node, node, diag, &options);
	if (rc == 0) {
		const struct tls_conf *conf = options.conf;
		const char *const given[] = {conf->cert_file, conf->key_file, conf->client_ca_file};
		char **const to[] = {&admin->cert_file, &admin->key_file, &admin->client_ca_file};
		for (size_t i = 0; i < 3; i++)
			if (given[i] && !(*to[i] = expand_path(config->doc, given[i])))
				rc = -ENOMEM;
		if (admin->key_file)
			warn_of_readers(config, jnode_get(node, "key_file"), diag);
		if (rc == 0)
			rc = read_writers(config, jnode_get(node, "writers"), diag);
	}
	options_done(&options);
	return rc == -ENOMEM ? rc : 0;
}

int admin_config_read(struct config *config, const struct jnode *node, struct diag *diag)
{
	struct options options;

	int rc = options_fill(&admin_table, config->doc, node, config->doc->root, diag, &options);
	if (rc == 0) {
		const struct admin_conf *conf = options.conf;
		config->watchdog_ns = (uint64_t)conf->watchdog;
		config->held_watch_ns = (uint64_t)conf->held_watch;
		config->admin.max_streams = (unsigned)conf->max_streams;
		rc = read_listen(config, node, conf->listen, diag);
		if (rc == 0)
			rc = read_socket(config, node, conf, diag);
		if (rc == 0)
			rc = read_tls(config, jnode_get(node, "tls"), diag);
	}
	options_done(&options);
	return rc == -ENOMEM ? rc : 0;
}

void admin_config_done(struct admin_config *admin)
{
	for (size_t i = 0; i < admin->n_writers; i++)
		free(admin->writers[i]);
	free(admin->writers);
	free(admin->socket);
	free(admin->socket_group);
	free(admin->cert_file);
	free(admin->key_file);
	free(admin->client_ca_file);
	*admin = (struct admin_config){0};
}
