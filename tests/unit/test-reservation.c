/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations as a pure state machine: who may do what, and what each command makes of it. */
#include "base/le.h"
#include "target/reservation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define CONFLICT (NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR)
#define BAD (NVME_INVALID_FIELD | NVME_STATUS_DNR)
#define READ PST_ACCESS_READ
#define WRITE PST_ACCESS_WRITE
#define MAX 4u /* registrants */

static const uint8_t host_a[16] = { 0xa }, host_b[16] = { 0xb }, host_c[16] = { 0xc, [15] = 1 }, host_d[16] = { 0xd },
		     host_e[16] = { 0xe };
static struct pst_reservation_effect effect; /* of the last command */

static uint16_t run(struct pst_reservation *r, const uint8_t host[16], enum pst_reservation_action action,
		    unsigned type, uint64_t key, uint64_t other_key)
{
	struct pst_reservation_request q = {
		.action = action, .type = (enum pst_reservation_type)type, .key = key, .other_key = other_key
	};

	memcpy(q.host, host, 16);
	return pst_reservation_apply(r, &q, MAX, &effect);
}

static void enroll(struct pst_reservation *r, const uint8_t host[16], uint64_t key)
{
	assert_int_equal(run(r, host, PST_RESERVATION_REGISTER, 0, 0, key), NVME_SUCCESS);
}

static void told(unsigned index, const uint8_t host[16], enum pst_reservation_notice notice)
{
	for (uint32_t i = 0; i < effect.count; i++)
		if (memcmp(effect.notices[i].host, host, 16) == 0) {
			assert_int_equal(effect.notices[i].notice, notice);
			return;
		}
	fail_msg("host %u was not told", index);
}

/* The table of the specification: each type, for its holder, another registrant, and a host that is not registered. */
static void each_type_denies_what_the_table_says(void **state)
{
	static const struct {
		unsigned holder, registrant, stranger;
	} table[PST_RESERVATION_TYPES] = {
		[PST_RESERVATION_NONE] = { 0, 0, 0 },
		[PST_RESERVATION_WRITE_EXCLUSIVE] = { 0, WRITE, WRITE },
		[PST_RESERVATION_EXCLUSIVE_ACCESS] = { 0, READ | WRITE, READ | WRITE },
		[PST_RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS] = { 0, 0, WRITE },
		[PST_RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS] = { 0, 0, READ | WRITE },
		[PST_RESERVATION_WRITE_EXCLUSIVE_ALL] = { 0, 0, WRITE },
		[PST_RESERVATION_EXCLUSIVE_ACCESS_ALL] = { 0, 0, READ | WRITE },
	};

	(void)state;
	for (unsigned type = 0; type < PST_RESERVATION_TYPES; type++) {
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		if (type != PST_RESERVATION_NONE)
			assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(pst_reservation_denies(&r, host_a), table[type].holder);
		assert_int_equal(pst_reservation_denies(&r, host_b), table[type].registrant);
		assert_int_equal(pst_reservation_denies(&r, host_c), table[type].stranger);
		/* A registration that comes later counts at once, and one that ends too. */
		enroll(&r, host_c, 3);
		assert_int_equal(pst_reservation_denies(&r, host_c), table[type].registrant);
		assert_int_equal(run(&r, host_c, PST_RESERVATION_UNREGISTER, 0, 3, 0), NVME_SUCCESS);
		assert_int_equal(pst_reservation_denies(&r, host_c), table[type].stranger);
	}
}

/* Register, again, with another key, replace, unregister; the number of registrants is bounded. */
static void registrations_follow_keys(void **state)
{
	struct pst_reservation r = { 0 };
	struct pst_reservation_request q = { .action = PST_RESERVATION_REPLACE, .ignore_key = true, .other_key = 9 };

	(void)state;
	enroll(&r, host_a, 1);
	enroll(&r, host_a, 1);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_REGISTER, 0, 0, 2), CONFLICT);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_REPLACE, 0, 2, 3), CONFLICT);
	assert_int_equal(run(&r, host_b, PST_RESERVATION_REPLACE, 0, 0, 3), CONFLICT);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_REPLACE, 0, 1, 3), NVME_SUCCESS);
	assert_int_equal(r.registrants[0].key, 3);
	memcpy(q.host, host_a, 16);
	assert_int_equal(pst_reservation_apply(&r, &q, MAX, &effect), NVME_SUCCESS);
	assert_int_equal(r.registrants[0].key, 9);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_UNREGISTER, 0, 3, 0), CONFLICT);
	assert_int_equal(run(&r, host_b, PST_RESERVATION_UNREGISTER, 0, 9, 0), CONFLICT);
	enroll(&r, host_b, 1);
	enroll(&r, host_c, 1);
	enroll(&r, host_d, 1);
	assert_int_equal(run(&r, host_e, PST_RESERVATION_REGISTER, 0, 0, 1), NVME_INTERNAL_ERROR | NVME_STATUS_DNR);
	assert_int_equal(r.count, MAX);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_UNREGISTER, 0, 9, 0), NVME_SUCCESS);
	enroll(&r, host_e, 1);
}

