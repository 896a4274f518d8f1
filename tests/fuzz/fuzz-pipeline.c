/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes as a pipeline file give a pipeline or at least one error with a place, and nothing else. */
#include "pipeline/pipeline.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct pst_pipeline_errors errors = { 0 };
	struct pst_pipeline *pipeline = NULL;
	static FILE *sink;

	if (sink == NULL)
		sink = fopen("/dev/null", "w");
	pst_err err = pst_pipeline_parse((const char *)data, len_bytes, &errors, &pipeline);
	pst_assert((err == PST_OK) == (errors.count == 0));
	pst_assert((err == PST_OK) == (pipeline != NULL));
	for (size_t i = 0; i < PST_MIN(errors.count, (size_t)PST_PIPELINE_ERRORS_MAX); i++)
		pst_assert(errors.list[i].at.line > 0 && errors.list[i].at.column > 0);
	pst_pipeline_errors_print(&errors, "fuzz", (const char *)data, len_bytes, sink);
	pst_pipeline_errors_done(&errors);
	pst_pipeline_free(pipeline);
	return 0;
}
