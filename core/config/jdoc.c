/* SPDX-License-Identifier: MIT */
/*
 * jdoc - a JSON document (RFC 8259) that knows where each value stands, for configuration files.
 * The tree and its pointers; the parser is in jparse.c.  Control thread only.
 */
#include "core/config/jdoc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/nearest.h>
#include <semstreams/base/strbuf.h>

static void node_free(struct jnode *node)
{
	if (!node)
		return;
	for (struct jnode *child = node->child, *next; child; child = next) {
		next = child->next;
		node_free(child);
	}
	free(node->name);
	if (node->string)
		explicit_bzero(node->string, strlen(node->string)); /* it may be a secret */
	free(node->string);
	free(node);
}

void jdoc_free(struct jdoc *doc)
{
	if (!doc)
		return;
	node_free(doc->root);
	free(doc->file);
	if (doc->text)
		explicit_bzero(doc->text, doc->len);
	free(doc->text);
	free(doc);
}

int file_read(const char *path, size_t max, char **text, size_t *len, const char **why)
{
	int rc = ss_file_read(AT_FDCWD, path, max, text, len, NULL);
	if (rc == -EINVAL)
		*why = "not a regular file";
	else if (rc == -EFBIG)
		*why = "the file is too large";
	else if (rc == -EAGAIN)
		*why = "the file is being written to";
	else if (rc)
		*why = strerror(-rc);
	return rc;
}

/* Standard input to its end, as file_read() does with a file; stdio would keep a copy. */
static int stdin_read(size_t max, char **text, size_t *len, const char **why)
{
	enum { CHUNK = 4096 };
	struct ss_strbuf all = {.secret = true};
	int rc = -EAGAIN;

	while (rc == -EAGAIN) {
		char *room = ss_strbuf_room(&all, CHUNK);
		ssize_t n = room ? read(STDIN_FILENO, room, CHUNK) : 0;
		if (n > 0)
			all.len += (size_t)n;
		if (!room)
			rc = -ENOMEM;
		else if (n < 0 && errno != EINTR)
			rc = errno == EAGAIN ? -EIO : -errno;
		else if (n == 0)
			rc = 0;
		else if (all.len > max)
			rc = -EFBIG;
	}
	*len = all.len;
	*text = rc ? NULL : ss_strbuf_take(&all);
	ss_strbuf_done(&all);
	if (rc == 0 && !*text)
		rc = -ENOMEM;
	if (rc)
		*why = rc == -EFBIG ? "the text is too large" : strerror(-rc);
	return rc;
}

int jdoc_load(const char *file, struct diag *diag, struct jdoc **out)
{
	char *text = NULL;
	size_t len = 0;
	const char *why = NULL;
	bool standard_input = strcmp(file, "-") == 0;

	*out = NULL;
	int rc = standard_input ? stdin_read(JDOC_MAX_FILE, &text, &len, &why)
				: file_read(file, JDOC_MAX_FILE, &text, &len, &why);
	file = standard_input ? "stdin" : file;
	if (rc == -EFBIG)
		diag_add(diag, DIAG_ERROR, file, (struct place){0}, NULL, "cannot read: %s (at most %u MiB)",
			 why, JDOC_MAX_FILE >> 20);
	else if (rc)
		diag_add(diag, DIAG_ERROR, file, (struct place){0}, NULL, "cannot read: %s", why);
	if (rc)
		return rc == -ENOMEM ? rc : -EINVAL;
	rc = jdoc_parse(file, text, len, diag, out);
	explicit_bzero(text, len);
	free(text);
	return rc;
}

struct jnode *jnode_get(const struct jnode *object, const char *name)
{
	if (!object || object->type != J_OBJECT)
		return NULL;
	for (struct jnode *child = object->child; child; child = child->next)
		if (strcmp(child->name, name) == 0)
			return child;
	return NULL;
}

/* Is the pointer's token [token, end) the escaped form of name? */
static bool token_is(const char *token, const char *end, const char *name)
{
	for (; token < end; token++, name++) {
		char c = *token;
		if (c == '~' && token + 1 < end && (token[1] == '0' || token[1] == '1'))
			c = *++token == '0' ? '~' : '/';
		if (*name != c)
			return false;
	}
	return *name == '\0';
}

static struct jnode *element(const struct jnode *array, const char *token, const char *end)
{
	size_t index = 0;
	if (token == end || (*token == '0' && end - token > 1))
		return NULL;
	for (; token < end; token++) {
		if (*token < '0' || *token > '9' || index >= array->n)
			return NULL;
		index = 10 * index + (size_t)(*token - '0');
	}
	struct jnode *child = array->child;
	while (child && index--)
		child = child->next;
	return child;
}

