/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that causes events of RCU's, for debuggers and tracers from outside: see usdt.sh. */
#include <rcu_notrace.h>
#include <rcu_notrace/rcu.h>

static struct rcu_head head;

static void nothing(struct rcu_head *unused)
{
    (void)unused;
}

int main(void)
{
    for (int i = 0; i < 10; i++) {
        rcu_read_lock();
        rcu_read_unlock();
        synchronize_rcu();
        call_rcu(&head, nothing);
        rcu_barrier();
    }
    return 0;
}
