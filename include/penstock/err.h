/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The one error type of Penstock: every fallible call, public or internal, returns it.
 * Codes and texts come from this one list; numbers are stable once released.
 */
#ifndef PENSTOCK_ERR_H
#define PENSTOCK_ERR_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define PST_ERR_LIST(X)                                                  \
	X(PST_OK, 0, "success")                                          \
	X(PST_E_INVAL, 1, "invalid argument")                            \
	X(PST_E_NOMEM, 2, "out of memory or of a configured limit")      \
	X(PST_E_IO, 3, "input/output error")                             \
	X(PST_E_CHECKSUM, 4, "checksum mismatch")                        \
	X(PST_E_NOSPACE, 5, "no space left in the pool")                 \
	X(PST_E_RANGE, 6, "address out of range")                        \
	X(PST_E_EXISTS, 7, "already exists")                             \
	X(PST_E_NOTFOUND, 8, "not found")                                \
	X(PST_E_BUSY, 9, "in use")                                       \
	X(PST_E_CANCELLED, 10, "cancelled")                              \
	X(PST_E_TIMEOUT, 11, "timed out")                                \
	X(PST_E_CLOSED, 12, "connection closed")                         \
	X(PST_E_REFUSED, 13, "connection refused")                       \
	X(PST_E_PROTO, 14, "protocol error by the peer")                 \
	X(PST_E_FORMAT, 15, "unknown or damaged on-disk format")         \
	X(PST_E_UNSUPPORTED, 16, "not supported")                        \
	X(PST_E_DENIED, 17, "permission denied")                         \
	X(PST_E_LOCKED, 18, "already opened by another process")         \
	X(PST_E_ADDRINUSE, 19, "address already in use")                 \
	X(PST_E_QUOTA, 20, "quota exceeded")                             \
	X(PST_E_LOST, 21, "data of an unclean machine stop may be lost") \
	X(PST_E_AGAIN, 22, "try again later")                            \
	X(PST_E_INTERNAL, 23, "internal error")                          \
	X(PST_E_KEY, 24, "a key is missing or does not fit")

typedef enum pst_err {
#define PST_ERR_ENUM(name, number, text) name = number,
	PST_ERR_LIST(PST_ERR_ENUM)
#undef PST_ERR_ENUM
} pst_err;

/** Text of @err for people: a static string, never NULL, also for unknown numbers. Any thread. */
const char *pst_err_text(pst_err err);

/** Name of @err as in the source ("PST_E_IO"): a static string, never NULL. Any thread. */
const char *pst_err_name(pst_err err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
