/* SPDX-License-Identifier: MIT */
/* graph - see graph.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/config.h"
#include "core/cli/print_graph.h"
#include "core/cli/table.h"
#include "core/flow/placement.h"
#include <semstreams/base/units.h>

static const char *const format_names[] = {"text", "dot", "mermaid"};
static const char *const overflow_names[] = {"block", "drop_newest", "drop_oldest"};

int graph_format_parse(const char *name)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(name, format_names[i]) == 0)
			return i;
	return -EINVAL;
}

/* Name of the output an edge starts from, "" if there is only one. */
static const char *output_name(const struct config *c, const struct config_input *in)
{
	const struct ss_component *desc = c->components[in->from].desc;
	const char *const *names = desc ? desc->outputs : NULL;

	if (!names || !names[0] || !names[1])
		return "";
	for (uint32_t i = 0; names[i]; i++)
		if (i == in->port)
			return names[i];
	return "";
}

/* "65536 events<br>64MiB<br>block", the output's name before it where there are several. */
static void print_limits(const struct config *c, const struct config_input *in, const char *separator,
			 FILE *to)
{
	char bytes[32];
	const char *output = output_name(c, in);

	fprintf(to, "%s%s%llu events%s%s%s%s", output, *output ? separator : "",
		(unsigned long long)in->limits.events, separator,
		ss_format_size((int64_t)in->limits.bytes, bytes, sizeof bytes), separator,
		overflow_names[in->limits.overflow]);
}

/* ---- text: a tree below each component that nothing feeds -----------------------------------------------
 */

struct tree {
	const struct config *config;
	struct table table;
	size_t *n_consumers; /* by component */
	bool *shown;
	unsigned depth;
};

static int tree_init(struct tree *t, const struct config *c)
{
	*t = (struct tree){.config = c, .table = {.columns = 2}};
	t->n_consumers = calloc(c->n_components + 1, sizeof *t->n_consumers);
	t->shown = calloc(c->n_components + 1, sizeof *t->shown);
	if (!t->n_consumers || !t->shown)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_components; i++)
		for (size_t k = 0; k < c->components[i].n_inputs; k++)
			t->n_consumers[c->components[i].inputs[k].from]++;
	return 0;
}

static void tree_done(struct tree *t)
{
	table_done(&t->table);
	free(t->n_consumers);
	free(t->shown);
}

/* Left column: the arrow that leads to a component, and the component. */
static void tree_node(struct tree *t, size_t at, const char *arrow)
{
	const struct config_component *c = &t->config->components[at];

	table_add(&t->table, "%*s%s%s (%s, worker %s)", (int)(4 * t->depth), "", arrow, c->id, c->type,
		  placement_name(t->config, at));
}

static void tree_below(struct tree *t, size_t at);

static void tree_edge(struct tree *t, size_t at, const struct config_input *in)
{
	char *limits = NULL;
	size_t size;
	FILE *text = open_memstream(&limits, &size);
	bool again = t->shown[at] && t->n_consumers[at] > 0;

	tree_node(t, at, "-> ");
	if (text) {
		print_limits(t->config, in, ", ", text);
		fclose(text);
	}
	table_add(&t->table, "%s%s", limits ? limits : "", again ? " (goes on above)" : "");
	free(limits);
	if (!again)
		tree_below(t, at);
}

static void tree_below(struct tree *t, size_t at)
{
	const struct config *c = t->config;

	t->shown[at] = true;
	t->depth++;
	for (size_t i = 0; i < c->n_components; i++)
		for (size_t k = 0; k < c->components[i].n_inputs; k++)
			if (c->components[i].inputs[k].from == at)
				tree_edge(t, i, &c->components[i].inputs[k]);
	t->depth--;
}

static int print_text(const struct config *c, FILE *to)
{
	struct tree t;

	int rc = tree_init(&t, c);
	for (size_t i = 0; rc == 0 && i < c->n_components; i++) {
		if (c->components[i].n_inputs > 0)
			continue;
		tree_node(&t, i, "");
		table_add(&t.table, "%s", t.n_consumers[i] ? "" : "(not connected)");
		tree_below(&t, i);
	}
	table_print(&t.table, 0, to);
	tree_done(&t);
	return rc;
}

/* ---- dot and mermaid: components are n0, n1, ... and their ids only labels ------------------------------
 */

static void put_dot(const char *s, FILE *to)
{
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', to);
		fputc((unsigned char)*s < ' ' ? ' ' : *s, to);
	}
}

static void put_mermaid(const char *s, FILE *to)
{
	for (; *s; s++) {
		if (strchr("\"#<>&;`\\|[]{}()", *s))
			fprintf(to, "#%d;", *s);
		else
			fputc((unsigned char)*s < ' ' ? ' ' : *s, to);
	}
}

static void dot_node(const struct config *c, size_t i, FILE *to)
{
	const struct config_component *component = &c->components[i];

	fprintf(to, "  n%zu [label=\"", i);
	put_dot(component->id, to);
	fputs("\\n", to);
	put_dot(component->type, to);
	fputs("\"];\n", to);
}

static void dot_edge(const struct config *c, size_t i, const struct config_input *in, FILE *to)
{
	fprintf(to, "  n%zu -> n%zu [label=\"", in->from, i);
	print_limits(c, in, "\\n", to);
	fputs("\"];\n", to);
}

static void mermaid_node(const struct config *c, size_t i, FILE *to)
{
	const struct config_component *component = &c->components[i];

	fprintf(to, "  n%zu[\"", i);
	put_mermaid(component->id, to);
	fputs("<br/>", to);
	put_mermaid(component->type, to);
	fputs("\"]\n", to);
}

static void mermaid_edge(const struct config *c, size_t i, const struct config_input *in, FILE *to)
{
	fprintf(to, "  n%zu -->|\"", in->from);
	print_limits(c, in, "<br/>", to);
	fprintf(to, "\"| n%zu\n", i);
}

static void print_all(const struct config *c, FILE *to, void (*node)(const struct config *, size_t, FILE *),
		      void (*edge)(const struct config *, size_t, const struct config_input *, FILE *))
{
	for (size_t i = 0; i < c->n_components; i++)
		node(c, i, to);
	for (size_t i = 0; i < c->n_components; i++)
		for (size_t k = 0; k < c->components[i].n_inputs; k++)
			edge(c, i, &c->components[i].inputs[k], to);
}

int graph_print(const struct config *c, enum graph_format format, FILE *to)
{
	switch (format) {
	case GRAPH_TEXT:
		return print_text(c, to);
	case GRAPH_DOT:
		fputs("digraph semstreams {\n  rankdir=LR;\n  node [shape=box];\n", to);
		print_all(c, to, dot_node, dot_edge);
		fputs("}\n", to);
		return 0;
	case GRAPH_MERMAID:
		fputs("flowchart LR\n", to);
		print_all(c, to, mermaid_node, mermaid_edge);
		return 0;
	}
	return -EINVAL;
}
