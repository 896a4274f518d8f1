/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PDU table and the header validator. Order of the checks, and so which error a header with several faults gets:
 * type, direction, sequence, HLEN, flags, PLEN, PDO, limits. FEI is the offset of the field (TCP 1.0, 3.6.2.4
 * and 3.6.2.5) where the FES is about a field.
 */
#include "proto/tcp_pdu.h"

#define HD NVME_TCP_F_HDGST
#define DD NVME_TCP_F_DDGST
#define LAST NVME_TCP_F_LAST

const struct pst_pdu_kind pst_pdu_kinds[NVME_TCP_PDU_TYPES] = {
	[NVME_TCP_ICREQ] = { "ICReq", PST_PDU_FROM_HOST, 128, 0, false, false },
	[NVME_TCP_ICRESP] = { "ICResp", PST_PDU_FROM_CONTROLLER, 128, 0, false, false },
	[NVME_TCP_H2C_TERM] = { "H2CTermReq", PST_PDU_FROM_HOST, 24, 0, false, false },
	[NVME_TCP_C2H_TERM] = { "C2HTermReq", PST_PDU_FROM_CONTROLLER, 24, 0, false, false },
	[NVME_TCP_CMD] = { "CapsuleCmd", PST_PDU_FROM_HOST, 72, HD | DD, true, true },
	[NVME_TCP_RESP] = { "CapsuleResp", PST_PDU_FROM_CONTROLLER, 24, HD, false, true },
	[NVME_TCP_H2C_DATA] = { "H2CData", PST_PDU_FROM_HOST, 24, HD | DD | LAST, true, true },
	[NVME_TCP_C2H_DATA] = { "C2HData", PST_PDU_FROM_CONTROLLER, 24, HD | DD | LAST | NVME_TCP_F_SUCCESS, true,
				true },
	[NVME_TCP_R2T] = { "R2T", PST_PDU_FROM_CONTROLLER, 24, HD, false, true },
};

static bool fail(struct pst_pdu_error *ret_error, uint16_t fes, uint32_t fei)
{
	*ret_error = (struct pst_pdu_error){ fes, fei };
	return false;
}

#define FIELD(name) ((uint32_t)offsetof(struct nvme_tcp_ch, name))

/* A type that comes from the peer, now. */
static bool check_type(const struct nvme_tcp_ch *ch, const struct pst_pdu_limits *limits, struct pst_pdu_error *error)
{
	if (ch->type >= NVME_TCP_PDU_TYPES || pst_pdu_kinds[ch->type].name == NULL ||
	    pst_pdu_kinds[ch->type].sender != limits->sender)
		return fail(error, NVME_TCP_FES_FIELD, FIELD(type));
	if (ch->type == NVME_TCP_H2C_TERM || ch->type == NVME_TCP_C2H_TERM)
		return true;
	/* TCP 1.0, 3.1: ICReq and ICResp come first and once. */
	if ((ch->type == NVME_TCP_ICREQ || ch->type == NVME_TCP_ICRESP) == limits->connected)
		return fail(error, NVME_TCP_FES_SEQUENCE, 0);
	return true;
}

/* PDO, PLEN and the data limits of a PDU that carries data; @start is where header and digest end. */
static bool check_data(const struct nvme_tcp_ch *ch, const struct pst_pdu_limits *limits, uint32_t start,
		       uint32_t *ret_data_bytes, struct pst_pdu_error *error)
{
	uint32_t digest = ch->flags & NVME_TCP_F_DDGST ? NVME_TCP_DIGEST_BYTES : 0;
	uint32_t plen = nvme_get32(ch->plen), bytes;

	if (ch->pdo < start || ch->pdo % limits->align_bytes != 0)
		return fail(error, NVME_TCP_FES_FIELD, FIELD(pdo));
	if (plen <= ch->pdo + digest)
		return fail(error, NVME_TCP_FES_FIELD, FIELD(plen));
	bytes = plen - ch->pdo - digest;
	if ((ch->type == NVME_TCP_CMD && bytes > limits->incapsule_max) ||
	    (ch->type == NVME_TCP_H2C_DATA && bytes > limits->maxh2cdata))
		return fail(error, NVME_TCP_FES_LIMIT, 0);
	*ret_data_bytes = bytes;
	return true;
}

