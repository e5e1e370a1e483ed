/* SPDX-License-Identifier: MIT */
/* https_fault - see semstreams/ext/https-fault.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/https-fault.h>

/* error, with the sentence in why */
#define say(error, ...) (snprintf(why, size, __VA_ARGS__), (error))

#define BROKEN_OFF "the connection broke before the answer was complete"

static const struct failure {
	CURLcode code;
	long detail; /* X509_V_ERR_... of OpenSSL or errno; 0: any */
	int error;
	const char *text;
} failures[] = {
	{CURLE_COULDNT_CONNECT, ECONNREFUSED, ECONNREFUSED, "connection refused"},
	{CURLE_COULDNT_CONNECT, EHOSTUNREACH, EHOSTUNREACH, "no route to host"},
	{CURLE_COULDNT_CONNECT, ENETUNREACH, ENETUNREACH, "network is unreachable"},
	{CURLE_COULDNT_CONNECT, ECONNRESET, ECONNRESET, "connection reset"},
	{CURLE_COULDNT_CONNECT, ETIMEDOUT, ETIMEDOUT, "connection timed out"},
	{CURLE_COULDNT_CONNECT, EACCES, EACCES, "a firewall of this machine blocks the connection"},
	{CURLE_GOT_NOTHING, 0, ECONNRESET, BROKEN_OFF},
	{CURLE_SEND_ERROR, 0, ECONNRESET, BROKEN_OFF},
	{CURLE_SEND_FAIL_REWIND, 0, ECONNRESET, BROKEN_OFF},
	{CURLE_RECV_ERROR, 0, ECONNRESET, BROKEN_OFF},
	{CURLE_PARTIAL_FILE, 0, ECONNRESET, BROKEN_OFF},
	{CURLE_OUT_OF_MEMORY, 0, ENOMEM, "out of memory"},
	{CURLE_WEIRD_SERVER_REPLY, 0, EPROTO, "the server does not speak HTTP"},
	{CURLE_UNSUPPORTED_PROTOCOL, 0, EPROTO, "the server does not speak HTTP"},
	{CURLE_COULDNT_RESOLVE_PROXY, 0, EHOSTUNREACH, "the name of the proxy cannot be resolved"},
};

static int host_len(const struct https_fault *f)
{
	const char *colon = strrchr(f->origin, ':');
	return colon ? (int)(colon - f->origin) : (int)strlen(f->origin);
}

/* "2025-11-16T10:00:00Z" */
static const char *clock_text(char *out, size_t size)
{
	return ss_format_time((int64_t)time(NULL), out, size);
}

static int explain_peer(const struct https_fault *f, long verify, char *why, size_t size)
{
	char now[40];
	if (verify == 2 || (verify >= 18 && verify <= 21))
		return say(
			-EKEYREJECTED,
			"certificate signed by unknown authority: set %s to the root certificate of the CA",
			f->ca_option);
	if (verify == 9)
		return say(-EKEYREJECTED,
			   "the CA's certificate is not yet valid: is the clock of this machine right? It "
			   "says %s",
			   clock_text(now, sizeof now));
	if (verify == 10)
		return say(-EKEYREJECTED,
			   "the CA's certificate has expired: renew it, or set the clock of this machine "
			   "right: it says %s",
			   clock_text(now, sizeof now));
	/* 0, 62, 64: the chain is good, the name remains; the library's first value is 1, and then stays */
	if (verify <= 1 || verify == 62 || verify == 64)
		return say(-EKEYREJECTED,
			   "the CA's certificate is not valid for host %.*s (hostname mismatch): put a name "
			   "of the certificate into %s",
			   host_len(f), f->origin, f->url_option);
	return say(-EKEYREJECTED, "the CA's certificate cannot be trusted: %s", f->error_text);
}

static int explain_timeout(const struct https_fault *f, char *why, size_t size)
{
	curl_off_t ready = 0, first_byte = 0, total = 0;
	curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	curl_easy_getinfo(f->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte);
	curl_easy_getinfo(f->easy, CURLINFO_TOTAL_TIME_T, &total);
	double seconds = (double)total / 1e6;
	if (!ready)
		return say(-ETIMEDOUT, "no connection within %.1f s", seconds);
	if (!first_byte)
		return say(-ETIMEDOUT, "no answer within %.1f s", seconds);
	return say(-ETIMEDOUT, "the reply came too slowly");
}

/* The proxy that libcurl takes from the environment, without a password that is in its URL. */
static void name_proxy(char *why, size_t size)
{
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
	const char *const *name = names, *url = NULL;
	size_t len = strlen(why);
	while (*name && !((url = getenv(*name)) && *url))
		name++;
	if (!*name)
		return;
	const char *scheme = strstr(url, "://"), *host = scheme ? scheme + 3 : url, *at = strrchr(host, '@');
	snprintf(why + len, size - len, "; the environment variable %s names the proxy %.200s", *name,
		 at ? at + 1 : host);
}

static int explain_code(const struct https_fault *f, char *why, size_t size)
{
	long verify = 0, error = 0;
	curl_easy_getinfo(f->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
	curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &error);
	for (const struct failure *known = failures; known < failures + sizeof failures / sizeof *failures;
	     known++)
		if (known->code == f->code && (!known->detail || known->detail == error))
			return say(-known->error, "%s", known->text);
	switch (f->code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return say(-EHOSTUNREACH, "host %.*s cannot be resolved: check %s and the DNS", host_len(f),
			   f->origin, f->url_option);
	case CURLE_COULDNT_CONNECT:
		return say(-ECONNREFUSED, "%s", f->error_text);
	case CURLE_OPERATION_TIMEDOUT:
		return explain_timeout(f, why, size);
	case CURLE_PEER_FAILED_VERIFICATION:
		return explain_peer(f, verify, why, size);
	case CURLE_SSL_CACERT_BADFILE:
		return say(-EKEYREJECTED, "%s holds no certificate that can be read", f->ca_option);
	case CURLE_SSL_CONNECT_ERROR:
		if (!strstr(f->error_text, "asn1 encoding routines"))
			return say(-EPROTO, "the TLS handshake failed: %s", f->error_text);
		/* all that the library says of a signature by another key of the trusted CA's name */
		return say(-EKEYREJECTED,
			   "certificate signed by unknown authority: %s has a CA of the same name with "
			   "another key, set it to the root certificate of the CA",
			   f->ca_option);
	default:
		return say(-EPROTO, "%s", f->error_text[0] ? f->error_text : curl_easy_strerror(f->code));
	}
}

int https_fault_explain(const struct https_fault *f, char *why, size_t size)
{
	curl_off_t ready = 0;
	long status = 0; /* of a proxy's answer to CONNECT */
	curl_easy_getinfo(f->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	int rc = status && status / 100 != 2
			 ? say(-EPROTO, "the proxy refuses to connect (HTTP status %ld)", status)
			 : explain_code(f, why, size);
	if (!ready)
		name_proxy(why, size);
	return rc;
}
