/* SPDX-License-Identifier: MIT */
/*
 * spool - look into the folder of a sender's log, read-only and without its lock, so also while it is in use.
 * Run as `semstreams spool ls|check|dump FOLDER`.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/units.h>
#include "spool.h"

enum { EXIT_BAD = 1, EXIT_USAGE = 2 };

struct spool {
	const char *path;
	int dir_fd;
	struct log_cursor cursors[SENDLOG_CONSUMERS_MAX];
	struct spool_state state;
	bool has_state;
	struct dirent **names; /* of segments, in order */
	int n_names;
};

/* What one segment holds. */
struct contents {
	struct seg_header header;
	bool header_ok, sealed;
	uint64_t size, used;
	uint64_t first, next;                 /* sequences; equal: none */
	uint64_t frames, records, last_count; /* last_count: records of the last frame */
	uint64_t first_ns, last_ns;
	uint64_t damaged, missing; /* records */
	bool unfinished;           /* the last frame is not whole, and nothing follows */
};

struct job {
	const char *command;
	uint64_t from, to;       /* dump: sequences */
	bool meta;               /* dump: with sequence and time in front */
	uint64_t acked;          /* by all consumers: what is wrong up to there is nobody's loss */
	struct contents at;      /* the segment looked at */
	uint64_t damaged_before; /* the last frame, in case it proves unfinished */
};

/* ---- opening ---- */

static bool read_header(int fd, struct contents *c)
{
	uint8_t in[SEG_HEADER];

	return pread(fd, in, sizeof in, 0) == sizeof in && seg_header_read(in, &c->header);
}

static int open_at(const struct spool *s, const char *name)
{
	return openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Without a state that can be read, the newest header says whose segments these are. */
static bool find_files(struct spool *s)
{
	struct contents c;

	for (int i = s->n_names; i-- > 0;) {
		int fd = open_at(s, s->names[i]->d_name);
		bool good = fd >= 0 && read_header(fd, &c);
		if (fd >= 0)
			close(fd);
		if (good) {
			memcpy(s->state.files, c.header.epoch, sizeof s->state.files);
			return true;
		}
	}
	return false;
}

static int open_spool(struct spool *s, const char *path)
{
	s->path = path;
	s->state.cursors = s->cursors;
	s->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0) {
		fprintf(stderr, "semstreams spool: %s: %s\n", path, strerror(errno));
		return EXIT_BAD;
	}
	int fd = open_at(s, "state");
	struct ss_two_slot slots;
	bool doubt;
	if (fd < 0 || spool_state_open(&slots, fd, &s->state, &s->has_state, &doubt) < 0)
		s->has_state = false;
	else
		ss_two_slot_close(&slots);
	if (fd >= 0)
		close(fd);
	s->n_names = spool_names(s->dir_fd, &s->names);
	if (s->n_names < 0) {
		fprintf(stderr, "semstreams spool: %s: %s\n", path, strerror(-s->n_names));
		return EXIT_BAD;
	}
	if (!s->has_state && !find_files(s)) {
		fprintf(stderr, "semstreams spool: %s: there is no spool in this folder\n", path);
		return EXIT_BAD;
	}
	return 0;
}

static void close_spool(struct spool *s)
{
	spool_names_free(s->names, s->n_names);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
}

/* ---- walking ---- */

static const char *time_text(uint64_t ns, char out[32])
{
	return ns ? ss_format_time((int64_t)(ns / 1000000000u), out, 32) : "-";
}

/* How many of these records somebody lacks. */
static uint64_t note(const struct job *job, const char *what, uint64_t from, uint64_t to)
{
	FILE *f = strcmp(job->command, "dump") == 0 ? stderr : stdout;

	/* of a segment that was let go of, a crash of the machine may bring back a part */
	from = from > job->acked ? from : job->acked + 1;
	if (from > to)
		return 0;
	if (strcmp(job->command, "ls") != 0)
		fprintf(f, "%s: %" PRIu64 " to %" PRIu64 "\n", what, from, to);
	return to - from + 1;
}

/* As the log has it: 0 with no consumer. */
static uint64_t all_acked(const struct spool *s)
{
	uint64_t least = s->state.n_cursors ? UINT64_MAX : 0;

	for (uint32_t i = 0; i < s->state.n_cursors; i++)
		least = s->cursors[i].acked < least ? s->cursors[i].acked : least;
	return least;
}

static void print_record(const struct job *job, const struct ss_event *e)
{
	if (e->seq < job->from || e->seq > job->to)
		return;
	if (job->meta)
		printf("%" PRIu64 " %" PRIu64 " ", e->seq, e->time_ns);
	fwrite(e->data, 1, e->len, stdout);
	putchar('\n');
}

