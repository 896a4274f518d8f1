/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, groups, clones, rollback: crashes at every step, refusals, what is shown, calls side by side. */
#include "catalog-rig.h"

#define SNAPSHOT(volume, name) "{\"members\":[{\"volume\":\"" volume "\",\"name\":\"" name "\"}]}"

static const struct step scenario[] = {
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"a\",\"size_bytes\":1048576}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"b\",\"size_bytes\":4096}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, SNAPSHOT("a", "v1") },
	{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL,
	  "{\"members\":[{\"volume\":\"b\",\"name\":\"v2\"},{\"volume\":\"a\",\"name\":\"v2\"}]}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"c\",\"source\":\"a@v1\"}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
	  "{\"name\":\"d\",\"source\":\"b@v2\",\"size_bytes\":40960,\"profile\":\"dataset\"}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, SNAPSHOT("c", "w") },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":2097152}" },
	{ PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}" },
	{ PST_CATALOG_DELETE, PST_CATALOG_SNAPSHOT, "a@v1", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL, true },
	{ PST_CATALOG_DELETE, PST_CATALOG_SNAPSHOT, "b@v2", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "b", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "d", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "c", NULL, true },
};

/*
 * Whatever durable step a crash or an error hits: a group is there wholly or not at all, clones and rollbacks likewise,
 * a volume goes with all of its snapshots, and nothing lies in the pool that the catalog does not know.
 */
static void crash_at_every_step_is_completed_or_undone(void **state)
{
	(void)state;
	assert_true(crash_everywhere(scenario, PST_ARRAY_COUNT(scenario)) > 40);
}

static void two_volumes(void)
{
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[1].body), PST_OK);
}

static pst_err take(const char *body)
{
	return err_of(PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, body);
}

static json_int_t number(json_t *object, const char *member)
{
	assert_true(json_is_integer(json_object_get(object, member)));
	return json_integer_value(json_object_get(object, member));
}

/* Requests that make no sense are refused by name, and leave nothing behind: not even their good members. */
static void refused_snapshots_leave_nothing(void **state)
{
	static const struct {
		const char *body, *text;
		pst_err err;
	} bad[] = {
		{ "{}", "members", PST_E_INVAL },
		{ "{\"members\":[]}", "members", PST_E_INVAL },
		{ "{\"members\":[{\"volume\":\"a\"}]}", "volume and name", PST_E_INVAL },
		{ "{\"members\":[{\"volume\":\"a\",\"name\":\"v\",\"x\":1}]}", "volume and name", PST_E_INVAL },
		{ SNAPSHOT("a", "NO"), "'NO'", PST_E_INVAL },
		{ SNAPSHOT("none", "v"), "'none'", PST_E_NOTFOUND },
		{ SNAPSHOT("a", "there"), "'a@there' exists", PST_E_EXISTS },
		{ "{\"members\":[{\"volume\":\"a\",\"name\":\"v\"},{\"volume\":\"a\",\"name\":\"w\"}]}", "twice",
		  PST_E_INVAL },
		{ "{\"members\":[{\"volume\":\"b\",\"name\":\"v\"},{\"volume\":\"none\",\"name\":\"v\"}]}", "'none'",
		  PST_E_NOTFOUND },
	};

	(void)state;
	two_volumes();
	assert_int_equal(take(SNAPSHOT("a", "there")), PST_OK);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		assert_int_equal(take(bad[i].body), bad[i].err);
		assert_non_null(strstr(call.message, bad[i].text));
	}
	w.fake->refused = 1;
	assert_int_equal(take(SNAPSHOT("b", "v")), PST_E_NOSPACE);
	check_no_orphans();
	assert_int_equal(fake_pool_count(w.fake, true), 1);
	assert_int_equal(take(SNAPSHOT("b", "v")), PST_OK);
	shut_down();
}

/* A group needs one pool: else the message names both volumes and their pools. */
static void group_over_two_pools_is_refused(void **state)
{
	static struct pst_catalog_pool_op op;
	struct fake_pool *second;
	struct pst_pool *ram;

	(void)state;
	two_volumes();
	assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &ram), PST_OK);
	second = fake_pool_new(w.env, ram);
	op = (struct pst_catalog_pool_op){ .name = "q", .pool = &second->pool, .done = pool_added };
	pst_catalog_add_pool(w.catalog, &op);
	wait_done();
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"far\",\"size_bytes\":4096,\"pool\":\"q\"}"),
			 PST_OK);
	assert_int_equal(take("{\"members\":[{\"volume\":\"a\",\"name\":\"v\"},{\"volume\":\"far\",\"name\":\"v\"}]}"),
			 PST_E_INVAL);
	assert_non_null(strstr(call.message, "'far' (pool 'q')"));
	assert_int_equal(take(SNAPSHOT("far", "v")), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"far@v\"}"),
			 PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"e\",\"source\":\"far@v\",\"pool\":\"p\"}"),
			 PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"e\",\"source\":\"far@v\"}"),
			 PST_OK);
	assert_int_equal(fake_pool_count(second, false), 2);
	shut_down();
}

