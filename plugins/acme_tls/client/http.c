/* SPDX-License-Identifier: MIT */
/*
 * http - HTTPS requests to a CA by libcurl's multi interface on libev.  All callbacks come from the loop; see
 * http.h.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "http_call.h"
#include "message.h"

#define HEADERS_MAX  65536u    /* bytes of all header fields of a reply */
#define FIELD_MAX    4096u     /* bytes of a field that is kept */
#define CA_FILE_MAX  (4 << 20) /* bytes of trusted certificates */
#define IDLE_SECONDS 15L       /* a connection not used for so long is not used again */
/* below min_rate for so long: given up; waiting for the first byte counts, and a CA may validate before it
 * answers */
#define SLOW_SECONDS 20L

static const char *const field_names[F_COUNT] = {"location", "replay-nonce", "retry-after", "content-type",
						 "date"};

/* Nothing of it is left in the list or in curl. */
static void call_detach(struct http_call *call)
{
	for (struct http_call **at = &call->http->calls; *at; at = &(*at)->next)
		if (*at == call) {
			*at = call->next;
			break;
		}
	if (call->easy) {
		curl_multi_remove_handle(call->http->multi, call->easy);
		curl_easy_cleanup(call->easy);
		call->easy = NULL;
	}
}

static void call_release(struct http_call *call)
{
	curl_slist_free_all(call->fields_out);
	for (size_t i = 0; i < F_COUNT; i++)
		free(call->fields[i]);
	for (size_t i = 0; i < call->n_links; i++)
		free(call->links[i]);
	free(call->request);
	free(call->body);
	free(call);
}

void http_cancel(struct http_call *call)
{
	if (call) {
		call_detach(call);
		call_release(call);
	}
}

/* ---- the reply, piece by piece */

/* The request's body, once: were it given as a whole, the library would send it again by itself when a
 * connection breaks, and the CA might do twice what it was asked once. */
static size_t on_request(char *to, size_t one, size_t most, void *arg)
{
	struct http_call *call = arg;
	size_t n = strlen(call->request + call->sent);
	if (n > one * most)
		n = one * most;
	memcpy(to, call->request + call->sent, n);
	call->sent += n;
	return n;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct http_call *call = arg;
	(void)one;
	if (n > call->http->max_body - call->len) {
		call->given_up = "the answer is larger than any that makes sense";
		return 0;
	}
	if (call->len + n + 1 > call->room) {
		size_t room = (call->len + n + 1) * 2;
		char *body = realloc(call->body, room);
		if (!body)
			return 0;
		call->body = body;
		call->room = room;
	}
	memcpy(call->body + call->len, data, n);
	call->len += n;
	call->body[call->len] = '\0';
	return n;
}

/* A new reply begins, as behind "100 Continue" or a proxy's. */
static void headers_forget(struct http_call *call)
{
	for (size_t i = 0; i < F_COUNT; i++) {
		free(call->fields[i]);
		call->fields[i] = NULL;
	}
	while (call->n_links)
		free(call->links[--call->n_links]);
	call->links[0] = NULL;
}

static bool header_keep(struct http_call *call, const char *name, size_t name_len, const char *value,
			size_t len)
{
	if (len >= FIELD_MAX)
		return true;
	if (name_len == 4 && !strncasecmp(name, "link", 4)) {
		if (call->n_links == LINKS_MAX)
			return true;
		call->links[call->n_links] = strndup(value, len);
		if (!call->links[call->n_links])
			return false;
		call->links[++call->n_links] = NULL;
		return true;
	}
	for (size_t i = 0; i < F_COUNT; i++)
		if (strlen(field_names[i]) == name_len && !strncasecmp(name, field_names[i], name_len)) {
			free(call->fields[i]);
			call->fields[i] = strndup(value, len);
			return call->fields[i] != NULL;
		}
	return true;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct http_call *call = arg;
	(void)one;
	call->header_bytes += n;
	if (call->header_bytes > HEADERS_MAX) {
		call->given_up = "the answer has more header fields than any that makes sense";
		return 0;
	}
	if (n >= 5 && !memcmp(data, "HTTP/", 5)) {
		headers_forget(call);
		return n;
	}
	const char *colon = memchr(data, ':', n);
	if (!colon)
		return n;
	const char *value = colon + 1, *end = data + n;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && isspace((unsigned char)end[-1]))
		end--;
	return header_keep(call, data, (size_t)(colon - data), value, (size_t)(end - value)) ? n : 0;
}

