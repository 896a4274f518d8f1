/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: one thread reads FUSE requests into slots. A slot is FREE, READING (the thread fills and decodes it), or BUSY
 * (its buffer and request belong to the namespace; its callback, on the library's thread, answers the kernel and frees
 * it). Data is not copied: a write goes out from the buffer it was read into, a read comes into the slot's buffer and
 * goes to the kernel from there.
 *
 * Requests that are not multiples of 4096 (fuse2fs's superblock) are handled by the reading thread alone, after every
 * slot in flight has come home, so that their read-change-write meets no other write.
 *
 * Failure: a namespace that is closed answers at once with PST_E_CANCELLED, which the kernel sees as EIO.
 */
#define FUSE_USE_VERSION 314

#include "mount/fusefile.h"
#include "mount/localmount.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { INO_ROOT = 1, INO_VOLUME = 2, INO_STATS = 3 };

#define MEM_BYTES                                                                                           \
	((1u << 20) + 65536u) /* a FUSE request: 1 MiB of data and its header; larger than libfuse asks for \
			       */
#define TRANSFER_MAX (1u << 20)

struct slot {
	struct pst_request request;
	struct iovec iov;
	struct pst_fusefile *file;
	fuse_req_t req;
	struct fuse_buf buf;
	char *mem;
	size_t answer_bytes; /* BUSY: of a write: what to report */
	struct slot *next_free;
};

struct pst_fusefile {
	struct pst_nsio *io;
	struct fuse_session *session;
	char *volume, *dir;
	bool ro;
	pthread_t thread;
	pthread_mutex_t lock; /* free list */
	pthread_cond_t freed;
	struct slot *free;
	unsigned free_count;
	struct slot *current; /* reading thread: the slot being decoded; NULL once it is BUSY */
	struct slot slots[PST_FUSEFILE_SLOTS];
};

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static int errno_of(pst_err err)
{
	switch (err) {
	case PST_OK:
		return 0;
	case PST_E_NOSPACE:
	case PST_E_QUOTA:
		return ENOSPC;
	case PST_E_RANGE:
	case PST_E_INVAL:
		return EINVAL;
	case PST_E_NOMEM:
		return ENOMEM;
	case PST_E_DENIED:
		return EROFS;
	default:
		return EIO;
	}
}

static void slot_put(struct slot *slot)
{
	struct pst_fusefile *f = slot->file;

	pthread_mutex_lock(&f->lock);
	slot->next_free = f->free;
	f->free = slot;
	f->free_count++;
	pthread_cond_signal(&f->freed);
	pthread_mutex_unlock(&f->lock);
}

static struct slot *slot_get(struct pst_fusefile *f)
{
	pthread_mutex_lock(&f->lock);
	while (f->free == NULL)
		pthread_cond_wait(&f->freed, &f->lock);
	struct slot *slot = f->free;
	f->free = slot->next_free;
	f->free_count--;
	pthread_mutex_unlock(&f->lock);
	return slot;
}

/* Reading thread: nothing is in flight beside the slot it holds (@held: 1, or 0 at the end). */
static void drain(struct pst_fusefile *f, unsigned held)
{
	pthread_mutex_lock(&f->lock);
	while (f->free_count < PST_FUSEFILE_SLOTS - held)
		pthread_cond_wait(&f->freed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

/* ---- requests to the namespace ---- */

static void request_done(struct pst_request *request)
{
	struct slot *slot = pst_container_of(request, struct slot, request);

	pst_nsio_note(slot->file->io, request->err);
	if (request->err != PST_OK)
		fuse_reply_err(slot->req, errno_of(request->err));
	else if (request->kind == PST_REQUEST_READ)
		fuse_reply_buf(slot->req, slot->mem, slot->answer_bytes);
	else if (request->kind == PST_REQUEST_WRITE)
		fuse_reply_write(slot->req, slot->answer_bytes);
	else
		fuse_reply_err(slot->req, 0);
	slot_put(slot);
}

static void submit(struct pst_fusefile *f, fuse_req_t req, enum pst_request_kind kind, uint64_t offset, void *data,
		   size_t len)
{
	struct slot *slot = f->current;

	f->current = NULL;
	slot->req = req;
	slot->answer_bytes = len;
	slot->iov = (struct iovec){ data, len };
	slot->request = (struct pst_request){
		.kind = kind,
		.offset_bytes = offset,
		.len_bytes = len,
		.iov = data != NULL ? &slot->iov : NULL,
		.iov_count = data != NULL,
		.done = request_done,
	};
	pst_nsio_submit(f->io, &slot->request);
}

static bool aligned(uint64_t a, uint64_t b)
{
	return (a | b) % PST_NSIO_BLOCK == 0;
}

static void op_read_stats(struct pst_fusefile *f, fuse_req_t req, size_t size, off_t off)
{
	struct pst_attach_figures g;
	char text[2048];

	pst_nsio_figures(f->io, &g);
	const struct pst_ns_stats *s = &g.stats;
	int len = snprintf(
	    text, sizeof(text),
	    "{\"volume\":\"%s\",\"connected\":%s,\"reads\":%ju,\"writes\":%ju,\"flushes\":%ju,\"write_zeroes\":%ju,"
	    "\"discards\":%ju,\"bytes_read\":%ju,\"bytes_written\":%ju,\"socket_bytes_received\":%ju,"
	    "\"socket_bytes_sent\":%ju,\"retransmits\":%ju,\"reconnects\":%ju,\"replayed_requests\":%ju,"
	    "\"stalled_ns\":%ju,\"read\":{\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f},"
	    "\"write\":{\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f},"
	    "\"flush\":{\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f}}\n",
	    f->volume, s->connected ? "true" : "false", (uintmax_t)s->requests[PST_REQUEST_READ],
	    (uintmax_t)s->requests[PST_REQUEST_WRITE], (uintmax_t)s->requests[PST_REQUEST_FLUSH],
	    (uintmax_t)s->requests[PST_REQUEST_WRITE_ZEROES], (uintmax_t)s->requests[PST_REQUEST_DISCARD],
	    (uintmax_t)s->bytes_read, (uintmax_t)s->bytes_written, (uintmax_t)s->socket_bytes_received,
	    (uintmax_t)s->socket_bytes_sent, (uintmax_t)s->retransmits, (uintmax_t)s->reconnects,
	    (uintmax_t)s->replayed_requests, (uintmax_t)s->stalled_ns, (double)g.latency_ns[0][0] / 1e3,
	    (double)g.latency_ns[0][1] / 1e3, (double)g.latency_ns[0][2] / 1e3, (double)g.latency_ns[1][0] / 1e3,
	    (double)g.latency_ns[1][1] / 1e3, (double)g.latency_ns[1][2] / 1e3, (double)g.latency_ns[2][0] / 1e3,
	    (double)g.latency_ns[2][1] / 1e3, (double)g.latency_ns[2][2] / 1e3);
	size_t from = PST_MIN((size_t)off, (size_t)len);
	fuse_reply_buf(req, text + from, PST_MIN(size, (size_t)len - from));
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct pst_fusefile *f = fuse_req_userdata(req);
	uint64_t end = f->io->info.size_bytes, at = (uint64_t)off;

	(void)fi;
	if (ino == INO_STATS) {
		op_read_stats(f, req, size, off);
		return;
	}
	if (at >= end) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	size = (size_t)PST_MIN(PST_MIN((uint64_t)size, end - at), (uint64_t)TRANSFER_MAX);
	if (aligned(at, size)) {
		submit(f, req, PST_REQUEST_READ, at, f->current->mem, size);
		return;
	}
	drain(f, 1);
	pst_err err = pst_nsio_read(f->io, at, f->current->mem, size);
	if (err != PST_OK)
		fuse_reply_err(req, errno_of(err));
	else
		fuse_reply_buf(req, f->current->mem, size);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct pst_fusefile *f = fuse_req_userdata(req);

	(void)fi;
	if (ino != INO_VOLUME || f->ro) {
		fuse_reply_err(req, f->ro ? EROFS : EACCES);
		return;
	}
	if (!pst_range_ok((uint64_t)off, size, f->io->info.size_bytes)) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	if (aligned((uint64_t)off, size)) {
		/* Points into the slot's own memory, which we may use as we like. */
		submit(f, req, PST_REQUEST_WRITE, (uint64_t)off, (char *)(uintptr_t)data, size);
		return;
	}
	drain(f, 1);
	pst_err err = pst_nsio_write(f->io, (uint64_t)off, data, size);
	if (err != PST_OK)
		fuse_reply_err(req, errno_of(err));
	else
		fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct pst_fusefile *f = fuse_req_userdata(req);

	(void)datasync, (void)fi;
	if (ino == INO_VOLUME && !f->ro)
		submit(f, req, PST_REQUEST_FLUSH, 0, NULL, 0);
	else
		fuse_reply_err(req, 0);
}

/*
 * Punching a hole must read back as zeros (loop turns both REQ_OP_DISCARD and REQ_OP_WRITE_ZEROES into it), which NVMe
 * promises for Write Zeroes and not for deallocation; Penstock's store gives the space back for either.
 */
static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct pst_fusefile *f = fuse_req_userdata(req);
	uint64_t end = f->io->info.size_bytes;

	(void)fi;
	if (ino != INO_VOLUME || f->ro || !pst_range_ok((uint64_t)off, (uint64_t)len, end)) {
		fuse_reply_err(req, f->ro ? EROFS : EINVAL);
	} else if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		fuse_reply_err(req, EOPNOTSUPP);
	} else if (aligned((uint64_t)off, (uint64_t)len)) {
		submit(f, req, PST_REQUEST_WRITE_ZEROES, (uint64_t)off, NULL, (size_t)len);
	} else {
		drain(f, 1);
		fuse_reply_err(req, errno_of(pst_nsio_zero(f->io, (uint64_t)off, (uint64_t)len)));
	}
}

/* ---- names and attributes ---- */

static bool attributes(struct pst_fusefile *f, fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_uid = getuid();
	st->st_gid = getgid();
	st->st_nlink = 1;
	st->st_blksize = PST_NSIO_BLOCK;
	switch (ino) {
	case INO_ROOT:
		st->st_mode = S_IFDIR | 0500;
		st->st_nlink = 2;
		return true;
	case INO_VOLUME:
		st->st_mode = S_IFREG | (f->ro ? 0400 : 0600);
		st->st_size = (off_t)f->io->info.size_bytes;
		st->st_blocks = st->st_size / 512;
		return true;
	case INO_STATS:
		st->st_mode = S_IFREG | 0444;
		st->st_size = 0;
		return true;
	default:
		return false;
	}
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct pst_fusefile *f = fuse_req_userdata(req);
	struct fuse_entry_param entry = { .attr_timeout = 3600, .entry_timeout = 3600 };

	entry.ino = parent != INO_ROOT                ? 0
		    : strcmp(name, "volume") == 0     ? INO_VOLUME
		    : strcmp(name, "stats.json") == 0 ? INO_STATS
						      : 0;
	if (entry.ino == 0 || !attributes(f, entry.ino, &entry.attr))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (attributes(fuse_req_userdata(req), ino, &st))
		fuse_reply_attr(req, &st, 3600);
	else
		fuse_reply_err(req, ENOENT);
}

/* fuse2fs and mkfs change nothing here (truncate to the same size, times): allowed, without effect. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct pst_fusefile *f = fuse_req_userdata(req);

	if ((to_set & FUSE_SET_ATTR_SIZE) && (uint64_t)attr->st_size != f->io->info.size_bytes)
		fuse_reply_err(req, EPERM);
	else
		op_getattr(req, ino, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	static const struct {
		const char *name;
		fuse_ino_t ino;
	} names[] = { { ".", INO_ROOT }, { "..", INO_ROOT }, { "volume", INO_VOLUME }, { "stats.json", INO_STATS } };
	struct pst_fusefile *f = fuse_req_userdata(req);
	char buf[512];
	size_t used = 0;

	(void)ino, (void)fi;
	size = PST_MIN(size, sizeof(buf));
	for (size_t i = (size_t)off; i < PST_ARRAY_COUNT(names); i++) {
		struct stat st;

		attributes(f, names[i].ino, &st);
		size_t n = fuse_add_direntry(req, buf + used, size - used, names[i].name, &st, (off_t)i + 1);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != INO_VOLUME && ino != INO_STATS) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	if (conn->capable & FUSE_CAP_ASYNC_DIO)
		conn->want |= FUSE_CAP_ASYNC_DIO;
	conn->max_write = conn->max_read = TRANSFER_MAX;
	conn->max_background = PST_FUSEFILE_SLOTS - 4; /* slots stay free for requests in the foreground */
	conn->congestion_threshold = conn->max_background;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readdir = op_readdir,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
};

