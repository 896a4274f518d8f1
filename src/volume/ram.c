/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory pool: an engine for benchmarks, trials and tests. Nothing outlives the process.
 *
 * Blocks come from slabs of 2 MiB that are allocated as they are first needed and kept until the pool closes; freed
 * blocks form a stack through their own first bytes, so memory is bounded by the pool's size. A volume is a directory
 * of leaves, each mapping 512 consecutive LBAs to pool blocks (0: hole, reads as zeros).
 *
 * Requests are carried out on submit and completed together on the shard's next turn, through one post per batch.
 *
 * Blocks can be lent to who sends them. A lent block does not change: a write to its LBA goes to another block, and who
 * frees it leaves it to the last borrower. Beside the pool's own blocks there are LENT_BLOCKS_MAX more for that, so
 * that no write fails because of a read.
 */
#include "base/copy.h"
#include "volume/iov.h"
#include "volume/pool.h"
#include "volume/records.h"

#include <stdlib.h>
#include <string.h>

#define LEAF_BLOCKS 512u
#define SLAB_BLOCKS 512u
#define LENT_BLOCKS_MAX 32768u                /* 128 MiB; allocated only as far as lent blocks are overwritten */
#define HOLE_BLOCKS 64u                       /* in one piece of a loan */
#define PREFETCH_BYTES 1024u                  /* of a block that will be lent */
#define CACHE_LINE_BYTES 64u                  /* on other machines a harmless guess */
#define LENT_DOOMED (1u << 31)                /* nobody's: free with the last loan */
#define VOLUME_BLOCKS_MAX ((uint64_t)1 << 34) /* 64 TiB: a directory of 256 MiB */

struct ram_leaf {
	uint32_t used;
	uint32_t block[LEAF_BLOCKS]; /* pool block number + 1; 0 is a hole */
};

struct ram_pool;

struct ram_volume {
	struct pst_volume volume; /* what open hands out */
	struct ram_pool *pool;
	struct pst_list node; /* in pool->volumes */
	struct ram_leaf **leaves;
	uint64_t used_blocks;
	uint8_t key[PST_POOL_KEY_BYTES_MAX];
	uint32_t key_bytes; /* 0: none */
	bool open;
	struct pst_volume_close_op *closing;
	struct pst_list close_node; /* in pool->closing */
};

struct ram_pool {
	struct pst_pool pool;
	struct pst_list volumes;
	struct pst_records records;
	char **slabs;
	uint32_t **lent;          /* of each slab: loans of each block; NULL: none yet */
	uint64_t block_limit;     /* size of the pool */
	uint64_t block_fresh;     /* blocks never used begin here */
	uint64_t block_used;      /* by volumes */
	uint32_t lent_blocks;     /* in loans, each as often as it is lent */
	uint32_t free_head;       /* stack of freed blocks: number + 1; 0 is empty */
	struct pst_list done_ios; /* carried out, to be completed on the next turn */
	struct pst_list closing;
	struct pst_list done_ops;
	struct pst_post post;
	bool posted;
};

static struct ram_pool *to_pool(struct pst_pool *pool)
{
	return pst_container_of(pool, struct ram_pool, pool);
}

static struct ram_volume *to_volume(struct pst_volume *volume)
{
	return pst_container_of(volume, struct ram_volume, volume);
}

/* ---- Blocks ---- */

static char *block_data(const struct ram_pool *p, uint32_t number)
{
	return p->slabs[number / SLAB_BLOCKS] + (size_t)(number % SLAB_BLOCKS) * PST_BLOCK_BYTES;
}

/* Returns number + 1, or 0 when the pool is full or memory has run out. */
static uint32_t block_alloc(struct ram_pool *p)
{
	uint32_t handle = p->free_head;

	if (p->block_used == p->block_limit)
		return 0;
	if (handle != 0) {
		memcpy(&p->free_head, block_data(p, handle - 1), sizeof(p->free_head));
	} else {
		uint64_t slab = p->block_fresh / SLAB_BLOCKS;

		if (p->block_fresh == p->block_limit + LENT_BLOCKS_MAX)
			return 0;
		if (p->slabs[slab] == NULL)
			p->slabs[slab] = aligned_alloc(PST_BLOCK_BYTES, (size_t)SLAB_BLOCKS * PST_BLOCK_BYTES);
		if (p->slabs[slab] == NULL)
			return 0;
		handle = (uint32_t)++p->block_fresh;
	}
	p->block_used++;
	return handle;
}

