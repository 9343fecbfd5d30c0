/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The file of a session: opened and checked, its chunks handed out and mapped.
 *
 * One descriptor is kept, high up, and is believed only after a look at what it is: the program may have closed it
 * and have another file there. Then the file is opened by its path for each use. That takes the lowest number,
 * which the program may just have closed to put another file there: so it is closed only if it is still ours.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "recorder.h"
#include "sys.h"

struct session *session_current;

/* Out of the way of a program that counts on low numbers. */
enum { HIGH_FD = 200 };

/* So much of a chunk is allocated and populated at a time: at first little, because processes that fork and
 * exec need little, and then as much again as it has. */
enum { FIRST_STEP = 16384, MOST_STEP = 65536, PAGE = 4096 };

static uint32_t serial;

/* ---- descriptors ----------------------------------------------------------------------------- */

static bool is_ours(const struct session *session, int fd)
{
    struct stat file;

    return fd >= 0 && !sys_fstat(fd, &file) && file.st_dev == session->device &&
           file.st_ino == session->inode;
}

static int open_again(const struct session *session)
{
    struct stat file;
    int fd;

    if (is_ours(session, session->fd))
        return session->fd;
    fd = sys_open(session->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || is_ours(session, fd))
        return fd < 0 ? -1 : fd;
    /* Another file is in its place, and was opened; or the program's is under this number by now. */
    if (!sys_stat(session->path, &file))
        sys_close_if(fd, &file);
    return -1;
}

