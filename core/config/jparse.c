/* SPDX-License-Identifier: MIT */
/*
 * jparse - the parser of jdoc: one pass, recursion bounded by JDOC_MAX_DEPTH, and explanations of the usual
 * mistakes. Pure.
 */
#include "core/config/jdoc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <semstreams/base/utf8.h>

/* Takes the place of a byte that was refused; a letter, so that ids and paths are not blamed for it once
 * more. */
#define STAND_IN 'x'

struct parser {
	struct jdoc *doc;
	struct diag *diag;
	const char *at, *end; /* *end is NUL */
	const char *line_start;
	unsigned line;
	unsigned depth;
	size_t values;
	bool out_of_memory;
};

static bool parse_value(struct parser *, struct jnode *);

static struct place place_of(const struct parser *p, const char *at)
{
	return (struct place){.line = p->line, .column = (unsigned)(at - p->line_start) + 1};
}

/* Report at a place, below node; parsing goes on. */
__attribute__((format(printf, 4, 5))) static void complain_at(struct parser *p, struct place place,
							      const struct jnode *node, const char *fmt, ...)
{
	char *pointer = node && p->diag->n < DIAG_MAX_ITEMS ? jnode_pointer(node) : NULL;
	va_list ap;
	va_start(ap, fmt);
	diag_addv(p->diag, DIAG_ERROR, p->doc->file, place, pointer, fmt, ap);
	va_end(ap);
	free(pointer);
}

/* Report at byte `at` of the current line. */
#define complain(p, at, ...) complain_at(p, place_of(p, at), __VA_ARGS__)

/* The same, and the end of parsing. */
#define FAIL(...) (complain(__VA_ARGS__), false)

static bool starts(const struct parser *p, const char *with)
{
	return strncmp(p->at, with, strlen(with)) == 0;
}

static bool word_byte(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       c == '.' || c == '+' || c == '-';
}

static bool skip_comment(struct parser *p, const struct jnode *node)
{
	complain(p, p->at, node, "comments are not allowed in JSON");
	if (!starts(p, "/*")) {
		while (p->at < p->end && *p->at != '\n')
			p->at++;
		return true;
	}
	const char *open = p->at;
	const char *close = memmem(open + 2, (size_t)(p->end - open - 2), "*/", 2);
	if (!close)
		return FAIL(p, open, node, "this comment is not closed");
	for (; p->at < close; p->at++)
		if (*p->at == '\n') {
			p->line++;
			p->line_start = p->at + 1;
		}
	p->at = close + 2;
	return true;
}

/* To the next byte that is not white space. */
static bool skip_blanks(struct parser *p, const struct jnode *node)
{
	for (;;) {
		switch (*p->at) {
		case '\n':
			p->line++;
			p->line_start = p->at + 1;
			/* fallthrough */
		case ' ':
		case '\t':
		case '\r':
			p->at++;
			break;
		case '#':
			if (!skip_comment(p, node))
				return false;
			break;
		case '/':
			if (p->at[1] != '/' && p->at[1] != '*')
				return true;
			if (!skip_comment(p, node))
				return false;
			break;
		default:
			return true;
		}
	}
}

