/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what the user typed to an open pool.
 *
 *   directory   holds pool.penstock; made, with the directory, if that is missing or empty
 *   file, device   opened; written anew only with --format, and only where no pool is
 *
 * A new pool of a directory is written as pool.penstock.new and renamed when it is whole, so a crash while formatting
 * leaves no half pool behind: the next start begins again.
 */
#include "control/daemon.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define POOL_FILE "pool.penstock"
#define PATH_BYTES 1024u
#define DEFAULT_SIZE_MAX ((uint64_t)64 << 30)

struct opening {
	struct pst_env *env;
	const struct pst_daemon_config *config;
	struct pst_store_config store;
	char *detail;
	size_t detail_bytes;
};

static pst_err say(struct opening *o, pst_err err, const char *fmt, ...) PST_PRINTF(3, 4);
static pst_err say(struct opening *o, pst_err err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->detail, o->detail_bytes, fmt, ap);
	va_end(ap);
	return err;
}

/* ---- The store's calls, awaited ---- */

struct await {
	struct pst_store_op op;
	bool done;
};

static void awaited(struct pst_store_op *op)
{
	pst_container_of(op, struct await, op)->done = true;
}

static pst_err await(struct opening *o, struct await *a)
{
	while (!a->done)
		pst_env_poll(o->env, UINT64_MAX);
	return a->op.err;
}

/* The path goes into the pool's own records of where its devices are. Links stay: the names of disks are links. */
static pst_err whole_path(struct opening *o, const char *path, char ret[static PATH_BYTES])
{
	char dir[PATH_BYTES] = "";

	if (path[0] != '/' && getcwd(dir, sizeof(dir)) == NULL)
		return say(o, PST_E_IO, "the working directory can't be found: %s", strerror(errno));
	if (snprintf(ret, PATH_BYTES, "%s%s%s", dir, dir[0] != '\0' ? "/" : "", path) >= (int)PATH_BYTES)
		return say(o, PST_E_INVAL, "the path of the pool is too long");
	return PST_OK;
}

static pst_err store_open(struct opening *o, const char *path, struct pst_pool **ret_pool)
{
	struct await a = { .op = { .done = awaited } };
	char whole[PATH_BYTES];
	pst_err err = whole_path(o, path, whole);

	if (err != PST_OK)
		return err;
	pst_store_open(o->env, whole, &o->store, &a.op);
	err = await(o, &a);
	if (err == PST_E_LOCKED)
		return say(o, err, "the pool %s is open in another process; stop that penstockd first", path);
	if (err != PST_OK)
		return say(o, err, "the pool %.200s can't be opened: %s", path, a.op.detail);
	*ret_pool = a.op.pool;
	return PST_OK;
}

static pst_err store_format(struct opening *o, const char *path, uint64_t size_bytes)
{
	const struct pst_store_format_config config = { .size_bytes = size_bytes };
	struct await a = { .op = { .done = awaited } };
	pst_err err;

	pst_store_format(o->env, path, &config, &a.op);
	err = await(o, &a);
	if (err != PST_OK)
		return say(o, err, "a pool can't be written to %.200s: %s", path, a.op.detail);
	pst_env_log(o->env, PST_LOG_INFO, "pool_formatted path=%s", path);
	return PST_OK;
}

/* ---- Directories ---- */

/* lost+found is what mkfs leaves; a half-written pool is ours. */
static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	bool empty = dir != NULL;

	for (struct dirent *e; empty && (e = readdir(dir)) != NULL;)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			strcmp(e->d_name, "lost+found") == 0 || strcmp(e->d_name, POOL_FILE ".new") == 0;
	if (dir != NULL)
		closedir(dir);
	return empty;
}

static pst_err new_size(struct opening *o, const char *dir, uint64_t *ret_bytes)
{
	struct statvfs fs;
	uint64_t free_bytes;

	if (statvfs(dir, &fs) != 0)
		return say(o, PST_E_IO, "%s: %s", dir, strerror(errno));
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	*ret_bytes = o->config->pool_size_bytes;
	if (*ret_bytes == 0)
		*ret_bytes = PST_MIN(free_bytes / 2, DEFAULT_SIZE_MAX);
	*ret_bytes -= *ret_bytes % PST_BLOCK_BYTES;
	if (*ret_bytes > free_bytes)
		pst_env_log(o->env, PST_LOG_WARN,
			    "pool_larger_than_disk path=%s size_bytes=%llu free_bytes=%llu next=\"writes fail when the "
			    "disk is full; make room or choose a smaller --pool-size\"",
			    dir, (unsigned long long)*ret_bytes, (unsigned long long)free_bytes);
	return PST_OK;
}

