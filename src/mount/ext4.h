/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext4 on a namespace without the kernel: libext2fs over an io_manager of ours. Making file systems (for every mount
 * path) and reading and writing files (the staged path, stage.h).
 */
#ifndef PST_MOUNT_EXT4_H
#define PST_MOUNT_EXT4_H

#include "mount/nsio.h"

#include <ext2fs/ext2fs.h>

/* What a volume holds, judged by its first and last MiB. */
enum pst_volume_content { PST_CONTENT_ZEROS, PST_CONTENT_EXT4, PST_CONTENT_XFS, PST_CONTENT_UNKNOWN };

pst_err PST_MUST_USE pst_content_probe(struct pst_nsio *io, enum pst_volume_content *ret_content);

/*
 * Makes an ext4 on a namespace that reads as zeros throughout: inode tables and journal are taken as zeroed already,
 * so that a thin volume stays thin and the daemon is not flooded. The root directory belongs to this user. @text says
 * what went wrong.
 */
pst_err PST_MUST_USE pst_ext4_format(struct pst_nsio *io, char text[200]);

/* Opens; @text as above. A journal that needs replay is refused: only a kernel or e2fsck can do that. */
pst_err PST_MUST_USE pst_ext4_open(struct pst_nsio *io, bool ro, ext2_filsys *ret_fs, char text[200]);

/*
 * Does the superblock say that the file system was left in order: valid, and no journal to replay? Of others than ext4
 * nothing is known, and true is told. Read from the volume, not from any cache.
 */
pst_err PST_MUST_USE pst_ext4_clean(struct pst_nsio *io, bool *ret_clean);

/* "ext2fs said ..." into @text; returns the pst_err that fits. */
pst_err pst_ext4_error(errcode_t code, const char *what, char text[200]);

#endif
