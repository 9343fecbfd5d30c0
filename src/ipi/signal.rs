//! The signal that serves as an IPI, and its handler.
//!
//! SIGURG by default: its default action is to be ignored, so a process that calls execve while
//! one is in flight survives; it is not subject to the limit on queued signals; debuggers pass
//! it silently.
//!
//! The handler is installed by the first waiter that needs it: a process without stragglers never
//! has it. It answers if an IPI was sent to its thread, and then calls the program's handler if
//! there is one, always: pending signals of a number merge, ours with the program's, and what is
//! left tells of one sender. A call too many is what every handler must bear; one too few is not.
//!
//! A library that has the program's use of the signal in hand (preload/) is told of each signal instead,
//! and whether an IPI was answered by it.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{
    fence, AtomicBool, AtomicI32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::bug;
use crate::flavour::{self, Flavour};
use crate::fork;
use crate::reader::{busy, ipi, Reader, Reporter};
use crate::stall;
use crate::sys::{self, futex::Lock, KernelSigaction};

static NUMBER: AtomicI32 = AtomicI32::new(libc::SIGURG);

/// The signal in use.
pub fn number() -> i32 {
    NUMBER.load(Relaxed)
}

/// Takes the signal's name or number from the environment, unless one is in use by now.
pub fn configure(wanted: Option<&[u8]>) {
    let Some(wanted) = wanted else { return };
    match parse(wanted) {
        Some(number) => {
            INSTALLING.lock();
            if !INSTALLED.load(Relaxed) {
                NUMBER.store(number, Relaxed);
            }
            INSTALLING.unlock();
        }
        None => bug::warn(&[
            b"RCU_NOTRACE_SIGNAL=",
            wanted,
            b" is no signal that a program can spare (a number, or URG, USR1, USR2, WINCH, IO, PWR, STKFLT, CHLD, \
              PROF); using SIGURG",
        ]),
    }
}

/// A number, or one of those names, with SIG or without; not a signal that cannot be caught or that reports faults.
fn parse(wanted: &[u8]) -> Option<i32> {
    const NAMES: [(&[u8], i32); 9] = [
        (b"URG", libc::SIGURG),
        (b"USR1", libc::SIGUSR1),
        (b"USR2", libc::SIGUSR2),
        (b"WINCH", libc::SIGWINCH),
        (b"IO", libc::SIGIO),
        (b"PWR", libc::SIGPWR),
        (b"STKFLT", libc::SIGSTKFLT),
        (b"CHLD", libc::SIGCHLD),
        (b"PROF", libc::SIGPROF),
    ];
    const FAULTS: [i32; 8] = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
    ];
    let name = wanted.strip_prefix(b"SIG").unwrap_or(wanted);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let mut number = 0i32;
    for digit in wanted {
        if !digit.is_ascii_digit() || number > 64 {
            return None;
        }
        number = number * 10 + i32::from(digit - b'0');
    }
    // 32 and 33 are the C library's own.
    let usable = (1..=64).contains(&number) && !(32..34).contains(&number);
    (usable && !FAULTS.contains(&number)).then_some(number)
}

static INSTALLED: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicBool = AtomicBool::new(false);
static INSTALLING: Lock = Lock::new();

/// The program's own handler, from before ours: address and flags.
static CHAINED: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static CHAINED_FLAGS: AtomicUsize = AtomicUsize::new(0);
static CHAINED_MASK: AtomicU64 = AtomicU64::new(0);

/// Who is told of each signal in place of the program's handler, as an address; 0: nobody.
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Of that hook: whether an IPI was answered, and what the kernel passed.
pub type Hook = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void);

/// Installs the handler now, and has the hook told of each signal. The signal's number; `None` if the
/// handler cannot be installed, or there is a hook already.
pub fn set_hook(hook: Hook) -> Option<i32> {
    HOOK.compare_exchange(0, hook as usize, SeqCst, Relaxed).ok()?;
    if !is_handled() {
        HOOK.store(0, SeqCst);
        super::say();
        return None;
    }
    Some(number())
}

