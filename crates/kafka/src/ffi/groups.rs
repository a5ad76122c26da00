//! Consumer groups as the broker describes them, target assignment included.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;

use super::millis;
use crate::TopicPartition;

/// A consumer group as its coordinator describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// The coordinator's word: `Stable`, `Empty`, `PreparingRebalance`, `Assigning`, ….
    pub state: String,
    /// `Classic`, or `Consumer` (KIP-848).
    pub protocol: String,
    /// Everybody in it, in the coordinator's order.
    pub members: Vec<MemberDescription>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberDescription {
    /// The coordinator's name for it.
    pub id: String,
    /// Its own.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it owns now.
    pub owned: BTreeSet<TopicPartition>,
    /// What it is to own, where the protocol tells (KIP-848).
    pub target: Option<BTreeSet<TopicPartition>>,
}

/// Describes groups; one that nobody is in has no members.
///
/// # Errors
/// A coordinator does not answer within `limit`, or refuses.
pub fn describe_groups<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    groups: &[&str],
    limit: Duration,
) -> KafkaResult<Vec<GroupDescription>> {
    let names: Vec<CString> = groups.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: every object made here is destroyed here, in reverse order, after its last use; what the event owns is
    // copied out before that. `names` outlives the call, which copies them anyway.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = rdsys::rd_kafka_queue_new(client);
        let options = rdsys::rd_kafka_AdminOptions_new(
            client,
            rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        );
        // Within a kilobyte of text librdkafka says what it does not like; the limit is in bounds, so it likes it.
        rdsys::rd_kafka_AdminOptions_set_request_timeout(options, millis(limit), ptr::null_mut(), 0);
        rdsys::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
        let event = rdsys::rd_kafka_queue_poll(queue, millis(limit + Duration::from_secs(1)));
        let described = described(event);
        if !event.is_null() {
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_AdminOptions_destroy(options);
        rdsys::rd_kafka_queue_destroy(queue);
        described
    }
}

/// # Safety
/// `event` is null or a live event.
unsafe fn described(event: *mut rdsys::rd_kafka_event_t) -> KafkaResult<Vec<GroupDescription>> {
    let no_answer = || KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut);
    if event.is_null() {
        return Err(no_answer());
    }
    // SAFETY: the event lives by the caller's promise, and owns the array of descriptions, which is read within its
    // `count` only.
    unsafe {
        let code = rdsys::rd_kafka_event_error(event);
        if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(code.into()));
        }
        let result = rdsys::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return Err(no_answer());
        }
        let mut count = 0_usize;
        let groups = rdsys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        (0..count).map(|at| group(*groups.add(at))).collect()
    }
}

/// # Safety
/// `described` is a live description.
unsafe fn group(described: *const rdsys::rd_kafka_ConsumerGroupDescription_t) -> KafkaResult<GroupDescription> {
    // SAFETY: the description lives by the caller's promise; its strings are copied; names of states and types are
    // librdkafka's own statics.
    unsafe {
        let error = rdsys::rd_kafka_ConsumerGroupDescription_error(described);
        if !error.is_null() {
            let code = rdsys::rd_kafka_error_code(error);
            if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::AdminOp(code.into()));
            }
        }
        let state = rdsys::rd_kafka_ConsumerGroupDescription_state(described);
        let kind = rdsys::rd_kafka_ConsumerGroupDescription_type(described);
        let members = rdsys::rd_kafka_ConsumerGroupDescription_member_count(described);
        Ok(GroupDescription {
            group: text(rdsys::rd_kafka_ConsumerGroupDescription_group_id(described)),
            state: text(rdsys::rd_kafka_consumer_group_state_name(state)),
            protocol: text(rdsys::rd_kafka_consumer_group_type_name(kind)),
            members: (0..members)
                .map(|at| member(rdsys::rd_kafka_ConsumerGroupDescription_member(described, at)))
                .collect(),
        })
    }
}

/// # Safety
/// `described` is a live description.
unsafe fn member(described: *const rdsys::rd_kafka_MemberDescription_t) -> MemberDescription {
    // SAFETY: as in `group`; an assignment that is not there is null and not followed.
    unsafe {
        let target = rdsys::rd_kafka_MemberDescription_target_assignment(described);
        MemberDescription {
            id: text(rdsys::rd_kafka_MemberDescription_consumer_id(described)),
            client_id: text(rdsys::rd_kafka_MemberDescription_client_id(described)),
            host: text(rdsys::rd_kafka_MemberDescription_host(described)),
            owned: partitions(rdsys::rd_kafka_MemberDescription_assignment(described)),
            target: (!target.is_null()).then(|| partitions(target)),
        }
    }
}

/// # Safety
/// `assignment` is null or live.
unsafe fn partitions(assignment: *const rdsys::rd_kafka_MemberAssignment_t) -> BTreeSet<TopicPartition> {
    if assignment.is_null() {
        return BTreeSet::new();
    }
    // SAFETY: the list belongs to the assignment, and is read within its `cnt` only.
    unsafe {
        let list = rdsys::rd_kafka_MemberAssignment_partitions(assignment);
        if list.is_null() {
            return BTreeSet::new();
        }
        let count = usize::try_from((*list).cnt).unwrap_or_default();
        let elements = (0..count).map(|at| &*(*list).elems.add(at));
        elements.map(|at| TopicPartition { topic: text(at.topic), partition: at.partition }).collect()
    }
}

/// # Safety
/// `text` is null or a live, zero-terminated string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
