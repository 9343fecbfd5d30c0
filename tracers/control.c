/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The control socket, and the one thread of the recorder's in each process: it answers requests, looks
 * whether new files are mapped, and toggles.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "recorder.h"
#include "sys.h"

bool control_wanted;
unsigned control_toggle_ms;
uint64_t control_mask;

enum {
    HIGH_FD = 200,
    WATCH_MS = 100,     /* between two looks while something is recorded, or the main thread has left */
    IDLE_MS = 500,      /* and while nothing is */
    FORKED_MS = 50,     /* before the first look in a forked child */
    REQUEST_MS = 1000,
    REQUEST_SIZE = 8192,
    REFRESH_MS = 3600000,
    OWN_STACK = 256 * 1024,
};

/* The socket. The descriptor is believed only if it is still what it was. */
static struct {
    int fd;
    dev_t device;
    ino_t inode;
    uint64_t image;             /* whose it is: a child of _Fork inherits this, maybe with the same process id */
    struct sockaddr_un address; /* empty path: there is none */
} listening = {.fd = -1};

/* With the time in which the machine slept: ticks may go on there. */
static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A descriptor that was just made has the lowest number, where the program may be about to put a file of its own, to
 * which it is left then. Else it goes to a high number, if it can, and `file` is what sys_close_if() wants. -1: there is
 * none. */
static int move_away(int fd, mode_t type, struct stat *file)
{
    int high;

    if (fd < 0 || sys_fstat(fd, file) || (file->st_mode & S_IFMT) != type)
        return -1;
    high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (high < 0)
        return fd;
    if (BROKEN == CLOSE_IF_OURS)
        sys_close(fd);
    else
        sys_close_if(fd, file);
    return high;
}

/* This thread takes no signal of the program's, which may wait for one that it has blocked in all threads of its own. But
 * SIGSYS is let in: by it a sandbox that comes at any time may answer calls, and ends the process where it is blocked. */
static void hold_back_signals(void)
{
    uint64_t let_in = BROKEN == SIGNALS_WAITED_FOR ? ~HELD_BACK : BROKEN == LATE_SANDBOX ? 0 : SIGNAL(SIGSYS);

    sys_restore_signals(~LIBRARYS_SIGNALS & ~let_in);
}

/* ---- the end of the main thread --------------------------------------------------------------- */

/* A process whose main thread has called pthread_exit ends with its last other thread: that must
 * not be ours, nor RCU's. The main thread's destructor tells; it runs in no other way of ending. */
static bool main_has_left;
static pthread_key_t main_key;
static bool has_main_key;

static void on_main_exit(void *unused)
{
    (void)unused;
    __atomic_store_n(&main_has_left, true, __ATOMIC_RELAXED);
}

static bool has_main_left(void)
{
    return __atomic_load_n(&main_has_left, __ATOMIC_RELAXED);
}

/* What the kernel says of the process, kept open: in another root directory there is no /proc, and there may be no
 * descriptor to be had. A file and no directory, by which a program could leave its root directory. */
static struct {
    int fd;
    struct stat file;
} kept = {.fd = -1};

static void keep_open(void)
{
    if (BROKEN == KEPT_OPEN || !sys_is(kept.fd, &kept.file))
        kept.fd = move_away(open("/proc/self/stat", O_RDONLY | O_CLOEXEC), S_IFREG, &kept.file);
}

/* How many there are beside the main one, once nothing runs on that, its destructors neither. 0: it runs, or who knows. */
static long threads_beside_dead_main(void)
{
    enum { STATE = 3, THREADS = 20 };
    char text[1024];
    ssize_t length = pread(kept.fd, text, sizeof(text) - 1, 0);
    const char *at;

    text[length > 0 ? length : 0] = 0;
    /* The name before may have blanks and parentheses. */
    at = strrchr(text, ')');
    if (!at || (strncmp(at, ") Z", 3) && strncmp(at, ") X", 3)))
        return 0;
    for (int field = STATE; at && field <= THREADS; field++)
        at = strchr(at + 1, ' ');
    return at ? strtol(at, NULL, 10) - 1 : 0;
}

/* RCU's threads, which call callbacks, the old arrays of probes. Each that there is tells by a callback of ours. It ends
 * with the process; what is asked before there is one waits for it. */
static struct worker {
    struct rcu_head head;
    const char *name;
    void (*call)(struct rcu_head *head, void (*callback)(struct rcu_head *head));
    enum { NOT_ASKED, ASKED, COUNTED } state;
} workers[] = {
    {.name = "rcu_notrace", .call = call_rcu},
    {.name = "rcu_tasks_trace", .call = call_rcu_tasks_trace},
};
enum { WORKERS = sizeof(workers) / sizeof(workers[0]) };

