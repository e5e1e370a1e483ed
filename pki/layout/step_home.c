/* SPDX-License-Identifier: MIT */
/* step_home - see step_home.h. */
#include "step_home.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <gnutls/crypto.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include "pki/fault.h"
#include "pki/key.h"

/* ---- the provisioner: an ECDSA key as JWK (RFC 7517), encrypted with a password as JWE (RFC 7516, PBES2 of
 * RFC 7518), by libcrypto and GnuTLS ---- */

enum {
	COORDINATE = 32, /* bytes of P-256 */
	ROUNDS = 600000, /* what guessing the password costs, as for keys in files; step-ca reads up to a
			    million */
	SALT = 16,       /* all of these in bytes */
	WRAPPING_KEY = 16,
	CONTENT_KEY = 32,
	WRAPPED_KEY = CONTENT_KEY + 8,
	IV = 12,
	TAG = 16,
	TEXT_MAX = 512, /* of a JWK */
};

static const char algorithm[] = "PBES2-HS256+A128KW";

/* A number of the key, always of the curve's size. */
static void put_number(struct ss_strbuf *out, const gnutls_datum_t *number)
{
	unsigned char bytes[COORDINATE] = {0};
	size_t n = number->size > COORDINATE ? COORDINATE : number->size;

	memcpy(bytes + COORDINATE - n, number->data + number->size - n, n);
	ss_strbuf_base64url(out, bytes, sizeof bytes);
	explicit_bzero(bytes, sizeof bytes);
}

struct jwk {
	struct ss_strbuf x, y, d, kid;
};

static void jwk_done(struct jwk *j)
{
	ss_strbuf_done(&j->x);
	ss_strbuf_done(&j->y);
	ss_strbuf_done(&j->d);
	ss_strbuf_done(&j->kid);
}

/* kid is the thumbprint of RFC 7638, as step-ca has it. */
static int jwk_new(struct jwk *out, struct fault *f)
{
	struct key key;
	gnutls_ecc_curve_t curve;
	gnutls_datum_t x, y, d;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char text[TEXT_MAX];
	int rc = key_new("p256", &key, f);

	*out = (struct jwk){.d.secret = true};
	if (rc)
		return rc;
	if (gnutls_x509_privkey_export_ecc_raw(key.x509, &curve, &x, &y, &d)) {
		key_done(&key);
		return refuse(f, "the numbers of a new key cannot be had");
	}
	put_number(&out->x, &x);
	put_number(&out->y, &y);
	put_number(&out->d, &d);
	explicit_bzero(d.data, d.size);
	gnutls_free(x.data);
	gnutls_free(y.data);
	gnutls_free(d.data);
	key_done(&key);
	int n = snprintf(text, sizeof text, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}",
			 ss_strbuf_cstr(&out->x), ss_strbuf_cstr(&out->y));
	SHA256((const unsigned char *)text, (size_t)n, digest);
	ss_strbuf_base64url(&out->kid, digest, sizeof digest);
	return out->x.failed || out->y.failed || out->d.failed || out->kid.failed ? -ENOMEM : 0;
}

/* The key that wraps the content's, from the password.  The salt goes into the header. */
static bool derive(const struct ss_strbuf *password, const unsigned char salt[SALT],
		   unsigned char out[WRAPPING_KEY])
{
	unsigned char input[sizeof algorithm + SALT]; /* the NUL between them counts */

	memcpy(input, algorithm, sizeof algorithm);
	memcpy(input + sizeof algorithm, salt, SALT);
	return PKCS5_PBKDF2_HMAC(password->bytes, (int)password->len, input, sizeof input, ROUNDS,
				 EVP_sha256(), WRAPPING_KEY, out) == 1;
}

static bool wrap(const unsigned char with[WRAPPING_KEY], const unsigned char key[CONTENT_KEY],
		 unsigned char out[WRAPPED_KEY])
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char buf[WRAPPED_KEY + EVP_MAX_BLOCK_LENGTH];
	int n = 0, rest = 0;

	if (c)
		EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	bool fine = c && EVP_EncryptInit_ex(c, EVP_aes_128_wrap(), NULL, with, NULL) == 1 &&
		    EVP_EncryptUpdate(c, buf, &n, key, CONTENT_KEY) == 1 &&
		    EVP_EncryptFinal_ex(c, buf + n, &rest) == 1 && n + rest == WRAPPED_KEY;
	if (fine)
		memcpy(out, buf, WRAPPED_KEY);
	EVP_CIPHER_CTX_free(c);
	return fine;
}