/* GEN counts registrations, preemptions and clearings that succeed, not Acquire and Release; it rolls over. */
static void generation_counts_what_it_should(void **state)
{
	struct pst_reservation r = { .generation = UINT32_MAX };

	(void)state;
	enroll(&r, host_a, 1);
	assert_int_equal(r.generation, 0);
	enroll(&r, host_b, 2);
	assert_int_equal(run(&r, host_b, PST_RESERVATION_REGISTER, 0, 0, 3), CONFLICT);
	assert_int_equal(r.generation, 1);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, 1, 1, 0), NVME_SUCCESS);
	assert_true(effect.changed);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, 1, 1, 0), NVME_SUCCESS);
	assert_false(effect.changed);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_RELEASE, 1, 1, 0), NVME_SUCCESS);
	assert_int_equal(r.generation, 1);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_PREEMPT, 1, 1, 2), NVME_SUCCESS);
	assert_int_equal(r.generation, 2);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_CLEAR, 0, 1, 0), NVME_SUCCESS);
	assert_int_equal(r.generation, 3);
}

/* Only registrants with their key may acquire; one reservation at a time, of one type; its holder may ask again. */
static void acquire_needs_a_free_namespace(void **state)
{
	(void)state;
	for (unsigned type = 1; type < PST_RESERVATION_TYPES; type++) {
		bool all = type >= PST_RESERVATION_WRITE_EXCLUSIVE_ALL;
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		assert_int_equal(run(&r, host_c, PST_RESERVATION_ACQUIRE, type, 0, 0), CONFLICT);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 2, 0), CONFLICT);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type % 6 + 1, 1, 0), CONFLICT);
		/* All registrants hold the last two types, so that for them asking again is what it is for a holder. */
		assert_int_equal(run(&r, host_b, PST_RESERVATION_ACQUIRE, type, 2, 0), all ? NVME_SUCCESS : CONFLICT);
	}
}

/* Release: by a holder, with the right type; registrants hear of it where their access depended on it. */
static void release_is_told_where_it_matters(void **state)
{
	(void)state;
	for (unsigned type = 1; type < PST_RESERVATION_TYPES; type++) {
		bool all = type >= PST_RESERVATION_WRITE_EXCLUSIVE_ALL, tells = type >= 3;
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_RELEASE, type, 1, 0),
				 NVME_SUCCESS); /* nothing to do */
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_RELEASE, type, 7, 0), CONFLICT);
		assert_int_equal(run(&r, host_c, PST_RESERVATION_RELEASE, type, 0, 0), CONFLICT);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_RELEASE, type % 6 + 1, 1, 0), BAD);
		assert_int_equal(r.type, type);
		if (!all) { /* a registrant that does not hold it: success, and nothing happens */
			assert_int_equal(run(&r, host_b, PST_RESERVATION_RELEASE, type, 2, 0), NVME_SUCCESS);
			assert_int_equal(r.type, type);
		}
		assert_int_equal(run(&r, all ? host_b : host_a, PST_RESERVATION_RELEASE, type, all ? 2 : 1, 0),
				 NVME_SUCCESS);
		assert_int_equal(r.type, PST_RESERVATION_NONE);
		assert_int_equal(effect.count, tells ? 1 : 0);
		if (tells)
			told(0, all ? host_a : host_b, PST_NOTICE_RESERVATION_RELEASED);
		assert_int_equal(r.count, 2);
	}
}

