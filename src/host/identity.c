/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who this host is. The host identifier is the uuid of the host NQN where there is one (as hosts commonly do: targets
 * refuse one NQN with several identifiers), else what the caller chose.
 */
#include "host/host.h"

#include <stdio.h>
#include <string.h>

#define UUID_PREFIX "nqn.2014-08.org.nvmexpress:uuid:"

void pst_host_nqn_format(const uint8_t uuid[16], char ret_nqn[224])
{
	const uint8_t *u = uuid;

	snprintf(ret_nqn, 224, UUID_PREFIX "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
		 u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool pst_host_nqn_uuid(const char *nqn, uint8_t ret_uuid[16])
{
	size_t prefix = strlen(UUID_PREFIX), digits = 0;
	uint8_t uuid[16] = { 0 };

	if (strncmp(nqn, UUID_PREFIX, prefix) != 0)
		return false;
	for (const char *c = nqn + prefix; *c != '\0'; c++) {
		int value = hex_digit(*c);

		if (*c == '-')
			continue;
		if (value < 0 || digits == 32)
			return false;
		uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | value);
		digits++;
	}
	if (digits != 32)
		return false;
	memcpy(ret_uuid, uuid, sizeof(uuid));
	return true;
}
