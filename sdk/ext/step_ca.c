/* SPDX-License-Identifier: MIT */
/*
 * step_ca - see semstreams/ext/step-ca.h.  The endpoints are those of smallstep/certificates 0.19, whose
 * messages tell little to clients: why a token was refused is read from the token as well.
 */
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>
#include <semstreams/base/url.h>
#include <semstreams/ext/https.h>
#include <semstreams/ext/step-ca.h>

#define TIMEOUT_NS  UINT64_C(30000000000)
#define CONNECT_MS  10000L
#define REPLY_MAX   (256u << 10)
#define TOKEN_MAX   (16u << 10)
#define CHAIN_MAX   16 /* certificates of a reply */
#define DAY         86400
#define FINGERPRINT 65 /* hex of SHA-256, with its end */

struct step_ca {
	struct step_ca_options o;
	char *url;        /* without slashes at its end */
	char origin[272]; /* host:port, for messages */
	char shown[320];  /* url for messages */
	struct https https;
	CURLM *multi;
	atomic_bool cancelled;
	/* the request */
	const char *path;
	bool trust_nobody;               /* the certificate of whoever answers is not looked at */
	const char *chain_pem, *key_pem; /* our own for mutual TLS; NULL: none */
	struct ss_strbuf *peer;          /* where the CA's own certificates go; NULL: nowhere */
};

/* ---- messages ---- */

/* Text of strangers as one line of printable ASCII, cut to what fits. */
static void harmless(const char *text, char *out, size_t size)
{
	size_t n = 0;
	for (; *text && n + 1 < size; text++)
		out[n++] = *text >= ' ' && *text < 0x7f ? *text : '?';
	out[n] = '\0';
	while (n && out[n - 1] == ' ')
		out[--n] = '\0';
}

/* The sentence behind the URL; error. */
__attribute__((format(printf, 5, 6))) static int say(const struct step_ca *ca, struct step_ca_result *result,
						     enum step_ca_fail fail, int error, const char *format,
						     ...)
{
	va_list ap;
	int n = snprintf(result->why, sizeof result->why, "%s%s: ", ca->shown, ca->path);
	va_start(ap, format);
	if (n > 0 && (size_t)n < sizeof result->why)
		vsnprintf(result->why + n, sizeof result->why - (size_t)n, format, ap);
	va_end(ap);
	result->fail = fail;
	return error;
}

static int no_memory(const struct step_ca *ca, struct step_ca_result *result)
{
	return say(ca, result, STEP_CA_LOCAL, -ENOMEM, "out of memory");
}

/* ---- a token, as far as it says what may be wrong with it ---- */

struct claims {
	json_t *root; /* NULL: it is no token */
	const char *audience, *subject;
	int64_t not_before, issued, expires; /* 0: not said */
};

/* The payload of a JWT; its signature is the CA's business. */
static json_t *payload_of(const char *token)
{
	const char *from = strchr(token, '.'), *end = from ? strchr(from + 1, '.') : NULL;
	size_t len = end ? (size_t)(end - from) - 1 : 0;
	char text[TOKEN_MAX + 4];
	gnutls_datum_t in = {.data = (unsigned char *)text}, out = {0};
	if (!len || len > TOKEN_MAX)
		return NULL;
	for (size_t i = 0; i < len; i++)
		text[i] = from[1 + i] == '-' ? '+' : from[1 + i] == '_' ? '/' : from[1 + i];
	while (len % 4)
		text[len++] = '=';
	in.size = (unsigned)len;
	json_t *root = gnutls_base64_decode2(&in, &out) == 0
			       ? json_loadb((const char *)out.data, out.size, JSON_REJECT_DUPLICATES, NULL)
			       : NULL;
	gnutls_free(out.data);
	return root;
}

/* A time; 0 for what is none. */
static int64_t time_of(const json_t *root, const char *name)
{
	double seconds = json_number_value(json_object_get(root, name));
	return seconds > 0 && seconds < 1e11 ? (int64_t)seconds : 0;
}

