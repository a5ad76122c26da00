//! Known ids and positions, made again from what raw records say. Pure.

use std::collections::BTreeSet;

use schema::sse_id::{self, SourcePosition};

use crate::position::{AHEAD_MS, IngestState, SourceState};
use crate::step::Rules;
use crate::window::{IdKey, KeptUnder, RawPartition, Window};

/// A source without a time of its own begins this much before the least of the others after an upgrade.
const UPGRADE_BACK_MS: i64 = 3_600_000;

/// What a raw record says of the event that it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Raw topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Place in the sequence.
    pub seq: i64,
    /// The event's id.
    pub id: String,
    /// The SSE id as received.
    pub sse_id: String,
    /// When it was written, Unix milliseconds.
    pub received_at_ms: i64,
    /// `meta.topic` and `meta.partition`, where they can be read.
    pub source: Option<(String, i32)>,
    /// It was fetched after the fact: it says nothing of positions.
    pub backfill: bool,
}

/// The log time that an SSE id holds for a source.
fn time_in(ids: &[SourcePosition], topic: &str, partition: i32) -> Option<i64> {
    let own = ids.iter().find(|entry| entry.topic == topic && entry.partition == partition)?;
    own.timestamp.map(|time| time - 1)
}

/// Known ids from raw records and dead letters (id, SSE id), and per source how far back they reach: none where whole.
///
/// `cut` names the partitions whose log begins behind the first record that is needed.
pub fn rebuild(
    state: &IngestState,
    mut raw: Vec<Seen>,
    dead_letters: &[(String, String)],
    cut: &BTreeSet<RawPartition>,
    now_ms: i64,
) -> (Window, Vec<Option<i64>>) {
    let mut window = Window::default();
    // In the order in which they were handled: the greatest time so far is what an id was kept under.
    raw.sort_by(|a, b| {
        (a.received_at_ms, &a.topic, a.partition, a.seq).cmp(&(b.received_at_ms, &b.topic, b.partition, b.seq))
    });
    let mut greatest: Vec<Option<i64>> = vec![None; state.sources.len()];
    let mut known_from: Vec<Option<i64>> = vec![None; state.sources.len()];
    let mut first_of_cut: BTreeSet<(RawPartition, usize)> = BTreeSet::new();
    for seen in &raw {
        let ids = sse_id::parse(&seen.sse_id).unwrap_or_default();
        let named = seen.source.as_ref().and_then(|(topic, partition)| state.source(topic, *partition));
        let source = named.or_else(|| only_timed(state, &ids)).unwrap_or(0);
        let Some(known) = state.sources.get(source) else { continue };
        let own = time_in(&ids, &known.topic, known.partition).filter(|time| (0..=now_ms + AHEAD_MS).contains(time));
        let Some(slot) = greatest.get_mut(source) else { continue };
        *slot = if seen.backfill { *slot } else { (*slot).max(own) };
        let kept = KeptUnder { source, time_ms: slot.or(own).unwrap_or_else(|| known.time()) };
        let partition = (seen.topic.clone(), seen.partition);
        if cut.contains(&partition)
            && first_of_cut.insert((partition.clone(), source))
            && let Some(from) = known_from.get_mut(source)
        {
            *from = (*from).max(Some(kept.time_ms));
        }
        window.insert_raw(IdKey::of(&seen.id), kept, partition, seen.seq);
    }
    // A cut partition without a record of a source says nothing of it: as if nothing before its position were known.
    for (index, from) in known_from.iter_mut().enumerate() {
        let is_empty = |partition: &RawPartition| !first_of_cut.contains(&(partition.clone(), index));
        if cut.iter().any(is_empty) {
            *from = state.sources.get(index).map(SourceState::time);
        }
    }
    for (id, sse_id) in dead_letters {
        let ids = sse_id::parse(sse_id).unwrap_or_default();
        let key = IdKey::of(id);
        for (source, known) in state.sources.iter().enumerate() {
            let own = time_in(&ids, &known.topic, known.partition).unwrap_or_else(|| known.time());
            let kept = KeptUnder { source, time_ms: own.max(known.time()) };
            if source == 0 { window.insert_loose(key, kept) } else { window.keep(key, kept) }
        }
    }
    (window, known_from)
}

/// The one source that an SSE id has a time of.
fn only_timed(state: &IngestState, ids: &[SourcePosition]) -> Option<usize> {
    let mut timed = ids.iter().filter(|entry| entry.timestamp.is_some());
    let one = timed.next().filter(|_| timed.next().is_none())?;
    state.source(&one.topic, one.partition)
}

