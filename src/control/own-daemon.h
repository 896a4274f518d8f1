/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A penstockd of one's own, for commands that find none at hand: started on a pool, and ended with the command, also
 * when the command is killed. From a process that has one thread.
 */
#ifndef PST_CONTROL_OWN_DAEMON_H
#define PST_CONTROL_OWN_DAEMON_H

#include "base/base.h"

#include <sys/types.h>

struct pst_own_daemon_config {
	const char *pool;          /* directory, file or device */
	const char *pool_size;     /* of a pool that is made, as typed ("8Gi"); NULL: the daemon's default */
	const char *api;           /* "unix:PATH" */
	const char *log_path;      /* what the daemon says is appended here */
	unsigned linger_ms;        /* how long it serves on when the command has died without stopping it */
	bool (*interrupted)(void); /* asked while it starts: true ends the wait */
};

struct pst_own_daemon {
	pid_t guardian; /* 0: not running; the child that whoever waits for children has to know */
	int leash;
	pid_t pid;        /* penstockd's */
	char listen[128]; /* 127.0.0.1:4420, or another port when that is taken */
	bool other_port;  /* it is */
	char io[32];      /* "io_uring" or "posix" */
};

/*
 * penstockd is looked for beside this program, then in PATH. @listen: where it listened before; NULL: on the port that
 * hosts expect if that is free, else on any. Returns PST_DAEMON_OK when it serves, after at most 60 s; else its exit
 * code (enum pst_daemon_exit, or 127: no such program), and @why has its own last words. Nothing runs then.
 */
int pst_own_daemon_start(struct pst_own_daemon *daemon, const struct pst_own_daemon_config *config, const char *listen,
			 char *why, size_t why_bytes);

/* SIGTERM, at most 10 s for a clean end, then SIGKILL; returns when it is over. Harmless when not running. */
void pst_own_daemon_stop(struct pst_own_daemon *daemon);

/* Its guardian has ended, and was waited for. */
void pst_own_daemon_ended(struct pst_own_daemon *daemon);

#endif
