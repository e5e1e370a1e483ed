/* SPDX-License-Identifier: MIT */
/* security.tls: what a good one becomes, and what each kind of bad or unwise one is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/ext/tls.h>
#include "core/config/tls_config.h"

/* {"security": {"tls": ...}} read: what is printed about it, without the file's name. */
static int read_text(const char *text, struct jdoc **doc, struct tls_config *config, char **told)
{
	struct diag diag;
	size_t len;
	char *lines = NULL;

	diag_init(&diag);
	assert_int_equal(jdoc_parse("/etc/s/f.json", text, strlen(text), &diag, doc), 0);
	int rc = tls_config_read(*doc, jnode_get((*doc)->root, "security"), NULL, &diag, config);
	FILE *to = open_memstream(&lines, &len);
	diag_print(&diag, to);
	fclose(to);
	diag_done(&diag);
	for (char *at; (at = strstr(lines, "/etc/s/f.json:"));)
		memmove(at, at + 14, strlen(at + 14) + 1);
	*told = lines;
	return rc;
}

#define TLS(x) "{\"security\": {\"tls\": " x "}}"

/* The seeds' manual server, and a client. */
#define WHOLE                                                                                                \
	TLS("{\"server\": {\"enabled\": true, \"mode\": \"manual\", \"cert_file\": \"/certs/server.crt\","   \
	    " \"key_file\": \"keys/server.key\", \"min_version\": \"1.3\","                                  \
	    " \"mtls\": {\"enabled\": true, \"client_ca_files\": [\"/certs/a.crt\", \"b.crt\"],"             \
	    " \"require_client_cert\": true, \"allowed_client_cns\": [\"b.local\", \"c.local\"]}},"          \
	    " \"client\": {\"mode\": \"manual\", \"ca_files\": [\"/certs/root.crt\"],"                       \
	    " \"insecure_skip_verify\": false, \"min_version\": \"1.2\","                                    \
	    " \"mtls\": {\"enabled\": true, \"cert_file\": \"/certs/c.crt\", \"key_file\": "                 \
	    "\"/certs/c.key\"}}}")

static void test_whole(void **state)
{
	struct tls_config config;
	struct jdoc *doc;
	char *told;

	(void)state;
	int rc = read_text(WHOLE, &doc, &config, &told);
	assert_string_equal(told, "");
	assert_int_equal(rc, 0);
	const struct tls_role *s = &config.roles[SS_TLS_SERVER], *c = &config.roles[SS_TLS_CLIENT];
	assert_true(s->on);
	assert_string_equal(s->cert.path, "/certs/server.crt");
	assert_string_equal(s->key.path, "/etc/s/keys/server.key");
	assert_int_equal(s->min_version, 0x0304);
	assert_int_equal(s->flags, SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER);
	assert_int_equal(s->n_ca, 2);
	assert_string_equal(s->ca[0].path, "/certs/a.crt");
	assert_string_equal(s->ca[1].path, "/etc/s/b.crt");
	assert_int_equal(s->n_names, 2);
	assert_string_equal(s->names[0], "b.local");
	assert_string_equal(s->names[1], "c.local");
	assert_true(c->on);
	assert_string_equal(c->cert.path, "/certs/c.crt");
	assert_string_equal(c->key.path, "/certs/c.key");
	assert_int_equal(c->min_version, 0x0303);
	assert_int_equal(c->flags, SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER);
	assert_int_equal(c->n_ca, 1);
	free(told);
	tls_config_done(&config);
	jdoc_free(doc);
}

