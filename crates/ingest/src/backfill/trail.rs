//! What a replay has shown of one source topic without a break, and what that leaves of a gap. Pure.

use std::collections::BTreeMap;

use schema::gap::{Edge, Gap, GapStatus};

/// Runs that are kept of one source topic; a further one replaces the last.
const MOST_RUNS: usize = 64;

/// Neighbours in a log that are all handled: known before, published now, or not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    first: Edge,
    last: Edge,
    /// Events at the sides of gaps that it showed, and their offsets.
    edges: BTreeMap<String, Option<i64>>,
}

/// The runs of one source topic.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Source topic.
    pub topic: String,
    /// Ids at the sides of its open gaps.
    sides: Vec<String>,
    runs: Vec<Run>,
    current: Option<Run>,
    /// What the connection before had shown: its last event has to be shown again.
    before: Option<Run>,
    /// An event was left to a later piece: what stands behind it in the log counts for nothing before that.
    is_frozen: bool,
}

impl Trail {
    /// Nothing was shown yet.
    #[must_use]
    pub fn new(topic: &str, open: &[Gap]) -> Self {
        let gaps = open.iter().filter(|gap| gap.is_of(topic));
        let sides = gaps.flat_map(|gap| gap.after.iter().chain(&gap.before)).map(|edge| edge.id.clone()).collect();
        Self { topic: topic.to_owned(), sides, runs: Vec::new(), current: None, before: None, is_frozen: false }
    }

    /// A piece begins: what the one before left to it is read now.
    pub const fn thaw(&mut self) {
        self.is_frozen = false;
    }

    /// The next event in the order of the log is left to a later piece.
    pub const fn leave(&mut self) {
        self.is_frozen = true;
    }

    /// A connection begins.
    pub fn connected(&mut self) {
        let run = self.current.take();
        if let Some(unproven) = std::mem::replace(&mut self.before, run) {
            self.keep(unproven);
        }
    }

    /// The next event in the order of the log; it is handled.
    pub fn handled(&mut self, event: &Edge) {
        if self.is_frozen {
            return;
        }
        if let Some(mut before) = self.before.take_if(|before| before.last.id == event.id) {
            let current = self.current.take();
            before.edges.extend(current.into_iter().flat_map(|run| run.edges));
            self.current = Some(before);
        }
        let is_side = self.sides.contains(&event.id);
        let run = self.current.get_or_insert_with(|| Run {
            first: event.clone(),
            last: event.clone(),
            edges: BTreeMap::new(),
        });
        run.last = event.clone();
        if is_side {
            run.edges.insert(event.id.clone(), event.offset);
        }
    }

    /// The next event in the order of the log; nobody handled it.
    pub fn broken(&mut self) {
        if let Some(run) = self.current.take() {
            self.keep(run);
        }
    }

    fn keep(&mut self, run: Run) {
        if self.runs.len() == MOST_RUNS {
            self.runs.pop();
        }
        self.runs.push(run);
    }

    /// What becomes of an open gap: `None` where nothing, else its new state first. It is closed where nothing is left
    /// of it, and smaller otherwise; where the middle was shown the further part is a gap of its own.
    pub fn close(&mut self, gap: &Gap) -> Option<Vec<Gap>> {
        if gap.status != GapStatus::Open || !gap.is_of(&self.topic) {
            return None;
        }
        let whole = (gap.after.clone()?, gap.before.clone()?);
        let mut left = vec![whole.clone()];
        for run in self.runs.iter().chain(&self.before).chain(&self.current) {
            left = left.into_iter().flat_map(|(after, before)| run.cut(after, before)).collect();
        }
        if left == [whole] {
            return None;
        }
        self.note_sides(&left);
        let gaps = left.into_iter().map(|(after, before)| Gap::between(&self.topic, after, before, gap.reason));
        let mut gaps: Vec<Gap> = gaps.collect();
        match gaps.first_mut() {
            Some(first) => gap.id.clone_into(&mut first.id),
            None => gaps.push(Gap { status: GapStatus::Healed, ..gap.clone() }),
        }
        Some(gaps)
    }

    /// The sides of what is left: a later look begins at them.
    fn note_sides(&mut self, left: &[(Edge, Edge)]) {
        let runs = self.runs.iter_mut().chain(&mut self.before).chain(&mut self.current);
        for run in runs {
            for edge in left.iter().flat_map(|(after, before)| [after, before]) {
                if run.first == *edge || run.last == *edge {
                    run.edges.insert(edge.id.clone(), edge.offset);
                }
            }
        }
        self.sides.extend(left.iter().flat_map(|(after, before)| [after.id.clone(), before.id.clone()]));
    }
}

impl Run {
    /// What is left of a stretch between two events.
    fn cut(&self, after: Edge, before: Edge) -> Vec<(Edge, Edge)> {
        let from_start = self.reaches_back_to(&after, &before);
        let to_end = self.reaches(&after, &before);
        let begins_inside = self.is_inside(&self.first, &after, &before);
        let ends_inside = self.is_inside(&self.last, &after, &before);
        match (from_start, to_end) {
            (true, true) => Vec::new(),
            (true, false) if ends_inside => vec![(self.last.clone(), before)],
            (false, true) if begins_inside => vec![(after, self.first.clone())],
            (false, false) if begins_inside && ends_inside => {
                vec![(after, self.first.clone()), (self.last.clone(), before)]
            }
            _ => vec![(after, before)],
        }
    }

