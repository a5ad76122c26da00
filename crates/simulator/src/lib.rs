//! A faithful EventStreams server for tests: seeded generator, replay of a recording, faults, and a ledger.
//!
//! It answers `GET /v2/stream/{streams}` as Wikimedia's service does, byte for byte where a recording is
//! replayed, and knows every event that it ever made (`GET /made`): the truth for a test of a client.
//! What it does and how to test any EventStreams client with it: docs/simulator.md.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`] | flags |
//! | [`random`], [`words`], [`generator`] | the seeded generator and its virtual event time |
//! | [`recording`] | replay of `.sse` and `.jsonl` files |
//! | [`log`] | a log for each source topic, and where a position begins |
//! | [`cluster`] | the same events, numbered otherwise |
//! | [`request`] | what a request asks for, and how the real service refuses it |
//! | [`faults`] | what goes wrong, and when |
//! | [`stream`] | one connection's bytes |
//! | [`server`] | routes |

pub mod cluster;
pub mod config;
pub mod faults;
pub mod generator;
pub mod log;
mod random;
pub mod recording;
pub mod request;
pub mod server;
pub mod stream;
mod words;

pub use config::Config;
pub use faults::Faults;
pub use server::{Simulator, run};
