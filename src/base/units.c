/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *suffix;
	double factor;
};

static const struct unit size_units[] = {
	{ "", 1 },        { "B", 1 },        { "K", 1e3 },     { "KB", 1e3 },     { "M", 1e6 },     { "MB", 1e6 },
	{ "G", 1e9 },     { "GB", 1e9 },     { "T", 1e12 },    { "TB", 1e12 },    { "Ki", 0x1p10 }, { "KiB", 0x1p10 },
	{ "Mi", 0x1p20 }, { "MiB", 0x1p20 }, { "Gi", 0x1p30 }, { "GiB", 0x1p30 }, { "Ti", 0x1p40 }, { "TiB", 0x1p40 },
};

static const struct unit duration_units[] = {
	{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "m", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 },
};

/* A non-negative decimal number followed by one of @units and then by @tail. */
static pst_err parse(const char *text, const struct unit *units, size_t count, const char *tail, uint64_t *ret)
{
	char *end;
	size_t tail_len = strlen(tail);

	/* strtod alone would take "inf", "nan", "0x10", signs and leading blanks. */
	if (!isdigit((unsigned char)text[0]) || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
		return PST_E_INVAL;

	double v = strtod(text, &end);
	size_t rest = strlen(end);

	if (rest < tail_len || strcmp(end + rest - tail_len, tail) != 0)
		return PST_E_INVAL;
	rest -= tail_len;
	for (size_t i = 0; i < count; i++) {
		if (strlen(units[i].suffix) != rest || strncmp(end, units[i].suffix, rest) != 0)
			continue;
		v *= units[i].factor;
		if (!isfinite(v) || v >= 0x1p63)
			return PST_E_RANGE;
		*ret = (uint64_t)v;
		return PST_OK;
	}
	return PST_E_INVAL;
}

pst_err pst_parse_size(const char *text, uint64_t *ret_bytes)
{
	return parse(text, size_units, PST_ARRAY_COUNT(size_units), "", ret_bytes);
}

pst_err pst_parse_rate(const char *text, uint64_t *ret_iops, uint64_t *ret_bytes_per_s)
{
	size_t len = strlen(text);

	if (len > 4 && strcmp(text + len - 4, "iops") == 0)
		return parse(text, size_units, 1, "iops", ret_iops);
	return parse(text, size_units, PST_ARRAY_COUNT(size_units), "/s", ret_bytes_per_s);
}

pst_err pst_parse_duration(const char *text, uint64_t *ret_ns)
{
	return parse(text, duration_units, PST_ARRAY_COUNT(duration_units), "", ret_ns);
}

char *pst_format_size(uint64_t bytes, char buf[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < PST_ARRAY_COUNT(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 16, v == floor(v) || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
	return buf;
}

char *pst_format_time(uint64_t wall_ns, char buf[32])
{
	uint64_t ms = wall_ns / 1000000, days = ms / 86400000, rest = ms % 86400000;
	/* Days to a date in the Gregorian calendar, in eras of 400 years that begin on 1 March 0000. */
	uint64_t shifted = days + 719468, era = shifted / 146097, doe = shifted % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	unsigned day = (unsigned)(doy - (153 * mp + 2) / 5 + 1), month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
	unsigned year = (unsigned)(yoe + era * 400 + (month <= 2));

	snprintf(buf, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year % 10000, month % 100, day % 100,
		 (unsigned)(rest / 3600000) % 100, (unsigned)(rest / 60000 % 60), (unsigned)(rest / 1000 % 60),
		 (unsigned)(rest % 1000));
	return buf;
}
