/* SPDX-License-Identifier: Apache-2.0 */
/* Names, UUIDs, policies and built-in profiles as the catalog stores them and the API speaks them. Pure; any thread. */
#ifndef PST_CONTROL_POLICY_H
#define PST_CONTROL_POLICY_H

#include "qos/qos.h"

#include <jansson.h>

#define PST_NAME_MAX 63u

/* A small letter or digit, then small letters, digits, '.', '_' or '-'; at most PST_NAME_MAX. */
bool pst_name_ok(const char *name);
#define PST_NAME_RULE "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"

/*
 * Members of @json override members of @policy: reserve_iops, reserve_bytes_per_s, limit_iops, limit_bytes_per_s (0
 * takes it back), weight (1 to 10000), burst_ms (1 to 60000). On error @message says which member is wrong, and @policy
 * is unchanged.
 */
pst_err PST_MUST_USE pst_policy_from_json(struct pst_qos_policy *policy, json_t *json, char *message,
					  size_t message_bytes);

/* A new reference; NULL without memory. */
json_t *pst_policy_to_json(const struct pst_qos_policy *policy);

/* No reservation, no limit, weight 100, burst 100 ms. */
extern const struct pst_qos_policy pst_policy_default;

struct pst_profile {
	const char *name;
	const char *summary;
	struct pst_qos_policy policy;
};

/* The built-in ones, ended by a NULL name. Sites define their own beside them. */
extern const struct pst_profile pst_profiles[];

/* 36 characters and a zero. */
void pst_uuid_format(const uint8_t uuid[16], char ret[37]);
pst_err PST_MUST_USE pst_uuid_parse(const char *text, uint8_t ret_uuid[16]);

#endif
