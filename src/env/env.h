/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between Penstock and the world. Core code (proto, volume, store, qos, target, host, catalog state) makes no
 * system call, holds no globals and reads no clock: time, disks, sockets, randomness, logging and posts between shards
 * come from here. Chosen at link time: the real one (which picks io_uring or posix when it starts and logs which and
 * why) or the simulator (src/env/sim/sim.h). One contract suite (tests/contract) runs against all three.
 *
 * A `struct pst_env` is one shard: one thread with one loop (in the simulator: one shard of one simulated node, all in
 * one thread). Everything below is called on the shard's own thread, except pst_env_post and pst_env_stop.
 *
 * Rules that every implementation keeps:
 *  - a completion never runs inside the call that submitted it, and always on the submitting shard;
 *  - every submitted operation completes exactly once, also after a close (then with PST_E_CANCELLED);
 *  - operations are embedded in their owner's structures: no allocation per operation. From submit to completion the
 *    operation, its iov array and its buffers belong to the environment; the owner must not touch or free them;
 *  - reads and writes are all or nothing: short transfers are continued inside.
 */
#ifndef PST_ENV_ENV_H
#define PST_ENV_ENV_H

#include "base/base.h"
#include "base/list.h"

#include <stdarg.h>
#include <sys/uio.h>

struct pst_env;

/* ---- Time, randomness, log ---- */

/* Monotonic time in nanoseconds; never 0, never decreasing. */
uint64_t pst_env_now_ns(struct pst_env *env);

/*
 * When the shard began what it is doing now, by the same clock, without a look at it: for the many things of one turn
 * to which its length does not matter. At most one turn old.
 */
uint64_t pst_env_turn_ns(struct pst_env *env);

/* Wall clock, nanoseconds since 1970 UTC, for records and log lines only. */
uint64_t pst_env_wall_ns(struct pst_env *env);

/* Unpredictable in production (getrandom), deterministic in the simulator. */
void pst_env_random(struct pst_env *env, void *buf, size_t len_bytes);

/*
 * Memory for keys: zeroed; kept out of core dumps, and out of swap as far as the limit of locked memory allows (the
 * real environment counts what it could not lock). NULL: there is no more. pst_secret_free wipes; NULL is allowed;
 * @len_bytes as it was asked for. Any thread.
 */
void *pst_secret_alloc(struct pst_env *env, size_t len_bytes);
void pst_secret_free(struct pst_env *env, void *secret, size_t len_bytes);

/* An identifier that changes with every boot of the machine (not of the process); 36 characters and a zero. */
void pst_env_boot_id(struct pst_env *env, char ret[37]);

enum pst_log_level { PST_LOG_ERROR, PST_LOG_WARN, PST_LOG_INFO, PST_LOG_DEBUG };

/*
 * Control-path events as one line of `event key=value ...`; the data path counts instead. Says what happened, to what,
 * what next. The environment adds time and level. The real one's may be called by any thread.
 */
void pst_env_log(struct pst_env *env, enum pst_log_level level, const char *fmt, ...) PST_PRINTF(3, 4);

/* ---- Timers ---- */

struct pst_timer {
	void (*fn)(struct pst_timer *timer); /* set by the owner; runs on the shard, the timer already disarmed */
	uint64_t deadline_ns;                /* environment's from here on */
	uint64_t seq;
	struct pst_timer *child, *next, *prev;
	bool armed;
};

void pst_timer_init(struct pst_timer *timer, void (*fn)(struct pst_timer *timer));

/* Arms or re-arms. A deadline in the past fires on the next turn. */
void pst_timer_arm(struct pst_env *env, struct pst_timer *timer, uint64_t deadline_ns);

/* Afterwards fn does not run. Harmless if not armed. */
void pst_timer_disarm(struct pst_env *env, struct pst_timer *timer);

static inline bool pst_timer_armed(const struct pst_timer *timer)
{
	return timer->armed;
}

/* ---- Posts ---- */

struct pst_post {
	void (*fn)(struct pst_post *post); /* set by the owner; runs on the target shard */
	struct pst_post *next;             /* environment's, until fn runs */
};

/*
 * Run post->fn on @to's thread. The only call (with pst_env_stop) that any thread may make. Posts from one thread to
 * one shard run in order. Never blocks, never fails. Also the way to continue "on my own next turn".
 */
