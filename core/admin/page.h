/* SPDX-License-Identifier: MIT */
/* page - the files of the status page, built into the program. */
#pragma once

#include "core/admin/admin.h"

/* A table for admin_start(). */
extern const struct admin_page page_files[];
