/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a path to a pool, and back: format, open, and the superblocks.
 *
 *   format: refuse what holds a pool -> size -> zero all metadata -> roots -> flush -> last superblock, flush -> first
 *   open:   lock -> superblocks -> further devices (devices.c) -> not closed in order: flush -> partition 0 recovered
 *           (recover.c), then the others, LANES side by side -> superblocks say unclean, this boot
 *
 * Superblocks are written second copy, flush, first copy, flush: one is whole at any time. The first one decides where
 * the second is, so a second copy at a new place (its device has grown) counts from the moment the first says so. The
 * flushes are the committer's: a growth writes superblocks amid requests and checkpoints, and a flush of its own that
 * fails would drop what a flush of theirs, under way at the same time, then reports as durable. After a failed flush
 * one copy says so (no boot id) and is not flushed: what matters is what this boot's next open reads, and the other
 * copy stays whole whatever happens.
 */
#include "store/space.h"
#include "store/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Writing both superblocks of an open pool ---- */

static bool sb_is_writing(const struct sb_writer *w)
{
	return w->done != NULL && w->step % 2 == 0;
}

static void sb_step(struct sb_writer *w)
{
	struct store *st = w->st;

	if (!sb_is_writing(w)) {
		commit_wait(st, &w->wait);
		return;
	}
	w->op.offset_bytes = w->step == 0 ? pst_sb_mirror(st->sb) * PST_BLOCK_BYTES : 0;
	store_submit(st, &w->op);
}

static void sb_next(struct sb_writer *w, pst_err err)
{
	struct store *st = w->st;

	if (err == PST_OK && st->failed != PST_OK)
		err = PST_E_IO; /* nothing is written any more, and the committer may be waiting for this to end */
	if (err == PST_OK && ++w->step < 4) {
		if (w->step == 2)
			st->sb_spare_bytes = 0; /* the second copy is durable, the first is written now */
		sb_step(w);
		return;
	}
	w->done->err = err;
	store_wake(st, w->done);
	w->done = NULL;
	if (w->distrust && !sb_distrust(st))
		commit_flushed(st);
}

static void sb_written(struct pst_file_op *op)
{
	struct sb_writer *w = pst_container_of(op, struct sb_writer, op);

	w->st->outstanding--;
	sb_next(w, op->err);
}

static void sb_flushed(struct waiter *wait)
{
	struct sb_writer *w = pst_container_of(wait, struct sb_writer, wait);
	pst_err err = wait->err;

	wait->err = PST_OK;
	sb_next(w, err);
}

void sb_write(struct store *st, struct waiter *done)
{
	struct sb_writer *w = &st->sb_writer;

	w->st = st;
	w->done = done;
	w->step = 0;
	st->sb_spare_bytes = pst_sb_mirror(st->sb) * PST_BLOCK_BYTES;
	w->wait.run = sb_flushed;
	w->wait.err = PST_OK;
	pst_list_init(&w->wait.node);
	w->iov = (struct iovec){ st->sb, PST_BLOCK_BYTES };
	w->op = (struct pst_file_op){
		.kind = PST_FILE_WRITE, .iov = &w->iov, .iov_count = 1, .len_bytes = PST_BLOCK_BYTES, .done = sb_written
	};
	st->sb->generation++;
	pst_sb_seal(st->sb);
	sb_step(w);
}

static void sb_distrusted(struct pst_file_op *op)
{
	struct store *st = pst_container_of(op, struct store, sb_writer.op);

	st->outstanding--;
	if (op->err != PST_OK)
		store_event(st, PST_LOG_ERROR,
			    "superblock_not_marked error=%s: the failed flush is not on record; restart the machine "
			    "before the pool is opened again",
			    pst_err_name(op->err));
	if (st->flushing && st->flushes_busy == 0)
		commit_flushed(st);
}

/*
 * True: commit_flushed follows, if a flush is under way. False: it is on record already, or an open or a close is just
 * writing the superblocks, which has had everything flushed before: so there is nothing to distrust. A copy that a
 * growth is just writing is waited for.
 */
bool sb_distrust(struct store *st)
{
	struct sb_writer *w = &st->sb_writer;

	if (sb_is_writing(w) && st->growth != NULL) {
		w->distrust = true;
		return true;
	}
	w->distrust = false;
	if ((w->done != NULL && st->growth == NULL) || w->distrusted)
		return false;
	w->distrusted = true;
	st->sb->clean = 0;
	memset(st->sb->boot_id, 0, sizeof(st->sb->boot_id));
	st->sb->generation++;
	pst_sb_seal(st->sb);
	w->iov = (struct iovec){ st->sb, PST_BLOCK_BYTES };
	w->op = (struct pst_file_op){ .kind = PST_FILE_WRITE,
				      .iov = &w->iov,
				      .iov_count = 1,
				      .offset_bytes = st->sb_spare_bytes,
				      .len_bytes = PST_BLOCK_BYTES,
				      .done = sb_distrusted };
	store_submit(st, &w->op);
	return true;
}

