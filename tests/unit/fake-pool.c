/* SPDX-License-Identifier: Apache-2.0 */
#include "fake-pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t nobody[16];

static struct fake_pool *to_fake(struct pst_pool *pool)
{
	return pst_container_of(pool, struct fake_pool, pool);
}

struct fake_version *fake_pool_find(struct fake_pool *f, const uint8_t uuid[16])
{
	for (unsigned i = 0; i < FAKE_VERSIONS_MAX; i++)
		if (f->versions[i].used && memcmp(f->versions[i].uuid, uuid, 16) == 0)
			return &f->versions[i];
	return NULL;
}

uint32_t fake_pool_count(const struct fake_pool *f, bool snapshots)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < FAKE_VERSIONS_MAX; i++)
		count += f->versions[i].used && f->versions[i].snapshot == snapshots;
	return count;
}

static struct fake_version *version_new(struct fake_pool *f, const uint8_t uuid[16], uint64_t block_count)
{
	for (unsigned i = 0; i < FAKE_VERSIONS_MAX; i++) {
		struct fake_version *v = &f->versions[i];

		if (v->used)
			continue;
		*v = (struct fake_version){ .used = true, .block_count = block_count };
		memcpy(v->uuid, uuid, 16);
		return v;
	}
	return NULL;
}

/* ---- Completion on the next turn ---- */

static void complete_turn(struct pst_post *post)
{
	struct fake_pool *f = pst_container_of(post, struct fake_pool, post);
	struct pst_list done, *node;

	f->posted = false;
	pst_list_init(&done);
	pst_list_splice(&done, &f->done);
	while ((node = pst_list_pop_front(&done)) != NULL) {
		struct pst_pool_op *op = pst_container_of(node, struct pst_pool_op, node);

		op->done(op);
	}
}

static void complete(struct fake_pool *f, struct pst_pool_op *op, pst_err err)
{
	op->err = err;
	pst_list_push_back(&f->done, &op->node);
	if (f->posted)
		return;
	f->posted = true;
	pst_env_post(f->pool.env, &f->post);
}

/* ---- What the memory pool does ---- */

static void applied(struct fake_pool *f, const struct pst_pool_op *op)
{
	struct fake_version *v = fake_pool_find(f, op->uuid);

	if (op->kind == PST_POOL_VOLUME_CREATE)
		version_new(f, op->uuid, op->block_count);
	else if (op->kind == PST_POOL_VOLUME_DELETE && v != NULL)
		v->used = false;
	else if (op->kind == PST_POOL_VOLUME_RESIZE && v != NULL)
		v->block_count = op->block_count;
}

static void lower_done(struct pst_pool_op *lower)
{
	struct pst_pool_op *op = NULL;
	struct fake_pool *f = NULL;

	memcpy(&f, &lower->scratch[7], sizeof(f));
	for (unsigned i = 0; i < PST_ARRAY_COUNT(f->calls); i++)
		if (&f->calls[i].lower == lower) {
			op = f->calls[i].upper;
			f->calls[i].upper = NULL;
		}
	if (op == NULL)
		abort();
	op->err = lower->err;
	op->volume = lower->volume;
	if (op->kind == PST_POOL_CLOSE) {
		void (*done)(struct pst_pool_op *) = op->done;

		free(f);
		done(op);
		return;
	}
	if (op->err == PST_OK && op->kind == PST_POOL_CLONE)
		memcpy(version_new(f, op->other, lower->block_count)->parent, op->uuid, 16);
	else if (op->err == PST_OK)
		applied(f, lower);
	op->done(op);
}

/* @block_count, @uuid: as the memory pool is to see them. */
static void below(struct fake_pool *f, struct pst_pool_op *op, enum pst_pool_op_kind kind, const uint8_t uuid[16],
		  uint64_t block_count)
{
	unsigned i = 0;

	while (f->calls[i].upper != NULL)
		i++;
	f->calls[i].upper = op;
	f->calls[i].lower = *op;
	f->calls[i].lower.kind = kind;
	f->calls[i].lower.block_count = block_count;
	f->calls[i].lower.done = lower_done;
	memcpy(f->calls[i].lower.uuid, uuid, 16);
	memcpy(&f->calls[i].lower.scratch[7], &f, sizeof(f));
	pst_pool_submit(f->lower, &f->calls[i].lower);
}

/* ---- Versions ---- */

