/* SPDX-License-Identifier: Apache-2.0 */
#include "target/status.h"

/*
 * Media errors carry DNR: reading rotten data again does not heal it, and hosts would only retry in vain. What may
 * pass (a full pool, memory, a closing volume) goes without, so that multipath and file systems may try again.
 */
static const struct {
	pst_err err;
	uint16_t read, write;
} table[] = {
	{ PST_OK, PST_STATUS_OK, PST_STATUS_OK },
	{ PST_E_IO, PST_STATUS_READ_ERROR | PST_STATUS_DNR, PST_STATUS_WRITE_FAULT | PST_STATUS_DNR },
	{ PST_E_CHECKSUM, PST_STATUS_READ_ERROR | PST_STATUS_DNR, PST_STATUS_WRITE_FAULT | PST_STATUS_DNR },
	{ PST_E_LOST, PST_STATUS_READ_ERROR | PST_STATUS_DNR, PST_STATUS_WRITE_FAULT | PST_STATUS_DNR },
	{ PST_E_NOSPACE, PST_STATUS_INTERNAL, PST_STATUS_CAPACITY_EXCEEDED },
	{ PST_E_QUOTA, PST_STATUS_INTERNAL, PST_STATUS_CAPACITY_EXCEEDED },
	{ PST_E_RANGE, PST_STATUS_LBA_RANGE | PST_STATUS_DNR, PST_STATUS_LBA_RANGE | PST_STATUS_DNR },
	{ PST_E_CANCELLED, PST_STATUS_ABORTED, PST_STATUS_ABORTED },
	{ PST_E_NOMEM, PST_STATUS_NS_NOT_READY, PST_STATUS_NS_NOT_READY },
	{ PST_E_AGAIN, PST_STATUS_NS_NOT_READY, PST_STATUS_NS_NOT_READY },
};

uint16_t pst_status_of_err(pst_err err, bool write)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(table); i++)
		if (table[i].err == err)
			return write ? table[i].write : table[i].read;
	return PST_STATUS_INTERNAL;
}
