//! Sections and protected pointers for Rust programs.
//!
//! A section must end on the thread that began it, and a leaked one must not let references
//! outlive it. So safe code never owns a [`Section`]: it gets a reference to one that lives in
//! its caller's frame, from [`read`] or [`guard!`](crate::guard), and can neither send nor forget
//! nor drop what it refers to.

use core::marker::PhantomData;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

use crate::callback::{self, Head};

use crate::flavour::{NOTRACE, NOTRACE_INDEX};
use crate::grace_period::Urgency;
use crate::word::Word;

/// A read-side critical section of the current thread. Neither `Send` nor `Sync`.
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// rcu_notrace::read(|section| send(section));
/// ```
///
/// References to protected data end with it:
///
/// ```compile_fail
/// let list = rcu_notrace::Rcu::new(1);
/// let late = rcu_notrace::read(|section| list.load(section));
/// ```
pub struct Section {
    this_thread_only: PhantomData<*mut ()>,
}

impl Section {
    /// Begins a section: `rcu_read_lock_notrace()`. Two instructions, any context.
    ///
    /// # Safety
    /// The value is dropped, on this thread, before anything that it was borrowed for is used
    /// elsewhere: keep it in a local that nobody else can reach. `guard!` does.
    #[inline(always)]
    pub unsafe fn begin() -> Self {
        Word::lock_current_thread(NOTRACE_INDEX);
        Section { this_thread_only: PhantomData }
    }
}

impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            NOTRACE.check_unlock();
        }
        Word::unlock_current_thread(NOTRACE_INDEX);
    }
}

/// Runs `body` in a read-side critical section: `rcu_read_lock_notrace()` and
/// `rcu_read_unlock_notrace()` around it. Any context; nests.
#[inline(always)]
pub fn read<R>(body: impl FnOnce(&Section) -> R) -> R {
    // SAFETY: dropped below on this thread, and `body` sees it by a reference that cannot leave.
    let section = unsafe { Section::begin() };
    body(&section)
}

/// Begins a section that lasts for the rest of the enclosing block: the kernel's
/// `guard(rcu_notrace)()`.
///
/// ```
/// let config = rcu_notrace::Rcu::new(String::from("old"));
/// {
///     rcu_notrace::guard!(section);
///     assert_eq!(config.load(section), "old");
/// }
/// config.replace(String::from("new"));
/// ```
#[macro_export]
macro_rules! guard {
    ($name:ident) => {
        // SAFETY: a local that hygiene hides from everybody but this macro.
        let section = unsafe { $crate::Section::begin() };
        let $name: &$crate::Section = &section;
    };
}

/// Whether the current thread is in a section: the kernel's `rcu_read_lock_held()`. Any context.
#[inline]
pub fn read_lock_held() -> bool {
    NOTRACE.reader().state(&NOTRACE).in_section()
}

/// Waits until every section that is open when it is called has ended: the kernel's
/// `synchronize_rcu()`. Blocks; ends the process with a message if it is called in a section, or
/// in a signal handler that interrupted RCU itself.
pub fn synchronize_rcu() {
    NOTRACE.synchronize(NOTRACE.names.synchronize, Urgency::Normal);
}

/// The same, in a hurry: the kernel's `synchronize_rcu_expedited()`.
pub fn synchronize_rcu_expedited() {
    NOTRACE.synchronize(b"synchronize_rcu_expedited() ", Urgency::Expedited);
}

/// Calls `action` after a grace period, on the worker thread: the kernel's `call_rcu()`. Allocates,
/// and may create the worker: where that is not possible, see `call_rcu()` in the C header.
///
/// ```
/// use std::sync::mpsc::channel;
/// let (done, is_done) = channel();
/// rcu_notrace::call_rcu(move || done.send(7).unwrap());
/// rcu_notrace::rcu_barrier();
/// assert_eq!(is_done.try_recv(), Ok(7));
/// ```
pub fn call_rcu<F: FnOnce() + Send + 'static>(action: F) {
    let node = Box::into_raw(Box::new(Node { head: Head::new(), value: action }));
    // SAFETY: the head is the first field of a box that is given up here and comes back in
    // `call_boxed`, once.
    unsafe { NOTRACE.call_and_tell(node.cast(), call_boxed::<F> as *const () as usize) };
    crate::start::ensure();
    callback::at_safe_point();
}

unsafe extern "C" fn call_boxed<F: FnOnce()>(head: *mut Head) {
    // SAFETY: a box of `call_rcu`, which nobody else has.
    let node = unsafe { Box::from_raw(head.cast::<Node<F>>()) };
    (node.value)();
}

