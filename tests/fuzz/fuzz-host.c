/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole host (src/host) under a lying target, in the simulator. The target answers everything that a host asks as a
 * sound one would; the script says where it lies: a changed byte or a wrong digest, another command id, a PDU twice,
 * never or half, a made-up R2T or C2HData, foreign bytes, the end of the connection, an error, a page of Identify with
 * one field changed. So lies come at every step of a session's life, and when the script is over all is well again.
 *
 * Whatever comes: opening ends in bounded time, each request completes exactly once, closing ends, what the host sends
 * is sound, and the heap is as it was (the driver's look).
 *
 * A script: a byte of options, a byte for each of 8 requests, then what each PDU of the target consumes.
 */
#include "base/crc32c.h"
#include "base/le.h"
#include "env/sim/sim.h"
#include "host/host.h"
#include "proto/tcp_pdu.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define SECOND 1000000000ull
#define PEERS 6u
#define REQUESTS 8u
#define ROOM 131072u
#define CHUNK 8192u
#define SCRIPT_MAX 1024u
#define STUCK_S 62u /* a host waits so long for an answer that never comes, and then tries again */

struct play;

/* One connection, seen from the target. */
struct peer {
	struct play *play;
	struct pst_stream *stream; /* NULL: free */
	struct pst_stream_op recv, send;
	struct iovec recv_iov, send_iov;
	struct pst_close_op close_op;
	bool closing, header_digest, data_digest;
	uint8_t in[ROOM], out[2][ROOM]; /* out: being sent, being filled */
	size_t in_bytes, out_bytes;
	unsigned filling;
	uint16_t write_cid; /* of the write that waits for data */
	uint32_t write_got, write_bytes;
};

struct play {
	const uint8_t *at, *end;
	struct pst_sim *sim;
	struct pst_env *target_env, *host_env;
	struct peer peers[PEERS];
	struct pst_session_open_op open;
	struct pst_session_close_op close;
	bool opened, closed;
	struct pst_request requests[REQUESTS];
	struct iovec iovs[REQUESTS];
	unsigned done[REQUESTS], done_count, lies;
	uint8_t memory[REQUESTS][65536];
};

static uint8_t next(struct play *p)
{
	if (p->at == p->end)
		return 0;
	p->lies += *p->at != 0;
	return *p->at++;
}

/* ---- Bytes ---- */

static void peer_closed(struct pst_close_op *op)
{
	struct peer *peer = pst_container_of(op, struct peer, close_op);

	peer->stream = NULL;
}

static void peer_close(struct peer *peer)
{
	if (peer->closing || peer->stream == NULL)
		return;
	peer->closing = true;
	peer->close_op.done = peer_closed;
	pst_stream_close(peer->stream, &peer->close_op);
}

static void peer_flush(struct peer *peer);

static void peer_sent(struct pst_stream_op *op)
{
	struct peer *peer = pst_container_of(op, struct peer, send);

	peer->send.done = NULL;
	if (peer->closing)
		return;
	if (op->err != PST_OK) {
		peer_close(peer);
		return;
	}
	if (op->done_bytes < peer->send_iov.iov_len) {
		peer->send_iov.iov_base = (uint8_t *)peer->send_iov.iov_base + op->done_bytes;
		peer->send_iov.iov_len -= op->done_bytes;
		peer->send.done = peer_sent;
		pst_stream_send(peer->stream, &peer->send);
		return;
	}
	peer_flush(peer);
}

static void peer_flush(struct peer *peer)
{
	if (peer->closing || peer->send.done != NULL || peer->out_bytes == 0)
		return;
	peer->send_iov = (struct iovec){ peer->out[peer->filling], peer->out_bytes };
	peer->filling ^= 1;
	peer->out_bytes = 0;
	peer->send = (struct pst_stream_op){ .iov = &peer->send_iov, .iov_count = 1, .done = peer_sent };
	pst_stream_send(peer->stream, &peer->send);
}

static void peer_put(struct peer *peer, const void *bytes, size_t len)
{
	if (len > ROOM - peer->out_bytes) /* the host does not read: no more is said */
		return;
	memcpy(peer->out[peer->filling] + peer->out_bytes, bytes, len);
	peer->out_bytes += len;
}

/* ---- PDUs, sound and others ---- */

static void put_pdu(struct peer *peer, uint8_t *header, uint8_t hlen, const void *data, uint32_t data_bytes)
{
	static uint8_t pdu[32768];
	struct play *p = peer->play;
	struct nvme_tcp_ch *ch = (struct nvme_tcp_ch *)header;
	bool hd = hlen < 128 && peer->header_digest, dd = data_bytes > 0 && peer->data_digest;
	uint32_t at = hlen + (hd ? 4u : 0), len = at + data_bytes + (dd ? 4 : 0);
	uint8_t lie = next(p), a = lie > 7 ? next(p) : 0, b = lie > 7 ? next(p) : 0;

	ch->hlen = hlen;
	ch->pdo = data_bytes > 0 ? (uint8_t)at : 0;
	ch->flags |= (uint8_t)((hd ? NVME_TCP_F_HDGST : 0) | (dd ? NVME_TCP_F_DDGST : 0));
	ch->plen = nvme_le32_of(len);
	memcpy(pdu, header, hlen);
	if (data_bytes > 0)
		memcpy(pdu + at, data, data_bytes);
	if ((lie & 15) == 8) /* before the digests: they are right */
		pdu[a % hlen] ^= b;
	if ((lie & 15) == 9 && data_bytes > 0)
		pdu[at + (a << 8 | b) % data_bytes] ^= lie >> 4;
	if (hd)
		pst_put_le32(pdu + hlen, pst_crc32c(pdu, hlen));
	if (dd)
		pst_put_le32(pdu + at + data_bytes, pst_crc32c(pdu + at, data_bytes));
	switch (lie & 15) {
	case 10: /* after them: they are wrong */
		pdu[(a << 8 | b) % len] ^= 1u << (lie >> 5);
		break;
	case 11:
		return;
	case 12:
		peer_put(peer, pdu, len);
		break;
	case 13:
		peer_put(peer, pdu, (a << 8 | b) % len);
		peer_flush(peer);
		if (lie & 16)
			peer_close(peer);
		return;
	case 14:
		for (unsigned i = 0; i < (a & 31u); i++)
			peer_put(peer, &(uint8_t){ next(p) }, 1);
		break;
	default:
		break;
	}
	peer_put(peer, pdu, len);
}

static void put_answer(struct peer *peer, uint16_t cid, uint16_t status, uint64_t value)
{
	struct nvme_tcp_resp resp = { .ch.type = NVME_TCP_RESP };

	resp.cqe.cid = nvme_le16_of(cid);
	resp.cqe.status = nvme_le16_of((uint16_t)(status << 1));
	resp.cqe.dw0 = nvme_le32_of((uint32_t)value);
	resp.cqe.dw1 = nvme_le32_of((uint32_t)(value >> 32));
	put_pdu(peer, (uint8_t *)&resp, sizeof(resp), NULL, 0);
}

static void put_data(struct peer *peer, uint16_t cid, const uint8_t *data, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at += CHUNK) {
		uint32_t n = PST_MIN(bytes - at, CHUNK);
		struct nvme_tcp_data header = { .ch.type = NVME_TCP_C2H_DATA,
						.ch.flags = at + n == bytes ? NVME_TCP_F_LAST : 0,
						.cccid = nvme_le16_of(cid),
						.datao = nvme_le32_of(at),
						.datal = nvme_le32_of(n) };

		put_pdu(peer, (uint8_t *)&header, sizeof(header), data + at, n);
	}
}

