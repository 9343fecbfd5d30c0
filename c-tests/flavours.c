/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The second flavour: its sections, its grace periods, and what both leave each other alone in. */
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void called_lock(void) __asm__("rcu_read_lock_trace");
void called_unlock(void) __asm__("rcu_read_unlock_trace");

static struct rcu_notrace_stats trace_stats(void)
{
    struct rcu_notrace_stats now;

    rcu_tasks_trace_get_stats(&now, sizeof(now));
    return now;
}

static void print_trace_stats(void)
{
    struct rcu_notrace_stats s = trace_stats();

    printf("    tasks_trace: grace periods %llu, shared %llu, IPIs %llu, holdouts %llu, "
           "reports %llu by section %llu by handler, parks %llu, transient waits %llu\n",
           (unsigned long long)s.grace_periods, (unsigned long long)s.shared,
           (unsigned long long)s.ipis, (unsigned long long)s.holdouts,
           (unsigned long long)s.reports_by_section, (unsigned long long)s.reports_by_handler,
           (unsigned long long)s.parks, (unsigned long long)s.transient_waits);
    fflush(stdout);
}

static pid_t expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("a child ended with status %#x", (unsigned)status);
    return child;
}

/* ---- sections ---------------------------------------------------------------------------------- */

static int guarded(void)
{
    guard(rcu_tasks_trace)();
    return rcu_read_lock_trace_held();
}

static void sections_nest_and_know_their_flavour(void)
{
    int rounds = 0;

    for (int i = 0; i < 20; i++) {
        CHECK(!rcu_read_lock_trace_held() && !rcu_read_lock_held());
        rcu_read_lock_trace();
        CHECK(rcu_read_lock_trace_held() && !rcu_read_lock_held());
        called_lock();
        rcu_read_unlock_trace();
        CHECK(rcu_read_lock_trace_held());
        rcu_read_lock_notrace();
        CHECK(rcu_read_lock_trace_held() && rcu_read_lock_held());
        called_unlock();
        CHECK(!rcu_read_lock_trace_held() && rcu_read_lock_held());
        rcu_read_unlock_notrace();
        CHECK(guarded() && !rcu_read_lock_trace_held());
        scoped_guard (rcu_tasks_trace) {
            scoped_guard (rcu_notrace) {
                CHECK(rcu_read_lock_trace_held() && rcu_read_lock_held());
                rounds++;
            }
            CHECK(rcu_read_lock_trace_held() && !rcu_read_lock_held());
        }
        if (i == 10)
            rcu_register_thread();
        if (i == 15)
            synchronize_rcu_tasks_trace();
    }
    for (int i = 0; i < 100000; i++)
        rcu_read_lock_trace();
    for (int i = 0; i < 100000; i++)
        rcu_read_unlock_trace();
    CHECK(!rcu_read_lock_trace_held() && rounds == 20);
    synchronize_rcu_tasks_trace();
}

/* ---- who holds up whom -------------------------------------------------------------------------- */

struct holder {
    pthread_t thread;
    bool trace, notrace, registers;
    atomic_bool inside, leave, left;
    uint64_t left_at;
};

static void *hold(void *argument)
{
    struct holder *h = argument;

    if (h->registers)
        rcu_register_thread();
    if (h->trace)
        rcu_read_lock_trace();
    if (h->notrace)
        rcu_read_lock_notrace();
    h->inside = true;
    while (!h->leave)
        sleep_ms(1);
    h->left_at = now_ns();
    h->left = true;
    if (h->notrace)
        rcu_read_unlock_notrace();
    if (h->trace)
        rcu_read_unlock_trace();
    /* It is the unlock that must report, not the thread's exit. */
    sleep_ms(50);
    return NULL;
}

static void enter(struct holder *h, bool trace, bool notrace, bool registers)
{
    memset(h, 0, sizeof(*h));
    h->trace = trace;
    h->notrace = notrace;
    h->registers = registers;
    h->thread = start(hold, h);
    while (!h->inside)
        sleep_ms(1);
}

static void leave(struct holder *h)
{
    h->leave = true;
    pthread_join(h->thread, NULL);
}

