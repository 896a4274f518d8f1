/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in. A PDU is taken in by up to four states: HEADER (with its digest), PAD, DATA, DDGST. Headers, padding and
 * digests are read from the stage; data goes to the buffers of its command: what is already staged is copied, the rest
 * is received in place (pst_conn_want puts the buffers first and the stage behind them).
 *
 * The stage is made longer once a receive has filled it: what a deep queue sends at once is then answered at once. With
 * long data PDUs the next ones, as far as they have come, are received there, too, and copied from a warm cache: that
 * costs less than the system calls that would separate them (docs/performance.md).
 *
 * Parsing happens in pst_conn_next_event only, and stops at each event. Nothing is parsed while a receive is
 * outstanding: then the stage holds less than a header, and no data.
 *
 * A malformed PDU closes the connection with a TermReq, but a TermReq is never answered with one (TCP 1.0, 3.5).
 */
#include "proto/conn-impl.h"

static size_t staged(const struct pst_conn *conn)
{
	return conn->stage_to - conn->stage_from;
}

static void stage_take(struct pst_conn *conn, size_t bytes)
{
	conn->stage_from += bytes;
	if (conn->stage_from == conn->stage_to && conn->stage->users == 0)
		conn->stage_from = conn->stage_to = 0;
}

/* ---- The owner's side ---- */

/* A stage that nobody's data lies in, beside the one at work; NULL: there is none. */
static struct stage *spare_stage(struct pst_conn *conn)
{
	for (unsigned i = 0; i < STAGES; i++)
		if (&conn->stages[i] != conn->stage && conn->stages[i].users == 0 && conn_stage_ready(&conn->stages[i]))
			return &conn->stages[i];
	return NULL;
}

/* The receiving end: a stage without users, the unparsed rest at its front. */
static struct iovec want_stage(struct pst_conn *conn)
{
	if (conn->stage->users > 0) {
		struct stage *spare = spare_stage(conn);

		pst_assert(spare != NULL); /* rx_stays */
		memcpy(spare->memory, conn->stage->memory + conn->stage_from, staged(conn));
		conn->stage = spare;
		conn->stage_to -= conn->stage_from;
		conn->stage_from = 0;
	} else if (conn->stage_from > 0) {
		memmove(conn->stage->memory, conn->stage->memory + conn->stage_from, staged(conn));
		conn->stage_to -= conn->stage_from;
		conn->stage_from = 0;
	}
	return (struct iovec){ conn->stage->memory + conn->stage_to, conn->stage_bytes };
}

void pst_conn_set_input_max(struct pst_conn *conn, size_t bytes)
{
	pst_assert(bytes > 0);
	conn->input_bytes_max = bytes;
}

unsigned pst_conn_want(struct pst_conn *conn, struct iovec *iov, unsigned max)
{
	unsigned count = 0;

	pst_assert(max >= 2);
	conn->want_direct = 0;
	if (conn->state == PST_CONN_STATE_DEAD || conn->rx_parked)
		return 0;
	if (conn->state != PST_CONN_STATE_CLOSING && conn->rx_state == RX_DATA) {
		struct pst_iovcur cur = conn->rx_cur;
		uint32_t left = (uint32_t)PST_MIN((size_t)conn->rx_left, conn->input_bytes_max);

		while (left > 0 && count < max) {
			iov[count] = pst_iovcur_take(&cur, left);
			left -= (uint32_t)iov[count].iov_len;
			conn->want_direct += iov[count++].iov_len;
		}
		if (count == max || conn->want_direct == conn->input_bytes_max)
			return count;
	}
	iov[count] = want_stage(conn);
	iov[count].iov_len = PST_MIN(iov[count].iov_len, conn->input_bytes_max - conn->want_direct);
	return count + 1;
}

