//! Reads a stretch of the stream again, as `wiki backfill` asks, beside the live connection and piece by piece.
//!
//! How far it is stands in the gap ledger, in the same transaction as the records: another replica continues there.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use schema::backfill::{Backfill, BackfillStatus};
use schema::gap::Gap;
use schema::sse_id;

use super::{Worker, now_ms};
use crate::arrival::{Arrival, Reader, What};
use crate::backfill::known::{self, Known, Wanted};
use crate::backfill::trail::Trail;
use crate::backfill::{Piece, Track, Verdict, limit};
use crate::context::TURN_LIMIT;
use crate::error::TermEnd;
use crate::position::ResumeAt;
use crate::source::{Connection, Item};
use crate::window::IdKey;

/// Length of a piece in log time; half of it where it holds more ids than are kept.
const PIECE_MS: i64 = 3_600_000;
/// No piece is shorter.
const LEAST_PIECE_MS: i64 = 60_000;
/// Events of the replay that are taken between two of the live stream.
const TURN_EVENTS: usize = 100;
/// Wait before the ids are read again, or the stream is connected again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is read again, if anything.
#[derive(Default)]
pub(super) struct Backfilling {
    active: Option<Active>,
}

struct Active {
    request: Backfill,
    /// What was shown of each source so far.
    tracks: Vec<Track>,
    piece_ms: i64,
    /// What the piece before published: the broker may not show it yet.
    fresh: HashSet<IdKey>,
    phase: Phase,
}

enum Phase {
    /// Nothing is under way until then.
    Waiting(Instant),
    /// The ids of a piece that ends there are read.
    Ids(i64, Receiver<Result<Known, kafka::Error>>),
    /// The stream is read.
    Reading(Box<Reading>),
}

struct Reading {
    end_ms: i64,
    piece: Piece,
    connection: Option<Connection>,
    again: Instant,
}

impl Backfilling {
    /// Whether events of a replay are expected.
    pub(super) fn is_reading(&self) -> bool {
        matches!(&self.active, Some(Active { phase: Phase::Reading(reading), .. }) if reading.connection.is_some())
    }
}

