/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compare, Verify, Copy, and fused Compare and Write through the target as a black box, on one to three shards, with
 * the volume on the last of them.
 */
#include "base/le.h"
#include "target-rig.h"

#define DNR NVME_STATUS_DNR
#define CONFLICT (NVME_RESERVATION_CONFLICT | DNR)

static void fill(uint8_t *data, uint32_t blocks, uint8_t seed)
{
	for (uint32_t i = 0; i < blocks * 4096; i++)
		data[i] = (uint8_t)(i * 131 + (i >> 12) * 7 + seed);
}

static uint16_t put(struct link *l, uint64_t lba, uint8_t *data, uint32_t blocks)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, lba, blocks);

	return command(l, &sqe, PST_CONN_DATA_OUT, data, blocks * 4096, NULL);
}

static uint16_t get(struct link *l, uint64_t lba, uint8_t *data, uint32_t blocks)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, lba, blocks);

	return command(l, &sqe, PST_CONN_DATA_IN, data, blocks * 4096, NULL);
}

static uint16_t compare(struct link *l, uint64_t lba, uint8_t *data, uint32_t blocks)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_COMPARE, lba, blocks);

	return command(l, &sqe, PST_CONN_DATA_OUT, data, blocks * 4096, NULL);
}

/* Ranges as pairs of first block and count; ends with a count of 0. @ret_dw0 may be NULL. */
static uint16_t copy_told(struct link *l, uint64_t to, const uint64_t (*from)[2], uint32_t *ret_dw0)
{
	uint8_t ranges[4096] = { 0 };
	uint32_t count = 0;
	struct nvme_sqe sqe;

	for (; from[count][1] > 0; count++) {
		pst_put_le64(ranges + 32 * count + 8, from[count][0]);
		pst_put_le16(ranges + 32 * count + 16, (uint16_t)(from[count][1] - 1));
	}
	sqe = sqe_io(NVME_CMD_COPY, to, count);
	return command(l, &sqe, PST_CONN_DATA_OUT, ranges, 32 * count, ret_dw0);
}

static uint16_t copy(struct link *l, uint64_t to, const uint64_t (*from)[2])
{
	return copy_told(l, to, from, NULL);
}

/* What is compared, verified and copied, short and long, is what is there. */
static void compare_verify_copy(void **state)
{
	uint8_t *data = malloc(256 * 4096), *back = malloc(256 * 4096);

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host h;
		struct nvme_sqe sqe;
		struct pst_subsystem_stats *stats = malloc(sizeof(*stats));

		rig_new(&rig,
			&(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .qos = shards == 2 });
		host_connect(&rig, &h, shards == 3, 0);
		fill(data, 256, 5);
		assert_int_equal(put(&h.io, 10, data, 256), 0);
		for (uint32_t blocks = 1; blocks <= 256; blocks *= 16) {
			assert_int_equal(compare(&h.io, 10, data, blocks), 0);
			data[blocks * 4096 - 1] ^= 1;
			assert_int_equal(compare(&h.io, 10, data, blocks), NVME_COMPARE_FAILURE | DNR);
			data[blocks * 4096 - 1] ^= 1;
		}
		assert_int_equal(copy(&h.io, 1000, (const uint64_t[][2]){ { 20, 100 }, { 10, 3 }, { 200, 1 }, { 0 } }),
				 0);
		assert_int_equal(get(&h.io, 1000, back, 104), 0);
		assert_memory_equal(back, data + 10 * 4096, 100 * 4096);
		assert_memory_equal(back + 100 * 4096, data, 3 * 4096);
		assert_memory_equal(back + 103 * 4096, data + 190 * 4096, 4096);
		assert_int_equal(copy(&h.io, 1000, (const uint64_t[][2]){ { 1050, 60 }, { 0 } }),
				 NVME_INVALID_FIELD | DNR);
		assert_int_equal(copy(&h.io, RIG_BLOCKS - 1, (const uint64_t[][2]){ { 1, 2 }, { 0 } }),
				 NVME_LBA_OUT_OF_RANGE | DNR);
		assert_int_equal(copy(&h.io, 2000, (const uint64_t[][2]){ { 0, 257 }, { 0 } }),
				 NVME_COMMAND_SIZE_LIMIT | DNR);
		sqe = sqe_io(NVME_CMD_VERIFY, 0, 1024);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
		assert_int_equal(pst_fault_add(rig.volume, &(struct pst_fault_rule){ .action = PST_FAULT_ERROR,
										     .kinds = 1u << PST_IO_READ,
										     .lba = 700,
										     .block_count = 1,
										     .err = PST_E_CHECKSUM }),
				 PST_OK);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL),
				 NVME_UNRECOVERED_READ_ERROR | DNR);
		sqe = sqe_io(NVME_CMD_VERIFY, RIG_BLOCKS - 1, 2);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), NVME_LBA_OUT_OF_RANGE | DNR);
		host_close(&h);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		pst_subsystem_stats(rig.subsystem, stats);
		assert_int_equal(stats->media_errors, 1); /* a difference is none */
		assert_int_equal(stats->bytes_written, 256 * 4096);
		free(stats);
		rig_free(&rig);
	}
	free(data);
	free(back);
}

