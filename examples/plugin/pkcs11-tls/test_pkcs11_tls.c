/* SPDX-License-Identifier: MIT */
/* Unit tests of pkcs11_tls: a token of SoftHSM in a folder of the test's own, a clock that the test moves,
 * and a service that writes down what is published and has the signer sign.  Without SoftHSM those tests are
 * skipped. */
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <gnutls/abstract.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/ext/tls-provider.h>

static char folder[] = "/tmp/test_pkcs11_tls.XXXXXX";
static char module[256];
static char published[4096], unavailable[512]; /* the newest */
static const struct ss_tls_signer *signer;     /* the newest, with a reference */
static int refused;                            /* publish_signer() finds it no good */

static const char *path(const char *name)
{
	static char paths[4][300];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof paths[0], "%s/%s", folder, name);
	return p;
}

static void release(void)
{
	if (signer)
		signer->unref(signer->self);
	signer = NULL;
}

static int32_t on_publish_signer(void *self, const char *source, const char *chain_pem,
				 const struct ss_tls_signer *with, char *why, size_t why_size)
{
	(void)self;
	check(strcmp(source, "pkcs11") == 0, "the source is named");
	if (refused) {
		snprintf(why, why_size, "it does not match");
		return -EINVAL;
	}
	with->ref(with->self);
	release();
	signer = with;
	snprintf(published, sizeof published, "%s", chain_pem);
	return 0;
}

static void on_unavailable(void *self, const char *reason)
{
	(void)self;
	snprintf(unavailable, sizeof unavailable, "%s", reason);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(path(name), "w");
	check(f && fputs(text, f) >= 0 && fclose(f) == 0 && chmod(path(name), mode) == 0, "write a file");
}

static int shell(const char *command)
{
	char line[1024];

	snprintf(line, sizeof line, "cd %s && { %s; } >>log 2>&1", folder, command);
	return system(line);
}

static void begin_with(const char *uri)
{
	static struct ss_tls_publish service;
	static char cert[300], pin[300];
	const char *const options[] = {"module",    module, "key",      uri,  "pin_file", pin,
				       "cert_file", cert,   "interval", "1m", NULL};

	snprintf(cert, sizeof cert, "%s", path("server.crt"));
	snprintf(pin, sizeof pin, "%s", path("pin"));
	service.struct_size = (uint32_t)sizeof service;
	service.unavailable = on_unavailable;
	service.publish_signer = on_publish_signer;
	published[0] = unavailable[0] = '\0';
	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	ss_test_host_offer(&host, SS_TLS_PUBLISH, &service, (uint32_t)sizeof service, NULL);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
	check(host.desc->start(host.self) == 0, "start");
}

#define URI    "pkcs11:token=semstreams;object=server;type=private"
#define MINUTE UINT64_C(60000000000)

/* A digest signed by the token verifies with the certificate. */
static void test_the_token_signs(void)
{
	uint8_t digest[32] = {1, 2, 3}, signature[160];
	gnutls_x509_crt_t crt = NULL;
	gnutls_pubkey_t key = NULL;

	begin_with(URI);
	check(strstr(published, "BEGIN CERTIFICATE") != NULL, "the file, before start returns");
	check(signer != NULL, "with a signer");
	if (!signer)
		return;
	int32_t n = signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, sizeof digest, signature,
				 sizeof signature);
	check(n > 0, "a signature");
	const gnutls_datum_t pem = {(unsigned char *)published, (unsigned)strlen(published)};
	const gnutls_datum_t hash = {digest, sizeof digest}, made = {signature, n > 0 ? (unsigned)n : 0};
	check(gnutls_x509_crt_init(&crt) == 0 && gnutls_pubkey_init(&key) == 0 &&
		      gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0 &&
		      gnutls_pubkey_import_x509(key, crt, 0) == 0,
	      "the certificate");
	check(gnutls_pubkey_verify_hash2(key, GNUTLS_SIGN_ECDSA_SHA256, 0, &hash, &made) >= 0, "verifies");
	digest[0] ^= 1;
	check(gnutls_pubkey_verify_hash2(key, GNUTLS_SIGN_ECDSA_SHA256, 0, &hash, &made) < 0,
	      "another does not");
	gnutls_pubkey_deinit(key);
	gnutls_x509_crt_deinit(crt);
	check(signer->sign(signer->self, 99, digest, 32, signature, sizeof signature) == -ENOTSUP,
	      "nothing else");
	check(signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, 20, signature, sizeof signature) ==
		      -ENOTSUP,
	      "no SHA-1");
	check(signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, 32, signature, 8) == -ENOBUFS, "no room");
	ss_test_host_done(&host);
	/* a handshake may outlive the instance */
	check(signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, 32, signature, sizeof signature) > 0,
	      "after destroy");
	release();
}

