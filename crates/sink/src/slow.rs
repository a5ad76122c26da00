//! Slowness on purpose, to be watched: SIGUSR1 makes a sink store at most a few edits a second, and again as usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Edits of one write, while slowed.
pub const ROWS: usize = 2;
/// What each write takes longer, while slowed. Below everything that the consumer group waits for.
pub const PAUSE: Duration = Duration::from_millis(400);

/// Whether the sink is slowed now.
#[derive(Clone, Debug, Default)]
pub struct Slowness(Arc<AtomicBool>);

impl Slowness {
    /// Changes with each SIGUSR1, from now on.
    #[must_use]
    pub fn on_signal() -> Self {
        let slowness = Self::default();
        let changed = slowness.clone();
        match signal(SignalKind::user_defined1()) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        let was_slowed = changed.0.fetch_xor(true, Ordering::Relaxed);
                        tracing::info!(is_slowed = !was_slowed, "SIGUSR1: another speed");
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "cannot listen for SIGUSR1: this sink cannot be slowed"),
        }
        slowness
    }

    /// Whether it is slowed now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
