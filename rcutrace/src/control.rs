// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control sockets of processes that have tracers preloaded.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::text::printable;

/// An answer takes a grace period, and the process may be busy; but not for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to connect to who has no room for one more.
const PAUSE: Duration = Duration::from_millis(10);
/// Several times what a recorder's takes at most.
const ANSWER_MAX: usize = 64 * 1024;

/// Where a process's socket may be: by its own environment if we may read it, else by ours.
fn directories(pid: Option<u32>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut uid = rustix::process::geteuid().as_raw();
    if let Some(pid) = pid {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let theirs = environment
            .split(|&byte| byte == 0)
            .find_map(|variable| variable.strip_prefix(b"XDG_RUNTIME_DIR="));
        if let Some(theirs) = theirs.filter(|value| !value.is_empty()) {
            all.push(Path::new(&*String::from_utf8_lossy(theirs)).join("rcutrace"));
        }
        if let Ok(metadata) = std::fs::metadata(format!("/proc/{pid}")) {
            uid = metadata.uid();
        }
    }
    if let Some(ours) = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        all.push(Path::new(&ours).join("rcutrace"));
    }
    all.push(format!("/run/user/{uid}/rcutrace").into());
    all.push(format!("/tmp/rcutrace-{uid}").into());
    let mut seen = std::collections::HashSet::new();
    all.retain(|directory| seen.insert(directory.clone()));
    all
}

/// Asks a process; answers what stands behind `ok`.
pub fn request(pid: u32, words: &[&str]) -> Result<Vec<String>> {
    let error = |what: String| Error::new(format!("process {pid}: {what}"));
    if words.iter().any(|word| word.contains(['\t', '\n'])) {
        return Err(error("a path with a tab or a line's end cannot be told to it".to_owned()));
    }
    let stream = connect(pid)?;
    let line = words.join("\t") + "\n";
    let answer = ask(&stream, &line).map_err(|e| error(explain(&e)))?;
    take_apart(&answer).map_err(error)
}

fn explain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer in {} s; is it stopped?", PATIENCE.as_secs())
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "it closed the connection: not permitted, or it just ended".to_owned()
        }
        io::ErrorKind::UnexpectedEof => {
            "it did not answer: not permitted, or it just ended".to_owned()
        }
        _ => e.to_string(),
    }
}

fn ask(mut stream: &UnixStream, line: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(line.as_bytes())?;
    read_answer(stream, Instant::now() + PATIENCE)
}

/// The answer's line, from whoever holds the socket: of bounded length, and whole. Who sends a byte now and then
/// has until then.
pub fn read_answer(mut source: impl Read, until: Instant) -> io::Result<String> {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < ANSWER_MAX {
        match source.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                let end = part[..length].iter().position(|&byte| byte == b'\n');
                answer.extend_from_slice(&part[..end.unwrap_or(length)]);
                if end.is_some() {
                    return Ok(String::from_utf8_lossy(&answer).into_owned());
                }
            }
            // Even if handlers restart what they interrupt: there is a time limit.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without an end"))
}

/// What stands behind `ok`, or, as an error, what it says or what is wrong with it.
pub fn take_apart(answer: &str) -> std::result::Result<Vec<String>, String> {
    let mut parts = answer.split('\t');
    match parts.next() {
        Some("ok") => Ok(parts.map(str::to_owned).collect()),
        Some("error") => Err(printable(&parts.collect::<Vec<_>>().join(" "))),
        _ => Err("an answer that I do not understand".to_owned()),
    }
}

fn connect(pid: u32) -> Result<UnixStream> {
    let error = |what: &str| Err(Error::new(format!("process {pid}: {what}")));
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return error("there is no such process");
    }
    let mut failure = None;
    for directory in directories(Some(pid)) {
        match reach(&directory.join(pid.to_string()), PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => failure = Some(e),
        }
    }
    match failure.map(|failure| failure.kind()) {
        Some(io::ErrorKind::PermissionDenied) => error("not permitted: it is another user's"),
        Some(io::ErrorKind::ConnectionRefused) => {
            error("its socket is dead: left by an earlier process of that number")
        }
        Some(kind @ io::ErrorKind::WouldBlock) => error(&explain(&kind.into())),
        Some(kind) => error(&kind.to_string()),
        None => Err(Error::new(format!(
            "process {pid} was not started with a tracer preloaded; start it by: \
             rcutrace heap --detached -- COMMAND"
        ))),
    }
}

