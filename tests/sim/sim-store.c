/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store under simulated crashes. One seed is a tiny pool with volumes, snapshots and clones that lives several
 * lives: each opens the pool, runs random requests (some at once) and operations, and ends by an orderly close, the
 * death of the process, or the loss of power with any part of the unflushed writes. The oracle knows what every block
 * of every version may hold. Whenever the pool is closed or has just recovered, its image is checked: what is allocated
 * is what is reached, and what versions are charged for adds up. Pools are so small that the log wraps, checkpoints
 * come often, and the pool is full from time to time. At the end of some seeds everything is deleted, and the pool must
 * be as empty as it was.
 *
 * A seed has at most one kind of fault beside crashes (faults_choose): failing writes or flushes: errors are fair then,
 * wrong data is not; a life in which a flush failed ends for its data as with the loss of power. Rot while the pool is
 * closed: errors only. Lying flushes, and writes and reads that go wrong without a word: from the next crash on
 * anything old may come back (lenient), but never a torn block, or one of another place or family.
 */
#include "sim-store.h"

#include "check-image.h"
#include "pool-image.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const counter_names[] = { "lives",        "writes", "reads",     "flushes",        "full",
					     "power losses", "kills",  "closes",    "lost",           "deletes",
					     "resizes",      "errors", "rotten",    "failed flushes", "lying flushes",
					     "snapshots",    "clones", "rollbacks", "differences",    "images",
					     "emptied",      "checks", "growths",   "tasks",          NULL };

void fail(struct world *w, const char *fmt, ...)
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

uint64_t below(struct world *w, uint64_t bound)
{
	return pst_sim_rand_below(w->sim, bound);
}

bool chance(struct world *w, unsigned percent)
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
bool flush_failed(const struct world *w)
{
	struct pst_sim_stats stats;

	pst_sim_stats(w->sim, &stats);
	return stats.flush_errors > w->result->counters[C_FLUSH_ERRORS];
}

/* False: the test or the life is over. */
bool wait_done(struct world *w, const char *what)
{
	if (!pst_sim_run_until(w->sim, is_done, w, LONG_NS))
		fail(w, "%s does not end", what);
	return !w->failed && !flush_failed(w);
}

/* ---- Lives ---- */

static void store_done(struct pst_store_op *op)
{
	pst_container_of(op, struct world, store_op)->done = true;
}

