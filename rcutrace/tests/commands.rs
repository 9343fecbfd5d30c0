// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command as users run it. The tracers' libraries are empty ones, and the traced process's
//! control socket is served by the test.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use common::*;
use rcutrace::file::Header;

const RCUTRACE: &str = env!("CARGO_BIN_EXE_rcutrace");

struct Place {
    directory: tempfile::TempDir,
    libraries: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self::with_libraries_in("libraries")
    }

    fn with_libraries_in(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let libraries = directory.path().join(name);
        std::fs::create_dir(&libraries).expect("created");
        let source = directory.path().join("empty.c");
        std::fs::write(&source, "int rcutrace_empty;\n").expect("written");
        for name in ["heap", "locks"] {
            let library = libraries.join(format!("librcutrace_{name}.so"));
            let arguments = ["-shared", "-fPIC", "-o"];
            let status = Command::new("cc").args(arguments).args([&library, &source]).status();
            assert!(status.expect("cc is there").success());
        }
        Place { directory, libraries }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(RCUTRACE, arguments)
    }

    fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("RCUTRACE_LIBDIR", &self.libraries)
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("TMPDIR", self.directory.path())
            // The output itself is what they are to write.
            .env("RCUTRACE_SHM", "")
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run")
    }

    /// What is there besides the libraries.
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.directory.path()).expect("there").flatten();
        let mut names: Vec<_> =
            all.map(|entry| entry.file_name().into_string().expect("text")).collect();
        names.retain(|name| !["libraries", "empty.c", "rcutrace"].contains(&name.as_str()));
        names.sort();
        names
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_exit_status_is_the_commands() {
    let place = Place::new();
    let status = |arguments: &[&str]| place.run(arguments).status.code();
    assert_eq!(status(&["heap", "true"]), Some(0));
    assert_eq!(status(&["heap", "--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["heap", "--", "sh", "-c", "kill -9 $$"]), Some(128 + 9));
    let output = place.run(&["heap", "--", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(text(&output.stderr), "rcutrace: no-such-command: command not found\n");
    assert_eq!(status(&["heap", "--", "/etc/passwd"]), Some(126));
    let left = std::fs::read_dir(place.directory.path()).expect("a directory").count();
    assert_eq!(left, 2, "temporary files are left");
}

#[test]
fn a_library_that_is_missing_is_told_in_one_line_and_nothing_is_run() {
    let place = Place::new();
    let file = place.path("x.trace");
    let name = file.to_str().expect("text");
    let missing = |arguments: &[&str], library: &str| {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(125));
        let directory = place.libraries.display();
        let message =
            format!("rcutrace: {library} is not in {directory} (RCUTRACE_LIBDIR says where)\n");
        assert_eq!(text(&output.stderr), message);
        assert_eq!(text(&output.stdout), "");
        assert!(!file.exists());
    };
    missing(&["fd", "-o", name, "--", "echo", "run"], "librcutrace_fd.so");
    missing(&["record", "-t", "heap,functions", "--", "echo", "run"], "librcutrace_functions.so");
    missing(&["fd", "--detached", "--", "echo", "run"], "librcutrace_fd.so");
    let nowhere = place.path("nowhere");
    let output = place
        .command(&["heap", "--", "echo", "run"])
        .env("RCUTRACE_LIBDIR", &nowhere)
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "rcutrace: RCUTRACE_LIBDIR: No such file or directory (os error 2)\n"
    );
}

#[test]
fn the_command_gets_the_libraries_before_others_and_what_the_tracers_must_know() {
    let place = Place::new();
    let before = place.libraries.join("librcutrace_locks.so");
    let file = place.path("x.trace");
    let name = file.to_str().expect("text");
    let arguments = ["heap", "-g=8", "--no-follow", "--no-control", "-o", name, "--", "env"];
    let output = place
        .command(&arguments)
        .env("LD_PRELOAD", &before)
        .env("RCUTRACE_ATTACH", "from an outer one")
        .output()
        .expect("run");
    let environment = text(&output.stdout);
    let library = place.libraries.join("librcutrace_heap.so");
    let preload = format!("LD_PRELOAD={}:{}", library.display(), before.display());
    for line in [
        preload,
        format!("RCUTRACE_PRELOAD_BEFORE={}", before.display()),
        format!("RCUTRACE_FILE={name}"),
        "RCUTRACE_STACK=8".to_owned(),
        "RCUTRACE_FOLLOW=0".to_owned(),
        "RCUTRACE_CONTROL=0".to_owned(),
    ] {
        assert!(environment.lines().any(|other| other == line), "no {line} in\n{environment}");
    }
    assert!(!environment.contains("RCUTRACE_ATTACH"));
    let header = Header::parse(&std::fs::read(&file).expect("there")).expect("a header");
    assert_eq!(header.command, "env");
    assert!(header.now.monotonic_ns - header.start.monotonic_ns >= 10_000_000);
    let output = place.run(&["heap", "--detached", "--", "env"]);
    assert!(!text(&output.stdout).contains("RCUTRACE_FILE"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn libraries_in_a_directory_with_a_blank_are_preloaded_by_a_link() {
    let place = Place::with_libraries_in("my libraries: all");
    let output = place.run(&["heap", "--", "cat", "/proc/self/maps"]);
    assert!(text(&output.stdout).contains("my libraries: all/librcutrace_heap.so"), "{output:?}");
    assert!(!text(&output.stderr).contains("ERROR: ld.so"), "{output:?}");
}

#[test]
fn a_termination_is_passed_on_and_the_commands_answer_to_it_counts() {
    let place = Place::new();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let mut command = place.command(&["heap", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("run");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("ready");
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.expect("kill").success());
    assert_eq!(child.wait().expect("ended").code(), Some(9));
}

/// A bit for each signal that a command ignores, started by `tracer` where `signals` are ignored.
fn ignored(place: &Place, signals: &str, tracer: &[&str]) -> u64 {
    let script = "exec \"$@\" sh -c 'grep SigIgn /proc/self/status; exit 3'";
    let output = Command::new("bash")
        .args(["-c", &format!("trap '' {signals}; {script}"), "bash"])
        .args(tracer)
        .env("RCUTRACE_LIBDIR", &place.libraries)
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(3));
    let mask = text(&output.stdout).trim().rsplit('\t').next().map(str::to_owned);
    mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).expect("a mask")
}

const TRACED: [&str; 3] = [RCUTRACE, "heap", "--"];

#[test]
fn ignored_signals_stay_ignored_and_the_status_is_known_nevertheless() {
    let place = Place::new();
    let (hangup, interrupt, terminate) = (1, 1 << 1, 1 << 14);
    let plain = ignored(&place, "HUP CHLD", &[]);
    let traced = ignored(&place, "HUP CHLD", &TRACED);
    assert_ne!(traced & hangup, 0, "{traced:x}");
    // Whoever runs this test may ignore them, too.
    let others = interrupt | terminate;
    assert_eq!(traced & others, plain & others, "{traced:x}, plain {plain:x}");
}

#[test]
fn a_pipes_signal_is_ignored_by_the_command_only_where_it_was_before() {
    let place = Place::new();
    let pipe = 1 << 12;
    for signals in ["PIPE USR2", "USR2"] {
        let plain = ignored(&place, signals, &[]);
        let traced = ignored(&place, signals, &TRACED);
        assert_eq!(traced & pipe, plain & pipe, "{signals}: {traced:x}, plain {plain:x}");
    }
    assert_ne!(ignored(&place, "PIPE", &TRACED) & pipe, 0);
}

/// Serves this test's process's control socket; tells each request.
fn serve(
    place: &Place,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> mpsc::Receiver<String> {
    let directory = place.path("rcutrace");
    std::fs::create_dir_all(&directory).expect("created");
    let socket = directory.join(std::process::id().to_string());
    let listener = UnixListener::bind(socket).expect("bound");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connected");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a line");
            let line = line.trim_end_matches('\n').to_owned();
            let _ = stream.write_all(answer(&line).as_bytes());
            let _ = tell.send(line);
        }
    });
    told
}

fn told(requests: &mpsc::Receiver<String>) -> String {
    requests.recv_timeout(std::time::Duration::from_secs(10)).expect("a request")
}

/// Puts chunks behind a header that rcutrace wrote.
fn fill(path: &Path, writer: &Writer) {
    let mut bytes = std::fs::read(path).expect("there");
    let size = Header::parse(&bytes).expect("a header").chunk_size as usize;
    let chunks: Vec<_> = writer.bytes[4096..].chunks(CHUNK).collect();
    bytes[88..96].copy_from_slice(&(chunks.len() as u64).to_le_bytes());
    for chunk in chunks {
        let end = bytes.len() + size;
        bytes.extend(chunk);
        bytes.resize(end, 0);
    }
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all(&bytes).expect("written");
}

#[test]
fn a_process_is_recorded_for_a_while_and_reported() {
    let place = Place::new();
    let requests = serve(&place, |line| {
        if let Some(rest) = line.strip_prefix("attach\theap,locks\t") {
            let file = rest.split('\t').next().expect("a file");
            let mut writer = Writer::new();
            writer.process(77, 0xabc, 0, "attach", "/bin/cmd", 2_000_000);
            writer.record(MALLOC, 3_000_000, &[0x1000, 4321, 0x51]);
            fill(Path::new(file), &writer);
        }
        "ok\n".to_owned()
    });
    let pid = std::process::id().to_string();
    let arguments = ["record", "-t", "heap,locks", "-g", "-p", &pid, "--duration", "0.1"];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let attach = told(&requests);
    assert!(
        attach.starts_with("attach\theap,locks\t/") && attach.ends_with("\tstack=16"),
        "{attach}"
    );
    assert_eq!(told(&requests), "detach\theap,locks");
    assert!(text(&output.stderr).contains("4,321"), "{output:?}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_recording_stays_although_the_process_cannot_be_told_to_stop() {
    let place = Place::new();
    let pid = std::process::id().to_string();
    let socket = place.path("rcutrace").join(&pid);
    let _requests = serve(&place, move |line| {
        let file = line.strip_prefix("attach\theap\t").expect("no other request arrives");
        let mut writer = Writer::new();
        writer.process(77, 0xabc, 0, "attach", "/bin/cmd", 2_000_000);
        writer.record(MALLOC, 3_000_000, &[0x1000, 4321, 0x51]);
        fill(Path::new(file), &writer);
        std::fs::remove_file(&socket).expect("removed");
        "ok\n".to_owned()
    });
    let file = place.path("x.trace");
    let file = file.to_str().expect("text");
    let output = place.run(&["heap", "-p", &pid, "--duration", "0.05", "-o", file]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("see rcutrace report"), "{said}");
    assert!(said.contains(&format!("\nrcutrace: process {pid} was not started")), "{said}");
    let report = place.run(&["report", file]);
    assert!(text(&report.stdout).contains("4,321"), "{report:?}");
}

#[test]
fn a_quiet_recording_tells_of_losses_and_of_nothing_else() {
    let place = Place::new();
    let lost = std::sync::atomic::AtomicU64::new(0);
    let _requests = serve(&place, move |line| {
        if let Some(rest) = line.strip_prefix("attach\theap\t") {
            let file = rest.split('\t').next().expect("a file");
            let mut writer = Writer::new();
            writer.process(77, 0xabc, 0, "attach", "/bin/cmd", 2_000_000);
            writer.record(MALLOC, 3_000_000, &[0x1000, 4321, 0x51]);
            // The first recording loses nothing, the others do.
            if lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                writer.record(5, 3_000_001, &[9]);
            }
            fill(Path::new(file), &writer);
        }
        "ok\n".to_owned()
    });
    let pid = std::process::id().to_string();
    let file = place.path("x.trace");
    let file = file.to_str().expect("text");
    let record = |quiet: &str| {
        let output = place.run(&["heap", quiet, "-o", file, "-p", &pid, "--duration", "0.05"]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    assert_eq!(record("-q"), "");
    let said = record("--quiet");
    assert!(said.starts_with("rcutrace: WARNING: 9 EVENTS WERE LOST"), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert!(record("-g").contains("see rcutrace report"));
    // A report is what was asked for where there is no file.
    assert_eq!(place.run(&["heap", "-q", "--", "true"]).status.code(), Some(2));
    let output = place.run(&["heap", "-q", "-o", file, "--", "no-such-command"]);
    assert_eq!(text(&output.stderr), "rcutrace: no-such-command: command not found\n");
}

#[test]
fn a_process_is_attached_to_and_asked_and_left() {
    let place = Place::new();
    let requests = serve(&place, |line| match line.split('\t').next() {
        Some("status") => "ok\tpid=5\timage=7\theap=attached\tevents=12\n".to_owned(),
        Some("detach") => "error\theap is not attached\n".to_owned(),
        _ => "ok\n".to_owned(),
    });
    let pid = std::process::id().to_string();
    let file = place.path("x.trace");
    let output = place.run(&["attach", &pid, "heap", "-o", file.to_str().expect("text")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(told(&requests), format!("attach\theap\t{}", file.display()));
    assert!(file.exists());
    let output = place.run(&["status"]);
    assert!(text(&output.stdout).contains("image=7 heap=attached events=12\n"), "{output:?}");
    assert_eq!(told(&requests), "status");
    let output = place.run(&["detach", &pid]);
    assert_eq!(text(&output.stderr), format!("rcutrace: process {pid}: heap is not attached\n"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told(&requests), "detach\tall");
}

#[test]
fn sockets_of_dead_processes_are_removed_and_no_others() {
    let place = Place::new();
    let directory = place.path("rcutrace");
    std::fs::DirBuilder::new().mode(0o700).create(&directory).expect("created");
    let bind = |name: &str| UnixListener::bind(directory.join(name)).expect("bound");
    let (nobody, another) = ("4194305", "4194306");
    drop(bind(nobody));
    // Of a process in another PID namespace, which answers.
    let _listener = bind(another);
    // A process of that number is there, and may be about to listen.
    let alive = std::process::id().to_string();
    drop(bind(&alive));
    drop(bind("notes"));
    std::fs::write(directory.join("4194307"), "").expect("written");
    let output = place.run(&["status"]);
    assert!(text(&output.stdout).contains("its socket is dead"), "{output:?}");
    let names = std::fs::read_dir(&directory).expect("there").flatten();
    let mut names: Vec<_> =
        names.map(|entry| entry.file_name().into_string().expect("text")).collect();
    names.sort();
    let mut left = [another, "4194307", &alive, "notes"];
    left.sort();
    assert_eq!(names, left);
}

#[test]
fn what_cannot_be_attached_to_is_told_in_one_line() {
    let place = Place::new();
    let file = place.path("x.trace");
    let attach = |pid: &str| {
        let output = place.run(&["attach", pid, "heap", "-o", file.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!file.exists(), "a file without a recording is left");
        text(&output.stderr)
    };
    let pid = std::process::id().to_string();
    assert_eq!(
        attach(&pid),
        format!(
            "rcutrace: process {pid} was not started with a tracer preloaded; start it by: \
             rcutrace heap --detached -- COMMAND\n"
        )
    );
    assert_eq!(attach("4194305"), "rcutrace: process 4194305: there is no such process\n");
    drop(UnixListener::bind({
        std::fs::create_dir(place.path("rcutrace")).expect("created");
        place.path("rcutrace").join(&pid)
    }));
    assert!(attach(&pid).contains("its socket is dead"));
}

#[test]
fn an_old_trace_stays_where_nothing_can_be_recorded() {
    let place = Place::new();
    let file = place.path("keep.trace");
    let name = file.to_str().expect("text");
    std::fs::write(&file, "old").expect("written");
    let fails = |mut command: Command| {
        let output = command.output().expect("run");
        assert!(!output.status.success());
        assert_eq!(std::fs::read(&file).expect("there"), b"old", "{output:?}");
        assert_eq!(place.names(), ["keep.trace"]);
    };
    fails(place.command(&["heap", "-p", "4194305", "-o", name]));
    fails(place.command(&["heap", "-o", name, "--", "./no-such-command"]));
    fails(place.command(&["attach", "4194305", "heap", "-o", name]));
    // Not even the header has room.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let arguments = ["-c", script, "bash", RCUTRACE, "heap", "-o", name, "--", "true"];
    fails(place.command_of("bash", &arguments));
    assert!(place.run(&["heap", "-o", name, "--", "true"]).status.success());
    Header::parse(&std::fs::read(&file).expect("there")).expect("a new one");
    assert_eq!(place.names(), ["keep.trace"]);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let place = Place::new();
    let mut writer = Writer::new();
    writer.process(77, 0xabc, 0, "start", "/bin/cmd", 2_000_000);
    for turn in 0..20_000 {
        writer.record(MALLOC, 3_000_000 + turn, &[0x1000 * turn, 1, 0x51]);
    }
    let path = writer.save(place.directory.path());
    let mut command = place.command(&["dump", path.to_str().expect("text")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let mut some = [0; 100];
    child.stdout.take().expect("piped").read_exact(&mut some).expect("a beginning");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn exports_go_beside_the_trace_and_manual_pages_where_they_are_wanted() {
    let place = Place::new();
    let mut writer = Writer::new();
    writer.process(77, 0xabc, 0, "start", "/bin/cmd", 2_000_000);
    writer.record(MALLOC, 3_000_000, &[0x1000, 1, 0x51]);
    let path = writer.save(place.directory.path());
    let path = path.to_str().expect("text");
    assert!(place.run(&["export", path, "--chrome"]).status.success());
    assert!(place.run(&["export", path, "--flame-of", "calls"]).status.success());
    assert!(place.path("test.trace.json").exists());
    assert!(place.path("test.trace.svg").exists());
    let pages = place.path("man");
    std::fs::create_dir(&pages).expect("created");
    assert!(place.run(&["man", pages.to_str().expect("text")]).status.success());
    let page = std::fs::read_to_string(pages.join("rcutrace-heap.1")).expect("a page");
    assert!(page.contains("call\\-graph"), "{page}");
}

#[test]
fn an_export_overwrites_neither_the_trace_nor_for_nothing_what_is_there() {
    let place = Place::new();
    let mut writer = Writer::new();
    writer.process(77, 0xabc, 0, "start", "/bin/cmd", 2_000_000);
    let trace = writer.save(place.directory.path());
    let path = trace.to_str().expect("text");
    let (output, link) = (place.path("output"), place.path("link"));
    std::fs::write(&output, "old").expect("written");
    std::os::unix::fs::symlink(&trace, &link).expect("linked");
    let export = |how: &str, to: &Path| {
        let output = place.run(&["export", path, how, "-o", to.to_str().expect("text")]);
        (output.status.code(), text(&output.stderr))
    };
    for name in [&trace, &link] {
        let message = format!("rcutrace: {}: is the trace itself\n", name.display());
        assert_eq!(export("--chrome", name), (Some(1), message));
    }
    assert_eq!(std::fs::read(&trace).expect("there"), writer.bytes);
    let (status, said) = export("--flame", &output);
    assert!(status == Some(1) && said.contains("nothing to draw"), "{said}");
    assert_eq!(std::fs::read(&output).expect("there"), b"old");
    assert_eq!(export("--chrome", &output).0, Some(0));
    assert!(std::fs::read(&output).expect("there").starts_with(b"{"));
}

#[test]
fn an_export_goes_to_pipes_too() {
    let place = Place::new();
    let mut writer = Writer::new();
    writer.process(77, 0xabc, 0, "start", "/bin/cmd", 2_000_000);
    let path = writer.save(place.directory.path());
    let path = path.to_str().expect("text");
    let to = |output| place.command(&["export", path, "--chrome", "-o", output]);
    let standard = text(&to("-").output().expect("run").stdout);
    assert!(standard.starts_with('{'), "{standard}");
    assert_eq!(text(&to("/dev/stdout").output().expect("run").stdout), standard);
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run").success());
    let mut child = to(pipe.to_str().expect("text")).spawn().expect("run");
    let read = Command::new("timeout").args(["60", "cat"]).arg(&pipe).output().expect("run");
    assert_eq!(text(&read.stdout), standard);
    assert!(child.wait().expect("ended").success());
}
