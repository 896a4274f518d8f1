/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `penstock pool check`: of a file or device that no daemon has open, by reading it here (src/store/check.h), under the
 * lock that a daemon would take; of the pool of a daemon that runs, by asking it.
 */
#include "cmd-pool.h"

#include "base/units.h"
#include "store/check.h"
#include "store/region.h"
#include "store/superblock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 1024u
#define POOL_FILE "pool.penstock"
#define LOCK_TRIES 50u /* of 10 ms: a daemon that was killed may still have requests in the kernel */
#define PROGRESS_NS 500000000u

struct options {
	bool data, repair, cut_log, json;
	const char *const *devices; /* further ones, in the pool's order, if they are not where they were */
	unsigned device_count;
};

struct looking {
	const struct options *options;
	int fds[PST_DEVICES_MAX];
	uint32_t devices;
	uint64_t blocks;
	void *buf; /* aligned */
	json_t *findings, *notes;
	bool progress, line; /* a line of progress is on the terminal */
	uint64_t progress_ns;
};

/* ---- Files ---- */

static int file_lock(int fd)
{
	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
		if (errno != EINTR && (errno != EWOULDBLOCK || i == LOCK_TRIES))
			return -1;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return 0;
}

/* -1: told; *ret_exit is set. */
static int file_open(const char *path, bool write, int *ret_exit)
{
	struct stat st;
	int flags = O_CLOEXEC | O_NOCTTY | (write ? O_RDWR : O_RDONLY), fd;

	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd >= 0 && file_lock(fd) == 0)
		return fd;
	*ret_exit = errno == ENOENT                          ? CLI_NOT_FOUND
		    : errno == EBUSY || errno == EWOULDBLOCK ? CLI_CONFLICT
							     : CLI_FAILED;
	if (*ret_exit == CLI_CONFLICT)
		cli_error("penstock pool check NAME asks the daemon; or stop it first", "%s is in use", path);
	else
		cli_error(NULL, "%s can't be opened: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static uint64_t file_blocks(int fd)
{
	struct stat st;
	uint64_t bytes = 0;

	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &bytes) != 0)
			bytes = 0;
	} else {
		bytes = (uint64_t)st.st_size;
	}
	return bytes / PST_BLOCK_BYTES;
}

static pst_err read_block(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct looking *l = ctx;

	if (device >= l->devices || l->fds[device] < 0)
		return PST_E_RANGE;
	for (size_t done = 0; done < PST_BLOCK_BYTES;) {
		ssize_t n = pread(l->fds[device], (char *)buf + done, PST_BLOCK_BYTES - done,
				  (off_t)(block * PST_BLOCK_BYTES + done));

		if (n == 0)
			return PST_E_RANGE;
		if (n < 0 && errno != EINTR)
			return PST_E_IO;
		done += n > 0 ? (size_t)n : 0;
	}
	return PST_OK;
}

static pst_err write_block(void *ctx, uint32_t device, uint64_t block, const void *buf)
{
	struct looking *l = ctx;

	if (device >= l->devices || l->fds[device] < 0)
		return PST_E_RANGE;
	for (size_t done = 0; done < PST_BLOCK_BYTES;) {
		ssize_t n = pwrite(l->fds[device], (const char *)buf + done, PST_BLOCK_BYTES - done,
				   (off_t)(block * PST_BLOCK_BYTES + done));

		if (n < 0 && errno != EINTR)
			return errno == ENOSPC ? PST_E_NOSPACE : PST_E_IO;
		done += n > 0 ? (size_t)n : 0;
	}
	return PST_OK;
}

static pst_err flush_all(void *ctx)
{
	struct looking *l = ctx;

	for (uint32_t i = 0; i < l->devices; i++)
		if (l->fds[i] >= 0 && fdatasync(l->fds[i]) != 0)
			return PST_E_IO;
	return PST_OK;
}

static void close_all(struct looking *l)
{
	for (uint32_t i = 0; i < l->devices; i++)
		if (l->fds[i] >= 0)
			close(l->fds[i]);
}

