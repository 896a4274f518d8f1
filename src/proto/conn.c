/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a connection and of its commands.
 *
 * Connection: IC -> READY -> CLOSING -> DEAD. CLOSING is entered by a TermReq, ours or the peer's; DEAD by
 * pst_conn_fail, from every state. In CLOSING nothing is parsed and nothing new is sent; PDUs that an output has
 * begun are finished, then our TermReq.
 *
 * Command, target: FREE -> [FILL ->] OPEN -> [PULL -> OPEN ->] ANSWER -> FREE.
 * Command, host: FREE -> WAIT -> FREE.
 *
 * One rule orders events and buffers: nothing is told about a command while its item is in the send queue
 * (conn_slot_settle). So a response that overtakes our own "sent" (the peer is quick, the completion of our send is
 * late) waits for it, and every event means that the buffers are free.
 *
 * Invariants: a slot is in at most one of `free` and `ready`; busy counts the slots that are not FREE; an in-capsule
 * buffer belongs to a slot from its header to its RELEASED.
 */
#include "proto/conn-impl.h"

#include <stdlib.h>

#define COMMANDS_MAX 8192u
#define CAPSULE_ALIGN 4096u

static bool config_ok(const struct pst_conn_config *config)
{
	if (config->commands_max == 0 || config->commands_max > COMMANDS_MAX ||
	    config->align_code > NVME_TCP_ALIGN_CODE_MAX)
		return false;
	return config->role == PST_CONN_HOST ||
	       (config->maxh2cdata >= NVME_TCP_MAXH2CDATA_MIN && config->maxh2cdata % 4 == 0);
}

/* The target takes up to twice the queue: the host may count a command as over before we know that its answer went out.
 * The host's count is a power of two, to find a slot by the low bits of a CID. */
static uint32_t slot_count_of(const struct pst_conn_config *config)
{
	uint32_t count = 1;

	if (config->role == PST_CONN_TARGET)
		return config->commands_max * 2;
	while (count < config->commands_max)
		count *= 2;
	return count;
}

bool conn_stage_ready(struct stage *stage)
{
	if (stage->memory == NULL)
		stage->memory = malloc(STAGE_BYTES_MAX + STAGE_REST_BYTES);
	return stage->memory != NULL;
}

static bool new_pools(struct pst_conn *conn)
{
	const struct pst_conn_config *config = &conn->config;
	size_t each = pst_round_up(config->incapsule_bytes, CAPSULE_ALIGN);
	uint32_t count = config->incapsule_buffers ? config->incapsule_buffers : config->commands_max;

	conn->slots = calloc(conn->slot_count, sizeof(*conn->slots));
	conn->stage = &conn->stages[0];
	if (conn->slots == NULL || !conn_stage_ready(conn->stage))
		return false;
	if (config->role == PST_CONN_HOST || each == 0)
		return true;
	conn->capsule_memory = aligned_alloc(CAPSULE_ALIGN, each * count);
	conn->capsule_free = calloc(count, sizeof(*conn->capsule_free));
	if (conn->capsule_memory == NULL || conn->capsule_free == NULL)
		return false;
	for (uint32_t i = 0; i < count; i++)
		conn->capsule_free[i] = conn->capsule_memory + each * (count - 1 - i);
	conn->capsule_free_count = count;
	return true;
}

pst_err pst_conn_new(const struct pst_conn_config *config, struct pst_conn **ret_conn)
{
	struct pst_conn *conn;

	if (!config_ok(config))
		return PST_E_INVAL;
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL)
		return PST_E_NOMEM;
	conn->config = *config;
	conn->slot_count = slot_count_of(config);
	pst_list_init(&conn->free);
	pst_list_init(&conn->ready);
	pst_list_init(&conn->tx);
	pst_list_init(&conn->ic.node);
	pst_list_init(&conn->term.node);
	if (!new_pools(conn)) {
		pst_conn_free(conn);
		return PST_E_NOMEM;
	}
	conn->sq_entries = 65536;
	conn->flow_control = true;
	conn->tx_align_bytes = 4;
	conn->incapsule_bytes = config->incapsule_bytes;
	conn->output_bytes_max = conn->input_bytes_max = SIZE_MAX;
	conn->stage_bytes = STAGE_BYTES;
	conn->limits = (struct pst_pdu_limits){
		.sender = config->role == PST_CONN_HOST ? PST_PDU_FROM_CONTROLLER : PST_PDU_FROM_HOST,
		.align_bytes = (config->align_code + 1u) * 4,
		.incapsule_max = config->incapsule_bytes,
		.maxh2cdata = config->maxh2cdata,
	};
	if (config->role == PST_CONN_HOST)
		conn_tx_icreq(conn);
	*ret_conn = conn;
	return PST_OK;
}

void pst_conn_free(struct pst_conn *conn)
{
	if (conn == NULL)
		return;
	pst_assert(conn->busy == 0);
	free(conn->capsule_free);
	free(conn->capsule_memory);
	for (unsigned i = 0; i < STAGES; i++)
		free(conn->stages[i].memory);
	free(conn->slots);
	free(conn);
}

