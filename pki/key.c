/* SPDX-License-Identifier: MIT */
/* key - see key.h. */
#include "key.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <gnutls/pkcs11.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <semstreams/base/file_atomic.h>

enum {
	FILE_MAX = 1 << 20,     /* bytes of a file with a key */
	PASSPHRASE_MAX = 1024,  /* bytes */
	PBKDF2_ROUNDS = 600000, /* what guessing a passphrase costs; OWASP's number for SHA-256 */
	RSA_BITS_MIN = 2048,
	RSA_BITS_MAX = 8192,  /* with the limit of the exponent: what a hostile signature costs to check */
	RSA_EXPONENT_MAX = 8, /* bytes */
};

const char *const key_types[] = {"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "ed25519", NULL};

/* ---- passphrases ---- */

static int from_file(const char *path, struct ss_strbuf *out, struct fault *f)
{
	char *bytes;
	size_t len;
	struct stat st;
	int rc = ss_file_read(AT_FDCWD, path, PASSPHRASE_MAX, &bytes, &len, &st);

	if (rc < 0)
		return rc == -ENOMEM
			       ? rc
			       : refuse(f, "%s: the passphrase cannot be read: %s", path, strerror(-rc));
	ss_strbuf_add(out, bytes, strcspn(bytes, "\r\n"));
	explicit_bzero(bytes, len);
	free(bytes);
	if (!ss_file_is_private(&st))
		fprintf(stderr,
			"semstreams pki: warning: %s: others can read this passphrase; chmod 600 it\n", path);
	return out->failed ? -ENOMEM : out->len ? 0 : refuse(f, "%s: there is no passphrase in it", path);
}

static int from_terminal(const char *what, struct ss_strbuf *out, struct fault *f)
{
	struct termios before, silent;
	char c;
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (tty < 0 || tcgetattr(tty, &before) < 0) {
		if (tty >= 0)
			close(tty);
		return refuse(f, "there is no terminal to ask for the passphrase of %s", what);
	}
	silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(tty, TCSAFLUSH, &silent);
	dprintf(tty, "passphrase of %s: ", what);
	while (read(tty, &c, 1) == 1 && c != '\n' && out->len < PASSPHRASE_MAX)
		ss_strbuf_char(out, c);
	dprintf(tty, "\n");
	tcsetattr(tty, TCSAFLUSH, &before);
	close(tty);
	return out->failed ? -ENOMEM : out->len ? 0 : refuse(f, "no passphrase of %s was given", what);
}

static bool is_given(const struct passphrase *p)
{
	return p && (p->file || p->env || p->prompt);
}

/* Into a secret buffer, empty before; *where says where it was from. */
static int passphrase_get(const struct passphrase *p, const char *what, struct ss_strbuf *out,
			  const char **where, struct fault *f)
{
	*where = "that was typed in";
	if (p->file) {
		*where = p->file;
		return from_file(p->file, out, f);
	}
	if (!p->env)
		return from_terminal(what, out, f);
	const char *value = getenv(p->env);
	*where = p->env;
	if (!value || !*value)
		return refuse(
			f, "the environment variable %s, which should hold the passphrase of %s, is not set",
			p->env, what);
	ss_strbuf_text(out, value);
	return out->failed ? -ENOMEM : 0;
}

int passphrase_read(const struct passphrase *p, const char *what, struct ss_strbuf *out, const char **where,
		    struct fault *f)
{
	if (!is_given(p) && !isatty(STDIN_FILENO))
		return refuse(f, "%s has a passphrase: give it by %s", what, p->options);
	return passphrase_get(p, what, out, where, f);
}

int passphrase_new(const struct passphrase *p, struct ss_strbuf *out, struct fault *f)
{
	struct ss_strbuf again = {.secret = true};
	const char *where;
	int rc = passphrase_get(p, "the new key", out, &where, f);

	if (rc == 0 && !p->file && !p->env) {
		rc = from_terminal("the new key, again", &again, f);
		if (rc == 0 && (again.len != out->len || memcmp(again.bytes, out->bytes, out->len) != 0))
			rc = refuse(f, "the two passphrases differ");
	}
	ss_strbuf_done(&again);
	return rc;
}

/* ---- making and reading ---- */

void key_done(struct key *k)
{
	if (k->public)
		gnutls_pubkey_deinit(k->public);
	if (k->private)
		gnutls_privkey_deinit(k->private);
	if (k->x509)
		gnutls_x509_privkey_deinit(k->x509);
	*k = (struct key){0};
}

static int finish(struct key *k, const char *what, struct fault *f)
{
	int rc = k->private ? 0 : gnutls_privkey_init(&k->private);

	if (rc == 0 && k->x509)
		rc = gnutls_privkey_import_x509(k->private, k->x509, 0);
	if (rc == 0)
		rc = gnutls_pubkey_init(&k->public);
	if (rc == 0)
		rc = gnutls_pubkey_import_privkey(k->public, k->private, 0, 0);
	if (rc == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	return rc ? refuse(f, "%s: the public part of the key cannot be had: %s", what, gnutls_strerror(rc))
		  : 0;
}

int key_new(const char *type, struct key *out, struct fault *f)
{
	static const struct {
		gnutls_pk_algorithm_t algorithm;
		unsigned bits;
	} how[] = {{GNUTLS_PK_RSA, 2048},
		   {GNUTLS_PK_RSA, 3072},
		   {GNUTLS_PK_RSA, 4096},
		   {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1)},
		   {GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1)},
		   {GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519)}};
	size_t i = 0;

	*out = (struct key){0};
	while (key_types[i] && strcmp(key_types[i], type) != 0)
		i++;
	if (!key_types[i])
		return refuse(f, "there is no type of key \"%s\"", type);
	if (gnutls_x509_privkey_init(&out->x509))
		return -ENOMEM;
	int rc = gnutls_x509_privkey_generate(out->x509, how[i].algorithm, how[i].bits, 0);
	if (rc)
		rc = refuse(f, "a key of type %s cannot be made: %s", type, gnutls_strerror(rc));
	else
		rc = finish(out, "the new key", f);
	if (rc)
		key_done(out);
	return rc;
}

