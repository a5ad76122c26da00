//! Standard output: data, a line at a time. And a question where something cannot be undone.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process;

use service::Failure;
use service::text::{cut, visible, visible_lines};

/// Characters of a record on a terminal.
const MOST_CHARS: usize = 4_096;

/// Writes lines for people or for programs: what steers a terminal is made visible. JSON stays JSON.
///
/// If the reader has gone, the process ends quietly, as others do on a broken pipe; where it cannot be written
/// otherwise, with a sentence.
pub(crate) fn line(text: impl Display) {
    write(&visible_lines(&text.to_string()));
}

/// Says something beside the data, in one piece: another process may say something on the same terminal.
pub(crate) fn say(text: impl Display) {
    // There is no place left to report it.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A record as it stands in the topic: raw into a pipe or a file, visible and bounded on a terminal.
pub(crate) fn record(text: &str) -> Cow<'_, str> {
    if !std::io::stdout().is_terminal() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(cut(&visible(text), MOST_CHARS).into_owned())
}

/// Standard output is full, or gone.
pub(crate) fn unwritable(error: &std::io::Error) -> Failure {
    Failure::Runtime(format!("standard output cannot be written: {error}"))
}

fn write(text: &str) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    eprintln!("wiki: {}", unwritable(&error));
    process::exit(1);
}

/// Makes requests to a URL; to this machine not through a proxy of the environment.
pub(crate) fn client(url: &str) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    if service::local::is_local(url) { builder.no_proxy() } else { builder }
}

/// Asks on a terminal for `name` to be typed, unless `yes` was given; `deed` is what happens then, such as "delete t".
pub(crate) fn confirm(deed: &str, name: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("nobody can be asked here: --yes is needed to {deed}")));
    }
    eprint!("This will {deed}. Type {name} to go on: ");
    let mut typed = String::new();
    let read = std::io::stdin().read_line(&mut typed);
    if read.is_err() || typed.trim() != name {
        return Err(Failure::Runtime(format!("{name} stays as it is")));
    }
    Ok(())
}
