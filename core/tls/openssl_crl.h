/* SPDX-License-Identifier: MIT */
/* openssl_crl - see openssl_crl.c; a part of the module that core/tls/tls_trial.h loads. */
#pragma once
#include "core/tls/tls_crl.h"

int openssl_crl_read(const uint8_t *der, size_t len, const struct cert_list *issuers, struct tls_crl *out,
		     char *why, size_t why_size);
