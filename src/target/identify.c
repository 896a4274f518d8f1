/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per data structure, fields in the order of the specification's figures, each with its byte offset.
 * Everything not named is zero: "not supported" or "not reported".
 */
#include "target/identify.h"
#include "base/le.h"

#include <string.h>

#define BLOCK_SHIFT 12u /* LBADS: 4096-byte blocks */

void pst_identify_text(uint8_t *to, size_t field_bytes, const char *text)
{
	size_t len_bytes = strnlen(text, field_bytes);

	memset(to, ' ', field_bytes);
	memcpy(to, text, len_bytes);
}

void pst_identify_nguid(const uint8_t uuid[16], uint8_t ret[16])
{
	/* Any fixed bijection keeps identifiers unique; this one is its own inverse and easy to undo by eye. */
	for (unsigned i = 0; i < 16; i++)
		ret[i] = (uint8_t)~uuid[15 - i];
}

static uint8_t log2_u32(uint32_t v)
{
	return (uint8_t)(31 - __builtin_clz(v));
}

/* Base 2.0, 5.17.2.1. Bytes 0 to 511: capabilities that admin commands have. */
static void controller_admin_part(const struct pst_identify_ctrl *c, uint8_t *p)
{
	pst_identify_text(p + 4, 20, c->serial);
	pst_identify_text(p + 24, 40, c->model);
	pst_identify_text(p + 64, 8, c->firmware);
	p[76] = 1u << 1 |
		(c->discovery ? 0 : 1u << 3 | 1u); /* CMIC: several controllers; ANA (Base 2.0, 8.1); several ports */
	p[77] = log2_u32(c->transfer_bytes_max) - BLOCK_SHIFT; /* MDTS, in units of 2^(12 + MPSMIN 0) */
	pst_put_le16(p + 78, c->cntlid);                       /* CNTLID: the same as in Connect's response */
	pst_put_le32(p + 80, PST_TARGET_VERSION);              /* VER */
	/* OAES: discovery log; or ANA and namespace attributes */
	pst_put_le32(p + 92, c->discovery ? 1u << 31 : 1u << 11 | 1u << 8);
	pst_put_le32(p + 96, 1u << 0);                  /* CTRATT: 128-bit host identifier */
	p[111] = c->discovery ? 2 : 1;                  /* CNTRLTYPE */
	p[258] = PST_TARGET_ABORT_MAX - 1;              /* ACL, 0-based */
	p[259] = PST_TARGET_AER_MAX - 1;                /* AERL, 0-based */
	p[260] = 1u << 1 | 1u;                          /* FRMW: one slot, read-only */
	p[261] = 1u << 5 | 1u << 2 | 1u << 1;           /* LPA: supported pages, offsets, effects */
	p[262] = PST_TARGET_ERROR_LOG_MAX - 1;          /* ELPE, 0-based */
	pst_put_le16(p + 266, 343);                     /* WCTEMP: 70 C */
	pst_put_le16(p + 268, 373);                     /* CCTEMP: 100 C */
	pst_put_le16(p + 320, PST_TARGET_KAS_MS / 100); /* KAS, units of 100 ms */
	if (!c->discovery) {
		p[342] = PST_TARGET_ANATT_S;              /* ANATT */
		p[343] = 0x1f;                            /* ANACAP: all five states; a namespace's group may change */
		pst_put_le32(p + 344, c->ana_groups_max); /* ANAGRPMAX */
		pst_put_le32(p + 348, c->ana_groups_max); /* NANAGRPID */
	}
}

/* Bytes 512 to 2047: NVM command set, Fabrics, SGLs. */
static void controller_nvm_part(const struct pst_identify_ctrl *c, uint8_t *p)
{
	p[512] = 0x66;                                         /* SQES: 64 bytes */
	p[513] = 0x44;                                         /* CQES: 16 bytes */
	pst_put_le16(p + 514, (uint16_t)c->queue_entries_max); /* MAXCMD */
	pst_put_le32(p + 516, c->nsid_max);                    /* NN */
	if (!c->discovery) {
		/* ONCS: copy, reservations, features' select, write zeroes, DSM, compare. Verify without bit 7 and with
		 * VSL, which is a limit then (NVM 1.0, 3.2.5). */
		pst_put_le16(p + 520, 1u << 8 | 1u << 5 | 1u << 4 | 1u << 3 | 1u << 2 | 1u);
		pst_put_le16(p + 522, 1u);          /* FUSES: compare and write */
		pst_put_le16(p + 532, 0);           /* ACWU (NVM 1.0, 4.1.5.2), 0-based: of one block */
		pst_put_le16(p + 534, 1u);          /* copy descriptor formats: 0 */
		p[525] = 3u << 1 | 1u;              /* VWC: present; flush takes one or all NSIDs */
		pst_put_le32(p + 540, c->nsid_max); /* MNAN */
	}
	/* SGLS: supported, no alignment wanted (bits 1:0 = 01b), transport data block (bit 21), address field of a data
	 * block is an offset into the capsule (bit 20). */
	pst_put_le32(p + 536, 1u << 21 | 1u << 20 | 1u);
	memcpy(p + 768, c->subnqn, strnlen(c->subnqn, 255));    /* SUBNQN, ended by zeros */
	pst_put_le32(p + 1792, (64 + c->incapsule_bytes) / 16); /* IOCCSZ */
	pst_put_le32(p + 1796, 1);                              /* IORCSZ: one completion */
	pst_put_le16(p + 1800, 0);                              /* ICDOFF */
	p[1802] = 0;                                            /* FCATT: dynamic controllers */
	p[1803] = 1;                                            /* MSDBD: one descriptor */
}

