/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The recorder: what is recorded is what is in the file, whatever happens to the process. */
#include "seccomp.h"
#include "trace_file.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "../tracers/rcutrace.h"

/* ---- a tracer --------------------------------------------------------------------------------- */

enum { NUMBER, LONG, TINY };
static struct rcutrace_event events[] = {
    {.description = "test:number source:u sequence:u check:u"},
    {.description = "test:long source:u sequence:u check:u rest:a*"},
    {.description = "test:tiny sequence:u"},
};
static atomic_bool attached;
static int attach_error;

static int attach(void)
{
    if (!attach_error)
        attached = true;
    return attach_error;
}

static void detach(void)
{
    attached = false;
}

static struct rcutrace_tracer tracer = {
    .name = "test", .events = events, .event_count = 3, .attach = attach, .detach = detach};
static struct rcutrace_event other_events[] = {{.description = "other:thing x:x"}};
static int other_error;
static int nothing_attach(void)
{
    return other_error;
}
static void nothing_detach(void)
{
}
static struct rcutrace_tracer other = {.name = "other", .events = other_events, .event_count = 1,
                                       .attach = nothing_attach, .detach = nothing_detach};

static uint64_t check_word(uint64_t source, uint64_t sequence)
{
    return (source * 0x9e3779b97f4a7c15 ^ sequence) * 0xbf58476d1ce4e5b9;
}

enum outcome { OFF, DROPPED, RECORDED };

/* One event, as a tracepoint with one probe has it. */
static inline enum outcome emit(uint64_t source, uint64_t sequence)
{
    enum outcome outcome = OFF;
    uint64_t *word;

    rcu_read_lock_notrace();
    if (atomic_load_explicit(&attached, memory_order_relaxed)) {
        word = rcutrace_reserve(&events[NUMBER], 3);
        outcome = word ? RECORDED : DROPPED;
        if (word) {
            word[0] = source;
            word[1] = sequence;
            word[2] = check_word(source, sequence);
            rcutrace_commit(word);
        }
    }
    rcu_read_unlock_notrace();
    return outcome;
}

/* Of `words` more. */
static enum outcome emit_long(uint64_t source, uint64_t sequence, unsigned words)
{
    enum outcome outcome = OFF;
    uint64_t *word;

    rcu_read_lock_notrace();
    if (attached) {
        word = rcutrace_reserve(&events[LONG], 3 + words);
        outcome = word ? RECORDED : DROPPED;
        if (word) {
            word[0] = source;
            word[1] = sequence;
            word[2] = check_word(source, sequence);
            for (unsigned i = 0; i < words; i++)
                word[3 + i] = word[2] + i;
            rcutrace_commit(word);
        }
    }
    rcu_read_unlock_notrace();
    return outcome;
}

/* ---- what the file has ------------------------------------------------------------------------ */

enum { SOURCES = 64 };
struct seen {
    uint64_t count[SOURCES], last[SOURCES], gaps;
    uint64_t processes, maps, types, states, exits, threads, contexts, others;
    uint64_t time[SOURCES], backwards;
    uint32_t pids[SOURCES];
    bool any_order;
    char why[8][16];
    uint64_t images[8], parents[8];
    bool has_vdso, has_self, has_id, has_type;
    uint64_t images_of_events;
};

static void look(const struct record *r, void *data)
{
    struct seen *seen = data;
    const char *text;

    switch (r->type) {
    case RCUTRACE_CONTEXT:
        seen->contexts++;
        return;
    case RCUTRACE_PROCESS:
        text = (const char *)(r->payload + 3);
        if (seen->processes < 8) {
            snprintf(seen->why[seen->processes], 16, "%.15s", text);
            seen->images[seen->processes] = r->payload[1];
            seen->parents[seen->processes] = r->payload[2];
        }
        text += strlen(text) + 1;
        CHECK(strstr(text, "record"));
        CHECK(r->payload[1] == r->image && (uint32_t)r->payload[0] == r->pid);
        seen->processes++;
        return;
    case RCUTRACE_MAP:
        text = (const char *)(r->payload + 5);
        if (r->payload[4] >> 32)
            seen->has_id = true;
        text += r->payload[4] >> 32;
        CHECK(r->payload[1] < r->payload[2] && (*text == '/' || *text == '['));
        if (!strcmp(text, "[vdso]"))
            seen->has_vdso = true;
        if (r->payload[1] <= (uint64_t)(uintptr_t)look && (uint64_t)(uintptr_t)look < r->payload[2])
            seen->has_self = strstr(text, "/record") != NULL;
        seen->maps++;
        return;
    case RCUTRACE_TYPE:
        if (!strcmp((const char *)(r->payload + 2), events[NUMBER].description) &&
            r->payload[1] == events[NUMBER].id)
            seen->has_type = true;
        seen->types++;
        return;
    case RCUTRACE_STATE:
        seen->states++;
        return;
    case RCUTRACE_EXIT:
        seen->exits++;
        return;
    case RCUTRACE_THREAD:
        seen->threads++;
        return;
    case RCUTRACE_LOST:
        return;
    default:
        break;
    }
    if (r->type == events[TINY].id) {
        seen->others++;
        return;
    }
    if (r->type != events[NUMBER].id && r->type != events[LONG].id)
        fail("a record of type %u", r->type);
    CHECK(r->payload[0] < SOURCES);
    if (r->payload[2] != check_word(r->payload[0], r->payload[1]))
        fail("torn: source %llu, sequence %llu, chunk %llu", (unsigned long long)r->payload[0],
             (unsigned long long)r->payload[1], (unsigned long long)r->chunk);
    for (unsigned i = 3; i < r->words; i++)
        CHECK(r->payload[i] == r->payload[2] + i - 3);
    unsigned source = (unsigned)r->payload[0];

    if (!seen->any_order && seen->count[source] && r->payload[1] != seen->last[source] + 1)
        seen->gaps++;
    if (r->time < seen->time[source])
        seen->backwards++;
    seen->time[source] = r->time;
    seen->last[source] = r->payload[1];
    seen->pids[source] = r->pid;
    seen->images_of_events = r->image;
    seen->count[source]++;
}

static uint64_t total(const struct seen *seen)
{
    uint64_t sum = 0;

    for (int i = 0; i < SOURCES; i++)
        sum += seen->count[i];
    return sum;
}

/* ---- the control socket ----------------------------------------------------------------------- */

static char directory[64];

static int dial(pid_t pid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval most = {20, 0};

    /* Who waits for a lock that nobody lets go of says nothing. */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/rcutrace/%d", directory, (int)pid);
    for (int tries = 0; tries < 5000; tries++) {
        if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
            return fd;
        sleep_ms(1);
    }
    fail("nobody answers at %s", address.sun_path);
}

/* The answer, without the newline, in a static buffer. */
static const char *request_bytes(pid_t pid, const char *bytes, size_t size)
{
    static char text[9000];
    size_t used = 0;
    int fd = dial(pid);
    ssize_t got;

    CHECK(send(fd, bytes, size, MSG_NOSIGNAL) >= 0 || errno == EPIPE);
    /* With a time limit a signal of the library's ends it, too. */
    while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0 || (got < 0 && errno == EINTR))
        used += got > 0 ? (size_t)got : 0;
    close(fd);
    text[used] = 0;
    text[strcspn(text, "\n")] = 0;
    return text;
}

__attribute__((format(printf, 1, 2))) static const char *request(const char *format, ...)
{
    char line[9000];
    va_list list;

    va_start(list, format);
    vsnprintf(line, sizeof(line) - 1, format, list);
    va_end(list);
    strcat(line, "\n");
    return request_bytes(getpid(), line, strlen(line));
}

static void expect(const char *said, const char *beginning)
{
    if (strncmp(said, beginning, strlen(beginning)))
        fail("expected \"%s\", heard \"%s\"", beginning, said);
}

static char path[128];

static void begin_at(const char *at, unsigned mode, uint32_t chunk_size, uint64_t limit,
                     uint32_t chunks)
{
    const char *said;

    snprintf(path, sizeof(path), "%s", at);
    make_trace(path, mode, chunk_size, limit, chunks);
    said = request("attach\ttest\t%s", path);
    if (strcmp(said, "ok"))
        fail("attach: %s", said);
    CHECK(attached);
}

static void begin(unsigned mode, uint32_t chunk_size, uint64_t limit, uint32_t chunks)
{
    char at[100];

    snprintf(at, sizeof(at), "%s/trace.%d", directory, (int)getpid());
    begin_at(at, mode, chunk_size, limit, chunks);
}

static void end(struct trace *trace, struct seen *seen)
{
    bool any_order = seen->any_order;

    CHECK(!strcmp(request("detach\tall"), "ok"));
    CHECK(!attached);
    memset(seen, 0, sizeof(*seen));
    seen->any_order = any_order;
    read_trace(path, trace, look, seen);
    unlink(path);
    printf("    %llu chunks, %llu holes, %llu events, %llu lost, %llu contexts\n",
           (unsigned long long)trace->chunks, (unsigned long long)trace->holes,
           (unsigned long long)total(seen), (unsigned long long)trace->lost,
           (unsigned long long)seen->contexts);
}

static struct trace trace;
static struct seen seen;

static void wait_for(pid_t child)
{
    int status;

    CHECK(waitpid(child, &status, 0) == child);
    if (status)
        fail("the child ended with %#x", (unsigned)status);
}

/* ---- recording -------------------------------------------------------------------------------- */

static void one_thread(void)
{
    begin(RCUTRACE_DROP_NEWEST, 65536, 1000, 0);
    for (uint64_t i = 0; i < 100000; i++)
        CHECK(emit(1, i) == RECORDED);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(emit_long(2, i, (unsigned)(i % 252)) == RECORDED);
    end(&trace, &seen);
    CHECK(seen.count[1] == 100000 && seen.count[2] == 1000 && !seen.gaps && !seen.backwards);
    CHECK(!trace.lost && !trace.holes);
    CHECK(seen.processes == 1 && !strcmp(seen.why[0], "attach"));
    CHECK(seen.has_type && seen.types == 4);
    CHECK(seen.has_vdso && seen.has_self && seen.has_id);
    CHECK(seen.states == 2 && seen.threads >= 2);
    printf("    %llu maps\n", (unsigned long long)seen.maps);
}

