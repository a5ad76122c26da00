//! Committed offsets.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};
use kafka_protocol::protocol::StrBytes;

use crate::group::MemberClaim;
use crate::group::offsets::CommittedOffset;
use crate::state::{Shared, State};

/// Longest metadata of a committed offset, in bytes, as Kafka's default.
pub(crate) const MAX_METADATA_BYTES: usize = 4096;

/// Stores offsets of a member, or of a reader outside group management while the group has no members.
pub(crate) fn commit(shared: &Shared, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut state = shared.lock();
    let claim = MemberClaim { member: &request.member_id, epoch: request.generation_id_or_member_epoch };
    let checked = if claim.epoch < 0 && state.groups.has_members(&request.group_id) {
        Err(ResponseError::UnknownMemberId)
    } else {
        state.groups.check_claim(&request.group_id, &claim)
    };
    let checked = checked.and_then(|()| state.groups.admits(&request.group_id, 0, &shared.refused));
    let checked = checked.and_then(|()| state.check_offsets(&shared.refused));
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let too_long =
                partition.committed_metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_METADATA_BYTES);
            let result = match checked {
                Ok(()) if too_long => Err(ResponseError::OffsetMetadataTooLarge),
                Ok(()) => state.topics.log(&topic.name, partition.partition_index).map(|_| ()),
                Err(error) => Err(error),
            };
            if result.is_ok() {
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata,
                };
                state.groups.store_offset(&request.group_id, &topic.name, partition.partition_index, offset);
            }
            partitions.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(result.err().map_or(0, |error| error.code())),
            );
        }
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// One partition's answer.
struct Found {
    offset: CommittedOffset,
    code: i16,
}

fn find(state: &State, group: &GroupId, topic: &StrBytes, partition: i32, require_stable: bool) -> Found {
    let none = CommittedOffset { offset: -1, leader_epoch: -1, metadata: Some(StrBytes::new()) };
    if require_stable && state.transactions.holds_offset(&group.0, topic, partition) {
        return Found { offset: none, code: ResponseError::UnstableOffsetCommit.code() };
    }
    let stored = state.groups.offsets.get(&group.0, topic, partition);
    Found { offset: stored.cloned().unwrap_or(none), code: 0 }
}

/// The partitions asked for, or all that have an offset.
fn wanted(state: &State, group: &GroupId, topics: Option<Vec<(TopicName, Vec<i32>)>>) -> Vec<(TopicName, Vec<i32>)> {
    topics.unwrap_or_else(|| {
        let mut all: Vec<(TopicName, Vec<i32>)> = Vec::new();
        for (topic, partition) in state.groups.offsets.partitions(&group.0) {
            match all.last_mut() {
                Some((name, partitions)) if name.0 == *topic => partitions.push(*partition),
                _ => all.push((TopicName(topic.clone()), vec![*partition])),
            }
        }
        all
    })
}

/// Committed offsets; with `require_stable`, those that a transaction still holds are an error to retry.
pub(crate) fn fetch(shared: &Shared, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let state = shared.lock();
    if version < 8 {
        let asked = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        let topics = wanted(&state, &request.group_id, asked).into_iter().map(|(name, indexes)| {
            let partitions = indexes.into_iter().map(|index| {
                let found = find(&state, &request.group_id, &name, index, request.require_stable);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(found.offset.offset)
                    .with_committed_leader_epoch(found.offset.leader_epoch)
                    .with_metadata(found.offset.metadata)
                    .with_error_code(found.code)
            });
            OffsetFetchResponseTopic::default().with_partitions(partitions.collect()).with_name(name.clone())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let asked =
            group.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
        let topics = wanted(&state, &group.group_id, asked).into_iter().map(|(name, indexes)| {
            let partitions = indexes.into_iter().map(|index| {
                let found = find(&state, &group.group_id, &name, index, request.require_stable);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(found.offset.offset)
                    .with_committed_leader_epoch(found.offset.leader_epoch)
                    .with_metadata(found.offset.metadata)
                    .with_error_code(found.code)
            });
            OffsetFetchResponseTopics::default().with_partitions(partitions.collect()).with_name(name.clone())
        });
        OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(group.group_id.clone())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}
