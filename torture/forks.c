/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Processes that come and go: children of fork() read, update, queue callbacks, start threads, check what they
 * counted, and say by their status how it went; children of vfork() and posix_spawn() become /bin/true.
 */
#include "torture.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;

struct shared *children;

void forks_begin(void)
{
    children = mmap(NULL, sizeof(*children), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (children == MAP_FAILED)
        abort();
}

/* ---- in the child ------------------------------------------------------------------------------------------ */

enum { CALLS = 8, TURNS = 20 };

struct call {
    struct rcu_head head;
    unsigned *called;
};

static void call_called(struct rcu_head *head)
{
    struct call *call = (struct call *)(void *)head;

    __atomic_fetch_add(call->called, 1, __ATOMIC_SEQ_CST);
    free(call);
}

static void *second_thread(void *unused)
{
    tally_begin("in a child's second thread");
    for (int i = 0; i < TURNS; i++) {
        random_section();
        if (i % 8 == 0)
            synchronize_rcu();
    }
    tally_end();
    return unused;
}

static void update_in_child(struct flavour *f)
{
    const uint64_t before = stats_of(f).grace_periods;
    struct element *removed[TURNS], *fresh;
    unsigned count = 0;

    for (int turn = 0; turn < TURNS; turn++) {
        fresh = element_get(f);
        if (!fresh)
            break;
        removed[count++] = element_replace(f, fresh);
        short_section((unsigned)(f - flavours));
        if (turn % 2)
            f->synchronize();
        else
            f->synchronize_expedited();
        for (unsigned i = 0; i < count;)
            if (element_age(f, removed[i]))
                removed[i] = removed[--count];
            else
                i++;
    }
    if (count < RCU_TORTURE_PIPE_LEN / 2)
        failure("a child has no elements left");
    children->grace_periods += stats_of(f).grace_periods - before;
}

static void call_in_child(struct flavour *f)
{
    static unsigned called;
    struct rcu_notrace_stats s;

    called = 0;
    for (int i = 0; i < CALLS; i++) {
        struct call *call = malloc(sizeof(*call));

        if (!call)
            failure("a child has no memory");
        else
            call->called = &called, f->call(&call->head, call_called);
    }
    f->barrier();
    if (called != CALLS)
        failure("%s: %u of %d callbacks of a child were called after rcu_barrier", f->name, called, CALLS);
    /* What the parent had queued, and what that queues. */
    for (int round = 0; round <= RCU_TORTURE_PIPE_LEN + 1; round++) {
        s = stats_of(f);
        if (s.callbacks_queued == s.callbacks_run)
            break;
        f->barrier();
    }
    if (s.callbacks_queued != s.callbacks_run)
        failure("%s: a child has queued %llu callbacks and run %llu", f->name,
                (unsigned long long)s.callbacks_queued, (unsigned long long)s.callbacks_run);
    children->callbacks += CALLS;
}

__attribute__((noreturn)) static void child(struct element *const *held)
{
    unsigned long cookie = get_state_synchronize_rcu();
    uint64_t before = 0, after = 0;
    pthread_t thread;
    bool threads = one_in(2);

    in_child = true;
    alarm(options.watchdog / 2);
    for (unsigned f = 0; f < FLAVOURS; f++)
        before += counts()->sections[f];
    if (held) {
        if (has(NOTRACE) && (!rcu_read_lock_held() || poll_state_synchronize_rcu(cookie)))
            failure("a section did not go on in the child of a fork");
        for (unsigned f = 0; f < FLAVOURS; f++)
            if (has(f))
                element_judge(counts(), f, held[f]);
        if (has(NOTRACE))
            rcu_read_unlock_notrace();
        if (has(TRACE))
            rcu_read_unlock_trace();
    }
    if (threads)
        thread = start(second_thread, NULL);
    for (unsigned f = 0; f < FLAVOURS; f++) {
        if (!has(f))
            continue;
        update_in_child(&flavours[f]);
        if (options.with[CALLBACKS])
            call_in_child(&flavours[f]);
    }
    cond_synchronize_rcu(cookie);
    if (!poll_state_synchronize_rcu(cookie))
        failure("a cookie of a child has not passed");
    for (int i = 0; i < TURNS; i++)
        random_section();
    if (threads)
        pthread_join(thread, NULL);
    for (unsigned f = 0; f < FLAVOURS; f++)
        after += counts()->sections[f];
    if (after - before < TURNS)
        failure("a child counts %llu sections", (unsigned long long)(after - before));
    children->sections += after - before + (threads ? TURNS : 0);
    _exit(failures ? 1 : 0);
}

/* ---- in the parent ------------------------------------------------------------------------------------------ */

static void expect_success(pid_t pid, const char *what)
{
    int status;

    if (pid < 0) {
        failure("%s: %s", what, strerror(errno));
        return;
    }
    beat(what);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) {
            failure("waitpid: %s", strerror(errno));
            return;
        }
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        failure("%s ended with status %#x", what, (unsigned)status);
}