/* Accounts for @bytes that have landed in, or were copied to, the owner's buffers. */
static void data_landed(struct pst_conn *conn, uint32_t bytes)
{
	struct slot *slot = conn->rx_slot;

	conn->rx_left -= bytes;
	slot->rx_bytes += bytes;
	if (!conn->data_digest) {
		pst_iovcur_skip(&conn->rx_cur, bytes);
		return;
	}
	while (bytes > 0) {
		struct iovec piece = pst_iovcur_take(&conn->rx_cur, bytes);

		conn->rx_crc = pst_crc32c_more(conn->rx_crc, piece.iov_base, piece.iov_len);
		bytes -= (uint32_t)piece.iov_len;
	}
}

void pst_conn_got(struct pst_conn *conn, size_t bytes)
{
	size_t direct = PST_MIN(bytes, conn->want_direct);

	if (conn->state == PST_CONN_STATE_CLOSING || conn->state == PST_CONN_STATE_DEAD)
		return;
	if (direct > 0)
		data_landed(conn, (uint32_t)direct);
	conn->want_direct = 0;
	conn->stage_to += bytes - direct;
	if (conn->stage_to >= STAGE_BYTES)
		conn->stage_bytes = STAGE_BYTES_MAX;
	pst_assert(conn->stage_to <= STAGE_BYTES_MAX + STAGE_REST_BYTES);
}

/* ---- Headers ---- */

static bool rx_fail(struct pst_conn *conn, uint16_t fes, uint32_t fei, const void *header, size_t header_bytes)
{
	struct pst_pdu_error error = { fes, fei };

	conn_close(conn, false, error);
	conn_tx_term(conn, error, header, header_bytes);
	return false;
}

#define FIELD_FAIL(conn, pdu, field) \
	rx_fail(conn, NVME_TCP_FES_FIELD, offsetof(__typeof__(*(pdu)), field), pdu, sizeof(*(pdu)))

/* Data of @bytes follows for @slot, at @at of its buffers. */
static void rx_expect_data(struct pst_conn *conn, struct slot *slot, struct pst_iovcur cur,
			   const struct nvme_tcp_ch *ch, uint32_t bytes)
{
	uint32_t start = ch->hlen + (ch->flags & NVME_TCP_F_HDGST ? NVME_TCP_DIGEST_BYTES : 0);

	conn->rx_slot = slot;
	conn->rx_cur = cur;
	conn->rx_data_bytes = bytes;
	conn->rx_left = ch->pdo - start;
	conn->rx_crc = 0;
	conn->rx_last = ch->flags & NVME_TCP_F_LAST;
	conn->rx_success = ch->flags & NVME_TCP_F_SUCCESS;
	conn->rx_state = RX_PAD;
}

static bool rx_icreq(struct pst_conn *conn, const struct nvme_tcp_icreq *req)
{
	struct pst_pdu_error error;

	if (!pst_pdu_check_ic(req, &error))
		return rx_fail(conn, error.fes, error.fei, req, sizeof(*req));
	conn->header_digest = conn->config.header_digest && (req->dgst & 1);
	conn->data_digest = conn->config.data_digest && (req->dgst & 2);
	conn->tx_align_bytes = (req->hpda + 1u) * 4;
	conn_tx_icresp(conn);
	conn_established(conn);
	return true;
}

static bool rx_icresp(struct pst_conn *conn, const struct nvme_tcp_icresp *resp)
{
	struct pst_pdu_error error;

	if (!pst_pdu_check_ic(resp, &error))
		return rx_fail(conn, error.fes, error.fei, resp, sizeof(*resp));
	/* A digest that was asked for and not given, or given unasked, is refused rather than silently done without. */
	if ((resp->dgst & 1) != conn->config.header_digest || (resp->dgst >> 1 & 1) != conn->config.data_digest)
		return FIELD_FAIL(conn, resp, dgst);
	conn->header_digest = conn->config.header_digest;
	conn->data_digest = conn->config.data_digest;
	conn->tx_align_bytes = (resp->cpda + 1u) * 4;
	conn->peer_maxh2cdata = nvme_get32(resp->maxh2cdata);
	conn_established(conn);
	return true;
}

/*
 * The data of a write that has arrived as a whole stays in the stage, if another one is free to receive what comes
 * next. True: it does. (The two of a fused pair share a buffer: not these.)
 */
