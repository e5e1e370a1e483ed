/* SPDX-License-Identifier: MIT */
/* join - see join.h. */
#include "join.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>
#include <gnutls/crypto.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include "jose.h"
#include "message.h"
#include "online.h"
#include "pki/issue.h"
#include "pki/request.h"

enum {
	FILE_MAX = 1 << 20,
	WAIT_FIRST = 1000, /* ms until a request is sent again; twice as long each time, up to the last */
	WAIT_LAST = 30000
};

static bool is_url(const char *text)
{
	return text && strncmp(text, "https://", 8) == 0;
}

bool join_is_online(const struct options *o)
{
	return is_url(o->ca) || o->token_file || o->token_env;
}

static int read_file(const char *path, const char *what, bool secret, struct ss_strbuf *out, struct fault *f)
{
	char *bytes;
	size_t len;
	struct stat st;
	int rc = ss_file_read(AT_FDCWD, path, FILE_MAX, &bytes, &len, &st);

	if (rc < 0)
		return rc == -ENOMEM ? rc
				     : refuse(f, "%s: the %s cannot be read: %s", path, what, strerror(-rc));
	if (secret && !ss_file_is_private(&st))
		fprintf(stderr, "semstreams pki: warning: %s: others can read this %s; chmod 600 it\n", path,
			what);
	ss_strbuf_add(out, bytes, len);
	explicit_bzero(bytes, len);
	free(bytes);
	return out->failed ? -ENOMEM : 0;
}

/* On stdout; takes over value. */
static int print_json(json_t *value)
{
	int rc = value && json_dumpf(value, stdout, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;

	putchar('\n');
	json_decref(value);
	return rc;
}

/* ---- tokens ---- */

/* The token that is given, which is for subject, and of a CA that --ca may leave unsaid. */
static int token_load(const struct options *o, const char *subject, struct ss_strbuf *text,
		      struct jose_token *out, struct fault *f)
{
	struct fault inner = {""};
	const char *where = o->token_file ? o->token_file : o->token_env, *value;
	int rc = 0;

	if (!where)
		return refuse(f, "a one-time token is needed: give it by --token-file or --token-env");
	if (o->token_file)
		rc = read_file(where, "token", true, text, f);
	else if ((value = getenv(where)) && *value)
		ss_strbuf_text(text, value);
	else
		rc = refuse(f, "the environment variable %s, which should hold the token, is not set", where);
	if (rc == 0)
		rc = jose_token_read(ss_strbuf_cstr(text), text->len, out, &inner);
	if (rc == -EINVAL && *inner.text)
		rc = refuse(f, "%s: %s", where, inner.text);
	if (rc == 0 && strcmp(out->subject, subject) != 0)
		rc = refuse(f, "%s: the token is for \"%s\", not for \"%s\"", where, out->subject, subject);
	return rc;
}

/* "https://ca.example:9000/1.0/sign" without the end. */
static const char *ca_of(const struct options *o, struct jose_token *token)
{
	char *path = strlen(token->audience) > 8 ? strchr(token->audience + 8, '/') : NULL;

	if (path)
		*path = '\0';
	return o->ca ? o->ca : token->audience;
}

static int open_by_token(const struct options *o, const char *subject, struct ss_strbuf *text,
			 struct online *ca, struct fault *f)
{
	struct jose_token token;

	if (o->ca && !is_url(o->ca))
		return refuse(f, "--ca is the URL of a step-ca where a token is given, not \"%s\"", o->ca);
	int rc = token_load(o, subject, text, &token, f);
	return rc ? rc : online_open(o, ca_of(o, &token), token.root, ca, f);
}

int join_token(const struct options *o)
{
	const struct profile *p = o->profile ? o->profile : &profile_device;
	const struct online_claims claims = {.path = "/1.0/sign",
					     .subject = o->words[0],
					     .names = &o->names,
					     .profile = p,
					     .life_s = o->life_s};
	struct fileset set = {0};
	struct online ca = {0};
	struct fault f;
	const char *why = name_fault(o->words[0]);

	if (!is_url(o->ca))
		return wrong_usage("--ca is needed: the URL of the step-ca, \"https://...\"");
	if (why)
		return wrong_usage("NAME of a token is the common name of what it is for");
	if (p == &profile_root || (o->names.n && p != &profile_service))
		return wrong_usage(
			"a token is for a sub-ca, a service-leaf or a device-leaf; --san goes with a "
			"service-leaf only");
	struct ss_strbuf *out = fileset_add(&set, o->words[1], 0600);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0)
		rc = online_open(o, o->ca, NULL, &ca, &f);
	if (rc == 0)
		rc = online_token(&ca, o, &claims, out, &f);
	if (rc == 0)
		rc = fileset_write(&set, &f);
	if (rc == 0 && o->json)
		rc = print_json(json_pack("{s:s, s:s}", "token", o->words[1], "subject", o->words[0]));
	else if (rc == 0)
		printf("%s: a one-time token for \"%s\", a %s of %s\n", o->words[1], o->words[0], p->name,
		       ca.url);
	online_done(&ca);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- roots and leaves ---- */

int join_root(const struct options *o)
{
	struct fileset set = {0};
	struct online ca = {0};
	struct fault f;

	if (o->n_words != 1)
		return wrong_usage(
			"with --ca URL \"root\" takes CRT alone: the file for the root that is fetched");
	struct ss_strbuf *out = fileset_add(&set, o->words[0], 0644);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0 && o->roots)
		rc = refuse(&f, "the root is fetched by --fingerprint; with --roots it is here already");
	if (rc == 0)
		rc = online_open(o, o->ca, NULL, &ca, &f);
	if (rc == 0)
		rc = certificate_pem(ca.roots.v[0], out);
	if (rc == 0)
		rc = fileset_write(&set, &f);
	if (rc == 0)
		rc = issue_print(ca.roots.v[0], o->words[0], NULL, o->json);
	online_done(&ca);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* The names of a leaf: those given, and its own. */
static int leaf_names(const struct options *o, const struct profile *profile, struct names *out,
		      struct fault *f)
{
	struct fault ignored;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < o->names.n; i++)
		rc = names_add(out, o->names.v[i].text, NULL, f);
	if (rc == 0) {
		rc = names_add(out, o->words[0], NULL, out->n ? &ignored : f);
		rc = rc == -EINVAL && out->n && profile != &profile_device ? 0 : rc;
	}
	return rc;
}

