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
	op->err = PST_OK;
	op->volume = NULL;
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
