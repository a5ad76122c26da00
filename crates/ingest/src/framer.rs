//! Cuts the stream's bytes into whole events of bounded size, before anything parses them. Pure.
//!
//! The SSE parser behind it holds an endless line in memory, fails on bytes that are not UTF-8, and ends a
//! connection at a block without fields: each of these would come again after every reconnect. So only whole events
//! with data pass, each line `event`, `id` or `data`. What cannot be an event travels beside the parser, to be set aside.

use std::borrow::Cow;

use schema::event;
use sha2::{Digest, Sha256};

/// The longest event that is held.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// What is kept of a longer one.
pub const HEAD_BYTES: usize = 64 << 10;
/// Bytes without an event's end, at which the connection is cut.
pub const MAX_ENDLESS_BYTES: u64 = 16 << 20;
/// What a stream may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What no event can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Longer than [`MAX_EVENT_BYTES`]; else not UTF-8.
    pub oversized: bool,
    /// Length of the whole block in bytes.
    pub length: u64,
    /// The hash of its data as an id: the same in every replay, whatever the SSE id says.
    pub id: String,
    /// Its first [`HEAD_BYTES`].
    pub head: Vec<u8>,
}

impl Unreadable {
    /// The SSE id in the block; empty where there is none.
    #[must_use]
    pub fn sse_id(&self) -> String {
        let mut lines = self.head.split(|byte| *byte == b'\n');
        let id = lines.find(|line| is_field(line, b"id")).and_then(|line| std::str::from_utf8(line).ok());
        let value = id.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value);
        value.strip_prefix(' ').unwrap_or(value).to_owned()
    }
}

/// What a piece of the stream gave.
#[derive(Debug, Default)]
pub struct Frames {
    /// Whole events, for the parser.
    pub events: Vec<u8>,
    /// What travels beside it.
    pub beside: Vec<Beside>,
}

impl Frames {
    /// Whether any event became whole.
    #[must_use]
    pub const fn has_any(&self) -> bool {
        !self.events.is_empty() || !self.beside.is_empty()
    }
}

/// What no event can be made of, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// How many events of the connection came before it.
    pub behind: u64,
    /// How many bytes of [`Frames::events`] came before it.
    pub at: usize,
    /// What it is.
    pub what: Unreadable,
}

/// More than [`MAX_ENDLESS_BYTES`] came without an event's end: cut the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// Collects one event at a time.
#[derive(Debug, Default)]
pub struct Framer {
    block: Vec<u8>,
    /// Length of the block so far; more than is held once it is oversized.
    length: u64,
    hash: Option<Sha256>,
    line_is_empty: bool,
    last_was_cr: bool,
    /// Events passed so far.
    passed: u64,
    has_begun: bool,
}

impl Framer {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { line_is_empty: true, ..Self::default() }
    }

    /// Whether an event has begun and not ended.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.length > 0
    }

    /// Takes the next bytes, cut anywhere, and appends the events that are whole now to `out`.
    ///
    /// # Errors
    /// [`Endless`] where no event ends; what was whole before is in `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Frames) -> Result<(), Endless> {
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
            self.hash = Some(content_hash(&self.block));
            self.block.truncate(HEAD_BYTES);
            self.block.shrink_to_fit();
        }
    }

    /// The block is whole: pass it on, set it aside, or drop it where it has no data.
    fn finish(&mut self, out: &mut Frames) {
        let mut block = std::mem::take(&mut self.block);
        let length = std::mem::take(&mut self.length);
        if !std::mem::replace(&mut self.has_begun, true) && block.starts_with(BYTE_ORDER_MARK) {
            block.drain(..BYTE_ORDER_MARK.len());
        }
        match self.hash.take() {
            Some(hash) => self.set_aside(unreadable(block, true, length, hash), out),
            None if std::str::from_utf8(&block).is_err() => {
                let hash = content_hash(&block);
                self.set_aside(unreadable(block, false, length, hash), out);
            }
            None => self.passed += u64::from(pass(&mut out.events, &block)),
        }
    }

    fn set_aside(&self, what: Unreadable, out: &mut Frames) {
        out.beside.push(Beside { behind: self.passed, at: out.events.len(), what });
    }
}

fn memchr_line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', bytes)
}

fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The fields that matter, if there is data among them.
fn pass(out: &mut Vec<u8>, block: &[u8]) -> bool {
    let has_text = |line: &&[u8]| is_field(line, b"data") && value(line).is_some_and(|value| !value.is_empty());
    if !lines(block).any(|line| has_text(&line)) {
        return false;
    }
    for line in lines(block) {
        if is_field(line, b"data") || is_field(line, b"id") || is_field(line, b"event") {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
    true
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b':'))
}

