/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the parser share: parse.c walks the document into a draft of names, resolve.c makes indexes.
 */
#ifndef PST_PIPELINE_PARSE_H
#define PST_PIPELINE_PARSE_H

#include "pipeline/yaml.h"

#define PARSE_LIST_MAX 256u

/* A name in the file that is to become an index. */
struct ref {
	char *name;  /* NULL: none (a volume that is no clone) */
	char *value; /* of a snapshot: its name; else NULL */
	bool rw;
	struct pst_place at;
};

struct refs {
	struct ref *list;
	size_t count;
};

struct draft_step {
	struct refs needs, uses, inputs, outputs, pins;
};

struct draft {
	struct pst_pipeline *pipeline;
	struct draft_step *steps; /* beside pipeline->steps */
	struct refs clones;       /* beside pipeline->volumes: "VOLUME@NAME" */
};

/* Room for one more zeroed item at the end of an array; NULL when out of memory or at the limit. */
void *parse_grow(void *array_ptr, size_t *count, size_t item_bytes, size_t max);

/* Is @name 1 to PST_PIPELINE_NAME_MAX lower-case letters, digits and inner hyphens (@dots: or dots)? */
bool parse_name_ok(const char *name, bool dots);

/* Every name of the draft becomes an index in its pipeline, or an error. */
void parse_resolve(struct pst_yaml *y, struct draft *d);

#endif