static uint64_t time_of(void (*wait)(void))
{
    uint64_t begin = now_ns();

    wait();
    return now_ns() - begin;
}

static void sections_hold_up_their_own_flavour_only(void)
{
    uint64_t worst = 0, took;
    struct holder h;

    for (int registers = 0; registers < 2; registers++) {
        enter(&h, true, false, registers);
        for (int i = 0; i < 50; i++) {
            took = time_of(i % 2 ? synchronize_rcu : synchronize_rcu_expedited);
            worst = took > worst ? took : worst;
        }
        rcu_barrier();
        CHECK(!h.left);
        leave(&h);
        enter(&h, false, true, registers);
        for (int i = 0; i < 50; i++) {
            took = time_of(synchronize_rcu_tasks_trace);
            worst = took > worst ? took : worst;
        }
        rcu_barrier_tasks_trace();
        CHECK(!h.left);
        leave(&h);
    }
    printf("    the other flavour waited for %llu us at most\n", (unsigned long long)worst / 1000);
    CHECK(worst < 200000000);
    CHECK(trace_stats().grace_periods == 100);
}

static void *leave_later(void *argument)
{
    sleep_ms(50);
    ((struct holder *)argument)->leave = true;
    return NULL;
}

static void sections_hold_up_their_own_flavour(void)
{
    enum { WAITS = 8 };
    uint64_t late, worst = 0;
    unsigned late_ones = 0;
    struct holder h;

    for (int i = 0; i < WAITS; i++) {
        bool trace = i & 1;
        pthread_t leaver;

        enter(&h, trace, !trace, i & 2);
        leaver = start(leave_later, &h);
        if (trace)
            synchronize_rcu_tasks_trace();
        else
            synchronize_rcu();
        late = now_ns() - h.left_at;
        CHECK(h.left);
        worst = late > worst ? late : worst;
        late_ones += late > 40000000;
        pthread_join(leaver, NULL);
        pthread_join(h.thread, NULL);
    }
    printf("    waiters went on %llu us after the section's end at most\n",
           (unsigned long long)worst / 1000);
    /* Some on a busy machine, not all. */
    CHECK(late_ones < WAITS / 2);
    /* Of registered readers. */
    CHECK(trace_stats().wakes >= 2 && stats().wakes >= 2);
}

static void one_may_wait_for_the_first_flavour_in_a_section_of_the_second(void)
{
    rcu_read_lock_trace();
    for (int i = 0; i < 20; i++) {
        synchronize_rcu();
        synchronize_rcu_expedited();
        cond_synchronize_rcu(get_state_synchronize_rcu());
    }
    rcu_barrier();
    CHECK(rcu_read_lock_trace_held());
    rcu_read_unlock_trace();
    CHECK(stats().grace_periods >= 60);
}

/* Waits for the first flavour in sections of the second, beside waits for the second. */
static atomic_bool stop;
static atomic_ulong waits_inside, waits_outside;

static void *wait_inside(void *unused)
{
    while (!stop) {
        rcu_read_lock_trace();
        synchronize_rcu();
        rcu_read_unlock_trace();
        waits_inside++;
    }
    return unused;
}

static void *wait_outside(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        synchronize_rcu_tasks_trace();
        waits_outside++;
    }
    return unused;
}

static void waits_in_sections_and_waits_for_them_do_not_lock_up(void)
{
    pthread_t threads[4];

    for (size_t i = 0; i < COUNT(threads); i++)
        threads[i] = start(i % 2 ? wait_inside : wait_outside, NULL);
    sleep_ms(500);
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    printf("    %lu waits inside, %lu outside\n", waits_inside, waits_outside);
    CHECK(waits_inside > 10 && waits_outside > 10);
}

/* ---- callbacks ---------------------------------------------------------------------------------- */

static atomic_ulong ran, trace_ran;
static atomic_int worker_thread, trace_worker_thread;

static void note(struct rcu_head *head)
{
    (void)head;
    ran++;
    worker_thread = (int)syscall(SYS_gettid);
}

static void note_trace(struct rcu_head *head)
{
    (void)head;
    trace_ran++;
    trace_worker_thread = (int)syscall(SYS_gettid);
}

