//! The only `unsafe` of the workspace: calls of librdkafka that its binding does not offer, or offers too slowly.
#![expect(unsafe_code, reason = "librdkafka is a C library; each call states why it is sound")]

mod consume;
mod groups;
mod membership;
mod produce;
mod settings;

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

pub use consume::{Fetched, PartitionQueue};
pub use groups::{Asked, GroupDescription, MemberDescription};
pub use membership::{Membership, membership};
pub use produce::{TopicHandle, produce};
pub use settings::setting_names;

/// Commits by librdkafka's own call, which flushes and waits on a condition.
///
/// The binding's `commit_transaction` flushes first by itself, polling in slices of 100 ms: it makes a commit of
/// 1 ms last 100 ms.
///
/// # Errors
/// What librdkafka says; the outcome is then unknown, whatever it says.
pub fn commit_transaction<C: ProducerContext>(producer: &BaseProducer<C>, limit: Duration) -> KafkaResult<()> {
    // SAFETY: the handle lives as long as `producer`, which is borrowed for the call. The error object is ours: it is
    // read and destroyed here, once, and its text is copied before that.
    unsafe {
        let error = rdsys::rd_kafka_commit_transaction(producer.client().native_ptr(), millis(limit));
        if error.is_null() {
            return Ok(());
        }
        let code = rdsys::rd_kafka_error_code(error);
        let text = CStr::from_ptr(rdsys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        rdsys::rd_kafka_error_destroy(error);
        tracing::debug!(text, "commit refused");
        Err(KafkaError::Global(code.into()))
    }
}

/// The end of a partition as the last fetch saw it; `None` before the first.
pub fn cached_end<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1_i64, -1_i64);
    // SAFETY: the handle and the C string live over the call; the two integers are ours and only written.
    let code = unsafe {
        rdsys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Events of a client that nobody has served yet: of one that is never polled they would grow without end.
pub fn unserved<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> i32 {
    // SAFETY: the handle lives over the call, which only counts.
    unsafe { rdsys::rd_kafka_outq_len(consumer.client().native_ptr()) }
}

/// The id of a topic: another one under the same name is another topic.
///
/// # Errors
/// The cluster does not answer within `limit`, or does not know the topic.
pub fn topic_id<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, limit: Duration) -> KafkaResult<Uuid> {
    let unknown = || KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition);
    let name = CString::new(topic).map_err(|_| unknown())?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: every object made here is destroyed here, in reverse order, after its last use: the event owns the
    // result and the descriptions, and the id is copied out as two integers before the event is destroyed. `names`
    // and `name` outlive the collection, which copies them anyway.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = rdsys::rd_kafka_queue_new(client);
        let collection = rdsys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rdsys::rd_kafka_DescribeTopics(client, collection, ptr::null(), queue);
        let event = rdsys::rd_kafka_queue_poll(queue, millis(limit));
        let id = described_id(event);
        if !event.is_null() {
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_TopicCollection_destroy(collection);
        rdsys::rd_kafka_queue_destroy(queue);
        id.ok_or_else(unknown)
    }
}

/// # Safety
/// `event` is null or a live event.
unsafe fn described_id(event: *mut rdsys::rd_kafka_event_t) -> Option<Uuid> {
    if event.is_null() {
        return None;
    }
    // SAFETY: the event lives by the caller's promise; a result that is not of DescribeTopics is null and is not
    // followed, and no pointer outlives this function.
    unsafe {
        let result = rdsys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0_usize;
        let descriptions = rdsys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if descriptions.is_null() || count == 0 {
            return None;
        }
        let description = *descriptions;
        let error = rdsys::rd_kafka_TopicDescription_error(description);
        if !error.is_null()
            && rdsys::rd_kafka_error_code(error) != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return None;
        }
        let id = rdsys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return None;
        }
        let most = rdsys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let least = rdsys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        Some(Uuid::from_u64_pair(most, least))
    }
}

/// librdkafka's version, for `--version` and banners.
#[must_use]
pub fn librdkafka_version() -> String {
    // SAFETY: librdkafka returns a pointer to a static, zero-terminated string.
    unsafe { CStr::from_ptr(rdsys::rd_kafka_version_str()) }.to_string_lossy().into_owned()
}

fn millis(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
}