bool pst_pdu_check(const struct nvme_tcp_ch *ch, const struct pst_pdu_limits *limits, uint32_t *ret_data_bytes,
		   struct pst_pdu_error *ret_error)
{
	const struct pst_pdu_kind *kind;
	uint32_t plen = nvme_get32(ch->plen), start;
	uint8_t must = 0, may;
	bool data;

	if (!check_type(ch, limits, ret_error))
		return false;
	kind = &pst_pdu_kinds[ch->type];
	if (ch->hlen != kind->hlen)
		return fail(ret_error, NVME_TCP_FES_FIELD, FIELD(hlen));
	if (kind->digests && limits->header_digest)
		must |= NVME_TCP_F_HDGST;
	start = kind->hlen + (must ? NVME_TCP_DIGEST_BYTES : 0);
	/* Only a CapsuleCmd may come with or without data. */
	data = kind->has_data && (ch->type != NVME_TCP_CMD || plen > start);
	if (data && limits->data_digest)
		must |= NVME_TCP_F_DDGST;
	may = must | (kind->flags & ~(NVME_TCP_F_HDGST | NVME_TCP_F_DDGST));
	if ((ch->flags & must) != must || (ch->flags & ~may) != 0)
		return fail(ret_error, NVME_TCP_FES_FIELD, FIELD(flags));
	if (data)
		return check_data(ch, limits, start, ret_data_bytes, ret_error);
	if (ch->type == NVME_TCP_H2C_TERM || ch->type == NVME_TCP_C2H_TERM ? plen < start || plen > NVME_TCP_TERM_MAX
									   : plen != start)
		return fail(ret_error, NVME_TCP_FES_FIELD, FIELD(plen));
	*ret_data_bytes = 0;
	return true;
}

bool pst_pdu_check_ic(const void *pdu, struct pst_pdu_error *ret_error)
{
	const struct nvme_tcp_icreq *req = pdu;
	const struct nvme_tcp_icresp *resp = pdu;

	/* PFV, HPDA/CPDA and DGST lie at the same offsets in both. */
	if (nvme_get16(req->pfv) != 0)
		return fail(ret_error, NVME_TCP_FES_UNSUPPORTED, offsetof(struct nvme_tcp_icreq, pfv));
	if (req->hpda > NVME_TCP_ALIGN_CODE_MAX)
		return fail(ret_error, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_icreq, hpda));
	if ((req->dgst & ~3u) != 0)
		return fail(ret_error, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_icreq, dgst));
	if (req->ch.type == NVME_TCP_ICRESP &&
	    (nvme_get32(resp->maxh2cdata) < NVME_TCP_MAXH2CDATA_MIN || nvme_get32(resp->maxh2cdata) % 4 != 0))
		return fail(ret_error, NVME_TCP_FES_FIELD, offsetof(struct nvme_tcp_icresp, maxh2cdata));
	return true;
}

const char *pst_pdu_fes_text(uint16_t fes)
{
	static const char *const texts[] = {
		[0] = "no error",
		[NVME_TCP_FES_FIELD] = "invalid PDU header field",
		[NVME_TCP_FES_SEQUENCE] = "PDU sequence error",
		[NVME_TCP_FES_HDGST] = "header digest error",
		[NVME_TCP_FES_RANGE] = "data transfer out of range",
		[NVME_TCP_FES_LIMIT] = "data transfer or R2T limit exceeded",
		[NVME_TCP_FES_UNSUPPORTED] = "unsupported parameter",
	};

	return fes < PST_ARRAY_COUNT(texts) ? texts[fes] : "unknown fatal error status";
}
