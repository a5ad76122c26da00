//! What becomes of one raw record. Pure: no client, no clock, no metric.
//!
//! [`Step::judge`] changes nothing. [`Step::accept`] moves the position, once the outcome was taken by the output:
//! a record that the output had no room for is judged again.

use std::sync::Arc;

use schema::record::{EventHeaders, HeaderSource, MAPPING_VERSION, RawHeaders, SeqBase};
use schema::{Edit, Mapping, Reason, Rejection};

use crate::position::Position;

/// The longest input; ingest writes none that is longer.
const MAX_VALUE_BYTES: usize = 2 << 20;

/// A raw record.
#[derive(Debug)]
pub struct Input<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: &'a [u8],
    /// What ingest wrote beside it, or why that cannot be read.
    pub headers: Result<RawHeaders<'a>, Rejection>,
}

impl<'a> Input<'a> {
    /// Reads the headers of a record.
    #[must_use]
    pub fn read(offset: i64, value: &'a [u8], record: &'a impl HeaderSource) -> Self {
        Self { offset, value, headers: RawHeaders::read(record) }
    }
}

/// What becomes of a record.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one is alive at a time; a box would cost an allocation for each edit")]
pub enum Outcome<'a> {
    /// An edit, with what is written beside it.
    Emit(EventHeaders<'a>, Edit<'a>),
    /// A dead letter.
    Reject(Rejection),
    /// A canary, or a change of a type that does not become an edit.
    Skip,
    /// It was handled before.
    Repeat,
    /// Records are missing before it: nothing may be stepped over.
    Hole(Hole),
}

/// Records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The sequence number that is due.
    pub expected: i64,
    /// The one that is there.
    pub found: i64,
}

/// Records that were deleted before they were mapped; nothing brings them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many there were, or may have been.
    pub count: i64,
    /// Whether it is known how many.
    pub base: SeqBase,
}

/// The judgement of one record.
#[derive(Debug, PartialEq)]
pub struct Judged<'a> {
    /// What becomes of it.
    pub outcome: Outcome<'a>,
    /// What is lost before it.
    pub lost: Option<Lost>,
    /// Its place in the raw sequence, where it has one and is not a repeat.
    seq: Option<i64>,
}

impl Judged<'_> {
    /// The same record, whose edit is longer than the topic takes.
    #[must_use]
    pub fn too_long<'a>(self, bytes: usize, most: usize) -> Judged<'a> {
        let why =
            format!("the edit has {bytes} bytes, and the topic takes {most} (max.message.bytes, without headers)");
        let outcome = Outcome::Reject(Rejection::new(Reason::Oversized, why));
        Judged { outcome, lost: self.lost, seq: self.seq }
    }

    const fn without_place(outcome: Outcome<'_>) -> Judged<'_> {
        Judged { outcome, lost: None, seq: None }
    }
}

/// The judge of one partition, and where it stands.
#[derive(Clone, Debug)]
pub struct Step {
    position: Position,
    mapping: Arc<Mapping>,
}

impl Step {
    /// Begins at a position.
    #[must_use]
    pub const fn new(position: Position, mapping: Arc<Mapping>) -> Self {
        Self { position, mapping }
    }

    /// Where the partition stands.
    #[must_use]
    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// Says what becomes of a record. `is_accepted`: whether an operator accepts what is missing before it.
    pub fn judge<'a>(&self, input: &'a Input<'a>, is_accepted: impl FnOnce() -> bool) -> Judged<'a> {
        let raw = match &input.headers {
            Ok(raw) => raw,
            Err(rejection) => return Judged::without_place(Outcome::Reject(rejection.clone())),
        };
        let expected = self.position.expected_raw_seq.unwrap_or(raw.seq);
        if raw.seq < expected {
            return Judged::without_place(Outcome::Repeat);
        }
        let count = raw.seq - expected;
        let base = raw.base.or_else(|| (count > 0 && is_accepted()).then_some(SeqBase::Emptied));
        let lost = match base {
            Some(base) if count > 0 => Some(Lost { count, base }),
            None if count > 0 => {
                return Judged::without_place(Outcome::Hole(Hole { expected, found: raw.seq }));
            }
            _ => None,
        };
        Judged { outcome: self.mapped(input, raw), lost, seq: Some(raw.seq) }
    }

