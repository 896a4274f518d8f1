/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/*
 * One NVMe/TCP connection (one queue pair) without I/O, for both roles: bytes go in, events come out; orders go in,
 * bytes come out. No callbacks, no clock, no allocation after pst_conn_new. One thread at a time (the shard's).
 *
 * The owner moves bytes between the engine and a stream. After every completion, and after orders from elsewhere:
 *
 *	static void conn_run(struct my_conn *c)
 *	{
 *		struct pst_conn_event ev;
 *
 *		while (pst_conn_next_event(c->conn, &ev)) {
 *			switch (ev.kind) {
 *			case PST_CONN_COMMAND:    -- target: look at ev.cmd->sqe and ev.cmd->data
 *				if (ev.err == PST_E_CHECKSUM)         -- the in-capsule data is damaged
 *					answer(c, ev.cmd, NVME_TRANSIENT_TRANSPORT_ERROR);
 *				else if (is_read(ev.cmd))             -- later: pst_conn_answer with the data
 *					start_read(c, ev.cmd);
 *				else if (ev.cmd->data_bytes > 0)
 *					start_write(c, ev.cmd, ev.cmd->data);
 *				else                                  -- after admission: pst_conn_pull
 *					admit_write(c, ev.cmd);
 *				break;
 *			case PST_CONN_DATA:       -- target: what was pulled is there, or ev.err says why not
 *				data_arrived(c, ev.cmd, ev.err);
 *				break;
 *			case PST_CONN_RELEASED:   -- target: answer and data are out: buffers are free, cmd is over
 *				free_buffers(c, ev.cmd);
 *				break;
 *			case PST_CONN_FAILED:     -- the peer broke the protocol: a TermReq is queued
 *			case PST_CONN_TERMINATED: -- the peer sent a TermReq
 *				arm_close_timer(c);  -- close when pst_conn_finished() or the peer has closed
 *				break;
 *			...
 *			}
 *		}
 *		if (!c->sending && (c->send.iov_count = pst_conn_output(c->conn, c->send_iov, N)) > 0)
 *			send(c);                  -- when done: pst_conn_sent(conn, bytes), then conn_run
 *		if (!c->receiving && (c->recv.iov_count = pst_conn_want(c->conn, c->recv_iov, N)) > 0)
 *			receive(c);               -- when done: pst_conn_got(conn, bytes), then conn_run
 *	}
 *
 * When the stream is gone (error, end, or closed by the owner) and no receive and send is outstanding any more, call
 * pst_conn_fail. Commands in flight then come back one by one as events: in the target PST_CONN_DATA with
 * PST_E_CLOSED for those that waited for data, and the target answers every command as always (nothing is sent) and
 * gets its PST_CONN_RELEASED; in the host PST_CONN_RESPONSE with PST_E_CLOSED. With pst_conn_busy() == 0, free it.
 *
 * Buffers: an iov array given to pst_conn_pull, pst_conn_answer or pst_conn_submit, and what it points to, is the
 * engine's until the event that ends it: DATA (pull), RELEASED (answer), RESPONSE (submit).
 *
 * Backpressure: in-capsule data is copied into buffers of the connection (config.incapsule_buffers). When these or the
 * command slots are all in use, pst_conn_want gives nothing: the socket is not read until an answer has gone out.
 */
/* clang-format on */
#ifndef PST_PROTO_CONN_H
#define PST_PROTO_CONN_H

#include "base/list.h"
#include "proto/tcp_pdu.h"

#include <sys/uio.h>

struct pst_conn;

enum pst_conn_role { PST_CONN_TARGET, PST_CONN_HOST };

struct pst_conn_config {
	enum pst_conn_role role;
	uint32_t commands_max;      /* target: entries of the queue, the largest allowed. Host: commands outstanding */
	uint32_t incapsule_bytes;   /* target: longest in-capsule data taken. Host: longest sent; see set_incapsule */
	uint32_t incapsule_buffers; /* target: how many of them at once; 0: commands_max */
	uint32_t maxh2cdata;        /* target: MAXH2CDATA to announce; a multiple of 4, at least 4096 */
	bool header_digest;         /* target: allow. Host: ask for */
	bool data_digest;
	uint8_t align_code;      /* HPDA (host) or CPDA (target) to announce, 0 to 31: dwords, 0-based */
	uint64_t ic_deadline_ns; /* when ICReq/ICResp must be through; see pst_conn_deadline_ns */
};