/* The byte at p->at cannot stand there, whatever was expected: say what it is.  False. */
static bool fail_unexpected(struct parser *p, const struct jnode *node, const char *expected)
{
	const char *at = p->at;
	if (at == p->end) {
		if (!node)
			return FAIL(p, at, node, "the file ends here; expected %s", expected);
		return FAIL(p, at, node, "the file ends here, but the %s that starts at %u:%u is not closed",
			    node->type == J_ARRAY ? "array" : "object", node->place.line, node->place.column);
	}
	if (*at == '\0')
		return FAIL(p, at, node, "a NUL byte; expected %s", expected);
	if (starts(p, "...") || starts(p, "\xe2\x80\xa6"))
		return FAIL(p, at, node,
			    "\"...\" is a placeholder: write the real value, or remove the dots");
	if (*at == '\'')
		return FAIL(p, at, node, "write strings in double quotes (\"), not single quotes");
	if (starts(p, "\xe2\x80\x9c") || starts(p, "\xe2\x80\x9d") || starts(p, "\xe2\x80\x9e"))
		return FAIL(p, at, node, "a typographic quotation mark; JSON takes the plain \" only");
	uint32_t code;
	size_t n = ss_utf8_next(at, (size_t)(p->end - at), &code);
	if (n == 0)
		return FAIL(p, at, node, "not UTF-8: byte 0x%02x at offset %zu; save the file as UTF-8",
			    (unsigned char)*at, (size_t)(at - p->doc->text));
	if (word_byte(*at))
		return FAIL(p, at, node, "expected %s; is a double quote (\") missing?", expected);
	return FAIL(p, at, node, "unexpected \"%.*s\"; expected %s", (int)n, at, expected);
}

static int hex4(const char *s)
{
	int value = 0;
	for (int i = 0; i < 4; i++) {
		int c = s[i] | 0x20;
		if (s[i] >= '0' && s[i] <= '9')
			value = 16 * value + (s[i] - '0');
		else if (c >= 'a' && c <= 'f')
			value = 16 * value + (c - 'a' + 10);
		else
			return -1; /* also at the closing NUL */
	}
	return value;
}

/* \uXXXX at p->at, with its second half if it is a surrogate. */
static char *unicode_escape(struct parser *p, const struct jnode *node, char *to)
{
	const char *at = p->at;
	int c = hex4(at + 2);
	if (c < 0) {
		complain(p, at, node, "\\u takes four hexadecimal digits");
		p->at += 2;
		return to;
	}
	p->at += 6;
	if (c == 0) {
		complain(p, at, node, "\\u0000 (NUL) is not allowed in strings");
		*to++ = STAND_IN;
		return to;
	}
	if (c >= 0xd800 && c <= 0xdbff && p->at[0] == '\\' && p->at[1] == 'u') {
		int low = hex4(p->at + 2);
		if (low >= 0xdc00 && low <= 0xdfff) {
			p->at += 6;
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		}
	}
	if (c >= 0xd800 && c <= 0xdfff)
		complain(p, at, node, "unpaired surrogate: not a character");
	return to + ss_utf8_put((uint32_t)c, to);
}

static char *escape(struct parser *p, const struct jnode *node, char *to)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	char c = p->at[1];
	if (c == 'u')
		return unicode_escape(p, node, to);
	const char *known = c ? strchr(names, c) : NULL;
	if (!known) {
		complain(p, p->at, node, "unknown escape sequence; a backslash itself is written \\\\");
		p->at++; /* what follows is taken as it is */
		return to;
	}
	*to++ = values[known - names];
	p->at += 2;
	return to;
}

/* The string at p->at decoded into *out. */
static bool parse_string(struct parser *p, const struct jnode *node, char **out)
{
	const char *open = p->at++;
	const char *close = p->at;
	while (close < p->end && *close != '"' && *close != '\n')
		close += *close == '\\' && close + 1 < p->end ? 2 : 1;
	size_t room = (size_t)(close - p->at); /* decoding never makes it longer */
	char *value = malloc(room + 1), *to = value;
	if (!value) {
		p->out_of_memory = true;
		return false;
	}

	while (*p->at != '"') {
		uint32_t code;
		size_t n = ss_utf8_next(p->at, (size_t)(p->end - p->at), &code);
		unsigned char c = (unsigned char)*p->at;
		if (p->at == p->end || c == '\n' || (c == '\r' && p->at[1] == '\n')) {
			complain(p, open, node,
				 "this string is not closed: its second double quote (\") is missing");
			break;
		} else if (n == 0) {
			complain(p, p->at, node,
				 "not UTF-8: byte 0x%02x at offset %zu; save the file as UTF-8", c,
				 (size_t)(p->at - p->doc->text));
			break;
		} else if (c == '\\') {
			to = escape(p, node, to);
		} else if (c < 0x20) {
			if (c == '\0')
				complain(p, p->at, node, "a NUL byte in a string");
			else
				complain(p, p->at, node,
					 "control character 0x%02x in a string: write \\u%04x%s", c, c,
					 c == '\t' ? " or \\t" : "");
			*to++ = STAND_IN;
			p->at++;
		} else {
			to = mempcpy(to, p->at, n);
			p->at += n;
		}
	}
	*to = '\0';
	if (*p->at != '"') {
		explicit_bzero(value, (size_t)(to - value));
		free(value);
		return false;
	}
	p->at++;
	*out = value;
	return true;
}

