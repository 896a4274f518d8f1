/* SPDX-License-Identifier: Apache-2.0 */
/* Our wire structures against libnvme's: an independent reading of the specification. */
#include "nvme-layout.h"
#include "proto/nvme.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* clang-format off */
#define STRUCT(ours, theirs) { #ours, 0, sizeof(struct ours) },
#define FIELD(ours, field, theirs, their_field) \
	{ #ours "." #field, offsetof(struct ours, field), sizeof(((struct ours *)0)->field) },
/* clang-format on */

static const struct layout layout_of_ours[] = { LAYOUT_STRUCTS(STRUCT) LAYOUT_FIELDS(FIELD) };

/* Every structure has the same size, and every field the same place and size. */
static void layouts_agree(void **state)
{
	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(layout_of_ours); i++) {
		const struct layout *a = &layout_of_ours[i], *b = &layout_of_libnvme[i];

		if (a->offset != b->offset || a->size != b->size)
			fail_msg("%s at %zu, %zu bytes; libnvme: %s at %zu, %zu bytes", a->name, a->offset, a->size,
				 b->name, b->offset, b->size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(layouts_agree) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
