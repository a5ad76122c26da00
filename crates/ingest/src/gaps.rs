//! The gap ledger: what could not be proven whole is written down, and when it heals too.

use schema::gap::{Gap, GapReason, GapStatus};

/// The gaps that are open.
#[derive(Debug, Default)]
pub struct Gaps {
    open: Vec<Gap>,
}

impl Gaps {
    /// Takes the next entry of the ledger: the last one of each gap counts.
    pub fn learn(&mut self, entry: &[u8]) {
        let Ok(gap) = serde_json::from_slice::<Gap>(entry) else { return };
        self.open.retain(|known| known.id != gap.id);
        if gap.status == GapStatus::Open {
            self.open.push(gap);
        }
    }

    /// Opens a gap.
    pub fn declare(&mut self, source_topics: &[String], from_ms: i64, to_ms: i64, reason: GapReason) -> Gap {
        let gap = Gap::open(source_topics.to_vec(), from_ms, to_ms, reason);
        self.open.retain(|known| known.id != gap.id);
        self.open.push(gap.clone());
        gap
    }

    /// The gaps that a proven replay has covered: it began before them and has passed their end.
    pub fn heal(&mut self, replay_from_ms: i64, passed_ms: i64) -> Vec<Gap> {
        let covered = |gap: &Gap| replay_from_ms <= gap.from_ms && gap.to_ms < passed_ms;
        let (mut healed, open): (Vec<Gap>, Vec<Gap>) = std::mem::take(&mut self.open).into_iter().partition(covered);
        self.open = open;
        for gap in &mut healed {
            gap.status = GapStatus::Healed;
        }
        healed
    }

    /// Number of open gaps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_that_covers_a_gap_heals_it_and_no_other() {
        let mut gaps = Gaps::default();
        gaps.declare(&[], 100, 200, GapReason::NoWitness);
        gaps.declare(&[], 500, 900, GapReason::NoWitness);
        assert!(gaps.heal(150, 1000).iter().all(|gap| gap.from_ms == 500), "a replay from within heals nothing");
        assert_eq!(gaps.len(), 1);
        let healed = gaps.heal(90, 201);
        assert_eq!((healed.len(), healed[0].status), (1, GapStatus::Healed));
        assert!(gaps.is_empty());
    }
}