static const char *skip_digits(const char *s)
{
	while (*s >= '0' && *s <= '9')
		s++;
	return s;
}

/* NULL, or why [s, end) is no JSON number. */
static const char *number_fault(const char *s, const char *end)
{
	const char *first = s += *s == '-';
	if (*s == '+')
		return "a number has no plus sign in JSON";
	if (*s == '.')
		return "a number starts with a digit: write 0 before the point";
	s = skip_digits(s);
	if (s == first)
		return "this is no number";
	if (*first == '0' && (first[1] | 0x20) == 'x')
		return "hexadecimal numbers are not JSON";
	if (*first == '0' && s - first > 1)
		return "a number must not start with 0";
	if (*s == '.') {
		const char *fraction = ++s;
		s = skip_digits(s);
		if (s == fraction)
			return "digits must follow the point of a number";
	}
	const char *mantissa = s;
	if ((*s | 0x20) == 'e') {
		s += s[1] == '+' || s[1] == '-' ? 2 : 1;
		const char *exponent = s;
		s = skip_digits(s);
		if (s == exponent)
			s = mantissa;
	}
	if (s != end)
		return "a number is followed by letters: write values with a unit in double quotes (\")";
	return NULL;
}

static bool parse_number(struct parser *p, struct jnode *node)
{
	const char *end = p->at;
	while (word_byte(*end))
		end++;
	const char *fault = number_fault(p->at, end);
	if (fault)
		return FAIL(p, p->at, node, "%s", fault);
	node->type = J_NUMBER;
	p->at = end;
	return true;
}

/* true, false, null; what others write for them is explained, but never repeated: it may be an unquoted
 * secret. */
static bool parse_word(struct parser *p, struct jnode *node)
{
	static const struct {
		const char *word;
		enum jtype type;
	} words[] = {{"null", J_NULL}, {"false", J_FALSE}, {"true", J_TRUE}};
	static const struct {
		const char *word, *remedy;
	} wrong[] = {
		{"true", "write true in lower case"},
		{"false", "write false in lower case"},
		{"null", "write null in lower case"},
		{"yes", "write true"},
		{"no", "write false"},
		{"on", "write true"},
		{"off", "write false"},
		{"none", "not a JSON value: write null"},
		{"nil", "not a JSON value: write null"},
		{"undefined", "not a JSON value: write null"},
		{"nan", "NaN is not a JSON number"},
		{"infinity", "Infinity is not a JSON number"},
	};
	size_t len = 0;
	while (word_byte(p->at[len]))
		len++;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strlen(words[i].word) == len && memcmp(p->at, words[i].word, len) == 0) {
			node->type = words[i].type;
			p->at += len;
			return true;
		}
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		if (strlen(wrong[i].word) == len && strncasecmp(p->at, wrong[i].word, len) == 0)
			return FAIL(p, p->at, node, "%s", wrong[i].remedy);
	return FAIL(p, p->at, node, "a string needs double quotes (\")");
}

static struct jnode *node_add(struct parser *p, struct jnode *parent, struct jnode **last)
{
	struct jnode *node = calloc(1, sizeof *node);
	if (!node) {
		p->out_of_memory = true;
		return NULL;
	}
	node->parent = parent;
	if (*last)
		(*last)->next = node;
	else
		parent->child = node;
	*last = node;
	parent->n++;
	return node;
}

