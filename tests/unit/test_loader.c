/* SPDX-License-Identifier: MIT */
#include "shared_object.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include "core/plugin/loader.h"

/* A plugin of one processor type; TYPE comes from the compiler's command line. */
static const char plugin_source[] =
	"#include <semstreams/plugin.h>\n"
	"#define TEXT_(x) #x\n"
	"#define TEXT(x) TEXT_(x)\n"
	"static int32_t create(const struct ss_host *h, const void *c, void **s) { (void)h; (void)c; *s = 0; "
	"return 0; }\n"
	"static void destroy(void *s) { (void)s; }\n"
	"static int32_t process(void *s, uint32_t p, struct ss_batch *b) { (void)s; (void)p; (void)b; return "
	"0; }\n"
	"static const struct ss_component c = {.struct_size = sizeof c, .kind = SS_KIND_PROCESSOR, .type = "
	"TEXT(TYPE),\n"
	"    .version = TEXT(TYPE) \"-1.0\", .create = create, .destroy = destroy, .process = process};\n"
	"SS_REGISTER(&c);\n";

static unsigned n_folders;

/* A new folder; the caller frees its name. */
static char *folder(void)
{
	char *path = text_of("%s/%u", scratch, n_folders++);
	assert_int_equal(mkdir(path, 0755), 0);
	return path;
}

static void plugin(const char *dir, const char *name, const char *type)
{
	char *flags = text_of("-DTYPE=%s", type);
	build(dir, name, flags, plugin_source);
	free(flags);
}

static struct loader *loader_of(const char *dir)
{
	struct loader *l = loader_new();
	assert_non_null(l);
	assert_int_equal(loader_add_path(l, dir), 0);
	return l;
}

static size_t n_problems(const struct loader *l)
{
	size_t n;

	(void)loader_problems(l, &n);
	return n;
}

static const struct loader_problem *first_problem(const struct loader *l)
{
	size_t n;

	return loader_problems(l, &n);
}

