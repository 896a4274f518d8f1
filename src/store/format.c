/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a new pool. The first superblock is written last, after a flush: a file whose formatting was cut short is not
 * a pool, and is formatted again by the next try.
 */
#include "store/alloc.h"
#include "store/store.h"
#include "store/superblock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { F_READ_FIRST, F_READ_LAST, F_ZERO, F_ROOT, F_FLUSH, F_SB_LAST, F_FLUSH_LAST, F_SB_FIRST, F_FLUSH_FIRST, F_DONE };

struct formatting {
	struct pst_env *env;
	struct pst_store_op *user;
	struct pst_store_format_config config;
	struct pst_file *file;
	struct pst_file_info info;
	struct pst_post post;
	struct pst_file_op op;
	struct iovec iov[2];
	struct pst_superblock *page, *sb;
	struct pst_root *root;
	unsigned step;
	uint32_t part_index;
};

static void run(struct formatting *f);

static void formatting_end(struct formatting *f, pst_err err)
{
	struct pst_store_op *user = f->user;

	if (err != PST_OK && user->detail[0] == '\0')
		snprintf(user->detail, sizeof(user->detail), "%s", pst_err_text(err));
	if (f->file != NULL)
		pst_file_close(f->file);
	free(f->page);
	free(f->sb);
	free(f->root);
	free(f);
	user->err = err;
	user->done(user);
}

static void failed_at_once(struct pst_post *post)
{
	struct formatting *f = pst_container_of(post, struct formatting, post);

	formatting_end(f, f->user->err);
}

static void op_done(struct pst_file_op *op)
{
	struct formatting *f = pst_container_of(op, struct formatting, op);

	if (op->err != PST_OK) {
		formatting_end(f, op->err);
		return;
	}
	run(f);
}

static void submit(struct formatting *f, enum pst_file_kind kind, uint64_t block, uint64_t count, void *buf)
{
	bool data = kind == PST_FILE_READ || kind == PST_FILE_WRITE;

	for (uint64_t i = 0; data && i < count; i++)
		f->iov[i] = (struct iovec){ buf, PST_BLOCK_BYTES };
	f->op = (struct pst_file_op){ .kind = kind,
				      .iov = data ? f->iov : NULL,
				      .iov_count = data ? (uint32_t)count : 0,
				      .offset_bytes = block * PST_BLOCK_BYTES,
				      .len_bytes = count * PST_BLOCK_BYTES,
				      .done = op_done };
	pst_file_submit(f->file, &f->op);
}

static pst_err root_make(struct formatting *f, const struct pst_sb_partition *geo)
{
	struct pst_alloc alloc;
	pst_err err = pst_alloc_init(&alloc, f->part_index, geo->blocks, geo->data_start);

	if (err != PST_OK)
		return err;
	memset(f->root, 0, sizeof(*f->root));
	f->root->magic = PST_ROOT_MAGIC;
	memcpy(f->root->pool_uuid, f->sb->uuid, 16);
	f->root->partition = f->part_index;
	f->root->space_digest = pst_alloc_freeze(&alloc, 1);
	f->root->generation = 1;
	f->root->incarnation = 1;
	f->root->log_seq = 1;
	pst_root_seal(f->root);
	pst_alloc_done(&alloc);
	return PST_OK;
}

static pst_err layout(struct formatting *f)
{
	memset(f->sb, 0, sizeof(*f->sb));
	f->sb->magic = PST_SB_MAGIC;
	f->sb->version = PST_SB_VERSION;
	pst_env_random(f->env, f->sb->uuid, sizeof(f->sb->uuid));
	f->sb->uuid[6] = (uint8_t)((f->sb->uuid[6] & 0x0f) | 0x40); /* RFC 4122, section 4.4: random */
	f->sb->uuid[8] = (uint8_t)((f->sb->uuid[8] & 0x3f) | 0x80);
	f->sb->generation = 1;
	f->sb->created_ns = pst_env_wall_ns(f->env);
	f->sb->clean = 1;
	return pst_sb_layout(f->sb, f->info.size_bytes / PST_BLOCK_BYTES, f->config.partition_count, f->user->detail);
}

