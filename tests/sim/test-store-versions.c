/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones, rollback, deletion in any order and differences against a plain model: one operation after the
 * other, with kills, power losses after a flush, and reopenings in between. What happens while requests are under way
 * is sim-store's part.
 */
#include "base/prng.h"
#include "pool-image.h"
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define BLOCKS 3000u
#define VERSIONS 12u

struct version {
	bool used, snapshot;
	unsigned family;
	uint32_t content[BLOCKS]; /* serial number of the write; 0: hole */
};

/* Version i is the rig's volume i; snapshots are, too. */
struct world {
	struct rig *r;
	struct pst_prng prng;
	uint32_t serial;
	unsigned families;
	struct version versions[VERSIONS];
	uint32_t buf[64 * B / 4] __attribute__((aligned(4096)));
};

static unsigned number(const struct world *w, const struct version *v)
{
	return (unsigned)(v - w->versions);
}

static void must(struct world *w, pst_err err)
{
	if (err != PST_OK)
		fail_msg("%s; events:\n%s", pst_err_name(err), w->r->events);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)pst_prng_below(&w->prng, n);
}

static struct pst_pool_op op_of(struct world *w, enum pst_pool_op_kind kind, const struct version *v,
				const struct version *other)
{
	struct pst_pool_op op = { .kind = kind, .block_count = BLOCKS };

	rig_uuid(number(w, v), op.uuid);
	if (other != NULL)
		rig_uuid(number(w, other), op.other);
	return op;
}

static void start(struct world *w)
{
	w->r->config.metadata_cache_bytes = below(w, 2) == 0 ? 4 << 20 : 300 * B;
	rig_start(w->r);
}

static pst_err io_run(struct world *w, struct version *v, enum pst_io_kind kind, uint64_t lba, uint32_t count)
{
	if (w->r->volumes[number(w, v)] == NULL)
		must(w, rig_volume_open(w->r, number(w, v)));
	return rig_io(w->r, number(w, v), kind, lba, count, w->buf);
}

static void flush_all(struct world *w)
{
	for (unsigned i = 0; i < VERSIONS; i++) {
		struct version *v = &w->versions[i];

		if (v->used && w->r->volumes[i] != NULL && !v->snapshot) {
			if (io_run(w, v, PST_IO_FLUSH, 0, 0) == PST_E_LOST) /* told once, after a power loss */
				must(w, io_run(w, v, PST_IO_FLUSH, 0, 0));
		}
	}
}

static struct version *pick(struct world *w, int snapshot)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		struct version *v = &w->versions[below(w, VERSIONS)];

		if (v->used && (snapshot < 0 || v->snapshot == (snapshot > 0)))
			return v;
	}
	return NULL;
}

static struct version *unused(struct world *w)
{
	for (unsigned i = 0; i < VERSIONS; i++) {
		struct version *v = &w->versions[i];

		if (v->used)
			continue;
		*v = (struct version){ 0 };
		return v;
	}
	return NULL;
}

/* ---- The operations ---- */

static void do_create(struct world *w)
{
	struct version *v = unused(w);
	struct pst_pool_op op;

	if (v == NULL)
		return;
	op = op_of(w, PST_POOL_VOLUME_CREATE, v, NULL);
	must(w, rig_pool(w->r, op));
	v->used = true;
	v->family = ++w->families;
}

static void do_write(struct world *w)
{
	struct version *v = pick(w, 0);
	uint32_t count = 1 + below(w, 64), lba = below(w, BLOCKS - 64);
	bool discard = below(w, 6) == 0;

	if (v == NULL)
		return;
	for (uint32_t i = 0; i < count && !discard; i++) {
		uint32_t *block = w->buf + (size_t)i * (B / 4);

		for (uint32_t j = 0; j < B / 4; j++)
			block[j] = w->serial + i + 1;
	}
	must(w, io_run(w, v, discard ? PST_IO_DISCARD : PST_IO_WRITE, lba, count));
	for (uint32_t i = 0; i < count; i++)
		v->content[lba + i] = discard ? 0 : ++w->serial;
}

static void do_snapshot(struct world *w)
{
	struct version *v = pick(w, 0), *s = unused(w);
	struct pst_snapshot_member member;
	struct pst_pool_op op;

	if (v == NULL || s == NULL)
		return;
	rig_uuid(number(w, v), member.volume);
	rig_uuid(number(w, s), member.snapshot);
	op = op_of(w, PST_POOL_SNAPSHOT, v, NULL);
	op.members = &member;
	op.member_count = 1;
	must(w, rig_pool(w->r, op));
	s->used = s->snapshot = true;
	s->family = v->family;
	memcpy(s->content, v->content, sizeof(s->content));
}

static void do_clone(struct world *w)
{
	struct version *s = pick(w, 1), *c = unused(w);
	struct pst_pool_op op;

	if (s == NULL || c == NULL)
		return;
	op = op_of(w, PST_POOL_CLONE, s, c);
	must(w, rig_pool(w->r, op));
	c->used = true;
	c->family = s->family;
	memcpy(c->content, s->content, sizeof(s->content));
}

static void do_rollback(struct world *w)
{
	struct version *v = pick(w, 0), *s = pick(w, 1);
	struct pst_pool_op op;

	if (v == NULL || s == NULL)
		return;
	rig_close(w->r, number(w, v));
	op = op_of(w, PST_POOL_ROLLBACK, v, s);
	if (v->family != s->family) {
		/* Families may fall apart in the pool when what joined them was deleted; then this is refused. */
		return;
	}
	if (rig_pool(w->r, op) == PST_E_INVAL)
		return;
	must(w, w->r->op.err);
	memcpy(v->content, s->content, sizeof(s->content));
}

