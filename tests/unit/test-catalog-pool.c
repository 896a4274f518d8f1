/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask of pools: tasks, devices, growth, checks, events, settings of volumes. */
#include "catalog-rig.h"

static json_int_t number(json_t *object, const char *member)
{
	assert_true(json_is_integer(json_object_get(object, member)));
	return json_integer_value(json_object_get(object, member));
}

static const char *text(json_t *object, const char *member)
{
	assert_true(json_is_string(json_object_get(object, member)));
	return json_string_value(json_object_get(object, member));
}

static void one_volume(void)
{
	boot(DOOM_NONE, 0);
	assert_int_equal(
	    err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"a\",\"size_bytes\":1048576}"), PST_OK);
	assert_int_equal(
	    err_of(PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, "{\"members\":[{\"volume\":\"a\",\"name\":\"v\"}]}"),
	    PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"c\",\"source\":\"a@v\"}"),
			 PST_OK);
}

static pst_err stop_task(const char *task, const char *volume)
{
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_DELETE, .object = PST_CATALOG_TASK, .name = "p" };
	call.sub = task;
	call.volume = volume;
	call.done = op_done;
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	return call.err;
}

/* Tasks are started (again: with another rate), listed by the names of their volumes, and stopped. */
static void tasks(void **state)
{
	(void)state;
	one_volume();
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_TASK, "p", "{\"task\":\"scrub\"}"));
	assert_int_equal(call.err, PST_OK);
	assert_string_equal(text(call.result, "task"), "scrub");
	assert_true(json_is_true(json_object_get(call.result, "running")));
	assert_null(json_object_get(call.result, "volume"));
	json_decref(call.result);
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_TASK, "p", "{\"task\":\"scrub\",\"rate_bytes_per_s\":7}"));
	assert_int_equal(number(call.result, "rate_bytes_per_s"), 7);
	json_decref(call.result);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TASK, "p", "{\"task\":\"flatten\",\"volume\":\"c\"}"),
			 PST_OK);
	assert_true(ask(PST_CATALOG_LIST, PST_CATALOG_TASK, "p", NULL));
	assert_int_equal(json_array_size(call.result), 2);
	assert_string_equal(text(json_array_get(call.result, 1), "volume"), "c");
	json_decref(call.result);
	assert_int_equal(stop_task("flatten", NULL), PST_E_NOTFOUND);
	assert_int_equal(stop_task("flatten", "c"), PST_OK);
	assert_int_equal(stop_task("flatten", "c"), PST_E_NOTFOUND);
	assert_int_equal(stop_task("dance", NULL), PST_E_INVAL);
	assert_int_equal(stop_task("scrub", "none"), PST_E_NOTFOUND);
	shut_down();
}

/* What can't be a task is refused by name. */
static void refused_tasks(void **state)
{
	static const struct {
		const char *pool, *body, *text;
		pst_err err;
	} bad[] = {
		{ "q", "{\"task\":\"scrub\"}", "pool 'q'", PST_E_NOTFOUND },
		{ "p", "{}", "not a task", PST_E_INVAL },
		{ "p", "{\"task\":\"dance\"}", "'dance'", PST_E_INVAL },
		{ "p", "{\"task\":\"scrub\",\"rate_bytes_per_s\":-1}", "rate_bytes_per_s", PST_E_INVAL },
		{ "p", "{\"task\":\"scrub\",\"volume\":\"none\"}", "'none'", PST_E_NOTFOUND },
		{ "p", "{\"task\":\"flatten\"}", "needs a volume", PST_E_INVAL },
		{ "p", "{\"task\":\"flatten\",\"volume\":\"a\"}", "not a clone", PST_E_INVAL },
	};

	(void)state;
	one_volume();
	for (unsigned i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TASK, bad[i].pool, bad[i].body), bad[i].err);
		assert_non_null(strstr(call.message, bad[i].text));
	}
	assert_int_equal(w.fake->task_count, 0);
	shut_down();
}

/* A pool gets devices and grows; a path must be whole, and what the pool says of one comes through. */
static void space(void **state)
{
	uint64_t before;

	(void)state;
	one_volume();
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_POOL, "p", NULL));
	before = (uint64_t)number(call.result, "size_bytes");
	assert_int_equal(number(call.result, "snapshots"), 1);
	json_decref(call.result);
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_DEVICE, "p", "{\"path\":\"/dev/new\"}"));
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(number(call.result, "size_bytes"), before + MIB);
	assert_int_equal(number(call.result, "devices"), 2);
	json_decref(call.result);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_POOL, "p", "{\"path\":\"/dev/new\",\"size_bytes\":1}"),
			 PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_DEVICE, "p", "{\"path\":\"new\"}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_DEVICE, "p", "{}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_DEVICE, "p", "{\"path\":\"/missing\"}"),
			 PST_E_NOTFOUND);
	assert_non_null(strstr(call.message, "'/missing': no such file"));
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_DEVICE, "q", "{\"path\":\"/x\"}"), PST_E_NOTFOUND);
	shut_down();
}

