//! Requests of members of KIP-848 groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId, TopicName,
    consumer_group_describe_response::{
        Assignment as DescribedAssignment, DescribedGroup, Member as DescribedMember,
        TopicPartitions as DescribedPartitions,
    },
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::group::consumer::{LEAVE_EPOCH, Member, PARTITION_BYTES, Partitions, STATIC_LEAVE_EPOCH};
use crate::group::{Client, Group};
use crate::limits;
use crate::state::{Shared, State};
use crate::text::own;

/// Joins, follows, leaves: all in one request.
pub(crate) fn heartbeat(
    shared: &Shared,
    request: &ConsumerGroupHeartbeatRequest,
    client: &Client,
) -> ConsumerGroupHeartbeatResponse {
    let mut state = shared.lock();
    let interval = i32::try_from(shared.config.heartbeat_interval.as_millis()).unwrap_or(i32::MAX);
    let answer = ConsumerGroupHeartbeatResponse::default().with_heartbeat_interval_ms(interval);
    let bytes = bytes_of(&state, request, client);
    let admitted = state.groups.admits(&request.group_id, bytes, &shared.refused);
    match admitted.and_then(|()| follow(&mut state, request, client, shared.config.session_timeout)) {
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

/// What a member that joins will cost; one that is there has been counted.
fn bytes_of(state: &State, request: &ConsumerGroupHeartbeatRequest, client: &Client) -> usize {
    if request.member_epoch != 0 && request.subscribed_topic_names.is_none() {
        return 0;
    }
    let names = request.subscribed_topic_names.iter().flatten();
    let subscribed = names.map(|name| {
        let partitions = state.topics.get(name).map_or(0, |topic| topic.partitions.len());
        limits::ENTRY_BYTES + name.len() + 2 * partitions * PARTITION_BYTES
    });
    limits::ENTRY_BYTES + request.member_id.len() + client.id.len() + subscribed.sum::<usize>()
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
    let id = named.unwrap_or_else(|| own(&request.member_id));
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
            owes_assignment: true,
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
        request.subscribed_topic_names.as_ref().map(|names| names.iter().map(|name| own(name)).collect());
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
    let tell = member.owes_assignment || request.topic_partitions.is_some() && request.subscribed_topic_names.is_some();
    member.owes_assignment = false;
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

/// KIP-848 groups with what each member owns and will own.
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
    let asked: BTreeSet<GroupId> = request.group_ids.into_iter().collect();
    let groups = asked.into_iter().map(|id| {
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
