/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Callbacks: when they run, where, in which order, and how often; floods, forks and exits. */
#include "supervise.h"
#include "test.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- an allocator that counts ---------------------------------------------------------------- */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static __thread bool count_here;
static atomic_ulong allocations_here, frees_of_blocks;
static void *blocks[8];

void *malloc(size_t size)
{
    allocations_here += count_here;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations_here += count_here;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    allocations_here += count_here;
    return __libc_realloc(block, size);
}

void free(void *block)
{
    for (size_t i = 0; block && i < COUNT(blocks); i++)
        if (block == blocks[i])
            frees_of_blocks += 1ul << (8 * i);
    __libc_free(block);
}

/* ---- threads, as /proc shows them ------------------------------------------------------------ */

/* A field of a thread's status; the empty text if there is none. */
static const char *status_of(int tid, const char *name)
{
    static char text[128];
    char path[64], line[256];
    size_t length = strlen(name);
    FILE *file;

    text[0] = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, name, length))
            snprintf(text, sizeof(text), "%.100s", line + length + strspn(line + length, " \t"));
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* How many threads have that name; NULL: any. */
static int threads_called(const char *name)
{
    DIR *directory = opendir("/proc/self/task");
    struct dirent *entry;
    int found = 0;

    CHECK(directory);
    while ((entry = readdir(directory)))
        if (entry->d_name[0] != '.')
            found += !name || !strcmp(status_of(atoi(entry->d_name), "Name:"), name);
    closedir(directory);
    return found;
}

static bool soon(bool (*holds)(void))
{
    for (int i = 0; i < 5000 && !holds(); i++)
        sleep_ms(1);
    return holds();
}

static pid_t expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("a child ended with status %#x", (unsigned)status);
    return child;
}

/* ---- order, grace periods, the worker -------------------------------------------------------- */

struct item {
    struct rcu_head head;
    unsigned thread, number;
    atomic_uint runs;
};

enum { THREADS = 4, EACH = 20000 };

static struct item items[THREADS][EACH];
static atomic_uint next_of[THREADS];
static atomic_ulong ran;
static atomic_int callback_thread;

static void run_in_order(struct rcu_head *head)
{
    struct item *item = (struct item *)head;

    CHECK(next_of[item->thread] == item->number);
    next_of[item->thread] = item->number + 1;
    item->runs++;
    ran++;
    callback_thread = (int)syscall(SYS_gettid);
}

static void *queue_in_order(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;

    for (unsigned i = 0; i < EACH; i++) {
        items[thread][i].thread = thread;
        items[thread][i].number = i;
        call_rcu(&items[thread][i].head, run_in_order);
    }
    return NULL;
}

static void callbacks_run_once_each_in_the_order_of_their_thread(void)
{
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start(queue_in_order, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    CHECK(ran == THREADS * EACH);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < EACH; j++)
            CHECK(items[i][j].runs == 1);
    CHECK(stats().callbacks_queued == ran && stats().callbacks_run == ran);
    printf("    %lu callbacks, %llu grace periods\n", ran,
           (unsigned long long)stats().grace_periods);
}

static atomic_bool inside, leave, left;

static void *hold(void *unused)
{
    rcu_read_lock_notrace();
    inside = true;
    while (!leave)
        sleep_ms(1);
    left = true;
    rcu_read_unlock_notrace();
    return unused;
}

static void note(struct rcu_head *head)
{
    (void)head;
    ran++;
    callback_thread = (int)syscall(SYS_gettid);
}

static void note_after_the_section(struct rcu_head *head)
{
    CHECK(left);
    note(head);
}

static void none_runs_before_a_section_that_was_open_has_ended(void)
{
    struct rcu_head heads[100];

    for (int round = 0; round < 5; round++) {
        pthread_t holder;

        inside = leave = left = false;
        ran = 0;
        CHECK(rcu_notrace_start_worker() == 0);
        holder = start(hold, NULL);
        while (!inside)
            sleep_ms(1);
        for (size_t i = 0; i < COUNT(heads); i++)
            call_rcu(&heads[i], note_after_the_section);
        sleep_ms(50);
        CHECK(ran == 0);
        leave = true;
        rcu_barrier();
        CHECK(ran == COUNT(heads));
        pthread_join(holder, NULL);
    }
}

static int ipi_signal(void)
{
    return SIGURG;
}

static bool one_ran(void)
{
    return ran > 0;
}

static void they_run_on_a_worker_that_blocks_all_signals_but_the_ipis_and_faults(void)
{
    static const char faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, 0};
    struct rcu_head head;
    unsigned long blocked;

    CHECK(rcu_notrace_start_worker() == 0);
    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&head, note);
    CHECK(soon(one_ran));
    CHECK(callback_thread != getpid());
    CHECK(!strcmp(status_of(callback_thread, "Name:"), "rcu_notrace"));
    CHECK(threads_called("rcu_notrace") == 1 && threads_called(NULL) == 2);
    blocked = strtoul(status_of(callback_thread, "SigBlk:"), NULL, 16);
    printf("    the worker blocks %#lx\n", blocked);
    for (int signal = 1; signal < 65; signal++) {
        bool is_blocked = blocked >> (signal - 1) & 1;

        if (signal == SIGKILL || signal == SIGSTOP || (signal >= 32 && signal < SIGRTMIN) ||
            strchr(faults, signal) || signal == ipi_signal())
            CHECK(!is_blocked);
        else
            CHECK(is_blocked);
    }
    /* Ours are as they were. */
    CHECK(strtoul(status_of(getpid(), "SigBlk:"), NULL, 16) == 0);
}