static void exists(struct formatting *f)
{
	snprintf(f->user->detail, sizeof(f->user->detail), "there is a Penstock pool already; it is left as it is");
	formatting_end(f, PST_E_EXISTS);
}

static void size_and_layout(struct formatting *f)
{
	pst_err err = PST_OK;

	if (f->config.size_bytes > f->info.size_bytes && !f->info.block_device)
		err = pst_file_truncate(f->file, f->config.size_bytes / PST_BLOCK_BYTES * PST_BLOCK_BYTES);
	pst_file_info(f->file, &f->info);
	if (err == PST_OK && f->config.size_bytes > 0 && f->info.size_bytes < f->config.size_bytes / PST_BLOCK_BYTES) {
		snprintf(f->user->detail, sizeof(f->user->detail), "the device is smaller than the size asked for");
		err = PST_E_RANGE;
	}
	if (err == PST_OK)
		err = layout(f);
	if (err != PST_OK) {
		formatting_end(f, err);
		return;
	}
	f->step = F_ZERO;
	run(f);
}

static void run_partition(struct formatting *f)
{
	const struct pst_sb_partition *geo = &f->sb->partitions[f->part_index];
	pst_err err;

	if (f->step == F_ZERO) {
		f->step = F_ROOT;
		submit(f, PST_FILE_WRITE_ZEROES, geo->start, geo->data_start, NULL);
		return;
	}
	err = root_make(f, geo);
	if (err != PST_OK) {
		formatting_end(f, err);
		return;
	}
	f->part_index++;
	f->step = f->part_index < f->sb->partition_count ? F_ZERO : F_FLUSH;
	submit(f, PST_FILE_WRITE, geo->start + f->root->generation % 2 * 2, 2, f->root);
}

static void run(struct formatting *f)
{
	uint64_t file_blocks = f->info.size_bytes / PST_BLOCK_BYTES;

	switch (f->step) {
	case F_READ_FIRST:
		if (file_blocks < 2) {
			size_and_layout(f);
			return;
		}
		f->step = F_READ_LAST;
		submit(f, PST_FILE_READ, 0, 1, f->page);
		return;
	case F_READ_LAST:
		if (pst_sb_intact(f->page)) {
			exists(f);
			return;
		}
		size_and_layout(f);
		return;
	case F_ZERO:
	case F_ROOT:
		run_partition(f);
		return;
	case F_FLUSH:
	case F_FLUSH_LAST:
	case F_FLUSH_FIRST:
		f->step++;
		submit(f, PST_FILE_FLUSH, 0, 0, NULL);
		return;
	case F_SB_LAST:
	case F_SB_FIRST:
		pst_sb_seal(f->sb);
		submit(f, PST_FILE_WRITE, f->step == F_SB_LAST ? f->sb->blocks - 1 : 0, 1, f->sb);
		f->step++;
		return;
	default:
		formatting_end(f, PST_OK);
	}
}

void pst_store_format(struct pst_env *env, const char *path, const struct pst_store_format_config *config,
		      struct pst_store_op *op)
{
	struct formatting *f = calloc(1, sizeof(*f));
	pst_err err = PST_E_NOMEM;

	pst_assert(f != NULL && op->done != NULL);
	op->detail[0] = '\0';
	op->pool = NULL;
	f->env = env;
	f->user = op;
	f->config = *config;
	f->page = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	f->sb = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	f->root = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (f->page != NULL && f->sb != NULL && f->root != NULL)
		err = pst_file_open(env, path, PST_FILE_CREATE | PST_FILE_EXCLUSIVE | PST_FILE_DIRECT, &f->file);
	if (err != PST_OK) {
		snprintf(op->detail, sizeof(op->detail), "%s: %s", path, pst_err_text(err));
		op->err = err;
		f->post.fn = failed_at_once;
		pst_env_post(env, &f->post);
		return;
	}
	pst_file_info(f->file, &f->info);
	f->step = F_READ_FIRST;
	run(f);
}