static int leaf_sign(const struct options *o, const struct names *names, struct online *ca, const char *token,
		     struct fileset *set, struct fault *f)
{
	struct key key = {0};
	struct certificates chain = {0};
	struct ss_strbuf csr = {0};
	gnutls_x509_crt_t root;
	bool in_token = key_is_uri(o->words[2]);
	int rc = in_token ? key_load(o->words[2], &o->passphrase, &key, f)
			  : key_new(o->key_type ? o->key_type : profile_device.key_type, &key, f);

	if (rc == 0)
		rc = request_new(&key, o->words[0], names, &csr, f);
	if (rc == 0 && !in_token)
		rc = key_pem(&key, &o->passphrase, &set->v[0].content, f);
	if (rc == 0)
		rc = online_sign(ca, ss_strbuf_cstr(&csr), token, o->life_s, &key, &chain, &root, f);
	for (unsigned i = 0; rc == 0 && i < chain.n; i++)
		rc = certificate_pem(chain.v[i], &set->v[set->n - 1].content);
	if (rc == 0)
		rc = fileset_write(set, f);
	if (rc == 0)
		rc = issue_print(chain.v[0], o->words[1], o->words[2], o->json);
	certificates_done(&chain);
	ss_strbuf_done(&csr);
	key_done(&key);
	return rc;
}

int join_leaf(const struct options *o, const struct profile *profile)
{
	struct fileset set = {0};
	struct online ca = {0};
	struct names names = {0};
	struct ss_strbuf token = {.secret = true};
	struct fault f;

	if (o->ca_key)
		return wrong_usage("--ca-key is for a CA whose files are here, not with a token or a URL");
	if (profile == &profile_device && o->names.n)
		return wrong_usage("a device is known by its NAME only: leave --san out");
	if (!key_is_uri(o->words[2]))
		fileset_add(&set, o->words[2], 0600);
	fileset_add(&set, o->words[1], 0644);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0)
		rc = leaf_names(o, profile, &names, &f);
	if (rc == 0)
		rc = open_by_token(o, o->words[0], &token, &ca, &f);
	if (rc == 0)
		rc = leaf_sign(o, &names, &ca, ss_strbuf_cstr(&token), &set, &f);
	online_done(&ca);
	names_done(&names);
	ss_strbuf_done(&token);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- the tenant ---- */

