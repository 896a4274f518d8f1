/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request to a volume from any shard: posts to the volume's shard, submits there, posts back. On the volume's own
 * shard it is a plain submit. Embedded in the caller's request; one at a time per structure.
 */
#ifndef PST_VOLUME_REMOTE_H
#define PST_VOLUME_REMOTE_H

#include "volume/volume.h"

struct pst_remote {
	struct pst_io io; /* filled by the caller, but for done */
	struct pst_volume *volume;
	struct pst_env *from;                       /* the calling shard */
	void (*done)(struct pst_remote *remote);    /* on @from, never inside submit */
	void (*arrived)(struct pst_remote *remote); /* optional; on the volume's shard, before the volume gets it */
	void (*there)(struct pst_remote *remote);   /* optional; on the volume's shard, when the volume is done */
	struct pst_post post;
};

/*
 * The range is checked on the volume's shard, where its size can't change meanwhile: PST_E_RANGE instead of the
 * volume's assertion. The volume must stay open until done.
 */
void pst_remote_submit(struct pst_remote *remote);

#endif
