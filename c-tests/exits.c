/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The ends of threads: nothing of theirs stays behind, whatever runs on them last. */
#include "steps.h"
#include "test.h"

#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>

static void section(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
}

static atomic_bool inside, ended;

/* A stack of its own mapping: gone, TLS and all, once the thread is joined. */
static void run_on_a_stack_that_goes(void *(*run)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)256 << 20);
    CHECK(pthread_create(&thread, &attributes, run, NULL) == 0);
    pthread_join(thread, NULL);
}

/* ---- exit ------------------------------------------------------------------------------------ */

static pthread_key_t key;
static int destroyed;

/* In the second round, when the library's own has run. */
static void unregister_late(void *round)
{
    if (round == &key) {
        pthread_setspecific(key, (char *)round + 1);
        return;
    }
    rcu_unregister_thread();
    join_by_sections();
    destroyed++;
}

static void *has_a_late_destructor(void *unused)
{
    rcu_register_thread();
    pthread_setspecific(key, &key);
    return unused;
}

static void unregistering_in_a_late_destructor_leaves_nothing_behind(void)
{
    pthread_key_create(&key, unregister_late);
    run_on_a_stack_that_goes(has_a_late_destructor);
    CHECK(destroyed == 1);
    synchronize_rcu();
}

extern void __libc_free(void *);
static __thread bool trace_free;
static atomic_int traced_frees;

/* As tracers have it, some together: sections around what libc frees. */
void free(void *block)
{
    if (trace_free) {
        for (int i = 0; i < 5; i++)
            section();
        traced_frees++;
    }
    __libc_free(block);
}

static void *leaves_something_to_libc(void *unused)
{
    strerror(12345);
    CHECK(!dlopen("there-is-no-such-library.so", RTLD_NOW));
    trace_free = true;
    return unused;
}

static void a_first_section_in_libcs_last_clean_up_leaves_nothing_behind(void)
{
    run_on_a_stack_that_goes(leaves_something_to_libc);
    printf("    %d frees were traced after the exit hooks\n", traced_frees);
    if (traced_frees == 0)
        skip("this libc frees nothing there");
    synchronize_rcu();
}

static void *dies_unseen(void *unused)
{
    rcu_register_thread();
    syscall(SYS_exit, 0);
    return unused;
}

static void *holds_a_section(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    inside = true;
    sleep_ms(100);
    ended = true;
    rcu_read_unlock_notrace();
    return unused;
}

static void the_stack_of_a_thread_that_died_unseen_may_be_used_again(void)
{
    for (int i = 0; i < 3; i++) {
        pthread_t thread;

        inside = ended = false;
        pthread_join(start(dies_unseen, NULL), NULL);
        synchronize_rcu();
        thread = start(holds_a_section, NULL);
        while (!inside)
            ;
        synchronize_rcu();
        CHECK(ended);
        pthread_join(thread, NULL);
        synchronize_rcu();
    }
}

static void *stays_registered(void *unused)
{
    rcu_register_thread();
    inside = true;
    while (!ended)
        sleep_ms(1);
    return unused;
}

static void *registers_and_waits(void *unused)
{
    rcu_register_thread();
    synchronize_rcu();
    return unused;
}

static void on_this_stack(void *stack, void *(*run)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, 1 << 20);
    CHECK(!pthread_create(&thread, &attributes, run, NULL));
    pthread_join(thread, NULL);
}

/* One block is listed twice then, unless its first entry happens to be the first of all. */
static void and_may_go_with_the_thread_that_used_it_again(void)
{
    pthread_t first = start(stays_registered, NULL);

    while (!inside)
        ;
    synchronize_rcu();
    for (int i = 0; i < 3; i++) {
        void *stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(stack != MAP_FAILED);
        on_this_stack(stack, dies_unseen);
        synchronize_rcu();
        on_this_stack(stack, registers_and_waits);
        munmap(stack, 1 << 20);
        /* Whoever is listed still is looked at. */
        for (int j = 0; j < 12; j++)
            synchronize_rcu();
    }
    ended = true;
    pthread_join(first, NULL);
}

/* ---- the last round ---------------------------------------------------------------------------- */

/* A key of somebody's that was created after ours. Its destructor asks for another round until the last, in which
 * the thread has its first sections. */
static pthread_key_t late_key;
static bool registers;
static atomic_int last_rounds;

static void in_the_last_round(void *round)
{
    if ((uintptr_t)round < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(late_key, (char *)round + 1);
        return;
    }
    last_rounds++;
    if (registers)
        rcu_register_thread();
    else
        join_by_sections();
}

static void *ends_in_four_rounds(void *unused)
{
    pthread_setspecific(late_key, (void *)1);
    return unused;
}