/* AES-256-GCM; aad is the header as it is sent.  out has the length of the text. */
static bool seal(const unsigned char key[CONTENT_KEY], const unsigned char iv[IV],
		 const struct ss_strbuf *aad, const struct ss_strbuf *text, unsigned char *out,
		 unsigned char tag[TAG])
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0, rest = 0;
	bool fine = c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, iv) == 1 &&
		    EVP_EncryptUpdate(c, NULL, &n, (const unsigned char *)aad->bytes, (int)aad->len) == 1 &&
		    EVP_EncryptUpdate(c, out, &n, (const unsigned char *)text->bytes, (int)text->len) == 1 &&
		    EVP_EncryptFinal_ex(c, out + n, &rest) == 1 &&
		    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;

	EVP_CIPHER_CTX_free(c);
	return fine;
}

static void put_header(struct ss_strbuf *out, const unsigned char salt[SALT])
{
	struct ss_strbuf text = {0};

	ss_strbuf_printf(&text,
			 "{\"alg\":\"%s\",\"cty\":\"jwk+json\",\"enc\":\"A256GCM\",\"p2c\":%d,\"p2s\":\"",
			 algorithm, ROUNDS);
	ss_strbuf_base64url(&text, salt, SALT);
	ss_strbuf_text(&text, "\"}");
	ss_strbuf_base64url(out, (const unsigned char *)text.bytes, text.len);
	out->failed = out->failed || text.failed;
	ss_strbuf_done(&text);
}

/* header.wrapped-key.iv.text.tag */
static int encrypt(const struct ss_strbuf *text, const struct ss_strbuf *password, struct ss_strbuf *out)
{
	unsigned char salt[SALT], iv[IV], wrapping[WRAPPING_KEY], key[CONTENT_KEY], wrapped[WRAPPED_KEY],
		tag[TAG], sealed[TEXT_MAX];
	bool fine = RAND_bytes(salt, sizeof salt) == 1 && RAND_bytes(iv, sizeof iv) == 1 &&
		    RAND_priv_bytes(key, sizeof key) == 1 && text->len <= sizeof sealed;

	put_header(out, salt);
	fine = fine && derive(password, salt, wrapping) && wrap(wrapping, key, wrapped) &&
	       seal(key, iv, out, text, sealed, tag);
	explicit_bzero(key, sizeof key);
	explicit_bzero(wrapping, sizeof wrapping);
	if (!fine)
		return -ENOMEM;
	const struct {
		const unsigned char *bytes;
		size_t len;
	} parts[] = {{wrapped, sizeof wrapped}, {iv, sizeof iv}, {sealed, text->len}, {tag, sizeof tag}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		ss_strbuf_char(out, '.');
		ss_strbuf_base64url(out, parts[i].bytes, parts[i].len);
	}
	return out->failed ? -ENOMEM : 0;
}

static void provisioner_done(struct provisioner *p)
{
	json_decref(p->public);
	ss_strbuf_done(&p->sealed);
	*p = (struct provisioner){0};
}

/* A new key.  0 with *out for provisioner_done(), -EINVAL with the fault, -ENOMEM. */
static int provisioner_new(const struct ss_strbuf *password, struct provisioner *out, struct fault *f)
{
	struct jwk jwk;
	struct ss_strbuf text = {.secret = true};
	int rc = jwk_new(&jwk, f);

	*out = (struct provisioner){0};
	if (rc == 0) {
		const char *x = ss_strbuf_cstr(&jwk.x), *y = ss_strbuf_cstr(&jwk.y),
			   *kid = ss_strbuf_cstr(&jwk.kid);
		out->public = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "use", "sig", "kty", "EC",
					"kid", kid, "crv", "P-256", "alg", "ES256", "x", x, "y", y);
		ss_strbuf_printf(
			&text,
			"{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"alg\":\"ES256\","
			"\"x\":\"%s\",\"y\":\"%s\",\"d\":\"%s\"}",
			kid, x, y, ss_strbuf_cstr(&jwk.d));
		rc = out->public && !text.failed ? encrypt(&text, password, &out->sealed) : -ENOMEM;
	}
	ss_strbuf_done(&text);
	jwk_done(&jwk);
	if (rc)
		provisioner_done(out);
	return rc;
}