static void block_push(struct ram_pool *p, uint32_t handle)
{
	memcpy(block_data(p, handle - 1), &p->free_head, sizeof(p->free_head));
	p->free_head = handle;
}

static uint32_t *loans_of(const struct ram_pool *p, uint32_t handle)
{
	uint32_t *slab = p->lent[(handle - 1) / SLAB_BLOCKS];

	return slab != NULL ? &slab[(handle - 1) % SLAB_BLOCKS] : NULL;
}

static bool is_lent(const struct ram_pool *p, uint32_t handle)
{
	const uint32_t *loans = p->lent_blocks > 0 ? loans_of(p, handle) : NULL;

	return loans != NULL && *loans != 0;
}

static void block_free(struct ram_pool *p, uint32_t handle)
{
	p->block_used--;
	if (is_lent(p, handle))
		*loans_of(p, handle) |= LENT_DOOMED;
	else
		block_push(p, handle);
}

/* ---- Volumes: data ---- */

static void volume_read(struct ram_volume *v, struct pst_io *io)
{
	for (uint64_t i = 0; i < io->block_count; i++) {
		uint64_t lba = io->lba + i;
		const struct ram_leaf *leaf = v->leaves[lba / LEAF_BLOCKS];
		uint32_t handle = leaf != NULL ? leaf->block[lba % LEAF_BLOCKS] : 0;

		if (handle != 0)
			pst_iov_copy_to(io->iov, i * PST_BLOCK_BYTES, block_data(v->pool, handle - 1), PST_BLOCK_BYTES);
		else
			pst_iov_hole(io, i, 1);
	}
}

static uint32_t *slot_for_write(struct ram_volume *v, uint64_t lba)
{
	struct ram_leaf **leaf = &v->leaves[lba / LEAF_BLOCKS];
	uint32_t *slot;

	if (*leaf == NULL)
		*leaf = calloc(1, sizeof(**leaf));
	if (*leaf == NULL)
		return NULL;
	slot = &(*leaf)->block[lba % LEAF_BLOCKS];
	if (*slot == 0) {
		*slot = block_alloc(v->pool);
		if (*slot == 0)
			return NULL;
		(*leaf)->used++;
		v->used_blocks++;
	} else if (is_lent(v->pool, *slot)) {
		uint32_t old = *slot, handle;

		block_free(v->pool, old);
		handle = block_alloc(v->pool);
		if (handle == 0) { /* only without memory */
			v->pool->block_used++;
			*loans_of(v->pool, old) &= ~LENT_DOOMED;
			return NULL;
		}
		*slot = handle;
	}
	return slot;
}

/* ---- Loans ---- */

static uint32_t handle_of(const struct ram_volume *v, uint64_t lba)
{
	const struct ram_leaf *leaf = v->leaves[lba / LEAF_BLOCKS];

	return leaf != NULL ? leaf->block[lba % LEAF_BLOCKS] : 0;
}

/* How many blocks from @lba on, at most @count, lie in a row in memory with the first; they have no block if it has
 * none.
 */
static uint64_t row(const struct ram_volume *v, uint64_t lba, uint64_t count)
{
	uint32_t first = handle_of(v, lba);
	uint64_t n = 1, most = first == 0 ? HOLE_BLOCKS : SLAB_BLOCKS - (first - 1) % SLAB_BLOCKS;

	while (n < PST_MIN(count, most) && handle_of(v, lba + n) == (first == 0 ? 0 : first + n))
		n++;
	return n;
}

