/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tracepoints guarded by notrace RCU, with the kernel's macros (linux/tracepoint.h). C99, C++11, and later.
 *
 * In a header:
 *
 *     DECLARE_TRACE(request, TP_PROTO(int id, const char *what), TP_ARGS(id, what));
 *
 * in one source file:
 *
 *     EXPORT_TRACEPOINT_SYMBOL(request);         if other shared objects use it
 *     DEFINE_TRACE(request, TP_PROTO(int id, const char *what), TP_ARGS(id, what));
 *
 * where it happens, in any context (signal handlers, under malloc's or the loader's locks, ...):
 *
 *     trace_request(7, "begin");
 *     if (trace_request_enabled()) { costly preparation; trace_request(...); }
 *
 * and who wants to know:
 *
 *     static void probe(void *data, int id, const char *what) { ... }
 *     register_trace_request(probe, data);       0, -EEXIST, -EINVAL, -ENOMEM, -EPERM, -EDEADLK
 *     unregister_trace_request(probe, data);     0, -ENOENT, -EDEADLK
 *     tracepoint_synchronize_unregister();       from here on no probe that was unregistered runs
 *
 * What a disabled tracepoint costs: an instruction that does nothing and a nop. Enabled, the first is
 * patched to a jump, while threads run. Where code cannot be patched (mprotect(2) of code or membarrier's
 * SYNC_CORE command refused, the module was loaded while other threads ran, the library's own for callbacks
 * among them; RCU_NOTRACE_KEYS=load in the environment), it is a compare with memory and a predicted branch.
 * rcu_notrace_get_tracepoint_stats() tells. Other machines than x86-64, and RCU_NOTRACE_NO_JUMP_LABELS: a load of
 * the tracepoint's address, one of its array's, a test and a branch.
 *
 * With gcc's -flto, whose linker does not look into assembly: a tracepoint that a member of an archive defines, and that
 * is mentioned by nothing but trace_NAME_enabled(), is undefined without -Wl,-u,__tracepoint_NAME.
 *
 * Probes run in a read-side section of this library, the highest priority first, those of one priority in
 * the order of their registration. A probe that comes to the tracepoint that it is called by recurses; what it needs
 * against that is its own affair, apart from the library's own tracepoints (rcu_notrace/rcu.h).
 *
 *                                            signal   under locks   allocates  blocks
 *                                            handler
 *   trace_NAME, trace_NAME_enabled           yes      yes           no         no
 *   register_trace_NAME,
 *   register_trace_prio_NAME,
 *   tracepoint_probe_register,
 *   tracepoint_probe_register_prio,
 *   rcu_notrace_module_coming                no       no            yes        microseconds, a lock
 *   unregister_trace_NAME,
 *   tracepoint_probe_unregister,
 *   rcu_notrace_module_going                 no       no            if it can  the same
 *   tracepoint_synchronize_unregister        no       no            may        as synchronize_rcu()
 *   for_each_tracepoint,
 *   rcu_notrace_find_tracepoint,
 *   rcu_notrace_get_tracepoint_stats         no       no            no         the lock
 *
 * Not in a probe, nor in any section: registering (-EDEADLK and a message), waiting (message and abort). Unregistering
 * is refused there, likewise, if there is an unregfunc, or another thread has the lock for more than a second: it may be
 * waiting for this section.
 * Under the lock, that is in regfunc, unregfunc and what
 * for_each_tracepoint calls, also not these: rcu_notrace_get_tracepoint_stats(), find_tracepoint (the process ends with
 * a message); and nothing that takes the loader's lock (dlopen, dlclose, dlsym, dladdr), which another thread may have
 * that loads a module with tracepoints, and waits for this one. exit() may be called there, unless a destructor
 * unregisters probes; fork() waits for such a function, for a second at most. A walk over modules of which one goes
 * meanwhile ends there.
 *
 * A probe's code and data stay until it was unregistered and tracepoint_synchronize_unregister() has returned: so
 * before the module (shared object) that they lie in is unloaded. The same before the module of the tracepoint
 * itself is: the array of probes that are left is lost, and the tracepoint's address is worth nothing.
 */
