//! Before a source is proven: what is held, what proves it, and what is given up.

use schema::gap::{Edge, Gap, GapReason};

use crate::arrival::{Arrival, What};
use crate::overlap::{Asked, Overlap};
use crate::position::{Last, REACH_MARGINS};

use super::{Next, Outcome, Step, edge};

impl Step {
    /// An event of a source that is not proven yet.
    pub(super) fn before(&mut self, source: usize, arrival: Arrival, out: &mut Vec<Outcome>) -> Next {
        let last_id = self.last(source).map(|last| last.id);
        let is_proof = match last_id {
            Some(id) => id == arrival.key.0,
            // Taken over from an older release: any known event of this source proves.
            None => self.window.contains_of(arrival.key, source),
        };
        if is_proof {
            self.prove(source, &arrival, out);
            return Next::Read;
        }
        let has_offset = self.last(source).is_some_and(|last| last.offset.is_some());
        let behind = self.state.sources.get(source).map_or(0, |state| state.time() + self.rules.margin_ms);
        let is_new = !self.is_known(&arrival);
        // A known event was handled before the last one, whatever its time: a time in the future may be trusted by now.
        let is_late = is_new && self.trusted(arrival.place.time_ms).is_some_and(|time| time > behind);
        let (Some(overlap), Some(attempts)) = (self.overlaps.get_mut(source), self.attempts.get_mut(source)) else {
            return Next::Read;
        };
        if overlap.asked == Asked::Offset {
            // Another cluster, or the event is gone: by time then, until that proves.
            attempts.offset_failed = true;
            attempts.tried = attempts.tried.max(1);
            self.resume.by_offset = false;
            return Next::Reconnect;
        }
        if is_late {
            overlap.came_late();
        }
        let is_last_way = attempts.is_last_way(has_offset);
        if is_last_way || (is_new && self.is_publishable(source, &arrival)) {
            if let Some(overlap) = self.overlaps.get_mut(source) {
                overlap.hold(arrival);
            }
            out.push(Outcome::Held);
        } else {
            out.push(Outcome::Repeat);
        }
        let (Some(overlap), Some(attempts)) = (self.overlaps.get(source), self.attempts.get_mut(source)) else {
            return Next::Read;
        };
        if !overlap.is_overdue() {
            return Next::Read;
        }
        if !is_last_way && attempts.next_way(has_offset) {
            return Next::Reconnect;
        }
        self.give_up(source, out);
        Next::Read
    }

    /// The last handled event is shown. What came before it was handled, but for what should be known and is not.
    fn prove(&mut self, source: usize, arrival: &Arrival, out: &mut Vec<Outcome>) {
        out.push(Outcome::Proven);
        let held = self.overlaps.get_mut(source).map(Overlap::settle).unwrap_or_default();
        for held in held {
            if self.is_publishable(source, &held) && !self.is_known(&held) {
                self.take(source, held, out);
            } else {
                out.push(Outcome::Repeat);
            }
        }
        if let Some(attempts) = self.attempts.get_mut(source) {
            attempts.proven();
            let last = self.state.sources.get_mut(source).and_then(|state| state.last.as_mut());
            match last {
                Some(last) if arrival.place.offset.is_some() => {
                    attempts.other_cluster = last.offset.is_some() && last.offset != arrival.place.offset;
                    last.offset = arrival.place.offset;
                }
                Some(_) => {}
                None => self.move_to(source, arrival),
            }
        }
        out.push(Outcome::Repeat);
    }

    /// Whether an unknown event before the last handled one may be published: its id would be known if it had been.
    fn is_publishable(&self, source: usize, arrival: &Arrival) -> bool {
        let Some((state, attempts)) = self.state.sources.get(source).zip(self.attempts.get(source)) else {
            return false;
        };
        let kind = match &arrival.what {
            What::Keep(keep) => Some(keep.change_type.as_str()),
            What::Reject(_) => None,
            What::Canary | What::Filtered(_) => return false,
        };
        let Some(time) = self.trusted(arrival.place.time_ms) else { return false };
        let reaches = time >= state.time() - (REACH_MARGINS - 1) * self.rules.margin_ms;
        let is_whole = attempts.known_from_ms.is_none_or(|from| time > from);
        let was_kept = state.types_at.is_none_or(|at| {
            time > at || kind.is_none_or(|kind| self.state.types_before.iter().any(|known| known == kind))
        });
        reaches && is_whole && was_kept
    }

    /// The stream does not hold the last handled event: a gap from it to what came first, which is all new.
    fn give_up(&mut self, source: usize, out: &mut Vec<Outcome>) {
        if self.overlaps.get(source).is_none_or(|overlap| overlap.held() == 0) {
            return;
        }
        out.push(Outcome::Unproven);
        let held = self.overlaps.get_mut(source).map(Overlap::settle).unwrap_or_default();
        if let Some(attempts) = self.attempts.get_mut(source) {
            attempts.proven();
        }
        if let (Some(state), Some(first)) = (self.state.sources.get(source), held.first()) {
            let from = state.last.as_ref().map_or_else(|| Edge::at(state.time()), Last::edge);
            if !from.is_followed_by(first.place.offset) {
                let gap = Gap::between(&state.topic, from, edge(first, state.time()), GapReason::NoWitness);
                self.declare(gap, out);
            }
        }
        held.into_iter().for_each(|held| self.follow(source, held, out));
    }
}
