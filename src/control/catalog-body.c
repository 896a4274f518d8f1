/* SPDX-License-Identifier: Apache-2.0 */
/* What calls and records say: members of a request's body, and bytes as text. */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <string.h>

/* ---- Reading bodies ---- */

bool cat_body_check(struct pst_catalog *c, const char *const *allowed)
{
	json_t *body = c->current->body, *value;
	const char *key;

	if (!json_is_object(body)) {
		cat_fail(c, PST_E_INVAL, NULL, "the request must have a body that is a JSON object");
		return false;
	}
	json_object_foreach(body, key, value)
	{
		const char *const *a = allowed;

		while (*a != NULL && strcmp(*a, key) != 0)
			a++;
		if (*a == NULL) {
			cat_fail(c, PST_E_INVAL, NULL, "member '%.60s' is not known here", key);
			return false;
		}
	}
	return true;
}

bool cat_body_text(struct pst_catalog *c, const char *member, size_t max, const char **ret_text)
{
	json_t *json = json_object_get(c->current->body, member);

	if (json == NULL)
		return true;
	if (!json_is_string(json) || json_string_length(json) > max ||
	    strlen(json_string_value(json)) != json_string_length(json)) {
		cat_fail(c, PST_E_INVAL, NULL, "%s must be a string of at most %zu bytes", member, max);
		return false;
	}
	*ret_text = json_string_value(json);
	return true;
}

bool cat_body_name(struct pst_catalog *c, const char **ret_name)
{
	const char *name = NULL;

	if (!cat_body_text(c, "name", PST_NAME_MAX, &name))
		return false;
	if (name == NULL || !pst_name_ok(name)) {
		cat_fail(c, PST_E_INVAL, NULL, "'%.63s' can't be a name: a name is " PST_NAME_RULE, name ? name : "");
		return false;
	}
	*ret_name = name;
	return true;
}

bool cat_body_u64(struct pst_catalog *c, const char *member, uint64_t *ret_value)
{
	json_t *json = json_object_get(c->current->body, member);

	if (json == NULL)
		return true;
	if (!json_is_integer(json) || json_integer_value(json) < 0) {
		cat_fail(c, PST_E_INVAL, NULL, "%s must be a whole number of at least 0", member);
		return false;
	}
	*ret_value = (uint64_t)json_integer_value(json);
	return true;
}

bool cat_body_policy(struct pst_catalog *c, struct pst_qos_policy *policy)
{
	json_t *json = json_object_get(c->current->body, "policy");
	char message[200];
	pst_err err;

	if (json == NULL)
		return true;
	err = pst_policy_from_json(policy, json, message, sizeof(message));
	if (err != PST_OK)
		cat_fail(c, err, NULL, "%s", message);
	return err == PST_OK;
}

/* ---- Bytes in records ---- */

void cat_hex(const uint8_t *bytes, uint32_t len, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t i = 0; i < len; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * len] = '\0';
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool cat_unhex(const char *text, uint8_t *bytes, uint32_t max, uint32_t *ret_len)
{
	size_t len = strlen(text) / 2;

	if (strlen(text) % 2 != 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++) {
		int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret_len = (uint32_t)len;
	return true;
}