#ifndef RCU_NOTRACE_TRACEPOINT_H
#define RCU_NOTRACE_TRACEPOINT_H

#include <rcu_notrace.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what is behind it ---------------------------------------------------------------------- */

/* A probe of a tracepoint. The array of them ends with one whose function is NULL. */
struct tracepoint_func {
    void (*func)(void);
    void *data;
    int prio;
};

struct rcu_notrace_site;

/* Read only for programs: name, proto. */
struct tracepoint {
    const char *name;
    const char *proto;                  /* its parameters, as text */
    struct tracepoint_func *funcs;      /* RCU-protected; NULL: disabled */
    struct rcu_notrace_site *sites;     /* where it is in the code; the library's */
    int (*regfunc)(void);               /* called before the first probe is registered, or NULL */
    void (*unregfunc)(void);            /* after the last one was unregistered, or NULL */
    uint32_t flags;
    uint32_t reserved;
};

/* flags: its probes may fault, or block; they run in sections of rcu_read_lock_trace(). */
#define RCU_NOTRACE_MAY_FAULT 1u

/* A place in the code. The code is patched if it can be; if not, it tests `enabled`. */
struct rcu_notrace_site {
    int32_t code;   /* relative to this field: the instruction */
    int32_t target; /* relative to this field: where it jumps if the tracepoint is enabled */
    struct tracepoint *tracepoint;
    struct rcu_notrace_site *next;
    uint8_t enabled;
    uint8_t form;   /* 0: not seen by the library yet */
    uint8_t reserved[6];
};

/* What one executable or shared object has of both. */
struct rcu_notrace_module {
    struct rcu_notrace_module *next;
    struct rcu_notrace_site *sites, *sites_end;
    struct tracepoint **tracepoints, **tracepoints_end;
    uint64_t listed;
};

RCU_NOTRACE_STATIC_ASSERT(sizeof(struct tracepoint) == 56 && sizeof(struct rcu_notrace_site) == 32 &&
                              sizeof(struct rcu_notrace_module) == 48,
                          "the library's Tracepoint, Site and Module");

struct rcu_notrace_tracepoint_stats {
    uint64_t tracepoints;    /* defined, in all modules; and RCU's own */
    uint64_t sites_patched;  /* places in the code that are patched */
    uint64_t sites_loaded;   /* that load and test */
    uint64_t flips;          /* how often a tracepoint was enabled or disabled */
    uint64_t sync_core;      /* membarrier(2) calls for it, and for modules that were loaded */
    uint64_t dropped;        /* events of the library's own that came up in a probe of such an event */
};

void rcu_notrace_module_coming(struct rcu_notrace_module *module);
void rcu_notrace_module_going(struct rcu_notrace_module *module);

extern struct rcu_notrace_site __start___rcu_notrace_sites[]
    __attribute__((weak, visibility("hidden")));
extern struct rcu_notrace_site __stop___rcu_notrace_sites[]
    __attribute__((weak, visibility("hidden")));
extern struct tracepoint *__start___rcu_notrace_tracepoints[]
    __attribute__((weak, visibility("hidden")));
extern struct tracepoint *__stop___rcu_notrace_tracepoints[]
    __attribute__((weak, visibility("hidden")));

/* One for each module, whatever number of its files include this. */
__attribute__((weak, visibility("hidden"))) struct rcu_notrace_module rcu_notrace_this_module = {
    NULL,
    __start___rcu_notrace_sites,
    __stop___rcu_notrace_sites,
    __start___rcu_notrace_tracepoints,
    __stop___rcu_notrace_tracepoints,
    0,
};

/* Before the module's ordinary constructors, and after its destructors. */
void rcu_notrace_module_begins(void);
void rcu_notrace_module_ends(void);
__attribute__((weak, visibility("hidden"), no_instrument_function, constructor(101))) void
rcu_notrace_module_begins(void)
{
    rcu_notrace_module_coming(&rcu_notrace_this_module);
}

__attribute__((weak, visibility("hidden"), no_instrument_function, destructor(101))) void
rcu_notrace_module_ends(void)
{
    rcu_notrace_module_going(&rcu_notrace_this_module);
}

