/* SPDX-License-Identifier: MIT */
#include "core/trial/script.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/units.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))

struct reader {
	struct script *script;
	struct diag *diag;
	bool no_memory;
};

#define WRONG(r, node, ...) jdoc_report((r)->script->doc, (r)->diag, DIAG_ERROR, node, J_VALUE, __VA_ARGS__)

/* ---- members ---- */

static void check_members(struct reader *r, const struct jnode *object, const char *const *known, size_t n)
{
	for (const struct jnode *m = object->child; m; m = m->next) {
		size_t i = 0;
		while (i < n && strcmp(known[i], m->name) != 0)
			i++;
		if (i == n)
			jdoc_report_unknown(r->script->doc, r->diag, m, J_NAME, "key", m->name, known, n);
	}
}

static bool is_type(struct reader *r, const struct jnode *node, enum jtype type)
{
	if (node->type == type)
		return true;
	WRONG(r, node, "must be %s, not %s",
	      type == J_STRING  ? "a string"
	      : type == J_ARRAY ? "an array"
				: "an object",
	      jtype_name(node->type));
	return false;
}

/* NULL: absent, or not a string, which is reported. */
static const char *text_of(struct reader *r, const struct jnode *object, const char *key)
{
	const struct jnode *node = jnode_get(object, key);

	return node && is_type(r, node, J_STRING) ? node->string : NULL;
}

/* ---- what is sent or expected ---- */

static bool is_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	return s[n] == '\0' && n % 2 == 0;
}

static void check_item(struct reader *r, const struct step *step, const struct jnode *item)
{
	if (step->form == FORM_JSON || !is_type(r, item, J_STRING))
		return;
	if (step->form == FORM_HEX && !is_hex(item->string))
		WRONG(r, item, "must be an even number of hexadecimal digits");
}

/* One value, or with `many` the elements of a list. */
static void read_items(struct reader *r, struct step *step, const struct jnode *node, enum step_form form,
		       bool many)
{
	step->form = form;
	if (many && !is_type(r, node, J_ARRAY))
		return;
	size_t n = many ? node->n : 1, i = 0;
	step->items = calloc(n + 1, sizeof(*step->items));
	if (!step->items) {
		r->no_memory = true;
		return;
	}
	for (const struct jnode *item = many ? node->child : node; i < n; item = item->next)
		step->items[i++] = item;
	step->n_items = n;
	for (i = 0; i < n; i++)
		check_item(r, step, step->items[i]);
}

static const struct form {
	const char *one, *many;
	enum step_form form;
} forms[] = {
	{"data", "events", FORM_JSON},
	{"text", "texts", FORM_TEXT},
	{"hex", "hexes", FORM_HEX},
};

static void read_content(struct reader *r, struct step *step)
{
	size_t found = 0;

	for (size_t i = 0; i < 2 * N(forms); i++) {
		bool many = i % 2;
		const struct jnode *node = jnode_get(step->node, many ? forms[i / 2].many : forms[i / 2].one);
		if (!node)
			continue;
		if (found++)
			WRONG(r, node,
			      "a step has one of \"data\", \"events\", \"text\", \"texts\", \"hex\" and "
			      "\"hexes\"");
		else
			read_items(r, step, node, forms[i / 2].form, many);
	}
	if (!found)
		WRONG(r, step->node,
		      "needs \"events\", a list; or \"data\", \"text\", \"texts\", \"hex\" or \"hexes\"");
}

/* ---- steps ---- */

static void read_send(struct reader *r, struct step *step)
{
	step->from = text_of(r, step->node, "from");
	step->peer = text_of(r, step->node, "peer");
	read_content(r, step);
}

static void read_wait(struct reader *r, struct step *step)
{
	int64_t ns;

	if (!step->target)
		return;
	if (ss_parse_duration(step->target, &ns) != 0 || ns <= 0)
		WRONG(r, jnode_get(step->node, "wait"),
		      "must be a duration such as \"500ms\", \"10s\" or \"1h\"");
	else
		step->ns = (uint64_t)ns;
}

