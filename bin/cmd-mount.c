/* SPDX-License-Identifier: Apache-2.0 */
/*
 * penstock mount and umount: see penstock-mount(1). A mount's keeper listens on a socket in the runtime directory,
 * named after the volume, where umount finds it by volume or by directory (the file beside it holds the path).
 */
#include "cli.h"
#include "control/client.h"
#include "mount/localmount.h"
#include "mount/mount.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char mount_usage[] =
    "usage: penstock mount VOLUME DIR [options]\n\n"
    "Makes a volume a directory, by the best way that this machine has, and says which.\n"
    "A blank volume is formatted; one that holds anything else than ext4 or xfs is left alone.\n\n"
    "  --fs ext4|xfs    what a blank volume gets (default: ext4)\n"
    "  --ro             read-only\n"
    "  --path PATH      kernel, fuse-loop or fuse2fs (default: $PENSTOCK_MOUNT, or the best)\n"
    "  --api URL        the daemon (default: $PENSTOCK_URL)\n"
    "  --json           say the result as JSON\n";

static const char umount_usage[] =
    "usage: penstock umount DIR|VOLUME\n\n"
    "Writes everything back to the volume and takes the mount down.\n"
    "With --force it does not wait for a daemon that is away: what was not written is lost.\n";

struct mount_options {
	const char *volume, *dir, *fs, *path, *api;
	bool ro, json;
};

/* Where keepers of this user are found; made if missing. */
static bool runtime_dir(char buf[80])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		snprintf(buf, 80, "/run/penstock");
	else if (xdg != NULL && strlen(xdg) < 60)
		snprintf(buf, 80, "%s/penstock", xdg);
	else
		snprintf(buf, 80, "/tmp/penstock-%u", geteuid());
	if (mkdir(buf, 0700) != 0 && errno != EEXIST)
		return false;
	snprintf(buf + strlen(buf), 80 - strlen(buf), "/mounts");
	return mkdir(buf, 0700) == 0 || errno == EEXIST;
}

static int connect_keeper(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What a keeper that was killed has left: mounts whose I/O fails, links, directories. */
static void clean_up_after(const char *socket_path)
{
	char link[200], work[200], dir[4096];

	snprintf(link, sizeof(link), "%s.dir", socket_path);
	snprintf(work, sizeof(work), "%s.d", socket_path);
	ssize_t n = readlink(link, dir, sizeof(dir) - 1);
	if (n > 0) {
		dir[n] = '\0';
		(void)pst_local_umount(dir, 0);
	}
	(void)pst_local_umount(work, 0);
	(void)rmdir(work);
	(void)unlink(link);
	(void)unlink(socket_path);
}

/* The socket that umount will talk to; -1 with a message. */
static int listen_keeper(const char *volume, char path[160])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char dir[80];

	if (!runtime_dir(dir)) {
		cli_error("XDG_RUNTIME_DIR=DIR", "%s: %s", dir, strerror(errno));
		return -1;
	}
	snprintf(path, 160, "%s/%.40s", dir, volume);
	int other = connect_keeper(path);
	if (other >= 0) {
		close(other);
		cli_error("penstock umount VOLUME", "volume '%s' is mounted already", volume);
		errno = EBUSY;
		return -1;
	}
	clean_up_after(path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.107s", path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 4) != 0) {
		cli_error(NULL, "%s: %s", path, strerror(errno));
		return -1;
	}
	return fd;
}

static bool parse_address(const char *address, char host[256], uint16_t *ret_port)
{
	const char *colon = address != NULL ? strrchr(address, ':') : NULL;
	size_t len = colon != NULL ? (size_t)(colon - address) : 0;
	bool bracket = len > 2 && address[0] == '[' && address[len - 1] == ']';

	if (len == 0 || len > 250)
		return false;
	snprintf(host, 256, "%.*s", (int)(len - (bracket ? 2 : 0)), address + bracket);
	*ret_port = (uint16_t)strtoul(colon + 1, NULL, 10);
	return *ret_port > 0;
}

