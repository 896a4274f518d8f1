/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of commands before anything is done for them: a table of opcodes, then fields, then the SGL. Pure: the 64
 * bytes of the submission queue entry in, a status or what to do out.
 */
#ifndef PST_TARGET_CHECK_H
#define PST_TARGET_CHECK_H

#include "target/status.h"
#include "volume/volume.h"

#define PST_NSID_ALL 0xffffffffu

enum pst_data_direction { PST_DATA_NONE, PST_DATA_TO_HOST, PST_DATA_FROM_HOST };

enum pst_op {
	PST_OP_PLAIN, /* one request to the volume, or one for each range */
	PST_OP_RESERVATION,
	PST_OP_COMPARE, /* these are several requests: compound.c */
	PST_OP_VERIFY,
	PST_OP_COPY,
	PST_OP_COMPARE_WRITE, /* the second of two fused commands */
};

/* An I/O command, understood. Ranges of Dataset Management come later, with its data. */
struct pst_checked_io {
	enum pst_op op;
	uint8_t access;        /* bits of PST_ACCESS_*: what a reservation may forbid */
	enum pst_io_kind kind; /* of other than plain ones: what it costs */
	enum pst_data_direction direction;
	uint32_t flags;            /* PST_IO_FUA */
	uint64_t lba, block_count; /* Copy: of the destination, its count is known with the data */
	uint32_t data_bytes;       /* to be transferred */
	uint32_t range_count;      /* Dataset Management, Copy: as the host says; the data holds at least so many */
	bool nothing_to_do;        /* Dataset Management without the deallocate attribute */
};

struct pst_check_limits {
	uint32_t nsid;
	uint32_t transfer_bytes_max;
};

/*
 * @incapsule_bytes: data that came with the capsule. Returns the status; *ret is valid for NVME_SUCCESS only. The
 * range is checked against the volume's size at dispatch, on the volume's shard (it may be resized).
 */
uint16_t pst_check_io(const void *entry, uint32_t incapsule_bytes, const struct pst_check_limits *limits,
		      struct pst_checked_io *ret);

/*
 * SGL 1 of a command that transfers @data_bytes. In-capsule (01h) only from the host; transport data (5Ah) both ways.
 * @length_exact: the descriptor must match (reads and writes), else it may be longer (a buffer to fill; the list of
 * ranges, for which Linux always sends 4096 bytes).
 */
uint16_t pst_check_sgl(const void *entry, enum pst_data_direction direction, uint32_t data_bytes, bool length_exact,
		       uint32_t incapsule_bytes);

/* Length that SGL 1 offers. @entry: the 64 bytes, as everywhere here. */
uint32_t pst_sgl_length(const void *entry);

/*
 * Dataset Management: joins neighbours that touch among the host's @count ranges, drops empty ones, and
 * checks each against @block_count. Returns the status; *ret_count ranges remain in @ranges (lba, blocks pairs).
 */
struct pst_block_range {
	uint64_t lba, block_count;
};

/*
 * Copy: the @count source ranges in @data (format 0), into @ranges; *ret_blocks: how many in all, for the destination
 * at
 * @lba. Sources may not overlap the destination, whose content would depend on the order. Returns the status.
 */
uint16_t pst_check_copy(const uint8_t *data, uint32_t count, uint64_t lba, uint64_t block_count,
			struct pst_block_range *ranges, uint64_t *ret_blocks);

uint16_t pst_check_ranges(const uint8_t *data, uint32_t count, uint64_t block_count, struct pst_block_range *ranges,
			  uint32_t *ret_count);

#endif
