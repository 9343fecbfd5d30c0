/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What mcount, __fentry__ and functions_return do, behind the assembly that keeps the registers; and the
 * mirror of the stacks.
 */
#include "functions_hook.h"
#include "functions_events.h"
#include "sys.h"

#ifdef __x86_64__

/* Whether the processor has, and the kernel keeps, more of vector registers than SSE's. */
unsigned char functions_avx;

__attribute__((constructor)) static void look_at_processor(void)
{
    functions_avx = __builtin_cpu_supports("avx") != 0;
}

void functions_enter(uintptr_t *place, uintptr_t function);
uintptr_t functions_leave(const uintptr_t *place);

/* ---- the mirror ------------------------------------------------------------------------------ */

/* In leaves for 64 MiB of addresses each, mapped when the first is needed, for ever. Memory is used where stacks
 * are: twice as much as they use. */
enum { ADDRESS_BITS = 47, LEAF_BITS = 26 };
static struct functions_cell *leaves[1 << (ADDRESS_BITS - LEAF_BITS)];

__attribute__((noinline, cold)) static struct functions_cell *make_leaf(struct functions_cell **leaf)
{
    const size_t size = ((size_t)1 << LEAF_BITS) / sizeof(uintptr_t) * sizeof(struct functions_cell);
    struct functions_cell *other = NULL;
    struct functions_cell *fresh = sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (!fresh)
        return NULL;
    if (__atomic_compare_exchange_n(leaf, &other, fresh, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return fresh;
    sys_munmap(fresh, size);
    return other;
}

static inline struct functions_cell *cell_of(const uintptr_t *place)
{
    const uintptr_t address = (uintptr_t)place;
    struct functions_cell *leaf;

    if (__builtin_expect(address >> ADDRESS_BITS != 0, 0))
        return NULL;
    leaf = __atomic_load_n(&leaves[address >> LEAF_BITS], __ATOMIC_ACQUIRE);
    if (__builtin_expect(!leaf, 0)) {
        leaf = make_leaf(&leaves[address >> LEAF_BITS]);
        if (!leaf)
            return NULL;
    }
    return &leaf[(address & (((uintptr_t)1 << LEAF_BITS) - 1)) / sizeof(uintptr_t)];
}

struct functions_cell *functions_cell(const uintptr_t *place)
{
    return cell_of(place);
}

/* ---- entry and exit -------------------------------------------------------------------------- */

/* A function that is jumped to at another's end has that one's return address: there the other is left. */
void functions_enter(uintptr_t *place, uintptr_t function)
{
    struct functions_cell *cell = cell_of(place);

    if (!cell) {
        trace_function_entry(function, *place);
        return;
    }
    if (__builtin_expect(functions_is_hooked(place), 0)) {
        trace_function_exit(cell->function);
    } else {
        cell->site = *place;
        *place = (uintptr_t)functions_return;
    }
    cell->function = function;
    trace_function_entry(function, cell->site);
}

uintptr_t functions_leave(const uintptr_t *place)
{
    const struct functions_cell *cell = cell_of(place);

    /* Before it is told of, since a handler's frames may come to lie there. */
    const struct functions_cell left = *cell;

    trace_function_exit(left.function);
    return left.site;
}

#endif
