/* SPDX-License-Identifier: Apache-2.0 */
/* Key slots: two copies, overwritten in place, that no crash may lose, bring back, or leak. */
#include "check-image.h"
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define POOL_BYTES ((uint64_t)8 << 20)
#define FAMILY 20u /* a volume that the rig does not open by itself */
#define VALUE_BYTES 216u
#define CRASHES 400u

static void value_fill(uint8_t value[VALUE_BYTES], uint8_t version)
{
	for (unsigned i = 0; i < VALUE_BYTES; i++)
		value[i] = (uint8_t)((version * 1000u + i + 1) * 2654435761u >> 13);
}

static struct pst_pool_op op_of(enum pst_pool_op_kind kind)
{
	struct pst_pool_op op = { .kind = kind, .block_count = 100 };

	rig_uuid(FAMILY, op.uuid);
	return op;
}

static pst_err run(struct rig *r, enum pst_pool_op_kind kind)
{
	return rig_pool(r, op_of(kind));
}

static uint8_t value_buf[VALUE_BYTES];

static struct pst_pool_op put_of(uint8_t version)
{
	struct pst_pool_op op = op_of(PST_POOL_KEY_PUT);

	value_fill(value_buf, version);
	op.value = value_buf;
	op.value_bytes = VALUE_BYTES;
	return op;
}

static void put(struct rig *r, uint8_t version)
{
	assert_int_equal(rig_pool(r, put_of(version)), PST_OK);
}

/* The version that is there; 0: none; fails on anything else. */
static uint8_t get(struct rig *r)
{
	static uint8_t buf[PST_POOL_KEY_BYTES_MAX];
	uint8_t want[VALUE_BYTES];
	struct pst_pool_op op = op_of(PST_POOL_KEY_GET);
	pst_err err;

	memset(buf, 0, sizeof(buf));
	op.key_bytes = buf;
	err = rig_pool(r, op);
	if (err == PST_E_NOTFOUND)
		return 0;
	assert_int_equal(err, PST_OK);
	assert_int_equal(r->op.value_bytes, VALUE_BYTES);
	for (uint8_t version = 1; version < 9; version++) {
		value_fill(want, version);
		if (memcmp(buf, want, VALUE_BYTES) == 0)
			return version;
	}
	fail_msg("the slot holds what nobody put there");
	return 0;
}

static struct rig *new_rig(uint64_t seed)
{
	struct rig *r = rig_new(seed, POOL_BYTES, 2);

	rig_start(r);
	assert_int_equal(run(r, PST_POOL_VOLUME_CREATE), PST_OK);
	return r;
}

/* Where the slot lies in the pool file. */
static uint64_t slot_offset(struct rig *r)
{
	uint8_t uuid[16];
	const struct part *p = &rig_store(r)->parts[0];

	rig_uuid(FAMILY, uuid);
	assert_non_null(svol_find(rig_store(r), uuid));
	return (p->geo.start + svol_find(rig_store(r), uuid)->disk.key_block) * (uint64_t)B;
}

static void check(struct rig *r)
{
	char why[512];

	if (!check_image(rig_read_block, r, 1, pst_sim_disk_size(r->node, RIG_PATH) / B, NULL, why))
		fail_msg("%s", why);
}

/* Does any block of the file hold a piece of this version's value? */
static bool on_disk(struct rig *r, uint8_t version)
{
	uint64_t size = pst_sim_disk_size(r->node, RIG_PATH);
	uint8_t value[VALUE_BYTES], block[B];

	value_fill(value, version);
	for (uint64_t at = 0; at < size; at += B) {
		assert_true(pst_sim_disk_peek(r->node, RIG_PATH, at, block, B));
		for (unsigned i = 0; i + 32 <= VALUE_BYTES; i += 32)
			if (memmem(block, B, value + i, 32) != NULL)
				return true;
	}
	return false;
}

static uint64_t used_bytes(struct rig *r)
{
	struct pst_pool_stats s;

	pst_pool_stats(r->pool, &s);
	return s.used_bytes;
}

/* Puts replace each other in the same place, outlive stops, kills and power cuts; without one there is none. */
static void puts_replace_each_other(void **state)
{
	struct rig *r = new_rig(1);
	uint64_t offset;

	(void)state;
	assert_int_equal(get(r), 0);
	assert_int_equal(run(r, PST_POOL_KEY_ERASE), PST_E_NOTFOUND);
	put(r, 1);
	offset = slot_offset(r);
	assert_int_equal(get(r), 1);
	rig_kill(r);
	rig_start(r);
	assert_int_equal(get(r), 1);
	put(r, 2);
	put(r, 3);
	rig_power(r);
	rig_start(r);
	assert_int_equal(get(r), 3);
	assert_true(slot_offset(r) == offset);
	assert_false(on_disk(r, 1) || on_disk(r, 2)); /* both copies were overwritten */
	rig_stop(r);
	check(r);
	rig_start(r);
	assert_int_equal(get(r), 3);
	rig_free(r);
}

