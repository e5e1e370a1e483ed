/* SPDX-License-Identifier: MIT */
/* http - see http.h. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/job.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/https-fault.h>
#include "http.h"
#include "message.h"
#include "plugins/identity/time_text.h"

#define HEADERS_MAX  65536u    /* bytes of all header fields of a reply */
#define LINKS_MAX    16        /* Link fields that are kept */
#define CA_FILE_MAX  (4 << 20) /* bytes of trusted certificates */
#define IDLE_SECONDS 15L       /* a connection not used for so long is not used again */
/* below min_rate for so long: given up; waiting for the first byte counts, and a CA may validate before it
 * answers */
#define SLOW_SECONDS 20L

struct http {
	struct http_options o; /* its strings are borrowed */
	struct ss_job *job;    /* performs a request while the loop runs */
	ev_async performed;
	CURL *easy; /* keeps the connection from request to request; in the hands of the job while it runs */
	CURLcode code;
	char origin[URL_ORIGIN]; /* "ca.example:443" */
	struct ss_strbuf ca;     /* PEM of all ca_files */
	/* the request */
	const char *request;
	size_t sent; /* of request */
	/* the reply */
	struct ss_strbuf body;
	size_t header_bytes;
	char location[2100];
	const char *links[LINKS_MAX + 1];
	const char *given_up; /* why a callback of ours refused the reply */
	char error_text[CURL_ERROR_SIZE];
};

/* ---- the reply, piece by piece */

/* The request's body, once: were it given as a whole, the library would send it again by itself when a
 * connection breaks, and the CA might do twice what it was asked once. */
static size_t on_request(char *to, size_t one, size_t most, void *arg)
{
	struct http *h = arg;
	size_t n = strlen(h->request + h->sent);
	if (n > one * most)
		n = one * most;
	memcpy(to, h->request + h->sent, n);
	h->sent += n;
	return n;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct http *h = arg;
	(void)one;
	if (n > h->o.max_body - h->body.len) {
		h->given_up = "the reply is too large";
		return 0;
	}
	ss_strbuf_add(&h->body, data, n);
	return h->body.failed ? 0 : n;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct http *h = arg;
	(void)data;
	(void)one;
	h->header_bytes += n;
	if (h->header_bytes <= HEADERS_MAX)
		return n;
	h->given_up = "the reply has too many header fields";
	return 0;
}

/* Of the final reply, not of "100 Continue" or a proxy's.  NULL: there is none. */
static const char *field(const struct http *h, const char *name, size_t index)
{
	struct curl_header *found;
	return curl_easy_header(h->easy, name, index, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
											     : NULL;
}

/* ---- why a request failed */

static int explain(const struct http *h, struct http_reply *out)
{
	const struct https_fault fault = {.easy = h->easy,
					  .code = h->code,
					  .error_text = h->error_text,
					  .origin = h->origin,
					  .url_option = "directory_url",
					  .ca_option = "ca_bundle"};
	if (!h->given_up)
		return https_fault_explain(&fault, out->why, sizeof out->why);
	snprintf(out->why, sizeof out->why, "%s", h->given_up);
	return -EMSGSIZE;
}

/* ---- a request */

static long milliseconds(uint64_t ns)
{
	uint64_t ms = (ns + 999999) / 1000000;
	return ms < 1 ? 1 : ms > 86400000 ? 86400000 : (long)ms;
}

static void set_common(struct http *h)
{
	CURL *easy = h->easy;
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* no wait for a resolver's thread */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 16384L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->error_text);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, h->o.user_agent);
	if (h->ca.len) {
		struct curl_blob blob = {.data = h->ca.bytes, .len = h->ca.len, .flags = CURL_BLOB_NOCOPY};
		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	if (h->o.min_rate) {
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)h->o.min_rate);
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS);
	}
}

static void perform(void *arg)
{
	struct http *h = arg;
	h->code = curl_easy_perform(h->easy);
}

static void on_performed(void *arg)
{
	struct http *h = arg;
	ev_async_send(h->o.loop, &h->performed);
}

/* It ends a round of the loop. */
static void on_async(struct ev_loop *loop, ev_async *async, int events)
{
	(void)loop;
	(void)async;
	(void)events;
}

/* Not before the first request: the TLS library is slow to start. */
static int set_up(struct http *h)
{
	if (h->job) {
		curl_easy_reset(h->easy);
		return 0;
	}
	if (!h->easy && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->easy = curl_easy_init())))
		return -ENOMEM;
	if (ss_job_new(&h->job, "request", on_performed, h))
		return -ENOMEM;
	ev_async_init(&h->performed, on_async);
	ev_async_start(h->o.loop, &h->performed);
	return 0;
}

static bool add_field(struct curl_slist **fields, const char *field)
{
	struct curl_slist *more = curl_slist_append(*fields, field);
	if (more)
		*fields = more;
	return more != NULL;
}

