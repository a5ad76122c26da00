//! Batches of records from one partition's own queue.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use schema::record::HeaderSource;

use crate::ClientError;

/// One partition's records, apart from the consumer's main queue. It keeps its consumer alive.
pub struct PartitionQueue<C: ConsumerContext + 'static> {
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    // The address is what librdkafka holds: boxed, so that it stays where it is when the queue moves.
    waked: Box<Thread>,
    // Dropped last: the queue belongs to this client.
    _consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread, and `Thread` is a handle that may be shared.
unsafe impl<C: ConsumerContext> Send for PartitionQueue<C> {}

impl<C: ConsumerContext> std::fmt::Debug for PartitionQueue<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionQueue").field("waked", &self.waked.id()).finish_non_exhaustive()
    }
}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Takes a partition's records out of the consumer's main queue; `waked` is unparked when one comes into the
    /// empty queue. `None` where librdkafka has no such queue.
    #[must_use]
    pub fn split(consumer: &Arc<BaseConsumer<C>>, topic: &str, partition: i32, waked: Thread) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let waked = Box::new(waked);
        // SAFETY: the client lives as long as the consumer, of which the new queue holds a share. The queue is
        // destroyed once, when dropped. The boxed handle outlives the callback, which is taken back before that.
        let queue = unsafe {
            let client = consumer.client().native_ptr();
            let queue = NonNull::new(rdsys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition))?;
            rdsys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            let handle = ptr::from_ref::<Thread>(&waked).cast_mut().cast::<c_void>();
            rdsys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), handle);
            queue
        };
        Some(Self { queue, waked, _consumer: Arc::clone(consumer) })
    }

    /// What is there, at most `limit` records, without waiting; errors are among them.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<Fetched> {
        let mut records: Vec<Fetched> = Vec::with_capacity(limit);
        // SAFETY: `Fetched` is a transparent pointer, the vector has room for `limit` of them, and librdkafka writes
        // at most that many and tells how many; each of those is ours from then on.
        unsafe {
            let room = records.as_mut_ptr().cast::<*mut rdsys::rd_kafka_message_t>();
            let count = rdsys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, room, limit);
            records.set_len(usize::try_from(count).unwrap_or(0));
        }
        records
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: librdkafka calls back under the queue's lock and takes the callback back under the same lock: after
        // this no call runs. The queue is ours and is not used again.
        unsafe {
            rdsys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            rdsys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Called by librdkafka's threads.
unsafe extern "C" fn wake(_: *mut rdsys::rd_kafka_t, waked: *mut c_void) {
    // SAFETY: `waked` is the boxed handle of a queue that is not dropped yet: see `PartitionQueue::drop`.
    unsafe { &*waked.cast::<Thread>() }.unpark();
}

/// A record or an error, as librdkafka hands it over.
#[repr(transparent)]
pub struct Fetched(NonNull<rdsys::rd_kafka_message_t>);

// SAFETY: a message belongs to whoever holds it, and may be read and destroyed on any thread.
unsafe impl Send for Fetched {}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("offset", &self.offset()).field("failure", &self.failure()).finish()
    }
}

impl Fetched {
    fn message(&self) -> &rdsys::rd_kafka_message_t {
        // SAFETY: the message lives until this is dropped.
        unsafe { self.0.as_ref() }
    }

    /// Why this is no record.
    #[must_use]
    pub fn failure(&self) -> Option<ClientError> {
        let code = self.message().err;
        (code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| ClientError(KafkaError::MessageConsumption(code.into())))
    }

    /// Offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// Key; empty where it is null.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        let message = self.message();
        bytes(message.key, message.key_len).unwrap_or_default()
    }

    /// Value; empty where it is null.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let message = self.message();
        bytes(message.payload, message.len).unwrap_or_default()
    }

    /// Headers in their order; a null value is `None`.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.raw_headers().map(|(name, value)| (name.to_str().unwrap_or_default(), value))
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&CStr, Option<&[u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; the headers belong to it and live as long.
        let code = unsafe { rdsys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        let count = if code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { usize::MAX } else { 0 };
        (0..count).map_while(move |index| header_at(headers, index))
    }
}

/// Header `index` of a message that lives as long as `'a`.
fn header_at<'a>(headers: *mut rdsys::rd_kafka_headers_t, index: usize) -> Option<(&'a CStr, Option<&'a [u8]>)> {
    let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0_usize);
    // SAFETY: the list belongs to a live message; what is returned points into it. Names are zero-terminated.
    let name = unsafe {
        let code = rdsys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length);
        if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        CStr::from_ptr(name)
    };
    Some((name, bytes(value.cast_mut(), length)))
}

/// The bytes of a live message; `None` for null.
fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives the start and the length of memory that belongs to a live message.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast_const().cast::<u8>(), length) })
}

impl HeaderSource for Fetched {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers_named([name])[0]
    }

    /// Goes over the list once, however many names there are.
    fn headers_named<const N: usize>(&self, names: [&str; N]) -> [Option<&[u8]>; N] {
        let mut found = [None; N];
        for (name, value) in self.raw_headers() {
            let wanted = names.iter().position(|wanted| wanted.as_bytes() == name.to_bytes());
            if let Some(first @ None) = wanted.and_then(|index| found.get_mut(index)) {
                *first = Some(value);
            }
        }
        found.map(Option::flatten)
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and is not used again.
        unsafe { rdsys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}
