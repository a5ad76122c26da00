//! A hole in the topic, repaired from the raw one through the same pure mapping. The topic itself stays as it is.

use kafka::{Error, Tail};
use schema::Mapping;
use schema::record::RawHeaders;

use crate::batch::{Fate, Hole, Row};

/// A stretch of the raw topic that holds what is missing.
#[derive(Clone, Debug)]
pub struct Stretch<'a> {
    /// The raw topic.
    pub topic: &'a str,
    /// The partition: the same number in both topics.
    pub partition: i32,
    /// Raw offset behind the last record stored.
    pub from: i64,
    /// Raw offset of the first record behind the hole.
    pub until: i64,
    /// Offset that the filled rows stand for: just before the record behind the hole.
    pub offset: i64,
}

/// Rows that are filled at once: a longer hole is filled in steps, so that none is held in memory as a whole.
const STEP: usize = 10_000;

/// The missing rows, the first of them where there are many; `None` where the raw topic does not hold exactly as many
/// as are missing.
///
/// # Errors
/// [`Error::Doubt`] where the cluster does not answer.
pub fn rows(tail: &Tail, mapping: &Mapping, stretch: &Stretch<'_>, hole: Hole) -> Result<Option<Vec<Row>>, Error> {
    // What retention took of the raw topic too shows in the count.
    let from = stretch.from.max(tail.bounds(stretch.topic, stretch.partition)?.start);
    let mut rows = Vec::new();
    let mut count = 0_usize;
    tail.scan_between(stretch.topic, stretch.partition, from, stretch.until, |record| {
        let Ok(headers) = RawHeaders::read(record) else { return };
        // What the enricher set aside or skipped has no place in the sequence.
        let Ok(Some(edit)) = mapping.enrich(record.value()) else { return };
        count += 1;
        if rows.len() == STEP {
            return;
        }
        let value = edit.to_json();
        let fate = match schema::Edit::from_json(&value) {
            Ok(edit) => Fate::Store(Box::new(edit.into_owned())),
            Err(rejection) => Fate::Reject(rejection, value.clone()),
        };
        let seq = hole.expected + i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let (raw_offset, received_at_ms) = (record.offset(), headers.received_at_ms);
        rows.push(Row { seq, offset: stretch.offset, raw_offset, received_at_ms, is_base: false, fate });
    })?;
    let missing = usize::try_from(hole.found - hole.expected).unwrap_or(0);
    Ok((count == missing).then_some(rows))
}
