/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Controllers: one per association, on the home shard. It begins with Connect on the admin queue and ends when that
 * queue is lost, its keep alive timer runs out, or its subsystem is removed; then its other queues are closed. The
 * loss of an I/O queue takes away only that queue: hosts close them one by one before they shut down.
 */
#include "target/internal.h"

#include <stdlib.h>
#include <string.h>

#define CNTLID_LAST 0xffef /* FFF0h and above are reserved */

static struct pst_env *home(const struct pst_ctrl *ctrl)
{
	return pst_target_home(ctrl->target);
}

struct pst_ctrl *pst_ctrl_find(struct pst_target *target, uint16_t cntlid)
{
	PST_HASH_EACH(it, &target->ctrl_ids, pst_hash_bytes(&target->ctrl_ids, &cntlid, sizeof(cntlid)))
	{
		struct pst_ctrl *ctrl = pst_container_of(it, struct pst_ctrl, id_node);

		if (ctrl->cntlid == cntlid)
			return ctrl;
	}
	return NULL;
}

/* Not soon reused: the next one in the circle that is free. 0: none. */
static uint16_t cntlid_next(struct pst_target *target)
{
	for (uint32_t tries = 0; tries < CNTLID_LAST; tries++) {
		target->cntlid_next = target->cntlid_next >= CNTLID_LAST ? 1 : target->cntlid_next + 1;
		if (pst_ctrl_find(target, target->cntlid_next) == NULL)
			return target->cntlid_next;
	}
	return 0;
}

/* ---- Keep alive (Base 2.0, 3.9) ---- */

static uint64_t silence_allowed_ns(const struct pst_ctrl *ctrl)
{
	uint64_t ms = pst_features_value(&ctrl->features, NVME_FEAT_KATO);

	/* Base 2.0, 3.1.2.3: not a persistent discovery controller: don't keep it for ever */
	if (ms == 0 && ctrl->subsystem == NULL)
		ms = ctrl->target->config.keep_alive_ms_default;
	return ms * 1000000;
}

static void keep_alive_check(struct pst_timer *timer)
{
	struct pst_ctrl *ctrl = pst_container_of(timer, struct pst_ctrl, keep_alive);
	uint64_t allowed_ns = silence_allowed_ns(ctrl);

	if (allowed_ns == 0)
		return;
	if (pst_env_now_ns(home(ctrl)) - ctrl->alive_ns < allowed_ns)
		pst_timer_arm(home(ctrl), timer, ctrl->alive_ns + allowed_ns);
	else
		pst_ctrl_kill(ctrl, "keep alive timeout");
}

void pst_ctrl_alive(struct pst_ctrl *ctrl)
{
	ctrl->alive_ns = pst_env_now_ns(home(ctrl));
	keep_alive_check(&ctrl->keep_alive);
}

/* ---- Life ---- */

struct pst_ctrl *pst_ctrl_new(struct pst_target *target, struct pst_subsystem *subsystem,
			      const struct nvmf_connect_data *data, uint32_t keep_alive_ms)
{
	struct pst_ctrl *ctrl = target->stopping ? NULL : calloc(1, sizeof(*ctrl));

	if (ctrl == NULL)
		return NULL;
	ctrl->target = target;
	ctrl->cntlid = cntlid_next(target);
	if (ctrl->cntlid == 0) {
		free(ctrl);
		return NULL;
	}
	ctrl->subsystem = subsystem;
	memcpy(ctrl->hostnqn, data->hostnqn, sizeof(ctrl->hostnqn));
	memcpy(ctrl->hostid, data->hostid, sizeof(ctrl->hostid));
	pst_registers_init(&ctrl->registers, target->config.queue_entries_max);
	pst_features_init(&ctrl->features, subsystem == NULL, (uint16_t)target->config.io_queues_max, keep_alive_ms);
	pst_list_init(&ctrl->queues);
	pst_list_init(&ctrl->aers);
	pst_timer_init(&ctrl->keep_alive, keep_alive_check);
	pst_list_push_back(&target->ctrls, &ctrl->node);
	pst_hash_add(&target->ctrl_ids, &ctrl->id_node,
		     pst_hash_bytes(&target->ctrl_ids, &ctrl->cntlid, sizeof(ctrl->cntlid)));
	if (subsystem != NULL)
		subsystem->ctrl_count++;
	pst_ctrl_alive(ctrl);
	return ctrl;
}