/* ---- life ---- */

static void *reader_main(void *arg)
{
	struct pst_fusefile *f = arg;

	/* Written to by the kernel's writeback: must not wait for writeback itself. Needs CAP_SYS_RESOURCE; best
	 * effort. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	while (!fuse_session_exited(f->session)) {
		struct pollfd p = { fuse_session_fd(f->session), POLLIN, 0 };

		if (poll(&p, 1, 200) <= 0)
			continue;
		struct slot *slot = slot_get(f);
		slot->buf = (struct fuse_buf){ .mem = slot->mem };
		int n = fuse_session_receive_buf(f->session, &slot->buf);
		f->current = slot;
		if (n > 0)
			fuse_session_process_buf(f->session, &slot->buf);
		if (f->current != NULL)
			slot_put(slot);
		if (n <= 0 && n != -EINTR)
			break;
	}
	drain(f, 0);
	return NULL;
}

static void release(struct pst_fusefile *f)
{
	if (f->session != NULL)
		fuse_session_destroy(f->session);
	for (size_t i = 0; i < PST_FUSEFILE_SLOTS; i++)
		free(f->slots[i].mem);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->freed);
	free(f->volume);
	free(f->dir);
	free(f);
}

pst_err pst_fusefile_start(struct pst_nsio *io, const char *volume, const char *dir, bool ro,
			   struct pst_fusefile **ret_file)
{
	struct pst_fusefile *f = calloc(1, sizeof(*f));
	char options[160];
	char name[] = "penstock", dash_o[] = "-o";
	char *argv[] = { name, dash_o, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	bool ok = f != NULL;

	if (f == NULL)
		return PST_E_NOMEM;
	f->io = io;
	f->ro = ro;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->freed, NULL);
	ok = (f->volume = strdup(volume)) != NULL && (f->dir = strdup(dir)) != NULL;
	for (size_t i = 0; i < PST_FUSEFILE_SLOTS && ok; i++) {
		f->slots[i].file = f;
		f->slots[i].mem = aligned_alloc(PST_NSIO_BLOCK, MEM_BYTES);
		ok = f->slots[i].mem != NULL;
		if (ok)
			slot_put(&f->slots[i]);
	}
	snprintf(options, sizeof(options), "fsname=penstock:%.64s,subtype=penstock,max_read=%u", volume, TRANSFER_MAX);
	f->session = ok ? fuse_session_new(&args, &ops, sizeof(ops), f) : NULL;
	if (f->session == NULL) {
		release(f);
		return PST_E_NOMEM;
	}
	if (fuse_session_mount(f->session, dir) != 0) {
		release(f);
		return PST_E_UNSUPPORTED;
	}
	if (pthread_create(&f->thread, NULL, reader_main, f) != 0) {
		fuse_session_unmount(f->session);
		release(f);
		return PST_E_NOMEM;
	}
	*ret_file = f;
	return PST_OK;
}

void pst_fusefile_stop(struct pst_fusefile *f)
{
	if (f == NULL)
		return;
	/* First the mount, then the thread, then the descriptor: libfuse closes that one while it may still be read. */
	(void)pst_local_umount(f->dir, 2000);
	fuse_session_exit(f->session);
	pthread_join(f->thread, NULL);
	fuse_session_unmount(f->session);
	release(f);
}
