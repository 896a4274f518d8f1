/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What src/volume/volume.h promises, for every engine and layer: `contract-volume ENGINE`, with ENGINE ram, fault (over
 * ram), crypt (over ram), store, crypt-store. On a real shard; the store lies in a temporary file.
 */
#include "base/prng.h"
#include "store/store.h"
#include "volume/crypt.h"
#include "volume/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define BLOCKS 6000u
#define JOBS 8u
#define JOB_BLOCKS (BLOCKS / JOBS) /* each has its part of the volume, so that what it reads is certain */
#define JOB_IOVS 5u
#define POOL_BYTES ((uint64_t)64 << 20)

static const char *engine;

struct world {
	struct pst_env *env;
	char path[64];
	struct pst_pool *pool;
	struct pst_crypt_pool *crypt_pool;
	struct pst_volume *volume;
	unsigned done;
	uint32_t model[BLOCKS]; /* version of each block; 0: never written or discarded */
};

struct job {
	struct world *world;
	struct pst_io io;
	struct iovec iov[PST_IO_IOV_MAX];
	uint64_t holes[PST_IO_BLOCKS_MAX / 64];
	uint32_t *buf, *copy;
	uint32_t version;
	bool busy;
};

static void poll_until(struct world *w, unsigned done)
{
	uint64_t end_ns = pst_env_now_ns(w->env) + 60000000000u;

	while (w->done < done) {
		assert_true(pst_env_now_ns(w->env) < end_ns);
		pst_env_poll(w->env, 100000000);
	}
	w->done = 0;
}

/* Operations have no pointer to the world. */
static struct world *the_world;

static void on_store(struct pst_store_op *op)
{
	(void)op;
	the_world->done++;
}

static void on_pool(struct pst_pool_op *op)
{
	(void)op;
	the_world->done++;
}

static void on_closed(struct pst_volume_close_op *op)
{
	(void)op;
	the_world->done++;
}

static void on_io(struct pst_io *io)
{
	(void)io;
	the_world->done++;
}

static struct pst_volume *pool_run(struct world *w, enum pst_pool_op_kind kind, uint64_t block_count)
{
	struct pst_pool_op op = { .kind = kind, .uuid = { 7 }, .block_count = block_count, .done = on_pool };

	pst_pool_submit(w->pool, &op);
	poll_until(w, 1);
	assert_int_equal(op.err, PST_OK);
	return op.volume;
}

static void store_setup(struct world *w)
{
	const struct pst_store_format_config format = { .size_bytes = POOL_BYTES, .partition_count = 3 };
	const struct pst_store_config config = { .metadata_cache_bytes = 1 << 20 };
	struct pst_store_op op = { .done = on_store };

	snprintf(w->path, sizeof(w->path), "/tmp/contract-volume-XXXXXX");
	close(mkstemp(w->path));
	pst_store_format(w->env, w->path, &format, &op);
	poll_until(w, 1);
	assert_int_equal(op.err, PST_OK);
	pst_store_open(w->env, w->path, &config, &op);
	poll_until(w, 1);
	assert_int_equal(op.err, PST_OK);
	w->pool = op.pool;
}

static void crypt_setup(struct world *w)
{
	/* Little bounce memory, so that requests have to wait for it. */
	const struct pst_crypt_pool_config config = { .bounce_bytes = (size_t)512 << 10, .pieces = 8 };
	uint8_t key[PST_CRYPT_KEY_BYTES];

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 11 + 3);
	assert_int_equal(pst_crypt_pool_new(w->env, &config, &w->crypt_pool), PST_OK);
	assert_int_equal(pst_crypt_new(w->crypt_pool, w->volume, key, &w->volume), PST_OK);
}

static int setup(void **state)
{
	const struct pst_env_config config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	struct world *w = calloc(1, sizeof(*w));

	the_world = w;
	assert_int_equal(pst_env_new(&config, &w->env), PST_OK);
	if (strstr(engine, "store") != NULL)
		store_setup(w);
	else
		assert_int_equal(pst_ram_pool_new(w->env, POOL_BYTES, &w->pool), PST_OK);
	pool_run(w, PST_POOL_VOLUME_CREATE, BLOCKS);
	w->volume = pool_run(w, PST_POOL_VOLUME_OPEN, 0);
	if (strcmp(engine, "fault") == 0)
		assert_int_equal(pst_fault_new(w->volume, 3, &w->volume), PST_OK);
	if (strncmp(engine, "crypt", 5) == 0)
		crypt_setup(w);
	*state = w;
	return 0;
}

