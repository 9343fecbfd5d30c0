/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Masses, and the narrow ends of a process's life: short threads by the million, ten thousand registered at
 * once, generations of children, modules that come and go, constructors that call first, destructors that
 * call last, stacks as small as there are. FAULTS_LONG=N in the environment:
 * an Nth of the full numbers.
 */
#include "test.h"

#include "crowd.h"
#include "workload.h"

#include <dlfcn.h>
#include <limits.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <rcu_notrace/tracepoint.h>

static unsigned scale(unsigned quick, unsigned full)
{
    const char *part = getenv("FAULTS_LONG");
    unsigned some = part ? full / (unsigned)atoi(part) : 0;

    return some > quick ? some : quick;
}

static void finish(unsigned updates)
{
    stop = true;
    usleep(5000);
    print_stats();
    CHECK(poisoned == 0 && updates > 0);
}

/* A stack of its own, with guard pages around; gone when that is wanted. */
static void *map_stack(size_t size)
{
    void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(stack != MAP_FAILED);
    return stack;
}

static pthread_t start_on(void *stack, size_t size, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    pthread_attr_init(&attributes);
    error = pthread_attr_setstack(&attributes, stack, size);
    if (!error)
        error = pthread_create(&thread, &attributes, run, argument);
    if (error == EAGAIN)
        skip("no more threads here");
    if (error)
        fail("a thread on a stack of %zu bytes: %s", size, strerror(error));
    pthread_attr_destroy(&attributes);
    return thread;
}

/* ---- short threads ------------------------------------------------------------------------------------------ */

static atomic_ulong short_lives;
static unsigned lives_each;

static void *live_shortly(void *number)
{
    /* Some die before they are listed, most after. */
    if ((uintptr_t)number % 4)
        join_by_sections();
    for (uintptr_t i = (uintptr_t)number % 9; i < 9; i++)
        read_once(5, 0);
    short_lives++;
    return NULL;
}

static void *create_short_lives(void *unused)
{
    enum { AT_ONCE = 8, SIZE = 65536 };
    pthread_t some[AT_ONCE];
    char *stacks = map_stack(AT_ONCE * SIZE);

    for (unsigned i = 0; i < lives_each; i += AT_ONCE) {
        for (unsigned j = 0; j < AT_ONCE; j++)
            some[j] = start_on(stacks + j * SIZE, SIZE, live_shortly, (void *)(uintptr_t)(i + j));
        for (int j = 0; j < AT_ONCE; j++)
            pthread_join(some[j], NULL);
    }
    return unused;
}

