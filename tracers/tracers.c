/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tracers: made known, attached, detached. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "recorder.h"

const char *tracers_at_start;
bool tracers_start;

/* In the order in which they became known; only ever appended to. */
static struct rcutrace_tracer *first;
static unsigned next_id = RCUTRACE_FIRST_EVENT;

static bool announce(const struct rcutrace_tracer *tracer)
{
    bool all = true;

    for (size_t i = 0; all && i < tracer->event_count; i++) {
        const struct rcutrace_event *event = &tracer->events[i];
        const uint64_t id = event->id;
        const struct piece pieces[] = {{&process.image, 8},
                                       {&id, 8},
                                       {event->description, strlen(event->description) + 1}};

        all = record_own(RCUTRACE_TYPE, pieces, 3);
    }
    return all;
}

bool tracers_announce(void)
{
    const struct rcutrace_tracer *tracer = __atomic_load_n(&first, __ATOMIC_ACQUIRE);
    bool all = true;

    for (; all && tracer; tracer = __atomic_load_n(&tracer->next, __ATOMIC_ACQUIRE))
        all = announce(tracer);
    return all;
}

static void record_state(const struct rcutrace_tracer *tracer)
{
    const uint64_t attached = tracer->attached;
    const struct piece pieces[] = {{&process.image, 8},
                                   {&attached, 8},
                                   {tracer->name, strlen(tracer->name) + 1}};

    record_own(RCUTRACE_STATE, pieces, 3);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The length of the first name of a list. */
static size_t name_length(const char *names)
{
    return strcspn(names, ",");
}

static struct rcutrace_tracer *find(const char *name, size_t length)
{
    for (struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        if (strlen(tracer->name) == length && !memcmp(tracer->name, name, length))
            return tracer;
    return NULL;
}

static bool is_named(const struct rcutrace_tracer *tracer, const char *names)
{
    if (!strcmp(names, "all"))
        return true;
    for (;; names++) {
        size_t length = name_length(names);

        if (strlen(tracer->name) == length && !memcmp(tracer->name, names, length))
            return true;
        names += length;
        if (!*names)
            return false;
    }
}

bool tracers_known(const char *names, char *why, size_t size)
{
    if (!strcmp(names, "all"))
        return true;
    for (;; names++) {
        size_t length = name_length(names);

        if (!find(names, length)) {
            snprintf(why, size, "there is no tracer '%.*s' here", length > 100 ? 100 : (int)length,
                     names);
            return false;
        }
        names += length;
        if (!*names)
            return true;
    }
}

/* ---- attach and detach ----------------------------------------------------------------------- */

static int attach(struct rcutrace_tracer *tracer)
{
    int error = tracer->attached ? 0 : tracer->attach();

    tracer->fresh = !error && !tracer->attached;
    if (tracer->fresh) {
        tracer->attached = true;
        record_state(tracer);
    }
    return error;
}

static void wait_for_probes(void)
{
    synchronize_rcu_tasks_trace();
    synchronize_rcu();
}

bool tracers_any_attached(void)
{
    for (const struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        if (tracer->attached)
            return true;
    return false;
}

/* All of a kind first, so that one wait does for them. */
static void detach_those(bool (*which)(const struct rcutrace_tracer *, const char *), const char *names)
{
    for (struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        if (tracer->attached && which(tracer, names))
            tracer->detach();
    wait_for_probes();
    for (struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        if (tracer->attached && which(tracer, names)) {
            tracer->attached = false;
            record_state(tracer);
        }
}

static void detach_named(const char *names)
{
    detach_those(is_named, names);
}

static bool is_fresh(const struct rcutrace_tracer *tracer, const char *unused)
{
    (void)unused;
    return tracer->fresh;
}

/* All of them, or none: those that were attached before stay so. */
int tracers_attach(const char *names, char *why, size_t size)
{
    if (!tracers_known(names, why, size))
        return -ENOENT;
    for (struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        tracer->fresh = false;
    for (struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next) {
        int error = is_named(tracer, names) ? attach(tracer) : 0;

        if (error) {
            snprintf(why, size, "%s does not attach: %s", tracer->name, strerror(-error));
            detach_those(is_fresh, NULL);
            return error;
        }
    }
    return 0;
}

int tracers_detach(const char *names, char *why, size_t size)
{
    if (!tracers_known(names, why, size))
        return -ENOENT;
    detach_named(names);
    return 0;
}

void tracers_toggle(void)
{
    char names[1024] = "";
    char why[256];
    size_t used = 0;

    for (const struct rcutrace_tracer *tracer = first; tracer; tracer = tracer->next)
        if (tracer->attached && used + strlen(tracer->name) + 2 < sizeof(names))
            used += (size_t)sprintf(names + used, "%s%s", used ? "," : "", tracer->name);
    if (!used)
        return;
    detach_named(names);
    tracers_attach(names, why, sizeof(why));
}

void tracers_complain(void)
{
    char why[256];

    if (tracers_start && tracers_at_start && *tracers_at_start &&
        !tracers_known(tracers_at_start, why, sizeof(why)))
        process_complain("rcutrace: RCUTRACE_ATTACH: %s", why);
}

void tracers_status(char *text, size_t size)
{
    size_t used = 0;

    *text = 0;
    for (const struct rcutrace_tracer *tracer = first; tracer && used < size;
         tracer = tracer->next)
        used += (size_t)snprintf(text + used, size - used, "\t%s=%s", tracer->name,
                                 tracer->attached ? "attached" : "detached");
}

/* ---- becoming known -------------------------------------------------------------------------- */

EXPORT void rcutrace_add_tracer(struct rcutrace_tracer *tracer)
{
    struct rcutrace_tracer **last = &first;
    struct own before;
    int error;

    own_begin(&before);
    pthread_mutex_lock(&recorder_lock);
    if (next_id + tracer->event_count > 256) {
        process_complain("rcutrace: no more than %d events: %s is left out",
                         256 - RCUTRACE_FIRST_EVENT, tracer->name);
        pthread_mutex_unlock(&recorder_lock);
        own_end(&before);
        return;
    }
    for (size_t i = 0; i < tracer->event_count; i++)
        tracer->events[i].id = (uint8_t)next_id++;
    tracer->next = NULL;
    tracer->attached = false;
    while (*last)
        last = &(*last)->next;
    __atomic_store_n(last, tracer, __ATOMIC_RELEASE);
    /* Else whoever announces the image does it. */
    if (session_current && session_current->announced)
        announce(tracer);
    if (tracers_start && (!tracers_at_start || is_named(tracer, tracers_at_start))) {
        error = attach(tracer);
        if (error)
            process_complain("rcutrace: %s does not attach: %s", tracer->name, strerror(-error));
    }
    pthread_mutex_unlock(&recorder_lock);
    own_end(&before);
}
