/* SPDX-License-Identifier: Apache-2.0 */
#include "check-image.h"

#include "store/check.h"

#include <stdio.h>

struct image {
	check_image_read_fn *read;
	void *ctx;
	char *why;
};

static pst_err image_read(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct image *im = ctx;

	return im->read(im->ctx, device, block, buf) ? PST_OK : PST_E_IO;
}

static void finding(void *ctx, bool repaired, const char *text)
{
	struct image *im = ctx;

	(void)repaired;
	if (im->why[0] == '\0')
		snprintf(im->why, 512, "check: %s", text);
}

bool check_image(check_image_read_fn *read, void *ctx, uint32_t devices, uint64_t blocks, const char *boot_id,
		 char why[512])
{
	struct image im = { read, ctx, why };
	struct pst_check check = { .data = true, .finding = finding, .ctx = &im };
	struct pst_check_io io = {
		.ctx = &im, .devices = devices, .blocks = blocks, .read = image_read, .boot_id = boot_id
	};
	char detail[200] = "";
	pst_err err;

	why[0] = '\0';
	err = pst_check_pool(&io, &check, detail);
	if (err != PST_OK)
		snprintf(why, 512, "the check could not be made: %s: %s", pst_err_name(err), detail);
	return err == PST_OK && check.findings == 0;
}
