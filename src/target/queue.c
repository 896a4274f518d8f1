/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection carries one queue. It moves bytes between its stream and its protocol engine:
 *
 *   OPEN -> LIVE          Connect was answered with success
 *   OPEN, LIVE -> TERMINATING   malformed input; the termination request goes out, then the peer is to close, soon
 *   any -> CLOSING        the peer has gone, time is up, or the home shard said so
 *
 * CLOSING ends when the stream is closed, every command has come back from where it was, and the home shard has let go
 * of the queue (it answered "lost"). Then "gone" is posted to the home shard, which frees it. The socket isn't read
 * while the in-capsule budget is spent, except while data of R2Ts is due: that data may stand behind capsules.
 */
#include "target/internal.h"

#include <stdlib.h>
#include <string.h>

static void pump(struct pst_queue *queue);

static void socket_stats(struct pst_queue *queue)
{
	struct pst_stream_stats stats;

	pst_stream_stats(queue->stream, &stats);
	atomic_store_explicit(&queue->socket_received, stats.bytes_received, memory_order_relaxed);
	atomic_store_explicit(&queue->socket_sent, stats.bytes_sent, memory_order_relaxed);
	atomic_store_explicit(&queue->retransmits, stats.retransmits, memory_order_relaxed);
}

void pst_queue_refresh_sockets(struct pst_queue *queue)
{
	if (queue->state != PST_QUEUE_CLOSING)
		socket_stats(queue);
}

uint64_t pst_queue_now_ns(const struct pst_queue *queue)
{
	/* The last look of ours may be younger than the shard's turn: time never goes back. */
	return queue->pumping ? queue->turn_ns : PST_MAX(queue->turn_ns, pst_env_turn_ns(queue->shard->env));
}

/* ---- Closing ---- */

static void gone_here(struct pst_post *post)
{
	struct pst_queue *queue = pst_container_of(post, struct pst_queue, gone_post);

	for (unsigned state = 0; state < PST_CMD_STATES; state++)
		pst_assert(queue->state_count[state] == 0);
	pst_assert(queue->buffer_bytes_held == 0 && queue->incapsule_waiting_bytes == 0);
	if (queue->shard->received_last == queue) /* another may get its memory, and be taken for it */
		queue->shard->received_last = NULL;
	pst_list_remove(&queue->shard_node);
	pst_list_remove(&queue->dirty_node);
	pst_list_remove(&queue->hungry_node);
	pst_list_remove(&queue->half_open_node);
	pst_conn_free(queue->conn);
	pst_tls_free(queue->tls);
	post->fn = pst_queue_gone;
	pst_env_post(pst_target_home(queue->shard->target), post);
}

void pst_queue_check_closed(struct pst_queue *queue)
{
	if (queue->state != PST_QUEUE_CLOSING || !queue->stream_closed || !queue->lost_answered || queue->gone_posted ||
	    queue->lookup != NULL)
		return;
	for (unsigned state = 0; state < PST_CMD_STATES; state++)
		if (queue->state_count[state] != 0)
			return;
	pst_assert(pst_conn_busy(queue->conn) == 0);
	queue->gone_posted = true;
	queue->gone_post.fn = gone_here; /* on a turn of its own: callers may still look at the queue */
	pst_env_post(queue->shard->env, &queue->gone_post);
}

static void abandon_all(struct pst_queue *queue)
{
	for (uint32_t i = 0; i < queue->cmds_used; i++)
		pst_cmd_abandon(&queue->cmds[i]);
}

static void stream_closed(struct pst_close_op *op)
{
	struct pst_queue *queue = pst_container_of(op, struct pst_queue, close_op);

	queue->stream_closed = true;
	queue->stream = NULL;
	pst_conn_fail(queue->conn);
	pump(queue);
}

static void lost_answered(struct pst_post *post)
{
	struct pst_queue *queue = pst_container_of(post, struct pst_queue, lost_post);

	queue->lost_answered = true;
	pst_queue_check_closed(queue);
}

