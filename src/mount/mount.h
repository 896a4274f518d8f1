/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Using a volume as a directory, on machines with and without a kernel NVMe driver, root, FUSE or loop devices.
 *
 * An attached volume is one process of its own, the keeper: it holds the NVMe/TCP connection (libpenstock), serves the
 * FUSE file or stages files in and out, and takes everything down again when it is told to, when it is signalled, or
 * when the process that started it is gone (its end of the socket closes). So whatever dies, mounts and loop devices
 * go.
 *
 * Threads: a struct pst_attach belongs to one thread. The caller must have no other threads when it calls
 * pst_attach_start, which forks.
 */
#ifndef PST_MOUNT_MOUNT_H
#define PST_MOUNT_MOUNT_H

#include "base/base.h"

#include <penstock/penstock.h>

#include <jansson.h>
#include <stdatomic.h>
#include <sys/types.h>

/* Best first. */
enum pst_mount_path {
	PST_MOUNT_KERNEL,    /* the kernel's nvme-tcp, through libnvme */
	PST_MOUNT_FUSE_LOOP, /* FUSE file, loop device, kernel file system: root */
	PST_MOUNT_FUSE2FS,   /* FUSE file, fuse2fs: no root */
	PST_MOUNT_STAGED,    /* copy in, copy out; no mount at all */
	PST_MOUNT_PATHS,
};

const char *pst_mount_path_name(enum pst_mount_path path);
bool pst_mount_path_parse(const char *name, enum pst_mount_path *ret_path);

/* What this machine can do, and for each path why (not). Looks at devices, rights and programs; changes nothing. */
struct pst_mount_probe {
	bool usable[PST_MOUNT_PATHS];
	char why[PST_MOUNT_PATHS][160];
};

void pst_mount_probe(struct pst_mount_probe *ret_probe);

/*
 * The path to take: @forced (NULL or a name), else PENSTOCK_MOUNT, else the best usable one. @fs: "xfs" rules out the
 * paths that only know ext4; @staging: may the staged path be taken? @reason says why in one line, also on error
 * (PST_E_INVAL: no such path; PST_E_UNSUPPORTED: this machine can't).
 */
pst_err PST_MUST_USE pst_mount_choose(const char *forced, const char *fs, bool staging, enum pst_mount_path *ret_path,
				      char reason[240]);

/* What a keeper publishes four times a second in memory shared with its starter; read with pst_attach_live. */
struct pst_attach_figures {
	struct pst_ns_stats stats;
	uint64_t latency_ns[3][3]; /* [read, write, flush][p50, p95, p99] */
	uint64_t all_ns[3];        /* p50, p95, p99 of reads and writes together, weighted by their counts */
};

struct pst_attach_shared {
	atomic_uint sequence; /* odd while being written */
	atomic_bool full;     /* the daemon refused a write for want of space, in the pool or the tenant's quota */
	struct pst_attach_figures figures;
};

struct pst_attach_spec {
	const char *volume; /* its name, for messages */
	const char *traddr;
	uint16_t trsvcid;
	const char *nqn;
	uint32_t nsid;
	const char *fs; /* ext4 or xfs: what a blank volume gets */
	bool ro;
	bool blank; /* the pool holds nothing of it (used_bytes is 0): may be formatted */
	enum pst_mount_path path;
	const char *dir;         /* where the files shall appear: an empty directory */
	const char *work;        /* a private directory for the FUSE file; the keeper makes and removes it */
	const char *socket_path; /* NULL, or the path of extra_fd's socket: SOCKET.dir is made a link to dir, both go at
				    the end */
	bool detached;           /* the keeper outlives its starter: only messages and signals end it */
	int extra_fd;            /* -1, or a listening SOCK_SEQPACKET socket on which others may send messages */
};

struct pst_attach {
	pid_t pid; /* 0: none */
	int fd;    /* to the keeper: SOCK_SEQPACKET, one JSON object a message */
	struct pst_attach_shared *shared;
};

/*
 * Forks the keeper. It answers with {"event":"ready","path":..,"formatted":bool,"format_s":..,"attach_s":..} or
 * {"event":"error","code":"PST_E_..","message":..,"hint":..}, after which it ends.
 * It takes {"op":"persist","id":N,"path":..} (answer: "persisted", "ok"), {"op":"digest","id":N,"path":..} (answer:
 * "digest", "sha256", "files", "bytes", and what it read itself: "bytes_read", "reads"), {"op":"detach","discard":bool}
 * (answer: "detached", and it ends). With "check" (detach) the answer has
 * "clean": was it unmounted, and does the volume hold a file system that needs no replay? With "discard" the staged
 * path copies nothing more out. SIGTERM: gives up waiting for the daemon and takes all down.
 */
pst_err PST_MUST_USE pst_attach_start(const struct pst_attach_spec *spec, struct pst_attach *ret_attach);

/* Sends @op (steals the reference). PST_E_CLOSED when the keeper is gone. */
pst_err pst_attach_send(struct pst_attach *attach, json_t *op);

/* The next message, waiting at most @timeout_ms (-1: for ever). PST_E_AGAIN: none yet; PST_E_CLOSED: keeper gone. */
pst_err PST_MUST_USE pst_attach_receive(struct pst_attach *attach, int timeout_ms, json_t **ret_message);

/* A consistent copy of the figures. */
void pst_attach_live(const struct pst_attach *attach, struct pst_attach_figures *ret_figures);

/* Waits until the keeper has ended, and forgets it. NULL fields are allowed. */
void pst_attach_done(struct pst_attach *attach);

/* ---- for the keeper's parts and for umount ---- */

/* Is @dir a mount point, by /proc/self/mountinfo? */
bool pst_mountinfo_has(const char *dir);

/*
 * SHA-256 over everything below @path: kinds, relative names, modes of execution, link targets, contents; no times, no
 * lost+found. 64 hex digits and a zero. PST_E_NOTFOUND, PST_E_IO.
 */
pst_err PST_MUST_USE pst_tree_digest(const char *path, char ret_hex[65], uint64_t *ret_files, uint64_t *ret_bytes);

#endif
