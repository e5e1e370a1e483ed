/* SPDX-License-Identifier: MIT */
/* fuzz_acme_http_request - any bytes as a request of http-01: only tokens get out, and it does not matter in
 * which pieces they come. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/acme_tls/client/responder.h"
#include "plugins/identity/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text, size_t len, int status, const struct responder_request *r)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	if (status != 0 && status != 200 && status != 400 && status != 404 && status != 431)
		abort();
	if (status == 0 && len >= RESPONDER_REQUEST_MAX)
		abort();
	if ((status == 200) != (r->token != NULL))
		abort();
	if (!r->token)
		return;
	if (r->token < text || r->token_len == 0 || r->token_len > JWS_TOKEN_MAX ||
	    r->token + r->token_len > text + len)
		abort();
	for (size_t i = 0; i < r->token_len; i++)
		if (!r->token[i] || !strchr(letters, r->token[i]))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct responder_request whole, part;
	int status = responder_request(text, size, &whole);

	check(text, size, status, &whole);
	/* in pieces: the first answer stays */
	size_t step = size / 40 + 1;
	for (size_t n = 0; n < size; n += step) {
		char *copy = malloc(n + !n);
		if (n)
			memcpy(copy, text, n);
		int early = responder_request(copy, n, &part);
		check(copy, n, early, &part);
		if (early &&
		    (early != status || part.token_len != whole.token_len || part.head != whole.head))
			abort();
		free(copy);
	}
	return 0;
}
