/* SPDX-License-Identifier: MIT */
/* https - see semstreams/ext/https.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/https.h>

#define HEADERS_MAX 65536u /* bytes of all header fields of a reply */

/* ---- a request ---- */

int https_trust(struct https *h, const char *path)
{
	char *pem = NULL;
	size_t len = 0;
	int rc = ss_file_read(AT_FDCWD, path, HTTPS_CA_FILE_MAX, &pem, &len, NULL);
	ss_strbuf_add(&h->ca, pem, len);
	ss_strbuf_char(&h->ca, '\n');
	free(pem);
	return rc || !h->ca.failed ? rc : -ENOMEM;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct https *h = arg;
	(void)one;
	if (n > h->max_body - h->body.len) {
		h->given_up = "the reply is too large";
		return 0;
	}
	ss_strbuf_add(&h->body, data, n);
	return h->body.failed ? 0 : n;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct https *h = arg;
	(void)data;
	(void)one;
	h->header_bytes += n;
	if (h->header_bytes <= HEADERS_MAX)
		return n;
	h->given_up = "the reply has too many header fields";
	return 0;
}

void https_begin(struct https *h)
{
	CURL *easy = h->easy;
	ss_strbuf_clear(&h->body);
	h->header_bytes = 0;
	h->given_up = NULL;
	h->error_text[0] = '\0';
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* no wait for a resolver's thread */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, h->user_agent);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->error_text);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, h);
	if (h->ca.len) {
		struct curl_blob blob = {.data = h->ca.bytes, .len = h->ca.len, .flags = CURL_BLOB_NOCOPY};
		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

bool https_add_field(struct curl_slist **fields, const char *field)
{
	struct curl_slist *more = curl_slist_append(*fields, field);
	if (more)
		*fields = more;
	return more != NULL;
}

void https_done(struct https *h)
{
	ss_strbuf_done(&h->body);
	ss_strbuf_done(&h->ca);
}

/* ---- why it failed ---- */

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

static int host_len(const struct https *h)
{
	const char *colon = strrchr(h->origin, ':');
	return colon ? (int)(colon - h->origin) : (int)strlen(h->origin);
}

/* "2025-11-16T10:00:00Z" */
static const char *clock_text(char *out, size_t size)
{
	return ss_format_time((int64_t)time(NULL), out, size);
}

static int explain_peer(const struct https *h, long verify, char *why, size_t size)
{
	char now[40];
	if (verify == 2 || (verify >= 18 && verify <= 21))
		return say(
			-EKEYREJECTED,
			"certificate signed by unknown authority: set %s to the root certificate of the CA",
			h->ca_option);
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
			   host_len(h), h->origin, h->url_option);
	return say(-EKEYREJECTED, "the CA's certificate cannot be trusted: %s", h->error_text);
}

static int explain_timeout(const struct https *h, char *why, size_t size)
{
	curl_off_t ready = 0, first_byte = 0, total = 0;
	curl_easy_getinfo(h->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	curl_easy_getinfo(h->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte);
	curl_easy_getinfo(h->easy, CURLINFO_TOTAL_TIME_T, &total);
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

static int explain_code(const struct https *h, CURLcode code, char *why, size_t size)
{
	long verify = 0, error = 0;
	curl_easy_getinfo(h->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
	curl_easy_getinfo(h->easy, CURLINFO_OS_ERRNO, &error);
	for (const struct failure *known = failures; known < failures + sizeof failures / sizeof *failures;
	     known++)
		if (known->code == code && (!known->detail || known->detail == error))
			return say(-known->error, "%s", known->text);
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return say(-EHOSTUNREACH, "host %.*s cannot be resolved: check %s and the DNS", host_len(h),
			   h->origin, h->url_option);
	case CURLE_COULDNT_CONNECT:
		return say(-ECONNREFUSED, "%s", h->error_text);
	case CURLE_OPERATION_TIMEDOUT:
		return explain_timeout(h, why, size);
	case CURLE_PEER_FAILED_VERIFICATION:
		return explain_peer(h, verify, why, size);
	case CURLE_SSL_CACERT_BADFILE:
		return say(-EKEYREJECTED, "%s holds no certificate that can be read", h->ca_option);
	case CURLE_SSL_CONNECT_ERROR:
		if (!strstr(h->error_text, "asn1 encoding routines"))
			return say(-EPROTO, "the TLS handshake failed: %s", h->error_text);
		/* all that the library says of a signature by another key of the trusted CA's name */
		return say(-EKEYREJECTED,
			   "certificate signed by unknown authority: %s has a CA of the same name with "
			   "another key, set it to the root certificate of the CA",
			   h->ca_option);
	default:
		return say(-EPROTO, "%s", h->error_text[0] ? h->error_text : curl_easy_strerror(code));
	}
}

int https_explain(const struct https *h, CURLcode code, char *why, size_t size)
{
	curl_off_t ready = 0;
	long status = 0; /* of a proxy's answer to CONNECT */
	if (h->given_up)
		return say(-EMSGSIZE, "%s", h->given_up);
	curl_easy_getinfo(h->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	curl_easy_getinfo(h->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	int rc = status && status / 100 != 2
			 ? say(-EPROTO, "the proxy refuses to connect (HTTP status %ld)", status)
			 : explain_code(h, code, why, size);
	if (!ready)
		name_proxy(why, size);
	return rc;
}
