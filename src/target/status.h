/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVMe status for Penstock's errors, by one table. A status is 16 bits as in proto/nvme.h: SCT << 8 | SC, and the do
 * not retry bit.
 */
#ifndef PST_TARGET_STATUS_H
#define PST_TARGET_STATUS_H

#include "proto/nvme.h"

/* @err of the volume, for a command that wrote (or flushed) or one that read. Never NVME_SUCCESS for an error. */
uint16_t pst_status_of_err(pst_err err, bool write);

#endif
