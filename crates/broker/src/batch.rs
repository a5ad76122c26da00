//! A record batch's bytes (message format 2): reading its header, checking it, and making control batches.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes that `batch_length` does not count.
const LENGTH_PREFIX: usize = 12;
/// Where the checksummed part begins.
const CHECKED_FROM: usize = 21;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What a batch's header says.
#[derive(Clone, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) attributes: i16,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl BatchHeader {
    pub(crate) const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) const fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION_MASK != 0
    }

    pub(crate) const fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.count - 1) & i32::MAX
    }
}

/// Why a batch is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadBatch {
    /// Lengths, counts or the checksum do not fit.
    Corrupt,
    /// A message format before 2.
    OldFormat,
    /// Not something a client may write.
    Invalid,
}

/// Checks a batch that a client sent, whole: lengths, checksum, and each record's bounds if uncompressed.
pub(crate) fn check(bytes: &[u8]) -> Result<BatchHeader, BadBatch> {
    if bytes.len() < HEADER_BYTES {
        return Err(BadBatch::Corrupt);
    }
    if bytes.get(16) != Some(&2) {
        return Err(BadBatch::OldFormat);
    }
    let batch_length = usize::try_from(read_i32(bytes, 8)).map_err(|_| BadBatch::Corrupt)?;
    if batch_length.checked_add(LENGTH_PREFIX) != Some(bytes.len()) {
        return Err(BadBatch::Corrupt);
    }
    let checked = bytes.get(CHECKED_FROM..).ok_or(BadBatch::Corrupt)?;
    if crc32c::crc32c(checked).to_be_bytes() != array::<4>(bytes, 17) {
        return Err(BadBatch::Corrupt);
    }
    let header = BatchHeader {
        attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
        base_timestamp: i64::from_be_bytes(array(bytes, 27)),
        max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
        producer_id: i64::from_be_bytes(array(bytes, 43)),
        producer_epoch: i16::from_be_bytes(array(bytes, 51)),
        base_sequence: read_i32(bytes, 53),
        count: read_i32(bytes, 57),
    };
    if header.count < 1 || read_i32(bytes, 23) != header.count - 1 || header.attributes & CONTROL != 0 {
        return Err(BadBatch::Invalid);
    }
    if !header.is_compressed() {
        let walked = record_timestamps(bytes, &header).count();
        if i32::try_from(walked) != Ok(header.count) {
            return Err(BadBatch::Corrupt);
        }
    }
    Ok(header)
}

/// A client's batch as it goes into the log: at `base_offset`, stamped with `log_append_time_ms` if given.
///
/// Base offset and leader epoch lie outside the checksum; the timestamp does not.
pub(crate) fn place(bytes: &[u8], base_offset: i64, log_append_time_ms: Option<i64>) -> Bytes {
    let mut placed = BytesMut::from(bytes);
    put(&mut placed, 0, &base_offset.to_be_bytes());
    put(&mut placed, 12, &0_i32.to_be_bytes());
    if let Some(now) = log_append_time_ms {
        let attributes = i16::from_be_bytes(array(&placed, ATTRIBUTES_AT)) | LOG_APPEND_TIME;
        put(&mut placed, ATTRIBUTES_AT, &attributes.to_be_bytes());
        put(&mut placed, MAX_TIMESTAMP_AT, &now.to_be_bytes());
        let crc = crc32c::crc32c(placed.get(CHECKED_FROM..).unwrap_or_default());
        put(&mut placed, 17, &crc.to_be_bytes());
    }
    placed.freeze()
}

/// The control batch that ends a transaction on one partition.
pub(crate) fn marker(base_offset: i64, producer_id: i64, producer_epoch: i16, commit: bool, now_ms: i64) -> Bytes {
    // One record: attributes, timestamp and offset deltas, key (version, type), value (version, epoch), no headers.
    let mut record = vec![0, 0, 0, 8, 0, 0, 0, u8::from(commit), 12];
    record.extend([0_u8; 6]);
    record.push(0);
    let mut checked = BytesMut::new();
    checked.put_i16(TRANSACTIONAL | CONTROL);
    checked.put_i32(0);
    checked.put_i64(now_ms);
    checked.put_i64(now_ms);
    checked.put_i64(producer_id);
    checked.put_i16(producer_epoch);
    checked.put_i32(-1);
    checked.put_i32(1);
    // Zigzag: the record is 16 bytes long.
    checked.put_u8(32);
    checked.extend_from_slice(&record);

    let mut batch = BytesMut::new();
    batch.put_i64(base_offset);
    batch.put_i32(i32::try_from(checked.len() + CHECKED_FROM - LENGTH_PREFIX).unwrap_or(i32::MAX));
    batch.put_i32(0);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.extend_from_slice(&checked);
    batch.freeze()
}

/// Timestamps of an uncompressed batch's records, in order; ends early where a record does not fit.
pub(crate) fn record_timestamps<'a>(bytes: &'a [u8], header: &BatchHeader) -> impl Iterator<Item = i64> + 'a {
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let base = header.base_timestamp;
    let appended = (header.attributes & LOG_APPEND_TIME != 0).then_some(header.max_timestamp);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = usize::try_from(zigzag(&mut rest)?).ok()?;
        let (mut record, behind) = rest.split_at_checked(length)?;
        rest = behind;
        record = record.get(1..)?;
        let delta = zigzag(&mut record)?;
        Some(appended.unwrap_or_else(|| base.wrapping_add(delta)))
    })
}

fn zigzag(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// The lengths of the batches that stand one behind the other in `records`; `None` where they do not fit.
pub(crate) fn split(records: &Bytes) -> Option<Vec<Bytes>> {
    let mut batches = Vec::new();
    let mut rest = records.clone();
    while !rest.is_empty() {
        if rest.len() < HEADER_BYTES {
            return None;
        }
        let length = usize::try_from(read_i32(&rest, 8)).ok()?.checked_add(LENGTH_PREFIX)?;
        if length > rest.len() {
            return None;
        }
        batches.push(rest.split_to(length));
    }
    Some(batches)
}

fn read_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array(bytes, at))
}

/// `N` bytes at `at`; zeros where there are fewer.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn put(bytes: &mut BytesMut, at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn a_marker_is_a_control_batch_that_decoders_read() {
        for commit in [true, false] {
            let mut bytes = marker(41, 7, 3, commit, 1_000);
            let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
            let record = &set.records[0];
            assert!(record.control && record.transactional);
            assert_eq!((record.offset, record.producer_id, record.producer_epoch), (41, 7, 3));
            assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, u8::from(commit)][..]));
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let good = marker(0, 1, 0, true, 5);
        for at in CHECKED_FROM..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(check(&bad).unwrap_err(), BadBatch::Corrupt, "byte {at}");
        }
    }

    #[test]
    fn clients_may_not_write_control_batches() {
        assert_eq!(check(&marker(0, 1, 0, true, 5)).unwrap_err(), BadBatch::Invalid);
    }
}
