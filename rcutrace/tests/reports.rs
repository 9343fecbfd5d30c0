// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reports say of traces that were made by hand, against numbers computed by hand.

mod common;

use common::*;
use serde_json::{json, Value};

const IMAGE: u64 = 0xabc;
const T: u64 = 10_000_000;

fn started() -> Writer {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    writer
}

/// The row of a table in which a column has this value.
fn row(table: &Value, column: &str, value: impl Into<Value>) -> Value {
    let value = value.into();
    let rows = table.as_array().expect("a table");
    let found = rows.iter().find(|row| row[column] == value);
    found.unwrap_or_else(|| panic!("no {value} in {table:#}")).clone()
}

#[test]
fn heap_counts_what_is_requested_live_and_leaked() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 100, 0x51]);
    writer.record(CALLOC, T + 1, &[0x2000, 10, 20, 0x52]);
    writer.record(REALLOC, T + 2, &[0x3000, 0x1000, 150, 0x53]);
    writer.record(MEMALIGN, T + 3, &[0x4000, 64, 1000, 0x51]);
    writer.record(FREE, T + 4, &[0x4000]);
    writer.record(FREE, T + 5, &[0]);
    writer.record(FREE, T + 6, &[0x9999]);
    writer.record(MALLOC, T + 7, &[0, 1 << 60, 0x55]);
    writer.exit(T + 8);
    let heap = &writer.report()["heap"];
    assert_eq!(heap["requested_bytes"], 100 + 200 + 150 + 1000);
    assert_eq!(heap["live_bytes"], 200 + 150);
    assert_eq!(heap["live_blocks"], 2);
    assert_eq!(heap["peak_bytes"], 200 + 150 + 1000);
    assert_eq!(heap["failed"], 1);
    assert_eq!(heap["unmatched_frees"], 1);
    let free = row(&heap["functions"], "function", "free");
    assert_eq!((&free["calls"], &free["bytes"]), (&json!(3), &json!(0)));
    let calloc = row(&heap["functions"], "function", "calloc");
    assert_eq!((&calloc["calls"], &calloc["bytes"]), (&json!(1), &json!(200)));
    let first = row(&heap["callers"], "caller", "0x51");
    assert_eq!(first["calls"], 2);
    assert_eq!((&first["bytes"], &first["average"]), (&json!(1100), &json!(550)));
    assert_eq!(first["live"], 0);
    assert_eq!(
        heap["leaks"],
        json!([
            {"bytes": 200, "blocks": 1, "allocated_by": "0x52"},
            {"bytes": 150, "blocks": 1, "allocated_by": "0x53"},
        ])
    );
    assert_eq!(
        heap["sizes"],
        json!([
            {"from": 64, "to": 127, "calls": 1, "bytes": 100},
            {"from": 128, "to": 255, "calls": 2, "bytes": 350},
            {"from": 512, "to": 1023, "calls": 1, "bytes": 1000},
        ])
    );
}

#[test]
fn heap_tells_call_stacks_if_they_were_recorded() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 100, 0x51, 0x51, 0x61, 0x71]);
    writer.record(MALLOC, T + 1, &[0x2000, 10, 0x51, 0x51, 0x62]);
    let heap = &writer.report()["heap"];
    assert_eq!(row(&heap["callers"], "caller", "0x51")["bytes"], 110);
    assert_eq!(row(&heap["stacks"], "stack", "0x51 < 0x61 < 0x71")["bytes"], 100);
    assert_eq!(row(&heap["leaks"], "allocated_by", "0x51 < 0x62")["bytes"], 10);
}

#[test]
fn a_failed_realloc_leaves_the_block_and_one_to_nothing_frees_it() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 100, 0x51]);
    writer.record(REALLOC, T + 1, &[0, 0x1000, 500, 0x51]);
    assert_eq!(writer.report()["heap"]["live_bytes"], 100);
    writer.record(REALLOC, T + 2, &[0, 0x1000, 0, 0x51]);
    let heap = &writer.report()["heap"];
    assert_eq!((&heap["live_bytes"], &heap["failed"]), (&json!(0), &json!(1)));
}

#[test]
fn blocks_are_matched_across_threads_by_time_and_not_by_place_in_the_file() {
    let mut writer = started();
    // One block, handed to and fro; the chunks stand in the wrong order.
    writer.chunk(100, 102, IMAGE, T + 1);
    for turn in 0..300 {
        writer.record(FREE, T + 20 * turn + 10, &[0x1000]);
    }
    writer.chunk(100, 101, IMAGE, T);
    for turn in 0..300 {
        writer.record(MALLOC, T + 20 * turn, &[0x1000, 8, 0x51]);
    }
    let heap = &writer.report()["heap"];
    assert_eq!(heap["unmatched_frees"], 0);
    assert_eq!((&heap["live_blocks"], &heap["peak_bytes"]), (&json!(0), &json!(8)));
}

