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
	gate->reservation = *reservation;
	gate->version = 1; /* queues begin with 0: they know nothing */
}

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

/* @inside_enter: completions never run inside the call that began the command. */
static void leave(struct pst_cmd *cmd, uint16_t status, bool inside_enter)
{
	struct pst_gate *gate = &subsystem_of(cmd)->gate;
	struct pst_env *from = cmd->queue->shard->env;

	cmd->status = status;
	pst_list_remove(&cmd->gate_node);
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
static bool denied(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_gate *gate = &subsystem_of(cmd)->gate;

	if (queue->gate_version != gate->version) {
		queue->gate_version = gate->version;
		queue->gate_denies = (uint8_t)pst_reservation_denies(&gate->reservation, queue->hostid);
	}
	return (queue->gate_denies & cmd->io.access) != 0;
}

static void submit(struct pst_cmd *cmd, bool inside_enter);

static void volume_done(struct pst_io *io)
{
	struct pst_cmd *cmd = pst_container_of(io, struct pst_cmd, volume_io);

	if (io->err == PST_OK && cmd->range_index < cmd->range_count)
		submit(cmd, false);
	else
		leave(cmd, pst_status_of_err(io->err, io->kind != PST_IO_READ), false);
}

/* The command's next request to the volume: its only one, or the next range of Dataset Management. */
static void submit(struct pst_cmd *cmd, bool inside_enter)
{
	struct pst_io *io = &cmd->volume_io;

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
	if (denied(cmd)) /* Base 2.0, 8.19: checked here, and before each further part of what has begun */
		leave(cmd, CONFLICT, inside_enter);
	else if (io->kind != PST_IO_FLUSH && !pst_range_ok(io->lba, io->block_count, volume_of(cmd)->block_count))
		leave(cmd, NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR, inside_enter);
	else
		pst_volume_submit(volume_of(cmd), io);
}

static void enter(struct pst_cmd *cmd, bool inside_enter)
{
	if (cmd->admitted)
		pst_qos_started(&cmd->waiter);
	cmd->fenced = false;
	pst_list_push_back(&subsystem_of(cmd)->gate.inside, &cmd->gate_node);
	submit(cmd, inside_enter);
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

void pst_gate_change(struct pst_gate *gate, struct pst_reservations *change)
{
	bool abort = change->request.action == PST_RESERVATION_PREEMPT_ABORT;

	pst_assert(gate->change == NULL && gate->fenced == 0); /* one after the other */
	gate->change = change;
	gate->reservation = change->next;
	gate->version++;
	PST_LIST_EACH(node, &gate->inside) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (!denied(cmd) && !(abort && pst_reservation_preempted(&change->effect, cmd->queue->hostid)))
			continue;
		cmd->fenced = true;
		gate->fenced++;
	}
	if (gate->fenced == 0)
		change_complete(gate);
}