static void skew_learn(struct http *h, const char *date)
{
	int64_t theirs;
	if (date && message_http_date(date, &theirs)) {
		h->skew = theirs - (int64_t)time(NULL);
		h->has_skew = true;
	}
}

/* One call has ended: tell, and forget it.  False: all was freed meanwhile. */
static bool call_end(struct http_call *call, CURLcode code)
{
	struct http *h = call->http;
	struct http_reply reply = {
		.location = call->fields[F_LOCATION],
		.nonce = call->fields[F_NONCE],
		.retry_after = call->fields[F_RETRY_AFTER],
		.content_type = call->fields[F_CONTENT_TYPE],
		.date = call->fields[F_DATE],
		.links = (const char *const *)call->links,
		.body = call->body ? call->body : "",
		.len = call->len,
	};
	if (code == CURLE_OK) {
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &reply.status);
		skew_learn(h, reply.date);
	} else {
		reply.error = http_why(call, code, reply.why, sizeof reply.why);
	}
	/* http_free() in done must not free it under the reply */
	call_detach(call);
	bool freed = false;
	h->freed = &freed;
	call->done(call->arg, &reply);
	if (!freed)
		h->freed = NULL;
	call_release(call);
	return !freed;
}

static void finish_calls(struct http *h)
{
	int left;
	CURLMsg *message;
	while ((message = curl_multi_info_read(h->multi, &left))) {
		struct http_call *call = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode code = message->data.result;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		if (!call_end(call, code))
			return;
	}
}

/* ---- curl's sockets and timer on the loop */

static void on_socket(struct ev_loop *loop, ev_io *io, int events)
{
	struct http *h = ((struct socket_watch *)(void *)io)->http;
	int running;
	(void)loop;
	curl_multi_socket_action(h->multi, io->fd,
				 (events & EV_READ ? CURL_CSELECT_IN : 0) |
					 (events & EV_WRITE ? CURL_CSELECT_OUT : 0),
				 &running);
	finish_calls(h);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct http *h = timer->data;
	int running;
	(void)events;
	ev_timer_stop(loop, timer);
	curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	finish_calls(h);
}

static int curl_wants_timer(CURLM *multi, long ms, void *arg)
{
	struct http *h = arg;
	(void)multi;
	ev_timer_stop(h->loop, &h->timer);
	if (ms < 0)
		return 0;
	ev_now_update(h->loop);
	ev_timer_set(&h->timer, (double)ms / 1000., 0.);
	ev_timer_start(h->loop, &h->timer);
	return 0;
}

static void watch_free(struct http *h, struct socket_watch *watch)
{
	for (struct socket_watch **at = &h->watches; *at; at = &(*at)->next)
		if (*at == watch) {
			*at = watch->next;
			break;
		}
	ev_io_stop(h->loop, &watch->io);
	free(watch);
}

