/* SPDX-License-Identifier: MIT */
/* message - see message.h. */
#include "message.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <jansson.h>

/* ---- requests over HTTP ---- */

bool message_tenant_ok(const char *name)
{
	size_t len = strlen(name);

	return len && len <= MESSAGE_TENANT_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

struct span {
	const char *at;
	size_t len;
};

static bool is(struct span s, const char *text)
{
	return s.len == strlen(text) && strncasecmp(s.at, text, s.len) == 0;
}

/* What is in front of a mark; the rest begins behind it.  All of it if there is no mark. */
static struct span cut(struct span *rest, const char *mark)
{
	const char *at = memmem(rest->at, rest->len, mark, strlen(mark));
	struct span front = {rest->at, at ? (size_t)(at - rest->at) : rest->len};
	size_t used = at ? front.len + strlen(mark) : rest->len;

	*rest = (struct span){rest->at + used, rest->len - used};
	return front;
}

static bool has_form(struct span target, const char *front, const char *back, char *name)
{
	size_t n_front = strlen(front), n_back = strlen(back);

	if (target.len <= n_front + n_back || target.len - n_front - n_back > MESSAGE_TENANT_MAX ||
	    memcmp(target.at, front, n_front) != 0 ||
	    memcmp(target.at + target.len - n_back, back, n_back) != 0)
		return false;
	size_t len = target.len - n_front - n_back;
	if (memchr(target.at + n_front, 0, len))
		return false;
	memcpy(name, target.at + n_front, len);
	name[len] = '\0';
	return message_tenant_ok(name);
}

/* The status to refuse it with, or 0. */
static int read_line(struct span line, struct message_request *out)
{
	struct span method = cut(&line, " "), target = cut(&line, " ");
	bool post = method.len == 4 && memcmp(method.at, "POST", 4) == 0;

	if (!is(line, "HTTP/1.1") && !is(line, "HTTP/1.0"))
		return 400;
	if (!post && !(method.len == 3 && memcmp(method.at, "GET", 3) == 0))
		return 405;
	if (has_form(target, "/admin/tenants/", "/join-request", out->name))
		out->route = MESSAGE_JOIN;
	else if (has_form(target, "/root/", "", out->name))
		out->route = MESSAGE_ROOT;
	else if (has_form(target, "/crl/", "", out->name))
		out->route = MESSAGE_CRL;
	else if (is(target, "/health"))
		out->route = MESSAGE_HEALTH;
	else
		return 404;
	return post == (out->route == MESSAGE_JOIN) ? 0 : 405;
}

static int read_length(struct span value, size_t *out)
{
	*out = 0;
	if (!value.len || value.len > 9)
		return value.len ? 413 : 400;
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return 400;
		*out = *out * 10 + (size_t)(value.at[i] - '0');
	}
	return *out > MESSAGE_BODY_MAX ? 413 : 0;
}

static int read_fields(struct span fields, bool *has_length, size_t *length)
{
	int status = 0;

	while (!status && fields.len) {
		struct span value = cut(&fields, "\r\n"), name = cut(&value, ":");
		while (value.len && (*value.at == ' ' || *value.at == '\t'))
			value = (struct span){value.at + 1, value.len - 1};
		while (value.len && (value.at[value.len - 1] == ' ' || value.at[value.len - 1] == '\t'))
			value.len--;
		if (is(name, "Transfer-Encoding"))
			return 501;
		if (!is(name, "Content-Length"))
			continue;
		status = *has_length ? 400 : read_length(value, length);
		*has_length = true;
	}
	return status;
}

int message_request_read(const char *bytes, size_t len, struct message_request *out)
{
	struct span rest = {bytes, len};
	const char *end = memmem(bytes, len, "\r\n\r\n", 4);
	size_t head = end ? (size_t)(end - bytes) + 2 : 0, length = 0;
	bool has_length = false;

	*out = (struct message_request){0};
	if (head > MESSAGE_HEADERS_MAX || (!end && len > MESSAGE_HEADERS_MAX))
		return 431;
	if (!end)
		return -EAGAIN;
	rest.len = head;
	int status = read_line(cut(&rest, "\r\n"), out);
	if (!status)
		status = read_fields(rest, &has_length, &length);
	if (!status && out->route == MESSAGE_JOIN && !has_length)
		status = 411;
	if (status)
		return status;
	out->body = end + 4;
	out->len = length;
	return len - head - 2 < length ? -EAGAIN : 0;
}

/* ---- JSON ---- */

static json_t *read_object(const char *bytes, size_t len, const char *what, struct fault *f)
{
	json_t *object = len <= MESSAGE_MAX ? json_loadb(bytes, len, JSON_REJECT_DUPLICATES, NULL) : NULL;

	if (!json_is_object(object)) {
		json_decref(object);
		object = NULL;
		refuse(f, "%s is no object in JSON of at most %d bytes", what, MESSAGE_MAX);
	}
	return object;
}

int message_csr(const char *body, size_t len, char **out, struct fault *f)
{
	json_t *object = read_object(body, len, "the request", f);
	const char *csr = json_string_value(json_object_get(object, "sub_ca_csr"));
	int rc = !object ? -EINVAL : !csr ? refuse(f, "the request has no text \"sub_ca_csr\"") : 0;

	if (rc == 0 && !(*out = strdup(csr)))
		rc = -ENOMEM;
	json_decref(object);
	return rc;
}

