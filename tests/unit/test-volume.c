/* SPDX-License-Identifier: Apache-2.0 */
/* The memory pool and the fault engine, driven through the volume interface on a real shard. */
#include "volume/fault.h"
#include "volume/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POOL_BLOCKS 64u

struct fixture {
	struct pst_env *env;
	struct pst_pool *pool;
};

static int setup(void **state)
{
	static struct fixture f;
	struct pst_env_config config = { .backend = PST_ENV_POSIX };

	assert_int_equal(pst_env_new(&config, &f.env), PST_OK);
	assert_int_equal(pst_ram_pool_new(f.env, (uint64_t)POOL_BLOCKS * PST_BLOCK_BYTES, &f.pool), PST_OK);
	*state = &f;
	return 0;
}

static unsigned completions;

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	completions++;
}

static void io_done(struct pst_io *io)
{
	(void)io;
	completions++;
}

static void closed(struct pst_volume_close_op *op)
{
	(void)op;
	completions++;
}

static void wait_for_one(struct fixture *f)
{
	assert_int_equal(completions, 0);
	while (completions == 0)
		pst_env_poll(f->env, UINT64_MAX);
	assert_int_equal(completions, 1);
	completions = 0;
}

static pst_err pool_call(struct fixture *f, struct pst_pool_op *op)
{
	op->done = pool_done;
	pst_pool_submit(f->pool, op);
	wait_for_one(f);
	return op->err;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };

	assert_int_equal(pool_call(f, &op), PST_OK);
	pst_env_free(f->env);
	return 0;
}

static struct pst_volume *make_volume(struct fixture *f, uint8_t id, uint64_t block_count)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_CREATE, .uuid = { id }, .block_count = block_count };

	assert_int_equal(pool_call(f, &op), PST_OK);
	assert_int_equal(pool_call(f, &op), PST_E_EXISTS);
	op.kind = PST_POOL_VOLUME_OPEN;
	assert_int_equal(pool_call(f, &op), PST_OK);
	return op.volume;
}

static void close_volume(struct fixture *f, struct pst_volume *v)
{
	struct pst_volume_close_op op = { .done = closed };

	pst_volume_close(v, &op);
	wait_for_one(f);
}

static pst_err io(struct fixture *f, struct pst_volume *v, enum pst_io_kind kind, uint64_t lba, uint64_t count,
		  void *buf)
{
	struct iovec iov = { buf, count * PST_BLOCK_BYTES };
	struct pst_io r = { .kind = kind, .lba = lba, .block_count = count, .done = io_done };

	if (buf != NULL) {
		r.iov = &iov;
		r.iov_count = 1;
	}
	pst_volume_submit(v, &r);
	wait_for_one(f);
	return r.err;
}

static uint64_t used_blocks(struct fixture *f)
{
	struct pst_pool_stats s;

	pst_pool_stats(f->pool, &s);
	return s.used_bytes / PST_BLOCK_BYTES;
}

/* What was written is read back; what was not reads as zeros, next to it and after a discard. */
static void reads_what_was_written(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, 2000);
	static char buf[3 * PST_BLOCK_BYTES], zeros[PST_BLOCK_BYTES];

	memset(buf, 'x', PST_BLOCK_BYTES);
	assert_int_equal(io(f, v, PST_IO_WRITE, 1000, 1, buf), PST_OK);
	memset(buf, 'y', sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_READ, 999, 3, buf), PST_OK);
	assert_memory_equal(buf, zeros, PST_BLOCK_BYTES);
	assert_int_equal(buf[PST_BLOCK_BYTES], 'x');
	assert_int_equal(buf[2 * PST_BLOCK_BYTES - 1], 'x');
	assert_memory_equal(buf + 2 * PST_BLOCK_BYTES, zeros, PST_BLOCK_BYTES);
	assert_int_equal(used_blocks(f), 1);
	assert_int_equal(io(f, v, PST_IO_DISCARD, 0, 2000, NULL), PST_OK);
	assert_int_equal(used_blocks(f), 0);
	assert_int_equal(io(f, v, PST_IO_READ, 1000, 1, buf), PST_OK);
	assert_memory_equal(buf, zeros, PST_BLOCK_BYTES);
	close_volume(f, v);
}

/* A full pool refuses new blocks, still takes overwrites, and goes on after a discard. */
static void full_pool_takes_overwrites(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, 2000);
	static char buf[POOL_BLOCKS * PST_BLOCK_BYTES];

	memset(buf, 'a', sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_WRITE, 0, POOL_BLOCKS, buf), PST_OK);
	assert_int_equal(io(f, v, PST_IO_WRITE, 900, 1, buf), PST_E_NOSPACE);
	assert_int_equal(io(f, v, PST_IO_WRITE, 1900, 1, buf), PST_E_NOSPACE); /* and leaks nothing */
	assert_int_equal(io(f, v, PST_IO_WRITE, 3, 1, buf), PST_OK);
	assert_int_equal(io(f, v, PST_IO_DISCARD, 3, 1, NULL), PST_OK);
	assert_int_equal(io(f, v, PST_IO_WRITE, 900, 1, buf), PST_OK);
	close_volume(f, v);
}

