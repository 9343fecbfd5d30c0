// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the tracers' libraries are, as LD_PRELOAD wants them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{About, Error, Result};

/// Says where the libraries are.
const DIRECTORY: &str = "RCUTRACE_LIBDIR";

/// The tracers that there are.
pub const TRACERS: [&str; 4] = ["heap", "locks", "functions", "fd"];

/// The value of LD_PRELOAD for these tracers.
pub fn preload(tracers: &[String]) -> Result<String> {
    let names: Vec<String> = tracers.iter().map(|name| format!("librcutrace_{name}.so")).collect();
    let directory = presentable(&find(&names)?)?;
    let paths: Vec<String> =
        names.iter().map(|name| format!("{}/{name}", directory.display())).collect();
    Ok(paths.join(":"))
}

/// By the environment, else beside the executable as it is built or installed.
fn find(names: &[String]) -> Result<PathBuf> {
    let candidates = match std::env::var_os(DIRECTORY).filter(|value| !value.is_empty()) {
        Some(given) => vec![PathBuf::from(&given).canonicalize().about(DIRECTORY)?],
        None => {
            let program = std::env::current_exe()?;
            let beside = program.parent().unwrap_or(Path::new("/"));
            ["", "../lib/rcu_notrace", "../lib64/rcu_notrace"]
                .iter()
                .filter_map(|path| beside.join(path).canonicalize().ok())
                .collect()
        }
    };
    let has_all = |directory: &&PathBuf| names.iter().all(|name| directory.join(name).is_file());
    candidates.iter().find(has_all).cloned().ok_or_else(|| {
        let missing =
            names.iter().find(|name| candidates.iter().all(|at| !at.join(name).is_file()));
        let name = missing.or(names.first()).map_or("", |name| name);
        let places: Vec<_> = candidates.iter().map(|at| at.display().to_string()).collect();
        Error::new(format!("{name} is not in {} ({DIRECTORY} says where)", places.join(" or ")))
    })
}

/// LD_PRELOAD takes no path with a blank or a colon: such a directory gets a link without. The
/// link stays: children that run on may execute programs later.
fn presentable(directory: &Path) -> Result<PathBuf> {
    let strange = |path: &Path| {
        let bytes = path.as_os_str().as_bytes();
        std::str::from_utf8(bytes).is_err()
            || bytes.iter().any(|byte| byte.is_ascii_whitespace() || b":;$".contains(byte))
    };
    if !strange(directory) {
        return Ok(directory.to_owned());
    }
    let private = tempdir()?;
    let link = private.join("lib");
    std::os::unix::fs::symlink(directory, &link).about(link.display())?;
    Ok(link)
}

/// A new directory of ours alone.
fn tempdir() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("/tmp/rcutrace-lib-{}", std::process::id());
    for number in 0..100 {
        let path = PathBuf::from(format!("{name}-{number}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).about(path.display()),
        }
    }
    Err(Error::new(format!("{name}-*: all exist")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_a_blank_is_reached_by_a_link_without() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(presentable(directory.path()).expect("itself"), directory.path());
        let strange = directory.path().join("my libraries");
        std::fs::create_dir(&strange).expect("created");
        let link = presentable(&strange).expect("a link");
        assert!(!link.to_string_lossy().contains(' '));
        assert_eq!(link.canonicalize().expect("there"), strange.canonicalize().expect("there"));
        std::fs::remove_dir_all(link.parent().expect("its directory")).expect("removed");
    }
}
