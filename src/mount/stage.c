/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The staged path: for machines that can't mount anything. Model:
 *
 *   start    the volume's files are copied into spec->dir; each is remembered with its size, time and inode
 *   running  inotify tells of files closed, renamed and removed; they go to a list, are compared with what is
 *            remembered, copied out (or renamed, or removed) on the volume, and committed
 *   persist  the same at once for one path; the answer comes after the flush
 *   finish   everything is compared once more (files still open have told nothing), copied out, committed
 *   stop     the local copy is deleted
 *
 * So what a step has closed survives its death, this keeper's and the loss of the local copy. A step that only reads a
 * volume gets a copy; what it changes there is an error at the end, not lost in silence. Copying out fails while the
 * volume is full: the first such error is kept and ends the step.
 */
#include "mount/keeper.h"
#include "mount/stagefs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

struct known {
	char *path; /* below dir */
	off_t size;
	struct timespec mtime;
	ino_t inode;
	mode_t mode;
	bool seen; /* during a full comparison */
};

struct watch {
	int wd;
	char *path; /* "" for the top */
};

struct stage {
	struct pst_keeper *k;
	struct pst_stagefs fs;
	void *known; /* tsearch tree of struct known */
	int inotify;
	struct watch *watches;
	size_t watch_count;
	char **pending;
	size_t pending_count;
	bool overflow, staged;
	pst_err first_error;
	char first_text[240];
};

static const uint32_t watch_mask =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW;

/* ---- what is known ---- */

static int known_order(const void *a, const void *b)
{
	return strcmp(((const struct known *)a)->path, ((const struct known *)b)->path);
}

static struct known *known_find(struct stage *s, const char *path)
{
	struct known key = { .path = (char *)(uintptr_t)path };
	void **node = tfind(&key, &s->known, known_order);

	return node != NULL ? *node : NULL;
}

static void known_set(struct stage *s, const char *path, const struct stat *st)
{
	struct known *known = known_find(s, path);

	if (known == NULL) {
		known = calloc(1, sizeof(*known));
		if (known == NULL || (known->path = strdup(path)) == NULL ||
		    tsearch(known, &s->known, known_order) == NULL) {
			free(known);
			return; /* it will be copied out once more than needed */
		}
	}
	known->size = st->st_size;
	known->mtime = st->st_mtim;
	known->inode = st->st_ino;
	known->mode = st->st_mode;
	known->seen = true;
}

static void known_free(void *node)
{
	free(((struct known *)node)->path);
	free(node);
}

static void known_drop(struct stage *s, const char *path)
{
	struct known *known = known_find(s, path);

	if (known == NULL)
		return;
	tdelete(known, &s->known, known_order);
	known_free(known);
}

static bool same_file(const struct known *known, const struct stat *st)
{
	return known != NULL && known->mode == st->st_mode && known->inode == st->st_ino &&
	       (!S_ISREG(st->st_mode) || (known->size == st->st_size && known->mtime.tv_sec == st->st_mtim.tv_sec &&
					  known->mtime.tv_nsec == st->st_mtim.tv_nsec));
}

/* ---- watching ---- */

static void watch_dir(struct stage *s, const char *path)
{
	char *full = NULL;

	if (s->inotify < 0 || asprintf(&full, "%s/%s", s->k->spec->dir, path) < 0)
		return;
	int wd = inotify_add_watch(s->inotify, full, watch_mask);
	free(full);
	for (size_t i = 0; i < s->watch_count; i++)
		if (s->watches[i].wd == wd) {
			free(s->watches[i].path); /* renamed meanwhile */
			s->watches[i].path = strdup(path);
			return;
		}
	struct watch *bigger = wd < 0 ? NULL : realloc(s->watches, (s->watch_count + 1) * sizeof(*bigger));
	if (bigger == NULL) {
		s->overflow = true;
		return;
	}
	s->watches = bigger;
	s->watches[s->watch_count++] = (struct watch){ wd, strdup(path) };
}

static void pend(struct stage *s, const char *dir, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s%s%s", dir, dir[0] != '\0' ? "/" : "", name) < 0)
		return;
	for (size_t i = 0; i < s->pending_count; i++)
		if (strcmp(s->pending[i], path) == 0) {
			free(path);
			return;
		}
	char **bigger = realloc(s->pending, (s->pending_count + 1) * sizeof(*bigger));
	if (bigger == NULL) {
		s->overflow = true;
		free(path);
		return;
	}
	s->pending = bigger;
	s->pending[s->pending_count++] = path;
}

