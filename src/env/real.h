/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two real environments share. real.c owns the loop (timers, posts, spinning, sleeping, stopping), real-file.c
 * and real-net.c own everything about files and sockets that needs no waiting; a backend (posix/, uring/) only starts
 * operations and waits for them. Each backend is one table of functions.
 *
 * Every completion that does not come straight out of a backend's wait is a post to the own shard: that is what keeps
 * completions out of the submitting call.
 */
#ifndef PST_ENV_REAL_H
#define PST_ENV_REAL_H

#include "env/timers.h"

#include <stdatomic.h>
#include <sys/socket.h>

struct pst_backend_ops {
	const char *name;
	int socket_flags; /* posix wants sockets that do not block; io_uring would take that as "do not wait" */

	/* Submit what is prepared and handle what is ready, waiting up to @timeout_ns for the first event. */
	unsigned (*wait)(struct pst_env *env, uint64_t timeout_ns);
	/* Might wait() find something? Cheap, for spinning. */
	bool (*ready)(struct pst_env *env);
	/* Have the kernel drop what it keeps of finished requests, such as their files. NULL: it keeps nothing. */
	void (*drop_finished)(struct pst_env *env);
	void (*free)(struct pst_env *env);

	/* One operation of at least one byte in range; ends with pst_real_file_done. */
	void (*file_start)(struct pst_file *file, struct pst_file_op *op);

	pst_err (*listener_start)(struct pst_listener *listener);
	/* Closes the socket and frees the listener, at once or when the kernel has let go of it. */
	void (*listener_stop)(struct pst_listener *listener);

	/* The socket is connected or being connected (then stream->connect is set). */
	pst_err (*stream_start)(struct pst_stream *stream, const struct sockaddr_storage *sa, socklen_t sa_len);
	void (*stream_recv)(struct pst_stream *stream);
	void (*stream_send)(struct pst_stream *stream);
	/* Ends outstanding operations; when none is left calls pst_real_stream_gone. */
	void (*stream_close)(struct pst_stream *stream);
};

struct pst_env {
	const struct pst_backend_ops *ops;
	enum pst_log_level log_level;
	char reason[160];
	struct pst_timers timers;

	/* Foreign threads push here; wake_fd is written only when `asleep`. */
	_Atomic(struct pst_post *) mailbox; /* newest first */
	atomic_bool asleep;
	atomic_bool stop;
	int wake_fd;
	uint32_t put_off; /* turns in a row that went without the kernel */

	uint64_t spin_ns_max;
	uint64_t gap_ns; /* moving average of the time between turns that had work */
	uint64_t last_work_ns;
	uint64_t turn_ns; /* pst_env_turn_ns */

	uint32_t file_depth, files_inflight;
	struct pst_list file_waiting; /* ops beyond file_depth, oldest first */
	uint32_t open_files, open_streams;
	struct pst_list listeners;

	uint32_t disk_threads;
	struct pst_disk *disk; /* posix: started with the first file */
	int epoll_fd;          /* posix */
	bool no_epoll_pwait2;  /* posix */
	struct pst_uring *uring;
};

pst_err pst_posix_start(struct pst_env *env);
pst_err pst_uring_start(struct pst_env *env);

/* Monotonic clock without an environment at hand (disk threads, backends). */
uint64_t pst_real_now_ns(void);

/* Backends, before they run what has come. */
static inline void pst_real_begin_turn(struct pst_env *env)
{
	env->turn_ns = pst_real_now_ns();
}

pst_err pst_real_errno(int error);

/* ---- Files ---- */

struct pst_file {
	struct pst_env *env;
	int fd;
	bool readonly;
	uint32_t inflight;
	struct pst_file_info info;
	atomic_bool zeroes_by_write; /* fallocate is refused here: zeroes are written */
	atomic_bool no_urgency;      /* this process may not ask for the class */
};

/* In pst_file_op.scratch. */
struct pst_real_file_op {
	struct pst_post post;
	struct pst_file *file;
	uint64_t done_bytes;
	struct iovec part; /* the rest of a partly transferred iov, or a piece of the zero buffer */
};
_Static_assert(sizeof(struct pst_real_file_op) <= sizeof(((struct pst_file_op *)0)->scratch), "scratch");