/* The only problem there is must name the file and hold all of the words. */
static void expect_problem(const struct loader *l, const char *file, const char *const *words)
{
	if (n_problems(l) != 1)
		fail_msg("%zu problems for %s", n_problems(l), file);
	const struct loader_problem *p = first_problem(l);
	assert_string_equal(p->file, file);
	assert_int_equal(strncmp(p->text, file, strlen(file)), 0);
	assert_null(strchr(p->text, '\n'));
	assert_null(strstr(p->text, "/proc/"));
	for (; *words; words++)
		if (!strstr(p->text, *words))
			fail_msg("'%s' is not in: %s", *words, p->text);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* dir/<type>.so must be refused both when it is looked at and when it is needed. */
static void expect_refused(const char *dir, const char *type, const char *const *words, bool by_check)
{
	char *file = text_of("%s/%s.so", dir, type);
	struct loader *l = loader_of(dir);
	if (by_check) {
		loader_check_all(l);
		expect_problem(l, file, words);
	}
	const char *why = NULL;
	assert_null(loader_find(l, type, &why));
	expect_problem(l, file, words);
	assert_string_equal(why, first_problem(l)->text);
	assert_int_equal(loader_count(l), 0);
	loader_load_all(l);
	assert_int_equal(n_problems(l), 1);
	loader_free(l);
	free(file);
}

static void expect_version(const struct ss_component *c, const char *type, const char *version)
{
	assert_non_null(c);
	assert_string_equal(c->type, type);
	assert_string_equal(c->version, version);
}

static void loads_several(void **state)
{
	(void)state;
	char *dir = folder();
	const char *const types[] = {"three", "one", "two", "four"};
	for (size_t i = 0; i < 4; i++) {
		char *name = text_of("%s.so", types[i]);
		plugin(dir, name, types[i]);
		free(name);
	}
	for (int round = 0; round < 2;
	     round++) { /* again: what is loaded already is found under new numbers */
		struct loader *l = loader_of(dir);
		for (size_t i = 0; i < 4; i++) {
			char *version = text_of("%s-1.0", types[i]);
			expect_version(loader_find(l, types[i], NULL), types[i], version);
			assert_int_equal(loader_count(l), i + 1);
			free(version);
		}
		loader_load_all(l);
		assert_int_equal(n_problems(l), 0);
		const char *const sorted[] = {"four", "one", "three", "two"};
		for (size_t i = 0; i < 4; i++) {
			const char *file;
			assert_string_equal(loader_type(l, i, &file)->type, sorted[i]);
			assert_non_null(strstr(file, sorted[i]));
		}
		loader_free(l);
	}
	free(dir);
}

static void completes_descriptors(void **state)
{
	(void)state;
	char *dir = folder();
	plugin(dir, "norm.so", "norm");
	struct loader *l = loader_of(dir);
	const struct ss_component *c = loader_find(l, "norm", NULL);
	expect_version(c, "norm", "norm-1.0");
	assert_int_equal(c->struct_size, sizeof *c);
	assert_int_equal(c->start(NULL), 0);
	c->stop(NULL);
	c->pause(NULL);
	c->resume(NULL);
	assert_int_equal(c->drain(NULL), 0);
	c->acked(NULL, 1, 0);
	assert_null(c->idle);
	assert_null(c->extension);
	assert_string_equal(c->summary, "");
	Dl_info info;
	assert_true(dladdr((void *)c->create, &info)); /* under its own name, for debuggers */
	assert_non_null(strstr(info.dli_fname, "/norm.so"));
	loader_free(l);
	free(dir);
}

static void finds_a_type_in_a_file_of_another_name(void **state)
{
	(void)state;
	char *dir = folder();
	plugin(dir, "bundle.so", "inside");
	struct loader *l = loader_of(dir);
	const char *why = "?";
	assert_null(loader_find(l, "bundle", &why));
	assert_null(why);
	assert_null(loader_find(l, "../bundle", &why));
	expect_version(loader_find(l, "inside", &why), "inside", "inside-1.0");
	assert_int_equal(n_problems(l), 0);
	loader_free(l);
	free(dir);
}

static void first_folder_wins(void **state)
{
	(void)state;
	char *a = folder(), *b = folder();
	build(a, "same.so", "-DTYPE=same -DX", plugin_source);
	plugin(b, "same.so", "same");
	struct loader *l = loader_of(a);
	assert_int_equal(loader_add_path(l, b), 0);
	assert_int_equal(loader_add_path(l, a), 0); /* twice is once */
	assert_non_null(loader_find(l, "same", NULL));
	assert_int_equal(n_problems(l), 0);
	const char *file;
	loader_type(l, 0, &file);
	assert_int_equal(strncmp(file, a, strlen(a)), 0);
	loader_load_all(l);
	assert_int_equal(loader_count(l), 1);
	char *other = text_of("%s/same.so", b);
	expect_problem(l, other, WORDS("type 'same'", file, "ignoring"));
	loader_free(l);
	free(other);
	free(a);
	free(b);
}

static void a_refused_file_hides_later_ones(void **state)
{
	(void)state;
	char *a = folder(), *b = folder();
	char *bad = text_of("%s/hid.so", a);
	write_file(bad, "text", 4, 0644);
	plugin(b, "hid.so", "hid");
	struct loader *l = loader_of(a);
	assert_int_equal(loader_add_path(l, b), 0);
	const char *why;
	assert_null(loader_find(l, "hid", &why));
	assert_non_null(strstr(why, bad));
	loader_free(l);
	free(bad);
	free(a);
	free(b);
}

static void refuses_by_mode(void **state)
{
	(void)state;
	char *dir = folder(), *file = text_of("%s/open.so", dir);
	plugin(dir, "open.so", "open");
	assert_int_equal(chmod(file, 0777), 0);
	expect_refused(dir, "open", WORDS("is writable by group or others (mode 0777); chmod go-w it"), true);
	assert_int_equal(chmod(file, 0664), 0);
	expect_refused(dir, "open", WORDS("(mode 0664)"), true);
	assert_int_equal(chmod(file, 0444), 0);
	struct loader *l = loader_of(dir);
	assert_non_null(loader_find(l, "open", NULL));
	loader_free(l);
	free(file);
	free(dir);
}

static void refuses_by_owner(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	char *dir = folder(), *file = text_of("%s/owned.so", dir);
	plugin(dir, "owned.so", "owned");
	assert_int_equal(chown(file, 12345, 0), 0);
	expect_refused(dir, "owned", WORDS("belongs to uid 12345", "chown"), true);
	assert_int_equal(chown(dir, 12345, 0), 0);
	struct loader *l = loader_of(dir);
	expect_problem(l, dir, WORDS("belongs to uid 12345"));
	loader_free(l);
	free(file);
	free(dir);
}

static void refuses_folders(void **state)
{
	(void)state;
	char *dir = folder();
	plugin(dir, "fine.so", "fine");
	const struct {
		unsigned mode;
		const char *text;
	} cases[] = {{0775, "(mode 0775); chmod go-w it"}, {01777, "(mode 1777); use a folder of its own"}};
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(chmod(dir, cases[i].mode), 0);
		struct loader *l = loader_of(dir);
		expect_problem(l, dir, WORDS(cases[i].text));
		assert_null(loader_find(l, "fine", NULL));
		loader_free(l);
	}
	assert_int_equal(chmod(dir, 0755), 0);
	char *missing = text_of("%s/missing", dir), *file = text_of("%s/fine.so", dir);
	struct loader *l = loader_of(missing);
	expect_problem(l, missing, WORDS("No such file"));
	loader_free(l);
	l = loader_of(file);
	expect_problem(l, file, WORDS("Not a directory"));
	loader_free(l);
	free(file);
	free(missing);
	free(dir);
}

