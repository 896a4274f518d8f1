/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key slots: two blocks on partition 0 for each family of versions, named by pst_version_disk.key_block, which all
 * members carry. What lies in them is not the store's business. On the pool's shard.
 */
#ifndef PST_STORE_KEYS_H
#define PST_STORE_KEYS_H

#include "store/internal.h"

/* PST_POOL_KEY_*: begin once, then gather until it is not PST_E_AGAIN (c->wait is run again). */
pst_err PST_MUST_USE keys_op_begin(struct store *st, const struct pst_pool_op *op);
/* PST_OK with *ret_log: the version's record, in @disk, is to be logged; without: the operation is done. */
pst_err PST_MUST_USE keys_op_gather(struct store *st, struct pst_pool_op *op, struct pst_version_disk *disk,
				    bool *ret_log);
/* It failed after all: its new blocks are free again. */
void keys_op_failed(struct store *st);

/*
 * A version's record changes from @old_block to @new_block (either may be 0): the space map follows. Live and when
 * replaying; before the change is made to the version's `disk`. PST_E_FORMAT: not a place for a slot.
 */
pst_err PST_MUST_USE keys_follow(struct store *st, uint32_t old_block, uint32_t new_block);
/* A version is gone from the pool's list, its end logged with @seq (0: replay): frees the slot of the last member. */
void keys_version_ended(struct store *st, uint32_t key_block, uint64_t seq);

/*
 * Before the space of a deleted version is given back: wipes the slot if no member is left that is not deleted. Then,
 * or at once if there is nothing to wipe, @done runs. False: at once, @done does not run.
 */
bool keys_wipe_last(struct svol *v, struct waiter *done);

/*
 * Reads both blocks of the slot at @block and brings them to what counts if they are not alike: then job->mended.
 * @buf (PST_POOL_KEY_BYTES_MAX) is the caller's to wipe when @done has run; with PST_E_CHECKSUM or PST_E_IO if neither
 * can be read.
 */
pst_err PST_MUST_USE keys_scrub(struct store *st, uint32_t block, struct key_job *job, uint8_t *buf,
				struct waiter *done);

void keys_free(struct store *st);

#endif