static bool rx_stays(struct pst_conn *conn, struct slot *slot, const struct nvme_tcp_ch *ch, uint32_t bytes)
{
	uint32_t start = ch->hlen + (ch->flags & NVME_TCP_F_HDGST ? NVME_TCP_DIGEST_BYTES : 0);
	size_t pad = ch->pdo - start, all = pad + bytes + (conn->data_digest ? NVME_TCP_DIGEST_BYTES : 0);
	nvme_le32 digest;

	if (!conn->in_place || slot->cmd.sqe.opcode != NVME_CMD_WRITE || (slot->cmd.sqe.flags & 3) != 0 ||
	    staged(conn) < all || spare_stage(conn) == NULL)
		return false;
	slot->stage = conn->stage;
	slot->stage->users++;
	slot->cmd.data = conn->stage->memory + conn->stage_from + pad;
	slot->cmd.data_bytes = bytes;
	if (conn->data_digest) {
		memcpy(&digest, (uint8_t *)slot->cmd.data + bytes, sizeof(digest));
		if (nvme_get32(digest) != pst_crc32c(slot->cmd.data, bytes))
			slot->err = PST_E_CHECKSUM;
	}
	stage_take(conn, all);
	return true;
}

/* A slot and, for data, a buffer are at hand. */
static bool rx_command(struct pst_conn *conn, const struct nvme_tcp_cmd *pdu, uint32_t bytes,
		       struct pst_conn_event *ret_event)
{
	struct slot *slot = conn_slot_get(conn);

	slot->cmd.sqe = pdu->sqe;
	slot->phase = SLOT_FILL;
	conn->sq_head = (conn->sq_head + 1) % conn->sq_entries;
	if (bytes > 0 && !rx_stays(conn, slot, &pdu->ch, bytes)) {
		slot->cmd.data = conn->capsule_free[--conn->capsule_free_count];
		slot->cmd.data_bytes = bytes;
		slot->capsule_iov = (struct iovec){ slot->cmd.data, bytes };
		rx_expect_data(conn, slot, pst_iovcur_of(&slot->capsule_iov, 1, 0), &pdu->ch, bytes);
		return false;
	}
	slot->phase = SLOT_OPEN;
	*ret_event = (struct pst_conn_event){ .kind = PST_CONN_COMMAND, .err = slot->err, .cmd = &slot->cmd };
	return true;
}

/* TCP 1.0, 3.3.2.2 and 3.6.2.8: the data of an R2T comes in order, in range, and says where it ends. */
static bool rx_h2c_data(struct pst_conn *conn, const struct nvme_tcp_data *pdu, uint32_t bytes)
{
	uint16_t ttag = nvme_get16(pdu->ttag);
	uint32_t from = nvme_get32(pdu->datao), end;
	struct slot *slot;

	if (ttag >= conn->slots_used)
		return FIELD_FAIL(conn, pdu, ttag);
	slot = &conn->slots[ttag];
	if (slot->phase == SLOT_FREE || slot->r2t_end == 0) /* never asked for any */
		return FIELD_FAIL(conn, pdu, ttag);
	if (nvme_get16(pdu->cccid) != nvme_get16(slot->cmd.sqe.cid))
		return FIELD_FAIL(conn, pdu, cccid);
	if (slot->phase != SLOT_PULL || slot->rx_bytes == slot->r2t_end || !conn_tx_begun(conn, &slot->tx))
		return rx_fail(conn, NVME_TCP_FES_SEQUENCE, 0, pdu, sizeof(*pdu)); /* not now */
	if (nvme_get32(pdu->datal) != bytes)
		return FIELD_FAIL(conn, pdu, datal);
	if (from < slot->r2t_from || !pst_range_ok(from, bytes, slot->r2t_end))
		return rx_fail(conn, NVME_TCP_FES_RANGE, 0, pdu, sizeof(*pdu));
	if (from != slot->rx_bytes)
		return rx_fail(conn, NVME_TCP_FES_SEQUENCE, 0, pdu, sizeof(*pdu));
	end = from + bytes;
	if ((end == slot->r2t_end) != !!(pdu->ch.flags & NVME_TCP_F_LAST))
		return rx_fail(conn, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_ch, flags), pdu, sizeof(*pdu));
	if (bytes == slot->bytes && rx_stays(conn, slot, &pdu->ch, bytes)) {
		slot->rx_bytes = bytes;
		slot->done = true;
		conn_slot_settle(conn, slot);
		return true;
	}
	rx_expect_data(conn, slot, pst_iovcur_of(slot->iov, slot->iov_count, slot->skip_bytes + from), &pdu->ch, bytes);
	return true;
}

