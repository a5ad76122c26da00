//! `wiki config`: every value with its origin, and no secret.

use std::time::Duration;

use e2e::process::Program;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_value_is_shown_with_its_origin_and_no_secret() {
    let program = Program::new("wiki")
        .with(["config", "--show", "sink", "--batch-rows", "77", "-X", "sasl.password=hidden-one"])
        .set("WIKI_DATABASE_URL", "postgres://wiki:hidden-two@db/wikipedia")
        .set("WIKI_GROUP", "my-sinks");
    let (code, output, errors) = program.run(LIMIT);
    assert_eq!(code, 0, "{errors}");
    let line = |flag: &str| {
        let found = output.lines().find(|line| line.split_whitespace().next() == Some(flag));
        found.unwrap_or_else(|| panic!("{flag} is missing in\n{output}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("--batch-rows")[1..3], ["flag", "77"]);
    assert_eq!(line("--group")[1..3], ["environment", "my-sinks"]);
    assert_eq!(line("--kafka-bootstrap-servers")[1..3], ["default", "127.0.0.1:9092"]);
    assert_eq!(line("-X")[1..3], ["flag", "sasl.password=***"]);
    assert_eq!(line("--database-url")[1..3], ["environment", "***"]);
    assert!(!format!("{output}{errors}").contains("hidden"), "{output}");
}

#[test]
fn a_value_that_is_refused_is_one_sentence() {
    let (code, output, errors) = Program::new("wiki").with(["config", "sink", "--batch-rows", "many"]).run(LIMIT);
    assert_eq!((code, output.as_str()), (78, ""), "{errors}");
    assert!(errors.starts_with("wiki: --batch-rows (or WIKI_BATCH_ROWS) cannot be \"many\""), "{errors}");
}

#[test]
fn no_secret_of_a_stream_url_is_shown() {
    let url = "https://stream.example/v2/stream/x?token=hidden-three";
    for arguments in [&["config", "--show", "ingest"][..], &["run", "ingest", "--help"], &["doctor", "--help"]] {
        let (code, output, errors) =
            Program::new("wiki").with(arguments.iter().copied()).set("WIKI_STREAM_URL", url).run(LIMIT);
        assert_eq!(code, 0, "{arguments:?}: {errors}");
        assert!(!format!("{output}{errors}").contains("hidden"), "{arguments:?}: {output}");
        assert!(arguments[0] != "config" || output.contains("https://stream.example/v2/stream/x?***"), "{output}");
    }
    for url in ["https://me:hidden-four@stream.example/v2/stream/x", "gopher://stream.example/x?hidden-five"] {
        let (code, output, errors) =
            Program::new("wiki").with(["config", "ingest"]).set("WIKI_STREAM_URL", url).run(LIMIT);
        assert_eq!(code, 78, "{errors}");
        assert!(!format!("{output}{errors}").contains("hidden"), "{errors}");
    }
    let misplaced = Program::new("sink").with(["postgres://me:hidden-six@db/wikipedia"]).run(LIMIT);
    assert!(misplaced.0 == 2 && !misplaced.2.contains("hidden"), "{misplaced:?}");
}
