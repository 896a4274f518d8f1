/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses as people and discovery pages write them. Only numeric hosts and "localhost" are accepted: resolving names
 * would block a shard, and NVMe/TCP transport addresses are numeric (NVMe TCP Transport, TRADDR).
 */
#include "env/env.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_port(const char *text, uint16_t *ret_port)
{
	unsigned long port = 0;

	if (*text == 0)
		return false;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return false;
		port = port * 10 + (unsigned long)(*c - '0');
		if (port > UINT16_MAX)
			return false;
	}
	*ret_port = (uint16_t)port;
	return true;
}

static bool host_ok(const char *host, bool v6)
{
	unsigned char binary[16];

	if (v6)
		return inet_pton(AF_INET6, host, binary) == 1;
	return strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, binary) == 1;
}

pst_err pst_addr_parse(const char *text, uint16_t default_port, struct pst_addr *ret_addr)
{
	struct pst_addr addr = { .port = default_port };
	bool v6 = text[0] == '[';
	const char *host = v6 ? text + 1 : text;
	size_t len = strcspn(host, v6 ? "]" : ":");
	const char *rest = host + len;

	if (v6) {
		if (*rest != ']')
			return PST_E_INVAL;
		rest++;
	}
	if (len == 0 || len >= sizeof(addr.host))
		return PST_E_INVAL;
	memcpy(addr.host, host, len);
	if (!host_ok(addr.host, v6))
		return PST_E_INVAL;
	if (*rest && (*rest != ':' || !parse_port(rest + 1, &addr.port)))
		return PST_E_INVAL;
	*ret_addr = addr;
	return PST_OK;
}

bool pst_addr_is_loopback(const char *host)
{
	static const unsigned char v6[16] = { [15] = 1 }, mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned char binary[16];

	if (strcmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, binary) == 1)
		return binary[0] == 127;
	if (inet_pton(AF_INET6, host, binary) != 1)
		return false;
	return memcmp(binary, v6, sizeof(v6)) == 0 ||
	       (memcmp(binary, mapped, sizeof(mapped)) == 0 && binary[12] == 127);
}

char *pst_addr_format(const struct pst_addr *addr, char buf[72])
{
	bool v6 = strchr(addr->host, ':') != NULL;

	snprintf(buf, 72, v6 ? "[%s]:%u" : "%s:%u", addr->host, addr->port);
	return buf;
}
