/* SPDX-License-Identifier: Apache-2.0 */
/* What is special about the encrypting layer; that it is a volume like others: tests/contract/contract-volume.c. */
#include "env/secret.h"
#include "volume/crypt.h"
#include "volume/fault.h"
#include "volume/pool.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define VOLUME_BLOCKS ((uint64_t)1 << 33) /* beyond 32 bits of LBA */

struct world {
	struct pst_env *env;
	struct pst_pool *pool;
	struct pst_crypt_pool *crypt_pool;
	struct pst_volume *lower, *fault, *volume;
};

static unsigned done;

static void on_pool(struct pst_pool_op *op)
{
	(void)op;
	done++;
}

static void on_io(struct pst_io *io)
{
	(void)io;
	done++;
}

static void on_closed(struct pst_volume_close_op *op)
{
	(void)op;
	done++;
}

static void wait_for(struct world *w, unsigned count)
{
	while (done < count)
		pst_env_poll(w->env, UINT64_MAX);
	assert_int_equal(done, count);
	done = 0;
}

static struct pst_volume *pool_run(struct world *w, enum pst_pool_op_kind kind)
{
	struct pst_pool_op op = { .kind = kind, .uuid = { 1 }, .block_count = VOLUME_BLOCKS, .done = on_pool };

	pst_pool_submit(w->pool, &op);
	wait_for(w, 1);
	assert_int_equal(op.err, PST_OK);
	return op.volume;
}

/* A volume with @key over a fault engine over memory; bounce memory of two pieces' size. */
static void world_open(struct world *w, const uint8_t *key)
{
	const struct pst_env_config env_config = { .backend = PST_ENV_POSIX };
	const struct pst_crypt_pool_config config = { .bounce_bytes = (size_t)512 << 10 };

	assert_int_equal(pst_env_new(&env_config, &w->env), PST_OK);
	assert_int_equal(pst_ram_pool_new(w->env, 16 << 20, &w->pool), PST_OK);
	pool_run(w, PST_POOL_VOLUME_CREATE);
	w->lower = pool_run(w, PST_POOL_VOLUME_OPEN);
	assert_int_equal(pst_fault_new(w->lower, 256, &w->fault), PST_OK);
	assert_int_equal(pst_crypt_pool_new(w->env, &config, &w->crypt_pool), PST_OK);
	assert_int_equal(pst_crypt_new(w->crypt_pool, w->fault, key, &w->volume), PST_OK);
}

static void world_close(struct world *w)
{
	struct pst_volume_close_op op = { .done = on_closed };

	pst_volume_close(w->volume, &op);
	wait_for(w, 1);
	pst_crypt_pool_free(w->crypt_pool);
	pool_run(w, PST_POOL_CLOSE);
	pst_env_free(w->env);
}

static pst_err io(struct world *w, struct pst_volume *v, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf)
{
	struct iovec iov = { buf, count * B };
	struct pst_io r = { .kind = kind, .lba = lba, .block_count = count, .done = on_io };

	if (buf != NULL) {
		r.iov = &iov;
		r.iov_count = 1;
	}
	pst_volume_submit(v, &r);
	wait_for(w, 1);
	return r.err;
}

static void unhex(const char *hex, uint8_t *out)
{
	for (; hex[0] != '\0'; hex += 2) {
		unsigned byte;

		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		*out++ = (uint8_t)byte;
	}
}

/*
 * IEEE 1619-2007, annex B, vector 10, is the beginning of a longer unit here. (Blocks after it depend on those before
 * by nothing but the tweak.)
 */
