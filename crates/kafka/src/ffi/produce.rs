//! Records into a producer's queue, by a topic's handle and without a copy of its name or headers on the way.

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};

use rdkafka::bindings as rdsys;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::Outgoing;

/// A topic as a producer knows it; to be dropped before its producer.
#[derive(Debug)]
pub struct TopicHandle(NonNull<rdsys::rd_kafka_topic_t>);

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for TopicHandle {}

impl TopicHandle {
    /// The topic of this name; `None` where the name cannot be one.
    #[must_use]
    pub fn new<C: ProducerContext>(producer: &BaseProducer<C>, topic: &str) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client lives over the call; no configuration is handed over; the handle is destroyed when
        // dropped.
        let handle =
            unsafe { rdsys::rd_kafka_topic_new(producer.client().native_ptr(), topic.as_ptr(), ptr::null_mut()) };
        NonNull::new(handle).map(Self)
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and is not used again.
        unsafe { rdsys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// Copies a record into the producer's queue.
///
/// # Errors
/// What librdkafka says: the queue is full, or the record cannot be sent.
pub fn produce<C: ProducerContext>(
    producer: &BaseProducer<C>,
    topic: &TopicHandle,
    record: &Outgoing<'_>,
) -> Result<(), RDKafkaErrorCode> {
    use rdsys::rd_kafka_vtype_t as Part;
    // SAFETY: all pointers are to memory that is borrowed for the call, and librdkafka copies key, value and headers
    // (`MSG_F_COPY`; headers are copied when added). It takes the list of headers on success only: after a failure
    // it is destroyed here.
    unsafe {
        let headers = rdsys::rd_kafka_headers_new(record.headers.len());
        for (name, value) in record.headers {
            let (start, length) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len().cast_signed()));
            let name_length = name.len().cast_signed();
            let value = start.cast::<c_void>();
            rdsys::rd_kafka_header_add(headers, name.as_ptr().cast(), name_length, value, length);
        }
        let code = rdsys::rd_kafka_producev(
            producer.client().native_ptr(),
            Part::RD_KAFKA_VTYPE_RKT,
            topic.0.as_ptr(),
            Part::RD_KAFKA_VTYPE_PARTITION,
            record.partition,
            Part::RD_KAFKA_VTYPE_MSGFLAGS,
            rdsys::RD_KAFKA_MSG_F_COPY,
            Part::RD_KAFKA_VTYPE_VALUE,
            record.value.as_ptr().cast_mut().cast::<c_void>(),
            record.value.len(),
            Part::RD_KAFKA_VTYPE_KEY,
            record.key.as_ptr().cast_mut().cast::<c_void>(),
            record.key.len(),
            Part::RD_KAFKA_VTYPE_HEADERS,
            headers,
            Part::RD_KAFKA_VTYPE_END,
        );
        if code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        rdsys::rd_kafka_headers_destroy(headers);
        Err(code.into())
    }
}
