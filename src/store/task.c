/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame for work in the background (task.h). Three brakes, applied before every step:
 *
 *   rate        each step's bytes move task.due_ns on; a task that has slept gets no credit for it, apart from BURST_NS
 *   buffers     TASK_BUFFERS for all tasks together, handed out in order of asking; one while the foreground is at work
 *   foreground  while requests of volumes come, each operation is followed by a pause of PAUSE_FACTOR times as long as
 *               it took, so the device's slowness slows the background first
 *
 * Records: START and STOP are logged like any record. Progress changes the record in memory only, and reaches the disk
 * with the next checkpoint of partition 0 (which is asked for every SAVE_NS), so it costs no log. That is sound because
 * a position is a hint, and because nothing ever logs that one of these records was deleted: replay puts what the log
 * has put over whatever the image had. A record whose volume is gone is dropped from memory.
 */
#include "store/task.h"

#include "store/scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASKS_MAX 64u
#define STEPS_MAX 8u /* per turn */
#define BURST_NS ((uint64_t)50 * 1000 * 1000)
#define SAVE_NS ((uint64_t)30 * 1000 * 1000 * 1000)
#define FOREGROUND_NS ((uint64_t)20 * 1000 * 1000) /* it counts as at work for this long after a request */
#define PAUSE_FACTOR 4u

static const struct task_ops *const kinds[PST_TASK_KINDS] = {
	[PST_TASK_STRAIGHTEN] = &straighten_task_ops,
	[PST_TASK_FLATTEN] = &flatten_task_ops,
	[PST_TASK_SCRUB] = &scrub_task,
	[PST_TASK_DELETE] = &delete_task_ops,
};

/* The value of a task's record. */
struct task_disk {
	uint32_t version, phase;
	uint8_t uuid[16];
	uint64_t rate_bytes_per_s, started_ns;
	uint64_t done_bytes, total_bytes, errors;
	uint64_t position[4];
};
_Static_assert(sizeof(struct task_disk) == 96, "task record");

#define TASK_DISK_VERSION 1u
#define TASK_KEY_BYTES 80u

static const uint8_t no_uuid[16];

static void task_run(struct waiter *w);

bool task_of_pool(const struct task *t)
{
	return memcmp(t->uuid, no_uuid, 16) == 0;
}

struct svol *task_volume(const struct task *t)
{
	return svol_find(t->store, t->uuid);
}

/* ---- Records ---- */

static void record_key(const struct task *t, char key[TASK_KEY_BYTES])
{
	char uuid[37];

	if (!task_of_pool(t))
		snprintf(key, TASK_KEY_BYTES, "%ctask/%s/%s", STORE_KEY_RESERVED, t->ops->name,
			 store_uuid_text(t->uuid, uuid));
	else
		snprintf(key, TASK_KEY_BYTES, "%ctask/%s", STORE_KEY_RESERVED, t->ops->name);
}

static struct task_disk record_value(const struct task *t, enum task_phase phase)
{
	struct task_disk d = { .version = TASK_DISK_VERSION,
			       .phase = phase,
			       .rate_bytes_per_s = t->rate_bytes_per_s,
			       .started_ns = t->started_ns,
			       .done_bytes = t->done_bytes,
			       .total_bytes = t->total_bytes,
			       .errors = t->errors };

	memcpy(d.uuid, t->uuid, 16);
	memcpy(d.position, t->position, sizeof(d.position));
	return d;
}

/* In memory, and on disk with the next checkpoint of partition 0. */
static void record_save(struct task *t)
{
	struct task_disk d = record_value(t, t->phase);
	char key[TASK_KEY_BYTES];

	if ((t->ops->flags & TASK_INTERNAL) != 0)
		return;
	t->saved_ns = pst_env_now_ns(t->store->pool.env);
	record_key(t, key);
	if (pst_records_put(&t->store->records, key, &d, sizeof(d)) != PST_OK)
		return; /* no memory: the older hint stands */
	catalog_changed(t->store);
	if (!t->store->closing)
		checkpoint_want(&t->store->parts[0], NULL);
}

