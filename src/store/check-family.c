/* SPDX-License-Identifier: Apache-2.0 */
#include "store/check-internal.h"

void ck_families(struct ck *ck)
{
	(void)ck;
}