/* One that did not come to its end is sent again as it is. */
static int request_files(const struct options *o, struct ss_strbuf *csr, struct fault *f)
{
	struct names names = {0};
	struct request r = {0};
	const struct issue what = {.profile = &profile_sub_ca,
				   .subject = o->words[0],
				   .key_type = o->key_type,
				   .csr = o->words[1],
				   .key = o->words[2],
				   .names = &names,
				   .passphrase = &o->passphrase,
				   .replace = o->force};
	bool again = o->n_words == 4 && !o->force && access(o->words[1], F_OK) == 0 &&
		     (key_is_uri(o->words[2]) || access(o->words[2], F_OK) == 0);
	/* step-ca wants the subject among the names, also of a CA */
	int rc = again ? 0 : names_add(&names, o->words[0], NULL, f);

	if (rc == 0 && !again)
		rc = issue_request(&what, f);
	if (rc == 0)
		rc = request_load(o->words[1], &r, f);
	if (rc == 0 && strcmp(r.subject, o->words[0]) != 0)
		rc = refuse(f, "%s is there already, and a request for \"%s\": --force replaces it",
			    o->words[1], r.subject);
	if (rc == 0)
		rc = read_file(o->words[1], "request", false, csr, f);
	if (rc == 0 && !o->json) {
		char id[65];
		printf("%s: a request for \"%s\", whose key has the SHA-256 %s\n", o->words[1], o->words[0],
		       key_fingerprint(r.public, id));
		fflush(stdout);
	}
	request_done(&r);
	names_done(&names);
	return rc;
}

static int by_token(const struct options *o, const char *csr, struct ss_strbuf *reply, struct fault *f)
{
	struct ss_strbuf token = {.secret = true};
	struct online ca = {0};
	struct certificates chain = {0};
	gnutls_x509_crt_t root;
	int rc = open_by_token(o, o->words[0], &token, &ca, f);

	if (rc == 0)
		rc = online_sign(&ca, csr, ss_strbuf_cstr(&token),
				 o->life_s ? o->life_s : profile_sub_ca.life_s, NULL, &chain, &root, f);
	if (rc == 0)
		rc = message_reply_put(&chain, root, reply);
	certificates_done(&chain);
	online_done(&ca);
	ss_strbuf_done(&token);
	return rc;
}

/* Longer each time, and by chance, so that tenants that began together come apart. */
static void wait_a_while(unsigned turn)
{
	unsigned ms = turn < 5 ? (unsigned)WAIT_FIRST << turn : WAIT_LAST, random = 0;
	struct timespec t;

	gnutls_rnd(GNUTLS_RND_NONCE, &random, sizeof random);
	ms = ms / 2 + random % (ms / 2 + 1);
	t = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&t, NULL);
}

static int by_provider(const struct options *o, const char *csr, struct ss_strbuf *reply, struct fault *f)
{
	struct online provider = {0};
	json_t *answer = NULL;
	char span[24];
	struct fault last = {"it waits for the provider's approval"};
	int rc = online_open(o, o->provider, NULL, &provider, f);
	int64_t end = time(NULL) + o->wait_s;

	for (unsigned turn = 0; rc == 0; turn++) {
		rc = online_join(&provider, o->words[0], csr, &answer, &last);
		if (rc != -EAGAIN || time(NULL) >= end)
			break;
		if (turn == 0)
			fprintf(stderr, "semstreams pki: %s: %s ...\n", provider.url, last.text);
		wait_a_while(turn);
		rc = 0;
	}
	if (rc == -EINVAL && !provider.client)
		return rc;
	if (rc == -EINVAL)
		*f = last;
	if (rc == -EAGAIN)
		rc = refuse(f, "%s: the request is not answered within %s: run this again later (%s)",
			    provider.url, ss_format_span(o->wait_s * 1000000000, span, sizeof span),
			    last.text);
	char *text = answer ? json_dumps(answer, JSON_INDENT(2)) : NULL;
	if (rc == 0 && text)
		ss_strbuf_text(reply, text);
	if (rc == 0 && (!text || reply->failed))
		rc = -ENOMEM;
	free(text);
	json_decref(answer);
	online_done(&provider);
	return rc;
}

