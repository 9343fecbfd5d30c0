/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An object whose constructor runs before all others (-z initfirst), and with a function that is chosen while
 * the program is being relocated; see crowd.c. */
#include "crowd.h"

#include <rcu_notrace/tracepoint.h>

DECLARE_TRACE(crowd_came_first, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(crowd_came_first, TP_PROTO(int n), TP_ARGS(n));

unsigned crowd_modules_arrived, crowd_modules_left;
unsigned crowd_sections_of_a_resolver;
unsigned crowd_first_sections, crowd_first_callbacks, crowd_first_waits;

static int the_one(void)
{
    return 1;
}

__attribute__((used)) static int (*choose(void))(void)
{
    for (int i = 0; i < 50; i++) {
        rcu_read_lock_notrace();
        rcu_read_lock_notrace();
        crowd_sections_of_a_resolver++;
        rcu_read_unlock_notrace();
        rcu_read_unlock_notrace();
    }
    return the_one;
}

EXPORT int crowd_chosen(void) __attribute__((ifunc("choose")));

static void called(struct rcu_head *head)
{
    (void)head;
    crowd_first_callbacks++;
}

__attribute__((constructor)) static void come_first(void)
{
    static struct rcu_head heads[10];

    for (int i = 0; i < 10; i++) {
        rcu_read_lock_notrace();
        crowd_first_sections++;
        rcu_read_unlock_notrace();
        call_rcu(&heads[i], called);
    }
    synchronize_rcu();
    trace_crowd_came_first(1);
    crowd_first_waits++;
    rcu_barrier();
}
