//! Record headers, and the partition of a key.
//!
//! The position travels inside the record: whoever takes a partition over reads its last committed record
//! and knows where to go on. Numbers are decimal text, so that a console consumer can read them.

use std::borrow::Cow;
use std::str::FromStr;

use crate::rejection::{Reason, Rejection};

/// `meta.id`: the CloudEvents id, and the key of deduplication.
pub const CE_ID: &str = "ce_id";
/// Place in the dense sequence of its partition.
pub const SEQ: &str = "seq";
/// The SSE id as received.
pub const SSE_ID: &str = "sse-id";
/// When ingest read the event, Unix milliseconds.
pub const RECEIVED_AT: &str = "received-at";
/// Present where the record was fetched after the fact.
pub const BACKFILL: &str = "backfill";
/// Offset of the raw record that this one was made from.
pub const RAW_OFFSET: &str = "raw-offset";
/// `seq` of that raw record.
pub const RAW_SEQ: &str = "raw-seq";

/// Present where a sequence continues behind a log that was emptied: why. A jump before such a record is a loss that is
/// named, not a hole to be waited at.
pub const SEQ_BASE: &str = "seq-base";

/// Header of an enriched record: [`MAPPING_VERSION`], where that is not 1.
pub const MAPPING: &str = "mapping";
/// The log held no record any more; its sequence continues where it was.
const EMPTIED: &str = "the log was emptied";
/// The end of the sequence is not known: it continues at the log's end.
const UNKNOWN: &str = "the log was emptied, and nothing told where its sequence ended";

/// What a record says that is the first behind a log that was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqBase {
    /// The sequence continues where it was: a jump before it is exactly what was deleted unread.
    Emptied,
    /// The sequence continues at the log's end: a jump before it is at least as long as what was deleted unread.
    Unknown,
}

impl SeqBase {
    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emptied => EMPTIED,
            Self::Unknown => UNKNOWN,
        }
    }

    /// What a record says.
    pub fn of(source: &impl HeaderSource) -> Option<Self> {
        source.header(SEQ_BASE).map(Self::read)
    }

    fn read(value: &[u8]) -> Self {
        if value == UNKNOWN.as_bytes() { Self::Unknown } else { Self::Emptied }
    }
}

/// No offset, no place in a sequence and no time reaches this: a larger number was not written by this pipeline.
pub const MOST_COUNTED: i64 = 1 << 62;

/// Whether a number counts up from 0, and can be counted on from.
#[must_use]
pub const fn is_counted(number: i64) -> bool {
    0 <= number && number <= MOST_COUNTED
}

/// A header, ready to be produced.
pub type Header = (&'static str, String);

/// What ingest writes beside an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHeaders<'a> {
    /// `meta.id` or the content id.
    pub id: Cow<'a, str>,
    /// Dense sequence of the raw partition.
    pub seq: i64,
    /// The SSE id as received.
    pub sse_id: Cow<'a, str>,
    /// Unix milliseconds.
    pub received_at_ms: i64,
    /// Fetched after the fact.
    pub backfill: bool,
    /// The first record behind a log that was emptied.
    pub base: Option<SeqBase>,
}

/// What the enricher writes beside an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHeaders<'a> {
    /// `meta.id` or the content id.
    pub id: Cow<'a, str>,
    /// Dense sequence of this partition.
    pub seq: i64,
    /// Offset of the input.
    pub raw_offset: i64,
    /// `seq` of the input.
    pub raw_seq: i64,
    /// Unix milliseconds.
    pub received_at_ms: i64,
    /// The first record behind a log that was emptied.
    pub base: Option<SeqBase>,
    /// [`MAPPING_VERSION`] of the enricher that wrote it.
    pub mapping: u32,
}

/// The version of the mapping from raw to enriched edits: it rises when the same raw record gives another edit.
///
/// A record says it where it is not 1, in the header `mapping`. A sink repairs a hole only between records of its own
/// version: during a rolling upgrade the missing edits may be of the other one.
pub const MAPPING_VERSION: u32 = 1;

/// Gives the headers of a record by name; an absent header and a null one are the same.
pub trait HeaderSource {
    /// The bytes of the first header of this name.
    fn header(&self, name: &str) -> Option<&[u8]>;

