/* SPDX-License-Identifier: Apache-2.0 */
/* The pure state of a controller: properties, features, events; and the checks of commands. */
#include "base/le.h"
#include "target/check.h"
#include "target/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DNR NVME_STATUS_DNR

/* Enable, reset, shutdown: the sequence that hosts wait for in CSTS. */
static void properties_follow_cc(void **state)
{
	struct pst_registers r;
	enum pst_register_action action;
	uint64_t v;

	(void)state;
	pst_registers_init(&r, 128);
	assert_int_equal(pst_registers_get(&r, 1, 0, &v), NVME_SUCCESS);
	assert_int_equal(v & 0xffff, 127);
	assert_int_equal(v >> 16 & 1, 1);
	assert_true((v >> 24 & 0xff) >= 1);
	assert_int_equal(pst_registers_get(&r, 0, 0, &v), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_registers_get(&r, 0, 0x30, &v), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_registers_set(&r, 0, 0x1c, 1, &action), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_registers_set(&r, 0, 0x14, 0x00460001, &action), NVME_SUCCESS);
	assert_int_equal(action, PST_REGISTER_ENABLED);
	assert_true(pst_registers_ready(&r));
	assert_int_equal(pst_registers_set(&r, 0, 0x14, 0x00464001, &action), NVME_SUCCESS);
	assert_int_equal(action, PST_REGISTER_SHUTDOWN);
	assert_int_equal(pst_registers_get(&r, 0, 0x1c, &v), NVME_SUCCESS);
	assert_int_equal(v >> 2 & 3, 2);
	assert_int_equal(pst_registers_set(&r, 0, 0x14, 0x00460000, &action), NVME_SUCCESS);
	assert_int_equal(action, PST_REGISTER_RESET);
	assert_int_equal(r.csts, 0);
}

/* A configuration that we don't have is a fatal status, not a ready controller. */
static void properties_refuse_foreign_configuration(void **state)
{
	struct pst_registers r;
	enum pst_register_action action;

	(void)state;
	for (uint32_t *cc = (uint32_t[]){ 0x00460071, 0x00460081, 0x00460801, 0x00450001, 0x00360001, 0 }; *cc; cc++) {
		pst_registers_init(&r, 128);
		assert_int_equal(pst_registers_set(&r, 0, 0x14, *cc, &action), NVME_SUCCESS);
		assert_int_equal(action, PST_REGISTER_NONE);
		assert_false(pst_registers_ready(&r));
		assert_int_equal(r.csts & 2, 2);
	}
}

