/* SPDX-License-Identifier: MIT */
/* semstreams/ext/tls.h - TLS identities for whoever makes connections.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_TLS_H
#define SEMSTREAMS_EXT_TLS_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The TLS identity that "security.tls" describes, as PEM, in immutable generations: for components that make
 * or accept connections.
 */
#define SS_TLS "semstreams.tls/1"

/* Roles. */
enum { SS_TLS_SERVER = 0, SS_TLS_CLIENT = 1 };

/* Flags of a generation. */
enum {
	SS_TLS_REQUIRE_PEER = 1, /* a server refuses clients without a certificate */
	SS_TLS_VERIFY_PEER = 2,  /* a certificate that a peer shows must verify */
	SS_TLS_SYSTEM_CA = 4,    /* trust the CAs of the system, too */
	SS_TLS_INSECURE = 8,     /* a client does not verify the server at all */
	SS_TLS_PENDING = 16      /* the first certificate is being obtained: a client may wait for it */
};

/* What a signer is asked for. */
enum {
	/* ECDSA over a digest of 32, 48 or 64 bytes (SHA-256, SHA-384, SHA-512); the signature is the DER of
	 * ECDSA-Sig-Value. */
	SS_TLS_SIGN_ECDSA = 1
};

/*
 * A private key that nobody sees, as one in a token: whoever shakes hands has it sign.  Counted, constant but
 * for the count, and independent of the instance that made it.  This struct may grow.
 */
struct ss_tls_signer {
	uint32_t struct_size, reserved;
	void *self; /* the first argument of its functions */
	/*
	 * [any] Sign a digest; several threads may ask at once.  what is SS_TLS_SIGN_...: -ENOTSUP for what
	 * the key cannot do.  How many bytes of signature, which has room for size, were written; or -errno:
	 * then the handshake fails.  The loop on which the handshake runs waits meanwhile, and with it all
	 * its connections: answer within milliseconds, and give up (-ETIMEDOUT) within a second.
	 */
	int32_t (*sign)(void *self, uint32_t what, const uint8_t *digest, size_t len, uint8_t *signature,
			size_t size);
	/* [any] Add a reference. */
	void (*ref)(void *self);
	/* [any] Give one back; also after destroy() of the instance. */
	void (*unref)(void *self);
};

/* One generation, immutable; all of it is valid until release(). */
struct ss_tls_material {
	uint32_t struct_size;
	uint32_t role;                 /* SS_TLS_SERVER or SS_TLS_CLIENT */
	uint64_t generation;           /* grows with every change */
	const char *chain_pem;         /* leaf first; NULL: no certificate, so handshakes of a server fail */
	const char *key_pem;           /* PKCS #8, or as openssl writes it; NULL with chain_pem, or if
					* there is a signer */
	const char *ca_pem;            /* trusted CAs, all files in one; NULL: none */
	int64_t not_before, not_after; /* of the leaf, seconds since 1970; 0 without a leaf */
	uint32_t min_version;          /* 0x0303: TLS 1.2, 0x0304: TLS 1.3 */
	uint32_t flags;                /* SS_TLS_..., combined by | */
	const char *source; /* of the certificate, for messages: "manual", "ACME"; NULL without one */
	/* Has the key instead of key_pem; NULL: none.  A reference of the generation's: who needs it for
	 * longer takes one.  Only for those who called use_signers(); others have no certificate then.
	 * Younger than the rest: see SS_KNOWS. */
	const struct ss_tls_signer *signer;
};

/* One certificate in DER. */
struct ss_der {
	const uint8_t *data; /* borrowed during the call */
	size_t len;          /* bytes */
};