/* Between the plugin and GnuTLS: a signature takes as long as the test likes. */
static pthread_mutex_t token_lock = PTHREAD_MUTEX_INITIALIZER;
int __real_gnutls_privkey_sign_hash2(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, unsigned flags,
				     const gnutls_datum_t *hash, gnutls_datum_t *made);
int __wrap_gnutls_privkey_sign_hash2(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, unsigned flags,
				     const gnutls_datum_t *hash, gnutls_datum_t *made);
int __wrap_gnutls_privkey_sign_hash2(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, unsigned flags,
				     const gnutls_datum_t *hash, gnutls_datum_t *made)
{
	pthread_mutex_lock(&token_lock);
	pthread_mutex_unlock(&token_lock);
	return __real_gnutls_privkey_sign_hash2(key, algorithm, flags, hash, made);
}

static int32_t sign_something(void)
{
	const uint8_t digest[32] = {1, 2, 3};
	uint8_t signature[160];

	return signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, sizeof digest, signature,
			    sizeof signature);
}

static void test_a_token_that_hangs(void)
{
	begin_with(URI);
	if (!signer)
		return;
	pthread_mutex_lock(&token_lock);
	check(sign_something() == -ETIMEDOUT, "a handshake gives up");
	check(sign_something() == -EBUSY, "the next one at once");
	const struct ss_tls_signer *before = signer;
	ss_test_host_advance(&host, MINUTE);
	check(strstr(host.log, "opening its key anew") != NULL, "the log says so");
	check(signer != before, "with another signer, and nothing waits for the old one");
	pthread_mutex_unlock(&token_lock);
	check(sign_something() > 0, "which signs");
	ss_test_host_done(&host);
	release();
}

static void test_renewal_is_a_new_file(void)
{
	begin_with(URI);
	const struct ss_tls_signer *before = signer;
	check(shell("openssl req -x509 -new -key key.pem -subj /CN=two -days 2 -out server.crt") == 0,
	      "another");
	published[0] = '\0';
	ss_test_host_advance(&host, MINUTE);
	check(published[0] != '\0', "published after the interval");
	check(signer == before, "with the key that is open already");
	ss_test_host_done(&host);
	release();
}

static void test_a_wrong_pin_is_tried_once(void)
{
	write_file("pin", "1111\n", 0600);
	begin_with(URI);
	check(strstr(unavailable, "the PIN is wrong") != NULL, "it is told");
	for (int i = 0; i < 20; i++)
		ss_test_host_advance(&host, MINUTE);
	check(strstr(unavailable, "is not tried again before that changes") != NULL, "and not tried again");
	check(!strstr(host.log, "1111") && !strstr(unavailable, "1111"), "nor shown");
	write_file("pin", "4321\n", 0600);
	ss_test_host_advance(&host, MINUTE);
	check(published[0] != '\0', "the token is not locked");
	ss_test_host_done(&host);
	release();
}