/* libc has every thread change its ids by a signal of its own, and waits for them all. */
static void libcs_own_signals_reach_the_worker(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    alarm(10);
    CHECK(setgid(getgid()) == 0);
    CHECK(setuid(getuid()) == 0);
}

static void *do_nothing(void *unused)
{
    return unused;
}

/* The first pthread_create() of a process unblocks the one of setuid() in its caller, whatever that wants. */
static void and_a_worker_that_is_not_the_first_thread(void)
{
    pthread_join(start(do_nothing, NULL), NULL);
    libcs_own_signals_reach_the_worker();
}

/* ---- from anywhere --------------------------------------------------------------------------- */

struct block {
    struct rcu_head head;
    atomic_bool waits;
    char rest[100];
};

static struct block pool[4096];
static atomic_ulong from_handlers, from_threads, dropped, in_sections;
static atomic_bool stop;

static void give_back(struct rcu_head *head)
{
    struct block *block = (struct block *)head;

    CHECK(block->waits);
    ran++;
    block->waits = false;
}

static void free_it(struct rcu_head *head)
{
    ran++;
    free(head);
}

static void on_timer(int signal)
{
    static __thread unsigned next;
    int saved = errno;

    (void)signal;
    for (int i = 0; i < 4; i++) {
        unsigned which = next++ * 61 + (unsigned)syscall(SYS_gettid) * 997;
        struct block *block = &pool[which % COUNT(pool)];
        bool waits = false;

        if (!atomic_compare_exchange_strong(&block->waits, &waits, true)) {
            dropped++;
            continue;
        }
        in_sections += rcu_read_lock_held() != 0;
        call_rcu(&block->head, give_back);
        from_handlers++;
    }
    errno = saved;
}

static void *allocate_and_queue(void *unused)
{
    timer_t timer = storm_here();

    while (!stop) {
        struct block *block = malloc(sizeof(*block) + (from_threads % 50) * 40);
        void *other = malloc(300);

        rcu_read_lock_notrace();
        call_rcu(&block->head, free_it);
        rcu_read_unlock_notrace();
        free(other);
        from_threads++;
    }
    timer_delete(timer);
    return unused;
}

static void handlers_that_interrupt_malloc_and_call_rcu_queue_callbacks(void)
{
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    pthread_t threads[3];

    CHECK(rcu_notrace_start_worker() == 0);
    sigaction(SIGUSR2, &action, NULL);
    for (size_t i = 0; i < COUNT(threads); i++)
        threads[i] = start(allocate_and_queue, NULL);
    sleep_ms(1000);
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    printf("    from threads %lu, from handlers %lu (%lu in sections), no block free %lu, "
           "run %lu\n",
           from_threads, from_handlers, in_sections, dropped, ran);
    CHECK(ran == from_threads + from_handlers);
    CHECK(from_handlers > 1000 && from_threads > 1000 && in_sections > 10);
    for (size_t i = 0; i < COUNT(pool); i++)
        CHECK(!pool[i].waits);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int again;

static void run_again(struct rcu_head *head)
{
    ran++;
    if (--again > 0)
        call_rcu(head, run_again);
}

static void a_callback_that_queues_itself_again_runs_as_often(void)
{
    struct rcu_head head;

    again = 200;
    call_rcu(&head, run_again);
    for (unsigned i = 1; i <= 200; i++) {
        rcu_barrier();
        CHECK(ran >= i);
    }
    CHECK(ran == 200);
}

static void lock_and_note(struct rcu_head *head)
{
    (void)head;
    pthread_mutex_lock(&mutex);
    ran++;
    pthread_mutex_unlock(&mutex);
}

static void callbacks_may_be_queued_under_a_lock_that_they_take(void)
{
    /* More than a flooding caller may queue without being slowed. */
    enum { UNDER = 100000 };
    struct rcu_head *heads = malloc(UNDER * sizeof(*heads));

    CHECK(rcu_notrace_start_worker() == 0);
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < UNDER; i++)
        call_rcu(&heads[i], lock_and_note);
    CHECK(ran == 0);
    pthread_mutex_unlock(&mutex);
    rcu_barrier();
    printf("    slowed %llu times\n", (unsigned long long)stats().callbacks_slowed);
    CHECK(ran == UNDER);
}

static void synchronize_and_read(struct rcu_head *head)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    synchronize_rcu();
    synchronize_rcu_expedited();
    cond_synchronize_rcu(get_state_synchronize_rcu());
    synchronize_rcu_tasks_trace();
    note(head);
}

static void callbacks_may_wait_for_grace_periods(void)
{
    struct rcu_head heads[20];

    for (size_t i = 0; i < COUNT(heads); i++)
        call_rcu(&heads[i], synchronize_and_read);
    rcu_barrier();
    CHECK(ran == COUNT(heads));
}

/* ---- what an enqueue costs ------------------------------------------------------------------- */

static atomic_bool busy, finish;

static void keep_busy(struct rcu_head *head)
{
    (void)head;
    busy = true;
    while (!finish)
        sleep_ms(1);
}

static void *queue_under_supervision(void *argument)
{
    struct rcu_head *heads = argument;

    if (!be_supervised())
        return NULL;
    counting = count_here = true;
    for (int i = 0; i < 20000; i++)
        call_rcu(&heads[i], note);
    counting = count_here = false;
    return NULL;
}

static void an_enqueue_allocates_nothing_and_makes_no_system_call_while_the_worker_is_awake(void)
{
    struct rcu_head head, *heads = malloc(20000 * sizeof(*heads));
    int system_calls;

    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&head, keep_busy);
    while (!busy)
        sleep_ms(1);
    start(supervise, NULL);
    pthread_join(start(queue_under_supervision, heads), NULL);
    if (listener < 0)
        skip("no seccomp supervision here");
    finish = true;
    rcu_barrier();
    system_calls = membarriers + tgkills + other_calls;
    printf("    20000 callbacks: %d system calls, %lu allocations\n", system_calls,
           allocations_here);
    CHECK(ran == 20000 && system_calls == 0 && allocations_here == 0);
}