/* A check is started, its state read while it runs and after; changes go on beside it; one at a time. */
static void checks(void **state)
{
	(void)state;
	one_volume();
	assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_CHECK, "p", NULL), PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_CHECK, "p", "{\"data\":1}"), PST_E_INVAL);
	w.fake->check_waits = true;
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_CHECK, "p", "{\"data\":true}"));
	assert_string_equal(text(call.result, "status"), "running");
	json_decref(call.result);
	assert_true(w.fake->checking->check->data);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_CHECK, "p", "{}"), PST_E_BUSY);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"b\",\"size_bytes\":1}"),
			 PST_OK);
	fake_pool_end_check(w.fake);
	pst_env_poll(w.env, 1000000);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_CHECK, "p", NULL));
	assert_string_equal(text(call.result, "status"), "damaged");
	assert_int_equal(number(call.result, "found"), 1);
	assert_int_equal(json_array_size(json_object_get(call.result, "findings")), 1);
	assert_non_null(text(call.result, "ended"));
	json_decref(call.result);
	shut_down();
}

static void end_later(struct pst_post *post)
{
	(void)post;
	assert_true(w.fake->checking->check->stop);
	fake_pool_end_check(w.fake);
}

/* Closing tells a running check to end, and waits for that. */
static void close_during_a_check(void **state)
{
	static struct pst_post post = { .fn = end_later };
	struct pst_catalog_close_op op = { .done = catalog_closed };

	(void)state;
	one_volume();
	w.fake->check_waits = true;
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_CHECK, "p", "{}"), PST_OK);
	pst_catalog_close(w.catalog, &op);
	pst_env_poll(w.env, 0);
	pst_env_poll(w.env, 0);
	assert_int_equal(w.done, 0);
	pst_env_post(w.env, &post);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	free(w.doom);
	assert_int_equal(target.subsystems, 0);
}

static json_t *events_since(uint64_t since, const char *pool)
{
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_LIST, .object = PST_CATALOG_EVENT, .done = op_done };
	call.since = since;
	call.pool = pool;
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	return call.result;
}

/* Events are numbered; the newest are kept; who knows a number gets what came after; after a restart, all. */
static void events(void **state)
{
	char line[40];
	json_t *list;

	(void)state;
	boot(DOOM_NONE, 0);
	list = events_since(0, NULL);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	for (unsigned i = 1; i <= PST_CATALOG_EVENTS_MAX + 5; i++) {
		snprintf(line, sizeof(line), "thing n=%u", i);
		pst_catalog_event(w.catalog, i % 2 ? "p" : "other", i % 2 ? PST_LOG_WARN : PST_LOG_ERROR, line);
	}
	list = events_since(0, NULL);
	assert_int_equal(json_array_size(list), PST_CATALOG_EVENTS_MAX);
	assert_int_equal(number(json_array_get(list, 0), "number"), 6);
	assert_string_equal(text(json_array_get(list, 0), "text"), "thing n=6");
	assert_string_equal(text(json_array_get(list, 0), "level"), "error");
	assert_string_equal(text(json_array_get(list, 0), "pool"), "other");
	json_decref(list);
	list = events_since(PST_CATALOG_EVENTS_MAX + 3, "p");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(text(json_array_get(list, 0), "text"), "thing n=1029");
	json_decref(list);
	list = events_since(PST_CATALOG_EVENTS_MAX + 5, NULL);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	list = events_since(1000000, NULL);
	assert_int_equal(json_array_size(list), PST_CATALOG_EVENTS_MAX);
	json_decref(list);
	shut_down();
}

/* Settings are changed one by one, the other stays; they are there from the beginning when asked for at creation. */
static void settings(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
			"{\"name\":\"a\",\"size_bytes\":1048576,\"on_full\":\"pause\"}"));
	assert_string_equal(text(call.result, "on_full"), "pause");
	assert_int_equal(number(call.result, "reserved_bytes"), 0);
	json_decref(call.result);
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"reserved_bytes\":5000}"));
	assert_string_equal(text(call.result, "on_full"), "pause");
	assert_int_equal(number(call.result, "reserved_bytes"), 8192);
	json_decref(call.result);
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"on_full\":\"fail\"}"));
	assert_string_equal(text(call.result, "on_full"), "fail");
	assert_int_equal(number(call.result, "reserved_bytes"), 8192);
	json_decref(call.result);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"on_full\":\"wait\"}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"on_full\":\"fail\",\"policy\":{}}"),
			 PST_E_INVAL);
	w.doom->doom = DOOM_ERROR;
	w.doom->doom_at = w.doom->steps + 1;
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"on_full\":\"pause\"}"), PST_E_IO);
	shut_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tasks, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_tasks, setup, teardown),
		cmocka_unit_test_setup_teardown(space, setup, teardown),
		cmocka_unit_test_setup_teardown(checks, setup, teardown),
		cmocka_unit_test_setup_teardown(close_during_a_check, setup, teardown),
		cmocka_unit_test_setup_teardown(events, setup, teardown),
		cmocka_unit_test_setup_teardown(settings, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
