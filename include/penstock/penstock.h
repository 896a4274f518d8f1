/* SPDX-License-Identifier: Apache-2.0 */
/**
 * libpenstock: an NVMe/TCP host in user space. Connects to a namespace of any NVMe/TCP target and reads and writes it
 * directly from and into the caller's memory; no kernel driver, no root, no huge pages.
 *
 * Threads: every function may be called from any thread unless it says otherwise. Callbacks run on the host's own
 * thread (or inside pst_host_poll, if the host was opened without one); they must not block.
 */
#ifndef PENSTOCK_PENSTOCK_H
#define PENSTOCK_PENSTOCK_H

#include <penstock/err.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct pst_host pst_host; /**< one context: identity, event loop, connections */
typedef struct pst_ns pst_ns;     /**< one connected namespace */

enum pst_io_backend { PST_IO_BACKEND_AUTO = 0, PST_IO_BACKEND_URING = 1, PST_IO_BACKEND_POSIX = 2 };

struct pst_host_options {
	size_t struct_bytes; /**< sizeof(struct pst_host_options), so that it can grow */
	const char *hostnqn; /**< NULL: that of PENSTOCK_HOST_NQN, or a generated uuid NQN */
	int backend;         /**< enum pst_io_backend */
	bool caller_polls;   /**< true: no thread; the caller drives with pst_host_poll, from one thread */
	uint32_t spin_us;    /**< longest adaptive spin before sleeping; 0: sleep at once */
	/**
	 * Keys for targets that ask for authentication (DH-HMAC-CHAP), as nvme gen-dhchap-key writes them; copied. The
	 * host's own; NULL: that in the file PENSTOCK_HOST_KEY names, if it is set. Then hostnqn must be given, too.
	 */
	const char *host_key;
	/**
	 * The controller's: targets have to prove that they know it, and those that don't are not used. NULL: that in
	 * the file PENSTOCK_CTRL_KEY names, if it is set.
	 */
	const char *ctrl_key;
	/**
	 * For TLS 1.3 (a configured PSK, as nvme gen-tls-key writes it); copied. With it every connection is over TLS,
	 * and targets that do not speak it are not used. NULL: that in the file PENSTOCK_TLS_KEY names, if it is set.
	 * Then hostnqn must be given, too.
	 */
	const char *tls_key;
};

/**
 * Open a context. @options may be NULL. Errors: PST_E_UNSUPPORTED (io_uring asked for and refused), PST_E_NOMEM,
 * PST_E_KEY (a key that is none or can't be read, one for the controller alone, or one without a name).
 */
pst_err pst_host_open(const struct pst_host_options *options, pst_host **ret_host);

/** Close; every namespace must be disconnected. NULL is allowed. */
void pst_host_close(pst_host *host);

/** "io_uring" or "posix", as chosen; static. */
const char *pst_host_backend(pst_host *host);

/**
 * With caller_polls: run completions and callbacks that are ready, waiting at most @timeout_ms (-1: no limit, 0: none)
 * for the first. Returns how many events ran.
 */
unsigned pst_host_poll(pst_host *host, int timeout_ms);

struct pst_ns_options {
	size_t struct_bytes;
	const char *traddr;     /**< numeric IPv4 or IPv6 address, no brackets */
	uint16_t trsvcid;       /**< TCP port; 0: 4420 */
	const char *subnqn;     /**< subsystem NQN */
	uint32_t nsid;          /**< 0: 1 */
	uint32_t io_queues;     /**< 0: 1 */
	uint32_t queue_entries; /**< 0: 128; lowered to what the target takes */
	bool header_digest, data_digest;
	uint32_t keep_alive_ms;      /**< 0: 5000 */
	uint32_t connect_timeout_ms; /**< 0: 10000; also for each command of the handshake */
	uint32_t reconnect_delay_ms; /**< 0: 100; doubled up to 2 s */
	uint32_t loss_timeout_ms;    /**< 0: for ever; how long requests wait for a lost target before PST_E_TIMEOUT */
	/**
	 * Other addresses of the same subsystem, "ADDR:PORT" or "[V6]:PORT", at most 7; copied. One path is in use at a
	 * time: an optimized one if there is one. When it fails, or the target says that it is not to be used, requests
	 * go on over another.
	 */
	const char *const *paths;
	uint32_t path_count; /**< of paths; 0: only traddr */
};

