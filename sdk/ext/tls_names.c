/* SPDX-License-Identifier: MIT */
/* tls_names - see semstreams/ext/tls-names.h. */
#include <semstreams/ext/tls-names.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509-ext.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/utf8.h>

/* Text of characters of a fixed width, most significant byte first, in UTF-8, malloced; NULL: it is not that.
 */
static char *to_utf8(const gnutls_datum_t *value, size_t width, size_t *len)
{
	char *text = value->size % width == 0 ? malloc(2 * (size_t)value->size + 1) : NULL;

	*len = 0;
	for (size_t at = 0; text && at < value->size; at += width) {
		uint32_t code = 0;
		for (size_t i = 0; i < width; i++)
			code = code << 8 | value->data[at + i];
		if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
			free(text);
			return NULL;
		}
		*len += ss_utf8_put(code, text + *len);
	}
	return text;
}

enum {
	UTF8 = 12,
	NUMERIC = 18,
	PRINTABLE = 19,
	TELETEX = 20,
	IA5 = 22,
	VISIBLE = 26,
	UNIVERSAL = 28,
	BMP = 30
};

/* Strings of one byte a letter go as they are: what is not ASCII in them matches nothing but itself. */
static bool pass(const gnutls_x509_ava_st *ava, tls_name_fn *each, void *arg)
{
	size_t len = 0;
	char *text = NULL;

	switch (ava->value_tag) {
	case UTF8:
	case PRINTABLE:
	case IA5:
	case NUMERIC:
	case VISIBLE:
		return each(arg, ava->value.data, ava->value.size);
	case TELETEX:
		text = to_utf8(&ava->value, 1, &len);
		break;
	case BMP:
		text = to_utf8(&ava->value, 2, &len);
		break;
	case UNIVERSAL:
		text = to_utf8(&ava->value, 4, &len);
		break;
	default:
		break;
	}
	bool more = text ? each(arg, (const uint8_t *)text, len) : each(arg, NULL, ava->value_tag);
	free(text);
	return more;
}

bool tls_each_cn(gnutls_x509_dn_t dn, tls_name_fn *each, void *arg)
{
	static const char cn[] = GNUTLS_OID_X520_COMMON_NAME;
	gnutls_x509_ava_st ava;
	bool any = false;

	for (int rdn = 0;; rdn++) {
		int i = 0;
		for (; gnutls_x509_dn_get_rdn_ava(dn, rdn, i, &ava) == 0; i++) {
			size_t n = strnlen((const char *)ava.oid.data, ava.oid.size);
			if (n != sizeof cn - 1 || memcmp(ava.oid.data, cn, n) != 0)
				continue;
			any = true;
			if (!pass(&ava, each, arg))
				return any;
		}
		if (i == 0)
			return any;
	}
}

int tls_each_san(gnutls_x509_crt_t crt, tls_san_fn *each, void *arg)
{
	gnutls_subject_alt_names_t names = NULL;
	gnutls_datum_t extension = {0}, name;
	unsigned critical, type;

	int rc = gnutls_x509_crt_get_extension_by_oid2(crt, GNUTLS_X509EXT_OID_SAN, 0, &extension, &critical);
	if (rc)
		return rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? -ENOENT : -EINVAL;
	rc = gnutls_subject_alt_names_init(&names);
	if (rc == 0)
		rc = gnutls_x509_ext_import_subject_alt_names(&extension, names, 0);
	for (unsigned i = 0; rc == 0; i++) {
		rc = gnutls_subject_alt_names_get(names, i, &type, &name, NULL);
		if (rc == 0 && !each(arg, type, name.data, name.size))
			break;
	}
	if (names)
		gnutls_subject_alt_names_deinit(names);
	gnutls_free(extension.data);
	return rc == 0 || rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? 0 : -EINVAL;
}

/* ---- the whole as text ---- */

static bool put_value(void *arg, const uint8_t *value, size_t len)
{
	struct ss_strbuf *to = arg;
	uint32_t code;

	if (!value)
		ss_strbuf_printf(to, "(of ASN.1 type %zu, which cannot be decoded)", len);
	for (size_t i = 0, n; value && i < len; i += n) {
		n = ss_utf8_next((const char *)value + i, len - i, &code);
		if (n == 0 || !ss_utf8_is_plain(code)) {
			n = n ? n : 1;
			for (size_t k = 0; k < n; k++)
				ss_strbuf_printf(to, "\\%02X", value[i + k]);
			continue;
		}
		bool at_end = i == 0 || i + 1 == len;
		if (strchr(",+\"\\<>;", (int)value[i]) || (value[i] == ' ' && at_end) ||
		    (value[i] == '#' && i == 0))
			ss_strbuf_char(to, '\\');
		ss_strbuf_add(to, value + i, n);
	}
	return true;
}

char *tls_dn_text(gnutls_x509_dn_t dn)
{
	struct ss_strbuf text = {0};
	gnutls_x509_ava_st ava;
	char oid[64];
	int rdn = 0;

	while (gnutls_x509_dn_get_rdn_ava(dn, rdn, 0, &ava) == 0)
		rdn++;
	while (rdn-- > 0) {
		for (int i = 0; gnutls_x509_dn_get_rdn_ava(dn, rdn, i, &ava) == 0; i++) {
			if (text.len)
				ss_strbuf_char(&text, i ? '+' : ',');
			size_t n = strnlen((const char *)ava.oid.data, ava.oid.size);
			n = n < sizeof oid ? n : sizeof oid - 1;
			memcpy(oid, ava.oid.data, n);
			oid[n] = '\0';
			const char *name = gnutls_x509_dn_oid_name(oid, GNUTLS_X509_DN_OID_RETURN_OID);
			ss_strbuf_printf(&text, "%s=", name ? name : oid);
			pass(&ava, put_value, &text);
		}
	}
	return ss_strbuf_take(&text);
}
