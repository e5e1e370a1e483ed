/* SPDX-License-Identifier: MIT */
#include "plugins/nats/connection.h"

#include <stdlib.h>
#include <sys/random.h>
#include <semstreams/base/job.h>
#include <semstreams/ext/tls.h>
#include "plugins/nats/dial.h"
#include "plugins/nats/servers.h"
#include "plugins/nats/watch.h"

#define MS_NS    UINT64_C(1000000)
#define TICK_NS  (250 * MS_NS)
#define FIRST_NS (500 * MS_NS)  /* limit of the first wait, doubled with each failure */
#define GRACE_NS (1000 * MS_NS) /* libnats keeps its own deadlines where it has some */

struct request {
	uint64_t id; /* 0: free */
	uint64_t deadline_ns;
	nats_reply_fn *reply;
	void *arg;
};

struct nats_conn {
	const struct ss_host *host;
	const struct nats_settings *set;
	const struct nats_handlers *on;
	void *arg;
	struct ss_iface loop, tls;
	char **servers;
	size_t n_servers, server; /* the one at hand */
	char name[128];
	struct notice *notice;

	bool started, watches_tls;
	struct ss_job *job;
	struct dial dial;
	struct watch watch;
	natsConnection *nc; /* NULL: away */
	natsSubscription *inbox;
	char prefix[sizeof((struct dial *)0)->prefix];
	void (*writable)(void *arg);
	unsigned failures;
	uint32_t tick, retry; /* timers */

	struct request requests[NATS_REQUESTS];
	uint64_t last_id;
};

static const struct ss_loop *loop_of(const struct nats_conn *c)
{
	return c->loop.vtbl;
}

static uint64_t now(const struct nats_conn *c)
{
	return loop_of(c)->now(c->loop.self);
}

natsConnection *nats_conn_handle(const struct nats_conn *c)
{
	return c->nc;
}

const char *nats_conn_inbox(const struct nats_conn *c)
{
	return c->prefix;
}

const char *nats_conn_server(const struct nats_conn *c)
{
	return c->servers[c->server];
}

void nats_conn_good(struct nats_conn *c)
{
	c->failures = 0;
}

bool nats_conn_room(const struct nats_conn *c, size_t bytes)
{
	int waiting = c->nc ? natsConnection_Buffered(c->nc) : -1;

	return waiting == 0 || (waiting > 0 && (size_t)waiting + bytes <= NATS_BUFFER);
}

void nats_conn_on_room(struct nats_conn *c, void (*writable)(void *arg))
{
	c->writable = writable;
}

/* ---- requests ---- */

static void answer(struct nats_conn *c, struct request *r, natsMsg *msg)
{
	const struct request asked = *r;

	*r = (struct request){0};
	asked.reply(asked.arg, msg);
	(void)c;
}

static void fail_requests(struct nats_conn *c)
{
	for (size_t i = 0; i < NATS_REQUESTS; i++)
		if (c->requests[i].id)
			answer(c, &c->requests[i], NULL);
}

static void expire_requests(struct nats_conn *c)
{
	for (size_t i = 0; i < NATS_REQUESTS; i++)
		if (c->requests[i].id && c->requests[i].deadline_ns <= now(c))
			answer(c, &c->requests[i], NULL);
}

int nats_conn_request(struct nats_conn *c, const char *subject, const void *data, size_t len,
		      nats_reply_fn *reply, void *arg)
{
	char inbox[sizeof c->prefix + 32];
	struct request *r = NULL;

	if (!c->nc)
		return -ENOTCONN;
	for (size_t i = 0; i < NATS_REQUESTS && !r; i++)
		r = c->requests[i].id ? NULL : &c->requests[i];
	if (!r)
		return -EBUSY;
	snprintf(inbox, sizeof inbox, "%s_%llu", c->prefix, (unsigned long long)++c->last_id);
	if (natsConnection_PublishRequest(c->nc, subject, inbox, data, (int)len) != NATS_OK)
		return -EIO;
	*r = (struct request){c->last_id, now(c) + (uint64_t)c->set->timeout, reply, arg};
	return 0;
}