/**
 * Connect to a namespace; waits. Errors: PST_E_REFUSED, PST_E_TIMEOUT, PST_E_NOTFOUND (no such subsystem or namespace),
 * PST_E_DENIED (this host may not, or one of the keys is wrong or missing), PST_E_PROTO (also: the target does not
 * speak TLS, and there is a TLS key), PST_E_CLOSED (also: there is none, and the target takes TLS only). With
 * caller_polls, polls inside.
 */
pst_err pst_ns_connect(pst_host *host, const struct pst_ns_options *options, pst_ns **ret_ns);

/** Orderly shutdown; requests still outstanding complete with PST_E_CANCELLED before it returns. NULL is allowed. */
void pst_ns_disconnect(pst_ns *ns);

struct pst_ns_info {
	uint64_t size_bytes;
	uint32_t block_bytes;        /**< logical block size */
	uint32_t transfer_bytes_max; /**< longer requests are split inside */
	uint8_t uuid[16];
	bool volatile_cache; /**< flush is needed for durability */
};

void pst_ns_info(pst_ns *ns, struct pst_ns_info *ret_info);

enum pst_request_kind {
	PST_REQUEST_READ,
	PST_REQUEST_WRITE,
	PST_REQUEST_FLUSH,
	PST_REQUEST_WRITE_ZEROES,
	PST_REQUEST_DISCARD,
};

/**
 * One request, in memory of the caller (embed it); the library's from submit to callback, buffers included. Received
 * data goes straight into the buffers. offset_bytes and the length must be multiples of block_bytes.
 *
 * Reconnect: when the target goes away, requests are kept and sent again after the reconnect. All kinds here are safe
 * to replay, since requests in flight have no order among themselves; a request that depends on another must wait for
 * it. A flush that was in flight is sent again: writes completed before a restart of the target survive that restart.
 * After silence of the target the reconnect waits until keep_alive_ms have passed, so that no write of the lost
 * connection can arrive after its replay. With other paths only the writes that were in flight wait so long; what else
 * there is goes on over another path at once.
 */
struct pst_request {
	enum pst_request_kind kind;
	bool fua; /**< write, write zeroes: durable when complete */
	uint64_t offset_bytes;
	uint64_t len_bytes; /**< for read and write: the sum of iov */
	const struct iovec *iov;
	uint32_t iov_count; /**< at most 64 */
	void (*done)(struct pst_request *request);
	void *arg;            /**< the caller's */
	pst_err err;          /**< result */
	uint16_t nvme_status; /**< status code type and code as on the wire (SCT << 8 | SC), 0 on success */
	uint64_t latency_ns;  /**< submit to completion, as this host saw it */
	uint64_t scratch[24]; /**< library's */
};

/** Submit; any number may be outstanding (beyond the queue depth they wait inside). The callback comes later, always.
 */
void pst_ns_submit(pst_ns *ns, struct pst_request *request);

/** Blocking forms; @len_bytes a multiple of block_bytes. Not from callbacks. */
pst_err pst_ns_read(pst_ns *ns, uint64_t offset_bytes, void *buf, size_t len_bytes);
pst_err pst_ns_write(pst_ns *ns, uint64_t offset_bytes, const void *buf, size_t len_bytes);
pst_err pst_ns_flush(pst_ns *ns);
pst_err pst_ns_discard(pst_ns *ns, uint64_t offset_bytes, uint64_t len_bytes);

/** Counters and latencies as this host saw them, since connect. Index: enum pst_request_kind. */
struct pst_ns_stats {
	uint64_t requests[5], errors[5];
	uint64_t bytes_read, bytes_written;                /**< payload of completed requests */
	uint64_t socket_bytes_received, socket_bytes_sent; /**< TCP_INFO, closed connections included */
	uint64_t retransmits;
	uint64_t reconnects, replayed_requests;
	uint64_t stalled_ns; /**< time without a connection */
	bool connected;
};

void pst_ns_stats(pst_ns *ns, struct pst_ns_stats *ret_stats);

/**
 * Latency at @fraction (0.5, 0.99) of requests of @kind since connect or the last pst_ns_latency_reset, in nanoseconds;
 * 0 if there were none.
 */
uint64_t pst_ns_latency_ns(pst_ns *ns, enum pst_request_kind kind, double fraction);
void pst_ns_latency_reset(pst_ns *ns);

struct pst_discovery_entry {
	char subnqn[224];
	char traddr[257];
	uint16_t trsvcid;
};

/** Ask the discovery controller at @traddr:@trsvcid; fills up to @max entries. *ret_count may exceed @max. */
pst_err pst_discover(pst_host *host, const char *traddr, uint16_t trsvcid, struct pst_discovery_entry *entries,
		     size_t max, size_t *ret_count);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
