//! Stores enriched edits, each once.
