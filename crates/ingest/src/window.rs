//! The ids that are known: what a replay shows again is dropped by it. Pure.

use std::collections::{BTreeMap, HashMap};

/// Ids that are known at most before the alarm: an hour of the live stream at ten times its rate.
const ALARM: usize = 1_000_000;

/// Known ids with their log times.
///
/// Only what no position can reach any more is forgotten. The count has an alarm, never an eviction.
#[derive(Debug, Default)]
pub struct Window {
    times: HashMap<String, i64>,
    by_time: BTreeMap<i64, Vec<String>>,
}

impl Window {
    /// Whether an id is known.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.times.contains_key(id)
    }

    /// Notes an id; its latest log time counts.
    pub fn insert(&mut self, id: String, log_time_ms: i64) {
        if self.times.get(&id).is_some_and(|known| *known >= log_time_ms) {
            return;
        }
        self.by_time.entry(log_time_ms).or_default().push(id.clone());
        self.times.insert(id, log_time_ms);
    }

    /// Forgets ids of log times below `reach_ms`, which no position that may be sent can reach.
    pub fn forget_before(&mut self, reach_ms: i64) {
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= reach_ms {
                break;
            }
            let (time, ids) = entry.remove_entry();
            for id in ids {
                // An id seen again later stands under its later time.
                if self.times.get(&id) == Some(&time) {
                    self.times.remove(&id);
                }
            }
        }
    }

    /// Number of known ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether there are more than there should ever be.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        self.len() > ALARM
    }

    /// Log time of the oldest known id.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.by_time.keys().next().copied()
    }

    /// Log time of the newest known id.
    #[must_use]
    pub fn newest_ms(&self) -> Option<i64> {
        self.by_time.keys().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_inside_the_reach_is_forgotten() {
        let mut window = Window::default();
        for time in [30, 10, 20, 20] {
            window.insert(format!("e{time}"), time);
        }
        window.forget_before(20);
        assert!(!window.contains("e10"));
        assert!(window.contains("e20") && window.contains("e30"));
        assert_eq!((window.oldest_ms(), window.newest_ms(), window.len()), (Some(20), Some(30), 2));
    }

    #[test]
    fn an_id_seen_again_later_stays_known_longer() {
        let mut window = Window::default();
        window.insert("e".into(), 10);
        window.insert("e".into(), 50);
        window.insert("e".into(), 20);
        window.forget_before(40);
        assert!(window.contains("e"));
        window.forget_before(51);
        assert!(!window.contains("e") && window.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn forgetting_leaves_exactly_the_newer_ones(times in proptest::collection::vec(0_i64..1000, 1..80), reach in 0_i64..1000) {
            let mut window = Window::default();
            for (index, time) in times.iter().enumerate() {
                window.insert(index.to_string(), *time);
            }
            window.forget_before(reach);
            for (index, time) in times.iter().enumerate() {
                proptest::prop_assert_eq!(window.contains(&index.to_string()), *time >= reach);
            }
        }
    }
}
