/* SPDX-License-Identifier: Apache-2.0 */
/* The store on a real file: two openers, and a file system below that is full. */
#include "env/env.h"
#include "store/store.h"
#include "store/superblock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define POOL_BYTES ((uint64_t)32 << 20)
#define VOLUME_BLOCKS 4096u /* half of the pool */

struct world {
	struct pst_env *env;
	char dir[64], path[96];
	struct pst_store_op store_op;
	struct pst_pool_op pool_op;
	struct pst_volume_close_op close_op;
	struct pst_pool *pool;
	struct pst_volume *volume;
	struct pst_io io;
	struct iovec iov;
	bool done;
};

static void on_store(struct pst_store_op *op)
{
	pst_container_of(op, struct world, store_op)->done = true;
}

static void on_pool(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->done = true;
}

static void on_volume(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct world, close_op)->done = true;
}

static void on_io(struct pst_io *io)
{
	pst_container_of(io, struct world, io)->done = true;
}

static void finish(struct world *w)
{
	uint64_t end_ns = pst_env_now_ns(w->env) + 20000000000u;

	while (!w->done) {
		assert_true(pst_env_now_ns(w->env) < end_ns);
		pst_env_poll(w->env, 5000000);
	}
	w->done = false;
}

static pst_err pool_open(struct world *w, struct pst_pool **ret_pool)
{
	static const struct pst_store_config config = { .metadata_cache_bytes = 1 << 20 };

	w->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_open(w->env, w->path, &config, &w->store_op);
	finish(w);
	*ret_pool = w->store_op.pool;
	return w->store_op.err;
}

static pst_err pool_run(struct world *w, enum pst_pool_op_kind kind)
{
	w->pool_op = (struct pst_pool_op){ .kind = kind, .uuid = { 9 }, .block_count = VOLUME_BLOCKS, .done = on_pool };
	pst_pool_submit(w->pool, &w->pool_op);
	finish(w);
	return w->pool_op.err;
}

static pst_err io_run(struct world *w, enum pst_io_kind kind, uint64_t lba, void *buf)
{
	bool flush = kind == PST_IO_FLUSH;

	w->iov = (struct iovec){ buf, B };
	w->io = (struct pst_io){ .kind = kind,
				 .lba = lba,
				 .block_count = flush ? 0 : 1,
				 .iov = flush ? NULL : &w->iov,
				 .iov_count = flush ? 0 : 1,
				 .done = on_io };
	pst_volume_submit(w->volume, &w->io);
	finish(w);
	return w->io.err;
}

static void block_fill(uint32_t buf[B / 4], uint32_t lba, uint32_t version)
{
	for (uint32_t i = 0; i < B / 4; i++)
		buf[i] = version > 0 ? lba << 8 | version : 0;
}

static pst_err block_write(struct world *w, uint32_t lba, uint32_t version)
{
	uint32_t buf[B / 4];

	block_fill(buf, lba, version);
	return io_run(w, PST_IO_WRITE, lba, buf);
}

static void assert_block(struct world *w, uint32_t lba, uint32_t version)
{
	uint32_t buf[B / 4], expected[B / 4];

	block_fill(expected, lba, version);
	assert_int_equal(io_run(w, PST_IO_READ, lba, buf), PST_OK);
	assert_memory_equal(buf, expected, B);
}

static int setup(void **state)
{
	struct pst_env_config env_config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	struct pst_store_format_config config = { .size_bytes = POOL_BYTES };
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	snprintf(w->dir, sizeof(w->dir), "/var/tmp/penstock-store-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/pool", w->dir);
	assert_int_equal(pst_env_new(&env_config, &w->env), PST_OK);
	w->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_format(w->env, w->path, &config, &w->store_op);
	finish(w);
	assert_int_equal(w->store_op.err, PST_OK);
	assert_int_equal(pool_open(w, &w->pool), PST_OK);
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_CREATE), PST_OK);
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_OPEN), PST_OK);
	w->volume = w->pool_op.volume;
	return 0;
}