static void matches_the_standards_vector(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES], want[128];
	static uint8_t plain[B], cipher[B];

	(void)state;
	unhex("27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197"
	      "169399375105820974944592",
	      key);
	unhex("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86"
	      "ac35adfc3345befecb4bb188fd5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0c5cd4d5fff9dac"
	      "89aeba122961d03a757123e9870f8acf1000020887891429ca",
	      want);
	world_open(&w, key);
	for (unsigned i = 0; i < B; i++)
		plain[i] = (uint8_t)i;
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, 0xff, 1, plain), PST_OK);
	assert_int_equal(io(&w, w.lower, PST_IO_READ, 0xff, 1, cipher), PST_OK);
	assert_memory_equal(cipher, want, sizeof(want));
	assert_int_equal(plain[1], 1);
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 0xff, 1, cipher), PST_OK);
	assert_memory_equal(cipher, plain, B);
	world_close(&w);
}

static void key_for_test(uint8_t key[PST_CRYPT_KEY_BYTES])
{
	for (unsigned i = 0; i < PST_CRYPT_KEY_BYTES; i++)
		key[i] = (uint8_t)(i * 37 + 11);
}

/*
 * Whole blocks, around LBA 2^32, as tests/e2e/independent_crypto.py enciphers them:
 *   independent_crypto.py xts 0b30557a...dc0126 4294967294 FILE
 * However the buffer is cut, the ciphertext is the same.
 */
static void matches_an_independent_implementation(void **state)
{
	static const char want_hex[] = "8edb2ad02ee66ebf5f1349cfddedbd98c4f735d62709a1af8928b90e1a9f45b0";
	const uint64_t lba = 4294967294u;
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES], want[32], got[32];
	static uint8_t plain[3 * B], cipher[3 * B];
	struct iovec cut[] = {
		{ plain, 100 }, { plain + 100, 0 }, { plain + 100, B }, { plain + 100 + B, 2 * B - 100 }
	};
	struct pst_io r = { .kind = PST_IO_WRITE, .lba = lba, .block_count = 3, .iov = cut, .iov_count = 4 };

	(void)state;
	key_for_test(key);
	unhex(want_hex, want);
	world_open(&w, key);
	for (unsigned i = 0; i < 3 * B; i++)
		plain[i] = (uint8_t)(i * 7 + i / B * 13 + i / 251);
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, lba, 3, plain), PST_OK);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(io(&w, w.lower, PST_IO_READ, lba, 3, cipher), PST_OK);
		assert_int_equal(EVP_Digest(cipher, sizeof(cipher), got, NULL, EVP_sha256(), NULL), 1);
		assert_memory_equal(got, want, sizeof(want));
		assert_int_equal(io(&w, w.lower, PST_IO_DISCARD, lba, 3, NULL), PST_OK);
		r.done = on_io;
		pst_volume_submit(w.volume, &r);
		wait_for(&w, 1);
		assert_int_equal(r.err, PST_OK);
	}
	world_close(&w);
}

/* What was never written, discarded or zeroed takes no space below, reads as zeros, and zeros written do take some. */
static void holes_are_not_ciphertext(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES];
	static uint8_t buf[3 * B], zeros[3 * B];
	struct pst_volume_stats stats;

	(void)state;
	key_for_test(key);
	world_open(&w, key);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 10, 3, buf), PST_OK);
	assert_memory_equal(buf, zeros, sizeof(buf));
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, 10, 3, zeros), PST_OK);
	pst_volume_stats(w.volume, &stats);
	assert_int_equal(stats.used_bytes, 3 * B);
	assert_int_equal(io(&w, w.lower, PST_IO_READ, 10, 3, buf), PST_OK);
	assert_memory_not_equal(buf, zeros, B);
	assert_memory_not_equal(buf, buf + B, B); /* equal blocks at different places look different */
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE_ZEROES, 10, 2, NULL), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_DISCARD, 12, 1, NULL), PST_OK);
	pst_volume_stats(w.volume, &stats);
	assert_int_equal(stats.used_bytes, 0);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 10, 3, buf), PST_OK);
	assert_memory_equal(buf, zeros, sizeof(buf));
	world_close(&w);
}

