/* SPDX-License-Identifier: MIT */
/* provider - the layout of a step-ca that signs the CAs of tenants: the home of step-ca as its image has it
 * (certs/, secrets/, config/, templates/, db/).  Root, intermediate and tenants have path lengths 2, 1 and 0.
 */
#include "step_home.h"

/* The profile is a claim of the one-time token, which only the provisioner's key signs. */
static const char iot_bridge[] =
	"{{- /* what a one-time token of \"iot-bridge\" may order here: the CA of a tenant, or a service */ "
	"-}}\n"
	"{{- if eq .Token.profile \"intermediate-ca\" -}}\n"
	"{\"subject\": {{ toJson .Subject }},\n"
	" \"keyUsage\": [\"certSign\", \"crlSign\"],\n"
	" \"basicConstraints\": {\"isCA\": true, \"maxPathLen\": 0}}\n"
	"{{- else if eq .Token.profile \"service-leaf\" -}}\n"
	"{\"subject\": {{ toJson .Subject }}, \"sans\": {{ toJson .SANs }},\n"
	" \"keyUsage\": [\"digitalSignature\", \"keyEncipherment\"], \"extKeyUsage\": [\"serverAuth\", "
	"\"clientAuth\"]}\n"
	"{{- else }}{{ fail \"the token names no profile that is issued here\" }}{{ end }}\n";

static const char service_leaf[] = "{\"subject\": {{ toJson .Subject }}, \"sans\": {{ toJson .SANs }},\n"
				   " \"keyUsage\": [\"digitalSignature\", \"keyEncipherment\"], "
				   "\"extKeyUsage\": [\"serverAuth\", \"clientAuth\"]}\n";

static const char device_leaf[] =
	"{{- /* a device is a client, and nothing else */ -}}\n"
	"{\"subject\": {{ toJson .Subject }}, \"sans\": {{ toJson .SANs }},\n"
	" \"keyUsage\": [\"digitalSignature\"], \"extKeyUsage\": [\"clientAuth\"]}\n";

/* No CAs: below a path length of 0 nobody would trust them. */
static const char tenant[] =
	"{{- /* for the \"iot-bridge\" of a tenant's step-ca: what its one-time tokens may order */ -}}\n"
	"{{- if eq .Token.profile \"device-leaf\" -}}\n"
	"{\"subject\": {{ toJson .Subject }}, \"sans\": {{ toJson .SANs }},\n"
	" \"keyUsage\": [\"digitalSignature\"], \"extKeyUsage\": [\"clientAuth\"]}\n"
	"{{- else if eq .Token.profile \"service-leaf\" -}}\n"
	"{\"subject\": {{ toJson .Subject }}, \"sans\": {{ toJson .SANs }},\n"
	" \"keyUsage\": [\"digitalSignature\", \"keyEncipherment\"], \"extKeyUsage\": [\"serverAuth\", "
	"\"clientAuth\"]}\n"
	"{{- else }}{{ fail \"the token names no profile that is issued here\" }}{{ end }}\n";

static json_t *authority(const struct provisioner *p)
{
	json_t *bridge =
		json_pack("{s:s, s:s, s:O, s:s%, s:{s:s, s:s}, s:{s:{s:s}}}", "type", "JWK", "name",
			  "iot-bridge", "key", p->public, "encryptedKey", p->sealed.bytes, p->sealed.len,
			  "claims", "maxTLSCertDuration", "17520h", "defaultTLSCertDuration", "17520h",
			  "options", "x509", "templateFile", "templates/iot-bridge.tpl");
	json_t *acme =
		json_pack("{s:s, s:s, s:b, s:{s:s, s:s}, s:{s:{s:s}}}", "type", "ACME", "name", "acme",
			  "forceCN", 1, "claims", "maxTLSCertDuration", "8760h", "defaultTLSCertDuration",
			  "8760h", "options", "x509", "templateFile", "templates/service-leaf.tpl");

	return json_pack("{s:{s:s, s:s, s:s}, s:[o, o]}", "claims", "minTLSCertDuration", "5m",
			 "defaultTLSCertDuration", "24h", "maxTLSCertDuration", "8760h", "provisioners",
			 bridge, acme);
}

static const struct step_file files[] = {{"templates/iot-bridge.tpl", iot_bridge},
					 {"templates/service-leaf.tpl", service_leaf},
					 {"templates/device-leaf.tpl", device_leaf},
					 {"templates/tenant.tpl", tenant},
					 {NULL, NULL}};

static const struct step_home home = {.base = "",
				      .config = "config/ca.json",
				      .defaults = "config/defaults.json",
				      .root_subject = "Provider Root CA",
				      .subject = "Provider Intermediate CA",
				      .root_life_s = (int64_t)3650 * TREE_DAY,
				      .life_s = (int64_t)1825 * TREE_DAY,
				      .root_path_len = 2,
				      .path_len = 1,
				      .files = files,
				      .authority = authority};

static int init(struct tree *t, struct fault *f)
{
	int rc = step_home_init(t, &home, f);

	if (rc == 0)
		step_home_tell(t);
	return rc;
}

static int check(struct tree *t, struct verdict *verdict, struct fault *f)
{
	return step_home_check(t, &home, verdict, f);
}

const struct layout layout_provider = {.name = "provider",
				       .dir = "pki",
				       .metadata = "metadata.json",
				       .root = "certs/root_ca.crt",
				       .root_key = "secrets/root_ca_key",
				       .issuer = "certs/intermediate_ca.crt",
				       .issuer_key = "secrets/intermediate_ca_key",
				       .password = "secrets/password",
				       .offline = true,
				       .init = init,
				       .check = check};
