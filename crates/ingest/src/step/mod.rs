//! What becomes of one event: new, known, held or not proven. Pure: no clock, no client, no metrics.
//!
//! One rule decides: until a source's last handled event is shown in a connection, or a gap is declared, nothing of
//! that source moves. From there on, what is not known is new, whatever its time (docs/correctness.md).

#[cfg(test)]
mod cases;
mod commit;
mod proof;
mod suspicion;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::BTreeSet;

use schema::gap::{Edge, Gap};

use crate::arrival::{Arrival, What};
use crate::gaps::Gaps;
use crate::overlap::{Asked, Attempts, Overlap, Phase};
use crate::position::{AHEAD_MS, IngestState, Last, ResumeAt, SourceState};
use crate::resume::{Mode, Resume};
use crate::source::refusal::Refusal;
use crate::window::{IdKey, KeptUnder, Window};

/// The settings that decide.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How far behind the position a resume begins.
    pub margin_ms: i64,
    /// How far back the stream is known to reach.
    pub retention_ms: i64,
    /// Ids that are held at most.
    pub most_ids: usize,
    /// Types of changes that are kept.
    pub types: BTreeSet<String>,
}

/// What became of an event, or of one that was held before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Write a raw record with this sequence number.
    Emit(Box<Arrival>, i64),
    /// Write a dead letter.
    Reject(Box<Arrival>),
    /// Not kept: a canary, or a type that is filtered.
    Skip(What),
    /// Known already.
    Repeat,
    /// Held until its source is proven.
    Held,
    /// A source was proven.
    Proven,
    /// A source could not be proven; a gap follows where something may be missing.
    Unproven,
    /// Its log time is not trusted.
    OddTime,
    /// The source's offsets jumped before it.
    Jump,
    /// An entry of the gap ledger, as it is now.
    Gap(Box<Gap>),
}

/// What to do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read on.
    Read,
    /// Connect again: another way to ask is due.
    Reconnect,
}

/// What a connection's end changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Events that were held and are forgotten: they come again.
    pub forgotten: usize,
    /// Connections in a row that ended before they showed anything new.
    pub stuck: u32,
}

/// What one connection has shown.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    is_connected: bool,
    any: bool,
    new: bool,
}

/// The judge of one term.
#[derive(Debug)]
pub struct Step {
    state: IngestState,
    window: Window,
    gaps: Gaps,
    rules: Rules,
    resume: Resume,
    attempts: Vec<Attempts>,
    overlaps: Vec<Overlap>,
    shown: Shown,
    clock_ms: i64,
}

impl Step {
    /// Begins with what was recovered. `known_from_ms` says per source how far back known ids reach; none: all of them.
    #[must_use]
    pub fn new(state: IngestState, window: Window, gaps: Gaps, rules: Rules, known_from_ms: &[Option<i64>]) -> Self {
        let attempts = (0..state.sources.len()).map(|index| Attempts {
            known_from_ms: known_from_ms.get(index).copied().flatten(),
            ..Attempts::default()
        });
        let attempts = attempts.collect();
        let mut step = Self {
            state,
            window,
            gaps,
            rules,
            resume: Resume::default(),
            attempts,
            overlaps: Vec::new(),
            shown: Shown::default(),
            clock_ms: 0,
        };
        step.take_types();
        step
    }

    /// What the next commit carries.
    #[must_use]
    pub const fn state(&self) -> &IngestState {
        &self.state
    }

    /// The settings.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Known ids.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// The open gaps.
    pub const fn gaps(&mut self) -> &mut Gaps {
        &mut self.gaps
    }

    /// Names of the sources that the server refuses to serve.
    #[must_use]
    pub fn excluded(&self) -> Vec<String> {
        let sources = self.resume.excluded().iter().filter_map(|index| self.state.sources.get(*index));
        sources.map(SourceState::name).collect()
    }

    /// Where the next connection begins.
    pub fn plan(&mut self, clock_ms: i64) -> ResumeAt {
        self.clock_ms = clock_ms;
        self.shown = Shown::default();
        let (at, overlaps) = self.resume.plan(&self.state, &mut self.attempts, self.rules.margin_ms, clock_ms);
        self.overlaps = overlaps;
        at
    }

    /// The server took the position. A position that was refused once is taken up again.
    pub fn connected(&mut self) -> Next {
        self.shown.is_connected = true;
        if let Mode::Single(_) = self.resume.mode {
            self.resume.probed(self.state.sources.len());
            return Next::Reconnect;
        }
        for (source, overlap) in self.state.sources.iter_mut().zip(&self.overlaps) {
            if !matches!(overlap.asked, Asked::Latest | Asked::Nothing)
                && let Some((t, last)) = source.refused.take()
            {
                (source.t, source.last) = (Some(t), Some(last));
            }
        }
        Next::Read
    }

