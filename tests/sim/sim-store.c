/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store under simulated crashes. One seed is a tiny pool with up to three thin volumes that lives several lives:
 * each opens the pool, runs random requests (some at once), and ends by an orderly close, the death of the process, or
 * the loss of power with any part of the unflushed writes. The oracle knows what every block may hold; after an orderly
 * close the image is checked: what is allocated is what is reached. Pools are so small that the log wraps, checkpoints
 * come often, and the pool is full from time to time. In some seeds writes or flushes fail: errors are fair then, wrong
 * data is not; a life in which a flush failed ends for its data as with the loss of power.
 */
#include "check-image.h"
#include "oracle.h"
#include "pool-image.h"
#include "seeds.h"

#include "env/sim/sim.h"
#include "store/store.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define VOLUMES 3u
#define OPS 8u
#define KEYS 3u
#define IO_BLOCKS_MAX 24u
#define LONG_NS ((uint64_t)120 * 1000 * 1000 * 1000)
#define PATH "pool"

enum {
	C_LIVES,
	C_WRITES,
	C_READS,
	C_FLUSHES,
	C_NOSPACE,
	C_POWER,
	C_KILLS,
	C_CLOSES,
	C_LOST,
	C_DELETES,
	C_RESIZES,
	C_ERRORS,
	C_ROT,
	C_FLUSH_ERRORS,
	C_CHECKS
};
static const char *const counter_names[] = { "lives",  "writes",         "reads",  "flushes", "full",    "power losses",
					     "kills",  "closes",         "lost",   "deletes", "resizes", "errors",
					     "rotten", "failed flushes", "checks", NULL };

enum certainty { NO, MAYBE, YES };

struct world;

struct vol {
	uint32_t index;
	uint32_t incarnation; /* of the name: contents of a deleted volume are another's */
	enum certainty exists, lost;
	bool said;                       /* a flush since the open has said whether writes were lost */
	bool opened;                     /* in this life, or in one before that no recovery has followed */
	uint64_t blocks, blocks_pending; /* size; what a resize under way wants */
	uint8_t uuid[16];
	struct oracle *oracle;
	struct pst_volume *volume;
};

struct op {
	struct world *w;
	struct vol *v;
	bool busy;
	struct pst_io io;
	struct iovec iov[3];
	uint8_t *memory, *buf;
	struct oracle_read *read;
	struct oracle_flush *flush;
};

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct seed_result *result;
	uint64_t max_blocks;
	bool failed, corrupting, rots;
	struct vol vols[VOLUMES];
	struct op ops[OPS];
	struct pst_pool *pool;
	struct pst_pool_op pool_op;
	struct pst_store_op store_op;
	struct pst_volume_close_op close_op;
	unsigned keys[KEYS], keys_pending[KEYS]; /* values; 0: none */
	char key_buf[KEYS][16];
	unsigned value, key_pending;
	bool done; /* of the control operation under way */
};