/* The further devices of the pool, from where it had them last. Damaged superblocks are the check's to tell. */
static int open_devices(struct looking *l)
{
	struct pst_superblock sb[2];
	const struct pst_superblock *best = NULL;
	char detail[PST_DETAIL_BYTES];
	bool bad;
	int rc = CLI_OK;

	memset(sb, 0, sizeof(sb));
	(void)read_block(l, 0, 0, &sb[0]);
	if (!pst_sb_intact(&sb[0]) && l->blocks > 0)
		(void)read_block(l, 0, l->blocks - 1, &sb[1]);
	if (pst_sb_choose(&sb[0], &sb[1], l->blocks, &best, &bad, detail) != PST_OK)
		return CLI_OK;
	for (uint32_t i = 1; i < best->device_count && rc == CLI_OK; i++) {
		const char *path = pst_sb_device_path(best, i);

		if (i <= l->options->device_count)
			path = l->options->devices[i - 1];
		l->fds[i] = path[0] != '\0' ? file_open(path, l->options->repair, &rc) : -1;
		l->devices = i + 1;
	}
	return rc;
}

/* ---- Telling ---- */

static void clear_line(struct looking *l)
{
	if (l->line)
		fputs("\r\033[K", stderr);
	l->line = false;
}

static void on_finding(void *ctx, bool repaired, const char *text)
{
	struct looking *l = ctx;

	clear_line(l);
	if (!l->options->json)
		printf("%s%s\n", repaired ? "repaired: " : "", text);
	else
		json_array_append_new(l->findings, json_pack("{s:b, s:s}", "repaired", repaired, "text", text));
}

static void on_note(void *ctx, const char *text)
{
	struct looking *l = ctx;

	clear_line(l);
	if (!l->options->json)
		printf("note: %s\n", text);
	else
		json_array_append_new(l->notes, json_string(text));
}

static void on_progress(void *ctx, uint64_t done, uint64_t of_blocks)
{
	struct looking *l = ctx;
	struct timespec t;
	uint64_t now_ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	if (!l->progress || now_ns < l->progress_ns + PROGRESS_NS)
		return;
	l->progress_ns = now_ns;
	l->line = true;
	fprintf(stderr, "\r%llu of at most %llu blocks looked at\033[K", (unsigned long long)done,
		(unsigned long long)of_blocks);
}

static const char *status_of(const struct pst_check *check)
{
	return check->left > 0 ? "damaged" : check->findings > 0 ? "repaired" : "clean";
}

static int print_result(struct looking *l, const char *path, const struct pst_check *check)
{
	char used[16], lost[16];

	clear_line(l);
	if (l->options->json) {
		json_t *json = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "pool", path,
					 "status", status_of(check), "found", (json_int_t)check->findings, "repaired",
					 (json_int_t)check->repaired, "left", (json_int_t)check->left, "lost_bytes",
					 (json_int_t)(check->lost_blocks * PST_BLOCK_BYTES), "used_bytes",
					 (json_int_t)(check->blocks_used * PST_BLOCK_BYTES), "nodes_read",
					 (json_int_t)check->nodes_read, "data_blocks_read",
					 (json_int_t)check->data_read, "findings", l->findings, "notes", l->notes);

		cli_print_json(json);
		json_decref(json);
	} else {
		pst_format_size(check->blocks_used * PST_BLOCK_BYTES, used);
		pst_format_size(check->lost_blocks * PST_BLOCK_BYTES, lost);
		printf(
		    "%s: %s: %llu found, %llu repaired, %llu left; %s in use, %s lost; %llu nodes and %llu data blocks "
		    "read\n",
		    path, status_of(check), (unsigned long long)check->findings, (unsigned long long)check->repaired,
		    (unsigned long long)check->left, used, lost, (unsigned long long)check->nodes_read,
		    (unsigned long long)check->data_read);
	}
	if (check->left > 0 && !l->options->repair)
		cli_error("stop what uses it, copy it if you can, then: penstock pool check --repair", "%s is damaged",
			  path);
	return check->left > 0 ? CLI_DAMAGED : check->findings > 0 ? CLI_REPAIRED : CLI_OK;
}

/* ---- The check of a file ---- */