static void a_mass_of_short_threads_leaves_nothing_behind(void)
{
    unsigned all = scale(20000, 1000000), updates = 0;
    pthread_t creators[2];

    make_objects();
    lives_each = all / 2;
    for (int i = 0; i < 2; i++)
        creators[i] = start(create_short_lives, NULL);
    while (short_lives < all) {
        update();
        updates++;
        /* Two processors: let them. */
        if (updates % 64 == 0)
            usleep(500);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(creators[i], NULL);
    printf("    %lu threads, %u updates\n", short_lives, updates);
    finish(updates);
    CHECK(short_lives == all && stats().died == 0);
}

/* ---- many at once -------------------------------------------------------------------------------------------- */

static atomic_uint registered, inside;
static atomic_ullong last_left;
static atomic_bool enter, leave_now;

/* So that thousands that look do not keep two processors busy. */
static unsigned nap_ms;

static void *be_one_of_many(void *unused)
{
    rcu_register_thread();
    registered++;
    while (!enter)
        sleep_ms(nap_ms);
    rcu_read_lock_notrace();
    inside++;
    while (!leave_now)
        sleep_ms(nap_ms);
    last_left = now_ns();
    rcu_read_unlock_notrace();
    while (!stop)
        sleep_ms(nap_ms);
    return unused;
}

static long resident_kb(void)
{
    long pages = 0, unused;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%ld %ld", &unused, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static atomic_ullong waited_until;
static atomic_bool has_waited;

static void *wait_for_many(void *unused)
{
    synchronize_rcu();
    waited_until = now_ns();
    has_waited = true;
    return unused;
}

static void thousands_of_registered_threads_are_all_waited_for(void)
{
    unsigned many = scale(2000, 10000), created;
    enum { SIZE = 32768 };
    pthread_t *threads = calloc(many, sizeof(*threads)), waiter;
    char *stacks = map_stack((size_t)many * SIZE);
    uint64_t first, next = UINT64_MAX, transient;
    long before;

    nap_ms = many / 50;
    before = resident_kb();
    for (created = 0; created < many; created++)
        threads[created] = start_on(stacks + (size_t)created * SIZE, SIZE, be_one_of_many, NULL);
    while (registered < many)
        sleep_ms(5);
    first = now_ns();
    synchronize_rcu();
    first = now_ns() - first;
    printf("    %u threads registered, %ld kB resident for each; the first grace period took %llu ns", many,
           (resident_kb() - before) / (long)many, (unsigned long long)first);
    for (int i = 0; i < 20; i++) {
        uint64_t took = now_ns();

        synchronize_rcu();
        took = now_ns() - took;
        next = took < next ? took : next;
    }
    printf(", the shortest of the next 20 %llu ns", (unsigned long long)next);
    enter = true;
    while (inside < many)
        sleep_ms(5);
    transient = stats().transient_waits;
    waiter = start(wait_for_many, NULL);
    /* Those for whom there was no place come first. */
    while (stats().holdouts < many && stats().transient_waits == transient)
        sleep_ms(5);
    CHECK(!has_waited);
    leave_now = true;
    pthread_join(waiter, NULL);
    printf("; the wait for %u sections ended %lld us after the last of them\n", many,
           (long long)(waited_until - last_left) / 1000);
    CHECK(waited_until > last_left);
    stop = true;
    for (unsigned i = 0; i < created; i++)
        pthread_join(threads[i], NULL);
    munmap(stacks, (size_t)many * SIZE);
    synchronize_rcu();
    print_stats();
}

/* ---- the last destructors ------------------------------------------------------------------------------------- */

static pthread_key_t key;
static atomic_uint rounds, threads_ended;

struct late {
    struct rcu_head head;
    unsigned round;
};

static void on_late(struct rcu_head *head)
{
    free(head);
    threads_ended++;
}

/* Asks to be called again until nobody is. */
static void destroy(void *value)
{
    struct late *late = value;

    join_by_sections();
    for (int i = 0; i < 8; i++)
        read_once(5, 0);
    if (late->round % 2)
        rcu_register_thread();
    else
        rcu_unregister_thread();
    rounds++;
    if (++late->round < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(key, late);
        return;
    }
    join_by_sections();
    read_once(5, 0);
    call_rcu(&late->head, on_late);
}

static void *end_late(void *unused)
{
    pthread_setspecific(key, calloc(1, sizeof(struct late)));
    join_by_sections();
    read_once(5, 0);
    return unused;
}

static void sections_and_registrations_in_every_round_of_destructors_leave_nothing_behind(void)
{
    unsigned all = scale(400, 20000), updates = 0;
    enum { SIZE = 65536 };

    make_objects();
    CHECK(pthread_key_create(&key, destroy) == 0);
    for (unsigned i = 0; i < all; i++) {
        void *stack = map_stack(SIZE);
        pthread_t thread = start_on(stack, SIZE, end_late, NULL);

        update();
        updates++;
        pthread_join(thread, NULL);
        /* Whoever looks at its TLS now, dies of it. */
        munmap(stack, SIZE);
        update();
        updates++;
    }
    rcu_barrier();
    printf("    %u threads, %u rounds, %u callbacks\n", all, rounds, threads_ended);
    CHECK(rounds == all * PTHREAD_DESTRUCTOR_ITERATIONS && threads_ended == all);
    finish(updates);
}

/* ---- small stacks ---------------------------------------------------------------------------------------------- */

enum { CANARY = 0x5a };

static atomic_uint on_small_stacks;

/* All of the API that a thread may want, on the smallest stack that there may be. */
static void *live_on_a_small_stack(void *unused)
{
    static struct counted one[4];
    struct counted *mine = &one[on_small_stacks++ % 4];

    ready++;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        for (int i = 0; i < 1000; i++)
            read_once(20, 0);
        sections += 1000;
        synchronize_rcu();
        call_rcu(&mine->head, called);
        rcu_barrier();
        read_once(0, 300);
    }
    return unused;
}

static void a_stack_of_sixteen_kilobytes_is_enough_for_all_of_it(void)
{
    uint64_t end = now_ns() + scale(300, 10000) * 1000000ull;
    const size_t size = 16384;
    unsigned updates = 0;
    pthread_t threads[4];
    char *stacks[4];

    make_objects();
    if ((size_t)PTHREAD_STACK_MIN > size)
        skip("the smallest stack here is larger");
    for (int i = 0; i < 4; i++) {
        /* Below it nothing can be written. */
        stacks[i] = (char *)map_stack(size + 4096) + 4096;
        CHECK(mprotect(stacks[i] - 4096, 4096, PROT_NONE) == 0);
        threads[i] = start_on(stacks[i], size, live_on_a_small_stack, NULL);
    }
    while (now_ns() < end || ready < 4) {
        update();
        updates++;
    }
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("    %lu sections on 4 stacks of %zu bytes, %u updates\n", sections, size, updates);
    finish(updates);
    CHECK(sections > 0);
}

static size_t least_signal_stack(void)
{
    size_t least = getauxval(AT_MINSIGSTKSZ);

    return least > (size_t)MINSIGSTKSZ ? least : (size_t)MINSIGSTKSZ;
}

static char *signal_stack;
static size_t signal_stack_size;

/* Its IPIs are handled on the other stack: the kernel's frame, and a kilobyte. */
static void *read_with_a_small_signal_stack(void *unused)
{
    stack_t stack = {.ss_sp = signal_stack, .ss_size = signal_stack_size};

    CHECK(sigaltstack(&stack, NULL) == 0);
    return read_at_length(unused);
}

static void a_signal_stack_with_a_kilobyte_beyond_the_kernels_frame_is_enough(void)
{
    uint64_t end = now_ns() + scale(200, 5000) * 1000000ull;
    unsigned updates = 0, used = 0;
    pthread_t thread;

    make_objects();
    /* In the other modes there are few. */
    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL) == 0);
    signal_stack_size = (least_signal_stack() + 1024 + 63) & ~(size_t)63;
    signal_stack = (char *)map_stack(16384 + 4096) + 4096;
    CHECK(mprotect(signal_stack - 4096, 4096, PROT_NONE) == 0);
    memset(signal_stack, CANARY, signal_stack_size);
    thread = start(read_with_a_small_signal_stack, NULL);
    while (now_ns() < end || updates < 100 || stats().reports_by_handler == 0) {
        update();
        updates++;
    }
    stop = true;
    pthread_join(thread, NULL);
    for (size_t i = 0; i < signal_stack_size && !used; i++)
        if (signal_stack[i] != CANARY)
            used = (unsigned)(signal_stack_size - i);
    printf("    %u of %zu bytes used, %zu of them the kernel's at most; %llu IPIs\n", used, signal_stack_size,
           least_signal_stack(), (unsigned long long)stats().ipis);
    CHECK(used > 0 && stats().ipis > 0);
    finish(updates);
}

