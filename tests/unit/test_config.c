/* SPDX-License-Identifier: MIT */
/* config and wiring: what a good file becomes, what each kind of bad one is told, and a loader made of three
 * types. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/ext/tls.h>

#include "core/config/config.h"
#include "core/plugin/loader.h"

/* ---- a loader of our own --------------------------------------------------------------------------------
 */

struct conf {
	int64_t port;
	const char *path;
};
static const struct ss_option options[] = {
	{.key = "port",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct conf, port),
	 .default_text = "14550",
	 .min = 1,
	 .max = 65535},
	{.key = "path", .type = SS_OPT_STRING, .offset = offsetof(struct conf, path)},
};
#define TYPE(name, of)                                                                                       \
	{                                                                                                    \
		.struct_size = sizeof(struct ss_component), .kind = of, .type = name, .options = options,    \
		.option_size = sizeof options[0], .n_options = 2, .conf_size = sizeof(struct conf)           \
	}

static const char *const split_outputs[] = {"good", "rejected", NULL};
static const struct ss_component provider = TYPE("any_time", SS_KIND_PROVIDER);
static const struct ss_component processor = TYPE("filter", SS_KIND_PROCESSOR);
static const struct ss_component sink = TYPE("storage", SS_KIND_SINK);
static const struct ss_component source = TYPE("udp_input", SS_KIND_SOURCE);
static struct ss_component splitter = TYPE("split", SS_KIND_PROCESSOR);
static const struct ss_component toy = TYPE("toy_tls", SS_KIND_PROVIDER);
static const struct ss_component sink_tls = TYPE("well_tls", SS_KIND_SINK);
static const struct ss_component *const types[] = {&provider, &processor, &splitter, &sink,
						   &toy,      &source,    &sink_tls};
#define N_TYPES (sizeof types / sizeof types[0])

struct loader {
	bool loaded_all;
};
static struct loader the_loader;

const struct ss_component *loader_find(struct loader *loader, const char *type, const char **why)
{
	assert_ptr_equal(loader, &the_loader);
	*why = strncmp(type, "broken", 6) == 0 ? "broken.so is no ELF file" : NULL;
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(types[i]->type, type) == 0)
			return types[i];
	return NULL;
}

void loader_load_all(struct loader *loader)
{
	loader->loaded_all = true;
}

size_t loader_count(const struct loader *loader)
{
	return loader->loaded_all ? N_TYPES : 0;
}

const struct ss_component *loader_type(const struct loader *loader, size_t i, const char **file)
{
	(void)loader;
	if (file)
		*file = "file";
	return types[i];
}

/* ---- helpers --------------------------------------------------------------------------------------------
 */

struct fixture {
	struct diag diag;
	struct config *config;
	int result; /* the first that is not 0 */
};

static void load(struct fixture *f, const char *text)
{
	*f = (struct fixture){0};
	the_loader = (struct loader){0};
	splitter.outputs = split_outputs;
	diag_init(&f->diag);
	f->result = config_parse("f.json", text, strlen(text), &f->diag, &f->config);
	if (f->config) {
		int r = config_resolve(f->config, &the_loader, &f->diag);
		if (f->result == 0)
			f->result = r;
	}
}

static void done(struct fixture *f)
{
	config_free(f->config);
	diag_done(&f->diag);
}

#define PROVIDED(client)                                                                                     \
	"{\"components\": [" UDP "," DISK "], \"security\": {\"tls\": {\"client\": {" client "}}}}"
#define UDP    "{\"id\":\"udp\",\"type\":\"udp_input\"}"
#define FILTER "{\"id\":\"hot\",\"type\":\"filter\"}"
#define DISK   "{\"id\":\"disk\",\"type\":\"storage\"}"
#define SPLIT  "{\"id\":\"s\",\"type\":\"split\"}"

/* ---- good ones ------------------------------------------------------------------------------------------
 */