/* Get and Set Features, with the rules that Fabrics adds. */
static void features_keep_their_rules(void **state)
{
	struct pst_features f;
	uint32_t dw0 = 0;
	bool wants_host_id;

	(void)state;
	pst_features_init(&f, false, 16, 5001);
	assert_int_equal(pst_features_value(&f, NVME_FEAT_KATO), 5100);
	assert_int_equal(pst_features_set(&f, 0x07, 0x00030001, &dw0), NVME_SUCCESS);
	assert_int_equal(dw0, 0x00010001);
	assert_int_equal(pst_features_set(&f, 0x07, 0x00ff00ff, &dw0), NVME_SUCCESS);
	assert_int_equal(dw0, 0x000f000f);
	assert_int_equal(pst_features_set(&f, 0x07, 0xffff0001, &dw0), NVME_INVALID_FIELD | DNR);
	f.queues_in_use = true;
	assert_int_equal(pst_features_set(&f, 0x07, 0x00030001, &dw0), NVME_COMMAND_SEQUENCE_ERROR | DNR);
	assert_int_equal(pst_features_set(&f, 0x81, 0, &dw0), NVME_COMMAND_SEQUENCE_ERROR | DNR);
	assert_int_equal(pst_features_get(&f, 0x81, 0, &dw0, &wants_host_id), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_features_get(&f, 0x81, 1, &dw0, &wants_host_id), NVME_SUCCESS);
	assert_true(wants_host_id);
	assert_int_equal(pst_features_set(&f, 0x06, 0, &dw0), NVME_FEATURE_NOT_CHANGEABLE | DNR);
	assert_int_equal(pst_features_set(&f, 0x8000000b, 0x100, &dw0), NVME_FEATURE_NOT_SAVEABLE | DNR);
	assert_int_equal(pst_features_set(&f, 0x0b, 0x80000000, &dw0), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_features_set(&f, 0x0b, 0x100, &dw0), NVME_SUCCESS);
	assert_int_equal(pst_features_get(&f, 0x0b, 0, &dw0, &wants_host_id), NVME_SUCCESS);
	assert_int_equal(dw0, 0x100);
	assert_int_equal(pst_features_get(&f, 0x10b, 0, &dw0, &wants_host_id), NVME_SUCCESS);
	assert_int_equal(dw0, 0);
	assert_int_equal(pst_features_get(&f, 0x70b, 0, &dw0, &wants_host_id), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_features_get(&f, 0x7f, 0, &dw0, &wants_host_id), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_features_set(&f, 0x0f, UINT32_MAX, &dw0), NVME_SUCCESS);
	assert_int_equal(pst_features_value(&f, NVME_FEAT_KATO) % PST_TARGET_KAS_MS, 0);
	pst_features_init(&f, true, 1, 0);
	assert_int_equal(pst_features_set(&f, 0x07, 0, &dw0), NVME_INVALID_FIELD | DNR);
	assert_int_equal(pst_features_set(&f, 0x0b, 0x80000000, &dw0), NVME_SUCCESS);
}

/* An event is reported once, and again only after its page was read; never more requests than allowed. */
static void events_are_masked_until_read(void **state)
{
	struct pst_events e = { 0 };
	uint16_t cid;
	uint32_t dw0;

	(void)state;
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, 0);
	assert_int_equal(pst_events_request(&e, 7), NVME_SUCCESS);
	assert_false(pst_events_next(&e, &cid, &dw0));
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, 0x100);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(cid, 7);
	assert_int_equal(dw0, 0x040002);
	for (uint16_t i = 0; i < PST_TARGET_AER_MAX; i++)
		assert_int_equal(pst_events_request(&e, i), NVME_SUCCESS);
	assert_int_equal(pst_events_request(&e, 99), NVME_AER_LIMIT_EXCEEDED);
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, 0x100);
	assert_false(pst_events_next(&e, &cid, &dw0));
	pst_events_log_read(&e, NVME_LOG_CHANGED_NS);
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, 0x100);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(cid, 0);
	assert_true(pst_events_abort(&e, 2));
	assert_false(pst_events_abort(&e, 2));
	pst_events_raise(&e, PST_EVENT_DISCOVERY_CHANGED, 1u << 31);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(dw0, 0x70f002);
}

/* A host that does not read the page of one kind of notice still hears of the others, of each once. */
static void kinds_of_events_wait_for_their_own_page(void **state)
{
	struct pst_events e = { 0 };
	uint16_t cid;
	uint32_t dw0, config = NVME_AEC_ANA_CHANGED | NVME_AEC_NS_CHANGED;

	(void)state;
	for (uint16_t i = 0; i < PST_TARGET_AER_MAX; i++)
		assert_int_equal(pst_events_request(&e, i), NVME_SUCCESS);
	pst_events_raise(&e, PST_EVENT_ANA_CHANGED, config);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(dw0, 0x0c0302);
	pst_events_raise(&e, PST_EVENT_ANA_CHANGED, config);
	assert_false(pst_events_next(&e, &cid, &dw0));
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, config);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(dw0, 0x040002);
	pst_events_log_read(&e, NVME_LOG_CHANGED_NS);
	assert_false(pst_events_next(&e, &cid, &dw0)); /* that was not the page of the other */
	pst_events_raise(&e, PST_EVENT_NS_CHANGED, config);
	assert_true(pst_events_next(&e, &cid, &dw0));
	pst_events_log_read(&e, NVME_LOG_ANA);
	pst_events_raise(&e, PST_EVENT_ANA_CHANGED, config);
	assert_true(pst_events_next(&e, &cid, &dw0));
	assert_int_equal(dw0, 0x0c0302);
}

