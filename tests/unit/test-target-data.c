/* SPDX-License-Identifier: Apache-2.0 */
/* Identify data and log pages, read back through libnvme's structures: an independent reading of the specification. */
#include "base/le.h"
#include "target/state.h"
#include "target/identify.h"
#include "target/logs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nvme/types.h>

#define NQN "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff"

static const struct pst_identify_ctrl io_ctrl = {
	.cntlid = 0x1234,
	.serial = "S1",
	.model = "Penstock",
	.firmware = "0.1.0",
	.subnqn = NQN,
	.transfer_bytes_max = 1 << 20,
	.incapsule_bytes = 8192,
	.queue_entries_max = 128,
	.nsid_max = 1,
};

/* What Linux refuses a controller for, or warns about, is as it should be. */
static void controller_says_what_hosts_need(void **state)
{
	struct nvme_id_ctrl id;

	(void)state;
	assert_int_equal(sizeof(id), PST_IDENTIFY_BYTES);
	pst_identify_controller(&io_ctrl, (uint8_t *)&id);
	assert_memory_equal(id.sn, "S1                  ", 20);
	assert_memory_equal(id.mn, "Penstock                                ", 40);
	assert_int_equal(le16toh(id.cntlid), 0x1234);
	assert_int_equal(id.mdts, 8);
	assert_int_equal(id.cntrltype, NVME_CTRL_CNTRLTYPE_IO);
	assert_true(le16toh(id.kas) > 0);
	assert_int_equal(le16toh(id.maxcmd), 128);
	assert_int_equal(id.sqes, 0x66);
	assert_int_equal(id.cqes, 0x44);
	assert_int_equal(le32toh(id.nn), 1);
	assert_int_equal(le32toh(id.mnan), 1);
	assert_int_equal(le32toh(id.ioccsz), 4 + 8192 / 16);
	assert_int_equal(le32toh(id.iorcsz), 1);
	assert_int_equal(le16toh(id.icdoff), 0);
	assert_true((le32toh(id.sgls) & 3) == 1 && (le32toh(id.sgls) & 1 << 20) != 0);
	assert_true((le32toh(id.oaes) & NVME_CTRL_OAES_NA) != 0);
	assert_int_equal(le16toh(id.oncs), NVME_CTRL_ONCS_COMPARE | NVME_CTRL_ONCS_COPY | NVME_CTRL_ONCS_RESERVATIONS |
					       NVME_CTRL_ONCS_DSM | NVME_CTRL_ONCS_WRITE_ZEROES |
					       NVME_CTRL_ONCS_SAVE_FEATURES);
	assert_int_equal(le16toh(id.fuses), NVME_CTRL_FUSES_COMPARE_AND_WRITE);
	assert_int_equal(le16toh(id.acwu), 0);
	assert_int_equal(le16toh(id.ocfs), 1);
	assert_int_equal(id.vwc, 7);
	assert_int_equal(id.cmic & 2, 2);
	assert_string_equal(id.subnqn, NQN);
}

/* A discovery controller says its type and its event, and no namespace features. */
static void discovery_controller_differs(void **state)
{
	struct pst_identify_ctrl c = io_ctrl;
	struct nvme_id_ctrl id;

	(void)state;
	c.discovery = true;
	c.nsid_max = 0;
	c.incapsule_bytes = 0;
	pst_identify_controller(&c, (uint8_t *)&id);
	assert_int_equal(id.cntrltype, NVME_CTRL_CNTRLTYPE_DISCOVERY);
	assert_int_equal(le32toh(id.oaes), 1u << 31);
	assert_int_equal(le32toh(id.nn), 0);
	assert_int_equal(id.vwc, 0);
	assert_int_equal(le16toh(id.oncs), 0);
	assert_int_equal(id.lpa & 4, 4);
	assert_int_equal(le32toh(id.ioccsz), 4);
}