static struct claims claims_of(const char *token)
{
	struct claims c = {.root = payload_of(token)};
	json_t *audience = json_object_get(c.root, "aud");
	if (json_is_array(audience))
		audience = json_array_get(audience, 0);
	c.audience = json_string_value(audience);
	c.subject = json_string_value(json_object_get(c.root, "sub"));
	c.not_before = time_of(c.root, "nbf");
	c.issued = time_of(c.root, "iat");
	c.expires = time_of(c.root, "exp");
	return c;
}

/* Is it for a CA of this name?  The port does not matter to step-ca. */
static bool is_for(const struct claims *c, const struct step_ca *ca)
{
	const char *host = c->audience ? strstr(c->audience, "://") : NULL;
	const char *colon = strrchr(ca->origin, ':');
	size_t len = colon ? (size_t)(colon - ca->origin) : strlen(ca->origin);
	return host && strncasecmp(host + 3, ca->origin, len) == 0 && strchr(":/", host[3 + len]);
}

/* Why a CA refused a token, and what to do; what it says itself tells least. */
static void explain_token(const struct step_ca *ca, const char *token, const char *said, char *out,
			  size_t size)
{
	struct claims c = claims_of(token);
	char at[40], now_text[40], audience[200];
	int64_t now = (int64_t)time(NULL);
	ss_format_time(now, now_text, sizeof now_text);
	if (!c.root) {
		snprintf(out, size, "the token is not a JSON Web Token: copy the whole of it");
	} else if (strstr(said, "already used")) {
		snprintf(out, size,
			 "the one-time token was used already: get a new one, and find out who used it if it "
			 "was not this machine");
	} else if (strstr(said, "before the bootstrap")) {
		snprintf(out, size,
			 "the token was made%s%s, before the CA was last started: get a new one, or set the "
			 "clock of the machine that makes them right",
			 c.issued ? " " : "", c.issued ? ss_format_time(c.issued, at, sizeof at) : "");
	} else if (c.expires && c.expires < now) {
		snprintf(out, size,
			 "the token expired %s, and the clock of this machine says %s: get a new one, or set "
			 "the clock right",
			 ss_format_time(c.expires, at, sizeof at), now_text);
	} else if (c.not_before > now) {
		snprintf(out, size,
			 "the token is not valid before %s, and the clock of this machine says %s: set the "
			 "clocks right",
			 ss_format_time(c.not_before, at, sizeof at), now_text);
	} else if (strstr(said, "audience") || !is_for(&c, ca)) {
		harmless(c.audience ? c.audience : "nobody", audience, sizeof audience);
		snprintf(
			out, size,
			"the token is for %s: set %s to that CA, or get a token for this one from one of its "
			"provisioners",
			audience, ca->o.url_option);
	} else {
		snprintf(out, size,
			 "the one-time token was used already, or was made%s%s before the CA was last "
			 "started, or "
			 "by none of its provisioners: get a new one; the CA's log says which",
			 c.issued ? " " : "", c.issued ? ss_format_time(c.issued, at, sizeof at) : "");
	}
	json_decref(c.root);
}

/* ---- the reply ---- */

/* Did the CA end the handshake because of our certificate?  With TLS 1.3 that comes after it, as an alert. */
static bool certificate_refused(const struct step_ca *ca, CURLcode code)
{
	return ca->chain_pem && strstr(ca->https.error_text, "alert") &&
	       (code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_SSL_CONNECT_ERROR);
}

static int explain_curl(struct step_ca *ca, CURLcode code, struct step_ca_result *result)
{
	char why[512];
	if (atomic_load(&ca->cancelled))
		return say(ca, result, STEP_CA_CANCELLED, -ECANCELED, "given up");
	if (code == CURLE_SSL_CERTPROBLEM)
		return say(ca, result, STEP_CA_LOCAL, -EINVAL,
			   "the certificate or its key cannot be used: %s", ca->https.error_text);
	if (certificate_refused(ca, code))
		return say(ca, result, STEP_CA_UNAUTHORIZED, -EACCES,
			   "the CA does not accept our certificate (%s): it has expired or is of another CA; "
			   "get a new one-time token",
			   ca->https.error_text);
	int rc = https_explain(&ca->https, code, why, sizeof why);
	enum step_ca_fail fail = rc == -EKEYREJECTED                ? STEP_CA_UNTRUSTED
				 : rc == -EPROTO || rc == -EMSGSIZE ? STEP_CA_BROKEN
				 : rc == -ENOMEM                    ? STEP_CA_LOCAL
								    : STEP_CA_UNREACHABLE;
	/* a refusal after the handshake may be lost behind the end of the connection */
	return say(ca, result, fail, rc, "%s%s", why,
		   ca->chain_pem && rc == -ECONNRESET ? ", or the CA does not accept our certificate" : "");
}