static void fail(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (w->failed)
		return;
	w->failed = true;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

static uint64_t below(struct world *w, uint64_t bound)
{
	return pst_sim_rand_below(w->sim, bound);
}

static bool chance(struct world *w, unsigned percent)
{
	return below(w, 100) < percent;
}

static bool is_done(void *ctx)
{
	struct world *w = ctx;

	return w->done;
}

/*
 * A flush has failed in this life, so the pool takes no more writes. What was under way then has an unknown fate until
 * the next open, whatever was said: the life ends here.
 */
static bool flush_failed(const struct world *w)
{
	struct pst_sim_stats stats;

	pst_sim_stats(w->sim, &stats);
	return stats.flush_errors > w->result->counters[C_FLUSH_ERRORS];
}

/* False: the test or the life is over. */
static bool wait_done(struct world *w, const char *what)
{
	if (!pst_sim_run_until(w->sim, is_done, w, LONG_NS))
		fail(w, "%s does not end", what);
	return !w->failed && !flush_failed(w);
}

/* ---- Requests ---- */

static void io_done(struct pst_io *io)
{
	struct op *op = pst_container_of(io, struct op, io);
	struct world *w = op->w;
	bool ok = io->err == PST_OK;
	char why[256] = "";

	if (!ok && io->err != PST_E_NOSPACE && io->err != PST_E_LOST && !w->corrupting && !flush_failed(w))
		fail(w, "volume %u: request kind %d lba %llu failed: %s", op->v->index, io->kind,
		     (unsigned long long)io->lba, pst_err_name(io->err));
	w->result->counters[C_NOSPACE] += io->err == PST_E_NOSPACE;
	w->result->counters[C_ERRORS] += !ok && io->err != PST_E_NOSPACE && io->err != PST_E_LOST;
	switch (io->kind) {
	case PST_IO_READ:
		if (!oracle_read_end(op->read, ok && !flush_failed(w) ? op->buf : NULL, why))
			fail(w, "volume %u: %s", op->v->index, why);
		break;
	case PST_IO_FLUSH:
		oracle_flush_end(op->flush, ok);
		op->v->said = op->v->said || ok || io->err == PST_E_LOST;
		if (io->err == PST_E_LOST) {
			w->result->counters[C_LOST]++;
			if (op->v->lost == NO)
				fail(w, "volume %u: a flush fails for loss, but there was none", op->v->index);
			op->v->lost = MAYBE; /* that it was said is durable only once the volume is closed */
		} else if (ok) {
			if (op->v->lost == YES)
				fail(w, "volume %u: the first flush after the loss of power succeeds", op->v->index);
		}
		break;
	default:
		oracle_write_end(op->v->oracle, io->lba, io->block_count, ok, (io->flags & PST_IO_FUA) != 0);
	}
	free(op->memory);
	op->memory = NULL;
	op->busy = false;
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

static void request(struct world *w, struct op *op)
{
	struct vol *v = &w->vols[below(w, VOLUMES)];
	unsigned what = (unsigned)below(w, 100);
	uint64_t lba, count;

	if (v->volume == NULL)
		return;
	*op = (struct op){ .w = w, .v = v };
	op->io.done = io_done;
	lba = below(w, v->blocks);
	count = chance(w, 60) ? 4 : IO_BLOCKS_MAX;
	count = 1 + below(w, PST_MIN(v->blocks - lba, count));
	if (what >= 85 && what < 97 && chance(w, 30))
		count = 1 + below(w, v->blocks - lba); /* a long discard */
	if (v->lost == YES || what >= 97) {
		op->io.kind = PST_IO_FLUSH;
		lba = count = 0;
		op->flush = oracle_flush_begin(v->oracle);
		w->result->counters[C_FLUSHES]++;
	} else if (what < 30) {
		op->io.kind = PST_IO_READ;
		op->read = oracle_read_begin(v->oracle, lba, count);
		buffers(op, count);
		w->result->counters[C_READS]++;
	} else {
		if (oracle_busy(v->oracle, lba, count))
			return;
		op->io.kind = what < 85 ? PST_IO_WRITE : what < 91 ? PST_IO_WRITE_ZEROES : PST_IO_DISCARD;
		op->io.flags = op->io.kind != PST_IO_DISCARD && chance(w, 10) ? PST_IO_FUA : 0;
		if (op->io.kind == PST_IO_WRITE)
			buffers(op, count);
		oracle_write_begin(v->oracle, lba, count, op->io.kind == PST_IO_WRITE ? op->buf : NULL);
		w->result->counters[C_WRITES]++;
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

static void ops_drain(struct world *w)
{
	if (!pst_sim_run_until(w->sim, ops_idle, w, LONG_NS))
		fail(w, "requests do not end");
}

/* What was under way when the process died: nobody will ever say how it ended. */
static void ops_forget(struct world *w)
{
	for (unsigned i = 0; i < OPS; i++) {
		struct op *op = &w->ops[i];

		if (!op->busy)
			continue;
		if (op->io.kind == PST_IO_READ)
			oracle_read_end(op->read, NULL, (char[256]){ 0 });
		else if (op->io.kind == PST_IO_FLUSH)
			oracle_flush_end(op->flush, false);
		else
			oracle_write_end(op->v->oracle, op->io.lba, op->io.block_count, false, false);
		op->busy = false;
	}
}

/* ---- Control operations, one at a time ---- */

static void pool_done(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->done = true;
}

static void pool_submit(struct world *w, enum pst_pool_op_kind kind, const struct vol *v, uint64_t blocks)
{
	w->done = false;
	w->pool_op = (struct pst_pool_op){ .kind = kind, .done = pool_done, .block_count = blocks };
	if (v != NULL)
		memcpy(w->pool_op.uuid, v->uuid, 16);
	pst_pool_submit(w->pool, &w->pool_op);
}

static void closed(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct world, close_op)->done = true;
}

/* A control operation begins; the life may end before it does. */
static bool maybe_cut(struct world *w)
{
	if (!chance(w, 4))
		return false;
	pst_sim_run_for(w->sim, below(w, 2 * 1000 * 1000));
	return !w->done;
}

static bool volume_create(struct world *w, struct vol *v)
{
	uint64_t blocks = 1 + below(w, w->max_blocks);

	v->incarnation++;
	memset(v->uuid, 0, 16);
	memcpy(v->uuid, &v->index, 4);
	memcpy(v->uuid + 4, &v->incarnation, 4);
	oracle_free(v->oracle);
	v->oracle = oracle_new(v->index + v->incarnation * VOLUMES, w->max_blocks);
	v->blocks = v->blocks_pending = blocks;
	v->lost = NO;
	v->exists = MAYBE;
	pool_submit(w, PST_POOL_VOLUME_CREATE, v, blocks);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "create"))
		return false;
	v->exists = w->pool_op.err == PST_OK ? YES : NO;
	if (w->pool_op.err != PST_OK && w->pool_op.err != PST_E_NOSPACE && !w->corrupting)
		fail(w, "create: %s", pst_err_name(w->pool_op.err));
	return true;
}

static bool volume_open(struct world *w, struct vol *v)
{
	bool was_maybe_lost = v->lost == MAYBE;

	pool_submit(w, PST_POOL_VOLUME_OPEN, v, 0);
	v->opened = true;
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "open of a volume"))
		return false;
	(void)was_maybe_lost;
	if (w->pool_op.err == PST_E_NOTFOUND && v->exists != YES) {
		v->exists = NO;
		v->opened = false;
		return true;
	}
	if (w->pool_op.err != PST_OK) {
		v->opened = false;
		if (!w->corrupting && w->pool_op.err != PST_E_NOSPACE)
			fail(w, "open of volume %u: %s", v->index, pst_err_name(w->pool_op.err));
		return true;
	}
	v->exists = YES;
	v->volume = w->pool_op.volume;
	v->said = false;
	if (v->volume->block_count != v->blocks && v->volume->block_count != v->blocks_pending)
		fail(w, "volume %u has %llu blocks, not %llu", v->index, (unsigned long long)v->volume->block_count,
		     (unsigned long long)v->blocks);
	v->blocks = v->blocks_pending = v->volume->block_count;
	return true;
}

