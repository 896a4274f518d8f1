/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog over the memory pool, with a target of the test's own (it counts hosts as told) and a pool in between
 * that ends the world at any durable step: before it, after it, or with an error.
 */
#include "control/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define VOLUMES_MAX 16u
#define GRAVES_MAX 256u

/* ---- A target that only counts ---- */

struct pst_subsystem {
	struct pst_post post;
	struct pst_subsystem_remove_op *remove;
	uint32_t hosts;
	unsigned resized;
};

static struct {
	struct pst_env *env;
	unsigned subsystems;
	struct pst_subsystem *last;
} target;

pst_err pst_subsystem_add(struct pst_target *t, const struct pst_subsystem_config *config, struct pst_subsystem **ret)
{
	(void)t;
	assert_non_null(config->volume);
	assert_non_null(config->flow);
	assert_int_equal(strlen(config->serial), 20);
	*ret = calloc(1, sizeof(**ret));
	target.subsystems++;
	target.last = *ret;
	return PST_OK;
}

static void removed(struct pst_post *post)
{
	struct pst_subsystem *s = pst_container_of(post, struct pst_subsystem, post);
	struct pst_subsystem_remove_op *op = s->remove;

	free(s);
	target.subsystems--;
	op->done(op);
}

void pst_subsystem_remove(struct pst_subsystem *s, struct pst_subsystem_remove_op *op)
{
	s->remove = op;
	s->post.fn = removed;
	pst_env_post(target.env, &s->post);
}

void pst_subsystem_resized(struct pst_subsystem *s)
{
	s->resized++;
}

uint32_t pst_subsystem_host_count(struct pst_subsystem *s)
{
	return s->hosts;
}

/* ---- A pool that ends the world ---- */

enum doom { DOOM_NONE, DOOM_BEFORE, DOOM_AFTER, DOOM_ERROR };

struct doom_pool {
	struct pst_pool pool;
	struct pst_pool *lower;
	enum doom doom;
	unsigned steps, doom_at; /* durable steps begin, counted from 1 */
	bool ended;
	struct pst_pool_op lower_op, *op;
	struct pst_volume *open[VOLUMES_MAX];
	uint8_t made[VOLUMES_MAX][16];
	unsigned made_count;
	struct pst_post post;
};

static void doom_lower_done(struct pst_pool_op *lower)
{
	struct doom_pool *d = pst_container_of(lower, struct doom_pool, lower_op);
	struct pst_pool_op *op = d->op;

	if (lower->kind == PST_POOL_VOLUME_OPEN && lower->err == PST_OK)
		for (unsigned i = 0; i < VOLUMES_MAX; i++)
			if (d->open[i] == NULL) {
				d->open[i] = lower->volume;
				break;
			}
	if (lower->kind != PST_POOL_VOLUME_OPEN && d->doom == DOOM_AFTER && d->steps == d->doom_at)
		d->ended = true;
	if (d->ended)
		return;
	op->err = lower->err;
	op->volume = lower->volume;
	op->done(op);
}

static void doom_error(struct pst_post *post)
{
	struct doom_pool *d = pst_container_of(post, struct doom_pool, post);

	d->op->err = PST_E_IO;
	d->op->done(d->op);
}

static void doom_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	struct doom_pool *d = pst_container_of(pool, struct doom_pool, pool);
	bool durable = op->kind != PST_POOL_VOLUME_OPEN && op->kind != PST_POOL_CLOSE;

	if (d->ended)
		return;
	d->op = op;
	/* The catalog has closed what it deletes. */
	for (unsigned i = 0; op->kind == PST_POOL_VOLUME_DELETE && i < VOLUMES_MAX; i++)
		if (d->open[i] != NULL && memcmp(d->open[i]->uuid, op->uuid, 16) == 0)
			d->open[i] = NULL;
	if (durable && ++d->steps == d->doom_at && d->doom == DOOM_BEFORE) {
		d->ended = true;
		return;
	}
	if (durable && d->steps == d->doom_at && d->doom == DOOM_ERROR) {
		d->post.fn = doom_error;
		pst_env_post(pool->env, &d->post);
		return;
	}
	if (op->kind == PST_POOL_VOLUME_CREATE)
		memcpy(d->made[d->made_count++], op->uuid, 16);
	d->lower_op = *op;
	d->lower_op.done = doom_lower_done;
	pst_pool_submit(d->lower, &d->lower_op);
}

static void doom_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	pst_pool_records(pst_container_of(pool, struct doom_pool, pool)->lower, prefix, fn, ctx);
}

static void doom_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	pst_pool_stats(pst_container_of(pool, struct doom_pool, pool)->lower, ret_stats);
}

static const struct pst_pool_ops doom_ops = { "ram", doom_submit, doom_records, doom_stats };

/* ---- The world ---- */

