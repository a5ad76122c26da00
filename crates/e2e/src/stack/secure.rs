//! TLS, passwords and least rights: works with the right ones, and each attempt with others is refused in a sentence.

use std::path::Path;
use std::process::{Command, Output};

use super::{HEALTHY_LIMIT, Stack, text};
use crate::wait_until;

/// What each service cannot do without: a right, as Kafka's tool takes it.
const NEEDED: [(&str, &[&str]); 4] = [
    ("ingest", &["--operation", "Write", "--topic", "wikipedia-raw"]),
    ("enricher", &["--operation", "Read", "--group", "wiki-enricher"]),
    ("sink", &["--operation", "Read", "--topic", "wikipedia-events"]),
    ("console", &["--operation", "Describe", "--group", "wiki-sink"]),
];

/// Runs the story.
///
/// # Panics
/// At the first thing that is let through, or refused without a word.
pub fn tell() {
    let stack = Stack::new(&["offline", "secure"]);
    secure_script(&stack, &["secrets"]);
    stack.compose(&["--profile", "tools", "build", "--quiet"]);
    stack.compose(&["up", "-d", "--wait", "kafka-1", "kafka-2", "kafka-3", "postgres"]);
    let mut rights = vec!["rights".to_owned()];
    rights.extend(stack.words());
    secure_script(&stack, &rights.iter().map(String::as_str).collect::<Vec<_>>());
    stack.compose(&["run", "--rm", "-T", "migrate"]);
    stack.compose(&["up", "-d", "--wait"]);
    wait_until("edits are stored", HEALTHY_LIMIT, || {
        stack.sql("SELECT count(*) FROM edits").parse::<u32>().is_ok_and(|rows| rows > 100)
    });
    println!("with the right credentials edits are stored");
    let without_tls = "psql \"host=postgres user=wiki_sink dbname=wikipedia sslmode=disable\" -c 'SELECT 1'";
    let output = stack.try_compose(&["exec", "-T", "postgres", "bash", "-c", without_tls]);
    let said = text(&output.stderr);
    println!("the database without TLS: {said}");
    assert!(!output.status.success() && said.contains("no pg_hba.conf entry"), "{said}");
    expect_no_secret_shown(&stack);
    for (service, right) in NEEDED {
        refused(&stack, service, "no credentials", &["-e", "WIKI_KAFKA_X_FILE="]);
        let other = if service == "console" { "sink" } else { "console" };
        let file = stack.root.join(format!("deploy/compose/secrets/kafka-{other}"));
        let mount = format!("{}:/other:ro", file.display());
        refused(&stack, service, "another service's", &["-v", &mount, "-e", "WIKI_KAFKA_X_FILE=/other"]);
        acl(&stack, "--remove", service, right);
        refused(&stack, service, "a right missing", &[]);
        acl(&stack, "--add", service, right);
    }
}

fn secure_script(stack: &Stack, arguments: &[&str]) {
    let script = stack.root.join("deploy/compose/secure.sh");
    let output =
        Command::new(script).args(arguments).envs(&stack.environment).current_dir(&stack.root).output().unwrap();
    assert!(output.status.success(), "secure.sh {arguments:?}: {}", text(&output.stderr));
}

fn acl(stack: &Stack, what: &str, service: &str, right: &[&str]) {
    let principal = format!("User:{service}");
    let mut words = vec!["exec", "-T", "kafka-1", "/opt/kafka/bin/kafka-acls.sh", "--bootstrap-server", "kafka-1:9092"];
    words.extend(["--command-config", "/mnt/shared/config/admin.properties", what, "--force"]);
    words.extend(["--allow-principal", &principal]);
    words.extend(right);
    stack.compose(&words);
}

/// Runs one more replica, which must end by itself, with a sentence.
fn refused(stack: &Stack, service: &str, how: &str, options: &[&str]) {
    let mut words = vec!["run", "--rm", "--no-deps", "-T", "-e", "WIKI_REQUIRE_HEALTHY=true"];
    words.extend(options);
    words.push(service);
    let output: Output = stack.try_compose(&words);
    let errors = text(&output.stderr);
    let sentence = errors.lines().rev().find(|line| line.starts_with(&format!("{service}: "))).unwrap_or_default();
    println!("{service}, {how}: {} {sentence}", output.status.code().unwrap_or(-1));
    assert!(!output.status.success() && !sentence.is_empty(), "{service}, {how}: {errors}");
}

fn expect_no_secret_shown(stack: &Stack) {
    let secrets = secrets(&stack.root.join("deploy/compose/secrets"));
    assert!(secrets.len() > 10, "the secrets are read");
    let mut shown = vec![("logs", stack.compose(&["logs", "--no-color"]))];
    for service in ["ingest", "enricher", "sink", "console"] {
        let image =
            Command::new("docker").args(["inspect", &format!("wikipedia-events/{service}:dev")]).output().unwrap();
        shown.push(("image", text(&image.stdout)));
        let url = format!("http://{service}:8080/metrics");
        shown.push(("metrics", stack.compose(&["exec", "-T", "prometheus", "wget", "-q", "-O", "-", &url])));
        let container =
            Command::new("docker").args(["inspect", &Stack::container(&format!("{service}-1"))]).output().unwrap();
        shown.push(("container", text(&container.stdout)));
    }
    for (what, text) in shown {
        assert!(text.len() > 100, "{what}: something is there to look at");
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret stands in {what}");
    }
    println!("no secret in logs, images, containers or metrics");
}

/// Every password: 48 hexadecimal digits.
fn secrets(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(secrets(&path));
            continue;
        }
        let content = std::fs::read_to_string(&path).unwrap();
        let words = content.split(|c: char| !c.is_ascii_hexdigit());
        found.extend(words.filter(|word| word.len() == 48).map(str::to_owned));
    }
    found
}