static char *boot_id(char buf[37])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	bool ok = f != NULL && fscanf(f, "%36s", buf) == 1;

	if (f != NULL)
		fclose(f);
	return ok ? buf : NULL;
}

static int check_opened(struct looking *l, const char *path)
{
	char boot[37], detail[200];
	struct pst_check check = { .data = l->options->data,
				   .repair = l->options->repair,
				   .cut_log = l->options->cut_log,
				   .finding = on_finding,
				   .note = on_note,
				   .progress = on_progress,
				   .ctx = l };
	struct pst_check_io io = { .ctx = l,
				   .devices = l->devices,
				   .blocks = l->blocks,
				   .read = read_block,
				   .write = write_block,
				   .flush = flush_all,
				   .boot_id = boot_id(boot) };
	pst_err err = pst_check_pool(&io, &check, detail);

	clear_line(l);
	if (err == PST_OK)
		return print_result(l, path, &check);
	cli_error(NULL, "%s can't be checked: %s", path, detail);
	return err == PST_E_NOTFOUND ? CLI_NOT_FOUND : CLI_FAILED;
}

static int check_file(const char *path, const struct options *options)
{
	struct looking l = { .options = options, .devices = 1, .progress = isatty(STDERR_FILENO) != 0 };
	int rc = CLI_FAILED;

	l.fds[0] = file_open(path, options->repair, &rc);
	if (l.fds[0] < 0)
		return rc;
	l.blocks = file_blocks(l.fds[0]);
	l.findings = json_array();
	l.notes = json_array();
	rc = open_devices(&l);
	if (rc == CLI_OK)
		rc = check_opened(&l, path);
	close_all(&l);
	json_decref(l.findings);
	json_decref(l.notes);
	return rc;
}

/* ---- Of a daemon's pool ---- */

static int check_running(const struct cli_common *common, const char *name, const struct options *options)
{
	if (!options->repair)
		return cmd_pool_check_running(common, name, options->data);
	cli_error("stop the daemon, then name the pool's directory, file or device",
		  "%s is a running daemon's pool, or there is no such file; only pools that nobody uses are repaired",
		  name);
	return CLI_USAGE;
}

/* A directory with a pool, a file, a device; else it is the name of a pool. */
static bool is_path(const char *name, char file[PATH_BYTES])
{
	struct stat st;

	if (stat(name, &st) != 0)
		return strchr(name, '/') != NULL && snprintf(file, PATH_BYTES, "%s", name) > 0;
	snprintf(file, PATH_BYTES, S_ISDIR(st.st_mode) ? "%s/" POOL_FILE : "%s", name);
	return true;
}

int cmd_pool_check(const struct cli_object *object, const struct cli_object_verb *v, int argc, char **argv)
{
	struct options options = { 0 };
	const struct cli_arg args[] = {
		{ "--data", NULL, CLI_ARG_FLAG, &options.data, "verify the checksum of all data too", NULL },
		{ "--repair", NULL, CLI_ARG_FLAG, &options.repair,
		  "put right what can be; what is lost reads as errors until it is written", NULL },
		{ "--cut-log", NULL, CLI_ARG_FLAG, &options.cut_log,
		  "with --repair: end a damaged log where the damage begins, and lose what came after", NULL },
		{ NULL }
	};
	const struct cli_verb verb = {
		"pool", "check", "PATH|NAME...",
		"Checks a pool that no daemon has open, by its directory, file or device (further "
		"devices behind it, if they are not where they were), or one of a running daemon.",
		args
	};
	struct cli_common common = { 0 };
	char file[PATH_BYTES];
	int rc;

	(void)object;
	(void)v;
	if (!cli_parse(&verb, argc, argv, &common, &rc))
		return rc;
	options.json = common.json;
	options.devices = common.names + 1;
	options.device_count = common.name_count - 1;
	if (options.cut_log && !options.repair) {
		cli_error("penstock pool check --repair --cut-log PATH",
			  "--cut-log changes the pool: it needs --repair");
		rc = CLI_USAGE;
	} else if (is_path(common.names[0], file)) {
		rc = check_file(file, &options);
	} else {
		rc = check_running(&common, common.names[0], &options);
	}
	cli_common_done(&common);
	return rc;
}
