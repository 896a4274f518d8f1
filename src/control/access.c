/* SPDX-License-Identifier: Apache-2.0 */
#include "control/access.h"

#include <string.h>

#define R(right) (1u << PST_RIGHT_##right)
#define READER (R(ALIVE) | R(METRICS) | R(READ))

static const struct {
	const char *name;
	unsigned rights;       /* bit mask of enum pst_right */
	bool bound, bound_too; /* to a tenant: always; also */
} roles[PST_ROLES] = {
	[PST_ROLE_ADMIN] = { "admin", READER | R(CHANGE) | R(READ_SITE) | R(CHANGE_SITE) | R(SECRETS), false, false },
	[PST_ROLE_OPERATOR] = { "operator", READER | R(CHANGE) | R(READ_SITE) | R(CHANGE_SITE), false, false },
	[PST_ROLE_TENANT] = { "tenant", READER | R(CHANGE), true, true },
	[PST_ROLE_VIEWER] = { "viewer", READER | R(READ_SITE), false, true },
	[PST_ROLE_METRICS] = { "metrics", R(METRICS), false, true },
};

const char *pst_role_name(unsigned role)
{
	return role < PST_ROLES ? roles[role].name : NULL;
}

bool pst_role_find(const char *name, enum pst_role *ret_role)
{
	for (unsigned i = 0; i < PST_ROLES; i++)
		if (strcmp(roles[i].name, name) == 0) {
			*ret_role = (enum pst_role)i;
			return true;
		}
	return false;
}

bool pst_role_may_be_bound(enum pst_role role)
{
	return roles[role].bound_too;
}

bool pst_role_must_be_bound(enum pst_role role)
{
	return roles[role].bound;
}

bool pst_role_may(enum pst_role role, bool bound, enum pst_right right)
{
	/* Whatever the role: the site's objects are not a tenant's. */
	unsigned tenants = READER | R(CHANGE);
	unsigned rights = bound ? roles[role].rights & tenants : roles[role].rights;

	return right != PST_RIGHT_UNSET && right < PST_RIGHTS && (rights & (1u << right)) != 0;
}
