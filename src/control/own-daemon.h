/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A penstockd of one's own, for commands that find none at hand: started on a pool, told apart from others by a socket
 * in a directory of its own, ended with the command (also when the command is killed). One thread.
 */
#ifndef PST_CONTROL_OWN_DAEMON_H
#define PST_CONTROL_OWN_DAEMON_H

#include "base/base.h"

#include <jansson.h>
#include <sys/types.h>

struct pst_own_daemon_config {
	const char *pool;      /* directory or device; NULL: a pool in memory of @pool_size */
	const char *pool_size; /* as typed ("8Gi"); NULL: the daemon's default */
	const char *log_path;  /* its log is appended here; NULL: DIR of the socket */
};

struct pst_own_daemon {
	pid_t pid; /* 0: not running */
	char directory[64];
	char api[128];
	char listen[72]; /* where it listens: 127.0.0.1:4420, or another port when that is taken */
	char io[16];     /* "io_uring" or "posix" */
	bool other_port; /* 4420 was taken */
};

/*
 * Looks for penstockd beside this program, then in PATH. On error @message has the daemon's own words: the last line of
 * its log. PST_E_NOTFOUND: no penstockd; PST_E_LOCKED: the pool is in use; PST_E_FORMAT and others as the daemon says.
 */
pst_err PST_MUST_USE pst_own_daemon_start(struct pst_own_daemon *daemon, const struct pst_own_daemon_config *config,
					  char *message, size_t message_bytes);

/* SIGTERM, at most 20 s for a clean end, then SIGKILL. False if it had to be killed. Harmless when not running. */
bool pst_own_daemon_stop(struct pst_own_daemon *daemon);

/* True while it runs; reaps it when it has ended by itself. */
bool pst_own_daemon_alive(struct pst_own_daemon *daemon);

#endif
