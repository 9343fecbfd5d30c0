/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * RCU's own tracepoints: probes on all of them at once, which do all that a tracer's probe may; what went
 * wrong in such code before, by name; what is told, in which order; and forks in probes.
 */
#include "test.h"

#include "events.h"

#include <unwind.h>

/* ---- a traced malloc, whose probe takes sections, of both kinds -------------------------------- */

DECLARE_TRACE(test_malloc, TP_PROTO(void *block, size_t size), TP_ARGS(block, size));
DEFINE_TRACE(test_malloc, TP_PROTO(void *block, size_t size), TP_ARGS(block, size));
DECLARE_TRACE(test_free, TP_PROTO(void *block), TP_ARGS(block));
DEFINE_TRACE(test_free, TP_PROTO(void *block), TP_ARGS(block));

extern void *__libc_malloc(size_t size);
extern void __libc_free(void *block);

void *malloc(size_t size)
{
    void *block = __libc_malloc(size);

    trace_test_malloc(block, size);
    return block;
}

void free(void *block)
{
    trace_test_free(block);
    __libc_free(block);
}

static atomic_ulong heap_calls;
static int object, *protected = &object;

static void all_sections(void)
{
    rcu_read_lock_notrace();
    rcu_read_lock();
    (void)*rcu_dereference_check(protected, 0);
    rcu_read_unlock();
    rcu_read_unlock_notrace();
}

static void malloc_probe(void *data, void *block, size_t size)
{
    (void)data, (void)block, (void)size;
    heap_calls++;
    all_sections();
}

static void free_probe(void *data, void *block)
{
    (void)data, (void)block;
    heap_calls++;
    all_sections();
}

/* ---- an unwinder that takes sections itself, at each frame ------------------------------------- */

static atomic_ulong frames;

static _Unwind_Reason_Code at_frame(struct _Unwind_Context *context, void *left)
{
    rcu_read_lock_notrace();
    (void)_Unwind_GetIP(context);
    rcu_read_unlock_notrace();
    rcu_read_lock();
    rcu_read_unlock();
    frames++;
    return --*(int *)left ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static void walk_stack(void)
{
    int left = 32;

    _Unwind_Backtrace(at_frame, &left);
}

/* ---- what a probe does ------------------------------------------------------------------------- */

static void (*what_happens)(enum event event, const char *text, void *data);
static atomic_ulong counts[EVENT_COUNT];
static __thread unsigned long told_here;
static __thread int in_handler;

static void happened(enum event event, const char *text, void *data)
{
    counts[event]++;
    told_here++;
    if (what_happens)
        what_happens(event, text, data);
}

static void print_counts(void)
{
    printf("   ");
    for (int e = 0; e < EVENT_COUNT; e++)
        printf(" %s %lu%s", event_names[e] + 4, counts[e], e + 1 < EVENT_COUNT ? "," : "\n");
    fflush(stdout);
}

static uint64_t dropped(void)
{
    struct rcu_notrace_tracepoint_stats now;

    rcu_notrace_get_tracepoint_stats(&now, sizeof(now));
    return now.dropped;
}

struct node {
    struct rcu_head head;
};

static atomic_long queued, freed;

static void free_node(struct rcu_head *head)
{
    freed++;
    free(head);
}

/* Everything that section 4 of the design allows. In a handler of ours, not what malloc forbids. */
static void everything(enum event event, const char *text, void *data)
{
    bool often = event <= AT_rcu_dereference;

    (void)text, (void)data;
    for (int i = 0; i < 3; i++) {
        rcu_read_lock_notrace();
        (void)*rcu_dereference(protected);
        rcu_read_unlock_notrace();
        rcu_read_lock_trace();
        rcu_read_unlock_trace();
    }
    all_sections();
    if (often && told_here % 16)
        return;
    walk_stack();
    if (in_handler)
        return;
    free(malloc(100));
    (void)get_state_synchronize_rcu();
    (void)poll_state_synchronize_rcu(start_poll_synchronize_rcu());
    /* A callback causes events: not one for each, or they would never end. */
    if (queued - freed < 32) {
        struct node *node = malloc(sizeof(*node));

        queued++;
        call_rcu(&node->head, free_node);
    }
}

static void warm_up(void)
{
    /* libgcc's first walk, and the pages of both. */
    walk_stack();
    free(malloc(1));
}

/* ---- the program that is traced ---------------------------------------------------------------- */

static atomic_bool done;

static void *reader(void *unused)
{
    (void)unused;
    while (!done) {
        for (int i = 0; i < 50; i++) {
            rcu_read_lock();
            (void)*rcu_dereference_check(protected, 0);
            rcu_read_unlock();
        }
        rcu_read_lock();
        sleep_ms(1);
        rcu_read_unlock();
    }
    return NULL;
}

/* Long enough asleep, now and then, for a report about it. */
static void *culprit(void *unused)
{
    (void)unused;
    while (!done) {
        rcu_read_lock();
        rcu_read_lock_trace();
        sleep_ms(30);
        rcu_read_unlock_trace();
        rcu_read_unlock();
        sleep_ms(5);
    }
    return NULL;
}

static void *waiter(void *unused)
{
    (void)unused;
    while (!done)
        synchronize_rcu();
    return NULL;
}

static void *hurried_waiter(void *unused)
{
    (void)unused;
    while (!done) {
        synchronize_rcu_expedited();
        synchronize_rcu_tasks_trace();
    }
    return NULL;
}

static void *queuer(void *unused)
{
    (void)unused;
    while (!done) {
        for (int i = 0; i < 4; i++) {
            struct node *node = malloc(sizeof(*node));

            queued++;
            call_rcu(&node->head, free_node);
            node = malloc(sizeof(*node));
            free_rcu(node, head);
        }
        rcu_barrier();
    }
    return NULL;
}

static void *short_life(void *unused)
{
    (void)unused;
    rcu_register_thread();
    rcu_read_lock();
    rcu_read_unlock();
    rcu_unregister_thread();
    return NULL;
}

static void *churner(void *unused)
{
    (void)unused;
    while (!done) {
        pthread_join(start(short_life, NULL), NULL);
        sleep_ms(1);
    }
    return NULL;
}

static atomic_int real_time = -1;

static void *real_time_waiter(void *unused)
{
    struct sched_param parameters = {.sched_priority = 2};

    (void)unused;
    real_time = !sched_setscheduler(0, SCHED_FIFO, &parameters);
    while (!done && real_time) {
        synchronize_rcu();
        sleep_ms(5);
    }
    return NULL;
}

static atomic_ulong handled;

static void ordinary_pair(int unused)
{
    int saved = errno;

    (void)unused;
    in_handler++;
    rcu_read_lock();
    (void)*rcu_dereference_check(protected, 0);
    rcu_read_unlock();
    in_handler--;
    handled++;
    errno = saved;
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = ordinary_pair, .sa_flags = SA_RESTART};

    sigaction(SIGUSR2, &action, NULL);
}

