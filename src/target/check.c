/* SPDX-License-Identifier: Apache-2.0 */
#include "target/check.h"
#include "base/le.h"
#include "target/identify.h"
#include "target/reservation.h"

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)

/* I/O commands of the NVM command set that we have (NVM 1.0, 3.2). */
static const struct io_opcode {
	uint8_t opcode;
	bool any_nsid;  /* FFFFFFFFh means all namespaces */
	bool has_range; /* SLBA and NLB */
	bool fua;
	uint8_t access; /* Base 2.0, 8.19; NVM 1.0, 5.5: Flush is of the commands that write */
	enum pst_op op;
	enum pst_io_kind kind;
	enum pst_data_direction direction;
} opcodes[] = {
	/* Base 2.0, 7.1; NVM 1.0, 3.2.1, 3.2.2, 3.2.3, 3.2.4, 3.2.5, 3.2.6, 3.2.8; Base 2.0, 7.2 to 7.5 */
	{ NVME_CMD_FLUSH, true, false, false, PST_ACCESS_WRITE, PST_OP_PLAIN, PST_IO_FLUSH, PST_DATA_NONE },
	{ NVME_CMD_WRITE, false, true, true, PST_ACCESS_WRITE, PST_OP_PLAIN, PST_IO_WRITE, PST_DATA_FROM_HOST },
	{ NVME_CMD_READ, false, true, true, PST_ACCESS_READ, PST_OP_PLAIN, PST_IO_READ, PST_DATA_TO_HOST },
	{ NVME_CMD_COMPARE, false, true, true, PST_ACCESS_READ, PST_OP_COMPARE, PST_IO_READ, PST_DATA_FROM_HOST },
	{ NVME_CMD_WRITE_ZEROES, false, true, true, PST_ACCESS_WRITE, PST_OP_PLAIN, PST_IO_WRITE_ZEROES,
	  PST_DATA_NONE },
	{ NVME_CMD_DSM, false, false, false, PST_ACCESS_WRITE, PST_OP_PLAIN, PST_IO_DISCARD, PST_DATA_FROM_HOST },
	{ NVME_CMD_VERIFY, false, true, true, PST_ACCESS_READ, PST_OP_VERIFY, PST_IO_READ, PST_DATA_NONE },
	{ NVME_CMD_COPY, false, false, true, PST_ACCESS_READ | PST_ACCESS_WRITE, PST_OP_COPY, PST_IO_WRITE,
	  PST_DATA_FROM_HOST },
	{ NVME_CMD_RESV_REGISTER, false, false, false, 0, PST_OP_RESERVATION, PST_IO_FLUSH, PST_DATA_FROM_HOST },
	{ NVME_CMD_RESV_REPORT, false, false, false, 0, PST_OP_RESERVATION, PST_IO_FLUSH, PST_DATA_TO_HOST },
	{ NVME_CMD_RESV_ACQUIRE, false, false, false, 0, PST_OP_RESERVATION, PST_IO_FLUSH, PST_DATA_FROM_HOST },
	{ NVME_CMD_RESV_RELEASE, false, false, false, 0, PST_OP_RESERVATION, PST_IO_FLUSH, PST_DATA_FROM_HOST },
};

uint32_t pst_sgl_length(const void *entry)
{
	return pst_get_le32((const uint8_t *)entry + 32);
}

uint16_t pst_check_sgl(const void *entry, enum pst_data_direction direction, uint32_t data_bytes, bool length_exact,
		       uint32_t incapsule_bytes)
{
	const uint8_t *sqe = entry;
	uint32_t length = pst_sgl_length(sqe);

	if ((sqe[1] >> 6) != 1) /* PSDT: Fabrics uses SGLs only */
		return BAD_FIELD;
	if (sqe[39] == NVME_SGL_IN_CAPSULE) {
		if (direction != PST_DATA_FROM_HOST)
			return NVME_SGL_TYPE_INVALID | NVME_STATUS_DNR;
		/* Address: offset into the capsule's data. We say ICDOFF 0 and one descriptor: it starts there. */
		if (pst_get_le64(sqe + 24) != 0)
			return BAD_FIELD;
		if (length != incapsule_bytes)
			return NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR;
	} else if (sqe[39] == NVME_SGL_TRANSPORT) {
		if (incapsule_bytes != 0)
			return NVME_SGL_TYPE_INVALID | NVME_STATUS_DNR;
	} else if (direction != PST_DATA_NONE || length != 0) {
		return NVME_SGL_TYPE_INVALID | NVME_STATUS_DNR;
	}
	if (length_exact ? length != data_bytes : length < data_bytes)
		return NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR;
	return NVME_SUCCESS;
}