static void read_events(struct stage *s)
{
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n;

	while (s->inotify >= 0 && (n = read(s->inotify, buf, sizeof(buf))) > 0)
		for (char *at = buf; at < buf + n;) {
			struct inotify_event *event = (void *)at;
			const char *dir = NULL;

			for (size_t i = 0; i < s->watch_count; i++)
				if (s->watches[i].wd == event->wd)
					dir = s->watches[i].path;
			if (event->mask & IN_Q_OVERFLOW)
				s->overflow = true;
			/* A plain file that was made tells again when it is closed; directories and links don't. */
			else if (dir != NULL && event->len > 0)
				pend(s, dir, event->name);
			at += sizeof(*event) + event->len;
		}
}

/* ---- copying out ---- */

static pst_err sync_path(struct stage *s, const char *path, unsigned depth, bool open_too);

static pst_err sync_children(struct stage *s, const char *path, unsigned depth, bool open_too)
{
	char *full = NULL;
	struct dirent *e;
	pst_err err = PST_OK;

	if (asprintf(&full, "%s/%s", s->k->spec->dir, path) < 0)
		return PST_E_NOMEM;
	DIR *dir = depth < 64 ? opendir(full) : NULL;
	free(full);
	while (dir != NULL && err == PST_OK && (e = readdir(dir)) != NULL) {
		char *child = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    (path[0] == '\0' && strcmp(e->d_name, "lost+found") == 0))
			continue;
		if (asprintf(&child, "%s%s%s", path, path[0] != '\0' ? "/" : "", e->d_name) < 0)
			err = PST_E_NOMEM;
		else
			err = sync_path(s, child, depth + 1, open_too);
		free(child);
	}
	if (dir != NULL)
		closedir(dir);
	return err;
}

struct twin {
	const struct stat *st;
	const struct known *found;
};

static void twin_visit(const void *node, VISIT which, void *arg)
{
	const struct known *known = *(struct known *const *)node;
	struct twin *twin = arg;

	if ((which == postorder || which == leaf) && same_file(known, twin->st))
		twin->found = known;
}

/* The same local file under a name that is gone: a rename. NULL if there is none. */
static const struct known *renamed_from(struct stage *s, const struct stat *st)
{
	struct twin twin = { st, NULL };
	struct stat old;
	char *full = NULL;

	twalk_r(s->known, twin_visit, &twin);
	if (twin.found == NULL || asprintf(&full, "%s/%s", s->k->spec->dir, twin.found->path) < 0)
		return NULL;
	bool gone = lstat(full, &old) != 0;
	free(full);
	return gone ? twin.found : NULL;
}

static pst_err sync_file(struct stage *s, const char *path, const char *full, const struct stat *st)
{
	const struct known *old = renamed_from(s, st);
	pst_err err;

	if (old != NULL) {
		char *from = strdup(old->path);

		err = from == NULL ? PST_E_NOMEM : pst_stagefs_rename(&s->fs, from, path);
		if (err == PST_OK)
			known_drop(s, from);
		free(from);
		if (err != PST_E_NOTFOUND)
			goto done;
	}
	int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return PST_OK; /* gone again: its own event follows */
	err = pst_stagefs_put_file(&s->fs, path, fd, st);
	close(fd);
done:
	if (err == PST_OK)
		known_set(s, path, st);
	return err;
}

static pst_err sync_link(struct stage *s, const char *path, const char *full, const struct stat *st)
{
	char target[4097];
	ssize_t n = readlink(full, target, sizeof(target) - 1);

	if (n < 0)
		return PST_OK;
	target[n] = '\0';
	pst_err err = pst_stagefs_put_link(&s->fs, path, target);
	if (err == PST_OK)
		known_set(s, path, st);
	return err;
}

/* Is some process writing to it right now? A lease is refused then. Best effort: others' files can't be leased. */
static bool being_written(const char *full)
{
	int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool busy = fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;

	if (fd >= 0)
		close(fd);
	return busy;
}

