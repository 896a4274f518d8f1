/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the oracle: oracle.c judges one volume or snapshot; oracle-versions.c makes one from another. */
#ifndef TESTS_SIM_ORACLE_INTERNAL_H
#define TESTS_SIM_ORACLE_INTERNAL_H

#include "oracle.h"

/* Contents of one block: exactly this version (0: zeros), or, with a cell, one of those that the cell allows. */
struct oracle_value {
	uint64_t version;
	struct oracle_cell *cell;
};

/* Times are ticks of a clock that moves at every begin and end. */
struct oracle_entry {
	struct oracle_value value;
	uint64_t begin, end; /* of the write; end UINT64_MAX: not ended, or of unknown fate */
	uint64_t failed;     /* when it was answered with an error that a power loss may yet undo; 0: nothing can */
	bool hidden;         /* failed, and a read has shown an older version: not there unless the power fails */
};

/* All blocks of all members of a snapshot show one instant, somewhere from low to high. */
struct oracle_instant {
	uint64_t low, high;
};

/*
 * What a block of a snapshot can be. A candidate was there at instant T only if its write had begun by T and the next
 * one's had not ended before T; so each block that is read narrows T for the whole group. Shared by the snapshot and
 * all that copy its value, so what one read learns counts for all.
 */
struct oracle_cell {
	struct oracle_instant *instant; /* NULL: nothing known about it */
	uint32_t n;
	struct {
		struct oracle_value value;
		uint64_t begin, next_end;
	} may[];
};

struct oracle_block {
	struct oracle_entry *v;
	uint32_t n, capacity;
	uint32_t live, floor;
	uint32_t stopped; /* the oldest that a read may return once a pool that has stopped is opened again */
	uint64_t base;    /* how many versions were pruned from the front: indexes of flushes and reads include them */
	bool writing;
	uint64_t writing_power_losses; /* of the oracle, when that write began */
	uint64_t writes;               /* begun or ended, to notice writes that met a read */
};

struct oracle {
	uint32_t volume;
	uint64_t block_count;
	uint64_t next;
	uint64_t power_losses;
	bool lenient, any_family;
	uint32_t snapshots_pending;
	struct oracle_block *blocks;
	struct oracle_read *reads; /* under way */
};

void *oracle_alloc(size_t bytes);
uint64_t oracle_tick(void);

/* Adds what the block holds from now on, at first as a possibility only. */
void oracle_block_push(struct oracle *oracle, uint64_t lba, struct oracle_value value);

/* Is the version that a read would return known to be live's? */
bool oracle_block_decided(const struct oracle_block *b);

bool oracle_value_may_be(const struct oracle_value *value, uint64_t version);

/* It has been seen to be @version, which it may be. False: that contradicts the instant of its snapshot; why. */
bool oracle_value_settle(struct oracle_value *value, uint64_t version, char why[256]);

#endif
