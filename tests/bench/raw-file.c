/* SPDX-License-Identifier: Apache-2.0 */
/* The limit that the disk sets: a closed loop of plain io_uring reads or writes, O_DIRECT, on one file (--file). */
#include "measure.h"

#include "base/prng.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--file") != 0)
		return false;
	path = value;
	return true;
}

struct slot {
	void *buf;
	uint64_t begin_ns;
};

struct run {
	struct measure_load load;
	struct measure measure;
	struct pst_prng prng;
	struct io_uring ring;
	uint64_t next;
	int fd;
};

static void start(struct run *r, struct slot *s)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
	uint64_t blocks = r->load.span_bytes / r->load.block_bytes;
	uint64_t block = r->load.sequential ? r->next++ % blocks : pst_prng_below(&r->prng, blocks);
	uint64_t offset = block * r->load.block_bytes;

	if (r->load.write)
		io_uring_prep_write(sqe, r->fd, s->buf, r->load.block_bytes, offset);
	else
		io_uring_prep_read(sqe, r->fd, s->buf, r->load.block_bytes, offset);
	io_uring_sqe_set_data(sqe, s);
	s->begin_ns = measure_now_ns();
}

/* One turn: submit, wait for one, take all. False on an I/O error. */
static bool turn(struct run *r, bool measuring, bool again)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_submit_and_wait(&r->ring, 1);
	io_uring_for_each_cqe(&r->ring, head, cqe)
	{
		struct slot *s = io_uring_cqe_get_data(cqe);

		seen++;
		if (cqe->res != (int)r->load.block_bytes) {
			fprintf(stderr, "raw-file: %s: %s\n", path,
				cqe->res < 0 ? strerror(-cqe->res) : "short transfer");
			return false;
		}
		if (measuring)
			pst_hist_add(&r->measure.latency, measure_now_ns() - s->begin_ns);
		if (again)
			start(r, s);
	}
	io_uring_cq_advance(&r->ring, seen);
	return true;
}

static bool turns_for(struct run *r, double seconds, bool measuring)
{
	uint64_t end = measure_now_ns() + (uint64_t)(seconds * 1e9);

	while (measure_now_ns() < end)
		if (!turn(r, measuring, true))
			return false;
	return true;
}

int main(int argc, char **argv)
{
	static struct run r;
	struct slot *slots;

	measure_parse(argc, argv, &r.load, option);
	measure_pin(r.load.cpu);
	pst_prng_init(&r.prng, r.load.seed);
	r.fd = path == NULL ? -1 : open(path, O_RDWR | O_DIRECT);
	if (r.fd < 0 || io_uring_queue_init(r.load.depth * 2, &r.ring, 0) != 0) {
		fprintf(stderr, "raw-file: %s: %s\n", path == NULL ? "--file is missing" : path, strerror(errno));
		return 1;
	}
	slots = calloc(r.load.depth, sizeof(*slots));
	for (uint32_t i = 0; i < r.load.depth; i++) {
		slots[i].buf = aligned_alloc(4096, r.load.block_bytes);
		memset(slots[i].buf, 1, r.load.block_bytes);
		start(&r, &slots[i]);
	}
	if (!turns_for(&r, r.load.warmup_seconds, false))
		return 1;
	measure_begin(&r.measure, 0);
	if (!turns_for(&r, r.load.seconds, true))
		return 1;
	measure_end(&r.measure, &r.load);
	io_uring_queue_exit(&r.ring);
	close(r.fd);
	return 0;
}
