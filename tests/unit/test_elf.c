/* SPDX-License-Identifier: MIT */
#include "shared_object.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <sys/mman.h>
#include "core/plugin/elf.h"

#define ENTRY(version)                                                                                       \
	"__attribute__((visibility(\"default\"))) const int semstreams_entry_v" #version "[4] = {16};\n"

static char why[ELF_WHY];

static int check_bytes(const void *data, size_t size)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	why[0] = '\0';
	int rc = elf_check(fd, why);
	close(fd);
	if (rc < 0)
		assert_string_not_equal(why, "");
	return rc;
}

static char *built(const char *flags, const char *source, size_t *size)
{
	build(scratch, "x.so", flags, source);
	char *path = text_of("%s/x.so", scratch);
	char *data = read_whole(path, size);
	free(path);
	return data;
}

static int check_built(const char *flags, const char *source)
{
	size_t size;
	char *data = built(flags, source, &size);
	int rc = check_bytes(data, size);
	free(data);
	return rc;
}

static void accepts_a_plugin(void **state)
{
	(void)state;
	assert_int_equal(check_built("", ENTRY(1)), 0);
	assert_int_equal(check_built("-Wl,--hash-style=sysv", ENTRY(1)), 0);
	assert_int_equal(check_built("-Wl,--hash-style=gnu -s", ENTRY(1)), 0);
	assert_int_equal(check_built("-Wl,-z,max-page-size=65536", ENTRY(1)), 0);
	assert_int_equal(check_built("", ENTRY(1) ENTRY(2)), 0);
}

static bool mentions(const void *data, size_t size, const char *text)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	bool found = elf_mentions(fd, text);
	close(fd);
	return found;
}

static void finds_text_anywhere(void **state)
{
	(void)state;
	static char big[200000];
	for (size_t at = 0; at + 7 <= sizeof big; at += at > 65400 && at < 65600 ? 1 : 997) {
		memcpy(big + at, "$ORIGIN", 7);
		if (!mentions(big, sizeof big, "$ORIGIN"))
			fail_msg("not found at %zu", at);
		memset(big + at, 0, 7);
	}
	assert_false(mentions(big, sizeof big, "$ORIGIN"));
	assert_false(mentions("", 0, "$ORIGIN"));
}

static void names_another_abi(void **state)
{
	(void)state;
	assert_int_equal(check_built("", ENTRY(2)), -ENOEXEC);
	assert_non_null(strstr(why, "built for plugin ABI 2, this host has ABI 1"));
	assert_int_equal(check_built("", ENTRY(12)), -ENOEXEC);
	assert_non_null(strstr(why, "plugin ABI 12"));
}

static void needs_the_entry_symbol(void **state)
{
	(void)state;
	const char *const sources[] = {
		"int other;\n",
		"__attribute__((visibility(\"default\"))) int semstreams_entry_v1x, semstreams_entry_v, "
		"semstreams_entry_v01;\n",
	};
	for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
		assert_int_equal(check_built("", sources[i]), -ENOEXEC);
		assert_non_null(strstr(why, "not a semstreams plugin"));
	}
}

static void refuses_what_is_no_shared_object(void **state)
{
	(void)state;
	const char *const texts[] = {"", "\177", "\177EL", "hello, world\n", "#!/bin/sh\nexit 0\n"};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		assert_int_equal(check_bytes(texts[i], strlen(texts[i])), -ENOEXEC);
		assert_non_null(strstr(why, "not a shared object"));
	}
	build(scratch, "x.o", "-c", ENTRY(1));
	char *path = text_of("%s/x.o", scratch);
	size_t size;
	char *data = read_whole(path, &size);
	assert_int_equal(check_bytes(data, size), -ENOEXEC);
	assert_non_null(strstr(why, "-shared"));
	free(data);
	free(path);
}

static void refuses_another_machine(void **state)
{
	(void)state;
	size_t size;
	char *data = built("", ENTRY(1), &size);
	ElfW(Ehdr) *head = (void *)data;
	ElfW(Ehdr) good = *head;

	head->e_machine = good.e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
	assert_int_equal(check_bytes(data, size), -ENOEXEC);
	assert_non_null(strstr(why, good.e_machine == EM_AARCH64 ? "x86-64" : "AArch64"));
	*head = good;
	head->e_ident[EI_CLASS] = good.e_ident[EI_CLASS] == ELFCLASS64 ? ELFCLASS32 : ELFCLASS64;
	assert_int_equal(check_bytes(data, size), -ENOEXEC);
	assert_non_null(strstr(why, "this host is"));
	*head = good;
	head->e_ident[EI_DATA] = good.e_ident[EI_DATA] == ELFDATA2LSB ? ELFDATA2MSB : ELFDATA2LSB;
	assert_int_equal(check_bytes(data, size), -ENOEXEC);
	assert_non_null(strstr(why, "byte order"));
	free(data);
}

/* A plugin without section headers is whole as far as the dynamic loader goes. */
static void needs_no_sections(void **state)
{
	(void)state;
	size_t size;
	char *data = built("", ENTRY(1), &size);
	ElfW(Ehdr) *head = (void *)data;
	head->e_shoff = 0;
	head->e_shnum = head->e_shstrndx = 0;
	assert_int_equal(check_bytes(data, size), 0);
	free(data);
}

static void refuses_every_truncation(void **state)
{
	(void)state;
	size_t size;
	char *data = built("", ENTRY(1), &size);
	for (size_t n = 0; n < size; n += n + 64 < size ? 7 : 1)
		if (check_bytes(data, n) != -ENOEXEC)
			fail_msg("accepted the first %zu of %zu bytes", n, size);
	assert_non_null(strstr(why, "cut short"));
	free(data);
}

/* Every byte that the check looks at may be anything: it must come to an end, whatever it says. */
static void survives_damage(void **state)
{
	(void)state;
	size_t size;
	char *data = built("", ENTRY(1), &size);
	for (size_t i = 0; i < size && i < 4096; i++) {
		static const char values[] = {0, 1, 0x7f, (char)0x80, (char)0xff};
		char good = data[i];
		for (size_t k = 0; k < sizeof values; k++) {
			data[i] = values[k];
			check_bytes(data, size);
		}
		data[i] = good;
	}
	assert_int_equal(check_bytes(data, size), 0);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_a_plugin),
		cmocka_unit_test(finds_text_anywhere),
		cmocka_unit_test(names_another_abi),
		cmocka_unit_test(needs_the_entry_symbol),
		cmocka_unit_test(refuses_what_is_no_shared_object),
		cmocka_unit_test(refuses_another_machine),
		cmocka_unit_test(needs_no_sections),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(survives_damage),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