static void close_again(const struct session *session, int fd)
{
    if (fd != session->fd && is_ours(session, fd))
        sys_close(fd);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static uint64_t place_of(const struct session *session, uint64_t index)
{
    return RCUTRACE_HEADER_SIZE + index * session->chunk_size;
}

static uint64_t window_size(const struct session *session)
{
    return place_of(session, session->slot_limit);
}

static bool in_window(const struct session *session, uintptr_t chunk)
{
    uintptr_t window = __atomic_load_n(&session->window, __ATOMIC_ACQUIRE);

    return window && chunk - window < window_size(session);
}

/* On a file system without fallocate. */
static int fill(int fd, uint64_t from, uint64_t size)
{
    static const char zeros[4096];

    for (uint64_t done = 0; done < size;) {
        long wrote = sys_pwrite(fd, zeros, sizeof(zeros), from + done);

        if (wrote <= 0)
            return wrote ? (int)wrote : -ENOSPC;
        done += (uint64_t)wrote;
    }
    return 0;
}

/* So that a full disk is an error here and no SIGBUS later. With all signals blocked: some file systems
 * give up at a pending one. */
static bool allocate(int fd, uint64_t from, uint64_t size)
{
    int error;

    /* Beyond the limit the kernel would send SIGXFSZ. */
    if (from + size > sys_file_size_limit())
        return false;
    error = sys_fallocate(fd, 0, from, size);
    if (error == -EOPNOTSUPP || error == -ENOSYS)
        error = fill(fd, from, size);
    return !error;
}

/* One more of a counter's. False: it is at its limit. */
static bool take_one(uint64_t *counter, uint64_t limit, uint64_t *index)
{
    if (__atomic_load_n(counter, __ATOMIC_RELAXED) >= limit)
        return false;
    *index = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
    if (*index < limit)
        return true;
    __atomic_fetch_sub(counter, 1, __ATOMIC_RELAXED);
    return false;
}

/* An index of a chunk that nobody has had. False: all are used up. */
static bool take_index(const struct session *session, uint64_t *index)
{
    return take_one(&session->header->chunks,
                    session->mode == RCUTRACE_DROP_NEWEST ? session->chunk_limit : UINT64_MAX, index);
}

/* Unless somebody has taken a later one, the index is free again. */
static void return_index(uint64_t *counter, uint64_t index)
{
    uint64_t next = index + 1;

    __atomic_compare_exchange_n(counter, &next, index, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* A fresh one gets its first part and its last page, so that the file is as long as its chunks. */
static uintptr_t map_chunk(const struct session *session, uint64_t index, uint64_t fresh)
{
    uint64_t place = place_of(session, index);
    void *chunk = NULL;
    int fd = open_again(session);

    if (fd < 0)
        return 0;
    if (!fresh || (allocate(fd, place, fresh) &&
                   allocate(fd, place + session->chunk_size - PAGE, PAGE)))
        chunk = sys_mmap(NULL, session->chunk_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, place);
    close_again(session, fd);
    return (uintptr_t)chunk;
}

void session_leave_chunk(struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *chunk = (struct rcutrace_chunk *)ring->chunk;
    uint32_t *asleep = &session->header->asleep;
    uint64_t index = ring->index;

    if (!chunk)
        return;
    ring->chunk = 0;
    if (session->drained) {
        __atomic_fetch_add(&session->left, chunk->committed, __ATOMIC_RELAXED);
        /* Release: `committed`. From here on it is the drainer's; the bit is only to say so. */
        __atomic_store_n(&chunk->state, RCUTRACE_FULL, __ATOMIC_RELEASE);
        __atomic_fetch_or(&session->header->full[index / 64], (uint64_t)1 << index % 64,
                          __ATOMIC_SEQ_CST);
        /* Pairs with the drainer, which stores this and then looks at `full`. */
        if (__atomic_load_n(asleep, __ATOMIC_SEQ_CST) == 1 &&
            __atomic_exchange_n(asleep, 0, __ATOMIC_RELAXED) == 1)
            sys_futex_wake(asleep);
    }
    if (!in_window(session, (uintptr_t)chunk))
        sys_munmap(chunk, session->chunk_size);
}

/* The ring's chunk is another one from here on. */
static void replace_chunk(struct session *session, struct ring *ring, uintptr_t chunk,
                          uint64_t index)
{
    session_leave_chunk(session, ring);
    ring->chunk = chunk;
    ring->index = index;
    ring->next = chunk + RCUTRACE_CHUNK_HEADER;
    ring->end = chunk;
    ring->tid = 0;
}

static bool add_chunk(struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *old = (struct rcutrace_chunk *)ring->chunk, *chunk;
    uint64_t first = session->chunk_size < FIRST_STEP ? session->chunk_size : FIRST_STEP, index;

    if (!take_index(session, &index))
        return false;
    chunk = (struct rcutrace_chunk *)map_chunk(session, index, first);
    if (!chunk) {
        return_index(&session->header->chunks, index);
        return false;
    }
    chunk->pid = process.pid;
    chunk->image = process.image;
    chunk->committed = RCUTRACE_CHUNK_HEADER;
    chunk->allocated = first;
    chunk->next_index = index;
    if (old && session->mode == RCUTRACE_OVERWRITE) {
        chunk->next_index = old->next_index;
        old->next_index = index;
    }
    __atomic_store_n(&chunk->magic, RCUTRACE_CHUNK_MAGIC, __ATOMIC_RELEASE);
    replace_chunk(session, ring, (uintptr_t)chunk, index);
    ring->chunks++;
    return true;
}

/* There was no room a moment ago. */
static bool failed_lately(const struct session *session)
{
    uint64_t failed = __atomic_load_n(&session->failed_at, __ATOMIC_RELAXED);

    return failed && rcutrace_clock() - failed <= PATIENCE;
}

static void note_attempt(struct session *session, bool done)
{
    if (!done || __atomic_load_n(&session->failed_at, __ATOMIC_RELAXED))
        __atomic_store_n(&session->failed_at, done ? 0 : rcutrace_clock() | 1, __ATOMIC_RELAXED);
}

/* ---- slots of a drained file ----------------------------------------------------------------- */

enum { YES = 1, NO };

/* All of the file at one place, so that a change of slots needs no system call. */
static uintptr_t find_window(struct session *session, int fd)
{
    uintptr_t window = __atomic_load_n(&session->window, __ATOMIC_ACQUIRE), fresh;

    if (window)
        return window;
    fresh = (uintptr_t)sys_mmap(NULL, window_size(session), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (fresh && !__atomic_compare_exchange_n(&session->window, &window, fresh, false,
                                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        sys_munmap((void *)fresh, window_size(session));
        return window;
    }
    return fresh;
}

/* Of a fresh one the first part is made. */
static uintptr_t map_slot(struct session *session, uint64_t index, uint64_t fresh)
{
    uintptr_t window = __atomic_load_n(&session->window, __ATOMIC_ACQUIRE), chunk = 0;
    uint64_t place = place_of(session, index);
    int fd;

    if (window && !fresh)
        return window + place;
    fd = open_again(session);
    if (fd < 0)
        return 0;
    if (!fresh || allocate(fd, place, fresh)) {
        window = find_window(session, fd);
        chunk = window ? window + place
                       : (uintptr_t)sys_mmap(NULL, session->chunk_size, PROT_READ | PROT_WRITE,
                                             MAP_SHARED, fd, place);
    }
    close_again(session, fd);
    return chunk;
}

static bool is_closed(const struct session *session)
{
    return __atomic_load_n(&session->header->flags, __ATOMIC_RELAXED) & RCUTRACE_CLOSED;
}

static uint64_t slots_used(const struct session *session)
{
    uint64_t slots = __atomic_load_n(&session->header->slots, __ATOMIC_RELAXED);

    return slots < session->slot_limit ? slots : session->slot_limit;
}

static bool may_have_slot(const struct session *session)
{
    uint64_t slots = slots_used(session);

    if (is_closed(session))
        return false;
    for (uint64_t i = 0; i * 64 < slots; i++)
        if (__atomic_load_n(&session->header->free[i], __ATOMIC_RELAXED))
            return true;
    return slots < session->slot_limit;
}

/* The lowest that is free: it is the likeliest to be mapped, and in a cache. */
static bool take_free_slot(const struct session *session, uint64_t *index)
{
    uint64_t slots = slots_used(session);

    for (uint64_t i = 0; i * 64 < slots; i++) {
        uint64_t *word = &session->header->free[i], bits = __atomic_load_n(word, __ATOMIC_RELAXED);

        while (bits) {
            uint64_t bit = bits & -bits;

            *index = i * 64 + (unsigned)__builtin_ctzll(bit);
            if (*index >= session->slot_limit)
                break;
            /* Acquire: the drainer is through with it. */
            bits = __atomic_fetch_and(word, ~bit, __ATOMIC_ACQUIRE);
            if (bits & bit)
                return true;
        }
    }
    return false;
}

/* Whether the drainer can see by our pid that we are dead. */
static uint32_t is_reachable(struct session *session)
{
    uint32_t reachable = __atomic_load_n(&session->reachable, __ATOMIC_RELAXED);
    struct stat file;

    if (!reachable) {
        reachable = !sys_stat("/proc/self/ns/pid", &file) &&
                            file.st_ino == session->header->pid_namespace
                        ? YES
                        : NO;
        __atomic_store_n(&session->reachable, reachable, __ATOMIC_RELAXED);
    }
    return reachable == YES;
}

/* Whatever the moment at which we are killed, the drainer sees it empty or not at all. */
static void begin_slot(struct session *session, struct rcutrace_chunk *chunk)
{
    __atomic_store_n(&chunk->committed, RCUTRACE_CHUNK_HEADER, __ATOMIC_RELAXED);
    chunk->pid = process.pid;
    chunk->image = process.image;
    chunk->before = process.executed ? process.parent_image : 0;
    chunk->reachable = is_reachable(session);
    __atomic_store_n(&chunk->state, RCUTRACE_IN_USE, __ATOMIC_RELEASE);
}

static bool add_fresh_slot(struct session *session, struct ring *ring)
{
    uint64_t first = session->chunk_size < FIRST_STEP ? session->chunk_size : FIRST_STEP, index;
    struct rcutrace_chunk *chunk;

    if (!take_one(&session->header->slots, session->slot_limit, &index))
        return false;
    chunk = (struct rcutrace_chunk *)map_slot(session, index, first);
    note_attempt(session, chunk);
    if (!chunk) {
        return_index(&session->header->slots, index);
        return false;
    }
    chunk->allocated = first;
    begin_slot(session, chunk);
    __atomic_store_n(&chunk->magic, RCUTRACE_CHUNK_MAGIC, __ATOMIC_RELEASE);
    replace_chunk(session, ring, (uintptr_t)chunk, index);
    return true;
}

static bool reuse_free_slot(struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *chunk;
    uint64_t index;

    if (!take_free_slot(session, &index))
        return false;
    chunk = (struct rcutrace_chunk *)map_slot(session, index, 0);
    if (!chunk) {
        __atomic_fetch_or(&session->header->free[index / 64], (uint64_t)1 << index % 64,
                          __ATOMIC_RELEASE);
        return false;
    }
    begin_slot(session, chunk);
    replace_chunk(session, ring, (uintptr_t)chunk, index);
    return true;
}

/* `chunks` counts how often it was done, for the limit of the file that they are copied to. */
static bool next_slot(struct session *session, struct ring *ring)
{
    uint64_t unused;

    if (is_closed(session) || !take_index(session, &unused))
        return false;
    if (reuse_free_slot(session, ring) || (!failed_lately(session) && add_fresh_slot(session, ring)))
        return true;
    __atomic_fetch_sub(&session->header->chunks, 1, __ATOMIC_RELAXED);
    return false;
}

/* ---- the next chunk -------------------------------------------------------------------------- */

void session_keep_chunk(const struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *chunk = (struct rcutrace_chunk *)ring->chunk;

    if (session->mode == RCUTRACE_OVERWRITE && chunk->state != RCUTRACE_KEPT) {
        chunk->state = RCUTRACE_KEPT;
        ring->chunks--;
    }
}

enum { MOST_KEPT = 65536 };

/* The ring has two chunks at least that are not kept. */
static bool reuse_oldest(struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *old = (struct rcutrace_chunk *)ring->chunk, *chunk = NULL;
    uint64_t index;
    /* The list is in a file that others may write to: it may have no end. */
    uint32_t left = MOST_KEPT;

    if (!old)
        return false;
    index = old->next_index;
    do {
        if (chunk) {
            index = chunk->next_index;
            sys_munmap(chunk, session->chunk_size);
        }
        if (!left-- || index == ring->index ||
            index >= __atomic_load_n(&session->header->chunks, __ATOMIC_RELAXED))
            return false;
        chunk = (struct rcutrace_chunk *)map_chunk(session, index, 0);
        if (!chunk)
            return false;
    } while (chunk->state == RCUTRACE_KEPT);
    __atomic_store_n(&chunk->committed, RCUTRACE_CHUNK_HEADER, __ATOMIC_RELEASE);
    __atomic_store_n(&chunk->round, chunk->round + 1, __ATOMIC_RELEASE);
    replace_chunk(session, ring, (uintptr_t)chunk, index);
    return true;
}

bool session_may_have_chunk(const struct session *session, const struct ring *ring)
{
    if (session->mode == RCUTRACE_OVERWRITE)
        return ring->chunks >= 2 || !failed_lately(session);
    if (__atomic_load_n(&session->header->chunks, __ATOMIC_RELAXED) >= session->chunk_limit)
        return false;
    return session->drained ? may_have_slot(session) : !failed_lately(session);
}

bool session_next_chunk(struct session *session, struct ring *ring)
{
    bool wrap = session->mode == RCUTRACE_OVERWRITE, done = false;

    if (session->drained)
        return next_slot(session, ring);
    if (!(wrap && ring->chunks >= session->thread_chunks) && !failed_lately(session)) {
        done = add_chunk(session, ring);
        note_attempt(session, done);
    }
    if (!done && wrap && ring->chunks >= 2)
        done = reuse_oldest(session, ring);
    return done;
}

/* Makes room on the disk for another part. */
static bool allocate_more(struct session *session, struct rcutrace_chunk *chunk, uint64_t index,
                          uint64_t size)
{
    uint64_t signals;
    bool done = false;
    int fd;

    if (failed_lately(session))
        return false;
    signals = sys_block_signals(HELD_BACK);
    fd = open_again(session);
    if (fd >= 0) {
        done = allocate(fd, place_of(session, index) + chunk->allocated, size);
        close_again(session, fd);
    }
    sys_restore_signals(signals);
    note_attempt(session, done);
    if (done)
        chunk->allocated += size;
    return done;
}

bool session_extend(struct session *session, struct ring *ring)
{
    struct rcutrace_chunk *chunk = (struct rcutrace_chunk *)ring->chunk;
    uintptr_t used = ring->end - ring->chunk, step = used;
    uint32_t *populated =
        in_window(session, ring->chunk) ? &session->populated[ring->index] : NULL;

    if (populated && *populated > used) {
        ring->end = ring->chunk + *populated;
        return true;
    }
    if (step < FIRST_STEP)
        step = FIRST_STEP;
    if (step > MOST_STEP)
        step = MOST_STEP;
    if (step > session->chunk_size - used)
        step = session->chunk_size - used;
    if (!step)
        return false;
    if (used + step > chunk->allocated &&
        !allocate_more(session, chunk, ring->index, used + step - chunk->allocated))
        return false;
    /* A kernel that does not know how takes the faults one by one. */
    sys_madvise((void *)ring->end, step, MADV_POPULATE_WRITE);
    ring->end += step;
    if (populated)
        *populated = (uint32_t)(used + step);
    return true;
}

uint64_t session_bytes(const struct session *session)
{
    uint64_t chunks = session->drained
                          ? slots_used(session)
                          : __atomic_load_n(&session->header->chunks, __ATOMIC_RELAXED);
    uint64_t bytes = __atomic_load_n(&session->left, __ATOMIC_RELAXED);
    int fd = open_again(session);

    if (fd < 0)
        return bytes;
    for (uint64_t i = 0; i < chunks; i++) {
        struct rcutrace_chunk chunk;

        /* Whatever the header says: the file ends here, */
        if (pread(fd, &chunk, sizeof(chunk), (off_t)place_of(session, i)) != sizeof(chunk))
            break;
        if (chunk.magic == RCUTRACE_CHUNK_MAGIC) {
            if (chunk.image == process.image && chunk.state == RCUTRACE_IN_USE)
                bytes += chunk.committed;
        } else {
            /* or has a hole, of any number of chunks. */
            off_t data = lseek(fd, (off_t)place_of(session, i), SEEK_DATA);

            if (data < 0)
                break;
            i = ((uint64_t)data - RCUTRACE_HEADER_SIZE) / session->chunk_size;
        }
    }
    close_again(session, fd);
    return bytes;
}

/* ---- the clock ------------------------------------------------------------------------------- */

static bool has_invariant_tsc(void)
{
#ifdef __x86_64__
    unsigned a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
#else
    return false;
#endif
}

static uint64_t read_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void session_mark_time(struct session *session)
{
    struct rcutrace_moment *now = &session->header->now;

    __atomic_store_n(&now->ticks, rcutrace_clock(), __ATOMIC_RELAXED);
    __atomic_store_n(&now->monotonic_ns, read_ns(CLOCK_MONOTONIC), __ATOMIC_RELAXED);
    __atomic_store_n(&now->realtime_ns, read_ns(CLOCK_REALTIME), __ATOMIC_RELAXED);
}

/* ---- open and close -------------------------------------------------------------------------- */

static const char *what_is_wrong(const struct rcutrace_header *header)
{
    uint32_t size = header->chunk_size;

    if (memcmp(header->magic, RCUTRACE_MAGIC, sizeof(header->magic)))
        return "not a trace file";
    if (header->version != RCUTRACE_VERSION)
        return "a trace file of another version";
    if (size < 4096 || size > 1u << 30 || size & (size - 1) || header->mode > RCUTRACE_OVERWRITE ||
        header->clock > RCUTRACE_CLOCK_MONOTONIC ||
        (header->mode == RCUTRACE_OVERWRITE && header->thread_chunks < 2) ||
        (header->flags & RCUTRACE_DRAINED &&
         (header->mode == RCUTRACE_OVERWRITE || !header->slot_limit ||
          header->slot_limit > RCUTRACE_MOST_SLOTS)))
        return "a trace file with a header that makes no sense";
    if (header->clock == RCUTRACE_CLOCK_TSC && !has_invariant_tsc())
        return "a trace file whose clock this processor has not";
    return NULL;
}

/* What is wrong, or NULL, the mapped header, and what of it was checked, which is what is used: others may write to the
 * file meanwhile. */
static const char *check_file(int fd, struct stat *file, struct rcutrace_header **header,
                              struct rcutrace_header *checked)
{
    const char *wrong;

    if (fstat(fd, file))
        return strerror(errno);
    if (!S_ISREG(file->st_mode))
        return "not a regular file";
    if (file->st_uid != geteuid())
        return "another user's file";
    if (file->st_size < RCUTRACE_HEADER_SIZE)
        return "not a trace file";
    *header = sys_mmap(NULL, RCUTRACE_HEADER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!*header)
        return "cannot be mapped";
    memcpy(checked, *header, sizeof(*checked));
    wrong = what_is_wrong(checked);
    if (wrong)
        sys_munmap(*header, RCUTRACE_HEADER_SIZE);
    return wrong;
}

struct session *session_open(const char *path, char *why, size_t size)
{
    struct rcutrace_header *header = NULL, checked;
    struct session *session = NULL;
    const char *wrong;
    struct stat file = {0};
    int fd;

    if (*path != '/' || strlen(path) >= sizeof(session->path)) {
        snprintf(why, size, "%.200s: %s", path, *path == '/' ? "too long" : "not an absolute path");
        return NULL;
    }
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    wrong = fd < 0 ? strerror(errno) : check_file(fd, &file, &header, &checked);
    if (!wrong) {
        /* Most of it is never touched. */
        session = sys_mmap(NULL, sizeof(*session), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (!session) {
            sys_munmap(header, RCUTRACE_HEADER_SIZE);
            wrong = "no memory";
        }
    }
    if (wrong) {
        if (fd >= 0)
            sys_close_if(fd, &file);
        snprintf(why, size, "%.200s: %s", path, wrong);
        return NULL;
    }
    session->header = header;
    session->serial = ++serial;
    session->chunk_size = checked.chunk_size;
    session->mode = checked.mode;
    session->thread_chunks = checked.thread_chunks;
    session->chunk_limit = checked.chunk_limit;
    session->drained = checked.flags & RCUTRACE_DRAINED;
    session->slot_limit = session->drained ? checked.slot_limit : 0;
    session->device = file.st_dev;
    session->inode = file.st_ino;
    session->fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    sys_close_if(fd, &file);
    strcpy(session->path, path);
    rcutrace_tsc = checked.clock == RCUTRACE_CLOCK_TSC;
    session_mark_time(session);
    rcu_assign_pointer(session_current, session);
    process_renew_generation();
    return session;
}

void session_close(void)
{
    struct session *session = session_current;
    uint32_t rings;

    if (!session)
        return;
    session_mark_time(session);
    rcu_assign_pointer(session_current, NULL);
    process_renew_generation();
    synchronize_rcu_tasks_trace();
    synchronize_rcu();
    rings = session->rings < MOST_RINGS ? session->rings : MOST_RINGS;
    for (uint32_t i = 0; i < rings; i++)
        session_leave_chunk(session, &session->ring[i]);
    if (session->window)
        sys_munmap((void *)session->window, window_size(session));
    sys_munmap(session->header, RCUTRACE_HEADER_SIZE);
    if (is_ours(session, session->fd))
        close(session->fd);
    sys_munmap(session, sizeof(*session));
}

/* All but one chunk of it, if that is in it. */
static void unmap_window(struct session *session, uintptr_t but)
{
    uintptr_t window = session->window, end = window + window_size(session);
    uint64_t slots = slots_used(session);

    if (!window)
        return;
    if (but && in_window(session, but)) {
        sys_munmap((void *)window, but - window);
        window = but + session->chunk_size;
    }
    if (window < end)
        sys_munmap((void *)window, end - window);
    session->window = 0;
    for (uint64_t i = 0; i < slots; i++)
        if (session->populated[i])
            session->populated[i] = 0;
}

void session_after_fork(void)
{
    struct session *session = session_current;
    const struct rcutrace_thread *thread = &rcutrace_thread;
    uintptr_t interrupted = 0;
    uint32_t rings;

    if (!session)
        return;
    rings = session->rings < MOST_RINGS ? session->rings : MOST_RINGS;
    for (uint32_t i = 0; i < rings; i++) {
        void *chunk = (void *)session->ring[i].chunk;

        if (!chunk)
            continue;
        /* The handler that forked may have interrupted a writer: what that writes is to go nowhere. */
        if ((i + 1 == thread->ring || i + 1 == thread->transient) && BROKEN != INTERRUPTED_WRITER) {
            interrupted = (uintptr_t)chunk;
            sys_mmap(chunk, session->chunk_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        } else if (!in_window(session, (uintptr_t)chunk)) {
            sys_munmap(chunk, session->chunk_size);
        }
        session->ring[i] = (struct ring){0};
    }
    unmap_window(session, interrupted);
    session->left = session->reachable = 0;
    session->usable = session->spent = 0;
    session->rings = 0;
    session->announced = session->introduced = 0;
    session->announce_at = 0;
    session->serial = ++serial;
}
