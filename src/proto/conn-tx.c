/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes out. The send queue is a list of items, each a head (PDU header, digest, padding), data in the owner's
 * buffers, and a tail (data digest, response capsule). pst_conn_output describes the front of the queue without moving
 * anything; pst_conn_sent moves it. So nothing is copied, and an output stays valid whatever is queued meanwhile.
 *
 * Invariants: an item is queued at most once, and its slot gets no event before it has left the queue. Every H2CData
 * and R2T of a command goes through the one item of its slot, so there is at most one of them queued per command.
 */
#include "proto/conn-impl.h"

void conn_tx_queue(struct pst_conn *conn, struct tx_item *item)
{
	pst_assert(!item->queued);
	item->queued = true;
	pst_list_push_back(&conn->tx, &item->node);
}

static size_t item_bytes(const struct tx_item *item)
{
	return (size_t)item->head_bytes + item->data_bytes + item->tail_bytes;
}

/* Has a byte of @item been sent or handed out for sending? Walks the queue: for rare questions. */
bool conn_tx_begun(const struct pst_conn *conn, const struct tx_item *item)
{
	size_t start = 0;

	if (!item->queued)
		return true;
	PST_LIST_EACH(node, &conn->tx) {
		const struct tx_item *it = pst_container_of(node, struct tx_item, node);

		if (it == item)
			break;
		start += item_bytes(it);
	}
	return start < conn->tx_offset + conn->tx_inflight;
}

static void item_done(struct pst_conn *conn, struct tx_item *item)
{
	pst_list_remove(&item->node);
	item->queued = false;
	if (item == &conn->ic || item == &conn->term)
		return;
	conn_slot_settle(conn, pst_container_of(item, struct slot, tx));
}

/* Forget what has not been handed out for sending; with @begun_too everything. */
void conn_tx_drop(struct pst_conn *conn, bool begun_too)
{
	struct pst_list keep, drop;
	size_t start = 0, begun = conn->tx_offset + conn->tx_inflight;

	pst_list_init(&keep);
	pst_list_init(&drop);
	PST_LIST_EACH(node, &conn->tx) {
		struct tx_item *item = pst_container_of(node, struct tx_item, node);
		bool stays = !begun_too && start < begun;

		start += item_bytes(item);
		pst_list_remove(node);
		pst_list_push_back(stays ? &keep : &drop, node);
	}
	pst_list_splice(&conn->tx, &keep);
	if (begun_too)
		conn->tx_offset = conn->tx_inflight = 0;
	PST_LIST_EACH(node, &drop)
		item_done(conn, pst_container_of(node, struct tx_item, node));
}

/* ---- PDUs ---- */

/*
 * Finishes the header of @hlen bytes that stands in @item->head: common header, header digest, padding to the data.
 * Returns what PLEN comes to.
 */
static void item_head(const struct pst_conn *conn, struct tx_item *item, uint8_t type, uint8_t flags,
		      uint32_t data_bytes)
{
	const struct pst_pdu_kind *kind = &pst_pdu_kinds[type];
	struct nvme_tcp_ch *ch = (struct nvme_tcp_ch *)item->head;
	bool hd = kind->digests && conn->header_digest, dd = data_bytes > 0 && conn->data_digest;
	uint32_t end = kind->hlen + (hd ? NVME_TCP_DIGEST_BYTES : 0), pdo = 0;

	if (data_bytes > 0)
		pdo = (uint32_t)pst_round_up(end, conn->tx_align_bytes);
	*ch = (struct nvme_tcp_ch){
		.type = type,
		.flags = (uint8_t)(flags | (hd ? NVME_TCP_F_HDGST : 0) | (dd ? NVME_TCP_F_DDGST : 0)),
		.hlen = kind->hlen,
		.pdo = (uint8_t)pdo,
		.plen = nvme_le32_of((data_bytes > 0 ? pdo : end) + data_bytes + (dd ? NVME_TCP_DIGEST_BYTES : 0)),
	};
	if (hd) {
		nvme_le32 crc = nvme_le32_of(pst_crc32c(item->head, kind->hlen));

		memcpy(item->head + kind->hlen, &crc, sizeof(crc));
	}
	if (pdo > end)
		memset(item->head + end, 0, pdo - end);
	item->head_bytes = (uint16_t)PST_MAX(pdo, end);
	item->data_bytes = data_bytes;
	item->tail_bytes = 0;
}

