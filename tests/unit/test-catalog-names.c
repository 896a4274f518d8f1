/* SPDX-License-Identifier: Apache-2.0 */
/* How the catalog keeps what has a name: found by it, and in the order of names, whatever order they came in. */
#include "control/catalog-names.h"

#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MANY 10000u

struct thing {
	struct cat_named named;
	char name[16];
};

static struct thing things[MANY];

static struct thing *thing_at(unsigned i)
{
	snprintf(things[i].name, sizeof(things[i].name), "v%05u", i);
	return &things[i];
}

static void add(struct cat_names *names, unsigned i)
{
	cat_names_add(names, &thing_at(i)->named, things[i].name);
}

static void expect_sorted(const struct cat_names *names, unsigned count)
{
	const char *last = "";
	unsigned seen = 0;

	CAT_NAMES_EACH(n, names) {
		assert_true(strcmp(last, n->name) < 0);
		last = n->name;
		seen++;
	}
	assert_int_equal(seen, count);
	assert_int_equal(cat_names_count(names), count);
}

/* In any order: each of many is found, none that is gone or never was, and the rest stays in order. */
static void many_are_found_and_in_order(void **state)
{
	struct pst_prng prng;
	unsigned order[MANY] = { 0 };
	struct cat_names names;
	char none[16];

	(void)state;
	pst_prng_init(&prng, 7);
	cat_names_init(&names, 7);
	for (unsigned i = 0; i < MANY; i++) {
		unsigned j = (unsigned)pst_prng_below(&prng, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (unsigned i = 0; i < MANY; i++)
		add(&names, order[i]);
	expect_sorted(&names, MANY);
	for (unsigned i = 0; i < MANY; i += 2)
		cat_names_remove(&names, &things[i].named);
	expect_sorted(&names, MANY / 2);
	for (unsigned i = 0; i < MANY; i++)
		assert_ptr_equal(cat_names_find(&names, things[i].name), i % 2 == 1 ? &things[i].named : NULL);
	snprintf(none, sizeof(none), "v%05u", MANY);
	assert_null(cat_names_find(&names, none));
	assert_null(cat_names_find(&names, ""));
	CAT_NAMES_EACH(n, &names)
		cat_names_remove(&names, n);
	expect_sorted(&names, 0);
	cat_names_done(&names);
}

/* A name that begins another is another. */
static void a_beginning_is_not_the_name(void **state)
{
	struct thing a = { .name = "train" }, b = { .name = "train-2" };
	struct cat_names names;

	(void)state;
	cat_names_init(&names, 1);
	cat_names_add(&names, &b.named, b.name);
	assert_null(cat_names_find(&names, "train"));
	cat_names_add(&names, &a.named, a.name);
	assert_ptr_equal(cat_names_find(&names, "train"), &a.named);
	assert_ptr_equal(cat_names_next(&names, &a.named), &b.named);
	assert_null(cat_names_next(&names, &b.named));
	cat_names_remove(&names, &a.named);
	cat_names_remove(&names, &b.named);
	cat_names_done(&names);
}

/* Work that remembers the name it was at goes on behind it, also where that object is gone or others came. */
static void work_goes_on_behind_a_name(void **state)
{
	struct cat_names names;

	(void)state;
	cat_names_init(&names, 1);
	assert_null(cat_names_after(&names, ""));
	for (unsigned i = 1; i <= 5; i++)
		add(&names, i);
	assert_ptr_equal(cat_names_after(&names, ""), &things[1].named);
	assert_ptr_equal(cat_names_after(&names, "v00003"), &things[4].named);
	cat_names_remove(&names, &things[3].named);
	assert_ptr_equal(cat_names_after(&names, "v00003"), &things[4].named);
	assert_ptr_equal(cat_names_after(&names, "v00002"), &things[4].named);
	add(&names, 3);
	assert_ptr_equal(cat_names_after(&names, "v00002"), &things[3].named);
	assert_null(cat_names_after(&names, "v00005"));
	assert_null(cat_names_after(&names, "w"));
	CAT_NAMES_EACH(n, &names)
		cat_names_remove(&names, n);
	cat_names_done(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_are_found_and_in_order),
		cmocka_unit_test(a_beginning_is_not_the_name),
		cmocka_unit_test(work_goes_on_behind_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
