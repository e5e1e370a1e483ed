/* SPDX-License-Identifier: MIT */
/* profile - see profile.h. */
#include "profile.h"

#include <stddef.h>
#include <gnutls/x509.h>

enum { HOUR = 3600, DAY = 24 * HOUR };

const struct profile profile_root = {.name = "root-ca",
				     .key_type = "rsa4096",
				     .life_s = 1825 * DAY,
				     .key_usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
				     .ca = true,
				     .path_len = 2};
const struct profile profile_intermediate = {.name = "intermediate-ca",
					     .key_type = "rsa2048",
					     .life_s = 365 * DAY,
					     .key_usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
					     .ca = true,
					     .path_len = 1};
const struct profile profile_sub_ca = {.name = "sub-ca",
				       .key_type = "p256",
				       .life_s = 730 * DAY,
				       .key_usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
				       .ca = true,
				       .path_len = 0};
const struct profile profile_service = {.name = "service-leaf",
					.key_type = "p256",
					.life_s = 365 * DAY,
					.key_usage =
						GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT,
					.server = true,
					.client = true};
/* so short that not renewing it is as good as revoking it */
const struct profile profile_device = {.name = "device-leaf",
				       .key_type = "p256",
				       .life_s = DAY,
				       .key_usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
				       .client = true};
const struct profile *const profiles[] = {&profile_root,    &profile_intermediate, &profile_sub_ca,
					  &profile_service, &profile_device,       NULL};