/* Points the item at its data and puts the data digest, if there is one, into the tail. */
static void item_data(const struct pst_conn *conn, struct tx_item *item, const struct iovec *iov, uint32_t iov_count,
		      uint64_t skip_bytes)
{
	struct pst_iovcur cur = pst_iovcur_of(iov, iov_count, skip_bytes);
	uint32_t crc = 0, left = item->data_bytes;
	nvme_le32 wire;

	/* The cursor has skipped what lies before; going on from there keeps later walks short. */
	item->iov = cur.iov;
	item->iov_count = cur.count;
	item->skip_bytes = cur.offset;
	if (!conn->data_digest)
		return;
	while (left > 0) {
		struct iovec piece = pst_iovcur_take(&cur, left);

		crc = pst_crc32c_more(crc, piece.iov_base, piece.iov_len);
		left -= (uint32_t)piece.iov_len;
	}
	wire = nvme_le32_of(crc);
	memcpy(item->tail, &wire, sizeof(wire));
	item->tail_bytes = sizeof(wire);
}

void conn_tx_icreq(struct pst_conn *conn)
{
	struct nvme_tcp_icreq *req = (struct nvme_tcp_icreq *)conn->ic.head;

	/* MAXR2T 0 (one R2T outstanding per command): with MAXH2CDATA as large as transfers, one is all there is. */
	*req = (struct nvme_tcp_icreq){
		.hpda = conn->config.align_code,
		.dgst = (uint8_t)((conn->config.header_digest ? 1 : 0) | (conn->config.data_digest ? 2 : 0)),
	};
	item_head(conn, &conn->ic, NVME_TCP_ICREQ, 0, 0);
	conn_tx_queue(conn, &conn->ic);
}

/* With the digests and alignment as agreed. */
void conn_tx_icresp(struct pst_conn *conn)
{
	struct nvme_tcp_icresp *resp = (struct nvme_tcp_icresp *)conn->ic.head;

	*resp = (struct nvme_tcp_icresp){
		.cpda = conn->config.align_code,
		.dgst = (uint8_t)((conn->header_digest ? 1 : 0) | (conn->data_digest ? 2 : 0)),
		.maxh2cdata = nvme_le32_of(conn->config.maxh2cdata),
	};
	item_head(conn, &conn->ic, NVME_TCP_ICRESP, 0, 0);
	conn_tx_queue(conn, &conn->ic);
}

/* The TermReq carries the header that it is about (TCP 1.0, 3.6.2.4 and 3.6.2.5). */
void conn_tx_term(struct pst_conn *conn, struct pst_pdu_error error, const void *header, size_t header_bytes)
{
	struct nvme_tcp_term *term = (struct nvme_tcp_term *)conn->term.head;
	size_t copied = PST_MIN(header_bytes, (size_t)NVME_TCP_TERM_MAX - sizeof(*term));

	*term = (struct nvme_tcp_term){ .fes = nvme_le16_of(error.fes), .fei = nvme_le32_of(error.fei) };
	item_head(conn, &conn->term, conn->config.role == PST_CONN_HOST ? NVME_TCP_H2C_TERM : NVME_TCP_C2H_TERM, 0, 0);
	memcpy(conn->term.head + sizeof(*term), header, copied);
	conn->term.head_bytes = (uint16_t)(sizeof(*term) + copied);
	term->ch.plen = nvme_le32_of(conn->term.head_bytes);
	conn_tx_queue(conn, &conn->term);
}

/* Ask for the next part of a pull: what has not arrived, at most MAXH2CDATA of it. */
void conn_tx_r2t(struct pst_conn *conn, struct slot *slot)
{
	struct nvme_tcp_r2t *r2t = (struct nvme_tcp_r2t *)slot->tx.head;

	slot->r2t_from = slot->rx_bytes;
	slot->r2t_end = slot->rx_bytes + PST_MIN(slot->bytes - slot->rx_bytes, conn->config.maxh2cdata);
	*r2t = (struct nvme_tcp_r2t){
		.cccid = slot->cmd.sqe.cid,
		.ttag = nvme_le16_of(slot->index),
		.r2to = nvme_le32_of(slot->r2t_from),
		.r2tl = nvme_le32_of(slot->r2t_end - slot->r2t_from),
	};
	item_head(conn, &slot->tx, NVME_TCP_R2T, 0, 0);
	conn_tx_queue(conn, &slot->tx);
}

