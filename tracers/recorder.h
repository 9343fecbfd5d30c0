/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The recorder's parts, and what they need of each other.
 *
 * record.c    a thread's ring: the slow half of reserve and commit; runs in any context
 * session.c   the file: opened, checked, its chunks mapped
 * process.c   start, fork and exit; which image this is; what it says of itself in the file
 * maps.c      the mapped files
 * tracers.c   the tracers: made known, attached, detached
 * control.c   the control socket and its thread
 * stack.c     call stacks
 * sys.h       system calls
 *
 * A session is a file that is recorded to. One at a time is current; it is replaced, and its mappings
 * are undone, under RCU: who uses them is in a read-side section. What else changes (tracers, sessions,
 * maps) changes under recorder_lock.
 *
 * The process's generation changes whenever threads must look again: with the session, and in a forked
 * child, where the kernel wipes it.
 */
#ifndef RCUTRACE_RECORDER_H
#define RCUTRACE_RECORDER_H

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include <rcu_notrace.h>

#include "format.h"
#include "rcutrace.h"

_Static_assert(offsetof(struct rcutrace_chunk, committed) == 16, "as rcutrace_commit() has it");

#define EXPORT __attribute__((visibility("default")))

/* Which safeguard this build lacks, for the tests. */
#ifndef BROKEN
#define BROKEN 0
#endif
enum {
    CLOSE_IF_OURS = 1, NO_CANCELLATION, FORKS_IN_FORKS, OWN_SOCKET, COUNT_OF_LOST, WIPED_PAGE, INTERRUPTED_WRITER, KEPT_CHUNKS,
    OTHER_SESSION, SIGNALS_BLOCKED, KEPT_OPEN, ACCEPT_PATIENCE, SANDBOXS_ANSWERS, SIGNALS_WAITED_FOR, LATE_SANDBOX,
    STEPPED_CREATOR, ROOM_FOR_SEGMENTS, STACK_OF_EXIT,
};

/* In a set. */
#define SIGNAL(number) (UINT64_C(1) << ((number) - 1))

/* The signals that wait while we make calls: all but SIGSYS, by which a sandbox may answer them (SECCOMP_RET_TRAP), and
 * SIGTRAP, by which a program may step through itself. Where those are blocked they end the process. */
#define HELD_BACK (BROKEN == SANDBOXS_ANSWERS ? UINT64_MAX : ~(SIGNAL(SIGSYS) | SIGNAL(SIGTRAP)))
/* The C library's own, 32 and 33, are never blocked for long: setuid(3) waits for each thread to answer. */
#define LIBRARYS_SIGNALS (SIGNAL(32) | SIGNAL(33))

/* ---- sessions -------------------------------------------------------------------------------- */

enum { MOST_RINGS = 65536 };

/* Ticks, of either clock some hundredth of a second: no second attempt before, where there was no room. */
#define PATIENCE ((uint64_t)1 << 26)

/* A thread's, or nobody's and on one of the session's two stacks. Never freed before the session. */
struct ring {
    uintptr_t chunk;      /* mapped; 0: none */
    uintptr_t next, end;  /* nobody's: where to go on, and where the populated part ends */
    uint64_t index;       /* the chunk's in the file */
    uint32_t chunks;      /* overwrite: how many it has that are not kept */
    uint32_t tid;         /* the last CONTEXT's */
    uint32_t pending;     /* bytes that a passing writer has reserved */
    uint32_t below;       /* on a stack: the next one's number, from 1 */
};

struct session {
    struct rcutrace_header *header;
    uint32_t serial;
    uint32_t chunk_size, mode, thread_chunks;
    uint64_t chunk_limit;
    dev_t device;
    ino_t inode;
    int fd;               /* kept in case the path fails one day; high, and maybe closed by the program */
    uint32_t announced;   /* the image is described in the file, or somebody is at it */
    uint32_t introduced;  /* its PROCESS record is in the file */
    uint64_t announce_at; /* not all of that found room: when to try again; 0: it did */
    uint64_t failed_at;   /* when there was no room last; 0: there was */
    uint64_t usable;      /* stack of rings that have room; the low half is a number, the other a tag */
    uint64_t spent;       /* stack of those that have no chunk */
    uint32_t rings;       /* in use of the array */
    bool drained;
    uint64_t slot_limit;
    uintptr_t window;     /* drained: the whole file, mapped; 0: not yet, or it cannot be */
    uint32_t reachable;   /* the drainer knows this process by its pid: YES, NO, or not looked yet */
    uint64_t left;        /* drained: bytes of chunks that this process is through with */
    uint32_t populated[RCUTRACE_MOST_SLOTS]; /* bytes of each slot in the window */
    char path[PATH_MAX];
    struct ring ring[MOST_RINGS];
};

