/* SPDX-License-Identifier: Apache-2.0 */
#include "control/rest-routes.h"

#include <stdio.h>
#include <string.h>

const char *const pst_method_names[PST_METHODS] = { "GET", "POST", "PATCH", "DELETE" };

/* clang-format off */
/* The first that fits counts. */
static const struct pst_route routes[] = {
	/* path, whose work, of what, methods
	 *   the right that each needs
	 *   what each does */
	{ "/healthz", PST_ROUTE_HEALTH, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_ALIVE },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/metrics", PST_ROUTE_METRICS, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_METRICS },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/openapi.json", PST_ROUTE_OPENAPI, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_ALIVE },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/v1/stats", PST_ROUTE_STATS, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/v1/pools", PST_ROUTE_CATALOG, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ_SITE },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/v1/pools/{}/tasks", PST_ROUTE_CATALOG, PST_CATALOG_TASK, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/pools/{}/tasks/{}", PST_ROUTE_CATALOG, PST_CATALOG_TASK, 1u << PST_DELETE,
	  { [PST_DELETE] = PST_RIGHT_CHANGE_SITE },
	  { [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/pools/{}/devices", PST_ROUTE_CATALOG, PST_CATALOG_DEVICE, 1u << PST_POST,
	  { [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/pools/{}/grow", PST_ROUTE_CATALOG, PST_CATALOG_POOL, 1u << PST_POST,
	  { [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_POST] = PST_CATALOG_SET } },
	{ "/v1/pools/{}/check", PST_ROUTE_CATALOG, PST_CATALOG_CHECK, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/events", PST_ROUTE_CATALOG, PST_CATALOG_EVENT, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ_SITE },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/v1/pools/{}", PST_ROUTE_CATALOG, PST_CATALOG_POOL, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ_SITE },
	  { [PST_GET] = PST_CATALOG_SHOW } },
	{ "/v1/tenants", PST_ROUTE_CATALOG, PST_CATALOG_TENANT, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ, [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/tenants/{}", PST_ROUTE_CATALOG, PST_CATALOG_TENANT, 1u << PST_GET | 1u << PST_PATCH | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_READ, [PST_PATCH] = PST_RIGHT_CHANGE_SITE, [PST_DELETE] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_PATCH] = PST_CATALOG_SET, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/profiles", PST_ROUTE_CATALOG, PST_CATALOG_PROFILE, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_POST] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/profiles/{}", PST_ROUTE_CATALOG, PST_CATALOG_PROFILE, 1u << PST_GET | 1u << PST_PATCH | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_PATCH] = PST_RIGHT_CHANGE_SITE, [PST_DELETE] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_PATCH] = PST_CATALOG_SET, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/volumes", PST_ROUTE_CATALOG, PST_CATALOG_VOLUME, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ, [PST_POST] = PST_RIGHT_CHANGE },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/volumes/{}/rollback", PST_ROUTE_CATALOG, PST_CATALOG_VOLUME, 1u << PST_POST,
	  { [PST_POST] = PST_RIGHT_CHANGE },
	  { [PST_POST] = PST_CATALOG_ROLLBACK } },
	{ "/v1/volumes/{}", PST_ROUTE_CATALOG, PST_CATALOG_VOLUME, 1u << PST_GET | 1u << PST_PATCH | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_READ, [PST_PATCH] = PST_RIGHT_CHANGE, [PST_DELETE] = PST_RIGHT_CHANGE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_PATCH] = PST_CATALOG_SET, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/hosts", PST_ROUTE_CATALOG, PST_CATALOG_HOST, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_POST] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/hosts/{}", PST_ROUTE_CATALOG, PST_CATALOG_HOST, 1u << PST_GET | 1u << PST_PATCH | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_PATCH] = PST_RIGHT_SECRETS, [PST_DELETE] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_PATCH] = PST_CATALOG_SET, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/ports", PST_ROUTE_CATALOG, PST_CATALOG_PORT, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ_SITE },
	  { [PST_GET] = PST_CATALOG_LIST } },
	{ "/v1/ports/{}", PST_ROUTE_CATALOG, PST_CATALOG_PORT, 1u << PST_GET | 1u << PST_PATCH,
	  { [PST_GET] = PST_RIGHT_READ_SITE, [PST_PATCH] = PST_RIGHT_CHANGE_SITE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_PATCH] = PST_CATALOG_SET } },
	{ "/v1/keys", PST_ROUTE_CATALOG, PST_CATALOG_KEY, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_SECRETS, [PST_POST] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/keys/{}", PST_ROUTE_CATALOG, PST_CATALOG_KEY, 1u << PST_GET | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_SECRETS, [PST_DELETE] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/tokens", PST_ROUTE_CATALOG, PST_CATALOG_TOKEN, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_SECRETS, [PST_POST] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/tokens/{}", PST_ROUTE_CATALOG, PST_CATALOG_TOKEN, 1u << PST_GET | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_SECRETS, [PST_DELETE] = PST_RIGHT_SECRETS },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_DELETE] = PST_CATALOG_DELETE } },
	{ "/v1/snapshots", PST_ROUTE_CATALOG, PST_CATALOG_SNAPSHOT, 1u << PST_GET | 1u << PST_POST,
	  { [PST_GET] = PST_RIGHT_READ, [PST_POST] = PST_RIGHT_CHANGE },
	  { [PST_GET] = PST_CATALOG_LIST, [PST_POST] = PST_CATALOG_CREATE } },
	{ "/v1/snapshots/{}/diff", PST_ROUTE_CATALOG, PST_CATALOG_SNAPSHOT, 1u << PST_GET,
	  { [PST_GET] = PST_RIGHT_READ },
	  { [PST_GET] = PST_CATALOG_DIFF } },
	{ "/v1/snapshots/{}", PST_ROUTE_CATALOG, PST_CATALOG_SNAPSHOT, 1u << PST_GET | 1u << PST_DELETE,
	  { [PST_GET] = PST_RIGHT_READ, [PST_DELETE] = PST_RIGHT_CHANGE },
	  { [PST_GET] = PST_CATALOG_SHOW, [PST_DELETE] = PST_CATALOG_DELETE } },
};
/* clang-format on */

const struct pst_route *pst_route_at(size_t index)
{
	return index < PST_ARRAY_COUNT(routes) ? &routes[index] : NULL;
}

static bool fits(const char *path, const char *url, char names[PST_ROUTE_NAMES][PST_ROUTE_NAME_BYTES])
{
	for (unsigned n = 0; *path != '\0'; path++) {
		if (*path == '{') {
			/* One part of the path each, or all the rest for the last. */
			size_t len = path[2] == '\0' ? strlen(url) : strcspn(url, "/");

			if (len == 0)
				return false;
			snprintf(names[n++], PST_ROUTE_NAME_BYTES, "%.*s",
				 (int)PST_MIN(len, (size_t)PST_ROUTE_NAME_BYTES), url);
			url += len;
			path++;
		} else if (*url++ != *path) {
			return false;
		}
	}
	return *url == '\0';
}

const struct pst_route *pst_route_find(const char *url, char names[PST_ROUTE_NAMES][PST_ROUTE_NAME_BYTES])
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(routes); i++)
		if (fits(routes[i].path, url, names))
			return &routes[i];
	return NULL;
}

enum pst_method pst_method_find(const char *name)
{
	unsigned m = 0;

	while (m < PST_METHODS && strcmp(name, pst_method_names[m]) != 0)
		m++;
	return (enum pst_method)m;
}