static pst_err snapshot(struct fake_pool *f, const struct pst_pool_op *op)
{
	if (f->refused > 0) {
		f->refused--;
		return PST_E_NOSPACE;
	}
	for (uint32_t i = 0; i < op->member_count; i++) {
		if (fake_pool_find(f, op->members[i].volume) == NULL)
			return PST_E_NOTFOUND;
		if (fake_pool_find(f, op->members[i].snapshot) != NULL)
			return PST_E_EXISTS;
	}
	for (uint32_t i = 0; i < op->member_count; i++) {
		struct fake_version *v = fake_pool_find(f, op->members[i].volume);
		struct fake_version *s = version_new(f, op->members[i].snapshot, v->block_count);

		s->snapshot = true;
		memcpy(s->parent, v->parent, 16);
		memcpy(v->parent, s->uuid, 16);
	}
	return PST_OK;
}

static pst_err info(struct fake_pool *f, struct pst_pool_op *op)
{
	const struct fake_version *v = fake_pool_find(f, op->uuid);

	if (v == NULL)
		return PST_E_NOTFOUND;
	op->info = (struct pst_volume_info){ .block_count = v->block_count, .mapped_blocks = FAKE_MAPPED_BLOCKS };
	op->info.own_blocks = memcmp(v->parent, nobody, 16) == 0 ? FAKE_MAPPED_BLOCKS : 1;
	op->info.snapshot = v->snapshot;
	op->info.settings = v->settings;
	memcpy(op->info.parent, v->parent, 16);
	for (unsigned i = 0; i < FAKE_VERSIONS_MAX; i++)
		op->info.children += f->versions[i].used && memcmp(f->versions[i].parent, v->uuid, 16) == 0;
	return PST_OK;
}

static pst_err set(struct fake_pool *f, const struct pst_pool_op *op)
{
	struct fake_version *v = fake_pool_find(f, op->uuid);

	if (v == NULL)
		return PST_E_NOTFOUND;
	v->settings = op->settings;
	return PST_OK;
}

/* Every third block differs: two ranges a call, so that callers must go on. */
static pst_err diff(struct fake_pool *f, struct pst_pool_op *op)
{
	const struct fake_version *v = fake_pool_find(f, op->uuid);
	uint32_t room = PST_MIN(op->range_count, 2u);

	if (v == NULL || (memcmp(op->other, nobody, 16) != 0 && fake_pool_find(f, op->other) == NULL))
		return PST_E_NOTFOUND;
	op->range_count = 0;
	for (; op->lba < v->block_count && op->range_count < room; op->lba++)
		if (op->lba % 3 == 0)
			op->ranges[op->range_count++] = (struct pst_range){ op->lba, 1 };
	return PST_OK;
}

/* ---- Tasks, space ---- */

static struct pst_pool_task *task_find(struct fake_pool *f, const struct pst_pool_op *op)
{
	for (uint32_t i = 0; i < f->task_count; i++)
		if (f->tasks[i].kind == op->task && memcmp(f->tasks[i].uuid, op->uuid, 16) == 0)
			return &f->tasks[i];
	return NULL;
}

static pst_err task_start(struct fake_pool *f, const struct pst_pool_op *op)
{
	struct pst_pool_task *t = task_find(f, op);
	bool running = t != NULL && t->running;

	if (memcmp(op->uuid, nobody, 16) != 0 && fake_pool_find(f, op->uuid) == NULL)
		return PST_E_NOTFOUND;
	if (t == NULL && f->task_count == FAKE_TASKS_MAX)
		return PST_E_NOMEM;
	if (t == NULL)
		t = &f->tasks[f->task_count++];
	*t = (struct pst_pool_task){ .kind = op->task, .running = true, .rate_bytes_per_s = op->rate_bytes_per_s };
	t->total_bytes = 1000;
	t->started_ns = 1;
	memcpy(t->uuid, op->uuid, 16);
	return running ? PST_E_EXISTS : PST_OK;
}

static pst_err task_stop(struct fake_pool *f, const struct pst_pool_op *op)
{
	struct pst_pool_task *t = task_find(f, op);

	if (t == NULL || !t->running)
		return PST_E_NOTFOUND;
	t->running = false;
	return PST_OK;
}

