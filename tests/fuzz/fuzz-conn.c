/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the connection engine in either role, with any bytes from the peer in any pieces. Whatever they are, the
 * engine neither reads nor writes outside its buffers and its owner's, every command ends, and it can be freed.
 *
 * Input: byte 0 role and options, byte 1 alignment, byte 2 size of the pieces; then the peer's bytes.
 */
#include "proto/conn.h"

#include <string.h>

#define COMMANDS 8u
#define SLOTS (2 * COMMANDS + 2)
#define BUFFER_BYTES 32768u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

enum { OPTION_HOST = 1, OPTION_HEADER_DIGEST = 2, OPTION_DATA_DIGEST = 4, OPTION_LATE = 8, OPTION_SMALL = 16 };

struct slot {
	struct pst_conn_cmd *cmd;
	struct iovec iov[2];
	bool held; /* the target answers it later */
};

struct peer {
	struct pst_conn *conn;
	uint8_t options;
	struct slot slots[SLOTS];
	uint32_t submitted, ended;
	/* Where payload goes to and comes from; what is in it does not matter, that it stays inside does. */
	uint8_t buffer[BUFFER_BYTES];
};

static struct slot *slot_get(struct peer *p, struct pst_conn_cmd *cmd)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (p->slots[i].cmd == NULL) {
			p->slots[i] =
			    (struct slot){ .cmd = cmd,
					   .iov = { { p->buffer, 1000 }, { p->buffer + 1000, BUFFER_BYTES - 1000 } } };
			return &p->slots[i];
		}
	pst_assert(!"more commands than the engine has slots for");
	return NULL;
}

/* Reads what is going out, as a socket would. */
static void take_output(struct peer *p)
{
	struct iovec iov[8];
	static volatile uint8_t sink;

	for (unsigned n; (n = pst_conn_output(p->conn, iov, PST_ARRAY_COUNT(iov))) > 0;) {
		size_t bytes = 0;

		for (unsigned i = 0; i < n; i++) {
			for (size_t j = 0; j < iov[i].iov_len; j++)
				sink ^= ((const uint8_t *)iov[i].iov_base)[j];
			bytes += iov[i].iov_len;
		}
		pst_conn_sent(p->conn, bytes);
	}
}

/* ---- The target's owner ---- */

static void answer(struct peer *p, struct slot *slot)
{
	const struct nvme_sqe *sqe = &slot->cmd->sqe;
	struct pst_conn_result result = { .status = nvme_get32(sqe->cdw13) & 0x3ff };
	bool with_data = (sqe->opcode & 3) == 2 && result.status == 0;

	slot->held = false;
	pst_conn_answer(p->conn, slot->cmd, &result, slot->iov, with_data ? 2 : 0,
			with_data ? nvme_get32(sqe->cdw12) % BUFFER_BYTES + 1 : 0);
}

static void answer_or_hold(struct peer *p, struct slot *slot)
{
	if (p->options & OPTION_LATE)
		slot->held = true;
	else
		answer(p, slot);
}

static void answer_held(struct peer *p)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (p->slots[i].held)
			answer(p, &p->slots[i]);
}

static void on_command(struct peer *p, const struct pst_conn_event *ev)
{
	struct slot *slot = slot_get(p, ev->cmd);

	ev->cmd->owner = slot;
	if ((ev->cmd->sqe.opcode & 3) == 1 && ev->cmd->data_bytes == 0 && ev->err == PST_OK) {
		pst_conn_pull(p->conn, ev->cmd, slot->iov, 2, nvme_get32(ev->cmd->sqe.cdw12) % BUFFER_BYTES + 1);
		return;
	}
	if (ev->cmd->data_bytes > 0) /* must be readable to its last byte */
		memcpy(p->buffer, ev->cmd->data, PST_MIN(ev->cmd->data_bytes, BUFFER_BYTES));
	answer_or_hold(p, slot);
}

/* ---- The host's owner ---- */

