/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire structures and constants of NVMe (Base Specification 2.0, NVM Command Set 1.0, NVMe over Fabrics as part of the
 * Base Specification). Little-endian, fixed width, no implicit padding. Compared with libnvme's in a unit test.
 */
#ifndef PST_PROTO_NVME_H
#define PST_PROTO_NVME_H

#include "base/base.h"

#include <endian.h>

/* Little-endian fields by type name: read and write them through these only. */
typedef struct {
	uint16_t raw;
} __attribute__((packed)) nvme_le16;
typedef struct {
	uint32_t raw;
} __attribute__((packed)) nvme_le32;
typedef struct {
	uint64_t raw;
} __attribute__((packed)) nvme_le64;

static inline uint16_t nvme_get16(nvme_le16 v)
{
	return le16toh(v.raw);
}

static inline uint32_t nvme_get32(nvme_le32 v)
{
	return le32toh(v.raw);
}

static inline uint64_t nvme_get64(nvme_le64 v)
{
	return le64toh(v.raw);
}

static inline nvme_le16 nvme_le16_of(uint16_t v)
{
	return (nvme_le16){ htole16(v) };
}

static inline nvme_le32 nvme_le32_of(uint32_t v)
{
	return (nvme_le32){ htole32(v) };
}

static inline nvme_le64 nvme_le64_of(uint64_t v)
{
	return (nvme_le64){ htole64(v) };
}

/* ---- Submission queue entry ---- */

/* SGL descriptor (Base 2.0, 4.1.2) */
struct nvme_sgl {
	nvme_le64 address;
	nvme_le32 length;
	uint8_t reserved[3];
	uint8_t type; /* type << 4 | subtype */
} __attribute__((packed));

enum {
	NVME_SGL_IN_CAPSULE = 0x01, /* data block, offset into the capsule */
	NVME_SGL_TRANSPORT = 0x5a,  /* transport SGL data block, transport specific */
};

struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* bits 7:6 PSDT: 01b for SGL; 1:0 fused */
	nvme_le16 cid;
	nvme_le32 nsid;
	nvme_le32 cdw2, cdw3;
	nvme_le64 metadata;
	struct nvme_sgl sgl;
	nvme_le32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
} __attribute__((packed));

/* Fabrics commands use byte 4 as their type. */
static inline uint8_t nvme_fctype(const struct nvme_sqe *sqe)
{
	return (uint8_t)(nvme_get32(sqe->nsid) & 0xff);
}

/* ---- Completion queue entry ---- */

struct nvme_cqe {
	nvme_le32 dw0, dw1;
	nvme_le16 sqhd;
	nvme_le16 sqid;
	nvme_le16 cid;
	nvme_le16 status; /* bit 0 phase (0 on fabrics), 8:1 SC, 11:9 SCT, 13:12 CRD, 14 M, 15 DNR */
} __attribute__((packed));

/* ---- Opcodes ---- */

enum {
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
	NVME_ADMIN_KEEP_ALIVE = 0x18,
	NVME_FABRICS = 0x7f,
};

enum {
	NVME_CMD_FLUSH = 0x00,
	NVME_CMD_WRITE = 0x01,
	NVME_CMD_READ = 0x02,
	NVME_CMD_COMPARE = 0x05,
	NVME_CMD_WRITE_ZEROES = 0x08,
	NVME_CMD_DSM = 0x09,
	NVME_CMD_VERIFY = 0x0c,
	NVME_CMD_RESV_REGISTER = 0x0d,
	NVME_CMD_RESV_REPORT = 0x0e,
	NVME_CMD_RESV_ACQUIRE = 0x11,
	NVME_CMD_RESV_RELEASE = 0x15,
	NVME_CMD_COPY = 0x19,
};

enum {
	NVMF_PROPERTY_SET = 0x00,
	NVMF_CONNECT = 0x01,
	NVMF_PROPERTY_GET = 0x04,
	NVMF_AUTH_SEND = 0x05,
	NVMF_AUTH_RECEIVE = 0x06,
	NVMF_DISCONNECT = 0x08,
};

/* Read, write, write zeroes: CDW12 */
#define NVME_RW_FUA (1u << 30)
#define NVME_WZ_DEAC (1u << 25)
/* Dataset management: CDW11 */
#define NVME_DSM_DEALLOCATE (1u << 2)