static bool volume_close_(struct world *w, struct vol *v)
{
	w->done = false;
	w->close_op.done = closed;
	for (unsigned i = 0; i < OPS; i++)
		if (w->ops[i].busy && w->ops[i].v == v)
			ops_drain(w);
	if (w->failed)
		return false;
	pst_volume_close(v->volume, &w->close_op);
	v->volume = NULL;
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "close of a volume"))
		return false;
	v->opened = false;
	v->lost = v->said ? NO : v->lost;
	return true;
}

static bool volume_delete(struct world *w, struct vol *v)
{
	w->result->counters[C_DELETES]++;
	v->exists = MAYBE;
	pool_submit(w, PST_POOL_VOLUME_DELETE, v, 0);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "delete"))
		return false;
	if (w->pool_op.err == PST_OK)
		v->exists = NO;
	else if (!w->corrupting && w->pool_op.err != PST_E_NOSPACE)
		fail(w, "delete: %s", pst_err_name(w->pool_op.err));
	return true;
}

static bool volume_resize(struct world *w, struct vol *v)
{
	w->result->counters[C_RESIZES]++;
	v->blocks_pending = 1 + below(w, w->max_blocks);
	if (v->blocks_pending < v->blocks)
		ops_drain(w); /* so that no write of ours lies beyond the end */
	pool_submit(w, PST_POOL_VOLUME_RESIZE, v, v->blocks_pending);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "resize"))
		return false;
	if (w->pool_op.err == PST_OK)
		v->blocks = v->blocks_pending;
	else if (w->pool_op.err != PST_E_BUSY && w->pool_op.err != PST_E_NOSPACE && !w->corrupting)
		fail(w, "resize: %s", pst_err_name(w->pool_op.err));
	v->blocks_pending = v->blocks;
	return true;
}