static int64_t retry_after(CURL *easy)
{
	curl_off_t seconds = 0;
	curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
	return seconds < 0 ? 0 : seconds > DAY ? DAY : (int64_t)seconds;
}

/* What the CA says no to; token NULL: none was sent. */
static int explain_status(const struct step_ca *ca, const json_t *reply, const char *token,
			  struct step_ca_result *result)
{
	const char *message = json_string_value(json_object_get(reply, "message"));
	char said[400] = "nothing more", remedy[400];
	long status = result->status;
	if (message)
		harmless(message, said, sizeof said);
	if (status == 401 && token) {
		explain_token(ca, token, said, remedy, sizeof remedy);
		return say(ca, result, STEP_CA_TOKEN, -EACCES, "%s (HTTP status %ld: %s)", remedy, status,
			   said);
	}
	if (status == 401 && ca->chain_pem)
		return say(
			ca, result, STEP_CA_UNAUTHORIZED, -EACCES,
			"the CA does not renew this certificate (HTTP status %ld: %s): if it was revoked, or "
			"its provisioner removed, get a new one-time token",
			status, said);
	if (status == 429 || status == 408 || (status >= 500 && status != 501))
		return say(ca, result, STEP_CA_BUSY, -EAGAIN,
			   "the CA cannot do it now (HTTP status %ld: %s); its log says more", status, said);
	if (message)
		return say(ca, result, STEP_CA_REFUSED, -EPERM, "the CA refuses (HTTP status %ld: %s)%s",
			   status, said, token ? "; the token has to be for exactly these names" : "");
	return say(ca, result, STEP_CA_BROKEN, -EPROTO,
		   "HTTP status %ld without a message of step-ca: is %s the address of a step-ca?", status,
		   ca->o.url_option);
}

/* ---- a request ---- */

/* Ends at once when it is cancelled. */
static CURLcode perform(struct step_ca *ca, CURL *easy)
{
	CURLcode code = CURLE_ABORTED_BY_CALLBACK;
	int running = 1, left = 0;
	if (curl_multi_add_handle(ca->multi, easy) != CURLM_OK)
		return CURLE_OUT_OF_MEMORY;
	while (running && !atomic_load(&ca->cancelled))
		if (curl_multi_perform(ca->multi, &running) != CURLM_OK ||
		    (running && curl_multi_poll(ca->multi, NULL, 0, 1000, NULL) != CURLM_OK))
			break;
	const CURLMsg *ended = running ? NULL : curl_multi_info_read(ca->multi, &left);
	if (ended && ended->msg == CURLMSG_DONE)
		code = ended->data.result;
	curl_multi_remove_handle(ca->multi, easy);
	return code;
}

static struct curl_blob blob_of(const void *bytes, size_t len)
{
	union {
		const void *in;
		void *out;
	} p = {.in = bytes};
	return (struct curl_blob){.data = p.out, .len = len, .flags = CURL_BLOB_NOCOPY};
}

static void set_identity(struct step_ca *ca, CURL *easy)
{
	struct curl_blob chain = blob_of(ca->chain_pem, strlen(ca->chain_pem));
	struct curl_blob key = blob_of(ca->key_pem, strlen(ca->key_pem));
	curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &chain);
	curl_easy_setopt(easy, CURLOPT_SSLCERTTYPE, "PEM");
	curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
	curl_easy_setopt(easy, CURLOPT_SSLKEYTYPE, "PEM");
}

static void set_common(struct step_ca *ca, CURL *easy)
{
	ca->https.easy = easy;
	https_begin(&ca->https);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(ca->o.timeout_ns / 1000000 + 1));
	if (ca->trust_nobody) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (ca->chain_pem)
		set_identity(ca, easy);
	if (ca->peer)
		curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
}

