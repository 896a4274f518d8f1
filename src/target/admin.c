/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admin commands. The connection's shard plans them (what data, how much), the home shard executes them, where the
 * controller lives; Identify Namespace goes on to the volume's shard for its statistics, Abort to the shard of the
 * queue it names. Each ends with pst_admin_finish, once.
 */
#include "base/le.h"
#include "target/internal.h"
#include "target/logs.h"

#include <string.h>

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)
#define BAD_OPCODE (NVME_INVALID_OPCODE | NVME_STATUS_DNR)
#define BAD_SEQUENCE (NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR)
#define BAD_NAMESPACE (NVME_INVALID_NAMESPACE | NVME_STATUS_DNR)

/* ---- On the connection's shard ---- */

static uint16_t plan_answer(struct pst_cmd *cmd, uint64_t bytes, uint32_t incapsule_bytes)
{
	if (bytes > cmd->queue->shard->target->config.transfer_bytes_max)
		return BAD_FIELD;
	cmd->io.direction = PST_DATA_TO_HOST;
	cmd->io.data_bytes = (uint32_t)bytes;
	return pst_check_sgl(&cmd->wire->sqe, PST_DATA_TO_HOST, cmd->io.data_bytes, false, incapsule_bytes);
}

/* Base 2.0, 3.3.2.2: nothing comes before Connect. */
static uint16_t plan_fabrics(struct pst_cmd *cmd, uint32_t incapsule_bytes)
{
	struct pst_queue *queue = cmd->queue;

	if (nvme_fctype(&cmd->wire->sqe) == NVMF_CONNECT) {
		if (queue->state != PST_QUEUE_OPEN)
			return BAD_SEQUENCE;
		cmd->io.direction = PST_DATA_FROM_HOST;
		cmd->io.data_bytes = sizeof(struct nvmf_connect_data);
		return pst_check_sgl(&cmd->wire->sqe, PST_DATA_FROM_HOST, cmd->io.data_bytes, true, incapsule_bytes);
	}
	if (queue->state != PST_QUEUE_LIVE)
		return BAD_SEQUENCE;
	if (nvme_fctype(&cmd->wire->sqe) == NVMF_AUTH_SEND || nvme_fctype(&cmd->wire->sqe) == NVMF_AUTH_RECEIVE)
		return pst_auth_plan(cmd, incapsule_bytes);
	if (nvme_fctype(&cmd->wire->sqe) == NVMF_PROPERTY_GET || nvme_fctype(&cmd->wire->sqe) == NVMF_PROPERTY_SET)
		return queue->qid == 0 ? NVME_SUCCESS : BAD_FIELD;
	return BAD_FIELD; /* Base 2.0, 3.3.2.1.1 */
}

static uint64_t log_page_bytes(const struct nvme_sqe *sqe)
{
	return ((uint64_t)(nvme_get32(sqe->cdw11) & 0xffff) << 16 | nvme_get32(sqe->cdw10) >> 16) * 4 + 4;
}

uint16_t pst_admin_plan(struct pst_cmd *cmd, uint32_t incapsule_bytes)
{
	if ((cmd->wire->sqe.flags & 3) != 0) /* fused */
		return BAD_FIELD;
	if (cmd->wire->sqe.opcode == NVME_FABRICS)
		return plan_fabrics(cmd, incapsule_bytes);
	if (cmd->queue->state != PST_QUEUE_LIVE)
		return BAD_SEQUENCE;
	switch (cmd->wire->sqe.opcode) {
	case NVME_ADMIN_IDENTIFY:
		return plan_answer(cmd, PST_IDENTIFY_BYTES, incapsule_bytes);
	case NVME_ADMIN_GET_LOG_PAGE:
		return plan_answer(cmd, log_page_bytes(&cmd->wire->sqe), incapsule_bytes);
	case NVME_ADMIN_GET_FEATURES:
		if ((nvme_get32(cmd->wire->sqe.cdw10) & 0xff) == NVME_FEAT_HOST_ID &&
		    (nvme_get32(cmd->wire->sqe.cdw10) >> 8 & 7) == 0 && (nvme_get32(cmd->wire->sqe.cdw11) & 1) != 0)
			return plan_answer(cmd, sizeof(cmd->queue->ctrl->hostid), incapsule_bytes);
		return NVME_SUCCESS;
	case NVME_ADMIN_SET_FEATURES:
	case NVME_ADMIN_ABORT:
	case NVME_ADMIN_ASYNC_EVENT:
	case NVME_ADMIN_KEEP_ALIVE:
		return NVME_SUCCESS;
	default:
		return BAD_OPCODE;
	}
}

