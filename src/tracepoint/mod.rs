//! Tracepoints: places in a program that call the probes which are registered for them.
//!
//! The C header `rcu_notrace/tracepoint.h` makes them: a [`Tracepoint`], and a [`Site`] for each place
//! in the code. A module (executable or shared object) tells of what it has before its constructors
//! run. Here is what is behind: the probes' array ([`probes`]) and the code that is patched ([`site`]).
//!
//! One lock orders those who register. What runs at a tracepoint takes none: it finds the array by one
//! load, in a section, and reads function and data from one element of it.

pub mod capi;
mod patch;
mod probes;
mod site;

use core::ffi::{c_char, c_int, c_void, CStr};
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release, SeqCst},
};

use crate::bug;
use crate::callback;
use crate::event;
use crate::flavour::{self, Flavour, NOTRACE, TRACE};
use crate::fork;
use crate::grace_period::Urgency;
use crate::reader::this_thread;
use crate::sys::futex::Lock;
use crate::{start, sys};

pub use probes::{Func, Probe};
pub use site::Site;

/// As the C header has it.
#[repr(C)]
pub struct Tracepoint {
    pub name: *const c_char,
    pub proto: *const c_char,
    /// RCU-protected, by the flavour of its sections; null: disabled.
    pub funcs: AtomicPtr<Func>,
    pub sites: AtomicPtr<Site>,
    pub regfunc: Option<unsafe extern "C" fn() -> c_int>,
    pub unregfunc: Option<unsafe extern "C" fn()>,
    pub flags: u32,
    pub reserved: u32,
}

// SAFETY: the texts never change, the rest is atomic or never changes.
unsafe impl Sync for Tracepoint {}

/// Its probes run in sections of [`TRACE`].
const MAY_FAULT: u32 = 1;

/// As the C header has it.
#[repr(C)]
pub struct Module {
    next: AtomicPtr<Module>,
    sites: *mut Site,
    sites_end: *mut Site,
    tracepoints: *const *const Tracepoint,
    tracepoints_end: *const *const Tracepoint,
    listed: AtomicU64,
}

const _: () = assert!(size_of::<Tracepoint>() == 56 && size_of::<Module>() == 48);

/// What happened, as the C header has it.
#[repr(C)]
#[derive(Default)]
pub struct Stats {
    tracepoints: u64,
    sites_patched: u64,
    sites_loaded: u64,
    flips: u64,
    sync_core: u64,
    dropped: u64,
}

static LOCK: Lock = Lock::new();
/// Who holds it: a thread, by its reader's address, which a fork does not change, and [`FORK`] if that
/// is about to fork; or [`NOBODY`].
static HOLDER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = 0;
/// Added to an address, which is even.
const FORK: usize = 1;
/// A fork waits for others so long, and who is in a section.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Who waits for it looks so often: nobody queues, for a handler that forks must not leave its child a place in a queue.
const BETWEEN_LOOKS_NS: u32 = 20_000;
/// When who waits for it longest began to, a fork longest of all ([`LONGEST`]): others leave it to him. A wish, made anew
/// at each look and forgotten with each turn, so that who does not look any more holds nobody up for long.
static FIRST: AtomicU64 = AtomicU64::new(NOBODY_WAITS);
const NOBODY_WAITS: u64 = u64::MAX;
const LONGEST: u64 = 0;
/// The modules that are loaded. Under the lock.
static MODULES: AtomicPtr<Module> = AtomicPtr::new(ptr::null_mut());
/// This is a child of a fork that came in the middle of a change.
static TORN: AtomicBool = AtomicBool::new(false);
static FLIPS: AtomicU64 = AtomicU64::new(0);
/// What all modules had that were ever listed.
static TRACEPOINTS: AtomicU64 = AtomicU64::new(0);
static PATCHED: AtomicU64 = AtomicU64::new(0);
static LOADED: AtomicU64 = AtomicU64::new(0);

/// How many modules have gone. Under the lock.
static GONE: AtomicU64 = AtomicU64::new(0);

/// The lock, for a scope; but not of a scope within another one's.
struct Held {
    is_outermost: bool,
    /// In somebody's fork handler, after ours.
    _fork: Option<fork::LetGo>,
}

impl Held {
    fn new() -> Self {
        match Held::within(u64::MAX) {
            Some(held) => held,
            None => {
                bug::die(&[b"a function that runs under the lock of tracepoints came to it again"])
            }
        }
    }

