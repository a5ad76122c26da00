//! Cuts the stream's bytes into whole events of bounded size, before anything parses them. Pure.
//!
//! The SSE parser behind it holds an endless line in memory, fails on bytes that are not UTF-8, and ends a
//! connection at a block without fields: each of these would come again after every reconnect, for ever. So only
//! whole events with data pass, each line `event`, `id` or `data`; what cannot be an event passes as a quotation
//! of itself, to be set aside.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest event that is held.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// What is kept of a longer one.
pub const HEAD_BYTES: usize = 64 << 10;
/// Bytes without an event's end, at which the connection is cut.
pub const MAX_ENDLESS_BYTES: u64 = 16 << 20;
/// The event type of a quotation. No stream has it: event types are one word there.
pub const QUOTED_EVENT: &str = "wiki quoted";

/// What an event was that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// Longer than [`MAX_EVENT_BYTES`]; else not UTF-8.
    pub oversized: bool,
    /// Length of the whole block in bytes.
    pub length: u64,
    /// SHA-256 of the whole block, in hexadecimal.
    pub sha256: String,
    /// Its first [`HEAD_BYTES`], in hexadecimal.
    head: String,
}

impl Quoted {
    /// Reads the data of a quotation.
    #[must_use]
    pub fn parse(data: &str) -> Option<Self> {
        serde_json::from_str(data).ok()
    }

    /// The first bytes of the block.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let (pairs, _) = self.head.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
    }
}

/// More than [`MAX_ENDLESS_BYTES`] came without an event's end: cut the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// Collects one event at a time.
#[derive(Debug, Default)]
pub struct Gate {
    block: Vec<u8>,
    /// Length of the block so far; more than is held once it is oversized.
    length: u64,
    hash: Option<Sha256>,
    line_is_empty: bool,
    last_was_cr: bool,
}

impl Gate {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { line_is_empty: true, ..Self::default() }
    }

    /// Takes the next bytes, cut anywhere, and appends the events that are whole now to `out`.
    ///
    /// # Errors
    /// [`Endless`] where no event ends; what was whole before is in `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Endless> {
        let mut rest = bytes;
        while let Some(at) = memchr_line_end(rest) {
            let (line, behind) = rest.split_at(at);
            let end = behind.first().copied().unwrap_or(b'\n');
            rest = behind.get(1..).unwrap_or_default();
            self.hold(line);
            if !line.is_empty() {
                self.line_is_empty = false;
                self.last_was_cr = false;
            }
            if end == b'\n' && self.last_was_cr {
                // The second half of a CRLF: the line ended already.
                self.last_was_cr = false;
                continue;
            }
            self.last_was_cr = end == b'\r';
            self.hold(b"\n");
            if self.line_is_empty {
                self.finish(out);
            }
            self.line_is_empty = true;
        }
        if !rest.is_empty() {
            self.hold(rest);
            self.line_is_empty = false;
            self.last_was_cr = false;
        }
        if self.length > MAX_ENDLESS_BYTES { Err(Endless) } else { Ok(()) }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
            return;
        }
        self.block.extend_from_slice(bytes);
        if self.block.len() > MAX_EVENT_BYTES {
            let mut hash = Sha256::new();
            hash.update(&self.block);
            self.hash = Some(hash);
            self.block.truncate(HEAD_BYTES);
            self.block.shrink_to_fit();
        }
    }

    /// The block is whole: pass it on, quote it, or drop it where it has no data.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let block = std::mem::take(&mut self.block);
        let length = std::mem::take(&mut self.length);
        match self.hash.take() {
            Some(hash) => quote(out, &block, true, length, hash),
            None if std::str::from_utf8(&block).is_err() => {
                let mut hash = Sha256::new();
                hash.update(&block);
                quote(out, &block, false, length, hash);
            }
            None => pass(out, &block),
        }
    }
}

fn memchr_line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The fields that matter, if there is data among them.
fn pass(out: &mut Vec<u8>, block: &[u8]) {
    let lines = || block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if !lines().any(|line| is_field(line, b"data")) {
        return;
    }
    for line in lines() {
        if is_field(line, b"data") || is_field(line, b"id") || is_field(line, b"event") {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b':'))
}

