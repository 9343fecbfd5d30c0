//! The probes of a tracepoint: an array, copied to be changed, published, and freed a grace period
//! later. Sorted by priority, the highest first; those of one priority in order of registration.
//!
//! Whoever runs through it reads function and data from one element, which never gets another
//! function but the [`stub`]: so no function ever sees another's data, whatever came and went
//! between, and no grace period is needed before an array is published.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, Release},
};

use crate::bug;
use crate::callback::Head;

use super::Tracepoint;

/// An element, as the C header has it.
#[repr(C)]
pub struct Func {
    func: AtomicUsize,
    data: *mut c_void,
    prio: c_int,
}

impl Func {
    /// Function and data of the element there; nothing at the end, or where there is no array.
    ///
    /// # Safety
    /// Null, or in an array that is not freed meanwhile.
    pub unsafe fn at(element: *const Func) -> Option<(usize, *mut c_void)> {
        // SAFETY: the caller's.
        let element = unsafe { element.as_ref() }?;
        match element.func.load(Relaxed) {
            0 => None,
            func => Some((func, element.data)),
        }
    }
}

/// One that is to be registered.
#[derive(Clone, Copy)]
pub struct Probe {
    /// The function's address.
    pub func: usize,
    /// Its first argument.
    pub data: *mut c_void,
    /// The higher, the earlier.
    pub prio: c_int,
}

/// What precedes the elements in their block.
type Front = Head;

/// Stands where a probe was removed while there was no memory for a shorter array. Whatever a
/// tracepoint's parameters are: in C's calling conventions the caller takes them off.
unsafe extern "C" fn stub() {}

fn stub_address() -> usize {
    stub as *const () as usize
}

/// The array's elements, without the stubs. Under the lock.
fn live(array: *const Func) -> impl Iterator<Item = Probe> {
    elements(array)
        .map(|element| Probe {
            func: element.func.load(Relaxed),
            data: element.data,
            prio: element.prio,
        })
        .filter(|probe| probe.func != stub_address())
}

fn elements(array: *const Func) -> impl Iterator<Item = &'static Func> {
    let mut next = array;
    core::iter::from_fn(move || {
        // SAFETY: null, or within an array of ours, which ends with an element without a function
        // and is not freed under the lock.
        let element = unsafe { next.as_ref() }?;
        if element.func.load(Relaxed) == 0 {
            return None;
        }
        // SAFETY: as above: it was not the last.
        next = unsafe { next.add(1) };
        Some(element)
    })
}

/// Puts a probe in its place.
pub fn add(tracepoint: &Tracepoint, probe: Probe) -> Result<(), i32> {
    let old = tracepoint.funcs.load(Relaxed);
    if probe.func == 0 {
        bug::warn(&[b"tracepoint ", tracepoint.name(), b": a probe without a function"]);
        return Err(libc::EINVAL);
    }
    let same = |other: Probe| other.func == probe.func && other.data == probe.data;
    if live(old).any(same) {
        bug::warn(&[b"tracepoint ", tracepoint.name(), b": a probe is registered twice"]);
        return Err(libc::EEXIST);
    }
    let before = live(old).take_while(|other| other.prio >= probe.prio);
    let after = live(old).skip_while(|other| other.prio >= probe.prio);
    let new = array(before.chain([probe]).chain(after)).ok_or(libc::ENOMEM)?;
    publish(tracepoint, new);
    Ok(())
}

/// Takes a probe out. Does not fail for want of memory.
pub fn remove(tracepoint: &Tracepoint, func: usize, data: *mut c_void) -> Result<(), ()> {
    let old = tracepoint.funcs.load(Relaxed);
    let is_it = |other: &Probe| other.func == func && other.data == data;
    if !live(old).any(|probe| is_it(&probe)) {
        bug::warn(&[b"tracepoint ", tracepoint.name(), b": the probe is not registered"]);
        return Err(());
    }
    let rest = || live(old).filter(|probe| !is_it(probe));
    if rest().next().is_none() {
        publish(tracepoint, ptr::null_mut());
    } else if let Some(new) = array(rest()) {
        publish(tracepoint, new);
    } else {
        for element in elements(old) {
            if element.func.load(Relaxed) == func && element.data == data && !broken!("probe-stub")
            {
                element.func.store(stub_address(), Release);
            }
        }
    }
    Ok(())
}

/// A new array of these.
fn array(probes: impl Iterator<Item = Probe>) -> Option<*mut Func> {
    let mut block = Block::new()?;
    for probe in probes {
        block.push(probe)?;
    }
    block.finish()
}

/// An array that grows.
struct Block {
    start: *mut Front,
    used: usize,
    room: usize,
}

impl Block {
    fn new() -> Option<Self> {
        let mut block = Block { start: ptr::null_mut(), used: 0, room: 0 };
        block.grow(4)?;
        Some(block)
    }

    fn grow(&mut self, room: usize) -> Option<()> {
        let bytes = room.checked_mul(size_of::<Func>())?.checked_add(size_of::<Front>())?;
        // SAFETY: null or a block of libc's; what is in it is plain data.
        let start = unsafe { libc::realloc(self.start.cast(), bytes) };
        if start.is_null() {
            return None;
        }
        (self.start, self.room) = (start.cast(), room);
        Some(())
    }

    fn push(&mut self, probe: Probe) -> Option<()> {
        if self.used == self.room {
            self.grow(self.room * 2)?;
        }
        let element =
            Func { func: AtomicUsize::new(probe.func), data: probe.data, prio: probe.prio };
        // SAFETY: `used` is less than `room`, for which `grow` made place behind the front.
        unsafe { self.start.add(1).cast::<Func>().add(self.used).write(element) };
        self.used += 1;
        Some(())
    }

    /// Ends the array.
    fn finish(mut self) -> Option<*mut Func> {
        self.push(Probe { func: 0, data: ptr::null_mut(), prio: 0 })?;
        // SAFETY: the block begins with a front.
        unsafe { self.start.write(Front::new()) };
        // SAFETY: as in `push`.
        let first = unsafe { self.start.add(1).cast() };
        self.start = ptr::null_mut();
        Some(first)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: null or a block of libc's that nobody else has.
        unsafe { libc::free(self.start.cast()) };
    }
}

/// Puts an array in the place of another one, which is freed when nobody can be in it.
fn publish(tracepoint: &Tracepoint, new: *mut Func) {
    // PROBES: who loads the array (rcu_dereference in tracepoint.h) sees its elements.
    let old = tracepoint.funcs.swap(new, Release);
    if old.is_null() {
        return;
    }
    // SAFETY: the front stands before the first element, in a block of libc's, of which nobody who
    // comes from now on can learn; an action of one frees the block in which the head is first.
    unsafe {
        let front = old.cast::<Front>().sub(1);
        if broken!("probe-grace-period") {
            libc::memset(front.cast(), 0x5a, size_of::<Front>() + size_of::<Func>());
            libc::free(front.cast());
            return;
        }
        tracepoint.flavour().call(front, 1);
    }
}

const _: () = assert!(size_of::<Front>() == 16 && size_of::<Func>() == 24);
