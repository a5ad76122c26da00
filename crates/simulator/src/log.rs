//! Source topics, each a log of its own with its own offsets; where a position begins; what was made and what was sent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::generator::{Generator, TOPICS};
use crate::recording::{ERROR, Recorded, Recording};

/// Events that are kept at most, however long the history: about 300 MB.
pub const MAX_EVENTS: usize = 250_000;
/// Events that the ledger lists at most.
const MAX_LEDGER: usize = 5_000_000;
/// Events of one topic that a connection reads before it looks at the next: one fetch of a backlog.
const BURST: usize = 700;

/// An event in a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index into the topics.
    pub topic: usize,
    /// Place within its topic, from 0.
    pub place: u64,
    /// Kafka offset in the first cluster.
    pub offset: i64,
    /// Log time, Unix milliseconds; not sorted.
    pub log_time_ms: i64,
    /// The event.
    pub data: Bytes,
    /// The frame as recorded.
    pub frame: Option<Bytes>,
    /// When it was made, in event time: what decides how long it is kept, since its log time may be odd.
    made_ms: i64,
    /// Its line in the ledger.
    line: u64,
}

impl Entry {
    /// Its bytes as a cluster sends them: with the cluster's own offset in `meta`.
    #[must_use]
    pub fn data_in(&self, cluster: Cluster) -> Bytes {
        if !cluster.is_second {
            return self.data.clone();
        }
        let text = String::from_utf8_lossy(&self.data);
        let (own, other) = (self.offset, cluster.offset(self.offset));
        Bytes::from(text.replacen(&format!("\"offset\":{own}"), &format!("\"offset\":{other}"), 1).into_bytes())
    }
}

/// What was made and what became of it: one line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Made {
    /// `meta.id`; empty where it cannot be read.
    pub id: String,
    /// `type`, or `canary`.
    pub kind: String,
    /// Source topic.
    pub topic: String,
    /// Kafka offset in the first cluster.
    pub offset: i64,
    /// Log time, Unix milliseconds.
    pub log_time_ms: i64,
    /// How often it was sent.
    pub times: u32,
}

#[derive(Debug)]
struct Topic {
    name: String,
    entries: VecDeque<Entry>,
    /// Place behind the last entry.
    length: u64,
}

impl Topic {
    const fn new(name: String) -> Self {
        Self { name, entries: VecDeque::new(), length: 0 }
    }

    fn first(&self) -> u64 {
        self.entries.front().map_or(self.length, |entry| entry.place)
    }

    fn at(&self, place: u64) -> Option<&Entry> {
        let index = usize::try_from(place.checked_sub(self.first())?).ok()?;
        self.entries.get(index)
    }
}

/// Every source topic.
#[derive(Debug)]
pub struct Log {
    names: Vec<String>,
    topics: Vec<Topic>,
    kept: usize,
    ledger: VecDeque<Made>,
    ledger_first: u64,
    generator: Option<(Generator, Option<u64>)>,
    history_ms: i64,
    newest_ms: i64,
    /// Connections begin with a byte order mark, as the recording does.
    has_mark: bool,
}

/// How far a connection has read: topics are read in turns.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Per topic: the next place; `None` where the topic was not asked for.
    pub next: Vec<Option<u64>>,
    /// The order in which topics are fetched.
    order: Vec<usize>,
    turn: usize,
    /// How many more of this turn.
    left: usize,
}

impl Log {
    /// A log that grows by generated events, up to `edits` edits.
    #[must_use]
    pub fn generated(generator: Generator, edits: Option<u64>, history_seconds: u32) -> Self {
        Self::new(Some((generator, edits)), history_seconds)
    }

    /// A log that holds a recording.
    #[must_use]
    pub fn recorded(recording: Recording, history_seconds: u32) -> Self {
        let mut log = Self::new(None, history_seconds);
        log.has_mark = recording.has_mark;
        for event in recording.events {
            let topic = log.topic(&event.topic);
            let Recorded { id, kind, log_time_ms, offset, data, frame, topic: _ } = event;
            log.append(topic, log_time_ms, offset, (id.unwrap_or_default(), kind), data, frame);
        }
        log
    }

    fn new(generator: Option<(Generator, Option<u64>)>, history_seconds: u32) -> Self {
        let names: Vec<String> = TOPICS.map(str::to_owned).to_vec();
        Self {
            topics: names.iter().cloned().map(Topic::new).collect(),
            names,
            kept: 0,
            ledger: VecDeque::new(),
            ledger_first: 0,
            generator,
            history_ms: i64::from(history_seconds) * 1000,
            newest_ms: 0,
            has_mark: false,
        }
    }