/* One that interrupts whatever the process does. */
static void timer_every(long us)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec rate = {{0, us * 1000}, {0, us * 1000}};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &rate, NULL))
        fail("timer: %s", strerror(errno));
}

static int keep_quiet(const struct rcu_notrace_stall *stall, void *data)
{
    (void)stall, (void)data;
    return 1;
}

static pthread_t threads[16];
static int thread_count;

static void start_program(void)
{
    static void *(*const roles[])(void *) = {reader, reader, culprit, waiter, hurried_waiter, queuer,
                                             churner, real_time_waiter};

    rcu_notrace_set_stall_ms(10);
    rcu_notrace_set_stall_handler(keep_quiet, NULL);
    rcu_notrace_start_worker();
    warm_up();
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        threads[thread_count++] = start(roles[i], NULL);
}

static void end_program(void)
{
    done = true;
    while (thread_count)
        pthread_join(threads[--thread_count], NULL);
}

static void count_tracepoint(struct tracepoint *tracepoint, void *seen)
{
    if (strncmp(tracepoint->name, "rcu_", 4))
        return;
    for (int e = 0; e < EVENT_COUNT; e++)
        if (!strcmp(tracepoint->name, event_names[e])) {
            ++*(int *)seen;
            return;
        }
    fail("tracepoint %s is not in this test's list", tracepoint->name);
}

static void every_event_at_once_while_grace_periods_run(void)
{
    uint64_t before, end = now_ns() + 2500000000ull;
    int seen = 0;

    for_each_tracepoint(count_tracepoint, &seen);
    CHECK(seen == EVENT_COUNT);
    what_happens = everything;
    handle_signals();
    start_program();
    CHECK(!register_trace_test_malloc(malloc_probe, NULL));
    CHECK(!register_trace_test_free(free_probe, NULL));
    before = dropped();
    probe_everything(NULL);
    timer_every(1000);
    while (now_ns() < end)
        sleep_ms(10);
    end_program();
    /* Without grace periods of its own: what the probes queue does not end by itself. */
    probe_nothing(NULL);
    rcu_barrier();
    CHECK(queued == freed);
    print_counts();
    printf("    frames %lu, heap calls %lu, signals %lu, callbacks %ld, dropped %llu, stalls %llu, "
           "boosts %llu\n",
           frames, heap_calls, handled, freed, (unsigned long long)(dropped() - before),
           (unsigned long long)stats().stalls, (unsigned long long)stats().boosts);
    print_stats();
    for (int e = 0; e < EVENT_COUNT; e++) {
        if (e == AT_rcu_boost && !real_time) {
            printf("    without rcu_boost: real-time scheduling is not permitted here\n");
            continue;
        }
        if (e == AT_rcu_fqs && rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER) {
            CHECK(!counts[e]);
            continue;
        }
        if (!counts[e])
            fail("%s never happened", event_names[e]);
    }
    CHECK(frames && heap_calls && handled && dropped() > before);
}

static void probes_come_and_go_while_events_come(void)
{
    uint64_t end = now_ns() + 2000000000ull;
    unsigned rounds = 0;
    unsigned long told = 0;

    what_happens = everything;
    handle_signals();
    start_program();
    timer_every(1000);
    while (now_ns() < end) {
        int *data = malloc(sizeof(*data));

        *data = 0x600d;
        probe_everything(data);
        sleep_ms(rounds % 4);
        probe_nothing(data);
        *data = 0xbad;
        free(data);
        rounds++;
    }
    end_program();
    rcu_barrier();
    CHECK(queued == freed);
    for (int e = 0; e < EVENT_COUNT; e++)
        told += counts[e];
    print_counts();
    printf("    %u rounds\n", rounds);
    CHECK(rounds > 5 && told > 100);
}

/* ---- a reader whose section is flagged when it unlocks ----------------------------------------- */

enum step { IDLE, INSIDE };
static _Atomic enum step step;
static atomic_bool waited;
static void (*inside)(void);
static void (*unlock)(void);

static void *waiter_of_rounds(void *count)
{
    for (int r = 0; r < *(int *)count; r++) {
        while (step != INSIDE)
            sched_yield();
        synchronize_rcu_expedited();
        waited = true;
        step = IDLE;
    }
    return NULL;
}

/* The calling thread's sections, each of which a grace period finds in its way and asks to report. */
static void flagged_sections(int rounds)
{
    pthread_t w;

    rcu_register_thread();
    w = start(waiter_of_rounds, &rounds);
    for (int r = 0; r < rounds; r++) {
        uint64_t asked = stats().holdouts;

        rcu_read_lock_notrace();
        waited = false;
        step = INSIDE;
        while (stats().holdouts == asked)
            sched_yield();
        /* Asked; by and by flagged, and the waiter asleep. */
        if (r % 4)
            sleep_ms(1);
        if (inside)
            inside();
        CHECK(!waited);
        unlock();
        while (step != IDLE)
            sched_yield();
    }
    pthread_join(w, NULL);
}