/* One frame; false if not all of it is sound. */
static bool check_frame(struct job *job, uint8_t *bytes, struct frame *f)
{
	struct contents *c = &job->at;
	struct frame_walk w = {0};
	struct ss_event e;
	bool good = frame_repair_index(bytes, f), dump = strcmp(job->command, "dump") == 0;

	if (f->repaired && strcmp(job->command, "check") == 0)
		printf("damaged but readable: the index of %" PRIu64 " to %" PRIu64 "\n", f->first_seq,
		       f->first_seq + f->count - 1);
	if (!good) {
		c->damaged += note(job, "damaged", f->first_seq, f->first_seq + f->count - 1);
		return false;
	}
	while (frame_next(bytes, f, &w, &e)) {
		if (!frame_record_ok(bytes, f, w.i - 1, &e)) {
			good = false;
			c->damaged += note(job, "damaged", e.seq, e.seq);
		} else if (dump) {
			print_record(job, &e);
		}
	}
	return good;
}

/* expected: the sequence to come, 0 = any. */
static int walk_segment(const struct spool *s, const char *name, struct job *job, uint64_t expected)
{
	struct contents *c = &job->at;
	struct seg_reader r;
	struct frame f;
	struct stat st;
	uint8_t *bytes;
	uint64_t ordinal = 0;
	bool last_good = true;
	int fd = open_at(s, name), rc;

	*c = (struct contents){0};
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	seg_name_parse(name, &ordinal);
	c->size = (uint64_t)st.st_size;
	c->header_ok = read_header(fd, c) && c->header.ordinal == ordinal;
	c->used = SEG_HEADER;
	c->first = c->next = c->header_ok ? c->header.first_seq : expected;
	seg_reader_init(&r, fd, s->state.files, ordinal, c->size);
	while ((rc = seg_reader_next(&r, &f, &bytes)) == 1) {
		if (!c->frames && !c->next)
			c->first = c->next = f.first_seq;
		if (f.first_seq > c->next) {
			c->missing += note(job, "missing", c->next, f.first_seq - 1);
		}
		c->next = f.first_seq + f.count;
		if (f.seal) {
			c->sealed = true;
			break;
		}
		job->damaged_before = c->damaged;
		last_good = check_frame(job, bytes, &f);
		c->frames++;
		c->records += f.count;
		c->last_count = f.count;
		c->used = r.at;
		c->first_ns = c->first_ns ? c->first_ns : f.time_ns;
		c->last_ns = f.time_ns ? f.time_ns : c->last_ns;
	}
	c->unfinished = !c->sealed && !last_good;
	seg_reader_done(&r);
	return rc < 0 ? rc : 0;
}

static void print_name(const char *name)
{
	/* it came from a peer */
	for (; *name; name++)
		putchar((unsigned char)*name < ' ' || *name == 0x7f ? '?' : *name);
}

static void print_epoch(const char *what, const uint8_t epoch[16])
{
	printf("%-10s", what);
	for (int i = 0; i < 16; i++)
		printf("%02x", epoch[i]);
}

static void print_epochs(const struct spool *s)
{
	if (!s->has_state) {
		printf("state     cannot be read: no cursors; a new epoch will be made\n");
		return;
	}
	for (uint32_t i = 0; i < s->state.n_past; i++) {
		print_epoch("earlier", s->state.past[i].epoch);
		printf("  up to %" PRIu64 "\n", s->state.past[i].last);
	}
	print_epoch("epoch", s->state.epoch);
	putchar('\n');
}

static void print_age(uint64_t seen_ns)
{
	uint64_t now = log_wall_ns();
	char text[32], age[24];

	printf("  seen %s, %s ago", time_text(seen_ns, text),
	       ss_format_span(now > seen_ns ? (int64_t)(now - seen_ns) : 0, age, sizeof age));
}

static void print_cursors(const struct spool *s, uint64_t next)
{
	for (uint32_t i = 0; i < s->state.n_cursors; i++) {
		const struct log_cursor *c = &s->cursors[i];
		printf("consumer  ");
		print_name(c->name);
		printf("  acked %" PRIu64 "  behind %" PRIu64, c->acked,
		       next > c->acked + 1 ? next - 1 - c->acked : 0);
		print_age(c->seen_ns);
		putchar('\n');
	}
}

