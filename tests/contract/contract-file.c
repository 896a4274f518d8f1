/* SPDX-License-Identifier: Apache-2.0 */
/* Files: transfers, bounds, locks, zeroes, discards, flushes, and more operations than the configured depth. */
#include "contract.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (1024u * 1024u)

struct file_io {
	struct pst_file_op op;
	struct iovec iov[64];
	unsigned completions;
	bool submitting, inside;
	unsigned *order;
	unsigned finished_as;
};

static void file_io_done(struct pst_file_op *op)
{
	struct file_io *io = pst_container_of(op, struct file_io, op);

	io->inside |= io->submitting;
	io->completions++;
	if (io->order)
		io->finished_as = (*io->order)++;
}

static void file_io_start(struct pst_file *file, struct file_io *io)
{
	io->op.done = file_io_done;
	io->submitting = true;
	pst_file_submit(file, &io->op);
	io->submitting = false;
}

static pst_err file_io_run(struct harness *h, struct pst_file *file, enum pst_file_kind kind, uint64_t offset,
			   void *buf, uint64_t len)
{
	struct file_io io = { .op = { .kind = kind, .offset_bytes = offset, .len_bytes = len } };

	if (kind == PST_FILE_READ || kind == PST_FILE_WRITE) {
		io.iov[0] = (struct iovec){ buf, len };
		io.op.iov = io.iov;
		io.op.iov_count = 1;
	}
	file_io_start(file, &io);
	assert_int_equal(io.completions, 0);
	HARNESS_RUN_UNTIL(h, io.completions == 1);
	HARNESS_SETTLE(h);
	assert_int_equal(io.completions, 1);
	assert_false(io.inside);
	return io.op.err;
}

static struct pst_file *file_make(struct harness *h, const char *name, unsigned flags, uint64_t size)
{
	struct pst_file *file;
	char path[256];

	harness_path(h, name, path);
	assert_int_equal(pst_file_open(h->env, path, flags | PST_FILE_CREATE, &file), PST_OK);
	if (size)
		assert_int_equal(pst_file_truncate(file, size), PST_OK);
	return file;
}

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((i * 31 + i / 251 + seed) ^ (seed >> 3));
}

/* What was written is read back through other cuts of memory; a new file reads as zeros. */
static void scattered_write_reads_back(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "a", 0, 4 * MIB);
	uint8_t *out = malloc(MIB), *in = calloc(1, MIB);
	struct file_io io = { .op = { .kind = PST_FILE_WRITE, .offset_bytes = 12345, .len_bytes = MIB } };
	size_t at = 0;

	fill(out, MIB, 1);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, MIB, in, MIB), PST_OK);
	for (size_t i = 0; i < MIB; i++)
		assert_int_equal(in[i], 0);
	for (unsigned i = 0; i < 64; i++) {
		size_t len = i == 63 ? MIB - at : 1000 + i * 37;

		io.iov[i] = (struct iovec){ out + at, len };
		at += len;
	}
	io.op.iov = io.iov;
	io.op.iov_count = 64;
	file_io_start(file, &io);
	HARNESS_RUN_UNTIL(h, io.completions);
	assert_int_equal(io.op.err, PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 12345, in, MIB), PST_OK);
	assert_memory_equal(in, out, MIB);
	pst_file_close(file);
	/* Also by the next opener. */
	file = file_make(h, "a", 0, 0);
	memset(in, 0, MIB);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 12345, in, MIB), PST_OK);
	assert_memory_equal(in, out, MIB);
	pst_file_close(file);
	free(out);
	free(in);
}

/* Nothing reaches past the end, by one byte or by a wrap of the offset. */
static void past_the_end_is_refused(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "b", 0, 8192);
	uint8_t buf[4096] = { 0 };
	struct pst_file_info info;

	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 4097, buf, 4096), PST_E_RANGE);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE, 8192, buf, 1), PST_E_RANGE);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE_ZEROES, 4096, NULL, 4097), PST_E_RANGE);
	assert_int_equal(file_io_run(h, file, PST_FILE_DISCARD, UINT64_MAX - 4095, NULL, 4096), PST_E_RANGE);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 4096, buf, 4096), PST_OK);
	pst_file_info(file, &info);
	assert_int_equal(info.size_bytes, 8192);
	assert_false(info.block_device);
	assert_int_equal(pst_file_truncate(file, 4096), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 4096, buf, 1), PST_E_RANGE);
	pst_file_close(file);
}

/* Zeroes read as zeros and nothing beside them changes; after a discard the rest is untouched and all is readable. */
static void zeroes_and_discard_keep_to_their_range(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "c", 0, MIB);
	uint8_t *out = malloc(MIB), *in = malloc(MIB);

	fill(out, MIB, 5);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE, 0, out, MIB), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE_ZEROES, 8192, NULL, 300 * 1024), PST_OK);
	memset(out + 8192, 0, 300 * 1024);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 0, in, MIB), PST_OK);
	assert_memory_equal(in, out, MIB);
	assert_int_equal(file_io_run(h, file, PST_FILE_DISCARD, 512 * 1024, NULL, 128 * 1024), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 0, in, MIB), PST_OK);
	assert_memory_equal(in, out, 512 * 1024);
	assert_memory_equal(in + 640 * 1024, out + 640 * 1024, MIB - 640 * 1024);
	assert_int_equal(file_io_run(h, file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	/* Nothing to do is done. */
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE_ZEROES, 0, NULL, 0), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_DISCARD, MIB, NULL, 0), PST_OK);
	pst_file_close(file);
	free(out);
	free(in);
}

