//! A quick reader of the JSON that events are made of, in front of the full parser.
//!
//! It goes over the bytes once, borrows every text that holds no escape, and steps over fields that it was not asked
//! for. It takes only what it is sure of, and gives [`Unusual`] for all else: the caller then asks `serde_json`, whose
//! word counts. So the two never differ in what they accept, and every [`Rejection`] has the parser's own sentence.

use std::borrow::Cow;

use serde::Deserialize;

use crate::rejection::{Rejection, parse};

/// Deeper nesting is left to the full parser; events have four levels.
const MAX_DEPTH: usize = 16;
/// Longer numbers are left to the full parser: these fit an `i64`.
const MAX_DIGITS: usize = 18;

/// The reader is not sure of these bytes: ask the full parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual;

/// What the quick reader gives.
pub(crate) type Quick<T> = Result<T, Unusual>;

/// What is read from a JSON object by the names of its fields.
pub(crate) trait Object<'a>: Default {
    /// The numbers of the fields that have to be there, a bit each.
    const REQUIRED: u64 = 0;

    /// Reads the value of a field that is wanted, and gives the field's number, below 64; of any other field `None`,
    /// and the value is not touched.
    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>>;
}

/// Reads an object: quickly where that is possible, else by the full parser.
///
/// # Errors
/// Those of the full parser.
pub(crate) fn read<'a, T: Object<'a> + Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Rejection> {
    quick(bytes).or_else(|Unusual| parse(bytes))
}

/// Whether the quick way gives what the full parser gives, or leaves it to it.
pub(crate) fn agree<'a, T: Object<'a> + Deserialize<'a> + PartialEq>(bytes: &'a [u8]) -> bool {
    quick::<T>(bytes).map_or(true, |value| parse(bytes).is_ok_and(|parsed: T| parsed == value))
}

/// Takes a field's value, and gives its number.
pub(crate) fn put<T>(field: &mut T, value: T, number: u32) -> u32 {
    *field = value;
    number
}

/// The quick way alone.
pub(crate) fn quick<'a, T: Object<'a>>(bytes: &'a [u8]) -> Quick<T> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Unusual)?;
    let mut json = Reader { text, at: 0, depth: 0 };
    json.space();
    let value = json.object()?;
    json.space();
    if json.at == text.len() { Ok(value) } else { Err(Unusual) }
}

