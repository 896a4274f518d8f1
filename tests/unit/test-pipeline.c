/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HEAD "pipeline: p\nvolumes:\n  data: {size: 64Mi, profile: dataset}\nsteps:\n"

#define PIN(pins) HEAD "  - {name: a, command: x, volumes: {data: rw}, snapshots: {" pins "}}\n"
#define CLONES(volumes, steps)                                                               \
	"pipeline: p\nvolumes:\n  data: {size: 64Mi, profile: dataset}\n" volumes "steps:\n" \
	"  - {name: a, command: x, volumes: {data: rw}, snapshots: {data: v1}}\n" steps
#define CLONE "  copy: {clone: data@v1}\n"

/* One mistake in a file, and where the error must point. */
struct bad {
	const char *text;
	unsigned line, column;
	const char *message; /* part of it */
};

static const struct bad bads[] = {
	{ "", 1, 1, "empty" },
	{ "- a\n", 1, 3, "must be a mapping" },
	{ "pipeline: p\nsteps: [\n", 3, 1, "" },
	{ "pipeline: p\npipeline: q\nsteps: []\n", 2, 1, "duplicate" },
	{ "pipeline: p\n", 1, 1, "no 'steps'" },
	{ "pipeline: P!\nsteps: [{name: a, command: x}]\n", 1, 11, "can't name a pipeline" },
	{ "pipeline: p\nsteps: []\n", 2, 1, "'steps' is empty" },
	{ "pipeline: p\nstep: []\nsteps: [{name: a, command: x}]\n", 2, 1, "did you mean 'steps'" },
	{ HEAD "  - {name: a, comand: [x]}\n", 5, 15, "did you mean 'command'" },
	{ HEAD "  - {name: a}\n", 5, 6, "no 'command'" },
	{ HEAD "  - {name: a, command: []}\n", 5, 15, "empty" },
	{ HEAD "  - {name: a, command: {x: y}}\n", 5, 15, "must be a list, not a mapping" },
	{ HEAD "  - {name: a, command: x, retries: lots}\n", 5, 36, "whole number" },
	{ HEAD "  - {name: a, command: x, retries: -1}\n", 5, 36, "whole number" },
	{ HEAD "  - {name: a, command: x, timeout: soon}\n", 5, 36, "not a duration" },
	{ HEAD "  - {name: a, command: x, timeout: [1]}\n", 5, 27, "must be a plain value, not a list" },
	{ HEAD "  - {name: a, command: x, needs: [b]}\n", 5, 35, "unknown step 'b'" },
	{ HEAD "  - {name: a, command: x, needs: b}\n", 5, 34, "must be a list" },
	{ HEAD "  - {name: a, command: x, volumes: {date: ro}}\n", 5, 37, "did you mean 'data'" },
	{ HEAD "  - {name: a, command: x, volumes: {data: wr}}\n", 5, 43, "unknown mode 'wr'" },
	{ HEAD "  - {name: a, command: x, outputs: [\"data:/\"]}\n", 5, 38, "does not mount" },
	{ HEAD "  - {name: a, command: x, volumes: {data: ro}, outputs: [\"data:/\"]}\n", 5, 59, "does not mount rw" },
	{ HEAD "  - {name: a, command: x, outputs: [here]}\n", 5, 37, "not on a volume" },
	{ HEAD "  - {name: a, command: x, inputs: [../secret]}\n", 5, 36, "'..'" },
	{ HEAD "  - {name: a, command: x, env: {PENSTOCK_RUN_ID: 1}}\n", 5, 33, "set by the runner" },
	{ HEAD "  - {name: a, command: x, resources: {cpus: 0}}\n", 5, 45, "at least 1" },
	{ HEAD "  - {name: a, command: x, resources: {gpus: 1}}\n", 5, 39, "did you mean 'cpus'" },
	{ HEAD "  - {name: a, command: x, resources: {memory: 1}}\n", 5, 47, "below the smallest" },
	{ HEAD "  - {name: a, command: x}\n  - {name: a, command: y}\n", 6, 12, "exists already, in line 5" },
	{ HEAD "  - {name: a, command: x, needs: [a]}\n", 5, 12, "circle: a -> a" },
	{ HEAD "  - {name: a, command: x, needs: [c]}\n  - {name: b, command: x, needs: [a]}\n"
	       "  - {name: c, command: x, needs: [b]}\n",
	  5, 12, "circle: a -> c -> b -> a" },
	{ "pipeline: p\nvolumes:\n  d: {size: big}\nsteps: [{name: a, command: x}]\n", 3, 13, "not a size" },
	{ "pipeline: p\nvolumes:\n  d: {size: 1K}\nsteps: [{name: a, command: x}]\n", 3, 13, "below the smallest" },
	{ "pipeline: p\nvolumes:\n  d: {profile: fast}\nsteps: [{name: a, command: x}]\n", 3, 16, "unknown profile" },
	{ "pipeline: p\nvolumes:\n  d: {fs: ntfs}\nsteps: [{name: a, command: x}]\n", 3, 11, "one of ext4, xfs" },
	{ "pipeline: p\nvolumes:\n  d_e: {}\nsteps: [{name: a, command: x}]\n", 3, 3, "can't name a volume" },
	{ PIN("data: V_1"), 5, 66, "can't name a snapshot" },
	{ PIN("data: latest"), 5, 66, "'latest' is for clones" },
	{ PIN("date: v1"), 5, 60, "did you mean 'data'" },
	{ HEAD "  - {name: a, command: x, snapshots: {data: v1}}\n", 5, 39, "does not mount" },
	{ HEAD "  - {name: a, command: x, snapshots: [data]}\n", 5, 27, "must be a mapping" },
	{ CLONES("", "  - {name: b, command: x, volumes: {data: ro}, snapshots: {data: v1}}\n"), 6, 60,
	  "step 'a' takes" },
	{ CLONES("  ck: {profile: checkpoint}\n",
		 "  - {name: b, command: x, volumes: {ck: rw}, snapshots: {ck: v1}}\n"),
	  7, 58, "profile checkpoint" },
	{ CLONES(CLONE, "  - {name: b, command: x, needs: [a], volumes: {copy: rw}, snapshots: {copy: v1}}\n"), 7, 72,
	  "is a clone" },
	{ CLONES("  copy: {clone: data}\n", ""), 4, 17, "names no version" },
	{ CLONES("  copy: {clone: data@auto}\n", ""), 4, 17, "names no version" },
	{ CLONES("  copy: {clone: date@v1}\n", ""), 4, 17, "did you mean 'data'" },
	{ CLONES("  copy: {clone: copy@v1}\n", ""), 4, 17, "a clone itself" },
	{ CLONES("  copy: {clone: data@v1, size: 1Gi}\n", ""), 4, 32, "size is its version's" },
	{ CLONES("  copy: {clone: data@v1, fs: xfs}\n", ""), 4, 30, "file system is its version's" },
	{ CLONES(CLONE, "  - {name: b, command: x, volumes: {copy: ro}}\n"), 7, 12, "without needing step 'a'" },
	{ CLONES("  copy: {clone: data@latest}\n", "  - {name: b, command: x, volumes: {copy: ro}}\n"), 7, 12,
	  "without needing step 'a'" },
	{ CLONES(CLONE, "  - {name: b, command: x, needs: [a], volumes: {copy: rw}}\n"
			"  - {name: c, command: x, needs: [b], volumes: {copy: rw}}\n"),
	  8, 12, "as step 'b' does" },
	{ CLONES(CLONE, "  - {name: b, command: x, needs: [a], volumes: {copy: ro}, inputs: [\"data@v2:/\"]}\n"), 7, 70,
	  "mounts no clone" },
	{ CLONES(CLONE, "  - {name: b, command: x, needs: [a], volumes: {copy: rw}, inputs: [\"data@v1:/\"]}\n"), 7, 70,
	  "a step writes it" },
	{ CLONES(CLONE, "  - {name: b, command: x, needs: [a], volumes: {copy: rw}, outputs: [\"data@v1:/\"]}\n"), 7,
	  71, "versions never change" },
	{ "%\xbc"
	  "9\x88\n",
	  1, 1, "directive" },
	{ "pipeline: p\n%TAG ! x\n", 2, 1, "directive" },
	{ "pipeline: p\xff\n", 1, 12, "not UTF-8" },
	{ "pipeline: \xed\xa0\x80\n", 1, 11, "not UTF-8" },
	{ "pipeline: p\033\n", 1, 12, "control character" },
	{ "pipeline: &n p\nsteps: [{name: *n, command: x}]\n", 2, 17, "alias" },
};