static void record_drop(struct task *t)
{
	char key[TASK_KEY_BYTES];

	record_key(t, key);
	if (pst_records_delete(&t->store->records, key) == PST_OK)
		catalog_changed(t->store);
}

/* ---- Tasks ---- */

struct task *task_find(struct store *st, enum pst_pool_task_kind kind, const uint8_t uuid[16])
{
	PST_LIST_EACH(l, &st->tasks->all) {
		struct task *t = pst_container_of(l, struct task, node);

		if (t->kind == kind && memcmp(t->uuid, uuid, 16) == 0)
			return t;
	}
	return NULL;
}

static void timer_fired(struct pst_timer *timer)
{
	task_wake(pst_container_of(timer, struct task, timer));
}

static struct task *task_new(struct store *st, enum pst_pool_task_kind kind, const uint8_t uuid[16])
{
	struct task *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->store = st;
	t->ops = st->tasks->kinds[kind];
	t->kind = kind;
	memcpy(t->uuid, uuid, 16);
	t->wait.run = task_run;
	pst_list_init(&t->wait.node);
	pst_list_init(&t->queue);
	pst_timer_init(&t->timer, timer_fired);
	pst_list_push_back(&st->tasks->all, &t->node);
	st->tasks->count++;
	return t;
}

static void task_free(struct task *t)
{
	pst_list_remove(&t->node);
	t->store->tasks->count--;
	free(t->state);
	free(t);
}

/* Wherever it waits, it does no longer. */
static void unqueue(struct task *t)
{
	pst_list_remove(&t->wait.node);
	pst_list_remove(&t->queue);
	pst_timer_disarm(t->store->pool.env, &t->timer);
}

/* The last buffer is back: the kind's own state goes. A task without its volume goes too, and an internal one. */
static void settle(struct task *t)
{
	struct tasks *ts = t->store->tasks;
	bool running = false;

	if (t->phase == TASK_RUNNING || t->inflight > 0)
		return;
	if (t->begun && t->ops->end != NULL)
		t->ops->end(t);
	t->begun = false;
	free(t->state);
	t->state = NULL;
	PST_LIST_EACH(l, &ts->all)
		running = running || pst_container_of(l, struct task, node)->begun;
	if (!running) {
		free(ts->memory);
		ts->memory = NULL;
	}
	if ((t->ops->flags & TASK_INTERNAL) != 0 || (!task_of_pool(t) && task_volume(t) == NULL)) {
		record_drop(t);
		task_free(t);
	}
}

static void task_stop(struct task *t, enum task_phase phase)
{
	unqueue(t);
	t->phase = phase;
	record_save(t);
	settle(t);
}

static pst_err buffers_init(struct tasks *ts)
{
	if (ts->memory != NULL)
		return PST_OK;
	ts->memory = aligned_alloc(PST_BLOCK_BYTES, (size_t)TASK_BUFFERS * TASK_BUFFER_BLOCKS * PST_BLOCK_BYTES);
	if (ts->memory == NULL)
		return PST_E_NOMEM;
	for (ts->buffer_count = 0; ts->buffer_count < TASK_BUFFERS; ts->buffer_count++)
		ts->buffers[ts->buffer_count] =
		    ts->memory + (size_t)ts->buffer_count * TASK_BUFFER_BLOCKS * PST_BLOCK_BYTES;
	return PST_OK;
}

static void task_begin(struct task *t)
{
	t->phase = TASK_RUNNING;
	t->err = t->wait.err = PST_OK;
	t->saved_ns = pst_env_now_ns(t->store->pool.env);
	task_wake(t);
}

/* What begin() needs is there, or the task has failed. False: it has. */
static bool task_prepare(struct task *t)
{
	if (t->begun)
		return true;
	t->err = buffers_init(t->store->tasks);
	if (t->err == PST_OK && t->ops->state_bytes > 0) {
		t->state = calloc(1, t->ops->state_bytes);
		t->err = t->state != NULL ? PST_OK : PST_E_NOMEM;
	}
	t->begun = t->err == PST_OK;
	if (t->begun && t->ops->begin != NULL)
		t->err = t->ops->begin(t);
	return t->err == PST_OK;
}