    fn topic(&mut self, name: &str) -> usize {
        if let Some(known) = self.names.iter().position(|topic| topic == name) {
            return known;
        }
        self.names.push(name.to_owned());
        self.topics.push(Topic::new(name.to_owned()));
        self.topics.len() - 1
    }

    /// Whether connections begin with a byte order mark.
    #[must_use]
    pub const fn has_mark(&self) -> bool {
        self.has_mark
    }

    /// Topic names, by index.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.names
    }

    fn append(
        &mut self,
        topic: usize,
        log_time_ms: i64,
        offset: Option<i64>,
        (id, kind): (String, String),
        data: Bytes,
        frame: Option<Bytes>,
    ) {
        let line = self.ledger_first + self.ledger.len() as u64;
        self.newest_ms = self.newest_ms.max(log_time_ms);
        let made_ms = self.now_ms();
        let Some(log) = self.topics.get_mut(topic) else { return };
        let place = log.length;
        log.length += 1;
        let offset = offset.unwrap_or_else(|| i64::try_from(place).unwrap_or(i64::MAX));
        log.entries.push_back(Entry { topic, place, offset, log_time_ms, data, frame, made_ms, line });
        self.kept += 1;
        self.ledger.push_back(Made { id, kind, topic: log.name.clone(), offset, log_time_ms, times: 0 });
        self.forget();
    }

    /// What is older than the history goes, and the oldest where there is too much. A recording is kept whole.
    fn forget(&mut self) {
        if self.generator.is_some() {
            let oldest_ms = self.now_ms() - self.history_ms;
            for log in &mut self.topics {
                while log.entries.front().is_some_and(|entry| entry.made_ms < oldest_ms) {
                    log.entries.pop_front();
                    self.kept -= 1;
                }
            }
            while self.kept > MAX_EVENTS {
                let longest = self.topics.iter_mut().max_by_key(|log| log.entries.len());
                if longest.and_then(|log| log.entries.pop_front()).is_none() {
                    break;
                }
                self.kept -= 1;
            }
        }
        while self.ledger.len() > MAX_LEDGER {
            self.ledger.pop_front();
            self.ledger_first += 1;
        }
    }

    /// The event clock, Unix milliseconds: of a recording its greatest log time.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.generator.as_ref().map_or(self.newest_ms, |(generator, _)| generator.now_ms())
    }

    /// Makes no more events.
    pub fn stop_growing(&mut self) {
        if let Some((_, left)) = &mut self.generator {
            *left = Some(0);
        }
    }

    /// Makes changes in the other data centre from now on, or in the first one again.
    pub const fn switch(&mut self, is_switched: bool) {
        if let Some((generator, _)) = &mut self.generator {
            generator.switch(is_switched);
        }
    }

    /// Pulls the event clock a part of the way to the wall clock.
    pub fn pull(&mut self, wall_ms: i64) {
        if let Some((generator, _)) = &mut self.generator {
            generator.pull(wall_ms);
        }
    }

    /// Generates up to `count` events and says how many: 0 once there are no more to come.
    pub fn grow(&mut self, count: usize) -> usize {
        for made in 0..count {
            let Some((generator, left)) = &mut self.generator else { return made };
            if *left == Some(0) {
                return made;
            }
            let event = generator.next_event();
            if event.kind == "edit"
                && let Some(left) = left
            {
                *left -= 1;
            }
            let named = (event.id, event.kind.to_owned());
            self.append(event.centre, event.log_time_ms, Some(event.offset), named, Bytes::from(event.data), None);
        }
        count
    }

    /// Generates so many seconds of event time now; gives the number of events.
    pub fn grow_seconds(&mut self, seconds: u32) -> usize {
        let until = self.now_ms() + i64::from(seconds) * 1000;
        let mut made = 0;
        while self.now_ms() < until {
            match self.grow(1) {
                0 => break,
                one => made += one,
            }
        }
        made
    }

    /// The entries from `cursor` on, at most `count`, as `cluster` shows them; the cursor moves behind them.
    ///
    /// One topic's backlog is read up to [`BURST`] before the next topic's, as the service fetches them.
    #[must_use]
    pub fn read(&self, cursor: &mut Cursor, count: usize, cluster: Cluster) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut empty_turns = 0;
        while found.len() < count && empty_turns <= cursor.order.len() {
            let topic = cursor.order.get(cursor.turn).copied().unwrap_or(0);
            match self.next_of(topic, cursor, cluster) {
                Some(entry) if cursor.left > 0 => {
                    cursor.left -= 1;
                    if let Some(next) = cursor.next.get_mut(topic) {
                        *next = Some(entry.place + 1);
                    }
                    found.push(entry);
                    empty_turns = 0;
                }
                _ => {
                    cursor.turn = (cursor.turn + 1) % cursor.order.len().max(1);
                    cursor.left = BURST;
                    empty_turns += 1;
                }
            }
        }
        found
    }

    fn next_of(&self, topic: usize, cursor: &Cursor, cluster: Cluster) -> Option<Entry> {
        let log = self.topics.get(topic)?;
        let place = cursor.next.get(topic).copied().flatten()?.max(log.first());
        let lag = if cluster.is_second { cluster.lag } else { 0 };
        log.at(place).filter(|entry| entry.place + lag < log.length).cloned()
    }

    /// Notes that an entry was sent.
    pub fn mark_served(&mut self, entry: &Entry) {
        let index = entry.line.checked_sub(self.ledger_first).and_then(|index| usize::try_from(index).ok());
        if let Some(made) = index.and_then(|index| self.ledger.get_mut(index)) {
            made.times += 1;
        }
    }

    /// Whether an entry must not be sent again: an error that was recorded ends one connection, not each.
    #[must_use]
    pub fn is_over(&self, entry: &Entry) -> bool {
        let index = entry.line.checked_sub(self.ledger_first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.ledger.get(index)).is_some_and(|made| made.kind == ERROR && made.times > 0)
    }

    /// Everything that was made, in the order of making, sent or not; `None` where the ledger could not hold it all.
    #[must_use]
    pub fn made(&self) -> Option<impl Iterator<Item = &Made>> {
        (self.ledger_first == 0).then(|| self.ledger.iter())
    }

    /// What was sent at least once, in the order of making.
    pub fn served(&self) -> impl Iterator<Item = &Made> {
        self.ledger.iter().filter(|made| made.times > 0)
    }

    /// Where a topic's next event will be.
    #[must_use]
    pub fn latest(&self, topic: usize) -> u64 {
        self.topics.get(topic).map_or(0, |log| log.length)
    }

    fn place_where(&self, topic: usize, is_wanted: impl Fn(&Entry) -> bool) -> u64 {
        let found = self.topics.get(topic).and_then(|log| log.entries.iter().find(|entry| is_wanted(entry)));
        found.map_or_else(|| self.latest(topic), |entry| entry.place)
    }

    /// The first place whose log time is `time_ms` or later, in log order, as `offsetsForTimes` finds it; the
    /// latest where there is none.
    #[must_use]
    pub fn place_for_time(&self, topic: usize, time_ms: i64, cluster: Cluster) -> u64 {
        let time_ms = time_ms.max(cluster.oldest_ms(self.now_ms()));
        self.place_where(topic, |entry| entry.log_time_ms >= time_ms)
    }

    /// The place of a Kafka offset of a cluster; −1 is the latest, one outside the log the latest too.
    #[must_use]
    pub fn place_for_offset(&self, topic: usize, offset: i64, cluster: Cluster) -> u64 {
        let oldest_ms = cluster.oldest_ms(self.now_ms());
        let is_it = |entry: &Entry| offset >= 0 && cluster.offset(entry.offset) == offset;
        self.place_where(topic, |entry| is_it(entry) && entry.log_time_ms >= oldest_ms)
    }

    /// A cursor for resolved positions; `connection` decides which topic is fetched first.
    #[must_use]
    pub fn cursor(&self, next: Vec<Option<u64>>, connection: u64) -> Cursor {
        let mut order: Vec<usize> = (0..self.topics.len()).collect();
        let turns = usize::try_from(connection).unwrap_or(0).checked_rem(order.len()).unwrap_or(0);
        order.rotate_left(turns);
        Cursor { next, order, turn: 0, left: BURST }
    }

    /// The offset of a place, for the ids that a resumed connection starts with.
    #[must_use]
    pub fn offset_at(&self, topic: usize, place: u64, cluster: Cluster) -> i64 {
        let entry = self.topics.get(topic).and_then(|log| log.at(place));
        entry.map_or(-1, |entry| cluster.offset(entry.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(times: &[i64]) -> Log {
        let event = |time: &i64| Recorded {
            topic: TOPICS[0].to_owned(),
            log_time_ms: *time,
            offset: None,
            id: Some(time.to_string()),
            kind: "edit".to_owned(),
            data: Bytes::from_static(b"{}"),
            frame: None,
        };
        Log::recorded(Recording { events: times.iter().map(event).collect(), has_mark: false }, 60)
    }

    #[test]
    fn a_time_is_found_in_log_order_not_sorted_order() {
        let log = log(&[10, 30, 20, 40]);
        assert_eq!(log.place_for_time(0, 25, Cluster::default()), 1);
        assert_eq!(log.place_for_time(0, 31, Cluster::default()), 3);
        assert_eq!(log.place_for_time(0, 99, Cluster::default()), 4);
        assert_eq!(log.place_for_time(1, 0, Cluster::default()), 0);
    }

    #[test]
    fn what_was_made_is_listed_and_what_was_sent_is_counted() {
        let mut log = log(&[1, 2, 3]);
        let mut cursor = log.cursor(vec![Some(1), None], 0);
        let second = log.read(&mut cursor, 1, Cluster::default()).remove(0);
        log.mark_served(&second);
        log.mark_served(&second);
        assert_eq!(log.made().unwrap().count(), 3);
        let served: Vec<(&str, u32)> = log.served().map(|made| (made.id.as_str(), made.times)).collect();
        assert_eq!(served, [("2", 2)]);
    }

    #[test]
    fn topics_that_were_not_asked_for_are_not_read() {
        let log = log(&[1, 2, 3]);
        assert!(log.read(&mut log.cursor(vec![None, Some(0)], 0), 10, Cluster::default()).is_empty());
        assert_eq!(log.read(&mut log.cursor(vec![Some(2), None], 0), 10, Cluster::default()).len(), 1);
    }

    fn generated(history_seconds: u32) -> Log {
        let made = crate::generator::Making { canary_seconds: 60, ..crate::generator::Making::default() };
        Log::generated(Generator::new(1, 1_000_000_000_000, made), None, history_seconds)
    }

    #[test]
    fn a_backlog_is_read_one_topics_fetch_after_the_other_and_connections_differ_in_who_comes_first() {
        let mut log = generated(100_000);
        log.grow(2_000);
        let first = |connection: u64| {
            let mut cursor = log.cursor(vec![Some(0), Some(0)], connection);
            let read: Vec<usize> =
                log.read(&mut cursor, 5_000, Cluster::default()).iter().map(|entry| entry.topic).collect();
            assert_eq!(read.len(), 2_000);
            assert!(read.iter().skip_while(|topic| **topic == 0).take(50).any(|topic| *topic == 1));
            read[0]
        };
        assert_eq!([first(0), first(1)], [0, 1], "the idle data centre's canaries come first every other time");
    }

    #[test]
    fn a_second_cluster_numbers_otherwise_and_lags() {
        let mut log = generated(100_000);
        log.grow(500);
        let second = Cluster { is_second: true, lag: 10, held_seconds: None };
        let place = log.place_for_time(0, 0, Cluster::default());
        let (here, there) = (log.offset_at(0, place, Cluster::default()), log.offset_at(0, place, second));
        assert_ne!(here, there);
        assert_eq!(log.place_for_offset(0, there, second), place);
        assert_eq!(log.place_for_offset(0, here, second), log.latest(0), "an offset of the other cluster");
        let read = log.read(&mut log.cursor(vec![Some(0), None], 0), 1_000, second);
        assert_eq!(read.len() as u64 + 10, log.latest(0));
        let text = String::from_utf8(read[0].data_in(second).to_vec()).unwrap();
        assert!(text.contains(&format!("\"offset\":{there}")), "{text}");
    }

    #[test]
    fn the_last_events_count_as_growth_though_they_fill_no_batch() {
        let generator = Generator::new(1, 1_000_000_000_000, crate::generator::Making::default());
        let mut log = Log::generated(generator, Some(3), 3600);
        let made = log.grow(64);
        assert!((3..64).contains(&made), "{made}");
        assert_eq!(log.grow(64), 0);
    }

    #[test]
    fn an_hour_is_made_at_once_though_nobody_reads() {
        let mut log = generated(100_000);
        let made = log.grow_seconds(600);
        assert!((19_000..23_000).contains(&made), "{made}");
        assert_eq!(log.made().unwrap().count(), made);
        assert_eq!(log.served().count(), 0);
    }

    #[test]
    fn an_odd_time_keeps_nothing_from_being_forgotten() {
        let made = crate::generator::Making { odd_every: Some(50), ..crate::generator::Making::default() };
        let mut log = Log::generated(Generator::new(1, 1_000_000_000_000, made), None, 10);
        log.grow(2_000);
        assert!(log.kept < 500, "{}", log.kept);
    }

    #[test]
    fn generated_history_is_bounded() {
        let mut log = generated(10);
        log.grow(2_000);
        assert!(log.kept < 500, "{}", log.kept);
        assert_eq!(log.latest(0) + log.latest(1), 2_000);
    }
}