static void ctrl_free(struct pst_ctrl *ctrl)
{
	pst_assert(ctrl->dead && pst_list_empty(&ctrl->aers));
	free(ctrl);
}

void pst_ctrl_attach(struct pst_ctrl *ctrl, struct pst_queue *queue)
{
	char peer[72];

	queue->ctrl = ctrl;
	queue->subsystem = ctrl->subsystem;
	queue->cntlid = ctrl->cntlid;
	memcpy(queue->hostid, ctrl->hostid, sizeof(queue->hostid));
	pst_list_push_back(&ctrl->queues, &queue->ctrl_node);
	if (ctrl->subsystem != NULL) {
		pst_list_push_back(&ctrl->subsystem->queues, &queue->subsystem_node);
		ctrl->subsystem->queue_count++;
		pst_reservation_look(queue);
	}
	if (queue->home_qid != 0) {
		ctrl->features.queues_in_use = true;
		return;
	}
	pst_env_log(home(ctrl), PST_LOG_INFO,
		    "host_connected peer=%s cntlid=%u host=%s nqn=%s authentication=%s tls=%s",
		    pst_addr_format(&queue->peer, peer), ctrl->cntlid, ctrl->hostnqn,
		    ctrl->subsystem != NULL ? ctrl->subsystem->nqn : NVMF_DISCOVERY_NQN,
		    queue->auth != NULL ? "required" : "none", queue->tls_peer != NULL ? "yes" : "no");
	ctrl->remote = !pst_addr_is_loopback(queue->local.host);
	ctrl->secure = queue->tls_peer != NULL;
	ctrl->port = queue->port;
	if (ctrl->subsystem != NULL && ctrl->subsystem->ana_op == NULL) /* else it hears of the change in work */
		ctrl->ana_changes = ctrl->subsystem->ana_changes[ctrl->port];
	if (queue->auth == NULL)
		pst_ctrl_admit(ctrl, false);
}

void pst_ctrl_admit(struct pst_ctrl *ctrl, bool proved)
{
	pst_assert(!ctrl->admitted);
	ctrl->admitted = true;
	ctrl->proved = proved;
	if (ctrl->subsystem != NULL)
		ctrl->subsystem->host_count++;
}

static void killed(struct pst_post *post)
{
	pst_queue_close(pst_container_of(post, struct pst_queue, kill_post), "the association has ended");
}

static void queue_kill(struct pst_queue *queue)
{
	if (queue->kill_posted)
		return;
	queue->kill_posted = true;
	queue->kill_post.fn = killed;
	pst_env_post(queue->shard->env, &queue->kill_post);
}

void pst_ctrl_kill(struct pst_ctrl *ctrl, const char *why)
{
	if (ctrl->dead)
		return;
	pst_env_log(home(ctrl), PST_LOG_INFO, "association_ended cntlid=%u host=%s nqn=%s reason=\"%s\"", ctrl->cntlid,
		    ctrl->hostnqn, ctrl->subsystem != NULL ? ctrl->subsystem->nqn : NVMF_DISCOVERY_NQN, why);
	ctrl->dead = true;
	pst_timer_disarm(home(ctrl), &ctrl->keep_alive);
	pst_list_remove(&ctrl->node);
	pst_hash_remove(&ctrl->target->ctrl_ids, &ctrl->id_node);
	if (ctrl->subsystem != NULL) {
		ctrl->subsystem->host_count -= ctrl->admitted;
		ctrl->subsystem->ctrl_count--;
		pst_subsystem_check_removed(ctrl->subsystem);
	}
	PST_LIST_EACH(node, &ctrl->queues)
		queue_kill(pst_container_of(node, struct pst_queue, ctrl_node));
	if (pst_list_empty(&ctrl->queues))
		ctrl_free(ctrl);
}

