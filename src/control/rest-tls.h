/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate and private key of the API's HTTPS listeners. The texts are kept as they were read, the key's in secret
 * memory, and each handshake gets objects of its own that GnuTLS frees (and wipes) after it: so new ones can take over
 * between any two handshakes. One pair for the process: GnuTLS asks by a function without context.
 */
#ifndef PST_CONTROL_REST_TLS_H
#define PST_CONTROL_REST_TLS_H

#include "base/base.h"

#include <gnutls/abstract.h>

#define PST_REST_TLS_FILE_MAX 65536u

/* TLS 1.3 and 1.2, with forward secrecy and authenticated encryption only: a priority string. */
extern const char pst_rest_tls_priorities[];

/*
 * Reads a PEM certificate (chain) and its PEM key, checks that they belong together, and uses them from now on. One
 * that has expired is used, too: clients refuse it, but volumes are served. On error what was in use stays, and
 * @detail (of @detail_bytes) says what and what to do. Blocks for the files. Any thread.
 */
pst_err PST_MUST_USE pst_rest_tls_load(const char *cert_path, const char *key_path, char *detail, size_t detail_bytes);

/* When the certificate that is in use expires, seconds since 1970. */
int64_t pst_rest_tls_expires_s(void);

/* After the last listener has ended. */
void pst_rest_tls_unload(void);

/* What a listener calls for each handshake. */
int pst_rest_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **certs,
			  unsigned *certs_length, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
			  gnutls_privkey_t *key, unsigned *flags);

#endif
