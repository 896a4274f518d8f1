/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that were found to be bad, by a read or by the scrub: who is told, and what is known.
 *
 * For each there is an event that names the version that met it and its LBAs, and one for every other version (snapshot
 * or clone) that holds the same block. A block is told once for as long as it is known; overwriting or discarding it
 * heals it for that version, which is told, too. Lines are limited to LINES_BURST at once and LINES_PER_S from then on;
 * what is not told is counted and said later. Everything runs on the pool's shard.
 */
#ifndef PST_STORE_BAD_H
#define PST_STORE_BAD_H

#include "store/internal.h"

pst_err PST_MUST_USE bad_init(struct store *st);
void bad_free(struct store *st);

/* The data block of local LBA @local of @slot can't be read (PST_E_IO), or is not what was written (PST_E_CHECKSUM). */
void bad_found(struct part *p, uint32_t slot, uint64_t local, uint32_t block, pst_err err, bool by_scrub);

/* These local LBAs of @slot have been written anew or discarded. Costs nothing while no block is known to be bad. */
void bad_overwritten(struct part *p, uint32_t slot, uint64_t local, uint32_t count);

/* The slot may get another meaning. */
void bad_version_gone(struct store *st, uint32_t slot);

/* The volume's LBA of a local LBA on this partition. */
uint64_t bad_volume_lba(const struct part *p, uint64_t local);

/* Bad blocks that are known and not yet overwritten, counted for each version that holds them. */
uint64_t bad_known(const struct store *st);

#endif
