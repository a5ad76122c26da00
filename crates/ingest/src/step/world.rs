//! A small world to try the judge in: two source topics with logs and offsets of their own, read in bursts, cut, killed,
//! switched, served by a second cluster. It knows every event that was made, sent or not.

use std::collections::{BTreeMap, BTreeSet};

use schema::gap::{Gap, GapStatus};
use schema::sse_id::{self, SourcePosition};
use uuid::Uuid;

use super::{Next, Outcome, Rules, Step};
use crate::arrival::{Arrival, Keep, Place, What};
use crate::gaps::Gaps;
use crate::position::{AHEAD_MS, IngestState, ResumeAt};
use crate::rebuild::{Seen, rebuild};
use crate::source::refusal::Refusal;
use crate::window::IdKey;

/// One second of the world.
const SECOND: i64 = 1000;
/// The resume margin, seconds.
pub(super) const MARGIN: i64 = 30;
pub(super) const TOPICS: [&str; 2] = ["eqiad.s", "codfw.s"];

/// Seeded choices: the same seed gives the same world.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from + 1).unwrap())).unwrap()
    }
}

/// What may go wrong, in chances of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disturbances {
    pub(super) cut: bool,
    pub(super) kill: u64,
    pub(super) restart: u64,
    pub(super) switch: u64,
    pub(super) back: u64,
    pub(super) ahead: u64,
    pub(super) future: u64,
    pub(super) retention: u64,
    pub(super) server: Server,
}

/// What the server may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Server {
    pub(super) cluster: u64,
    pub(super) lag: bool,
    pub(super) latest: u64,
    pub(super) not_served: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Edit,
    Canary,
    Other,
}

/// An event that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) time: i64,
    pub(super) number: u64,
    pub(super) kind: Kind,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) may: Disturbances,
    /// Seconds.
    pub(super) now: i64,
    pub(super) logs: [Vec<Made>; 2],
    /// First place that is still held.
    pub(super) base: [usize; 2],
    primary: usize,
    made: u64,
    cluster: Cluster,
    next_canary: i64,
}

/// The cluster that serves.
struct Cluster {
    is_second: bool,
    shift: [i64; 2],
    lag: usize,
}

/// One event as a connection shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) topic: usize,
    pub(super) made: Made,
    pub(super) offset: i64,
}

pub(super) fn id_of(number: u64) -> String {
    Uuid::from_u128(u128::from(number) + 1).to_string()
}

impl World {
    pub(super) fn new(seed: u64, may: Disturbances) -> Self {
        let mut random = Random(seed);
        // Numbers of two clusters are never close: an offset that another cluster gives to the event behind the last
        // handled one would hide what was lost between (docs/correctness.md).
        let shift =
            if may.server.cluster > 0 { [random.pick(&[0, 10_000]), random.pick(&[0, 20_000])] } else { [0, 0] };
        let now = 1_000_000;
        let next_canary = now + random.between(1, 300);
        Self {
            random,
            may,
            now,
            logs: [Vec::new(), Vec::new()],
            base: [0, 0],
            primary: 0,
            made: 0,
            cluster: Cluster { is_second: false, shift, lag: 0 },
            next_canary,
        }
    }

    fn add(&mut self, topic: usize, kind: Kind) {
        let mut time = self.now - self.random.between(0, 4);
        if self.random.chance(self.may.back) {
            time -= self.random.between(MARGIN, 8 * MARGIN);
        }
        if self.random.chance(self.may.ahead) {
            time += self.random.between(MARGIN, 8 * MARGIN);
        }
        if self.random.chance(self.may.future) {
            time = if self.random.chance(200) {
                -self.random.between(1, 1000)
            } else {
                self.now + AHEAD_MS / SECOND + self.random.between(1, 2000)
            };
        }
        self.made += 1;
        self.logs[topic].push(Made { time, number: self.made, kind });
    }

    pub(super) fn make(&mut self, count: u64) {
        for _ in 0..count {
            self.now += self.random.between(1, 3);
            if self.now >= self.next_canary {
                self.next_canary = self.now + self.random.pick(&[100, 300, 300]);
                self.add(0, Kind::Canary);
                self.add(1, Kind::Canary);
            }
            let kind = if self.random.chance(650) { Kind::Edit } else { Kind::Other };
            self.add(self.primary, kind);
        }
    }