/* The command in flight that @cid names, in the host; NULL if there is none that has been sent. */
static struct slot *rx_slot_by_cid(struct pst_conn *conn, uint16_t cid)
{
	uint32_t index = cid & (conn->slot_count - 1);
	struct slot *slot = &conn->slots[index];

	if (slot->phase != SLOT_WAIT || slot->cid != cid || slot->done)
		return NULL;
	if (slot->capsule && !conn_tx_begun(conn, &slot->tx))
		return NULL;
	return slot;
}

static bool rx_c2h_data(struct pst_conn *conn, const struct nvme_tcp_data *pdu, uint32_t bytes)
{
	struct slot *slot = rx_slot_by_cid(conn, nvme_get16(pdu->cccid));
	uint32_t from = nvme_get32(pdu->datao);

	if (slot == NULL)
		return FIELD_FAIL(conn, pdu, cccid);
	if (slot->dir != PST_CONN_DATA_IN || slot->last_seen) /* TCP 1.0, 3.3.2.1: it has none, or had it all */
		return rx_fail(conn, NVME_TCP_FES_SEQUENCE, 0, pdu, sizeof(*pdu));
	if (nvme_get32(pdu->datal) != bytes)
		return FIELD_FAIL(conn, pdu, datal);
	if (!pst_range_ok(from, bytes, slot->bytes))
		return rx_fail(conn, NVME_TCP_FES_RANGE, 0, pdu, sizeof(*pdu));
	if (from != slot->rx_bytes)
		return rx_fail(conn, NVME_TCP_FES_SEQUENCE, 0, pdu, sizeof(*pdu));
	/* TCP 1.0, 3.3.2.1: SUCCESS only with LAST. */
	if ((pdu->ch.flags & (NVME_TCP_F_LAST | NVME_TCP_F_SUCCESS)) == NVME_TCP_F_SUCCESS)
		return rx_fail(conn, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_ch, flags), pdu, sizeof(*pdu));
	slot->last_seen = pdu->ch.flags & NVME_TCP_F_LAST;
	rx_expect_data(conn, slot, pst_iovcur_of(slot->iov, slot->iov_count, slot->skip_bytes + from), &pdu->ch, bytes);
	return true;
}

/* TCP 1.0, 3.3.2.2 and 3.6.2.10: one R2T at a time, as our MAXR2T says, in ascending order. */
static bool rx_r2t(struct pst_conn *conn, const struct nvme_tcp_r2t *pdu)
{
	struct slot *slot = rx_slot_by_cid(conn, nvme_get16(pdu->cccid));
	uint32_t from = nvme_get32(pdu->r2to), bytes = nvme_get32(pdu->r2tl);

	if (slot == NULL || slot->dir != PST_CONN_DATA_OUT)
		return FIELD_FAIL(conn, pdu, cccid);
	if (slot->r2t_from != slot->r2t_end || slot->r2t_waits || !conn_tx_begun(conn, &slot->tx))
		return rx_fail(conn, NVME_TCP_FES_LIMIT, 0, pdu, sizeof(*pdu));
	if (bytes == 0)
		return FIELD_FAIL(conn, pdu, r2tl);
	if (!pst_range_ok(from, bytes, slot->bytes))
		return rx_fail(conn, NVME_TCP_FES_RANGE, 0, pdu, sizeof(*pdu));
	if (from != slot->r2t_end)
		return rx_fail(conn, NVME_TCP_FES_SEQUENCE, 0, pdu, sizeof(*pdu));
	slot->ttag = nvme_get16(pdu->ttag);
	slot->r2t_end = from + bytes;
	slot->r2t_waits = true;
	conn_slot_settle(conn, slot);
	return true;
}