/* What was set stays the caller's until the request has been made. */
static struct curl_slist *set_request(struct step_ca *ca, CURL *easy, const char *url, const char *body)
{
	struct curl_slist *fields = curl_slist_append(NULL, "Accept: application/json");
	set_common(ca, easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	if (body) {
		if (!https_add_field(&fields, "Content-Type: application/json") ||
		    !https_add_field(&fields, "Expect:")) {
			curl_slist_free_all(fields);
			return NULL;
		}
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
	return fields;
}

/* The status is in *result, the JSON object in *out; whatever else came is a failure. */
static int read_reply(struct step_ca *ca, json_t **out, struct step_ca_result *result)
{
	json_error_t error;
	*out = json_loadb(ss_strbuf_cstr(&ca->https.body), ca->https.body.len, JSON_REJECT_DUPLICATES,
			  &error);
	if (json_is_object(*out))
		return 0;
	json_decref(*out);
	*out = NULL;
	if (result->status / 100 != 2)
		return 0; /* explained by its status */
	return say(ca, result, STEP_CA_BROKEN, -EPROTO,
		   "the answer is not a JSON object: is %s the address of a step-ca?", ca->o.url_option);
}

/* The certificates that the CA has shown, its own first. */
static void take_peer(CURL *easy, struct ss_strbuf *out)
{
	struct curl_certinfo *info = NULL;
	if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &info) != CURLE_OK || !info)
		return;
	for (int i = 0; i < info->num_of_certs && i < CHAIN_MAX; i++)
		for (const struct curl_slist *line = info->certinfo[i]; line; line = line->next)
			if (strncmp(line->data, "Cert:", 5) == 0)
				ss_strbuf_text(out, line->data + 5);
}

/* body NULL: GET.  The CA's answer 2xx, or -errno with *result. */
static int ask(struct step_ca *ca, const char *path, const char *body, const char *token, json_t **out,
	       struct step_ca_result *result)
{
	char *url = NULL;
	CURL *easy = curl_easy_init();
	struct curl_slist *fields = NULL;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	int rc = 0;
	*out = NULL;
	ca->path = path;
	*result = (struct step_ca_result){.fail = STEP_CA_OK};
	if (asprintf(&url, "%s%s", ca->url, path) < 0)
		url = NULL;
	if (easy && url)
		fields = set_request(ca, easy, url, body);
	if (fields) {
		code = perform(ca, easy);
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &result->status);
		result->retry_after = retry_after(easy);
		if (ca->peer && code == CURLE_OK)
			take_peer(easy, ca->peer);
	}
	if (code != CURLE_OK)
		rc = fields ? explain_curl(ca, code, result) : no_memory(ca, result);
	else
		rc = read_reply(ca, out, result);
	if (rc == 0 && result->status / 100 != 2)
		rc = explain_status(ca, *out, token, result);
	if (rc) {
		json_decref(*out);
		*out = NULL;
	}
	curl_easy_cleanup(easy);
	curl_slist_free_all(fields);
	free(url);
	return rc;
}

static int add_text(const char *text, size_t len, void *to)
{
	ss_strbuf_add(to, text, len);
	return 0;
}

/* The same with a document, which is taken over; texts in it are secrets. */
static int post(struct step_ca *ca, const char *path, json_t *document, const char *token, json_t **out,
		struct step_ca_result *result)
{
	struct ss_strbuf body = {.secret = true};
	const char *key;
	json_t *value;
	ca->path = path;
	*result = (struct step_ca_result){.fail = STEP_CA_OK};
	int rc = document ? json_dump_callback(document, add_text, &body, JSON_COMPACT) : -1;
	const char *text = ss_strbuf_cstr(&body);
	rc = rc || body.failed ? no_memory(ca, result) : ask(ca, path, text, token, out, result);
	json_object_foreach(document, key, value)
	{
		if (json_is_string(value))
			explicit_bzero((char *)json_string_value(value), json_string_length(value));
	}
	json_decref(document);
	ss_strbuf_done(&body);
	return rc;
}

/* ---- what the CA can do ---- */

int step_ca_get(struct step_ca *ca, const char *path, json_t **out, struct step_ca_result *result)
{
	return ask(ca, path, NULL, NULL, out, result);
}

int step_ca_post(struct step_ca *ca, const char *path, json_t *document, json_t **out,
		 struct step_ca_result *result)
{
	return post(ca, path, document, NULL, out, result);
}

