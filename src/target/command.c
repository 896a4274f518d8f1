/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a command on its connection's shard:
 *
 *   RECEIVED    the capsule is checked. I/O waits here for admission by QoS: a write whose data has not been pulled
 *               holds no memory, one with in-capsule data is charged to its connection's budget.
 *   ADMITTED    waits for a buffer where it needs one: a read always, a write if its data must be pulled.
 *   DATA        an R2T is out; the payload lands in the buffer, or stays where it was received.
 *   DISPATCHED  with the volume (or, admin commands, with the home shard); can't be recalled.
 *   COMPLETED   its completion, and the data of a read, are on the way out; a read's buffer is held until then.
 *
 * Every state answers three events beside its own: abort (by the host), abandon (the connection is closing) and a late
 * answer of another shard. Where a command was admitted by a flow it leaves it exactly once, on the volume's shard.
 */
#include "target/internal.h"

#include <string.h>

/* Status code type, in bits 10:8. */
#define STATUS_TYPE 0x700u
#define STATUS_TYPE_MEDIA 0x200u

/* Bit per state that may follow. */
static const struct {
	const char *name;
	uint32_t next;
} states[PST_CMD_STATES] = {
	[PST_CMD_FREE] = { "FREE", 1u << PST_CMD_RECEIVED },
	[PST_CMD_RECEIVED] = { "RECEIVED", 1u << PST_CMD_ADMITTED | 1u << PST_CMD_COMPLETED },
	[PST_CMD_ADMITTED] = { "ADMITTED", 1u << PST_CMD_DATA | 1u << PST_CMD_DISPATCHED | 1u << PST_CMD_COMPLETED },
	[PST_CMD_DATA] = { "DATA", 1u << PST_CMD_DISPATCHED | 1u << PST_CMD_COMPLETED },
	[PST_CMD_DISPATCHED] = { "DISPATCHED", 1u << PST_CMD_COMPLETED },
	[PST_CMD_COMPLETED] = { "COMPLETED", 1u << PST_CMD_FREE },
};

void pst_cmd_move(struct pst_cmd *cmd, enum pst_cmd_state to)
{
	if ((states[cmd->state].next >> to & 1) == 0) {
		pst_env_log(cmd->queue->shard->env, PST_LOG_ERROR, "command_state_illegal from=%s to=%s opcode=%u",
			    states[cmd->state].name, states[to].name, cmd->wire->sqe.opcode);
		pst_assert(false);
	}
	if (cmd->state != PST_CMD_FREE)
		cmd->queue->state_count[cmd->state]--;
	if (to != PST_CMD_FREE)
		cmd->queue->state_count[to]++;
	cmd->state = to;
}

void pst_cmd_prepare(struct pst_queue *queue, struct pst_cmd *cmd)
{
	cmd->queue = queue;
	cmd->state = PST_CMD_FREE;
	pst_list_init(&cmd->node);
	pst_list_init(&cmd->aer_node);
	pst_list_init(&cmd->gate_node);
}

static bool queue_alive(const struct pst_queue *queue)
{
	return queue->state == PST_QUEUE_OPEN || queue->state == PST_QUEUE_LIVE;
}

static bool volume_is_here(const struct pst_cmd *cmd)
{
	return cmd->queue->subsystem->volume->env == cmd->queue->shard->env;
}

/* ---- Memory of a command ---- */

/* Fused commands have one for both. */
static uint32_t buffer_need(const struct pst_cmd *cmd)
{
	return cmd->fused != NULL ? 2 * cmd->io.data_bytes : cmd->io.data_bytes;
}

static bool buffer_take(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	uint32_t bytes = buffer_need(cmd), rounded = pst_buffers_round(bytes);

	if (queue->buffer_bytes_held + rounded > queue->buffer_bytes_cap)
		return false;
	cmd->buffer = pst_buffers_get(&queue->shard->buffers, bytes);
	if (cmd->buffer == NULL)
		return false;
	cmd->buffer_bytes = bytes;
	if (cmd->fused == NULL)
		cmd->iov = (struct iovec){ cmd->buffer, bytes };
	queue->buffer_bytes_held += rounded;
	return true;
}