/*
 * Of pools past the processor's caches each request misses thrice, one miss after the other: the leaf's entry, the
 * count of loans, the block. Here the misses of all that is expected overlap. Of a block that is to be read its first
 * quarter is enough: the copy that follows runs ahead of itself, and more prefetches than the core can have under way
 * delay it (docs/performance.md). Blocks that are to be written are not read.
 */
static void ram_expect(struct pst_volume *volume, const struct pst_expected *expected, unsigned count)
{
	const struct ram_volume *v = to_volume(volume);
	const struct ram_pool *p = v->pool;

	for (unsigned i = 0; i < count; i++) {
		uint64_t lba = expected[i].lba;
		const struct ram_leaf *leaf = lba < volume->block_count ? v->leaves[lba / LEAF_BLOCKS] : NULL;

		if (leaf != NULL)
			__builtin_prefetch(&leaf->block[lba % LEAF_BLOCKS]);
	}
	for (unsigned i = 0; i < count; i++) {
		uint32_t handle = expected[i].lba < volume->block_count ? handle_of(v, expected[i].lba) : 0;
		const uint32_t *loans = handle != 0 ? loans_of(p, handle) : NULL;

		if (loans != NULL)
			__builtin_prefetch(loans);
		if (handle == 0 || expected[i].kind != PST_IO_READ)
			continue;
		for (size_t at = 0; at < PREFETCH_BYTES; at += CACHE_LINE_BYTES)
			__builtin_prefetch(block_data(p, handle - 1) + at);
	}
}

static void loans_add(struct ram_pool *p, uint32_t first, uint64_t count)
{
	uint32_t *loans = loans_of(p, first);

	for (uint64_t i = 0; i < count; i++)
		loans[i]++;
	p->lent_blocks += (uint32_t)count;
}

static void ram_give_back(struct pst_volume *volume, struct pst_loan *loan)
{
	struct ram_pool *p = to_volume(volume)->pool;

	for (uint32_t i = 0; i < loan->iov_count; i++) {
		uint32_t first = loan->engine[i], count = (uint32_t)(loan->iov[i].iov_len / PST_BLOCK_BYTES);

		if (first == 0)
			continue;
		for (uint32_t k = 0; k < count; k++) {
			uint32_t *loans = loans_of(p, first + k);

			pst_assert((*loans & ~LENT_DOOMED) > 0);
			if (--*loans != LENT_DOOMED)
				continue;
			*loans = 0;
			block_push(p, first + k);
		}
		p->lent_blocks -= count;
	}
	loan->iov_count = 0;
}

static bool ram_lend(struct pst_volume *volume, struct pst_loan *loan)
{
	static const char hole[HOLE_BLOCKS * PST_BLOCK_BYTES];
	struct ram_volume *v = to_volume(volume);
	struct ram_pool *p = v->pool;

	loan->iov_count = 0;
	if (p->lent_blocks + loan->block_count > LENT_BLOCKS_MAX)
		return false;
	for (uint64_t at = 0; at < loan->block_count;) {
		uint64_t n = row(v, loan->lba + at, loan->block_count - at);
		uint32_t first = handle_of(v, loan->lba + at), i = loan->iov_count;
		uint32_t **lent = first != 0 ? &p->lent[(first - 1) / SLAB_BLOCKS] : NULL;

		if (lent != NULL && *lent == NULL)
			*lent = calloc(SLAB_BLOCKS, sizeof(**lent));
		if (i == PST_LOAN_PIECES_MAX || (lent != NULL && *lent == NULL)) {
			ram_give_back(volume, loan);
			return false;
		}
		loan->engine[i] = first;
		loan->iov[i] = (struct iovec){ first != 0 ? block_data(p, first - 1) : (void *)(uintptr_t)hole,
					       n * PST_BLOCK_BYTES };
		loan->iov_count++;
		if (first != 0)
			loans_add(p, first, n);
		at += n;
	}
	return true;
}