/* ---- Open ---- */

#define LANES 8u

/* One recovery at a time, of one partition after another. */
struct lane {
	struct opening *opening;
	struct waiter wait;
	struct recovery *recovery; /* NULL: not needed */
	bool busy;
};

struct opening {
	struct pst_env *env;
	struct pst_store_op *user;
	struct store *st;
	struct pst_post post; /* the end */
	struct pst_file_op op;
	struct iovec iov;
	struct pst_superblock *copies;                  /* two pages */
	uint64_t seconds[PST_SB_SECONDS], *next_second; /* where the second copy may lie */
	unsigned seconds_left;
	struct waiter wait;
	const char *const *device_paths; /* where else to look for further devices */
	uint32_t device_path_count;
	struct lane lanes[LANES];
	uint32_t part_index; /* next to be recovered */
	pst_err err;         /* the first of a partition */
	bool first_done, repair;
	bool second; /* of the superblocks the second copy counts */
};

static void opening_end(struct opening *o, pst_err err)
{
	struct pst_store_op *user = o->user;

	if (err != PST_OK && user->detail[0] == '\0')
		snprintf(user->detail, sizeof(user->detail), "%s", pst_err_text(err));
	user->err = err;
	user->pool = err == PST_OK ? &o->st->pool : NULL;
	if (err == PST_OK) {
		tasks_load(o->st);
		merge_kick(o->st);
	} else if (o->st != NULL) {
		store_free(o->st);
	}
	for (unsigned i = 0; i < LANES; i++)
		recovery_free(o->lanes[i].recovery);
	free(o->copies);
	free(o);
	user->done(user);
}

static void opening_post(struct pst_post *post)
{
	struct opening *o = pst_container_of(post, struct opening, post);

	if (o->user->err != PST_OK && o->st != NULL && (o->st->turn_posted || o->st->outstanding > 0))
		pst_env_post(o->env, post); /* until nothing refers to the store any more */
	else
		opening_end(o, o->user->err);
}

/* Ends may be reached inside the store's turn, which must not lose its store: so always from a post. */
static void opening_finish(struct opening *o, pst_err err)
{
	o->user->err = err;
	o->post.fn = opening_post;
	pst_env_post(o->env, &o->post);
}

static void space_loaded(struct waiter *w)
{
	opening_finish(pst_container_of(w, struct opening, wait), PST_OK);
}

static void superblocks_written(struct waiter *w)
{
	struct opening *o = pst_container_of(w, struct opening, wait);
	struct store *st = o->st;

	if (w->err != PST_OK) {
		snprintf(o->user->detail, sizeof(o->user->detail), "the superblock can't be written");
		opening_finish(o, w->err);
		return;
	}
	st->recovering = false;
	st->cache.overflow = false;
	if (o->repair)
		store_event(st, PST_LOG_WARN, "superblock_repaired: one copy was damaged and is written again");
	w->run = space_loaded;
	space_load(st, w);
}

/* Partition 0 is by itself: it says which versions there are. Errors end the opening when no lane is at work. */
static void lanes_run(struct opening *o)
{
	struct store *st = o->st;
	bool busy = false;

	for (unsigned i = 0; i < (o->first_done ? LANES : 1); i++) {
		struct lane *lane = &o->lanes[i];

		if (!lane->busy && lane->recovery != NULL && o->err == PST_OK && o->part_index < st->part_count) {
			lane->busy = true;
			recovery_start(lane->recovery, &st->parts[o->part_index++]);
		}
		busy = busy || lane->busy;
	}
	if (busy)
		return;
	if (o->err != PST_OK) {
		opening_finish(o, o->err);
		return;
	}
	o->wait.run = superblocks_written;
	st->sb->clean = 0;
	pst_env_boot_id(st->pool.env, st->sb->boot_id);
	sb_write(st, &o->wait);
}

static void partition_recovered(struct waiter *w)
{
	struct lane *lane = pst_container_of(w, struct lane, wait);
	struct opening *o = lane->opening;

	lane->busy = false;
	o->first_done = true;
	if (o->err == PST_OK)
		o->err = w->err;
	w->err = PST_OK;
	lanes_run(o);
}

static void lanes_begin(struct waiter *w)
{
	lanes_run(pst_container_of(w, struct opening, wait));
}

