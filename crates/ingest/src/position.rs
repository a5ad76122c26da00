//! Positions: one per source topic and partition, and the state that travels in the commits. Pure.

use std::collections::BTreeMap;

use schema::gap::Edge;
use schema::record::{MOST_COUNTED, is_counted};
use schema::sse_id::{self, SourcePosition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::window::{IdKey, RawPartition};

/// The form that this code writes. Older releases read it too: what they know has kept its meaning.
const FORM: u32 = 1;
/// Margins that known ids reach behind a position: one for the resume, one for its second attempt, one for events that
/// follow a position in the log with an older time.
pub const REACH_MARGINS: i64 = 3;
/// What Kafka keeps beside an offset (`offset.metadata.max.bytes`).
const MAX_METADATA_BYTES: usize = 4096;
/// The metadata of a state that is longer: it is the last record of `wikipedia-ingest`.
const IN_RECORD: &str = r#"{"v":1,"in_record":true}"#;
/// How far ahead of the clock a log time may be.
pub const AHEAD_MS: i64 = 300_000;
/// Partitions of a topic: no cluster has more.
const MOST_PARTITIONS: usize = 1_000_000;
/// Ids of events with untrusted times that travel in the state.
pub const MOST_ODD: usize = 64;

/// The event that was handled last, in the order of its source topic's log. Of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub id: Uuid,
    /// Its `meta.offset`, in the cluster that served it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Its log time, Unix milliseconds.
    pub ms: i64,
}

impl Last {
    /// The side of a gap that begins behind it.
    #[must_use]
    pub fn edge(&self) -> Edge {
        Edge { id: self.id.to_string(), offset: self.offset, time_ms: self.ms }
    }
}

/// How far a source topic's partition was handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// Source topic, such as `eqiad.mediawiki.recentchange`.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Where it begins while nothing of it was handled, Unix milliseconds.
    pub start: i64,
    /// Greatest trusted log time that was handled; none before the first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<i64>,
    /// The last handled event. With `t` and without this, known ids prove the first connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// The position that the stream refused: it is tried again at each later connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<(i64, Last)>,
    /// Log time at which other types began to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types_at: Option<i64>,
}

impl SourceState {
    /// A source of which nothing was handled.
    #[must_use]
    pub fn starting(topic: &str, partition: i32, start: i64) -> Self {
        Self { topic: topic.to_owned(), partition, start, t: None, last: None, refused: None, types_at: None }
    }

    /// The greatest handled log time, or the start.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.t.unwrap_or(self.start)
    }

    /// The time back to which known ids may still be needed.
    #[must_use]
    pub fn needed_from(&self) -> i64 {
        self.refused.as_ref().map_or_else(|| self.time(), |(t, _)| self.time().min(*t))
    }

    /// The time before which no known id is needed: nothing that may be asked for lies there.
    #[must_use]
    pub fn reach(&self, margin_ms: i64) -> i64 {
        self.needed_from() - REACH_MARGINS * margin_ms
    }

    /// Its name for people: the topic, and the partition where that is not 0.
    #[must_use]
    pub fn name(&self) -> String {
        if self.partition == 0 { self.topic.clone() } else { format!("{}/{}", self.topic, self.partition) }
    }
}

/// What a commit carries beside its records: enough to go on without them.
///
/// It is the metadata of the committed offset of `wikipedia-ingest`, which is written in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestState {
    /// Form of this state.
    pub v: u32,
    /// The least log time of all sources. Older releases resume by it.
    pub t: i64,
    /// Where the first start began.
    pub start: i64,
    /// Whether any event that is kept was ever seen.
    pub seen: bool,
    /// Per raw topic: the next sequence number of each partition.
    pub seq: BTreeMap<String, Vec<i64>>,
    /// Every source topic and partition that an id ever named. Empty in what older releases write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceState>,
    /// Per raw topic and partition: how many of the last records still hold needed ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needed: BTreeMap<String, Vec<i64>>,
    /// Ids of events whose time is not trusted, and their sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub odd: Vec<(Uuid, usize)>,
    /// Types of changes that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Types that were kept before those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types_before: Vec<String>,
}

impl IngestState {
    /// The state before anything was read, at a first start.
    #[must_use]
    pub fn first(start_ms: i64, topics: &BTreeMap<String, i32>) -> Self {
        let zeros = |count: &i32| vec![0; usize::try_from(*count).unwrap_or(0)];
        Self {
            v: FORM,
            t: start_ms,
            start: start_ms,
            seen: false,
            seq: topics.iter().map(|(topic, partitions)| (topic.clone(), zeros(partitions))).collect(),
            sources: Vec::new(),
            needed: BTreeMap::new(),
            odd: Vec::new(),
            types: Vec::new(),
            types_before: Vec::new(),
        }
    }

