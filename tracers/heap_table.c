/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The heap tracer's table: folding and printing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heap_table.h"

static const char *const function_names[HEAP_FUNCTIONS] = {
    "malloc", "calloc",         "realloc",       "reallocarray",
    "free",   "posix_memalign", "aligned_alloc", "memalign",
};

/* The shards, added up. */
struct sums {
    uint64_t calls[HEAP_FUNCTIONS];
    uint64_t all_calls;
    uint64_t failed;
    uint64_t sections;
    uint64_t requested;
    uint64_t allocated;
    uint64_t freed;
    uint64_t sizes[HEAP_BUCKETS];
};

static void add_up(struct sums *sums, const struct heap_table *table)
{
    memset(sums, 0, sizeof(*sums));
    for (int s = 0; s < HEAP_SHARDS; s++) {
        const struct heap_shard *shard = &table->shards[s];

        for (int f = 0; f < HEAP_FUNCTIONS; f++) {
            sums->calls[f] += heap_read(&shard->calls[f]);
            sums->all_calls += heap_read(&shard->calls[f]);
        }
        sums->failed += heap_read(&shard->failed);
        sums->sections += heap_read(&shard->sections);
        sums->requested += heap_read(&shard->requested);
        sums->allocated += heap_read(&shard->allocated);
        sums->freed += heap_read(&shard->freed);
        for (int b = 0; b < HEAP_BUCKETS; b++)
            sums->sizes[b] += heap_read(&shard->sizes[b]);
    }
}

void heap_table_fold(struct heap_table *to, const struct heap_table *from)
{
    struct heap_shard *shard = &to->shards[0];
    struct sums sums;

    add_up(&sums, from);
    for (int f = 0; f < HEAP_FUNCTIONS; f++)
        heap_add(&shard->calls[f], sums.calls[f]);
    heap_add(&shard->failed, sums.failed);
    heap_add(&shard->sections, sums.sections);
    heap_add(&shard->requested, sums.requested);
    heap_add(&shard->allocated, sums.allocated);
    heap_add(&shard->freed, sums.freed);
    for (int b = 0; b < HEAP_BUCKETS; b++)
        heap_add(&shard->sizes[b], sums.sizes[b]);
    heap_add(&to->threads, heap_read(&from->threads));
    heap_raise(&to->peak, heap_read(&from->peak));
}

/* The page that is being printed. Not malloc's, and one write(2) at the end, so that it is not
 * mixed with what others write. */
struct page {
    size_t used;
    char text[8192];
};

__attribute__((format(printf, 2, 3))) static void put(struct page *page, const char *format, ...)
{
    size_t room = sizeof(page->text) - page->used;
    va_list list;
    int wrote;

    va_start(list, format);
    wrote = vsnprintf(page->text + page->used, room, format, list);
    va_end(list);
    if (wrote > 0)
        page->used += (size_t)wrote < room ? (size_t)wrote : room - 1;
}

enum { NUMBER = 32 };

/* 1234567 as 1,234,567. */
static const char *number(char *text, uint64_t value)
{
    char *at = text + NUMBER - 1;
    int digits = 0;

    *at = 0;
    do {
        if (digits && digits % 3 == 0)
            *--at = ',';
        *--at = (char)('0' + value % 10);
        value /= 10;
        digits++;
    } while (value);
    return at;
}

static const char *signed_number(char *text, int64_t value)
{
    char *at;

    if (value >= 0)
        return number(text, (uint64_t)value);
    at = (char *)number(text, 0 - (uint64_t)value);
    *--at = '-';
    return at;
}

/* 2048 as "2 Ki": for powers of two. */
static const char *power(char *text, uint64_t value)
{
    static const char *const units[] = {"", " Ki", " Mi", " Gi", " Ti", " Pi", " Ei"};
    int unit = 0;

    while (value >= 1024) {
        value /= 1024;
        unit++;
    }
    snprintf(text, NUMBER, "%u%s", (unsigned)value, units[unit]);
    return text;
}

/* One line of two columns: a name and its value, twice. A name without a number is a heading. */
static void row(struct page *page, const char *left, const char *left_number, const char *right,
                const char *right_number)
{
    put(page, " %s%-15s %19s   ", left_number[0] ? " " : "", left, left_number);
    if (!left_number[0])
        put(page, " ");
    put(page, " %s%-15s %20s", right_number[0] ? " " : "", right, right_number);
    while (page->used && page->text[page->used - 1] == ' ')
        page->used--;
    put(page, "\n");
}