struct nvme_dsm_range {
	nvme_le32 attributes;
	nvme_le32 block_count;
	nvme_le64 lba;
} __attribute__((packed));

/* Copy, descriptor format 0 */
struct nvme_copy_source {
	uint8_t reserved0[8];
	nvme_le64 lba;
	nvme_le16 block_count; /* 0-based */
	uint8_t reserved18[6];
	nvme_le32 eilbrt;
	nvme_le16 elbatm, elbat;
} __attribute__((packed));

/* ---- Status: SCT << 8 | SC ---- */

#define NVME_STATUS_DNR 0x4000u /* do not retry, in our 16-bit form (status field bit 15, without the phase bit) */

enum nvme_status {
	NVME_SUCCESS = 0x000,
	NVME_INVALID_OPCODE = 0x001,
	NVME_INVALID_FIELD = 0x002,
	NVME_CID_CONFLICT = 0x003,
	NVME_DATA_TRANSFER_ERROR = 0x004,
	NVME_INTERNAL_ERROR = 0x006,
	NVME_ABORT_REQUESTED = 0x007,
	NVME_ABORT_SQ_DELETED = 0x008,
	NVME_FUSED_FAILED = 0x009,
	NVME_FUSED_MISSING = 0x00a,
	NVME_INVALID_NAMESPACE = 0x00b,
	NVME_COMMAND_SEQUENCE_ERROR = 0x00c,
	NVME_INVALID_SGL_DESCRIPTOR = 0x00d,
	NVME_INVALID_SGL_COUNT = 0x00e,
	NVME_SGL_LENGTH_INVALID = 0x00f,
	NVME_SGL_TYPE_INVALID = 0x011,
	NVME_ATOMIC_UNIT_EXCEEDED = 0x014,
	NVME_SGL_OFFSET_INVALID = 0x016,
	NVME_HOST_ID_INCONSISTENT = 0x018,
	NVME_KEEP_ALIVE_EXPIRED = 0x019,
	NVME_KEEP_ALIVE_INVALID = 0x01a,
	NVME_TRANSIENT_TRANSPORT_ERROR = 0x022,
	NVME_LBA_OUT_OF_RANGE = 0x080,
	NVME_CAPACITY_EXCEEDED = 0x081,
	NVME_NAMESPACE_NOT_READY = 0x082,
	NVME_RESERVATION_CONFLICT = 0x083,
	NVME_ABORT_LIMIT_EXCEEDED = 0x103,
	NVME_AER_LIMIT_EXCEEDED = 0x105,
	NVME_INVALID_LOG_PAGE = 0x109,
	NVME_FEATURE_NOT_SAVEABLE = 0x10d,
	NVME_FEATURE_NOT_CHANGEABLE = 0x10e,
	NVMF_INCOMPATIBLE_FORMAT = 0x180,
	NVMF_CONTROLLER_BUSY = 0x181,
	NVME_COMMAND_SIZE_LIMIT = 0x183, /* of an NVM command */
	NVMF_INVALID_PARAM = 0x182,
	NVMF_INVALID_HOST = 0x184,
	NVMF_AUTH_REQUIRED = 0x191,
	NVME_WRITE_FAULT = 0x280,
	NVME_UNRECOVERED_READ_ERROR = 0x281,
	NVME_COMPARE_FAILURE = 0x285,
	NVME_ANA_PERSISTENT_LOSS = 0x301,
	NVME_ANA_INACCESSIBLE = 0x302,
	NVME_ANA_TRANSITION = 0x303,
};

/* ---- Connect (Base 2.0, 6.3) ---- */

struct nvmf_connect_cmd {
	uint8_t opcode, flags;
	nvme_le16 cid;
	uint8_t fctype;
	uint8_t reserved5[19];
	struct nvme_sgl sgl;
	nvme_le16 recfmt;
	nvme_le16 qid;
	nvme_le16 sqsize; /* 0-based */
	uint8_t cattr;    /* bit 2: SQ flow control disabled */
	uint8_t reserved47;
	nvme_le32 kato; /* milliseconds */
	uint8_t reserved52[12];
} __attribute__((packed));

