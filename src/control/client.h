/* SPDX-License-Identifier: Apache-2.0 */
/* The REST client that the command line, the runner and the bench share: JSON over a unix socket or HTTPS (libcurl). */
#ifndef PST_CONTROL_CLIENT_H
#define PST_CONTROL_CLIENT_H

#include "base/base.h"

#include <jansson.h>

struct pst_api_error {
	int http_status;   /* 0: no answer at all */
	char message[400]; /* what happened to which object */
	char hint[200];    /* the command to type next; may be empty */
};

/*
 * The daemon's API address: @url if not NULL, else PENSTOCK_URL, else the default unix socket ("unix:PATH"):
 * /run/penstock/api.sock for root, $XDG_RUNTIME_DIR/penstock/api.sock or /tmp/penstock-UID/api.sock for others.
 */
const char *pst_api_url(const char *url, char buf[256]);

/*
 * One call; waits. @body may be NULL and stays the caller's; *ret_json (may be NULL) is a new reference, only on
 * success. Errors map from the HTTP status; PST_E_REFUSED when no daemon answers. Any thread.
 */
pst_err PST_MUST_USE pst_api_call(const char *url, const char *method, const char *path, json_t *body,
				  json_t **ret_json, struct pst_api_error *ret_error);

/*
 * Calls of this thread ask @give_up about once a second while they wait; true ends them with PST_E_CANCELLED. NULL:
 * nobody is asked. For who must not hang on a daemon that does.
 */
void pst_api_on_wait(bool (*give_up)(void *arg), void *arg);

#endif
