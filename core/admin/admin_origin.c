/* SPDX-License-Identifier: MIT */
/* admin_origin - see admin_origin.h. */
#include "core/admin/admin_origin.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>
#include <semstreams/base/host_name.h>
#include "core/admin/admin_listen.h"

/* Does Host name this listener?  A page of a foreign site that had its name point here would send its own. */
static bool host_is_ours(const struct admin_listener *l, const char *host)
{
	const char *const ours[] = {"localhost", "127.0.0.1", "[::1]", l->host, l->numeric};
	const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
	size_t n = bracket ? (size_t)(bracket + 1 - host) : strcspn(host, ":");
	struct ss_host_name theirs, mine;

	if (host[n] && (host[n] != ':' || strspn(host + n + 1, "0123456789") != strlen(host + n + 1)))
		return false;
	if (ss_host_name_read(host, n, &theirs))
		return false;
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (ss_host_name_read(ours[i], strlen(ours[i]), &mine) == 0 &&
		    ss_host_name_same(&mine, &theirs))
			return true;
	return false;
}

const char *admin_path_of(const struct admin_listener *l, const char *target)
{
	static const char scheme[] = "http://";
	char host[256];
	if (strncasecmp(target, scheme, sizeof scheme - 1) != 0)
		return target;
	const char *authority = target + sizeof scheme - 1;
	size_t n = strcspn(authority, "/");
	if (n >= sizeof host)
		return NULL;
	memcpy(host, authority, n);
	host[n] = '\0';
	if (l->loopback && !host_is_ours(l, host))
		return NULL;
	return authority[n] ? authority + n : "/";
}

/* A browser says from which site a request comes, and that must be this one. */
static bool origin_is_ours(bool tls, const char *origin, const char *host)
{
	const char *scheme = tls ? "https://" : "http://";
	size_t n = strlen(scheme);

	return strncasecmp(origin, scheme, n) == 0 && host && strcasecmp(origin + n, host) == 0;
}

unsigned admin_check_origin(const struct admin_listener *l, bool tls, struct MHD_Connection *c,
			    const char *version, const char **text)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
	if (!host && strcmp(version, MHD_HTTP_VERSION_1_0) != 0) {
		*text = "A request needs a Host header\n";
		return MHD_HTTP_BAD_REQUEST;
	}
	if (l->loopback && host && !host_is_ours(l, host)) {
		*text = "This listener serves its own machine only: the Host header must name localhost or "
			"the "
			"configured address\n";
		return MHD_HTTP_FORBIDDEN;
	}
	if (origin && !origin_is_ours(tls, origin, host)) {
		*text = "Requests of other sites are not accepted: Origin must be the address of this port\n";
		return MHD_HTTP_FORBIDDEN;
	}
	return 0;
}
