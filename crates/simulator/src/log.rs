//! Source topics with their log times, where a position begins, and the ledger of what was served.

use std::collections::VecDeque;

use bytes::Bytes;
use schema::sse_id::SourcePosition;

use crate::generator::{Generator, TOPICS};
use crate::recording::Recorded;

/// Events that are kept at most, however long the history: about 300 MB.
const MAX_EVENTS: usize = 250_000;
/// Ids that the ledger keeps at most.
const MAX_LEDGER: usize = 2_000_000;

/// An event in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index into the topics.
    pub topic: usize,
    /// Place within its topic, from 0.
    pub place: u64,
    /// Kafka offset.
    pub offset: i64,
    /// Log time, Unix milliseconds; not sorted.
    pub log_time_ms: i64,
    /// The event.
    pub data: Bytes,
    /// The frame as recorded.
    pub frame: Option<Bytes>,
}

/// What became of an event: one line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Served {
    /// `meta.id`; empty where it cannot be read.
    pub id: String,
    /// `type`, or `canary`.
    pub kind: String,
    /// How often it was sent.
    pub times: u32,
}

/// Every source topic, in the one order in which events arrived.
#[derive(Debug)]
pub struct Log {
    topics: Vec<String>,
    entries: VecDeque<Entry>,
    /// Place of the first entry that is kept, in the order of all.
    first: u64,
    ledger: VecDeque<Served>,
    ledger_first: u64,
    lengths: Vec<u64>,
    generator: Option<(Generator, Option<u64>)>,
    history_ms: i64,
    newest_ms: i64,
}

/// Where a connection stands.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Place in the order of all.
    pub next: u64,
    /// Per topic: the first place that is wanted; `None` where the topic was not asked for.
    pub from: Vec<Option<u64>>,
}

impl Log {
    /// A log that grows by generated events, up to `edits` edits.
    #[must_use]
    pub fn generated(generator: Generator, edits: Option<u64>, history_seconds: u32) -> Self {
        let topics = TOPICS.map(str::to_owned).to_vec();
        Self::new(topics, Some((generator, edits)), history_seconds)
    }

    /// A log that holds a recording.
    #[must_use]
    pub fn recorded(events: Vec<Recorded>, history_seconds: u32) -> Self {
        let mut log = Self::new(TOPICS.map(str::to_owned).to_vec(), None, history_seconds);
        for event in events {
            let topic = log.topic(&event.topic);
            let Recorded { id, kind, log_time_ms, offset, data, frame, topic: _ } = event;
            log.append(topic, log_time_ms, offset, (id.unwrap_or_default(), kind), data, frame);
        }
        log
    }

    fn new(topics: Vec<String>, generator: Option<(Generator, Option<u64>)>, history_seconds: u32) -> Self {
        let lengths = vec![0; topics.len()];
        Self {
            topics,
            entries: VecDeque::new(),
            first: 0,
            ledger: VecDeque::new(),
            ledger_first: 0,
            lengths,
            generator,
            history_ms: i64::from(history_seconds) * 1000,
            newest_ms: 0,
        }
    }

    fn topic(&mut self, name: &str) -> usize {
        if let Some(known) = self.topics.iter().position(|topic| topic == name) {
            return known;
        }
        self.topics.push(name.to_owned());
        self.lengths.push(0);
        self.topics.len() - 1
    }

