/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated accelerator and its loader, on a source made of timers, and the records' own checksum. */
#include "bench/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct pst_record_layout layout = { .record_bytes = 10000, .record_count = 8, .seed = 5 };

/* Any byte of a record that changes, and a record in another's place, are noticed. */
static void records_tell_damage(void **state)
{
	uint64_t stride = pst_record_stride(&layout);
	char *buf = malloc(stride);

	(void)state;
	assert_int_equal(stride, 12288);
	pst_record_make(&layout, 3, buf);
	assert_true(pst_record_ok(&layout, 3, buf));
	assert_false(pst_record_ok(&layout, 4, buf));
	for (unsigned at = 0; at < layout.record_bytes; at += 97) {
		buf[at] ^= 1;
		assert_false(pst_record_ok(&layout, 3, buf));
		buf[at] ^= 1;
	}
	free(buf);
}

/*
 * Completes one read per poll, @pause_ns after the poll began; every @damage-th with a wrong record. Its clock moves by
 * what poll() waits and by nothing else, so figures are the same on any machine under any load.
 */
struct fake {
	struct pst_source source;
	struct pst_source_read *queue[PST_FEED_DEPTH_MAX];
	unsigned count, completed, damage;
	uint64_t pause_ns, now_ns;
};

static void fake_submit(struct pst_source *source, struct pst_source_read *read)
{
	struct fake *f = pst_container_of(source, struct fake, source);

	f->queue[f->count++] = read;
}

static void fake_poll(struct pst_source *source, uint64_t timeout_us)
{
	struct fake *f = pst_container_of(source, struct fake, source);
	struct pst_source_read *read;

	if (f->count == 0) {
		/* The last part of a microsecond still is time. */
		f->now_ns += PST_MAX(timeout_us, (uint64_t)1) * 1000;
		return;
	}
	f->now_ns += f->pause_ns;
	read = f->queue[--f->count];
	pst_record_make(&layout, (uint32_t)(read->offset_bytes / pst_record_stride(&layout)), read->iov.iov_base);
	f->completed++;
	if (f->damage != 0 && f->completed % f->damage == 0)
		((char *)read->iov.iov_base)[500] ^= 4;
	read->err = PST_OK;
	read->latency_ns = 1000;
	read->done(read);
}

static uint64_t fake_now(struct pst_source *source)
{
	return pst_container_of(source, struct fake, source)->now_ns;
}

static struct pst_feed_figures run(struct fake *fake, uint64_t batch_ns)
{
	static struct pst_feed_figures figures;
	struct pst_feed_config config = {
		.layout = layout, .depth = 4, .batch_records = 4, .batches_ahead = 2, .batch_ns = batch_ns
	};
	struct pst_feed *feed;

	fake->source = (struct pst_source){ fake_submit, fake_poll, fake_now };
	fake->now_ns = 1000000000u;
	assert_int_equal(pst_feed_new(&fake->source, &config, &feed), PST_OK);
	pst_feed_run(feed, 0.2, &figures);
	pst_feed_free(feed);
	return figures;
}

static double idle(const struct pst_feed_figures *f)
{
	return (double)f->idle_ns / (double)f->elapsed_ns;
}

/*
 * Data always at hand: never idle, and a batch every 20 ms. Data ten times too slow (20 ms for a batch that takes 2
 * ms): idle nine tenths of the time. Data just too slow by half: idle a third of it.
 */
static void idle_time_is_waiting_for_data(void **state)
{
	struct fake fast = { 0 }, slow = { .pause_ns = 5000000 }, tight = { .pause_ns = 300000 };
	struct pst_feed_figures f = run(&fast, 20000000), s = run(&slow, 2000000), t = run(&tight, 800000);

	(void)state;
	assert_int_equal(f.elapsed_ns, 200000000);
	assert_true(idle(&f) < 0.001);
	assert_int_equal(f.batches, 11); /* at 0, 20 ... 200 ms */
	assert_in_range((unsigned)(idle(&s) * 1000), 890, 920);
	assert_int_equal(s.batches, 10);
	assert_in_range((unsigned)(idle(&t) * 1000), 320, 350);
}

/* The loader stops when enough is gathered: memory and reads are bounded whatever the source's speed. */
static void loader_stays_within_its_bound(void **state)
{
	struct fake fast = { 0 };
	struct pst_feed_figures f = run(&fast, 60000000000u);

	(void)state;
	/* One batch was taken at once, three more were gathered. */
	assert_int_equal(f.batches, 1);
	assert_int_equal(f.records, 16);
}

/* A wrong record is counted and never reaches the accelerator. */
static void wrong_records_are_counted(void **state)
{
	struct fake bad = { .damage = 4 };
	struct pst_feed_figures f = run(&bad, 60000000000u);

	(void)state;
	assert_true(f.bad_records >= 3);
	assert_int_equal(f.records, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_tell_damage),
		cmocka_unit_test(idle_time_is_waiting_for_data),
		cmocka_unit_test(loader_stays_within_its_bound),
		cmocka_unit_test(wrong_records_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
