// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::export::flame::Measure;
use crate::record::{Room, Settings};
use crate::report::{self, table::View};
use crate::text::parse_size;

/// Traces programs: their heap, locks, functions and file descriptors
///
/// The command is run with the tracers preloaded, which record every event into one file, from all
/// of its threads and the processes that it starts. Without -o a report is printed to standard
/// error at its end.
#[derive(Debug, Parser)]
#[command(name = "rcutrace", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

const EXAMPLES: &str = "\
Examples:
  rcutrace heap -- git log --stat              what does it allocate, where, what does it leak?
  rcutrace heap -g -o heap.trace -- make       with call stacks, kept in a file
  rcutrace export heap.trace --flame           a flame graph of it: heap.trace.svg
  rcutrace record -t heap,locks -p 1234        two tracers, a running process, until Ctrl-C
  rcutrace status                              which processes have tracers?

Exit status, when a command is run: the command's; 128+N if signal N ended it; 127 if it is not found,
126 if it cannot be executed, 125 if rcutrace itself fails.

Environment: RCUTRACE_LIBDIR, where the tracers' libraries are; RCUTRACE_SHM, where the memory between
the program and the file is, if not in /dev/shm (empty: there is none); TMPDIR, where the data are without
-o, if it has the most room; XDG_RUNTIME_DIR, where control sockets are.";

const RECORD_EXAMPLES: &str = "\
Examples:
  rcutrace record -t heap,locks -- ./server --port 80
  rcutrace record -t functions -o calls.trace --max-size 8G -- ./simulate
  rcutrace record -t heap --overwrite --buffer 4M -p 1234 --duration 60";

const SHORT_EXAMPLES: &str = "\
The same as rcutrace record -t THIS.

Examples:
  rcutrace heap -- ls -l                       a report at its end
  rcutrace heap --sort live --top 5 -- ls -l   the same, in another order
  rcutrace heap -o x.trace -- ls -l            keep the data; then: rcutrace report x.trace
  rcutrace heap --detached -- ./server         only preloaded; later: rcutrace heap -p PID
(heap, or locks, functions, fd)";

const REPORT_EXAMPLES: &str = "\
Examples:
  rcutrace report x.trace --top 0              all rows
  rcutrace report x.trace --sort calls
  rcutrace report x.trace --graph              functions: who calls whom
  rcutrace report x.trace --json | jq '.heap.leaks[:3]'        times in ns";

const EXPORT_EXAMPLES: &str = "\
Examples:
  rcutrace export x.trace --chrome             x.trace.json; open it in https://ui.perfetto.dev
  rcutrace export x.trace --flame              x.trace.svg; open it in a browser
  rcutrace export x.trace --flame-of live -o leaks.svg";

const ATTACH_EXAMPLES: &str = "\
Examples:
  rcutrace attach 1234 heap,locks -o x.trace
  rcutrace detach 1234
  rcutrace report x.trace";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run a command, or watch a process, with several tracers
    #[command(after_help = RECORD_EXAMPLES)]
    Record {
        /// Tracers, separated by commas: heap, locks, functions, fd
        #[arg(short, long, value_delimiter = ',', required = true, value_parser = crate::record::TRACERS)]
        tracer: Vec<String>,
        /// How.
        #[command(flatten)]
        how: RecordArgs,
    },
    /// Trace malloc, calloc, realloc, free and the like
    #[command(after_help = SHORT_EXAMPLES)]
    Heap(RecordArgs),
    /// Trace mutexes, rwlocks, spin locks and condition variables
    #[command(after_help = SHORT_EXAMPLES)]
    Locks(RecordArgs),
    /// Trace functions of a program built with -pg, -pg -mfentry or -finstrument-functions
    #[command(after_help = SHORT_EXAMPLES)]
    Functions(RecordArgs),
    /// Trace file descriptors: open, socket, pipe, dup, close and the like
    #[command(after_help = SHORT_EXAMPLES)]
    Fd(RecordArgs),
    /// Attach tracers to a running process that has them preloaded, and leave them
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach {
        /// The process.
        pid: u32,
        /// Tracers, separated by commas.
        #[arg(value_delimiter = ',', required = true, value_parser = crate::record::TRACERS)]
        tracer: Vec<String>,
        /// The trace file to create.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// How much is recorded.
        #[command(flatten)]
        room: RoomArgs,
    },
    /// Detach tracers from a running process
    #[command(after_help = ATTACH_EXAMPLES)]
    Detach {
        /// The process.
        pid: u32,
        /// Tracers, separated by commas; all of them if none is given.
        #[arg(value_delimiter = ',', value_parser = crate::record::TRACERS)]
        tracer: Vec<String>,
    },
    /// Ask a process what is traced; or all that have tracers preloaded
    Status {
        /// The process.
        pid: Option<u32>,
    },
    /// Print what a trace says
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// The trace.
        file: PathBuf,
        /// What is shown.
        #[command(flatten)]
        view: ViewArgs,
        /// JSON instead of text; times in ns
        #[arg(long)]
        json: bool,
    },
    /// Print every event as a line
    #[command(after_help = "Example:\n  rcutrace dump x.trace | grep fd:open")]
    Dump {
        /// The trace.
        file: PathBuf,
    },
    /// Convert a trace for other programs
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// The trace.
        file: PathBuf,
        /// Trace Event Format (JSON): Perfetto, chrome://tracing
        #[arg(long, required_unless_present_any = ["flame", "flame_of"], conflicts_with_all = ["flame", "flame_of"])]
        chrome: bool,
        /// Flame graph (SVG) of what the trace has: functions' time, heap's bytes or waits for locks
        #[arg(long)]
        flame: bool,
        /// Flame graph of this
        #[arg(long, value_name = "WHAT")]
        flame_of: Option<Measure>,
        /// Where to; "-" is standard output [default: the trace's name with .json or .svg]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory.
        directory: PathBuf,
    },
}

