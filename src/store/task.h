/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work in the background of an open pool: scrub, straighten, flatten, deletion. The frame (task.c) starts, stops and
 * resumes tasks, keeps each below its rate, lets foreground requests go first, and lists progress; a kind of task is a
 * struct task_ops in a file of its own, entered in the table at the top of task.c.
 *
 *   STOPPED  -> RUNNING   PST_POOL_TASK_START, or the pool was opened while it ran
 *   RUNNING  -> STOPPED   PST_POOL_TASK_STOP, or step() failed
 *   RUNNING  -> FINISHED  step() said TASK_DONE. Stays in the list until it is started again or its volume is deleted
 *
 * Everything runs on the pool's shard, in its turn. A task waits for things like a request does: with task.wait, which
 * step() hands to map_get, part_space_wait or a list of waiters, and then returns TASK_WAIT. When that happens step()
 * is called again, so it must be written to go on from its own state. Work that reads or writes takes a buffer with
 * task_take (one operation in flight) and gives it back with task_give, which makes step() be called again.
 *
 * Resuming: task.position is step()'s to use. The frame saves it (with progress) in the catalog record
 * ".task/KIND[/VOLUME]" at start, stop and end, and every SAVE_NS while it runs. It is a hint: after a crash it may be
 * older than the work, and newer than work that was not flushed. Deciding that all is done is up to step(), by looking.
 *
 * Keys that begin with STORE_KEY_RESERVED are the store's own: users get PST_E_DENIED, and don't see them in listings.
 */
#ifndef PST_STORE_TASK_H
#define PST_STORE_TASK_H

#include "store/internal.h"

#define STORE_KEY_RESERVED '.'
#define TASK_BUFFER_BLOCKS PST_PIECE_BLOCKS_MAX
#define TASK_BUFFERS 4u

struct task;

enum task_step {
	TASK_MORE,   /* call step() again, as soon as rate and foreground allow */
	TASK_WAIT,   /* task.wait is in a list, or a buffer is out: called again then */
	TASK_DONE,   /* nothing is left to do. With buffers out: said again when they are back */
	TASK_FAILED, /* task.err says why */
};

enum {
	TASK_OF_POOL = 1,
	TASK_OF_VOLUME = 2,
	TASK_INTERNAL = 4,  /* not for users to start or stop */
	TASK_BY_ITSELF = 8, /* runs when there is something to do: users may set its rate, and not stop it */
};

struct task_ops {
	const char *name; /* in records, events */
	unsigned flags;
	size_t state_bytes; /* of task.state, zeroed; exists from begin to end */
	/* May a user start it on @v (NULL: the pool)? @detail says why not. NULL: always. */
	pst_err (*check)(struct store *st, struct svol *v, char detail[PST_DETAIL_BYTES]);
	/* Before the first step, at task.position (all 0: from the beginning). Sets total_bytes, as far as known. */
	pst_err (*begin)(struct task *t);
	/*
	 * A bounded piece of work (at most about a leaf of the map, or TASK_BUFFER_BLOCKS of data). Counts done_bytes
	 * and errors, moves position.
	 */
	enum task_step (*step)(struct task *t);
	void (*end)(struct task *t); /* no buffer is out. NULL: nothing to do */
};

enum task_phase { TASK_STOPPED, TASK_RUNNING, TASK_FINISHED };

struct task {
	struct store *store;
	const struct task_ops *ops;
	enum pst_pool_task_kind kind;
	enum task_phase phase;
	uint8_t uuid[16];   /* zero: the pool */
	struct waiter wait; /* step()'s, while it is called or has returned TASK_WAIT; it clears wait.err */
	void *state;
	pst_err err;
	uint64_t position[4];
	uint64_t done_bytes, total_bytes, errors;

	/* The frame's. */
	struct pst_list node;  /* tasks.all */
	struct pst_list queue; /* tasks.queue: waits for a buffer */
	struct pst_timer timer;
	bool begun; /* state exists */
	bool stepping, again;
	uint32_t inflight; /* buffers out, events that have not ended */
	uint64_t rate_bytes_per_s, started_ns, saved_ns;
	uint64_t due_ns; /* by its rate it may go on from here */
};