static void test_a_key_that_is_not_there(void)
{
	begin_with("pkcs11:token=semstreams;object=other;type=private");
	check(strstr(unavailable, "no token that is here has such a key") != NULL, "it is told");
	check(published[0] == '\0', "nothing is published");
	ss_test_host_done(&host);
}

static void test_a_module_that_is_not_there(void)
{
	char real[sizeof module];

	memcpy(real, module, sizeof real);
	snprintf(module, sizeof module, "/nonexistent/module.so");
	begin_with(URI);
	check(strstr(unavailable, "cannot load /nonexistent/module.so: No such file") != NULL, "it is told");
	ss_test_host_done(&host);
	memcpy(module, real, sizeof real);
}

static void test_what_is_refused_is_tried_again(void)
{
	refused = 1;
	begin_with(URI);
	check(strstr(host.log, "it does not match") != NULL, "the log says why");
	check(unavailable[0] == '\0', "what was published before stays in use");
	refused = 0;
	ss_test_host_advance(&host, MINUTE);
	check(published[0] != '\0', "the next time it is good");
	ss_test_host_done(&host);
	release();
}

/* No token is needed for these. */

static void test_a_pin_that_others_may_read(void)
{
	write_file("pin", "4321\n", 0644);
	begin_with(URI);
	check(strstr(unavailable, "chmod 600") != NULL, "it is told");
	ss_test_host_done(&host);
	write_file("pin", "4321\n", 0600);
}

static void test_a_pin_in_the_configuration(void)
{
	const char *const options[] = {"module",   "m", "key",       "pkcs11:token=x?pin-value=4321",
				       "pin_file", "p", "cert_file", "c",
				       NULL};

	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == -EINVAL, "it is refused");
	check(strstr(host.errors, "/key: ") && !strstr(host.errors, "4321"), "by its place, and not shown");
	ss_test_host_done(&host);
}

/* 0: there is a token. */
static int make_token(void)
{
	char conf[300];
	const char *given = getenv("PKCS11_MODULE");
	FILE *f = popen("find /usr/lib* -name libsofthsm2.so 2>/dev/null | head -n 1", "r");

	if (given)
		snprintf(module, sizeof module, "%s", given);
	else if (!f || !fgets(module, sizeof module, f))
		snprintf(module, sizeof module, "/nonexistent/libsofthsm2.so");
	if (f)
		pclose(f);
	module[strcspn(module, "\n")] = '\0';
	snprintf(conf, sizeof conf, "directories.tokendir = %s\nobjectstore.backend = file\n", folder);
	write_file("softhsm2.conf", conf, 0600);
	setenv("SOFTHSM2_CONF", path("softhsm2.conf"), 1);
	return shell("softhsm2-util --init-token --free --label semstreams --so-pin 12345678 --pin 4321 && "
		     "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem && "
		     "softhsm2-util --import key.pem --token semstreams --label server --id 01 --pin 4321 && "
		     "openssl req -x509 -new -key key.pem -subj /CN=one -days 2 -out server.crt");
}

int main(void)
{
	check(mkdtemp(folder) != NULL, "make a folder");
	write_file("pin", "4321\n", 0600);
	int missing = make_token();
	run("a PIN in the configuration", test_a_pin_in_the_configuration);
	run("a PIN that others may read", test_a_pin_that_others_may_read);
	run("a module that is not there", test_a_module_that_is_not_there);
	if (missing) {
		fprintf(stderr, "skipped: softhsm2 or openssl is missing\n");
	} else {
		run("the token signs", test_the_token_signs);
		run("a token that hangs", test_a_token_that_hangs);
		run("renewal is a new file", test_renewal_is_a_new_file);
		run("a wrong PIN is tried once", test_a_wrong_pin_is_tried_once);
		run("a key that is not there", test_a_key_that_is_not_there);
		run("what is refused is tried again", test_what_is_refused_is_tried_again);
	}
	check(shell("rm -rf -- ../${PWD##*/}") == 0, "remove the folder");
	return result();
}
