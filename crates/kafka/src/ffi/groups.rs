//! Consumer groups as the broker describes them, target assignment included.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

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

/// How long librdkafka may wait for a coordinator by itself; whoever asks waits as long as he likes.
///
/// librdkafka 2.12 aborts the process where its own time is up first and the coordinator comes back after that:
/// it answers a second time, into memory that the first answer freed (confluentinc/librdkafka#4605).
const FOR_LONG: Duration = Duration::from_secs(3_600);

/// A description that was asked for, and may not have come yet.
#[derive(Debug)]
pub struct Asked {
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    since: Instant,
}

// SAFETY: librdkafka's queues are locked by themselves, and this is the only handle to this one.
unsafe impl Send for Asked {}

impl Asked {
    /// Asks for one group; one that nobody is in has no members. It has to be dropped before the client is.
    ///
    /// # Errors
    /// The name holds a zero byte.
    pub fn about<C: ConsumerContext>(consumer: &BaseConsumer<C>, group: &str) -> KafkaResult<Self> {
        let unknown = || KafkaError::AdminOp(RDKafkaErrorCode::InvalidGroupId);
        let name = CString::new(group).map_err(|_| unknown())?;
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        // SAFETY: `name` outlives the call, which copies it; the options are made and destroyed here; the queue is
        // destroyed once, by `drop`.
        unsafe {
            let client = consumer.client().native_ptr();
            let queue = NonNull::new(rdsys::rd_kafka_queue_new(client)).ok_or_else(unknown)?;
            let options = rdsys::rd_kafka_AdminOptions_new(
                client,
                rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            );
            // What it does not like it says in the buffer, which is not there: the limit is in bounds.
            rdsys::rd_kafka_AdminOptions_set_request_timeout(options, millis(FOR_LONG), ptr::null_mut(), 0);
            rdsys::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), names.len(), options, queue.as_ptr());
            rdsys::rd_kafka_AdminOptions_destroy(options);
            Ok(Self { queue, since: Instant::now() })
        }
    }

    /// When it was asked for.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The description; `None` where it does not come within `limit`, and may come later.
    ///
    /// # Errors
    /// The coordinator refuses.
    pub fn answer(&self, limit: Duration) -> Option<KafkaResult<GroupDescription>> {
        // SAFETY: the queue lives as long as `self`; the event is destroyed here, once, and what it owns is copied out
        // before that.
        unsafe {
            let event = rdsys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(limit));
            if event.is_null() {
                return None;
            }
            let described = described(event);
            rdsys::rd_kafka_event_destroy(event);
            Some(described)
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // SAFETY: made by `about`, and destroyed nowhere else; an answer that comes later finds nobody and is dropped.
        unsafe { rdsys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// # Safety
/// `event` is a live event.
unsafe fn described(event: *mut rdsys::rd_kafka_event_t) -> KafkaResult<GroupDescription> {
    let no_answer = || KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut);
    // SAFETY: the event lives by the caller's promise, and owns the array of descriptions, of which the first is read
    // where there is one.
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
        if count == 0 { Err(no_answer()) } else { group(*groups) }
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