static bool rx_response(struct pst_conn *conn, const struct nvme_tcp_resp *pdu)
{
	struct slot *slot = rx_slot_by_cid(conn, nvme_get16(pdu->cqe.cid));

	if (slot == NULL)
		return rx_fail(conn, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_resp, cqe.cid), pdu, sizeof(*pdu));
	slot->cqe = pdu->cqe;
	slot->done = true;
	conn_slot_settle(conn, slot);
	return true;
}

static void rx_term(struct pst_conn *conn, const struct nvme_tcp_term *pdu)
{
	conn_close(conn, true, (struct pst_pdu_error){ nvme_get16(pdu->fes), nvme_get32(pdu->fei) });
}

/* ---- Parsing ---- */

/* Does the CapsuleCmd at hand find a slot and a buffer? Else reading stops until an answer has gone out. */
static bool rx_admit(struct pst_conn *conn, const struct nvme_tcp_ch *ch, uint32_t bytes)
{
	if (ch->type != NVME_TCP_CMD)
		return true;
	conn->rx_parked = !conn_slot_free(conn) || (bytes > 0 && conn->capsule_free_count == 0);
	return !conn->rx_parked;
}

/* What a sound header, now in @pdu, asks for. True when it brings an event at once. */
static bool rx_dispatch(struct pst_conn *conn, const void *pdu, uint32_t bytes, struct pst_conn_event *ret_event)
{
	const struct nvme_tcp_ch *ch = pdu;

	switch (ch->type) {
	case NVME_TCP_ICREQ:
		(void)rx_icreq(conn, pdu);
		return false;
	case NVME_TCP_ICRESP:
		(void)rx_icresp(conn, pdu);
		return false;
	case NVME_TCP_CMD:
		return rx_command(conn, pdu, bytes, ret_event);
	case NVME_TCP_RESP:
		(void)rx_response(conn, pdu);
		return false;
	case NVME_TCP_H2C_DATA:
		(void)rx_h2c_data(conn, pdu, bytes);
		return false;
	case NVME_TCP_C2H_DATA:
		(void)rx_c2h_data(conn, pdu, bytes);
		return false;
	case NVME_TCP_R2T:
		(void)rx_r2t(conn, pdu);
		return false;
	default: /* pst_pdu_check let nothing else through */
		rx_term(conn, pdu);
		return false;
	}
}

/* True when there was a whole header (and a slot for it); *ret_told when it brought an event. */
static bool rx_header(struct pst_conn *conn, struct pst_conn_event *ret_event, bool *ret_told)
{
	const uint8_t *at = conn->stage->memory + conn->stage_from;
	const struct nvme_tcp_ch *ch = (const struct nvme_tcp_ch *)at;
	struct pst_pdu_error error = { 0 };
	uint32_t bytes = 0;
	size_t need;
	nvme_le32 digest;

	if (staged(conn) < sizeof(*ch))
		return false;
	if (!pst_pdu_check(ch, &conn->limits, &bytes, &error)) {
		bool term = ch->type == (conn->config.role == PST_CONN_HOST ? NVME_TCP_C2H_TERM : NVME_TCP_H2C_TERM);

		if (term)
			conn_close(conn, true, (struct pst_pdu_error){ 0 });
		else
			(void)rx_fail(conn, error.fes, error.fei, at, PST_MIN(staged(conn), (size_t)ch->hlen));
		return true;
	}
	need = ch->hlen + (ch->flags & NVME_TCP_F_HDGST ? NVME_TCP_DIGEST_BYTES : 0);
	if (staged(conn) < need)
		return false;
	if (ch->flags & NVME_TCP_F_HDGST) {
		memcpy(&digest, at + ch->hlen, sizeof(digest));
		if (nvme_get32(digest) != pst_crc32c(at, ch->hlen)) {
			(void)rx_fail(conn, NVME_TCP_FES_HDGST, nvme_get32(digest), at, ch->hlen);
			return true;
		}
	}
	if (!rx_admit(conn, ch, bytes))
		return false;
	stage_take(conn, need); /* it stays where it is: nothing is received while it is looked at */
	*ret_told = rx_dispatch(conn, at, bytes, ret_event);
	return true;
}

