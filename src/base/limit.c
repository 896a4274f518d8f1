/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limit.h"

#include <stdio.h>
#include <string.h>

static uint64_t get(const void *config, const struct pst_limit *limit)
{
	const char *at = (const char *)config + limit->offset;
	uint64_t wide;
	uint32_t narrow;

	if (limit->wide) {
		memcpy(&wide, at, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return narrow;
}

static void set(void *config, const struct pst_limit *limit, uint64_t value)
{
	char *at = (char *)config + limit->offset;
	uint32_t narrow = (uint32_t)value;

	if (limit->wide)
		memcpy(at, &value, sizeof(value));
	else
		memcpy(at, &narrow, sizeof(narrow));
}

static pst_err set_checked(const struct pst_limit *limit, void *config, uint64_t value, char why[PST_LIMIT_WHY_BYTES])
{
	if (value >= limit->min && value <= limit->max) {
		set(config, limit, value);
		return PST_OK;
	}
	snprintf(why, PST_LIMIT_WHY_BYTES, "%s is from %llu to %llu, not %llu", limit->name,
		 (unsigned long long)limit->min, (unsigned long long)limit->max, (unsigned long long)value);
	return PST_E_RANGE;
}

pst_err pst_limit_set(const struct pst_limit *table, size_t count, void *config, const char *name, uint64_t value,
		      char why[PST_LIMIT_WHY_BYTES])
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(table[i].name, name) == 0)
			return set_checked(&table[i], config, value, why);
	snprintf(why, PST_LIMIT_WHY_BYTES, "there is no such limit");
	return PST_E_NOTFOUND;
}

pst_err pst_limit_complete(const struct pst_limit *table, size_t count, void *config, char why[PST_LIMIT_WHY_BYTES])
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = get(config, &table[i]);
		pst_err err = set_checked(&table[i], config, value > 0 ? value : table[i].fallback, why);

		if (err != PST_OK)
			return err;
	}
	return PST_OK;
}