bool key_is_uri(const char *path)
{
	return strncmp(path, "pkcs11:", 7) == 0;
}

struct pin {
	const struct passphrase *from;
	struct fault *fault;
	int rc;
	bool asked;
};

/* GnuTLS asks again after a wrong one: once is enough, as a token locks itself up. */
static int give_pin(void *arg, int attempt, const char *url, const char *label, unsigned flags, char *pin,
		    size_t size)
{
	struct pin *p = arg;
	struct ss_strbuf text = {.secret = true};
	const char *where = "";

	(void)url, (void)attempt;
	if (p->asked || (flags & GNUTLS_PIN_WRONG)) {
		p->rc = refuse(p->fault, "token \"%s\": the PIN is wrong", label);
		return GNUTLS_E_PKCS11_PIN_ERROR;
	}
	p->asked = true;
	p->rc = is_given(p->from) || isatty(STDIN_FILENO)
			? passphrase_get(p->from, label, &text, &where, p->fault)
			: refuse(p->fault, "token \"%s\" wants a PIN: give it by %s", label,
				 p->from->options);
	if (p->rc == 0 && text.len >= size)
		p->rc = refuse(p->fault, "token \"%s\": the PIN is too long", label);
	if (p->rc == 0)
		memcpy(pin, ss_strbuf_cstr(&text), text.len + 1);
	ss_strbuf_done(&text);
	return p->rc ? GNUTLS_E_PKCS11_PIN_ERROR : 0;
}

static int load_token(const char *uri, const struct passphrase *from, struct key *out, struct fault *f)
{
	struct pin pin = {.from = from, .fault = f};

	if (gnutls_privkey_init(&out->private))
		return -ENOMEM;
	gnutls_privkey_set_pin_function(out->private, give_pin, &pin);
	int rc = gnutls_privkey_import_url(out->private, uri, 0);
	if (pin.rc)
		return pin.rc;
	if (rc == GNUTLS_E_PKCS11_PIN_ERROR)
		return refuse(f, "%s: the PIN is wrong", uri);
	if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return refuse(
			f, "%s: no token that is here has such a key; p11tool --list-tokens shows the tokens",
			uri);
	if (rc)
		return refuse(f, "%s: the key cannot be used: %s", uri, gnutls_strerror(rc));
	return finish(out, uri, f);
}

