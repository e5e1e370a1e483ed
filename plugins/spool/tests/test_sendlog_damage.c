/* SPDX-License-Identifier: MIT */
/* test_sendlog_damage - a spool after damage, cut files, kills of a process of its own, and on a full disk.
 */
#include "helper_sendlog.h"

/* ---- damage ---- */

static void slurp(const char *path, uint8_t **data, size_t *len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	*data = malloc(*len + 1);
	assert_int_equal(read(fd, *data, *len), (ssize_t)*len);
	close(fd);
}

static void spit(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

/* A spool of some segments, as files. */
struct image {
	char file[8][160];
	uint8_t *data[8];
	size_t len[8];
	int n;
	uint64_t committed;
};

static void make_image(struct rig *r, struct image *im)
{
	static const char *const names[] = {"state", "0000000000000001.seg", "0000000000000002.seg",
					    "0000000000000003.seg"};
	uint64_t seq = 1;

	*im = (struct image){.n = 4};
	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(ack(r, "b", 0), 0);
	while (seq < 2500) {
		assert_int_equal(append(r, seq, 5, 1), 0);
		seq += 5;
		if (seq % 15 == 1)
			settle(r);
	}
	settle(r);
	im->committed = sendlog_committed(r->log);
	close_log(r);
	for (int i = 0; i < im->n; i++) {
		snprintf(im->file[i], sizeof im->file[i], "%s/%s", r->path, names[i]);
		slurp(im->file[i], &im->data[i], &im->len[i]);
	}
}

static void put_image(const struct image *im)
{
	for (int i = 0; i < im->n; i++)
		spit(im->file[i], im->data[i], im->len[i]);
}

static void free_image(struct image *im)
{
	for (int i = 0; i < im->n; i++)
		free(im->data[i]);
}

/* Every record comes, as it was, or is told as lost once; new ones follow. */
static void all_accounted_for(struct rig *r, const struct image *im, uint64_t most_lost)
{
	struct reader rd;

	r->n_lost = 0;
	open_log(r);
	uint64_t before = sendlog_next(r->log);
	assert_true(before >= im->committed + 1);
	uint64_t n = read_all(r, 1, 100, &rd);
	uint64_t lost = lost_records(r, "corrupt");
	assert_int_equal(sendlog_figures(r->log).corrupt, lost);
	/* an oldest segment that is gone altogether looks like one that was let go of: the link tells of it
	 */
	uint64_t gone = sendlog_first(r->log) - 1;
	assert_int_equal(n + lost + gone, sendlog_committed(r->log));
	assert_true(lost + gone <= most_lost);
	assert_int_equal(read_all(r, 1, 33, &rd), n); /* not told twice */
	assert_int_equal(lost_records(r, "corrupt"), lost);
	assert_int_equal(append(r, before, 10, 0), 0);
	settle(r);
	assert_int_equal(read_all(r, 1, 100, &rd), n + 10);
	close_log(r);
	open_log(r);
	assert_int_equal(read_all(r, 1, 100, &rd), n + 10);
	close_log(r);
}

static void one_damaged_byte(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(1);
	for (int round = 0; round < 300; round++) {
		int file = rand() % im.n;
		/* the first bytes of a file, where the headers are, more often than others */
		size_t at = (size_t)rand() % (round % 3 == 0 ? 200 : im.len[file]);
		uint8_t old = im.data[file][at];
		im.data[file][at] ^= (uint8_t)(1 + rand() % 255);
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, 1); /* the record it lies in; headers and indices are mended */
		im.data[file][at] = old;
	}
	free_image(&im);
}

static void one_damaged_bit(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(3);
	for (int round = 0; round < 300; round++) {
		int file = rand() % im.n;
		/* headers and index of the first frame, and everywhere else */
		size_t at = (size_t)rand() % (round % 2 ? 400 : im.len[file]);
		uint8_t bit = (uint8_t)(1 << rand() % 8);
		im.data[file][at] ^= bit;
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, 1);
		im.data[file][at] ^= bit;
	}
	free_image(&im);
}

/* The attributes of record i: of three in a row each, and none of the last five. */
static size_t attributes_of(uint32_t i, uint8_t set[SS_ATTRIBUTE_SET_MAX])
{
	struct ss_attributes a = {.struct_size = sizeof a};
	char name[16];

	if (i < 15)
		a.values[SS_ATTR_ORIGIN] = (struct ss_attribute){
			.text = name, .len = (uint32_t)snprintf(name, sizeof name, "edge-%u", i / 3)};
	return ss_attribute_set_write(&a, set);
}