static pst_err lanes_init(struct opening *o, bool same_boot)
{
	uint32_t count = PST_MIN(o->st->part_count, LANES);

	for (uint32_t i = 0; i < count; i++) {
		struct lane *lane = &o->lanes[i];

		lane->opening = o;
		lane->wait.run = partition_recovered;
		pst_list_init(&lane->wait.node);
		lane->recovery = recovery_new(o->st, same_boot, &lane->wait, o->user->detail);
		if (lane->recovery == NULL)
			return PST_E_NOMEM;
	}
	return PST_OK;
}

static void superblocks_first(struct waiter *w)
{
	struct opening *o = pst_container_of(w, struct opening, wait);

	if (w->err != PST_OK) {
		snprintf(o->user->detail, sizeof(o->user->detail), "the superblock can't be written");
		opening_finish(o, w->err);
		return;
	}
	w->run = lanes_begin;
	store_wake(o->st, w);
}

/* A pool of the old format: before anything is written in the new one, both superblocks say so. */
static void upgraded(struct waiter *w)
{
	struct store *st = pst_container_of(w, struct opening, wait)->st;

	if (w->err == PST_OK)
		store_event(st, PST_LOG_INFO, "pool_upgraded format=%u: programs of before can't open it any more",
			    PST_SB_VERSION);
	superblocks_first(w);
}

/*
 * A daemon that was killed has left writes that nobody flushed, perhaps a root. Recovery writes over what only the root
 * before it needs, so that one must be durable by then: else a loss of power could leave none that is whole.
 *
 * The same goes for a second superblock that is newer than the first. Of a growth that a failed flush cut short it lies
 * where the first one says, and not where it says itself: without the first it would not be found. So before recovery
 * uses the space that it knows of, and before the first may be written over, both are written where they belong.
 */
static void left_flushed(struct waiter *w)
{
	struct opening *o = pst_container_of(w, struct opening, wait);
	struct store *st = o->st;
	bool old = st->sb->version != PST_SB_VERSION;
	bool misplaced = o->second && st->sb_spare_bytes != pst_sb_mirror(st->sb) * PST_BLOCK_BYTES;

	if (w->err != PST_OK) {
		snprintf(o->user->detail, sizeof(o->user->detail), "what was written before can't be flushed");
		opening_finish(o, w->err);
		return;
	}
	if (old || misplaced) {
		st->sb->version = PST_SB_VERSION;
		w->run = old ? upgraded : superblocks_first;
		sb_write(st, w);
		return;
	}
	if (o->second)
		st->sb_spare_bytes = 0;
	w->run = lanes_begin;
	store_wake(st, w);
}

/* Paths may have changed since the pool was open last. */
static void paths_note(struct store *st)
{
	const char *paths[PST_DEVICES_MAX];

	for (uint32_t i = 0; i < st->device_count; i++)
		paths[i] = st->devices[i].path;
	if (st->sb->device_count > 0)
		(void)pst_sb_set_device_paths(st->sb, paths); /* what does not fit is found by --device */
}

static pst_err recover(struct opening *o)
{
	struct store *st = o->st;
	char boot_id[37];
	bool same_boot;
	pst_err err;

	pst_env_boot_id(st->pool.env, boot_id);
	same_boot = st->sb->clean || (st->sb->boot_id[0] != '\0' && strcmp(boot_id, st->sb->boot_id) == 0);
	memcpy(st->pool.uuid, st->sb->uuid, 16);
	paths_note(st);
	err = store_parts_init(st);
	if (err != PST_OK)
		return err;
	if (!same_boot)
		store_event(st, PST_LOG_WARN, "%s: what was not flushed then may be lost; recovering",
			    st->sb->boot_id[0] != '\0' ? "unclean_machine_stop" : "device_flush_failed_before");
	err = lanes_init(o, same_boot);
	if (err != PST_OK)
		return err;
	st->recovering = true;
	st->cache.overflow = true;
	o->wait.run = left_flushed;
	if (st->sb->clean)
		store_wake(st, &o->wait);
	else
		commit_wait(st, &o->wait);
	return PST_OK;
}

static void devices_opened(struct waiter *w)
{
	struct opening *o = pst_container_of(w, struct opening, wait);
	pst_err err = w->err;

	w->err = PST_OK;
	if (err == PST_OK)
		err = recover(o);
	if (err != PST_OK)
		opening_finish(o, err);
}

static void last_cleared(struct pst_file_op *op)
{
	struct opening *o = pst_container_of(op, struct opening, op);

	o->st->outstanding--; /* if that has failed, the next open will try again */
	o->wait.run = devices_opened;
	devices_open(o->st, o->device_paths, o->device_path_count, &o->wait, o->user->detail);
}

/*
 * A growth of this device that was cut short has left a second superblock at its end. Were the first one ever damaged,
 * it would be taken for the current one.
 */
