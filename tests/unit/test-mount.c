/* SPDX-License-Identifier: Apache-2.0 */
/* Keepers over a stand-in for libpenstock (fake-host.c): what a volume looks like through each path. */
#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define IMAGE_BYTES (64 << 20)

struct place {
	char top[64], image[96], dir[96], work[96];
};

static struct place *place_new(void)
{
	struct place *p = calloc(1, sizeof(*p));

	snprintf(p->top, sizeof(p->top), "/var/tmp/pst-mount-XXXXXX");
	assert_non_null(mkdtemp(p->top));
	snprintf(p->image, sizeof(p->image), "%s/image", p->top);
	snprintf(p->dir, sizeof(p->dir), "%s/dir", p->top);
	snprintf(p->work, sizeof(p->work), "%s/work", p->top);
	int fd = open(p->image, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0 && mkdir(p->dir, 0700) == 0);
	close(fd);
	return p;
}

/* Also the proof that the keeper took its own things away: only what place_new made is left. */
static void place_free(struct place *p)
{
	assert_false(pst_mountinfo_has(p->dir));
	assert_false(pst_mountinfo_has(p->work));
	assert_int_equal(unlink(p->image), 0);
	assert_int_equal(rmdir(p->dir), 0);
	assert_int_equal(rmdir(p->top), 0);
	free(p);
}

static json_t *expect(struct pst_attach *a, const char *event)
{
	json_t *m = NULL;

	assert_int_equal(pst_attach_receive(a, 20000, &m), PST_OK);
	const char *got = json_string_value(json_object_get(m, "event"));
	if (got == NULL || strcmp(got, event) != 0)
		fail_msg("%s, not %s: %s", got, event, json_string_value(json_object_get(m, "message")));
	return m;
}

static void attach(struct place *p, enum pst_mount_path path, bool ro, bool blank, struct pst_attach *a)
{
	struct pst_attach_spec spec = { .volume = "vol",
					.traddr = p->image,
					.trsvcid = 4420,
					.nqn = "nqn",
					.nsid = 1,
					.fs = "ext4",
					.ro = ro,
					.blank = blank,
					.path = path,
					.dir = p->dir,
					.work = p->work,
					.extra_fd = -1 };

	assert_int_equal(pst_attach_start(&spec, a), PST_OK);
}

static void detach(struct pst_attach *a, bool discard)
{
	assert_int_equal(pst_attach_send(a, json_pack("{s:s, s:b}", "op", "detach", "discard", discard)), PST_OK);
	json_decref(expect(a, "detached"));
	pst_attach_done(a);
}

static void write_file(struct place *p, const char *name, char byte, size_t len)
{
	char path[160], *buf = malloc(len + 1);

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	memset(buf, byte, len);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, len), len);
	close(fd);
	free(buf);
}

static void assert_file(struct place *p, const char *name, char byte, size_t len)
{
	char path[160], *buf = malloc(len + 1);

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(read(fd, buf, len + 1), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte);
	close(fd);
	free(buf);
}

static bool have_file(struct place *p, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	return access(path, F_OK) == 0;
}

/* e2fsck finds nothing wrong with what we wrote. */
static void assert_clean(struct place *p)
{
	char command[400];

	snprintf(command, sizeof(command), "/sbin/e2fsck -fn %s >%s/fsck 2>&1 || { cat %s/fsck; false; }", p->image,
		 p->top, p->top);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof(command), "%s/fsck", p->top);
	unlink(command);
}

static char *digest(struct pst_attach *a)
{
	assert_int_equal(pst_attach_send(a, json_pack("{s:s, s:i, s:s}", "op", "digest", "id", 7, "path", "")), PST_OK);
	json_t *m = expect(a, "digest");
	char *hex = strdup(json_string_value(json_object_get(m, "sha256")));

	assert_true(json_is_true(json_object_get(m, "ok")));
	json_decref(m);
	return hex;
}

