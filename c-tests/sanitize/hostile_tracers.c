/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whatever comes in at the recorder's doors, for AddressSanitizer and UndefinedBehaviorSanitizer: requests at the control
 * socket, its variables in the environment, headers of files it is to record to. What is right is changed a little, by
 * numbers that are the same each time.
 *   hostile_tracers [CASES [FIRST]]; with -DFUZZER, for clang's -fsanitize=fuzzer
 */
#include "../../tracers/control.c"
#include "../../tracers/process.c"

#include <sanitizer/common_interface_defs.h>

enum { ROOM = REQUEST_SIZE + 512, COMMON = 128, CASES = 6000 };
enum door { REQUESTS, ENVIRONMENT, HEADERS, DOORS };

static char directory[] = "/tmp/hostile-tracers-XXXXXX", file[64];
static int complaints = -1; /* where standard error went: to a pipe */
static unsigned long now_at;
static struct {
    unsigned long done, refused, attached, recorded, heard;
} counts;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("    FAILED: %s:%d: %s, in case %lu\n", __FILE__, __LINE__, #condition, now_at); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

/* ---- two tracers ------------------------------------------------------------------------------- */

static int attaches;

static int attach(void)
{
    attaches++;
    return 0;
}

static void detach(void)
{
    attaches--;
}

static struct rcutrace_event events[] = {{.description = "first"}, {.description = "second"}};
static struct rcutrace_tracer tracers[] = {
    {.name = "one", .events = &events[0], .event_count = 1, .attach = attach, .detach = detach},
    {.name = "two", .events = &events[1], .event_count = 1, .attach = attach, .detach = detach},
};

static void emit(void)
{
    for (int i = 0; i < 3; i++) {
        uint64_t *word;

        rcu_read_lock_notrace();
        word = rcutrace_reserve(&events[i % 2], 200);
        if (word) {
            memset(word, i, 200 * sizeof(*word));
            rcutrace_commit(word);
            counts.recorded++;
        }
        rcu_read_unlock_notrace();
    }
}

/* ---- the doors --------------------------------------------------------------------------------- */

/* An answer is one line, and says one of two things. */
static void request(const char *bytes, size_t size)
{
    static char text[2 * REQUEST_SIZE];
    int ends[2];
    ssize_t got;

    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    CHECK(send(ends[0], bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
    shutdown(ends[0], SHUT_WR);
    serve_client(ends[1]);
    close(ends[1]);
    got = read(ends[0], text, sizeof(text));
    close(ends[0]);
    CHECK(got > 0 && got <= REQUEST_SIZE && memchr(text, '\n', (size_t)got) == text + got - 1);
    CHECK(!memcmp(text, "ok", 2) || !memcmp(text, "error\t", 6));
    counts.refused += *text == 'e';
    CHECK(attaches == tracers[0].attached + tracers[1].attached && (!attaches || session_current));
    CHECK(rcutrace_stack_depth <= RCUTRACE_MOST_FRAMES);
}

static void order(const char *line)
{
    request(line, strlen(line));
}

/* What a file is judged by when it is opened, and what is counted in it. Which slots are free is believed: whoever may
 * write that may also truncate the file, which is mapped. */
enum { JUDGED = offsetof(struct rcutrace_header, slots) };

static void write_header(const char *bytes, size_t size)
{
    static char page[RCUTRACE_HEADER_SIZE];
    int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    memset(page, 0, sizeof(page));
    memcpy(page, bytes, size < JUDGED ? size : JUDGED);
    CHECK(fd >= 0 && write(fd, page, sizeof(page)) == sizeof(page));
    close(fd);
}

static void good_header(struct rcutrace_header *header)
{
    memset(header, 0, sizeof(*header));
    memcpy(header->magic, RCUTRACE_MAGIC, sizeof(header->magic));
    header->version = RCUTRACE_VERSION;
    header->chunk_size = 4096;
    header->chunk_limit = 8;
    header->thread_chunks = 2;
    header->slot_limit = 8;
    header->clock = RCUTRACE_CLOCK_MONOTONIC;
}

static void after_attach(void)
{
    counts.attached += attaches > 0;
    emit();
    order("status\n");
    order("detach\tall\n");
    CHECK(!attaches);
    session_close();
}

static void environment(const char *text)
{
    static const char *const switches[] = {"RCUTRACE_FOLLOW", "RCUTRACE_CONTROL"};
    static const char *const numbers[] = {"RCUTRACE_STACK", "RCUTRACE_TOGGLE_MS"};

    for (int i = 0; i < 2; i++) {
        CHECK(!setenv(switches[i], text, 1) && !setenv(numbers[i], text, 1));
        read_switch(switches[i], i);
        CHECK(read_number(numbers[i], 100) <= 100);
    }
    CHECK(!setenv(IMAGE_VARIABLE, text, 1));
    read_parent();
    process.parent_image = 0;
    process.why = "start";
    CHECK(!setenv("RCUTRACE_FILE", counts.done % 2 ? text : file, 1) && !setenv("RCUTRACE_ATTACH", text, 1));
    start_at_once();
    tracers_complain();
    tracers_start = false;
    free((char *)tracers_at_start);
    tracers_at_start = NULL;
    session_close();
    CHECK(!setenv("RCUTRACE_PRELOAD_BEFORE", text, 1));
    clear_environment();
    CHECK(!getenv("RCUTRACE_FILE") && !getenv(IMAGE_VARIABLE));
    unsetenv("LD_PRELOAD");
}

static void hear(void)
{
    static char text[65536];
    ssize_t got;

    while ((got = read(complaints, text, sizeof(text))) > 0)
        counts.heard += (unsigned long)got;
}

/* `bytes` has room for a NUL behind it. */
static void try(enum door door, char *bytes, size_t size)
{
    struct rcutrace_header good;

    alarm(20);
    good_header(&good);
    switch (door) {
    case REQUESTS:
        write_header((const char *)&good, sizeof(good));
        request(bytes, size);
        after_attach();
        break;
    case ENVIRONMENT:
        write_header((const char *)&good, sizeof(good));
        bytes[size] = 0;
        environment(bytes);
        break;
    default: {
        char line[COMMON];

        write_header(bytes, size);
        snprintf(line, sizeof(line), "attach\tone,two\t%s\n", file);
        order(line);
        after_attach();
    }
    }
    hear();
    unlink(file);
    counts.done++;
}

static void too_long(int signal)
{
    char line[64];
    int length = snprintf(line, sizeof(line), "    FAILED: case %lu takes for ever\n", now_at);

    (void)signal;
    _exit(write(1, line, (size_t)length) >= 0 ? 1 : 2);
}

static void set_up(void)
{
    int pipes[2];

    signal(SIGALRM, too_long);
#ifndef FUZZER /* it does, by -close_fd_mask=2 */
    __sanitizer_set_report_fd((void *)(uintptr_t)fcntl(2, F_DUPFD_CLOEXEC, 100));
#endif
    CHECK(!pipe2(pipes, O_CLOEXEC | O_NONBLOCK) && dup2(pipes[1], 2) == 2);
    complaints = pipes[0];
    CHECK(mkdtemp(directory));
    snprintf(file, sizeof(file), "%s/trace", directory);
    rcutrace_add_tracer(&tracers[0]);
    rcutrace_add_tracer(&tracers[1]);
}

#ifdef FUZZER
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static char bytes[ROOM + 1];

    if (complaints < 0)
        set_up();
    if (!size || size > ROOM)
        return -1;
    memcpy(bytes, data + 1, size - 1);
    try(data[0] % DOORS, bytes, size - 1);
    return 0;
}
#else

/* ---- what comes in ----------------------------------------------------------------------------- */

static uint64_t state;

static unsigned below(unsigned limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 32) % limit;
}

/* Something that is right, to begin with. */
static size_t model(enum door door, char *bytes)
{
    static const char *const requests[] = {
        "attach\tone\t%s\n", "attach\tone,two\t%s\tstack=16\n", "attach\tall\t%s\tstack=240\n",
        "detach\tone,two\n", "status\n", "attach\ttwo\t%s\nstatus\n",
    };
    static const char *const values[] = {"0", "1", "", "16", "60000", "one,two", "all", "00001234000000ff", "%s"};
    struct rcutrace_header header;

    switch (door) {
    case REQUESTS:
        return (size_t)snprintf(bytes, COMMON, requests[below(6)], file);
    case ENVIRONMENT:
        return (size_t)snprintf(bytes, COMMON, values[below(9)], file);
    default:
        good_header(&header);
        header.mode = below(2);
        header.flags = header.mode ? 0 : below(4);
        memcpy(bytes, &header, JUDGED);
        return JUDGED;
    }
}

/* One change. */
static size_t change(char *bytes, size_t size)
{
    static const char *const words[] = {
        "\t", "\n", ",", "all", "one", "two", "stack=", "\tstack=18446744073709551616", "%n%s", "/", "../", "\x7f",
        "-1", "attach", "detach", "status", "4294967296", "99999999999999999999999", "\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    unsigned at = below((unsigned)size + 1), many = 1 + below(16);
    const char *word = words[below(sizeof(words) / sizeof(*words))];

    switch (below(7)) {
    case 0: /* a bit */
        if (at < size)
            bytes[at] ^= (char)(1 << below(8));
        return size;
    case 1: /* a byte, often one at an end of the numbers */
        if (at < size)
            bytes[at] = (char)(below(2) ? below(256) : (unsigned)"\0\xff\x7f\x80"[below(4)]);
        return size;
    case 2: /* some are gone */
        if (at + many > size)
            return at;
        memmove(bytes + at, bytes + at + many, size - at - many);
        return size - many;
    case 3: /* a word in place of something */
        many = (unsigned)strlen(word);
        if (at + many <= size)
            memcpy(bytes + at, word, many);
        return size;
    case 4: /* a word more */
        many = (unsigned)strlen(word);
        if (size + many > ROOM)
            return size;
        memmove(bytes + at + many, bytes + at, size - at);
        memcpy(bytes + at, word, many);
        return size + many;
    case 5: /* all of it again */
        if (2 * size > ROOM)
            return size;
        memcpy(bytes + size, bytes, size);
        return 2 * size;
    default: /* very long, now and then */
        if (below(20))
            return size;
        many = below((unsigned)(ROOM - size) + 1);
        memmove(bytes + at + many, bytes + at, size - at);
        memset(bytes + at, 'x', many);
        return size + many;
    }
}

/* A header's fields lie among zeros. */
static size_t change_field(char *bytes, size_t size)
{
    static const uint64_t values[] = {0, 1, 2, 3, 4095, 8192, 1 << 30, UINT32_MAX, 1ull << 32, INT64_MAX, UINT64_MAX};
    static const unsigned fields[] = {
        offsetof(struct rcutrace_header, version),     offsetof(struct rcutrace_header, chunk_size),
        offsetof(struct rcutrace_header, mode),        offsetof(struct rcutrace_header, clock),
        offsetof(struct rcutrace_header, chunk_limit), offsetof(struct rcutrace_header, thread_chunks),
        offsetof(struct rcutrace_header, flags),       offsetof(struct rcutrace_header, chunks),
        offsetof(struct rcutrace_header, lost),        offsetof(struct rcutrace_header, slot_limit),
    };
    unsigned at = fields[below(sizeof(fields) / sizeof(*fields))];

    if (at + 8 <= size)
        memcpy(bytes + at, &values[below(sizeof(values) / sizeof(*values))], below(2) ? 4 : 8);
    return size;
}

int main(int argc, char **argv)
{
    unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 10) : CASES;
    unsigned long first = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;

    set_up();
    for (now_at = first; now_at < first + cases; now_at++) {
        enum door door = (enum door)(now_at % DOORS);
        /* Exactly as long as what is in it, for AddressSanitizer. */
        static char bytes[ROOM + 1];
        char *exact;
        size_t size;

        state = now_at * 0x9e3779b97f4a7c15;
        size = model(door, bytes);
        for (unsigned changes = below(6); changes; changes--)
            size = door == HEADERS && below(8) ? change_field(bytes, size) : change(bytes, size);
        exact = malloc(size + 1);
        CHECK(exact);
        memcpy(exact, bytes, size);
        try(door, exact, size);
        free(exact);
    }
    rmdir(directory);
    printf("    %lu cases: %lu answers refuse, %lu attach, %lu records, %lu bytes of complaints\n", counts.done, counts.refused,
           counts.attached, counts.recorded, counts.heard);
    CHECK(cases < 1000 || (counts.refused > cases / 10 && counts.attached > cases / 10 && counts.recorded > cases / 10 &&
                           counts.heard > cases));
    return 0;
}
#endif
