/* SPDX-License-Identifier: MIT */
/*
 * tls_config - "security.tls" of the configuration, checked: types, unknown keys, what is missing, what is
 * unwise. Control thread only.
 */
#include "core/config/tls_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/nearest.h>
#include <semstreams/ext/tls.h>
#include "core/config/expand.h"
#include "core/plugin/loader.h"
#include "core/plugin/provider.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the members there are, for reading and for the schema ---- */

#define KEYS(table) .keys = (table), .n = sizeof(table) / sizeof(table)[0]

#define ELSEWHERE "{\"$ref\": \"#/$defs/from_elsewhere\"}"
#define BOOLEAN   "{\"anyOf\": [{\"type\": \"boolean\"}, {\"type\": \"string\", \"pattern\": \"[$][{]env:\"}]}"
#define TEXT      "{\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, " ELSEWHERE "]}"
#define LIST(least, most)                                                                                    \
	"{\"type\": \"array\", \"minItems\": " #least ", \"maxItems\": " #most ", \"items\": " TEXT "}"
#define VERSION "{\"anyOf\": [{\"enum\": [\"1.2\", \"1.3\"]}, " ELSEWHERE "]}"
#define MODE    "{\"anyOf\": [{\"type\": \"string\", \"pattern\": \"^[a-z0-9_]{1,40}$\"}, " ELSEWHERE "]}"
#define MODE_HELP                                                                                            \
	"Source of the certificate: \"manual\", from cert_file and key_file, or a provider such as "         \
	"\"acme\", with the files as fallback"
#define CRL_HELP "Revocation lists of the CAs that sign the certificates of peers, PEM or DER files"
#define CRL_POLICY_HELP                                                                                      \
	"What a revocation list that is missing or out of date does: \"hard_fail\" refuses the peers of "    \
	"its CA, \"soft_fail\" lets them in and says so"
#define CRL_POLICY "{\"anyOf\": [{\"enum\": [\"hard_fail\", \"soft_fail\"]}, " ELSEWHERE "]}"

/* A section that says anything says whether it is on. */
#define SAYS_ENABLED "\"anyOf\": [{\"maxProperties\": 0}, {\"required\": [\"enabled\"]}]"
#define BOTH_OR_NONE "\"dependentRequired\": {\"cert_file\": [\"key_file\"], \"key_file\": [\"cert_file\"]}"
#define IF_ENABLED(more, needed)                                                                             \
	"\"if\": {\"required\": [\"enabled\"], \"properties\": {\"enabled\": {\"const\": true}" more "}}, "  \
	"\"then\": {\"required\": [\"" needed "\"]}"

static const struct tls_key server_mtls_keys[] = {
	{"enabled", "Ask clients for a certificate", BOOLEAN, NULL, NULL},
	{"client_ca_files", "CAs that sign the certificates of clients, PEM files", LIST(1, 64), NULL, NULL},
	{"require_client_cert", "Reject clients without a certificate", BOOLEAN, "true", NULL},
	{"allowed_client_cns",
	 "Names of accepted clients: a DNS SAN, or the CN of certificates without DNS SANs; absent: every "
	 "client the CAs signed",
	 LIST(0, 4096), NULL, NULL},
	{"crl_files", CRL_HELP, LIST(1, 64), NULL, NULL},
	{"crl_policy", CRL_POLICY_HELP, CRL_POLICY, "\"hard_fail\"", NULL},
};
static const struct tls_section tls_server_mtls = {.help = "Verification of client certificates",
						   .rules = "{" SAYS_ENABLED
							    ", " IF_ENABLED("", "client_ca_files") "}",
						   KEYS(server_mtls_keys)};

