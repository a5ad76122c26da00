//! The KIP-848 group protocol: the broker computes the assignment, members follow it heartbeat by heartbeat.
//!
//! A partition is granted to a member only when no other member holds it any more: first its holder is told to
//! give it up, then the holder's heartbeat says that it has, then it is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, TopicName,
    consumer_group_describe_response::{
        Assignment as DescribedAssignment, DescribedGroup, Member as DescribedMember,
        TopicPartitions as DescribedPartitions,
    },
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Client, Group, MemberClaim};
use crate::state::{Shared, State, Topics};

const LEAVE_EPOCH: i32 = -1;
const STATIC_LEAVE_EPOCH: i32 = -2;

type Partitions = BTreeSet<(Uuid, i32)>;

#[derive(Debug)]
struct Member {
    client: Client,
    subscribed: BTreeSet<StrBytes>,
    epoch: i32,
    previous_epoch: i32,
    /// What the broker wants it to own in the end.
    target: Partitions,
    /// What it was told to own.
    granted: Partitions,
    /// What it was told to give up and may still own.
    leaving: Partitions,
    last_seen: Instant,
    session_timeout: Duration,
    /// Whether its next answer has to carry its assignment.
    untold: bool,
}

/// One KIP-848 group.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    epoch: i32,
    members: BTreeMap<StrBytes, Member>,
    /// Partitions per topic as of the last target assignment.
    topics: BTreeMap<StrBytes, (Uuid, usize)>,
}

impl ConsumerGroup {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    /// The state with members in view: reconciling while one still follows.
    fn described_state(&self) -> &'static str {
        let settled = |member: &Member| member.granted == member.target && member.leaving.is_empty();
        if self.members.values().all(settled) { self.state_name() } else { "Reconciling" }
    }

    pub(crate) fn check_claim(&self, claim: &MemberClaim<'_>) -> Result<(), ResponseError> {
        let member = self.members.get(claim.member).ok_or(ResponseError::UnknownMemberId)?;
        if claim.epoch == member.epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// Raises the epoch and computes who shall own what: even, and with as few moves as can be.
    fn assign(&mut self, topics: &Topics) {
        self.epoch += 1;
        self.topics = topics.iter().map(|(name, topic)| (name.clone(), (topic.id, topic.partitions.len()))).collect();
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
    fn is_outdated(&self, topics: &Topics) -> bool {
        let subscribed: BTreeSet<&StrBytes> = self.members.values().flat_map(|member| &member.subscribed).collect();
        subscribed.into_iter().any(|name| {
            let present = topics.get(name).map(|topic| (topic.id, topic.partitions.len()));
            self.topics.get(name).copied() != present
        })
    }

    /// Brings one member nearer to its target.
    fn reconcile(&mut self, id: &StrBytes, owned: Option<&Partitions>) {
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
            member.untold = true;
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
            member.untold = true;
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

/// Joins, follows, leaves: all in one request.
pub(crate) fn heartbeat(
    shared: &Shared,
    request: &ConsumerGroupHeartbeatRequest,
    client: &Client,
) -> ConsumerGroupHeartbeatResponse {
    let mut state = shared.lock();
    let interval = i32::try_from(shared.config.heartbeat_interval.as_millis()).unwrap_or(i32::MAX);
    let answer = ConsumerGroupHeartbeatResponse::default().with_heartbeat_interval_ms(interval);
    match follow(&mut state, request, client, shared.config.session_timeout) {
        Ok(response) => {
            shared.wake();
            response.with_heartbeat_interval_ms(interval)
        }
        Err(error) => answer
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string())))
            .with_member_id(Some(request.member_id.clone())),
    }
}