/* A frame of 20 records with a snapshot, as the writer makes it. */
static uint32_t make_frame(uint8_t *frame, struct frame *f, const uint8_t epoch[16], uint64_t offset,
			   bool with_attributes)
{
	char text[256];
	size_t payload = 0;

	for (uint32_t i = 0; i < 20; i++)
		payload += record(i, text, sizeof text);
	struct ss_attribute_writer w = {0};
	uint8_t set[SS_ATTRIBUTE_SET_MAX];
	for (uint32_t i = 0; with_attributes && i < 20; i++)
		assert_int_equal(ss_attribute_writer_add(&w, set, attributes_of(i, set)), 0);
	*f = (struct frame){.count = 20,
			    .meta_len = (uint32_t)(frame_snapshot_size(9) +
						   frame_attributes_size(ss_attribute_writer_size(&w))),
			    .attributes = with_attributes,
			    .first_seq = 100,
			    .time_ns = 9};
	f->len = (uint32_t)frame_size(f->count, f->meta_len, payload);
	memset(frame, 0, f->len);
	frame_set_attributes(frame, &w);
	ss_attribute_writer_done(&w);
	frame_set_snapshot(frame, f, "positions", 9);
	uint8_t *at = frame + FRAME_HEADER + f->meta_len + f->count * FRAME_INDEX;
	for (uint32_t i = 0; i < f->count; i++) {
		struct ss_event e = {.data = at, .time_ns = i};
		e.len = record(i, (char *)at, 256);
		frame_set_record(frame, f, i, &e);
		at += e.len;
	}
	frame_finish(frame, f, epoch, 7, offset);
	return f->len;
}

/* How many of its records read well; all else of it has to be as it was. */
static uint32_t good_records(uint8_t *frame, const uint8_t epoch[16], uint64_t offset)
{
	struct frame_walk w = {0};
	struct ss_event e;
	struct frame f;
	size_t len;
	uint32_t good = 0;

	if (!frame_read(frame, epoch, 7, offset, &f) || !frame_repair_index(frame, &f))
		return 0;
	assert_true(f.first_seq == 100 && f.time_ns == 9 && f.count == 20);
	const uint8_t *snapshot = frame_snapshot(frame, &f, &len);
	assert_true(snapshot && len == 9 && memcmp(snapshot, "positions", 9) == 0);
	for (; frame_next(frame, &f, &w, &e); assert_int_equal(e.time_ns, w.i - 1)) {
		uint8_t set[SS_ATTRIBUTE_SET_MAX];
		const size_t want = f.attributes ? attributes_of(w.i - 1, set) : 0;
		const uint8_t *has = frame_attributes(frame, &f, &w, &len);
		assert_int_equal(len, want);
		assert_true(!want || memcmp(has, set, want) == 0);
		good += frame_record_ok(frame, &f, w.i - 1, &e);
	}
	return good;
}

static void damage_each_bit(bool with_attributes)
{
	static const uint8_t epoch[16] = {1, 2, 3};
	static uint8_t frame[8192], damaged[8192];
	struct frame f;

	uint32_t len = make_frame(frame, &f, epoch, 4096, with_attributes);
	size_t index_end = FRAME_HEADER + f.meta_len + 20 * FRAME_INDEX;
	for (size_t bit = 0; bit < 8 * (size_t)len; bit++) {
		memcpy(damaged, frame, len);
		damaged[bit / 8] ^= (uint8_t)(1 << bit % 8);
		uint32_t good = good_records(damaged, epoch, 4096);
		if (bit < 8 * index_end)
			assert_int_equal(good, 20);
		else
			assert_true(good >= 19);
	}
	for (size_t at = 0; at < index_end; at++) {
		memcpy(damaged, frame, len);
		damaged[at] ^= 0x5a;
		assert_int_equal(good_records(damaged, epoch, 4096), 20);
	}
	/* what is whole, but of another place, life or log, is no damage */
	memcpy(damaged, frame, len);
	assert_int_equal(good_records(damaged, epoch, 4096 + 8), 0);
	frame_finish(damaged, &f, epoch, 6, 4096);
	assert_int_equal(good_records(damaged, epoch, 4096), 0);
	frame_finish(damaged, &f, (const uint8_t[16]){1, 2, 2}, 7, 4096);
	assert_int_equal(good_records(damaged, epoch, 4096), 0);
}

static void every_bit_of_a_frame(void **state)
{
	(void)state;
	damage_each_bit(false);
	damage_each_bit(true);
}

static void a_damaged_record_is_one(void **state)
{
	struct rig *r = *state;
	struct image im;
	char text[512];

	make_image(r, &im);
	uint32_t len = record(1234, text, sizeof text);
	bool found = false;
	for (int i = 1; i < im.n && !found; i++) {
		uint8_t *at = memmem(im.data[i], im.len[i], text, len);
		if (!at)
			continue;
		found = true;
		at[len / 2] ^= 1;
		put_image(&im);
	}
	assert_true(found);
	all_accounted_for(r, &im, 1);
	assert_int_equal(r->n_lost, 2); /* told again after it was opened again */
	assert_int_equal(r->lost[0].from, 1234);
	assert_int_equal(r->lost[1].from, 1234);
	free_image(&im);
}

static void cut_files(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(2);
	for (int round = 0; round < 60; round++) {
		int file = 1 + rand() % (im.n - 1);
		size_t len = im.len[file];
		im.len[file] = (size_t)rand() % len;
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, UINT64_MAX);
		im.len[file] = len;
	}
	/* missing files, the state among them */
	for (int file = 0; file < im.n; file++) {
		put_image(&im);
		unlink(spare);
		unlink(im.file[file]);
		all_accounted_for(r, &im, UINT64_MAX);
	}
	free_image(&im);
}

