/* SPDX-License-Identifier: MIT */
#include "token_key.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <gnutls/abstract.h>
#include <gnutls/pkcs11.h>

/*
 * A module's call takes as long as it likes.  So it runs in a thread of the key's own, and whoever shakes
 * hands waits for it until a deadline.  One signature at a time, as a session of a token takes one operation.
 */
struct token_key {
	struct ss_tls_signer signer;
	gnutls_privkey_t key;
	atomic_bool failed;
	atomic_uint references;

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	enum { IDLE, ASKED, ANSWERED } state;
	bool abandoned; /* nobody waits for the answer any more */
	bool over;      /* no references are left */
	bool orphan;    /* over, and nobody waits for the thread: it frees the key */
	gnutls_sign_algorithm_t algorithm;
	uint8_t digest[64];
	unsigned digest_len;
	int rc;              /* the answer */
	gnutls_datum_t made; /* the signature, GnuTLS's memory */
};

static void free_key(struct token_key *k)
{
	if (k->key)
		gnutls_privkey_deinit(k->key);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

static void ref(void *self)
{
	struct token_key *k = self;

	atomic_fetch_add_explicit(&k->references, 1, memory_order_relaxed);
}

static void unref(void *self)
{
	struct token_key *k = self;

	if (!k || atomic_fetch_sub_explicit(&k->references, 1, memory_order_acq_rel) != 1)
		return;
	if (k->has_thread) {
		const pthread_t thread = k->thread;
		pthread_mutex_lock(&k->lock);
		k->over = true;
		const bool orphan = k->orphan = k->abandoned;
		pthread_cond_broadcast(&k->changed);
		pthread_mutex_unlock(&k->lock);
		if (orphan) {
			pthread_detach(thread);
			return;
		}
		pthread_join(thread, NULL);
	}
	free_key(k);
}

/* ---- signing ---- */

/* The call itself; lock is held, but for the time of it. */
static void call_token(struct token_key *k)
{
	const gnutls_datum_t digest = {.data = k->digest, .size = k->digest_len};
	gnutls_datum_t made = {NULL, 0};

	pthread_mutex_unlock(&k->lock);
	int rc = gnutls_privkey_sign_hash2(k->key, k->algorithm, 0, &digest, &made);
	pthread_mutex_lock(&k->lock);
	if (k->abandoned) {
		gnutls_free(made.data);
		k->abandoned = false;
		k->state = IDLE;
	} else {
		k->rc = rc;
		k->made = made;
		k->state = ANSWERED;
	}
	pthread_cond_broadcast(&k->changed);
}

static void *serve(void *arg)
{
	struct token_key *k = arg;

	pthread_mutex_lock(&k->lock);
	while (!k->over) {
		if (k->state == ASKED)
			call_token(k);
		else
			pthread_cond_wait(&k->changed, &k->lock);
	}
	const bool orphan = k->orphan;
	pthread_mutex_unlock(&k->lock);
	if (orphan)
		free_key(k);
	return NULL;
}

/* Until the state is there.  false: the deadline has passed. */
static bool wait_until(struct token_key *k, int state, const struct timespec *deadline)
{
	while ((int)k->state != state)
		if (pthread_cond_timedwait(&k->changed, &k->lock, deadline) == ETIMEDOUT)
			return (int)k->state == state;
	return true;
}

/* By the size of the digest; UNKNOWN for others. */
static gnutls_sign_algorithm_t algorithm(size_t len)
{
	switch (len) {
	case 32:
		return GNUTLS_SIGN_ECDSA_SHA256;
	case 48:
		return GNUTLS_SIGN_ECDSA_SHA384;
	case 64:
		return GNUTLS_SIGN_ECDSA_SHA512;
	default:
		return GNUTLS_SIGN_UNKNOWN;
	}
}

/* lock is held.  0 with the signature in made. */
static int ask(struct token_key *k, const uint8_t *digest, size_t len)
{
	struct timespec deadline;

	if (k->abandoned)
		return -EBUSY; /* it hangs: one handshake has waited for that already */
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += TOKEN_TIMEOUT;
	if (!wait_until(k, IDLE, &deadline))
		return -ETIMEDOUT;
	k->algorithm = algorithm(len);
	memcpy(k->digest, digest, len);
	k->digest_len = (unsigned)len;
	k->state = ASKED;
	pthread_cond_broadcast(&k->changed);
	if (!wait_until(k, ANSWERED, &deadline)) {
		k->abandoned = true;
		return -ETIMEDOUT;
	}
	k->state = IDLE;
	pthread_cond_broadcast(&k->changed);
	return k->rc < 0 ? -EIO : 0;
}

static int32_t sign(void *self, uint32_t what, const uint8_t *digest, size_t len, uint8_t *signature,
		    size_t size)
{
	struct token_key *k = self;

	if (what != SS_TLS_SIGN_ECDSA || algorithm(len) == GNUTLS_SIGN_UNKNOWN)
		return -ENOTSUP;
	pthread_mutex_lock(&k->lock);
	int32_t n = ask(k, digest, len);
	if (n < 0) {
		atomic_store_explicit(&k->failed, true, memory_order_relaxed);
	} else {
		n = k->made.size <= size ? (int32_t)k->made.size : -ENOBUFS;
		if (n > 0)
			memcpy(signature, k->made.data, k->made.size);
		gnutls_free(k->made.data);
	}
	pthread_mutex_unlock(&k->lock);
	return n;
}

/* ---- opening ---- */

struct pin {
	const char *text;
	bool asked, wrong;
};

/* GnuTLS asks again after a wrong one: once is enough, as tokens lock themselves up. */
static int give_pin(void *arg, int attempt, const char *url, const char *label, unsigned flags, char *pin,
		    size_t size)
{
	struct pin *p = arg;

	(void)attempt, (void)url, (void)label;
	if (p->asked || (flags & GNUTLS_PIN_WRONG))
		p->wrong = true;
	if (p->wrong || strlen(p->text) >= size)
		return GNUTLS_E_PKCS11_PIN_ERROR;
	p->asked = true;
	memcpy(pin, p->text, strlen(p->text) + 1);
	return 0;
}

static int find(gnutls_privkey_t key, const char *uri, const char *pin, char *why, size_t why_size)
{
	struct pin p = {.text = pin};

	gnutls_privkey_set_pin_function(key, give_pin, &p);
	int rc = gnutls_privkey_import_url(key, uri, 0);
	gnutls_privkey_set_pin_function(key, NULL, NULL); /* a token that wants it again is opened anew */
	if (rc == 0 && gnutls_privkey_get_pk_algorithm(key, NULL) == GNUTLS_PK_EC)
		return 0;
	if (rc == 0)
		snprintf(why, why_size, "%s is no EC key", uri);
	else if (p.wrong || rc == GNUTLS_E_PKCS11_PIN_ERROR)
		snprintf(why, why_size, "%s: the PIN is wrong", uri);
	else if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		snprintf(why, why_size, "%s: no token that is here has such a key", uri);
	else
		snprintf(why, why_size, "%s: the key cannot be used: %s", uri, gnutls_strerror(rc));
	return p.wrong || rc == GNUTLS_E_PKCS11_PIN_ERROR ? -EACCES : -EINVAL;
}

/* GnuTLS is the host's, too: nothing but this module is added to what it knows, once for the process. */
static int add_module(const char *module, char *why, size_t why_size)
{
	char path[PATH_MAX]; /* whole, as a relative one would be looked for where modules are installed */

	if (!realpath(module, path)) {
		snprintf(why, why_size, "cannot load %s: %s", module, strerror(errno));
		return -EINVAL;
	}
	int rc = gnutls_pkcs11_init(GNUTLS_PKCS11_FLAG_MANUAL, NULL);
	if (rc == 0)
		rc = gnutls_pkcs11_add_provider(path, NULL);
	/* of the reasons for this error one is that it is there already; else the key will not be found */
	if (rc == 0 || rc == GNUTLS_E_INT_RET_0)
		return 0;
	snprintf(why, why_size, "cannot load %s: %s", module, gnutls_strerror(rc));
	return -EINVAL;
}

static void init_lock(struct token_key *k)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&k->lock, NULL);
}

