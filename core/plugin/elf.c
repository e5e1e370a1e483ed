/* SPDX-License-Identifier: MIT */
/*
 * elf - see elf.h.  Finds the dynamic symbols the way the dynamic loader does, by PT_DYNAMIC and the hash
 * table, so that stripped files work.  Every offset is checked against the file's size before it is used.
 */
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
#define MAX_SEGMENTS 256
#define CHUNK        128 /* rows read at a time */

/* The running program's own header, which the linker provides: what machine this is. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct elf {
	int fd;
	uint64_t size;
	char *why;
	ElfW(Ehdr) head;
	ElfW(Phdr) segments[MAX_SEGMENTS];
	/* from the dynamic section; addresses as in memory */
	uint64_t symbols, strings, strings_size, hash, gnu_hash, run_path;
	bool has_run_path;
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

/* Are size bytes at offset inside the file? */
static bool inside(const struct elf *e, uint64_t offset, uint64_t size)
{
	return offset <= e->size && size <= e->size - offset;
}

static int read_at(struct elf *e, uint64_t offset, void *buf, size_t size)
{
	if (!inside(e, offset, size))
		return truncated(e);
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(e->fd, (char *)buf + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = -errno;
			snprintf(e->why, ELF_WHY, "cannot be read: %s", strerror(-err));
			return err;
		}
		if (n == 0)
			return truncated(e);
		done += (size_t)n;
	}
	return 0;
}

/* File offset of size bytes at a memory address, by the segments that come from the file. */
static int offset_of(struct elf *e, uint64_t address, uint64_t size, uint64_t *offset)
{
	for (unsigned i = 0; i < e->head.e_phnum; i++) {
		const ElfW(Phdr) *p = &e->segments[i];
		if (p->p_type != PT_LOAD || address < p->p_vaddr)
			continue;
		uint64_t skip = address - p->p_vaddr;
		if (skip <= p->p_filesz && size <= p->p_filesz - skip) {
			*offset = p->p_offset + skip;
			return 0;
		}
	}
	return truncated(e);
}

static int read_address(struct elf *e, uint64_t address, void *buf, size_t size)
{
	uint64_t offset;
	int rc = offset_of(e, address, size, &offset);
	return rc < 0 ? rc : read_at(e, offset, buf, size);
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
	const ElfW(Ehdr) *own = &__ehdr_start;

	if (e->size < SELFMAG)
		return refuse(e, "is not a shared object");
	unsigned char ident[EI_NIDENT] = {0};
	int rc = read_at(e, 0, ident, e->size < sizeof ident ? (size_t)e->size : sizeof ident);
	if (rc < 0)
		return rc;
	if (memcmp(ident, ELFMAG, SELFMAG) != 0)
		return refuse(e, "is not a shared object");
	rc = read_at(e, 0, &e->head, sizeof e->head);
	if (rc < 0)
		return rc;
	if (ident[EI_CLASS] != own->e_ident[EI_CLASS] || ident[EI_DATA] != own->e_ident[EI_DATA] ||
	    e->head.e_machine != own->e_machine)
		return refuse(e, "is for %s, %s, but this host is %s, %s; build it for this machine",
			      ident[EI_DATA] == own->e_ident[EI_DATA] ? machine_name(e->head.e_machine)
								      : "the other byte order",
			      ident[EI_CLASS] == ELFCLASS64 ? "64-bit" : "32-bit",
			      machine_name(own->e_machine),
			      own->e_ident[EI_CLASS] == ELFCLASS64 ? "64-bit" : "32-bit");
	if (e->head.e_type != ET_DYN)
		return refuse(e, "is not a shared object; link it with -shared");
	if (e->head.e_version != EV_CURRENT || e->head.e_phentsize != sizeof(ElfW(Phdr)) ||
	    e->head.e_phnum == 0 || e->head.e_phnum > MAX_SEGMENTS)
		return truncated(e);
	return 0;
}