static const char *name_of(int tid)
{
    static char name[32];
    char path[64];
    int file;
    ssize_t got;

    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
    file = open(path, O_RDONLY);
    got = read(file, name, sizeof(name) - 1);
    close(file);
    name[got > 0 ? got - 1 : 0] = 0;
    return name;
}

static void each_flavour_has_its_callbacks_and_its_worker(void)
{
    struct rcu_head heads[50], trace_heads[50];
    struct holder h;

    enter(&h, true, false, true);
    for (size_t i = 0; i < COUNT(heads); i++) {
        call_rcu(&heads[i], note);
        call_rcu_tasks_trace(&trace_heads[i], note_trace);
    }
    rcu_barrier();
    sleep_ms(30);
    CHECK(ran == 50 && trace_ran == 0);
    leave(&h);
    rcu_barrier_tasks_trace();
    CHECK(trace_ran == 50);
    CHECK(!strcmp(name_of(worker_thread), "rcu_notrace"));
    CHECK(!strcmp(name_of(trace_worker_thread), "rcu_tasks_trace"));
    CHECK(trace_stats().callbacks_queued == 50 && trace_stats().callbacks_run == 50);
    CHECK(stats().callbacks_queued == 50 && stats().callbacks_run == 50);

    enter(&h, false, true, true);
    for (size_t i = 0; i < COUNT(heads); i++) {
        call_rcu(&heads[i], note);
        call_rcu_tasks_trace(&trace_heads[i], note_trace);
    }
    rcu_barrier_tasks_trace();
    sleep_ms(30);
    CHECK(ran == 50 && trace_ran == 100);
    leave(&h);
    rcu_barrier();
    CHECK(ran == 100);
}

static void start_worker_serves_callbacks_of_the_second_flavour_that_wait(void)
{
    struct rcu_head head;

    call_rcu_tasks_trace(&head, note_trace);
    sleep_ms(20);
    CHECK(trace_ran == 0);
    CHECK(rcu_notrace_start_worker() == 0);
    for (int i = 0; i < 2000 && !trace_ran; i++)
        sleep_ms(1);
    CHECK(trace_ran == 1);
}

/* ---- the storm, on both flavours ------------------------------------------------------------------ */

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 64, READERS = 3 };

struct object {
    struct rcu_head head;
    atomic_uint a, b;
    atomic_bool waits;
};

static struct object objects[2][OBJECTS];
static struct object *shared_object[2];
static atomic_ulong sections, handler_sections, storms_in_sections, threads_run, poisoned, retired;

static void look(int flavour)
{
    struct object *seen;

    if (flavour)
        rcu_read_lock_trace();
    else
        rcu_read_lock_notrace();
    seen = rcu_dereference(shared_object[flavour]);
    if (atomic_load_explicit(&seen->a, memory_order_relaxed) != ALIVE)
        poisoned++;
    for (int i = 0; i < 50; i++)
        __asm__ volatile("pause");
    if (atomic_load_explicit(&seen->b, memory_order_relaxed) != ALIVE)
        poisoned++;
    if (flavour)
        rcu_read_unlock_trace();
    else
        rcu_read_unlock_notrace();
}

static void on_timer(int signal)
{
    int saved = errno;

    (void)signal;
    storms_in_sections += rcu_read_lock_trace_held() != 0;
    scoped_guard (rcu_tasks_trace)
        look(0);
    scoped_guard (rcu_notrace)
        look(1);
    handler_sections++;
    errno = saved;
}

static void *reader(void *argument)
{
    bool rests = argument;
    timer_t timer = rests ? NULL : storm_here();
    unsigned long count = 0;

    while (!stop) {
        scoped_guard (rcu_tasks_trace)
            look(0);
        look(1);
        scoped_guard (rcu_notrace)
            look(1);
        count += 5;
        if (rests && count % 20 == 0)
            usleep(50);
        /* Long enough to be parked on one side, and not on the other. */
        if (rests && count % 1000 == 0)
            for (int i = 0; i < 100; i++) {
                look(count / 1000 % 2);
                usleep(20);
            }
    }
    if (!rests)
        timer_delete(timer);
    sections += count;
    return NULL;
}