    /// An edit in both topics, so that everything can be proven at the end.
    pub(super) fn make_both(&mut self) {
        self.now += 1;
        self.add(0, Kind::Edit);
        self.add(1, Kind::Edit);
    }

    pub(super) fn disturb(&mut self) {
        if self.random.chance(self.may.switch) {
            self.primary = 1 - self.primary;
        }
        if self.random.chance(self.may.server.cluster) {
            self.cluster.is_second = !self.cluster.is_second;
            self.cluster.lag = if self.may.server.lag { self.random.pick(&[0, 0, 3, 10]) } else { 0 };
        }
        if self.random.chance(self.may.retention) {
            for topic in [0, 1] {
                let kept = usize::try_from(self.random.below(9)).unwrap();
                self.base[topic] = self.base[topic].max(self.logs[topic].len().saturating_sub(kept));
            }
        }
    }

    pub(super) fn calm(&mut self) {
        self.cluster.lag = 0;
        self.may = Disturbances::default();
        self.now += 3 * MARGIN + 5 * AHEAD_MS / SECOND;
    }

    /// What the present cluster shows of a topic.
    fn view(&self, topic: usize) -> Vec<Shown> {
        let shift = if self.cluster.is_second { self.cluster.shift[topic] } else { 0 };
        let held = self.logs[topic].iter().enumerate().skip(self.base[topic]);
        let shown =
            held.map(|(place, made)| Shown { topic, made: *made, offset: i64::try_from(place).unwrap() + shift });
        let mut shown: Vec<Shown> = shown.collect();
        if self.cluster.is_second {
            shown.truncate(shown.len().saturating_sub(self.cluster.lag));
        }
        shown
    }

    /// What a connection shows: bursts of one topic, then of the other.
    pub(super) fn connect(&mut self, at: &ResumeAt, handled: [u64; 2]) -> Vec<Shown> {
        let views = [self.view(0), self.view(1)];
        let mut next = [0_usize; 2];
        for topic in [0, 1] {
            let view = &views[topic];
            next[topic] = match at {
                ResumeAt::Positions(positions) => {
                    let asked = positions.iter().find(|position| position.topic == TOPICS[topic]);
                    asked.map_or(view.len(), |position| place_of(view, position))
                }
                ResumeAt::Since(ms) => place_of(view, &sse_id::by_time(TOPICS[topic], 0, *ms)),
                ResumeAt::Latest | ResumeAt::AsReceived(_) => {
                    // The end, as it was when the connection was granted: no further back than what was handled.
                    let behind =
                        view.iter().position(|shown| shown.made.number == handled[topic]).map_or(0, |at| at + 1);
                    let back: usize = self.random.pick(&[0, 2, 8]);
                    behind.max(view.len().saturating_sub(back))
                }
            };
        }
        let order = if self.random.chance(500) { [0, 1] } else { [1, 0] };
        let mut shown = Vec::new();
        while (0..2).any(|topic| next[topic] < views[topic].len()) {
            for topic in order {
                for _ in 0..self.random.pick(&[2, 10, 40]) {
                    let Some(event) = views[topic].get(next[topic]) else { break };
                    next[topic] += 1;
                    shown.push(*event);
                }
            }
        }
        shown
    }
}

fn place_of(view: &[Shown], position: &SourcePosition) -> usize {
    let found = match (position.offset, position.timestamp) {
        (Some(offset), _) => view.iter().position(|shown| shown.offset == offset),
        (None, Some(ms)) => view.iter().position(|shown| shown.made.time * SECOND >= ms),
        (None, None) => None,
    };
    // None such: the latest.
    found.unwrap_or(view.len())
}

/// What is committed: the log, the ledger, the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Committed {
    pub(super) raw: Vec<Seen>,
    pub(super) gaps: BTreeMap<String, Gap>,
    state: String,
}

/// One ingest: the judge, what it has open, and what is committed.
pub(super) struct Client {
    pub(super) step: Step,
    pub(super) committed: Committed,
    open: Committed,
    ids: [Option<i64>; 2],
}