static const struct pst_check_limits limits = { .nsid = 1, .transfer_bytes_max = 1 << 20 };

static void sqe_make(uint8_t sqe[64], uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t cdw12, uint8_t sgl,
		     uint32_t length)
{
	memset(sqe, 0, 64);
	sqe[0] = opcode;
	sqe[1] = 0x40;
	pst_put_le32(sqe + 4, nsid);
	pst_put_le32(sqe + 32, length);
	sqe[39] = sgl;
	pst_put_le64(sqe + 40, lba);
	pst_put_le32(sqe + 48, cdw12);
}

/* Good commands come out as what they ask for. */
static void commands_are_understood(void **state)
{
	struct pst_checked_io io;
	uint8_t sqe[64];

	(void)state;
	sqe_make(sqe, 0x01, 1, 5, 1u << 30 | 1, 0x01, 8192);
	assert_int_equal(pst_check_io(sqe, 8192, &limits, &io), NVME_SUCCESS);
	assert_int_equal(io.kind, PST_IO_WRITE);
	assert_int_equal(io.flags, PST_IO_FUA);
	assert_int_equal(io.lba, 5);
	assert_int_equal(io.block_count, 2);
	assert_int_equal(io.data_bytes, 8192);
	sqe_make(sqe, 0x02, 1, UINT64_MAX, 255, 0x5a, 1 << 20);
	assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_SUCCESS);
	assert_int_equal(io.direction, PST_DATA_TO_HOST);
	sqe_make(sqe, 0x00, PST_NSID_ALL, 0, 0, 0x5a, 0);
	assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_SUCCESS);
	assert_int_equal(io.kind, PST_IO_FLUSH);
	assert_int_equal(io.block_count, 0);
	sqe_make(sqe, 0x08, 1, 0, 0xffff | 1u << 25, 0x5a, 0);
	assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_SUCCESS);
	assert_int_equal(io.block_count, 65536);
	sqe_make(sqe, 0x09, 1, (uint64_t)4 << 32 | 255, 0, 0x01, 4096);
	assert_int_equal(pst_check_io(sqe, 4096, &limits, &io), NVME_SUCCESS);
	assert_false(io.nothing_to_do);
	assert_int_equal(io.data_bytes, 4096);
}

/* FUA of a command that reads makes what it finds durable: it reaches the volume as that of a write does. */
static void fua_of_reads_reaches_the_volume(void **state)
{
	static const uint8_t reads[] = { NVME_CMD_READ, NVME_CMD_COMPARE, NVME_CMD_VERIFY };
	struct pst_checked_io io;
	uint8_t sqe[64];

	(void)state;
	for (size_t i = 0; i < sizeof(reads); i++)
		for (unsigned fua = 0; fua < 2; fua++) {
			sqe_make(sqe, reads[i], 1, 5, fua << 30, 0x5a, reads[i] == NVME_CMD_VERIFY ? 0 : 4096);
			assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_SUCCESS);
			assert_int_equal(io.kind, PST_IO_READ);
			assert_int_equal(io.flags, fua != 0 ? PST_IO_FUA : 0);
		}
}