static void *short_life(void *unused)
{
    timer_t timer = storm_here();

    for (int i = 0; i < 20; i++) {
        look(i % 3 == 0);
        if (i % 5 == 4)
            rcu_unregister_thread();
    }
    timer_delete(timer);
    threads_run++;
    return unused;
}

static void *churn(void *unused)
{
    while (!stop)
        pthread_join(start(short_life, unused), NULL);
    return NULL;
}

static void poison(struct rcu_head *head)
{
    struct object *old = (struct object *)head;

    atomic_store_explicit(&old->a, POISON, memory_order_relaxed);
    atomic_store_explicit(&old->b, POISON, memory_order_relaxed);
    retired++;
    old->waits = false;
}

static void *updater(void *argument)
{
    int flavour = argument != NULL;
    unsigned next = 1;

    while (!stop) {
        struct object *fresh = &objects[flavour][next % OBJECTS], *old;

        next++;
        if (fresh == shared_object[flavour] || fresh->waits) {
            sched_yield();
            continue;
        }
        atomic_store_explicit(&fresh->a, ALIVE, memory_order_relaxed);
        atomic_store_explicit(&fresh->b, ALIVE, memory_order_relaxed);
        old = rcu_xchg_pointer(&shared_object[flavour], fresh);
        old->waits = true;
        if (next % 4 == 0) {
            if (flavour)
                call_rcu_tasks_trace(&old->head, poison);
            else
                call_rcu(&old->head, poison);
            continue;
        }
        if (flavour)
            synchronize_rcu_tasks_trace();
        else if (next % 2)
            synchronize_rcu();
        else
            synchronize_rcu_expedited();
        poison(&old->head);
    }
    return NULL;
}

/* What the scenarios ask for while it goes on. */
static bool has_had_enough(bool rests)
{
    return retired > 20 && stats().grace_periods > 10 && trace_stats().grace_periods > 10 &&
           (rests || (handler_sections > 100 && storms_in_sections > 10 && threads_run > 3));
}

static void storm(bool rests, unsigned ms)
{
    uint64_t began = now_ns();
    pthread_t threads[READERS + 3];
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};

    sigaction(SIGUSR2, &action, NULL);
    for (int i = 0; i < OBJECTS; i++)
        for (int j = 0; j < 2; j++)
            objects[j][i].a = objects[j][i].b = ALIVE;
    shared_object[0] = &objects[0][0];
    shared_object[1] = &objects[1][0];
    for (int i = 0; i < READERS; i++)
        threads[i] = start(reader, rests ? &stop : NULL);
    threads[READERS] = start(rests ? reader : churn, rests ? &stop : NULL);
    threads[READERS + 1] = start(updater, NULL);
    threads[READERS + 2] = start(updater, &stop);
    if (getenv("STORM_SECONDS"))
        ms = 1000 * (unsigned)atoi(getenv("STORM_SECONDS"));
    /* On a busy machine for longer. */
    do
        sleep_ms(ms);
    while (!has_had_enough(rests) && now_ns() - began < 15000000000);
    stop = true;
    for (int i = 0; i < READERS + 3; i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    rcu_barrier_tasks_trace();
    printf("    sections %lu, in handlers %lu, signals in sections %lu, threads %lu, retired %lu, "
           "poisoned %lu\n",
           sections, handler_sections, storms_in_sections, threads_run, retired, poisoned);
    print_stats();
    print_trace_stats();
    CHECK(poisoned == 0);
    CHECK(sections > 500 && retired > 20);
    CHECK(stats().grace_periods > 10 && trace_stats().grace_periods > 10);
    CHECK(stats().callbacks_run > 0 && trace_stats().callbacks_run > 0);
}

static void a_storm_hits_sections_of_both_flavours_on_the_same_threads(void)
{
    int mode = rcu_notrace_get_ipi_mode();

    storm(false, 1500);
    CHECK(handler_sections > 100 && storms_in_sections > 10 && threads_run > 3);
    CHECK(trace_stats().holdouts > 3 && stats().holdouts > 3);
    CHECK(mode != RCU_NOTRACE_IPI_SIGNAL || trace_stats().ipis > 3);
    CHECK(mode != RCU_NOTRACE_IPI_MEMBARRIER || trace_stats().ipis + stats().ipis == 0);
}

