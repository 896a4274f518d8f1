/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What penstockd does to its files, on record: linked into penstockd-recorded between the store and the environment
 * (the linker's --wrap), so that it sees every operation whatever the kernel interface below. To the file that
 * PENSTOCK_RECORD names: a header for each begin and end of an operation, behind the begin of a write its data.
 * test_recorded_crashes.py reads it, and knows the same struct.
 */
#include "env/env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct event {
	uint64_t t_ns; /* CLOCK_MONOTONIC */
	uint32_t what; /* enum pst_file_kind; 16: end of operation @id; 17: a file is opened */
	uint32_t err;  /* of the end */
	uint64_t id;
	uint64_t offset_bytes, len_bytes;
};

enum { EVENT_END = 16, EVENT_OPEN = 17 };

struct recorded {
	struct recorded *next;
	struct pst_file_op *op;
	void (*done)(struct pst_file_op *op);
	uint64_t id;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct recorded *under_way;
static uint64_t last_id;
static int record_fd = -1;

pst_err __wrap_pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file);
pst_err __real_pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file);
void __wrap_pst_file_submit(struct pst_file *file, struct pst_file_op *op);
void __real_pst_file_submit(struct pst_file *file, struct pst_file_op *op);

static void put(const void *bytes, size_t count)
{
	const char *from = bytes;

	while (count > 0) {
		ssize_t n = write(record_fd, from, count);

		if (n < 0 && errno != EINTR)
			abort(); /* a record with a hole proves nothing */
		from += n > 0 ? n : 0;
		count -= n > 0 ? (size_t)n : 0;
	}
}

static void put_event(uint32_t what, uint32_t err, uint64_t id, const struct pst_file_op *op)
{
	struct timespec t;
	struct event e = { .what = what, .err = err, .id = id };

	clock_gettime(CLOCK_MONOTONIC, &t);
	e.t_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	if (op != NULL) {
		e.offset_bytes = op->offset_bytes;
		e.len_bytes = op->len_bytes;
	}
	put(&e, sizeof(e));
}

static void ended(struct pst_file_op *op)
{
	struct recorded **at, *r;

	pthread_mutex_lock(&lock);
	for (at = &under_way; (*at)->op != op;)
		at = &(*at)->next;
	r = *at;
	*at = r->next;
	put_event(EVENT_END, (uint32_t)op->err, r->id, NULL);
	pthread_mutex_unlock(&lock);
	op->done = r->done;
	free(r);
	op->done(op);
}

void __wrap_pst_file_submit(struct pst_file *file, struct pst_file_op *op)
{
	struct recorded *r;

	if (record_fd < 0 || op->kind == PST_FILE_READ) {
		__real_pst_file_submit(file, op);
		return;
	}
	r = malloc(sizeof(*r));
	pst_assert(r != NULL);
	pthread_mutex_lock(&lock);
	*r = (struct recorded){ .next = under_way, .op = op, .done = op->done, .id = ++last_id };
	under_way = r;
	put_event((uint32_t)op->kind, 0, r->id, op);
	for (uint32_t i = 0; op->kind == PST_FILE_WRITE && i < op->iov_count; i++)
		put(op->iov[i].iov_base, op->iov[i].iov_len);
	pthread_mutex_unlock(&lock);
	op->done = ended;
	__real_pst_file_submit(file, op);
}

pst_err __wrap_pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file)
{
	const char *to = getenv("PENSTOCK_RECORD");

	if (to != NULL && record_fd < 0) {
		record_fd = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		pst_assert(record_fd >= 0);
		put_event(EVENT_OPEN, 0, 0, NULL);
	}
	return __real_pst_file_open(env, path, flags, ret_file);
}
