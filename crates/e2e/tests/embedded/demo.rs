//! `wiki demo` as a newcomer meets it.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::pipeline::start_simulator;
use e2e::process::{Process, Program};
use e2e::{checker, http, schedule, wait_until};

const LIMIT: Duration = Duration::from_secs(40);
const FIRST_EDIT_SECONDS: f64 = 3.0;

fn demo(name: &str, folder: &std::path::Path, source: &str) -> Process {
    let data = folder.join("data").display().to_string();
    Program::new("wiki")
        .with(["demo", "--source", source, "--http", "127.0.0.1:0", "--data", &data])
        .leading_a_group()
        .start(name, folder)
}

fn interrupt(mut process: Process) -> (i32, String) {
    // As a terminal does: the sinks are not asked first.
    process.signal_group("INT");
    let asked = Instant::now();
    let mut status = None;
    wait_until("the demo ends", LIMIT, || {
        status = process.ended();
        status.is_some()
    });
    println!("ended {:.1} s after Ctrl-C", asked.elapsed().as_secs_f64());
    (status.and_then(|status| status.code()).unwrap_or(-1), process.output())
}

#[test]
fn the_first_edit_comes_soon_and_the_end_is_an_audit() {
    let _alone = schedule::alone();
    let folder = tempfile::tempdir().unwrap();
    let process = demo("demo", folder.path(), "generated");
    let mut seconds = None;
    wait_until("the first edit", LIMIT, || {
        let output = process.output();
        let line =
            output.lines().find_map(|line| line.strip_prefix("first edit after ")?.strip_suffix(" s")?.parse().ok());
        seconds = line;
        seconds.is_some()
    });
    let seconds: f64 = seconds.unwrap();
    println!("first edit after {seconds} s");
    assert!(seconds <= FIRST_EDIT_SECONDS, "{seconds} s");
    let banner = process.output();
    for words in ["generated", "no real people", "Embedded development broker", "in memory", "not Apache Kafka"] {
        assert!(banner.contains(words), "the banner does not say \"{words}\":\n{banner}");
    }
    let page = banner.lines().find_map(|line| line.strip_prefix("page     http://")).unwrap().trim_end_matches('/');
    let (status, metrics) = http::request(page.parse().unwrap(), "GET", "/metrics", "").unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("wiki_broker_refused_total{limit=\"connections\"} 0"), "{metrics}");

    // One sink is really killed: its partitions move, it comes back, and the audit is clean all the same.
    let table = folder.path().join("data/edits.db");
    wait_until("both sinks own partitions", LIMIT, || {
        let output = process.output();
        let owners = output.lines().rev().find(|line| line.contains("owners:")).unwrap_or_default();
        owners.contains("sink-1 p") && owners.contains("sink-2 p")
    });
    let children = Command::new("pgrep").args(["-P", &process.id().to_string()]).output().unwrap().stdout;
    let children = String::from_utf8(children).unwrap();
    assert_eq!(children.lines().count(), 2, "two sinks, each a process of its own");
    let killed = Command::new("kill").args(["-9", children.lines().next().unwrap()]).status().unwrap();
    assert!(killed.success());
    wait_until("the loss is told", LIMIT, || process.output().contains("is gone"));
    let before = checker::rows(&table);
    wait_until("edits go on", LIMIT, || checker::rows(&table) > before + 20);

    let (code, output) = interrupt(process);
    assert_eq!(code, 0, "{output}");
    assert_eq!(output.lines().last(), Some("missing 0, double 0, extra 0, gaps 0"), "{output}");
    assert!(output.contains("sequences         dense"), "{output}");
}

#[test]
fn a_second_demo_keeps_the_table_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        let process = demo(name, folder.path(), "generated");
        wait_until("the first edit", LIMIT, || process.output().contains("first edit after"));
        let (code, output) = interrupt(process);
        assert_eq!(code, 0, "{output}");
    }
    let kept = std::fs::read_dir(folder.path().join("data")).unwrap();
    let kept = kept.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("edits-until-"));
    assert!(kept.count() >= 1);
}

#[test]
fn pointed_at_a_stream_that_refuses_it_says_so_once_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--status", "403", "--lifetime-ms", "3000"].map(str::to_owned);
    let (_simulator, address) = start_simulator(&options, folder.path());
    let process = demo("demo", folder.path(), &format!("http://{address}/v2/stream/recentchange"));
    wait_until("edits come in the end", LIMIT, || process.output().contains("first edit after"));
    wait_until("the lifetime's cut is told", LIMIT, || process.errors().contains("as it does every 15 minutes"));
    let errors = process.errors();
    assert_eq!(errors.matches("(403)").count(), 1, "{errors}");
    assert!(errors.contains("WIKI_CONTACT"), "{errors}");
    let (code, output) = interrupt(process);
    assert_eq!(code, 0, "{output}");
}

/// A line without what differs from run to run: numbers, and the spaces that align them.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }) {
        if !(matches!(c, '0' | ' ') && shape.ends_with(c)) {
            shape.push(c);
        }
    }
    shape
}

/// What has to stand in the output: of an edit and of the line of figures how they begin, of what the README cuts short
/// what stands before the cut.
fn expected(line: &str) -> String {
    let is_edit = line.starts_with(|c: char| c.is_ascii_digit());
    let end = if is_edit { line.match_indices(' ').nth(1) } else { line.match_indices('…').next() };
    let end = end.or_else(|| line.match_indices("owners:").next());
    shape(end.map_or(line, |(at, _)| &line[..at]))
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let sample = readme.split("```").find(|block| block.trim_start().starts_with("wikipedia-events demo")).unwrap();
    assert!(sample.lines().count() > 15, "{sample}");

    let folder = tempfile::tempdir().unwrap();
    let process = demo("demo", folder.path(), "auto");
    wait_until("edits and figures", LIMIT, || {
        let output = process.output();
        output.contains("owners: sink-1 p") && output.contains("first edit after")
    });
    let (code, output) = interrupt(process);
    assert_eq!(code, 0, "{output}");
    let output = output.replace(&format!("{}/", folder.path().display()), "");
    let shapes: Vec<String> = output.lines().map(shape).collect();
    let is_live = output.lines().any(|line| line.starts_with("input    live"));
    for line in sample.lines().filter(|line| !line.trim().is_empty() && *line != "^C") {
        // Whoever reaches Wikimedia sees its edits.
        let known = if is_live && line.starts_with("input") { "input".to_owned() } else { expected(line) };
        assert!(shapes.iter().any(|shape| shape.starts_with(&known)), "nothing like {line:?} is printed:\n{output}");
    }
}

#[test]
fn a_proxy_in_the_environment_is_not_asked_for_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let mut program = Program::new("wiki").with([
        "demo",
        "--source",
        "generated",
        "--for",
        "5s",
        "--http",
        "127.0.0.1:0",
        "--data",
        &data,
    ]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        program = program.set(name, "http://127.0.0.1:9");
    }
    let (code, output, errors) = program.run(Duration::from_secs(90));
    assert_eq!(code, 0, "{output}{errors}");
    let made = output.lines().rev().find(|line| line.starts_with("stored")).unwrap();
    assert!(made.split_whitespace().last().unwrap().parse::<usize>().unwrap() > 20, "{output}");
}
