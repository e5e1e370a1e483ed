/* SPDX-License-Identifier: MIT */
/*
 * wiring - which component reads from which: "inputs", list order, cycles, loose ends.
 * Control thread only.
 */
#include "core/config/wiring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/config/expand.h"
#include "core/config/options.h"
#include "core/plugin/descriptor.h"

/* ---- queue limits ---------------------------------------------------------------------------------------
 */

struct queue_conf {
	int64_t events, bytes, overflow;
};
static const char *const overflow_names[] = {
	[OVERFLOW_BLOCK] = "block",
	[OVERFLOW_DROP_NEWEST] = "drop_newest",
	[OVERFLOW_DROP_OLDEST] = "drop_oldest",
	NULL,
};
static const struct ss_option queue_options[] = {
	{.key = "events",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct queue_conf, events),
	 .min = 1,
	 .max = 1000000000},
	{.key = "bytes",
	 .type = SS_OPT_BYTES,
	 .offset = offsetof(struct queue_conf, bytes),
	 .min = 1,
	 .max = INT64_C(1) << 40},
	{.key = "overflow",
	 .type = SS_OPT_ENUM,
	 .offset = offsetof(struct queue_conf, overflow),
	 .choices = overflow_names},
};
static const struct option_table queue_table = OPTION_TABLE(queue_options, struct queue_conf);

void wiring_read_limits(const struct config *config, const struct jnode *queue, struct diag *diag,
			struct queue_limits *limits)
{
	struct options options;
	if (options_fill(&queue_table, config->doc, queue, queue, diag, &options) == 0) {
		const struct queue_conf *conf = options.conf;
		if (jnode_get(queue, "events"))
			limits->events = (uint64_t)conf->events;
		if (jnode_get(queue, "bytes"))
			limits->bytes = (uint64_t)conf->bytes;
		if (jnode_get(queue, "overflow"))
			limits->overflow = (enum overflow)conf->overflow;
	}
	options_done(&options);
}

/* For messages: a component without a valid id has been reported, but may still be looked at. */
static const char *id_of(const struct config_component *c)
{
	return c->id ? c->id : "?";
}

/* ---- inputs by id ---------------------------------------------------------------------------------------
 */

/* The component whose id is the first len bytes of id; n_components if there is none. */
static size_t find(const struct config *config, const char *id, size_t len)
{
	size_t i = 0;
	for (; i < config->n_components; i++) {
		const char *other = config->components[i].id;
		if (other && strlen(other) == len && memcmp(other, id, len) == 0)
			break;
	}
	return i;
}

/* "a.b" is the component a.b if there is one, else output b of component a. */
static size_t find_source(const struct config *config, const char *name)
{
	size_t len = strlen(name), i;
	for (;;) {
		i = find(config, name, len);
		const char *dot = i == config->n_components ? memrchr(name, '.', len) : NULL;
		if (!dot)
			return i;
		len = (size_t)(dot - name);
	}
}

/* The node that holds the name of the component read from. */
static struct jnode *name_node(const struct config_input *input)
{
	return input->node->type == J_OBJECT ? jnode_get(input->node, "from") : input->node;
}

/* The name of the output that is asked for; NULL: just the component. */
static const char *port_name(const struct config *config, const struct config_input *input)
{
	const char *name = name_node(input)->string;
	size_t id = strlen(config->components[input->from].id);
	return name[id] ? name + id + 1 : NULL;
}

static void report_unknown_id(const struct config *config, const struct jnode *node, struct diag *diag)
{
	const char *ids[CONFIG_MAX_COMPONENTS];
	size_t n = 0;
	for (size_t i = 0; i < config->n_components; i++)
		if (config->components[i].id)
			ids[n++] = config->components[i].id;
	jdoc_report_unknown(config->doc, diag, node, J_VALUE, "component", node->string, ids, n);
}

static bool expand_name(const struct config *config, struct jnode *node, struct diag *diag)
{
	char shown[JSHOWN_SIZE];
	if (expand_is_text(node))
		return expand_tree(config->doc, node, diag) == 0;
	jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE, "expected the id of a component, got %s",
		    jnode_shown(node, shown));
	return false;
}

