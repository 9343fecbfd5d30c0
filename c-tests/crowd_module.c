/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A module that uses RCU from its constructor to its destructor; see crowd.c. */
#include <stdatomic.h>
#include <stdlib.h>

#include "crowd.h"

static struct element {
    struct rcu_head head;
    int value;
} *element;
static atomic_ulong waiting;

static void free_element(struct rcu_head *head)
{
    free(head);
    waiting--;
}

EXPORT int crowd_module_read(void)
{
    struct element *seen;
    int value;

    rcu_read_lock_notrace();
    seen = rcu_dereference(element);
    value = seen ? seen->value : -1;
    rcu_read_unlock_notrace();
    return value;
}

EXPORT void crowd_module_replace(int value)
{
    struct element *fresh = malloc(sizeof(*fresh)), *old;

    if (!fresh)
        abort();
    fresh->value = value;
    old = rcu_xchg_pointer(&element, fresh);
    if (old) {
        waiting++;
        call_rcu(&old->head, free_element);
    }
}

__attribute__((constructor)) static void arrive(void)
{
    for (int i = 0; i < 50; i++)
        crowd_module_read();
    crowd_module_replace(1);
    synchronize_rcu();
    crowd_modules_arrived++;
}

/* No callback of ours may be left when our code goes. */
__attribute__((destructor)) static void leave(void)
{
    struct element *old = rcu_xchg_pointer(&element, NULL);

    synchronize_rcu();
    free(old);
    rcu_barrier();
    if (waiting)
        abort();
    crowd_modules_left++;
}