static void a_worker_that_sleeps_is_woken(void)
{
    struct rcu_head head;
    uint64_t begin, worst = 0;

    CHECK(rcu_notrace_start_worker() == 0);
    for (int i = 0; i < 10; i++) {
        sleep_ms(i % 2 ? 50 : 5);
        ran = 0;
        begin = now_ns();
        call_rcu(&head, note);
        while (!ran)
            usleep(100);
        if (now_ns() - begin > worst)
            worst = now_ns() - begin;
    }
    printf("    run within %llu us\n", (unsigned long long)worst / 1000);
    CHECK(worst < 500000000);
}

/* ---- who creates the worker ------------------------------------------------------------------ */

static void by_synchronize(void)
{
    synchronize_rcu();
}

static void by_expedited(void)
{
    synchronize_rcu_expedited();
}

static void by_cond_synchronize(void)
{
    cond_synchronize_rcu(get_state_synchronize_rcu());
}

static void by_register(void)
{
    rcu_register_thread();
}

static void by_barrier(void)
{
    rcu_barrier();
}

static void by_start_worker(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
}

static void *read_a_little(void *unused)
{
    join_by_sections();
    return unused;
}

static void by_a_readers_exit(void)
{
    pthread_join(start(read_a_little, NULL), NULL);
}

static void by_a_wait_for_the_other_flavour(void)
{
    synchronize_rcu_tasks_trace();
}

static bool there_is_a_worker(void)
{
    return threads_called("rcu_notrace") == 1;
}

static void no_worker_is_created_by_call_rcu_but_by_what_may_block_or_exits(void)
{
    static void (*const creators[])(void) = {
        by_synchronize, by_expedited,    by_cond_synchronize, by_register,
        by_barrier,     by_start_worker, by_a_readers_exit,   by_a_wait_for_the_other_flavour,
    };

    for (size_t i = 0; i < COUNT(creators); i++) {
        pid_t child = fork();

        if (!child) {
            struct rcu_head heads[3];

            for (size_t j = 0; j < COUNT(heads); j++)
                call_rcu(&heads[j], note);
            start_poll_synchronize_rcu();
            sleep_ms(20);
            CHECK(threads_called(NULL) == 1 && ran == 0);
            creators[i]();
            if (!soon(there_is_a_worker) || !soon(one_ran))
                fail("creator %zu: %d workers, %lu run", i, threads_called("rcu_notrace"), ran);
            _exit(PASS);
        }
        expect_success(child);
    }
}

/* ---- a traced pthread_create -------------------------------------------------------------------- */

static atomic_bool trace_create;
static atomic_int creates, refused_creates;

struct created {
    void *(*run)(void *);
    void *argument;
    atomic_bool registered;
};

static void *register_and_run(void *argument)
{
    struct created *created = argument;
    void *(*run)(void *) = created->run;

    argument = created->argument;
    rcu_register_thread();
    created->registered = true;
    return run(argument);
}

/* As a tracer has it: registers each thread before the program goes on. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    struct created created = {run, argument, false};
    int error;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (!trace_create) {
        error = real(thread, attributes, run, argument);
        refused_creates += error == EAGAIN;
        return error;
    }
    rcu_register_thread();
    error = real(thread, attributes, register_and_run, &created);
    while (!error && !created.registered)
        sched_yield();
    creates++;
    return error;
}

static void a_traced_pthread_create_may_register_both_threads(void)
{
    struct rcu_head head;

    trace_create = true;
    alarm(10);
    call_rcu(&head, note);
    synchronize_rcu();
    CHECK(soon(one_ran));
    CHECK(creates >= 1);
}

/* ---- a process in execve(2) ---------------------------------------------------------------------- */

static atomic_bool execs;

/* Fails late: the kernel opens the file, and creates no thread of the process until it has looked at it. */
static void *try_to_exec(void *file)
{
    char *argv[] = {file, NULL};

    while (!stop) {
        execv(file, argv);
        CHECK(errno == ENOEXEC);
        execs = true;
    }
    return NULL;
}

/* Children, in each of which the worker is created anew, with no message (the scenario expects none). */
static void a_worker_is_created_while_another_thread_tries_to_exec(void)
{
    enum { CHILDREN = 40, EXECS = 3 };
    char file[] = "/tmp/rcu-notrace-exec-XXXXXX";
    int made = mkstemp(file), refused = 0, status;

    CHECK(made >= 0 && write(made, "no program", 10) == 10 && fchmod(made, 0700) == 0);
    close(made);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();

        CHECK(child >= 0);
        if (!child) {
            pthread_t threads[EXECS];

            for (int thread = 0; thread < EXECS; thread++)
                while (pthread_create(&threads[thread], NULL, try_to_exec, file))
                    sched_yield();
            while (!execs)
                sched_yield();
            refused_creates = 0;
            if (rcu_notrace_start_worker() != 0)
                abort();
            _exit(refused_creates > 0);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        refused += WEXITSTATUS(status);
    }
    unlink(file);
    printf("  %d of %d workers were refused at first\n", refused, CHILDREN);
    CHECK(refused);
}

/* ---- rcu_barrier ----------------------------------------------------------------------------- */

static atomic_ulong barriers;

static void count_run(struct rcu_head *head)
{
    ((struct item *)head)->runs++;
}

