/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls made inline: nothing that can be traced is called, and errno is not touched. Each
 * returns what the kernel does, an error as a negated errno.
 */
#ifndef RCUTRACE_SYS_H
#define RCUTRACE_SYS_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static inline long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#endif
}

static inline int sys_open(const char *path, int flags)
{
    return (int)sys_call(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0, 0);
}

static inline void sys_close(int fd)
{
    sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline int sys_fstat(int fd, struct stat *file)
{
    /* The kernel's structure is glibc's on both architectures. */
    return (int)sys_call(SYS_fstat, fd, (long)file, 0, 0, 0, 0);
}

/* Whether it still is that file. The program may have put another one in its place: a number that it had closed, and names. */
static inline int sys_is(int fd, const struct stat *ours)
{
    struct stat now;

    return !sys_fstat(fd, &now) && now.st_dev == ours->st_dev && now.st_ino == ours->st_ino;
}

/* Closes it if so. */
static inline void sys_close_if(int fd, const struct stat *ours)
{
    if (sys_is(fd, ours))
        sys_close(fd);
}

static inline int sys_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
    return (int)sys_call(SYS_fallocate, fd, mode, (long)offset, (long)size, 0, 0);
}

static inline long sys_pwrite(int fd, const void *bytes, size_t size, uint64_t offset)
{
    return sys_call(SYS_pwrite64, fd, (long)bytes, (long)size, (long)offset, 0, 0);
}

static inline int sys_stat(const char *path, struct stat *file)
{
    return (int)sys_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)file, 0, 0, 0);
}

/* NULL: it failed. */
static inline void *sys_mmap(void *at, size_t size, int protection, int flags, int fd,
                             uint64_t offset)
{
    long result =
        sys_call(SYS_mmap, (long)at, (long)size, protection, flags, fd, (long)offset);

    return (unsigned long)result > -4096ul ? NULL : (void *)result;
}

static inline void sys_munmap(void *at, size_t size)
{
    sys_call(SYS_munmap, (long)at, (long)size, 0, 0, 0, 0);
}

static inline int sys_madvise(void *at, size_t size, int advice)
{
    return (int)sys_call(SYS_madvise, (long)at, (long)size, advice, 0, 0, 0);
}

static inline uint32_t sys_getpid(void)
{
    return (uint32_t)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static inline uint32_t sys_getppid(void)
{
    return (uint32_t)sys_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
}

static inline uint32_t sys_gettid(void)
{
    return (uint32_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/* Wakes one waiter, of whatever process. */
static inline void sys_futex_wake(uint32_t *word)
{
    sys_call(SYS_futex, (long)word, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
}

/* Those too; returns which were blocked. */
static inline uint64_t sys_block_signals(uint64_t set)
{
    uint64_t before = 0;

    sys_call(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&set, (long)&before, sizeof(set), 0, 0);
    return before;
}

static inline void sys_restore_signals(uint64_t before)
{
    sys_call(SYS_rt_sigprocmask, 2, (long)&before, 0, sizeof(before), 0, 0);
}

/* The calling thread's name, 16 bytes. */
static inline void sys_thread_name(char *name)
{
    sys_call(SYS_prctl, 16 /* PR_GET_NAME */, (long)name, 0, 0, 0, 0);
}

/* How large a file this process may make. */
static inline uint64_t sys_file_size_limit(void)
{
    struct rlimit limit;

    if (sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0))
        return UINT64_MAX;
    return limit.rlim_cur;
}

#endif