/* Why a handshake was refused; rows of semstreams_mtls_handshake_failures_total{reason}. */
enum {
	SS_TLS_FAIL_NO_CERT = 0,   /* the peer has shown no certificate */
	SS_TLS_FAIL_UNKNOWN_CA,    /* no trusted CA has signed it */
	SS_TLS_FAIL_EXPIRED,       /* its time is over */
	SS_TLS_FAIL_NOT_YET_VALID, /* its time has not begun */
	SS_TLS_FAIL_PURPOSE,       /* it is not for this role */
	SS_TLS_FAIL_NAME,          /* none of its names is welcome, or the one that was dialed */
	SS_TLS_FAIL_VERSION,       /* no version of TLS is common to both */
	SS_TLS_FAIL_OTHER,         /* anything else */
	SS_TLS_FAIL_REVOKED,       /* in a certificate revocation list */
	SS_TLS_FAIL_CRL_EXPIRED,   /* the list that would tell is out of date */
	SS_TLS_FAILS               /* how many there are */
};
/* What the host has under SS_TLS. */
struct ss_tls {
	uint32_t struct_size, reserved;
	/* [any] 1: security.tls switches TLS on for this role; 0: it does not. */
	int32_t (*enabled)(void *self, uint32_t role);
	/* [any] Get the newest generation, valid until the caller gives it back with release().  NULL: TLS is
	 * off for the role. */
	const struct ss_tls_material *(*acquire)(void *self, uint32_t role);
	/* [any] Give a generation back.  NULL is allowed. */
	void (*release)(void *self, const struct ss_tls_material *);
	/* [inst] Have changed(arg) called, [inst], after each new generation: another certificate, other
	 * CAs, names or revocation lists.  Take it for new handshakes, and ask recheck_peer() about the peers
	 * that are connected. -EALREADY: the instance watches already; -ENOENT: there is no identity. */
	int32_t (*watch)(void *self, void (*changed)(void *arg), void *arg);
	/* [inst] End that; when this returns, changed is not called again. */
	void (*unwatch)(void *self);
	/*
	 * [any] Decide about a peer: chain as it was shown, leaf first (n 0: none), error = X.509
	 * verification's verdict so far as SS_TLS_FAIL_... or -1 for good.  A server asks whether a name of
	 * the leaf is in allowed_client_cns; a client whether the leaf is good for host.  The names of a leaf
	 * are its DNS SANs, its CNs only if it has none, and name constraints apply.  0: welcome, name is
	 * filled in (the entry that matched; else the first name).  Else -EACCES, *fail = SS_TLS_FAIL_...,
	 * why = one sentence for the log in the operator's words ("certificate signed by unknown authority:
	 * ...", "client certificate CN 'x' not in allowed list", "certificate expired 2025-11-16T10:00:00Z").
	 */
	int32_t (*check_peer)(void *self, uint32_t role, const struct ss_der *chain, uint32_t n,
			      int32_t error, const char *host, char *name, size_t name_size, int32_t *fail,
			      char *why, size_t why_size);
	/* [any] Count a refused handshake. */
	void (*count_failure)(void *self, uint32_t role, int32_t fail);
	/*
	 * [any] Is a peer that check_peer() let in still welcome?  chain and host as they were then, name as
	 * it was filled in.  The host verifies the chain anew, with the CAs, names and time of now.  0: it
	 * is, and *valid_until (seconds since 1970) is when the answer may change by time alone; else -EACCES
	 * with fail and why as in check_peer(): close the connection.  Such a peer is counted by the host
	 * (semstreams_tls_revoked_peers_total).  Ask after the handshake, whenever changed() of watch() runs,
	 * and at *valid_until.  Younger than the rest: see SS_KNOWS.
	 */
	int32_t (*recheck_peer)(void *self, uint32_t role, const struct ss_der *chain, uint32_t n,
				const char *host, const char *name, int64_t *valid_until, int32_t *fail,
				char *why, size_t why_size);
	/* [any] 1 if a server's list of allowed names (allowed_client_cns) has this one, else 0: it belongs
	 * to who shows its certificate, and must not be given to a peer without one.  Younger than the rest:
	 * see SS_KNOWS. */
	int32_t (*listed)(void *self, const char *name);
	/* [inst] Say, in create(), that the instance uses ss_tls_material.signer.  Else a certificate whose
	 * key signs elsewhere is none in what acquire() returns, and the host says so in the log.  Younger
	 * than the rest: see SS_KNOWS. */
	void (*use_signers)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
