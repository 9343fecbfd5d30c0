/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where the code of the module is that has a function. */
#ifndef TEXT_H
#define TEXT_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

struct text {
    uintptr_t function, begin, end;
};

static int look_for_text(struct dl_phdr_info *object, size_t size, void *found)
{
    struct text *text = found;

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t begin = object->dlpi_addr + part->p_vaddr, end = begin + part->p_memsz;

        if (part->p_type == PT_LOAD && part->p_flags & PF_X && begin <= text->function && text->function < end) {
            text->begin = begin;
            text->end = end;
        }
    }
    return 0;
}

/* False: nowhere. */
static bool find_text(struct text *text, void *function)
{
    text->function = (uintptr_t)function;
    text->begin = text->end = 0;
    dl_iterate_phdr(look_for_text, text);
    return text->end != 0;
}
#endif
