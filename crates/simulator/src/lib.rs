//! A faithful EventStreams server for tests: seeded generator, replay, faults, and a ledger.
