/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the image of a pool with a reader of its own, from docs/store-format.md: for closed pools. */
#ifndef TESTS_SIM_POOL_IMAGE_H
#define TESTS_SIM_POOL_IMAGE_H

#include "base/base.h"

/* Reads one block of 4096 bytes; false: out of range. */
typedef bool pool_image_read_fn(void *ctx, uint64_t block, void *buf);

/*
 * Every node, data block and space map page reached from the roots has its checksum; no block is reached twice; the
 * space map names exactly what is reached. False: *why says what does not hold.
 */
bool pool_image_check(pool_image_read_fn *read, void *ctx, char why[256]);

#endif