/* Files, directories, links and removals come back the same from a blank volume that was formatted on the way. */
static void round_trip(enum pst_mount_path path)
{
	struct place *p = place_new();
	struct pst_attach a;
	char sub[128], link_path[128];

	attach(p, path, false, true, &a);
	json_t *ready = expect(&a, "ready");
	assert_true(json_is_true(json_object_get(ready, "formatted")));
	json_decref(ready);
	snprintf(sub, sizeof(sub), "%s/sub", p->dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	write_file(p, "sub/large", 'x', (5 << 20) + 123);
	write_file(p, "empty", 'e', 0);
	write_file(p, "gone", 'g', 5000);
	snprintf(link_path, sizeof(link_path), "%s/link", p->dir);
	assert_int_equal(symlink("sub/large", link_path), 0);
	char *before = digest(&a);
	detach(&a, false);
	assert_clean(p);

	attach(p, path, false, false, &a);
	json_decref(expect(&a, "ready"));
	assert_file(p, "sub/large", 'x', (5 << 20) + 123);
	assert_file(p, "link", 'x', (5 << 20) + 123);
	char *after = digest(&a);
	assert_string_equal(before, after);
	free(before);
	free(after);
	snprintf(sub, sizeof(sub), "%s/gone", p->dir);
	unlink(sub);
	write_file(p, "sub/large", 'y', 4096);
	detach(&a, false);
	assert_clean(p);

	attach(p, path, true, false, &a);
	json_decref(expect(&a, "ready"));
	assert_file(p, "sub/large", 'y', 4096);
	assert_false(have_file(p, "gone"));
	detach(&a, false);
	place_free(p);
}

static void staged_round_trip(void **state)
{
	(void)state;
	round_trip(PST_MOUNT_STAGED);
}

static void skip_unless(enum pst_mount_path path)
{
	struct pst_mount_probe probe;

	pst_mount_probe(&probe);
	if (!probe.usable[path]) {
		print_message("SKIPPED: %s: %s\n", pst_mount_path_name(path), probe.why[path]);
		skip();
	}
}

static void fuse_loop_round_trip(void **state)
{
	(void)state;
	skip_unless(PST_MOUNT_FUSE_LOOP);
	round_trip(PST_MOUNT_FUSE_LOOP);
}

static void fuse2fs_round_trip(void **state)
{
	(void)state;
	skip_unless(PST_MOUNT_FUSE2FS);
	round_trip(PST_MOUNT_FUSE2FS);
}

/* A persisted file, and one that was only closed or renamed, are on the volume when the keeper is killed outright. */
static void staged_files_survive_a_kill(void **state)
{
	struct place *p = place_new();
	struct pst_attach a;
	char from[160], to[160], command[400];

	(void)state;
	attach(p, PST_MOUNT_STAGED, false, true, &a);
	json_decref(expect(&a, "ready"));
	write_file(p, "log", 'l', 100);
	for (int i = 0; i < 5; i++) {
		snprintf(from, sizeof(from), "%s/ckpt.tmp", p->dir);
		snprintf(to, sizeof(to), "%s/ckpt", p->dir);
		write_file(p, "ckpt.tmp", (char)('a' + i), 1 << 20);
		assert_int_equal(rename(from, to), 0);
	}
	assert_int_equal(pst_attach_send(&a, json_pack("{s:s, s:i, s:s}", "op", "persist", "id", 1, "path", to)),
			 PST_OK);
	json_t *m = expect(&a, "persisted");
	assert_true(json_is_true(json_object_get(m, "ok")));
	json_decref(m);
	kill(a.pid, SIGKILL);
	pst_attach_done(&a);
	snprintf(command, sizeof(command), "rm -r %s && mkdir %s", p->dir, p->dir);
	assert_int_equal(system(command), 0);

	attach(p, PST_MOUNT_STAGED, false, false, &a);
	json_decref(expect(&a, "ready"));
	assert_file(p, "ckpt", 'e', 1 << 20);
	assert_file(p, "log", 'l', 100);
	assert_false(have_file(p, "ckpt.tmp"));
	detach(&a, false);
	assert_clean(p);
	place_free(p);
}

/* What holds unknown data is refused and left as it is, blank flag or not. */
static void unknown_data_is_not_formatted(void **state)
{
	struct place *p = place_new();
	struct pst_attach a;
	char byte = 0;

	(void)state;
	int fd = open(p->image, O_RDWR);
	assert_int_equal(pwrite(fd, "!", 1, 12345), 1);
	attach(p, PST_MOUNT_STAGED, false, true, &a);
	json_t *m = expect(&a, "error");
	assert_string_equal(json_string_value(json_object_get(m, "code")), "PST_E_FORMAT");
	json_decref(m);
	pst_attach_done(&a);
	assert_int_equal(pread(fd, &byte, 1, 12345), 1);
	assert_int_equal(byte, '!');
	close(fd);
	place_free(p);
}

/* A step that writes to a volume it has read-only hears of it. */
static void staged_read_only_is_enforced(void **state)
{
	struct place *p = place_new();
	struct pst_attach a;

	(void)state;
	attach(p, PST_MOUNT_STAGED, false, true, &a);
	json_decref(expect(&a, "ready"));
	detach(&a, false);
	attach(p, PST_MOUNT_STAGED, true, false, &a);
	json_decref(expect(&a, "ready"));
	write_file(p, "oops", 'o', 1);
	assert_int_equal(pst_attach_send(&a, json_pack("{s:s, s:b}", "op", "detach", "discard", 0)), PST_OK);
	json_t *m = expect(&a, "error");
	assert_non_null(strstr(json_string_value(json_object_get(m, "message")), "oops"));
	json_decref(m);
	pst_attach_done(&a);
	place_free(p);
}

/* A file that does not fit is an error of its own, and the volume stays sound and keeps what it had. */
static void staged_full_volume_is_an_error(void **state)
{
	struct place *p = place_new();
	struct pst_attach a;

	(void)state;
	attach(p, PST_MOUNT_STAGED, false, true, &a);
	json_decref(expect(&a, "ready"));
	write_file(p, "small", 's', 1000);
	write_file(p, "huge", 'h', IMAGE_BYTES);
	assert_int_equal(pst_attach_send(&a, json_pack("{s:s, s:b}", "op", "detach", "discard", 0)), PST_OK);
	json_t *m = expect(&a, "error");
	assert_string_equal(json_string_value(json_object_get(m, "code")), "PST_E_NOSPACE");
	json_decref(m);
	pst_attach_done(&a);
	assert_clean(p);
	attach(p, PST_MOUNT_STAGED, true, false, &a);
	json_decref(expect(&a, "ready"));
	assert_file(p, "small", 's', 1000);
	assert_false(have_file(p, "huge"));
	detach(&a, false);
	place_free(p);
}

/* When the process that attached is gone, so is everything it had. */
static void nothing_outlives_the_starter(void **state)
{
	struct place *p = place_new();
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct pst_attach a;

		attach(p, PST_MOUNT_STAGED, false, true, &a);
		json_decref(expect(&a, "ready"));
		write_file(p, "f", 'f', 10);
		(void)!write(fds[1], &a.pid, sizeof(a.pid));
		_exit(0);
	}
	pid_t keeper = 0;
	assert_int_equal(read(fds[0], &keeper, sizeof(keeper)), sizeof(keeper));
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 100 && kill(keeper, 0) == 0; i++)
		usleep(100000);
	close(fds[0]);
	close(fds[1]);
	assert_clean(p);
	place_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(staged_round_trip),
		cmocka_unit_test(fuse_loop_round_trip),
		cmocka_unit_test(fuse2fs_round_trip),
		cmocka_unit_test(staged_files_survive_a_kill),
		cmocka_unit_test(unknown_data_is_not_formatted),
		cmocka_unit_test(staged_read_only_is_enforced),
		cmocka_unit_test(staged_full_volume_is_an_error),
		cmocka_unit_test(nothing_outlives_the_starter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
