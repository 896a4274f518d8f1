/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: made, kept as digests, shown once, expired and revoked; and what a caller sees that is bound to a tenant. */
#include "catalog-rig.h"

#define ADMIN "{\"name\":\"root\",\"role\":\"admin\"}"

static char made[128]; /* the token of the last create */

static void create(const char *body)
{
	const char *text;

	assert_true(ask(PST_CATALOG_CREATE, PST_CATALOG_TOKEN, NULL, body));
	assert_int_equal(call.err, PST_OK);
	text = json_string_value(json_object_get(call.result, "token"));
	assert_non_null(text);
	snprintf(made, sizeof(made), "%s", text);
	json_decref(call.result);
}

static pst_err show(const char *text, struct pst_caller *caller)
{
	const char *why = NULL;
	pst_err err = pst_catalog_authenticate(w.catalog, text, caller, &why);

	assert_int_equal(why == NULL, err == PST_OK);
	return err;
}

/* A token opens what its role says, after a restart, too; its text is told once, and the record has a digest alone. */
static void a_token_is_kept_as_a_digest(void **state)
{
	struct pst_caller caller;
	char *text;

	(void)state;
	boot(DOOM_NONE, 0);
	create(ADMIN);
	assert_int_equal(strlen(made), 9 + 16 + 1 + 43);
	assert_int_equal(show(made, &caller), PST_OK);
	assert_int_equal(caller.role, PST_ROLE_ADMIN);
	assert_string_equal(caller.tenant, "");
	assert_true(caller.has_token);
	assert_true(ask(PST_CATALOG_LIST, PST_CATALOG_TOKEN, NULL, NULL));
	assert_int_equal(json_array_size(call.result), 1);
	text = json_dumps(call.result, 0);
	assert_null(strstr(text, made + 26)); /* the secret */
	assert_non_null(strstr(text, "last_used"));
	free(text);
	json_decref(call.result);
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(show(made, &caller), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_TOKEN, "root", NULL), PST_OK);
	assert_int_equal(show(made, &caller), PST_E_DENIED);
	assert_false(pst_catalog_caller_valid(w.catalog, &caller));
	crash();
	boot(DOOM_NONE, 0);
	assert_int_equal(show(made, &caller), PST_E_DENIED);
	shut_down();
}

/* Any other text opens nothing: one character more, less or different, at any place. */
static void no_other_text_opens(void **state)
{
	struct pst_caller caller;
	char text[130];
	size_t len;

	(void)state;
	boot(DOOM_NONE, 0);
	create(ADMIN);
	len = strlen(made);
	for (size_t i = 0; i < len; i++) {
		snprintf(text, sizeof(text), "%s", made);
		text[i] = text[i] == 'a' ? 'b' : 'a';
		assert_int_equal(show(text, &caller), PST_E_DENIED);
		text[i] = '\0';
		assert_int_equal(show(text, &caller), PST_E_DENIED);
	}
	snprintf(text, sizeof(text), "%sA", made);
	assert_int_equal(show(text, &caller), PST_E_DENIED);
	/* The last character has 4 bits of the secret: others that differ in the rest are no second text for it. */
	for (const char *c = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; *c != '\0'; c++) {
		snprintf(text, sizeof(text), "%s", made);
		text[len - 1] = *c;
		assert_int_equal(show(text, &caller) == PST_OK, *c == made[len - 1]);
	}
	assert_int_equal(show("", &caller), PST_E_DENIED);
	assert_int_equal(show(made, &caller), PST_OK);
	shut_down();
}