static void volume_close(struct world *w)
{
	struct pst_volume_close_op op = { .done = on_closed };

	pst_volume_close(w->volume, &op);
	poll_until(w, 1);
	w->volume = NULL;
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (w->volume != NULL)
		volume_close(w);
	pst_crypt_pool_free(w->crypt_pool);
	pool_run(w, PST_POOL_CLOSE, 0);
	pst_env_free(w->env);
	if (w->path[0] != '\0')
		unlink(w->path);
	free(w);
	return 0;
}

/* ---- Random requests against a model ---- */

static uint32_t word_of(uint64_t lba, uint32_t version, uint32_t i)
{
	return version == 0 ? 0 : (uint32_t)lba * 2654435761u ^ version * 40503u ^ i;
}

static void block_fill(uint32_t *buf, uint64_t lba, uint32_t version)
{
	for (uint32_t i = 0; i < B / 4; i++)
		buf[i] = word_of(lba, version, i);
}

static void block_check(const uint32_t *buf, uint64_t lba, uint32_t version)
{
	for (uint32_t i = 0; i < B / 4; i++)
		if (buf[i] != word_of(lba, version, i))
			fail_msg("block %llu is not version %u", (unsigned long long)lba, version);
}

static void job_done(struct pst_io *io)
{
	struct job *j = pst_container_of(io, struct job, io);
	struct world *w = j->world;

	assert_int_equal(io->err, PST_OK);
	j->busy = false;
	for (uint64_t i = 0; i < io->block_count; i++) {
		uint32_t *version = &w->model[io->lba + i];

		if (io->kind == PST_IO_READ) {
			bool hole = (j->holes[i / 64] >> (i % 64) & 1) != 0;

			block_check(j->buf + i * (B / 4), io->lba + i, *version);
			assert_int_equal(hole, *version == 0);
		} else if (io->kind == PST_IO_WRITE) {
			*version = j->version;
		} else if (io->kind != PST_IO_FLUSH) {
			*version = 0;
		}
	}
	if (io->kind == PST_IO_WRITE)
		assert_memory_equal(j->buf, j->copy, io->block_count * B);
}

/* One buffer, cut at places that have nothing to do with blocks, also into empty parts. */
static void job_cut(struct job *j, struct pst_prng *prng)
{
	uint64_t left = j->io.block_count * B, at = 0;

	j->io.iov = j->iov;
	for (j->io.iov_count = 0; left > 0; j->io.iov_count++) {
		uint64_t take = j->io.iov_count == JOB_IOVS - 1 ? left : pst_prng_next(prng) % (left + 1);

		if (pst_prng_next(prng) % 3 != 0 && j->io.iov_count < JOB_IOVS - 1)
			take -= take % B;
		j->iov[j->io.iov_count] = (struct iovec){ (char *)j->buf + at, take };
		at += take;
		left -= take;
	}
}

