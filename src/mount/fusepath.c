/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two paths over the FUSE file. Set up in this order, taken down in the reverse:
 *   FUSE file at work/volume -> loop device -> kernel file system at dir     (fuse-loop)
 *   FUSE file at work/volume -> fuse2fs at dir                               (fuse2fs)
 * Loop devices belong to nobody after their last user, so a keeper that is killed leaves, at worst, mounts whose I/O
 * fails; the next user of the directory unmounts them.
 */
#include "mount/fusefile.h"
#include "mount/keeper.h"
#include "mount/localmount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fuse_state {
	struct pst_fusefile *file;
	char *image; /* work/volume */
	int loop_fd;
	char loop[32]; /* "/dev/loopN"; empty: none */
	pid_t fuse2fs; /* 0: none */
	bool work_made, mounted;
};

#define UMOUNT_PATIENCE_MS 10000

static pst_err image_start(struct pst_keeper *k, struct fuse_state *s)
{
	const struct pst_attach_spec *spec = k->spec;

	if (mkdir(spec->work, 0700) != 0 && errno != EEXIST)
		return pst_keeper_fail(k, PST_E_IO, NULL, "%s: %s", spec->work, strerror(errno));
	s->work_made = true;
	if (asprintf(&s->image, "%s/volume", spec->work) < 0)
		return pst_keeper_fail(k, PST_E_NOMEM, NULL, "out of memory");
	pst_err err = pst_fusefile_start(&k->io, spec->volume, spec->work, spec->ro, &s->file);
	if (err != PST_OK)
		return pst_keeper_fail(k, err, "penstock doctor", "a FUSE file system can't be mounted on %s",
				       spec->work);
	return PST_OK;
}

static struct fuse_state *state_new(struct pst_keeper *k)
{
	struct fuse_state *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->loop_fd = -1;
	k->state = s;
	return s;
}

static pst_err make_xfs(struct pst_keeper *k, char *device)
{
	char mkfs[] = "mkfs.xfs", quiet[] = "-q", force[] = "-f", keep[] = "-K", path[] = "/usr/sbin/mkfs.xfs";
	char *argv[] = { access(path, X_OK) == 0 ? path : mkfs, quiet, force, keep, device, NULL };
	double begin = pst_keeper_seconds();
	int code = pst_run(argv, -1);

	k->format_s = pst_keeper_seconds() - begin;
	if (code == 0)
		return PST_OK;
	(void)pst_nsio_zero(&k->io, 0, k->io.info.size_bytes);
	if (code == 127)
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, "apt-get install xfsprogs", "mkfs.xfs is not installed");
	return pst_keeper_fail(k, PST_E_IO, "xfs needs a volume of at least 300 MiB",
			       "mkfs.xfs on volume '%s' failed with exit code %d", k->spec->volume, code);
}

static pst_err loop_start(struct pst_keeper *k)
{
	const struct pst_attach_spec *spec = k->spec;
	struct fuse_state *s = state_new(k);
	char text[200];
	const char *fs = NULL;
	bool make = false;
	pst_err err;

	if (s == NULL)
		return pst_keeper_fail(k, PST_E_NOMEM, NULL, "out of memory");
	if ((err = pst_keeper_filesystem(k, &fs, &make)) != PST_OK || (err = image_start(k, s)) != PST_OK)
		return err;
	if ((err = pst_loop_attach(s->image, spec->ro, &s->loop_fd, s->loop, text)) != PST_OK)
		return pst_keeper_fail(k, err, "penstock doctor", "no loop device for volume '%s': %s", spec->volume,
				       text);
	if (make && (err = make_xfs(k, s->loop)) != PST_OK)
		return err;
	if ((err = pst_local_mount(s->loop, spec->dir, fs, spec->ro, text)) != PST_OK)
		return pst_keeper_fail(k, err, "penstock doctor", "%s", text);
	s->mounted = true;
	/* The mount holds the device now; our own descriptor would keep it alive after an unmount. */
	close(s->loop_fd);
	s->loop_fd = -1;
	if (k->formatted && make && (chown(spec->dir, getuid(), getgid()) != 0))
		return pst_keeper_fail(k, PST_E_IO, NULL, "%s: %s", spec->dir, strerror(errno));
	return PST_OK;
}

static pst_err fuse2fs_wait(struct pst_keeper *k, struct fuse_state *s)
{
	for (int i = 0; i < 200 && !atomic_load(&k->giving_up); i++) {
		if (pst_mountinfo_has(k->spec->dir)) {
			s->mounted = true;
			return PST_OK;
		}
		if (waitpid(s->fuse2fs, NULL, WNOHANG) == s->fuse2fs) {
			s->fuse2fs = 0;
			break;
		}
		usleep(50000);
	}
	return pst_keeper_fail(k, PST_E_UNSUPPORTED, "penstock doctor", "fuse2fs did not mount volume '%s' on %s",
			       k->spec->volume, k->spec->dir);
}

