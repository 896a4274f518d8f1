/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker: a second, independent reader of the format (docs/store-format.md). It shares no code with recovery and
 * the map, only the structs, their checksums and the walk over a log block's records. It reads a pool as it lies on the
 * disk, after a crash too: the log is replayed in memory.
 *
 * What is verified: superblocks, roots, space map and its digest; the log's chain; every node (checksum, place, counts)
 * and every pointer; the catalog; that blocks are used once, and that the space map names exactly what is reached; with
 * `data` the checksum of every data block. What a crash may leave (an older copy, a torn record that nothing proves, a
 * snapshot that not all partitions have) is no finding.
 *
 * Synchronous; any thread, one check at a time for a pool. Memory: see docs/check.md.
 */
#ifndef PST_STORE_CHECK_H
#define PST_STORE_CHECK_H

#include "volume/pool.h"

/* The pool's devices, one block of PST_BLOCK_BYTES after the other. Device 0 is the one that it was made on. */
struct pst_check_io {
	void *ctx;
	uint32_t devices;
	uint64_t blocks; /* of device 0 */
	pst_err (*read)(void *ctx, uint32_t device, uint64_t block, void *buf);
	pst_err (*write)(void *ctx, uint32_t device, uint64_t block, const void *buf); /* repair only, else NULL */
	pst_err (*flush)(void *ctx);                                                   /* all devices; as write */
	bool live;           /* the pool is open: what its roots reach is looked at, not its log */
	const char *boot_id; /* of this machine now, to tell a crash of the process from one of the machine; or NULL */
};

/*
 * PST_OK: the check came to its end; check->findings says what it found. Else it could not be made, and @detail (200
 * bytes) says why: PST_E_FORMAT (no pool, or of a newer program), PST_E_NOTFOUND (a device is missing), PST_E_NOMEM,
 * PST_E_NOSPACE (no room to repair), PST_E_IO (repair could not write).
 */
pst_err PST_MUST_USE pst_check_pool(const struct pst_check_io *io, struct pst_check *check, char detail[200]);

#endif