    /// The same of several names.
    fn headers_named<const N: usize>(&self, names: [&str; N]) -> [Option<&[u8]>; N] {
        names.map(|name| self.header(name))
    }
}

impl<'a> RawHeaders<'a> {
    /// The headers as they are produced, CloudEvents attributes in binary mode among them.
    #[must_use]
    pub fn to_headers(&self, domain: &str, stream: &str, change_type: &str, dt: &str) -> Vec<Header> {
        let mut headers = vec![
            (CE_ID, self.id.to_string()),
            (SEQ, self.seq.to_string()),
            (SSE_ID, self.sse_id.to_string()),
            (RECEIVED_AT, self.received_at_ms.to_string()),
            ("ce_specversion", "1.0".to_owned()),
            ("ce_source", format!("//{domain}")),
            ("ce_type", format!("{stream}.{change_type}")),
            ("content-type", "application/json".to_owned()),
        ];
        if !dt.is_empty() {
            headers.push(("ce_time", dt.to_owned()));
        }
        if self.backfill {
            headers.push((BACKFILL, "true".to_owned()));
        }
        if let Some(base) = self.base {
            headers.push((SEQ_BASE, base.as_str().to_owned()));
        }
        headers
    }

    /// Reads the headers of a raw record.
    ///
    /// # Errors
    /// [`Reason::BadHeader`] where one is missing or malformed.
    pub fn read(source: &'a impl HeaderSource) -> Result<Self, Rejection> {
        let names = [CE_ID, SEQ, SSE_ID, RECEIVED_AT, BACKFILL, SEQ_BASE];
        let [id, seq, sse_id, received_at, backfill, base] = source.headers_named(names);
        Ok(Self {
            id: text(CE_ID, id)?.into(),
            seq: counted(SEQ, seq)?,
            sse_id: text(SSE_ID, sse_id)?.into(),
            received_at_ms: counted(RECEIVED_AT, received_at)?,
            backfill: backfill.is_some(),
            base: base.map(SeqBase::read),
        })
    }
}

impl<'a> EventHeaders<'a> {
    /// Whether the enricher wrote this record: others may write to the topic too.
    pub fn is_on(record: &impl HeaderSource) -> bool {
        EventHeaders::read(record).is_ok()
    }

    /// Hands over the headers as they are produced; nothing is allocated for them.
    pub fn with_headers<T>(&self, produce: impl FnOnce(&[(&str, Option<&[u8]>)]) -> T) -> T {
        let mut numbers = [itoa::Buffer::new(); 5];
        let [seq, raw_offset, raw_seq, received_at, mapping] = &mut numbers;
        let optional = [
            self.base.map(|base| (SEQ_BASE, base.as_str().as_bytes())),
            (self.mapping != 1).then(|| (MAPPING, mapping.format(self.mapping).as_bytes())),
        ];
        let mut headers = [
            (CE_ID, Some(self.id.as_bytes())),
            (SEQ, Some(seq.format(self.seq).as_bytes())),
            (RAW_OFFSET, Some(raw_offset.format(self.raw_offset).as_bytes())),
            (RAW_SEQ, Some(raw_seq.format(self.raw_seq).as_bytes())),
            (RECEIVED_AT, Some(received_at.format(self.received_at_ms).as_bytes())),
            (SEQ_BASE, None),
            (MAPPING, None),
        ];
        let mut count = headers.len() - optional.len();
        for (name, value) in optional.into_iter().flatten() {
            if let Some(header) = headers.get_mut(count) {
                *header = (name, Some(value));
                count += 1;
            }
        }
        produce(headers.get(..count).unwrap_or_default())
    }

    /// Reads the headers of an enriched record.
    ///
    /// # Errors
    /// [`Reason::BadHeader`] where one is missing or malformed.
    pub fn read(source: &'a impl HeaderSource) -> Result<Self, Rejection> {
        let names = [CE_ID, SEQ, RAW_OFFSET, RAW_SEQ, RECEIVED_AT, SEQ_BASE, MAPPING];
        let [id, seq, raw_offset, raw_seq, received_at, base, mapping] = source.headers_named(names);
        Ok(Self {
            id: text(CE_ID, id)?.into(),
            seq: counted(SEQ, seq)?,
            raw_offset: counted(RAW_OFFSET, raw_offset)?,
            raw_seq: counted(RAW_SEQ, raw_seq)?,
            received_at_ms: counted(RECEIVED_AT, received_at)?,
            base: base.map(SeqBase::read),
            mapping: if mapping.is_some() { number(MAPPING, mapping)? } else { 1 },
        })
    }
}

