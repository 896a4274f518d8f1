/* SPDX-License-Identifier: Apache-2.0 */
/* The API's sockets. The unix socket: who may own its path, and since when. */
#ifndef PST_CONTROL_REST_SOCKET_H
#define PST_CONTROL_REST_SOCKET_H

#include "env/env.h"

struct pst_rest_socket {
	int fd, lock_fd;
	char path[108]; /* as long as sun_path */
};

/* Listens, mode 0600. Makes the last directory of @path (mode 0700) if it is missing. Not while other threads run. */
pst_err PST_MUST_USE pst_rest_socket_open(struct pst_rest_socket *s, const char *path, char *detail,
					  size_t detail_bytes);

/*
 * A TCP socket that listens at @addr; *ret_bound says where, if the port was 0. On error @detail says what, and what to
 * do.
 */
pst_err PST_MUST_USE pst_rest_socket_tcp(const struct pst_addr *addr, int *ret_fd, struct pst_addr *ret_bound,
					 char *detail, size_t detail_bytes);

/* Removes the path. @s->fd of -1 is closed already. */
void pst_rest_socket_close(struct pst_rest_socket *s);

#endif
