//! RCU's own tracepoints: what happens here, told to whoever traces it.
//!
//! Each event is a function: it runs the probes of its tracepoint, which C programs register by
//! `rcu_notrace/rcu.h`, and marks the place for perf, gdb and bpftrace (a USDT note of provider `rcu`,
//! with a semaphore). Nobody listening, it is two loads and two branches; what costs something to find out
//! is found out by callers who asked [`enabled`] first. Names and parameters are the kernel's
//! (trace/events/rcu.h) where it has the thing.
//!
//! A probe runs in a read-side section of notrace RCU and may do what any tracer's probe may: open
//! sections, walk the stack, allocate, call `call_rcu()`. What of that would be an event itself, on this
//! thread, is dropped and counted, or it would never end (EVENT-MARK). So nothing is told from where
//! such a probe could not run: the read side, its slow paths and the IPI's handler tell nothing, and
//! nothing is told under a lock of RCU's that the ends of threads wait for. A probe may fork: what is
//! told in the middle of something is told where the child can go on or start over.

use core::ffi::{c_char, c_int, c_long, c_ulong, c_void};
use core::sync::atomic::{
    compiler_fence, AtomicU16, AtomicU64,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use crate::flavour::NOTRACE_INDEX;
use crate::sys;
use crate::tracepoint::{Func, Tracepoint};
use crate::word::Word;

/// Events that came up in a probe of an event.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many events were dropped.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// A text for a probe.
pub type Text = *const c_char;

macro_rules! events {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($arg0:ident: $type0:ty = $c0:literal
                       $(, $arg:ident: $type:ty = $c:literal)*);
    )*) => {
        mod tracepoints {
            use super::*;
            $(
                #[allow(non_upper_case_globals)]
                #[export_name = concat!("__tracepoint_", stringify!($name))]
                pub static $name: Tracepoint = Tracepoint::new(
                    concat!(stringify!($name), "\0"),
                    concat!($c0, stringify!($arg0), $(", ", $c, stringify!($arg),)* "\0"),
                );
            )*
        }

        /// How many debuggers and tracers from outside want to be told.
        mod semaphores {
            use super::AtomicU16;
            $(
                #[allow(non_upper_case_globals)]
                #[link_section = ".probes"]
                pub static $name: AtomicU16 = AtomicU16::new(0);
            )*
        }

        /// Their tracepoints.
        pub static ALL: &[&Tracepoint] = &[$(&tracepoints::$name),*];

        /// Whether anybody wants to be told.
        #[allow(dead_code)]
        pub mod enabled {
            use super::{semaphores, tracepoints, Relaxed};
            $(
                $(#[$doc])*
                #[inline(always)]
                pub fn $name() -> bool {
                    tracepoints::$name.is_enabled() || semaphores::$name.load(Relaxed) != 0
                }
            )*
        }

        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name($arg0: $type0 $(, $arg: $type)*) {
                if enabled::$name() {
                    told::$name($arg0 $(, $arg)*);
                }
            }
        )*

        mod told {
            use super::*;
            $(
            #[cold]
            #[inline(never)]
            pub fn $name($arg0: $type0 $(, $arg: $type)*) {
                sys::usdt!($name, semaphores::$name, $arg0 $(, $arg)*);
                if tracepoints::$name.is_enabled() {
                    type Function = unsafe extern "C" fn(*mut c_void, $type0 $(, $type)*);
                    run(&tracepoints::$name, &|func, data| {
                        // SAFETY: registered for this tracepoint, by a header or by somebody who
                        // promised that it has its type.
                        let function = unsafe { core::mem::transmute::<usize, Function>(func) };
                        // SAFETY: likewise.
                        unsafe { function(data, $arg0 $(, $arg)*) };
                    });
                }
            }
            )*
        }
    };
}

