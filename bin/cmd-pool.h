/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs of `penstock pool` that have a file of their own. */
#ifndef PENSTOCK_BIN_CMD_POOL_H
#define PENSTOCK_BIN_CMD_POOL_H

#include "cli-object.h"

int cmd_pool_check(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);

/* Asks the daemon to check its pool @name, and waits. Returns enum cli_exit. */
int cmd_pool_check_running(const struct cli_common *common, const char *name, bool data);

#endif
