/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS 1000000u

const struct pst_qos_policy pst_policy_default = { .weight = 100, .burst_ns = 100 * NS_PER_MS };

/*
 * Weights and bursts by I/O pattern: a feature store's small requests are what a job waits for, and cost little; a
 * dataset feeds accelerators steadily; a checkpoint is a burst that may use what was saved up; artifacts are in no
 * hurry.
 */
const struct pst_profile pst_profiles[] = {
	{ "general", "no assumption about the I/O pattern", { .weight = 100, .burst_ns = 100 * NS_PER_MS } },
	{ "dataset", "steady large reads that feed accelerators", { .weight = 300, .burst_ns = 200 * NS_PER_MS } },
	{ "checkpoint", "bursts of large writes, read at restarts", { .weight = 100, .burst_ns = 2000 * NS_PER_MS } },
	{ "feature", "many small reads and writes", { .weight = 400, .burst_ns = 100 * NS_PER_MS } },
	{ "artifact", "models: written once, read at rollout", { .weight = 50, .burst_ns = 500 * NS_PER_MS } },
	{ NULL, NULL, { 0 } },
};

/* Not isalnum(): what a name may be must not depend on the locale. */
static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool pst_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > PST_NAME_MAX || !is_alnum(name[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(name[i]) && strchr("._-", name[i]) == NULL)
			return false;
	return true;
}

struct member {
	const char *name;
	uint64_t min, max;
};

static const struct member members[] = {
	{ "reserve_iops", 0, 1000000000 },
	{ "reserve_bytes_per_s", 0, (uint64_t)1 << 50 },
	{ "limit_iops", 0, 1000000000 },
	{ "limit_bytes_per_s", 0, (uint64_t)1 << 50 },
	{ "weight", 1, 10000 },
	{ "burst_ms", 1, 60000 },
};

static void assign(struct pst_qos_policy *p, size_t member, uint64_t value)
{
	uint64_t *const wide[] = { &p->reserve_iops, &p->reserve_bytes_per_s, &p->limit_iops, &p->limit_bytes_per_s };

	if (member < PST_ARRAY_COUNT(wide))
		*wide[member] = value;
	else if (member == PST_ARRAY_COUNT(wide))
		p->weight = (uint32_t)value;
	else
		p->burst_ns = value * NS_PER_MS;
}

static pst_err member_from_json(struct pst_qos_policy *p, const char *key, json_t *value, char *message, size_t bytes)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(members); i++) {
		const struct member *m = &members[i];

		if (strcmp(m->name, key) != 0)
			continue;
		if (!json_is_integer(value) || json_integer_value(value) < (json_int_t)m->min ||
		    json_integer_value(value) > (json_int_t)m->max) {
			snprintf(message, bytes, "policy.%s must be a whole number from %" PRIu64 " to %" PRIu64, key,
				 m->min, m->max);
			return PST_E_INVAL;
		}
		assign(p, i, (uint64_t)json_integer_value(value));
		return PST_OK;
	}
	snprintf(message, bytes, "policy.%.60s is not known", key);
	return PST_E_INVAL;
}

pst_err pst_policy_from_json(struct pst_qos_policy *policy, json_t *json, char *message, size_t message_bytes)
{
	struct pst_qos_policy p = *policy;
	const char *key;
	json_t *value;

	if (!json_is_object(json)) {
		snprintf(message, message_bytes, "policy must be an object");
		return PST_E_INVAL;
	}
	json_object_foreach(json, key, value)
	{
		pst_err err = member_from_json(&p, key, value, message, message_bytes);

		if (err != PST_OK)
			return err;
	}
	*policy = p;
	return PST_OK;
}

json_t *pst_policy_to_json(const struct pst_qos_policy *p)
{
	return json_pack("{s:I s:I s:I s:I s:I s:I}", "reserve_iops", (json_int_t)p->reserve_iops,
			 "reserve_bytes_per_s", (json_int_t)p->reserve_bytes_per_s, "limit_iops",
			 (json_int_t)p->limit_iops, "limit_bytes_per_s", (json_int_t)p->limit_bytes_per_s, "weight",
			 (json_int_t)p->weight, "burst_ms", (json_int_t)(p->burst_ns / NS_PER_MS));
}

void pst_uuid_format(const uint8_t u[16], char ret[37])
{
	static const char digits[] = "0123456789abcdef";
	char *to = ret;

	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[u[i] >> 4];
		*to++ = digits[u[i] & 15];
	}
	*to = '\0';
}

pst_err pst_uuid_parse(const char *text, uint8_t ret_uuid[16])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t uuid[16] = { 0 };
	unsigned nibbles = 0;

	if (strlen(text) != 36)
		return PST_E_INVAL;
	for (unsigned i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		const char *at = dash ? NULL : strchr(digits, text[i]);

		if (dash ? text[i] != '-' : at == NULL)
			return PST_E_INVAL;
		if (!dash) {
			uuid[nibbles / 2] = (uint8_t)(uuid[nibbles / 2] << 4 | (at - digits));
			nibbles++;
		}
	}
	memcpy(ret_uuid, uuid, 16);
	return PST_OK;
}
