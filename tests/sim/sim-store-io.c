/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to volumes and snapshots: random ones, and what the oracle says to their results. */
#include "sim-store.h"

#include <stdlib.h>
#include <string.h>

static void op_free(struct op *op)
{
	free(op->memory);
	op->memory = NULL;
	op->busy = false;
}

static void io_done(struct pst_io *io)
{
	struct op *op = pst_container_of(io, struct op, io);
	struct world *w = op->w;
	bool ok = io->err == PST_OK;
	char why[256] = "";

	if (op->v->snapshot && io->kind != PST_IO_READ) {
		if (io->err != PST_E_DENIED && !w->corrupting)
			fail(w, "snapshot %x: a write ends with %s", op->v->id, pst_err_name(io->err));
		op_free(op);
		return;
	}
	if (!ok && io->err != PST_E_NOSPACE && io->err != PST_E_LOST &&
	    !(io->err == PST_E_CANCELLED && io->kind == PST_IO_WRITE && op->v->may_pause) && !w->corrupting &&
	    !flush_failed(w))
		fail(w, "volume %x: request kind %d lba %llu failed: %s", op->v->id, io->kind,
		     (unsigned long long)io->lba, pst_err_name(io->err));
	w->result->counters[C_NOSPACE] += io->err == PST_E_NOSPACE;
	w->result->counters[C_ERRORS] += !ok && io->err != PST_E_NOSPACE && io->err != PST_E_LOST;
	switch (io->kind) {
	case PST_IO_READ:
		if (!oracle_read_end(op->read, ok && !flush_failed(w) ? op->buf : NULL, why))
			fail(w, "volume %x: %s", op->v->id, why);
		break;
	case PST_IO_FLUSH:
		oracle_flush_end(op->flush, ok);
		op->v->said = op->v->said || ok || io->err == PST_E_LOST;
		if (io->err == PST_E_LOST) {
			w->result->counters[C_LOST]++;
			if (op->v->lost == NO)
				fail(w, "volume %x: a flush fails for loss, but there was none", op->v->id);
			op->v->lost = MAYBE; /* that it was said is durable only once the volume is closed */
		} else if (ok) {
			if (op->v->lost == YES)
				fail(w, "volume %x: the first flush after the loss of power succeeds", op->v->id);
		}
		break;
	default:
		/* Without data only the pool's end, which notes nothing any more, leaves a record that may be found. */
		if (!ok && w->writes_fail && (io->kind == PST_IO_WRITE || w->stopped))
			oracle_write_failed(op->v->oracle, io->lba, io->block_count);
		else
			oracle_write_end(op->v->oracle, io->lba, io->block_count, ok, (io->flags & PST_IO_FUA) != 0);
	}
	op_free(op);
}

static void buffers(struct op *op, uint64_t count)
{
	struct world *w = op->w;
	size_t len = count * PST_BLOCK_BYTES;
	size_t cut = below(w, 2) == 0 ? 0 : below(w, len);

	op->memory = aligned_alloc(PST_BLOCK_BYTES, len + PST_BLOCK_BYTES);
	op->buf = op->memory + (chance(w, 70) ? 0 : below(w, PST_BLOCK_BYTES));
	op->iov[0] = (struct iovec){ op->buf, cut };
	op->iov[1] = (struct iovec){ op->buf + cut, len - cut };
	op->io.iov = cut > 0 ? op->iov : op->iov + 1;
	op->io.iov_count = cut > 0 ? 2 : 1;
}

/* Nobody may write to a snapshot. */
static void write_denied(struct world *w, struct op *op, uint64_t lba, uint64_t count)
{
	op->io.kind = chance(w, 50) ? PST_IO_WRITE : PST_IO_DISCARD;
	if (op->io.kind == PST_IO_WRITE) {
		buffers(op, count);
		memset(op->buf, 0xee, count * PST_BLOCK_BYTES);
	}
	op->io.lba = lba;
	op->io.block_count = count;
	op->busy = true;
	pst_volume_submit(op->v->volume, &op->io);
}

