/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rcu-notrace: read-copy-update whose read side may be called from anywhere.
 *
 * C99, C11, C++11 and later, GCC and clang. The functions that are not inlined are declared in
 * rcu_notrace/abi.h; what all of them promise is said here.
 *
 *                                                 signal    under malloc's,   allocates  blocks
 *                                                 handler   loader's locks
 *   rcu_read_lock_notrace, rcu_read_unlock_notrace,
 *   rcu_read_lock_trace, rcu_read_unlock_trace,
 *   rcu_read_lock_held, rcu_read_lock_trace_held,
 *   rcu_dereference, rcu_access_pointer,
 *   rcu_assign_pointer, rcu_xchg_pointer,
 *   rcu_cmpxchg_pointer                           yes       yes               no         no
 *   get_state_synchronize_rcu,
 *   start_poll_synchronize_rcu,
 *   start_poll_synchronize_rcu_expedited,
 *   poll_state_synchronize_rcu,
 *   get_completed_synchronize_rcu,
 *   same_state_synchronize_rcu; and their _full   yes       yes               no         no
 *   call_rcu, call_rcu_tasks_trace, free_rcu      yes       yes               no         no (3)
 *   rcu_notrace_get_ipi_mode,
 *   rcu_notrace_get_stats,
 *   rcu_tasks_trace_get_stats                     yes (1)   yes (1)           no         no
 *   rcu_notrace_set_ipi_mode,
 *   rcu_notrace_set_exit_policy,
 *   rcu_notrace_set_stall_ms,
 *   rcu_notrace_set_stall_handler,
 *   rcu_notrace_set_signal_hook                   no        no                no         no
 *   rcu_register_thread, rcu_notrace_start_worker no        no                may        no
 *   rcu_unregister_thread                         no        no                no         briefly (2)
 *   synchronize_rcu, synchronize_rcu_expedited,
 *   cond_synchronize_rcu,
 *   cond_synchronize_rcu_expedited, rcu_barrier,
 *   synchronize_rcu_tasks_trace,
 *   rcu_barrier_tasks_trace; and their _full      no        no                may (4)    yes
 *
 *   (1) once the library has started: its constructor ran, or a thread waited or registered
 *   (2) for another thread's scan of the registered threads, microseconds
 *   (3) but a caller that floods sleeps for at most 0.1 s in a thousand calls: see call_rcu
 *   (4) when callbacks wait and their worker thread is to be created
 *
 * tests/closure.rs reads this table and its likes: whatever the library exports that no line has with a
 * `no` in the first column is audited for signal handlers. Calls of the library are made by the GOT, not by
 * the PLT, whose lazy binding runs the dynamic loader; clang must be told so (-fno-plt, or -Wl,-z,now).
 *
 * Compile-time switches, before this header is included:
 *   RCU_NOTRACE_STATIC     librcu_notrace.a is linked into the very executable that this code
 *                          becomes part of: the state word has a constant address. Not for code
 *                          of shared objects (the linker refuses).
 *   RCU_NOTRACE_DEBUG      each unlock checks that there was a lock: message and abort at once.
 *   RCU_NOTRACE_NO_INLINE  lock and unlock are calls of the library's functions.
 *   RCU_NOTRACE_NO_GUARD   does not define the macros guard and scoped_guard (C++ never has them
 *                          unless RCU_NOTRACE_GUARD is defined: the names are too common there).
 *   RCU_NOTRACE_PORTABLE   the two-word reader, against a library built with that feature.
 *   RCU_NOTRACE_NO_TSAN    with -fsanitize=thread: ThreadSanitizer is not told what RCU orders (see
 *                          rcu_notrace/tsan.h, which is nothing otherwise).
 */
#ifndef RCU_NOTRACE_H
#define RCU_NOTRACE_H

#include <stddef.h>

/* There synchronize_rcu(), call_rcu() and others are macros: liburcu's, which wait for none of these sections. */
#if defined(URCU_API_MAP) && defined(synchronize_rcu)
#error "<rcu_notrace.h> behind a flavour header of liburcu (<urcu.h>), which renames synchronize_rcu() and others"
#endif

/* The same names in liburcu's headers, for which theirs come first (rcu_notrace/urcu.h). */
#ifndef _URCU_CALL_RCU_H
/* What a caller of call_rcu() provides, in the memory that is to be freed, say. 16 bytes. */
struct rcu_head {
    struct rcu_head *next;
    void (*func)(struct rcu_head *head);
};
#endif

/* Includes rcu_notrace/abi.h. */
#include <rcu_notrace/tsan.h>

