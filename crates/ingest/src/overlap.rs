//! Whether a connection is proven to overlap with what was handled, one source topic at a time. Pure.
//!
//! A source is proven when the connection shows its last handled event: everything before it in the log was handled,
//! everything behind it is new. Until then nothing moves.

use crate::arrival::Arrival;
use crate::position::Last;

/// Events clearly behind the position that prove the last handled one absent.
const LATE_EVENTS: u8 = 3;
/// Bytes of events that are held before a source is proven.
const MOST_HELD_BYTES: usize = 16 << 20;
/// Jumps of offsets that one connection remembers of a source.
const MOST_JUMPS: usize = 64;

/// Where a source's reading began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// At a log time, Unix milliseconds.
    Time(i64),
    /// At the offset of its last handled event.
    Offset,
    /// At the present.
    Latest,
    /// It is not asked for in this connection.
    Nothing,
}

/// How far the proof of a source is, in one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its last handled event has not been shown.
    Before,
    /// It has, or there is nothing to prove.
    After,
}

/// The proof of one source in one connection.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// Where reading began.
    pub asked: Asked,
    /// How far the proof is.
    pub phase: Phase,
    /// Events shown.
    pub shown: u64,
    /// Every event behind the last handled one was shown, or declared missing.
    pub is_chained: bool,
    /// The event before, where its offset is known.
    pub previous: Option<Last>,
    /// Jumps of the source's offset: from, to.
    pub jumps: Vec<(i64, i64)>,
    /// Unknown events that came before the proof, in the order of the log.
    held: Vec<Arrival>,
    held_bytes: usize,
    late: u8,
}

impl Overlap {
    /// The beginning of a connection.
    #[must_use]
    pub const fn new(asked: Asked, phase: Phase) -> Self {
        Self {
            asked,
            phase,
            shown: 0,
            is_chained: true,
            previous: None,
            jumps: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            late: 0,
        }
    }

    /// Holds an unknown event until the proof.
    pub fn hold(&mut self, arrival: Arrival) {
        self.held_bytes += arrival.data.len() + arrival.id.len() + arrival.sse_id.len();
        self.held.push(arrival);
    }

    /// Notes a jump of offsets.
    pub fn note_jump(&mut self, jump: (i64, i64)) {
        if self.jumps.len() < MOST_JUMPS {
            self.jumps.push(jump);
        }
    }

    /// An event came that is clearly behind the position.
    pub const fn came_late(&mut self) {
        self.late = self.late.saturating_add(1);
    }

    /// Whether the last handled event should have been shown by now.
    #[must_use]
    pub const fn is_overdue(&self) -> bool {
        self.late >= LATE_EVENTS || self.held_bytes > MOST_HELD_BYTES
    }

    /// The source is proven, or given up: what was held.
    pub fn settle(&mut self) -> Vec<Arrival> {
        self.phase = Phase::After;
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Events that are held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held.len()
    }
}

/// How a source is asked for, from one connection to the next. Nothing but counters: all else is in the state.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// Connections that did not show its last handled event.
    pub tried: u8,
    /// Asking by offset did not show it.
    pub offset_failed: bool,
    /// It was met at another offset: the next connection does not ask by offset.
    pub other_cluster: bool,
    /// Known ids reach back to this log time only.
    pub known_from_ms: Option<i64>,
    /// Jumps of the source's offset in the connection before: from, to.
    pub jumps: Vec<(i64, i64)>,
}

impl Attempts {
    /// Its last handled event was shown.
    pub const fn proven(&mut self) {
        self.tried = 0;
        self.offset_failed = false;
    }

    /// Whether there is another way to ask before a gap is declared.
    pub const fn next_way(&mut self, has_offset: bool) -> bool {
        if self.tried == 0 {
            self.tried = 1;
            return true;
        }
        if has_offset && !self.offset_failed {
            self.tried = 2;
            return true;
        }
        false
    }

    /// Whether a gap is declared if this connection shows no proof either.
    #[must_use]
    pub const fn is_last_way(&self, has_offset: bool) -> bool {
        self.tried > 0 && (self.offset_failed || !has_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_are_tried_before_a_gap() {
        let mut attempts = Attempts::default();
        assert!(attempts.next_way(true) && attempts.tried == 1, "further back");
        assert!(attempts.next_way(true) && attempts.tried == 2, "by offset");
        attempts.offset_failed = true;
        assert!(attempts.is_last_way(true) && !attempts.next_way(true));
        attempts.proven();
        assert!(!attempts.is_last_way(true));
    }

    #[test]
    fn without_an_offset_two_ways_are_tried() {
        let mut attempts = Attempts::default();
        assert!(attempts.next_way(false) && !attempts.next_way(false));
    }

    #[test]
    fn the_proof_is_overdue_after_three_later_events() {
        let mut overlap = Overlap::new(Asked::Time(0), Phase::Before);
        overlap.came_late();
        overlap.came_late();
        assert!(!overlap.is_overdue());
        overlap.came_late();
        assert!(overlap.is_overdue() && overlap.settle().is_empty());
        assert_eq!(overlap.phase, Phase::After);
    }
}