/* All data of a PDU is there and its digest was @good. True with an event. */
static bool rx_data_end(struct pst_conn *conn, bool good, struct pst_conn_event *ret_event)
{
	struct slot *slot = conn->rx_slot;

	conn->rx_state = RX_HEADER;
	conn->rx_slot = NULL;
	if (!good)
		slot->err = PST_E_CHECKSUM;
	if (slot->phase == SLOT_FILL) {
		slot->phase = SLOT_OPEN;
		*ret_event = (struct pst_conn_event){ .kind = PST_CONN_COMMAND, .err = slot->err, .cmd = &slot->cmd };
		return true;
	}
	if (slot->phase == SLOT_PULL) {
		slot->done = slot->rx_bytes == slot->bytes;
	} else {
		slot->cmd.data_bytes = slot->rx_bytes;
		if (conn->rx_success) {
			slot->cqe = (struct nvme_cqe){ .cid = nvme_le16_of(slot->cid) };
			slot->done = true;
		}
	}
	conn_slot_settle(conn, slot);
	return false;
}

unsigned pst_conn_peek(const struct pst_conn *conn, const struct nvme_sqe **sqes, unsigned max)
{
	size_t from = conn->stage_from;
	unsigned count = 0;

	if (conn->state != PST_CONN_STATE_READY || conn->rx_state != RX_HEADER)
		return 0;
	while (count < max && conn->stage_to - from >= sizeof(struct nvme_tcp_cmd)) {
		const struct nvme_tcp_cmd *pdu = (const struct nvme_tcp_cmd *)(conn->stage->memory + from);
		uint32_t plen = nvme_get32(pdu->ch.plen);

		if (pdu->ch.type != NVME_TCP_CMD)
			break;
		sqes[count++] = &pdu->sqe;
		if (plen < sizeof(*pdu) || plen > conn->stage_to - from)
			break;
		from += plen;
	}
	return count;
}

static void rx_data(struct pst_conn *conn)
{
	while (conn->rx_left > 0 && staged(conn) > 0) {
		struct pst_iovcur cur = conn->rx_cur;
		struct iovec piece = pst_iovcur_take(&cur, PST_MIN(staged(conn), (size_t)conn->rx_left));

		memcpy(piece.iov_base, conn->stage->memory + conn->stage_from, piece.iov_len);
		stage_take(conn, piece.iov_len);
		data_landed(conn, (uint32_t)piece.iov_len);
	}
}

bool conn_rx_event(struct pst_conn *conn, struct pst_conn_event *ret_event)
{
	bool told = false;

	while (conn->state == PST_CONN_STATE_IC || conn->state == PST_CONN_STATE_READY) {
		uint32_t pad;
		nvme_le32 digest;

		switch (conn->rx_state) {
		case RX_HEADER:
			if (!rx_header(conn, ret_event, &told))
				return false;
			break;
		case RX_PAD:
			pad = (uint32_t)PST_MIN(staged(conn), (size_t)conn->rx_left);
			stage_take(conn, pad);
			conn->rx_left -= pad;
			if (conn->rx_left > 0)
				return false;
			conn->rx_left = conn->rx_data_bytes;
			conn->rx_state = RX_DATA;
			break;
		case RX_DATA:
			rx_data(conn);
			if (conn->rx_left > 0)
				return false;
			conn->rx_state = RX_DDGST;
			if (!conn->data_digest)
				told = rx_data_end(conn, true, ret_event);
			break;
		case RX_DDGST:
			if (staged(conn) < sizeof(digest))
				return false;
			memcpy(&digest, conn->stage->memory + conn->stage_from, sizeof(digest));
			stage_take(conn, sizeof(digest));
			told = rx_data_end(conn, nvme_get32(digest) == conn->rx_crc, ret_event);
			break;
		}
		/* Events of slots that this PDU completed come first. */
		if (told || !pst_list_empty(&conn->ready) || conn->ready_untold)
			return told;
	}
	return false;
}