static int wait_ready(const struct mount_options *o, struct pst_attach *a, const char *reason)
{
	json_t *m = NULL;
	pst_err err = pst_attach_receive(a, 120000, &m);
	const char *event = json_string_value(json_object_get(m, "event"));
	int code = CLI_FAILED;

	if (err == PST_OK && strcmp(event, "ready") == 0) {
		code = CLI_OK;
		const char *path = json_string_value(json_object_get(m, "path"));
		if (o->json)
			printf("{\"volume\":\"%s\",\"dir\":\"%s\",\"path\":\"%s\",\"pid\":%d,\"formatted\":%s}\n",
			       o->volume, o->dir, path, a->pid,
			       json_is_true(json_object_get(m, "formatted")) ? "true" : "false");
		else
			printf("volume %s is mounted on %s by %s (%s)%s\n", o->volume, o->dir, path, reason,
			       json_is_true(json_object_get(m, "formatted")) ? ", newly formatted" : "");
	} else if (err == PST_OK) {
		const char *name = json_string_value(json_object_get(m, "code"));

		cli_error(json_string_value(json_object_get(m, "hint")), "%s",
			  json_string_value(json_object_get(m, "message")));
		if (name != NULL && strcmp(name, "PST_E_UNSUPPORTED") == 0)
			code = CLI_UNSUPPORTED;
	} else {
		cli_error("penstock doctor", "the mount of volume '%s' ended without a word", o->volume);
	}
	json_decref(m);
	return code;
}

static int mount_volume(const struct mount_options *o, json_t *json)
{
	char host[256], reason[240], socket_path[160], *work = NULL, *dir = realpath(o->dir, NULL);
	uint16_t port = 0;
	enum pst_mount_path path;
	struct pst_attach a;

	if (dir == NULL) {
		cli_error("mkdir DIR", "%s: %s", o->dir, strerror(errno));
		return CLI_USAGE;
	}
	if (pst_mountinfo_has(dir)) {
		cli_error("another directory, or: penstock umount DIR", "something is mounted on %s already", dir);
		free(dir);
		return CLI_CONFLICT;
	}
	pst_err err = pst_mount_choose(o->path, o->fs, false, &path, reason);
	if (err != PST_OK) {
		cli_error("penstock doctor; `penstock run` works without mounting",
			  "volume '%s' can't be mounted here: %s", o->volume, reason);
		free(dir);
		return err == PST_E_INVAL ? CLI_USAGE : CLI_UNSUPPORTED;
	}
	if (!parse_address(json_string_value(json_array_get(json_object_get(json, "addresses"), 0)), host, &port)) {
		cli_error("penstockd --listen ADDR:PORT", "volume '%s' has no address", o->volume);
		free(dir);
		return CLI_FAILED;
	}
	int fd = listen_keeper(o->volume, socket_path);
	if (fd < 0) {
		free(dir);
		return errno == EBUSY ? CLI_CONFLICT : CLI_FAILED;
	}
	int code = CLI_FAILED;
	if (asprintf(&work, "%s.d", socket_path) >= 0) {
		struct pst_attach_spec spec = {
			.volume = o->volume,
			.traddr = host,
			.trsvcid = port,
			.nqn = json_string_value(json_object_get(json, "nqn")),
			.nsid = (uint32_t)json_integer_value(json_object_get(json, "nsid")),
			.fs = o->fs,
			.ro = o->ro,
			.blank = json_integer_value(json_object_get(json, "used_bytes")) == 0,
			.path = path,
			.dir = dir,
			.work = work,
			.socket_path = socket_path,
			.detached = true,
			.extra_fd = fd,
		};
		if (pst_attach_start(&spec, &a) == PST_OK)
			code = wait_ready(o, &a, reason);
	}
	if (code != CLI_OK)
		(void)unlink(socket_path);
	close(fd);
	free(work);
	free(dir);
	return code;
}

static int parse_mount(int argc, char **argv, struct mount_options *o)
{
	static const struct option options[] = {
		{ "fs", required_argument, NULL, 'f' },
		{ "ro", no_argument, NULL, 'r' },
		{ "path", required_argument, NULL, 'p' },
		{ "api", required_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};

	o->fs = "ext4";
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		if (c == 'f')
			o->fs = optarg;
		else if (c == 'r')
			o->ro = true;
		else if (c == 'p')
			o->path = optarg;
		else if (c == 'a')
			o->api = optarg;
		else if (c == 'j')
			o->json = true;
		else {
			fputs(mount_usage, c == 'h' ? stdout : stderr);
			return c == 'h' ? -1 : CLI_USAGE;
		}
	}
	if (optind + 2 != argc || (strcmp(o->fs, "ext4") != 0 && strcmp(o->fs, "xfs") != 0)) {
		cli_error("penstock mount --help",
			  optind + 2 != argc ? "VOLUME and DIR are wanted" : "--fs: ext4 or xfs");
		return CLI_USAGE;
	}
	o->volume = argv[optind];
	o->dir = argv[optind + 1];
	return CLI_OK;
}

