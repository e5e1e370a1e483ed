/* SPDX-License-Identifier: MIT */
/* hang_lookup - a name server that never answers, for a program it is preloaded into. */
#include <netdb.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	(void)name, (void)service, (void)hints, (void)out;
	for (;;)
		pause();
}