/* Unregistering the holder releases; a reservation of all registrants lasts until the last one has gone. */
static void the_reservation_goes_with_its_holder(void **state)
{
	(void)state;
	for (unsigned type = 1; type < PST_RESERVATION_TYPES; type++) {
		bool all = type >= PST_RESERVATION_WRITE_EXCLUSIVE_ALL;
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		enroll(&r, host_c, 3);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_c, PST_RESERVATION_UNREGISTER, 0, 3, 0), NVME_SUCCESS);
		assert_int_equal(r.type, type);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_UNREGISTER, 0, 1, 0), NVME_SUCCESS);
		assert_int_equal(r.type, all ? type : PST_RESERVATION_NONE);
		assert_int_equal(effect.count, type == 3 || type == 4 ? 1 : 0);
		if (effect.count > 0)
			told(0, host_b, PST_NOTICE_RESERVATION_RELEASED);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_UNREGISTER, 0, 2, 0), NVME_SUCCESS);
		assert_int_equal(r.type, PST_RESERVATION_NONE);
		assert_int_equal(r.count, 0);
	}
}

/* Preempt by the holder's key takes the reservation over, with a new type if wanted, and unregisters that key. */
static void preempt_takes_over_from_the_holder(void **state)
{
	(void)state;
	for (unsigned type = 1; type <= PST_RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS; type++) {
		for (unsigned wanted = 1; wanted < PST_RESERVATION_TYPES; wanted++) {
			struct pst_reservation r = { 0 };

			enroll(&r, host_a, 1);
			enroll(&r, host_b, 2);
			enroll(&r, host_c, 1); /* shares the holder's key: goes with it */
			enroll(&r, host_d, 4);
			assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
			assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, wanted, 1, 1), CONFLICT);
			assert_int_equal(run(&r, host_e, PST_RESERVATION_PREEMPT, wanted, 0, 1), CONFLICT);
			assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, wanted, 2, 0), BAD);
			assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, wanted, 2, 99), CONFLICT);
			assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, wanted, 2, 1), NVME_SUCCESS);
			assert_int_equal(r.type, wanted);
			assert_int_equal(r.count, 2);
			assert_int_equal(pst_reservation_denies(&r, host_b), 0);
			assert_true((pst_reservation_denies(&r, host_a) & WRITE) != 0);
			told(0, host_a, PST_NOTICE_REGISTRATION_PREEMPTED);
			told(2, host_c, PST_NOTICE_REGISTRATION_PREEMPTED);
			assert_true(pst_reservation_preempted(&effect, host_a));
			assert_false(pst_reservation_preempted(&effect, host_d));
			assert_int_equal(effect.count, type != wanted ? 3 : 2);
			if (type != wanted)
				told(3, host_d, PST_NOTICE_RESERVATION_RELEASED);
		}
	}
}

/* Another registrant's key only unregisters; so does any key where there is no reservation. */
static void preempt_of_a_registrant_leaves_the_reservation(void **state)
{
	(void)state;
	for (unsigned type = 0; type < PST_RESERVATION_TYPES; type++) {
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		enroll(&r, host_c, 3);
		if (type > 0)
			assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT_ABORT, 2, 2, 3), NVME_SUCCESS);
		assert_int_equal(r.type, type);
		assert_int_equal(r.count, 2);
		assert_int_equal(effect.count, 1);
		told(2, host_c, PST_NOTICE_REGISTRATION_PREEMPTED);
		assert_int_equal(pst_reservation_denies(&r, host_a), 0);
	}
}

/* A reservation that all hold: key 0 takes it from everybody else; a key unregisters, and it stays. */
static void preempt_with_all_registrants(void **state)
{
	(void)state;
	for (unsigned type = 5; type < PST_RESERVATION_TYPES; type++) {
		struct pst_reservation r = { 0 };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		enroll(&r, host_c, 3);
		assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, 1, 2, 3), NVME_SUCCESS);
		assert_int_equal(r.type, type);
		assert_int_equal(r.count, 2);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_PREEMPT, 1, 2, 0), NVME_SUCCESS);
		assert_int_equal(r.type, 1);
		assert_int_equal(r.count, 1);
		assert_memory_equal(r.holder, host_b, 16);
		assert_int_equal(effect.count, 1);
		told(0, host_a, PST_NOTICE_REGISTRATION_PREEMPTED);
	}
}

/* A holder that preempts its own key changes the type and stays registered. */
static void a_holder_may_preempt_itself(void **state)
{
	struct pst_reservation r = { 0 };

	(void)state;
	enroll(&r, host_a, 1);
	enroll(&r, host_b, 2);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, 1, 1, 0), NVME_SUCCESS);
	assert_int_equal(run(&r, host_a, PST_RESERVATION_PREEMPT, 3, 1, 1), NVME_SUCCESS);
	assert_int_equal(r.type, 3);
	assert_int_equal(r.count, 2);
	assert_int_equal(effect.count, 1);
	told(1, host_b, PST_NOTICE_RESERVATION_RELEASED);
}

