/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: reads everything that is in use once, verifies it, and has written again what exists twice. scrub.c goes
 * through the maps (nodes and data), scrub-meta.c through the rest: superblocks, roots, space maps, logs.
 */
#ifndef PST_STORE_SCRUB_H
#define PST_STORE_SCRUB_H

#include "store/bad.h"
#include "store/task.h"

/* One read under way, with a buffer of the task frame. */
enum scrub_kind { SCRUB_DATA, SCRUB_LEAF, SCRUB_NODE, SCRUB_SUPERBLOCKS, SCRUB_ROOTS, SCRUB_SPACE, SCRUB_LOG };

struct scrub_op {
	struct task *task;
	enum scrub_kind kind;
	bool busy;       /* in use */
	bool reading;    /* with a buffer; else something was bad, and step() looks at it */
	bool singly;     /* what was bad is read once more, block by block */
	uint8_t *buffer; /* while it reads */
	struct pst_file_op op;
	struct iovec iov;
	struct part *part;
	uint64_t at;           /* leaf; or the first leaf below a node */
	unsigned level;        /* node */
	uint32_t first, count; /* entries of the leaf; pages; log blocks */
	uint32_t next;         /* when read singly */
	bool again;            /* that one was read again */
	uint32_t block;
	uint32_t crc[TASK_BUFFER_BLOCKS];
	uint8_t bad[TASK_BUFFER_BLOCKS]; /* 0: good so far */
	pst_err err[TASK_BUFFER_BLOCKS];
	uint64_t generation, seq;
};

enum scrub_phase { SCRUB_PHASE_POOL, SCRUB_PHASE_PART, SCRUB_PHASE_MAP };

/* task.position: phase, partition, leaf. */
struct scrub {
	enum scrub_phase phase;
	uint32_t part;
	uint64_t at;        /* in leaves of the whole map */
	unsigned checked;   /* nodes down to this level have been verified at this place */
	unsigned meta_step; /* scrub-meta.c */
	uint32_t meta_at;   /* page; log block; block of the last key slot */
	struct pst_ptr map; /* the partition's, as its root on the disk says; block 0: not known */
	struct key_job key_job;
	struct waiter key_wait;
	uint8_t *key_buffer; /* the task frame's, while a slot is looked at: it keeps the task from ending */
	struct task *task;
	bool leaf_reading, leaf_valid;
	uint32_t leaf_next; /* entry */
	bool skip[PST_NODE_FANOUT];
	struct pst_ptr entry[PST_NODE_FANOUT]; /* of the leaf, as it was when it was read */
	struct scrub_op ops[TASK_BUFFERS];
};

/* ---- scrub.c ---- */
extern const struct task_ops scrub_task;
/* An operation with a buffer, or NULL: none is free; return TASK_WAIT. */
struct scrub_op *scrub_op_take(struct task *t, enum scrub_kind kind, struct part *p, uint64_t bytes);
/* Read @count blocks of the partition into the buffer; scrub_read_device: of the first device. */
void scrub_read(struct scrub_op *o, uint32_t block, uint32_t count);
void scrub_read_device(struct scrub_op *o, uint64_t block);

/* ---- scrub-meta.c: TASK_DONE: this phase is over ---- */
enum task_step scrub_meta_pool(struct task *t);
enum task_step scrub_meta_part(struct task *t, struct part *p);
/* A read of it is back. True: its buffer is in use again. */
bool scrub_meta_look(struct scrub_op *o);

#endif