static void buffer_give_back(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	if (cmd->loan.iov_count > 0)
		pst_volume_give_back(queue->subsystem->volume, &cmd->loan);
	if (cmd->buffer == NULL)
		return;
	pst_buffers_put(&queue->shard->buffers, cmd->buffer, cmd->buffer_bytes);
	queue->buffer_bytes_held -= pst_buffers_round(cmd->buffer_bytes);
	cmd->buffer = NULL;
	if (!pst_list_empty(&queue->hungry) && pst_list_empty(&queue->hungry_node))
		pst_list_push_back(&queue->shard->hungry, &queue->hungry_node);
	pst_shard_feed_hungry(queue->shard);
}

static void uncharge(struct pst_cmd *cmd)
{
	bool was_spent = cmd->queue->incapsule_waiting_bytes >= PST_INCAPSULE_BUDGET_BYTES;

	if (cmd->incapsule_bytes == 0)
		return;
	cmd->queue->incapsule_waiting_bytes -= cmd->incapsule_bytes;
	cmd->incapsule_bytes = 0;
	if (was_spent) /* the socket may be read again */
		pst_queue_dirty(cmd->queue);
}

/* ---- Completion ---- */

static unsigned stats_index(const struct pst_cmd *cmd)
{
	if (cmd->io.op != PST_OP_PLAIN && cmd->io.op != PST_OP_COMPARE_WRITE)
		return 3;
	switch (cmd->io.kind) {
	case PST_IO_READ:
		return 0;
	case PST_IO_WRITE:
		return 1;
	case PST_IO_FLUSH:
		return 2;
	default:
		return 3;
	}
}

/* Compare Failure has the type of media errors, and is none. */
static bool media_status(uint16_t status)
{
	return (status & STATUS_TYPE) == STATUS_TYPE_MEDIA && (status & ~NVME_STATUS_DNR) != NVME_COMPARE_FAILURE;
}

static void count(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_shard_stats *stats;
	unsigned index = stats_index(cmd);

	if (cmd->to_home || queue->subsystem == NULL)
		return;
	stats = &queue->subsystem->shard_stats[queue->shard->index];
	if (cmd->status != NVME_SUCCESS) {
		stats->errors[index]++;
		stats->media_errors += media_status(cmd->status);
		return;
	}
	stats->ops[index]++;
	pst_hist_add(&stats->latency[index], pst_queue_now_ns(queue) - cmd->arrived_ns);
	if (index == 0)
		stats->bytes_read += cmd->io.data_bytes;
	if (index == 1)
		stats->bytes_written += cmd->io.data_bytes;
}

void pst_cmd_released(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	count(cmd);
	pst_cmd_move(cmd, PST_CMD_FREE);
	pst_list_push_front(&queue->cmds_free, &cmd->node);
	buffer_give_back(cmd);
}

static void left_flow(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	cmd->admitted = cmd->leaving = false;
	pst_cmd_complete(cmd, cmd->status);
}

static void leave_there(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	pst_qos_leave(&cmd->waiter);
	post->fn = left_flow;
	pst_env_post(cmd->queue->shard->env, post);
}

static void error_logged(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	pst_cmd_complete(cmd, cmd->status);
}

static void error_log_at_home(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);
	struct pst_ctrl *ctrl = cmd->queue->ctrl;

	if (ctrl != NULL)
		pst_log_errors_add(&ctrl->errors, &(struct pst_log_error){
						      .sqid = cmd->queue->home_qid,
						      .cid = nvme_get16(cmd->wire->sqe.cid),
						      .status = cmd->status,
						      .nsid = nvme_get32(cmd->wire->sqe.nsid),
						      .lba = cmd->io.lba,
						  });
	post->fn = error_logged;
	pst_env_post(cmd->queue->shard->env, post);
}

/* Base 2.0, 5.16.1.2: media errors are rare enough to make a detour over the controller's error log before they are
 * answered. */
static void media_error(struct pst_cmd *cmd, uint16_t status)
{
	cmd->status = status;
	cmd->post.fn = error_log_at_home;
	pst_env_post(pst_target_home(cmd->queue->shard->target), &cmd->post);
}

