/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker against damage: a thousand pieces planted into images of pools with snapshots and clones, closed in order
 * and crashed; then repair, and a store that opens what was repaired.
 *
 * test-check [COUNT [SEED]] plants so many (1,000).
 */
#include "plant.h"
#include "store-rig.h"

#include "store/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define VOLUMES 4u
#define IMAGES 6u
#define PLAIN 3u /* without snapshots */
#define VOLUME_BLOCKS 1500u
#define TEXTS_BYTES (1u << 20)

static unsigned plant_count = 1000;
static uint64_t plant_seed = 1;

/* ---- Images ---- */

struct disk_image {
	uint8_t *bytes;
	uint64_t blocks;
	bool clean;
};

static struct disk_image images[IMAGES + PLAIN];

static pst_err version(struct rig *r, enum pst_pool_op_kind kind, uint8_t of, uint8_t fresh)
{
	struct pst_snapshot_member member = { .volume = { of }, .snapshot = { fresh } };
	struct pst_pool_op op = {
		.kind = kind, .uuid = { of }, .other = { fresh }, .members = &member, .member_count = 1
	};

	return rig_pool(r, op);
}

static void scribble(struct rig *r, struct pst_prng *prng, unsigned writes)
{
	for (unsigned i = 0; i < writes; i++) {
		unsigned v = (unsigned)pst_prng_below(prng, VOLUMES);
		uint64_t lba = pst_prng_below(prng, VOLUME_BLOCKS - 16), count = 1 + pst_prng_below(prng, 12);

		if (r->volumes[v] == NULL)
			continue;
		if (pst_prng_chance(prng, 1, 12))
			assert_int_equal(rig_io(r, v, PST_IO_DISCARD, lba, count, NULL), PST_OK);
		else
			assert_int_equal(rig_fill(r, v, lba, count, (uint8_t)pst_prng_next(prng)), PST_OK);
	}
}

/* Volumes 0 and 1 with snapshots of theirs between writes, volume 3 a clone. Odd ones end in a crash. */
static struct disk_image image_make(uint64_t seed, bool versions)
{
	struct rig *r = rig_new(seed, (uint64_t)14 << 20, 2);
	struct disk_image image = { .clean = seed % 2 == 0 };
	struct pst_prng prng;

	pst_prng_init(&prng, seed);
	rig_start(r);
	for (unsigned v = 0; v < 2; v++)
		rig_create(r, v, VOLUME_BLOCKS);
	scribble(r, &prng, 60);
	for (uint8_t s = 0; versions && s < 4; s++) {
		assert_int_equal(version(r, PST_POOL_SNAPSHOT, (uint8_t)(1 + s % 2), (uint8_t)(100 + s)), PST_OK);
		scribble(r, &prng, 12);
	}
	if (versions)
		assert_int_equal(version(r, PST_POOL_CLONE, 100, 4), PST_OK);
	rig_stop(r);
	rig_start(r);
	scribble(r, &prng, 30);
	if (image.clean) {
		rig_stop(r);
	} else {
		for (unsigned i = 0; i < 6; i++) {
			scribble(r, &prng, 10);
			assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
		}
		rig_power(r);
	}
	image.blocks = pst_sim_disk_size(r->node, RIG_PATH) / B;
	image.bytes = malloc(image.blocks * B);
	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, 0, image.bytes, image.blocks * B));
	rig_free(r);
	return image;
}

static uint8_t *image_copy(const struct disk_image *image)
{
	uint8_t *bytes = malloc(image->blocks * B);

	memcpy(bytes, image->bytes, image->blocks * B);
	return bytes;
}

static int make_all(void **state)
{
	(void)state;
	for (unsigned i = 0; i < IMAGES + PLAIN; i++)
		images[i] = image_make(i + 1, i < IMAGES);
	return 0;
}

/* ---- The checker on an image ---- */

struct looking {
	uint8_t *bytes;
	uint64_t blocks;
	uint64_t writes_left; /* then the power goes */
	char texts[TEXTS_BYTES];
};

