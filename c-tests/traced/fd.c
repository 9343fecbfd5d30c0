/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Descriptors opened and closed in all ways, in known numbers; each result is checked. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* errno is as it was, or what the call says. */
#define EXPECT(condition) \
    do { \
        errno = 77; \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s: errno %d\n", __LINE__, #condition, errno); \
            exit(1); \
        } \
    } while (0)
#define WELL(call) EXPECT((call) >= 0 && errno == 77)
#define FAILS(call, error) EXPECT((call) == -1 && errno == (error))

extern int open_2(const char *, int) __asm__("__open_2");
extern int openat64_2(int, const char *, int) __asm__("__openat64_2");

static volatile int cleaned;
static int listener;

static int mode_of(int fd)
{
    struct stat file;

    if (fd < 0 || fstat(fd, &file))
        return -1;
    return (int)file.st_mode & 0777;
}

static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

static void *accept_for_ever(void *unused)
{
    pthread_cleanup_push(clean, NULL);
    accept(listener, NULL, NULL);
    pthread_cleanup_pop(0);
    return unused;
}

static void *open_for_ever(void *fifo)
{
    pthread_cleanup_push(clean, NULL);
    open(fifo, O_RDONLY);
    pthread_cleanup_pop(0);
    return fifo;
}

static void cancel(void *(*function)(void *), void *argument)
{
    const int before = cleaned;
    pthread_t thread;
    void *result;

    EXPECT(!pthread_create(&thread, NULL, function, argument));
    usleep(30000);
    EXPECT(!pthread_cancel(thread) && !pthread_join(thread, &result));
    EXPECT(result == PTHREAD_CANCELED && cleaned == before + 1);
}

/* Numbers go round among threads: an open must not come before the close that makes room for it. */
static void *churn(void *path)
{
    for (int i = 0; i < 1000; i++) {
        int fd = open(path, O_RDONLY);

        if (fd < 0 || close(fd)) {
            fprintf(stderr, "in a thread: errno %d\n", errno);
            exit(1);
        }
    }
    return path;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "fd.socket"};
    char name[4200], template[] = "fd.temporary.XXXXXX";
    int fd, other, two[2];
    volatile int kept;
    pthread_t threads[4];
    sigset_t none;
    FILE *stream;
    DIR *directory;
    pid_t child;

    (void)argv;
    umask(0);
    unlink("fd.new");
    unlink("fd.fifo");
    unlink("fd.socket");
    /* Not every file system has it. */
    fd = open(".", O_TMPFILE | O_RDWR, 0604);
    EXPECT(fd < 0 || mode_of(fd) == 0604);
    close(fd);
    open("first mark", O_RDONLY);

    /* Files. */
    WELL(fd = open("fd.new", O_CREAT | O_RDWR | O_EXCL, 0640));
    EXPECT(mode_of(fd) == 0640);
    WELL(close(fd));
    WELL(fd = open64("fd.new", O_RDONLY));
    WELL(close(fd));
    WELL(fd = openat(AT_FDCWD, "fd.at", O_CREAT | O_WRONLY, 0600));
    EXPECT(mode_of(fd) == 0600);
    WELL(close(fd));
    WELL(fd = openat64(AT_FDCWD, "fd.at", O_RDONLY));
    WELL(close(fd));
    WELL(fd = creat("fd.creat", 0611));
    EXPECT(mode_of(fd) == 0611);
    WELL(close(fd));
    WELL(fd = open_2("fd.at", O_RDONLY));
    WELL(close(fd));
    WELL(fd = openat64_2(AT_FDCWD, "fd.at", O_RDONLY));
    WELL(close(fd));
    EXPECT((fd = mkstemp(template)) >= 0);
    WELL(close(fd));
    EXPECT(!unlink(template));
    FAILS(open("no such file", O_RDONLY), ENOENT);
    FAILS(open((const char *)8, O_RDONLY), EFAULT);
    FAILS(openat(-5, "relative", O_RDONLY), EBADF);
    for (unsigned i = 0; i < sizeof(name) - 1; i++)
        name[i] = 'n';
    name[sizeof(name) - 1] = 0;
    FAILS(open(name, O_RDONLY), ENAMETOOLONG);
    FAILS(close(-1), EBADF);
    FAILS(close(1000), EBADF);

    /* Streams and directories. */
    EXPECT((stream = fopen("fd.at", "r")) && !fclose(stream));
    EXPECT(!fopen("no such stream", "r") && errno == ENOENT);
    EXPECT((stream = fmemopen(name, 10, "r")) && !fclose(stream));
    WELL(fd = open("fd.at", O_RDONLY));
    EXPECT((stream = fdopen(fd, "r")) && !fclose(stream));
    EXPECT((directory = opendir(".")) && readdir(directory) && !closedir(directory));
    FAILS(closedir(*(DIR *volatile *)&(DIR *){NULL}), EINVAL);

    /* Copies. */
    WELL(fd = dup(1));
    WELL(dup2(1, fd));
    EXPECT(dup2(fd, fd) == fd && errno == 77);
    WELL(dup3(1, fd, O_CLOEXEC));
    FAILS(dup3(fd, fd, 0), EINVAL);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC && errno == 77);
    WELL(other = fcntl(fd, F_DUPFD, 50));
    EXPECT(other >= 50);
    WELL(close(other));
    WELL(close(fd));
    FAILS(dup(-7), EBADF);

    /* What has no name. */
    WELL(pipe(two));
    WELL(close(two[0]) | close(two[1]));
    WELL(pipe2(two, O_CLOEXEC));
    WELL(close(two[0]) | close(two[1]));
    FAILS(pipe2(two, 1), EINVAL);
    WELL(socketpair(AF_UNIX, SOCK_STREAM, 0, two));
    WELL(close(two[0]) | close(two[1]));
    WELL(listener = socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT(!bind(listener, (struct sockaddr *)&address, sizeof(address)) && !listen(listener, 4));
    for (int i = 0; i < 2; i++) {
        WELL(fd = socket(AF_UNIX, SOCK_STREAM, 0));
        EXPECT(!connect(fd, (struct sockaddr *)&address, sizeof(address)));
        WELL(other = i ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : accept(listener, NULL, NULL));
        WELL(close(other) | close(fd));
    }
    sigemptyset(&none);
    WELL(close(eventfd(0, 0)));
    WELL(close(epoll_create1(0)));
    WELL(close(epoll_create(1)));
    WELL(close(timerfd_create(CLOCK_MONOTONIC, 0)));
    WELL(fd = signalfd(-1, &none, 0));
    EXPECT(signalfd(fd, &none, 0) == fd);
    WELL(close(fd));
    WELL(close(inotify_init()));
    WELL(close(inotify_init1(0)));
    WELL(close(memfd_create("memory", 0)));

    /* Cancelled. */
    EXPECT(!mkfifo("fd.fifo", 0600));
    cancel(accept_for_ever, NULL);
    cancel(open_for_ever, "fd.fifo");
    WELL(close(listener));

    /* A child of vfork has descriptors of its own. */
    WELL(kept = open("kept", O_CREAT | O_RDONLY, 0600));
    child = vfork();
    if (!child)
        _exit(close(kept) || dup2(1, kept) != kept);
    EXPECT(waitpid(child, &fd, 0) == child && !fd);
    EXPECT(mode_of(kept) == 0600);
    open("second mark", O_RDONLY);

    for (int i = 0; i < 4; i++)
        EXPECT(!pthread_create(&threads[i], NULL, churn, "fd.at"));
    for (int i = 0; i < 4; i++)
        EXPECT(!pthread_join(threads[i], NULL));

    /* A child of fork has copies: what it closes stays open here. */
    child = fork();
    if (!child) {
        for (int i = 0; i < 10; i++)
            close(open("fd.at", O_RDONLY));
        _exit(close(kept));
    }
    EXPECT(waitpid(child, &fd, 0) == child && !fd);
    if (argc > 1)
        for (int i = 0; i < 3; i++)
            WELL(open("leaked", O_CREAT | O_RDONLY, 0600));
    return 0;
}
