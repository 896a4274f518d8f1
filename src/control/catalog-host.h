/* SPDX-License-Identifier: Apache-2.0 */
/* What catalog-host.c (what is said of hosts) and catalog-host-keys.c (what is done to their keys) share. */
#ifndef PST_CONTROL_CATALOG_HOST_H
#define PST_CONTROL_CATALOG_HOST_H

#include "control/catalog-internal.h"

static inline bool cat_host_has(const struct cat_host *h, unsigned key)
{
	return h->keys[key].wrapped_bytes > 0;
}

/* That its keys are wrapped with: of the first that it has. */
static inline const char *cat_host_kek(const struct cat_host *h)
{
	return h->keys[cat_host_has(h, CAT_HOST_KEY) ? CAT_HOST_KEY : CAT_TLS_KEY].kek_id;
}

/* NULL: there is none. */
struct cat_host *cat_host_find(struct pst_catalog *c, const char *nqn);
/* The caller's; NULL: out of memory. */
json_t *cat_host_record(const struct cat_host *h);

/*
 * The row of steps, for one host at a time: c->host.next begins as @h and may be changed before cat_host_work_next runs
 * the steps; then @done, inside the call or later, after which nothing unwrapped is left. First there has to be memory
 * for secrets.
 */
bool cat_host_work_memory(struct pst_catalog *c);
void cat_host_work_begin(struct pst_catalog *c, const struct cat_host *h,
			 void (*done)(struct pst_catalog *c, pst_err err));
void cat_host_work_next(struct pst_catalog *c);

#endif