/* A Copy that fails on its way says which range it has not copied; 0 where nothing was written. */
static void a_failed_copy_says_where(void **state)
{
	(void)state;
	for (uint64_t bad = 0; bad < 3; bad++) {
		const struct pst_fault_rule rule = { .action = PST_FAULT_ERROR,
						     .kinds = 1u << PST_IO_READ,
						     .lba = 10 * bad,
						     .block_count = 2,
						     .err = PST_E_CHECKSUM };
		uint32_t dw0 = 9;
		struct host h;
		struct rig rig;

		rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1 });
		host_connect(&rig, &h, false, 0);
		assert_int_equal(pst_fault_add(rig.volume, &rule), PST_OK);
		assert_int_equal(
		    copy_told(&h.io, 1000, (const uint64_t[][2]){ { 0, 2 }, { 10, 2 }, { 20, 2 }, { 0 } }, &dw0),
		    NVME_UNRECOVERED_READ_ERROR | DNR);
		assert_int_equal(dw0, bad);
		host_close(&h);
		rig_free(&rig);
	}
}

/* Many of them at once, from two hosts: each has its turn, also when a host goes away among them. */
static void compounds_take_turns(void **state)
{
	static uint8_t zeros[4096], data[64 * 4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call calls[3][20];
		struct nvme_sqe compare_sqe = sqe_io(NVME_CMD_COMPARE, 9, 1),
				verify_sqe = sqe_io(NVME_CMD_VERIFY, 0, 200);

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		for (unsigned i = 0; i < 20; i++) {
			call_start(&a.io, &calls[0][i], &compare_sqe, PST_CONN_DATA_OUT, zeros, 4096);
			call_start(&b.io, &calls[1][i], &verify_sqe, PST_CONN_NO_DATA, NULL, 0);
			call_start(&a.io, &calls[2][i], &verify_sqe, PST_CONN_NO_DATA, NULL, 0);
		}
		pst_sim_run_for(rig.sim, 300000);
		host_close(&b);
		for (unsigned i = 0; i < 20; i++) {
			assert_int_equal(call_status(&a.io, &calls[0][i]), 0);
			assert_int_equal(call_status(&a.io, &calls[2][i]), 0);
		}
		assert_int_equal(put(&a.io, 0, data, 64), 0);
		host_close(&a);
		rig_free(&rig);
	}
}

/* ---- Fused Compare and Write ---- */

static void caw_is(struct link *l, struct call calls[2], uint16_t first, uint16_t second)
{
	assert_int_equal(call_status(l, &calls[0]), first);
	assert_int_equal(call_status(l, &calls[1]), second);
}

static void slow(struct rig *rig, enum pst_io_kind kind, uint64_t delay_ns)
{
	struct pst_fault_rule rule = { .action = PST_FAULT_DELAY, .kinds = 1u << kind, .delay_ns = delay_ns };

	assert_int_equal(pst_fault_add(rig->volume, &rule), PST_OK);
}

