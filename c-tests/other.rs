//! A second Rust library in an archive of its own, as a program may have one besides ours.

/// Uses enough of std to bring its symbols along.
#[no_mangle]
pub extern "C" fn other_rust_library() -> usize {
    let words: Vec<String> = (0..10).map(|n| format!("{n}")).collect();
    std::thread::spawn(move || words.join("").len()).join().unwrap_or(0)
}