/* The array of probes, and what is in it. ThreadSanitizer does not see who fills it: it is read behind its back. */
#ifdef RCU_NOTRACE_TSAN
RCU_NOTRACE_TSAN_FUNCTION struct tracepoint_func *rcu_notrace_tsan_probes(struct tracepoint *tp)
{
    struct tracepoint_func *probes = *(struct tracepoint_func *volatile *)&tp->funcs;

    __tsan_acquire(tp);
    return probes;
}

RCU_NOTRACE_TSAN_FUNCTION void *rcu_notrace_tsan_data(struct tracepoint_func *probe)
{
    return *(void *volatile *)&probe->data;
}

RCU_NOTRACE_TSAN_FUNCTION void (*rcu_notrace_tsan_func(struct tracepoint_func *probe))(void)
{
    return *(void (*volatile *)(void)) & probe->func;
}

#define RCU_NOTRACE_PROBES(tp) rcu_notrace_tsan_probes(tp)
#define RCU_NOTRACE_PROBE_DATA(probe) rcu_notrace_tsan_data(probe)
#define RCU_NOTRACE_PROBE_FUNC(probe) rcu_notrace_tsan_func(probe)
#else
#define RCU_NOTRACE_PROBES(tp) rcu_dereference((tp)->funcs)
#define RCU_NOTRACE_PROBE_DATA(probe) ((probe)->data)
#define RCU_NOTRACE_PROBE_FUNC(probe) rcu_access_pointer((probe)->func)
#endif

#define RCU_NOTRACE_PARAMS(...) __VA_ARGS__
#define RCU_NOTRACE_TEXT(...) #__VA_ARGS__

/*
 * Whether the tracepoint is enabled: true or false by the code itself.
 *
 * Thirteen bytes, born as `cmpb $0, enabled(%rip); jne`, which src/tracepoint/site.rs turns into
 * `test $offset, %eax` and a nop, or `jmp offset` and a nop: one byte apart.
 *
 * The table's entry shares the fate of its function (the section flag `?`): of an inline C++ function that
 * several files have, the linker drops all but one, with their entries.
 */
#if defined(__x86_64__) && !defined(RCU_NOTRACE_NO_JUMP_LABELS)
#define RCU_NOTRACE_ENABLED(name) \
    __asm__ goto("1:\tcmpb $0, 3f(%%rip)\n\t" \
                 ".byte 0x0f, 0x85\n\t" \
                 ".long %l[enabled] - . - 4\n\t" \
                 ".pushsection __rcu_notrace_sites, \"aw?\"\n\t" \
                 ".balign 8\n\t" \
                 ".long 1b - .\n\t" \
                 ".long %l[enabled] - .\n\t" \
                 ".quad __tracepoint_" #name ", 0\n" \
                 "3:\t.quad 0\n\t" \
                 ".popsection" \
                 : \
                 : \
                 : "cc" \
                 : enabled); \
    return 0; \
    enabled: \
    RCU_NOTRACE_COLD; \
    return 1
