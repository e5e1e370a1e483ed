/* SPDX-License-Identifier: MIT */
/* module - what tls_openssl.so exports. */
#include "core/tls/openssl/openssl.h"

__attribute__((visibility("default"))) extern const struct tls_trial TLS_TRIAL_ENTRY;

const struct tls_trial TLS_TRIAL_ENTRY = {
	.struct_size = sizeof(struct tls_trial),
	.version = PACKAGE_VERSION,
	.key = openssl_key,
	.identity = openssl_identity,
	.cas = openssl_cas,
};
