/* SPDX-License-Identifier: MIT */
/*
 * expand - what the strings of a configuration stand for: ${env:NAME}, $${, {"file": path} and
 * {"credential": name}.
 * Control thread only.
 */
#include "core/config/expand.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <semstreams/base/strbuf.h>
#include <semstreams/base/utf8.h>
#include "core/admin/hidden.h"
#include "core/config/secret_file.h"

/* Free a text that may be a secret. */
static void wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

static size_t name_length(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
	return *s >= '0' && *s <= '9' ? 0 : n;
}

/* The reference at *at, which starts with "${": its value, *at behind it.  NULL: reported. */
static const char *variable(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
			    const char **at)
{
	static const char start[] = "${env:";
	const char *name = *at + sizeof start - 1;
	size_t len = strncmp(*at, start, sizeof start - 1) == 0 ? name_length(name) : 0;
	if (len == 0 || name[len] != '}') {
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE,
			    "a reference is written ${env:NAME}; write $${ for a plain ${");
		return NULL;
	}
	*at = name + len + 1;

	char *key = strndup(name, len);
	const char *value = key ? getenv(key) : NULL;
	if (!value)
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE, "environment variable %.*s is not set",
			    (int)len, name);
	else if (!ss_utf8_valid(value, strlen(value))) {
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE,
			    "environment variable %s is not valid UTF-8", key);
		value = NULL;
	}
	free(key);
	return value;
}

static int take(struct ss_strbuf *text, int rc, char **out)
{
	char *taken = rc ? NULL : ss_strbuf_take(text);

	ss_strbuf_done(text);
	if (rc == 0 && !taken)
		return -ENOMEM;
	if (taken)
		*out = taken;
	return rc;
}

static int expand_string(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	const char *at = node->string;
	struct ss_strbuf text = {.secret = true};
	int rc = 0;

	while (*at && rc == 0) {
		if (at[0] == '$' && at[1] == '$' && at[2] == '{') {
			ss_strbuf_text(&text, "${");
			at += 3;
		} else if (at[0] == '$' && at[1] == '{') {
			const char *value = variable(doc, node, diag, &at);
			if (value)
				ss_strbuf_text(&text, value);
			else
				rc = -EINVAL;
		} else {
			ss_strbuf_char(&text, *at++);
		}
	}
	return take(&text, rc, out);
}

static bool is_object_of(const struct jnode *node, const char *name)
{
	return node->type == J_OBJECT && node->n == 1 && strcmp(node->child->name, name) == 0 &&
	       node->child->type == J_STRING;
}

bool expand_is_text(const struct jnode *node)
{
	return node->type == J_STRING || is_object_of(node, "file") || is_object_of(node, "credential");
}

/* The node's text stays when the string is expanded. */
bool expand_is_variable(const struct jnode *node)
{
	return node->type == J_STRING && memmem(node->text, node->text_len, "${env:", 6);
}

char *expand_path(const struct jdoc *doc, const char *path)
{
	const char *slash = strrchr(doc->file, '/');
	if (*path == '/' || !slash)
		return strdup(path);
	size_t folder = (size_t)(slash - doc->file) + 1, size = folder + strlen(path) + 1;
	char *whole = malloc(size);
	if (whole) {
		memcpy(whole, doc->file, folder);
		memcpy(whole + folder, path, size - folder);
	}
	return whole;
}

/* The file of a credential that the service manager hands out.  0, -EINVAL (reported), -ENOMEM. */
static int credential_file(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	const char *name = node->child->string, *folder = getenv("CREDENTIALS_DIRECTORY");

	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		jdoc_report(doc, diag, DIAG_ERROR, node->child, J_VALUE,
			    "expected the name of a credential, as in LoadCredential=NAME:... of the systemd "
			    "unit");
	else if (!folder)
		jdoc_report(doc, diag, DIAG_ERROR, node->child, J_VALUE,
			    "there are no credentials: CREDENTIALS_DIRECTORY is not set; add "
			    "LoadCredential=%s:PATH to the systemd unit, which hands it out",
			    name);
	else
		return asprintf(out, "%s/%s", folder, name) < 0 ? -ENOMEM : 0;
	return -EINVAL;
}

int expand_path_text(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	return is_object_of(node, "credential") ? credential_file(doc, node, diag, out)
						: expand_text(doc, node, diag, out);
}