/// Stands before the next byte of a text.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Steps over one byte.
    fn expect(&mut self, byte: u8) -> Quick<()> {
        if self.peek() != Some(byte) {
            return Err(Unusual);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over a word where it stands here.
    fn is(&mut self, word: &str) -> bool {
        let is = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if is {
            self.at += word.len();
        }
        is
    }

    /// An object's fields; one that is wanted and comes twice is left to the full parser.
    pub(crate) fn object<T: Object<'a>>(&mut self) -> Quick<T> {
        let (mut object, mut seen) = (T::default(), 0_u64);
        self.members(b'{', b'}', |json| {
            let name = json.name()?;
            match object.field(name, json)? {
                Some(number) if seen & (1 << number) != 0 => Err(Unusual),
                Some(number) => {
                    seen |= 1 << number;
                    Ok(())
                }
                None => json.skip(),
            }
        })?;
        if seen & T::REQUIRED == T::REQUIRED { Ok(object) } else { Err(Unusual) }
    }

    /// The same, or null.
    pub(crate) fn object_or_null<T: Object<'a>>(&mut self) -> Quick<Option<T>> {
        if self.is("null") { Ok(None) } else { self.object().map(Some) }
    }

    /// What stands between two brackets, separated by commas.
    fn members(&mut self, open: u8, close: u8, mut member: impl FnMut(&mut Self) -> Quick<()>) -> Quick<()> {
        self.expect(open)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unusual);
        }
        self.space();
        if self.peek() != Some(close) {
            loop {
                self.space();
                member(self)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.depth -= 1;
        self.expect(close)
    }

    /// A field's name, with the colon behind it.
    fn name(&mut self) -> Quick<&'a str> {
        let (name, has_escape) = self.quoted()?;
        if has_escape {
            return Err(Unusual);
        }
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Quick<Cow<'a, str>> {
        let start = self.at;
        let (text, has_escape) = self.quoted()?;
        if !has_escape {
            return Ok(Cow::Borrowed(text));
        }
        let quoted = self.text.get(start..self.at).ok_or(Unusual)?;
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Unusual)
    }

    /// A text or null.
    pub(crate) fn text_or_null(&mut self) -> Quick<Option<Cow<'a, str>>> {
        if self.is("null") { Ok(None) } else { self.text().map(Some) }
    }

    /// A truth value or null.
    pub(crate) fn bool_or_null(&mut self) -> Quick<Option<bool>> {
        match self.peek() {
            Some(b't') if self.is("true") => Ok(Some(true)),
            Some(b'f') if self.is("false") => Ok(Some(false)),
            Some(b'n') if self.is("null") => Ok(None),
            _ => Err(Unusual),
        }
    }

    /// An integer of moderate length, or null.
    pub(crate) fn integer_or_null(&mut self) -> Quick<Option<i64>> {
        if self.is("null") { Ok(None) } else { self.integer().map(Some) }
    }

    /// An integer of moderate length.
    pub(crate) fn integer(&mut self) -> Quick<i64> {
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let start = self.at;
        let mut number = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if self.at - start == MAX_DIGITS {
                return Err(Unusual);
            }
            number = number * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        let digits = self.at - start;
        let has_leading_zero = digits > 1 && self.text.as_bytes().get(start) == Some(&b'0');
        if digits == 0 || has_leading_zero || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(Unusual);
        }
        match (is_negative, number) {
            // A float to the full parser.
            (true, 0) => Err(Unusual),
            (true, number) => Ok(-number),
            (false, number) => Ok(number),
        }
    }

    /// What stands between quotes, and whether it holds escapes.
    fn quoted(&mut self) -> Quick<(&'a str, bool)> {
        self.expect(b'"')?;
        let (start, mut has_escape) = (self.at, false);
        let bytes = self.text.as_bytes();
        loop {
            self.at = special(bytes, self.at).ok_or(Unusual)?;
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escape = true;
                    self.at += escape(bytes.get(self.at + 1..).unwrap_or_default())? + 1;
                }
                _ => return Err(Unusual),
            }
        }
        let text = self.text.get(start..self.at).ok_or(Unusual)?;
        self.at += 1;
        Ok((text, has_escape))
    }

    /// Steps over any value.
    fn skip(&mut self) -> Quick<()> {
        match self.peek().ok_or(Unusual)? {
            b'"' => self.quoted().map(drop),
            b'{' => self.members(b'{', b'}', |json| {
                json.name()?;
                json.skip()
            }),
            b'[' => self.members(b'[', b']', Self::skip),
            b'-' | b'0'..=b'9' => self.skip_number(),
            _ => self.bool_or_null().map(drop),
        }
    }

    fn skip_number(&mut self) -> Quick<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        let start = self.at;
        let whole = self.digits()?;
        if whole > 1 && self.text.as_bytes().get(start) == Some(&b'0') {
            return Err(Unusual);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Quick<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(Unusual) } else { Ok(self.at - start) }
    }
}

