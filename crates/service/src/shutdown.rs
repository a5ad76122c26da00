//! SIGTERM and SIGINT end a service in order; a second one ends it at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long an orderly end may take: below Docker's 10 s.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Cancels `shutdown` at the first signal; at a second one the process ends with 130 or 143.
pub fn on_signals(shutdown: &CancellationToken) {
    for (kind, code) in [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143)] {
        let shutdown = shutdown.clone();
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        if shutdown.is_cancelled() {
                            std::process::exit(code);
                        }
                        shutdown.cancel();
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "cannot listen for signals: this process only ends when killed"),
        }
    }
}

/// Cancels `shutdown` when standard input ends: its other end was the parent's.
pub fn on_stdin_end(shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    std::thread::spawn(move || {
        // Whatever is written there is of no interest; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        shutdown.cancel();
    });
}