#[test]
fn a_realloc_that_is_recorded_after_its_old_block_was_given_out_anew_does_not_free_that() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 100, 0x51]);
    writer.chunk(100, 101, IMAGE, T + 1);
    writer.record(MALLOC, T + 5, &[0x1000, 30, 0x52]);
    writer.chunk(100, 100, IMAGE, T + 6);
    writer.record(REALLOC, T + 6, &[0x2000, 0x1000, 200, 0x53]);
    let heap = &writer.report()["heap"];
    assert_eq!(heap["live_bytes"], 230);
    assert_eq!(heap["unmatched_frees"], 0);
}

#[test]
fn each_process_has_a_heap_of_its_own() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 100, 0x51]);
    writer.exit(T + 50);
    writer.process(200, 0xdef, IMAGE, "fork", "/bin/cmd", T + 1);
    writer.record(MALLOC, T + 2, &[0x1000, 7, 0x51]);
    writer.record(FREE, T + 3, &[0x1000]);
    writer.record(FREE, T + 4, &[0x2000]); // from before the fork
    writer.exit(T + 10);
    let report = writer.report();
    let heap = &report["heap"];
    assert_eq!((&heap["live_bytes"], &heap["peak_bytes"]), (&json!(100), &json!(100)));
    assert_eq!(heap["unmatched_frees"], 1);
    assert_eq!(row(&heap["processes"], "pid", 200)["peak"], 7);
    assert_eq!(report["trace"]["processes"], 2);
    assert_eq!(report["trace"]["unfinished"], 0);
}

#[test]
fn locks_tell_waits_and_holds_also_of_recursive_ones_and_of_condition_variables() {
    let mut writer = started();
    let lock = 0x7000;
    writer.record(ACQUIRE, T, &[lock, 0, 0, 0x51]); // holds 1000
    writer.record(RELEASE, T + 1000, &[lock, 0, 0x51]);
    writer.record(ACQUIRE, T + 3000, &[lock, 0, 500, 0x51]);
    writer.record(ACQUIRE, T + 3100, &[lock, 0, 0, 0x52]); // recursive
    writer.record(RELEASE, T + 3200, &[lock, 0, 0x52]);
    // Until 3600 it holds, then it waits for 400.
    writer.record(WAIT, T + 4000, &[0x8000, lock, 400, 0, 0x53]);
    writer.record(RELEASE, T + 4100, &[lock, 0, 0x51]); // 100 more
    writer.record(SIGNAL, T + 4200, &[0x8000, 0, 0x54]);
    writer.record(SIGNAL, T + 4300, &[0x8000, 1, 0x54]);
    writer.record(WAIT, T + 5000, &[0x8000, 0x7777, 200, 110, 0x53]);
    writer.record(FAILED, T + 6000, &[lock, 0, 0, 16, 0x55]);
    writer.record(RELEASE, T + 7000, &[0x6666, 0, 0x56]);
    writer.record(ACQUIRE, T + 8000, &[0x5000, 2, 0, 0x56]); // never released
    let locks = &writer.report()["locks"];
    assert_eq!(locks["acquired"], 4);
    assert_eq!((&locks["contended"], &locks["wait"]), (&json!(1), &json!(500)));
    assert_eq!((&locks["held_at_end"], &locks["unmatched_releases"]), (&json!(1), &json!(1)));
    let mutex = row(&locks["locks"], "lock", "0x7000");
    assert_eq!(
        (&mutex["acquired"], &mutex["contended"], &mutex["failed"]),
        (&json!(3), &json!(1), &json!(1))
    );
    assert_eq!(
        (&mutex["wait"], &mutex["wait_avg"], &mutex["wait_max"]),
        (&json!(500), &json!(500), &json!(500))
    );
    // 1000, then 600 up to the wait, then 100.
    assert_eq!((&mutex["hold"], &mutex["hold_max"]), (&json!(1700), &json!(1000)));
    assert_eq!(mutex["hold_avg"], 1700 / 3);
    assert_eq!(mutex["kind"], "mutex");
    assert_eq!(row(&locks["callers"], "caller", "0x51")["hold"], 1700);
    assert_eq!(row(&locks["locks"], "lock", "0x5000")["kind"], "rwlock, writing");
    assert_eq!(
        locks["conditions"],
        json!([{
            "waits": 2, "wait": 600, "wait_avg": 300, "wait_max": 400, "not_woken": 1,
            "signals": 1, "broadcasts": 1, "condition": "0x8000"
        }])
    );
}

