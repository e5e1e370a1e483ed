/* SPDX-License-Identifier: MIT */
/*
 * replay - the program behind `semstreams replay`: sends events of files of envelopes back in, to a udp_input
 * or a websocket_input.  How far it has come in a file is in FILE.replayed beside it, so that it goes on from
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include "target.h"

enum { EXIT_NOTHING = 1, EXIT_USAGE = 2, EXIT_PARTLY = 3 };
enum { SAVE_EVERY = 1000 }; /* events between two notes of how far it is */

struct replay {
	struct target *target;
	FILE *bad_file; /* NULL: what is left out is named only */
	int64_t rate;
	bool dry_run, again;
	bool stopped;         /* nothing more can be sent */
	uint64_t sent, bad;   /* events */
	struct timespec next; /* not before that time */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

/* ---- an event ---- */

static int digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'             ? 62
	       : c == '/'             ? 63
				      : -1;
}

/* In place; the length, or -EINVAL. */
static ssize_t decode_base64(char *text, size_t len)
{
	size_t n = 0;

	if (len % 4)
		return -EINVAL;
	while (len && text[len - 1] == '=' && n < 2) {
		len--;
		n++;
	}
	uint32_t bits = 0;
	size_t out = 0;
	for (size_t i = 0; i < len; i++) {
		const int d = digit(text[i]);
		if (d < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)d;
		if (i % 4)
			text[out++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
	}
	return (ssize_t)out;
}

/* The event's bytes from a line, malloced; NULL: it is no envelope. */
static char *read_event(const char *line, size_t len, size_t *size)
{
	json_t *envelope = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	const json_t *text = json_object_get(envelope, "text"), *coded = json_object_get(envelope, "base64");
	const json_t *from = text ? text : coded;
	char *bytes = NULL;

	if (json_is_string(from) && !text != !coded) {
		*size = json_string_length(from);
		bytes = malloc(*size + 1);
		if (bytes)
			memcpy(bytes, json_string_value(from), *size + 1);
		ssize_t n = bytes && coded ? decode_base64(bytes, *size) : 0;
		if (n < 0) {
			free(bytes);
			bytes = NULL;
		} else if (coded) {
			*size = (size_t)n;
		}
	}
	json_decref(envelope);
	return bytes;
}

/* Until it is time for the next one; a pause that is interrupted is over. */
static void pace(struct replay *r)
{
	const int64_t second = 1000000000;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (r->next.tv_sec < now.tv_sec || (r->next.tv_sec == now.tv_sec && r->next.tv_nsec < now.tv_nsec))
		r->next = now;
	else
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &r->next, NULL);
	const int64_t ns = r->next.tv_nsec + second / r->rate;
	r->next.tv_sec += ns / second;
	r->next.tv_nsec = ns % second;
}

/* 0; -EINVAL: the line is bad; another -errno: the event could not be sent. */
static int send_line(struct replay *r, const char *line, size_t len)
{
	size_t size = 0;
	char *event = read_event(line, len, &size);
	int rc = event ? 0 : -EINVAL;

	if (rc == 0 && !r->dry_run) {
		pace(r);
		if (interrupted)
			rc = -EINTR;
		else
			rc = r->target->send(r->target, event, size);
	}
	free(event);
	return rc;
}

/* ---- a file ---- */

static char *note_of(const char *file)
{
	char *note = NULL;

	return asprintf(&note, "%s.replayed", file) < 0 ? NULL : note;
}

/* How far an earlier run has come; 0: there was none. */
static int64_t read_note(const char *note)
{
	FILE *f = fopen(note, "re");
	int64_t at = 0;

	if (f && (fscanf(f, "%" SCNd64, &at) != 1 || at < 0))
		at = 0;
	if (f)
		fclose(f);
	return at;
}