/* The sealed key in the JSON serialization, for a file of its own.  NULL: out of memory. */
static json_t *provisioner_file(const struct provisioner *p)
{
	static const char *const names[] = {"protected", "encrypted_key", "iv", "ciphertext", "tag"};
	json_t *out = json_object();
	const char *at = p->sealed.bytes, *end = at + p->sealed.len;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));
		size_t n = (size_t)((dot ? dot : end) - at);
		if (json_object_set_new(out, names[i], json_stringn(at, n))) {
			json_decref(out);
			return NULL;
		}
		at += n + (dot != NULL);
	}
	return out;
}

enum { PASSWORD = 32 /* random bytes of one that is made up */ };

static int path_at(const struct tree *t, const struct step_home *h, const char *file, char *out,
		   struct fault *f)
{
	char below[PATH_MAX];
	int rc = TREE_PATH(below, f, "%s%s", h->base, file);

	return rc ? rc : tree_path(t, below, out, f);
}

/* A path of the layout's, as ca.json has it. */
static const char *inside(const struct step_home *h, const char *path)
{
	return path + strlen(h->base);
}

/* ---- made ---- */

static int put_json(struct tree *t, const struct step_home *h, const char *file, mode_t mode, json_t *value,
		    struct fault *f)
{
	char below[PATH_MAX];
	char *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(3)) : NULL;
	struct ss_strbuf lines = {.secret = (mode & 0077) == 0};
	int rc = text ? TREE_PATH(below, f, "%s%s", h->base, file) : -ENOMEM;

	if (rc == 0) {
		ss_strbuf_printf(&lines, "%s\n", text);
		rc = lines.failed ? -ENOMEM : tree_write(t, below, mode, ss_strbuf_cstr(&lines), f);
	}
	ss_strbuf_done(&lines);
	free(text);
	return rc;
}

/* For whoever runs the CA only. */
static int make_folder(const struct tree *t, const struct step_home *h, const char *name, struct fault *f)
{
	char path[PATH_MAX];
	int rc = path_at(t, h, name, path, f);

	if (rc == 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
		rc = refuse(f, "%s cannot be made: %s", path, strerror(errno));
	return rc;
}

static int make_up(struct ss_strbuf *out)
{
	unsigned char bytes[PASSWORD];
	gnutls_datum_t raw = {bytes, sizeof bytes}, text = {0};

	if (gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof bytes) || gnutls_base64_encode2(&raw, &text))
		return -ENOMEM;
	ss_strbuf_add(out, text.data, text.size);
	explicit_bzero(bytes, sizeof bytes);
	explicit_bzero(text.data, text.size);
	gnutls_free(text.data);
	return out->failed ? -ENOMEM : 0;
}

/* As told on the command line, else by the environment, else made up; kept in a file, from which step-ca
 * reads it. */
static int password(struct tree *t, struct ss_strbuf *out, struct fault *f)
{
	const struct passphrase *said = &t->o->passphrase, environment = {.env = "STEP_CA_PASSWORD"};
	const char *value = getenv(environment.env);
	int rc;

	if (said->file || said->env || said->prompt)
		rc = passphrase_new(said, out, f);
	else
		rc = value && *value ? passphrase_new(&environment, out, f) : make_up(out);
	if (rc == 0 && memchr(out->bytes, '\n', out->len))
		rc = refuse(f, "the password has more than one line");
	if (rc)
		return rc;
	struct ss_strbuf line = {.secret = true};
	ss_strbuf_printf(&line, "%s\n", ss_strbuf_cstr(out));
	rc = line.failed ? -ENOMEM : tree_write(t, t->layout->password, 0600, ss_strbuf_cstr(&line), f);
	ss_strbuf_done(&line);
	return rc;
}