/* The members of {"from": ..., "queue": ...}; its "from", or NULL. */
static struct jnode *read_object(const struct config *config, struct jnode *node, struct diag *diag,
				 struct queue_limits *limits)
{
	static const char *const keys[] = {"from", "queue"};
	for (struct jnode *child = node->child; child; child = child->next)
		if (strcmp(child->name, "queue") == 0)
			wiring_read_limits(config, child, diag, limits);
		else if (strcmp(child->name, "from") != 0)
			jdoc_report_unknown(config->doc, diag, child, J_NAME, "key", child->name, keys, 2);
	struct jnode *from = jnode_get(node, "from");
	if (!from)
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE,
			    "\"from\" is missing: the id of the component to read from");
	return from;
}

static void read_input(struct config *config, size_t reader, struct jnode *node, struct diag *diag)
{
	struct config_component *c = &config->components[reader];
	struct config_input input = {.node = node, .limits = c->limits};
	struct jnode *name = node;

	if (node->type == J_OBJECT && !expand_is_text(node))
		name = read_object(config, node, diag, &input.limits);
	if (!name || !expand_name(config, name, diag))
		return;
	input.from = find_source(config, name->string);
	if (input.from == config->n_components)
		report_unknown_id(config, name, diag);
	else if (input.from == reader)
		jdoc_report(config->doc, diag, DIAG_ERROR, name, J_VALUE, "\"%s\" reads from itself", c->id);
	else
		c->inputs[c->n_inputs++] = input;
}

static int read_inputs(struct config *config, size_t reader, struct diag *diag)
{
	struct config_component *c = &config->components[reader];
	struct jnode *node = jnode_get(c->node, "inputs");
	char shown[JSHOWN_SIZE];

	/* One more than written down: list order may add an input. */
	size_t n = !node || node->type != J_ARRAY ? 1
		   : node->n < CONFIG_MAX_INPUTS  ? node->n + 1
						  : CONFIG_MAX_INPUTS;
	c->inputs = calloc(n, sizeof *c->inputs);
	if (!c->inputs)
		return -ENOMEM;
	if (!node)
		return 0;
	if (expand_is_text(node)) {
		read_input(config, reader, node, diag);
		return 0;
	}
	if (node->type != J_ARRAY) {
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE,
			    "expected an array of ids or {\"from\": id, \"queue\": {...}}, got %s",
			    jnode_shown(node, shown));
		return 0;
	}
	size_t i = 0;
	for (struct jnode *child = node->child; child; child = child->next) {
		if (i++ == CONFIG_MAX_INPUTS) {
			jdoc_report(config->doc, diag, DIAG_ERROR, child, J_VALUE, "more than %d inputs",
				    CONFIG_MAX_INPUTS);
			break;
		}
		read_input(config, reader, child, diag);
	}
	return 0;
}

/* ---- cycles ---------------------------------------------------------------------------------------------
 */

struct walk {
	const struct config *config;
	struct diag *diag;
	bool implied_only; /* report those only that list order closes; the others are known */
	struct step {
		size_t component, input; /* and which of its inputs we follow */
	} path[CONFIG_MAX_COMPONENTS];
	size_t depth;
	enum { NEW, ON_PATH, DONE } state[CONFIG_MAX_COMPONENTS];
};

/* The last step of the path leads back to step `first`. */
static void report_cycle(struct walk *w, size_t first)
{
	const struct config_component *components = w->config->components;
	const struct config_input *closing = NULL;
	bool implied = false;
	char *text = NULL;
	size_t len;

	for (size_t i = first; i < w->depth; i++) {
		const struct config_input *input = &components[w->path[i].component].inputs[w->path[i].input];
		implied |= !input->node;
		if (input->node)
			closing = input;
	}
	if (w->implied_only && !implied)
		return;
	FILE *to = open_memstream(&text, &len);
	if (!to)
		return;
	/* We walked against the data; the last on the path feeds the one before it. */
	fputs(id_of(&components[w->path[first].component]), to);
	for (size_t i = w->depth; i-- > first;)
		fprintf(to, " -> %s", id_of(&components[w->path[i].component]));
	fclose(to);
	jdoc_report(w->config->doc, w->diag, DIAG_ERROR,
		    closing ? name_node(closing) : components[w->path[first].component].node, J_VALUE,
		    "the inputs form a cycle: %s%s", text,
		    implied ? " (a component without \"inputs\" reads from the one before it)" : "");
	free(text);
}

