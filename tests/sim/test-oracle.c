/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle must accept what the rules allow and refuse what they do not: an oracle that cannot fail proves nothing.
 */
#include "oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define B ORACLE_BLOCK_BYTES

/* What a snapshot may hold is shared and never freed (oracle-versions.c). */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void)
{
	return 1;
}

static bool reads_as(struct oracle *o, uint64_t lba, const uint8_t *buf)
{
	char why[256] = "";
	bool ok = oracle_read_end(oracle_read_begin(o, lba, 1), buf, why);

	assert_true(ok || why[0]);
	return ok;
}

static void write_ok(struct oracle *o, uint64_t lba, uint8_t *buf)
{
	oracle_write_begin(o, lba, 1, buf);
	oracle_write_end(o, lba, 1, true, false);
}

static const uint8_t zeros[B];

/* A completed write is what a read returns: neither the old contents, nor zeros, nor a block of another place. */
static void completed_write_is_read(void **state)
{
	struct oracle *o = oracle_new(1, 4), *other = oracle_new(2, 4);
	uint8_t first[B], second[B], elsewhere[B], foreign[B];

	(void)state;
	assert_true(reads_as(o, 0, zeros));
	write_ok(o, 0, first);
	write_ok(o, 1, elsewhere);
	write_ok(other, 0, foreign);
	assert_true(reads_as(o, 0, first));
	write_ok(o, 0, second);
	assert_true(reads_as(o, 0, second));
	assert_false(reads_as(o, 0, first));
	assert_false(reads_as(o, 0, zeros));
	assert_false(reads_as(o, 0, elsewhere));
	assert_false(reads_as(o, 0, foreign));
	oracle_free(o);
	oracle_free(other);
}

/* Half of one version and half of another is neither. */
static void torn_block_is_refused(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	uint8_t a[B], b[B];

	(void)state;
	write_ok(o, 0, a);
	oracle_write_begin(o, 0, 1, b);
	memcpy(a + B / 2, b + B / 2, B / 2);
	assert_false(reads_as(o, 0, a));
	oracle_free(o);
}

/* While a write is under way, and after one of unknown fate, old and new are both possible; a read decides. */
static void unknown_fate_is_old_or_new(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	uint8_t a[B], b[B], c[B];

	(void)state;
	write_ok(o, 0, a);
	oracle_write_begin(o, 0, 1, b);
	assert_true(oracle_busy(o, 0, 1));
	assert_true(reads_as(o, 0, b));
	assert_true(reads_as(o, 0, a));
	oracle_write_end(o, 0, 1, false, false);
	assert_false(oracle_busy(o, 0, 1));
	assert_true(reads_as(o, 0, a));
	assert_false(reads_as(o, 0, b)); /* decided */
	oracle_write_begin(o, 0, 1, c);
	oracle_write_end(o, 0, 1, false, false);
	assert_true(reads_as(o, 0, c));
	assert_false(reads_as(o, 0, a));
	oracle_free(o);
}

static void write_fails(struct oracle *o, uint64_t lba, uint8_t *buf)
{
	oracle_write_begin(o, lba, 1, buf);
	oracle_write_failed(o, lba, 1);
}

/* A write that was answered with an error, and that a read has not found, is there after a loss of power; or not. */
static void failed_write_may_come_back(void **state)
{
	uint8_t a[B], b[B], c[B];

	(void)state;
	for (unsigned which = 0; which < 3; which++) {
		const uint8_t *found[] = { a, b, c };
		struct oracle *o = oracle_new(1, 1);

		write_ok(o, 0, a);
		oracle_flush_end(oracle_flush_begin(o), true);
		write_fails(o, 0, b);
		assert_true(reads_as(o, 0, a));
		assert_false(reads_as(o, 0, b));
		if (which == 2) {
			write_ok(o, 0, c);
			assert_true(reads_as(o, 0, c));
			assert_false(reads_as(o, 0, a));
			assert_false(reads_as(o, 0, b));
		}
		oracle_power_loss(o);
		assert_false(reads_as(o, 0, zeros));
		assert_true(reads_as(o, 0, found[which]));
		assert_false(reads_as(o, 0, found[(which + 1) % 2])); /* decided */
		oracle_free(o);
	}
}