void pst_cmd_complete(struct pst_cmd *cmd, uint16_t status)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_conn_result result = { .dw0 = cmd->dw0, .dw1 = cmd->dw1 };
	bool with_data = status == NVME_SUCCESS && cmd->io.direction == PST_DATA_TO_HOST;
	bool lent = cmd->loan.iov_count > 0;

	cmd->status = status;
	if (cmd->leaving)
		return;
	if (cmd->admitted) { /* dropped before the volume saw it */
		if (!volume_is_here(cmd)) {
			cmd->leaving = true;
			cmd->post.fn = leave_there;
			pst_env_post(queue->subsystem->volume->env, &cmd->post);
			return;
		}
		cmd->admitted = false;
		pst_qos_leave(&cmd->waiter);
	}
	if (cmd->fused != NULL)
		status = cmd->status = pst_fused_complete(cmd, status);
	result.status = status;
	pst_list_remove(&cmd->node); /* out of the hungry, if it was one of them */
	uncharge(cmd);
	if (queue->fabrics_cmd == cmd)
		queue->fabrics_cmd = NULL;
	pst_cmd_move(cmd, PST_CMD_COMPLETED);
	pst_conn_answer(queue->conn, cmd->wire, &result, lent ? cmd->loan.iov : &cmd->iov,
			!with_data ? 0
			: lent     ? cmd->loan.iov_count
				   : 1,
			with_data ? cmd->io.data_bytes : 0);
	if (!with_data)
		buffer_give_back(cmd);
	pst_queue_dirty(queue);
}

/* ---- Dispatch ---- */

void pst_cmd_volume_done(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_shard_stats *stats = &queue->subsystem->shard_stats[queue->shard->index];

	pst_hist_add(&stats->wait_device, pst_queue_now_ns(queue) - cmd->dispatched_ns);
	if (media_status(cmd->status))
		media_error(cmd, cmd->status);
	else
		pst_cmd_complete(cmd, cmd->status);
}

static uint64_t volume_blocks(const struct pst_volume *volume)
{
	/* Only a first look: a resize on the volume's shard may be under way. The volume's shard checks again. */
	return __atomic_load_n(&volume->block_count, __ATOMIC_RELAXED);
}

static void dispatch(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	uint16_t status;

	if (cmd->abort || !queue_alive(queue)) {
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		return;
	}
	if (cmd->io.op == PST_OP_PLAIN && cmd->io.kind == PST_IO_DISCARD) {
		cmd->ranges = (struct pst_block_range *)cmd->iov.iov_base;
		status = pst_check_ranges(cmd->iov.iov_base, cmd->io.range_count,
					  volume_blocks(queue->subsystem->volume), cmd->ranges, &cmd->range_count);
		if (status != NVME_SUCCESS || cmd->range_count == 0) {
			pst_cmd_complete(cmd, status);
			return;
		}
	}
	if (cmd->io.op == PST_OP_COPY) {
		cmd->ranges = (struct pst_block_range *)cmd->iov.iov_base;
		status = pst_check_copy(cmd->iov.iov_base, cmd->io.range_count, cmd->io.lba,
					volume_blocks(queue->subsystem->volume), cmd->ranges, &cmd->io.block_count);
		if (status != NVME_SUCCESS) {
			pst_cmd_complete(cmd, status);
			return;
		}
		cmd->range_count = cmd->io.range_count;
	}
	pst_cmd_move(cmd, PST_CMD_DISPATCHED);
	uncharge(cmd);
	if (cmd->fused != NULL) {
		pst_fused_dispatch(cmd);
		uncharge(cmd->fused);
	}
	cmd->dispatched_ns = pst_queue_now_ns(queue);
	pst_gate_enter(cmd);
}

static void go_home(struct pst_cmd *cmd)
{
	if (cmd->io.op == PST_OP_RESERVATION && (cmd->abort || !queue_alive(cmd->queue))) {
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		return;
	}
	pst_cmd_move(cmd, PST_CMD_DISPATCHED);
	uncharge(cmd);
	cmd->post.fn = cmd->io.op == PST_OP_RESERVATION ? pst_reservation_at_home : pst_admin_at_home;
	pst_env_post(pst_target_home(cmd->queue->shard->target), &cmd->post);
}

