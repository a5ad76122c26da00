//! Takes old edits out of the table, from the front of each partition.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use service::Failure;
use sink::prune::{Prune, Pruned, Stored};

use crate::dlq::Destination;
use crate::gaps::time;
use crate::out::{confirm, line};

/// Rows that one transaction deletes at most: the sinks wait for it.
const AT_ONCE: i64 = 5_000;

/// What `wiki prune` is given.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Delete edits that were received before this: an age such as 90d or 36h, or a time such as 2026-07-01T12:00:00Z.
    #[arg(long, value_name = "AGE|TIME", value_parser = before)]
    before: Timestamp,
    /// Without the question.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    destination: Destination,
}

fn before(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let age = text.parse::<Span>().ok().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let age = age.filter(|age| *age > SignedDuration::ZERO);
    age.and_then(|age| Timestamp::now().checked_sub(age).ok())
        .ok_or_else(|| "give an age such as 90d or 36h, or a time such as 2026-07-01T12:00:00Z".to_owned())
}

/// Runs `wiki prune`.
pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let before_ms = arguments.before.as_millisecond();
    if before_ms > Timestamp::now().as_millisecond() {
        return Err(Failure::Usage(
            "a time in the future would delete everything: give --before an earlier one".to_owned(),
        ));
    }
    let before = time(before_ms);
    confirm(&format!("delete every edit that was received before {before}"), "prune", arguments.yes)?;
    let mut table = arguments.destination.open()?;
    let failed = |error: sink::error::WriteError| Failure::Runtime(error.to_string());
    let mut total = 0;
    for of in table.stored().map_err(failed)? {
        let rows = partition(table.as_mut(), of, before_ms).map_err(failed)?;
        if rows > 0 {
            line(format!("partition {}: {rows} edits deleted", of.partition));
        }
        total += rows;
    }
    line(format!("{total} edits that were received before {before} are deleted"));
    Ok(())
}

fn partition(table: &mut (impl Prune + ?Sized), of: Stored, before_ms: i64) -> Result<u64, sink::error::WriteError> {
    let mut total = 0;
    loop {
        let Pruned { rows, has_more } = table.prune(of, before_ms, AT_ONCE)?;
        total += rows;
        if !has_more {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_or_a_time_is_taken_and_nothing_else() {
        let now = Timestamp::now().as_millisecond();
        let age = |text: &str| before(text).map(|time| (now - time.as_millisecond() + 30_000) / 60_000);
        assert_eq!(age("36h"), Ok(36 * 60));
        assert_eq!(age("90d"), Ok(90 * 24 * 60));
        assert_eq!(before("2026-07-01T12:00:00Z").map(|time| time.as_millisecond()), Ok(1_782_907_200_000));
        for text in ["", "yesterday", "-3d", "0s", "12"] {
            assert!(before(text).is_err(), "{text}");
        }
    }
}
