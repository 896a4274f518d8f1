/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded pool of threads that does file operations with blocking calls. An operation waits in one queue, is done by
 * one thread, and returns to its shard as a post; the threads touch nothing else. They start with the first operation
 * (a host without files has none) and block all signals, which belong to the threads of the program.
 */
#include "env/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct pst_disk {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct pst_list queue; /* under lock, as is stop */
	bool stop;
	uint32_t thread_count;
	pthread_t threads[];
};

static pst_err disk_transfer(struct pst_file *file, struct pst_file_op *op)
{
	struct pst_real_file_op *r = pst_real_file_op(op);

	while (r->done_bytes < op->len_bytes) {
		off_t at = (off_t)(op->offset_bytes + r->done_bytes);
		const struct iovec *iov;
		unsigned count;
		ssize_t n;

		pst_real_file_next(op, &iov, &count);
		n = op->kind == PST_FILE_READ ? preadv(file->fd, iov, (int)count, at)
					      : pwritev(file->fd, iov, (int)count, at);
		if (n > 0)
			r->done_bytes += (uint64_t)n;
		else if (n == 0)
			return op->kind == PST_FILE_READ ? PST_E_RANGE : PST_E_IO;
		else if (errno != EINTR)
			return pst_real_errno(errno);
	}
	return PST_OK;
}

static pst_err disk_fallocate(struct pst_file *file, struct pst_file_op *op)
{
	int mode = pst_real_fallocate_mode(op->kind);

	if (op->kind == PST_FILE_WRITE_ZEROES && atomic_load(&file->zeroes_by_write))
		return disk_transfer(file, op);
	while (fallocate(file->fd, mode, (off_t)op->offset_bytes, (off_t)op->len_bytes) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EOPNOTSUPP)
			return pst_real_errno(errno);
		if (op->kind == PST_FILE_DISCARD)
			return PST_OK; /* a hint */
		atomic_store(&file->zeroes_by_write, true);
		return disk_transfer(file, op);
	}
	return PST_OK;
}

static pst_err disk_flush(struct pst_file *file)
{
	while (fdatasync(file->fd) != 0)
		if (errno != EINTR)
			return pst_real_errno(errno);
	return PST_OK;
}

static pst_err disk_execute(struct pst_file *file, struct pst_file_op *op)
{
	switch (op->kind) {
	case PST_FILE_READ:
	case PST_FILE_WRITE:
		return disk_transfer(file, op);
	case PST_FILE_FLUSH:
		return disk_flush(file);
	case PST_FILE_DISCARD:
	case PST_FILE_WRITE_ZEROES:
		return disk_fallocate(file, op);
	}
	return PST_E_INVAL;
}

static void disk_done_post(struct pst_post *post)
{
	struct pst_file_op *op =
	    pst_container_of(pst_container_of(post, struct pst_real_file_op, post), struct pst_file_op, scratch);

	pst_real_file_done(op, op->err);
}

static void *disk_thread(void *arg)
{
	struct pst_disk *disk = arg;

	pthread_mutex_lock(&disk->lock);
	for (;;) {
		struct pst_list *node = pst_list_pop_front(&disk->queue);
		struct pst_real_file_op *r;
		struct pst_file_op *op;

		if (!node) {
			if (disk->stop)
				break;
			pthread_cond_wait(&disk->wake, &disk->lock);
			continue;
		}
		pthread_mutex_unlock(&disk->lock);
		op = pst_container_of(node, struct pst_file_op, node);
		r = pst_real_file_op(op);
		op->err = disk_execute(r->file, op);
		r->post.fn = disk_done_post;
		pst_env_post(r->file->env, &r->post);
		pthread_mutex_lock(&disk->lock);
	}
	pthread_mutex_unlock(&disk->lock);
	return NULL;
}

/* As many threads as could be started; NULL if none. */
static struct pst_disk *disk_new(uint32_t threads)
{
	struct pst_disk *disk = calloc(1, sizeof(*disk) + threads * sizeof(disk->threads[0]));
	sigset_t all, before;

	if (!disk)
		return NULL;
	pthread_mutex_init(&disk->lock, NULL);
	pthread_cond_init(&disk->wake, NULL);
	pst_list_init(&disk->queue);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (disk->thread_count < threads &&
	       pthread_create(&disk->threads[disk->thread_count], NULL, disk_thread, disk) == 0)
		disk->thread_count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (disk->thread_count > 0)
		return disk;
	pthread_cond_destroy(&disk->wake);
	pthread_mutex_destroy(&disk->lock);
	free(disk);
	return NULL;
}

static void disk_fail_post(struct pst_post *post)
{
	struct pst_file_op *op =
	    pst_container_of(pst_container_of(post, struct pst_real_file_op, post), struct pst_file_op, scratch);

	pst_real_file_done(op, PST_E_NOMEM);
}

void pst_posix_file_start(struct pst_file *file, struct pst_file_op *op)
{
	struct pst_env *env = file->env;
	struct pst_disk *disk;

	if (!env->disk)
		env->disk = disk_new(env->disk_threads);
	disk = env->disk;
	if (!disk) {
		pst_real_file_op(op)->post.fn = disk_fail_post;
		pst_env_post(env, &pst_real_file_op(op)->post);
		return;
	}
	pthread_mutex_lock(&disk->lock);
	pst_list_push_back(&disk->queue, &op->node);
	pthread_cond_signal(&disk->wake);
	pthread_mutex_unlock(&disk->lock);
}

void pst_posix_disk_free(struct pst_env *env)
{
	struct pst_disk *disk = env->disk;

	if (!disk)
		return;
	pthread_mutex_lock(&disk->lock);
	disk->stop = true;
	pthread_cond_broadcast(&disk->wake);
	pthread_mutex_unlock(&disk->lock);
	for (uint32_t i = 0; i < disk->thread_count; i++)
		pthread_join(disk->threads[i], NULL);
	pthread_cond_destroy(&disk->wake);
	pthread_mutex_destroy(&disk->lock);
	free(disk);
}