/* ---- Slots ---- */

bool conn_slot_free(const struct pst_conn *conn)
{
	return !pst_list_empty(&conn->free) || conn->slots_used < conn->slot_count;
}

static struct slot *slot_first_use(struct pst_conn *conn)
{
	struct slot *slot = &conn->slots[conn->slots_used];

	slot->index = slot->cid = (uint16_t)conn->slots_used++;
	pst_list_init(&slot->tx.node);
	pst_list_init(&slot->node);
	return slot;
}

/* There must be one. */
struct slot *conn_slot_get(struct pst_conn *conn)
{
	struct pst_list *node = pst_list_pop_front(&conn->free);
	struct slot *slot = node != NULL ? pst_container_of(node, struct slot, node) : slot_first_use(conn);

	slot->cmd.owner = slot->cmd.data = NULL;
	slot->stage = NULL;
	slot->cmd.data_bytes = 0;
	slot->done = slot->last_seen = slot->r2t_waits = false;
	slot->err = PST_OK;
	slot->bytes = slot->rx_bytes = slot->r2t_from = slot->r2t_end = 0;
	conn->busy++;
	return slot;
}

static void slot_put(struct pst_conn *conn, struct slot *slot)
{
	if (slot->stage != NULL)
		slot->stage->users--;
	else if (conn->config.role == PST_CONN_TARGET && slot->cmd.data != NULL)
		conn->capsule_free[conn->capsule_free_count++] = slot->cmd.data;
	/* A new generation in the bits above the index: a late PDU for the old command does not match the next. */
	if (conn->config.role == PST_CONN_HOST)
		slot->cid = (uint16_t)(slot->cid + conn->slot_count);
	slot->phase = SLOT_FREE;
	pst_list_push_front(&conn->free, &slot->node);
	conn->busy--;
	conn->rx_parked = false;
}

static bool conn_open(const struct pst_conn *conn)
{
	return conn->state == PST_CONN_STATE_IC || conn->state == PST_CONN_STATE_READY;
}

static void slot_ready(struct pst_conn *conn, struct slot *slot)
{
	if (pst_list_empty(&slot->node))
		pst_list_push_back(&conn->ready, &slot->node);
}

/* Something about @slot has changed: go on, or tell, unless its item is still in the send queue. */
void conn_slot_settle(struct pst_conn *conn, struct slot *slot)
{
	if (slot->tx.queued)
		return;
	switch (slot->phase) {
	case SLOT_PULL:
		if (slot->done || !conn_open(conn))
			slot_ready(conn, slot);
		else if (slot->rx_bytes == slot->r2t_end)
			conn_tx_r2t(conn, slot);
		break;
	case SLOT_ANSWER:
		slot_ready(conn, slot);
		break;
	case SLOT_WAIT:
		if (slot->done || !conn_open(conn))
			slot_ready(conn, slot);
		else if (slot->r2t_waits)
			conn_tx_h2c_data(conn, slot);
		break;
	default:
		break;
	}
}

/* Everything that can't go on any more comes back to the owner. */
static void slots_sweep(struct pst_conn *conn)
{
	for (uint32_t i = 0; i < conn->slots_used && conn->busy > 0; i++) {
		struct slot *slot = &conn->slots[i];

		/* Its data never came in whole: the owner has not heard of it. */
		if (slot->phase == SLOT_FILL)
			slot_put(conn, slot);
		else
			conn_slot_settle(conn, slot);
	}
}

void conn_established(struct pst_conn *conn)
{
	conn->state = PST_CONN_STATE_READY;
	conn->limits.connected = true;
	conn->limits.header_digest = conn->header_digest;
	conn->limits.data_digest = conn->data_digest;
	conn->ready_untold = true;
}

void conn_close(struct pst_conn *conn, bool by_peer, struct pst_pdu_error error)
{
	conn->state = PST_CONN_STATE_CLOSING;
	conn->error = error;
	conn->terminated_by_peer = by_peer;
	conn->closing_untold = true;
	conn->rx_parked = false;
	conn->stage_from = conn->stage_to = 0;
	conn_tx_drop(conn, false);
	slots_sweep(conn);
}

void pst_conn_fail(struct pst_conn *conn)
{
	if (conn->state == PST_CONN_STATE_DEAD)
		return;
	conn->state = PST_CONN_STATE_DEAD;
	conn->ready_untold = false;
	conn_tx_drop(conn, true);
	slots_sweep(conn);
}

/* ---- Events ---- */

static void slot_event(struct pst_conn *conn, struct slot *slot, struct pst_conn_event *ret_event)
{
	*ret_event = (struct pst_conn_event){ .cmd = &slot->cmd, .err = slot->err };
	switch (slot->phase) {
	case SLOT_PULL:
		ret_event->kind = PST_CONN_DATA;
		if (!slot->done)
			ret_event->err = PST_E_CLOSED;
		slot->phase = SLOT_OPEN;
		break;
	case SLOT_ANSWER:
		ret_event->kind = PST_CONN_RELEASED;
		ret_event->err = PST_OK;
		slot_put(conn, slot);
		break;
	default:
		pst_assert(slot->phase == SLOT_WAIT);
		ret_event->kind = PST_CONN_RESPONSE;
		ret_event->cqe = slot->cqe;
		if (!slot->done)
			ret_event->err = PST_E_CLOSED;
		slot_put(conn, slot);
		break;
	}
}

