/* SPDX-License-Identifier: MIT */
/* setup - what every provider of renewed certificates is told: for which names, where they are kept, when
 * they are renewed.  Control thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>

#define SETUP_MAX_NAMES 100
#define SETUP_SECOND    INT64_C(1000000000) /* ns; options are in ns, decisions in seconds */
#define SETUP_DAY       (86400 * SETUP_SECOND)

/* Immutable once made. */
struct setup {
	int64_t renew_before;   /* s before the end; 0: renew_percent says it */
	int64_t renew_percent;  /* of the lifetime that is left when it is renewed */
	int64_t check_interval; /* s */
	bool ari;               /* the CA may choose the moment (RFC 9773) */
	const char *names[SETUP_MAX_NAMES];
	size_t n_names;
	char shown_url[256]; /* the CA's, as messages have it */
	char *names_json;    /* ["a.local","b.local"] */
	char *path;          /* storage_path without slashes at its end */
	char *chain_path;    /* of certificate.pem, for messages */
	char *fingerprint; /* all settings that a failure may be due to, without secrets; begins with the CA's
			      URL and a blank */
};

/* "domains", a JSON array of names: each as CAs and certificates have it.  0, -EINVAL after config_error(),
 * -ENOMEM. */
int32_t setup_read_names(struct setup *, const struct ss_host *, const char *json);
/* The texts, when the names are known; fingerprint is the caller's.  0, -ENOMEM. */
int setup_make_texts(struct setup *, const char *url, const char *storage_path);
void setup_done(struct setup *);
/* Tell the host whom the component asks for certificates: the URL with path behind it; ca: a file with the
 * CAs to trust there, "any"; NULL: those of the host.  0, -ENOMEM. */
int32_t setup_claim_ca(const struct ss_host *, const char *pointer, const char *url, const char *path,
		       const char *ca);

/* Why it is not the https URL of a CA; NULL: it is.  example: as in "must be " example; protocol: "ACME". */
const char *setup_url_fault(const char *url, const char *example, const char *protocol, char *why,
			    size_t size);
