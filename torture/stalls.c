/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections that last until they have been reported as stalls. Reports of others are counted, and are no failure:
 * the machine may be busy. */
#include "torture.h"

_Atomic uint64_t stall_reports, stall_reports_unasked;
pthread_mutex_t long_sections = PTHREAD_MUTEX_INITIALIZER;

static _Atomic pid_t stalling;
static atomic_bool reported;

static int on_stall(const struct rcu_notrace_stall *stall, void *unused)
{
    (void)unused;
    if (stall->tid && stall->tid == stalling) {
        reported = true;
        stall_reports++;
    } else if (stall->tid) {
        stall_reports_unasked++;
    }
    return 1;
}

void stalls_begin(void)
{
    rcu_notrace_set_stall_ms(options.stall_ms);
    rcu_notrace_set_stall_handler(on_stall, NULL);
}

static void nothing(struct rcu_head *head)
{
    flavours[TRACE].called++;
    free(head);
}

/* Somebody waits for this section: the worker at least. */
static void ask_for_grace_period(unsigned flavour)
{
    struct rcu_head *head;

    if (flavour == NOTRACE) {
        start_poll_synchronize_rcu();
        return;
    }
    head = malloc(sizeof(*head));
    if (!head)
        abort();
    flavours[TRACE].queued++;
    call_rcu_tasks_trace(head, nothing);
}

/* A thread of its own, so that it is sometimes the thread's first section. */
static void *stall_once(void *argument)
{
    const unsigned flavour = *(unsigned *)argument;
    const uint64_t give_up = now_ns() + options.watchdog * UINT64_C(500000000);
    struct element *e;

    tally_begin("stalling");
    for (unsigned n = below(8); n; n--)
        short_section(flavour);
    reported = false;
    stalling = mine->tid;
    if (flavour == NOTRACE)
        rcu_read_lock_notrace();
    else
        rcu_read_lock_trace();
    e = rcu_dereference(flavours[flavour].current);
    ask_for_grace_period(flavour);
    while (!reported && now_ns() < give_up) {
        beat("stalling");
        if (one_in(2))
            sleep_us(1000);
        else
            spin(100000);
    }
    element_judge(counts(), flavour, e);
    bump(&counts()->sections[flavour]);
    if (flavour == NOTRACE)
        rcu_read_unlock_notrace();
    else
        rcu_read_unlock_trace();
    if (reported)
        cover(STALL_REPORTED);
    else
        failure("%s: a section of %u s was not reported as a stall", flavours[flavour].name,
                options.watchdog / 2);
    stalling = 0;
    tally_end();
    return NULL;
}

void *staller(void *unused)
{
    rest_ms(300);
    while (!stopping()) {
        unsigned flavour = options.type == 3 ? below(2) : options.type - 1;
        pthread_t thread;

        beat("waiting for a turn to stall");
        pthread_mutex_lock(&long_sections);
        if (!stopping()) {
            thread = start(stall_once, &flavour);
            pthread_join(thread, NULL);
        }
        pthread_mutex_unlock(&long_sections);
        beat("between stalls");
        rest_ms(700 + below(2000));
    }
    return unused;
}
