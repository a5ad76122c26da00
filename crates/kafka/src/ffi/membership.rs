//! Who a consumer is within its group.

use std::ffi::CStr;

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};

/// A consumer's place in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The coordinator's name for it; empty before it has joined.
    pub member: String,
    /// The group's generation, or the member's epoch (KIP-848); negative before it has joined.
    pub generation: i32,
}

/// The consumer's place in its group, as the client knows it now.
pub fn membership<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Membership {
    // SAFETY: the handle lives over the calls. The metadata object is ours: its strings are copied, then it is
    // destroyed here, once. Null means that the client has no group.
    unsafe {
        let metadata = rdsys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return Membership { member: String::new(), generation: -1 };
        }
        let id = rdsys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member = if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() };
        let generation = rdsys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        rdsys::rd_kafka_consumer_group_metadata_destroy(metadata);
        Membership { member, generation }
    }
}