/* Each thing that a host may get wrong has its own answer. */
static void commands_are_refused(void **state)
{
	static const struct {
		uint8_t opcode, sgl;
		uint32_t nsid, cdw12, length, incapsule;
		uint16_t want;
	} bad[] = {
		{ 0x04, 0x5a, 1, 0, 0, 0, NVME_INVALID_OPCODE },
		{ 0x05, 0x5a, 1, 0, 8192, 0, NVME_SGL_LENGTH_INVALID },
		{ 0x0c, 0x00, 1, 1024, 0, 0, NVME_INVALID_FIELD },       /* VSL */
		{ 0x19, 0x5a, 1, 0x100, 32, 0, NVME_INVALID_FIELD },     /* format 1 */
		{ 0x19, 0x5a, 1, 16, 4096, 0, NVME_COMMAND_SIZE_LIMIT }, /* MSRC */
		{ 0x19, 0x5a, 1, 1, 32, 0, NVME_SGL_LENGTH_INVALID },
		{ 0x0d, 0x5a, 1, 0, 15, 0, NVME_SGL_LENGTH_INVALID },
		{ 0x0d, 0x5a, 2, 0, 16, 0, NVME_INVALID_NAMESPACE },
		{ 0x0d, 0x5a, PST_NSID_ALL, 0, 16, 0, NVME_INVALID_NAMESPACE },
		{ 0x0e, 0x5a, 1, 0, 4096, 0, NVME_HOST_ID_INCONSISTENT },
		{ 0x11, 0x5a, 1, 0, 16, 0, NVME_INVALID_FIELD }, /* no type */
		{ 0x15, 0x5a, 1, 0, 8, 0, NVME_INVALID_FIELD },
		{ 0x02, 0x5a, 2, 0, 4096, 0, NVME_INVALID_NAMESPACE },
		{ 0x02, 0x5a, PST_NSID_ALL, 0, 4096, 0, NVME_INVALID_NAMESPACE },
		{ 0x02, 0x5a, 1, 256, 257 * 4096, 0, NVME_INVALID_FIELD },
		{ 0x02, 0x5a, 1, 0, 8192, 0, NVME_SGL_LENGTH_INVALID },
		{ 0x02, 0x01, 1, 0, 4096, 4096, NVME_SGL_TYPE_INVALID },
		{ 0x01, 0x00, 1, 0, 4096, 0, NVME_SGL_TYPE_INVALID },
		{ 0x01, 0x40, 1, 0, 4096, 0, NVME_SGL_TYPE_INVALID },
		{ 0x01, 0x01, 1, 0, 4096, 0, NVME_SGL_LENGTH_INVALID },
		{ 0x01, 0x01, 1, 0, 4096, 8192, NVME_SGL_LENGTH_INVALID },
		{ 0x01, 0x5a, 1, 0, 4096, 4096, NVME_SGL_TYPE_INVALID },
	};
	struct pst_checked_io io;
	uint8_t sqe[64];

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		sqe_make(sqe, bad[i].opcode, bad[i].nsid, 0, bad[i].cdw12, bad[i].sgl, bad[i].length);
		assert_int_equal(pst_check_io(sqe, bad[i].incapsule, &limits, &io), bad[i].want | DNR);
	}
	sqe_make(sqe, 0x02, 1, 0, 0, 0x5a, 4096);
	sqe[1] = 0x00; /* PRPs */
	assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_INVALID_FIELD | DNR);
	sqe[1] = 0x41; /* fused */
	assert_int_equal(pst_check_io(sqe, 0, &limits, &io), NVME_INVALID_FIELD | DNR);
	sqe_make(sqe, 0x01, 1, 0, 0, 0x01, 4096);
	pst_put_le64(sqe + 24, 4);
	assert_int_equal(pst_check_io(sqe, 4096, &limits, &io), NVME_INVALID_FIELD | DNR);
}