int expand_paths(const struct jdoc *doc, struct jnode *node, struct diag *diag)
{
	int rc = 0;

	for (struct jnode *child = node->type == J_ARRAY ? node->child : NULL; child && rc != -ENOMEM;
	     child = child->next)
		rc = expand_paths(doc, child, diag) ? -EINVAL : rc;
	if (!is_object_of(node, "credential"))
		return rc;
	rc = credential_file(doc, node, diag, &node->string);
	node->type = rc == 0 ? J_STRING : node->type;
	return rc;
}

/* Only a warning: the configuration itself may hold such a value, too. */
static void warn_of_readers(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
			    const char *path)
{
	char text[2 * PATH_MAX + 256];

	if (secret_file_exposed(path, text, sizeof text))
		jdoc_report(doc, diag, DIAG_WARN, node->child, J_VALUE, "%s", text);
}

/* Whatever it is for: somebody put it where others do not look. */
static int hide_content(const char *text, const char *path)
{
	char *shown = NULL;
	if (asprintf(&shown, "<content of %s>", path) < 0)
		return -ENOMEM;
	int rc = hidden_add(text, shown);
	free(shown);
	return rc;
}

static int expand_file(const struct jdoc *doc, const struct jnode *node, struct diag *diag, bool secret,
		       char **out)
{
	char *path = NULL, *whole = NULL, *text = NULL;
	const char *why = NULL;
	size_t len = 0;

	int rc = strcmp(node->child->name, "file") == 0 ? expand_string(doc, node->child, diag, &path)
							: credential_file(doc, node, diag, &path);
	if (rc)
		return rc;
	whole = expand_path(doc, path);
	rc = whole ? file_read(whole, EXPAND_MAX_FILE, &text, &len, &why) : -ENOMEM;
	if (rc == -ENOMEM)
		goto out;
	if (rc == 0 && memchr(text, '\0', len))
		why = "it holds a NUL byte";
	else if (rc == 0 && !ss_utf8_valid(text, len))
		why = "it is not UTF-8";
	if (why) {
		jdoc_report(doc, diag, DIAG_ERROR, node->child, J_VALUE, "cannot take \"%s\": %s%s", whole,
			    why, rc == -EFBIG ? " (at most 64 KiB)" : "");
		rc = -EINVAL;
		goto out;
	}
	if (secret)
		warn_of_readers(doc, node, diag, whole);
	if (len && text[len - 1] == '\n')
		text[len - 1] = '\0';
	rc = hide_content(text, node->child->string);
	if (rc)
		goto out;
	*out = text;
	text = NULL;
out:
	if (text)
		explicit_bzero(text, len);
	free(text);
	free(whole);
	wipe(path);
	return rc;
}

int expand_text(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	return node->type == J_STRING ? expand_string(doc, node, diag, out)
				      : expand_file(doc, node, diag, false, out);
}

int expand_secret(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	if (node->type != J_STRING)
		return expand_file(doc, node, diag, true, out);
	int rc = expand_string(doc, node, diag, out);
	if (rc == 0 && (rc = hidden_add(*out, "<secret>")) != 0) {
		wipe(*out);
		*out = NULL;
	}
	return rc;
}

int expand_tree(const struct jdoc *doc, struct jnode *node, struct diag *diag)
{
	int result = 0;
	if (expand_is_text(node)) {
		char *text;
		int rc = expand_text(doc, node, diag, &text);
		if (rc)
			return rc;
		wipe(node->string);
		node->string = text;
		node->type = J_STRING;
		return 0;
	}
	for (struct jnode *child = node->child; child; child = child->next) {
		int rc = expand_tree(doc, child, diag);
		if (rc)
			result = rc;
	}
	return result;
}

/* All of the node's text, with strings that hold a reference replaced. */
static int put_json(const struct jdoc *doc, const struct jnode *node, struct diag *diag, struct ss_strbuf *to)
{
	int result = 0;
	if (node->type == J_STRING && strstr(node->string, "${")) {
		char *text;
		result = expand_string(doc, node, diag, &text);
		if (result)
			return result;
		ss_strbuf_json(to, text, strlen(text));
		wipe(text);
		return 0;
	}
	const char *from = node->text;
	for (const struct jnode *child = node->child; child; child = child->next) {
		ss_strbuf_add(to, from, (size_t)(child->text - from));
		int rc = put_json(doc, child, diag, to);
		if (rc)
			result = rc;
		from = child->text + child->text_len;
	}
	ss_strbuf_add(to, from, (size_t)(node->text + node->text_len - from));
	return result;
}

int expand_json(const struct jdoc *doc, const struct jnode *node, struct diag *diag, char **out)
{
	struct ss_strbuf text = {.secret = true};
	int rc = put_json(doc, node, diag, &text);

	return take(&text, rc, out);
}
