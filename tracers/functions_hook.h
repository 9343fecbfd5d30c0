/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits of functions that were compiled with -pg: their return addresses are replaced by functions_return.
 *
 * What was there is kept in a mirror of the stacks: for each place that may hold a return address
 * there is a cell, found by the place alone. No order is assumed, so that nothing need be undone when a
 * frame is left in another way than by returning, or when another stack is gone on with: longjmp, signal
 * handlers on stacks of their own, coroutines, on whatever thread. A cell whose frame is gone is overwritten when another
 * frame comes to lie there.
 */
#ifndef FUNCTIONS_HOOK_H
#define FUNCTIONS_HOOK_H

#include <stdint.h>

struct functions_cell {
    uintptr_t site;     /* where the function returns to */
    uintptr_t function;
};

/* The cell of a place on a stack; NULL: no memory, or none of a program's places. Any context. */
struct functions_cell *functions_cell(const uintptr_t *place);

/* In functions_x86_64.S: not to be called, but returned to. */
extern const char functions_return[];

static inline int functions_is_hooked(const uintptr_t *place)
{
    return *place == (uintptr_t)functions_return;
}

#endif
