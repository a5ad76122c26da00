//! Replicas by their names, and the letter that each goes by.

use std::collections::{BTreeMap, VecDeque};

use schema::control::{Moment, SinkStatus};

/// A sink that says nothing for this long is silent: its word about what it owns counts no more.
pub const SILENT_MS: i64 = 3_000;
/// One that is gone is shown this long.
const SHOWN_MS: i64 = 60_000;
/// Its letter waits for it this long.
const LETTER_KEPT_MS: i64 = 600_000;
/// Rates are taken over this long.
const RATE_MS: i64 = 5_000;

/// Since when we hear at all, and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hearing {
    /// When words and looks began to come without a gap, Unix milliseconds.
    pub since_ms: i64,
    /// Now.
    pub now_ms: i64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It said so.
    Left,
    /// The group forgot it.
    Lost,
}

/// A sink by its name, in its latest run.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its last word.
    pub status: SinkStatus,
    /// When that came, Unix milliseconds.
    pub heard_ms: i64,
    /// How and when it ended.
    pub ended: Option<(End, i64)>,
    /// Whether the group has listed this run's member.
    pub was_listed: bool,
    /// When it gave partitions back, by its own word.
    gave_back: BTreeMap<i32, i64>,
    stored: VecDeque<(i64, u64)>,
}

impl Replica {
    /// A run's first word.
    #[must_use]
    pub fn new(status: SinkStatus, at_ms: i64) -> Self {
        let mut replica = Self {
            status,
            heard_ms: at_ms,
            ended: None,
            was_listed: false,
            gave_back: BTreeMap::new(),
            stored: VecDeque::new(),
        };
        replica.note(at_ms);
        replica
    }

    /// Takes a word; one that came out of order changes nothing.
    pub fn hear(&mut self, status: SinkStatus, at_ms: i64) {
        if status.number > self.status.number {
            for owned in &self.status.owned {
                self.gave_back.insert(owned.partition, at_ms);
            }
            self.gave_back.retain(|partition, _| !status.owns(*partition));
            // It was taken for lost, and was only silent.
            self.ended.take_if(|(end, _)| *end == End::Lost);
            self.status = status;
            self.heard_ms = self.heard_ms.max(at_ms);
            self.note(at_ms);
        }
    }

    fn note(&mut self, at_ms: i64) {
        self.stored.push_back((at_ms, self.status.stored));
        while self.stored.len() > 2 && self.stored.get(1).is_some_and(|(then, _)| at_ms - then >= RATE_MS) {
            self.stored.pop_front();
        }
        if self.status.moment == Moment::Leaving {
            self.ended.get_or_insert((End::Left, at_ms));
        }
    }

    /// Edits stored a second, over the last seconds.
    #[must_use]
    pub fn rate(&self, hearing: Hearing) -> f64 {
        let Some((from_ms, from)) = self.stored.front() else { return 0.0 };
        let milliseconds = (hearing.now_ms - from_ms).max(1_000);
        #[expect(clippy::cast_precision_loss, reason = "numbers of edits and milliseconds fit a float well")]
        let rate = (self.status.stored.saturating_sub(*from)) as f64 * 1_000.0 / milliseconds as f64;
        if self.is_speaking(hearing) { rate } else { 0.0 }
    }

    /// Whether its last word still counts; while we could hear nobody, nobody was silent.
    #[must_use]
    pub fn is_speaking(&self, hearing: Hearing) -> bool {
        self.ended.is_none() && hearing.now_ms - self.heard_ms.max(hearing.since_ms) <= SILENT_MS
    }

    /// Whether it is still worth showing.
    #[must_use]
    pub fn is_shown(&self, now_ms: i64) -> bool {
        self.ended.is_none_or(|(_, at_ms)| now_ms - at_ms <= SHOWN_MS)
    }

    /// Whether it gave the partition back at or after a moment: a look of before knows nothing of it.
    #[must_use]
    pub fn gave_back_since(&self, partition: i32, at_ms: i64) -> bool {
        self.gave_back.get(&partition).is_some_and(|gave_ms| *gave_ms >= at_ms)
    }

    /// Whether it says that it owns the partition and is giving it back.
    #[must_use]
    pub fn is_giving_back(&self, partition: i32) -> bool {
        self.status.moment == Moment::Revoking && self.status.moving.contains(&partition)
    }
}

/// Letters by name: that of its number where it is free (`sink-2` is B), else the lowest free one; kept for a while after
/// its owner is gone.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    slots: BTreeMap<String, (usize, i64)>,
}

impl Letters {
    /// The slot of a name, from 0.
    pub fn slot(&mut self, name: &str, now_ms: i64) -> usize {
        self.slots.retain(|kept, (_, seen_ms)| kept == name || now_ms - *seen_ms <= LETTER_KEPT_MS);
        if let Some((slot, seen_ms)) = self.slots.get_mut(name) {
            *seen_ms = now_ms.max(*seen_ms);
            return *slot;
        }
        let taken: Vec<usize> = self.slots.values().map(|(slot, _)| *slot).collect();
        let own = number(name).filter(|slot| !taken.contains(slot));
        let lowest = || (0..=taken.len()).find(|slot| !taken.contains(slot)).unwrap_or(taken.len());
        let free = own.unwrap_or_else(lowest);
        self.slots.insert(name.to_owned(), (free, now_ms));
        free
    }

    /// The letter of a name that has one.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<String> {
        self.slots.get(name).map(|(slot, _)| letter(*slot))
    }
}

/// The number that a name ends with, from 0, while there is a letter for it.
fn number(name: &str) -> Option<usize> {
    let (_, digits) = name.rsplit_once('-')?;
    digits.parse::<usize>().ok()?.checked_sub(1).filter(|slot| *slot < 26)
}

/// A, B, …, Z, AA, AB, ….
fn letter(slot: usize) -> String {
    const ALPHABET: &[u8; 26] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let last = char::from(*ALPHABET.get(slot % 26).unwrap_or(&b'?'));
    if slot < 26 { last.to_string() } else { format!("{}{last}", letter(slot / 26 - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_the_lowest_free_one_and_waits_for_a_sink_that_restarts() {
        let mut letters = Letters::default();
        assert_eq!((letters.slot("a", 0), letters.slot("b", 0), letters.slot("c", 0)), (0, 1, 2));
        assert_eq!(letters.slot("c", LETTER_KEPT_MS), 2);
        assert_eq!(letters.slot("d", LETTER_KEPT_MS), 3, "the letters of a and b still wait");
        assert_eq!(letters.slot("e", LETTER_KEPT_MS + 1), 0, "now they are free");
        assert_eq!(letters.of("e").as_deref(), Some("A"));
        assert_eq!(letters.slot("sink-7", LETTER_KEPT_MS), 6, "the letter of its number");
        assert_eq!(letters.slot("other-7", LETTER_KEPT_MS), 1, "which is taken by now");
        assert_eq!([letter(25), letter(26), letter(52)], ["Z", "AA", "BA"]);
    }
}