static void refuses_what_is_no_file(void **state)
{
	(void)state;
	char *dir = folder(), *file = text_of("%s/odd.so", dir);
	assert_int_equal(mkdir(file, 0755), 0);
	expect_refused(dir, "odd", WORDS("not a regular file"), true);
	assert_int_equal(rmdir(file), 0);
	assert_int_equal(mkfifo(file, 0644), 0);
	expect_refused(dir, "odd", WORDS("not a regular file"), true);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(symlink("nowhere", file), 0);
	expect_refused(dir, "odd", WORDS("No such file"), true);
	assert_int_equal(unlink(file), 0);
	write_file(file, "not a plugin\n", 13, 0644);
	expect_refused(dir, "odd", WORDS("not a shared object"), true);
	write_file(file, "", 0, 0644);
	expect_refused(dir, "odd", WORDS("not a shared object"), true);
	free(file);
	free(dir);
}

static void judges_links_by_their_target(void **state)
{
	(void)state;
	char *dir = folder(), *elsewhere = folder();
	char *link = text_of("%s/linked.so", dir), *target = text_of("%s/real.so", elsewhere);
	plugin(elsewhere, "real.so", "linked");
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(chmod(target, 0666), 0);
	expect_refused(dir, "linked", WORDS("(mode 0666)"), true);
	assert_int_equal(chmod(target, 0644), 0);
	struct loader *l = loader_of(dir);
	assert_non_null(loader_find(l, "linked", NULL));
	assert_int_equal(loader_add_path(l, elsewhere), 0);
	loader_load_all(l); /* the same file by another name is no duplicate */
	assert_int_equal(n_problems(l), 0);
	loader_free(l);
	free(target);
	free(link);
	free(elsewhere);
	free(dir);
}

static void refuses_what_is_no_plugin(void **state)
{
	(void)state;
	char *dir = folder();
	build(dir, "lib.so", "", "int lib(void); int lib(void) { return 1; }\n");
	expect_refused(dir, "lib", WORDS("is not a semstreams plugin"), true);
	build(dir, "lib.so", "-DTYPE=lib -Dsemstreams_entry_v1=semstreams_entry_v2", plugin_source);
	expect_refused(dir, "lib", WORDS("is built for plugin ABI 2, this host has ABI 1"), true);
	free(dir);
}