static int curl_wants_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http *h = arg;
	struct socket_watch *watch = socket_arg;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watch)
			watch_free(h, watch);
		return 0;
	}
	if (!watch) {
		watch = calloc(1, sizeof *watch);
		if (!watch)
			return -1;
		watch->http = h;
		watch->next = h->watches;
		h->watches = watch;
		ev_init(&watch->io, on_socket);
		curl_multi_assign(h->multi, fd, watch);
	}
	ev_io_stop(h->loop, &watch->io);
	ev_io_set(&watch->io, fd,
		  (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
	ev_io_start(h->loop, &watch->io);
	return 0;
}

/* ---- where requests may go */

/* Scheme, host and port of an URL, malloced; -EINVAL with why for what no CA needs. */
static int url_split(const char *url, char *parts[3], char *why, size_t why_size)
{
	static const CURLUPart wanted[3] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
	int err = -EINVAL;
	CURLU *u = curl_url();
	char *user = NULL;
	parts[0] = parts[1] = parts[2] = NULL;
	if (!u)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK) {
		snprintf(why, why_size, "is no URL");
		goto out;
	}
	if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK) {
		snprintf(why, why_size, "names a user, which no CA needs");
		goto out;
	}
	for (size_t i = 0; i < 3; i++)
		if (curl_url_get(u, wanted[i], &parts[i], i == 2 ? CURLU_DEFAULT_PORT : 0) != CURLUE_OK) {
			snprintf(why, why_size, "is no URL");
			goto out;
		}
	if (strcasecmp(parts[0], "https") != 0) {
		snprintf(why, why_size, "does not begin with https://");
		goto out;
	}
	err = 0;
out:
	curl_free(user);
	curl_url_cleanup(u);
	return err;
}

static void url_parts_free(char *parts[3])
{
	for (size_t i = 0; i < 3; i++)
		curl_free(parts[i]);
}

static int origin_check(const struct http *h, const char *url, char *why, size_t why_size)
{
	char *parts[3];
	int err = url_split(url, parts, why, why_size);
	if (!err && (strcasecmp(parts[1], h->scheme_host_port[1]) != 0 ||
		     strcmp(parts[2], h->scheme_host_port[2]) != 0)) {
		snprintf(why, why_size, "is not at %s:%s as directory_url", h->scheme_host_port[1],
			 h->scheme_host_port[2]);
		err = -EINVAL;
	}
	url_parts_free(parts);
	return err;
}

/* ---- a request */

static void easy_common(struct http_call *call, const char *url)
{
	struct http *h = call->http;
	CURL *easy = call->easy;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);   /* the host ignores SIGPIPE */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* no wait for a resolver's thread */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, h->connect_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, h->total_ms);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 16384L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error_text);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, h->user_agent);
	if (h->ca) {
		struct curl_blob blob = {.data = h->ca, .len = h->ca_len, .flags = CURL_BLOB_NOCOPY};
		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

static int easy_method(struct http_call *call, const char *method, const char *body, const char *accept)
{
	CURL *easy = call->easy;
	char field[128];
	if (!strcmp(method, "HEAD")) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (!strcmp(method, "POST")) {
		call->request = strdup(body);
		if (!call->request)
			return -ENOMEM;
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_request);
		curl_easy_setopt(easy, CURLOPT_READDATA, call);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->request));
		call->fields_out = curl_slist_append(NULL, "Content-Type: application/jose+json");
		if (!call->fields_out || !curl_slist_append(call->fields_out, "Expect:"))
			return -ENOMEM;
	}
	if (accept) {
		snprintf(field, sizeof field, "Accept: %s", accept);
		struct curl_slist *more = curl_slist_append(call->fields_out, field);
		if (!more)
			return -ENOMEM;
		call->fields_out = more;
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->fields_out);
	return 0;
}

/* Not before the first request: the TLS library takes memory that one who has a certificate does not need. */
static int multi_make(struct http *h)
{
	if (h->multi)
		return 0;
	/* safe in all threads and as often as one likes; never undone, as others in the process use it too */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	h->multi = curl_multi_init();
	if (!h->multi)
		return -ENOMEM;
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, curl_wants_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, curl_wants_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 2L);
	return 0;
}