struct nvmf_connect_data {
	uint8_t hostid[16];
	nvme_le16 cntlid;
	uint8_t reserved18[238];
	char subnqn[256];
	char hostnqn[256];
	uint8_t reserved768[256];
} __attribute__((packed));

/* AUTHREQ in dword 0 of the response: an authentication transaction is required (Base 2.0, 6.3) */
#define NVMF_CONNECT_ATR (1u << 17)
#define NVMF_CNTLID_DYNAMIC 0xffffu
#define NVMF_CATTR_NO_SQ_FLOW_CONTROL 0x04u
#define NVMF_DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"

struct nvmf_property_cmd {
	uint8_t opcode, flags;
	nvme_le16 cid;
	uint8_t fctype;
	uint8_t reserved5[35];
	uint8_t attrib; /* bits 2:0: 0 is 4 bytes, 1 is 8 bytes */
	uint8_t reserved41[3];
	nvme_le32 offset;
	nvme_le64 value;
	uint8_t reserved56[8];
} __attribute__((packed));

enum {
	NVME_PROP_CAP = 0x00,
	NVME_PROP_VS = 0x08,
	NVME_PROP_CC = 0x14,
	NVME_PROP_CSTS = 0x1c,
	NVME_PROP_NSSR = 0x20,
};

/* ---- In-band authentication: DH-HMAC-CHAP (Base 2.0, 6.1, 6.2 and 8.13.5) ---- */

/* Authentication Send and Authentication Receive differ in the name of their length: TL and AL. */
struct nvmf_auth_cmd {
	uint8_t opcode, flags;
	nvme_le16 cid;
	uint8_t fctype;
	uint8_t reserved5[19];
	struct nvme_sgl sgl;
	uint8_t reserved40;
	uint8_t spsp0, spsp1; /* 01h each */
	uint8_t secp;         /* E9h */
	nvme_le32 length;
	uint8_t reserved48[16];
} __attribute__((packed));

#define NVMF_AUTH_SECP 0xe9u
#define NVMF_AUTH_SPSP 0x01u

enum {
	NVMF_AUTH_TYPE_COMMON = 0x00,
	NVMF_AUTH_TYPE_DHCHAP = 0x01,
};

enum {
	NVMF_AUTH_NEGOTIATE = 0x00,
	NVMF_AUTH_CHALLENGE = 0x01,
	NVMF_AUTH_REPLY = 0x02,
	NVMF_AUTH_SUCCESS1 = 0x03,
	NVMF_AUTH_SUCCESS2 = 0x04,
	NVMF_AUTH_FAILURE2 = 0xf0,
	NVMF_AUTH_FAILURE1 = 0xf1,
};

/* Reason code explanations of AUTH_Failure1 and AUTH_Failure2; the reason code is always 01h. */
enum nvmf_auth_failure {
	NVMF_AUTH_FAILED = 0x01,
	NVMF_AUTH_PROTOCOL_UNUSABLE = 0x02,
	NVMF_AUTH_CONCATENATION_MISMATCH = 0x03,
	NVMF_AUTH_HASH_UNUSABLE = 0x04,
	NVMF_AUTH_GROUP_UNUSABLE = 0x05,
	NVMF_AUTH_BAD_PAYLOAD = 0x06,
	NVMF_AUTH_BAD_MESSAGE = 0x07,
};

#define NVMF_AUTH_PROTOCOL_DHCHAP 0x01u
#define NVMF_AUTH_LIST_MAX 30u /* identifiers of hash functions or groups in a descriptor */

struct nvmf_auth_descriptor {
	uint8_t authid, reserved1;
	uint8_t halen, dhlen;
	uint8_t hashes[NVMF_AUTH_LIST_MAX], groups[NVMF_AUTH_LIST_MAX];
} __attribute__((packed));

struct nvmf_auth_negotiate {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t sc_c; /* secure channel concatenation */
	uint8_t napd; /* descriptors */
	struct nvmf_auth_descriptor descriptors[];
} __attribute__((packed));

struct nvmf_auth_challenge {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t hl, reserved7;
	uint8_t hash, group;
	nvme_le16 dhvlen;
	nvme_le32 seqnum;
	uint8_t values[]; /* C1 (hl), DH value (dhvlen) */
} __attribute__((packed));

