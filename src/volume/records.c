/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/records.h"

#include <stdlib.h>
#include <string.h>

/* Index of the first record whose key is not less than @key. */
static size_t lower_bound(const struct pst_records *set, const char *key)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(set->items[mid].key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool found_at(const struct pst_records *set, size_t i, const char *key)
{
	return i < set->count && strcmp(set->items[i].key, key) == 0;
}

static pst_err reserve_one(struct pst_records *set)
{
	if (set->count < set->capacity)
		return PST_OK;

	size_t capacity = set->capacity > 0 ? set->capacity * 2 : 16;
	struct pst_record *items = realloc(set->items, capacity * sizeof(*items));

	if (items == NULL)
		return PST_E_NOMEM;
	set->items = items;
	set->capacity = capacity;
	return PST_OK;
}

pst_err pst_records_put(struct pst_records *set, const char *key, const void *value, uint32_t value_bytes)
{
	size_t i = lower_bound(set, key);
	void *copy = malloc(PST_MAX(value_bytes, 1u));
	char *name = NULL;

	if (copy == NULL)
		return PST_E_NOMEM;
	if (value_bytes > 0)
		memcpy(copy, value, value_bytes);
	if (found_at(set, i, key)) {
		free(set->items[i].value);
	} else {
		name = strdup(key);
		if (name == NULL || reserve_one(set) != PST_OK) {
			free(name);
			free(copy);
			return PST_E_NOMEM;
		}
		memmove(&set->items[i + 1], &set->items[i], (set->count - i) * sizeof(set->items[0]));
		set->items[i].key = name;
		set->count++;
	}
	set->items[i].value = copy;
	set->items[i].value_bytes = value_bytes;
	return PST_OK;
}

pst_err pst_records_delete(struct pst_records *set, const char *key)
{
	size_t i = lower_bound(set, key);

	if (!found_at(set, i, key))
		return PST_E_NOTFOUND;
	free(set->items[i].key);
	free(set->items[i].value);
	set->count--;
	memmove(&set->items[i], &set->items[i + 1], (set->count - i) * sizeof(set->items[0]));
	return PST_OK;
}

void pst_records_each(const struct pst_records *set, const char *prefix, pst_record_fn *fn, void *ctx)
{
	size_t len = strlen(prefix);

	for (size_t i = lower_bound(set, prefix); i < set->count; i++) {
		if (strncmp(set->items[i].key, prefix, len) != 0)
			return;
		fn(ctx, set->items[i].key, set->items[i].value, set->items[i].value_bytes);
	}
}

void pst_records_done(struct pst_records *set)
{
	for (size_t i = 0; i < set->count; i++) {
		free(set->items[i].key);
		free(set->items[i].value);
	}
	free(set->items);
	*set = (struct pst_records){ 0 };
}
