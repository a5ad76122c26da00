//! Maps raw edits to enriched edits, partition by partition.
