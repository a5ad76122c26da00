//! Stories and checks that need other tools too: PostgreSQL, Chromium with Node.js, promtool, a shell with curl.
//!
//! They run side by side, but for those that take [`e2e::schedule::alone`].
#![expect(clippy::unwrap_used, clippy::panic, reason = "a story says what broke by panicking")]

mod deploy;
mod page;
mod postgres;
mod slow_postgres;
mod top;
mod tutorial;