/* Answer the next part of an R2T: at most MAXH2CDATA, LAST with the end of it. */
void conn_tx_h2c_data(struct pst_conn *conn, struct slot *slot)
{
	struct nvme_tcp_data *data = (struct nvme_tcp_data *)slot->tx.head;
	uint32_t from = slot->r2t_from, bytes = PST_MIN(slot->r2t_end - from, conn->peer_maxh2cdata);

	*data = (struct nvme_tcp_data){
		.cccid = nvme_le16_of(slot->cid),
		.ttag = nvme_le16_of(slot->ttag),
		.datao = nvme_le32_of(from),
		.datal = nvme_le32_of(bytes),
	};
	slot->capsule = false;
	slot->r2t_from += bytes;
	slot->r2t_waits = slot->r2t_from != slot->r2t_end;
	item_head(conn, &slot->tx, NVME_TCP_H2C_DATA, slot->r2t_from == slot->r2t_end ? NVME_TCP_F_LAST : 0, bytes);
	item_data(conn, &slot->tx, slot->iov, slot->iov_count, slot->skip_bytes + from);
	conn_tx_queue(conn, &slot->tx);
}

static struct nvme_cqe answer_cqe(const struct pst_conn *conn, const struct slot *slot,
				  const struct pst_conn_result *result)
{
	const struct nvme_sqe *sqe = &slot->cmd.sqe;
	bool connect = sqe->opcode == NVME_FABRICS && nvme_fctype(sqe) == NVMF_CONNECT;
	/* Base 2.0, 3.3.2.5: that SQ flow control is disabled says FFFFh, in Connect's response; later it is 0. */
	uint16_t disabled = connect ? 0xffff : 0;

	return (struct nvme_cqe){
		.dw0 = nvme_le32_of(result->dw0),
		.dw1 = nvme_le32_of(result->dw1),
		.sqhd = nvme_le16_of(conn->flow_control ? (uint16_t)conn->sq_head : disabled),
		.cid = slot->cmd.sqe.cid,
		.status = nvme_le16_of((uint16_t)(result->status << 1)),
	};
}

void conn_tx_answer(struct pst_conn *conn, struct slot *slot, const struct pst_conn_result *result)
{
	struct tx_item *item = &slot->tx;
	bool success =
	    slot->bytes > 0 && !conn->flow_control && result->status == 0 && result->dw0 == 0 && result->dw1 == 0;
	struct nvme_tcp_resp *resp;

	if (slot->bytes == 0) {
		resp = (struct nvme_tcp_resp *)item->head;
		resp->cqe = answer_cqe(conn, slot, result);
		item_head(conn, item, NVME_TCP_RESP, 0, 0);
		conn_tx_queue(conn, item);
		return;
	}
	if (!success) {
		/* Compose the response where heads are made, then move it behind the data. */
		struct tx_item after;

		resp = (struct nvme_tcp_resp *)after.head;
		resp->cqe = answer_cqe(conn, slot, result);
		item_head(conn, &after, NVME_TCP_RESP, 0, 0);
		memcpy(item->tail + (conn->data_digest ? NVME_TCP_DIGEST_BYTES : 0), after.head, after.head_bytes);
	}
	*(struct nvme_tcp_data *)item->head = (struct nvme_tcp_data){
		.cccid = slot->cmd.sqe.cid,
		.datal = nvme_le32_of(slot->bytes),
	};
	item_head(conn, item, NVME_TCP_C2H_DATA, NVME_TCP_F_LAST | (success ? NVME_TCP_F_SUCCESS : 0), slot->bytes);
	item_data(conn, item, slot->iov, slot->iov_count, slot->skip_bytes);
	if (!success)
		item->tail_bytes =
		    (uint16_t)(item->tail_bytes + sizeof(*resp) + (conn->header_digest ? NVME_TCP_DIGEST_BYTES : 0));
	conn_tx_queue(conn, item);
}

