//! Stall reports: a grace period that takes too long says who is in its way, and where.
//!
//! The waiter reports, each time that the wait has doubled: for each of the readers it waits for the
//! thread, what became of its IPI, what the kernel says of it, and its calls ([`backtrace`]); then
//! its own. No memory is allocated and no lock taken but our own: the reader may be in malloc or
//! in the loader, and a report must not change how things end.

mod backtrace;
mod event;
mod image;
mod line;
mod rows;
mod symbols;
mod unwind;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use crate::bug;
use crate::flavour::Flavour;
use crate::ipi;
use crate::proc;
use crate::reader::this_thread;
use crate::start;
use crate::sys;
use line::Line;

pub use backtrace::{answer, Answer};
pub use event::{rcu_notrace_stall, Handler};
pub use image::Images;
pub use unwind::{unwind, Snapshot};

/// When the first report of a grace period is due; 0: never.
static AFTER_NS: AtomicU64 = AtomicU64::new(10_000_000_000);

/// Most readers of one report.
const MOST: usize = 8;

/// When the next report of one grace period is due.
pub struct Stall {
    due: u64,
}

/// Whom a grace period waits for.
pub enum Holdouts {
    /// The transient sections of a side.
    Transient(usize),
    /// The readers with a request of that tag.
    Asked(u32),
}

/// What one report is made of. One at a time.
struct Reporter {
    /// The lock, and who has it: a thread, by its reader's address, which a fork does not change; or 0. One word, so
    /// that a child that is forked at any moment can tell.
    by: AtomicUsize,
    inner: UnsafeCell<Inner>,
}

struct Inner {
    handler: Option<Handler>,
    data: *mut c_void,
    text: Text,
    line: Line,
}

// SAFETY: `inner` is touched by who is `by` only.
unsafe impl Sync for Reporter {}

static REPORTER: Reporter = Reporter {
    by: AtomicUsize::new(0),
    inner: UnsafeCell::new(Inner {
        handler: None,
        data: core::ptr::null_mut(),
        text: Text::new(),
        line: Line::new(),
    }),
};

/// The text of a report, written at once; what does not fit is cut off.
struct Text {
    text: [u8; 16384],
    used: usize,
}

impl Text {
    const fn new() -> Self {
        Text { text: [0; 16384], used: 0 }
    }

    fn clear(&mut self) {
        self.used = 0;
    }

    #[inline(never)]
    fn push(&mut self, line: &Line) {
        // Room for the end of the line and for the zero behind the text.
        let room = self.text.len() - 2;
        for byte in line.text() {
            if let Some(place) = self.text.get_mut(self.used).filter(|_| self.used < room) {
                *place = *byte;
                self.used += 1;
            }
        }
        if let Some([end, zero]) = self.text.get_mut(self.used..self.used + 2) {
            (*end, *zero) = (b'\n', 0);
            self.used += 1;
        }
    }

    fn written(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or_default()
    }
}

/// One reader in the way.
#[derive(Clone, Copy, Default)]
struct Culprit {
    tid: i32,
    nesting: u32,
}

impl Stall {
    /// None so far.
    pub fn new() -> Self {
        Stall { due: AFTER_NS.load(Relaxed) }
    }

    /// Whether a report is due, having waited so long; if so, the next one is due after twice that.
    pub fn is_due(&mut self, waited: u64) -> bool {
        let due = self.due != 0 && waited >= self.due;
        if due && !broken!("stall-interval") {
            self.due = waited.saturating_mul(2);
        }
        due
    }
}

/// Reads the environment.
pub fn configure() {
    let Some(wanted) = start::environment(c"RCU_NOTRACE_STALL_MS") else { return };
    match proc::number(wanted).filter(|_| wanted.len() < 12) {
        Some(ms) => set_after_ms(ms),
        None => bug::warn(&[
            b"RCU_NOTRACE_STALL_MS=",
            wanted,
            b" is no number of milliseconds; using 10000",
        ]),
    }
}

