/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the connection engine: shared by conn.c (life and events), conn-rx.c (bytes in), conn-tx.c (bytes out). */
#ifndef PST_PROTO_CONN_IMPL_H
#define PST_PROTO_CONN_IMPL_H

#include "base/crc32c.h"
#include "proto/conn.h"
#include "proto/cursor.h"

#define STAGE_BYTES 65536u      /* several PDUs in one receive */
#define STAGE_BYTES_MAX 262144u /* from when that was too short for what had come */
#define STAGES 3u               /* where the data of writes may stay until its command is over */
#define STAGE_REST_BYTES 128u   /* more than what is left of a receive when the next one begins: part of a header */

/* One entry of the send queue: head, then data, then tail. */
struct tx_item {
	struct pst_list node;
	const struct iovec *iov;
	uint32_t iov_count;
	uint32_t data_bytes;
	uint64_t skip_bytes; /* the data begins that far into iov */
	uint16_t head_bytes, tail_bytes;
	bool queued;
	uint8_t tail[32];
	uint8_t head[NVME_TCP_TERM_MAX];
};

struct stage {
	uint8_t *memory; /* NULL: not needed so far */
	uint32_t users;  /* commands whose data lies in it: it must not change */
};

enum slot_phase {
	SLOT_FREE,
	SLOT_FILL,   /* target: in-capsule data is being received */
	SLOT_OPEN,   /* target: with the owner */
	SLOT_PULL,   /* target: R2T queued or out, data awaited */
	SLOT_ANSWER, /* target: answered; over when that has been sent */
	SLOT_WAIT,   /* host: submitted; over when the response has come and everything queued has been sent */
};

struct slot {
	struct pst_conn_cmd cmd; /* first: the owner's view */
	struct pst_list node;    /* in free or ready */
	struct tx_item tx;
	enum slot_phase phase;
	uint16_t index;
	uint16_t cid;   /* host: index and generation, as on the wire */
	bool done;      /* PULL: all data is here. WAIT: the response is here. */
	bool capsule;   /* host: tx is the command capsule, else H2CData */
	bool last_seen; /* host: C2HData with LAST */
	bool r2t_waits; /* host: part of an R2T is still to be put into H2CData */
	enum pst_conn_dir dir;
	pst_err err;
	uint16_t ttag;           /* host: of the R2T being answered */
	const struct iovec *iov; /* the owner's buffers: pull, or submit */
	uint32_t iov_count;
	uint64_t skip_bytes;
	uint32_t bytes;
	uint32_t rx_bytes;          /* arrived so far */
	uint32_t r2t_from, r2t_end; /* target: R2T outstanding. Host: still to be sent of the R2T */
	struct iovec capsule_iov;   /* target: in-capsule buffer */
	struct stage *stage;        /* target: the data of a write lies here; NULL: in a buffer */
	struct nvme_cqe cqe;        /* host */
};

enum rx_state { RX_HEADER, RX_PAD, RX_DATA, RX_DDGST };

struct pst_conn {
	struct pst_conn_config config;
	enum pst_conn_state state;
	struct pst_pdu_limits limits; /* for incoming headers */

	/* Agreed in ICReq and ICResp. */
	bool header_digest, data_digest;
	uint32_t tx_align_bytes;
	uint32_t peer_maxh2cdata; /* host */

	uint32_t incapsule_bytes; /* host: what may go into a capsule */
	uint32_t sq_entries, sq_head;
	bool flow_control;

	struct slot *slots;
	uint32_t slot_count, busy;
	uint32_t slots_used; /* those from here on have never been touched: their memory is not resident */
	struct pst_list free, ready;

	uint8_t *capsule_memory;
	uint8_t **capsule_free;
	uint32_t capsule_free_count;

	/* Events of the connection itself, not yet told. */
	bool ready_untold, closing_untold, terminated_by_peer;
	struct pst_pdu_error error;

	/* Send queue. The first tx_offset bytes of its first item have been sent; tx_inflight more are in an output. */
	struct pst_list tx;
	size_t tx_offset, tx_inflight, output_bytes_max;
	struct tx_item ic, term;

	/* Receive. Bytes [stage_from, stage_to) of stage are not parsed yet. */
	enum rx_state rx_state;
	size_t input_bytes_max;
	bool rx_parked;       /* a command waits for a slot or an in-capsule buffer */
	struct slot *rx_slot; /* whose data it is */
	struct pst_iovcur rx_cur;
	uint32_t rx_left;       /* padding or data bytes to come */
	uint32_t rx_data_bytes; /* of this PDU */
	uint32_t rx_crc;
	bool rx_success, rx_last;
	size_t want_direct; /* of the last want: bytes that go straight into rx_cur */
	bool in_place;      /* data of writes may stay where it was received */
	struct stage stages[STAGES];
	struct stage *stage;
	size_t stage_from, stage_to, stage_bytes;
};

/* conn.c */
bool conn_slot_free(const struct pst_conn *conn); /* there is one to get */
struct slot *conn_slot_get(struct pst_conn *conn);
void conn_slot_settle(struct pst_conn *conn, struct slot *slot);
void conn_close(struct pst_conn *conn, bool by_peer, struct pst_pdu_error error);
void conn_established(struct pst_conn *conn);

bool conn_stage_ready(struct stage *stage); /* it has memory */

/* conn-rx.c: parses what is staged; true with an event. */
bool conn_rx_event(struct pst_conn *conn, struct pst_conn_event *ret_event);

/* conn-tx.c */
void conn_tx_queue(struct pst_conn *conn, struct tx_item *item);
bool conn_tx_begun(const struct pst_conn *conn, const struct tx_item *item);
void conn_tx_drop(struct pst_conn *conn, bool begun_too);
void conn_tx_icreq(struct pst_conn *conn);
void conn_tx_icresp(struct pst_conn *conn);
void conn_tx_term(struct pst_conn *conn, struct pst_pdu_error error, const void *header, size_t header_bytes);
void conn_tx_r2t(struct pst_conn *conn, struct slot *slot);
void conn_tx_h2c_data(struct pst_conn *conn, struct slot *slot);
void conn_tx_answer(struct pst_conn *conn, struct slot *slot, const struct pst_conn_result *result);
void conn_tx_command(struct pst_conn *conn, struct slot *slot);

static inline struct slot *slot_of(struct pst_conn_cmd *cmd)
{
	return pst_container_of(cmd, struct slot, cmd);
}

#endif
