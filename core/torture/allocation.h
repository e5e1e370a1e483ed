/* SPDX-License-Identifier: MIT */
/*
 * allocation - malloc and its kin in front of the C library's: counts what is allocated, and makes one
 * allocation fail.  Only calls from outside this program count as the plugin's: those of the plugin, of its
 * libraries and of the C library on its behalf.  Without sanitizers only, which have their own.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false: this program was built without it. */
bool allocation_can_fail(void);
/* [ctl] Once, before a plugin is loaded. */
void allocation_set_up(void);
/* Bytes and blocks that are allocated now, by anybody. */
int64_t allocation_bytes(void);
int64_t allocation_blocks(void);

/* Of the calls that this thread makes between allocation_window(true) and (false), have the nth fail; 0:
 * none. */
void allocation_fail(uint64_t nth);
void allocation_window(bool open);
/* Has it failed? */
bool allocation_failed(void);
/* For functions of the host that may run out of memory: is it their turn to fail? */
bool allocation_refused(void);
