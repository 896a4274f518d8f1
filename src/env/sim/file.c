/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File operations on simulated disks. An operation is started when fewer than file_depth are in flight, takes effect
 * (transfer) at a random moment of its life and completes at a later one; both are events. So reads see, or do not see,
 * writes that are still in flight, and a write may have happened without its completion ever being delivered.
 */
#include "base/crc32c.h"
#include "env/sim/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct pst_file {
	struct pst_list all_node, live_node;
	struct pst_env *env;
	struct sim_disk *disk;
	unsigned flags;
	uint32_t inflight;
};

struct sim_file_op {
	struct pst_list node; /* env->file_ops */
	struct pst_timer event;
	struct pst_file *file;
	struct pst_file_op *op;
	struct sim_write *write; /* once applied */
	uint64_t covers;         /* flush */
	uint64_t done_after_ns;
	bool counted; /* in flight, as opposed to refused at once */
	bool applied;
	pst_err err;
};

pst_err pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file)
{
	struct sim_disk *disk = sim_disk_find(env->node, path);
	struct pst_file *file;

	/* There are no directories here; a path below one called "nodir" stands for a missing one. */
	if (!disk && (!(flags & PST_FILE_CREATE) || strstr(path, "nodir/")))
		return PST_E_NOTFOUND;
	if (!disk)
		disk = sim_disk_new(env->node, path);
	if ((flags & PST_FILE_EXCLUSIVE) && disk->locked)
		return PST_E_LOCKED;
	if (flags & PST_FILE_EXCLUSIVE)
		disk->locked = true;
	disk->opens++;
	file = sim_alloc(sizeof(*file));
	file->env = env;
	file->disk = disk;
	file->flags = flags;
	pst_list_push_back(&env->sim->files, &file->all_node);
	pst_list_push_back(&env->live_files, &file->live_node);
	sim_trace(env->sim, env, "file_open", flags, disk->size_bytes, 0);
	*ret_file = file;
	return PST_OK;
}

void pst_file_info(struct pst_file *file, struct pst_file_info *ret_info)
{
	*ret_info = (struct pst_file_info){
		.size_bytes = file->disk->size_bytes,
		.align_bytes = file->flags & PST_FILE_DIRECT ? PST_SIM_SECTOR_BYTES : 1,
		.direct = file->flags & PST_FILE_DIRECT,
		.can_discard = true,
	};
}

pst_err pst_file_truncate(struct pst_file *file, uint64_t size_bytes)
{
	if (file->flags & PST_FILE_READONLY)
		return PST_E_DENIED;
	if (size_bytes > (uint64_t)1 << 42)
		return PST_E_NOSPACE;
	sim_disk_resize(file->disk, size_bytes);
	return PST_OK;
}

static void file_detach(struct pst_file *file)
{
	file->disk->opens--;
	if (file->flags & PST_FILE_EXCLUSIVE)
		file->disk->locked = false;
	pst_list_remove(&file->live_node);
}

void pst_file_close(struct pst_file *file)
{
	pst_assert(file->inflight == 0);
	sim_trace(file->env->sim, file->env, "file_close", 0, 0, 0);
	file_detach(file);
}

/* ---- Taking effect ---- */

static uint8_t *file_gather(const struct pst_file_op *op)
{
	uint8_t *data = sim_alloc(op->len_bytes ? op->len_bytes : 1);
	size_t at = 0;

	for (uint32_t i = 0; i < op->iov_count; i++) {
		memcpy(data + at, op->iov[i].iov_base, op->iov[i].iov_len);
		at += op->iov[i].iov_len;
	}
	return data;
}

static void file_scatter(const struct pst_file_op *op, const uint8_t *data)
{
	for (uint32_t i = 0; i < op->iov_count; i++) {
		memcpy(op->iov[i].iov_base, data, op->iov[i].iov_len);
		data += op->iov[i].iov_len;
	}
}

