/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `penstock doctor`: what this machine can and can't do for Penstock, and what to do about it.
 *
 * A table of checks, each of which really tries what it reports on and leaves nothing behind. A check that is not `ok`
 * says what follows from that and what to type. Only a machine on which Penstock can not run at all makes it fail.
 */
#include "cli.h"

#include "base/units.h"
#include "mount/mount.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <liburing.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

enum verdict { OK, LIMITED, MISSING, BROKEN };

static const char *const verdict_names[] = { "ok", "limited", "missing", "broken" };

struct finding {
	enum verdict verdict;
	char detail[200];
	char advice[240]; /* empty: nothing to do */
};

struct doctor {
	const char *directory; /* where a pool would be */
	struct pst_mount_probe mount;
};

static void PST_PRINTF(3, 4) found(struct finding *f, enum verdict verdict, const char *fmt, ...)
{
	va_list ap;

	f->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(f->detail, sizeof(f->detail), fmt, ap);
	va_end(ap);
}

static void PST_PRINTF(2, 3) advise(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->advice, sizeof(f->advice), fmt, ap);
	va_end(ap);
}

/* ---- The machine ---- */

static void check_kernel(const struct doctor *d, struct finding *f)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	(void)d;
	if (uname(&u) != 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2) {
		found(f, BROKEN, "the kernel does not say its version");
		return;
	}
	found(f, major > 6 || (major == 6 && minor >= 1) ? OK : LIMITED, "%s %s, %s", u.sysname, u.release, u.machine);
	if (f->verdict != OK)
		advise(f, "Penstock is tested on Linux 6.1 and later");
}

static void check_cpu(const struct doctor *d, struct finding *f)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	(void)d;
#if defined(__x86_64__)
	__builtin_cpu_init();
	found(f, __builtin_cpu_supports("sse4.2") ? OK : LIMITED, "%d usable, sse4.2 %s, avx2 %s, avx512 %s", count,
	      __builtin_cpu_supports("sse4.2") ? "yes" : "no", __builtin_cpu_supports("avx2") ? "yes" : "no",
	      __builtin_cpu_supports("avx512f") ? "yes" : "no");
	if (f->verdict != OK)
		advise(f, "without SSE 4.2 every checksum is computed in software, several times slower");
#else
	found(f, OK, "%d usable", count);
#endif
	if (f->verdict == OK && count < 2) {
		f->verdict = LIMITED;
		advise(f, "daemon, hosts and pipeline share one CPU: figures will show that, not storage");
	}
}

/* A ring that is refused when it is made, or whose first operation fails, is no ring. */
static void check_io_uring(const struct doctor *d, struct finding *f)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe = NULL;
	int rc = io_uring_queue_init(8, &ring, 0);

	(void)d;
	if (rc == 0) {
		io_uring_prep_nop(io_uring_get_sqe(&ring));
		rc = io_uring_submit_and_wait(&ring, 1);
		rc = rc < 0 ? rc : io_uring_peek_cqe(&ring, &cqe);
		if (rc == 0)
			rc = cqe->res;
		io_uring_queue_exit(&ring);
	}
	if (rc == 0) {
		found(f, OK, "a ring was made and used");
		return;
	}
	found(f, LIMITED, "refused: %s", strerror(-rc));
	advise(f, "the posix back end is used instead; io_uring is refused by container profiles and by "
		  "sysctl kernel.io_uring_disabled");
}

static void check_memlock(const struct doctor *d, struct finding *f)
{
	struct rlimit limit;
	char text[16];

	(void)d;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		found(f, LIMITED, "unknown: %s", strerror(errno));
	else if (limit.rlim_cur == RLIM_INFINITY)
		found(f, OK, "unlimited");
	else
		/* Registered memory is optional, so a low limit takes nothing away. */
		found(f, OK, "%s", pst_format_size(limit.rlim_cur, text));
}

/* ---- The network ---- */

/* 0, or an errno: can this address be bound? */
static int try_bind(int family, const char *host, uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	const struct sockaddr *addr = family == AF_INET6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
	socklen_t len = family == AF_INET6 ? sizeof(in6) : sizeof(in);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, rc;

	if (fd < 0)
		return errno;
	if (inet_pton(family, host, family == AF_INET6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr) != 1)
		rc = EINVAL;
	else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 || bind(fd, addr, len) != 0 ||
		 listen(fd, 1) != 0)
		rc = errno;
	else
		rc = 0;
	close(fd);
	return rc;
}