static void readers_of_both_flavours_are_parked_and_come_back(void)
{
    storm(true, 800);
    CHECK(stats().parks > 0 && trace_stats().parks > 0);
}

/* ---- the life of threads and processes -------------------------------------------------------------- */

static void *live_shortly(void *argument)
{
    uintptr_t kind = (uintptr_t)argument;

    for (int i = 0; i < FIRST_SECTIONS + 4; i++) {
        if (kind != 1)
            scoped_guard (rcu_tasks_trace)
                ran++;
        if (kind != 2)
            scoped_guard (rcu_notrace)
                ran++;
    }
    if (kind == 3)
        syscall(SYS_exit, 0);
    return NULL;
}

static void *wait_for_both(void *unused)
{
    while (!stop) {
        synchronize_rcu();
        synchronize_rcu_tasks_trace();
    }
    return unused;
}

static void threads_that_exit_leave_both_registries(void)
{
    pthread_t waiter = start(wait_for_both, NULL);

    for (uintptr_t i = 0; i < 1500; i++)
        pthread_join(start(live_shortly, (void *)(i % 3)), NULL);
    for (uintptr_t i = 0; i < 10; i++) {
        pthread_join(start(live_shortly, (void *)3), NULL);
        /* Found dead before another thread gets its stack. */
        synchronize_rcu();
        synchronize_rcu_tasks_trace();
    }
    stop = true;
    pthread_join(waiter, NULL);
    synchronize_rcu();
    synchronize_rcu_tasks_trace();
    print_trace_stats();
}

static void *exits_inside(void *unused)
{
    for (int i = 0; i <= FIRST_SECTIONS; i++) {
        rcu_read_lock_trace();
        rcu_read_unlock_trace();
    }
    rcu_read_lock_trace();
    return unused;
}

static void a_thread_that_exits_in_a_section_is_reported_and_ends_it(void)
{
    pthread_join(start(exits_inside, NULL), NULL);
    synchronize_rcu_tasks_trace();
}

static atomic_bool waited;

static void *wait_in_child(void *unused)
{
    synchronize_rcu();
    synchronize_rcu_tasks_trace();
    waited = true;
    return unused;
}

static void a_section_around_fork_goes_on_in_both(void)
{
    pthread_t waiter = start(wait_for_both, NULL);

    for (int i = 0; i < 30; i++) {
        struct rcu_head head;
        pid_t child;

        call_rcu_tasks_trace(&head, note_trace);
        rcu_read_lock_trace();
        child = i % 3 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (!child) {
            unsigned long before = trace_ran;
            pthread_t second;

            alarm(10);
            rcu_register_thread();
            second = start(wait_in_child, NULL);
            sleep_ms(5);
            /* A raw clone may have come while the parent's worker sorted or ran it. */
            if (waited || !rcu_read_lock_trace_held() || trace_ran != before)
                _exit(FAIL);
            rcu_read_unlock_trace();
            pthread_join(second, NULL);
            call_rcu_tasks_trace(&(struct rcu_head){NULL, NULL}, note_trace);
            rcu_barrier_tasks_trace();
            rcu_barrier();
            _exit(trace_ran > before ? PASS : FAIL);
        }
        CHECK(rcu_read_lock_trace_held());
        rcu_read_unlock_trace();
        expect_success(child);
        rcu_barrier_tasks_trace();
    }
    stop = true;
    pthread_join(waiter, NULL);
}

/* ---- bad use ---------------------------------------------------------------------------------------- */

static void synchronize_rcu_tasks_trace_in_a_section_of_the_first_flavour(void)
{
    rcu_read_lock_notrace();
    synchronize_rcu_tasks_trace();
    fail("went on");
}

static void synchronize_rcu_tasks_trace_in_a_section_of_its_own(void)
{
    rcu_read_lock_trace();
    synchronize_rcu_tasks_trace();
    fail("went on");
}