    fn mapped<'a>(&self, input: &Input<'a>, raw: &'a RawHeaders<'a>) -> Outcome<'a> {
        if input.value.len() > MAX_VALUE_BYTES {
            let why = format!("{} bytes, of {MAX_VALUE_BYTES} at most", input.value.len());
            return Outcome::Reject(Rejection::new(Reason::Oversized, why));
        }
        match self.mapping.enrich(input.value) {
            Ok(Some(edit)) => Outcome::Emit(self.headers(input.offset, raw), edit),
            Ok(None) => Outcome::Skip,
            Err(rejection) => Outcome::Reject(rejection),
        }
    }

    fn headers<'a>(&self, offset: i64, raw: &'a RawHeaders<'a>) -> EventHeaders<'a> {
        EventHeaders {
            id: raw.id.as_ref().into(),
            seq: self.position.next_seq,
            raw_offset: offset,
            raw_seq: raw.seq,
            received_at_ms: raw.received_at_ms,
            base: self.position.is_base.then_some(SeqBase::Unknown),
            mapping: MAPPING_VERSION,
        }
    }

    /// The output took what was judged of the record at `offset`.
    pub fn accept(&mut self, offset: i64, judged: &Judged<'_>) {
        self.position.pass(offset, judged.seq, matches!(judged.outcome, Outcome::Emit(..)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Logs;
    use proptest::prelude::*;

    const EDIT: &str = r#"{"meta":{"id":"x","domain":"d","dt":"2026-01-01T00:00:00Z"},"type":"edit","namespace":0,"title":"T","wiki":"w","user":"U"}"#;

    fn mapping() -> Arc<Mapping> {
        Arc::new(Mapping::new(&["edit".to_owned()]))
    }

    fn at(expected_raw_seq: Option<i64>) -> Step {
        Step::new(Position { next_input: 0, next_seq: 7, expected_raw_seq, is_base: false }, mapping())
    }

    fn headers(seq: i64) -> RawHeaders<'static> {
        let id = format!("id-{seq}").into();
        RawHeaders { id, seq, sse_id: "[]".into(), received_at_ms: 5, backfill: false, base: None }
    }

    fn input(offset: i64, seq: i64, value: &str) -> Input<'_> {
        Input { offset, value: value.as_bytes(), headers: Ok(headers(seq)) }
    }

    #[test]
    fn lower_is_a_repeat_the_next_is_mapped_and_higher_is_a_hole() {
        let step = at(Some(3));
        let outcome = |seq| {
            let input = input(9, seq, EDIT);
            let judged = step.judge(&input, || false);
            format!("{:?}", judged.outcome).chars().take(4).collect::<String>()
        };
        assert_eq!((outcome(2), outcome(3), outcome(4)), ("Repe".into(), "Emit".into(), "Hole".into()));
        let input = input(9, 400, EDIT);
        assert!(matches!(at(None).judge(&input, || false).outcome, Outcome::Emit(..)), "the first one is the base");
    }

    #[test]
    fn a_jump_is_a_loss_where_the_record_says_so_or_a_person_accepts_it() {
        let step = at(Some(3));
        let mut base = headers(8);
        for (said, is_accepted) in [(Some(SeqBase::Emptied), false), (Some(SeqBase::Unknown), true), (None, true)] {
            base.base = said;
            let input = Input { offset: 9, value: EDIT.as_bytes(), headers: Ok(base.clone()) };
            let judged = step.judge(&input, || is_accepted);
            assert_eq!(judged.lost, Some(Lost { count: 5, base: said.unwrap_or(SeqBase::Emptied) }));
            assert!(matches!(judged.outcome, Outcome::Emit(..)));
        }
    }

    #[test]
    fn what_cannot_be_read_is_rejected_and_moves_the_sequence_only_where_it_has_a_place_in_it() {
        let mut step = at(Some(3));
        let foreign = Input { offset: 20, value: b"{}", headers: RawHeaders::read(&NoHeaders) };
        let judged = step.judge(&foreign, || false);
        assert!(matches!(judged.outcome, Outcome::Reject(_)));
        step.accept(20, &judged);
        assert_eq!((step.position().next_input, step.position().expected_raw_seq), (21, Some(3)));
        let long = " ".repeat(MAX_VALUE_BYTES + 1);
        for value in ["{", long.as_str()] {
            let expected = step.position().expected_raw_seq.unwrap();
            let input = input(30, expected, value);
            let judged = step.judge(&input, || false);
            assert!(matches!(judged.outcome, Outcome::Reject(_)));
            step.accept(30, &judged);
            assert_eq!(step.position().expected_raw_seq, Some(expected + 1));
        }
        assert_eq!(step.position().next_seq, 7, "no edit was written");
    }

    struct NoHeaders;

    impl HeaderSource for NoHeaders {
        fn header(&self, _: &str) -> Option<&[u8]> {
            None
        }
    }

    /// What a raw partition holds at one offset.
    #[derive(Clone, Debug)]
    enum Raw {
        Edit(i64),
        Broken(i64),
        Canary(i64),
        Foreign,
        /// The end of a transaction: no record.
        Marker,
    }

    /// What happens while it is read.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Read,
        /// The queue is full: commit, and judge the record again.
        Full,
        Commit,
        /// The group's offset is committed with its metadata.
        Hint,
        /// A doubt: the open transaction was committed after all, or not.
        Doubt(bool),
        /// The consumer brings records again.
        Back(u8),
    }

    fn log(kinds: Vec<u8>) -> Vec<Raw> {
        let mut seq = -1;
        let mut next = || {
            seq += 1;
            seq
        };
        let raw = |kind: u8| match kind {
            0..5 => Raw::Edit(next()),
            5 => Raw::Broken(next()),
            6 => Raw::Canary(next()),
            7 => Raw::Foreign,
            _ => Raw::Marker,
        };
        kinds.into_iter().map(raw).collect()
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => Just(Event::Read),
            1 => Just(Event::Full),
            2 => Just(Event::Commit),
            1 => Just(Event::Hint),
            1 => any::<bool>().prop_map(Event::Doubt),
            1 => any::<u8>().prop_map(Event::Back),
        ]
    }

    /// What is durable: edits as (sequence, raw offset, raw sequence), and the committed offset with its metadata.
    #[derive(Default)]
    struct World {
        log: Vec<Raw>,
        committed: Vec<(i64, i64, i64)>,
        open: Vec<(i64, i64, i64)>,
        offset: Option<(i64, String)>,
        next: usize,
    }

    impl World {
        fn recover(&mut self) -> Step {
            self.open.clear();
            let last = self.committed.last().map(|(seq, raw_offset, raw_seq)| EventHeaders {
                id: "e".into(),
                seq: *seq,
                raw_offset: *raw_offset,
                raw_seq: *raw_seq,
                received_at_ms: 0,
                base: None,
                mapping: 1,
            });
            let offset = self.offset.as_ref().map(|(offset, note)| (*offset, note.as_str()));
            let position = Position::recover(last.as_ref(), offset, Logs { input_start: 0, output_end: 0 });
            self.next = usize::try_from(position.next_input).unwrap();
            Step::new(position, mapping())
        }

        fn commit(&mut self) {
            self.committed.append(&mut self.open);
        }

        /// Reads one record; gives whether its outcome was taken.
        fn read(&mut self, step: &mut Step, is_full: bool) -> Result<(), TestCaseError> {
            let Some(raw) = self.log.get(self.next).cloned() else { return Ok(()) };
            let offset = i64::try_from(self.next).unwrap();
            let canary = r#"{"meta":{"id":"x","domain":"canary"}}"#;
            let input = match raw {
                Raw::Edit(seq) => input(offset, seq, EDIT),
                Raw::Broken(seq) => input(offset, seq, "{"),
                Raw::Canary(seq) => input(offset, seq, canary),
                Raw::Foreign => Input { offset, value: b"x", headers: RawHeaders::read(&NoHeaders) },
                Raw::Marker => {
                    self.next += 1;
                    return Ok(());
                }
            };
            let judged = step.judge(&input, || false);
            prop_assert!(!matches!(judged.outcome, Outcome::Hole(_)), "nothing is missing: {judged:?}");
            if is_full {
                self.commit();
                return Ok(());
            }
            if let Outcome::Emit(headers, _) = &judged.outcome {
                self.open.push((headers.seq, headers.raw_offset, headers.raw_seq));
            }
            step.accept(offset, &judged);
            self.next += 1;
            Ok(())
        }

        fn happens(&mut self, event: Event, step: &mut Step) -> Result<(), TestCaseError> {
            match event {
                Event::Read => self.read(step, false)?,
                Event::Full => self.read(step, true)?,
                Event::Commit => self.commit(),
                // As the worker does: only with nothing open.
                Event::Hint if self.open.is_empty() => {
                    self.offset = Some((step.position().next_input, step.position().to_metadata(uuid::Uuid::nil())));
                }
                Event::Hint => {}
                Event::Doubt(was_committed) => {
                    if was_committed {
                        self.commit();
                    }
                    *step = self.recover();
                }
                Event::Back(count) => self.next = self.next.saturating_sub(usize::from(count) % 8),
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_edits_are_dense_and_each_is_there_once(
            kinds in proptest::collection::vec(0_u8..10, 1..60),
            events in proptest::collection::vec(event(), 0..200),
        ) {
            let mut world = World { log: log(kinds), ..World::default() };
            let mut step = world.recover();
            for event in events {
                world.happens(event, &mut step)?;
            }
            while world.next < world.log.len() {
                world.read(&mut step, false)?;
            }
            world.commit();
            let edits = |raw: &Raw| if let Raw::Edit(seq) = raw { Some(*seq) } else { None };
            let wanted: Vec<i64> = world.log.iter().filter_map(edits).collect();
            let raw_seqs: Vec<i64> = world.committed.iter().map(|(_, _, raw_seq)| *raw_seq).collect();
            prop_assert_eq!(raw_seqs, wanted);
            let dense = (0..).zip(&world.committed).all(|(seq, edit)| seq == edit.0);
            prop_assert!(dense, "{:?}", world.committed);
        }

        #[test]
        fn a_missing_record_is_never_stepped_over(count in 2_i64..40, missing in 0_i64..39) {
            let missing = missing % (count - 1);
            let mut step = at(Some(0));
            for seq in (0..count).filter(|seq| *seq != missing) {
                let input = input(seq, seq, EDIT);
                let judged = step.judge(&input, || false);
                if seq > missing {
                    prop_assert_eq!(judged.outcome, Outcome::Hole(Hole { expected: missing, found: seq }));
                } else {
                    step.accept(seq, &judged);
                }
            }
        }
    }
}
