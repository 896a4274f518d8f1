/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connect and the property commands (Base 2.0, 6.3, 6.5, 6.6), on the home shard. A Connect that is
 * refused for a parameter says where it stands: IPO, its offset, and IATTR, whether in the command or in the data.
 */
#include "target/internal.h"

#include <string.h>

#define IN_COMMAND 0u
#define IN_DATA (1u << 16)

static uint16_t bad_parameter(struct pst_cmd *cmd, uint32_t where, uint32_t offset_bytes)
{
	cmd->dw0 = where | offset_bytes;
	return NVMF_INVALID_PARAM | NVME_STATUS_DNR;
}

static bool nqn_ok(const char field[256])
{
	size_t len = strnlen(field, 256);

	return len >= 5 && len <= PST_NQN_MAX && memcmp(field, "nqn.", 4) == 0;
}

/*
 * May this host have this queue? Where it must prove who it is, the queue begins to authenticate. A TLS key is of one
 * host and one subsystem (TCP 1.0, 3.6.1.3).
 */
static uint16_t admit(struct pst_cmd *cmd, const struct pst_subsystem *subsystem, const struct nvmf_connect_data *data)
{
	struct pst_queue *queue = cmd->queue;
	const struct pst_known_host *host = NULL;
	const struct pst_tls_identity *tls = queue->tls_peer;
	const struct pst_claim claim = { data->hostnqn, !pst_addr_is_loopback(queue->local.host), tls != NULL };
	enum pst_access access = PST_ACCESS_NO;
	const char *why = "its TLS key is of another host or subsystem";
	char peer[72];

	if (tls == NULL || (strcmp(tls->hostnqn, data->hostnqn) == 0 && strcmp(tls->subnqn, data->subnqn) == 0))
		access = pst_access_of(queue->shard->target, subsystem, &claim, &host, &why);
	switch (access) {
	case PST_ACCESS_OPEN:
		return NVME_SUCCESS;
	case PST_ACCESS_PROOF:
		return pst_auth_begin(queue, host, data->hostnqn, data->subnqn);
	default:
		pst_env_log(pst_target_home(queue->shard->target), PST_LOG_WARN,
			    "host_refused peer=%s host=%s nqn=%s reason=\"%s\" next=\"penstock host list, penstock "
			    "volume show\"",
			    pst_addr_format(&queue->peer, peer), data->hostnqn, data->subnqn, why);
		return NVMF_INVALID_HOST | NVME_STATUS_DNR;
	}
}

static struct pst_queue *queue_by_id(struct pst_ctrl *ctrl, uint16_t qid)
{
	PST_LIST_EACH(node, &ctrl->queues) {
		struct pst_queue *queue = pst_container_of(node, struct pst_queue, ctrl_node);

		if (queue->home_qid == qid)
			return queue;
	}
	return NULL;
}

static uint16_t connect_admin(struct pst_cmd *cmd, const struct nvmf_connect_cmd *connect,
			      const struct nvmf_connect_data *data, struct pst_ctrl **ret_ctrl)
{
	struct pst_target *target = cmd->queue->shard->target;
	bool discovery = pst_discovery_is(target, data->subnqn);
	struct pst_subsystem *subsystem = discovery ? NULL : pst_subsystem_find(target, data->subnqn);
	uint16_t status;

	if (atomic_load(&target->quiet))
		return NVMF_CONTROLLER_BUSY; /* without Do Not Retry: it will be back */
	if (subsystem == NULL && !discovery)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, subnqn));
	/* Dynamic controllers: the host takes any. */
	if (nvme_get16(data->cntlid) != NVMF_CNTLID_DYNAMIC)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, cntlid));
	status = admit(cmd, subsystem, data);
	if (status != NVME_SUCCESS)
		return status;
	*ret_ctrl = pst_ctrl_new(target, subsystem, data, nvme_get32(connect->kato));
	return *ret_ctrl != NULL ? NVME_SUCCESS : NVMF_CONTROLLER_BUSY;
}

