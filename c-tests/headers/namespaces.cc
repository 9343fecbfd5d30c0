/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tracepoints of every kind in a namespace, and in one in it. */
#include <rcu_notrace/rcu.h>

namespace app
{
struct request {
    int id;
};
DECLARE_TRACE(begins, TP_PROTO(const request *r), TP_ARGS(r));
DECLARE_TRACE_CONDITION(odd, TP_PROTO(const request *r), TP_ARGS(r), TP_CONDITION(r->id & 1));
DECLARE_TRACE_NOARGS(idle);
EXPORT_TRACEPOINT_SYMBOL(begins);
DEFINE_TRACE(begins, TP_PROTO(const request *r), TP_ARGS(r));
DEFINE_TRACE(odd, TP_PROTO(const request *r), TP_ARGS(r));
DEFINE_TRACE_NOARGS(idle);

namespace inner
{
static int on(void)
{
    return 0;
}
static void off(void)
{
}
DECLARE_TRACE_SYSCALL(faults, TP_PROTO(const request &r), TP_ARGS(r));
DEFINE_TRACE_FN(faults, on, off, TP_PROTO(const request &r), TP_ARGS(r));
} // namespace inner
} // namespace app

DECLARE_TRACE(outside, TP_PROTO(const app::request *r), TP_ARGS(r));
DEFINE_TRACE(outside, TP_PROTO(const app::request *r), TP_ARGS(r));

static int sum;

static void probe(void *, const app::request *r)
{
    sum += r->id;
}

static void of_a_reference(void *, const app::request &r)
{
    sum += r.id;
}

static void of_nothing(void *)
{
    sum += 1000;
}

int main()
{
    const app::request odd = {1}, even = {20};

    if (app::register_trace_begins(probe, nullptr) || app::register_trace_odd(probe, nullptr) ||
        app::register_trace_idle(of_nothing, nullptr) || register_trace_outside(probe, nullptr) ||
        app::inner::register_trace_faults(of_a_reference, nullptr))
        return 1;
    app::trace_begins(&even);
    app::trace_odd(&odd);
    app::trace_odd(&even);
    app::trace_idle();
    app::inner::trace_faults({300});
    trace_outside(&odd);
    if (sum != 1322 || !rcu_notrace_find_tracepoint("faults"))
        return 2;
    if (app::unregister_trace_begins(probe, nullptr))
        return 3;
    app::trace_begins(&even);
    return sum == 1322 ? 0 : 4;
}