static int make_cas(struct tree *t, const struct step_home *h, struct fault *f)
{
	const struct names none = {0};
	const struct passphrase own = {.file = t->password};
	const char *type = t->o->key_type ? t->o->key_type : "p256"; /* as step-ca's own tool */
	struct issue what = {.profile = &profile_root,
			     .subject = h->root_subject,
			     .key_type = type,
			     .crt = t->root,
			     .key = t->root_key,
			     .names = &none,
			     .passphrase = &own,
			     .life_s = h->root_life_s,
			     .path_len = h->root_path_len,
			     .replace = t->o->force};
	struct issuer root = {0};
	struct member m;
	int rc = tree_member(t, t->layout->root, t->layout->root_key, &m, f);

	if (rc == 0)
		rc = tree_issue(t, &m, &what, NULL, f);
	if (rc == 0)
		rc = issuer_load(t->root, t->root_key, &own, &root, f);
	if (rc == 0)
		rc = tree_member(t, t->layout->issuer, t->layout->issuer_key, &m, f);
	if (rc == 0) {
		what.profile = &profile_intermediate;
		what.subject = h->subject;
		what.crt = t->issuer;
		what.key = t->issuer_key;
		what.life_s = h->life_s;
		what.path_len = h->path_len;
		rc = tree_issue(t, &m, &what, &root, f);
	}
	issuer_done(&root);
	return rc;
}

static json_t *dns_names(const struct options *o)
{
	static const char *const usual[] = {"step-ca", "localhost", "127.0.0.1"};
	json_t *out = json_array();

	for (size_t i = 0; i < o->names.n; i++)
		json_array_append_new(out, json_string(o->names.v[i].text));
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		json_array_append_new(out, json_string(usual[i]));
	return out;
}

static json_t *config(const struct tree *t, const struct step_home *h, const struct provisioner *p)
{
	json_t *authority = h->authority(p);

	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:s}, s:{s:s, s:s}, s:o, s:{s:[s,s], s:f, s:f, s:b}}",
			 "root", inside(h, t->layout->root), "crt", inside(h, t->layout->issuer), "key",
			 inside(h, t->layout->issuer_key), "address", t->o->address ? t->o->address : ":9000",
			 "dnsNames", dns_names(t->o), "logger", "format", "text", "db", "type", "badgerv2",
			 "dataSource", "db", "authority", authority, "tls", "cipherSuites",
			 "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
			 "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "minVersion", 1.2, "maxVersion", 1.3,
			 "renegotiation", 0);
}

static json_t *defaults(const struct tree *t, const struct step_home *h, const char *fingerprint)
{
	const char *address = t->o->address ? t->o->address : ":9000", *colon = strrchr(address, ':');
	char url[64];

	snprintf(url, sizeof url, "https://localhost:%.20s", colon ? colon + 1 : address);
	return json_pack("{s:s, s:s, s:s, s:s}", "ca-url", url, "ca-config", h->config, "fingerprint",
			 fingerprint, "root", inside(h, t->layout->root));
}

static int fingerprint(const struct tree *t, char out[65], struct fault *f)
{
	struct certificates root;
	int rc = certificates_load(t->root, &root, f);

	if (rc)
		return rc;
	certificate_fingerprint(root.v[0], out);
	certificates_done(&root);
	return 0;
}

static int make_config(struct tree *t, const struct step_home *h, const struct ss_strbuf *secret,
		       struct fault *f)
{
	struct provisioner p;
	char hex[65];
	int rc = provisioner_new(secret, &p, f);

	if (rc)
		return rc;
	json_t *sealed = provisioner_file(&p), *ca = config(t, h, &p), *client = NULL;
	rc = fingerprint(t, hex, f);
	if (rc == 0)
		rc = put_json(t, h, "secrets/provisioner.pub.json", 0644, p.public, f);
	if (rc == 0)
		rc = put_json(t, h, "secrets/provisioner.key.json", 0600, sealed, f);
	if (rc == 0)
		rc = put_json(t, h, h->config, 0644, ca, f);
	if (rc == 0) {
		client = defaults(t, h, hex);
		rc = put_json(t, h, h->defaults, 0644, client, f);
	}
	json_decref(sealed);
	json_decref(ca);
	json_decref(client);
	provisioner_done(&p);
	return rc;
}