static bool image_read(void *ctx, uint64_t block, void *buf)
{
	struct world *w = ctx;

	return pst_sim_disk_peek(w->node, PATH, block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

/*
 * The image of the pool must be whole and its space exact. The other reader knows nothing of regions, nor of the log:
 * it is for a closed pool only. Just after an open, work in the background may have filled what it freed already.
 */
static void image_check(struct world *w, bool closed)
{
	char why[512], boot_id[37];

	if (w->corrupting || w->failed)
		return;
	w->result->counters[C_IMAGES]++;
	if (w->grows || !closed) {
		pst_env_boot_id(w->env, boot_id);
		if (!check_image(space_image_read, w, DEVICES, pst_sim_disk_size(w->node, PATH) / PST_BLOCK_BYTES,
				 boot_id, why))
			fail(w, "%s", why);
		return;
	}
	if (!pool_image_check(image_read, w, why))
		fail(w, "%s", why);
}

/* Of what surely exists some snapshots stay closed; what is unsure is found out. */
static bool volumes_open(struct world *w)
{
	for (unsigned i = 0; i < VERSIONS && !w->failed; i++) {
		struct vol *v = &w->vols[i];

		if (v->exists == NO || (v->exists == YES && v->snapshot && chance(w, 60)))
			continue;
		if (!volume_open(w, v))
			return false;
	}
	return !w->failed;
}

static void on_event(void *ctx, enum pst_log_level level, const char *text)
{
	struct world *w = ctx;

	(void)level;
	w->stopped = w->stopped || strstr(text, "takes no more writes") != NULL;
}

static bool pool_open(struct world *w)
{
	struct pst_store_config config = { .metadata_cache_bytes = chance(w, 50) ? 0 : 300 * 1024,
					   .io_depth_max = 1 + (uint32_t)below(w, 8),
					   .on_event = on_event,
					   .event_ctx = w };

	if (chance(w, 50)) /* flushes that nobody asked for */
		config.unflushed_bytes_max = PST_BLOCK_BYTES << below(w, 8);

	w->growth_failed = w->stopped = false;
	w->env = pst_sim_env_new(w->node, 0);
	w->done = false;
	w->store_op = (struct pst_store_op){ .done = store_done };
	pst_store_open(w->env, PATH, &config, &w->store_op);
	if (!w->calm && chance(w, 3)) {
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
	for (unsigned i = 0; i < VERSIONS; i++)
		w->vols[i].opened = false; /* recovery is done: what was written before is durable */
	image_check(w, false);
	if (!w->failed)
		space_seen(w);
	return !w->failed && volumes_open(w);
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

/*
 * At the end of a life: if a flush has failed, what was not flushed may be gone, and every volume may say so. A pool
 * that has stopped for another reason could not note that failed writes never were.
 */
static void stop_seen(struct world *w)
{
	struct pst_sim_stats stats;
	bool failed = flush_failed(w);

	pst_sim_stats(w->sim, &stats);
	w->result->counters[C_FLUSH_ERRORS] = stats.flush_errors;
	for (unsigned i = 0; i < VERSIONS && w->stopped; i++)
		if (w->vols[i].oracle != NULL)
			oracle_stopped(w->vols[i].oracle);
	for (unsigned i = 0; i < VERSIONS && failed; i++) {
		w->vols[i].lost = PST_MAX(w->vols[i].lost, MAYBE);
		if (w->vols[i].oracle != NULL)
			oracle_power_loss(w->vols[i].oracle);
	}
}

/* From here on anything that was ever there may be there again. */
static void grow_lenient(struct world *w)
{
	w->lenient = w->corrupting = true;
	for (unsigned i = 0; i < VERSIONS; i++) {
		struct vol *v = &w->vols[i];

		if (v->exists == NO)
			continue;
		v->exists = v->lost = MAYBE;
		oracle_be_lenient(v->oracle, w->strikes);
	}
}

static void close_all(struct world *w)
{
	bool calm = w->calm;

	w->calm = true;
	w->result->counters[C_CLOSES]++;
	ops_drain(w);
	for (unsigned i = 0; i < VERSIONS && !w->failed; i++)
		if (w->vols[i].volume != NULL)
			(void)volume_close(w, &w->vols[i]); /* false: a flush has failed, and the rest goes too */
	w->calm = calm;
	if (w->failed)
		return;
	pool_submit(w, PST_POOL_CLOSE, NULL, 0);
	if (wait_done(w, "close of the pool"))
		image_check(w, true);
	stop_seen(w);
	if (w->strikes)
		grow_lenient(w);
	if (!w->failed && w->rots && chance(w, 50))
		rot(w);
}

static bool has_lied(struct world *w)
{
	struct pst_sim_stats stats;

	pst_sim_stats(w->sim, &stats);
	w->result->counters[C_LIES] = stats.flush_lies;
	return stats.flush_lies > 0;
}

/* After every death: what a crash leaves is no finding. @boot_id: NULL after the loss of power. */
static void check(struct world *w, const char *boot_id)
{
	char why[512];

	if (w->failed || w->corrupting)
		return;
	w->result->counters[C_CHECKS]++;
	if (!check_image(space_image_read, w, DEVICES, pst_sim_disk_size(w->node, PATH) / PST_BLOCK_BYTES, boot_id,
			 why))
		fail(w, "%s", why);
}

static void end_life(struct world *w)
{
	bool power = chance(w, 50);
	char boot_id[37];

	/* The store notes a failed flush before it tells. A death before that is out of scope (docs/fault-model.md). */
	if (flush_failed(w))
		pst_sim_run_for(w->sim, LONG_NS);
	for (unsigned i = 0; i < VERSIONS; i++) {
		struct vol *v = &w->vols[i];

		if (power && v->opened)
			v->lost = v->volume != NULL && v->lost != MAYBE ? YES : PST_MAX(v->lost, MAYBE);
		v->volume = NULL;
	}
	ops_forget(w);
	snapshots_end(w, power || w->stopped || flush_failed(w));
	stop_seen(w);
	if (w->strikes || (power && has_lied(w)))
		grow_lenient(w);
	w->result->counters[power ? C_POWER : C_KILLS]++;
	pst_env_boot_id(w->env, boot_id);
	if (!power) {
		pst_sim_kill(w->node);
		check(w, boot_id);
		return;
	}
	pst_sim_power_off(w->node);
	for (unsigned i = 0; i < VERSIONS; i++)
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
	for (unsigned i = 0; i < VERSIONS && !w->failed; i++)
		verify(w, &w->vols[i]);
	for (unsigned i = 0; i < steps && !w->failed && !flush_failed(w); i++) {
		struct op *op = &w->ops[below(w, OPS)];

		if (chance(w, 8)) {
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

static void faults_choose(struct world *w)
{
	unsigned kind = w->rots ? 0 : (unsigned)below(w, 100);
	struct pst_sim_faults faults;

	pst_sim_faults_swarm(w->sim, PST_SIM_DISK_TIMING | PST_SIM_DISK_TEARS, &faults);
	if (kind >= 85) {
		faults.disk_write_error_ppm = 1 + (uint32_t)below(w, 20000);
		w->writes_fail = w->corrupting = true;
	} else if (kind >= 70) {
		faults.disk_flush_error_ppm = 1 + (uint32_t)below(w, 100000);
	} else if (kind >= 62) {
		faults.disk_flush_lie_ppm = 1 + (uint32_t)below(w, 1000000);
	} else if (kind >= 54) {
		uint32_t *strikes[] = { &faults.disk_latent_ppm, &faults.disk_rot_ppm, &faults.disk_lost_ppm,
					&faults.disk_misdirect_ppm, &faults.disk_misread_ppm };

		for (unsigned i = 0; i < PST_ARRAY_COUNT(strikes); i++)
			*strikes[i] = chance(w, 40) ? 1 + (uint32_t)below(w, 5000) : 0;
		w->strikes = w->corrupting = true;
	}
	pst_sim_set_faults(w->sim, NULL, &faults);
}

static bool is_empty(void *ctx)
{
	struct world *w = ctx;
	struct pst_pool_stats stats;

	pst_pool_stats(w->pool, &stats);
	return stats.used_bytes == w->empty_used_bytes;
}

/* The faults are over, everything is deleted: the pool is as empty as it was at its beginning. */
static void empty_pool(struct world *w)
{
	pst_sim_heal(w->sim);
	if (!pool_open(w))
		return;
	w->result->counters[C_EMPTIED]++;
	for (unsigned i = 0; i < VERSIONS && !w->failed; i++) {
		struct vol *v = &w->vols[i];

		if (v->volume != NULL && !volume_close(w, v))
			return;
	}
	for (uint64_t from = below(w, VERSIONS), i = 0; i < VERSIONS && !w->failed; i++) {
		struct vol *v = &w->vols[(from + i) % VERSIONS];

		if (v->exists != NO && !volume_delete(w, v))
			return;
		if (v->exists != NO)
			fail(w, "volume %x can't be deleted", v->id);
	}
	if (w->failed)
		return;
	pool_prepare(w, PST_POOL_TASK_START, NULL, 0); /* at the rate that it was given last it may take hours */
	w->pool_op.task = PST_TASK_DELETE;
	pst_pool_submit(w->pool, &w->pool_op);
	if (wait_done(w, "deletion without a rate") && pst_sim_run_until(w->sim, is_empty, w, LONG_NS))
		pst_sim_run_for(w->sim, 1000 * 1000 * 1000); /* and it stays so */
	if (!w->failed && !is_empty(w)) {
		struct pst_pool_stats stats;

		pst_pool_stats(w->pool, &stats);
		fail(w, "everything is deleted, and %llu bytes are in use; an empty pool uses %llu",
		     (unsigned long long)stats.used_bytes, (unsigned long long)w->empty_used_bytes);
	}
	if (!w->failed)
		close_all(w);
}

static void lives(struct world *w)
{
	unsigned count = 3 + (unsigned)below(w, 8);
	struct pst_pool_stats stats;

	w->rots = chance(w, 15);
	w->versions = chance(w, 80);
	if (!format(w))
		return;
	pst_sim_kill(w->node);
	w->calm = true;
	for (unsigned i = 0; i < 2 && pool_open(w); i++) { /* the first time each partition gets its first nodes */
		pst_pool_stats(w->pool, &stats);
		w->empty_used_bytes = stats.used_bytes;
		end_life(w);
	}
	w->calm = false;
	faults_choose(w);
	for (unsigned i = 0; i < count && !w->failed; i++)
		live(w);
	w->calm = true;
	if (!w->failed && !w->corrupting && chance(w, 40))
		empty_pool(w);
}

static bool run_seed(uint64_t seed, FILE *trace, struct seed_result *ret_result)
{
	struct world *w = calloc(1, sizeof(*w));

	w->sim = pst_sim_new(seed);
	pst_sim_set_trace(w->sim, trace);
	w->result = ret_result;
	w->node = pst_sim_node_new(w->sim, "node");
	w->grows = seed % 3 == 0;
	w->max_blocks = 16 + below(w, chance(w, 50) ? 200 : 1500);
	lives(w);
	ret_result->trace_hash = pst_sim_trace_hash(w->sim);
	return !w->failed;
}

int main(int argc, char **argv)
{
	return seeds_main(argc, argv, run_seed, counter_names);
}
