/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk over a YAML document by a table of keys: the part of pipeline parsing that knows no pipelines. Every complaint
 * goes to a struct pst_pipeline_errors with its place; handlers return nothing and parsing goes on, so that one run
 * shows every mistake.
 */
#ifndef PST_PIPELINE_YAML_H
#define PST_PIPELINE_YAML_H

#include "pipeline/pipeline.h"

#include <libfyaml.h>

struct pst_yaml {
	struct fy_document *doc;
	struct pst_pipeline_errors *errors;
};

/* One value: its node and where to point when it is wrong. */
struct pst_yaml_value {
	struct fy_node *node; /* may be NULL: an empty value */
	struct pst_place at;  /* of the value if that is a scalar, else of its key */
};

struct pst_yaml_key {
	const char *name;
	void (*parse)(struct pst_yaml *y, void *object, const struct pst_yaml_value *value);
	bool required;
};

/* Loads @text; false with errors. pst_yaml_done either way. */
bool pst_yaml_load(struct pst_yaml *y, const char *text, size_t len_bytes, struct pst_pipeline_errors *errors);
void pst_yaml_done(struct pst_yaml *y);

/* The root value. */
struct pst_yaml_value pst_yaml_root(struct pst_yaml *y);

/*
 * Hands each pair of the mapping @value to its handler in @keys (ends with a NULL name). Unknown keys and missing
 * required ones are errors; @what names the object in them ("step 'prep'").
 */
void pst_yaml_object(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what,
		     const struct pst_yaml_key *keys, void *object);

/* Iterates a mapping with free names; @each gets the key as text. */
typedef void pst_yaml_pair_fn(struct pst_yaml *y, void *object, const char *key, struct pst_place key_at,
			      const struct pst_yaml_value *value);
void pst_yaml_mapping(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, pst_yaml_pair_fn *each,
		      void *object);

/* Iterates a sequence. */
typedef void pst_yaml_item_fn(struct pst_yaml *y, void *object, const struct pst_yaml_value *value);
void pst_yaml_sequence(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, pst_yaml_item_fn *each,
		       void *object);

/* The scalar's text (new memory), or NULL with an error. @what as in "the size of volume 'x'". */
char *pst_yaml_text(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what);

/* A whole number from 0 to @max; false with an error. */
bool pst_yaml_number(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, unsigned max,
		     unsigned *ret_number);

/* The nearest of @names (ends with NULL) to @word, or NULL if none is near. */
const char *pst_yaml_nearest(const char *word, const char *const *names);

#endif
