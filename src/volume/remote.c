/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One post structure serves both ways: it is free again when its function runs. Order between requests of one shard
 * is kept on the way there (posts are ordered) and ends there, as with any volume.
 */
#include "volume/remote.h"

static void arrived_back(struct pst_post *post)
{
	struct pst_remote *remote = pst_container_of(post, struct pst_remote, post);

	remote->done(remote);
}

static void finish(struct pst_remote *remote)
{
	if (remote->there != NULL)
		remote->there(remote);
	remote->post.fn = arrived_back;
	pst_env_post(remote->from, &remote->post);
}

static void volume_done(struct pst_io *io)
{
	struct pst_remote *remote = pst_container_of(io, struct pst_remote, io);

	if (remote->from != remote->volume->env) {
		finish(remote);
		return;
	}
	if (remote->there != NULL)
		remote->there(remote);
	remote->done(remote);
}

static void submit_there(struct pst_remote *remote)
{
	struct pst_io *io = &remote->io;

	io->done = volume_done;
	if (remote->arrived != NULL)
		remote->arrived(remote);
	if (io->kind != PST_IO_FLUSH && !pst_range_ok(io->lba, io->block_count, remote->volume->block_count)) {
		io->err = PST_E_RANGE;
		finish(remote); /* through a post also at home: never inside submit */
		return;
	}
	pst_volume_submit(remote->volume, io);
}

static void arrived_there(struct pst_post *post)
{
	submit_there(pst_container_of(post, struct pst_remote, post));
}

void pst_remote_submit(struct pst_remote *remote)
{
	if (remote->from == remote->volume->env) {
		submit_there(remote);
		return;
	}
	remote->post.fn = arrived_there;
	pst_env_post(remote->volume->env, &remote->post);
}
