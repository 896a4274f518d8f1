/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: no journal is written, order does its work. Putting a file is
 *   1. a new inode with its blocks, filled with the data;
 *   2. bitmaps, then a flush: what step 3 will refer to is marked and durable;
 *   3. one directory block, in which the name changes from the old inode (or nothing) to the new one; then a flush;
 *   4. the old inode's blocks are free again, in memory; the next step 2 writes that.
 * A death between any two leaves the old file or the new one, whole, and at worst blocks that are marked and not used
 * (e2fsck finds them). The reverse, used and not marked, would let blocks be given out twice: a directory that grows in
 * step 3 could leave that, so reading the tree at the next start marks all that it meets.
 */
#include "mount/stagefs.h"

#include <errno.h>
#include <ext2fs/ext3_extents.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pst_err failed(struct pst_stagefs *s, errcode_t e, const char *path)
{
	return pst_ext4_error(e, path, s->text);
}

static pst_err local_failed(struct pst_stagefs *s, const char *path)
{
	int why = errno;

	snprintf(s->text, sizeof(s->text), "%.120s: %s", path, strerror(why));
	return why == ENOSPC ? PST_E_NOSPACE : PST_E_IO;
}

pst_err pst_stagefs_open(struct pst_nsio *io, bool ro, struct pst_stagefs *ret_s)
{
	*ret_s = (struct pst_stagefs){ .io = io, .ro = ro, .buf = malloc(PST_STAGE_BUF_BYTES) };
	if (ret_s->buf == NULL)
		return PST_E_NOMEM;
	pst_err err = pst_ext4_open(io, ro, &ret_s->fs, ret_s->text);
	if (err != PST_OK) {
		ret_s->fs = NULL;
		return err;
	}
	if (!ro) {
		/* Backups of superblock and descriptors are written at the end of e2fsck and resize, not here. */
		ret_s->fs->flags |= EXT2_FLAG_MASTER_SB_ONLY;
		ret_s->fs->super->s_state &= (uint16_t)~EXT2_VALID_FS;
		ext2fs_mark_super_dirty(ret_s->fs);
	}
	return PST_OK;
}

pst_err pst_stagefs_commit(struct pst_stagefs *s)
{
	errcode_t e;

	if (!s->dirty)
		return PST_OK;
	if ((e = ext2fs_flush(s->fs)) != 0 || pst_nsio_flush(s->io) != PST_OK)
		return failed(s, e != 0 ? e : EXT2_ET_SHORT_WRITE, "writing to the volume");
	s->dirty = false;
	return PST_OK;
}

pst_err pst_stagefs_close(struct pst_stagefs *s, bool discard)
{
	pst_err err = PST_OK;

	if (s->fs != NULL && !s->ro && !discard) {
		s->fs->super->s_state |= EXT2_VALID_FS;
		ext2fs_mark_super_dirty(s->fs);
		s->dirty = true;
		err = pst_stagefs_commit(s);
	}
	if (s->fs != NULL)
		ext2fs_free(s->fs);
	free(s->buf);
	s->fs = NULL;
	s->buf = NULL;
	return err;
}

/* ---- volume to directory ---- */

struct name {
	char *name;
	ext2_ino_t ino;
};

struct names {
	struct name *list;
	size_t count;
	bool failed;
};

static int collect(ext2_ino_t dir, int entry, struct ext2_dir_entry *d, int offset, int blocksize, char *buf, void *arg)
{
	struct names *names = arg;
	int len = ext2fs_dirent_name_len(d);

	(void)dir, (void)offset, (void)blocksize, (void)buf;
	if (entry < DIRENT_OTHER_FILE || d->inode == 0)
		return 0;
	struct name *bigger = realloc(names->list, (names->count + 1) * sizeof(*bigger));
	if (bigger == NULL || memchr(d->name, '/', (size_t)len) != NULL) {
		names->failed = true;
		return DIRENT_ABORT;
	}
	names->list = bigger;
	names->list[names->count++] = (struct name){ strndup(d->name, (size_t)len), d->inode };
	return 0;
}

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->list[i].name);
	free(names->list);
}