static int write_note(const char *note, int64_t at)
{
	const char *name;
	char text[32];
	const int n = snprintf(text, sizeof text, "%" PRId64 "\n", at), dir = ss_open_folder_of(note, &name);
	int rc = dir < 0 ? dir : ss_file_write(dir, name, text, (size_t)n, 0640);

	if (dir >= 0)
		close(dir);
	return rc;
}

/* Where lines of one file are. */
struct place {
	const char *file;
	FILE *from;
	char *note;
	char *line;
	size_t room, len, number;
	int64_t end; /* what comes behind was stored meanwhile, it may be by who takes these events */
	int64_t at;  /* behind the last line that was dealt with */
	/* behind the last that is known to have arrived, and how many were sent since */
	int64_t settled;
	size_t settled_number, doubt;
	/* one of the events before that is too long for the receiver: each is settled by itself */
	int64_t single_until;
};

static void mark_settled(struct place *p)
{
	p->settled = p->at;
	p->settled_number = p->number;
	p->doubt = 0;
}

static int settle(struct replay *r, struct place *p)
{
	int rc = r->dry_run ? 0 : r->target->settle(r->target);

	if (rc)
		return rc;
	mark_settled(p);
	return r->dry_run || p->at == 0 ? 0 : write_note(p->note, p->at);
}

/* What is in doubt is read again. */
static int go_back(struct replay *r, struct place *p)
{
	r->sent -= p->doubt;
	p->at = p->settled;
	p->number = p->settled_number;
	p->doubt = 0;
	return fseek(p->from, (long)p->at, SEEK_SET) < 0 ? -errno : 0;
}

/* The line is not to be read again, so all before it has to have arrived. */
static int leave_out(struct replay *r, struct place *p, const char *what)
{
	int rc = p->doubt ? r->dry_run ? 0 : r->target->settle(r->target) : 0;

	if (rc)
		return rc;
	fprintf(stderr, "semstreams replay: %s:%zu: %s, left out\n", p->file, p->number, what);
	if (r->bad_file && !r->dry_run &&
	    (fwrite(p->line, 1, p->len, r->bad_file) != p->len || fflush(r->bad_file) == EOF))
		return -EIO;
	r->bad++;
	p->at = ftell(p->from);
	mark_settled(p);
	return r->dry_run ? 0 : write_note(p->note, p->at);
}

/* Some event since the last that arrived is too long for the receiver: which one, shows when each is sent by
 * itself. */
static int find_too_long(struct replay *r, struct place *p)
{
	if (!r->target->settles || p->at < p->single_until) {
		if (r->target->settles)
			r->sent -= p->doubt;
		p->doubt = r->target->settles ? 0 : p->doubt;
		return leave_out(r, p, "longer than the receiver takes");
	}
	p->single_until = ftell(p->from);
	return go_back(r, p);
}

static int send_next(struct replay *r, struct place *p)
{
	int rc = send_line(r, p->line, p->len - 1);
	const bool single = p->at < p->single_until;

	if (rc == -EINVAL)
		return leave_out(r, p, "no envelope of storage");
	if (rc)
		return rc;
	if (!r->dry_run && !r->target->settles)
		mark_settled(p); /* or this one would have been refused */
	p->doubt++;
	r->sent++;
	if (!single)
		p->at = ftell(p->from);
	if (!r->dry_run && (single || r->sent % SAVE_EVERY == 0)) {
		rc = r->target->settle(r->target);
		if (rc)
			return rc;
		p->at = ftell(p->from);
		mark_settled(p);
		rc = write_note(p->note, p->at);
	}
	return rc;
}

/* 0 at the end of the file; else what stopped it. */
static int send_lines(struct replay *r, struct place *p)
{
	ssize_t n;
	int rc = 0;

	while (rc == 0) {
		while (rc == 0 && !interrupted && ftell(p->from) < p->end &&
		       (n = getline(&p->line, &p->room, p->from)) > 0 && p->line[n - 1] == '\n') {
			p->number++;
			p->len = (size_t)n;
			rc = send_next(r, p);
		}
		if (interrupted)
			return -EINTR;
		if (rc == 0 && (rc = settle(r, p)) == 0)
			return 0;
		if (rc == -EMSGSIZE)
			rc = find_too_long(r, p);
	}
	return rc;
}