int cmd_mount(int argc, char **argv)
{
	struct mount_options o = { 0 };
	struct pst_api_error e = { 0 };
	char url[256], path[320];
	json_t *json = NULL;
	int code = parse_mount(argc, argv, &o);

	if (code != CLI_OK)
		return code < 0 ? CLI_OK : code;
	snprintf(path, sizeof(path), "/v1/volumes/%.200s", o.volume);
	pst_err err = pst_api_call(pst_api_url(o.api, url), "GET", path, NULL, &json, &e);
	if (err != PST_OK) {
		cli_error(e.hint, "%s", e.message[0] != '\0' ? e.message : pst_err_text(err));
		return cli_exit_for(err);
	}
	code = mount_volume(&o, json);
	json_decref(json);
	return code;
}

/* ---- umount ---- */

/* Is the keeper behind @socket the one of @name, a volume or a directory? */
static bool is_meant(const char *dir, const char *entry, const char *name, const char *real)
{
	char path[300], at[4096];

	if (strcmp(entry, name) == 0)
		return true;
	snprintf(path, sizeof(path), "%s/%.100s.dir", dir, entry);
	ssize_t n = readlink(path, at, sizeof(at) - 1);
	if (n <= 0)
		return false;
	at[n] = '\0';
	return real != NULL && strcmp(at, real) == 0;
}

static int detach(const char *socket_path, const char *name, bool force)
{
	int fd = connect_keeper(socket_path);
	char text[8192];

	if (fd < 0) {
		clean_up_after(socket_path);
		cli_error("penstock mount VOLUME DIR, to see what is there",
			  "'%s' is unmounted, but its keeper had been killed: what it had not written back is lost",
			  name);
		return CLI_FAILED;
	}
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	const char *op =
	    force ? "{\"op\":\"detach\",\"discard\":false}" : "{\"op\":\"detach\",\"discard\":false,\"polite\":true}";
	(void)!send(fd, op, strlen(op), MSG_NOSIGNAL);
	if (force && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid > 1) {
		sleep(1);
		kill(who.pid, SIGTERM);
	}
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	close(fd);
	json_t *m = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
	const char *event = json_string_value(json_object_get(m, "event"));
	bool ok = event != NULL && strcmp(event, "detached") == 0;
	if (!ok)
		cli_error(json_string_value(json_object_get(m, "hint")), "'%s': %s", name,
			  m != NULL ? json_string_value(json_object_get(m, "message"))
				    : "its keeper ended without a word");
	const char *code = json_string_value(json_object_get(m, "code"));
	bool busy = code != NULL && strcmp(code, "PST_E_BUSY") == 0;
	json_decref(m);
	return ok ? CLI_OK : busy ? CLI_CONFLICT : CLI_FAILED;
}

int cmd_umount(int argc, char **argv)
{
	bool force = argc > 2 && strcmp(argv[1], "--force") == 0;
	const char *name = argc == 2 + force ? argv[1 + force] : NULL;
	char dir[80], path[360] = "";

	if (name == NULL || name[0] == '-') {
		bool help = name != NULL && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0);

		fputs(umount_usage, help ? stdout : stderr);
		return help ? CLI_OK : CLI_USAGE;
	}
	if (!runtime_dir(dir)) {
		cli_error(NULL, "%s: %s", dir, strerror(errno));
		return CLI_FAILED;
	}
	char *real = realpath(name, NULL);
	DIR *d = opendir(dir);
	struct dirent *e;
	while (d != NULL && path[0] == '\0' && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && strchr(e->d_name, '.') == NULL && is_meant(dir, e->d_name, name, real))
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
	if (d != NULL)
		closedir(d);
	free(real);
	if (path[0] == '\0') {
		cli_error("findmnt -t fuse.penstock,ext4,xfs",
			  "'%s' is no volume mounted by this user, and no such directory", name);
		return CLI_NOT_FOUND;
	}
	return detach(path, name, force);
}