/* Only until a flush that began after the answer has succeeded; and what died with its process is decided by a read. */
static void failed_write_is_settled_by_a_flush(void **state)
{
	struct oracle *o = oracle_new(1, 4);
	struct oracle_flush *before;
	uint8_t buf[4][B];

	(void)state;
	before = oracle_flush_begin(o);
	for (uint64_t lba = 0; lba < 4; lba++) {
		if (lba == 1)
			oracle_flush_end(oracle_flush_begin(o), true);
		if (lba == 2)
			oracle_flush_end(before, true);
		if (lba == 3)
			oracle_flush_end(oracle_flush_begin(o), false);
		if (lba < 3)
			write_fails(o, lba, buf[lba]);
		else
			oracle_write_begin(o, lba, 1, buf[lba]);
		if (lba == 3)
			oracle_write_end(o, lba, 1, false, false);
		assert_true(reads_as(o, lba, zeros));
	}
	oracle_power_loss(o);
	assert_false(reads_as(o, 0, buf[0]));
	assert_true(reads_as(o, 1, buf[1]));
	assert_true(reads_as(o, 2, buf[2]));
	assert_false(reads_as(o, 3, buf[3]));
	oracle_free(o);
}

/*
 * A pool that has stopped could not note that a write never was: it is there, or not, once the pool is opened again. A
 * read of zeros meanwhile does not tell those before the write from those of a failed one after it.
 */
static void failed_write_may_come_back_in_a_stopped_pool(void **state)
{
	uint8_t a[B], b[B], c[B];

	(void)state;
	for (unsigned which = 0; which < 4; which++) {
		struct oracle *o = oracle_new(1, 1);

		if (which % 2 == 0)
			write_ok(o, 0, a);
		write_fails(o, 0, b);
		assert_true(reads_as(o, 0, which % 2 == 0 ? a : zeros));
		assert_false(reads_as(o, 0, b));
		oracle_write_begin(o, 0, 1, NULL);
		oracle_write_end(o, 0, 1, false, false);
		if (which % 2 == 1)
			assert_true(reads_as(o, 0, zeros));
		if (which == 3)
			write_ok(o, 0, c);
		oracle_stopped(o);
		assert_int_equal(reads_as(o, 0, b), which < 3);
		assert_int_equal(reads_as(o, 0, which == 3 ? c : zeros), which == 3);
		oracle_free(o);
	}
}

/* A snapshot that was complete before the power failed can't have what had failed before it began. */
static void failed_write_is_in_no_later_snapshot(void **state)
{
	struct oracle *o = oracle_new(1, 1), *s;
	uint8_t a[B], b[B];

	(void)state;
	write_ok(o, 0, a);
	write_fails(o, 0, b);
	assert_true(reads_as(o, 0, a));
	s = oracle_snapshot_end(oracle_snapshot_begin(o, oracle_instant_new()), 2, false);
	oracle_power_loss(o);
	assert_true(reads_as(o, 0, b));
	assert_false(reads_as(s, 0, b));
	assert_true(reads_as(s, 0, a));
	oracle_free(o);
	oracle_free(s);
}

/* What was flushed survives the power; what was not is any version since, and then stays. */
static void power_loss_takes_unflushed(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	uint8_t old[B], a[B], b[B];

	(void)state;
	write_ok(o, 0, old);
	write_ok(o, 0, a);
	oracle_flush_end(oracle_flush_begin(o), true);
	write_ok(o, 0, b);
	oracle_power_loss(o);
	assert_false(reads_as(o, 0, old));
	assert_false(reads_as(o, 0, zeros));
	assert_true(reads_as(o, 0, a));
	assert_false(reads_as(o, 0, b));
	write_ok(o, 0, b);
	oracle_power_loss(o);
	assert_true(reads_as(o, 0, b));
	oracle_free(o);
}

/* A flush covers what had completed when it began, if it succeeds; a durable write needs none. */
static void flush_covers_what_was_complete(void **state)
{
	struct oracle *o = oracle_new(1, 3);
	struct oracle_flush *flush;
	uint8_t a[B], b[B], c[B];

	(void)state;
	oracle_write_begin(o, 0, 1, a);
	flush = oracle_flush_begin(o);
	oracle_write_end(o, 0, 1, true, false);
	oracle_flush_end(flush, true);
	write_ok(o, 1, b);
	oracle_flush_end(oracle_flush_begin(o), false);
	oracle_write_begin(o, 2, 1, c);
	oracle_write_end(o, 2, 1, true, true);
	oracle_power_loss(o);
	assert_true(reads_as(o, 0, zeros));
	assert_true(reads_as(o, 1, zeros));
	assert_false(reads_as(o, 2, zeros));
	assert_true(reads_as(o, 2, c));
	oracle_free(o);
}

/* A read that a power loss met may have been answered before or after it. */
static void read_across_power_loss(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	struct oracle_read *first, *second;
	uint8_t a[B];
	char why[256];

	(void)state;
	write_ok(o, 0, a);
	first = oracle_read_begin(o, 0, 1);
	second = oracle_read_begin(o, 0, 1);
	oracle_power_loss(o);
	assert_true(oracle_read_end(first, zeros, why));
	assert_true(oracle_read_end(second, a, why));
	oracle_free(o);
}