struct jnode *jnode_at(struct jnode *from, const char *pointer, bool *whole)
{
	*whole = false;
	while (*pointer == '/') {
		const char *token = pointer + 1, *end = strchrnul(token, '/');
		struct jnode *child = NULL;
		if (from->type == J_ARRAY)
			child = element(from, token, end);
		else
			for (child = from->child; child; child = child->next)
				if (token_is(token, end, child->name))
					break;
		if (!child)
			return from;
		from = child;
		pointer = end;
	}
	*whole = *pointer == '\0';
	return from;
}

static size_t index_of(const struct jnode *node)
{
	size_t i = 0;
	for (const struct jnode *other = node->parent->child; other != node; other = other->next)
		i++;
	return i;
}

/* Bytes of the escaped name; written to `to` unless that is NULL. */
static size_t escape_name(const char *name, char *to)
{
	size_t n = 0;
	for (; *name; name++) {
		if (*name == '~' || *name == '/') {
			if (to) {
				to[n] = '~';
				to[n + 1] = *name == '~' ? '0' : '1';
			}
			n += 2;
		} else {
			if (to)
				to[n] = *name;
			n++;
		}
	}
	return n;
}

/* The pointer of node into buf (NULL: only its length). */
static size_t write_pointer(const struct jnode *node, char *buf)
{
	if (!node->parent)
		return 0;
	size_t n = write_pointer(node->parent, buf);
	if (buf)
		buf[n] = '/';
	n++;
	if (node->name)
		return n + escape_name(node->name, buf ? buf + n : NULL);
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%zu", index_of(node));
	if (buf)
		memcpy(buf + n, digits, (size_t)len);
	return n + (size_t)len;
}

char *jnode_pointer(const struct jnode *node)
{
	size_t len = write_pointer(node, NULL);
	char *pointer = malloc(len + 1);
	if (!pointer)
		return NULL;
	write_pointer(node, pointer);
	pointer[len] = '\0';
	return pointer;
}

const char *jtype_name(enum jtype type)
{
	static const char *const names[] = {
		[J_NULL] = "null",        [J_FALSE] = "false",     [J_TRUE] = "true",
		[J_NUMBER] = "a number",  [J_STRING] = "a string", [J_ARRAY] = "an array",
		[J_OBJECT] = "an object",
	};
	return names[type];
}

void jdoc_report(const struct jdoc *doc, struct diag *diag, enum diag_level level, const struct jnode *node,
		 enum jpart part, const char *fmt, ...)
{
	struct place place = part == J_NAME && node->name ? node->name_place : node->place;
	/* Pointers of array elements cost time: none for what is only counted. */
	char *pointer = diag->n < DIAG_MAX_ITEMS ? jnode_pointer(node) : NULL;
	va_list ap;

	va_start(ap, fmt);
	diag_addv(diag, level, doc->file, place, pointer, fmt, ap);
	va_end(ap);
	free(pointer);
}

const char *jnode_shown(const struct jnode *node, char buf[JSHOWN_SIZE])
{
	if (node->type != J_STRING && node->type != J_NUMBER)
		return jtype_name(node->type);
	if (node->text_len < JSHOWN_SIZE) {
		snprintf(buf, JSHOWN_SIZE, "%.*s", (int)node->text_len, node->text);
		return buf;
	}
	size_t len = JSHOWN_SIZE - sizeof "...\"";
	while (len && (node->text[len] & 0xc0) == 0x80) /* not in the middle of a character */
		len--;
	snprintf(buf, JSHOWN_SIZE, "%.*s...%s", (int)len, node->text, node->text[0] == '"' ? "\"" : "");
	return buf;
}

/* "a, b, c" into buf, or "" if that is too long to be of use. */
static const char *list(const char *const *words, size_t n, char *buf, size_t size)
{
	size_t len = 0;
	buf[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		int rc = snprintf(buf + len, size - len, "%s%s", i ? ", " : "", words[i]);
		if (rc < 0 || (size_t)rc >= size - len) {
			buf[0] = '\0';
			break;
		}
		len += (size_t)rc;
	}
	return buf;
}

void jdoc_report_unknown(const struct jdoc *doc, struct diag *diag, const struct jnode *node, enum jpart part,
			 const char *what, const char *word, const char *const *known, size_t n)
{
	char shown[JSHOWN_SIZE], all[512];
	const char *nearest = ss_nearest(word, known, n);

	if (part == J_NAME) /* a name has no text of its own */
		snprintf(shown, sizeof shown, "\"%.40s%s\"", word, strlen(word) > 40 ? "..." : "");
	else
		jnode_shown(node, shown);
	if (nearest)
		jdoc_report(doc, diag, DIAG_ERROR, node, part, "unknown %s %s; did you mean \"%s\"?", what,
			    shown, nearest);
	else if (n && *list(known, n, all, sizeof all))
		jdoc_report(doc, diag, DIAG_ERROR, node, part, "unknown %s %s; known: %s", what, shown, all);
	else
		jdoc_report(doc, diag, DIAG_ERROR, node, part, "unknown %s %s", what, shown);
}