static errcode_t list(struct pst_stagefs *s, ext2_ino_t dir, struct names *names)
{
	errcode_t e = ext2fs_dir_iterate2(s->fs, dir, 0, NULL, collect, names);

	return e != 0 ? e : names->failed ? EXT2_ET_DIR_CORRUPTED : 0;
}

static int mark_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t count, blk64_t ref, int offset, void *arg)
{
	struct pst_stagefs *s = arg;

	(void)count, (void)ref, (void)offset;
	if (*block < ext2fs_blocks_count(fs->super) && !ext2fs_test_block_bitmap2(fs->block_map, *block)) {
		ext2fs_block_alloc_stats2(fs, *block, +1);
		s->dirty = true;
	}
	return 0;
}

/* "Used" must imply "marked" before this process gives out anything. */
static errcode_t mark_used(struct pst_stagefs *s, ext2_ino_t ino, struct ext2_inode *inode)
{
	if (s->ro)
		return 0;
	if (!ext2fs_test_inode_bitmap2(s->fs->inode_map, ino)) {
		ext2fs_inode_alloc_stats2(s->fs, ino, +1, LINUX_S_ISDIR(inode->i_mode));
		s->dirty = true;
	}
	if (!ext2fs_inode_has_valid_blocks2(s->fs, inode))
		return 0;
	return ext2fs_block_iterate3(s->fs, ino, BLOCK_FLAG_READ_ONLY, NULL, mark_block, s);
}

/* One extent's part inside the file's size, in pieces of the buffer. */
static pst_err read_extent(struct pst_stagefs *s, int fd, const char *path, const struct ext2fs_extent *x,
			   uint64_t size)
{
	uint64_t block_bytes = s->fs->blocksize, at = x->e_lblk * block_bytes;
	uint64_t left = x->e_len * block_bytes, from = x->e_pblk * block_bytes;

	while (left > 0 && at < size) {
		uint64_t n = PST_MIN(left, (uint64_t)PST_STAGE_BUF_BYTES), want = PST_MIN(n, size - at);

		if (pst_nsio_read(s->io, from, s->buf, n) != PST_OK)
			return failed(s, EXT2_ET_SHORT_READ, path);
		if (pwrite(fd, s->buf, want, (off_t)at) != (ssize_t)want)
			return local_failed(s, path);
		at += n;
		from += n;
		left -= n;
	}
	return PST_OK;
}

static pst_err read_extents(struct pst_stagefs *s, ext2_ino_t ino, struct ext2_inode *inode, int fd, const char *path)
{
	ext2_extent_handle_t handle;
	struct ext2fs_extent x;
	pst_err err = PST_OK;
	errcode_t e = ext2fs_extent_open2(s->fs, ino, inode, &handle);

	if (e != 0)
		return failed(s, e, path);
	for (int op = EXT2_EXTENT_ROOT; err == PST_OK && (e = ext2fs_extent_get(handle, op, &x)) == 0;
	     op = EXT2_EXTENT_NEXT)
		if ((x.e_flags & EXT2_EXTENT_FLAGS_LEAF) &&
		    !(x.e_flags & (EXT2_EXTENT_FLAGS_SECOND_VISIT | EXT2_EXTENT_FLAGS_UNINIT)))
			err = read_extent(s, fd, path, &x, EXT2_I_SIZE(inode));
	ext2fs_extent_free(handle);
	if (err == PST_OK && e != EXT2_ET_EXTENT_NO_NEXT && e != EXT2_ET_NO_CURRENT_NODE)
		err = failed(s, e, path);
	return err;
}