/* A thread of the program's that waits for callbacks may call it in the worker's place. */
static void on_worker(struct rcu_head *head)
{
    struct worker *worker = (struct worker *)(void *)head;
    char name[16];

    sys_thread_name(name);
    __atomic_store_n(&worker->state, strcmp(name, worker->name) ? NOT_ASKED : COUNTED, __ATOMIC_RELEASE);
}

static long count_workers(void)
{
    long count = 0;

    for (int i = 0; i < WORKERS; i++) {
        if (__atomic_load_n(&workers[i].state, __ATOMIC_ACQUIRE) == NOT_ASKED) {
            workers[i].state = ASKED;
            workers[i].call(&workers[i].head, on_worker);
        }
        count += __atomic_load_n(&workers[i].state, __ATOMIC_RELAXED) == COUNTED;
    }
    return count;
}

/* In a forked child: its workers are others. What was asked and not answered, they are asked there too. */
static void forget_workers(void)
{
    for (int i = 0; i < WORKERS; i++)
        if (workers[i].state == COUNTED)
            workers[i].state = NOT_ASKED;
}

/* Beside us and those that serve us there is only what is left of the main thread. */
static bool is_last_thread(void)
{
    bool last = false;

    /* A child that is forked meanwhile shall know what is open, and who was asked. */
    pthread_mutex_lock(&recorder_lock);
    keep_open();
    if (has_main_left()) {
        /* In this order: a worker that begins in between is one too many. */
        long ours = 1 + count_workers();

        last = threads_beside_dead_main() == ours;
    }
    pthread_mutex_unlock(&recorder_lock);
    return last;
}

/* ---- the socket ------------------------------------------------------------------------------- */

static bool is_ours(void)
{
    struct stat file;

    return listening.fd >= 0 && !fstat(listening.fd, &file) && file.st_dev == listening.device &&
           file.st_ino == listening.inode;
}

/* A directory of this user's, closed to others. */
static bool make_directory(char *path, size_t size)
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    struct stat directory;
    int length;

    if (runtime && *runtime == '/')
        length = snprintf(path, size, "%s/rcutrace", runtime);
    else
        length = snprintf(path, size, "/tmp/rcutrace-%u", (unsigned)geteuid());
    if (length >= (int)size - 12)
        return false;
    if (mkdir(path, 0700) && errno != EEXIST)
        return false;
    return !lstat(path, &directory) && S_ISDIR(directory.st_mode) &&
           directory.st_uid == geteuid() && !(directory.st_mode & 077);
}

/* Whether somebody answers there: another process, of another PID namespace with the same /tmp. */
static bool is_answered(const struct sockaddr_un *address)
{
    struct stat file;
    int fd = move_away(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), S_IFSOCK, &file);
    bool answered;

    if (fd < 0)
        return true;
    answered = !connect(fd, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN;
    sys_close_if(fd, &file);
    return answered;
}

static void open_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[sizeof(address.sun_path)];
    struct stat file;
    int fd;

    listening.fd = -1;
    if (!make_directory(directory, sizeof(directory)))
        return;
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%u", directory, process.pid) >=
        (int)sizeof(address.sun_path))
        return;
    fd = move_away(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), S_IFSOCK, &file);
    /* Left there by a dead process, or by this one whose descriptor the program has closed. */
    if (fd >= 0 && !is_answered(&address))
        unlink(address.sun_path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) || listen(fd, 8)) {
        if (fd >= 0)
            sys_close_if(fd, &file);
        return;
    }
    listening.device = file.st_dev;
    listening.inode = file.st_ino;
    listening.image = process.image;
    listening.address = address;
    listening.fd = fd;
}

/* ---- requests --------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void answer(char *text, size_t size, const char *format,
                                                         ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(text, size, format, list);
    va_end(list);
}

/* The session of that file: the one there is, or a new one if nothing is attached to another. */
static bool have_session(const char *path, char *why, size_t size)
{
    struct stat file;

    if (session_current && *path == '/' && !stat(path, &file) &&
        file.st_dev == session_current->device && file.st_ino == session_current->inode)
        return true;
    if (session_current && tracers_any_attached()) {
        snprintf(why, size, "another file is being recorded: %.200s", session_current->path);
        return false;
    }
    maps_renew(true);
    session_close();
    process.why = "attach";
    if (!session_open(path, why, size))
        return false;
    record_announce();
    return true;
}