/* Tokens of requests begin with '_'. */
static bool take_reply(struct nats_conn *c, const char *token, natsMsg *msg)
{
	if (!token || token[0] != '_')
		return false;
	uint64_t id = strtoull(token + 1, NULL, 10);
	for (size_t i = 0; i < NATS_REQUESTS; i++)
		if (id && c->requests[i].id == id) {
			answer(c, &c->requests[i], msg);
			break;
		}
	natsMsg_Destroy(msg);
	return true;
}

/* ---- the end of a connection ---- */

static void on_retry(void *arg);

/* A random part of a limit that doubles with each failure. */
static void wait_to_retry(struct nats_conn *c)
{
	uint64_t limit = FIRST_NS << (c->failures < 16 ? c->failures : 16), r = 0;

	if (limit > (uint64_t)c->set->retry_max)
		limit = (uint64_t)c->set->retry_max;
	c->failures++;
	if (getrandom(&r, sizeof r, 0) != sizeof r)
		r = now(c);
	c->server = (c->server + 1) % c->n_servers;
	if (loop_of(c)->timer(c->loop.self, limit / 4 + r % (limit - limit / 4), 0, on_retry, c, &c->retry) <
	    0)
		c->retry = 0; /* the tick tries */
}

static void close_connection(struct nats_conn *c)
{
	natsConnection *nc = c->nc;

	c->nc = NULL;
	c->writable = NULL;
	if (!nc)
		return;
	natsConnection_Close(nc);
	natsSubscription_Destroy(c->inbox);
	natsConnection_Destroy(nc);
	watch_end(&c->watch);
	c->inbox = NULL;
}

static void lose(struct nats_conn *c, const char *why)
{
	const char *server = nats_conn_server(c);

	close_connection(c);
	ss_log(c->host, SS_LOG_WARN, "NATS connection ended, connecting anew server=%s error=\"%s\"", server,
	       why);
	wait_to_retry(c);
	fail_requests(c);
	c->on->disconnected(c->arg, why);
}

void nats_conn_fail(struct nats_conn *c, const char *why)
{
	char text[NATS_WHY_MAX];

	if (!c->nc)
		return;
	snprintf(text, sizeof text, "%s", why);
	lose(c, text);
}

static void no_responders(struct nats_conn *c)
{
	if (c->on->no_responders)
		c->on->no_responders(c->arg);
	else
		nats_conn_fail(c, "nobody takes what is sent: is JetStream enabled there for this account, "
				  "and is the stream there?");
}

/* ---- while there is one ---- */

/* What libnats has read. */
static void empty_inbox(struct nats_conn *c)
{
	natsConnection *nc = c->nc;
	const size_t prefix_len = strlen(c->prefix);
	natsMsg *msg;
	natsStatus s;

	while (c->nc == nc && (s = natsSubscription_NextMsg(&msg, c->inbox, 0)) != NATS_TIMEOUT) {
		if (s == NATS_NO_RESPONDERS) {
			no_responders(c);
			continue;
		}
		if (s != NATS_OK)
			break;
		const char *subject = natsMsg_GetSubject(msg);
		const char *token =
			strncmp(subject, c->prefix, prefix_len) == 0 ? subject + prefix_len : NULL;
		if (!take_reply(c, token, msg))
			c->on->message(c->arg, token, msg);
	}
	if (c->nc == nc && c->on->batch_end)
		c->on->batch_end(c->arg);
}

static void look_for_end(struct nats_conn *c)
{
	const char *text = NULL;

	if (!c->nc || !natsConnection_IsClosed(c->nc))
		return;
	(void)natsConnection_GetLastError(c->nc, &text);
	nats_conn_fail(c, text && *text ? text : "the server has closed the connection");
}

static void on_ready(void *arg, uint32_t events)
{
	struct nats_conn *c = arg;
	natsConnection *nc = c->nc;

	if (events & SS_FD_READ) {
		natsConnection_ProcessReadEvent(nc);
		empty_inbox(c);
	}
	if (c->nc == nc && events & SS_FD_WRITE)
		natsConnection_ProcessWriteEvent(nc);
	if (c->nc == nc)
		look_for_end(c);
	if (c->nc == nc && nc && c->writable && natsConnection_Buffered(nc) == 0) {
		void (*writable)(void *) = c->writable;
		c->writable = NULL;
		writable(c->arg);
	}
}

/* ---- connecting ---- */

