/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static enum pst_env_backend selected = PST_ENV_POSIX;

void harness_select(int argc, char **argv)
{
	struct pst_env *env;

	if (argc != 2 || (strcmp(argv[1], "posix") != 0 && strcmp(argv[1], "uring") != 0)) {
		fprintf(stderr, "usage: %s posix|uring\n", argv[0]);
		exit(2);
	}
	if (strcmp(argv[1], "posix") == 0)
		return;
	selected = PST_ENV_URING;
	if (pst_env_new(&(struct pst_env_config){ .backend = PST_ENV_URING }, &env) == PST_E_UNSUPPORTED) {
		printf("1..0 # SKIP io_uring is refused here (see the line on stderr)\n");
		exit(77);
	}
	pst_env_free(env);
}

const char *harness_name(void)
{
	return selected == PST_ENV_URING ? "io_uring" : "posix";
}

void harness_new(struct harness *h, uint32_t file_depth)
{
	struct pst_env_config config = {
		.backend = selected, .log_level = PST_LOG_ERROR, .file_depth = file_depth, .spin_us = 20
	};

	assert_int_equal(pst_env_new(&config, &h->env), PST_OK);
	assert_string_equal(pst_env_backend_name(h->env), harness_name());
	h->real = true;
	snprintf(h->dir, sizeof(h->dir), "/var/tmp/penstock-contract-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
}

void harness_free(struct harness *h)
{
	DIR *dir = opendir(h->dir);
	struct dirent *entry;

	pst_env_free(h->env);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(h->dir);
}

uint64_t harness_deadline_ns(struct harness *h)
{
	return pst_env_now_ns(h->env) + 20000000000u;
}

bool harness_turn(struct harness *h, uint64_t deadline_ns)
{
	if (pst_env_now_ns(h->env) >= deadline_ns)
		return false;
	if (h->second)
		pst_env_poll(h->second, 0);
	pst_env_poll(h->env, h->second ? 100000 : 5000000);
	return true;
}

bool harness_occupy_port(struct harness *h, struct pst_addr *ret_addr)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int one = 1;

	h->port_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(h->port_fd >= 0);
	assert_int_equal(setsockopt(h->port_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(h->port_fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
	assert_int_equal(bind(h->port_fd, (struct sockaddr *)(void *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(h->port_fd, 1), 0);
	assert_int_equal(getsockname(h->port_fd, (struct sockaddr *)(void *)&sa, &len), 0);
	*ret_addr = (struct pst_addr){ .host = "127.0.0.1", .port = ntohs(sa.sin_port) };
	return true;
}

void harness_release_port(struct harness *h)
{
	close(h->port_fd);
}

struct pst_env *harness_second_shard(struct harness *h)
{
	assert_int_equal(pst_env_new(&(struct pst_env_config){ .backend = selected }, &h->second), PST_OK);
	return h->second;
}

void harness_free_shard(struct harness *h, struct pst_env *shard)
{
	h->second = NULL;
	pst_env_free(shard);
}

bool harness_has_ipv6(struct harness *h)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && bind(fd, (struct sockaddr *)(void *)&sa, sizeof(sa)) == 0;

	(void)h;
	if (fd >= 0)
		close(fd);
	return has;
}
