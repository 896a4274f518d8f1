/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapper around every engine and layer: the contract of the volume interface is asserted here, once. */
#include "volume/volume.h"

static uint64_t iov_bytes(const struct iovec *iov, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	return sum;
}

static void assert_contract(const struct pst_volume *volume, const struct pst_io *io)
{
	pst_assert(io->done != NULL);
	pst_assert(io->kind < PST_IO_KINDS);
	pst_assert((io->flags & ~(uint32_t)PST_IO_FUA) == 0);
	if (io->kind == PST_IO_FLUSH) {
		pst_assert(io->block_count == 0);
		return;
	}
	pst_assert(io->block_count > 0);
	pst_assert(pst_range_ok(io->lba, io->block_count, volume->block_count));
	if (io->kind == PST_IO_READ || io->kind == PST_IO_WRITE) {
		pst_assert(io->block_count <= PST_IO_BLOCKS_MAX);
		pst_assert(io->iov_count > 0 && io->iov_count <= PST_IO_IOV_MAX);
		pst_assert(iov_bytes(io->iov, io->iov_count) == io->block_count * PST_BLOCK_BYTES);
	}
}

void pst_volume_submit(struct pst_volume *volume, struct pst_io *io)
{
	assert_contract(volume, io);
	io->err = PST_OK;
	io->device_ns = 0;
	io->recalled = false;
	volume->ops->submit(volume, io);
}

void pst_volume_recall(struct pst_volume *volume, struct pst_io *io)
{
	if (io->kind != PST_IO_WRITE || io->recalled)
		return;
	io->recalled = true;
	if (volume->ops->recall != NULL)
		volume->ops->recall(volume, io);
}

void pst_volume_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats)
{
	volume->ops->stats(volume, ret_stats);
}

void pst_volume_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	pst_assert(op->done != NULL);
	volume->ops->close(volume, op);
}

bool pst_volume_lend(struct pst_volume *volume, struct pst_loan *loan)
{
	pst_assert(loan->block_count > 0 && pst_range_ok(loan->lba, loan->block_count, volume->block_count));
	if (volume->ops->lend == NULL || !volume->ops->lend(volume, loan))
		return false;
	pst_assert(loan->iov_count > 0 && loan->iov_count <= PST_LOAN_PIECES_MAX);
	pst_assert(iov_bytes(loan->iov, loan->iov_count) == loan->block_count * PST_BLOCK_BYTES);
	return true;
}

void pst_volume_give_back(struct pst_volume *volume, struct pst_loan *loan)
{
	volume->ops->give_back(volume, loan);
}

void pst_volume_expect(struct pst_volume *volume, const struct pst_expected *expected, unsigned count)
{
	if (volume->ops->expect != NULL)
		volume->ops->expect(volume, expected, count);
}

void pst_volume_resized(struct pst_volume *volume)
{
	if (volume->ops->resized != NULL)
		volume->ops->resized(volume);
}