static void tell_stop(const struct replay *r, const struct place *p, int rc)
{
	const bool of_target = rc == -ECONNREFUSED || rc == -ECONNABORTED || rc == -ETIMEDOUT;
	const char *why = of_target && r->target->why[0] ? r->target->why : strerror(-rc);

	if (rc == -EINTR)
		fprintf(stderr,
			"semstreams replay: stopped by a signal; the same command goes on from here\n");
	else
		fprintf(stderr, "semstreams replay: %s:%zu: %s; the same command goes on where it was\n",
			p->file, p->number, why);
}

/* The lines up to where it begins count, so that messages have their numbers. */
static int skip_to(struct place *p, int64_t at)
{
	while (ftell(p->from) < at && getline(&p->line, &p->room, p->from) > 0)
		p->number++;
	p->at = at;
	mark_settled(p);
	return ftell(p->from) == at ? 0 : -ESPIPE;
}

/* It ended before its time: what may not have arrived is sent again the next time. */
static void stop_at(struct replay *r, struct place *p, int rc)
{
	if (!r->dry_run && rc == -EINTR && r->target->settle(r->target) == 0)
		mark_settled(p);
	r->sent -= p->doubt;
	if (!r->dry_run && p->settled > 0 && write_note(p->note, p->settled) < 0)
		fprintf(stderr, "semstreams replay: cannot write %s: %s\n", p->note, strerror(errno));
	tell_stop(r, p, rc);
}

static int replay_file(struct replay *r, const char *file)
{
	struct place p = {.file = file, .from = fopen(file, "re"), .note = note_of(file)};
	int rc = !p.from ? -errno : p.note ? 0 : -ENOMEM;
	struct stat st;

	if (rc == 0 && fstat(fileno(p.from), &st) < 0)
		rc = -errno;
	p.end = rc == 0 ? st.st_size : 0;
	if (rc) {
		fprintf(stderr, "semstreams replay: cannot read %s: %s\n", file, strerror(-rc));
	} else if (!r->again && skip_to(&p, read_note(p.note)) < 0) {
		fprintf(stderr,
			"semstreams replay: %s is not the file that %s is about; remove that, or use "
			"--again\n",
			file, p.note);
		rc = -ECANCELED;
	} else {
		rc = send_lines(r, &p);
		r->stopped = rc != 0;
		if (rc)
			stop_at(r, &p, rc);
	}
	if (p.from)
		fclose(p.from);
	free(p.note);
	free(p.line);
	return rc;
}

/* ---- command line ---- */

static int usage(FILE *f)
{
	fputs("usage: semstreams replay FILE... --to URL [OPTIONS]\n"
	      "\n"
	      "Sends the events of files that a storage with \"format\": \"envelope\" has written to a "
	      "udp_input or a websocket_input, as they came.\n"
	      "How far it is in FILE stands in FILE.replayed, from where the same command goes on.\n"
	      "\n"
	      "      --to URL                      where to: udp://HOST:PORT, ws[s]://HOST[:PORT]/PATH\n"
	      "      --rate N                      events a second at most [1000]\n"
	      "      --timeout DURATION            to connect, and for each event to go on its way [30s]\n"
	      "      --ca FILE                     wss: the CAs to trust [those of the system]\n"
	      "      --cert FILE                   wss: our certificate, with --key\n"
	      "      --key FILE                    its private key\n"
	      "      --bad FILE                    add the lines that cannot be sent to FILE\n"
	      "      --dry-run                     read all and send nothing\n"
	      "      --again                       from the beginning of each file\n"
	      "\n"
	      "Exit codes: 0 all were sent, 1 none was, 2 wrong usage, 3 some were.\n",
	      f);
	return f == stdout ? 0 : EXIT_USAGE;
}