static struct pst_pipeline *parse(const char *text, struct pst_pipeline_errors *errors)
{
	struct pst_pipeline *p = NULL;

	*errors = (struct pst_pipeline_errors){ 0 };
	pst_err err = pst_pipeline_parse(text, strlen(text), errors, &p);
	assert_int_equal(err == PST_OK, errors->count == 0);
	return p;
}

/* Every mistake gives an error at its own line and column. */
static void mistake_is_named_with_its_place(void **state)
{
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bads); i++) {
		struct pst_pipeline_errors errors;

		assert_null(parse(bads[i].text, &errors));
		struct pst_pipeline_error *e = &errors.list[0];
		if (e->at.line != bads[i].line || e->at.column != bads[i].column ||
		    strstr(e->message, bads[i].message) == NULL)
			wrong++, print_error("%s: got %u:%u %s, not %u:%u %s\n", bads[i].text, e->at.line, e->at.column,
					     e->message, bads[i].line, bads[i].column, bads[i].message);
		pst_pipeline_errors_done(&errors);
	}
	assert_int_equal(wrong, 0);
}

/* One run shows all mistakes, in order, with the source line and a caret. */
static void all_mistakes_are_shown_at_once(void **state)
{
	const char *text = HEAD "  - name: a\n    comand: x\n    retries: many\n";
	struct pst_pipeline_errors errors;
	char *out = NULL;
	size_t len = 0;

	(void)state;
	assert_null(parse(text, &errors));
	FILE *f = open_memstream(&out, &len);
	pst_pipeline_errors_print(&errors, "f.yaml", text, strlen(text), f);
	fclose(f);
	assert_string_equal(out, "f.yaml:5:5: error: a step has no 'command'\n"
				 "    5 |   - name: a\n"
				 "      |     ^~~~\n"
				 "f.yaml:6:5: error: unknown key 'comand' in a step; did you mean 'command'?\n"
				 "    6 |     comand: x\n"
				 "      |     ^~~~~~\n"
				 "f.yaml:7:14: error: 'retries' must be a whole number from 0 to 100, not 'many'\n"
				 "    7 |     retries: many\n"
				 "      |              ^~~~\n");
	free(out);
	pst_pipeline_errors_done(&errors);
}