/* What a child ended with. */
static int status_of(pid_t child)
{
    int status;

    for (int tries = 0; tries < 20000; tries++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return status;
        sleep_ms(1);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fail("a child did not end");
}

/* A system call whose last argument this is, is let through: the sandbox's own. */
enum { LET_THROUGH = 0x52435553 };
static atomic_ulong sandbox_answers;

static void answer_for_the_sandbox(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long answer = syscall(info->si_syscall, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                          registers[REG_R10], 0l, (long)LET_THROUGH);

    (void)signal;
    registers[REG_RAX] = answer < 0 ? -errno : answer;
    sandbox_answers++;
}

static void sandbox_that_answers_by_a_signal(void)
{
    struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LET_THROUGH, 1, 0),
        ANSWER(SECCOMP_RET_TRAP),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    const struct sigaction action = {.sa_sigaction = answer_for_the_sandbox, .sa_flags = SA_SIGINFO | SA_NODEFER};
    unsigned long before;
    pid_t child;
    int status;

    begin(RCUTRACE_DROP_NEWEST, 65536, 1000, 0);
    sigaction(SIGSYS, &action, NULL);
    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), 0))
        skip("no seccomp here");
    for (uint64_t i = 0; i < 100000; i++)
        CHECK(emit(1, i) == RECORDED);
    CHECK(sandbox_answers > 10);
    before = sandbox_answers;
    child = fork();
    if (!child) {
        CHECK(emit(2, 0) == RECORDED && sandbox_answers > before);
        exit(PASS);
    }
    status = status_of(child);
    if (status)
        fail("the child ended with %#x", (unsigned)status);
    end(&trace, &seen);
    printf("    the sandbox has answered %lu times\n", sandbox_answers);
    CHECK(seen.count[1] == 100000 && seen.count[2] == 1 && !trace.lost);
}

/* All threads are in it from one moment on: the recorder's too, while it waits. */
static void sandbox_that_comes_later(void)
{
    struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept4, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LET_THROUGH, 1, 0),
        ANSWER(SECCOMP_RET_TRAP),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    const struct sigaction action = {.sa_sigaction = answer_for_the_sandbox, .sa_flags = SA_SIGINFO};

    expect(request("status"), "ok");
    sigaction(SIGSYS, &action, NULL);
    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), SECCOMP_FILTER_FLAG_TSYNC))
        skip("no seccomp here");
    for (int i = 0; i < 10; i++)
        expect(request("status"), "ok");
    CHECK(sandbox_answers == 10);
}

static void *write_many(void *argument)
{
    uint64_t source = (uint64_t)(uintptr_t)argument;

    for (uint64_t i = 0; i < 100000; i++)
        CHECK(emit(source, i) == RECORDED);
    return NULL;
}

static void four_threads(void)
{
    pthread_t threads[4];

    begin(RCUTRACE_DROP_NEWEST, 16384, 100000, 0);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(write_many, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    end(&trace, &seen);
    for (int i = 1; i <= 4; i++)
        CHECK(seen.count[i] == 100000);
    CHECK(!seen.gaps && !trace.lost);
}

/* ---- signal handlers -------------------------------------------------------------------------- */

/* Per thread: produced by its handler, by itself. */
static _Atomic uint64_t handled[SOURCES], produced[SOURCES], nested, refused;
static __thread unsigned my_source;

static void handler(int unused)
{
    int error = errno;
    unsigned source = my_source + 32;

    (void)unused;
    if (rcutrace_thread.next != rcutrace_thread.committed)
        nested++;
    for (int i = 0; i < 3; i++) {
        enum outcome outcome = emit(source, handled[source]);

        if (outcome != OFF)
            handled[source]++;
        if (outcome == DROPPED)
            refused++;
    }
    errno = error;
}

/* No thread of the recorder's takes them. (SIGSYS it takes: docs/TRACES.md, Limits.) */
static void signals_that_the_program_waits_for(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGTERM};
    const struct timespec most = {5, 0};
    sigset_t all, one;

    expect(request("status"), "ok");
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 3; i++) {
        sigemptyset(&one);
        sigaddset(&one, signals[i]);
        CHECK(!kill(getpid(), signals[i]));
        /* Another thread that may take it does so meanwhile. */
        sleep_ms(100);
        CHECK(sigtimedwait(&one, NULL, &most) == signals[i]);
    }
}

static atomic_bool stop;

static void *write_in_storm(void *argument)
{
    timer_t timer;

    my_source = (unsigned)(uintptr_t)argument;
    timer = storm_here();
    while (!stop) {
        if (emit_long(my_source, produced[my_source], (unsigned)produced[my_source] % 64) != OFF)
            produced[my_source]++;
        if (emit(my_source, produced[my_source]) != OFF)
            produced[my_source]++;
    }
    timer_delete(timer);
    return NULL;
}

static void storm_of_handlers(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    uint64_t all = 0;
    pthread_t threads[2];

    sigaction(SIGUSR2, &action, NULL);
    begin(RCUTRACE_DROP_NEWEST, 4096, 1000000, 0);
    for (uintptr_t i = 0; i < 2; i++)
        threads[i] = start(write_in_storm, (void *)(i + 1));
    sleep_ms(3000);
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    seen.any_order = true;
    end(&trace, &seen);
    for (int i = 0; i < SOURCES; i++)
        all += produced[i] + handled[i];
    printf("    %llu produced, %llu handlers in a writer, %llu dropped in handlers\n",
           (unsigned long long)all, (unsigned long long)nested, (unsigned long long)refused);
    CHECK(nested > 0 && handled[33] > 1000);
    CHECK(total(&seen) + trace.lost == all);
    /* Only those that came in a change of chunks. */
    CHECK(trace.lost == refused && refused * 20 < all);
}

/* ---- kill -9 ---------------------------------------------------------------------------------- */

static _Atomic uint64_t *shared;

static void *write_until_killed(void *argument)
{
    uint64_t source = (uint64_t)(uintptr_t)argument;

    for (uint64_t i = 0;; i++) {
        CHECK(emit(source, i) == RECORDED);
        shared[source] = i + 1;
    }
    return NULL;
}

