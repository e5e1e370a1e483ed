/* SPDX-License-Identifier: MIT */
/*
 * remote - acme.h carried out by a program of its own, semstreams-acme: what a CA says is taken apart
 * elsewhere, and the libraries for it are there only while it is.  Between the two goes one JSON text a line,
 * over a socket.
 *
 * Request, one:  {"errand": "issue|revoke|rollover|deactivate|ari", "storage_path", "directory_url", ...}
 * Answers:       {"log": TEXT, "level": N}, {"counted": WHAT}, and at the end {"result": {"fail": N, "why",
 * ...}}
 *
 * The program works under the lock of who started it, and ends when the socket is closed.
 */
#pragma once

#define REMOTE_FD       3
#define REMOTE_LINE_MAX (1u << 20) /* bytes */
#define REMOTE_TEXT_MAX                                                                                      \
	(64u << 20) /* bytes of all answers: an errand is bounded, this only stops a broken program */

/* Path of the program; remote_program.c, tests have their own. */
const char *remote_program(void);
