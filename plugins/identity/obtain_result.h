/* SPDX-License-Identifier: MIT */
/* obtain_result - how an attempt to obtain a certificate ended, whichever CA it was. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "x509.h"

enum obtain_fail {
	OBTAIN_OK = 0,
	OBTAIN_UNREACHABLE,      /* "failed to connect to ACME server" */
	OBTAIN_ACCOUNT,          /* "account registration failed" */
	OBTAIN_CHALLENGE_FAILED, /* "HTTP-01 challenge failed" / "challenge validation failed" */
	OBTAIN_RATE_LIMITED,
	OBTAIN_REFUSED, /* the CA says no: a problem document */
	OBTAIN_BROKEN,  /* the CA's answer makes no sense */
	OBTAIN_STORAGE, /* storage_path cannot be read or written */
	OBTAIN_TIMEOUT,
	OBTAIN_LOCAL /* of this machine: port in use, out of memory, ... */
};

/* Texts are whose the maker of the result says. */
struct obtain_result {
	enum obtain_fail fail;
	char why[900];       /* one sentence in the operator's words, with the remedy where one is known */
	bool permanent;      /* will not get better by itself: try rarely */
	int64_t retry_after; /* seconds that the CA asks to wait, 0: none; at most a day */
	/* for the names and the key; NULL after a failure */
	struct chain_info chain;
	char *key_pem;
	/* of ACME's renewal information: the window, and the CA's page about it (may be NULL) */
	int64_t ari_start, ari_end;
	char *ari_url;
};