static pst_err volume_write(struct ram_volume *v, const struct pst_io *io)
{
	for (uint64_t i = 0; i < io->block_count; i++) {
		const uint32_t *slot = slot_for_write(v, io->lba + i);

		if (slot == NULL)
			return PST_E_NOSPACE;
		pst_iov_store_from(block_data(v->pool, *slot - 1), io->iov, i * PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	}
	return PST_OK;
}

/* Blocks [lba, lba + count) become holes. Cost: the leaves that exist. */
static void volume_punch(struct ram_volume *v, uint64_t lba, uint64_t count)
{
	uint64_t end = lba + count;

	while (lba < end) {
		uint64_t leaf_end = PST_MIN((lba / LEAF_BLOCKS + 1) * LEAF_BLOCKS, end);
		struct ram_leaf **leaf = &v->leaves[lba / LEAF_BLOCKS];

		for (; *leaf != NULL && lba < leaf_end; lba++) {
			uint32_t *slot = &(*leaf)->block[lba % LEAF_BLOCKS];

			if (*slot == 0)
				continue;
			block_free(v->pool, *slot);
			*slot = 0;
			v->used_blocks--;
			if (--(*leaf)->used == 0) {
				free(*leaf);
				*leaf = NULL;
			}
		}
		lba = leaf_end;
	}
}

static void volume_free(struct ram_volume *v)
{
	volume_punch(v, 0, v->volume.block_count);
	for (uint64_t l = 0; l < pst_div_round_up(v->volume.block_count, LEAF_BLOCKS); l++)
		free(v->leaves[l]); /* of writes that found no block */
	pst_list_remove(&v->node);
	free(v->leaves);
	free(v);
}

static uint64_t slab_count(uint64_t block_limit)
{
	return pst_div_round_up(block_limit + LENT_BLOCKS_MAX, SLAB_BLOCKS);
}

static void pool_free(struct ram_pool *p)
{
	PST_LIST_EACH(n, &p->volumes) {
		struct ram_volume *v = pst_container_of(n, struct ram_volume, node);

		pst_assert(!v->open);
		volume_free(v);
	}
	pst_assert(p->lent_blocks == 0);
	for (uint64_t s = 0; s < slab_count(p->block_limit); s++) {
		free(p->slabs[s]);
		free(p->lent[s]);
	}
	free(p->slabs);
	free(p->lent);
	pst_records_done(&p->records);
	free(p);
}

/* ---- Completion on the next turn ---- */

static void ram_run_done(struct pst_post *post)
{
	struct ram_pool *p = pst_container_of(post, struct ram_pool, post);
	struct pst_list ios, closing, ops, *node;

	p->posted = false;
	pst_list_init(&ios);
	pst_list_init(&closing);
	pst_list_init(&ops);
	pst_list_splice(&ios, &p->done_ios);
	pst_list_splice(&closing, &p->closing);
	pst_list_splice(&ops, &p->done_ops);
	pst_copy_settle();
	while ((node = pst_list_pop_front(&ios)) != NULL) {
		struct pst_io *io = pst_container_of(node, struct pst_io, node);

		io->done(io);
	}
	/* Requests submitted before a close have completed above. */
	while ((node = pst_list_pop_front(&closing)) != NULL) {
		struct ram_volume *v = pst_container_of(node, struct ram_volume, close_node);
		struct pst_volume_close_op *op = v->closing;

		v->closing = NULL;
		v->open = false;
		op->done(op);
	}
	while ((node = pst_list_pop_front(&ops)) != NULL) {
		struct pst_pool_op *op = pst_container_of(node, struct pst_pool_op, node);

		if (op->kind == PST_POOL_CLOSE)
			pool_free(p);
		op->done(op);
	}
}

static void ram_schedule(struct ram_pool *p)
{
	if (p->posted)
		return;
	p->posted = true;
	pst_env_post(p->pool.env, &p->post);
}

static void ram_submit(struct pst_volume *volume, struct pst_io *io)
{
	struct ram_volume *v = to_volume(volume);

	pst_assert(v->open && v->closing == NULL);
	switch (io->kind) {
	case PST_IO_READ:
		volume_read(v, io);
		break;
	case PST_IO_WRITE:
		io->err = volume_write(v, io);
		break;
	case PST_IO_WRITE_ZEROES:
	case PST_IO_DISCARD:
		volume_punch(v, io->lba, io->block_count);
		break;
	case PST_IO_FLUSH:
	case PST_IO_KINDS:
		break;
	}
	pst_list_push_back(&v->pool->done_ios, &io->node);
	ram_schedule(v->pool);
}

static void ram_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats)
{
	ret_stats->used_bytes = to_volume(volume)->used_blocks * PST_BLOCK_BYTES;
}

