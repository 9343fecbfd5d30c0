//! A site: a place in the code where a tracepoint is, and how it is switched.
//!
//! | form | bytes 0 to 4 | bytes 5 to 12 |
//! |---|---|---|
//! | as compiled | `cmpb $0, enabled(%rip)` ... | ... `jne target` |
//! | patched, disabled | `test $offset, %eax` (a9 offset) | an 8-byte nop |
//! | patched, enabled | `jmp target` (e9 offset) | the same |
//!
//! The compiler holds the flags for clobbered, so a `test` does nothing. Disabled and enabled differ in one
//! byte, the first: so a switch is one store of a byte, whatever the alignment, and a processor that
//! fetches at the same time finds one instruction or the other, both whole. (So far the kernel's own
//! patching goes as well: its first step is one byte over live code.) membarrier's SYNC_CORE then has
//! every processor that runs a thread of this process fetch anew.
//!
//! From the form as compiled to the patched one 13 bytes change, with no such grace; that is done when
//! the module is loaded, while the process has one thread. Otherwise the site stays as it was
//! compiled, and `enabled` is what is switched.

use core::ptr;
use core::sync::atomic::{
    fence, AtomicPtr, AtomicU8,
    Ordering::{Relaxed, Release, SeqCst},
};

use super::patch::{self, Writable};
use super::{Held, Tracepoint};
use crate::{sys, worker};

/// As the C header has it.
#[repr(C)]
pub struct Site {
    code: i32,
    target: i32,
    tracepoint: *const Tracepoint,
    next: AtomicPtr<Site>,
    enabled: AtomicU8,
    form: AtomicU8,
    _reserved: [u8; 6],
}

const _: () = assert!(size_of::<Site>() == 32);

/// Values of [`Site::form`].
const NEW: u8 = 0;
const LOADED: u8 = 1;
const PATCHED: u8 = 2;

const SIZE: usize = 13;
const TEST: u8 = 0xa9;
const JUMP: u8 = 0xe9;
const NOP8: [u8; 8] = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];

impl Site {
    fn code(&self) -> *mut u8 {
        ptr::from_ref(&self.code).cast::<u8>().wrapping_offset(self.code as isize).cast_mut()
    }

    fn target(&self) -> *mut u8 {
        ptr::from_ref(&self.target).cast::<u8>().wrapping_offset(self.target as isize).cast_mut()
    }

    /// The first byte.
    fn opcode(&self) -> &AtomicU8 {
        // SAFETY: code of a loaded module, which is read and fetched, and written here alone.
        unsafe { AtomicU8::from_ptr(self.code()) }
    }

    fn is_as_compiled(&self) -> bool {
        // SAFETY: the module's code, 13 bytes from where its table says.
        let bytes = unsafe { self.code().cast::<[u8; SIZE]>().read_unaligned() };
        bytes[..2] == [0x80, 0x3d] && bytes[6..9] == [0, 0x0f, 0x85]
    }