static int load_pem(const char *path, gnutls_datum_t *pem, const struct passphrase *from, struct key *out,
		    struct fault *f)
{
	struct ss_strbuf text = {.secret = true};
	const char *where = "";
	bool encrypted = memmem(pem->data, pem->size, "ENCRYPTED", 9);
	int rc = 0;

	if (!memmem(pem->data, pem->size, "PRIVATE KEY-----", 16))
		return refuse(f, "%s: there is no private key in PEM in it", path);
	if (encrypted && !is_given(from) && !isatty(STDIN_FILENO))
		return refuse(f, "%s: the key is encrypted: give its passphrase by %s", path, from->options);
	out->sealed = encrypted;
	if (encrypted)
		rc = passphrase_get(from, path, &text, &where, f);
	if (rc == 0 && gnutls_x509_privkey_init(&out->x509))
		rc = -ENOMEM;
	if (rc == 0) {
		rc = gnutls_x509_privkey_import2(out->x509, pem, GNUTLS_X509_FMT_PEM,
						 encrypted ? ss_strbuf_cstr(&text) : NULL,
						 encrypted ? 0 : GNUTLS_PKCS_PLAIN);
		if (rc && encrypted)
			rc = refuse(f, "%s: the passphrase (%s) is wrong, or the key is damaged", path,
				    where);
		else if (rc)
			rc = refuse(f, "%s: the key cannot be read: %s", path, gnutls_strerror(rc));
	}
	ss_strbuf_done(&text);
	return rc ? rc : finish(out, path, f);
}

static int load_file(const char *path, const struct passphrase *from, struct key *out, struct fault *f)
{
	char *bytes;
	size_t len;
	struct stat st;
	int rc = ss_file_read(AT_FDCWD, path, FILE_MAX, &bytes, &len, &st);

	if (rc < 0)
		return rc == -ENOMEM ? rc : refuse(f, "%s: the key cannot be read: %s", path, strerror(-rc));
	out->exposed = !ss_file_is_private(&st);
	gnutls_datum_t pem = {(unsigned char *)bytes, (unsigned)len};
	rc = load_pem(path, &pem, from, out, f);
	explicit_bzero(bytes, len);
	free(bytes);
	return rc;
}

int key_load(const char *path, const struct passphrase *from, struct key *out, struct fault *f)
{
	*out = (struct key){0};
	int rc = key_is_uri(path) ? load_token(path, from, out, f) : load_file(path, from, out, f);
	if (rc)
		key_done(out);
	return rc;
}

/* ---- writing ---- */

static int encrypt(const gnutls_datum_t *der, const struct ss_strbuf *passphrase, struct ss_strbuf *out)
{
	const unsigned char *at = der->data;
	char *text;
	PKCS8_PRIV_KEY_INFO *plain = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der->size);
	X509_SIG *sealed = plain ? PKCS8_encrypt(-1, EVP_aes_256_cbc(), passphrase->bytes,
						 (int)passphrase->len, NULL, 16, PBKDF2_ROUNDS, plain)
				 : NULL;
	BIO *bio = sealed ? BIO_new(BIO_s_mem()) : NULL;
	int rc = bio && PEM_write_bio_PKCS8(bio, sealed) ? 0 : -ENOMEM;

	if (rc == 0) {
		long len = BIO_get_mem_data(bio, &text);
		ss_strbuf_add(out, text, (size_t)len);
	}
	BIO_free(bio);
	X509_SIG_free(sealed);
	PKCS8_PRIV_KEY_INFO_free(plain);
	return rc;
}

