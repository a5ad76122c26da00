//! Requests of transactional producers.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
    txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
};
use kafka_protocol::protocol::StrBytes;

use super::offsets::MAX_METADATA_BYTES;
use crate::group::{CommittedOffset, MemberClaim};
use crate::state::{Shared, State};
use crate::time::{millis, now_ms};
use crate::transactions::{LAST_EPOCH, Open, Transaction};

/// Gives a producer its id and epoch. A known transactional id gets the next epoch, and what it left open is aborted.
pub(crate) fn init_producer_id(shared: &Shared, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let mut state = shared.lock();
    let answer = InitProducerIdResponse::default();
    let Some(id) = &request.transactional_id else {
        let producer_id = state.transactions.next_producer_id();
        return answer.with_producer_id(ProducerId(producer_id)).with_producer_epoch(0);
    };
    if let Some(known) = state.transactions.by_id.get(&id.0)
        && request.producer_id.0 >= 0
        && (known.producer_id, known.epoch) != (request.producer_id.0, request.producer_epoch)
    {
        return answer.with_error_code(ResponseError::ProducerFenced.code()).with_producer_id(ProducerId(-1));
    }
    let fresh = state.transactions.next_producer_id();
    let timeout = millis(request.transaction_timeout_ms);
    let transaction = state.transactions.by_id.entry(id.0.clone()).or_insert(Transaction {
        producer_id: fresh,
        epoch: -1,
        timeout,
        open: None,
    });
    transaction.timeout = timeout;
    if transaction.epoch >= LAST_EPOCH {
        *transaction = Transaction { producer_id: fresh, epoch: -1, timeout, open: transaction.open.take() };
    }
    transaction.epoch += 1;
    let (producer_id, epoch) = (transaction.producer_id, transaction.epoch);
    // With the new epoch in its markers, the old producer is fenced on each partition too.
    end(&mut state, &id.0, false);
    drop(state);
    shared.wake();
    answer.with_producer_id(ProducerId(producer_id)).with_producer_epoch(epoch)
}

/// Adds partitions to the open transaction, and opens it.
pub(crate) fn add_partitions(shared: &Shared, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let mut state = shared.lock();
    let State { topics, transactions, .. } = &mut *state;
    let transaction = transactions.of(
        &request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
    );
    let failure = match transaction {
        Err(error) => Some(error),
        Ok(transaction) => {
            let known = request
                .v3_and_below_topics
                .iter()
                .all(|topic| topic.partitions.iter().all(|partition| topics.log(&topic.name, *partition).is_ok()));
            if known {
                let open = transaction.open.get_or_insert_with(Open::new);
                for topic in &request.v3_and_below_topics {
                    open.partitions.extend(topic.partitions.iter().map(|partition| (topic.name.0.clone(), *partition)));
                }
            }
            (!known).then_some(ResponseError::UnknownTopicOrPartition)
        }
    };
    let code = failure.map_or(0, |error| error.code());
    let results = request.v3_and_below_topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            AddPartitionsToTxnPartitionResult::default().with_partition_index(partition).with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default().with_results_by_partition(partitions.collect()).with_name(topic.name)
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

/// Adds a group's offsets to the open transaction, and opens it.
pub(crate) fn add_offsets(shared: &Shared, request: &AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let mut state = shared.lock();
    let result = state.transactions.of(&request.transactional_id, request.producer_id, request.producer_epoch);
    let code = match result {
        Ok(transaction) => {
            let open = transaction.open.get_or_insert_with(Open::new);
            open.offsets.entry(request.group_id.0.clone()).or_default();
            0
        }
        Err(error) => error.code(),
    };
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

/// Holds a group's offsets until the transaction ends; the member must be of the group's present generation.
pub(crate) fn commit_offsets(shared: &Shared, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut state = shared.lock();
    let State { transactions, groups, .. } = &mut *state;
    let claim = MemberClaim { member: &request.member_id, epoch: request.generation_id };
    let checked = groups.check_claim(&request.group_id, &claim);
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let mut notes = partitions.filter_map(|partition| partition.committed_metadata.as_ref());
    let too_long = notes.any(|metadata| metadata.len() > MAX_METADATA_BYTES);
    let result = checked.and_then(|()| {
        if too_long {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        let transaction = transactions.of(&request.transactional_id, request.producer_id, request.producer_epoch)?;
        let open = transaction.open.as_mut().ok_or(ResponseError::InvalidTxnState)?;
        let held = open.offsets.get_mut(&request.group_id.0).ok_or(ResponseError::InvalidTxnState)?;
        for topic in &request.topics {
            for partition in &topic.partitions {
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.clone(),
                };
                held.push((topic.name.0.clone(), partition.partition_index, offset));
            }
        }
        Ok(())
    });
    let code = result.err().map_or(0, |error| error.code());
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// Commits or aborts.
pub(crate) fn end_transaction(shared: &Shared, request: &EndTxnRequest) -> EndTxnResponse {
    let mut state = shared.lock();
    let checked = state.transactions.of(&request.transactional_id, request.producer_id, request.producer_epoch);
    if let Err(error) = checked {
        return EndTxnResponse::default().with_error_code(error.code());
    }
    end(&mut state, &request.transactional_id, request.committed);
    drop(state);
    shared.wake();
    EndTxnResponse::default()
}

/// Writes the markers of an open transaction and, on commit, its groups' offsets. Without one it does nothing.
fn end(state: &mut State, id: &StrBytes, commit: bool) {
    let State { topics, transactions, groups, .. } = state;
    let Some(transaction) = transactions.by_id.get_mut(id) else { return };
    let Some(open) = transaction.open.take() else { return };
    for (topic, partition) in open.partitions {
        let stamp = topics.next_stamp();
        // A topic deleted meanwhile has nothing to mark.
        if let Ok(log) = topics.log_mut(&topic, partition) {
            log.end_transaction(transaction.producer_id, transaction.epoch, commit, stamp, now_ms());
        }
    }
    if commit {
        for (group, offsets) in open.offsets {
            for (topic, partition, offset) in offsets {
                groups.store_offset(&group, topic, partition, offset);
            }
        }
    }
}

/// Aborts what has been open past its time-out; its producer is fenced.
pub(crate) fn abort_expired(state: &mut State, now: Instant) -> bool {
    let expired: Vec<StrBytes> = state
        .transactions
        .by_id
        .iter()
        .filter(|(_, transaction)| {
            transaction.open.as_ref().is_some_and(|open| now.duration_since(open.since) > transaction.timeout)
        })
        .map(|(id, _)| id.clone())
        .collect();
    for id in &expired {
        if let Some(transaction) = state.transactions.by_id.get_mut(id) {
            transaction.epoch = transaction.epoch.saturating_add(1);
        }
        end(state, id, false);
    }
    !expired.is_empty()
}