static void killed_at_any_moment(void)
{
    uint64_t events = 0, least = UINT64_MAX;

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 50; round++) {
        pid_t child;

        memset((void *)shared, 0, 4096);
        begin(RCUTRACE_DROP_NEWEST, 16384, 1000000, 0);
        child = fork();
        if (!child) {
            for (uintptr_t i = 1; i < 3; i++)
                start(write_until_killed, (void *)i);
            pause();
        }
        while (!shared[1] && !shared[2])
            sched_yield();
        usleep((useconds_t)((unsigned)rand() % 3000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CHECK(!strcmp(request("detach\tall"), "ok"));
        memset(&seen, 0, sizeof(seen));
        read_trace(path, &trace, look, &seen);
        unlink(path);
        for (int i = 1; i < 3; i++) {
            if (seen.count[i] != shared[i] && seen.count[i] != shared[i] + 1)
                fail("round %d: %llu were complete, %llu are there", round,
                     (unsigned long long)shared[i], (unsigned long long)seen.count[i]);
            events += seen.count[i];
            if (shared[i] < least)
                least = shared[i];
        }
        CHECK(!seen.gaps);
    }
    printf("    %llu events, in one thread at least %llu\n", (unsigned long long)events,
           (unsigned long long)least);
    CHECK(events > 10000);
}

/* ---- a drained file --------------------------------------------------------------------------- */

/* What drains it: our own. The copies are in another file, of the ordinary kind. */
static struct {
    struct rcutrace_header *header;
    size_t size;
    int out;
    char path[140];
    pthread_t thread;
    atomic_bool over;
    uint64_t copies, reuses, leaked;
} drainer;

static struct rcutrace_chunk *slot_at(uint64_t slot)
{
    return (void *)((char *)drainer.header + RCUTRACE_HEADER_SIZE +
                    slot * drainer.header->chunk_size);
}

static void copy_slot(uint64_t slot)
{
    const struct rcutrace_chunk *chunk = slot_at(slot);
    size_t committed = __atomic_load_n(&chunk->committed, __ATOMIC_ACQUIRE);
    off_t place = (off_t)(RCUTRACE_HEADER_SIZE + drainer.copies++ * drainer.header->chunk_size);

    CHECK(pwrite(drainer.out, chunk, committed, place) == (ssize_t)committed);
}

static void *drain(void *unused)
{
    struct rcutrace_header *header = drainer.header;

    while (!drainer.over)
        for (uint64_t i = 0; i < header->slot_limit / 64 + 1; i++) {
            uint64_t bits = __atomic_exchange_n(&header->full[i], 0, __ATOMIC_ACQUIRE);

            for (uint64_t bit = 0; bit < 64; bit++) {
                uint64_t slot = i * 64 + bit;

                if (!(bits >> bit & 1) ||
                    __atomic_load_n(&slot_at(slot)->state, __ATOMIC_ACQUIRE) != RCUTRACE_FULL)
                    continue;
                copy_slot(slot);
                /* What a writer leaves of it must not show. */
                memset((char *)slot_at(slot) + RCUTRACE_CHUNK_HEADER, 0xee,
                       header->chunk_size - RCUTRACE_CHUNK_HEADER);
                slot_at(slot)->state = RCUTRACE_FREE;
                CHECK(!(__atomic_fetch_or(&header->free[i], (uint64_t)1 << bit, __ATOMIC_RELEASE) >>
                        bit & 1));
                drainer.reuses++;
            }
            sched_yield();
        }
    return unused;
}

static void begin_drained(uint32_t chunk_size, uint64_t limit, uint64_t slots)
{
    const char *said;
    struct stat file;
    int fd;

    snprintf(path, sizeof(path), "%s/drained.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, chunk_size, limit, 0);
    drainer.size = RCUTRACE_HEADER_SIZE + slots * chunk_size;
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(!ftruncate(fd, (off_t)drainer.size));
    drainer.header = mmap(NULL, drainer.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(drainer.header != MAP_FAILED);
    close(fd);
    drainer.header->flags = RCUTRACE_DRAINED;
    drainer.header->slot_limit = slots;
    CHECK(!stat("/proc/self/ns/pid", &file));
    drainer.header->pid_namespace = file.st_ino;
    snprintf(drainer.path, sizeof(drainer.path), "%s.copies", path);
    drainer.out = open(drainer.path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    drainer.copies = drainer.reuses = drainer.leaked = 0;
    drainer.over = false;
    drainer.thread = start(drain, NULL);
    said = request("attach\ttest\t%s", path);
    if (strcmp(said, "ok"))
        fail("attach: %s", said);
}

/* Nobody who writes to it is alive. */
static void end_drained(void (*show)(const struct record *record, void *data))
{
    struct rcutrace_header header;

    CHECK(!strcmp(request("detach\tall"), "ok"));
    drainer.over = true;
    pthread_join(drainer.thread, NULL);
    for (uint64_t slot = 0; slot < drainer.header->slots; slot++) {
        const struct rcutrace_chunk *chunk = slot_at(slot);

        if (chunk->magic == RCUTRACE_CHUNK_MAGIC && chunk->state != RCUTRACE_FREE) {
            CHECK(chunk->reachable && chunk->pid);
            copy_slot(slot);
        } else {
            drainer.leaked += !(drainer.header->free[slot / 64] >> slot % 64 & 1);
        }
    }
    CHECK(drainer.header->slots <= drainer.header->slot_limit);
    CHECK(drainer.header->chunks <= drainer.header->chunk_limit);
    header = *drainer.header;
    header.flags = 0;
    header.chunks = drainer.copies;
    CHECK(pwrite(drainer.out, &header, sizeof(header), 0) == sizeof(header));
    CHECK(!ftruncate(drainer.out, (off_t)(RCUTRACE_HEADER_SIZE +
                                          drainer.copies * drainer.header->chunk_size)));
    munmap(drainer.header, drainer.size);
    close(drainer.out);
    memset(&seen, 0, sizeof(seen));
    seen.any_order = true;
    read_trace(drainer.path, &trace, show, &seen);
    CHECK(!trace.holes);
    unlink(path);
    unlink(drainer.path);
}

enum { MOST_SEQUENCE = 1 << 26 };
static uint8_t *met[SOURCES];

static void look_once(const struct record *r, void *data)
{
    uint64_t source, sequence;

    look(r, data);
    if (r->type != events[NUMBER].id && r->type != events[LONG].id)
        return;
    source = r->payload[0];
    sequence = r->payload[1];
    CHECK(sequence < MOST_SEQUENCE);
    if (!met[source])
        met[source] = mmap(NULL, MOST_SEQUENCE / 8, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (met[source][sequence / 8] >> sequence % 8 & 1)
        fail("twice: source %llu, sequence %llu", (unsigned long long)source,
             (unsigned long long)sequence);
    met[source][sequence / 8] |= (uint8_t)(1 << sequence % 8);
}

static void drained_under_fire(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    pthread_t threads[4];
    uint64_t all = 0;

    sigaction(SIGUSR2, &action, NULL);
    begin_drained(8192, 1000000, 24);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(write_in_storm, (void *)(i + 1));
    sleep_ms(1500);
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    end_drained(look_once);
    for (int i = 0; i < SOURCES; i++)
        all += produced[i] + handled[i];
    printf("    %llu events of %llu, %llu slots reused, %llu handlers in a writer\n",
           (unsigned long long)total(&seen), (unsigned long long)all,
           (unsigned long long)drainer.reuses, (unsigned long long)nested);
    CHECK(total(&seen) + trace.lost == all && total(&seen) > 10000);
    CHECK(drainer.reuses > 100 && nested && !drainer.leaked);
}

static void *write_until_killed_again(void *argument)
{
    uint64_t source = (uint64_t)(uintptr_t)argument;

    for (uint64_t i = 0;; i++) {
        /* The drainer may be late. */
        while (emit(source, i) != RECORDED)
            sched_yield();
        shared[source] = i + 1;
    }
    return NULL;
}

static void drained_and_killed(void)
{
    uint64_t all = 0, reuses = 0, leaked = 0;

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 50; round++) {
        pid_t child;

        memset((void *)shared, 0, 4096);
        begin_drained(4096, 1000000, 16);
        child = fork();
        if (!child) {
            for (uintptr_t i = 1; i < 3; i++)
                start(write_until_killed_again, (void *)i);
            pause();
        }
        while (!shared[1] && !shared[2])
            sched_yield();
        usleep((useconds_t)((unsigned)rand() % 6000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        end_drained(look_once);
        for (int i = 1; i < 3; i++) {
            if (seen.count[i] != shared[i] && seen.count[i] != shared[i] + 1)
                fail("round %d: %llu were complete, %llu are there", round,
                     (unsigned long long)shared[i], (unsigned long long)seen.count[i]);
            all += seen.count[i];
            if (met[i])
                memset(met[i], 0, MOST_SEQUENCE / 8);
        }
        reuses += drainer.reuses;
        leaked += drainer.leaked;
    }
    printf("    %llu events, %llu slots reused, %llu leaked\n", (unsigned long long)all,
           (unsigned long long)reuses, (unsigned long long)leaked);
    CHECK(all > 10000 && reuses > 100 && leaked <= 10);
}

/* The limit is one of what was written in all; of the memory there may be less. */
static void drained_to_the_limit(void)
{
    uint64_t all = 0;

    begin_drained(4096, 100, 8);
    for (; all < 100000 || drainer.header->chunks < 100; all++) {
        emit(1, all);
        if (all % 100 == 0)
            sched_yield();
    }
    CHECK(drainer.header->chunks == 100 && drainer.header->slots <= 8);
    end_drained(look_once);
    CHECK(drainer.copies <= 100 && trace.lost && total(&seen) + trace.lost == all);
}

/* What a child says of itself at its first event, when no slot is to be had, it says later. */
static void announced_when_there_is_room(void)
{
    uint64_t slots, free;
    pid_t child;

    begin_drained(4096, 100000, 64);
    for (uint64_t i = 0; i < 100; i++)
        while (emit(1, i) != RECORDED)
            sched_yield();
    /* None is left, and the drainer has nothing to give back: nobody writes. */
    sleep_ms(20);
    free = __atomic_exchange_n(&drainer.header->free[0], 0, __ATOMIC_RELAXED);
    slots = __atomic_exchange_n(&drainer.header->slots, drainer.header->slot_limit, __ATOMIC_RELAXED);
    child = fork();
    if (!child) {
        CHECK(emit(2, 0) == DROPPED);
        __atomic_store_n(&drainer.header->slots, slots, __ATOMIC_RELAXED);
        __atomic_fetch_or(&drainer.header->free[0], free, __ATOMIC_RELAXED);
        /* It tries again at the next chunk. */
        for (uint64_t i = 1; i < 3000; i++) {
            while (emit(2, i) != RECORDED)
                sched_yield();
            if (i % 100 == 0)
                sleep_ms(5);
        }
        _exit(0);
    }
    wait_for(child);
    end_drained(look_once);
    printf("    %llu processes say who they are, %llu events of the second\n",
           (unsigned long long)seen.processes, (unsigned long long)seen.count[2]);
    CHECK(seen.processes == 2 && seen.count[2] == 2999);
}

/* The first process of a namespace of ids has a child that is the first of another: both are number one, and
 * neither has become the other. */
static void forked_into_the_same_id(void)
{
    unsigned ones = 0;
    pid_t child;

    begin_drained(4096, 100000, 64);
    emit(1, 0);
    if (unshare(CLONE_NEWPID))
        skip("no namespace of process ids: %s", strerror(errno));
    child = fork();
    if (!child) {
        CHECK(getpid() == 1);
        for (uint64_t i = 0; i < 200; i++)
            while (emit(2, i) != RECORDED)
                sched_yield();
        CHECK(!unshare(CLONE_NEWPID));
        child = fork();
        if (!child) {
            CHECK(getpid() == 1);
            for (uint64_t i = 0; i < 200; i++)
                while (emit(3, i) != RECORDED)
                    sched_yield();
            _exit(0);
        }
        wait_for(child);
        _exit(0);
    }
    wait_for(child);
    drainer.over = true;
    pthread_join(drainer.thread, NULL);
    for (uint64_t slot = 0; slot < drainer.header->slots; slot++) {
        const struct rcutrace_chunk *chunk = slot_at(slot);

        if (chunk->magic != RCUTRACE_CHUNK_MAGIC || chunk->pid != 1)
            continue;
        ones++;
        CHECK(!chunk->before);
    }
    printf("    %u slots of processes with the number 1\n", ones);
    CHECK(ones >= 2);
    unlink(path);
    unlink(drainer.path);
}

/* A child has slots of its own, also when a writer is interrupted by its birth. */
static void drained_forks(void)
{
    uint64_t *word, most = 3000;
    pid_t child;

    begin_drained(4096, 100000, 64);
    for (uint64_t i = 0; i < most; i++)
        while (emit(1, i) != RECORDED)
            sched_yield();
    rcu_read_lock_notrace();
    while (!(word = rcutrace_reserve(&events[NUMBER], 3)))
        sched_yield();
    child = fork();
    word[0] = child ? 1 : 2;
    word[1] = most;
    word[2] = check_word(word[0], most);
    rcutrace_commit(word);
    rcu_read_unlock_notrace();
    for (uint64_t i = most + 1; i < 3 * most; i++)
        while (emit(child ? 1 : 3, i) != RECORDED)
            sched_yield();
    if (!child)
        _exit(0);
    wait_for(child);
    end_drained(look_once);
    CHECK(seen.count[1] == 3 * most && !seen.count[2] && seen.count[3] == 2 * most - 1);
    if (seen.processes != 2 || drainer.leaked)
        fail("%llu processes, %llu slots leaked", (unsigned long long)seen.processes,
             (unsigned long long)drainer.leaked);
}

/* ---- no room ---------------------------------------------------------------------------------- */

static void drop_newest(void)
{
    pthread_t threads[4];
    uint64_t recorded = 0, all = 0;

    signal(SIGUSR2, SIG_IGN);
    begin(RCUTRACE_DROP_NEWEST, 8192, 20, 0);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(write_in_storm, (void *)(i + 1));
    sleep_ms(200);
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    end(&trace, &seen);
    for (int i = 0; i < SOURCES; i++) {
        recorded += seen.count[i];
        all += produced[i];
        /* The first ones, without a gap but for sizes. */
        CHECK(!seen.count[i] || seen.last[i] < produced[i]);
    }
    printf("    %llu produced\n", (unsigned long long)all);
    CHECK(trace.chunks == 20 && trace.lost > 1000 && recorded > 500);
    CHECK(recorded + trace.lost == all);
}

static uint64_t newest[SOURCES];
static void look_for_newest(const struct record *r, void *data)
{
    look(r, data);
    if (r->type == events[NUMBER].id && r->payload[1] > newest[r->payload[0]])
        newest[r->payload[0]] = r->payload[1];
}

static atomic_int have_written;

/* Neither leaves its ring to the other. */
static void *write_many_and_stay(void *source)
{
    write_many(source);
    have_written++;
    while (have_written < 2)
        sleep_ms(1);
    return NULL;
}

static void overwrite(void)
{
    pthread_t threads[2];
    struct stat file;

    begin(RCUTRACE_OVERWRITE, 16384, 0, 3);
    for (uintptr_t i = 0; i < 2; i++)
        threads[i] = start(write_many_and_stay, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(!stat(path, &file));
    CHECK(!strcmp(request("detach\tall"), "ok"));
    memset(newest, 0, sizeof(newest));
    seen.any_order = true;
    read_trace(path, &trace, look_for_newest, &seen);
    unlink(path);
    printf("    %llu chunks, %llu events of source 1 up to %llu\n",
           (unsigned long long)trace.chunks, (unsigned long long)seen.count[1],
           (unsigned long long)newest[1]);
    /* What describes the image stays, in chunks that are not begun anew. */
    CHECK(trace.chunks >= 3 && trace.chunks <= 3 * 4 && !trace.lost && seen.processes == 1);
    CHECK(seen.count[1] + seen.count[2] >= 2 * 16000 / 32);
    for (int i = 1; i < 3; i++)
        CHECK(seen.count[i] && newest[i] == 99999);
}

static atomic_bool enough;

static void *emit_till_enough(void *unused)
{
    for (uint64_t i = 0; !enough; i++)
        emit(1, i);
    return unused;
}

/* It closes its standard input, and names that number a moment later: no file of ours may be there, and be closed. */
static void descriptor_put_in_place(void)
{
    int own = open("/dev/null", O_RDONLY);
    struct stat wanted, found;
    unsigned long rounds = 0;
    pthread_t thread;

    begin(RCUTRACE_OVERWRITE, 16384, 0, 3);
    CHECK(own > 2 && !fstat(own, &wanted));
    thread = start(emit_till_enough, NULL);
    for (uint64_t begun = now_ns(); now_ns() - begun < 500000000; rounds++) {
        close(0);
        for (volatile unsigned i = 0; i < rounds % 1000; i++)
            ;
        CHECK(dup2(own, 0) == 0);
        for (volatile unsigned i = 0; i < 1000; i++)
            ;
        CHECK(!fstat(0, &found) && found.st_rdev == wanted.st_rdev);
    }
    enough = true;
    pthread_join(thread, NULL);
    seen.any_order = true;
    CHECK(!strcmp(request("detach\tall"), "ok"));
    memset(newest, 0, sizeof(newest));
    read_trace(path, &trace, look_for_newest, &seen);
    unlink(path);
    printf("    %lu rounds beside %llu events\n", rounds, (unsigned long long)newest[1]);
    CHECK(rounds > 1000 && newest[1] > 10000);
}

/* Who looks what has the number 0 in the filtered thread is told: the test puts a file of its own there before the look. */
static atomic_int listener = -2, turn;

static bool tell_of_looks_at_0(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fstat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        ON(0, SECCOMP_RET_USER_NOTIF),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    listener = install_filter(filter, sizeof(filter) / sizeof(filter[0]), SECCOMP_FILTER_FLAG_NEW_LISTENER);
    return listener >= 0;
}

/* At each turn until it drops one. Once it has its chunks, it tries at each event to begin the oldest anew. */
static void *emit_in_turn(void *unused)
{
    uint64_t sequence = 0;

    while (sequence < 1000)
        CHECK(emit(1, sequence++) == RECORDED);
    if (!tell_of_looks_at_0())
        return unused;
    for (int done = 0; !enough; sched_yield()) {
        if (turn == done)
            continue;
        while (emit(1, sequence++) != DROPPED)
            ;
        done = -turn;
        turn = done;
    }
    while (emit(1, sequence++) != RECORDED)
        ;
    return unused;
}

/* Another file is under its path, and the descriptor is closed: what is opened in vain has a low number too. */
static void other_file_in_its_place(void)
{
    int own = open("/dev/null", O_RDONLY);
    struct stat wanted, found, file;
    unsigned looks = 0;
    pthread_t thread;
    char aside[140];

    begin(RCUTRACE_OVERWRITE, 4096, 0, 3);
    thread = start(emit_in_turn, NULL);
    while (listener == -2)
        sleep_ms(1);
    if (listener < 0)
        skip("no seccomp here: %s", strerror(errno));
    CHECK(own > 2 && !fstat(own, &wanted) && !stat(path, &file));
    snprintf(aside, sizeof(aside), "%s.aside", path);
    CHECK(!rename(path, aside));
    make_trace(path, RCUTRACE_OVERWRITE, 4096, 0, 3);
    for (int fd = 3; fd < 300; fd++)
        if (!fstat(fd, &found) && found.st_ino == file.st_ino && found.st_dev == file.st_dev)
            close(fd);
    for (int round = 1; round <= 10; round++) {
        struct pollfd waiting = {listener, POLLIN, 0};

        close(0);
        turn = round;
        while (turn == round) {
            struct seccomp_notif request = {0};
            struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

            if (poll(&waiting, 1, 1) <= 0 || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
                continue;
            CHECK(dup2(own, 0) == 0);
            looks++;
            response.id = request.id;
            ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
        }
        if (fstat(0, &found) || found.st_rdev != wanted.st_rdev)
            fail("number 0 was closed in round %d", round);
    }
    CHECK(!rename(aside, path));
    enough = true;
    pthread_join(thread, NULL);
    end(&trace, &seen);
    printf("    %u looks at what had the number\n", looks);
    CHECK(looks >= 10);
}

/* The recorder leaves low numbers by this: before it returns the program has put a file of its own there. */
static atomic_int replacement = -1, replaced[1024], replacements;
static int replacement_file;

int fcntl(int fd, int command, ...)
{
    va_list list;
    long argument;
    int result;

    va_start(list, command);
    argument = va_arg(list, long);
    va_end(list);
    result = (int)syscall(SYS_fcntl, fd, command, argument);
    if (command == F_DUPFD_CLOEXEC && replacement >= 0 && result > fd) {
        CHECK(dup2(replacement, fd) == fd);
        replaced[replacements++ % 1024] = fd;
    }
    return result;
}

static unsigned check_replacements(const struct stat *wanted)
{
    struct stat found;
    int count = replacements;

    for (int i = 0; i < count; i++)
        if (fstat(replaced[i], &found) || found.st_rdev != wanted->st_rdev)
            fail("number %d was closed, the replacement %d of %d", replaced[i], i + 1, count);
    return (unsigned)count;
}

static void ask_from_beside(const char *line)
{
    char go = 0;
    int both[2];
    pid_t child;

    CHECK(!pipe(both));
    child = fork();
    if (!child) {
        CHECK(read(both[0], &go, 1) == 1);
        expect(request_bytes(getppid(), line, strlen(line)), "ok");
        _exit(0);
    }
    replacement = replacement_file;
    close(0);
    CHECK(write(both[1], &go, 1) == 1);
    wait_for(child);
    close(both[0]);
    close(both[1]);
    replacement = -1;
}

/* It closed its standard input; accepted connections, sockets made anew and files come to have that number. */
static void low_numbers_left_alone(void)
{
    unsigned accepted, remade, attached_to;
    struct stat wanted;
    char line[160];

    replacement_file = open("/dev/null", O_RDONLY);
    CHECK(replacement_file > 2 && !fstat(replacement_file, &wanted));
    expect(request("status"), "ok");
    for (int round = 0; round < 10; round++)
        ask_from_beside("status\n");
    accepted = check_replacements(&wanted);
    for (int round = 0; round < 3; round++) {
        int before = replacements;

        replacement = replacement_file;
        for (int fd = 200; fd < 300; fd++)
            close(fd);
        close(0);
        /* It looks every 500 ms. */
        for (int tries = 0; replacements == before && tries < 5000; tries++)
            sleep_ms(1);
        sleep_ms(20);
        replacement = -1;
        expect(request("status"), "ok");
    }
    remade = check_replacements(&wanted) - accepted;
    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, 4096, 100, 0);
    snprintf(line, sizeof(line), "attach\ttest\t%s\n", path);
    ask_from_beside(line);
    attached_to = check_replacements(&wanted) - accepted - remade;
    printf("    numbers given to others: %u of connections, %u of sockets, %u of an attach\n", accepted, remade, attached_to);
    CHECK(accepted >= 10 && remade >= 3 && attached_to >= 2);
    end(&trace, &seen);
}

static atomic_int xfsz;
static void on_xfsz(int unused)
{
    (void)unused;
    xfsz++;
}

static void file_size_limit(void)
{
    struct rlimit limit = {300000, RLIM_INFINITY};
    uint64_t all = 0;

    signal(SIGXFSZ, on_xfsz);
    begin(RCUTRACE_DROP_NEWEST, 65536, 100000, 0);
    setrlimit(RLIMIT_FSIZE, &limit);
    for (; all < 200000; all++)
        emit(1, all);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    for (uint64_t begun = now_ns(); now_ns() - begun < 200000000; all++)
        emit(1, all);
    end(&trace, &seen);
    printf("    %d signals, %llu gaps\n", xfsz, (unsigned long long)seen.gaps);
    CHECK(!xfsz && trace.lost > 100000 && total(&seen) + trace.lost == all);
    /* It goes on once there is room again. */
    CHECK(seen.gaps == 1 && seen.last[1] == all - 1);
}

static void full_disk(void)
{
    char place[100], at[128];
    uint64_t all = 0;
    pid_t child;

    snprintf(place, sizeof(place), "%s/disk", directory);
    mkdir(place, 0700);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", place, "tmpfs", 0, "size=512k"))
        skip("no right to mount a small file system: %s", strerror(errno));
    /* All of whose threads see it. */
    child = fork();
    if (child) {
        wait_for(child);
        return;
    }
    snprintf(at, sizeof(at), "%s/trace", place);
    begin_at(at, RCUTRACE_DROP_NEWEST, 65536, 1000, 0);
    for (; all < 200000; all++)
        emit(1, all);
    end(&trace, &seen);
    CHECK(trace.lost > 100000 && total(&seen) + trace.lost == all && total(&seen) > 5000);
}

/* ---- forks ------------------------------------------------------------------------------------ */

extern pid_t _Fork(void);

static pid_t raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void fork_by(pid_t (*how)(void))
{
    pid_t child, grandchild;

    begin(RCUTRACE_DROP_NEWEST, 16384, 10000, 0);
    for (uint64_t i = 0; i < 10; i++)
        emit(1, i);
    child = how();
    if (!child) {
        for (uint64_t i = 0; i < 10000; i++)
            CHECK(emit(2, i) == RECORDED);
        grandchild = how();
        if (!grandchild) {
            for (uint64_t i = 0; i < 10000; i++)
                CHECK(emit(3, i) == RECORDED);
            _exit(0);
        }
        wait_for(grandchild);
        _exit(0);
    }
    for (uint64_t i = 10; i < 10000; i++)
        CHECK(emit(1, i) == RECORDED);
    wait_for(child);
    end(&trace, &seen);
    CHECK(seen.count[1] == 10000 && seen.count[2] == 10000 && seen.count[3] == 10000);
    CHECK(!seen.gaps && !trace.lost && seen.processes == 3);
    CHECK(seen.pids[1] == (uint32_t)getpid() && seen.pids[2] == (uint32_t)child &&
          seen.pids[3] != seen.pids[2]);
    CHECK(seen.types == 3 * 4);
    for (int i = 0; i < 3; i++)
        if (seen.images[i] >> 32 == (uint32_t)child)
            CHECK(!strcmp(seen.why[i], "fork") && seen.parents[i] >> 32 == (uint32_t)getpid());
}

static void ordinary_fork(void)
{
    fork_by(fork);
}

static void fork_without_handlers(void)
{
    fork_by(_Fork);
}

static void raw_clone_as_fork(void)
{
    fork_by(raw_clone);
}

static void fork_in_a_writer(void)
{
    uint64_t *word;
    pid_t child;

    begin(RCUTRACE_DROP_NEWEST, 16384, 10000, 0);
    emit(1, 0);
    rcu_read_lock_notrace();
    word = rcutrace_reserve(&events[NUMBER], 3);
    child = fork();
    word[0] = child ? 1 : 2;
    word[1] = 1;
    word[2] = check_word(word[0], 1);
    rcutrace_commit(word);
    rcu_read_unlock_notrace();
    if (!child) {
        for (uint64_t i = 0; i < 10000; i++)
            CHECK(emit(3, i) == RECORDED);
        _exit(0);
    }
    wait_for(child);
    for (uint64_t i = 2; i < 1000; i++)
        emit(1, i);
    end(&trace, &seen);
    CHECK(seen.count[1] == 1000 && !seen.count[2] && seen.count[3] == 10000 && !seen.gaps);
    CHECK(seen.processes == 2);
}

static char **arguments;

static void vforked(void)
{
    volatile uint64_t i;
    pid_t child;

    begin(RCUTRACE_DROP_NEWEST, 4096, 10000, 0);
    for (i = 0; i < 1000; i++)
        CHECK(emit(1, i) == RECORDED);
    child = vfork();
    if (!child) {
        for (; i < 2000; i++)
            emit(1, i);
        _exit(0);
    }
    wait_for(child);
    for (; i < 3000; i++)
        CHECK(emit(1, i) == RECORDED);
    end(&trace, &seen);
    CHECK(seen.count[1] == 3000 && !seen.gaps && seen.processes == 1 && !trace.lost);
}

static bool socket_is_there(pid_t pid)
{
    char at[120];

    snprintf(at, sizeof(at), "%s/rcutrace/%d", directory, (int)pid);
    return !access(at, F_OK);
}

static void exit_by(pid_t (*how)(void))
{
    pid_t child;

    CHECK(socket_is_there(getpid()));
    /* Its thread has nothing to do for some time: no lock of the C library's is held in the child. */
    sleep_ms(20);
    child = how();
    if (!child) {
        emit(2, 0);
        exit(0);
    }
    wait_for(child);
    CHECK(socket_is_there(getpid()));
}

static pid_t run_self(const char *how, int err, const char *const *environment);

/* It removes its own socket, if it has one. */
static void childs_exit_leaves_the_socket(void)
{
    const char *environment[] = {"RCUTRACE_FOLLOW", "0", NULL};

    begin(RCUTRACE_DROP_NEWEST, 16384, 1000, 0);
    for (int round = 0; round < 5; round++) {
        exit_by(fork);
        exit_by(_Fork);
    }
    expect(request("status"), "ok");
    end(&trace, &seen);
    CHECK(seen.exits == 10 && seen.count[2] == 10);
    wait_for(run_self("owner", -1, environment));
}

static void *fork_for_ever(void *unused)
{
    while (!stop) {
        pid_t child = fork();

        if (!child) {
            for (int i = 0; i < 200; i++) {
                enum outcome outcome = emit(2, 0);

                shared[outcome]++;
            }
            _exit(0);
        }
        wait_for(child);
        shared[3]++;
    }
    return unused;
}

/* Children are born in the middle of attaching and detaching, and are whole all the same. */
static void forks_under_fire(void)
{
    pthread_t thread;

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    begin(RCUTRACE_DROP_NEWEST, 4096, 1000000, 0);
    thread = start(fork_for_ever, NULL);
    for (int round = 0; round < 300; round++) {
        CHECK(!strcmp(request("detach\ttest"), "ok"));
        sched_yield();
        if (strcmp(request("attach\ttest\t%s", path), "ok"))
            fail("round %d", round);
        usleep((useconds_t)((unsigned)rand() % 3000));
    }
    stop = true;
    pthread_join(thread, NULL);
    seen.any_order = true;
    end(&trace, &seen);
    printf("    %llu children: %llu events recorded, %llu while detached\n",
           (unsigned long long)shared[3], (unsigned long long)shared[RECORDED],
           (unsigned long long)shared[OFF]);
    CHECK(seen.count[2] == shared[RECORDED] && shared[RECORDED] && trace.lost == shared[DROPPED]);
}

enum { NOWHERE, BEFORE, AFTER };
static volatile int fork_in_handler;
static volatile pid_t inner;

static void before_all(void)
{
    if (fork_in_handler == BEFORE)
        raise(SIGUSR1);
}

static void after_all(void)
{
    if (fork_in_handler == AFTER)
        raise(SIGUSR1);
}

/* Ahead of the recorder's, so that these run while it has its lock. */
static void handlers_of_fork(void)
{
    pthread_atfork(before_all, after_all, NULL);
}
__attribute__((section(".preinit_array"), used)) static void (*first_of_all)(void) = handlers_of_fork;

static void fork_in_turn(int unused)
{
    (void)unused;
    fork_in_handler = NOWHERE;
    inner = fork();
}

/* A signal handler forks while the thread is in fork(), and returns in the child too. */
static void fork_in_a_fork(void)
{
    struct sigaction action = {.sa_handler = fork_in_turn};
    pid_t self = getpid(), outer;
    uint64_t begun = now_ns();

    if (strverscmp(gnu_get_libc_version(), "2.36") < 0)
        skip("handlers of fork() may not fork with this C library");
    sigaction(SIGUSR1, &action, NULL);
    for (int round = 0; round < 10; round++) {
        fork_in_handler = round % 2 ? AFTER : BEFORE;
        outer = fork();
        if (!outer)
            _exit(0);
        if (getpid() != self) {
            /* Its fork went on from the middle. */
            if (round % 2 == 0)
                wait_for(outer);
            expect(request("status"), "ok");
            _exit(0);
        }
        wait_for(outer);
        wait_for(inner);
        expect(request("status"), "ok");
    }
    printf("    10 forks in forks in %llu ms\n", (unsigned long long)(now_ns() - begun) / 1000000);
}

#if defined(__x86_64__)
static atomic_ulong steps;

static void on_step(int unused)
{
    (void)unused;
    steps++;
}

static pid_t fork_in_steps(pid_t (*how)(void))
{
    pid_t child;

    __writeeflags(__readeflags() | 0x100);
    child = how();
    __writeeflags(__readeflags() & ~0x100ull);
    return child;
}

/* In the child the recorder makes its thread while each instruction raises SIGTRAP. */
static void fork_step_by_step(void)
{
    const struct sigaction action = {.sa_handler = on_step};
    pid_t child;

    sigaction(SIGTRAP, &action, NULL);
    child = fork_in_steps(_Fork);
    if (!child)
        _exit(0);
    if (status_of(child))
        skip("this C library's fork() itself cannot be stepped through");
    steps = 0;
    child = fork_in_steps(fork);
    if (!child) {
        CHECK(steps > 100);
        expect(request("status"), "ok");
        _exit(0);
    }
    wait_for(child);
    printf("    %lu steps\n", steps);
}
#else
static void fork_step_by_step(void)
{
    skip("no trap flag here");
}
#endif

/* ---- cancellation ----------------------------------------------------------------------------- */

/* exit() is not a cancellation point, whatever the recorder does in it. */
static void exit_with_a_cancellation_pending(void)
{
    const char *environment[] = {"RCUTRACE_FILE", path, NULL};
    int status;

    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, 16384, 1000, 0);
    for (int round = 0; round < 5; round++) {
        status = status_of(run_self("cancelled", -1, environment));
        if (status != 3 << 8)
            fail("it ended with %#x", (unsigned)status);
    }
    seen.any_order = true;
    read_trace(path, &trace, look, &seen);
    unlink(path);
    printf("    %llu processes said that they exit\n", (unsigned long long)seen.exits);
    CHECK(seen.exits == 5 && seen.count[1] == 5);
}

static void *fork_cancelled(void *child)
{
    pid_t *born = child;

    pthread_cancel(pthread_self());
    *born = fork();
    if (!*born) {
        execl("/bin/sh", "sh", "-c", "exit 7", NULL);
        _exit(9);
    }
    pthread_testcancel();
    return NULL;
}

/* Nor is fork(): the child executes. The thread is cancelled where it says so. */
static void fork_with_a_cancellation_pending(void)
{
    enum { FORKS = 20 };

    /* So that the child has something to close. */
    expect(request("status"), "ok");
    for (int round = 0; round < FORKS; round++) {
        pid_t child = 0;
        void *result;
        int status;

        pthread_join(start(fork_cancelled, &child), &result);
        CHECK(result == PTHREAD_CANCELED && child > 0);
        status = status_of(child);
        if (status != 7 << 8)
            fail("child %d ended with %#x", round, (unsigned)status);
    }
    printf("    %d children executed\n", FORKS);
}

/* ---- threads ---------------------------------------------------------------------------------- */

static void *write_one(void *argument)
{
    CHECK(emit(1, (uint64_t)(uintptr_t)argument) == RECORDED);
    return NULL;
}

static void short_threads(void)
{
    begin(RCUTRACE_DROP_NEWEST, 65536, 10000, 0);
    for (uintptr_t i = 0; i < 20000; i += 2) {
        pthread_t one = start(write_one, (void *)i), two = start(write_one, (void *)(i + 1));

        pthread_join(one, NULL);
        pthread_join(two, NULL);
    }
    seen.any_order = true;
    end(&trace, &seen);
    CHECK(seen.count[1] == 20000 && !trace.lost);
    /* 112 bytes each: context, name, event. */
    CHECK(trace.chunks < 20000 * 112 / 65536 + 8);
}

static pthread_key_t last_key;

static void write_late(void *left)
{
    for (int i = 0; i < 5; i++)
        CHECK(emit(1, 0) == RECORDED);
    if ((uintptr_t)left > 1)
        pthread_setspecific(last_key, (char *)left - 1);
}

static void *end_late(void *unused)
{
    CHECK(emit(1, 0) == RECORDED);
    pthread_setspecific(last_key, (void *)4);
    return unused;
}

static void events_after_the_destructor(void)
{
    pthread_key_create(&last_key, write_late);
    begin(RCUTRACE_DROP_NEWEST, 16384, 10000, 0);
    for (int i = 0; i < 1000; i++)
        pthread_join(start(end_late, NULL), NULL);
    seen.any_order = true;
    end(&trace, &seen);
    CHECK(seen.count[1] == 1000 * (1 + 4 * 5) && !trace.lost && trace.chunks < 60);
}

/* ---- attaching -------------------------------------------------------------------------------- */

/* What it has, recorded and lost. */
static uint64_t sum_of(const char *file)
{
    memset(&seen, 0, sizeof(seen));
    seen.any_order = true;
    read_trace(file, &trace, look, &seen);
    return total(&seen) + trace.lost;
}

/* Two files in turn, each for two sessions before it is begun anew. */
static void sessions_under_fire(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    uint64_t recorded = 0, all = 0;
    char paths[2][128];
    pthread_t threads[2];

    sigaction(SIGUSR2, &action, NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%s/trace%d.%d", directory, i, (int)getpid());
        make_trace(paths[i], RCUTRACE_DROP_NEWEST, 16384, 200, 0);
    }
    for (uintptr_t i = 0; i < 2; i++)
        threads[i] = start(write_in_storm, (void *)(i + 1));
    for (int round = 0; round < 80; round++) {
        if (round % 4 < 2) {
            recorded += sum_of(paths[round & 1]);
            make_trace(paths[round & 1], RCUTRACE_DROP_NEWEST, 16384, 200, 0);
        }
        if (strcmp(request("attach\ttest\t%s", paths[round & 1]), "ok"))
            fail("round %d", round);
        sleep_ms(10);
        CHECK(!strcmp(request("detach\ttest"), "ok"));
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        recorded += sum_of(paths[i]);
        unlink(paths[i]);
    }
    for (int i = 0; i < SOURCES; i++)
        all += produced[i] + handled[i];
    printf("    %llu produced, %llu recorded and lost\n", (unsigned long long)all,
           (unsigned long long)recorded);
    CHECK(all == recorded && all > 10000);
}

/* Each event is in the file that was attached when it was produced. */
static void nothing_lost_between_sessions(void)
{
    pthread_t thread;
    uint64_t all = 0, lost = 0;

    signal(SIGUSR2, SIG_IGN);
    thread = start(write_in_storm, (void *)1);
    for (int round = 0; round < 30; round++) {
        begin(RCUTRACE_DROP_NEWEST, 4096 << round % 5, 100000, 0);
        sleep_ms(10);
        CHECK(!strcmp(request("detach\ttest"), "ok"));
        memset(&seen, 0, sizeof(seen));
        read_trace(path, &trace, look, &seen);
        unlink(path);
        CHECK(!seen.gaps);
        all += total(&seen);
        lost += trace.lost;
    }
    stop = true;
    pthread_join(thread, NULL);
    printf("    %llu produced, %llu recorded\n", (unsigned long long)produced[1],
           (unsigned long long)all);
    CHECK(produced[1] == all + lost && all > 10000);
}

/* All that a request names, or none. */
static void attached_all_or_none(void)
{
    begin(RCUTRACE_DROP_NEWEST, 16384, 100, 0);
    CHECK(!strcmp(request("detach\tall"), "ok") && !attached);
    other_error = -ENOMEM;
    expect(request("attach\ttest,other\t%s", path), "error\tother does not attach: ");
    CHECK(!attached);
    CHECK(strstr(request("status"), "\ttest=detached\tother=detached"));
    /* What was attached before stays so. */
    expect(request("attach\ttest\t%s", path), "ok");
    expect(request("attach\tall\t%s", path), "error\tother does not attach: ");
    CHECK(attached && strstr(request("status"), "\ttest=attached\tother=detached"));
    other_error = 0;
    expect(request("attach\tall\t%s", path), "ok");
    CHECK(strstr(request("status"), "\ttest=attached\tother=attached"));
    end(&trace, &seen);
}

static void control_requests(void)
{
    static char garbage[8200];
    char other_path[140], text[256];
    int silent;
    uint64_t begun;

    begin(RCUTRACE_DROP_NEWEST, 16384, 100, 0);
    emit(1, 0);
    snprintf(text, sizeof(text), "ok\tpid=%d\timage=", (int)getpid());
    expect(request("status"), text);
    CHECK(strstr(request("status"), "\ttest=attached\tother=detached\tbytes="));
    CHECK(strstr(request("status"), path));
    expect(request("attach\tnonsense\t%s", path), "error\tthere is no tracer 'nonsense'");
    expect(request("attach\ttest,\t%s", path), "error\tthere is no tracer ''");
    expect(request("attach\ttest\trelative"), "error\t");
    expect(request("attach\ttest"), "error\t");
    expect(request("attach"), "error\t");
    expect(request("attach\ttest\t%s\tstack=x", path), "error\tstack=");
    expect(request("attach\ttest\t%s\tstack=1000", path), "error\tstack=");
    expect(request("detach\tnonsense"), "error\t");
    expect(request("detach"), "error\t");
    expect(request("status\tx"), "error\t");
    expect(request("%s", ""), "error\t");
    memset(garbage, 'x', sizeof(garbage));
    expect(request_bytes(getpid(), garbage, sizeof(garbage)), "error\t");
    expect(request_bytes(getpid(), "sta\0tus\n", 8), "error\t");
    /* One who says nothing holds up the others for a second, no more. */
    silent = dial(getpid());
    begun = now_ns();
    expect(request("status"), "ok");
    CHECK(now_ns() - begun > 500000000 && now_ns() - begun < 5000000000);
    close(silent);
    snprintf(other_path, sizeof(other_path), "%s.other", path);
    make_trace(other_path, RCUTRACE_DROP_NEWEST, 4096, 10, 0);
    expect(request("attach\ttest\t%s", other_path), "error\tanother file is being recorded");
    expect(request("attach\tother\t%s\tstack=7", path), "ok");
    CHECK(rcutrace_stack_depth == 7);
    expect(request("detach\tother"), "ok");
    CHECK(attached);
    expect(request("detach\ttest"), "ok");
    expect(request("detach\ttest"), "ok");
    /* What is none of ours. */
    if (!geteuid()) {
        CHECK(!chown(other_path, 12345, 0));
        expect(request("attach\ttest\t%s", other_path), "error\t");
        CHECK(strstr(request("attach\ttest\t%s", other_path), "another user's"));
    }
    unlink(other_path);
    expect(request("attach\ttest\t%s", other_path), "error\t");
    CHECK(!symlink(path, other_path));
    expect(request("attach\ttest\t%s", other_path), "error\t");
    unlink(other_path);
    CHECK(!mkfifo(other_path, 0600));
    expect(request("attach\ttest\t%s", other_path), "error\t");
    unlink(other_path);
    make_trace(other_path, RCUTRACE_DROP_NEWEST, 5000, 10, 0);
    CHECK(strstr(request("attach\ttest\t%s", other_path), "makes no sense"));
    CHECK(!truncate(other_path, 0) && !truncate(other_path, 8192));
    CHECK(strstr(request("attach\ttest\t%s", other_path), "not a trace file"));
    unlink(other_path);
    attach_error = -EPERM;
    CHECK(strstr(request("attach\ttest\t%s", path), "test does not attach"));
    attach_error = 0;
    CHECK(!attached);
    expect(request("status"), "ok");
    unlink(path);
}

static void all_descriptors_closed(void)
{
    begin(RCUTRACE_DROP_NEWEST, 4096, 10000, 0);
    for (uint64_t i = 0; i < 20000; i++) {
        if (i == 5000)
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
        /* Somebody else's files under these numbers now. */
        if (i == 10000)
            for (int j = 0; j < 400; j++)
                CHECK(open("/dev/null", O_RDWR) >= 0);
        CHECK(emit(1, i) == RECORDED);
    }
    /* It looks for its socket every 100 ms. */
    sleep_ms(500);
    CHECK(!strncmp(request("status"), "ok", 2));
    end(&trace, &seen);
    CHECK(seen.count[1] == 20000 && !trace.lost);
}

/* No path leads there any more: the descriptor serves. */
static void file_renamed(void)
{
    char aside[140];

    begin(RCUTRACE_DROP_NEWEST, 4096, 10000, 0);
    emit(1, 0);
    snprintf(aside, sizeof(aside), "%s.aside", path);
    CHECK(!rename(path, aside));
    for (uint64_t i = 1; i < 20000; i++)
        CHECK(emit(1, i) == RECORDED);
    CHECK(!rename(aside, path));
    end(&trace, &seen);
    CHECK(seen.count[1] == 20000 && !trace.lost);
}

/* The control thread alone must not keep the process. */
static void *exit_later(void *unused)
{
    /* Some looks later. */
    sleep_ms(500);
    emit(1, 1);
    return unused;
}

/* The recorder finds the end of what goes on after something was done to it. */
static void main_thread_exits_after(void (*something)(void))
{
    uint64_t begun = now_ns();
    pid_t child;
    int status;

    begin(RCUTRACE_DROP_NEWEST, 4096, 100, 0);
    child = fork();
    if (!child) {
        /* RCU's threads, which do not keep it either. */
        synchronize_rcu();
        synchronize_rcu_tasks_trace();
        emit(1, 0);
        something();
        start(exit_later, NULL);
        pthread_exit(NULL);
    }
    status = status_of(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
        exit(SKIP);
    if (status)
        fail("the child ended with %#x", (unsigned)status);
    printf("    it ended after %llu ms\n", (unsigned long long)(now_ns() - begun) / 1000000);
    end(&trace, &seen);
    CHECK(seen.count[1] == 2 && seen.exits == 1);
}

static void nothing(void)
{
}

static void main_thread_exits(void)
{
    main_thread_exits_after(nothing);
}

/* Without /proc. */
static void change_root(void)
{
    if (chroot(directory) || chdir("/"))
        skip("no right to change the root directory: %s", strerror(errno));
}

static void main_thread_exits_in_another_root(void)
{
    main_thread_exits_after(change_root);
}

static int open_all_descriptors(void)
{
    struct rlimit limit = {256, 256};
    int last = -1;

    CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
    for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;)
        last = fd;
    CHECK(errno == EMFILE);
    return last;
}

static void use_up_descriptors(void)
{
    open_all_descriptors();
}

static void main_thread_exits_without_descriptors(void)
{
    main_thread_exits_after(use_up_descriptors);
}

/* Of the usual stack's size this is an eighth. */
static void want_stack(void)
{
    volatile char large[1 << 20];

    for (size_t i = sizeof(large); i >= 4096; i -= 4096)
        large[i - 1] = 1;
}

static void want_stack_at_exit(void)
{
    CHECK(!atexit(want_stack));
}

static void main_thread_exits_before_a_large_handler(void)
{
    main_thread_exits_after(want_stack_at_exit);
}

static void set_usual_stack(size_t size)
{
    pthread_attr_t attributes;

    CHECK(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, size) &&
          !pthread_setattr_default_np(&attributes));
}

static void have_memory_again(void)
{
    set_usual_stack(8 << 20);
    want_stack_at_exit();
}

/* In the child there is no memory for a stack of the usual size while the recorder makes its thread, which wants none. */
static void main_thread_exits_with_memory_again(void)
{
    set_usual_stack((size_t)1 << 50);
    main_thread_exits_after(have_memory_again);
}

/* The recorder's, by this. */
static atomic_int accepts;

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict size, int flags)
{
    accepts++;
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, size, flags, 0l, 0l);
}

/* Who connects then waits, and the recorder does not spin meanwhile; he is answered when there is a descriptor. */
static void no_descriptor_for_a_client(void)
{
    int last, before, attempts, both[2];
    pid_t client;
    char go;

    expect(request("status"), "ok");
    CHECK(!pipe(both));
    client = fork();
    if (!client) {
        CHECK(read(both[0], &go, 1) == 1);
        expect(request_bytes(getppid(), "status\n", 7), "ok");
        _exit(0);
    }
    last = open_all_descriptors();
    CHECK(write(both[1], "", 1) == 1);
    for (before = accepts; accepts == before;)
        sleep_ms(1);
    before = accepts;
    sleep_ms(1000);
    attempts = accepts - before;
    CHECK(!waitpid(client, NULL, WNOHANG));
    close(last);
    wait_for(client);
    printf("    %d attempts in a second\n", attempts);
    CHECK(attempts < 100);
}

static void copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    struct stat file;

    CHECK(in >= 0 && out >= 0 && !fstat(in, &file));
    for (off_t left = file.st_size; left > 0;) {
        ssize_t done = sendfile(out, in, NULL, (size_t)left);

        CHECK(done > 0);
        left -= done;
    }
    close(in);
    close(out);
}

/* Where a library is found, if it is not one that the program has. */
static void find_library(const char *name, char *at, size_t size)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    struct link_map *map;

    if (library || !(library = dlopen(name, RTLD_NOW)))
        skip("%s is %s", name, library ? "linked" : "missing");
    CHECK(!dlinfo(library, RTLD_DI_LINKMAP, &map));
    snprintf(at, size, "%s", map->l_name);
    dlclose(library);
}

/* The recorder looks anew at what is mapped, and cannot. */
static void load_and_fork(void)
{
    pid_t child;

    change_root();
    if (!dlopen("/library.so", RTLD_NOW))
        fail("%s", dlerror());
    sleep_ms(500);
    child = fork();
    if (!child) {
        emit(2, 0);
        _exit(0);
    }
    wait_for(child);
    _exit(0);
}

static uint64_t maps_of_events[SOURCES];
static uint64_t maps_so_far;

/* A child says which files it has mapped before its first event. */
static void look_for_maps(const struct record *r, void *data)
{
    static uint64_t image;

    look(r, data);
    if (r->image != image)
        maps_so_far = 0;
    image = r->image;
    if (r->type == RCUTRACE_MAP)
        maps_so_far++;
    else if (r->type == events[NUMBER].id)
        maps_of_events[r->payload[0]] = maps_so_far;
}

static void loads_and_forks_in_another_root(void)
{
    char from[4096], to[100];
    pid_t child;
    int status;

    find_library("libm.so.6", from, sizeof(from));
    snprintf(to, sizeof(to), "%s/library.so", directory);
    copy_file(from, to);
    begin(RCUTRACE_DROP_NEWEST, 16384, 100, 0);
    child = fork();
    if (!child)
        load_and_fork();
    status = status_of(child);
    unlink(to);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
        exit(SKIP);
    CHECK(!status && !strcmp(request("detach\tall"), "ok"));
    read_trace(path, &trace, look_for_maps, &seen);
    unlink(path);
    printf("    %llu maps of the child's child\n", (unsigned long long)maps_of_events[2]);
    CHECK(seen.count[2] == 1 && maps_of_events[2] > 3);
}

static void errno_untouched(void)
{
    begin(RCUTRACE_DROP_NEWEST, 4096, 20, 0);
    for (uint64_t i = 0; i < 20000; i++) {
        errno = 4242;
        emit(1, i);
        CHECK(errno == 4242);
    }
    CHECK(!strcmp(request("detach\tall"), "ok"));
    unlink(path);
}

/* ---- the environment -------------------------------------------------------------------------- */

/* This program again, as `how`, in an environment of these. */
static pid_t run_self(const char *how, int err, const char *const *environment)
{
    pid_t child = fork();

    if (child)
        return child;
    for (; *environment; environment += 2)
        setenv(environment[0], environment[1], 1);
    unsetenv("RCUTRACE_IMAGE");
    if (err >= 0)
        dup2(err, 2);
    execl("/proc/self/exe", arguments[0], "--as", how, NULL);
    _exit(99);
}

static void started_by_environment(void)
{
    const char *environment[] = {"RCUTRACE_FILE", path, "RCUTRACE_STACK", "12", NULL};

    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, 16384, 100, 0);
    wait_for(run_self("writer", -1, environment));
    read_trace(path, &trace, look, &seen);
    CHECK(seen.count[1] == 100 && !seen.gaps && seen.exits == 1 && seen.processes == 2);
    CHECK(!strcmp(seen.why[0], "start") && !strcmp(seen.why[1], "exec"));
    CHECK(seen.parents[1] == seen.images[0] && seen.states == 4);
    unlink(path);
}

