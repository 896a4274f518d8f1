/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The on-disk format of a pool, as structs (docs/store-format.md says what every field means). All integers are
 * little-endian; structs have no implicit padding; every block carries or is covered by a CRC32C.
 */
#ifndef PST_STORE_FORMAT_H
#define PST_STORE_FORMAT_H

#include "volume/volume.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the store reads its little-endian structs in place"
#endif

#define PST_SB_MAGIC 0x4b434f54534e4550u /* "PENSTOCK" */
#define PST_SB_VERSION 2u      /* what is written; a pool of the older one is made one of this when it is opened */
#define PST_SB_VERSION_OLD 1u  /* without snapshots: catalog of struct pst_volume_disk, no pst_ptr flags */
#define PST_FEATURE_REGIONS 1u /* incompatible: space was added after the pool was made */
#define PST_FEATURES_INCOMPAT_KNOWN PST_FEATURE_REGIONS
#define PST_FEATURES_RO_COMPAT_KNOWN 0u

#define PST_PARTITIONS_MAX 64u
#define PST_STRIPE_BLOCKS 256u /* LBAs that stay together on one partition */

/* Where things lie in a partition; in blocks from its beginning. Block 0 is a root slot, so 0 means "none". */
struct pst_sb_partition {
	uint64_t start; /* in blocks from the beginning of the pool */
	uint32_t blocks;
	uint32_t log_start, log_blocks;
	uint32_t space_start, space_pages; /* two copies of each page, side by side */
	uint32_t data_start;
	uint32_t reserved[4];
};

#define PST_DEVICES_MAX 8u
#define PST_REGIONS_MAX 21u
#define PST_DEVICE_PATHS_BYTES 328u

/* Where the header of a region lies (its second copy is the region's last block). */
struct pst_sb_region {
	uint64_t start; /* block of the device */
	uint32_t device;
	uint32_t header_crc;
};

struct pst_sb_device {
	uint8_t uuid[16];
	uint64_t blocks; /* that the pool uses; the last one is a superblock's copy */
};

/*
 * Device 0 holds the pool's superblock, twice, and all that the pool had when it was made. Other devices hold a copy as
 * of when space was last added on them, with their own index: it only says what they are.
 */
struct pst_superblock {
	uint64_t magic;
	uint32_t crc; /* of the block with this field 0 */
	uint32_t version;
	uint64_t features_compat, features_ro_compat, features_incompat;
	uint8_t uuid[16];
	uint64_t generation; /* the higher of two valid copies counts */
	uint64_t blocks;     /* size of the pool as it was made; without regions, its last block is the mirror */
	uint64_t created_ns; /* wall clock */
	uint32_t partition_count;
	uint32_t stripe_blocks;
	uint8_t clean; /* 1: closed in order */
	char boot_id[37];
	uint8_t reserved0[2];
	/* From here on: 0 without the feature REGIONS. */
	uint8_t device_uuid[16]; /* of the device that this copy is on */
	uint32_t device_index;
	uint32_t device_count, region_count;
	uint32_t reserved1;
	struct pst_sb_region regions[PST_REGIONS_MAX];
	uint8_t reserved2[8];
	struct pst_sb_partition partitions[PST_PARTITIONS_MAX];
	struct pst_sb_device devices[PST_DEVICES_MAX];
	char device_paths[PST_DEVICE_PATHS_BYTES]; /* where each was last: strings one behind another; "": not known */
};
_Static_assert(sizeof(struct pst_sb_partition) == 48, "partition entry");
_Static_assert(offsetof(struct pst_superblock, device_uuid) == 128, "superblock");
_Static_assert(offsetof(struct pst_superblock, partitions) == 504, "superblock");
_Static_assert(offsetof(struct pst_superblock, devices) == 3576, "superblock");
_Static_assert(sizeof(struct pst_superblock) == PST_BLOCK_BYTES, "superblock");

/* ---- Region: space that was added. Header, a segment of each partition, header again ---- */