struct tasks {
	const struct task_ops *const *kinds; /* by enum pst_pool_task_kind; NULL entries don't exist */
	struct pst_list all, queue;
	uint32_t count, inflight;
	uint8_t *memory, *buffers[TASK_BUFFERS]; /* free ones; memory exists while a task runs */
	uint64_t begun_ns[TASK_BUFFERS];         /* of each buffer, by its place in memory */
	uint32_t buffer_count;
	uint64_t seen_ios, seen_ns; /* when the foreground was last at work */
	uint64_t pause_ns;          /* until then nobody begins anything */
};

/* ---- For kinds of tasks ---- */

/* A buffer of TASK_BUFFER_BLOCKS, 4096-aligned, for one operation on @bytes. NULL: none is free; return TASK_WAIT. */
uint8_t *task_take(struct task *t, uint64_t bytes);
void task_give(struct task *t, uint8_t *buffer);

/*
 * Something else of the task is under way, which must come back before its state may go (a record, say): between the
 * two, a stop waits. False: the pool is about to close; don't begin it.
 */
bool task_event_begin(struct task *t);
void task_event_end(struct task *t); /* makes step() be called again */

/* Counts @bytes against the rate, for work without a buffer (reading nodes of the map). */
void task_charge(struct task *t, uint64_t bytes);

/*
 * The frame's brakes for work that does not go through buffers and steps: it has just done @bytes, from @begun_ns on.
 * Returns when it may go on; 0: at once.
 */
uint64_t task_brake(struct task *t, uint64_t bytes, uint64_t begun_ns);

/* Run step() again (after an event of its own; task_give does it by itself). */
void task_wake(struct task *t);

bool task_of_pool(const struct task *t);

/* The volume that it is about; never NULL inside step() of a TASK_OF_VOLUME: such tasks vanish with their volume. */
struct svol *task_volume(const struct task *t);

/*
 * Start a task from within the store, as if it had never run, but for its rate. An internal one has no record: whoever
 * starts it knows after a crash that it must be started again. PST_E_EXISTS: it runs already; PST_E_UNSUPPORTED: no
 * such kind; PST_E_NOMEM.
 */
pst_err PST_MUST_USE task_start_internal(struct store *st, enum pst_pool_task_kind kind, const uint8_t uuid[16]);

struct task *task_find(struct store *st, enum pst_pool_task_kind kind, const uint8_t uuid[16]); /* NULL: none */

/* ---- The kinds ---- */

extern const struct task_ops straighten_task_ops;
extern const struct task_ops flatten_task_ops;
extern const struct task_ops delete_task_ops; /* merge.c */

/* The operation with which a flattening ends, in control.c: is it one; and what it gathers, as others do there. */
bool flatten_is_detach(const struct pst_pool_op *op);
pst_err PST_MUST_USE flatten_gather(struct store *st, const struct svol *v, enum pst_log_also *ret_also);

/* ---- For the rest of the store ---- */

pst_err PST_MUST_USE tasks_init(struct store *st);
void tasks_load(struct store *st);        /* the pool is open: what ran goes on */
void tasks_volume_gone(struct store *st); /* a volume was deleted: so are its tasks */
void tasks_close(struct store *st);       /* nothing new begins; saves */
bool tasks_quiet(const struct store *st); /* after tasks_close: nothing is under way any more */
void tasks_free(struct store *st);
uint32_t tasks_list(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max);

/*
 * PST_POOL_TASK_START and _STOP, as operations of control.c: what is to be logged as PST_LOG_PUT goes to @body; when it
 * is durable (or has failed) the second is called.
 */
pst_err PST_MUST_USE tasks_op_begin(struct store *st, struct pst_pool_op *op, uint8_t *body, uint32_t *ret_bytes);
void tasks_op_end(struct store *st, const struct pst_pool_op *op, pst_err err);

#endif