/// How to record.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Keep the data in FILE, and print one line instead of a report
    #[arg(short, long, value_name = "FILE", conflicts_with = "detached")]
    pub output: Option<PathBuf>,
    /// With -o: not even the line; errors and warnings only
    #[arg(short, long, requires = "output")]
    pub quiet: bool,
    /// Watch this process (it must have the tracers preloaded), until Ctrl-C or its end
    #[arg(short, long, conflicts_with_all = ["detached", "no_follow", "no_control"])]
    pub pid: Option<u32>,
    /// With -p: only so many seconds
    #[arg(long, value_name = "SECONDS", requires = "pid", value_parser = seconds)]
    pub duration: Option<std::time::Duration>,
    /// Heap: record call stacks, at most so many frames (16 if DEPTH is not given)
    #[arg(
        short = 'g',
        long,
        value_name = "DEPTH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "16",
        value_parser = clap::value_parser!(u32).range(1..=128)
    )]
    pub call_graph: Option<u32>,
    /// Do not trace the processes that the command starts
    #[arg(long)]
    pub no_follow: bool,
    /// No control socket, and no thread for it in the command
    #[arg(long)]
    pub no_control: bool,
    /// Preload the tracers only; attach them later, with -p or rcutrace attach
    #[arg(long)]
    pub detached: bool,
    /// How much is recorded.
    #[command(flatten)]
    pub room: RoomArgs,
    /// What the report shows.
    #[command(flatten)]
    pub view: ViewArgs,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required_unless_present = "pid",
        conflicts_with = "pid",
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// How much is recorded.
#[derive(Clone, Copy, Debug, Args)]
pub struct RoomArgs {
    /// The file's size at most; then new events are dropped, and counted
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = parse_size)]
    pub max_size: u64,
    /// When its buffer is full each thread overwrites its own oldest events
    #[arg(long, conflicts_with = "max_size")]
    pub overwrite: bool,
    /// With --overwrite the buffer of each thread, else the memory between the program and the file
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub buffer: Option<u64>,
}

/// What a report shows.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// Sort the tables by this column, where they have it
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Rows of a table; 0: all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Functions: the tree of calls too
    #[arg(long)]
    pub graph: bool,
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    std::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl RoomArgs {
    /// As the recorder wants it.
    pub fn room(self) -> Room {
        Room {
            max_size: self.max_size,
            overwrite: self.overwrite.then_some(self.buffer.unwrap_or(1 << 20)),
            shared: self.buffer,
        }
    }
}

impl ViewArgs {
    /// As the report wants it.
    pub fn options(self, json: bool) -> report::Options {
        report::Options { view: View { sort: self.sort, top: self.top }, graph: self.graph, json }
    }
}

impl RecordArgs {
    /// As the recorder wants it.
    pub fn settings(&self, tracers: Vec<String>) -> Settings {
        Settings {
            tracers,
            output: self.output.clone(),
            quiet: self.quiet,
            room: self.room.room(),
            stack: self.call_graph,
            follow: !self.no_follow,
            control: !self.no_control,
            detached: self.detached,
            report: self.view.clone().options(false),
        }
    }
}

/// For the manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        Ok(cli.action)
    }

    #[test]
    fn the_definitions_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_help_names_each_variable_that_is_read_and_each_way_to_trace_functions() {
        let help = command().render_long_help().to_string();
        let missing = |words: &[&str]| -> Vec<String> {
            words
                .iter()
                .filter(|word| !help.contains(**word))
                .map(|word| word.to_string())
                .collect()
        };
        let variables = ["RCUTRACE_LIBDIR", "RCUTRACE_SHM", "TMPDIR", "XDG_RUNTIME_DIR"];
        let compilers = ["-pg", "-mfentry", "-finstrument-functions"];
        assert_eq!((missing(&variables), missing(&compilers)), (vec![], vec![]));
    }

    #[test]
    fn a_commands_options_are_its_own() {
        let Ok(Action::Heap(how)) = parse("rcutrace heap -g ls -l -o x") else {
            panic!("not understood")
        };
        assert_eq!(how.command, ["ls", "-l", "-o", "x"]);
        assert_eq!((how.call_graph, how.output), (Some(16), None));
        let Ok(Action::Heap(how)) = parse("rcutrace heap -g=4 -o x -- -strange") else {
            panic!("not understood")
        };
        assert_eq!(how.command, ["-strange"]);
        assert_eq!((how.call_graph, how.output), (Some(4), Some("x".into())));
    }

    #[test]
    fn several_tracers_are_separated_by_commas() {
        let Ok(Action::Record { tracer, how }) = parse("rcutrace record -t heap,locks -p 12")
        else {
            panic!("not understood")
        };
        assert_eq!(tracer, ["heap", "locks"]);
        assert_eq!(how.pid, Some(12));
        assert!(parse("rcutrace record -t heap,lucks -- ls").is_err());
        assert!(parse("rcutrace heap").is_err());
        assert!(parse("rcutrace heap -p 1 -- ls").is_err());
        assert!(parse("rcutrace export x").is_err());
    }
}
