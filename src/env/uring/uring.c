/* SPDX-License-Identifier: Apache-2.0 */
#include "env/real.h"

#include <stdio.h>

pst_err pst_uring_start(struct pst_env *env)
{
	snprintf(env->reason, sizeof(env->reason), "io_uring backend not built in yet");
	return PST_E_UNSUPPORTED;
}
