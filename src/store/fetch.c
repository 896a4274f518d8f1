/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbouring blocks are read together, up to FETCH_READS pieces side by side; after an error no more are begun. The
 * checksums are compared when all is there.
 */
#include "store/fetch.h"

#include "base/crc32c.h"

static void read_more(struct fetch *f);

static void read_done(struct pst_file_op *op)
{
	struct fetch_read *r = pst_container_of(op, struct fetch_read, op);
	struct fetch *f = r->fetch;

	f->part->store->outstanding--;
	f->reading--;
	r->fetch = NULL;
	if (op->err != PST_OK) {
		f->err = op->err;
		f->bad = (uint32_t)((size_t)((uint8_t *)r->iov.iov_base - f->buffer) / PST_BLOCK_BYTES);
	}
	read_more(f);
}

static void read_run(struct fetch *f, struct fetch_read *r)
{
	uint32_t first = f->at, block = f->blocks[first] & PST_PTR_BLOCK, n = 1;

	while (first + n < f->count && (f->blocks[first + n] & PST_PTR_BLOCK) == block + n)
		n++;
	f->at += n;
	f->reading++;
	r->fetch = f;
	r->iov = (struct iovec){ f->buffer + (size_t)first * PST_BLOCK_BYTES, (size_t)n * PST_BLOCK_BYTES };
	r->op = (struct pst_file_op){
		.kind = PST_FILE_READ, .iov = &r->iov, .iov_count = 1, .len_bytes = r->iov.iov_len, .done = read_done
	};
	part_submit(f->part, &r->op, block);
}

static void read_more(struct fetch *f)
{
	for (unsigned i = 0; f->err == PST_OK && f->at < f->count && i < FETCH_READS; i++)
		if (f->reads[i].fetch == NULL)
			read_run(f, &f->reads[i]);
	if (f->reading > 0)
		return;
	for (uint32_t i = 0; f->err == PST_OK && i < f->count; i++) {
		if (pst_crc32c(f->buffer + (size_t)i * PST_BLOCK_BYTES, PST_BLOCK_BYTES) == f->crcs[i])
			continue;
		f->bad = i;
		f->err = PST_E_CHECKSUM;
	}
	f->done(f);
}

void fetch_begin(struct fetch *f, struct part *p, const uint32_t *blocks, const uint32_t *crcs, uint32_t count,
		 uint8_t *buffer, void (*done)(struct fetch *f))
{
	f->part = p;
	f->blocks = blocks;
	f->crcs = crcs;
	f->count = count;
	f->at = f->reading = f->bad = 0;
	f->buffer = buffer;
	f->done = done;
	f->err = PST_OK;
	for (unsigned i = 0; i < FETCH_READS; i++)
		f->reads[i].fetch = NULL;
	read_more(f);
}