static int take(const json_t *object, const char *member, struct certificates *out, struct fault *f)
{
	const char *pem = json_string_value(json_object_get(object, member));

	if (!pem)
		return refuse(f, "the reply has no text \"%s\"", member);
	int rc = certificates_read(member, pem, strlen(pem), out, f);
	if (rc == 0 && out->n > CHAIN_MAX)
		rc = refuse(f, "%s: there are more than %d certificates in it", member, CHAIN_MAX);
	return rc;
}

int message_reply_read(const char *bytes, size_t len, struct message_reply *out, struct fault *f)
{
	json_t *object = read_object(bytes, len, "the reply", f);

	*out = (struct message_reply){0};
	if (!object)
		return -EINVAL;
	int rc = take(object, "sub_ca_cert", &out->chain, f);
	if (rc == 0)
		rc = take(object, "root_ca_cert", &out->root, f);
	if (rc == 0 && out->root.n != 1)
		rc = refuse(f, "root_ca_cert: there are %u certificates in it instead of one", out->root.n);
	json_decref(object);
	if (rc)
		message_reply_done(out);
	return rc;
}

void message_reply_done(struct message_reply *r)
{
	certificates_done(&r->chain);
	certificates_done(&r->root);
}

static bool same(gnutls_x509_crt_t a, gnutls_x509_crt_t b)
{
	return gnutls_x509_crt_equals(a, b) != 0;
}

int message_reply_put(const struct certificates *chain, gnutls_x509_crt_t root, struct ss_strbuf *out)
{
	struct ss_strbuf sub = {0}, top = {0};
	int rc = certificate_pem(root, &top);

	for (unsigned i = 0; rc == 0 && i < chain->n; i++)
		if (!same(chain->v[i], root))
			rc = certificate_pem(chain->v[i], &sub);
	json_t *reply = rc ? NULL
			   : json_pack("{s:s, s:s}", "sub_ca_cert", ss_strbuf_cstr(&sub), "root_ca_cert",
				       ss_strbuf_cstr(&top));
	char *text = reply ? json_dumps(reply, JSON_INDENT(2)) : NULL;
	if (text) {
		ss_strbuf_text(out, text);
		ss_strbuf_char(out, '\n');
	}
	rc = text && !out->failed ? 0 : -ENOMEM;
	free(text);
	json_decref(reply);
	ss_strbuf_done(&sub);
	ss_strbuf_done(&top);
	return rc;
}

int message_chain_check(const struct certificates *chain, gnutls_x509_crt_t root, const struct key *key,
			struct fault *f)
{
	gnutls_x509_trust_list_t trust;
	gnutls_datum_t why = {0};
	char subject[256];
	unsigned status = 0;
	int rc = 0;

	certificate_subject(chain->v[0], subject);
	if (key && !certificate_is_for(chain->v[0], key))
		return refuse(f, "the certificate of \"%s\" is for another key", subject);
	for (unsigned i = 0; i + 1 < chain->n; i++)
		if (!certificate_signed_by(chain->v[i], chain->v[i + 1]))
			return refuse(
				f, "the chain of \"%s\" is out of order: each has to be signed by the next",
				subject);
	if (gnutls_x509_trust_list_init(&trust, 0))
		return -ENOMEM;
	if (gnutls_x509_trust_list_add_cas(trust, &root, 1, 0) != 1 ||
	    gnutls_x509_trust_list_verify_crt2(trust, chain->v, chain->n, NULL, 0, 0, &status, NULL))
		rc = refuse(f, "the chain of \"%s\" cannot be verified", subject);
	else if (status &&
		 gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0) == 0)
		rc = refuse(f, "the chain of \"%s\" does not lead to the root: %s", subject, why.data);
	else if (status)
		rc = -ENOMEM;
	gnutls_free(why.data);
	gnutls_x509_trust_list_deinit(trust, 0);
	return rc;
}

/* ---- step-ca's provisioners ---- */

int message_provisioner_read(const char *bytes, size_t len, const char *name, struct message_provisioner *out,
			     struct fault *f)
{
	json_t *page = read_object(bytes, len, "the CA's list of provisioners", f), *one;
	const char *cursor = json_string_value(json_object_get(page, "nextCursor")), *key = NULL;
	size_t i;
	int rc = 0;

	*out = (struct message_provisioner){0};
	if (!page)
		return -EINVAL;
	json_array_foreach(json_object_get(page, "provisioners"), i, one)
	{
		const char *is_named = json_string_value(json_object_get(one, "name")),
			   *type = json_string_value(json_object_get(one, "type"));
		if (!is_named || strcmp(is_named, name) != 0 || !type || strcmp(type, "JWK") != 0)
			continue;
		key = json_string_value(json_object_get(one, "encryptedKey"));
		if (!key)
			rc = refuse(
				f,
				"the provisioner \"%s\" does not hand out its key: sign tokens where it is",
				name);
	}
	if (key && !(out->key = strdup(key)))
		rc = -ENOMEM;
	if (cursor && strlen(cursor) < sizeof out->cursor &&
	    strspn(cursor, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") ==
		    strlen(cursor))
		memcpy(out->cursor, cursor, strlen(cursor) + 1);
	json_decref(page);
	return rc;
}