static void test_whole(void **state)
{
	(void)state;
	struct fixture f;
	setenv("SS_TEST_ID", "udp", 1);
	load(&f, "{\"$schema\": \"x\",\n"
		 "\"components\": [\n"
		 " {\"id\": \"${env:SS_TEST_ID}\", \"type\": \"udp_input\", \"config\": {\"port\": 9}, "
		 "\"worker\": \"w\"},\n"
		 " {\"id\": \"s\", \"type\": \"split\", \"inputs\": \"udp\"},\n"
		 " {\"id\": \"s.good\", \"type\": \"filter\", \"inputs\": [\"s.rejected\"]},\n"
		 " {\"id\": \"disk\", \"type\": \"storage\", \"config\": {\"path\": \"p\"},\n"
		 "  \"queue\": {\"events\": 10, \"overflow\": \"drop_oldest\"},\n"
		 "  \"inputs\": [\"s.good\", {\"from\": \"s.rejected\", \"queue\": {\"bytes\": \"1MiB\", "
		 "\"overflow\": \"block\"}},\n"
		 "             {\"from\": \"${env:SS_TEST_ID}\"}]}],\n"
		 "\"security\": {\"tls\": {\"client\": {\"ca_files\": [\"/<${env:SS_TEST_ID}>\", {\"file\": "
		 "\"/proc/sys/kernel/ostype\"}], \"mode\": \"toy\", \"toy\": {\"path\": {\"file\": "
		 "\"/proc/sys/kernel/ostype\"}, \"port\": 7}}}},\n"
		 "\"plugins\": {\"paths\": [\"/a\", \"/${env:SS_TEST_ID}\"]},\n"
		 "\"admin\": {\"listen\": \"[::1]:0\"},\n"
		 "\"log\": {\"level\": \"debug\", \"format\": \"json\"}}");
	if (f.result)
		diag_print(&f.diag, stderr);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.diag.n, 0);
	struct config *config = f.config;
	assert_int_equal(config->n_components, 4);
	struct config_component *c = config->components;
	assert_string_equal(c[0].id, "udp");
	assert_string_equal(c[0].type, "udp_input");
	assert_string_equal(c[0].worker, "w");
	assert_null(c[1].worker);
	assert_ptr_equal(c[0].desc, &source);
	assert_int_equal(((struct conf *)c[0].conf)->port, 9);
	assert_int_equal(((struct conf *)c[1].conf)->port, 14550);
	assert_string_equal(((struct conf *)c[3].conf)->path, "p");
	assert_int_equal(c[0].n_inputs, 0);
	assert_int_equal(c[1].n_inputs, 1);
	assert_int_equal(c[1].inputs[0].from, 0);
	assert_int_equal(c[1].inputs[0].limits.events, QUEUE_EVENTS_DEFAULT);
	assert_int_equal(c[1].inputs[0].limits.bytes, QUEUE_BYTES_DEFAULT);
	assert_int_equal(c[2].inputs[0].from, 1);
	assert_int_equal(c[2].inputs[0].port, 1);
	assert_int_equal(c[3].n_inputs, 3);
	assert_int_equal(c[3].inputs[0].from, 2); /* the component s.good, not output good of s */
	assert_int_equal(c[3].inputs[0].limits.events, 10);
	assert_int_equal(c[3].inputs[0].limits.overflow, OVERFLOW_DROP_OLDEST);
	assert_int_equal(c[3].inputs[1].from, 1);
	assert_int_equal(c[3].inputs[1].port, 1);
	assert_int_equal(c[3].inputs[1].limits.events, 10);
	assert_int_equal(c[3].inputs[1].limits.bytes, 1 << 20);
	assert_int_equal(c[3].inputs[1].limits.overflow, OVERFLOW_BLOCK);
	assert_int_equal(c[3].inputs[2].from, 0);
	assert_int_equal(config->n_plugin_paths, 2);
	assert_string_equal(config->plugin_paths[1], "/udp");
	assert_string_equal(config->admin_listen, "[::1]:0");
	assert_int_equal(config->log_level, SS_LOG_DEBUG);
	assert_true(config->log_json);
	const struct tls_role *client = &config->tls.roles[SS_TLS_CLIENT];
	assert_string_equal(client->ca_paths[0], "/<udp>");
	assert_string_equal(client->ca_paths[1], "Linux");
	assert_null(client->ca_paths[2]);
	assert_string_equal(client->mode, "toy");
	assert_ptr_equal(client->provider, &toy);
	assert_null(config->providers[SS_TLS_SERVER].id);
	c = &config->providers[SS_TLS_CLIENT];
	assert_string_equal(c->id, "tls.client");
	assert_ptr_equal(c->desc, &toy);
	assert_true(c->complete);
	assert_int_equal(c->tls_roles, 1 << SS_TLS_CLIENT);
	assert_int_equal(((struct conf *)c->conf)->port, 7);
	assert_string_equal(((struct conf *)c->conf)->path, "Linux");
	done(&f);
}

