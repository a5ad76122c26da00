//! Rows in PostgreSQL's binary COPY format, written straight into one buffer.

use jiff::Timestamp;

/// Signature, flags, and the length of an extension that there is not.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a number of columns.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// In place of a length.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// PostgreSQL counts from the beginning of 2000: Unix microseconds of it.
const EPOCH: i64 = 946_684_800_000_000;

/// Encoded rows, or a part of them.
#[derive(Debug)]
pub(super) struct Rows(Vec<u8>);

impl Rows {
    pub(super) fn new() -> Self {
        Self(HEADER.to_vec())
    }

    /// What is encoded since it was cleared.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins a row.
    pub(super) fn begin(&mut self, columns: usize) {
        let columns = i16::try_from(columns).unwrap_or(i16::MAX);
        self.0.extend_from_slice(&columns.to_be_bytes());
    }

    /// Behind the last row.
    pub(super) fn end(&mut self) {
        self.0.extend_from_slice(&TRAILER);
    }

    /// A value as the database takes it.
    pub(super) fn value(&mut self, bytes: &[u8]) {
        // A record's bytes, and no record reaches 2 GiB.
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.value(text.as_bytes());
    }

    pub(super) fn int8(&mut self, number: i64) {
        self.value(&number.to_be_bytes());
    }

    pub(super) fn bool(&mut self, is: bool) {
        self.value(&[u8::from(is)]);
    }

    pub(super) fn time(&mut self, time: Timestamp) {
        self.int8(time.as_microsecond() - EPOCH);
    }

    /// A value, or NULL.
    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.0.extend_from_slice(&NULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_the_format_has_it() {
        let mut rows = Rows::new();
        assert_eq!(rows.bytes().len(), 19);
        rows.clear();
        rows.begin(5);
        rows.text("é");
        rows.optional(Some(-2), Rows::int8);
        rows.optional(None, Rows::bool);
        rows.optional(Some(true), Rows::bool);
        rows.time("2000-01-01T00:00:01.000002Z".parse().unwrap());
        rows.end();
        let expected: [&[u8]; 7] = [
            &[0, 5],
            &[0, 0, 0, 2, 0xc3, 0xa9],
            &[0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 254],
            &[255, 255, 255, 255],
            &[0, 0, 0, 1, 1],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 15, 66, 66],
            &[255, 255],
        ];
        assert_eq!(rows.bytes(), expected.concat());
    }
}