    /// Gives it the patched form, if its page can be written. The process has one thread.
    fn convert(&self, page: &mut Writable) -> bool {
        let code = self.code();
        if !self.is_as_compiled() || !page.cover(code, SIZE) {
            return false;
        }
        let from = code as isize + 5;
        let Ok(offset) = i32::try_from(self.target() as isize - from) else { return false };
        let mut bytes = [TEST, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[1..5].copy_from_slice(&offset.to_le_bytes());
        bytes[5..].copy_from_slice(&NOP8);
        // SAFETY: as in `is_as_compiled`; the page is writable, and nobody executes it: the one
        // thread there is is here.
        unsafe { code.cast::<[u8; SIZE]>().write_unaligned(bytes) };
        true
    }
}

/// The C library keeps these (32 and 33) out of its own masks; code that is being converted is for no handler.
const LIBC_OWN: u64 = 3 << 31;

/// Takes a module's sites in, and switches them as their tracepoints are.
///
/// # Safety
/// They are the module's, from the first to behind the last.
pub unsafe fn adopt(begin: *mut Site, end: *mut Site) {
    if begin == end {
        return;
    }
    let patches = patch::is_safe_now();
    // No handler shall find an instruction by half.
    let mask = sys::block_signals(worker::others() | LIBC_OWN);
    let mut page = Writable::none();
    let mut place = end;
    // From the last to the first: each tracepoint's list is then in the order of the code.
    while place > begin {
        // SAFETY: between the two ends.
        let site = unsafe {
            place = place.sub(1);
            &*place
        };
        // SAFETY: the module's tracepoint, or one of a module that this one needs.
        let Some(tracepoint) = (unsafe { site.tracepoint.as_ref() }) else { continue };
        if site.form.load(Relaxed) == NEW {
            let patched = patches && site.convert(&mut page);
            site.form.store(if patched { PATCHED } else { LOADED }, Relaxed);
        }
        site.next.store(tracepoint.sites.load(Relaxed), Relaxed);
        tracepoint.sites.store(place, Relaxed);
        if tracepoint.is_enabled() {
            site.switch(true, &mut page);
        }
    }
    drop(page);
    sys::set_signal_mask(mask);
    patch::synchronize();
}

/// Empties the lists that these sites are on, or shall be.
pub fn unlist(_held: &Held, begin: *mut Site, end: *mut Site) {
    each(begin, end, |site| {
        // SAFETY: as in `adopt`.
        if let Some(tracepoint) = unsafe { site.tracepoint.as_ref() } {
            tracepoint.sites.store(ptr::null_mut(), Relaxed);
        }
    });
}

/// Makes their pages what they are when nothing is switched.
pub fn protect(_held: &Held, begin: *mut Site, end: *mut Site) {
    let mut page = Writable::none();
    each(begin, end, |site| {
        if site.form.load(Relaxed) == PATCHED {
            page.cover(site.code(), SIZE);
        }
    });
}

fn each(begin: *mut Site, end: *mut Site, mut visit: impl FnMut(&'static Site)) {
    let mut place = begin;
    while place < end {
        // SAFETY: between the two ends of a module's sites; it is listed, so loaded.
        visit(unsafe { &*place });
        // SAFETY: as above.
        place = unsafe { place.add(1) };
    }
}

/// Takes a module's sites off their tracepoints' lists.
pub fn forget(_held: &Held, begin: *mut Site, end: *mut Site) {
    each(begin, end, |site| {
        // SAFETY: as in `adopt`; a module goes before those that it needs.
        let Some(tracepoint) = (unsafe { site.tracepoint.as_ref() }) else { return };
        let mut link = &tracepoint.sites;
        // SAFETY: sites on a list are those of loaded modules.
        while let Some(other) = unsafe { link.load(Relaxed).as_ref() } {
            if (begin..end).contains(&ptr::from_ref(other).cast_mut()) {
                link.store(other.next.load(Relaxed), Relaxed);
            } else {
                link = &other.next;
            }
        }
    });
}

/// How many of them are patched, and how many load.
pub fn count(_held: &Held, begin: *mut Site, end: *mut Site) -> (u64, u64) {
    let (mut patched, mut loaded) = (0, 0);
    each(begin, end, |site| match site.form.load(Relaxed) {
        PATCHED => patched += 1,
        _ => loaded += 1,
    });
    (patched, loaded)
}

impl Site {
    /// Switches it; false if its page cannot be written.
    fn switch(&self, enabled: bool, page: &mut Writable) -> bool {
        if self.form.load(Relaxed) != PATCHED {
            self.enabled.store(u8::from(enabled), Release);
            return true;
        }
        let opcode = if enabled { JUMP } else { TEST };
        if self.opcode().load(Relaxed) == opcode {
            return true;
        }
        let writable = page.cover(self.code(), 1);
        if writable {
            if broken!("one-byte") {
                // As a change in steps would look meanwhile: no instruction.
                self.opcode().store(0x06, Release);
            }
            widen!("one-byte", 50);
            self.opcode().store(opcode, Release);
        }
        writable
    }
}

/// Switches all sites of a tracepoint, on all processors: when this returns, whoever comes to one of them
/// does as it says. False if some page cannot be written: the sites there stay as they were.
pub fn flip(tracepoint: &Tracepoint, enabled: bool) -> bool {
    let mut page = Writable::none();
    let mut all = true;
    let mut next = tracepoint.sites.load(Relaxed);
    // SAFETY: as in `forget`; the caller holds the lock.
    while let Some(site) = unsafe { next.as_ref() } {
        all &= site.switch(enabled, &mut page);
        next = site.next.load(Relaxed);
    }
    drop(page);
    // The bytes that are loaded: everybody sees them from here on.
    fence(SeqCst);
    patch::synchronize();
    all
}
