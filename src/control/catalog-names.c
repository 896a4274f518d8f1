/* SPDX-License-Identifier: Apache-2.0 */
/* A hash to find by, and a sorted list to go through; both hold the same objects. */
#include "control/catalog-names.h"

#include <string.h>

static struct cat_named *at(const struct cat_names *names, struct pst_list *l)
{
	return l != &names->sorted ? pst_container_of(l, struct cat_named, node) : NULL;
}

void cat_names_init(struct cat_names *names, uint64_t seed)
{
	pst_hash_init(&names->hash, seed);
	pst_list_init(&names->sorted);
}

void cat_names_done(struct cat_names *names)
{
	pst_hash_done(&names->hash);
}

void cat_names_add(struct cat_names *names, struct cat_named *named, const char *name)
{
	struct pst_list *last = names->sorted.prev;

	while (last != &names->sorted && strcmp(at(names, last)->name, name) > 0)
		last = last->prev;
	named->name = name;
	pst_list_add_before(last->next, &named->node);
	pst_hash_add(&names->hash, &named->hashed, pst_hash_string(&names->hash, name));
}

void cat_names_remove(struct cat_names *names, struct cat_named *named)
{
	pst_list_remove(&named->node);
	pst_hash_remove(&names->hash, &named->hashed);
}

struct cat_named *cat_names_find(const struct cat_names *names, const char *name)
{
	PST_HASH_EACH(it, &names->hash, pst_hash_string(&names->hash, name))
	{
		struct cat_named *named = pst_container_of(it, struct cat_named, hashed);

		if (strcmp(named->name, name) == 0)
			return named;
	}
	return NULL;
}

struct cat_named *cat_names_next(const struct cat_names *names, const struct cat_named *named)
{
	return at(names, named != NULL ? named->node.next : names->sorted.next);
}

struct cat_named *cat_names_after(const struct cat_names *names, const char *name)
{
	struct cat_named *named = cat_names_find(names, name);

	if (named != NULL)
		return cat_names_next(names, named);
	named = cat_names_next(names, NULL);
	while (named != NULL && strcmp(named->name, name) < 0)
		named = cat_names_next(names, named);
	return named;
}