static __thread int depth, deepest;

static void unwind_in_probe(enum event event, const char *text, void *data)
{
    (void)event, (void)text, (void)data;
    if (++depth > deepest)
        deepest = depth;
    CHECK(rcu_read_lock_held());
    /* The grace period that this section is in the way of waits for the probe as well. */
    CHECK(!waited);
    walk_stack();
    depth--;
}

/*
 * Kernel d41e37f26b31: unlock -> its slow path -> that one's trace event -> probe -> stack unwinder ->
 * lock, unlock -> slow path -> trace event -> ...
 */
static void unlock_slow_path_trace_probe_unwinder_lock_unlock(void)
{
    enum { ROUNDS = 200 };
    uint64_t reports = stats().reports_by_section, drops = dropped();

    what_happens = unwind_in_probe;
    warm_up();
    frames = 0;
    CHECK(!register_trace_rcu_read_lock(probe_rcu_read_lock, NULL));
    CHECK(!register_trace_rcu_read_unlock(probe_rcu_read_unlock, NULL));
    unlock = rcu_read_unlock;
    flagged_sections(ROUNDS);
    reports = stats().reports_by_section - reports;
    drops = dropped() - drops;
    printf("    %d unlocks of asked sections, %lu frames, %llu inner events dropped, depth %d, "
           "%llu reports\n",
           ROUNDS, frames, (unsigned long long)drops, deepest, (unsigned long long)reports);
    CHECK(counts[AT_rcu_read_unlock] == ROUNDS && deepest == 1);
    /* A lock and an unlock at each frame. */
    CHECK(frames > ROUNDS && drops == 2 * frames);
    CHECK(reports >= ROUNDS / 2 && reports <= ROUNDS);
}

static void sleep_in_probe(enum event event, const char *text, void *data)
{
    (void)event, (void)text, (void)data;
    for (int i = 0; i < 100; i++)
        all_sections();
    sleep_ms(2);
    CHECK(rcu_read_lock_held());
    CHECK(!waited);
}

static void probe_of_unlock_in_a_flagged_section(void)
{
    enum { ROUNDS = 100 };
    uint64_t reports = stats().reports_by_section;

    what_happens = sleep_in_probe;
    CHECK(!register_trace_rcu_read_unlock(probe_rcu_read_unlock, NULL));
    unlock = rcu_read_unlock;
    flagged_sections(ROUNDS);
    reports = stats().reports_by_section - reports;
    printf("    %lu probes in asked sections, %llu reports\n", counts[AT_rcu_read_unlock],
           (unsigned long long)reports);
    CHECK(counts[AT_rcu_read_unlock] == ROUNDS);
    CHECK(reports >= ROUNDS / 2 && reports <= ROUNDS);
}

/* Our handler of the IPI's signal is called by the library's. */
static atomic_int ipis_in_section;
static __thread int ipis_here;

static void count_ipi(int unused)
{
    (void)unused;
    ipis_here++;
    ipis_in_section += rcu_read_lock_held();
}

static void count_ipis(void)
{
    struct sigaction action = {.sa_handler = count_ipi, .sa_flags = SA_RESTART};

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        skip("no IPIs in this mode");
    sigaction(SIGURG, &action, NULL);
}

static void many_sections(void)
{
    for (int i = 0; i < 1000; i++)
        all_sections();
}

/* Kernel b41642c87716: the handler cleared the flag by which it was requested, so its own way out
 * requested it anew, for ever. */
static void a_flag_that_the_handler_sets_is_cleared_by_the_report_alone(void)
{
    enum { ROUNDS = 200 };
    uint64_t reports = stats().reports_by_section;

    count_ipis();
    what_happens = everything;
    warm_up();
    CHECK(!register_trace_rcu_read_unlock(probe_rcu_read_unlock, NULL));
    inside = many_sections;
    unlock = rcu_read_unlock;
    flagged_sections(ROUNDS);
    reports = stats().reports_by_section - reports;
    printf("    %d sections, %d IPIs here, %llu reports\n", ROUNDS, ipis_here,
           (unsigned long long)reports);
    /* None but those that a waiter sent. */
    CHECK(ipis_here > 0 && (uint64_t)ipis_here <= stats().ipis);
    CHECK(reports >= ROUNDS / 2);
}

static atomic_bool waits_now;

static void note_wait(enum event event, const char *text, void *data)
{
    (void)data;
    if (event == AT_rcu_synchronize)
        waits_now = !strcmp(text, "begin");
    all_sections();
}

/* The IPI is for a section that has ended, and arrives in the next one: the report must come all the same. */
static void an_ipi_that_lands_in_a_new_section_is_not_lost(void)
{
    enum { ROUNDS = 300 };
    sigset_t urgent;
    int rounds = ROUNDS, landed = 0;
    uint64_t longest = 0;
    pthread_t w;

    count_ipis();
    what_happens = note_wait;
    probe_everything(NULL);
    rcu_register_thread();
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    w = start(waiter_of_rounds, &rounds);
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t ipis = stats().ipis, begin;
        int before = ipis_in_section;

        pthread_sigmask(SIG_BLOCK, &urgent, NULL);
        rcu_read_lock();
        step = INSIDE;
        begin = now_ns();
        while (stats().ipis == ipis && now_ns() - begin < 3000000)
            ;
        rcu_read_unlock();
        rcu_read_lock();
        pthread_sigmask(SIG_UNBLOCK, &urgent, NULL);
        landed += ipis_in_section != before;
        rcu_read_unlock();
        begin = now_ns();
        while (step != IDLE)
            sched_yield();
        if (now_ns() - begin > longest)
            longest = now_ns() - begin;
    }
    pthread_join(w, NULL);
    probe_nothing(NULL);
    printf("    %d of %d IPIs landed in a new section; longest wait after it %llu us\n", landed, ROUNDS,
           (unsigned long long)longest / 1000);
    /* In mode auto the glance may have flagged each section already, without an IPI. */
    CHECK(landed > 0 || rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_AUTO);
    /* As long as a busy machine takes to run the waiter. */
    CHECK(longest < 2000000000);
}

