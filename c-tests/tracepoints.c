/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tracepoints: who is called with what, when it takes effect, what it costs in memory, what code becomes. */
#include "seccomp.h"
#include "test.h"
#include "tracepoints.h"

#include <dlfcn.h>
#include <sys/mman.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- an allocator that counts, fails on demand and has a tracepoint of its own ---------------- */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

DECLARE_TRACE(heap, TP_PROTO(size_t size), TP_ARGS(size));
DEFINE_TRACE(heap, TP_PROTO(size_t size), TP_ARGS(size));

static __thread bool fail_here, track_here;
static atomic_bool tracking;
static atomic_ulong arrays_made, arrays_freed, refused;
static atomic_flag heap_lock = ATOMIC_FLAG_INIT;

/* Blocks of a thread that has nothing but the library's arrays. Slots near an address's hash hold them, also where a
 * worker that is kept from its processor lets some hundred thousand wait. */
enum { SLOT_BITS = 20, SLOTS = 1 << SLOT_BITS, NEAR = 64 };
static _Atomic(void *) slots[SLOTS + NEAR];

static _Atomic(void *) *slot_of(void *block, void *wanted)
{
    size_t first = ((uintptr_t)block >> 4) * 0x9e3779b97f4a7c15ull >> (64 - SLOT_BITS);

    for (size_t i = first; i < first + NEAR; i++)
        if (slots[i] == wanted)
            return &slots[i];
    return NULL;
}

static void remember(void *block)
{
    void *none = NULL;
    _Atomic(void *) *slot;

    arrays_made++;
    do {
        slot = slot_of(block, NULL);
        CHECK(slot);
        none = NULL;
    } while (!atomic_compare_exchange_strong(slot, &none, block));
}

static void forget(void *block)
{
    _Atomic(void *) *slot = slot_of(block, block);

    if (slot) {
        *slot = NULL;
        arrays_freed++;
    }
}

void *malloc(size_t size)
{
    void *block;

    if (fail_here) {
        refused++;
        return NULL;
    }
    /* Held where a probe runs: one that allocated would hang. */
    while (atomic_flag_test_and_set(&heap_lock))
        sched_yield();
    trace_heap(size);
    block = __libc_malloc(size);
    atomic_flag_clear(&heap_lock);
    if (track_here && block)
        remember(block);
    return block;
}

void *calloc(size_t count, size_t size)
{
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    void *block;

    if (fail_here) {
        refused++;
        return NULL;
    }
    if (tracking && old)
        forget(old);
    block = __libc_realloc(old, size);
    if (track_here && block)
        remember(block);
    return block;
}

void free(void *block)
{
    if (block && tracking)
        forget(block);
    __libc_free(block);
}

/* ---- tools ------------------------------------------------------------------------------------- */

static struct rcu_notrace_tracepoint_stats tracepoint_stats(void)
{
    struct rcu_notrace_tracepoint_stats now;

    rcu_notrace_get_tracepoint_stats(&now, sizeof(now));
    return now;
}

static void expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("a child ended with status %#x", (unsigned)status);
}

static unsigned random_below(unsigned limit)
{
    static __thread uint64_t state;

    if (!state)
        state = (uint64_t)syscall(SYS_gettid) * 0x9e3779b97f4a7c15ull | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % limit;
}

static uint64_t storm_ns(void)
{
    const char *wanted = getenv("STORM_SECONDS");
    const char *limit = getenv("SCENARIO_SECONDS");
    unsigned seconds = wanted ? (unsigned)atoi(wanted) : 2;

    if (limit && seconds > (unsigned)atoi(limit) / 2)
        seconds = (unsigned)atoi(limit) / 2;
    return seconds * 1000000000ull;
}

/* The first place of a tracepoint in this module. */
static struct rcu_notrace_site *site_of(const struct tracepoint *tracepoint)
{
    struct rcu_notrace_site *site = rcu_notrace_this_module.sites;

    while (site < rcu_notrace_this_module.sites_end && site->tracepoint != tracepoint)
        site++;
    return site < rcu_notrace_this_module.sites_end ? site : NULL;
}

static const uint8_t *code_of(const struct rcu_notrace_site *site)
{
    return (const uint8_t *)&site->code + site->code;
}

enum form { NO_SITES, LOADED, PATCHED };