#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
#elif defined(__linux__) && defined(__aarch64__)
#ifndef RCU_NOTRACE_PORTABLE
#define RCU_NOTRACE_PORTABLE 1
#endif
#else
#error "rcu-notrace runs on 64-bit Linux on x86-64 and aarch64"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what inlined code needs; not for direct use ------------------------------------------- */

/* Inlined always, so that no instrumentation (-finstrument-functions, -pg, XRay,
 * -fpatchable-function-entry) finds a function here to hook. */
#define RCU_NOTRACE_INLINE \
    static inline __attribute__((always_inline, no_instrument_function, unused))

#ifdef RCU_NOTRACE_STATIC
#define RCU_NOTRACE_TLS __attribute__((tls_model("local-exec")))
#else
#define RCU_NOTRACE_TLS __attribute__((tls_model("initial-exec")))
#endif

#ifdef __cplusplus
#define RCU_NOTRACE_STATIC_ASSERT(condition, text) static_assert(condition, text)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define RCU_NOTRACE_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#else
#define RCU_NOTRACE_STATIC_ASSERT(condition, text) \
    extern char rcu_notrace_static_assertion[(condition) ? 1 : -1]
#endif
RCU_NOTRACE_STATIC_ASSERT(sizeof(struct rcu_notrace_reader) == 64 &&
                              offsetof(struct rcu_notrace_reader, state) == 0 &&
                              offsetof(struct rcu_notrace_reader, settled) == 4,
                          "the library's Reader");

#ifdef RCU_NOTRACE_PORTABLE
extern __thread struct rcu_notrace_reader rcu_notrace_reader2[2] RCU_NOTRACE_TLS;
#define rcu_notrace_this_reader rcu_notrace_reader2[0]
#define rcu_trace_this_reader rcu_notrace_reader2[1]
#define RCU_NOTRACE_NESTING(word) (word)
RCU_NOTRACE_NOPLT void rcu_notrace_lock_slow2(void);
RCU_NOTRACE_NOPLT void rcu_notrace_unlock_slow2(void);
RCU_NOTRACE_NOPLT void rcu_trace_lock_slow2(void);
RCU_NOTRACE_NOPLT void rcu_trace_unlock_slow2(void);
#else
extern __thread struct rcu_notrace_reader rcu_notrace_reader[2] RCU_NOTRACE_TLS;
#define rcu_notrace_this_reader rcu_notrace_reader[0]
#define rcu_trace_this_reader rcu_notrace_reader[1]
#define RCU_NOTRACE_NESTING(word) ((word)&0xffffff)
#ifdef __clang__
#define RCU_NOTRACE_COLD
#else
#define RCU_NOTRACE_COLD __attribute__((cold))
#endif
/* A thread-local word as an operand has its address computed into a register first; where that is
 * a constant, name it. */
#ifdef RCU_NOTRACE_STATIC
#define RCU_NOTRACE_WORD(offset) "%%fs:rcu_notrace_reader@tpoff+" #offset
#define RCU_NOTRACE_OPERAND(reader)
#else
#define RCU_NOTRACE_WORD(offset) "%0"
#define RCU_NOTRACE_OPERAND(reader) "m"((reader).state)
#endif
/* The slow paths preserve every register, so that the code around them has nothing to spill.
 * They are called past the red zone and by the GOT. */
#define RCU_NOTRACE_CALL(slow) \
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t" \
                     "call *" slow "@GOTPCREL(%%rip)\n\t" \
                     "leaq 128(%%rsp), %%rsp" \
                     : \
                     : \
                     : "memory", "cc")
#endif

/* The read side of a flavour: its reader, that reader's offset, and its slow paths. */
#ifdef RCU_NOTRACE_PORTABLE
#define RCU_NOTRACE_LOCK(this_reader, offset, slow_path) \
    do { \
        struct rcu_notrace_reader *reader = &(this_reader); \
        __atomic_store_n(&reader->state, __atomic_load_n(&reader->state, __ATOMIC_RELAXED) + 1, \
                         __ATOMIC_RELAXED); \
        __atomic_signal_fence(__ATOMIC_SEQ_CST); \
        if (__builtin_expect(!__atomic_load_n(&reader->settled, __ATOMIC_RELAXED), 0)) \
            slow_path##2(); \
        __atomic_signal_fence(__ATOMIC_SEQ_CST); \
    } while (0)
