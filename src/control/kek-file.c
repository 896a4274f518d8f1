/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KEKs in files. All are read at the start and at each reload, into secret memory; a file that can't be used is left
 * out and told by status. When the path itself can't be read at a reload, the keys that are known stay: a mount that
 * is away for a moment must not lock anything.
 *
 * Names that begin with a dot are passed over: that is how Kubernetes keeps the versions of a mounted secret.
 */
#include "control/kek.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS_MAX 256u
#define KEY_BYTES 32u
#define FILE_BYTES_MAX 80u /* 64 hexadecimal digits and an end of line; more than that is no key */
#define FINGERPRINT_BYTES 8u
#define WRAP_CIPHER "AES-256-WRAP-PAD"

struct kek_key {
	uint8_t bytes[KEY_BYTES];
	char id[PST_KEK_ID_MAX + 1];          /* name of the file */
	char fingerprint[PST_KEK_ID_MAX + 1]; /* "sha256-" and 16 digits */
};

struct key_set {
	struct kek_key keys[KEYS_MAX];
	uint32_t count;
};

struct kek_file {
	struct pst_kek kek;
	char *path, *wanted; /* wanted: NULL: by name */
	bool directory;
	struct key_set *set; /* in secret memory */
	char problem[300];
	EVP_CIPHER *cipher;
};

static struct kek_file *to_file(struct pst_kek *kek)
{
	return pst_container_of(kek, struct kek_file, kek);
}

/* ---- Reading keys ---- */

static void problem_add(struct kek_file *f, const char *fmt, ...) PST_PRINTF(2, 3);
static void problem_add(struct kek_file *f, const char *fmt, ...)
{
	va_list ap;

	if (f->problem[0] != '\0')
		return; /* one at a time: the first */
	va_start(ap, fmt);
	vsnprintf(f->problem, sizeof(f->problem), fmt, ap);
	va_end(ap);
}

static int digit_value(uint8_t c, bool base64)
{
	if (c >= '0' && c <= '9')
		return base64 ? c - '0' + 52 : c - '0';
	if (base64)
		return c >= 'A' && c <= 'Z'   ? c - 'A'
		       : c >= 'a' && c <= 'z' ? c - 'a' + 26
		       : c == '+'             ? 62
		       : c == '/'             ? 63
					      : -1;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* @len digits of @bits each. */
static bool digits_parse(const uint8_t *text, size_t len, unsigned bits, uint8_t key[KEY_BYTES])
{
	uint32_t word = 0, have = 0;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int value = digit_value(text[i], bits == 6);

		if (value < 0)
			return false;
		word = word << bits | (uint32_t)value;
		have += bits;
		if (have >= 8) {
			have -= 8;
			if (n == KEY_BYTES)
				return false;
			key[n++] = (uint8_t)(word >> have);
		}
	}
	OPENSSL_cleanse(&word, sizeof(word));
	return n == KEY_BYTES;
}

/* @text holds the whole file. */
static bool key_parse(const uint8_t *text, size_t len, uint8_t key[KEY_BYTES])
{
	if (len == KEY_BYTES) {
		memcpy(key, text, KEY_BYTES);
		return true;
	}
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (len == 2u * KEY_BYTES)
		return digits_parse(text, len, 4, key);
	if (len == 44 && text[43] == '=')
		len--;
	return len == 43 && digits_parse(text, len, 6, key);
}

static void fingerprint(struct kek_key *key)
{
	static const char context[] = "penstock kek";
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t digest[EVP_MAX_MD_SIZE];
	bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
		  EVP_DigestUpdate(ctx, context, sizeof(context)) == 1 &&
		  EVP_DigestUpdate(ctx, key->bytes, KEY_BYTES) == 1 && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;

	EVP_MD_CTX_free(ctx);
	snprintf(key->fingerprint, sizeof(key->fingerprint), "sha256-");
	for (unsigned i = 0; ok && i < FINGERPRINT_BYTES; i++)
		snprintf(key->fingerprint + 7 + (size_t)2 * i, 3, "%02x", digest[i]);
}

