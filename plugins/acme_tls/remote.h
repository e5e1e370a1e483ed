/* SPDX-License-Identifier: MIT */
/* remote - acme.h carried out by a program of its own, see protocol.h. */
#pragma once
#include "protocol.h"

/* Path of the program; remote_program.c, tests have their own. */
const char *remote_program(void);