static void put_r2t(struct peer *peer, uint16_t cid, uint32_t offset, uint32_t bytes)
{
	struct nvme_tcp_r2t r2t = { .ch.type = NVME_TCP_R2T,
				    .cccid = nvme_le16_of(cid),
				    .ttag = nvme_le16_of(cid),
				    .r2to = nvme_le32_of(offset),
				    .r2tl = nvme_le32_of(bytes) };

	put_pdu(peer, (uint8_t *)&r2t, sizeof(r2t), NULL, 0);
}

/* A PDU that nobody has asked for, with numbers from the script. */
static void put_made_up(struct peer *peer, uint16_t cid)
{
	static const uint8_t zeros[512];
	struct play *p = peer->play;
	uint8_t what = next(p), a = next(p), b = next(p);
	struct nvme_tcp_term term = { .ch.type = NVME_TCP_C2H_TERM, .fes = nvme_le16_of(a) };

	switch (what & 3) {
	case 0:
		put_r2t(peer, cid, (uint32_t)a << (what >> 3 & 15), (uint32_t)b << (what >> 4));
		break;
	case 1:
		put_data(peer, (uint16_t)(cid + (what >> 5)), zeros, (a % 64 + 1) * 8);
		break;
	case 2:
		put_answer(peer, (uint16_t)(cid ^ a), b, what);
		break;
	default:
		put_pdu(peer, (uint8_t *)&term, sizeof(term), zeros, 0);
	}
}

