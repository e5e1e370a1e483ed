/* SPDX-License-Identifier: MIT */
/*
 * fuzz_config - any bytes as a configuration: parsed, resolved against a few types of our own, and asked
 * whether the tree and the messages make sense.
 */
#include <stdlib.h>
#include <string.h>

#include "core/config/config.h"
#include "core/plugin/loader.h"

#define MUST(condition)                                                                                      \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			abort();                                                                             \
	} while (0)

struct conf {
	const char *text, *password, *json;
	int64_t number, flag, size, wait, mode;
};
static const char *const modes[] = {"block", "drop", NULL};
#define ROW(name, of, ...)                                                                                   \
	{                                                                                                    \
		.key = #name, .type = of, .offset = offsetof(struct conf, name), __VA_ARGS__                 \
	}
static const struct ss_option options[] = {
	ROW(text, SS_OPT_STRING, .flags = SS_OPT_REQUIRED),
	ROW(password, SS_OPT_STRING, .flags = SS_OPT_SECRET),
	ROW(json, SS_OPT_JSON, .default_text = "[]"),
	ROW(number, SS_OPT_INT, .min = -5, .max = 65535),
	ROW(flag, SS_OPT_BOOL, .flags = SS_OPT_DEPRECATED),
	ROW(size, SS_OPT_BYTES, .default_text = "1MiB"),
	ROW(wait, SS_OPT_DURATION, .min = 1, .max = INT64_MAX),
	ROW(mode, SS_OPT_ENUM, .choices = modes),
};
static const char *const outputs[] = {"a", "b.c", NULL};
#define TYPE(name, of, ...)                                                                                  \
	{                                                                                                    \
		.struct_size = sizeof(struct ss_component), .kind = of, .type = name, .options = options,    \
		.option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],           \
		.conf_size = sizeof(struct conf), __VA_ARGS__                                                \
	}
static const struct ss_component types[] = {
	TYPE("in", SS_KIND_SOURCE, .outputs = NULL),    TYPE("mid", SS_KIND_PROCESSOR, .outputs = NULL),
	TYPE("out", SS_KIND_SINK, .outputs = NULL),     TYPE("split", SS_KIND_PROCESSOR, .outputs = outputs),
	TYPE("tls", SS_KIND_PROVIDER, .outputs = NULL), TYPE("toy_tls", SS_KIND_PROVIDER, .outputs = NULL),
};
#define N_TYPES (sizeof types / sizeof types[0])

struct loader {
	int unused;
};

const struct ss_component *loader_find(struct loader *loader, const char *type, const char **why)
{
	(void)loader;
	*why = strcmp(type, "broken") == 0 ? "it is broken" : NULL;
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(types[i].type, type) == 0)
			return &types[i];
	return NULL;
}

void loader_load_all(struct loader *loader)
{
	(void)loader;
}

size_t loader_count(const struct loader *loader)
{
	(void)loader;
	return N_TYPES;
}

const struct ss_component *loader_type(const struct loader *loader, size_t i, const char **file)
{
	(void)loader;
	(void)file;
	return &types[i];
}

/* Each node of a good document is where its pointer leads, and inside its parent's text. */
static void check_node(struct jnode *root, struct jnode *node)
{
	bool whole;
	char *pointer = jnode_pointer(node);
	MUST(pointer);
	MUST(jnode_at(root, pointer, &whole) == node && whole);
	free(pointer);
	if (node->parent)
		MUST(node->text > node->parent->text &&
		     node->text + node->text_len < node->parent->text + node->parent->text_len);
	size_t n = 0;
	for (struct jnode *child = node->child; child; child = child->next, n++)
		check_node(root, child);
	MUST(n == node->n);
}

static void check_places(const struct diag *diag, const uint8_t *data, size_t size)
{
	size_t lines = 1;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	for (size_t i = 0; i < diag->n; i++) {
		MUST(diag->items[i].place.line <= lines);
		MUST(diag->items[i].place.column <= size + 1);
	}
}

static void check_graph(const struct config *config)
{
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		MUST(c->id && c->type && c->desc && c->conf);
		for (size_t k = 0; k < c->n_inputs; k++)
			MUST(c->inputs[k].from < config->n_components && c->inputs[k].from != i &&
			     c->inputs[k].port < 2 && c->inputs[k].limits.events &&
			     c->inputs[k].limits.bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loader loader;
	struct diag diag;
	struct config *config;
	char *text = NULL;
	size_t len;

	diag_init(&diag);
	int r = config_parse("fuzz.json", (const char *)data, size, &diag, &config);
	MUST((r == 0) == (diag.errors == 0));
	MUST(r != 0 || config);
	if (config) {
		if (r == 0 && size < 4096)
			check_node(config->doc->root, config->doc->root);
		int resolved = config_resolve(config, &loader, &diag);
		if (r == 0 && resolved == 0)
			check_graph(config);
		if (config->n_components)
			config_component_error(config, &config->components[0], &diag, "/json/0/~1", "x");
	}
	check_places(&diag, data, size);
	FILE *to = open_memstream(&text, &len);
	if (to) {
		diag_print(&diag, to);
		fclose(to);
	}
	free(text);
	config_free(config);
	diag_done(&diag);
	return 0;
}