static int open_target(struct replay *r, const struct target_options *o)
{
	const bool ws = strncmp(o->url, "ws://", 5) == 0 || strncmp(o->url, "wss://", 6) == 0;

	if (strncmp(o->url, "udp:", 4) == 0)
		return target_udp(o, &r->target);
#ifdef HAVE_WEBSOCKETS
	if (ws)
		return target_ws(o, &r->target);
#endif
	fprintf(stderr,
		ws ? "semstreams replay: this build has no WebSockets, so it cannot send to '%s'\n"
		   : "semstreams replay: --to is udp://HOST:PORT of a udp_input, or ws://HOST:PORT/PATH of a "
		     "websocket_input, not '%s'\n",
		o->url);
	return -EINVAL;
}

static int run(struct replay *r, const struct target_options *o, char **files, int n)
{
	int rc = 0;

	if (!r->dry_run && open_target(r, o) < 0)
		return EXIT_NOTHING;
	for (int i = 0; i < n && !r->stopped && !interrupted; i++) {
		const int failed = replay_file(r, files[i]);
		rc = failed ? failed : rc;
	}
	if (r->target)
		r->target->free(r->target);
	printf("%s %" PRIu64 " events, %" PRIu64 " lines left out\n", r->dry_run ? "would send" : "sent",
	       r->sent, r->bad);
	if (fflush(stdout) == EOF)
		return EXIT_NOTHING;
	return !rc && !r->bad ? 0 : r->sent ? EXIT_PARTLY : EXIT_NOTHING;
}

/* 0, or -EINVAL: an option's value is wrong, or it is unknown. */
static int take_option(struct replay *r, struct target_options *o, const char **bad, int option)
{
	switch (option) {
	case 't':
		o->url = optarg;
		return 0;
	case 'r':
		return ss_parse_integer(optarg, &r->rate) < 0 || r->rate < 1 || r->rate > 1000000000 ? -EINVAL
												     : 0;
	case 'o':
		return ss_parse_duration(optarg, &o->timeout_ns) < 0 || o->timeout_ns < 1000000 ||
				       o->timeout_ns > INT64_C(86400000000000)
			       ? -EINVAL
			       : 0;
	case 'A':
		o->ca = optarg;
		return 0;
	case 'C':
		o->cert = optarg;
		return 0;
	case 'K':
		o->key = optarg;
		return 0;
	case 'b':
		*bad = optarg;
		return 0;
	case 'd':
		return r->dry_run = true, 0;
	case 'a':
		return r->again = true, 0;
	default:
		return -EINVAL;
	}
}

static FILE *open_bad(const char *path)
{
	const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "a");

	if (!f)
		fprintf(stderr, "semstreams replay: cannot write --bad %s: %s\n", path, strerror(errno));
	return f;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"to", required_argument, NULL, 't'},
						{"rate", required_argument, NULL, 'r'},
						{"timeout", required_argument, NULL, 'o'},
						{"ca", required_argument, NULL, 'A'},
						{"cert", required_argument, NULL, 'C'},
						{"key", required_argument, NULL, 'K'},
						{"bad", required_argument, NULL, 'b'},
						{"dry-run", no_argument, NULL, 'd'},
						{"again", no_argument, NULL, 'a'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct replay r = {.rate = 1000};
	struct target_options o = {.timeout_ns = 30000000000, .interrupted = &interrupted};
	const struct sigaction stop = {.sa_handler = on_signal};
	const char *bad = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h')
			return usage(stdout);
		if (take_option(&r, &o, &bad, option) < 0)
			return usage(stderr);
	}
	if (optind == argc || (!o.url && !r.dry_run) || !o.cert != !o.key)
		return usage(stderr);
	if (bad && !r.dry_run && !(r.bad_file = open_bad(bad)))
		return EXIT_NOTHING;
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	int rc = run(&r, &o, argv + optind, argc - optind);
	if (r.bad_file && fclose(r.bad_file) == EOF)
		rc = EXIT_NOTHING;
	return rc;
}