void pst_ctrl_kill_io_queues(struct pst_ctrl *ctrl)
{
	PST_LIST_EACH(node, &ctrl->queues) {
		struct pst_queue *queue = pst_container_of(node, struct pst_queue, ctrl_node);

		if (queue->home_qid != 0)
			queue_kill(queue);
	}
	ctrl->features.queues_in_use = false;
}

void pst_ctrl_reset(struct pst_ctrl *ctrl)
{
	uint32_t keep_alive_ms = pst_features_value(&ctrl->features, NVME_FEAT_KATO);
	struct pst_list *node;

	pst_ctrl_kill_io_queues(ctrl);
	while ((node = pst_list_pop_front(&ctrl->aers)) != NULL)
		pst_admin_finish(pst_container_of(node, struct pst_cmd, aer_node), NVME_ABORT_REQUESTED);
	memset(&ctrl->events, 0, sizeof(ctrl->events));
	memset(&ctrl->errors, 0, sizeof(ctrl->errors));
	memset(&ctrl->notices, 0, sizeof(ctrl->notices));
	ctrl->changed_nsid = 0;
	pst_features_init(&ctrl->features, ctrl->subsystem == NULL, (uint16_t)ctrl->target->config.io_queues_max,
			  keep_alive_ms);
}

void pst_queue_lost(struct pst_queue *queue)
{
	struct pst_ctrl *ctrl = queue->ctrl;

	pst_auth_end(queue);
	if (ctrl == NULL)
		return;
	queue->ctrl = NULL;
	pst_list_remove(&queue->ctrl_node);
	if (queue->home_qid == 0) {
		struct pst_list *node;

		while ((node = pst_list_pop_front(&ctrl->aers)) != NULL)
			pst_admin_finish(pst_container_of(node, struct pst_cmd, aer_node), NVME_ABORT_SQ_DELETED);
		if (!ctrl->dead) {
			pst_ctrl_kill(ctrl, "the admin queue is lost");
			return;
		}
	}
	if (ctrl->dead && pst_list_empty(&ctrl->queues))
		ctrl_free(ctrl);
}

void pst_queue_gone(struct pst_post *post)
{
	struct pst_queue *queue = pst_container_of(post, struct pst_queue, gone_post);
	struct pst_target *target = queue->shard->target;
	struct pst_subsystem *subsystem = queue->subsystem;

	if (subsystem != NULL) {
		pst_subsystem_fold_sockets(subsystem, queue);
		pst_list_remove(&queue->subsystem_node);
		subsystem->queue_count--;
		pst_subsystem_check_removed(subsystem);
	}
	pst_guest_leave(queue);
	free(queue->cmds);
	free(queue);
	atomic_fetch_sub(&target->queue_count, 1);
	pst_target_check_stopped(target);
}

/* ---- Events ---- */

void pst_ctrl_deliver_events(struct pst_ctrl *ctrl)
{
	uint16_t cid;
	uint32_t dw0;

	while (pst_events_next(&ctrl->events, &cid, &dw0)) {
		struct pst_cmd *cmd = pst_container_of(pst_list_pop_front(&ctrl->aers), struct pst_cmd, aer_node);

		pst_assert(nvme_get16(cmd->wire->sqe.cid) == cid); /* both are in order of arrival */
		cmd->dw0 = dw0;
		pst_admin_finish(cmd, NVME_SUCCESS);
	}
}

void pst_ctrl_raise(struct pst_ctrl *ctrl, enum pst_event_kind kind)
{
	if (kind == PST_EVENT_NS_CHANGED)
		ctrl->changed_nsid = ctrl->subsystem->nsid;
	pst_events_raise(&ctrl->events, kind, pst_features_value(&ctrl->features, NVME_FEAT_ASYNC_EVENT));
	pst_ctrl_deliver_events(ctrl);
}

void pst_ctrl_notice(struct pst_ctrl *ctrl, enum pst_reservation_notice notice)
{
	uint32_t mask = pst_features_value(&ctrl->features, NVME_FEAT_RESV_MASK);

	if ((mask >> notice & 1) != 0) /* REGPRE, RESREL, RESPRE are the bits 1 to 3, in the order of the types */
		return;
	pst_log_notices_add(&ctrl->notices, (uint8_t)notice);
	pst_ctrl_raise(ctrl, PST_EVENT_RESERVATION);
}
