/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reservation commands of a subsystem, on the home shard, which owns the state; one after the other:
 *
 *   WAITING    behind another one
 *   DECIDE     the change is made on a copy; a refusal ends here, and nothing has happened
 *   SAVE       where it persists, the copy is made durable; a failure ends here, and the old state stays in force
 *   IN FORCE   here, and in what connections look at first (queue->denies)
 *   FENCE      at the gate of the volume's shard, until nothing of what it forbids is still with the volume; at the
 *              same time, for Preempt and Abort, commands that wait on the connections' shards are aborted
 *   ANSWERED
 *
 * A command whose connection is lost goes on: its queue lasts until it has been answered.
 */
#include "target/internal.h"

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)

static void run(struct pst_subsystem *subsystem);

static struct pst_subsystem *subsystem_of(struct pst_reservations *rs)
{
	return pst_container_of(rs, struct pst_subsystem, reservations);
}

static struct pst_env *home(struct pst_reservations *rs)
{
	return pst_target_home(subsystem_of(rs)->target);
}

static void answer(struct pst_reservations *rs, uint16_t status)
{
	struct pst_cmd *cmd = rs->current;

	rs->current = NULL;
	pst_admin_finish(cmd, status);
}

static void part_done(struct pst_reservations *rs)
{
	if (--rs->parts > 0)
		return;
	answer(rs, NVME_SUCCESS);
	run(subsystem_of(rs));
}

/* ---- Base 2.0, 7.2: Preempt and Abort: to each connection of the preempted hosts, and back ---- */

static void visited(struct pst_post *post)
{
	part_done(&pst_container_of(post, struct pst_queue, visit_post)->subsystem->reservations);
}

static void visit(struct pst_post *post)
{
	struct pst_queue *queue = pst_container_of(post, struct pst_queue, visit_post);

	for (uint32_t i = 0; i < queue->cmds_used; i++)
		pst_cmd_abort(&queue->cmds[i]); /* what is too late for is waited for at the gate */
	post->fn = visited;
	pst_env_post(pst_target_home(queue->shard->target), post);
}

static void abort_waiting(struct pst_reservations *rs)
{
	PST_LIST_EACH(node, &subsystem_of(rs)->queues) {
		struct pst_queue *queue = pst_container_of(node, struct pst_queue, subsystem_node);

		/* A queue without its controller is closing, and has aborted everything by itself. Any other lasts
		 * until this post has come back: its "lost" has not been answered. */
		if (queue->ctrl == NULL || queue->home_qid == 0 ||
		    !pst_reservation_preempted(&rs->effect, queue->hostid))
			continue;
		rs->parts++;
		queue->visit_post.fn = visit;
		pst_env_post(queue->shard->env, &queue->visit_post);
	}
}

/* ---- In force (Base 2.0, 8.19) ---- */

void pst_reservation_look(struct pst_queue *queue)
{
	atomic_store(&queue->denies,
		     (uint8_t)pst_reservation_denies(&queue->subsystem->reservations.state, queue->hostid));
}

static void gate_done_here(struct pst_post *post)
{
	part_done(pst_container_of(post, struct pst_reservations, post));
}

void pst_reservation_gate_done(struct pst_reservations *rs)
{
	rs->post.fn = gate_done_here;
	pst_env_post(home(rs), &rs->post);
}

static void gate_there(struct pst_post *post)
{
	struct pst_reservations *rs = pst_container_of(post, struct pst_reservations, post);

	pst_gate_change(&subsystem_of(rs)->gate, rs);
}

static void notify(struct pst_reservations *rs)
{
	struct pst_subsystem *subsystem = subsystem_of(rs);

	PST_LIST_EACH(node, &subsystem->target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem != subsystem)
			continue;
		for (uint32_t i = 0; i < rs->effect.count; i++)
			if (memcmp(rs->effect.notices[i].host, ctrl->hostid, sizeof(ctrl->hostid)) == 0)
				pst_ctrl_notice(ctrl, rs->effect.notices[i].notice);
	}
}

static void put_in_force(struct pst_reservations *rs)
{
	struct pst_subsystem *subsystem = subsystem_of(rs);

	rs->state = rs->next;
	PST_LIST_EACH(node, &subsystem->queues)
		pst_reservation_look(pst_container_of(node, struct pst_queue, subsystem_node));
	rs->parts = 1;
	rs->post.fn = gate_there;
	pst_env_post(subsystem->volume->env, &rs->post);
	if (rs->request.action == PST_RESERVATION_PREEMPT_ABORT)
		abort_waiting(rs);
	notify(rs);
}