    /// Reads a state; `None` where it is not of this form.
    #[must_use]
    pub fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok().filter(|state: &Self| state.v == FORM && state.is_sound())
    }

    /// Whether its numbers are ones that can be counted on from: others may write to where it stands.
    fn is_sound(&self) -> bool {
        let is_time = |ms: i64| (-MOST_COUNTED..=MOST_COUNTED).contains(&ms);
        let of_source = |source: &SourceState| {
            let refused = source.refused.as_ref();
            let of_events = source.last.iter().chain(refused.map(|(_, last)| last)).map(|last| last.ms);
            let times = of_events.chain(source.t).chain(refused.map(|(t, _)| *t)).chain([source.start]);
            times.chain(source.types_at).all(is_time)
        };
        self.seq.values().chain(self.needed.values()).flatten().all(|number| is_counted(*number))
            && self.sources.iter().all(of_source)
            && is_time(self.t)
            && is_time(self.start)
    }

    /// The state as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Strings and integers only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The metadata of a commit, and the record that goes with it where the state is too long for that.
    #[must_use]
    pub fn to_metadata(&self) -> (String, Option<String>) {
        let text = self.to_text();
        if text.len() <= MAX_METADATA_BYTES { (text, None) } else { (IN_RECORD.to_owned(), Some(text)) }
    }

    /// Whether metadata says that the state is the last record of `wikipedia-ingest`.
    #[must_use]
    pub fn is_in_record(metadata: &str) -> bool {
        metadata == IN_RECORD
    }

    /// The next sequence number of a partition.
    #[must_use]
    pub fn next_seq(&self, topic: &str, partition: i32) -> i64 {
        number(&self.seq, topic, partition).unwrap_or(0)
    }

    /// Takes the next sequence number of a partition.
    pub fn take_seq(&mut self, topic: &str, partition: i32) -> i64 {
        let seq = self.next_seq(topic, partition);
        self.raise_seq(topic, partition, seq + 1);
        self.seen = true;
        seq
    }

    /// The next sequence number is at least `next`: metadata and records may each know more.
    pub fn raise_seq(&mut self, topic: &str, partition: i32, next: i64) {
        if let Some(seq) = slot(&mut self.seq, topic, partition) {
            *seq = (*seq).max(next);
        }
    }

    /// The sequence number from which on a partition's ids are needed; `None` where no commit ever said.
    #[must_use]
    pub fn floor(&self, topic: &str, partition: i32) -> Option<i64> {
        let needed = number(&self.needed, topic, partition)?;
        Some(self.next_seq(topic, partition) - needed)
    }

    /// Notes from which sequence numbers on ids are needed: of a partition that is not named, none is.
    pub fn set_floors(&mut self, floors: &BTreeMap<RawPartition, i64>) {
        let needed = self.seq.iter().map(|(topic, seqs)| {
            let of = |(partition, next): (usize, &i64)| {
                let partition = i32::try_from(partition).unwrap_or(i32::MAX);
                floors.get(&(topic.clone(), partition)).map_or(0, |floor| (next - floor).max(0))
            };
            (topic.clone(), seqs.iter().enumerate().map(of).collect())
        });
        self.needed = needed.collect();
    }

    /// The index of a source.
    #[must_use]
    pub fn source(&self, topic: &str, partition: i32) -> Option<usize> {
        self.sources.iter().position(|source| source.topic == topic && source.partition == partition)
    }

    /// The same; a source that no id ever named before begins at `start`.
    pub fn source_or_new(&mut self, topic: &str, partition: i32, start: i64) -> usize {
        self.source(topic, partition).unwrap_or_else(|| {
            self.sources.push(SourceState::starting(topic, partition, start));
            self.sources.len() - 1
        })
    }

    /// Remembers the id of an event whose time is not trusted; the oldest goes where there are too many.
    pub fn note_odd(&mut self, id: IdKey, source: usize) {
        if self.odd.iter().any(|(known, _)| *known == id.0) {
            return;
        }
        if self.odd.len() >= MOST_ODD {
            self.odd.remove(0);
        }
        self.odd.push((id.0, source));
    }

    /// Brings what older releases read up to date.
    pub fn summarise(&mut self) {
        self.t = self.sources.iter().map(SourceState::needed_from).min().unwrap_or(self.t);
    }
}