/* What a good one comes to: on, flags, certificate there. */
static void test_meaning(void **state)
{
	static const struct {
		const char *text;
		bool server, client;
		uint32_t server_flags, client_flags;
		bool client_cert;
	} cases[] = {
		{"{}", false, false, 0, 0, false},
		{"{\"security\": {}}", false, false, 0, 0, false},
		{TLS("{}"), false, false, 0, 0, false},
		{TLS("{\"server\": {}, \"client\": {}}"), false, true, 0,
		 SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER | SS_TLS_SYSTEM_CA, false},
		/* off, so that nothing it names need be there */
		{TLS("{\"server\": {\"enabled\": false, \"mode\": \"acme\", \"mtls\": {\"enabled\": true, "
		     "\"client_ca_files\": [\"x\"], \"require_client_cert\": false}}}"),
		 false, false, SS_TLS_VERIFY_PEER, 0, false},
		{TLS("{\"server\": {\"enabled\": true, \"cert_file\": \"c\", \"key_file\": \"k\", \"mtls\": "
		     "{\"enabled\": false}}}"),
		 true, false, 0, 0, false},
		/* required unless said otherwise */
		{TLS("{\"server\": {\"enabled\": true, \"cert_file\": \"c\", \"key_file\": \"k\", \"mtls\": "
		     "{\"enabled\": true, \"client_ca_files\": [\"x\"], \"allowed_client_cns\": [\"a\"]}}}"),
		 true, false, SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER, 0, false},
		{TLS("{\"client\": {\"ca_files\": [\"x\"], \"cert_file\": \"c\", \"key_file\": \"k\"}}"),
		 false, true, 0, SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER, true},
		{TLS("{\"client\": {\"mtls\": {\"enabled\": false, \"cert_file\": \"c\", \"key_file\": "
		     "\"k\"}}}"),
		 false, true, 0, SS_TLS_VERIFY_PEER | SS_TLS_REQUIRE_PEER | SS_TLS_SYSTEM_CA, false},
		{TLS("{\"server\": {\"enabled\": false, \"acme\": {\"enabled\": true, \"directory_url\": "
		     "\"https://x\", "
		     "\"email\": \"a@b\", \"domains\": [\"d\"], \"challenge_type\": \"tls-alpn-01\", "
		     "\"renew_before\": \"8h\", \"storage_path\": \"/data\", \"ca_bundle\": \"/ca\"}}}"),
		 false, false, 0, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_config config;
		struct jdoc *doc;
		char *told;
		int rc = read_text(cases[i].text, &doc, &config, &told);
		assert_string_equal(told, "");
		assert_int_equal(rc, 0);
		assert_int_equal(config.roles[SS_TLS_SERVER].on, cases[i].server);
		assert_int_equal(config.roles[SS_TLS_CLIENT].on, cases[i].client);
		assert_int_equal(config.roles[SS_TLS_SERVER].flags, cases[i].server_flags);
		assert_int_equal(config.roles[SS_TLS_CLIENT].flags, cases[i].client_flags);
		assert_int_equal(config.roles[SS_TLS_CLIENT].cert.path != NULL, cases[i].client_cert);
		free(told);
		tls_config_done(&config);
		jdoc_free(doc);
	}
}

#define SERVER(more)                                                                                         \
	TLS("{\"server\": {\"enabled\": true, \"cert_file\": \"c\", \"key_file\": \"k\"" more "}}")
#define MTLS(more) SERVER(", \"mtls\": {\"enabled\": true, \"client_ca_files\": [\"x\"]" more "}")
#define CLIENT(in) TLS("{\"client\": {" in "}}")

static void test_complaints(void **state)
{
	static const struct {
		const char *text, *told;
	} cases[] = {
		{"{\"security\": {\"tsl\": {}}}",
		 "error 1:15 /security/tsl  unknown key \"tsl\"; did you mean \"tls\"?\n"},
		{"{\"security\": {\"tls\": []}}",
		 "error 1:22 /security/tls  expected an object, got an array\n"},
		{TLS("{\"sever\": {}}"),
		 "error 1:23 /security/tls/sever  unknown key \"sever\"; did you mean \"server\"?\n"},
		{TLS("{\"server\": 1}"), "error 1:33 /security/tls/server  expected an object, got 1\n"},
		{TLS("{\"server\": {\"cert_file\": \"c\", \"key_file\": \"k\"}}"),
		 "error 1:33 /security/tls/server  \"enabled\" is missing: true for TLS, false for plain "
		 "connections\n"},
		{TLS("{\"server\": {\"enabled\": \"true\"}}"),
		 "error 1:45 /security/tls/server/enabled  expected true or false, got \"true\"; write true "
		 "and false without quotes\n"},
		{TLS("{\"server\": {\"enabled\": null}}"),
		 "error 1:45 /security/tls/server/enabled  expected true or false, got null\n"},
		{TLS("{\"server\": {\"enabled\": true}}"),
		 "error 1:33 /security/tls/server  \"cert_file\" is missing: mode \"manual\" takes the "
		 "certificate and key of the server from cert_file and key_file\n"},
		{TLS("{\"server\": {\"enabled\": true, \"cert_file\": \"c\"}}"),
		 "error 1:33 /security/tls/server  \"key_file\" is missing: the private key that belongs to "
		 "the certificate\n"},
		{TLS("{\"server\": {\"enabled\": true, \"key_file\": \"k\"}}"),
		 "error 1:33 /security/tls/server  \"cert_file\" is missing: the certificate that belongs to "
		 "the private key\n"},
		{TLS("{\"server\": {\"enabled\": true, \"cert_file\": 5, \"key_file\": \"\"}}"),
		 "error 1:64 /security/tls/server/cert_file  expected a string, got 5; put it in double "
		 "quotes\n"
		 "error 1:79 /security/tls/server/key_file  an empty string\n"},
		{SERVER(", \"key\": \"k\""),
		 "error 1:86 /security/tls/server/key  unknown key \"key\"; known: enabled, mode, cert_file, "
		 "key_file, allow_open_key_file, min_version, mtls, acme, step\n"},
		{SERVER(", \"min_version\": 1.2"), "error 1:101 /security/tls/server/min_version  expected a "
						   "string, got 1.2; put it in double quotes\n"},
		{SERVER(", \"min_version\": \"1.1\""),
		 "error 1:101 /security/tls/server/min_version  TLS below 1.2 is insecure and not supported; "
		 "expected \"1.2\" or \"1.3\", got \"1.1\"\n"},
		{SERVER(", \"min_version\": \"TLS1.3\""), "error 1:101 /security/tls/server/min_version  "
							  "expected \"1.2\" or \"1.3\", got \"TLS1.3\"\n"},
		{SERVER(", \"mode\": \"Manual\""),
		 "error 1:94 /security/tls/server/mode  expected \"manual\", or the name of a provider in "
		 "lower-case letters, digits and \"_\", got \"Manual\"\n"},
		{SERVER(", \"mode\": \"a b\""),
		 "error 1:94 /security/tls/server/mode  expected \"manual\", or the name of a provider in "
		 "lower-case letters, digits and \"_\", got \"a b\"\n"},
		{SERVER(", \"mtls\": {\"client_ca_files\": [\"x\"]}"),
		 "error 1:94 /security/tls/server/mtls  \"enabled\" is missing: true, or false to accept "
		 "every client\n"},
		{SERVER(", \"mtls\": {\"enabled\": true, \"allowed_client_cns\": [\"a\"]}"),
		 "error 1:94 /security/tls/server/mtls  \"client_ca_files\" is missing: the CAs that sign "
		 "the certificates of clients\n"},
		{SERVER(", \"mtls\": {\"enabled\": true, \"client_ca_files\": [], \"allowed_client_cns\": "
			"[\"a\"]}"),
		 "error 1:131 /security/tls/server/mtls/client_ca_files  an empty list; name the CAs that "
		 "sign the certificates of clients\n"},
		{SERVER(", \"mtls\": {\"enabled\": true, \"client_ca_files\": \"x\", \"allowed_client_cns\": "
			"[\"a\"]}"),
		 "error 1:131 /security/tls/server/mtls/client_ca_files  expected an array, got \"x\"; put "
		 "it in brackets: [\"...\"]\n"},
		{SERVER(", \"mtls\": {\"enabled\": true, \"client_ca_files\": [\"x\", 5, \"\"], "
			"\"allowed_client_cns\": [\"a\"]}"),
		 "error 1:137 /security/tls/server/mtls/client_ca_files/1  expected a string, got 5; put it "
		 "in double quotes\n"
		 "error 1:140 /security/tls/server/mtls/client_ca_files/2  an empty string\n"},
		{MTLS(""), "warning 1:94 /security/tls/server/mtls  allowed_client_cns names nobody: every "
			   "client with a certificate of these CAs is accepted\n"},
		{MTLS(", \"allowed_client_cns\": []"),
		 "warning 1:160 /security/tls/server/mtls/allowed_client_cns  allowed_client_cns names "
		 "nobody: every client with a certificate of these CAs is accepted\n"},
		{MTLS(", \"allowed_client_cns\": [\"a\", \"*\", \"*.local\"]"),
		 "warning 1:166 /security/tls/server/mtls/allowed_client_cns/1  '*' is not a wildcard, names "
		 "are compared literally: no certificate will match\n"
		 "warning 1:171 /security/tls/server/mtls/allowed_client_cns/2  '*' is not a wildcard, names "
		 "are compared literally: no certificate will match\n"},
		{MTLS(", \"allowed_client_cns\": [\" a\", \"b\\n\", \"c\"]"),
		 "warning 1:161 /security/tls/server/mtls/allowed_client_cns/0  the name begins or ends with "
		 "a blank: no certificate will match\n"
		 "warning 1:167 /security/tls/server/mtls/allowed_client_cns/1  the name begins or ends with "
		 "a blank: no certificate will match\n"},
		{MTLS(", \"allowed_client_cns\": [\"a\", 7]"),
		 "error 1:166 /security/tls/server/mtls/allowed_client_cns/1  expected a string, got 7; put "
		 "it in double quotes\n"},
		{MTLS(", \"allowed_client_cns\": \"a\""),
		 "error 1:160 /security/tls/server/mtls/allowed_client_cns  expected an array, got \"a\"; "
		 "put it in brackets: [\"...\"]\n"},
		{MTLS(", \"allowed_client_cns\": [\"a\"], \"require_client_cert\": false"),
		 "warning 1:190 /security/tls/server/mtls/require_client_cert  clients without a certificate "
		 "are accepted, whatever allowed_client_cns says\n"},
		{MTLS(", \"allowed_client_cns\": [\"a\"], \"require_client_cert\": 1, \"allowed_cns\": []"),
		 "error 1:190 /security/tls/server/mtls/require_client_cert  expected true or false, got 1\n"
		 "error 1:193 /security/tls/server/mtls/allowed_cns  unknown key \"allowed_cns\"; known: "
		 "enabled, client_ca_files, require_client_cert, allowed_client_cns, crl_files, "
		 "crl_policy\n"},
		{CLIENT("\"insecure_skip_verify\": true"),
		 "warning 1:58 /security/tls/client/insecure_skip_verify  servers are not verified: anybody "
		 "on the network path can read and change the data\n"},
		{CLIENT("\"insecure_skip_verify\": \"yes\""),
		 "error 1:58 /security/tls/client/insecure_skip_verify  expected true or false, got \"yes\"; "
		 "write true and false without quotes\n"},
		{CLIENT("\"enabled\": true"),
		 "error 1:34 /security/tls/client/enabled  unknown key \"enabled\"; known: mode, ca_files, "
		 "crl_files, crl_policy, insecure_skip_verify, min_version, cert_file, key_file, "
		 "allow_open_key_file, mtls, acme, step\n"},
		{CLIENT("\"ca_files\": []"), "error 1:46 /security/tls/client/ca_files  an empty list; leave "
					     "the key out to trust the CAs of the system\n"},
		{CLIENT("\"cert_file\": \"c\""), "error 1:33 /security/tls/client  \"key_file\" is missing: "
						 "the private key that belongs to the certificate\n"},
		{CLIENT("\"mtls\": {\"enabled\": true}"),
		 "error 1:42 /security/tls/client/mtls  \"cert_file\" is missing: mode \"manual\" takes the "
		 "certificate and key of the client from cert_file and key_file\n"},
		{CLIENT("\"mtls\": {\"cert_file\": \"c\", \"key_file\": \"k\"}"),
		 "error 1:42 /security/tls/client/mtls  \"enabled\" is missing: true, or false to present no "
		 "certificate\n"},
		{CLIENT("\"mtls\": {\"enabled\": true, \"key_file\": \"k\"}"),
		 "error 1:42 /security/tls/client/mtls  \"cert_file\" is missing: the certificate that "
		 "belongs to the private key\n"},
		{CLIENT("\"cert_file\": \"c\", \"key_file\": \"k\", \"mtls\": {\"enabled\": true, "
			"\"cert_file\": \"c\", \"key_file\": \"k\"}"),
		 "error 1:95 /security/tls/client/mtls/cert_file  a second certificate: section \"client\" "
		 "already has a cert_file\n"},
		/* providers: what they have is theirs to judge, and what is not used does not matter */
		{SERVER(", \"mode\": \"acme\", \"acme\": {\"directory\": 1}"), ""},
		{TLS("{\"server\": {\"enabled\": true, \"mode\": \"acme\"}}"), ""},
		{CLIENT("\"mode\": \"vault\", \"vault\": {\"a\": []}, \"mtls\": {\"enabled\": true}"), ""},
		{CLIENT("\"mode\": \"vault\", \"valt\": {}"),
		 "error 1:51 /security/tls/client/valt  unknown key \"valt\"; known: mode, ca_files, "
		 "crl_files, crl_policy, insecure_skip_verify, min_version, cert_file, key_file, "
		 "allow_open_key_file, mtls, acme, step\n"},
		{CLIENT("\"mode\": \"vault\", \"vault\": 1"),
		 "error 1:60 /security/tls/client/vault  expected an object, got 1\n"},
		{CLIENT("\"mode\": \"acme\", \"cert_file\": \"c\""),
		 "error 1:33 /security/tls/client  \"key_file\" is missing: the private key that belongs to "
		 "the certificate\n"},
		{CLIENT("\"mode\": \"acme\", \"mtls\": {\"enabled\": false}"),
		 "error 1:70 /security/tls/client/mtls/enabled  presents no certificate, but mode \"acme\" "
		 "obtains one; remove one of the two\n"},
		{CLIENT("\"acme\": {\"directory\": 5}"), ""},
		{CLIENT("\"acme\": {\"enabled\": false}"), ""},
		{CLIENT("\"acme\": []"),
		 "error 1:42 /security/tls/client/acme  expected an object, got an array\n"},
		{CLIENT("\"acme\": {\"enabled\": true}"),
		 "warning 1:34 /security/tls/client/acme  not used: the mode is \"manual\"; for ACME write "
		 "\"mode\": \"acme\"\n"},
		{SERVER(", \"mode\": \"manual\", \"acme\": {\"enabled\": true}"),
		 "warning 1:104 /security/tls/server/acme  not used: the mode is \"manual\"; for ACME write "
		 "\"mode\": \"acme\"\n"},
		{SERVER(", \"mode\": \"acme\", \"acme\": {\"enabled\": false}"),
		 "warning 1:122 /security/tls/server/acme/enabled  mode \"acme\" is disabled: only cert_file "
		 "and key_file are used\n"},
		{TLS("{\"server\": {\"enabled\": true, \"mode\": \"acme\", \"acme\": {\"enabled\": false}}}"),
		 "error 1:33 /security/tls/server  \"cert_file\" is missing: mode \"manual\" takes the "
		 "certificate and key of the server from cert_file and key_file\n"
		 "warning 1:87 /security/tls/server/acme/enabled  mode \"acme\" is disabled: only cert_file "
		 "and key_file are used\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_config config;
		struct jdoc *doc;
		char *told;
		int rc = read_text(cases[i].text, &doc, &config, &told);
		assert_string_equal(told, cases[i].told);
		assert_int_equal(rc, strstr(told, "error") ? -EINVAL : 0);
		free(told);
		tls_config_done(&config);
		jdoc_free(doc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_meaning),
		cmocka_unit_test(test_complaints),
	};

	return cmocka_run_group_tests_name("tls_config", tests, NULL, NULL);
}
