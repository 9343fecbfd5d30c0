/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Functions that are left and entered in all ways: each result is checked. Prints, for each group
 * `name_...` of functions, how many of its entries and exits there must be.
 */
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <execinfo.h>
#include <pthread.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winfinite-recursion" /* those that end otherwise */
#endif
/* Compiled with -fno-optimize-sibling-calls, so that the other functions are what they say. */
#ifdef __clang__
#define JUMPING
#else
#define JUMPING __attribute__((optimize("O2", "optimize-sibling-calls")))
#endif
#define SILENT __attribute__((no_instrument_function))

SILENT static void expect(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "functions: %s\n", what);
        exit(1);
    }
}

extern "C" {

/* ---- arguments and results ------------------------------------------------------------------- */

APART long double args_mixed(int a, double b, const char *c, float d, long e, long f, long g, long h, double i,
                             double j, double k, double l, double m, double n, long double o)
{
    return a + b + (long double)strlen(c) + d + e + f + g + h + i + j + k + l + m + n + o;
}

APART double args_varying(const char *kinds, ...)
{
    double sum = 0;
    va_list list;

    va_start(list, kinds);
    for (; *kinds; kinds++)
        sum += *kinds == 'd' ? va_arg(list, double) : (double)va_arg(list, int);
    va_end(list);
    return sum;
}

struct args_pair {
    double a;
    long b;
};
APART struct args_pair args_two(double a, long b)
{
    return {a * 2, b * 2};
}

APART __int128 args_wide(__int128 a)
{
    return a * 3;
}

#ifdef __x86_64__
__attribute__((target("avx"))) APART __m256d args_vector(__m256d a, __m256d b)
{
    return _mm256_sub_pd(a, b);
}

__attribute__((target("avx"))) SILENT static void check_vectors()
{
    double result[4];

    for (int i = 0; i < 1000; i++) {
        _mm256_storeu_pd(result, args_vector(_mm256_set_pd(4, 3, 2, i), _mm256_set_pd(1, 1, 1, 1)));
        expect(result[0] == i - 1 && result[1] == 1 && result[2] == 2 && result[3] == 3, "vectors");
    }
}
#endif

/* ---- ways of leaving ------------------------------------------------------------------------- */

static jmp_buf jump;
static sigjmp_buf signal_jump;

APART int jump_down(int depth)
{
    if (!depth)
        longjmp(jump, 1);
    return jump_down(depth - 1) + 1;
}

APART int throw_down(int depth);
APART int catch_it(int depth);

APART long deep_recursion(long depth)
{
    return depth ? deep_recursion(depth - 1) + 1 : 0;
}

APART int tail_end(int a)
{
    return a * 3;
}
APART JUMPING int tail_begin(int a)
{
    return tail_end(a + 1);
}

static volatile int signals;
APART void signal_count(int)
{
    signals = signals + 1;
}
APART void signal_raise()
{
    raise(SIGUSR1);
}
APART void signal_leave(int)
{
    siglongjmp(signal_jump, 1);
}

APART int thread_depth(int depth)
{
    __asm__ volatile(""); /* or it is called once */
    return depth ? thread_depth(depth - 1) + 1 : 0;
}
SILENT static void *thread_main(void *)
{
    for (int i = 0; i < 100; i++)
        expect(thread_depth(50) == 50, "a thread's result");
    return nullptr;
}

static int left;
struct leaving {
    int *count;
    SILENT ~leaving()
    {
        ++*count;
    }
};
APART int exit_down(int depth)
{
    leaving mark{&left};

    if (!depth)
        pthread_exit(nullptr);
    return exit_down(depth - 1) + 1;
}
SILENT static void *exiting(void *)
{
    exit_down(10);
    return nullptr;
}
static int ready;
APART int cancel_down(int depth)
{
    leaving mark{&left};

    if (!depth) {
        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
        for (;;)
            pause();
    }
    return cancel_down(depth - 1) + 1;
}
SILENT static void *cancelled(void *)
{
    cancel_down(10);
    return nullptr;
}

/* Two stacks, gone on with in turns, each in the midst of its calls. */
static ucontext_t contexts[3];
static int turns;
APART int turn_down(int me, int depth)
{
    int result;

    if (depth)
        return turn_down(me, depth - 1) + 1;
    for (int i = 0; i < 100; i++) {
        turns++;
        result = swapcontext(&contexts[me], &contexts[3 - me]);
        expect(!result, "swapcontext");
    }
    return 0;
}
SILENT static void turn_main(int me)
{
    expect(turn_down(me, 5) == 5, "a coroutine's result");
}

APART int trace_down(int depth)
{
    void *addresses[100];

    return depth ? trace_down(depth - 1) + 0 * depth : backtrace(addresses, 100);
}
}

