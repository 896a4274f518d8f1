/* SPDX-License-Identifier: Apache-2.0 */
#include "target/status.h"

/*
 * Media errors (Base 2.0, 3.3.3.2.1.3) carry DNR: reading rotten data again does not heal it, and hosts would only
 * retry in vain. What may pass (a full pool, memory, a closing volume) goes without, so that multipath and file systems
 * may try again.
 */
static const struct {
	pst_err err;
	uint16_t read, write;
} table[] = {
	{ PST_OK, NVME_SUCCESS, NVME_SUCCESS },
	{ PST_E_IO, NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR, NVME_WRITE_FAULT | NVME_STATUS_DNR },
	{ PST_E_CHECKSUM, NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR, NVME_WRITE_FAULT | NVME_STATUS_DNR },
	{ PST_E_LOST, NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR, NVME_WRITE_FAULT | NVME_STATUS_DNR },
	{ PST_E_NOSPACE, NVME_INTERNAL_ERROR, NVME_CAPACITY_EXCEEDED },
	{ PST_E_QUOTA, NVME_INTERNAL_ERROR, NVME_CAPACITY_EXCEEDED },
	{ PST_E_RANGE, NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR, NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR },
	{ PST_E_CANCELLED, NVME_ABORT_REQUESTED, NVME_ABORT_REQUESTED },
	{ PST_E_NOMEM, NVME_NAMESPACE_NOT_READY, NVME_NAMESPACE_NOT_READY },
	{ PST_E_AGAIN, NVME_NAMESPACE_NOT_READY, NVME_NAMESPACE_NOT_READY },
};

uint16_t pst_status_of_err(pst_err err, bool write)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(table); i++)
		if (table[i].err == err)
			return write ? table[i].write : table[i].read;
	return NVME_INTERNAL_ERROR;
}