int join_request(const struct options *o)
{
	struct fileset set = {0};
	struct ss_strbuf csr = {0};
	struct message_reply reply = {0};
	struct fault f;
	bool online = join_is_online(o) || o->provider;
	int rc = 0;

	if (!message_tenant_ok(o->words[0]))
		return wrong_usage("TENANT is a name of at most 64 letters, digits, \".\", \"_\" and \"-\"");
	if (online != (o->n_words == 4))
		return wrong_usage(
			online ? "\"join-request\" over HTTPS needs REPLY, a file for the answer"
			       : "REPLY is for a request that is sent: by --provider, or --ca and a token");
	if (o->provider && join_is_online(o))
		return wrong_usage("--provider and --ca are two ways: take one");
	if (online) {
		fileset_add(&set, o->words[3], 0644);
		rc = fileset_check(&set, o->force, &f);
	}
	if (rc == 0)
		rc = request_files(o, &csr, &f);
	if (rc == 0 && online)
		rc = o->provider ? by_provider(o, ss_strbuf_cstr(&csr), &set.v[0].content, &f)
				 : by_token(o, ss_strbuf_cstr(&csr), &set.v[0].content, &f);
	if (rc == 0 && online)
		rc = message_reply_read(set.v[0].content.bytes, set.v[0].content.len, &reply, &f);
	if (rc == 0 && online)
		rc = fileset_write(&set, &f);
	if (rc == 0 && o->json)
		rc = print_json(json_pack("{s:s, s:s, s:s*}", "request", o->words[1], "key", o->words[2],
					  "reply", online ? o->words[3] : NULL));
	else if (rc == 0 && online)
		printf("%s: the provider's reply; take it by \"semstreams pki join\"\n", o->words[3]);
	message_reply_done(&reply);
	ss_strbuf_done(&csr);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

static bool same_hex(const char *with_marks, const char *plain)
{
	for (; *with_marks; with_marks++) {
		if (strchr(": ", *with_marks))
			continue;
		char c = *with_marks >= 'A' && *with_marks <= 'F' ? (char)(*with_marks + 'a' - 'A')
								  : *with_marks;
		if (c != *plain++)
			return false;
	}
	return !*plain;
}

/* The root that came with the reply is believed only if it is known from elsewhere. */
static int check_root(const struct options *o, gnutls_x509_crt_t root, struct fault *f)
{
	struct certificates known = {0};
	char fingerprint[65];
	const char *wanted = o->fingerprint ? o->fingerprint : getenv("STEP_CA_FINGERPRINT");
	bool good = false;

	certificate_fingerprint(root, fingerprint);
	if (o->roots) {
		int rc = certificates_load(o->roots, &known, f);
		if (rc)
			return rc;
		for (unsigned i = 0; i < known.n; i++)
			good = good || gnutls_x509_crt_equals(known.v[i], root);
		certificates_done(&known);
		return good ? 0
			    : refuse(f, "its root, with the fingerprint %s, is not in %s", fingerprint,
				     o->roots);
	}
	if (!wanted || !*wanted)
		return refuse(
			f, "whom is to be trusted? Give the root by --roots, or its SHA-256 by --fingerprint "
			   "or STEP_CA_FINGERPRINT");
	return same_hex(wanted, fingerprint)
		       ? 0
		       : refuse(f,
				"its root has the fingerprint %s, not %s: it is of another "
				"provider",
				fingerprint, wanted);
}

static int check_reply(const struct options *o, const struct message_reply *r, const struct key *key,
		       struct fault *f)
{
	struct fault inner = {""};
	int rc = check_root(o, r->root.v[0], &inner);

	if (rc == 0)
		rc = message_chain_check(&r->chain, r->root.v[0], key, &inner);
	if (rc == 0 && !certificate_is_ca(r->chain.v[0]))
		rc = refuse(&inner, "what it has signed is no CA");
	return rc == -EINVAL ? refuse(f, "%s: %s", o->words[0], inner.text) : rc;
}

int join_accept(const struct options *o)
{
	struct fileset set = {0};
	struct ss_strbuf text = {0};
	struct message_reply reply = {0};
	struct key key = {0};
	struct fault f, inner = {""};

	if (!o->key)
		return wrong_usage("--key is needed: the key that \"join-request\" made");
	struct ss_strbuf *crt = fileset_add(&set, o->words[1], 0644);
	struct ss_strbuf *root = fileset_add(&set, o->words[2], 0644);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0)
		rc = read_file(o->words[0], "reply", false, &text, &f);
	if (rc == 0 && (rc = message_reply_read(text.bytes, text.len, &reply, &inner)) == -EINVAL)
		rc = refuse(&f, "%s: %s", o->words[0], inner.text);
	if (rc == 0)
		rc = key_load(o->key, &o->passphrase, &key, &f);
	if (rc == 0)
		rc = check_reply(o, &reply, &key, &f);
	for (unsigned i = 0; rc == 0 && i < reply.chain.n; i++)
		rc = certificate_pem(reply.chain.v[i], crt);
	if (rc == 0)
		rc = certificate_pem(reply.root.v[0], root);
	if (rc == 0)
		rc = fileset_write(&set, &f);
	if (rc == 0)
		rc = issue_print(reply.chain.v[0], o->words[1], o->key, o->json);
	key_done(&key);
	message_reply_done(&reply);
	ss_strbuf_done(&text);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- the provider ---- */

/* The new one, read again as others will see it, and those above it. */
static int put_reply(gnutls_x509_crt_t crt, const struct certificates *above, gnutls_x509_crt_t root,
		     struct ss_strbuf *reply, struct fault *f)
{
	struct certificates chain = {0};
	struct ss_strbuf pem = {0};
	int rc = certificate_pem(crt, &pem);

	for (unsigned i = 0; rc == 0 && i < above->n; i++)
		if (!gnutls_x509_crt_equals(above->v[i], root))
			rc = certificate_pem(above->v[i], &pem);
	if (rc == 0)
		rc = certificates_read("the tenant's chain", ss_strbuf_cstr(&pem), pem.len, &chain, f);
	if (rc == 0)
		rc = message_chain_check(&chain, root, NULL, f);
	if (rc == 0)
		rc = message_reply_put(&chain, root, reply);
	certificates_done(&chain);
	ss_strbuf_done(&pem);
	return rc;
}

static int approve_here(const struct options *o, const struct request *r, struct ss_strbuf *reply,
			struct fault *f)
{
	struct issuer issuer = {0};
	struct certificates roots = {0};
	const struct order order = {.profile = &profile_sub_ca,
				    .subject = r->subject,
				    .names = &r->names,
				    .public = r->public,
				    .life_s = o->life_s ? o->life_s : profile_sub_ca.life_s,
				    .path_len = -1};
	gnutls_x509_crt_t crt = NULL;
	bool cut = false;
	int rc = certificates_load(o->roots, &roots, f);

	if (rc == 0)
		rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &issuer, f);
	if (rc == 0)
		rc = certificate_issue(&order, issuer.chain.v[0], &issuer.key, &crt, &cut, f);
	if (rc == 0)
		issuer_record(&issuer, crt);
	if (rc == 0)
		rc = put_reply(crt, &issuer.chain, roots.v[0], reply, f);
	if (rc == 0 && cut)
		fprintf(stderr,
			"semstreams pki: note: the tenant's CA ends with its issuer, before the life that "
			"was asked for\n");
	if (crt)
		gnutls_x509_crt_deinit(crt);
	issuer_done(&issuer);
	certificates_done(&roots);
	return rc;
}

