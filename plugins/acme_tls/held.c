/* SPDX-License-Identifier: MIT */
/* held - the certificate as it lies in the store, read. */
#include <errno.h>
#include <string.h>
#include "acme_tls.h"
#include "key.h"

static int read_chain(struct held *out, const struct store_pair *pair, const struct setup *setup, char *why,
		      size_t why_size)
{
	struct acme_key *key;
	struct chain_info again;
	char reason[256];
	int rc = key_load(pair->key_pem, strlen(pair->key_pem), &key, why, why_size);
	if (rc)
		return rc;
	rc = chain_read(pair->chain_pem, strlen(pair->chain_pem), key, NULL, 0, &out->chain, why, why_size);
	if (rc == 0 &&
	    chain_read(out->chain.pem, strlen(out->chain.pem), key, (const char *const *)setup->names,
		       setup->n_names, &again, reason, sizeof reason) == 0) {
		out->names_match = true;
		chain_done(&again);
	}
	key_free(key);
	return rc;
}

int held_load(struct held *out, struct store *store, const struct setup *setup, char *why, size_t why_size)
{
	struct store_pair pair;
	*out = (struct held){0};
	int rc = store_pair_load(store, &pair, why, why_size);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = read_chain(out, &pair, setup, why, why_size);
	if (rc == 0) {
		out->there = true;
		out->key_pem = pair.key_pem;
		pair.key_pem = NULL;
	}
	store_pair_done(&pair);
	return rc;
}

void held_done(struct held *held)
{
	if (held->there)
		chain_done(&held->chain);
	key_text_free(held->key_pem);
	*held = (struct held){0};
}
