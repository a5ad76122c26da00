//! The settings of topics: which there are, what they may be, what they are without being set.

/// Bytes of one batch at most, where a topic does not say otherwise: as Apache Kafka has it.
pub(crate) const DEFAULT_MOST_BATCH_BYTES: &str = "1048588";

/// What a topic without a setting of its own has.
pub(crate) const DEFAULTS: [(&str, &str); 6] = [
    ("cleanup.policy", "delete"),
    ("max.message.bytes", DEFAULT_MOST_BATCH_BYTES),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
];

/// What a setting may be.
enum Kind {
    /// A whole number, this or more.
    AtLeast(i64),
    /// A comma list of these.
    Of(&'static [&'static str]),
    /// Anything: this broker makes no use of it.
    Any,
}

/// The settings that Apache Kafka 4.1 knows for a topic.
const KNOWN: [(&str, Kind); 27] = [
    ("cleanup.policy", Kind::Of(&["delete", "compact"])),
    ("compression.gzip.level", Kind::Any),
    ("compression.lz4.level", Kind::Any),
    ("compression.type", Kind::Of(&["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"])),
    ("compression.zstd.level", Kind::Any),
    ("delete.retention.ms", Kind::AtLeast(0)),
    ("file.delete.delay.ms", Kind::AtLeast(0)),
    ("flush.messages", Kind::AtLeast(1)),
    ("flush.ms", Kind::AtLeast(0)),
    ("follower.replication.throttled.replicas", Kind::Any),
    ("index.interval.bytes", Kind::AtLeast(0)),
    ("leader.replication.throttled.replicas", Kind::Any),
    ("max.compaction.lag.ms", Kind::AtLeast(1)),
    ("max.message.bytes", Kind::AtLeast(0)),
    ("message.timestamp.after.max.ms", Kind::AtLeast(0)),
    ("message.timestamp.before.max.ms", Kind::AtLeast(0)),
    ("message.timestamp.type", Kind::Of(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Kind::Any),
    ("min.compaction.lag.ms", Kind::AtLeast(0)),
    ("min.insync.replicas", Kind::AtLeast(1)),
    ("preallocate", Kind::Of(&["true", "false"])),
    ("retention.bytes", Kind::AtLeast(-1)),
    ("retention.ms", Kind::AtLeast(-1)),
    ("segment.bytes", Kind::AtLeast(1 << 20)),
    ("segment.index.bytes", Kind::AtLeast(4)),
    ("segment.jitter.ms", Kind::AtLeast(0)),
    ("segment.ms", Kind::AtLeast(1)),
];

/// Whether Apache Kafka would take this setting for a topic.
pub(crate) fn is_valid(name: &str, value: &str) -> bool {
    match KNOWN.iter().find(|(known, _)| *known == name) {
        None => false,
        Some((_, Kind::Any)) => true,
        Some((_, Kind::AtLeast(least))) => value.parse::<i64>().is_ok_and(|value| value >= *least),
        Some((_, Kind::Of(words))) => value.split(',').all(|word| words.contains(&word.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_settings_within_their_bounds_are_valid_and_all_others_are_not() {
        assert!(DEFAULTS.iter().all(|(name, value)| is_valid(name, value)));
        assert!(is_valid("cleanup.policy", "compact,delete"));
        for (name, value) in
            [("segment.bytes", "16384"), ("retention.ms", "soon"), ("retention", "1"), ("preallocate", "")]
        {
            assert!(!is_valid(name, value), "{name}={value}");
        }
    }
}
