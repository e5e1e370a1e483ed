/* SPDX-License-Identifier: MIT */
/*
 * replay - the program behind `semstreams replay`: sends events of files of envelopes back in, as datagrams
 * to a udp_input.  How far it has come in a file is in FILE.replayed beside it, so that it goes on from
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>

enum { EXIT_BAD = 1, EXIT_USAGE = 2 };
enum { SAVE_EVERY = 1000 }; /* events between two notes of how far it is */

struct replay {
	int fd; /* connected */
	int64_t rate;
	bool dry_run, again;
	uint64_t sent, bad;   /* events */
	struct timespec next; /* not before that time */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

/* ---- where to ---- */

/* "udp://HOST:PORT", "udp:HOST:PORT": HOST may be in brackets.  0, or -EINVAL, said. */
static int open_target(const char *target, int *fd)
{
	const char *at = strncmp(target, "udp://", 6) == 0 ? target + 6
			 : strncmp(target, "udp:", 4) == 0 ? target + 4
							   : NULL;
	const char *colon = at ? strrchr(at, ':') : NULL;
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL;
	char host[256];

	if (!colon || colon == at || (size_t)(colon - at) >= sizeof host) {
		fprintf(stderr, "semstreams replay: --to is udp://HOST:PORT of a udp_input, not '%s'\n",
			target);
		return -EINVAL;
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - at), at);
	char *name = host;
	if (*name == '[' && name[strlen(name) - 1] == ']') {
		name[strlen(name) - 1] = '\0';
		name++;
	}
	int rc = getaddrinfo(name, colon + 1, &hints, &list);
	if (rc) {
		fprintf(stderr, "semstreams replay: cannot find %s: %s\n", at, gai_strerror(rc));
		return -EINVAL;
	}
	*fd = -1;
	for (struct addrinfo *a = list; a && *fd < 0; a = a->ai_next) {
		*fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (*fd >= 0 && connect(*fd, a->ai_addr, a->ai_addrlen) < 0) {
			close(*fd);
			*fd = -1;
		}
	}
	if (*fd < 0)
		fprintf(stderr, "semstreams replay: cannot send to %s: %s\n", at, strerror(errno));
	freeaddrinfo(list);
	return *fd < 0 ? -EINVAL : 0;
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
		else if (send(r->fd, event, size, 0) < 0)
			rc = -errno;
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
	size_t room, number;
	int64_t end;        /* what comes behind was stored meanwhile, it may be by who takes these events */
	int64_t at, before; /* behind the last event sent, and behind the one before it */
};

/* Nobody was there for the event sent last, as the kernel learned meanwhile: it is to be sent again. */
static bool was_refused(const struct replay *r, int rc)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (rc == 0 && r->fd >= 0)
		getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return rc == -ECONNREFUSED || error == ECONNREFUSED;
}

/* 0 at the end of the file; else what stopped it. */
static int send_lines(struct replay *r, struct place *p)
{
	ssize_t n;
	int rc = 0;

	while (rc == 0 && !interrupted && ftell(p->from) < p->end &&
	       (n = getline(&p->line, &p->room, p->from)) > 0) {
		p->number++;
		if (p->line[n - 1] != '\n')
			break; /* it is being written */
		rc = send_line(r, p->line, (size_t)n - 1);
		if (rc == -EINVAL) {
			fprintf(stderr, "semstreams replay: %s:%zu: no envelope of storage, left out\n",
				p->file, p->number);
			r->bad++;
			rc = 0;
		} else if (rc == 0) {
			r->sent++;
			p->before = p->at;
		}
		if (rc == 0)
			p->at = ftell(p->from);
		if (rc == 0 && !r->dry_run && r->sent % SAVE_EVERY == 0)
			rc = write_note(p->note, p->at);
	}
	return interrupted ? -EINTR : rc;
}

