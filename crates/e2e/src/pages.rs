//! Pages whose commands are run, and their output compared.
//!
//! A block of kind `console` is a terminal: a line that begins with `$ ` is a command, the lines beneath it are what it
//! prints. `…` in a line stands for any text, alone in a line for any lines; `^C` interrupts what runs; `(exit code 1)` is
//! the last line of a command that fails. A word behind `console` names a terminal of its own: what is begun there may
//! run on, and is compared as far as it has come.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::binary;
use crate::schedule::{self, Permit};

/// How long a command may take until it has printed what it should.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Something that is typed, and what the terminal shows then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The terminal's name; empty for the first.
    pub terminal: String,
    /// The command; `None` for `^C`.
    pub command: Option<String>,
    /// Lines, with `…`.
    pub expected: Vec<String>,
    /// Line of the page.
    pub line: usize,
}

/// The steps of a page, in order.
///
/// # Panics
/// Where a reader would not see in which terminal a block is typed.
#[must_use]
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut terminal, mut said): (Option<String>, &str) = (None, "");
    for (number, line) in page.lines().enumerate() {
        match &terminal {
            None => {
                let named = line.strip_prefix("```console").map(|name| name.trim().to_owned());
                let is_told = named.as_ref().is_none_or(String::is_empty) || said.ends_with(" terminal:*");
                assert!(is_told, "line {}: above this block has to stand in which terminal it is typed", number + 1);
                terminal = named;
                if !line.is_empty() {
                    said = line;
                }
            }
            Some(_) if line == "```" => terminal = None,
            Some(name) => {
                let command = line.strip_prefix("$ ").map(str::to_owned);
                if command.is_some() || line == "^C" {
                    steps.push(Step { terminal: name.clone(), command, expected: Vec::new(), line: number + 1 });
                } else if let Some(step) = steps.last_mut() {
                    step.expected.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// Whether lines are as expected: all of them, or with `whole` unset the first of them.
#[must_use]
pub fn matches(expected: &[String], found: &[&str], whole: bool) -> bool {
    match expected.split_first() {
        None => !whole || found.is_empty(),
        Some((any, rest)) if any == "…" => (0..=found.len()).any(|from| matches(rest, &found[from..], whole)),
        Some((line, rest)) => {
            found.split_first().is_some_and(|(first, left)| matches_line(line, first) && matches(rest, left, whole))
        }
    }
}

fn matches_line(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A command in a terminal.
struct Running {
    child: Child,
    file: std::path::PathBuf,
    step: Step,
}

/// Terminals in which a page is typed.
pub struct Terminals {
    folder: TempDir,
    /// What the page says, and what it is here: addresses with ports.
    places: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    running: BTreeMap<String, Running>,
    begun: usize,
    _permit: Permit,
}

impl Terminals {
    /// Terminals in an empty folder; `ports` of the page are other ones here, so that nothing meets what runs already.
    ///
    /// # Panics
    /// Where there is no folder, or the binaries are not built.
    #[must_use]
    pub fn open(ports: &[u16]) -> Self {
        let permit = schedule::shared();
        let folder = tempfile::tempdir().unwrap();
        let places = ports
            .iter()
            .map(|port| (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", crate::ports::free())))
            .collect();
        Self { folder, places, environment: Vec::new(), running: BTreeMap::new(), begun: 0, _permit: permit }
    }

    /// Sets a variable in every terminal.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Types a page, and compares.
    ///
    /// # Panics
    /// With the line of the page, what it says and what was found, where they differ.
    pub fn run(mut self, name: &str, page: &str) {
        let steps = steps(page);
        assert!(!steps.is_empty(), "{name} holds no commands");
        for step in steps {
            let place = format!("{name}, line {}", step.line);
            match &step.command {
                Some(command) => {
                    println!("{place}: {command}");
                    self.finish(&step.terminal, &place);
                    self.expect_free_address(command, &place);
                    self.begin(&step);
                    if step.terminal.is_empty() {
                        self.finish("", &place);
                    } else {
                        self.await_lines(&step.terminal, &place);
                    }
                }
                None => self.interrupt(&step, &place),
            }
        }
    }

    /// Here every service takes a free port; where readers type the same, two of one kind would meet on one.
    fn expect_free_address(&self, command: &str, place: &str) {
        let service = |command: &str| {
            let mut words = command.split_whitespace();
            let is_service = (words.next(), words.next()) == (Some("wiki"), Some("run"));
            words.next().filter(|_| is_service && !command.contains("--http")).map(str::to_owned)
        };
        let Some(name) = service(command) else { return };
        let mut others = self.running.values().filter_map(|running| service(running.step.command.as_ref()?));
        assert!(others.all(|other| other != name), "{place}: {name} runs already, on the same address: give --http");
    }

    fn begin(&mut self, step: &Step) {
        let mut command = step.command.clone().unwrap_or_default();
        for (said, here) in &self.places {
            command = command.replace(said, here);
        }
        self.begun += 1;
        let file = self.folder.path().join(format!(".output-{}", self.begun));
        let output = File::create(&file).unwrap();
        let folder = binary("wiki").parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        let mut bash = Command::new("bash");
        bash.args(["-c", &command])
            .current_dir(self.folder.path())
            .env_clear()
            .envs(std::env::vars().filter(|(key, _)| !key.starts_with("WIKI_") && key != "RUST_LOG"))
            .env("PATH", path)
            .env("NO_COLOR", "1")
            // As on a terminal; and no two pages that run at once meet on a port.
            .env("WIKI_LOG_FORMAT", "pretty")
            .env("WIKI_HTTP", "127.0.0.1:0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        for (said, here) in &self.places {
            if said.ends_with(":9092") {
                bash.env("WIKI_KAFKA_BOOTSTRAP_SERVERS", here);
                bash.env("WIKI_BROKER_PORT", here.rsplit(':').next().unwrap_or_default());
            }
        }
        let child = bash.spawn().unwrap();
        self.running.insert(step.terminal.clone(), Running { child, file, step: step.clone() });
    }

    fn output(&self, running: &Running) -> String {
        let mut output = String::from_utf8_lossy(&std::fs::read(&running.file).unwrap()).into_owned();
        for (said, here) in &self.places {
            output = output.replace(here, said);
        }
        output
    }

    /// Waits until a terminal's command has ended, and compares all of it.
    fn finish(&mut self, terminal: &str, place: &str) {
        let Some(mut running) = self.running.remove(terminal) else { return };
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                signal(&running.child, "KILL");
                panic!("{place}: {:?} still runs; it said:\n{}", running.step.command, self.output(&running));
            }
            std::thread::park_timeout(PAUSE);
        };
        let mut found = self.output(&running);
        if let Some(code) = status.code().filter(|code| *code != 0) {
            found.push_str(&format!("(exit code {code})\n"));
        }
        let lines: Vec<&str> = found.lines().collect();
        let step = &running.step;
        assert!(
            matches(&step.expected, &lines, true),
            "{place}: {:?} should say\n{}\nand says\n{found}",
            step.command,
            step.expected.join("\n")
        );
    }

    /// Waits until a command that may run on has printed what it should.
    fn await_lines(&mut self, terminal: &str, place: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut running = self.running.remove(terminal).unwrap();
            let found = self.output(&running);
            let is_there = matches(&running.step.expected, &found.lines().collect::<Vec<_>>(), false);
            let has_ended = running.child.try_wait().unwrap().is_some();
            let (command, expected) = (running.step.command.clone(), running.step.expected.join("\n"));
            self.running.insert(terminal.to_owned(), running);
            if is_there {
                return;
            }
            assert!(
                !has_ended && Instant::now() < deadline,
                "{place}: {command:?} should say\n{expected}\nand says\n{found}"
            );
            std::thread::park_timeout(PAUSE);
        }
    }

    fn interrupt(&mut self, step: &Step, place: &str) {
        let running = self.running.get_mut(&step.terminal).unwrap_or_else(|| panic!("{place}: nothing runs there"));
        running.step.expected.extend(step.expected.iter().cloned());
        signal(&running.child, "INT");
        self.finish(&step.terminal, place);
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            signal(&running.child, "KILL");
            // It is gone either way.
            let _ = running.child.wait();
        }
    }
}

fn signal(child: &Child, signal: &str) {
    let group = format!("-{}", child.id());
    // One that has just ended needs no signal.
    let _ = Command::new("kill").args([&format!("-{signal}"), "--", &group]).stderr(Stdio::null()).status();
}

/// The pages of a folder of the workspace, by name.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn read(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let pages = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_text_and_for_lines_and_nothing_else_is_forgiven() {
        let expected = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(matches(&expected("a … c\nd"), &["a bb c", "d"], true));
        assert!(!matches(&expected("a … c"), &["a bb d"], true));
        assert!(matches(&expected("a\n…\nz"), &["a", "b", "c", "z"], true));
        assert!(!matches(&expected("a\n…\nz"), &["a", "b"], true));
        assert!(!matches(&expected("a"), &["a", "b"], true), "more than is expected");
        assert!(matches(&expected("a"), &["a", "b"], false), "so far");
        assert!(!matches(&expected(""), &["a"], true));
    }

    #[test]
    fn a_page_is_read_as_terminals_commands_and_what_they_print() {
        let page = "*Second terminal:*\n```console two\n$ run\nsays\n^C\nended\n```\n```sh\n$ not\n```\n```console\n$ a\n```\n";
        let told: Vec<(String, Option<String>, usize)> =
            steps(page).into_iter().map(|step| (step.terminal, step.command, step.expected.len())).collect();
        let two = "two".to_owned();
        assert_eq!(
            told,
            [(two.clone(), Some("run".to_owned()), 1), (two, None, 1), (String::new(), Some("a".to_owned()), 0)]
        );
    }
}