/* ---- Brakes ---- */

static bool foreground_at_work(struct store *st, uint64_t now)
{
	struct tasks *ts = st->tasks;

	if (ts->seen_ios != st->foreground_ios || st->foreground_inflight > 0) {
		ts->seen_ios = st->foreground_ios;
		ts->seen_ns = now;
	}
	return ts->seen_ns != 0 && now - ts->seen_ns < FOREGROUND_NS;
}

void task_charge(struct task *t, uint64_t bytes)
{
	uint64_t now = pst_env_now_ns(t->store->pool.env);

	if (t->rate_bytes_per_s == 0)
		return;
	if (t->due_ns + BURST_NS < now)
		t->due_ns = now - BURST_NS;
	t->due_ns += (uint64_t)((double)bytes / (double)t->rate_bytes_per_s * 1e9);
}

uint64_t task_brake(struct task *t, uint64_t bytes, uint64_t begun_ns)
{
	uint64_t now = pst_env_now_ns(t->store->pool.env), due = 0;

	task_charge(t, bytes);
	if (t->rate_bytes_per_s > 0)
		due = t->due_ns;
	if (foreground_at_work(t->store, now))
		due = PST_MAX(due, now + PAUSE_FACTOR * (now - begun_ns));
	return due > now ? due : 0;
}

/* May it go on now? If not, it will be woken. */
static bool may_go(struct task *t)
{
	struct store *st = t->store;
	struct tasks *ts = st->tasks;
	uint64_t now = pst_env_now_ns(st->pool.env);
	bool busy = foreground_at_work(st, now);
	uint64_t due = t->rate_bytes_per_s > 0 ? t->due_ns : 0;

	if (ts->inflight >= (busy ? 1 : TASK_BUFFERS)) {
		if (pst_list_empty(&t->queue))
			pst_list_push_back(&ts->queue, &t->queue);
		return false;
	}
	if (busy)
		due = PST_MAX(due, ts->pause_ns);
	if (due <= now)
		return true;
	pst_timer_arm(st->pool.env, &t->timer, due);
	return false;
}

uint8_t *task_take(struct task *t, uint64_t bytes)
{
	struct tasks *ts = t->store->tasks;
	uint8_t *buffer;

	if (ts->buffer_count == 0) {
		if (pst_list_empty(&t->queue))
			pst_list_push_back(&ts->queue, &t->queue);
		return NULL;
	}
	buffer = ts->buffers[--ts->buffer_count];
	ts->begun_ns[(size_t)(buffer - ts->memory) / PST_BLOCK_BYTES / TASK_BUFFER_BLOCKS] =
	    pst_env_now_ns(t->store->pool.env);
	ts->inflight++;
	t->inflight++;
	task_charge(t, bytes);
	return buffer;
}

void task_give(struct task *t, uint8_t *buffer)
{
	struct tasks *ts = t->store->tasks;
	uint64_t now = pst_env_now_ns(t->store->pool.env);
	uint64_t begun = ts->begun_ns[(size_t)(buffer - ts->memory) / PST_BLOCK_BYTES / TASK_BUFFER_BLOCKS];
	struct pst_list *l;

	pst_assert(t->inflight > 0 && ts->inflight > 0);
	ts->buffers[ts->buffer_count++] = buffer;
	ts->inflight--;
	t->inflight--;
	ts->pause_ns = PST_MAX(ts->pause_ns, now + PAUSE_FACTOR * (now - begun));
	while ((l = pst_list_pop_front(&ts->queue)) != NULL) /* they ask before the giver asks again: fair to all */
		task_wake(pst_container_of(l, struct task, queue));
	task_wake(t);
	settle(t);
}