/* Histories are pruned, not forgotten: after hundreds of versions the rules still hold. */
static void long_history(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	uint8_t buf[B], flushed[B];

	(void)state;
	for (int i = 0; i < 500; i++) {
		write_ok(o, 0, buf);
		assert_true(reads_as(o, 0, buf));
		if (i % 7 == 0) {
			memcpy(flushed, buf, B);
			oracle_flush_end(oracle_flush_begin(o), true);
		}
	}
	oracle_power_loss(o);
	assert_false(reads_as(o, 0, zeros));
	assert_true(reads_as(o, 0, flushed));
	assert_false(reads_as(o, 0, buf));
	oracle_free(o);
}

/* A slow read may return what was current when it began, however many versions came since. */
static void slow_read_over_many_writes(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	struct oracle_read *read;
	uint8_t first[B], buf[B];
	char why[256];

	(void)state;
	write_ok(o, 0, first);
	read = oracle_read_begin(o, 0, 1);
	for (int i = 0; i < 100; i++) {
		oracle_write_begin(o, 0, 1, buf);
		oracle_write_end(o, 0, 1, true, true);
	}
	assert_true(oracle_read_end(read, first, why));
	assert_false(reads_as(o, 0, first));
	oracle_free(o);
}

/* A read may have fetched a block before the power failed and complete after another read has seen the loss. */
static void slow_read_saw_what_was_lost(void **state)
{
	struct oracle *o = oracle_new(1, 1);
	struct oracle_read *slow;
	uint8_t a[B];
	char why[256];

	(void)state;
	write_ok(o, 0, a);
	slow = oracle_read_begin(o, 0, 1);
	oracle_power_loss(o);
	assert_true(reads_as(o, 0, zeros));
	assert_true(oracle_read_end(slow, a, why));
	assert_true(reads_as(o, 0, zeros));
	assert_false(reads_as(o, 0, a));
	oracle_free(o);
}

/*
 * The answer to a write may be seen after a power loss that came between its execution and the answer: then the write
 * may be lost like any that was complete and not flushed, and a flush that follows proves nothing about it. With FUA it
 * stands.
 */
static void answer_after_power_loss_proves_nothing(void **state)
{
	struct oracle *o = oracle_new(1, 2);
	uint8_t old[B], a[B], b[B], c[B];

	(void)state;
	write_ok(o, 0, old);
	oracle_flush_end(oracle_flush_begin(o), true);
	oracle_write_begin(o, 0, 1, a);
	oracle_write_begin(o, 1, 1, b);
	oracle_power_loss(o);
	oracle_write_end(o, 0, 1, true, false);
	oracle_write_end(o, 1, 1, true, true);
	oracle_flush_end(oracle_flush_begin(o), true);
	assert_true(reads_as(o, 0, a)); /* it was sent again */
	assert_true(reads_as(o, 1, b));
	assert_false(reads_as(o, 1, zeros));

	oracle_write_begin(o, 0, 1, c);
	oracle_power_loss(o);
	oracle_write_end(o, 0, 1, true, false);
	assert_true(reads_as(o, 0, old)); /* a was not flushed, c was lost */
	assert_false(reads_as(o, 0, c));
	oracle_free(o);
}

/* ---- Versions ---- */

/* A snapshot holds what was complete, whatever happens to the volume afterwards; so does its clone, until it is
 * written. */
static void snapshot_stays(void **state)
{
	struct oracle *o = oracle_new(1 << 16, 2), *s, *c;
	struct oracle_snapshot *taking;
	uint8_t first[B], second[B], third[B];

	(void)state;
	write_ok(o, 0, first);
	taking = oracle_snapshot_begin(o, oracle_instant_new());
	s = oracle_snapshot_end(taking, (1 << 16) + 1, false);
	write_ok(o, 0, second);
	assert_true(reads_as(o, 0, second));
	assert_true(reads_as(s, 0, first));
	assert_false(reads_as(s, 0, second));
	assert_false(reads_as(s, 0, zeros));
	assert_true(reads_as(s, 1, zeros));
	c = oracle_clone(s, (1 << 16) + 2);
	assert_true(reads_as(c, 0, first));
	write_ok(c, 0, third);
	assert_true(reads_as(c, 0, third));
	assert_false(reads_as(c, 0, first));
	assert_false(reads_as(s, 0, third));
	assert_false(reads_as(o, 0, third));
	oracle_rollback(o, s, true);
	assert_true(reads_as(o, 0, first));
	assert_false(reads_as(o, 0, second));
}

/* A write under way while a snapshot is taken is in it or not; the first read decides, for its clones and rollbacks
 * too. */