static pst_err mem_read(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct looking *l = ctx;

	if (device != 0 || block >= l->blocks)
		return PST_E_RANGE;
	memcpy(buf, l->bytes + block * B, B);
	return PST_OK;
}

static pst_err mem_write(void *ctx, uint32_t device, uint64_t block, const void *buf)
{
	struct looking *l = ctx;

	if (device != 0 || block >= l->blocks)
		return PST_E_RANGE;
	if (l->writes_left == 0)
		return PST_E_IO;
	l->writes_left--;
	memcpy(l->bytes + block * B, buf, B);
	return PST_OK;
}

static pst_err mem_flush(void *ctx)
{
	return ((struct looking *)ctx)->writes_left == 0 ? PST_E_IO : PST_OK;
}

static void tell(void *ctx, bool repaired, const char *text)
{
	struct looking *l = ctx;
	size_t used = strlen(l->texts);

	snprintf(l->texts + used, sizeof(l->texts) - used, "  %s%s\n", repaired ? "repaired: " : "", text);
}

static struct looking looking;

static bool cut_log = true; /* with repair */

static pst_err look_at(uint8_t *bytes, uint64_t blocks, bool repair, uint64_t writes, struct pst_check *check)
{
	struct pst_check_io io = { .ctx = &looking,
				   .devices = 1,
				   .blocks = blocks,
				   .read = mem_read,
				   .write = mem_write,
				   .flush = mem_flush };
	char detail[200];
	pst_err err;

	looking = (struct looking){ .bytes = bytes, .blocks = blocks, .writes_left = writes };
	*check = (struct pst_check){
		.data = true, .repair = repair, .cut_log = repair && cut_log, .finding = tell, .ctx = &looking
	};
	err = pst_check_pool(&io, check, detail);
	if (err != PST_OK)
		tell(&looking, false, detail);
	return err;
}

/* ---- Tests ---- */

/* Images that no damage was planted in: nothing is found, and repair writes nothing. */
static void sound_images_give_no_finding(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * (IMAGES + PLAIN); i++) {
		const struct disk_image *image = &images[i / 2];
		struct plant_image im;
		struct pst_check check;
		uint8_t *before;

		plant_image_init(&im, image_copy(image), image->blocks);
		if (i % 2 == 1)
			plant_cut_checkpoint(&im);
		before = malloc(im.blocks * B);
		memcpy(before, im.bytes, im.blocks * B);
		assert_int_equal(look_at(im.bytes, im.blocks, true, UINT64_MAX, &check), PST_OK);
		if (check.findings + check.repaired > 0)
			print_error("image %u:\n%s", i / 2, looking.texts);
		assert_int_equal(check.findings + check.repaired, 0);
		assert_memory_equal(im.bytes, before, im.blocks * B);
		assert_true(check.data_read > 200 && check.nodes_read > 20);
		plant_image_done(&im);
		free(before);
	}
}

/* Can the image have this kind of damage? */
static bool takes(const struct disk_image *image, enum plant_kind kind, bool plain)
{
	switch (kind) {
	case PLANT_ROOT:
	case PLANT_CATALOG:
		return image->clean;
	case PLANT_LOG:
		return !image->clean;
	case PLANT_MARK:
	case PLANT_COUNT: /* those that a log to be replayed still changes can't be judged */
		return plain || image->clean;
	default:
		return true;
	}
}

static bool planted(unsigned n, bool plain, struct plant_image *im, struct pst_prng *prng, char what[160],
		    enum plant_kind *ret_kind)
{
	const struct disk_image *image;

	*ret_kind = n % PLANT_KINDS;
	do
		image = &images[plain ? IMAGES + pst_prng_below(prng, PLAIN) : pst_prng_below(prng, IMAGES + PLAIN)];
	while (!takes(image, *ret_kind, plain));
	plant_image_init(im, image_copy(image), image->blocks);
	if (pst_prng_chance(prng, 1, 3))
		plant_cut_checkpoint(im);
	for (unsigned tries = 0; tries < 200; tries++)
		if (plant(im, *ret_kind, prng, what))
			return true;
	plant_image_done(im);
	return false;
}