#[test]
fn a_lock_that_two_threads_read_is_held_by_each() {
    let mut writer = started();
    writer.record(ACQUIRE, T, &[0x7000, 1, 0, 0x51]);
    writer.record(RELEASE, T + 100, &[0x7000, 1, 0x51]);
    writer.chunk(100, 101, IMAGE, T);
    writer.record(ACQUIRE, T + 50, &[0x7000, 1, 0, 0x52]);
    writer.record(RELEASE, T + 250, &[0x7000, 1, 0x52]);
    let mutex = row(&writer.report()["locks"]["locks"], "lock", "0x7000");
    assert_eq!((&mutex["hold"], &mutex["hold_max"]), (&json!(300), &json!(200)));
}

#[test]
fn functions_tell_total_and_own_time_and_count_recursion_once() {
    let mut writer = started();
    let (main, work, leaf) = (0x100, 0x200, 0x300);
    writer.record(ENTRY, T, &[main, 0]);
    writer.record(ENTRY, T + 10, &[work, 0]);
    writer.record(ENTRY, T + 20, &[work, 0]); // recursive
    writer.record(ENTRY, T + 30, &[leaf, 0]);
    writer.record(EXIT, T + 35, &[leaf]);
    writer.record(EXIT, T + 40, &[work]);
    writer.record(EXIT, T + 100, &[work]);
    writer.record(EXIT, T + 150, &[main]);
    writer.record(EXIT, T + 160, &[0x999]);
    let functions = &writer.report()["functions"];
    assert_eq!(functions["calls"], 4);
    assert_eq!((&functions["unfinished"], &functions["unmatched_exits"]), (&json!(0), &json!(1)));
    assert_eq!(
        row(&functions["functions"], "function", "0x200"),
        json!({"calls": 2, "total": 90, "self": 70 + 15, "min": 20, "avg": 55, "max": 90, "function": "0x200"})
    );
    assert_eq!(row(&functions["functions"], "function", "0x100")["self"], 60);
    let graph: Vec<_> = functions["graph"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["depth"].as_u64(), row["total"].as_u64(), row["self"].as_u64()))
        .collect();
    let some = |depth, total, own| (Some(depth), Some(total), Some(own));
    assert_eq!(graph, [some(0, 150, 60), some(1, 90, 70), some(2, 20, 15), some(3, 5, 5)]);
}

#[test]
fn functions_that_a_longjmp_leaves_end_with_the_one_that_returns() {
    let mut writer = started();
    writer.record(ENTRY, T, &[0x100, 0]);
    writer.record(ENTRY, T + 10, &[0x200, 0]);
    writer.record(ENTRY, T + 20, &[0x300, 0]);
    writer.record(EXIT, T + 50, &[0x100]);
    writer.record(ENTRY, T + 60, &[0x400, 0]);
    writer.record(ENTRY, T + 70, &[0x500, 0]);
    writer.record(5, T + 80, &[7]); // 7 events are lost
    writer.record(EXIT, T + 90, &[0x500]);
    let report = writer.report();
    let functions = &report["functions"];
    assert_eq!(functions["unfinished"], 2);
    assert_eq!(functions["unmatched_exits"], 1);
    assert_eq!(row(&functions["functions"], "function", "0x200")["total"], 40);
    assert_eq!(row(&functions["functions"], "function", "0x400")["total"], 10);
    assert_eq!(report["trace"]["lost"], 7);
}