static void close_all(struct world *w)
{
	w->close_op.done = on_volume;
	pst_volume_close(w->volume, &w->close_op);
	finish(w);
	assert_int_equal(pool_run(w, PST_POOL_CLOSE), PST_OK);
}

static int teardown(void **state)
{
	struct world *w = *state;

	close_all(w);
	pst_env_free(w->env);
	unlink(w->path);
	rmdir(w->dir);
	free(w);
	return 0;
}

/* A pool that is open is refused to a second opener, who is told why; the first goes on, and once closed it opens. */
static void open_twice_is_refused(void **state)
{
	struct world *w = *state;
	struct pst_pool *second = NULL;

	assert_int_equal(block_write(w, 1, 1), PST_OK);
	assert_int_equal(pool_open(w, &second), PST_E_LOCKED);
	assert_null(second);
	assert_non_null(strstr(w->store_op.detail, w->path));
	assert_non_null(strstr(w->store_op.detail, "stop the other daemon"));
	assert_int_equal(block_write(w, 2, 1), PST_OK);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	close_all(w);
	assert_int_equal(pool_open(w, &w->pool), PST_OK);
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_OPEN), PST_OK);
	w->volume = w->pool_op.volume;
	assert_block(w, 1, 1);
	assert_block(w, 2, 1);
}

/* There is room again, but a checkpoint that could not be written is tried again only after a pause. */
static void block_write_soon(struct world *w, uint32_t lba, uint32_t version)
{
	uint64_t end_ns = pst_env_now_ns(w->env) + 20000000000u;

	while (block_write(w, lba, version) != PST_OK) {
		assert_int_equal(w->io.err, PST_E_NOSPACE);
		assert_true(pst_env_now_ns(w->env) < end_ns);
		pst_env_poll(w->env, 5000000);
	}
}

static void limit_file(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * The file can't grow where the store writes: those requests fail with PST_E_NOSPACE, what stood there before stands,
 * and everything else goes on. With room again, so do they, soon; a new open finds it all.
 */
static void full_file_system_fails_only_its_requests(void **state)
{
	struct world *w = *state;
	uint32_t version[VOLUME_BLOCKS] = { 0 }, refused = 0;

	signal(SIGXFSZ, SIG_IGN);
	for (uint32_t lba = 0; lba < VOLUME_BLOCKS; lba += 8) {
		assert_int_equal(block_write(w, lba, 1), PST_OK);
		version[lba] = 1;
	}
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	limit_file(POOL_BYTES / 8);
	for (uint32_t lba = 0; lba < VOLUME_BLOCKS; lba += 4) {
		pst_err err = block_write(w, lba, 2);

		assert_true(err == PST_OK || err == PST_E_NOSPACE);
		refused += err != PST_OK;
		if (err == PST_OK)
			version[lba] = 2;
	}
	assert_true(refused > 100);
	for (uint32_t lba = 0; lba < VOLUME_BLOCKS; lba += 4)
		assert_block(w, lba, version[lba]);
	limit_file(RLIM_INFINITY);
	for (uint32_t lba = 0; lba < VOLUME_BLOCKS; lba += 64)
		block_write_soon(w, lba, version[lba] = 3);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	close_all(w);
	assert_int_equal(pool_open(w, &w->pool), PST_OK);
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_OPEN), PST_OK);
	w->volume = w->pool_op.volume;
	for (uint32_t lba = 0; lba < VOLUME_BLOCKS; lba += 4)
		assert_block(w, lba, version[lba]);
}

/* The file is sparse, except for logs, roots and space maps: with a full file system below these can still be written.
 */
static void format_takes_space_for_metadata(void **state)
{
	struct world *w = *state;
	static struct pst_superblock sb;
	char detail[PST_DETAIL_BYTES];
	struct stat st;

	assert_int_equal(pst_sb_layout(&sb, POOL_BYTES / B, 0, detail), PST_OK);
	assert_int_equal(stat(w->path, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= (uint64_t)sb.partitions[0].data_start * B);
	assert_true((uint64_t)st.st_blocks * 512 < POOL_BYTES / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(open_twice_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(format_takes_space_for_metadata, setup, teardown),
		cmocka_unit_test_setup_teardown(full_file_system_fails_only_its_requests, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