fn text<'a>(name: &str, value: Option<&'a [u8]>) -> Result<&'a str, Rejection> {
    let bytes = value.ok_or_else(|| Rejection::new(Reason::BadHeader, format!("header {name} is missing")))?;
    std::str::from_utf8(bytes).map_err(|_| Rejection::new(Reason::BadHeader, format!("header {name} is not UTF-8")))
}

/// A number that counts up from 0: an offset, a place in a sequence, a time.
fn counted(name: &str, value: Option<&[u8]>) -> Result<i64, Rejection> {
    let value = number(name, value)?;
    if is_counted(value) {
        return Ok(value);
    }
    Err(Rejection::new(Reason::BadHeader, format!("header {name} is out of range")))
}

fn number<T: FromStr>(name: &str, value: Option<&[u8]>) -> Result<T, Rejection> {
    text(name, value)?.parse().map_err(|_| Rejection::new(Reason::BadHeader, format!("header {name} is not a number")))
}

/// The partition of a key: Kafka's default partitioner (murmur2, sign cleared, modulo).
///
/// Computed here and never left to a client: two clients with different defaults would put one page into two
/// partitions. Answers 0 for a topic without partitions.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive).ok().and_then(|hash| hash.checked_rem(partitions)).unwrap_or(0)
}

/// Murmur2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (index, &byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Headers(Vec<Header>);

    impl HeaderSource for Headers {
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.0.iter().find(|header| header.0 == name).map(|header| header.1.as_bytes())
        }
    }

    #[test]
    fn murmur2_agrees_with_kafkas_own_test_values() {
        // org.apache.kafka.common.utils.UtilsTest, testMurmur2.
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_partition_is_within_its_topic() {
        for key in ["enwiki:Rust", "", "ruwiki:Обсуждение"] {
            assert!((0..6).contains(&partition_of(key.as_bytes(), 6)));
        }
        assert_eq!(partition_of(b"x", 0), 0);
    }

    #[test]
    fn headers_come_back_as_they_went() {
        let raw = RawHeaders {
            id: "e".into(),
            seq: 1 << 40,
            sse_id: "[]".into(),
            received_at_ms: 9,
            backfill: true,
            base: Some(SeqBase::Emptied),
        };
        let headers = Headers(raw.to_headers("en.wikipedia.org", "mediawiki.recentchange", "edit", "t"));
        assert_eq!(RawHeaders::read(&headers).unwrap(), raw);
        let event = EventHeaders {
            id: "e".into(),
            seq: 2,
            raw_offset: 7,
            raw_seq: 3,
            received_at_ms: 9,
            base: None,
            mapping: 1,
        };
        for (base, mapping, names) in [
            (None, 1, vec![]),
            (Some(SeqBase::Unknown), 1, vec![SEQ_BASE]),
            (None, 2, vec![MAPPING]),
            (Some(SeqBase::Emptied), 12, vec![SEQ_BASE, MAPPING]),
        ] {
            let event = EventHeaders { base, mapping, ..event.clone() };
            let headers = event.with_headers(|headers| {
                let text = |value: &Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
                let names = [CE_ID, SEQ, RAW_OFFSET, RAW_SEQ, RECEIVED_AT].into_iter().chain(names);
                let written: Vec<&str> = headers.iter().map(|header| header.0).collect();
                assert_eq!(written, names.clone().collect::<Vec<_>>());
                Headers(names.zip(headers).map(|(name, header)| (name, text(&header.1))).collect())
            });
            assert_eq!(EventHeaders::read(&headers).unwrap(), event);
        }
    }

    #[test]
    fn a_missing_or_malformed_header_is_named() {
        let error = RawHeaders::read(&Headers(vec![(CE_ID, "e".into())])).unwrap_err();
        assert_eq!(error.detail, "header seq is missing");
        let error = RawHeaders::read(&Headers(vec![(CE_ID, "e".into()), (SEQ, "x".into())])).unwrap_err();
        assert_eq!(error.detail, "header seq is not a number");
    }
}
