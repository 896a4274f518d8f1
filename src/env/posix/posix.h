/* SPDX-License-Identifier: Apache-2.0 */
/* Between the two halves of the posix backend: the loop (loop.c) and its disk threads (disk.c). */
#ifndef PST_ENV_POSIX_POSIX_H
#define PST_ENV_POSIX_POSIX_H

#include "env/real.h"

void pst_posix_file_start(struct pst_file *file, struct pst_file_op *op);
void pst_posix_disk_free(struct pst_env *env);

#endif
