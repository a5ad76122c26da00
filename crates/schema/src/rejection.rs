//! Why something cannot be read: a closed set of reasons, each with a sentence for people.

use std::fmt;

/// The longest nesting of JSON that is read, counted in open brackets.
pub const MAX_DEPTH: usize = 128;

/// The longest detail of a rejection, in bytes.
const MAX_DETAIL_BYTES: usize = 1024;

/// The longest texts of an event, in bytes: names of Kafka topics and of MediaWiki's tables, with room.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest title or user name.
pub const MAX_TITLE_BYTES: usize = 2_048;

/// Refuses a text that is longer than its field may be.
///
/// # Errors
/// [`Reason::WrongShape`] naming the field.
pub fn bounded(field: &str, text: &str, most: usize) -> Result<(), Rejection> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Rejection::new(Reason::WrongShape, format!("`{field}` has {} bytes, of {most} at most", text.len())))
}

/// Why bytes were set aside. A closed set: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// The text is not JSON, lone surrogates included.
    InvalidJson,
    /// JSON nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// JSON of another shape: a wrong type, a missing field, a key given twice.
    WrongShape,
    /// An event longer than the reader holds.
    Oversized,
    /// A text with U+0000, which PostgreSQL cannot store.
    NulInText,
    /// The record lacks a header that carries its position, or the header is malformed.
    BadHeader,
    /// The id is in the table already.
    DuplicateId,
    /// The destination refused the row.
    RefusedByWriter,
}

impl Reason {
    /// Every reason, for metrics that start at 0.
    pub const ALL: [Self; 9] = [
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::TooDeep,
        Self::WrongShape,
        Self::Oversized,
        Self::NulInText,
        Self::BadHeader,
        Self::DuplicateId,
        Self::RefusedByWriter,
    ];

    /// The reason as it stands in headers, labels and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::TooDeep => "too_deep",
            Self::WrongShape => "wrong_shape",
            Self::Oversized => "oversized",
            Self::NulInText => "nul_in_text",
            Self::BadHeader => "bad_header",
            Self::DuplicateId => "duplicate_id",
            Self::RefusedByWriter => "refused_by_writer",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason and what exactly was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// The closed reason.
    pub reason: Reason,
    /// A sentence for people, at most 1 KiB.
    pub detail: String,
}

impl Rejection {
    /// Makes a rejection; a longer detail is cut at a character's end.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
        detail.truncate(end);
        Self { reason, detail }
    }
}

/// Parses JSON of a bounded depth into `T`.
///
/// # Errors
/// [`Reason::InvalidUtf8`], [`Reason::TooDeep`], [`Reason::InvalidJson`] or [`Reason::WrongShape`].
pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Rejection> {
    let text = std::str::from_utf8(bytes).map_err(|error| Rejection::new(Reason::InvalidUtf8, error.to_string()))?;
    if is_deeper_than(text.as_bytes(), MAX_DEPTH) {
        let detail = format!("nested deeper than {MAX_DEPTH} levels");
        return Err(Rejection::new(Reason::TooDeep, detail));
    }
    serde_json::from_str(text).map_err(|error| {
        let reason = match error.classify() {
            serde_json::error::Category::Data => Reason::WrongShape,
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => Reason::InvalidJson,
        };
        Rejection::new(reason, error.to_string())
    })
}

/// Whether brackets outside strings nest deeper than `limit`.
///
/// Fields that nobody reads are skipped by the parser without a bound, so the bound stands here. Real
/// events have about ten brackets: for them this is one search.
fn is_deeper_than(json: &[u8], limit: usize) -> bool {
    if memchr::memchr2_iter(b'{', b'[', json).nth(limit).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_inside_strings_are_not_depth() {
        let flat = format!("{{\"comment\":\"{}\"}}", "[".repeat(500));
        assert!(!is_deeper_than(flat.as_bytes(), MAX_DEPTH));
        let wide = format!("[{}]", vec!["{}"; 500].join(","));
        assert!(!is_deeper_than(wide.as_bytes(), MAX_DEPTH));
        let escaped = format!("{{\"a\":\"\\\"{}\"}}", "{".repeat(500));
        assert!(!is_deeper_than(escaped.as_bytes(), MAX_DEPTH));
    }

    #[test]
    fn a_hundred_thousand_brackets_are_too_deep() {
        assert!(is_deeper_than("[".repeat(100_000).as_bytes(), MAX_DEPTH));
    }

    #[test]
    fn a_detail_is_cut_between_characters() {
        let rejection = Rejection::new(Reason::InvalidJson, "я".repeat(1000));
        assert_eq!(rejection.detail.len(), 1024);
    }
}