static void visit(struct walk *w, size_t component)
{
	const struct config_component *c = &w->config->components[component];
	w->state[component] = ON_PATH;
	struct step *step = &w->path[w->depth++];
	for (size_t i = 0; i < c->n_inputs; i++) {
		size_t from = c->inputs[i].from;
		*step = (struct step){component, i};
		if (w->state[from] == NEW) {
			visit(w, from);
		} else if (w->state[from] == ON_PATH) {
			size_t first = 0;
			while (w->path[first].component != from)
				first++;
			report_cycle(w, first);
		}
	}
	w->depth--;
	w->state[component] = DONE;
}

static int check_cycles(const struct config *config, struct diag *diag, bool implied_only)
{
	struct walk *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->config = config;
	w->diag = diag;
	w->implied_only = implied_only;
	for (size_t i = 0; i < config->n_components; i++)
		if (w->state[i] == NEW)
			visit(w, i);
	free(w);
	return 0;
}

int wiring_read(struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++) {
		int rc = read_inputs(config, i, diag);
		if (rc)
			return rc;
	}
	return check_cycles(config, diag, false);
}

/* ---- kinds ----------------------------------------------------------------------------------------------
 */

static bool takes_input(const struct config_component *c)
{
	return c->desc && (c->desc->kind == SS_KIND_PROCESSOR || c->desc->kind == SS_KIND_SINK);
}

static bool has_output(const struct config_component *c)
{
	return c->desc && (c->desc->kind == SS_KIND_PROCESSOR || c->desc->kind == SS_KIND_SOURCE);
}

static size_t count_outputs(const struct ss_component *desc)
{
	size_t n = 0;
	while (desc->outputs && desc->outputs[n])
		n++;
	return n;
}

/* Set the port of an input whose source is known; false: reported. */
static bool check_port(const struct config *config, struct config_input *input, struct diag *diag)
{
	const struct config_component *from = &config->components[input->from];
	const char *port = port_name(config, input);
	size_t n = count_outputs(from->desc);

	if (!has_output(from)) {
		jdoc_report(config->doc, diag, DIAG_ERROR, name_node(input), J_VALUE,
			    "\"%s\" has no output: it is a %s (%s)", from->id, descriptor_kind(from->desc),
			    from->type);
		return false;
	}
	if (!port)
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(from->desc->outputs[i], port) == 0) {
			input->port = i;
			return true;
		}
	if (n == 0)
		jdoc_report(config->doc, diag, DIAG_ERROR, name_node(input), J_VALUE,
			    "\"%s\" has one output, without a name: write \"%s\"", from->id, from->id);
	else
		jdoc_report_unknown(config->doc, diag, name_node(input), J_VALUE, "output", port,
				    from->desc->outputs, n);
	return false;
}

/* Do both read the same output?  Unknown types are compared by what is written. */
static bool same_output(const struct config *config, const struct config_input *a,
			const struct config_input *b)
{
	if (a->from != b->from)
		return false;
	if (config->components[a->from].desc)
		return a->port == b->port;
	return strcmp(name_node(a)->string, name_node(b)->string) == 0;
}