/* Clear takes away everything, from everybody, and says so to the others. */
static void clear_leaves_nothing(void **state)
{
	(void)state;
	for (unsigned type = 0; type < PST_RESERVATION_TYPES; type++) {
		struct pst_reservation r = { .persist = true };

		enroll(&r, host_a, 1);
		enroll(&r, host_b, 2);
		if (type > 0)
			assert_int_equal(run(&r, host_a, PST_RESERVATION_ACQUIRE, type, 1, 0), NVME_SUCCESS);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_CLEAR, 0, 1, 0), CONFLICT);
		assert_int_equal(run(&r, host_b, PST_RESERVATION_CLEAR, 0, 2, 0), NVME_SUCCESS);
		assert_int_equal(r.type, PST_RESERVATION_NONE);
		assert_int_equal(r.count, 0);
		assert_true(r.persist);
		assert_int_equal(effect.count, 1);
		told(0, host_a, PST_NOTICE_RESERVATION_PREEMPTED);
		assert_false(pst_reservation_preempted(&effect, host_a));
		assert_int_equal(pst_reservation_denies(&r, host_a), 0);
	}
}

static uint16_t parsed(uint8_t opcode, uint32_t cdw10, uint32_t cdw11, struct pst_reservation_request *q)
{
	uint8_t sqe[64] = { opcode };

	pst_put_le32(sqe + 40, cdw10);
	pst_put_le32(sqe + 44, cdw11);
	return pst_reservation_parse(sqe, q);
}

/* Every field outside of its range is refused before there is anything to change. */
static void fields_are_checked_first(void **state)
{
	struct pst_reservation_request q;
	uint8_t keys[16] = { 1 };

	(void)state;
	for (uint32_t action = 0; action < 8; action++) {
		assert_int_equal(parsed(NVME_CMD_RESV_REGISTER, action, 0, &q), action > 2 ? BAD : NVME_SUCCESS);
		assert_int_equal(parsed(NVME_CMD_RESV_ACQUIRE, action | 1 << 8, 0, &q),
				 action > 2 ? BAD : NVME_SUCCESS);
		assert_int_equal(parsed(NVME_CMD_RESV_RELEASE, action | 1 << 8, 0, &q),
				 action > 1 ? BAD : NVME_SUCCESS);
	}
	for (uint32_t type = 0; type < 256; type++) {
		bool ok = type >= 1 && type <= 6;

		assert_int_equal(parsed(NVME_CMD_RESV_ACQUIRE, type << 8, 0, &q), ok ? NVME_SUCCESS : BAD);
		assert_int_equal(parsed(NVME_CMD_RESV_RELEASE, type << 8, 0, &q), ok ? NVME_SUCCESS : BAD);
		assert_int_equal(parsed(NVME_CMD_RESV_RELEASE, 1 | type << 8, 0, &q),
				 NVME_SUCCESS); /* Clear has none */
	}
	assert_int_equal(parsed(NVME_CMD_RESV_ACQUIRE, 8 | 1 << 8, 0, &q), BAD); /* IEKEY */
	assert_int_equal(parsed(NVME_CMD_RESV_RELEASE, 8 | 1 << 8, 0, &q), BAD);
	assert_int_equal(parsed(NVME_CMD_RESV_REGISTER, 1u << 30, 0, &q), BAD); /* CPTPL 01b */
	assert_int_equal(parsed(NVME_CMD_RESV_REPORT, 100, 0, &q), NVME_HOST_ID_INCONSISTENT | NVME_STATUS_DNR);
	assert_int_equal(parsed(NVME_CMD_RESV_REPORT, UINT32_MAX, 1, &q), BAD);
	assert_int_equal(parsed(NVME_CMD_RESV_REPORT, 15, 1, &q), NVME_SUCCESS);
	assert_int_equal(q.data_bytes, 64);
	assert_int_equal(parsed(NVME_CMD_RESV_REGISTER, 3u << 30 | 8 | 2, 0, &q), NVME_SUCCESS);
	assert_int_equal(q.action, PST_RESERVATION_REPLACE);
	assert_int_equal(q.persist, PST_PERSIST_ON);
	assert_true(q.ignore_key);
	assert_int_equal(pst_reservation_keys(keys, &q), BAD); /* NRKEY 0 */
	assert_int_equal(parsed(NVME_CMD_WRITE, 0, 0, &q), NVME_INVALID_OPCODE | NVME_STATUS_DNR);
}

