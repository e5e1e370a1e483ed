/* SPDX-License-Identifier: MIT */
/* ws_tls_verdict - between OpenSSL's verdicts on a chain and SS_TLS_FAIL_...  Any thread. */
#pragma once
#include <stdint.h>

/* Of a verdict X509_V_...: SS_TLS_FAIL_..., -1 if it is good. */
int32_t ws_tls_fail_of_error(long error);
/* The verdict that makes OpenSSL send the alert that fits. */
int ws_tls_error_of_fail(int32_t fail);