/* Roles, tenants and times that make no sense are refused, and nothing is recorded. */
static void nonsense_is_refused(void **state)
{
	static const struct {
		const char *body;
		pst_err err;
	} bad[] = {
		{ "{\"name\":\"t\"}", PST_E_INVAL },
		{ "{\"role\":\"admin\"}", PST_E_INVAL },
		{ "{\"name\":\"T\",\"role\":\"admin\"}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"root\"}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":1}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"tenant\"}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"admin\",\"tenant\":\"default\"}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"operator\",\"tenant\":\"default\"}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"tenant\",\"tenant\":\"none\"}", PST_E_NOTFOUND },
		{ "{\"name\":\"t\",\"role\":\"admin\",\"expires_in_s\":0}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"admin\",\"expires_in_s\":315360001}", PST_E_INVAL },
		{ "{\"name\":\"t\",\"role\":\"admin\",\"secret\":\"x\"}", PST_E_INVAL },
		{ ADMIN, PST_E_EXISTS },
	};

	(void)state;
	boot(DOOM_NONE, 0);
	create(ADMIN);
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++)
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TOKEN, NULL, bad[i].body), bad[i].err);
	assert_int_equal(w.doom->steps, 1);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_TOKEN, "t", NULL), PST_E_NOTFOUND);
	assert_int_equal(err_of(PST_CATALOG_SHOW, PST_CATALOG_TOKEN, "t", NULL), PST_E_NOTFOUND);
	shut_down();
}

/* A record that has expired opens nothing; one without an end does. The digest is of the bytes 0 to 31. */
static void expired_tokens_open_nothing(void **state)
{
	static const char record[] = "{\"format\":1,\"id\":\"0011223344556677\",\"sha256\":"
				     "\"630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd\","
				     "\"role\":\"viewer\",\"created_ns\":1,\"expires_ns\":%d}";
	static const char text[] = "penstock_0011223344556677_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
	struct pst_caller caller;
	char value[300];

	(void)state;
	for (int expires_ns = 0; expires_ns < 3; expires_ns++) {
		snprintf(value, sizeof(value), record, expires_ns);
		if (expires_ns > 0)
			new_pool();
		put_record("token/old", value);
		boot(DOOM_NONE, 0);
		assert_int_equal(show(text, &caller), expires_ns == 0 ? PST_OK : PST_E_DENIED);
		shut_down();
	}
}

/* A token that can't be recorded is not made, one that can't be deleted stays; a crash leaves what was answered. */
static void changes_are_durable_or_not_done(void **state)
{
	static const struct step row[] = {
		{ PST_CATALOG_CREATE, PST_CATALOG_TOKEN, NULL, ADMIN, false },
		{ PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL, "{\"name\":\"vision\"}", false },
		{ PST_CATALOG_CREATE, PST_CATALOG_TOKEN, NULL,
		  "{\"name\":\"v\",\"role\":\"tenant\",\"tenant\":\"vision\",\"expires_in_s\":60}", false },
		{ PST_CATALOG_DELETE, PST_CATALOG_TOKEN, "root", NULL, false },
		{ PST_CATALOG_DELETE, PST_CATALOG_TOKEN, "v", NULL, false },
		{ PST_CATALOG_DELETE, PST_CATALOG_TENANT, "vision", NULL, false },
	};

	(void)state;
	assert_int_equal(crash_everywhere(row, PST_ARRAY_COUNT(row)), 6);
}

/* A tenant of the same name that comes later does not inherit tokens: the first can't go as long as it has some. */
static void a_tenant_with_tokens_stays(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL, "{\"name\":\"vision\"}"), PST_OK);
	create("{\"name\":\"v\",\"role\":\"metrics\",\"tenant\":\"vision\"}");
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_TENANT, "vision", NULL), PST_E_BUSY);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_TOKEN, "v", NULL), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_DELETE, PST_CATALOG_TENANT, "vision", NULL), PST_OK);
	shut_down();
}

/* ---- Bound to a tenant ---- */

static size_t listed(enum pst_catalog_object object)
{
	size_t count;

	assert_true(ask(PST_CATALOG_LIST, object, NULL, NULL));
	assert_int_equal(call.err, PST_OK);
	count = json_array_size(call.result);
	json_decref(call.result);
	return count;
}