#else
#define RCU_NOTRACE_ENABLED(name) \
    return __builtin_expect( \
        __atomic_load_n(&rcu_notrace_tracepoint_##name()->funcs, __ATOMIC_RELAXED) != NULL, 0)
#endif
#ifndef RCU_NOTRACE_COLD
#define RCU_NOTRACE_COLD
#endif

/*
 * The tracepoint's address: a load from writable data, where the dynamic linker fills it in. Were it in the
 * code, an executable would get a copy of another module's tracepoint (R_X86_64_COPY, R_AARCH64_COPY): probes would
 * be registered there, and the module look for them in its own. volatile, or the compiler puts it there.
 */
#define RCU_NOTRACE_TRACEPOINT(name) \
    static struct tracepoint *volatile tracepoint = &__tracepoint_##name; \
    return tracepoint

/* ---- by any tracepoint's address ------------------------------------------------------------- */

/*
 * The generic functions under the macros, for a tracepoint that was found at run time: the probe's
 * type is not checked; `proto` says what it must be.
 *
 * tracepoint_probe_register_prio: the higher `prio` runs earlier; TRACEPOINT_DEFAULT_PRIO otherwise.
 * Returns 0, or -EINVAL (no function), -EEXIST (this function with these data is registered), -ENOMEM,
 * -EPERM (code was patched when the program started, and may not be any more; nothing is enabled, but the probe may have
 * been called meanwhile: its data stay until tracepoint_synchronize_unregister() has returned), or what
 * regfunc returned;
 * -EINVAL, -EEXIST and -EPERM with a message. -EDEADLK, with a message: in a section.
 *
 * tracepoint_probe_unregister: 0, or -ENOENT, or -EDEADLK as above, with a message. Does not fail for want of memory. The probe
 * may still run until tracepoint_synchronize_unregister() has returned, which is to be called before its
 * data are freed or its module is unloaded.
 *
 * for_each_tracepoint calls fct(tracepoint, priv) for each one that is defined in a module that is loaded; fct must
 * not register, unregister or load modules. rcu_notrace_find_tracepoint: the first by that name, or NULL.
 *
 * rcu_notrace_get_tracepoint_stats: pass the structure's size; later versions append to it.
 *
 * Kernel: the same names; for_each_kernel_tracepoint().
 */
#define TRACEPOINT_DEFAULT_PRIO 10
#ifndef RCU_NOTRACE_TSAN
int tracepoint_probe_register(struct tracepoint *tp, void (*probe)(void), void *data);
int tracepoint_probe_register_prio(struct tracepoint *tp, void (*probe)(void), void *data, int prio);
int tracepoint_probe_unregister(struct tracepoint *tp, void (*probe)(void), void *data);
void tracepoint_synchronize_unregister(void);
#else
/* The edges: what comes before a registration, to the probes that run after it; sections, to who waited for them. */
RCU_NOTRACE_DECLARE_REAL(int, tracepoint_probe_register_prio, (struct tracepoint *, void (*)(void), void *, int));
RCU_NOTRACE_DECLARE_REAL(int, tracepoint_probe_unregister, (struct tracepoint *, void (*)(void), void *));
RCU_NOTRACE_DECLARE_REAL(void, tracepoint_synchronize_unregister, (void));

/* The runtime's: the array that is allocated meanwhile is nobody's write. The library's worker frees it. */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

RCU_NOTRACE_TSAN_WRAPPER(int, tracepoint_probe_register_prio,
                         (struct tracepoint *tp, void (*probe)(void), void *data, int prio))
{
    int result;

    __tsan_release(tp);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    result = RCU_NOTRACE_REAL(tracepoint_probe_register_prio)(tp, probe, data, prio);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    return result;
}

RCU_NOTRACE_TSAN_WRAPPER(int, tracepoint_probe_unregister, (struct tracepoint *tp, void (*probe)(void), void *data))
{
    int result;

    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    result = RCU_NOTRACE_REAL(tracepoint_probe_unregister)(tp, probe, data);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    return result;
}

RCU_NOTRACE_TSAN_WRAPPER(int, tracepoint_probe_register, (struct tracepoint *tp, void (*probe)(void), void *data))
{
    return tracepoint_probe_register_prio(tp, probe, data, TRACEPOINT_DEFAULT_PRIO);
}

RCU_NOTRACE_TSAN_WRAPPER(void, tracepoint_synchronize_unregister, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu_tasks_trace);
    RCU_NOTRACE_REAL(tracepoint_synchronize_unregister)();
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_notrace);
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_trace);
}
#endif
void for_each_tracepoint(void (*fct)(struct tracepoint *tp, void *priv), void *priv);
struct tracepoint *rcu_notrace_find_tracepoint(const char *name);
void rcu_notrace_get_tracepoint_stats(struct rcu_notrace_tracepoint_stats *stats, size_t size);

#ifdef __cplusplus
}
#define RCU_NOTRACE_BEGIN_C extern "C" {
#define RCU_NOTRACE_END_C }
/* What the semicolon behind a macro ends. In a namespace `struct tracepoint;` would be a new class. */
#define RCU_NOTRACE_UNTIL_SEMICOLON static_assert(true, "")
#else
#define RCU_NOTRACE_BEGIN_C
#define RCU_NOTRACE_END_C
#define RCU_NOTRACE_UNTIL_SEMICOLON struct tracepoint
#endif