/* A full file comes out as written, names resolved to indexes. */
static void full_file_is_read(void **state)
{
	const char *text = "pipeline: demo\n"
			   "volumes:\n"
			   "  raw: {size: 1Gi, profile: dataset}\n"
			   "  out-put: {fs: xfs}\n"
			   "steps:\n"
			   "  - name: prep\n"
			   "    command: [/bin/sh, -c, 'true']\n"
			   "    needs: [ingest]\n"
			   "    volumes: {raw: ro, out-put: rw}\n"
			   "    inputs: [\"raw:/\", prep.py]\n"
			   "    outputs: [\"out-put:/x\"]\n"
			   "    env: {SEED: \"1\", EMPTY: \"\"}\n"
			   "    retries: 2\n"
			   "    timeout: 10m\n"
			   "    resources: {cpus: 2, memory: 2Gi}\n"
			   "  - {name: ingest, command: echo hi, volumes: {raw: rw}}\n";
	struct pst_pipeline_errors errors;
	struct pst_pipeline *p = parse(text, &errors);

	(void)state;
	assert_non_null(p);
	assert_string_equal(p->name, "demo");
	assert_int_equal(p->volume_count, 2);
	assert_int_equal(p->volumes[0].size_bytes, 1u << 30);
	assert_string_equal(p->volumes[1].fs, "xfs");
	assert_string_equal(p->volumes[1].profile, "general");
	struct pst_pipeline_step *s = &p->steps[0];
	assert_string_equal(s->command[2], "true");
	assert_null(s->command[3]);
	assert_int_equal(s->needs[0], 1);
	assert_false(s->uses[0].rw);
	assert_true(s->uses[1].rw);
	assert_int_equal(s->inputs[0].volume, 0);
	assert_string_equal(s->inputs[0].path, "/");
	assert_true(s->inputs[1].volume == SIZE_MAX);
	assert_string_equal(s->outputs[0].path, "/x");
	assert_string_equal(s->env[1].value, "");
	assert_int_equal(s->retries, 2);
	assert_true(s->timeout_ns == 600000000000u);
	assert_int_equal(s->cpus, 2);
	assert_true(s->memory_bytes == (uint64_t)2 << 30);
	assert_string_equal(p->steps[1].command[2], "echo hi");
	pst_pipeline_free(p);
	pst_pipeline_errors_done(&errors);
}

