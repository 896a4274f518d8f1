/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a noisy neighbour costs a training job, and what a guarantee gives back: four cases (local disk, Penstock alone,
 * beside a neighbour's checkpoint burst, the same after the tenants' policies have been set while it runs).
 */
#ifndef PST_BENCH_NEIGHBOUR_H
#define PST_BENCH_NEIGHBOUR_H

#include "base/base.h"

#include <jansson.h>

struct pst_neighbour_config {
	const char *api;       /* the daemon's; NULL: the default */
	const char *program;   /* `penstock` itself, for the neighbour's process */
	const char *local_dir; /* where the local case's file lies */
	double seconds;        /* per case */
	uint32_t record_bytes, record_count;
	uint32_t batch_records, depth, batches_ahead;
	void (*progress)(const char *text); /* a line for people, every few seconds; NULL: none */
	bool (*interrupted)(void);          /* asked often; true ends it with PST_E_CANCELLED, all taken away */
};

/*
 * Makes what it needs (tenants bench-training and bench-neighbour, volumes bench-records and bench-burst), takes it
 * away again, and returns a new reference to the proof: cases, timeline, note, verdict, labels
 * (web/report/report.schema.json shows the cases). On error @message names the object and what to do.
 */
pst_err PST_MUST_USE pst_neighbour_run(const struct pst_neighbour_config *config, json_t **ret_proof, char *message,
				       size_t message_bytes);

#endif
