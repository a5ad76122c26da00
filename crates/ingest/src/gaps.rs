//! The gap ledger: what could not be proven whole is written down, and what became of it too. Pure.

use schema::backfill::{Backfill, BackfillStatus};
use schema::gap::{Gap, GapReason, GapStatus};

use crate::window::IdKey;

/// The gaps that are open, and the stretches that are asked for again.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    open: Vec<Gap>,
    requested: Vec<Backfill>,
}

impl Gaps {
    /// Takes the next entry of the ledger: the last one of each gap counts.
    pub fn learn(&mut self, entry: &[u8]) {
        if let Ok(gap) = serde_json::from_slice::<Gap>(entry) {
            self.note(gap);
        } else if let Ok(request) = serde_json::from_slice::<Backfill>(entry) {
            self.note_request(request);
        }
    }

    /// Takes a request as it is now.
    pub fn note_request(&mut self, request: Backfill) {
        self.requested.retain(|known| known.backfill != request.backfill);
        if request.status == BackfillStatus::Requested {
            self.requested.push(request);
        }
    }

    /// The stretch that is to be read again first.
    #[must_use]
    pub fn requested(&self) -> Option<&Backfill> {
        self.requested.first()
    }

    /// Takes a gap as it is now.
    pub fn note(&mut self, gap: Gap) {
        self.open.retain(|known| known.id != gap.id);
        if gap.status == GapStatus::Open {
            self.open.push(gap);
        }
    }

    /// Closes the gaps of a source topic that a refused position made and that end at this event; they are returned.
    ///
    /// The caller has followed the topic from the gap's first event to this one.
    pub fn heal(&mut self, source_topic: &str, event: IdKey) -> Vec<Gap> {
        // Asked for each event, and nearly always there is none.
        if self.open.is_empty() {
            return Vec::new();
        }
        let id = event.to_string();
        let is_over = |gap: &Gap| {
            gap.reason == GapReason::PositionRefused
                && gap.is_of(source_topic)
                && gap.before.as_ref().is_some_and(|edge| edge.id == id)
        };
        let (mut healed, open): (Vec<Gap>, Vec<Gap>) = std::mem::take(&mut self.open).into_iter().partition(is_over);
        self.open = open;
        for gap in &mut healed {
            gap.status = GapStatus::Healed;
        }
        healed
    }

    /// Whether this gap is open.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.open.iter().any(|gap| gap.id == id)
    }

    /// The gaps that are open.
    #[must_use]
    pub fn open(&self) -> &[Gap] {
        &self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::gap::Edge;

    fn gap(topic: &str, before: &str, reason: GapReason) -> Gap {
        let edge = |id: &str, time_ms| Edge { id: IdKey::of(id).to_string(), offset: None, time_ms };
        Gap::between(topic, edge("a", 100), edge(before, 200), reason)
    }

    #[test]
    fn a_refused_position_heals_when_its_last_event_is_passed_and_no_other_gap_does() {
        let mut gaps = Gaps::default();
        gaps.note(gap("eqiad.s", "z", GapReason::PositionRefused));
        gaps.note(gap("codfw.s", "z", GapReason::NoWitness));
        assert!(gaps.heal("eqiad.s", IdKey::of("y")).is_empty() && gaps.heal("codfw.s", IdKey::of("z")).is_empty());
        let healed = gaps.heal("eqiad.s", IdKey::of("z"));
        assert_eq!((healed.len(), healed[0].status, gaps.open().len()), (1, GapStatus::Healed, 1));
    }

    #[test]
    fn the_last_entry_of_a_gap_counts() {
        let mut gaps = Gaps::default();
        let mut entry = gap("eqiad.s", "z", GapReason::NoWitness);
        gaps.learn(&serde_json::to_vec(&entry).unwrap());
        assert!(gaps.contains(&entry.id));
        entry.status = GapStatus::Accepted;
        gaps.learn(&serde_json::to_vec(&entry).unwrap());
        gaps.learn(b"something else");
        assert!(gaps.open().is_empty());
    }
}
