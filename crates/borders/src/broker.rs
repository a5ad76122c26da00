//! Frames of the embedded broker.

/// Reads a request as the broker does before it answers: key, version, and what follows the header.
pub fn frame(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk::<4>() else { return };
    let [a, b, c, d] = *head;
    let _ = broker::reads(i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]), body);
}