/* Of two openers that ask for exclusion the second is told; after the first has closed, the third gets it. */
static void exclusive_open_locks(void **state)
{
	struct harness *h = *state;
	struct pst_file *first = file_make(h, "d", PST_FILE_EXCLUSIVE, 4096), *second = NULL;
	char path[256];

	harness_path(h, "d", path);
	assert_int_equal(pst_file_open(h->env, path, PST_FILE_EXCLUSIVE, &second), PST_E_LOCKED);
	assert_null(second);
	assert_int_equal(pst_file_open(h->env, path, PST_FILE_READONLY, &second), PST_OK); /* did not ask */
	pst_file_close(second);
	pst_file_close(first);
	assert_int_equal(pst_file_open(h->env, path, PST_FILE_EXCLUSIVE, &second), PST_OK);
	pst_file_close(second);
}

/*
 * Who has just closed a file gets it again at once: what the backend keeps of finished requests does not lock him out.
 * Whether the kernel still has one of them is chance, about once in ten thousand; hence the rounds, and discards, which
 * threads of the kernel carry out in no time.
 */
static void reopened_at_once(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "again", PST_FILE_EXCLUSIVE, 4096);
	char path[256];

	harness_path(h, "again", path);
	for (int round = 0; round < 3000; round++) {
		struct file_io io = { .op = { .kind = PST_FILE_DISCARD, .len_bytes = 4096 } };

		file_io_start(file, &io);
		HARNESS_RUN_UNTIL(h, io.completions == 1);
		assert_int_equal(io.op.err, PST_OK);
		pst_file_close(file);
		assert_int_equal(pst_file_open(h->env, path, PST_FILE_EXCLUSIVE, &file), PST_OK);
	}
	pst_file_close(file);
}

/* Opening says what is wrong: missing, missing directory; a read-only file refuses to change. */
static void open_errors_are_told_apart(void **state)
{
	struct harness *h = *state;
	struct pst_file *file;
	uint8_t byte = 1;
	char path[256];

	harness_path(h, "missing", path);
	assert_int_equal(pst_file_open(h->env, path, 0, &file), PST_E_NOTFOUND);
	harness_path(h, "nodir/file", path);
	assert_int_equal(pst_file_open(h->env, path, PST_FILE_CREATE, &file), PST_E_NOTFOUND);
	pst_file_close(file_make(h, "e", 0, 4096));
	harness_path(h, "e", path);
	assert_int_equal(pst_file_open(h->env, path, PST_FILE_READONLY, &file), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE, 0, &byte, 1), PST_E_DENIED);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE_ZEROES, 0, NULL, 1), PST_E_DENIED);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 0, &byte, 1), PST_OK);
	assert_int_equal(byte, 0);
	assert_int_equal(pst_file_truncate(file, 1), PST_E_DENIED);
	pst_file_close(file);
}

/* Direct I/O where the file system has it; either way aligned transfers work and info says what is needed. */
static void direct_io_or_fallback(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "f", PST_FILE_DIRECT, MIB);
	struct pst_file_info info;
	uint8_t *out, *in;

	pst_file_info(file, &info);
	assert_true(pst_is_pow2(info.align_bytes) && info.align_bytes <= 4096);
	assert_true(info.direct || info.align_bytes == 1);
	out = aligned_alloc(4096, 65536);
	in = aligned_alloc(4096, 65536);
	fill(out, 65536, 9);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE, 65536, out, 65536), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 65536, in, 65536), PST_OK);
	assert_memory_equal(in, out, 65536);
	assert_int_equal(file_io_run(h, file, PST_FILE_WRITE_ZEROES, 65536, NULL, 4096), PST_OK);
	memset(out, 0, 4096);
	assert_int_equal(file_io_run(h, file, PST_FILE_READ, 65536, in, 65536), PST_OK);
	assert_memory_equal(in, out, 65536);
	pst_file_close(file);
	free(out);
	free(in);
}

#define MANY 300

/* Far more operations than the depth: all complete, once, none inside submit, and none overtakes by more than the
 * depth. */