/* The command capsule; data out that is short enough goes with it. */
void conn_tx_command(struct pst_conn *conn, struct slot *slot)
{
	struct nvme_tcp_cmd *capsule = (struct nvme_tcp_cmd *)slot->tx.head;
	struct nvme_sqe *sqe = &slot->cmd.sqe;
	bool inside = slot->dir == PST_CONN_DATA_OUT && slot->bytes <= conn->incapsule_bytes;

	sqe->cid = nvme_le16_of(slot->cid);
	sqe->flags = (uint8_t)((sqe->flags & 3) | 1 << 6); /* PSDT 01b: SGL (Base 2.0, 3.3.3.1) */
	sqe->sgl = (struct nvme_sgl){
		.length = nvme_le32_of(slot->bytes),
		.type = inside ? NVME_SGL_IN_CAPSULE : NVME_SGL_TRANSPORT,
	};
	capsule->sqe = *sqe;
	slot->capsule = true;
	item_head(conn, &slot->tx, NVME_TCP_CMD, 0, inside ? slot->bytes : 0);
	if (inside) {
		item_data(conn, &slot->tx, slot->iov, slot->iov_count, slot->skip_bytes);
		slot->r2t_from = slot->r2t_end = slot->bytes; /* no R2T may ask for it */
	}
	conn_tx_queue(conn, &slot->tx);
}

/* ---- Gathering ---- */

struct gather {
	struct iovec *iov;
	unsigned count, max;
	size_t skip;             /* bytes still to be passed over: already sent */
	size_t bytes, bytes_max; /* gathered */
};

/* False when there is no room for more. */
static bool gather_piece(struct gather *g, void *base, size_t bytes)
{
	size_t taken;

	if (g->skip >= bytes) {
		g->skip -= bytes;
		return true;
	}
	if (g->count == g->max || g->bytes == g->bytes_max)
		return false;
	taken = PST_MIN(bytes - g->skip, g->bytes_max - g->bytes);
	g->iov[g->count++] = (struct iovec){ (uint8_t *)base + g->skip, taken };
	g->bytes += taken;
	if (taken < bytes - g->skip)
		return false;
	g->skip = 0;
	return true;
}

static bool gather_item(struct gather *g, struct tx_item *item)
{
	struct pst_iovcur cur = { item->iov, item->iov_count, item->skip_bytes };
	uint32_t left = item->data_bytes;

	if (!gather_piece(g, item->head, item->head_bytes))
		return false;
	while (left > 0) {
		struct iovec piece = pst_iovcur_take(&cur, left);

		if (!gather_piece(g, piece.iov_base, piece.iov_len))
			return false;
		left -= (uint32_t)piece.iov_len;
	}
	return gather_piece(g, item->tail, item->tail_bytes);
}

void pst_conn_set_output_max(struct pst_conn *conn, size_t bytes)
{
	pst_assert(bytes > 0);
	conn->output_bytes_max = bytes;
}

unsigned pst_conn_output(struct pst_conn *conn, struct iovec *iov, unsigned max)
{
	struct gather g = { .iov = iov, .max = max, .skip = conn->tx_offset, .bytes_max = conn->output_bytes_max };

	pst_assert(conn->tx_inflight == 0 && max > 0);
	if (conn->state == PST_CONN_STATE_DEAD)
		return 0;
	PST_LIST_EACH(node, &conn->tx) {
		if (!gather_item(&g, pst_container_of(node, struct tx_item, node)))
			break;
	}
	conn->tx_inflight = g.bytes;
	return g.count;
}

void pst_conn_sent(struct pst_conn *conn, size_t bytes)
{
	if (conn->state == PST_CONN_STATE_DEAD)
		return;
	pst_assert(bytes <= conn->tx_inflight);
	conn->tx_inflight = 0;
	conn->tx_offset += bytes;
	while (!pst_list_empty(&conn->tx)) {
		struct tx_item *item = pst_container_of(conn->tx.next, struct tx_item, node);

		if (conn->tx_offset < item_bytes(item))
			break;
		conn->tx_offset -= item_bytes(item);
		item_done(conn, item);
	}
}