static void submit_all(struct peer *p)
{
	static const struct pst_conn_xfer xfers[] = { { .dir = PST_CONN_DATA_IN, .bytes = 4096 },
						      { .dir = PST_CONN_DATA_OUT, .bytes = 512 },
						      { .dir = PST_CONN_DATA_OUT, .bytes = 20000, .skip_bytes = 300 },
						      { .dir = PST_CONN_NO_DATA },
						      { .dir = PST_CONN_DATA_IN, .bytes = 30000, .skip_bytes = 10 } };

	for (uint32_t i = 0; i < COMMANDS; i++) {
		struct pst_conn_xfer xfer = xfers[i % PST_ARRAY_COUNT(xfers)];
		struct nvme_sqe sqe = { .opcode = (uint8_t)(i % 3) };
		struct slot *slot = &p->slots[i];
		struct pst_conn_cmd *cmd;

		if (slot->cmd != NULL)
			continue;
		*slot = (struct slot){ .iov = { { p->buffer, 1000 }, { p->buffer + 1000, BUFFER_BYTES - 1000 } } };
		xfer.iov = slot->iov;
		xfer.iov_count = xfer.bytes > 0 ? 2 : 0;
		cmd = pst_conn_submit(p->conn, &sqe, &xfer, slot);
		if (cmd == NULL)
			return;
		slot->cmd = cmd;
		p->submitted++;
	}
}

/* ---- Both ---- */

static void on_event(struct peer *p, const struct pst_conn_event *ev)
{
	struct slot *slot = ev->cmd != NULL ? ev->cmd->owner : NULL;

	switch (ev->kind) {
	case PST_CONN_READY:
		if (p->options & OPTION_HOST)
			submit_all(p);
		else
			pst_conn_set_queue(p->conn, COMMANDS, (p->options & OPTION_SMALL) == 0);
		break;
	case PST_CONN_COMMAND:
		on_command(p, ev);
		break;
	case PST_CONN_DATA:
		answer_or_hold(p, slot);
		break;
	case PST_CONN_RELEASED:
	case PST_CONN_RESPONSE:
		pst_assert(slot != NULL && slot->cmd == ev->cmd);
		slot->cmd = NULL;
		p->ended++;
		break;
	case PST_CONN_TERMINATED:
	case PST_CONN_FAILED:
		break;
	}
}

static void run(struct peer *p)
{
	struct pst_conn_event ev;

	while (pst_conn_next_event(p->conn, &ev))
		on_event(p, &ev);
	take_output(p);
	while (pst_conn_next_event(p->conn, &ev))
		on_event(p, &ev);
}

/* Feeds @bytes in pieces of at most @piece; stops when the engine does not want more. */
static void feed(struct peer *p, const uint8_t *bytes, size_t left, size_t piece)
{
	unsigned stuck = 0;

	while (left > 0 && stuck < 2) {
		struct iovec iov[4];
		unsigned n = pst_conn_want(p->conn, iov, PST_ARRAY_COUNT(iov));
		size_t got = 0;

		for (unsigned i = 0; i < n && got < PST_MIN(left, piece); i++) {
			size_t part = PST_MIN(iov[i].iov_len, PST_MIN(left, piece) - got);

			memcpy(iov[i].iov_base, bytes + got, part);
			got += part;
		}
		if (got > 0)
			pst_conn_got(p->conn, got);
		/* Backpressure, or an end: answers make room, once. */
		stuck = got > 0 ? 0 : stuck + 1;
		bytes += got;
		left -= got;
		run(p);
		if (stuck > 0 || left % 3 == 0)
			answer_held(p);
		if (p->options & OPTION_HOST && pst_conn_state(p->conn) == PST_CONN_STATE_READY)
			submit_all(p);
		run(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct pst_conn_config config = { .commands_max = COMMANDS, .incapsule_bytes = 8192, .maxh2cdata = 8192 };
	static struct peer p;

	if (len_bytes < 3)
		return 0;
	memset(&p, 0, sizeof(p));
	p.options = data[0];
	config.role = p.options & OPTION_HOST ? PST_CONN_HOST : PST_CONN_TARGET;
	config.header_digest = p.options & OPTION_HEADER_DIGEST;
	config.data_digest = p.options & OPTION_DATA_DIGEST;
	config.incapsule_buffers = p.options & OPTION_SMALL ? 2 : 0;
	config.align_code = data[1] & NVME_TCP_ALIGN_CODE_MAX;
	if (pst_conn_new(&config, &p.conn) != PST_OK)
		return 0;
	run(&p);
	feed(&p, data + 3, len_bytes - 3, data[2] == 0 ? SIZE_MAX : data[2]);
	answer_held(&p);
	run(&p);
	/* The stream is gone: everything in flight must end. */
	pst_conn_fail(p.conn);
	for (unsigned turn = 0; turn < 4; turn++) {
		run(&p);
		answer_held(&p);
	}
	pst_assert(pst_conn_busy(p.conn) == 0);
	pst_assert(!(p.options & OPTION_HOST) || p.submitted == p.ended);
	pst_conn_free(p.conn);
	return 0;
}
