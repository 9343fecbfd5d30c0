/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the library says on a standard error that does not take it: the message may be lost, but nobody waits for it,
 * ends by it or is stopped. */
#include "test.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>

enum { NO_SUCH_MODE = 99 };

/* One line, on what is standard error now; a moment, or it hangs. */
static void say_something(void)
{
    uint64_t begin = now_ns();

    CHECK(rcu_notrace_set_ipi_mode(NO_SUCH_MODE) == -EINVAL);
    if (now_ns() - begin > 3000000000)
        fail("a message took %llu ms", (unsigned long long)(now_ns() - begin) / 1000000);
}

/* ---- a terminal whose other side does not read ----------------------------------------------------- */

static int open_terminal(int *master, int flags)
{
    char name[64];

    *master = posix_openpt(O_RDWR | O_NOCTTY);
    if (*master < 0 || grantpt(*master) || unlockpt(*master) || ptsname_r(*master, name, sizeof(name)))
        skip("no pseudo-terminal: %s", strerror(errno));
    return open(name, O_RDWR | O_NOCTTY | flags);
}

static size_t fill(int terminal)
{
    char text[64];
    size_t written = 0;

    memset(text, 'x', sizeof(text));
    /* What is on its way to the other side makes room a little later. */
    for (int i = 0; i < 20; i++) {
        for (ssize_t more; (more = write(terminal, text, sizeof(text))) > 0;)
            written += (size_t)more;
        sleep_ms(5);
    }
    CHECK(written > 1000 && errno == EAGAIN);
    return written;
}

static void *hold_a_section(void *unused)
{
    rcu_read_lock_notrace();
    sleep_ms(500);
    rcu_read_unlock_notrace();
    return unused;
}

static void a_stall_report_waits_for_no_terminal_whose_other_side_does_not_read(void)
{
    int master, terminal = open_terminal(&master, O_NONBLOCK), saved = dup(2);
    char name[64], some[600];
    size_t written = fill(terminal);
    uint64_t begin;
    ssize_t taken;

    /* Room for a little of it: poll(2) says that it can be written to. */
    taken = read(master, some, sizeof(some));
    CHECK(taken > 0 && ptsname_r(master, name, sizeof(name)) == 0);
    sleep_ms(50);
    CHECK(dup2(open(name, O_RDWR | O_NOCTTY), 2) == 2 && !(fcntl(2, F_GETFL) & O_NONBLOCK));
    rcu_notrace_set_stall_ms(50);
    start(hold_a_section, NULL);
    sleep_ms(20);
    begin = now_ns();
    synchronize_rcu();
    say_something();
    dup2(saved, 2);
    printf("    %zu bytes filled it, %zd were read; a wait of %llu ms, %llu stalls\n", written, taken,
           (unsigned long long)(now_ns() - begin) / 1000000, (unsigned long long)stats().stalls);
    CHECK(now_ns() - begin < 4000000000 && stats().stalls > 0);
}

/* ---- a terminal that is another job's ---------------------------------------------------------------- */

static void be_in_the_background(int terminal)
{
    signal(SIGTTOU, SIG_DFL);
    CHECK(setpgid(0, 0) == 0 && dup2(terminal, 2) == 2);
    sleep_ms(20);
    say_something();
    _exit(PASS);
}

/* A session of its own, of which this becomes the terminal. */
static void have_a_background_job(void)
{
    int master, status, own;
    struct termios modes;
    char text[200] = "";
    pid_t job;

    CHECK(setsid() > 0);
    own = open_terminal(&master, 0);
    CHECK(ioctl(own, TIOCSCTTY, 0) == 0 && tcgetattr(own, &modes) == 0);
    modes.c_lflag |= TOSTOP;
    CHECK(tcsetattr(own, TCSANOW, &modes) == 0 && tcgetpgrp(own) == getpgrp());
    job = fork();
    if (!job)
        be_in_the_background(own);
    CHECK(waitpid(job, &status, WUNTRACED) == job);
    if (WIFSTOPPED(status)) {
        kill(job, SIGKILL);
        fail("a message stopped it: signal %d", WSTOPSIG(status));
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
    CHECK(read(master, text, sizeof(text) - 1) > 0);
    printf("    it said: %s", text);
    CHECK(strstr(text, "rcu_notrace_set_ipi_mode"));
    fflush(stdout);
    _exit(PASS);
}

static void a_message_of_a_background_job_does_not_stop_it_where_its_terminal_would(void)
{
    int status;
    pid_t session = fork();

    if (!session)
        have_a_background_job();
    CHECK(session > 0 && waitpid(session, &status, 0) == session && WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIP)
        exit(SKIP);
    CHECK(WEXITSTATUS(status) == PASS);
}

/* ---- a file that may not grow ------------------------------------------------------------------------- */

static atomic_int signals;

static void count_signal(int signal)
{
    (void)signal;
    signals++;
}

static void a_message_to_a_file_of_the_largest_size_is_lost_and_raises_nothing(void)
{
    struct rlimit limit = {0, 0};
    int file = (int)syscall(SYS_memfd_create, "stderr", 0), saved = dup(2);
    sigset_t set, pending;

    CHECK(file >= 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signal(SIGXFSZ, count_signal);
    /* That is what a write there does. */
    CHECK(write(file, "x", 1) == -1 && errno == EFBIG && signals == 1);
    CHECK(dup2(file, 2) == 2);
    say_something();
    CHECK(signals == 1);
    /* One that was blocked and pending is the program's, and stays. */
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    raise(SIGXFSZ);
    say_something();
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ));
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    dup2(saved, 2);
    CHECK(signals == 2);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_stall_report_waits_for_no_terminal_whose_other_side_does_not_read),
        SCENARIO(a_message_of_a_background_job_does_not_stop_it_where_its_terminal_would),
        SCENARIO(a_message_to_a_file_of_the_largest_size_is_lost_and_raises_nothing),
    };

    return RUN_SCENARIOS("messages", list, argc, argv);
}
