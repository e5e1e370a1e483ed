/* SPDX-License-Identifier: MIT */
/*
 * http_why - why a request failed, for an operator, with the remedy where one is known.  Pure but for the
 * clock.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include "http_call.h"

static void explain_peer(const struct http_call *call, char *why, size_t size)
{
	long verify = 0;
	char now[32];
	time_t t = time(NULL);
	struct tm tm;
	strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	curl_easy_getinfo(call->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
	switch (verify) { /* X509_V_ERR_... of OpenSSL */
	case 0: /* the chain is good, the name remains; the library's first value is 1, and then stays */
	case 1:
	case 62:
	case 64:
		snprintf(why, size,
			 "the CA's certificate is not valid for host %s (hostname mismatch): put a name that "
			 "it "
			 "has into directory_url",
			 call->http->scheme_host_port[1]);
		break;
	case 9:
		snprintf(why, size,
			 "the CA's certificate is not yet valid: is the clock of this machine right? It says "
			 "%s",
			 now);
		break;
	case 10:
		snprintf(why, size,
			 "the CA's certificate has expired: renew it, or set the clock of this machine "
			 "right: it "
			 "says %s",
			 now);
		break;
	case 2:
	case 18:
	case 19:
	case 20:
	case 21:
		snprintf(why, size,
			 "certificate signed by unknown authority: set ca_bundle to the root certificate of "
			 "the "
			 "CA");
		break;
	default:
		snprintf(why, size, "the CA's certificate cannot be trusted: %s", call->error_text);
	}
}

static const struct {
	int error;
	const char *text;
} system_errors[] = {
	{ECONNREFUSED, "connection refused"},    {EHOSTUNREACH, "no route to host"},
	{ENETUNREACH, "network is unreachable"}, {ECONNRESET, "connection reset"},
	{ETIMEDOUT, "connection timed out"},     {EACCES, "a firewall of this machine forbids it"},
};

static int explain_connect(const struct http_call *call, char *why, size_t size)
{
	long error = 0;
	curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &error);
	for (size_t i = 0; i < sizeof system_errors / sizeof *system_errors; i++)
		if (error == system_errors[i].error) {
			snprintf(why, size, "%s", system_errors[i].text);
			return -(int)error;
		}
	snprintf(why, size, "%s", call->error_text);
	return -ECONNREFUSED;
}

static int explain_timeout(const struct http_call *call, char *why, size_t size)
{
	curl_off_t ready = 0, first_byte = 0, total = 0;
	curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	curl_easy_getinfo(call->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte);
	curl_easy_getinfo(call->easy, CURLINFO_TOTAL_TIME_T, &total);
	if (!ready)
		snprintf(why, size, "no connection within %.1f s", (double)total / 1e6);
	else if (!first_byte)
		snprintf(why, size, "no answer within %.1f s", (double)total / 1e6);
	else
		snprintf(why, size, "the answer came too slowly");
	return -ETIMEDOUT;
}

int http_why(const struct http_call *call, CURLcode code, char *why, size_t size)
{
	if (call->given_up) {
		snprintf(why, size, "%s", call->given_up);
		return -EMSGSIZE;
	}
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		snprintf(why, size, "host %s cannot be resolved: check directory_url and the DNS",
			 call->http->scheme_host_port[1]);
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return explain_connect(call, why, size);
	case CURLE_OPERATION_TIMEDOUT:
		return explain_timeout(call, why, size);
	case CURLE_PEER_FAILED_VERIFICATION:
		explain_peer(call, why, size);
		return -EKEYREJECTED;
	case CURLE_SSL_CACERT_BADFILE:
		snprintf(why, size, "ca_bundle holds no certificate that can be read");
		return -EKEYREJECTED;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND: /* it was not sent again */
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		snprintf(why, size, "the connection broke before the answer was complete");
		return -ECONNRESET;
	case CURLE_OUT_OF_MEMORY:
		snprintf(why, size, "out of memory");
		return -ENOMEM;
	case CURLE_SSL_CONNECT_ERROR:
		/* a signature that is not the trusted CA's, though the name is: the library does not say it
		 * was that */
		if (strstr(call->error_text, "asn1 encoding routines")) {
			snprintf(why, size,
				 "certificate signed by unknown authority: ca_bundle has a CA of the same "
				 "name with "
				 "another key, set it to the root certificate of the CA");
			return -EKEYREJECTED;
		}
		snprintf(why, size, "the TLS handshake failed: %s", call->error_text);
		return -EPROTO;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
		snprintf(why, size, "what answers there does not speak HTTP");
		return -EPROTO;
	default:
		snprintf(why, size, "%s", call->error_text[0] ? call->error_text : curl_easy_strerror(code));
		return -EPROTO;
	}
}
