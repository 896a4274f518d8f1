/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian numbers at any address, for wire and disk formats. The caller has checked the bounds. */
#ifndef PST_BASE_LE_H
#define PST_BASE_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define PST_LE_DEFINE(bits)                                             \
	static inline void pst_put_le##bits(void *to, uint##bits##_t v) \
	{                                                               \
		v = htole##bits(v);                                     \
		memcpy(to, &v, sizeof(v));                              \
	}                                                               \
	static inline uint##bits##_t pst_get_le##bits(const void *from) \
	{                                                               \
		uint##bits##_t v;                                       \
                                                                        \
		memcpy(&v, from, sizeof(v));                            \
		return le##bits##toh(v);                                \
	}

PST_LE_DEFINE(16)
PST_LE_DEFINE(32)
PST_LE_DEFINE(64)
#undef PST_LE_DEFINE

#endif
