/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that are several requests to the volume, on its shard: Compare, Verify, Copy, and the fused Compare and
 * Write. They use one piece of memory of the gate, so of each namespace one is at work and the others wait; each goes
 * through its blocks part by part, and before each part its access is judged again.
 *
 *   WAITING -> at work: [until no write of its blocks is under way ->] read, [look,] [write,] ... -> leave
 *
 * Compare and Write is atomic to all writes that pass the gate, which are all there are: while it is at work, later
 * ones that touch its blocks are held back, and it begins when those before it are done. Held back is nobody else, and
 * who was held back goes before the next one of these commands, so neither starves.
 */
#include "target/internal.h"

static struct pst_gate *gate_of(const struct pst_cmd *cmd)
{
	return &cmd->queue->subsystem->gate;
}

static struct pst_volume *volume_of(const struct pst_cmd *cmd)
{
	return cmd->queue->subsystem->volume;
}

/* ---- The lock ---- */

static bool touch(uint64_t a, uint64_t a_count, uint64_t b, uint64_t b_count)
{
	return a < b + b_count && b < a + a_count;
}

/* Does this command of one request, or of ranges, change a block of what is locked? */
static bool changes_locked(const struct pst_cmd *cmd, const struct pst_cmd *locker)
{
	if (cmd->io.op != PST_OP_PLAIN || cmd->io.kind == PST_IO_READ || cmd->io.kind == PST_IO_FLUSH)
		return false;
	if (cmd->range_count == 0)
		return touch(cmd->io.lba, cmd->io.block_count, locker->io.lba, locker->io.block_count);
	for (uint32_t i = 0; i < cmd->range_count; i++)
		if (touch(cmd->ranges[i].lba, cmd->ranges[i].block_count, locker->io.lba, locker->io.block_count))
			return true;
	return false;
}

bool pst_compound_holds_back(const struct pst_gate *gate, const struct pst_cmd *cmd)
{
	return gate->compound != NULL && gate->compound->io.op == PST_OP_COMPARE_WRITE &&
	       changes_locked(cmd, gate->compound);
}

static bool writes_under_way(const struct pst_gate *gate)
{
	PST_LIST_EACH(node, &gate->inside)
		if (changes_locked(pst_container_of(node, struct pst_cmd, gate_node), gate->compound))
			return true;
	return false;
}

/* ---- Parts ---- */

static void part_done(struct pst_io *io);

/* It ends without success. NVM 1.0, 3.2.2.1: dword 0 is the first range of a Copy that was not copied. */
static void give_up(struct pst_cmd *cmd, uint16_t status, bool inside_enter)
{
	if (cmd->io.op == PST_OP_COPY)
		cmd->dw0 = cmd->range_index;
	pst_gate_leave(cmd, status, inside_enter);
}

static void part(struct pst_cmd *cmd, enum pst_io_kind kind, uint64_t lba, uint64_t block_count, void *memory)
{
	struct pst_io *io = &cmd->volume_io;

	cmd->part_iov = (struct iovec){ memory, (size_t)block_count * PST_BLOCK_BYTES };
	*io = (struct pst_io){ .kind = kind,
			       /* FUA of a Copy is about what it writes. */
			       .flags = kind == PST_IO_READ && cmd->io.op == PST_OP_COPY ? 0 : cmd->io.flags,
			       .lba = lba,
			       .block_count = block_count,
			       .iov = &cmd->part_iov,
			       .iov_count = 1,
			       .done = part_done };
	/* Base 2.0, 8.19; and the volume may have shrunk since the last part. */
	if (pst_gate_denies(cmd))
		give_up(cmd, NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR, true);
	else if (cmd->fenced && kind == PST_IO_WRITE) /* Preempt and Abort: it might wait for space */
		give_up(cmd, NVME_ABORT_REQUESTED, true);
	else if (cmd->ana_fenced && kind == PST_IO_WRITE) /* its path is closed, and likewise */
		give_up(cmd, pst_gate_path(cmd), true);
	else if (!pst_range_ok(lba, block_count, volume_of(cmd)->block_count))
		give_up(cmd, NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR, true);
	else
		pst_volume_submit(volume_of(cmd), io);
}