void pst_identify_controller(const struct pst_identify_ctrl *c, uint8_t ret[PST_IDENTIFY_BYTES])
{
	memset(ret, 0, PST_IDENTIFY_BYTES);
	controller_admin_part(c, ret);
	controller_nvm_part(c, ret);
	pst_put_le16(ret + 2048, 2500); /* power state 0: 25 W, the only one; hosts want to see one */
}

/* RESCAP: IEKEY as in revision 1.3 and later (bit 7), all six types (6:1), persist through power loss (0). */
static uint8_t reservation_capabilities(const struct pst_identify_ns *ns)
{
	return 0xfe | (ns->keeps_reservations ? 1 : 0);
}

/* NVM 1.0, 4.1.5.1 */
void pst_identify_namespace(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES])
{
	memset(ret, 0, PST_IDENTIFY_BYTES);
	pst_put_le64(ret + 0, ns->block_count);                            /* NSZE */
	pst_put_le64(ret + 8, ns->block_count);                            /* NCAP */
	pst_put_le64(ret + 16, PST_MIN(ns->used_blocks, ns->block_count)); /* NUSE */
	ret[24] = 1u << 3 | 1u << 0;                                       /* NSFEAT: ids not reused, thin */
	ret[25] = 0;                                                       /* NLBAF: one format */
	ret[30] = 1;                                                       /* NMIC: shared */
	ret[31] = reservation_capabilities(ns);                            /* RESCAP */
	ret[33] = 1u << 3 | 1u; /* DLFEAT: write zeroes may deallocate; freed blocks read as zeros */
	pst_put_le16(ret + 74, PST_TARGET_COPY_BLOCKS_MAX); /* MSSRL */
	pst_put_le32(ret + 76, PST_TARGET_COPY_BLOCKS_MAX); /* MCL */
	ret[80] = PST_TARGET_COPY_RANGES_MAX - 1;           /* MSRC, 0-based */
	pst_put_le32(ret + 92, ns->ana_group);              /* ANAGRPID */
	pst_identify_nguid(ns->uuid, ret + 104);            /* NGUID; EUI64 stays 0: we have no OUI */
	ret[130] = BLOCK_SHIFT;                             /* LBAF0: LBADS; no metadata, best performance */
}

void pst_identify_namespace_independent(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES])
{
	memset(ret, 0, PST_IDENTIFY_BYTES);
	ret[0] = 1u << 3; /* NSFEAT: ids not reused */
	ret[1] = 1;       /* NMIC: shared */
	ret[2] = reservation_capabilities(ns);
	pst_put_le32(ret + 4, ns->ana_group);
	ret[14] = 1; /* NSTAT: ready */
}

/* NVM 1.0, 4.1.5.4 */
void pst_identify_controller_nvm(uint8_t ret[PST_IDENTIFY_BYTES])
{
	memset(ret, 0, PST_IDENTIFY_BYTES);
	/* Linux takes MDTS for WZSL where it is 0; this is the most that the 16 bits of NLB can ask for (256 MiB).
	 * A whole volume may be freed by one command; but DMRL, DMRSL and DMSL are either all 0 or none (3.2.3). */
	ret[0] = PST_TARGET_VERIFY_SHIFT;       /* VSL */
	ret[1] = 16;                            /* WZSL: 2^16 units of 4096 bytes */
	ret[3] = PST_TARGET_DSM_RANGES_MAX - 1; /* DMRL, 255 at most */
	pst_put_le32(ret + 4, UINT32_MAX);      /* DMRSL */
	pst_put_le64(ret + 8, UINT64_MAX);      /* DMSL */
}

void pst_identify_descriptors(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES])
{
	uint8_t *p = ret;

	memset(ret, 0, PST_IDENTIFY_BYTES);
	p[0] = 2; /* NIDT: NGUID */
	p[1] = 16;
	pst_identify_nguid(ns->uuid, p + 4);
	p += 20;
	p[0] = 3; /* NIDT: UUID */
	p[1] = 16;
	memcpy(p + 4, ns->uuid, 16);
	p += 20;
	p[0] = 4; /* NIDT: command set identifier, 00h NVM */
	p[1] = 1;
}

void pst_identify_active_list(uint32_t nsid, uint32_t after, uint8_t ret[PST_IDENTIFY_BYTES])
{
	memset(ret, 0, PST_IDENTIFY_BYTES);
	if (nsid > after)
		pst_put_le32(ret, nsid);
}

void pst_identify_controllers_add(uint16_t cntlid, uint8_t list[PST_IDENTIFY_BYTES])
{
	uint16_t count = pst_get_le16(list), at = count;

	while (at > 0 && pst_get_le16(list + 2 * at) > cntlid) /* entries are behind the count */
		at--;
	if (at == PST_IDENTIFY_CONTROLLERS_MAX)
		return;
	if (count == PST_IDENTIFY_CONTROLLERS_MAX)
		count--;
	memmove(list + 2 * at + 4, list + 2 * at + 2, 2 * (size_t)(count - at));
	pst_put_le16(list + 2 * at + 2, cntlid);
	pst_put_le16(list, count + 1);
}