/* With the directory locked, so that two daemons don't write one pool. */
static pst_err format_locked(struct opening *o, int dir_fd, const char *dir, const char *file)
{
	char fresh[PATH_BYTES + 8];
	uint64_t size_bytes;
	pst_err err = new_size(o, dir, &size_bytes);

	if (err != PST_OK)
		return err;
	snprintf(fresh, sizeof(fresh), "%s.new", file);
	unlink(fresh); /* what a crash left */
	err = store_format(o, fresh, size_bytes);
	if (err != PST_OK) {
		unlink(fresh);
		return err;
	}
	/* A name is durable only with its directory. */
	if (rename(fresh, file) != 0 || fsync(dir_fd) != 0)
		return say(o, PST_E_IO, "%s can't be renamed: %s", fresh, strerror(errno));
	return PST_OK;
}

static pst_err format_directory(struct opening *o, const char *dir, const char *file)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pst_err err;

	if (fd < 0)
		return say(o, PST_E_DENIED, "%s: %s", dir, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		err = say(o, PST_E_LOCKED, "another penstockd is making a pool in %s", dir);
	else if (access(file, F_OK) == 0)
		err = PST_OK; /* made since we looked; opening it says whether it is in use */
	else
		err = format_locked(o, fd, dir, file);
	close(fd);
	return err;
}

static pst_err open_directory(struct opening *o, const char *dir, struct pst_pool **ret_pool)
{
	char file[PATH_BYTES];
	pst_err err;

	if (snprintf(file, sizeof(file), "%s/" POOL_FILE, dir) >= (int)sizeof(file))
		return say(o, PST_E_INVAL, "the path of the pool is too long");
	if (access(file, F_OK) != 0) {
		if (!is_empty(dir))
			return say(o, PST_E_FORMAT,
				   "%s is not empty and holds no " POOL_FILE
				   "; name an empty or new directory, or the file that holds the pool",
				   dir);
		err = format_directory(o, dir, file);
		if (err != PST_OK)
			return err;
	}
	return store_open(o, file, ret_pool);
}

pst_err pst_daemon_pool_open(struct pst_env *env, const struct pst_daemon_config *config,
			     const struct pst_daemon_pool *pool, pst_pool_event_fn *on_event, void *event_ctx,
			     struct pst_pool **ret_pool, char *detail, size_t detail_bytes)
{
	struct opening o = { .env = env, .config = config, .detail = detail, .detail_bytes = detail_bytes };
	struct stat st;
	pst_err err;

	o.store = config->store;
	o.store.on_event = on_event;
	o.store.event_ctx = event_ctx;
	o.store.device_paths = config->devices;
	o.store.device_path_count = config->device_count;
	if (pool->path == NULL) {
		err = pst_ram_pool_new(env, pool->ram_size_bytes, ret_pool);
		return err == PST_OK ? PST_OK
				     : say(&o, err, "the pool in memory can't be made: %s; choose another --ram SIZE",
					   pst_err_text(err));
	}
	if (stat(pool->path, &st) != 0 && (errno != ENOENT || mkdir(pool->path, 0700) != 0))
		return say(&o, errno == ENOENT ? PST_E_NOTFOUND : PST_E_DENIED,
			   "the pool directory %s can't be made: %s", pool->path, strerror(errno));
	if (stat(pool->path, &st) == 0 && S_ISDIR(st.st_mode))
		return open_directory(&o, pool->path, ret_pool);
	if (config->format) {
		err = store_format(&o, pool->path, config->pool_size_bytes);
		/* There is one already: the option may stay in a unit file. */
		if (err != PST_OK && err != PST_E_EXISTS)
			return err;
	}
	return store_open(&o, pool->path, ret_pool);
}
