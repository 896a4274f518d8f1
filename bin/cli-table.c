/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-table.h"

#include "base/units.h"
#include "cli-args.h"

#include <libsmartcols.h>
#include <stdio.h>
#include <string.h>

char *cli_format_size(json_t *value, char buf[64])
{
	return pst_format_size((uint64_t)json_integer_value(value), buf);
}

char *cli_format_text(json_t *value, char buf[64])
{
	snprintf(buf, 64, "%s", json_is_string(value) ? json_string_value(value) : "-");
	return buf;
}

char *cli_format_quota(json_t *value, char buf[64])
{
	if (json_integer_value(value) != 0)
		return cli_format_size(value, buf);
	snprintf(buf, 64, "-");
	return buf;
}

char *cli_format_reserve(json_t *policy, char buf[64])
{
	return cli_rates(policy, "reserve", buf);
}

char *cli_format_limit(json_t *policy, char buf[64])
{
	return cli_rates(policy, "limit", buf);
}

char *cli_format_weight(json_t *policy, char buf[64])
{
	snprintf(buf, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(policy, "weight")));
	return buf;
}

static const char *cell_text(json_t *value, const struct cli_column *column, char buf[64])
{
	if (column->format != NULL)
		return column->format(value, buf);
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "yes" : "no";
	if (json_is_array(value)) { /* a listing says how many; what they are is shown one by one */
		snprintf(buf, 64, "%zu", json_array_size(value));
		return buf;
	}
	snprintf(buf, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	return buf;
}

static bool fill_table(struct libscols_table *table, json_t *list, const struct cli_column *columns)
{
	json_t *object;
	size_t row;

	for (size_t i = 0; columns[i].title != NULL; i++)
		if (scols_table_new_column(table, columns[i].title, 0, columns[i].right ? SCOLS_FL_RIGHT : 0) == NULL)
			return false;
	json_array_foreach(list, row, object)
	{
		struct libscols_line *line = scols_table_new_line(table, NULL);

		for (size_t i = 0; line != NULL && columns[i].title != NULL; i++) {
			char buf[64];
			json_t *value = json_object_get(object, columns[i].member);

			if (scols_line_set_data(line, i, cell_text(value, &columns[i], buf)) != 0)
				line = NULL;
		}
		if (line == NULL)
			return false;
	}
	return true;
}

int cli_print_table(json_t *list, const struct cli_column *columns)
{
	struct libscols_table *table = scols_new_table();
	bool ok = table != NULL && fill_table(table, list, columns) && scols_print_table(table) == 0;

	scols_unref_table(table);
	if (!ok)
		cli_error(NULL, "the table can't be printed");
	return ok ? CLI_OK : CLI_FAILED;
}

static void print_member(const char *key, json_t *value)
{
	size_t len = strlen(key), index;
	char buf[64];
	json_t *item;

	printf("%-20s ", key);
	if (json_is_array(value)) {
		json_array_foreach(value, index, item)
		    printf("%s%s", index ? " " : "", json_string_value(item) ? json_string_value(item) : "");
	} else if (json_is_string(value)) {
		fputs(json_string_value(value), stdout);
	} else if (json_is_boolean(value)) {
		fputs(json_is_true(value) ? "yes" : "no", stdout);
	} else {
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
		if (len > 6 && strcmp(key + len - 6, "_bytes") == 0 && json_integer_value(value) >= 1024)
			printf(" (%s)", cli_format_size(value, buf));
	}
	putchar('\n');
}

int cli_print_card(json_t *object)
{
	const char *key, *policy_key;
	json_t *value, *policy_value;

	json_object_foreach(object, key, value)
	{
		if (!json_is_object(value)) {
			print_member(key, value);
			continue;
		}
		json_object_foreach(value, policy_key, policy_value) print_member(policy_key, policy_value);
	}
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}
