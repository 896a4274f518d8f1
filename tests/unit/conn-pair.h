/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host engine and a target engine joined in memory, with a small model of a device behind the target: for tests of
 * the connection engine. Bytes move in pieces of at most chunk bytes, so that every split of a PDU is met.
 */
#ifndef PST_TEST_CONN_PAIR_H
#define PST_TEST_CONN_PAIR_H

#include "base/prng.h"
#include "proto/conn.h"

#include <stdlib.h>
#include <string.h>

#define PAIR_DEVICE_BYTES (1u << 20)
#define PAIR_COMMANDS 32u

struct pipe {
	uint8_t *bytes;
	size_t from, to, room;
	uint64_t total;
};

struct pair {
	struct pst_conn *target, *host;
	struct pipe to_target, to_host;
	struct pst_prng prng;
	size_t chunk;     /* longest piece moved at once */
	unsigned iov_max; /* entries asked for at once */
	uint8_t device[PAIR_DEVICE_BYTES];
	struct iovec cmd_iov[1 << 16]; /* of the target's commands, by CID */

	/* What has been seen. */
	unsigned responses, commands, pulled_in_place, target_ready, host_ready, success_responses;
	struct pst_conn_event last_response, target_end, host_end;
	bool hold_answers; /* the target keeps commands to itself */
	struct pst_conn_cmd *held[PAIR_COMMANDS * 2];
	unsigned held_count;
};

static inline void pipe_put(struct pipe *p, const void *bytes, size_t len)
{
	if (p->to + len > p->room) {
		p->room = (p->to + len) * 2;
		p->bytes = realloc(p->bytes, p->room);
	}
	memcpy(p->bytes + p->to, bytes, len);
	p->to += len;
	p->total += len;
}

static inline void pair_answer(struct pair *p, struct pst_conn_cmd *cmd, uint16_t status)
{
	const struct nvme_sqe *sqe = &cmd->sqe;
	uint32_t at = nvme_get32(sqe->cdw10), len = nvme_get32(sqe->cdw12);
	struct iovec *iov = &p->cmd_iov[nvme_get16(sqe->cid)];
	struct pst_conn_result result = { .status = status };

	*iov = (struct iovec){ p->device + at, len };
	if (sqe->opcode == NVME_CMD_READ && status == 0)
		pst_conn_answer(p->target, cmd, &result, iov, 1, len);
	else
		pst_conn_answer(p->target, cmd, &result, NULL, 0, 0);
}

static inline void pair_target_event(struct pair *p, struct pst_conn_event *ev)
{
	struct pst_conn_cmd *cmd = ev->cmd;
	uint32_t at, len;

	switch (ev->kind) {
	case PST_CONN_READY:
		p->target_ready++;
		break;
	case PST_CONN_COMMAND:
		p->commands++;
		at = nvme_get32(cmd->sqe.cdw10);
		len = nvme_get32(cmd->sqe.cdw12);
		if (p->hold_answers) {
			p->held[p->held_count++] = cmd;
		} else if (ev->err != PST_OK) {
			pair_answer(p, cmd, NVME_TRANSIENT_TRANSPORT_ERROR);
		} else if (cmd->sqe.opcode == NVME_CMD_WRITE && cmd->data_bytes == 0) {
			struct iovec *iov = &p->cmd_iov[nvme_get16(cmd->sqe.cid)];

			*iov = (struct iovec){ p->device + at, len };
			pst_conn_pull(p->target, cmd, iov, 1, len);
		} else {
			if (cmd->data_bytes > 0)
				memcpy(p->device + at, cmd->data, cmd->data_bytes);
			pair_answer(p, cmd, 0);
		}
		break;
	case PST_CONN_DATA:
		if (cmd->data_bytes > 0) {
			p->pulled_in_place++;
			memcpy(p->device + nvme_get32(cmd->sqe.cdw10), cmd->data, cmd->data_bytes);
		}
		pair_answer(p, cmd, ev->err == PST_OK ? 0 : NVME_TRANSIENT_TRANSPORT_ERROR);
		break;
	case PST_CONN_RELEASED:
		break;
	default:
		p->target_end = *ev;
		break;
	}
}

static inline void pair_host_event(struct pair *p, struct pst_conn_event *ev)
{
	switch (ev->kind) {
	case PST_CONN_READY:
		p->host_ready++;
		break;
	case PST_CONN_RESPONSE:
		p->responses++;
		p->last_response = *ev;
		break;
	default:
		p->host_end = *ev;
		break;
	}
}