/// Calls the hook; a wait for a grace period in there is refused, as in the program's handler.
fn tell(hook: usize, is_ipi: bool, info: *mut libc::siginfo_t, context: *mut c_void) {
    let busy = busy::of_this_thread();
    let before = busy.load(Relaxed);
    if !broken!("refuse-hook") {
        busy.store(before | busy::CHAINED_HANDLER, Relaxed);
    }
    // SAFETY: `set_hook` stored the address of a function of this type, which stays loaded by its promise.
    let hook = unsafe { core::mem::transmute::<usize, Hook>(hook) };
    // SAFETY: what the kernel passed.
    unsafe { hook(c_int::from(is_ipi), info.cast(), context) };
    busy.store(before, Relaxed);
}

/// Its address is the value that IPIs bear where a hook is told of them.
static IS_IPI: u8 = 0;

/// Whether such a signal was refused: then an IPI is known by its request.
static UNMARKED: AtomicBool = AtomicBool::new(false);

/// Sends a thread of this process the signal.
///
/// A hook must know an IPI that comes late, to a thread whose request was answered meanwhile, from a signal of the
/// program's: it would hand it on, and the program might die of it. So it bears a value, where that is not refused.
pub fn send(tid: i32) -> Result<(), i32> {
    let process = fork::process();
    if HOOK.load(Relaxed) != 0 {
        let mark = ptr::from_ref(&IS_IPI) as usize;
        match sys::tgsigqueue(process, tid, number(), mark) {
            Err(libc::EPERM | libc::ENOSYS | libc::EINVAL) => UNMARKED.store(true, SeqCst),
            answer => return answer,
        }
    }
    sys::tgkill(process, tid, number())
}

/// Whether this is an IPI that bears our value; then it looks as one without from here on.
fn unmark(info: &mut sys::SentInfo) -> bool {
    let is_marked = info.code == libc::SI_QUEUE && info.value == ptr::from_ref(&IS_IPI) as usize;
    if is_marked {
        info.code = libc::SI_TKILL;
        info.value = 0;
    }
    is_marked
}

const SA_RESTORER: usize = 0x0400_0000;

/// Installs the handler if it is not; false if that is refused.
pub fn is_handled() -> bool {
    if INSTALLED.load(Acquire) {
        return true;
    }
    INSTALLING.lock();
    if !INSTALLED.load(Relaxed) && !REFUSED.load(Relaxed) {
        let handled = install();
        INSTALLED.store(handled, Release);
        REFUSED.store(!handled, Relaxed);
        if !handled {
            super::say_later(super::NO_HANDLER);
        }
    }
    INSTALLING.unlock();
    INSTALLED.load(Relaxed)
}

/// Whether our handler is there, or was when the program last changed it.
pub fn is_ours() -> bool {
    let mut now = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    sys::rt_sigaction(number(), None, Some(&mut now)).is_ok()
        && now.handler == on_ipi as *const () as usize
}

/// In a forked child: the parent's other threads do not hold our lock any more.
pub fn reset() {
    INSTALLING.reset(false);
}

fn install() -> bool {
    let mut old = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // First what is there, then ours: a signal that arrives in between finds whom to pass on to.
    if sys::rt_sigaction(number(), None, Some(&mut old)).is_err() {
        return false;
    }
    let handler = on_ipi as *const () as usize;
    // A fork may have come between the parent's installing it and its saying so.
    if old.handler != handler {
        CHAINED.store(old.handler, Relaxed);
        CHAINED_FLAGS.store(old.flags, Relaxed);
        CHAINED_MASK.store(old.mask, Relaxed);
    }
    let new = KernelSigaction {
        handler,
        flags: (libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK) as usize | SA_RESTORER,
        restorer: sys::sigreturn(),
        mask: 0,
    };
    sys::rt_sigaction(number(), Some(&new), None).is_ok()
}