static void job_start(struct job *j, unsigned number, struct pst_prng *prng, uint32_t version)
{
	static const enum pst_io_kind kinds[] = { PST_IO_READ,  PST_IO_READ,    PST_IO_READ,         PST_IO_WRITE,
						  PST_IO_WRITE, PST_IO_DISCARD, PST_IO_WRITE_ZEROES, PST_IO_FLUSH };
	uint64_t at = pst_prng_below(prng, JOB_BLOCKS), most = pst_prng_chance(prng, 1, 4) ? 300 : 9;

	memset(j->holes, 0, sizeof(j->holes));
	j->busy = true;
	j->version = version;
	j->io = (struct pst_io){ .kind = kinds[pst_prng_next(prng) % PST_ARRAY_COUNT(kinds)], .done = job_done };
	if (j->io.kind != PST_IO_FLUSH) {
		j->io.lba = number * JOB_BLOCKS + at;
		j->io.block_count = 1 + pst_prng_below(prng, PST_MIN(JOB_BLOCKS - at, most));
	}
	if (j->io.kind == PST_IO_WRITE || j->io.kind == PST_IO_WRITE_ZEROES)
		j->io.flags = pst_prng_next(prng) % 8 == 0 ? PST_IO_FUA : 0;
	if (j->io.kind == PST_IO_WRITE || j->io.kind == PST_IO_READ)
		job_cut(j, prng);
	if (j->io.kind == PST_IO_READ)
		j->io.holes = j->holes;
	for (uint64_t i = 0; i < j->io.block_count && j->io.kind == PST_IO_WRITE; i++)
		block_fill(j->buf + i * (B / 4), j->io.lba + i, version);
	if (j->io.kind == PST_IO_WRITE)
		memcpy(j->copy, j->buf, j->io.block_count * B);
	pst_volume_submit(j->world->volume, &j->io);
	assert_true(j->busy); /* a completion never runs inside submit */
}

/* Blocks are what was last written, holes are reported and zeros, and a write leaves its buffers as they are. */
static void does_what_the_model_does(void **state)
{
	struct world *w = *state;
	struct job jobs[JOBS];
	struct pst_prng prng;
	uint32_t version = 0;

	pst_prng_init(&prng, 20);
	for (unsigned i = 0; i < JOBS; i++)
		jobs[i] = (struct job){ .world = w, .buf = malloc(301 * B), .copy = malloc(301 * B) };
	while (version < 3000) {
		for (unsigned i = 0; i < JOBS; i++)
			if (!jobs[i].busy)
				job_start(&jobs[i], i, &prng, ++version);
		pst_env_poll(w->env, 1000000);
	}
	for (unsigned i = 0; i < JOBS; i++) {
		while (jobs[i].busy)
			pst_env_poll(w->env, 1000000);
		free(jobs[i].buf);
		free(jobs[i].copy);
	}
}

/* ---- Single requests ---- */

static pst_err io_run(struct world *w, struct pst_io *io)
{
	io->done = on_io;
	pst_volume_submit(w->volume, io);
	assert_int_equal(w->done, 0);
	poll_until(w, 1);
	return io->err;
}

/* The longest request, in as many parts as there may be, goes there and back; device_ns is not left from before. */
static void takes_the_longest_request(void **state)
{
	struct world *w = *state;
	size_t part = (size_t)PST_IO_BLOCKS_MAX * B / PST_IO_IOV_MAX;
	char *buf = malloc((size_t)PST_IO_BLOCKS_MAX * B), *back = calloc(PST_IO_BLOCKS_MAX, B);
	struct iovec iov[PST_IO_IOV_MAX];
	struct pst_io io = { .kind = PST_IO_WRITE, .lba = 5, .block_count = PST_IO_BLOCKS_MAX, .iov = iov };

	io.iov_count = PST_IO_IOV_MAX;
	for (unsigned i = 0; i < PST_IO_BLOCKS_MAX; i++)
		block_fill((uint32_t *)(void *)(buf + (size_t)i * B), i, 1);
	for (unsigned i = 0; i < PST_IO_IOV_MAX; i++)
		iov[i] = (struct iovec){ buf + i * part, part };
	assert_int_equal(io_run(w, &io), PST_OK);
	for (unsigned i = 0; i < PST_IO_IOV_MAX; i++)
		iov[i] = (struct iovec){ back + i * part, part };
	io.kind = PST_IO_READ;
	io.device_ns = UINT64_MAX;
	assert_int_equal(io_run(w, &io), PST_OK);
	assert_memory_equal(buf, back, (size_t)PST_IO_BLOCKS_MAX * B);
	assert_true(io.device_ns < UINT64_MAX);
	free(buf);
	free(back);
}

struct lent {
	struct pst_loan loan;
	uint32_t version[16]; /* of each block, when it was lent */
};