#define PST_REGION_MAGIC 0x4e474552u /* "REGN" */

/* Blocks that a partition got: numbered on behind those that it had. */
struct pst_region_segment {
	uint64_t start; /* block of the device */
	uint32_t first; /* number of its first block in the partition */
	uint32_t blocks;
	uint32_t space_pages; /* new ones, two copies of each, at its beginning */
	uint32_t data;        /* blocks of it before the first for data: 2 * space_pages, 1 at least */
};
_Static_assert(sizeof(struct pst_region_segment) == 24, "segment");

struct pst_region {
	uint32_t magic;
	uint32_t crc; /* of the block with this field 0; also in the superblock */
	uint8_t pool_uuid[16];
	uint8_t device_uuid[16];
	uint32_t index; /* of the region */
	uint32_t device;
	uint64_t start, blocks; /* on the device, both headers included */
	uint32_t partition_count;
	uint32_t reserved0;
	uint64_t created_ns; /* wall clock */
	uint8_t reserved1[48];
	struct pst_region_segment segments[PST_PARTITIONS_MAX];
	uint8_t tail[2432];
};
_Static_assert(sizeof(struct pst_region) == PST_BLOCK_BYTES, "region");

/* ---- Root of a partition: blocks 0 and 1 for even generations, 2 and 3 for odd; both copies are alike ---- */

#define PST_ROOT_MAGIC 0x544f4f52u /* "ROOT" */
#define PST_ROOT_SLOTS 4u

struct pst_ptr {
	uint32_t block; /* and PST_PTR_INHERITED; 0: nothing there */
	uint32_t crc;   /* of the 4096 bytes it points to */
};

/*
 * In `block`: the parent version holds the same block at the same place, so it is not this version's to free or to
 * overwrite. Exact in live volumes; in snapshots that are marked stale it may stand although the parent that held the
 * block is gone. Below an inherited node everything is inherited.
 */
#define PST_PTR_INHERITED 0x80000000u
#define PST_PTR_BLOCK 0x7fffffffu
#define PST_PTR_LOST 0x7ffffffeu    /* what was here can't be read any more: a media error until it is overwritten */
#define PST_PTR_PENDING 0x7fffffffu /* never on disk: the child exists only in memory so far */

static inline uint32_t pst_ptr_block(struct pst_ptr ptr)
{
	return ptr.block & PST_PTR_BLOCK;
}

static inline bool pst_ptr_inherited(struct pst_ptr ptr)
{
	return (ptr.block & PST_PTR_INHERITED) != 0;
}

struct pst_root {
	uint32_t magic;
	uint32_t crc;
	uint8_t pool_uuid[16];
	uint32_t partition;
	uint32_t space_digest; /* CRC32C over the CRCs of all current space map pages, in order */
	uint64_t generation;
	uint64_t incarnation; /* log blocks of other incarnations are not this log's */
	uint64_t log_seq;     /* replay begins at this log block */
	uint32_t log_prev_crc;
	uint32_t catalog_bytes; /* partition 0: length of the catalog image (slot 0 of the map) */
	struct pst_ptr map;
	uint64_t used_blocks; /* set bits in the space map */
	uint32_t space_pages; /* that the digest covers; 0: those of the superblock's partition table */
	uint8_t reserved[4012];
};
_Static_assert(sizeof(struct pst_root) == PST_BLOCK_BYTES, "root");

/* ---- The map: a radix tree; every node has the same shape ---- */

#define PST_NODE_MAGIC 0x45444f4eu /* "NODE" */
#define PST_NODE_FANOUT 504u
#define PST_NODE_FORMAT 2u
#define PST_NODE_LEVELS 6u         /* 0: leaves (entries are data), 5: the root */
#define PST_NODE_LEVEL_VOLUME 3u   /* one node of this level is one volume's part of the partition */
#define PST_SLOT_SPAN 64524128256u /* 504^4: local LBAs of one slot */
#define PST_SLOTS_MAX (PST_NODE_FANOUT * PST_NODE_FANOUT)
#define PST_SLOT_CATALOG 0u

