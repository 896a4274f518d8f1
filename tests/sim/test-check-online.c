/* SPDX-License-Identifier: Apache-2.0 */
/* The check of an open pool, beside its work (src/store/check-online.c). */
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define BLOCKS 1200u

struct checking {
	struct pst_check check;
	struct pst_pool_op op;
	bool done;
	char text[4096];
};

static void on_finding(void *ctx, bool repaired, const char *text)
{
	struct checking *c = ctx;
	size_t used = strlen(c->text);

	(void)repaired;
	snprintf(c->text + used, sizeof(c->text) - used, "%s\n", text);
}

static void on_check(struct pst_pool_op *op)
{
	pst_container_of(op, struct checking, op)->done = true;
}

static bool checked(void *ctx)
{
	return ((struct checking *)ctx)->done;
}

static void check_begin(struct rig *r, struct checking *c)
{
	*c = (struct checking){ .check = { .data = true, .finding = on_finding } };
	c->check.ctx = c;
	c->op = (struct pst_pool_op){ .kind = PST_POOL_CHECK, .check = &c->check, .done = on_check };
	pst_pool_submit(r->pool, &c->op);
}

static struct rig *rig_filled(uint64_t seed, uint64_t bytes)
{
	struct rig *r = rig_new(seed, bytes, 2);

	rig_start(r);
	for (unsigned v = 0; v < 2; v++) {
		rig_create(r, v, BLOCKS);
		for (uint64_t lba = 0; lba < BLOCKS; lba += 24)
			assert_int_equal(rig_fill(r, v, lba, 16, (uint8_t)(1 + v)), PST_OK);
	}
	return r;
}

static void snapshot(struct rig *r, uint8_t of, uint8_t fresh)
{
	struct pst_snapshot_member member = { .volume = { of }, .snapshot = { fresh } };
	struct pst_pool_op op = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	assert_int_equal(rig_pool(r, op), PST_OK);
}

/* Writes, discards, snapshots, new and deleted volumes all the while: nothing is found, and the space comes back. */
static void a_busy_pool_is_clean(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct rig *r = rig_filled(seed, (uint64_t)160 << 20);
		struct checking c;
		unsigned writes = 0;

		snapshot(r, 1, 50);
		check_begin(r, &c);
		for (uint64_t lba = 0; !c.done; lba = (lba + 7) % (BLOCKS - 8)) {
			assert_int_equal(rig_fill(r, writes % 2, lba, 8, (uint8_t)writes), PST_OK);
			if (writes % 5 == 0)
				assert_int_equal(rig_io(r, 1, PST_IO_DISCARD, lba, 4, NULL), PST_OK);
			if (writes == 20)
				snapshot(r, 2, 60);
			if (writes == 40) {
				struct pst_pool_op op = { .kind = PST_POOL_VOLUME_DELETE, .uuid = { 50 } };

				assert_int_equal(rig_pool(r, op), PST_OK);
			}
			writes++;
		}
		if (c.op.err != PST_OK || c.check.findings > 0)
			print_error("%s %s\n%s", pst_err_name(c.op.err), c.op.detail, c.text);
		assert_int_equal(c.op.err, PST_OK);
		assert_int_equal(c.check.findings, 0);
		assert_true(c.check.data_read >= 1000 && writes > 50);
		rig_stop(r);
		rig_free(r);
	}
}

/* A block that rots on the disk is found while the pool is open. */
static void damage_is_found(void **state)
{
	struct rig *r = rig_filled(11, (uint64_t)24 << 20);
	struct store *st = rig_store(r);
	uint8_t byte = 0x5a;
	struct checking c;
	uint64_t block;

	(void)state;
	for (block = st->parts[0].geo.data_start; block < st->parts[0].geo.blocks; block++) {
		uint8_t buf[64];

		assert_true(pst_sim_disk_peek(r->node, RIG_PATH, (st->parts[0].geo.start + block) * B, buf, 64));
		if (buf[0] == 1 && buf[63] == 1 && pst_alloc_is_used(&st->parts[0].alloc, (uint32_t)block))
			break;
	}
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, (st->parts[0].geo.start + block) * B + 100, &byte, 1));
	check_begin(r, &c);
	assert_true(pst_sim_run_until(r->sim, checked, &c, 600 * RIG_SECOND));
	assert_int_equal(c.op.err, PST_OK);
	assert_int_equal(c.check.findings, 1);
	assert_non_null(strstr(c.text, "has another checksum than was written"));
	rig_stop(r);
	rig_free(r);
}

/* A pool that is nearly full gets its blocks back: the check ends, the writes don't fail. */
static void a_full_pool_goes_on(void **state)
{
	struct rig *r = rig_new(12, (uint64_t)8 << 20, 1);
	struct checking c;

	(void)state;
	rig_start(r);
	rig_create(r, 0, 1500);
	for (uint64_t lba = 0; lba < 1400; lba += 20)
		assert_int_equal(rig_fill(r, 0, lba, 20, 1), PST_OK);
	check_begin(r, &c);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(rig_fill(r, 0, (i * 20) % 1400, 20, (uint8_t)i), PST_OK);
	assert_true(pst_sim_run_until(r->sim, checked, &c, 600 * RIG_SECOND));
	assert_true(c.op.err == PST_OK || c.op.err == PST_E_AGAIN);
	assert_int_equal(c.check.findings, 0);
	rig_stop(r);
	rig_free(r);
}

/* One at a time; closing the pool ends it; repair is refused. */
static void what_is_refused(void **state)
{
	struct rig *r = rig_filled(13, (uint64_t)24 << 20);
	struct checking c, second, third;

	(void)state;
	check_begin(r, &c);
	check_begin(r, &second);
	third = (struct checking){ .check = { .repair = true } };
	third.op = (struct pst_pool_op){ .kind = PST_POOL_CHECK, .check = &third.check, .done = on_check };
	assert_true(pst_sim_run_until(r->sim, checked, &second, 600 * RIG_SECOND));
	assert_int_equal(second.op.err, PST_E_BUSY);
	rig_stop(r);
	assert_true(c.done);
	assert_int_equal(c.op.err, PST_E_CANCELLED);
	rig_start(r);
	pst_pool_submit(r->pool, &third.op);
	assert_true(pst_sim_run_until(r->sim, checked, &third, 600 * RIG_SECOND));
	assert_int_equal(third.op.err, PST_E_UNSUPPORTED);
	rig_stop(r);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_busy_pool_is_clean),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(a_full_pool_goes_on),
		cmocka_unit_test(what_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
