/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: libfyaml builds the document and finds syntax errors and duplicate keys; this file walks it. Aliases are
 * refused, not resolved: resolving copies nodes, and a small file could ask for exponentially many.
 */
#include "pipeline/yaml.h"

#include <stdlib.h>
#include <string.h>

static struct pst_place place_of_token(struct fy_token *token)
{
	const struct fy_mark *start = token != NULL ? fy_token_start_mark(token) : NULL;
	const struct fy_mark *end = token != NULL ? fy_token_end_mark(token) : NULL;
	struct pst_place at = { 1, 1, 1 };

	if (start == NULL)
		return at;
	at.line = (unsigned)start->line + 1;
	at.column = (unsigned)start->column + 1;
	if (end != NULL && end->line == start->line && end->column > start->column)
		at.width = (unsigned)(end->column - start->column);
	return at;
}

/* Where a node begins: its own place if scalar, else that of the first scalar inside it. False for an empty one. */
static bool place_of_node(struct fy_node *node, struct pst_place *ret_at)
{
	while (node != NULL) {
		void *iter = NULL;

		switch (fy_node_get_type(node)) {
		case FYNT_SCALAR:
			if (fy_node_get_scalar_token(node) == NULL)
				return false;
			*ret_at = place_of_token(fy_node_get_scalar_token(node));
			return true;
		case FYNT_SEQUENCE:
			node = fy_node_sequence_iterate(node, &iter);
			break;
		case FYNT_MAPPING: {
			struct fy_node_pair *pair = fy_node_mapping_iterate(node, &iter);

			node = pair != NULL ? fy_node_pair_key(pair) : NULL;
			break;
		}
		}
	}
	return false;
}

static struct pst_yaml_value value_of(struct fy_node *node, struct pst_place fallback)
{
	struct pst_yaml_value value = { node, fallback };

	if (node != NULL && fy_node_get_type(node) == FYNT_SCALAR)
		(void)place_of_node(node, &value.at);
	return value;
}

static bool is_kind(const struct pst_yaml_value *value, enum fy_node_type type)
{
	return value->node != NULL && !fy_node_is_alias(value->node) && fy_node_get_type(value->node) == type;
}

static const char *kind_name(const struct pst_yaml_value *value)
{
	if (value->node == NULL)
		return "nothing";
	if (fy_node_is_alias(value->node))
		return "an alias (aliases are not supported)";
	switch (fy_node_get_type(value->node)) {
	case FYNT_SEQUENCE:
		return "a list";
	case FYNT_MAPPING:
		return "a mapping";
	default:
		break;
	}
	size_t len = 0;
	(void)fy_node_get_scalar(value->node, &len);
	return len == 0 ? "nothing" : "a plain value";
}

static void load_errors(struct pst_yaml *y, struct fy_diag *diag)
{
	struct fy_diag_error *error;
	void *iter = NULL;

	while ((error = fy_diag_errors_iterate(diag, &iter)) != NULL) {
		struct pst_place at = { (unsigned)PST_MAX(error->line, 1), (unsigned)PST_MAX(error->column, 1), 1 };

		pst_pipeline_errors_add(y->errors, at, "%s", error->msg);
	}
}

/* Length of the UTF-8 sequence at @p (RFC 3629; no overlong forms, no surrogates), 0 if it is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/*
 * What libfyaml must not see: it does not return from a directive with bytes that are not UTF-8. Pipeline files need
 * no directives, so these are refused with everything that is not text.
 */
static bool text_ok(const char *text, size_t len_bytes, struct pst_pipeline_errors *errors)
{
	struct pst_place at = { 1, 1, 1 };
	size_t n;

	for (size_t i = 0; i < len_bytes; i += n) {
		unsigned char c = (unsigned char)text[i];
		const char *wrong = NULL;

		n = utf8_length((const unsigned char *)text + i, len_bytes - i);
		if (n == 0)
			wrong = "is not UTF-8 text";
		else if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
			wrong = "is a control character";
		else if (c == '%' && at.column == 1)
			wrong = "begins a YAML directive; a pipeline file has none";
		if (wrong != NULL) {
			pst_pipeline_errors_add(errors, at, "byte 0x%02x %s", c, wrong);
			return false;
		}
		at.column = c == '\n' ? 1 : at.column + 1;
		at.line += c == '\n';
	}
	return true;
}

bool pst_yaml_load(struct pst_yaml *y, const char *text, size_t len_bytes, struct pst_pipeline_errors *errors)
{
	struct fy_diag_cfg diag_cfg = { .level = FYET_ERROR, .module_mask = UINT32_MAX };
	struct pst_place top = { 1, 1, 1 };

	*y = (struct pst_yaml){ .errors = errors };
	if (!text_ok(text, len_bytes, errors))
		return false;
	struct fy_diag *diag = fy_diag_create(&diag_cfg);
	if (diag == NULL) {
		pst_pipeline_errors_add(errors, top, "out of memory");
		return false;
	}
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = { .flags = FYPCF_QUIET, .diag = diag };
	y->doc = fy_document_build_from_string(&cfg, text, len_bytes);
	if (y->doc == NULL || fy_document_root(y->doc) == NULL) {
		size_t before = errors->count;

		load_errors(y, diag);
		if (errors->count == before)
			pst_pipeline_errors_add(errors, top, "%s",
						len_bytes > 0 && y->doc == NULL ? "not readable as YAML"
										: "the file is empty");
	}
	fy_diag_destroy(diag);
	return y->doc != NULL && fy_document_root(y->doc) != NULL;
}

void pst_yaml_done(struct pst_yaml *y)
{
	fy_document_destroy(y->doc);
	y->doc = NULL;
}

