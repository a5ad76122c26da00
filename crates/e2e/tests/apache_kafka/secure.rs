//! TLS, passwords and rights: any librdkafka setting passes through, and each refusal is one sentence without a secret.

use std::time::Duration;

use e2e::checker;
use e2e::kafka::{Cluster, OPERATOR, STRANGER};
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::target::Target;

const EDITS: usize = 600;
const LIMIT: Duration = Duration::from_secs(60);

/// The options of a client that comes with this name and password.
fn credentials((user, password): (&str, &str), certificate: &std::path::Path) -> Vec<String> {
    let settings = [
        "security.protocol=SASL_SSL".to_owned(),
        "sasl.mechanism=PLAIN".to_owned(),
        format!("sasl.username={user}"),
        format!("sasl.password={password}"),
        format!("ssl.ca.location={}", certificate.display()),
    ];
    settings.into_iter().flat_map(|setting| ["-X".to_owned(), setting]).collect()
}

#[test]
fn the_pipeline_is_exact_over_tls_with_passwords() {
    let cluster = Cluster::to_break();
    let (bootstrap, certificate) = cluster.secure();
    let edits = EDITS.to_string();
    let mut parts = Parts::with_simulator(&["--rate", "max", "--edits", &edits, "--seed", "91"]);
    parts.services = credentials(OPERATOR, &certificate);
    let plain = cluster.target("secure");
    let mut pipeline = Pipeline::on(Target { bootstrap, ..plain.clone() }, &parts);
    for service in ["ingest", "enricher", "sink"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    e2e::wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        checker::progress(&table) >= EDITS
    });
    let verdict = checker::check(pipeline.simulator, &plain, &table);
    assert!(verdict.is_exact() && verdict.stored == EDITS, "{verdict}");
}

#[test]
fn a_missing_right_to_a_consumer_group_is_said_and_not_waited_for() {
    let cluster = Cluster::to_break();
    let (bootstrap, certificate) = cluster.secure();
    let (code, output, errors) = Program::new("wiki")
        .with(["groups", "describe", "wiki-sink", "--kafka-bootstrap-servers", &bootstrap])
        .with(credentials(STRANGER, &certificate))
        .run(LIMIT);
    assert_eq!((code, output.as_str()), (1, ""), "{errors}");
    let sentence = errors.lines().last().unwrap_or_default();
    assert!(sentence.contains("consumer group wiki-sink: Kafka refuses it"), "{errors}");
}

/// Runs a service until it ends by itself, which it must, with one sentence of these words.
fn refused(service: &str, options: &[String], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::new(service).with(["--http", "127.0.0.1:0"]).with(options.to_vec());
    let program = match service {
        "sink" => program.with(["--writer", "sqlite", "--sqlite-file"]).with([folder
            .path()
            .join("e.db")
            .display()
            .to_string()]),
        _ => program,
    };
    let (code, output, errors) = program.run(LIMIT);
    let sentence = errors.lines().last().unwrap_or_default();
    println!("{service} {code} {sentence}");
    assert!(matches!(code, 1 | 69 | 78), "{service} ended with {code}:\n{errors}");
    for word in words {
        assert!(sentence.contains(word), "{service}: \"{word}\" is not in: {errors}");
    }
    for (_, secret) in [OPERATOR, STRANGER] {
        assert!(!errors.contains(secret) && !output.contains(secret), "{service} tells a password:\n{errors}");
    }
}

#[test]
fn what_is_refused_says_so_in_one_sentence() {
    let cluster = Cluster::to_break();
    let (bootstrap, certificate) = cluster.secure();
    let at = |options: Vec<String>| {
        let target = ["--kafka-bootstrap-servers".to_owned(), bootstrap.clone()];
        [target.to_vec(), options].concat()
    };
    let wrong = (OPERATOR.0, "not-the-password");
    for service in ["ingest", "enricher", "sink"] {
        refused(service, &at(credentials(wrong, &certificate)), &["does not accept", "sasl"]);
        // Without the certificate the server cannot be trusted.
        let mut options = credentials(OPERATOR, &certificate);
        options.truncate(options.len() - 2);
        refused(service, &at(options), &["does not accept", "ssl"]);
        refused(service, &at(credentials(STRANGER, &certificate)), &["ight"]);
        let without = vec!["--require-healthy".to_owned()];
        refused(service, &at(without), &["no Kafka answers", "security.protocol"]);
    }
}