static bool record_put(struct world *w)
{
	unsigned k = (unsigned)below(w, KEYS);
	static unsigned value;

	snprintf(w->key_buf[k], sizeof(w->key_buf[k]), "key-%u", k);
	value = ++w->value;
	w->keys_pending[k] = value;
	w->done = false;
	w->pool_op = (struct pst_pool_op){ .kind = PST_POOL_RECORD_PUT,
					   .done = pool_done,
					   .key = w->key_buf[k],
					   .value = &value,
					   .value_bytes = sizeof(value) };
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "put"))
		return false;
	if (w->pool_op.err == PST_OK)
		w->keys[k] = value;
	else if (!w->corrupting && w->pool_op.err != PST_E_NOSPACE)
		fail(w, "put: %s", pst_err_name(w->pool_op.err));
	return true;
}

static void record_seen(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	struct world *w = ctx;
	unsigned k = (unsigned)(key[4] - '0'), is;

	if (value_bytes != sizeof(is) || k >= KEYS) {
		fail(w, "a record that nobody wrote: %s", key);
		return;
	}
	memcpy(&is, value, sizeof(is));
	if (is != w->keys[k] && is != w->keys_pending[k])
		fail(w, "record %s is %u, not %u or %u", key, is, w->keys[k], w->keys_pending[k]);
	w->keys[k] = w->keys_pending[k] = is;
}

/* False: the life ends here, in the middle of something. */
static bool control(struct world *w)
{
	struct vol *v = &w->vols[below(w, VOLUMES)];

	if (chance(w, 30))
		return record_put(w);
	if (v->exists == NO)
		return volume_create(w, v);
	if (v->volume == NULL)
		return chance(w, 25) ? volume_delete(w, v) : volume_open(w, v);
	return chance(w, 60) ? volume_resize(w, v) : volume_close_(w, v);
}

/* ---- Lives ---- */

static void store_done(struct pst_store_op *op)
{
	pst_container_of(op, struct world, store_op)->done = true;
}

static bool pool_open(struct world *w)
{
	struct pst_store_config config = { .metadata_cache_bytes = chance(w, 50) ? 0 : 300 * 1024,
					   .io_depth_max = 1 + (uint32_t)below(w, 8) };

	w->env = pst_sim_env_new(w->node, 0);
	w->done = false;
	w->store_op = (struct pst_store_op){ .done = store_done };
	pst_store_open(w->env, PATH, &config, &w->store_op);
	if (chance(w, 3)) {
		pst_sim_run_for(w->sim, below(w, 10 * 1000 * 1000));
		if (!w->done)
			return false;
	}
	if (!wait_done(w, "open of the pool"))
		return false;
	if (w->store_op.err != PST_OK) {
		if (!w->corrupting)
			fail(w, "open of the pool: %s: %s", pst_err_name(w->store_op.err), w->store_op.detail);
		return false;
	}
	w->pool = w->store_op.pool;
	pst_pool_records(w->pool, "", record_seen, w);
	for (unsigned i = 0; i < VOLUMES; i++)
		w->vols[i].opened = false; /* recovery is done: what was written before is durable */
	for (unsigned i = 0; i < VOLUMES && !w->failed; i++)
		if (w->vols[i].exists != NO && !volume_open(w, &w->vols[i]))
			return false;
	return !w->failed;
}

