/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identify data (Base 2.0, 5.17; NVM 1.0, 4.1.5.1 and on) as bytes. Pure: facts in, 4096 bytes out.
 */
#ifndef PST_TARGET_IDENTIFY_H
#define PST_TARGET_IDENTIFY_H

#include "base/base.h"

#define PST_IDENTIFY_BYTES 4096u

/* What we say of ourselves in more than one place. */
#define PST_TARGET_VERSION 0x00020000u /* VS: 2.0.0 */
#define PST_TARGET_AER_MAX 4u          /* Asynchronous Event Requests outstanding per controller */
#define PST_TARGET_ABORT_MAX 4u        /* Aborts outstanding per controller */
#define PST_TARGET_ERROR_LOG_MAX 16u   /* entries of the Error Information log */
#define PST_TARGET_KAS_MS 100u         /* granularity of the keep alive timer */
#define PST_TARGET_ANATT_S 10u         /* how long a path may be in the state "change" */
#define PST_TARGET_DSM_RANGES_MAX 256u
#define PST_TARGET_COPY_BLOCKS_MAX 256u /* MSSRL, MCL: of a source range, and of all */
#define PST_TARGET_COPY_RANGES_MAX 16u  /* MSRC + 1 */
#define PST_TARGET_VERIFY_SHIFT 10u     /* VSL: 2^10 units of 4096 bytes */

struct pst_identify_ctrl {
	bool discovery;
	uint16_t cntlid;
	const char *serial, *model, *firmware, *subnqn;
	uint32_t transfer_bytes_max; /* MDTS */
	uint32_t incapsule_bytes;    /* I/O queues; 0 on a discovery controller */
	uint32_t queue_entries_max;
	uint32_t nsid_max;
	uint32_t ana_groups_max; /* ANAGRPMAX, NANAGRPID; 0 on a discovery controller */
};

void pst_identify_controller(const struct pst_identify_ctrl *c, uint8_t ret[PST_IDENTIFY_BYTES]);

struct pst_identify_ns {
	uint32_t nsid;
	uint64_t block_count;
	uint64_t used_blocks;
	bool keeps_reservations; /* through power loss */
	uint32_t ana_group;
	uint8_t uuid[16];
};

void pst_identify_namespace(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES]);

/* CNS 08h: what does not depend on the I/O command set. */
void pst_identify_namespace_independent(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES]);

/* CNS 06h for the NVM command set: limits that MDTS doesn't cover. */
void pst_identify_controller_nvm(uint8_t ret[PST_IDENTIFY_BYTES]);

/* CNS 03h: NGUID, UUID and command set identifier. */
void pst_identify_descriptors(const struct pst_identify_ns *ns, uint8_t ret[PST_IDENTIFY_BYTES]);

/* CNS 02h and 07h: active namespace ids above @after. We have one, @nsid, per subsystem; 0: none. */
void pst_identify_active_list(uint32_t nsid, uint32_t after, uint8_t ret[PST_IDENTIFY_BYTES]);

/*
 * CNS 12h and 13h: a list of controllers, which begins empty. Adds @cntlid in its place; of more than fit the lowest
 * are kept.
 */
#define PST_IDENTIFY_CONTROLLERS_MAX 2047u
void pst_identify_controllers_add(uint16_t cntlid, uint8_t list[PST_IDENTIFY_BYTES]);

/*
 * NGUID derived from the volume's UUID: not the UUID itself, because hosts treat the same 128 bits under two
 * identifier types as two claims.
 */
void pst_identify_nguid(const uint8_t uuid[16], uint8_t ret[16]);

/* ASCII, padded with spaces, as identify and discovery strings want it; longer text is cut. */
void pst_identify_text(uint8_t *to, size_t field_bytes, const char *text);

#endif
