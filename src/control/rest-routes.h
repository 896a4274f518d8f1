/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API has: paths, methods, what each asks of the catalog, and which right each needs (access.h). One table, so
 * that no route can be added without one: what is left out is PST_RIGHT_UNSET, which nobody has and a unit test finds.
 * openapi.json says the same to users; tests/e2e/test_tokens.py tries every role on every route of it. Pure; any
 * thread.
 */
#ifndef PST_CONTROL_REST_ROUTES_H
#define PST_CONTROL_REST_ROUTES_H

#include "control/catalog.h"

enum pst_method { PST_GET, PST_POST, PST_PATCH, PST_DELETE, PST_METHODS };

extern const char *const pst_method_names[PST_METHODS];

enum pst_route_work {
	PST_ROUTE_CATALOG,
	PST_ROUTE_HEALTH, /* of the catalog, too: a home shard that can't turn does not answer */
	PST_ROUTE_STATS,
	PST_ROUTE_METRICS,
	PST_ROUTE_OPENAPI,
};

struct pst_route {
	const char *path; /* {} stands for a name; at the end, for all that follows */
	enum pst_route_work work;
	enum pst_catalog_object object;
	unsigned methods; /* bit mask of 1 << enum pst_method */
	enum pst_right rights[PST_METHODS];
	enum pst_catalog_op_kind kinds[PST_METHODS];
};

#define PST_ROUTE_NAMES 2u
#define PST_ROUTE_NAME_BYTES                                                                     \
	(PST_NQN_MAX + 2) /* one more than the longest: a longer one is not found instead of cut \
			   */

/* By index; NULL at the end. */
const struct pst_route *pst_route_at(size_t index);

/* The first that @url fits, with what stands for {} in @names; NULL: there is nothing. */
const struct pst_route *pst_route_find(const char *url, char names[PST_ROUTE_NAMES][PST_ROUTE_NAME_BYTES]);

/* PST_METHODS: none that the API has. */
enum pst_method pst_method_find(const char *name);

static inline bool pst_route_has(const struct pst_route *route, enum pst_method method)
{
	return method < PST_METHODS && (route->methods & (1u << method)) != 0;
}

#endif