static void test_small(void **state)
{
	(void)state;
	struct fixture f;
	load(&f, "{\"components\": [" UDP "," FILTER "," DISK "], \"admin\": {\"listen\": \"off\"}}");
	assert_int_equal(f.result, 0);
	assert_int_equal(f.diag.n, 0);
	assert_null(f.config->admin_listen);
	assert_int_equal(f.config->log_level, SS_LOG_INFO);
	assert_false(f.config->log_json);
	assert_int_equal(f.config->components[1].n_inputs, 1);
	assert_int_equal(f.config->components[2].n_inputs, 1);
	assert_int_equal(f.config->components[2].inputs[0].from, 1);
	assert_null(f.config->components[2].inputs[0].node);
	done(&f);
	static const char *const addresses[] = {"127.0.0.1:9600", "localhost:0", "unix:/run/x", "[::]:65535"};
	for (size_t i = 0; i < 4; i++) {
		char text[256];
		snprintf(text, sizeof text,
			 "{\"components\": [" UDP "," DISK "], \"admin\": {\"listen\": \"%s\"}}",
			 addresses[i]);
		load(&f, text);
		assert_int_equal(f.result, 0);
		assert_string_equal(f.config->admin_listen, addresses[i]);
		done(&f);
	}
	load(&f, "{\"components\": [" UDP "," DISK "], \"admin\": {}}");
	assert_string_equal(f.config->admin_listen, "127.0.0.1:9600");
	done(&f);
}

/* ---- bad ones -------------------------------------------------------------------------------------------
 */

struct bad {
	const char *text; /* the components; or all of it if it starts with '{' or '[' */
	const char *line; /* of diag_print, the only one, with f.json: left out */
};

