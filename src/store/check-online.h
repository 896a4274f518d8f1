/* SPDX-License-Identifier: Apache-2.0 */
/* The check of an open pool, beside its work: PST_POOL_CHECK. */
#ifndef PST_STORE_CHECK_ONLINE_H
#define PST_STORE_CHECK_ONLINE_H

#include "store/internal.h"

/*
 * Begins with the operation at the head of the control queue. PST_E_AGAIN: it is under way; it leaves the queue by
 * itself (control_detach), and ends later. PST_E_BUSY: one runs already.
 */
pst_err PST_MUST_USE online_begin(struct store *st, struct pst_pool_op *op);

/* The pool closes, or can't wait for blocks that the check keeps: it ends soon, with PST_E_CANCELLED or PST_E_AGAIN. */
void online_stop(struct store *st);
void online_need_space(struct store *st);

/* Blocks that nobody needs any more: free now, or when the check that may still read them has ended. */
void online_release(struct part *p, uint32_t block, uint32_t count);

#endif
