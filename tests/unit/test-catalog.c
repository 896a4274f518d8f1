/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants, profiles and volumes: crashes at every step, refusals, damaged records. */
#include "catalog-rig.h"

/* ---- Crashes ---- */

static const struct step scenario[] = {
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"a\",\"size_bytes\":1048576}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL,
	  "{\"name\":\"t\",\"quota_bytes\":9000000,\"policy\":{\"reserve_iops\":500}}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
	  "{\"name\":\"b\",\"size_bytes\":4096,\"tenant\":\"t\",\"profile\":\"feature\"}" },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "b", "{\"policy\":{\"limit_iops\":700,\"reserve_iops\":100}}" },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":2097152}" },
	{ PST_CATALOG_SET, PST_CATALOG_TENANT, "t", "{\"quota_bytes\":8000000,\"policy\":{\"weight\":5}}" },
	{ PST_CATALOG_SET, PST_CATALOG_TENANT, "default", "{\"policy\":{\"weight\":50}}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_PROFILE, NULL, "{\"name\":\"mine\",\"policy\":{\"weight\":3}}" },
	{ PST_CATALOG_SET, PST_CATALOG_PROFILE, "mine", "{\"summary\":\"changed\"}" },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "b", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_TENANT, "t", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_PROFILE, "mine", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL },
};

/*
 * Whatever durable step a crash hits, before or after it, or an error: the next start finds what was answered, the call
 * in flight happened wholly or not at all, and no volume is left behind in the pool.
 */
static void crash_at_every_step_is_completed_or_undone(void **state)
{
	(void)state;
	assert_true(crash_everywhere(scenario, PST_ARRAY_COUNT(scenario)) > 20);
}

/* A call that failed leaves everything as it was, without a restart too: but for a delete, which can be repeated. */
static void failed_step_leaves_the_catalog_usable(void **state)
{
	(void)state;
	for (unsigned at = 1; at <= 3; at++) {
		if (at > 1)
			new_pool();
		boot(DOOM_ERROR, at);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_E_IO);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_E_NOTFOUND);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
		shut_down();
	}
	for (unsigned at = 4; at <= 6; at++) {
		new_pool();
		boot(DOOM_ERROR, at);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_E_IO);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_E_NOTFOUND);
		shut_down();
	}
}

/* ---- Reservations ---- */

static void reservation_saved(struct pst_reservation_save_op *op)
{
	(void)op;
	w.done++;
}

static pst_err save_reservation(const void *bytes, uint32_t len_bytes)
{
	struct pst_reservation_save_op op = { .bytes = bytes, .len_bytes = len_bytes, .done = reservation_saved };

	target.config.reservation_save(target.config.reservation_save_ctx, &op);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	return op.err;
}

/* What the target saves comes back at the next start, for its own volume only, until it or its volume is deleted. */
static void reservations_are_kept_with_their_volume(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 0xff, 0, 5 };
	static uint8_t many[1376];

	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(target.config.reservation_bytes, 0);
	assert_int_equal(save_reservation(NULL, 0), PST_OK); /* nothing to forget */
	for (size_t i = 0; i < sizeof(many); i++)
		many[i] = (uint8_t)(i * 7);
	assert_int_equal(save_reservation(many, sizeof(many)), PST_OK); /* the most there can be fits a record */
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(target.config.reservation_bytes, sizeof(many));
	assert_memory_equal(target.reservation, many, sizeof(many));
	assert_int_equal(save_reservation(bytes, sizeof(bytes)), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"ab\",\"size_bytes\":4096}"),
			 PST_OK);
	assert_int_equal(target.config.reservation_bytes, 0);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "ab", NULL), PST_OK);
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(target.config.reservation_bytes, sizeof(bytes));
	assert_memory_equal(target.reservation, bytes, sizeof(bytes));
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(target.config.reservation_bytes, 0);
	assert_int_equal(save_reservation(bytes, sizeof(bytes)), PST_OK);
	assert_int_equal(save_reservation(NULL, 0), PST_OK);
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(target.config.reservation_bytes, 0);
	shut_down();
}