/* A thousand pieces of damage of all kinds, a thousand times at least one finding. */
static void every_piece_of_damage_is_found(void **state)
{
	unsigned by_kind[PLANT_KINDS] = { 0 }, missed = 0, done = 0;
	struct pst_prng prng;

	(void)state;
	pst_prng_init(&prng, plant_seed);
	for (unsigned n = 0; done < plant_count; n++) {
		struct plant_image im;
		struct pst_check check;
		enum plant_kind kind;
		char what[160];

		assert_true(n < 20 * plant_count + 1000);
		if (!planted(n, false, &im, &prng, what, &kind))
			continue;
		done++;
		by_kind[kind]++;
		if (look_at(im.bytes, im.blocks, false, 0, &check) == PST_OK && check.findings == 0) {
			missed++;
			print_error("not found: %s: %s\n", plant_name(kind), what);
		}
		plant_image_done(&im);
	}
	for (unsigned k = 0; k < PLANT_KINDS; k++) {
		print_message("%s %u%s", plant_name(k), by_kind[k], k + 1 < PLANT_KINDS ? ", " : "\n");
		assert_true(by_kind[k] >= plant_count / PLANT_KINDS / 3);
	}
	assert_int_equal(missed, 0);
}

/* What a repair can put right without asking. The others need a decision, or the catalog. */
static bool repairable(enum plant_kind kind, const char *what)
{
	return kind != PLANT_CATALOG && kind != PLANT_USED_TWICE && strstr(what, "(catalog)") == NULL &&
	       strstr(looking.texts, "catalog") == NULL;
}

/*
 * Of what is left: did a version lose a part that two others still have of it? Then each of them may be the owner, and
 * nothing is concluded.
 */
static bool two_owners_left(void)
{
	const char *left = strstr(looking.texts, "still there: ");

	return left != NULL && strstr(left, "is used twice: ") != NULL;
}

/* Does each finding, of the first look or what is @left of them, have one of these words? */
static bool all_are(bool left, const char *word, const char *other)
{
	static const char still[] = "  still there: ", repaired[] = "  repaired: ";

	for (const char *line = looking.texts, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		const char *a = strstr(line, word), *b = strstr(line, other);

		if (strncmp(line, repaired, strlen(repaired)) == 0 ||
		    (strncmp(line, still, strlen(still)) == 0) != left)
			continue;
		if ((a == NULL || a > end) && (b == NULL || b > end))
			return false;
	}
	return true;
}

/* Repaired as far as it goes; marks wait until a log that changes their family has been replayed. */
static bool repaired_well(const struct pst_check *check, bool clean)
{
	return check->left == 0 || two_owners_left() || (!clean && all_are(true, " marked ", " says it owns "));
}

/* Overwrites and deletes, so that blocks are freed by the marks: what is wrong with them shows afterwards. */
static void use(struct rig *r, struct pst_prng *prng)
{
	static const uint8_t snapshots[] = { 103, 101 }; /* of one volume: what they own is passed on to it */

	for (unsigned i = 0; i < PST_ARRAY_COUNT(snapshots); i++) {
		struct pst_pool_op op = { .kind = PST_POOL_VOLUME_DELETE, .uuid = { snapshots[i] } };
		pst_err err = rig_pool(r, op);

		assert_true(err == PST_OK || err == PST_E_NOTFOUND);
		scribble(r, prng, 30);
		pst_sim_run_for(r->sim, 20 * RIG_SECOND);
	}
	scribble(r, prng, 30);
}

