//! Standard output: data, a line at a time.

use std::fmt::Display;
use std::io::Write as _;
use std::process;

/// Writes a line. Where nobody reads any more the process ends quietly, as others do on a broken pipe.
pub(crate) fn line(text: impl Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        process::exit(0);
    }
}
