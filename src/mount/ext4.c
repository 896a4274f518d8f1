/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: an io_channel is a namespace. libext2fs hands the manager a name only, so the name is the address of the
 * struct pst_nsio in hexadecimal; nobody else sees it. Blocks of 4096 go straight through; the superblock (1024 bytes
 * at offset 1024) is changed inside its block. An error of the namespace becomes EXT2_ET_SHORT_READ or _WRITE.
 */
#include "mount/ext4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static struct struct_io_manager manager;

static errcode_t io_open(const char *name, int flags, io_channel *ret_channel)
{
	struct struct_io_channel *channel = calloc(1, sizeof(*channel));
	void *io = NULL;

	(void)flags;
	if (channel == NULL || (channel->name = strdup(name)) == NULL || sscanf(name, "%p", &io) != 1) {
		if (channel != NULL)
			free(channel->name);
		free(channel);
		return EXT2_ET_NO_MEMORY;
	}
	channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	channel->manager = &manager;
	channel->block_size = 1024;
	channel->refcount = 1;
	channel->private_data = io;
	*ret_channel = channel;
	return 0;
}

static errcode_t io_close(io_channel channel)
{
	if (--channel->refcount > 0)
		return 0;
	free(channel->name);
	free(channel);
	return 0;
}

static errcode_t io_set_blksize(io_channel channel, int block_size)
{
	channel->block_size = block_size;
	return 0;
}

/* A negative count is bytes. */
static uint64_t span(io_channel channel, int count)
{
	return count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * (unsigned)channel->block_size;
}

static errcode_t io_read64(io_channel channel, unsigned long long block, int count, void *data)
{
	uint64_t at = block * (unsigned)channel->block_size;

	return pst_nsio_read(channel->private_data, at, data, span(channel, count)) == PST_OK ? 0 : EXT2_ET_SHORT_READ;
}

static errcode_t io_write64(io_channel channel, unsigned long long block, int count, const void *data)
{
	uint64_t at = block * (unsigned)channel->block_size;
	pst_err err = pst_nsio_write(channel->private_data, at, data, span(channel, count));

	return err == PST_OK ? 0 : err == PST_E_NOSPACE ? ENOSPC : EXT2_ET_SHORT_WRITE;
}

static errcode_t io_read(io_channel channel, unsigned long block, int count, void *data)
{
	return io_read64(channel, block, count, data);
}

static errcode_t io_write(io_channel channel, unsigned long block, int count, const void *data)
{
	return io_write64(channel, block, count, data);
}

static errcode_t io_flush(io_channel channel)
{
	return pst_nsio_flush(channel->private_data) == PST_OK ? 0 : EXT2_ET_SHORT_WRITE;
}

static errcode_t io_write_byte(io_channel channel, unsigned long offset, int count, const void *data)
{
	pst_err err = pst_nsio_write(channel->private_data, offset, data, (uint64_t)count);

	return err == PST_OK ? 0 : EXT2_ET_SHORT_WRITE;
}

static errcode_t io_zeroout(io_channel channel, unsigned long long block, unsigned long long count)
{
	uint64_t size = (unsigned)channel->block_size;
	pst_err err = pst_nsio_zero(channel->private_data, block * size, count * size);

	return err == PST_OK ? 0 : EXT2_ET_SHORT_WRITE;
}

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "penstock volume",
	.open = io_open,
	.close = io_close,
	.set_blksize = io_set_blksize,
	.read_blk = io_read,
	.write_blk = io_write,
	.flush = io_flush,
	.write_byte = io_write_byte,
	.read_blk64 = io_read64,
	.write_blk64 = io_write64,
	.discard = io_zeroout,
	.zeroout = io_zeroout,
};

pst_err pst_ext4_error(errcode_t code, const char *what, char text[200])
{
	initialize_ext2_error_table();
	snprintf(text, 200, "%s: %s", what, error_message(code));
	switch (code) {
	case EXT2_ET_BLOCK_ALLOC_FAIL:
	case EXT2_ET_INODE_ALLOC_FAIL:
	case ENOSPC:
		return PST_E_NOSPACE;
	case EXT2_ET_NO_MEMORY:
	case ENOMEM:
		return PST_E_NOMEM;
	case EXT2_ET_FILE_NOT_FOUND:
		return PST_E_NOTFOUND;
	default:
		return PST_E_IO;
	}
}