bool task_event_begin(struct task *t)
{
	struct pst_list *queue = &t->store->control.queue;

	if (!pst_list_empty(queue) && pst_container_of(queue->prev, struct pst_pool_op, node)->kind == PST_POOL_CLOSE)
		return false; /* what came behind it would never be done */
	t->inflight++;
	return true;
}

void task_event_end(struct task *t)
{
	pst_assert(t->inflight > 0);
	t->inflight--;
	task_wake(t);
	settle(t);
}

void task_wake(struct task *t)
{
	if (t->stepping)
		t->again = true;
	else if (t->phase == TASK_RUNNING && pst_list_empty(&t->wait.node))
		store_wake(t->store, &t->wait);
}

/* ---- Running ---- */

/* What a step's answer means for the task; false: no more steps now. */
static bool stepped(struct task *t, enum task_step step)
{
	char uuid[37];

	switch (step) {
	case TASK_MORE:
		return true;
	case TASK_WAIT:
		return false;
	case TASK_DONE:
		if (t->inflight == 0)
			task_stop(t, TASK_FINISHED);
		return false; /* with buffers out: the last one that is given back makes it step, and say so, again */
	default:
		store_event(t->store, PST_LOG_ERROR,
			    "task_failed task=%s volume=%s error=%s: start it again when the cause is gone",
			    t->ops->name, !task_of_pool(t) ? store_uuid_text(t->uuid, uuid) : "all",
			    pst_err_name(t->err));
		task_stop(t, TASK_STOPPED);
		return false;
	}
}

static bool volume_gone(const struct task *t)
{
	return !task_of_pool(t) && (t->ops->flags & TASK_INTERNAL) == 0 && task_volume(t) == NULL;
}

/* A wake-up from inside the step can't queue it while the step may be about to: it steps once more instead. */
static enum task_step step_once(struct task *t)
{
	enum task_step step;

	if (!task_prepare(t))
		return TASK_FAILED;
	t->stepping = true;
	t->again = false;
	step = t->ops->step(t);
	t->stepping = false;
	return step == TASK_WAIT && t->again && pst_list_empty(&t->wait.node) ? TASK_MORE : step;
}

static void task_run(struct waiter *w)
{
	struct task *t = pst_container_of(w, struct task, wait);
	struct store *st = t->store;

	if (t->phase != TASK_RUNNING || st->closing)
		return;
	if (st->failed != PST_OK) {
		t->err = st->failed;
		stepped(t, TASK_FAILED);
		return;
	}
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		if (volume_gone(t)) { /* its record says deleted; tasks_volume_gone follows when that is durable */
			task_stop(t, TASK_STOPPED);
			return;
		}
		if (!may_go(t))
			return;
		if (!stepped(t, step_once(t)))
			return;
		if (pst_env_now_ns(st->pool.env) - t->saved_ns > SAVE_NS)
			record_save(t);
	}
	task_wake(t);
}

pst_err task_start_internal(struct store *st, enum pst_pool_task_kind kind, const uint8_t uuid[16])
{
	struct task *t = task_find(st, kind, uuid);

	if (st->tasks->kinds[kind] == NULL)
		return PST_E_UNSUPPORTED;
	if (t != NULL && t->phase == TASK_RUNNING)
		return PST_E_EXISTS;
	if (t == NULL)
		t = task_new(st, kind, uuid);
	if (t == NULL)
		return PST_E_NOMEM;
	memset(t->position, 0, sizeof(t->position));
	t->done_bytes = t->errors = 0;
	t->started_ns = pst_env_wall_ns(st->pool.env);
	task_begin(t);
	return PST_OK;
}

/* ---- Users' operations ---- */

/* Room for one more: a finished one may have to go. */
static bool make_room(struct store *st)
{
	PST_LIST_EACH(l, &st->tasks->all) {
		struct task *t = pst_container_of(l, struct task, node);

		if (st->tasks->count < TASKS_MAX)
			break;
		if (t->phase == TASK_FINISHED && !t->begun) {
			record_drop(t);
			task_free(t);
		}
	}
	return st->tasks->count < TASKS_MAX;
}