/* Sizes, thinness, deallocation behaviour and identifiers of a namespace. */
static void namespace_says_size_and_identity(void **state)
{
	struct pst_identify_ns ns = { .nsid = 1, .block_count = 1000, .used_blocks = 10, .uuid = { 1, 2, 3 } };
	struct nvme_id_ns id;
	struct nvme_id_independent_id_ns independent;
	struct nvme_id_ctrl_nvm nvm;
	uint8_t list[PST_IDENTIFY_BYTES], nguid[16];

	(void)state;
	pst_identify_namespace(&ns, (uint8_t *)&id);
	assert_int_equal(le64toh(id.nsze), 1000);
	assert_int_equal(le64toh(id.nuse), 10);
	assert_int_equal(id.nsfeat & NVME_NS_FEAT_THIN, NVME_NS_FEAT_THIN);
	assert_int_equal(id.dlfeat, 9);
	assert_int_equal(id.nmic, 1);
	assert_int_equal(id.rescap, 0xfe);
	assert_int_equal(le16toh(id.mssrl), 256);
	assert_int_equal(le32toh(id.mcl), 256);
	assert_int_equal(id.msrc, 15);
	assert_int_equal(id.lbaf[0].ds, 12);
	pst_identify_nguid(ns.uuid, nguid);
	assert_memory_equal(id.nguid, nguid, 16);
	assert_memory_equal(id.eui64, "\0\0\0\0\0\0\0", 8);

	pst_identify_descriptors(&ns, list);
	assert_memory_equal(list, "\2\20\0\0", 4);
	assert_memory_equal(list + 4, nguid, 16);
	assert_memory_equal(list + 20, "\3\20\0\0", 4);
	assert_memory_equal(list + 24, ns.uuid, 16);
	assert_memory_equal(list + 40, "\4\1\0\0\0", 5);
	assert_int_equal(list[45] | list[46], 0);

	pst_identify_namespace_independent(&ns, (uint8_t *)&independent);
	assert_int_equal(independent.nstat & 1, 1);
	ns.keeps_reservations = true;
	pst_identify_namespace_independent(&ns, (uint8_t *)&independent);
	assert_int_equal(independent.rescap, 0xff);
	pst_identify_namespace(&ns, (uint8_t *)&id);
	assert_int_equal(id.rescap & NVME_NS_RESCAP_PTPL, NVME_NS_RESCAP_PTPL);
	pst_identify_controller_nvm((uint8_t *)&nvm);
	assert_int_equal(nvm.dmrl, 255);
	assert_int_equal(le32toh(nvm.dmrsl), UINT32_MAX);
	assert_int_equal(le64toh(nvm.dmsl), UINT64_MAX);
	assert_int_equal(nvm.wzsl, 16);
	assert_int_equal(nvm.vsl, 10);

	pst_identify_active_list(1, 0, list);
	assert_int_equal(pst_get_le32(list), 1);
	pst_identify_active_list(1, 1, list);
	assert_int_equal(pst_get_le32(list), 0);
}

/* The list is in ascending order, whatever order its controllers come in, and keeps the lowest when it is full. */
static void controllers_are_listed_in_order(void **state)
{
	uint8_t list[PST_IDENTIFY_BYTES] = { 0 };
	const struct nvme_ctrl_list *l = (const void *)list;

	(void)state;
	for (uint16_t i = 0; i < 3000; i++) /* 7 and 3001 have no common factor: each once */
		pst_identify_controllers_add((uint16_t)(1 + (i + 1) * 7 % 3001), list);
	assert_int_equal(le16toh(l->num), 2047);
	for (uint16_t i = 0; i < 2047; i++)
		assert_int_equal(le16toh(l->identifier[i]), i + 2);
}