static void check_port(const struct doctor *d, struct finding *f)
{
	int rc = try_bind(AF_INET, "127.0.0.1", 4420);

	(void)d;
	if (rc == 0) {
		found(f, OK, "127.0.0.1:4420 is free");
		return;
	}
	found(f, LIMITED, "127.0.0.1:4420: %s", strerror(rc));
	advise(f, "if that is penstockd, all is well; else: penstockd --listen 127.0.0.1:0 takes any free port");
}

static void check_ipv6(const struct doctor *d, struct finding *f)
{
	int rc = try_bind(AF_INET6, "::1", 0);

	(void)d;
	if (rc == 0) {
		found(f, OK, "[::1] can be listened on");
		return;
	}
	found(f, LIMITED, "[::1]: %s", strerror(rc));
	advise(f, "IPv4 works all the same; sysctl net.ipv6.conf.lo.disable_ipv6=0 turns it on");
}

/* ---- Mounting ---- */

static void check_path(const struct doctor *d, enum pst_mount_path path, const char *advice, struct finding *f)
{
	found(f, d->mount.usable[path] ? OK : MISSING, "%s", d->mount.why[path]);
	if (!d->mount.usable[path])
		advise(f, "%s", advice);
}

static void check_kernel_nvme(const struct doctor *d, struct finding *f)
{
	check_path(d, PST_MOUNT_KERNEL, "as root: modprobe nvme-tcp; not needed where one of the next two works", f);
}

static void check_fuse_loop(const struct doctor *d, struct finding *f)
{
	check_path(d, PST_MOUNT_FUSE_LOOP, "as root: modprobe fuse loop; in a container it takes --privileged", f);
}

static void check_fuse2fs(const struct doctor *d, struct finding *f)
{
	check_path(d, PST_MOUNT_FUSE2FS, "apt-get install fuse3 fuse2fs; /dev/fuse must be open to this user", f);
}

static void check_mount(const struct doctor *d, struct finding *f)
{
	enum pst_mount_path path;
	char reason[240];

	(void)d;
	if (pst_mount_choose(NULL, "ext4", true, &path, reason) != PST_OK) {
		found(f, BROKEN, "%.199s", reason);
		return;
	}
	found(f, path == PST_MOUNT_STAGED ? LIMITED : OK, "volumes are used by the path '%s'",
	      pst_mount_path_name(path));
	if (path == PST_MOUNT_STAGED)
		advise(f, "files are copied in and out by `penstock run`; `penstock mount` needs one of the paths "
			  "above");
}

static void check_ublk(const struct doctor *d, struct finding *f)
{
	bool there = access("/dev/ublk-control", F_OK) == 0;

	(void)d;
	found(f, there ? OK : MISSING, there ? "/dev/ublk-control is there" : "no /dev/ublk-control");
	advise(f, "nothing to do: this version does not use it");
}

/* ---- Disk ---- */

static void check_space(const struct doctor *d, struct finding *f)
{
	struct statvfs s;
	char text[16];
	uint64_t free_bytes;

	if (statvfs(d->directory, &s) != 0) {
		found(f, MISSING, "%s: %s", d->directory, strerror(errno));
		advise(f, "name another directory: penstock doctor --pool DIR");
		return;
	}
	free_bytes = (uint64_t)s.f_bavail * s.f_frsize;
	found(f, free_bytes >= (uint64_t)4 << 30 ? OK : LIMITED, "%s free in %s", pst_format_size(free_bytes, text),
	      d->directory);
	if (f->verdict != OK)
		advise(f, "the example pipeline wants 4 GiB; put the pool elsewhere with --pool DIR");
}