static int check_segments(struct elf *e)
{
	bool any = false;

	int rc = read_at(e, e->head.e_phoff, e->segments, e->head.e_phnum * sizeof(ElfW(Phdr)));
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < e->head.e_phnum; i++) {
		const ElfW(Phdr) *p = &e->segments[i];
		if (p->p_type == PT_NULL)
			continue;
		if (p->p_type != PT_GNU_STACK && !inside(e, p->p_offset, p->p_filesz))
			return truncated(e);
		if (p->p_type == PT_LOAD &&
		    (p->p_filesz > p->p_memsz || p->p_vaddr + p->p_memsz < p->p_vaddr))
			return truncated(e);
		any = any || p->p_type == PT_LOAD;
	}
	return any ? 0 : truncated(e);
}

/* Sections are nothing to the dynamic loader; as they stand last in the file they tell whether it is whole.
 */
static int check_sections(struct elf *e)
{
	ElfW(Shdr) rows[CHUNK];
	uint64_t at = e->head.e_shoff;

	if (at == 0)
		return 0;
	if (e->head.e_shentsize != sizeof(ElfW(Shdr)) ||
	    !inside(e, at, (uint64_t)e->head.e_shnum * sizeof(ElfW(Shdr))))
		return truncated(e);
	for (unsigned left = e->head.e_shnum; left > 0;) {
		unsigned n = left < CHUNK ? left : CHUNK;
		int rc = read_at(e, at, rows, n * sizeof rows[0]);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; i < n; i++)
			if (rows[i].sh_type != SHT_NULL && rows[i].sh_type != SHT_NOBITS &&
			    !inside(e, rows[i].sh_offset, rows[i].sh_size))
				return truncated(e);
		at += n * sizeof rows[0];
		left -= n;
	}
	return 0;
}

static void take_dynamic(struct elf *e, const ElfW(Dyn) * d)
{
	switch (d->d_tag) {
	case DT_SYMTAB:
		e->symbols = d->d_un.d_ptr;
		break;
	case DT_STRTAB:
		e->strings = d->d_un.d_ptr;
		break;
	case DT_STRSZ:
		e->strings_size = d->d_un.d_val;
		break;
	case DT_HASH:
		e->hash = d->d_un.d_ptr;
		break;
	case DT_GNU_HASH:
		e->gnu_hash = d->d_un.d_ptr;
		break;
	case DT_RPATH:
	case DT_RUNPATH:
		e->run_path = d->d_un.d_val;
		e->has_run_path = true;
		break;
	}
}

static int read_dynamic(struct elf *e)
{
	const ElfW(Phdr) *p = e->segments, *end = p + e->head.e_phnum;
	ElfW(Dyn) rows[CHUNK];

	while (p < end && p->p_type != PT_DYNAMIC)
		p++;
	if (p == end)
		return refuse(e, "is not a shared object; link it with -shared");
	uint64_t left = p->p_filesz / sizeof(ElfW(Dyn)), at = p->p_offset;
	while (left > 0) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;
		int rc = read_at(e, at, rows, n * sizeof rows[0]);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++) {
			if (rows[i].d_tag == DT_NULL)
				goto out;
			take_dynamic(e, &rows[i]);
		}
		at += n * sizeof rows[0];
		left -= n;
	}
out:
	return e->symbols && e->strings && (e->hash || e->gnu_hash) ? 0 : truncated(e);
}

/* The highest first symbol of any bucket, 0 = none. */
static int last_bucket(struct elf *e, uint64_t at, uint32_t n, uint32_t *last)
{
	uint32_t rows[CHUNK];

	*last = 0;
	for (uint32_t left = n; left > 0;) {
		uint32_t part = left < CHUNK ? left : CHUNK;
		int rc = read_at(e, at, rows, part * sizeof rows[0]);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < part; i++)
			if (rows[i] > *last)
				*last = rows[i];
		at += part * sizeof rows[0];
		left -= part;
	}
	return 0;
}

/* The GNU hash table does not say how many symbols there are: follow its last chain to the end. */
static int gnu_count(struct elf *e, uint64_t *count)
{
	struct {
		uint32_t n_buckets, first, bloom_words, shift;
	} head;
	uint64_t at;

	int rc = read_address(e, e->gnu_hash, &head, sizeof head);
	if (rc < 0)
		return rc;
	uint64_t buckets = e->gnu_hash + sizeof head + (uint64_t)head.bloom_words * sizeof(ElfW(Addr));
	rc = offset_of(e, buckets, (uint64_t)head.n_buckets * 4, &at);
	if (rc < 0)
		return rc;
	uint32_t last;
	rc = last_bucket(e, at, head.n_buckets, &last);
	if (rc < 0)
		return rc;
	if (last < head.first) {
		*count = head.first;
		return 0;
	}
	uint64_t chain = buckets + (uint64_t)head.n_buckets * 4 + (uint64_t)(last - head.first) * 4;
	for (*count = last;; chain += 4) {
		uint32_t word;
		rc = read_address(e, chain, &word, sizeof word);
		if (rc < 0)
			return rc;
		++*count;
		if (word & 1)
			return 0;
	}
}

