/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/feed.h"

#include "env/env.h"

#include <stdlib.h>

struct file_source {
	struct pst_source source;
	struct pst_env *env;
	struct pst_file *file;
};

struct file_read {
	struct pst_file_op op;
	struct pst_source_read *read;
	struct pst_env *env;
	uint64_t begin_ns;
};

_Static_assert(sizeof(struct file_read) <= sizeof(((struct pst_source_read *)NULL)->scratch), "fits in a read");

static void file_done(struct pst_file_op *op)
{
	struct file_read *f = pst_container_of(op, struct file_read, op);

	f->read->err = op->err;
	f->read->latency_ns = pst_env_now_ns(f->env) - f->begin_ns;
	f->read->done(f->read);
}

static void file_submit(struct pst_source *source, struct pst_source_read *read)
{
	struct file_source *s = pst_container_of(source, struct file_source, source);
	struct file_read *f = (struct file_read *)(void *)read->scratch;

	*f = (struct file_read){ .op = { .kind = PST_FILE_READ,
					 .iov = &read->iov,
					 .iov_count = 1,
					 .offset_bytes = read->offset_bytes,
					 .len_bytes = read->iov.iov_len,
					 .done = file_done },
				 .read = read,
				 .env = s->env,
				 .begin_ns = pst_env_now_ns(s->env) };
	pst_file_submit(s->file, &f->op);
}

static void file_poll(struct pst_source *source, uint64_t timeout_us)
{
	pst_env_poll(pst_container_of(source, struct file_source, source)->env, timeout_us * 1000);
}

pst_err pst_source_open_file(const char *path, struct pst_source **ret_source)
{
	struct pst_env_config config = { .log_level = PST_LOG_ERROR };
	struct pst_file_info info;
	struct file_source *s = calloc(1, sizeof(*s));
	pst_err err;

	if (s == NULL)
		return PST_E_NOMEM;
	s->source = (struct pst_source){ file_submit, file_poll };
	err = pst_env_new(&config, &s->env);
	if (err == PST_OK)
		err = pst_file_open(s->env, path, PST_FILE_READONLY | PST_FILE_DIRECT, &s->file);
	if (err == PST_OK) {
		pst_file_info(s->file, &info);
		if (!info.direct)
			err = PST_E_UNSUPPORTED;
	}
	if (err != PST_OK) {
		pst_source_close_file(&s->source);
		return err;
	}
	*ret_source = &s->source;
	return PST_OK;
}

void pst_source_close_file(struct pst_source *source)
{
	struct file_source *s = pst_container_of(source, struct file_source, source);

	if (s->file != NULL)
		pst_file_close(s->file);
	pst_env_free(s->env);
	free(s);
}