/* The report shows who is registered and who holds, cut where the host's room ends. */
static void report_fits_its_room(void **state)
{
	struct pst_reservation r = { .persist = true };
	uint8_t whole[64 * 4], part[64 * 4];
	const struct nvme_reservation_status *s = (const void *)whole;

	(void)state;
	enroll(&r, host_a, 0x1122334455667788);
	enroll(&r, host_c, 3);
	assert_int_equal(run(&r, host_c, PST_RESERVATION_ACQUIRE, 4, 3, 0), NVME_SUCCESS);
	memset(whole, 0xff, sizeof(whole));
	pst_reservation_report(&r, whole, sizeof(whole));
	assert_int_equal(nvme_get32(s->gen), 2); /* cppcheck-suppress uninitvar */
	assert_int_equal(s->rtype, 4);
	assert_int_equal(nvme_get16(s->regctl), 2);
	assert_int_equal(s->ptpls, 1);
	assert_int_equal(nvme_get16(s->registrants[0].cntlid), 0xffff);
	assert_int_equal(s->registrants[0].rcsts, 0);
	assert_true(nvme_get64(s->registrants[0].rkey) == 0x1122334455667788);
	assert_memory_equal(s->registrants[0].hostid, host_a, 16);
	assert_int_equal(s->registrants[1].rcsts, 1);
	for (uint32_t len = 4; len < sizeof(part); len += 4) {
		memset(part, 0xee, sizeof(part));
		pst_reservation_report(&r, part, len);
		assert_memory_equal(part, whole, len);
		assert_int_equal(part[len], 0xee);
	}
}

/* What is saved loads as it was; every flipped byte and every other length is refused or is another sound state. */
static void saved_states_come_back(void **state)
{
	uint8_t saved[PST_RESERVATION_SAVED_MAX], bad[PST_RESERVATION_SAVED_MAX + 1] = { 0 };
	struct pst_reservation r = { 0 }, back;
	uint32_t len;

	(void)state;
	assert_int_equal(pst_reservation_save(&r, saved), 0);
	assert_int_equal(pst_reservation_load(NULL, 0, &back), PST_OK);
	assert_int_equal(back.count, 0);
	r.persist = true;
	enroll(&r, host_a, 1);
	enroll(&r, host_b, 2);
	assert_int_equal(run(&r, host_b, PST_RESERVATION_ACQUIRE, 2, 2, 0), NVME_SUCCESS);
	len = pst_reservation_save(&r, saved);
	assert_int_equal(pst_reservation_load(saved, len, &back), PST_OK);
	assert_int_equal(back.generation, r.generation);
	assert_int_equal(back.type, 2);
	assert_true(back.persist);
	assert_memory_equal(back.holder, host_b, 16);
	assert_int_equal(back.count, 2);
	assert_memory_equal(back.registrants, r.registrants, sizeof(r.registrants));
	memcpy(bad, saved, len);
	for (uint32_t i = 0; i <= len + 1; i++)
		if (i != 0 && i != len)
			assert_int_equal(pst_reservation_load(bad, i, &back), PST_E_FORMAT);
	bad[8] ^= 0x40; /* the holder is no registrant */
	assert_int_equal(pst_reservation_load(bad, len, &back), PST_E_FORMAT);
	memcpy(bad, saved, len);
	memcpy(bad + 32 + 24, bad + 32, 16); /* a host twice */
	assert_int_equal(pst_reservation_load(bad, len, &back), PST_E_FORMAT);
	memcpy(bad, saved, len);
	bad[1] = 7;
	assert_int_equal(pst_reservation_load(bad, len, &back), PST_E_FORMAT);
	memcpy(bad, saved, len);
	memset(bad + 32 + 16, 0, 8); /* key 0 */
	assert_int_equal(pst_reservation_load(bad, len, &back), PST_E_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_denies_what_the_table_says),
		cmocka_unit_test(registrations_follow_keys),
		cmocka_unit_test(generation_counts_what_it_should),
		cmocka_unit_test(acquire_needs_a_free_namespace),
		cmocka_unit_test(release_is_told_where_it_matters),
		cmocka_unit_test(the_reservation_goes_with_its_holder),
		cmocka_unit_test(preempt_takes_over_from_the_holder),
		cmocka_unit_test(preempt_of_a_registrant_leaves_the_reservation),
		cmocka_unit_test(preempt_with_all_registrants),
		cmocka_unit_test(a_holder_may_preempt_itself),
		cmocka_unit_test(clear_leaves_nothing),
		cmocka_unit_test(fields_are_checked_first),
		cmocka_unit_test(report_fits_its_room),
		cmocka_unit_test(saved_states_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
