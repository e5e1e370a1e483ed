/* SPDX-License-Identifier: MIT */
/* http - see http.h. */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/job.h>
#include <semstreams/ext/https.h>
#include "http.h"
#include "message.h"
#include "plugins/identity/time_text.h"

#define LINKS_MAX    16  /* Link fields that are kept */
#define IDLE_SECONDS 15L /* a connection not used for so long is not used again */
/* below min_rate for so long: given up; waiting for the first byte counts, and a CA may validate before it
 * answers */
#define SLOW_SECONDS 20L

struct http {
	struct http_options o; /* its strings are borrowed */
	struct ss_job *job;    /* performs a request while the loop runs */
	ev_async performed;
	struct https https; /* its easy keeps the connection; all in the hands of the job while it runs */
	CURLcode code;
	char origin[URL_ORIGIN]; /* "ca.example:443" */
	/* the request */
	const char *request;
	size_t sent; /* of request */
	/* the reply */
	char location[2100];
	const char *links[LINKS_MAX + 1];
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

/* Of the final reply, not of "100 Continue" or a proxy's.  NULL: there is none. */
static const char *field(const struct http *h, const char *name, size_t index)
{
	struct curl_header *found;
	return curl_easy_header(h->https.easy, name, index, CURLH_HEADER, -1, &found) == CURLHE_OK
		       ? found->value
		       : NULL;
}

/* ---- a request */

static long milliseconds(uint64_t ns)
{
	uint64_t ms = (ns + 999999) / 1000000;
	return ms < 1 ? 1 : ms > 86400000 ? 86400000 : (long)ms;
}

static void set_common(struct http *h)
{
	CURL *easy = h->https.easy;
	https_begin(&h->https);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 16384L);
	if (h->o.min_rate) {
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)h->o.min_rate);
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS);
	}
}

static void perform(void *arg)
{
	struct http *h = arg;
	h->code = curl_easy_perform(h->https.easy);
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
		curl_easy_reset(h->https.easy);
		return 0;
	}
	if (!h->https.easy &&
	    (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->https.easy = curl_easy_init())))
		return -ENOMEM;
	if (ss_job_new(&h->job, "request", on_performed, h))
		return -ENOMEM;
	ev_async_init(&h->performed, on_async);
	ev_async_start(h->o.loop, &h->performed);
	return 0;
}

/* fields: to be freed after the request. */
static int set_request(struct http *h, const struct http_request *q, struct curl_slist **fields)
{
	CURL *easy = h->https.easy;
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
		if (!https_add_field(fields, "Content-Type: application/jose+json") ||
		    !https_add_field(fields, "Expect:"))
			return -ENOMEM;
	}
	snprintf(field, sizeof field, "Accept: %s", q->accept ? q->accept : "");
	if (q->accept && !https_add_field(fields, field))
		return -ENOMEM;
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *fields);
	return 0;
}

void http_ask(struct http *h, const struct http_request *q, struct http_reply *out)
{
	struct curl_slist *fields = NULL;
	h->sent = 0;
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
			out->error = https_explain(&h->https, h->code, out->why, sizeof out->why);
		curl_easy_getinfo(h->https.easy, CURLINFO_RESPONSE_CODE, &out->status);
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
	out->body = ss_strbuf_cstr(&h->https.body);
	out->len = h->https.body.len;
}

/* ---- the whole */

static int ca_file_add(struct http *h, const char *path, char *why, size_t why_size)
{
	int rc = https_trust(&h->https, path);
	if (rc && rc != -ENOMEM)
		snprintf(why, why_size, "%s cannot be read: %s", path, strerror(-rc));
	if (rc != -EINVAL && rc != -EISDIR && rc != -EFBIG)
		return rc;
	snprintf(why, why_size, "%s is not a regular file of at most %d bytes", path, HTTPS_CA_FILE_MAX);
	return -EINVAL;
}

int http_new(const struct http_options *options, struct http **out, char *why, size_t why_size)
{
	struct http *h = calloc(1, sizeof *h);
	snprintf(why, why_size, "out of memory");
	if (!h)
		return -ENOMEM;
	h->o = *options;
	h->https = (struct https){.user_agent = options->user_agent,
				  .origin = h->origin,
				  .url_option = "directory_url",
				  .ca_option = "ca_bundle",
				  .max_body = options->max_body};
	const char *wrong = url_origin(options->origin, h->origin);
	int rc = wrong ? -EINVAL : 0;
	if (wrong)
		snprintf(why, why_size, "directory_url %s", wrong);
	for (size_t i = 0; !rc && i < options->n_ca_files; i++)
		rc = ca_file_add(h, options->ca_files[i], why, why_size);
	if (!rc && options->n_ca_files && !memmem(h->https.ca.bytes, h->https.ca.len, "-----BEGIN ", 11)) {
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
	curl_easy_cleanup(h->https.easy);
	https_done(&h->https);
	free(h);
}