static void lost_at_home(struct pst_post *post)
{
	struct pst_queue *queue = pst_container_of(post, struct pst_queue, lost_post);

	pst_queue_lost(queue);
	post->fn = lost_answered;
	pst_env_post(queue->shard->env, post);
}

void pst_queue_shut(struct pst_queue *queue)
{
	queue->close_op.done = stream_closed;
	pst_stream_close(queue->stream, &queue->close_op);
}

void pst_queue_close(struct pst_queue *queue, const char *why)
{
	char peer[72];

	if (queue->state == PST_QUEUE_CLOSING)
		return;
	pst_env_log(queue->shard->env, PST_LOG_INFO, "connection_closed peer=%s qid=%u nqn=%s reason=\"%s\"",
		    pst_addr_format(&queue->peer, peer), queue->qid,
		    queue->state == PST_QUEUE_OPEN ? "-"
		    : queue->subsystem != NULL     ? queue->subsystem->nqn
						   : NVMF_DISCOVERY_NQN,
		    why);
	socket_stats(queue);
	queue->state = PST_QUEUE_CLOSING;
	if (!pst_secure_part(queue))
		pst_queue_shut(queue);
	queue->lost_post.fn = lost_at_home;
	pst_env_post(pst_target_home(queue->shard->target), &queue->lost_post);
	abandon_all(queue);
}

void pst_queue_terminate(struct pst_queue *queue)
{
	queue->state = PST_QUEUE_TERMINATING;
	queue->state_since_ns = pst_env_now_ns(queue->shard->env);
	abandon_all(queue);
}

static void terminate(struct pst_queue *queue, const struct pst_pdu_error *error)
{
	char peer[72];

	pst_env_log(
	    queue->shard->env, PST_LOG_WARN, "protocol_error peer=%s qid=%u fes=%u fei=%u what=\"%s\" next=terminate",
	    pst_addr_format(&queue->peer, peer), queue->qid, error->fes, error->fei, pst_pdu_fes_text(error->fes));
	pst_queue_terminate(queue);
}

/* ---- Bytes ---- */

static void on_command(struct pst_queue *queue, const struct pst_conn_event *event)
{
	struct pst_list *node = pst_list_pop_front(&queue->cmds_free);
	struct pst_cmd *cmd;

	if (node != NULL) {
		cmd = pst_container_of(node, struct pst_cmd, node);
	} else {
		pst_assert(queue->cmds_used < queue->cmd_count); /* as many as the engine has */
		cmd = &queue->cmds[queue->cmds_used++];
		pst_cmd_prepare(queue, cmd);
	}
	pst_cmd_start(queue, cmd, event->cmd, event->err);
}

static void on_event(struct pst_queue *queue, const struct pst_conn_event *event)
{
	switch (event->kind) {
	case PST_CONN_READY:
		break;
	case PST_CONN_COMMAND:
		on_command(queue, event);
		break;
	case PST_CONN_DATA:
		pst_cmd_data_arrived(event->cmd->owner, event->err);
		break;
	case PST_CONN_RELEASED:
		pst_cmd_released(event->cmd->owner);
		break;
	case PST_CONN_FAILED:
		if (queue->state != PST_QUEUE_CLOSING)
			terminate(queue, &event->error);
		break;
	case PST_CONN_TERMINATED:
		pst_queue_close(queue, "terminated by the host");
		break;
	case PST_CONN_RESPONSE: /* hosts only */
		pst_assert(false);
		break;
	}
}

static void sent(struct pst_stream_op *op)
{
	struct pst_queue *queue = pst_container_of(op, struct pst_queue, send);

	queue->sending = false;
	if (queue->state == PST_QUEUE_CLOSING) {
		pst_secure_parting_sent(queue);
		return;
	}
	if (op->err != PST_OK) {
		pst_queue_close(queue, pst_err_text(op->err));
		return;
	}
	if (queue->tls != NULL)
		pst_tls_sent(queue->tls, queue->conn, op->done_bytes);
	else
		pst_conn_sent(queue->conn, op->done_bytes);
	pump(queue);
}

