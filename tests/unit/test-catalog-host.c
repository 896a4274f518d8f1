/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts and allow lists in the catalog: crashes at every step, keys that can't be had, rotation, refusals. */
#include "catalog-rig.h"

/* By nvme gen-dhchap-key. */
#define KEY "DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:"
#define OTHER_KEY "DHHC-1:00:hTs4U00PbrEhz2Ig0LNrVa54Spmrfx69qqxc2lXU9smcDF7N:"
#define TLS_KEY "NVMeTLSkey-1:01:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s/3PpT:"
#define NQN "nqn.2026-01.example:a"
#define NQN_B "nqn.2026-01.example:b"

/* ---- A key-encryption key of the test's own: wrapping is adding its number to each byte, and its name in front ----
 */

struct fake_kek {
	struct pst_kek kek;
	const char *current; /* "1" or "2"; NULL: none */
	bool has_old;        /* "1" is still there */
};

static void kek_done(struct pst_post *post)
{
	struct pst_kek_op *op = pst_container_of(post, struct pst_kek_op, post);

	op->done(op);
}

static void kek_submit(struct pst_kek *kek, struct pst_kek_op *op)
{
	const struct fake_kek *f = pst_container_of(kek, struct fake_kek, kek);

	op->err = PST_OK;
	if (op->kind == PST_KEK_WRAP && f->current != NULL) {
		snprintf(op->id, sizeof(op->id), "%s", f->current);
		op->wrapped[0] = (uint8_t)f->current[0];
		for (uint32_t i = 0; i < op->secret_bytes; i++)
			op->wrapped[i + 1] = (uint8_t)(op->secret[i] + f->current[0]);
		op->wrapped_bytes = op->secret_bytes + 1;
	} else if (op->kind == PST_KEK_UNWRAP && f->current != NULL && (f->has_old || op->id[0] == f->current[0])) {
		assert_int_equal(op->wrapped[0], op->id[0]);
		for (uint32_t i = 1; i < op->wrapped_bytes; i++)
			op->secret[i - 1] = (uint8_t)(op->wrapped[i] - op->id[0]);
		op->secret_bytes = op->wrapped_bytes - 1;
	} else if (op->kind != PST_KEK_RELOAD) {
		op->err = PST_E_NOTFOUND;
		snprintf(op->detail, sizeof(op->detail), "that key is not here");
	}
	op->post.fn = kek_done;
	pst_env_post(kek->env, &op->post);
}

static void kek_status(struct pst_kek *kek, struct pst_kek_status *ret)
{
	const struct fake_kek *f = pst_container_of(kek, struct fake_kek, kek);

	*ret = (struct pst_kek_status){ .keys = 1 };
	snprintf(ret->current, sizeof(ret->current), "%s", f->current != NULL ? f->current : "");
}

static const struct pst_kek_ops kek_ops = { kek_submit, kek_status, NULL };
static struct fake_kek fake_kek;

static int setup_kek(void **state)
{
	int rc = setup(state);

	fake_kek = (struct fake_kek){ .kek = { &kek_ops, w.env }, .current = "1" };
	rig_kek = &fake_kek.kek;
	return rc;
}

static int teardown_kek(void **state)
{
	rig_kek = NULL;
	return teardown(state);
}

/* ---- Tests ---- */

static const struct step scenario[] = {
	{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"" NQN "\",\"key\":\"" KEY "\"}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
	  "{\"name\":\"v\",\"size_bytes\":1048576,\"allowed_hosts\":[\"" NQN "\"]}" },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"allow_host\":\"" NQN_B "\"}" },
	{ PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"ctrl_key\":\"" OTHER_KEY "\",\"groups\":[\"null\"]}" },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"deny_host\":\"" NQN "\"}" },
	{ PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"key\":\"" OTHER_KEY "\",\"ctrl_key\":\"none\"}" },
	{ PST_CATALOG_DELETE, PST_CATALOG_HOST, NQN, NULL },
	{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, "{\"members\":[{\"volume\":\"v\",\"name\":\"s\"}]}" },
	{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"w\",\"source\":\"v@s\"}" },
	{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"any_host\":true}" },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "w", NULL },
	{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "v", NULL, true },
};

/* A crash at any durable step leaves each change done wholly or not at all; no volume is ever open to more than it was.
 */
static void crash_at_every_step_is_completed_or_undone(void **state)
{
	(void)state;
	assert_true(crash_everywhere(scenario, PST_ARRAY_COUNT(scenario)) > 20);
}