static void tell_stop(const struct place *p, int rc)
{
	if (rc == -ECONNREFUSED)
		fprintf(stderr,
			"semstreams replay: nobody takes the events at that address and port; %s goes on "
			"where it was\n",
			p->file);
	else if (rc == -EINTR)
		fprintf(stderr,
			"semstreams replay: stopped by a signal; the same command goes on from here\n");
	else
		fprintf(stderr, "semstreams replay: %s:%zu: %s\n", p->file, p->number, strerror(-rc));
}

/* The lines up to where it begins count, so that messages have their numbers. */
static int skip_to(struct place *p, int64_t at)
{
	while (ftell(p->from) < at && getline(&p->line, &p->room, p->from) > 0)
		p->number++;
	p->at = p->before = at;
	return ftell(p->from) == at ? 0 : -ESPIPE;
}

static int replay_file(struct replay *r, const char *file)
{
	struct place p = {.file = file, .from = fopen(file, "re"), .note = note_of(file)};
	int rc = !p.from ? -errno : p.note ? 0 : -ENOMEM;
	struct stat st;

	if (rc == 0 && fstat(fileno(p.from), &st) < 0)
		rc = -errno;
	p.end = rc == 0 ? st.st_size : 0;
	if (rc == 0 && !r->again && skip_to(&p, read_note(p.note)) < 0) {
		fprintf(stderr,
			"semstreams replay: %s is not the file that %s is about; remove that, or use "
			"--again\n",
			file, p.note);
		rc = -ECANCELED;
	} else if (rc == 0) {
		rc = send_lines(r, &p);
		if (!r->dry_run && was_refused(r, rc)) {
			r->sent -= p.at > p.before;
			p.at = p.before;
			rc = -ECONNREFUSED;
		}
		if (!r->dry_run && p.at > 0 && write_note(p.note, p.at) < 0 && rc == 0)
			rc = -EIO;
		if (rc)
			tell_stop(&p, rc);
	} else {
		tell_stop(&p, rc);
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
	      "udp_input, as they came.\n"
	      "How far it is in FILE stands in FILE.replayed, from where the same command goes on.\n"
	      "\n"
	      "      --to URL                      where to: udp://HOST:PORT\n"
	      "      --rate N                      events a second at most [1000]\n"
	      "      --dry-run                     read all and send nothing\n"
	      "      --again                       from the beginning of each file\n"
	      "\n"
	      "Exit codes: 0 all were sent, 1 some were not, or it was stopped, 2 wrong usage.\n",
	      f);
	return f == stdout ? 0 : EXIT_USAGE;
}

static int run(struct replay *r, const char *target, char **files, int n)
{
	int rc = 0;

	if (!r->dry_run && open_target(target, &r->fd) < 0)
		return EXIT_BAD;
	for (int i = 0; i < n && rc != -ECONNREFUSED && !interrupted; i++) {
		const int failed = replay_file(r, files[i]);
		rc = failed ? failed : rc;
	}
	if (r->fd >= 0)
		close(r->fd);
	printf("%s %" PRIu64 " events, %" PRIu64 " lines left out\n", r->dry_run ? "would send" : "sent",
	       r->sent, r->bad);
	return rc || r->bad || fflush(stdout) == EOF ? EXIT_BAD : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'}, {"rate", required_argument, NULL, 'r'},
		{"dry-run", no_argument, NULL, 'd'},  {"again", no_argument, NULL, 'a'},
		{"help", no_argument, NULL, 'h'},     {0}};
	struct replay r = {.fd = -1, .rate = 1000};
	const struct sigaction stop = {.sa_handler = on_signal};
	const char *target = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h')
			return usage(stdout);
		if (option == 't')
			target = optarg;
		else if (option == 'd')
			r.dry_run = true;
		else if (option == 'a')
			r.again = true;
		else if (option != 'r' || ss_parse_integer(optarg, &r.rate) < 0 || r.rate < 1 ||
			 r.rate > 1000000000)
			return usage(stderr);
	}
	if (optind == argc || (!target && !r.dry_run))
		return usage(stderr);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	return run(&r, target, argv + optind, argc - optind);
}
