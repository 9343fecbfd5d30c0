/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcu_notrace_preload.so: keeps the IPI's signal unblocked and handled by the library, and tells the program
 * what it expects to hear of that signal.
 *
 * Two signals: the IPI's (SIGURG) and its stand-in, one that programs have no use for (SIGSTKFLT). In every set of
 * signals that goes to the kernel the stand-in takes the place of the IPI's signal, and the other way round in
 * every set that comes back. So the program blocks, waits for and handles the stand-in, and it is the kernel that
 * saves and restores, inherits and queues: across handlers, longjmp, contexts, threads and fork. A signal of the
 * program's that arrives as the IPI's is sent on as the stand-in, to the thread or to the process.
 */
#ifndef PRELOAD_H
#define PRELOAD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The IPI's signal; 0 until this library has started, and where it leaves everything alone. */
extern int ipi_signal;
extern int stand_in;

static inline bool is_ipi_signal(int signal)
{
    return signal != 0 && signal == ipi_signal;
}

static inline bool is_one_of_both(int signal)
{
    return ipi_signal && (signal == ipi_signal || signal == stand_in);
}

/* Which safeguard this build lacks, for the tests. */
#ifndef BROKEN
#define BROKEN 0
#endif
enum {
    SENDING_ON = 1,
    MASKS_OF_ACTIONS,
    RESTARTING,
    MASKS_OF_IMAGES,
    THREADS_SIGNALS,
    VFORK,
    SIGNALFD,
    PAUSE,
    AFTER_WAITING,
    FORK,
    KINDS_OF_FILES,
    PAUSE_UNBLOCKED,
    LETTING_IN,
    CALLS_FOR_IPIS,
};

/* ---- sets of signals ----------------------------------------------------------------------------------- */

/* The kernel's part of a set. */
static inline uint64_t word_of(const sigset_t *set)
{
    uint64_t word;

    memcpy(&word, set, sizeof(word));
    return word;
}

static inline void set_word(sigset_t *set, uint64_t word)
{
    memcpy(set, &word, sizeof(word));
}

static inline uint64_t bit(int signal)
{
    return signal ? 1ull << (signal - 1) : 0;
}

/* A set as the program means it, for the kernel. */
static inline uint64_t for_kernel(uint64_t set)
{
    uint64_t word = set & ~bit(ipi_signal) & ~bit(stand_in);

    return set & bit(ipi_signal) ? word | bit(stand_in) : word;
}

/* What is never held back while instructions of ours run, unless the program has blocked it: if it is blocked the kernel
 * ends a process whose sandbox answers a system call (SECCOMP_RET_TRAP), or that is stepped through by its own handler.
 * Not the faults of memory: what is touched meanwhile is ours and there, so one of those was sent, and can wait. */
static inline uint64_t let_in(void)
{
    return BROKEN == LETTING_IN ? 0 : bit(SIGSYS) | bit(SIGTRAP);
}

/* A signal that nobody has a use for either. */
static inline int neighbour(void)
{
    return stand_in == SIGPWR ? SIGXFSZ : stand_in > 34 ? stand_in - 2 : SIGPWR;
}

/* A set of the kernel's, as the program means it. One bit stands for both signals: the stand-in is said to be
 * in it as well if the set looks like one of all signals. */
static inline uint64_t for_program(uint64_t word)
{
    if (word & bit(stand_in)) {
        word |= bit(ipi_signal);
        if (!(word & bit(neighbour())))
            word &= ~bit(stand_in);
    }
    return word;
}

/* For the kernel, in `copy`; NULL stays NULL. */
static inline const sigset_t *kernel_set(const sigset_t *set, sigset_t *copy)
{
    if (!set || !ipi_signal)
        return set;
    *copy = *set;
    set_word(copy, for_kernel(word_of(set)));
    return copy;
}

/* ---- the program's action for the IPI's signal ----------------------------------------------------------- */

/* As sigaction(2), of the IPI's signal or its stand-in. */
int change_action(int signal, const struct sigaction *new, struct sigaction *old);

/* New images inherit what is ignored: while one is made the kernel has to know. False: the program does not ignore the
 * IPI's signal, and end_image() is not to be called. */
bool begin_image(void);
void end_image(void);

/* Likewise of the stand-in; what is pending of it is forgotten then. */
bool ignore_stand_in(void);
void handle_stand_in(void);

/* In the upper half of si_errno, which the kernel leaves zero, of what is sent on; si_code is in the lower half: the
 * kernel lets only the first thread send its process what looks as if kill(2) had sent it, and no thread send another
 * what looks as if tgkill(2) had. What the program queues as the stand-in itself is marked as such. */
enum { SENT_ON = 0x52430000, SENT_AS_ITSELF = 0x52440000 };

static inline void mark_as_sent(siginfo_t *info, int mark)
{
    info->si_errno = mark | (uint16_t)info->si_code;
    if (info->si_code >= 0 || info->si_code == SI_TKILL)
        info->si_code = SI_QUEUE;
}

/* Makes what was received as the stand-in look as it was sent; false if it was sent as the stand-in itself. */
bool restore_info(siginfo_t *info);

/* Whether something may have been sent on in this thread that no wait has seen to: those that need not make no call. */
extern __thread bool has_sent_on;

/* ---- pause() --------------------------------------------------------------------------------------------- */

/* The mask of what a handler has interrupted: if that is the wait in pause(), the mask which that waits with. */
uint64_t mask_of_interrupted(const void *context);

/* For a handler, which none of the program's may interrupt, that has called none of the program's: if it has interrupted the
 * wait in pause(), that goes on. */
void let_pause_go_on(void *context);

/* The value by which pthread_kill() of ours marks what it sends. */
extern const char sent_by_pthread_kill;

/* Says it once on standard error. */
void say(const char *line);

#endif
