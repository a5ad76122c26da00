//! A stretch of the stream that is read again: what of it is missing, and what that closes. Pure, but for `known`.
//!
//! Live reading goes by the order of the log. Here identity decides: the ids of all that was ever published of a piece
//! are known before it is read, so that what is not among them is missing (docs/correctness.md).

pub mod known;
pub mod trail;

use std::collections::HashSet;

use schema::gap::Edge;

use crate::arrival::{Arrival, What};
use crate::position::SourceState;
use crate::window::IdKey;
use trail::Trail;

/// Margins before a source's position from which on an event is live reading's own.
const LIVE_MARGINS: i64 = 2;

/// What becomes of an event of the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is missing.
    Publish,
    /// It was published before, or is not kept.
    Handled,
    /// It does not belong to this piece.
    Outside,
}

/// How far one source topic's partition is.
#[derive(Clone, Debug)]
pub struct Track {
    /// Its partition.
    pub partition: i32,
    /// Log time at which the piece ends for it.
    pub end_ms: i64,
    /// Greatest log time shown.
    pub greatest_ms: Option<i64>,
    /// Everything before the end was shown.
    pub is_over: bool,
    /// What was shown without a break.
    pub trail: Trail,
}

/// A part of a stretch, short enough to hold the ids of all that was published of it.
#[derive(Debug)]
pub struct Piece {
    /// Log time at which it begins.
    pub from_ms: i64,
    /// Margin of a resume.
    pub margin_ms: i64,
    /// One for each source that is asked for.
    pub tracks: Vec<Track>,
    known: HashSet<IdKey>,
}

/// Until when a source may be read again: what is later is live reading's own.
#[must_use]
pub fn limit(source: &SourceState, margin_ms: i64) -> Option<i64> {
    source.t.map(|_| source.needed_from() - LIVE_MARGINS * margin_ms)
}

impl Piece {
    /// Begins; `known` are the ids of all that was published of it.
    #[must_use]
    pub fn new(from_ms: i64, margin_ms: i64, mut tracks: Vec<Track>, known: HashSet<IdKey>) -> Self {
        tracks.iter_mut().for_each(|track| track.trail.thaw());
        Self { from_ms, margin_ms, tracks, known }
    }

    /// Log time from which on a connection has to show a source.
    #[must_use]
    pub fn resume_ms(&self, track: &Track) -> i64 {
        track.greatest_ms.unwrap_or(self.from_ms).max(self.from_ms) - self.margin_ms
    }

