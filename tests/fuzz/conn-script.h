/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives one connection engine by a script: what fuzz-conn-target.c and fuzz-conn-host.c have in common (fuzz-conn.c
 * feeds raw bytes, which seldom get past a digest or a length; here PDUs are made to fit). The first
 * bytes choose digests, alignment and sizes; then each step is raw bytes, a PDU that makes sense at this moment with at
 * most one byte of its header changed, another size of the pieces in which bytes arrive, or an order of the owner.
 *
 * Checked: nothing crashes; all bytes sent are well-formed PDUs; after the end of the stream every command comes back
 * and the engine can be freed.
 */
#ifndef PST_FUZZ_CONN_SCRIPT_H
#define PST_FUZZ_CONN_SCRIPT_H

#include "base/crc32c.h"
#include "proto/conn.h"
#include "proto/cursor.h"

#include <stdlib.h>
#include <string.h>

#define SCRIPT_COMMANDS 8u
#define SCRIPT_BUFFER 32768u
#define SCRIPT_STREAM 262144u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

struct script {
	struct pst_bytes in;
	struct pst_conn *conn;
	struct pst_conn_config config;
	bool header_digest, data_digest;
	uint32_t align, chunk;
	uint8_t stream[SCRIPT_STREAM]; /* to be received */
	size_t from, to;
	uint8_t out[SCRIPT_STREAM]; /* sent, not yet looked at */
	size_t out_bytes;

	struct pst_conn_cmd *held[SCRIPT_COMMANDS * 4];
	unsigned held_count;
	bool pulled[SCRIPT_COMMANDS * 4];
	uint16_t cids[16]; /* host: of capsules sent */
	unsigned cid_count;
	struct nvme_tcp_r2t r2t; /* target: the last one sent */
	uint32_t r2t_sent;       /* how much of it has been answered */
	uint32_t c2h_sent;       /* host: data sent for the first command */
	uint8_t buffer[SCRIPT_BUFFER];
	struct iovec iov[3];
};

static inline uint32_t script_take(struct script *s, unsigned bytes)
{
	const uint8_t *p = pst_bytes_take(&s->in, bytes);
	uint32_t value = 0;

	for (unsigned i = 0; p != NULL && i < bytes; i++)
		value |= (uint32_t)p[i] << 8 * i;
	return value;
}

static inline void script_put(struct script *s, const void *bytes, size_t len)
{
	if (len > sizeof(s->stream) - s->to)
		return;
	memcpy(s->stream + s->to, bytes, len);
	s->to += len;
}

/* Puts a PDU whose header of kind->hlen bytes stands in @header, all but the common one; one byte of it may be wrong.
 */
static inline void script_pdu(struct script *s, uint8_t type, uint8_t flags, uint8_t *header, uint32_t data_bytes)
{
	static const uint8_t zeros[SCRIPT_BUFFER];
	const struct pst_pdu_kind *kind = &pst_pdu_kinds[type];
	bool hd = kind->digests && s->header_digest, dd = data_bytes > 0 && s->data_digest;
	uint32_t end = kind->hlen + (hd ? 4u : 0), pdo = data_bytes ? (uint32_t)pst_round_up(end, s->align) : 0;
	struct nvme_tcp_ch ch = {
		.type = type,
		.flags = (uint8_t)(flags | (hd ? NVME_TCP_F_HDGST : 0) | (dd ? NVME_TCP_F_DDGST : 0)),
		.hlen = kind->hlen,
		.pdo = (uint8_t)pdo,
		.plen = nvme_le32_of((data_bytes ? pdo : end) + data_bytes + (dd ? 4 : 0)),
	};
	uint8_t at = (uint8_t)script_take(s, 1), change = (uint8_t)script_take(s, 1);
	nvme_le32 crc;

	memcpy(header, &ch, sizeof(ch));
	if (at < kind->hlen)
		header[at] ^= change;
	script_put(s, header, kind->hlen);
	crc = nvme_le32_of(pst_crc32c(header, kind->hlen) ^ (at == 200 ? change : 0));
	if (hd)
		script_put(s, &crc, sizeof(crc));
	if (data_bytes == 0)
		return;
	script_put(s, zeros, pdo - end);
	script_put(s, zeros, data_bytes);
	crc = nvme_le32_of(pst_crc32c(zeros, data_bytes) ^ (at == 201 ? change : 0));
	if (dd)
		script_put(s, &crc, sizeof(crc));
}