static void *queue_and_wait(void *argument)
{
    struct item *mine = items[0] + 100 * (uintptr_t)argument;

    while (!stop) {
        for (int i = 0; i < 100; i++)
            mine[i].runs = 0;
        for (int i = 0; i < 100; i++)
            call_rcu(&mine[i].head, count_run);
        rcu_barrier();
        for (int i = 0; i < 100; i++)
            CHECK(mine[i].runs == 1);
        barriers++;
    }
    return NULL;
}

static void *load(void *unused)
{
    while (!stop) {
        call_rcu(malloc(sizeof(struct rcu_head)), free_it);
        from_threads++;
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
    return unused;
}

static void *look_at_others(void *unused)
{
    /* What others had queued before has run, too. */
    while (!stop) {
        unsigned long before = from_threads;

        rcu_barrier();
        CHECK(ran >= before);
        barriers++;
    }
    return unused;
}

static void barriers_wait_for_the_callbacks_of_all_threads_under_load(void)
{
    pthread_t threads[10];

    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = i < 7 ? start(queue_and_wait, (void *)i) : start(look_at_others, NULL);
    threads[8] = start(load, NULL);
    threads[9] = start(load, NULL);
    sleep_ms(700);
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    printf("    %lu barriers beside %lu callbacks\n", barriers, from_threads);
    CHECK(ran == from_threads && barriers > 20);
}

static void refuse_threads(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        ON(SYS_clone, SECCOMP_RET_ERRNO | EAGAIN),
        ON(SYS_clone3, SECCOMP_RET_ERRNO | EAGAIN),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    if (install_filter(filter, COUNT(filter), 0))
        skip("no seccomp here");
}

static void where_no_thread_can_be_created_barrier_runs_them(void)
{
    struct rcu_head heads[100];

    refuse_threads();
    CHECK(rcu_notrace_start_worker() == -EAGAIN);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(heads); i++)
            call_rcu(&heads[i], note);
        synchronize_rcu();
        CHECK(ran == 100u * (unsigned)round);
        rcu_barrier();
        CHECK(ran == 100u * (unsigned)(round + 1));
        CHECK(callback_thread == getpid());
    }
    again = 5;
    call_rcu(&heads[0], run_again);
    for (int i = 0; i < 5; i++)
        rcu_barrier();
    CHECK(ran == 305);
    CHECK(threads_called(NULL) == 1);
}

/* ---- free_rcu -------------------------------------------------------------------------------- */

struct first {
    struct rcu_head head;
    long rest;
};
struct second {
    long before;
    struct rcu_head head;
};
struct last {
    char before[4080];
    struct rcu_head head;
};
struct too_late {
    char before[4096];
    struct rcu_head head;
};

static void free_rcu_frees_the_block_whose_head_lies_in_its_first_4096_bytes(void)
{
    struct first *first = malloc(sizeof(*first));
    struct second *second = malloc(sizeof(*second));
    struct last *last = malloc(sizeof(*last));
    struct too_late *too_late = malloc(sizeof(*too_late));
    pthread_t holder = start(hold, NULL);

    while (!inside)
        sleep_ms(1);
    blocks[0] = first;
    blocks[1] = second;
    blocks[2] = last;
    blocks[3] = too_late;
    CHECK(free_rcu(first, head) == 0);
    CHECK(free_rcu(second, head) == 0);
    CHECK(free_rcu(last, head) == 0);
    CHECK(free_rcu(too_late, head) == -EINVAL);
    CHECK(rcu_notrace_start_worker() == 0);
    sleep_ms(20);
    CHECK(frees_of_blocks == 0);
    leave = true;
    rcu_barrier();
    CHECK(frees_of_blocks == 0x010101);
    CHECK(stats().callbacks_queued == 3);
    pthread_join(holder, NULL);
}

/* ---- floods ---------------------------------------------------------------------------------- */

struct bulk {
    struct rcu_head head;
    char rest[48];
};

static atomic_ulong given, most_waiting;

static void free_bulk(struct rcu_head *head)
{
    ran++;
    free(head);
}

static void *flood(void *argument)
{
    unsigned long count = (unsigned long)(uintptr_t)argument;

    for (unsigned long i = 0; i < count; i++) {
        call_rcu(&((struct bulk *)malloc(sizeof(struct bulk)))->head, free_bulk);
        if (i % 64 == 63) {
            unsigned long waiting = atomic_fetch_add(&given, 64) + 64 - ran;

            if (waiting < 1ul << 60 && waiting > most_waiting)
                most_waiting = waiting;
        }
    }
    return NULL;
}

static unsigned long high_water_kb(void)
{
    return strtoul(status_of(getpid(), "VmHWM:"), NULL, 10);
}

/* "Bounded by a few times 65,536 for each thread that floods": three. */
enum { FLOOD = 65536, FEW = 3 };

static void flood_once(unsigned threads, unsigned long in_all)
{
    pthread_t flooders[8];
    uint64_t begin = now_ns();

    ran = given = most_waiting = 0;
    for (unsigned i = 0; i < threads; i++)
        flooders[i] = start(flood, (void *)(uintptr_t)(in_all / threads));
    for (unsigned i = 0; i < threads; i++)
        pthread_join(flooders[i], NULL);
    rcu_barrier();
    printf("    %lu callbacks from %u threads in %llu ms: at most %lu waited, slowed %llu times, "
           "%lu MB\n",
           ran, threads, (unsigned long long)(now_ns() - begin) / 1000000, most_waiting,
           (unsigned long long)stats().callbacks_slowed, high_water_kb() / 1024);
    CHECK(ran == in_all);
}

/* Callers sleep a tenth of a second at most: they run ahead of a worker that others keep from the processors for
 * longer. Not time after time. */