/// Waits until all callbacks that were queued before have run: `rcu_barrier()`. Conditions as for
/// [`synchronize_rcu`]; and not in a callback.
pub fn rcu_barrier() {
    NOTRACE.barrier();
}

/// A value with room for a callback.
#[repr(C)]
struct Node<T> {
    head: Head,
    value: T,
}

/// A mark in time, for [`poll`](Cookie::poll): the kernel's cookie of
/// `get_state_synchronize_rcu()`. Good for 2^62 grace periods.
#[derive(Clone, Copy, Debug)]
pub struct Cookie(u64);

impl Cookie {
    /// Now. Any context. A full fence and a load.
    pub fn now() -> Self {
        Cookie(NOTRACE.state())
    }

    /// Now, and asks the worker thread for a grace period: `start_poll_synchronize_rcu()`. Any context.
    pub fn start() -> Self {
        Cookie(NOTRACE.start_poll(Urgency::Normal))
    }

    /// Whether a full grace period has passed since: `poll_state_synchronize_rcu()`. Any context.
    pub fn poll(self) -> bool {
        NOTRACE.poll(self.0)
    }

    /// Waits until one has: `cond_synchronize_rcu()`. Conditions as for [`synchronize_rcu`].
    pub fn wait(self) {
        NOTRACE.synchronize_since(self.0, b"Cookie::wait() ", Urgency::Normal);
    }
}

/// A value that readers read in sections while writers replace it.
///
/// ```
/// use rcu_notrace::{read, Rcu};
/// let probes = Rcu::new(vec![1, 2]);
/// assert_eq!(read(|section| probes.load(section).len()), 2);
/// let old = probes.replace(vec![1, 2, 3]);
/// assert_eq!(old, [1, 2]);
/// ```
pub struct Rcu<T> {
    current: AtomicPtr<Node<T>>,
    owned: PhantomData<Box<T>>,
}

// SAFETY: readers on all threads share the value, and any thread may take it out and drop it.
unsafe impl<T: Send + Sync> Sync for Rcu<T> {}
// SAFETY: it owns its value as a box does.
unsafe impl<T: Send> Send for Rcu<T> {}

impl<T> Rcu<T> {
    /// Protects `value`. Allocates.
    pub fn new(value: T) -> Self {
        Rcu { current: AtomicPtr::new(Self::boxed(value)), owned: PhantomData }
    }

    fn boxed(value: T) -> *mut Node<T> {
        Box::into_raw(Box::new(Node { head: Head::new(), value }))
    }

    /// The value as it is now, for as long as the section lasts: `rcu_dereference()`. One load.
    #[inline(always)]
    pub fn load<'s>(&'s self, _section: &'s Section) -> &'s T {
        // SAFETY: never null. ASSIGN: Acquire pairs with the exchange in `publish`. The old value
        // is freed a grace period after it was replaced, so not before this section has ended.
        unsafe { &(*self.current.load(Acquire)).value }
    }

    fn publish(&self, value: T) -> *mut Node<T> {
        // ASSIGN: a reader that loads the new pointer sees what it points to.
        self.current.swap(Self::boxed(value), AcqRel)
    }

    /// Publishes `value`, waits for a grace period and returns the old value:
    /// `rcu_assign_pointer()` and `synchronize_rcu()`, whose conditions hold.
    pub fn replace(&self, value: T) -> T {
        let old = self.publish(value);
        synchronize_rcu();
        // SAFETY: `old` came from a box, no other call took it, and no section that could have
        // loaded it is open any more.
        unsafe { Box::from_raw(old) }.value
    }

    /// Publishes `value` and has the old one dropped after a grace period, by the worker thread:
    /// `rcu_assign_pointer()` and `kfree_rcu()`. Does not wait; may create the worker.
    ///
    /// ```
    /// let config = rcu_notrace::Rcu::new(String::from("old"));
    /// rcu_notrace::read(|section| {
    ///     let old = config.load(section);
    ///     config.set(String::from("new"));
    ///     assert_eq!(old, "old");
    /// });
    /// ```
    pub fn set(&self, value: T)
    where
        T: Send + 'static,
    {
        unsafe extern "C" fn drop_boxed<T>(head: *mut Head) {
            // SAFETY: a box that `publish` gave back once.
            drop(unsafe { Box::from_raw(head.cast::<Node<T>>()) });
        }
        let old = self.publish(value);
        // SAFETY: the head is the first field of `old`, which came from a box, and which no other
        // call took.
        unsafe { NOTRACE.call_and_tell(old.cast(), drop_boxed::<T> as *const () as usize) };
        crate::start::ensure();
        callback::at_safe_point();
    }
}

impl<T> Drop for Rcu<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else refers to `self`, so no section borrows the value.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}
