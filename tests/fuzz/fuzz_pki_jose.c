/* SPDX-License-Identifier: MIT */
/* fuzz_pki_jose - any bytes as a provisioner's encrypted key, and as a token: what is taken is harmless to
 * show, and a key signs a token that is read again. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "pki/join/jose.h"

enum { ROUNDS = 2000 }; /* of PBKDF2: fast enough to try many */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
	const char *end = memchr(text, 0, size);

	if (!end)
		abort();
	for (; text < end; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			abort();
}

static void check_key(const struct jose_key *key)
{
	struct ss_strbuf token = {0};
	struct jose_token read;
	struct fault f = {""};
	json_t *claims = json_pack("{s:s, s:s, s:I}", "sub", "device-1", "aud", "https://ca.example/1.0/sign",
				   "exp", (json_int_t)42);

	if (jose_token_sign(key, claims, &token, &f) == 0 &&
	    (jose_token_read(token.bytes, token.len, &read, &f) || read.expires != 42 ||
	     strcmp(read.subject, "device-1") != 0))
		abort();
	json_decref(claims);
	ss_strbuf_done(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ss_strbuf password = {0};
	struct jose_key key;
	struct jose_token token;
	struct fault f = {""};

	ss_strbuf_text(&password, "password");
	int rc = jose_key_open((const char *)data, size, &password, ROUNDS, &key, &f);
	check_text(f.text, sizeof f.text);
	if (rc == 0)
		check_key(&key);
	else if (key.private || (rc == -EINVAL && !*f.text))
		abort();
	jose_key_done(&key);
	f.text[0] = '\0';
	rc = jose_token_read((const char *)data, size, &token, &f);
	check_text(f.text, sizeof f.text);
	if (rc == 0) {
		check_text(token.subject, sizeof token.subject);
		check_text(token.audience, sizeof token.audience);
		check_text(token.root, sizeof token.root);
	}
	ss_strbuf_done(&password);
	return 0;
}
