/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the keeper: what a path (FUSE and loop, FUSE and fuse2fs, staged, kernel) does for it. A path is a table of
 * calls, made on the keeper's main thread, one after the other.
 */
#ifndef PST_MOUNT_KEEPER_H
#define PST_MOUNT_KEEPER_H

#include "mount/ext4.h"

struct pst_keeper;

struct pst_keeper_ops {
	/* Bring the files to spec->dir. On failure say why with pst_keeper_fail; stop is called afterwards all the
	 * same. */
	pst_err (*start)(struct pst_keeper *k);
	/* Make the file or directory @path (below spec->dir) durable on the volume. */
	pst_err (*persist)(struct pst_keeper *k, const char *path);
	/* Everything durable, in an orderly end; not called when the keeper gives up. */
	pst_err (*finish)(struct pst_keeper *k);
	/* Take down whatever start has set up so far. */
	void (*stop)(struct pst_keeper *k);
	/* Something to poll for beside messages (-1: nothing), and what to do when it is readable. */
	int (*poll_fd)(struct pst_keeper *k);
	void (*poll)(struct pst_keeper *k);
};

struct pst_keeper {
	const struct pst_attach_spec *spec;
	const struct pst_keeper_ops *ops;
	struct pst_nsio io;
	void *state; /* the path's own */
	bool formatted;
	bool torn; /* it could only be unmounted lazily */
	double format_s;
	atomic_bool giving_up; /* SIGTERM: do not wait for the daemon */
	char text[240];        /* why the last call failed */
	char hint[160];
};

extern const struct pst_keeper_ops pst_keeper_fuse_loop, pst_keeper_fuse2fs, pst_keeper_staged, pst_keeper_kernel;

/* Sets text and hint (NULL: none); returns @err. */
pst_err pst_keeper_fail(struct pst_keeper *k, pst_err err, const char *hint, const char *fmt, ...) PST_PRINTF(4, 5);

/*
 * Formats a blank volume with ext4, checks what a used one holds: *ret_fs is "ext4" or "xfs" (then *ret_make says
 * whether mkfs.xfs must run once a block device is there). Never formats what it does not know.
 */
pst_err PST_MUST_USE pst_keeper_filesystem(struct pst_keeper *k, const char **ret_fs, bool *ret_make);

/* persist and finish of a path with a real mount: fsync of the file, syncfs of it all. */
pst_err pst_keeper_mounted_persist(struct pst_keeper *k, const char *path);
pst_err pst_keeper_mounted_finish(struct pst_keeper *k);

double pst_keeper_seconds(void); /* monotonic */

#endif
