/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page: web/report/report.html with the style, the script, Chart.js (all embedded when Penstock is built) and the
 * report itself in the places of its markers. Nothing is fetched when the page is opened.
 */
#include "pipeline/report.h"

#include <stdlib.h>
#include <string.h>

extern const unsigned char report_html[], report_css[], report_js[], chart_js[];
extern const size_t report_html_size, report_css_size, report_js_size, chart_js_size;

static bool put(FILE *to, const void *data, size_t bytes)
{
	return fwrite(data, 1, bytes, to) == bytes;
}

pst_err pst_report_write_html(json_t *report, FILE *to)
{
	/* With slashes escaped, no string in it can end the script element that it stands in. */
	char *json = json_dumps(report, JSON_COMPACT | JSON_ESCAPE_SLASH | JSON_ENSURE_ASCII);
	const char *page = (const char *)report_html, *end = page + report_html_size;
	struct part {
		const char *marker;
		const void *data;
		size_t bytes;
	} parts[] = {
		{ "/*STYLE*/", report_css, report_css_size },
		{ "/*REPORT*/", json, json != NULL ? strlen(json) : 0 },
		{ "/*CHARTJS*/", chart_js, chart_js_size },
		{ "/*SCRIPT*/", report_js, report_js_size },
	};
	bool ok = json != NULL;

	for (size_t i = 0; ok && i < PST_ARRAY_COUNT(parts); i++) {
		const char *at = strstr(page, parts[i].marker);

		pst_assert(at != NULL);
		ok = put(to, page, (size_t)(at - page)) && put(to, parts[i].data, parts[i].bytes);
		page = at + strlen(parts[i].marker);
	}
	ok = ok && put(to, page, (size_t)(end - page)) && fflush(to) == 0;
	free(json);
	return ok ? PST_OK : PST_E_IO;
}
