/* SPDX-License-Identifier: MIT */
/* semstreams/ext/tls-provider.h - TLS identities from a plugin.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_TLS_PROVIDER_H
#define SEMSTREAMS_EXT_TLS_PROVIDER_H

#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Providers of TLS identities.  "mode": "acme" in security.tls.server or .client makes the host create an
 * instance of the type acme_tls (the mode and "_tls"; its kind is SS_KIND_PROVIDER).  Its config is the
 * member of that section with the name of the mode ("acme": {...}).  Providers start before all other
 * components and stop after them.  If the instances of both sections have the same identity, one serves both.
 * "enabled": false in the config keeps the host from creating an instance, so the option table must have that
 * key.
 */

/* What a provider has, by ss_component.extension; required. */
#define SS_TLS_PROVIDER "semstreams.tls-provider/1"
/* The interface under that id. */
struct ss_tls_provider {
	uint32_t struct_size, reserved;
	/* [ctl] What distinguishes this identity from others, such as the folder of its key; valid as long as
	 * the instance. */
	const char *(*identity)(void *self);
	/*
	 * [ctl] Instead of start(), in a process of its own: execute a command of an operator, "semstreams
	 * cert VERB ...", where argv[0] is "status", "issue", "renew", "revoke", "rollover" or the like.  A
	 * host may be running on the same storage.  print(arg, text), called before this returns, writes to
	 * standard output; errors are logged.  Returns the exit status.  The host runs no loop, so SS_LOOP
	 * cannot be used.  May be NULL.
	 */
	int32_t (*command)(void *self, uint32_t argc, const char *const *argv,
			   void (*print)(void *arg, const char *text), void *arg);
	/* [any] After start: an operator has mended something (SIGHUP), so what waits for its next attempt is
	 * tried now.  May be NULL. */
	void (*retry)(void *self);
};

/* What the host has for providers, by ss_host.query. */
#define SS_TLS_PUBLISH "semstreams.tls-publish/1"
/* The service under that id. */
struct ss_tls_publish {
	uint32_t struct_size, reserved;
	/*
	 * [inst] In start or later: use this certificate chain, leaf first, and its key from now on; PEM,
	 * copied. source names the origin in messages ("ACME").  -EINVAL, and why: they do not match, cannot
	 * be read or have expired, and what was in use stays in use.  The pair that is in use already changes
	 * nothing.  When a certificate replaces another one the host logs "Hot-reloaded certificate without
	 * downtime"; the provider logs where it stores it.
	 */
	int32_t (*publish)(void *self, const char *source, const char *chain_pem, const char *key_pem,
			   char *why, size_t why_size);
	/*
	 * [inst] In start or later: no valid certificate is available, for this reason (copied).  The host
	 * uses cert_file and key_file, where they are configured, and is degraded; else it is not ready and
	 * handshakes fail.  It logs and shows that itself.  publish() ends it.  Before the first call of
	 * either function the host is not ready.
	 */
	void (*unavailable)(void *self, const char *reason);
	/*
	 * [any] From start or command on: the files of CAs that security.tls.client trusts (its ca_files),
	 * NULL-terminated, valid as long as the instance: for a provider whose own config does not say whom
	 * to trust when it connects to its CA.  Empty where the instance does not serve clients or ca_files
	 * is not set; then the CAs of the system are trusted.
	 */
	const char *const *(*ca_files)(void *self);
	/*
	 * [inst] As publish(), but the key stays where it is and signs by signer (borrowed; the host takes
	 * references for as long as a connection may need it).  The certificate must have an EC key on P-256,
	 * P-384 or P-521.  The host tries it in a handshake with itself for each role, so this signs at once.
	 * The same chain with the same signer changes nothing; with another signer, that one takes its place.
	 * 0; -EINVAL, and why, as publish(); -ENOMEM.
	 * Younger than the rest: see SS_KNOWS.
	 */
	int32_t (*publish_signer)(void *self, const char *source, const char *chain_pem,
				  const struct ss_tls_signer *signer, char *why, size_t why_size);
};

#ifdef __cplusplus
}
#endif
#endif
