//! When to connect again: exponential, with full jitter, honouring the server's own word. Pure.

use std::time::Duration;

/// Attempts without an event since the last one that gave some.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Between `min` and `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, attempts: 0 }
    }

    /// An event came: the next wait is short again. A mere 200 is not health.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait. `jitter` is a number from 0 to 1; `retry_after` is what the server asked for.
    pub fn next(&mut self, jitter: f64, retry_after: Option<Duration>) -> Duration {
        let ceiling =
            self.min.saturating_mul(1_u32.checked_shl(self.attempts.min(20)).unwrap_or(u32::MAX)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let spread = ceiling.saturating_sub(self.min);
        let wait = self.min + spread.mul_f64(jitter.clamp(0.0, 1.0));
        wait.max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff) -> Vec<u64> {
        (0..9).map(|_| backoff.next(1.0, None).as_secs()).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_an_event() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(seconds(&mut backoff), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(1.0, None), Duration::from_secs(1));
    }

    #[test]
    fn the_servers_word_is_honoured() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(90))), Duration::from_secs(90));
    }

    #[test]
    fn jitter_never_leaves_the_bounds() {
        for jitter in [-1.0, 0.0, 0.3, 1.0, 7.0] {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            for _ in 0..40 {
                let wait = backoff.next(jitter, None);
                assert!((1..=60).contains(&wait.as_secs()), "{wait:?}");
            }
        }
    }
}