/* A record that makes no sense keeps its volume out of service, and it alone: who is fenced off is not known. */
static void a_damaged_reservation_is_not_served(void **state)
{
	static const char *const bad[] = { "",
					   "{}",
					   "{\"format\":1}",
					   "{\"format\":1,\"state\":\"0\"}",
					   "{\"format\":1,\"state\":\"0g\"}",
					   "{\"format\":2,\"state\":\"00\"}" };

	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"ab\",\"size_bytes\":4096}"),
			 PST_OK);
	crash();
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		put_record("reservation/a", bad[i]);
		boot(DOOM_NONE, 0);
		assert_int_equal(target.subsystems, 1);
		if (i + 1 == PST_ARRAY_COUNT(bad)) /* it can be deleted, and its record with it */
			assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
		crash();
	}
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	assert_int_equal(target.subsystems, 2);
	shut_down();
}

/* ---- Refusals ---- */

/* A volume with hosts is deleted or shrunk only by force; the message counts them. */
static void volume_in_use(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	target.last->hosts = 2;
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_E_BUSY);
	assert_non_null(strstr(call.message, "2 hosts"));
	assert_non_null(strstr(call.hint, "--force"));
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":4096}"), PST_E_BUSY);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":2097152}"), PST_OK);
	assert_int_equal(target.last->resized, 1);
	call = (struct pst_catalog_op){ .kind = PST_CATALOG_DELETE, .object = PST_CATALOG_VOLUME, .name = "a" };
	call.done = op_done;
	call.force = true;
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	assert_int_equal(call.err, PST_OK);
	assert_int_equal(target.subsystems, 0);
	shut_down();
}

static void io_done(struct pst_io *io)
{
	(void)io;
	w.done++;
}

/* Data behind the new end stops a shrink, and stays readable. */
static void shrink_below_used_data(void **state)
{
	static char block[PST_BLOCK_BYTES];
	struct iovec iov = { block, sizeof(block) };
	struct pst_io io = { .kind = PST_IO_WRITE, .lba = 200, .block_count = 1, .iov = &iov, .iov_count = 1 };

	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
	io.done = io_done;
	pst_volume_submit(w.doom->open[0], &io);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":4096}"), PST_E_BUSY);
	assert_non_null(strstr(call.message, "holds data"));
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "a", "{\"size_bytes\":823296}"), PST_OK);
	assert_int_equal(w.doom->open[0]->block_count, 201);
	shut_down();
}

/* Records that are damaged, of a newer format, or refer to what isn't there stop the start, naming the record. */
static void bad_records_stop_the_start(void **state)
{
	static const char *const bad[][3] = {
		{ "volume/x", "{\"format\":2}", "newer" },
		{ "volume/x", "{\"format\":1}", "damaged" },
		{ "volume/x", "not json", "damaged" },
		{ "tenant/x", "{\"format\":1,\"quota_bytes\":-4,\"policy\":{}}", "damaged" },
		{ "tenant/BAD NAME", "{\"format\":1,\"quota_bytes\":0,\"policy\":{}}", "damaged" },
		{ "profile/x", "{\"format\":1,\"summary\":\"\",\"policy\":{\"weight\":0}}", "damaged" },
		{ "volume/x",
		  "{\"format\":1,\"state\":\"ready\",\"uuid\":\"00000000-0000-4000-8000-000000000000\",\"nqn\":\"n\","
		  "\"serial\":\"s\",\"nsid\":1,\"tenant\":\"gone\",\"profile\":\"general\",\"policy\":{}}",
		  "tenant 'gone'" },
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

/* A volume that its pool has lost does not stop the others: it is shown as failed, and can be deleted. */
static void lost_volume_is_shown_as_failed(void **state)
{
	(void)state;
	put_record("volume/x",
		   "{\"format\":1,\"state\":\"ready\",\"uuid\":\"00000000-0000-4000-8000-000000000000\",\"nqn\":\"n\","
		   "\"serial\":\"s\",\"nsid\":1,\"tenant\":\"default\",\"profile\":\"general\",\"policy\":{}}");
	boot(DOOM_NONE, 0);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "x", NULL));
	assert_string_equal(json_string_value(json_object_get(call.result, "state")), "failed");
	json_decref(call.result);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "x", "{\"size_bytes\":4096}"), PST_E_BUSY);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "x", NULL), PST_OK);
	shut_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(crash_at_every_step_is_completed_or_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(failed_step_leaves_the_catalog_usable, setup, teardown),
		cmocka_unit_test_setup_teardown(reservations_are_kept_with_their_volume, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_reservation_is_not_served, setup, teardown),
		cmocka_unit_test_setup_teardown(volume_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(shrink_below_used_data, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_records_stop_the_start, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_volume_is_shown_as_failed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
