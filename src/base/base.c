/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void pst_assert_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "penstock: internal error: %s:%d: assertion failed: %s\n", file, line, cond);
	abort();
}