static void payload_ready(struct pst_cmd *cmd)
{
	if (cmd->to_home)
		go_home(cmd);
	else
		dispatch(cmd);
}

void pst_cmd_data_arrived(struct pst_cmd *cmd, pst_err err)
{
	if (cmd->fused != NULL || cmd->fused_second != NULL)
		cmd = pst_fused_data_arrived(cmd, &err);
	if (cmd == NULL)
		return;
	if (cmd->wire->data_bytes > 0 && cmd->fused == NULL) /* it stayed where it was received */
		cmd->iov = (struct iovec){ cmd->wire->data, cmd->wire->data_bytes };
	if (err == PST_OK)
		payload_ready(cmd);
	else
		pst_cmd_complete(cmd, err == PST_E_CHECKSUM ? NVME_TRANSIENT_TRANSPORT_ERROR : NVME_ABORT_REQUESTED);
}

/* ---- Buffers ---- */

void pst_cmd_pull(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	if (queue->state_count[PST_CMD_DATA] == 0) /* the stall clock begins to run */
		queue->input_ns = pst_queue_now_ns(queue);
	cmd->pulled_ns = pst_queue_now_ns(queue);
	pst_cmd_move(cmd, PST_CMD_DATA);
	pst_conn_pull(queue->conn, cmd->wire, &cmd->iov, 1, cmd->io.data_bytes);
	pst_queue_dirty(queue);
}

void pst_cmd_buffer_granted(struct pst_cmd *cmd)
{
	if (cmd->abort || !queue_alive(cmd->queue))
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
	else if (cmd->fused != NULL)
		pst_fused_pull(cmd);
	else if (cmd->io.direction == PST_DATA_FROM_HOST)
		pst_cmd_pull(cmd);
	else
		payload_ready(cmd);
}

static void buffer_want(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	/* In order: nobody overtakes who waits already. */
	if (pst_list_empty(&queue->hungry) && pst_list_empty(&queue->shard->hungry) && buffer_take(cmd)) {
		pst_cmd_buffer_granted(cmd);
		return;
	}
	pst_list_push_back(&queue->hungry, &cmd->node);
	if (pst_list_empty(&queue->hungry_node))
		pst_list_push_back(&queue->shard->hungry, &queue->hungry_node);
	pst_shard_feed_hungry(queue->shard);
}

void pst_shard_feed_hungry(struct pst_shard *shard)
{
	if (shard->feeding)
		return;
	shard->feeding = true;
	while (!pst_list_empty(&shard->hungry)) {
		struct pst_queue *queue = pst_container_of(shard->hungry.next, struct pst_queue, hungry_node);
		struct pst_cmd *cmd;

		pst_list_remove(&queue->hungry_node);
		if (pst_list_empty(&queue->hungry))
			continue;
		cmd = pst_container_of(queue->hungry.next, struct pst_cmd, node);
		if (!buffer_take(cmd)) {
			/* A connection at its cap comes back to the list with its own next buffer; else the shard's are
			 * spent, and this one stays first. */
			if (queue->buffer_bytes_held + pst_buffers_round(buffer_need(cmd)) > queue->buffer_bytes_cap)
				continue;
			pst_list_push_front(&shard->hungry, &queue->hungry_node);
			break;
		}
		pst_list_remove(&cmd->node);
		if (!pst_list_empty(&queue->hungry)) /* connections take turns */
			pst_list_push_back(&shard->hungry, &queue->hungry_node);
		pst_cmd_buffer_granted(cmd);
	}
	shard->feeding = false;
}

/*
 * A read whose blocks the engine lends needs no buffer and no copy: it is answered at once. Blocks of a volume on
 * another shard would have to be given back there, one more post for each read: those are copied.
 */