fn quote(out: &mut Vec<u8>, block: &[u8], oversized: bool, length: u64, hash: Sha256) {
    let head = block.get(..HEAD_BYTES.min(block.len())).unwrap_or_default();
    let quoted = Quoted { oversized, length, sha256: hex(&hash.finalize()), head: hex(head) };
    out.extend_from_slice(format!("event: {QUOTED_EVENT}\n").as_bytes());
    // The id stands before the data: without it the position could not pass this event.
    let id = head.split(|byte| *byte == b'\n').find(|line| is_field(line, b"id"));
    if let Some(id) = id.filter(|id| std::str::from_utf8(id).is_ok()) {
        out.extend_from_slice(id);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    // Strings and numbers only: this cannot fail.
    out.extend(serde_json::to_vec(&quoted).unwrap_or_default());
    out.extend_from_slice(b"\n\n");
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pieces: &[&[u8]]) -> String {
        let (mut gate, mut out) = (Gate::new(), Vec::new());
        for piece in pieces {
            gate.push(piece, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_whole_events_with_data_pass() {
        let stream = b":ok\n\nevent: message\nid: 1\ndata: {\"a\":1}\n\nfoo: bar\n\nretry: 5\n\ndata: cut";
        assert_eq!(through(&[stream]), "event: message\nid: 1\ndata: {\"a\":1}\n\n");
    }

    #[test]
    fn every_line_end_of_the_standard_ends_lines() {
        let expected = "id: 1\ndata: x\n\ndata: y\n\n";
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["id: 1", "data: x", "", "data: y", "", ""].join(end);
            assert_eq!(through(&[stream.as_bytes()]), expected, "{end:?}");
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(through(&bytes), expected, "{end:?} byte by byte");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_quoted_with_their_id() {
        let out = through(&[b"id: 7\ndata: \xff\xfe\n\ndata: good\n\n"]);
        let (quoted, rest) = out.split_once("\n\n").unwrap();
        assert!(quoted.starts_with("event: wiki quoted\nid: 7\ndata: {"), "{quoted}");
        let quoted = Quoted::parse(quoted.split_once("data: ").unwrap().1).unwrap();
        assert!(!quoted.oversized);
        assert_eq!(quoted.head(), b"id: 7\ndata: \xff\xfe\n\n");
        assert_eq!(rest, "data: good\n\n");
    }

    #[test]
    fn an_oversized_event_is_skipped_to_its_end_inside_the_connection() {
        let mut stream = b"id: 9\ndata: ".to_vec();
        stream.extend(std::iter::repeat_n(b'x', 3 << 20));
        stream.extend_from_slice(b"\n\ndata: next\n\n");
        let mut out = Vec::new();
        let mut gate = Gate::new();
        for piece in stream.chunks(1000) {
            gate.push(piece, &mut out).unwrap();
            assert!(gate.block.capacity() <= 2 * MAX_EVENT_BYTES + 2000);
        }
        let out = String::from_utf8(out).unwrap();
        let (quoted, rest) = out.split_once("\n\n").unwrap();
        let quoted = Quoted::parse(quoted.split_once("data: ").unwrap().1).unwrap();
        assert!(quoted.oversized);
        assert_eq!((quoted.length, quoted.head().len()), ((3 << 20) + 14, HEAD_BYTES));
        assert_eq!(rest, "data: next\n\n");
    }

    #[test]
    fn an_event_without_end_cuts_the_connection() {
        let (mut gate, mut out) = (Gate::new(), Vec::new());
        let piece = vec![b'x'; 1 << 20];
        let cut = (0..17).position(|_| gate.push(&piece, &mut out).is_err());
        assert_eq!(cut, Some(16));
        assert!(gate.block.len() <= MAX_EVENT_BYTES);
    }

    proptest::proptest! {
        #[test]
        fn any_split_gives_the_same_events(stream in "([a-c:\r\n ]|data: .|id: é|\n\n){0,60}", cuts in proptest::collection::vec(0_usize..200, 0..8)) {
            let whole = through(&[stream.as_bytes()]);
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            proptest::prop_assert_eq!(through(&pieces), whole);
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let mut out = Vec::new();
            let _ = Gate::new().push(&bytes, &mut out);
            proptest::prop_assert!(std::str::from_utf8(&out).is_ok());
        }
    }
}