/* A volume with snapshots is deleted only with them; its clones go on. */
static void volume_with_snapshots_is_deleted_with_them(void **state)
{
	(void)state;
	two_volumes();
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[4].body), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_E_BUSY);
	assert_non_null(strstr(call.message, "1 snapshot,"));
	assert_non_null(strstr(call.hint, "--with-snapshots"));
	call_with_snapshots = true;
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
	check_no_orphans();
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "c", NULL));
	assert_string_equal(json_string_value(json_object_get(call.result, "source")), "a@v1");
	assert_int_equal(number(call.result, "size_bytes"), 1048576);
	json_decref(call.result);
	shut_down();
}

/* Rollback waits for hosts to be gone, unless forced; the size goes back too, within the quota. */
static void rollback_refusals(void **state)
{
	(void)state;
	two_volumes();
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v9\"}"),
			 PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "x", "{\"snapshot\":\"a@v1\"}"),
			 PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":4096}"), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_TENANT, "default", "{\"quota_bytes\":8192}"), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"), PST_E_QUOTA);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_TENANT, "default", "{\"quota_bytes\":0}"), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "b", NULL), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"), PST_OK);
	target.last->hosts = 1;
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"), PST_E_BUSY);
	assert_non_null(strstr(call.message, "1 host is"));
	call_force = true;
	assert_true(ask(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"));
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(number(call.result, "size_bytes"), 1048576);
	json_decref(call.result);
	assert_int_equal(target.subsystems, 1);
	shut_down();
}

/* A rollback that the pool refuses leaves the volume in service. */
static void failed_rollback_serves_on(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	w.doom->doom = DOOM_ERROR;
	w.doom->doom_at = w.doom->steps + 1;
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"), PST_E_IO);
	assert_int_equal(target.subsystems, 1);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL));
	assert_string_equal(json_string_value(json_object_get(call.result, "state")), "ready");
	json_decref(call.result);
	assert_int_equal(err_of(PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"a@v1\"}"), PST_OK);
	shut_down();
}

/* A clone is as large as its snapshot or larger, never smaller. */
static void clone_sizes(void **state)
{
	(void)state;
	two_volumes();
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"c\",\"source\":\"a@v1\",\"size_bytes\":4096}"),
			 PST_E_INVAL);
	assert_non_null(strstr(call.message, "can't be smaller"));
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"c\",\"source\":\"a@v7\"}"),
			 PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"c\",\"source\":\"a\"}"),
			 PST_E_NOTFOUND);
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
			"{\"name\":\"c\",\"source\":\"a@v1\",\"size_bytes\":1048577}"));
	assert_int_equal(number(call.result, "size_bytes"), 1048576 + 4096);
	assert_int_equal(number(call.result, "mapped_bytes"), FAKE_MAPPED_BLOCKS * PST_BLOCK_BYTES);
	json_decref(call.result);
	shut_down();
}

/* What is shown: sizes as the pool says, counts, only one volume's snapshots when asked for these. */
static void snapshots_are_shown(void **state)
{
	json_t *item;

	(void)state;
	two_volumes();
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, scenario[3].body));
	assert_int_equal(json_array_size(call.result), 2);
	item = json_array_get(call.result, 0);
	assert_string_equal(json_string_value(json_object_get(item, "name")), "b@v2");
	assert_int_equal(number(item, "mapped_bytes"), FAKE_MAPPED_BLOCKS * PST_BLOCK_BYTES);
	assert_int_equal(number(item, "children"), 1);
	json_decref(call.result);
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL));
	assert_int_equal(number(call.result, "snapshots"), 2);
	assert_int_equal(number(call.result, "own_bytes"), PST_BLOCK_BYTES);
	assert_int_equal(number(call.result, "used_bytes"), (2 + FAKE_MAPPED_BLOCKS) * PST_BLOCK_BYTES);
	json_decref(call.result);
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_LIST, .object = PST_CATALOG_SNAPSHOT, .done = op_done };
	call.volume = "a";
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	assert_int_equal(json_array_size(call.result), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(call.result, 0), "name")), "a@v1");
	json_decref(call.result);
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_LIST, .object = PST_CATALOG_SNAPSHOT, .done = op_done };
	call.volume = "none";
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	assert_int_equal(call.err, PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_SNAPSHOT, "a", NULL), PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_SNAPSHOT, "a@none", NULL), PST_E_NOTFOUND);
	shut_down();
}

/* Lists are asked for while what they list is being deleted: every call is answered, nothing is touched after it is
 * gone. */