int step_ca_peer(struct step_ca *ca, char **chain, struct step_ca_result *result)
{
	struct ss_strbuf peer = {0};
	ca->peer = &peer;
	int rc = step_ca_health(ca, result);
	ca->peer = NULL;
	if (rc == 0 && !peer.len && !peer.failed)
		rc = say(ca, result, STEP_CA_LOCAL, -ENOTSUP, "libcurl does not tell the CA's certificates");
	else if (rc == 0 && !(*chain = ss_strbuf_take(&peer)))
		rc = no_memory(ca, result);
	ss_strbuf_done(&peer);
	return rc;
}

int step_ca_health(struct step_ca *ca, struct step_ca_result *result)
{
	json_t *reply = NULL;
	int rc = ask(ca, "/health", NULL, NULL, &reply, result);
	const char *status = json_string_value(json_object_get(reply, "status"));
	if (rc == 0 && (!status || strcmp(status, "ok") != 0))
		rc = say(ca, result, STEP_CA_BUSY, -EAGAIN, "the CA says that it is not well");
	json_decref(reply);
	return rc;
}

/* In the form in which both sides have it; -EINVAL. */
static int fingerprint_read(const char *text, char out[FINGERPRINT])
{
	size_t n = 0;
	for (; *text; text++) {
		if (strchr(": -", *text))
			continue;
		if (!isxdigit((unsigned char)*text) || n + 1 >= FINGERPRINT)
			return -EINVAL;
		out[n++] = (char)tolower((unsigned char)*text);
	}
	out[n] = '\0';
	return n + 1 == FINGERPRINT ? 0 : -EINVAL;
}

/* Of the first certificate in PEM, which *only is then, without anything around it. */
static int fingerprint_of(const char *pem, char out[FINGERPRINT], gnutls_datum_t *only)
{
	gnutls_datum_t text = {.data = blob_of(pem, 0).data, .size = (unsigned)strlen(pem)};
	unsigned char digest[32];
	size_t len = sizeof digest;
	gnutls_x509_crt_t crt = NULL;
	int rc = gnutls_x509_crt_init(&crt);
	if (rc == 0)
		rc = gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM);
	if (rc == 0)
		rc = gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &len);
	if (rc == 0)
		rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, only);
	for (size_t i = 0; rc == 0 && i < sizeof digest; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
	gnutls_x509_crt_deinit(crt);
	return rc ? -EINVAL : 0;
}

/* pem is what came for the fingerprint that was asked for. */
static int take_root(struct step_ca *ca, const char *pem, const char *wanted, char **out,
		     struct step_ca_result *result)
{
	char is[FINGERPRINT] = "";
	gnutls_datum_t only = {0};
	if (!pem || fingerprint_of(pem, is, &only))
		return say(ca, result, STEP_CA_BROKEN, -EPROTO, "the answer holds no certificate");
	if (strcmp(is, wanted) != 0) {
		gnutls_free(only.data);
		return say(ca, result, STEP_CA_UNTRUSTED, -EKEYREJECTED,
			   "the root that was sent has the fingerprint %s, not %s: somebody else answers, or "
			   "the "
			   "fingerprint is of another CA; nothing was taken over",
			   is, wanted);
	}
	ss_strbuf_clear(&ca->https.ca);
	ss_strbuf_add(&ca->https.ca, only.data, only.size);
	char *copy = out ? strndup((const char *)only.data, only.size) : NULL;
	gnutls_free(only.data);
	if (ca->https.ca.failed || (out && !copy)) {
		free(copy);
		return no_memory(ca, result);
	}
	if (out)
		*out = copy;
	return 0;
}