static void two_tenants(void)
{
	static const char *const bodies[] = { "{\"name\":\"a\",\"size_bytes\":4096,\"tenant\":\"mine\"}",
					      "{\"name\":\"b\",\"size_bytes\":4096,\"tenant\":\"other\"}" };

	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL, "{\"name\":\"mine\"}"), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL, "{\"name\":\"other\"}"), PST_OK);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, bodies[i]), PST_OK);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL,
				"{\"members\":[{\"volume\":\"a\",\"name\":\"s\"},{\"volume\":\"b\",\"name\":\"s\"}]}"),
			 PST_OK);
}

/* Lists have what is the tenant's; what it makes is its own, also without saying so. */
static void lists_have_what_is_its_own(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	two_tenants();
	assert_int_equal(listed(PST_CATALOG_VOLUME), 2);
	call_tenant = "mine";
	assert_int_equal(listed(PST_CATALOG_VOLUME), 1);
	assert_int_equal(listed(PST_CATALOG_SNAPSHOT), 1);
	assert_int_equal(listed(PST_CATALOG_TENANT), 1);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"c\",\"size_bytes\":4096}"),
			 PST_OK);
	assert_int_equal(listed(PST_CATALOG_VOLUME), 2);
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"d\",\"source\":\"a@s\"}"),
			 PST_OK);
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "d", NULL));
	assert_string_equal(json_string_value(json_object_get(call.result, "tenant")), "mine");
	assert_string_equal(json_string_value(json_object_get(call.result, "source")), "a@s");
	json_decref(call.result);
	call_tenant = NULL;
	shut_down();
}

/* Every way to name what another has is answered as if it was not there: the same error, in the same words. */
static void what_another_has_is_not_there(void **state)
{
	static const struct {
		enum pst_catalog_op_kind kind;
		enum pst_catalog_object object;
		const char *name, *body; /* with % for the volume */
	} tries[] = {
		{ PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "%", NULL },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "%", "{\"size_bytes\":8192}" },
		{ PST_CATALOG_SET, PST_CATALOG_VOLUME, "%", "{\"nonsense\":1}" },
		{ PST_CATALOG_DELETE, PST_CATALOG_VOLUME, "%", NULL },
		{ PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "%", "{\"snapshot\":\"%@s\"}" },
		{ PST_CATALOG_ROLLBACK, PST_CATALOG_VOLUME, "a", "{\"snapshot\":\"%@s\"}" },
		{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL, "{\"name\":\"n\",\"source\":\"%@s\"}" },
		{ PST_CATALOG_SHOW, PST_CATALOG_SNAPSHOT, "%@s", NULL },
		{ PST_CATALOG_DIFF, PST_CATALOG_SNAPSHOT, "%@s", NULL },
		{ PST_CATALOG_DELETE, PST_CATALOG_SNAPSHOT, "%@s", NULL },
		{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL,
		  "{\"members\":[{\"volume\":\"a\",\"name\":\"n\"},{\"volume\":\"%\",\"name\":\"n\"}]}" },
		{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL, "{\"members\":[{\"volume\":\"%\",\"name\":\"s\"}]}" },
		{ PST_CATALOG_CREATE, PST_CATALOG_SNAPSHOT, NULL,
		  "{\"members\":[{\"volume\":\"%\",\"name\":\"S!\"}]}" },
	};

	(void)state;
	boot(DOOM_NONE, 0);
	two_tenants();
	call_tenant = "mine";
	for (size_t i = 0; i < PST_ARRAY_COUNT(tries); i++) {
		char name[8] = "", body[120] = "", said[2][sizeof(call.message)];
		pst_err err[2];

		for (unsigned there = 0; there < 2; there++) {
			const char *from[2] = { tries[i].name, tries[i].body };
			char *to[2] = { name, body };

			for (unsigned k = 0; k < 2; k++) {
				snprintf(to[k], k == 0 ? sizeof(name) : sizeof(body), "%s", from[k] ? from[k] : "");
				for (char *c = to[k]; *c != '\0'; c++)
					*c = *c == '%' ? (there ? 'b' : 'x') : *c;
			}
			err[there] =
			    err_of(tries[i].kind, tries[i].object, from[0] ? name : NULL, from[1] ? body : NULL);
			snprintf(said[there], sizeof(said[0]), "%s", call.message);
			for (char *c = said[there]; *c != '\0'; c++)
				if (strncmp(c, "'b", 2) == 0 || strncmp(c, "'x", 2) == 0)
					c[1] = '%';
		}
		assert_true(err[0] == PST_E_NOTFOUND || tries[i].body != NULL);
		assert_int_equal(err[1], err[0]);
		assert_string_equal(said[1], said[0]);
	}
	call_tenant = NULL;
	assert_int_equal(listed(PST_CATALOG_VOLUME), 2);
	assert_int_equal(listed(PST_CATALOG_SNAPSHOT), 2);
	shut_down();
}