    /// Its offsets are those of the gap: it showed a side of the gap at the same offset.
    fn counts_as(&self, after: &Edge, before: &Edge) -> bool {
        let is_same = |edge: &&Edge| edge.offset.is_some() && self.edges.get(&edge.id) == Some(&edge.offset);
        [after, before].iter().any(is_same)
    }

    fn reaches_back_to(&self, after: &Edge, before: &Edge) -> bool {
        if self.edges.contains_key(&after.id) {
            return true;
        }
        if after.id.is_empty() {
            // A start that was asked for, at which no event is known.
            return self.first.time_ms <= after.time_ms;
        }
        let offsets = self.first.offset.zip(after.offset);
        self.counts_as(after, before) && offsets.is_some_and(|(first, after)| first <= after + 1)
    }

    fn reaches(&self, after: &Edge, before: &Edge) -> bool {
        if self.edges.contains_key(&before.id) {
            return true;
        }
        let offsets = self.last.offset.zip(before.offset);
        self.counts_as(after, before) && offsets.is_some_and(|(last, before)| last + 1 >= before)
    }

    fn is_inside(&self, event: &Edge, after: &Edge, before: &Edge) -> bool {
        match (event.offset, after.offset, before.offset) {
            (Some(event), Some(low), Some(high)) if self.counts_as(after, before) => low < event && event < high,
            _ => after.time_ms < event.time_ms && event.time_ms < before.time_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::gap::GapReason;

    fn edge(number: i64) -> Edge {
        Edge { id: format!("e{number}"), offset: Some(number), time_ms: number * 1000 }
    }

    fn gap() -> Gap {
        Gap::between("a.s", edge(10), edge(20), GapReason::NoWitness)
    }

    fn trail() -> Trail {
        Trail::new("a.s", &[gap()])
    }

    fn show(trail: &mut Trail, events: std::ops::RangeInclusive<i64>) {
        trail.connected();
        events.for_each(|number| trail.handled(&edge(number)));
    }

    fn left(trail: &mut Trail) -> Option<Vec<(i64, i64)>> {
        let ends = |gap: Gap| (gap.after.unwrap().offset.unwrap(), gap.before.unwrap().offset.unwrap());
        let left = trail.close(&gap())?;
        assert_eq!(left[0].id, gap().id, "the same gap");
        Some(left.into_iter().filter(|gap| gap.status == GapStatus::Open).map(ends).collect())
    }

    #[test]
    fn a_gap_that_was_shown_from_one_side_to_the_other_is_closed() {
        let mut trail = trail();
        show(&mut trail, 9..=21);
        assert_eq!(left(&mut trail), Some(vec![]));
        assert_eq!(trail.close(&Gap { source_topics: vec!["b.s".into()], ..gap() }), None, "of another topic");
    }

    #[test]
    fn what_the_stream_no_longer_holds_is_left() {
        let mut trail = trail();
        show(&mut trail, 15..=21);
        assert_eq!(left(&mut trail), Some(vec![(10, 15)]));
        let mut trail = self::trail();
        show(&mut trail, 5..=14);
        assert_eq!(left(&mut trail), Some(vec![(14, 20)]));
        let mut trail = self::trail();
        show(&mut trail, 13..=15);
        assert_eq!(left(&mut trail), Some(vec![(10, 13), (15, 20)]));
    }

    #[test]
    fn an_event_that_nobody_handled_keeps_the_gap_open_around_it() {
        let mut trail = trail();
        show(&mut trail, 9..=13);
        trail.broken();
        (15..=21).for_each(|number| trail.handled(&edge(number)));
        assert_eq!(left(&mut trail), Some(vec![(13, 15)]));
    }

    #[test]
    fn a_later_connection_goes_on_where_it_shows_the_last_event_again() {
        let mut trail = trail();
        show(&mut trail, 9..=14);
        show(&mut trail, 12..=21);
        assert_eq!(left(&mut trail), Some(vec![]));
        let mut trail = self::trail();
        show(&mut trail, 9..=14);
        show(&mut trail, 16..=21);
        assert_eq!(left(&mut trail), Some(vec![(14, 16)]), "the stream forgot what lies between");
    }

    #[test]
    fn a_gap_that_became_smaller_is_closed_by_whoever_goes_on_from_there() {
        let mut first = trail();
        show(&mut first, 9..=14);
        let smaller = first.close(&gap()).unwrap().remove(0);
        // The same reader,
        (15..=21).for_each(|number| first.handled(&edge(number)));
        assert_eq!(first.close(&smaller).unwrap()[0].status, GapStatus::Healed);
        // and another replica, which begins a margin before.
        let mut second = Trail::new("a.s", std::slice::from_ref(&smaller));
        show(&mut second, 13..=21);
        assert_eq!(second.close(&smaller).unwrap()[0].status, GapStatus::Healed);
    }

    #[test]
    fn what_lies_outside_of_a_gap_leaves_it_alone() {
        let mut trail = trail();
        show(&mut trail, 1..=9);
        show(&mut trail, 22..=30);
        assert_eq!(left(&mut trail), None);
    }

    #[test]
    fn offsets_of_another_cluster_prove_nothing() {
        let mut trail = trail();
        trail.connected();
        (15..=21).for_each(|number| trail.handled(&Edge { offset: Some(number - 12), ..edge(number) }));
        let left = trail.close(&gap()).unwrap();
        assert_eq!((left.len(), left[0].before.as_ref().unwrap().id.as_str()), (1, "e15"));
    }
}
