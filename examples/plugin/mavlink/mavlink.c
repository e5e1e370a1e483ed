/* SPDX-License-Identifier: MIT */
/*
 * mavlink - processor: datagrams of MAVLink 1 and 2 become JSON, an event for each message, or JSON becomes
 * frames, one for each event.  What is refused goes to the output error.  All of it runs on the instance's
 * loop; what is read of others is read by frame.c, signing.c and mav_json.c, which do no I/O.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/event_fault.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/refusal.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/sugar.h>
#include "frame.h"
#include "mav_json.h"
#include "signing.h"

enum { PORT_OUT, PORT_ERROR };
enum { MODE_DECODE, MODE_ENCODE };
enum { METRIC_FRAMES, METRIC_REFUSED /* and those behind it: MAV_... */ };

struct conf {
	int64_t mode;
	const char *allow; /* JSON */
	const char *key_file;
	int64_t accept_unsigned;
	int64_t max_streams;
	int64_t link;
	int64_t errors;
};

/* A part of what came out, or of what was refused. */
struct piece {
	const struct ss_event *of;
	uint32_t len;
	uint8_t fault;
};

struct mavlink {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface fields;
	struct mav_json json;
	struct mav_signing signing;
	bool checks; /* there is a key */
	uint8_t seq; /* of the next frame that comes without one */
	struct ss_refusals refusals;

	/* of the batch at hand */
	struct ss_strbuf text; /* what comes out, one piece behind the other */
	struct piece *out;
	struct ss_event *refused; /* with the reasons in faults */
	uint8_t *faults;
	uint32_t n_out, n_refused, room;
	uint32_t counts[MAV_FAULTS];
	uint32_t lost[MAV_FAULTS]; /* events of which nothing comes out, by the first reason */
};

static const char *const reasons[] = {
	[MAV_NO_FRAME] = "no_frame",
	[MAV_TRUNCATED] = "truncated",
	[MAV_BAD_CRC] = "bad_crc",
	[MAV_BAD_LENGTH] = "bad_length",
	[MAV_UNKNOWN_MESSAGE] = "unknown_message",
	[MAV_INCOMPATIBLE] = "incompatible",
	[MAV_UNSIGNED] = "unsigned",
	[MAV_BAD_SIGNATURE] = "bad_signature",
	[MAV_OLD_TIMESTAMP] = "old_timestamp",
	[MAV_TOO_MANY_STREAMS] = "too_many_streams",
	[MAV_NOT_JSON] = "not_json",
	[MAV_BAD_FIELD] = "bad_field",
	[MAV_NOT_ALLOWED] = "not_allowed",
	[MAV_NO_MEMORY] = "no_memory",
	NULL,
};

/* ---- what comes of a batch ---- */

static int reserve(struct mavlink *m)
{
	uint32_t room = 2 * m->room + 64;

	if (m->n_out < m->room && m->n_refused < m->room)
		return 0;
	struct piece *out = reallocarray(m->out, room, sizeof *out);
	if (out)
		m->out = out;
	struct ss_event *refused = reallocarray(m->refused, room, sizeof *refused);
	if (refused)
		m->refused = refused;
	uint8_t *faults = realloc(m->faults, room);
	if (faults)
		m->faults = faults;
	if (!out || !refused || !faults)
		return -ENOMEM;
	m->room = room;
	return 0;
}

/* The text has grown by an event's worth since it was that long. */
static void add_out(struct mavlink *m, const struct ss_event *of, size_t before)
{
	m->out[m->n_out++] = (struct piece){.of = of, .len = (uint32_t)(m->text.len - before)};
}

static void add_refused(struct mavlink *m, const struct ss_event *of, const uint8_t *data, size_t len,
			enum mav_fault fault)
{
	struct ss_event *e = &m->refused[m->n_refused];

	*e = *of;
	e->data = data;
	e->len = (uint32_t)len;
	m->faults[m->n_refused++] = (uint8_t)fault;
	m->counts[fault]++;
}

static enum mav_fault check_signature(struct mavlink *m, const struct ss_event *e, const struct mav_frame *f)
{
	if (!m->checks)
		return MAV_FINE;
	if (f->signature)
		return mav_signing_check(&m->signing, f, e->time_ns);
	return m->conf->accept_unsigned ? MAV_FINE : MAV_UNSIGNED;
}

