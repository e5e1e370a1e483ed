/* SPDX-License-Identifier: MIT */
/* fields - the table of the service; its functions are pure and run in any thread. */
#include "core/fields/fields.h"

#include <semstreams/ext/fields.h>
#include "core/fields/fields_scan.h"

const struct ss_fields fields_service = {
	.struct_size = sizeof(struct ss_fields),
	.compile = fields_compile,
	.free = fields_free,
	.read = fields_read,
	.number = fields_number,
	.integer = fields_integer,
	.unescape = fields_unescape,
};