struct pst_node_disk {
	uint32_t magic;
	uint8_t level;
	uint8_t reserved0[3];
	uint32_t partition;
	uint32_t used; /* entries that are not 0 */
	uint64_t index;
	uint64_t generation;  /* of the checkpoint that wrote it */
	uint64_t data_blocks; /* below it, shared or not; levels 0 to 3 */
	uint64_t
	    own_blocks;  /* level 3: those charged to this version. Version 1: 0, and all of data_blocks are meant */
	uint32_t format; /* 0 in version 1, else 2 */
	uint32_t stale;  /* level 3: 1: PTR_INHERITED may stand below where the parent that held it is gone */
	uint8_t reserved[8];
	struct pst_ptr entry[PST_NODE_FANOUT];
};
_Static_assert(sizeof(struct pst_node_disk) == PST_BLOCK_BYTES, "node");

/* ---- Space map: one bit per block of the partition, 1 is in use ---- */

#define PST_SPACE_MAGIC 0x43415053u /* "SPAC" */
#define PST_SPACE_WORDS 504u
#define PST_SPACE_BITS (PST_SPACE_WORDS * 64u) /* blocks per page */

struct pst_space_page {
	uint32_t magic;
	uint32_t crc;
	uint32_t partition;
	uint32_t index;
	uint64_t generation; /* of the checkpoint that wrote it */
	uint8_t reserved[40];
	uint64_t bits[PST_SPACE_WORDS];
};
_Static_assert(sizeof(struct pst_space_page) == PST_BLOCK_BYTES, "space page");

/* ---- Log: block n of the ring holds sequence numbers that are n modulo its length ---- */

#define PST_LOG_MAGIC 0x474f4c50u /* "PLOG" */
#define PST_LOG_PAYLOAD 4032u

struct pst_log_block {
	uint32_t magic;
	uint32_t crc;
	uint64_t incarnation;
	uint64_t seq;
	uint64_t durable_seq;   /* blocks up to here, and the data they speak of, were flushed */
	uint64_t completed_seq; /* blocks up to here, and the data they speak of, were written */
	uint32_t prev_crc;      /* crc of block seq - 1: a chain without holes */
	uint32_t partition;
	uint32_t used_bytes; /* of payload */
	uint32_t record_count;
	uint8_t reserved[8];
	uint8_t payload[PST_LOG_PAYLOAD];
};
_Static_assert(sizeof(struct pst_log_block) == PST_BLOCK_BYTES, "log block");

enum pst_log_kind {
	PST_LOG_WRITE = 1,      /* slot, lba, block, count; then count CRC32Cs */
	PST_LOG_DISCARD = 2,    /* slot, lba, count: holes from now on */
	PST_LOG_ABORT = 3,      /* the write record (seq in lba, its number in that block in count) never happened */
	PST_LOG_VOLUME = 4,     /* format 1: slot; then struct pst_volume_disk: its state from now on */
	PST_LOG_VOLUME_END = 5, /* slot is free again */
	PST_LOG_PUT = 6,        /* catalog record: key, 0, value */
	PST_LOG_DELETE = 7,     /* catalog record: key, 0 */
	PST_LOG_VERSION = 8, /* slot; then struct pst_version_disk: its state from now on. block: see enum pst_log_also;
				lba: the slot that this is about */
	PST_LOG_SNAPSHOT = 9, /* slot (the new snapshot's), lba: the volume's slot */
	PST_LOG_CLONE = 10,   /* slot (the new volume's), lba: the snapshot's slot */
	PST_LOG_MERGE =
	    11,            /* slot (deleted), lba: index of the node in the version, count: level; then pst_log_merge */
	PST_LOG_MOVE = 12, /* as WRITE; then the blocks that it replaces: counts only where these are still there */
};

