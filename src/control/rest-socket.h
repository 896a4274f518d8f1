/* SPDX-License-Identifier: Apache-2.0 */
/* The API's unix socket: who may own its path, and since when. */
#ifndef PST_CONTROL_REST_SOCKET_H
#define PST_CONTROL_REST_SOCKET_H

#include "base/base.h"

struct pst_rest_socket {
	int fd, lock_fd;
	char path[108]; /* as long as sun_path */
};

/* Listens, mode 0600. Makes the last directory of @path (mode 0700) if it is missing. Not while other threads run. */
pst_err PST_MUST_USE pst_rest_socket_open(struct pst_rest_socket *s, const char *path, char *detail,
					  size_t detail_bytes);

/* Removes the path. @s->fd of -1 is closed already. */
void pst_rest_socket_close(struct pst_rest_socket *s);

#endif