static void flood_from(unsigned threads, unsigned long in_all)
{
    unsigned long most = (unsigned long)FEW * FLOOD * threads, most_ever = most;
    unsigned tries = 0;

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_AUTO)
        skip("only in mode auto");
    CHECK(rcu_notrace_start_worker() == 0);
    do {
        flood_once(threads, in_all);
        if (most_waiting > most_ever)
            most_ever = most_waiting;
    } while (most_waiting > most && ++tries < 3);
    CHECK(most_waiting <= most);
    CHECK(high_water_kb() < (32ul << 10) + most_ever / 1024 * (sizeof(struct bulk) + 16));
    CHECK(threads == 1 || stats().callbacks_slowed > 0);
}

static void ten_million_callbacks_from_one_thread_stay_within_bounds(void)
{
    flood_from(1, 10000000);
}

static void ten_million_callbacks_from_four_threads_stay_within_bounds(void)
{
    flood_from(4, 10000000);
}

static void a_flood_inside_one_section_is_not_slowed_and_is_drained_afterwards(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    rcu_read_lock_notrace();
    flood((void *)500000);
    CHECK(ran == 0);
    CHECK(stats().callbacks_slowed == 0);
    rcu_read_unlock_notrace();
    rcu_barrier();
    CHECK(ran == 500000);
}

/* ---- fork ------------------------------------------------------------------------------------ */

/* What a fork copies: how often call_rcu() returned for this head, and how often it was called. */
struct life {
    struct rcu_head head;
    atomic_uint asked, runs;
};

enum { QUEUERS = 3, LIVES = 3000, FORKERS = 3, FORKS = 70 };

static struct life lives[QUEUERS][LIVES];
static atomic_ulong forks_done;

static void live(struct rcu_head *head)
{
    ((struct life *)head)->runs++;
}

static void *queue_at_full_speed(void *argument)
{
    struct life *mine = lives[(uintptr_t)argument];

    while (!stop)
        for (int i = 0; i < LIVES && !stop; i++)
            if (mine[i].asked == mine[i].runs) {
                call_rcu(&mine[i].head, live);
                mine[i].asked++;
            }
    return NULL;
}

/* Called in a child, at once: its copies must all come to an end, each once. */
static unsigned long settle_in_child(void)
{
    static bool owed[QUEUERS][LIVES];
    unsigned long all = 0;

    for (int i = 0; i < QUEUERS; i++)
        for (int j = 0; j < LIVES; j++) {
            struct life *life = &lives[i][j];

            owed[i][j] = life->asked != life->runs && life->asked == life->runs + 1;
            all += owed[i][j];
        }
    rcu_barrier();
    for (int i = 0; i < QUEUERS; i++)
        for (int j = 0; j < LIVES; j++) {
            struct life *life = &lives[i][j];
            unsigned more = life->runs - life->asked;

            /* One that is not owed may have been queued by a call_rcu() that had yet to return. */
            if (owed[i][j] ? more != 0 : more > 1)
                fail("in a child: asked %u, run %u, %s", life->asked, life->runs,
                     owed[i][j] ? "owed" : "not owed");
        }
    CHECK(stats().callbacks_queued == stats().callbacks_run);
    /* And it goes on. */
    for (int i = 0; i < 3; i++) {
        struct rcu_head head;
        unsigned long before = ran;

        call_rcu(&head, note);
        rcu_barrier();
        CHECK(ran == before + 1);
    }
    CHECK(there_is_a_worker());
    return all;
}

static atomic_ulong *shared_count;

static void *fork_often(void *unused)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();

        if (!child) {
            alarm(20);
            *shared_count += settle_in_child();
            _exit(PASS);
        }
        expect_success(child);
        forks_done++;
    }
    return unused;
}

static void in_each_forked_child_each_waiting_callback_runs_once(void)
{
    pthread_t queuers[QUEUERS], forkers[FORKERS];

    shared_count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(rcu_notrace_start_worker() == 0);
    for (uintptr_t i = 0; i < QUEUERS; i++)
        queuers[i] = start(queue_at_full_speed, (void *)i);
    for (int i = 0; i < FORKERS; i++)
        forkers[i] = start(fork_often, NULL);
    for (int i = 0; i < FORKERS; i++)
        pthread_join(forkers[i], NULL);
    stop = true;
    for (int i = 0; i < QUEUERS; i++)
        pthread_join(queuers[i], NULL);
    rcu_barrier();
    for (int i = 0; i < QUEUERS; i++)
        for (int j = 0; j < LIVES; j++)
            CHECK(lives[i][j].asked == lives[i][j].runs);
    printf("    %lu forks, %lu callbacks owed to children, %llu run here\n", forks_done,
           *shared_count, (unsigned long long)stats().callbacks_run);
    CHECK(forks_done == FORKERS * FORKS && *shared_count > 1000);
}

static atomic_int forked_child;

static void fork_in_callback(struct rcu_head *head)
{
    note(head);
    forked_child = fork();
}

/* In a child whose only thread runs a callback: that of the parent goes on as the worker. */
static void child_goes_on(struct rcu_head *head)
{
    (void)head;
    /* Everything that was queued before, and this one is yet to return. */
    if (ran != 4 || stats().callbacks_queued != 4 + 1)
        _exit(FAIL);
    _exit(PASS);
}

static void a_callback_may_fork(void)
{
    struct rcu_head heads[5];
    int child;

    /* They wait while the section is open. */
    for (int i = 0; i < 10; i++) {
        ran = 0;
        forked_child = -1;
        rcu_read_lock_notrace();
        CHECK(rcu_notrace_start_worker() == 0);
        call_rcu(&heads[0], note);
        call_rcu(&heads[1], fork_in_callback);
        call_rcu(&heads[2], note);
        call_rcu(&heads[3], note);
        rcu_read_unlock_notrace();
        rcu_barrier();
        child = forked_child;
        if (child > 0)
            kill(child, SIGKILL), waitpid(child, NULL, 0);
        CHECK(child > 0 && ran == 4);
    }
}

