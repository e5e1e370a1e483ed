/* SPDX-License-Identifier: MIT */
/* helper_storage - see helper_storage.h. */
#include "helper_storage.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	const char *tmp = getenv("TMPDIR");
	snprintf(f->dir, sizeof f->dir, "%.40s/storage.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/data.jsonl", f->dir);
	snprintf(f->record, sizeof f->record, "%s/.test.commit", f->dir);
	f->conf = (struct storage_conf){
		.path = f->path,
		.mode = "0640",
		.sync_interval = 1000000000,
		.max_line = 16 << 20,
		.write_buffer = 256 << 10,
		.max_pending = 64 << 20,
		.max_open_files = 256,
		.max_files = 10000,
	};
	world_reset();
	*state = f;
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void end(struct fixture *f)
{
	world_release();
	if (f->host.self)
		desc()->stop(f->host.self);
	for (int i = 0; i < f->n; i++)
		f->host.host.batch_unref(f->batches[i]);
	f->n = 0;
	ss_test_host_done(&f->host);
}

int teardown(void **state)
{
	struct fixture *f = *state;
	end(f);
	nftw(f->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

void create(struct fixture *f)
{
	bool none = f->host.no_positions;
	ss_test_host_init(&f->host, desc());
	f->host.no_positions = none;
	need(ss_test_host_create(&f->host, &f->conf) == 0);
}

int try_start(struct fixture *f)
{
	create(f);
	return desc()->start(f->host.self);
}

void start(struct fixture *f)
{
	int rc = try_start(f);
	if (rc != 0)
		fprintf(stderr, "%s", f->host.log);
	need(rc == 0);
}

void set_peer(struct fixture *f, struct ss_batch *b, uint32_t row, const char *peer)
{
	const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_PEER] = peer};
	ss_test_host_attributes(&f->host, b, row, texts, SS_ATTR_PEER_VERIFIED);
}

int push_on(struct fixture *f, uint32_t port, struct ss_batch *b)
{
	need(f->n < BATCHES);
	f->batches[f->n++] = b;
	int rc = ss_test_host_process(&f->host, port, b);
	need(rc == SS_DONE || rc == SS_KEPT || rc == SS_BUSY);
	return rc;
}

void idle(struct fixture *f)
{
	desc()->idle(f->host.self);
}

void drain(struct fixture *f)
{
	uint32_t before = f->host.n_drained, finished;
	if (desc()->drain(f->host.self) == SS_BUSY) {
		do { /* thousands of syncs of a slow disk may take long, but one of them does not */
			finished = f->host.n_finished;
			await(f, f->host.n_drained > before || f->host.n_finished != finished);
		} while (f->host.n_drained == before);
	}
	ss_test_host_advance(&f->host, 10000000); /* the next commit need not wait for its time */
}

char *slurp(const char *path, size_t *n)
{
	FILE *in = fopen(path, "re");
	char *buf = NULL;
	size_t size = 0;
	FILE *mem = open_memstream(&buf, &size);
	need(mem);
	for (int c; in && (c = getc(in)) != EOF;)
		putc(c, mem);
	if (in)
		fclose(in);
	fclose(mem);
	if (n)
		*n = size;
	return buf;
}

void assert_file(const char *path, const char *expected)
{
	char *got = slurp(path, NULL);
	assert_string_equal(got, expected);
	free(got);
}

void put_file(const char *path, const char *text, size_t n)
{
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	assert_int_equal(fwrite(text, 1, n, out), n);
	fclose(out);
}

const char *list(const char *dir, const char *part, char *buf, size_t size)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, alphasort);
	buf[0] = '\0';
	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' && strstr(names[i]->d_name, part)) {
			strncat(buf, names[i]->d_name, size - strlen(buf) - 1);
			strncat(buf, " ", size - strlen(buf) - 1);
		}
		free(names[i]);
	}
	free(names);
	return buf;
}

int64_t metric(const struct fixture *f, uint32_t row)
{
	return __atomic_load_n(&f->host.metrics[row], __ATOMIC_ACQUIRE);
}

bool logged(const struct fixture *f, const char *text)
{
	return strstr(f->host.log, text) != NULL;
}
