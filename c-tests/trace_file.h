/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writes a trace file's header and reads whole trace files: the tests' own view of docs/TRACES.md. */
#ifndef TRACE_FILE_H
#define TRACE_FILE_H

#include "test.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "../tracers/format.h"

struct record {
    unsigned type, words; /* words of payload */
    const uint64_t *payload;
    uint64_t time;
    uint32_t pid, tid;
    uint64_t image, chunk;
};

struct trace {
    const char *bytes;
    size_t size;
    const struct rcutrace_header *header;
    uint64_t chunks, holes, records, lost;
};

__attribute__((unused)) static void make_trace(const char *path, unsigned mode, uint32_t chunk_size,
                                               uint64_t limit, uint32_t thread_chunks)
{
    static char page[RCUTRACE_HEADER_SIZE];
    struct rcutrace_header *header = (struct rcutrace_header *)(void *)page;
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    memset(page, 0, sizeof(page));
    memcpy(header->magic, RCUTRACE_MAGIC, 8);
    header->version = RCUTRACE_VERSION;
    header->chunk_size = chunk_size;
    header->mode = mode;
    header->chunk_limit = limit;
    header->thread_chunks = thread_chunks;
#ifdef __x86_64__
    header->clock = RCUTRACE_CLOCK_TSC;
#else
    header->clock = RCUTRACE_CLOCK_MONOTONIC;
#endif
    if (fd < 0 || write(fd, page, sizeof(page)) != sizeof(page))
        fail("%s: %s", path, strerror(errno));
    close(fd);
}

/* Checks the form of everything that is committed, and shows each record. */
__attribute__((unused)) static void read_trace(const char *path, struct trace *trace,
                                               void (*show)(const struct record *record, void *data),
                                               void *data)
{
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint32_t chunk_size;

    memset(trace, 0, sizeof(*trace));
    if (fd < 0 || fstat(fd, &file))
        fail("%s: %s", path, strerror(errno));
    trace->size = (size_t)file.st_size;
    trace->bytes = mmap(NULL, trace->size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (trace->bytes == MAP_FAILED)
        fail("mmap: %s", strerror(errno));
    trace->header = (const void *)trace->bytes;
    chunk_size = trace->header->chunk_size;
    trace->chunks = trace->header->chunks;
    trace->lost = trace->header->lost;
    for (uint64_t i = 0; i < trace->chunks; i++) {
        uint64_t place = RCUTRACE_HEADER_SIZE + i * chunk_size, at = RCUTRACE_CHUNK_HEADER;
        const struct rcutrace_chunk *chunk = (const void *)(trace->bytes + place);
        struct record record = {.chunk = i};
        bool context = false;

        if (place + chunk_size > trace->size || chunk->magic != RCUTRACE_CHUNK_MAGIC) {
            trace->holes++;
            continue;
        }
        if (chunk->committed > chunk_size || chunk->committed < RCUTRACE_CHUNK_HEADER ||
            chunk->committed % 8)
            fail("chunk %llu: committed %llu", (unsigned long long)i,
                 (unsigned long long)chunk->committed);
        while (at < chunk->committed) {
            const uint64_t *word = (const void *)(trace->bytes + place + at);
            uint64_t low = *word >> 16;

            record.type = *word & 255;
            record.words = (unsigned)(*word >> 8 & 255) - 1;
            record.payload = word + 1;
            at += (record.words + 1) * 8;
            if (!(*word >> 8 & 255) || at > chunk->committed || !record.type)
                fail("chunk %llu: a broken record before %llu", (unsigned long long)i,
                     (unsigned long long)at);
            if (record.type == RCUTRACE_CONTEXT) {
                record.pid = (uint32_t)word[1];
                record.tid = (uint32_t)(word[1] >> 32);
                record.time = word[2];
                record.image = word[3];
                context = true;
            } else {
                if (!context)
                    fail("chunk %llu does not begin with a context", (unsigned long long)i);
                /* The difference modulo 2^48, signed. */
                record.time += (uint64_t)((int64_t)((low - record.time) << 16) >> 16);
            }
            if (record.type == RCUTRACE_LOST)
                trace->lost += word[1];
            trace->records++;
            if (show)
                show(&record, data);
        }
    }
    munmap((void *)(uintptr_t)trace->bytes, trace->size);
}

#endif