impl Worker<'_> {
    /// Does a little of what is asked for.
    pub(super) fn backfill_turn(&mut self) -> Result<(), TermEnd> {
        let active = match self.backfill.active.take() {
            Some(active) => active,
            None => match self.step.gaps().requested().cloned() {
                Some(request) => self.begin_backfill(request),
                None => return Ok(()),
            },
        };
        self.backfill.active = self.advance(active)?;
        Ok(())
    }

    fn begin_backfill(&mut self, request: Backfill) -> Active {
        tracing::info!(backfill = request.backfill, reached_ms = request.reached_ms, "reading a stretch again");
        let open: Vec<Gap> = self.step.gaps().open().to_vec();
        let tracks = self.step.sources().iter().map(|source| Track {
            partition: source.partition,
            end_ms: request.to_ms,
            greatest_ms: None,
            is_over: false,
            trail: Trail::new(&source.topic, &open),
        });
        let tracks = tracks.collect();
        let phase = Phase::Waiting(Instant::now());
        Active { request, tracks, piece_ms: PIECE_MS, fresh: HashSet::new(), phase }
    }

    /// One step; nothing is left where it is over.
    fn advance(&mut self, mut active: Active) -> Result<Option<Active>, TermEnd> {
        match std::mem::replace(&mut active.phase, Phase::Waiting(Instant::now())) {
            Phase::Waiting(until) if Instant::now() < until => active.phase = Phase::Waiting(until),
            Phase::Waiting(_) => return self.next_piece(active),
            Phase::Ids(end_ms, found) => match found.try_recv() {
                Err(TryRecvError::Empty) => active.phase = Phase::Ids(end_ms, found),
                Ok(Ok(Known::Whole(ids))) => {
                    active.phase = Phase::Reading(Box::new(self.piece(&mut active, end_ms, ids)))
                }
                Ok(Ok(Known::TooMany)) if active.piece_ms > LEAST_PIECE_MS => active.piece_ms /= 2,
                Ok(Ok(Known::TooMany)) => {
                    return self.refuse(active, "more events than can be held were published in one minute of it");
                }
                Ok(Ok(Known::NotWhole(sentence))) => return self.refuse(active, &sentence),
                Ok(Err(error)) => {
                    tracing::warn!(error = error.sentence(), "what was published cannot be read: trying again");
                    active.phase = Phase::Waiting(Instant::now() + AGAIN);
                }
                Err(TryRecvError::Disconnected) => active.phase = Phase::Waiting(Instant::now() + AGAIN),
            },
            Phase::Reading(reading) => return self.read_on(active, reading),
        }
        Ok(Some(active))
    }

    /// Refuses what cannot be done, or begins to read the ids of the next piece.
    fn next_piece(&mut self, mut active: Active) -> Result<Option<Active>, TermEnd> {
        let margin_ms = self.step.rules().margin_ms;
        let oldest_ms = now_ms() - self.step.rules().retention_ms;
        let from_ms = active.request.reached_ms;
        if active.request.from_ms < oldest_ms {
            let hours = self.context.config.stream.stream_retention_hours;
            return self.refuse(active, &format!("the stream holds no event that is older than {hours} hours"));
        }
        let most = self.step.sources().iter().filter_map(|source| limit(source, margin_ms)).max();
        let most = most.unwrap_or(0).min(active.request.to_ms);
        if from_ms >= most {
            return if from_ms == active.request.from_ms {
                self.refuse(active, "live reading has not passed it yet: what is missing of it comes by itself")
            } else {
                self.finish_backfill(active)
            };
        }
        let end_ms = most.min(from_ms.saturating_add(active.piece_ms));
        let topics = self.context.config.kafka.topics();
        let state = self.step.state();
        let written = state.seq.iter().filter(|(_, seqs)| seqs.iter().any(|seq| *seq > 0));
        let raw: BTreeSet<String> = written.map(|(topic, _)| topic.clone()).collect();
        let wanted = Wanted {
            from_ms: from_ms - 2 * margin_ms,
            to_ms: end_ms + 2 * margin_ms,
            raw,
            dead_letters: topics.dead_letters_of(&topics.raw),
        };
        let (sender, found) = channel();
        let kafka = self.context.kafka.clone();
        let spawned = self.context.service.tasks.spawn_thread("ingest-backfill", TURN_LIMIT, move |heartbeat| {
            let read = known::read(&kafka, &wanted, || heartbeat.beat());
            // The term may be over.
            let _ = sender.send(read);
            Ok(())
        });
        spawned.map_err(TermEnd::Failed)?;
        active.phase = Phase::Ids(end_ms, found);
        Ok(Some(active))
    }

    fn piece(&self, active: &mut Active, end_ms: i64, mut ids: HashSet<IdKey>) -> Reading {
        let margin_ms = self.step.rules().margin_ms;
        ids.extend(active.fresh.drain());
        let mut tracks = std::mem::take(&mut active.tracks);
        for track in &mut tracks {
            let source = self.step.state().source(&track.trail.topic, track.partition);
            let source = source.and_then(|index| self.step.sources().get(index));
            let limit = source.and_then(|source| limit(source, margin_ms)).unwrap_or(0);
            track.end_ms = end_ms.min(limit);
            track.greatest_ms = None;
            track.is_over = track.end_ms <= active.request.reached_ms;
        }
        let piece = Piece::new(active.request.reached_ms, margin_ms, tracks, ids);
        Reading { end_ms, piece, connection: None, again: Instant::now() }
    }

    fn read_on(&mut self, mut active: Active, mut reading: Box<Reading>) -> Result<Option<Active>, TermEnd> {
        for _ in 0..TURN_EVENTS {
            if reading.piece.is_over() {
                return self.end_piece(active, *reading);
            }
            let Some(connection) = &mut reading.connection else {
                if Instant::now() < reading.again {
                    break;
                }
                reading.connect(&self.stream.source, self.stream.routes.clone());
                break;
            };
            match connection.next(&self.context.runtime, Duration::ZERO) {
                None => break,
                Some(Item::Connected { .. }) => reading.piece.connected(),
                Some(Item::Arrived(arrival)) => self.replayed(&mut active, &mut reading.piece, *arrival)?,
                Some(Item::Ended(end)) => {
                    reading.connection = None;
                    if let Some(refusal) = &end.refusal {
                        return self.refuse(active, &format!("the stream refuses it: {refusal:?}"));
                    }
                    let wait = end.retry_after.unwrap_or(AGAIN);
                    tracing::info!("backfill: {}; trying again in {} s", end.sentence, wait.as_secs());
                    reading.again = Instant::now() + wait;
                }
            }
        }
        active.phase = Phase::Reading(reading);
        Ok(Some(active))
    }

    fn replayed(&mut self, active: &mut Active, piece: &mut Piece, arrival: Arrival) -> Result<(), TermEnd> {
        self.count(&arrival);
        let verdict = piece.judge(&arrival, now_ms(), |id| self.step.knows(id));
        let reason = match (verdict, &arrival.what) {
            (Verdict::Publish, _) => {
                active.request.published += 1;
                active.fresh.insert(arrival.key);
                let mut outcomes = Vec::with_capacity(1);
                self.step.backfill(arrival, &mut outcomes);
                self.output.handled();
                return outcomes.into_iter().try_for_each(|outcome| self.carry_out(outcome, true));
            }
            (Verdict::Outside, _) => "outside",
            (Verdict::Handled, What::Canary) => "canary",
            (Verdict::Handled, What::Filtered(_)) => "filtered",
            (Verdict::Handled, _) => "duplicate",
        };
        self.context.metrics.dropped.with_label_values(&[reason]).inc();
        Ok(())
    }

    /// A piece is read to its end: its place goes into the ledger with its records.
    fn end_piece(&mut self, mut active: Active, reading: Reading) -> Result<Option<Active>, TermEnd> {
        let end_ms = reading.end_ms;
        active.tracks = reading.piece.into_tracks();
        active.request.reached_ms = end_ms;
        self.close_gaps(&mut active.tracks)?;
        self.output.backfill(&active.request)?;
        self.step.gaps().note_request(active.request.clone());
        self.commit()?;
        let Backfill { backfill, published, .. } = &active.request;
        tracing::info!(backfill, reached_ms = end_ms, published, "a piece of the backfill is done");
        active.phase = Phase::Waiting(Instant::now());
        Ok(Some(active))
    }

    /// Everything that the stream holds of it is published.
    fn finish_backfill(&mut self, mut active: Active) -> Result<Option<Active>, TermEnd> {
        let reached_ms = active.request.reached_ms;
        if reached_ms < active.request.to_ms {
            let at = jiff::Timestamp::from_millisecond(reached_ms);
            let at = at.map_or_else(|_| reached_ms.to_string(), |at| at.to_string());
            active.request.detail = format!("done up to {at}: what is later comes by live reading");
        }
        self.end_backfill(active, BackfillStatus::Done)
    }

    /// Closes gaps as far as was shown, with the records that were missing in them.
    fn close_gaps(&mut self, tracks: &mut [Track]) -> Result<(), TermEnd> {
        let open: Vec<Gap> = self.step.gaps().open().to_vec();
        for gap in open {
            for now in tracks.iter_mut().find_map(|track| track.trail.close(&gap)).unwrap_or_default() {
                let Gap { id, estimated_events, status, .. } = &now;
                tracing::info!(gap = id, estimated_events, ?status, "a backfill has closed a gap, or a part of it");
                self.step.gaps().note(now.clone());
                self.output.gap(&now)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, mut active: Active, sentence: &str) -> Result<Option<Active>, TermEnd> {
        tracing::warn!(backfill = active.request.backfill, "a stretch cannot be read again: {sentence}");
        sentence.clone_into(&mut active.request.detail);
        self.end_backfill(active, BackfillStatus::Refused)
    }

    fn end_backfill(&mut self, active: Active, status: BackfillStatus) -> Result<Option<Active>, TermEnd> {
        let request = Backfill { status, ..active.request };
        self.output.backfill(&request)?;
        self.step.gaps().note_request(request.clone());
        self.commit()?;
        tracing::info!(backfill = request.backfill, ?status, published = request.published, "the backfill is over");
        Ok(None)
    }
}

impl Reading {
    fn connect(&mut self, source: &crate::source::Source, routes: crate::arrival::Routes) {
        let tracks = self.piece.tracks.iter().filter(|track| !track.is_over);
        let positions =
            tracks.map(|track| sse_id::by_time(&track.trail.topic, track.partition, self.piece.resume_ms(track)));
        self.connection = Some(source.connect(&ResumeAt::Positions(positions.collect()), Reader::new(routes)));
    }
}