/* ---- generations ------------------------------------------------------------------------------------------------ */

static void *grow_up(void *unused)
{
    join_by_sections();
    for (int i = 0; i < 10; i++)
        read_once(5, 0);
    return unused;
}

/* Each is the parent of the next, waits for it, and ends as it did. */
static void live_for_generations(unsigned left)
{
    pid_t child = 0;
    int status = PASS;

    do {
        pthread_join(start(grow_up, NULL), NULL);
        update();
        memset(counted, 0, sizeof(counted));
        check_callbacks();
        if (!left--)
            _exit(PASS);
        rcu_read_lock_notrace();
        /* Every other one behind the library's back. */
        child = left % 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        rcu_read_unlock_notrace();
    } while (!child);
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : FAIL);
}

static void children_of_children_go_on_for_generations(void)
{
    unsigned depth = scale(30, 200);
    pid_t child;
    int status;

    make_objects();
    start(read_shortly, NULL);
    start(read_at_length, NULL);
    update();
    child = fork();
    if (!child)
        live_for_generations(depth);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("a generation ended with status %#x", (unsigned)status);
    printf("    %u generations\n", depth);
    finish(1);
}

/* ---- modules ------------------------------------------------------------------------------------------------------ */

static void *module;
static int (*module_read)(void);
static atomic_ulong module_reads;
static atomic_bool module_done;

static void *read_in_module(void *unused)
{
    while (!module_done) {
        int value = module_read();

        if (value < 1 || value > 5)
            poisoned++;
        module_reads++;
    }
    return unused;
}

static const char *module_path(void)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 32);
    char *name;

    CHECK(length > 0);
    path[length] = 0;
    name = strrchr(path, '/') + 1;
    strcpy(name, strstr(name, ".portable") ? "crowd_module.portable.so" : "crowd_module.so");
    return path;
}

static void a_module_that_uses_it_comes_and_goes_while_others_read(void)
{
    unsigned times = scale(100, 5000);
    const char *path = module_path();

    make_objects();
    start(read_shortly, NULL);
    start(read_at_length, NULL);
    for (unsigned i = 0; i < times; i++) {
        void (*replace)(int);
        pthread_t reader;

        module = dlopen(path, RTLD_NOW);
        if (!module)
            fail("%s", dlerror());
        *(void **)&module_read = dlsym(module, "crowd_module_read");
        *(void **)&replace = dlsym(module, "crowd_module_replace");
        module_done = false;
        reader = start(read_in_module, NULL);
        for (int value = 2; value <= 5; value++) {
            replace(value);
            update();
        }
        module_done = true;
        pthread_join(reader, NULL);
        CHECK(dlclose(module) == 0);
        CHECK(crowd_modules_arrived == i + 1 && crowd_modules_left == i + 1);
        CHECK(!dlopen(path, RTLD_NOW | RTLD_NOLOAD));
        update();
    }
    printf("    loaded and unloaded %u times, %lu reads in it\n", times, module_reads);
    CHECK(module_reads > times);
    finish(times);
}

