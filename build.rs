//! Compiles the thread-local unit.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=src/sys/tls.c");

    let mut unit = cc::Build::new();
    unit.file("src/sys/tls.c")
        .flag("-ftls-model=initial-exec")
        // What the distribution or the user asks for everywhere must not instrument this unit.
        .flag_if_supported("-fno-instrument-functions")
        .flag_if_supported("-fno-lto")
        .flag_if_supported("-fcf-protection=none")
        .flag_if_supported("-fno-stack-protector")
        .warnings(true);
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("set by cargo");
    if target != "x86_64" || env::var_os("CARGO_FEATURE_PORTABLE_READER").is_some() {
        unit.define("RCU_NOTRACE_PORTABLE", None);
    }
    unit.compile("rcu_notrace_tls");
}
