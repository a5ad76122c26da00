//! Recordings through the whole demo: the table holds exactly their edits, field by field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::pipeline::start_simulator;
use e2e::process::Program;
use e2e::recorded::{self, Fate};
use e2e::{http, wait_until};

/// What must become of each recorded file's events: stored, filtered, canaries. The page-create capture ends with a
/// frame that was cut before its data; it is no event.
const RECORDED: [(&str, [usize; 3]); 6] = [
    ("constructed.jsonl", [0, 0, 2]),
    ("page-create.sse", [0, 41, 0]),
    ("recentchange.jsonl", [888, 483, 0]),
    ("stream-2021-09.sse", [30, 32, 0]),
    ("stream-2025-08.sse", [2, 2, 0]),
    ("stream.sse", [747, 403, 0]),
];

fn replay(recording: &Path, run_for: &str) {
    replay_as(recording, recording, run_for);
}

/// Replays a recording; the table must hold what another file says.
fn replay_as(recording: &Path, truth: &Path, run_for: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = [
        "demo".into(),
        "--source".into(),
        recording.display().to_string(),
        "--sinks".into(),
        "2".into(),
        "--for".into(),
        run_for.into(),
        "--data".into(),
        data.display().to_string(),
        "--http".into(),
        "127.0.0.1:0".into(),
    ];
    let (code, output, errors) = Program::new("wiki").with(arguments).run(Duration::from_secs(90));
    assert_eq!(code, 0, "{}:\n{output}\n{errors}", recording.display());
    assert_eq!(output.lines().last().unwrap(), "missing 0, double 0, extra 0, gaps 0", "{output}");

    let mut expected = BTreeMap::new();
    for event in recorded::events(truth) {
        if recorded::fate(&event) == Fate::Stored {
            expected.insert(event["meta"]["id"].as_str().unwrap().to_owned(), recorded::row(&event));
        }
    }
    let stored = recorded::stored(&data.join("edits.db"));
    assert_eq!(stored.len(), expected.len(), "{}", recording.display());
    for (id, row) in &expected {
        assert_eq!(stored.get(id), Some(row), "{}: {id}", recording.display());
    }
    let figure = |name: &str| {
        let line = output.lines().rev().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().parse::<usize>().unwrap()
    };
    for name in ["made", "raw", "enriched", "stored"] {
        assert_eq!(figure(name), expected.len(), "{}: {name}\n{output}", recording.display());
    }
}

/// A recording made here, for machines that have no other: generated events, written as the stream sends them.
fn made(folder: &Path) -> PathBuf {
    let options = ["--rate", "max", "--edits", "600", "--seed", "11"].map(str::to_owned);
    let (_simulator, address) = start_simulator(&options, folder);
    let path = folder.join("made.sse");
    let faults = r#"{"idle_ms":300}"#;
    assert_eq!(http::request(address, "PUT", "/faults", faults).unwrap().0, 200);
    let mut text = String::new();
    wait_until("the recording is made", Duration::from_secs(20), || {
        text = unchunked(&http::get(address, "/v2/stream/recentchange?since=1").unwrap_or_default());
        text.ends_with("\n\n") && text.matches("\"type\":\"edit\"").count() >= 600
    });
    std::fs::write(&path, text).unwrap();
    path
}

/// The body of a chunked response. Chunk sizes stand on lines of their own; no line of a frame is bare hexadecimal.
fn unchunked(body: &str) -> String {
    let is_size = |line: &str| !line.is_empty() && line.len() <= 6 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    body.split("\r\n").filter(|piece| !is_size(piece)).collect()
}

#[test]
fn a_recording_is_stored_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    replay(&made(folder.path()), "8s");
}

/// The same recording with other line ends, and with a byte order mark.
#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = recorded::recordings().unwrap_or_else(|| vec![made(folder.path())]);
    let original = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "sse"));
    let original = original.max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    let text = std::fs::read_to_string(original).unwrap();
    assert!(!text.contains('\r'), "the recording has line feeds only");
    for (name, mark, end) in
        [("cr", "", "\r"), ("crlf", "", "\r\n"), ("mark", "\u{feff}", "\n"), ("both", "\u{feff}", "\r\n")]
    {
        let path = folder.path().join(format!("{name}.sse"));
        std::fs::write(&path, format!("{mark}{}", text.replace('\n', end))).unwrap();
        replay_as(&path, original, "7s");
    }
}

#[test]
fn every_recorded_file_is_stored_field_by_field() {
    let Some(files) = recorded::recordings() else {
        println!("WIKI_RECORDED is not set: only the recording made by the simulator was replayed");
        return;
    };
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut fates = [0; 3];
        for event in recorded::events(&file) {
            fates[recorded::fate(&event) as usize] += 1;
        }
        let deliberate = RECORDED.iter().find(|(recorded, _)| *recorded == name);
        let (_, listed) = deliberate.unwrap_or_else(|| panic!("{name}: what becomes of its events is not listed"));
        assert_eq!(fates, *listed, "{name}");
        replay(&file, "7s");
    }
}
