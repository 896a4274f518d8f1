/* SPDX-License-Identifier: Apache-2.0 */
/* What a run ran on, for its record: figures mean nothing without the machine. What can't be read is left out. */
#include "pipeline/runner.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The value of the first line "KEY : VALUE" of @path, or "". */
static void first_value(const char *path, const char *key, char *ret, size_t bytes)
{
	char line[256];
	FILE *f = fopen(path, "re");

	ret[0] = '\0';
	while (f != NULL && ret[0] == '\0' && fgets(line, sizeof(line), f) != NULL) {
		char *colon = strchr(line, ':');

		if (colon == NULL || strncmp(line, key, strlen(key)) != 0)
			continue;
		colon += 1 + strspn(colon + 1, " \t");
		colon[strcspn(colon, "\n")] = '\0';
		snprintf(ret, bytes, "%s", colon);
	}
	if (f != NULL)
		fclose(f);
}

json_t *environment_json(void)
{
	json_t *json = json_object();
	struct utsname name;
	char model[128];
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (uname(&name) == 0) {
		json_object_set_new(json, "kernel", json_sprintf("%s %s", name.sysname, name.release));
		json_object_set_new(json, "machine", json_string(name.machine));
	}
	first_value("/proc/cpuinfo", "model name", model, sizeof(model));
	if (model[0] != '\0')
		json_object_set_new(json, "cpu", json_string(model));
	if (cpus > 0)
		json_object_set_new(json, "cores", json_integer(cpus));
	if (pages > 0 && page > 0)
		json_object_set_new(json, "memory_gib", json_real((double)pages * (double)page / (1 << 30)));
	return json;
}
