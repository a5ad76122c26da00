//! Values of options, and text on its way to a terminal.

use std::cell::RefCell;

use clap::{Args, Command};
use service::text;

/// A line is an option and its value, for the services that read it; and any text is made visible.
///
/// # Panics
/// Where a line is shown that steers a terminal, or an error does.
pub fn option(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    let (flag, value) = line.split_once('\n').unwrap_or((line, ""));
    LINES.with_borrow_mut(|lines| {
        parse::<ingest::Config>(&mut lines.ingest, flag, value);
        parse::<sink::Config>(&mut lines.sink, flag, value);
        parse::<enricher::Config>(&mut lines.enricher, flag, value);
        parse::<simulator::Config>(&mut lines.simulator, flag, value);
    });
    for shown in [text::visible(line), text::cut(&text::visible(line), 300)] {
        assert!(!shown.chars().any(text::is_hidden), "{shown}");
    }
    let shown = text::visible_json(line);
    assert!(!shown.chars().any(|c| matches!(c, '\u{7f}'..='\u{9f}' | '\u{202e}' | '\u{2028}')), "{shown}");
    let _ = text::shown_url(line);
}

/// The services' command lines, which cost much to make.
struct Lines {
    ingest: Command,
    sink: Command,
    enricher: Command,
    simulator: Command,
}

thread_local! {
    static LINES: RefCell<Lines> = RefCell::new(Lines {
        ingest: line_of::<ingest::Config>(),
        sink: line_of::<sink::Config>(),
        enricher: line_of::<enricher::Config>(),
        simulator: line_of::<simulator::Config>(),
    });
}

fn line_of<C: Args>() -> Command {
    C::augment_args(Command::new("service").disable_help_flag(true))
}

fn parse<C: Args>(command: &mut Command, flag: &str, value: &str) {
    let read = command.try_get_matches_from_mut(["service", flag, value]);
    if let Err(error) = read.and_then(|matches| C::from_arg_matches(&matches)) {
        let _ = service::config::explain(&error);
    }
}
