//! The functions of `rcu_notrace/tracepoint.h`, where they are described.

use core::ffi::{c_char, c_int, c_void, CStr};
use core::ptr;

use super::{Held, Module, Probe, Stats, Tracepoint};

/// A module is loaded.
///
/// # Safety
/// It is what the header made.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_module_coming(module: &'static Module) {
    // SAFETY: the caller's.
    unsafe { super::coming(module) };
}

/// A module is unloaded.
#[no_mangle]
pub extern "C" fn rcu_notrace_module_going(module: &'static Module) {
    super::going(module);
}

const DEFAULT_PRIO: c_int = 10;

/// Registers a probe.
///
/// # Safety
/// The function has the tracepoint's type.
#[no_mangle]
pub unsafe extern "C" fn tracepoint_probe_register(
    tracepoint: &'static Tracepoint,
    probe: Option<unsafe extern "C" fn()>,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { tracepoint_probe_register_prio(tracepoint, probe, data, DEFAULT_PRIO) }
}

/// Registers a probe, by priority.
///
/// # Safety
/// The function has the tracepoint's type.
#[no_mangle]
pub unsafe extern "C" fn tracepoint_probe_register_prio(
    tracepoint: &'static Tracepoint,
    probe: Option<unsafe extern "C" fn()>,
    data: *mut c_void,
    prio: c_int,
) -> c_int {
    tracepoint.register(Probe { func: address(probe), data, prio })
}

/// Unregisters a probe.
#[no_mangle]
pub extern "C" fn tracepoint_probe_unregister(
    tracepoint: &'static Tracepoint,
    probe: Option<unsafe extern "C" fn()>,
    data: *mut c_void,
) -> c_int {
    tracepoint.unregister(address(probe), data)
}

fn address(probe: Option<unsafe extern "C" fn()>) -> usize {
    probe.map_or(0, |function| function as usize)
}

/// Waits until no probe runs any more that was unregistered before.
#[no_mangle]
pub extern "C" fn tracepoint_synchronize_unregister() {
    super::synchronize_unregister();
}

/// Calls a function for each tracepoint.
///
/// # Safety
/// The function may be called so.
#[no_mangle]
pub unsafe extern "C" fn for_each_tracepoint(
    fct: unsafe extern "C" fn(*const Tracepoint, *mut c_void),
    private: *mut c_void,
) {
    let held = Held::new();
    // SAFETY: the caller's.
    super::each_tracepoint(&held, |tracepoint| unsafe { fct(tracepoint, private) });
}

/// The first tracepoint by that name.
///
/// # Safety
/// A terminated text.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_find_tracepoint(name: *const c_char) -> *const Tracepoint {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let mut found: *const Tracepoint = ptr::null();
    let held = Held::new();
    super::each_tracepoint(&held, |tracepoint| {
        if found.is_null() && tracepoint.name() == name {
            found = ptr::from_ref(tracepoint);
        }
    });
    found
}

/// What happened.
///
/// # Safety
/// `stats` points to `size` writable bytes.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_get_tracepoint_stats(stats: *mut Stats, size: usize) {
    let now = super::stats(&Held::new());
    // SAFETY: the caller's.
    unsafe { crate::capi::copy_known(&now, stats, size) };
}