void pst_env_post(struct pst_env *to, struct pst_post *post);

/* ---- Files and block devices ---- */

struct pst_file;

enum {
	PST_FILE_CREATE = 1, /* create if missing, mode 0600 */
	PST_FILE_READONLY = 2,
	PST_FILE_EXCLUSIVE = 4, /* lock against every other opener with this flag: else PST_E_LOCKED */
	PST_FILE_DIRECT = 8,    /* past the page cache where the file system can; see pst_file_info */
};

struct pst_file_info {
	uint64_t size_bytes;
	uint32_t align_bytes; /* offsets, lengths and buffers must be multiples of this (1 if none) */
	bool direct;          /* page cache is bypassed */
	bool block_device;    /* fixed size */
	bool can_discard;     /* PST_FILE_DISCARD gives space back */
};

/*
 * Control path, may block: used when a pool opens, not per I/O. Directories named in @path must exist.
 * Errors: PST_E_NOTFOUND, PST_E_DENIED, PST_E_LOCKED, PST_E_NOSPACE, PST_E_IO, PST_E_NOMEM.
 */
pst_err PST_MUST_USE pst_file_open(struct pst_env *env, const char *path, unsigned flags, struct pst_file **ret_file);
/* As of now: a device or file that has grown since says so, and can be used to its new end. */
void pst_file_info(struct pst_file *file, struct pst_file_info *ret_info);

/*
 * Control path, may block. Grow or shrink a regular file; PST_E_UNSUPPORTED for a block device. Nothing else changes a
 * file's size: an operation that reaches past the end is PST_E_RANGE, whatever its kind.
 */
pst_err PST_MUST_USE pst_file_truncate(struct pst_file *file, uint64_t size_bytes);

/* No operation may be outstanding. */
void pst_file_close(struct pst_file *file);

enum pst_file_kind {
	PST_FILE_READ,
	PST_FILE_WRITE,
	PST_FILE_FLUSH,        /* all writes that completed before this was submitted are durable when it completes */
	PST_FILE_DISCARD,      /* contents of the range become undefined-but-readable; a hint, success if unsupported */
	PST_FILE_WRITE_ZEROES, /* range reads as zeros, and a regular file has space for it */
};

struct pst_file_op {
	enum pst_file_kind kind;
	uint32_t iov_count; /* 1 to 64 for reads and writes, else 0 */
	/*
	 * A read or write for which much else waits: it overtakes what is queued in front of the device, where the
	 * kernel sorts that by class (mq-deadline, bfq) and the process may ask (CAP_SYS_NICE). Else, and with
	 * the posix back end, it is as any other; the environment may clear this.
	 */
	bool urgent;
	const struct iovec *iov;
	uint64_t offset_bytes;
	uint64_t len_bytes;                   /* must equal the sum of iov for reads and writes */
	void (*done)(struct pst_file_op *op); /* on the submitting shard */
	pst_err err; /* result: PST_E_RANGE past the end, PST_E_DENIED on a read-only file, PST_E_IO, PST_E_NOSPACE */
	struct pst_list node; /* environment's */
	uint64_t scratch[6];  /* environment's */
};

/* Any number may be outstanding; beyond the configured depth they wait inside, in order of arrival. */
void pst_file_submit(struct pst_file *file, struct pst_file_op *op);

/* ---- Streams (TCP) ---- */

struct pst_listener;
struct pst_stream;

/* A numeric address: "127.0.0.1", "::1" (no brackets), or "localhost"; port 0 asks for any. */
struct pst_addr {
	char host[64];
	uint16_t port;
};

/*
 * "HOST:PORT", "[V6]:PORT", "HOST" or "[V6]" (then @default_port). PST_E_INVAL else. Pure; any thread.
 * pst_addr_format writes it back, with brackets around IPv6: at most 72 bytes.
 */
pst_err PST_MUST_USE pst_addr_parse(const char *text, uint16_t default_port, struct pst_addr *ret_addr);
char *pst_addr_format(const struct pst_addr *addr, char buf[72]);

/* Does @host (numeric, or "localhost") mean this machine alone? 127.0.0.0/8, ::1, and IPv4 written as IPv6. */
bool pst_addr_is_loopback(const char *host);