/// Bytes of what stands behind a backslash.
fn escape(rest: &[u8]) -> Quick<usize> {
    match rest.first() {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(1),
        Some(b'u') if rest.get(1..5).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => Ok(5),
        _ => Err(Unusual),
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Where the next byte is, from `at` on, that cannot stand in a JSON string as it is: a quote, a backslash, a control
/// character. Eight bytes at a time.
pub(crate) fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    // The lowest bit that is set is right; a higher one may be the trace of a lower byte.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, b' ');
        if found != 0 {
            return Some(at + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0));
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    bytes.get(at..)?.iter().position(is_special).map(|offset| at + offset)
}

/// Appends a text as a JSON string, as `serde_json` writes it.
pub(crate) fn write_text(to: &mut Vec<u8>, text: &str) {
    if special(text.as_bytes(), 0).is_some() {
        // Into memory: it cannot fail.
        let _ = serde_json::to_writer(to, text);
        return;
    }
    to.push(b'"');
    to.extend_from_slice(text.as_bytes());
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Sample<'a> {
        #[serde(borrow)]
        text: Option<Cow<'a, str>>,
        number: Option<i64>,
        is: Option<bool>,
    }

    impl<'a> Object<'a> for Sample<'a> {
        fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
            Ok(Some(match name {
                "text" => put(&mut self.text, json.text_or_null()?, 0),
                "number" => put(&mut self.number, json.integer_or_null()?, 1),
                "is" => put(&mut self.is, json.bool_or_null()?, 2),
                _ => return Ok(None),
            }))
        }
    }

    fn quickly(json: &str) -> Quick<Sample<'_>> {
        quick(json.as_bytes())
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for byte in [b'"', b'\\', 0, 9, 0x1f] {
                    let mut bytes = vec![0x20_u8; length];
                    bytes.iter_mut().skip(at + 1).for_each(|other| *other = 0xff);
                    bytes[at] = byte;
                    assert_eq!(special(&bytes, 0), Some(at));
                    assert_eq!(special(&bytes, at + 1), None);
                }
            }
        }
        assert_eq!(special(&[0x7f, 0x80, 0xff, b'!', b'#', b'[', b']', b' ', b'a'], 0), None);
    }

    #[test]
    fn usual_json_is_read_and_unknown_fields_are_stepped_over() {
        let json = r#" { "x" : [1, -2.5e+3, {"y":"\"\u00e9\\"}, true, null, []], "text":"a\n\"b\"", "number":-7,"is":false, "z":{}} "#;
        let sample = quickly(json).unwrap();
        assert_eq!(sample, Sample { text: Some("a\n\"b\"".into()), number: Some(-7), is: Some(false) });
        assert!(matches!(quickly(r#"{"text":"é"}"#).unwrap().text, Some(Cow::Borrowed("é"))));
    }

    #[test]
    fn what_the_full_parser_may_judge_otherwise_is_left_to_it() {
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(20), "]".repeat(20));
        for json in [
            "",
            "[]",
            "{",
            "{}x",
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"x":01}"#,
            r#"{"x":1.}"#,
            r#"{"x":-}"#,
            r#"{"x":1e}"#,
            r#"{"x":tru}"#,
            r#"{"x":"\x"}"#,
            r#"{"x":"\u12"}"#,
            "{\"x\":\"\n\"}",
            r#"{"text":5}"#,
            r#"{"text":"\ud800"}"#,
            r#"{"number":1.0}"#,
            r#"{"number":-0}"#,
            r#"{"number":1234567890123456789}"#,
            r#"{"text":"a","text":"b"}"#,
            r#"{"te\u0078t":"a"}"#,
            &deep,
        ] {
            assert_eq!(quickly(json), Err(Unusual), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn texts_are_written_as_the_full_writer_does(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut ours = Vec::new();
            write_text(&mut ours, &text);
            proptest::prop_assert_eq!(ours, serde_json::to_vec(&text).unwrap());
        }

        #[test]
        fn what_is_read_quickly_is_what_the_full_parser_reads(
            json in "\\{(\"(text|number|is|x)\":(\"([a-zé\\\\\"nu0-9]){0,6}\"|-?[0-9.e]{1,4}|true|null|\\[\\]|\\{\\}),?){0,4}\\}"
        ) {
            if let Ok(sample) = quickly(&json) {
                proptest::prop_assert_eq!(serde_json::from_str::<Sample<'_>>(&json).ok(), Some(sample));
            }
        }
    }
}
