/* SPDX-License-Identifier: Apache-2.0 */
/* The checker of the store on an image that a test holds. */
#ifndef TESTS_SIM_CHECK_IMAGE_H
#define TESTS_SIM_CHECK_IMAGE_H

#include "base/base.h"

/* Reads one block of 4096 bytes of one of the pool's devices; false: it can't be read. */
typedef bool check_image_read_fn(void *ctx, uint32_t device, uint64_t block, void *buf);

/*
 * Everything, data too, of a pool on up to @devices devices, of which the first has @blocks. @boot_id as in struct
 * pst_check_io: NULL, unless only the process has died. False: there were findings, and @why is the first.
 */
bool check_image(check_image_read_fn *read, void *ctx, uint32_t devices, uint64_t blocks, const char *boot_id,
		 char why[512]);

#endif