/* A host whose I/O queue sends this much with its commands. */
static void connect_pulled(struct rig *rig, struct host *h, uint8_t id, uint32_t incapsule_bytes)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	host_connect_as(rig, h, false, 0, 127, id);
	link_close(&h->io);
	link_open_with(rig, &h->io, false, incapsule_bytes);
	connect_fill(&cmd, &data, RIG_NQN, 1, h->cntlid, 0);
	memset(data.hostid, id, sizeof(data.hostid));
	assert_int_equal(command(&h->io, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), NULL), 0);
}

/* It writes if the block is as it should be, and else not, wherever the data comes from, with admission and without. */
static void compare_and_write_does_both_or_nothing(void **state)
{
	uint8_t one[4096], two[4096], back[4096];

	(void)state;
	memset(one, 1, sizeof(one));
	memset(two, 2, sizeof(two));
	for (unsigned i = 0; i < 12; i++) {
		unsigned shards = i % 3 + 1;
		struct rig rig;
		struct host h;
		struct call calls[2];

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .qos = i >= 6 });
		connect_pulled(&rig, &h, 1, i / 3 % 2 ? 0 : 8192);
		assert_int_equal(put(&h.io, 7, one, 1), 0);
		caw_start(&h.io, calls, 7, one, two);
		caw_is(&h.io, calls, 0, 0);
		assert_int_equal(get(&h.io, 7, back, 1), 0);
		assert_memory_equal(back, two, 4096);
		caw_start(&h.io, calls, 7, one, one);
		caw_is(&h.io, calls, NVME_COMPARE_FAILURE | DNR, NVME_FUSED_FAILED | DNR);
		assert_int_equal(get(&h.io, 7, back, 1), 0);
		assert_memory_equal(back, two, 4096);
		host_close(&h);
		rig_free(&rig);
	}
}

/* Hosts that raise one counter, by what they read, lose no step; other writes of the block wait, others don't. */
static void compare_and_write_is_atomic(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host hosts[3];
		static uint8_t old_block[3][4096], new_block[3][4096], back[4096];
		struct call calls[3][2], write, elsewhere;
		struct nvme_sqe sqe;
		unsigned steps = 0;

		memset(old_block, 0, sizeof(old_block));
		memset(new_block, 0, sizeof(new_block));
		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		for (uint8_t i = 0; i < 3; i++)
			connect_pulled(&rig, &hosts[i], (uint8_t)(i + 1), i == 1 ? 0 : 8192);
		slow(&rig, PST_IO_READ, RIG_SECOND / 1000);
		slow(&rig, PST_IO_WRITE, RIG_SECOND / 500);
		for (unsigned round = 0; round < 20; round++) {
			for (unsigned i = 0; i < 3; i++) {
				assert_int_equal(get(&hosts[i].io, 3, old_block[i], 1), 0);
				pst_put_le64(new_block[i], pst_get_le64(old_block[i]) + 1);
				caw_start(&hosts[i].io, calls[i], 3, old_block[i], new_block[i]);
			}
			for (unsigned i = 0; i < 3; i++)
				steps += call_status(&hosts[i].io, &calls[i][1]) == 0;
		}
		assert_int_equal(get(&hosts[0].io, 3, back, 1), 0);
		assert_int_equal(pst_get_le64(back), steps);
		assert_in_range(steps, 20, 59);
		/* A write that comes while one is at work is done after it; one of another block before. */
		pst_fault_clear(rig.volume);
		slow(&rig, PST_IO_READ, RIG_SECOND / 10);
		caw_start(&hosts[0].io, calls[0], 3, back, new_block[0]);
		pst_sim_run_for(rig.sim, RIG_SECOND / 50);
		memset(new_block[1], 0x77, 4096);
		sqe = sqe_io(NVME_CMD_WRITE, 3, 1);
		call_start(&hosts[1].io, &write, &sqe, PST_CONN_DATA_OUT, new_block[1], 4096);
		sqe = sqe_io(NVME_CMD_WRITE, 4, 1);
		call_start(&hosts[2].io, &elsewhere, &sqe, PST_CONN_DATA_OUT, new_block[1], 4096);
		pst_sim_run_for(rig.sim, RIG_SECOND / 50);
		assert_true(elsewhere.done);
		assert_false(write.done || calls[0][1].done);
		caw_is(&hosts[0].io, calls[0], 0, 0);
		assert_int_equal(call_status(&hosts[1].io, &write), 0);
		assert_int_equal(get(&hosts[0].io, 3, back, 1), 0);
		assert_memory_equal(back, new_block[1], 4096);
		for (unsigned i = 0; i < 3; i++)
			host_close(&hosts[i]);
		rig_free(&rig);
	}
}