static int decode(struct mavlink *m, const struct ss_event *e)
{
	uint32_t out = m->n_out;
	enum mav_fault first = MAV_FINE;
	struct mav_frame frame;
	size_t used;

	if (reserve(m) < 0)
		return -ENOMEM;
	if (e->len == 0)
		add_refused(m, e, e->data, 0, first = MAV_NO_FRAME);
	for (size_t at = 0; at < e->len; at += used) {
		if (reserve(m) < 0)
			return -ENOMEM;
		enum mav_fault fault = mav_frame_read(e->data + at, e->len - at, &frame, &used);
		if (fault == MAV_FINE)
			fault = check_signature(m, e, &frame);
		if (fault != MAV_FINE && first == MAV_FINE)
			first = fault;
		if (fault == MAV_NOT_ALLOWED)
			m->counts[fault]++;
		else if (fault != MAV_FINE)
			add_refused(m, e, e->data + at, used, fault);
		if (fault != MAV_FINE)
			continue;
		size_t before = m->text.len;
		mav_json_write(&m->text, &frame, m->checks && frame.signature);
		add_out(m, e, before);
	}
	if (m->n_out == out)
		m->lost[first]++;
	return m->text.failed ? -ENOMEM : 0;
}

/* Sign a frame that has no signature, check one that has. */
static enum mav_fault sign(struct mavlink *m, const struct mav_parsed *p, bool is_new, uint8_t *bytes,
			   size_t len, uint64_t now_ns)
{
	struct mav_frame f = p->frame;

	f.bytes = bytes;
	f.len = len;
	if (is_new)
		mav_signing_sign(&m->signing, bytes, len, (uint8_t)m->conf->link, now_ns);
	else if (f.signature && !mav_signing_is_genuine(&m->signing, &f))
		return MAV_BAD_SIGNATURE;
	return MAV_FINE;
}

static int encode(struct mavlink *m, const struct ss_event *e, uint64_t now_ns)
{
	struct mav_parsed p;
	size_t before = m->text.len;

	if (reserve(m) < 0)
		return -ENOMEM;
	enum mav_fault fault = mav_json_read(&m->json, e->data, e->len, &p);
	char *room = fault == MAV_FINE ? ss_strbuf_room(&m->text, MAV_FRAME_MAX) : NULL;
	if (room) {
		bool is_new = m->checks && !p.frame.signature && p.frame.version == 2;
		if (is_new)
			p.frame.signature = p.signature;
		if (!p.has_seq)
			p.frame.seq = m->seq;
		size_t len = mav_frame_write(&p.frame, (uint8_t *)room);
		fault = m->checks ? sign(m, &p, is_new, (uint8_t *)room, len, now_ns) : MAV_FINE;
		if (fault == MAV_FINE) {
			m->text.len += len;
			m->seq = (uint8_t)(m->seq + !p.has_seq);
			add_out(m, e, before);
		}
	}
	if (fault != MAV_FINE) {
		add_refused(m, e, e->data, e->len, fault);
		m->lost[fault]++;
	}
	return m->text.failed ? -ENOMEM : 0;
}

/* ---- counting and passing on ---- */

/* Refused pieces to the output error, if anybody reads it and there is memory. */
static bool pass_refused(struct mavlink *m, const struct ss_batch *batch)
{
	bool used = ss_refusals_used(&m->refusals);

	for (uint32_t i = 0; used && i < m->n_refused; i++)
		used = ss_refusals_add(&m->refusals, batch, &m->refused[i], reasons[m->faults[i]], 0, 0) == 0;
	if (!used)
		ss_refusals_clear(&m->refusals);
	return used;
}

