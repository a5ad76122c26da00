//! Consumer groups: one id, one of two protocols, and committed offsets that belong to neither.

pub(crate) mod classic;
pub(crate) mod consumer;
pub(crate) mod offsets;

use std::collections::BTreeMap;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;

use classic::ClassicGroup;
use consumer::ConsumerGroup;
use offsets::{CommittedOffset, Offsets};

use crate::limits::{self, Counts, Refused};
use crate::text::own;

/// Characters of a client's id in the names of its members.
const MOST_NAME_CHARS: usize = 249;

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) id: StrBytes,
    pub(crate) host: StrBytes,
}

/// Which member a commit says it comes from.
#[derive(Debug)]
pub(crate) struct MemberClaim<'a> {
    pub(crate) member: &'a StrBytes,
    /// Generation, or member epoch; below 0 outside group management.
    pub(crate) epoch: i32,
}

/// One id's members, in the protocol that they speak.
#[derive(Debug)]
pub(crate) enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    /// What its members cost.
    fn bytes(&self) -> usize {
        match self {
            Self::Classic(group) => group.bytes(),
            Self::Consumer(group) => group.bytes(),
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state_name(),
            Self::Consumer(group) => group.state_name(),
        }
    }
}

/// All groups and all committed offsets.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) by_id: BTreeMap<StrBytes, Group>,
    pub(crate) offsets: Offsets,
    pub(crate) members_named: u64,
}

impl Groups {
    /// A new member's id; unlike a random one it tells in the log who came first.
    pub(crate) fn name_member(&mut self, client: &Client) -> StrBytes {
        self.members_named += 1;
        let client: String = client.id.chars().take(MOST_NAME_CHARS).collect();
        StrBytes::from_string(format!("{client}-{:06}-{}", self.members_named, uuid::Uuid::new_v4()))
    }

    /// The classic group of this id, where there is one.
    pub(crate) fn known_classic(&mut self, id: &StrBytes) -> Result<&mut ClassicGroup, ResponseError> {
        match self.by_id.get_mut(id) {
            None => Err(ResponseError::UnknownMemberId),
            Some(Group::Classic(group)) => Ok(group),
            Some(Group::Consumer(_)) => Err(ResponseError::InconsistentGroupProtocol),
        }
    }

    /// Whether a group of this id may be, and may have so many bytes more.
    pub(crate) fn admits(&mut self, id: &StrBytes, bytes: usize, refused: &Counts) -> Result<(), ResponseError> {
        if id.len() > limits::ID_BYTES {
            refused.add(Refused::Ids);
            return Err(ResponseError::InvalidGroupId);
        }
        if !self.by_id.contains_key(id) && self.by_id.len() >= limits::GROUPS {
            let offsets = &self.offsets;
            self.by_id.retain(|id, group| !group.is_empty() || offsets.has_any(id));
            if self.by_id.len() >= limits::GROUPS {
                return Err(refused.refuse(Refused::Groups));
            }
        }
        if bytes == 0 {
            return Ok(());
        }
        let of_group = self.by_id.get(id).map_or(0, Group::bytes);
        let in_all: usize = self.by_id.values().map(Group::bytes).sum();
        if of_group + bytes > limits::GROUP_BYTES || in_all + bytes > limits::GROUPS_BYTES {
            return Err(refused.refuse(Refused::Groups));
        }
        Ok(())
    }

    /// The classic group of this id. One that still has members of the other protocol is refused.
    pub(crate) fn classic(&mut self, id: &StrBytes) -> Result<&mut ClassicGroup, ResponseError> {
        let group = self.by_id.entry(own(id)).or_insert_with(|| Group::Classic(ClassicGroup::default()));
        if let Group::Consumer(other) = group
            && other.is_empty()
        {
            *group = Group::Classic(ClassicGroup::default());
        }
        match group {
            Group::Classic(group) => Ok(group),
            Group::Consumer(_) => Err(ResponseError::InconsistentGroupProtocol),
        }
    }

    /// The KIP-848 group of this id, likewise.
    pub(crate) fn consumer(&mut self, id: &StrBytes) -> Result<&mut ConsumerGroup, ResponseError> {
        let group = self.by_id.entry(own(id)).or_insert_with(|| Group::Consumer(ConsumerGroup::default()));
        if let Group::Classic(other) = group
            && other.is_empty()
        {
            *group = Group::Consumer(ConsumerGroup::default());
        }
        match group {
            Group::Consumer(group) => Ok(group),
            Group::Classic(_) => Err(ResponseError::InconsistentGroupProtocol),
        }
    }

    /// Whether a committer is a member of its group's present generation.
    pub(crate) fn check_claim(&self, group: &GroupId, claim: &MemberClaim<'_>) -> Result<(), ResponseError> {
        if claim.epoch < 0 && claim.member.is_empty() {
            return Ok(());
        }
        match self.by_id.get(&group.0) {
            None => Err(ResponseError::IllegalGeneration),
            Some(Group::Classic(group)) => group.check_claim(claim),
            Some(Group::Consumer(group)) => group.check_claim(claim),
        }
    }

    pub(crate) fn has_members(&self, group: &GroupId) -> bool {
        self.by_id.get(&group.0).is_some_and(|group| !group.is_empty())
    }

    /// Stores a committed offset.
    pub(crate) fn store_offset(&mut self, group: &StrBytes, topic: &StrBytes, partition: i32, offset: CommittedOffset) {
        // A commit without a member makes a group that is empty.
        self.by_id.entry(own(group)).or_insert_with(|| Group::Classic(ClassicGroup::default()));
        self.offsets.store(group, topic, partition, offset);
    }

    /// Removes members whose session ended and completes what waited for them; true if anything moved.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for group in self.by_id.values_mut() {
            moved |= match group {
                Group::Classic(group) => group.expire(now),
                Group::Consumer(group) => group.expire(now),
            };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_at_its_bound_takes_no_more_and_keeps_what_it_has() {
        let (mut groups, refused) = (Groups::default(), Counts::default());
        let id = StrBytes::from_static_str("large");
        assert!(groups.admits(&id, limits::GROUP_BYTES, &refused).is_ok());
        let name = StrBytes::from_string("x".repeat(limits::GROUP_BYTES));
        groups.classic(&id).unwrap().pending.insert(name, Instant::now());
        assert_eq!(groups.admits(&id, 1, &refused), Err(ResponseError::GroupMaxSizeReached));
        assert_eq!(groups.admits(&id, 0, &refused), Ok(()), "a heartbeat or a commit of a member that is there");
    }
}
