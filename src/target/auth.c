/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authentication of queues: Authentication Send and Receive (Base 2.0, 3.3.2.3, 6.1, 6.2, 8.13) move the messages of a
 * transaction (proto/auth.h), which begins with a Connect that was answered with ATR and ends in one of three ways:
 *
 *   proved     the connection's shard is told with the command that ended it; from then on it takes any command
 *   failed     likewise; the peer has a second to read why and to close, then the queue is closed
 *   too late   after auth_timeout_ms the connection's shard closes the queue
 *
 * Crypto runs here, on the home shard, for anybody who knows the name of a host. So that others still get their turns,
 * queues that authenticate are limited in number, messages are taken up one by one, and after each the next waits
 * three times as long as this one took: a quarter of the shard at most goes into it.
 */
#include "target/internal.h"

#include <openssl/crypto.h>
#include <string.h>

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)
#define BAD_SEQUENCE (NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR)
#define REST_FACTOR 3u

static struct pst_env *home(const struct pst_queue *queue)
{
	return pst_target_home(queue->shard->target);
}

/* ---- On the connection's shard ---- */

uint16_t pst_auth_plan(struct pst_cmd *cmd, uint32_t incapsule_bytes)
{
	const struct nvmf_auth_cmd *auth = (const void *)&cmd->wire->sqe;
	bool send = auth->fctype == NVMF_AUTH_SEND;
	uint32_t length = nvme_get32(auth->length);

	if (auth->secp != NVMF_AUTH_SECP || auth->spsp0 != NVMF_AUTH_SPSP || auth->spsp1 != NVMF_AUTH_SPSP)
		return BAD_FIELD;
	if (length == 0 || length > (send ? sizeof(cmd->queue->fabrics_data) : PST_AUTH_RECEIVE_BYTES_MAX))
		return BAD_FIELD;
	cmd->io.direction = send ? PST_DATA_FROM_HOST : PST_DATA_TO_HOST;
	cmd->io.data_bytes = length;
	return pst_check_sgl(auth, cmd->io.direction, length, send, incapsule_bytes);
}

/* ---- On the home shard ---- */

uint16_t pst_auth_begin(struct pst_queue *queue, const struct pst_known_host *host, const char *hostnqn,
			const char *subnqn)
{
	struct pst_target *target = queue->shard->target;
	struct pst_auth_config config = {
		.controller = true,
		.hostnqn = hostnqn,
		.subnqn = subnqn,
		.host_key = &host->host_key,
		.ctrl_key = host->has_ctrl_key ? &host->ctrl_key : NULL,
		.hashes = host->hashes,
		.groups = host->groups,
	};
	struct pst_auth_random random;
	pst_err err;

	if (target->auth_count >= target->config.auth_max) {
		pst_target_limit_log(target, queue, hostnqn, "auth_max", target->config.auth_max);
		return NVMF_CONTROLLER_BUSY; /* it may try again */
	}
	if (queue->guest->auths >= target->config.auth_per_host_max) {
		pst_target_limit_log(target, queue, hostnqn, "auth_per_host_max", target->config.auth_per_host_max);
		return NVMF_CONTROLLER_BUSY;
	}
	queue->auth = pst_secret_alloc(home(queue), sizeof(*queue->auth));
	if (queue->auth == NULL)
		return NVMF_CONTROLLER_BUSY;
	pst_env_random(home(queue), &random, sizeof(random));
	err = pst_auth_init(queue->auth, &config, &random);
	OPENSSL_cleanse(&random, sizeof(random));
	if (err != PST_OK) {
		pst_secret_free(home(queue), queue->auth, sizeof(*queue->auth));
		queue->auth = NULL;
		return NVMF_CONTROLLER_BUSY;
	}
	target->auth_count++;
	queue->guest->auths++;
	return NVME_SUCCESS;
}

void pst_auth_end(struct pst_queue *queue)
{
	struct pst_target *target = queue->shard->target;

	if (queue->auth == NULL)
		return;
	PST_LIST_EACH(node, &target->auth_line) {
		struct pst_cmd *cmd = pst_container_of(node, struct pst_cmd, aer_node);

		if (cmd->queue != queue)
			continue;
		pst_list_remove(node);
		pst_admin_finish(cmd, NVME_ABORT_SQ_DELETED);
	}
	pst_auth_done(queue->auth);
	pst_secret_free(home(queue), queue->auth, sizeof(*queue->auth));
	queue->auth = NULL;
	target->auth_count--;
	queue->guest->auths--;
}