static const struct tls_key server_keys[] = {
	{"enabled", "Use TLS on every listening port", BOOLEAN, NULL, NULL},
	{"mode", MODE_HELP, MODE, "\"manual\"", NULL},
	{"cert_file", "Certificate of the server, followed by its chain, PEM file", TEXT, NULL, NULL},
	{"key_file", "Private key of cert_file, PEM file with mode 0600", TEXT, NULL, NULL},
	{"allow_open_key_file",
	 "Accept a key file whose mode lets others read it, for file systems without modes (CIFS, squashed "
	 "NFS)",
	 BOOLEAN, "false", NULL},
	{"min_version", "Minimum TLS version", VERSION, "\"1.2\"", NULL},
	{"mtls", NULL, NULL, NULL, &tls_server_mtls},
	{"acme", "Settings of mode \"acme\": how to obtain a certificate by ACME", NULL, NULL, NULL},
	{"step", "Settings of mode \"step\": how to obtain a certificate from step-ca", NULL, NULL, NULL},
};
static const struct tls_section tls_server = {.help = "TLS of components that listen",
					      .rules = "{" SAYS_ENABLED ", " BOTH_OR_NONE ", " IF_ENABLED(
						      ", \"mode\": {\"const\": \"manual\"}", "cert_file") "}",
					      KEYS(server_keys),
					      .has_modes = true};

static const struct tls_key client_mtls_keys[] = {
	{"enabled", "Present this certificate to servers", BOOLEAN, NULL, NULL},
	{"cert_file", "Certificate of the client, followed by its chain, PEM file", TEXT, NULL, NULL},
	{"key_file", "Private key of cert_file, PEM file with mode 0600", TEXT, NULL, NULL},
	{"crl_files", CRL_HELP, LIST(1, 64), NULL, NULL},
	{"crl_policy", CRL_POLICY_HELP, CRL_POLICY, "\"hard_fail\"", NULL},
};
static const struct tls_section tls_client_mtls = {.help = "Certificate that is presented to servers",
						   .rules = "{" SAYS_ENABLED ", " BOTH_OR_NONE "}",
						   KEYS(client_mtls_keys)};

static const struct tls_key client_keys[] = {
	{"mode", MODE_HELP, MODE, "\"manual\"", NULL},
	{"ca_files", "CAs that sign the certificates of servers, PEM files; absent: the CAs of the system",
	 LIST(1, 64), NULL, NULL},
	{"crl_files", CRL_HELP, LIST(1, 64), NULL, NULL},
	{"crl_policy", CRL_POLICY_HELP, CRL_POLICY, "\"hard_fail\"", NULL},
	{"insecure_skip_verify", "Do not verify servers at all: for tests only", BOOLEAN, "false", NULL},
	{"min_version", "Minimum TLS version", VERSION, "\"1.2\"", NULL},
	{"cert_file", "Certificate of the client, followed by its chain, PEM file", TEXT, NULL, NULL},
	{"key_file", "Private key of cert_file, PEM file with mode 0600", TEXT, NULL, NULL},
	{"allow_open_key_file",
	 "Accept a key file whose mode lets others read it, for file systems without modes (CIFS, squashed "
	 "NFS)",
	 BOOLEAN, "false", NULL},
	{"mtls", NULL, NULL, NULL, &tls_client_mtls},
	{"acme", "Settings of mode \"acme\": how to obtain a certificate by ACME", NULL, NULL, NULL},
	{"step", "Settings of mode \"step\": how to obtain a certificate from step-ca", NULL, NULL, NULL},
};
static const struct tls_section tls_client = {.help = "TLS of components that connect",
					      .rules = "{" BOTH_OR_NONE "}",
					      KEYS(client_keys),
					      .has_modes = true};

static const struct tls_key tls_members[] = {
	{"server", NULL, NULL, NULL, &tls_server},
	{"client", NULL, NULL, NULL, &tls_client},
};
static const struct tls_section tls_tls = {.help = "TLS of all connections", KEYS(tls_members)};

static const struct tls_key security_keys[] = {{"tls", NULL, NULL, NULL, &tls_tls}};
const struct tls_section tls_security = {.help = "Certificates, and which peers are accepted",
					 KEYS(security_keys)};

_Static_assert(sizeof server_keys / sizeof server_keys[0] <= TLS_MAX_KEYS, "TLS_MAX_KEYS is too small");
_Static_assert(sizeof client_keys / sizeof client_keys[0] <= TLS_MAX_KEYS, "TLS_MAX_KEYS is too small");

struct reader {
	const struct jdoc *doc;
	struct loader *loader;
	struct diag *diag;
	struct tls_config *out;
	bool out_of_memory;
};

/* ---- values ---- */