/* Silent faults strike only where the test allows them. */
static bool file_strikes(struct sim_file_op *f, uint32_t ppm)
{
	const struct pst_sim_faults *faults = &f->file->env->node->faults;
	uint64_t offset = f->op->offset_bytes;

	if (faults->disk_corrupt_to && (offset < faults->disk_corrupt_from || offset >= faults->disk_corrupt_to))
		return false;
	return pst_sim_chance(f->file->env->sim, ppm);
}

/* Another place of the same length on this disk. */
static uint64_t file_elsewhere(struct sim_file_op *f)
{
	struct sim_disk *disk = f->file->disk;
	uint64_t places = (disk->size_bytes - f->op->len_bytes) / 4096 + 1;

	return pst_sim_rand_below(f->file->env->sim, places) * 4096;
}

static void file_apply_read(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;
	const struct pst_sim_faults *faults = &env->node->faults;
	uint64_t offset = f->op->offset_bytes;
	uint8_t *data = sim_alloc(f->op->len_bytes);

	env->sim->stats.reads++;
	if (file_strikes(f, faults->disk_misread_ppm)) {
		offset = file_elsewhere(f);
		env->sim->stats.misdirected++;
	}
	if (pst_sim_chance(env->sim, faults->disk_read_error_ppm) ||
	    !sim_disk_read(f->file->disk, offset, data, f->op->len_bytes))
		f->err = PST_E_IO;
	else
		file_scatter(f->op, data);
	sim_trace(env->sim, env, "disk_read", offset, f->op->len_bytes,
		  f->err ? f->err : pst_crc32c(data, f->op->len_bytes));
	free(data);
}

static void file_apply_write(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;
	const struct pst_sim_faults *faults = &env->node->faults;
	struct pst_sim_stats *stats = &env->sim->stats;
	uint64_t offset = f->op->offset_bytes, len = f->op->len_bytes;
	uint8_t *data = file_gather(f->op);

	stats->writes++;
	sim_trace(env->sim, env, "disk_write", offset, len, pst_crc32c(data, len));
	if (pst_sim_chance(env->sim, faults->disk_write_error_ppm)) {
		f->err = PST_E_IO;
		sim_disk_write_partly(f->file->disk, offset, data, len);
		free(data);
		return;
	}
	if (file_strikes(f, faults->disk_lost_ppm)) {
		stats->lost++;
		free(data);
		return;
	}
	if (file_strikes(f, faults->disk_misdirect_ppm)) {
		stats->misdirected++;
		offset = file_elsewhere(f);
	}
	if (file_strikes(f, faults->disk_rot_ppm)) {
		stats->rotten++;
		data[pst_sim_rand_below(env->sim, len)] ^= (uint8_t)(1u << pst_sim_rand_below(env->sim, 8));
	}
	f->write = sim_disk_write(f->file->disk, offset, data, len);
	if (file_strikes(f, faults->disk_latent_ppm)) {
		stats->latent++;
		sim_disk_damage(f->file->disk, offset + pst_sim_rand_below(env->sim, len), 1);
	}
	free(data);
}

static void file_apply_zeroes(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;
	uint64_t offset = f->op->offset_bytes, len = f->op->len_bytes;
	bool garbage = f->op->kind == PST_FILE_DISCARD && env->node->faults.disk_discard_garbage && len <= 1u << 22;
	uint8_t *data = garbage ? sim_alloc(len) : NULL;

	sim_trace(env->sim, env, f->op->kind == PST_FILE_DISCARD ? "disk_discard" : "disk_zero", offset, len, 0);
	if (data)
		memset(data, (int)(0xd0 + pst_sim_rand_below(env->sim, 16)), len);
	/* A discard is a hint: it may also leave all as it is. */
	if (f->op->kind == PST_FILE_WRITE_ZEROES || pst_sim_rand_below(env->sim, 4))
		f->write = sim_disk_write(f->file->disk, offset, data, len);
	free(data);
}