/* ---- A target's mind ---- */

static void put_page(struct peer *peer, const struct nvme_sqe *sqe, uint16_t cid, uint32_t bytes)
{
	/* Where a host looks: MDTS, CNTLID, ONCS, IOCCSZ, ICDOFF; NSZE, FLBAS, LBAF 0; NUMREC, GENCTR; type and length.
	 */
	static const uint16_t fields[] = { 77, 78, 520, 1792, 1800, 0, 7, 26, 128, 130, 8, 1, 16, 20, 4, 3 };
	static uint8_t page[16384];
	struct play *p = peer->play;
	uint8_t change = next(p), cns = (uint8_t)nvme_get32(sqe->cdw10);

	memset(page, 0, sizeof(page));
	if (sqe->opcode == NVME_ADMIN_GET_LOG_PAGE) {
		page[8] = 2; /* NUMREC; and of a record: */
		page[1024] = page[0] = 3;
		page[2] = 2;
	} else if (cns == NVME_CNS_CONTROLLER) {
		page[77] = 4;
		page[78] = 1;
		page[520] = 0x0c;
		pst_put_le32(page + 1792, (64 + 8192) / 16);
	} else if (cns == NVME_CNS_NAMESPACE) {
		pst_put_le64(page, 4096);
		page[128 + 2] = 12;
	} else if (cns == NVME_CNS_DESCRIPTORS) {
		page[0] = 3;
		page[1] = 16;
		page[4] = 1;
	}
	if (change & 1)
		page[fields[change >> 1 & 15]] = next(p);
	put_data(peer, cid, page, PST_MIN(bytes, sizeof(page)));
	put_answer(peer, cid, 0, 0);
}

static void answer_fabrics(struct peer *peer, const struct nvme_sqe *sqe, uint16_t cid)
{
	const struct nvmf_property_cmd *property = (const void *)sqe;
	uint64_t value = 0;

	switch (nvme_fctype(sqe)) {
	case NVMF_CONNECT:
		put_answer(peer, cid, 0, 1);
		break;
	case NVMF_PROPERTY_GET:
		if (nvme_get32(property->offset) == 0)
			value = 31 | (uint64_t)20 << 24 | (uint64_t)1 << 37;
		else if (nvme_get32(property->offset) == NVME_PROP_CSTS)
			value = 1;
		put_answer(peer, cid, 0, value);
		break;
	case NVMF_PROPERTY_SET:
		put_answer(peer, cid, 0, 0);
		break;
	default:
		put_answer(peer, cid, NVME_INVALID_OPCODE | NVME_STATUS_DNR, 0);
	}
}

static void answer_io(struct peer *peer, const struct nvme_sqe *sqe, uint16_t cid, uint32_t incapsule_bytes)
{
	static const uint8_t zeros[65536];
	uint32_t bytes = PST_MIN(nvme_get32(sqe->sgl.length), (uint32_t)sizeof(zeros));
	uint32_t blocks = (nvme_get32(sqe->cdw12) & 0xffff) + 1;

	/* Whatever the host was told of block size and transfer size: what it asks for is whole blocks. */
	if (sqe->opcode == NVME_CMD_READ || sqe->opcode == NVME_CMD_WRITE)
		pst_assert(bytes % blocks == 0 && pst_is_pow2(bytes / blocks) && bytes / blocks >= 512);
	if (sqe->opcode == NVME_CMD_READ) {
		put_data(peer, cid, zeros, bytes);
		put_answer(peer, cid, 0, 0);
	} else if (sqe->opcode == NVME_CMD_WRITE && incapsule_bytes == 0) {
		peer->write_cid = cid;
		peer->write_got = 0;
		peer->write_bytes = bytes;
		put_r2t(peer, cid, 0, bytes);
	} else {
		put_answer(peer, cid, 0, 0);
	}
}

