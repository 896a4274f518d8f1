/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each page is assembled whole (they are small) or in parts (discovery, errors) and copied into the window that the
 * host asked for. One table says which pages and commands exist; "supported pages" and "effects" are read from it.
 */
#include "target/logs.h"
#include "proto/nvme.h"
#include "base/le.h"

#include <string.h>

static const struct page {
	uint8_t lid;
	bool io, discovery; /* offered by I/O controllers, by discovery controllers */
	uint32_t bytes;     /* 0: it depends */
} pages[] = {
	{ NVME_LOG_SUPPORTED, true, true, 1024 },   { NVME_LOG_ERROR, true, true, 64 * PST_TARGET_ERROR_LOG_MAX },
	{ NVME_LOG_SMART, true, false, 512 },       { NVME_LOG_FIRMWARE, true, false, 512 },
	{ NVME_LOG_CHANGED_NS, true, false, 4096 }, { NVME_LOG_EFFECTS, true, false, 4096 },
	{ NVME_LOG_FEATURES, true, true, 1024 },    { NVME_LOG_DISCOVERY, false, true, 0 },
	{ NVME_LOG_RESERVATION, true, false, 64 },  { NVME_LOG_ANA, true, false, PST_LOG_ANA_BYTES },
};

static const struct page *page_find(bool discovery, uint8_t lid)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(pages); i++)
		if (pages[i].lid == lid && (discovery ? pages[i].discovery : pages[i].io))
			return &pages[i];
	return NULL;
}

uint64_t pst_log_page_bytes(bool discovery, uint8_t lid, uint64_t entry_count)
{
	const struct page *page = page_find(discovery, lid);

	if (page == NULL)
		return 0;
	return page->bytes != 0 ? page->bytes : (entry_count + 1) * PST_DISCOVERY_ENTRY_BYTES;
}

void pst_log_window_put(const struct pst_log_window *w, uint64_t part_offset_bytes, const void *part, size_t part_bytes)
{
	uint64_t from = PST_MAX(w->offset_bytes, part_offset_bytes);
	uint64_t to = PST_MIN(w->offset_bytes + w->len_bytes, part_offset_bytes + part_bytes);

	if (from < to)
		memcpy(w->data + (from - w->offset_bytes), (const char *)part + (from - part_offset_bytes), to - from);
}

void pst_log_supported(bool discovery, const struct pst_log_window *w)
{
	uint8_t page[1024] = { 0 };

	for (size_t i = 0; i < PST_ARRAY_COUNT(pages); i++)
		if (page_find(discovery, pages[i].lid) != NULL)
			pst_put_le32(page + 4u * pages[i].lid, 1); /* LSUPP */
	pst_log_window_put(w, 0, page, sizeof(page));
}

/* Base 2.0, 5.16.1.6 */
void pst_log_effects(bool discovery, const struct pst_log_window *w)
{
	/* Opcode of an admin command (first table) or of an NVM command: CSUPP; LBCC where it changes data. */
	static const uint8_t admin[] = { 0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18 };
	static const struct {
		uint8_t opcode, changes;
	} nvm[] = { { 0x00, 0 },
		    { 0x01, 2 },
		    { 0x02, 0 },
		    { 0x08, 2 },
		    { 0x09, 2 },
		    { NVME_CMD_COMPARE, 0 },
		    { NVME_CMD_VERIFY, 0 },
		    { NVME_CMD_COPY, 2 },
		    { NVME_CMD_RESV_REGISTER, 0 },
		    { NVME_CMD_RESV_REPORT, 0 },
		    { NVME_CMD_RESV_ACQUIRE, 0 },
		    { NVME_CMD_RESV_RELEASE, 0 } };
	uint8_t page[4096] = { 0 };

	for (size_t i = 0; i < PST_ARRAY_COUNT(admin); i++)
		pst_put_le32(page + 4u * admin[i], 1);
	for (size_t i = 0; !discovery && i < PST_ARRAY_COUNT(nvm); i++)
		pst_put_le32(page + 1024 + 4u * nvm[i].opcode, 1u | nvm[i].changes);
	pst_log_window_put(w, 0, page, sizeof(page));
}

