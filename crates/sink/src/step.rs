//! What becomes of one record. Pure: no client, no clock, no metric.

use schema::record::{EventHeaders, HeaderSource};
use schema::{Edit, Rejection};

use crate::batch::{Fate, Hole, Row};
use crate::position::Owned;

/// A record of the topic that is stored.
#[derive(Debug)]
pub struct Input<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: &'a [u8],
    /// What the enricher wrote beside it, or why that cannot be read.
    pub headers: Result<EventHeaders<'a>, Rejection>,
}

impl<'a> Input<'a> {
    /// Reads the headers of a record.
    #[must_use]
    pub fn read(offset: i64, value: &'a [u8], record: &'a impl HeaderSource) -> Self {
        Self { offset, value, headers: EventHeaders::read(record) }
    }
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A row.
    Take(Row),
    /// A dead letter: it has no place in the sequence, and others wrote it.
    Foreign(&'a Rejection),
    /// Nothing: the partition is not taken from now, or the record was read before.
    Ignore,
    /// A repeat, if the destination holds it: it does not stand where it was read before.
    Repeat(&'a EventHeaders<'a>),
    /// Records are missing before it.
    Hole(Hole, &'a EventHeaders<'a>),
}

/// Says what becomes of a record, where its partition stands so.
#[must_use]
pub fn judge<'a>(owned: Option<&Owned>, input: &'a Input<'a>) -> Outcome<'a> {
    let Some(owned) = owned.filter(|owned| !owned.is_halted) else { return Outcome::Ignore };
    let headers = match &input.headers {
        Ok(headers) => headers,
        Err(rejection) => return Outcome::Foreign(rejection),
    };
    let expected = owned.next_seq.unwrap_or(headers.seq);
    if headers.seq < expected {
        let was_read = input.offset < owned.next_offset;
        return if was_read { Outcome::Ignore } else { Outcome::Repeat(headers) };
    }
    if headers.seq > expected && headers.base.is_none() {
        return Outcome::Hole(Hole { expected, found: headers.seq }, headers);
    }
    Outcome::Take(row(input, headers))
}

fn row(input: &Input<'_>, headers: &EventHeaders<'_>) -> Row {
    let EventHeaders { id: _, seq, raw_offset, raw_seq: _, received_at_ms, base, mapping: _ } = headers;
    let fate = match Edit::from_json(input.value) {
        Ok(edit) => Fate::Store(Box::new(edit.into_owned())),
        Err(rejection) => Fate::Reject(rejection, input.value.to_vec()),
    };
    Row {
        seq: *seq,
        offset: input.offset,
        raw_offset: *raw_offset,
        received_at_ms: *received_at_ms,
        is_base: base.is_some(),
        fate,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::batch::Part;
    use crate::writer::Position;
    use proptest::prelude::*;
    use schema::record::SeqBase;

    struct NoHeaders;

    impl HeaderSource for NoHeaders {
        fn header(&self, _: &str) -> Option<&[u8]> {
            None
        }
    }

    fn headers(seq: i64, base: Option<SeqBase>) -> EventHeaders<'static> {
        let id = format!("id-{seq}").into();
        EventHeaders { id, seq, raw_offset: seq * 3, raw_seq: seq, received_at_ms: 5, base, mapping: 1 }
    }

    fn input(offset: i64, seq: i64) -> Input<'static> {
        Input { offset, value: b"{}", headers: Ok(headers(seq, None)) }
    }

    fn owned(next_seq: Option<i64>, next_offset: i64) -> Owned {
        Owned::at(&Position { epoch: 1, next_seq, next_offset, last_raw_offset: -1 })
    }

    #[test]
    fn the_next_is_taken_lower_is_read_again_or_a_repeat_and_higher_is_a_hole() {
        let owned = owned(Some(5), 20);
        let of = |offset, seq| {
            let input = input(offset, seq);
            format!("{:?}", judge(Some(&owned), &input)).chars().take(4).collect::<String>()
        };
        assert_eq!(of(20, 5), "Take");
        assert_eq!(of(12, 4), "Igno", "it stands where it was read before");
        assert_eq!(of(21, 4), "Repe");
        assert_eq!(of(21, 6), "Hole");
    }

    #[test]
    fn a_record_behind_an_emptied_log_is_taken_and_says_so() {
        let mut input = input(90, 50);
        input.headers = Ok(headers(50, Some(SeqBase::Unknown)));
        let owned = owned(Some(5), 20);
        assert!(matches!(judge(Some(&owned), &input), Outcome::Take(row) if row.is_base && row.seq == 50));
    }

    #[test]
    fn where_nothing_is_known_the_first_is_taken_and_a_foreign_one_is_set_aside() {
        assert!(matches!(judge(Some(&owned(None, 0)), &input(90, 50)), Outcome::Take(row) if row.seq == 50));
        let foreign = Input::read(3, b"x", &NoHeaders);
        assert!(matches!(judge(Some(&owned(Some(5), 0)), &foreign), Outcome::Foreign(_)));
    }

    #[test]
    fn nothing_is_taken_of_a_partition_that_is_halted_or_not_ours() {
        let mut halted = owned(Some(5), 20);
        halted.is_halted = true;
        for owned in [None, Some(&halted)] {
            assert_eq!(judge(owned, &input(20, 5)), Outcome::Ignore);
        }
    }

