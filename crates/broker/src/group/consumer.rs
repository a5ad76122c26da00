//! The KIP-848 group protocol: the broker computes the assignment, members follow it heartbeat by heartbeat.
//!
//! A partition is granted to a member only when no other member holds it any more: first its holder is told to
//! give it up, then the holder's heartbeat says that it has, then it is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Client, MemberClaim};
use crate::catalog::Topics;
use crate::limits::ENTRY_BYTES;

pub(crate) const LEAVE_EPOCH: i32 = -1;
pub(crate) const STATIC_LEAVE_EPOCH: i32 = -2;

/// What a partition costs a member that has it, or will.
pub(crate) const PARTITION_BYTES: usize = 32;

pub(crate) type Partitions = BTreeSet<(Uuid, i32)>;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) subscribed: BTreeSet<StrBytes>,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    /// What the broker wants it to own in the end.
    pub(crate) target: Partitions,
    /// What it was told to own.
    pub(crate) granted: Partitions,
    /// What it was told to give up and may still own.
    pub(crate) leaving: Partitions,
    pub(crate) last_seen: Instant,
    pub(crate) session_timeout: Duration,
    /// Whether its next answer has to carry its assignment.
    pub(crate) owes_assignment: bool,
}

/// One KIP-848 group.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    pub(crate) epoch: i32,
    pub(crate) members: BTreeMap<StrBytes, Member>,
    /// Partitions per topic as of the last target assignment.
    pub(crate) topics: BTreeMap<StrBytes, (Uuid, usize)>,
}

impl ConsumerGroup {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What its members cost.
    pub(crate) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| {
            let subscribed: usize = member.subscribed.iter().map(|name| ENTRY_BYTES + name.len()).sum();
            let partitions = member.target.len() + member.granted.len() + member.leaving.len();
            ENTRY_BYTES + id.len() + member.client.id.len() + subscribed + partitions * PARTITION_BYTES
        });
        members.sum()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    /// The state with members in view: reconciling while one still follows.
    pub(crate) fn described_state(&self) -> &'static str {
        let settled = |member: &Member| member.granted == member.target && member.leaving.is_empty();
        if self.members.values().all(settled) { self.state_name() } else { "Reconciling" }
    }

    pub(crate) fn check_claim(&self, claim: &MemberClaim<'_>) -> Result<(), ResponseError> {
        let member = self.members.get(claim.member).ok_or(ResponseError::UnknownMemberId)?;
        if claim.epoch == member.epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// Raises the epoch and computes who shall own what: even, and with as few moves as can be.
    pub(crate) fn assign(&mut self, topics: &Topics) {
        self.epoch += 1;
        let subscribed: BTreeSet<&StrBytes> = self.members.values().flat_map(|member| &member.subscribed).collect();
        let topics = subscribed.into_iter().filter_map(|name| Some((name.clone(), topics.get(name)?)));
        self.topics = topics.map(|(name, topic)| (name, (topic.id, topic.partitions.len()))).collect();
        let mut targets: BTreeMap<StrBytes, Partitions> =
            self.members.keys().map(|id| (id.clone(), Partitions::new())).collect();
        for (name, (id, count)) in &self.topics {
            let subscribers: Vec<&StrBytes> =
                self.members.iter().filter(|(_, member)| member.subscribed.contains(name)).map(|(id, _)| id).collect();
            if subscribers.is_empty() {
                continue;
            }
            let (share, extra) = (count / subscribers.len(), count % subscribers.len());
            let all = (0..*count).filter_map(|index| Some((*id, i32::try_from(index).ok()?)));
            let mut free: Partitions = all.collect();
            let mut larger_left = extra;
            let mut kept: BTreeMap<&StrBytes, Partitions> = BTreeMap::new();
            for member in &subscribers {
                let old = self.members.get(*member).map(|member| &member.target);
                let mut own: Partitions = old.into_iter().flatten().filter(|at| free.contains(at)).copied().collect();
                let limit = if own.len() > share && larger_left > 0 {
                    larger_left -= 1;
                    share + 1
                } else {
                    share
                };
                while own.len() > limit {
                    own.pop_last();
                }
                free.retain(|at| !own.contains(at));
                kept.insert(member, own);
            }
            for member in &subscribers {
                let own = kept.entry(member).or_default();
                let limit = if own.len() <= share && larger_left > 0 {
                    larger_left -= 1;
                    share + 1
                } else {
                    own.len().max(share)
                };
                while own.len() < limit {
                    let Some(next) = free.pop_first() else { break };
                    own.insert(next);
                }
                targets.entry((*member).clone()).or_default().extend(own.iter().copied());
            }
        }
        for (id, target) in targets {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
            }
        }
    }

    /// Whether a subscribed topic came, went or grew since the target was computed.
    pub(crate) fn is_outdated(&self, topics: &Topics) -> bool {
        let subscribed: BTreeSet<&StrBytes> = self.members.values().flat_map(|member| &member.subscribed).collect();
        subscribed.into_iter().any(|name| {
            let present = topics.get(name).map(|topic| (topic.id, topic.partitions.len()));
            self.topics.get(name).copied() != present
        })
    }

    /// Brings one member nearer to its target.
    pub(crate) fn reconcile(&mut self, id: &StrBytes, owned: Option<&Partitions>) {
        let held_by_others: Partitions = self
            .members
            .iter()
            .filter(|(other, _)| *other != id)
            .flat_map(|(_, member)| member.granted.iter().chain(&member.leaving))
            .copied()
            .collect();
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(owned) = owned {
            member.leaving.retain(|at| owned.contains(at));
        }
        let revoked: Partitions = member.granted.difference(&member.target).copied().collect();
        if !revoked.is_empty() {
            member.granted.retain(|at| !revoked.contains(at));
            member.leaving.extend(revoked);
            member.owes_assignment = true;
        }
        if !member.leaving.is_empty() {
            return;
        }
        let gained: Partitions = member
            .target
            .iter()
            .filter(|at| !member.granted.contains(at) && !held_by_others.contains(at))
            .copied()
            .collect();
        if !gained.is_empty() {
            member.granted.extend(gained);
            member.owes_assignment = true;
        }
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
    }

    /// Removes members whose session is over.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| now.duration_since(member.last_seen) < member.session_timeout);
        let lost = self.members.len() < before;
        if lost {
            // The next heartbeat finds the target outdated and computes it anew.
            self.topics.clear();
        }
        lost
    }
}