static void answered(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);
	struct pst_queue *queue = cmd->queue;

	if (cmd->wire->sqe.opcode == NVME_FABRICS && nvme_fctype(&cmd->wire->sqe) == NVMF_CONNECT &&
	    cmd->status == NVME_SUCCESS && queue->state == PST_QUEUE_OPEN) {
		const struct nvmf_connect_cmd *connect = (const void *)&cmd->wire->sqe;

		queue->state = PST_QUEUE_LIVE;
		pst_list_remove(&queue->half_open_node);
		queue->state_since_ns = pst_env_now_ns(queue->shard->env);
		queue->authenticated = (cmd->dw0 & NVMF_CONNECT_ATR) == 0;
		queue->qid = nvme_get16(connect->qid);
		pst_conn_set_queue(queue->conn, nvme_get16(connect->sqsize) + 1u,
				   (connect->cattr & NVMF_CATTR_NO_SQ_FLOW_CONTROL) == 0);
		if (queue->qid != 0 && queue->subsystem->volume->ops->any_buffer)
			pst_conn_set_in_place(queue->conn);
	}
	if (cmd->auth == PST_AUTH_PROVED)
		queue->authenticated = true;
	if (cmd->auth == PST_AUTH_REFUSED && queue->state == PST_QUEUE_LIVE) {
		queue->auth_failed = true;
		queue->state_since_ns = pst_env_now_ns(queue->shard->env);
	}
	pst_cmd_complete(cmd, cmd->status);
}

/* ---- On the home shard ---- */

void pst_admin_finish(struct pst_cmd *cmd, uint16_t status)
{
	cmd->status = status;
	cmd->post.fn = answered;
	pst_env_post(cmd->queue->shard->env, &cmd->post);
}

static void describe(const struct pst_subsystem *subsystem, struct pst_identify_ns *ret)
{
	*ret = (struct pst_identify_ns){
		.nsid = subsystem->nsid,
		.block_count = __atomic_load_n(&subsystem->volume->block_count, __ATOMIC_RELAXED),
		.keeps_reservations = subsystem->reservations.save != NULL,
		.ana_group = subsystem->ana_group,
	};
	memcpy(ret->uuid, subsystem->uuid, sizeof(ret->uuid));
}

/* Base 2.0, 8.1.3.3 and 8.1.3.4: NUSE is 0 where the path is closed for longer than a change. */
static bool closed_for_good(const struct pst_cmd *cmd)
{
	uint16_t status = pst_ana_look(cmd);

	return status == NVME_ANA_INACCESSIBLE || status == NVME_ANA_PERSISTENT_LOSS;
}

static void namespace_there(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);
	struct pst_subsystem *subsystem = cmd->queue->subsystem;
	struct pst_volume_stats stats;
	struct pst_identify_ns ns;

	pst_volume_stats(subsystem->volume, &stats);
	describe(subsystem, &ns);
	if (!closed_for_good(cmd))
		ns.used_blocks = pst_div_round_up(stats.used_bytes, PST_BLOCK_BYTES);
	pst_identify_namespace(&ns, cmd->iov.iov_base);
	pst_admin_finish(cmd, NVME_SUCCESS);
}

static void identify_controller(struct pst_cmd *cmd)
{
	const struct pst_ctrl *ctrl = cmd->queue->ctrl;
	const struct pst_subsystem *subsystem = ctrl->subsystem;
	const struct pst_target_config *config = &ctrl->target->config;

	pst_identify_controller(
	    &(struct pst_identify_ctrl){
		.discovery = subsystem == NULL,
		.cntlid = ctrl->cntlid,
		.serial = subsystem != NULL ? subsystem->serial : "discovery",
		.model = subsystem != NULL ? subsystem->model : "Penstock discovery",
		.firmware = PST_TARGET_FIRMWARE,
		.subnqn = subsystem != NULL ? subsystem->nqn : pst_discovery_nqn(ctrl->target),
		.transfer_bytes_max = config->transfer_bytes_max,
		.incapsule_bytes = subsystem != NULL ? config->incapsule_bytes : 0,
		.queue_entries_max = config->queue_entries_max,
		.nsid_max = subsystem != NULL ? subsystem->nsid : 0,
		.ana_groups_max = PST_ANA_GROUPS_MAX,
	    },
	    cmd->iov.iov_base);
}

