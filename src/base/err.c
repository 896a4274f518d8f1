/* SPDX-License-Identifier: Apache-2.0 */
#include "penstock/err.h"

const char *pst_err_text(pst_err err)
{
	switch (err) {
#define PST_ERR_TEXT(name, number, text) \
	case name:                       \
		return text;
		PST_ERR_LIST(PST_ERR_TEXT)
#undef PST_ERR_TEXT
	}
	return "unknown error";
}

const char *pst_err_name(pst_err err)
{
	switch (err) {
#define PST_ERR_NAME(name, number, text) \
	case name:                       \
		return #name;
		PST_ERR_LIST(PST_ERR_NAME)
#undef PST_ERR_NAME
	}
	return "unknown";
}