static pst_err fuse2fs_start(struct pst_keeper *k)
{
	const struct pst_attach_spec *spec = k->spec;
	struct fuse_state *s = state_new(k);
	const char *fs = NULL;
	bool make = false;
	pst_err err;

	if (s == NULL)
		return pst_keeper_fail(k, PST_E_NOMEM, NULL, "out of memory");
	if ((err = pst_keeper_filesystem(k, &fs, &make)) != PST_OK)
		return err;
	if (strcmp(fs, "ext4") != 0)
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, "mount it as root",
				       "volume '%s' holds %s; fuse2fs knows ext4 only", spec->volume, fs);
	if ((err = image_start(k, s)) != PST_OK)
		return err;
	char program[] = "fuse2fs", front[] = "-f", dash_o[] = "-o", *dir = strdup(spec->dir);
	char options[] = "ro,fakeroot", rw_options[] = "rw,fakeroot";
	char *argv[] = { program, front, dash_o, spec->ro ? options : rw_options, s->image, dir, NULL };
	s->fuse2fs = pst_spawn(argv, -1);
	free(dir);
	if (s->fuse2fs < 0) {
		s->fuse2fs = 0;
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, "apt-get install fuse2fs", "fuse2fs could not be started");
	}
	return fuse2fs_wait(k, s);
}

pst_err pst_keeper_mounted_persist(struct pst_keeper *k, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return pst_keeper_fail(k, PST_E_NOTFOUND, NULL, "%s: %s", path, strerror(errno));
	int failed = fsync(fd);
	if (failed != 0)
		(void)pst_keeper_fail(k, PST_E_IO, NULL, "fsync of %s: %s", path, strerror(errno));
	close(fd);
	return failed == 0 ? PST_OK : PST_E_IO;
}

/* Everything dirty to the volume while the mount still stands, so that an error is seen. */
pst_err pst_keeper_mounted_finish(struct pst_keeper *k)
{
	int fd = open(k->spec->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed = fd < 0 || !pst_mountinfo_has(k->spec->dir) ? 0 : syncfs(fd);

	if (failed != 0)
		(void)pst_keeper_fail(k, PST_E_IO, NULL, "writing back volume '%s': %s", k->spec->volume,
				      strerror(errno));
	if (fd >= 0)
		close(fd);
	return failed == 0 ? PST_OK : PST_E_IO;
}

/* @writes: its directory is gone, but it may be writing still, and is let, unless SIGTERM comes. */
static void fuse2fs_end(const struct pst_keeper *k, struct fuse_state *s, bool writes)
{
	for (int i = 0; ((writes && !atomic_load(&k->giving_up)) || i < 100) && s->fuse2fs > 0; i++) {
		if (waitpid(s->fuse2fs, NULL, WNOHANG) != 0)
			s->fuse2fs = 0;
		else
			usleep(50000);
	}
	if (s->fuse2fs > 0) {
		kill(s->fuse2fs, SIGKILL);
		(void)waitpid(s->fuse2fs, NULL, 0);
	}
	s->fuse2fs = 0;
}

static void fuse_stop(struct pst_keeper *k)
{
	struct fuse_state *s = k->state;

	if (s == NULL)
		return;
	int patience_ms = atomic_load(&k->giving_up) ? 0 : UMOUNT_PATIENCE_MS;
	/* By force, from under those who use it, it is lazy: what they hold then is not waited for. */
	bool orderly = s->mounted && pst_local_umount_idle(k->spec->dir, patience_ms);
	if (s->mounted && !orderly && !pst_local_umount(k->spec->dir, 0)) {
		fprintf(stderr, "penstock: %s could not be unmounted\n", k->spec->dir);
		k->torn = true;
	}
	if (orderly && s->loop[0] != '\0')
		pst_loop_wait(s->loop, s->image, &k->giving_up);
	pst_loop_detach(s->loop_fd);
	fuse2fs_end(k, s, orderly);
	pst_fusefile_stop(s->file);
	if (s->work_made)
		(void)rmdir(k->spec->work);
	free(s->image);
	free(s);
	k->state = NULL;
}

const struct pst_keeper_ops pst_keeper_fuse_loop = {
	.start = loop_start,
	.persist = pst_keeper_mounted_persist,
	.finish = pst_keeper_mounted_finish,
	.stop = fuse_stop,
};

const struct pst_keeper_ops pst_keeper_fuse2fs = {
	.start = fuse2fs_start,
	.persist = pst_keeper_mounted_persist,
	.finish = pst_keeper_mounted_finish,
	.stop = fuse_stop,
};
