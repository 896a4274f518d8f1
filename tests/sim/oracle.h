/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may a volume return? One history of versions for each block: which are possible for a read now, and which are
 * possible after the power fails. Rules: docs/fault-model.md. Every version has contents of its own, made from volume,
 * block and number, so that a torn block, a block of another place, and a block of another volume are told apart.
 *
 * Volumes that descend from one another are a family: the upper 16 bits of their numbers are equal, and no other's.
 * A snapshot and a clone get an oracle of their own, which shares what is known with the one it came from.
 *
 * The workload keeps writes that touch one block apart (oracle_busy); reads may overlap with writes.
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include "base/base.h"

#define ORACLE_BLOCK_BYTES 4096u

struct oracle;
struct oracle_read;
struct oracle_flush;
struct oracle_instant;
struct oracle_snapshot;

struct oracle *oracle_new(uint32_t volume, uint64_t block_count);
void oracle_free(struct oracle *oracle);

/* A write of any kind is under way on one of these blocks. */
bool oracle_busy(const struct oracle *oracle, uint64_t lba, uint64_t count);

/* A write begins; @buf (count blocks) gets the contents to write. NULL: write zeroes. */
void oracle_write_begin(struct oracle *oracle, uint64_t lba, uint64_t count, uint8_t *buf);

/*
 * It ended. @ok false: it failed or its fate is unknown (a crash): old or new from here on. @durable: with FUA, and ok.
 * If the power failed since it began, then without @durable an @ok proves nothing: it may have been before that.
 */
void oracle_write_end(struct oracle *oracle, uint64_t lba, uint64_t count, bool ok, bool durable);

/*
 * It was answered with the error of a device, by a process that goes on: old or new from here on. Where it reads as old
 * it stays so, unless the power fails before a flush that begins later succeeds: then it may be new after all.
 */
void oracle_write_failed(struct oracle *oracle, uint64_t lba, uint64_t count);

/* What had completed when the flush began is durable if it succeeds. Ends and frees the flush. */
struct oracle_flush *oracle_flush_begin(struct oracle *oracle);
void oracle_flush_end(struct oracle_flush *flush, bool ok);

/* Ends and frees the read; @buf NULL: it failed, nothing learnt. False: what was read can't be; *ret_why says it. */
struct oracle_read *oracle_read_begin(struct oracle *oracle, uint64_t lba, uint64_t count);
bool oracle_read_end(struct oracle_read *read, const uint8_t *buf, char ret_why[256]);

/* The machine lost power: everything since the last flush may be gone. The death of a process changes nothing. */
void oracle_power_loss(struct oracle *oracle);

/*
 * The pool took no more writes, and its process is gone: what had failed by then may be there after all, also where an
 * older version was read since. Nothing that has completed is lost.
 */
void oracle_stopped(struct oracle *oracle);

/*
 * From now on nothing is promised but this: a block holds zeros, or a whole version that some member of its family has
 * once written to this place. For devices that lie. Without @families, of any family (docs/fault-model.md says why).
 */
void oracle_be_lenient(struct oracle *oracle, bool families);

/* ---- Versions (oracle-versions.c) ---- */

/* One instant for all members of a group: begins when the snapshot is requested. */
struct oracle_instant *oracle_instant_new(void);

/*
 * A snapshot is requested. It ends when it is complete, or when its process died: then it may exist or not. Ends and
 * frees the snapshot, and returns the oracle of what it shows, number @volume. @power_lost: not complete, and what was
 * not flushed may be missing in it.
 */
struct oracle_snapshot *oracle_snapshot_begin(struct oracle *oracle, struct oracle_instant *instant);
struct oracle *oracle_snapshot_end(struct oracle_snapshot *snapshot, uint32_t volume, bool power_lost);

/* A volume that begins as @snapshot. */
struct oracle *oracle_clone(const struct oracle *snapshot, uint32_t volume);

/* @oracle's volume, not written meanwhile, has become what @snapshot is, durably. @ok false: perhaps. */
void oracle_rollback(struct oracle *oracle, const struct oracle *snapshot, bool ok);

/* True if only one version can be there now. */
bool oracle_known(const struct oracle *oracle, uint64_t lba, uint64_t *ret_version);

#endif
