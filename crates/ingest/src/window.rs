//! The ids that are known: what a replay shows again is dropped by it. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Ids that are held at most; about 100 bytes each.
pub const MOST_IDS: usize = 1_000_000;

/// An id in 16 bytes: a UUID's own, else the first of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdKey(pub Uuid);

impl IdKey {
    /// The key of an id, as in the header `ce_id`.
    #[must_use]
    pub fn of(id: &str) -> Self {
        if let Ok(uuid) = Uuid::try_parse(id) {
            return Self(uuid);
        }
        let digest = Sha256::digest(id.as_bytes());
        let first = digest.first_chunk::<16>().copied().unwrap_or_default();
        Self(Uuid::from_bytes(first))
    }
}

impl std::fmt::Display for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a raw topic.
pub type RawPartition = (String, i32);

/// Under which time of which source an id is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptUnder {
    /// Index of the source.
    pub source: usize,
    /// The source's greatest handled time when the event was handled, or the event's own where that is later.
    pub time_ms: i64,
}

/// Where each source is: an id is forgotten once it lies this far behind.
pub type Reach = [i64];

/// Known ids, in the order in which they were written.
#[derive(Debug, Default)]
pub struct Window {
    ids: HashMap<IdKey, [Option<KeptUnder>; 2]>,
    /// Per raw partition: the sequence numbers of known ids.
    raw: BTreeMap<RawPartition, VecDeque<(i64, IdKey)>>,
    /// Ids without a sequence number: dead letters.
    loose: VecDeque<IdKey>,
}

impl Window {
    /// Whether an id is known.
    #[must_use]
    pub fn contains(&self, id: IdKey) -> bool {
        self.ids.contains_key(&id)
    }

    /// Whether an id is known of this source.
    #[must_use]
    pub fn contains_of(&self, id: IdKey, source: usize) -> bool {
        self.ids.get(&id).is_some_and(|slots| slots.iter().flatten().any(|slot| slot.source == source))
    }

    /// Notes the id of a raw record.
    pub fn insert_raw(&mut self, id: IdKey, kept: KeptUnder, partition: RawPartition, seq: i64) {
        self.keep(id, kept);
        self.raw.entry(partition).or_default().push_back((seq, id));
    }

    /// Notes the id of an event that has no raw record.
    pub fn insert_loose(&mut self, id: IdKey, kept: KeptUnder) {
        self.keep(id, kept);
        self.loose.push_back(id);
    }

    /// A known event was met again: it is kept under this time too, if that is later.
    pub fn keep(&mut self, id: IdKey, kept: KeptUnder) {
        let slots = self.ids.entry(id).or_default();
        let index = slots.iter().position(|slot| slot.is_none_or(|known| known.source == kept.source));
        if let Some(slot) = index.and_then(|index| slots.get_mut(index)) {
            let time_ms = slot.map_or(kept.time_ms, |known| known.time_ms.max(kept.time_ms));
            *slot = Some(KeptUnder { time_ms, ..kept });
        }
    }

    fn is_wanted(slots: &[Option<KeptUnder>; 2], reach: &Reach) -> bool {
        slots.iter().flatten().any(|slot| reach.get(slot.source).is_none_or(|reach| slot.time_ms >= *reach))
    }

    /// Forgets what no position can reach any more, oldest records first.
    pub fn forget(&mut self, reach: &Reach) {
        let ids = &mut self.ids;
        let mut is_over = |id: &IdKey| match ids.get(id) {
            Some(slots) if Self::is_wanted(slots, reach) => false,
            _ => {
                ids.remove(id);
                true
            }
        };
        for queue in self.raw.values_mut() {
            while queue.front().is_some_and(|(_, id)| is_over(id)) {
                queue.pop_front();
            }
        }
        while self.loose.front().is_some_and(&mut is_over) {
            self.loose.pop_front();
        }
    }

