//! Committed offsets of all groups, and what they cost.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::protocol::StrBytes;

use crate::limits::ENTRY_BYTES;
use crate::text::own;

/// A committed offset with what its committer wrote beside it.
#[derive(Clone, Debug)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<StrBytes>,
}

/// Offsets of one group, by topic and partition.
type OfGroup = BTreeMap<(StrBytes, i32), CommittedOffset>;

/// Committed offsets of all groups.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    by_group: HashMap<StrBytes, OfGroup>,
    bytes: usize,
}

impl CommittedOffset {
    /// What it costs while it is kept.
    pub(crate) fn bytes(&self, topic: &StrBytes) -> usize {
        ENTRY_BYTES + topic.len() + self.metadata.as_ref().map_or(0, |metadata| metadata.len())
    }

    /// The same, in memory of its own.
    pub(crate) fn owned(self) -> Self {
        Self { metadata: self.metadata.as_ref().map(own), ..self }
    }
}

impl Offsets {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_any(&self, group: &StrBytes) -> bool {
        self.by_group.get(group).is_some_and(|offsets| !offsets.is_empty())
    }

    pub(crate) fn get(&self, group: &StrBytes, topic: &StrBytes, partition: i32) -> Option<&CommittedOffset> {
        self.by_group.get(group)?.get(&(topic.clone(), partition))
    }

    /// The partitions that a group has offsets of.
    pub(crate) fn partitions(&self, group: &StrBytes) -> impl Iterator<Item = &(StrBytes, i32)> {
        self.by_group.get(group).into_iter().flat_map(BTreeMap::keys)
    }

    pub(crate) fn store(&mut self, group: &StrBytes, topic: &StrBytes, partition: i32, offset: CommittedOffset) {
        self.bytes += offset.bytes(topic);
        let of_group = match self.by_group.get_mut(group) {
            Some(of_group) => of_group,
            None => self.by_group.entry(own(group)).or_default(),
        };
        // The key that is there stays.
        if let Some(before) = of_group.insert((own(topic), partition), offset.owned()) {
            self.bytes -= before.bytes(topic);
        }
    }

    /// Forgets a group's; true where it had any.
    pub(crate) fn remove(&mut self, group: &StrBytes) -> bool {
        let Some(offsets) = self.by_group.remove(group) else { return false };
        self.bytes -= offsets.iter().map(|((topic, _), offset)| offset.bytes(topic)).sum::<usize>();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_given_back_when_it_goes() {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let offset = |metadata: &str| CommittedOffset { offset: 1, leader_epoch: 0, metadata: Some(text(metadata)) };
        let mut offsets = Offsets::default();
        for (topic, partition, metadata) in [("a", 0, "long metadata"), ("a", 0, "m"), ("b", 1, ""), ("a", 1, "x")] {
            offsets.store(&text("group"), &text(topic), partition, offset(metadata));
        }
        assert_eq!(offsets.bytes(), 3 * (ENTRY_BYTES + 1) + 2);
        assert_eq!(offsets.partitions(&text("group")).count(), 3);
        assert!(offsets.remove(&text("group")) && !offsets.remove(&text("group")));
        assert_eq!(offsets.bytes(), 0);
    }
}
