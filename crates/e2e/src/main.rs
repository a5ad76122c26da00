//! The conformance suite as a process.

fn main() {}
