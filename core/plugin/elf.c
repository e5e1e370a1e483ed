/* SPDX-License-Identifier: MIT */
/* elf - see elf.h. */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include "core/plugin/elf.h"

#define ENTRY_PREFIX "semstreams_entry_v"

/* The running program's own header, which the linker provides: what machine this is. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct elf {
	int fd;
	uint64_t size;
	char *why;
	ElfW(Ehdr) head;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct elf *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->why, ELF_WHY, fmt, ap);
	va_end(ap);
	return -ENOEXEC;
}

static int truncated(struct elf *e)
{
	return refuse(e, "is cut short or damaged; install it again");
}

static bool inside(const struct elf *e, uint64_t offset, uint64_t size)
{
	return offset <= e->size && size <= e->size - offset;
}

/* All of size bytes, or false. */
static bool read_at(const struct elf *e, uint64_t offset, void *buf, size_t size)
{
	return inside(e, offset, size) && pread(e->fd, buf, size, (off_t)offset) == (ssize_t)size;
}

static const char *machine_name(unsigned machine)
{
	static const struct {
		unsigned machine;
		const char *name;
	} names[] = {
		{EM_386, "i386"},     {EM_X86_64, "x86-64"}, {EM_ARM, "ARM"},    {EM_AARCH64, "AArch64"},
		{EM_RISCV, "RISC-V"}, {EM_PPC64, "ppc64"},   {EM_S390, "s390x"}, {EM_MIPS, "MIPS"},
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].machine == machine)
			return names[i].name;
	return "another machine";
}

static int check_head(struct elf *e)
{
	const ElfW(Ehdr) *own = &__ehdr_start, *head = &e->head;
	const unsigned char *ident = head->e_ident;

	if (!read_at(e, 0, &e->head, e->size < sizeof e->head ? (size_t)e->size : sizeof e->head) ||
	    e->size < SELFMAG || memcmp(ident, ELFMAG, SELFMAG) != 0)
		return refuse(e, "is not a shared object");
	if (e->size < sizeof e->head)
		return truncated(e);
	if (ident[EI_CLASS] != own->e_ident[EI_CLASS] || ident[EI_DATA] != own->e_ident[EI_DATA] ||
	    head->e_machine != own->e_machine)
		return refuse(e, "is for %s, %s, but this host is %s, %s; build it for this machine",
			      ident[EI_DATA] == own->e_ident[EI_DATA] ? machine_name(head->e_machine)
								      : "the other byte order",
			      ident[EI_CLASS] == ELFCLASS64 ? "64-bit" : "32-bit",
			      machine_name(own->e_machine),
			      own->e_ident[EI_CLASS] == ELFCLASS64 ? "64-bit" : "32-bit");
	if (head->e_type != ET_DYN)
		return refuse(e, "is not a shared object; link it with -shared");
	if (head->e_version != EV_CURRENT || head->e_phentsize != sizeof(ElfW(Phdr)) || head->e_phnum == 0)
		return truncated(e);
	return 0;
}

/* What the dynamic loader would map lies inside the file; so do the sections, which stand last. */
static int check_parts(struct elf *e)
{
	bool loads = false;
	ElfW(Phdr) p;
	ElfW(Shdr) s;

	for (uint64_t i = 0; i < e->head.e_phnum; i++) {
		if (!read_at(e, e->head.e_phoff + i * sizeof p, &p, sizeof p))
			return truncated(e);
		if (p.p_type == PT_NULL || p.p_type == PT_GNU_STACK)
			continue;
		if (!inside(e, p.p_offset, p.p_filesz) ||
		    (p.p_type == PT_LOAD && (p.p_filesz > p.p_memsz || p.p_vaddr + p.p_memsz < p.p_vaddr)))
			return truncated(e);
		loads |= p.p_type == PT_LOAD;
	}
	for (uint64_t i = 0; e->head.e_shoff && i < e->head.e_shnum; i++) {
		if (!read_at(e, e->head.e_shoff + i * sizeof s, &s, sizeof s))
			return truncated(e);
		if (s.sh_type != SHT_NULL && s.sh_type != SHT_NOBITS && !inside(e, s.sh_offset, s.sh_size))
			return truncated(e);
	}
	return loads ? 0 : truncated(e);
}

/* Call found(arg, text behind the needle, NUL-terminated) for each occurrence, until it returns true. */
static bool search(const struct elf *e, const char *needle, bool (*found)(void *arg, const char *behind),
		   void *arg)
{
	enum { CHUNK = 1 << 16, OVERLAP = 64 };
	size_t len = strlen(needle);
	char *buf = malloc(CHUNK + 1);
	bool done = false;

	for (uint64_t at = 0; buf && !done && at < e->size; at += CHUNK - OVERLAP) {
		size_t n = e->size - at < CHUNK ? (size_t)(e->size - at) : CHUNK;
		if (!read_at(e, at, buf, n))
			break;
		buf[n] = '\0';
		for (const char *p = buf; !done && (p = memmem(p, (size_t)(buf + n - p), needle, len)); p++)
			done = found(arg, p + len);
	}
	free(buf);
	return done;
}

/* The major version in the name of an entry symbol: true for this host's, else the highest in *arg. */
static bool is_entry(void *arg, const char *digits)
{
	unsigned long *other = arg;
	char *end;

	if (*digits < '1' || *digits > '9')
		return false;
	unsigned long version = strtoul(digits, &end, 10);
	if (*end == '\0' && version > *other)
		*other = version;
	return *end == '\0' && version == SS_ABI_MAJOR;
}

static bool is_there(void *arg, const char *behind)
{
	(void)arg, (void)behind;
	return true;
}

static bool open_elf(struct elf *e, int fd, char *why)
{
	struct stat st;

	*e = (struct elf){.fd = fd, .why = why};
	if (fstat(fd, &st) < 0)
		return false;
	e->size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	return true;
}

int elf_check(int fd, char why[ELF_WHY])
{
	unsigned long other = 0;
	struct elf e;

	if (!open_elf(&e, fd, why))
		return refuse(&e, "cannot be read: %s", strerror(errno));
	int rc = check_head(&e);
	if (rc == 0)
		rc = check_parts(&e);
	if (rc || search(&e, ENTRY_PREFIX, is_entry, &other))
		return rc;
	if (other)
		return refuse(&e,
			      "is built for plugin ABI %lu, this host has ABI %d; build it for this version",
			      other, SS_ABI_MAJOR);
	return refuse(&e, "is not a semstreams plugin: it does not export %s%d", ENTRY_PREFIX, SS_ABI_MAJOR);
}

bool elf_mentions(int fd, const char *text)
{
	struct elf e;

	return open_elf(&e, fd, NULL) && search(&e, text, is_there, NULL);
}