/* A page read in odd pieces is the page read whole. */
static void windows_compose(void **state)
{
	uint8_t whole[4096], pieces[4096];

	(void)state;
	memset(whole, 0, sizeof(whole));
	memset(pieces, 0, sizeof(pieces));
	pst_log_effects(false, &(struct pst_log_window){ 0, sizeof(whole), whole });
	for (uint32_t at = 0; at < sizeof(pieces); at += 100)
		pst_log_effects(false, &(struct pst_log_window){ at, PST_MIN(100u, 4096u - at), pieces + at });
	assert_memory_equal(whole, pieces, sizeof(whole));
	const struct nvme_cmd_effects_log *effects = (const void *)whole;
	assert_int_equal(le32toh(effects->iocs[nvme_cmd_write]), NVME_CMD_EFFECTS_CSUPP | NVME_CMD_EFFECTS_LBCC);
	assert_int_equal(le32toh(effects->acs[nvme_admin_identify]), NVME_CMD_EFFECTS_CSUPP);
	assert_int_equal(le32toh(effects->acs[nvme_admin_format_nvm]), 0);
}

/* Exactly the pages that exist are listed, for each kind of controller. */
static void supported_pages_match_lengths(void **state)
{
	(void)state;
	for (int discovery = 0; discovery < 2; discovery++) {
		uint8_t page[1024] = { 0 };

		pst_log_supported(discovery, &(struct pst_log_window){ 0, sizeof(page), page });
		for (unsigned lid = 0; lid < 256; lid++)
			assert_int_equal(pst_get_le32(page + 4 * lid) & 1,
					 pst_log_page_bytes(discovery, (uint8_t)lid, 3) != 0);
	}
	assert_int_equal(pst_log_page_bytes(true, NVME_LOG_LID_DISCOVER, 3), 4096);
	assert_int_equal(pst_log_page_bytes(false, NVME_LOG_LID_DISCOVER, 3), 0);
}

/* The newest error comes first, old ones fall out of the ring. */
static void error_log_is_newest_first(void **state)
{
	struct pst_log_errors log = { 0 };
	struct nvme_error_log_page page[PST_TARGET_ERROR_LOG_MAX];

	(void)state;
	for (uint16_t i = 1; i <= PST_TARGET_ERROR_LOG_MAX + 3; i++)
		pst_log_errors_add(&log, &(struct pst_log_error){ .sqid = 1, .cid = i, .status = 0x281, .lba = i });
	memset(page, 0, sizeof(page));
	pst_log_errors(&log, &(struct pst_log_window){ 0, sizeof(page), (uint8_t *)page });
	assert_int_equal(le64toh(page[0].error_count), PST_TARGET_ERROR_LOG_MAX + 3);
	assert_int_equal(le16toh(page[0].cmdid), PST_TARGET_ERROR_LOG_MAX + 3);
	assert_int_equal(le16toh(page[0].status_field) >> 1, 0x281);
	assert_int_equal(le64toh(page[PST_TARGET_ERROR_LOG_MAX - 1].error_count), 4);
}

static void notice_expect(struct pst_log_notices *log, uint64_t number, uint8_t type, uint8_t more)
{
	struct nvme_resv_notification_log page;
	struct pst_log_window w = { 0, sizeof(page), (uint8_t *)&page };

	memset(&page, 0xff, sizeof(page));
	pst_log_notices_take(log, 7, &w);
	assert_int_equal(le64toh(page.lpc), number);
	assert_int_equal(page.rnlpt, type);
	assert_int_equal(page.nalp, more);
	assert_int_equal(le32toh(page.nsid), type == NVME_RESV_NOTIFY_RNLPT_EMPTY ? 0 : 7);
}

/*
 * Base 2.0, 5.16.1.24: notifications are read one by one, oldest first. When too many waited the newest are lost, and
 * the last one that was kept has the number of the last one that was lost.
 */
