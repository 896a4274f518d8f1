/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two superblocks of a pool whose file was made longer by a growth that was cut short: the second one is not at the
 * end of the file, and is found all the same when the first one is damaged.
 */
#include "check-image.h"
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define SECTOR 512u
#define DEVICE_BYTES ((uint64_t)4 << 20)
#define SECOND_PATH "second"

/* A pool with one volume of one block, 7, in a longer file; no process runs. */
static struct rig *longer(uint64_t seed)
{
	struct rig *r = rig_new(seed, DEVICE_BYTES, 1);

	rig_start(r);
	rig_create(r, 0, 1000);
	assert_int_equal(rig_fill(r, 0, 0, 1, 7), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	rig_pool_begin(r,
		       (struct pst_pool_op){ .kind = PST_POOL_GROW, .key = RIG_PATH, .size_bytes = DEVICE_BYTES * 2 });
	while (pst_sim_disk_size(r->node, RIG_PATH) == DEVICE_BYTES)
		pst_sim_run_for(r->sim, 1000);
	assert_false(r->pool_done);
	rig_kill(r);
	return r;
}

static uint64_t pool_bytes(struct rig *r)
{
	struct pst_pool_stats stats;

	pst_pool_stats(r->pool, &stats);
	return stats.size_bytes;
}

static bool read_block(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct rig *r = ctx;

	return rig_read_block(r, device, block, buf) ||
	       (device == 1 && pst_sim_disk_peek(r->node, SECOND_PATH, block * B, buf, B));
}

/* The first one still tells where the second lies. */
static void second_is_found_when_the_first_rots(void **state)
{
	struct rig *r = longer(9);
	uint8_t rotten = 0xa5;

	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_true(pst_sim_disk_poke(r->node, RIG_PATH, B - 100, &rotten, 1));
		rig_start(r);
		assert_int_equal(pool_bytes(r), DEVICE_BYTES);
		assert_int_equal(rig_byte(r, 0, 0), 7);
		rig_kill(r);
	}
	rig_free(r);
}

/*
 * The first addition of a device brings the table of devices, which lies in another sector than what says that there is
 * one. Power is lost while the first superblock is written: any of its sectors are new. The second one was written
 * before it.
 */
static void second_is_found_when_the_first_is_torn_by_an_addition(void **state)
{
	struct rig *r = longer(10);
	struct pst_pool_op add = { .kind = PST_POOL_DEVICE_ADD, .key = SECOND_PATH, .size_bytes = DEVICE_BYTES };
	uint8_t before[B], after[B];

	(void)state;
	rig_start(r);
	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, 0, before, B));
	assert_int_equal(rig_pool(r, add), PST_OK);
	rig_kill(r);
	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, 0, after, B));
	for (unsigned sectors = 0; sectors < 1u << (B / SECTOR); sectors++) {
		uint8_t torn[B];
		char boot_id[37], why[512];

		pst_env_boot_id(r->env, boot_id);
		for (unsigned i = 0; i < B / SECTOR; i++)
			memcpy(torn + i * SECTOR, ((sectors >> i & 1) != 0 ? after : before) + i * SECTOR, SECTOR);
		assert_true(pst_sim_disk_poke(r->node, RIG_PATH, 0, torn, B));
		if (!check_image(read_block, r, 2, pst_sim_disk_size(r->node, RIG_PATH) / B, boot_id, why))
			fail_msg("sectors %02x: %s", sectors, why);
		rig_start(r);
		assert_int_equal(pool_bytes(r), 2 * DEVICE_BYTES);
		assert_int_equal(rig_byte(r, 0, 0), 7);
		rig_kill(r);
	}
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(second_is_found_when_the_first_rots),
		cmocka_unit_test(second_is_found_when_the_first_is_torn_by_an_addition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