/* NVM 1.0, 3.2.2: Copy. */
static uint16_t check_copy_fields(const uint8_t *sqe, struct pst_checked_io *io)
{
	uint32_t cdw12 = pst_get_le32(sqe + 48), offered = pst_sgl_length(sqe);

	if ((cdw12 >> 8 & 15) != 0) /* descriptor format */
		return BAD_FIELD;
	io->lba = pst_get_le64(sqe + 40); /* SDLBA */
	io->range_count = (cdw12 & 0xff) + 1;
	if (io->range_count > PST_TARGET_COPY_RANGES_MAX) /* MSRC */
		return NVME_COMMAND_SIZE_LIMIT | NVME_STATUS_DNR;
	io->data_bytes =
	    PST_MAX(io->range_count * (uint32_t)sizeof(struct nvme_copy_source), PST_MIN(offered, PST_BLOCK_BYTES));
	return NVME_SUCCESS;
}

/* Hosts may send more than the keys (Linux always sent 16 bytes); what is behind them is not looked at. */
static uint16_t check_reservation(const uint8_t *sqe, uint32_t incapsule_bytes, const struct pst_check_limits *limits,
				  struct pst_checked_io *io)
{
	struct pst_reservation_request request;
	uint16_t status = pst_reservation_parse(sqe, &request);

	if (status != NVME_SUCCESS)
		return status;
	if (request.data_bytes > limits->transfer_bytes_max) /* MDTS: of the report */
		return BAD_FIELD;
	io->data_bytes = request.data_bytes;
	if (io->direction == PST_DATA_FROM_HOST)
		io->data_bytes = PST_MAX(request.data_bytes, PST_MIN(pst_sgl_length(sqe), PST_BLOCK_BYTES));
	return pst_check_sgl(sqe, io->direction, io->data_bytes, false, incapsule_bytes);
}

uint16_t pst_check_io(const void *entry, uint32_t incapsule_bytes, const struct pst_check_limits *limits,
		      struct pst_checked_io *ret)
{
	const uint8_t *sqe = entry;
	const struct io_opcode *op = NULL;
	uint32_t nsid = pst_get_le32(sqe + 4), cdw12 = pst_get_le32(sqe + 48);
	struct pst_checked_io io = { 0 };
	unsigned fuse;
	uint16_t status;