fn rules() -> Rules {
    Rules {
        margin_ms: MARGIN * SECOND,
        retention_ms: 1 << 50,
        most_ids: 1 << 20,
        types: BTreeSet::from(["edit".to_owned()]),
    }
}

impl Client {
    pub(super) fn new(start: i64) -> Self {
        let mut state = IngestState::first(start * SECOND, &BTreeMap::from([("raw".to_owned(), 1)]));
        for topic in TOPICS {
            state.source_or_new(topic, 0, start * SECOND);
        }
        let step = Step::new(state.clone(), crate::window::Window::default(), Gaps::default(), rules(), &[]);
        let committed = Committed { state: step.state().to_text(), ..Committed::default() };
        Self { step, committed, open: Committed::default(), ids: [None; 2] }
    }

    /// Begins again with what is committed.
    pub(super) fn recover(&mut self, now: i64) {
        self.open = Committed::default();
        let state = IngestState::parse(&self.committed.state).unwrap();
        let floor = state.floor("raw", 0).unwrap_or(0);
        let raw = self.committed.raw.iter().filter(|seen| seen.seq >= floor).cloned().collect();
        let (window, known_from) = rebuild(&state, raw, &[], &BTreeSet::new(), now * SECOND);
        let mut gaps = Gaps::default();
        self.committed.gaps.values().for_each(|gap| gaps.note(gap.clone()));
        self.step = Step::new(state, window, gaps, rules(), &known_from);
    }

    fn commit(&mut self) {
        self.step.prepare_commit();
        let open = std::mem::take(&mut self.open);
        self.committed.raw.extend(open.raw);
        self.committed.gaps.extend(open.gaps);
        self.committed.state = self.step.state().to_text();
    }

    fn handled(&self) -> [u64; 2] {
        TOPICS.map(|topic| {
            let source = self.step.state().source(topic, 0).and_then(|source| self.step.sources().get(source));
            let last = source.and_then(|source| source.last.as_ref());
            last.map_or(0, |last| u64::try_from(last.id.as_u128()).unwrap() - 1)
        })
    }

    fn arrival(&mut self, shown: &Shown) -> Arrival {
        self.ids[shown.topic] = Some(shown.made.time * SECOND + 1);
        let entries = TOPICS.iter().zip(self.ids).map(|(topic, time)| match time {
            Some(time) => {
                SourcePosition { topic: (*topic).to_owned(), partition: 0, offset: None, timestamp: Some(time) }
            }
            None => sse_id::by_offset(topic, 0, -1),
        });
        let sse_id = sse_id::to_header(&entries.collect::<Vec<_>>());
        let id = id_of(shown.made.number);
        let what = match shown.made.kind {
            Kind::Edit => What::Keep(Keep {
                topic: "raw".to_owned(),
                partition: 0,
                key: "k".to_owned(),
                change_type: "edit".to_owned(),
                meta: Default::default(),
            }),
            Kind::Canary => What::Canary,
            Kind::Other => What::Filtered("log".to_owned()),
        };
        let place = Place {
            topic: TOPICS[shown.topic].to_owned(),
            partition: 0,
            offset: Some(shown.offset),
            time_ms: Some(shown.made.time * SECOND),
        };
        Arrival { key: IdKey::of(&id), id, place, what, sse_id, data: Vec::new() }
    }

    fn write(&mut self, outcome: Outcome, now: i64) {
        match outcome {
            Outcome::Emit(arrival, seq) => self.open.raw.push(Seen {
                topic: "raw".to_owned(),
                partition: 0,
                seq,
                id: arrival.id,
                sse_id: arrival.sse_id,
                received_at_ms: now * SECOND,
                source: Some((arrival.place.topic, 0)),
                backfill: false,
            }),
            Outcome::Gap(gap) => drop(self.open.gaps.insert(gap.id.clone(), *gap)),
            _ => {}
        }
    }

