//! Apache Kafka's jars, by Maven, once; and the Java that runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version that the stories run on; as in `kafka/pom.xml`.
const VERSION: &str = "4.1.1";

/// The folder of the jars, outside the tree; filled at the first call.
///
/// # Panics
/// Without Java or Maven, naming them, and where Maven cannot fetch.
#[must_use]
pub(super) fn folder() -> PathBuf {
    for (program, version, package) in [("java", "-version", "openjdk-17-jre-headless"), ("mvn", "--version", "maven")]
    {
        let ran = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(
            ran.is_ok_and(|status| status.success()),
            "the stories on Apache Kafka need `{program}`, which is not here: install it (Debian: {package}, Java 17 or \
             later), or name a cluster in WIKI_TEST_KAFKA"
        );
    }
    let folder = cache().join(format!("apache-kafka-{VERSION}-with-tools"));
    if !folder.is_dir() {
        fetch(&folder);
    }
    folder
}

/// `$XDG_CACHE_HOME/wikipedia-events`, or the same in `~/.cache`.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).unwrap_or_else(std::env::temp_dir);
    base.join("wikipedia-events")
}

/// Fetches into a folder beside it and renames: a fetch that was cut off leaves nothing that looks whole.
fn fetch(folder: &Path) {
    let parent = folder.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    let unfinished = tempfile::tempdir_in(parent).unwrap();
    let jars = unfinished.path().join("jars");
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file", concat!(env!("CARGO_MANIFEST_DIR"), "/kafka/pom.xml")])
        .args(["dependency:copy-dependencies", &format!("-DoutputDirectory={}", jars.display())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "Maven cannot fetch Apache Kafka: {}", String::from_utf8_lossy(&said));
    // Another process may have been quicker: its folder is as good.
    if std::fs::rename(&jars, folder).is_err() {
        assert!(folder.is_dir(), "{} cannot be made", folder.display());
    }
}