struct pst_log_record {
	uint8_t kind;
	uint8_t reserved;
	uint16_t bytes; /* with this header, a multiple of 8 */
	uint32_t slot;
	uint64_t lba; /* on this partition */
	uint32_t block;
	uint32_t count; /* blocks; PUT, DELETE: bytes that follow */
};
_Static_assert(sizeof(struct pst_log_record) == 24, "log record");

enum {
	PST_VOLUME_OPEN = 1,      /* open for writing: after a machine crash, completed writes may be lost */
	PST_VOLUME_LOST = 2,      /* that has happened; the next flush says so */
	PST_VOLUME_DELETING = 4,  /* nobody's any more; its space is being freed */
	PST_VOLUME_SNAPSHOT = 8,  /* never changes */
	PST_VOLUME_PAUSE = 16,    /* in a full pool its writes wait instead of failing */
	PST_VOLUME_PENDING = 64,  /* being made; after a crash: DELETING too */
	PST_VOLUME_MERGING = 128, /* deleted, and partly given back: before anything else in its family is */
	PST_VOLUME_FLAGS = 223,
	PST_VOLUME_FLAGS_OLD = 7,
};

/* A volume in format 1. */
struct pst_volume_disk {
	uint8_t uuid[16];
	uint64_t block_count;
	uint32_t slot;
	uint32_t flags;
};
_Static_assert(sizeof(struct pst_volume_disk) == 32, "volume");

/* A volume, snapshot or clone, in format 2. */
struct pst_version_disk {
	uint8_t uuid[16];
	uint64_t block_count;
	uint32_t slot;
	uint32_t flags;
	uint32_t parent;    /* slot of the version that it shares inherited blocks with; 0: none */
	uint32_t key_block; /* on partition 0: two blocks with the family's key; 0: none */
	uint64_t reserved_blocks;
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct pst_version_disk) == 64, "version");

/* What a VERSION record changes beside its own version, at once with it. */
enum pst_log_also {
	PST_ALSO_NOTHING = 0,
	PST_ALSO_ADOPT = 1,   /* the parent of version @lba is this one from now on */
	PST_ALSO_REPLACE = 2, /* version @lba is deleted: this one takes its place */
	PST_ALSO_DETACH = 3,  /* version @lba has no parent from now on: all that it has is its own */
};

/* ---- Key slot: blocks key_block and key_block + 1 of partition 0, outside the log; see keys.c ---- */

#define PST_KEY_MAGIC 0x5359454bu /* "KEYS" */

struct pst_key_disk {
	uint32_t magic;
	uint32_t crc; /* of the block with this field 0 */
	uint8_t pool_uuid[16];
	uint64_t generation;  /* the higher of two intact blocks counts */
	uint32_t block;       /* its own number in the partition */
	uint32_t value_bytes; /* 0: erased */
	uint8_t reserved[24];
	uint8_t value[PST_BLOCK_BYTES - 64]; /* zeros behind value_bytes */
};
_Static_assert(sizeof(struct pst_key_disk) == PST_BLOCK_BYTES, "key slot");

/* What a MERGE record needs beside the deleted version: see merge.c. */
struct pst_log_merge {
	uint32_t parent; /* slot; 0: none */
	uint32_t child;  /* slot of the only child; 0: none */
	uint32_t child_live;
	uint32_t
	    grandparent; /* slot, if the parent has been merged in part: what it lacks may be that one's. 0: none */
};

/* ---- Catalog image: header, versions, then records; data blocks 0.. of slot 0 on partition 0 ---- */

#define PST_CATALOG_MAGIC 0x32544143u     /* "CAT2" */
#define PST_CATALOG_MAGIC_OLD 0x4c544143u /* "CATL": with struct pst_volume_disk */
#define PST_CATALOG_BYTES_MAX (PST_NODE_FANOUT * PST_BLOCK_BYTES)

struct pst_catalog_head {
	uint32_t magic;
	uint32_t version_count;
	uint32_t record_count;
	uint32_t reserved;
};

struct pst_catalog_record {
	uint32_t key_bytes; /* without a zero */
	uint32_t value_bytes;
};

#endif
