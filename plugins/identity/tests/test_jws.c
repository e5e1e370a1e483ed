/* SPDX-License-Identifier: MIT */
/* test_jws - base64url, JWK, thumbprints and signatures, against the RFCs' own vectors and against what
 * Python's cryptography package computes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include <gnutls/crypto.h>
#include <jansson.h>
#include "plugins/identity/key.h"
#include "helper_keys.h"

static const char url[] = "https://ca.example/order/1", account_url[] = "https://ca.example/acct/1",
		  nonce[] = "oFvnlFP1wIhRlYS2jTaXbA";

static struct identity_key *load(const char *pem)
{
	struct identity_key *key = NULL;
	char why[200] = "";

	if (key_load(pem, strlen(pem), &key, why, sizeof why))
		fail_msg("%s", why);
	return key;
}

/* ---- base64url ---- */

static void encodes(void **state)
{
	/* RFC 4648 section 10, without padding; RFC 7515 appendix C */
	static const struct {
		const char *data, *text;
	} cases[] = {{"", ""},
		     {"f", "Zg"},
		     {"fo", "Zm8"},
		     {"foo", "Zm9v"},
		     {"foob", "Zm9vYg"},
		     {"fooba", "Zm9vYmE"},
		     {"foobar", "Zm9vYmFy"},
		     {"\x03\xec\xff\xe0\xc1", "A-z_4ME"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		size_t len = strlen(cases[i].data), n;
		uint8_t *back;
		char *text = base64url(cases[i].data, len);
		assert_string_equal(text, cases[i].text);
		assert_int_equal(base64url_decode(text, &back, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(back, cases[i].data, len);
		free(text);
		free(back);
	}
}

static void decodes_all_lengths(void **state)
{
	uint8_t bytes[300], *back;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 197 + 11);
	for (size_t len = 0; len <= sizeof bytes; len++) {
		char *text = base64url(bytes, len);
		assert_int_equal(strlen(text), (len * 4 + 2) / 3);
		assert_int_equal(base64url_decode(text, &back, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(back, bytes, len);
		free(text);
		free(back);
	}
}

static void decodes_strictly(void **state)
{
	static const char *const bad[] = {"A",     "AAAAA", "AA:A", "AA.A",   "AA A",
					  "AA\nA", "=",     "==",   "A===",   "AA=",
					  "AAA==", "AAAA=", "=AAA", "AA==AA", "A\xc3\xa4"};
	static const char *const good[] = {"Zg==", "Zm8=", "Zm9v"};
	uint8_t *out = NULL;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (base64url_decode(bad[i], &out, &n) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	assert_null(out);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(base64url_decode(good[i], &out, &n), 0);
		assert_int_equal(n, i + 1);
		assert_memory_equal(out, "foo", n);
		free(out);
	}
	/* the standard alphabet, as some CAs give their HMAC keys */
	assert_int_equal(base64url_decode("+/+/", &out, &n), 0);
	assert_int_equal(n, 3);
	assert_memory_equal(out, "\xfb\xff\xbf", 3);
	free(out);
}

/* ---- thumbprints ---- */

/* RFC 7638 section 3.1 */
static void thumbprint_of_rfc7638(void **state)
{
	static const char n64[] =
		"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
		"BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_"
		"RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpb"
		"ISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
		"kEgU8awapJzKnqDKgw";
	struct identity_key key = {0};
	gnutls_datum_t n, e;
	uint8_t *bytes, exponent[] = {1, 0, 1};
	size_t len;
	char out[JWS_THUMBPRINT];

	(void)state;
	assert_int_equal(base64url_decode(n64, &bytes, &len), 0);
	assert_int_equal(len, 256);
	n = (gnutls_datum_t){bytes, (unsigned)len};
	e = (gnutls_datum_t){exponent, sizeof exponent};
	assert_int_equal(gnutls_pubkey_init(&key.public), 0);
	assert_int_equal(gnutls_pubkey_import_rsa_raw(key.public, &n, &e), 0);
	assert_int_equal(jws_thumbprint(&key, out), 0);
	assert_string_equal(out, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
	gnutls_pubkey_deinit(key.public);
	free(bytes);
}

static void thumbprints_with_leading_zeros(void **state)
{
	static const struct {
		const char *pem, *thumbprint;
	} cases[] = {{pem_rfc7515, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"},
		     {pem_zero_x, "0BHEpsnvd1dysQmx4r31kUDLbH_M2b_1KUXHamEt0DE"},
		     {pem_zero_y_p384, "glySFAvMT3mKR-4XYytOQHsVDjSB2lt7fkkyIKFa2NU"},
		     {pem_rsa, "xFPr8I59985Rc5VllnJfDAF-zjbqefg8M9RXssHWxng"}};
	char out[JWS_THUMBPRINT];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct identity_key *key = load(cases[i].pem);
		assert_int_equal(jws_thumbprint(key, out), 0);
		assert_string_equal(out, cases[i].thumbprint);
		key_free(key);
	}
}

static void key_authorizations(void **state)
{
	static const char *const bad[] = {"",   "../../etc/passwd", "a/b", "a.b", "a b", "a\n",
					  "a=", "\xc3\xa4"};
	struct identity_key *key = load(pem_rfc7515);
	char *out = NULL, token[258];

	(void)state;
	assert_int_equal(jws_key_authorization(key, "DGyRejmCefe7v4NfDGDKfA", &out), 0);
	assert_string_equal(out, "DGyRejmCefe7v4NfDGDKfA.oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
	free(out);
	out = NULL;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (jws_key_authorization(key, bad[i], &out) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	memset(token, '-', 257);
	token[257] = 0;
	assert_int_equal(jws_key_authorization(key, token, &out), -EINVAL);
	assert_null(out);
	token[256] = 0;
	assert_int_equal(jws_key_authorization(key, token, &out), 0);
	assert_int_equal(strlen(out), 256 + 1 + 43);
	free(out);
	key_free(key);
}

/* ---- signatures ---- */

/* The text that is signed. */
static char *input_of(json_t *jws)
{
	char *text;

	assert_true(asprintf(&text, "%s.%s", json_string_value(json_object_get(jws, "protected")),
			     json_string_value(json_object_get(jws, "payload"))) > 0);
	return text;
}

/* r and s are of half bytes each. */
static int verify_text(const struct identity_key *key, const char *text, const char *signature64, size_t half,
		       gnutls_sign_algorithm_t algorithm)
{
	gnutls_datum_t data = {(unsigned char *)(uintptr_t)text, (unsigned)strlen(text)}, der;
	uint8_t *raw;
	size_t len;

	assert_int_equal(base64url_decode(signature64, &raw, &len), 0);
	assert_int_equal(len, 2 * half);
	gnutls_datum_t r = {raw, (unsigned)half}, s = {raw + half, (unsigned)half};
	assert_int_equal(gnutls_encode_rs_value(&der, &r, &s), 0);
	int rc = gnutls_pubkey_verify_data2(key->public, algorithm, 0, &data, &der);
	gnutls_free(der.data);
	free(raw);
	return rc;
}

/* The check above agrees with RFC 7515 appendix A.3. */
static void verifies_rfc7515(void **state)
{
	static const char text[] =
		"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGF"
		"tcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
	static const char signature[] =
		"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
	struct identity_key *key = load(pem_rfc7515);

	(void)state;
	assert_int_equal(verify_text(key, text, signature, 32, GNUTLS_SIGN_ECDSA_SHA256), 0);
	assert_int_not_equal(verify_text(key, text + 1, signature, 32, GNUTLS_SIGN_ECDSA_SHA256), 0);
	key_free(key);
}

static json_t *part(json_t *jws, const char *name)
{
	uint8_t *bytes;
	size_t len;

	assert_int_equal(base64url_decode(json_string_value(json_object_get(jws, name)), &bytes, &len), 0);
	json_t *value = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
	free(bytes);
	return value;
}

static const char *text_of(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "(none)";
}

static void check_ec(const struct identity_key *key, json_t *jws, size_t half,
		     gnutls_sign_algorithm_t algorithm)
{
	char *text = input_of(jws);

	assert_int_equal(verify_text(key, text, text_of(jws, "signature"), half, algorithm), 0);
	free(text);
}

static void check_jwk(json_t *jwk, const char *curve, const char *x, const char *y)
{
	assert_string_equal(text_of(jwk, "kty"), "EC");
	assert_string_equal(text_of(jwk, "crv"), curve);
	assert_string_equal(text_of(jwk, "x"), x);
	assert_string_equal(text_of(jwk, "y"), y);
	assert_int_equal(json_object_size(jwk), 4);
}

static void signs_with_jwk(void **state)
{
	struct identity_key *key = load(pem_zero_x);
	char *out;

	(void)state;
	assert_int_equal(jws_sign(key, NULL, nonce, url, "{\"termsOfServiceAgreed\":true}", &out), 0);
	json_t *jws = json_loads(out, JSON_REJECT_DUPLICATES, NULL), *header = part(jws, "protected"),
	       *payload = part(jws, "payload");
	assert_int_equal(json_object_size(jws), 3);
	assert_string_equal(text_of(header, "alg"), "ES256");
	assert_string_equal(text_of(header, "nonce"), nonce);
	assert_string_equal(text_of(header, "url"), url);
	assert_int_equal(json_object_size(header), 4);
	check_jwk(json_object_get(header, "jwk"), "P-256", "ANwhB-E636HvK36cqmziUIzqwTt-G_0Xsgov2ssc2Js",
		  "qT1sFi8-vdK2vIiOvA_sE_fNaJhEmHH9XGe40WwanbA");
	assert_true(json_is_true(json_object_get(payload, "termsOfServiceAgreed")));
	check_ec(key, jws, 32, GNUTLS_SIGN_ECDSA_SHA256);
	json_decref(header);
	json_decref(payload);
	json_decref(jws);
	free(out);
	key_free(key);
}

/* Some of 600 signatures have an r or s that begins with zeros. */
static void signs_with_kid(void **state)
{
	static const struct {
		const char *pem, *alg;
		size_t half;
		gnutls_sign_algorithm_t algorithm;
		int times;
	} cases[] = {{pem_rfc7515, "ES256", 32, GNUTLS_SIGN_ECDSA_SHA256, 600},
		     {pem_zero_y_p384, "ES384", 48, GNUTLS_SIGN_ECDSA_SHA384, 50}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct identity_key *key = load(cases[i].pem);
		for (int k = 0; k < cases[i].times; k++) {
			char *out;
			assert_int_equal(jws_sign(key, account_url, nonce, url, "", &out), 0);
			json_t *jws = json_loads(out, 0, NULL), *header = part(jws, "protected");
			assert_string_equal(text_of(jws, "payload"), "");
			assert_string_equal(text_of(header, "alg"), cases[i].alg);
			assert_string_equal(text_of(header, "kid"), account_url);
			assert_string_equal(text_of(header, "nonce"), nonce);
			assert_string_equal(text_of(header, "url"), url);
			assert_int_equal(json_object_size(header), 4);
			check_ec(key, jws, cases[i].half, cases[i].algorithm);
			json_decref(header);
			json_decref(jws);
			free(out);
		}
		key_free(key);
	}
}

/* The same bytes as python-cryptography makes of it. */
static void signs_with_rsa(void **state)
{
	static const char expected[] =
		"{\"protected\":"
		"\"eyJhbGciOiJSUzI1NiIsImtpZCI6Imh0dHBzOi8vY2EuZXhhbXBsZS9hY2N0LzEiLCJub25jZSI6Im9Gdm5sRlAxd0"
		"loU"
		"mxZUzJqVGFYYkEiLCJ1cmwiOiJodHRwczovL2NhLmV4YW1wbGUvb3JkZXIvMSJ9\",\"payload\":\"\","
		"\"signature\":"
		"\"GXraVLVzqrMrtjCkH3ECfdi9zdfZDZRCeVKvI6ySunsjeSduTJcuiXqK5mBzRNdY1AdoryhZW5SBIMtFaODtUH52Y2"
		"8N"
		"tmt2_gQhAbrh9K9zZM-1Gw5-kj1OyJvDfSPD7iv0dF-w6K26Op2q2NtgMXdo-fCBMn2yqSEU4mPJKI7UJyxEWO-"
		"zvKEocJqh5VKCGXYdsZX_dhNcRJD11cD3DXYkZ6p7HuwW3_Ev63SAP60GcR1ddI9kI9oPfEoewRLfnyBAiHunaVLLtf_"
		"9ko42ZoeHgkM-yJPJ5VjeXYN8pxcM8udAg-iRicn5fy4VPewVFBPaw0_StPZNHB8gyxU_Og\"}";
	struct identity_key *key = load(pem_rsa);
	char *out;

	(void)state;
	assert_int_equal(jws_sign(key, account_url, nonce, url, "", &out), 0);
	assert_string_equal(out, expected);
	free(out);
	key_free(key);
}

/* Likewise. */
static void binds_an_external_account(void **state)
{
	static const char expected[] = "{\"protected\":"
				       "\"eyJhbGciOiJIUzI1NiIsImtpZCI6ImtpZC0xIiwidXJsIjoiaHR0cHM6Ly9jYS5leGF"
				       "tcGxlL2FjbWUvbmV3LWFjY291"
				       "bnQifQ\",\"payload\":"
				       "\"eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6ImY4M09KM0QyeEYxQmc4dnViOXR"
				       "MZTFnSE16Vjc2ZThUdXM5dVBI"
				       "dlJWRVUiLCJ5IjoieF9GRXpSdTltMzZITE5fdHVlNjU5TE5wWFc2cEN5U3Rpa1lqS0lXS"
				       "TVhMCJ9\",\"signature\":"
				       "\"lFz0JJzKmeG50iWhkBhHH-pzvscOnXoTVVJ1jSgXEMM\"}";
	static const char mac[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
			  new_account[] = "https://ca.example/acme/new-account";
	struct identity_key *key = load(pem_rfc7515);
	char *out = NULL;

	(void)state;
	assert_int_equal(jws_eab(key, "kid-1", mac, new_account, &out), 0);
	assert_string_equal(out, expected);
	free(out);
	out = NULL;
	assert_int_equal(jws_eab(key, "kid-1", "not base64url!", new_account, &out), -EINVAL);
	assert_int_equal(jws_eab(key, "kid-1", "", new_account, &out), -EINVAL);
	assert_int_equal(jws_eab(key, "kid\xff", mac, new_account, &out), -EINVAL);
	assert_null(out);
	key_free(key);
}

static void changes_keys(void **state)
{
	struct identity_key *old_key = load(pem_zero_x), *new_key = load(pem_rfc7515);
	char *out;

	(void)state;
	assert_int_equal(jws_key_change(old_key, new_key, account_url, url, &out), 0);
	json_t *jws = json_loads(out, JSON_REJECT_DUPLICATES, NULL), *header = part(jws, "protected"),
	       *payload = part(jws, "payload");
	/* signed by the new key, which stands in the header; no nonce in there */
	assert_string_equal(text_of(header, "alg"), "ES256");
	assert_string_equal(text_of(header, "url"), url);
	assert_int_equal(json_object_size(header), 3);
	check_jwk(json_object_get(header, "jwk"), "P-256", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
		  "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
	check_ec(new_key, jws, 32, GNUTLS_SIGN_ECDSA_SHA256);
	assert_string_equal(text_of(payload, "account"), account_url);
	check_jwk(json_object_get(payload, "oldKey"), "P-256", "ANwhB-E636HvK36cqmziUIzqwTt-G_0Xsgov2ssc2Js",
		  "qT1sFi8-vdK2vIiOvA_sE_fNaJhEmHH9XGe40WwanbA");
	assert_int_equal(json_object_size(payload), 2);
	json_decref(header);
	json_decref(payload);
	json_decref(jws);
	free(out);
	key_free(old_key);
	key_free(new_key);
}

/* What a CA sends may hold anything: it stays inside its JSON string. */
static void hostile_texts(void **state)
{
	static const char evil[] = "https://ca.example/\",\"alg\":\"none\\\n\x01";
	struct identity_key *key = load(pem_rfc7515);
	char *out = NULL;

	(void)state;
	assert_int_equal(jws_sign(key, evil, evil, evil, "{}", &out), 0);
	json_t *jws = json_loads(out, JSON_REJECT_DUPLICATES, NULL), *header = part(jws, "protected");
	assert_string_equal(text_of(header, "alg"), "ES256");
	assert_string_equal(text_of(header, "kid"), evil);
	assert_string_equal(text_of(header, "url"), evil);
	json_decref(header);
	json_decref(jws);
	free(out);
	out = NULL;
	assert_int_equal(jws_sign(key, "\xff", nonce, url, "{}", &out), -EINVAL);
	assert_int_equal(jws_sign(key, NULL, "\xff", url, "{}", &out), -EINVAL);
	assert_int_equal(jws_sign(key, NULL, nonce, "\xc0\x80", "{}", &out), -EINVAL);
	assert_int_equal(jws_key_change(key, key, "\xff", url, &out), -EINVAL);
	assert_null(out);
	key_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes),
		cmocka_unit_test(decodes_all_lengths),
		cmocka_unit_test(decodes_strictly),
		cmocka_unit_test(thumbprint_of_rfc7638),
		cmocka_unit_test(thumbprints_with_leading_zeros),
		cmocka_unit_test(key_authorizations),
		cmocka_unit_test(verifies_rfc7515),
		cmocka_unit_test(signs_with_jwk),
		cmocka_unit_test(signs_with_kid),
		cmocka_unit_test(signs_with_rsa),
		cmocka_unit_test(binds_an_external_account),
		cmocka_unit_test(changes_keys),
		cmocka_unit_test(hostile_texts),
	};
	return cmocka_run_group_tests_name("jws", tests, NULL, NULL);
}