static bool expect(struct reader *r, const struct jnode *node, enum jtype type)
{
	char shown[JSHOWN_SIZE];
	const char *hint = "";

	if (node->type == type)
		return true;
	if (node->type == J_NULL)
		hint = "; leave the key out for its default";
	else if (type == J_STRING && node->type == J_NUMBER)
		hint = "; put it in double quotes";
	else if (type == J_ARRAY && node->type == J_STRING)
		hint = "; put it in brackets: [\"...\"]";
	jdoc_report(r->doc, r->diag, DIAG_ERROR, node, J_VALUE, "expected %s, got %s%s", jtype_name(type),
		    jnode_shown(node, shown), hint);
	return false;
}

/* Settings of a mode that is not in use may stay: those of the one in use, or of one that there is a plugin
 * for. */
static bool is_of_mode(struct reader *r, const struct jnode *node, const struct jnode *child)
{
	const struct jnode *mode = jnode_get(node, "mode");

	if (mode && mode->type == J_STRING && strcmp(mode->string, child->name) == 0)
		return true;
	return child->type == J_OBJECT && r->loader && provider_find(r->loader, child->name, NULL);
}

/* A member that is an object with none but the known keys; NULL: absent, or reported. */
static const struct jnode *section(struct reader *r, const struct jnode *parent, const char *name,
				   const struct tls_section *known)
{
	const struct jnode *node = parent ? jnode_get(parent, name) : NULL;
	const char *keys[TLS_MAX_KEYS];

	if (!node || !expect(r, node, J_OBJECT))
		return NULL;
	for (size_t i = 0; i < known->n; i++)
		keys[i] = known->keys[i].name;
	for (const struct jnode *child = node->child; child; child = child->next) {
		size_t i = 0;
		while (i < known->n && strcmp(child->name, keys[i]) != 0)
			i++;
		if (i == known->n && !(known->has_modes && is_of_mode(r, node, child)))
			jdoc_report_unknown(r->doc, r->diag, child, J_NAME, "key", child->name, keys,
					    known->n);
	}
	return node;
}

static void missing(struct reader *r, const struct jnode *object, const char *key, const char *what)
{
	jdoc_report(r->doc, r->diag, DIAG_ERROR, object, J_VALUE, "\"%s\" is missing: %s", key, what);
}

/* A string that says something; false: reported. */
static bool is_text(struct reader *r, const struct jnode *node)
{
	if (!expect(r, node, J_STRING))
		return false;
	if (*node->string)
		return true;
	jdoc_report(r->doc, r->diag, DIAG_ERROR, node, J_VALUE, "an empty string");
	return false;
}

/* NULL: absent, or reported. */
static const struct jnode *text(struct reader *r, const struct jnode *object, const char *key)
{
	const struct jnode *node = object ? jnode_get(object, key) : NULL;

	return node && is_text(r, node) ? node : NULL;
}

static bool boolean(struct reader *r, const struct jnode *object, const char *key, bool otherwise)
{
	const struct jnode *node = object ? jnode_get(object, key) : NULL;
	char shown[JSHOWN_SIZE];

	if (!node)
		return otherwise;
	if (node->type == J_TRUE || node->type == J_FALSE)
		return node->type == J_TRUE;
	const bool variable = expand_is_variable(node);
	if (variable && (strcmp(node->string, "true") == 0 || strcmp(node->string, "false") == 0))
		return node->string[0] == 't';
	jdoc_report(r->doc, r->diag, DIAG_ERROR, node, J_VALUE, "expected true or false, got %s%s",
		    jnode_shown(node, shown),
		    variable                 ? "; the variable has another value"
		    : node->type == J_STRING ? "; write true and false without quotes"
					     : "");
	return otherwise;
}

/* A list of strings that say something; NULL: absent, or reported. */
static const struct jnode *texts(struct reader *r, const struct jnode *object, const char *key, size_t max)
{
	const struct jnode *list = object ? jnode_get(object, key) : NULL;
	bool good = true;

	if (!list || !expect(r, list, J_ARRAY))
		return NULL;
	if (list->n > max) {
		jdoc_report(r->doc, r->diag, DIAG_ERROR, list, J_VALUE, "more than %zu entries", max);
		return NULL;
	}
	for (const struct jnode *child = list->child; child; child = child->next)
		good &= is_text(r, child);
	return good ? list : NULL;
}

