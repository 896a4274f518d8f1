/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structures that both proto/nvme.h and libnvme know, field by field: our structure and field, theirs. Two files
 * are compiled from this, since the two headers use the same names.
 */
#ifndef PST_TEST_NVME_LAYOUT_H
#define PST_TEST_NVME_LAYOUT_H

#include <stddef.h>

struct layout {
	const char *name;
	size_t offset, size;
};

extern const struct layout layout_of_libnvme[];

/* clang-format off */
#define LAYOUT_STRUCTS(X) \
	X(nvme_id_ctrl, nvme_id_ctrl) \
	X(nvme_id_ns, nvme_id_ns) \
	X(nvme_smart_log, nvme_smart_log) \
	X(nvmf_discovery_entry, nvmf_disc_log_entry) \
	X(nvmf_discovery_log, nvmf_discovery_log) \
	X(nvmf_connect_data, nvmf_connect_data) \
	X(nvme_id_ctrl_nvm, nvme_id_ctrl_nvm) \
	X(nvme_lbaf, nvme_lbaf) \
	X(nvme_dsm_range, nvme_dsm_range) \
	X(nvme_power_state, nvme_id_psd) \
	X(nvme_ns_descriptor, nvme_ns_id_desc) \
	X(nvme_registrant, nvme_registered_ctrl_ext) \
	X(nvme_reservation_log, nvme_resv_notification_log) \
	X(nvme_copy_source, nvme_copy_range)

