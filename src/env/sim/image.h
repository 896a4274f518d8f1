/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse contents of a simulated disk: what was never written reads as zeros and takes no memory. */
#ifndef PST_ENV_SIM_IMAGE_H
#define PST_ENV_SIM_IMAGE_H

#include "base/base.h"

struct sim_image;

struct sim_image *sim_image_new(uint64_t size_bytes);
void sim_image_free(struct sim_image *image);
void sim_image_resize(struct sim_image *image, uint64_t size_bytes);
void sim_image_read(const struct sim_image *image, uint64_t offset, void *buf, uint64_t len);
void sim_image_write(struct sim_image *image, uint64_t offset, const void *data, uint64_t len); /* NULL: zeros */
void sim_image_copy(struct sim_image *to, const struct sim_image *from);                        /* equal sizes */

#endif