static void received(struct pst_stream_op *op)
{
	struct pst_queue *queue = pst_container_of(op, struct pst_queue, recv);

	queue->receiving = false;
	if (queue->shard->received_last != queue) {
		queue->shard->received_last = queue;
		queue->shard->shared_until_ns = pst_env_now_ns(queue->shard->env) + PST_SHARED_NS;
	}
	if (queue->state == PST_QUEUE_CLOSING)
		return;
	if (op->err != PST_OK || op->done_bytes == 0) {
		pst_queue_close(queue, op->err != PST_OK ? pst_err_text(op->err) : pst_secure_ending(queue));
		return;
	}
	if (queue->tls != NULL)
		pst_tls_got(queue->tls, op->done_bytes);
	else
		pst_conn_got(queue->conn, op->done_bytes);
	pump(queue);
	queue->input_ns = queue->turn_ns;
}

/* Others on the shard are busy. */
static bool is_shared(const struct pst_queue *queue)
{
	return queue->turn_ns < queue->shard->shared_until_ns;
}

static void send_start(struct pst_queue *queue)
{
	uint32_t count;

	if (queue->sending)
		return;
	pst_conn_set_output_max(queue->conn, is_shared(queue) ? PST_TURN_BYTES_SHARED : PST_SEND_BYTES_MAX);
	count = queue->tls != NULL ? pst_tls_output(queue->tls, queue->conn, queue->send_iov, PST_SEND_IOV_MAX)
				   : pst_conn_output(queue->conn, queue->send_iov, PST_SEND_IOV_MAX);
	if (count == 0)
		return;
	queue->sending = true;
	queue->send_began_ns = queue->turn_ns;
	queue->send.iov = queue->send_iov;
	queue->send.iov_count = count;
	queue->send.done = sent;
	pst_stream_send(queue->stream, &queue->send);
}

static bool budget_spent(const struct pst_queue *queue)
{
	return queue->incapsule_waiting_bytes >= PST_INCAPSULE_BUDGET_BYTES && queue->state_count[PST_CMD_DATA] == 0;
}

static void recv_start(struct pst_queue *queue)
{
	uint32_t count;

	if (queue->receiving)
		return;
	if (queue->tls != NULL) /* what it holds is bounded by its own buffer */
		count = pst_tls_want(queue->tls, queue->recv_iov, PST_ARRAY_COUNT(queue->recv_iov));
	else if (budget_spent(queue))
		count = 0;
	else {
		pst_conn_set_input_max(queue->conn, is_shared(queue) ? PST_TURN_BYTES_SHARED : SIZE_MAX);
		count = pst_conn_want(queue->conn, queue->recv_iov, PST_ARRAY_COUNT(queue->recv_iov));
	}
	if (count == 0)
		return;
	queue->receiving = true;
	queue->recv.iov = queue->recv_iov;
	queue->recv.iov_count = count;
	queue->recv.done = received;
	pst_stream_recv(queue->stream, &queue->recv);
}

/* What has come through TLS, if that is between. False: nothing more now. */
static bool feed(struct pst_queue *queue)
{
	return queue->tls != NULL && queue->state != PST_QUEUE_CLOSING && !budget_spent(queue) &&
	       pst_secure_feed(queue);
}

/* All events; before the first command of a batch, its volume hears of them. */
static void run_events(struct pst_queue *queue)
{
	struct pst_conn_event event;
	unsigned expected = pst_expect(queue);

	while (pst_conn_next_event(queue->conn, &event)) {
		on_event(queue, &event);
		if (event.kind == PST_CONN_COMMAND && expected > 0)
			expected--;
		if (expected == 0)
			expected = pst_expect(queue);
	}
}

static void pump(struct pst_queue *queue)
{
	queue->turn_ns = pst_env_now_ns(queue->shard->env);
	queue->pumping = true;
	do {
		run_events(queue);
	} while (feed(queue));
	if (queue->state == PST_QUEUE_CLOSING) {
		pst_queue_check_closed(queue);
	} else {
		send_start(queue);
		recv_start(queue);
	}
	queue->pumping = false;
}