static void check_inputs(const struct config *config, struct config_component *c, struct diag *diag)
{
	if (c->n_inputs && c->desc && !takes_input(c)) {
		jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(c->node, "inputs"), J_NAME,
			    "\"%s\" takes no input: it is a %s (%s); remove \"inputs\"", id_of(c),
			    descriptor_kind(c->desc), c->type);
		return;
	}
	size_t kept = 0;
	for (size_t i = 0; i < c->n_inputs; i++) {
		struct config_input input = c->inputs[i];
		size_t twin = 0;
		if (config->components[input.from].desc && !check_port(config, &input, diag))
			continue;
		while (twin < kept && !same_output(config, &c->inputs[twin], &input))
			twin++;
		if (twin < kept) {
			const struct jnode *first = name_node(&c->inputs[twin]);
			jdoc_report(config->doc, diag, DIAG_ERROR, name_node(&input), J_VALUE,
				    "this output is listed twice, first at %u:%u", first->place.line,
				    first->place.column);
			continue;
		}
		c->inputs[kept++] = input;
	}
	c->n_inputs = kept;
}

/* A component that takes input and says nothing about it reads from the one before it. */
static void add_input(struct config *config, size_t i, struct diag *diag)
{
	struct config_component *c = &config->components[i];
	const struct config_component *before = i ? c - 1 : NULL;
	const struct jnode *node = jnode_get(c->node, "inputs");

	if (!takes_input(c) || (node && (node->type != J_ARRAY || node->n)))
		return;
	if (!node && before && !before->desc)
		return; /* nobody knows */
	if (!node && before && has_output(before)) {
		c->inputs[c->n_inputs++] = (struct config_input){.from = i - 1, .limits = c->limits};
		return;
	}
	jdoc_report(config->doc, diag, DIAG_WARN, c->node, J_VALUE, "\"%s\" gets no input: %s", id_of(c),
		    node     ? "its \"inputs\" are empty"
		    : before ? "it has no \"inputs\", and the component before it in the list has no output"
			     : "it has no \"inputs\" and no component is before it");
}

static void warn_unread(const struct config *config, struct diag *diag)
{
	bool read[CONFIG_MAX_COMPONENTS] = {false};
	for (size_t i = 0; i < config->n_components; i++)
		for (size_t k = 0; k < config->components[i].n_inputs; k++)
			read[config->components[i].inputs[k].from] = true;
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		if (has_output(c) && !read[i])
			jdoc_report(config->doc, diag, DIAG_WARN, c->node, J_VALUE,
				    "no component reads from \"%s\": its events are discarded", c->id);
	}
}

int wiring_complete(struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++)
		check_inputs(config, &config->components[i], diag);
	for (size_t i = 0; i < config->n_components; i++)
		add_input(config, i, diag);
	int rc = check_cycles(config, diag, true);
	if (rc == 0 && diag->errors == 0) /* a wrong input leaves a loose end that is no news */
		warn_unread(config, diag);
	return rc;
}

/* ---- hints ---- */

static bool reads(const struct config *config, size_t from, uint32_t port)
{
	bool found = false;

	for (size_t i = 0; i < config->n_components; i++)
		for (size_t k = 0; k < config->components[i].n_inputs; k++)
			found |= config->components[i].inputs[k].from == from &&
				 config->components[i].inputs[k].port == port;
	return found;
}

/* Does the type have an option for what it refuses, and is none of these set? */
static bool says_nothing(const struct config_component *c)
{
	bool has = false, set = false;

	for (uint32_t i = 0; i < c->desc->n_options; i++) {
		const struct ss_option *o = &c->desc->options[i];
		has |= (o->flags & SS_OPT_REFUSALS) != 0;
		set |= o->flags & SS_OPT_REFUSALS && c->options && jnode_get(c->options, o->key);
	}
	return has && !set;
}

void wiring_hints(const struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		for (uint32_t port = 0; c->desc && port < count_outputs(c->desc); port++)
			if (strcmp(c->desc->outputs[port], "error") == 0 && says_nothing(c) &&
			    !reads(config, i, port))
				jdoc_report(
					config->doc, diag, DIAG_HINT, c->node, J_VALUE,
					"events that \"%s\" refuses are dropped and counted: have a "
					"component "
					"read \"%s.error\", or say with \"errors\": \"count\", \"drop\" or "
					"\"degrade\" that this is meant",
					c->id, c->id);
	}
}