static bool answered_by_loan(struct pst_cmd *cmd)
{
	struct pst_volume *volume = cmd->queue->subsystem->volume;

	if (cmd->io.op != PST_OP_PLAIN || cmd->io.kind != PST_IO_READ || !volume_is_here(cmd) ||
	    !pst_range_ok(cmd->io.lba, cmd->io.block_count, volume->block_count) || pst_gate_denies(cmd) ||
	    pst_gate_path(cmd) != NVME_SUCCESS)
		return false;
	cmd->loan.lba = cmd->io.lba;
	cmd->loan.block_count = cmd->io.block_count;
	if (!pst_volume_lend(volume, &cmd->loan))
		return false;
	pst_cmd_move(cmd, PST_CMD_DISPATCHED);
	if (cmd->admitted) {
		cmd->admitted = false;
		pst_qos_started(&cmd->waiter);
		pst_qos_leave(&cmd->waiter);
	}
	pst_hist_add(&cmd->queue->subsystem->shard_stats[cmd->queue->shard->index].wait_device, 0);
	pst_cmd_complete(cmd, NVME_SUCCESS);
	return true;
}

/* ---- Admission ---- */

static void proceed(struct pst_cmd *cmd)
{
	cmd->admitted = cmd->queue->subsystem->flow != NULL;
	if (cmd->abort || !queue_alive(cmd->queue)) {
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		return;
	}
	if (pst_ana_look(cmd) != NVME_SUCCESS) { /* closed while it waited: no data is moved for nothing */
		pst_cmd_complete(cmd, pst_ana_look(cmd));
		return;
	}
	pst_cmd_move(cmd, PST_CMD_ADMITTED);
	if (cmd->admitted)
		pst_hist_add(&cmd->queue->subsystem->shard_stats[cmd->queue->shard->index].wait_qos,
			     cmd->waiter.waited_ns);
	if (cmd->fused != NULL ? pst_fused_has_data(cmd)
			       : cmd->io.direction == PST_DATA_NONE || cmd->wire->data_bytes > 0)
		dispatch(cmd);
	else if (!answered_by_loan(cmd))
		buffer_want(cmd);
}

static void admitted_here(struct pst_qos_waiter *waiter)
{
	proceed(pst_container_of(waiter, struct pst_cmd, waiter));
}

static void admitted_back(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	if (cmd->cancelling) { /* the cancellation is still on its way; it finds nothing and comes back */
		cmd->admitted = true;
		return;
	}
	proceed(cmd);
}

static void admitted_there(struct pst_qos_waiter *waiter)
{
	struct pst_cmd *cmd = pst_container_of(waiter, struct pst_cmd, waiter);

	cmd->waiting_there = false;
	cmd->post.fn = admitted_back;
	pst_env_post(cmd->queue->shard->env, &cmd->post);
}

static void enter_there(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	cmd->waiter.admitted = admitted_there;
	if (pst_qos_enter(cmd->queue->subsystem->flow, &cmd->waiter))
		admitted_there(&cmd->waiter);
	else
		cmd->waiting_there = true;
}

/* What it moves on the volume. How much a Copy will is known with its ranges: until then, the most that it may. */
static uint64_t cost_bytes(const struct pst_cmd *cmd)
{
	if (cmd->io.op == PST_OP_COPY)
		return (uint64_t)PST_TARGET_COPY_BLOCKS_MAX * PST_BLOCK_BYTES;
	if (cmd->io.op == PST_OP_VERIFY)
		return cmd->io.block_count * PST_BLOCK_BYTES;
	return buffer_need(cmd);
}

static void admit(struct pst_cmd *cmd)
{
	struct pst_subsystem *subsystem = cmd->queue->subsystem;

	if (subsystem->flow == NULL) {
		proceed(cmd);
		return;
	}
	cmd->waiter.kind = cmd->io.kind;
	cmd->waiter.waited_ns = 0;
	cmd->waiter.source = &cmd->queue->source;
	switch (cmd->io.kind) {
	case PST_IO_READ:
	case PST_IO_WRITE:
		cmd->waiter.bytes = cost_bytes(cmd);
		break;
	case PST_IO_FLUSH:
		cmd->waiter.bytes = 0;
		break;
	default: /* metadata only, whatever the range */
		cmd->waiter.bytes = PST_BLOCK_BYTES;
	}
	if (!volume_is_here(cmd)) {
		cmd->post.fn = enter_there;
		pst_env_post(subsystem->volume->env, &cmd->post);
		return;
	}
	cmd->waiter.admitted = admitted_here;
	if (pst_qos_enter(subsystem->flow, &cmd->waiter))
		proceed(cmd);
}