static void print_counters(struct page *page, const struct heap_table *table,
                           const struct sums *sums)
{
    int64_t live = (int64_t)(sums->allocated + heap_read(&table->inherited) - sums->freed);
    static const char *const modes[] = {"?", "auto", "signal", "membarrier"};
    uint64_t mode = heap_read(&table->ipi_mode);
    char left[NUMBER], right[NUMBER];

#define CALLS(function) function_names[function], number(left, sums->calls[function])
#define STAT(stat) number(right, heap_read(&table->stats[stat]))
    row(page, "CALLS", "", "BYTES", "");
    row(page, CALLS(HEAP_MALLOC), "requested", number(right, sums->requested));
    row(page, CALLS(HEAP_CALLOC), "live at the end", signed_number(right, live));
    row(page, CALLS(HEAP_REALLOC), "peak, a process", number(right, heap_read(&table->peak)));
    row(page, CALLS(HEAP_REALLOCARRAY), "RCU", "");
    row(page, CALLS(HEAP_FREE), "sections", number(right, sums->sections));
    row(page, CALLS(HEAP_POSIX_MEMALIGN), "toggles", number(right, heap_read(&table->toggles)));
    row(page, CALLS(HEAP_ALIGNED_ALLOC), "grace periods", STAT(HEAP_GRACE_PERIODS));
    row(page, CALLS(HEAP_MEMALIGN), "IPIs", STAT(HEAP_IPIS));
    row(page, "all of them", number(left, sums->all_calls), "holdouts", STAT(HEAP_HOLDOUTS));
    row(page, "that failed", number(left, sums->failed), "rescues", STAT(HEAP_RESCUES));
    row(page, "processes", number(left, heap_read(&table->processes)), "parks", STAT(HEAP_PARKS));
    row(page, "threads", number(left, heap_read(&table->threads)), "IPI mode",
        modes[mode < sizeof(modes) / sizeof(modes[0]) ? mode : 0]);
#undef CALLS
#undef STAT
}

static void print_sizes(struct page *page, const struct sums *sums)
{
    static const char bar[] = "######################################";
    const unsigned longest = sizeof(bar) - 1;
    char from[NUMBER], to[NUMBER], count[NUMBER];
    uint64_t most = 0;

    for (int b = 0; b < HEAP_BUCKETS; b++)
        if (sums->sizes[b] > most)
            most = sums->sizes[b];
    if (!most)
        return;
    put(page, "\n REQUESTED SIZES\n");
    for (int b = 0; b < HEAP_BUCKETS; b++) {
        /* Rounded up, in floating point: a count times the longest might overflow. */
        double share = (double)sums->sizes[b] / (double)most * longest;
        unsigned length = (unsigned)share + ((double)(unsigned)share < share);

        if (!sums->sizes[b])
            continue;
        if (length > longest)
            length = longest;
        if (b < 2)
            put(page, "  %17u", (unsigned)b);
        else if (b == HEAP_BUCKETS - 1)
            put(page, "  %8s and more", power(from, UINT64_C(1) << 63));
        else
            put(page, "  [%6s, %6s)", power(from, UINT64_C(1) << (b - 1)),
                power(to, UINT64_C(1) << b));
        put(page, "%20s  %.*s\n", number(count, sums->sizes[b]), (int)length, bar);
    }
}

void heap_write(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t wrote = write(fd, text, size);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return;
        text += wrote;
        size -= (size_t)wrote;
    }
}

void heap_table_print(const struct heap_table *table, int fd, const char *title)
{
    struct page page = {0};
    struct sums sums;

    add_up(&sums, table);
    put(&page, "\nrcu-heap: %s\n\n", title);
    print_counters(&page, table, &sums);
    print_sizes(&page, &sums);
    put(&page, "\n");
    heap_write(fd, page.text, page.used);
}

bool heap_parse_toggle(const char *text, unsigned *ms)
{
    unsigned value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned)(*text - '0');
        if (value > HEAP_TOGGLE_MAX)
            return false;
    }
    *ms = value;
    return true;
}