/* ---- what is on the volume ---- */

#define PROBE_BYTES (1u << 20)

pst_err pst_content_probe(struct pst_nsio *io, enum pst_volume_content *ret_content)
{
	uint64_t len = PST_MIN(io->info.size_bytes, (uint64_t)PROBE_BYTES);
	unsigned char *head = malloc(2 * PROBE_BYTES), *tail = head + PROBE_BYTES;
	pst_err err = head == NULL ? PST_E_NOMEM : pst_nsio_read(io, 0, head, PST_NSIO_BLOCK);

	if (err == PST_OK && head[1080] == 0x53 && head[1081] == 0xef) {
		*ret_content = PST_CONTENT_EXT4;
	} else if (err == PST_OK && memcmp(head, "XFSB", 4) == 0) {
		*ret_content = PST_CONTENT_XFS;
	} else if (err == PST_OK && (err = pst_nsio_read(io, 0, head, len)) == PST_OK &&
		   (err = pst_nsio_read(io, io->info.size_bytes - len, tail, len)) == PST_OK) {
		bool zeros = true;

		for (uint64_t i = 0; i < len && zeros; i++)
			zeros = head[i] == 0 && tail[i] == 0;
		*ret_content = zeros ? PST_CONTENT_ZEROS : PST_CONTENT_UNKNOWN;
	}
	free(head);
	return err;
}

/* ---- making one ---- */

static void format_params(struct pst_nsio *io, struct ext2_super_block *p)
{
	memset(p, 0, sizeof(*p));
	p->s_rev_level = EXT2_DYNAMIC_REV;
	p->s_log_block_size = p->s_log_cluster_size = 2; /* 4096 */
	p->s_inode_size = 256;
	p->s_log_groups_per_flex = 4;
	p->s_feature_compat =
	    EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_DIR_INDEX | EXT2_FEATURE_COMPAT_EXT_ATTR;
	p->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
				EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
	p->s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
				 EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
				 EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
	uint64_t blocks = io->info.size_bytes / 4096;
	ext2fs_blocks_count_set(p, blocks);
	p->s_inodes_count = (uint32_t)PST_MIN(PST_MAX(blocks / 4, (uint64_t)1024), (uint64_t)UINT32_MAX / 2);
	ext2fs_r_blocks_count_set(p, blocks / 100);
}

/* The parts of the superblock that ext2fs_initialize does not take from its parameters. */
static void format_identity(ext2_filsys fs)
{
	struct ext2_super_block *s = fs->super;

	s->s_checksum_type = EXT2_CRC32C_CHKSUM;
	(void)!getrandom(s->s_uuid, sizeof(s->s_uuid), 0);
	s->s_uuid[6] = (uint8_t)((s->s_uuid[6] & 0x0f) | 0x40);
	s->s_uuid[8] = (uint8_t)((s->s_uuid[8] & 0x3f) | 0x80);
	(void)!getrandom(s->s_hash_seed, sizeof(s->s_hash_seed), 0);
	s->s_def_hash_version = EXT2_HASH_HALF_MD4;
	s->s_flags |= EXT2_FLAGS_UNSIGNED_HASH;
	s->s_min_extra_isize = s->s_want_extra_isize = 32;
	s->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	s->s_mkfs_time = s->s_wtime = (uint32_t)time(NULL);
	s->s_max_mnt_count = 0xffff;
	ext2fs_init_csum_seed(fs);
}

static errcode_t format_directories(ext2_filsys fs)
{
	struct ext2_inode inode;
	errcode_t e;

	if ((e = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL)) != 0)
		return e;
	if ((e = ext2fs_read_inode(fs, EXT2_ROOT_INO, &inode)) != 0)
		return e;
	inode.i_uid = (uint16_t)getuid();
	ext2fs_set_i_uid_high(inode, getuid() >> 16);
	inode.i_gid = (uint16_t)getgid();
	ext2fs_set_i_gid_high(inode, getgid() >> 16);
	if ((e = ext2fs_write_inode(fs, EXT2_ROOT_INO, &inode)) != 0)
		return e;
	fs->umask = 077;
	return ext2fs_mkdir(fs, EXT2_ROOT_INO, 0, "lost+found");
}