static void read_match(struct reader *r, struct step *step)
{
	const char *match = text_of(r, step->node, "match");

	step->subset = match && strcmp(match, "subset") == 0;
	if (match && !step->subset && strcmp(match, "exact") != 0)
		WRONG(r, jnode_get(step->node, "match"), "must be \"exact\" or \"subset\"");
}

static void read_expect(struct reader *r, struct step *step)
{
	read_content(r, step);
	read_match(r, step);
	step->attributes = jnode_get(step->node, "attributes");
	if (!step->attributes || !is_type(r, step->attributes, J_ARRAY))
		return;
	if (step->attributes->n != step->n_items)
		WRONG(r, step->attributes, "needs one object for each expected event (%zu), and has %zu",
		      step->n_items, step->attributes->n);
	for (const struct jnode *a = step->attributes->child; a; a = a->next)
		is_type(r, a, J_OBJECT);
}

static void read_file(struct reader *r, struct step *step)
{
	read_content(r, step);
	read_match(r, step);
}

static void read_stop(struct reader *r, struct step *step)
{
	(void)r;
	(void)step;
}

#define CONTENT "data", "events", "text", "texts", "hex", "hexes"

static const struct verb {
	const char *name;
	enum jtype type;
	void (*read)(struct reader *, struct step *);
	const char *const *keys;
	size_t n_keys;
} verbs[] = {
	[STEP_SEND] = {"send", J_STRING, read_send, (const char *const[]){"send", "from", "peer", CONTENT},
		       9},
	[STEP_WAIT] = {"wait", J_STRING, read_wait, (const char *const[]){"wait"}, 1},
	[STEP_EXPECT] = {"expect", J_STRING, read_expect,
			 (const char *const[]){"expect", "attributes", "match", CONTENT}, 9},
	[STEP_FILE] = {"file", J_STRING, read_file, (const char *const[]){"file", "match", CONTENT}, 8},
	[STEP_STOP] = {"stop", J_TRUE, read_stop, (const char *const[]){"stop"}, 1},
};

static void read_step(struct reader *r, const struct jnode *node, struct step *step)
{
	*step = (struct step){.node = node};
	if (!is_type(r, node, J_OBJECT))
		return;
	for (size_t i = 0; i < N(verbs); i++) {
		const struct jnode *value = jnode_get(node, verbs[i].name);
		if (!value)
			continue;
		step->kind = (enum step_kind)i;
		step->target = value->type == J_STRING ? value->string : NULL;
		if (verbs[i].type == J_STRING)
			is_type(r, value, J_STRING);
		else if (value->type != J_TRUE)
			WRONG(r, value, "must be true");
		check_members(r, node, verbs[i].keys, verbs[i].n_keys);
		verbs[i].read(r, step);
		return;
	}
	WRONG(r, node, "a step has one of \"send\", \"wait\", \"expect\", \"file\" and \"stop\"");
}

/* ---- cases ---- */

#define DEFAULT_TIME "2026-01-01T00:00:00Z"

/* RFC 3339, UTC, without fractions. */
static int parse_time(const char *text, uint64_t *ns)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	time_t t = end && !*end ? timegm(&tm) : -1;

	if (t < 0)
		return -EINVAL;
	*ns = (uint64_t)t * 1000000000u;
	return 0;
}

static void read_case(struct reader *r, const struct jnode *node, struct script_case *c)
{
	static const char *const keys[] = {"name", "time", "steps"};
	size_t i = 0;

	if (!is_type(r, node, J_OBJECT))
		return;
	check_members(r, node, keys, N(keys));
	const struct jnode *steps = jnode_get(node, "steps");
	const char *at = text_of(r, node, "time");
	c->name = text_of(r, node, "name");
	if (!c->name && !jnode_get(node, "name"))
		WRONG(r, node, "a case needs a \"name\"");
	if (parse_time(at ? at : DEFAULT_TIME, &c->at_ns) < 0)
		WRONG(r, jnode_get(node, "time"), "must be a time such as \"%s\"", DEFAULT_TIME);
	if (!steps)
		WRONG(r, node, "a case needs \"steps\"");
	if (!steps || !is_type(r, steps, J_ARRAY))
		return;
	c->steps = calloc(steps->n + 1, sizeof *c->steps);
	r->no_memory |= !c->steps;
	c->n_steps = c->steps ? steps->n : 0;
	for (const struct jnode *s = steps->child; s && i < c->n_steps; s = s->next)
		read_step(r, s, &c->steps[i++]);
}

