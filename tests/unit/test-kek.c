/* SPDX-License-Identifier: Apache-2.0 */
/* Key-encryption keys in files and directories, wrapping, and the bytes of key slots. */
#include "control/kek.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECRET_BYTES 80u

struct world {
	struct pst_env *env;
	char dir[64];
	uint8_t *secret;
	bool done;
};

static int setup(void **state)
{
	const struct pst_env_config config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	static struct world w;

	assert_int_equal(pst_env_new(&config, &w.env), PST_OK);
	snprintf(w.dir, sizeof(w.dir), "/tmp/test-kek-XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	w.secret = pst_secret_alloc(w.env, PST_KEK_SECRET_MAX);
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[100];

	pst_secret_free(w->env, w->secret, PST_KEK_SECRET_MAX);
	pst_env_free(w->env);
	snprintf(command, sizeof(command), "rm -r %s", w->dir);
	return system(command);
}

static void put(struct world *w, const char *name, const void *bytes, size_t len)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
}

static void put_text(struct world *w, const char *name, const char *text)
{
	put(w, name, text, strlen(text));
}

static void drop(struct world *w, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	assert_int_equal(unlink(path), 0);
}

static struct pst_kek *kek_at(struct world *w, const char *name, const char *current)
{
	struct pst_kek *kek;
	char path[200];

	snprintf(path, sizeof(path), "%s%s%s", w->dir, name != NULL ? "/" : "", name != NULL ? name : "");
	assert_int_equal(pst_kek_file_new(w->env, path, current, &kek), PST_OK);
	return kek;
}

/* Operations have no pointer to the world. */
static bool op_is_done;

static void on_done(struct pst_kek_op *op)
{
	(void)op;
	op_is_done = true;
}

static pst_err run(struct world *w, struct pst_kek *kek, struct pst_kek_op *op, enum pst_kek_op_kind kind)
{
	op->kind = kind;
	op->secret = w->secret;
	op->done = on_done;
	op_is_done = false;
	kek->ops->submit(kek, op);
	assert_false(op_is_done); /* never inside the call */
	while (!op_is_done)
		pst_env_poll(w->env, UINT64_MAX);
	return op->err;
}

static void secret_fill(struct world *w)
{
	for (unsigned i = 0; i < SECRET_BYTES; i++)
		w->secret[i] = (uint8_t)(i + 100);
}

static void wrap(struct world *w, struct pst_kek *kek, struct pst_kek_op *op)
{
	secret_fill(w);
	op->secret_bytes = SECRET_BYTES;
	assert_int_equal(run(w, kek, op, PST_KEK_WRAP), PST_OK);
}

static void assert_unwraps(struct world *w, struct pst_kek *kek, struct pst_kek_op *op)
{
	memset(w->secret, 0, PST_KEK_SECRET_MAX);
	assert_int_equal(run(w, kek, op, PST_KEK_UNWRAP), PST_OK);
	assert_int_equal(op->secret_bytes, SECRET_BYTES);
	for (unsigned i = 0; i < SECRET_BYTES; i++)
		assert_int_equal(w->secret[i], i + 100);
}

static const char hex_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
static const char base64_key[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/* The same key in all three spellings, with and without an end of line, has one fingerprint and unwraps alike. */
static void reads_three_spellings(void **state)
{
	struct world *w = *state;
	const char *const names[] = { "raw", "hex", "hexnl", "base64", "base64nl" };
	struct pst_kek_op op = { 0 };
	char first[PST_KEK_ID_MAX + 1] = "", text[100];
	uint8_t raw[32];

	for (unsigned i = 0; i < 32; i++)
		raw[i] = (uint8_t)i;
	put(w, "raw", raw, sizeof(raw));
	put_text(w, "hex", hex_key);
	snprintf(text, sizeof(text), "%s\r\n", hex_key);
	put_text(w, "hexnl", text);
	put_text(w, "base64", base64_key);
	snprintf(text, sizeof(text), "%s\n", base64_key);
	put_text(w, "base64nl", text);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(names); i++) {
		struct pst_kek *kek = kek_at(w, names[i], NULL);
		struct pst_kek_status status;

		kek->ops->status(kek, &status);
		assert_string_equal(status.problem, "");
		assert_int_equal(strncmp(status.current, "sha256-", 7), 0);
		if (i == 0) {
			snprintf(first, sizeof(first), "%s", status.current);
			wrap(w, kek, &op);
			assert_int_equal(op.wrapped_bytes, SECRET_BYTES + 8);
		}
		assert_string_equal(status.current, first);
		assert_unwraps(w, kek, &op);
		kek->ops->free(kek);
	}
}

/* What is no key is named, with what a key is; it is not an error that stops anything. */
static void says_what_is_no_key(void **state)
{
	struct world *w = *state;
	static const char *const bad[] = { "",
					   "short",
					   "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
					   "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00",
					   "0000000000000000000000000000000000000000000000000000000000000000",
					   "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==" };
	struct pst_kek_op op = { .secret_bytes = SECRET_BYTES };

	for (unsigned i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		struct pst_kek_status status;
		struct pst_kek *kek;

		put_text(w, "bad", bad[i]);
		kek = kek_at(w, "bad", NULL);
		kek->ops->status(kek, &status);
		assert_int_equal(status.keys, 0);
		assert_non_null(strstr(status.problem, "32 bytes are needed"));
		assert_int_equal(run(w, kek, &op, PST_KEK_WRAP), PST_E_NOTFOUND);
		assert_non_null(strstr(op.detail, w->dir));
		kek->ops->free(kek);
	}
}

