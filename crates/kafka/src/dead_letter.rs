//! Headers of a dead letter: Kafka Connect's names, which every Kafka tool knows.

use schema::event::hash_id;
use schema::{Reason, Rejection};
use sha2::{Digest as _, Sha256};

/// Bytes of the original's value, of its key, and of its headers together, at most: a dead letter can always be written.
pub const MAX_BYTES: usize = 64 << 10;

/// Where a dead letter comes from.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Topic, or the stream's name for what never was a record.
    pub topic: &'a str,
    /// Partition; −1 for what never was a record.
    pub partition: i32,
    /// Offset; −1 for what never was a record.
    pub offset: i64,
    /// The service that set it aside.
    pub service: &'a str,
    /// Which step could not read it.
    pub stage: &'a str,
}

/// The headers that say where a dead letter comes from and why; the original's own are kept beside them.
#[must_use]
pub fn headers(origin: &Origin<'_>, rejection: &Rejection) -> Vec<(&'static str, String)> {
    let Origin { topic, partition, offset, service, stage } = origin;
    vec![
        ("__connect.errors.topic", (*topic).to_owned()),
        ("__connect.errors.partition", partition.to_string()),
        ("__connect.errors.offset", offset.to_string()),
        ("__connect.errors.connector.name", (*service).to_owned()),
        ("__connect.errors.stage", (*stage).to_owned()),
        (REASON, rejection.reason.as_str().to_owned()),
        ("__connect.errors.exception.message", rejection.detail.clone()),
    ]
}

/// The header with the closed reason.
pub const REASON: &str = "__connect.errors.exception.class.name";

/// Every reason, as label values.
#[must_use]
pub fn reasons() -> [&'static str; Reason::ALL.len()] {
    Reason::ALL.map(Reason::as_str)
}

/// What a dead letter holds of a record: all of it, or the beginnings of what is longer than [`MAX_BYTES`].
#[derive(Debug)]
pub struct Quotation<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The record's own headers, then those that say what was cut.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// What was cut off, for headers that a [`Quotation`] borrows.
#[must_use]
pub fn cuts(key: &[u8], value: &[u8]) -> Vec<(&'static str, String)> {
    let mut cuts = Vec::new();
    if value.len() > MAX_BYTES {
        cuts.push(("__connect.errors.value.length", value.len().to_string()));
        cuts.push(("__connect.errors.value.id", hash_id(&Sha256::digest(value))));
    }
    if key.len() > MAX_BYTES {
        cuts.push(("__connect.errors.key.length", key.len().to_string()));
    }
    cuts
}

/// Quotes a record. Headers that do not fit any more are left out.
#[must_use]
pub fn quote<'a>(
    key: &'a [u8],
    value: &'a [u8],
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    cuts: &'a [(&'static str, String)],
) -> Quotation<'a> {
    let mut left = MAX_BYTES;
    let mut kept = Vec::new();
    for (name, bytes) in headers {
        let length = name.len() + bytes.map_or(0, <[u8]>::len);
        if length <= left {
            left -= length;
            kept.push((name, bytes));
        }
    }
    kept.extend(cuts.iter().map(|(name, text)| (*name, Some(text.as_bytes()))));
    Quotation { key: head(key), value: head(value), headers: kept }
}

fn head(bytes: &[u8]) -> &[u8] {
    bytes.get(..MAX_BYTES).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_quoted_whole_where_it_is_short_and_by_its_beginning_where_not() {
        let long = vec![b'x'; 9 << 20];
        let cuts = cuts(b"k", &long);
        let own = [("a", Some(b"1".as_slice())), ("big", Some(long.as_slice())), ("b", None)];
        let quoted = quote(b"k", &long, own.into_iter(), &cuts);
        assert_eq!((quoted.key, quoted.value.len()), (b"k".as_slice(), MAX_BYTES));
        let names: Vec<&str> = quoted.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["a", "b", "__connect.errors.value.length", "__connect.errors.value.id"]);
        assert!(super::cuts(b"k", b"v").is_empty());
    }
}
