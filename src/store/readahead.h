/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-ahead: a volume that is read in sequence, with few requests at a time, finds what comes next in memory. Windows
 * of verified data, at most pst_store_config.readahead_bytes of them for the pool, belong to volumes while they are
 * read. Nothing here can change what a read returns: a window serves a block only if the map says at that moment that
 * the block (address and checksum) is the one that was read and verified. Pool's shard only; no allocation per request.
 */
#ifndef PST_STORE_READAHEAD_H
#define PST_STORE_READAHEAD_H

#include "store/internal.h"

#define READAHEAD_WINDOW_BLOCKS 128u

enum readahead_result { READAHEAD_NONE, READAHEAD_SERVED, READAHEAD_WAIT };

pst_err PST_MUST_USE readahead_init(struct store *st, uint64_t bytes);
void readahead_free(struct store *st);

/* A read of @count blocks from @lba on begins: is it part of a sequence? Then what follows is fetched. */
void readahead_note(struct svol *v, uint64_t lba, uint64_t count);

/*
 * Blocks from @lba on, which the map has at @entry (@max of them inside the leaf and the request): served into
 * [block @io_block of @io), *ret_count of them; or @w waits for a window that is being read; or they are not here.
 */
enum readahead_result readahead_serve(struct svol *v, uint64_t lba, const struct pst_ptr *entry, uint32_t max,
				      struct pst_io *io, uint64_t io_block, struct waiter *w, uint32_t *ret_count);

/* LBAs of partition @p, from @local on, have got other contents: what was fetched of them is not served any more. */
void readahead_overwritten(struct svol *v, const struct part *p, uint64_t local, uint32_t count);
void readahead_drop_volume(struct svol *v); /* it closes */

uint64_t readahead_served(const struct store *st); /* blocks, since the pool was opened */

#endif