/* Opens it, reads all and writes or discards what was lost, and may go on using it. */
static void open_repaired(struct plant_image *im, struct pst_prng *prng, bool in_use, uint64_t *ret_errors)
{
	struct rig *r = rig_new(99, im->blocks * B, 2);
	uint8_t *buf = aligned_alloc(B, B);

	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, 0, im->bytes, im->blocks * B));
	rig_start(r);
	*ret_errors = 0;
	for (unsigned v = 0; v < VOLUMES; v++) {
		for (uint64_t lba = 0; r->volumes[v] != NULL && lba < VOLUME_BLOCKS; lba++) {
			pst_err err = rig_io(r, v, PST_IO_READ, lba, 1, buf);

			assert_true(err == PST_OK || err == PST_E_CHECKSUM);
			if (err == PST_OK)
				continue;
			*ret_errors += 1;
			if (lba % 4 == 0) /* not all: without sharing there may be no room for that */
				assert_int_equal(rig_fill(r, v, lba, 1, 7), PST_OK);
			else
				assert_int_equal(rig_io(r, v, PST_IO_DISCARD, lba, 1, NULL), PST_OK);
			assert_int_equal(rig_byte(r, v, lba), lba % 4 == 0 ? 7 : 0);
		}
	}
	if (in_use)
		use(r, prng);
	rig_stop(r);
	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, 0, im->bytes, im->blocks * B));
	rig_free(r);
	free(buf);
}

/*
 * Sound after use, if there was no log to be replayed: what that overwrites may have lost its owner, and is a leak
 * then. A second repair has no log that it must leave something to.
 */
static bool used_well(struct plant_image *im, bool whole)
{
	struct pst_check check;

	if (look_at(im->bytes, im->blocks, true, UINT64_MAX, &check) != PST_OK)
		return false;
	if (whole && im->clean)
		return check.findings == 0;
	if (im->clean && strstr(looking.texts, "may be overwritten") != NULL)
		return false; /* with two owners there are leaks, nothing worse */
	return check.left == 0 ? !whole || all_are(false, " leaked", "its root counts") : two_owners_left();
}

/*
 * After a repair a second look finds nothing, and the pool opens; what was lost reads as an error until it is written.
 * After more use the pool is still sound.
 */
static void repaired_pools_open(void **state)
{
	unsigned opened = 0, lost = 0, wrong = 0, undecided = 0;
	struct pst_prng prng;

	(void)state;
	pst_prng_init(&prng, plant_seed + 1);
	for (unsigned n = 0; opened < PST_MAX(plant_count / 10, 40u); n++) {
		struct plant_image im;
		struct pst_check check;
		enum plant_kind kind;
		uint64_t errors;
		char what[160];
		bool whole, good;

		if (!planted(n, n % 2 == 0, &im, &prng, what, &kind))
			continue;
		assert_int_equal(look_at(im.bytes, im.blocks, true, UINT64_MAX, &check), PST_OK);
		if (!repairable(kind, what)) {
			plant_image_done(&im);
			continue;
		}
		whole = check.left == 0;
		undecided += two_owners_left();
		good = repaired_well(&check, im.clean) && check.repaired + check.left > 0;
		if (good) {
			/* A mark that is missing may do harm while it is left. */
			open_repaired(&im, &prng, whole || (im.clean && kind != PLANT_MARK), &errors);
			lost += errors > 0;
			good = used_well(&im, whole);
		}
		if (!good) {
			wrong++;
			fprintf(stderr, "%s: %s:\n%s", plant_name(kind), what, looking.texts);
		}
		opened++;
		plant_image_done(&im);
	}
	print_message("%u of %u left for a decision\n", undecided, opened);
	assert_int_equal(wrong, 0);
	assert_true(lost > 3 && undecided < opened / 8);
}

/* Repair is cut short after any write: the damage is there still or gone, nothing else is worse, and it can be
 * repeated. */
static void repair_may_be_cut_short(void **state)
{
	struct pst_prng prng;
	unsigned wrong = 0;

	(void)state;
	pst_prng_init(&prng, plant_seed + 2);
	for (unsigned n = 0; n < 80; n++) {
		struct plant_image im;
		struct pst_check check;
		enum plant_kind kind;
		char what[160];

		if (!planted(n, n % 2 == 0, &im, &prng, what, &kind))
			continue;
		(void)look_at(im.bytes, im.blocks, true, pst_prng_below(&prng, 12), &check);
		if (repairable(kind, what)) {
			assert_int_equal(look_at(im.bytes, im.blocks, true, UINT64_MAX, &check), PST_OK);
			if (!repaired_well(&check, im.clean)) {
				wrong++;
				fprintf(stderr, "%s: %s:\n%s", plant_name(kind), what, looking.texts);
			}
		}
		plant_image_done(&im);
	}
	assert_int_equal(wrong, 0);
}

