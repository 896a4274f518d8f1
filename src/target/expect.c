/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch of commands has been received: the volume hears which blocks they are about before the first of them begins,
 * so that its waits for memory overlap (Chen and others, Improving hash join performance through prefetching, 2004,
 * call it group prefetching).
 */
#include "target/internal.h"

unsigned pst_expect(struct pst_queue *queue)
{
	const struct nvme_sqe *sqes[PST_EXPECT_MAX];
	struct pst_expected expected[PST_EXPECT_MAX];
	unsigned count, used = 0;

	if (queue->state != PST_QUEUE_LIVE || queue->subsystem == NULL || queue->qid == 0 ||
	    queue->subsystem->volume->env != queue->shard->env || queue->subsystem->volume->ops->expect == NULL)
		return 0;
	count = pst_conn_peek(queue->conn, sqes, PST_EXPECT_MAX);
	for (unsigned i = 0; i < count; i++) {
		uint64_t lba = nvme_get32(sqes[i]->cdw10) | (uint64_t)nvme_get32(sqes[i]->cdw11) << 32;

		if (sqes[i]->opcode == NVME_CMD_READ)
			expected[used++] = (struct pst_expected){ lba, PST_IO_READ };
		else if (sqes[i]->opcode == NVME_CMD_WRITE)
			expected[used++] = (struct pst_expected){ lba, PST_IO_WRITE };
	}
	if (used > 1) /* nothing overlaps with one */
		pst_volume_expect(queue->subsystem->volume, expected, used);
	return count;
}
