/* SPDX-License-Identifier: Apache-2.0 */
/* Limits by name: a table tells where each lies in a structure, its default and its range. Pure; any thread. */
#ifndef PST_BASE_LIMIT_H
#define PST_BASE_LIMIT_H

#include "base/base.h"

struct pst_limit {
	const char *name; /* as the field's */
	size_t offset;
	uint64_t fallback, min, max;
	bool wide; /* uint64_t; else uint32_t */
};

#define PST_LIMIT(type, field, fallback_, min_, max_)                                                    \
	{                                                                                                \
		.name = #field, .offset = offsetof(type, field), .fallback = (fallback_), .min = (min_), \
		.max = (max_), .wide = sizeof(((type *)0)->field) == 8                                   \
	}

#define PST_LIMIT_WHY_BYTES 160u

/*
 * Sets the limit @name of @config. PST_E_NOTFOUND: the table does not have it; PST_E_RANGE: @why says from where to
 * where it goes. On error the structure is as it was.
 */
pst_err PST_MUST_USE pst_limit_set(const struct pst_limit *table, size_t count, void *config, const char *name,
				   uint64_t value, char why[PST_LIMIT_WHY_BYTES]);

/* Puts defaults in the place of zeros. PST_E_RANGE: @why says what does not fit. */
pst_err PST_MUST_USE pst_limit_complete(const struct pst_limit *table, size_t count, void *config,
					char why[PST_LIMIT_WHY_BYTES]);

#endif