/* In the job's thread. */
static void on_job_done(void *arg);

static void begin_dial(struct nats_conn *c)
{
	const struct ss_tls *tls = c->tls.vtbl;
	const bool secure = strncmp(nats_conn_server(c), "tls://", 6) == 0;

	if (ss_job_busy(c->job) || c->nc)
		return;
	c->dial = (struct dial){.settings = c->set,
				.url = nats_conn_server(c),
				.name = c->name,
				.watch = &c->watch,
				.notice = c->notice};
	c->watch = (struct watch){.loop = c->loop, .ready = on_ready, .arg = c, .fd = -1};
	if (secure && tls)
		c->dial.tls = tls->acquire(c->tls.self, SS_TLS_CLIENT);
	if (!secure || c->dial.tls) {
		ss_job_start(c->job, dial_run, &c->dial);
		return;
	}
	wait_to_retry(c);
	c->on->disconnected(c->arg, "security.tls has no identity for clients yet");
}

static void on_retry(void *arg)
{
	struct nats_conn *c = arg;

	c->retry = 0;
	begin_dial(c);
}

static void release_tls(struct nats_conn *c)
{
	const struct ss_tls *tls = c->tls.vtbl;

	if (c->dial.tls)
		tls->release(c->tls.self, c->dial.tls);
	c->dial.tls = NULL;
}

static void adopt(struct nats_conn *c)
{
	c->nc = c->dial.nc;
	c->inbox = c->dial.inbox;
	c->dial.nc = NULL;
	c->dial.inbox = NULL;
	memcpy(c->prefix, c->dial.prefix, sizeof c->prefix);
	if (!watch_begin(&c->watch)) {
		nats_conn_fail(c, "out of memory");
		return;
	}
	ss_log(c->host, SS_LOG_INFO, "NATS connected server=%s", nats_conn_server(c));
	c->on->connected(c->arg);
}

static void on_dialed(void *arg)
{
	struct nats_conn *c = arg;
	const char *server = nats_conn_server(c);

	if (!c->started || !ss_job_take(c->job))
		return;
	release_tls(c);
	if (c->dial.nc) {
		adopt(c);
		return;
	}
	ss_log(c->host, SS_LOG_WARN, "Cannot connect to NATS, trying again server=%s error=\"%s\"", server,
	       c->dial.why);
	wait_to_retry(c);
	c->on->disconnected(c->arg, c->dial.why);
}

static void on_job_done(void *arg)
{
	struct nats_conn *c = arg;

	(void)loop_of(c)->post(c->loop.self, on_dialed, c); /* without memory the tick takes it */
}

/* With another server to go to there is no need to wait until this one closes. */
static void heed_lame_duck(struct nats_conn *c)
{
	if (!c->nc || !atomic_exchange(&c->notice->lame_duck, false))
		return;
	if (c->n_servers > 1)
		nats_conn_fail(c, "the server is going away (lame duck), another one is asked");
	else
		ss_log(c->host, SS_LOG_WARN, "The NATS server is going away (lame duck) server=%s",
		       nats_conn_server(c));
}

static void on_tick(void *arg)
{
	struct nats_conn *c = arg;

	if (ss_job_running_ns(c->job) > (uint64_t)c->set->timeout + GRACE_NS)
		dial_abort(&c->dial);
	on_dialed(c);
	expire_requests(c);
	look_for_end(c);
	heed_lame_duck(c);
	if (!c->nc && !c->retry)
		begin_dial(c);
}

/* Other certificates: those of the connection were judged by the old ones. */
static void on_tls_changed(void *arg)
{
	struct nats_conn *c = arg;

	if (c->nc && strncmp(nats_conn_server(c), "tls://", 6) == 0) {
		c->failures = 0;
		nats_conn_fail(c, "certificates of security.tls have changed");
	}
}

/* ---- life cycle ---- */