/* What is no pair is told so, both halves, and the queue goes on. */
static void broken_pairs_are_refused(void **state)
{
	static const struct {
		uint8_t opcode[2], flags[2];
		uint32_t lba[2], blocks[2];
		uint16_t want[2];
	} cases[] = {
		{ { 5, 2 }, { 1, 0 }, { 0, 0 }, { 1, 1 }, { NVME_FUSED_MISSING, 0 } },
		{ { 5, 5 }, { 1, 1 }, { 0, 0 }, { 1, 1 }, { NVME_FUSED_MISSING, 0xffff } },
		{ { 2, 1 }, { 0, 2 }, { 0, 0 }, { 1, 1 }, { 0, NVME_FUSED_MISSING } },
		{ { 1, 1 }, { 1, 2 }, { 0, 0 }, { 1, 1 }, { NVME_INVALID_FIELD, NVME_FUSED_FAILED } },
		{ { 5, 1 }, { 3, 2 }, { 0, 0 }, { 1, 1 }, { NVME_INVALID_FIELD, NVME_FUSED_MISSING } },
		{ { 5, 1 }, { 1, 2 }, { 0, 1 }, { 1, 1 }, { NVME_FUSED_FAILED, NVME_INVALID_FIELD } },
		{ { 5, 1 }, { 1, 2 }, { 0, 0 }, { 2, 2 }, { NVME_ATOMIC_UNIT_EXCEEDED, NVME_FUSED_FAILED } },
		{ { 5, 1 }, { 1, 2 }, { 0, 0 }, { 1, 2 }, { NVME_FUSED_FAILED, NVME_ATOMIC_UNIT_EXCEEDED } },
		{ { 5, 1 }, { 1, 2 }, { 9999999, 0 }, { 1, 1 }, { NVME_LBA_OUT_OF_RANGE, NVME_FUSED_FAILED } },
	};
	static uint8_t data[8192];
	struct rig rig;
	struct host h;
	struct call calls[2];

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1, .qos = true });
	host_connect(&rig, &h, false, 0);
	for (size_t i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		for (unsigned k = 0; k < 2; k++) {
			struct nvme_sqe sqe = sqe_io(cases[i].opcode[k], cases[i].lba[k], cases[i].blocks[k]);

			sqe.flags = cases[i].flags[k];
			call_start(&h.io, &calls[k], &sqe,
				   cases[i].opcode[k] == NVME_CMD_READ ? PST_CONN_DATA_IN : PST_CONN_DATA_OUT, data,
				   cases[i].blocks[k] * 4096);
		}
		for (unsigned k = 0; k < 2; k++)
			if (cases[i].want[k] == 0xffff) /* a first one that waits: anything ends it */
				assert_int_equal(get(&h.io, 0, data, 1), 0);
			else
				assert_int_equal(call_status(&h.io, &calls[k]) & ~DNR, cases[i].want[k]);
	}
	caw_start(&h.io, calls, 0, data, data);
	caw_is(&h.io, calls, 0, 0);
	/* A host that goes away between the two, and with pairs on their way. */
	struct nvme_sqe sqe = sqe_io(NVME_CMD_COMPARE, 0, 1);
	struct call many[10][2], first;
	for (unsigned i = 0; i < 10; i++)
		caw_start(&h.io, many[i], i % 3, data, data);
	sqe.flags = 1;
	call_start(&h.io, &first, &sqe, PST_CONN_DATA_OUT, data, 4096);
	pst_sim_run_for(rig.sim, 200000);
	host_close(&h);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compare_verify_copy),         cmocka_unit_test(a_failed_copy_says_where),
		cmocka_unit_test(compounds_take_turns),        cmocka_unit_test(compare_and_write_does_both_or_nothing),
		cmocka_unit_test(compare_and_write_is_atomic), cmocka_unit_test(broken_pairs_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