int step_home_init(struct tree *t, const struct step_home *h, struct fault *f)
{
	struct ss_strbuf secret = {.secret = true};

	if (access(t->root, F_OK) == 0 && !t->o->force)
		return refuse(f, "%s is there already: --force makes a new root, which nobody trusts yet",
			      t->root);
	json_decref(t->metadata);
	t->metadata = NULL;
	int rc = 0;
	/* .gitignore among them: git is to know before there are secrets */
	for (const struct step_file *file = h->files; rc == 0 && file->path; file++)
		rc = tree_write(t, file->path, 0644, file->text, f);
	if (rc == 0)
		rc = password(t, &secret, f);
	if (rc == 0)
		rc = make_folder(t, h, "db", f);
	if (rc == 0)
		rc = make_cas(t, h, f);
	if (rc == 0)
		rc = make_config(t, h, &secret, f);
	/* the programs beside it have no business there */
	char path[PATH_MAX];
	if (rc == 0)
		rc = path_at(t, h, "secrets", path, f);
	if (rc == 0 && chmod(path, 0700) < 0)
		rc = refuse(f, "%s: its mode cannot be set: %s", path, strerror(errno));
	ss_strbuf_done(&secret);
	return rc ? rc : tree_save(t, f);
}

void step_home_tell(const struct tree *t)
{
	char hex[65];
	struct fault ignored;

	if (t->o->json || fingerprint(t, hex, &ignored))
		return;
	printf("STEP_CA_FINGERPRINT=%s\n", hex);
	printf("%s: the root's key: take it offline, step-ca does without it\n", t->root_key);
}

/* ---- verified ---- */

/* A file as it is called: below the tree. */
static int show(const struct step_home *h, const char *file, char shown[PATH_MAX])
{
	return snprintf(shown, PATH_MAX, "%s%s", h->base, file) < PATH_MAX ? 0 : -EINVAL;
}

static void check_config(const struct tree *t, const struct step_home *h, struct verdict *verdict)
{
	static const char *const files[] = {"root", "crt", "key"};
	char path[PATH_MAX], file[PATH_MAX], shown[PATH_MAX], why[256];
	struct fault ignored;
	json_error_t error;

	if (path_at(t, h, h->config, path, &ignored) || show(h, h->config, shown))
		return;
	json_t *config = json_load_file(path, 0, &error);
	if (!config) {
		snprintf(why, sizeof why, "it cannot be read: %s", error.text);
		tree_wrong(verdict, shown, why);
		return;
	}
	bool fine = true;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		const char *name = json_string_value(json_object_get(config, files[i]));
		if (name && *name == '/')
			continue; /* a place in a container, perhaps */
		if (name && path_at(t, h, name, file, &ignored) == 0 && access(file, F_OK) == 0)
			continue;
		snprintf(why, sizeof why, "its \"%s\" names no file", files[i]);
		tree_wrong(verdict, shown, why);
		fine = false;
	}
	if (fine && !verdict->list)
		printf("%s: ok\n", shown);
	json_decref(config);
}

static void check_defaults(const struct tree *t, const struct step_home *h, struct verdict *verdict)
{
	char path[PATH_MAX], shown[PATH_MAX], hex[65];
	struct fault ignored;

	if (path_at(t, h, h->defaults, path, &ignored) || show(h, h->defaults, shown) ||
	    fingerprint(t, hex, &ignored))
		return;
	json_t *defaults = json_load_file(path, 0, NULL);
	const char *said = json_string_value(json_object_get(defaults, "fingerprint"));
	if (!said || strcasecmp(said, hex) != 0)
		tree_wrong(verdict, shown,
			   "its \"fingerprint\" is not that of the root: clients will refuse this CA");
	else if (!verdict->list)
		printf("%s: ok\n", shown);
	json_decref(defaults);
}

/* Secrets are for one reader. */
static void check_secret(const struct tree *t, const struct step_home *h, const char *file,
			 struct verdict *verdict)
{
	char path[PATH_MAX], shown[PATH_MAX];
	struct fault ignored;
	struct stat st;

	if (path_at(t, h, file, path, &ignored) || show(h, file, shown) || stat(path, &st) < 0)
		return; /* it may be kept elsewhere */
	if (!ss_file_is_private(&st))
		tree_wrong(verdict, shown,
			   "others may read it: chmod 600 it, and make a new one if they did");
	else if (!verdict->list)
		printf("%s: ok\n", shown);
}

int step_home_check(struct tree *t, const struct step_home *h, struct verdict *verdict, struct fault *f)
{
	(void)f;
	check_config(t, h, verdict);
	check_defaults(t, h, verdict);
	check_secret(t, h, inside(h, t->layout->password), verdict);
	check_secret(t, h, "secrets/provisioner.key.json", verdict);
	if (!verdict->list && access(t->root_key, F_OK) == 0)
		printf("%s: note: the root's key is still here: take it offline, step-ca does without it\n",
		       t->layout->root_key);
	return 0;
}
