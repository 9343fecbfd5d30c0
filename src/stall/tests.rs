//! Threads caught by a signal in known places, and what the walk makes of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::hint::{black_box, spin_loop};
use std::mem::zeroed;
use std::os::unix::thread::JoinHandleExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use super::image::Place;
use super::unwind::{arch, Frame, Registers, REGISTERS};
use super::*;
use crate::sys::{self, file::read_memory, KernelSigaction};

// ---- a thread, caught ------------------------------------------------------------------------

const CATCH: i32 = libc::SIGUSR2;
const OTHER: i32 = libc::SIGUSR1;

static CAUGHT: AtomicPtr<Snapshot> = AtomicPtr::new(ptr::null_mut());
static IS_CAUGHT: AtomicBool = AtomicBool::new(false);
/// How far the thread is.
static STAGE: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// One of these tests at a time: they share the signals and the flags.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    STAGE.store(0, SeqCst);
    STOP.store(false, SeqCst);
    IS_CAUGHT.store(false, SeqCst);
    guard
}

fn empty() -> Box<Snapshot> {
    Box::new(Snapshot::new())
}

extern "C" fn catch(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: a snapshot that waits for it, and the kernel's context of this signal.
    let caught = unsafe {
        let caught = &mut *CAUGHT.load(SeqCst);
        caught.set_registers(context);
        caught
    };
    caught.stack_start = caught.registers[arch::SP];
    caught.stack_len = read_memory(caught.stack_start, &mut caught.stack);
    IS_CAUGHT.store(true, SeqCst);
}