/* ---- declaring ------------------------------------------------------------------------------- */

#define TP_PROTO(...) __VA_ARGS__
#define TP_ARGS(...) __VA_ARGS__
#define TP_CONDITION(...) __VA_ARGS__

/*
 * DECLARE_TRACE(name, TP_PROTO(...), TP_ARGS(...)) - a tracepoint, and its functions (see above)
 * DECLARE_TRACE_CONDITION(name, TP_PROTO(...), TP_ARGS(...), TP_CONDITION(...)) - its probes run if the
 *     condition holds, which is evaluated when it is enabled only
 * DECLARE_TRACE_SYSCALL(name, TP_PROTO(...), TP_ARGS(...)) - its probes may fault, block, or take long:
 *     they run under guard(rcu_tasks_trace)()
 * DECLARE_TRACE_NOARGS(name) - without parameters
 *
 * Each is also what DEFINE_TRACE() wants to have seen. Cost of trace_NAME(): see above; enabled, with one
 * probe, a section and a call.
 */
#define DECLARE_TRACE(name, proto, args) \
    RCU_NOTRACE_DECLARE(name, RCU_NOTRACE_PARAMS(proto), RCU_NOTRACE_PARAMS(args), 1, rcu_notrace, 0u, \
                        RCU_NOTRACE_PARAMS(void *rcu_notrace_data, proto), RCU_NOTRACE_PARAMS(rcu_notrace_data, args))
#define DECLARE_TRACE_CONDITION(name, proto, args, condition) \
    RCU_NOTRACE_DECLARE(name, RCU_NOTRACE_PARAMS(proto), RCU_NOTRACE_PARAMS(args), condition, \
                        rcu_notrace, 0u, RCU_NOTRACE_PARAMS(void *rcu_notrace_data, proto), \
                        RCU_NOTRACE_PARAMS(rcu_notrace_data, args))
#define DECLARE_TRACE_SYSCALL(name, proto, args) \
    RCU_NOTRACE_DECLARE(name, RCU_NOTRACE_PARAMS(proto), RCU_NOTRACE_PARAMS(args), 1, rcu_tasks_trace, \
                        RCU_NOTRACE_MAY_FAULT, RCU_NOTRACE_PARAMS(void *rcu_notrace_data, proto), \
                        RCU_NOTRACE_PARAMS(rcu_notrace_data, args))
#define DECLARE_TRACE_NOARGS(name) \
    RCU_NOTRACE_DECLARE(name, void, , 1, rcu_notrace, 0u, void *rcu_notrace_data, rcu_notrace_data)

