/* SPDX-License-Identifier: Apache-2.0 */
#include "store/recover-read.h"

#include <string.h>

static void submit(struct recover_read *read, uint32_t at, uint32_t count, void (*done)(struct pst_file_op *op))
{
	read->iov = (struct iovec){ read->buf + (size_t)at * PST_BLOCK_BYTES, (size_t)count * PST_BLOCK_BYTES };
	read->op = (struct pst_file_op){
		.kind = PST_FILE_READ, .iov = &read->iov, .iov_count = 1, .len_bytes = read->iov.iov_len, .done = done
	};
	part_submit(read->part, &read->op, read->block + at);
}

static struct recover_read *came(struct pst_file_op *op)
{
	struct recover_read *read = pst_container_of(op, struct recover_read, op);

	read->part->store->outstanding--;
	return read;
}

static void one_done(struct pst_file_op *op)
{
	struct recover_read *read = came(op);
	bool second = read->at % 2 != 0, bad = op->err != PST_OK;

	if (bad && (read->pairs ? second && read->twin_unreadable : read->count == 1)) {
		read->done(read, op->err);
		return;
	}
	if (bad) {
		memset(read->iov.iov_base, 0, PST_BLOCK_BYTES);
		read->unreadable = PST_MIN(read->unreadable, read->at);
	}
	read->twin_unreadable = bad;
	if (++read->at < read->count)
		submit(read, read->at, 1, one_done);
	else
		read->done(read, PST_OK);
}

static void all_done(struct pst_file_op *op)
{
	struct recover_read *read = came(op);

	if (op->err == PST_OK) {
		read->done(read, PST_OK);
		return;
	}
	read->at = 0;
	submit(read, 0, 1, one_done);
}

static void begin(struct recover_read *read, uint64_t block, uint32_t count, bool pairs)
{
	read->block = block;
	read->count = read->unreadable = count;
	read->pairs = pairs;
	submit(read, 0, count, all_done);
}

void recover_read_blocks(struct recover_read *read, uint64_t block, uint32_t count)
{
	begin(read, block, count, false);
}

void recover_read_pairs(struct recover_read *read, uint64_t block, uint32_t count)
{
	begin(read, block, count, true);
}
