//! Standard output: data, a line at a time. And a question where something cannot be undone.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process;

use service::Failure;

/// Writes a line. Where nobody reads any more the process ends quietly, as others do on a broken pipe.
pub(crate) fn line(text: impl Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        process::exit(0);
    }
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