static json_t *show(enum pst_catalog_object object, const char *name)
{
	assert_true(ask(PST_CATALOG_SHOW, object, name, NULL));
	assert_int_equal(call.err, PST_OK);
	return call.result;
}

static void change(enum pst_catalog_op_kind kind, enum pst_catalog_object object, const char *name, const char *body)
{
	pst_err err = err_of(kind, object, name, body);

	if (err != PST_OK)
		fail_msg("%s: %s", pst_err_text(err), call.message);
}

/* Keys go to the target and into the record, wrapped; no answer has them. After a start the target has them again. */
static void keys_reach_the_target_and_nobody_else(void **state)
{
	json_t *json;
	char *text;

	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL,
	       "{\"nqn\":\"" NQN "\",\"key\":\"" KEY "\",\"ctrl_key\":\"" OTHER_KEY "\",\"groups\":[\"ffdhe8192\"]}");
	assert_int_equal(target.hosts, 1);
	assert_int_equal(target.host_key.hash, 1);
	assert_int_equal(target.host_key.bytes[0], 0x7e);
	assert_int_equal(target.ctrl_key.hash, 0);
	assert_int_equal(target.groups, 1u << PST_AUTH_FFDHE8192);
	json = show(PST_CATALOG_HOST, NQN);
	text = json_dumps(json, 0);
	assert_null(strstr(text, "fkr2"));
	assert_null(strstr(text, "wrapped"));
	assert_true(json_is_true(json_object_get(json, "two_way")));
	free(text);
	json_decref(json);
	shut_down();

	new_pool(); /* what was written is in the fake's other pool: a record can be read there by nobody but a catalog
		     */
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, scenario[0].body);
	crash();
	memset(&target.host_key, 0, sizeof(target.host_key));
	boot(DOOM_NONE, 0);
	assert_int_equal(target.host_key.bytes[0], 0x7e);
	assert_false(target.has_ctrl_key);
	assert_int_equal(target.groups & (1u << PST_AUTH_NULL_GROUP | 1u << PST_AUTH_FFDHE8192), 0); /* by default */
	shut_down();
}

/* A TLS key is kept like the others, alone or beside them, and taken away; a host is not left without any. */
static void tls_keys_are_kept_alone_or_beside(void **state)
{
	json_t *json;
	char *text;

	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"" NQN "\"}"), PST_E_INVAL);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL,
				"{\"nqn\":\"" NQN "\",\"tls_key\":\"" TLS_KEY "\",\"ctrl_key\":\"" OTHER_KEY "\"}"),
			 PST_E_INVAL);
	assert_int_equal(
	    err_of(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"" NQN "\",\"tls_key\":\"" KEY "\"}"),
	    PST_E_INVAL);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"" NQN "\",\"tls_key\":\"" TLS_KEY "\"}");
	assert_false(target.has_host_key);
	assert_true(target.has_tls_key);
	assert_int_equal(target.tls_key.hash, 1);
	assert_int_equal(target.tls_key.bytes[0], 'k');
	json = show(PST_CATALOG_HOST, NQN);
	text = json_dumps(json, 0);
	assert_null(strstr(text, "a2tr"));
	assert_true(json_is_true(json_object_get(json, "tls")));
	assert_false(json_is_true(json_object_get(json, "authenticates")));
	free(text);
	json_decref(json);
	crash();
	memset(&target.tls_key, 0, sizeof(target.tls_key));
	boot(DOOM_NONE, 0);
	assert_int_equal(target.tls_key.bytes[0], 'k');
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"tls_key\":\"none\"}"), PST_E_INVAL);
	fake_kek.current = "2";
	fake_kek.has_old = true;
	change(PST_CATALOG_CREATE, PST_CATALOG_KEY, NULL, "{\"action\":\"rotate\"}");
	fake_kek.has_old = false;
	change(PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"key\":\"" KEY "\"}");
	assert_true(target.has_host_key && target.has_tls_key);
	change(PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"tls_key\":\"none\"}");
	assert_true(target.has_host_key);
	assert_false(target.has_tls_key);
	shut_down();
}

