/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate to a volume, on the volume's shard: every I/O command of the subsystem passes here, from whatever shard,
 * just before the volume gets it. So this is the one place where a reservation can be judged for good: the answer that
 * a connection's shard has looked at (queue->denies) may be old when the command arrives.
 *
 *   enter -> [held back] -> [refused: the path, Reservation Conflict, outside of the volume] -> with the volume ->
 * leave
 *
 * A change of the reservation (gate_change) is in force here from its turn on. What the volume has already, and what
 * would be refused now (or belongs to a host whose commands are to be aborted), is marked; the change is complete when
 * the last of these has left. So when a Preempt has been answered, nothing that it forbids is still to reach the disk.
 * What is marked is recalled: a write that waits for space in a full pool would else hold up the change, and land
 * later.
 * A change of the access through a port is the same for commands that have yet to begin: they are refused at once, also
 * those that wait here. Those inside go on, but for what is still to be written of them: it is recalled, too, and they
 * end with the status of the path. Nothing has been promised of such a write, and nothing of it lands any more, so its
 * host sends it again over another path.
 *
 * Order: a host that has lost a path sends its writes again over another, and later writes after them, while the volume
 * may still be at work on the first sending. So what changes blocks that a command of another association is changing
 * is held back until that one has left. Whatever entered first is done first, and an old write never follows a new one.
 * Commands of one association are not held up: their host knows which of them are under way.
 */
#include "target/internal.h"

/* Base 2.0, 8.19: Reservation Conflict */
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
	for (unsigned port = 0; port < PST_TARGET_PORTS_MAX; port++)
		gate->ana[port] = PST_ANA_OPTIMIZED;
	gate->version = 1; /* queues begin with 0: they know nothing */
}

static void submit(struct pst_cmd *cmd, bool inside_enter);

/* ---- Order ---- */

static bool changes_blocks(const struct pst_cmd *cmd)
{
	if (cmd->io.op != PST_OP_PLAIN)
		return cmd->io.op == PST_OP_COPY || cmd->io.op == PST_OP_COMPARE_WRITE;
	return cmd->io.kind != PST_IO_READ && cmd->io.kind != PST_IO_FLUSH;
}

/* From the first to the last block; what lies between ranges may be counted in: it only costs time. */
static void set_span(struct pst_cmd *cmd)
{
	cmd->first_lba = cmd->io.lba;
	cmd->last_lba = cmd->io.lba + cmd->io.block_count - 1;
	for (uint32_t i = 0; cmd->io.op == PST_OP_PLAIN && i < cmd->range_count; i++) { /* of Copy: its sources */
		const struct pst_block_range *range = &cmd->ranges[i];

		cmd->first_lba = i == 0 ? range->lba : PST_MIN(cmd->first_lba, range->lba);
		cmd->last_lba = PST_MAX(i == 0 ? 0 : cmd->last_lba, range->lba + range->block_count - 1);
	}
}

static bool follows_any(const struct pst_list *earlier, const struct pst_cmd *cmd)
{
	PST_LIST_EACH(node, earlier) {
		const struct pst_cmd *other = pst_container_of(node, struct pst_cmd, gate_node);

		if (changes_blocks(other) && other->queue->cntlid != cmd->queue->cntlid &&
		    other->first_lba <= cmd->last_lba && cmd->first_lba <= other->last_lba)
			return true;
	}
	return false;
}

/* Must @cmd, a plain one, wait for one that entered before it? Compound ones take turns instead. The others are looked
 * through only if they are not all of its own. */
static bool must_wait(const struct pst_gate *gate, const struct pst_cmd *cmd)
{
	if (pst_compound_holds_back(gate, cmd))
		return true;
	if (!changes_blocks(cmd))
		return false;
	return (gate->changing > 0 && (gate->changing_mixed || gate->changing_cntlid != cmd->queue->cntlid) &&
		follows_any(&gate->inside, cmd)) ||
	       follows_any(&gate->held_back, cmd);
}

void pst_gate_begin(struct pst_gate *gate, struct pst_cmd *cmd)
{
	cmd->inside = true;
	pst_list_push_back(&gate->inside, &cmd->gate_node);
	if (!changes_blocks(cmd))
		return;
	if (gate->changing++ == 0) {
		gate->changing_cntlid = cmd->queue->cntlid;
		gate->changing_mixed = false;
	}
	gate->changing_mixed |= gate->changing_cntlid != cmd->queue->cntlid;
}

