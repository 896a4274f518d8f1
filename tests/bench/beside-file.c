/* SPDX-License-Identifier: Apache-2.0 */
/* A file with O_DIRECT through io_uring: no network, no daemon. */
#include "beside.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct io_uring ring;
static int fd;
static const char *path;

static bool file_open(const struct beside_place *place)
{
	path = place->file;
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	int err = fd < 0 ? -errno : io_uring_queue_init(place->depth * 2 + 2, &ring, 0);
	if (err != 0)
		fprintf(stderr, "beside-load: %s: %s\n", path, strerror(-err));
	return err == 0;
}

static void file_submit(struct beside_request *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	pst_assert(sqe != NULL);
	if (r->kind == BESIDE_READ)
		io_uring_prep_read(sqe, fd, r->buf, r->len_bytes, r->offset_bytes);
	else if (r->kind == BESIDE_WRITE)
		io_uring_prep_write(sqe, fd, r->buf, r->len_bytes, r->offset_bytes);
	else
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, r);
}

static void file_poll(void)
{
	struct __kernel_timespec limit = { 0, 10000000 };
	struct io_uring_cqe *cqe;

	io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &limit, NULL);
	while (io_uring_peek_cqe(&ring, &cqe) == 0) {
		struct beside_request *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&ring, cqe);
		if (r == NULL)
			continue; /* the timeout's own */
		r->failed = r->kind == BESIDE_FLUSH ? res != 0 : res != (int)r->len_bytes;
		if (r->failed)
			fprintf(stderr, "beside-load: %s: %s\n", path, res < 0 ? strerror(-res) : "short transfer");
		r->done(r);
	}
}

static void file_close(void)
{
	io_uring_queue_exit(&ring);
	close(fd);
}

const struct beside_way beside_file = { "file", file_open, file_submit, file_poll, file_close };
