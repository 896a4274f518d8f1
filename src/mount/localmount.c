/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: nothing here trusts an exit code about a mount: mountinfo is looked at. Loop devices are set up with
 * AUTOCLEAR, so that the kernel frees them with their last user whatever happens to this process.
 */
#include "mount/localmount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* mountinfo writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (char *from = text; *from != '\0'; to++) {
		unsigned value;

		if (from[0] == '\\' && sscanf(from + 1, "%3o", &value) == 1) {
			*to = (char)value;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

bool pst_mountinfo_has(const char *dir)
{
	char *real = realpath(dir, NULL);
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	while (f != NULL && !found && getline(&line, &size, f) > 0) {
		char *save = NULL, *field = strtok_r(line, " ", &save);

		for (int i = 0; i < 4 && field != NULL; i++)
			field = strtok_r(NULL, " ", &save);
		if (field == NULL)
			continue;
		unescape(field);
		found = strcmp(field, real != NULL ? real : dir) == 0;
	}
	free(line);
	free(real);
	if (f != NULL)
		fclose(f);
	return found;
}

static int loop_configure(int loop, int backing, const char *file, bool ro)
{
	struct loop_config config = { .fd = (unsigned)backing, .block_size = 4096 };

	config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | (ro ? (unsigned)LO_FLAGS_READ_ONLY : 0u);
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", file);
	return ioctl(loop, LOOP_CONFIGURE, &config);
}

pst_err pst_loop_attach(const char *file, bool ro, int *ret_fd, char ret_path[32], char text[200])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int backing = open(file, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	pst_err err = PST_E_UNSUPPORTED;

	snprintf(text, 200, "%s: %s", backing < 0 ? file : "/dev/loop-control", strerror(errno));
	/* Another process may take the free number first: ask again. */
	for (int tries = 0; tries < 64 && control >= 0 && backing >= 0 && err != PST_OK; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0) {
			snprintf(text, 200, "no free loop device: %s", strerror(errno));
			break;
		}
		snprintf(ret_path, 32, "/dev/loop%d", number);
		/* A container's /dev does not follow the kernel's. */
		if (access(ret_path, F_OK) != 0)
			(void)mknod(ret_path, S_IFBLK | 0600, makedev(7, (unsigned)number));
		int loop = open(ret_path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		if (loop >= 0 && loop_configure(loop, backing, file, ro) == 0) {
			*ret_fd = loop;
			err = PST_OK;
			break;
		}
		snprintf(text, 200, "%s: %s", ret_path, strerror(errno));
		int why = errno;
		if (loop >= 0)
			close(loop);
		if (why != EBUSY)
			break;
	}
	if (control >= 0)
		close(control);
	if (backing >= 0)
		close(backing);
	return err;
}

void pst_loop_detach(int fd)
{
	if (fd < 0)
		return;
	(void)ioctl(fd, LOOP_CLR_FD, 0); /* with other users left: when they close */
	close(fd);
}

pst_err pst_local_mount(const char *device, const char *dir, const char *fs, bool ro, char text[200])
{
	unsigned long flags = MS_NOATIME | MS_NODEV | MS_NOSUID | (ro ? (unsigned long)MS_RDONLY : 0ul);

	if (mount(device, dir, fs, flags, NULL) != 0) {
		snprintf(text, 200, "mounting %s as %s on %s: %s", device, fs, dir, strerror(errno));
		return errno == EPERM || errno == ENODEV ? PST_E_UNSUPPORTED : PST_E_IO;
	}
	if (!pst_mountinfo_has(dir)) {
		snprintf(text, 200, "mounting %s on %s: the kernel said yes, but nothing is mounted there", device,
			 dir);
		return PST_E_IO;
	}
	return PST_OK;
}

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* As another user than root, only the setuid helper may unmount FUSE. */
static bool umount_once(const char *dir, bool lazy)
{
	char program[] = "fusermount3", unmount[] = "-u", quiet[] = "-q", detach[] = "-z", *name = strdup(dir);
	char *argv[] = { program, unmount, quiet, name, lazy ? detach : NULL, NULL };
	bool done = umount2(dir, lazy ? MNT_DETACH : 0) == 0;

	if (!done && errno == EPERM && name != NULL)
		done = pst_run(argv, -1) == 0;
	free(name);
	return done;
}

bool pst_local_umount(const char *dir, int patience_ms)
{
	while (pst_mountinfo_has(dir)) {
		if (umount_once(dir, patience_ms <= 0))
			continue; /* there may be one below */
		if (patience_ms <= 0)
			return false;
		pause_ms(50);
		patience_ms -= 50;
	}
	return true;
}

bool pst_local_umount_idle(const char *dir, int patience_ms)
{
	for (; pst_mountinfo_has(dir); patience_ms -= 50) {
		if (umount_once(dir, false))
			continue;
		if (patience_ms <= 0)
			return false;
		pause_ms(50);
	}
	return true;
}

/* A mounted file system has its device opened exclusively. */
void pst_device_wait(const char *device, const atomic_bool *giving_up)
{
	while (!atomic_load(giving_up)) {
		int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);

		if (fd >= 0)
			close(fd);
		if (fd >= 0 || errno != EBUSY)
			return;
		pause_ms(20);
	}
}

void pst_loop_wait(const char *device, const char *file, const atomic_bool *giving_up)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC); /* while it is open, nobody else gets this number */
	struct loop_info64 info = { 0 };

	if (fd < 0)
		return;
	if (ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
	    strncmp((const char *)info.lo_file_name, file, LO_NAME_SIZE - 1) == 0)
		pst_device_wait(device, giving_up);
	close(fd);
}

pid_t pst_spawn(char *const argv[], int log_fd)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid = -1;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, log_fd >= 0 ? log_fd : 0, 1);
	posix_spawn_file_actions_adddup2(&actions, log_fd >= 0 ? log_fd : 0, 2);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	if (posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ) != 0)
		pid = -1;
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

int pst_run(char *const argv[], int log_fd)
{
	pid_t pid = pst_spawn(argv, log_fd);
	int status = 0;

	if (pid < 0)
		return 127;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
