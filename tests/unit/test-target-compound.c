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

/* Ranges as pairs of first block and count; ends with a count of 0. */
static uint16_t copy(struct link *l, uint64_t to, const uint64_t (*from)[2])
{
	uint8_t ranges[4096] = { 0 };
	uint32_t count = 0;
	struct nvme_sqe sqe;

	for (; from[count][1] > 0; count++) {
		pst_put_le64(ranges + 32 * count + 8, from[count][0]);
		pst_put_le16(ranges + 32 * count + 16, (uint16_t)(from[count][1] - 1));
	}
	sqe = sqe_io(NVME_CMD_COPY, to, count);
	return command(l, &sqe, PST_CONN_DATA_OUT, ranges, 32 * count, NULL);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compare_verify_copy),
		cmocka_unit_test(compounds_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