/* Makes the volume's @path like the local one. With @open_too also files that are still being written. */
static pst_err sync_path(struct stage *s, const char *path, unsigned depth, bool open_too)
{
	struct known *known = known_find(s, path);
	struct stat st;
	char *full = NULL;
	pst_err err = PST_OK;

	if (asprintf(&full, "%s/%s", s->k->spec->dir, path) < 0)
		return PST_E_NOMEM;
	if (lstat(full, &st) != 0) {
		if (known != NULL && (err = pst_stagefs_remove(&s->fs, path)) == PST_OK)
			known_drop(s, path);
	} else if (S_ISDIR(st.st_mode)) {
		if (!same_file(known, &st) && (err = pst_stagefs_put_dir(&s->fs, path, st.st_mode)) == PST_OK) {
			known_set(s, path, &st);
			watch_dir(s, path);
		} else if (known != NULL) {
			known->seen = true;
		}
		if (err == PST_OK)
			err = sync_children(s, path, depth, open_too);
	} else if (same_file(known, &st)) {
		known->seen = true;
	} else if (S_ISLNK(st.st_mode)) {
		err = sync_link(s, path, full, &st);
	} else if (S_ISREG(st.st_mode) && (open_too || !being_written(full))) {
		err = sync_file(s, path, full, &st);
	}
	free(full);
	return err;
}

struct gone {
	char **paths;
	size_t count;
};

static void gone_visit(const void *node, VISIT which, void *arg)
{
	struct known *known = *(struct known *const *)node;
	struct gone *gone = arg;

	if (which != postorder && which != leaf)
		return;
	if (!known->seen) {
		char **bigger = realloc(gone->paths, (gone->count + 1) * sizeof(*bigger));

		if (bigger != NULL) {
			gone->paths = bigger;
			gone->paths[gone->count++] = known->path;
		}
	}
	known->seen = false;
}

static pst_err sync_all(struct stage *s, bool open_too)
{
	struct gone gone = { 0 };

	twalk_r(s->known, gone_visit, &gone); /* clears the marks */
	free(gone.paths);
	gone = (struct gone){ 0 };
	pst_err err = sync_children(s, "", 0, open_too);
	twalk_r(s->known, gone_visit, &gone);
	for (size_t i = 0; i < gone.count && err == PST_OK; i++) {
		char *path = strdup(gone.paths[i]);

		err = path == NULL ? PST_E_NOMEM : sync_path(s, path, 0, true);
		free(path);
	}
	free(gone.paths);
	return err;
}

static pst_err sync_pending(struct stage *s)
{
	pst_err err = PST_OK;

	if (s->overflow) {
		s->overflow = false;
		err = sync_all(s, false);
	}
	for (size_t i = 0; i < s->pending_count; i++) {
		if (err == PST_OK)
			err = sync_path(s, s->pending[i], 0, false);
		free(s->pending[i]);
	}
	s->pending_count = 0;
	return err == PST_OK ? pst_stagefs_commit(&s->fs) : err;
}

static pst_err keep_error(struct stage *s, pst_err err)
{
	if (err != PST_OK && s->first_error == PST_OK) {
		s->first_error = err;
		snprintf(s->first_text, sizeof(s->first_text), "copying out to volume '%s': %.150s", s->k->spec->volume,
			 s->fs.text[0] != '\0' ? s->fs.text : pst_err_text(err));
	}
	return err;
}

/* ---- the keeper's calls ---- */

static void staged_file(void *ctx, const char *path, const struct stat *local)
{
	struct stage *s = ctx;

	known_set(s, path, local);
	if (S_ISDIR(local->st_mode))
		watch_dir(s, path);
}