/* The name is in the file, but there is no exported entry of that name: known once it is loaded. */
static void refuses_what_only_names_the_entry(void **state)
{
	(void)state;
	static const struct {
		const char *source, *flags, *text;
	} cases[] = {
		{"extern const int semstreams_entry_v1; const int *f(void); const int *f(void) { return "
		 "&semstreams_entry_v1; }\n"
		 "__attribute__((visibility(\"default\"))) const int *(*g)(void) = f;\n",
		 "", "undefined symbol: semstreams_entry_v1"},
		{"__attribute__((visibility(\"default\"))) void semstreams_entry_v1(void);"
		 "void semstreams_entry_v1(void) {}\n",
		 "", "is not a semstreams plugin"},
		{"const int semstreams_entry_v1 = 1;\n", "", "is not a semstreams plugin"}, /* hidden */
		{"__attribute__((visibility(\"default\"))) const int semstreams_entry_v1 = 1;\n", "",
		 "is not a semstreams plugin"}, /* too small */
		{"__attribute__((visibility(\"default\"))) const char *s = \"semstreams_entry_v1\";\n", "-s",
		 "is not a semstreams plugin"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *dir = folder();
		build(dir, "named.so", cases[i].flags, cases[i].source);
		expect_refused(dir, "named", WORDS(cases[i].text), false);
		free(dir);
	}
}

static void refuses_what_cannot_be_linked(void **state)
{
	(void)state;
	char *dir = folder(), *flags;
	char *source = text_of("%sextern int nobody_has_this(void);\nint f(void);\nint f(void) { return "
			       "nobody_has_this(); }\n"
			       "__attribute__((visibility(\"default\"))) int (*g)(void) = f;\n",
			       plugin_source);
	build(dir, "undef.so", "-DTYPE=undef", source);
	expect_refused(dir, "undef", WORDS("cannot be loaded", "undefined symbol: nobody_has_this"), false);
	free(source);

	char *needs = folder();
	build(dir, "libprivate.so.0", "",
	      "int private_function(void); int private_function(void) { return 1; }\n");
	flags = text_of("-DTYPE=needs -Wl,--no-as-needed -L'%s' -l:libprivate.so.0 '-Wl,-rpath,$ORIGIN'",
			dir);
	build(needs, "needs.so", flags, plugin_source);
	free(flags);
	expect_refused(needs, "needs", WORDS("libprivate.so.0: cannot open", "$ORIGIN"), false);
	free(needs);
	free(dir);
}

static void refuses_bad_descriptors(void **state)
{
	(void)state;
	char *dir = folder();
	static const struct {
		const char *entry, *text;
	} cases[] = {
		{"{sizeof(struct ss_entry), 0, &p}", "bad entry symbol"},
		{"{4, 1, &p}", "bad entry symbol"},
		{"{sizeof(struct ss_entry), 1, 0}", "bad entry symbol"},
		{"{sizeof(struct ss_entry), 1000000, &p}", "bad entry symbol"},
		{"{sizeof(struct ss_entry), 1, &none}", "no descriptor"},
		{"{sizeof(struct ss_entry), 1, &p}", "component type 'desc': create and destroy are needed"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *source =
			text_of("#include <semstreams/plugin.h>\n"
				"static const struct ss_component c = {sizeof c, SS_KIND_SOURCE, \"desc\"};\n"
				"extern const struct ss_component *const p, *const none;\n"
				"const struct ss_component *const p = &c, *const none = 0;\n"
				"SS_EXPORT const struct ss_entry semstreams_entry_v1 = %s;\n",
				cases[i].entry);
		build(dir, "desc.so", "", source);
		/* an object is known by its inode for as long as the process lives: each needs one of its own
		 */
		expect_refused(dir, "desc", WORDS("desc.so has a bad ", cases[i].text), false);
		char *from = text_of("%s/desc.so", dir), *to = text_of("%s/%zu.kept", dir, i);
		assert_int_equal(rename(from, to), 0);
		free(from);
		free(to);
		free(source);
	}
	free(dir);
}

static void survives_truncation(void **state)
{
	(void)state;
	char *dir = folder(), *whole = text_of("%s/whole.so", dir);
	plugin(dir, "whole.so", "cut");
	size_t size;
	char *data = read_whole(whole, &size);
	assert_int_equal(unlink(whole), 0);
	char *file = text_of("%s/cut.so", dir);
	for (size_t i = 0; i < 50; i++) {
		write_file(file, data, size * i / 50, 0644);
		expect_refused(dir, "cut", WORDS(i == 0 ? "not a shared object" : "is cut short or damaged"),
			       true);
		assert_int_equal(unlink(file), 0);
	}
	write_file(file, data, size, 0644);
	struct loader *l = loader_of(dir);
	assert_non_null(loader_find(l, "cut", NULL));
	loader_free(l);
	free(file);
	free(data);
	free(whole);
	free(dir);
}

static void checking_runs_nothing(void **state)
{
	(void)state;
	char *dir = folder();
	char *source = text_of("%s#include <stdlib.h>\n__attribute__((constructor)) static void ran(void) "
			       "{ setenv(\"SS_TEST_PLUGIN_RAN\", \"1\", 1); }\n",
			       plugin_source);
	build(dir, "ran.so", "-DTYPE=ran", source);
	unsetenv("SS_TEST_PLUGIN_RAN");
	struct loader *l = loader_of(dir);
	loader_check_all(l);
	assert_int_equal(n_problems(l), 0);
	assert_int_equal(loader_count(l), 0);
	assert_null(getenv("SS_TEST_PLUGIN_RAN"));
	assert_non_null(loader_find(l, "ran", NULL));
	assert_non_null(getenv("SS_TEST_PLUGIN_RAN"));
	loader_free(l);
	free(source);
	free(dir);
}

static void other_names_need_no_mention(void **state)
{
	(void)state;
	char *dir = folder();
	const char *const names[] = {"README", "x.so.bak", ".so", ".hidden.so", "x.la"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char *file = text_of("%s/%s", dir, names[i]);
		write_file(file, "x", 1, 0666);
		free(file);
	}
	struct loader *l = loader_of(dir);
	loader_load_all(l);
	assert_int_equal(n_problems(l), 0);
	loader_free(l);
	free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_several),
		cmocka_unit_test(completes_descriptors),
		cmocka_unit_test(finds_a_type_in_a_file_of_another_name),
		cmocka_unit_test(first_folder_wins),
		cmocka_unit_test(a_refused_file_hides_later_ones),
		cmocka_unit_test(refuses_by_mode),
		cmocka_unit_test(refuses_by_owner),
		cmocka_unit_test(refuses_folders),
		cmocka_unit_test(refuses_what_is_no_file),
		cmocka_unit_test(judges_links_by_their_target),
		cmocka_unit_test(refuses_what_is_no_plugin),
		cmocka_unit_test(refuses_what_only_names_the_entry),
		cmocka_unit_test(refuses_what_cannot_be_linked),
		cmocka_unit_test(refuses_bad_descriptors),
		cmocka_unit_test(survives_truncation),
		cmocka_unit_test(checking_runs_nothing),
		cmocka_unit_test(other_names_need_no_mention),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