    /// Takes the oldest ids of each partition until at most `most` are left. Returns what the removed ids were kept under.
    pub fn shrink(&mut self, most: usize) -> Vec<KeptUnder> {
        let mut gone = Vec::new();
        while self.ids.len() > most {
            let queues = self.raw.values_mut().filter_map(|queue| queue.pop_front().map(|(_, id)| id));
            let taken: Vec<IdKey> = queues.chain(self.loose.pop_front()).collect();
            if taken.is_empty() {
                break;
            }
            gone.extend(
                taken.iter().filter_map(|id| self.ids.remove(id)).flat_map(|slots| slots.into_iter().flatten()),
            );
        }
        gone
    }

    /// Per raw partition: the sequence number from which on ids are still needed.
    #[must_use]
    pub fn floors(&self) -> BTreeMap<RawPartition, i64> {
        let first = |queue: &VecDeque<(i64, IdKey)>| queue.front().map(|(seq, _)| *seq);
        self.raw.iter().filter_map(|(partition, queue)| Some((partition.clone(), first(queue)?))).collect()
    }

    /// Number of known ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The oldest time of a source that an id is kept under, for a gauge.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let fronts = self.raw.values().filter_map(|queue| queue.front()).filter_map(|(_, id)| self.ids.get(id));
        fronts.filter_map(|slots| slots.iter().flatten().map(|slot| slot.time_ms).max()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> IdKey {
        IdKey::of(text)
    }

    fn kept(source: usize, time_ms: i64) -> KeptUnder {
        KeptUnder { source, time_ms }
    }

    fn raw(window: &mut Window, name: &str, seq: i64, under: KeptUnder) {
        window.insert_raw(id(name), under, ("raw".to_owned(), 0), seq);
    }

    #[test]
    fn a_uuid_is_its_own_key_and_any_other_text_its_hash() {
        let uuid = "6fd38eb4-ae36-4c7e-89a9-7d55bf1a3f5b";
        assert_eq!(id(uuid).to_string(), uuid);
        assert_ne!(id("sha256:a"), id("sha256:b"));
    }

    #[test]
    fn ids_are_forgotten_from_the_oldest_record_on_and_the_floor_follows() {
        let mut window = Window::default();
        for (seq, time) in [(4, 10), (5, 30), (6, 20), (7, 40)] {
            raw(&mut window, &format!("e{seq}"), seq, kept(0, time));
        }
        window.forget(&[25]);
        assert!(!window.contains(id("e4")) && window.contains(id("e5")));
        assert!(window.contains(id("e6")), "what lies behind a needed record stays");
        assert_eq!(window.floors(), BTreeMap::from([(("raw".to_owned(), 0), 5)]));
    }

    #[test]
    fn an_id_of_two_sources_is_kept_under_the_later() {
        let mut window = Window::default();
        raw(&mut window, "e", 1, kept(0, 10));
        window.keep(id("e"), kept(1, 90));
        window.forget(&[50, 80]);
        assert!(window.contains_of(id("e"), 1));
        window.forget(&[50, 91]);
        assert!(window.is_empty());
    }

    #[test]
    fn at_the_bound_the_oldest_go_and_their_times_are_told() {
        let mut window = Window::default();
        for seq in 0..5 {
            raw(&mut window, &format!("e{seq}"), seq, kept(0, seq * 10));
        }
        let gone: Vec<i64> = window.shrink(3).into_iter().map(|slot| slot.time_ms).collect();
        assert_eq!((gone, window.len()), (vec![0, 10], 3));
    }

    proptest::proptest! {
        #[test]
        fn nothing_inside_the_reach_is_forgotten(times in proptest::collection::vec(0_i64..1000, 1..80), reach in 0_i64..1000) {
            let mut window = Window::default();
            for (seq, time) in times.iter().enumerate() {
                raw(&mut window, &seq.to_string(), i64::try_from(seq).unwrap(), kept(0, *time));
            }
            window.forget(&[reach]);
            for (seq, time) in times.iter().enumerate() {
                proptest::prop_assert!(*time < reach || window.contains(id(&seq.to_string())));
            }
        }
    }
}