static pst_err staged_start(struct pst_keeper *k)
{
	const struct pst_attach_spec *spec = k->spec;
	struct stage *s = calloc(1, sizeof(*s));
	const char *fs = NULL;
	bool make = false;
	pst_err err;

	k->state = s;
	if (s == NULL)
		return pst_keeper_fail(k, PST_E_NOMEM, NULL, "out of memory");
	s->k = k;
	s->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->inotify < 0)
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, "raise fs.inotify.max_user_instances", "inotify: %s",
				       strerror(errno));
	if ((err = pst_keeper_filesystem(k, &fs, &make)) != PST_OK)
		return err;
	if (strcmp(fs, "ext4") != 0)
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, "run as root on a machine with FUSE and loop devices",
				       "volume '%s' holds %s; staging knows ext4 only", spec->volume, fs);
	err = pst_stagefs_open(&k->io, spec->ro, &s->fs);
	if (err == PST_OK) {
		s->staged = true;
		watch_dir(s, "");
		err = pst_stagefs_read_tree(&s->fs, spec->dir, staged_file, s);
	}
	if (err == PST_OK && !spec->ro) {
		s->fs.dirty = true;
		err = pst_stagefs_commit(&s->fs);
	}
	if (err != PST_OK)
		return pst_keeper_fail(k, err, err == PST_E_NOSPACE ? "free space where the run is recorded" : NULL,
				       "staging volume '%s': %s", spec->volume, s->fs.text);
	read_events(s); /* our own writes */
	for (size_t i = 0; i < s->pending_count; i++)
		free(s->pending[i]);
	s->pending_count = 0;
	return PST_OK;
}

static pst_err staged_persist(struct pst_keeper *k, const char *path)
{
	struct stage *s = k->state;
	const char *below = path + strlen(k->spec->dir);

	if (k->spec->ro)
		return pst_keeper_fail(k, PST_E_DENIED, NULL, "volume '%s' is read-only in this step", k->spec->volume);
	read_events(s);
	pst_err err = sync_pending(s);
	while (*below == '/')
		below++;
	if (err == PST_OK)
		err = *below != '\0' ? sync_path(s, below, 0, true) : sync_all(s, true);
	if (err == PST_OK)
		err = pst_stagefs_commit(&s->fs);
	if (keep_error(s, err) != PST_OK)
		return pst_keeper_fail(k, err, NULL, "%s", s->first_text);
	if (access(path, F_OK) != 0)
		return pst_keeper_fail(k, PST_E_NOTFOUND, NULL, "%s: %s", path, strerror(errno));
	return PST_OK;
}

static pst_err staged_finish(struct pst_keeper *k)
{
	struct stage *s = k->state;

	read_events(s);
	if (k->spec->ro) {
		if (s->pending_count == 0)
			return PST_OK;
		return pst_keeper_fail(k, PST_E_DENIED, "mount it rw in the pipeline file",
				       "the step changed '%s' on volume '%s', which it has read-only", s->pending[0],
				       k->spec->volume);
	}
	pst_err err = s->first_error;
	if (err == PST_OK)
		err = keep_error(s, sync_all(s, true));
	if (err == PST_OK)
		err = keep_error(s, pst_stagefs_commit(&s->fs));
	if (err != PST_OK)
		return pst_keeper_fail(k, err, err == PST_E_NOSPACE ? "a larger size for the volume" : NULL, "%s",
				       s->first_text);
	return PST_OK;
}

static void remove_tree(int parent, const char *name, unsigned depth)
{
	int fd = depth < 128 ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		(void)unlinkat(parent, name, 0);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
			if (unlinkat(fd, e->d_name, 0) != 0)
				remove_tree(fd, e->d_name, depth + 1);
		}
	closedir(dir);
	if (depth > 0)
		(void)unlinkat(parent, name, AT_REMOVEDIR);
}

static void staged_stop(struct pst_keeper *k)
{
	struct stage *s = k->state;

	if (s == NULL)
		return;
	(void)pst_stagefs_close(&s->fs, atomic_load(&k->giving_up));
	if (s->staged)
		remove_tree(AT_FDCWD, k->spec->dir, 0);
	if (s->inotify >= 0)
		close(s->inotify);
	tdestroy(s->known, known_free);
	for (size_t i = 0; i < s->watch_count; i++)
		free(s->watches[i].path);
	free(s->watches);
	for (size_t i = 0; i < s->pending_count; i++)
		free(s->pending[i]);
	free(s->pending);
	free(s);
	k->state = NULL;
}

static int staged_poll_fd(struct pst_keeper *k)
{
	return k->spec->ro ? -1 : ((struct stage *)k->state)->inotify;
}

static void staged_poll(struct pst_keeper *k)
{
	struct stage *s = k->state;

	read_events(s);
	(void)keep_error(s, sync_pending(s));
}

const struct pst_keeper_ops pst_keeper_staged = {
	.start = staged_start,
	.persist = staged_persist,
	.finish = staged_finish,
	.stop = staged_stop,
	.poll_fd = staged_poll_fd,
	.poll = staged_poll,
};
