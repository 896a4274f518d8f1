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
 * The daemon's API address, "unix:PATH" or "https://HOST:PORT": @url if not NULL, else PENSTOCK_URL, else the default
 * unix socket: /run/penstock/api.sock for root, $XDG_RUNTIME_DIR/penstock/api.sock or /tmp/penstock-UID/api.sock for
 * others.
 */
const char *pst_api_url(const char *url, char buf[256]);

/* The default unix socket alone: where a daemon listens that is not told. */
const char *pst_api_default(char buf[256]);

/*
 * What a caller shows and asks for comes from the environment, so that it reaches every part of a program and the
 * programs that it starts: PENSTOCK_TOKEN_FILE, a file with the token (over https that is needed), and PENSTOCK_CA, a
 * PEM file with the certificates that vouch for the daemon's (default: the system's).
 */
#define PST_API_TOKEN_FILE "PENSTOCK_TOKEN_FILE"
#define PST_API_CA "PENSTOCK_CA"

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
