/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PST_STORE_PREFETCH_H
#define PST_STORE_PREFETCH_H

#include "store/internal.h"

void prefetch_init(struct part *p);

/* A write of @count blocks of volume @v has come to its local LBA @local on partition @p. */
void prefetch_leaf(struct part *p, const struct svol *v, uint64_t local, uint64_t count);

#endif