/* Events that end here, and why; a secret goes nowhere. */
static void count_refused(struct mavlink *m, const struct ss_batch *batch)
{
	bool decodes = m->conf->mode == MODE_DECODE, used = pass_refused(m, batch);
	char fault[SS_EVENT_FAULT_SIZE];
	bool told = true;

	for (uint32_t i = 0; i < MAV_FAULTS; i++) {
		if (m->counts[i])
			m->host->metric_add(m->host, METRIC_REFUSED + i, m->counts[i]);
		if (m->lost[i] && (!used || (decodes && i == MAV_NOT_ALLOWED)))
			m->host->drop(m->host, i, m->lost[i]);
	}
	if (decodes && m->counts[MAV_NOT_ALLOWED])
		ss_log(m->host, SS_LOG_WARN,
		       "MAVLink: SETUP_SIGNING has a key in it and is not passed on; set keys up beside the "
		       "vehicle");
	for (uint32_t i = 0; !used && i < MAV_FAULTS; i++)
		if (m->lost[i])
			told = ss_refusals_dropped(&m->refusals, m->conf->errors, reasons[i]);
	if (m->n_refused == 0 || !told)
		return;
	ss_event_fault(batch, &m->refused[0], 0, 0, fault);
	ss_log(m->host, SS_LOG_WARN, "MAVLink: %s are %s reason=%s%s", decodes ? "frames" : "events",
	       used ? "passed to the output error" : "dropped", reasons[m->faults[0]], fault);
}

static int emit_out(struct mavlink *m, struct ss_batch *batch)
{
	struct ss_batch *out = m->n_out ? m->host->batch_new(m->host, batch, m->n_out, m->text.len) : NULL;
	size_t at = 0;

	if (!out)
		return m->n_out ? -ENOMEM : 0;
	memcpy(out->data, m->text.bytes, m->text.len);
	for (uint32_t i = 0; i < m->n_out; i++) {
		out->events[i] = *m->out[i].of;
		out->events[i].data = out->data + at;
		out->events[i].len = m->out[i].len;
		at += m->out[i].len;
	}
	out->count = m->n_out;
	m->host->metric_add(m->host, METRIC_FRAMES, m->n_out);
	m->host->emit(m->host, PORT_OUT, out);
	m->host->batch_unref(out);
	return 0;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct mavlink *m = self;
	struct timespec now;
	uint32_t lost;
	int rc = 0;

	(void)port;
	m->n_out = m->n_refused = 0;
	memset(m->counts, 0, sizeof m->counts);
	memset(m->lost, 0, sizeof m->lost);
	ss_strbuf_clear(&m->text);
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = m->conf->mode == MODE_DECODE ? decode(m, &batch->events[i])
						  : encode(m, &batch->events[i], now_ns);
	if (rc != 0)
		return rc;
	count_refused(m, batch);
	rc = emit_out(m, batch);
	if (rc != 0) {
		ss_refusals_clear(&m->refusals);
		return rc;
	}
	/* pieces of events whose other frames came out are no events of their own */
	ss_refusals_emit(&m->refusals, batch, &lost);
	return SS_DONE;
}

/* ---- the key ---- */

static int32_t bad_key(const struct mavlink *m, const char *what, int err)
{
	ss_log(m->host, SS_LOG_ERROR, "MAVLink: key_file \"%s\" %s", m->conf->key_file, what);
	return -err;
}