events! {
    /// A section of the ordinary API has begun.
    fn rcu_read_lock(caller: *const c_void = "const void *");
    /// One is about to end.
    fn rcu_read_unlock(caller: *const c_void = "const void *");
    /// `rcu_dereference_check()` loaded a pointer; whether it was in a section, or said to be safe.
    fn rcu_dereference(pointer: *const c_void = "const void *", safe: c_int = "int ",
                       caller: *const c_void = "const void *");
    /// `synchronize_rcu()` and the like: "begin", "end".
    fn rcu_synchronize(rcuname: Text = "const char *", gp_seq: c_ulong = "unsigned long ",
                       event: Text = "const char *");
    /// A grace period: "start", "select", "startwait", "wake", "end", "endwake".
    fn rcu_grace_period(rcuname: Text = "const char *", gp_seq: c_ulong = "unsigned long ",
                        gpevent: Text = "const char *");
    /// The same of one that was to be hurried along when it started.
    fn rcu_exp_grace_period(rcuname: Text = "const char *", gp_seq: c_ulong = "unsigned long ",
                            gpevent: Text = "const char *");
    /// What was done to a reader in the way: "ipi".
    fn rcu_fqs(rcuname: Text = "const char *", gp_seq: c_ulong = "unsigned long ",
               tid: c_int = "int ", qsevent: Text = "const char *");
    /// All readers that were asked have reported.
    fn rcu_quiescent_state_report(rcuname: Text = "const char *",
                                  gp_seq: c_ulong = "unsigned long ", readers: c_int = "int ");
    /// A grace period takes too long.
    fn rcu_stall_warning(rcuname: Text = "const char *", msg: Text = "const char *");
    /// A reader was lent a priority, until it reported or the time was up.
    fn rcu_boost(rcuname: Text = "const char *", tid: c_int = "int ");
    /// A callback is queued.
    fn rcu_callback(rcuname: Text = "const char *", rhp: *const c_void = "struct rcu_head *",
                    qlen: c_long = "long ");
    /// A block is queued to be freed.
    fn rcu_kvfree_callback(rcuname: Text = "const char *", rhp: *const c_void = "struct rcu_head *",
                           offset: c_ulong = "unsigned long ", qlen: c_long = "long ");
    /// Callbacks are about to be called; how many.
    fn rcu_batch_start(rcuname: Text = "const char *", qlen: c_long = "long ");
    /// One is about to be called.
    fn rcu_invoke_callback(rcuname: Text = "const char *",
                           rhp: *const c_void = "struct rcu_head *");
    /// A block is about to be freed.
    fn rcu_invoke_kvfree_callback(rcuname: Text = "const char *",
                                  rhp: *const c_void = "struct rcu_head *",
                                  offset: c_ulong = "unsigned long ");
    /// It has returned; the head is gone.
    fn rcu_callback_done(rcuname: Text = "const char *", rhp: *const c_void = "const void *");
    /// They have been called; how many.
    fn rcu_batch_end(rcuname: Text = "const char *", callbacks_invoked: c_long = "long ");
    /// `rcu_barrier()`: "Begin", "End"; how many callbacks wait meanwhile.
    fn rcu_barrier(rcuname: Text = "const char *", s: Text = "const char *", cnt: c_long = "long ");
    /// `rcu_register_thread()`.
    fn rcu_register_thread(tid: c_int = "int ");
    /// `rcu_unregister_thread()` begins, or a thread that was a reader ends.
    fn rcu_unregister_thread(tid: c_int = "int ");
}

/// Runs the probes, unless this thread is in one of them.
#[cold]
#[inline(never)]
fn run(tracepoint: &Tracepoint, call: &dyn Fn(usize, *mut c_void)) {
    // EVENT-MARK: set before the first probe, cleared after the last. A signal handler between that
    // comes here too either finds it or leaves it as it was.
    let mark = &sys::reader(0).tracing;
    if mark.load(Relaxed) != 0 {
        DROPPED.fetch_add(1, Relaxed);
        return;
    }
    if !broken!("event-mark") {
        mark.store(1, Relaxed);
    }
    compiler_fence(SeqCst);
    Word::lock_current_thread(NOTRACE_INDEX);
    // PROBES.
    let mut next: *const Func = tracepoint.funcs.load(Acquire);
    // SAFETY: null, or the published array, which is not freed in this section.
    while let Some((func, data)) = unsafe { Func::at(next) } {
        call(func, data);
        next = next.wrapping_add(1);
    }
    Word::unlock_current_thread(NOTRACE_INDEX);
    compiler_fence(SeqCst);
    mark.store(0, Relaxed);
}
