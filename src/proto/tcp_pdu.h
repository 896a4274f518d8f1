/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVMe/TCP PDUs (TCP 1.0, 3.6.2.1 to 3.6.2.10): wire structures, the one table of PDU types, and
 * the pure validator that says for every malformed header which Fatal Error Status and Information it deserves.
 * No state, no I/O; any thread.
 */
#ifndef PST_PROTO_TCP_PDU_H
#define PST_PROTO_TCP_PDU_H

#include "proto/nvme.h"

enum nvme_tcp_pdu_type {
	NVME_TCP_ICREQ = 0x00,
	NVME_TCP_ICRESP = 0x01,
	NVME_TCP_H2C_TERM = 0x02,
	NVME_TCP_C2H_TERM = 0x03,
	NVME_TCP_CMD = 0x04,
	NVME_TCP_RESP = 0x05,
	NVME_TCP_H2C_DATA = 0x06,
	NVME_TCP_C2H_DATA = 0x07,
	NVME_TCP_R2T = 0x09,
	NVME_TCP_PDU_TYPES = 0x0a,
};

enum {
	NVME_TCP_F_HDGST = 1,
	NVME_TCP_F_DDGST = 2,
	NVME_TCP_F_LAST = 4,
	NVME_TCP_F_SUCCESS = 8,
};

#define NVME_TCP_DIGEST_BYTES 4u
#define NVME_TCP_HEADER_MAX 128u    /* longest header, and longest distance from header to data (32 dwords) */
#define NVME_TCP_TERM_MAX 152u      /* PLEN of a TermReq */
#define NVME_TCP_ALIGN_CODE_MAX 31u /* HPDA, CPDA: 0-based dwords */
#define NVME_TCP_MAXH2CDATA_MIN 4096u
#define NVME_TCP_ADMIN_INCAPSULE_BYTES 8192u /* the admin queue takes that much data in a capsule regardless */

/* Common header (TCP 1.0, 3.6.2.1). PLEN counts header, digests, padding and data. */
struct nvme_tcp_ch {
	uint8_t type, flags, hlen, pdo;
	nvme_le32 plen;
} __attribute__((packed));

struct nvme_tcp_icreq {
	struct nvme_tcp_ch ch;
	nvme_le16 pfv;
	uint8_t hpda;
	uint8_t dgst;     /* bit 0 header, bit 1 data */
	nvme_le32 maxr2t; /* 0-based */
	uint8_t reserved[112];
} __attribute__((packed));

struct nvme_tcp_icresp {
	struct nvme_tcp_ch ch;
	nvme_le16 pfv;
	uint8_t cpda;
	uint8_t dgst;
	nvme_le32 maxh2cdata;
	uint8_t reserved[112];
} __attribute__((packed));

struct nvme_tcp_term {
	struct nvme_tcp_ch ch;
	nvme_le16 fes;
	nvme_le32 fei;
	uint8_t reserved[10];
} __attribute__((packed));

struct nvme_tcp_cmd {
	struct nvme_tcp_ch ch;
	struct nvme_sqe sqe;
} __attribute__((packed));

struct nvme_tcp_resp {
	struct nvme_tcp_ch ch;
	struct nvme_cqe cqe;
} __attribute__((packed));

/* H2CData and C2HData; TTAG is reserved in the latter. */
struct nvme_tcp_data {
	struct nvme_tcp_ch ch;
	nvme_le16 cccid;
	nvme_le16 ttag;
	nvme_le32 datao;
	nvme_le32 datal;
	uint8_t reserved[4];
} __attribute__((packed));

struct nvme_tcp_r2t {
	struct nvme_tcp_ch ch;
	nvme_le16 cccid;
	nvme_le16 ttag;
	nvme_le32 r2to;
	nvme_le32 r2tl;
	uint8_t reserved[4];
} __attribute__((packed));

_Static_assert(sizeof(struct nvme_tcp_ch) == 8, "common header");
_Static_assert(sizeof(struct nvme_tcp_icreq) == 128, "ICReq");
_Static_assert(sizeof(struct nvme_tcp_icresp) == 128, "ICResp");
_Static_assert(sizeof(struct nvme_tcp_term) == 24, "TermReq");
_Static_assert(sizeof(struct nvme_tcp_cmd) == 72, "CapsuleCmd");
_Static_assert(sizeof(struct nvme_tcp_resp) == 24, "CapsuleResp");
_Static_assert(sizeof(struct nvme_tcp_data) == 24, "H2CData, C2HData");
_Static_assert(sizeof(struct nvme_tcp_r2t) == 24, "R2T");

/* Fatal Error Status of a TermReq (TCP 1.0, 3.6.2.4 and 3.6.2.5) */
enum nvme_tcp_fes {
	NVME_TCP_FES_FIELD = 1,       /* FEI: offset of the field in the header */
	NVME_TCP_FES_SEQUENCE = 2,    /* a PDU that may not come now */
	NVME_TCP_FES_HDGST = 3,       /* FEI: the digest received */
	NVME_TCP_FES_RANGE = 4,       /* data outside of the command's or R2T's range */
	NVME_TCP_FES_LIMIT = 5,       /* more data than MAXH2CDATA or the capsule size; more R2Ts than MAXR2T */
	NVME_TCP_FES_UNSUPPORTED = 6, /* FEI: offset of the parameter */
};

enum pst_pdu_sender { PST_PDU_FROM_HOST = 1, PST_PDU_FROM_CONTROLLER = 2 };

/* What every PDU type looks like. name is NULL for types that don't exist. */
struct pst_pdu_kind {
	const char *name;
	uint8_t sender; /* enum pst_pdu_sender */
	uint8_t hlen;
	uint8_t flags; /* the legal ones */
	bool has_data; /* may carry data (and so DDGST, and a PDO) */
	bool digests;  /* HDGST and DDGST apply once negotiated */
};

extern const struct pst_pdu_kind pst_pdu_kinds[NVME_TCP_PDU_TYPES];

struct pst_pdu_error {
	uint16_t fes; /* 0: none */
	uint32_t fei;
};

/* What the receiver knows when a header arrives. */
struct pst_pdu_limits {
	uint8_t sender; /* who the peer is */
	bool connected; /* ICReq/ICResp is through */
	bool header_digest, data_digest;
	uint32_t align_bytes;   /* PDO of incoming data is a multiple of this: (HPDA or CPDA of the receiver + 1) * 4 */
	uint32_t incapsule_max; /* longest data in a CapsuleCmd */
	uint32_t maxh2cdata;    /* longest data in a H2CData */
};

/*
 * Checks the common header against table and limits. True when it is sound; then *ret_data_bytes is the length of its
 * data (0 where it carries none). Else *ret_error is what the TermReq has to say. Reads exactly the 8 bytes of @ch.
 */
bool pst_pdu_check(const struct nvme_tcp_ch *ch, const struct pst_pdu_limits *limits, uint32_t *ret_data_bytes,
		   struct pst_pdu_error *ret_error);

/* The rest of an ICReq or ICResp (128 bytes) whose common header was sound. */
bool pst_pdu_check_ic(const void *pdu, struct pst_pdu_error *ret_error);

/* "field 4 of the header" and the like, for logs: static text of @fes. */
const char *pst_pdu_fes_text(uint16_t fes);

#endif