static void file_apply_flush(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;

	env->sim->stats.flushes++;
	if (pst_sim_chance(env->sim, env->node->faults.disk_flush_error_ppm)) {
		f->err = PST_E_IO;
		env->sim->stats.flush_errors++;
		sim_disk_flush_failed(f->file->disk, f->covers);
	} else if (pst_sim_chance(env->sim, env->node->faults.disk_flush_lie_ppm)) {
		env->sim->stats.flush_lies++;
	} else {
		sim_disk_flush(f->file->disk, f->covers);
	}
	sim_trace(env->sim, env, "disk_flush", f->covers, 0, f->err);
}

static void file_apply(struct sim_file_op *f)
{
	f->applied = true;
	switch (f->op->kind) {
	case PST_FILE_READ:
		file_apply_read(f);
		break;
	case PST_FILE_WRITE:
		file_apply_write(f);
		break;
	case PST_FILE_FLUSH:
		file_apply_flush(f);
		break;
	case PST_FILE_DISCARD:
	case PST_FILE_WRITE_ZEROES:
		file_apply_zeroes(f);
		break;
	}
}

/* ---- Life of an operation ---- */

static void file_start(struct sim_file_op *f);

static void file_complete(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;
	struct pst_file_op *op = f->op;

	if (f->write)
		sim_disk_write_done(f->file->disk, f->write);
	if (f->counted) {
		struct pst_list *next = pst_list_pop_front(&env->file_waiting);

		f->file->inflight--;
		env->files_inflight--;
		if (next) {
			env->files_inflight++;
			file_start(pst_container_of(next, struct sim_file_op, node));
		}
	}
	pst_list_remove(&f->node);
	op->err = f->err;
	free(f);
	sim_enter(env);
	op->done(op);
	sim_leave(env);
}

static void file_on_event(struct pst_timer *event)
{
	struct sim_file_op *f = pst_container_of(event, struct sim_file_op, event);

	if (f->counted && !f->applied) {
		file_apply(f);
		sim_arm(f->file->env->sim, &f->event, f->done_after_ns);
		return;
	}
	file_complete(f);
}

static uint64_t file_latency(struct sim_file_op *f)
{
	struct pst_sim *sim = f->file->env->sim;
	struct sim_disk *disk = f->file->disk;
	const struct pst_sim_faults *faults = &f->file->env->node->faults;
	uint64_t ns = faults->disk_ns_max ? sim_between(sim, faults->disk_ns_min, faults->disk_ns_max)
					  : sim_between(sim, 20000, 200000);

	if (pst_sim_chance(sim, faults->disk_slow_ppm))
		ns += pst_sim_rand_below(sim, faults->disk_slow_ns_max + 1);
	if (pst_sim_chance(sim, faults->disk_stall_ppm)) {
		sim->stats.stalls++;
		disk->stalled_until_ns = sim->now_ns + pst_sim_rand_below(sim, faults->disk_stall_ns_max + 1);
	}
	if (disk->stalled_until_ns > sim->now_ns)
		ns += disk->stalled_until_ns - sim->now_ns;
	return ns;
}

static void file_start(struct sim_file_op *f)
{
	struct pst_env *env = f->file->env;
	uint64_t ns = file_latency(f), apply_ns = sim_between(env->sim, ns / 4, ns);

	pst_list_push_back(&env->file_ops, &f->node);
	f->done_after_ns = ns - apply_ns;
	sim_arm(env->sim, &f->event, apply_ns);
}

static void file_check(const struct pst_file *file, const struct pst_file_op *op)
{
	bool transfers = op->kind == PST_FILE_READ || op->kind == PST_FILE_WRITE;
	uint64_t sum = 0, bits = op->offset_bytes | op->len_bytes;

	pst_assert(transfers ? op->iov_count >= 1 && op->iov_count <= 64 : op->iov_count == 0);
	for (uint32_t i = 0; i < op->iov_count; i++) {
		sum += op->iov[i].iov_len;
		bits |= (uintptr_t)op->iov[i].iov_base | op->iov[i].iov_len;
	}
	pst_assert(!transfers || sum == op->len_bytes);
	pst_assert(op->kind == PST_FILE_FLUSH || !(file->flags & PST_FILE_DIRECT) ||
		   (bits & (PST_SIM_SECTOR_BYTES - 1)) == 0);
}