struct pst_yaml_value pst_yaml_root(struct pst_yaml *y)
{
	struct pst_place at = { 1, 1, 1 };
	struct fy_node *root = fy_document_root(y->doc);

	(void)place_of_node(root, &at);
	return value_of(root, at);
}

/* Edit distance of two short words, at most 15 letters each (longer: far apart). */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[16];

	if (la > 15 || lb > 15)
		return 99;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = PST_MIN(change, PST_MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[lb];
}

const char *pst_yaml_nearest(const char *word, const char *const *names)
{
	const char *best = NULL;
	unsigned best_distance = 3;

	for (; *names != NULL; names++) {
		unsigned d = distance(word, *names);

		if (d < best_distance && d < strlen(word)) {
			best_distance = d;
			best = *names;
		}
	}
	return best;
}

struct object_walk {
	const struct pst_yaml_key *keys;
	const char *what;
	void *object;
	uint64_t seen;
};

static void object_pair(struct pst_yaml *y, void *arg, const char *key, struct pst_place key_at,
			const struct pst_yaml_value *value)
{
	struct object_walk *w = arg;
	const char *names[33] = { NULL };

	for (size_t i = 0; w->keys[i].name != NULL; i++) {
		names[PST_MIN(i, 31u)] = w->keys[i].name;
		if (strcmp(w->keys[i].name, key) != 0)
			continue;
		w->seen |= (uint64_t)1 << i;
		w->keys[i].parse(y, w->object, value);
		return;
	}
	const char *near = pst_yaml_nearest(key, names);
	if (near != NULL)
		pst_pipeline_errors_add(y->errors, key_at, "unknown key '%s' in %s; did you mean '%s'?", key, w->what,
					near);
	else
		pst_pipeline_errors_add(y->errors, key_at, "unknown key '%s' in %s", key, w->what);
}

void pst_yaml_object(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what,
		     const struct pst_yaml_key *keys, void *object)
{
	struct object_walk w = { keys, what, object, 0 };
	struct pst_place at = value->at;

	if (!is_kind(value, FYNT_MAPPING)) {
		pst_pipeline_errors_add(y->errors, at, "%s must be a mapping of keys, not %s", what, kind_name(value));
		return;
	}
	(void)place_of_node(value->node, &at);
	pst_yaml_mapping(y, value, what, object_pair, &w);
	for (size_t i = 0; keys[i].name != NULL; i++)
		if (keys[i].required && !(w.seen & (uint64_t)1 << i))
			pst_pipeline_errors_add(y->errors, at, "%s has no '%s'", what, keys[i].name);
}

/* A scalar as a C string in new memory; NULL if it is none, or holds a zero byte. */
static char *scalar_text(struct fy_node *node)
{
	size_t len = 0;
	const char *text = fy_node_get_scalar(node, &len);

	if (text == NULL || memchr(text, '\0', len) != NULL)
		return NULL;
	return strndup(text, len);
}

void pst_yaml_mapping(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, pst_yaml_pair_fn *each,
		      void *object)
{
	struct fy_node_pair *pair;
	void *iter = NULL;

	if (!is_kind(value, FYNT_MAPPING)) {
		pst_pipeline_errors_add(y->errors, value->at, "%s must be a mapping, not %s", what, kind_name(value));
		return;
	}
	while ((pair = fy_node_mapping_iterate(value->node, &iter)) != NULL) {
		struct fy_node *key_node = fy_node_pair_key(pair);
		struct pst_place key_at = value->at;
		char *key = NULL;

		(void)place_of_node(key_node, &key_at);
		if (key_node != NULL && fy_node_get_type(key_node) == FYNT_SCALAR && !fy_node_is_alias(key_node))
			key = scalar_text(key_node);
		if (key == NULL) {
			pst_pipeline_errors_add(y->errors, key_at, "a key in %s is not a plain word", what);
			continue;
		}
		struct pst_yaml_value v = value_of(fy_node_pair_value(pair), key_at);
		each(y, object, key, key_at, &v);
		free(key);
	}
}

void pst_yaml_sequence(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, pst_yaml_item_fn *each,
		       void *object)
{
	struct fy_node *node;
	void *iter = NULL;

	if (!is_kind(value, FYNT_SEQUENCE)) {
		pst_pipeline_errors_add(y->errors, value->at, "%s must be a list, not %s", what, kind_name(value));
		return;
	}
	while ((node = fy_node_sequence_iterate(value->node, &iter)) != NULL) {
		struct pst_place at = value->at;

		(void)place_of_node(node, &at);
		struct pst_yaml_value v = { node, at };
		each(y, object, &v);
	}
}

char *pst_yaml_text(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what)
{
	size_t len = 0;

	if (!is_kind(value, FYNT_SCALAR) || fy_node_get_scalar(value->node, &len) == NULL || len == 0) {
		pst_pipeline_errors_add(y->errors, value->at, "%s must be a plain value, not %s", what,
					kind_name(value));
		return NULL;
	}
	char *text = scalar_text(value->node);
	if (text == NULL)
		pst_pipeline_errors_add(y->errors, value->at, "%s holds a zero byte", what);
	return text;
}

bool pst_yaml_number(struct pst_yaml *y, const struct pst_yaml_value *value, const char *what, unsigned max,
		     unsigned *ret_number)
{
	char *text = pst_yaml_text(y, value, what);

	if (text == NULL)
		return false;
	size_t digits = strspn(text, "0123456789");
	unsigned long number = strtoul(text, NULL, 10);
	bool ok = digits > 0 && digits < 10 && text[digits] == '\0' && number <= max;
	if (ok)
		*ret_number = (unsigned)number;
	else
		pst_pipeline_errors_add(y->errors, value->at, "%s must be a whole number from 0 to %u, not '%s'", what,
					max, text);
	free(text);
	return ok;
}