static void serve_attach(char *names, char *text, size_t size)
{
    char *path = names ? strchr(names, '\t') : NULL, *stack, *end = NULL, why[512];
    unsigned long depth = 0;

    if (!path) {
        answer(text, size, "error\tattach what, to which file?");
        return;
    }
    *path++ = 0;
    stack = strchr(path, '\t');
    if (stack) {
        *stack++ = 0;
        if (!strncmp(stack, "stack=", 6) && stack[6] >= '0' && stack[6] <= '9')
            depth = strtoul(stack + 6, &end, 10);
        if (!end || *end || depth > RCUTRACE_MOST_FRAMES) {
            answer(text, size, "error\tstack= takes a number from 0 to %d", RCUTRACE_MOST_FRAMES);
            return;
        }
    }
    /* What is refused shall leave nothing behind. */
    if (!tracers_known(names, why, sizeof(why)) || !have_session(path, why, sizeof(why))) {
        answer(text, size, "error\t%s", why);
        return;
    }
    if (stack)
        __atomic_store_n(&rcutrace_stack_depth, (unsigned)depth, __ATOMIC_RELAXED);
    if (tracers_attach(names, why, sizeof(why))) {
        if (!tracers_any_attached())
            session_close();
        answer(text, size, "error\t%s", why);
        return;
    }
    session_mark_time(session_current);
    answer(text, size, "ok");
}

static void serve_detach(const char *names, char *text, size_t size)
{
    char why[512];

    if (!names || strchr(names, '\t')) {
        answer(text, size, "error\tdetach what?");
    } else if (tracers_detach(names, why, sizeof(why))) {
        answer(text, size, "error\t%s", why);
    } else {
        if (!tracers_any_attached())
            session_close();
        else
            session_mark_time(session_current);
        answer(text, size, "ok");
    }
}

static void serve_status(char *text, size_t size)
{
    struct session *session = session_current;
    char tracers[2048];

    tracers_status(tracers, sizeof(tracers));
    answer(text, size, "ok\tpid=%u\timage=%llu\tfile=%s%s\tbytes=%llu\tlost=%llu", process.pid,
           (unsigned long long)process.image, session ? session->path : "", tracers,
           session ? (unsigned long long)session_bytes(session) : 0,
           session ? (unsigned long long)__atomic_load_n(&session->header->lost, __ATOMIC_RELAXED)
                   : 0);
}

static void serve(char *request, char *text, size_t size)
{
    char *arguments = strchr(request, '\t');

    if (arguments)
        *arguments++ = 0;
    if (!strcmp(request, "attach"))
        serve_attach(arguments, text, size);
    else if (!strcmp(request, "detach"))
        serve_detach(arguments, text, size);
    else if (!strcmp(request, "status") && !arguments)
        serve_status(text, size);
    else
        answer(text, size, "error\tno such request: attach, detach, status");
}

/* Reads one line. False: none came in time, or it is too long, or has a NUL in it. */
static bool read_request(int fd, char *request, size_t size)
{
    uint64_t until = now_ms() + REQUEST_MS;
    size_t used = 0;

    while (used < size) {
        struct pollfd waiting = {fd, POLLIN, 0};
        uint64_t now = now_ms();
        ssize_t got;
        char *end;

        if (now >= until || poll(&waiting, 1, (int)(until - now)) <= 0)
            return false;
        got = recv(fd, request + used, size - used, MSG_DONTWAIT);
        if (got <= 0)
            return false;
        end = memchr(request + used, '\n', (size_t)got);
        used += (size_t)got;
        if (end) {
            *end = 0;
            return strlen(request) == (size_t)(end - request);
        }
    }
    return false;
}