void pst_log_firmware(const char *firmware, const struct pst_log_window *w)
{
	uint8_t page[512] = { 0 };

	page[0] = 1; /* AFI: slot 1 is active */
	pst_identify_text(page + 8, 8, firmware);
	pst_log_window_put(w, 0, page, sizeof(page));
}

void pst_log_smart(const struct pst_log_smart *s, const struct pst_log_window *w)
{
	uint8_t page[512] = { 0 };

	pst_put_le16(page + 1, 300); /* composite temperature in kelvin: nothing to measure, so a cool room */
	page[3] = 100;               /* available spare, percent */
	page[4] = 10;                /* its threshold */
	/* Data units are thousands of 512 bytes, rounded up (both 128 bits wide). */
	pst_put_le64(page + 32, pst_div_round_up(s->bytes_read, 512000));
	pst_put_le64(page + 48, pst_div_round_up(s->bytes_written, 512000));
	pst_put_le64(page + 64, s->read_commands);
	pst_put_le64(page + 80, s->write_commands);
	pst_put_le64(page + 128, s->power_on_hours);
	pst_put_le64(page + 160, s->media_errors);
	pst_put_le64(page + 176, s->error_log_entries);
	pst_log_window_put(w, 0, page, sizeof(page));
}

void pst_log_errors_add(struct pst_log_errors *log, const struct pst_log_error *entry)
{
	struct pst_log_error *slot = &log->ring[log->count % PST_TARGET_ERROR_LOG_MAX];

	*slot = *entry;
	slot->count = ++log->count;
}

void pst_log_errors(const struct pst_log_errors *log, const struct pst_log_window *w)
{
	for (uint64_t i = 0; i < PST_MIN(log->count, PST_TARGET_ERROR_LOG_MAX); i++) {
		const struct pst_log_error *e = &log->ring[(log->count - 1 - i) % PST_TARGET_ERROR_LOG_MAX];
		uint8_t entry[64] = { 0 };

		pst_put_le64(entry + 0, e->count);
		pst_put_le16(entry + 8, e->sqid);
		pst_put_le16(entry + 10, e->cid);
		pst_put_le16(entry + 12, (uint16_t)(e->status << 1)); /* bit 0 is the phase tag: not ours to report */
		pst_put_le16(entry + 14, 0xffff);                     /* parameter error location: not reported */
		pst_put_le64(entry + 16, e->lba);
		pst_put_le32(entry + 24, e->nsid);
		entry[29] = 3; /* TRTYPE: TCP */
		pst_log_window_put(w, i * 64, entry, sizeof(entry));
	}
}

/* Base 2.0, 5.16.1.24 and 8.19: reservation notifications. */
void pst_log_notices_add(struct pst_log_notices *log, uint8_t type)
{
	bool full = log->waiting == PST_LOG_NOTICES_MAX;
	uint32_t last = (log->first + log->waiting - (full ? 1 : 0)) % PST_LOG_NOTICES_MAX;

	log->numbers[last] = ++log->count;
	if (full)
		return;
	log->types[last] = type;
	log->waiting++;
}

void pst_log_notices_take(struct pst_log_notices *log, uint32_t nsid, const struct pst_log_window *w)
{
	uint8_t page[64] = { 0 };

	if (log->waiting > 0) {
		log->waiting--;
		pst_put_le64(page, log->numbers[log->first]); /* LPC, from 1 */
		page[8] = log->types[log->first];             /* RNLPT */
		page[9] = (uint8_t)log->waiting;              /* NALP: more are there */
		pst_put_le32(page + 12, nsid);
		log->first = (log->first + 1) % PST_LOG_NOTICES_MAX;
	}
	pst_log_window_put(w, 0, page, sizeof(page));
}