static void a_first_section_in_the_last_round_of_destructors_leaves_nothing_behind(void)
{
    enum { THREADS = 20 };

    CHECK(!pthread_key_create(&late_key, in_the_last_round));
    for (int i = 0; i < THREADS; i++) {
        registers = i % 2;
        run_on_a_stack_that_goes(ends_in_four_rounds);
        synchronize_rcu();
    }
    printf("    threads %d\n", last_rounds);
    CHECK(last_rounds == THREADS);
}


/* ---- signal handlers after the last destructor ------------------------------------------------- */

#if defined(__x86_64__)
/* What is left of a thread when its function has returned, in single steps; a handler has its first sections
 * between two of them. How many there are, to where libc blocks all signals; SIGTRAP ends the process there. */
static unsigned long *steps;
static atomic_ulong late;
static pthread_key_t last_key;
static __thread bool has_been_destroyed;

static void destroy(void *unused)
{
    (void)unused;
    has_been_destroyed = true;
}

static void count_step(void)
{
    *steps = step;
}

/* Behind them libc frees what it has of the thread, and that is traced. */
static void have_first_sections(void)
{
    late += has_been_destroyed;
    join_by_sections();
    trace_free = true;
}

static void *ends_in_steps(void *place)
{
    target = *(unsigned long *)place;
    pthread_setspecific(last_key, &last_key);
    STEPS_ON();
    return NULL;
}

static void end_in_steps(unsigned long place)
{
    pthread_attr_t attributes;
    pthread_t thread;
    size_t size = 1 << 20;
    void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(stack != MAP_FAILED);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, size);
    CHECK(!pthread_create(&thread, &attributes, ends_in_steps, &place));
    pthread_join(thread, NULL);
    munmap(stack, size);
}

static void steps_of_an_end(void)
{
    uint64_t began = now_ns();
    unsigned long rounds = 0;
    pid_t child;

    steps = mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(steps != MAP_FAILED);
    CHECK(!pthread_key_create(&last_key, destroy));
    catch_traps(0);
    at_each = count_step;
    at_target = have_first_sections;
    /* The first end is longer. */
    end_in_steps(0);
    child = fork();
    if (!child) {
        end_in_steps(ULONG_MAX);
        _exit(PASS);
    }
    waitpid(child, NULL, 0);
    CHECK(*steps > 100);
    at_each = NULL;
    /* Other ones each time, all of them where seconds are not short. */
    for (; rounds < *steps; rounds++) {
        if (rounds >= 40 && now_ns() - began > 1000000000 && !getenv("SCENARIO_SECONDS"))
            break;
        end_in_steps(place_of(rounds, *steps));
        synchronize_rcu();
    }
    printf("    %lu of %lu steps, %lu behind the last destructor\n", rounds, *steps, late);
    CHECK(late > 10);
}
#else
static void steps_of_an_end(void)
{
    skip("no trap flag on this processor");
}
#endif

static void a_handlers_first_sections_at_each_step_of_a_threads_end_leave_nothing_behind(void)
{
    steps_of_an_end();
}

/* ---- threads that block a signal all their life ------------------------------------------------ */

/* Sections to have, of which each order makes more. */
static atomic_int ordered, done;

static void *blocks_a_signal(void *unused)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (!ended) {
        if (done == ordered)
            sleep_ms(1);
        for (; done < ordered; done++)
            section();
    }
    return unused;
}

/* Who is listed and idle is parked by and by. */
static bool is_listed_after(int sections)
{
    uint64_t parks = stats().parks;

    ordered = sections;
    while (done < sections)
        sleep_ms(1);
    for (int i = 0; i < 50; i++)
        synchronize_rcu();
    return stats().parks > parks;
}

/* They cannot be told from handlers, but by having more sections than a handler has. */
static void a_thread_that_blocks_a_signal_is_listed_after_a_thousand_sections(void)
{
    pthread_t thread = start(blocks_a_signal, NULL);

    CHECK(!is_listed_after(1024));
    CHECK(is_listed_after(1025));
    ended = true;
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(unregistering_in_a_late_destructor_leaves_nothing_behind),
        SCENARIO(a_first_section_in_the_last_round_of_destructors_leaves_nothing_behind),
        SCENARIO(a_first_section_in_libcs_last_clean_up_leaves_nothing_behind),
        SCENARIO(a_handlers_first_sections_at_each_step_of_a_threads_end_leave_nothing_behind),
        SCENARIO(a_thread_that_blocks_a_signal_is_listed_after_a_thousand_sections),
        SCENARIO(the_stack_of_a_thread_that_died_unseen_may_be_used_again),
        SCENARIO(and_may_go_with_the_thread_that_used_it_again),
    };

    return RUN_SCENARIOS("exits", list, argc, argv);
}