static int approve_there(const struct options *o, const struct request *r, const char *csr,
			 struct ss_strbuf *reply, struct fault *f)
{
	struct online ca = {0};
	struct ss_strbuf token = {.secret = true};
	struct certificates chain = {0};
	gnutls_x509_crt_t root;
	const struct online_claims claims = {
		.path = "/1.0/sign", .subject = r->subject, .names = &r->names, .profile = &profile_sub_ca};
	int rc = online_open(o, o->ca, NULL, &ca, f);

	if (rc == 0)
		rc = online_token(&ca, o, &claims, &token, f);
	if (rc == 0)
		rc = online_sign(&ca, csr, ss_strbuf_cstr(&token),
				 o->life_s ? o->life_s : profile_sub_ca.life_s, NULL, &chain, &root, f);
	if (rc == 0 && !certificate_is_ca(chain.v[0]))
		rc = refuse(f,
			    "%s: what it has signed is no CA: has the provisioner \"%s\" a template for the "
			    "profile intermediate-ca?",
			    ca.url, o->provisioner);
	if (rc == 0)
		rc = message_reply_put(&chain, root, reply);
	certificates_done(&chain);
	ss_strbuf_done(&token);
	online_done(&ca);
	return rc;
}

int join_approve(const struct options *o)
{
	struct fileset set = {0};
	struct request r = {0};
	struct ss_strbuf csr = {0};
	struct fault f;
	char id[65];

	if (!is_url(o->ca) && (!o->ca || !o->ca_key || !o->roots))
		return wrong_usage(
			"who is to sign? --ca, --ca-key and --roots name the provider's CA and its root, "
			"or --ca the URL of its step-ca");
	struct ss_strbuf *reply = fileset_add(&set, o->words[1], 0644);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0)
		rc = request_load(o->words[0], &r, &f);
	if (rc == 0 && !message_tenant_ok(r.subject))
		rc = refuse(
			&f,
			"%s: its subject \"%s\" is no name of a tenant: letters, digits, \".\", \"_\" and "
			"\"-\"",
			o->words[0], r.subject);
	if (rc == 0)
		rc = read_file(o->words[0], "request", false, &csr, &f);
	if (rc == 0)
		rc = is_url(o->ca) ? approve_there(o, &r, ss_strbuf_cstr(&csr), reply, &f)
				   : approve_here(o, &r, reply, &f);
	if (rc == 0)
		rc = fileset_write(&set, &f);
	if (rc == 0 && o->json)
		rc = print_json(json_pack("{s:s, s:s, s:s}", "tenant", r.subject, "key_sha256",
					  key_fingerprint(r.public, id), "reply", o->words[1]));
	else if (rc == 0)
		printf("%s: a CA for the tenant \"%s\", whose key has the SHA-256 %s\n", o->words[1],
		       r.subject, key_fingerprint(r.public, id));
	request_done(&r);
	ss_strbuf_done(&csr);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- revocation ---- */