/* Erased is gone from the disk, at once, and stays gone; the volume can still be used and deleted. */
static void erased_is_gone(void **state)
{
	struct rig *r = new_rig(2);

	(void)state;
	put(r, 1);
	assert_true(on_disk(r, 1));
	assert_int_equal(run(r, PST_POOL_KEY_ERASE), PST_OK);
	assert_false(on_disk(r, 1));
	assert_int_equal(get(r), 0);
	rig_power(r);
	rig_start(r);
	assert_int_equal(get(r), 0);
	assert_int_equal(run(r, PST_POOL_VOLUME_DELETE), PST_OK);
	rig_stop(r);
	check(r);
	rig_free(r);
}

/* A deleted family's key is wiped, and its two blocks come back. */
static void deletion_wipes_and_frees(void **state)
{
	struct rig *r = rig_new(3, POOL_BYTES, 2);
	uint64_t before;

	(void)state;
	rig_start(r);
	rig_stop(r);
	rig_start(r);
	before = used_bytes(r);
	assert_int_equal(run(r, PST_POOL_VOLUME_CREATE), PST_OK);
	put(r, 4);
	assert_int_equal(used_bytes(r) - before, 2 * B);
	assert_int_equal(run(r, PST_POOL_VOLUME_DELETE), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND); /* in the background */
	assert_false(on_disk(r, 4));
	rig_stop(r);
	check(r);
	rig_start(r);
	assert_true(used_bytes(r) <= before + B); /* the catalog may have got a block */
	rig_free(r);
}

/* One damaged copy costs nothing, whichever it is and however it is damaged, and the next put mends it; two cost all.
 */
static void one_copy_is_enough(void **state)
{
	static const uint8_t garbage[B] = { 1, 2, 3 };

	(void)state;
	for (unsigned copy = 0; copy < 2; copy++) {
		for (unsigned latent = 0; latent < 2; latent++) {
			struct rig *r = new_rig(4 + copy);
			static uint8_t out[PST_POOL_KEY_BYTES_MAX];
			struct pst_pool_op lost = op_of(PST_POOL_KEY_GET);
			uint64_t offset;

			put(r, 1);
			offset = slot_offset(r);
			if (latent)
				assert_true(pst_sim_disk_damage(r->node, RIG_PATH, offset + (uint64_t)copy * B, 512));
			else
				assert_true(
				    pst_sim_disk_poke(r->node, RIG_PATH, offset + (uint64_t)copy * B, garbage, B));
			assert_int_equal(get(r), 1);
			put(r, 2);
			assert_int_equal(get(r), 2);
			/* The other copy alone is good now. */
			assert_true(
			    pst_sim_disk_poke(r->node, RIG_PATH, offset + (uint64_t)(1 - copy) * B, garbage, B));
			assert_int_equal(get(r), 2);
			assert_true(pst_sim_disk_poke(r->node, RIG_PATH, offset + (uint64_t)copy * B, garbage, B));
			lost.key_bytes = out;
			assert_int_equal(rig_pool(r, lost), PST_E_CHECKSUM);
			rig_free(r);
		}
	}
}

/* A copy that zeros have taken the place of is damage, not an erasure. */
static void zeros_are_no_erasure(void **state)
{
	struct rig *r = new_rig(7);
	static const uint8_t zeros[B];

	(void)state;
	put(r, 1);
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, slot_offset(r), zeros, B));
	assert_int_equal(get(r), 1);
	rig_free(r);
}

static void crash_done(struct pst_pool_op *op)
{
	(void)op;
}

/*
 * Crash at any instant of @op, with any subset of what was not flushed, torn; then open again. Returns whether the
 * operation had been confirmed.
 */
static bool crash_during(struct rig *r, struct pst_pool_op op, uint64_t after_ns)
{
	const struct pst_sim_faults faults = { .disk_tear_bytes = 512, .disk_keep_percent = 101 };
	bool confirmed;

	pst_sim_set_faults(r->sim, r->node, &faults);
	r->op = op;
	r->op.err = PST_E_AGAIN;
	r->op.done = crash_done;
	pst_pool_submit(r->pool, &r->op);
	r->op.err = PST_E_AGAIN;
	pst_sim_run_for(r->sim, after_ns);
	confirmed = r->op.err == PST_OK;
	if (after_ns % 3 == 0)
		rig_kill(r);
	else
		rig_power(r);
	rig_start(r);
	return confirmed;
}