/* ---- Turns ---- */

void pst_queue_dirty(struct pst_queue *queue)
{
	struct pst_shard *shard = queue->shard;

	if (queue->pumping || !pst_list_empty(&queue->dirty_node))
		return;
	pst_list_push_back(&shard->dirty, &queue->dirty_node);
	if (shard->dirty_posted)
		return;
	shard->dirty_posted = true;
	pst_env_post(shard->env, &shard->dirty_post);
}

void pst_shard_run_dirty(struct pst_post *post)
{
	struct pst_shard *shard = pst_container_of(post, struct pst_shard, dirty_post);
	struct pst_list now, *node;

	shard->dirty_posted = false;
	pst_list_init(&now);
	pst_list_splice(&now, &shard->dirty);
	while ((node = pst_list_pop_front(&now)) != NULL) {
		pump(pst_container_of(node, struct pst_queue, dirty_node));
	}
}

/* Is the data of a write late? Its buffer is kept from others meanwhile. */
static bool data_late(const struct pst_queue *queue, uint64_t now_ns)
{
	uint64_t allowed_ns = pst_ms_ns(queue->shard->target->config.data_timeout_ms);
	uint32_t left = queue->state_count[PST_CMD_DATA];

	for (uint32_t i = 0; i < queue->cmds_used && left > 0; i++) {
		if (queue->cmds[i].state != PST_CMD_DATA)
			continue;
		if (now_ns - queue->cmds[i].pulled_ns > allowed_ns)
			return true;
		left--;
	}
	return false;
}

void pst_queue_resume(struct pst_queue *queue)
{
	if (queue->state == PST_QUEUE_CLOSING)
		pst_queue_check_closed(queue);
	else
		pump(queue);
}

static void queue_tick(struct pst_queue *queue, uint64_t now_ns)
{
	const struct pst_target_config *config = &queue->shard->target->config;
	const char *late;

	if (queue->state == PST_QUEUE_CLOSING)
		return;
	socket_stats(queue);
	late = queue->tls != NULL && queue->state == PST_QUEUE_OPEN ? pst_secure_late(queue, now_ns) : NULL;
	if (late != NULL)
		pst_queue_close(queue, late);
	else if (queue->state == PST_QUEUE_OPEN &&
		 now_ns - queue->state_since_ns > pst_ms_ns(config->connect_timeout_ms))
		pst_queue_close(queue, "no Connect within connect_timeout_ms");
	else if (queue->auth_failed && now_ns - queue->state_since_ns > PST_TERMINATE_TIMEOUT_NS)
		pst_queue_close(queue, "authentication failed");
	else if (queue->state == PST_QUEUE_LIVE && !queue->authenticated &&
		 now_ns - queue->state_since_ns > pst_ms_ns(config->auth_timeout_ms))
		pst_queue_close(queue, "not authenticated within auth_timeout_ms");
	else if (queue->state == PST_QUEUE_TERMINATING && now_ns - queue->state_since_ns > PST_TERMINATE_TIMEOUT_NS)
		pst_queue_close(queue, "not closed by the host after a termination request");
	else if (queue->state_count[PST_CMD_DATA] > 0 && now_ns - queue->input_ns > pst_ms_ns(config->stall_timeout_ms))
		pst_queue_close(queue, "the host does not send the data of its writes");
	else if (data_late(queue, now_ns))
		pst_queue_close(queue, "the data of a write is not complete within data_timeout_ms");
	else if (queue->sending && now_ns - queue->send_began_ns > pst_ms_ns(config->stall_timeout_ms))
		pst_queue_close(queue, "the host does not take what it asked for");
}

void pst_shard_tick(struct pst_timer *timer)
{
	struct pst_shard *shard = pst_container_of(timer, struct pst_shard, tick);
	uint64_t now_ns = pst_env_now_ns(shard->env);

	PST_LIST_EACH(node, &shard->queues)
		queue_tick(pst_container_of(node, struct pst_queue, shard_node), now_ns);
	if (!pst_list_empty(&shard->queues) && !shard->stopping)
		pst_timer_arm(shard->env, timer, now_ns + PST_TICK_NS);
}