/* Reads what comes next. */
static void advance(struct pst_cmd *cmd)
{
	struct pst_gate *gate = gate_of(cmd);
	uint64_t lba = cmd->io.lba + cmd->done_blocks, left = cmd->io.block_count - cmd->done_blocks;

	if (cmd->io.op == PST_OP_COPY && cmd->range_index < cmd->range_count) {
		lba = cmd->ranges[cmd->range_index].lba + cmd->range_done;
		left = cmd->ranges[cmd->range_index].block_count - cmd->range_done;
	} else if (cmd->io.op == PST_OP_COPY) {
		left = 0;
	}
	if (left == 0)
		pst_gate_leave(cmd, NVME_SUCCESS, false);
	else
		part(cmd, PST_IO_READ, lba, PST_MIN(left, PST_GATE_SCRATCH_BYTES / PST_BLOCK_BYTES), gate->scratch);
}

/* NVM 1.0, 3.2.1: what differs is a Compare Failure. */
static void looked(struct pst_cmd *cmd, const struct iovec *expected)
{
	const uint8_t *want = (const uint8_t *)expected->iov_base + cmd->done_blocks * PST_BLOCK_BYTES;

	if (memcmp(cmd->part_iov.iov_base, want, cmd->part_iov.iov_len) != 0) {
		pst_gate_leave(cmd, NVME_COMPARE_FAILURE | NVME_STATUS_DNR, false);
		return;
	}
	cmd->done_blocks += cmd->volume_io.block_count;
	if (cmd->io.op == PST_OP_COMPARE_WRITE) /* one block: the atomic unit */
		part(cmd, PST_IO_WRITE, cmd->io.lba, cmd->io.block_count, cmd->iov.iov_base);
	else
		advance(cmd);
}

static void was_read(struct pst_cmd *cmd)
{
	switch (cmd->io.op) {
	case PST_OP_COMPARE:
		looked(cmd, &cmd->iov);
		break;
	case PST_OP_COMPARE_WRITE:
		looked(cmd, &cmd->fused->iov);
		break;
	case PST_OP_COPY:
		part(cmd, PST_IO_WRITE, cmd->io.lba + cmd->done_blocks, cmd->volume_io.block_count,
		     cmd->part_iov.iov_base);
		break;
	default: /* Verify: it could be read, with a right checksum */
		cmd->done_blocks += cmd->volume_io.block_count;
		advance(cmd);
	}
}

static void was_written(struct pst_cmd *cmd)
{
	cmd->done_blocks += cmd->volume_io.block_count;
	if (cmd->io.op != PST_OP_COPY) {
		pst_gate_leave(cmd, NVME_SUCCESS, false);
		return;
	}
	cmd->range_done += cmd->volume_io.block_count;
	if (cmd->range_done == cmd->ranges[cmd->range_index].block_count) {
		cmd->range_index++;
		cmd->range_done = 0;
	}
	advance(cmd);
}

static void part_done(struct pst_io *io)
{
	struct pst_cmd *cmd = pst_container_of(io, struct pst_cmd, volume_io);

	if (io->err != PST_OK)
		give_up(cmd, pst_gate_status(cmd), false);
	else if (io->kind == PST_IO_READ)
		was_read(cmd);
	else
		was_written(cmd);
}

/* ---- Taking turns ---- */

static void begin(struct pst_gate *gate)
{
	struct pst_cmd *cmd = gate->compound;

	gate->compound_waits = cmd->io.op == PST_OP_COMPARE_WRITE && writes_under_way(gate);
	if (!gate->compound_waits)
		advance(cmd);
}

void pst_compound_next(struct pst_gate *gate)
{
	struct pst_list *node;

	if (gate->choosing) /* one that was refused at once: the loop below goes on */
		return;
	gate->choosing = true;
	if (gate->compound != NULL && gate->compound_waits)
		begin(gate);
	while (gate->compound == NULL && (node = pst_list_pop_front(&gate->compounds)) != NULL) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (pst_gate_path(cmd) != NVME_SUCCESS) {
			pst_gate_leave(cmd, pst_gate_path(cmd), true);
			continue;
		}
		gate->compound = cmd;
		cmd->done_blocks = cmd->range_done = 0;
		pst_gate_begin(gate, cmd);
		begin(gate);
	}
	gate->choosing = false;
}