/// The value of a field: what follows its colon, without one leading space.
fn value(line: &[u8]) -> Option<&[u8]> {
    let value = line.get(memchr::memchr(b':', line)? + 1..)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// The hash of a block's data, without what the server adds to it: neither the SSE id nor the place in `meta`.
fn content_hash(block: &[u8]) -> Sha256 {
    let data: Vec<&[u8]> = lines(block).filter(|line| is_field(line, b"data")).filter_map(value).collect();
    let joined: Cow<'_, [u8]> = match data.as_slice() {
        [one] => Cow::Borrowed(one),
        several => Cow::Owned(several.join(&b'\n')),
    };
    let mut hash = Sha256::new();
    hash.update(event::without_place(&joined));
    hash
}

fn unreadable(mut block: Vec<u8>, oversized: bool, length: u64, hash: Sha256) -> Unreadable {
    block.truncate(HEAD_BYTES);
    Unreadable { oversized, length, id: event::hash_id(&hash.finalize()), head: block }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Frames {
        let (mut framer, mut out) = (Framer::new(), Frames::default());
        for piece in pieces {
            framer.push(piece, &mut out).unwrap();
        }
        out
    }

    fn through(pieces: &[&[u8]]) -> String {
        String::from_utf8(frames(pieces).events).unwrap()
    }

    #[test]
    fn only_whole_events_with_data_pass() {
        let stream = b":ok\n\nevent: message\nid: 1\ndata: {\"a\":1}\n\nfoo: bar\n\nretry: 5\n\ndata:\n\ndata: cut";
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
    fn a_byte_order_mark_is_no_part_of_the_first_field() {
        assert_eq!(through(&[b"\xef\xbb\xbf", b"data: x\n\ndata: y\n\n"]), "data: x\n\ndata: y\n\n");
    }

    #[test]
    fn bytes_that_are_not_utf8_travel_beside_the_parser_in_their_place() {
        let out = frames(&[b"data: one\n\nid: 7\ndata: \xff\xfe\n\ndata: good\n\n"]);
        assert_eq!(out.events, b"data: one\n\ndata: good\n\n");
        let Beside { behind, at, what: unreadable } = &out.beside[0];
        assert_eq!((*behind, *at, unreadable.oversized, unreadable.sse_id().as_str()), (1, 11, false, "7"));
        assert_eq!(unreadable.head, b"id: 7\ndata: \xff\xfe\n\n");
    }

    #[test]
    fn what_cannot_be_read_has_the_same_id_in_every_replay() {
        let id = |sse_id: &str, place: &str| {
            let text = format!("event: message\nid: {sse_id}\ndata: {{\"a\":1{place},\"b\":\"");
            let block = [text.as_bytes(), b"\xff\"}\n\n"].concat();
            frames(&[&block]).beside[0].what.id.clone()
        };
        let first = id("[1]", ",\"topic\":\"eqiad.s\",\"partition\":0,\"offset\":5");
        assert_eq!(first, id("[2,3]", ",\"topic\":\"codfw.s\",\"partition\":0,\"offset\":88"));
        assert!(first.starts_with("sha256:"));
    }

    #[test]
    fn an_oversized_event_is_skipped_to_its_end_inside_the_connection() {
        let mut stream = b"id: 9\ndata: ".to_vec();
        stream.extend(std::iter::repeat_n(b'x', 3 << 20));
        stream.extend_from_slice(b"\n\ndata: next\n\n");
        let mut out = Frames::default();
        let mut framer = Framer::new();
        for piece in stream.chunks(1000) {
            framer.push(piece, &mut out).unwrap();
            assert!(framer.block.capacity() <= 2 * MAX_EVENT_BYTES + 2000);
        }
        let unreadable = &out.beside[0].what;
        assert!(unreadable.oversized);
        assert_eq!((unreadable.length, unreadable.head.len()), ((3 << 20) + 14, HEAD_BYTES));
        assert_eq!(out.events, b"data: next\n\n");
    }

    #[test]
    fn an_event_without_end_cuts_the_connection() {
        let (mut framer, mut out) = (Framer::new(), Frames::default());
        let piece = vec![b'x'; 1 << 20];
        let cut = (0..17).position(|_| framer.push(&piece, &mut out).is_err());
        assert_eq!(cut, Some(16));
        assert!(framer.block.len() <= MAX_EVENT_BYTES);
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
            let mut out = Frames::default();
            let _ = Framer::new().push(&bytes, &mut out);
            proptest::prop_assert!(std::str::from_utf8(&out.events).is_ok());
        }
    }
}
