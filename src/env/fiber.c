/* SPDX-License-Identifier: Apache-2.0 */
#include "env/fiber.h"

#include <stdlib.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

struct pst_fiber {
	void (*fn)(void *ctx);
	void *ctx;
	ucontext_t outside, inside;
	char *stack;
	size_t stack_bytes;
	bool done;
	/* What the address sanitizer wants to know of both stacks. */
	void *outside_fake, *inside_fake;
	const void *outside_stack;
	size_t outside_bytes;
};

static void run(struct pst_fiber *f)
{
	__sanitizer_finish_switch_fiber(NULL, &f->outside_stack, &f->outside_bytes);
	f->fn(f->ctx);
	f->done = true;
	__sanitizer_start_switch_fiber(NULL, f->outside_stack, f->outside_bytes);
	setcontext(&f->outside);
}

/* makecontext passes ints: a pointer comes in two. */
static void entry(unsigned high, unsigned low)
{
	run((struct pst_fiber *)(((uintptr_t)high << 32) | low));
}

/* By itself, since getcontext may return twice as far as the compiler knows. */
static __attribute__((noinline)) bool context_init(struct pst_fiber *f)
{
	if (getcontext(&f->inside) != 0)
		return false;
	f->inside.uc_stack.ss_sp = f->stack;
	f->inside.uc_stack.ss_size = f->stack_bytes;
	f->inside.uc_link = NULL;
	return true;
}

struct pst_fiber *pst_fiber_new(size_t stack_bytes, void (*fn)(void *ctx), void *ctx)
{
	struct pst_fiber *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	*f = (struct pst_fiber){ .fn = fn, .ctx = ctx, .stack = malloc(stack_bytes), .stack_bytes = stack_bytes };
	if (f->stack == NULL || !context_init(f)) {
		free(f->stack);
		free(f);
		return NULL;
	}
	makecontext(&f->inside, (void (*)(void))entry, 2, (unsigned)((uintptr_t)f >> 32), (unsigned)(uintptr_t)f);
	return f;
}

bool pst_fiber_resume(struct pst_fiber *f)
{
	pst_assert(!f->done);
	__sanitizer_start_switch_fiber(&f->outside_fake, f->stack, f->stack_bytes);
	pst_assert(swapcontext(&f->outside, &f->inside) == 0);
	__sanitizer_finish_switch_fiber(f->outside_fake, NULL, NULL);
	return f->done;
}

void pst_fiber_yield(struct pst_fiber *f)
{
	__sanitizer_start_switch_fiber(&f->inside_fake, f->outside_stack, f->outside_bytes);
	pst_assert(swapcontext(&f->inside, &f->outside) == 0);
	__sanitizer_finish_switch_fiber(f->inside_fake, &f->outside_stack, &f->outside_bytes);
}

void pst_fiber_free(struct pst_fiber *f)
{
	if (f == NULL)
		return;
	free(f->stack);
	free(f);
}
