//! USDT notes: places in the code that debuggers and perf(1) know by name, as sys/sdt.h makes them.

/// A nop, and a note of where it is and in which registers its arguments are. Provider `rcu`. Who wants to
/// be told counts the semaphore up.
#[cfg(target_arch = "x86_64")]
macro_rules! usdt {
    ($name:ident, $semaphore:path, $($arg:ident),*) => {
        // SAFETY: a nop; the rest goes to sections that are not loaded, but for one byte that only
        // has an address.
        unsafe {
            core::arch::asm!(
                "990: nop",
                ".pushsection .note.stapsdt, \"\", @note",
                ".balign 4",
                ".4byte 992f-991f, 994f-993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993: .8byte 990b, _.stapsdt.base, {semaphore}",
                ".asciz \"rcu\"",
                concat!(".asciz \"", stringify!($name), "\""),
                concat!(".asciz \"", $("8@{", stringify!($arg), "} ",)* "\""),
                "994: .balign 4",
                ".popsection",
                ".ifndef _.stapsdt.base",
                ".pushsection .stapsdt.base, \"aG\", @progbits, .stapsdt.base, comdat",
                ".weak _.stapsdt.base",
                ".hidden _.stapsdt.base",
                "_.stapsdt.base: .space 1",
                ".size _.stapsdt.base, 1",
                ".popsection",
                ".endif",
                semaphore = sym $semaphore,
                $($arg = in(reg) $arg as u64,)*
                options(att_syntax, nostack, preserves_flags, readonly)
            );
        }
    };
}

#[cfg(not(target_arch = "x86_64"))]
macro_rules! usdt {
    ($name:ident, $semaphore:path, $($arg:ident),*) => {
        $(let _ = $arg;)*
    };
}

pub(crate) use usdt;
