/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files between a local directory and an ext4 opened by libext2fs, by extents. The order of writes keeps a volume
 * usable whenever this process or the daemon dies: see stagefs.c. One thread.
 */
#ifndef PST_MOUNT_STAGEFS_H
#define PST_MOUNT_STAGEFS_H

#include "mount/ext4.h"

#include <sys/stat.h>

struct pst_stagefs {
	struct pst_nsio *io;
	ext2_filsys fs;
	bool ro;
	bool dirty; /* something was changed since the last commit */
	char *buf;  /* for data, PST_STAGE_BUF_BYTES */
	char text[200];
};

#define PST_STAGE_BUF_BYTES (1u << 20)

pst_err PST_MUST_USE pst_stagefs_open(struct pst_nsio *io, bool ro, struct pst_stagefs *ret_s);

/* Commits and marks the file system clean, unless @discard. Harmless on a zeroed struct. */
pst_err pst_stagefs_close(struct pst_stagefs *s, bool discard);

/*
 * Everything below the root goes to the existing directory @dir. Every block and inode met is made sure to be marked
 * in use, so that nothing an interrupted writer left can be given out twice. @each is told about each file.
 */
typedef void pst_stagefs_file_fn(void *ctx, const char *path, const struct stat *local);
pst_err PST_MUST_USE pst_stagefs_read_tree(struct pst_stagefs *s, const char *dir, pst_stagefs_file_fn *each,
					   void *ctx);

/* A name on the volume ("a/b/c"): makes the parents, and puts @fd's contents (or a link to @target) there. */
pst_err PST_MUST_USE pst_stagefs_put_file(struct pst_stagefs *s, const char *path, int fd, const struct stat *st);
pst_err PST_MUST_USE pst_stagefs_put_link(struct pst_stagefs *s, const char *path, const char *target);
pst_err PST_MUST_USE pst_stagefs_put_dir(struct pst_stagefs *s, const char *path, unsigned mode);
/* @from becomes @to, replacing it; contents are not touched. */
pst_err PST_MUST_USE pst_stagefs_rename(struct pst_stagefs *s, const char *from, const char *to);
/* With all that is below it; PST_OK if it is not there. */
pst_err PST_MUST_USE pst_stagefs_remove(struct pst_stagefs *s, const char *path);

/* Everything put so far is durable when this returns. */
pst_err PST_MUST_USE pst_stagefs_commit(struct pst_stagefs *s);

#endif