    /// For who may be waited for by whoever has it: nothing, if it is not to be had soon.
    fn in_section() -> Option<Self> {
        Held::within(PATIENCE_NS)
    }

    fn within(patience_ns: u64) -> Option<Self> {
        start::ensure();
        let fork = fork::let_go();
        lock(this_thread(), patience_ns).then(|| Held::here(fork))
    }

    /// The lock is this thread's.
    fn here(fork: fork::LetGo) -> Self {
        let held = Held { is_outermost: true, _fork: Some(fork) };
        if TORN.swap(false, Relaxed) && !broken!("probe-mend") {
            mend(&held);
        }
        held
    }

    /// For a module that goes: a function that runs under the lock may have called exit(), and so this.
    fn to_go() -> Self {
        if HOLDER.load(Relaxed) == this_thread() && !broken!("exit-going") {
            Held { is_outermost: false, _fork: None }
        } else {
            Held::new()
        }
    }
}

/// Whether the caller is in a section of any flavour: in a probe, say.
fn is_in_section() -> bool {
    flavour::ALL.iter().any(|flavour| flavour.reader().state(flavour).in_section())
}

/// Completes what a thread was at that this child of a fork does not have: sites that are not on their
/// tracepoint's list, switched by half, pages of code left writable.
fn mend(held: &Held) {
    each_module(held, |module| module.listed.store(1, Relaxed));
    each_module(held, |module| site::unlist(held, module.sites, module.sites_end));
    // SAFETY: listed modules are what the header made, and still loaded.
    each_module(held, |module| unsafe { site::adopt(module.sites, module.sites_end) });
    each_module(held, |module| site::protect(held, module.sites, module.sites_end));
    each_tracepoint(held, |tracepoint| {
        // Where it cannot be patched it stays as it is.
        let _ = site::flip(tracepoint, tracepoint.is_enabled());
    });
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_outermost {
            unlock(this_thread());
        }
    }
}

impl Tracepoint {
    /// One of the library's own. Both texts end with a zero.
    pub const fn new(name: &'static str, proto: &'static str) -> Self {
        Tracepoint {
            name: name.as_ptr().cast(),
            proto: proto.as_ptr().cast(),
            funcs: AtomicPtr::new(ptr::null_mut()),
            sites: AtomicPtr::new(ptr::null_mut()),
            regfunc: None,
            unregfunc: None,
            flags: 0,
            reserved: 0,
        }
    }

    /// Whether it has probes.
    #[inline(always)]
    pub fn is_enabled(&self) -> bool {
        !self.funcs.load(Relaxed).is_null()
    }

    /// Whose sections its probes run in.
    fn flavour(&self) -> &'static Flavour {
        if self.flags & MAY_FAULT != 0 {
            &TRACE
        } else {
            &NOTRACE
        }
    }

    fn name(&self) -> &'static [u8] {
        // SAFETY: a literal of the module's, for as long as that is loaded.
        unsafe { CStr::from_ptr(self.name) }.to_bytes()
    }

    /// Registers a probe: 0 or a negated errno.
    fn register(&self, probe: Probe) -> c_int {
        if is_in_section() && !broken!("register-section") {
            return self.refuse_section(b"register_trace_");
        }
        let answer = self.register_under(&Held::new(), probe);
        // Not under the lock: it may create a thread, which may want the loader's.
        callback::at_safe_point();
        answer
    }

    fn register_under(&self, _held: &Held, probe: Probe) -> c_int {
        let first = !self.is_enabled();
        if let (true, Some(regfunc)) = (first, self.regfunc) {
            // SAFETY: the module's own function, for this.
            let refusal = unsafe { regfunc() };
            if refusal != 0 {
                return refusal;
            }
        }
        let mut answer = probes::add(self, probe);
        if answer == Ok(()) && first && !self.flip(true) {
            // Where it was switched before that was noticed.
            if !broken!("flip-back") {
                self.flip(false);
            }
            bug::warn(&[b"tracepoint ", self.name(), b": its code cannot be patched any more"]);
            let _ = probes::remove(self, probe.func, probe.data);
            answer = Err(libc::EPERM);
        }
        if let (true, Err(_), Some(unregfunc)) = (first, answer, self.unregfunc) {
            // SAFETY: as above.
            unsafe { unregfunc() };
        }
        match answer {
            Ok(()) => 0,
            Err(error) => -error,
        }
    }

    /// Unregisters it: 0 or a negated errno.
    fn unregister(&self, func: usize, data: *mut c_void) -> c_int {
        let held = if !is_in_section() || broken!("unregister-section") {
            Some(Held::new())
        } else if self.unregfunc.is_some() {
            // Which may wait, and would be in this section.
            None
        } else {
            Held::in_section()
        };
        let Some(held) = held else { return self.refuse_section(b"unregister_trace_") };
        let answer = self.unregister_under(&held, func, data);
        drop(held);
        callback::at_safe_point();
        answer
    }

    fn unregister_under(&self, _held: &Held, func: usize, data: *mut c_void) -> c_int {
        if probes::remove(self, func, data).is_err() {
            return -libc::ENOENT;
        }
        if !self.is_enabled() {
            // Where it fails, the way to no probes stays longer than it could be.
            self.flip(false);
            if let Some(unregfunc) = self.unregfunc {
                // SAFETY: the module's own function, for this.
                unsafe { unregfunc() };
            }
        }
        0
    }

    /// Who has the lock may be waiting for the caller's section: in another tracepoint's `regfunc`.
    fn refuse_section(&self, function: &[u8]) -> c_int {
        bug::warn(&[
            function,
            self.name(),
            b"() inside a read-side critical section, or in a probe",
        ]);
        -libc::EDEADLK
    }

    fn flip(&self, enabled: bool) -> bool {
        FLIPS.fetch_add(1, Relaxed);
        site::flip(self, enabled)
    }
}

