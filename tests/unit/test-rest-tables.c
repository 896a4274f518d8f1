/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and the rights that they need, roles, and who failed how often. */
#include "control/rest-guard.h"
#include "control/rest-routes.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS 1000000000u

/* No route can be added without saying what it needs, and none says so for methods that it does not have. */
static void every_route_needs_a_right(void **state)
{
	const struct pst_route *route;
	size_t count = 0;

	(void)state;
	for (; (route = pst_route_at(count)) != NULL; count++)
		for (unsigned m = 0; m < PST_METHODS; m++) {
			bool has = pst_route_has(route, (enum pst_method)m);

			if (has == (route->rights[m] != PST_RIGHT_UNSET) && route->rights[m] < PST_RIGHTS)
				continue;
			fail_msg("%s %s needs no right, or is none", pst_method_names[m], route->path);
		}
	assert_true(count > 20);
}

/* What changes something needs more than a right to read. */
static void reading_rights_change_nothing(void **state)
{
	const struct pst_route *route;

	(void)state;
	for (size_t i = 0; (route = pst_route_at(i)) != NULL; i++)
		for (unsigned m = PST_POST; m < PST_METHODS; m++)
			if (pst_route_has(route, (enum pst_method)m))
				assert_true(route->rights[m] == PST_RIGHT_CHANGE ||
					    route->rights[m] == PST_RIGHT_CHANGE_SITE ||
					    route->rights[m] == PST_RIGHT_SECRETS);
}

/* A forgotten right is nobody's; secrets are an admin's alone; a tenant's caller never gets at what is the site's. */
static void roles_have_their_rights(void **state)
{
	(void)state;
	for (unsigned role = 0; role < PST_ROLES; role++)
		for (unsigned bound = 0; bound < 2; bound++) {
			enum pst_role r = (enum pst_role)role;

			assert_false(pst_role_may(r, bound, PST_RIGHT_UNSET));
			assert_false(pst_role_may(r, bound, PST_RIGHTS));
			assert_int_equal(pst_role_may(r, bound, PST_RIGHT_SECRETS), r == PST_ROLE_ADMIN && !bound);
			assert_true(pst_role_may(r, bound, PST_RIGHT_METRICS));
			if (bound) {
				assert_false(pst_role_may(r, true, PST_RIGHT_READ_SITE));
				assert_false(pst_role_may(r, true, PST_RIGHT_CHANGE_SITE));
			}
		}
	assert_true(pst_role_may(PST_ROLE_OPERATOR, false, PST_RIGHT_CHANGE_SITE));
	assert_true(pst_role_may(PST_ROLE_TENANT, true, PST_RIGHT_CHANGE));
	assert_true(pst_role_may(PST_ROLE_VIEWER, false, PST_RIGHT_READ_SITE));
	assert_false(pst_role_may(PST_ROLE_VIEWER, false, PST_RIGHT_CHANGE));
	assert_false(pst_role_may(PST_ROLE_METRICS, false, PST_RIGHT_ALIVE));
}

static void roles_have_names(void **state)
{
	enum pst_role role;

	(void)state;
	for (unsigned i = 0; i < PST_ROLES; i++) {
		assert_true(pst_role_find(pst_role_name(i), &role));
		assert_int_equal(role, i);
		assert_true(pst_role_may_be_bound(role) || !pst_role_must_be_bound(role));
	}
	assert_null(pst_role_name(PST_ROLES));
	assert_false(pst_role_find("root", &role));
	assert_false(pst_role_find("", &role));
}

/* Paths fit whole, names are one part but for the last, and an empty or endless name is no name. */
static void paths_fit_whole(void **state)
{
	char names[PST_ROUTE_NAMES][PST_ROUTE_NAME_BYTES], url[600];

	(void)state;
	assert_non_null(pst_route_find("/v1/volumes", names));
	assert_null(pst_route_find("/v1/volumesx", names));
	assert_null(pst_route_find("/v1/volumes/", names));
	assert_null(pst_route_find("", names));
	assert_string_equal(pst_route_find("/v1/volumes/a", names)->path, "/v1/volumes/{}");
	assert_string_equal(names[0], "a");
	assert_string_equal(pst_route_find("/v1/pools/p/tasks/scrub", names)->path, "/v1/pools/{}/tasks/{}");
	assert_string_equal(names[0], "p");
	assert_string_equal(names[1], "scrub");
	memset(url, 'x', sizeof(url));
	memcpy(url, "/v1/volumes/", 12);
	url[sizeof(url) - 1] = '\0';
	assert_non_null(pst_route_find(url, names));
	assert_int_equal(strlen(names[0]), PST_ROUTE_NAME_BYTES - 1);
	assert_int_equal(pst_method_find("PATCH"), PST_PATCH);
	assert_int_equal(pst_method_find("PUT"), PST_METHODS);
	assert_int_equal(pst_method_find("get"), PST_METHODS);
}

static uint32_t fail_from(struct pst_rest_guard *guard, const char *text, uint64_t now_s)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return pst_rest_guard_failed(guard, (struct sockaddr *)&v4, now_s * SECOND_NS);
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return pst_rest_guard_failed(guard, (struct sockaddr *)&v6, now_s * SECOND_NS);
}

/* Each address is counted for itself, from anew after a minute; of IPv6 64 bits count. */
static void failures_are_counted_by_address(void **state)
{
	struct pst_rest_guard guard = { 0 };

	(void)state;
	assert_int_equal(fail_from(&guard, "192.0.2.1", 100), 1);
	assert_int_equal(fail_from(&guard, "192.0.2.1", 101), 2);
	assert_int_equal(fail_from(&guard, "192.0.2.2", 101), 1);
	assert_int_equal(fail_from(&guard, "192.0.2.1", 159), 3);
	assert_int_equal(fail_from(&guard, "192.0.2.1", 160), 1);
	assert_int_equal(fail_from(&guard, "2001:db8::1", 160), 1);
	assert_int_equal(fail_from(&guard, "2001:db8::2", 160), 2);
	assert_int_equal(fail_from(&guard, "2001:db8:0:1::1", 160), 1);
}

/* The table is bounded: who failed longest ago is forgotten first, who goes on failing is not. */
static void the_oldest_makes_room(void **state)
{
	struct pst_rest_guard guard = { 0 };
	char text[32];

	(void)state;
	for (unsigned i = 0; i < 4 * PST_REST_GUARD_ADDRESSES; i++) {
		snprintf(text, sizeof(text), "10.0.%u.%u", i / 256, i % 256);
		assert_int_equal(fail_from(&guard, text, 10), 1);
		assert_int_equal(fail_from(&guard, "192.0.2.1", 11), i + 1);
	}
	assert_int_equal(fail_from(&guard, "10.0.0.0", 12), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_route_needs_a_right), cmocka_unit_test(reading_rights_change_nothing),
		cmocka_unit_test(roles_have_their_rights),   cmocka_unit_test(roles_have_names),
		cmocka_unit_test(paths_fit_whole),           cmocka_unit_test(failures_are_counted_by_address),
		cmocka_unit_test(the_oldest_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