/* Something has left: who waited for it goes on, in order; the others stay. */
static void release(struct pst_gate *gate)
{
	struct pst_list waited, *node;

	if (pst_list_empty(&gate->held_back))
		return;
	pst_list_init(&waited);
	pst_list_splice(&waited, &gate->held_back);
	while ((node = pst_list_pop_front(&waited)) != NULL) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (must_wait(gate, cmd))
			pst_list_push_back(&gate->held_back, node);
		else
			submit(cmd, true);
	}
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
void pst_gate_leave(struct pst_cmd *cmd, uint16_t status, bool inside_enter)
{
	struct pst_gate *gate = &subsystem_of(cmd)->gate;
	struct pst_env *from = cmd->queue->shard->env;

	cmd->status = status;
	pst_list_remove(&cmd->gate_node);
	if (cmd->inside && changes_blocks(cmd))
		gate->changing--;
	cmd->inside = false;
	if (gate->compound == cmd)
		gate->compound = NULL;
	release(gate);
	pst_compound_next(gate);
	if (cmd->admitted) {
		cmd->admitted = false;
		pst_qos_leave(&cmd->waiter);
	}
	if (cmd->fenced) {
		cmd->fenced = false;
		if (--gate->fenced == 0)
			change_complete(gate);
	}
	if (cmd->ana_fenced) {
		cmd->ana_fenced = false;
		if (--gate->ana_fenced == 0)
			pst_ana_drained(gate);
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

/* What the answer of the volume means. */
uint16_t pst_gate_status(struct pst_cmd *cmd)
{
	const struct pst_io *io = &cmd->volume_io;

	if (io->err == PST_E_CANCELLED && cmd->fenced) /* recalled, for the change that waits for it */
		return pst_gate_denies(cmd) ? CONFLICT : NVME_ABORT_REQUESTED;
	if (io->err == PST_E_CANCELLED && cmd->ana_fenced)
		return pst_gate_path(cmd);
	return pst_status_of_err(io->err, io->kind != PST_IO_READ);
}

static void volume_done(struct pst_io *io)
{
	struct pst_cmd *cmd = pst_container_of(io, struct pst_cmd, volume_io);

	if (io->err == PST_OK && cmd->range_index < cmd->range_count)
		submit(cmd, false);
	else
		pst_gate_leave(cmd, pst_gate_status(cmd), false);
}

/* Base 2.0, 8.1: commands that come by a path which is closed are refused; what has been begun completes. */
uint16_t pst_gate_path(const struct pst_cmd *cmd)
{
	return pst_ana_status(subsystem_of(cmd)->gate.ana[cmd->queue->port]);
}

/* The command's next request to the volume: its only one, or the next range of Dataset Management. */
static void submit(struct pst_cmd *cmd, bool inside_enter)
{
	struct pst_gate *gate = &subsystem_of(cmd)->gate;
	struct pst_io *io = &cmd->volume_io;

	if (!cmd->inside) {
		if (pst_gate_path(cmd) != NVME_SUCCESS) {
			pst_gate_leave(cmd, pst_gate_path(cmd), inside_enter);
			return;
		}
		pst_gate_begin(gate, cmd);
	}
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
	cmd->fenced = cmd->ana_fenced = cmd->inside = false;
	set_span(cmd);
	if (cmd->io.op != PST_OP_PLAIN) {
		pst_list_push_back(&gate->compounds, &cmd->gate_node);
		pst_compound_next(gate);
	} else if (must_wait(gate, cmd)) {
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

/* ---- Changes ---- */

/*
 * Who waits here has not begun, and ends at once if it is to: by @effect, of Preempt and Abort; NULL: by its path.
 * Others are judged when their turn comes.
 */
static void end_waiting(struct pst_list *waiting, const struct pst_reservation_effect *effect)
{
	struct pst_list all, *node;

	pst_list_init(&all); /* who leaves may let others go on, which changes the list */
	pst_list_splice(&all, waiting);
	while ((node = pst_list_pop_front(&all)) != NULL) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);
		uint16_t status = pst_gate_path(cmd);

		if (effect != NULL)
			status =
			    pst_reservation_preempted(effect, cmd->queue->hostid) ? NVME_ABORT_REQUESTED : NVME_SUCCESS;
		if (status != NVME_SUCCESS)
			pst_gate_leave(cmd, status, true);
		else
			pst_list_push_back(waiting, node);
	}
}

static void end_all_waiting(struct pst_gate *gate, const struct pst_reservation_effect *effect)
{
	end_waiting(&gate->held_back, effect);
	end_waiting(&gate->compounds, effect);
	release(gate);
	pst_compound_next(gate);
}

/* A Compare and Write that waits for writes before it: it has not begun. */
static bool waits(const struct pst_gate *gate, const struct pst_cmd *cmd)
{
	return cmd == gate->compound && gate->compound_waits;
}

void pst_gate_set_ana(struct pst_gate *gate, const uint8_t ana[PST_TARGET_PORTS_MAX])
{
	pst_assert(gate->ana_fenced == 0); /* one after the other */
	memcpy(gate->ana, ana, sizeof(gate->ana));
	end_all_waiting(gate, NULL);
	gate->ana_fenced = 1; /* until all have been looked at */
	PST_LIST_EACH(node, &gate->inside) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (pst_gate_path(cmd) == NVME_SUCCESS)
			continue;
		cmd->ana_fenced = true;
		gate->ana_fenced++;
		if (!waits(gate, cmd))
			pst_volume_recall(volume_of(cmd), &cmd->volume_io);
	}
	if (gate->compound != NULL && waits(gate, gate->compound) && gate->compound->ana_fenced)
		pst_gate_leave(gate->compound, pst_gate_path(gate->compound), true); /* this lets others in */
	if (--gate->ana_fenced == 0)
		pst_ana_drained(gate);
}

void pst_gate_change(struct pst_gate *gate, struct pst_reservations *change)
{
	bool abort = change->request.action == PST_RESERVATION_PREEMPT_ABORT;

	pst_assert(gate->change == NULL && gate->fenced == 0); /* one after the other */
	gate->change = change;
	gate->reservation = change->next;
	gate->version++;
	if (abort)
		end_all_waiting(gate, &change->effect);
	gate->fenced = 1; /* until all have been looked at */
	PST_LIST_EACH(node, &gate->inside) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, gate_node);

		if (!pst_gate_denies(cmd) && !(abort && pst_reservation_preempted(&change->effect, cmd->queue->hostid)))
			continue;
		cmd->fenced = true;
		gate->fenced++;
		if (!waits(gate, cmd))
			pst_volume_recall(volume_of(cmd), &cmd->volume_io);
	}
	if (gate->compound != NULL && waits(gate, gate->compound) && gate->compound->fenced) /* this lets others in */
		pst_gate_leave(gate->compound, pst_gate_denies(gate->compound) ? CONFLICT : NVME_ABORT_REQUESTED, true);
	if (--gate->fenced == 0)
		change_complete(gate);
}
