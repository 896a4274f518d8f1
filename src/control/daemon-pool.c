/* SPDX-License-Identifier: Apache-2.0 */
#include "control/daemon.h"

#include <stdio.h>

pst_err pst_daemon_pool_open(struct pst_env *env, const struct pst_daemon_config *config,
			     const struct pst_daemon_pool *pool, struct pst_pool **ret_pool, char *detail,
			     size_t detail_bytes)
{
	pst_err err;

	(void)config;
	err = pst_ram_pool_new(env, pool->ram_size_bytes, ret_pool);
	if (err != PST_OK)
		snprintf(detail, detail_bytes, "the pool in memory can't be made: %s; choose another --ram SIZE",
			 pst_err_text(err));
	return err;
}
