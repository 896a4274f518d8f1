/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and block devices, as far as both real backends agree: opening, locking, properties, the queue beyond the
 * configured depth, and how an operation is cut where the kernel transfers less than asked.
 *
 * The lock is flock: it belongs to the open file description, and the kernel keeps that alive while a request on it is
 * in flight, also after the process was killed. So whoever gets the lock can be sure that no write of a dead
 * predecessor lands later. That may take a moment, hence the patience in file_lock. The predecessor may be ourselves:
 * who waits must let the kernel drop what it keeps for us.
 */
#include "env/real.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define LOCK_PATIENCE_NS 5000000000u
#define DIRECT_ALIGN_UNKNOWN 4096u

static const uint8_t file_zeros[65536] __attribute__((aligned(4096)));

static pst_err file_lock(struct pst_env *env, int fd)
{
	uint64_t give_up_ns = pst_real_now_ns() + LOCK_PATIENCE_NS;

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return pst_real_errno(errno);
		if (pst_real_now_ns() > give_up_ns)
			return PST_E_LOCKED;
		if (env->ops->drop_finished)
			env->ops->drop_finished(env);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return PST_OK;
}

static uint64_t file_read_sysfs(dev_t dev, const char *attribute)
{
	/* A partition has no queue of its own; its disk is one level up. */
	static const char *const places[] = { "", "../" };
	unsigned long long value = 0;

	for (size_t i = 0; i < PST_ARRAY_COUNT(places); i++) {
		char path[128];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(dev), minor(dev), places[i],
			 attribute);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &value) != 1)
			value = 0;
		fclose(f);
		break;
	}
	return value;
}

static uint32_t file_direct_align(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN) &&
	    sx.stx_dio_offset_align)
		return PST_MAX(sx.stx_dio_mem_align, sx.stx_dio_offset_align);
	return DIRECT_ALIGN_UNKNOWN;
}

/* Some file systems accept O_DIRECT when opening and refuse the first read. */
static bool file_direct_works(int fd)
{
	void *buf = aligned_alloc(DIRECT_ALIGN_UNKNOWN, DIRECT_ALIGN_UNKNOWN);
	bool works = buf && (pread(fd, buf, DIRECT_ALIGN_UNKNOWN, 0) >= 0 || errno != EINVAL);

	free(buf);
	return works;
}

static void file_probe_direct(struct pst_file *file)
{
	int flags = fcntl(file->fd, F_GETFL);

	if (!(flags & O_DIRECT))
		return;
	if (!file_direct_works(file->fd)) {
		if (fcntl(file->fd, F_SETFL, flags & ~O_DIRECT) != 0)
			pst_env_log(file->env, PST_LOG_WARN, "file_direct_stuck errno=%d next=continuing", errno);
		return;
	}
	file->info.direct = true;
	file->info.align_bytes = file_direct_align(file->fd);
}

static pst_err file_probe(struct pst_file *file)
{
	struct stat st;

	file->info.align_bytes = 1;
	if (fstat(file->fd, &st) != 0)
		return pst_real_errno(errno);
	if (S_ISBLK(st.st_mode)) {
		uint64_t size;

		if (ioctl(file->fd, BLKGETSIZE64, &size) != 0)
			return pst_real_errno(errno);
		file->info.block_device = true;
		file->info.size_bytes = size;
		file->info.can_discard = !file->readonly && file_read_sysfs(st.st_rdev, "discard_max_bytes") > 0;
	} else if (S_ISREG(st.st_mode)) {
		file->info.size_bytes = (uint64_t)st.st_size;
		/* Nothing lies beyond the end, so this punches nothing and only asks whether it could. */
		file->info.can_discard =
		    !file->readonly && fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						 (off_t)pst_round_up(file->info.size_bytes, 4096), 4096) == 0;
	} else {
		return PST_E_INVAL;
	}
	file_probe_direct(file);
	return PST_OK;
}

static int file_open_fd(const char *path, unsigned flags)
{
	int oflags = O_CLOEXEC | O_NOCTTY | ((flags & PST_FILE_READONLY) ? O_RDONLY : O_RDWR);
	struct stat st;
	int fd;

	if (flags & PST_FILE_CREATE)
		oflags |= O_CREAT;
	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode)) {
		oflags &= ~O_CREAT;
		if (flags & PST_FILE_EXCLUSIVE)
			oflags |= O_EXCL; /* also against mounts */
	}
	if (flags & PST_FILE_DIRECT) {
		fd = open(path, oflags | O_DIRECT, 0600);
		if (fd >= 0 || errno != EINVAL)
			return fd;
	}
	return open(path, oflags, 0600);
}

pst_err pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file)
{
	struct pst_file *file = calloc(1, sizeof(*file));
	pst_err err = PST_OK;

	if (!file)
		return PST_E_NOMEM;
	file->env = env;
	file->readonly = flags & PST_FILE_READONLY;
	file->fd = file_open_fd(path, flags);
	if (file->fd < 0) {
		err = pst_real_errno(errno);
		free(file);
		return err;
	}
	if (flags & PST_FILE_EXCLUSIVE)
		err = file_lock(env, file->fd);
	if (err == PST_OK)
		err = file_probe(file);
	if (err != PST_OK) {
		close(file->fd);
		free(file);
		return err;
	}
	env->open_files++;
	*ret_file = file;
	return PST_OK;
}