fn handle(signal: i32, handler: usize) {
    // SAFETY: a zeroed sigaction is a valid one; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// Runs a thread that says its stage and goes on until it is to stop; a snapshot of it there.
fn caught(wanted: u32, send: Option<i32>, body: extern "C" fn()) -> Box<Snapshot> {
    handle(CATCH, catch as *const () as usize);
    let thread = thread::spawn(move || body());
    let kill = |signal| {
        // SAFETY: the thread is not joined yet.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) }
    };
    let wait = |stage: u32| {
        while STAGE.load(SeqCst) < stage {
            thread::yield_now();
        }
    };
    if let Some(signal) = send {
        wait(1);
        kill(signal);
    }
    wait(wanted);
    // Where it blocks, it is there by then.
    thread::sleep(std::time::Duration::from_millis(30));
    let mut snapshot = empty();
    CAUGHT.store(&raw mut *snapshot, SeqCst);
    kill(CATCH);
    while !IS_CAUGHT.load(SeqCst) {
        thread::yield_now();
    }
    STOP.store(true, SeqCst);
    thread.join().expect("the body does not panic");
    snapshot
}

fn described(images: &mut Images, pc: u64, exact: bool) -> String {
    let mut line = Line::new();
    images.describe(pc, exact, &mut line);
    String::from_utf8_lossy(line.text()).into_owned()
}

fn walk(snapshot: &Snapshot) -> Vec<String> {
    let mut images = Images::new();
    let frames = unwind(snapshot, &mut images);
    let lines: Vec<_> =
        frames.each().map(|(pc, exact)| described(&mut images, pc, exact)).collect();
    println!("{}\n", lines.join("\n"));
    lines
}

/// Where each name is among the lines; they are all there, one time each.
fn positions(lines: &[String], names: &[&str]) -> Vec<usize> {
    let position = |name: &&str| {
        let start = format!("{name}+0x");
        let mut found = lines.iter().enumerate().filter(|(_, line)| line.starts_with(&start));
        match (found.next(), found.next()) {
            (Some((position, _)), None) => position,
            _ => panic!("{name} is not once in {lines:#?}"),
        }
    };
    names.iter().map(position).collect()
}

// ---- known places ----------------------------------------------------------------------------

fn spin(stage: u32) {
    STAGE.store(stage, SeqCst);
    while !STOP.load(SeqCst) {
        spin_loop();
    }
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_inner() {
    spin(1);
    black_box(());
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_middle() {
    let room = black_box([1u8; 3000]);
    rcu_stall_test_inner();
    black_box(room);
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_outer() {
    rcu_stall_test_middle();
    black_box(());
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_sleeper() {
    STAGE.store(1, SeqCst);
    while !STOP.load(SeqCst) {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        // SAFETY: a live timespec.
        unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
    }
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_waiter() {
    STAGE.store(1, SeqCst);
    // SAFETY: both are initialized, and nobody else's.
    unsafe {
        let mut lock = libc::PTHREAD_MUTEX_INITIALIZER;
        let mut condition = libc::PTHREAD_COND_INITIALIZER;
        libc::pthread_mutex_lock(&raw mut lock);
        while !STOP.load(SeqCst) {
            let mut until: libc::timespec = zeroed();
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut until);
            until.tv_nsec = (until.tv_nsec + 300_000_000).min(999_999_999);
            libc::pthread_cond_timedwait(&raw mut condition, &raw mut lock, &raw const until);
        }
        libc::pthread_mutex_unlock(&raw mut lock);
    }
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_handler(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    spin(2);
    black_box(());
}

#[no_mangle]
#[inline(never)]
extern "C" fn rcu_stall_test_interrupted() {
    spin(1);
    // Unlike the chain's: equal functions are made one.
    black_box(1);
}

#[test]
fn a_chain_of_calls_is_named_in_order_to_where_the_thread_began() {
    let _alone = alone();
    let lines = walk(&caught(1, None, rcu_stall_test_outer));
    let names = ["rcu_stall_test_inner", "rcu_stall_test_middle", "rcu_stall_test_outer"];
    let found = positions(&lines, &names);
    assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains("libc")), "{lines:#?}");
}

#[test]
fn a_thread_that_blocks_in_libc_is_followed_out_of_it() {
    let _alone = alone();
    for (name, body) in [
        ("rcu_stall_test_sleeper", rcu_stall_test_sleeper as extern "C" fn()),
        ("rcu_stall_test_waiter", rcu_stall_test_waiter),
    ] {
        STAGE.store(0, SeqCst);
        STOP.store(false, SeqCst);
        IS_CAUGHT.store(false, SeqCst);
        let lines = walk(&caught(1, None, body));
        let found = positions(&lines, &[name])[0];
        assert!(found > 0 && lines[..found].iter().all(|line| line.contains("libc")), "{lines:#?}");
    }
}

/// Libc's return from a handler, and ours, which has no call frame information.
#[test]
fn a_signal_handler_is_followed_to_what_it_interrupted() {
    let _alone = alone();
    for ours in [false, true] {
        STAGE.store(0, SeqCst);
        STOP.store(false, SeqCst);
        IS_CAUGHT.store(false, SeqCst);
        let handler = rcu_stall_test_handler as *const () as usize;
        if ours {
            let flags = libc::SA_SIGINFO as usize | 0x0400_0000;
            let action = KernelSigaction { handler, flags, restorer: sys::sigreturn(), mask: 0 };
            sys::rt_sigaction(OTHER, Some(&action), None).expect("nothing forbids it");
        } else {
            handle(OTHER, handler);
        }
        let snapshot = caught(2, Some(OTHER), rcu_stall_test_interrupted);
        let lines = walk(&snapshot);
        let names = ["rcu_stall_test_handler", "rcu_stall_test_interrupted"];
        let found = positions(&lines, &names);
        assert!(found[0] < found[1], "{lines:#?}");
        let mut images = Images::new();
        let exact = unwind(&snapshot, &mut images).each().filter(|(_, exact)| *exact).count();
        assert_eq!(exact, 2, "where it is, and where it was interrupted");
    }
}

/// Both ways through libc's signal frame agree: by the kernel's layout, by call frame information
/// (which is all expressions there).
#[test]
#[cfg(target_arch = "x86_64")]
fn a_signal_frame_is_the_same_by_its_layout_and_by_its_table() {
    let _alone = alone();
    handle(OTHER, rcu_stall_test_handler as *const () as usize);
    let snapshot = caught(2, Some(OTHER), rcu_stall_test_interrupted);
    let mut images = Images::new();
    let mut registers = Registers { values: snapshot.registers, known: u64::MAX };
    let mut exact = true;
    for count in 0.. {
        let frame = Frame { snapshot: &snapshot, registers: &registers, exact, first: count == 0 };
        let pc = registers.get(arch::PC).expect("the walk comes to the signal frame");
        let Place::Image(number) = images.find(pc - u64::from(!exact)) else { panic!("{pc:#x}") };
        let image = images.get(number);
        if let Some(by_layout) = frame.interrupted() {
            let by_table = image.and_then(|image| frame.by_table(image)).flatten();
            let (by_table, exact) = by_table.expect("libc has call frame information there");
            assert!(exact);
            assert_eq!(by_table.values, by_layout.values);
            return;
        }
        (registers, exact) = frame.caller(image).expect("as above");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_expression_that_linkers_write_for_the_plt() {
    // rsp + 8 + ((rip & 15) >= 11 ? 8 : 0)
    const PLT: [u8; 11] = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    let snapshot = empty();
    let evaluate = |pc: u64, code: &[u8]| {
        let mut registers = Registers { values: [0; REGISTERS], known: u64::MAX };
        registers.set(arch::SP, Some(0x7000));
        registers.set(arch::PC, Some(pc));
        let frame = Frame { snapshot: &snapshot, registers: &registers, exact: true, first: true };
        frame.evaluate(code, None)
    };
    assert_eq!(evaluate(0x1236, &PLT), Some(0x7008));
    assert_eq!(evaluate(0x123a, &PLT), Some(0x7008));
    assert_eq!(evaluate(0x123b, &PLT), Some(0x7010));
    // constu 300, lit4, minus; nothing; a load of what was not copied; too much.
    assert_eq!(evaluate(0, &[0x10, 0xac, 0x02, 0x34, 0x1c]), Some(296));
    for nothing in [&[][..], &[0x22], &[0x77, 0, 0x06], &[0x30; 9], &[0xff], &[0x0d, 1]] {
        assert_eq!(evaluate(0, nothing), None, "{nothing:x?}");
    }
}

#[test]
fn without_call_frame_information_the_frame_pointers_are_followed() {
    let mut snapshot = empty();
    let code = walk as *const () as u64;
    snapshot.stack_start = 0x1000;
    snapshot.stack_len = 0x100;
    // Of no file: that is code without call frame information.
    // SAFETY: a new mapping.
    let page = unsafe {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) as u64
    };
    let mut put = |at: usize, word: u64| {
        snapshot.stack[at..at + 8].copy_from_slice(&word.to_le_bytes());
    };
    put(0x20, 0x1040);
    put(0x28, page + 8);
    put(0x40, 0x1080);
    put(0x48, page + 16);
    // A frame pointer that leads back.
    put(0x80, 0x1020);
    put(0x88, code);
    snapshot.registers[arch::PC] = page;
    snapshot.registers[arch::SP] = 0x1008;
    snapshot.registers[arch::FP] = 0x1020;
    let mut images = Images::new();
    let frames = unwind(&snapshot, &mut images);
    let pcs: Vec<_> = frames.each().map(|(pc, _)| pc).collect();
    assert_eq!(pcs[..4], [page, page + 8, page + 16, code]);
    assert!(pcs.len() <= 5, "{pcs:x?}");
    snapshot.stack_len = 0x48;
    let frames = unwind(&snapshot, &mut images);
    assert_eq!(frames.each().count(), 2, "a return address that was not copied");
    // SAFETY: ours, and nothing is in it.
    unsafe { libc::munmap(page as *mut c_void, 4096) };
}

// ---- garbage ---------------------------------------------------------------------------------

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn garbage_gives_a_frame_at_most_and_damage_never_more_than_there_is_room_for() {
    let mut images = Images::new();
    let mut state = 88_172_645_463_325_252;
    assert_eq!(unwind(&empty(), &mut images).each().count(), 1);
    for _ in 0..200 {
        let mut snapshot = empty();
        snapshot.registers = snapshot.registers.map(|_| random(&mut state));
        snapshot.stack_len = random(&mut state) as usize;
        snapshot.stack_start = snapshot.registers[arch::SP];
        assert_eq!(unwind(&snapshot, &mut images).each().count(), 1);
    }
    let _alone = alone();
    let mut snapshot = caught(1, None, rcu_stall_test_outer);
    let whole = unwind(&snapshot, &mut images).each().count();
    let length = snapshot.stack_len;
    snapshot.stack_len = 0;
    assert!(unwind(&snapshot, &mut images).each().count() <= 2);
    for _ in 0..200 {
        snapshot.stack_len = random(&mut state) as usize % length;
        assert!(unwind(&snapshot, &mut images).each().count() <= whole);
    }
    snapshot.stack_len = length;
    for _ in 0..2000 {
        let place = (random(&mut state) as usize % 0x2000) & !7;
        let known = snapshot.registers[random(&mut state) as usize % REGISTERS];
        let word = if state & 1 == 0 { known } else { random(&mut state) };
        if let Some(word_there) = snapshot.stack.get_mut(place..place + 8) {
            word_there.copy_from_slice(&word.to_le_bytes());
        }
        assert!((1..=64).contains(&unwind(&snapshot, &mut images).each().count()));
    }
}

// ---- names -----------------------------------------------------------------------------------

#[test]
fn addresses_of_nothing_are_printed_bare() {
    let mut images = Images::new();
    for (address, exact) in [(0, true), (0, false), (1, true), (u64::MAX, true), (u64::MAX, false)]
    {
        assert_eq!(described(&mut images, address, exact), format!("{address:#x}"));
    }
    // Data, and the stack, have no names.
    let here = &raw const images as u64;
    assert_eq!(described(&mut images, here, true), format!("{here:#x}"));
}

#[test]
fn functions_of_this_program_of_libc_and_of_the_vdso_have_names() {
    let mut images = Images::new();
    let start = rcu_stall_test_outer as *const () as u64;
    let own = described(&mut images, start, true);
    assert!(own.starts_with("rcu_stall_test_outer+0x0 (rcu_notrace-"), "{own}");
    let own = described(&mut images, start + 1, false);
    assert!(own.starts_with("rcu_stall_test_outer+0x1 ("), "{own}");
    let libc = described(&mut images, libc::getppid as *const () as u64 + 2, true);
    assert!(libc.starts_with("getppid+0x2 (libc"), "{libc}");
    // SAFETY: an integer from the kernel.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    if vdso != 0 {
        let lines: Vec<_> =
            (0..0x1000).step_by(16).map(|at| described(&mut images, vdso + at, true)).collect();
        assert!(lines.iter().all(|line| line.contains("[vdso]")), "{lines:#?}");
        let name = if cfg!(target_arch = "x86_64") { "__vdso_" } else { "__kernel_" };
        assert!(lines.iter().any(|line| line.starts_with(name)), "{lines:#?}");
    }
}

/// A copy of a library, mapped by hand, of which `change` changes the file.
fn mapped_copy(name: &str, change: impl FnOnce(&PathBuf)) -> [String; 2] {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let libc = maps.lines().find(|line| line.contains("/libc.so")).expect("not linked statically");
    let libc = libc.split_whitespace().last().expect("the path");
    let file = std::env::temp_dir().join(format!("{name}-{}.so", std::process::id()));
    std::fs::copy(libc, &file).expect("the temporary directory is writable");
    let opened = std::fs::File::open(&file).expect("it was made just now");
    let length = opened.metadata().expect("as above").len() as usize;
    // SAFETY: a new mapping; the address in it is of a function that is at the same place there.
    let (start, base) = unsafe {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&opened);
        let start = libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, fd, 0);
        let mut info: libc::Dl_info = zeroed();
        libc::dladdr(libc::getppid as *const c_void, &raw mut info);
        (start as u64, info.dli_fbase as u64)
    };
    let address = start + (libc::getppid as *const () as u64 - base);
    change(&file);
    let mapped = described(&mut Images::new(), address, true);
    // SAFETY: nothing is in it.
    unsafe { libc::munmap(start as *mut c_void, length) };
    let unmapped = described(&mut Images::new(), address, true);
    let _ = std::fs::remove_file(&file);
    assert_eq!(unmapped, format!("{address:#x}"), "nothing is left of it");
    [mapped, file.file_name().expect("it has one").to_string_lossy().into_owned()]
}

#[test]
fn a_file_that_is_gone_or_damaged_gives_no_names_and_no_fault() {
    let [line, file] = mapped_copy("stall-whole", |_| {});
    assert!(line.starts_with("getppid+0x0 (") && line.contains(&file), "{line}");
    let [line, file] = mapped_copy("stall-deleted", |path| {
        std::fs::remove_file(path).expect("it is there");
    });
    assert!(line.starts_with(&format!("{file} (deleted)+0x")), "{line}");
    let [line, file] = mapped_copy("stall-empty", |path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it is there");
        file.set_len(0).expect("it can be cut off");
    });
    assert!(line.starts_with(&format!("{file}+0x")), "{line}");
    let [line, file] = mapped_copy("stall-short", |path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it is there");
        file.set_len(8192).expect("it can be cut off");
    });
    assert!(line.starts_with(&format!("{file}+0x")), "{line}");
}