/// Sets when the first report of a grace period is due; 0: never.
pub fn set_after_ms(ms: u64) {
    AFTER_NS.store(ms.saturating_mul(1_000_000), Relaxed);
}

/// Sets the embedder's handler.
pub fn set_handler(handler: Option<Handler>, data: *mut c_void) {
    while !REPORTER.try_lock() {
        sys::sleep_ns(50_000);
    }
    // SAFETY: under the lock.
    let inner = unsafe { &mut *REPORTER.inner.get() };
    (inner.handler, inner.data) = (handler, data);
    REPORTER.unlock();
}

/// In a forked child: no other thread reports.
pub fn after_fork() {
    // What this thread holds it goes on to give back: the embedder's handler may have forked.
    if REPORTER.by.load(Relaxed) != this_thread() && !broken!("fork-reporter") {
        REPORTER.unlock();
    }
    backtrace::reset();
}

impl Reporter {
    fn try_lock(&self) -> bool {
        self.by.compare_exchange(0, this_thread(), SeqCst, Relaxed).is_ok()
    }

    fn unlock(&self) {
        self.by.store(0, SeqCst);
    }
}

/// Reports a grace period of `flavour` that has waited so long. By the thread that runs it.
pub fn report(flavour: &Flavour, waited: u64, holdouts: Holdouts) {
    // Another flavour's report comes first; ours is due again.
    if !REPORTER.try_lock() {
        return;
    }
    flavour.stats.stalls.fetch_add(1, Relaxed);
    // SAFETY: under the lock.
    let inner = unsafe { &mut *REPORTER.inner.get() };
    let mut images = Images::new();
    let mut culprits = [Culprit::default(); MOST];
    let (found, unknown) = find(flavour, holdouts, &mut culprits);
    inner.head(flavour, waited, found, unknown);
    inner.deliver(waited, Culprit::default(), Answer::NotSent);
    for culprit in culprits.iter().take(found) {
        let answer = inner.describe(*culprit, waited, &mut images);
        inner.deliver(waited, *culprit, answer);
    }
    inner.describe_waiter(flavour, &mut images);
    inner.deliver(waited, Culprit::default(), Answer::NotSent);
    REPORTER.unlock();
}

/// The readers in the way, as many as there is room for; how many these are, and how many sections
/// more there are of threads that are not known.
fn find(flavour: &Flavour, holdouts: Holdouts, culprits: &mut [Culprit; MOST]) -> (usize, usize) {
    let mut found = 0;
    let mut enter = |culprit| {
        if let Some(place) = culprits.get_mut(found).filter(|_| !broken!("stall-report")) {
            *place = culprit;
            found += 1;
        }
    };
    match holdouts {
        Holdouts::Transient(side) => {
            let open = flavour.transient.side(side).open() as usize;
            for (_, _, tid) in flavour.transient.occupants(side) {
                enter(Culprit { tid, nesting: 0 });
            }
            (found, open.saturating_sub(found))
        }
        Holdouts::Asked(tag) => {
            // Thread ids are all that leaves the lock: a reader's block goes with its thread.
            let mut roster = flavour.registry.lock();
            for entry in roster.entries() {
                let reader = entry.reader();
                if entry.asked == tag && reader.request.load(SeqCst) == tag {
                    let nesting = reader.state(flavour).nesting;
                    enter(Culprit { tid: reader.tid.load(Relaxed), nesting });
                }
            }
            let open = flavour.holdouts.open() as usize;
            (found, open.saturating_sub(found))
        }
    }
}

impl Inner {
    /// Hands the text to the embedder's handler, or prints it.
    fn deliver(&mut self, waited: u64, culprit: Culprit, answer: Answer) {
        let stall = rcu_notrace_stall {
            size: size_of::<rcu_notrace_stall>(),
            waited_ms: waited / 1_000_000,
            tid: culprit.tid,
            nesting: culprit.nesting,
            ipi: answer as c_int,
            text: self.text.text.as_ptr().cast(),
        };
        // SAFETY: the embedder's function, called as it was promised.
        let handled = self
            .handler
            .is_some_and(|handler| unsafe { handler(&raw const stall, self.data) != 0 });
        if !handled {
            // Mostly one write; a pipe takes no more at once.
            for piece in self.text.written().chunks(sys::PIPE_BUF) {
                let iov_base = piece.as_ptr().cast_mut().cast();
                if !sys::write_stderr(&[libc::iovec { iov_base, iov_len: piece.len() }]) {
                    break;
                }
            }
        }
        self.text.clear();
    }

