/* SPDX-License-Identifier: Apache-2.0 */
/* The layout as libnvme has it. */
#include "nvme-layout.h"

#include <nvme/types.h>

/* clang-format off */
#define STRUCT(ours, theirs) { #theirs, 0, sizeof(struct theirs) },
#define FIELD(ours, field, theirs, their_field) \
	{ #theirs "." #their_field, offsetof(struct theirs, their_field), sizeof(((struct theirs *)0)->their_field) },
/* clang-format on */

const struct layout layout_of_libnvme[] = { LAYOUT_STRUCTS(STRUCT) LAYOUT_FIELDS(FIELD) };