/* Reads @name in @dir_fd (or the path itself); what is wrong is noted. */
static bool key_load(struct kek_file *f, int dir_fd, const char *name, struct kek_key *key)
{
	uint8_t *text = pst_secret_alloc(f->kek.env, FILE_BYTES_MAX);
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	static const uint8_t zeros[KEY_BYTES];
	struct stat st;
	ssize_t len = -1;
	bool ok = false;

	if (text == NULL)
		problem_add(f, "no memory for keys");
	else if (fd < 0 || fstat(fd, &st) != 0)
		problem_add(f, "%s can't be read: %s", name, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		problem_add(f, "%s is not a file", name);
	else
		len = read(fd, text, FILE_BYTES_MAX); /* not through a stream, whose buffer would keep the key */
	if (len >= 0) {
		ok = key_parse(text, (size_t)len, key->bytes) && memcmp(key->bytes, zeros, KEY_BYTES) != 0;
		if (!ok)
			problem_add(f,
				    "%s holds no key: 32 bytes are needed (as they are, in hexadecimal or in base64), "
				    "not all zeros",
				    name);
		else if ((st.st_mode & S_IROTH) != 0)
			pst_env_log(f->kek.env, PST_LOG_WARN,
				    "kek_readable_by_all file=%s next=\"let only penstockd read it (mode 0400)\"",
				    name);
	}
	if (fd >= 0)
		close(fd);
	pst_secret_free(f->kek.env, text, FILE_BYTES_MAX);
	if (ok)
		fingerprint(key);
	return ok;
}

static void directory_load(struct kek_file *f, DIR *dir, struct key_set *set)
{
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		struct kek_key *key = &set->keys[set->count];

		if (e->d_name[0] == '.')
			continue;
		if (!pst_kek_id_ok(e->d_name)) {
			problem_add(f, "'%.80s' can't be a key's name: at most 64 of A-Z a-z 0-9 . _ -", e->d_name);
			continue;
		}
		if (set->count == KEYS_MAX) {
			problem_add(f, "there are more than %u keys: remove those that no volume needs", KEYS_MAX);
			return;
		}
		if (!key_load(f, dirfd(dir), e->d_name, key))
			continue;
		snprintf(key->id, sizeof(key->id), "%.*s", (int)PST_KEK_ID_MAX, e->d_name);
		set->count++;
	}
	if (set->count == 0)
		problem_add(f, "there is no key in it");
}

static void set_free(struct kek_file *f, struct key_set *set)
{
	pst_secret_free(f->kek.env, set, sizeof(*set));
}

static void load(struct kek_file *f)
{
	struct key_set *set = pst_secret_alloc(f->kek.env, sizeof(*set));
	struct stat st;
	bool keep = false;
	DIR *dir;

	f->problem[0] = '\0';
	if (set == NULL) {
		problem_add(f, "no memory for keys");
		return;
	}
	if (stat(f->path, &st) != 0) {
		problem_add(f, "it can't be read: %s", strerror(errno));
		keep = true;
	} else if (S_ISDIR(st.st_mode)) {
		dir = opendir(f->path);
		f->directory = true;
		if (dir != NULL) {
			directory_load(f, dir, set);
			closedir(dir);
		} else {
			problem_add(f, "it can't be read: %s", strerror(errno));
			keep = true;
		}
	} else {
		f->directory = false;
		if (key_load(f, AT_FDCWD, f->path, &set->keys[0])) {
			memcpy(set->keys[0].id, set->keys[0].fingerprint, sizeof(set->keys[0].id));
			set->count = 1;
		}
	}
	if (keep && f->set != NULL) {
		set_free(f, set);
		return;
	}
	set_free(f, f->set);
	f->set = set;
}

static const struct kek_key *find(const struct kek_file *f, const char *id)
{
	for (uint32_t i = 0; f->set != NULL && i < f->set->count; i++)
		if (strcmp(f->set->keys[i].id, id) == 0)
			return &f->set->keys[i];
	for (uint32_t i = 0; f->set != NULL && i < f->set->count; i++)
		if (strcmp(f->set->keys[i].fingerprint, id) == 0)
			return &f->set->keys[i];
	return NULL;
}

/* NULL: none. */
static const struct kek_key *current(const struct kek_file *f)
{
	const struct kek_key *best = NULL;

	if (f->wanted != NULL)
		return find(f, f->wanted);
	for (uint32_t i = 0; f->set != NULL && i < f->set->count; i++)
		if (best == NULL || strcmp(f->set->keys[i].id, best->id) > 0)
			best = &f->set->keys[i];
	return best;
}

/* ---- Wrapping ---- */

/* RFC 5649, in either direction. */
static bool wrap(const struct kek_file *f, const struct kek_key *key, int encrypt, const uint8_t *in, uint32_t in_bytes,
		 uint8_t *out, uint32_t *ret_bytes)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0, rest = 0;
	bool ok;

	if (ctx == NULL)
		return false;
	EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	ok = EVP_CipherInit_ex2(ctx, f->cipher, key->bytes, NULL, encrypt, NULL) == 1 &&
	     EVP_CipherUpdate(ctx, out, &len, in, (int)in_bytes) == 1 && len > 0 &&
	     EVP_CipherFinal_ex(ctx, out + len, &rest) == 1;
	EVP_CIPHER_CTX_free(ctx);
	*ret_bytes = (uint32_t)(len + rest);
	return ok;
}