static atomic_bool in_child;

static void queue_one_more(struct rcu_head *head)
{
    static struct rcu_head more;

    (void)head;
    ran++;
    if (in_child)
        call_rcu(&more, child_goes_on);
}

static void fork_and_go_on(struct rcu_head *head)
{
    note(head);
    forked_child = fork();
    in_child = forked_child == 0;
    if (in_child)
        alarm(10);
}

static void the_child_of_a_callback_goes_on_with_the_ones_behind_it(void)
{
    struct rcu_head heads[4];

    for (int i = 0; i < 10; i++) {
        ran = 0;
        rcu_read_lock_notrace();
        CHECK(rcu_notrace_start_worker() == 0);
        call_rcu(&heads[0], note);
        call_rcu(&heads[1], fork_and_go_on);
        call_rcu(&heads[2], note);
        call_rcu(&heads[3], queue_one_more);
        rcu_read_unlock_notrace();
        rcu_barrier();
        CHECK(ran == 4);
        /* It counts its callbacks from the fork on, of which there were none before but ours. */
        if (i == 0)
            expect_success(forked_child);
        else
            kill(forked_child, SIGKILL), waitpid(forked_child, NULL, 0);
    }
}

/* In such a child other threads may wait for callbacks, of any queue. */
static atomic_bool slow_ran;

static void take_a_while(struct rcu_head *head)
{
    (void)head;
    sleep_ms(1);
    slow_ran = true;
}

static void *queue_a_slow_one(void *unused)
{
    struct rcu_head head;

    slow_ran = false;
    call_rcu(&head, take_a_while);
    rcu_barrier();
    CHECK(slow_ran);
    return unused;
}

static uint64_t processor_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static void *wait_in_child(void *unused)
{
    uint64_t before;

    (void)unused;
    for (int i = 0; i < 70; i++)
        pthread_join(start(queue_a_slow_one, NULL), NULL);
    /* The worker rests. */
    sleep_ms(100);
    before = processor_ns();
    sleep_ms(200);
    CHECK(processor_ns() - before < 100000000);
    _exit(PASS);
}

static void fork_and_start_a_thread(struct rcu_head *head)
{
    note(head);
    forked_child = fork();
    if (!forked_child) {
        alarm(10);
        start(wait_in_child, NULL);
    }
}

static void in_the_child_of_a_callback_barriers_wait_and_the_worker_rests(void)
{
    struct rcu_head head;

    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&head, fork_and_start_a_thread);
    rcu_barrier();
    expect_success(forked_child);
}

static void stay_for_long(struct rcu_head *head)
{
    (void)head;
    busy = true;
    sleep_ms(500);
    ran++;
}

static void a_fork_waits_for_a_callback_but_not_for_long(void)
{
    struct rcu_head heads[2];
    uint64_t begin;
    pid_t child;

    CHECK(rcu_notrace_start_worker() == 0);
    rcu_read_lock_notrace();
    call_rcu(&heads[0], stay_for_long);
    call_rcu(&heads[1], note);
    rcu_read_unlock_notrace();
    while (!busy)
        usleep(100);
    begin = now_ns();
    child = fork();
    if (!child) {
        rcu_barrier();
        /* Not the one that had begun. */
        _exit(ran == 1 ? PASS : FAIL);
    }
    CHECK(now_ns() - begin < 400000000);
    expect_success(child);
    rcu_barrier();
    CHECK(ran == 2);
}

static void a_fork_while_the_worker_sorts_millions_loses_none(void)
{
    enum { MILLIONS = 2000000 };
    struct rcu_head *heads;
    unsigned *order;
    pid_t child;

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_AUTO)
        skip("only in mode auto");
    heads = calloc(MILLIONS, 64);
    order = malloc(MILLIONS * sizeof(*order));
    for (unsigned i = 0; i < MILLIONS; i++)
        order[i] = i;
    /* Far apart, so that sorting takes its time. */
    for (unsigned i = MILLIONS - 1; i > 0; i--) {
        unsigned j = (unsigned)(i * 2654435761u) % (i + 1), other = order[j];

        order[j] = order[i];
        order[i] = other;
    }
    rcu_read_lock_notrace();
    for (unsigned i = 0; i < MILLIONS; i++)
        call_rcu((struct rcu_head *)((char *)heads + 64ul * order[i]), note);
    rcu_read_unlock_notrace();
    CHECK(rcu_notrace_start_worker() == 0);
    usleep(2000);
    child = fork();
    if (!child) {
        unsigned long before = ran;

        rcu_barrier();
        if (ran != MILLIONS)
            fail("%lu had run, then %lu", before, ran);
        _exit(PASS);
    }
    expect_success(child);
    rcu_barrier();
    CHECK(ran == MILLIONS);
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
#define BARE_FORK() _Fork()
#else
#define BARE_FORK() ((pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL))
#endif

static void children_that_nobody_told_the_library_of_end_their_barriers(void)
{
    pthread_t queuers[QUEUERS];

    CHECK(rcu_notrace_start_worker() == 0);
    for (uintptr_t i = 0; i < QUEUERS; i++)
        queuers[i] = start(queue_at_full_speed, (void *)i);
    for (int i = 0; i < 60; i++) {
        pid_t child =
            i % 2 ? BARE_FORK() : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

        if (!child) {
            struct rcu_head head;
            unsigned long before = ran;

            alarm(10);
            call_rcu(&head, note);
            rcu_barrier();
            for (int j = 0; j < QUEUERS; j++)
                for (int k = 0; k < LIVES; k++)
                    if (lives[j][k].runs - lives[j][k].asked + 1 > 2)
                        _exit(FAIL);
            _exit(ran == before + 1 ? PASS : FAIL);
        }
        expect_success(child);
    }
    stop = true;
    for (int i = 0; i < QUEUERS; i++)
        pthread_join(queuers[i], NULL);
    rcu_barrier();
}

