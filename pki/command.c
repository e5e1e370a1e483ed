/* SPDX-License-Identifier: MIT */
/* command - "semstreams pki": a program of its own, so that the host needs nothing of it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/units.h>
#include "issue.h"
#include "layout/renew.h"
#include "layout/tree.h"
#include "join/join.h"
#include "options.h"
#include "request.h"
#include "revocation/revoke.h"
#include "verify.h"

/* Takes over value. */
static int print_json(json_t *value)
{
	int rc = value && json_dumpf(value, stdout, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;

	putchar('\n');
	json_decref(value);
	return rc;
}

/* ---- issuing ---- */

static int check_subject(const char *subject)
{
	const char *why = name_fault(subject);

	if (!why)
		return 0;
	fprintf(stderr, "semstreams pki: the subject \"%s\" is no common name: %s\n", subject, why);
	return EXIT_USAGE;
}

/* A leaf is for its subject, too, where that can be a name; a device for nothing else. */
static int complete_names(const struct profile *profile, const char *subject, struct names *names)
{
	struct fault f = {""};
	size_t before = names->n;

	if (profile->ca)
		return before ? wrong_usage("a CA has no --san") : 0;
	int rc = names_add(names, subject, NULL, &f);
	if (rc == -ENOMEM)
		return failed(rc, &f);
	if (rc && (!before || profile == &profile_device)) {
		fprintf(stderr,
			"semstreams pki: the subject cannot be a name that clients look for: %s; give names "
			"by --san\n",
			f.text);
		return EXIT_USAGE;
	}
	if (profile == &profile_device && names->n > 1)
		return wrong_usage("a device-leaf is for its subject only: leave --san out, or take "
				   "--profile service-leaf");
	return 0;
}

/* chain: the CAs stand behind the certificate. */
static int issue(const struct options *o, const struct profile *profile, bool has_ca, bool chain)
{
	struct names names = {0};
	struct issuer issuer = {0};
	struct fault f;
	gnutls_x509_crt_t crt;
	int rc = check_subject(o->words[0]);

	if (rc == 0 && has_ca && (!o->ca || !o->ca_key))
		rc = wrong_usage("--ca and --ca-key are needed: who is to sign?");
	if (rc)
		return rc;
	for (size_t i = 0; rc == 0 && i < o->names.n; i++)
		rc = names_add(&names, o->names.v[i].text, NULL, &f);
	if (rc)
		return failed(rc, &f);
	rc = complete_names(profile, o->words[0], &names);
	if (rc) {
		names_done(&names);
		return rc;
	}
	const struct issue what = {.profile = profile,
				   .subject = o->words[0],
				   .key_type = o->key_type,
				   .crt = o->words[1],
				   .key = o->words[2],
				   .names = &names,
				   .passphrase = &o->passphrase,
				   .life_s = o->life_s,
				   .path_len = o->path_len,
				   .replace = o->force,
				   .chain = chain};
	if (has_ca)
		rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &issuer, &f);
	if (rc == 0)
		rc = issue_pair(&what, has_ca ? &issuer : NULL, &crt, &f);
	if (rc == 0) {
		rc = issue_print(crt, o->words[1], o->words[2], o->json);
		gnutls_x509_crt_deinit(crt);
	}
	issuer_done(&issuer);
	names_done(&names);
	return rc ? failed(rc, &f) : 0;
}

static int run_root(const struct options *o)
{
	if (join_is_online(o))
		return join_root(o);
	if (o->n_words != 3)
		return wrong_usage("\"root\" needs SUBJECT CRT KEY, or CRT with --ca URL");
	if (o->ca || o->roots || o->fingerprint)
		return wrong_usage("a root signs itself: --ca, --roots and --fingerprint are for fetching "
				   "one by its URL");
	return issue(o, &profile_root, false, false);
}

static int run_intermediate(const struct options *o)
{
	const struct profile *p = o->profile ? o->profile : &profile_intermediate;

	if (!p->ca || p == &profile_root)
		return wrong_usage("\"intermediate\" makes CAs: its profiles are intermediate-ca and sub-ca");
	return issue(o, p, true, false);
}

static int run_leaf(const struct options *o)
{
	const struct profile *p = o->profile ? o->profile : &profile_service;

	if (p->ca)
		return wrong_usage("\"leaf\" makes leaves: its profiles are service-leaf and device-leaf");
	return join_is_online(o) ? join_leaf(o, p) : issue(o, p, true, false);
}