/* Clones and snapshots come out as indexes; a clone takes size, profile and file system from its source, wherever that
 * stands. */
static void versions_are_resolved(void **state)
{
	const char *text =
	    "pipeline: p\n"
	    "volumes:\n"
	    "  copy: {clone: data@v1.2}\n"
	    "  warm: {clone: data@latest, profile: checkpoint}\n"
	    "  data: {size: 64Mi, profile: dataset, fs: xfs}\n"
	    "steps:\n"
	    "  - {name: use, command: x, needs: [mid], volumes: {copy: ro, warm: rw}, inputs: [\"data@v1.2:/d\"]}\n"
	    "  - {name: mid, command: x, needs: [make]}\n"
	    "  - {name: make, command: x, volumes: {data: rw}, snapshots: {data: v1.2}}\n";
	struct pst_pipeline_errors errors;
	struct pst_pipeline *p = parse(text, &errors);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->volumes[0].source, 2);
	assert_string_equal(p->volumes[0].version, "v1.2");
	assert_string_equal(p->volumes[0].profile, "dataset");
	assert_string_equal(p->volumes[0].fs, "xfs");
	assert_int_equal(p->volumes[0].size_bytes, 64 << 20);
	assert_true(p->volumes[0].writer == SIZE_MAX);
	assert_string_equal(p->volumes[1].profile, "checkpoint");
	assert_int_equal(p->volumes[1].writer, 0);
	assert_true(p->volumes[2].source == SIZE_MAX);
	assert_int_equal(p->steps[0].inputs[0].volume, 0);
	assert_string_equal(p->steps[0].inputs[0].path, "/d");
	assert_int_equal(p->steps[2].pins_count, 1);
	assert_int_equal(p->steps[2].pins[0].volume, 2);
	assert_string_equal(p->steps[2].pins[0].version, "v1.2");
	assert_true(pst_pipeline_needs(p, 0, 2));
	assert_false(pst_pipeline_needs(p, 2, 0));
	pst_pipeline_free(p);
	pst_pipeline_errors_done(&errors);
}

/* A command that is nowhere in PATH is an error at its place, before anything starts. */
static void missing_command_is_an_error(void **state)
{
	struct pst_pipeline_errors errors;
	struct pst_pipeline *p = parse("pipeline: p\nsteps:\n  - {name: a, command: [no-such-command-x]}\n", &errors);

	(void)state;
	assert_non_null(p);
	assert_int_equal(pst_pipeline_check(p, "/", &errors), PST_E_INVAL);
	assert_int_equal(errors.list[0].at.line, 3);
	assert_int_equal(errors.list[0].at.column, 25);
	assert_non_null(strstr(errors.list[0].message, "not found in PATH"));
	pst_pipeline_errors_done(&errors);
	pst_pipeline_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistake_is_named_with_its_place),
		cmocka_unit_test(all_mistakes_are_shown_at_once),
		cmocka_unit_test(full_file_is_read),
		cmocka_unit_test(versions_are_resolved),
		cmocka_unit_test(missing_command_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