int http_send(struct http *h, const char *method, const char *url, const char *body, const char *accept,
	      void (*done)(void *arg, const struct http_reply *), void *arg, struct http_call **out,
	      char *why, size_t why_size)
{
	int err = origin_check(h, url, why, why_size);
	if (!err)
		err = multi_make(h);
	if (err < 0)
		return err;
	struct http_call *call = calloc(1, sizeof *call);
	if (!call)
		return -ENOMEM;
	call->http = h;
	call->done = done;
	call->arg = arg;
	call->easy = curl_easy_init();
	if (!call->easy) {
		free(call);
		return -ENOMEM;
	}
	easy_common(call, url);
	err = easy_method(call, method, body ? body : "", accept);
	if (err < 0) {
		http_cancel(call);
		return err;
	}
	if (h->min_rate) {
		curl_easy_setopt(call->easy, CURLOPT_LOW_SPEED_LIMIT, h->min_rate);
		curl_easy_setopt(call->easy, CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS);
	}
	call->next = h->calls;
	h->calls = call;
	if (curl_multi_add_handle(h->multi, call->easy) != CURLM_OK) {
		http_cancel(call);
		return -ENOMEM;
	}
	*out = call;
	return 0;
}

bool http_skew(const struct http *h, int64_t *seconds)
{
	if (h->has_skew)
		*seconds = h->skew;
	return h->has_skew;
}

/* ---- the whole */

static int ca_file_add(struct http *h, const char *path, char *why, size_t why_size)
{
	struct stat st;
	int err = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		err = -errno;
		snprintf(why, why_size, "%s cannot be read: %s", path, strerror(errno));
		return err;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > CA_FILE_MAX) {
		snprintf(why, why_size, "%s is no file of at most %d bytes", path, CA_FILE_MAX);
		err = -EINVAL;
		goto out;
	}
	size_t room = (size_t)st.st_size;
	char *ca = realloc(h->ca, h->ca_len + room + 1);
	if (!ca) {
		err = -ENOMEM;
		goto out;
	}
	h->ca = ca;
	while (room) {
		ssize_t n = read(fd, h->ca + h->ca_len, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		h->ca_len += (size_t)n;
		room -= (size_t)n;
	}
	h->ca[h->ca_len++] = '\n';
out:
	close(fd);
	return err;
}

static long milliseconds(uint64_t ns)
{
	uint64_t ms = (ns + 999999) / 1000000;
	return ms < 1 ? 1 : ms > 86400000 ? 86400000 : (long)ms;
}

int http_new(const struct http_options *options, struct http **out, char *why, size_t why_size)
{
	char text[128] = "";
	struct http *h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	h->loop = options->loop;
	h->max_body = options->max_body;
	h->connect_ms = milliseconds(options->connect_ns);
	h->total_ms = milliseconds(options->total_ns);
	h->min_rate = (long)options->min_rate;
	ev_init(&h->timer, on_timer);
	h->timer.data = h;
	h->user_agent = strdup(options->user_agent);
	int err =
		h->user_agent ? url_split(options->origin, h->scheme_host_port, text, sizeof text) : -ENOMEM;
	if (err == -EINVAL)
		snprintf(why, why_size, "directory_url %s %s", options->origin, text);
	for (size_t i = 0; !err && i < options->n_ca_files; i++)
		err = ca_file_add(h, options->ca_files[i], why, why_size);
	if (!err && options->n_ca_files && !memmem(h->ca, h->ca_len, "-----BEGIN ", 11)) {
		snprintf(why, why_size, "%s holds no certificate in PEM", options->ca_files[0]);
		err = -EINVAL;
	}
	if (err == -ENOMEM)
		snprintf(why, why_size, "out of memory");
	if (err < 0)
		http_free(h);
	else
		*out = h;
	return err;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->freed)
		*h->freed = true;
	while (h->calls)
		http_cancel(h->calls);
	if (h->multi)
		curl_multi_cleanup(h->multi);
	while (h->watches)
		watch_free(h, h->watches);
	ev_timer_stop(h->loop, &h->timer);
	url_parts_free(h->scheme_host_port);
	free(h->user_agent);
	free(h->ca);
	free(h);
}
