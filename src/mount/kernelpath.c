/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's own NVMe/TCP host, through libnvme: connect, wait for the block device, mount. The keeper's library
 * connection only looks at what the volume holds (and makes ext4), and is closed before the kernel writes: so figures
 * of this path come from the block device's counters and have no percentiles.
 */
#include "mount/keeper.h"
#include "mount/localmount.h"

#include <errno.h>
#include <fcntl.h>
#include <libnvme.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kernel_state {
	nvme_root_t root;
	nvme_ctrl_t ctrl;
	bool connected, mounted;
	char device[64];
};

/* "/dev/nvme3" has one namespace block device, which may appear a little after the controller. */
static bool find_device(struct pst_keeper *k, struct kernel_state *s)
{
	for (int i = 0; i < 100 && !atomic_load(&k->giving_up); i++) {
		nvme_root_t scan = nvme_scan(NULL);
		nvme_ctrl_t ctrl = scan != NULL ? nvme_scan_ctrl(scan, nvme_ctrl_get_name(s->ctrl)) : NULL;
		nvme_ns_t ns = ctrl != NULL ? nvme_ctrl_first_ns(ctrl) : NULL;

		if (ctrl != NULL && ns == NULL)
			ns = nvme_subsystem_first_ns(nvme_ctrl_get_subsystem(ctrl));
		if (ns != NULL)
			snprintf(s->device, sizeof(s->device), "/dev/%s", nvme_ns_get_name(ns));
		if (scan != NULL)
			nvme_free_tree(scan);
		if (s->device[0] != '\0' && access(s->device, R_OK) == 0)
			return true;
		usleep(50000);
	}
	return false;
}

/* The first word of the file that @variable names, as the library reads it; false: there is none. */
static bool key_text(const char *variable, char text[128])
{
	const char *path = getenv(variable);
	FILE *f = path != NULL ? fopen(path, "re") : NULL;
	bool ok = f != NULL && fscanf(f, "%127s", text) == 1;

	if (f != NULL)
		fclose(f);
	return ok;
}

/* The kernel has the keys that the library has had. */
static void kernel_keys(nvme_ctrl_t ctrl)
{
	char text[128];

	if (key_text("PENSTOCK_HOST_KEY", text))
		nvme_ctrl_set_dhchap_host_key(ctrl, text);
	if (key_text("PENSTOCK_CTRL_KEY", text))
		nvme_ctrl_set_dhchap_key(ctrl, text);
	explicit_bzero(text, sizeof(text));
}

static pst_err kernel_connect(struct pst_keeper *k, struct kernel_state *s)
{
	const struct pst_attach_spec *spec = k->spec;
	struct nvme_fabrics_config config;
	char port[8];

	snprintf(port, sizeof(port), "%u", spec->trsvcid);
	s->root = nvme_create_root(NULL, LOG_ERR);
	const char *nqn = getenv("PENSTOCK_HOST_NQN");
	nvme_host_t host = s->root == NULL ? NULL
			   : nqn != NULL   ? nvme_lookup_host(s->root, nqn, NULL)
					   : nvme_default_host(s->root);
	if (host == NULL)
		return pst_keeper_fail(k, PST_E_UNSUPPORTED, NULL, "libnvme: %s", strerror(errno));
	s->ctrl = nvme_create_ctrl(s->root, spec->nqn, "tcp", spec->traddr, NULL, NULL, port);
	nvmf_default_config(&config);
	if (s->ctrl != NULL)
		kernel_keys(s->ctrl);
	config.ctrl_loss_tmo = -1; /* wait for a lost target, as the library does */
	if (s->ctrl == NULL || nvmf_add_ctrl(host, s->ctrl, &config) != 0)
		return pst_keeper_fail(k, PST_E_IO, "PENSTOCK_MOUNT=fuse-loop",
				       "the kernel can't connect to volume '%s': %s", spec->volume, strerror(errno));
	s->connected = true;
	if (!find_device(k, s))
		return pst_keeper_fail(k, PST_E_IO, NULL, "no block device appeared for volume '%s'", spec->volume);
	return PST_OK;
}

static pst_err kernel_start(struct pst_keeper *k)
{
	const struct pst_attach_spec *spec = k->spec;
	struct kernel_state *s = calloc(1, sizeof(*s));
	const char *fs = NULL;
	char text[200], mkfs[] = "mkfs.xfs", quiet[] = "-q", force[] = "-f", keep[] = "-K";
	bool make = false;
	pst_err err;

	k->state = s;
	if (s == NULL)
		return pst_keeper_fail(k, PST_E_NOMEM, NULL, "out of memory");
	if ((err = pst_keeper_filesystem(k, &fs, &make)) != PST_OK)
		return err;
	pst_nsio_close(&k->io);
	if ((err = kernel_connect(k, s)) != PST_OK)
		return err;
	char *argv[] = { mkfs, quiet, force, keep, s->device, NULL };
	if (make && pst_run(argv, -1) != 0)
		return pst_keeper_fail(k, PST_E_IO, NULL, "mkfs.xfs on %s failed", s->device);
	if ((err = pst_local_mount(s->device, spec->dir, fs, spec->ro, text)) != PST_OK)
		return pst_keeper_fail(k, err, "penstock doctor", "%s", text);
	s->mounted = true;
	return PST_OK;
}

static void kernel_stop(struct pst_keeper *k)
{
	struct kernel_state *s = k->state;

	if (s == NULL)
		return;
	/* By force, from under those who use it, it is lazy: what they hold then is not waited for. */
	bool orderly = s->mounted && pst_local_umount_idle(k->spec->dir, 10000);
	if (s->mounted && !orderly && !pst_local_umount(k->spec->dir, 0)) {
		fprintf(stderr, "penstock: %s could not be unmounted\n", k->spec->dir);
		k->torn = true;
	}
	if (orderly)
		pst_device_wait(s->device, &k->giving_up);
	if (s->connected)
		(void)nvme_disconnect_ctrl(s->ctrl);
	if (s->root != NULL)
		nvme_free_tree(s->root);
	free(s);
	k->state = NULL;
}

const struct pst_keeper_ops pst_keeper_kernel = {
	.start = kernel_start,
	.persist = pst_keeper_mounted_persist,
	.finish = pst_keeper_mounted_finish,
	.stop = kernel_stop,
};