/* By the code itself. */
static enum form form_of(const struct tracepoint *tracepoint)
{
    static const uint8_t nop[] = {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
    struct rcu_notrace_site *site = site_of(tracepoint);
    const uint8_t *code;

    if (!site)
        return NO_SITES;
    code = code_of(site);
    if (code[0] == 0x80 && code[1] == 0x3d && code[7] == 0x0f && code[8] == 0x85)
        return LOADED;
    if ((code[0] == 0xa9 || code[0] == 0xe9) && !memcmp(code + 5, nop, sizeof(nop)))
        return PATCHED;
    fail("the code of %s is %02x %02x", tracepoint->name, code[0], code[1]);
}

static const char *const form_names[] = {"no sites", "load", "patch"};

/* The form that this run is about. */
static enum form expected_form(void)
{
    const char *keys = getenv("RCU_NOTRACE_KEYS");

#ifdef RCU_NOTRACE_NO_JUMP_LABELS
    return NO_SITES;
#endif
    return keys && !strcmp(keys, "load") ? LOADED : PATCHED;
}

/* Another scenario's function, in a program that starts anew. */
static void start_anew(const char *name)
{
    execl("/proc/self/exe", "tracepoints", "--started", name, (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static const struct module *module_of(void *handle)
{
    const struct module *module;

    if (!handle)
        fail("dlopen: %s", dlerror());
    module = dlsym(handle, "module");
    CHECK(module);
    return module;
}

static void *load_module(void)
{
    static char path[4200];
    ssize_t length = readlink("/proc/self/exe", path, 4096);

    CHECK(length > 0);
    path[length] = 0;
#ifdef RCU_NOTRACE_PORTABLE
    strcpy(strrchr(path, '/'), "/tracepoints_module.portable.so");
#else
    strcpy(strrchr(path, '/'), "/tracepoints_module.so");
#endif
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static atomic_bool stop;

static void *idle(void *unused)
{
    while (!stop)
        sleep_ms(1);
    return unused;
}

/* ---- what is called with what ------------------------------------------------------------------ */

DECLARE_TRACE(event, TP_PROTO(int id, const char *what), TP_ARGS(id, what));
DEFINE_TRACE(event, TP_PROTO(int id, const char *what), TP_ARGS(id, what));

static char called[64];
static int called_with;
static const char *called_what;

static void note(void *data, int id, const char *what)
{
    strncat(called, data, sizeof(called) - strlen(called) - 1);
    called_with = id;
    called_what = what;
}

static void note_too(void *data, int id, const char *what)
{
    note(data, id, what);
}

static const char *calls_of_event(void)
{
    static const char text[] = "text";

    called[0] = 0;
    trace_event(7, text);
    if (called[0])
        CHECK(called_with == 7 && called_what == text);
    return called;
}

static void probes_run_by_priority_and_then_in_order_of_registration(void)
{
    char *a = "a", *b = "b", *c = "c", *d = "d", *e = "e";

    CHECK(!strcmp(calls_of_event(), "") && !trace_event_enabled());
    CHECK(!register_trace_event(note, a));
    CHECK(!strcmp(calls_of_event(), "a") && trace_event_enabled());
    CHECK(!register_trace_event(note, b));
    CHECK(!register_trace_prio_event(note, c, 20));
    CHECK(!register_trace_prio_event(note, d, -5));
    CHECK(!register_trace_prio_event(note_too, e, 20));
    CHECK(!strcmp(calls_of_event(), "ceabd"));
    CHECK(!register_trace_event(note_too, a));
    CHECK(!strcmp(calls_of_event(), "ceabad"));
    CHECK(!unregister_trace_event(note, a));
    CHECK(!strcmp(calls_of_event(), "cebad"));
    CHECK(!unregister_trace_event(note, c) && !unregister_trace_event(note, d));
    CHECK(!unregister_trace_event(note, b) && !unregister_trace_event(note_too, a));
    CHECK(!strcmp(calls_of_event(), "e"));
    CHECK(!unregister_trace_event(note_too, e));
    CHECK(!strcmp(calls_of_event(), "") && !trace_event_enabled());
    tracepoint_synchronize_unregister();
}

static void a_probe_twice_is_refused(void)
{
    CHECK(!register_trace_event(note, "x"));
    CHECK(register_trace_prio_event(note, "x", 3) == -EEXIST || !"literals differ");
    CHECK(!strcmp(calls_of_event(), "x"));
}

static void a_probe_without_a_function_is_refused(void)
{
    CHECK(register_trace_event(NULL, NULL) == -EINVAL);
    CHECK(!trace_event_enabled());
}

static void a_probe_that_is_removed_twice_is_refused(void)
{
    CHECK(!register_trace_event(note, called));
    CHECK(!unregister_trace_event(note, called));
    CHECK(unregister_trace_event(note, called) == -ENOENT);
    CHECK(unregister_trace_event(note_too, NULL) == -ENOENT);
}

static int answer_in_a_probe = 1;

static void add_another(void *data, int id, const char *text)
{
    (void)id, (void)text;
    answer_in_a_probe = register_trace_event(note, data);
}

/* Another thread may have the lock, and wait for this section: in a regfunc. */
static void in_a_probe_and_in_a_section_registering_is_refused(void)
{
    CHECK(!register_trace_event(add_another, called));
    trace_event(1, "e");
    CHECK(answer_in_a_probe == -EDEADLK);
    rcu_read_lock_trace();
    CHECK(register_trace_event(note, called) == -EDEADLK);
    rcu_read_unlock_trace();
    CHECK(!unregister_trace_event(add_another, called));
    CHECK(!register_trace_event(note, called) && !unregister_trace_event(note, called));
}

/* Once, it means. */
static void remove_itself(void *data, int id, const char *text)
{
    (void)id, (void)text;
    answer_in_a_probe = unregister_trace_event(remove_itself, data);
}

static void a_probe_may_remove_itself(void)
{
    CHECK(!register_trace_event(remove_itself, called));
    trace_event(1, "e");
    CHECK(answer_in_a_probe == 0 && !trace_event_enabled());
}

static atomic_bool has_the_lock;

static int wait_in_regfunc(void)
{
    has_the_lock = true;
    synchronize_rcu();
    return 0;
}

DECLARE_TRACE_NOARGS(that_waits);
DEFINE_TRACE_FN(that_waits, wait_in_regfunc, NULL, void, );

static void nothing_in_a_probe(void *data)
{
    (void)data;
}

static void *register_and_wait(void *unused)
{
    CHECK(!register_trace_that_waits(nothing_in_a_probe, NULL));
    return unused;
}

static void where_somebody_has_the_lock_it_is_told_that_it_cannot(void)
{
    pthread_t thread;

    alarm(10);
    CHECK(!register_trace_event(note, called));
    rcu_read_lock_notrace();
    thread = start(register_and_wait, NULL);
    while (!has_the_lock)
        sleep_ms(1);
    CHECK(unregister_trace_event(note, called) == -EDEADLK);
    rcu_read_unlock_notrace();
    pthread_join(thread, NULL);
    CHECK(!unregister_trace_event(note, called));
}

static int evaluated;
DECLARE_TRACE_CONDITION(odd, TP_PROTO(int n), TP_ARGS(n), TP_CONDITION(evaluated++ >= 0 && (n & 1)));
DEFINE_TRACE(odd, TP_PROTO(int n), TP_ARGS(n));
DECLARE_TRACE_NOARGS(bare);
DEFINE_TRACE_NOARGS(bare);
/* Parameters may have any names. */
DECLARE_TRACE(names, TP_PROTO(int data, int probe, int guard, int section, int enabled, int tracepoint),
              TP_ARGS(data, probe, guard, section, enabled, tracepoint));
DEFINE_TRACE(names, TP_PROTO(int data, int probe, int guard, int section, int enabled, int tracepoint),
             TP_ARGS(data, probe, guard, section, enabled, tracepoint));

static void sum(void *total, int n)
{
    *(int *)total += n;
}

static void add_one(void *total)
{
    ++*(int *)total;
}

static void six(void *result, int a, int b, int c, int d, int e, int f)
{
    *(int *)result = a * 100000 + b * 10000 + c * 1000 + d * 100 + e * 10 + f;
}

static void conditions_no_arguments_and_names_of_parameters(void)
{
    int total = 0;

    trace_odd(1);
    CHECK(!evaluated);
    CHECK(!register_trace_odd(sum, &total));
    for (int n = 0; n < 6; n++)
        trace_odd(n);
    CHECK(total == 9 && evaluated == 6);
    CHECK(!unregister_trace_odd(sum, &total));

    total = 0;
    trace_bare();
    CHECK(!trace_bare_enabled());
    CHECK(!register_trace_bare(add_one, &total));
    CHECK(trace_bare_enabled());
    trace_bare();
    CHECK(total == 1 && !strcmp(rcu_notrace_find_tracepoint("bare")->proto, "void"));

    CHECK(!register_trace_names(six, &total));
    trace_names(1, 2, 3, 4, 5, 6);
    CHECK(total == 123456);
}

DECLARE_TRACE_SYSCALL(blocking, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(blocking, TP_PROTO(int n), TP_ARGS(n));

static atomic_bool inside, leave, synchronized;

static void block(void *unused, int n)
{
    (void)unused, (void)n;
    inside = true;
    while (!leave)
        sleep_ms(1);
}

static void *hit_blocking(void *unused)
{
    trace_blocking(1);
    return unused;
}

static void *synchronize_unregister(void *unused)
{
    tracepoint_synchronize_unregister();
    synchronized = true;
    return unused;
}

static void a_probe_that_blocks_holds_up_its_own_kind_alone(void)
{
    pthread_t reader, waiter;

    CHECK(!register_trace_blocking(block, NULL));
    reader = start(hit_blocking, NULL);
    while (!inside)
        sleep_ms(1);
    for (int i = 0; i < 10; i++)
        synchronize_rcu();
    CHECK(!unregister_trace_blocking(block, NULL));
    waiter = start(synchronize_unregister, NULL);
    sleep_ms(100);
    CHECK(!synchronized);
    leave = true;
    pthread_join(reader, NULL);
    pthread_join(waiter, NULL);
    CHECK(synchronized);
}

static int regfunc_answer, regs, unregs;
static void (*in_regfunc)(void);

static int regfunc(void)
{
    regs++;
    if (in_regfunc)
        in_regfunc();
    return regfunc_answer;
}

static void unregfunc(void)
{
    unregs++;
}

DECLARE_TRACE(with_functions, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE_FN(with_functions, regfunc, unregfunc, TP_PROTO(int n), TP_ARGS(n));

static void functions_of_registration_run_at_the_first_and_the_last(void)
{
    int total = 0, other = 0;

    CHECK(!register_trace_with_functions(sum, &total) && regs == 1 && unregs == 0);
    CHECK(!register_trace_with_functions(sum, &other) && regs == 1 && unregs == 0);
    trace_with_functions(3);
    CHECK(total == 3 && other == 3);
    CHECK(!unregister_trace_with_functions(sum, &total) && unregs == 0);
    CHECK(!unregister_trace_with_functions(sum, &other) && unregs == 1);
    regfunc_answer = -EBUSY;
    CHECK(register_trace_with_functions(sum, &total) == -EBUSY && regs == 2 && unregs == 1);
    CHECK(!trace_with_functions_enabled());
    regfunc_answer = 0;
    CHECK(register_trace_with_functions(NULL, &total) == -EINVAL && regs == 3 && unregs == 2);
    fail_here = true;
    CHECK(register_trace_with_functions(sum, &total) == -ENOMEM && regs == 4 && unregs == 3);
    fail_here = false;
    CHECK(!register_trace_with_functions(sum, &total) && regs == 5);
    trace_with_functions(4);
    CHECK(total == 7);
}

/* Its unregfunc may wait. */
static void nor_can_a_probe_of_a_tracepoint_with_functions_remove_itself(void)
{
    int total = 0;

    CHECK(!register_trace_with_functions(sum, &total));
    rcu_read_lock_notrace();
    CHECK(unregister_trace_with_functions(sum, &total) == -EDEADLK);
    rcu_read_unlock_notrace();
    CHECK(!unregister_trace_with_functions(sum, &total));
}

static void register_again(void)
{
    register_trace_event(note, NULL);
}

static void registering_in_regfunc(void)
{
    in_regfunc = register_again;
    register_trace_with_functions(sum, NULL);
    fail("went on");
}

static unsigned depth, deepest;

static void recurse(void *unused, int n)
{
    (void)unused;
    if (++depth > deepest)
        deepest = depth;
    if (n > 0)
        trace_with_functions(n - 1);
    depth--;
}

static void a_probe_may_come_to_its_own_tracepoint(void)
{
    CHECK(!register_trace_with_functions(recurse, NULL));
    trace_with_functions(50);
    CHECK(deepest == 51 && depth == 0);
    CHECK(!unregister_trace_with_functions(recurse, NULL));
    tracepoint_synchronize_unregister();
}

static void look(struct tracepoint *tracepoint, void *found)
{
    ((unsigned *)found)[0]++;
    ((unsigned *)found)[1] += !strcmp(tracepoint->name, "event");
    ((unsigned *)found)[2] += !strcmp(tracepoint->name, "private_event");
}

static void tracepoints_are_found(void)
{
    unsigned found[3] = {0};
    struct tracepoint *event = rcu_notrace_find_tracepoint("event");
    void *handle;

    for_each_tracepoint(look, found);
    CHECK(found[0] == tracepoint_stats().tracepoints && found[0] > 100);
    CHECK(found[1] == 1 && found[2] == 1);
    CHECK(event == rcu_notrace_tracepoint_event() && !strcmp(event->name, "event"));
    CHECK(!strcmp(event->proto, "int id, const char *what"));
    CHECK(!rcu_notrace_find_tracepoint("nothing"));
    CHECK(!tracepoint_probe_register(event, (void (*)(void))note, "f"));
    CHECK(!strcmp(calls_of_event(), "f"));
    CHECK(rcu_notrace_find_tracepoint("shared_event") == rcu_notrace_tracepoint_shared_event());
    handle = load_module();
    CHECK(handle);
    memset(found, 0, sizeof(found));
    for_each_tracepoint(look, found);
    CHECK(found[2] == 2);
    dlclose(handle);
    memset(found, 0, sizeof(found));
    for_each_tracepoint(look, found);
    CHECK(found[2] == 1);
}

static void exit_there(struct tracepoint *tracepoint, void *unused)
{
    (void)tracepoint, (void)unused;
    exit(7);
}

/* The destructors of modules, which exit() calls, want the same lock. */
static void a_function_that_runs_under_the_lock_may_exit(void)
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    if (!child)
        for_each_tracepoint(exit_there, NULL);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static atomic_uint heap_probes;

static void on_heap(void *data, size_t size)
{
    CHECK(data == &heap_probes && size < 1 << 30);
    heap_probes++;
}

static void *allocate(void *unused)
{
    while (!stop) {
        void *volatile block = malloc(100);

        free(block);
    }
    return unused;
}

static void an_allocator_may_be_traced_by_probes_under_its_lock(void)
{
    pthread_t threads[2];

    for (size_t i = 0; i < COUNT(threads); i++)
        threads[i] = start(allocate, NULL);
    for (int i = 0; i < 500; i++) {
        unsigned before = heap_probes;

        CHECK(!register_trace_heap(on_heap, &heap_probes));
        while (heap_probes == before)
            sched_yield();
        CHECK(!unregister_trace_heap(on_heap, &heap_probes));
        tracepoint_synchronize_unregister();
        before = heap_probes;
        free(malloc(10));
        CHECK(heap_probes == before);
    }
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    printf("    500 times on and off, %u probes\n", heap_probes);
}

/* ---- modules ----------------------------------------------------------------------------------- */

static void one_tracepoint_in_three_modules(void)
{
    int total = 0, other = 0;
    void *handle = load_module();
    const struct module *module = module_of(handle);
    void (*probe)(void) = (void (*)(void))sum;

    provider_hit(1);
    module->hit(1);
    trace_shared_event(1);
    CHECK(total == 0 && !module->is_enabled());
    CHECK(!register_trace_shared_event(sum, &total));
    CHECK(trace_shared_event_enabled() && module->is_enabled());
    provider_hit(1);
    module->hit(10);
    trace_shared_event(100);
    CHECK(total == 111);
    CHECK(!unregister_trace_shared_event(sum, &total));
    CHECK(!module->is_enabled() && !trace_shared_event_enabled());
    provider_hit(1);
    module->hit(1);
    trace_shared_event(1);
    CHECK(total == 111);
    /* Two of one name that are hidden are two. */
    CHECK(provider_private() != module->private_event());
    CHECK(!tracepoint_probe_register(provider_private(), probe, &total));
    CHECK(!tracepoint_probe_register(module->private_event(), probe, &other));
    provider_hit_private(1000);
    CHECK(total == 1111 && other == 0);
    module->hit_private(5);
    CHECK(total == 1111 && other == 5);
    CHECK(!tracepoint_probe_unregister(module->private_event(), probe, &other));
    CHECK(!tracepoint_probe_unregister(provider_private(), probe, &total));
    tracepoint_synchronize_unregister();
    dlclose(handle);
}

static void a_module_that_is_loaded_late_is_patched_unless_other_threads_run(void)
{
    struct rcu_notrace_tracepoint_stats before, with, after;
    int total = 0;
    void *handle;

    if (expected_form() == NO_SITES)
        skip("no sites in this build");
    CHECK(!register_trace_shared_event(sum, &total));
    for (int threads = 0; threads < 2; threads++) {
        uint64_t expected;

        if (threads)
            start(idle, NULL);
        before = tracepoint_stats();
        handle = load_module();
        with = tracepoint_stats();
        /* It is as it should be from its first instruction on. */
        CHECK(module_of(handle)->is_enabled());
        total = 0;
        module_of(handle)->hit(2);
        CHECK(total == 2);
        expected = expected_form() == PATCHED && !threads ? 3 : 0;
        CHECK(with.sites_patched == before.sites_patched + expected);
        CHECK(with.sites_loaded == before.sites_loaded + 3 - expected);
        CHECK(with.tracepoints == before.tracepoints + 1);
        dlclose(handle);
        after = tracepoint_stats();
        CHECK(after.sites_patched == before.sites_patched);
        CHECK(after.sites_loaded == before.sites_loaded && after.tracepoints == before.tracepoints);
        CHECK(!unregister_trace_shared_event(sum, &total));
        handle = load_module();
        CHECK(!module_of(handle)->is_enabled());
        dlclose(handle);
        CHECK(!register_trace_shared_event(sum, &total));
    }
    printf("    form %s: %llu patched, %llu loaded\n", form_names[expected_form()],
           (unsigned long long)after.sites_patched, (unsigned long long)after.sites_loaded);
}

static atomic_ulong module_hits;

static void count_hit(void *data, int n)
{
    (void)n;
    CHECK(data == &module_hits);
    module_hits++;
}

static void *hit_shared(void *unused)
{
    for (int n = 0; !stop; n++) {
        trace_shared_event(n);
        provider_hit(n);
    }
    return unused;
}

static void *flip_shared(void *flips)
{
    while (!stop) {
        CHECK(!register_trace_shared_event(count_hit, &module_hits));
        CHECK(!unregister_trace_shared_event(count_hit, &module_hits));
        ++*(unsigned long *)flips;
    }
    return NULL;
}

static void modules_come_and_go_while_their_tracepoint_is_switched(void)
{
    unsigned long flips = 0, loads = 0;
    pthread_t threads[3];
    uint64_t end = now_ns() + storm_ns() / 2;

    threads[0] = start(hit_shared, NULL);
    threads[1] = start(hit_shared, NULL);
    threads[2] = start(flip_shared, &flips);
    while (now_ns() < end) {
        void *handle = load_module();
        const struct module *module = module_of(handle);

        for (int i = 0; i < 100; i++)
            module->hit(i);
        dlclose(handle);
        loads++;
    }
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    printf("    %lu loads, %lu times on and off, %lu hits\n", loads, flips, (unsigned long)module_hits);
    CHECK(loads > 20 && flips > 20 && module_hits);
}

/* ---- arrays ------------------------------------------------------------------------------------ */

DECLARE_TRACE(stress, TP_PROTO(unsigned n), TP_ARGS(n));
DEFINE_TRACE(stress, TP_PROTO(unsigned n), TP_ARGS(n));

/* What a probe is called with: it knows whose it is. */
struct object {
    atomic_uint function;
    atomic_uint dead;
};
enum { FUNCTIONS = 8, OBJECTS = 512, POISON = 0x5a5a };
static struct object objects[OBJECTS];
static atomic_ulong stress_calls;

static void check_object(const struct object *object, unsigned function)
{
    unsigned whose = object->function;

    if (whose != function || object->dead)
        fail("function %u was called with data of %#x%s", function, whose,
             object->dead ? ", after its grace period" : "");
    atomic_fetch_add_explicit(&stress_calls, 1, memory_order_relaxed);
}

#define PROBE(number) \
    static void probe_##number(void *object, unsigned n) \
    { \
        (void)n; \
        check_object(object, number); \
    }
PROBE(0) PROBE(1) PROBE(2) PROBE(3) PROBE(4) PROBE(5) PROBE(6) PROBE(7)

static void (*const functions[FUNCTIONS])(void *, unsigned) = {probe_0, probe_1, probe_2, probe_3,
                                                              probe_4, probe_5, probe_6, probe_7};

static struct object *usable[OBJECTS], *removed[OBJECTS], *attached[OBJECTS];
static unsigned usables, removeds, attacheds;
static unsigned long attaches, to_none, to_one;

static void attach(void)
{
    struct object *object;

    if (!usables) {
        tracepoint_synchronize_unregister();
        while (removeds) {
            object = removed[--removeds];
            object->dead = 1;
            object->function = POISON;
            usable[usables++] = object;
        }
    }
    object = usable[--usables];
    object->function = random_below(FUNCTIONS);
    object->dead = 0;
    CHECK(!register_trace_prio_stress(functions[object->function], object, (int)random_below(3)));
    attached[attacheds++] = object;
    attaches++;
}

static void detach(void)
{
    unsigned which = random_below(attacheds);
    struct object *object = attached[which];

    attached[which] = attached[--attacheds];
    CHECK(!unregister_trace_stress(functions[object->function], object));
    removed[removeds++] = object;
    to_none += attacheds == 0;
    to_one += attacheds == 1;
}

static void *hit_stress(void *unused)
{
    for (unsigned n = 0; !stop; n++)
        trace_stress(n);
    return unused;
}

static void no_probe_sees_anothers_data_or_runs_after_its_grace_period(void)
{
    unsigned long cycles = 100000;
    pthread_t threads[4];

    tracking = true;
    for (usables = 0; usables < OBJECTS; usables++)
        usable[usables] = &objects[usables];
    for (size_t i = 0; i < COUNT(threads); i++)
        threads[i] = start(hit_stress, NULL);
    track_here = true;
    while (attaches < cycles) {
        /* From one to none to one. */
        attach();
        detach();
        attach();
        /* From many to two, to one. */
        for (unsigned many = 2 + random_below(20); attacheds < many;)
            attach();
        while (attacheds > 1)
            detach();
        if (random_below(2))
            detach();
    }
    while (attacheds)
        detach();
    track_here = false;
    tracepoint_synchronize_unregister();
    for (int i = 0; i < OBJECTS; i++)
        objects[i].dead = 1;
    sleep_ms(20);
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    tracking = false;
    printf("    %lu attached, %lu times none left, %lu times one; %lu calls; arrays: %lu made, %lu "
           "freed\n",
           attaches, to_none, to_one, (unsigned long)stress_calls, (unsigned long)arrays_made,
           (unsigned long)arrays_freed);
    CHECK(to_none > cycles / 50 && to_one > cycles / 50 && stress_calls > cycles);
    CHECK(arrays_made >= cycles && arrays_made == arrays_freed);
}

static void a_removal_without_memory_succeeds(void)
{
    char *texts[] = {"a", "b", "c", "d", "e"};
    unsigned long before;

    for (size_t i = 0; i < COUNT(texts); i++)
        CHECK(!register_trace_event(note, texts[i]));
    CHECK(!strcmp(calls_of_event(), "abcde"));
    fail_here = true;
    CHECK(!unregister_trace_event(note, texts[2]));
    CHECK(!strcmp(calls_of_event(), "abde"));
    CHECK(!unregister_trace_event(note, texts[0]));
    CHECK(!strcmp(calls_of_event(), "bde"));
    CHECK(unregister_trace_event(note, texts[0]) == -ENOENT);
    CHECK(register_trace_event(note, texts[0]) == -ENOMEM);
    CHECK(!strcmp(calls_of_event(), "bde") && refused >= 3);
    fail_here = false;
    /* The next array is without the gaps. */
    CHECK(!register_trace_event(note, texts[0]));
    CHECK(!strcmp(calls_of_event(), "bdea"));
    before = 0;
    for (struct tracepoint_func *f = rcu_notrace_tracepoint_event()->funcs; f->func; f++)
        before++;
    CHECK(before == 4);
    fail_here = true;
    for (size_t i = 0; i < COUNT(texts); i++)
        if (i != 2)
            CHECK(!unregister_trace_event(note, texts[i]));
    fail_here = false;
    CHECK(!trace_event_enabled() && !strcmp(calls_of_event(), ""));
    tracepoint_synchronize_unregister();
    printf("    %lu allocations refused\n", (unsigned long)refused);
}

/* ---- a hundred tracepoints, switched under fire ------------------------------------------------ */

#define TEN(M, t) M(t##0) M(t##1) M(t##2) M(t##3) M(t##4) M(t##5) M(t##6) M(t##7) M(t##8) M(t##9)
#define ALL(M) \
    TEN(M, 0) TEN(M, 1) TEN(M, 2) TEN(M, 3) TEN(M, 4) TEN(M, 5) TEN(M, 6) TEN(M, 7) TEN(M, 8) TEN(M, 9)
enum { HUNDRED = 100 };

#define DECLARE(i) \
    DECLARE_TRACE(fire##i, TP_PROTO(unsigned n), TP_ARGS(n)); \
    DEFINE_TRACE(fire##i, TP_PROTO(unsigned n), TP_ARGS(n));
ALL(DECLARE)
#define ADDRESS(i) &__tracepoint_fire##i,
static struct tracepoint *const fire[HUNDRED] = {ALL(ADDRESS)};

/* What a switcher says of a tracepoint: it is off, it is being changed, it is on, again; by the
 * rest of 4. */
enum { OFF, GOES_ON, ON, GOES_OFF };
static atomic_uint phase[HUNDRED];
static __thread volatile unsigned probes_here;
static atomic_ulong seen_on, seen_off, fire_probes, from_handlers;

static void on_fire(void *data, unsigned n)
{
    CHECK(data == &phase[n]);
    probes_here++;
}

static void check_fire(unsigned n, unsigned before, unsigned after, unsigned probes, int enabled,
                       unsigned long *on, unsigned long *off)
{
    if (before != after)
        return;
    if (before % 4 == ON) {
        if (probes != 1 || !enabled)
            fail("tracepoint %u was on before: %u probes, enabled %d", n, probes, enabled);
        ++*on;
    } else if (before % 4 == OFF) {
        if (probes || enabled)
            fail("tracepoint %u was off before: %u probes, enabled %d", n, probes, enabled);
        ++*off;
    }
}

/* A function each, so that they lie on several pages. */
#define HIT(i) \
    __attribute__((noinline, aligned(256))) static void hit_##i(unsigned n, unsigned long *on, \
                                                                unsigned long *off) \
    { \
        unsigned before = phase[n], probes = probes_here; \
        int enabled; \
        trace_fire##i(n); \
        probes = probes_here - probes; \
        enabled = trace_fire##i##_enabled(); \
        check_fire(n, before, phase[n], probes, enabled, on, off); \
    }
ALL(HIT)
#define FUNCTION(i) hit_##i,
static void (*const hits[HUNDRED])(unsigned, unsigned long *, unsigned long *) = {ALL(FUNCTION)};

static void run_through(void)
{
    unsigned long on = 0, off = 0;

    for (unsigned n = 0; n < HUNDRED; n++)
        hits[n](n, &on, &off);
    atomic_fetch_add_explicit(&seen_on, on, memory_order_relaxed);
    atomic_fetch_add_explicit(&seen_off, off, memory_order_relaxed);
}

static void on_timer(int signal)
{
    unsigned probes = probes_here;
    unsigned n = random_below(HUNDRED);
    unsigned long on = 0, off = 0;

    (void)signal;
    for (unsigned i = 0; i < 5; i++, n = (n + 7) % HUNDRED)
        hits[n](n, &on, &off);
    atomic_fetch_add_explicit(&from_handlers, on + off, memory_order_relaxed);
    probes_here = probes;
}

static void *run_under_fire(void *unused)
{
    timer_t timer;

    random_below(1);
    timer = storm_here();
    while (!stop)
        run_through();
    timer_delete(timer);
    fire_probes += probes_here;
    return unused;
}

static void flip_one(unsigned n)
{
    unsigned now = phase[n];

    phase[n] = now + 1;
    if (now % 4 == OFF)
        CHECK(!tracepoint_probe_register(fire[n], (void (*)(void))on_fire, &phase[n]));
    else
        CHECK(!tracepoint_probe_unregister(fire[n], (void (*)(void))on_fire, &phase[n]));
    phase[n] = now + 2;
}

static void a_switch_is_in_effect_when_it_returns_under_fire(void)
{
    uint64_t end = now_ns() + storm_ns();
    struct rcu_notrace_tracepoint_stats stats;
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    pthread_t threads[4];
    unsigned long flips = 0;

    sigaction(SIGUSR2, &action, NULL);
    CHECK(form_of(fire[0]) == expected_form());
    for (size_t i = 0; i < COUNT(threads); i++)
        threads[i] = start(run_under_fire, NULL);
    for (; now_ns() < end; flips++) {
        flip_one(random_below(HUNDRED));
        /* Otherwise none is as it was for long enough to be gone through. */
        if (flips % 8 == 0)
            sleep_ms(1);
    }
    stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    stats = tracepoint_stats();
    printf("    form %s: %lu switched; found on %lu, off %lu, in handlers %lu; probes %lu; "
           "barriers %llu\n",
           form_names[form_of(fire[0])], flips, (unsigned long)seen_on, (unsigned long)seen_off,
           (unsigned long)from_handlers, (unsigned long)fire_probes,
           (unsigned long long)stats.sync_core);
    CHECK(flips > 100 && seen_on > 1000 && seen_off > 1000 && from_handlers > 100);
    CHECK(stats.flips == flips);
    CHECK((expected_form() == PATCHED) == (stats.sync_core > flips / 2));
}

static void a_place_in_the_code_differs_by_one_byte(void)
{
    struct rcu_notrace_site *site = site_of(fire[0]);
    uint8_t off[13], on[13];
    unsigned differ = 0;

    CHECK(form_of(fire[0]) == expected_form());
    if (!site)
        skip("no sites in this build");
    memcpy(off, code_of(site), sizeof(off));
    CHECK(!register_trace_fire00(on_fire, &phase[0]));
    CHECK(trace_fire00_enabled());
    memcpy(on, code_of(site), sizeof(on));
    for (size_t i = 0; i < sizeof(on); i++)
        differ += on[i] != off[i];
    if (expected_form() == PATCHED) {
        CHECK(differ == 1 && off[0] == 0xa9 && on[0] == 0xe9 && site->enabled == 0);
    } else {
        CHECK(differ == 0 && off[0] == 0x80 && site->enabled == 1);
    }
    CHECK(!unregister_trace_fire00(on_fire, &phase[0]));
    CHECK(!memcmp(off, code_of(site), sizeof(off)) && site->enabled == 0);
    /* No page of code stays writable. */
    {
        FILE *maps = fopen("/proc/self/maps", "r");
        char line[512];

        while (fgets(line, sizeof(line), maps))
            if (strstr(line, " rwxp "))
                fail("writable code: %s", line);
        fclose(maps);
    }
}

/* ---- what is refused --------------------------------------------------------------------------- */

static void refuse_writable_code(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 1),
        ANSWER(SECCOMP_RET_ERRNO | EACCES),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    if (install_filter(filter, COUNT(filter), SECCOMP_FILTER_FLAG_TSYNC))
        skip("no seccomp here");
}

static void all_is_loaded(void)
{
    struct rcu_notrace_tracepoint_stats stats = tracepoint_stats();
    int total = 0;

    CHECK(form_of(fire[3]) == LOADED);
    CHECK(stats.sites_patched == 0 && stats.sites_loaded > HUNDRED);
    CHECK(!register_trace_shared_event(sum, &total));
    trace_shared_event(1);
    provider_hit(2);
    CHECK(total == 3);
    CHECK(!unregister_trace_shared_event(sum, &total));
    CHECK(!trace_shared_event_enabled());
}

static void all_is_patched(void)
{
    struct rcu_notrace_tracepoint_stats stats = tracepoint_stats();

    CHECK(form_of(fire[3]) == PATCHED);
    CHECK(stats.sites_loaded == 0 && stats.sites_patched > HUNDRED);
}

static void need_patching(void)
{
    if (expected_form() != PATCHED)
        skip("this run does not patch");
}

static void where_code_may_not_be_written_it_is_loaded(void)
{
    need_patching();
    refuse_writable_code();
    start_anew("all_is_loaded");
}

static void where_membarrier_is_refused_it_is_loaded(void)
{
    need_patching();
    refuse_membarrier();
    start_anew("all_is_loaded");
}

static void on_demand_it_is_loaded(void)
{
    need_patching();
    setenv("RCU_NOTRACE_KEYS", "load", 1);
    start_anew("all_is_loaded");
}

static void by_default_it_is_patched(void)
{
    need_patching();
    unsetenv("RCU_NOTRACE_KEYS");
    start_anew("all_is_patched");
}

static void an_unknown_demand_is_reported(void)
{
#ifdef RCU_NOTRACE_NO_JUMP_LABELS
    skip("no sites in this build");
#endif
    setenv("RCU_NOTRACE_KEYS", "maybe", 1);
    start_anew("all_is_patched");
}

static void nothing(void)
{
    int total = 0;

    CHECK(!register_trace_shared_event(sum, &total));
    exit(0);
}

static void counters_are_printed_at_exit_on_request(void)
{
    setenv("RCU_NOTRACE_STATS", "1", 1);
    start_anew("nothing");
}

static void where_patching_is_refused_later_registration_fails_and_nothing_is_enabled(void)
{
    const struct module *module;
    int total = 0, other = 0;

    need_patching();
    /* One of its places is patched, one loaded: that one can be switched. */
    start(idle, NULL);
    module = module_of(load_module());
    CHECK(!register_trace_event(note, "e"));
    refuse_writable_code();
    CHECK(register_trace_shared_event(sum, &total) == -EPERM);
    CHECK(!module->is_enabled() && !trace_shared_event_enabled());
    CHECK(rcu_notrace_tracepoint_shared_event()->funcs == NULL);
    module->hit(1);
    provider_hit(1);
    trace_shared_event(1);
    CHECK(total == 0);
    CHECK(register_trace_with_functions(sum, &other) == -EPERM && regs == 1 && unregs == 1);
    /* Of one that is enabled, all goes on. */
    CHECK(!register_trace_event(note_too, "f"));
    CHECK(!strcmp(calls_of_event(), "ef"));
    CHECK(!unregister_trace_event(note_too, "f") && !unregister_trace_event(note, "e"));
    CHECK(!strcmp(calls_of_event(), ""));
    CHECK(!register_trace_event(note, "e"));
    CHECK(!strcmp(calls_of_event(), "e"));
}

/* ---- fork -------------------------------------------------------------------------------------- */

static void *flip_odd(void *odd)
{
    while (!stop)
        flip_one(random_below(HUNDRED / 2) * 2 + !!odd);
    return NULL;
}

/* Whether code and probes disagree: somebody is in the middle of switching it. */
#define TORN(i) torn += trace_fire##i##_enabled() != (__tracepoint_fire##i.funcs != NULL);
__attribute__((noinline)) static unsigned count_torn(void)
{
    unsigned torn = 0;

    ALL(TORN)
    return torn;
}

static void check_child(bool whole)
{
    int total = 0;
    unsigned long on = 0, off = 0;

    if (whole && count_torn())
        _exit(FAIL);
    CHECK(!register_trace_shared_event(sum, &total));
    trace_shared_event(5);
    provider_hit(6);
    CHECK(total == 11);
    if (count_torn())
        fail("a child of a fork has a tracepoint that is switched by half");
    for (unsigned n = 0; n < HUNDRED; n++) {
        /* The switcher may have been between the change and its phase. */
        bool enabled = fire[n]->funcs;

        phase[n] = enabled ? ON : OFF;
        hits[n](n, &on, &off);
    }
    for (unsigned n = 0; n < HUNDRED; n += 9) {
        flip_one(n);
        hits[n](n, &on, &off);
    }
    CHECK(on + off == HUNDRED + 12);
    CHECK(!unregister_trace_shared_event(sum, &total));
    tracepoint_synchronize_unregister();
    if (whole)
        rcu_barrier();
}

/* A fork waits so long for those who register, and then does without. */
static const uint64_t patience = 1000000000;

static void children_of_fork_find_nothing_switched_by_half(void)
{
    uint64_t longest = 0, all = 0;
    unsigned given_up = 0;
    enum { FORKS = 100 };

    start(flip_odd, NULL);
    start(flip_odd, &stop);
    for (int i = 0; i < FORKS; i++) {
        uint64_t begin = now_ns(), took;
        pid_t child = fork();

        if (!child) {
            check_child(true);
            _exit(PASS);
        }
        took = now_ns() - begin;
        all += took;
        given_up += took >= patience;
        if (took > longest)
            longest = took;
        expect_success(child);
    }
    printf("    %d forks, %llu us each, the longest %llu; %u waited in vain\n", FORKS,
           (unsigned long long)(all / FORKS / 1000), (unsigned long long)(longest / 1000), given_up);
    CHECK(all / FORKS < patience / 5 && given_up <= 1);
}

static atomic_ulong turns;

static int take_2_ms(void)
{
    turns++;
    sleep_ms(2);
    return 0;
}

static void take_2_ms_again(void)
{
    take_2_ms();
}

DECLARE_TRACE_NOARGS(that_takes_long);
DEFINE_TRACE_FN(that_takes_long, take_2_ms, take_2_ms_again, void, );

static void *registers_all_the_time(void *unused)
{
    while (!stop) {
        CHECK(!register_trace_that_takes_long(nothing_in_a_probe, NULL));
        CHECK(!unregister_trace_that_takes_long(nothing_in_a_probe, NULL));
    }
    return unused;
}

static unsigned long fork_and_look(void)
{
    unsigned long before = turns;
    pid_t child = fork();
    unsigned long after = turns;

    if (!child)
        _exit(PASS);
    expect_success(child);
    return after - before;
}

static unsigned long register_and_look(void)
{
    unsigned long before = turns, after;

    CHECK(!register_trace_event(note, "a"));
    after = turns;
    CHECK(!unregister_trace_event(note, "a"));
    return after - before;
}

/* The lock is free for some hundred nanoseconds in 2 ms. */
static void who_waits_for_the_lock_is_next_though_another_thread_takes_it_again_at_once(void)
{
    enum { TIMES = 20 };
    unsigned long forks = 0, others = 0;

    start(registers_all_the_time, NULL);
    while (!turns)
        sleep_ms(1);
    for (int i = 0; i < TIMES; i++) {
        forks += fork_and_look();
        others += register_and_look();
        CHECK(forks < 8 * TIMES && others < 8 * TIMES);
    }
    printf("    the other had it %lu times in %d forks, %lu in %d calls of register, %lu in all\n", forks, TIMES, others,
           TIMES, turns);
    CHECK(turns >= TIMES / 2);
}

static void linger(struct tracepoint *tracepoint, void *first)
{
    (void)tracepoint;
    if (*(bool *)first)
        sleep_ms(100);
    *(bool *)first = false;
}

static void *has_it_for_long(void *unused)
{
    while (!stop) {
        bool first = true;

        for_each_tracepoint(linger, &first);
        turns++;
    }
    return unused;
}

/* Some of them have waited for longer than a fork would. */
static void a_fork_is_next_though_those_who_wait_take_more_than_its_patience_together(void)
{
    enum { THREADS = 16, FORKS = 10 };
    unsigned given_up = 0;

    for (int i = 0; i < THREADS; i++)
        start(has_it_for_long, NULL);
    while (turns < THREADS)
        sleep_ms(1);
    for (int i = 0; i < FORKS; i++) {
        uint64_t begin = now_ns();

        fork_and_look();
        given_up += now_ns() - begin >= patience;
    }
    printf("    %u of %d forks waited in vain, beside %lu turns\n", given_up, FORKS, turns);
    CHECK(given_up <= 1);
}

extern pid_t _Fork(void) __attribute__((weak));

static void children_that_nobody_told_the_library_of_mend_what_was_switched_by_half(void)
{
    unsigned torn = 0, children = 0;
    /* Without sites there is nothing to be switched by half. */
    uint64_t end = now_ns() + (expected_form() == NO_SITES ? 1000000000 : storm_ns() * 2);

    if (!_Fork)
        skip("no _Fork() in this C library");
    start(flip_odd, NULL);
    while (now_ns() < end && torn < 20) {
        int status;
        pid_t child = _Fork();

        if (!child) {
            bool is_torn = count_torn();

            /* Whose the other thread's is. Others of libc's stay taken: nothing is freed here. */
            atomic_flag_clear(&heap_lock);
            check_child(false);
            _exit(is_torn ? 3 : PASS);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != PASS && WEXITSTATUS(status) != 3))
            fail("a child ended with status %#x", (unsigned)status);
        torn += WEXITSTATUS(status) == 3;
        children++;
    }
    printf("    %u children, %u of them in the middle of a change\n", children, torn);
    if (expected_form() != NO_SITES)
        CHECK(torn);
}

static pid_t forked = -1;

static void fork_in_regfunc(void)
{
    forked = fork();
}

static void regfunc_may_fork(void)
{
    int total = 0;

    in_regfunc = fork_in_regfunc;
    CHECK(!register_trace_with_functions(sum, &total));
    trace_with_functions(4);
    CHECK(total == 4);
    in_regfunc = NULL;
    CHECK(!unregister_trace_with_functions(sum, &total));
    CHECK(!register_trace_with_functions(sum, &total));
    tracepoint_synchronize_unregister();
    if (!forked)
        _exit(PASS);
    expect_success(forked);
}

static int probes_in_handler;

static void register_in_prepare(void)
{
    if (probes_in_handler++ == 0)
        CHECK(!register_trace_event(note, "p"));
}

/* Prepare handlers run in reverse: this one after the library's, which has its locks by then. */
__attribute__((constructor(101))) static void early(void)
{
    const char *wanted = getenv("TRACEPOINTS_EARLY_ATFORK");

    if (wanted)
        pthread_atfork(register_in_prepare, NULL, NULL);
}

static void after_an_early_handler(void)
{
    pid_t child = fork();

    CHECK(!strcmp(calls_of_event(), "p"));
    CHECK(!unregister_trace_event(note, "p"));
    if (!child)
        _exit(PASS);
    expect_success(child);
    CHECK(probes_in_handler == 1);
}

static void a_fork_handler_may_register_probes(void)
{
    setenv("TRACEPOINTS_EARLY_ATFORK", "1", 1);
    start_anew("after_an_early_handler");
}

int main(int argc, char **argv)
{
#define ABORTS(name, says) {#name, name, SIGABRT, says}
#define SAYS(name, says) {#name, name, 0, says}
    static const struct scenario list[] = {
        SCENARIO(probes_run_by_priority_and_then_in_order_of_registration),
        SAYS(a_probe_twice_is_refused, "tracepoint event: a probe is registered twice"),
        SAYS(a_probe_without_a_function_is_refused, "tracepoint event: a probe without a function"),
        SAYS(a_probe_that_is_removed_twice_is_refused,
             "tracepoint event: the probe is not registered"),
        SAYS(in_a_probe_and_in_a_section_registering_is_refused,
             "register_trace_event() inside a read-side critical section, or in a probe"),
        SCENARIO(a_probe_may_remove_itself),
        SCENARIO(nor_can_a_probe_of_a_tracepoint_with_functions_remove_itself),
        SAYS(where_somebody_has_the_lock_it_is_told_that_it_cannot,
             "unregister_trace_event() inside a read-side critical section, or in a probe"),
        SCENARIO(conditions_no_arguments_and_names_of_parameters),
        SCENARIO(a_probe_that_blocks_holds_up_its_own_kind_alone),
        SCENARIO(functions_of_registration_run_at_the_first_and_the_last),
        ABORTS(registering_in_regfunc,
               "a function that runs under the lock of tracepoints came to it again"),
        SCENARIO(a_probe_may_come_to_its_own_tracepoint),
        SCENARIO(tracepoints_are_found),
        SCENARIO(a_function_that_runs_under_the_lock_may_exit),
        SCENARIO(an_allocator_may_be_traced_by_probes_under_its_lock),
        SCENARIO(one_tracepoint_in_three_modules),
        SCENARIO(a_module_that_is_loaded_late_is_patched_unless_other_threads_run),
        SCENARIO(modules_come_and_go_while_their_tracepoint_is_switched),
        SCENARIO(no_probe_sees_anothers_data_or_runs_after_its_grace_period),
        SCENARIO(a_removal_without_memory_succeeds),
        SCENARIO(a_switch_is_in_effect_when_it_returns_under_fire),
        SCENARIO(a_place_in_the_code_differs_by_one_byte),
        SCENARIO(by_default_it_is_patched),
        SCENARIO(on_demand_it_is_loaded),
        SCENARIO(where_code_may_not_be_written_it_is_loaded),
        SCENARIO(where_membarrier_is_refused_it_is_loaded),
        SAYS(where_patching_is_refused_later_registration_fails_and_nothing_is_enabled,
             "tracepoint shared_event: its code cannot be patched any more"),
        SAYS(an_unknown_demand_is_reported,
             "RCU_NOTRACE_KEYS=maybe is neither patch nor load; using patch"),
        SAYS(counters_are_printed_at_exit_on_request, ": flips 1\nrcu-notrace: "),
        SCENARIO(children_of_fork_find_nothing_switched_by_half),
        SCENARIO(who_waits_for_the_lock_is_next_though_another_thread_takes_it_again_at_once),
        SCENARIO(a_fork_is_next_though_those_who_wait_take_more_than_its_patience_together),
        SCENARIO(children_that_nobody_told_the_library_of_mend_what_was_switched_by_half),
        SCENARIO(regfunc_may_fork),
        SCENARIO(a_fork_handler_may_register_probes),
    };
    static const struct scenario started[] = {
        SCENARIO(all_is_loaded),
        SCENARIO(all_is_patched),
        SCENARIO(nothing),
        SCENARIO(after_an_early_handler),
    };

    /* Twenty seconds in `make check-long` is more than a scenario may take otherwise. */
    if (getenv("STORM_SECONDS")) {
        char limit[16];

        snprintf(limit, sizeof(limit), "%d", atoi(getenv("STORM_SECONDS")) * 2 + SCENARIO_SECONDS);
        setenv("SCENARIO_SECONDS", limit, 0);
    }
    if (argc > 2 && !strcmp(argv[1], "--started"))
        for (size_t i = 0; i < COUNT(started); i++)
            if (!strcmp(argv[2], started[i].name)) {
                started[i].run();
                return PASS;
            }
    return RUN_SCENARIOS("tracepoints", list, argc, argv);
}