static int check_settings(struct nats_conn *c)
{
	const struct nats_settings *s = c->set;
	const char *const bad = " \t*>";
	const size_t len = strlen(s->inbox_prefix);
	bool secure = false;

	if (len == 0 || len > 64 || s->inbox_prefix[strcspn(s->inbox_prefix, bad)] ||
	    s->inbox_prefix[len - 1] == '.')
		return ss_config_error(c->host, "/inbox_prefix",
				       "expected a subject of at most 64 bytes without blanks, '*' and '>'");
	if (s->password && !s->user)
		return ss_config_error(c->host, "/password", "needs user beside it");
	if (s->token && s->user)
		return ss_config_error(c->host, "/token", "cannot stand beside user");
	for (c->n_servers = 0; c->servers[c->n_servers]; c->n_servers++)
		secure |= strncmp(c->servers[c->n_servers], "tls://", 6) == 0;
	const struct ss_tls *tls = c->tls.vtbl;
	if (secure && (!tls || !tls->enabled(c->tls.self, SS_TLS_CLIENT)))
		return ss_config_error(
			c->host, "/servers",
			"a server by tls:// needs security.tls.client, which says whom to trust");
	return 0;
}

/* For `semstreams check --connect`. */
static int claim_servers(const struct nats_conn *c)
{
	char resource[600];
	int rc = 0;

	if (!SS_KNOWS(c->host, struct ss_host, claim))
		return 0;
	for (size_t i = 0; i < c->n_servers && rc != -ENOMEM; i++) {
		snprintf(resource, sizeof resource, "reaches:%s%s%s", c->servers[i],
			 c->set->min_version ? " version=" : "",
			 c->set->min_version ? c->set->min_version : "");
		rc = c->host->claim(c->host, "/servers", resource);
	}
	return rc == -ENOMEM ? rc : 0;
}

int nats_conn_new(struct nats_conn **out, const struct ss_host *host, const struct nats_settings *settings,
		  const struct nats_handlers *handlers, void *arg)
{
	struct nats_conn *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->host = host;
	c->set = settings;
	c->on = handlers;
	c->arg = arg;
	snprintf(c->name, sizeof c->name, "semstreams %.100s", host->id);
	c->notice = calloc(1, sizeof *c->notice);
	int rc = c->notice ? servers_parse(host, settings->servers, &c->servers) : -ENOMEM;
	if (c->notice)
		atomic_store(&c->notice->refs, 1);
	if (host->query(host, SS_TLS, sizeof(struct ss_tls), &c->tls) < 0)
		c->tls.vtbl = NULL;
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &c->loop);
	if (rc == 0)
		rc = check_settings(c);
	if (rc == 0)
		rc = claim_servers(c);
	if (rc < 0) {
		nats_conn_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void nats_conn_free(struct nats_conn *c)
{
	if (!c)
		return;
	servers_free(c->servers);
	notice_unref(c->notice);
	free(c);
}

int nats_conn_start(struct nats_conn *c)
{
	const struct ss_tls *tls = c->tls.vtbl;
	unsigned first = 0;
	int rc = ss_job_new(&c->job, "nats-connect", on_job_done, c);

	if (rc == 0)
		rc = loop_of(c)->timer(c->loop.self, TICK_NS, TICK_NS, on_tick, c, &c->tick);
	if (rc < 0)
		return rc;
	c->started = true;
	/* many that start at once are not all to go to the first server */
	if (getrandom(&first, sizeof first, 0) == sizeof first)
		c->server = first % c->n_servers;
	c->watches_tls = tls && tls->enabled(c->tls.self, SS_TLS_CLIENT) &&
			 tls->watch(c->tls.self, on_tls_changed, c) == 0;
	begin_dial(c);
	return 0;
}

void nats_conn_stop(struct nats_conn *c)
{
	const struct ss_tls *tls = c->tls.vtbl;

	c->started = false;
	loop_of(c)->cancel(c->loop.self, c->tick);
	loop_of(c)->cancel(c->loop.self, c->retry);
	c->tick = c->retry = 0;
	if (c->watches_tls)
		tls->unwatch(c->tls.self);
	c->watches_tls = false;
	close_connection(c);
	memset(c->requests, 0, sizeof c->requests);
	if (c->job && ss_job_busy(c->job)) {
		dial_abort(&c->dial);
		if (ss_job_wait(c->job) && c->dial.nc) {
			natsConnection_Close(c->dial.nc);
			natsSubscription_Destroy(c->dial.inbox);
			natsConnection_Destroy(c->dial.nc);
		}
	}
	release_tls(c);
	ss_job_free(c->job);
	c->job = NULL;
}
