/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Refuses system calls, and counts what it refuses: a filter over the whole process and its children asks
 * a supervisor, a process of its own outside the filter, at each. Refusals can be turned on and off.
 */
#ifndef INJECT_H
#define INJECT_H

#include "seccomp.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

enum { MOST_CALLS = 8, MOST_NUMBER = 512 };

/* Shared with the supervisor. */
struct injection {
    atomic_int listener, armed, error;
    atomic_ulong refused[MOST_NUMBER], passed;
};

static struct injection *injection;

/* Calls of the C library by its wrappers may be refused too: none here. */
__attribute__((noreturn, unused)) static void inject_supervise(void)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;

    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (injection->listener < 0)
        usleep(200);
    for (;;) {
        memset(&request, 0, sizeof(request));
        if (syscall(SYS_ioctl, injection->listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) {
            if (errno == ENOENT || errno == EINTR)
                continue;
            _exit(0);
        }
        memset(&response, 0, sizeof(response));
        response.id = request.id;
        if (injection->armed) {
            response.error = -injection->error;
            injection->refused[request.data.nr % MOST_NUMBER]++;
        } else {
            response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
            injection->passed++;
        }
        syscall(SYS_ioctl, injection->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
}

/* Starts the supervisor. The process's only thread; raw system calls: nobody's handlers run. */
__attribute__((unused)) static bool inject_prepare(void)
{
    long supervisor;

    injection = mmap(NULL, sizeof(*injection), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (injection == MAP_FAILED)
        return false;
    injection->listener = -1;
    /* It shares our table of files, for the listener; and it sends no signal when it ends. */
    supervisor = syscall(SYS_clone, CLONE_FILES, NULL, NULL, NULL, NULL);
    if (!supervisor)
        inject_supervise();
    return supervisor > 0;
}

/* From here on these system calls are asked about, in all threads; refused with `error` while armed. */
__attribute__((unused)) static bool inject(const int *calls, int error, bool armed)
{
    struct sock_filter filter[2 * MOST_CALLS + 2] = {LOAD_NUMBER};
    size_t count = 1;
    int file;

    for (; *calls >= 0 && count < 2 * MOST_CALLS; calls++) {
        filter[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)*calls, 0, 1);
        filter[count++] = (struct sock_filter)ANSWER(SECCOMP_RET_USER_NOTIF);
    }
    filter[count++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    injection->error = error;
    injection->armed = armed;
    file = install_filter(filter, count,
                          SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
                              SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
    if (file < 0)
        return false;
    injection->listener = file;
    return true;
}

__attribute__((unused)) static void inject_arm(bool armed)
{
    if (injection)
        injection->armed = armed;
}

__attribute__((unused)) static unsigned long injected(const int *calls)
{
    unsigned long all = 0;

    for (; injection && *calls >= 0; calls++)
        all += injection->refused[*calls];
    return all;
}

#endif