/* In a full pool, too, lent blocks are overwritten, and stay as they were for who has them; then all is as before. */
static void full_pool_overwrites_lent_blocks(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, POOL_BLOCKS);
	struct pst_loan loans[2] = { { .lba = 1, .block_count = 3 }, { .lba = 2, .block_count = 1 } };
	char buf[4 * PST_BLOCK_BYTES];

	memset(buf, 'a', sizeof(buf));
	for (uint64_t lba = 0; lba < POOL_BLOCKS; lba++)
		assert_int_equal(io(f, v, PST_IO_WRITE, lba, 1, buf), PST_OK);
	for (unsigned i = 0; i < 2; i++)
		assert_true(pst_volume_lend(v, &loans[i]));
	memset(buf, 'b', sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_WRITE, 0, 4, buf), PST_OK);
	assert_int_equal(used_blocks(f), POOL_BLOCKS);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(((const char *)loans[i].iov[0].iov_base)[PST_BLOCK_BYTES - 1], 'a');
		pst_volume_give_back(v, &loans[i]);
	}
	memset(buf, 0, sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_READ, 0, 4, buf), PST_OK);
	assert_int_equal(buf[0], 'b');
	assert_int_equal(buf[sizeof(buf) - 1], 'b');
	close_volume(f, v);
}

/* An open volume can't be deleted or opened twice; deleting gives its space back. */
static void open_volume_is_busy(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, 10);
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_DELETE, .uuid = { 1 } };
	static char buf[PST_BLOCK_BYTES];

	assert_int_equal(io(f, v, PST_IO_WRITE, 0, 1, buf), PST_OK);
	assert_int_equal(pool_call(f, &op), PST_E_BUSY);
	op.kind = PST_POOL_VOLUME_OPEN;
	assert_int_equal(pool_call(f, &op), PST_E_BUSY);
	close_volume(f, v);
	op.kind = PST_POOL_VOLUME_DELETE;
	assert_int_equal(pool_call(f, &op), PST_OK);
	assert_int_equal(used_blocks(f), 0);
	assert_int_equal(pool_call(f, &op), PST_E_NOTFOUND);
}

/* Growing keeps data; shrinking below used blocks is refused. */
static void resize_keeps_data(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, 10);
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_RESIZE, .uuid = { 1 }, .block_count = 5000 };
	static char buf[PST_BLOCK_BYTES];

	memset(buf, 'k', sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_WRITE, 9, 1, buf), PST_OK);
	assert_int_equal(pool_call(f, &op), PST_OK);
	assert_int_equal(v->block_count, 5000);
	assert_int_equal(io(f, v, PST_IO_WRITE, 4999, 1, buf), PST_OK);
	op.block_count = 4999;
	assert_int_equal(pool_call(f, &op), PST_E_BUSY);
	assert_int_equal(io(f, v, PST_IO_DISCARD, 4999, 1, NULL), PST_OK);
	assert_int_equal(pool_call(f, &op), PST_OK);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_READ, 9, 1, buf), PST_OK);
	assert_int_equal(buf[0], 'k');
	close_volume(f, v);
}

struct seen {
	char keys[100];
};

static void note_key(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	struct seen *s = ctx;

	assert_int_equal(value_bytes, 1);
	strncat(s->keys, key, sizeof(s->keys) - strlen(s->keys) - 1);
	strncat(s->keys, (char[]){ '=', *(const char *)value, ' ', 0 }, 4);
}

/* Records come back by prefix in key order, replaced and deleted ones gone. */
static void records_list_in_order(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { "" };

	for (const char **k = (const char *[]){ "v/b", "t/x", "v/a", "v/c", "v/b", NULL }; *k; k++) {
		struct pst_pool_op op = { .kind = PST_POOL_RECORD_PUT, .key = *k, .value = *k + 2, .value_bytes = 1 };

		assert_int_equal(pool_call(f, &op), PST_OK);
	}
	struct pst_pool_op op = { .kind = PST_POOL_RECORD_DELETE, .key = "v/c" };

	assert_int_equal(pool_call(f, &op), PST_OK);
	assert_int_equal(pool_call(f, &op), PST_E_NOTFOUND);
	pst_pool_records(f->pool, "v/", note_key, &seen);
	assert_string_equal(seen.keys, "v/a=a v/b=b ");
}