/* The first put: all or nothing; what a crash leaves of it is neither found nor leaked. */
static void crash_during_the_first_put(void **state)
{
	unsigned seen[2] = { 0 };

	(void)state;
	for (unsigned i = 0; i < CRASHES; i++) {
		struct rig *r = new_rig(1000 + i);
		bool confirmed = crash_during(r, put_of(1), (uint64_t)i * 5000);
		uint8_t version = get(r);

		assert_true(version == 1 || (version == 0 && !confirmed));
		seen[version]++;
		if (version == 0)
			put(r, 2);
		rig_stop(r);
		check(r);
		rig_free(r);
	}
	assert_true(seen[0] > 10 && seen[1] > 10);
}

/* A later put: the old value or the new one, never neither, and the new one once that was confirmed. */
static void crash_during_a_later_put(void **state)
{
	unsigned seen[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < CRASHES; i++) {
		struct rig *r = new_rig(2000 + i);
		bool confirmed;
		uint8_t version;

		put(r, 1);
		confirmed = crash_during(r, put_of(2), (uint64_t)i * 5000);
		version = get(r);
		assert_true(version == 2 || (version == 1 && !confirmed));
		seen[version]++;
		put(r, 3);
		assert_int_equal(get(r), 3);
		rig_stop(r);
		check(r);
		rig_free(r);
	}
	assert_true(seen[1] > 10 && seen[2] > 10);
}

/* An erasure: once it is found to have happened, both copies are gone; once confirmed, it has happened. */
static void crash_during_an_erasure(void **state)
{
	unsigned seen[2] = { 0 };

	(void)state;
	for (unsigned i = 0; i < CRASHES; i++) {
		struct rig *r = new_rig(3000 + i);
		bool confirmed;
		uint8_t version;

		put(r, 1);
		confirmed = crash_during(r, op_of(PST_POOL_KEY_ERASE), (uint64_t)i * 5000);
		version = get(r);
		assert_true(version == 0 || (version == 1 && !confirmed));
		seen[version]++;
		if (version == 0)
			assert_false(on_disk(r, 1));
		rig_stop(r);
		check(r);
		rig_free(r);
	}
	assert_true(seen[0] > 10 && seen[1] > 10);
}

/* A deletion: the key is there with the volume, or gone from the disk; nothing leaks. */
static void crash_during_a_deletion(void **state)
{
	unsigned seen[2] = { 0 };

	(void)state;
	for (unsigned i = 0; i < CRASHES; i++) {
		struct rig *r = new_rig(4000 + i);
		bool confirmed;
		uint8_t version;

		put(r, 1);
		confirmed = crash_during(r, op_of(PST_POOL_VOLUME_DELETE), (uint64_t)i * 5000);
		version = get(r); /* not found: the volume is gone */
		assert_true(version == 0 || (version == 1 && !confirmed));
		seen[version]++;
		rig_stop(r); /* what was begun is ended */
		if (version == 0)
			assert_false(on_disk(r, 1));
		check(r);
		rig_free(r);
	}
	assert_true(seen[0] > 10 && seen[1] > 10);
}

/* Errors of the device are the operation's errors; the value before stays, and a failed first put leaks nothing. */
static void device_errors_lose_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		const struct pst_sim_faults faults = { .disk_write_error_ppm = 400000 }, none = { 0 };
		struct rig *r = new_rig(5000 + i);
		pst_err err;
		uint8_t version;

		if (i % 2 == 0)
			put(r, 1);
		pst_sim_set_faults(r->sim, r->node, &faults);
		err = rig_pool(r, put_of(2));
		pst_sim_set_faults(r->sim, r->node, &none);
		version = get(r);
		if (err == PST_OK)
			assert_int_equal(version, 2);
		else
			assert_true(version == (i % 2 == 0) || (version == 2 && i % 2 == 0));
		rig_stop(r);
		check(r);
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_replace_each_other),  cmocka_unit_test(erased_is_gone),
		cmocka_unit_test(deletion_wipes_and_frees), cmocka_unit_test(one_copy_is_enough),
		cmocka_unit_test(zeros_are_no_erasure),     cmocka_unit_test(crash_during_the_first_put),
		cmocka_unit_test(crash_during_a_later_put), cmocka_unit_test(crash_during_an_erasure),
		cmocka_unit_test(crash_during_a_deletion),  cmocka_unit_test(device_errors_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