void pst_log_changed_ns(uint32_t nsid, const struct pst_log_window *w)
{
	uint8_t list[4];

	pst_put_le32(list, nsid);
	pst_log_window_put(w, 0, list, sizeof(list));
}

#define ANA_HEAD_BYTES 16u
#define ANA_GROUP_BYTES 32u
_Static_assert(PST_LOG_ANA_BYTES == ANA_HEAD_BYTES + ANA_GROUP_BYTES + 4, "one group, of one namespace");

/* Base 2.0, 5.16.1.13: log page 0Ch. */
void pst_log_ana(const struct pst_log_ana *a, const struct pst_log_window *w)
{
	uint8_t page[PST_LOG_ANA_BYTES] = { 0 }, *group = page + ANA_HEAD_BYTES;

	pst_put_le64(page, a->changes); /* CHGCNT */
	if (a->state == 0) {            /* it has no namespace, and so no group */
		pst_log_window_put(w, 0, page, sizeof(page));
		return;
	}
	pst_put_le16(page + 8, 1); /* NGRPS */
	pst_put_le32(group, a->group);
	pst_put_le32(group + 4, a->groups_only ? 0 : 1); /* NNSIDV */
	pst_put_le64(group + 8, a->changes);             /* the group's CHGCNT: there is no other group */
	group[16] = a->state;
	if (!a->groups_only)
		pst_put_le32(group + ANA_GROUP_BYTES, a->nsid);
	pst_log_window_put(w, 0, page, sizeof(page));
}

void pst_log_discovery_header(uint64_t generation, uint64_t entry_count, uint8_t ret[PST_DISCOVERY_ENTRY_BYTES])
{
	memset(ret, 0, PST_DISCOVERY_ENTRY_BYTES);
	pst_put_le64(ret + 0, generation);
	pst_put_le64(ret + 8, entry_count);
	pst_put_le16(ret + 16, 0); /* RECFMT */
}

void pst_log_discovery_entry(const struct pst_discovery_entry *e, uint8_t ret[PST_DISCOVERY_ENTRY_BYTES])
{
	char port[8] = { 0 };
	size_t len = 0;

	for (uint32_t scale = 10000; scale > 0; scale /= 10)
		if (e->port >= scale || scale == 1)
			port[len++] = (char)('0' + e->port / scale % 10);
	memset(ret, 0, PST_DISCOVERY_ENTRY_BYTES);
	ret[0] = 3;                /* TRTYPE: TCP */
	ret[1] = e->ipv6 ? 2 : 1;  /* ADRFAM */
	ret[2] = (uint8_t)e->kind; /* SUBTYPE */
	/* TREQ: flow control may be disabled; secure channel required, or not specified: libnvme 1.3 connects with
	 * TLS, and fails without a key, where it reads "not required". SECTYPE says that there is none. */
	ret[3] = 1u << 2 | (e->tls ? 1 : 0);
	pst_put_le16(ret + 4, e->port_id);
	pst_put_le16(ret + 6, 0xffff);                 /* CNTLID: dynamic */
	pst_put_le16(ret + 8, e->admin_queue_entries); /* ASQSZ */
	/* EFLAGS (TP8014): hosts may stay connected with a keep alive timer (EPCSD) */
	pst_put_le16(ret + 10, e->kind == PST_DISCOVERY_CURRENT ? 1u << 1 : 0);
	pst_identify_text(ret + 32, 32, port);           /* TRSVCID */
	memcpy(ret + 256, e->nqn, strnlen(e->nqn, 255)); /* SUBNQN, ended by zeros */
	pst_identify_text(ret + 512, 256, e->traddr);
	ret[768] = e->tls ? 2 : 0; /* TSAS: SECTYPE (TCP 1.0, 3.6.1.1): TLS 1.3, or none */
}
