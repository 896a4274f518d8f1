/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths this machine has. Reasons are written for people: they are printed as they are. */
#include "mount/mount.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const path_names[PST_MOUNT_PATHS] = { "kernel", "fuse-loop", "fuse2fs", "staged" };

const char *pst_mount_path_name(enum pst_mount_path path)
{
	return path < PST_MOUNT_PATHS ? path_names[path] : "unknown";
}

bool pst_mount_path_parse(const char *name, enum pst_mount_path *ret_path)
{
	for (unsigned i = 0; i < PST_MOUNT_PATHS; i++)
		if (strcmp(name, path_names[i]) == 0) {
			*ret_path = (enum pst_mount_path)i;
			return true;
		}
	return false;
}

static bool may_mount(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { 0 }, { 0 } };

	if (syscall(SYS_capget, &header, data) != 0)
		return false;
	return data[CAP_SYS_ADMIN / 32].effective & 1u << CAP_SYS_ADMIN % 32;
}

static bool can_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool have_program(const char *name)
{
	static const char *const dirs[] = { "/usr/bin", "/usr/sbin",      "/bin",
					    "/sbin",    "/usr/local/bin", "/usr/local/sbin" };
	char path[128];

	for (size_t i = 0; i < PST_ARRAY_COUNT(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static void set(struct pst_mount_probe *p, enum pst_mount_path path, bool usable, const char *why)
{
	p->usable[path] = usable;
	snprintf(p->why[path], sizeof(p->why[path]), "%s", why);
}

static void probe_kernel(struct pst_mount_probe *p)
{
	const char *tls_key = getenv("PENSTOCK_TLS_KEY");

	if (tls_key != NULL && tls_key[0] != '\0')
		set(p, PST_MOUNT_KERNEL, false, "PENSTOCK_TLS_KEY is set, and the kernel's TLS keys are in a keyring");
	else if (access("/dev/nvme-fabrics", F_OK) != 0)
		set(p, PST_MOUNT_KERNEL, false, "no /dev/nvme-fabrics (kernel module nvme-tcp is not loaded)");
	else if (!may_mount() || !can_open("/dev/nvme-fabrics"))
		set(p, PST_MOUNT_KERNEL, false, "/dev/nvme-fabrics needs root");
	else
		set(p, PST_MOUNT_KERNEL, true, "the kernel has nvme-tcp");
}

static void probe_fuse(struct pst_mount_probe *p)
{
	bool fuse = access("/dev/fuse", F_OK) == 0, usable = fuse && can_open("/dev/fuse");

	if (!fuse)
		set(p, PST_MOUNT_FUSE_LOOP, false, "no /dev/fuse");
	else if (!may_mount())
		set(p, PST_MOUNT_FUSE_LOOP, false, "loop devices and mount need root");
	else if (!usable)
		set(p, PST_MOUNT_FUSE_LOOP, false, "/dev/fuse can't be opened");
	else if (!can_open("/dev/loop-control"))
		set(p, PST_MOUNT_FUSE_LOOP, false, "no /dev/loop-control");
	else
		set(p, PST_MOUNT_FUSE_LOOP, true, "root, with /dev/fuse and loop devices");

	if (!fuse)
		set(p, PST_MOUNT_FUSE2FS, false, "no /dev/fuse");
	else if (!usable)
		set(p, PST_MOUNT_FUSE2FS, false, "/dev/fuse can't be opened by this user");
	else if (!have_program("fuse2fs"))
		set(p, PST_MOUNT_FUSE2FS, false, "fuse2fs is not installed (package fuse2fs)");
	else if (!may_mount() && !have_program("fusermount3"))
		set(p, PST_MOUNT_FUSE2FS, false, "fusermount3 is not installed (package fuse3)");
	else
		set(p, PST_MOUNT_FUSE2FS, true, "/dev/fuse and fuse2fs are there");
}

void pst_mount_probe(struct pst_mount_probe *ret_probe)
{
	memset(ret_probe, 0, sizeof(*ret_probe));
	probe_kernel(ret_probe);
	probe_fuse(ret_probe);
	set(ret_probe, PST_MOUNT_STAGED, true, "needs nothing but the network");
}

/* Why @path can't serve @fs here, or NULL. */
static const char *unfit(const struct pst_mount_probe *probe, enum pst_mount_path path, const char *fs, bool staging)
{
	if (!probe->usable[path])
		return probe->why[path];
	if (strcmp(fs, "xfs") == 0 && (path == PST_MOUNT_FUSE2FS || path == PST_MOUNT_STAGED))
		return "knows ext4 only";
	if (path == PST_MOUNT_STAGED && !staging)
		return "only `penstock run` stages files";
	return NULL;
}

pst_err pst_mount_choose(const char *forced, const char *fs, bool staging, enum pst_mount_path *ret_path,
			 char reason[240])
{
	const char *name = forced != NULL ? forced : getenv("PENSTOCK_MOUNT");
	struct pst_mount_probe probe;
	enum pst_mount_path path;
	size_t used = 0;

	pst_mount_probe(&probe);
	if (name != NULL && name[0] != '\0') {
		if (!pst_mount_path_parse(name, &path)) {
			snprintf(reason, 240, "unknown path '%s': one of kernel, fuse-loop, fuse2fs, staged", name);
			return PST_E_INVAL;
		}
		const char *why = unfit(&probe, path, fs, staging);
		snprintf(reason, 240, "%s%s", why != NULL ? "asked for, but: " : "asked for", why != NULL ? why : "");
		if (why != NULL)
			return PST_E_UNSUPPORTED;
		*ret_path = path;
		return PST_OK;
	}
	reason[0] = '\0';
	for (unsigned i = 0; i < PST_MOUNT_PATHS; i++) {
		const char *why = unfit(&probe, (enum pst_mount_path)i, fs, staging);

		if (why == NULL) {
			snprintf(reason + used, 240 - used, "%s%s", used > 0 ? "; " : "", probe.why[i]);
			*ret_path = (enum pst_mount_path)i;
			return PST_OK;
		}
		int n = snprintf(reason + used, 240 - used, "%snot %s: %s", used > 0 ? "; " : "", path_names[i], why);
		used = PST_MIN(used + (size_t)PST_MAX(n, 0), (size_t)239);
	}
	return PST_E_UNSUPPORTED;
}