static void ram_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	struct ram_volume *v = to_volume(volume);

	pst_assert(v->open && v->closing == NULL);
	v->closing = op;
	pst_list_push_back(&v->pool->closing, &v->close_node);
	ram_schedule(v->pool);
}

static const struct pst_volume_ops ram_volume_ops = { .name = "ram",
						      .submit = ram_submit,
						      .stats = ram_stats,
						      .close = ram_close,
						      .any_buffer = true,
						      .lend = ram_lend,
						      .give_back = ram_give_back,
						      .expect = ram_expect };

/* ---- The pool ---- */

static struct ram_volume *find_volume(struct ram_pool *p, const uint8_t uuid[16])
{
	PST_LIST_EACH(n, &p->volumes) {
		struct ram_volume *v = pst_container_of(n, struct ram_volume, node);

		if (memcmp(v->volume.uuid, uuid, 16) == 0)
			return v;
	}
	return NULL;
}

static pst_err volume_create(struct ram_pool *p, const struct pst_pool_op *op)
{
	struct ram_volume *v;

	if (find_volume(p, op->uuid) != NULL)
		return PST_E_EXISTS;
	if (op->block_count > VOLUME_BLOCKS_MAX)
		return PST_E_RANGE;
	v = calloc(1, sizeof(*v));
	if (v == NULL)
		return PST_E_NOMEM;
	v->leaves = calloc(pst_div_round_up(op->block_count, LEAF_BLOCKS), sizeof(v->leaves[0]));
	if (v->leaves == NULL) {
		free(v);
		return PST_E_NOMEM;
	}
	v->pool = p;
	v->volume.ops = &ram_volume_ops;
	v->volume.env = p->pool.env;
	v->volume.block_count = op->block_count;
	memcpy(v->volume.uuid, op->uuid, 16);
	pst_list_push_back(&p->volumes, &v->node);
	return PST_OK;
}

static bool used_from(const struct ram_volume *v, uint64_t lba)
{
	for (uint64_t l = lba / LEAF_BLOCKS; l < pst_div_round_up(v->volume.block_count, LEAF_BLOCKS); l++) {
		for (uint32_t i = 0; v->leaves[l] != NULL && i < LEAF_BLOCKS; i++)
			if (v->leaves[l]->block[i] != 0 && l * LEAF_BLOCKS + i >= lba)
				return true;
	}
	return false;
}

static pst_err volume_resize(struct ram_volume *v, uint64_t block_count)
{
	size_t old_leaves = pst_div_round_up(v->volume.block_count, LEAF_BLOCKS);
	size_t new_leaves = pst_div_round_up(block_count, LEAF_BLOCKS);
	struct ram_leaf **leaves;

	if (block_count > VOLUME_BLOCKS_MAX)
		return PST_E_RANGE;
	if (block_count < v->volume.block_count && used_from(v, block_count))
		return PST_E_BUSY;
	leaves = realloc(v->leaves, new_leaves * sizeof(leaves[0]));
	if (leaves == NULL)
		return PST_E_NOMEM;
	if (new_leaves > old_leaves)
		memset(leaves + old_leaves, 0, (new_leaves - old_leaves) * sizeof(leaves[0]));
	v->leaves = leaves;
	v->volume.block_count = block_count;
	return PST_OK;
}

static pst_err key_op(struct ram_volume *v, struct pst_pool_op *op)
{
	if (op->kind == PST_POOL_KEY_PUT) {
		memcpy(v->key, op->value, op->value_bytes);
		v->key_bytes = op->value_bytes;
		return PST_OK;
	}
	if (v->key_bytes == 0)
		return PST_E_NOTFOUND;
	if (op->kind == PST_POOL_KEY_GET) {
		memcpy(op->key_bytes, v->key, v->key_bytes);
		op->value_bytes = v->key_bytes;
	} else {
		memset(v->key, 0, sizeof(v->key));
		v->key_bytes = 0;
	}
	return PST_OK;
}

