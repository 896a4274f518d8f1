/* SPDX-License-Identifier: Apache-2.0 */
#include "control/rest-tls.h"
#include "env/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHAIN_MAX 8u

const char pst_rest_tls_priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-CIPHER-ALL:+AES-256-GCM:"
				       "+CHACHA20-POLY1305:+AES-128-GCM:-SHA1:%NO_TICKETS:%SERVER_PRECEDENCE";

struct text {
	unsigned char *data; /* secret memory */
	unsigned bytes;
};

static struct {
	pthread_mutex_t lock;
	struct text cert, key;
	time_t expires;
} pair = { .lock = PTHREAD_MUTEX_INITIALIZER };

static gnutls_datum_t datum(const struct text *t)
{
	return (gnutls_datum_t){ .data = t->data, .size = t->bytes };
}

static void text_done(struct text *t)
{
	pst_secret_release(t->data);
	*t = (struct text){ 0 };
}

static pst_err text_read(const char *path, struct text *ret, char *detail, size_t detail_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct text t = { .data = pst_secret_malloc(PST_REST_TLS_FILE_MAX) };
	ssize_t got = 0;

	while (fd >= 0 && t.data != NULL && t.bytes < PST_REST_TLS_FILE_MAX &&
	       (got = read(fd, t.data + t.bytes, PST_REST_TLS_FILE_MAX - t.bytes)) > 0)
		t.bytes += (unsigned)got;
	if (fd >= 0 && got == 0 && t.data != NULL && t.bytes > 0 && t.bytes < PST_REST_TLS_FILE_MAX) {
		close(fd);
		*ret = t;
		return PST_OK;
	}
	snprintf(detail, detail_bytes, "%s can't be read: %s", path,
		 fd < 0 || got < 0 ? strerror(errno)
		 : t.data == NULL  ? "no memory"
				   : "it must have from 1 byte to less than 64 KiB");
	if (fd >= 0)
		close(fd);
	text_done(&t);
	return PST_E_INVAL;
}

/* Chain and key as GnuTLS has them; to be released. */
static int import_pair(const struct text *cert, const struct text *key, gnutls_pcert_st **ret_chain,
		       unsigned *ret_count, gnutls_privkey_t *ret_key)
{
	gnutls_datum_t cert_text = datum(cert), key_text = datum(key);
	gnutls_pcert_st *chain = gnutls_calloc(CHAIN_MAX, sizeof(*chain));
	gnutls_privkey_t private = NULL;
	unsigned count = CHAIN_MAX;
	int rc = chain != NULL ? gnutls_pcert_list_import_x509_raw(chain, &count, &cert_text, GNUTLS_X509_FMT_PEM, 0)
			       : GNUTLS_E_MEMORY_ERROR;

	if (rc < 0) {
		gnutls_free(chain);
		return rc;
	}
	rc = gnutls_privkey_init(&private);
	if (rc >= 0)
		rc = gnutls_privkey_import_x509_raw(private, &key_text, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (rc >= 0) {
		*ret_chain = chain;
		*ret_count = count;
		*ret_key = private;
		return 0;
	}
	for (unsigned i = 0; i < count; i++)
		gnutls_pcert_deinit(&chain[i]);
	gnutls_free(chain);
	if (private != NULL)
		gnutls_privkey_deinit(private);
	return rc;
}

static int expiry_of(const struct text *cert, time_t *ret_expires)
{
	gnutls_datum_t text = datum(cert);
	gnutls_x509_crt_t crt;
	int rc = gnutls_x509_crt_init(&crt);

	if (rc < 0)
		return rc;
	rc = gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM);
	if (rc >= 0)
		*ret_expires = gnutls_x509_crt_get_expiration_time(crt);
	gnutls_x509_crt_deinit(crt);
	return rc;
}

/* Do they parse and belong together? */
static pst_err check(const struct text *cert, const struct text *key, const char *cert_path, const char *key_path,
		     time_t *ret_expires, char *detail, size_t detail_bytes)
{
	gnutls_datum_t cert_text = datum(cert), key_text = datum(key);
	gnutls_certificate_credentials_t both;
	int rc = gnutls_certificate_allocate_credentials(&both);

	if (rc >= 0) {
		rc = gnutls_certificate_set_x509_key_mem(both, &cert_text, &key_text, GNUTLS_X509_FMT_PEM);
		gnutls_certificate_free_credentials(both);
	}
	if (rc >= 0)
		rc = expiry_of(cert, ret_expires);
	if (rc >= 0)
		return PST_OK;
	snprintf(detail, detail_bytes, "%s and %s can't be used as certificate and key of the API: %s", cert_path,
		 key_path, gnutls_strerror(rc));
	return PST_E_INVAL;
}

pst_err pst_rest_tls_load(const char *cert_path, const char *key_path, char *detail, size_t detail_bytes)
{
	struct text cert = { 0 }, key = { 0 };
	time_t expires = 0;
	pst_err err = text_read(cert_path, &cert, detail, detail_bytes);

	if (err == PST_OK)
		err = text_read(key_path, &key, detail, detail_bytes);
	if (err == PST_OK)
		err = check(&cert, &key, cert_path, key_path, &expires, detail, detail_bytes);
	if (err == PST_OK) {
		struct text old_cert, old_key;

		pthread_mutex_lock(&pair.lock);
		old_cert = pair.cert;
		old_key = pair.key;
		pair.cert = cert;
		pair.key = key;
		pair.expires = expires;
		pthread_mutex_unlock(&pair.lock);
		cert = old_cert;
		key = old_key;
	}
	text_done(&cert);
	text_done(&key);
	return err;
}

int64_t pst_rest_tls_expires_s(void)
{
	int64_t expires;

	pthread_mutex_lock(&pair.lock);
	expires = (int64_t)pair.expires;
	pthread_mutex_unlock(&pair.lock);
	return expires;
}

void pst_rest_tls_unload(void)
{
	text_done(&pair.cert);
	text_done(&pair.key);
}

int pst_rest_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **certs,
			  unsigned *certs_length, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
			  gnutls_privkey_t *key, unsigned *flags)
{
	int rc;

	(void)session;
	(void)info;
	pthread_mutex_lock(&pair.lock);
	rc = import_pair(&pair.cert, &pair.key, certs, certs_length, key);
	pthread_mutex_unlock(&pair.lock);
	if (rc < 0)
		return -1;
	*ocsp = NULL;
	*ocsp_length = 0;
	*flags = GNUTLS_CERT_RETR_DEINIT_ALL;
	return 0;
}