static pst_err op_wrap(struct kek_file *f, struct pst_kek_op *op)
{
	const struct kek_key *key = current(f);

	if (key == NULL) {
		snprintf(op->detail, sizeof(op->detail),
			 "there is no key-encryption key%s%s in %.150s: put it there, then `penstock key reload`",
			 f->wanted != NULL ? " " : "", f->wanted != NULL ? f->wanted : "", f->path);
		return PST_E_NOTFOUND;
	}
	pst_assert(op->secret_bytes <= PST_KEK_SECRET_MAX);
	if (!wrap(f, key, 1, op->secret, op->secret_bytes, op->wrapped, &op->wrapped_bytes)) {
		snprintf(op->detail, sizeof(op->detail), "OpenSSL could not wrap a key");
		return PST_E_INTERNAL;
	}
	memcpy(op->id, key->id, sizeof(op->id));
	return PST_OK;
}

static pst_err op_unwrap(struct kek_file *f, struct pst_kek_op *op)
{
	const struct kek_key *key = find(f, op->id);

	if (key == NULL) {
		snprintf(op->detail, sizeof(op->detail),
			 "key-encryption key '%s' is not in %.100s: put it back, then `penstock key reload`", op->id,
			 f->path);
		return PST_E_NOTFOUND;
	}
	if (op->wrapped_bytes < 16 || op->wrapped_bytes > PST_KEK_SECRET_MAX || op->wrapped_bytes % 8 != 0 ||
	    !wrap(f, key, 0, op->wrapped, op->wrapped_bytes, op->secret, &op->secret_bytes)) {
		OPENSSL_cleanse(op->secret, PST_KEK_SECRET_MAX);
		snprintf(
		    op->detail, sizeof(op->detail),
		    "key-encryption key '%s' in %.80s is another one than the volume's key was wrapped with: put the "
		    "right one back, then `penstock key reload`",
		    op->id, f->path);
		return PST_E_KEY;
	}
	return PST_OK;
}

static void op_reload(struct kek_file *f)
{
	struct pst_kek_status status;

	load(f);
	f->kek.ops->status(&f->kek, &status);
	pst_env_log(f->kek.env, f->problem[0] != '\0' ? PST_LOG_WARN : PST_LOG_INFO,
		    "kek_loaded source=%s keys=%u current=%s problem=\"%s\"", status.source, status.keys,
		    status.current[0] != '\0' ? status.current : "none", status.problem);
}

static void op_done(struct pst_post *post)
{
	struct pst_kek_op *op = pst_container_of(post, struct pst_kek_op, post);

	op->done(op);
}

static void kek_file_submit(struct pst_kek *kek, struct pst_kek_op *op)
{
	struct kek_file *f = to_file(kek);

	op->detail[0] = '\0';
	op->err = PST_OK;
	if (op->kind == PST_KEK_WRAP)
		op->err = op_wrap(f, op);
	else if (op->kind == PST_KEK_UNWRAP)
		op->err = op_unwrap(f, op);
	else
		op_reload(f);
	op->post.fn = op_done;
	pst_env_post(kek->env, &op->post);
}

static void kek_file_status(struct pst_kek *kek, struct pst_kek_status *ret_status)
{
	const struct kek_file *f = to_file(kek);
	const struct kek_key *key = current(f);

	*ret_status = (struct pst_kek_status){ .keys = f->set != NULL ? f->set->count : 0 };
	snprintf(ret_status->source, sizeof(ret_status->source), "%s:%.180s", f->directory ? "directory" : "file",
		 f->path);
	if (key != NULL)
		memcpy(ret_status->current, key->id, sizeof(ret_status->current));
	memcpy(ret_status->problem, f->problem, sizeof(f->problem));
	if (key == NULL && f->wanted != NULL && f->problem[0] == '\0')
		snprintf(ret_status->problem, sizeof(ret_status->problem), "there is no key '%.64s' in it", f->wanted);
}

static void kek_file_free(struct pst_kek *kek)
{
	struct kek_file *f = to_file(kek);

	set_free(f, f->set);
	EVP_CIPHER_free(f->cipher);
	free(f->path);
	free(f->wanted);
	free(f);
}

static const struct pst_kek_ops kek_file_ops = { kek_file_submit, kek_file_status, kek_file_free };

pst_err pst_kek_file_new(struct pst_env *env, const char *path, const char *wanted, struct pst_kek **ret_kek)
{
	struct kek_file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return PST_E_NOMEM;
	f->kek.ops = &kek_file_ops;
	f->kek.env = env;
	f->path = strdup(path);
	f->wanted = wanted != NULL ? strdup(wanted) : NULL;
	f->cipher = EVP_CIPHER_fetch(NULL, WRAP_CIPHER, NULL);
	if (f->path == NULL || (wanted != NULL && f->wanted == NULL) || f->cipher == NULL) {
		pst_err err = f->cipher == NULL ? PST_E_UNSUPPORTED : PST_E_NOMEM;

		kek_file_free(&f->kek);
		return err;
	}
	op_reload(f);
	*ret_kek = &f->kek;
	return PST_OK;
}