    /// Topic names, by index.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.topics
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
        let place = self.lengths.get_mut(topic).map_or(0, |length| {
            *length += 1;
            *length - 1
        });
        let offset = offset.unwrap_or_else(|| i64::try_from(place).unwrap_or(i64::MAX));
        self.entries.push_back(Entry { topic, place, offset, log_time_ms, data, frame });
        self.ledger.push_back(Served { id, kind, times: 0 });
        self.newest_ms = self.newest_ms.max(log_time_ms);
        let oldest_ms = self.newest_ms - self.history_ms;
        // A recording is kept whole, whatever it spans.
        while self.generator.is_some()
            && (self.entries.len() > MAX_EVENTS
                || self.entries.front().is_some_and(|entry| entry.log_time_ms < oldest_ms))
        {
            self.entries.pop_front();
            self.first += 1;
        }
        while self.ledger.len() > MAX_LEDGER {
            self.ledger.pop_front();
            self.ledger_first += 1;
        }
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
            self.append(event.centre, event.log_time_ms, None, named, Bytes::from(event.data), None);
        }
        count
    }

    /// The entries from `cursor` on, at most `count`, and the cursor behind them.
    #[must_use]
    pub fn read(&self, cursor: &Cursor, count: usize) -> (Vec<(u64, Entry)>, Cursor) {
        let mut next = cursor.next.max(self.first);
        let mut found = Vec::new();
        let skip = usize::try_from(next - self.first).unwrap_or(usize::MAX);
        for entry in self.entries.iter().skip(skip) {
            if found.len() == count {
                break;
            }
            let wanted = cursor.from.get(entry.topic).copied().flatten().is_some_and(|from| entry.place >= from);
            if wanted {
                found.push((next, entry.clone()));
            }
            next += 1;
        }
        (found, Cursor { next, from: cursor.from.clone() })
    }

    /// Notes that the entry at this place was sent.
    pub fn mark_served(&mut self, place: u64) {
        let index = place.checked_sub(self.ledger_first).and_then(|index| usize::try_from(index).ok());
        if let Some(served) = index.and_then(|index| self.ledger.get_mut(index)) {
            served.times += 1;
        }
    }

    /// The ledger, in the order of arrival; only what was sent at least once.
    pub fn served(&self) -> impl Iterator<Item = &Served> {
        self.ledger.iter().filter(|served| served.times > 0)
    }

    /// Where a topic's next event will be.
    #[must_use]
    pub fn latest(&self, topic: usize) -> u64 {
        self.lengths.get(topic).copied().unwrap_or(0)
    }

    /// The first place whose log time is `time_ms` or later, in log order, as `offsetsForTimes` finds it; the
    /// latest where there is none.
    #[must_use]
    pub fn place_for_time(&self, topic: usize, time_ms: i64) -> u64 {
        let mut of_topic = self.entries.iter().filter(|entry| entry.topic == topic);
        of_topic.find(|entry| entry.log_time_ms >= time_ms).map_or_else(|| self.latest(topic), |entry| entry.place)
    }

    /// The place of a Kafka offset; −1 is the latest, one outside the log the latest too.
    #[must_use]
    pub fn place_for_offset(&self, topic: usize, offset: i64) -> u64 {
        let mut of_topic = self.entries.iter().filter(|entry| entry.topic == topic);
        of_topic
            .find(|entry| offset >= 0 && entry.offset == offset)
            .map_or_else(|| self.latest(topic), |entry| entry.place)
    }

    /// A cursor for resolved positions: `from` per topic.
    #[must_use]
    pub fn cursor(&self, from: Vec<Option<u64>>) -> Cursor {
        let earliest = self
            .entries
            .iter()
            .position(|entry| from.get(entry.topic).copied().flatten().is_some_and(|from| entry.place >= from))
            .unwrap_or(self.entries.len());
        Cursor { next: self.first + earliest as u64, from }
    }

    /// The offset of a place, for the ids that a resumed connection starts with.
    #[must_use]
    pub fn offset_at(&self, topic: usize, place: u64) -> i64 {
        let mut of_topic = self.entries.iter().filter(|entry| entry.topic == topic);
        of_topic.find(|entry| entry.place == place).map_or(-1, |entry| entry.offset)
    }
}

/// The id of a connection after an event: its topic's entry holds the log time + 1.
pub fn advance(id: &mut [SourcePosition], topic: &str, log_time_ms: i64) {
    if let Some(entry) = id.iter_mut().find(|entry| entry.topic == topic) {
        entry.offset = None;
        entry.timestamp = Some(log_time_ms + 1);
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
        Log::recorded(times.iter().map(event).collect(), 60)
    }

    #[test]
    fn a_time_is_found_in_log_order_not_sorted_order() {
        let log = log(&[10, 30, 20, 40]);
        assert_eq!(log.place_for_time(0, 25), 1);
        assert_eq!(log.place_for_time(0, 31), 3);
        assert_eq!(log.place_for_time(0, 99), 4);
        assert_eq!(log.place_for_time(1, 0), 0);
    }

    #[test]
    fn only_what_was_sent_is_in_the_ledger() {
        let mut log = log(&[1, 2, 3]);
        log.mark_served(1);
        log.mark_served(1);
        let served: Vec<&Served> = log.served().collect();
        assert_eq!(served, [&Served { id: "2".into(), kind: "edit".into(), times: 2 }]);
    }

    #[test]
    fn a_cursor_skips_topics_that_were_not_asked_for() {
        let log = log(&[1, 2, 3]);
        let cursor = log.cursor(vec![None, Some(0)]);
        assert!(log.read(&cursor, 10).0.is_empty());
        let cursor = log.cursor(vec![Some(2), None]);
        assert_eq!(log.read(&cursor, 10).0.len(), 1);
    }

    #[test]
    fn the_last_events_count_as_growth_though_they_fill_no_batch() {
        let generator = Generator::new(1, 1_000_000_000_000, 60, None);
        let mut log = Log::generated(generator, Some(3), 3600);
        let made = log.grow(64);
        assert!((3..64).contains(&made), "{made}");
        assert_eq!(log.grow(64), 0);
    }

    #[test]
    fn generated_history_is_bounded() {
        let generator = Generator::new(1, 1_000_000_000_000, 60, None);
        let mut log = Log::generated(generator, None, 10);
        log.grow(2_000);
        assert!(log.entries.len() < 500, "{}", log.entries.len());
        assert_eq!(log.first + log.entries.len() as u64, 2_000);
    }
}
