/* SPDX-License-Identifier: Apache-2.0 */
/* The checker of the store on an image that a test holds. */
#ifndef TESTS_SIM_CHECK_IMAGE_H
#define TESTS_SIM_CHECK_IMAGE_H

#include "base/base.h"

/* Reads one block of 4096 bytes; false: it can't be read. */
typedef bool check_image_read_fn(void *ctx, uint64_t block, void *buf);

/*
 * Everything, data too. @boot_id as in struct pst_check_io: NULL, unless only the process has died. False: there were
 * findings, and @why is the first.
 */
bool check_image(check_image_read_fn *read, void *ctx, uint64_t blocks, const char *boot_id, char why[512]);

#endif