struct nvmf_auth_reply {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t hl, reserved7;
	uint8_t cvalid, reserved9;
	nvme_le16 dhvlen;
	nvme_le32 seqnum;
	uint8_t values[]; /* R1 (hl), C2 (hl), DH value (dhvlen) */
} __attribute__((packed));

struct nvmf_auth_success1 {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t hl, reserved7;
	uint8_t rvalid, reserved9[7];
	uint8_t values[]; /* R2 (hl) */
} __attribute__((packed));

struct nvmf_auth_success2 {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t reserved6[10];
} __attribute__((packed));

struct nvmf_auth_failure_message {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
	uint8_t rescode, rescode_exp;
} __attribute__((packed));

/* ---- Identify ---- */

enum {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_LIST = 0x02,
	NVME_CNS_DESCRIPTORS = 0x03,
	NVME_CNS_CSI_NAMESPACE = 0x05,
	NVME_CNS_CSI_CONTROLLER = 0x06,
	NVME_CNS_CSI_ACTIVE_LIST = 0x07,
	NVME_CNS_CSI_INDEPENDENT = 0x08,
	NVME_CNS_ATTACHED_CONTROLLERS = 0x12, /* to a namespace */
	NVME_CNS_CONTROLLERS = 0x13,          /* of the subsystem */
};

struct nvme_power_state {
	nvme_le16 max_power;
	uint8_t rest[30];
} __attribute__((packed));

struct nvme_id_ctrl {
	nvme_le16 vid, ssvid;
	char sn[20], mn[40], fr[8];
	uint8_t rab, ieee[3], cmic, mdts;
	nvme_le16 cntlid;
	nvme_le32 ver, rtd3r, rtd3e, oaes, ctratt;
	nvme_le16 rrls;
	uint8_t reserved102[9];
	uint8_t cntrltype; /* 1 I/O, 2 discovery */
	uint8_t fguid[16];
	nvme_le16 crdt[3];
	uint8_t reserved134[119];
	uint8_t nvmsr, vwci, mec;
	nvme_le16 oacs;
	uint8_t acl, aerl, frmw, lpa, elpe, npss, avscc, apsta;
	nvme_le16 wctemp, cctemp, mtfa;
	nvme_le32 hmpre, hmmin;
	uint8_t tnvmcap[16], unvmcap[16];
	nvme_le32 rpmbs;
	nvme_le16 edstt;
	uint8_t dsto, fwug;
	nvme_le16 kas; /* units of 100 ms */
	nvme_le16 hctma, mntmt, mxtmt;
	nvme_le32 sanicap, hmminds;
	nvme_le16 hmmaxd, nsetidmax, endgidmax;
	uint8_t anatt, anacap;
	nvme_le32 anagrpmax, nanagrpid, pels;
	nvme_le16 domainid;
	uint8_t reserved358[10];
	uint8_t megcap[16];
	uint8_t reserved384[128];
	uint8_t sqes, cqes;
	nvme_le16 maxcmd;
	nvme_le32 nn;
	nvme_le16 oncs, fuses;
	uint8_t fna, vwc;
	nvme_le16 awun, awupf;
	uint8_t icsvscc, nwpc;
	nvme_le16 acwu, cdfs;
	nvme_le32 sgls, mnan;
	uint8_t maxdna[16];
	nvme_le32 maxcna;
	uint8_t reserved564[204];
	char subnqn[256];
	uint8_t reserved1024[768];
	nvme_le32 ioccsz, iorcsz; /* units of 16 bytes */
	nvme_le16 icdoff;
	uint8_t fcatt, msdbd;
	nvme_le16 ofcs;
	uint8_t dctype, reserved1807[241];
	struct nvme_power_state psd[32];
	uint8_t vendor[1024];
} __attribute__((packed));

struct nvme_lbaf {
	nvme_le16 ms;
	uint8_t lbads; /* log2 of the block size */
	uint8_t rp;
} __attribute__((packed));

struct nvme_id_ns {
	nvme_le64 nsze, ncap, nuse;
	uint8_t nsfeat, nlbaf, flbas, mc, dpc, dps, nmic, rescap, fpi, dlfeat;
	nvme_le16 nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob;
	uint8_t nvmcap[16];
	nvme_le16 npwg, npwa, npdg, npda, nows, mssrl;
	nvme_le32 mcl;
	uint8_t msrc, kpios, nulbaf, reserved83[9];
	nvme_le32 anagrpid;
	uint8_t reserved96[3], nsattr;
	nvme_le16 nvmsetid, endgid;
	uint8_t nguid[16], eui64[8];
	struct nvme_lbaf lbaf[64];
	uint8_t vendor[3712];
} __attribute__((packed));