/* The top of the map of partition 1 was never written. */
static void zero_top(struct plant_image *im)
{
	for (uint32_t i = 0; i < im->node_count; i++)
		if (im->nodes[i].part == 1 && im->nodes[i].level == PST_NODE_LEVELS - 1)
			memset(im->bytes + (im->sb.partitions[1].start + im->nodes[i].block) * B, 0, B);
}

/*
 * A record of the catalog that makes no sense, or a parent that is not there: what it speaks of is kept. Nor is a node
 * made up that would be without it.
 */
static void a_damaged_catalog_drops_nothing(void **state)
{
	struct pst_prng prng;
	unsigned unsure = 0;

	(void)state;
	pst_prng_init(&prng, plant_seed + 3);
	for (unsigned n = 0; n < 20; n++) {
		struct plant_image im;
		struct pst_check check;
		enum plant_kind kind;
		char what[160];

		assert_true(planted(PLANT_CATALOG, false, &im, &prng, what, &kind));
		if (n % 2 == 1)
			zero_top(&im);
		assert_int_equal(look_at(im.bytes, im.blocks, true, UINT64_MAX, &check), PST_OK);
		if (strstr(looking.texts, "makes no sense") != NULL ||
		    strstr(looking.texts, "chain of parents") != NULL) {
			assert_null(strstr(looking.texts, ": dropped"));
			assert_null(strstr(looking.texts, "given up with its node of level 5"));
			unsure++;
		}
		plant_image_done(&im);
	}
	assert_true(unsure > 5);
}

/*
 * The volume was made in a part of partition 0's log that can't be read any more. Its data on partition 1 looks like
 * nobody's, and is kept all the same, unless the caller has agreed to lose what the log held.
 */
static void no_volume_is_dropped_for_a_gap_in_the_log(void **state)
{
	struct rig *r = rig_new(7, (uint64_t)14 << 20, 2);
	struct plant_image im;
	struct pst_check check;
	uint64_t blocks, generation;
	uint8_t *bytes;

	(void)state;
	rig_start(r);
	rig_create(r, 0, VOLUME_BLOCKS);
	rig_stop(r);
	rig_start(r);
	rig_create(r, 1, VOLUME_BLOCKS);
	generation = rig_store(r)->parts[1].generation;
	for (unsigned i = 0; rig_store(r)->parts[1].generation == generation; i++) {
		assert_int_equal(rig_fill(r, 1, PST_STRIPE_BLOCKS + i, 1, (uint8_t)i), PST_OK);
		assert_int_equal(rig_io(r, 1, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
		pst_sim_run_for(r->sim, RIG_SECOND / 10);
	}
	rig_power(r);
	blocks = pst_sim_disk_size(r->node, RIG_PATH) / B;
	bytes = malloc(blocks * B);
	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, 0, bytes, blocks * B));
	rig_free(r);
	plant_image_init(&im, bytes, blocks);
	plant_log_gap(&im, 0);
	for (int cut = 0; cut < 2; cut++) {
		cut_log = cut == 1;
		assert_int_equal(look_at(im.bytes, im.blocks, true, UINT64_MAX, &check), PST_OK);
		assert_non_null(strstr(looking.texts, "has data and no volume"));
		assert_int_equal(strstr(looking.texts, ": dropped") != NULL, cut == 1);
		assert_int_equal(check.left > 0, cut == 0);
	}
	plant_image_done(&im);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_images_give_no_finding),
		cmocka_unit_test(every_piece_of_damage_is_found),
		cmocka_unit_test(repaired_pools_open),
		cmocka_unit_test(repair_may_be_cut_short),
		cmocka_unit_test(a_damaged_catalog_drops_nothing),
		cmocka_unit_test(no_volume_is_dropped_for_a_gap_in_the_log),
	};

	if (argc > 1)
		plant_count = (unsigned)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		plant_seed = strtoull(argv[2], NULL, 0);
	return cmocka_run_group_tests(tests, make_all, NULL);
}