fn number(map: &BTreeMap<String, Vec<i64>>, topic: &str, partition: i32) -> Option<i64> {
    let index = usize::try_from(partition).ok()?;
    map.get(topic)?.get(index).copied()
}

fn slot<'a>(map: &'a mut BTreeMap<String, Vec<i64>>, topic: &str, partition: i32) -> Option<&'a mut i64> {
    let index = usize::try_from(partition).ok()?;
    if !map.contains_key(topic) {
        map.insert(topic.to_owned(), Vec::new());
    }
    let numbers = map.get_mut(topic)?;
    if numbers.len() <= index && index < MOST_PARTITIONS {
        numbers.resize(index + 1, 0);
    }
    numbers.get_mut(index)
}

/// Where a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeAt {
    /// `Last-Event-ID` with an entry for each source topic.
    Positions(Vec<SourcePosition>),
    /// `since`, Unix milliseconds: where the server refuses every header.
    Since(i64),
    /// The present: where it refuses that too. A gap is declared.
    Latest,
    /// An id exactly as received. Loses edits; kept as the contrast.
    AsReceived(String),
}

impl ResumeAt {
    /// The value of `Last-Event-ID`, where there is one.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        match self {
            Self::Positions(positions) => Some(sse_id::to_header(positions)),
            Self::AsReceived(id) => Some(id.clone()),
            Self::Since(_) | Self::Latest => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(partitions: i32) -> IngestState {
        let mut state = IngestState::first(7, &BTreeMap::from([("raw".to_owned(), partitions)]));
        state.source_or_new("eqiad.s", 0, 7);
        state
    }

    #[test]
    fn the_state_survives_its_metadata() {
        let mut state = state(2);
        assert_eq!(state.take_seq("raw", 1), 0);
        assert_eq!(state.take_seq("raw", 1), 1);
        let last = Last { id: Uuid::from_u128(5), offset: Some(3), ms: 10 };
        state.sources[0].t = Some(12);
        state.sources[0].refused = Some((10, last.clone()));
        state.sources[0].last = Some(last);
        state.note_odd(IdKey::of("x"), 0);
        state.set_floors(&BTreeMap::from([(("raw".to_owned(), 1), 1)]));
        state.summarise();
        assert_eq!((state.t, state.floor("raw", 1), state.floor("raw", 0)), (10, Some(1), Some(0)));
        assert_eq!(IngestState::parse(&state.to_text()), Some(state));
    }

    #[test]
    fn metadata_of_another_form_is_never_trusted() {
        for metadata in ["", "{}", "note", r#"{"v":2,"t":0,"start":0,"seen":false,"seq":{}}"#] {
            assert_eq!(IngestState::parse(metadata), None, "{metadata}");
        }
    }

    #[test]
    fn what_older_releases_wrote_is_read_and_names_no_source() {
        let old = r#"{"v":1,"t":9,"start":3,"seen":true,"seq":{"raw":[4,5]}}"#;
        let state = IngestState::parse(old).unwrap();
        assert!(state.sources.is_empty());
        assert_eq!((state.next_seq("raw", 1), state.floor("raw", 1)), (5, None));
    }

    #[test]
    fn sequences_only_rise() {
        let mut state = state(0);
        state.raise_seq("raw", 3, 9);
        state.raise_seq("raw", 3, 4);
        assert_eq!(state.next_seq("raw", 3), 9);
        assert_eq!(state.next_seq("raw", 0), 0);
        assert_eq!(state.next_seq("other", 0), 0);
    }

    #[test]
    fn ids_of_odd_times_are_bounded() {
        let mut state = state(1);
        for number in 0..100 {
            state.note_odd(IdKey::of(&number.to_string()), 0);
        }
        assert_eq!((state.odd.len(), state.odd[0].0), (MOST_ODD, IdKey::of("36").0));
    }

    #[test]
    fn a_state_that_is_too_long_for_metadata_is_a_record() {
        let of = |partitions: i32| {
            let mut state = state(partitions);
            (0..partitions).for_each(|partition| state.raise_seq("raw", partition, 1_000_000_000_000));
            state
        };
        let (metadata, record) = of(150).to_metadata();
        assert!(record.is_none() && !IngestState::is_in_record(&metadata));
        let (metadata, record) = of(1000).to_metadata();
        assert!(IngestState::is_in_record(&metadata) && IngestState::parse(&metadata).is_none());
        assert_eq!(IngestState::parse(&record.unwrap()), Some(of(1000)));
    }
}