static void serve_client(int fd)
{
    static char request[REQUEST_SIZE], text[REQUEST_SIZE];
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
        (peer.uid != geteuid() && peer.uid != 0))
        answer(text, sizeof(text) - 1, "error\tnot your process");
    else if (!read_request(fd, request, sizeof(request)))
        answer(text, sizeof(text) - 1, "error\tno request of one line within a second");
    else {
        pthread_mutex_lock(&recorder_lock);
        serve(request, text, sizeof(text) - 1);
        pthread_mutex_unlock(&recorder_lock);
    }
    strcat(text, "\n");
    send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void accept_client(void)
{
    struct stat file;
    int fd = is_ours() ? move_away(accept4(listening.fd, NULL, NULL, SOCK_CLOEXEC), S_IFSOCK, &file) : -1;

    /* The client waits on where no descriptor is to be had, and poll() would come back at once. */
    if (fd < 0) {
        if (BROKEN != ACCEPT_PATIENCE)
            poll(NULL, 0, WATCH_MS);
        return;
    }
    serve_client(fd);
    sys_close_if(fd, &file);
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Waits for a client. A socket that the program has closed is made anew. */
static void wait_for_client(uint64_t ms)
{
    struct pollfd waiting = {-1, POLLIN, 0};

    if (control_wanted && !is_ours()) {
        pthread_mutex_lock(&recorder_lock);
        /* Unless the process's end has come between. */
        if (control_wanted)
            open_socket();
        pthread_mutex_unlock(&recorder_lock);
    }
    waiting.fd = listening.fd;
    if (poll(&waiting, 1, (int)ms) > 0 && waiting.revents & POLLIN)
        accept_client();
    else if (waiting.revents)
        listening.fd = -1;
}

/* What is due, with the lock. The ring is given back each time: others make better use of it. */
static void look_after(uint64_t now, uint64_t *toggle, uint64_t *refresh)
{
    pthread_mutex_lock(&recorder_lock);
    if (session_current)
        maps_renew(false);
    if (control_toggle_ms && now >= *toggle) {
        tracers_toggle();
        *toggle = now + control_toggle_ms;
    }
    /* A record has the low 48 bits of its time alone: no chunk may go on for half of that round
     * without a CONTEXT. */
    if (now >= *refresh) {
        process_renew_generation();
        *refresh = now + REFRESH_MS;
    }
    record_leave();
    pthread_mutex_unlock(&recorder_lock);
}

/* The trap flag of a program that steps through itself is clear meanwhile: the C library blocks all signals around clone(2),
 * where SIGTRAP would end the process, and the new thread would inherit it. */
static int create_unstepped(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
#if defined(__x86_64__)
    const unsigned long long trap = 0x100, flags = __readeflags();
    int error;

    if (BROKEN != STEPPED_CREATOR)
        __writeeflags(flags & ~trap);
    error = pthread_create(thread, attributes, body, argument);
    __writeeflags(flags);
    return error;
#else
    return pthread_create(thread, attributes, body, argument);
#endif
}

/* What the C library takes out of each thread's stack: thread-local segments, mostly. */
static size_t taken_of_stacks;

/* Where it does not say, nothing. */
static void ask_what_is_taken(void)
{
    size_t (*taken)(const pthread_attr_t *);
    pthread_attr_t attributes;

    *(void **)&taken = BROKEN == ROOM_FOR_SEGMENTS ? NULL : dlsym(RTLD_DEFAULT, "__pthread_get_minstack");
    if (!taken || pthread_attr_init(&attributes))
        return;
    taken_of_stacks = taken(&attributes);
    pthread_attr_destroy(&attributes);
}

/* Of the usual size, where the program is to run on it; ours needs little, and it may be scarce (RLIMIT_AS, mlockall). */
static bool create_thread(void *(*body)(void *), void *argument, bool is_ours)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool created;

    if (pthread_attr_init(&attributes))
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (is_ours)
        pthread_attr_setstacksize(&attributes, OWN_STACK + taken_of_stacks);
    created = !create_unstepped(&thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    return created;
}

/* As the C library does for a process's last thread. RCU's thread would stay. */
static void *end_process(void *unused)
{
    (void)unused;
    sys_restore_signals(control_mask);
    exit(0);
}

static void *control(void *forked)
{
    uint64_t now = now_ms(), toggle = now + control_toggle_ms, refresh = now + REFRESH_MS;

    hold_back_signals();
    rcutrace_begin_own();
    prctl(PR_SET_NAME, "rcutrace");
    /* Most forked children exec or end soon. */
    if (forked)
        poll(NULL, 0, FORKED_MS);
    while (!is_last_thread()) {
        uint64_t ms = session_current || has_main_left() ? WATCH_MS : IDLE_MS;

        if (control_toggle_ms && toggle < now + ms)
            ms = toggle > now ? toggle - now : 0;
        wait_for_client(ms);
        now = now_ms();
        look_after(now, &toggle, &refresh);
    }
    pthread_mutex_lock(&recorder_lock);
    control_finish();
    pthread_mutex_unlock(&recorder_lock);
    rcutrace_end_own();
    /* On a stack of the usual size, unless there is no memory for it. What the program's threads had is free by now. */
    if (BROKEN != STACK_OF_EXIT && create_thread(end_process, NULL, false))
        return NULL;
    return end_process(NULL);
}

/* With signals held back, which the thread inherits. Where no thread can be had, nobody answers; recording does not depend
 * on it. */
static void start_thread(bool forked)
{
    if (!control_wanted && !control_toggle_ms)
        return;
    main_has_left = false;
    keep_open();
    if (has_main_key)
        pthread_setspecific(main_key, &main_key);
    create_thread(control, forked ? &listening : NULL, true);
}

void control_start(void)
{
    ask_what_is_taken();
    has_main_key = !pthread_key_create(&main_key, on_main_exit);
    start_thread(false);
}

static void let_go_of_socket(void)
{
    if (is_ours())
        close(listening.fd);
    listening.fd = -1;
    listening.address.sun_path[0] = 0;
}

void control_after_fork(bool thread)
{
    let_go_of_socket();
    sys_close_if(kept.fd, &kept.file);
    kept.fd = -1;
    forget_workers();
    if (thread)
        start_thread(true);
}

void control_finish(void)
{
    if (listening.address.sun_path[0] && (listening.image == process.image || BROKEN == OWN_SOCKET))
        unlink(listening.address.sun_path);
    let_go_of_socket();
    control_wanted = false;
}