int key_pem(const struct key *k, const struct passphrase *from, struct ss_strbuf *out, struct fault *f)
{
	struct ss_strbuf passphrase = {.secret = true};
	gnutls_datum_t d = {0};
	bool sealed = is_given(from);
	int rc = sealed ? passphrase_new(from, &passphrase, f) : 0;

	if (rc == 0) {
		rc = gnutls_x509_privkey_export2_pkcs8(k->x509,
						       sealed ? GNUTLS_X509_FMT_DER : GNUTLS_X509_FMT_PEM,
						       NULL, GNUTLS_PKCS_PLAIN, &d);
		rc = rc ? -ENOMEM : sealed ? encrypt(&d, &passphrase, out) : 0;
	}
	if (rc == 0 && !sealed)
		ss_strbuf_add(out, d.data, d.size);
	if (d.data)
		explicit_bzero(d.data, d.size);
	gnutls_free(d.data);
	ss_strbuf_done(&passphrase);
	return rc ? rc : out->failed ? -ENOMEM : 0;
}

/* ---- public keys ---- */

static int check_rsa(gnutls_pubkey_t key, unsigned bits, const char *whose, struct fault *f)
{
	gnutls_datum_t modulus, exponent;

	if (bits < RSA_BITS_MIN)
		return refuse(f, "%s: RSA of %u bits is too short: %d at least", whose, bits, RSA_BITS_MIN);
	if (gnutls_pubkey_export_rsa_raw2(key, &modulus, &exponent, GNUTLS_EXPORT_FLAG_NO_LZ))
		return refuse(f, "%s: the RSA key cannot be read", whose);
	bool fine = bits <= RSA_BITS_MAX && exponent.size <= RSA_EXPONENT_MAX;
	gnutls_free(modulus.data);
	gnutls_free(exponent.data);
	return fine ? 0 : refuse(f, "%s: the RSA key has an unreasonable size", whose);
}

int key_check_public(gnutls_pubkey_t key, const char *whose, struct fault *f)
{
	unsigned bits = 0;
	gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
	int kind = gnutls_pubkey_get_pk_algorithm(key, &bits);

	if (kind == GNUTLS_PK_RSA)
		return check_rsa(key, bits, whose, f);
	if (kind == GNUTLS_PK_EDDSA_ED25519)
		return 0;
	if (kind == GNUTLS_PK_ECDSA && gnutls_pubkey_export_ecc_raw2(key, &curve, NULL, NULL, 0) == 0 &&
	    (curve == GNUTLS_ECC_CURVE_SECP256R1 || curve == GNUTLS_ECC_CURVE_SECP384R1 ||
	     curve == GNUTLS_ECC_CURVE_SECP521R1))
		return 0;
	return refuse(f, "%s: the key is neither RSA nor ECDSA on P-256, P-384 or P-521 nor Ed25519", whose);
}

const char *key_show(gnutls_pubkey_t key, char *buf)
{
	unsigned bits = 0;
	int kind = gnutls_pubkey_get_pk_algorithm(key, &bits);

	if (kind == GNUTLS_PK_ECDSA)
		snprintf(buf, 32, "ECDSA P-%u", bits);
	else if (kind == GNUTLS_PK_EDDSA_ED25519)
		snprintf(buf, 32, "Ed25519");
	else
		snprintf(buf, 32, "%.20s %u",
			 kind < 0 ? "unknown" : gnutls_pk_get_name((gnutls_pk_algorithm_t)kind), bits);
	return buf;
}

const char *key_fingerprint(gnutls_pubkey_t key, char *buf)
{
	unsigned char id[32];
	size_t len = sizeof id;

	*buf = '\0';
	if (gnutls_pubkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, id, &len) == 0)
		for (size_t i = 0; i < len; i++)
			snprintf(buf + 2 * i, 3, "%02x", id[i]);
	return buf;
}

const char *key_type_of(gnutls_pubkey_t key)
{
	unsigned bits = 0;
	char type[16];
	int kind = gnutls_pubkey_get_pk_algorithm(key, &bits);

	if (kind == GNUTLS_PK_EDDSA_ED25519)
		snprintf(type, sizeof type, "ed25519");
	else
		snprintf(type, sizeof type, "%s%u", kind == GNUTLS_PK_RSA ? "rsa" : "p", bits);
	for (size_t i = 0; key_types[i]; i++)
		if (strcmp(key_types[i], type) == 0)
			return key_types[i];
	return "p256";
}