/* For whom the chain matters: the device itself shows it. */
static int run_device(const struct options *o)
{
	return join_is_online(o) ? join_leaf(o, &profile_device) : issue(o, &profile_device, true, true);
}

static int run_csr(const struct options *o)
{
	struct fault f;
	int rc = check_subject(o->words[0]);

	if (rc)
		return rc;
	const struct issue what = {.profile = &profile_service,
				   .subject = o->words[0],
				   .key_type = o->key_type,
				   .csr = o->words[1],
				   .key = o->words[2],
				   .names = &o->names,
				   .passphrase = &o->passphrase,
				   .replace = o->force};
	rc = issue_request(&what, &f);
	if (rc == 0 && o->json)
		rc = print_json(json_pack("{s:s, s:s}", "request", o->words[1], "key", o->words[2]));
	else if (rc == 0)
		printf("%s: a request for \"%s\"\n", o->words[1], o->words[0]);
	return rc ? failed(rc, &f) : 0;
}

/* ---- signing what somebody else asks for ---- */

/* The names that it gets: those that it asks for, if each is its subject or was said by the signer. */
static int judge_request(const struct options *o, const struct profile *p, struct request *r, struct fault *f)
{
	struct names allowed = {0};
	struct fault ignored;
	int rc = 0;

	if (!*r->subject)
		return refuse(f, "%s: it has no subject: make it with a common name", o->words[0]);
	if (p->ca)
		return 0;
	if (r->wants_ca)
		return refuse(f, "%s: it asks to be a CA, which a %s is not: --profile sub-ca signs CAs",
			      o->words[0], p->name);
	for (size_t i = 0; rc == 0 && i < o->names.n; i++)
		rc = names_add(&allowed, o->names.v[i].text, NULL, f);
	if (rc == 0)
		rc = names_add(&allowed, r->subject, NULL, &ignored);
	if (rc == -EINVAL && (p == &profile_device || (!allowed.n && !r->names.n)))
		rc = refuse(f, "%s: its subject \"%s\" cannot be a name that clients look for", o->words[0],
			    r->subject);
	else if (rc == -EINVAL)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < r->names.n; i++)
		if (!names_have(&allowed, &r->names.v[i]))
			rc = refuse(f,
				    "%s: it asks for the name \"%s\", which is neither its subject nor among "
				    "--san: give "
				    "--san %s if it may have it",
				    o->words[0], r->names.v[i].text, r->names.v[i].text);
	if (rc == 0 && (p == &profile_device || r->names.n == 0)) {
		names_done(&r->names);
		r->names = allowed;
		allowed = (struct names){0};
	}
	names_done(&allowed);
	if (rc == 0 && p == &profile_device && r->names.n > 1)
		return refuse(f, "%s: a device-leaf is for its subject only: leave --san out", o->words[0]);
	return rc;
}

static int sign(const struct options *o, const struct request *r, struct issuer *issuer, struct fileset *set,
		struct fault *f)
{
	const struct profile *p = o->profile;
	const struct order order = {.profile = p,
				    .subject = r->subject,
				    .names = &r->names,
				    .public = r->public,
				    .life_s = o->life_s ? o->life_s : p->life_s,
				    .path_len = o->path_len};
	gnutls_x509_crt_t crt;
	bool cut = false;
	int rc = certificate_issue(&order, issuer->chain.v[0], &issuer->key, &crt, &cut, f);

	if (rc)
		return rc;
	if (cut)
		fprintf(stderr,
			"semstreams pki: note: %s ends with its issuer, before the life that was asked for\n",
			o->words[1]);
	rc = certificate_pem(crt, &set->v[0].content);
	if (rc == 0)
		issuer_record(issuer, crt);
	if (rc == 0)
		rc = fileset_write(set, f);
	if (rc == 0)
		rc = issue_print(crt, o->words[1], NULL, o->json);
	gnutls_x509_crt_deinit(crt);
	return rc;
}

