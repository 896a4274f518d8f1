/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool for tests of what stands above pools: volumes lie in the memory pool below it; versions, settings, tasks,
 * devices and checks, which that one does not have, are kept in tables here. Snapshots hold no data: what they hold is
 * the store's to get right, and tested there. Asserts what a caller owes to a pool.
 */
#ifndef PENSTOCK_TESTS_FAKE_POOL_H
#define PENSTOCK_TESTS_FAKE_POOL_H

#include "volume/pool.h"

#define FAKE_VERSIONS_MAX 64u
#define FAKE_TASKS_MAX 8u
#define FAKE_MAPPED_BLOCKS 7u /* of every version, by its info */

struct fake_version {
	uint8_t uuid[16], parent[16];
	uint64_t block_count;
	bool used, snapshot;
	struct pst_volume_settings settings;
};

struct fake_pool {
	struct pst_pool pool;
	struct pst_pool *lower; /* owned */
	struct fake_version versions[FAKE_VERSIONS_MAX];
	struct pst_pool_task tasks[FAKE_TASKS_MAX];
	uint32_t task_count;
	uint64_t added_bytes; /* by devices and growth */
	uint32_t devices;
	bool check_waits; /* checks don't end until fake_pool_end_check */
	struct pst_pool_op *checking;
	struct pst_list done;
	struct pst_post post;
	bool posted;
	struct {
		struct pst_pool_op lower, *upper;
	} calls[8];
	uint32_t refused; /* snapshots: this many are answered with PST_E_NOSPACE */
};

struct fake_pool *fake_pool_new(struct pst_env *env, struct pst_pool *lower);
void fake_pool_end_check(struct fake_pool *f);
/* NULL: it has none of this uuid. */
struct fake_version *fake_pool_find(struct fake_pool *f, const uint8_t uuid[16]);
uint32_t fake_pool_count(const struct fake_pool *f, bool snapshots);

#endif