static pst_err file_refuse(const struct pst_file *file, const struct pst_file_op *op)
{
	if (op->kind == PST_FILE_FLUSH)
		return PST_OK;
	if (op->kind != PST_FILE_READ && (file->flags & PST_FILE_READONLY))
		return PST_E_DENIED;
	return pst_range_ok(op->offset_bytes, op->len_bytes, file->disk->size_bytes) ? PST_OK : PST_E_RANGE;
}

void pst_file_submit(struct pst_file *file, struct pst_file_op *op)
{
	struct pst_env *env = file->env;
	struct sim_file_op *f = sim_alloc(sizeof(*f));

	pst_assert(!env->dead);
	file_check(file, op);
	f->file = file;
	f->op = op;
	f->err = file_refuse(file, op);
	f->covers = file->disk->next_done;
	pst_timer_init(&f->event, file_on_event);
	pst_list_init(&f->node);
	f->counted = f->err == PST_OK && (op->kind == PST_FILE_FLUSH || op->len_bytes);
	if (!f->counted) {
		pst_list_push_back(&env->file_ops, &f->node);
		sim_arm(env->sim, &f->event, sim_between(env->sim, 100, 2000));
		return;
	}
	file->inflight++;
	if (env->files_inflight >= env->file_depth) {
		pst_list_push_back(&env->file_waiting, &f->node);
		return;
	}
	env->files_inflight++;
	file_start(f);
}

/* ---- Death ---- */

/* What was in flight when the process died: the kernel may have begun it, ended it, or not. */
static void file_op_kill(struct sim_file_op *f, bool power)
{
	struct sim_disk *disk = f->file->disk;
	struct pst_sim *sim = f->file->env->sim;

	pst_timers_disarm(&sim->events, &f->event);
	pst_list_remove(&f->node);
	if (f->write)
		sim_disk_write_done(disk, f->write);
	if (f->counted && !f->applied && f->op->kind == PST_FILE_WRITE && pst_sim_rand_below(sim, 2)) {
		uint8_t *data = file_gather(f->op);

		sim_disk_write_partly(disk, f->op->offset_bytes, data, f->op->len_bytes);
		free(data);
	} else if (f->counted && !f->applied && !power && pst_sim_rand_below(sim, 2)) {
		if (f->op->kind == PST_FILE_DISCARD || f->op->kind == PST_FILE_WRITE_ZEROES)
			sim_disk_write_partly(disk, f->op->offset_bytes, NULL, f->op->len_bytes);
		else if (f->op->kind == PST_FILE_FLUSH)
			sim_disk_flush(disk, f->covers);
	}
	free(f);
}

void sim_files_kill(struct pst_env *env, bool power)
{
	PST_LIST_EACH(at, &env->file_ops) {
		file_op_kill(pst_container_of(at, struct sim_file_op, node), power);
	}
	PST_LIST_EACH(at, &env->file_waiting) {
		struct sim_file_op *f = pst_container_of(at, struct sim_file_op, node);

		pst_list_remove(&f->node);
		free(f);
	}
	PST_LIST_EACH(at, &env->live_files) {
		file_detach(pst_container_of(at, struct pst_file, live_node));
	}
}

static void file_ops_drop(struct pst_list *ops)
{
	PST_LIST_EACH(at, ops) {
		free(pst_container_of(at, struct sim_file_op, node));
	}
	pst_list_init(ops);
}

void sim_files_free(struct pst_sim *sim)
{
	PST_LIST_EACH(at, &sim->envs) {
		struct pst_env *env = pst_container_of(at, struct pst_env, all_node);

		file_ops_drop(&env->file_ops);
		file_ops_drop(&env->file_waiting);
	}
	PST_LIST_EACH(at, &sim->files) {
		free(pst_container_of(at, struct pst_file, all_node));
	}
}