/* CNS values about one namespace; @nsid is ours. */
static void identify_namespace(struct pst_cmd *cmd, uint8_t cns)
{
	struct pst_subsystem *subsystem = cmd->queue->subsystem;
	struct pst_identify_ns ns;

	describe(subsystem, &ns);
	switch (cns) {
	case NVME_CNS_NAMESPACE:
		cmd->post.fn = namespace_there;
		pst_env_post(subsystem->volume->env, &cmd->post);
		return;
	case NVME_CNS_DESCRIPTORS:
		pst_identify_descriptors(&ns, cmd->iov.iov_base);
		break;
	case NVME_CNS_CSI_INDEPENDENT:
		pst_identify_namespace_independent(&ns, cmd->iov.iov_base);
		break;
	default: /* NVME_CNS_CSI_NAMESPACE: no protection information, no extended formats */
		break;
	}
	pst_admin_finish(cmd, NVME_SUCCESS);
}

/* Base 2.0, 5.17.2.2: a namespace that is not attached is told as inactive; that it changed, by an event (5.2). */
static bool attached(const struct pst_ctrl *ctrl)
{
	return atomic_load(&ctrl->subsystem->ana[ctrl->port]) != PST_ANA_DETACHED;
}

/* From CNTID of dword 10 on. Every controller of a subsystem has its namespace attached. */
static void identify_controllers(struct pst_cmd *cmd)
{
	const struct pst_ctrl *own = cmd->queue->ctrl;
	uint16_t from = (uint16_t)(nvme_get32(cmd->wire->sqe.cdw10) >> 16);

	PST_LIST_EACH(node, &own->target->ctrls) {
		const struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem == own->subsystem && ctrl->cntlid >= from)
			pst_identify_controllers_add(ctrl->cntlid, cmd->iov.iov_base);
	}
	pst_admin_finish(cmd, NVME_SUCCESS);
}

static void identify(struct pst_cmd *cmd)
{
	const struct pst_subsystem *subsystem = cmd->queue->subsystem;
	uint8_t cns = nvme_get32(cmd->wire->sqe.cdw10) & 0xff;
	uint8_t csi = (uint8_t)(nvme_get32(cmd->wire->sqe.cdw11) >> 24);
	uint32_t nsid = nvme_get32(cmd->wire->sqe.nsid);

	memset(cmd->iov.iov_base, 0, PST_IDENTIFY_BYTES);
	if (cns == NVME_CNS_CONTROLLER) {
		identify_controller(cmd);
		pst_admin_finish(cmd, NVME_SUCCESS);
		return;
	}
	if (subsystem == NULL) { /* a discovery controller has no namespaces */
		pst_admin_finish(cmd, BAD_FIELD);
		return;
	}
	switch (cns) {
	case NVME_CNS_CSI_ACTIVE_LIST:
	case NVME_CNS_CSI_CONTROLLER:
	case NVME_CNS_CSI_NAMESPACE:
		if (csi != 0) { /* NVM is the only command set */
			pst_admin_finish(cmd, BAD_FIELD);
			return;
		}
		break;
	default:
		break;
	}
	switch (cns) {
	case NVME_CNS_ACTIVE_LIST:
	case NVME_CNS_CSI_ACTIVE_LIST:
		if (nsid < 0xfffffffe && attached(cmd->queue->ctrl))
			pst_identify_active_list(subsystem->nsid, nsid, cmd->iov.iov_base);
		pst_admin_finish(cmd, nsid < 0xfffffffe ? NVME_SUCCESS : BAD_NAMESPACE);
		break;
	case NVME_CNS_CSI_CONTROLLER:
		pst_identify_controller_nvm(cmd->iov.iov_base);
		pst_admin_finish(cmd, NVME_SUCCESS);
		break;
	case NVME_CNS_CONTROLLERS:
		identify_controllers(cmd);
		break;
	case NVME_CNS_ATTACHED_CONTROLLERS:
		if (nsid == subsystem->nsid && attached(cmd->queue->ctrl))
			identify_controllers(cmd);
		else
			pst_admin_finish(cmd, BAD_NAMESPACE);
		break;
	case NVME_CNS_NAMESPACE:
	case NVME_CNS_DESCRIPTORS:
	case NVME_CNS_CSI_NAMESPACE:
	case NVME_CNS_CSI_INDEPENDENT:
		if (nsid == subsystem->nsid && attached(cmd->queue->ctrl))
			identify_namespace(cmd, cns);
		else /* valid but inactive ids answer with zeros, where the figure says so */
			pst_admin_finish(cmd, nsid > 0 && nsid <= subsystem->nsid && cns == NVME_CNS_NAMESPACE
						  ? NVME_SUCCESS
						  : BAD_NAMESPACE);
		break;
	default:
		pst_admin_finish(cmd, BAD_FIELD);
	}
}

