//! A group's offsets into an open transaction, with a deadline of our own.
//!
//! librdkafka 2.12's call enforces its time-out inside the client only, and may wait for ever when the group's
//! coordinator dies in it (docs/adr/0005). So it has a thread that may be left behind: whoever waits gives up at the
//! deadline, and the writer is dropped, as after any doubt.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::Error;
use crate::context::Context;

const DOING: &str = "write offsets within a transaction";
/// What librdkafka is given less than the caller's deadline, so that its own answer comes first where it gives one.
const HEADSTART: Duration = Duration::from_secs(1);

type Request = (TopicPartitionList, ConsumerGroupMetadata, Duration);

/// The thread of one producer.
#[derive(Debug)]
pub(crate) struct OffsetSender {
    requests: Sender<Request>,
    answers: Receiver<KafkaResult<()>>,
}

impl OffsetSender {
    /// Starts the thread; it ends with this value, or stays behind where librdkafka does not answer.
    pub(crate) fn start(producer: &Arc<BaseProducer<Context>>) -> Result<Self, Error> {
        let (requests, orders) = mpsc::channel::<Request>();
        let (answer, answers) = mpsc::channel();
        let producer = Arc::clone(producer);
        std::thread::Builder::new()
            .name("offsets".to_owned())
            .spawn(move || {
                while let Ok((offsets, member, limit)) = orders.recv() {
                    if answer.send(producer.send_offsets_to_transaction(&offsets, &member, limit)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Error::Stop(format!("cannot start a thread: {error}")))?;
        Ok(Self { requests, answers })
    }

    /// Sends offsets, and waits for the answer no longer than `limit`.
    pub(crate) fn send(
        &self,
        offsets: TopicPartitionList,
        member: ConsumerGroupMetadata,
        limit: Duration,
    ) -> Result<(), Error> {
        let late = || Error::TimedOut { doing: DOING.to_owned(), seconds: limit.as_secs() };
        self.requests.send((offsets, member, limit.saturating_sub(HEADSTART))).map_err(|_| late())?;
        self.answers.recv_timeout(limit).map_err(|_| late())?.map_err(Error::doubt(DOING))
    }
}