/* ---- Abort and abandon ---- */

static void cancelled_back(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, cancel_post);

	cmd->cancelling = false;
	/* Either it was removed there, or its admission came back first: both end here. */
	pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
}

static void cancel_there(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, cancel_post);

	if (cmd->waiting_there) {
		cmd->waiting_there = false;
		pst_qos_cancel(&cmd->waiter);
	}
	post->fn = cancelled_back;
	pst_env_post(cmd->queue->shard->env, post);
}

/* Posts to the volume's shard are ordered, so the command has entered its flow there when the cancellation arrives. */
static void stop_waiting(struct pst_cmd *cmd)
{
	if (cmd->fused_missing > 0) /* the first one's data is on its way; dispatch will see */
		return;
	if (cmd->state == PST_CMD_ADMITTED) {
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		return;
	}
	if (cmd->cancelling || cmd->leaving)
		return;
	if (volume_is_here(cmd)) {
		pst_qos_cancel(&cmd->waiter);
		pst_cmd_complete(cmd, NVME_ABORT_REQUESTED);
		return;
	}
	cmd->cancelling = true;
	cmd->cancel_post.fn = cancel_there;
	pst_env_post(cmd->queue->subsystem->volume->env, &cmd->cancel_post);
}

bool pst_cmd_abort(struct pst_cmd *cmd)
{
	bool aborted;

	if (pst_fused_abort(cmd, &aborted))
		return aborted;
	switch (cmd->state) {
	case PST_CMD_RECEIVED:
	case PST_CMD_ADMITTED:
		cmd->abort = true;
		stop_waiting(cmd);
		return true;
	case PST_CMD_DATA: /* the host owes us the data; it is aborted when that has come */
		cmd->abort = true;
		return true;
	default:
		return false;
	}
}

void pst_cmd_abandon(struct pst_cmd *cmd)
{
	bool aborted;

	/* The others come back by themselves: from the engine, the volume or the home shard. */
	if (!pst_fused_abort(cmd, &aborted) && (cmd->state == PST_CMD_RECEIVED || cmd->state == PST_CMD_ADMITTED))
		stop_waiting(cmd);
}

/* ---- Arrival ---- */

/* Past admission: they move no blocks, and a host that fences another must not wait behind its writes. */
static void reservation_start(struct pst_cmd *cmd)
{
	cmd->to_home = true;
	pst_cmd_move(cmd, PST_CMD_ADMITTED);
	if (cmd->wire->data_bytes > 0)
		go_home(cmd);
	else
		buffer_want(cmd);
}

static void io_start(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_subsystem *subsystem = queue->subsystem;
	const struct pst_target_config *config = &queue->shard->target->config;
	struct pst_check_limits limits = {
		.nsid = subsystem->nsid,
		.transfer_bytes_max = config->transfer_bytes_max,
	};
	uint16_t status = pst_check_io(&cmd->wire->sqe, cmd->wire->data_bytes, &limits, &cmd->io);

	if (status == NVME_SUCCESS && cmd->wire->data_bytes > config->incapsule_bytes)
		status = NVME_SGL_LENGTH_INVALID |
			 NVME_STATUS_DNR; /* above IOCCSZ; the engine takes what admin queues may */
	/* A first look, so that no data is moved for nothing. The gate to the volume judges it for good. */
	if (status == NVME_SUCCESS)
		status = pst_ana_look(cmd);
	if (status == NVME_SUCCESS && (atomic_load(&queue->denies) & cmd->io.access) != 0)
		status = NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR;
	if (status == NVME_SUCCESS && cmd->io.kind != PST_IO_FLUSH &&
	    !pst_range_ok(cmd->io.lba, cmd->io.block_count, volume_blocks(subsystem->volume))) /* NVM 1.0, 3.1 */
		status = NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
	status = pst_fused_check(cmd, status);
	if (status != NVME_SUCCESS || cmd->io.nothing_to_do) {
		pst_cmd_complete(cmd, status);
		return;
	}
	if (cmd->wire->data_bytes > 0) {
		cmd->iov = (struct iovec){ cmd->wire->data, cmd->wire->data_bytes };
		cmd->incapsule_bytes = cmd->wire->data_bytes;
		queue->incapsule_waiting_bytes += cmd->incapsule_bytes;
	}
	if (pst_fused_hold(cmd))
		return;
	if (cmd->io.op == PST_OP_RESERVATION)
		reservation_start(cmd);
	else
		admit(cmd);
}