fn follow(
    state: &mut State,
    request: &ConsumerGroupHeartbeatRequest,
    client: &Client,
    session_timeout: Duration,
) -> Result<ConsumerGroupHeartbeatResponse, ResponseError> {
    let named = request.member_id.is_empty().then(|| state.groups.name_member(client));
    let State { topics, groups, .. } = state;
    let group = groups.consumer(&request.group_id)?;
    let id = named.unwrap_or_else(|| request.member_id.clone());
    let answer = ConsumerGroupHeartbeatResponse::default().with_member_id(Some(id.clone()));
    if matches!(request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH) {
        group.members.remove(&id).ok_or(ResponseError::UnknownMemberId)?;
        group.assign(topics);
        return Ok(answer.with_member_epoch(request.member_epoch));
    }
    let joins = request.member_epoch == 0;
    if joins {
        let member = Member {
            client: client.clone(),
            subscribed: BTreeSet::new(),
            epoch: 0,
            previous_epoch: 0,
            target: Partitions::new(),
            granted: Partitions::new(),
            leaving: Partitions::new(),
            last_seen: Instant::now(),
            session_timeout,
            untold: true,
        };
        group.members.insert(id.clone(), member);
    }
    let member = group.members.get_mut(&id).ok_or(ResponseError::UnknownMemberId)?;
    let fits = [member.epoch, member.previous_epoch].contains(&request.member_epoch);
    if !joins && !fits {
        return Err(ResponseError::FencedMemberEpoch);
    }
    member.last_seen = Instant::now();
    let subscribed: Option<BTreeSet<StrBytes>> =
        request.subscribed_topic_names.as_ref().map(|names| names.iter().map(|name| name.0.clone()).collect());
    let resubscribed = subscribed.is_some_and(|names| {
        let changed = names != member.subscribed;
        member.subscribed = names;
        changed
    });
    if joins || resubscribed || group.is_outdated(topics) {
        group.assign(topics);
    }
    let owned: Option<Partitions> = request.topic_partitions.as_ref().map(|owned| {
        owned.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
    });
    group.reconcile(&id, owned.as_ref());
    let member = group.members.get_mut(&id).ok_or(ResponseError::UnknownMemberId)?;
    // A full request asks for a full answer.
    let tell = member.untold || request.topic_partitions.is_some() && request.subscribed_topic_names.is_some();
    member.untold = false;
    let assignment = tell.then(|| Assignment::default().with_topic_partitions(grouped(&member.granted)));
    Ok(answer.with_member_epoch(member.epoch).with_assignment(assignment))
}

fn grouped(partitions: &Partitions) -> Vec<TopicPartitions> {
    by_topic(partitions)
        .into_iter()
        .map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions))
        .collect()
}

fn by_topic(partitions: &Partitions) -> BTreeMap<Uuid, Vec<i32>> {
    let mut by_topic: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in partitions {
        by_topic.entry(*id).or_default().push(*partition);
    }
    by_topic
}

/// KIP-848 groups with what each member owns and shall own.
pub(crate) fn describe(shared: &Shared, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let state = shared.lock();
    let named = |partitions: &Partitions| {
        let topics = by_topic(partitions).into_iter().map(|(id, partitions)| {
            let name = state.topics.by_id(id).map_or_else(StrBytes::new, |(name, _)| name.clone());
            DescribedPartitions::default()
                .with_topic_id(id)
                .with_topic_name(TopicName(name))
                .with_partitions(partitions)
        });
        DescribedAssignment::default().with_topic_partitions(topics.collect())
    };
    let groups = request.group_ids.into_iter().map(|id| {
        let answer = DescribedGroup::default().with_authorized_operations(i32::MIN);
        let Some(Group::Consumer(group)) = state.groups.by_id.get(&id.0) else {
            return answer.with_group_id(id).with_error_code(ResponseError::GroupIdNotFound.code());
        };
        let members = group.members.iter().map(|(id, member)| {
            DescribedMember::default()
                .with_member_id(id.clone())
                .with_member_epoch(member.epoch)
                .with_client_id(member.client.id.clone())
                .with_client_host(member.client.host.clone())
                .with_subscribed_topic_names(member.subscribed.iter().cloned().map(TopicName).collect())
                .with_assignment(named(&member.granted))
                .with_target_assignment(named(&member.target))
                .with_member_type(1)
        });
        answer
            .with_group_id(id)
            .with_group_state(StrBytes::from_static_str(group.described_state()))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.epoch)
            .with_assignor_name(StrBytes::from_static_str("uniform"))
            .with_members(members.collect())
    });
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}