static pst_err volume_op(struct ram_pool *p, struct pst_pool_op *op)
{
	struct ram_volume *v = find_volume(p, op->uuid);

	if (v == NULL)
		return PST_E_NOTFOUND;
	switch (op->kind) {
	case PST_POOL_VOLUME_DELETE:
		if (v->open)
			return PST_E_BUSY;
		volume_free(v);
		return PST_OK;
	case PST_POOL_VOLUME_RESIZE:
		return volume_resize(v, op->block_count);
	case PST_POOL_KEY_PUT:
	case PST_POOL_KEY_GET:
	case PST_POOL_KEY_ERASE:
		return key_op(v, op);
	default:
		if (v->open)
			return PST_E_BUSY;
		v->open = true;
		op->volume = &v->volume;
		return PST_OK;
	}
}

static void ram_pool_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	struct ram_pool *p = to_pool(pool);

	switch (op->kind) {
	case PST_POOL_VOLUME_CREATE:
		op->err = volume_create(p, op);
		break;
	case PST_POOL_VOLUME_DELETE:
	case PST_POOL_VOLUME_RESIZE:
	case PST_POOL_VOLUME_OPEN:
	case PST_POOL_KEY_PUT:
	case PST_POOL_KEY_GET:
	case PST_POOL_KEY_ERASE:
		op->err = volume_op(p, op);
		break;
	case PST_POOL_RECORD_PUT:
		op->err = pst_records_put(&p->records, op->key, op->value, op->value_bytes);
		break;
	case PST_POOL_RECORD_DELETE:
		op->err = pst_records_delete(&p->records, op->key);
		break;
	case PST_POOL_CLOSE:
		break; /* when its turn comes */
	default:
		op->err = PST_E_UNSUPPORTED;
		break;
	}
	pst_list_push_back(&p->done_ops, &op->node);
	ram_schedule(p);
}

static void ram_pool_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	pst_records_each(&to_pool(pool)->records, prefix, fn, ctx);
}

static void ram_pool_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	const struct ram_pool *p = to_pool(pool);

	*ret_stats = (struct pst_pool_stats){
		.size_bytes = p->block_limit * PST_BLOCK_BYTES,
		.used_bytes = p->block_used * PST_BLOCK_BYTES,
		.free_bytes = (p->block_limit - p->block_used) * PST_BLOCK_BYTES,
	};
}

static const struct pst_pool_ops ram_pool_ops = { "ram", ram_pool_submit, ram_pool_records, ram_pool_stats, NULL };

pst_err pst_ram_pool_new(struct pst_env *env, uint64_t size_bytes, struct pst_pool **ret_pool)
{
	uint64_t blocks = size_bytes / PST_BLOCK_BYTES;
	struct ram_pool *p;

	if (blocks == 0 || blocks + LENT_BLOCKS_MAX >= UINT32_MAX)
		return PST_E_RANGE;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return PST_E_NOMEM;
	p->slabs = calloc(slab_count(blocks), sizeof(p->slabs[0]));
	p->lent = calloc(slab_count(blocks), sizeof(p->lent[0]));
	if (p->slabs == NULL || p->lent == NULL) {
		free(p->slabs);
		free(p->lent);
		free(p);
		return PST_E_NOMEM;
	}
	p->pool.ops = &ram_pool_ops;
	p->pool.env = env;
	pst_env_random(env, p->pool.uuid, sizeof(p->pool.uuid));
	p->block_limit = blocks;
	p->post.fn = ram_run_done;
	pst_list_init(&p->volumes);
	pst_list_init(&p->done_ios);
	pst_list_init(&p->closing);
	pst_list_init(&p->done_ops);
	*ret_pool = &p->pool;
	return PST_OK;
}