static void rcu_barrier_tasks_trace_in_a_section_of_its_own(void)
{
    rcu_read_lock_trace();
    rcu_barrier_tasks_trace();
    fail("went on");
}

static void wait_for_itself(struct rcu_head *head)
{
    (void)head;
    rcu_barrier_tasks_trace();
}

static void rcu_barrier_tasks_trace_in_its_callback(void)
{
    struct rcu_head head;

    call_rcu_tasks_trace(&head, wait_for_itself);
    rcu_barrier_tasks_trace();
    fail("went on");
}

static void an_unlock_without_a_lock_is_caught_by_the_next_grace_period(void)
{
    rcu_read_lock_trace();
    rcu_read_unlock_trace();
    rcu_read_unlock_trace();
    synchronize_rcu_tasks_trace();
    fail("went on");
}

static void an_unlock_without_a_lock_is_caught_by_a_first_lock(void)
{
    called_unlock();
    rcu_read_lock_trace();
    fail("went on");
}

static void unregistering_in_a_section(void)
{
    rcu_read_lock_trace();
    rcu_unregister_thread();
    fail("went on");
}

static void exec_with_statistics(const char *how)
{
    setenv("RCU_NOTRACE_STATS", "1", 1);
    execl("/proc/self/exe", "flavours", how, (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static void statistics_of_both_are_printed_at_exit(void)
{
    exec_with_statistics("--both");
}

int main(int argc, char **argv)
{
#define ABORTS(name, says) {#name, name, SIGABRT, says}
#define SAYS(name, says) {#name, name, 0, says}
#define UNBALANCED "rcu_read_unlock_trace() without rcu_read_lock_trace()"
#define OF_THE_FIRST " inside a section of rcu_read_lock_notrace(): it may wait for somebody who waits for that"
#define INSIDE " inside a read-side critical section: it would wait for its own caller"
    static const struct scenario list[] = {
        SCENARIO(sections_nest_and_know_their_flavour),
        SCENARIO(sections_hold_up_their_own_flavour_only),
        SCENARIO(sections_hold_up_their_own_flavour),
        SCENARIO(one_may_wait_for_the_first_flavour_in_a_section_of_the_second),
        SCENARIO(waits_in_sections_and_waits_for_them_do_not_lock_up),
        SCENARIO(each_flavour_has_its_callbacks_and_its_worker),
        SCENARIO(start_worker_serves_callbacks_of_the_second_flavour_that_wait),
        SCENARIO(a_storm_hits_sections_of_both_flavours_on_the_same_threads),
        SCENARIO(readers_of_both_flavours_are_parked_and_come_back),
        SCENARIO(threads_that_exit_leave_both_registries),
        SAYS(a_thread_that_exits_in_a_section_is_reported_and_ends_it,
             "exits inside a read-side critical section"),
        SCENARIO(a_section_around_fork_goes_on_in_both),
        ABORTS(synchronize_rcu_tasks_trace_in_a_section_of_the_first_flavour,
               "synchronize_rcu_tasks_trace()" OF_THE_FIRST),
        ABORTS(synchronize_rcu_tasks_trace_in_a_section_of_its_own,
               "synchronize_rcu_tasks_trace()" INSIDE),
        ABORTS(rcu_barrier_tasks_trace_in_a_section_of_its_own,
               "rcu_barrier_tasks_trace()" INSIDE),
        ABORTS(rcu_barrier_tasks_trace_in_its_callback,
               "rcu_barrier_tasks_trace() in a callback: it would wait for its own return"),
        ABORTS(an_unlock_without_a_lock_is_caught_by_the_next_grace_period, UNBALANCED),
        ABORTS(an_unlock_without_a_lock_is_caught_by_a_first_lock, UNBALANCED),
        ABORTS(unregistering_in_a_section,
               "rcu_unregister_thread() inside a read-side critical section"),
        SAYS(statistics_of_both_are_printed_at_exit, ": tasks_trace grace_periods 3\n"),
    };

    if (argc > 1 && !strcmp(argv[1], "--both")) {
        for (int i = 0; i < 3; i++)
            synchronize_rcu_tasks_trace();
        return PASS;
    }
    return RUN_SCENARIOS("flavours", list, argc, argv);
}
