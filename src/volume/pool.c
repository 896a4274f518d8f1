/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapper around every pool: the contract is asserted here, once. */
#include "volume/pool.h"

#include <string.h>

void pst_pool_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	pst_assert(op->done != NULL);
	if (op->kind == PST_POOL_VOLUME_CREATE || op->kind == PST_POOL_VOLUME_RESIZE)
		pst_assert(op->block_count > 0);
	if (op->kind == PST_POOL_RECORD_PUT || op->kind == PST_POOL_RECORD_DELETE)
		pst_assert(op->key != NULL && op->key[0] != '\0' && strlen(op->key) <= PST_RECORD_KEY_MAX);
	if (op->kind == PST_POOL_RECORD_PUT)
		pst_assert(op->value_bytes <= PST_RECORD_VALUE_MAX);
	if (op->kind == PST_POOL_SNAPSHOT)
		pst_assert(op->member_count > 0 && op->member_count <= PST_SNAPSHOT_MEMBERS_MAX);
	if (op->kind == PST_POOL_DIFF)
		pst_assert(op->range_count > 0);
	if (op->kind == PST_POOL_KEY_PUT)
		pst_assert(op->value_bytes > 0 && op->value_bytes <= PST_POOL_KEY_BYTES_MAX);
	op->err = PST_OK;
	op->volume = NULL;
	op->detail[0] = '\0';
	pool->ops->submit(pool, op);
}

void pst_pool_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	pool->ops->records(pool, prefix, fn, ctx);
}

void pst_pool_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	pool->ops->stats(pool, ret_stats);
}

uint32_t pst_pool_tasks(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max)
{
	return pool->ops->tasks != NULL ? pool->ops->tasks(pool, tasks, max) : 0;
}