static void saved(struct pst_reservation_save_op *op)
{
	struct pst_reservations *rs = pst_container_of(op, struct pst_reservations, save_op);

	if (op->err == PST_OK) {
		put_in_force(rs);
		return;
	}
	pst_env_log(home(rs), PST_LOG_WARN, "reservation_not_saved nqn=%s error=\"%s\" next=\"the command has failed\"",
		    subsystem_of(rs)->nqn, pst_err_text(op->err));
	answer(rs, NVME_INTERNAL_ERROR);
	run(subsystem_of(rs));
}

/* ---- Decide ---- */

static uint16_t understand(const struct pst_cmd *cmd, struct pst_reservation_request *q)
{
	uint16_t status = NVME_SUCCESS;

	if (cmd->queue->home_qid == 0) /* Set Features, Reservation Persistence */
		*q = (struct pst_reservation_request){
			.action = PST_RESERVATION_PERSIST,
			.persist = (nvme_get32(cmd->wire->sqe.cdw11) & 1) != 0 ? PST_PERSIST_ON : PST_PERSIST_OFF,
		};
	else
		status = pst_reservation_parse(&cmd->wire->sqe, q);
	if (status == NVME_SUCCESS && cmd->io.direction == PST_DATA_FROM_HOST)
		status = pst_reservation_keys(cmd->iov.iov_base, q);
	memcpy(q->host, cmd->queue->hostid, sizeof(q->host));
	return status;
}

/* True: answered with *ret_status at once. */
static bool decide(struct pst_reservations *rs, uint16_t *ret_status)
{
	struct pst_cmd *cmd = rs->current;

	/* It begins now: the path may have been closed while it waited. */
	*ret_status = pst_ana_look(cmd);
	if (*ret_status != NVME_SUCCESS)
		return true;
	*ret_status = understand(cmd, &rs->request);
	if (*ret_status != NVME_SUCCESS)
		return true;
	if (rs->request.action == PST_RESERVATION_REPORT) {
		pst_reservation_report(&rs->state, cmd->iov.iov_base, cmd->io.data_bytes);
		return true;
	}
	if (rs->request.persist == PST_PERSIST_ON && rs->save == NULL) { /* RESCAP bit 0 is 0 */
		*ret_status = BAD_FIELD;
		return true;
	}
	rs->next = rs->state;
	*ret_status = pst_reservation_apply(&rs->next, &rs->request, subsystem_of(rs)->target->config.registrants_max,
					    &rs->effect);
	if (*ret_status != NVME_SUCCESS || !rs->effect.changed)
		return true;
	if (!rs->state.persist && !rs->next.persist) {
		put_in_force(rs);
		return false;
	}
	rs->save_op.bytes = rs->saved;
	rs->save_op.len_bytes = pst_reservation_save(&rs->next, rs->saved);
	rs->save_op.done = saved;
	rs->save(rs->save_ctx, &rs->save_op);
	return false;
}

static void run(struct pst_subsystem *subsystem)
{
	struct pst_reservations *rs = &subsystem->reservations;
	struct pst_list *node;
	uint16_t status;

	while (rs->current == NULL && (node = pst_list_pop_front(&rs->waiting)) != NULL) {
		rs->current = pst_container_of(node, struct pst_cmd, gate_node);
		if (decide(rs, &status))
			answer(rs, status);
	}
}

void pst_reservation_command(struct pst_cmd *cmd)
{
	struct pst_subsystem *subsystem = cmd->queue->subsystem;

	pst_list_push_back(&subsystem->reservations.waiting, &cmd->gate_node);
	run(subsystem);
}

void pst_reservation_at_home(struct pst_post *post)
{
	pst_reservation_command(pst_container_of(post, struct pst_cmd, post));
}

pst_err pst_reservations_init(struct pst_reservations *rs, const struct pst_subsystem_config *config)
{
	pst_err err = pst_reservation_load(config->reservation, config->reservation_bytes, &rs->state);

	pst_list_init(&rs->waiting);
	rs->save = config->reservation_save;
	rs->save_ctx = config->reservation_save_ctx;
	/* Kept once, but there is no more a place to keep changes: it would be in force, and lost after the first. */
	if (err == PST_OK && rs->state.persist && rs->save == NULL)
		return PST_E_INVAL;
	return err;
}
