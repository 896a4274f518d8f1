/* SPDX-License-Identifier: Apache-2.0 */
/* The storage daemon: puts environment, pools, target, catalog and API together, and takes them apart again. */
#ifndef PST_CONTROL_DAEMON_H
#define PST_CONTROL_DAEMON_H

#include "control/catalog.h"
#include "control/rest.h"
#include "store/store.h"

#define PST_DAEMON_PORTS_MAX PST_TARGET_PORTS_MAX
#define PST_DAEMON_SHARDS_MAX 64u
#define PST_DAEMON_PORT 4420u
#define PST_DAEMON_API_PORT 4421u       /* HTTPS; free to choose: none is assigned */
#define PST_DAEMON_DISCOVERY_PORT 8009u /* IANA: NVMe over Fabrics discovery */
#define PST_DAEMON_DEVICES_MAX 64u

/* Exit codes of penstockd, documented in penstockd(8). */
enum pst_daemon_exit {
	PST_DAEMON_OK = 0,
	PST_DAEMON_FAILED = 1,
	PST_DAEMON_USAGE = 2,
	PST_DAEMON_CONFLICT = 5,    /* port, API socket or pool in use */
	PST_DAEMON_NO_SPACE = 6,    /* no space for the pool */
	PST_DAEMON_UNSUPPORTED = 7, /* this machine can't do what --io asks for */
	PST_DAEMON_BAD_POOL = 9,    /* not a pool, damaged, or of an unknown format */
};

struct pst_daemon_pool {
	char name[64];
	const char *path; /* directory, file or block device; NULL: in memory */
	uint64_t ram_size_bytes;
};

struct pst_daemon_config {
	struct pst_daemon_pool pools[PST_CATALOG_POOLS_MAX];
	unsigned pool_count;
	uint64_t pool_size_bytes; /* of a new pool in a directory; 0: half of the free space, at most 64 GiB */
	bool format;              /* write a new pool to a file or device that holds none */
	const char *devices[PST_DAEMON_DEVICES_MAX]; /* where else to look for devices of the pools */
	unsigned device_count;
	struct pst_daemon_port {
		uint16_t id; /* from 1, each once */
		struct pst_addr addr;
		enum pst_target_tls tls;
	} ports[PST_DAEMON_PORTS_MAX];
	unsigned port_count;
	struct pst_addr referrals[PST_TARGET_REFERRALS_MAX]; /* discovery services elsewhere */
	unsigned referral_count;
	bool insecure; /* hosts from beyond this machine need no key */
	const char *api_socket;
	struct pst_addr api_tcp[PST_REST_TCP_MAX]; /* HTTPS */
	unsigned api_tcp_count;
	const char *api_cert, *api_key; /* PEM files, with api_tcp_count > 0 */
	struct pst_rest_limits api_limits;
	const char *kek;         /* file or directory with key-encryption keys; NULL: none */
	const char *kek_current; /* id of the one to wrap with; NULL: the last by name */
	unsigned shards;
	struct pst_target_config target;
	struct pst_store_config store; /* of each pool: its limits and alerts */
	struct pst_env_config env;
	struct pst_qos_config qos;
	int ready_fd; /* -1: none */
	const char *version;
};

/* Serves until SIGTERM or SIGINT; returns the exit code. Errors are on standard error. Once per process. */
int pst_daemon_run(const struct pst_daemon_config *config);

/* ---- daemon-pool.c ---- */

/*
 * Opens one pool, formatting it where the configuration says so; runs @env meanwhile. @on_event gets what it has to say
 * to operators until it is closed. On error @detail says what is wrong with which path, and what to do.
 */
pst_err PST_MUST_USE pst_daemon_pool_open(struct pst_env *env, const struct pst_daemon_config *config,
					  const struct pst_daemon_pool *pool, pst_pool_event_fn *on_event,
					  void *event_ctx, struct pst_pool **ret_pool, char *detail,
					  size_t detail_bytes);

#endif