	for (size_t i = 0; i < PST_ARRAY_COUNT(opcodes); i++)
		if (opcodes[i].opcode == sqe[0])
			op = &opcodes[i];
	if (op == NULL)
		return NVME_INVALID_OPCODE | NVME_STATUS_DNR;
	fuse = sqe[1] & 3; /* Base 2.0, 3.4.2: Compare and Write is the only fused operation (FUSES) */
	if (fuse != 0 && !(fuse == 1 && sqe[0] == NVME_CMD_COMPARE) && !(fuse == 2 && sqe[0] == NVME_CMD_WRITE))
		return BAD_FIELD;
	if (nsid != limits->nsid && !(op->any_nsid && nsid == PST_NSID_ALL))
		return NVME_INVALID_NAMESPACE | NVME_STATUS_DNR;
	io.kind = op->kind;
	io.direction = op->direction;
	io.access = op->access;
	io.op = op->op;
	if (op->has_range) {
		io.lba = pst_get_le64(sqe + 40);
		io.block_count = (uint64_t)(cdw12 & 0xffff) + 1;
	}
	if (fuse != 0 && io.block_count > 1) /* ACWU (NVM 1.0, 2.1.3.1) */
		return NVME_ATOMIC_UNIT_EXCEEDED | NVME_STATUS_DNR;
	if (op->fua && (cdw12 & 1u << 30) != 0)
		io.flags |= PST_IO_FUA;
	if (op->op == PST_OP_RESERVATION) {
		*ret = io;
		return check_reservation(sqe, incapsule_bytes, limits, ret);
	}
	if (op->op == PST_OP_COPY) {
		status = check_copy_fields(sqe, &io);
		if (status != NVME_SUCCESS)
			return status;
	} else if (op->op == PST_OP_VERIFY) {
		if (io.block_count > 1u << PST_TARGET_VERIFY_SHIFT) /* VSL (NVM 1.0, 3.2.5) */
			return BAD_FIELD;
	} else if (op->kind == PST_IO_DISCARD) {
		uint32_t offered = PST_MIN(pst_sgl_length(sqe), PST_TARGET_DSM_RANGES_MAX * 16);

		io.range_count = (pst_get_le32(sqe + 40) & 0xff) + 1;
		io.data_bytes = PST_MAX(io.range_count * 16, offered);
		io.nothing_to_do = (pst_get_le32(sqe + 44) & 1u << 2) == 0; /* AD: deallocate */
	} else if (op->direction != PST_DATA_NONE) {
		if (io.block_count * PST_BLOCK_BYTES > limits->transfer_bytes_max) /* MDTS */
			return BAD_FIELD;
		io.data_bytes = (uint32_t)io.block_count * PST_BLOCK_BYTES;
	}
	*ret = io;
	return pst_check_sgl(sqe, op->direction, io.data_bytes, op->has_range && op->direction != PST_DATA_NONE,
			     incapsule_bytes);
}

uint16_t pst_check_ranges(const uint8_t *data, uint32_t count, uint64_t block_count, struct pst_block_range *ranges,
			  uint32_t *ret_count)
{
	uint32_t kept = 0;

	pst_assert(count <= PST_TARGET_DSM_RANGES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t lba = pst_get_le64(data + 16 * (size_t)i + 8);
		uint64_t blocks = pst_get_le32(data + 16 * (size_t)i + 4);
		struct pst_block_range *last = kept > 0 ? &ranges[kept - 1] : NULL;

		if (!pst_range_ok(lba, blocks, block_count))
			return NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
		if (blocks == 0)
			continue;
		if (last != NULL && last->lba + last->block_count == lba)
			last->block_count += blocks;
		else
			ranges[kept++] = (struct pst_block_range){ .lba = lba, .block_count = blocks };
	}
	*ret_count = kept;
	return NVME_SUCCESS;
}

uint16_t pst_check_copy(const uint8_t *data, uint32_t count, uint64_t lba, uint64_t block_count,
			struct pst_block_range *ranges, uint64_t *ret_blocks)
{
	uint64_t total = 0;

	pst_assert(count <= PST_TARGET_COPY_RANGES_MAX);
	for (uint32_t i = 0; i < count; i++) { /* in place: a range is shorter than its descriptor */
		uint64_t from = pst_get_le64(data + 32 * (size_t)i + 8);
		uint64_t blocks = (uint64_t)pst_get_le16(data + 32 * (size_t)i + 16) + 1;

		if (blocks > PST_TARGET_COPY_BLOCKS_MAX) /* MSSRL */
			return NVME_COMMAND_SIZE_LIMIT | NVME_STATUS_DNR;
		if (!pst_range_ok(from, blocks, block_count))
			return NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
		ranges[i] = (struct pst_block_range){ .lba = from, .block_count = blocks };
		total += blocks;
	}
	if (total > PST_TARGET_COPY_BLOCKS_MAX) /* MCL */
		return NVME_COMMAND_SIZE_LIMIT | NVME_STATUS_DNR;
	if (!pst_range_ok(lba, total, block_count))
		return NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
	for (uint32_t i = 0; i < count; i++)
		if (ranges[i].lba < lba + total && lba < ranges[i].lba + ranges[i].block_count)
			return BAD_FIELD;
	*ret_blocks = total;
	return NVME_SUCCESS;
}