static pst_err check(struct store *st, struct pst_pool_op *op, const struct task_ops *ops)
{
	bool volume = memcmp(op->uuid, no_uuid, 16) != 0;
	struct svol *v = volume ? svol_find(st, op->uuid) : NULL;

	if (ops == NULL || (ops->flags & TASK_INTERNAL) != 0)
		return PST_E_UNSUPPORTED;
	if ((ops->flags & (volume ? TASK_OF_VOLUME : TASK_OF_POOL)) == 0) {
		snprintf(op->detail, sizeof(op->detail), volume ? "%s works on whole pools" : "%s needs a volume",
			 ops->name);
		return PST_E_INVAL;
	}
	if (volume && v == NULL)
		return PST_E_NOTFOUND;
	if (op->kind == PST_POOL_TASK_STOP && (ops->flags & TASK_BY_ITSELF) != 0) {
		snprintf(op->detail, sizeof(op->detail), "%s can't be stopped; give it a low rate", ops->name);
		return PST_E_DENIED;
	}
	if (op->kind == PST_POOL_TASK_START && ops->check != NULL)
		return ops->check(st, v, op->detail);
	return PST_OK;
}

static pst_err start_begin(struct store *st, struct pst_pool_op *op, struct task **t)
{
	if (*t != NULL && (*t)->phase == TASK_RUNNING) {
		(*t)->rate_bytes_per_s = op->rate_bytes_per_s;
		(*t)->due_ns = 0;
		record_save(*t);
		unqueue(*t); /* it may have slept by the old rate */
		task_wake(*t);
		return PST_E_EXISTS;
	}
	if (*t == NULL && !make_room(st)) {
		snprintf(op->detail, sizeof(op->detail), "%u tasks are listed already; wait for one to end", TASKS_MAX);
		return PST_E_BUSY;
	}
	if (*t == NULL)
		*t = task_new(st, op->task, op->uuid);
	if (*t == NULL)
		return PST_E_NOMEM;
	if ((*t)->phase == TASK_FINISHED || (*t)->started_ns == 0) {
		memset((*t)->position, 0, sizeof((*t)->position));
		(*t)->done_bytes = (*t)->total_bytes = (*t)->errors = 0;
		(*t)->started_ns = pst_env_wall_ns(st->pool.env);
	}
	(*t)->rate_bytes_per_s = op->rate_bytes_per_s;
	return PST_OK;
}

pst_err tasks_op_begin(struct store *st, struct pst_pool_op *op, uint8_t *body, uint32_t *ret_bytes)
{
	struct task *t;
	struct task_disk d;
	char key[TASK_KEY_BYTES];
	size_t key_bytes;
	pst_err err;

	if ((unsigned)op->task >= PST_TASK_KINDS)
		return PST_E_INVAL;
	err = check(st, op, st->tasks->kinds[op->task]);
	if (err != PST_OK)
		return err;
	t = task_find(st, op->task, op->uuid);
	if (op->kind == PST_POOL_TASK_START)
		err = start_begin(st, op, &t);
	else if (t == NULL || t->phase != TASK_RUNNING)
		err = PST_E_NOTFOUND;
	if (err != PST_OK)
		return err;
	record_key(t, key);
	key_bytes = strlen(key) + 1;
	d = record_value(t, op->kind == PST_POOL_TASK_START ? TASK_RUNNING : TASK_STOPPED);
	memcpy(body, key, key_bytes);
	memcpy(body + key_bytes, &d, sizeof(d));
	*ret_bytes = (uint32_t)(key_bytes + sizeof(d));
	return PST_OK;
}

void tasks_op_end(struct store *st, const struct pst_pool_op *op, pst_err err)
{
	struct task *t = task_find(st, op->task, op->uuid);

	if (t == NULL || err != PST_OK)
		return;
	if (op->kind == PST_POOL_TASK_START)
		task_begin(t);
	else if (t->phase == TASK_RUNNING)
		task_stop(t, TASK_STOPPED);
}

