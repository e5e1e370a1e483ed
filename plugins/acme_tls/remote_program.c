/* SPDX-License-Identifier: MIT */
/* remote_program - where semstreams-acme is installed. */
#include "remote.h"

const char *remote_program(void)
{
	return PKGLIBEXECDIR "/semstreams-acme";
}