static void read_cases(struct reader *r, const struct jnode *cases)
{
	struct script *s = r->script;
	size_t i = 0;

	if (!is_type(r, cases, J_ARRAY))
		return;
	s->cases = calloc(cases->n + 1, sizeof *s->cases);
	r->no_memory |= !s->cases;
	s->n_cases = s->cases ? cases->n : 0;
	for (const struct jnode *c = cases->child; c && i < s->n_cases; c = c->next)
		read_case(r, c, &s->cases[i++]);
	if (cases->n == 0)
		WRONG(r, cases, "needs at least one case");
}

static void read_script(struct reader *r)
{
	static const char *const keys[] = {"$schema", "config", "set", "cases"};
	const struct jnode *root = r->script->doc->root, *cases;

	if (!is_type(r, root, J_OBJECT))
		return;
	check_members(r, root, keys, N(keys));
	r->script->config = jnode_get(root, "config");
	r->script->set = jnode_get(root, "set");
	if (!r->script->config)
		WRONG(r, root, "needs \"config\": the name of a configuration file, or a configuration");
	else if (r->script->config->type != J_OBJECT)
		is_type(r, r->script->config, J_STRING);
	if (r->script->set)
		is_type(r, r->script->set, J_OBJECT);
	cases = jnode_get(root, "cases");
	if (cases)
		read_cases(r, cases);
	else
		WRONG(r, root, "needs \"cases\"");
}

static int finish(struct script *s, struct diag *diag, struct script **out)
{
	struct reader r = {.script = s, .diag = diag};
	size_t errors = diag->errors;

	*out = s;
	read_script(&r);
	return r.no_memory ? -ENOMEM : diag->errors > errors ? -EINVAL : 0;
}

int script_load(const char *file, struct diag *diag, struct script **out)
{
	struct script *s = *out = calloc(1, sizeof *s);
	int rc = s ? jdoc_load(file, diag, &s->doc) : -ENOMEM;

	return rc < 0 ? rc : finish(s, diag, out);
}

int script_parse(const char *file, const char *text, size_t len, struct diag *diag, struct script **out)
{
	struct script *s = *out = calloc(1, sizeof *s);
	int rc = s ? jdoc_parse(file, text, len, diag, &s->doc) : -ENOMEM;

	return rc < 0 ? rc : finish(s, diag, out);
}

void script_free(struct script *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_cases; i++) {
		for (size_t k = 0; k < s->cases[i].n_steps; k++)
			free(s->cases[i].steps[k].items);
		free(s->cases[i].steps);
	}
	free(s->cases);
	jdoc_free(s->doc);
	free(s);
}

static unsigned digit(char c)
{
	return isdigit((unsigned char)c) ? (unsigned)(c - '0')
					 : (unsigned)(tolower((unsigned char)c) - 'a') + 10;
}

char *script_bytes(const struct step *step, size_t item, size_t *len)
{
	const struct jnode *node = step->items[item];
	const char *text = step->form == FORM_JSON ? node->text : node->string;
	size_t n = step->form == FORM_JSON ? node->text_len : strlen(text);
	char *bytes = malloc(n + 1);

	if (!bytes)
		return NULL;
	*len = step->form == FORM_HEX ? n / 2 : n;
	for (size_t i = 0; i < *len; i++)
		bytes[i] = step->form == FORM_HEX ? (char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]))
						  : text[i];
	bytes[*len] = '\0';
	return bytes;
}