int step_ca_root(struct step_ca *ca, const char *fingerprint, char **pem, struct step_ca_result *result)
{
	char wanted[FINGERPRINT] = "", path[sizeof "/root/" + FINGERPRINT];
	json_t *reply = NULL;
	*result = (struct step_ca_result){.fail = STEP_CA_OK};
	ca->path = "";
	if (fingerprint_read(fingerprint, wanted))
		return say(ca, result, STEP_CA_LOCAL, -EINVAL,
			   "the fingerprint of its root is not the SHA-256 of a certificate, 64 hexadecimal "
			   "digits");
	snprintf(path, sizeof path, "/root/%s", wanted);
	ca->trust_nobody = true;
	int rc = ask(ca, path, NULL, NULL, &reply, result);
	ca->trust_nobody = false;
	if (rc && result->status == 404)
		rc = say(
			ca, result, STEP_CA_UNTRUSTED, -EKEYREJECTED,
			"the CA has no root with this fingerprint (HTTP status 404): it is of another CA, or "
			"%s is; nothing was taken over",
			ca->o.url_option);
	if (rc == 0)
		rc = take_root(ca, json_string_value(json_object_get(reply, "ca")), wanted, pem, result);
	json_decref(reply);
	ca->path = "";
	return rc;
}

/* The certificates of a reply, one behind the other. */
static int take_chain(const struct step_ca *ca, const json_t *reply, char **chain,
		      struct step_ca_result *result)
{
	const json_t *all = json_object_get(reply, "certChain");
	struct ss_strbuf text = {0};
	size_t n = json_array_size(all);
	for (size_t i = 0; i < n && n <= CHAIN_MAX; i++) {
		const char *pem = json_string_value(json_array_get(all, i));
		ss_strbuf_text(&text, pem ? pem : "");
		if (text.len && text.bytes[text.len - 1] != '\n')
			ss_strbuf_char(&text, '\n');
	}
	bool none = !text.len && !text.failed;
	char *all_pem = none ? NULL : ss_strbuf_take(&text);
	ss_strbuf_done(&text);
	if (none)
		return say(ca, result, STEP_CA_BROKEN, -EPROTO, "the answer holds no certificates");
	if (!all_pem)
		return no_memory(ca, result);
	*chain = all_pem;
	return 0;
}

int step_ca_sign(struct step_ca *ca, const char *csr_pem, const char *token, const char *not_after,
		 char **chain, struct step_ca_result *result)
{
	json_t *reply = NULL;
	/* without what an editor left at its end */
	size_t len = strcspn(token, " \t\r\n");
	*result = (struct step_ca_result){.fail = STEP_CA_OK};
	ca->path = "/1.0/sign";
	if (!len || len > TOKEN_MAX)
		return say(ca, result, STEP_CA_TOKEN, -EINVAL,
			   len ? "the token is longer than any" : "the token is empty: get a new one");
	json_t *request = json_pack("{s:s, s:s%}", "csr", csr_pem, "ott", token, len);
	if (request && not_after)
		json_object_set_new(request, "notAfter", json_string(not_after));
	int rc = post(ca, "/1.0/sign", request, token, &reply, result);
	if (rc == 0)
		rc = take_chain(ca, reply, chain, result);
	json_decref(reply);
	return rc;
}

/* A request with a certificate of ours. */
static int post_as(struct step_ca *ca, const char *path, json_t *document, const char *chain_pem,
		   const char *key_pem, json_t **reply, struct step_ca_result *result)
{
	ca->chain_pem = chain_pem;
	ca->key_pem = key_pem;
	int rc = post(ca, path, document, NULL, reply, result);
	ca->chain_pem = ca->key_pem = NULL;
	return rc;
}

int step_ca_renew(struct step_ca *ca, const char *chain_pem, const char *key_pem, char **chain,
		  struct step_ca_result *result)
{
	json_t *reply = NULL;
	int rc = post_as(ca, "/1.0/renew", json_object(), chain_pem, key_pem, &reply, result);
	if (rc == 0)
		rc = take_chain(ca, reply, chain, result);
	json_decref(reply);
	return rc;
}

int step_ca_revoke(struct step_ca *ca, const struct step_ca_revocation *r, struct step_ca_result *result)
{
	json_t *reply = NULL;
	*result = (struct step_ca_result){.fail = STEP_CA_OK};
	ca->path = "/1.0/revoke";
	if (!*r->serial || r->serial[strspn(r->serial, "0123456789")])
		return say(ca, result, STEP_CA_LOCAL, -EINVAL, "the serial number to revoke is not decimal");
	json_t *request = json_pack("{s:s, s:i, s:s, s:b}", "serial", r->serial, "reasonCode", r->reason_code,
				    "reason", r->reason ? r->reason : "", "passive", 1);
	if (request && r->token)
		json_object_set_new(request, "ott", json_stringn(r->token, strcspn(r->token, " \t\r\n")));
	int rc = r->token ? post(ca, "/1.0/revoke", request, r->token, &reply, result)
			  : post_as(ca, "/1.0/revoke", request, r->chain_pem, r->key_pem, &reply, result);
	json_decref(reply);
	return rc;
}

