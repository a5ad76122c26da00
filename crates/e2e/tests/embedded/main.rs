//! Stories and checks that need cargo alone: the embedded broker, the simulator, SQLite.
//!
//! They run side by side, but for those that take [`e2e::schedule::alone`].
#![expect(clippy::unwrap_used, reason = "a story says what broke by panicking")]

mod audit;
mod bad_input;
mod broker_limits;
mod commands;
mod config;
mod configuration;
mod console;
mod contrast;
mod demo;
mod doctor;
mod growth;
mod guard;
mod guard_modules;
mod guard_supply;
mod hostile;
mod http_limits;
mod kill;
mod page_api;
mod recorded;
mod recreated;
mod refusal;
mod replicas;
mod state;
mod strangers;
mod stream_faults;
mod tail;

/// Left out by `make test-fast`.
mod long {
    mod absence;
    mod emptied;
    mod held_up;
    mod resources;
    mod retention;
}