/* fields: to be freed after the request. */
static int set_request(struct http *h, const struct http_request *q, struct curl_slist **fields)
{
	CURL *easy = h->easy;
	uint64_t now = monotonic_now();
	/* libcurl counts in milliseconds and may end within the last one */
	uint64_t left = q->deadline > now ? q->deadline - now : 0;
	left += left < h->o.total_ns ? 1000000 : 0;
	char field[128];
	curl_easy_setopt(easy, CURLOPT_URL, q->url);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(h->o.connect_ns));
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(left < h->o.total_ns ? left : h->o.total_ns));
	if (!strcmp(q->method, "HEAD")) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (!strcmp(q->method, "POST")) {
		h->request = q->body;
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_request);
		curl_easy_setopt(easy, CURLOPT_READDATA, h);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(q->body));
		if (!add_field(fields, "Content-Type: application/jose+json") ||
		    !add_field(fields, "Expect:"))
			return -ENOMEM;
	}
	snprintf(field, sizeof field, "Accept: %s", q->accept ? q->accept : "");
	if (q->accept && !add_field(fields, field))
		return -ENOMEM;
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *fields);
	return 0;
}

void http_ask(struct http *h, const struct http_request *q, struct http_reply *out)
{
	struct curl_slist *fields = NULL;
	ss_strbuf_clear(&h->body);
	h->header_bytes = h->sent = 0;
	h->given_up = NULL;
	h->error_text[0] = '\0';
	h->links[0] = NULL;
	*out = (struct http_reply){.body = "", .links = h->links};
	out->error = url_check(h->o.origin, q->url, out->why, sizeof out->why);
	if (!out->error)
		out->error = set_up(h);
	if (out->error)
		return;
	set_common(h);
	out->error = set_request(h, q, &fields);
	if (!out->error) {
		ss_job_start(h->job, perform, h);
		while (!ss_job_take(h->job))
			ev_run(h->o.loop, EVRUN_ONCE);
		if (h->code != CURLE_OK)
			out->error = explain(h, out);
		curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &out->status);
	}
	curl_slist_free_all(fields);
	const char *location = field(h, "Location", 0);
	if (location) {
		url_resolve(q->url, location, h->location, sizeof h->location);
		out->location = h->location;
	}
	out->nonce = field(h, "Replay-Nonce", 0);
	out->retry_after = field(h, "Retry-After", 0);
	out->content_type = field(h, "Content-Type", 0);
	out->date = field(h, "Date", 0);
	for (size_t i = 0; i < LINKS_MAX; i++)
		h->links[i] = field(h, "Link", i); /* NULL behind the last */
	out->body = ss_strbuf_cstr(&h->body);
	out->len = h->body.len;
}

/* ---- the whole */

static int ca_file_add(struct http *h, const char *path, char *why, size_t why_size)
{
	char *pem = NULL;
	size_t len = 0;
	int rc = ss_file_read(AT_FDCWD, path, CA_FILE_MAX, &pem, &len, NULL);
	if (rc)
		snprintf(why, why_size, "%s cannot be read: %s", path, strerror(-rc));
	if (rc == -EINVAL || rc == -EISDIR || rc == -EFBIG) {
		snprintf(why, why_size, "%s is not a regular file of at most %d bytes", path, CA_FILE_MAX);
		rc = -EINVAL;
	}
	ss_strbuf_add(&h->ca, pem, len);
	ss_strbuf_char(&h->ca, '\n');
	free(pem);
	return rc || !h->ca.failed ? rc : -ENOMEM;
}

int http_new(const struct http_options *options, struct http **out, char *why, size_t why_size)
{
	struct http *h = calloc(1, sizeof *h);
	snprintf(why, why_size, "out of memory");
	if (!h)
		return -ENOMEM;
	h->o = *options;
	const char *wrong = url_origin(options->origin, h->origin);
	int rc = wrong ? -EINVAL : 0;
	if (wrong)
		snprintf(why, why_size, "directory_url %s", wrong);
	for (size_t i = 0; !rc && i < options->n_ca_files; i++)
		rc = ca_file_add(h, options->ca_files[i], why, why_size);
	if (!rc && options->n_ca_files && !memmem(h->ca.bytes, h->ca.len, "-----BEGIN ", 11)) {
		snprintf(why, why_size, "%s holds no certificate in PEM", options->ca_files[0]);
		rc = -EINVAL;
	}
	if (rc < 0)
		http_free(h);
	else
		*out = h;
	return rc;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->job)
		ev_async_stop(h->o.loop, &h->performed);
	ss_job_free(h->job);
	curl_easy_cleanup(h->easy);
	ss_strbuf_done(&h->body);
	ss_strbuf_done(&h->ca);
	free(h);
}
