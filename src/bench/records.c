/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/feed.h"

#include "base/crc32c.h"

#include <string.h>

struct record_header {
	uint64_t magic;
	uint32_t number;
	uint32_t crc; /* of all that follows the header, and of number and seed */
	uint64_t seed;
};

#define MAGIC 0x64726f6365725f70u

uint64_t pst_record_stride(const struct pst_record_layout *layout)
{
	return pst_round_up(layout->record_bytes, 4096);
}

static uint32_t record_crc(const struct pst_record_layout *layout, const struct record_header *h, const void *buf)
{
	uint32_t crc = pst_crc32c(&h->seed, sizeof(h->seed));

	crc = pst_crc32c_more(crc, &h->number, sizeof(h->number));
	return pst_crc32c_more(crc, (const char *)buf + sizeof(*h), layout->record_bytes - sizeof(*h));
}

void pst_record_make(const struct pst_record_layout *layout, uint32_t number, void *buf)
{
	struct record_header h = { .magic = MAGIC, .number = number, .seed = layout->seed };
	struct pst_prng prng;
	char *at = buf;

	pst_prng_init(&prng, layout->seed ^ ((uint64_t)number << 32));
	memset(at, 0, pst_record_stride(layout));
	for (size_t i = sizeof(h); i + 8 <= layout->record_bytes; i += 8) {
		uint64_t v = pst_prng_next(&prng);

		memcpy(at + i, &v, sizeof(v));
	}
	h.crc = record_crc(layout, &h, buf);
	memcpy(at, &h, sizeof(h));
}

bool pst_record_ok(const struct pst_record_layout *layout, uint32_t number, const void *buf)
{
	struct record_header h;

	memcpy(&h, buf, sizeof(h));
	return h.magic == MAGIC && h.number == number && h.seed == layout->seed && h.crc == record_crc(layout, &h, buf);
}