/* Namespace identification descriptor (CNS 03h) */
struct nvme_ns_descriptor {
	uint8_t type, length, reserved[2];
	uint8_t value[];
} __attribute__((packed));

enum {
	NVME_NIDT_NGUID = 0x02,
	NVME_NIDT_UUID = 0x03,
	NVME_NIDT_CSI = 0x04,
};

/* CNS 06h, NVM command set */
struct nvme_id_ctrl_nvm {
	uint8_t vsl, wzsl, wusl, dmrl;
	nvme_le32 dmrsl;
	nvme_le64 dmsl;
	uint8_t reserved[4080];
} __attribute__((packed));

/* ---- Reservations (Base 2.0, 7.5) ---- */

struct nvme_registrant {
	nvme_le16 cntlid;
	uint8_t rcsts; /* bit 0: holds the reservation */
	uint8_t reserved3[5];
	nvme_le64 rkey;
	uint8_t hostid[16];
	uint8_t reserved32[32];
} __attribute__((packed));

struct nvme_reservation_status {
	nvme_le32 gen;
	uint8_t rtype;
	nvme_le16 regctl;
	uint8_t reserved7[2];
	uint8_t ptpls;
	uint8_t reserved10[54];
	struct nvme_registrant registrants[];
} __attribute__((packed));

struct nvme_reservation_log {
	nvme_le64 count;
	uint8_t type; /* 1 registration preempted, 2 reservation released, 3 reservation preempted */
	uint8_t available;
	uint8_t reserved10[2];
	nvme_le32 nsid;
	uint8_t reserved16[48];
} __attribute__((packed));

/* ---- Log pages ---- */

enum {
	NVME_LOG_SUPPORTED = 0x00,
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
	NVME_LOG_EFFECTS = 0x05,
	NVME_LOG_ANA = 0x0c,
	NVME_LOG_FEATURES = 0x12,
	NVME_LOG_DISCOVERY = 0x70,
	NVME_LOG_RESERVATION = 0x80,
};

#define NVME_LOG_CHANGED_NS_BYTES 4096u
#define NVME_LOG_SMART_BYTES 512u
#define NVME_LOG_FIRMWARE_BYTES 512u
#define NVME_LOG_ERROR_ENTRY_BYTES 64u
#define NVME_LOG_EFFECTS_BYTES 4096u
#define NVME_LOG_SUPPORTED_BYTES 1024u

struct nvme_smart_log {
	uint8_t critical_warning;
	nvme_le16 temperature; /* kelvin */
	uint8_t available_spare, spare_threshold, percentage_used, endurance_critical;
	uint8_t reserved7[25];
	uint8_t data_units_read[16], data_units_written[16];
	uint8_t host_reads[16], host_writes[16];
	uint8_t busy_time[16], power_cycles[16], power_on_hours[16], unsafe_shutdowns[16];
	uint8_t media_errors[16], error_entries[16];
	uint8_t reserved192[320];
} __attribute__((packed));

/* Asymmetric Namespace Access (log page 0Ch): the header, then a descriptor for each group, with its namespace ids. */
struct nvme_ana_log {
	nvme_le64 chgcnt;
	nvme_le16 ngrps;
	uint8_t reserved10[6];
} __attribute__((packed));

struct nvme_ana_group {
	nvme_le32 grpid, nnsids;
	nvme_le64 chgcnt;
	uint8_t state;
	uint8_t reserved17[15];
	nvme_le32 nsids[];
} __attribute__((packed));

struct nvmf_discovery_entry {
	uint8_t trtype;  /* 3 TCP */
	uint8_t adrfam;  /* 1 IPv4, 2 IPv6 */
	uint8_t subtype; /* 1 referral, 2 NVM subsystem, 3 current discovery subsystem */
	uint8_t treq;
	nvme_le16 portid, cntlid, asqsz, eflags;
	uint8_t reserved12[20];
	char trsvcid[32];
	uint8_t reserved64[192];
	char subnqn[256];
	char traddr[256];
	uint8_t tsas[256]; /* TCP: byte 0 SECTYPE */
} __attribute__((packed));

