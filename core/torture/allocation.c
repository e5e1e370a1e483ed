/* SPDX-License-Identifier: MIT */
#include "core/torture/allocation.h"

#include <dlfcn.h>
#include <errno.h>
#include <ev.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "core/torture/ledger.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

struct range {
	uintptr_t from, to;
};

static struct range program, dynamic_loader, libev; /* code that is not the plugin's */
static _Atomic int64_t bytes, blocks;
static _Thread_local bool is_open __attribute__((tls_model("initial-exec")));
static uint64_t count, fail_at;
static bool failed;

static bool is_in(const struct range *r, uintptr_t at)
{
	return at >= r->from && at < r->to;
}

static bool is_turn(void)
{
	if (!is_open || fail_at == 0 || ++count != fail_at)
		return false;
	failed = true;
	atomic_store(&ledger()->failed_at, count);
	atomic_store(&ledger()->failed_in, atomic_load(&ledger()->callback));
	return true;
}

void allocation_fail(uint64_t nth)
{
	count = 0;
	failed = false;
	fail_at = nth;
}

void allocation_window(bool open)
{
	is_open = open;
}

bool allocation_failed(void)
{
	return failed;
}

bool allocation_refused(void)
{
	return is_turn();
}

int64_t allocation_bytes(void)
{
	return atomic_load(&bytes);
}

int64_t allocation_blocks(void)
{
	return atomic_load(&blocks);
}

static int note_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t *loader = arg;
	struct range all = {UINTPTR_MAX, 0};
	bool is_program = false;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD)
			continue;
		uintptr_t from = info->dlpi_addr + p->p_vaddr, to = from + p->p_memsz;
		is_program |= (uintptr_t)&program >= from && (uintptr_t)&program < to;
		all.from = from < all.from ? from : all.from;
		all.to = to > all.to ? to : all.to;
	}
	if (is_program)
		program = all;
	else if (is_in(&all, *loader))
		dynamic_loader = all;
	else if (is_in(&all, (uintptr_t)ev_version_major))
		libev = all;
	return 0;
}

void allocation_set_up(void)
{
	const uintptr_t loader = (uintptr_t)_r_debug.r_ldbase;

	dl_iterate_phdr(note_object, (void *)&loader);
}

#ifndef SANITIZED

bool allocation_can_fail(void)
{
	return true;
}

#define INSTEAD __attribute__((visibility("default"), noinline))
#define CALLER  ((uintptr_t)__builtin_return_address(0))

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

static bool refuses(uintptr_t caller)
{
	if (!is_open || is_in(&program, caller) || is_in(&dynamic_loader, caller) || is_in(&libev, caller) ||
	    !is_turn())
		return false;
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	if (p) {
		atomic_fetch_add_explicit(&bytes, (int64_t)malloc_usable_size(p), memory_order_relaxed);
		atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
	}
	return p;
}

static void uncount(size_t size)
{
	atomic_fetch_sub_explicit(&bytes, (int64_t)size, memory_order_relaxed);
	atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
}

INSTEAD void *malloc(size_t size)
{
	return refuses(CALLER) ? NULL : counted(__libc_malloc(size));
}

INSTEAD void *calloc(size_t n, size_t size)
{
	return refuses(CALLER) ? NULL : counted(__libc_calloc(n, size));
}

INSTEAD void *realloc(void *p, size_t size)
{
	if (refuses(CALLER))
		return NULL;
	size_t before = p ? malloc_usable_size(p) : 0;
	void *grown = __libc_realloc(p, size);
	if (p && (grown || size == 0))
		uncount(before);
	return counted(grown);
}

INSTEAD void *reallocarray(void *p, size_t n, size_t size)
{
	size_t all;

	if (refuses(CALLER))
		return NULL;
	if (__builtin_mul_overflow(n, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, all);
}

INSTEAD void free(void *p)
{
	if (p)
		uncount(malloc_usable_size(p));
	__libc_free(p);
}

INSTEAD void *memalign(size_t alignment, size_t size)
{
	return refuses(CALLER) ? NULL : counted(__libc_memalign(alignment, size));
}

INSTEAD void *aligned_alloc(size_t alignment, size_t size)
{
	return refuses(CALLER) ? NULL : counted(__libc_memalign(alignment, size));
}

INSTEAD int posix_memalign(void **out, size_t alignment, size_t size)
{
	if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
		return EINVAL;
	void *p = refuses(CALLER) ? NULL : counted(__libc_memalign(alignment, size));
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

#else

bool allocation_can_fail(void)
{
	return false;
}

#endif
