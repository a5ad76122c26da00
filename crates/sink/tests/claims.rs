//! Claims, on an embedded broker.
#![expect(clippy::unwrap_used, reason = "a test says what broke by panicking")]

use kafka::topics::{Keep, Wanted};
use kafka::{FencedWriter, Kafka, KafkaConfig, Outgoing, Rebalancing};
use service::Metrics;
use sink::batch::Batch;
use sink::context::Source;
use sink::error::WriteError;
use sink::recovery::{ClaimError, Request};
use sink::writer::{Claim, Place, Position, Rejected, Writer, Written};
use uuid::Uuid;

const TOPIC: &str = "events";

/// A destination in which the owner before us stores up to an offset while our claim is on its way.
struct Overtaken {
    topic: FencedWriter,
    next_offset: i64,
}

fn three_more(writer: &mut FencedWriter) {
    writer.begin().unwrap();
    for _ in 0..3 {
        writer.send(&Outgoing { topic: TOPIC, partition: 0, key: b"k", value: b"{}", headers: &[] }).unwrap();
    }
    writer.commit().unwrap();
}

impl Writer for Overtaken {
    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
        three_more(&mut self.topic);
        let position = Position { epoch: 2, next_seq: Some(6), next_offset: self.next_offset, last_raw_offset: 5 };
        Ok(claims.iter().map(|_| position).collect())
    }

    fn write(&mut self, _: &Batch) -> Result<Written, WriteError> {
        Ok(Written::default())
    }

    fn holds(&mut self, _: Uuid, _: Place<'_>) -> Result<bool, WriteError> {
        unreachable!("nothing is repeated here")
    }

    fn outbox(&mut self, _: Uuid, _: &[i32]) -> Result<Vec<Rejected>, WriteError> {
        Ok(Vec::new())
    }

    fn told(&mut self, _: &[i64]) -> Result<(), WriteError> {
        Ok(())
    }
}

#[test]
fn what_another_sink_stored_while_we_claimed_is_not_taken_for_a_topic_that_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, address) = e2e::pipeline::start_broker(folder.path());
    let kafka = Kafka::new(KafkaConfig::at(&address.to_string()), &Metrics::new("test"));
    let wanted = Wanted { name: TOPIC, partitions: 1, replication: 1, keep: Keep::Week };
    e2e::block_on(kafka.ensure_topics(&[wanted])).unwrap();
    let mut topic = kafka.fenced_writer("writer").unwrap();
    three_more(&mut topic);
    let tail = kafka.tail().unwrap();
    let member = kafka.member("wiki-sink", &[TOPIC], Rebalancing::Cooperative).unwrap();
    let source = Source { topic: TOPIC.to_owned(), topic_id: tail.topic_id(TOPIC).unwrap(), owner: "me".to_owned() };

    // Three records and a marker, twice: the last record stands at 6.
    let mut destination = Overtaken { topic, next_offset: 7 };
    let claim = |destination: &mut Overtaken| {
        let request = Request::prepare(&source, &[0], &tail)?;
        let positions = request.make(destination)?;
        request.begin(&positions, &tail, &member)
    };
    let claimed = claim(&mut destination).unwrap();
    assert_eq!(claimed[&0].1, 7, "it continues behind what the other stored");

    destination.next_offset = 1_000;
    let refused = claim(&mut destination);
    assert!(matches!(refused, Err(ClaimError::Stop(_))), "a topic that was cut is still found: {refused:?}");

    let before = Source { topic_id: Uuid::from_u128(7), ..source.clone() };
    let refused = Request::prepare(&before, &[0], &tail);
    let said = format!("{refused:?}");
    assert!(matches!(refused, Err(ClaimError::Stop(_))) && said.contains("created again"), "{said}");
}
