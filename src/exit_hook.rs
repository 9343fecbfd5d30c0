//! Thread exit: a reader leaves the registry before its TLS goes.
//!
//! The hook is a destructor of thread-specific data. Arming it is the one thing on the read side
//! that calls out: `pthread_setspecific`, once in a thread's life, by an address that was bound
//! when the library was loaded. glibc's allocates nothing for the first 32 keys, takes no lock, and
//! may be interrupted anywhere for a key of which only this code stores values. A thread whose hook
//! cannot be armed so (no key yet, or a later key) is not registered; its sections are transient.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::bug;
use crate::callback;
use crate::event;
use crate::flavour;
use crate::reader::hook;
use crate::sys;

/// Our key and one, once it exists.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Keys below this one have their values in the thread's descriptor (glibc's
/// PTHREAD_KEY_2NDLEVEL_SIZE).
const KEYS_WITHOUT_ALLOCATION: u32 = 32;

/// Creates the key: the last of those without allocation, if it is to be had. Once.
///
/// Destructors run in the order of their keys, four times over. A thread that has its first section in
/// another's destructor, in the last of the rounds, still meets ours in that round if our key comes later.
pub fn start() {
    const MOST: usize = KEYS_WITHOUT_ALLOCATION as usize;
    let mut keys: [libc::pthread_key_t; MOST] = [0; MOST];
    let mut created = 0;
    for key in &mut keys {
        // SAFETY: the destructor has the type that is asked for, and its code is never unloaded
        // (-z nodelete).
        if unsafe { libc::pthread_key_create(key, Some(on_thread_exit)) } != 0 {
            break;
        }
        created += 1;
        if *key >= KEYS_WITHOUT_ALLOCATION - 1 || broken!("hook-key") {
            break;
        }
    }
    // They come in ascending order, but for those that others give back meanwhile.
    let created = keys.get(..created).unwrap_or_default();
    let last = created.iter().filter(|key| **key < KEYS_WITHOUT_ALLOCATION).max();
    let Some(&ours) = last.or(created.first()) else { return };
    for &key in created.iter().filter(|key| **key != ours) {
        // SAFETY: created above, and nobody has a value there.
        unsafe { libc::pthread_key_delete(key) };
    }
    KEY.store(ours + 1, Release);
}

/// Arms the hook for this thread if that is certain not to allocate. True if it is armed.
pub fn arm_without_allocating() -> bool {
    set(KEYS_WITHOUT_ALLOCATION)
}

/// Arms the hook for this thread. May allocate.
pub fn arm() {
    set(u32::MAX);
}

#[inline(never)]
fn set(keys: u32) -> bool {
    let hook = hook::of_this_thread();
    if hook.load(Relaxed) == hook::ARMED {
        return true;
    }
    let key = match KEY.load(Acquire) {
        0 => return false,
        key => key - 1,
    };
    if key >= keys {
        return false;
    }
    // Somebody may have interposed the setter and trace it: the sections of that call find ARMING
    // and stay transient.
    let arming = if broken!("hook-arming") { hook::NONE } else { hook::ARMING };
    if let Err(now) = hook.compare_exchange(hook::NONE, arming, SeqCst, Relaxed) {
        return now == hook::ARMED;
    }
    // SAFETY: a valid key, and a value that the destructor does not follow.
    let armed = unsafe { libc::pthread_setspecific(key, ptr::from_ref(hook).cast()) } == 0;
    hook.store(if armed { hook::ARMED } else { hook::NONE }, Relaxed);
    armed
}

/// This thread is about to end. Sections entered from here on (other destructors, a traced
/// `free`) are transient.
extern "C" fn on_thread_exit(_: *mut c_void) {
    for flavour in flavour::ALL {
        let reader = flavour.reader();
        if reader.runs_callbacks() && !broken!("callback-exit") {
            let why = b"ended by a callback (pthread_exit?), and no other would ever be called";
            bug::die_in_thread(sys::gettid(), &[why, b""]);
        }
        let died_inside = reader.state(flavour).in_section();
        if died_inside {
            bug::warn_of_thread(
                sys::gettid(),
                b" exits inside a read-side critical section, which ends here",
            );
        }
        reader.leave(flavour, true);
        if died_inside && !broken!("exit-inside") {
            reader.word.reset();
            flavour.transient.exit(reader, flavour);
        }
    }
    if event::enabled::rcu_unregister_thread() {
        event::rcu_unregister_thread(sys::gettid());
    }
    callback::at_thread_exit();
}