    #[test]
    fn what_is_no_edit_is_a_row_that_is_set_aside() {
        let input = input(20, 5);
        let Outcome::Take(row) = judge(Some(&owned(Some(5), 20)), &input) else { panic!("it has a place") };
        assert!(matches!(row.fate, Fate::Reject(_, value) if value == b"{}"));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Read,
        Write,
        /// The outcome of a write is not known, and the partition is claimed again: it was written, or not.
        Doubt(bool),
        /// The consumer brings records again.
        Back(u8),
        /// Another sink takes the partition over, reads so many, and writes them.
        Zombie(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            10 => Just(Event::Read),
            2 => Just(Event::Write),
            1 => any::<bool>().prop_map(Event::Doubt),
            1 => any::<u8>().prop_map(Event::Back),
            1 => any::<u8>().prop_map(Event::Zombie),
        ]
    }

    /// A partition's log (a foreign record where there is no number), and its table.
    struct World {
        log: Vec<Option<i64>>,
        next: usize,
        owned: Owned,
        batch: Part,
        table: Vec<i64>,
        /// Of the table: the epoch, the next sequence number, the next offset.
        stored: (i64, i64, i64),
    }

    impl World {
        fn new(log: Vec<Option<i64>>) -> Self {
            let owned = owned(Some(0), 0);
            Self { log, next: 0, owned, batch: Part::default(), table: Vec::new(), stored: (1, 0, 0) }
        }

        fn claim(&mut self) {
            self.stored.0 += 1;
            let (epoch, next_seq, next_offset) = self.stored;
            self.owned = Owned::at(&Position { epoch, next_seq: Some(next_seq), next_offset, last_raw_offset: -1 });
            self.batch = Part::default();
            self.next = usize::try_from(next_offset).unwrap();
        }

        /// As a destination does it: under the epoch, what is due.
        fn write(&mut self) -> bool {
            if self.batch.rows.is_empty() {
                return true;
            }
            self.batch.epoch = self.owned.epoch;
            if self.batch.epoch != self.stored.0 {
                return false;
            }
            let due = self.batch.due(self.stored.1).expect("rows without a hole");
            self.table.extend(due.rows.iter().map(|row| row.seq));
            if let Some(last) = self.batch.rows.last() {
                self.stored = (self.stored.0, last.seq + 1, last.offset + 1);
                self.owned.stored(last);
            }
            self.batch = Part::default();
            true
        }

        fn read(&mut self) -> Result<(), TestCaseError> {
            let Some(seq) = self.log.get(self.next).copied() else { return Ok(()) };
            let offset = i64::try_from(self.next).unwrap();
            let foreign = || Input { offset, value: b"x", headers: EventHeaders::read(&NoHeaders) };
            let input = seq.map_or_else(foreign, |seq| input(offset, seq));
            self.next += 1;
            match judge(Some(&self.owned), &input) {
                Outcome::Take(row) => {
                    self.owned.take(&row);
                    self.batch.rows.push(row);
                }
                Outcome::Foreign(_) => prop_assert_eq!(seq, None),
                Outcome::Ignore => {}
                Outcome::Repeat(headers) => {
                    // The table shows whether it is a repeat or a sequence that went back; nothing may wait meanwhile.
                    let seq = headers.seq;
                    if !self.write() {
                        self.claim();
                        return Ok(());
                    }
                    prop_assert!(self.table.contains(&seq), "{seq} is no repeat");
                }
                Outcome::Hole(hole, _) => prop_assert!(false, "nothing is missing: {hole:?}"),
            }
            Ok(())
        }

        fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
            match event {
                Event::Read => self.read()?,
                Event::Write => {
                    if !self.write() {
                        self.claim();
                    }
                }
                Event::Doubt(was_written) => {
                    if was_written {
                        self.write();
                    }
                    self.claim();
                }
                Event::Back(count) => self.next = self.next.saturating_sub(usize::from(count) % 8),
                Event::Zombie(count) => {
                    let ours = (self.owned.clone(), std::mem::take(&mut self.batch), self.next);
                    self.claim();
                    for _ in 0..count % 8 {
                        self.read()?;
                    }
                    self.write();
                    (self.owned, self.batch, self.next) = ours;
                }
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_table_is_dense_and_each_edit_is_there_once(
            kinds in proptest::collection::vec(0_u8..6, 1..60),
            events in proptest::collection::vec(event(), 0..200),
        ) {
            let mut seq = -1;
            let mut number = |kind: u8| (kind > 0).then(|| { seq += 1; seq });
            let mut world = World::new(kinds.into_iter().map(&mut number).collect());
            for event in events {
                world.happens(event)?;
            }
            loop {
                while world.next < world.log.len() {
                    world.read()?;
                }
                if world.write() {
                    break;
                }
                world.claim();
            }
            let ids: BTreeSet<i64> = world.table.iter().copied().collect();
            prop_assert_eq!(ids.len(), world.table.len(), "each once: {:?}", world.table);
            prop_assert_eq!(world.table, world.log.iter().flatten().copied().collect::<Vec<i64>>());
        }
    }
}