/* ---- parts that both roles have ---- */

static void read_file(struct reader *r, const struct jnode *node, struct tls_file *file)
{
	if (!node)
		return;
	free(file->path);
	*file = (struct tls_file){.path = expand_path(r->doc, node->string), .node = node};
	if (!file->path)
		r->out_of_memory = true;
}

/* cert_file and key_file (or what they are called) of an object: both or none. */
static void read_pair(struct reader *r, const struct jnode *object, const char *cert, const char *key,
		      struct tls_role *role)
{
	if (!object)
		return;
	if (jnode_get(object, cert) && !jnode_get(object, key))
		missing(r, object, key, "the private key that belongs to the certificate");
	if (jnode_get(object, key) && !jnode_get(object, cert))
		missing(r, object, cert, "the certificate that belongs to the private key");
	read_file(r, text(r, object, cert), &role->cert);
	read_file(r, text(r, object, key), &role->key);
}

static void read_cas(struct reader *r, const struct jnode *object, const char *key, const char *if_empty,
		     struct tls_role *role)
{
	const struct jnode *list = texts(r, object, key, TLS_MAX_FILES);

	if (!list)
		return;
	if (list->n == 0)
		jdoc_report(r->doc, r->diag, DIAG_ERROR, list, J_VALUE, "an empty list; %s", if_empty);
	role->ca = calloc(list->n + 1, sizeof *role->ca);
	role->ca_paths = calloc(list->n + 1, sizeof *role->ca_paths);
	if (!role->ca || !role->ca_paths) {
		r->out_of_memory = true;
		return;
	}
	for (const struct jnode *child = list->child; child; child = child->next) {
		read_file(r, child, &role->ca[role->n_ca]);
		role->ca_paths[role->n_ca] = role->ca[role->n_ca].path;
		role->n_ca++;
	}
}

/* Revocation lists and what to do without them, of a section whose CAs they are of. */
static void read_crls(struct reader *r, const struct jnode *object, struct tls_role *role)
{
	const struct jnode *list = texts(r, object, "crl_files", TLS_MAX_FILES);
	const struct jnode *policy = text(r, object, "crl_policy");
	char shown[JSHOWN_SIZE];

	if (policy && strcmp(policy->string, "soft_fail") == 0)
		role->crl_soft = true;
	else if (policy && strcmp(policy->string, "hard_fail") != 0)
		jdoc_report(r->doc, r->diag, DIAG_ERROR, policy, J_VALUE,
			    "expected \"hard_fail\" or \"soft_fail\", got %s", jnode_shown(policy, shown));
	if (!list)
		return;
	if (list->n == 0)
		jdoc_report(r->doc, r->diag, DIAG_ERROR, list, J_VALUE,
			    "an empty list; leave the key out if there are no revocation lists");
	if (role->crl) {
		jdoc_report(r->doc, r->diag, DIAG_ERROR, list, J_NAME,
			    "a second list: section \"client\" already has crl_files");
		return;
	}
	role->crl = calloc(list->n + 1, sizeof *role->crl);
	if (!role->crl) {
		r->out_of_memory = true;
		return;
	}
	for (const struct jnode *child = list->child; child; child = child->next)
		read_file(r, child, &role->crl[role->n_crl++]);
}

static void read_min_version(struct reader *r, const struct jnode *object, struct tls_role *role)
{
	const struct jnode *node = text(r, object, "min_version");
	static const char *const old[] = {"1.0", "1.1", "1", "TLSv1.0", "TLSv1.1", "SSLv3"};
	char shown[JSHOWN_SIZE];

	role->min_version = 0x0303;
	if (!node || strcmp(node->string, "1.2") == 0)
		return;
	if (strcmp(node->string, "1.3") == 0) {
		role->min_version = 0x0304;
		return;
	}
	for (size_t i = 0; i < N(old); i++) {
		if (strcmp(node->string, old[i]) != 0)
			continue;
		jdoc_report(
			r->doc, r->diag, DIAG_ERROR, node, J_VALUE,
			"TLS below 1.2 is insecure and not supported; expected \"1.2\" or \"1.3\", got %s",
			jnode_shown(node, shown));
		return;
	}
	jdoc_report(r->doc, r->diag, DIAG_ERROR, node, J_VALUE, "expected \"1.2\" or \"1.3\", got %s",
		    jnode_shown(node, shown));
}