/* ---- Accepting ---- */

static pst_err queue_new(struct pst_shard *shard, struct pst_queue **ret_queue)
{
	const struct pst_target_config *config = &shard->target->config;
	struct pst_conn_config conn = {
		.role = PST_CONN_TARGET,
		.commands_max = config->queue_entries_max,
		.incapsule_bytes = PST_MAX(PST_ADMIN_INCAPSULE_BYTES, config->incapsule_bytes),
		.maxh2cdata = config->transfer_bytes_max,
		.header_digest = true,
		.data_digest = true,
		.ic_deadline_ns = pst_env_now_ns(shard->env) + pst_ms_ns(config->connect_timeout_ms),
	};
	struct pst_queue *queue = calloc(1, sizeof(*queue));
	pst_err err = PST_E_NOMEM;

	if (queue == NULL)
		return err;
	queue->shard = shard;
	queue->cmd_count = 2 * config->queue_entries_max; /* as the engine: answered ones hold their place until sent */
	queue->cmds = calloc(queue->cmd_count, sizeof(*queue->cmds));
	if (queue->cmds != NULL)
		err = pst_conn_new(&conn, &queue->conn);
	if (err != PST_OK) {
		free(queue->cmds);
		free(queue);
		return err;
	}
	pst_qos_source_init(&queue->source);
	pst_list_init(&queue->dirty_node);
	pst_list_init(&queue->hungry);
	pst_list_init(&queue->hungry_node);
	pst_list_init(&queue->half_open_node);
	pst_list_init(&queue->cmds_free);
	pst_list_init(&queue->ctrl_node);
	pst_list_init(&queue->subsystem_node);
	*ret_queue = queue;
	return PST_OK;
}

struct refused {
	struct pst_close_op op;
};

static void refused_closed(struct pst_close_op *op)
{
	free(pst_container_of(op, struct refused, op));
}

static void refuse(struct pst_shard *shard, struct pst_stream *stream, const struct pst_addr *peer, const char *why)
{
	struct refused *refused = calloc(1, sizeof(*refused));

	pst_accept_log(shard, peer, why);
	if (refused == NULL) /* nothing to remember the closing with: the peer finds nobody talking, and leaves */
		return;
	refused->op.done = refused_closed;
	pst_stream_close(stream, &refused->op);
}

void pst_queue_accept(void *ctx, struct pst_stream *stream)
{
	struct pst_target_listener *listener = ctx;
	struct pst_shard *shard = listener->shard;
	struct pst_target *target = shard->target;
	struct pst_addr local, peer;
	struct pst_queue *queue;
	const char *why;
	pst_err err;

	pst_stream_addrs(stream, &local, &peer);
	why = pst_accept_refusal(shard, &peer);
	if (why != NULL) {
		refuse(shard, stream, &peer, why);
		return;
	}
	err = queue_new(shard, &queue);
	if (err != PST_OK) {
		refuse(shard, stream, &peer, "memory");
		return;
	}
	queue->port = listener->port;
	if (target->ports[queue->port].tls != PST_TARGET_TLS_OFF && (err = pst_secure_begin(queue)) != PST_OK) {
		pst_conn_free(queue->conn);
		free(queue->cmds);
		free(queue);
		refuse(shard, stream, &peer, "memory");
		return;
	}
	atomic_fetch_add(&target->queue_count, 1);
	queue->stream = stream;
	queue->buffer_bytes_cap = PST_MAX(target->config.transfer_bytes_max, target->config.buffer_bytes_max / 4);
	queue->state_since_ns = queue->input_ns = pst_env_now_ns(shard->env);
	queue->local = local;
	queue->peer = peer;
	pst_list_push_back(&shard->queues, &queue->shard_node);
	pst_list_push_back(&shard->half_open, &queue->half_open_node);
	if (!pst_timer_armed(&shard->tick))
		pst_timer_arm(shard->env, &shard->tick, queue->state_since_ns + PST_TICK_NS);
	pump(queue);
}
