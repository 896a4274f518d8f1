/* SPDX-License-Identifier: Apache-2.0 */
/* What would run: --dry-run. Steps stand in waves: all of a wave could run side by side, CPUs and volumes permitting.
 */
#include "pipeline/runner.h"

#include <stdio.h>

/* The wave of each step: one more than the highest of those that it needs. The graph has no cycles (parse.c). */
static void waves(const struct pst_pipeline *p, unsigned wave[PST_PIPELINE_STEPS_MAX])
{
	bool changed = true;

	for (size_t i = 0; i < p->step_count; i++)
		wave[i] = 1;
	while (changed) {
		changed = false;
		for (size_t i = 0; i < p->step_count; i++)
			for (size_t k = 0; k < p->steps[i].needs_count; k++)
				if (wave[i] <= wave[p->steps[i].needs[k]]) {
					wave[i] = wave[p->steps[i].needs[k]] + 1;
					changed = true;
				}
	}
}

static void print_step(const struct pst_pipeline *p, const struct pst_pipeline_step *s)
{
	printf("   %-16s", s->name);
	for (size_t i = 0; s->command[i] != NULL; i++)
		printf(" %s", s->command[i]);
	putchar('\n');
	for (size_t i = 0; i < s->needs_count; i++)
		printf("%s%s%s", i == 0 ? "                    needs " : ", ", p->steps[s->needs[i]].name,
		       i + 1 == s->needs_count ? "\n" : "");
	for (size_t i = 0; i < s->pins_count; i++)
		printf("%s%s@%s%s", i == 0 ? "                    snapshots " : ", ",
		       p->volumes[s->pins[i].volume].name, s->pins[i].version, i + 1 == s->pins_count ? "\n" : "");
	for (size_t i = 0; i < s->uses_count; i++)
		printf("%s%s %s%s", i == 0 ? "                    volumes " : ", ", p->volumes[s->uses[i].volume].name,
		       s->uses[i].rw ? "rw" : "ro", i + 1 == s->uses_count ? "\n" : "");
}

void plan_print(struct runner *r)
{
	const struct pst_pipeline *p = r->pipeline;
	unsigned wave[PST_PIPELINE_STEPS_MAX];
	size_t left = p->step_count;

	waves(p, wave);
	printf("pipeline %s: %zu steps, %zu volumes, volumes reached by %s (%s)\n", p->name, p->step_count,
	       p->volume_count, pst_mount_path_name(r->path), r->path_reason);
	for (size_t i = 0; i < p->volume_count; i++)
		if (p->volumes[i].source != SIZE_MAX)
			printf("   volume %s-%s: clone of %s@%s, profile %s, %s\n", p->name, p->volumes[i].name,
			       p->volumes[p->volumes[i].source].name, p->volumes[i].version, p->volumes[i].profile,
			       p->volumes[i].fs);
		else
			printf("   volume %s-%s: %llu MiB, profile %s, %s\n", p->name, p->volumes[i].name,
			       (unsigned long long)(p->volumes[i].size_bytes >> 20), p->volumes[i].profile,
			       p->volumes[i].fs);
	for (unsigned n = 1; left > 0; n++) {
		printf("%u.\n", n);
		for (size_t i = 0; i < p->step_count; i++)
			if (wave[i] == n) {
				print_step(p, &p->steps[i]);
				left--;
			}
	}
}

json_t *plan_json(struct runner *r)
{
	const struct pst_pipeline *p = r->pipeline;
	unsigned wave[PST_PIPELINE_STEPS_MAX];
	json_t *steps = json_array(), *clones = json_array();

	waves(p, wave);
	for (size_t i = 0; i < p->step_count; i++) {
		json_t *needs = json_array(), *pins = json_array();

		for (size_t k = 0; k < p->steps[i].needs_count; k++)
			json_array_append_new(needs, json_string(p->steps[p->steps[i].needs[k]].name));
		for (size_t k = 0; k < p->steps[i].pins_count; k++)
			json_array_append_new(pins, json_sprintf("%s@%s", p->volumes[p->steps[i].pins[k].volume].name,
								 p->steps[i].pins[k].version));
		json_array_append_new(steps, json_pack("{s:s, s:i, s:o, s:o}", "name", p->steps[i].name, "wave",
						       wave[i], "needs", needs, "snapshots", pins));
	}
	for (size_t i = 0; i < p->volume_count; i++)
		if (p->volumes[i].source != SIZE_MAX)
			json_array_append_new(clones,
					      json_pack("{s:s, s:o}", "name", p->volumes[i].name, "version",
							json_sprintf("%s@%s", p->volumes[p->volumes[i].source].name,
								     p->volumes[i].version)));
	return json_pack("{s:s, s:s, s:o, s:o}", "pipeline", p->name, "mount_path", pst_mount_path_name(r->path),
			 "clones", clones, "steps", steps);
}