static void clone_in_callback(struct rcu_head *head)
{
    note(head);
    forked_child = BARE_FORK();
    if (!forked_child)
        alarm(10);
}

/* Many rounds: the worker is as able there as it was. */
static void exit_after_rounds(struct rcu_head *head)
{
    static int rounds;

    if (!forked_child && ++rounds < 10)
        call_rcu(head, exit_after_rounds);
    else if (!forked_child)
        _exit(PASS);
    else
        ran++;
}

static void a_callback_that_clones_its_process_goes_on_in_the_child(void)
{
    struct rcu_head heads[3];

    rcu_read_lock_notrace();
    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&heads[0], clone_in_callback);
    call_rcu(&heads[1], note);
    call_rcu(&heads[2], exit_after_rounds);
    rcu_read_unlock_notrace();
    rcu_barrier();
    CHECK(forked_child > 0);
    expect_success(forked_child);
}

/* ---- exit ------------------------------------------------------------------------------------ */

/* What a program leaves behind in a pipe that starts with this in its environment. */
static const char *left_by(const char *how, const char *policy)
{
    static char text[64];
    size_t used = 0;
    int pipes[2];
    ssize_t got;
    pid_t child;

    CHECK(pipe(pipes) == 0);
    child = fork();
    if (!child) {
        dup2(pipes[1], 3);
        if (pipes[0] != 3)
            close(pipes[0]);
        if (policy)
            setenv("RCU_NOTRACE_EXIT", policy, 1);
        execl("/proc/self/exe", "callbacks", "--exit", how, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    while ((got = read(pipes[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = 0;
    close(pipes[0]);
    expect_success(child);
    return text;
}

static void say(struct rcu_head *head)
{
    (void)head;
    CHECK(write(3, "run ", 4) == 4);
}

static void last_of_the_program(void)
{
    CHECK(write(3, "handler ", 8) == 8);
}

static void exit_in_callback(struct rcu_head *head)
{
    (void)head;
    exit(PASS);
}

static int exiting(const char *how)
{
    static struct rcu_head heads[4];

    alarm(10);
    atexit(last_of_the_program);
    if (!strcmp(how, "set"))
        CHECK(rcu_notrace_set_exit_policy(RCU_NOTRACE_EXIT_RUN) == 0);
    if (!strcmp(how, "unset"))
        CHECK(rcu_notrace_set_exit_policy(RCU_NOTRACE_EXIT_LEAVE) == 0);
    if (!strcmp(how, "unknown")) {
        CHECK(rcu_notrace_set_exit_policy(2) == -EINVAL);
        CHECK(rcu_notrace_set_exit_policy(-1) == -EINVAL);
    }
    if (!strcmp(how, "callback")) {
        call_rcu(&heads[0], exit_in_callback);
        rcu_notrace_start_worker();
        for (;;)
            pause();
    }
    if (!strcmp(how, "trace_section"))
        rcu_read_lock_trace();
    if (!strcmp(how, "section") || !strcmp(how, "section_other"))
        rcu_read_lock_notrace();
    if (!strcmp(how, "section_other"))
        call_rcu_tasks_trace(&heads[1], say);
    else
        call_rcu(&heads[0], say);
    if (!strcmp(how, "both"))
        call_rcu_tasks_trace(&heads[1], say);
    exit(PASS);
}

static void callbacks_that_wait_at_exit_are_left_alone_by_default(void)
{
    CHECK(!strcmp(left_by("plain", NULL), "handler "));
    CHECK(!strcmp(left_by("plain", "leave"), "handler "));
    CHECK(!strcmp(left_by("plain", ""), "handler "));
    CHECK(!strcmp(left_by("unset", "run"), "handler "));
}

static void and_run_after_the_programs_own_handlers_on_request(void)
{
    CHECK(!strcmp(left_by("set", NULL), "handler run "));
    CHECK(!strcmp(left_by("plain", "run"), "handler run "));
    CHECK(!strcmp(left_by("both", "run"), "handler run run "));
    CHECK(!strcmp(left_by("trace_section", "run"), "handler run "));
}

static void an_unknown_exit_policy_is_refused(void)
{
    CHECK(!strcmp(left_by("unknown", "run"), "handler run "));
}

static void an_unknown_exit_policy_in_the_environment_is_reported(void)
{
    CHECK(!strcmp(left_by("plain", "maybe"), "handler "));
}

static void an_exit_in_a_section_says_that_callbacks_are_not_run(void)
{
    CHECK(!strcmp(left_by("section", "run"), "handler "));
}

static void so_does_one_that_the_other_flavours_callbacks_wait_at(void)
{
    CHECK(!strcmp(left_by("section_other", "run"), "handler "));
}

static void so_does_an_exit_in_a_callback(void)
{
    CHECK(!strcmp(left_by("callback", "run"), "handler "));
}

/* ---- bad use --------------------------------------------------------------------------------- */

static void wait_for_itself(struct rcu_head *head)
{
    (void)head;
    rcu_barrier();
}

static void rcu_barrier_in_a_callback(void)
{
    struct rcu_head head;

    call_rcu(&head, wait_for_itself);
    rcu_barrier();
    fail("went on");
}

static void rcu_barrier_in_a_section(void)
{
    rcu_read_lock_notrace();
    rcu_barrier();
    fail("went on");
}

static void call_rcu_without_a_head(void)
{
    call_rcu(NULL, note);
    fail("went on");
}

static void call_rcu_without_a_function(void)
{
    struct rcu_head head;

    call_rcu(&head, NULL);
    fail("went on");
}

static void many_callbacks_without_a_worker_are_reported_once(void)
{
    enum { MANY = 4 * 65536 };
    struct rcu_head *heads = calloc(MANY, sizeof(*heads));
    char said[4096], *first;
    int pipes[2], saved = dup(2);
    ssize_t got;

    CHECK(pipe(pipes) == 0);
    dup2(pipes[1], 2);
    for (int i = 0; i < 65536; i++)
        call_rcu(&heads[i], note);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    CHECK(read(pipes[0], said, sizeof(said)) < 0);
    for (int i = 65536; i < MANY; i++)
        call_rcu(&heads[i], note);
    got = read(pipes[0], said, sizeof(said) - 1);
    dup2(saved, 2);
    CHECK(got > 0);
    said[got] = 0;
    first = strstr(said, "callbacks wait, and nobody runs them: call rcu_notrace_start_worker()");
    CHECK(first && !strstr(first + 1, "callbacks wait"));
    CHECK(stats().callbacks_slowed == 0 && threads_called(NULL) == 1);
    rcu_barrier();
    CHECK(ran == MANY);
}

int main(int argc, char **argv)
{
#define ABORTS(name, says) {#name, name, SIGABRT, says}
#define SAYS(name, says) {#name, name, 0, says}
#define NOT_RUN "exit() in a section or a callback: callbacks are not run"
    static const struct scenario list[] = {
        SCENARIO(callbacks_run_once_each_in_the_order_of_their_thread),
        SCENARIO(none_runs_before_a_section_that_was_open_has_ended),
        SCENARIO(they_run_on_a_worker_that_blocks_all_signals_but_the_ipis_and_faults),
        SCENARIO(libcs_own_signals_reach_the_worker),
        SCENARIO(and_a_worker_that_is_not_the_first_thread),
        SCENARIO(handlers_that_interrupt_malloc_and_call_rcu_queue_callbacks),
        SCENARIO(a_callback_that_queues_itself_again_runs_as_often),
        SCENARIO(callbacks_may_be_queued_under_a_lock_that_they_take),
        SCENARIO(callbacks_may_wait_for_grace_periods),
        SCENARIO(an_enqueue_allocates_nothing_and_makes_no_system_call_while_the_worker_is_awake),
        SCENARIO(a_worker_that_sleeps_is_woken),
        SCENARIO(no_worker_is_created_by_call_rcu_but_by_what_may_block_or_exits),
        SCENARIO(a_traced_pthread_create_may_register_both_threads),
        SCENARIO(a_worker_is_created_while_another_thread_tries_to_exec),
        SCENARIO(barriers_wait_for_the_callbacks_of_all_threads_under_load),
        SAYS(where_no_thread_can_be_created_barrier_runs_them,
             "no thread to run callbacks; rcu_barrier() runs them"),
        SAYS(free_rcu_frees_the_block_whose_head_lies_in_its_first_4096_bytes,
             "free_rcu(): the head must lie in the first 4096 bytes of its block"),
        SCENARIO(ten_million_callbacks_from_one_thread_stay_within_bounds),
        SCENARIO(ten_million_callbacks_from_four_threads_stay_within_bounds),
        SCENARIO(a_flood_inside_one_section_is_not_slowed_and_is_drained_afterwards),
        SCENARIO(in_each_forked_child_each_waiting_callback_runs_once),
        SCENARIO(a_callback_may_fork),
        SCENARIO(the_child_of_a_callback_goes_on_with_the_ones_behind_it),
        SCENARIO(in_the_child_of_a_callback_barriers_wait_and_the_worker_rests),
        SCENARIO(a_fork_waits_for_a_callback_but_not_for_long),
        SCENARIO(a_fork_while_the_worker_sorts_millions_loses_none),
        SCENARIO(children_that_nobody_told_the_library_of_end_their_barriers),
        SCENARIO(a_callback_that_clones_its_process_goes_on_in_the_child),
        SCENARIO(callbacks_that_wait_at_exit_are_left_alone_by_default),
        SCENARIO(and_run_after_the_programs_own_handlers_on_request),
        SAYS(an_unknown_exit_policy_is_refused, "rcu_notrace_set_exit_policy(): no such policy"),
        SAYS(an_unknown_exit_policy_in_the_environment_is_reported,
             "RCU_NOTRACE_EXIT=maybe is neither leave nor run; using leave"),
        SAYS(an_exit_in_a_section_says_that_callbacks_are_not_run, NOT_RUN),
        SAYS(so_does_one_that_the_other_flavours_callbacks_wait_at, NOT_RUN),
        SAYS(so_does_an_exit_in_a_callback, NOT_RUN),
        ABORTS(rcu_barrier_in_a_callback,
               "rcu_barrier() in a callback: it would wait for its own return"),
        ABORTS(rcu_barrier_in_a_section,
               "rcu_barrier() inside a read-side critical section"),
        ABORTS(call_rcu_without_a_head, "call_rcu() without a head or without a function"),
        ABORTS(call_rcu_without_a_function, "call_rcu() without a head or without a function"),
        SCENARIO(many_callbacks_without_a_worker_are_reported_once),
    };

    if (argc > 2 && !strcmp(argv[1], "--exit"))
        return exiting(argv[2]);
    return RUN_SCENARIOS("callbacks", list, argc, argv);
}