/// Lists a module, unless it is. Any number of its files may call this.
///
/// # Safety
/// The module stays as it is until [`going`].
unsafe fn coming(module: &'static Module) {
    // RELAXED is enough for what this thread's constructors did; others find it under the lock.
    if module.listed.load(Relaxed) != 0 {
        return;
    }
    let held = Held::new();
    // The list itself is asked: a fork may have come between the two.
    let mut is_listed = false;
    each_module(&held, |other| is_listed |= ptr::eq(other, module));
    if is_listed {
        module.listed.store(1, Relaxed);
        return;
    }
    module.next.store(MODULES.load(Relaxed), Relaxed);
    // The list first: in a child of a fork in between, `mend` marks who is on it.
    MODULES.store(ptr::from_ref(module).cast_mut(), Release);
    module.listed.store(1, Release);
    // SAFETY: the caller's; the linker's symbols for the two ends of a section.
    unsafe { site::adopt(module.sites, module.sites_end) };
    let (patched, loaded) = site::count(&held, module.sites, module.sites_end);
    PATCHED.fetch_add(patched, Relaxed);
    LOADED.fetch_add(loaded, Relaxed);
    module.each_tracepoint(|_| {
        TRACEPOINTS.fetch_add(1, Relaxed);
    });
}

/// Takes it off, before it is unloaded.
fn going(module: &'static Module) {
    let held = Held::to_go();
    if module.listed.swap(0, Relaxed) == 0 {
        return;
    }
    let mut link = &MODULES;
    // SAFETY: listed modules are loaded, and only changed under the lock.
    while let Some(other) = unsafe { link.load(Relaxed).as_ref() } {
        if ptr::eq(other, module) {
            link.store(other.next.load(Relaxed), Relaxed);
            break;
        }
        link = &other.next;
    }
    GONE.fetch_add(1, Relaxed);
    if !broken!("module-going") {
        site::forget(&held, module.sites, module.sites_end);
    }
}