/* A write of any kind; false: another is under way there. */
static bool write_fill(struct world *w, struct op *op, unsigned what, uint64_t lba, uint64_t count)
{
	struct vol *v = op->v;

	if (oracle_busy(v->oracle, lba, count))
		return false;
	op->io.kind = what < 85 ? PST_IO_WRITE : what < 91 ? PST_IO_WRITE_ZEROES : PST_IO_DISCARD;
	op->io.flags = op->io.kind != PST_IO_DISCARD && chance(w, 10) ? PST_IO_FUA : 0;
	if (op->io.kind == PST_IO_WRITE)
		buffers(op, count);
	oracle_write_begin(v->oracle, lba, count, op->io.kind == PST_IO_WRITE ? op->buf : NULL);
	w->result->counters[C_WRITES]++;
	return true;
}

void request(struct world *w, struct op *op)
{
	unsigned what = (unsigned)below(w, 100);
	struct vol *v = NULL;
	uint64_t lba, count;

	for (unsigned i = 0; i < 4 && (v == NULL || v->volume == NULL); i++)
		v = &w->vols[below(w, VERSIONS)];
	if (v->volume == NULL)
		return;
	*op = (struct op){ .w = w, .v = v };
	op->io.done = io_done;
	lba = below(w, v->blocks);
	count = chance(w, 60) ? 4 : IO_BLOCKS_MAX;
	count = 1 + below(w, PST_MIN(v->blocks - lba, count));
	if (what >= 85 && what < 97 && chance(w, 30))
		count = 1 + below(w, v->blocks - lba); /* a long discard */
	if (w->grows && what >= 85 && what < 97 && chance(w, 10)) {
		lba = 0;
		count = v->blocks;
	}
	if (v->snapshot && what >= 95) {
		write_denied(w, op, lba, PST_MIN(count, IO_BLOCKS_MAX));
		return;
	}
	if (!v->snapshot && (v->lost == YES || what >= 97)) {
		op->io.kind = PST_IO_FLUSH;
		lba = count = 0;
		op->flush = oracle_flush_begin(v->oracle);
		w->result->counters[C_FLUSHES]++;
	} else if (v->snapshot || what < 30) {
		count = PST_MIN(count, IO_BLOCKS_MAX);
		op->io.kind = PST_IO_READ;
		op->read = oracle_read_begin(v->oracle, lba, count);
		buffers(op, count);
		w->result->counters[C_READS]++;
	} else if (!write_fill(w, op, what, lba, count)) {
		return;
	}
	op->io.lba = lba;
	op->io.block_count = count;
	op->busy = true;
	pst_volume_submit(v->volume, &op->io);
}

static bool ops_idle(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		if (w->ops[i].busy)
			return false;
	return true;
}

void ops_drain(struct world *w)
{
	if (!pst_sim_run_until(w->sim, ops_idle, w, LONG_NS))
		fail(w, "requests do not end");
}

/* What was under way when the process died: nobody will ever say how it ended. */
void ops_forget(struct world *w)
{
	for (unsigned i = 0; i < OPS; i++) {
		struct op *op = &w->ops[i];

		if (!op->busy)
			continue;
		op->busy = false;
		if (op->v->snapshot && op->io.kind != PST_IO_READ)
			continue;
		if (op->io.kind == PST_IO_READ)
			oracle_read_end(op->read, NULL, (char[256]){ 0 });
		else if (op->io.kind == PST_IO_FLUSH)
			oracle_flush_end(op->flush, false);
		else
			oracle_write_end(op->v->oracle, op->io.lba, op->io.block_count, false, false);
	}
}

/* Reads every block: the oracle judges. */
void verify(struct world *w, struct vol *v)
{
	for (uint64_t lba = 0; v->volume != NULL && lba < v->blocks && !w->failed; lba += IO_BLOCKS_MAX) {
		struct op *op = &w->ops[0];
		uint64_t count = PST_MIN(v->blocks - lba, IO_BLOCKS_MAX);

		if (op->busy)
			ops_drain(w);
		if (w->failed)
			return;
		*op = (struct op){ .w = w, .v = v, .busy = true };
		buffers(op, count);
		op->io.kind = PST_IO_READ;
		op->io.lba = lba;
		op->io.block_count = count;
		op->io.done = io_done;
		op->read = oracle_read_begin(v->oracle, lba, count);
		pst_volume_submit(v->volume, &op->io);
		ops_drain(w);
	}
}