static void not_followed(void)
{
    const char *environment[] = {"RCUTRACE_FILE", path, "RCUTRACE_FOLLOW", "0", NULL};

    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, 16384, 100, 0);
    wait_for(run_self("unfollowed", -1, environment));
    read_trace(path, &trace, look, &seen);
    CHECK(seen.count[1] == 1 && seen.processes == 1 && !seen.count[2] && !trace.lost);
    unlink(path);
}

static void complaint(const char *name, const char *value, const char *says)
{
    const char *environment[] = {name, value, NULL};
    char text[2000] = "";
    size_t used = 0;
    ssize_t got;
    pid_t child;
    int both[2];

    CHECK(!pipe(both));
    child = run_self("nothing", both[1], environment);
    close(both[1]);
    while ((got = read(both[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    close(both[0]);
    wait_for(child);
    if (!strstr(text, says) || strncmp(text, "rcutrace: ", 10) || strchr(text, '\n') != text + used - 1)
        fail("%s=%s: it said \"%s\"", name, value, text);
}

static void toggled(void)
{
    const char *environment[] = {"RCUTRACE_FILE", path, "RCUTRACE_TOGGLE_MS", "5", NULL};

    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    make_trace(path, RCUTRACE_DROP_NEWEST, 65536, 10000, 0);
    wait_for(run_self("toggled", -1, environment));
    seen.any_order = true;
    read_trace(path, &trace, look, &seen);
    printf("    %llu changes of state, %llu chunks\n", (unsigned long long)seen.states,
           (unsigned long long)trace.chunks);
    CHECK(seen.states > 10 && seen.count[1] && trace.chunks < 20 + seen.count[1] * 32 / 60000);
    unlink(path);
}

/* The C library takes it out of each thread's stack. */
static void large_thread_local_segment(void)
{
    char tunable[60];
    const char *environment[] = {"TRACE", path, "GLIBC_TUNABLES", tunable, NULL};

    snprintf(path, sizeof(path), "%s/trace.%d", directory, (int)getpid());
    for (int kilobytes = 224; kilobytes < 264; kilobytes++) {
        snprintf(tunable, sizeof(tunable), "glibc.rtld.optional_static_tls=%d", kilobytes << 10);
        make_trace(path, RCUTRACE_DROP_NEWEST, 16384, 100, 0);
        wait_for(run_self("server", -1, environment));
        unlink(path);
    }
}

static void bad_environment(void)
{
    char file[100];

    complaint("RCUTRACE_FOLLOW", "2", "neither 0 nor 1");
    complaint("RCUTRACE_CONTROL", "yes", "neither 0 nor 1");
    complaint("RCUTRACE_STACK", "-1", "not a number");
    complaint("RCUTRACE_TOGGLE_MS", "10ms", "not a number");
    snprintf(file, sizeof(file), "%s/full", directory);
    make_trace(file, RCUTRACE_DROP_NEWEST, 4096, 100, 0);
    setenv("RCUTRACE_FILE", file, 1);
    complaint("RCUTRACE_ATTACH", "test,teste", "no tracer 'teste'");
    unsetenv("RCUTRACE_FILE");
    unlink(file);
    complaint("RCUTRACE_FILE", "trace", "not an absolute path");
    complaint("RCUTRACE_FILE", "/nonexistent/trace", "No such file");
    complaint("RCUTRACE_FILE", "/", "nothing is recorded");
    complaint("RCUTRACE_FILE", "/dev/null", "not a regular file");
    snprintf(file, sizeof(file), "%s/empty", directory);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    complaint("RCUTRACE_FILE", file, "not a trace file");
    if (!geteuid()) {
        CHECK(!chown(file, 12345, 0));
        complaint("RCUTRACE_FILE", file, "another user's");
    }
    unlink(file);
}

static int be(const char *how)
{
    bool second = getenv("SECOND");
    struct stat file;
    pid_t child;

    if (!strcmp(how, "writer")) {
        CHECK(attached && rcutrace_stack_depth == 12);
        for (uint64_t i = 0; i < 50; i++)
            emit(1, i + (second ? 50 : 0));
        if (!second) {
            setenv("SECOND", "1", 1);
            execl("/proc/self/exe", arguments[0], "--as", how, NULL);
            return 98;
        }
    } else if (!strcmp(how, "server")) {
        expect(request("attach\ttest\t%s", getenv("TRACE")), "ok");
        expect(request("detach\tall"), "ok");
    } else if (!strcmp(how, "toggled")) {
        for (uint64_t i = 0, begun = now_ns(); now_ns() - begun < 200000000; i++) {
            enum outcome outcome = emit(1, i);

            CHECK(outcome != DROPPED);
        }
    } else if (!strcmp(how, "cancelled")) {
        /* So that there is something to close. */
        expect(request("status"), "ok");
        emit(1, 0);
        pthread_cancel(pthread_self());
        exit(3);
    } else if (!strcmp(how, "owner")) {
        expect(request("status"), "ok");
        for (int round = 0; round < 5; round++) {
            child = fork();
            if (!child) {
                /* Else who connects once the parent has died waits for ever. */
                for (int fd = 200; fd < 300; fd++)
                    CHECK(fstat(fd, &file) || !S_ISSOCK(file.st_mode));
                exit(0);
            }
            wait_for(child);
            CHECK(socket_is_there(getpid()));
        }
        expect(request("status"), "ok");
    } else if (!strcmp(how, "unfollowed")) {
        CHECK(attached && !getenv("RCUTRACE_FILE") && !getenv("LD_PRELOAD"));
        emit(1, 0);
        child = fork();
        if (!child) {
            for (uint64_t i = 0; i < 1000; i++)
                emit(2, i);
            _exit(0);
        }
        wait_for(child);
    }
    return 0;
}

/* ---- stacks, and what it costs ---------------------------------------------------------------- */

__attribute__((noinline)) static unsigned deeper(uint64_t *frames, unsigned most, unsigned skip,
                                                 unsigned levels)
{
    unsigned count = levels ? deeper(frames, most, skip, levels - 1)
                            : rcutrace_stack(frames, most, skip);

    __asm__ volatile("" : : : "memory");
    return count;
}

static void stacks(void)
{
    uint64_t frames[20], fewer[20];
    uintptr_t here = (uintptr_t)deeper;

    CHECK(deeper(frames, 20, 0, 5) >= 7);
    /* The innermost is the caller. */
    for (int i = 0; i < 6; i++)
        CHECK(frames[i] > here && frames[i] < here + 200);
    CHECK(deeper(fewer, 3, 2, 5) == 3);
    CHECK(fewer[0] == frames[2] && fewer[2] == frames[4]);
    CHECK(deeper(fewer, 0, 0, 0) == 0);
}

enum { ROUNDS = 4000000 };

static double measure(void)
{
    uint64_t begun = now_ns();

    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t *word = rcutrace_reserve(&events[TINY], 1);

        if (word) {
            *word = i;
            rcutrace_commit(word);
        }
    }
    return (double)(now_ns() - begun) / ROUNDS;
}

static void cost(void)
{
    double clock, newest, again, small = 1e9;
    uint64_t begun, sum = 0;

    begin(RCUTRACE_DROP_NEWEST, RCUTRACE_CHUNK_DEFAULT, 100000, 0);
    begun = now_ns();
    for (int i = 0; i < ROUNDS; i++)
        sum += rcutrace_clock();
    clock = (double)(now_ns() - begun) / ROUNDS + (sum == 42);
    rcu_read_lock_notrace();
    newest = measure();
    rcu_read_unlock_notrace();
    CHECK(!strcmp(request("detach\tall"), "ok"));
    begin(RCUTRACE_OVERWRITE, RCUTRACE_CHUNK_DEFAULT, 0, 2);
    rcu_read_lock_notrace();
    again = measure();
    again = measure();
    rcu_read_unlock_notrace();
    CHECK(!strcmp(request("detach\tall"), "ok"));
    /* A chunk that is in the cache and never ends: the instructions alone. */
    begin(RCUTRACE_DROP_NEWEST, RCUTRACE_CHUNK_DEFAULT, 100000, 0);
    emit(1, 0);
    rcu_read_lock_notrace();
    for (int round = 0; round < 2000; round++) {
        uintptr_t place = rcutrace_thread.next;
        double took;

        if (rcutrace_thread.end - place < 60000) {
            emit_long(1, 0, 200);
            continue;
        }
        begun = now_ns();
        for (int i = 0; i < 1000; i++) {
            uint64_t *word = rcutrace_reserve(&events[TINY], 1);

            *word = (uint64_t)i;
            rcutrace_commit(word);
        }
        took = (double)(now_ns() - begun) / 1000;
        if (took < small)
            small = took;
        rcutrace_thread.next = rcutrace_thread.committed = place;
    }
    rcu_read_unlock_notrace();
    CHECK(!strcmp(request("detach\tall"), "ok"));
    unlink(path);
    printf("    ns an event of one integer: %.1f with new chunks, %.1f overwriting, %.1f without a "
           "change of chunks; of these the clock %.1f\n",
           newest, again, small, clock);
}

static const struct scenario scenarios[] = {
    SCENARIO(one_thread),
    SCENARIO(sandbox_that_answers_by_a_signal),
    SCENARIO(sandbox_that_comes_later),
    SCENARIO(four_threads),
    SCENARIO(signals_that_the_program_waits_for),
    SCENARIO(storm_of_handlers),
    SCENARIO(killed_at_any_moment),
    SCENARIO(drained_under_fire),
    SCENARIO(drained_and_killed),
    SCENARIO(drained_to_the_limit),
    SCENARIO(drained_forks),
    SCENARIO(announced_when_there_is_room),
    SCENARIO(forked_into_the_same_id),
    SCENARIO(drop_newest),
    SCENARIO(overwrite),
    SCENARIO(descriptor_put_in_place),
    SCENARIO(other_file_in_its_place),
    SCENARIO(low_numbers_left_alone),
    SCENARIO(file_size_limit),
    SCENARIO(full_disk),
    SCENARIO(ordinary_fork),
    SCENARIO(fork_without_handlers),
    SCENARIO(raw_clone_as_fork),
    SCENARIO(fork_in_a_writer),
    SCENARIO(forks_under_fire),
    SCENARIO(fork_in_a_fork),
    SCENARIO(fork_step_by_step),
    SCENARIO(childs_exit_leaves_the_socket),
    SCENARIO(exit_with_a_cancellation_pending),
    SCENARIO(fork_with_a_cancellation_pending),
    SCENARIO(vforked),
    SCENARIO(short_threads),
    SCENARIO(events_after_the_destructor),
    SCENARIO(sessions_under_fire),
    SCENARIO(nothing_lost_between_sessions),
    SCENARIO(control_requests),
    SCENARIO(attached_all_or_none),
    SCENARIO(all_descriptors_closed),
    SCENARIO(file_renamed),
    SCENARIO(main_thread_exits),
    SCENARIO(main_thread_exits_in_another_root),
    SCENARIO(main_thread_exits_without_descriptors),
    SCENARIO(main_thread_exits_before_a_large_handler),
    SCENARIO(main_thread_exits_with_memory_again),
    SCENARIO(no_descriptor_for_a_client),
    SCENARIO(loads_and_forks_in_another_root),
    SCENARIO(errno_untouched),
    SCENARIO(started_by_environment),
    SCENARIO(not_followed),
    SCENARIO(toggled),
    SCENARIO(large_thread_local_segment),
    SCENARIO(bad_environment),
    SCENARIO(stacks),
    SCENARIO(cost),
};

int main(int argc, char **argv)
{
    const char *given = getenv("RECORD_TEST_DIRECTORY");
    pid_t child;
    int status;

    arguments = argv;
    if (!given) {
        /* Again, with the control sockets in a directory of ours. */
        snprintf(directory, sizeof(directory), "%s/record.XXXXXX",
                 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(directory))
            return FAIL;
        setenv("RECORD_TEST_DIRECTORY", directory, 1);
        setenv("XDG_RUNTIME_DIR", directory, 1);
        setenv("LC_ALL", "C", 1);
        child = fork();
        if (!child) {
            execv("/proc/self/exe", argv);
            _exit(FAIL);
        }
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
            status = FAIL << 8;
        child = vfork();
        if (!child) {
            execlp("rm", "rm", "-rf", directory, NULL);
            _exit(FAIL);
        }
        waitpid(child, NULL, 0);
        return WEXITSTATUS(status);
    }
    snprintf(directory, sizeof(directory), "%s", given);
    rcutrace_add_tracer(&tracer);
    rcutrace_add_tracer(&other);
    if (argc > 2 && !strcmp(argv[1], "--as"))
        return be(argv[2]);
#ifdef ASAN
    /* Its allocator's locks are not held over fork(): the thread that answers requests is through with its first. */
    sleep_ms(100);
#endif
    return RUN_SCENARIOS("record", scenarios, argc, argv);
}
