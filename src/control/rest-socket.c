/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket's path outlives its process, so its existence says nothing. PATH.lock does: whoever holds its lock owns the
 * path, and the kernel gives the lock back when the owner dies. The lock file itself stays: removing it would let two
 * daemons lock two files of the same name.
 */
#include "control/rest-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

static pst_err errno_err(void)
{
	switch (errno) {
	case EACCES:
	case EPERM:
	case EROFS:
		return PST_E_DENIED;
	case ENOENT:
	case ENOTDIR:
		return PST_E_NOTFOUND;
	case ENOSPC:
		return PST_E_NOSPACE;
	case EADDRINUSE:
	case EWOULDBLOCK:
		return PST_E_ADDRINUSE;
	default:
		return PST_E_IO;
	}
}

static void make_directory(const char *path)
{
	char dir[108];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL || slash == dir)
		return;
	*slash = '\0';
	/* What goes wrong here shows when the lock is opened. */
	if (mkdir(dir, 0700) != 0)
		return;
}

static pst_err take_lock(struct pst_rest_socket *s, char *detail, size_t detail_bytes)
{
	char lock[sizeof(s->path) + 8];
	pst_err err;

	snprintf(lock, sizeof(lock), "%s.lock", s->path);
	s->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0) {
		err = errno_err();
		snprintf(detail, detail_bytes, "the API's lock file %s can't be opened: %s; choose another --api path",
			 lock, strerror(errno));
		return err;
	}
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return PST_OK;
	err = errno_err();
	snprintf(detail, detail_bytes,
		 "the API socket %s belongs to a running penstockd; stop that one, or choose another --api unix:PATH",
		 s->path);
	close(s->lock_fd);
	return err;
}

static pst_err bind_path(struct pst_rest_socket *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	memcpy(sa.sun_path, s->path, strlen(s->path) + 1);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return errno_err();
	mask = umask(0177); /* no moment in which others may connect */
	rc = bind(s->fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	if (rc == 0)
		rc = listen(s->fd, BACKLOG);
	if (rc != 0) {
		pst_err err = errno_err();

		close(s->fd);
		return err;
	}
	return PST_OK;
}

pst_err pst_rest_socket_open(struct pst_rest_socket *s, const char *path, char *detail, size_t detail_bytes)
{
	struct stat st;
	pst_err err;

	if (path[0] == '\0' || strlen(path) >= sizeof(s->path)) {
		snprintf(detail, detail_bytes, "the API socket's path must have 1 to %zu bytes: %.150s",
			 sizeof(s->path) - 1, path);
		return PST_E_INVAL;
	}
	snprintf(s->path, sizeof(s->path), "%s", path);
	make_directory(s->path);
	err = take_lock(s, detail, detail_bytes);
	if (err != PST_OK)
		return err;
	if (lstat(s->path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		snprintf(detail, detail_bytes, "%s exists and is not a socket; choose another --api unix:PATH",
			 s->path);
		close(s->lock_fd);
		return PST_E_EXISTS;
	}
	unlink(s->path);
	err = bind_path(s);
	if (err != PST_OK) {
		snprintf(detail, detail_bytes, "the API socket %s can't be made: %s", s->path, pst_err_text(err));
		close(s->lock_fd);
	}
	return err;
}

void pst_rest_socket_close(struct pst_rest_socket *s)
{
	unlink(s->path);
	if (s->fd >= 0)
		close(s->fd);
	close(s->lock_fd);
}

static int tcp_open(const struct addrinfo *to)
{
	int on = 1, saved, fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    (to->ai_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
	    bind(fd, to->ai_addr, to->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static uint16_t tcp_port(int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char port[NI_MAXSERV] = "0";

	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0 ||
	    getnameinfo((struct sockaddr *)&sa, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV) != 0)
		return 0;
	return (uint16_t)strtoul(port, NULL, 10);
}

pst_err pst_rest_socket_tcp(const struct pst_addr *addr, int *ret_fd, struct pst_addr *ret_bound, char *detail,
			    size_t detail_bytes)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	const char *host = strcmp(addr->host, "localhost") == 0 ? "127.0.0.1" : addr->host;
	struct addrinfo *to = NULL;
	char port[8], text[72];
	pst_err err = PST_E_INVAL;
	int fd = -1;

	snprintf(port, sizeof(port), "%u", addr->port);
	if (getaddrinfo(host, port, &hints, &to) == 0) {
		fd = tcp_open(to);
		err = fd < 0 ? errno_err() : PST_OK;
		freeaddrinfo(to);
	}
	if (err != PST_OK) {
		snprintf(detail, detail_bytes, "the API can't listen on %s: %s; choose another --api https:ADDR:PORT",
			 pst_addr_format(addr, text), pst_err_text(err));
		return err;
	}
	*ret_fd = fd;
	*ret_bound = *addr;
	ret_bound->port = tcp_port(fd);
	return PST_OK;
}
