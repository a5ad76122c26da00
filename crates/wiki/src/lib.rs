//! The operator's command; all of it stands in the binary (`wiki --help`).