static int by_name(const void *a, const void *b)
{
	const struct jnode *x = *(const struct jnode *const *)a, *y = *(const struct jnode *const *)b;
	int names = strcmp(x->name, y->name);
	if (names)
		return names;
	if (x->name_place.line != y->name_place.line)
		return x->name_place.line < y->name_place.line ? -1 : 1;
	return x->name_place.column < y->name_place.column ? -1 : 1;
}

static bool check_duplicates(struct parser *p, const struct jnode *object)
{
	if (object->n < 2)
		return true;
	const struct jnode **order = malloc(object->n * sizeof(const struct jnode *));
	if (!order) {
		p->out_of_memory = true;
		return false;
	}
	size_t n = 0;
	for (const struct jnode *child = object->child; child; child = child->next)
		order[n++] = child;
	qsort(order, n, sizeof(const struct jnode *), by_name);
	for (size_t i = 1, first = 0; i < n; i++) {
		if (strcmp(order[first]->name, order[i]->name) != 0)
			first = i;
		else
			jdoc_report(p->doc, p->diag, DIAG_ERROR, order[i], J_NAME,
				    "duplicate key \"%.64s\", first at %u:%u", order[i]->name,
				    order[first]->name_place.line, order[first]->name_place.column);
	}
	free(order);
	return true;
}

/* "name": at p->at, into a new member. */
static bool parse_name(struct parser *p, struct jnode *object, struct jnode **last)
{
	if (*p->at != '"')
		return fail_unexpected(p, object, "a name in double quotes");
	const char *open = p->at;
	struct place place = place_of(p, open);
	char *name;
	if (!parse_string(p, object, &name))
		return false;
	struct jnode *member = node_add(p, object, last);
	if (!member) {
		free(name);
		return false;
	}
	member->name = name;
	member->name_place = place;
	member->place = place; /* until there is a value */
	if (!skip_blanks(p, member))
		return false;
	if (*p->at == '=')
		return FAIL(p, p->at, member, "write a colon (:) between name and value, not =");
	if (*p->at != ':')
		return p->at == p->end ? fail_unexpected(p, object, "")
				       : fail_unexpected(p, member, "a colon (:) after the name");
	p->at++;
	return skip_blanks(p, member);
}

/* Behind an element: true to go on at p->at with the next one, *done at the end of the container. */
static bool parse_separator(struct parser *p, const struct jnode *container, char close, bool *done)
{
	const char *behind = p->at;
	struct place place = place_of(p, behind);
	char expected[] = "a comma or ?";

	if (!skip_blanks(p, container))
		return false;
	if (*p->at == ',') {
		const char *comma = p->at;
		place = place_of(p, comma);
		p->at++;
		if (!skip_blanks(p, container))
			return false;
		*done = *p->at == close;
		if (*done) {
			char *pointer = jnode_pointer(container);
			diag_add(p->diag, DIAG_ERROR, p->doc->file, place, pointer,
				 "trailing comma before %c", close);
			free(pointer);
		}
		p->at += *done;
		return true;
	}
	*done = *p->at == close;
	p->at += *done;
	if (*done)
		return true;
	if (*p->at == '"' || *p->at == '{' || *p->at == '[') {
		complain_at(p, place, container, "a comma is missing here");
		return true;
	}
	expected[sizeof expected - 2] = close;
	return fail_unexpected(p, container, expected);
}

static bool parse_container(struct parser *p, struct jnode *node)
{
	char close = *p->at == '{' ? '}' : ']';
	node->type = close == '}' ? J_OBJECT : J_ARRAY;
	if (p->depth == JDOC_MAX_DEPTH)
		return FAIL(p, p->at, node->parent, "nested deeper than %d", JDOC_MAX_DEPTH);
	p->depth++;
	p->at++;
	if (!skip_blanks(p, node))
		return false;
	struct jnode *last = NULL;
	bool done = *p->at == close;
	p->at += done;
	while (!done) {
		if (node->type == J_OBJECT ? !parse_name(p, node, &last) : !node_add(p, node, &last))
			return false;
		if (!parse_value(p, last) || !parse_separator(p, node, close, &done))
			return false;
	}
	p->depth--;
	return node->type == J_ARRAY || check_duplicates(p, node);
}