#define RCU_NOTRACE_DECLARE(name, proto, args, condition, section, may_fault, data_proto, data_args) \
    RCU_NOTRACE_DECLARE_PROBES(name, may_fault, RCU_NOTRACE_PARAMS(data_proto)) \
    RCU_NOTRACE_INLINE int trace_##name##_enabled(void) \
    { \
        RCU_NOTRACE_ENABLED(name); \
    } \
    RCU_NOTRACE_INLINE void __do_trace_##name(proto) \
    { \
        if (condition) { \
            RCU_NOTRACE_CLASS(section, rcu_notrace_section)(); \
            struct tracepoint_func *rcu_notrace_probe = \
                RCU_NOTRACE_PROBES(rcu_notrace_tracepoint_##name()); \
            void *rcu_notrace_data; \
            if (!rcu_notrace_probe) \
                return; \
            do { \
                rcu_notrace_data = RCU_NOTRACE_PROBE_DATA(rcu_notrace_probe); \
                ((void (*)(data_proto))RCU_NOTRACE_PROBE_FUNC(rcu_notrace_probe))(data_args); \
                ++rcu_notrace_probe; \
            } while (RCU_NOTRACE_PROBE_FUNC(rcu_notrace_probe)); \
        } \
    } \
    RCU_NOTRACE_INLINE void trace_##name(proto) \
    { \
        if (trace_##name##_enabled()) \
            __do_trace_##name(args); \
    } \
    RCU_NOTRACE_UNTIL_SEMICOLON

/* The half of those who register probes. */
#define RCU_NOTRACE_DECLARE_PROBES(name, may_fault, data_proto) \
    RCU_NOTRACE_BEGIN_C extern struct tracepoint __tracepoint_##name; \
    RCU_NOTRACE_END_C enum { rcu_notrace_flags_##name = may_fault }; \
    RCU_NOTRACE_INLINE struct tracepoint *rcu_notrace_tracepoint_##name(void) \
    { \
        RCU_NOTRACE_TRACEPOINT(name); \
    } \
    RCU_NOTRACE_INLINE int register_trace_prio_##name(void (*probe)(data_proto), void *probe_data, \
                                                      int prio) \
    { \
        rcu_notrace_module_coming(&rcu_notrace_this_module); \
        return tracepoint_probe_register_prio(rcu_notrace_tracepoint_##name(), \
                                              (void (*)(void))probe, probe_data, prio); \
    } \
    RCU_NOTRACE_INLINE int register_trace_##name(void (*probe)(data_proto), void *probe_data) \
    { \
        return register_trace_prio_##name(probe, probe_data, TRACEPOINT_DEFAULT_PRIO); \
    } \
    RCU_NOTRACE_INLINE int unregister_trace_##name(void (*probe)(data_proto), void *probe_data) \
    { \
        return tracepoint_probe_unregister(rcu_notrace_tracepoint_##name(), (void (*)(void))probe, \
                                           probe_data); \
    } \
    RCU_NOTRACE_INLINE void check_trace_callback_type_##name(void (*probe)(data_proto)) \
    { \
        (void)probe; \
    }

/* ---- defining -------------------------------------------------------------------------------- */

/*
 * DEFINE_TRACE(name, TP_PROTO(...), TP_ARGS(...)) - the tracepoint itself, in one file of one module that
 *     has seen its declaration. Private to its module if that is compiled with -fvisibility=hidden.
 *     In C++ in the namespace of the declaration; the name is one for all namespaces.
 * DEFINE_TRACE_FN(name, regfunc, unregfunc, TP_PROTO(...), TP_ARGS(...)) - the same, and regfunc() is
 *     called before the first probe is registered (an errno, negated, refuses it), unregfunc()
 *     after the last one is gone. Both under the lock of registration.
 * DEFINE_TRACE_NOARGS(name)
 * EXPORT_TRACEPOINT_SYMBOL(name) - before it: other modules may use it, whatever -fvisibility says
 */
#define DEFINE_TRACE(name, proto, args) \
    DEFINE_TRACE_FN(name, NULL, NULL, RCU_NOTRACE_PARAMS(proto), RCU_NOTRACE_PARAMS(args))
#define DEFINE_TRACE_NOARGS(name) DEFINE_TRACE_FN(name, NULL, NULL, void, )
/* `retain`: to linkers with -z start-stop-gc, as ld.lld has by default, what only the bounds of its table refer to is
 * garbage. Compilers that do not have it are not to warn; -Wl,-z,nostart-stop-gc does the same there. */
#define DEFINE_TRACE_FN(name, reg, unreg, proto, args) \
    RCU_NOTRACE_BEGIN_C __attribute__((used)) struct tracepoint __tracepoint_##name = { \
        #name, RCU_NOTRACE_TEXT(proto), NULL, NULL, reg, unreg, rcu_notrace_flags_##name, 0, \
    }; \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wattributes\"") \
    static struct tracepoint *rcu_notrace_definition_##name \
        __attribute__((used, retain, section("__rcu_notrace_tracepoints"))) = &__tracepoint_##name; \
    _Pragma("GCC diagnostic pop") \
    RCU_NOTRACE_END_C RCU_NOTRACE_UNTIL_SEMICOLON
#define EXPORT_TRACEPOINT_SYMBOL(name) \
    RCU_NOTRACE_BEGIN_C extern struct tracepoint __tracepoint_##name \
        __attribute__((visibility("default"))); \
    RCU_NOTRACE_END_C RCU_NOTRACE_UNTIL_SEMICOLON

#endif /* RCU_NOTRACE_TRACEPOINT_H */