static inline struct pst_real_file_op *pst_real_file_op(struct pst_file_op *op)
{
	return (struct pst_real_file_op *)(void *)op->scratch;
}

/* On the shard: account, start a waiting operation, run op->done. */
void pst_real_file_done(struct pst_file_op *op, pst_err err);

/*
 * What to transfer next of a read or write (or of zeroes written by hand) of which op's done_bytes are done: at most
 * *ret_count entries at *ret_iov, which may point to the op's scratch.
 */
void pst_real_file_next(struct pst_file_op *op, const struct iovec **ret_iov, unsigned *ret_count);

/* fallocate's mode for a discard or write zeroes. */
int pst_real_fallocate_mode(enum pst_file_kind kind);

/* ---- Sockets ---- */

/* posix: what an epoll event calls. */
struct pst_source {
	void (*on_event)(struct pst_source *source, uint32_t events);
};

/* How far an iov array has been sent: what is left begins in the middle of an entry. */
struct pst_iov_cursor {
	const struct iovec *iov;
	uint32_t count;
	struct iovec part;
};

struct pst_listener {
	struct pst_source source;
	struct pst_list node; /* env->listeners */
	struct pst_env *env;
	int fd;
	pst_accept_fn *on_accept;
	void *ctx;
	struct pst_addr addr;
	struct pst_timer retry; /* after running out of descriptors */
	bool closed;
	uint32_t inflight; /* uring: requests of the kernel */
	struct pst_post free_post;
};

struct pst_stream {
	struct pst_source source;
	struct pst_env *env;
	int fd;
	struct pst_connect_op *connect; /* until connected */
	struct pst_stream_op *recv, *send;
	struct pst_iov_cursor cursor; /* of send */
	struct msghdr recv_msg, send_msg;
	struct pst_close_op *close;
	bool recv_posted, send_posted;      /* complete, and a post is on its way to say so */
	bool can_recv;                      /* a receive is worth trying before waiting */
	bool can_send, hung_up;             /* posix: edge-triggered readiness */
	uint32_t inflight;                  /* uring: requests of the kernel */
	struct sockaddr_storage connect_sa; /* uring: until connected */
	struct pst_addr local, peer;
};

/* In the scratch of stream, connect and close operations. */
struct pst_real_net_op {
	struct pst_post post;
	struct pst_stream *stream;
};
_Static_assert(sizeof(struct pst_real_net_op) <= sizeof(((struct pst_close_op *)0)->scratch), "scratch");
_Static_assert(sizeof(struct pst_real_net_op) <= sizeof(((struct pst_stream_op *)0)->scratch), "scratch");
_Static_assert(sizeof(struct pst_real_net_op) <= sizeof(((struct pst_connect_op *)0)->scratch), "scratch");

/* A connected socket was accepted; ownership of @fd passes. Fails silently (the peer sees a reset) without memory. */
void pst_real_accepted(struct pst_listener *listener, int fd);
/* accept() failed with errno @error: true if it should be tried again after a pause (the retry timer is armed). */
bool pst_real_accept_failed(struct pst_listener *listener, int error);
void pst_real_listener_free(struct pst_listener *listener);

/* Complete on the shard, outside of submit. */
void pst_real_connect_done(struct pst_stream *stream, int error);
void pst_real_recv_done(struct pst_stream *stream, pst_err err, size_t bytes);
void pst_real_send_done(struct pst_stream *stream, pst_err err);
/* The same one turn later. */
void pst_real_recv_post(struct pst_stream *stream, pst_err err, size_t bytes);
void pst_real_send_post(struct pst_stream *stream, pst_err err);
/* Those of recv and send that are not complete yet complete as cancelled, one turn later. */
void pst_real_stream_cancel(struct pst_stream *stream);
void pst_real_stream_gone(struct pst_stream *stream);

/* Fill stream->send_msg with what is left. False if nothing is. */
bool pst_real_send_prepare(struct pst_stream *stream);
void pst_real_send_advance(struct pst_stream *stream, size_t bytes);

#endif
