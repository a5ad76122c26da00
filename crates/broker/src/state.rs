//! All that the lock covers: topics, transactions, groups; and retention over all of it.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kafka_protocol::ResponseError;

use crate::Config;
use crate::catalog::Topics;
use crate::group::Groups;
use crate::limits::{self, Counts, Refused};
use crate::transactions::Transactions;
use crate::work::Work;

/// The one node's id.
pub(crate) const NODE: i32 = 1;

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
    pub(crate) refused: Counts,
    pub(crate) work: Work,
    state: Mutex<State>,
    changed: Condvar,
}

/// Everything the broker knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Topics,
    pub(crate) transactions: Transactions,
    pub(crate) groups: Groups,
    pub(crate) stopping: bool,
}

impl State {
    /// Whether offsets may be kept, committed or held by transactions.
    pub(crate) fn check_offsets(&self, refused: &Counts) -> Result<(), ResponseError> {
        let kept = self.groups.offsets.bytes() + self.transactions.held_bytes();
        if kept < limits::OFFSETS_BYTES { Ok(()) } else { Err(refused.refuse(Refused::Offsets)) }
    }
}

impl Shared {
    pub(crate) fn new(address: SocketAddr, config: Config) -> Self {
        let (refused, work) = (Counts::default(), Work::default());
        Self { address, config, refused, work, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes the lock. A thread that panicked under it left a state that each request checks anyway.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every waiting fetch, join and sync.
    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits for the next change, at most until `deadline`; false once it is past.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> (MutexGuard<'a, State>, bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || state.stopping {
            return (state, false);
        }
        let (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        (state, true)
    }
}