// ---- what a report must not do -----------------------------------------------------------------

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator; to count does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Files that are open, and bytes that are mapped.
fn held() -> (usize, u64) {
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux has it").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let size = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(number(end)? - number(start)?)
    };
    (files, maps.lines().filter_map(size).sum())
}

#[test]
fn a_report_allocates_nothing_and_leaves_nothing_behind() {
    const NAME: &str = "stall::tests::a_report_allocates_nothing_and_leaves_nothing_behind";
    const ALONE: &str = "RCU_STALL_TEST_ALONE";
    // In a process of its own: other tests map memory and open files meanwhile.
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("Linux has it");
        let mut child = std::process::Command::new(program);
        child.args(["--exact", NAME, "--test-threads=1"]).env(ALONE, "1");
        let output = child.output().expect("it runs here, so it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let _alone = alone();
    let snapshot = caught(1, None, rcu_stall_test_outer);
    let _ = held();
    let (before, allocations) = (held(), ALLOCATIONS.with(Cell::get));
    let mut line = Line::new();
    for _ in 0..3 {
        let mut images = Images::new();
        let frames = unwind(&snapshot, &mut images);
        for (pc, exact) in frames.each() {
            line.clear();
            images.describe(pc, exact, &mut line);
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), allocations);
    assert_eq!(held(), before);
    assert!(!line.text().is_empty());
}
