/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of a run: report.json from the run record (docs/pipeline.md) and, if there is one, the proof of the
 * neighbour bench; a page and a terminal text from report.json. What the inputs lack is left out of the report or null,
 * never guessed. One thread.
 */
#ifndef PST_PIPELINE_REPORT_H
#define PST_PIPELINE_REPORT_H

#include "base/base.h"

#include <jansson.h>
#include <stdio.h>

/*
 * A new reference; NULL when @run is no run record (then @message says why). @proof may be NULL.
 * @cost_per_hour: of one accelerator, in the currency that the user thinks in; 0: money is not told.
 */
json_t *pst_report_make(json_t *run, json_t *proof, double cost_per_hour, char *message, size_t message_bytes);

/* The self-contained page. PST_E_IO when @to can't be written. */
pst_err PST_MUST_USE pst_report_write_html(json_t *report, FILE *to);

void pst_report_print(json_t *report, FILE *to);

#endif