struct world {
	struct pst_env *env;
	struct pst_pool *ram;
	struct doom_pool *doom;
	struct pst_catalog *catalog;
	unsigned done;
};

static struct world w;
static void *graves[GRAVES_MAX]; /* what a crash leaves: kept, so that it is no leak */
static unsigned grave_count;

static void bury(void *dead)
{
	assert_true(grave_count < GRAVES_MAX);
	graves[grave_count++] = dead;
}

static void pool_added(struct pst_catalog_pool_op *op)
{
	(void)op;
	w.done++;
}

static void op_done(struct pst_catalog_op *op)
{
	(void)op;
	w.done++;
}

static void wait_done(void)
{
	assert_int_equal(w.done, 0); /* never inside the call */
	for (unsigned turns = 0; w.done == 0 && turns < 1000 && !w.doom->ended; turns++)
		pst_env_poll(w.env, 1000000);
	if (!w.doom->ended)
		assert_int_equal(w.done, 1);
	w.done = 0;
}

static void boot(enum doom doom, unsigned doom_at)
{
	static struct pst_catalog_pool_op op;
	struct doom_pool *d = calloc(1, sizeof(*d));

	d->pool.ops = &doom_ops;
	d->pool.env = w.env;
	d->lower = w.ram;
	d->doom = doom;
	d->doom_at = doom_at;
	w.doom = d;
	target.env = w.env;
	assert_int_equal(pst_catalog_new(w.env, NULL, &w.catalog), PST_OK);
	op = (struct pst_catalog_pool_op){ .name = "p", .pool = &d->pool, .done = pool_added };
	op.qos.capacity_iops = 10000;
	pst_catalog_add_pool(w.catalog, &op);
	wait_done();
	if (!d->ended)
		assert_string_equal(op.message, "");
}

static void volume_closed(struct pst_volume_close_op *op)
{
	(void)op;
	w.done++;
}

/* The process is gone; what its kernel had open is closed. */
static void crash(void)
{
	bury(w.catalog);
	for (unsigned i = 0; i < VOLUMES_MAX; i++) {
		struct pst_volume_close_op op = { .done = volume_closed };

		if (w.doom->open[i] == NULL)
			continue;
		pst_volume_close(w.doom->open[i], &op);
		while (w.done == 0)
			pst_env_poll(w.env, 1000000);
		w.done = 0;
	}
	pst_env_poll(w.env, 0);
	bury(w.doom);
	target.subsystems = 0;
}

static void catalog_closed(struct pst_catalog_close_op *op)
{
	(void)op;
	w.done++;
}

static void shut_down(void)
{
	struct pst_catalog_close_op op = { .done = catalog_closed };

	pst_catalog_close(w.catalog, &op);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	free(w.doom);
	assert_int_equal(target.subsystems, 0);
}

static int setup(void **state)
{
	struct pst_env_config config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };

	(void)state;
	memset(&w, 0, sizeof(w));
	memset(&target, 0, sizeof(target));
	assert_int_equal(pst_env_new(&config, &w.env), PST_OK);
	assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pst_env_free(w.env);
	return 0;
}

/* ---- Calls ---- */

static struct pst_catalog_op call;

/* True when answered; then `call` has the answer (release with json_decref(call.result)). */
static bool ask(enum pst_catalog_op_kind kind, enum pst_catalog_object object, const char *name, const char *body)
{
	call = (struct pst_catalog_op){ .kind = kind, .object = object, .name = name, .done = op_done };
	if (body != NULL)
		call.body = json_loads(body, 0, NULL);
	assert_true(body == NULL || call.body != NULL);
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	json_decref(call.body);
	return !w.doom->ended;
}

static pst_err err_of(enum pst_catalog_op_kind kind, enum pst_catalog_object object, const char *name, const char *body)
{
	assert_true(ask(kind, object, name, body));
	json_decref(call.result);
	if (call.err != PST_OK)
		assert_string_not_equal(call.message, "");
	return call.err;
}

/* All that there is, without what differs between runs. */
static char *signature(void)
{
	static const enum pst_catalog_object kinds[] = { PST_CATALOG_VOLUME, PST_CATALOG_TENANT, PST_CATALOG_PROFILE };
	json_t *all = json_array(), *item;
	char *text;
	size_t i;

	for (unsigned k = 0; k < PST_ARRAY_COUNT(kinds); k++) {
		assert_true(ask(PST_CATALOG_LIST, kinds[k], NULL, NULL));
		json_array_foreach(call.result, i, item)
		{
			json_object_del(item, "uuid");
			json_object_del(item, "nqn");
			json_object_del(item, "serial");
			json_array_append(all, item);
		}
		json_decref(call.result);
	}
	text = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	return text;
}

/* ---- Crashes ---- */