static void reading_beside_deleting(void **state)
{
	static struct pst_catalog_op reads[8], deletes[4];
	static const char *const doomed[] = { "a@v1", "a@v2", "b@v2", "a" };

	(void)state;
	for (unsigned shift = 0; shift < 12; shift++) {
		if (shift > 0)
			new_pool();
		two_volumes();
		assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
		assert_int_equal(take(scenario[3].body), PST_OK);
		for (unsigned i = 0; i < 4; i++) {
			deletes[i] = (struct pst_catalog_op){ .kind = PST_CATALOG_DELETE, .done = op_done };
			deletes[i].object = i < 3 ? PST_CATALOG_SNAPSHOT : PST_CATALOG_VOLUME;
			deletes[i].name = doomed[i];
			pst_catalog_submit(w.catalog, &deletes[i]);
		}
		for (unsigned i = 0; i < shift; i++)
			pst_env_poll(w.env, 0);
		for (unsigned i = 0; i < 8; i++) {
			reads[i] = (struct pst_catalog_op){ .kind = PST_CATALOG_LIST, .done = op_done };
			reads[i].object = i % 2 ? PST_CATALOG_SNAPSHOT : PST_CATALOG_VOLUME;
			pst_catalog_submit(w.catalog, &reads[i]);
		}
		for (unsigned turns = 0; w.done < 12 && turns < 1000; turns++)
			pst_env_poll(w.env, 1000000);
		assert_int_equal(w.done, 12);
		w.done = 0;
		for (unsigned i = 0; i < 8; i++)
			json_decref(reads[i].result);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(deletes[i].err, PST_OK);
		check_no_orphans();
		shut_down();
	}
}

/* Ranges that adjoin are one; an answer is bounded and says where to go on. */
static void diff_ranges(void **state)
{
	(void)state;
	two_volumes();
	assert_int_equal(take(SNAPSHOT("a", "v1")), PST_OK);
	assert_int_equal(take(SNAPSHOT("a", "v2")), PST_OK);
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_DIFF, .object = PST_CATALOG_SNAPSHOT, .name = "a@v2" };
	call.from = "v1";
	call.offset_bytes = 100 * PST_BLOCK_BYTES;
	call.done = op_done;
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(json_array_size(json_object_get(call.result, "ranges")), 52); /* of 102, 105 .. 255 */
	assert_int_equal(number(json_array_get(json_object_get(call.result, "ranges"), 0), "offset_bytes"),
			 102 * PST_BLOCK_BYTES);
	assert_null(json_object_get(call.result, "next_offset_bytes"));
	json_decref(call.result);
	call.from = "a@none";
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	assert_int_equal(call.err, PST_E_NOTFOUND);
	assert_non_null(strstr(call.message, "a@none"));
	shut_down();
}

/* Snapshots without a volume, or with a record that makes no sense, stop the start by name. */
static void bad_records_stop_the_start(void **state)
{
	static const char *const bad[][3] = {
		{ "snapshot/x@v", "{\"format\":2}", "newer" },
		{ "snapshot/x@v", "{\"format\":1}", "damaged" },
		{ "snapshot/x",
		  "{\"format\":1,\"state\":\"ready\",\"uuid\":\"00000000-0000-4000-8000-000000000000\","
		  "\"created_ns\":1,\"size_bytes\":4096}",
		  "damaged" },
		{ "snapshot/x@v",
		  "{\"format\":1,\"state\":\"ready\",\"uuid\":\"00000000-0000-4000-8000-000000000000\","
		  "\"created_ns\":1,\"size_bytes\":4096}",
		  "volume 'x'" },
	};

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		static struct pst_catalog_pool_op op;

		if (i > 0)
			new_pool();
		put_record(bad[i][0], bad[i][1]);
		w.doom = calloc(1, sizeof(*w.doom));
		target.env = w.env;
		assert_int_equal(pst_catalog_new(w.env, NULL, &w.catalog), PST_OK);
		op = (struct pst_catalog_pool_op){ .name = "p", .pool = &w.fake->pool, .done = pool_added };
		pst_catalog_add_pool(w.catalog, &op);
		wait_done();
		assert_int_not_equal(op.err, PST_OK);
		assert_non_null(strstr(op.message, bad[i][0]));
		assert_non_null(strstr(op.message, bad[i][2]));
		shut_down();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(crash_at_every_step_is_completed_or_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_snapshots_leave_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(group_over_two_pools_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(volume_with_snapshots_is_deleted_with_them, setup, teardown),
		cmocka_unit_test_setup_teardown(rollback_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(failed_rollback_serves_on, setup, teardown),
		cmocka_unit_test_setup_teardown(clone_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(snapshots_are_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(reading_beside_deleting, setup, teardown),
		cmocka_unit_test_setup_teardown(diff_ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_records_stop_the_start, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