/* A command in flight. Owned by the engine; valid from COMMAND to RELEASED, or from submit to RESPONSE. */
struct pst_conn_cmd {
	struct nvme_sqe sqe;
	void *owner;         /* the owner's; NULL when a COMMAND event brings it */
	void *data;          /* target: in-capsule data, 4096-aligned, or data in place; NULL: neither */
	uint32_t data_bytes; /* target: its length. Host: data received so far */
};

/* Allocates everything that the connection will ever need. PST_E_NOMEM; PST_E_INVAL for a config out of range. */
pst_err PST_MUST_USE pst_conn_new(const struct pst_conn_config *config, struct pst_conn **ret_conn);

/* No command may be in flight (pst_conn_busy is 0) and no receive or send outstanding. NULL is allowed. */
void pst_conn_free(struct pst_conn *conn);

/* ---- Bytes ---- */

/*
 * Where the next bytes from the peer go: fills up to @max (at least 2) entries of @iov, returns how many; 0: do not
 * read now. Call after pst_conn_next_event has returned false. Payload lands straight in the owner's buffers, except
 * what arrives in one receive together with its header: copying that from a warm cache costs less than the system call
 * that would separate them.
 */
unsigned pst_conn_want(struct pst_conn *conn, struct iovec *iov, unsigned max);

/* The first @bytes (1 or more) of what pst_conn_want gave have been filled. */
void pst_conn_got(struct pst_conn *conn, size_t bytes);

/*
 * The most bytes (1 or more) that one output holds, and one want asks for, from now on; at first as many as their
 * entries hold.
 */
void pst_conn_set_output_max(struct pst_conn *conn, size_t bytes);
void pst_conn_set_input_max(struct pst_conn *conn, size_t bytes);

/*
 * What to send: fills up to @max (at least 1) entries with as many PDUs as fit, returns how many entries; 0: nothing to
 * send. The bytes stay valid until pst_conn_sent, whatever happens meanwhile. One output at a time.
 */
unsigned pst_conn_output(struct pst_conn *conn, struct iovec *iov, unsigned max);

/* The first @bytes of what pst_conn_output gave have been taken by the transport; call it once per output. */
void pst_conn_sent(struct pst_conn *conn, size_t bytes);

/* The stream is gone; see above. Harmless when called again. */
void pst_conn_fail(struct pst_conn *conn);

/* ---- Events ---- */

enum pst_conn_event_kind {
	PST_CONN_READY,      /* ICReq and ICResp are through */
	PST_CONN_COMMAND,    /* target: a command; err PST_E_CHECKSUM: its in-capsule data is damaged */
	PST_CONN_DATA,       /* target: end of a pull; err PST_OK, PST_E_CHECKSUM (data digest), PST_E_CLOSED */
	PST_CONN_RELEASED,   /* target: the command is over and its buffers are free */
	PST_CONN_RESPONSE,   /* host: the command is over; err as below, buffers are free */
	PST_CONN_TERMINATED, /* the peer sent a TermReq (error); nothing more comes or goes */
	PST_CONN_FAILED,     /* the peer broke the protocol (error); a TermReq is on its way out, nothing more comes */
};

struct pst_conn_event {
	enum pst_conn_event_kind kind;
	pst_err err;
	struct pst_conn_cmd *cmd; /* COMMAND, DATA; for RELEASED and RESPONSE only until the next call */
	struct nvme_cqe cqe;      /* RESPONSE with PST_OK or PST_E_CHECKSUM (data digest of data received was wrong) */
	struct pst_pdu_error error; /* TERMINATED, FAILED */
};

/* True with the next event; false when there is none now. */
bool pst_conn_next_event(struct pst_conn *conn, struct pst_conn_event *ret_event);