static const struct step {
	enum pst_catalog_op_kind kind;
	enum pst_catalog_object object;
	const char *name, *body;
} scenario[] = {
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

#define STEPS PST_ARRAY_COUNT(scenario)

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	w.done++;
}

/* No volume lies in the pool that the catalog does not know: asked for by everything that was ever made. */
static void check_no_orphans(const struct doom_pool *before)
{
	assert_true(ask(PST_CATALOG_LIST, PST_CATALOG_VOLUME, NULL, NULL));
	for (unsigned i = 0; i < before->made_count; i++) {
		struct pst_pool_op op = { .kind = PST_POOL_VOLUME_OPEN, .done = pool_done };
		char text[37];
		bool listed = false;
		json_t *item;
		size_t n;

		snprintf(text, sizeof(text), "%02x%02x%02x%02x-", before->made[i][0], before->made[i][1],
			 before->made[i][2], before->made[i][3]);
		json_array_foreach(call.result, n, item) listed |=
		    strncmp(json_string_value(json_object_get(item, "uuid")), text, 9) == 0;
		memcpy(op.uuid, before->made[i], 16);
		pst_pool_submit(w.ram, &op);
		while (w.done == 0)
			pst_env_poll(w.env, 1000000);
		w.done = 0;
		assert_int_equal(op.err, listed ? PST_E_BUSY : PST_E_NOTFOUND);
	}
	json_decref(call.result);
}

static char *signatures[STEPS + 1];

/* Runs until the world ends or a call fails. Returns how many calls succeeded; *ret_steps: durable steps begun. */
static unsigned run_scenario(bool record)
{
	for (unsigned i = 0; i < STEPS; i++) {
		const struct step *s = &scenario[i];

		if (record)
			signatures[i] = signature();
		if (!ask(s->kind, s->object, s->name, s->body))
			return i;
		json_decref(call.result);
		if (call.err != PST_OK)
			return i;
	}
	if (record)
		signatures[STEPS] = signature();
	return STEPS;
}

static void start_world(enum doom doom, unsigned doom_at)
{
	assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
	boot(doom, doom_at);
}

static void one_crash(enum doom doom, unsigned doom_at)
{
	struct doom_pool *before;
	unsigned answered;
	char *found;

	start_world(doom, doom_at);
	answered = run_scenario(false);
	assert_true(answered < STEPS);
	before = w.doom;
	crash();
	boot(DOOM_NONE, 0);
	found = signature();
	if (strcmp(found, signatures[answered]) != 0)
		assert_string_equal(found, signatures[answered + 1]);
	free(found);
	check_no_orphans(before);
	shut_down();
}

/*
 * Whatever durable step a crash hits, before or after it, or an error: the next start finds what was answered, the call
 * in flight happened wholly or not at all, and no volume is left behind in the pool.
 */
static void crash_at_every_step_is_completed_or_undone(void **state)
{
	unsigned steps;

	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(run_scenario(true), STEPS);
	steps = w.doom->steps;
	assert_true(steps > 20);
	shut_down();
	for (unsigned at = 1; at <= steps; at++) {
		one_crash(DOOM_BEFORE, at);
		one_crash(DOOM_AFTER, at);
		one_crash(DOOM_ERROR, at);
	}
	for (unsigned i = 0; i <= STEPS; i++)
		free(signatures[i]);
	for (unsigned i = 0; i < grave_count; i++)
		assert_non_null(graves[i]);
}

/* A call that failed leaves everything as it was, without a restart too: but for a delete, which can be repeated. */
static void failed_step_leaves_the_catalog_usable(void **state)
{
	(void)state;
	for (unsigned at = 1; at <= 3; at++) {
		if (at > 1)
			assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
		boot(DOOM_ERROR, at);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_E_IO);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_E_NOTFOUND);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
		shut_down();
	}
	for (unsigned at = 4; at <= 6; at++) {
		assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
		boot(DOOM_ERROR, at);
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[0].body), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_E_IO);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "a", NULL), PST_OK);
		assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "a", NULL), PST_E_NOTFOUND);
		shut_down();
	}
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

static void put_record(const char *key, const char *value)
{
	struct pst_pool_op op = { .kind = PST_POOL_RECORD_PUT, .key = key, .value = value, .done = pool_done };

	op.value_bytes = (uint32_t)strlen(value);
	pst_pool_submit(w.ram, &op);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	assert_int_equal(op.err, PST_OK);
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
			assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
		put_record(bad[i][0], bad[i][1]);
		w.doom = calloc(1, sizeof(*w.doom));
		target.env = w.env;
		assert_int_equal(pst_catalog_new(w.env, NULL, &w.catalog), PST_OK);
		op = (struct pst_catalog_pool_op){ .name = "p", .pool = w.ram, .done = pool_added };
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
		cmocka_unit_test_setup_teardown(volume_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(shrink_below_used_data, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_records_stop_the_start, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_volume_is_shown_as_failed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