/* In a directory the last name is current, or the one asked for; dot files don't count; a bad file spoils no other. */
static void chooses_among_a_directorys_keys(void **state)
{
	struct world *w = *state;
	struct pst_kek_status status;
	struct pst_kek_op op = { 0 };
	struct pst_kek *kek;

	put_text(w, "2026-01", hex_key);
	put_text(w, "2026-07", "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	put_text(w, "..2026-09", "ee0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	put_text(w, "2026-08", "oops");
	kek = kek_at(w, NULL, NULL);
	kek->ops->status(kek, &status);
	assert_string_equal(status.current, "2026-07");
	assert_int_equal(status.keys, 2);
	assert_non_null(strstr(status.problem, "2026-08"));
	wrap(w, kek, &op);
	assert_string_equal(op.id, "2026-07");
	assert_unwraps(w, kek, &op);
	kek->ops->free(kek);
	kek = kek_at(w, NULL, "2026-01");
	wrap(w, kek, &op);
	assert_string_equal(op.id, "2026-01");
	kek->ops->free(kek);
	kek = kek_at(w, NULL, "2027-01");
	kek->ops->status(kek, &status);
	assert_string_equal(status.current, "");
	assert_int_equal(run(w, kek, &op, PST_KEK_WRAP), PST_E_NOTFOUND);
	assert_non_null(strstr(op.detail, "2027-01"));
	kek->ops->free(kek);
}

/* A key that goes is missing after a reload, and fits again when it is back; another key of its name does not fit. */
static void reload_follows_the_directory(void **state)
{
	struct world *w = *state;
	struct pst_kek_op op = { 0 }, reload = { 0 };
	struct pst_kek *kek;

	put_text(w, "a", hex_key);
	put_text(w, "b", "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	kek = kek_at(w, NULL, "a");
	wrap(w, kek, &op);
	drop(w, "a");
	assert_unwraps(w, kek, &op); /* until it is told to look */
	assert_int_equal(run(w, kek, &reload, PST_KEK_RELOAD), PST_OK);
	assert_int_equal(run(w, kek, &op, PST_KEK_UNWRAP), PST_E_NOTFOUND);
	assert_non_null(strstr(op.detail, "'a'"));
	put_text(w, "a", "dd0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	assert_int_equal(run(w, kek, &reload, PST_KEK_RELOAD), PST_OK);
	assert_int_equal(run(w, kek, &op, PST_KEK_UNWRAP), PST_E_KEY);
	put_text(w, "a", hex_key);
	assert_int_equal(run(w, kek, &reload, PST_KEK_RELOAD), PST_OK);
	assert_unwraps(w, kek, &op);
	kek->ops->free(kek);
}

/* A key of a single file is found by its fingerprint, under whatever name, when it has moved to a directory. */
static void a_files_key_is_found_in_a_directory(void **state)
{
	struct world *w = *state;
	struct pst_kek_op op = { 0 };
	struct pst_kek *kek;

	put_text(w, "old", hex_key);
	kek = kek_at(w, "old", NULL);
	wrap(w, kek, &op);
	kek->ops->free(kek);
	put_text(w, "young", "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	kek = kek_at(w, NULL, NULL);
	assert_unwraps(w, kek, &op);
	kek->ops->free(kek);
}

/* A wrapped key in which one bit is wrong is refused, and nothing of it is handed out. */
static void damage_is_refused(void **state)
{
	struct world *w = *state;
	struct pst_kek_op op = { 0 };
	struct pst_kek *kek;

	put_text(w, "k", hex_key);
	kek = kek_at(w, "k", NULL);
	wrap(w, kek, &op);
	for (uint32_t i = 0; i < op.wrapped_bytes; i++) {
		op.wrapped[i] ^= 1;
		assert_int_equal(run(w, kek, &op, PST_KEK_UNWRAP), PST_E_KEY);
		for (unsigned k = 0; k < PST_KEK_SECRET_MAX; k++)
			assert_int_equal(w->secret[k], 0);
		op.wrapped[i] ^= 1;
	}
	for (op.wrapped_bytes = 0; op.wrapped_bytes < SECRET_BYTES; op.wrapped_bytes++)
		assert_int_equal(run(w, kek, &op, PST_KEK_UNWRAP), PST_E_KEY);
	kek->ops->free(kek);
}

/* A slot comes back as it was; no bit of it can change unnoticed, and no length but its own is taken. */
static void slots_are_checked(void **state)
{
	struct pst_key_slot slot = {
		.family = { 1, 2, 3 }, .wrapped_ns = 77, .kek_id = "2026-07", .wrapped_bytes = 88
	};
	struct pst_key_slot back;
	uint8_t buf[PST_KEY_SLOT_MAX];
	uint32_t bytes;

	(void)state;
	memset(slot.wrapped, 0x5a, slot.wrapped_bytes);
	bytes = pst_key_slot_encode(&slot, buf);
	assert_int_equal(bytes, 128 + 88);
	assert_int_equal(pst_key_slot_decode(buf, bytes, &back), PST_OK);
	assert_memory_equal(&slot, &back, sizeof(slot));
	for (uint32_t i = 0; i < bytes * 8; i++) {
		buf[i / 8] ^= (uint8_t)(1u << (i % 8));
		assert_int_not_equal(pst_key_slot_decode(buf, bytes, &back), PST_OK);
		buf[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	for (uint32_t i = 0; i <= sizeof(buf); i++)
		assert_int_equal(pst_key_slot_decode(buf, i, &back) == PST_OK, i == bytes);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(reads_three_spellings),
		CASE(says_what_is_no_key),
		CASE(chooses_among_a_directorys_keys),
		CASE(reload_follows_the_directory),
		CASE(a_files_key_is_found_in_a_directory),
		CASE(damage_is_refused),
		CASE(slots_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