/* RCU-protected; NULL: none. */
extern struct session *session_current;

/* Opens and makes current; on failure NULL, and why. Under the lock. */
struct session *session_open(const char *path, char *why, size_t size);
/* Waits for the grace period, then undoes everything. Under the lock. */
void session_close(void);
/* In a forked child: nothing of the parent's is used any more. */
void session_after_fork(void);
/* Whether it is worth asking for one: cheap. */
bool session_may_have_chunk(const struct session *session, const struct ring *ring);
/* The ring's next chunk, mapped and empty. False: there is none. In a section, with all signals blocked. */
/* Overwrite mode: the chunk that the ring is in is not begun anew. By the ring's writer. */
void session_keep_chunk(const struct session *session, struct ring *ring);
bool session_next_chunk(struct session *session, struct ring *ring);
/* Lets the ring's chunk go, if it has one. What stands in it is complete. Any context. */
void session_leave_chunk(struct session *session, struct ring *ring);
/* Makes more of the chunk fit for use. False: it ends here, or the disk is full. Any context. */
bool session_extend(struct session *session, struct ring *ring);
/* What this process has recorded in it. */
uint64_t session_bytes(const struct session *session);
/* Renews the header's `now`. */
void session_mark_time(struct session *session);

/* ---- rings ----------------------------------------------------------------------------------- */

enum { MOST_PAYLOAD = 254 * 8 };

struct piece {
    const void *bytes;
    size_t size;
};

/* A record of the recorder's own, cut if it is too long. False: it is lost. */
bool record_own(unsigned type, const struct piece *pieces, unsigned count);
/* Has the image described in the file, if it is not yet. */
void record_announce(void);
/* This thread's ring goes to whoever comes next. */
void record_leave(void);
/* Once. */
void record_start(void);

/* ---- the process ----------------------------------------------------------------------------- */

struct process {
    uint32_t pid;
    uint64_t image, parent_image;
    bool executed; /* the parent image was this process, up to an exec; in a child of fork its id says nothing */
    const char *why;
    char executable[PATH_MAX];
    char arguments[1024];
};
extern struct process process;

/* Wiped in children. */
extern uint32_t *process_generation;

/* Makes every thread look again. */
void process_renew_generation(void);
/* Begins an image if this is a child that nobody told us of. False: another thread is at it. Any context. */
bool process_begin_child(void);
/* PROCESS, once, TYPE and MAP records. False: some are lost. By one at a time. */
bool process_announce(struct session *session);
/* One line on standard error. */
void process_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Around what the recorder does of its own, with signals held back and cancellation disabled. */
struct own {
    uint64_t signals;
    int error, cancel;
};
void own_begin(struct own *before);
void own_end(const struct own *before);

extern pthread_mutex_t recorder_lock;

/* ---- maps ------------------------------------------------------------------------------------ */

/* Looks which files are mapped, and records those that are new, if they may have changed. Under the
 * lock. */
void maps_renew(bool surely);
/* Records all that are known. Any context. */
bool maps_announce(void);

/* ---- tracers --------------------------------------------------------------------------------- */

/* Which ones attach as they become known: a list of names, NULL for all. */
extern const char *tracers_at_start;
extern bool tracers_start;

bool tracers_announce(void);
bool tracers_any_attached(void);
/* Whether all of the names are. Under the lock. */
bool tracers_known(const char *names, char *why, size_t size);
/* 0, or an answer for the user in `why`. `names`: separated by commas, or "all". Under the lock. */
int tracers_attach(const char *names, char *why, size_t size);
int tracers_detach(const char *names, char *why, size_t size);
/* Complains of names in RCUTRACE_ATTACH that nobody has had. */
void tracers_complain(void);
/* Detaches and attaches all that are attached. */
void tracers_toggle(void);
/* "TAB name=state" of each. */
void tracers_status(char *text, size_t size);

/* ---- control --------------------------------------------------------------------------------- */

extern bool control_wanted;
extern uint64_t control_mask; /* the program's, for its exit handlers if our thread is the last */
extern unsigned control_toggle_ms;
void control_start(void);
/* In a child of fork: with a thread of its own, or none. */
void control_after_fork(bool thread);
void control_finish(void);

/* ---- call stacks ----------------------------------------------------------------------------- */

/* Of 254 words, a few are for the rest of the event. */
enum { RCUTRACE_MOST_FRAMES = 240 };
void stack_start(void);

#endif
