/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE file system of two files: `volume`, the block image of a namespace, and `stats.json`, what the host library
 * counts. Requests to `volume` go to the namespace without being waited for; up to PST_FUSEFILE_SLOTS are in flight.
 */
#ifndef PST_MOUNT_FUSEFILE_H
#define PST_MOUNT_FUSEFILE_H

#include "mount/nsio.h"

#define PST_FUSEFILE_SLOTS 32u

struct pst_fusefile;

/* Mounts on the directory @dir and serves from a thread of its own. @io must outlive it. */
pst_err PST_MUST_USE pst_fusefile_start(struct pst_nsio *io, const char *volume, const char *dir, bool ro,
					struct pst_fusefile **ret_file);

/* Unmounts, waits for requests in flight and for the thread. NULL is allowed. */
void pst_fusefile_stop(struct pst_fusefile *file);

#endif