static void print_segment(const char *name, const struct contents *c)
{
	char from[32], to[32];

	printf("segment   %s  first %" PRIu64 "  next %" PRIu64 "  frames %" PRIu64 "  bytes %" PRIu64
	       " of %" PRIu64 "  from %s  to %s%s\n",
	       name, c->first, c->next, c->frames, c->used, c->size, time_text(c->first_ns, from),
	       time_text(c->last_ns, to), c->header_ok ? "" : "  header damaged");
}

static int run(struct spool *s, struct job *job)
{
	struct contents *c = &job->at;
	uint64_t first = 0, next = 0, records = 0, damaged = 0, missing = 0;
	bool ls = strcmp(job->command, "ls") == 0, dump = strcmp(job->command, "dump") == 0;

	job->acked = s->has_state ? all_acked(s) : 0;
	if (!dump)
		print_epochs(s);
	for (int i = 0; i < s->n_names; i++) {
		int rc = walk_segment(s, s->names[i]->d_name, job, next);
		if (rc == -ENOENT)
			continue; /* let go of meanwhile */
		if (rc < 0) {
			fprintf(stderr, "semstreams spool: %s/%s: %s\n", s->path, s->names[i]->d_name,
				strerror(-rc));
			return EXIT_BAD;
		}
		if (c->unfinished && i + 1 == s->n_names) {
			/* it was being written when the end came: it was never reported */
			c->damaged = job->damaged_before;
			c->records -= c->last_count;
			c->next -= c->last_count;
			if (!ls)
				fprintf(dump ? stderr : stdout, "the last frame was never finished; what is "
								"said of its records does not count\n");
		}
		if (next && c->first > next) {
			missing += note(job, "missing", next, c->first - 1);
		}
		first = first ? first : c->first;
		next = c->next > next ? c->next : next;
		records += c->records;
		damaged += c->damaged;
		missing += c->missing;
		if (ls)
			print_segment(s->names[i]->d_name, c);
	}
	if (!dump) {
		print_cursors(s, next);
		printf("records   %" PRIu64 "  first %" PRIu64 "  next %" PRIu64 "\n", records, first, next);
	}
	if (!ls && !dump)
		printf("%s: %" PRIu64 " damaged, %" PRIu64 " missing\n", damaged || missing ? "bad" : "good",
		       damaged, missing);
	if (fflush(stdout) == EOF) {
		fprintf(stderr, "semstreams spool: cannot write: %s\n", strerror(errno));
		return EXIT_BAD;
	}
	return damaged || missing ? EXIT_BAD : 0;
}

/* ---- command line ---- */

static int usage(FILE *f)
{
	fputs("usage: semstreams spool ls FOLDER\n"
	      "       semstreams spool check FOLDER\n"
	      "       semstreams spool dump [OPTIONS] FOLDER\n"
	      "\n"
	      "Looks into the folder of a spool; changes nothing, and may be used while it is in use.\n"
	      "  ls      lists the segments, and the consumers: how far they are and when they were seen "
	      "last\n"
	      "  check   reads every record and compares its checksum; exit status 1 if one that a consumer\n"
	      "          lacks is damaged or missing\n"
	      "  dump    writes the events, one per line\n"
	      "\n"
	      "      --from SEQ                    begin with the event of this number\n"
	      "      --to SEQ                      end with the event of this number\n"
	      "      --meta                        put number and time (ns) before each event\n",
	      f);
	return f == stdout ? 0 : EXIT_USAGE;
}

static bool parse_seq(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = text ? strtoull(text, &end, 10) : 0;
	return text && *text >= '0' && *text <= '9' && !*end && !errno;
}

int main(int argc, char **argv)
{
	struct job job = {.to = UINT64_MAX};
	struct spool s = {.dir_fd = -1};
	const char *path = NULL;

	if (argc < 2)
		return usage(stderr);
	job.command = argv[1];
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return usage(stdout);
	bool dump = strcmp(job.command, "dump") == 0;
	if (!dump && strcmp(job.command, "ls") != 0 && strcmp(job.command, "check") != 0)
		return usage(stderr);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0)
			return usage(stdout);
		if (dump && strcmp(argv[i], "--meta") == 0) {
			job.meta = true;
		} else if (dump && strcmp(argv[i], "--from") == 0) {
			if (!parse_seq(argv[++i], &job.from))
				return usage(stderr);
		} else if (dump && strcmp(argv[i], "--to") == 0) {
			if (!parse_seq(argv[++i], &job.to))
				return usage(stderr);
		} else if (path || argv[i][0] == '-') {
			return usage(stderr);
		} else {
			path = argv[i];
		}
	}
	if (!path)
		return usage(stderr);
	int rc = open_spool(&s, path);
	if (rc == 0)
		rc = run(&s, &job);
	close_spool(&s);
	return rc;
}