/* An error below is the caller's error; nothing of what was there, not even ciphertext, is in its buffer. */
static void errors_come_through(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES];
	static uint8_t buf[200 * B], zeros[B];
	struct pst_fault_rule rule = { .action = PST_FAULT_ERROR, .kinds = 1u << PST_IO_READ, .lba = 150 };

	(void)state;
	key_for_test(key);
	world_open(&w, key);
	memset(buf, 'd', sizeof(buf));
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, 0, 200, buf), PST_OK);
	rule.block_count = 1;
	rule.err = PST_E_CHECKSUM;
	assert_int_equal(pst_fault_add(w.fault, &rule), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 0, 200, buf), PST_E_CHECKSUM);
	assert_memory_equal(buf + 150 * B, zeros, B);
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 0, 100, buf), PST_OK);
	rule.kinds = 1u << PST_IO_WRITE;
	rule.err = PST_E_NOSPACE;
	assert_int_equal(pst_fault_add(w.fault, &rule), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, 0, 200, buf), PST_E_NOSPACE);
	rule.kinds = 1u << PST_IO_FLUSH;
	rule.block_count = 0;
	rule.err = PST_E_LOST;
	assert_int_equal(pst_fault_add(w.fault, &rule), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_FLUSH, 0, 0, NULL), PST_E_LOST);
	world_close(&w);
}

/* Writes that hang below (as in a full pool) leave room for reads, and don't hold up discards and flushes. */
static void hanging_writes_leave_room(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES];
	static uint8_t buf[64 * B], back[B];
	struct iovec iov = { buf, sizeof(buf) };
	struct pst_io writes[20];
	struct pst_fault_rule rule = { .action = PST_FAULT_DELAY, .kinds = 1u << PST_IO_WRITE };
	uint64_t begun_ns;

	(void)state;
	key_for_test(key);
	world_open(&w, key);
	rule.delay_ns = 300000000;
	assert_int_equal(pst_fault_add(w.fault, &rule), PST_OK);
	begun_ns = pst_env_now_ns(w.env);
	for (unsigned i = 0; i < 20; i++) {
		writes[i] = (struct pst_io){ .kind = PST_IO_WRITE, .lba = i * 64, .block_count = 64, .done = on_io };
		writes[i].iov = &iov;
		writes[i].iov_count = 1;
		pst_volume_submit(w.volume, &writes[i]);
	}
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 0, 1, back), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_DISCARD, 5000, 10, NULL), PST_OK);
	assert_true(pst_env_now_ns(w.env) - begun_ns < rule.delay_ns);
	pst_fault_clear(w.fault); /* for those that have not begun */
	wait_for(&w, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(writes[i].err, PST_OK);
	world_close(&w);
}

/* Two equal halves would make XTS weak; the standard forbids them. */
static void equal_halves_are_refused(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES] = { 0 }, good[PST_CRYPT_KEY_BYTES];
	struct pst_volume *v = NULL;

	(void)state;
	key_for_test(good);
	world_open(&w, good);
	assert_int_equal(pst_crypt_new(w.crypt_pool, w.lower, key, &v), PST_E_KEY);
	assert_null(v);
	world_close(&w);
}

/* ---- Secret memory ---- */

/*
 * A recalled write ends, whether its pieces pause below, or wait for bounce memory, or both; what is not recalled goes
 * on, and all bounce memory comes back.
 */
