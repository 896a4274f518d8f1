/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces (struct piece): what of a request lies in one stripe, in one leaf of the map and in one run of blocks. Their
 * number is fixed when the pool is opened; a request that finds none free waits until one is.
 */
#ifndef PST_STORE_PIECE_H
#define PST_STORE_PIECE_H

#include "store/internal.h"

/*
 * The longest range of at most @max blocks at a volume's @lba that lies in one stripe and one leaf: its partition, its
 * first local LBA, its length in blocks.
 */
struct part *piece_locate(struct store *st, uint64_t lba, uint64_t max, uint64_t *ret_local, uint32_t *ret_count);

/* @len bytes of @from, @offset bytes into it, as an array of its own in @to (PST_IO_IOV_MAX); returns its length. */
uint32_t piece_iov(struct iovec *to, const struct iovec *from, uint64_t offset, uint64_t len);

/* CRC32C of the next 4096 bytes of a scattered buffer; *iov and *offset move on. */
uint32_t piece_crc(const struct iovec **iov, size_t *offset);

/* @leaf may be NULL. NULL: the request waits for one. */
struct piece *piece_get(struct req *r, struct part *p, struct node *leaf, uint32_t count);
/* Wakes those that wait for one. */
void piece_put(struct store *st, struct piece *piece);

/*
 * Puts the request's buffers at io_block into the piece, or a bounce buffer where they are not aligned for the file.
 * False: none is free; the piece is given back, the request waits. The piece may become shorter.
 */
bool piece_buffers(struct piece *piece);

/* Reads or writes the piece's blocks; @done runs on a later turn. */
void piece_submit(struct piece *piece, enum pst_file_kind kind, void (*done)(struct pst_file_op *op));

#endif
