//! Single cases of the judge.

use std::collections::{BTreeMap, BTreeSet};

use schema::gap::{Gap, GapReason, GapStatus};
use schema::sse_id;

use super::{Next, Outcome, Rules, Step};
use crate::arrival::{Arrival, Keep, Place, What};
use crate::gaps::Gaps;
use crate::position::{IngestState, ResumeAt};
use crate::source::refusal::Refusal;
use crate::window::{IdKey, Window};

const A: &str = "eqiad.s";
const B: &str = "codfw.s";
/// The present.
const NOW: i64 = 10_000_000_000;
const MARGIN: i64 = 30_000;

fn rules(types: &[&str]) -> Rules {
    Rules {
        margin_ms: MARGIN,
        retention_ms: 3_000_000,
        most_ids: 1000,
        types: types.iter().map(|kind| (*kind).to_owned()).collect::<BTreeSet<_>>(),
    }
}

fn state(start: i64) -> IngestState {
    let mut state = IngestState::first(start, &BTreeMap::from([("raw".to_owned(), 1)]));
    state.source_or_new(A, 0, start);
    state.source_or_new(B, 0, start);
    state
}

fn step(start: i64) -> Step {
    Step::new(state(start), Window::default(), Gaps::default(), rules(&["edit"]), &[])
}

fn event(topic: &str, name: &str, offset: i64, time_ms: i64) -> Arrival {
    let keep = Keep {
        topic: "raw".to_owned(),
        partition: 0,
        key: "k".to_owned(),
        change_type: "edit".to_owned(),
        meta: Default::default(),
    };
    Arrival {
        id: name.to_owned(),
        key: IdKey::of(name),
        place: Place { topic: topic.to_owned(), partition: 0, offset: Some(offset), time_ms: Some(time_ms) },
        what: What::Keep(keep),
        sse_id: sse_id::to_header(&[sse_id::by_time(topic, 0, time_ms + 1)]),
        data: Vec::new(),
    }
}

fn edits(range: std::ops::Range<i64>) -> Vec<Arrival> {
    range.map(|n| event(A, &format!("e{n}"), n, NOW - 1_000_000 + n * 1000)).collect()
}

/// One connection: what it emitted, the gaps that it wrote, and how it ended.
fn connection(step: &mut Step, events: Vec<Arrival>) -> (Vec<String>, Vec<Gap>, ResumeAt) {
    let at = step.plan(NOW);
    assert_eq!(step.connected(), Next::Read);
    let mut out = Vec::new();
    let by_us = events.into_iter().any(|event| step.judge(event, NOW, &mut out) == Next::Reconnect);
    step.ended(by_us);
    step.prepare_commit();
    let emitted = out.iter().filter_map(|outcome| match outcome {
        Outcome::Emit(arrival, _) => Some(arrival.id.clone()),
        _ => None,
    });
    let gaps = out.iter().filter_map(|outcome| match outcome {
        Outcome::Gap(gap) => Some((**gap).clone()),
        _ => None,
    });
    (emitted.collect(), gaps.collect(), at)
}