/// Gives a state of an older release, which has one time for all, a position for each source topic.
///
/// Its time is the greatest in the last records of all raw partitions: it was delivered before that record. The
/// last handled event is unknown: known ids prove the first connection.
pub fn upgrade(state: &mut IngestState, source_topics: &[String], lasts: &[Seen], rules: &Rules) {
    let records: Vec<Vec<SourcePosition>> =
        lasts.iter().filter(|seen| !seen.backfill).filter_map(|seen| sse_id::parse(&seen.sse_id)).collect();
    let mut pairs: BTreeSet<(String, i32)> = source_topics.iter().map(|topic| (topic.clone(), 0)).collect();
    pairs.extend(records.iter().flatten().map(|entry| (entry.topic.clone(), entry.partition)));
    let time_of = |(topic, partition): &(String, i32)| {
        records.iter().filter_map(|ids| time_in(ids, topic, *partition)).filter(|time| *time >= 0).max()
    };
    let least = pairs.iter().filter_map(time_of).min();
    let has_own_records = |topic: &str, partition: i32| {
        lasts.iter().any(|seen| seen.source.as_ref().is_some_and(|(own, at)| own == topic && *at == partition))
    };
    for pair in &pairs {
        let start = least.map_or(state.start, |least| state.start.max(least - UPGRADE_BACK_MS));
        let index = state.source_or_new(&pair.0, pair.1, start);
        let Some(source) = state.sources.get_mut(index) else { continue };
        match time_of(pair) {
            // With records of its own a known id proves it; without, whatever is not known is new.
            Some(time) if has_own_records(&pair.0, pair.1) => source.t = Some(time),
            Some(time) => source.start = time - rules.margin_ms,
            None => {}
        }
    }
    if !lasts.is_empty() {
        state.seen = true;
    }
    state.summarise();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const A: &str = "eqiad.s";
    const B: &str = "codfw.s";

    fn rules() -> Rules {
        Rules { margin_ms: 30_000, retention_ms: 0, most_ids: 100, types: BTreeSet::new() }
    }

    fn seen(partition: i32, seq: i64, source: &str, a: Option<i64>, b: Option<i64>) -> Seen {
        let entry = |topic: &str, time: Option<i64>| match time {
            Some(time) => sse_id::by_time(topic, 0, time + 1),
            None => sse_id::by_offset(topic, 0, -1),
        };
        Seen {
            topic: "raw".to_owned(),
            partition,
            seq,
            id: format!("{partition}-{seq}"),
            sse_id: sse_id::to_header(&[entry(A, a), entry(B, b)]),
            received_at_ms: seq,
            source: Some((source.to_owned(), 0)),
            backfill: false,
        }
    }

    fn state() -> IngestState {
        IngestState::first(5_000, &BTreeMap::from([("raw".to_owned(), 2)]))
    }

    #[test]
    fn an_upgrade_gives_each_source_its_own_time() {
        let mut state = state();
        let lasts = [seen(0, 7, A, Some(10_000_000), None), seen(1, 9, A, Some(9_000_000), Some(30_000_000))];
        upgrade(&mut state, &[A.to_owned(), B.to_owned()], &lasts, &rules());
        let (a, b) = (state.source(A, 0).unwrap(), state.source(B, 0).unwrap());
        assert_eq!((state.sources[a].t, &state.sources[a].last), (Some(10_000_000), &None));
        assert_eq!(
            (state.sources[b].t, state.sources[b].start),
            (None, 29_970_000),
            "no record of its own: from there on"
        );
        assert_eq!(state.t, 10_000_000);
    }

    #[test]
    fn a_source_without_a_time_begins_an_hour_before_the_others() {
        let mut state = state();
        upgrade(&mut state, &[A.to_owned(), B.to_owned()], &[seen(0, 7, A, Some(10_000_000), None)], &rules());
        let b = state.source(B, 0).unwrap();
        assert_eq!((state.sources[b].t, state.sources[b].start), (None, 6_400_000));
    }

    #[test]
    fn ids_are_kept_under_the_greatest_time_so_far_and_a_cut_log_is_told() {
        let mut state = state();
        upgrade(&mut state, &[A.to_owned(), B.to_owned()], &[seen(0, 3, A, Some(400), None)], &rules());
        let raw = vec![seen(0, 1, A, Some(300), None), seen(0, 2, A, Some(100), None), seen(0, 3, A, Some(400), None)];
        let (window, known_from) = rebuild(&state, raw.clone(), &[], &BTreeSet::new(), 0);
        assert_eq!((window.len(), known_from.iter().flatten().count()), (3, 0));
        assert_eq!(window.oldest_ms(), Some(300));
        let (_, known_from) = rebuild(&state, raw, &[], &BTreeSet::from([("raw".to_owned(), 0)]), 0);
        assert_eq!(known_from[state.source(A, 0).unwrap()], Some(300));
    }

    #[test]
    fn dead_letters_are_known_of_every_source() {
        let mut state = state();
        upgrade(&mut state, &[A.to_owned(), B.to_owned()], &[seen(0, 3, A, Some(400), None)], &rules());
        let dead = [("sha256:x".to_owned(), String::new())];
        let (window, _) = rebuild(&state, Vec::new(), &dead, &BTreeSet::new(), 0);
        assert!(window.contains_of(IdKey::of("sha256:x"), 0) && window.contains_of(IdKey::of("sha256:x"), 1));
    }
}