static bool conn_event(struct pst_conn *conn, struct pst_conn_event *ret_event)
{
	if (conn->ready_untold) {
		conn->ready_untold = false;
		*ret_event = (struct pst_conn_event){ .kind = PST_CONN_READY };
		return true;
	}
	if (conn->closing_untold) {
		conn->closing_untold = false;
		*ret_event = (struct pst_conn_event){
			.kind = conn->terminated_by_peer ? PST_CONN_TERMINATED : PST_CONN_FAILED,
			.err = PST_E_PROTO,
			.error = conn->error,
		};
		return true;
	}
	return false;
}

bool pst_conn_next_event(struct pst_conn *conn, struct pst_conn_event *ret_event)
{
	struct pst_list *node;

	if (conn->ready_untold || conn->closing_untold)
		return conn_event(conn, ret_event);
	node = pst_list_pop_front(&conn->ready);
	if (node == NULL && conn_rx_event(conn, ret_event))
		return true;
	if (node == NULL)
		node = pst_list_pop_front(&conn->ready);
	if (node != NULL) {
		slot_event(conn, pst_container_of(node, struct slot, node), ret_event);
		return true;
	}
	return conn_event(conn, ret_event);
}

/* ---- Orders ---- */

void pst_conn_set_queue(struct pst_conn *conn, uint32_t sq_entries, bool flow_control)
{
	pst_assert(sq_entries >= 2 && sq_entries <= 65536);
	conn->sq_entries = sq_entries;
	conn->sq_head %= sq_entries;
	conn->flow_control = flow_control;
}

static void slot_buffers(struct slot *slot, const struct iovec *iov, uint32_t iov_count, uint64_t skip_bytes,
			 uint32_t bytes)
{
	slot->iov = iov;
	slot->iov_count = iov_count;
	slot->skip_bytes = skip_bytes;
	slot->bytes = bytes;
}

void pst_conn_pull(struct pst_conn *conn, struct pst_conn_cmd *cmd, const struct iovec *iov, uint32_t iov_count,
		   uint32_t bytes)
{
	struct slot *slot = slot_of(cmd);

	pst_assert(slot->phase == SLOT_OPEN && bytes > 0 && slot->rx_bytes == 0);
	slot_buffers(slot, iov, iov_count, 0, bytes);
	slot->phase = SLOT_PULL;
	conn_slot_settle(conn, slot);
}

void pst_conn_answer(struct pst_conn *conn, struct pst_conn_cmd *cmd, const struct pst_conn_result *result,
		     const struct iovec *iov, uint32_t iov_count, uint32_t bytes)
{
	struct slot *slot = slot_of(cmd);

	pst_assert(slot->phase == SLOT_OPEN);
	slot_buffers(slot, iov, iov_count, 0, bytes);
	slot->phase = SLOT_ANSWER;
	if (conn_open(conn))
		conn_tx_answer(conn, slot, result);
	else
		slot_ready(conn, slot);
}

struct pst_conn_cmd *pst_conn_submit(struct pst_conn *conn, const struct nvme_sqe *sqe,
				     const struct pst_conn_xfer *xfer, void *owner)
{
	struct slot *slot;

	if (conn->state != PST_CONN_STATE_READY || conn->busy == conn->config.commands_max)
		return NULL;
	slot = conn_slot_get(conn);
	slot->cmd.sqe = *sqe;
	slot->cmd.owner = owner;
	slot->phase = SLOT_WAIT;
	slot->dir = xfer->bytes > 0 ? xfer->dir : PST_CONN_NO_DATA;
	slot_buffers(slot, xfer->iov, xfer->iov_count, xfer->skip_bytes,
		     slot->dir == PST_CONN_NO_DATA ? 0 : xfer->bytes);
	conn_tx_command(conn, slot);
	return &slot->cmd;
}

void pst_conn_set_incapsule(struct pst_conn *conn, uint32_t bytes)
{
	conn->incapsule_bytes = PST_MIN(bytes, conn->config.incapsule_bytes);
}

void pst_conn_set_in_place(struct pst_conn *conn)
{
	conn->in_place = conn->config.role == PST_CONN_TARGET;
}

/* ---- State ---- */

enum pst_conn_state pst_conn_state(const struct pst_conn *conn)
{
	return conn->state;
}

uint64_t pst_conn_deadline_ns(const struct pst_conn *conn)
{
	return conn->state == PST_CONN_STATE_IC ? conn->config.ic_deadline_ns : 0;
}

bool pst_conn_finished(const struct pst_conn *conn)
{
	return conn->state == PST_CONN_STATE_DEAD ||
	       (conn->state == PST_CONN_STATE_CLOSING && pst_list_empty(&conn->tx));
}

uint32_t pst_conn_busy(const struct pst_conn *conn)
{
	return conn->busy;
}
