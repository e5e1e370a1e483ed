/* SPDX-License-Identifier: MIT */
/*
 * store - storage_path: account.json, account.key, certificate.pem, certificate.key and state.json.  Every
 * file is complete or absent.  Certificate and key change together: both are links through "current" to one
 * folder per generation, and "current" is exchanged in one step.  Plain files that an operator put in their
 * place are read as well.  Reading is safe at any time, in any process; ..._save needs the lock.  Errors are
 * -errno, with a sentence in store_why().
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "x509.h"

struct store;

/* Makes the folder (0700) if need be.  0; -errno with a sentence in why ("storage_path /data/acme is not
 * writable by user semstreams: ..."). */
int store_open(const char *path, struct store **out, char *why, size_t why_size);
void store_free(struct store *);
/* Of the last error: a sentence, which names the file. */
const char *store_why(const struct store *);
/* What an operator should know about the folder, one sentence; NULL: nothing. */
const char *store_warning(const struct store *);

/* One at a time, over all processes: an OFD lock, gone with its holder.  0, -EAGAIN: somebody else has it. */
int store_lock(struct store *);
void store_unlock(struct store *);

struct store_account {
	char *email, *url; /* url NULL: not registered (yet) */
	char *directory;   /* for which CA */
	json_t *body;      /* the CA's account object; NULL: unknown */
	char *key_pem;
	char *pending_key_pem; /* a roll-over was begun and may have reached the CA */
};
/* 0; -ENOENT: none; -EINVAL: broken. */
int store_account_load(struct store *, struct store_account *out);
/* The key is on disk before the registration. */
int store_account_save(struct store *, const struct store_account *);
void store_account_done(struct store_account *);

/* The certificate as it lies in the folder, with its key. */
struct stored_cert {
	bool exists;
	bool names_match; /* it is for exactly the names asked about */
	char *key_pem;
	struct chain_info chain;
};
/* 0; -ENOENT: none; -EINVAL: broken, or they do not match.  *out is to be released in any case. */
int stored_cert_load(struct store *, const char *const *names, size_t n, struct stored_cert *out);
/* Both or none, also through kill -9 and a full disk; what somebody else wrote meanwhile is kept in a folder
 * replaced-..., and store_warning() says so. */
int stored_cert_save(struct store *, const char *chain_pem, const char *key_pem);
void stored_cert_done(struct stored_cert *);
/* Is there room for another?  Asked before a CA is: what it gives once would be lost.  0; -errno. */
int store_has_room(struct store *);
/* Has somebody else (the command line, another process) changed it since it was last loaded or saved here? */
bool stored_cert_changed(struct store *);

/* What must survive a restart. */
struct store_state {
	char *order_url, *order_key_pem; /* an order under way; NULL: none.  The key is written before the CSR
					    is sent */
	uint32_t failures;               /* in a row */
	int64_t next_try;                /* not before, seconds since 1970; 0: at once */
	char *last_error;                /* NULL: none */
	int64_t last_success;
	char *ari_id;                                  /* of the certificate ari_at belongs to */
	int64_t ari_at, ari_start, ari_end, ari_check; /* chosen moment, window, next look; 0: none */
	int64_t jitter;                                /* seconds, of the present certificate */
	bool revoked;                                  /* the present certificate was revoked by us */
	int64_t ca_try; /* the CA asked not to come before; unlike next_try nothing overrides it */
	char *config;   /* what was asked of which CA when next_try was set; NULL: unknown */
};
/* Nothing there: zeros, 0.  After an error zeros, too. */
int store_state_load(struct store *, struct store_state *out);
int store_state_save(struct store *, const struct store_state *);
void store_state_done(struct store_state *);
/* Has it been written, here or elsewhere, since this was last asked? */
bool store_state_changed(struct store *);

/* For the texts above: a copy in place of *to; false: out of memory, and *to is as it was. */
bool text_set(char **to, const char *from);