/// The handler. Runs anywhere: no libc, no errno, a small frame.
extern "C" fn on_ipi(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let hook = HOOK.load(Relaxed);
    // One that was sent to the process is pending apart from IPIs and merges with none: the IPI, if one was sent,
    // is still to come, and the hook must not take it for the program's.
    // SAFETY: what the kernel passed; `kill` fills in a process id.
    let is_apart =
        hook != 0 && unsafe { (*info).si_code == libc::SI_USER && (*info).si_pid() != 0 };
    if is_apart {
        return tell(hook, false, info, context);
    }
    // SAFETY: what the kernel passed, as its structure is; nobody else looks at it meanwhile.
    let is_marked = hook != 0 && unmark(unsafe { &mut *info.cast() });
    let mut is_ipi = false;
    for flavour in flavour::ALL {
        let reader = flavour.reader();
        let kind = reader.ipi.swap(ipi::NONE, SeqCst);
        if kind != ipi::NONE {
            is_ipi = true;
            answer(reader, flavour, kind == ipi::SENT_MAY_PARK);
        }
    }
    is_ipi |= stall::answer(context);
    if hook == 0 {
        return chain(signal, info, context);
    }
    // SAFETY: what the kernel passed. It was not apart; so this IPI's tgkill found no memory to say so.
    let is_bare = is_ipi && unsafe { (*info).si_code == libc::SI_USER };
    let is_ipi = is_marked || is_bare || (is_ipi && UNMARKED.load(SeqCst));
    tell(hook, is_ipi, info, context);
}

/// In a section: flags it, and its end reports. Between sections: reports.
///
/// The request is left alone unless it is answered here: nothing is set again that was cleared,
/// so the handler can never be the cause of its own next call.
#[inline(always)]
fn answer(reader: &Reader, flavour: &Flavour, may_park: bool) {
    // IPI: the barrier that the waiter could not execute for us. Kernel entry and return are
    // full barriers on the architectures we run on, but nobody promised.
    fence(SeqCst);
    let state = reader.state(flavour);
    if state.in_section() && !broken!("handler-report") {
        if !broken!("handler-flag") {
            reader.word.flag();
        }
        return;
    }
    reader.report(flavour, Reporter::Handler);
    if may_park {
        reader.park_itself(flavour);
    }
}

/// Calls the program's handler, if it has one.
fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let handler = CHAINED.load(Relaxed);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN || broken!("chained") {
        return;
    }
    // What the program wanted blocked in its handler; our return unblocks it.
    let mask = CHAINED_MASK.load(Relaxed);
    if mask != 0 {
        sys::block_signals(mask);
    }
    let busy = busy::of_this_thread();
    let before = busy.load(Relaxed);
    busy.store(before | busy::CHAINED_HANDLER, Relaxed);
    if CHAINED_FLAGS.load(Relaxed) & libc::SA_SIGINFO as usize != 0 {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the program registered this address as a handler of three arguments.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: the program registered this address as a handler of one argument.
        let handler = unsafe { core::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
        handler(signal);
    }
    busy.store(before, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_signal_is_named_with_or_without_sig_or_by_its_number() {
        for wanted in ["SIGURG", "URG", "23"] {
            assert_eq!(parse(wanted.as_bytes()), Some(libc::SIGURG), "{wanted}");
        }
        assert_eq!(parse(b"64"), Some(64));
    }

    #[test]
    fn what_no_program_can_spare_is_refused() {
        for wanted in ["", "9", "SIGKILL", "11", "32", "33", "0", "65", "-1", "x", "99999999999"] {
            assert_eq!(parse(wanted.as_bytes()), None, "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn hostile_environments_give_a_signal_that_can_be_caught_or_none(
            text in prop_oneof!["(SIG)?[A-Z0-9]{0,8}", "-?[0-9]{1,30}", ".{0,40}"],
        ) {
            if let Some(number) = parse(text.as_bytes()) {
                prop_assert!((1..=64).contains(&number) && number != 32 && number != 33);
                prop_assert!(![libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV].contains(&number));
                let is_number = text.parse().is_ok_and(|wanted: i32| wanted == number);
                prop_assert!(is_number || text.trim_start_matches("SIG").bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