/* ---- The pool's life ---- */

pst_err tasks_init(struct store *st)
{
	st->tasks = calloc(1, sizeof(*st->tasks));
	if (st->tasks == NULL)
		return PST_E_NOMEM;
	st->tasks->kinds = kinds;
	pst_list_init(&st->tasks->all);
	pst_list_init(&st->tasks->queue);
	return PST_OK;
}

static void load_one(struct store *st, const struct pst_record *r)
{
	struct task_disk d;
	struct task *t;
	char key[TASK_KEY_BYTES];

	if (r->value_bytes != sizeof(d))
		return;
	memcpy(&d, r->value, sizeof(d));
	if (d.version != TASK_DISK_VERSION || d.phase > TASK_FINISHED)
		return;
	for (unsigned k = 0; k < PST_TASK_KINDS; k++) {
		struct task like = { .ops = st->tasks->kinds[k] };

		memcpy(like.uuid, d.uuid, 16);
		if (like.ops == NULL || (like.ops->flags & TASK_INTERNAL) != 0)
			continue;
		record_key(&like, key);
		if (strcmp(key, r->key) != 0)
			continue;
		t = task_new(st, (enum pst_pool_task_kind)k, d.uuid);
		if (t == NULL)
			return;
		t->phase = d.phase == TASK_FINISHED ? TASK_FINISHED : TASK_STOPPED;
		t->rate_bytes_per_s = d.rate_bytes_per_s;
		t->started_ns = d.started_ns;
		t->done_bytes = d.done_bytes;
		t->total_bytes = d.total_bytes;
		t->errors = d.errors;
		memcpy(t->position, d.position, sizeof(t->position));
		if (d.phase == TASK_RUNNING)
			task_begin(t);
	}
}

void tasks_load(struct store *st)
{
	for (size_t i = 0; i < st->records.count; i++)
		if (st->records.items[i].key[0] == STORE_KEY_RESERVED)
			load_one(st, &st->records.items[i]);
	tasks_volume_gone(st);
}

void tasks_volume_gone(struct store *st)
{
	PST_LIST_EACH(l, &st->tasks->all) {
		struct task *t = pst_container_of(l, struct task, node);

		if (volume_gone(t))
			task_stop(t, TASK_STOPPED);
	}
}

void tasks_close(struct store *st)
{
	PST_LIST_EACH(l, &st->tasks->all) {
		struct task *t = pst_container_of(l, struct task, node);

		unqueue(t);
		if (t->phase == TASK_RUNNING)
			record_save(t); /* as running: it goes on when the pool is opened again */
	}
}

bool tasks_quiet(const struct store *st)
{
	return st->tasks->inflight == 0;
}

void tasks_free(struct store *st)
{
	while (st->tasks != NULL && !pst_list_empty(&st->tasks->all)) {
		struct task *t = pst_container_of(st->tasks->all.next, struct task, node);

		unqueue(t);
		if (t->begun && t->ops->end != NULL)
			t->ops->end(t);
		task_free(t);
	}
	if (st->tasks != NULL)
		free(st->tasks->memory);
	free(st->tasks);
	st->tasks = NULL;
}

uint32_t tasks_list(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max)
{
	struct store *st = pst_container_of(pool, struct store, pool);
	uint32_t count = 0;

	PST_LIST_EACH(l, &st->tasks->all) {
		const struct task *t = pst_container_of(l, struct task, node);

		if (count < max) {
			tasks[count] = (struct pst_pool_task){ .kind = t->kind,
							       .running = t->phase == TASK_RUNNING,
							       .done_bytes = t->done_bytes,
							       .total_bytes = t->total_bytes,
							       .rate_bytes_per_s = t->rate_bytes_per_s,
							       .errors = t->errors,
							       .started_ns = t->started_ns };
			memcpy(tasks[count].uuid, t->uuid, 16);
		}
		count++;
	}
	return count;
}