/* Hints, right and wrong ones, of blocks inside and outside of the volume: nothing may follow from them. */
static void expect_something(struct world *w, struct pst_prng *prng)
{
	struct pst_expected expected[16];
	unsigned count = (unsigned)pst_prng_below(prng, 17);

	for (unsigned i = 0; i < count; i++) {
		expected[i].kind = pst_prng_below(prng, 2) ? PST_IO_READ : PST_IO_WRITE;
		expected[i].lba = pst_prng_below(prng, 4) ? pst_prng_below(prng, 2 * w->volume->block_count)
							  : UINT64_MAX - pst_prng_below(prng, 2);
	}
	pst_volume_expect(w->volume, expected, count);
}

static void lent_check(const struct lent *l)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < l->loan.iov_count; i++)
		for (size_t b = 0; b < l->loan.iov[i].iov_len / B; b++, at++)
			block_check((const uint32_t *)l->loan.iov[i].iov_base + b * (B / 4), l->loan.lba + at,
				    l->version[at]);
	assert_int_equal(at, l->loan.block_count);
}

/*
 * What an engine lends stays as it was until it is given back, whatever is written, discarded or lent again meanwhile;
 * the volume itself is as if nothing were lent, and nothing is left of what was given back. Engines may lend nothing.
 */
static void lent_blocks_stay_as_they_were(void **state)
{
	enum { SPAN = 64, LOANS = 24 };
	struct world *w = *state;
	static struct lent loans[LOANS];
	uint32_t model[SPAN] = { 0 }, version = 0;
	static uint32_t buf[16 * B / 4];
	struct pst_volume_stats stats;
	struct pst_prng prng;
	unsigned lent = 0;

	memset(loans, 0, sizeof(loans));
	pst_prng_init(&prng, 11);
	for (unsigned step = 0; step < 4000; step++) {
		struct lent *l = &loans[pst_prng_below(&prng, LOANS)];
		uint64_t lba = pst_prng_below(&prng, SPAN - 16), count = 1 + pst_prng_below(&prng, 16);
		struct iovec iov = { buf, count * B };
		struct pst_io io = { .kind = PST_IO_WRITE, .lba = lba, .block_count = count };

		expect_something(w, &prng);
		if (l->loan.iov_count > 0) {
			lent_check(l);
			pst_volume_give_back(w->volume, &l->loan);
		}
		l->loan.lba = lba;
		l->loan.block_count = count;
		memcpy(l->version, &model[lba], count * sizeof(model[0]));
		if (pst_volume_lend(w->volume, &l->loan)) {
			lent++;
			lent_check(l);
		}
		if (pst_prng_below(&prng, 4) == 0)
			io.kind = PST_IO_DISCARD;
		version++;
		for (uint64_t i = 0; i < count; i++) {
			model[lba + i] = io.kind == PST_IO_DISCARD ? 0 : version;
			block_fill(buf + i * (B / 4), lba + i, version);
		}
		if (io.kind == PST_IO_WRITE) {
			io.iov = &iov;
			io.iov_count = 1;
		}
		assert_int_equal(io_run(w, &io), PST_OK);
	}
	for (unsigned i = 0; i < LOANS; i++) {
		if (loans[i].loan.iov_count == 0)
			continue;
		lent_check(&loans[i]);
		pst_volume_give_back(w->volume, &loans[i].loan);
	}
	assert_int_equal(lent > 0, strcmp(engine, "ram") == 0);
	for (uint64_t lba = 0; lba < SPAN; lba++) {
		struct iovec iov = { buf, B };
		struct pst_io io = { .kind = PST_IO_READ, .lba = lba, .block_count = 1, .iov = &iov, .iov_count = 1 };

		memset(buf, 0, B); /* holes are left as they are */
		assert_int_equal(io_run(w, &io), PST_OK);
		block_check(buf, lba, model[lba]);
	}
	assert_int_equal(io_run(w, &(struct pst_io){ .kind = PST_IO_DISCARD, .block_count = SPAN }), PST_OK);
	pst_volume_stats(w->volume, &stats);
	assert_int_equal(stats.used_bytes, 0);
}