static bool parse_value(struct parser *p, struct jnode *node)
{
	const char *from = p->at;
	struct jnode *parent = node->parent; /* NULL for the root */
	bool good;

	node->place = place_of(p, from);
	if (++p->values > JDOC_MAX_VALUES)
		return FAIL(p, from, NULL, "more than %d values", JDOC_MAX_VALUES);
	if (*from == '{' || *from == '[') {
		good = parse_container(p, node);
	} else if (*from == '"') {
		node->type = J_STRING;
		good = parse_string(p, node, &node->string);
	} else if (p->at == p->end || *from == ',' || *from == '}' || *from == ']') {
		return p->at == p->end && parent ? fail_unexpected(p, parent, "a value")
						 : fail_unexpected(p, parent ? node : NULL, "a value");
	} else if (starts(p, "...")) {
		return fail_unexpected(p, parent, "a value");
	} else if ((*from >= '0' && *from <= '9') || *from == '-' || *from == '+' || *from == '.') {
		good = parse_number(p, node);
	} else if (word_byte(*from)) {
		good = parse_word(p, node);
	} else {
		return fail_unexpected(p, parent ? node : NULL, "a value");
	}
	node->text = from;
	node->text_len = (size_t)(p->at - from);
	return good;
}

/* What stands before the first value: marks of other encodings. */
static bool parse_start(struct parser *p)
{
	size_t len = p->doc->len;
	const unsigned char *text = (const unsigned char *)p->at;
	if (len >= 2 && ((text[0] == 0xff && text[1] == 0xfe) || (text[0] == 0xfe && text[1] == 0xff) ||
			 (text[0] == 0) != (text[1] == 0)))
		return FAIL(p, p->at, NULL, "this looks like UTF-16; save the file as UTF-8");
	if (starts(p, "\xef\xbb\xbf")) {
		complain(p, p->at, NULL,
			 "the file starts with a byte order mark (BOM); save it as UTF-8 without one");
		p->at += 3;
	}
	if (!skip_blanks(p, NULL))
		return false;
	if (p->at == p->end)
		return FAIL(p, p->at, NULL, "the file is empty; expected a JSON object");
	return true;
}

static bool parse_document(struct parser *p)
{
	p->doc->root = calloc(1, sizeof *p->doc->root);
	if (!p->doc->root) {
		p->out_of_memory = true;
		return false;
	}
	if (!parse_start(p) || !parse_value(p, p->doc->root) || !skip_blanks(p, NULL))
		return false;
	if (p->at != p->end)
		return FAIL(p, p->at, NULL,
			    "text after the end of the document; one closing bracket too many?");
	return true;
}

int jdoc_parse(const char *file, const char *text, size_t len, struct diag *diag, struct jdoc **out)
{
	size_t errors = diag->errors;
	struct jdoc *doc = calloc(1, sizeof *doc);

	*out = NULL;
	if (!doc)
		return -ENOMEM;
	doc->file = strdup(file);
	doc->text = malloc(len + 1);
	if (!doc->file || !doc->text) {
		jdoc_free(doc);
		return -ENOMEM;
	}
	memcpy(doc->text, text, len);
	doc->text[len] = '\0';
	doc->len = len;

	struct parser p = {
		.doc = doc,
		.diag = diag,
		.at = doc->text,
		.end = doc->text + len,
		.line_start = doc->text,
		.line = 1,
	};
	if (parse_document(&p))
		*out = doc;
	else
		jdoc_free(doc);
	if (p.out_of_memory)
		return -ENOMEM;
	return diag->errors > errors ? -EINVAL : 0;
}
