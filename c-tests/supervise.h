/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Counts the system calls of one thread: a filter asks a supervisor, in another thread, at each. */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include "seccomp.h"

#include <sys/ioctl.h>

static atomic_int listener = -1, membarriers, tgkills, other_calls;
static atomic_bool counting;

/* The supervisor: a thread that runs outside the filter. */
static void *supervise(void *unused)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;

    while (listener == -1)
        sleep_ms(1);
    for (;;) {
        memset(&request, 0, sizeof(request));
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
            return unused;
        if (!counting)
            ;
        else if (request.data.nr == SYS_membarrier)
            membarriers++;
        else if (request.data.nr == SYS_tgkill)
            tgkills++;
        else
            other_calls++;
        memset(&response, 0, sizeof(response));
        response.id = request.id;
        response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
}

/* Puts the calling thread alone under supervision, but for how a thread ends. False if there is no
 * such thing here; `listener` is negative then. */
static bool be_supervised(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        ON(SYS_exit, SECCOMP_RET_ALLOW),
        ON(SYS_madvise, SECCOMP_RET_ALLOW),
        ON(SYS_rt_sigprocmask, SECCOMP_RET_ALLOW),
        ANSWER(SECCOMP_RET_USER_NOTIF),
    };

    listener = install_filter(filter, sizeof(filter) / sizeof(filter[0]),
                              SECCOMP_FILTER_FLAG_NEW_LISTENER);
    return listener >= 0;
}

#endif