    /// The server refused the position. False where no other way to ask is left but to wait.
    pub fn refused(&mut self, refusal: &Refusal) -> bool {
        self.resume.refused(refusal, &self.state)
    }

    /// The connection is over, ended by the stream or `by_us`.
    pub fn ended(&mut self, by_us: bool) -> Ended {
        // Nothing new came: by time it might be the same again. Where every source was proven that is a quiet stream.
        let is_idle = !by_us && self.shown.any && !self.shown.new;
        let is_before = |overlap: &Overlap| overlap.phase == Phase::Before && overlap.shown > 0;
        let is_stuck = is_idle && self.overlaps.iter().any(is_before);
        if self.shown.any {
            self.resume.answered();
        }
        for (overlap, attempts) in self.overlaps.iter().zip(&mut self.attempts) {
            if !by_us && self.shown.is_connected && overlap.asked == Asked::Offset && overlap.shown == 0 {
                // An offset that the log does not hold means its end: nothing came.
                attempts.offset_failed = true;
            } else if is_stuck && overlap.phase == Phase::Before && matches!(overlap.asked, Asked::Time(_)) {
                attempts.offset_failed = false;
            }
        }
        if self.shown.new {
            self.resume.stuck = 0;
        }
        self.resume.by_offset |= is_idle;
        self.resume.stuck += u32::from(is_stuck);
        for (overlap, attempts) in self.overlaps.iter_mut().zip(&mut self.attempts) {
            attempts.jumps = std::mem::take(&mut overlap.jumps);
        }
        let forgotten = self.overlaps.iter().map(Overlap::held).sum();
        self.overlaps.clear();
        Ended { forgotten, stuck: if is_stuck { self.resume.stuck } else { 0 } }
    }

    /// Whether the connection has shown anything new.
    #[must_use]
    pub const fn has_new(&self) -> bool {
        self.shown.new
    }

    /// Judges one event and moves on. What is to be written is appended to `out`, in this order.
    pub fn judge(&mut self, arrival: Arrival, clock_ms: i64, out: &mut Vec<Outcome>) -> Next {
        self.clock_ms = clock_ms;
        self.shown.any = true;
        let Some(source) = self.locate(&arrival) else {
            self.unplaced(arrival, out);
            return Next::Read;
        };
        let Some(overlap) = self.overlaps.get_mut(source) else { return Next::Read };
        overlap.shown += 1;
        let phase = overlap.phase;
        self.look_for_jump(source, &arrival, out);
        match phase {
            Phase::After => {
                self.after(source, arrival, out);
                Next::Read
            }
            Phase::Before => self.before(source, arrival, out),
        }
    }

    /// The source of an event; one that no id named before is noted.
    fn locate(&mut self, arrival: &Arrival) -> Option<usize> {
        let place = &arrival.place;
        if place.topic.is_empty() {
            // What names no place can still be the last handled event of a source that waits for it.
            let is_last = |(index, overlap): &(usize, &Overlap)| {
                overlap.phase == Phase::Before && self.last(*index).is_some_and(|last| last.id == arrival.key.0)
            };
            return self.overlaps.iter().enumerate().find(is_last).map(|(index, _)| index);
        }
        let start = place.time_ms.unwrap_or(self.clock_ms).min(self.clock_ms);
        let source = self.state.source_or_new(&place.topic, place.partition, start);
        if self.overlaps.len() <= source {
            self.overlaps.push(Overlap::new(Asked::Time(start), Phase::After));
        }
        if self.attempts.len() <= source {
            self.attempts.push(Attempts::default());
        }
        Some(source)
    }

    fn last(&self, source: usize) -> Option<&Last> {
        self.state.sources.get(source)?.last.as_ref()
    }

    fn is_known(&self, arrival: &Arrival) -> bool {
        self.knows(arrival.key)
    }

    /// Whether a log time may move a position.
    fn trusted(&self, time_ms: Option<i64>) -> Option<i64> {
        time_ms.filter(|time| (0..=self.clock_ms.saturating_add(AHEAD_MS)).contains(time))
    }