static void last_read(struct pst_file_op *op)
{
	struct opening *o = pst_container_of(op, struct opening, op);
	struct store *st = o->st;

	if (op->err != PST_OK || !pst_sb_intact(&o->copies[1]) ||
	    memcmp(o->copies[1].uuid, st->sb->uuid, sizeof(st->sb->uuid)) != 0) {
		last_cleared(op);
		return;
	}
	st->outstanding--;
	memset(&o->copies[1], 0, PST_BLOCK_BYTES);
	op->kind = PST_FILE_WRITE;
	op->done = last_cleared;
	store_submit(st, op);
}

static void copies_read(struct pst_file_op *op)
{
	struct opening *o = pst_container_of(op, struct opening, op);
	struct store *st = o->st;
	uint64_t last = st->devices[0].info.size_bytes / PST_BLOCK_BYTES - 1;
	const struct pst_superblock *sb = NULL;
	pst_err err = PST_OK;

	st->outstanding--;
	if (op->err != PST_OK) /* an unreadable copy is as good as a damaged one */
		memset(op->iov->iov_base, 0, PST_BLOCK_BYTES);
	if (op->offset_bytes == 0) {
		o->iov.iov_base = &o->copies[1];
		o->seconds_left = pst_sb_seconds(&o->copies[0], last, o->seconds);
		o->next_second = o->seconds;
	}
	if (o->seconds_left > 0 && !pst_sb_intact(&o->copies[1])) {
		o->seconds_left--;
		op->offset_bytes = *o->next_second++ * PST_BLOCK_BYTES;
		store_submit(st, op);
		return;
	}
	err = pst_sb_choose(&o->copies[0], &o->copies[1], last + 1, &sb, &o->repair, o->user->detail);
	if (err != PST_OK) {
		opening_finish(o, err);
		return;
	}
	*st->sb = *sb;
	o->second = sb == &o->copies[1];
	st->sb_spare_bytes = o->second ? op->offset_bytes : pst_sb_mirror(sb) * PST_BLOCK_BYTES;
	op->done = last_read;
	op->offset_bytes = last * PST_BLOCK_BYTES;
	o->wait.run = devices_opened;
	if (last == pst_sb_mirror(sb))
		devices_open(st, o->device_paths, o->device_path_count, &o->wait, o->user->detail);
	else
		store_submit(st, op);
}

static pst_err open_file(const char *path, struct store *st, char *detail)
{
	pst_err err = device_open(st, &st->devices[0], path, 0);

	if (err != PST_OK) {
		snprintf(detail, PST_DETAIL_BYTES, "%s: %s%s", path, pst_err_text(err),
			 err == PST_E_LOCKED ? ": stop the other daemon first" : "");
		return err;
	}
	st->device_count = 1;
	return PST_OK;
}

static pst_err limits_complete(struct pst_store_config *config, char *detail, size_t detail_bytes)
{
	char why[PST_LIMIT_WHY_BYTES] = "";
	size_t count;
	const struct pst_limit *table = pst_store_limits(&count);
	pst_err err = pst_limit_complete(table, count, config, why);

	if (err != PST_OK)
		snprintf(detail, detail_bytes, "%s", why);
	return err;
}

void pst_store_open(struct pst_env *env, const char *path, const struct pst_store_config *config,
		    struct pst_store_op *op)
{
	struct opening *o = calloc(1, sizeof(*o));
	struct pst_store_config limits = *config;
	pst_err err = PST_E_NOMEM;

	pst_assert(o != NULL && op->done != NULL);
	op->detail[0] = '\0';
	o->user = op;
	o->env = env;
	o->device_paths = config->device_paths;
	o->device_path_count = config->device_path_count;
	pst_list_init(&o->wait.node);
	o->copies = aligned_alloc(PST_BLOCK_BYTES, (size_t)2 * PST_BLOCK_BYTES);
	if (o->copies != NULL) {
		memset(o->copies, 0, (size_t)2 * PST_BLOCK_BYTES);
		err = limits_complete(&limits, op->detail, sizeof(op->detail));
	}
	if (err == PST_OK)
		err = store_new(env, &limits, &o->st);
	if (err == PST_OK)
		err = open_file(path, o->st, op->detail);
	if (err == PST_OK && o->st->devices[0].info.size_bytes < 3 * PST_BLOCK_BYTES) {
		snprintf(op->detail, sizeof(op->detail), "%s: not a Penstock pool (it is empty or tiny)", path);
		err = PST_E_FORMAT;
	}
	if (err != PST_OK) {
		opening_finish(o, err);
		return;
	}
	o->iov = (struct iovec){ &o->copies[0], PST_BLOCK_BYTES };
	o->op = (struct pst_file_op){
		.kind = PST_FILE_READ, .iov = &o->iov, .iov_count = 1, .len_bytes = PST_BLOCK_BYTES, .done = copies_read
	};
	store_submit(o->st, &o->op);
}