/// UnixStream::connect waits for ever where as many as may are queued before us.
fn reach(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + patience;
    loop {
        match connect_at_once(socket) {
            Err(rustix::io::Errno::AGAIN) if Instant::now() < until => std::thread::sleep(PAUSE),
            connected => {
                let stream = UnixStream::from(connected?);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
    }
}

fn connect_at_once(socket: &Path) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let address = SocketAddrUnix::new(socket)?;
    let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&client, &address)?;
    Ok(client)
}

/// The processes that have a socket, in this user's directories. Sockets that dead ones left there are removed.
pub fn processes() -> Vec<u32> {
    let exists = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    let mut pids = Vec::new();
    for directory in directories(None) {
        for (pid, socket) in sockets(&directory) {
            if exists(pid) {
                pids.push(pid);
            // Once more: one that has just begun may not listen yet.
            } else if is_own(&directory) && is_refused(&socket) && !exists(pid) {
                // Somebody else may have been faster.
                let _ = std::fs::remove_file(socket);
            }
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn sockets(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry)));
    named
        .filter(|(_, entry)| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|(pid, entry)| (pid, entry.path()))
        .collect()
}

/// As a recorder makes it: in a directory that others can write to what has a name may be theirs.
fn is_own(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(directory).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0
    })
}

/// Nobody listens there, not in another PID namespace either. Does not wait for who is busy.
fn is_refused(socket: &Path) -> bool {
    connect_at_once(socket).err() == Some(rustix::io::Errno::CONNREFUSED)
}

/// Has it attach tracers, that record in the file.
pub fn attach(pid: u32, tracers: &str, file: &Path, stack: Option<u32>) -> Result<()> {
    let file = file.to_str().ok_or_else(|| Error::new("the file's path is not UTF-8"))?;
    let stack = stack.map(|depth| format!("stack={depth}"));
    let mut words = vec!["attach", tracers, file];
    words.extend(stack.as_deref());
    request(pid, &words).map(drop)
}

/// Has it detach tracers.
pub fn detach(pid: u32, tracers: &str) -> Result<()> {
    request(pid, &["detach", tracers]).map(drop)
}

/// What it says of itself, in one line.
pub fn status(pid: u32) -> Result<String> {
    let mut parts = request(pid, &["status"])?;
    parts.retain(|part| !part.starts_with("pid="));
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let line = format!("{pid:>7}  {:<16} {}", name.trim_end(), parts.join(" "));
    Ok(printable(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    /// Who asks a process that is stopped, again and again: each leaves a connection that nobody accepts.
    fn full_queue(socket: &Path) -> (UnixListener, Vec<OwnedFd>) {
        let listener = UnixListener::bind(socket).expect("bound");
        rustix::net::listen(&listener, 1).expect("a short queue");
        let queued: Vec<_> = std::iter::from_fn(|| connect_at_once(socket).ok()).collect();
        assert!(!queued.is_empty());
        (listener, queued)
    }

    /// In a thread, as the wait might have no end.
    fn reached(socket: &Path, patience: Duration) -> mpsc::Receiver<io::Result<UnixStream>> {
        let (tell, told) = mpsc::channel();
        let socket = socket.to_owned();
        std::thread::spawn(move || tell.send(reach(&socket, patience)));
        told
    }

    #[test]
    fn patience_ends_with_a_process_whose_queue_is_full() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("1");
        let _queue = full_queue(&socket);
        let told = reached(&socket, Duration::from_millis(50));
        let answer = told.recv_timeout(Duration::from_secs(20)).expect("the wait has an end");
        let error = answer.expect_err("there is no room");
        assert!(explain(&error).starts_with("no answer in"), "{error}");
    }

    #[test]
    fn who_waits_in_a_full_queue_has_the_place_that_becomes_free() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("1");
        let (listener, queued) = full_queue(&socket);
        let told = reached(&socket, Duration::from_secs(60));
        assert!(told.recv_timeout(PAUSE * 3).is_err());
        let _accepted: Vec<_> = (0..=queued.len()).map(|_| listener.accept()).collect();
        let answer = told.recv_timeout(Duration::from_secs(20)).expect("the wait has an end");
        let mut stream = answer.expect("connected");
        // Its reads wait, as if it had been connected at once.
        stream.set_read_timeout(Some(PAUSE * 3)).expect("set");
        let start = Instant::now();
        assert!(stream.read(&mut [0]).is_err() && start.elapsed() >= PAUSE * 2);
    }
}