    /// An event that names no source: it moves nothing, and is known by its id only.
    fn unplaced(&mut self, arrival: Arrival, out: &mut Vec<Outcome>) {
        if self.is_known(&arrival) {
            out.push(Outcome::Repeat);
            return;
        }
        self.shown.new = true;
        let kept: Vec<KeptUnder> = (0..self.state.sources.len()).map(|source| self.kept_under(source, None)).collect();
        let key = arrival.key;
        self.write(arrival, kept.first().copied().unwrap_or(KeptUnder { source: 0, time_ms: 0 }), out);
        for kept in kept.into_iter().skip(1) {
            self.window.keep(key, kept);
        }
    }

    /// Whether live reading knows an id.
    #[must_use]
    pub fn knows(&self, id: IdKey) -> bool {
        self.window.contains(id) || self.state.odd.iter().any(|(known, _)| *known == id.0)
    }

    /// Writes an event that a backfill found missing. It moves no position, and is known under its own time.
    pub fn backfill(&mut self, arrival: Arrival, out: &mut Vec<Outcome>) {
        let source = self.state.source(&arrival.place.topic, arrival.place.partition).unwrap_or(0);
        let kept = KeptUnder { source, time_ms: arrival.place.time_ms.unwrap_or(0) };
        self.write(arrival, kept, out);
    }

    fn kept_under(&self, source: usize, time_ms: Option<i64>) -> KeptUnder {
        let handled = self.state.sources.get(source).map_or(0, SourceState::time);
        KeptUnder { source, time_ms: handled.max(self.trusted(time_ms).unwrap_or(handled)) }
    }

    /// An event of a source that is proven: what is not known is new.
    fn after(&mut self, source: usize, arrival: Arrival, out: &mut Vec<Outcome>) {
        self.look_for_gap(source, &arrival, out);
        self.follow(source, arrival, out);
    }

    /// The next event in the order of the log, known or new.
    fn follow(&mut self, source: usize, arrival: Arrival, out: &mut Vec<Outcome>) {
        let is_chained = self.overlaps.get(source).is_some_and(|overlap| overlap.is_chained);
        if let Some(state) = self.state.sources.get(source).filter(|_| is_chained) {
            let healed = self.gaps.heal(&state.topic, arrival.key);
            out.extend(healed.into_iter().map(|gap| Outcome::Gap(Box::new(gap))));
        }
        self.move_to(source, &arrival);
        if self.is_known(&arrival) {
            if self.window.contains(arrival.key) {
                self.window.keep(arrival.key, self.kept_under(source, arrival.place.time_ms));
            }
            out.push(Outcome::Repeat);
        } else {
            self.take(source, arrival, out);
        }
    }

    fn declare(&mut self, gap: Gap, out: &mut Vec<Outcome>) {
        self.gaps.note(gap.clone());
        out.push(Outcome::Gap(Box::new(gap)));
    }

    /// This event is now the last handled one of its source.
    fn move_to(&mut self, source: usize, arrival: &Arrival) {
        let trusted = self.trusted(arrival.place.time_ms);
        let Some(state) = self.state.sources.get_mut(source) else { return };
        let t = state.t.max(trusted).unwrap_or(state.start);
        state.t = Some(t);
        state.last = Some(Last { id: arrival.key.0, offset: arrival.place.offset, ms: trusted.unwrap_or(t) });
        self.shown.new = true;
    }

    /// A new event: written, or counted.
    fn take(&mut self, source: usize, arrival: Arrival, out: &mut Vec<Outcome>) {
        self.shown.new = true;
        let time = arrival.place.time_ms;
        if time.is_some() && self.trusted(time).is_none() {
            self.state.note_odd(arrival.key, source);
            out.push(Outcome::OddTime);
        }
        let kept = self.kept_under(source, time);
        self.write(arrival, kept, out);
    }

    fn write(&mut self, arrival: Arrival, kept: KeptUnder, out: &mut Vec<Outcome>) {
        match &arrival.what {
            What::Keep(keep) => {
                let (topic, partition) = (keep.topic.clone(), keep.partition);
                let seq = self.state.take_seq(&topic, partition);
                self.window.insert_raw(arrival.key, kept, (topic, partition), seq);
                out.push(Outcome::Emit(Box::new(arrival), seq));
            }
            What::Reject(_) => {
                self.window.insert_loose(arrival.key, kept);
                out.push(Outcome::Reject(Box::new(arrival)));
            }
            What::Canary | What::Filtered(_) => out.push(Outcome::Skip(arrival.what)),
        }
    }
}

/// The side of a gap that an event is.
fn edge(arrival: &Arrival, otherwise_ms: i64) -> Edge {
    let time_ms = arrival.place.time_ms.filter(|time| *time >= 0).unwrap_or(otherwise_ms);
    Edge { id: arrival.key.to_string(), offset: arrival.place.offset, time_ms }
}
