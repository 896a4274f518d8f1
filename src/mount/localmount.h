/* SPDX-License-Identifier: Apache-2.0 */
/* Loop devices, mount points and helper programs: the parts of mounting that need no NVMe. Any thread; may block. */
#ifndef PST_MOUNT_LOCALMOUNT_H
#define PST_MOUNT_LOCALMOUNT_H

#include "mount/mount.h"

#include <stdatomic.h>

/*
 * A loop device over @file, past the page cache, that goes away by itself with its last user. *ret_fd holds it until
 * it is mounted. @ret_path: "/dev/loopN". On failure @text says what did not work.
 */
pst_err PST_MUST_USE pst_loop_attach(const char *file, bool ro, int *ret_fd, char ret_path[32], char text[200]);

/* Closes, and makes sure that the device is free again. */
void pst_loop_detach(int fd);

/* Mounts, and checks in mountinfo that it happened. */
pst_err PST_MUST_USE pst_local_mount(const char *device, const char *dir, const char *fs, bool ro, char text[200]);

/* Unmounts (waiting up to @patience_ms while busy, then lazily). True when it is gone. Harmless if nothing is there. */
bool pst_local_umount(const char *dir, int patience_ms);

/*
 * Waits until no file system uses @device any more, or @giving_up. A mount leaves the mount table before its file
 * system has written what it still had in memory, and whoever has it in another namespace keeps it: taking the device
 * away before that loses what umount(8) is about to make durable.
 */
void pst_device_wait(const char *device, const atomic_bool *giving_up);

/* The same for a loop device over @file; returns at once where @device is not that any more. */
void pst_loop_wait(const char *device, const char *file, const atomic_bool *giving_up);

/* Unmounts if nobody uses it, trying for @patience_ms; never lazily. True when it is gone. */
bool pst_local_umount_idle(const char *dir, int patience_ms);

/* Starts @argv (stdin closed, output to @log_fd if not negative); returns its pid or -1. */
pid_t pst_spawn(char *const argv[], int log_fd);

/* Runs @argv to its end: its exit code, or 128 + signal, or 127 if it could not be started. */
int pst_run(char *const argv[], int log_fd);

#endif