#define LAYOUT_FIELDS(X) \
	X(nvme_id_ctrl, vid, nvme_id_ctrl, vid) \
	X(nvme_id_ctrl, ssvid, nvme_id_ctrl, ssvid) \
	X(nvme_id_ctrl, sn, nvme_id_ctrl, sn) \
	X(nvme_id_ctrl, mn, nvme_id_ctrl, mn) \
	X(nvme_id_ctrl, fr, nvme_id_ctrl, fr) \
	X(nvme_id_ctrl, rab, nvme_id_ctrl, rab) \
	X(nvme_id_ctrl, ieee, nvme_id_ctrl, ieee) \
	X(nvme_id_ctrl, cmic, nvme_id_ctrl, cmic) \
	X(nvme_id_ctrl, mdts, nvme_id_ctrl, mdts) \
	X(nvme_id_ctrl, cntlid, nvme_id_ctrl, cntlid) \
	X(nvme_id_ctrl, ver, nvme_id_ctrl, ver) \
	X(nvme_id_ctrl, rtd3r, nvme_id_ctrl, rtd3r) \
	X(nvme_id_ctrl, rtd3e, nvme_id_ctrl, rtd3e) \
	X(nvme_id_ctrl, oaes, nvme_id_ctrl, oaes) \
	X(nvme_id_ctrl, ctratt, nvme_id_ctrl, ctratt) \
	X(nvme_id_ctrl, rrls, nvme_id_ctrl, rrls) \
	X(nvme_id_ctrl, cntrltype, nvme_id_ctrl, cntrltype) \
	X(nvme_id_ctrl, fguid, nvme_id_ctrl, fguid) \
	X(nvme_id_ctrl, nvmsr, nvme_id_ctrl, nvmsr) \
	X(nvme_id_ctrl, vwci, nvme_id_ctrl, vwci) \
	X(nvme_id_ctrl, mec, nvme_id_ctrl, mec) \
	X(nvme_id_ctrl, oacs, nvme_id_ctrl, oacs) \
	X(nvme_id_ctrl, acl, nvme_id_ctrl, acl) \
	X(nvme_id_ctrl, aerl, nvme_id_ctrl, aerl) \
	X(nvme_id_ctrl, frmw, nvme_id_ctrl, frmw) \
	X(nvme_id_ctrl, lpa, nvme_id_ctrl, lpa) \
	X(nvme_id_ctrl, elpe, nvme_id_ctrl, elpe) \
	X(nvme_id_ctrl, npss, nvme_id_ctrl, npss) \
	X(nvme_id_ctrl, avscc, nvme_id_ctrl, avscc) \
	X(nvme_id_ctrl, apsta, nvme_id_ctrl, apsta) \
	X(nvme_id_ctrl, wctemp, nvme_id_ctrl, wctemp) \
	X(nvme_id_ctrl, cctemp, nvme_id_ctrl, cctemp) \
	X(nvme_id_ctrl, mtfa, nvme_id_ctrl, mtfa) \
	X(nvme_id_ctrl, hmpre, nvme_id_ctrl, hmpre) \
	X(nvme_id_ctrl, hmmin, nvme_id_ctrl, hmmin) \
	X(nvme_id_ctrl, tnvmcap, nvme_id_ctrl, tnvmcap) \
	X(nvme_id_ctrl, unvmcap, nvme_id_ctrl, unvmcap) \
	X(nvme_id_ctrl, rpmbs, nvme_id_ctrl, rpmbs) \
	X(nvme_id_ctrl, edstt, nvme_id_ctrl, edstt) \
	X(nvme_id_ctrl, dsto, nvme_id_ctrl, dsto) \
	X(nvme_id_ctrl, fwug, nvme_id_ctrl, fwug) \
	X(nvme_id_ctrl, kas, nvme_id_ctrl, kas) \
	X(nvme_id_ctrl, hctma, nvme_id_ctrl, hctma) \
	X(nvme_id_ctrl, mntmt, nvme_id_ctrl, mntmt) \
	X(nvme_id_ctrl, mxtmt, nvme_id_ctrl, mxtmt) \
	X(nvme_id_ctrl, sanicap, nvme_id_ctrl, sanicap) \
	X(nvme_id_ctrl, hmminds, nvme_id_ctrl, hmminds) \
	X(nvme_id_ctrl, hmmaxd, nvme_id_ctrl, hmmaxd) \
	X(nvme_id_ctrl, nsetidmax, nvme_id_ctrl, nsetidmax) \
	X(nvme_id_ctrl, endgidmax, nvme_id_ctrl, endgidmax) \
	X(nvme_id_ctrl, anatt, nvme_id_ctrl, anatt) \
	X(nvme_id_ctrl, anacap, nvme_id_ctrl, anacap) \
	X(nvme_id_ctrl, anagrpmax, nvme_id_ctrl, anagrpmax) \
	X(nvme_id_ctrl, nanagrpid, nvme_id_ctrl, nanagrpid) \
	X(nvme_id_ctrl, pels, nvme_id_ctrl, pels) \
	X(nvme_id_ctrl, domainid, nvme_id_ctrl, domainid) \
	X(nvme_id_ctrl, megcap, nvme_id_ctrl, megcap) \
	X(nvme_id_ctrl, sqes, nvme_id_ctrl, sqes) \
	X(nvme_id_ctrl, cqes, nvme_id_ctrl, cqes) \
	X(nvme_id_ctrl, maxcmd, nvme_id_ctrl, maxcmd) \
	X(nvme_id_ctrl, nn, nvme_id_ctrl, nn) \
	X(nvme_id_ctrl, oncs, nvme_id_ctrl, oncs) \
	X(nvme_id_ctrl, fuses, nvme_id_ctrl, fuses) \
	X(nvme_id_ctrl, fna, nvme_id_ctrl, fna) \
	X(nvme_id_ctrl, vwc, nvme_id_ctrl, vwc) \
	X(nvme_id_ctrl, awun, nvme_id_ctrl, awun) \
	X(nvme_id_ctrl, awupf, nvme_id_ctrl, awupf) \
	X(nvme_id_ctrl, icsvscc, nvme_id_ctrl, icsvscc) \
	X(nvme_id_ctrl, nwpc, nvme_id_ctrl, nwpc) \
	X(nvme_id_ctrl, acwu, nvme_id_ctrl, acwu) \
	X(nvme_id_ctrl, cdfs, nvme_id_ctrl, ocfs) \
	X(nvme_id_ctrl, sgls, nvme_id_ctrl, sgls) \
	X(nvme_id_ctrl, mnan, nvme_id_ctrl, mnan) \
	X(nvme_id_ctrl, maxdna, nvme_id_ctrl, maxdna) \
	X(nvme_id_ctrl, maxcna, nvme_id_ctrl, maxcna) \
	X(nvme_id_ctrl, subnqn, nvme_id_ctrl, subnqn) \
	X(nvme_id_ctrl, ioccsz, nvme_id_ctrl, ioccsz) \
	X(nvme_id_ctrl, iorcsz, nvme_id_ctrl, iorcsz) \
	X(nvme_id_ctrl, icdoff, nvme_id_ctrl, icdoff) \
	X(nvme_id_ctrl, fcatt, nvme_id_ctrl, fcatt) \
	X(nvme_id_ctrl, msdbd, nvme_id_ctrl, msdbd) \
	X(nvme_id_ctrl, ofcs, nvme_id_ctrl, ofcs) \
	X(nvme_id_ctrl, dctype, nvme_id_ctrl, dctype) \
	X(nvme_id_ctrl, psd, nvme_id_ctrl, psd) \
	X(nvme_id_ctrl, vendor, nvme_id_ctrl, vs) \
	X(nvme_id_ns, nsze, nvme_id_ns, nsze) \
	X(nvme_id_ns, ncap, nvme_id_ns, ncap) \
	X(nvme_id_ns, nuse, nvme_id_ns, nuse) \
	X(nvme_id_ns, nsfeat, nvme_id_ns, nsfeat) \
	X(nvme_id_ns, nlbaf, nvme_id_ns, nlbaf) \
	X(nvme_id_ns, flbas, nvme_id_ns, flbas) \
	X(nvme_id_ns, mc, nvme_id_ns, mc) \
	X(nvme_id_ns, dpc, nvme_id_ns, dpc) \
	X(nvme_id_ns, dps, nvme_id_ns, dps) \
	X(nvme_id_ns, nmic, nvme_id_ns, nmic) \
	X(nvme_id_ns, rescap, nvme_id_ns, rescap) \
	X(nvme_id_ns, fpi, nvme_id_ns, fpi) \
	X(nvme_id_ns, dlfeat, nvme_id_ns, dlfeat) \
	X(nvme_id_ns, nawun, nvme_id_ns, nawun) \
	X(nvme_id_ns, nawupf, nvme_id_ns, nawupf) \
	X(nvme_id_ns, nacwu, nvme_id_ns, nacwu) \
	X(nvme_id_ns, nabsn, nvme_id_ns, nabsn) \
	X(nvme_id_ns, nabo, nvme_id_ns, nabo) \
	X(nvme_id_ns, nabspf, nvme_id_ns, nabspf) \
	X(nvme_id_ns, noiob, nvme_id_ns, noiob) \
	X(nvme_id_ns, nvmcap, nvme_id_ns, nvmcap) \
	X(nvme_id_ns, npwg, nvme_id_ns, npwg) \
	X(nvme_id_ns, npwa, nvme_id_ns, npwa) \
	X(nvme_id_ns, npdg, nvme_id_ns, npdg) \
	X(nvme_id_ns, npda, nvme_id_ns, npda) \
	X(nvme_id_ns, nows, nvme_id_ns, nows) \
	X(nvme_id_ns, mssrl, nvme_id_ns, mssrl) \
	X(nvme_id_ns, mcl, nvme_id_ns, mcl) \
	X(nvme_id_ns, msrc, nvme_id_ns, msrc) \
	X(nvme_id_ns, nulbaf, nvme_id_ns, nulbaf) \
	X(nvme_id_ns, anagrpid, nvme_id_ns, anagrpid) \
	X(nvme_id_ns, nsattr, nvme_id_ns, nsattr) \
	X(nvme_id_ns, nvmsetid, nvme_id_ns, nvmsetid) \
	X(nvme_id_ns, endgid, nvme_id_ns, endgid) \
	X(nvme_id_ns, nguid, nvme_id_ns, nguid) \
	X(nvme_id_ns, eui64, nvme_id_ns, eui64) \
	X(nvme_id_ns, lbaf, nvme_id_ns, lbaf) \
	X(nvme_smart_log, critical_warning, nvme_smart_log, critical_warning) \
	X(nvme_smart_log, temperature, nvme_smart_log, temperature) \
	X(nvme_smart_log, available_spare, nvme_smart_log, avail_spare) \
	X(nvme_smart_log, spare_threshold, nvme_smart_log, spare_thresh) \
	X(nvme_smart_log, percentage_used, nvme_smart_log, percent_used) \
	X(nvme_smart_log, endurance_critical, nvme_smart_log, endu_grp_crit_warn_sumry) \
	X(nvme_smart_log, data_units_read, nvme_smart_log, data_units_read) \
	X(nvme_smart_log, data_units_written, nvme_smart_log, data_units_written) \
	X(nvme_smart_log, host_reads, nvme_smart_log, host_reads) \
	X(nvme_smart_log, host_writes, nvme_smart_log, host_writes) \
	X(nvme_smart_log, busy_time, nvme_smart_log, ctrl_busy_time) \
	X(nvme_smart_log, power_cycles, nvme_smart_log, power_cycles) \
	X(nvme_smart_log, power_on_hours, nvme_smart_log, power_on_hours) \
	X(nvme_smart_log, unsafe_shutdowns, nvme_smart_log, unsafe_shutdowns) \
	X(nvme_smart_log, media_errors, nvme_smart_log, media_errors) \
	X(nvme_smart_log, error_entries, nvme_smart_log, num_err_log_entries) \
	X(nvme_ana_log, chgcnt, nvme_ana_log, chgcnt) \
	X(nvme_ana_log, ngrps, nvme_ana_log, ngrps) \
	X(nvme_ana_group, grpid, nvme_ana_group_desc, grpid) \
	X(nvme_ana_group, nnsids, nvme_ana_group_desc, nnsids) \
	X(nvme_ana_group, chgcnt, nvme_ana_group_desc, chgcnt) \
	X(nvme_ana_group, state, nvme_ana_group_desc, state) \
	X(nvmf_discovery_entry, trtype, nvmf_disc_log_entry, trtype) \
	X(nvmf_discovery_entry, adrfam, nvmf_disc_log_entry, adrfam) \
	X(nvmf_discovery_entry, subtype, nvmf_disc_log_entry, subtype) \
	X(nvmf_discovery_entry, treq, nvmf_disc_log_entry, treq) \
	X(nvmf_discovery_entry, portid, nvmf_disc_log_entry, portid) \
	X(nvmf_discovery_entry, cntlid, nvmf_disc_log_entry, cntlid) \
	X(nvmf_discovery_entry, asqsz, nvmf_disc_log_entry, asqsz) \
	X(nvmf_discovery_entry, eflags, nvmf_disc_log_entry, eflags) \
	X(nvmf_discovery_entry, trsvcid, nvmf_disc_log_entry, trsvcid) \
	X(nvmf_discovery_entry, subnqn, nvmf_disc_log_entry, subnqn) \
	X(nvmf_discovery_entry, traddr, nvmf_disc_log_entry, traddr) \
	X(nvmf_discovery_entry, tsas, nvmf_disc_log_entry, tsas) \
	X(nvmf_discovery_log, genctr, nvmf_discovery_log, genctr) \
	X(nvmf_discovery_log, numrec, nvmf_discovery_log, numrec) \
	X(nvmf_discovery_log, recfmt, nvmf_discovery_log, recfmt) \
	X(nvmf_connect_data, hostid, nvmf_connect_data, hostid) \
	X(nvmf_connect_data, cntlid, nvmf_connect_data, cntlid) \
	X(nvmf_connect_data, subnqn, nvmf_connect_data, subsysnqn) \
	X(nvmf_connect_data, hostnqn, nvmf_connect_data, hostnqn) \
	X(nvme_id_ctrl_nvm, vsl, nvme_id_ctrl_nvm, vsl) \
	X(nvme_id_ctrl_nvm, wzsl, nvme_id_ctrl_nvm, wzsl) \
	X(nvme_id_ctrl_nvm, wusl, nvme_id_ctrl_nvm, wusl) \
	X(nvme_id_ctrl_nvm, dmrl, nvme_id_ctrl_nvm, dmrl) \
	X(nvme_id_ctrl_nvm, dmrsl, nvme_id_ctrl_nvm, dmrsl) \
	X(nvme_id_ctrl_nvm, dmsl, nvme_id_ctrl_nvm, dmsl) \
	X(nvme_lbaf, ms, nvme_lbaf, ms) \
	X(nvme_lbaf, lbads, nvme_lbaf, ds) \
	X(nvme_lbaf, rp, nvme_lbaf, rp) \
	X(nvme_dsm_range, attributes, nvme_dsm_range, cattr) \
	X(nvme_dsm_range, block_count, nvme_dsm_range, nlb) \
	X(nvme_dsm_range, lba, nvme_dsm_range, slba) \
	X(nvme_power_state, max_power, nvme_id_psd, mp) \
	X(nvme_ns_descriptor, type, nvme_ns_id_desc, nidt) \
	X(nvme_ns_descriptor, length, nvme_ns_id_desc, nidl) \
	X(nvme_registrant, cntlid, nvme_registered_ctrl_ext, cntlid) \
	X(nvme_registrant, rcsts, nvme_registered_ctrl_ext, rcsts) \
	X(nvme_registrant, rkey, nvme_registered_ctrl_ext, rkey) \
	X(nvme_registrant, hostid, nvme_registered_ctrl_ext, hostid) \
	X(nvme_reservation_status, gen, nvme_resv_status, gen) \
	X(nvme_reservation_status, rtype, nvme_resv_status, rtype) \
	X(nvme_reservation_status, regctl, nvme_resv_status, regctl) \
	X(nvme_reservation_status, ptpls, nvme_resv_status, ptpls) \
	X(nvme_reservation_log, count, nvme_resv_notification_log, lpc) \
	X(nvme_reservation_log, type, nvme_resv_notification_log, rnlpt) \
	X(nvme_reservation_log, available, nvme_resv_notification_log, nalp) \
	X(nvme_reservation_log, nsid, nvme_resv_notification_log, nsid) \
	X(nvme_copy_source, lba, nvme_copy_range, slba) \
	X(nvme_copy_source, block_count, nvme_copy_range, nlb)
/* clang-format on */

#endif
