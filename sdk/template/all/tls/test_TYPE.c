/* SPDX-License-Identifier: MIT */
/* Unit tests of @TYPE@: files of the test's own, a clock that the test moves, and a service that writes down
 * what is published. */
#include "check.h"
#include <errno.h>
#include <unistd.h>
#include <semstreams/ext/tls-provider.h>

static char cert[] = "/tmp/test_@TYPE@.XXXXXX", key[] = "/tmp/test_@TYPE@.XXXXXX";
static char published[256], unavailable[512]; /* the newest */
static int refused;                           /* publish() finds them no good */

static int32_t on_publish(void *self, const char *source, const char *chain_pem, const char *key_pem,
			  char *why, size_t why_size)
{
	(void)self;
	check(strcmp(source, "@MODE@") == 0, "the source is named");
	if (refused) {
		snprintf(why, why_size, "they do not match");
		return -EINVAL;
	}
	snprintf(published, sizeof published, "%s with %s", chain_pem, key_pem);
	return 0;
}

static void on_unavailable(void *self, const char *reason)
{
	(void)self;
	snprintf(unavailable, sizeof unavailable, "%s", reason);
}

static const char *const *on_ca_files(void *self)
{
	static const char *const none[] = {NULL};
	(void)self;
	return none;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	check(f && fputs(text, f) >= 0 && fclose(f) == 0, "write a file");
}

static void begin_with(const char *cert_file)
{
	static struct ss_tls_publish service;
	const char *const options[] = {"cert_file", cert_file, "key_file", key, "interval", "1m", NULL};
	service.struct_size = (uint32_t)sizeof service;
	service.publish = on_publish;
	service.unavailable = on_unavailable;
	service.ca_files = on_ca_files;
	published[0] = unavailable[0] = '\0';
	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	ss_test_host_offer(&host, SS_TLS_PUBLISH, &service, (uint32_t)sizeof service, NULL);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
	check(host.desc->start(host.self) == 0, "start");
}

static void test_the_files_are_published(void)
{
	write_file(cert, "C1");
	write_file(key, "K1");
	begin_with(cert);
	check(strcmp(published, "C1 with K1") == 0, "both, before start returns");
	write_file(cert, "C2");
	ss_test_host_advance(&host, UINT64_C(60000000000));
	check(strcmp(published, "C2 with K1") == 0, "new ones after the interval");
	ss_test_host_done(&host); /* and nothing has leaked */
}

static void test_a_missing_file_is_told(void)
{
	begin_with("/nonexistent/cert.pem");
	check(published[0] == '\0', "nothing is published");
	check(strstr(unavailable, "/nonexistent/cert.pem") != NULL, "the reason names the file");
	ss_test_host_done(&host);
}

static void test_what_is_refused_is_tried_again(void)
{
	refused = 1;
	begin_with(cert);
	check(unavailable[0] == '\0', "what was published before stays in use");
	check(strstr(host.log, "they do not match") != NULL, "the log says why");
	refused = 0;
	ss_test_host_advance(&host, UINT64_C(60000000000));
	check(published[0] != '\0', "the next time it is good");
	ss_test_host_done(&host);
}

static void test_the_identity_is_the_key(void)
{
	struct ss_iface provider;
	begin_with(cert);
	int32_t rc = host.desc->extension(host.self, SS_TLS_PROVIDER,
					  (uint32_t)sizeof(struct ss_tls_provider), &provider);
	check(rc == 0, "it is a provider");
	const struct ss_tls_provider *p = (const struct ss_tls_provider *)provider.vtbl;
	check(strcmp(p->identity(provider.self), key) == 0, "of the key file");
	check(host.desc->extension(host.self, "no.such/1", 0, &provider) == -ENOENT, "and nothing else");
	ss_test_host_done(&host);
}

int main(void)
{
	int fd = mkstemp(cert), fd2 = mkstemp(key);
	check(fd >= 0 && fd2 >= 0 && close(fd) == 0 && close(fd2) == 0, "make two files");
	run("the files are published", test_the_files_are_published);
	run("a missing file is told", test_a_missing_file_is_told);
	run("what is refused is tried again", test_what_is_refused_is_tried_again);
	run("the identity is the key", test_the_identity_is_the_key);
	unlink(cert);
	unlink(key);
	return result();
}