static void on_command(struct peer *peer, const struct nvme_tcp_cmd *pdu, uint32_t incapsule_bytes)
{
	const struct nvme_sqe *sqe = &pdu->sqe;
	uint16_t cid = nvme_get16(sqe->cid);
	struct play *p = peer->play;
	uint8_t mood = next(p);

	if ((mood & 7) == 7)
		put_made_up(peer, cid);
	if ((mood & 7) == 6) {
		put_answer(peer, cid, (uint16_t)(next(p) | mood >> 3 << 8), 0);
		return;
	}
	if (sqe->opcode == NVME_FABRICS)
		answer_fabrics(peer, sqe, cid);
	else if (sqe->opcode == NVME_ADMIN_IDENTIFY)
		put_page(peer, sqe, cid, 4096);
	else if (sqe->opcode == NVME_ADMIN_GET_LOG_PAGE && nvme_get32(sqe->sgl.length) > 0)
		put_page(peer, sqe, cid, nvme_get32(sqe->sgl.length));
	else if (sqe->opcode == NVME_ADMIN_ASYNC_EVENT && (mood & 8) == 0)
		return;
	else if (sqe->opcode == NVME_ADMIN_ASYNC_EVENT)
		put_answer(peer, cid, 0, 0x40002);
	else if (sqe->opcode == NVME_ADMIN_SET_FEATURES || sqe->opcode == NVME_ADMIN_KEEP_ALIVE)
		put_answer(peer, cid, 0, mood >> 4);
	else
		answer_io(peer, sqe, cid, incapsule_bytes);
}

static void on_pdu(struct peer *peer, const uint8_t *pdu, uint32_t plen)
{
	const struct nvme_tcp_ch *ch = (const struct nvme_tcp_ch *)pdu;
	const struct nvme_tcp_data *data = (const struct nvme_tcp_data *)pdu;

	if (ch->type == NVME_TCP_ICREQ) {
		struct nvme_tcp_icresp resp = { .ch.type = NVME_TCP_ICRESP, .maxh2cdata = nvme_le32_of(16384) };

		peer->header_digest = pdu[11] & 1;
		peer->data_digest = pdu[11] & 2;
		resp.dgst = pdu[11];
		put_pdu(peer, (uint8_t *)&resp, sizeof(resp), NULL, 0);
	} else if (ch->type == NVME_TCP_CMD && plen >= sizeof(struct nvme_tcp_cmd)) {
		on_command(peer, (const struct nvme_tcp_cmd *)pdu, ch->pdo > 0 ? plen - ch->pdo : 0);
	} else if (ch->type == NVME_TCP_H2C_DATA && plen >= sizeof(*data)) {
		peer->write_got += nvme_get32(data->datal);
		if (peer->write_got >= peer->write_bytes)
			put_answer(peer, peer->write_cid, 0, 0);
	} else if (ch->type == NVME_TCP_H2C_TERM) {
		peer_close(peer);
	}
}

static void peer_want(struct peer *peer);

static void peer_received(struct pst_stream_op *op)
{
	struct peer *peer = pst_container_of(op, struct peer, recv);
	size_t at = 0;

	if (peer->closing)
		return;
	if (op->err != PST_OK || op->done_bytes == 0) {
		peer_close(peer);
		return;
	}
	peer->in_bytes += op->done_bytes;
	while (peer->in_bytes - at >= 8 && !peer->closing) {
		uint32_t plen = pst_get_le32(peer->in + at + 4);

		pst_assert(plen >= 8 && plen <= ROOM); /* the host sends nothing that is not sound */
		if (peer->in_bytes - at < plen)
			break;
		on_pdu(peer, peer->in + at, plen);
		at += plen;
	}
	memmove(peer->in, peer->in + at, peer->in_bytes - at);
	peer->in_bytes -= at;
	peer_flush(peer);
	if (!peer->closing)
		peer_want(peer);
}

static void peer_want(struct peer *peer)
{
	peer->recv_iov = (struct iovec){ peer->in + peer->in_bytes, ROOM - peer->in_bytes };
	peer->recv = (struct pst_stream_op){ .iov = &peer->recv_iov, .iov_count = 1, .done = peer_received };
	pst_stream_recv(peer->stream, &peer->recv);
}

static void accepted(void *ctx, struct pst_stream *stream)
{
	struct play *p = ctx;

	for (unsigned i = 0; i < PEERS; i++) {
		struct peer *peer = &p->peers[i];

		if (peer->stream != NULL)
			continue;
		memset(peer, 0, offsetof(struct peer, in));
		peer->in_bytes = peer->out_bytes = 0;
		peer->play = p;
		peer->stream = stream;
		peer_want(peer);
		return;
	}
	pst_assert(false); /* a session holds two, and a few may be on their way out */
}

/* ---- The host ---- */

static void on_open(struct pst_session_open_op *op)
{
	pst_container_of(op, struct play, open)->opened = true;
}

