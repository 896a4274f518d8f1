/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A discard of all that a volume has, at once: the volume gets another slot, which has no tree, and its old slot
 * becomes a deleted version, whose space comes back in the background like that of any other (merge.c). One record on
 * partition 0 says both. Snapshots keep what they have.
 *
 *   requests of the volume are held; those under way end -> the merging of deleted versions stands still -> record,
 *   durable -> requests go on, in the new slot
 *
 * It is an operation of the pool, in its queue, since nothing else may change the versions meanwhile. Until the record
 * is durable no request runs: a write in a slot that a crash could forget would be nobody's. What can't be done this
 * way (no slot is free, the volume was resized in between) is done leaf by leaf like any discard.
 */
#include "store/keys.h"
#include "store/space.h"

#include <stdlib.h>
#include <string.h>

#define EMPTY_BLOCKS_MIN 64u /* below that leaf by leaf is quicker */

/* ---- The request ---- */

static void empty_done(struct pst_pool_op *op)
{
	struct svol *v = pst_container_of(op, struct svol, empty_op);
	struct pst_io *io = v->emptying;

	v->emptying = NULL;
	if (op->err == PST_OK || op->err == PST_E_IO)
		io_complete(v->store, io, op->err);
	else
		svol_io_submit(v, io);
	svol_close_go_on(v);
}

bool empty_submit(struct svol *v, struct pst_io *io)
{
	bool whole = (io->kind == PST_IO_DISCARD || io->kind == PST_IO_WRITE_ZEROES) && io->lba == 0 &&
		     io->block_count == v->disk.block_count;

	if (!whole || v->emptying != NULL || v->used_blocks < EMPTY_BLOCKS_MIN ||
	    (v->disk.flags & PST_VOLUME_SNAPSHOT) != 0)
		return false;
	io->err = PST_OK;
	v->emptying = io;
	v->empty_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_EMPTY, .done = empty_done };
	memcpy(v->empty_op.uuid, v->disk.uuid, 16);
	control_submit(&v->store->pool, &v->empty_op);
	return true;
}

/* ---- The operation ---- */

void empty_begin(struct store *st)
{
	st->control.emptying = true;
	svol_hold(st->control.vol, true);
	st->merging.holds++;
}

void empty_end(struct store *st)
{
	struct control *c = &st->control;

	free(c->dead); /* it was not needed */
	c->dead = NULL;
	c->emptying = false;
	st->merging.holds--;
	svol_hold(c->vol, false);
	merge_kick(st);
}

pst_err empty_gather(struct store *st, struct pst_version_disk *disk)
{
	struct control *c = &st->control;
	struct svol *v = c->vol;

	if (v->inflight > 0) {
		v->idle_waiter = &c->wait;
		return PST_E_AGAIN;
	}
	if (!merge_hold(st, &c->wait))
		return PST_E_AGAIN;
	if (v->emptying != NULL && v->emptying->block_count != v->disk.block_count)
		return PST_E_BUSY;
	disk->slot = 1;
	while (disk->slot < PST_SLOTS_MAX && svol_by_slot(st, disk->slot) != NULL)
		disk->slot++;
	if (disk->slot == PST_SLOTS_MAX)
		return PST_E_NOSPACE;
	disk->parent = 0; /* it shares nothing; and a parent that is being merged must not get another child */
	if (c->dead == NULL)
		c->dead = svol_alloc(st, &v->disk);
	return c->dead != NULL ? PST_OK : PST_E_NOMEM;
}

/* As catalog_replay does after a crash; but the volume stays the one that is open. */
void empty_apply(struct store *st, const struct pst_version_disk *disk)
{
	struct control *c = &st->control;
	struct svol *v = c->vol, *dead = c->dead;

	c->dead = NULL;
	dead->disk = v->disk;
	dead->disk.flags |= PST_VOLUME_DELETING;
	pst_list_push_back(&st->volumes, &dead->node);
	pst_assert(keys_follow(st, 0, disk->key_block) == PST_OK);
	v->disk = *disk;
	v->used_blocks = 0;
	space_volume_emptied(v);
	catalog_changed(st);
}