/* A fork waits for a callback's end for a tenth of a second. */
enum { LONG_MS = 90 };
static uint64_t fork_begun;

static void see_how_long_it_waited(void)
{
    fork_was_impatient = now_ns() - fork_begun > LONG_MS * UINT64_C(1000000);
}

/* Registered before the library's, and so called behind it. */
static void register_first(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv, (void)environment;
    pthread_atfork(see_how_long_it_waited, NULL, NULL);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) =
    register_first;

static void fork_once(void)
{
    const bool inside = one_in(2);
    struct element *held[FLAVOURS];
    pid_t pid;

    if (inside) {
        if (has(NOTRACE))
            rcu_read_lock_notrace();
        if (has(TRACE))
            rcu_read_lock_trace();
        for (unsigned f = 0; f < FLAVOURS; f++)
            held[f] = rcu_dereference(flavours[f].current);
    }
    /* A timer signal makes fork() start over: it might never get anywhere. */
    timers_mask(true);
    tally_lock();
    fork_begun = now_ns();
    pid = fork();
    tally_unlock();
    if (!pid)
        child(inside ? held : NULL);
    timers_mask(false);
    if (inside) {
        for (unsigned f = 0; f < FLAVOURS; f++)
            if (has(f))
                element_judge(counts(), f, held[f]);
        if (has(NOTRACE))
            rcu_read_unlock_notrace();
        if (has(TRACE))
            rcu_read_unlock_trace();
        cover(FORKED_IN_SECTION);
    }
    cover(FORKED);
    expect_success(pid, "a child of fork");
}

static char *const arguments[] = {(char *)(uintptr_t) "true", NULL};

/* The child runs on its parent's stack and thread-local storage, and reads there: the thread's first sections may be
 * the child's. They are all counted here. */
static void *vfork_and_read(void *unused)
{
    pid_t pid;

    tally_begin("vfork");
    pid = vfork();
    if (!pid) {
        for (unsigned n = below(8); n; n--)
            for (unsigned f = 0; f < FLAVOURS; f++)
                if (has(f))
                    short_section(f);
        execve("/bin/true", arguments, environ);
        _exit(127);
    }
    cover(VFORKED);
    for (int n = 0; n < TURNS; n++)
        random_section();
    expect_success(pid, "a child of vfork");
    for (int n = 0; n < TURNS; n++)
        random_section();
    tally_end();
    return unused;
}

static void vfork_once(void)
{
    pthread_t thread = start(vfork_and_read, NULL);

    pthread_join(thread, NULL);
}

static void spawn_once(void)
{
    pid_t pid = -1;
    const int error = posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ);

    if (error) {
        failure("posix_spawn: %s", strerror(error));
        return;
    }
    cover(SPAWNED);
    expect_success(pid, "a child of posix_spawn");
}

void *forker(void *unused)
{
    struct timers timers;

    timers_start(&timers);
    while (!stopping()) {
        beat("forking");
        stutter_wait();
        switch (below(4)) {
        case 0:
            vfork_once();
            break;
        case 1:
            spawn_once();
            break;
        default:
            fork_once();
        }
        rest_ms(below(20));
    }
    timers_stop(&timers);
    return unused;
}
