/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of 4096 bytes; a buffer of order n is 2^n of them, aligned to its size. Free buffers hang in a list per order,
 * linked by block number through a side table (the memory itself is not touched, so what is never used is never
 * resident). Freeing joins a buffer with its buddy as long as that one is free and whole. Last freed, first used.
 */
#include "target/buffers.h"

#include <stdlib.h>

#define BLOCK_BYTES 4096u
#define NONE UINT32_MAX

struct pst_buffer_block {
	uint32_t next, prev;
	uint8_t free_order; /* of the free buffer that begins here; NOT_FREE else */
};

#define NOT_FREE 0xff

static uint32_t order_of(uint32_t bytes)
{
	uint32_t blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

	return blocks <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(blocks - 1);
}

uint32_t pst_buffers_round(uint32_t bytes)
{
	return BLOCK_BYTES << order_of(bytes);
}

static void push(struct pst_buffers *b, uint32_t block, uint32_t order)
{
	uint32_t head = b->head[order];

	b->blocks[block] = (struct pst_buffer_block){ .next = head, .prev = NONE, .free_order = (uint8_t)order };
	if (head != NONE)
		b->blocks[head].prev = block;
	b->head[order] = block;
}

static void unlink_free(struct pst_buffers *b, uint32_t block)
{
	struct pst_buffer_block *it = &b->blocks[block];

	if (it->prev != NONE)
		b->blocks[it->prev].next = it->next;
	else
		b->head[it->free_order] = it->next;
	if (it->next != NONE)
		b->blocks[it->next].prev = it->prev;
	it->free_order = NOT_FREE;
}

pst_err pst_buffers_init(struct pst_buffers *b, uint64_t total_bytes, uint32_t buffer_bytes_max)
{
	*b = (struct pst_buffers){ 0 };
	pst_assert(pst_is_pow2(buffer_bytes_max) && buffer_bytes_max >= BLOCK_BYTES);
	b->top_order = order_of(buffer_bytes_max);
	pst_assert(b->top_order < PST_BUFFER_ORDERS);
	total_bytes = pst_round_up(PST_MAX(total_bytes, buffer_bytes_max), buffer_bytes_max);
	b->block_count = (uint32_t)(total_bytes / BLOCK_BYTES);
	b->memory = aligned_alloc(BLOCK_BYTES, total_bytes);
	b->blocks = calloc(b->block_count, sizeof(*b->blocks));
	if (b->memory == NULL || b->blocks == NULL) {
		pst_buffers_done(b);
		return PST_E_NOMEM;
	}
	for (uint32_t order = 0; order < PST_BUFFER_ORDERS; order++)
		b->head[order] = NONE;
	for (uint32_t block = 0; block < b->block_count; block++)
		b->blocks[block].free_order = NOT_FREE;
	for (uint32_t block = b->block_count; block > 0; block -= 1u << b->top_order)
		push(b, block - (1u << b->top_order), b->top_order);
	return PST_OK;
}

void pst_buffers_done(struct pst_buffers *b)
{
	pst_assert(b->used_bytes == 0);
	free(b->memory);
	free(b->blocks);
	*b = (struct pst_buffers){ 0 };
}

void *pst_buffers_get(struct pst_buffers *b, uint32_t bytes)
{
	uint32_t want = order_of(bytes), order = want, block;

	pst_assert(bytes > 0 && want <= b->top_order);
	while (order <= b->top_order && b->head[order] == NONE)
		order++;
	if (order > b->top_order)
		return NULL;
	block = b->head[order];
	unlink_free(b, block);
	while (order > want) {
		order--;
		push(b, block + (1u << order), order);
	}
	b->used_bytes += BLOCK_BYTES << want;
	return b->memory + (size_t)block * BLOCK_BYTES;
}

void pst_buffers_put(struct pst_buffers *b, void *buffer, uint32_t bytes)
{
	uint32_t order = order_of(bytes);
	uint32_t block = (uint32_t)((size_t)((uint8_t *)buffer - b->memory) / BLOCK_BYTES);

	pst_assert(block < b->block_count && b->blocks[block].free_order == NOT_FREE);
	b->used_bytes -= BLOCK_BYTES << order;
	while (order < b->top_order) {
		uint32_t buddy = block ^ 1u << order;

		if (b->blocks[buddy].free_order != order)
			break;
		unlink_free(b, buddy);
		block &= ~(1u << order);
		order++;
	}
	push(b, block, order);
}