/* Looks at what the engine has sent: whole PDUs, each sound to its receiver; remembers what PDUs can refer to. */
static inline void script_look(struct script *s)
{
	struct pst_pdu_limits limits = {
		.sender = s->config.role == PST_CONN_HOST ? PST_PDU_FROM_HOST : PST_PDU_FROM_CONTROLLER,
		.align_bytes = 4,
		.incapsule_max = UINT32_MAX,
		.maxh2cdata = UINT32_MAX,
		.header_digest = s->header_digest,
		.data_digest = s->data_digest,
	};
	size_t at = 0;

	while (s->out_bytes - at >= sizeof(struct nvme_tcp_ch)) {
		const struct nvme_tcp_ch *ch = (const struct nvme_tcp_ch *)(s->out + at);
		struct pst_pdu_error error;
		uint32_t bytes;

		limits.connected = ch->type != NVME_TCP_ICREQ && ch->type != NVME_TCP_ICRESP;
		pst_assert(pst_pdu_check(ch, &limits, &bytes, &error));
		if (s->out_bytes - at < nvme_get32(ch->plen))
			break;
		if (ch->type == NVME_TCP_R2T) {
			memcpy(&s->r2t, ch, sizeof(s->r2t));
			s->r2t_sent = 0;
		}
		if (ch->type == NVME_TCP_CMD)
			s->cids[s->cid_count++ % 16] = nvme_get16(((const struct nvme_tcp_cmd *)ch)->sqe.cid);
		at += nvme_get32(ch->plen);
	}
	memmove(s->out, s->out + at, s->out_bytes - at);
	s->out_bytes -= at;
}

static inline void script_output(struct script *s)
{
	struct iovec iov[8];
	unsigned count;

	while ((count = pst_conn_output(s->conn, iov, 8)) > 0) {
		size_t sent = 0;

		for (unsigned i = 0; i < count; i++) {
			pst_assert(iov[i].iov_len <= sizeof(s->out) - s->out_bytes);
			memcpy(s->out + s->out_bytes, iov[i].iov_base, iov[i].iov_len);
			s->out_bytes += iov[i].iov_len;
			sent += iov[i].iov_len;
		}
		pst_conn_sent(s->conn, sent);
		script_look(s);
	}
}

/* The owner's reaction to an event; each fuzzer has its own. */
static void script_event(struct script *s, const struct pst_conn_event *ev);

static inline void script_run(struct script *s)
{
	for (;;) {
		struct pst_conn_event ev;
		struct iovec iov[4];
		size_t got = 0;
		unsigned count;

		while (pst_conn_next_event(s->conn, &ev))
			script_event(s, &ev);
		script_output(s);
		while (pst_conn_next_event(s->conn, &ev))
			script_event(s, &ev);
		count = pst_conn_want(s->conn, iov, 4);
		for (unsigned i = 0; i < count; i++) {
			size_t n = PST_MIN(PST_MIN(iov[i].iov_len, s->chunk - got), s->to - s->from);

			memcpy(iov[i].iov_base, s->stream + s->from, n);
			s->from += n;
			got += n;
		}
		if (got == 0)
			break;
		pst_conn_got(s->conn, got);
	}
	if (s->from == s->to)
		s->from = s->to = 0;
}

static inline bool script_begin(struct script *s, enum pst_conn_role role, const uint8_t *data, size_t len_bytes)
{
	uint32_t options;

	memset(s, 0, offsetof(struct script, stream));
	s->in = (struct pst_bytes){ data, len_bytes };
	options = script_take(s, 2);
	s->header_digest = options & 1;
	s->data_digest = options & 2;
	s->align = options & 4 ? 128 : 4;
	s->chunk = options & 8 ? 1 + (options >> 8) : 65536;
	s->config = (struct pst_conn_config){
		.role = role,
		.commands_max = SCRIPT_COMMANDS,
		.incapsule_bytes = 4096,
		.incapsule_buffers = 3,
		.maxh2cdata = 4096,
		.header_digest = s->header_digest,
		.data_digest = s->data_digest,
		.align_code = options & 4 ? 31 : 0,
	};
	s->from = s->to = s->out_bytes = 0;
	s->held_count = s->cid_count = 0;
	s->r2t_sent = s->c2h_sent = 0;
	memset(&s->r2t, 0, sizeof(s->r2t));
	s->iov[0] = (struct iovec){ s->buffer, 100 };
	s->iov[1] = (struct iovec){ s->buffer + 100, 0 };
	s->iov[2] = (struct iovec){ s->buffer + 100, SCRIPT_BUFFER - 100 };
	return pst_conn_new(&s->config, &s->conn) == PST_OK;
}

#endif
