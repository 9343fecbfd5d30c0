/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * dump new FILE [CHUNKS]: makes an empty trace file. dump ring FILE: one in overwrite mode. dump show FILE:
 * its events, a line each, those of a thread in order: TID NAME FIELD=VALUE... (numbers decimal, addresses
 * hexadecimal, a stack's depth). dump count FILE: how many of each.
 */
#include "../trace_file.h"

enum { MOST_TYPES = 256, MOST_IMAGES = 256 };
static struct {
    uint64_t image;
    char *descriptions[MOST_TYPES];
} images[MOST_IMAGES];
static int image_count;

static char **descriptions_of(uint64_t image)
{
    int i = 0;

    while (i < image_count && images[i].image != image)
        i++;
    if (i == MOST_IMAGES)
        fail("more images than the test has");
    if (i == image_count) {
        images[i].image = image;
        image_count++;
    }
    return images[i].descriptions;
}

static void note_type(const struct record *record, void *unused)
{
    (void)unused;
    if (record->type == RCUTRACE_TYPE)
        descriptions_of(record->payload[0])[record->payload[1] & 255] =
            strdup((const char *)&record->payload[2]);
}

static void show(const struct record *record, void *unused)
{
    char line[1024], *field, *rest = line;
    unsigned at = 0;

    (void)unused;
    if (record->type < RCUTRACE_FIRST_EVENT)
        return;
    if (!descriptions_of(record->image)[record->type])
        fail("an event of type %u, which nobody described", record->type);
    snprintf(line, sizeof(line), "%s", descriptions_of(record->image)[record->type]);
    printf("%u %s", record->tid, strsep(&rest, " "));
    while ((field = strsep(&rest, " "))) {
        char *kind = strchr(field, ':');

        *kind++ = 0;
        if (!strcmp(kind, "a*"))
            printf(" %s=%u", field, record->words - at);
        else if (!strcmp(kind, "s"))
            printf(" %s=%s", field, (const char *)&record->payload[at]);
        else
            printf(strchr("ax", *kind) ? " %s=%llx" : *kind == 'i' ? " %s=%lld" : " %s=%llu", field,
                   (unsigned long long)record->payload[at]);
        at++;
    }
    printf(" time=%llu\n", (unsigned long long)record->time);
}

static uint64_t counts[MOST_IMAGES][MOST_TYPES];

static void count(const struct record *record, void *unused)
{
    (void)unused;
    if (record->type >= RCUTRACE_FIRST_EVENT) {
        descriptions_of(record->image);
        for (int i = 0; i < image_count; i++)
            if (images[i].image == record->image)
                counts[i][record->type]++;
    }
}

static void show_counts(void)
{
    for (int i = 0; i < image_count; i++)
        for (int type = 0; type < MOST_TYPES; type++)
            if (counts[i][type]) {
                const char *description = images[i].descriptions[type];

                printf("%llx %.*s %llu\n", (unsigned long long)images[i].image,
                       (int)strcspn(description, " "), description,
                       (unsigned long long)counts[i][type]);
            }
}

int main(int argc, char **argv)
{
    struct trace trace;

    if (argc >= 3 && !strcmp(argv[1], "new")) {
        make_trace(argv[2], RCUTRACE_DROP_NEWEST, 1 << 20, argc > 3 ? strtoull(argv[3], NULL, 0) : 1024, 4);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "ring")) {
        make_trace(argv[2], RCUTRACE_OVERWRITE, 1 << 16, 0, 4);
        return 0;
    }
    if (argc != 3)
        return 2;
    read_trace(argv[2], &trace, note_type, NULL);
    if (!strcmp(argv[1], "show")) {
        read_trace(argv[2], &trace, show, NULL);
    } else {
        read_trace(argv[2], &trace, count, NULL);
        show_counts();
    }
    if (trace.lost)
        fprintf(stderr, "%llu events lost\n", (unsigned long long)trace.lost);
    return 0;
}
