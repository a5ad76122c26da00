//! The operator's command: demo, tail, audit.
