/* SPDX-License-Identifier: MIT */
/* fuzz_tls_peer - any bytes as certificates, for servers and clients: nobody gets in under a name that is not
 * allowed. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <semstreams/ext/tls.h>
#include "core/tls/tls_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"good.local", "semstreams-b.local"};
static const char *const hosts[] = {"good.local", "a.example.com", "127.0.0.1", "[::1]", "",
				    NULL,         "b\xc3\xbc.de",  "x."};

static bool is_listed(const char *name)
{
	return strcmp(name, names[0]) == 0 || strcmp(name, names[1]) == 0;
}

/* The input: options, then certificates, each behind its length in two bytes; what is left is the last one.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_peer_policy policy = {.min_version = 0x0303, .names = names};
	struct ss_der chain[3] = {{0}};
	uint32_t n = 0;
	char name[64] = "not written", why[300] = "not written";
	int32_t fail = -2;

	if (size < 3)
		return 0;
	policy.role = data[0] & 1 ? SS_TLS_CLIENT : SS_TLS_SERVER;
	policy.flags = SS_TLS_VERIFY_PEER | (data[0] & 2 ? SS_TLS_REQUIRE_PEER : 0u);
	policy.n_names = data[0] & 4 ? 2 : 0;
	int32_t error = (int32_t)(data[1] % 10) - 1;
	const char *host = hosts[data[2] % (sizeof hosts / sizeof hosts[0])];
	for (data += 3, size -= 3; n < 3 && size > 0; n++) {
		size_t len = size > 2 ? (size_t)data[0] << 8 | data[1] : 0;
		if (len == 0 || len > size - 2) {
			chain[n] = (struct ss_der){data, size};
			size = 0;
		} else {
			chain[n] = (struct ss_der){data + 2, len};
			data += 2 + len;
			size -= 2 + len;
		}
	}
	/* within the lifetime of what is in the corpus */
	const int64_t now = 1763287200;
	int rc = tls_peer_check(&policy, chain, n, error, host, now, name, sizeof name, &fail, why,
				sizeof why);

	if (!memchr(name, 0, sizeof name) || !memchr(why, 0, sizeof why))
		abort();
	for (const char *s = name; *s; s++)
		if ((unsigned char)*s < 0x20)
			abort();
	if (rc == -EACCES) {
		if (fail < 0 || fail >= SS_TLS_FAILS || !*why || *name)
			abort();
		return 0;
	}
	if (rc || error != -1 || *why ||
	    (n == 0 && (*name || policy.flags & SS_TLS_REQUIRE_PEER || policy.role)))
		abort();
	if (n && policy.n_names && policy.role == SS_TLS_SERVER && !is_listed(name))
		abort();
	return 0;
}
