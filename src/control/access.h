/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what with the API: roles, which tokens have, and rights, which routes need (rest-routes.c). Rights are
 * about kinds of objects; which of the objects a caller that is bound to a tenant can see is the catalog's to say
 * (pst_catalog_op.tenant). Pure; any thread.
 */
#ifndef PST_CONTROL_ACCESS_H
#define PST_CONTROL_ACCESS_H

#include "control/policy.h"

enum pst_role {
	PST_ROLE_METRICS,  /* /metrics, all or of one tenant; the weakest comes first, for what was left at zero */
	PST_ROLE_VIEWER,   /* reads, all or what is of one tenant */
	PST_ROLE_TENANT,   /* volumes and snapshots of one tenant */
	PST_ROLE_OPERATOR, /* everything but keys and tokens */
	PST_ROLE_ADMIN,    /* everything */
	PST_ROLES
};

enum pst_right {
	PST_RIGHT_UNSET,       /* what a forgotten route needs: nobody has it */
	PST_RIGHT_ALIVE,       /* is it there, what does it speak */
	PST_RIGHT_METRICS,     /* what Prometheus scrapes */
	PST_RIGHT_READ,        /* what a tenant has: itself, volumes, snapshots, their statistics */
	PST_RIGHT_CHANGE,      /* volumes and snapshots */
	PST_RIGHT_READ_SITE,   /* what is the site's: pools, profiles, ports, hosts, events */
	PST_RIGHT_CHANGE_SITE, /* tenants, profiles, ports, pools */
	PST_RIGHT_SECRETS,     /* keys, hosts' keys, tokens */
	PST_RIGHTS
};

#define PST_TOKEN_ID_BYTES 8u

/* Whose request it is. */
struct pst_caller {
	enum pst_role role;
	char tenant[PST_NAME_MAX + 1];        /* that it is bound to; "": to none */
	bool has_token;                       /* else the unix socket vouches for it */
	uint8_t token_id[PST_TOKEN_ID_BYTES]; /* with has_token */
};

/* "admin" ...; NULL for none of them. */
const char *pst_role_name(unsigned role);
bool pst_role_find(const char *name, enum pst_role *ret_role);

/* May a token of @role be bound to a tenant; must it? */
bool pst_role_may_be_bound(enum pst_role role);
bool pst_role_must_be_bound(enum pst_role role);

/* @bound: the caller is bound to a tenant. */
bool pst_role_may(enum pst_role role, bool bound, enum pst_right right);

#endif