static errcode_t format_tables(ext2_filsys fs)
{
	errcode_t e = ext2fs_allocate_tables(fs);

	/* The namespace reads as zeros: no need to write them, now or later by the kernel's lazy initialisation. */
	for (dgrp_t g = 0; e == 0 && g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
	return e;
}

static errcode_t format_reserved(ext2_filsys fs)
{
	errcode_t e = ext2fs_mark_inode_bitmap2(fs->inode_map, EXT2_BAD_INO) != 0 ? EXT2_ET_INODE_ALLOC_FAIL : 0;

	ext2fs_inode_alloc_stats2(fs, EXT2_BAD_INO, +1, 0);
	for (ext2_ino_t i = EXT2_ROOT_INO + 1; i < EXT2_FIRST_INODE(fs->super); i++)
		ext2fs_inode_alloc_stats2(fs, i, +1, 0);
	ext2fs_mark_ib_dirty(fs);
	return e == 0 ? ext2fs_update_bb_inode(fs, NULL) : e;
}

pst_err pst_ext4_format(struct pst_nsio *io, char text[200])
{
	struct ext2_super_block params;
	ext2_filsys fs = NULL;
	char name[32];
	errcode_t e;

	format_params(io, &params);
	snprintf(name, sizeof(name), "%p", (void *)io);
	if ((e = ext2fs_initialize(name, EXT2_FLAG_EXCLUSIVE | EXT2_FLAG_64BITS, &params, &manager, &fs)) != 0)
		return pst_ext4_error(e, "making ext4", text);
	format_identity(fs);
	if ((e = format_tables(fs)) == 0 && (e = format_directories(fs)) == 0 && (e = format_reserved(fs)) == 0) {
		/* 1/64 of the volume, 4 to 64 MiB. */
		uint64_t journal =
		    PST_MIN(PST_MAX(ext2fs_blocks_count(fs->super) / 64, (uint64_t)1024), (uint64_t)16384);

		e = ext2fs_add_journal_inode2(fs, (blk_t)journal, ~(blk64_t)0,
					      EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
	}
	if (e != 0) {
		ext2fs_free(fs);
		return pst_ext4_error(e, "making ext4", text);
	}
	if ((e = ext2fs_close(fs)) != 0)
		return pst_ext4_error(e, "writing the new ext4", text);
	if (pst_nsio_flush(io) != PST_OK) {
		snprintf(text, 200, "writing the new ext4: flush failed");
		return PST_E_IO;
	}
	return PST_OK;
}

pst_err pst_ext4_open(struct pst_nsio *io, bool ro, ext2_filsys *ret_fs, char text[200])
{
	char name[32];
	errcode_t e;

	snprintf(name, sizeof(name), "%p", (void *)io);
	e = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS | (ro ? 0 : EXT2_FLAG_RW), 0, 4096, &manager, ret_fs);
	if (e != 0)
		return pst_ext4_error(e, "opening ext4", text);
	if (ext2fs_has_feature_journal_needs_recovery((*ret_fs)->super)) {
		ext2fs_free(*ret_fs);
		snprintf(text, 200, "its journal needs a replay, which only a mount can do");
		return PST_E_UNSUPPORTED;
	}
	if ((e = ext2fs_read_bitmaps(*ret_fs)) != 0) {
		ext2fs_free(*ret_fs);
		return pst_ext4_error(e, "reading ext4's bitmaps", text);
	}
	return PST_OK;
}

pst_err pst_ext4_clean(struct pst_nsio *io, bool *ret_clean)
{
	struct ext2_super_block *super = malloc(sizeof(*super));
	pst_err err = super != NULL ? pst_nsio_read(io, SUPERBLOCK_OFFSET, super, sizeof(*super)) : PST_E_NOMEM;

	if (err == PST_OK)
		*ret_clean = ext2fs_le16_to_cpu(super->s_magic) != EXT2_SUPER_MAGIC ||
			     ((ext2fs_le16_to_cpu(super->s_state) & (EXT2_VALID_FS | EXT2_ERROR_FS)) == EXT2_VALID_FS &&
			      (ext2fs_le32_to_cpu(super->s_feature_incompat) & EXT3_FEATURE_INCOMPAT_RECOVER) == 0);
	free(super);
	return err;
}