static const struct bad bads[] = {
	/* the document */
	{"[]", "error f.json:1:1  expected an object, got an array"},
	{"{}", "error f.json:1:1  \"components\" is missing: an array of {\"id\": ..., \"type\": ..., "
	       "\"config\": {...}}"},
	{"{\"components\": {}}", "error f.json:1:16 /components  expected an array, got an object"},
	{"{\"components\": []}", "error f.json:1:16 /components  at least one component is needed"},
	{"{\"components\": [" UDP "," DISK "], \"securty\": {}}",
	 "error f.json:1:82 /securty  unknown key \"securty\"; did you mean \"security\"?"},
	{"{\"components\": [" UDP "," DISK "], \"security\": 1}",
	 "error f.json:1:94 /security  expected an object, got 1"},
	{"{\"components\": [" UDP "," DISK
	 "], \"security\": {\"tls\": {\"client\": {\"ca_files\": [\"${env:SS_TEST_NONE}\"]}}}}",
	 "error f.json:1:127 /security/tls/client/ca_files/0  environment variable SS_TEST_NONE is not set"},
	/* providers of certificates */
	{PROVIDED("\"mode\": \"tyo\""),
	 "error f.json:1:122 /security/tls/client/mode  mode \"tyo\" needs the plugin "
	 "tyo_tls, which was not found; did you mean \"toy\"?"},
	{PROVIDED("\"mode\": \"vault\""),
	 "error f.json:1:122 /security/tls/client/mode  mode \"vault\" needs the plugin "
	 "vault_tls, which was not found; known: manual, toy"},
	{PROVIDED("\"mode\": \"well\""), "error f.json:1:122 /security/tls/client/mode  cannot load mode "
					 "\"well\": its plugin is not a provider"},
	{PROVIDED("\"mode\": \"broken\""),
	 "error f.json:1:122 /security/tls/client/mode  cannot load mode \"broken\": "
	 "broken.so is no ELF file"},
	{PROVIDED("\"mode\": \"toy\", \"toy\": {\"prot\": 1}"),
	 "error f.json:1:137 /security/tls/client/toy/prot  unknown key \"prot\"; did you mean \"port\"?"},
	{PROVIDED("\"mode\": \"toy\", \"toy\": {\"port\": 0}"),
	 "error f.json:1:145 /security/tls/client/toy/port  expected an integer from 1 to 65535, got 0"},
	{PROVIDED("\"mode\": \"toy\", \"toy\": []"),
	 "error f.json:1:136 /security/tls/client/toy  expected an object, got an array"},
	{PROVIDED("\"toy\": {\"enabled\": 1}, \"vault\": {}"),
	 "error f.json:1:137 /security/tls/client/vault  unknown key \"vault\"; known: mode, ca_files, "
	 "crl_files, crl_policy, insecure_skip_verify, min_version, cert_file, key_file, "
	 "allow_open_key_file, mtls, acme, step"},
	{"{\"components\": [" UDP ",{\"id\":\"tls.client\",\"type\":\"storage\"}], \"security\": {\"tls\": "
	 "{\"client\": {\"mode\": \"toy\"}}}}",
	 "error f.json:1:55 /components/1/id  the id \"tls.client\" is reserved for the provider of TLS "
	 "certificates"},
	{UDP ",{\"id\":\"t\",\"type\":\"toy_tls\"}," DISK,
	 "error f.json:1:66 /components/1/type  \"toy_tls\" provides TLS certificates; it is started by "
	 "\"mode\": "
	 "\"toy\" in security.tls, not listed here"},
	{"{\"components\": [" UDP "," DISK "], \"$schema\": 1}",
	 "error f.json:1:93 /$schema  expected a string, got 1"},
	{"{\"components\": [" UDP "," DISK "], \"plugins\": []}",
	 "error f.json:1:93 /plugins  expected an object, got an array"},
	{"{\"components\": [" UDP "," DISK "], \"plugins\": {\"path\": []}}",
	 "error f.json:1:94 /plugins/path  unknown key \"path\"; did you mean \"paths\"?"},
	{"{\"components\": [" UDP "," DISK "], \"plugins\": {\"paths\": \"/x\"}}",
	 "error f.json:1:103 /plugins/paths  expected an array, got \"/x\""},
	{"{\"components\": [" UDP "," DISK "], \"plugins\": {\"paths\": [1]}}",
	 "error f.json:1:104 /plugins/paths/0  expected a string, got 1"},
	{"{\"components\": [" UDP "," DISK "], \"plugins\": {\"paths\": [\"\"]}}",
	 "error f.json:1:104 /plugins/paths/0  expected a folder, got an empty string"},
	{"{\"components\": [" UDP "," DISK "], \"admin\": {\"listen\": \"9600\"}}",
	 "error f.json:1:102 /admin/listen  expected \"host:port\", \"[v6 address]:port\", \"unix:/path\" or "
	 "\"off\", got \"9600\": host and port are two"},
	{"{\"components\": [" UDP "," DISK "], \"admin\": {\"listen\": \"h:65536\"}}",
	 "error f.json:1:102 /admin/listen  expected \"host:port\", \"[v6 address]:port\", \"unix:/path\" or "
	 "\"off\", got \"h:65536\": the port is no number from 0 to 65535"},
	{"{\"components\": [" UDP "," DISK "], \"admin\": {\"listen\": \"::1:80\"}}",
	 "error f.json:1:102 /admin/listen  expected \"host:port\", \"[v6 address]:port\", \"unix:/path\" or "
	 "\"off\", got \"::1:80\": an IPv6 address stands in brackets"},
	{"{\"components\": [" UDP "," DISK "], \"admin\": \"off\"}",
	 "error f.json:1:91 /admin  expected an object, got \"off\""},
	{"{\"components\": [" UDP "," DISK "], \"log\": {\"level\": \"warning\"}}",
	 "error f.json:1:99 /log/level  expected \"error\", \"warn\", \"info\" or \"debug\", got "
	 "\"warning\""},
	{"{\"components\": [" UDP "," DISK "], \"log\": {\"format\": \"jsn\"}}",
	 "error f.json:1:100 /log/format  expected \"logfmt\" or \"json\", got \"jsn\"; did you mean "
	 "\"json\"?"},
	/* a component */
	{"1", "error f.json:1:17 /components/0  expected an object, got 1"},
	{UDP "," DISK ",\"x\"", "error f.json:1:80 /components/2  expected an object, got \"x\""},
	{"{\"type\":\"udp_input\"}," DISK, "error f.json:1:17 /components/0  \"id\" is missing"},
	{UDP ",{\"id\":\"disk\"}", "error f.json:1:49 /components/1  \"type\" is missing"},
	{"{\"id\":7,\"type\":\"udp_input\"}," DISK,
	 "error f.json:1:23 /components/0/id  expected a string, got 7"},
	{"{\"id\":\"\",\"type\":\"udp_input\"}," DISK,
	 "error f.json:1:23 /components/0/id  expected 1 to 63 letters, digits, \"_\", \"-\" or \".\", the "
	 "first not a dot, got \"\""},
	{"{\"id\":\".a\",\"type\":\"udp_input\"}," DISK,
	 "error f.json:1:23 /components/0/id  expected 1 to 63 letters, digits, \"_\", \"-\" or \".\", the "
	 "first not a dot, got \".a\""},
	{"{\"id\":\"a b\",\"type\":\"udp_input\"}," DISK,
	 "error f.json:1:23 /components/0/id  expected 1 to 63 letters, digits, \"_\", \"-\" or \".\", the "
	 "first not a dot, got \"a b\""},
	{"{\"id\":\"udp\",\"type\":\"UDP\"}," DISK, "error f.json:1:36 /components/0/type  expected 1 to 63 "
						    "lower-case letters, digits or \"_\", got \"UDP\""},
	{"{\"id\":\"udp\",\"type\":\"udp_input\",\"worker\":\"a/b\"}," DISK,
	 "error f.json:1:57 /components/0/worker  expected 1 to 63 letters, digits, \"_\", \"-\" or \".\", "
	 "the first not a dot, got \"a/b\""},
	{"{\"id\":\"udp\",\"type\":\"udp_input\",\"confg\":{}}," DISK,
	 "error f.json:1:48 /components/0/confg  unknown key \"confg\"; did you mean \"config\"?"},
	{"{\"id\":\"udp\",\"type\":\"udp_input\",\"config\":[]}," DISK,
	 "error f.json:1:57 /components/0/config  expected an object, got an array"},
	{"{\"id\":\"udp\",\"type\":\"udp_input\",\"config\":{\"prot\":1}}," DISK,
	 "error f.json:1:58 /components/0/config/prot  unknown key \"prot\"; did you mean \"port\"?"},
	{"{\"id\":\"udp\",\"type\":\"udp_input\",\"config\":{\"port\":0}}," DISK,
	 "error f.json:1:65 /components/0/config/port  expected an integer from 1 to 65535, got 0"},
	{UDP "," DISK ",{\"id\":\"udp\",\"type\":\"storage\",\"inputs\":[\"udp\"]}",
	 "error f.json:1:86 /components/2/id  duplicate id \"udp\", first at 1:23"},
	{UDP ",{\"id\":\"disk\",\"type\":\"storag\"}",
	 "error f.json:1:69 /components/1/type  unknown type \"storag\"; did you mean \"storage\"?"},
	{UDP ",{\"id\":\"disk\",\"type\":\"kafka\"}",
	 "error f.json:1:69 /components/1/type  unknown type \"kafka\"; known: any_time, filter, split, "
	 "storage, udp_input, well_tls"},
	{UDP ",{\"id\":\"disk\",\"type\":\"broken\"}",
	 "error f.json:1:69 /components/1/type  cannot load type \"broken\": broken.so is no ELF file"},
	/* queues */
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"queue\":7}",
	 "error f.json:1:84 /components/1/queue  expected an object, got 7"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"queue\":{\"evnts\":7}}",
	 "error f.json:1:85 /components/1/queue/evnts  unknown key \"evnts\"; did you mean \"events\"?"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"queue\":{\"events\":0}}",
	 "error f.json:1:94 /components/1/queue/events  expected an integer from 1 to 1000000000, got 0"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"queue\":{\"overflow\":\"drop\"}}",
	 "error f.json:1:96 /components/1/queue/overflow  expected \"block\", \"drop_newest\" or "
	 "\"drop_oldest\", got \"drop\""},
	/* inputs */
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"upd\"]}",
	 "error f.json:1:86 /components/1/inputs/0  unknown component \"upd\"; did you mean \"udp\"?"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":\"nowhere\"}",
	 "error f.json:1:85 /components/1/inputs  unknown component \"nowhere\"; known: udp, d"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":{\"from\":\"udp\"}}",
	 "error f.json:1:85 /components/1/inputs  expected an array of ids or {\"from\": id, \"queue\": "
	 "{...}}, got an object"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[7]}",
	 "error f.json:1:86 /components/1/inputs/0  expected the id of a component, got 7"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[{\"form\":\"udp\",\"from\":\"udp\"}]}",
	 "error f.json:1:87 /components/1/inputs/0/form  unknown key \"form\"; did you mean \"from\"?"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[{\"queue\":{}}]}",
	 "error f.json:1:86 /components/1/inputs/0  \"from\" is missing: the id of the component to read "
	 "from"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[{\"from\":7}]}",
	 "error f.json:1:94 /components/1/inputs/0/from  expected the id of a component, got 7"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[{\"from\":\"udp\",\"queue\":{\"bytes\":-1}}]}",
	 "error f.json:1:117 /components/1/inputs/0/queue/bytes  expected a size from 1 to 1TiB like "
	 "\"64MiB\" or 512 (units B kB MB GB TB KiB MiB GiB TiB), got -1"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"d\"]}",
	 "error f.json:1:86 /components/1/inputs/0  \"d\" reads from itself"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"udp\",\"udp\"]}",
	 "error f.json:1:92 /components/1/inputs/1  this output is listed twice, first at 1:86"},
	{UDP "," SPLIT ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"s\",\"s.good\"]}",
	 "error f.json:1:116 /components/2/inputs/1  this output is listed twice, first at 1:112"},
	{UDP "," SPLIT ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"s.rejeted\"]}",
	 "error f.json:1:112 /components/2/inputs/0  unknown output \"s.rejeted\"; did you mean "
	 "\"rejected\"?"},
	{UDP "," SPLIT ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"s.x\"]}",
	 "error f.json:1:112 /components/2/inputs/0  unknown output \"s.x\"; known: good, rejected"},
	{UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"udp.out\"]}",
	 "error f.json:1:86 /components/1/inputs/0  \"udp\" has one output, without a name: write \"udp\""},
	{UDP "," DISK ",{\"id\":\"e\",\"type\":\"storage\",\"inputs\":[\"disk\"]}",
	 "error f.json:1:117 /components/2/inputs/0  \"disk\" has no output: it is a sink (storage)"},
	{UDP ",{\"id\":\"tls\",\"type\":\"any_time\"},{\"id\":\"e\",\"type\":\"storage\",\"inputs\":[\"tls\","
	     "\"udp\"]}",
	 "error f.json:1:117 /components/2/inputs/0  \"tls\" has no output: it is a provider (any_time)"},
	{"{\"id\":\"u\",\"type\":\"udp_input\",\"inputs\":[\"udp\"]}," UDP,
	 "error f.json:1:46 /components/0/inputs  \"u\" takes no input: it is a source (udp_input); remove "
	 "\"inputs\""},
	/* cycles */
	{"{\"id\":\"a\",\"type\":\"filter\",\"inputs\":[\"b\"]},{\"id\":\"b\",\"type\":\"filter\",\"inputs\":"
	 "[\"a\"]}",
	 "error f.json:1:95 /components/1/inputs/0  the inputs form a cycle: a -> b -> a"},
	{"{\"id\":\"a\",\"type\":\"filter\",\"inputs\":[\"b\"]}," FILTER
	 ",{\"id\":\"b\",\"type\":\"filter\"}",
	 "error f.json:1:53 /components/0/inputs/0  the inputs form a cycle: a -> hot -> b -> a (a "
	 "component without \"inputs\" reads from the one before it)"},
};

static void test_bad(void **state)
{
	(void)state;
	unsetenv("SS_TEST_NONE");
	for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
		struct fixture f;
		char text[1024], *printed;
		size_t len;
		const char *whole =
			strncmp(bads[i].text, "{\"components\"", 13) == 0 || strlen(bads[i].text) == 2
				? "%s"
				: "{\"components\": [%s]}";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof text, whole, bads[i].text);
#pragma GCC diagnostic pop
		load(&f, text);
		FILE *to = open_memstream(&printed, &len);
		assert_non_null(to);
		diag_print(&f.diag, to);
		fclose(to);
		if (f.result != -EINVAL || f.diag.errors != 1 ||
		    strncmp(printed, bads[i].line, strlen(bads[i].line)) != 0 ||
		    printed[strlen(bads[i].line)] != '\n')
			fail_msg("%s\nexpected: %s\ngot: %s", text, bads[i].line, printed);
		free(printed);
		done(&f);
	}
}

static void test_warnings(void **state)
{
	(void)state;
	static const struct {
		const char *components, *pointer, *text;
	} cases[] = {
		{UDP, "/components/0", "no component reads from \"udp\": its events are discarded"},
		{DISK, "/components/0",
		 "\"disk\" gets no input: it has no \"inputs\" and no component is before it"},
		{UDP "," DISK ",{\"id\":\"e\",\"type\":\"storage\"}", "/components/2",
		 "\"e\" gets no input: it has no \"inputs\", and the component before it in the list has no "
		 "output"},
		{UDP "," DISK ",{\"id\":\"e\",\"type\":\"storage\",\"inputs\":[]}", "/components/2",
		 "\"e\" gets no input: its \"inputs\" are empty"},
		{UDP "," DISK ",{\"id\":\"u\",\"type\":\"udp_input\",\"inputs\":[]}", "/components/2",
		 "no component reads from \"u\""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fixture f;
		char text[512];
		snprintf(text, sizeof text, "{\"components\": [%s]}", cases[i].components);
		load(&f, text);
		assert_int_equal(f.result, 0);
		assert_int_equal(f.diag.n, 1);
		assert_int_equal(f.diag.warnings, 1);
		assert_string_equal(f.diag.items[0].pointer, cases[i].pointer);
		assert_memory_equal(f.diag.items[0].text, cases[i].text, strlen(cases[i].text));
		done(&f);
	}
}

static void test_all_at_once(void **state)
{
	(void)state;
	struct fixture f;
	load(&f, "{ // note\n"
		 "\"components\": [\n"
		 " {\"id\": \"udp\", \"type\": \"upd_input\", \"config\": {\"port\": 1}},\n"
		 " {\"id\": \"udp\", \"type\": \"filter\", \"inputs\": [\"x\"], \"config\": {\"port\": 1.5, "
		 "\"pth\": \"\"}},\n"
		 " {\"type\": \"storage\", \"worker\": 1, \"inputs\": [\"nobody\", \"udp\"],},\n"
		 " {\"id\": \"a\", \"type\": \"filter\", \"inputs\": [\"b\"]}, {\"id\": \"b\", \"type\": "
		 "\"filter\", \"inputs\": [\"a\", \"b\"]}],\n"
		 "\"log\": {\"levle\": 1}, \"log\": {}}\n");
	assert_int_equal(f.result, -EINVAL);
	char *printed;
	size_t len;
	FILE *to = open_memstream(&printed, &len);
	diag_print(&f.diag, to);
	fclose(to);
	assert_string_equal(
		printed,
		"error f.json:1:3  comments are not allowed in JSON\n"
		"error f.json:3:24 /components/0/type  unknown type \"upd_input\"; did you mean "
		"\"udp_input\"?\n"
		"skipped f.json:3:37 /components/0/config  not checked: the component's type is not "
		"available\n"
		"error f.json:4:9 /components/1/id  duplicate id \"udp\", first at 3:9\n"
		"error f.json:4:45 /components/1/inputs/0  unknown component \"x\"; known: udp, udp, a, b\n"
		"error f.json:4:70 /components/1/config/port  expected an integer from 1 to 65535, got 1.5; "
		"an integer has no decimal point\n"
		"error f.json:4:75 /components/1/config/pth  unknown key \"pth\"; did you mean \"path\"?\n"
		"error f.json:5:2 /components/2  \"id\" is missing\n"
		"error f.json:5:32 /components/2/worker  expected a string, got 1\n"
		"error f.json:5:46 /components/2/inputs/0  unknown component \"nobody\"; known: udp, udp, a, "
		"b\n"
		"error f.json:5:62 /components/2  trailing comma before }\n"
		"error f.json:6:91 /components/4/inputs/0  the inputs form a cycle: a -> b -> a\n"
		"error f.json:6:96 /components/4/inputs/1  \"b\" reads from itself\n"
		"error f.json:7:9 /log/levle  unknown key \"levle\"; did you mean \"level\"?\n"
		"error f.json:7:22 /log  duplicate key \"log\", first at 7:1\n");
	free(printed);
	done(&f);
}

/* Components: as many as allowed, then one too many; all of them without a known type. */
static void test_limits(void **state)
{
	(void)state;
	for (int extra = 0; extra <= 1; extra++) {
		char *text;
		size_t len;
		struct fixture f;
		FILE *to = open_memstream(&text, &len);
		fputs("{\"components\": [" UDP, to);
		for (int i = 1; i < CONFIG_MAX_COMPONENTS + extra; i++)
			fprintf(to, ",\n{\"id\":\"d%d\",\"type\":\"storage\",\"inputs\":[\"udp\"]}", i);
		fputs("]}", to);
		fclose(to);
		load(&f, text);
		assert_int_equal(f.result, extra ? -EINVAL : 0);
		if (extra) {
			assert_int_equal(f.diag.n, 1);
			assert_string_equal(f.diag.items[0].text, "more than 256 components");
			assert_int_equal(f.diag.items[0].place.line, 257);
		}
		free(text);
		done(&f);
	}
	char *text;
	size_t len;
	struct fixture f;
	FILE *to = open_memstream(&text, &len);
	fputs("{\"components\": [" UDP ",{\"id\":\"d\",\"type\":\"storage\",\"inputs\":[\"udp\"", to);
	for (int i = 0; i < CONFIG_MAX_INPUTS; i++)
		fputs(",\"udp\"", to);
	fputs("]}]}", to);
	fclose(to);
	load(&f, text);
	assert_int_equal(f.diag.errors, CONFIG_MAX_INPUTS);
	assert_string_equal(f.diag.items[0].text, "more than 256 inputs");
	free(text);
	done(&f);
}

/* A dense graph, all of it in circles: told, in bounded time and space. */
static void test_dense(void **state)
{
	(void)state;
	char *text;
	size_t len;
	struct fixture f;
	FILE *to = open_memstream(&text, &len);
	fputs("{\"components\": [", to);
	for (int i = 0; i < 64; i++) {
		fprintf(to, "%s{\"id\":\"c%d\",\"type\":\"filter\",\"inputs\":[\"c%d\"", i ? "," : "", i,
			(i + 1) % 64);
		for (int k = 0; k < 64; k++)
			if (k != i && k != (i + 1) % 64)
				fprintf(to, ",\"c%d\"", k);
		fputs("]}", to);
	}
	fputs("]}", to);
	fclose(to);
	load(&f, text);
	assert_int_equal(f.result, -EINVAL);
	assert_true(f.diag.n <= DIAG_MAX_ITEMS);
	free(text);
	done(&f);
}

static void test_component_error(void **state)
{
	(void)state;
	static const struct {
		size_t component;
		const char *pointer, *printed;
	} cases[] = {
		{0, "/port", "error f.json:2:55 /components/0/config/port  text\n"},
		{0, "", "error f.json:2:46 /components/0/config  text\n"},
		{0, "/path/x/y", "error f.json:2:66 /components/0/config/path/x/y  text\n"},
		{0, "/nothing", "error f.json:2:46 /components/0/config/nothing  text\n"},
		{1, "/port", "error f.json:3:1 /components/1/config/port  text\n"},
	};
	struct fixture f;
	load(&f, "{\"components\": [\n{\"id\": \"udp\", \"type\": \"udp_input\", \"config\": {\"port\": 9, "
		 "\"path\": \"\"}},\n" DISK "]}");
	assert_int_equal(f.result, 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *printed;
		size_t len;
		struct diag diag;
		diag_init(&diag);
		config_component_error(f.config, &f.config->components[cases[i].component], &diag,
				       cases[i].pointer, "text");
		FILE *to = open_memstream(&printed, &len);
		diag_print(&diag, to);
		fclose(to);
		assert_string_equal(printed, cases[i].printed);
		free(printed);
		diag_done(&diag);
	}
	done(&f);
}

static void test_files(void **state)
{
	(void)state;
	struct diag diag;
	struct config *config;
	diag_init(&diag);
	assert_int_equal(config_load("/", &diag, &config), -EINVAL);
	assert_null(config);
	assert_int_equal(config_load("/dev/null/x", &diag, &config), -EINVAL);
	assert_null(config);
	assert_string_equal(diag.items[0].text, "cannot read: Is a directory");
	assert_string_equal(diag.items[1].text, "cannot read: Not a directory");
	config_free(NULL);
	diag_done(&diag);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),       cmocka_unit_test(test_small),
		cmocka_unit_test(test_bad),         cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_all_at_once), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_dense),       cmocka_unit_test(test_component_error),
		cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