struct nvmf_discovery_log {
	nvme_le64 genctr, numrec;
	nvme_le16 recfmt;
	uint8_t reserved18[1006];
	struct nvmf_discovery_entry entries[];
} __attribute__((packed));

/* ---- Features ---- */

enum {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_ASYNC_EVENT = 0x0b,
	NVME_FEAT_KATO = 0x0f,
	NVME_FEAT_HOST_ID = 0x81,
	NVME_FEAT_RESV_MASK = 0x82,
	NVME_FEAT_RESV_PERSIST = 0x83,
};

/* Asynchronous events: CDW0 of the completion is type | info << 8 | log page << 16 */
enum {
	NVME_AER_TYPE_NOTICE = 2,
	NVME_AER_TYPE_COMMAND_SET = 6,
	NVME_AER_NS_CHANGED = 0x00,
	NVME_AER_ANA_CHANGED = 0x03,
	NVME_AER_DISCOVERY_CHANGED = 0xf0,
};

#define NVME_AEC_NS_CHANGED (1u << 8)
#define NVME_AEC_ANA_CHANGED (1u << 11)
#define NVME_AEC_DISCOVERY_CHANGED (1u << 31)

_Static_assert(sizeof(struct nvme_sqe) == 64, "SQE is 64 bytes");
_Static_assert(sizeof(struct nvme_cqe) == 16, "CQE is 16 bytes");
_Static_assert(sizeof(struct nvmf_connect_cmd) == 64, "Connect is an SQE");
_Static_assert(sizeof(struct nvmf_property_cmd) == 64, "Property commands are SQEs");
_Static_assert(sizeof(struct nvmf_connect_data) == 1024, "Connect data is 1024 bytes");
_Static_assert(sizeof(struct nvmf_auth_cmd) == 64, "Authentication commands are SQEs");
_Static_assert(sizeof(struct nvmf_auth_descriptor) == 64 && sizeof(struct nvmf_auth_negotiate) == 8 &&
		   sizeof(struct nvmf_auth_challenge) == 16 && sizeof(struct nvmf_auth_reply) == 16 &&
		   sizeof(struct nvmf_auth_success1) == 16 && sizeof(struct nvmf_auth_success2) == 16 &&
		   sizeof(struct nvmf_auth_failure_message) == 8,
	       "authentication messages");
_Static_assert(sizeof(struct nvme_id_ctrl) == 4096, "Identify is 4096 bytes");
_Static_assert(sizeof(struct nvme_id_ns) == 4096, "Identify is 4096 bytes");
_Static_assert(sizeof(struct nvme_id_ctrl_nvm) == 4096, "Identify is 4096 bytes");
_Static_assert(sizeof(struct nvme_registrant) == 64, "an entry of the report is 64 bytes");
_Static_assert(sizeof(struct nvme_reservation_status) == 64, "the report's header is 64 bytes");
_Static_assert(sizeof(struct nvme_reservation_log) == 64, "reservation notification log is 64 bytes");
_Static_assert(sizeof(struct nvme_smart_log) == 512, "SMART log is 512 bytes");
_Static_assert(sizeof(struct nvme_ana_log) == 16 && sizeof(struct nvme_ana_group) == 32, "ANA log");
_Static_assert(sizeof(struct nvmf_discovery_entry) == 1024, "discovery entry is 1024 bytes");
_Static_assert(sizeof(struct nvmf_discovery_log) == 1024, "discovery header is 1024 bytes");
_Static_assert(offsetof(struct nvme_id_ctrl, oacs) == 256 && offsetof(struct nvme_id_ctrl, sqes) == 512 &&
		   offsetof(struct nvme_id_ctrl, subnqn) == 768 && offsetof(struct nvme_id_ctrl, ioccsz) == 1792 &&
		   offsetof(struct nvme_id_ctrl, kas) == 320,
	       "Identify Controller fields");
_Static_assert(offsetof(struct nvme_id_ns, nguid) == 104 && offsetof(struct nvme_id_ns, lbaf) == 128,
	       "Identify Namespace fields");

#endif
