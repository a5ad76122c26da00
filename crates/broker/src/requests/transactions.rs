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
use crate::group::MemberClaim;
use crate::group::offsets::CommittedOffset;
use crate::limits::{self, Counts, Refused};
use crate::state::{Shared, State};
use crate::text::own;
use crate::time::{millis, now_ms};
use crate::transactions::{LAST_EPOCH, Open, Transaction};

/// Gives a producer its id and epoch. A known transactional id gets the next epoch, and what it left open is aborted.
pub(crate) fn init_producer_id(shared: &Shared, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let mut state = shared.lock();
    let answer = InitProducerIdResponse::default();
    if let Err(error) = check_new(&state, request, &shared.refused) {
        return answer.with_error_code(error.code()).with_producer_id(ProducerId(-1));
    }
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
    let transaction = state.transactions.by_id.entry(own(id)).or_insert(Transaction {
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

/// Whether a producer may have its id, and its time.
fn check_new(state: &State, request: &InitProducerIdRequest, refused: &Counts) -> Result<(), ResponseError> {
    let Some(id) = &request.transactional_id else { return Ok(()) };
    let known = &state.transactions.by_id;
    if id.len() > limits::ID_BYTES || (known.len() >= limits::TRANSACTIONAL_IDS && !known.contains_key(&id.0)) {
        return Err(refused.refuse(Refused::Ids));
    }
    if millis(request.transaction_timeout_ms) > limits::TRANSACTION {
        return Err(refused.refuse(Refused::TransactionTime));
    }
    Ok(())
}

/// Adds partitions to the open transaction, and opens it.
pub(crate) fn add_partitions(shared: &Shared, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let mut state = shared.lock();
    let held = state.check_offsets(&shared.refused);
    let State { topics, transactions, .. } = &mut *state;
    let transaction = transactions.of(
        &request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
    );
    let transaction = transaction.and_then(|transaction| held.map(|()| transaction));
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
                    topic.partitions.iter().for_each(|partition| open.add_partition(&topic.name, *partition));
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
    let held = state.check_offsets(&shared.refused);
    let result = state.transactions.of(&request.transactional_id, request.producer_id, request.producer_epoch);
    let code = match result.and_then(|transaction| held.map(|()| transaction)) {
        Ok(transaction) => {
            transaction.open.get_or_insert_with(Open::new).add_group(&request.group_id);
            0
        }
        Err(error) => error.code(),
    };
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

/// Holds a group's offsets until the transaction ends; the member must be of the group's present generation.
pub(crate) fn commit_offsets(shared: &Shared, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut state = shared.lock();
    let held = state.check_offsets(&shared.refused);
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
        held?;
        for topic in &request.topics {
            for partition in &topic.partitions {
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.clone(),
                };
                if !open.hold(&request.group_id, &topic.name, partition.partition_index, offset) {
                    return Err(ResponseError::InvalidTxnState);
                }
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
                groups.store_offset(&group, &topic, partition, offset);
            }
        }
    }
}

/// Aborts the transaction that has been open longest, for the records that it keeps; false where none is open.
pub(crate) fn abort_oldest(state: &mut State) -> bool {
    let Some(id) = state.transactions.oldest_open() else { return false };
    abort(state, &id);
    true
}

fn abort(state: &mut State, id: &StrBytes) {
    if let Some(transaction) = state.transactions.by_id.get_mut(id) {
        transaction.epoch = transaction.epoch.saturating_add(1);
    }
    end(state, id, false);
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
        abort(state, id);
    }
    !expired.is_empty()
}
