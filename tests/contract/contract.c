/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of src/env/env.h as tests, run against every environment. Three files: this one has time, posts and the
 * table; contract-file.c and contract-stream.c the rest.
 */
#include "contract.h"

#include <pthread.h>

int harness_setup(void **state)
{
	struct harness *h = calloc(1, sizeof(*h));

	harness_new(h, 0);
	*state = h;
	return 0;
}

int harness_teardown(void **state)
{
	harness_free(*state);
	free(*state);
	return 0;
}

/* ---- Timers ---- */

#define TIMERS 500

struct test_timer {
	struct pst_timer timer;
	struct timers_run *run;
	uint64_t deadline_ns;
	unsigned fired;
};

struct timers_run {
	struct pst_env *env;
	struct test_timer timers[TIMERS];
	uint64_t last_ns;
	unsigned fired;
	bool disordered, early;
};

static void timer_fired(struct pst_timer *timer)
{
	struct test_timer *t = pst_container_of(timer, struct test_timer, timer);
	struct timers_run *run = t->run;

	run->disordered |= t->deadline_ns < run->last_ns;
	run->early |= pst_env_now_ns(run->env) < t->deadline_ns;
	run->early |= pst_env_turn_ns(run->env) < t->deadline_ns; /* stale */
	run->disordered |= pst_timer_armed(timer);
	run->last_ns = t->deadline_ns;
	run->fired++;
	t->fired++;
}

/* Many timers fire once each, in order of their deadlines, none early; disarmed ones do not. */
static void timers_fire_in_order(void **state)
{
	static struct timers_run run;
	struct harness *h = *state;
	uint64_t start_ns = pst_env_now_ns(h->env) + 2000000;

	memset(&run, 0, sizeof(run));
	run.env = h->env;
	for (unsigned i = 0; i < TIMERS; i++) {
		struct test_timer *t = &run.timers[i];

		t->run = &run;
		t->deadline_ns = start_ns + (i * 7919 % TIMERS) * 20000;
		pst_timer_init(&t->timer, timer_fired);
		pst_timer_arm(h->env, &t->timer, start_ns); /* then moved */
		pst_timer_arm(h->env, &t->timer, t->deadline_ns);
	}
	for (unsigned i = 0; i < TIMERS; i += 5)
		pst_timer_disarm(h->env, &run.timers[i].timer);
	assert_int_equal(run.fired, 0);
	HARNESS_RUN_UNTIL(h, run.fired == TIMERS * 4 / 5);
	HARNESS_SETTLE(h);
	assert_false(run.disordered);
	assert_false(run.early);
	for (unsigned i = 0; i < TIMERS; i++)
		assert_int_equal(run.timers[i].fired, i % 5 != 0);
}

static void timer_rearms(struct pst_timer *timer)
{
	struct test_timer *t = pst_container_of(timer, struct test_timer, timer);

	if (++t->fired < 1000)
		pst_timer_arm(t->run->env, timer, 1); /* long ago */
}

/* A deadline in the past fires on the next turn, never inside arm; one that re-arms itself does not hold the loop. */
static void past_deadline_fires_next_turn(void **state)
{
	struct harness *h = *state;
	struct timers_run run = { .env = h->env };
	struct test_timer *t = &run.timers[0];

	t->run = &run;
	pst_timer_init(&t->timer, timer_rearms);
	pst_timer_arm(h->env, &t->timer, 1);
	assert_int_equal(t->fired, 0);
	HARNESS_RUN_UNTIL(h, t->fired == 1000);
}

/* ---- Posts ---- */

struct test_post {
	struct pst_post post;
	struct posts_run *run;
	unsigned thread, number;
};

struct posts_run {
	struct pst_env *env;
	unsigned ran, next[4];
	bool disordered, inside, in_post_call;
	unsigned chain;
};

static void post_ran(struct pst_post *post)
{
	struct test_post *p = pst_container_of(post, struct test_post, post);

	p->run->disordered |= p->run->next[p->thread]++ != p->number;
	p->run->inside |= p->run->in_post_call;
	p->run->ran++;
}

/* Posts of the own shard run later and in order. */
static void own_posts_run_later_in_order(void **state)
{
	struct harness *h = *state;
	struct posts_run run = { .env = h->env, .in_post_call = true };
	struct test_post posts[100];

	for (unsigned i = 0; i < 100; i++) {
		posts[i] = (struct test_post){ .post.fn = post_ran, .run = &run, .number = i };
		pst_env_post(h->env, &posts[i].post);
	}
	run.in_post_call = false;
	assert_int_equal(run.ran, 0);
	HARNESS_RUN_UNTIL(h, run.ran == 100);
	assert_false(run.disordered);
	assert_false(run.inside);
}