/* ---- the mark ---------------------------------------------------------------------------------- */

static void use_the_ordinary_pair(enum event event, const char *text, void *data)
{
    (void)event, (void)text, (void)data;
    rcu_read_lock();
    (void)*rcu_dereference_check(protected, 0);
    rcu_read_unlock();
}

static void a_probe_that_uses_the_ordinary_pair_does_not_recurse(void)
{
    enum { ROUNDS = 10000 };
    uint64_t before = dropped();

    what_happens = use_the_ordinary_pair;
    CHECK(!register_trace_rcu_read_lock(probe_rcu_read_lock, NULL));
    CHECK(!register_trace_rcu_dereference(probe_rcu_dereference, NULL));
    CHECK(!register_trace_rcu_read_unlock(probe_rcu_read_unlock, NULL));
    for (int i = 0; i < ROUNDS; i++)
        use_the_ordinary_pair(0, NULL, NULL);
    printf("    told %lu, %lu, %lu; dropped %llu\n", counts[AT_rcu_read_lock],
           counts[AT_rcu_dereference], counts[AT_rcu_read_unlock],
           (unsigned long long)(dropped() - before));
    CHECK(counts[AT_rcu_read_lock] == ROUNDS && counts[AT_rcu_read_unlock] == ROUNDS &&
          counts[AT_rcu_dereference] == ROUNDS);
    CHECK(dropped() - before == 9 * ROUNDS);
}

/* Handlers between any two instructions: each event is told or dropped, and none is told twice. */
static void handlers_in_probes_lose_no_event(void)
{
    uint64_t before = dropped(), end = now_ns() + 1500000000, told;
    unsigned long sections = 0, last;
    timer_t timer;

    what_happens = use_the_ordinary_pair;
    handle_signals();
    CHECK(!register_trace_rcu_read_lock(probe_rcu_read_lock, NULL));
    CHECK(!register_trace_rcu_read_unlock(probe_rcu_read_unlock, NULL));
    timer = storm_here();
    while (now_ns() < end)
        for (int i = 0; i < 1000; i++, sections++) {
            rcu_read_lock();
            rcu_read_unlock();
        }
    timer_delete(timer);
    signal(SIGUSR2, SIG_IGN);
    told = counts[AT_rcu_read_lock] + counts[AT_rcu_read_unlock];
    printf("    sections %lu, handlers %lu, told %llu, dropped %llu\n", sections, handled,
           (unsigned long long)told, (unsigned long long)(dropped() - before));
    CHECK(handled > 100);
    /* Each section has two; each that is told has two more, in its probe, which are dropped. */
    CHECK(told + dropped() - before == 2 * (sections + handled + told));
    last = counts[AT_rcu_read_lock];
    rcu_read_lock();
    rcu_read_unlock();
    CHECK(counts[AT_rcu_read_lock] == last + 1);
}

/* ---- where nothing is told, and under no lock -------------------------------------------------- */

static unsigned long told_to_reader;

static void *notrace_reader(void *unused)
{
    (void)unused;
    /* First sections; then listed ones, in which IPIs arrive, and which report. */
    while (!done) {
        for (int i = 0; i < 100; i++) {
            rcu_read_lock_notrace();
            rcu_read_unlock_notrace();
        }
        rcu_read_lock_notrace();
        sleep_ms(1);
        rcu_read_unlock_notrace();
    }
    told_to_reader = told_here;
    return NULL;
}

static void the_notrace_pair_tells_nothing_in_its_slow_paths_either(void)
{
    pthread_t r;

    what_happens = NULL;
    probe_everything(NULL);
    r = start(notrace_reader, NULL);
    for (uint64_t end = now_ns() + 20000000000ull; stats().reports_by_section < 100 && now_ns() < end;)
        synchronize_rcu_expedited();
    done = true;
    pthread_join(r, NULL);
    print_stats();
    printf("    told on the reader's thread: %lu\n", told_to_reader);
    CHECK(stats().reports_by_section > 10 && counts[AT_rcu_exp_grace_period] > 100);
    CHECK(!told_to_reader);
    /* Its end, and no more: the main thread had no sections. */
    CHECK(counts[AT_rcu_unregister_thread] == 1 && !counts[AT_rcu_read_lock]);
}

/* Where something is told, one line each. */
static struct {
    enum event event;
    const char *text;
} const places[] = {
    {AT_rcu_read_lock, ""},
    {AT_rcu_read_unlock, ""},
    {AT_rcu_dereference, ""},
    {AT_rcu_synchronize, "begin"},
    {AT_rcu_synchronize, "end"},
    {AT_rcu_grace_period, "start"},
    {AT_rcu_grace_period, "select"},
    {AT_rcu_grace_period, "startwait"},
    {AT_rcu_grace_period, "wake"},
    {AT_rcu_grace_period, "end"},
    {AT_rcu_exp_grace_period, "start"},
    {AT_rcu_exp_grace_period, "startwait"},
    {AT_rcu_fqs, "ipi"},
    {AT_rcu_quiescent_state_report, ""},
    {AT_rcu_stall_warning, "StallDetected"},
    {AT_rcu_callback, ""},
    {AT_rcu_kvfree_callback, ""},
    {AT_rcu_batch_start, ""},
    {AT_rcu_invoke_callback, ""},
    {AT_rcu_invoke_kvfree_callback, ""},
    {AT_rcu_callback_done, ""},
    {AT_rcu_batch_end, ""},
    {AT_rcu_barrier, "Begin"},
    {AT_rcu_barrier, "End"},
    {AT_rcu_register_thread, ""},
    {AT_rcu_unregister_thread, ""},
};
enum { PLACES = sizeof(places) / sizeof(places[0]) };