/* 32 bytes, or as many in hexadecimal digits. */
static bool read_key(const uint8_t *text, size_t len, uint8_t key[MAV_KEY_LEN])
{
	char digits[2 * MAV_KEY_LEN + 1], pair[3] = "";

	if (len == MAV_KEY_LEN) {
		memcpy(key, text, len);
		return true;
	}
	if (len > 0 && text[len - 1] == '\n')
		len--;
	if (len != 2 * MAV_KEY_LEN)
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	bool ok = strspn(digits, "0123456789abcdefABCDEF") == len;
	for (size_t i = 0; ok && i < MAV_KEY_LEN; i++) {
		memcpy(pair, digits + 2 * i, 2);
		key[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	explicit_bzero(digits, sizeof digits);
	explicit_bzero(pair, sizeof pair);
	return ok;
}

static int32_t load_key(struct mavlink *m)
{
	uint8_t text[2 * MAV_KEY_LEN + 2], key[MAV_KEY_LEN];
	struct stat st;
	int32_t rc = 0;
	int fd = open(m->conf->key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return bad_key(m, strerror(errno), errno);
	ssize_t len = fstat(fd, &st) == 0 ? read(fd, text, sizeof text) : -1;
	if (len < 0)
		rc = bad_key(m, strerror(errno), errno);
	else if (st.st_mode & 077)
		rc = bad_key(m, "can be read by others: chmod 600", EPERM);
	else if (!read_key(text, (size_t)len, key))
		rc = bad_key(m, "is not a key: 32 bytes, or 64 hexadecimal digits", EINVAL);
	else
		rc = mav_signing_init(&m->signing, key, (uint32_t)m->conf->max_streams);
	m->checks = rc == 0;
	explicit_bzero(text, sizeof text);
	explicit_bzero(key, sizeof key);
	close(fd);
	return rc;
}

/* ---- life cycle ---- */

static int allow_all(struct mavlink *m)
{
	int rc = 0;

	for (size_t i = 0; i < mav_dialect.n && rc == 0; i++)
		if (mav_dialect.messages[i].id != MAV_SECRET_ID)
			rc = mav_json_allow(&m->json, &mav_dialect.messages[i]);
	return rc;
}

/* "all", or an array of names. */
static void read_allow(struct mavlink *m, struct ss_json_option *option, json_t *json)
{
	json_t *item;
	size_t i;

	if (json_is_string(json) && strcmp(json_string_value(json), "all") == 0) {
		if (allow_all(m) < 0)
			option->err = -ENOMEM;
		return;
	}
	if (!json_is_array(json)) {
		ss_json_error(option, NULL, "must be an array of names of messages, or \"all\"");
		return;
	}
	json_array_foreach(json, i, item)
	{
		const char *name = json_string_value(item);
		const struct mav_message *message = name ? mav_message_by_name(name, strlen(name)) : NULL;
		size_t before = ss_json_enter_index(option, i);
		if (!message)
			ss_json_error(option, NULL, "\"%s\" is no message of this dialect", name ? name : "");
		else if (message->id == MAV_SECRET_ID)
			ss_json_error(option, NULL, "\"%s\" has a key in it and is not sent on", name);
		else if (mav_json_allow(&m->json, message) < 0)
			option->err = -ENOMEM;
		ss_json_leave(option, before);
	}
}

static int check_options(struct mavlink *m)
{
	const struct conf *c = m->conf;
	struct ss_json_option option = {.host = m->host, .fields = &m->fields};
	int rc = 0;

	if (c->allow && c->mode == MODE_DECODE)
		rc = ss_config_error(m->host, "/allow",
				     "is for \"mode\": \"encode\"; a filter on \"name\" thins "
				     "out what was decoded");
	if (c->accept_unsigned && !c->key_file)
		rc = ss_config_error(m->host, "/accept_unsigned", "is only used together with key_file");
	json_t *json = c->allow && rc == 0 ? ss_json_parse(&option, "allow", c->allow) : NULL;
	if (json) {
		size_t before = ss_json_enter(&option, "allow");
		read_allow(m, &option, json);
		ss_json_leave(&option, before);
		json_decref(json);
	}
	ss_json_done(&option);
	return option.err ? option.err : rc;
}

static void destroy(void *self)
{
	struct mavlink *m = self;

	if (!m)
		return;
	mav_json_done(&m->json);
	mav_signing_done(&m->signing);
	ss_refusals_done(&m->refusals);
	ss_strbuf_done(&m->text);
	free(m->out);
	free(m->refused);
	free(m->faults);
	free(m);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct mavlink *m = calloc(1, sizeof *m);

	if (!m)
		return -ENOMEM;
	m->host = host;
	m->conf = conf;
	ss_refusals_init(&m->refusals, host, PORT_ERROR);
	int rc = host->query(host, SS_FIELDS, sizeof(struct ss_fields), &m->fields);
	if (rc == 0)
		rc = mav_json_init(&m->json, &m->fields);
	if (rc == 0)
		rc = check_options(m);
	if (rc != 0)
		destroy(m);
	else
		*self = m;
	return rc;
}

static int32_t start(void *self)
{
	struct mavlink *m = self;

	if (m->conf->mode == MODE_ENCODE && !m->conf->allow)
		ss_log(m->host, SS_LOG_WARN,
		       "MAVLink: no message is allowed, so every event is refused; see the option allow");
	return m->conf->key_file ? load_key(m) : 0;
}

static void stop(void *self)
{
	struct mavlink *m = self;

	mav_signing_done(&m->signing);
	m->checks = false;
}

/* ---- descriptor ---- */

static const char *const modes[] = {"decode", "encode", NULL};

static const struct ss_option options[] = {
	SS_OPT(struct conf, mode, SS_OPT_ENUM, NULL, "decode: frames to JSON; encode: JSON to frames.",
	       .choices = modes, .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, allow, SS_OPT_JSON, NULL,
	       "encode: names of the messages that may become frames, or \"all\"; none if not set.",
	       .schema = "{\"anyOf\":[{\"const\":\"all\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}"
			 "}]}"),
	SS_OPT(struct conf, key_file, SS_OPT_STRING, NULL,
	       "File with the key for signatures, 32 bytes or 64 hexadecimal digits, which others cannot "
	       "read.",
	       .flags = SS_OPT_READS),
	SS_OPT(struct conf, accept_unsigned, SS_OPT_BOOL, "false",
	       "decode with key_file: frames without a signature pass, too."),
	SS_OPT(struct conf, max_streams, SS_OPT_INT, "256",
	       "decode with key_file: most streams of signed frames (system, component and link).", .min = 1,
	       .max = 65536),
	SS_OPT(struct conf, link, SS_OPT_INT, "0", "encode with key_file: the link id in signatures.",
	       .max = 255),
	SS_OPT_ERRORS(struct conf, errors, 0),
};

#define REFUSED(reason)                                                                                      \
	{                                                                                                    \
		.name = "semstreams_mavlink_refused_total",                                                  \
		.help = "Frames, or what should have been one, that were refused.", .label = reason,         \
		.kind = SS_METRIC_COUNTER                                                                    \
	}

static const struct ss_metric metrics[] = {
	[METRIC_FRAMES] = {.name = "semstreams_mavlink_frames_total",
			   .help = "Frames that were decoded or encoded.",
			   .kind = SS_METRIC_COUNTER},
	[METRIC_REFUSED + MAV_NO_FRAME] = REFUSED("reason=\"no_frame\""),
	[METRIC_REFUSED + MAV_TRUNCATED] = REFUSED("reason=\"truncated\""),
	[METRIC_REFUSED + MAV_BAD_CRC] = REFUSED("reason=\"bad_crc\""),
	[METRIC_REFUSED + MAV_BAD_LENGTH] = REFUSED("reason=\"bad_length\""),
	[METRIC_REFUSED + MAV_UNKNOWN_MESSAGE] = REFUSED("reason=\"unknown_message\""),
	[METRIC_REFUSED + MAV_INCOMPATIBLE] = REFUSED("reason=\"incompatible\""),
	[METRIC_REFUSED + MAV_UNSIGNED] = REFUSED("reason=\"unsigned\""),
	[METRIC_REFUSED + MAV_BAD_SIGNATURE] = REFUSED("reason=\"bad_signature\""),
	[METRIC_REFUSED + MAV_OLD_TIMESTAMP] = REFUSED("reason=\"old_timestamp\""),
	[METRIC_REFUSED + MAV_TOO_MANY_STREAMS] = REFUSED("reason=\"too_many_streams\""),
	[METRIC_REFUSED + MAV_NOT_JSON] = REFUSED("reason=\"not_json\""),
	[METRIC_REFUSED + MAV_BAD_FIELD] = REFUSED("reason=\"bad_field\""),
	[METRIC_REFUSED + MAV_NOT_ALLOWED] = REFUSED("reason=\"not_allowed\""),
	[METRIC_REFUSED + MAV_NO_MEMORY] = REFUSED("reason=\"no_memory\""),
};

static const char *const outputs[] = {"out", "error", NULL};

static const struct ss_component mavlink = {
	.struct_size = sizeof mavlink,
	.kind = SS_KIND_PROCESSOR,
	.type = "mavlink",
	.version = "1.0",
	.summary = "Decodes MAVLink 1 and 2 to JSON, and encodes it again.",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.outputs = outputs,
	.reasons = reasons,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.process = process,
};
SS_REGISTER(&mavlink);