/* Both sides know all that they will know. */
static void concluded(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;
	struct pst_ctrl *ctrl = queue->ctrl;
	const char *nqn = ctrl->subsystem != NULL ? ctrl->subsystem->nqn : NVMF_DISCOVERY_NQN;
	bool by_peer;
	uint8_t failure = pst_auth_failure(queue->auth, &by_peer);
	char peer[72];

	pst_addr_format(&queue->peer, peer);
	if (pst_auth_step(queue->auth) == PST_AUTH_DONE) {
		cmd->auth = PST_AUTH_PROVED;
		if (queue->home_qid == 0) {
			pst_env_log(home(queue), PST_LOG_INFO,
				    "host_authenticated peer=%s cntlid=%u host=%s nqn=%s hash=%s group=%s ways=%u",
				    peer, ctrl->cntlid, ctrl->hostnqn, nqn, pst_auth_hash_name(queue->auth->hash),
				    pst_auth_group_name(queue->auth->group), queue->auth->wants_proof ? 2 : 1);
			pst_ctrl_admit(ctrl, true);
		}
	} else {
		cmd->auth = PST_AUTH_REFUSED;
		pst_env_log(
		    home(queue), PST_LOG_WARN,
		    "authentication_failed peer=%s cntlid=%u qid=%u host=%s nqn=%s by=%s reason=\"%s\" next=close",
		    peer, ctrl->cntlid, queue->home_qid, ctrl->hostnqn, nqn, by_peer ? "host" : "target",
		    pst_auth_failure_text(failure));
	}
	pst_auth_end(queue);
}

static void conclude_if_over(struct pst_cmd *cmd)
{
	if (pst_auth_step(cmd->queue->auth) >= PST_AUTH_DONE)
		concluded(cmd);
}

static void take_message(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	if (pst_auth_step(queue->auth) != PST_AUTH_RECEIVE) { /* it has not fetched our last one */
		pst_admin_finish(cmd, BAD_SEQUENCE);
		return;
	}
	pst_auth_receive(queue->auth, cmd->iov.iov_base, cmd->io.data_bytes);
	conclude_if_over(cmd);
	pst_admin_finish(cmd, NVME_SUCCESS);
}

/* The next message of the line, when its time has come. */
void pst_auth_turn(struct pst_timer *timer)
{
	struct pst_target *target = pst_container_of(timer, struct pst_target, auth_timer);
	struct pst_env *env = pst_target_home(target);
	struct pst_list *node = pst_list_pop_front(&target->auth_line);
	uint64_t began_ns = pst_env_now_ns(env), ended_ns;

	if (node == NULL)
		return;
	take_message(pst_container_of(node, struct pst_cmd, aer_node));
	ended_ns = pst_env_now_ns(env);
	target->auth_next_ns = ended_ns + REST_FACTOR * (ended_ns - began_ns);
	if (!pst_list_empty(&target->auth_line))
		pst_timer_arm(env, timer, target->auth_next_ns);
}

static void give_message(struct pst_cmd *cmd)
{
	struct pst_queue *queue = cmd->queue;

	if (pst_auth_step(queue->auth) != PST_AUTH_SEND) { /* there is none yet */
		pst_admin_finish(cmd, BAD_SEQUENCE);
		return;
	}
	if (cmd->io.data_bytes < pst_auth_send_bytes(queue->auth)) {
		pst_admin_finish(cmd, BAD_FIELD);
		return;
	}
	memset(cmd->iov.iov_base, 0, cmd->io.data_bytes);
	pst_auth_send(queue->auth, cmd->iov.iov_base);
	conclude_if_over(cmd);
	pst_admin_finish(cmd, NVME_SUCCESS);
}

void pst_auth_command(struct pst_cmd *cmd)
{
	struct pst_target *target = cmd->queue->shard->target;

	if (cmd->queue->auth == NULL) { /* no need, or done: once is enough */
		pst_admin_finish(cmd, BAD_SEQUENCE);
		return;
	}
	if (nvme_fctype(&cmd->wire->sqe) == NVMF_AUTH_RECEIVE) {
		give_message(cmd);
		return;
	}
	pst_list_push_back(&target->auth_line, &cmd->aer_node);
	if (!pst_timer_armed(&target->auth_timer))
		pst_timer_arm(pst_target_home(target), &target->auth_timer, target->auth_next_ns);
}