static pthread_t sleepers[PLACES];
static atomic_int may_end[PLACES], ended[PLACES];

static void *sleeper(void *argument)
{
    rcu_register_thread();
    while (!*(atomic_int *)argument)
        sleep_ms(1);
    return NULL;
}

/* At each place for the first time, a thread ends, and the probe waits until it has. */
static void wait_for_an_end(enum event event, const char *text, void *data)
{
    uint64_t begin = now_ns();
    int p = 0;

    (void)data;
    while (p < PLACES && (places[p].event != event || strcmp(places[p].text, text)))
        p++;
    if (p == PLACES || may_end[p] || atomic_exchange(&may_end[p], 1))
        return;
    while (pthread_tryjoin_np(sleepers[p], NULL)) {
        if (now_ns() - begin > 5000000000ull)
            fail("a thread cannot end while a probe of %s:%s runs", event_names[event], text);
        sleep_ms(1);
    }
    ended[p] = 1;
}

static void threads_end_while_a_probe_of_any_event_runs(void)
{
    int count = 0;

    for (int p = 0; p < PLACES; p++)
        sleepers[p] = start(sleeper, &may_end[p]);
    sleep_ms(20);
    what_happens = wait_for_an_end;
    probe_everything(NULL);
    start_program();
    sleep_ms(1500);
    end_program();
    probe_nothing(NULL);
    for (int p = 0; p < PLACES; p++) {
        CHECK(ended[p] == may_end[p]);
        count += ended[p];
        if (!atomic_exchange(&may_end[p], 1))
            pthread_join(sleepers[p], NULL);
    }
    printf("    a thread ended in a probe at %d of %d places\n", count, PLACES);
    CHECK(count >= PLACES - 2);
}

static void a_probe_does_not_register_the_thread_that_unregisters(void)
{
#ifdef RCU_NOTRACE_PORTABLE
    skip("looks at the word");
#else
    what_happens = everything;
    warm_up();
    rcu_register_thread();
    CHECK(rcu_notrace_this_reader.state < 0);
    CHECK(!register_trace_rcu_unregister_thread(probe_rcu_unregister_thread, NULL));
    rcu_unregister_thread();
    CHECK(counts[AT_rcu_unregister_thread] == 1);
    CHECK(rcu_notrace_this_reader.state == 0);
#endif
}

/* ---- what is told, in order -------------------------------------------------------------------- */

enum { MOST_TOLD = 256 };
static struct told {
    enum event event;
    const char *rcuname, *text;
    unsigned long gp_seq;
    long number;
    const void *pointer;
} told[MOST_TOLD];
static atomic_int told_count;