static pst_err add_space(struct fake_pool *f, struct pst_pool_op *op)
{
	if (strstr(op->key, "missing") != NULL) {
		snprintf(op->detail, sizeof(op->detail), "no such file");
		return PST_E_NOTFOUND;
	}
	f->devices += op->kind == PST_POOL_DEVICE_ADD;
	f->added_bytes += (uint64_t)1 << 20;
	return PST_OK;
}

void fake_pool_end_check(struct fake_pool *f)
{
	struct pst_pool_op *op = f->checking;

	f->checking = NULL;
	op->check->finding(op->check->ctx, false, "leaf 7 of volume 1 is lost");
	op->check->findings = 1;
	op->check->lost_blocks = 1;
	op->check->nodes_read = 99;
	complete(f, op, op->check->stop ? PST_E_CANCELLED : PST_OK);
}

static void check(struct fake_pool *f, struct pst_pool_op *op)
{
	pst_assert(f->checking == NULL && op->check != NULL && !op->check->repair);
	f->checking = op;
	if (!f->check_waits)
		fake_pool_end_check(f);
}

/* ---- The pool ---- */

static bool is_table_only(struct fake_pool *f, const uint8_t uuid[16])
{
	const struct fake_version *v = fake_pool_find(f, uuid);

	return v != NULL && v->snapshot;
}

static void version_op(struct fake_pool *f, struct pst_pool_op *op)
{
	struct fake_version *v = fake_pool_find(f, op->uuid), *other = fake_pool_find(f, op->other);

	if (op->kind == PST_POOL_CLONE && v != NULL && v->snapshot)
		return below(f, op, PST_POOL_VOLUME_CREATE, op->other, v->block_count);
	if (op->kind == PST_POOL_ROLLBACK && v != NULL && !v->snapshot && other != NULL && other->snapshot)
		return below(f, op, PST_POOL_VOLUME_RESIZE, op->uuid, other->block_count);
	complete(f, op, v == NULL || other == NULL ? PST_E_NOTFOUND : PST_E_INVAL);
}

static void fake_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	struct fake_pool *f = to_fake(pool);

	switch (op->kind) {
	case PST_POOL_SNAPSHOT:
		return complete(f, op, snapshot(f, op));
	case PST_POOL_CLONE:
	case PST_POOL_ROLLBACK:
		return version_op(f, op);
	case PST_POOL_DIFF:
		return complete(f, op, diff(f, op));
	case PST_POOL_VOLUME_INFO:
		return complete(f, op, info(f, op));
	case PST_POOL_VOLUME_SET:
		return complete(f, op, set(f, op));
	case PST_POOL_TASK_START:
		return complete(f, op, task_start(f, op));
	case PST_POOL_TASK_STOP:
		return complete(f, op, task_stop(f, op));
	case PST_POOL_DEVICE_ADD:
	case PST_POOL_GROW:
		return complete(f, op, add_space(f, op));
	case PST_POOL_CHECK:
		return check(f, op);
	case PST_POOL_VOLUME_DELETE:
		if (is_table_only(f, op->uuid)) {
			applied(f, op);
			return complete(f, op, PST_OK);
		}
		return below(f, op, op->kind, op->uuid, 0);
	default:
		return below(f, op, op->kind, op->uuid, op->block_count);
	}
}

static void fake_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	pst_pool_records(to_fake(pool)->lower, prefix, fn, ctx);
}

static void fake_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	struct fake_pool *f = to_fake(pool);

	pst_pool_stats(f->lower, ret_stats);
	ret_stats->size_bytes += f->added_bytes;
	ret_stats->free_bytes += f->added_bytes;
	ret_stats->devices = f->devices;
}

static uint32_t fake_tasks(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max)
{
	struct fake_pool *f = to_fake(pool);

	memcpy(tasks, f->tasks, PST_MIN(max, f->task_count) * sizeof(tasks[0]));
	return f->task_count;
}

static const struct pst_pool_ops fake_ops = { "ram", fake_submit, fake_records, fake_stats, fake_tasks };

struct fake_pool *fake_pool_new(struct pst_env *env, struct pst_pool *lower)
{
	struct fake_pool *f = calloc(1, sizeof(*f));

	f->pool.ops = &fake_ops;
	f->pool.env = env;
	memcpy(f->pool.uuid, lower->uuid, 16);
	f->lower = lower;
	f->devices = 1;
	f->post.fn = complete_turn;
	pst_list_init(&f->done);
	return f;
}