    /// One connection, cut after so many events, killed at one of them, committed every so many. False where killed.
    pub(super) fn connection(&mut self, world: &mut World, cut: usize, kill: usize, every: usize) -> bool {
        self.ids = [None; 2];
        let mut at = self.step.plan(world.now * SECOND);
        if world.may.server.latest > 0 && world.random.chance(world.may.server.latest) {
            // The header is refused, each topic alone too, then since: what is left is the latest.
            while at != ResumeAt::Latest && self.step.refused(&Refusal::InvalidAssignment) {
                at = self.step.plan(world.now * SECOND);
            }
        }
        if world.may.server.not_served > 0 && world.random.chance(world.may.server.not_served) {
            let available = vec![TOPICS[usize::from(world.random.chance(500))].to_owned()];
            self.step.refused(&Refusal::TopicNotAvailable(available));
            at = self.step.plan(world.now * SECOND);
        }
        if self.step.connected() == Next::Reconnect {
            return true;
        }
        let shown = world.connect(&at, self.handled());
        let mut by_us = false;
        for (index, event) in shown.iter().enumerate() {
            if index == cut {
                break;
            }
            let arrival = self.arrival(event);
            let mut outcomes = Vec::new();
            let next = self.step.judge(arrival, world.now * SECOND, &mut outcomes);
            outcomes.into_iter().for_each(|outcome| self.write(outcome, world.now));
            if next == Next::Reconnect {
                by_us = true;
                break;
            }
            if index + 1 == kill {
                return false;
            }
            if (index + 1).is_multiple_of(every) {
                self.commit();
            }
        }
        self.step.ended(by_us);
        self.commit();
        true
    }
}

/// What was wrong at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) silent: Vec<u64>,
    pub(super) double: usize,
    pub(super) is_loose: bool,
    pub(super) false_gaps: Vec<Gap>,
    pub(super) false_heals: Vec<Gap>,
}

/// Compares what was made with what is committed.
pub(super) fn judge(world: &World, client: &Client, since: i64) -> Verdict {
    let raw = &client.committed.raw;
    let have: BTreeSet<&str> = raw.iter().map(|seen| seen.id.as_str()).collect();
    let mut missing = Vec::new();
    for (topic, log) in world.logs.iter().enumerate() {
        // Before the first start everything is somebody else's.
        let first = log.iter().position(|made| have.contains(id_of(made.number).as_str()) && made.kind == Kind::Edit);
        for (place, made) in log.iter().enumerate() {
            let is_before = made.time < since || first.is_none_or(|first| place < first);
            if made.kind == Kind::Edit && !is_before && !have.contains(id_of(made.number).as_str()) {
                missing.push((topic, place, made.number));
            }
        }
    }
    let place_of = |topic: usize, id: &str| world.logs[topic].iter().position(|made| id_of(made.number) == id);
    let bounds = |gap: &Gap| {
        let topic = TOPICS.iter().position(|topic| gap.is_of(topic))?;
        let after = place_of(topic, &gap.after.as_ref()?.id)?;
        let before = place_of(topic, &gap.before.as_ref()?.id)?;
        Some((topic, after, before))
    };
    let lies_in = |gap: &Gap, (topic, place): (usize, usize)| {
        bounds(gap).is_some_and(|(of, after, before)| of == topic && after < place && place < before)
    };
    let open = || client.committed.gaps.values().filter(|gap| gap.status == GapStatus::Open);
    let silent: Vec<(usize, usize, u64)> =
        missing.iter().copied().filter(|(topic, place, _)| !open().any(|gap| lies_in(gap, (*topic, *place)))).collect();
    // Where the stream has forgotten the last handled event, it cannot be known that nothing lay behind it.
    let is_real = |gap: &Gap| {
        let forgot = bounds(gap).is_none_or(|(topic, after, _)| after < world.base[topic]);
        forgot || missing.iter().any(|(topic, place, _)| lies_in(gap, (*topic, *place)))
    };
    let healed = client.committed.gaps.values().filter(|gap| gap.status == GapStatus::Healed);
    Verdict {
        double: raw.len() - have.len(),
        is_loose: raw.iter().enumerate().any(|(place, seen)| seen.seq != i64::try_from(place).unwrap()),
        false_gaps: open().filter(|gap| !is_real(gap)).cloned().collect(),
        false_heals: healed
            .filter(|gap| silent.iter().any(|(topic, place, _)| lies_in(gap, (*topic, *place))))
            .cloned()
            .collect(),
        silent: silent.into_iter().map(|(_, _, number)| number).collect(),
    }
}
