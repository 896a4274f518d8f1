/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two commands that are one, on their connection's shard: Compare, fused with the Write that follows it in the queue
 * (Base 2.0, 3.4.2; NVM 1.0, 2.1.3.1).
 *
 *   first arrives: held in RECEIVED, nothing is done for it
 *   second arrives next: the pair goes on as the second, through admission, one buffer for both, the gate
 *   anything else arrives next: the first is answered Missing Fused Command
 *
 * The second carries the pair: whatever ends it ends the first, which is answered before it. One that failed by itself
 * has its reason, the other Failed Fused Command. Data of either that did not come with its capsule is pulled into the
 * second's buffer, which is as long as both, so that a pair never holds memory while it waits for memory.
 */
#include "target/internal.h"

#define MISSING (NVME_FUSED_MISSING | NVME_STATUS_DNR)
#define FAILED (NVME_FUSED_FAILED | NVME_STATUS_DNR)

enum { FUSE_FIRST = 1, FUSE_SECOND = 2 };

bool pst_fused_arrive(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_cmd *first = queue->fused_first;
	unsigned fuse = cmd->wire->sqe.flags & 3;
	bool broken = queue->fused_broken;

	queue->fused_first = NULL;
	queue->fused_broken = false;
	if (fuse != FUSE_SECOND) {
		if (first != NULL)
			pst_cmd_complete(first, MISSING);
		return false;
	}
	if (first == NULL) {
		pst_cmd_complete(cmd, broken ? FAILED : MISSING);
		return true;
	}
	cmd->fused = first; /* from now on it ends with this one */
	first->fused_second = cmd;
	return false;
}

uint16_t pst_fused_check(struct pst_cmd *cmd, uint16_t status)
{
	if ((cmd->wire->sqe.flags & 3) == FUSE_FIRST && status != NVME_SUCCESS)
		cmd->queue->fused_broken = true; /* what follows has no first */
	if (status != NVME_SUCCESS || cmd->fused == NULL)
		return status;
	if (cmd->io.lba != cmd->fused->io.lba || cmd->io.block_count != cmd->fused->io.block_count)
		return NVME_INVALID_FIELD | NVME_STATUS_DNR;
	cmd->io.op = PST_OP_COMPARE_WRITE;
	cmd->io.access |= cmd->fused->io.access;
	return NVME_SUCCESS;
}

bool pst_fused_hold(struct pst_cmd *cmd)
{
	if ((cmd->wire->sqe.flags & 3) != FUSE_FIRST)
		return false;
	cmd->queue->fused_first = cmd;
	return true;
}

/* ---- Data ---- */

bool pst_fused_has_data(const struct pst_cmd *second)
{
	return second->wire->data_bytes > 0 && second->fused->wire->data_bytes > 0;
}

void pst_fused_pull(struct pst_cmd *second)
{
	struct pst_cmd *first = second->fused;
	uint32_t bytes = second->io.data_bytes;

	if (first->wire->data_bytes == 0)
		second->fused_missing++;
	if (second->wire->data_bytes == 0) {
		second->fused_missing++;
		second->iov = (struct iovec){ second->buffer, bytes };
		pst_cmd_pull(second);
	}
	if (first->wire->data_bytes == 0) {
		first->iov = (struct iovec){ second->buffer + bytes, bytes };
		pst_cmd_move(first, PST_CMD_ADMITTED);
		pst_cmd_pull(first);
	}
}

struct pst_cmd *pst_fused_data_arrived(struct pst_cmd *cmd, pst_err *err)
{
	struct pst_cmd *second = cmd->fused_second != NULL ? cmd->fused_second : cmd;

	if (cmd != second)
		pst_cmd_move(cmd, PST_CMD_DISPATCHED); /* the host owes nothing more for it */
	if (*err != PST_OK)
		second->fused_err = *err;
	*err = second->fused_err;
	return --second->fused_missing == 0 ? second : NULL;
}

void pst_fused_dispatch(struct pst_cmd *second)
{
	struct pst_cmd *first = second->fused;

	if (first->state == PST_CMD_RECEIVED)
		pst_cmd_move(first, PST_CMD_ADMITTED);
	if (first->state == PST_CMD_ADMITTED)
		pst_cmd_move(first, PST_CMD_DISPATCHED);
}

/* ---- The end ---- */

uint16_t pst_fused_complete(struct pst_cmd *second, uint16_t status)
{
	struct pst_cmd *first = second->fused;
	bool differs = status == (NVME_COMPARE_FAILURE | NVME_STATUS_DNR);

	second->fused = NULL;
	first->fused_second = NULL;
	pst_cmd_complete(first, differs || status == NVME_SUCCESS ? status : FAILED);
	return differs ? FAILED : status;
}

bool pst_fused_abort(struct pst_cmd *cmd, bool *ret_aborted)
{
	struct pst_queue *queue = cmd->queue;

	if (cmd == queue->fused_first) {
		queue->fused_first = NULL;
		queue->fused_broken = true;
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		*ret_aborted = true;
		return true;
	}
	*ret_aborted = false; /* the first of a pair ends with the second */
	return cmd->fused_second != NULL;
}
