//! Texts that are kept.

use kafka_protocol::protocol::StrBytes;

/// A text of its own: one that was decoded holds the whole request that it came with.
pub(crate) fn own(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.to_string())
}
