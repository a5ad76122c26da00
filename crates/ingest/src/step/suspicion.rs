//! What may be missing although nothing says so: a refused position, a start beyond retention, offsets that jump.

use schema::gap::{Edge, Gap, GapReason};

use crate::arrival::Arrival;
use crate::overlap::Asked;
use crate::position::Last;

use super::{Outcome, Step, edge};

impl Step {
    /// The first event after a position that the stream refused, or after a start beyond its retention.
    pub(super) fn look_for_gap(&mut self, source: usize, arrival: &Arrival, out: &mut Vec<Outcome>) {
        let Some(overlap) = self.overlaps.get(source).filter(|overlap| overlap.shown == 1) else { return };
        match overlap.asked {
            Asked::Latest => self.look_behind_latest(source, arrival, out),
            Asked::Time(asked) => self.look_behind_start(source, asked, arrival, out),
            Asked::Offset | Asked::Nothing => {}
        }
    }

    fn look_behind_latest(&mut self, source: usize, arrival: &Arrival, out: &mut Vec<Outcome>) {
        let is_known = self.is_known(arrival);
        let Some(state) = self.state.sources.get_mut(source) else { return };
        let Some(last) = &state.last else { return };
        let after = last.edge();
        if last.id == arrival.key.0 || after.is_followed_by(arrival.place.offset) {
            return;
        }
        let before = edge(arrival, state.time());
        let gap = Gap::between(&state.topic, after, before, GapReason::PositionRefused);
        if state.refused.is_none() {
            state.refused = state.t.zip(state.last.clone());
        }
        if let Some(overlap) = self.overlaps.get_mut(source) {
            overlap.is_chained = false;
        }
        // One that is known lies behind a gap that was declared before.
        if !is_known {
            self.declare(gap, out);
        }
    }

    fn look_behind_start(&mut self, source: usize, asked: i64, arrival: &Arrival, out: &mut Vec<Outcome>) {
        let Some(state) = self.state.sources.get(source).filter(|state| state.last.is_none()) else { return };
        let is_old = asked > 0 && asked < self.clock_ms - self.rules.retention_ms;
        let begins = self.trusted(arrival.place.time_ms);
        if is_old && begins.is_some_and(|begins| begins > asked + self.rules.margin_ms) {
            let before = edge(arrival, state.time());
            let gap = Gap::between(&state.topic, Edge::at(asked), before, GapReason::BeyondRetention);
            self.declare(gap, out);
        }
    }

    /// A jump of the source's offsets is a suspicion; at the same place in two connections it is a gap.
    pub(super) fn look_for_jump(&mut self, source: usize, arrival: &Arrival, out: &mut Vec<Outcome>) {
        let trusted = self.trusted(arrival.place.time_ms);
        let (Some(overlap), Some(attempts)) = (self.overlaps.get_mut(source), self.attempts.get_mut(source)) else {
            return;
        };
        let Some(offset) = arrival.place.offset else { return };
        let now = Last { id: arrival.key.0, offset: Some(offset), ms: trusted.unwrap_or(0) };
        let Some(previous) = overlap.previous.replace(now.clone()) else { return };
        let jump = (previous.offset.unwrap_or(offset), offset);
        if jump.1 <= jump.0 + 1 {
            return;
        }
        out.push(Outcome::Jump);
        if !attempts.jumps.contains(&jump) {
            overlap.note_jump(jump);
            return;
        }
        let Some(state) = self.state.sources.get(source) else { return };
        let gap = Gap::between(&state.topic, previous.edge(), now.edge(), GapReason::OffsetJump);
        if !self.gaps.contains(&gap.id) {
            self.declare(gap, out);
        }
    }
}