    /// A connection begins.
    pub fn connected(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.trail.connected());
    }

    /// Judges one event. `is_known` says what live reading knows of an id.
    pub fn judge(&mut self, arrival: &Arrival, clock_ms: i64, is_known: impl Fn(IdKey) -> bool) -> Verdict {
        let is_kept = matches!(arrival.what, What::Keep(_) | What::Reject(_));
        let is_handled = !is_kept || self.known.contains(&arrival.key) || is_known(arrival.key);
        let place = &arrival.place;
        let of_place = |track: &&mut Track| track.trail.topic == place.topic && track.partition == place.partition;
        let (from_ms, margin_ms) = (self.from_ms, self.margin_ms);
        let Some(track) = self.tracks.iter_mut().find(of_place) else {
            // An event that names no source may stand anywhere.
            if place.topic.is_empty() && !is_handled {
                self.tracks.iter_mut().for_each(|track| track.trail.broken());
            }
            return Verdict::Outside;
        };
        let time_ms = place.time_ms.filter(|time| (0..=clock_ms).contains(time));
        if let Some(time_ms) = time_ms {
            track.greatest_ms = track.greatest_ms.max(Some(time_ms));
            track.is_over |= time_ms >= track.end_ms + margin_ms;
            if time_ms >= track.end_ms {
                if !is_handled {
                    track.trail.leave();
                }
                return Verdict::Outside;
            }
        }
        let is_inside = time_ms.is_some_and(|time_ms| time_ms >= from_ms);
        if !is_handled && !is_inside {
            track.trail.broken();
            return Verdict::Outside;
        }
        let time_ms = time_ms.or(track.greatest_ms).unwrap_or(from_ms);
        track.trail.handled(&Edge { id: arrival.key.to_string(), offset: place.offset, time_ms });
        if is_handled {
            return Verdict::Handled;
        }
        self.known.insert(arrival.key);
        Verdict::Publish
    }

    /// Whether everything before its end was shown.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tracks.iter().all(|track| track.is_over)
    }

    /// What was shown, for the next piece.
    #[must_use]
    pub fn into_tracks(self) -> Vec<Track> {
        self.tracks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::{Keep, Place};
    use schema::gap::{Gap, GapReason, GapStatus};

    fn event(number: i64, topic: &str) -> Arrival {
        let id = format!("e{number}");
        let keep = Keep {
            topic: "raw".into(),
            partition: 0,
            key: String::new(),
            change_type: "edit".into(),
            meta: Default::default(),
        };
        Arrival {
            key: IdKey::of(&id),
            id,
            place: Place { topic: topic.into(), partition: 0, offset: Some(number), time_ms: Some(number * 1000) },
            what: What::Keep(keep),
            sse_id: String::new(),
            data: Vec::new(),
        }
    }

    fn piece(from: i64, end: i64, known: &[i64]) -> Piece {
        let track = Track {
            partition: 0,
            end_ms: end * 1000,
            greatest_ms: None,
            is_over: false,
            trail: Trail::new("a.s", &[]),
        };
        let known = known.iter().map(|number| IdKey::of(&format!("e{number}"))).collect();
        let mut piece = Piece::new(from * 1000, 5_000, vec![track], known);
        piece.connected();
        piece
    }

    #[test]
    fn what_is_missing_in_the_piece_is_published_once_and_nothing_outside() {
        let mut piece = piece(10, 20, &[12]);
        let mut judge = |number| piece.judge(&event(number, "a.s"), 1 << 40, |_| false);
        assert_eq!(
            [7, 11, 12, 11, 20].map(&mut judge),
            [Verdict::Outside, Verdict::Publish, Verdict::Handled, Verdict::Handled, Verdict::Outside]
        );
        assert_eq!(piece.judge(&event(13, "a.s"), 1 << 40, |_| true), Verdict::Handled, "live reading knows it");
        assert_eq!(piece.judge(&event(14, "b.s"), 1 << 40, |_| false), Verdict::Outside, "not asked for");
        assert_eq!(piece.judge(&event(15, "a.s"), 14_000, |_| false), Verdict::Outside, "a time in the future");
    }

    #[test]
    fn a_piece_is_over_a_margin_behind_its_end_and_a_connection_goes_on_a_margin_before_what_was_shown() {
        let mut piece = piece(10, 20, &[]);
        assert_eq!(piece.resume_ms(&piece.tracks[0]), 5_000);
        piece.judge(&event(17, "a.s"), 1 << 40, |_| false);
        assert_eq!((piece.resume_ms(&piece.tracks[0]), piece.is_over()), (12_000, false));
        piece.judge(&event(24, "a.s"), 1 << 40, |_| false);
        assert!(!piece.is_over());
        piece.judge(&event(25, "a.s"), 1 << 40, |_| false);
        assert!(piece.is_over());
    }

    /// A log of one source: kept events and canaries, times out of order within the margin.
    struct World {
        random: u64,
        log: Vec<Arrival>,
        known: HashSet<IdKey>,
        /// First place that the stream still holds.
        base: usize,
        /// The stream forgets more while it is read.
        forgets: bool,
    }

    const MARGIN: i64 = 5_000;

    impl World {
        fn new(seed: u64) -> Self {
            let mut world = Self { random: seed, log: Vec::new(), known: HashSet::new(), base: 0, forgets: false };
            // What is missing stands in stretches, as gaps do.
            let mut is_missing = false;
            for number in 0..200_i64 {
                let mut event = event(number, "a.s");
                let back = i64::try_from(world.below(4)).unwrap() * 1_000;
                event.place.time_ms = Some(number * 1_000 + 10_000 - back);
                if world.below(5) == 0 {
                    event.what = What::Canary;
                }
                is_missing ^= world.below(12) == 0;
                if !is_missing && matches!(event.what, What::Keep(_)) {
                    world.known.insert(event.key);
                }
                world.log.push(event);
            }
            world.base = if world.below(3) == 0 { world.below(120) } else { 0 };
            world.forgets = world.below(4) == 0;
            world
        }

        fn below(&mut self, bound: u64) -> usize {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((self.random >> 33) % bound).unwrap()
        }

        /// The first place whose time is not before this, as Kafka finds it.
        fn place(&self, time_ms: i64) -> usize {
            let behind = self.log.iter().skip(self.base).position(|event| event.place.time_ms >= Some(time_ms));
            behind.map_or(self.log.len(), |behind| self.base + behind)
        }

        fn edge(&self, place: usize) -> Edge {
            let event = &self.log[place];
            Edge { id: event.key.to_string(), offset: event.place.offset, time_ms: event.place.time_ms.unwrap() }
        }

        /// Reads `from` to `to` again in pieces, with connections that are cut anywhere.
        fn replay(&mut self, from_ms: i64, to_ms: i64, gap: &Gap) -> (Vec<IdKey>, Option<Vec<Gap>>) {
            let mut published = Vec::new();
            let trail = Trail::new("a.s", std::slice::from_ref(gap));
            let mut tracks = vec![Track { partition: 0, end_ms: 0, greatest_ms: None, is_over: false, trail }];
            let mut reached_ms = from_ms;
            while reached_ms < to_ms {
                let end_ms = to_ms.min(reached_ms + 40_000);
                for track in &mut tracks {
                    (track.end_ms, track.greatest_ms, track.is_over) = (end_ms, None, false);
                }
                let mut piece = Piece::new(reached_ms, MARGIN, tracks, self.known.clone());
                while !piece.is_over() {
                    piece.connected();
                    if self.forgets && self.below(4) == 0 {
                        self.base = (self.base + self.below(60)).min(self.log.len() - 12);
                    }
                    let start = self.place(piece.resume_ms(&piece.tracks[0]));
                    // A cut within the margin shows nothing new: the last try of a connection is whole.
                    let length = if self.below(3) == 0 { self.log.len() } else { 8 + self.below(40) };
                    for event in self.log.iter().skip(start).take(length) {
                        if piece.judge(event, i64::MAX, |id| published.contains(&id)) == Verdict::Publish {
                            published.push(event.key);
                        }
                        if piece.is_over() {
                            break;
                        }
                    }
                }
                tracks = piece.into_tracks();
                reached_ms = end_ms;
            }
            (published, tracks[0].trail.close(gap))
        }
    }

    #[test]
    fn in_any_world_what_is_missing_is_published_once_and_a_gap_is_closed_only_where_nothing_is_missing() {
        let mut closed = 0;
        for seed in 0..3_000 {
            let mut world = World::new(seed);
            let (after, before) = (10 + world.below(60), 90 + world.below(60));
            let gap = Gap::between("a.s", world.edge(after), world.edge(before), GapReason::NoWitness);
            let (from_ms, to_ms) = (5_000 + 1_000 * i64::try_from(world.below(100)).unwrap(), 175_000);
            let (published, closes) = world.replay(from_ms, to_ms, &gap);
            let is_due = |(place, event): &(usize, &Arrival)| {
                let time_ms = event.place.time_ms.unwrap();
                *place >= world.base
                    && (from_ms..to_ms).contains(&time_ms)
                    && matches!(event.what, What::Keep(_))
                    && !world.known.contains(&event.key)
            };
            let due: HashSet<IdKey> = world.log.iter().enumerate().filter(is_due).map(|(_, event)| event.key).collect();
            let once: HashSet<IdKey> = published.iter().copied().collect();
            assert_eq!(published.len(), once.len(), "seed {seed}: each once");
            // What was forgotten meanwhile may have been read before or not.
            assert!(due.is_subset(&once) && (world.forgets || once == due), "seed {seed}");
            let is_handled = |event: &Arrival| {
                !matches!(event.what, What::Keep(_)) || world.known.contains(&event.key) || once.contains(&event.key)
            };
            let open: Vec<Gap> = closes.unwrap_or_else(|| vec![gap.clone()]);
            for place in after + 1..before {
                let offset = world.log[place].place.offset.unwrap();
                let is_open = open.iter().any(|gap| gap.status == GapStatus::Open && gap.holds("a.s", offset, 0));
                assert!(is_open || is_handled(&world.log[place]), "seed {seed}: {place} is missing and in no gap");
            }
            closed += usize::from(open.iter().all(|gap| gap.status == GapStatus::Healed));
        }
        assert!(closed > 100, "some are closed whole: {closed}");
    }
}
