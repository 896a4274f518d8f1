/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate to a volume, on the volume's shard: every I/O command of the subsystem passes here, from whatever shard,
 * just before the volume gets it. So this is the one place where a reservation can be judged for good: the answer that
 * a connection's shard has looked at (queue->denies) may be old when the command arrives.
 *
 *   enter -> [refused: Reservation Conflict, or outside of the volume] -> with the volume -> leave
 *
 * A change of the reservation (gate_change) is in force here from its turn on. What the volume has already, and what
 * would be refused now (or belongs to a host whose commands are to be aborted), is marked; the change is complete when
 * the last of these has left. So when a Preempt has been answered, nothing that it forbids is still to reach the disk.
 */
#include "target/internal.h"

#define CONFLICT (NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR)

static struct pst_subsystem *subsystem_of(const struct pst_cmd *cmd)
{
	return cmd->queue->subsystem;
}

static struct pst_volume *volume_of(const struct pst_cmd *cmd)
{
	return subsystem_of(cmd)->volume;
}

void pst_gate_init(struct pst_gate *gate, const struct pst_reservation *reservation)
{
	pst_list_init(&gate->inside);
	pst_list_init(&gate->held_back);
	pst_list_init(&gate->compounds);
	gate->reservation = *reservation;
	gate->version = 1; /* queues begin with 0: they know nothing */
}

static void submit(struct pst_cmd *cmd, bool inside_enter);

/* ---- Out ---- */

static void left(struct pst_post *post)
{
	pst_cmd_volume_done(pst_container_of(post, struct pst_cmd, post));
}

static void change_complete(struct pst_gate *gate)
{
	struct pst_reservations *change = gate->change;

	gate->change = NULL;
	pst_reservation_gate_done(change);
}

/* Those that were held back by it go on, and so do those that wait for their turn. */
static void compound_left(struct pst_gate *gate, struct pst_cmd *cmd)
{
	struct pst_list freed, *node;

	pst_list_init(&freed);
	if (gate->compound == cmd) {
		gate->compound = NULL;
		pst_list_splice(&freed, &gate->held_back);
	}
	while ((node = pst_list_pop_front(&freed)) != NULL)
		submit(pst_container_of(node, struct pst_cmd, gate_node), true);
	pst_compound_next(gate);
}

/* @inside_enter: completions never run inside the call that began the command. */
void pst_gate_leave(struct pst_cmd *cmd, uint16_t status, bool inside_enter)
{
	struct pst_gate *gate = &subsystem_of(cmd)->gate;
	struct pst_env *from = cmd->queue->shard->env;

	cmd->status = status;
	pst_list_remove(&cmd->gate_node);
	if (gate->compound != NULL)
		compound_left(gate, cmd);
	if (cmd->admitted) {
		cmd->admitted = false;
		pst_qos_leave(&cmd->waiter);
	}
	if (cmd->fenced) {
		cmd->fenced = false;
		if (--gate->fenced == 0)
			change_complete(gate);
	}
	cmd->post.fn = left;
	if (inside_enter || from != volume_of(cmd)->env)
		pst_env_post(from, &cmd->post);
	else
		left(&cmd->post);
}

/* ---- In ---- */

/* What the reservation denies the queue's host, looked up once per change of the reservation. */
bool pst_gate_denies(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_gate *gate = &subsystem_of(cmd)->gate;

	if (queue->gate_version != gate->version) {
		queue->gate_version = gate->version;
		queue->gate_denies = (uint8_t)pst_reservation_denies(&gate->reservation, queue->hostid);
	}
	return (queue->gate_denies & cmd->io.access) != 0;
}

static void volume_done(struct pst_io *io)
{
	struct pst_cmd *cmd = pst_container_of(io, struct pst_cmd, volume_io);

	if (io->err == PST_OK && cmd->range_index < cmd->range_count)
		submit(cmd, false);
	else
		pst_gate_leave(cmd, pst_status_of_err(io->err, io->kind != PST_IO_READ), false);
}

/* The command's next request to the volume: its only one, or the next range of Dataset Management. */
static void submit(struct pst_cmd *cmd, bool inside_enter)
{
	struct pst_io *io = &cmd->volume_io;

	if (pst_list_empty(&cmd->gate_node))
		pst_list_push_back(&subsystem_of(cmd)->gate.inside, &cmd->gate_node);
	*io = (struct pst_io){ .kind = cmd->io.kind,
			       .flags = cmd->io.flags,
			       .lba = cmd->io.lba,
			       .block_count = cmd->io.block_count,
			       .iov = &cmd->iov,
			       .iov_count = cmd->io.kind == PST_IO_READ || cmd->io.kind == PST_IO_WRITE ? 1 : 0,
			       .done = volume_done };
	if (cmd->range_count > 0) {
		io->lba = cmd->ranges[cmd->range_index].lba;
		io->block_count = cmd->ranges[cmd->range_index++].block_count;
	}
	if (pst_gate_denies(cmd)) /* Base 2.0, 8.19: checked here, and before each further part of what has begun */
		pst_gate_leave(cmd, CONFLICT, inside_enter);
	else if (io->kind != PST_IO_FLUSH && !pst_range_ok(io->lba, io->block_count, volume_of(cmd)->block_count))
		pst_gate_leave(cmd, NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR, inside_enter);
	else
		pst_volume_submit(volume_of(cmd), io);
}

static void enter(struct pst_cmd *cmd, bool inside_enter)
{
	struct pst_gate *gate = &subsystem_of(cmd)->gate;

	if (cmd->admitted)
		pst_qos_started(&cmd->waiter);
	cmd->fenced = false;
	if (cmd->io.op != PST_OP_PLAIN) {
		pst_list_push_back(&gate->compounds, &cmd->gate_node);
		pst_compound_next(gate);
	} else if (pst_compound_holds_back(gate, cmd)) {
		pst_list_push_back(&gate->held_back, &cmd->gate_node);
	} else {
		submit(cmd, inside_enter);
	}
}

static void entered_there(struct pst_post *post)
{
	enter(pst_container_of(post, struct pst_cmd, post), true);
}

void pst_gate_enter(struct pst_cmd *cmd)
{
	struct pst_env *there = volume_of(cmd)->env;

	if (there == cmd->queue->shard->env) {
		enter(cmd, true);
		return;
	}
	cmd->post.fn = entered_there;
	pst_env_post(there, &cmd->post);
}

/* ---- Changes of the reservation ---- */

/* Who waits here has not begun: Preempt and Abort takes it away. Others are judged when their turn comes. */
static void abort_waiting(struct pst_list *waiting, const struct pst_reservation_effect *effect)
{
	PST_LIST_EACH(node, waiting) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (pst_reservation_preempted(effect, cmd->queue->hostid))
			pst_gate_leave(cmd, NVME_ABORT_REQUESTED, true);
	}
}

void pst_gate_change(struct pst_gate *gate, struct pst_reservations *change)
{
	bool abort = change->request.action == PST_RESERVATION_PREEMPT_ABORT;

	pst_assert(gate->change == NULL && gate->fenced == 0); /* one after the other */
	gate->change = change;
	gate->reservation = change->next;
	gate->version++;
	if (abort) {
		abort_waiting(&gate->held_back, &change->effect);
		abort_waiting(&gate->compounds, &change->effect);
	}
	PST_LIST_EACH(node, &gate->inside) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (!pst_gate_denies(cmd) && !(abort && pst_reservation_preempted(&change->effect, cmd->queue->hostid)))
			continue;
		cmd->fenced = true;
		gate->fenced++;
	}
	if (gate->fenced == 0)
		change_complete(gate);
}