/* A key slot keeps what was put last, until it is erased; it is its volume's own. */
static void key_slots_keep_the_last(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *v = make_volume(f, 1, 10);
	uint8_t buf[PST_POOL_KEY_BYTES_MAX];
	struct pst_pool_op put = { .kind = PST_POOL_KEY_PUT, .uuid = { 1 }, .value = "first", .value_bytes = 5 };
	struct pst_pool_op get = { .kind = PST_POOL_KEY_GET, .uuid = { 1 }, .key_bytes = buf };
	struct pst_pool_op erase = { .kind = PST_POOL_KEY_ERASE, .uuid = { 1 } };

	assert_int_equal(pool_call(f, &get), PST_E_NOTFOUND);
	assert_int_equal(pool_call(f, &put), PST_OK);
	put.value = "2nd";
	put.value_bytes = 3;
	assert_int_equal(pool_call(f, &put), PST_OK);
	assert_int_equal(pool_call(f, &get), PST_OK);
	assert_int_equal(get.value_bytes, 3);
	assert_memory_equal(buf, "2nd", 3);
	assert_int_equal(pool_call(f, &erase), PST_OK);
	assert_int_equal(pool_call(f, &get), PST_E_NOTFOUND);
	put.uuid[0] = 2;
	assert_int_equal(pool_call(f, &put), PST_E_NOTFOUND);
	close_volume(f, v);
}

/* Each rule acts on its range and count only; the caller sees exactly the injected error. */
static void faults_act_as_told(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *lower = make_volume(f, 1, 100), *v;
	static char buf[PST_BLOCK_BYTES];

	assert_int_equal(pst_fault_new(lower, 2, &v), PST_OK);
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(io(f, v, PST_IO_WRITE, 7, 1, buf), PST_OK);
	assert_int_equal(pst_fault_add(v, &(struct pst_fault_rule){ .action = PST_FAULT_ERROR,
								    .kinds = 1u << PST_IO_READ,
								    .lba = 7,
								    .block_count = 1,
								    .err = PST_E_IO,
								    .skip = 1,
								    .count = 1 }),
			 PST_OK);
	assert_int_equal(io(f, v, PST_IO_READ, 7, 1, buf), PST_OK);
	assert_int_equal(io(f, v, PST_IO_READ, 8, 1, buf), PST_OK);
	assert_int_equal(io(f, v, PST_IO_READ, 7, 1, buf), PST_E_IO);
	assert_int_equal(io(f, v, PST_IO_READ, 7, 1, buf), PST_OK);
	assert_int_equal(pst_fault_hits(v), 1);
	pst_fault_clear(v);
	assert_int_equal(
	    pst_fault_add(v, &(struct pst_fault_rule){ .action = PST_FAULT_CORRUPT, .kinds = 1u << PST_IO_READ }),
	    PST_OK);
	assert_int_equal(io(f, v, PST_IO_READ, 7, 1, buf), PST_OK);
	assert_int_equal(buf[0], 'z' ^ 1);
	pst_fault_clear(v);

	uint64_t before = pst_env_now_ns(f->env);

	assert_int_equal(pst_fault_add(v, &(struct pst_fault_rule){ .action = PST_FAULT_DELAY,
								    .kinds = 1u << PST_IO_FLUSH,
								    .delay_ns = 5000000 }),
			 PST_OK);
	assert_int_equal(io(f, v, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	assert_true(pst_env_now_ns(f->env) - before >= 5000000);
	close_volume(f, v);
}

/* More requests than slots wait in order and all complete; the close waits for them. */
static void fault_slots_run_out_gracefully(void **state)
{
	struct fixture *f = *state;
	struct pst_volume *lower = make_volume(f, 1, 100), *v;
	struct pst_io flush[9];
	struct pst_volume_close_op op = { .done = closed };

	assert_int_equal(pst_fault_new(lower, 2, &v), PST_OK);
	assert_int_equal(pst_fault_add(v, &(struct pst_fault_rule){ .action = PST_FAULT_DELAY,
								    .kinds = 1u << PST_IO_FLUSH,
								    .delay_ns = 1000 }),
			 PST_OK);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(flush); i++) {
		flush[i] = (struct pst_io){ .kind = PST_IO_FLUSH, .done = io_done };
		pst_volume_submit(v, &flush[i]);
	}
	pst_volume_close(v, &op);
	while (completions < PST_ARRAY_COUNT(flush) + 1)
		pst_env_poll(f->env, UINT64_MAX);
	completions = 0;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(reads_what_was_written),
		CASE(full_pool_takes_overwrites),
		CASE(open_volume_is_busy),
		CASE(full_pool_overwrites_lent_blocks),
		CASE(resize_keeps_data),
		CASE(records_list_in_order),
		CASE(key_slots_keep_the_last),
		CASE(faults_act_as_told),
		CASE(fault_slots_run_out_gracefully),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