static void snapshot_beside_a_write_is_old_or_new(void **state)
{
	uint8_t old[B], new[B];

	(void)state;
	for (unsigned seen = 0; seen < 2; seen++) {
		struct oracle *o = oracle_new(1 << 16, 1), *s, *c;
		struct oracle_snapshot *taking;

		write_ok(o, 0, old);
		taking = oracle_snapshot_begin(o, oracle_instant_new());
		write_ok(o, 0, new);
		s = oracle_snapshot_end(taking, (1 << 16) + 1, false);
		c = oracle_clone(s, (1 << 16) + 2);
		assert_true(reads_as(c, 0, seen ? new : old));
		assert_false(reads_as(s, 0, seen ? old : new));
		assert_true(reads_as(s, 0, seen ? new : old));
		assert_true(reads_as(o, 0, new));
		oracle_rollback(o, s, true);
		assert_false(reads_as(o, 0, seen ? old : new));
	}
}

/* B began when A was complete: a group's snapshot with B and without A is of no instant. The three others are. */
static void snapshot_shows_one_instant(void **state)
{
	uint8_t a[B], b[B];

	(void)state;
	for (unsigned with = 0; with < 4; with++) {
		struct oracle *o = oracle_new(1 << 16, 1), *p = oracle_new(2 << 16, 1), *so, *sp;
		struct oracle_instant *instant = oracle_instant_new();
		struct oracle_snapshot *to = oracle_snapshot_begin(o, instant), *tp = oracle_snapshot_begin(p, instant);
		bool ok;

		write_ok(o, 0, a);
		write_ok(p, 0, b);
		so = oracle_snapshot_end(to, (1 << 16) + 1, false);
		sp = oracle_snapshot_end(tp, (2 << 16) + 1, false);
		ok = reads_as(so, 0, with & 1 ? a : zeros);
		ok = reads_as(sp, 0, with & 2 ? b : zeros) && ok;
		assert_int_equal(ok, with != 2);
	}
}

/* Writes that were under way together are of one instant in every combination. */
static void snapshot_of_concurrent_writes(void **state)
{
	uint8_t a[B], b[B];

	(void)state;
	for (unsigned with = 0; with < 4; with++) {
		struct oracle *o = oracle_new(1 << 16, 2), *s;
		struct oracle_snapshot *taking = oracle_snapshot_begin(o, oracle_instant_new());

		oracle_write_begin(o, 0, 1, a);
		oracle_write_begin(o, 1, 1, b);
		oracle_write_end(o, 0, 1, true, false);
		oracle_write_end(o, 1, 1, true, false);
		s = oracle_snapshot_end(taking, (1 << 16) + 1, false);
		assert_true(reads_as(s, 0, with & 1 ? a : zeros));
		assert_true(reads_as(s, 1, with & 2 ? b : zeros));
	}
}

/* After a lie, any whole version of the family may be there, but no other place's and no other family's. */
static void lenient_still_knows_families(void **state)
{
	struct oracle *o = oracle_new(1 << 16, 2), *other = oracle_new(2 << 16, 2);
	uint8_t first[B], second[B], elsewhere[B], foreign[B];

	(void)state;
	write_ok(o, 0, first);
	write_ok(o, 0, second);
	write_ok(o, 1, elsewhere);
	write_ok(other, 0, foreign);
	oracle_be_lenient(o, true);
	assert_true(reads_as(o, 0, first));
	assert_true(reads_as(o, 0, zeros));
	assert_true(reads_as(o, 0, second));
	assert_false(reads_as(o, 0, elsewhere));
	assert_false(reads_as(o, 0, foreign));
	oracle_be_lenient(o, false);
	assert_true(reads_as(o, 0, foreign));
	assert_false(reads_as(o, 0, elsewhere));
	first[B / 2] ^= 1;
	assert_false(reads_as(o, 0, first));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completed_write_is_read),
		cmocka_unit_test(torn_block_is_refused),
		cmocka_unit_test(unknown_fate_is_old_or_new),
		cmocka_unit_test(failed_write_may_come_back),
		cmocka_unit_test(failed_write_may_come_back_in_a_stopped_pool),
		cmocka_unit_test(failed_write_is_settled_by_a_flush),
		cmocka_unit_test(failed_write_is_in_no_later_snapshot),
		cmocka_unit_test(power_loss_takes_unflushed),
		cmocka_unit_test(flush_covers_what_was_complete),
		cmocka_unit_test(read_across_power_loss),
		cmocka_unit_test(long_history),
		cmocka_unit_test(slow_read_over_many_writes),
		cmocka_unit_test(slow_read_saw_what_was_lost),
		cmocka_unit_test(answer_after_power_loss_proves_nothing),
		cmocka_unit_test(snapshot_stays),
		cmocka_unit_test(snapshot_beside_a_write_is_old_or_new),
		cmocka_unit_test(snapshot_shows_one_instant),
		cmocka_unit_test(snapshot_of_concurrent_writes),
		cmocka_unit_test(lenient_still_knows_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