/* Really write a block past the page cache, to a file that nobody else sees. */
static void check_direct(const struct doctor *d, struct finding *f)
{
	static _Alignas(4096) char block[4096];
	int fd = open(d->directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	ssize_t n = fd >= 0 ? pwrite(fd, block, sizeof(block), 0) : -1;

	if (n == (ssize_t)sizeof(block)) {
		found(f, OK, "a block was written past the page cache in %s", d->directory);
	} else {
		found(f, LIMITED, "%s: %s", d->directory, strerror(errno));
		advise(f, "the pool goes through the page cache there: as safe, but slower and with more memory in "
			  "use");
	}
	if (fd >= 0)
		close(fd);
}

/* ---- The demo and the tests ---- */

static void check_file(const char *path, const char *package, struct finding *f)
{
	bool there = access(path, R_OK) == 0;

	found(f, there ? OK : MISSING, "%s%s", there ? "" : "no ", path);
	if (!there)
		advise(f, "for the example only: apt-get install %s (make demo does)", package);
}

static void check_torch(const struct doctor *d, struct finding *f)
{
	(void)d;
	check_file("/usr/lib/python3/dist-packages/torch/__init__.py", "python3-torch", f);
}

static void check_dataset(const struct doctor *d, struct finding *f)
{
	(void)d;
	check_file("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", "dataset-fashion-mnist", f);
}

static void check_guest_kernel(const struct doctor *d, struct finding *f)
{
	const char *named = getenv("PENSTOCK_UML_KERNEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char pattern[512];
	glob_t g = { 0 };

	(void)d;
	if (cache != NULL && cache[0] != '\0')
		snprintf(pattern, sizeof(pattern), "%s/penstock/uml-linux-6.12*", cache);
	else
		snprintf(pattern, sizeof(pattern), "%s/.cache/penstock/uml-linux-6.12*", home != NULL ? home : "");
	if (named != NULL && named[0] != '\0')
		snprintf(pattern, sizeof(pattern), "%s", named);
	if (glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc > 0) {
		found(f, OK, "%.190s", g.gl_pathv[g.gl_pathc - 1]);
	} else {
		found(f, MISSING, "no %.180s", pattern);
		advise(f, "for tests only: make check-long builds the Linux kernel that is a host in the interop test");
	}
	globfree(&g);
}

static const struct check {
	const char *name;
	void (*run)(const struct doctor *d, struct finding *f);
} checks[] = {
	{ "kernel", check_kernel },
	{ "cpu", check_cpu },
	{ "io_uring", check_io_uring },
	{ "memlock", check_memlock },
	{ "port", check_port },
	{ "ipv6", check_ipv6 },
	{ "nvme-tcp", check_kernel_nvme },
	{ "fuse-loop", check_fuse_loop },
	{ "fuse2fs", check_fuse2fs },
	{ "mount", check_mount },
	{ "ublk", check_ublk },
	{ "space", check_space },
	{ "o_direct", check_direct },
	{ "torch", check_torch },
	{ "dataset", check_dataset },
	{ "guest-kernel", check_guest_kernel },
};

static void print_text(const struct check *check, const struct finding *f)
{
	printf("%-13s %-8s %s\n", check->name, verdict_names[f->verdict], f->detail);
	if (f->verdict != OK && f->advice[0] != '\0')
		printf("%-13s %-8s   %s\n", "", "", f->advice);
}

static bool print_json(json_t *list, bool can_run)
{
	json_t *all = json_pack("{s:b, s:o}", "can_run", can_run, "checks", list);
	bool ok = all != NULL && json_dumpf(all, stdout, JSON_INDENT(1)) == 0;

	json_decref(all);
	putchar('\n');
	return ok;
}

static int examine(const struct doctor *d, bool json)
{
	json_t *list = json_array();
	bool can_run = true;

	for (size_t i = 0; i < PST_ARRAY_COUNT(checks); i++) {
		struct finding f = { 0 };

		checks[i].run(d, &f);
		can_run = can_run && f.verdict != BROKEN;
		if (json)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", checks[i].name, "status",
							      verdict_names[f.verdict], "detail", f.detail, "advice",
							      f.verdict != OK ? f.advice : ""));
		else
			print_text(&checks[i], &f);
	}
	if (json) {
		if (!print_json(list, can_run))
			return CLI_FAILED;
	} else {
		json_decref(list);
		puts(can_run ? "\nPenstock can run here." : "\nPenstock can not run here: see `broken` above.");
	}
	return can_run ? CLI_OK : CLI_UNSUPPORTED;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "pool", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct doctor d = { .directory = "." };
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'p':
			d.directory = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			puts("usage: penstock doctor [--pool DIR] [--json]\n"
			     "\n"
			     "Tries what Penstock needs on this machine, and says what to do about what is missing.\n"
			     "\n"
			     "  --pool DIR   where the pool is to be (its space and direct I/O are tried); default: "
			     "here\n"
			     "  --json       one JSON object with the list of checks");
			return CLI_OK;
		default:
			return CLI_USAGE;
		}
	if (optind < argc) {
		cli_error("penstock doctor --help", "doctor takes no argument '%s'", argv[optind]);
		return CLI_USAGE;
	}
	pst_mount_probe(&d.mount);
	return examine(&d, json);
}