static int run_sign(const struct options *o)
{
	struct fileset set = {0};
	struct issuer issuer = {0};
	struct request r = {0};
	struct fault f;

	if (!o->ca || !o->ca_key)
		return wrong_usage("--ca and --ca-key are needed: who is to sign?");
	if (!o->profile || o->profile == &profile_root)
		return wrong_usage(
			"--profile is needed: intermediate-ca, sub-ca, service-leaf or device-leaf");
	fileset_add(&set, o->words[1], 0644);
	int rc = fileset_check(&set, o->force, &f);
	if (rc == 0)
		rc = request_load(o->words[0], &r, &f);
	if (rc == 0)
		rc = judge_request(o, o->profile, &r, &f);
	if (rc == 0)
		rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &issuer, &f);
	if (rc == 0)
		rc = sign(o, &r, &issuer, &set, &f);
	issuer_done(&issuer);
	request_done(&r);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- looking ---- */

static void print_list(const char *title, json_t *object)
{
	const char *key;
	json_t *value;
	bool any = false;

	json_object_foreach(object, key, value)
	{
		char *word = strdup(key);
		for (char *at = word; at && *at; at++)
			*at = *at == '_' ? ' ' : *at;
		printf("%s%s", any ? ", " : title, word ? word : key);
		any = true;
		free(word);
	}
	if (any)
		putchar('\n');
}

static void print_names(json_t *names)
{
	const char *const kinds[] = {"dns_names", "ip_addresses"};
	size_t k;
	json_t *name;
	bool any = false;

	for (int i = 0; i < 2; i++)
		json_array_foreach(json_object_get(names, kinds[i]), k, name)
		{
			printf("%s%s%s", any ? ", " : "Names:       ", i ? "IP " : "",
			       json_string_value(name));
			any = true;
		}
	if (any)
		putchar('\n');
}

static const char *text_of(json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "";
}

static void print_certificate(json_t *c)
{
	json_t *validity = json_object_get(c, "validity"), *extensions = json_object_get(c, "extensions");
	json_t *constraints = json_object_get(extensions, "basic_constraints"),
	       *path_len = json_object_get(constraints, "max_path_len");
	char span[24];
	int64_t length = json_integer_value(json_object_get(validity, "length"));

	printf("Subject:     %s\nIssuer:      %s\nSerial:      %s\n", text_of(c, "subject_dn"),
	       text_of(c, "issuer_dn"), text_of(c, "serial_number"));
	printf("Valid:       %s to %s (%s)\n", text_of(validity, "start"), text_of(validity, "end"),
	       ss_format_span(length * 1000000000, span, sizeof span));
	printf("Key:         %s, signed with %s\n", text_of(c, "key"), text_of(c, "signature_algorithm"));
	if (json_is_true(json_object_get(constraints, "is_ca")) && path_len)
		printf("CA:          yes, path length %d\n", (int)json_integer_value(path_len));
	else
		printf("CA:          %s\n",
		       json_is_true(json_object_get(constraints, "is_ca")) ? "yes" : "no");
	print_list("Key usage:   ", json_object_get(extensions, "key_usage"));
	print_list("Purposes:    ", json_object_get(extensions, "extended_key_usage"));
	print_names(json_object_get(extensions, "subject_alt_name"));
	printf("SHA-256:     %s\n", text_of(c, "fingerprint_sha256"));
}

/* Of several certificates the first is the answer in JSON, the others are in its "chain". */
static int run_inspect(const struct options *o)
{
	struct certificates c;
	struct fault f;
	int rc = certificates_load(o->words[0], &c, &f);
	json_t *all = rc ? NULL : json_array();

	if (rc)
		return failed(rc, &f);
	for (unsigned i = 0; i < c.n; i++) {
		json_t *one = certificate_json(c.v[i]);
		if (one && !o->json) {
			fputs(i ? "\n" : "", stdout);
			print_certificate(one);
		}
		rc = json_array_append_new(all, one) == 0 ? rc : -ENOMEM;
	}
	if (rc == 0 && o->json) {
		json_t *first = json_incref(json_array_get(all, 0));
		json_array_remove(all, 0);
		if (json_array_size(all))
			json_object_set(first, "chain", all);
		rc = print_json(first);
	}
	json_decref(all);
	certificates_done(&c);
	return rc ? failed(rc, &f) : 0;
}

static int run_fingerprint(const struct options *o)
{
	struct certificates c;
	struct fault f;
	char text[65];
	int rc = certificates_load(o->words[0], &c, &f);

	if (rc)
		return failed(rc, &f);
	certificate_fingerprint(c.v[0], text);
	printf(o->json ? "{\"sha256\": \"%s\"}\n" : "%s\n", text);
	certificates_done(&c);
	return 0;
}