static int symbol_count(struct elf *e, uint64_t *count)
{
	if (e->gnu_hash)
		return gnu_count(e, count);
	uint32_t head[2]; /* buckets, symbols */
	int rc = read_address(e, e->hash, head, sizeof head);
	if (rc == 0)
		*count = head[1];
	return rc;
}

/* Major version in the name of an entry symbol, 0 if it is none. */
static unsigned long entry_version(const char *name)
{
	size_t len = strlen(ENTRY_PREFIX);

	if (strncmp(name, ENTRY_PREFIX, len) != 0 || name[len] < '1' || name[len] > '9')
		return 0;
	char *end;
	unsigned long version = strtoul(name + len, &end, 10);
	return *end == '\0' ? version : 0;
}

/* The string at an offset of the string table, cut to size. */
static int read_string(struct elf *e, uint64_t at, char *buf, size_t size)
{
	if (at >= e->strings_size)
		return truncated(e);
	uint64_t n = e->strings_size - at;
	if (n > size - 1)
		n = size - 1;
	buf[n] = '\0';
	return read_address(e, e->strings + at, buf, (size_t)n);
}

/* Is it data that others may use? */
static bool exported_data(const ElfW(Sym) * s)
{
	unsigned binding = ELF64_ST_BIND(s->st_info), type = ELF64_ST_TYPE(s->st_info);

	return s->st_shndx != SHN_UNDEF && (type == STT_OBJECT || type == STT_NOTYPE) &&
	       (binding == STB_GLOBAL || binding == STB_WEAK);
}

static int find_entry(struct elf *e)
{
	ElfW(Sym) rows[CHUNK];
	uint64_t count = 0, at;
	unsigned long other = 0;

	int rc = symbol_count(e, &count);
	if (rc < 0)
		return rc;
	rc = offset_of(e, e->symbols, count * sizeof(ElfW(Sym)), &at);
	if (rc < 0)
		return rc;
	for (uint64_t left = count; left > 0;) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;
		rc = read_at(e, at, rows, n * sizeof rows[0]);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++) {
			char name[sizeof ENTRY_PREFIX + 12];
			if (!exported_data(&rows[i]))
				continue;
			rc = read_string(e, rows[i].st_name, name, sizeof name);
			if (rc < 0)
				return rc;
			unsigned long version = entry_version(name);
			if (version == SS_ABI_MAJOR)
				return 0;
			if (version > other)
				other = version;
		}
		at += n * sizeof rows[0];
		left -= n;
	}
	if (other)
		return refuse(e,
			      "is built for plugin ABI %lu, this host has ABI %d; build it for this version",
			      other, SS_ABI_MAJOR);
	return refuse(e, "is not a semstreams plugin: it does not export %s%d", ENTRY_PREFIX, SS_ABI_MAJOR);
}

int elf_check(int fd, bool *origin, char why[ELF_WHY])
{
	struct elf e = {.fd = fd, .why = why};
	struct stat st;
	char path[1024] = "";

	if (fstat(fd, &st) < 0) {
		int err = -errno;
		snprintf(why, ELF_WHY, "cannot be read: %s", strerror(-err));
		return err;
	}
	e.size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	int rc = check_head(&e);
	if (rc == 0)
		rc = check_segments(&e);
	if (rc == 0)
		rc = check_sections(&e);
	if (rc == 0)
		rc = read_dynamic(&e);
	if (rc == 0)
		rc = find_entry(&e);
	if (rc == 0 && e.has_run_path)
		rc = read_string(&e, e.run_path, path, sizeof path);
	if (rc == 0)
		*origin = strstr(path, "$ORIGIN") || strstr(path, "${ORIGIN}");
	return rc;
}