/* ---- Log pages (Base 2.0, 5.16) ---- */

static void log_smart(const struct pst_ctrl *ctrl, const struct pst_log_window *w)
{
	struct pst_log_smart smart = { .error_log_entries = ctrl->errors.count };

	for (uint32_t i = 0; i < ctrl->target->shard_count; i++) {
		const struct pst_shard_stats *stats = &ctrl->subsystem->shard_stats[i];

		smart.bytes_read += stats->bytes_read;
		smart.bytes_written += stats->bytes_written;
		smart.read_commands += stats->ops[0];
		smart.write_commands += stats->ops[1];
		smart.media_errors += stats->media_errors;
	}
	smart.power_on_hours =
	    (pst_env_now_ns(pst_target_home(ctrl->target)) - ctrl->subsystem->added_ns) / 3600000000000ull;
	pst_log_smart(&smart, w);
}

static uint16_t log_page(struct pst_cmd *cmd)
{
	struct pst_ctrl *ctrl = cmd->queue->ctrl;
	bool discovery = ctrl->subsystem == NULL;
	uint32_t cdw10 = nvme_get32(cmd->wire->sqe.cdw10);
	uint8_t lid = cdw10 & 0xff;
	struct pst_log_window w = {
		.offset_bytes = (uint64_t)nvme_get32(cmd->wire->sqe.cdw13) << 32 | nvme_get32(cmd->wire->sqe.cdw12),
		.len_bytes = cmd->io.data_bytes,
		.data = cmd->iov.iov_base,
	};
	uint64_t page_bytes = pst_log_page_bytes(discovery, lid, discovery ? pst_discovery_entries(cmd->queue) : 0);

	if (page_bytes == 0)
		return NVME_INVALID_LOG_PAGE | NVME_STATUS_DNR;
	/* Offsets are in dwords and lie inside the page; index offsets (CDW14 bit 23) don't exist here. */
	if ((w.offset_bytes & 3) != 0 || w.offset_bytes > page_bytes ||
	    (nvme_get32(cmd->wire->sqe.cdw14) & 1u << 23) != 0)
		return BAD_FIELD;
	memset(w.data, 0, w.len_bytes);
	switch (lid) {
	case NVME_LOG_SUPPORTED:
		pst_log_supported(discovery, &w);
		break;
	case NVME_LOG_ERROR:
		pst_log_errors(&ctrl->errors, &w);
		break;
	case NVME_LOG_SMART:
		log_smart(ctrl, &w);
		break;
	case NVME_LOG_FIRMWARE:
		pst_log_firmware(PST_TARGET_FIRMWARE, &w);
		break;
	case NVME_LOG_CHANGED_NS:
		pst_log_changed_ns(ctrl->changed_nsid, &w);
		ctrl->changed_nsid = 0; /* reading clears it */
		break;
	case NVME_LOG_EFFECTS:
		pst_log_effects(discovery, &w);
		break;
	case NVME_LOG_FEATURES:
		pst_log_features(discovery, &w);
		break;
	case NVME_LOG_DISCOVERY:
		pst_discovery_log(cmd->queue, &w);
		break;
	case NVME_LOG_ANA:
		pst_ana_log(ctrl, (cdw10 >> 8 & 1) != 0, &w); /* LSP bit 0: return groups only */
		break;
	case NVME_LOG_RESERVATION:
		pst_log_notices_take(&ctrl->notices, ctrl->subsystem->nsid, &w);
		break;
	default:
		pst_assert(false);
	}
	if ((cdw10 & 1u << 15) == 0) /* RAE 0: the event may be reported again */
		pst_events_log_read(&ctrl->events, lid);
	if (lid == NVME_LOG_RESERVATION && ctrl->notices.waiting > 0)
		pst_ctrl_raise(ctrl, PST_EVENT_RESERVATION); /* there is more to read */
	return NVME_SUCCESS;
}

/* ---- Abort (Base 2.0, 5.1) ---- */