/*
 * Target: the commands whose capsules are in memory already, from the next one on, in order; fills up to @max entries,
 * which are valid until the next call. Nothing of them has been checked, and the events may tell something else: good
 * for hints only.
 */
unsigned pst_conn_peek(const struct pst_conn *conn, const struct nvme_sqe **sqes, unsigned max);

/* ---- Orders of a target ---- */

/*
 * After a successful Connect: entries of the submission queue, for SQHD, and whether SQ flow control is in use; without
 * it the SUCCESS flag replaces responses where it can.
 */
void pst_conn_set_queue(struct pst_conn *conn, uint32_t sq_entries, bool flow_control);

/*
 * Pull @bytes (1 or more) of data for @cmd into @iov (which sums to at least that). R2Ts go out, one at a time
 * and none longer than MAXH2CDATA. A DATA event ends it. Once per command.
 */
void pst_conn_pull(struct pst_conn *conn, struct pst_conn_cmd *cmd, const struct iovec *iov, uint32_t iov_count,
		   uint32_t bytes);

struct pst_conn_result {
	uint16_t status; /* SCT << 8 | SC, with NVME_STATUS_DNR */
	uint32_t dw0, dw1;
};

/*
 * Answer @cmd: send @bytes of @iov (0 for none) and the response. CID and SQHD are filled in. Once per command, also
 * after a failure; not between pst_conn_pull and its DATA event. A RELEASED event ends it.
 */
void pst_conn_answer(struct pst_conn *conn, struct pst_conn_cmd *cmd, const struct pst_conn_result *result,
		     const struct iovec *iov, uint32_t iov_count, uint32_t bytes);

/* ---- Orders of a host ---- */

enum pst_conn_dir { PST_CONN_NO_DATA, PST_CONN_DATA_OUT, PST_CONN_DATA_IN };

struct pst_conn_xfer {
	enum pst_conn_dir dir;
	uint32_t bytes;
	const struct iovec *iov; /* the transfer begins @skip_bytes into it */
	uint32_t iov_count;
	uint64_t skip_bytes;
};

/*
 * Send a command. CID, PSDT and SGL of @sqe are filled in: in-capsule for data out that fits, else the transport SGL.
 * NULL when commands_max are outstanding, or the connection is not ready or failed. A RESPONSE event ends it.
 */
struct pst_conn_cmd *pst_conn_submit(struct pst_conn *conn, const struct nvme_sqe *sqe,
				     const struct pst_conn_xfer *xfer, void *owner);

/* From Identify: IOCCSZ * 16 - 64, for I/O queues. At most config.incapsule_bytes are ever sent in a capsule. */
void pst_conn_set_incapsule(struct pst_conn *conn, uint32_t bytes);

/*
 * From now on data of a Write may stay where it was received, at any address, until the command is over: for owners to
 * whom an aligned buffer is not worth a copy. It is in cmd->data then, also what was pulled (PST_CONN_DATA), and not in
 * the buffers for it. Takes two more stages when it is first used.
 */
void pst_conn_set_in_place(struct pst_conn *conn);

/* ---- State ---- */

enum pst_conn_state {
	PST_CONN_STATE_IC, /* waits for ICReq or ICResp */
	PST_CONN_STATE_READY,
	PST_CONN_STATE_CLOSING, /* TermReq queued, sent or received; input is thrown away */
	PST_CONN_STATE_DEAD,    /* pst_conn_fail */
};

enum pst_conn_state pst_conn_state(const struct pst_conn *conn);

/* When the connection is to be given up if it has not become READY: config.ic_deadline_ns; 0 once it has. */
uint64_t pst_conn_deadline_ns(const struct pst_conn *conn);

/* CLOSING with everything sent: nothing is left but to close the stream (after a bounded wait for the peer's end). */
bool pst_conn_finished(const struct pst_conn *conn);

/* Commands in flight (target: until RELEASED; host: until RESPONSE). */
uint32_t pst_conn_busy(const struct pst_conn *conn);

#endif