struct error {
    int depth;
};
static int destroyed;
struct guard {
    SILENT ~guard()
    {
        destroyed++;
        /* Instrumented calls in the midst of unwinding, and exceptions too. */
        expect(tail_begin(1) == 6, "in a destructor");
        try {
            throw 1;
        } catch (int) {
        }
    }
};
int throw_down(int depth)
{
    guard mark;

    if (!depth)
        throw error{7};
    return throw_down(depth - 1) + 1;
}
int catch_it(int depth)
{
    try {
        return throw_down(depth);
    } catch (const error &e) {
        return e.depth;
    }
}

/* With the rest of the program's frames above: they must be found where they were left. */
SILENT static int leave_by_jump()
{
    for (volatile int i = 0; i < 100; i = i + 1)
        if (!setjmp(jump))
            jump_down(20);
    return 7;
}

SILENT static void *recurse(void *)
{
    expect(deep_recursion(1000000) == 1000000, "deep recursion");
    return nullptr;
}

SILENT static void in_thread(void *(*function)(void *), size_t stack, bool cancel)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    expect(!pthread_create(&thread, &attributes, function, nullptr), "pthread_create");
    if (cancel) {
        while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
            usleep(100);
        pthread_cancel(thread);
    }
    pthread_join(thread, nullptr);
}

SILENT static void check_signals()
{
    static char stack[65536];
    stack_t alternate = {};
    struct sigaction action = {};

    alternate.ss_sp = stack;
    alternate.ss_size = sizeof(stack);
    sigaltstack(&alternate, nullptr);
    action.sa_handler = signal_count;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, nullptr);
    for (int i = 0; i < 100; i++)
        signal_raise();
    expect(signals == 100, "signals");
    action.sa_handler = signal_leave;
    sigaction(SIGUSR1, &action, nullptr);
    for (volatile int i = 0; i < 100; i = i + 1)
        if (!sigsetjmp(signal_jump, 1))
            signal_raise();
}

SILENT static void check_turns()
{
    static char stacks[3][65536];

    for (int me = 1; me <= 2; me++) {
        getcontext(&contexts[me]);
        contexts[me].uc_stack.ss_sp = stacks[me];
        contexts[me].uc_stack.ss_size = sizeof(stacks[me]);
        contexts[me].uc_link = me == 1 ? &contexts[2] : &contexts[0];
        makecontext(&contexts[me], (void (*)())(void *)turn_main, 1, me);
    }
    swapcontext(&contexts[0], &contexts[1]);
    expect(turns == 200, "turns");
}

int main(int, char **argv)
{
    bool deep = argv[1] && !strcmp(argv[1], "deep");
    const char *unwound = argv[1] && argv[2] ? "some" : "all";
    int with, without, vectors = 0;

    for (int i = 0; i < 1000; i++) {
        args_pair pair = args_two(i, i);

        expect(args_mixed(1, 2.5, "abc", 4.25f, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15.5L) == 121.25L, "mixed");
        expect(args_varying("idid", 1, 2.5, 3, i + 0.5) == 7 + i, "varying");
        expect(pair.a == 2 * i && pair.b == 2 * i, "a pair");
        expect(args_wide((__int128)1 << 100) == (__int128)3 << 100, "wide");
    }
#ifdef __x86_64__
    vectors = __builtin_cpu_supports("avx") != 0;
    if (vectors)
        check_vectors();
#endif
    expect(leave_by_jump() == 7, "after longjmp");
    for (int i = 0; i < 100; i++)
        expect(catch_it(20) == 7, "caught");
    expect(destroyed == 2100, "destructors");
    for (int i = 0; i < 100; i++)
        expect(tail_begin(i) == (i + 1) * 3, "a tail call");
    check_signals();
    for (int i = 0; i < 4; i++)
        in_thread(thread_main, 1 << 20, false);
    in_thread(exiting, 1 << 20, false);
    expect(left == 11, "pthread_exit");
    in_thread(cancelled, 1 << 20, true);
    expect(left == 22, "pthread_cancel");
    check_turns();
    with = trace_down(20), without = trace_down(0);
    expect(with - without == 20, "backtrace");
    if (deep)
        in_thread(recurse, 512 << 20, false);

    /* clang's -finstrument-functions has no exit where an exception passes. */
    printf("args %d all\njump 2100 none\nthrow 2100 %s\ncatch 100 all\ntail 4400 all\n"
           "signal 400 some\nthread 20400 all\nexit 11 %s\ncancel 11 %s\nturn 12 all\ntrace 22 all\n"
           "deep %d all\n", vectors ? 5000 : 4000, unwound, unwound, unwound, deep ? 1000001 : 0);
    return 0;
}