static void warn(struct reader *r, const struct jnode *object, const char *key, const char *why)
{
	const struct jnode *node = jnode_get(object, key);

	jdoc_report(r->doc, r->diag, DIAG_WARN, node ? node : object, J_VALUE, "%s", why);
}

/* "; did you mean ...?" or "; known: ..." for a mode that nobody has. */
static void print_known(struct loader *loader, const char *mode, FILE *to)
{
	size_t n = loader_count(loader), n_known = 0;
	char(*names)[PROVIDER_MAX_MODE + 1] = calloc(n + 1, sizeof *names);
	const char **known = calloc(n + 1, sizeof *known);

	if (names && known) {
		known[n_known++] = "manual";
		for (size_t i = 0; i < n; i++) {
			if (provider_mode(loader_type(loader, i, NULL), names[i]))
				known[n_known++] = names[i];
		}
		const char *near = ss_nearest(mode, known, n_known);
		if (near)
			fprintf(to, "; did you mean \"%s\"?", near);
		for (size_t i = 0; !near && i < n_known; i++)
			fprintf(to, "%s%s", i ? ", " : "; known: ", known[i]);
	}
	free(known);
	free(names);
}

/* The provider of the mode that is written there; reported if there is none. */
static const struct ss_component *provider_of(const struct reader *r, const struct jnode *mode)
{
	const char *why;
	const struct ss_component *desc = provider_find(r->loader, mode->string, &why);
	char *known = NULL;
	size_t size;

	if (desc)
		return desc;
	if (why) {
		jdoc_report(r->doc, r->diag, DIAG_ERROR, mode, J_VALUE, "cannot load mode \"%s\": %s",
			    mode->string, why);
		return NULL;
	}
	FILE *to = open_memstream(&known, &size);
	if (to) {
		loader_load_all(r->loader);
		print_known(r->loader, mode->string, to);
		fclose(to);
	}
	jdoc_report(r->doc, r->diag, DIAG_ERROR, mode, J_VALUE,
		    "mode \"%s\" needs the plugin %s%s, which was not found%s", mode->string, mode->string,
		    PROVIDER_SUFFIX, known ? known : "");
	free(known);
	return NULL;
}