/* It may have grown since it was opened. */
static void file_refresh_size(struct pst_file *file)
{
	struct stat st;
	uint64_t size;

	if (file->info.block_device) {
		if (ioctl(file->fd, BLKGETSIZE64, &size) == 0)
			file->info.size_bytes = size;
	} else if (fstat(file->fd, &st) == 0) {
		file->info.size_bytes = (uint64_t)st.st_size;
	}
}

void pst_file_info(struct pst_file *file, struct pst_file_info *ret_info)
{
	file_refresh_size(file);
	*ret_info = file->info;
}

pst_err pst_file_truncate(struct pst_file *file, uint64_t size_bytes)
{
	if (file->info.block_device)
		return PST_E_UNSUPPORTED;
	if (file->readonly)
		return PST_E_DENIED;
	if (size_bytes > INT64_MAX)
		return PST_E_RANGE;
	while (ftruncate(file->fd, (off_t)size_bytes) != 0)
		if (errno != EINTR)
			return pst_real_errno(errno);
	file->info.size_bytes = size_bytes;
	return PST_OK;
}

void pst_file_close(struct pst_file *file)
{
	pst_assert(file->inflight == 0);
	file->env->open_files--;
	close(file->fd);
	free(file);
}

/* ---- Operations ---- */

int pst_real_fallocate_mode(enum pst_file_kind kind)
{
	/*
	 * ZERO_RANGE keeps the space of a regular file (and takes it, if there was a hole), so that a later write to it
	 * can't meet a full file system; on a block device it is BLKZEROOUT, which writes where the device has no
	 * command for it. PUNCH_HOLE gives space back, and refuses where it can't.
	 */
	if (kind == PST_FILE_WRITE_ZEROES)
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

void pst_real_file_next(struct pst_file_op *op, const struct iovec **ret_iov, unsigned *ret_count)
{
	struct pst_real_file_op *r = pst_real_file_op(op);
	uint64_t skip = r->done_bytes;
	uint32_t i = 0;

	if (op->kind == PST_FILE_WRITE_ZEROES) {
		r->part.iov_base = (void *)(uintptr_t)file_zeros;
		r->part.iov_len = PST_MIN(op->len_bytes - skip, sizeof(file_zeros));
		*ret_iov = &r->part;
		*ret_count = 1;
		return;
	}
	while (skip >= op->iov[i].iov_len)
		skip -= op->iov[i++].iov_len;
	if (skip == 0) {
		*ret_iov = op->iov + i;
		*ret_count = op->iov_count - i;
		return;
	}
	r->part.iov_base = (char *)op->iov[i].iov_base + skip;
	r->part.iov_len = op->iov[i].iov_len - skip;
	*ret_iov = &r->part;
	*ret_count = 1;
}

static void file_finish_post(struct pst_post *post)
{
	struct pst_file_op *op =
	    pst_container_of(pst_container_of(post, struct pst_real_file_op, post), struct pst_file_op, scratch);

	op->done(op);
}

static bool file_aligned(const struct pst_file *file, const struct pst_file_op *op)
{
	uint64_t bits = op->offset_bytes | op->len_bytes;

	for (uint32_t i = 0; i < op->iov_count; i++)
		bits |= (uintptr_t)op->iov[i].iov_base | op->iov[i].iov_len;
	return (bits & (file->info.align_bytes - 1)) == 0;
}

static void file_check(const struct pst_file *file, const struct pst_file_op *op)
{
	bool transfers = op->kind == PST_FILE_READ || op->kind == PST_FILE_WRITE;
	uint64_t sum = 0;

	pst_assert(transfers ? op->iov_count >= 1 && op->iov_count <= 64 : op->iov_count == 0);
	for (uint32_t i = 0; i < op->iov_count; i++)
		sum += op->iov[i].iov_len;
	pst_assert(!transfers || sum == op->len_bytes);
	pst_assert(op->kind == PST_FILE_FLUSH || file_aligned(file, op));
}

static pst_err file_refuse(const struct pst_file *file, const struct pst_file_op *op)
{
	if (op->kind == PST_FILE_FLUSH)
		return PST_OK;
	if (op->kind != PST_FILE_READ && file->readonly)
		return PST_E_DENIED;
	return pst_range_ok(op->offset_bytes, op->len_bytes, file->info.size_bytes) ? PST_OK : PST_E_RANGE;
}

void pst_file_submit(struct pst_file *file, struct pst_file_op *op)
{
	struct pst_real_file_op *r = pst_real_file_op(op);
	struct pst_env *env = file->env;

	file_check(file, op);
	*r = (struct pst_real_file_op){ .post.fn = file_finish_post, .file = file };
	op->err = file_refuse(file, op);
	if (op->err != PST_OK || (op->kind != PST_FILE_FLUSH && op->len_bytes == 0) ||
	    (op->kind == PST_FILE_DISCARD && !file->info.can_discard)) {
		pst_env_post(env, &r->post);
		return;
	}
	file->inflight++;
	if (env->files_inflight >= env->file_depth) {
		pst_list_push_back(&env->file_waiting, &op->node);
		return;
	}
	env->files_inflight++;
	env->ops->file_start(file, op);
}

void pst_real_file_done(struct pst_file_op *op, pst_err err)
{
	struct pst_file *file = pst_real_file_op(op)->file;
	struct pst_env *env = file->env;
	struct pst_list *node = pst_list_pop_front(&env->file_waiting);

	file->inflight--;
	if (node) {
		struct pst_file_op *next = pst_container_of(node, struct pst_file_op, node);

		env->ops->file_start(pst_real_file_op(next)->file, next);
	} else {
		env->files_inflight--;
	}
	op->err = err;
	op->done(op);
}
