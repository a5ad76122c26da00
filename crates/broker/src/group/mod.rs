//! Consumer groups: one id, one of two protocols, and committed offsets that belong to neither.

pub(crate) mod classic;
pub(crate) mod consumer;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;

use classic::ClassicGroup;
use consumer::ConsumerGroup;

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) id: StrBytes,
    pub(crate) host: StrBytes,
}

/// A committed offset with what its committer wrote beside it.
#[derive(Clone, Debug)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<StrBytes>,
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
    pub(crate) offsets: HashMap<StrBytes, BTreeMap<(StrBytes, i32), CommittedOffset>>,
    pub(crate) members_named: u64,
}

impl Groups {
    /// A new member's id; unlike a random one it tells in the log who came first.
    pub(crate) fn name_member(&mut self, client: &Client) -> StrBytes {
        self.members_named += 1;
        StrBytes::from_string(format!("{}-{:06}-{}", client.id.as_str(), self.members_named, uuid::Uuid::new_v4()))
    }

    /// The classic group of this id. One that still has members of the other protocol is refused.
    pub(crate) fn classic(&mut self, id: &StrBytes) -> Result<&mut ClassicGroup, ResponseError> {
        let group = self.by_id.entry(id.clone()).or_insert_with(|| Group::Classic(ClassicGroup::default()));
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
        let group = self.by_id.entry(id.clone()).or_insert_with(|| Group::Consumer(ConsumerGroup::default()));
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
    pub(crate) fn store_offset(&mut self, group: &StrBytes, topic: StrBytes, partition: i32, offset: CommittedOffset) {
        // Whoever commits without joining makes a group that nobody is in.
        self.by_id.entry(group.clone()).or_insert_with(|| Group::Classic(ClassicGroup::default()));
        self.offsets.entry(group.clone()).or_default().insert((topic, partition), offset);
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
