/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the connection engine of a target, against whatever a host may send. */
#include "conn-script.h"

static struct script script;

static unsigned held_find(struct script *s, const struct pst_conn_cmd *cmd)
{
	unsigned i = 0;

	while (i < s->held_count && s->held[i] != cmd)
		i++;
	pst_assert(i < s->held_count);
	return i;
}

static void script_event(struct script *s, const struct pst_conn_event *ev)
{
	switch (ev->kind) {
	case PST_CONN_COMMAND:
		pst_assert(s->held_count < PST_ARRAY_COUNT(s->held));
		pst_assert(ev->cmd->data_bytes == 0 || ev->cmd->data != NULL);
		s->pulled[s->held_count] = ev->cmd->data_bytes > 0;
		s->held[s->held_count++] = ev->cmd;
		ev->cmd->owner = NULL;
		break;
	case PST_CONN_DATA:
		pst_assert(ev->cmd->owner == s); /* was pulled */
		ev->cmd->owner = NULL;
		break;
	default:
		break;
	}
}

static void answer(struct script *s, unsigned i, uint32_t bytes, uint16_t status)
{
	struct pst_conn_result result = { .status = status };

	pst_conn_answer(s->conn, s->held[i], &result, s->iov, 3, bytes);
	s->held_count--;
	s->held[i] = s->held[s->held_count];
	s->pulled[i] = s->pulled[s->held_count];
}

/* An order: pull the data of a command, or answer it. */
static void order(struct script *s)
{
	uint32_t which = script_take(s, 1), bytes = script_take(s, 2);
	unsigned i;

	if (s->held_count == 0)
		return;
	i = held_find(s, s->held[which % s->held_count]);
	if (s->held[i]->owner != NULL)
		return; /* its data is awaited */
	if (which & 0x80 && !s->pulled[i]) {
		s->pulled[i] = true;
		s->held[i]->owner = s;
		pst_conn_pull(s->conn, s->held[i], s->iov, 3, 1 + bytes % (SCRIPT_BUFFER - 1));
	} else {
		answer(s, i, bytes % SCRIPT_BUFFER, which & 0x40 ? NVME_INTERNAL_ERROR : 0);
	}
}

static void put_pdu(struct script *s)
{
	uint8_t type = (uint8_t)(script_take(s, 1) % NVME_TCP_PDU_TYPES), header[NVME_TCP_HEADER_MAX] = { 0 };
	uint32_t bytes = script_take(s, 2) % 8192;
	struct nvme_tcp_icreq *ic = (struct nvme_tcp_icreq *)header;
	struct nvme_tcp_cmd *cmd = (struct nvme_tcp_cmd *)header;
	struct nvme_tcp_data *data = (struct nvme_tcp_data *)header;
	uint32_t left = nvme_get32(s->r2t.r2tl) - s->r2t_sent;

	switch (type) {
	case NVME_TCP_ICREQ:
		ic->dgst = (uint8_t)(s->header_digest | s->data_digest << 1);
		script_pdu(s, type, 0, header, 0);
		break;
	case NVME_TCP_CMD:
		cmd->sqe.cid = nvme_le16_of((uint16_t)bytes);
		cmd->sqe.opcode = (uint8_t)bytes;
		script_pdu(s, type, 0, header, bytes & 0x1000 ? bytes & 0xfff : 0);
		break;
	case NVME_TCP_H2C_DATA:
		bytes = left == 0 ? 1 : PST_MIN(left, 1 + bytes);
		data->cccid = s->r2t.cccid;
		data->ttag = s->r2t.ttag;
		data->datao = nvme_le32_of(nvme_get32(s->r2t.r2to) + s->r2t_sent);
		data->datal = nvme_le32_of(bytes);
		s->r2t_sent += PST_MIN(left, bytes);
		script_pdu(s, type, bytes == left ? NVME_TCP_F_LAST : 0, header, bytes);
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

	if (!script_begin(s, PST_CONN_TARGET, input, len_bytes))
		return 0;
	pst_conn_set_queue(s->conn, 16, len_bytes & 1);
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
	while (s->held_count > 0) {
		pst_assert(s->held[0]->owner == NULL);
		answer(s, 0, 0, 0);
	}
	script_run(s);
	pst_assert(pst_conn_busy(s->conn) == 0);
	pst_conn_free(s->conn);
	return 0;
}