static void on_close(struct pst_session_close_op *op)
{
	pst_container_of(op, struct play, close)->closed = true;
}

static void on_request(struct pst_request *request)
{
	struct play *p = request->arg;

	p->done[request - p->requests]++;
	p->done_count++;
}

static bool is_opened(void *ctx)
{
	return ((struct play *)ctx)->opened;
}

static bool is_closed(void *ctx)
{
	return ((struct play *)ctx)->closed;
}

static bool all_done(void *ctx)
{
	return ((struct play *)ctx)->done_count == REQUESTS;
}

static bool peers_gone(void *ctx)
{
	const struct play *p = ctx;

	for (unsigned i = 0; i < PEERS; i++)
		if (p->peers[i].stream != NULL)
			return false;
	return true;
}

static void submit_all(struct play *p, const uint8_t choices[REQUESTS])
{
	struct pst_ns_info info;

	pst_session_info(p->open.session, &info);
	for (unsigned i = 0; i < REQUESTS; i++) {
		uint32_t len = (choices[i] >> 3 & 15u) * 4096 + 4096;

		p->iovs[i] = (struct iovec){ p->memory[i], len };
		p->requests[i] = (struct pst_request){ .kind = choices[i] % 5,
						       .offset_bytes = (uint64_t)i * 65536,
						       .len_bytes = len,
						       .iov = &p->iovs[i],
						       .iov_count = 1,
						       .done = on_request,
						       .arg = p };
		pst_session_submit(p->open.session, &p->requests[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct play play;
	struct play *p = &play;
	struct pst_sim_node *target, *host;
	struct pst_listener *listener;
	struct pst_addr bound;
	uint8_t kind, choices[REQUESTS];

	memset(p, 0, offsetof(struct play, memory));
	p->at = data;
	p->end = data + PST_MIN(len_bytes, (size_t)SCRIPT_MAX);
	kind = next(p);
	for (unsigned i = 0; i < REQUESTS; i++)
		choices[i] = next(p);
	p->sim = pst_sim_new(1);
	if (getenv("PST_TEST_TRACE"))
		pst_sim_set_trace(p->sim, stderr);
	target = pst_sim_node_new(p->sim, "target");
	host = pst_sim_node_new(p->sim, "host");
	p->target_env = pst_sim_env_new(target, 0);
	p->host_env = pst_sim_env_new(host, 0);
	struct pst_session_config config = {
		.subnqn = "nqn.2026-01.example:liar",
		.hostnqn = "nqn.2026-01.example:host",
		.hostid = { 9 },
		.discovery = (kind & 12) == 12,
		.nsid = 1,
		.io_queues = 1 + (kind >> 4 & 1),
		.queue_entries = 4 + (kind >> 5),
		.header_digest = kind & 1,
		.data_digest = kind & 2,
		.keep_alive_ns = SECOND,
		.connect_timeout_ns = SECOND,
		.reconnect_delay_ns = SECOND / 10,
		.loss_timeout_ns = 3 * SECOND,
	};
	pst_assert(pst_addr_parse(pst_sim_node_ip(target), 4420, &config.addr) == PST_OK);
	pst_assert(pst_listen(p->target_env, &config.addr, accepted, p, &listener) == PST_OK);
	pst_listener_addr(listener, &bound);
	p->open.done = on_open;
	pst_session_open(p->host_env, &config, &p->open);
	pst_assert(pst_sim_run_until(p->sim, is_opened, p, 60 * SECOND));
	if (p->open.err == PST_OK) {
		bool all;

		if (!config.discovery)
			submit_all(p, choices);
		all = pst_sim_run_until(p->sim, all_done, p, kind & 4 ? SECOND : (p->lies + 2) * STUCK_S * SECOND);
		pst_assert(all || kind & 4);
		p->close.done = on_close;
		pst_session_close(p->open.session, &p->close);
		pst_assert(pst_sim_run_until(p->sim, is_closed, p, 60 * SECOND));
		for (unsigned i = 0; i < REQUESTS; i++)
			pst_assert(p->done[i] == (config.discovery ? 0 : 1));
	}
	for (unsigned i = 0; i < PEERS; i++)
		peer_close(&p->peers[i]);
	pst_assert(pst_sim_run_until(p->sim, peers_gone, p, 10 * SECOND));
	pst_listener_close(listener);
	pst_env_free(p->host_env);
	pst_env_free(p->target_env);
	pst_sim_free(p->sim);
	return 0;
}