/* Another tenant's name, the site's objects, and what would change its own tenant: not for it, whatever the server lets
 * by. */
static void the_rest_is_refused(void **state)
{
	static const struct {
		enum pst_catalog_op_kind kind;
		enum pst_catalog_object object;
		const char *name, *body;
		pst_err err;
	} tries[] = {
		{ PST_CATALOG_SHOW, PST_CATALOG_TENANT, "other", NULL, PST_E_NOTFOUND },
		{ PST_CATALOG_SHOW, PST_CATALOG_TENANT, "mine", NULL, PST_OK },
		{ PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
		  "{\"name\":\"n\",\"size_bytes\":4096,\"tenant\":\"other\"}", PST_E_NOTFOUND },
		{ PST_CATALOG_SET, PST_CATALOG_TENANT, "mine", "{\"quota_bytes\":0}", PST_E_DENIED },
		{ PST_CATALOG_DELETE, PST_CATALOG_TENANT, "mine", NULL, PST_E_DENIED },
		{ PST_CATALOG_CREATE, PST_CATALOG_TENANT, NULL, "{\"name\":\"n\"}", PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_POOL, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_HOST, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_PROFILE, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_EVENT, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_KEY, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_LIST, PST_CATALOG_TOKEN, NULL, NULL, PST_E_DENIED },
		{ PST_CATALOG_CREATE, PST_CATALOG_TOKEN, NULL, ADMIN, PST_E_DENIED },
	};

	(void)state;
	boot(DOOM_NONE, 0);
	two_tenants();
	call_tenant = "mine";
	for (size_t i = 0; i < PST_ARRAY_COUNT(tries); i++)
		assert_int_equal(err_of(tries[i].kind, tries[i].object, tries[i].name, tries[i].body), tries[i].err);
	call_tenant = NULL;
	shut_down();
}

/* A clone that an operator gave the tenant does not tell whose snapshot it was. */
static void a_source_of_another_is_not_told(void **state)
{
	(void)state;
	boot(DOOM_NONE, 0);
	two_tenants();
	assert_int_equal(err_of(PST_CATALOG_CREATE, PST_CATALOG_VOLUME, NULL,
				"{\"name\":\"c\",\"source\":\"b@s\",\"tenant\":\"mine\"}"),
			 PST_OK);
	call_tenant = "mine";
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "c", NULL));
	assert_null(json_object_get(call.result, "source"));
	assert_null(json_object_get(call.result, "source_uuid"));
	json_decref(call.result);
	assert_true(ask(PST_CATALOG_SET, PST_CATALOG_VOLUME, "c", "{\"ana_group\":2}"));
	assert_int_equal(call.err, PST_OK);
	assert_null(json_object_get(call.result, "source"));
	json_decref(call.result);
	call_tenant = NULL;
	assert_true(ask(PST_CATALOG_SHOW, PST_CATALOG_VOLUME, "c", NULL));
	assert_string_equal(json_string_value(json_object_get(call.result, "source")), "b@s");
	json_decref(call.result);
	shut_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_token_is_kept_as_a_digest, setup, teardown),
		cmocka_unit_test_setup_teardown(no_other_text_opens, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(expired_tokens_open_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(changes_are_durable_or_not_done, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tenant_with_tokens_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(lists_have_what_is_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(what_another_has_is_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(the_rest_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_source_of_another_is_not_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
