/* SPDX-License-Identifier: Apache-2.0 */
/* Ports, the access through them, and the groups of volumes: kept, told to the target, and undone by what fails. */
#include "catalog-rig.h"

static const struct pst_addr loopback = { .host = "127.0.0.1", .port = 4420 };

static const char *text_of(const char *member)
{
	return json_string_value(json_object_get(call.result, member));
}

static json_int_t number_of(const char *member)
{
	return json_integer_value(json_object_get(call.result, member));
}

/* What is set for a port is in its record when the call is answered, and is there for the next daemon. */
static void access_is_kept(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_null(pst_catalog_port_ana(w.catalog, 7));
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_PORT, "7", "{\"ana\":\"inaccessible\"}"), PST_E_NOTFOUND);
	pst_catalog_port_listens(w.catalog, 7, &loopback);
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_PORT, "7", "{\"ana\":\"inaccessible\",\"group\":3}"));
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(number_of("id"), 7);
	assert_string_equal(text_of("address"), "127.0.0.1:4420");
	assert_string_equal(text_of("ana"), "inaccessible"); /* of the only group to speak of */
	json_decref(call.result);
	assert_int_equal(target.ana_port, 7);
	assert_int_equal(target.ana_groups, 1u << 2);
	assert_int_equal(target.ana_state, PST_ANA_INACCESSIBLE);
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(pst_catalog_port_ana(w.catalog, 7)[2], PST_ANA_INACCESSIBLE);
	assert_int_equal(pst_catalog_port_ana(w.catalog, 7)[1], PST_ANA_OPTIMIZED);
	assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_PORT, "7", NULL), PST_E_NOTFOUND); /* nobody listens */
	pst_catalog_port_listens(w.catalog, 7, &loopback);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_PORT, "7", "{\"ana\":\"optimized\"}"), PST_OK);
	assert_int_equal(target.ana_groups, UINT32_MAX);
	shut_down();
}

/* Requests that make no sense, and one that can't be recorded, change nothing. */
static void refused_changes_change_nothing(void **state)
{
	static const char *const bad[] = { "{}",
					   "{\"ana\":\"open\"}",
					   "{\"ana\":1}",
					   "{\"ana\":\"optimized\",\"group\":0}",
					   "{\"ana\":\"optimized\",\"group\":33}",
					   "{\"ana\":\"optimized\",\"port\":1}" };

	(void)state;
	boot(DOOM_ERROR, 1);
	pst_catalog_port_listens(w.catalog, 1, &loopback);
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++)
		assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_PORT, "1", bad[i]), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_PORT, "01", "{\"ana\":\"optimized\"}"), PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_PORT, "1", "{\"ana\":\"inaccessible\"}"), PST_E_IO);
	assert_int_equal(target.ana_port, 0);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_PORT, "1", NULL));
	assert_string_equal(text_of("ana"), "optimized");
	json_decref(call.result);
	shut_down();
}

/* A volume is made in its group, moves to another live, and is there after a restart. */
static void volumes_have_groups(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"a\",\"size_bytes\":4096,\"ana_group\":33}"),
			 PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"a\",\"size_bytes\":4096,\"ana_group\":4}"),
			 PST_OK);
	assert_int_equal(target.last->ana_group, 4);
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"ana_group\":5}"));
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(number_of("ana_group"), 5);
	json_decref(call.result);
	assert_int_equal(target.last->ana_group, 5);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"ana_group\":6,\"size_bytes\":8192}"),
			 PST_E_INVAL);
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(target.last->ana_group, 5);
	pst_catalog_port_listens(w.catalog, 1, &loopback);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_PORT, "1", NULL));
	assert_int_equal(
	    json_integer_value(json_object_get(json_array_get(json_object_get(call.result, "groups"), 0), "group")), 5);
	json_decref(call.result);
	shut_down();
}

/* Detached it stays for the next daemon, until it is attached; with hosts connected only if that is meant. */
static void volumes_are_detached(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"a\",\"size_bytes\":4096}"),
			 PST_OK);
	target.last->hosts = 1;
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"attached\":1}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"attached\":false}"), PST_E_BUSY);
	assert_false(target.last->detached);
	call_force = true;
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"attached\":false}"));
	assert_true(json_is_false(json_object_get(call.result, "attached")));
	json_decref(call.result);
	assert_true(target.last->detached);
	crash();
	boot(DOOM_NONE, 0);
	assert_true(target.last->detached);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"attached\":true}"), PST_OK);
	assert_false(target.last->detached);
	shut_down();
}

/* A daemon that dies in the middle of it comes back with the old group or the new one, whole. */
static void moves_survive_crashes(void **state)
{
	static const struct step row[] = {
		{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
		  "{\"name\":\"a\",\"size_bytes\":4096,\"ana_group\":4}" },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"ana_group\":5}" },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"attached\":false}" },
	};

	(void)state;
	assert_true(crash_everywhere(row, PST_ARRAY_COUNT(row)) >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(access_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_changes_change_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(volumes_have_groups, setup, teardown),
		cmocka_unit_test_setup_teardown(volumes_are_detached, setup, teardown),
		cmocka_unit_test_setup_teardown(moves_survive_crashes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