#[test]
fn files_that_are_never_closed_are_told() {
    let mut writer = started();
    writer.texted(FD_OPEN, T, &[3, 0x51], b"/etc/passwd\0");
    writer.texted(FD_OPEN, T + 1, &[4, 0x51], b"/etc/group\0");
    writer.texted(FD_OPEN, T + 2, &[u64::MAX, 0x51], b"/none\0");
    writer.record(FD_CLOSE, T + 3, &[3, 0, 0x51]);
    writer.record(FD_CLOSE, T + 3, &[3, -5_i64 as u64, 0x51]); // EIO: it is gone nevertheless
    writer.texted(FD_OPEN, T + 4, &[3, 0x52], b"/etc/passwd\0");
    writer.record(FD_CLOSE, T + 5, &[9, 0, 0x51]);
    writer.record(FD_CLOSE, T + 5, &[9, -9_i64 as u64, 0x51]); // EBADF: it was not open
    writer.record(FD_CLOSE, T + 5, &[u64::MAX, -9_i64 as u64, 0x51]);
    writer.record(FD_CLOSE, T + 6, &[8, 0, 0x51]);
    writer.texted(FD_OPEN, T + 7, &[4, 0x53], b"/etc/hosts\0"); // 4 was closed unseen
    let report = writer.report();
    let fd = &report["fd"];
    assert_eq!((&fd["opens"], &fd["failed"], &fd["closes"]), (&json!(5), &json!(1), &json!(3)));
    assert_eq!((&fd["failed_closes"], &fd["unmatched_closes"]), (&json!(3), &json!(1)));
    assert_eq!(fd["never_closed"], 2);
    assert_eq!(row(&fd["left_open"], "path", "/etc/passwd")["opened_by"], "0x52");
    assert_eq!(row(&fd["left_open"], "path", "/etc/hosts")["opened_by"], "0x53");
    let passwd = row(&fd["paths"], "path", "/etc/passwd");
    assert_eq!(
        (&passwd["opens"], &passwd["closed"], &passwd["left"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

#[test]
fn the_duration_is_that_of_the_processes() {
    let mut writer = Writer::new();
    // The file is older; a chunk may be begun before its process says what it is.
    writer.chunk(100, 100, IMAGE, T - 800_000);
    writer.thread_name("early", T - 700_000);
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", T);
    writer.record(MALLOC, T + 100, &[0x1000, 1, 0x51]);
    writer.exit(T + 5_000);
    assert_eq!(writer.report()["trace"]["duration"], 5_000);
    // Where the PROCESS record was written anew, over older ones, the events count.
    let mut writer = started();
    writer.record(MALLOC, 1_500_000, &[0x1000, 1, 0x51]);
    writer.exit(T);
    assert_eq!(writer.report()["trace"]["duration"], T - 1_500_000);
}

#[test]
fn what_there_is_nothing_of_has_no_heading() {
    let text = started().text(|_| ());
    assert!(!text.contains("EVENTS") && !text.contains("By type"), "{text}");
    assert_eq!(started().report()["events"], json!({"types": []}));
}

#[test]
fn the_text_has_the_warning_before_the_numbers_and_what_top_leaves_out() {
    let mut writer = started();
    for number in 0..30 {
        writer.record(MALLOC, T + number, &[0x1000 + number, 1_000, 0x100 + number]);
    }
    writer.put64(96, 12_345); // lost
    let text = writer.text(|options| options.view.top = 3);
    let lost = text.find("WARNING: 12,345 EVENTS WERE LOST (99.8 %)").expect("a warning");
    assert!(lost < text.find("bytes requested").expect("a fact"), "{text}");
    assert!(text.starts_with("./cmd: "), "{text}");
    assert!(text.contains("    ... 27 more (--top 0 shows all)"), "{text}");
    assert!(text.contains("bytes requested           30,000"), "{text}");
    assert!(!text.lines().any(|line| line.ends_with(' ')), "{text}");
}

#[test]
fn tables_are_sorted_by_the_wanted_column_and_a_wrong_one_is_named() {
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 1_000, 0x51]);
    writer.record(MALLOC, T, &[0x2000, 1, 0x52]);
    writer.record(MALLOC, T, &[0x3000, 1, 0x52]);
    let text = writer.text(|options| options.view.sort = Some("calls".to_owned()));
    assert!(text.find("0x52") < text.find("0x51"), "{text}");
    let text = writer.text(|_| ());
    assert!(text.find("0x51") < text.find("0x52"), "{text}");
    let view = rcutrace::report::table::View { sort: Some("colour".to_owned()), top: 0 };
    let options = rcutrace::report::Options { view, graph: false, json: false };
    let trace = writer.open().expect("opened");
    let silent = &mut rcutrace::progress::Progress::silent();
    let error = rcutrace::report::write(&trace, &options, silent, &mut Vec::new());
    let error = error.expect_err("no such column").to_string();
    assert!(
        error.starts_with("--sort colour: the columns are") && error.contains("bytes"),
        "{error}"
    );
}

#[test]
fn a_dump_has_a_line_an_event_also_of_types_that_nobody_knows() {
    let mut writer = started();
    writer.texted(4, T, &[IMAGE, 77], b"net:send to:x bytes:u took:t error:i note:s\0");
    writer.thread_name("worker", T + 1);
    writer.texted(77, T + 500, &[0xff, 12, 1500, -5_i64 as u64], b"hello \"you\"\0");
    writer.record(78, T + 600, &[1]);
    writer.record(MALLOC, T + 700, &[0x1000, 10, 0x51, 0x51, 0x61]);
    let dump = writer.dump();
    assert!(
        dump.contains(
            "0.009000500 100/100 worker net:send to=0xff bytes=12 took=1.500 us error=-5 note=\"hello \\\"you\\\"\"\n"
        ),
        "{dump}"
    );
    assert!(dump.contains("worker type 78 (not described)\n"), "{dump}");
    assert!(
        dump.contains("heap:malloc block=0x1000 size=10 caller=0x51 stack=[0x51 < 0x61]\n"),
        "{dump}"
    );
    assert!(
        dump.contains("PROCESS start pid=100 ppid=1 \"/bin/cmd\" \"/bin/cmd --all\"\n"),
        "{dump}"
    );
    let report = writer.report();
    assert_eq!(row(&report["events"]["types"], "type", "net:send")["events"], 1);
}

#[test]
fn a_chrome_trace_has_slices_counters_instants_and_names() {
    let mut writer = started();
    writer.thread_name("main", T);
    writer.record(ENTRY, T, &[0x100, 0]);
    writer.record(ENTRY, T + 1_000, &[0x200, 0]);
    writer.record(MALLOC, T + 1_500, &[0x1000, 64, 0x51]);
    writer.record(ACQUIRE, T + 5_000, &[0x7000, 0, 2_000, 0x51]);
    writer.record(RELEASE, T + 6_000, &[0x7000, 0, 0x51]);
    writer.record(EXIT, T + 7_000, &[0x100]); // both end
    writer.texted(FD_OPEN, T + 8_000, &[3, 0x51], b"/etc/passwd\0");
    let chrome = writer.chrome();
    let events = chrome["traceEvents"].as_array().expect("events");
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
    assert_eq!(of("M")[0]["args"]["name"], "cmd /bin/cmd --all");
    assert_eq!(of("M")[1]["args"]["name"], "main");
    assert_eq!((of("B").len(), of("E").len()), (2, 2));
    assert_eq!((&of("B")[1]["name"], &of("B")[1]["ts"]), (&json!("0x200"), &json!(9001.0)));
    let wait = of("X")[0];
    assert_eq!((&wait["ts"], &wait["dur"]), (&json!(9003.0), &json!(2.0)));
    assert_eq!((&of("b")[0]["ts"], &of("e")[0]["ts"]), (&json!(9005.0), &json!(9006.0)));
    assert_eq!(of("C")[0]["args"]["bytes"], 64);
    assert_eq!(of("i")[0]["args"]["path"], "/etc/passwd");
}

#[test]
fn flame_graphs_fold_stacks_the_outermost_first() {
    use rcutrace::export::flame::{self, Measure};
    let mut writer = started();
    writer.record(MALLOC, T, &[0x1000, 64, 0x51, 0x51, 0x61]);
    writer.record(MALLOC, T + 1, &[0x2000, 16, 0x51, 0x51, 0x61]);
    writer.record(FREE, T + 2, &[0x1000]);
    writer.record(ENTRY, T + 10, &[0x100, 0]);
    writer.record(ENTRY, T + 20, &[0x200, 0]);
    writer.record(EXIT, T + 50, &[0x200]);
    writer.record(EXIT, T + 60, &[0x100]);
    writer.record(ACQUIRE, T + 70, &[0x7000, 0, 5, 0x52]);
    let trace = writer.open().expect("opened");
    let silent = &mut rcutrace::progress::Progress::silent();
    let mut folded = |measure| {
        let folded = flame::fold(&trace, measure, silent).expect("folded");
        folded.into_iter().filter(|(_, weight)| *weight > 0).collect::<Vec<_>>()
    };
    let one = |stack: &str, weight| vec![(stack.to_owned(), weight)];
    assert_eq!(folded(Measure::Bytes), one("cmd;0x61;0x51", 80));
    assert_eq!(folded(Measure::Live), one("cmd;0x61;0x51", 16));
    assert_eq!(folded(Measure::Calls), one("cmd;0x61;0x51", 2));
    assert_eq!(folded(Measure::Wait), one("cmd;0x52;0x7000", 5));
    assert_eq!(folded(Measure::Time), [one("cmd;0x100", 20), one("cmd;0x100;0x200", 30)].concat());
    let mut svg = Vec::new();
    flame::write(&trace, None, silent, &mut svg).expect("drawn");
    assert!(String::from_utf8_lossy(&svg).contains("Time in functions: ./cmd"));
}