#define RCU_NOTRACE_UNLOCK(this_reader, offset, slow_path) \
    do { \
        struct rcu_notrace_reader *reader = &(this_reader); \
        int32_t nesting = __atomic_load_n(&reader->state, __ATOMIC_RELAXED) - 1; \
        __atomic_signal_fence(__ATOMIC_SEQ_CST); \
        __atomic_store_n(&reader->state, nesting, __ATOMIC_RELEASE); \
        __atomic_signal_fence(__ATOMIC_SEQ_CST); \
        if (__builtin_expect( \
                nesting == 0 && !__atomic_load_n(&reader->settled, __ATOMIC_RELAXED), 0)) \
            slow_path##2(); \
    } while (0)
#else
#define RCU_NOTRACE_ON_WORD(instruction, this_reader, offset, slow_path) \
    __asm__ goto(instruction \
                 : \
                 : RCU_NOTRACE_OPERAND(this_reader) \
                 : "memory", "cc" \
                 : slow); \
    return; \
    slow: \
    RCU_NOTRACE_COLD; \
    RCU_NOTRACE_CALL(#slow_path)
#define RCU_NOTRACE_LOCK(this_reader, offset, slow_path) \
    RCU_NOTRACE_ON_WORD("incl " RCU_NOTRACE_WORD(offset) "\n\tjns %l[slow]", this_reader, offset, \
                        slow_path)
#define RCU_NOTRACE_UNLOCK(this_reader, offset, slow_path) \
    RCU_NOTRACE_ON_WORD("decl " RCU_NOTRACE_WORD(offset) "\n\tjz %l[slow]", this_reader, offset, \
                        slow_path)
#endif

/* How deep in sections the thread is. */
#define RCU_NOTRACE_DEPTH(reader) \
    RCU_NOTRACE_NESTING(__atomic_load_n(&(reader).state, __ATOMIC_RELAXED))

/* ---- the read side -------------------------------------------------------------------------- */

/* Its assembly is in AT&T's syntax, which -masm=intel does not take: RCU_NOTRACE_NO_INLINE and, with tracepoints,
 * RCU_NOTRACE_NO_JUMP_LABELS have none. */

#if defined(RCU_NOTRACE_TSAN)
/* Not inlined, and beside each what ThreadSanitizer is told. */
RCU_NOTRACE_TSAN_WRAPPER(void, rcu_read_lock_notrace, (void))
{
    RCU_NOTRACE_TSAN_LOCK(rcu_read_lock_notrace, synchronize_rcu, RCU_NOTRACE_DEPTH(rcu_notrace_this_reader));
}

RCU_NOTRACE_TSAN_WRAPPER(void, rcu_read_unlock_notrace, (void))
{
#ifdef RCU_NOTRACE_DEBUG
    rcu_notrace_check_unlock();
#endif
    RCU_NOTRACE_TSAN_UNLOCK(rcu_read_unlock_notrace, RCU_NOTRACE_DEPTH(rcu_notrace_this_reader));
}

RCU_NOTRACE_TSAN_WRAPPER(void, rcu_read_lock_trace, (void))
{
    RCU_NOTRACE_TSAN_LOCK(rcu_read_lock_trace, synchronize_rcu_tasks_trace,
                          RCU_NOTRACE_DEPTH(rcu_trace_this_reader));
}

RCU_NOTRACE_TSAN_WRAPPER(void, rcu_read_unlock_trace, (void))
{
#ifdef RCU_NOTRACE_DEBUG
    rcu_trace_check_unlock();
#endif
    RCU_NOTRACE_TSAN_UNLOCK(rcu_read_unlock_trace, RCU_NOTRACE_DEPTH(rcu_trace_this_reader));
}
#elif defined(RCU_NOTRACE_NO_INLINE)
RCU_NOTRACE_NOPLT void rcu_read_lock_notrace(void);
RCU_NOTRACE_NOPLT void rcu_read_unlock_notrace(void);
RCU_NOTRACE_NOPLT void rcu_read_lock_trace(void);
RCU_NOTRACE_NOPLT void rcu_read_unlock_trace(void);
#else

/*
 * rcu_read_lock_notrace - begin a read-side critical section
 *
 * Until the matching rcu_read_unlock_notrace(), what rcu_dereference() returns is not freed by
 * those who wait with synchronize_rcu() before they free. Sections nest, to 2^24. A section may be
 * preempted, may block and may be interrupted; grace periods wait for it, so keep it short.
 *
 * Context: any. Signal handlers, under any lock, in constructors that run before this library's,
 * in destructors that run after a thread's exit from it. No errors. A thread's sections register
 * it, with no lock and no allocation: its first 32 are counted, the next puts it on the list. While
 * a signal is blocked, as it is in handlers, a thread has a thousand of them before.
 *
 * Cost: increment and branch. Until the thread is on the list about 0.3 us more; in the first
 * section after it was idle for long 0.1 us. One of a thread's first sections calls
 * pthread_setspecific(3), which somebody may trace; rcu_register_thread() does it before.
 *
 * Kernel: rcu_read_lock_notrace(), proposed. liburcu: rcu_read_lock().
 */
RCU_NOTRACE_INLINE void rcu_read_lock_notrace(void)
{
    RCU_NOTRACE_LOCK(rcu_notrace_this_reader, 0, rcu_notrace_lock_slow);
}

/*
 * rcu_read_unlock_notrace - end a read-side critical section
 *
 * Context: any. The outermost unlock reports the quiescent state that a waiter asked for, then and
 * there: a system call only if the waiter sleeps and this reader is the last that it waits for, or if it was lent the
 * waiter's priority, which it gives back.
 *
 * An unlock without a lock: with RCU_NOTRACE_DEBUG, a message and abort at once. Without, the
 * thread's state is impossible from then on: a grace period, or the thread's next slow path, ends
 * the process with a message; sections of that thread protect nothing until then.
 *
 * Cost: decrement and branch.
 *
 * Kernel: rcu_read_unlock_notrace(), proposed. liburcu: rcu_read_unlock().
 */
RCU_NOTRACE_INLINE void rcu_read_unlock_notrace(void)
{
#ifdef RCU_NOTRACE_DEBUG
    rcu_notrace_check_unlock();
#endif
    RCU_NOTRACE_UNLOCK(rcu_notrace_this_reader, 0, rcu_notrace_unlock_slow);
}

/*
 * rcu_read_lock_trace, rcu_read_unlock_trace - a section of the second flavour
 *
 * For sections that may fault, block or last for long: they hold up synchronize_rcu_tasks_trace()
 * and call_rcu_tasks_trace(), and nobody who waits for the first flavour. Everything else is as
 * with rcu_read_lock_notrace(): context, nesting, cost. Inside, one may call synchronize_rcu().
 *
 * Kernel: rcu_read_lock_trace(), rcu_read_unlock_trace().
 */
RCU_NOTRACE_INLINE void rcu_read_lock_trace(void)
{
    RCU_NOTRACE_LOCK(rcu_trace_this_reader, 64, rcu_trace_lock_slow);
}

RCU_NOTRACE_INLINE void rcu_read_unlock_trace(void)
{
#ifdef RCU_NOTRACE_DEBUG
    rcu_trace_check_unlock();
#endif
    RCU_NOTRACE_UNLOCK(rcu_trace_this_reader, 64, rcu_trace_unlock_slow);
}

#endif /* RCU_NOTRACE_TSAN, RCU_NOTRACE_NO_INLINE */

/*
 * rcu_read_lock_held, rcu_read_lock_trace_held - non-zero if the calling thread is in a section
 *
 * Context: any. Cost: one load. Kernel: the same names. liburcu: rcu_read_ongoing().
 */
RCU_NOTRACE_INLINE int rcu_read_lock_held(void)
{
    return RCU_NOTRACE_DEPTH(rcu_notrace_this_reader) != 0;
}

RCU_NOTRACE_INLINE int rcu_read_lock_trace_held(void)
{
    return RCU_NOTRACE_DEPTH(rcu_trace_this_reader) != 0;
}

/* ---- threads -------------------------------------------------------------------------------- */

/*
 * void rcu_register_thread(void) - register the calling thread now
 *
 * Optional: the first sections do it. This is for those who want none of its cost there; and
 * for programs with 32 or more pthread keys before this library is loaded, where a section cannot do
 * it without allocating and does not: sections of such a thread cost four locked instructions on
 * shared lines until it registers here.
 *
 * Context: not in signal handlers. May allocate. liburcu: rcu_register_thread().
 *
 *
 * void rcu_unregister_thread(void) - unregister it, until its next section
 *
 * Optional: a thread's exit does it. Inside a section: message and abort.
 * Context: not in signal handlers. liburcu: rcu_unregister_thread().
 */

/* ---- grace periods -------------------------------------------------------------------------- */

/*
 * void synchronize_rcu(void) - wait until every section that is open now has ended
 *
 * Full memory barrier: what the caller did before is seen by every section that begins after it
 * returns, and what it does after comes after the last load of every section that was open when it
 * was called. Concurrent callers share grace periods. The caller need not be registered.
 *
 * Context: where the caller may block; not in a section (message and abort), not in a handler of
 * the IPI signal nor in one that interrupted this library in the same thread (message and abort),
 * not under a lock that a section or a signal handler of a reader may want.
 *
 * Cost: beside threads that have been idle for eight grace periods, no system call; beside others that
 * are outside sections, one membarrier(2). See docs/DESIGN.md.
 *
 * Kernel: synchronize_rcu(). liburcu: synchronize_rcu().
 *
 *
 * void synchronize_rcu_expedited(void) - the same, and in a hurry
 *
 * The same guarantee. A reader that stays in its section is sent a signal (mode auto) unless the first
 * flag has stuck, where synchronize_rcu() flags it remotely a few times more; and the caller spins for
 * up to 0.2 ms before it sleeps, where synchronize_rcu() spins for as long as the last waits make it
 * worth while. While nobody is in the way the two do the same. docs/DESIGN.md has both measured.
 *
 * Kernel: synchronize_rcu_expedited().
 *
 *
 * unsigned long get_state_synchronize_rcu(void) - a cookie: now
 * unsigned long start_poll_synchronize_rcu(void), start_poll_synchronize_rcu_expedited(void)
 *     - the same, and ask the worker thread for a grace period
 * int poll_state_synchronize_rcu(unsigned long cookie) - has a full grace period passed since?
 * void cond_synchronize_rcu(unsigned long cookie), cond_synchronize_rcu_expedited(unsigned long cookie)
 *     - wait for one unless it has
 * unsigned long get_completed_synchronize_rcu(void) - a cookie for which it always has
 * int same_state_synchronize_rcu(unsigned long, unsigned long) - are two cookies the same?
 *
 * For those who free later instead of waiting: take a cookie after the update; once the poll says
 * yes, nobody uses the old data any more. Grace periods pass while somebody waits for one, here or in
 * any other thread; start_poll makes the worker do so (if there is one: see call_rcu). Cookies are
 * good for 2^62 grace periods. The _full forms, which the kernel has because its cookies forget
 * expedited grace periods, do the same here.
 *
 * Context: get_state, start_poll, poll_state: any; a full memory barrier and a load; start_poll may
 * wake the worker, one system call. The conditions of cond_synchronize are those of synchronize_rcu().
 *
 * Kernel: the same names.
 */
RCU_NOTRACE_INLINE unsigned long get_completed_synchronize_rcu(void)
{
    return RCU_NOTRACE_COMPLETED;
}

RCU_NOTRACE_INLINE int same_state_synchronize_rcu(unsigned long a, unsigned long b)
{
    return a == b;
}

struct rcu_gp_oldstate {
    unsigned long rgos_norm;
};

RCU_NOTRACE_INLINE void get_state_synchronize_rcu_full(struct rcu_gp_oldstate *cookie)
{
    cookie->rgos_norm = get_state_synchronize_rcu();
}

RCU_NOTRACE_INLINE void start_poll_synchronize_rcu_full(struct rcu_gp_oldstate *cookie)
{
    cookie->rgos_norm = start_poll_synchronize_rcu();
}

RCU_NOTRACE_INLINE void start_poll_synchronize_rcu_expedited_full(struct rcu_gp_oldstate *cookie)
{
    cookie->rgos_norm = start_poll_synchronize_rcu_expedited();
}

RCU_NOTRACE_INLINE int poll_state_synchronize_rcu_full(struct rcu_gp_oldstate *cookie)
{
    return poll_state_synchronize_rcu(cookie->rgos_norm);
}

RCU_NOTRACE_INLINE void cond_synchronize_rcu_full(struct rcu_gp_oldstate *cookie)
{
    cond_synchronize_rcu(cookie->rgos_norm);
}

RCU_NOTRACE_INLINE void cond_synchronize_rcu_expedited_full(struct rcu_gp_oldstate *cookie)
{
    cond_synchronize_rcu_expedited(cookie->rgos_norm);
}

RCU_NOTRACE_INLINE void get_completed_synchronize_rcu_full(struct rcu_gp_oldstate *cookie)
{
    cookie->rgos_norm = RCU_NOTRACE_COMPLETED;
}

RCU_NOTRACE_INLINE int same_state_synchronize_rcu_full(const struct rcu_gp_oldstate *a,
                                                       const struct rcu_gp_oldstate *b)
{
    return a->rgos_norm == b->rgos_norm;
}

/*
 * void synchronize_rcu_tasks_trace(void) - wait for the sections of rcu_read_lock_trace()
 *
 * As synchronize_rcu(), for the second flavour. Not in a section of either: who waits here may wait
 * for somebody who waits for the first flavour. Kernel: synchronize_rcu_tasks_trace().
 *
 *
 * int rcu_notrace_set_ipi_mode(int mode) - choose how waiters reach readers
 *
 * RCU_NOTRACE_IPI_AUTO (the default), _SIGNAL or _MEMBARRIER, from the next grace period on. The
 * environment variable RCU_NOTRACE_IPI (auto, signal, membarrier) chooses at the start; an unknown
 * value there is reported and taken for auto. Returns 0, -EINVAL for an unknown mode, -ENOSYS where
 * membarrier(2) is wanted and refused; both with a message, and the mode stays as it was.
 *
 *
 * int rcu_notrace_get_ipi_mode(void) - the mode in force: _SIGNAL wherever membarrier is refused
 *
 *
 * void rcu_notrace_get_stats(struct rcu_notrace_stats *stats, size_t size) - the counters
 *
 * Pass sizeof(struct rcu_notrace_stats): later versions append to it. With RCU_NOTRACE_STATS=1 in
 * the environment each process prints them at exit, a line each on standard error.
 * rcu_tasks_trace_get_stats: those of the second flavour.
 *
 *
 * void rcu_notrace_set_stall_ms(unsigned long ms) - when a grace period that takes long is reported
 *
 * After ms milliseconds, and each time that the wait has doubled; 0: never. 10,000 unless the
 * environment variable RCU_NOTRACE_STALL_MS says otherwise. The waiter writes to standard error, one
 * write(2) a reader: its thread's id and name, how deep it is in sections and for how long at least,
 * its scheduler state and where it waits in the kernel, what became of the IPI, and its calls, which
 * the IPI's handler took down (mode membarrier: without); then the waiter's own calls. Names of
 * functions come from the files' symbol tables. The report allocates nothing and takes no lock of
 * libc's; the IPI may interrupt a system call of the reader's, as every signal.
 *
 *
 * void rcu_notrace_set_stall_handler(int (*handler)(const struct rcu_notrace_stall *, void *), void *data)
 *
 * Calls handler(stall, data) for each text of a report, before it is printed; it is not printed if
 * the handler returns non-zero. The handler runs in the waiter, in the middle of its grace period: it
 * must not wait for another one, nor call this function. NULL: no handler.
 * Kernel: the stall notifier chain (rcu_stall_chain_notifier_register()).
 *
 *
 * int rcu_notrace_set_signal_hook(void (*hook)(int is_ipi, void *info, void *context))
 *
 * For a library that keeps the program from blocking, ignoring or taking over the IPI's signal, and so
 * has to tell the program of those that are its own (librcu_notrace_preload.so). Installs the library's
 * handler now, and not when the first IPI is sent; from then on that handler calls the hook for each
 * signal, in place of the handler that the program had before. is_ipi: this is an IPI; a signal of the
 * program's may have merged with it. info, context: a handler's siginfo_t and ucontext_t. The hook
 * runs in the signal handler, must keep errno, must return and must stay loaded. Returns the number of
 * the signal, or -1 if the handler cannot be installed here or there is a hook already. NULL: changes nothing, returns the number.
 */

/* ---- callbacks ------------------------------------------------------------------------------ */

/*
 * void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
 * void call_rcu_tasks_trace(struct rcu_head *head, void (*func)(struct rcu_head *head))
 *     - call func(head) after a grace period of the first, the second flavour
 *
 * The head lies in memory that the caller provides (mostly in what is to be freed) and leaves alone
 * until it is called; one that is queued again before ends the process with a message, when the worker comes to it.
 * A worker thread of ordinary priority, which blocks all signals but the IPI and those of faults, calls one after the other; those that one thread queued, in that order. They may open
 * sections, call call_rcu(), synchronize_rcu() and fork(), and should not take long. One that ends its
 * thread, by pthread_exit() or cancellation, ends the process with a message.
 *
 * Context: any; but who interrupts it must not leave by siglongjmp(). Wait-free, no memory; about 10 ns. Wakes
 * the worker if that sleeps (a system call).
 *
 * The worker: call_rcu() cannot create it, because it may run under malloc's lock. The next call of
 * synchronize_rcu(), cond_synchronize_rcu(), rcu_barrier() or rcu_register_thread() by any thread
 * does, and so does the exit of a thread that was a reader. A program that calls nothing but
 * call_rcu() calls rcu_notrace_start_worker() once. The worker keeps the process alive, as every thread
 * does: a program whose main thread ends by pthread_exit() calls exit() when it is done.
 *
 * Floods: while more than 65,536 callbacks wait in the caller's queue (one of 64), every thousandth
 * call of that queue's threads sleeps for 5 ms times the number of such loads, 0.1 s at most, or until
 * the worker has finished a round; but not in a section, which the callbacks would wait for. So what
 * waits is bounded by a few times 65,536 for each thread that floods.
 *
 * fork: what waits is called once in the parent and once in the child, on its copy; there a worker
 * is created as above. fork() waits for a callback that runs to return, for 0.1 s at most; one that
 * takes longer, or whose worker does not get a processor for so long, is not called in the child, nor is
 * one that forks called there again. A child of _Fork() or of a raw clone may lose callbacks that its
 * parent's worker was just sorting, and calls none before it has waited, or called rcu_register_thread();
 * which it does before it starts threads. Heads must not lie on a thread's stack if another thread forks a
 * child that uses RCU: there that stack is gone.
 * A child that was forked in a signal handler that interrupted call_rcu(), rcu_barrier() or a wait for a grace period
 * may only exec or _exit.
 *
 * Exit: see rcu_notrace_set_exit_policy().
 *
 * Kernel and liburcu: call_rcu().
 *
 *
 * free_rcu(p, member) - free(p) after a grace period; member is the struct rcu_head in *p, in its
 *     first 4096 bytes (-EINVAL and a message otherwise). NULL is passed over. As call_rcu().
 *     Kernel: kfree_rcu().
 *
 *
 * void rcu_barrier(void), void rcu_barrier_tasks_trace(void)
 *     - wait until all callbacks that were queued before have returned
 *
 * Context: as synchronize_rcu(); in a callback of that flavour: message and abort. Callbacks of the two
 * flavours that wait for each other's wait for ever. Where no thread can be created, the caller runs the
 * callbacks. Kernel and liburcu: rcu_barrier().
 *
 *
 * int rcu_notrace_start_worker(void) - create the worker thread of call_rcu() now
 *
 * Optional; see call_rcu(). Returns 0, or -EAGAIN: with a message; or because this thread is creating it (in a
 * pthread_create() that somebody interposed), or another one, for more than a second. May allocate.
 * liburcu: get_default_call_rcu_data().
 *
 *
 * int rcu_notrace_set_exit_policy(int policy) - what becomes of callbacks that wait at exit(3)
 *
 * RCU_NOTRACE_EXIT_LEAVE (the default): they are not called. RCU_NOTRACE_EXIT_RUN: they are, after
 * the program's own exit handlers; exit() then waits for sections of other threads. _exit(), exec and
 * signals never run them. The environment variable RCU_NOTRACE_EXIT (leave, run) chooses at the
 * start. Returns 0, or -EINVAL with a message.
 */
#define free_rcu(p, member) \
    rcu_notrace_free_block((p), offsetof(__typeof__(*(p)), member), \
                           sizeof(__typeof__(rcu_notrace_free(&(p)->member, 0))))

/* By the number of its address: a null pointer has no member whose address one could take. The macro's last argument
 * is nothing but a check of the member's type. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
/* What the block has in it does not matter. */
__attribute__((__access__(__none__, 1)))
#endif
RCU_NOTRACE_INLINE int rcu_notrace_free_block(const volatile void *block, size_t offset, size_t unused)
{
    union {
        const volatile void *block;
        uintptr_t address;
        struct rcu_head *head;
    } at = {block};

    (void)unused;
    at.address += offset;
    return rcu_notrace_free(at.head, offset);
}

/* ---- pointers ------------------------------------------------------------------------------- */

/*
 * rcu_dereference(p) - load a protected pointer, in a section. A plain load on x86-64.
 * rcu_access_pointer(p) - load it only to compare it.
 * rcu_assign_pointer(p, v) - publish v: who loads it sees what was stored in *v before.
 * rcu_xchg_pointer(&p, v) - the same, and return what was there.
 * rcu_cmpxchg_pointer(&p, old, v) - the same if old is there; return what was there.
 *
 * p is an lvalue, &p its address, as in the kernel (the first three) and in liburcu (the others).
 * v and old are converted to p's type as by an assignment, with its diagnostics: in C++ from a derived class to
 * whichever of its bases. Each argument is evaluated once. rcu_assign_pointer() has no value.
 * Context: any. The functions rcu_notrace_dereference, _assign, _xchg and _cmpxchg do the same for
 * other languages; each takes the pointer's address.
 */
/* The type of *p, without volatile. The builtins themselves store any pointer's bits, of whatever type. */
#define RCU_NOTRACE_VALUE(p) __typeof__(__atomic_load_n((p), __ATOMIC_RELAXED))
#ifndef rcu_dereference
#define rcu_dereference(p) __atomic_load_n(&(p), __ATOMIC_CONSUME)
#endif
#ifndef rcu_access_pointer
#define rcu_access_pointer(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#endif
#ifndef rcu_assign_pointer
#define rcu_assign_pointer(p, v) \
    __extension__({ \
        RCU_NOTRACE_VALUE(&(p)) rcu_notrace_assigned = (v); \
        __atomic_store_n(&(p), rcu_notrace_assigned, __ATOMIC_RELEASE); \
    })
#endif
#ifndef rcu_xchg_pointer
#define rcu_xchg_pointer(p, v) \
    __extension__({ \
        RCU_NOTRACE_VALUE(p) rcu_notrace_fresh = (v); \
        __atomic_exchange_n((p), rcu_notrace_fresh, __ATOMIC_ACQ_REL); \
    })
#endif
#ifndef rcu_cmpxchg_pointer
#define rcu_cmpxchg_pointer(p, old, v) \
    __extension__({ \
        RCU_NOTRACE_VALUE(p) rcu_notrace_was = (old); \
        RCU_NOTRACE_VALUE(p) rcu_notrace_wanted = (v); \
        (void)__atomic_compare_exchange_n((p), &rcu_notrace_was, rcu_notrace_wanted, 0, __ATOMIC_ACQ_REL, \
                                          __ATOMIC_ACQUIRE); \
        rcu_notrace_was; \
    })
#endif

/* ---- guards --------------------------------------------------------------------------------- */

/*
 * guard(rcu_notrace)();                  a section until the end of the enclosing block
 * scoped_guard (rcu_notrace) { ... }     a section around one statement
 *
 * As in the kernel's linux/cleanup.h. In C++: `rcu_notrace::section s;`.
 */
#define RCU_NOTRACE_DEFINE_CLASS(name, lock, unlock) \
    typedef struct { \
        char unused; \
    } class_##name##_t; \
    RCU_NOTRACE_INLINE class_##name##_t class_##name##_constructor(void) \
    { \
        class_##name##_t section = {0}; \
        lock(); \
        return section; \
    } \
    RCU_NOTRACE_INLINE void class_##name##_destructor(class_##name##_t *section) \
    { \
        (void)section; \
        unlock(); \
    }

RCU_NOTRACE_DEFINE_CLASS(rcu_notrace, rcu_read_lock_notrace, rcu_read_unlock_notrace)
/* guard(rcu_tasks_trace)(): a section of the second flavour. */
RCU_NOTRACE_DEFINE_CLASS(rcu_tasks_trace, rcu_read_lock_trace, rcu_read_unlock_trace)

#define RCU_NOTRACE_PASTE2(a, b) a##b
#define RCU_NOTRACE_PASTE(a, b) RCU_NOTRACE_PASTE2(a, b)

#define RCU_NOTRACE_CLASS(name, variable) \
    class_##name##_t variable __attribute__((cleanup(class_##name##_destructor), unused)) = \
        class_##name##_constructor

#if (!defined(__cplusplus) && !defined(RCU_NOTRACE_NO_GUARD)) || defined(RCU_NOTRACE_GUARD)
#ifndef guard
#define guard(name) RCU_NOTRACE_CLASS(name, RCU_NOTRACE_PASTE(rcu_notrace_guard_, __COUNTER__))
#endif
#ifndef scoped_guard
#define scoped_guard(name) \
    RCU_NOTRACE_SCOPED(name, RCU_NOTRACE_PASTE(rcu_notrace_scope_, __COUNTER__))
#define RCU_NOTRACE_SCOPED(name, scope) RCU_NOTRACE_SCOPED2(name, scope)
#define RCU_NOTRACE_SCOPED2(name, scope) \
    for (RCU_NOTRACE_CLASS(name, scope)(), *scope##_once = &scope; scope##_once; \
         scope##_once = (class_##name##_t *)0)
#endif
#endif

#ifdef __cplusplus
} /* extern "C" */

namespace rcu_notrace
{

/* A section as long as the object lives: on the thread that made it, in a block. */
class section
{
public:
    __attribute__((always_inline, no_instrument_function)) section() { rcu_read_lock_notrace(); }
    __attribute__((always_inline, no_instrument_function)) ~section() { rcu_read_unlock_notrace(); }
    section(const section &) = delete;
    section &operator=(const section &) = delete;
    static void *operator new(size_t) = delete;
    static void *operator new[](size_t) = delete;
};

} /* namespace rcu_notrace */
#endif

#endif /* RCU_NOTRACE_H */