/* The provider of a mode; reported if there is none, or if the name cannot be a mode's. */
static void find_provider(struct reader *r, const struct jnode *mode, struct tls_role *role)
{
	char shown[JSHOWN_SIZE];

	if (strlen(mode->string) > PROVIDER_MAX_MODE ||
	    strspn(mode->string, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(mode->string))
		jdoc_report(r->doc, r->diag, DIAG_ERROR, mode, J_VALUE,
			    "expected \"manual\", or the name of a provider in lower-case letters, digits "
			    "and \"_\", "
			    "got %s",
			    jnode_shown(mode, shown));
	else if (role->mode && r->loader)
		role->provider = provider_of(r, mode);
}

/*
 * Is the role's certificate to come from files alone?  A provider that its settings switch off ("enabled":
 * false) counts as none.
 */
static bool read_mode(struct reader *r, const struct jnode *section, struct tls_role *role)
{
	const struct jnode *mode = text(r, section, "mode"), *acme = jnode_get(section, "acme");

	if (!jnode_get(section, "mode") || (mode && strcmp(mode->string, "manual") == 0)) {
		if (acme && expect(r, acme, J_OBJECT) && role->on && boolean(r, acme, "enabled", false))
			jdoc_report(r->doc, r->diag, DIAG_WARN, acme, J_NAME,
				    "not used: the mode is \"manual\"; for ACME write \"mode\": \"acme\"");
		return true;
	}
	if (!mode)
		return false;
	const struct jnode *settings = jnode_get(section, mode->string);
	if (settings && !expect(r, settings, J_OBJECT))
		return false;
	const struct jnode *enabled = settings ? jnode_get(settings, "enabled") : NULL;
	if (role->on && enabled && enabled->type == J_FALSE) {
		jdoc_report(r->doc, r->diag, DIAG_WARN, enabled, J_VALUE,
			    "mode \"%s\" is disabled: only cert_file and key_file are used", mode->string);
		return true;
	}
	if (role->on)
		role->mode = mode->string;
	find_provider(r, mode, role);
	return false;
}

/* For keys on file systems where everybody may read everything. */
static void read_open_key(struct reader *r, const struct jnode *section, struct tls_role *role)
{
	role->open_key = boolean(r, section, "allow_open_key_file", false);
	if (role->open_key && role->on)
		warn(r, section, "allow_open_key_file",
		     "the mode of key_file is not looked at: whoever can read it can be this program");
}

/* ---- server ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_padded(const char *name)
{
	return name[0] && (is_blank(name[0]) || is_blank(name[strlen(name) - 1]));
}

static void read_names(struct reader *r, const struct jnode *mtls, bool on, struct tls_role *role)
{
	const struct jnode *list = texts(r, mtls, "allowed_client_cns", TLS_MAX_NAMES);

	if (on && (list ? list->n == 0 : !jnode_get(mtls, "allowed_client_cns")))
		warn(r, mtls, "allowed_client_cns",
		     "allowed_client_cns names nobody: every client with a certificate of these CAs is "
		     "accepted");
	if (!list)
		return;
	role->names = calloc(list->n + 1, sizeof *role->names);
	if (!role->names) {
		r->out_of_memory = true;
		return;
	}
	for (const struct jnode *child = list->child; child; child = child->next) {
		role->names[role->n_names++] = child->string;
		if (strlen(child->string) > TLS_MAX_NAME)
			jdoc_report(r->doc, r->diag, DIAG_ERROR, child, J_VALUE,
				    "a name of more than %d bytes", TLS_MAX_NAME);
		else if (on && strchr(child->string, '*'))
			jdoc_report(r->doc, r->diag, DIAG_WARN, child, J_VALUE,
				    "'*' is not a wildcard, names are compared literally: no certificate "
				    "will match");
		else if (on && is_padded(child->string))
			jdoc_report(r->doc, r->diag, DIAG_WARN, child, J_VALUE,
				    "the name begins or ends with a blank: no certificate will match");
	}
}

static void read_server_mtls(struct reader *r, const struct jnode *server, struct tls_role *role)
{
	const struct jnode *mtls = section(r, server, "mtls", &tls_server_mtls);

	if (!mtls)
		return;
	if (mtls->n && !jnode_get(mtls, "enabled"))
		missing(r, mtls, "enabled", "true, or false to accept every client");
	bool enabled = boolean(r, mtls, "enabled", false), on = enabled && role->on;
	bool require = boolean(r, mtls, "require_client_cert", true);
	read_cas(r, mtls, "client_ca_files", "name the CAs that sign the certificates of clients", role);
	read_names(r, mtls, on, role);
	read_crls(r, mtls, role);
	if (!enabled)
		return;
	if (!jnode_get(mtls, "client_ca_files"))
		missing(r, mtls, "client_ca_files", "the CAs that sign the certificates of clients");
	role->flags |= SS_TLS_VERIFY_PEER | (require ? SS_TLS_REQUIRE_PEER : 0u);
	if (on && !require)
		warn(r, mtls, "require_client_cert",
		     "clients without a certificate are accepted, whatever allowed_client_cns says");
}

static void read_server(struct reader *r, const struct jnode *tls)
{
	const struct jnode *server = section(r, tls, "server", &tls_server);
	struct tls_role *role = &r->out->roles[SS_TLS_SERVER];

	if (!server)
		return;
	if (server->n && !jnode_get(server, "enabled"))
		missing(r, server, "enabled", "true for TLS, false for plain connections");
	role->on = boolean(r, server, "enabled", false);
	bool manual = read_mode(r, server, role);
	read_min_version(r, server, role);
	read_pair(r, server, "cert_file", "key_file", role);
	read_open_key(r, server, role);
	if (role->on && manual && !jnode_get(server, "cert_file") && !jnode_get(server, "key_file"))
		missing(r, server, "cert_file",
			"mode \"manual\" takes the certificate and key of the server from cert_file and "
			"key_file");
	read_server_mtls(r, server, role);
}

/* ---- client ---- */

/* The certificate may stand in the section itself or in its "mtls". */
static void read_client_pair(struct reader *r, const struct jnode *client, bool manual, struct tls_role *role)
{
	const struct jnode *mtls = section(r, client, "mtls", &tls_client_mtls);
	bool enabled = boolean(r, mtls, "enabled", false);

	read_crls(r, mtls, role);
	if (mtls && mtls->n && !jnode_get(mtls, "enabled"))
		missing(r, mtls, "enabled", "true, or false to present no certificate");
	read_pair(r, client, "cert_file", "key_file", role);
	if (mtls && !enabled && role->mode && jnode_get(mtls, "enabled"))
		jdoc_report(r->doc, r->diag, DIAG_ERROR, jnode_get(mtls, "enabled"), J_VALUE,
			    "presents no certificate, but mode \"%s\" obtains one; remove one of the two",
			    role->mode);
	if (!enabled) {
		struct tls_role unused = {0};
		read_pair(r, mtls, "cert_file", "key_file", &unused);
		free(unused.cert.path);
		free(unused.key.path);
		return;
	}
	if (role->cert.path && jnode_get(mtls, "cert_file"))
		jdoc_report(r->doc, r->diag, DIAG_ERROR, jnode_get(mtls, "cert_file"), J_NAME,
			    "a second certificate: section \"client\" already has a cert_file");
	else
		read_pair(r, mtls, "cert_file", "key_file", role);
	if (manual && !role->cert.path && !jnode_get(mtls, "cert_file") && !jnode_get(mtls, "key_file") &&
	    !jnode_get(client, "cert_file") && !jnode_get(client, "key_file"))
		missing(r, mtls, "cert_file",
			"mode \"manual\" takes the certificate and key of the client from cert_file and "
			"key_file");
}

static void read_client(struct reader *r, const struct jnode *tls)
{
	const struct jnode *client = section(r, tls, "client", &tls_client);
	struct tls_role *role = &r->out->roles[SS_TLS_CLIENT];

	if (!client)
		return;
	role->on = true;
	bool manual = read_mode(r, client, role);
	read_min_version(r, client, role);
	read_cas(r, client, "ca_files", "leave the key out to trust the CAs of the system", role);
	read_crls(r, client, role);
	read_client_pair(r, client, manual, role);
	read_open_key(r, client, role);
	role->flags = SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER |
		      (jnode_get(client, "ca_files") ? 0u : SS_TLS_SYSTEM_CA);
	if (boolean(r, client, "insecure_skip_verify", false)) {
		role->flags = SS_TLS_INSECURE;
		warn(r, client, "insecure_skip_verify",
		     "servers are not verified: anybody on the network path can read and change the data");
	}
}

/* ---- the whole ---- */

int tls_config_read(const struct jdoc *doc, const struct jnode *security, struct loader *loader,
		    struct diag *diag, struct tls_config *out)
{
	struct reader r = {.doc = doc, .loader = loader, .diag = diag, .out = out};
	size_t errors = diag->errors;

	*out = (struct tls_config){0};
	/* "security" is a member of the document's root */
	if (security && section(&r, security->parent, "security", &tls_security)) {
		const struct jnode *tls = section(&r, security, "tls", &tls_tls);
		if (tls) {
			read_server(&r, tls);
			read_client(&r, tls);
		}
	}
	if (r.out_of_memory)
		return -ENOMEM;
	return diag->errors > errors ? -EINVAL : 0;
}

void tls_config_done(struct tls_config *config)
{
	for (size_t i = 0; i < TLS_ROLES; i++) {
		struct tls_role *role = &config->roles[i];
		for (size_t k = 0; k < role->n_ca; k++)
			free(role->ca[k].path);
		for (size_t k = 0; k < role->n_crl; k++)
			free(role->crl[k].path);
		free(role->crl);
		free(role->ca);
		free(role->ca_paths);
		free(role->names);
		free(role->cert.path);
		free(role->key.path);
	}
	*config = (struct tls_config){0};
}
