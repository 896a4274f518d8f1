/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVMe status values that the target answers with: bits 7:0 status code, 10:8 status code type, 14 do not retry, as in
 * bits 15:1 of the completion's last dword. One table turns Penstock's errors into them.
 */
#ifndef PST_TARGET_STATUS_H
#define PST_TARGET_STATUS_H

#include "base/base.h"

#define PST_STATUS_DNR 0x4000u /* the same command would fail again */

/* NVM Express Base 2.0, Status Code figures; NVMe over Fabrics: the Connect codes. */
enum pst_status {
	PST_STATUS_OK = 0x000,
	PST_STATUS_INVALID_OPCODE = 0x001,
	PST_STATUS_INVALID_FIELD = 0x002,
	PST_STATUS_DATA_TRANSFER = 0x004,
	PST_STATUS_INTERNAL = 0x006,
	PST_STATUS_ABORTED = 0x007,
	PST_STATUS_INVALID_NS = 0x00b,
	PST_STATUS_SEQUENCE = 0x00c,
	PST_STATUS_SGL_LENGTH = 0x00f,
	PST_STATUS_SGL_TYPE = 0x011,
	PST_STATUS_HOST_ID_FORMAT = 0x018,
	PST_STATUS_KEEP_ALIVE_FORMAT = 0x01a,
	PST_STATUS_TRANSIENT_TRANSPORT = 0x022,
	PST_STATUS_COMMAND_SET_NOT_ENABLED = 0x02c,
	PST_STATUS_LBA_RANGE = 0x080,
	PST_STATUS_CAPACITY_EXCEEDED = 0x081,
	PST_STATUS_NS_NOT_READY = 0x082,
	PST_STATUS_INVALID_QUEUE_ID = 0x101,
	PST_STATUS_ABORT_LIMIT = 0x103,
	PST_STATUS_AER_LIMIT = 0x105,
	PST_STATUS_INVALID_LOG_PAGE = 0x109,
	PST_STATUS_FEATURE_NOT_SAVEABLE = 0x10d,
	PST_STATUS_FEATURE_NOT_CHANGEABLE = 0x10e,
	PST_STATUS_CONNECT_FORMAT = 0x180,
	PST_STATUS_CONNECT_BUSY = 0x181,
	PST_STATUS_CONNECT_INVALID_PARAM = 0x182,
	PST_STATUS_CONNECT_INVALID_HOST = 0x184,
	PST_STATUS_WRITE_FAULT = 0x280,
	PST_STATUS_READ_ERROR = 0x281,
};

/* @err of the volume, for a command that wrote (or flushed) or one that read. Never PST_STATUS_OK for an error. */
uint16_t pst_status_of_err(pst_err err, bool write);

#endif