/* Copy: each source and their sum are limited, all lies inside the volume, and no source touches the destination. */
static void copies_are_checked(void **state)
{
	static const struct {
		uint64_t from[2], to;
		uint32_t blocks[2];
		uint16_t want;
	} cases[] = {
		{ { 0, 100 }, 200, { 10, 10 }, NVME_SUCCESS },
		{ { 0, 100 }, 10, { 10, 10 }, NVME_SUCCESS },
		{ { 0, 100 }, 9, { 10, 10 }, NVME_INVALID_FIELD | DNR },
		{ { 0, 100 }, 81, { 10, 10 }, NVME_INVALID_FIELD | DNR },
		{ { 0, 991 }, 200, { 10, 10 }, NVME_LBA_OUT_OF_RANGE | DNR },
		{ { 0, UINT64_MAX }, 200, { 10, 10 }, NVME_LBA_OUT_OF_RANGE | DNR },
		{ { 0, 100 }, 981, { 10, 10 }, NVME_LBA_OUT_OF_RANGE | DNR },
		{ { 0, 100 }, UINT64_MAX - 5, { 10, 10 }, NVME_LBA_OUT_OF_RANGE | DNR },
		{ { 0, 300 }, 600, { 257, 1 }, NVME_COMMAND_SIZE_LIMIT | DNR },
		{ { 0, 300 }, 600, { 200, 57 }, NVME_COMMAND_SIZE_LIMIT | DNR },
		{ { 0, 300 }, 600, { 200, 56 }, NVME_SUCCESS },
	};

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		uint8_t data[64] __attribute__((aligned(8))) = { 0 };
		uint64_t blocks = 0;

		for (unsigned k = 0; k < 2; k++) {
			pst_put_le64(data + 32 * k + 8, cases[i].from[k]);
			pst_put_le16(data + 32 * k + 16, (uint16_t)(cases[i].blocks[k] - 1));
		}
		assert_int_equal(pst_check_copy(data, 2, cases[i].to, 1000, (struct pst_block_range *)data, &blocks),
				 cases[i].want);
		if (cases[i].want == NVME_SUCCESS)
			assert_int_equal(blocks, cases[i].blocks[0] + cases[i].blocks[1]);
	}
}

/* A whole volume discarded in 256 touching ranges is one range; a range past the end fails all. */
static void ranges_join(void **state)
{
	uint8_t data[256 * 16] = { 0 };
	struct pst_block_range ranges[256];
	uint32_t count = 0;

	(void)state;
	for (uint32_t i = 0; i < 256; i++) {
		pst_put_le32(data + 16 * i + 4, 10);
		pst_put_le64(data + 16 * i + 8, 10 * i);
	}
	assert_int_equal(pst_check_ranges(data, 256, 2560, ranges, &count), NVME_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(ranges[0].block_count, 2560);
	assert_int_equal(pst_check_ranges(data, 256, 2559, ranges, &count), NVME_LBA_OUT_OF_RANGE | DNR);
	pst_put_le32(data + 4, 0);
	pst_put_le64(data + 16 * 7 + 8, UINT64_MAX);
	assert_int_equal(pst_check_ranges(data, 256, UINT64_MAX, ranges, &count), NVME_LBA_OUT_OF_RANGE | DNR);
	assert_int_equal(pst_check_ranges(data, 3, 2560, ranges, &count), NVME_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(ranges[0].lba, 10);
}

/* No error of Penstock ever turns into success. */
static void errors_have_a_status(void **state)
{
	(void)state;
	assert_int_equal(pst_status_of_err(PST_OK, true), 0);
	for (int err = 1; err <= PST_E_INTERNAL; err++) {
		assert_int_not_equal(pst_status_of_err((pst_err)err, false), 0);
		assert_int_not_equal(pst_status_of_err((pst_err)err, true), 0);
	}
	assert_int_equal(pst_status_of_err(PST_E_NOSPACE, true), NVME_CAPACITY_EXCEEDED);
	assert_int_equal(pst_status_of_err(PST_E_CHECKSUM, false), NVME_UNRECOVERED_READ_ERROR | DNR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(properties_follow_cc),
		cmocka_unit_test(properties_refuse_foreign_configuration),
		cmocka_unit_test(features_keep_their_rules),
		cmocka_unit_test(events_are_masked_until_read),
		cmocka_unit_test(kinds_of_events_wait_for_their_own_page),
		cmocka_unit_test(commands_are_understood),
		cmocka_unit_test(commands_are_refused),
		cmocka_unit_test(fua_of_reads_reaches_the_volume),
		cmocka_unit_test(copies_are_checked),
		cmocka_unit_test(ranges_join),
		cmocka_unit_test(errors_have_a_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
