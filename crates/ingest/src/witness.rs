//! Whether a resume is proven: the replay must show an event that is known before the first that is not. Pure.

/// What a connection has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A known event first.
    Needed,
    /// It did, or there is nothing that could be known.
    Seen,
    /// It did not, and the gap is declared: events are taken, but nothing is proven, and no gap heals by it.
    Waived,
}

/// What to do with an event that is kept and not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on: the connection is proven.
    Proven,
    /// It came before any known event: something may lie between.
    Unproven,
}

impl Witness {
    /// A known event came.
    pub const fn known(&mut self) {
        if matches!(self, Self::Needed) {
            *self = Self::Seen;
        }
    }

    /// An unknown event came.
    #[must_use]
    pub const fn unknown(self) -> Verdict {
        match self {
            Self::Needed => Verdict::Unproven,
            Self::Seen | Self::Waived => Verdict::Proven,
        }
    }
}

/// How far back a resume goes, and further if its replay proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Greatest log time that is committed.
    pub t_ms: i64,
    /// Margin behind it.
    pub margin_ms: i64,
    /// Log time of the newest event that is known.
    pub newest_known_ms: Option<i64>,
    /// Nothing before this is known: going further back would repeat what was stored; `None` where all is known.
    pub known_from_ms: Option<i64>,
}

impl Reach {
    /// The position of the attempt, in log time; `None` once there is nothing further back to try.
    #[must_use]
    pub fn position(&self, attempt: u32) -> Option<i64> {
        let behind = |time: i64| time.saturating_sub(self.margin_ms);
        let first = behind(self.t_ms);
        let position = match attempt {
            0 => first,
            // Hours may have passed without an event that is kept: back to before the newest of those.
            1 => behind(first.min(self.newest_known_ms?)),
            _ => return None,
        };
        Some(self.known_from_ms.map_or(position, |from| position.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_event_before_any_known_one_proves_nothing() {
        let mut witness = Witness::Needed;
        assert_eq!(witness.unknown(), Verdict::Unproven);
        witness.known();
        assert_eq!(witness.unknown(), Verdict::Proven);
    }

    #[test]
    fn a_waived_witness_stays_waived() {
        let mut witness = Witness::Waived;
        witness.known();
        assert_eq!((witness, witness.unknown()), (Witness::Waived, Verdict::Proven));
    }

    #[test]
    fn the_second_attempt_goes_back_before_the_newest_known_event() {
        let reach = Reach { t_ms: 1_000_000, margin_ms: 30_000, newest_known_ms: Some(400_000), known_from_ms: None };
        assert_eq!(reach.position(0), Some(970_000));
        assert_eq!(reach.position(1), Some(370_000));
        assert_eq!(reach.position(2), None);
    }

    #[test]
    fn a_resume_never_goes_back_further_than_the_known_ids_reach() {
        let reach =
            Reach { t_ms: 1_000_000, margin_ms: 30_000, newest_known_ms: Some(999_000), known_from_ms: Some(990_000) };
        assert_eq!(reach.position(0), Some(990_000));
        assert_eq!(reach.position(1), Some(990_000));
    }
}
