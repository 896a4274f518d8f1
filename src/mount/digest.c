/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: a digest over sorted records "kind name mode length content". Times and owners stay out, so that the same
 * files made again have the same digest. A tree deeper than 64 directories is an error.
 */
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct digest {
	EVP_MD_CTX *md;
	uint64_t files, bytes;
	char *buf;
};

#define BUF_BYTES (1u << 20)

static void record(struct digest *d, const char *kind, const char *name, const struct stat *st, uint64_t len)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "%s %o %ju ", kind, (unsigned)(st->st_mode & 0111), (uintmax_t)len);

	EVP_DigestUpdate(d->md, text, (size_t)n);
	EVP_DigestUpdate(d->md, name, strlen(name) + 1);
}

static pst_err digest_file(struct digest *d, int dir, const char *name, const char *shown, const struct stat *st)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t left = (uint64_t)st->st_size;
	ssize_t n = 1;

	if (fd < 0)
		return PST_E_IO;
	record(d, "file", shown, st, left);
	while (left > 0 && (n = read(fd, d->buf, PST_MIN(left, (uint64_t)BUF_BYTES))) > 0) {
		EVP_DigestUpdate(d->md, d->buf, (size_t)n);
		left -= (uint64_t)n;
		d->bytes += (uint64_t)n;
	}
	close(fd);
	d->files++;
	return n > 0 ? PST_OK : PST_E_IO;
}

static pst_err digest_dir(struct digest *d, int parent, const char *name, const char *shown, unsigned depth);

static pst_err digest_entry(struct digest *d, int dir, const char *name, const char *shown, unsigned depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return PST_E_IO;
	if (S_ISREG(st.st_mode))
		return digest_file(d, dir, name, shown, &st);
	if (S_ISDIR(st.st_mode)) {
		record(d, "dir", shown, &st, 0);
		return digest_dir(d, dir, name, shown, depth + 1);
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(dir, name, d->buf, BUF_BYTES);

		record(d, "link", shown, &st, (uint64_t)PST_MAX(n, (ssize_t)0));
		if (n > 0)
			EVP_DigestUpdate(d->md, d->buf, (size_t)n);
		return n >= 0 ? PST_OK : PST_E_IO;
	}
	record(d, "other", shown, &st, 0);
	return PST_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int wanted(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lost+found") != 0;
}

static pst_err digest_dir(struct digest *d, int parent, const char *name, const char *shown, unsigned depth)
{
	int dir = depth < 64 ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
	struct dirent **list = NULL;
	int count = dir >= 0 ? scandirat(dir, ".", &list, wanted, by_name) : -1;
	pst_err err = count >= 0 ? PST_OK : PST_E_IO;

	for (int i = 0; i < count; i++) {
		char *path = NULL;

		if (err == PST_OK && asprintf(&path, "%s/%s", shown, list[i]->d_name) < 0)
			err = PST_E_NOMEM;
		else if (err == PST_OK)
			err = digest_entry(d, dir, list[i]->d_name, path, depth);
		free(path);
		free(list[i]);
	}
	free(list);
	if (dir >= 0)
		close(dir);
	return err;
}

pst_err pst_tree_digest(const char *path, char ret_hex[65], uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct digest d = { .md = EVP_MD_CTX_new(), .buf = malloc(BUF_BYTES) };
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	pst_err err = PST_E_NOMEM;

	if (d.md != NULL && d.buf != NULL && EVP_DigestInit_ex(d.md, EVP_sha256(), NULL) == 1)
		err = access(path, F_OK) != 0 ? PST_E_NOTFOUND : digest_entry(&d, AT_FDCWD, path, "", 0);
	if (err == PST_OK && EVP_DigestFinal_ex(d.md, hash, &len) != 1)
		err = PST_E_INTERNAL;
	for (unsigned i = 0; err == PST_OK && i < 32; i++)
		snprintf(ret_hex + i * 2, 3, "%02x", hash[i]);
	if (err == PST_OK) {
		*ret_files = d.files;
		*ret_bytes = d.bytes;
	}
	EVP_MD_CTX_free(d.md);
	free(d.buf);
	return err;
}