/* Files without extents (made elsewhere): libext2fs's own reader, block by block. */
static pst_err read_blocks(struct pst_stagefs *s, ext2_ino_t ino, int fd, const char *path)
{
	ext2_file_t file;
	unsigned got = 1;
	errcode_t e = ext2fs_file_open(s->fs, ino, 0, &file);

	if (e != 0)
		return failed(s, e, path);
	while ((e = ext2fs_file_read(file, s->buf, PST_STAGE_BUF_BYTES, &got)) == 0 && got > 0)
		if (write(fd, s->buf, got) != (ssize_t)got) {
			ext2fs_file_close(file);
			return local_failed(s, path);
		}
	ext2fs_file_close(file);
	return e == 0 ? PST_OK : failed(s, e, path);
}

static pst_err read_file(struct pst_stagefs *s, ext2_ino_t ino, struct ext2_inode *inode, const char *local)
{
	int fd = open(local, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	pst_err err = PST_OK;

	if (fd < 0)
		return local_failed(s, local);
	if (ftruncate(fd, (off_t)EXT2_I_SIZE(inode)) != 0)
		err = local_failed(s, local);
	else if (inode->i_flags & EXT4_EXTENTS_FL)
		err = read_extents(s, ino, inode, fd, local);
	else if (EXT2_I_SIZE(inode) > 0)
		err = read_blocks(s, ino, fd, local);
	if (err == PST_OK) {
		struct timespec times[2] = { { .tv_sec = inode->i_atime }, { .tv_sec = inode->i_mtime } };

		(void)fchmod(fd, inode->i_mode & 07777);
		(void)futimens(fd, times);
	}
	close(fd);
	return err;
}

static pst_err read_symlink(struct pst_stagefs *s, ext2_ino_t ino, struct ext2_inode *inode, const char *local)
{
	char target[4097] = "";
	uint64_t size = EXT2_I_SIZE(inode);

	if (size >= sizeof(target))
		return failed(s, EXT2_ET_DIR_CORRUPTED, local);
	if (ext2fs_is_fast_symlink(inode)) {
		memcpy(target, inode->i_block, PST_MIN(size, sizeof(inode->i_block)));
	} else {
		ext2_file_t file;
		unsigned got = 0;
		errcode_t e = ext2fs_file_open(s->fs, ino, 0, &file);

		if (e == 0) {
			e = ext2fs_file_read(file, target, (unsigned)size, &got);
			ext2fs_file_close(file);
		}
		if (e != 0 || got != size)
			return failed(s, e != 0 ? e : EXT2_ET_SHORT_READ, local);
	}
	return symlink(target, local) == 0 ? PST_OK : local_failed(s, local);
}

struct tree {
	struct pst_stagefs *s;
	pst_stagefs_file_fn *each;
	void *ctx;
	size_t root_len;
};

static pst_err read_dir(struct tree *t, ext2_ino_t dir, const char *local, unsigned depth);

static pst_err read_entry(struct tree *t, ext2_ino_t ino, const char *local, unsigned depth)
{
	struct pst_stagefs *s = t->s;
	struct ext2_inode inode;
	struct stat st;
	pst_err err = PST_OK;
	errcode_t e = ext2fs_read_inode(s->fs, ino, &inode);

	if (e == 0)
		e = mark_used(s, ino, &inode);
	if (e != 0)
		return failed(s, e, local);
	if (LINUX_S_ISDIR(inode.i_mode)) {
		if (mkdir(local, 0700) != 0 && errno != EEXIST)
			return local_failed(s, local);
		err = read_dir(t, ino, local, depth + 1);
		(void)chmod(local, (inode.i_mode & 07777) | 0700);
	} else if (LINUX_S_ISREG(inode.i_mode)) {
		err = read_file(s, ino, &inode, local);
	} else if (LINUX_S_ISLNK(inode.i_mode)) {
		err = read_symlink(s, ino, &inode, local);
	} else {
		return PST_OK; /* devices and sockets have no business in a pipeline's volume */
	}
	if (err == PST_OK && lstat(local, &st) == 0)
		t->each(t->ctx, local + t->root_len, &st);
	return err;
}

static pst_err read_dir(struct tree *t, ext2_ino_t dir, const char *local, unsigned depth)
{
	struct names names = { 0 };
	pst_err err = PST_OK;
	errcode_t e = depth < 64 ? list(t->s, dir, &names) : EXT2_ET_DIR_CORRUPTED;

	if (e != 0)
		err = failed(t->s, e, local);
	for (size_t i = 0; i < names.count && err == PST_OK; i++) {
		char *path = NULL;

		if (dir == EXT2_ROOT_INO && strcmp(names.list[i].name, "lost+found") == 0)
			continue;
		if (asprintf(&path, "%s/%s", local, names.list[i].name) < 0)
			err = PST_E_NOMEM;
		else
			err = read_entry(t, names.list[i].ino, path, depth);
		free(path);
	}
	names_done(&names);
	return err;
}

pst_err pst_stagefs_read_tree(struct pst_stagefs *s, const char *dir, pst_stagefs_file_fn *each, void *ctx)
{
	struct tree t = { s, each, ctx, strlen(dir) + 1 };
	struct ext2_inode root;
	errcode_t e = ext2fs_read_inode(s->fs, EXT2_ROOT_INO, &root);

	if (e == 0)
		e = mark_used(s, EXT2_ROOT_INO, &root);
	return e != 0 ? failed(s, e, dir) : read_dir(&t, EXT2_ROOT_INO, dir, 0);
}

/* ---- directory to volume ---- */

/* The inode of the directory that holds @path's last name, made where missing; *ret_name points into @path. */
static errcode_t parent_of(struct pst_stagefs *s, const char *path, bool make, ext2_ino_t *ret_dir,
			   const char **ret_name)
{
	ext2_ino_t dir = EXT2_ROOT_INO;
	const char *slash;

	for (; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
		char *name = strndup(path, (size_t)(slash - path));
		ext2_ino_t next = 0;
		errcode_t e = ext2fs_lookup(s->fs, dir, name, (int)strlen(name), NULL, &next);

		if (e == EXT2_ET_FILE_NOT_FOUND && make) {
			e = ext2fs_mkdir(s->fs, dir, 0, name);
			if (e == EXT2_ET_DIR_NO_SPACE && (e = ext2fs_expand_dir(s->fs, dir)) == 0)
				e = ext2fs_mkdir(s->fs, dir, 0, name);
			s->dirty = true;
			if (e == 0)
				e = ext2fs_lookup(s->fs, dir, name, (int)strlen(name), NULL, &next);
		}
		free(name);
		if (e != 0)
			return e;
		dir = next;
	}
	*ret_dir = dir;
	*ret_name = path;
	return 0;
}

static errcode_t free_inode(struct pst_stagefs *s, ext2_ino_t ino)
{
	struct ext2_inode inode;
	errcode_t e = ext2fs_read_inode(s->fs, ino, &inode);
	bool is_dir = e == 0 && LINUX_S_ISDIR(inode.i_mode);

	if (e != 0)
		return e;
	s->dirty = true;
	if (!is_dir && inode.i_links_count > 1) {
		inode.i_links_count--;
		return ext2fs_write_inode(s->fs, ino, &inode);
	}
	if (ext2fs_inode_has_valid_blocks2(s->fs, &inode))
		e = ext2fs_punch(s->fs, ino, &inode, NULL, 0, ~0ULL);
	inode.i_links_count = 0;
	inode.i_dtime = inode.i_mtime != 0 ? inode.i_mtime : 1;
	if (e == 0)
		e = ext2fs_write_inode(s->fs, ino, &inode);
	ext2fs_inode_alloc_stats2(s->fs, ino, -1, is_dir);
	return e;
}

struct retarget {
	const char *name;
	size_t len;
	ext2_ino_t ino;
	int type;
	bool done;
};

static int retarget_entry(ext2_ino_t dir, int entry, struct ext2_dir_entry *d, int offset, int blocksize, char *buf,
			  void *arg)
{
	struct retarget *r = arg;

	(void)dir, (void)entry, (void)offset, (void)blocksize, (void)buf;
	if (d->inode == 0 || (size_t)ext2fs_dirent_name_len(d) != r->len || memcmp(d->name, r->name, r->len) != 0)
		return 0;
	d->inode = r->ino;
	ext2fs_dirent_set_file_type(d, r->type);
	r->done = true;
	return DIRENT_CHANGED | DIRENT_ABORT;
}

/* Step 2 to 4 of the model: the name becomes @ino. */
static errcode_t publish(struct pst_stagefs *s, ext2_ino_t dir, const char *name, ext2_ino_t ino, int type)
{
	struct retarget r = { name, strlen(name), ino, type, false };
	ext2_ino_t old = 0;
	errcode_t e;

	s->dirty = true;
	if (pst_stagefs_commit(s) != PST_OK)
		return EXT2_ET_SHORT_WRITE;
	if (ext2fs_lookup(s->fs, dir, name, (int)r.len, NULL, &old) == 0 && old != ino) {
		if ((e = ext2fs_dir_iterate2(s->fs, dir, 0, NULL, retarget_entry, &r)) != 0)
			return e;
		s->dirty = true;
		if (pst_stagefs_commit(s) != PST_OK)
			return EXT2_ET_SHORT_WRITE;
		return free_inode(s, old);
	}
	if (old == ino)
		return 0;
	e = ext2fs_link(s->fs, dir, name, ino, type);
	if (e == EXT2_ET_DIR_NO_SPACE && (e = ext2fs_expand_dir(s->fs, dir)) == 0)
		e = ext2fs_link(s->fs, dir, name, ino, type);
	s->dirty = true;
	return e;
}

static void init_inode(ext2_filsys fs, struct ext2_inode *inode, const struct stat *st)
{
	memset(inode, 0, sizeof(*inode));
	inode->i_mode = (uint16_t)(LINUX_S_IFREG | (st->st_mode & 07777));
	inode->i_links_count = 1;
	inode->i_uid = (uint16_t)st->st_uid;
	ext2fs_set_i_uid_high(*inode, st->st_uid >> 16);
	inode->i_gid = (uint16_t)st->st_gid;
	ext2fs_set_i_gid_high(*inode, st->st_gid >> 16);
	inode->i_atime = inode->i_ctime = inode->i_mtime = (uint32_t)st->st_mtime;
	inode->i_flags = EXT4_EXTENTS_FL;
	(void)ext2fs_inode_size_set(fs, inode, st->st_size);
	*(struct ext3_extent_header *)(void *)inode->i_block = (struct ext3_extent_header){
		.eh_magic = ext2fs_cpu_to_le16(EXT3_EXT_MAGIC),
		.eh_max = ext2fs_cpu_to_le16((sizeof(inode->i_block) - sizeof(struct ext3_extent_header)) /
					     sizeof(struct ext3_extent)),
	};
}

static pst_err write_extent(struct pst_stagefs *s, int fd, const char *path, const struct ext2fs_extent *x)
{
	uint64_t block_bytes = s->fs->blocksize, from = x->e_lblk * block_bytes;
	uint64_t left = x->e_len * block_bytes, at = x->e_pblk * block_bytes;

	while (left > 0) {
		uint64_t n = PST_MIN(left, (uint64_t)PST_STAGE_BUF_BYTES);
		ssize_t got = pread(fd, s->buf, n, (off_t)from);

		if (got < 0)
			return local_failed(s, path);
		memset(s->buf + got, 0,
		       n - (uint64_t)got); /* the end of the last block; or the file has shrunk meanwhile */
		pst_err err = pst_nsio_write(s->io, at, s->buf, n);
		if (err != PST_OK)
			return failed(s, err == PST_E_NOSPACE ? ENOSPC : EXT2_ET_SHORT_WRITE, path);
		at += n;
		from += n;
		left -= n;
	}
	return PST_OK;
}

/* Step 1 of the model. */
static pst_err write_data(struct pst_stagefs *s, ext2_ino_t ino, struct ext2_inode *inode, int fd, const char *path)
{
	uint64_t blocks = pst_div_round_up(EXT2_I_SIZE(inode), s->fs->blocksize);
	ext2_extent_handle_t handle;
	struct ext2fs_extent x;
	pst_err err = PST_OK;
	errcode_t e = 0;

	if (blocks > 0)
		e = ext2fs_fallocate(s->fs, EXT2_FALLOCATE_FORCE_INIT | EXT2_FALLOCATE_INIT_BEYOND_EOF, ino, inode,
				     ~(blk64_t)0, 0, blocks);
	if (e != 0 || blocks == 0)
		return e != 0 ? failed(s, e, path) : PST_OK;
	if ((e = ext2fs_extent_open2(s->fs, ino, inode, &handle)) != 0)
		return failed(s, e, path);
	for (int op = EXT2_EXTENT_ROOT; err == PST_OK && (e = ext2fs_extent_get(handle, op, &x)) == 0;
	     op = EXT2_EXTENT_NEXT)
		if ((x.e_flags & EXT2_EXTENT_FLAGS_LEAF) && !(x.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT))
			err = write_extent(s, fd, path, &x);
	ext2fs_extent_free(handle);
	if (err == PST_OK && e != EXT2_ET_EXTENT_NO_NEXT)
		err = failed(s, e, path);
	return err;
}

pst_err pst_stagefs_put_file(struct pst_stagefs *s, const char *path, int fd, const struct stat *st)
{
	struct ext2_inode inode;
	ext2_ino_t dir = 0, ino = 0;
	const char *name = NULL;
	uint64_t blocks = pst_div_round_up((uint64_t)st->st_size, s->fs->blocksize);
	errcode_t e;

	/* Asked before, not found out half way: a failed ext2fs_fallocate leaves an inode that can't be freed again. */
	if (blocks + blocks / 256 + 16 > ext2fs_free_blocks_count(s->fs->super))
		return failed(s, EXT2_ET_BLOCK_ALLOC_FAIL, path);
	if ((e = parent_of(s, path, true, &dir, &name)) != 0 ||
	    (e = ext2fs_new_inode(s->fs, dir, LINUX_S_IFREG, NULL, &ino)) != 0)
		return failed(s, e, path);
	s->dirty = true;
	ext2fs_inode_alloc_stats2(s->fs, ino, +1, 0);
	init_inode(s->fs, &inode, st);
	pst_err err = (e = ext2fs_write_new_inode(s->fs, ino, &inode)) != 0 ? failed(s, e, path)
									    : write_data(s, ino, &inode, fd, path);
	if (err == PST_OK && (e = publish(s, dir, name, ino, EXT2_FT_REG_FILE)) != 0)
		err = failed(s, e, path);
	else if (err != PST_OK)
		(void)free_inode(s, ino); /* a full volume stays as it was */
	return err;
}

pst_err pst_stagefs_put_link(struct pst_stagefs *s, const char *path, const char *target)
{
	ext2_ino_t dir = 0;
	const char *name = NULL;
	errcode_t e;

	pst_err err = pst_stagefs_remove(s, path);
	if (err != PST_OK)
		return err;
	if ((e = parent_of(s, path, true, &dir, &name)) == 0) {
		e = ext2fs_symlink(s->fs, dir, 0, name, target);
		if (e == EXT2_ET_DIR_NO_SPACE && (e = ext2fs_expand_dir(s->fs, dir)) == 0)
			e = ext2fs_symlink(s->fs, dir, 0, name, target);
	}
	s->dirty = true;
	return e == 0 ? PST_OK : failed(s, e, path);
}

pst_err pst_stagefs_put_dir(struct pst_stagefs *s, const char *path, unsigned mode)
{
	ext2_ino_t dir = 0, ino = 0;
	struct ext2_inode inode;
	const char *name = NULL;
	char *below = NULL;
	errcode_t e;

	/* The parents of a name inside it are it, and what is above. */
	if (asprintf(&below, "%s/.", path) < 0)
		return PST_E_NOMEM;
	e = parent_of(s, below, true, &dir, &name);
	ino = dir;
	free(below);
	if (e == 0 && (e = ext2fs_read_inode(s->fs, ino, &inode)) == 0 && (inode.i_mode & 07777) != (mode & 07777)) {
		inode.i_mode = (uint16_t)(LINUX_S_IFDIR | (mode & 07777));
		e = ext2fs_write_inode(s->fs, ino, &inode);
		s->dirty = true;
	}
	return e == 0 ? PST_OK : failed(s, e, path);
}

pst_err pst_stagefs_rename(struct pst_stagefs *s, const char *from, const char *to)
{
	ext2_ino_t from_dir = 0, to_dir = 0, ino = 0;
	const char *from_name = NULL, *to_name = NULL;
	errcode_t e;

	if ((e = parent_of(s, from, false, &from_dir, &from_name)) != 0 ||
	    (e = ext2fs_lookup(s->fs, from_dir, from_name, (int)strlen(from_name), NULL, &ino)) != 0 ||
	    (e = parent_of(s, to, true, &to_dir, &to_name)) != 0 ||
	    (e = publish(s, to_dir, to_name, ino, EXT2_FT_REG_FILE)) != 0)
		return failed(s, e, from);
	pst_err err = pst_stagefs_commit(s);
	if (err == PST_OK && (e = ext2fs_unlink(s->fs, from_dir, from_name, ino, 0)) != 0)
		err = failed(s, e, from);
	s->dirty = true;
	return err;
}

static errcode_t remove_below(struct pst_stagefs *s, ext2_ino_t dir, const char *name, unsigned depth)
{
	struct names names = { 0 };
	struct ext2_inode inode;
	ext2_ino_t ino = 0;
	errcode_t e = ext2fs_lookup(s->fs, dir, name, (int)strlen(name), NULL, &ino);

	if (e != 0 || (e = ext2fs_read_inode(s->fs, ino, &inode)) != 0)
		return e;
	if (LINUX_S_ISDIR(inode.i_mode)) {
		e = depth < 64 ? list(s, ino, &names) : EXT2_ET_DIR_CORRUPTED;
		for (size_t i = 0; i < names.count && e == 0; i++)
			e = remove_below(s, ino, names.list[i].name, depth + 1);
		names_done(&names);
	}
	if (e == 0)
		e = ext2fs_unlink(s->fs, dir, name, ino, 0);
	s->dirty = true;
	if (e == 0 && pst_stagefs_commit(s) != PST_OK)
		e = EXT2_ET_SHORT_WRITE;
	if (e == 0 && LINUX_S_ISDIR(inode.i_mode)) {
		struct ext2_inode parent;

		if ((e = ext2fs_read_inode(s->fs, dir, &parent)) == 0) {
			parent.i_links_count--;
			e = ext2fs_write_inode(s->fs, dir, &parent);
		}
	}
	return e == 0 ? free_inode(s, ino) : e;
}

pst_err pst_stagefs_remove(struct pst_stagefs *s, const char *path)
{
	ext2_ino_t dir = 0;
	const char *name = NULL;
	errcode_t e = parent_of(s, path, false, &dir, &name);

	if (e == 0)
		e = remove_below(s, dir, name, 0);
	return e == 0 || e == EXT2_ET_FILE_NOT_FOUND ? PST_OK : failed(s, e, path);
}
