/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * In each tracer: tells the recorder that main() is about to begin, and all constructors have run. Its control
 * thread starts then, and not in its own constructor, which runs before the tracers': code is patched only
 * while no other thread runs, and membarrier(2) takes 10 ms and more to register a process that has threads.
 *
 * In the tracers, because they are preloaded, and so come before the C library; the recorder does not.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "rcutrace.h"

#define EXPORT __attribute__((visibility("default")))

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void),
                           void (*)(void), void *);

/* The recorder looks for it. */
EXPORT extern const char rcutrace_tells_of_main;
const char rcutrace_tells_of_main = 1;

/* glibc's two versions of it are one function. */
EXPORT start_function __libc_start_main;

int __libc_start_main(main_function *main, int count, char **arguments, void (*initialise)(void),
                      void (*finish)(void), void (*finish_loader)(void), void *stack_end)
{
    void *address = dlsym(RTLD_NEXT, "__libc_start_main");
    start_function *real;

    if (!address)
        abort();
    memcpy(&real, &address, sizeof(real));
    rcutrace_main();
    return real(main, count, arguments, initialise, finish, finish_loader, stack_end);
}