/* ---- kills ---- */

/* In a process of its own: append, acknowledge, tell what is committed; until it is killed. */
static void victim(struct rig *r, int tell, unsigned seed)
{
	srand(seed);
	ss_test_host_init(&r->host, &component);
	open_log(r);
	r->tell = tell;
	r->taken = stored(r);
	uint64_t seq = r->taken.seq + 1;
	for (;;) {
		/* some of it comes again */
		uint64_t from = seq > 20 && rand() % 4 == 0 ? seq - (uint64_t)(rand() % 20) : seq;
		uint32_t n = 1 + (uint32_t)rand() % 200;
		if (append(r, from, n, 1) >= 0)
			seq = from + n > seq ? from + n : seq;
		ss_test_host_run(&r->host, rand() % 3 ? 0 : 5);
		uint64_t keep = (uint64_t)rand() % 4000;
		if (sendlog_committed(r->log) > keep)
			ack(r, "b", sendlog_committed(r->log) - keep);
	}
}

static void killed(void **state)
{
	struct rig *r = *state;
	uint64_t told = 0;

	r->options.max_bytes = MIB;
	srand(3);
	for (int round = 0; round < 200; round++) {
		int p[2];
		unsigned seed = (unsigned)rand();
		assert_int_equal(pipe(p), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(p[0]);
			victim(r, p[1], seed);
			_exit(1);
		}
		close(p[1]);
		for (int n = rand() % 12; n >= 0 && read(p[0], &told, sizeof told) == sizeof told; n--)
			;
		struct timespec pause = {.tv_nsec = rand() % 3000000};
		nanosleep(&pause, NULL); /* at any moment: that is the point */
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		while (read(p[0], &told, sizeof told) == sizeof told)
			;
		close(p[0]);
		/* a second's worth of cursors may be old; records never */
		open_log(r);
		assert_true(sendlog_committed(r->log) >= told);
		assert_int_equal(stored(r).seq, sendlog_committed(r->log));
		uint64_t first = sendlog_first(r->log);
		struct reader rd;
		assert_int_equal(read_all(r, first, 100, &rd), sendlog_committed(r->log) + 1 - first);
		assert_int_equal(rd.gaps, 0);
		assert_int_equal(r->n_lost, 0);
		assert_true(disk_size(r) <= MIB);
		/* often the cursor of before is all there is: then it must not point before the first record
		 */
		assert_true(first == 1 || sendlog_view(r->log, "b", NULL).cursor + 1 >= first ||
			    sendlog_view(r->log, "b", NULL).cursor == 0);
		close_log(r);
	}
}

/* ---- a full disk ---- */

static void disk_full(void **state)
{
	struct rig *r = *state;
	char filler[128];
	uint64_t seq = 1;

	if (geteuid() != 0 || mount("none", r->base, "tmpfs", 0, "size=4m") < 0) {
		print_message("needs root, to mount a small file system\n");
		skip();
	}
	snprintf(filler, sizeof filler, "%s/filler", r->base);
	int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(posix_fallocate(fd, 0, 2 * MIB), 0);
	r->options.max_bytes = 8 * MIB;
	open_log(r);
	assert_int_equal(ack(r, "b", 0), 0);
	for (int tries = 0; tries < 400 && !r->troubles; tries++) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		ss_test_host_run(&r->host, 20);
	}
	assert_int_equal(r->troubles, 1);
	assert_non_null(strstr(r->trouble, "No space left"));
	uint64_t committed = sendlog_committed(r->log);
	assert_true(committed < seq - 1);
	assert_int_equal(read_all(r, 1, 100, NULL), committed);
	for (int i = 0; i < 5; i++)
		ss_test_host_run(&r->host, 50);
	assert_int_equal(r->troubles, 1);
	assert_int_equal(r->recoveries, 0);
	assert_int_equal(sendlog_committed(r->log), committed);

	/* cursors are kept, on the full disk */
	assert_int_equal(ack(r, "b", 7), 0);
	assert_int_equal(unlink(filler), 0);
	close(fd);
	settle(r);
	wait_for(r, r->recoveries == 1);
	assert_int_equal(r->troubles, 1);
	assert_int_equal(read_all(r, 1, 100, NULL), seq - 1 - 7);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_view(r->log, "b", NULL).cursor, 7);
	assert_int_equal(read_all(r, 8, 100, NULL), seq - 1 - 7);
	assert_int_equal(r->n_lost, 0);
	close_log(r);
	assert_int_equal(umount(r->base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_damaged_byte),
		TEST(one_damaged_bit),
		TEST(every_bit_of_a_frame),
		TEST(a_damaged_record_is_one),
		TEST(cut_files),
		TEST(killed),
		TEST(disk_full),
	};
	return cmocka_run_group_tests_name("sendlog_damage", tests, NULL, NULL);
}
