/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranges that differ between two snapshots. Nothing changes, so this runs beside changes, with a pool operation of
 * its own for each call. An answer is bounded: at its end is where to go on.
 */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGES_PER_STEP 256u
#define RANGES_MAX 4096u

struct diff {
	struct pst_catalog *catalog;
	struct pst_catalog_op *call;
	unsigned pool;
	uint64_t end_lba;
	struct pst_pool_op op;
	struct pst_range ranges[RANGES_PER_STEP];
	struct pst_range last; /* not in the list yet: the next one may adjoin it */
	json_t *list;
};

static void diff_end(struct diff *d)
{
	struct pst_catalog_op *call = d->call;

	json_decref(d->list);
	free(d);
	call->done(call);
}

static void put_last(struct diff *d)
{
	if (d->last.block_count > 0)
		json_array_append_new(d->list, json_pack("{s:I s:I}", "offset_bytes",
							 (json_int_t)(d->last.lba * PST_BLOCK_BYTES), "length_bytes",
							 (json_int_t)(d->last.block_count * PST_BLOCK_BYTES)));
	d->last.block_count = 0;
}

static void take_ranges(struct diff *d)
{
	for (uint32_t i = 0; i < d->op.range_count; i++) {
		const struct pst_range *r = &d->ranges[i];

		if (d->last.block_count > 0 && d->last.lba + d->last.block_count == r->lba) {
			d->last.block_count += r->block_count;
		} else {
			put_last(d);
			d->last = *r;
		}
	}
}

static void answer(struct diff *d)
{
	struct pst_catalog_op *call = d->call;
	bool more = d->op.lba < d->end_lba;

	put_last(d);
	call->result = json_pack("{s:s s:O}", "name", call->name, "ranges", d->list);
	if (call->result != NULL && call->from != NULL)
		json_object_set_new(call->result, "from", json_string(call->from));
	if (call->result != NULL && more)
		json_object_set_new(call->result, "next_offset_bytes",
				    json_integer((json_int_t)(d->op.lba * PST_BLOCK_BYTES)));
	diff_end(d);
}

static void diff_step(struct diff *d)
{
	d->op.range_count = RANGES_PER_STEP;
	pst_pool_submit(d->catalog->pools[d->pool].pool, &d->op);
}

static void diff_done(struct pst_pool_op *op)
{
	struct diff *d = pst_container_of(op, struct diff, op);

	if (op->err != PST_OK) {
		cat_op_error(d->call, op->err, "penstock snapshot list",
			     "what differs in snapshot '%.127s' can't be told: %s", d->call->name,
			     op->detail[0] != '\0' ? op->detail : pst_err_text(op->err));
		return diff_end(d);
	}
	take_ranges(d);
	if (op->lba >= d->end_lba || json_array_size(d->list) + RANGES_PER_STEP > RANGES_MAX)
		return answer(d);
	diff_step(d);
}

static struct cat_snapshot *find_from(struct pst_catalog *c, const struct pst_catalog_op *call,
				      const struct cat_snapshot *s, const char *from)
{
	char full[CAT_SNAPSHOT_NAME_MAX + 1];

	if (strchr(from, '@') != NULL)
		return cat_snapshot_of(c, call, from);
	if (snprintf(full, sizeof(full), "%s@%s", s->volume->name, from) >= (int)sizeof(full))
		return NULL;
	return cat_snapshot_of(c, call, full);
}

/* NULL after an answer. */
static struct diff *diff_new(struct pst_catalog *c, struct pst_catalog_op *call)
{
	struct cat_snapshot *s = cat_snapshot_of(c, call, call->name), *from = NULL;
	struct diff *d;

	if (s != NULL && call->from != NULL)
		from = find_from(c, call, s, call->from);
	if (s == NULL || s->state != CAT_READY || (call->from != NULL && (from == NULL || from->state != CAT_READY))) {
		cat_op_error(call, PST_E_NOTFOUND, "penstock snapshot list", "there is no snapshot '%.127s'",
			     s == NULL || s->state != CAT_READY ? call->name : call->from);
		return NULL;
	}
	if (from != NULL && from->volume->pool != s->volume->pool) {
		cat_op_error(call, PST_E_INVAL, NULL, "snapshots '%.127s' and '%.127s' lie in different pools",
			     call->name, call->from);
		return NULL;
	}
	d = calloc(1, sizeof(*d));
	if (d == NULL || (d->list = json_array()) == NULL) {
		free(d);
		cat_op_error(call, PST_E_NOMEM, NULL, "no memory to compare snapshots");
		return NULL;
	}
	d->catalog = c;
	d->call = call;
	d->pool = s->volume->pool;
	d->end_lba = PST_MAX(s->size_bytes, from != NULL ? from->size_bytes : 0) / PST_BLOCK_BYTES;
	d->op = (struct pst_pool_op){ .kind = PST_POOL_DIFF, .ranges = d->ranges, .done = diff_done };
	d->op.lba = call->offset_bytes / PST_BLOCK_BYTES;
	memcpy(d->op.uuid, s->uuid, 16);
	if (from != NULL)
		memcpy(d->op.other, from->uuid, 16);
	return d;
}

void cat_diff(struct pst_catalog *c, struct pst_catalog_op *call)
{
	struct diff *d = diff_new(c, call);

	if (d == NULL)
		call->done(call);
	else if (d->op.lba >= d->end_lba)
		answer(d);
	else
		diff_step(d);
}