static void notices_are_read_in_order(void **state)
{
	static const uint8_t kinds[] = { NVME_RESV_NOTIFY_RNLPT_REGISTRATION_PREEMPTED,
					 NVME_RESV_NOTIFY_RNLPT_RESERVATION_RELEASED };
	struct pst_log_notices log = { 0 };

	(void)state;
	notice_expect(&log, 0, NVME_RESV_NOTIFY_RNLPT_EMPTY, 0);
	for (unsigned i = 0; i < PST_LOG_NOTICES_MAX; i++)
		pst_log_notices_add(&log, kinds[i % 2]);
	for (unsigned i = 0; i < 3; i++) /* lost */
		pst_log_notices_add(&log, NVME_RESV_NOTIFY_RNLPT_RESERVATION_PREEMPTED);
	notice_expect(&log, 1, kinds[0], PST_LOG_NOTICES_MAX - 1);
	pst_log_notices_add(&log, NVME_RESV_NOTIFY_RNLPT_RESERVATION_PREEMPTED); /* there is room again */
	for (unsigned i = 1; i < PST_LOG_NOTICES_MAX - 1; i++)
		notice_expect(&log, i + 1, kinds[i % 2], (uint8_t)(PST_LOG_NOTICES_MAX - i));
	notice_expect(&log, PST_LOG_NOTICES_MAX + 3, kinds[(PST_LOG_NOTICES_MAX - 1) % 2], 1);
	notice_expect(&log, PST_LOG_NOTICES_MAX + 4, NVME_RESV_NOTIFY_RNLPT_RESERVATION_PREEMPTED, 0);
	notice_expect(&log, 0, NVME_RESV_NOTIFY_RNLPT_EMPTY, 0);
	pst_log_notices_add(&log, kinds[0]);
	notice_expect(&log, PST_LOG_NOTICES_MAX + 5, kinds[0], 0);
}

/* Units are thousands of 512 bytes, rounded up. */
static void smart_counts_data_units(void **state)
{
	struct nvme_smart_log log;

	(void)state;
	memset(&log, 0, sizeof(log));
	pst_log_smart(&(struct pst_log_smart){ .bytes_read = 512001, .media_errors = 7 },
		      &(struct pst_log_window){ 0, sizeof(log), (uint8_t *)&log });
	assert_int_equal(log.data_units_read[0], 2);
	assert_int_equal(log.media_errors[0], 7);
	assert_int_equal(log.avail_spare, 100);
}

/* Address strings are padded with spaces, the port is text, admin queues of 32 are allowed. */
static void discovery_entry_is_padded(void **state)
{
	uint8_t entry[PST_DISCOVERY_ENTRY_BYTES];
	const struct nvmf_disc_log_entry *e = (const void *)entry;

	(void)state;
	pst_log_discovery_entry(&(struct pst_discovery_entry){ .kind = PST_DISCOVERY_SUBSYSTEM,
							       .nqn = NQN,
							       .traddr = "192.0.2.1",
							       .port = 4420,
							       .port_id = 1,
							       .admin_queue_entries = 32 },
				entry);
	assert_int_equal(e->trtype, NVMF_TRTYPE_TCP);
	assert_int_equal(e->adrfam, NVMF_ADDR_FAMILY_IP4);
	assert_int_equal(e->subtype, NVME_NQN_NVME);
	assert_int_equal(le16toh(e->cntlid), 0xffff);
	assert_int_equal(le16toh(e->asqsz), 32);
	assert_memory_equal(e->trsvcid, "4420    ", 8);
	assert_memory_equal(e->traddr, "192.0.2.1 ", 10);
	assert_int_equal(e->traddr[255], ' ');
	assert_string_equal(e->subnqn, NQN);
	pst_log_discovery_entry(&(struct pst_discovery_entry){ .nqn = NQN, .traddr = "::1", .ipv6 = true, .port = 7 },
				entry);
	assert_memory_equal(e->trsvcid, "7 ", 2);
	assert_int_equal(e->adrfam, NVMF_ADDR_FAMILY_IP6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(controller_says_what_hosts_need),  cmocka_unit_test(discovery_controller_differs),
		cmocka_unit_test(namespace_says_size_and_identity), cmocka_unit_test(windows_compose),
		cmocka_unit_test(controllers_are_listed_in_order),  cmocka_unit_test(supported_pages_match_lengths),
		cmocka_unit_test(error_log_is_newest_first),        cmocka_unit_test(notices_are_read_in_order),
		cmocka_unit_test(smart_counts_data_units),          cmocka_unit_test(discovery_entry_is_padded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
