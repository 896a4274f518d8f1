/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the connection engine of a host, against whatever a target may send. */
#include "conn-script.h"

static struct script script;

static void script_event(struct script *s, const struct pst_conn_event *ev)
{
	if (ev->kind != PST_CONN_RESPONSE)
		return;
	pst_assert(ev->cmd->owner == s && s->held_count > 0);
	pst_assert(ev->cmd->data_bytes <= SCRIPT_BUFFER);
	s->held_count--;
}

/* An order: submit a command. */
static void order(struct script *s)
{
	uint32_t kind = script_take(s, 1), bytes = script_take(s, 2);
	struct nvme_sqe sqe = { .opcode = (uint8_t)kind };
	struct pst_conn_xfer xfer = {
		.dir = (enum pst_conn_dir)(kind % 3),
		.bytes = bytes % (SCRIPT_BUFFER - 8),
		.iov = s->iov,
		.iov_count = 3,
		.skip_bytes = kind & 7,
	};

	if (pst_conn_submit(s->conn, &sqe, &xfer, s) != NULL)
		s->held_count++;
}

static void put_pdu(struct script *s)
{
	uint8_t type = (uint8_t)(script_take(s, 1) % NVME_TCP_PDU_TYPES), header[NVME_TCP_HEADER_MAX] = { 0 };
	uint32_t which = script_take(s, 1), bytes = script_take(s, 2) % 16384;
	uint16_t cid = s->cids[which % 16];
	struct nvme_tcp_icresp *ic = (struct nvme_tcp_icresp *)header;
	struct nvme_tcp_resp *resp = (struct nvme_tcp_resp *)header;
	struct nvme_tcp_data *data = (struct nvme_tcp_data *)header;
	struct nvme_tcp_r2t *r2t = (struct nvme_tcp_r2t *)header;

	switch (type) {
	case NVME_TCP_ICRESP:
		ic->dgst = (uint8_t)(s->header_digest | s->data_digest << 1);
		ic->maxh2cdata = nvme_le32_of(4096);
		script_pdu(s, type, 0, header, 0);
		break;
	case NVME_TCP_RESP:
		resp->cqe.cid = nvme_le16_of(cid);
		s->c2h_sent = 0;
		script_pdu(s, type, 0, header, 0);
		break;
	case NVME_TCP_C2H_DATA:
		data->cccid = nvme_le16_of(cid);
		data->datao = nvme_le32_of(s->c2h_sent);
		data->datal = nvme_le32_of(bytes + 1);
		s->c2h_sent = which & 0x80 ? 0 : s->c2h_sent + bytes + 1;
		script_pdu(s, type, which & 0x80 ? NVME_TCP_F_LAST | NVME_TCP_F_SUCCESS : 0, header, bytes + 1);
		break;
	case NVME_TCP_R2T:
		r2t->cccid = nvme_le16_of(cid);
		r2t->r2to = nvme_le32_of(s->r2t_sent);
		r2t->r2tl = nvme_le32_of(bytes + 1);
		s->r2t_sent = which & 0x80 ? 0 : s->r2t_sent + bytes + 1;
		script_pdu(s, type, 0, header, 0);
		break;
	default:
		if (pst_pdu_kinds[type].name != NULL)
			script_pdu(s, type, 0, header, 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len_bytes)
{
	struct script *s = &script;

	if (!script_begin(s, PST_CONN_HOST, input, len_bytes))
		return 0;
	while (s->in.left > 0) {
		uint8_t op = (uint8_t)script_take(s, 1);
		const uint8_t *raw;

		switch (op % 5) {
		case 0:
			raw = pst_bytes_take(&s->in, PST_MIN((size_t)op, s->in.left));
			script_put(s, raw, (size_t)(s->in.at - raw));
			break;
		case 1:
		case 2:
			put_pdu(s);
			break;
		case 3:
			order(s);
			break;
		default:
			s->chunk = 1 + script_take(s, 1) * (op & 0x80 ? 64 : 1);
			break;
		}
		script_run(s);
	}
	pst_conn_fail(s->conn);
	script_run(s);
	pst_assert(s->held_count == 0 && pst_conn_busy(s->conn) == 0);
	pst_conn_free(s->conn);
	return 0;
}