static struct pst_cmd *command_by_cid(struct pst_queue *queue, uint16_t cid)
{
	for (uint32_t i = 0; i < queue->cmds_used; i++)
		if (queue->cmds[i].state != PST_CMD_FREE && queue->cmds[i].state != PST_CMD_COMPLETED &&
		    nvme_get16(queue->cmds[i].wire->sqe.cid) == cid)
			return &queue->cmds[i];
	return NULL;
}

static void abort_finished(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);

	if (cmd->queue->ctrl != NULL)
		cmd->queue->ctrl->abort_count--;
	pst_admin_finish(cmd, NVME_SUCCESS);
}

static void abort_at_queue(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);
	struct pst_cmd *victim = command_by_cid(cmd->abort_queue, (uint16_t)(nvme_get32(cmd->wire->sqe.cdw10) >> 16));

	/* Dword 0, bit 0: 1 means not aborted. */
	cmd->dw0 = victim != NULL && pst_cmd_abort(victim) ? 0 : 1;
	post->fn = abort_finished;
	pst_env_post(pst_target_home(cmd->queue->shard->target), post);
}

static void abort_command(struct pst_cmd *cmd)
{
	struct pst_ctrl *ctrl = cmd->queue->ctrl;
	uint16_t sqid = nvme_get32(cmd->wire->sqe.cdw10) & 0xffff,
		 cid = (uint16_t)(nvme_get32(cmd->wire->sqe.cdw10) >> 16);

	if (ctrl->abort_count == PST_TARGET_ABORT_MAX) {
		pst_admin_finish(cmd, NVME_ABORT_LIMIT_EXCEEDED | NVME_STATUS_DNR);
		return;
	}
	if (sqid == 0 && pst_events_abort(&ctrl->events, cid)) {
		PST_LIST_EACH(node, &ctrl->aers) {
			struct pst_cmd *aer = pst_container_of(node, struct pst_cmd, aer_node);

			if (nvme_get16(aer->wire->sqe.cid) != cid)
				continue;
			pst_list_remove(&aer->aer_node);
			pst_admin_finish(aer, NVME_ABORT_REQUESTED);
			break;
		}
		cmd->dw0 = 0;
		pst_admin_finish(cmd, NVME_SUCCESS);
		return;
	}
	PST_LIST_EACH(node, &ctrl->queues) {
		struct pst_queue *queue = pst_container_of(node, struct pst_queue, ctrl_node);

		if (queue->home_qid != sqid || sqid == 0) /* admin commands are over before an Abort can reach them */
			continue;
		/* The queue can't go before this post has run: its "lost" has not been answered yet. */
		ctrl->abort_count++;
		cmd->abort_queue = queue;
		cmd->post.fn = abort_at_queue;
		pst_env_post(queue->shard->env, &cmd->post);
		return;
	}
	cmd->dw0 = 1;
	pst_admin_finish(cmd, NVME_SUCCESS);
}

/* ---- Events, features ---- */

static void event_request(struct pst_cmd *cmd)
{
	struct pst_ctrl *ctrl = cmd->queue->ctrl;
	uint16_t status = pst_events_request(&ctrl->events, nvme_get16(cmd->wire->sqe.cid));

	if (status != NVME_SUCCESS) {
		pst_admin_finish(cmd, status | NVME_STATUS_DNR);
		return;
	}
	pst_list_push_back(&ctrl->aers, &cmd->aer_node);
	pst_ctrl_deliver_events(ctrl);
}

/* Base 2.0, 5.27.1.26 and 5.27.1.27: a feature of a namespace names it; only Set takes all of them. */
static bool names_our_namespace(const struct pst_cmd *cmd, bool set)
{
	const struct pst_subsystem *subsystem = cmd->queue->ctrl->subsystem;
	uint32_t nsid = nvme_get32(cmd->wire->sqe.nsid);

	return subsystem == NULL || !pst_features_of_namespace(nvme_get32(cmd->wire->sqe.cdw10) & 0xff) ||
	       nsid == subsystem->nsid || (set && nsid == PST_NSID_ALL);
}