static uint16_t connect_io(struct pst_cmd *cmd, const struct nvmf_connect_cmd *connect,
			   const struct nvmf_connect_data *data, struct pst_ctrl **ret_ctrl)
{
	struct pst_ctrl *ctrl = pst_ctrl_find(cmd->queue->shard->target, nvme_get16(data->cntlid));
	uint16_t qid = nvme_get16(connect->qid);

	if (atomic_load(&cmd->queue->shard->target->quiet))
		return NVMF_CONTROLLER_BUSY;
	if (ctrl == NULL)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, cntlid));
	/* The same host and subsystem as on the admin queue. */
	if (strcmp(data->subnqn, ctrl->subsystem != NULL ? ctrl->subsystem->nqn : NVMF_DISCOVERY_NQN) != 0)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, subnqn));
	if (strcmp(data->hostnqn, ctrl->hostnqn) != 0)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, hostnqn));
	if (memcmp(data->hostid, ctrl->hostid, sizeof(ctrl->hostid)) != 0)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, hostid));
	if (ctrl->subsystem == NULL || qid > (pst_features_value(&ctrl->features, NVME_FEAT_QUEUES) & 0xffff) + 1)
		return bad_parameter(cmd, IN_COMMAND, offsetof(struct nvmf_connect_cmd, qid));
	/* Base 2.0, 6.3: all queues of an association are on one port. */
	if (cmd->queue->port != ctrl->port)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, cntlid));
	/* Base 2.0, 6.3. A controller is not enabled before its admin queue has authenticated. */
	if (!pst_registers_ready(&ctrl->registers))
		return bad_parameter(cmd, IN_COMMAND, offsetof(struct nvmf_connect_cmd, qid));
	if (queue_by_id(ctrl, qid) != NULL)
		return NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR;
	*ret_ctrl = ctrl;
	return admit(cmd, ctrl->subsystem, data);
}

uint16_t pst_fabrics_connect(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	const struct pst_target_config *config = &queue->shard->target->config;
	const struct nvmf_connect_cmd *connect = (const void *)&cmd->wire->sqe;
	const struct nvmf_connect_data *data = (const void *)queue->fabrics_data;
	static const uint8_t no_id[16];
	uint16_t qid = nvme_get16(connect->qid), sqsize = nvme_get16(connect->sqsize), status;
	struct pst_ctrl *ctrl = NULL;

	if (nvme_get16(connect->recfmt) != 0)
		return NVMF_INCOMPATIBLE_FORMAT | NVME_STATUS_DNR;
	if (sqsize == 0 || sqsize >= config->queue_entries_max)
		return bad_parameter(cmd, IN_COMMAND, offsetof(struct nvmf_connect_cmd, sqsize));
	if (memcmp(data->hostid, no_id, sizeof(no_id)) == 0)
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, hostid));
	if (!nqn_ok(data->hostnqn))
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, hostnqn));
	if (!nqn_ok(data->subnqn))
		return bad_parameter(cmd, IN_DATA, offsetof(struct nvmf_connect_data, subnqn));
	/* Base 2.0, 6.3: the same name on both sides would make one's proof the other's. */
	if (strcmp(data->hostnqn, data->subnqn) == 0)
		return NVMF_INVALID_HOST | NVME_STATUS_DNR;
	if (queue->ctrl != NULL) /* a second Connect while the first is being answered */
		return NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR;
	status = pst_guest_enter(queue, data->hostnqn);
	if (status == NVME_SUCCESS)
		status = qid == 0 ? connect_admin(cmd, connect, data, &ctrl) : connect_io(cmd, connect, data, &ctrl);
	if (status != NVME_SUCCESS) {
		pst_auth_end(queue);
		pst_guest_leave(queue);
		return status;
	}
	queue->home_qid = qid;
	pst_ctrl_attach(ctrl, queue);
	cmd->dw0 = ctrl->cntlid | (queue->auth != NULL ? NVMF_CONNECT_ATR : 0);
	return NVME_SUCCESS;
}

uint16_t pst_fabrics_property(struct pst_cmd *cmd, bool set)
{
	const struct nvmf_property_cmd *property = (const void *)&cmd->wire->sqe;
	struct pst_ctrl *ctrl = cmd->queue->ctrl;
	enum pst_register_action action = PST_REGISTER_NONE;
	uint64_t value = 0;
	uint16_t status;

	if (!set) {
		status =
		    pst_registers_get(&ctrl->registers, property->attrib & 7, nvme_get32(property->offset), &value);
		cmd->dw0 = (uint32_t)value;
		cmd->dw1 = (uint32_t)(value >> 32);
		return status;
	}
	status = pst_registers_set(&ctrl->registers, property->attrib & 7, nvme_get32(property->offset),
				   nvme_get64(property->value), &action);
	switch (action) {
	case PST_REGISTER_RESET:
		pst_ctrl_reset(ctrl);
		break;
	case PST_REGISTER_SHUTDOWN:
		pst_ctrl_kill_io_queues(ctrl);
		break;
	case PST_REGISTER_ENABLED: /* Base 2.0, 3.9: the keep alive timer begins */
		ctrl->features.queues_in_use = false;
		pst_ctrl_alive(ctrl);
		break;
	case PST_REGISTER_NONE:
		break;
	}
	return status;
}