static bool image_read(void *ctx, uint64_t block, void *buf)
{
	struct world *w = ctx;

	return pst_sim_disk_peek(w->node, PATH, block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

/* Reads every block of every volume that is open: the oracle judges. */
static void verify(struct world *w)
{
	for (unsigned i = 0; i < VOLUMES; i++) {
		struct vol *v = &w->vols[i];

		for (uint64_t lba = 0; v->volume != NULL && lba < v->blocks && !w->failed; lba += IO_BLOCKS_MAX) {
			struct op *op = &w->ops[0];
			uint64_t count = PST_MIN(v->blocks - lba, IO_BLOCKS_MAX);

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
}

/*
 * Bits rot in blocks of a closed pool. Errors are fair from now on, wrong data is not. (Rot in what recovery must read
 * to tell old from new, the log, is out of scope: docs/fault-model.md.)
 */
static void rot(struct world *w)
{
	uint64_t blocks = pst_sim_disk_size(w->node, PATH) / PST_BLOCK_BYTES;

	w->corrupting = true;
	for (unsigned i = 0; i < 12; i++) {
		uint64_t offset =
		    (blocks / 10 + below(w, blocks * 9 / 10 - 1)) * PST_BLOCK_BYTES + below(w, PST_BLOCK_BYTES);
		uint8_t byte;

		if (!pst_sim_disk_peek(w->node, PATH, offset, &byte, 1))
			continue;
		byte ^= (uint8_t)(1u << below(w, 8));
		pst_sim_disk_poke(w->node, PATH, offset, &byte, 1);
		w->result->counters[C_ROT]++;
	}
}

/* At the end of a life: if a flush has failed, what was not flushed may be gone, and every volume may say so. */
static void flush_errors(struct world *w)
{
	struct pst_sim_stats stats;
	bool failed = flush_failed(w);

	pst_sim_stats(w->sim, &stats);
	w->result->counters[C_FLUSH_ERRORS] = stats.flush_errors;
	for (unsigned i = 0; i < VOLUMES && failed; i++) {
		w->vols[i].lost = PST_MAX(w->vols[i].lost, MAYBE);
		if (w->vols[i].oracle != NULL)
			oracle_power_loss(w->vols[i].oracle);
	}
}

static void close_all(struct world *w)
{
	char why[256];

	w->result->counters[C_CLOSES]++;
	ops_drain(w);
	for (unsigned i = 0; i < VOLUMES && !w->failed; i++) {
		struct vol *v = &w->vols[i];

		if (v->volume == NULL)
			continue;
		w->done = false;
		w->close_op.done = closed;
		pst_volume_close(v->volume, &w->close_op);
		v->volume = NULL;
		v->opened = !wait_done(w, "close of a volume");
		v->lost = v->said ? NO : v->lost;
	}
	if (w->failed)
		return;
	pool_submit(w, PST_POOL_CLOSE, NULL, 0);
	if (wait_done(w, "close of the pool") && !pool_image_check(image_read, w, why) && !w->corrupting)
		fail(w, "%s", why);
	flush_errors(w);
	if (!w->failed && w->rots && chance(w, 50))
		rot(w);
}

/* After every death: what a crash leaves is no finding. @boot_id: NULL after the loss of power. */
static void check(struct world *w, const char *boot_id)
{
	char why[512];

	if (w->failed || w->corrupting)
		return;
	w->result->counters[C_CHECKS]++;
	if (!check_image(image_read, w, pst_sim_disk_size(w->node, PATH) / PST_BLOCK_BYTES, boot_id, why))
		fail(w, "%s", why);
}

static void end_life(struct world *w)
{
	char boot_id[37];

	bool power = chance(w, 50);

	/* The store notes a failed flush before it tells. A death before that is out of scope (docs/fault-model.md). */
	if (flush_failed(w))
		pst_sim_run_for(w->sim, LONG_NS);
	for (unsigned i = 0; i < VOLUMES; i++) {
		struct vol *v = &w->vols[i];

		if (power && v->opened)
			v->lost = v->volume != NULL && v->lost != MAYBE ? YES : PST_MAX(v->lost, MAYBE);
		v->volume = NULL;
	}
	ops_forget(w);
	flush_errors(w);
	w->result->counters[power ? C_POWER : C_KILLS]++;
	pst_env_boot_id(w->env, boot_id);
	if (!power) {
		pst_sim_kill(w->node);
		check(w, boot_id);
		return;
	}
	pst_sim_power_off(w->node);
	for (unsigned i = 0; i < VOLUMES; i++)
		if (w->vols[i].oracle != NULL)
			oracle_power_loss(w->vols[i].oracle);
	check(w, NULL);
	pst_sim_power_on(w->node);
}

static void live(struct world *w)
{
	unsigned steps = (unsigned)below(w, 200);

	w->result->counters[C_LIVES]++;
	if (!pool_open(w)) {
		if (!w->failed)
			end_life(w);
		return;
	}
	verify(w);
	for (unsigned i = 0; i < steps && !w->failed && !flush_failed(w); i++) {
		struct op *op = &w->ops[below(w, OPS)];

		if (chance(w, 6)) {
			if (!control(w)) {
				if (!w->failed)
					end_life(w);
				return;
			}
		} else if (!op->busy) {
			request(w, op);
		}
		if (chance(w, 50))
			pst_sim_run_for(w->sim, below(w, 300 * 1000));
	}
	if (w->failed)
		return;
	if (chance(w, 30) && !flush_failed(w))
		close_all(w);
	else
		end_life(w);
}

static bool format(struct world *w)
{
	struct pst_store_format_config config = { .size_bytes = (500 + below(w, 900)) * PST_BLOCK_BYTES,
						  .partition_count = w->rots ? 1 : 1 + (uint32_t)below(w, 2) };

	w->env = pst_sim_env_new(w->node, 0);
	w->done = false;
	w->store_op = (struct pst_store_op){ .done = store_done };
	pst_store_format(w->env, PATH, &config, &w->store_op);
	if (wait_done(w, "format") && w->store_op.err != PST_OK)
		fail(w, "format: %s: %s", pst_err_name(w->store_op.err), w->store_op.detail);
	return !w->failed;
}

static bool run_seed(uint64_t seed, FILE *trace, struct seed_result *ret_result)
{
	struct world *w = calloc(1, sizeof(*w));
	struct pst_sim_faults faults;
	unsigned lives;
	bool ok;

	w->sim = pst_sim_new(seed);
	pst_sim_set_trace(w->sim, trace);
	w->result = ret_result;
	w->node = pst_sim_node_new(w->sim, "node");
	w->max_blocks = 16 + below(w, chance(w, 50) ? 200 : 1500);
	for (unsigned i = 0; i < VOLUMES; i++)
		w->vols[i].index = i;
	lives = 3 + (unsigned)below(w, 8);
	w->rots = chance(w, 15);
	if (format(w)) {
		pst_sim_kill(w->node);
		pst_sim_faults_swarm(w->sim, PST_SIM_DISK_TIMING | PST_SIM_DISK_TEARS, &faults);
		if (!w->rots && chance(w, 20)) {
			faults.disk_write_error_ppm = 1 + (uint32_t)below(w, 20000);
			w->corrupting = true;
		} else if (!w->rots && chance(w, 20)) {
			faults.disk_flush_error_ppm = 1 + (uint32_t)below(w, 100000);
		}
		pst_sim_set_faults(w->sim, NULL, &faults);
		for (unsigned i = 0; i < lives && !w->failed; i++)
			live(w);
	}
	ret_result->trace_hash = pst_sim_trace_hash(w->sim);
	ok = !w->failed;
	return ok;
}

int main(int argc, char **argv)
{
	return seeds_main(argc, argv, run_seed, counter_names);
}
