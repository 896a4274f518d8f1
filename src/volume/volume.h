/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The volume interface: one table of asynchronous calls, stacked all the way down. Engines (store, ram, fault)
 * implement it; layers wrap it. pst_volume_submit asserts the contract once for everybody.
 *
 * A volume belongs to one shard (volume->env); submit on that shard. Everything here speaks blocks of PST_BLOCK_BYTES.
 */
#ifndef PST_VOLUME_VOLUME_H
#define PST_VOLUME_VOLUME_H

#include "base/base.h"
#include "base/list.h"
#include "env/env.h"

#include <sys/uio.h>

#define PST_BLOCK_BYTES 4096u
#define PST_IO_IOV_MAX 64u
#define PST_IO_BLOCKS_MAX 2048u /* 8 MiB: longest read or write; zeroes and discard may cover a whole volume */

struct pst_volume;

enum pst_io_kind { PST_IO_READ, PST_IO_WRITE, PST_IO_FLUSH, PST_IO_WRITE_ZEROES, PST_IO_DISCARD, PST_IO_KINDS };

enum {
	PST_IO_FUA = 1, /* write, write zeroes: durable when complete; read: so is what it returns */
};

/*
 * One request, embedded in the caller's own structure; owned by the volume from submit to done. Buffers need no
 * alignment, but 4096-aligned ones are read and written in place. Durability (design of the volume stack): a completed
 * write survives the death of the process, is durable after a flush, and no block is ever torn.
 * Results: PST_E_CHECKSUM or PST_E_IO (media), PST_E_NOSPACE, PST_E_DENIED (write to a snapshot), PST_E_LOST (first
 * flush after an unclean machine stop), PST_E_CANCELLED (volume closing, or recalled).
 */
struct pst_io {
	enum pst_io_kind kind;
	uint32_t flags;
	uint64_t lba;         /* in blocks; inside the volume */
	uint64_t block_count; /* 0 for flush; reads and writes at most PST_IO_BLOCKS_MAX */
	struct iovec *iov;    /* reads and writes: sums to block_count blocks; at most PST_IO_IOV_MAX entries */
	uint32_t iov_count;
	uint64_t
	    *holes; /* reads; NULL: not asked for. A bit for each block, cleared by the caller: 1, it has no data */
	void (*done)(struct pst_io *io); /* on the volume's shard; never inside pst_volume_submit */
	pst_err err;
	bool recalled;        /* by pst_volume_recall; layers and engines look at it before they begin a part */
	uint64_t device_ns;   /* engine's: time spent waiting for the device, as far as known */
	struct pst_list node; /* engine's */
	uint64_t scratch[8];  /* engine's */
};

#define PST_LOAN_PIECES_MAX 4u

/*
 * Blocks [lba, lba + block_count) as they were when they were lent: in the engine's memory, which keeps them so until
 * they are given back, whatever is written meanwhile. Embedded in the borrower's own structure.
 */
struct pst_loan {
	uint64_t lba, block_count;
	struct iovec iov[PST_LOAN_PIECES_MAX]; /* to be read only */
	uint32_t iov_count;
	uint32_t engine[PST_LOAN_PIECES_MAX];
};

/* A read or a write of blocks from @lba on that seems to come soon; it may lie outside of the volume. */
struct pst_expected {
	uint64_t lba;
	enum pst_io_kind kind;
};

struct pst_volume_stats {
	uint64_t used_bytes; /* allocated on the pool */
};

struct pst_volume_close_op {
	void (*done)(struct pst_volume_close_op *op);
};

struct pst_volume_ops {
	const char *name; /* "ram", "store", "fault" */
	void (*submit)(struct pst_volume *volume, struct pst_io *io);
	void (*stats)(struct pst_volume *volume, struct pst_volume_stats *ret_stats);
	/* Requests in flight complete first; afterwards the volume is gone. */
	void (*close)(struct pst_volume *volume, struct pst_volume_close_op *op);
	void (*resized)(struct pst_volume *volume); /* layers: the volume below has another size; NULL: no layer */
	bool any_buffer; /* what it copies anyway: writes from unaligned memory cost no more */
	/* Both or none. */
	bool (*lend)(struct pst_volume *volume, struct pst_loan *loan);
	void (*give_back)(struct pst_volume *volume, struct pst_loan *loan);
	void (*expect)(struct pst_volume *volume, const struct pst_expected *expected,
		       unsigned count);                               /* NULL: no use */
	void (*recall)(struct pst_volume *volume, struct pst_io *io); /* NULL: writes never wait long in it */
};

struct pst_volume {
	const struct pst_volume_ops *ops;
	struct pst_env *env;
	uint64_t block_count; /* may grow or shrink by a pool resize while open */
	uint8_t uuid[16];
};

/* Asserts the contract (range, iov sum, kinds) and hands on. Range errors of peers are the target's to find first. */
void pst_volume_submit(struct pst_volume *volume, struct pst_io *io);

/*
 * A write that is under way is not wanted any more: it ends soon, with PST_E_CANCELLED if something of it has not been
 * begun, and else as it would have. So nothing of it reaches the volume after its end, and it does not go on waiting
 * for space in a full pool. What has been begun is not undone. Other kinds end by themselves: harmless for them.
 */
void pst_volume_recall(struct pst_volume *volume, struct pst_io *io);
void pst_volume_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats);
void pst_volume_close(struct pst_volume *volume, struct pst_volume_close_op *op);

/*
 * A read without a copy, at once, of what @loan says in lba and block_count (inside the volume). False: this engine or
 * layer lends nothing, or not these blocks now; then they must be read. What is lent must be given back before the
 * volume is closed, on its shard like all calls.
 */
bool pst_volume_lend(struct pst_volume *volume, struct pst_loan *loan);
void pst_volume_give_back(struct pst_volume *volume, struct pst_loan *loan);

/*
 * A hint: these requests will probably be submitted or lent next. The engine may fetch what they need closer, all at
 * once, instead of waiting for memory with each of them. Nothing is promised, and nothing changes but time.
 */
void pst_volume_expect(struct pst_volume *volume, const struct pst_expected *expected, unsigned count);

/* After a resize of what the pool opened: layers above it take the new size over. Harmless without layers. */
void pst_volume_resized(struct pst_volume *volume);

#endif