static void tell(struct told what)
{
    int place = told_count++;

    if (place < MOST_TOLD)
        told[place] = what;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
static void tell_sync(void *data, const char *rcuname, unsigned long gp_seq, const char *text)
{
    tell((struct told){AT_rcu_synchronize, rcuname, text, gp_seq, 0, NULL});
}

static void tell_gp(void *data, const char *rcuname, unsigned long gp_seq, const char *text)
{
    tell((struct told){AT_rcu_grace_period, rcuname, text, gp_seq, 0, NULL});
}

static void tell_exp(void *data, const char *rcuname, unsigned long gp_seq, const char *text)
{
    tell((struct told){AT_rcu_exp_grace_period, rcuname, text, gp_seq, 0, NULL});
}

static void tell_fqs(void *data, const char *rcuname, unsigned long gp_seq, int tid, const char *text)
{
    tell((struct told){AT_rcu_fqs, rcuname, text, gp_seq, tid, NULL});
}

static void tell_report(void *data, const char *rcuname, unsigned long gp_seq, int readers)
{
    tell((struct told){AT_rcu_quiescent_state_report, rcuname, "", gp_seq, readers, NULL});
}

static void tell_callback(void *data, const char *rcuname, struct rcu_head *rhp, long qlen)
{
    tell((struct told){AT_rcu_callback, rcuname, "", 0, qlen, rhp});
}

static void tell_kvfree(void *data, const char *rcuname, struct rcu_head *rhp, unsigned long offset,
                        long qlen)
{
    tell((struct told){AT_rcu_kvfree_callback, rcuname, "", offset, qlen, rhp});
}

static void tell_batch_start(void *data, const char *rcuname, long qlen)
{
    tell((struct told){AT_rcu_batch_start, rcuname, "", 0, qlen, NULL});
}

static void tell_invoke(void *data, const char *rcuname, struct rcu_head *rhp)
{
    tell((struct told){AT_rcu_invoke_callback, rcuname, "", 0, 0, rhp});
}

static void tell_invoke_kvfree(void *data, const char *rcuname, struct rcu_head *rhp, unsigned long offset)
{
    tell((struct told){AT_rcu_invoke_kvfree_callback, rcuname, "", offset, 0, rhp});
}

static void tell_done(void *data, const char *rcuname, const void *rhp)
{
    tell((struct told){AT_rcu_callback_done, rcuname, "", 0, 0, rhp});
}

static void tell_batch_end(void *data, const char *rcuname, long count)
{
    tell((struct told){AT_rcu_batch_end, rcuname, "", 0, count, NULL});
}

static void tell_barrier(void *data, const char *rcuname, const char *s, long cnt)
{
    tell((struct told){AT_rcu_barrier, rcuname, s, 0, cnt, NULL});
}
#pragma GCC diagnostic pop

static void print_told(void)
{
    printf("   ");
    for (int i = 0; i < told_count && i < MOST_TOLD; i++)
        printf(" %s:%s", event_names[told[i].event] + 4, told[i].text);
    printf("\n");
    fflush(stdout);
}

/* The next one, at `*place`, is this one. */
static struct told *expect(int *place, enum event event, const char *text, const char *rcuname)
{
    struct told *next = &told[*place];

    if (*place >= told_count || next->event != event || strcmp(next->text, text))
        fail("number %d is %s:%s, not %s:%s", *place, event_names[next->event],
             next->text ? next->text : "?", event_names[event], text);
    if (strcmp(next->rcuname, rcuname))
        fail("number %d: rcuname %s, not %s", *place, next->rcuname, rcuname);
    ++*place;
    return next;
}

static atomic_bool is_inside, may_leave;
static bool blocking_flavour;
static pid_t holdout_tid;

static void *holdout(void *unused)
{
    (void)unused;
    holdout_tid = (pid_t)syscall(SYS_gettid);
    rcu_register_thread();
    for (int i = 0; i < 8; i++) {
        rcu_read_lock_trace();
        rcu_read_unlock_trace();
    }
    if (blocking_flavour)
        rcu_read_lock_trace();
    else
        rcu_read_lock_notrace();
    is_inside = true;
    while (!may_leave)
        sleep_ms(1);
    if (blocking_flavour)
        rcu_read_unlock_trace();
    else
        rcu_read_unlock_notrace();
    return NULL;
}

static void *let_leave(void *unused)
{
    (void)unused;
    sleep_ms(50);
    may_leave = true;
    return NULL;
}

static void check_grace_period(void (*synchronize)(void), const char *rcuname, bool hurried)
{
    enum event gp = hurried ? AT_rcu_exp_grace_period : AT_rcu_grace_period;
    bool may_signal = rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_MEMBARRIER;
    struct told *one;
    unsigned long seq;
    int place = 0, ipis = 0;
    pthread_t h, l;

    h = start(holdout, NULL);
    while (!is_inside)
        sleep_ms(1);
    l = start(let_leave, NULL);
    CHECK(!register_trace_rcu_synchronize(tell_sync, NULL));
    CHECK(!register_trace_rcu_grace_period(tell_gp, NULL));
    CHECK(!register_trace_rcu_exp_grace_period(tell_exp, NULL));
    CHECK(!register_trace_rcu_fqs(tell_fqs, NULL));
    CHECK(!register_trace_rcu_quiescent_state_report(tell_report, NULL));
    synchronize();
    print_told();
    one = expect(&place, AT_rcu_synchronize, "begin", rcuname);
    seq = one->gp_seq + 1;
    CHECK(seq % 2 == 1);
    one = expect(&place, gp, "start", rcuname);
    CHECK(one->gp_seq == seq);
    one = expect(&place, gp, "select", rcuname);
    CHECK(one->gp_seq == seq);
    while (told[place].event == AT_rcu_fqs) {
        one = expect(&place, AT_rcu_fqs, "ipi", rcuname);
        CHECK(one->gp_seq == seq);
        ipis += one->number == holdout_tid;
    }
    CHECK(may_signal || !ipis);
    CHECK(ipis == 1 || rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL);
    one = expect(&place, gp, "startwait", rcuname);
    CHECK(one->gp_seq == seq);
    one = expect(&place, gp, "wake", rcuname);
    CHECK(one->gp_seq == seq);
    one = expect(&place, AT_rcu_quiescent_state_report, "", rcuname);
    CHECK(one->gp_seq == seq && one->number >= 1);
    one = expect(&place, gp, "end", rcuname);
    CHECK(one->gp_seq == seq + 1);
    one = expect(&place, AT_rcu_synchronize, "end", rcuname);
    CHECK(one->gp_seq == seq + 1);
    CHECK(place == told_count);
    pthread_join(h, NULL);
    pthread_join(l, NULL);
}

static void a_grace_period_is_told_in_order(void)
{
    check_grace_period(synchronize_rcu, "rcu_notrace", false);
}

static void an_expedited_one_too(void)
{
    check_grace_period(synchronize_rcu_expedited, "rcu_notrace", true);
}

static void one_of_the_other_flavour_too(void)
{
    blocking_flavour = true;
    check_grace_period(synchronize_rcu_tasks_trace, "rcu_tasks_trace", false);
}

static void check_callback(const char *rcuname, enum event queue, enum event invoke, void (*enqueue)(void),
                           const struct rcu_head *head, unsigned long offset)
{
    int place = told_count;
    struct told *one;

    enqueue();
    for (int i = 0; i < 5000 && told_count < place + 5; i++)
        sleep_ms(1);
    /* Rounds of other reasons have nothing in them. */
    print_told();
    one = expect(&place, queue, "", rcuname);
    CHECK((!head || one->pointer == head) && one->number == 0 && one->gp_seq == offset);
    head = one->pointer;
    one = expect(&place, AT_rcu_batch_start, "", rcuname);
    CHECK(one->number == 1);
    one = expect(&place, invoke, "", rcuname);
    CHECK(one->pointer == head && one->gp_seq == offset);
    one = expect(&place, AT_rcu_callback_done, "", rcuname);
    CHECK(one->pointer == head);
    one = expect(&place, AT_rcu_batch_end, "", rcuname);
    CHECK(one->number == 1);
}

static struct rcu_head known_head;

static void count_call(struct rcu_head *head)
{
    (void)head;
    freed++;
}

static void enqueue_known(void)
{
    call_rcu(&known_head, count_call);
}

static void enqueue_known_of_the_other(void)
{
    call_rcu_tasks_trace(&known_head, count_call);
}

static void enqueue_block(void)
{
    struct block {
        char before[48];
        struct rcu_head head;
    } *block = malloc(sizeof(*block));

    free_rcu(block, head);
}

static void callbacks_are_told_in_order(void)
{
    int place;

    rcu_notrace_start_worker();
    rcu_barrier();
    CHECK(!register_trace_rcu_callback(tell_callback, NULL));
    CHECK(!register_trace_rcu_kvfree_callback(tell_kvfree, NULL));
    CHECK(!register_trace_rcu_batch_start(tell_batch_start, NULL));
    CHECK(!register_trace_rcu_invoke_callback(tell_invoke, NULL));
    CHECK(!register_trace_rcu_invoke_kvfree_callback(tell_invoke_kvfree, NULL));
    CHECK(!register_trace_rcu_callback_done(tell_done, NULL));
    CHECK(!register_trace_rcu_batch_end(tell_batch_end, NULL));
    CHECK(!register_trace_rcu_barrier(tell_barrier, NULL));
    check_callback("rcu_notrace", AT_rcu_callback, AT_rcu_invoke_callback, enqueue_known, &known_head, 0);
    check_callback("rcu_notrace", AT_rcu_kvfree_callback, AT_rcu_invoke_kvfree_callback, enqueue_block,
                   NULL, 48);
    call_rcu_tasks_trace(&known_head, count_call);
    rcu_barrier_tasks_trace();
    told_count = 0;
    check_callback("rcu_tasks_trace", AT_rcu_callback, AT_rcu_invoke_callback, enqueue_known_of_the_other,
                   &known_head, 0);
    told_count = 0;
    call_rcu(&known_head, count_call);
    rcu_barrier();
    print_told();
    CHECK(told[0].event == AT_rcu_callback);
    for (place = 0; told[place].event != AT_rcu_barrier; place++)
        CHECK(place < told_count);
    CHECK(!strcmp(told[place].text, "Begin") && told[place].number <= 1);
    for (place++; told[place].event != AT_rcu_barrier; place++)
        CHECK(place < told_count);
    CHECK(!strcmp(told[place].text, "End") && told[place].number == 0);
}

static const void *told_pointer, *told_caller;
static int told_safe = -1;

static void dereferenced(void *data, const void *pointer, int safe, const void *caller)
{
    (void)data;
    told_pointer = pointer;
    told_safe = safe;
    told_caller = caller;
}

static int evaluated;

static bool evaluate(bool answer)
{
    evaluated++;
    return answer;
}

static __attribute__((noinline)) int *checked(bool condition)
{
    return rcu_dereference_check(protected, evaluate(condition));
}

static void a_dereference_says_whether_it_was_safe(void)
{
    CHECK(checked(true) == &object && !evaluated);
    CHECK(!register_trace_rcu_dereference(dereferenced, NULL));
    CHECK(checked(false) == &object);
    CHECK(told_pointer == &object && told_safe == 0 && evaluated == 1);
    CHECK((uintptr_t)told_caller - (uintptr_t)checked < 1024);
    CHECK(checked(true) == &object && told_safe == 1 && evaluated == 2);
    rcu_read_lock();
    CHECK(checked(false) == &object && told_safe == 1);
    rcu_read_unlock();
    rcu_read_lock_notrace();
    CHECK(checked(false) == &object && told_safe == 1);
    rcu_read_unlock_notrace();
    CHECK(checked(false) == &object && told_safe == 0);
}

static void wait_in_probe(enum event event, const char *text, void *data)
{
    (void)event, (void)text, (void)data;
    synchronize_rcu();
}

static void synchronize_rcu_in_a_probe_is_refused(void)
{
    what_happens = wait_in_probe;
    CHECK(!register_trace_rcu_callback(probe_rcu_callback, NULL));
    call_rcu(&known_head, count_call);
    fail("went on");
}

static void also_in_one_of_a_grace_period(void)
{
    what_happens = wait_in_probe;
    CHECK(!register_trace_rcu_grace_period(probe_rcu_grace_period, NULL));
    synchronize_rcu();
    fail("went on");
}

static void and_in_one_of_a_callback(void)
{
    what_happens = wait_in_probe;
    CHECK(!register_trace_rcu_callback_done(probe_rcu_callback_done, NULL));
    call_rcu(&known_head, count_call);
    rcu_barrier();
    fail("went on");
}

/* ---- forks ------------------------------------------------------------------------------------- */

static atomic_int fork_at = -1;
static atomic_bool in_child;
static _Atomic pid_t child;
static pid_t (*fork_by)(void);
static pthread_t main_thread;
static struct rcu_head last_head;

static void end_child(struct rcu_head *head)
{
    (void)head;
    _exit(PASS);
}

static void fork_in_probe(enum event event, const char *text, void *data)
{
    int at = fork_at;
    pid_t pid;

    (void)data;
    if (at < 0 || event != places[at].event || strcmp(text, places[at].text) ||
        (event <= AT_rcu_dereference && !pthread_equal(pthread_self(), main_thread)) ||
        !atomic_compare_exchange_strong(&fork_at, &at, -1))
        return;
    pid = fork_by();
    if (pid) {
        child = pid;
        return;
    }
    alarm(15);
    in_child = true;
    /* The child of another thread, the worker for one, goes on with what that does. */
    if (!pthread_equal(pthread_self(), main_thread))
        call_rcu(&last_head, end_child);
}

/* Causes all of it, on this thread and on the worker's. */
static void cause_everything(void)
{
    struct node *node = malloc(sizeof(*node));
    unsigned long cookie = get_state_synchronize_rcu();
    bool was_child = in_child;
    pthread_t h = 0, l = 0;

    rcu_register_thread();
    rcu_read_lock();
    (void)*rcu_dereference_check(protected, 0);
    rcu_read_unlock();
    free_rcu(node, head);
    call_rcu(&known_head, count_call);
    rcu_barrier();
    for (int hurried = 0; hurried < 2; hurried++) {
        is_inside = may_leave = false;
        h = start(holdout, NULL);
        while (!is_inside)
            sleep_ms(1);
        l = start(let_leave, NULL);
        if (hurried)
            synchronize_rcu_expedited();
        else
            synchronize_rcu();
        CHECK(poll_state_synchronize_rcu(cookie));
        /* These are the parent's. */
        if (in_child && !was_child)
            break;
        pthread_join(h, NULL);
        pthread_join(l, NULL);
    }
    rcu_unregister_thread();
}

static void fork_everywhere(pid_t (*by)(void))
{
    int passed = 0, absent = 0;

    what_happens = fork_in_probe;
    fork_by = by;
    main_thread = pthread_self();
    rcu_notrace_set_stall_ms(10);
    rcu_notrace_set_stall_handler(keep_quiet, NULL);
    rcu_notrace_start_worker();
    probe_everything(NULL);
    for (int f = 0; f < PLACES; f++) {
        int status = -1;

        fflush(stdout);
        child = 0;
        fork_at = f;
        cause_everything();
        if (in_child) {
            /* And once more, all of it, in a process of its own. */
            unsigned long before = counts[places[f].event];

            CHECK(!register_trace_rcu_grace_period(tell_gp, NULL));
            cause_everything();
            /* The sequence is odd while a grace period runs. */
            CHECK(told_count > 1);
            for (int i = 0; i < told_count && i < MOST_TOLD; i++)
                CHECK(told[i].gp_seq % 2 == !!strncmp(told[i].text, "end", 3));
            if (counts[places[f].event] == before && places[f].event != AT_rcu_fqs)
                fail("%s is not told in the child", event_names[places[f].event]);
            probe_nothing(NULL);
            rcu_barrier();
            fflush(stdout);
            _exit(PASS);
        }
        if (fork_at != -1) {
            fork_at = -1;
            printf("    %s:%s did not happen\n", event_names[places[f].event], places[f].text);
            CHECK(places[f].event == AT_rcu_fqs);
            absent++;
            continue;
        }
        while (!child)
            sleep_ms(1);
        CHECK(waitpid(child, &status, 0) == child);
        if (status)
            fail("the child of a probe of %s:%s ended with status %#x", event_names[places[f].event],
                 places[f].text, (unsigned)status);
        passed++;
    }
    printf("    %d children of probes went on, %d events did not come\n", passed, absent);
    CHECK(passed >= PLACES - 1);
}

static void a_probe_of_any_event_may_fork(void)
{
    fork_everywhere(fork);
}

static void a_probe_of_any_event_may_fork_behind_our_back(void)
{
    fork_everywhere(_Fork);
}

static void a_forked_child_goes_on_tracing(void)
{
    pid_t pid;
    int status;

    what_happens = everything;
    warm_up();
    probe_everything(NULL);
    cause_everything();
    pid = fork();
    if (!pid) {
        unsigned long before[EVENT_COUNT];

        alarm(20);
        for (int e = 0; e < EVENT_COUNT; e++)
            before[e] = counts[e];
        cause_everything();
        probe_nothing(NULL);
        for (int e = 0; e < EVENT_COUNT; e++)
            if (counts[e] == before[e] && e != AT_rcu_boost && e != AT_rcu_stall_warning &&
                e != AT_rcu_fqs)
                fail("%s is not told in the child", event_names[e]);
        before[0] = counts[0];
        rcu_read_lock();
        rcu_read_unlock();
        CHECK(counts[0] == before[0]);
        probe_everything(NULL);
        rcu_read_lock();
        rcu_read_unlock();
        CHECK(counts[0] == before[0] + 1);
        fflush(stdout);
        _exit(PASS);
    }
    cause_everything();
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    print_counts();
}

static const struct scenario scenarios[] = {
    SCENARIO(every_event_at_once_while_grace_periods_run),
    SCENARIO(probes_come_and_go_while_events_come),
    SCENARIO(unlock_slow_path_trace_probe_unwinder_lock_unlock),
    SCENARIO(probe_of_unlock_in_a_flagged_section),
    SCENARIO(a_flag_that_the_handler_sets_is_cleared_by_the_report_alone),
    SCENARIO(an_ipi_that_lands_in_a_new_section_is_not_lost),
    SCENARIO(a_probe_that_uses_the_ordinary_pair_does_not_recurse),
    SCENARIO(handlers_in_probes_lose_no_event),
    SCENARIO(the_notrace_pair_tells_nothing_in_its_slow_paths_either),
    SCENARIO(threads_end_while_a_probe_of_any_event_runs),
    SCENARIO(a_probe_does_not_register_the_thread_that_unregisters),
    SCENARIO(a_grace_period_is_told_in_order),
    SCENARIO(an_expedited_one_too),
    SCENARIO(one_of_the_other_flavour_too),
    SCENARIO(callbacks_are_told_in_order),
    SCENARIO(a_dereference_says_whether_it_was_safe),
    {"synchronize_rcu_in_a_probe_is_refused", synchronize_rcu_in_a_probe_is_refused, SIGABRT,
     "inside a read-side critical section"},
    {"also_in_one_of_a_grace_period", also_in_one_of_a_grace_period, SIGABRT,
     "inside a read-side critical section"},
    {"and_in_one_of_a_callback", and_in_one_of_a_callback, SIGABRT, "inside a read-side critical section"},
    SCENARIO(a_probe_of_any_event_may_fork),
    SCENARIO(a_probe_of_any_event_may_fork_behind_our_back),
    SCENARIO(a_forked_child_goes_on_tracing),
};

int main(int argc, char **argv)
{
    return RUN_SCENARIOS("events", scenarios, argc, argv);
}