/* Signals are for the host's threads. */
static int start_thread(struct token_key *k, char *why, size_t why_size)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&k->thread, NULL, serve, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	k->has_thread = rc == 0;
	if (rc)
		snprintf(why, why_size, "cannot start a thread: %s", strerror(rc));
	return -rc;
}

int token_key_open(const char *module, const char *uri, const char *pin, struct token_key **out, char *why,
		   size_t why_size)
{
	struct token_key *k = calloc(1, sizeof *k);
	int rc = k ? 0 : -ENOMEM;

	snprintf(why, why_size, "out of memory");
	if (!k)
		return rc;
	k->signer = (struct ss_tls_signer){
		.struct_size = sizeof k->signer, .self = k, .sign = sign, .ref = ref, .unref = unref};
	init_lock(k);
	atomic_init(&k->references, 1);
	if (gnutls_privkey_init(&k->key))
		rc = -ENOMEM;
	if (rc == 0)
		rc = add_module(module, why, why_size);
	if (rc == 0)
		rc = find(k->key, uri, pin, why, why_size);
	if (rc == 0)
		rc = start_thread(k, why, why_size);
	if (rc)
		unref(k);
	else
		*out = k;
	return rc;
}

const struct ss_tls_signer *token_key_signer(struct token_key *k)
{
	return &k->signer;
}

bool token_key_failed(const struct token_key *k)
{
	return atomic_load_explicit(&k->failed, memory_order_relaxed);
}

void token_key_unref(struct token_key *k)
{
	unref(k);
}