/* Without the KEK a host is locked, and the target told so; with it, after a reload, it is not. */
static void a_missing_kek_locks_hosts(void **state)
{
	json_t *json;

	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, scenario[0].body);
	crash();
	fake_kek.current = NULL;
	target.locked_hosts = target.hosts = 0;
	boot(DOOM_NONE, 0);
	assert_int_equal(target.locked_hosts, 1);
	assert_int_equal(target.hosts, 0);
	json = show(PST_CATALOG_HOST, NQN);
	assert_true(json_is_true(json_object_get(json, "locked")));
	assert_non_null(strstr(json_string_value(json_object_get(json, "error")), "not here"));
	json_decref(json);
	assert_int_equal(err_of(PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"groups\":[\"null\"]}"), PST_E_KEY);
	fake_kek.current = "1";
	change(PST_CATALOG_CREATE, PST_CATALOG_KEY, NULL, "{\"action\":\"reload\"}");
	assert_int_equal(target.hosts, 1);
	json = show(PST_CATALOG_HOST, NQN);
	assert_false(json_is_true(json_object_get(json, "locked")));
	json_decref(json);
	shut_down();

	rig_kek = NULL; /* started without one: the same, and no key can be kept */
	new_pool();
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, scenario[0].body), PST_E_KEY);
	assert_non_null(strstr(call.hint, "--kek"));
	shut_down();
}

/* Rotation wraps the keys of hosts anew: afterwards the old KEK is not needed any more. */
static void rotation_takes_hosts_along(void **state)
{
	json_t *json;

	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL,
	       "{\"nqn\":\"" NQN "\",\"key\":\"" KEY "\",\"ctrl_key\":\"" OTHER_KEY "\"}");
	fake_kek.current = "2";
	fake_kek.has_old = true;
	change(PST_CATALOG_CREATE, PST_CATALOG_KEY, NULL, "{\"action\":\"rotate\"}");
	json = show(PST_CATALOG_HOST, NQN);
	assert_string_equal(json_string_value(json_object_get(json, "kek")), "2");
	json_decref(json);
	crash();
	fake_kek.has_old = false;
	target.locked_hosts = 0;
	memset(&target.host_key, 0, sizeof(target.host_key));
	boot(DOOM_NONE, 0);
	assert_int_equal(target.locked_hosts, 0);
	assert_int_equal(target.host_key.bytes[0], 0x7e);
	assert_true(target.has_ctrl_key);
	shut_down();
}

/* The target is told the list with the volume, and of each change; a clone inherits it; the last one off opens nothing.
 */
static void lists_are_told_and_inherited(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"u\",\"size_bytes\":4096}");
	assert_false(target.last->allow.restricted);
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[1].body);
	assert_true(target.last->allow.restricted);
	assert_string_equal(target.last->first_allowed, NQN);
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"allow_host\":\"" NQN_B "\"}");
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"allow_host\":\"" NQN_B "\"}"); /* twice is once */
	assert_int_equal(target.last->allow.count, 2);
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"deny_host\":\"" NQN "\"}");
	assert_string_equal(target.last->first_allowed, NQN_B);
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"deny_host\":\"" NQN_B "\"}");
	assert_true(target.last->allow.restricted);
	assert_int_equal(target.last->allow.count, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, scenario[7].body);
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[8].body);
	assert_true(target.last->allow.restricted);
	crash();
	boot(DOOM_NONE, 0); /* v and w have lists, in the order of names the last one served is w */
	assert_true(target.last->allow.restricted);
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "w", "{\"any_host\":true}");
	assert_false(target.last->allow.restricted);
	shut_down();
}