#[test]
fn the_other_data_centres_canaries_move_only_their_own_position() {
    let mut step = step(NOW - 2_000_000);
    let mut events = edits(0..3);
    events.insert(0, Arrival { what: What::Canary, ..event(B, "c", 7, NOW - 1000) });
    connection(&mut step, events);
    let times: Vec<i64> = step.sources().iter().map(crate::position::SourceState::time).collect();
    assert_eq!(times, [NOW - 998_000, NOW - 1000]);
    let sent = step.plan(NOW).header().unwrap();
    assert!(sent.contains(&format!(r#""{A}","partition":0,"timestamp":{}"#, NOW - 998_000 - MARGIN)), "{sent}");
}

#[test]
fn what_came_before_the_last_handled_event_is_dropped_and_what_follows_is_new() {
    let mut step = step(NOW - 2_000_000);
    connection(&mut step, edits(0..5));
    let (emitted, gaps, _) = connection(&mut step, edits(2..7));
    assert_eq!((emitted, gaps), (vec!["e5".to_owned(), "e6".to_owned()], vec![]));
}

#[test]
fn a_type_that_is_kept_from_now_on_is_not_taken_for_lost_where_it_was_filtered() {
    let mut first = step(NOW - 2_000_000);
    connection(&mut first, edits(0..5));
    let mut step =
        Step::new(first.state().clone(), Window::default(), Gaps::default(), rules(&["edit", "log"]), &[None, None]);
    let mut log = event(A, "log", 90, NOW - 1_000_000 + 3500);
    if let What::Keep(keep) = &mut log.what {
        keep.change_type = "log".to_owned();
    }
    let mut new_log = Arrival { id: "new".to_owned(), key: IdKey::of("new"), ..log.clone() };
    new_log.place.time_ms = Some(NOW - 990_000);
    let mut events = edits(3..4);
    events.push(log);
    events.extend(edits(4..5));
    events.push(new_log);
    let (emitted, gaps, _) = connection(&mut step, events);
    assert_eq!((emitted, gaps), (vec!["e3".to_owned(), "new".to_owned()], vec![]), "e3's id is not known here");
}

#[test]
fn a_start_beyond_the_streams_retention_is_a_gap_with_right_bounds() {
    let asked = NOW - 5_000_000;
    let mut step = step(asked);
    let (emitted, gaps, _) = connection(&mut step, edits(0..2));
    assert_eq!(emitted.len(), 2);
    assert_eq!((gaps.len(), gaps[0].reason), (1, GapReason::BeyondRetention));
    assert_eq!((gaps[0].from_ms, gaps[0].to_ms), (asked, NOW - 1_000_000));
}

#[test]
fn a_start_at_the_earliest_is_no_gap() {
    let (_, gaps, _) = connection(&mut step(0), edits(0..2));
    assert_eq!(gaps, []);
}

#[test]
fn offsets_that_jump_at_the_same_place_twice_are_a_gap() {
    let mut step = step(NOW - 2_000_000);
    let holed = || edits(0..2).into_iter().chain(edits(4..6)).collect::<Vec<_>>();
    let (_, gaps, _) = connection(&mut step, holed());
    assert_eq!(gaps, [], "once is a suspicion");
    let (emitted, gaps, _) = connection(&mut step, holed());
    assert_eq!((emitted.len(), gaps.len(), gaps[0].reason), (0, 1, GapReason::OffsetJump));
    assert_eq!(gaps[0].estimated_events, 2);
    let (_, gaps, _) = connection(&mut step, holed());
    assert_eq!(gaps, [], "the gap is declared once");
}

#[test]
fn a_forgotten_position_is_a_gap_between_the_two_events_and_all_that_follows_is_new() {
    let mut step = step(NOW - 2_000_000);
    connection(&mut step, edits(0..5));
    let mut found = Vec::new();
    let mut emitted = Vec::new();
    for _ in 0..4 {
        let (new, gaps, _) = connection(&mut step, edits(100..110));
        emitted.extend(new);
        found.extend(gaps);
    }
    assert_eq!(emitted.len(), 10);
    let [gap] = found.as_slice() else { panic!("one gap: {found:?}") };
    assert_eq!((gap.reason, gap.estimated_events, gap.status), (GapReason::NoWitness, 95, GapStatus::Open));
    assert_eq!((gap.from_ms, gap.to_ms), (NOW - 996_000, NOW - 900_000));
    assert!(gap.is_of(A) && !gap.is_of(B));
}

#[test]
fn a_refused_position_is_tried_again_and_heals_by_what_is_shown() {
    let mut step = step(NOW - 2_000_000);
    connection(&mut step, edits(0..5));
    step.plan(NOW);
    while step.refused(&Refusal::InvalidAssignment) && step.plan(NOW) != ResumeAt::Latest {}
    let (emitted, gaps, at) = connection(&mut step, edits(9..11));
    assert_eq!((emitted.len(), gaps.len(), at), (2, 1, ResumeAt::Latest));
    let (emitted, healed, _) = connection(&mut step, edits(3..12));
    assert_eq!(emitted, ["e5", "e6", "e7", "e8", "e11"]);
    assert_eq!((healed.len(), healed[0].status), (1, GapStatus::Healed));
}

#[test]
fn connections_that_end_within_the_margin_are_followed_by_offset() {
    let mut step = step(NOW - 2_000_000);
    connection(&mut step, edits(0..29));
    let (emitted, _, _) = connection(&mut step, edits(0..10));
    assert_eq!(emitted.len(), 0);
    let (emitted, _, at) = connection(&mut step, edits(28..40));
    assert!(at.header().unwrap().contains(r#""offset":28"#), "{at:?}");
    assert_eq!(emitted.len(), 11);
}

#[test]
fn a_connection_that_ends_with_the_last_handled_event_is_followed_by_offset_and_is_no_trouble() {
    let mut step = step(NOW - 2_000_000);
    connection(&mut step, edits(0..5));
    step.plan(NOW);
    step.connected();
    let mut out = Vec::new();
    edits(2..5).into_iter().for_each(|event| assert_eq!(step.judge(event, NOW, &mut out), Next::Read));
    assert_eq!(step.ended(false).stuck, 0, "as a quiet stream does");
    let sent = step.plan(NOW).header().unwrap();
    assert!(sent.contains(r#""offset":4"#), "an odd time may bring the same events again: {sent}");
}