/* Of a certificate's file, or of the reply that a tenant was given. */
static int revoke_load(const char *path, struct certificates *out, struct ss_strbuf *pem, struct fault *f)
{
	struct ss_strbuf text = {0};
	struct message_reply reply;
	struct fault inner = {""};
	int rc = read_file(path, "certificate", false, &text, f);

	*out = (struct certificates){0};
	if (rc == 0 && text.len && *text.bytes == '{') {
		rc = message_reply_read(text.bytes, text.len, &reply, &inner);
		if (rc == 0) {
			*out = reply.chain;
			certificates_done(&reply.root);
		} else if (rc == -EINVAL) {
			rc = refuse(f, "%s: %s", path, inner.text);
		}
	} else if (rc == 0) {
		rc = certificates_read(path, ss_strbuf_cstr(&text), text.len, out, f);
	}
	for (unsigned i = 0; rc == 0 && i < out->n; i++)
		rc = certificate_pem(out->v[i], pem);
	ss_strbuf_done(&text);
	if (rc)
		certificates_done(out);
	return rc;
}

static int revoke_at(const struct options *o, struct online *ca, struct fault *f)
{
	struct certificates chain;
	struct ss_strbuf pem = {0}, key = {.secret = true};
	char serial[80], name[256];
	int rc = revoke_load(o->words[0], &chain, &pem, f);

	if (rc)
		goto out;
	if (o->key)
		rc = read_file(o->key, "key", true, &key, f);
	if (rc == 0)
		rc = online_revoke(ca, o, chain.v[0], ss_strbuf_cstr(&pem),
				   o->key ? ss_strbuf_cstr(&key) : NULL, f);
	if (rc == 0 && o->json)
		rc = print_json(json_pack("{s:s, s:s, s:s}", "certificate", o->words[0], "serial_number",
					  certificate_serial(chain.v[0], serial), "revoked_at", ca->url));
	else if (rc == 0)
		printf("%s: \"%s\", serial %s, is renewed no more by %s; who has it can show it until it "
		       "expires\n",
		       o->words[0], certificate_subject(chain.v[0], name),
		       certificate_serial(chain.v[0], serial), ca->url);
out:
	certificates_done(&chain);
	ss_strbuf_done(&pem);
	ss_strbuf_done(&key);
	return rc;
}

int join_revoke(const struct options *o)
{
	struct online ca = {0};
	struct fault f;

	if (!is_url(o->ca))
		return wrong_usage("--ca is needed: the URL of the step-ca, \"https://...\"");
	if (o->reinstate || o->force)
		return wrong_usage("a step-ca takes no revocation back, and knows what it has signed: leave "
				   "--reinstate and --force out");
	if (access(o->words[0], F_OK) != 0 &&
	    strspn(o->words[0], "0123456789abcdefABCDEFx:") == strlen(o->words[0]))
		return wrong_usage(
			"step-ca says \"ok\" to any serial number, also to one that it never issued: give "
			"the certificate's file");
	int rc = online_open(o, o->ca, NULL, &ca, &f);
	if (rc == 0)
		rc = revoke_at(o, &ca, &f);
	online_done(&ca);
	return rc ? failed(rc, &f) : 0;
}
