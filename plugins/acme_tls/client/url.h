/* SPDX-License-Identifier: MIT */
/*
 * url - URLs of a CA, by libcurl's parser: where they lead, whether two are the same, relative ones.  Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Host and port, "ca.example:443".  -EINVAL for a URL that no CA needs, with the reason, which follows the
 * URL in a sentence; -ENOMEM. */
int url_origin(const char *url, char *out, size_t size, char *why, size_t why_size);
/* 0 if it is at the origin of directory_url, else as url_origin(). */
int url_check(const char *directory_url, const char *url, char *why, size_t why_size);
/* The same but for a default port that one of them names (RFC 3986 section 6.2.3). */
bool url_same(const char *a, const char *b);
/* A reference as a whole URL, seen from base; what cannot be resolved is left as it is, cut to fit. */
void url_resolve(const char *base, const char *reference, char *out, size_t size);
