//! Compiles the thread-local unit and generates the C view of the ABI into `OUT_DIR`.
//!
//! Nothing is written into the source tree: `tests/abi.rs` compares the generated header with
//! the committed one.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/sys/tls.c");
    println!("cargo:rerun-if-changed=src/capi.rs");
    println!("cargo:rerun-if-changed=src/stats.rs");
    println!("cargo:rerun-if-changed=src/stall/event.rs");
    println!("cargo:rerun-if-changed=cbindgen.toml");

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

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/capi.rs"))
        .with_src(root.join("src/stats.rs"))
        .with_src(root.join("src/stall/event.rs"))
        .generate()
        .expect("cbindgen reads src/capi.rs, src/stats.rs and src/stall/event.rs")
        .write_to_file(out.join("abi.h"));
}
