/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which files are mapped with code in them, and under which build ids: what addresses mean.
 *
 * The table of them is the MAP records' contents, ready to be recorded by whoever begins an image, in any
 * context: a forked child has its parent's maps. It is replaced under RCU.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recorder.h"
#include "sys.h"

enum { MOST_OBJECTS = 4096, ID_SIZE = 64, TEXT_SIZE = 8 << 20 };

struct entry {
    uint32_t size; /* of the contents; entries stand 8 bytes aligned, the last has size 0 */
    uint32_t reserved;
    uint64_t start, end, offset;
    uint32_t flags, id_size;
    char id_and_path[];
};
enum { ENTRY_HEADER = offsetof(struct entry, start), MAP_HEADER = 32 };

struct object {
    uintptr_t start, end;
    uint32_t id_size;
    unsigned char id[ID_SIZE];
};

struct objects {
    size_t count;
    struct object object[MOST_OBJECTS];
};

/* RCU-protected; TEXT_SIZE bytes, most of them untouched. */
static struct entry *table;
static unsigned long long seen_adds;

static const char *contents(const struct entry *entry)
{
    return (const char *)entry + ENTRY_HEADER;
}

static struct entry *next_entry(const struct entry *entry)
{
    return (struct entry *)((uintptr_t)contents(entry) + (entry->size + 7u) / 8 * 8);
}

/* ---- the loader's objects -------------------------------------------------------------------- */

static void read_id(struct object *object, const char *note, size_t size)
{
    while (size >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *header = (const void *)note;
        size_t name = (header->n_namesz + 3u) & ~3u, length = (header->n_descsz + 3u) & ~3u;

        if (sizeof(*header) + name + length > size)
            return;
        if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 &&
            !memcmp(note + sizeof(*header), "GNU", 4) && header->n_descsz <= ID_SIZE) {
            memcpy(object->id, note + sizeof(*header) + name, header->n_descsz);
            object->id_size = header->n_descsz;
            return;
        }
        note += sizeof(*header) + name + length;
        size -= sizeof(*header) + name + length;
    }
}

static int add_object(struct dl_phdr_info *info, size_t size, void *data)
{
    struct objects *objects = data;
    struct object *object = &objects->object[objects->count];

    (void)size;
    if (objects->count == MOST_OBJECTS)
        return 1;
    object->start = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD) {
            if (start < object->start)
                object->start = start;
            if (start + part->p_memsz > object->end)
                object->end = start + part->p_memsz;
        } else if (part->p_type == PT_NOTE && !object->id_size) {
            read_id(object, (const char *)start, part->p_memsz);
        }
    }
    objects->count++;
    return 0;
}

static int read_adds(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    *(unsigned long long *)data = info->dlpi_adds;
    return 1;
}

/* ---- the kernel's list ----------------------------------------------------------------------- */

static size_t read_all(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    struct stat file;
    ssize_t got;

    if (fd < 0 || sys_fstat(fd, &file))
        return 0;
    while (used < size - 1 && (got = pread(fd, text + used, size - 1 - used, (off_t)used)) > 0)
        used += (size_t)got;
    sys_close_if(fd, &file);
    text[used] = 0;
    return used;
}

/* One line; false if it is none of ours. */
static bool parse(char *line, struct entry *entry, const struct objects *objects)
{
    const struct object *object = NULL;
    size_t path_size;
    char *at, *path;

    entry->start = strtoull(line, &at, 16);
    entry->end = strtoull(at + (*at == '-'), &at, 16);
    if (strnlen(at, 6) < 6 || at[3] != 'x')
        return false;
    entry->offset = strtoull(at + 6, &at, 16);
    path = strpbrk(at, "/[");
    if (!path || (*path == '[' && strcmp(path, "[vdso]")))
        return false;
    for (size_t i = 0; i < objects->count && !object; i++)
        if (objects->object[i].start < entry->end &&
            objects->object[i].end > entry->start)
            object = &objects->object[i];
    entry->flags = 1;
    entry->id_size = object ? object->id_size : 0;
    if (object)
        memcpy(entry->id_and_path, object->id, object->id_size);
    path_size = strlen(path) + 1;
    if (path_size > MOST_PAYLOAD - 8 - MAP_HEADER - ID_SIZE)
        path_size = MOST_PAYLOAD - 8 - MAP_HEADER - ID_SIZE;
    memcpy(entry->id_and_path + entry->id_size, path, path_size);
    entry->id_and_path[entry->id_size + path_size - 1] = 0;
    entry->size = (uint32_t)(MAP_HEADER + entry->id_size + path_size);
    return true;
}

static void parse_all(char *text, struct entry *entry, const struct objects *objects)
{
    const char *limit = (const char *)entry + TEXT_SIZE - 4096;

    for (char *line = text, *end; *line && (const char *)entry < limit; line = end) {
        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = 0;
        if (parse(line, entry, objects))
            entry = next_entry(entry);
    }
    entry->size = 0;
}

/* ---- recording ------------------------------------------------------------------------------- */

static bool record(const struct entry *entry)
{
    const struct piece pieces[] = {{&process.image, 8}, {contents(entry), entry->size}};

    return record_own(RCUTRACE_MAP, pieces, 2);
}

static bool has(const struct entry *entry, const struct entry *wanted)
{
    for (; entry->size; entry = next_entry(entry))
        if (entry->size == wanted->size && !memcmp(contents(entry), contents(wanted), entry->size))
            return true;
    return false;
}

static void *get_pages(size_t size)
{
    return sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void maps_renew(bool surely)
{
    unsigned long long adds = 0;
    struct entry *fresh, *old = table;
    struct objects *objects;
    char *text;

    dl_iterate_phdr(read_adds, &adds);
    if (!surely && adds == seen_adds)
        return;
    fresh = get_pages(TEXT_SIZE);
    objects = get_pages(sizeof(*objects));
    text = get_pages(TEXT_SIZE);
    /* Not /proc/self, which is empty once the main thread has gone. Where there is no /proc, or no descriptor, what was
     * known stays so, for children too. */
    if (fresh && objects && text && read_all("/proc/thread-self/maps", text, TEXT_SIZE)) {
        seen_adds = adds;
        dl_iterate_phdr(add_object, objects);
        parse_all(text, fresh, objects);
        rcu_assign_pointer(table, fresh);
        if (session_current && session_current->announced)
            for (struct entry *entry = fresh; entry->size; entry = next_entry(entry))
                if (!old || !has(old, entry))
                    record(entry);
        fresh = old;
        if (old)
            synchronize_rcu();
    }
    if (fresh)
        sys_munmap(fresh, TEXT_SIZE);
    if (objects)
        sys_munmap(objects, sizeof(*objects));
    if (text)
        sys_munmap(text, TEXT_SIZE);
}

bool maps_announce(void)
{
    struct entry *entry;
    bool all = true;

    rcu_read_lock_notrace();
    entry = rcu_dereference(table);
    for (; all && entry && entry->size; entry = next_entry(entry))
        all = record(entry);
    rcu_read_unlock_notrace();
    return all;
}
