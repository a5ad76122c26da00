//! Wrong configuration: one sentence that says what, why and what to do, the right exit code, nothing else.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline, start_broker};
use e2e::process::Program;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs it and expects exactly one line on standard error, with these words, and this exit code.
fn refused(program: &Program, code: i32, words: &[&str]) {
    let (found, output, errors) = program.run(LIMIT);
    assert_eq!(found, code, "{program:?}: {errors}");
    assert_eq!(output, "", "{program:?}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{program:?}:\n{errors}");
    for word in words {
        assert!(errors.contains(word), "{program:?}: \"{word}\" is not in: {errors}");
    }
    println!("{code} {}", errors.trim_end());
}

#[test]
fn an_unknown_value_is_named_with_what_is_accepted() {
    refused(&Program::new("sink").with(["--writer", "oracle"]), 78, &["--writer", "WIKI_WRITER", "oracle", "sqlite"]);
    refused(&Program::new("sink").set("WIKI_REBALANCE", "lazy"), 78, &["WIKI_REBALANCE", "lazy", "cooperative"]);
    refused(&Program::new("ingest").with(["--start", "someday"]), 78, &["--start", "earliest"]);
    refused(&Program::new("ingest").with(["--partitions", "0"]), 78, &["--partitions", "1"]);
    refused(&Program::new("ingest").with(["--stream-url", "ftp://x"]), 78, &["WIKI_STREAM_URL", "http"]);
    for url in
        ["http://stream.example/v2/stream/x", "https://169.254.169.254/v2/stream/x", "https://[fd00::1]/v2/stream/x"]
    {
        refused(&Program::new("ingest").with(["--stream-url", url]), 78, &["WIKI_STREAM_ALLOWED_HOSTS"]);
    }
    refused(&Program::new("simulator").with(["--rate", "0"]), 78, &["--rate", "max"]);
    refused(&Program::new("wiki").with(["demo", "--for", "soon"]), 78, &["--for", "30s"]);
}

#[test]
fn an_unknown_option_is_usage_and_suggests_the_nearest() {
    refused(&Program::new("ingest").with(["--stream-ulr", "x"]), 2, &["--stream-ulr", "--stream-url"]);
    refused(&Program::new("wiki").with(["run", "nonsense"]), 2, &["no command nonsense", "--help"]);
    refused(&Program::new("wiki").with(["run", "ingset"]), 2, &["no command ingset", "did you mean ingest?"]);
}

#[test]
fn a_broker_that_does_not_answer_is_named() {
    let nobody = ["--kafka-bootstrap-servers", "127.0.0.1:9"];
    for service in ["ingest", "enricher", "sink"] {
        let program = Program::new(service).with(nobody).with(["--require-healthy", "--http", "127.0.0.1:0"]);
        let folder = tempfile::tempdir().unwrap();
        let program = match service {
            "sink" => program.with(["--writer", "sqlite", "--sqlite-file"]).with([folder
                .path()
                .join("e.db")
                .display()
                .to_string()]),
            _ => program,
        };
        refused(&program, 69, &["127.0.0.1:9", "WIKI_KAFKA_BOOTSTRAP_SERVERS"]);
    }
    refused(&Program::new("wiki").with(["tail"]).with(nobody), 69, &["127.0.0.1:9"]);
}

#[test]
fn a_setting_that_librdkafka_does_not_know_is_named() {
    let program = Program::new("wiki").with(["tail", "-X", "fetch.wait.maxx.ms=5"]);
    refused(&program, 78, &["fetch.wait.maxx.ms", "-X", "the nearest is fetch.wait.max.ms"]);
    refused(
        &Program::new("sink").set("WIKI_KAFKA_X", "isolation.level=read_uncommitted"),
        78,
        &["WIKI_KAFKA_X", "exactness"],
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let program = Program::new("ingest").with(["--http", &address]);
    refused(&program, 78, &[&address, "WIKI_HTTP"]);
    let port = taken.local_addr().unwrap().port().to_string();
    refused(&Program::new("broker").with(["--port", &port]), 1, &[&port, "--port"]);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    // A file in the folder's place refuses everybody, root too.
    let inside = file.join("data").display().to_string();
    let demo = ["demo", "--source", "generated", "--http", "127.0.0.1:0", "--for", "1s", "--data", &inside];
    refused(&Program::new("wiki").with(demo), 78, &["--data", &inside]);
    let (_broker, broker) = start_broker(folder.path());
    let table = file.join("edits.db").display().to_string();
    let sink = ["--kafka-bootstrap-servers", &broker.to_string(), "--http", "127.0.0.1:0"];
    let file = ["--writer", "sqlite", "--sqlite-file", &table];
    refused(&Program::new("sink").with(sink).with(file), 78, &["WIKI_SQLITE_FILE", &table]);
    refused(&Program::new("sink").with(sink), 78, &["WIKI_DATABASE_URL", "--writer"]);
}

#[test]
fn a_read_only_data_folder_is_named_for_those_who_are_not_root() {
    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = std::fs::write(locked.join("probe"), b"").is_ok();
    let demo =
        ["demo", "--source", "generated", "--http", "127.0.0.1:0", "--for", "2s", "--data", locked.to_str().unwrap()];
    let program = Program::new("wiki").with(demo);
    if is_root {
        // Root may write there: then the demo has to run.
        let (code, output, errors) = program.run(Duration::from_secs(60));
        assert_eq!(code, 0, "{output}\n{errors}");
    } else {
        refused(&program, 78, &["--data", "locked"]);
    }
}

#[test]
fn help_is_there_for_every_binary() {
    for binary in ["ingest", "enricher", "sink", "simulator", "broker", "wiki"] {
        let (code, output, errors) = Program::new(binary).with(["--help"]).run(LIMIT);
        assert_eq!((code, errors.as_str()), (0, ""), "{binary}");
        assert!(output.contains("--help"), "{binary}: {output}");
    }
}

#[test]
fn a_topic_that_exists_with_other_settings_is_reported_and_left_alone() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--edits", "1"]));
    let admin = pipeline.target.admin();
    let options = AdminOptions::new();
    let topic = NewTopic::new("wikipedia-raw", 3, TopicReplication::Fixed(1)).set("retention.ms", "3600000");
    e2e::block_on(admin.create_topics(&[topic], &options)).unwrap();
    pipeline.start_service("ingest");
    let mut reported = Vec::new();
    e2e::wait_until("what is different is reported", LIMIT, || {
        let logs = pipeline.logs("ingest");
        let told = logs.iter().filter(|line| line["message"] == "a topic has another setting than it should");
        reported = told.map(|line| (line["setting"].to_string(), line["found"].to_string())).collect();
        reported.len() >= 3
    });
    let due = [("max.message.bytes", "1048588"), ("message.timestamp.type", "CreateTime"), ("retention.ms", "3600000")];
    reported.sort();
    assert_eq!(reported, due.map(|(setting, found)| (format!("{setting:?}"), format!("{found:?}"))));
    let described =
        e2e::block_on(admin.describe_configs(&[ResourceSpecifier::Topic("wikipedia-raw")], &options)).unwrap();
    let retention = described[0].as_ref().unwrap().get("retention.ms").and_then(|entry| entry.value.clone());
    assert_eq!(retention.as_deref(), Some("3600000"), "it is whoever made it who changes it");
}
