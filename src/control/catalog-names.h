/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the catalog keeps what has a name: each kind of object is found by name through a hash, and gone through in the
 * order of names, which is the order of listings and the one that work over many objects goes on in after each turn.
 * An object embeds a struct cat_named, and stays where it is while it is in. Home shard only.
 */
#ifndef PST_CONTROL_CATALOG_NAMES_H
#define PST_CONTROL_CATALOG_NAMES_H

#include "base/hash.h"
#include "base/list.h"

struct cat_named {
	struct pst_list node; /* names->sorted */
	struct pst_hash_node hashed;
	const char *name; /* the object's own, which does not change */
};

struct cat_names {
	struct pst_hash hash;
	struct pst_list sorted;
};

/* @seed: random, as names come from callers. */
void cat_names_init(struct cat_names *names, uint64_t seed);
void cat_names_done(struct cat_names *names); /* empty by now */

/*
 * @name is not there yet, and lives as long as the object. Never fails. Its place is looked for from the last name
 * back: names that come in order, as records do, are not compared with all the others.
 */
void cat_names_add(struct cat_names *names, struct cat_named *named, const char *name);
void cat_names_remove(struct cat_names *names, struct cat_named *named);

static inline unsigned cat_names_count(const struct cat_names *names)
{
	return names->hash.count;
}

/* NULL: there is none. */
struct cat_named *cat_names_find(const struct cat_names *names, const char *name);

/* The one behind @named, for NULL the first; NULL: no more. */
struct cat_named *cat_names_next(const struct cat_names *names, const struct cat_named *named);

/* The first behind @name, for "" the first of all; NULL: no more. Found at once while there is one of that name. */
struct cat_named *cat_names_after(const struct cat_names *names, const char *name);

/* @it may be removed in the body. */
#define CAT_NAMES_EACH(it, names)                                                                                    \
	for (struct cat_named *it = cat_names_next(names, NULL), *it##_next = it ? cat_names_next(names, it) : NULL; \
	     (it) != NULL; (it) = it##_next, it##_next = it ? cat_names_next(names, it) : NULL)

#endif