static void admin_start(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	uint16_t status = pst_admin_plan(cmd, cmd->wire->data_bytes);

	/* One at a time has data for us: the home shard may still look at it. */
	if (status == NVME_SUCCESS && cmd->io.direction == PST_DATA_FROM_HOST && queue->fabrics_cmd != NULL)
		status = NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR;
	if (status != NVME_SUCCESS) {
		pst_cmd_complete(cmd, status);
		return;
	}
	pst_cmd_move(cmd, PST_CMD_ADMITTED);
	if (cmd->io.direction == PST_DATA_TO_HOST) {
		buffer_want(cmd);
		return;
	}
	if (cmd->io.direction == PST_DATA_FROM_HOST) { /* Connect or Authentication Send */
		pst_assert(cmd->io.data_bytes <= sizeof(queue->fabrics_data));
		queue->fabrics_cmd = cmd;
		cmd->iov = (struct iovec){ queue->fabrics_data, cmd->io.data_bytes };
		if (cmd->wire->data_bytes == 0) {
			pst_cmd_pull(cmd);
			return;
		}
		pst_assert(cmd->wire->data_bytes == cmd->io.data_bytes);
		memcpy(queue->fabrics_data, cmd->wire->data, cmd->io.data_bytes);
	}
	go_home(cmd);
}

/* Until a queue has authenticated it takes nothing but what that needs (Base 2.0, 3.3.2.3). */
static bool unproved(const struct pst_queue *queue, const struct nvme_sqe *sqe)
{
	return queue->state == PST_QUEUE_LIVE && !queue->authenticated &&
	       (sqe->opcode != NVME_FABRICS ||
		(nvme_fctype(sqe) != NVMF_CONNECT && nvme_fctype(sqe) != NVMF_AUTH_SEND &&
		 nvme_fctype(sqe) != NVMF_AUTH_RECEIVE));
}

void pst_cmd_start(struct pst_queue *queue, struct pst_cmd *cmd, struct pst_conn_cmd *wire, pst_err err)
{
	wire->owner = cmd;
	cmd->wire = wire;
	cmd->io = (struct pst_checked_io){ 0 };
	cmd->arrived_ns = pst_queue_now_ns(queue);
	cmd->abort = cmd->admitted = cmd->leaving = cmd->cancelling = cmd->waiting_there = false;
	cmd->dw0 = cmd->dw1 = 0;
	cmd->auth = PST_AUTH_NOTHING;
	cmd->range_count = cmd->range_index = 0;
	cmd->fused = cmd->fused_second = NULL;
	cmd->fused_missing = 0;
	cmd->fused_err = PST_OK;
	cmd->to_home = queue->qid == 0 || wire->sqe.opcode == NVME_FABRICS;
	pst_cmd_move(cmd, PST_CMD_RECEIVED);
	if (queue->qid != 0 && pst_fused_arrive(cmd))
		return;
	if (err != PST_OK) /* the data that came with it is damaged */
		pst_cmd_complete(cmd, pst_fused_check(cmd, NVME_TRANSIENT_TRANSPORT_ERROR));
	else if (!queue_alive(queue))
		pst_cmd_complete(cmd, NVME_ABORT_SQ_DELETED);
	else if (unproved(queue, &wire->sqe))
		pst_cmd_complete(cmd, NVMF_AUTH_REQUIRED | NVME_STATUS_DNR);
	else if (cmd->to_home)
		admin_start(cmd);
	else
		io_start(cmd);
}