static void recalled_writes_end(void **state)
{
	struct world w;
	uint8_t key[PST_CRYPT_KEY_BYTES], *data = calloc(64, B), back[B];
	struct iovec iov[3] = { { data, (size_t)20 * B }, { data, (size_t)64 * B }, { data, B } };
	struct pst_io writes[3];

	(void)state;
	key_for_test(key);
	world_open(&w, key);
	memset(data, 5, (size_t)64 * B);
	assert_int_equal(
	    pst_fault_add(w.fault, &(struct pst_fault_rule){ .action = PST_FAULT_PAUSE, .kinds = 1u << PST_IO_WRITE }),
	    PST_OK);
	for (unsigned i = 0; i < 3; i++) {
		writes[i] = (struct pst_io){ .kind = PST_IO_WRITE,
					     .lba = 100 * i,
					     .block_count = iov[i].iov_len / B,
					     .iov = &iov[i],
					     .iov_count = 1,
					     .done = on_io };
		pst_volume_submit(w.volume, &writes[i]);
	}
	for (unsigned i = 0; i < 100; i++)
		pst_env_poll(w.env, 0);
	assert_int_equal(done, 0);
	pst_volume_recall(w.volume, &writes[1]); /* a part of it is below, the rest waits, and the third behind it */
	assert_int_equal(done, 0);
	wait_for(&w, 1);
	assert_int_equal(writes[1].err, PST_E_CANCELLED);
	pst_volume_recall(w.volume, &writes[2]);
	wait_for(&w, 1);
	assert_int_equal(writes[2].err, PST_E_CANCELLED);
	pst_fault_clear(w.fault);
	wait_for(&w, 1);
	assert_int_equal(writes[0].err, PST_OK);
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 100, 1, back), PST_OK);
	assert_int_equal(back[0], 0);
	assert_int_equal(io(&w, w.volume, PST_IO_READ, 3, 1, back), PST_OK);
	assert_int_equal(back[0], 5);
	assert_int_equal(io(&w, w.volume, PST_IO_WRITE, 100, 64, data), PST_OK);
	free(data);
	world_close(&w);
}

/* Is the page of @mem left out of core dumps? The kernel's own word for it is "dd". */
static bool not_dumped(const void *mem)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long begin = 0, end = 0, at = (unsigned long)mem;
	char line[400];
	bool found = false;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
			begin = a;
			end = b;
		} else if (strncmp(line, "VmFlags:", 8) == 0 && begin <= at && at < end) {
			found = strstr(line, " dd") != NULL;
		}
	}
	fclose(f);
	return found;
}

/* Secret memory is zeroed, not dumped, and wiped; small and large pieces; OpenSSL's contexts lie in it. */
static void secrets_are_not_dumped(void **state)
{
	static const size_t sizes[] = { 1, 64, 4096, 100000 };
	uint8_t key[PST_CRYPT_KEY_BYTES], *first, *again;
	size_t bytes, unlocked;
	struct world w;
	EVP_CIPHER_CTX *ctx;

	(void)state;
	key_for_test(key);
	world_open(&w, key);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(sizes); i++) {
		uint8_t *secret = pst_secret_alloc(w.env, sizes[i]);

		assert_non_null(secret);
		assert_int_equal(secret[0] | secret[sizes[i] - 1], 0);
		assert_true(not_dumped(secret) && not_dumped(secret + sizes[i] - 1));
		memset(secret, 0xaa, sizes[i]);
		pst_secret_free(w.env, secret, sizes[i]);
	}
	first = pst_secret_alloc(w.env, 64);
	memset(first, 0xaa, 64);
	pst_secret_free(w.env, first, 64);
	again = pst_secret_alloc(w.env, 64);
	assert_ptr_equal(first, again);
	assert_int_equal(again[40], 0);
	pst_secret_free(w.env, again, 64);
	ctx = EVP_CIPHER_CTX_new();
	assert_true(not_dumped(ctx));
	EVP_CIPHER_CTX_free(ctx);
	pst_secret_usage(&bytes, &unlocked);
	assert_true(bytes > 0 && unlocked <= bytes);
	assert_false(not_dumped(state));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_the_standards_vector), cmocka_unit_test(matches_an_independent_implementation),
		cmocka_unit_test(holes_are_not_ciphertext),     cmocka_unit_test(errors_come_through),
		cmocka_unit_test(hanging_writes_leave_room),    cmocka_unit_test(equal_halves_are_refused),
		cmocka_unit_test(recalled_writes_end),          cmocka_unit_test(secrets_are_not_dumped),
	};

	if (!pst_secret_for_openssl()) {
		fputs("OpenSSL has allocated memory before main\n", stderr);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
