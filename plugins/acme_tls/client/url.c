/* SPDX-License-Identifier: MIT */
/* url - see url.h. */
#include "url.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int url_origin(const char *url, char *out, size_t size, char *why, size_t why_size)
{
	char *scheme = NULL, *user = NULL, *host = NULL, *port = NULL;
	const char *wrong = NULL;
	CURLU *u = curl_url();
	if (!u)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
		wrong = "is not a URL";
	else if (strcasecmp(scheme, "https") != 0)
		wrong = "does not begin with https://";
	else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		wrong = "contains a user name";
	else
		snprintf(out, size, "%s:%s", host, port);
	if (wrong)
		snprintf(why, why_size, "%s", wrong);
	curl_free(scheme);
	curl_free(user);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return wrong ? -EINVAL : 0;
}

int url_check(const char *directory_url, const char *url, char *why, size_t why_size)
{
	char ours[300], theirs[300];
	int rc = url_origin(directory_url, ours, sizeof ours, why, why_size);
	if (!rc)
		rc = url_origin(url, theirs, sizeof theirs, why, why_size);
	if (rc || strcasecmp(ours, theirs) == 0)
		return rc;
	snprintf(why, why_size, "is not at %s, the host of directory_url", ours);
	return -EINVAL;
}

/* To be released by curl_free(); NULL: it cannot be resolved. */
static char *whole(const char *base, const char *reference, unsigned flags)
{
	char *text = NULL;
	CURLU *u = curl_url();
	if (!u || (base && curl_url_set(u, CURLUPART_URL, base, 0)) ||
	    curl_url_set(u, CURLUPART_URL, reference, 0) || curl_url_get(u, CURLUPART_URL, &text, flags))
		text = NULL;
	curl_url_cleanup(u);
	return text;
}

bool url_same(const char *a, const char *b)
{
	char *one = whole(NULL, a, CURLU_NO_DEFAULT_PORT), *other = whole(NULL, b, CURLU_NO_DEFAULT_PORT);
	bool same = one && other ? !strcmp(one, other) : !strcmp(a, b);
	curl_free(one);
	curl_free(other);
	return same;
}

void url_resolve(const char *base, const char *reference, char *out, size_t size)
{
	/* a whole one stays letter by letter, as the CA may compare it so */
	char *text = !*reference || strstr(reference, "://") ? NULL : whole(base, reference, 0);
	snprintf(out, size, "%s", text ? text : reference);
	curl_free(text);
}