static void operations_beyond_depth_wait(void **state)
{
	struct harness h;
	struct pst_file *file;
	struct file_io *ios = calloc(MANY, sizeof(*ios));
	uint8_t *buf = malloc(MANY * 4096), *in = malloc(MANY * 4096);
	unsigned order = 0;

	(void)state;
	memset(&h, 0, sizeof(h));
	harness_new(&h, 3);
	file = file_make(&h, "g", 0, MANY * 4096);
	fill(buf, MANY * 4096, 3);
	for (unsigned i = 0; i < MANY; i++) {
		struct file_io *io = &ios[i];

		io->iov[0] = (struct iovec){ buf + i * 4096, 4096 };
		io->op = (struct pst_file_op){ .kind = i % 50 == 49 ? PST_FILE_FLUSH : PST_FILE_WRITE };
		if (io->op.kind == PST_FILE_WRITE) {
			io->op.iov = io->iov;
			io->op.iov_count = 1;
			io->op.offset_bytes = i * 4096;
			io->op.len_bytes = 4096;
		} else {
			memset(buf + i * 4096, 0, 4096);
		}
		io->order = &order;
		file_io_start(file, io);
	}
	assert_int_equal(order, 0);
	HARNESS_RUN_UNTIL(&h, order == MANY);
	HARNESS_SETTLE(&h);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(ios[i].completions, 1);
		assert_int_equal(ios[i].op.err, PST_OK);
		assert_false(ios[i].inside);
		/* Before it at least all but the two others in flight with it were started, so it can't finish earlier.
		 */
		assert_true(ios[i].finished_as + 2 >= i);
	}
	assert_int_equal(file_io_run(&h, file, PST_FILE_READ, 0, in, MANY * 4096), PST_OK);
	assert_memory_equal(in, buf, MANY * 4096);
	pst_file_close(file);
	harness_free(&h);
	free(ios);
	free(buf);
	free(in);
}

struct chained_io {
	struct pst_file_op op;
	struct iovec iov;
	struct pst_file *file;
	uint8_t buf[512];
	unsigned left;
	unsigned depth;
	bool nested;
};

static void chained_io_done(struct pst_file_op *op)
{
	struct chained_io *io = pst_container_of(op, struct chained_io, op);

	io->nested |= io->depth > 0;
	io->depth++;
	if (op->err == PST_OK && --io->left)
		pst_file_submit(io->file, op);
	io->depth--;
}

/* An operation may be submitted again from its own completion, a thousand times, without recursion. */
static void resubmit_from_completion(void **state)
{
	struct harness *h = *state;
	struct chained_io io = { .left = 1000 };

	io.file = file_make(h, "h", 0, 4096);
	io.iov = (struct iovec){ io.buf, sizeof(io.buf) };
	io.op = (struct pst_file_op){
		.kind = PST_FILE_WRITE, .iov = &io.iov, .iov_count = 1, .len_bytes = 512, .done = chained_io_done
	};
	pst_file_submit(io.file, &io.op);
	HARNESS_RUN_UNTIL(h, io.left == 0);
	assert_false(io.nested);
	pst_file_close(io.file);
}

/* Of this thread; nothing changes for one that has no capabilities. Returns what it had. */
static struct __user_cap_data_struct capabilities_effective(uint32_t clear,
							    const struct __user_cap_data_struct *restore)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2], was;

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	was = data[0];
	data[0].effective = restore != NULL ? restore->effective : data[0].effective & ~clear;
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
	return was;
}

/* Urgent requests do what others do, with the right to a higher class of I/O and without it, also many at once. */
static void urgent_requests_need_no_rights(void **state)
{
	struct harness *h = *state;
	struct pst_file *file = file_make(h, "u", 0, MIB);
	struct __user_cap_data_struct had = { 0 };
	uint8_t out[4096], in[4096];

	for (unsigned round = 0; round < 2; round++) {
		struct file_io io[16] = { 0 };
		unsigned done = 0;

		if (round == 1)
			had = capabilities_effective(1u << CAP_SYS_NICE | 1u << CAP_SYS_ADMIN, NULL);
		for (unsigned i = 0; i < 16; i++) {
			fill(out, sizeof(out), round);
			io[i].iov[0] = (struct iovec){ out, sizeof(out) };
			io[i].op = (struct pst_file_op){ .kind = PST_FILE_WRITE,
							 .urgent = true,
							 .iov = io[i].iov,
							 .iov_count = 1,
							 .offset_bytes = (uint64_t)i * sizeof(out),
							 .len_bytes = sizeof(out) };
			io[i].order = &done;
			file_io_start(file, &io[i]);
		}
		HARNESS_RUN_UNTIL(h, done == 16);
		for (unsigned i = 0; i < 16; i++) {
			assert_int_equal(io[i].op.err, PST_OK);
			assert_int_equal(file_io_run(h, file, PST_FILE_READ, (uint64_t)i * sizeof(in), in, sizeof(in)),
					 PST_OK);
			assert_memory_equal(in, out, sizeof(in));
		}
		if (round == 1)
			capabilities_effective(0, &had);
	}
	pst_file_close(file);
}

int contract_file_tests(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
	const struct CMUnitTest tests[] = {
		TEST(scattered_write_reads_back),
		TEST(past_the_end_is_refused),
		TEST(zeroes_and_discard_keep_to_their_range),
		TEST(exclusive_open_locks),
		TEST(reopened_at_once),
		TEST(open_errors_are_told_apart),
		TEST(direct_io_or_fallback),
		cmocka_unit_test(operations_beyond_depth_wait),
		TEST(resubmit_from_completion),
		TEST(urgent_requests_need_no_rights),
	};
#undef TEST

	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