/* A close that comes behind requests completes after all of them, and they have been carried out. */
static void close_waits_for_requests(void **state)
{
	struct world *w = *state;
	static char buf[16][B];
	struct iovec iov[16];
	struct pst_io io[17];
	struct pst_volume_close_op close_op = { .done = on_closed };

	for (unsigned i = 0; i < 16; i++) {
		iov[i] = (struct iovec){ buf[i], B };
		io[i] = (struct pst_io){ .kind = PST_IO_WRITE, .lba = i, .block_count = 1, .done = on_io };
		io[i].iov = &iov[i];
		io[i].iov_count = 1;
		pst_volume_submit(w->volume, &io[i]);
	}
	io[16] = (struct pst_io){ .kind = PST_IO_FLUSH, .done = on_io };
	pst_volume_submit(w->volume, &io[16]);
	pst_volume_close(w->volume, &close_op);
	poll_until(w, 18);
	w->volume = NULL;
	for (unsigned i = 0; i < 17; i++)
		assert_int_equal(io[i].err, PST_OK);
}

/*
 * Recalled writes end once each, none inside the call: as if nothing had been, or cancelled, and then each block is old
 * or new. Reads and flushes don't mind. The volume works on.
 */
static void recalled_writes_end_once(void **state)
{
	struct world *w = *state;
	static char out[64 * B], in[64 * B];
	struct iovec iov[24];
	struct pst_io io[24];

	memset(out, 'n', sizeof(out));
	for (unsigned i = 0; i < 24; i++) {
		iov[i] = (struct iovec){ i % 8 == 7 ? in : out, 64 * B };
		io[i] = (struct pst_io){ .kind = i % 8 == 7 ? PST_IO_READ : PST_IO_WRITE,
					 .lba = 64 * i,
					 .block_count = 64,
					 .iov = &iov[i],
					 .iov_count = 1,
					 .done = on_io };
		pst_volume_submit(w->volume, &io[i]);
	}
	w->done = 0;
	for (unsigned i = 0; i < 24; i += 1 + i % 2)
		pst_volume_recall(w->volume, &io[i]);
	assert_int_equal(w->done, 0);
	poll_until(w, 24);
	for (unsigned i = 0; i < 24; i++) {
		struct pst_io back = {
			.kind = PST_IO_READ, .lba = 64 * i, .block_count = 64, .iov = &iov[i], .iov_count = 1
		};

		assert_true(io[i].err == PST_OK ||
			    (io[i].kind == PST_IO_WRITE && io[i].recalled && io[i].err == PST_E_CANCELLED));
		iov[i].iov_base = in;
		assert_int_equal(io_run(w, &back), PST_OK);
		for (unsigned b = 0; b < 64; b++)
			assert_true(in[b * B + 9] == (io[i].kind == PST_IO_WRITE ? 'n' : 0) ||
				    (io[i].err != PST_OK && in[b * B + 9] == 0));
	}
	pst_env_poll(w->env, 0);
	assert_int_equal(w->done, 0);
}

/* A resize of the pool's volume reaches the top of the stack, in both directions, and statistics come through. */
static void follows_a_resize(void **state)
{
	struct world *w = *state;
	static char buf[B] = "x";
	struct iovec iov = { buf, B };
	struct pst_io io = { .kind = PST_IO_WRITE, .lba = BLOCKS, .block_count = 1, .iov = &iov, .iov_count = 1 };
	struct pst_volume_stats stats;

	pool_run(w, PST_POOL_VOLUME_RESIZE, BLOCKS + 1);
	pst_volume_resized(w->volume);
	assert_int_equal(w->volume->block_count, BLOCKS + 1);
	assert_int_equal(io_run(w, &io), PST_OK);
	pst_volume_stats(w->volume, &stats);
	assert_int_equal(stats.used_bytes, B);
	io.kind = PST_IO_DISCARD;
	assert_int_equal(io_run(w, &io), PST_OK);
	pool_run(w, PST_POOL_VOLUME_RESIZE, 10);
	pst_volume_resized(w->volume);
	assert_int_equal(w->volume->block_count, 10);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(does_what_the_model_does), CASE(takes_the_longest_request), CASE(lent_blocks_stay_as_they_were),
		CASE(close_waits_for_requests), CASE(recalled_writes_end_once),  CASE(follows_a_resize),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: contract-volume ram|fault|crypt|store|crypt-store\n");
		return 2;
	}
	engine = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
