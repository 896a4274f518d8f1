/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connected namespace as the keeper's threads share it: requests, blocking or not, and a way to give up that frees
 * everyone who waits. Any thread.
 */
#ifndef PST_MOUNT_NSIO_H
#define PST_MOUNT_NSIO_H

#include "mount/mount.h"

#include <pthread.h>

#define PST_NSIO_BLOCK 4096u

struct pst_nsio {
	pst_host *host;
	pst_ns *ns;
	struct pst_ns_info info;
	pthread_rwlock_t gate; /* read: uses ns; write: takes it away */
	bool closed;
	struct pst_attach_shared *shared; /* may be NULL */
	pthread_t ticker;
	atomic_bool ticker_stop;
	bool ticker_runs;
};

/* Connects; then publishes figures to @shared (if not NULL) from a thread of its own. */
pst_err PST_MUST_USE pst_nsio_open(const struct pst_attach_spec *spec, struct pst_attach_shared *shared,
				   struct pst_nsio *ret_io);

/* Submits, or completes with PST_E_CANCELLED on this thread when closed already. */
void pst_nsio_submit(struct pst_nsio *io, struct pst_request *request);

/* For those who submit: remembers in `shared` that the pool was full. */
void pst_nsio_note(struct pst_nsio *io, pst_err err);

/* Blocking; any offset and length (unaligned edges are read, changed and written back; not atomic with others). */
pst_err pst_nsio_read(struct pst_nsio *io, uint64_t offset_bytes, void *buf, uint64_t len_bytes);
pst_err pst_nsio_write(struct pst_nsio *io, uint64_t offset_bytes, const void *buf, uint64_t len_bytes);
pst_err pst_nsio_flush(struct pst_nsio *io);
pst_err pst_nsio_zero(struct pst_nsio *io, uint64_t offset_bytes, uint64_t len_bytes);

/* Current figures, also after closing. */
void pst_nsio_figures(struct pst_nsio *io, struct pst_attach_figures *ret_figures);

/*
 * Disconnects: outstanding requests complete with PST_E_CANCELLED, later ones at once. Any thread, any number of times;
 * the last figures stay. pst_nsio_done frees, once, after all users are gone.
 */
void pst_nsio_close(struct pst_nsio *io);
void pst_nsio_done(struct pst_nsio *io);

#endif
