/* SPDX-License-Identifier: MIT */
/* semstreams/ext/tls-provider.h - TLS identities from a plugin.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_TLS_PROVIDER_H
#define SEMSTREAMS_EXT_TLS_PROVIDER_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Providers of TLS identities.  "mode": "acme" in security.tls.server or .client makes the host start an
 * instance of the component type acme_tls (mode + "_tls", kind SS_KIND_PROVIDER), whose config is the
 * section's member of the mode's name
 * ("acme": {...}).  Providers start before everything else and stop after it.  Sections whose instances have
 * the same identity share one instance.  "enabled": false in the config keeps the host from making an
 * instance at all; the option table has to know the key.
 */
#define SS_TLS_PROVIDER "semstreams.tls-provider/1" /* from the instance, by extension(); needed */
struct ss_tls_provider {
	uint32_t struct_size, reserved;
	/* [ctl] What tells one identity from another, as the folder its key is kept in; valid as long as the
	 * instance. */
	const char *(*identity)(void *self);
	/*
	 * [ctl] Instead of start(), in a process of its own: carry out an operator's command ("semstreams
	 * cert VERB ..."), argv[0] = "status", "issue", "renew", "revoke", "rollover", ...; beside a running
	 * host, on the same storage.  print(arg, text) takes what goes to standard output.  Returns the exit
	 * status; errors are logged.  There is no loop of the host's, so SS_LOOP is of no use here.  May be
	 * NULL.
	 */
	int32_t (*command)(void *self, uint32_t argc, const char *const *argv,
			   void (*print)(void *arg, const char *text), void *arg);
	/*
	 * [any] After start: an operator has mended something (SIGHUP); whatever waits for its next attempt
	 * is tried now.  May be NULL.
	 */
	void (*retry)(void *self);
};
#define SS_TLS_PUBLISH "semstreams.tls-publish/1" /* for providers, by query() */
struct ss_tls_publish {
	uint32_t struct_size, reserved;
	/*
	 * [inst] In start or later: a certificate to be used from now on, leaf first, and its key, PEM;
	 * copied.  source goes into messages ("ACME").  -EINVAL with why: they do not match, cannot be read,
	 * or have expired; what was in use stays.  The same pair again is no news.  When it takes the place
	 * of another the host logs "Hot-reloaded certificate without downtime"; in which file it is kept the
	 * provider says itself.
	 */
	int32_t (*publish)(void *self, const char *source, const char *chain_pem, const char *key_pem,
			   char *why, size_t why_size);
	/*
	 * [inst] In start or later: there is none that is valid, and why.  The host falls back to cert_file
	 * and key_file where they are configured and is degraded, else it is unready and handshakes fail; it
	 * logs and shows this itself.  publish() ends it.  Until the first call of either the host is
	 * unready.
	 */
	void (*unavailable)(void *self, const char *reason);
	/*
	 * [any] From start or command on: the files with the CAs that security.tls.client trusts (its
	 * ca_files), NULL-ended, valid as long as the instance: for a provider that was not told whom to
	 * trust when it talks to its CA.  None, if the instance does not serve clients or ca_files is not
	 * set: the system's pool.
	 */
	const char *const *(*ca_files)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