static void post_again(struct pst_post *post)
{
	struct test_post *p = pst_container_of(post, struct test_post, post);

	if (++p->run->chain < 5000)
		pst_env_post(p->run->env, post);
}

static void timer_counts(struct pst_timer *timer)
{
	pst_container_of(timer, struct test_timer, timer)->fired++;
}

/* A post that posts itself again leaves turns for timers. */
static void posts_do_not_starve_timers(void **state)
{
	struct harness *h = *state;
	struct posts_run run = { .env = h->env };
	struct test_post p = { .post.fn = post_again, .run = &run };
	struct test_timer t = { 0 };

	pst_timer_init(&t.timer, timer_counts);
	pst_timer_arm(h->env, &t.timer, pst_env_now_ns(h->env));
	pst_env_post(h->env, &p.post);
	HARNESS_RUN_UNTIL(h, t.fired == 1);
	assert_true(run.chain < 5000);
	HARNESS_RUN_UNTIL(h, run.chain == 5000);
}

#define POSTS_PER_THREAD 5000

struct poster {
	struct test_post posts[POSTS_PER_THREAD];
	struct pst_env *to;
};

static void *poster_run(void *arg)
{
	struct poster *poster = arg;

	for (unsigned i = 0; i < POSTS_PER_THREAD; i++)
		pst_env_post(poster->to, &poster->posts[i].post);
	return NULL;
}

/* Foreign threads may post at any time, asleep or awake; posts of one thread keep their order and none is lost. */
static void foreign_posts_keep_order(void **state)
{
	struct harness *h = *state;
	struct posts_run run = { .env = h->env };
	struct poster *posters;
	pthread_t threads[4];

	if (!h->real)
		skip(); /* the simulator is one thread, by design */
	posters = calloc(4, sizeof(*posters));
	for (unsigned t = 0; t < 4; t++) {
		posters[t].to = h->env;
		for (unsigned i = 0; i < POSTS_PER_THREAD; i++)
			posters[t].posts[i] =
			    (struct test_post){ .post.fn = post_ran, .run = &run, .thread = t, .number = i };
		assert_int_equal(pthread_create(&threads[t], NULL, poster_run, &posters[t]), 0);
	}
	HARNESS_RUN_UNTIL(h, run.ran == 4 * POSTS_PER_THREAD);
	for (unsigned t = 0; t < 4; t++)
		pthread_join(threads[t], NULL);
	free(posters);
	assert_false(run.disordered);
}

/* ---- The rest ---- */

/* The clock never goes back and is never 0; random bytes differ; the boot id has the form of a UUID and stays. */
static void clock_random_and_boot_id(void **state)
{
	struct harness *h = *state;
	uint64_t last_ns = pst_env_now_ns(h->env);
	char boot[37], again[37];
	uint8_t a[32], b[32];

	assert_true(last_ns > 0);
	for (int i = 0; i < 1000; i++) {
		uint64_t now_ns = pst_env_now_ns(h->env);

		assert_true(now_ns >= last_ns);
		last_ns = now_ns;
	}
	assert_true(pst_env_wall_ns(h->env) > 1500000000000000000u);
	pst_env_random(h->env, a, sizeof(a));
	pst_env_random(h->env, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	pst_env_boot_id(h->env, boot);
	pst_env_boot_id(h->env, again);
	assert_int_equal(strlen(boot), 36);
	assert_int_equal(boot[8], '-');
	assert_string_equal(boot, again);
	assert_string_equal(pst_env_backend_name(h->env), harness_name());
	assert_non_null(pst_env_backend_reason(h->env));
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
	const struct CMUnitTest time_tests[] = {
		TEST(timers_fire_in_order),         TEST(past_deadline_fires_next_turn),
		TEST(own_posts_run_later_in_order), TEST(posts_do_not_starve_timers),
		TEST(foreign_posts_keep_order),     TEST(clock_random_and_boot_id),
	};
#undef TEST
	int failed;

	harness_select(argc, argv);
	failed = cmocka_run_group_tests_name("time and posts", time_tests, NULL, NULL);
	failed += contract_file_tests();
	failed += contract_stream_tests();
	return failed ? 1 : 0;
}