/*
 * Several shards may listen on one address: connections spread over them. @on_accept runs on @env's shard, once per
 * connection, and owns the stream. Errors: PST_E_ADDRINUSE, PST_E_DENIED, PST_E_INVAL.
 */
typedef void pst_accept_fn(void *ctx, struct pst_stream *stream);
pst_err PST_MUST_USE pst_listen(struct pst_env *env, const struct pst_addr *addr, pst_accept_fn *on_accept, void *ctx,
				struct pst_listener **ret_listener);
void pst_listener_addr(struct pst_listener *listener, struct pst_addr *ret_addr);
void pst_listener_close(struct pst_listener *listener);

struct pst_connect_op {
	struct pst_addr addr;
	void (*done)(struct pst_connect_op *op);
	pst_err err;               /* PST_E_REFUSED, PST_E_TIMEOUT (no answer in 10 s), PST_E_INVAL, PST_E_NOMEM, ... */
	struct pst_stream *stream; /* on success; the owner's */
	uint64_t scratch[8];
};

void pst_connect(struct pst_env *env, struct pst_connect_op *op);

struct pst_stream_op {
	const struct iovec *iov;
	uint32_t iov_count; /* 1 to 256 */
	void (*done)(struct pst_stream_op *op);
	pst_err err;
	size_t done_bytes;
	uint64_t scratch[8];
};

/* At most one receive outstanding. Completes with 1 or more bytes; with PST_OK and 0 bytes when the peer has ended. */
void pst_stream_recv(struct pst_stream *stream, struct pst_stream_op *op);

/*
 * At most one send outstanding. Completes when the transport has taken all of it (the buffers are free again), or with
 * an error after which nothing more can be sent.
 */
void pst_stream_send(struct pst_stream *stream, struct pst_stream_op *op);

struct pst_stream_stats {
	uint64_t bytes_received, bytes_sent; /* TCP payload, as the kernel counts it (TCP_INFO); simulator: its own */
	uint64_t retransmits;                /* segments */
	uint64_t rtt_us;
};

void pst_stream_stats(struct pst_stream *stream, struct pst_stream_stats *ret_stats);
void pst_stream_addrs(struct pst_stream *stream, struct pst_addr *ret_local, struct pst_addr *ret_peer);

struct pst_close_op {
	void (*done)(struct pst_close_op *op); /* after every outstanding operation has completed */
	uint64_t scratch[6];
};

/* Outstanding operations complete (PST_E_CANCELLED if they had not), then op->done runs and the stream is gone. */
void pst_stream_close(struct pst_stream *stream, struct pst_close_op *op);

/* ---- Running a shard (real environments; the simulator runs its own: src/env/sim/sim.h) ---- */

enum pst_env_backend { PST_ENV_AUTO, PST_ENV_URING, PST_ENV_POSIX };

struct pst_env_config {
	enum pst_env_backend backend;
	enum pst_log_level log_level;
	uint32_t file_depth;   /* file operations in flight per shard; 0: 256 */
	uint32_t disk_threads; /* posix: threads that do file operations; 0: 4 */
	uint32_t spin_us;      /* longest adaptive spin after the last work; 0: never spin */
};

/* PST_E_UNSUPPORTED when io_uring was asked for and is refused; AUTO falls back to posix and logs why. */
pst_err PST_MUST_USE pst_env_new(const struct pst_env_config *config, struct pst_env **ret_env);

/* "io_uring" or "posix" or "sim", and one line of why: static or env-owned strings. */
const char *pst_env_backend_name(struct pst_env *env);
const char *pst_env_backend_reason(struct pst_env *env);

/* Runs the loop on the calling thread, which becomes the shard's, until pst_env_stop. */
void pst_env_run(struct pst_env *env);

/*
 * For callers with a loop of their own: handle what is ready, waiting at most @timeout_ns for the first (0: do not
 * wait; UINT64_MAX: as long as it takes). Returns how many completions, timers and posts ran.
 */
unsigned pst_env_poll(struct pst_env *env, uint64_t timeout_ns);

/* Any thread, and signal handlers. */
void pst_env_stop(struct pst_env *env);

/* Every file, stream and listener must be closed. NULL is allowed. */
void pst_env_free(struct pst_env *env);

#endif