/* What is wrong in a request is refused with the object named, and changes nothing. */
static void wrong_requests_are_refused(void **state)
{
	static const struct {
		enum pst_catalog_op_kind kind;
		enum pst_catalog_object object;
		const char *name, *body;
		pst_err err;
	} cases[] = {
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"nqn.x\"}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"key\":\"" KEY "\"}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"host\",\"key\":\"" KEY "\"}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"nqn.a b\",\"key\":\"" KEY "\"}",
		  PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"nqn.x\",\"key\":\"DHHC-1:01:AAAA:\"}",
		  PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"nqn.x\",\"key\":5}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL,
		  "{\"nqn\":\"nqn.x\",\"key\":\"" KEY "\",\"ctrl_key\":\"" KEY "\"}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL,
		  "{\"nqn\":\"nqn.x\",\"key\":\"" KEY "\",\"hashes\":[\"md5\"]}", PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"nqn.x\",\"key\":\"" KEY "\",\"groups\":[]}",
		  PST_E_INVAL },
		{ PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, "{\"nqn\":\"" NQN "\",\"key\":\"" KEY "\"}",
		  PST_E_EXISTS },
		{ PST_CATALOG_SET, PST_CATALOG_HOST, NQN, "{\"key\":null}", PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_HOST, "nqn.none", "{}", PST_E_NOTFOUND },
		{ PST_CATALOG_DELETE, PST_CATALOG_HOST, "nqn.none", NULL, PST_E_NOTFOUND },
		{ PST_CATALOG_DELETE, PST_CATALOG_HOST, NQN, NULL, PST_E_BUSY }, /* it is on a list */
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"deny_host\":\"" NQN "\"}", PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"allow_host\":\"nobody\"}", PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"allowed_hosts\":\"" NQN "\"}", PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"allowed_hosts\":[\"" NQN "\",\"" NQN "\"]}",
		  PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"allow_host\":\"" NQN "\",\"deny_host\":\"" NQN_B "\"}",
		  PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "u", "{\"allow_host\":\"" NQN "\",\"size_bytes\":4096}",
		  PST_E_INVAL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"deny_host\":\"" NQN_B "\"}", PST_E_NOTFOUND },
	};
	char *before, *after;

	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_HOST, NULL, scenario[0].body);
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"u\",\"size_bytes\":4096}");
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, scenario[1].body);
	before = signature();
	for (size_t i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		pst_err err = err_of(cases[i].kind, cases[i].object, cases[i].name, cases[i].body);

		if (err != cases[i].err)
			fail_msg("case %zu: %s instead of %s: %s", i, pst_err_text(err), pst_err_text(cases[i].err),
				 call.message);
		assert_null(strstr(call.message, "fkr2")); /* no key in a message */
	}
	after = signature();
	assert_string_equal(before, after);
	free(before);
	free(after);
	call_force = true;
	change(PST_CATALOG_DELETE, PST_CATALOG_HOST, NQN, NULL);
	assert_int_equal(target.hosts, 0);
	shut_down();
}

/* A list is as long as its record may be; then it is full, and says so. */
static void a_list_can_be_full(void **state)
{
	char body[300];
	unsigned count = 0;
	pst_err err;

	(void)state;
	boot(DOOM_NONE, 0);
	change(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"v\",\"size_bytes\":4096}");
	do {
		snprintf(body, sizeof(body), "{\"allow_host\":\"nqn.2026-01.example:%0200u\"}", count);
		err = err_of(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", body);
		count += err == PST_OK;
	} while (err == PST_OK);
	assert_int_equal(err, PST_E_NOSPACE);
	assert_int_equal(count, 13);
	assert_int_equal(target.last->allow.count, 13);
	change(PST_CATALOG_SET, PST_CATALOG_VOLUME, "v", "{\"allowed_hosts\":[]}");
	assert_int_equal(target.last->allow.count, 0);
	shut_down();
}

/* Records that are damaged, or were patched together, let nobody in: they stop the start, or lock the host. */
static void damaged_records_open_nothing(void **state)
{
	static const char *const bad[][2] = {
		{ "host/nqn.x", "{\"format\":1}" },
		{ "host/nqn.x", "{\"format\":1,\"key\":{\"kek\":\"1\",\"wrapped\":\"0\"},\"hashes\":[\"sha256\"],"
				"\"groups\":[\"null\"]}" },
		{ "host/nqn.x", "{\"format\":1,\"key\":{\"kek\":\"1\",\"wrapped\":\"00\"},\"hashes\":[],"
				"\"groups\":[\"null\"]}" },
		{ "host/BAD NAME", "{\"format\":1,\"key\":{\"kek\":\"1\",\"wrapped\":\"00\"},\"hashes\":[\"sha256\"],"
				   "\"groups\":[\"null\"]}" },
		{ "allow/x", "{\"format\":1,\"hosts\":[]}" }, /* there is no such volume */
		{ "allow/x", "{\"format\":1,\"hosts\":5}" },
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
		shut_down();
	}
	new_pool(); /* wrapped with the right KEK, but for nobody of that name */
	put_record("host/" NQN, "{\"format\":1,\"key\":{\"kek\":\"1\",\"wrapped\":\"317932513131313131313131\"},"
				"\"hashes\":[\"sha256\"],\"groups\":[\"null\"]}");
	target.locked_hosts = target.hosts = 0;
	boot(DOOM_NONE, 0);
	assert_int_equal(target.hosts, 0);
	assert_int_equal(target.locked_hosts, 1);
	shut_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(crash_at_every_step_is_completed_or_undone, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(keys_reach_the_target_and_nobody_else, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(tls_keys_are_kept_alone_or_beside, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(a_missing_kek_locks_hosts, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(rotation_takes_hosts_along, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(lists_are_told_and_inherited, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(wrong_requests_are_refused, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(a_list_can_be_full, setup_kek, teardown_kek),
		cmocka_unit_test_setup_teardown(damaged_records_open_nothing, setup_kek, teardown_kek),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