/* ---- the whole ---- */

static int ca_file_add(struct step_ca *ca, const char *path, char *why, size_t why_size)
{
	size_t before = ca->https.ca.len;
	int rc = https_trust(&ca->https, path);
	if (rc == -ENOMEM)
		return rc;
	if (rc)
		snprintf(why, why_size, "%s: %s cannot be read: %s", ca->o.ca_option, path, strerror(-rc));
	else if (memmem(ca->https.ca.bytes + before, ca->https.ca.len - before, "-----BEGIN ", 11))
		return 0;
	else
		snprintf(why, why_size, "%s: %s holds no certificate in PEM", ca->o.ca_option, path);
	return -EINVAL;
}

/* Why it is not the address of a CA; NULL: it is. */
static const char *url_read(struct step_ca *ca, const char *text)
{
	static const char scheme[] = "https://";
	if (strncasecmp(text, scheme, sizeof scheme - 1) != 0)
		return "has to be the address of a step-ca, as in \"https://ca.example:9000\"";
	const char *host = text + sizeof scheme - 1;
	size_t len = strcspn(host, "/?#");
	if (memchr(host, '@', len))
		return "contains a user name or password, which step-ca does not use";
	if (!len || len + 5 > sizeof ca->origin || host[len + strcspn(host + len, "?#")])
		return "has to be the address of a step-ca, as in \"https://ca.example:9000\"";
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return "has a character that is not allowed in a URL";
	const char *bracket = memchr(host, ']', len),
		   *port = memchr(bracket ? bracket : host, ':',
				  len - (size_t)((bracket ? bracket : host) - host));
	snprintf(ca->origin, sizeof ca->origin, "%.*s%s", (int)len, host, port ? "" : ":443");
	ca->url = strdup(text);
	for (size_t n = ca->url ? strlen(ca->url) : 0; n && ca->url[n - 1] == '/'; n--)
		ca->url[n - 1] = '\0';
	ss_url_redact(ca->url ? ca->url : "", ca->shown, sizeof ca->shown);
	return NULL;
}

int step_ca_new(const struct step_ca_options *options, struct step_ca **out, char *why, size_t why_size)
{
	struct step_ca *ca = calloc(1, sizeof *ca);
	snprintf(why, why_size, "out of memory");
	if (!ca)
		return -ENOMEM;
	ca->o = *options;
	ca->o.url_option = options->url_option ? options->url_option : "ca_url";
	ca->o.ca_option = options->ca_option ? options->ca_option : "ca_bundle";
	ca->o.timeout_ns = options->timeout_ns ? options->timeout_ns : TIMEOUT_NS;
	ca->o.max_reply = options->max_reply ? options->max_reply : REPLY_MAX;
	ca->https = (struct https){.user_agent = "semstreams",
				   .origin = ca->origin,
				   .url_option = ca->o.url_option,
				   .ca_option = ca->o.ca_option,
				   .max_body = ca->o.max_reply};
	const char *wrong = url_read(ca, options->url);
	int rc = wrong ? -EINVAL : ca->url ? 0 : -ENOMEM;
	if (wrong)
		snprintf(why, why_size, "%s %s", ca->o.url_option, wrong);
	for (const char *const *file = options->ca_files; !rc && file && *file; file++)
		rc = ca_file_add(ca, *file, why, why_size);
	if (!rc && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(ca->multi = curl_multi_init())))
		rc = -ENOMEM;
	if (rc)
		step_ca_free(ca);
	else
		*out = ca;
	return rc;
}

void step_ca_free(struct step_ca *ca)
{
	if (!ca)
		return;
	if (ca->multi)
		curl_multi_cleanup(ca->multi);
	https_done(&ca->https);
	free(ca->url);
	free(ca);
}

void step_ca_cancel(struct step_ca *ca)
{
	atomic_store(&ca->cancelled, true);
	curl_multi_wakeup(ca->multi);
}