/// Calls `visit` for each module that is loaded, unless one goes there: that ends the walk.
fn each_module(_held: &Held, mut visit: impl FnMut(&'static Module)) {
    let gone = GONE.load(Relaxed);
    let mut module = MODULES.load(Relaxed);
    // SAFETY: as in `going`.
    while let Some(this) = unsafe { module.as_ref() } {
        visit(this);
        if GONE.load(Relaxed) != gone {
            return;
        }
        module = this.next.load(Relaxed);
    }
}

/// Calls `visit` for each tracepoint that is defined.
fn each_tracepoint(held: &Held, mut visit: impl FnMut(&'static Tracepoint)) {
    event::ALL.iter().for_each(|tracepoint| visit(tracepoint));
    each_module(held, |module| module.each_tracepoint(&mut visit));
}

impl Module {
    fn each_tracepoint(&self, mut visit: impl FnMut(&'static Tracepoint)) {
        let gone = GONE.load(Relaxed);
        let (mut place, end) = (self.tracepoints, self.tracepoints_end);
        while place < end && GONE.load(Relaxed) == gone {
            // SAFETY: between the ends of the section, which holds such pointers; the linker may
            // leave gaps of zeros.
            if let Some(tracepoint) = unsafe { (*place).as_ref() } {
                visit(tracepoint);
            }
            // SAFETY: as above.
            place = unsafe { place.add(1) };
        }
    }
}

/// Waits until no probe runs any more that was unregistered before.
fn synchronize_unregister() {
    if broken!("probe-barrier") {
        return;
    }
    let function = b"tracepoint_synchronize_unregister() ";
    TRACE.synchronize(function, Urgency::Normal);
    NOTRACE.synchronize(function, Urgency::Normal);
    callback::at_safe_point();
}

fn stats(held: &Held) -> Stats {
    let mut stats = Stats {
        flips: FLIPS.load(Relaxed),
        sync_core: patch::barriers(),
        dropped: event::dropped(),
        ..Stats::default()
    };
    each_tracepoint(held, |_| stats.tracepoints += 1);
    each_module(held, |module| {
        let (patched, loaded) = site::count(held, module.sites, module.sites_end);
        stats.sites_patched += patched;
        stats.sites_loaded += loaded;
    });
    stats
}

/// The counters by name, of all modules that there ever were: the executable goes before the
/// library prints this. Nothing if there was no tracepoint.
pub fn each_counter(mut visit: impl FnMut(&str, u64)) {
    let [tracepoints, patched, loaded] =
        [&TRACEPOINTS, &PATCHED, &LOADED].map(|counter| counter.load(Relaxed));
    if tracepoints + patched + loaded != 0 {
        visit("tracepoints", tracepoints);
        visit("sites_patched", patched);
        visit("sites_loaded", loaded);
        visit("flips", FLIPS.load(Relaxed));
        visit("sync_core", patch::barriers());
        visit("events_dropped", event::dropped());
    }
}

/// Before a fork: no change is under way in the child, unless one takes very long, or this thread
/// forks in the middle of its own.
pub fn hold() {
    lock(this_thread() | FORK, PATIENCE_NS);
}

/// False if this thread has it already, or cannot have it so soon.
fn lock(holder: usize, patience_ns: u64) -> bool {
    let is_fork = holder & FORK != 0;
    let start = sys::monotonic_ns();
    let since = if is_fork { LONGEST } else { start };
    let mut last_held = start;
    loop {
        let now = sys::monotonic_ns();
        if HOLDER.load(Relaxed) != NOBODY {
            last_held = now;
        }
        // Who was first may have gone, in a handler that jumps away.
        let in_turn = FIRST.fetch_min(since, Relaxed) >= since
            || now.wrapping_sub(last_held) > PATIENCE_NS
            || broken!("probe-turn");
        if in_turn && try_lock(holder) {
            return true;
        }
        if HOLDER.load(Relaxed) & !FORK == this_thread() || now.wrapping_sub(start) > patience_ns {
            let _ = FIRST.compare_exchange(since, NOBODY_WAITS, Relaxed, Relaxed);
            return false;
        }
        // A handler may have made this a child that nobody told us of. One that is about to fork has looked.
        if !is_fork && !broken!("probe-witness") {
            fork::check();
        }
        sys::sleep_ns(BETWEEN_LOOKS_NS);
    }
}

fn try_lock(holder: usize) -> bool {
    fork::uninterrupted(|| {
        let held = LOCK.try_lock();
        if held {
            HOLDER.store(holder, Relaxed);
            FIRST.store(NOBODY_WAITS, Relaxed);
        }
        held
    })
}

/// Unless a handler has just forked, and in its child nobody holds it.
fn unlock(holder: usize) {
    fork::uninterrupted(|| {
        if HOLDER.load(Relaxed) == holder {
            HOLDER.store(NOBODY, Relaxed);
            LOCK.unlock();
        }
    });
}

/// After it, in the parent; whether it was held.
pub fn release() -> bool {
    let held = HOLDER.load(Relaxed) == this_thread() | FORK;
    if held {
        unlock(this_thread() | FORK);
    }
    held
}

/// And in the child.
pub fn after_fork() {
    let holder = HOLDER.load(Relaxed);
    let is_mine = holder == this_thread();
    // A parent that was torn itself, and not mended since, leaves it so.
    if holder != NOBODY && holder & FORK == 0 && !is_mine {
        TORN.store(true, SeqCst);
    }
    if !is_mine {
        HOLDER.store(NOBODY, Relaxed);
    }
    LOCK.reset(is_mine);
    FIRST.store(NOBODY_WAITS, Relaxed);
}