    fn head(&mut self, flavour: &Flavour, waited: u64, found: usize, unknown: usize) {
        let line = &mut self.line;
        line.clear();
        line.push(b"rcu-notrace: stall: ");
        line.push(flavour.names.synchronize);
        line.push(b"in process ");
        line.push_decimal(sys::getpid() as u64);
        line.push(b" waits for ");
        line.push_decimal(waited / 1_000_000);
        line.push(b" ms, for ");
        line.push_decimal(found as u64);
        line.push(b" readers");
        if unknown != 0 {
            line.push(b" and ");
            line.push_decimal(unknown as u64);
            line.push(b" sections more");
        }
        line.push(b"; sequence ");
        line.push_decimal(flavour.seq.now());
        line.push(b", ");
        line.push_decimal(flavour.stats.grace_periods.load(Relaxed));
        line.push(b" grace periods so far, mode ");
        line.push(ipi::mode().name());
        self.text.push(line);
    }

    /// One reader: who, since when, its IPI, what the kernel says, and its calls.
    fn describe(&mut self, culprit: Culprit, waited: u64, images: &mut Images) -> Answer {
        let line = &mut self.line;
        line.clear();
        line.push(b"rcu-notrace: stall: ");
        push_thread(line, culprit.tid);
        line.push(b" in a section for at least ");
        line.push_decimal(waited / 1_000_000);
        line.push(b" ms");
        if culprit.nesting != 0 {
            line.push(b", nesting ");
            line.push_decimal(u64::from(culprit.nesting));
        }
        // Before the IPI, which may wake it up.
        push_state(line, culprit.tid);
        let answer = backtrace::ask(culprit.tid);
        line.push(b"; IPI ");
        line.push(answer.text());
        self.text.push(line);
        if answer == Answer::Answered {
            backtrace::with_snapshot(|snapshot| self.calls(snapshot, images));
        }
        backtrace::finish();
        answer
    }

    fn describe_waiter(&mut self, flavour: &Flavour, images: &mut Images) {
        let line = &mut self.line;
        line.clear();
        line.push(b"rcu-notrace: stall: ");
        push_thread(line, sys::gettid());
        line.push(b" waits in ");
        line.push(flavour.names.synchronize.trim_ascii());
        self.text.push(line);
        if backtrace::take_own() {
            backtrace::with_snapshot(|snapshot| self.calls(snapshot, images));
            backtrace::finish();
        }
    }

    fn calls(&mut self, snapshot: &Snapshot, images: &mut Images) {
        let line = &mut self.line;
        for (number, (pc, exact)) in unwind(snapshot, images).each().enumerate() {
            line.clear();
            line.push(b"    #");
            line.push_decimal(number as u64);
            line.push(b" ");
            images.describe(pc, exact, line);
            self.text.push(line);
        }
    }
}

fn push_thread(line: &mut Line, tid: i32) {
    line.push(b"thread ");
    line.push_decimal(tid as u64);
    line.push(b" (");
    let name = proc::status(tid).and_then(|_| proc::first_line(tid, b"comm"));
    line.push(name.as_ref().map_or(b"?", |name| name.text()));
    line.push(b")");
}

fn push_state(line: &mut Line, tid: i32) {
    let Some(status) = proc::status(tid) else { return };
    line.push(b"; state ");
    line.push(status.state.text());
    let wchan = proc::first_line(tid, b"wchan");
    if let Some(wchan) = wchan.filter(|wchan| !matches!(wchan.text(), b"" | b"0")) {
        line.push(b", in ");
        line.push(wchan.text());
    }
}
