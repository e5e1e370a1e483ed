/* SPDX-License-Identifier: MIT */
#include "core/config/tls_keys.h"

#define KEYS(table) .keys = (table), .n = sizeof(table) / sizeof(table)[0]

#define ELSEWHERE "{\"$ref\": \"#/$defs/from_elsewhere\"}"
#define BOOLEAN   "{\"type\": \"boolean\"}"
#define TEXT      "{\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, " ELSEWHERE "]}"
#define LIST(least, most)                                                                                    \
	"{\"type\": \"array\", \"minItems\": " #least ", \"maxItems\": " #most ", \"items\": " TEXT "}"
#define VERSION "{\"anyOf\": [{\"enum\": [\"1.2\", \"1.3\"]}, " ELSEWHERE "]}"
#define MODE    "{\"anyOf\": [{\"type\": \"string\", \"pattern\": \"^[a-z0-9_]{1,40}$\"}, " ELSEWHERE "]}"
#define MODE_HELP                                                                                            \
	"Where the certificate comes from: \"manual\", from files; \"acme\" and others, from a provider, "   \
	"with the "                                                                                          \
	"files to fall back to"

/* A section that says anything says whether it is on. */
#define SAYS_ENABLED "\"anyOf\": [{\"maxProperties\": 0}, {\"required\": [\"enabled\"]}]"
#define BOTH_OR_NONE "\"dependentRequired\": {\"cert_file\": [\"key_file\"], \"key_file\": [\"cert_file\"]}"
#define IF_ENABLED(more, needed)                                                                             \
	"\"if\": {\"required\": [\"enabled\"], \"properties\": {\"enabled\": {\"const\": true}" more "}}, "  \
	"\"then\": {\"required\": [\"" needed "\"]}"

static const struct tls_key server_mtls_keys[] = {
	{"enabled", "Ask clients for a certificate", BOOLEAN, NULL, NULL},
	{"client_ca_files", "The CAs that sign clients' certificates, PEM", LIST(1, 64), NULL, NULL},
	{"require_client_cert", "Refuse clients without a certificate", BOOLEAN, "true", NULL},
	{"allowed_client_cns",
	 "Names of clients that are let in, CN or DNS SAN; absent: every one that the CAs signed",
	 LIST(0, 4096), NULL, NULL},
};
const struct tls_section tls_server_mtls = {.help = "Certificates of clients",
					    .rules = "{" SAYS_ENABLED
						     ", " IF_ENABLED("", "client_ca_files") "}",
					    KEYS(server_mtls_keys)};

static const struct tls_key server_keys[] = {
	{"enabled", "TLS for all that listen", BOOLEAN, NULL, NULL},
	{"mode", MODE_HELP, MODE, "\"manual\"", NULL},
	{"cert_file", "The server's certificate and its chain, PEM", TEXT, NULL, NULL},
	{"key_file", "Its private key, PEM, readable by its owner alone", TEXT, NULL, NULL},
	{"min_version", "The least version of TLS", VERSION, "\"1.2\"", NULL},
	{"mtls", NULL, NULL, NULL, &tls_server_mtls},
	{"acme", "How to get a certificate from a CA by ACME", NULL, NULL, NULL},
};
const struct tls_section tls_server = {.help = "What listens",
				       .rules = "{" SAYS_ENABLED ", " BOTH_OR_NONE ", " IF_ENABLED(
					       ", \"mode\": {\"const\": \"manual\"}", "cert_file") "}",
				       KEYS(server_keys),
				       .has_modes = true};

static const struct tls_key client_mtls_keys[] = {
	{"enabled", "Show servers this certificate", BOOLEAN, NULL, NULL},
	{"cert_file", "The client's certificate and its chain, PEM", TEXT, NULL, NULL},
	{"key_file", "Its private key, PEM, readable by its owner alone", TEXT, NULL, NULL},
};
const struct tls_section tls_client_mtls = {.help = "The certificate that is shown to servers",
					    .rules = "{" SAYS_ENABLED ", " BOTH_OR_NONE "}",
					    KEYS(client_mtls_keys)};

static const struct tls_key client_keys[] = {
	{"mode", MODE_HELP, MODE, "\"manual\"", NULL},
	{"ca_files", "The CAs that sign servers' certificates, PEM; absent: the system's pool", LIST(1, 64),
	 NULL, NULL},
	{"insecure_skip_verify", "Take servers for what they say they are", BOOLEAN, "false", NULL},
	{"min_version", "The least version of TLS", VERSION, "\"1.2\"", NULL},
	{"cert_file", "The client's certificate and its chain, PEM", TEXT, NULL, NULL},
	{"key_file", "Its private key, PEM, readable by its owner alone", TEXT, NULL, NULL},
	{"mtls", NULL, NULL, NULL, &tls_client_mtls},
	{"acme", "How to get a certificate from a CA by ACME", NULL, NULL, NULL},
};
const struct tls_section tls_client = {
	.help = "What dials", .rules = "{" BOTH_OR_NONE "}", KEYS(client_keys), .has_modes = true};

static const struct tls_key tls_members[] = {
	{"server", NULL, NULL, NULL, &tls_server},
	{"client", NULL, NULL, NULL, &tls_client},
};
const struct tls_section tls_tls = {.help = "TLS of all connections", KEYS(tls_members)};

static const struct tls_key security_keys[] = {{"tls", NULL, NULL, NULL, &tls_tls}};
const struct tls_section tls_security = {.help = "Certificates and who is allowed in", KEYS(security_keys)};

_Static_assert(sizeof server_keys / sizeof server_keys[0] <= TLS_MAX_KEYS, "TLS_MAX_KEYS is too small");
_Static_assert(sizeof client_keys / sizeof client_keys[0] <= TLS_MAX_KEYS, "TLS_MAX_KEYS is too small");