static void delete (struct world *w, struct version *v)
{
	struct pst_pool_op op;

	if (!v->used)
		return;
	rig_close(w->r, number(w, v));
	op = op_of(w, PST_POOL_VOLUME_DELETE, v, NULL);
	must(w, rig_pool(w->r, op));
	v->used = false;
}

static void do_delete(struct world *w)
{
	struct version *v = pick(w, -1);

	if (v != NULL)
		delete (w, v);
}

static void do_diff(struct world *w)
{
	struct version *a = pick(w, -1), *b = pick(w, -1);
	struct pst_range ranges[7];
	uint8_t differs[BLOCKS] = { 0 };
	struct pst_pool_op op;

	if (a == NULL || b == NULL)
		return;
	op = op_of(w, PST_POOL_DIFF, a, b);
	op.ranges = ranges;
	while (op.lba < BLOCKS) {
		op.range_count = 7;
		if (rig_pool(w->r, op) == PST_E_INVAL)
			return;
		must(w, w->r->op.err);
		for (uint32_t i = 0; i < w->r->op.range_count; i++)
			for (uint64_t n = 0; n < ranges[i].block_count; n++)
				differs[ranges[i].lba + n]++;
		assert_true(w->r->op.lba > op.lba);
		op.lba = w->r->op.lba;
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		if (differs[i] != (a->content[i] != b->content[i]))
			fail_msg("block %u: told %u times, %u and %u", i, differs[i], a->content[i], b->content[i]);
}

static void verify(struct world *w, struct version *v)
{
	for (uint32_t lba = 0; lba < BLOCKS; lba += 60) {
		must(w, io_run(w, v, PST_IO_READ, lba, 60));
		for (uint32_t i = 0; i < 60; i++)
			for (uint32_t j = 0; j < B / 4; j += 511)
				if (w->buf[(size_t)i * (B / 4) + j] != v->content[lba + i])
					fail_msg("version %u block %u: %u instead of %u", number(w, v), lba + i,
						 w->buf[(size_t)i * (B / 4) + j], v->content[lba + i]);
	}
}

static void do_crash(struct world *w)
{
	switch (below(w, 3)) {
	case 0:
		rig_kill(w->r);
		break;
	case 1:
		flush_all(w);
		rig_power(w->r);
		break;
	default:
		rig_stop(w->r);
		break;
	}
	start(w);
}

/* ---- What must hold ---- */

static bool read_image(void *ctx, uint64_t block, void *buf)
{
	struct world *w = ctx;

	return pst_sim_disk_peek(w->r->node, RIG_PATH, block * B, buf, B);
}

static void settle(struct world *w)
{
	struct pst_pool_op op = { .kind = PST_POOL_RECORD_PUT, .key = "settle", .value = "x", .value_bytes = 1 };

	pst_sim_run_for(w->r->sim, 2 * RIG_SECOND);
	must(w, rig_pool(w->r, op));
}

static void check_image(struct world *w)
{
	char why[256];

	rig_stop(w->r);
	if (!pool_image_check(read_image, w, why))
		fail_msg("%s", why);
	start(w);
}

static uint64_t used_bytes(struct world *w)
{
	struct pst_pool_stats stats;

	settle(w);
	pst_pool_stats(w->r->pool, &stats);
	return stats.used_bytes;
}

static void one_history(uint64_t seed, unsigned steps)
{
	static void (*const ops[])(struct world *) = { do_write,    do_write,    do_write,    do_write,
						       do_write,    do_snapshot, do_snapshot, do_clone,
						       do_rollback, do_delete,   do_diff,     do_crash };
	struct world *w = aligned_alloc(4096, pst_round_up(sizeof(*w), 4096));
	uint64_t empty;

	memset(w, 0, sizeof(*w));
	pst_prng_init(&w->prng, seed);
	w->r = rig_new(seed, 400 << 20, 1 + (uint32_t)(seed % 3));
	start(w);
	check_image(w);
	empty = used_bytes(w);
	do_create(w);
	for (unsigned i = 0; i < steps; i++) {
		struct version *v;

		ops[below(w, PST_ARRAY_COUNT(ops))](w);
		if (below(w, 8) == 0 && (v = pick(w, -1)) != NULL)
			verify(w, v);
		if (below(w, 25) == 0)
			check_image(w);
		if (pick(w, 0) == NULL)
			do_create(w);
	}
	for (unsigned i = 0; i < VERSIONS; i++)
		if (w->versions[i].used)
			verify(w, &w->versions[i]);
	check_image(w);
	for (unsigned i = 0, first = below(w, VERSIONS); i < VERSIONS; i++)
		delete (w, &w->versions[(first + 5 * i) % VERSIONS]);
	settle(w);
	check_image(w);
	if (used_bytes(w) != empty)
		fail_msg("%llu bytes are in use, %llu were at first", (unsigned long long)used_bytes(w),
			 (unsigned long long)empty);
	rig_free(w->r);
	free(w);
}

static void versions_hold_what_they_held(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++)
		one_history(seed, 150);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(versions_hold_what_they_held) };

	if (argc == 3) { /* SEED STEPS */
		one_history(strtoull(argv[1], NULL, 10), (unsigned)strtoul(argv[2], NULL, 10));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