/* A chain, each signed by the next; or CAs that are trusted, all of which sign themselves. */
static int check_bundle(const struct options *o, const struct certificates *all, size_t n, struct fault *f)
{
	gnutls_x509_crt_t before = NULL;
	bool roots = certificate_signs_itself(all[0].v[0]);
	char name[256];

	for (size_t k = 0; k < n; k++)
		for (unsigned i = 0; i < all[k].n; i++) {
			gnutls_x509_crt_t crt = all[k].v[i];
			certificate_subject(crt, name);
			if (roots && !(certificate_signs_itself(crt) && certificate_is_ca(crt)))
				return refuse(f,
					      "%s: \"%s\" is no root: a bundle is either a chain, leaf "
					      "first, or roots "
					      "that are trusted",
					      o->words[k + 1], name);
			if (!roots && before && !certificate_signed_by(before, crt))
				return refuse(f,
					      "%s: \"%s\" has not signed the certificate before it: give the "
					      "files from the "
					      "leaf up",
					      o->words[k + 1], name);
			before = crt;
		}
	return 0;
}

static int run_bundle(const struct options *o)
{
	struct fileset set = {0};
	struct fault f;
	size_t n = o->n_words - 1;
	struct certificates *all = calloc(n, sizeof *all);
	struct ss_strbuf *out = fileset_add(&set, o->words[0], 0644);
	int rc = all ? fileset_check(&set, o->force, &f) : -ENOMEM;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = certificates_load(o->words[i + 1], &all[i], &f);
	if (rc == 0)
		rc = check_bundle(o, all, n, &f);
	unsigned count = 0;
	for (size_t k = 0; rc == 0 && k < n; k++)
		for (unsigned i = 0; rc == 0 && i < all[k].n; i++, count++)
			rc = certificate_pem(all[k].v[i], out);
	if (rc == 0)
		rc = fileset_write(&set, &f);
	if (rc == 0 && !o->json)
		printf("%s: %u certificates\n", o->words[0], count);
	else if (rc == 0)
		printf("{\"certificates\": %u}\n", count);
	for (size_t i = 0; all && i < n; i++)
		certificates_done(&all[i]);
	free(all);
	fileset_done(&set);
	return rc ? failed(rc, &f) : 0;
}

/* ---- verifying and renewing ---- */

static int run_verify(const struct options *o)
{
	struct fault f;
	struct verify v = {.roots = o->roots,
			   .intermediates = o->intermediates,
			   .n_intermediates = o->n_intermediates,
			   .crls = o->crls,
			   .n_crls = o->n_crls,
			   .key = o->key,
			   .passphrase = &o->passphrase,
			   .name = o->name,
			   .client = o->client,
			   .any_purpose = !o->name && !o->client};

	if (!o->roots && o->n_crls)
		return wrong_usage("--crl goes with --roots");
	if (!o->roots)
		return tree_verify(o);
	if (o->n_words != 1)
		return wrong_usage("\"verify --roots\" needs the certificate");
	v.crt = v.shown = o->words[0];
	int rc = verify_renew_days(&v.renew_s, &f);
	if (rc == 0 && o->json)
		v.list = json_array();
	if (rc == 0)
		rc = verify_certificate(&v, &f);
	if (rc >= 0 && v.list)
		rc = print_json(json_incref(json_array_get(v.list, 0))) < 0 ? -ENOMEM : rc;
	json_decref(v.list);
	return rc < 0 ? failed(rc, &f) : rc ? 0 : EXIT_FAILED;
}

static int run_renew(const struct options *o)
{
	return o->n_words == 2 ? renew_one(o) : tree_renew(o);
}

static int run_revoke(const struct options *o)
{
	return o->ca && strstr(o->ca, "://") ? join_revoke(o) : revoke_one(o);
}