static uint16_t get_features(struct pst_cmd *cmd)
{
	const struct pst_ctrl *ctrl = cmd->queue->ctrl;
	bool host_id = false;
	uint32_t cdw10 = nvme_get32(cmd->wire->sqe.cdw10);
	uint16_t status =
	    pst_features_get(&ctrl->features, cdw10, nvme_get32(cmd->wire->sqe.cdw11), &cmd->dw0, &host_id);

	if (status != NVME_SUCCESS)
		return status;
	if (!names_our_namespace(cmd, false))
		return BAD_FIELD;
	if (pst_features_of_namespace(cdw10 & 0xff) && pst_ana_look(cmd) != NVME_SUCCESS)
		return pst_ana_look(cmd);
	if (host_id)
		memcpy(cmd->iov.iov_base, ctrl->hostid, sizeof(ctrl->hostid));
	if ((cdw10 & 0x7ff) == NVME_FEAT_RESV_PERSIST) /* select 0: current */
		cmd->dw0 = ctrl->subsystem->reservations.state.persist;
	return NVME_SUCCESS;
}

static void set_features(struct pst_cmd *cmd)
{
	struct pst_ctrl *ctrl = cmd->queue->ctrl;
	uint8_t fid = nvme_get32(cmd->wire->sqe.cdw10) & 0xff;
	uint16_t status;

	if (!names_our_namespace(cmd, true)) {
		pst_admin_finish(cmd, BAD_FIELD);
		return;
	}
	if (pst_features_of_namespace(fid) && pst_ana_look(cmd) != NVME_SUCCESS) {
		pst_admin_finish(cmd, pst_ana_look(cmd));
		return;
	}
	status = pst_features_set(&ctrl->features, nvme_get32(cmd->wire->sqe.cdw10), nvme_get32(cmd->wire->sqe.cdw11),
				  &cmd->dw0);
	if (status == NVME_SUCCESS && fid == NVME_FEAT_RESV_PERSIST)
		pst_reservation_command(cmd);
	else
		pst_admin_finish(cmd, status);
	if (status == NVME_SUCCESS && fid == NVME_FEAT_KATO)
		pst_ctrl_alive(ctrl);
}

static void execute(struct pst_cmd *cmd, struct pst_ctrl *ctrl)
{
	switch (cmd->wire->sqe.opcode) {
	case NVME_ADMIN_IDENTIFY:
		identify(cmd);
		break;
	case NVME_ADMIN_GET_LOG_PAGE:
		pst_admin_finish(cmd, log_page(cmd));
		break;
	case NVME_ADMIN_GET_FEATURES:
		pst_admin_finish(cmd, get_features(cmd));
		break;
	case NVME_ADMIN_SET_FEATURES:
		set_features(cmd);
		break;
	case NVME_ADMIN_ABORT:
		abort_command(cmd);
		break;
	case NVME_ADMIN_ASYNC_EVENT:
		event_request(cmd);
		break;
	case NVME_ADMIN_KEEP_ALIVE:
		pst_ctrl_alive(ctrl);
		pst_admin_finish(cmd, NVME_SUCCESS);
		break;
	default:
		pst_assert(false); /* the plan let it through */
	}
}

void pst_admin_at_home(struct pst_post *post)
{
	struct pst_cmd *cmd = pst_container_of(post, struct pst_cmd, post);
	struct pst_ctrl *ctrl = cmd->queue->ctrl;

	if (cmd->wire->sqe.opcode == NVME_FABRICS && nvme_fctype(&cmd->wire->sqe) == NVMF_CONNECT) {
		pst_admin_finish(cmd, pst_fabrics_connect(cmd));
		return;
	}
	if (ctrl == NULL || ctrl->dead) { /* the association has ended, and this connection is about to */
		pst_admin_finish(cmd, NVME_ABORT_SQ_DELETED);
		return;
	}
	if (cmd->wire->sqe.opcode == NVME_FABRICS &&
	    (nvme_fctype(&cmd->wire->sqe) == NVMF_AUTH_SEND || nvme_fctype(&cmd->wire->sqe) == NVMF_AUTH_RECEIVE)) {
		pst_auth_command(cmd);
		return;
	}
	if (ctrl->subsystem == NULL) /* the reaper of discovery controllers counts every command */
		ctrl->alive_ns = pst_env_now_ns(pst_target_home(ctrl->target));
	if (cmd->wire->sqe.opcode == NVME_FABRICS)
		pst_admin_finish(cmd, pst_fabrics_property(cmd, nvme_fctype(&cmd->wire->sqe) == NVMF_PROPERTY_SET));
	else if (!pst_registers_ready(&ctrl->registers) &&
		 cmd->wire->sqe.opcode != NVME_ADMIN_KEEP_ALIVE) /* Base 2.0, 3.3.2.3 */
		pst_admin_finish(cmd, BAD_SEQUENCE);
	else
		execute(cmd, ctrl);
}
