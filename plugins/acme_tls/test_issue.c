/* SPDX-License-Identifier: MIT */
/*
 * test_issue - the client by itself against a real CA: for measurements, and to see what it says.  Without
 * arguments it is a test that is skipped.  test_issue DIRECTORY_URL FOLDER CA_FILE[,CA_FILE] PORT NAME[,NAME]
 * [OPTION=VALUE]... [VERB]... Options: type (http-01, tls-alpn-01), email, kid, mac, profile, chain, seconds,
 * times, reuse.  Verbs: issue, revoke, rollover, deactivate.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "acme.h"

#define LIST_MAX 200

static struct {
	struct ev_loop *loop;
	struct store *store;
	struct acme *acme;
	char *chain, *key;
	unsigned requests;
	int failed;
} t;

static void on_log(void *arg, int32_t level, const char *text)
{
	(void)arg;
	fprintf(stderr, "%d %s\n", (int)level, text);
}

static void on_counted(void *arg, const char *what)
{
	(void)arg;
	t.requests++;
	if (getenv("TEST_ISSUE_REQUESTS"))
		fprintf(stderr, "request %s\n", what);
}

static void pair_save(const struct acme_result *r)
{
	char why[200];
	struct store_pair pair = {.chain_pem = r->chain->pem, .key_pem = (char *)(uintptr_t)r->key_pem};
	free(t.chain);
	free(t.key);
	t.chain = strdup(r->chain->pem);
	t.key = strdup(r->key_pem);
	if (store_pair_save(t.store, &pair, why, sizeof why) < 0) {
		printf("failed: %s\n", why);
		t.failed = 1;
	}
}

static void on_done(void *arg, const struct acme_result *r)
{
	(void)arg;
	if (r->fail) {
		printf("failed: %s\nfail=%d permanent=%d retry_after=%lld\n", r->why, r->fail, r->permanent,
		       (long long)r->retry_after);
		t.failed = 1;
	} else if (r->chain) {
		pair_save(r);
		printf("issued: subject=%s issuer=%s root=%s n=%zu serial=%s\n", r->chain->subject,
		       r->chain->issuer, r->chain->root, r->chain->n, r->chain->serial);
	}
	ev_break(t.loop, EVBREAK_ALL);
}

static size_t split(char *text, const char **out)
{
	size_t n = 0;
	for (char *part = strtok(text, ","); part && n < LIST_MAX; part = strtok(NULL, ","))
		out[n++] = part;
	return n;
}

static int option(struct acme_options *o, unsigned *times, char *text)
{
	char *value = strchr(text, '=');
	if (!value)
		return 0;
	*value++ = '\0';
	if (!strcmp(text, "type"))
		o->challenge = strcmp(value, "tls-alpn-01") ? ACME_HTTP_01 : ACME_TLS_ALPN_01;
	else if (!strcmp(text, "email"))
		o->email = value;
	else if (!strcmp(text, "kid"))
		o->eab_kid = value;
	else if (!strcmp(text, "mac"))
		o->eab_mac = value;
	else if (!strcmp(text, "profile"))
		o->profile = value;
	else if (!strcmp(text, "chain"))
		o->preferred_chain = value;
	else if (!strcmp(text, "seconds"))
		o->order_ns = strtoull(value, NULL, 10) * 1000000000ull;
	else if (!strcmp(text, "times"))
		*times = (unsigned)strtoul(value, NULL, 10);
	else if (!strcmp(text, "reuse"))
		o->reuse_key = true;
	return 1;
}

static void run(const char *verb)
{
	struct timespec a, b;
	int err = -EINVAL;
	clock_gettime(CLOCK_MONOTONIC, &a);
	t.requests = 0;
	if (!strcmp(verb, "issue"))
		err = acme_issue(t.acme, NULL, t.key, on_done, NULL);
	else if (!strcmp(verb, "revoke") && t.chain)
		err = acme_revoke(t.acme, t.chain, 4, on_done, NULL);
	else if (!strcmp(verb, "rollover"))
		err = acme_rollover(t.acme, on_done, NULL);
	else if (!strcmp(verb, "deactivate"))
		err = acme_deactivate(t.acme, on_done, NULL);
	else if (!strcmp(verb, "ari"))
		err = acme_ari(t.acme, "x.y", on_done, NULL);
	if (err < 0) {
		printf("failed: %s: %s\n", verb, strerror(-err));
		t.failed = 1;
		return;
	}
	ev_run(t.loop, 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%s: %.1f ms, %u requests\n", verb,
	       (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6, t.requests);
}

int main(int argc, char **argv)
{
	const char *names[LIST_MAX], *files[LIST_MAX], *verbs[LIST_MAX];
	size_t n_verbs = 0;
	unsigned times = 1;
	char why[300] = "";
	if (argc < 6) {
		printf("1..0 # SKIP for use by hand: %s URL FOLDER CA_FILES PORT NAMES [OPTION=VALUE]... "
		       "[VERB]...\n",
		       argv[0]);
		return 0;
	}
	struct acme_options o = {
		.directory_url = argv[1],
		.ca_files = files,
		.n_ca_files = split(argv[3], files),
		.challenge_address = "",
		.challenge_port = (uint16_t)atoi(argv[4]),
		.names = names,
		.n_names = split(argv[5], names),
		.email = "operator@example.org",
		.order_ns = 60000000000ull,
		.log = on_log,
		.counted = on_counted,
	};
	for (int i = 6; i < argc && n_verbs < LIST_MAX; i++)
		if (!option(&o, &times, argv[i]))
			verbs[n_verbs++] = argv[i];
	if (!n_verbs)
		verbs[n_verbs++] = "issue";
	o.loop = t.loop = ev_loop_new(EVFLAG_AUTO);
	if (store_open(argv[2], &t.store, why, sizeof why) < 0 || store_lock(t.store) < 0) {
		printf("failed: %s\n", why);
		return 1;
	}
	o.store = t.store;
	if (acme_new(&o, &t.acme, why, sizeof why) < 0) {
		printf("failed: %s\n", why);
		return 1;
	}
	while (times--)
		for (size_t i = 0; i < n_verbs; i++)
			run(verbs[i]);
	acme_free(t.acme);
	store_free(t.store);
	free(t.chain);
	free(t.key);
	ev_loop_destroy(t.loop);
	return t.failed;
}