static const struct verb verbs[] = {
	{"root", "[SUBJECT] CRT [KEY]",
	 "Makes a root: a CA that signs itself (RSA 4096, 5 years, path length 2).  With --ca URL, "
	 "--fingerprint "
	 "and CRT alone it fetches that of a CA.",
	 1, 3, TAKES_KEY | TAKES_TYPE | TAKES_LIFE | TAKES_LENGTH | TAKES_FORCE | TAKES_CA_URL, run_root},
	{"intermediate", "SUBJECT CRT KEY",
	 "Makes a CA below another: intermediate-ca (RSA 2048, 1 year), or sub-ca for a tenant (P-256, 2 "
	 "years, path length 0).",
	 3, 3, TAKES_CA | TAKES_KEY | TAKES_TYPE | TAKES_PROFILE | TAKES_LIFE | TAKES_LENGTH | TAKES_FORCE,
	 run_intermediate},
	{"leaf", "NAME CRT KEY",
	 "Makes a certificate for a service (service-leaf: server and client, 1 year) or a device "
	 "(device-leaf: client, 24 h).",
	 3, 3,
	 TAKES_CA | TAKES_CA_URL | TAKES_TOKEN | TAKES_KEY | TAKES_TYPE | TAKES_PROFILE | TAKES_NAMES |
		 TAKES_LIFE | TAKES_FORCE,
	 run_leaf},
	{"device", "NAME CRT KEY",
	 "Makes the certificate of a device, with the CAs above it: by a CA's files, or from a step-ca by a "
	 "one-time token; KEY stays here.",
	 3, 3, TAKES_CA | TAKES_CA_URL | TAKES_TOKEN | TAKES_KEY | TAKES_TYPE | TAKES_LIFE | TAKES_FORCE,
	 run_device},
	{"csr", "NAME CSR KEY",
	 "Makes a key and a request for a certificate, to be signed elsewhere; KEY stays here.", 3, 3,
	 TAKES_KEY | TAKES_TYPE | TAKES_NAMES | TAKES_FORCE, run_csr},
	{"sign", "CSR CRT",
	 "Signs a request.  It gets what its profile says, and only names that are its subject or given by "
	 "--san.",
	 2, 2, TAKES_CA | TAKES_PROFILE | TAKES_NAMES | TAKES_LIFE | TAKES_LENGTH | TAKES_FORCE, run_sign},
	{"inspect", "CRT", "Shows the certificates in a file.", 1, 1, 0, run_inspect},
	{"fingerprint", "CRT", "Prints the SHA-256 fingerprint of the first certificate in a file.", 1, 1, 0,
	 run_fingerprint},
	{"bundle", "OUT CRT...",
	 "Writes certificates into one file: a chain from the leaf up, or roots that are trusted.", 2, 64,
	 TAKES_FORCE, run_bundle},
	{"verify", "[CRT|DIR]",
	 "Judges a certificate (with --roots) or a tree that \"init\" made: chain, key, names, days left.\n"
	 "Exit code 1 if something is WRONG or EXPIRING: less than RENEW_DAYS left (else 30 days, or a third "
	 "of a short life).\n"
	 "DIR is PKI_DIR, or what \"init\" takes for its layout, if it is not given.",
	 0, 1, TAKES_VERIFY | TAKES_KEY | TAKES_LAYOUT, run_verify},
	{"renew", "[CRT KEY|DIR]",
	 "Renews a certificate, or the leaves of a tree, where due: see \"verify\".  CAs are kept.\n"
	 "With --ca URL a step-ca does it, to which each certificate shows itself; its key is kept.",
	 0, 2,
	 TAKES_CA | TAKES_CA_URL | TAKES_KEY | TAKES_TYPE | TAKES_LIFE | TAKES_FORCE | TAKES_RENEW |
		 TAKES_LAYOUT,
	 run_renew},
	{"rotate", "NAME [DIR]",
	 "Replaces one CA or one leaf of a tree, with a new key; all others stay as they are.  NAME is a "
	 "location, a service,\n"
	 "\"intermediate\" or a file.  In a federation the new CA is put beside the present one, with -new "
	 "in "
	 "its name.\n"
	 "--ca-key says where the root's key is, if not in the tree.",
	 1, 2, TAKES_CA | TAKES_KEY | TAKES_TYPE | TAKES_LIFE | TAKES_FORCE | TAKES_RENEW | TAKES_LAYOUT,
	 tree_rotate},
	{"token", "NAME FILE",
	 "Makes a one-time token: who has it gets a certificate for NAME from the step-ca at --ca, by "
	 "--profile "
	 "(device-leaf; --validity is the token's: 5 minutes).",
	 2, 2, TAKES_CA_URL | TAKES_PROVISIONER | TAKES_PROFILE | TAKES_NAMES | TAKES_LIFE | TAKES_FORCE,
	 join_token},
	{"join-request", "TENANT CSR KEY [REPLY]",
	 "Makes a tenant's key, which stays here, and the request for its CA; with --provider, or --ca and a "
	 "token, "
	 "sends it and waits for REPLY.",
	 3, 4,
	 TAKES_CA_URL | TAKES_TOKEN | TAKES_PROVIDER | TAKES_KEY | TAKES_TYPE | TAKES_LIFE | TAKES_FORCE,
	 join_request},
	{"approve", "CSR REPLY",
	 "Signs a tenant's request, with a CA's key or by a step-ca; REPLY is for the tenant.", 2, 2,
	 TAKES_CA | TAKES_CA_URL | TAKES_PROVISIONER | TAKES_LIFE | TAKES_FORCE, join_approve},
	{"join", "REPLY CRT ROOT",
	 "Takes the provider's reply: the certificates of the tenant's CA, if they are good.", 3, 3,
	 TAKES_VERIFY | TAKES_CA_URL | TAKES_KEY | TAKES_FORCE, join_accept},
	{"join-serve", "FOLDER CRT KEY",
	 "Takes tenants' requests over HTTPS into FOLDER, where \"approve\" finds them, and hands out "
	 "replies.",
	 3, 3, TAKES_KEY | TAKES_ROOTS | TAKES_LISTEN, join_serve},
	{"revoke", "CRT|SERIAL",
	 "Revokes a certificate: its file, or its serial in hex or decimal, goes into the index beside the "
	 "CA, and\n"
	 "counts when a list with it has been made by \"crl\" and published.\n"
	 "With a step-ca at --ca: it renews the certificate no more; with its --key, or a provisioner's "
	 "password.",
	 1, 1, TAKES_CA_URL | TAKES_PROVISIONER | TAKES_REVOKE | TAKES_FORCE, run_revoke},
	{"crl", "[OUT]",
	 "Makes the revocation list of a CA (until --validity, 7 days), in the place of the one before; its "
	 "number\n"
	 "grows.  Without OUT: shows what is revoked.",
	 0, 1, TAKES_CA | TAKES_LIFE, revoke_list},
	{"init", "[DIR]",
	 "Makes a tree of CAs and certificates, by layout:\n"
	 "internal    a CA, and certificates for Redis, its workers and an API; VALIDITY_DAYS is their life "
	 "(3650)\n"
	 "federation  an offline root, and an intermediate CA for the step-ca of each location; more of them "
	 "when it is there\n"
	 "provider    the home of a step-ca that signs the CAs of tenants; its root's key can go offline\n"
	 "step-ca     config/step-ca, a step-ca for services; see \"services\"\n"
	 "DIR is PKI_DIR, or pki, if it is not given; of step-ca, the present folder.\n"
	 "STEP_CA_PASSWORD, or a passphrase, encrypts the keys of provider and step-ca; else one is made up.",
	 0, 1, TAKES_LAYOUT | TAKES_PLACES | TAKES_KEY | TAKES_TYPE | TAKES_NAMES | TAKES_FORCE, tree_init},
	{"services", "[DIR]",
	 "Makes the certificates of the services of layout step-ca, 1 year each (VALIDITY_DAYS), in "
	 "data/certs/SERVICE.\n"
	 "Those that are there are kept, but for --force.  The tree's step-ca issues them by one-time "
	 "tokens, at --ca "
	 "URL or\nwhere defaults.json says; if none answers there, or with --ca-key, the intermediate's key "
	 "signs.",
	 0, 1, TAKES_CA | TAKES_TYPE | TAKES_NAMES | TAKES_FORCE | TAKES_LAYOUT, tree_services},
};

int main(int argc, char **argv)
{
	const size_t n = sizeof verbs / sizeof *verbs;
	struct options o;

	signal(SIGPIPE, SIG_IGN);
	umask(022);
	int rc = options_parse(argc, argv, verbs, n, &o);
	if (rc == -1) {
		options_help(verbs, n, o.verb < n ? &verbs[o.verb] : NULL, stdout);
		rc = 0;
	} else if (rc == 0) {
		rc = verbs[o.verb].run(&o);
	}
	options_done(&o);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		if (errno != EPIPE)
			fprintf(stderr, "semstreams pki: cannot write to standard output: %s\n",
				strerror(errno));
		return rc ? rc : EXIT_FAILED;
	}
	return rc;
}