/* Bytes out of an engine into a pipe, not always all that was offered. */
static inline bool pair_output(struct pair *p, struct pst_conn *conn, struct pipe *pipe)
{
	struct iovec iov[16];
	unsigned count = pst_conn_output(conn, iov, p->iov_max);
	size_t budget = 1 + pst_prng_below(&p->prng, p->chunk), sent = 0;

	if (count == 0)
		return false;
	for (unsigned i = 0; i < count && sent < budget; i++) {
		size_t n = PST_MIN(iov[i].iov_len, budget - sent);

		pipe_put(pipe, iov[i].iov_base, n);
		sent += n;
	}
	pst_conn_sent(conn, sent);
	return true;
}

static inline bool pair_input(struct pair *p, struct pst_conn *conn, struct pipe *pipe)
{
	struct iovec iov[16];
	size_t budget = 1 + pst_prng_below(&p->prng, p->chunk), got = 0;
	unsigned count;

	if (pipe->from == pipe->to)
		return false;
	count = pst_conn_want(conn, iov, PST_MAX(p->iov_max, 2u));
	for (unsigned i = 0; i < count && got < budget; i++) {
		size_t n = PST_MIN(PST_MIN(iov[i].iov_len, budget - got), pipe->to - pipe->from);

		memcpy(iov[i].iov_base, pipe->bytes + pipe->from, n);
		pipe->from += n;
		got += n;
	}
	if (got == 0)
		return false;
	pst_conn_got(conn, got);
	return true;
}

static inline bool pair_events(struct pair *p)
{
	struct pst_conn_event ev;
	bool any = false;

	while (pst_conn_next_event(p->target, &ev)) {
		pair_target_event(p, &ev);
		any = true;
	}
	while (pst_conn_next_event(p->host, &ev)) {
		pair_host_event(p, &ev);
		any = true;
	}
	return any;
}

/* Moves bytes until nothing moves. */
static inline void pair_run(struct pair *p)
{
	bool moved;

	do {
		moved = pair_events(p);
		moved |= pair_output(p, p->host, &p->to_target);
		moved |= pair_output(p, p->target, &p->to_host);
		moved |= pair_input(p, p->target, &p->to_target);
		moved |= pair_events(p);
		moved |= pair_input(p, p->host, &p->to_host);
		moved |= pair_events(p);
	} while (moved);
}

struct pair_config {
	bool header_digest, data_digest, success;
	uint8_t host_align, target_align;
	uint32_t maxh2cdata, incapsule_bytes, incapsule_buffers;
	size_t chunk;
	unsigned iov_max;
};

static inline struct pair *pair_new(const struct pair_config *c)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct pst_conn_config config = {
		.role = PST_CONN_TARGET,
		.commands_max = PAIR_COMMANDS,
		.incapsule_bytes = c->incapsule_bytes,
		.incapsule_buffers = c->incapsule_buffers,
		.maxh2cdata = c->maxh2cdata ? c->maxh2cdata : 65536,
		.header_digest = true,
		.data_digest = true,
		.align_code = c->target_align,
	};

	p->chunk = c->chunk ? c->chunk : SIZE_MAX / 2;
	p->iov_max = c->iov_max ? c->iov_max : 16;
	pst_prng_init(&p->prng, 7);
	pst_assert(pst_conn_new(&config, &p->target) == PST_OK);
	config.role = PST_CONN_HOST;
	config.header_digest = c->header_digest;
	config.data_digest = c->data_digest;
	config.align_code = c->host_align;
	pst_assert(pst_conn_new(&config, &p->host) == PST_OK);
	if (c->success)
		pst_conn_set_queue(p->target, PAIR_COMMANDS, false);
	return p;
}

/* Both ends lose the stream; every command must come back. */
static inline void pair_free(struct pair *p)
{
	pst_conn_fail(p->target);
	pst_conn_fail(p->host);
	pair_events(p);
	for (unsigned i = 0; i < p->held_count; i++)
		pair_answer(p, p->held[i], 0);
	pair_events(p);
	pst_conn_free(p->target);
	pst_conn_free(p->host);
	free(p->to_target.bytes);
	free(p->to_host.bytes);
	free(p);
}

static inline struct pst_conn_cmd *pair_submit(struct pair *p, uint8_t opcode, uint32_t at, const struct iovec *iov,
					       uint32_t iov_count, uint64_t skip, uint32_t len)
{
	struct nvme_sqe sqe = { .opcode = opcode, .cdw10 = nvme_le32_of(at), .cdw12 = nvme_le32_of(len) };
	struct pst_conn_xfer xfer = {
		.dir = opcode == NVME_CMD_READ    ? PST_CONN_DATA_IN
		       : opcode == NVME_CMD_WRITE ? PST_CONN_DATA_OUT
						  : PST_CONN_NO_DATA,
		.bytes = opcode == NVME_CMD_FLUSH ? 0 : len,
		.iov = iov,
		.iov_count = iov_count,
		.skip_bytes = skip,
	};

	return pst_conn_submit(p->host, &sqe, &xfer, p);
}

#endif