/* ---- constructors that come first ---------------------------------------------------------------------------------- */

static unsigned early_sections, early_callbacks;

static void early_called(struct rcu_head *head)
{
    (void)head;
    early_callbacks++;
}

/* Before any constructor, the library's and the first object's among them. */
static void before_all(int argc, char **argv, char **environment)
{
    static struct rcu_head heads[10];

    (void)argc;
    (void)argv;
    (void)environment;
    join_by_sections();
    for (int i = 0; i < 10; i++) {
        rcu_read_lock_notrace();
        early_sections++;
        rcu_read_unlock_notrace();
        call_rcu(&heads[i], early_called);
    }
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = before_all;

static void who_is_called_before_the_librarys_constructor_may_use_it(void)
{
    CHECK(crowd_chosen() == 1 && crowd_sections_of_a_resolver == 50);
    CHECK(crowd_first_sections == 10 && crowd_first_callbacks == 10 && crowd_first_waits == 1);
    CHECK(early_sections == 10);
    /* Which the C library had not read then. */
    CHECK(!getenv("RCU_NOTRACE_IPI") ||
          !strcmp(getenv("RCU_NOTRACE_IPI"), mode_names[rcu_notrace_get_ipi_mode()]));
    rcu_barrier();
    CHECK(early_callbacks == 10);
    printf("    %u sections in a resolver, %u before constructors, %u in the first\n",
           crowd_sections_of_a_resolver, early_sections, crowd_first_sections);
}

static void where_tracepoints_come_before_the_environment_its_word_on_them_holds(void)
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    if (!child) {
        setenv("RCU_NOTRACE_KEYS", "load", 1);
        execl("/proc/self/exe", "crowd", "--loaded", (char *)NULL);
        _exit(FAIL);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("it ended with status %#x", (unsigned)status);
}

static int loaded(void)
{
    struct rcu_notrace_tracepoint_stats now;

    rcu_notrace_get_tracepoint_stats(&now, sizeof(now));
    printf("    %llu sites load, %llu are patched\n", (unsigned long long)now.sites_loaded,
           (unsigned long long)now.sites_patched);
    fflush(stdout);
    return now.sites_loaded > 0 && now.sites_patched == 0 ? PASS : FAIL;
}

/* The module's constructor then comes before the library's, if that is linked to the program. */
static void a_preloaded_user_may_come_first(void)
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    if (!child) {
        setenv("LD_PRELOAD", module_path(), 1);
        setenv("RCU_NOTRACE_IPI", mode_names[rcu_notrace_get_ipi_mode()], 1);
        execl("/proc/self/exe", "crowd", "--preloaded", (char *)NULL);
        _exit(FAIL);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("it ended with status %#x", (unsigned)status);
}

static int preloaded(void)
{
    int (*read)(void);

    *(void **)&read = dlsym(RTLD_DEFAULT, "crowd_module_read");
    CHECK(read && read() == 1 && crowd_modules_arrived == 1);
    synchronize_rcu();
    rcu_barrier();
    return PASS;
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_mass_of_short_threads_leaves_nothing_behind),
        SCENARIO(thousands_of_registered_threads_are_all_waited_for),
        SCENARIO(sections_and_registrations_in_every_round_of_destructors_leave_nothing_behind),
        SCENARIO(a_stack_of_sixteen_kilobytes_is_enough_for_all_of_it),
        SCENARIO(a_signal_stack_with_a_kilobyte_beyond_the_kernels_frame_is_enough),
        SCENARIO(children_of_children_go_on_for_generations),
        SCENARIO(a_module_that_uses_it_comes_and_goes_while_others_read),
        SCENARIO(who_is_called_before_the_librarys_constructor_may_use_it),
        SCENARIO(where_tracepoints_come_before_the_environment_its_word_on_them_holds),
        SCENARIO(a_preloaded_user_may_come_first),
    };

    if (argc > 1 && !strcmp(argv[1], "--preloaded"))
        return preloaded();
    if (argc > 1 && !strcmp(argv[1], "--loaded"))
        return loaded();
    return RUN_SCENARIOS("crowd", list, argc, argv);
}
