//! The kit on the embedded broker: fencing, tails over control records, offsets given with the assignment.
#![expect(clippy::unwrap_used, reason = "a test says what broke by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use broker::Broker;
use kafka::{
    CommitMode, Fetched, GroupMember, Kafka, KafkaConfig, Outgoing, Polled, Queue, Rebalance, Rebalancing,
    TopicPartition,
};
use service::Metrics;

const TOPIC: &str = "numbers";

async fn start(partitions: i32) -> (Broker, Kafka) {
    let broker = Broker::start(broker::Config::default()).unwrap();
    let kafka = Kafka::new(KafkaConfig::at(&broker.address().to_string()), &Metrics::new("test"));
    let wanted = kafka::topics::Wanted { name: TOPIC, partitions, replication: 1, keep: kafka::topics::Keep::Week };
    kafka.ensure_topics(std::slice::from_ref(&wanted)).await.unwrap();
    kafka.ensure_topics(&[wanted]).await.unwrap();
    (broker, kafka)
}

fn write(writer: &mut kafka::FencedWriter, partition: i32, numbers: std::ops::Range<i32>) -> Result<(), kafka::Error> {
    writer.begin()?;
    for number in numbers {
        let value = number.to_string();
        let headers = [("seq", Some(value.as_bytes())), ("empty", None)];
        writer.send(&Outgoing { topic: TOPIC, partition, key: b"k", value: value.as_bytes(), headers: &headers })?;
    }
    writer.commit()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_fences_the_writer_before_it() {
    let (_broker, kafka) = start(1).await;
    tokio::task::spawn_blocking(move || {
        let mut first = kafka.fenced_writer("w").unwrap();
        write(&mut first, 0, 0..3).unwrap();
        let mut second = kafka.fenced_writer("w").unwrap();
        assert!(write(&mut first, 0, 3..4).is_err(), "the first writer is fenced");
        write(&mut second, 0, 3..5).unwrap();
        let tail = kafka.tail().unwrap();
        let records = tail.read_to_end(TOPIC, &BTreeMap::from([(0, 0)])).unwrap();
        let values: Vec<&str> = records[&0].iter().map(|record| std::str::from_utf8(record.value()).unwrap()).collect();
        assert_eq!(values, ["0", "1", "2", "3", "4"]);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_is_found_behind_many_control_records_and_aborted_ones() {
    let (_broker, kafka) = start(2).await;
    tokio::task::spawn_blocking(move || {
        let mut writer = kafka.fenced_writer("w").unwrap();
        write(&mut writer, 0, 0..1).unwrap();
        // Each writer leaves its transaction open; the next one aborts it: records and markers that nobody sees.
        for _ in 0..8 {
            writer.begin().unwrap();
            writer.send(&Outgoing { topic: TOPIC, partition: 0, key: b"k", value: b"lost", headers: &[] }).unwrap();
            writer.send(&Outgoing { topic: TOPIC, partition: 1, key: b"k", value: b"lost", headers: &[] }).unwrap();
            let before = kafka.tail().unwrap().bounds(TOPIC, 0).unwrap();
            drop(writer);
            writer = kafka.fenced_writer("w").unwrap();
            assert!(kafka.tail().unwrap().bounds(TOPIC, 0).unwrap().end >= before.end);
        }
        let last = kafka.tail().unwrap().last_records(TOPIC, &[0, 1]).unwrap();
        assert_eq!(last[&0].value(), b"0");
        assert!(!last.contains_key(&1), "partition 1 never had a committed record");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_an_id_of_its_own() {
    let (_broker, kafka) = start(1).await;
    tokio::task::spawn_blocking(move || {
        let tail = kafka.tail().unwrap();
        assert!(!tail.topic_id(TOPIC).unwrap().is_nil());
        assert!(tail.topic_id("absent").is_err());
        assert_eq!(tail.partitions(TOPIC).unwrap(), Some(1));
        assert_eq!(tail.partitions("absent").unwrap(), None);
    })
    .await
    .unwrap();
}

fn next_rebalance(member: &GroupMember) -> Rebalance {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Polled::Rebalance(rebalance) = member.poll(Duration::from_millis(50)) {
            return rebalance;
        }
    }
    panic!("no rebalance within 20 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_given_with_the_assignment_in_every_protocol() {
    let (_broker, kafka) = start(2).await;
    tokio::task::spawn_blocking(move || {
        let mut writer = kafka.fenced_writer("w").unwrap();
        write(&mut writer, 0, 0..10).unwrap();
        for rebalancing in Rebalancing::ALL {
            let group = format!("g-{}", rebalancing.as_str());
            let member = kafka.member(&group, &[TOPIC], rebalancing).unwrap();
            let Rebalance::Assigned(partitions) = next_rebalance(&member) else { panic!("not assigned") };
            assert_eq!(partitions.len(), 2, "{rebalancing:?}");
            let starts: Vec<(TopicPartition, i64)> =
                partitions.iter().map(|at| (at.clone(), if at.partition == 0 { 7 } else { 0 })).collect();
            member.assign(&starts).unwrap();
            let mut seen = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(20);
            while seen.len() < 3 && Instant::now() < deadline {
                if let Polled::Record(record) = member.poll(Duration::from_millis(50)) {
                    seen.push(record.offset());
                }
            }
            assert_eq!(seen, [7, 8, 9], "{rebalancing:?}");
            let at = TopicPartition { topic: TOPIC.into(), partition: 0 };
            member.commit(&[(at.clone(), 10, "note".into())], CommitMode::Wait).unwrap();
            assert_eq!(member.committed(std::slice::from_ref(&at)).unwrap(), [(at, 10, "note".to_owned())]);
        }
    })
    .await
    .unwrap();
}

/// Takes batches until `count` records are there, then as long again as librdkafka needs to notice the end.
fn take(member: &GroupMember, queue: &Queue, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut quiet_until = None;
    while quiet_until.is_none_or(|until| Instant::now() < until) {
        assert!(Instant::now() < deadline, "{offsets:?}");
        drop(member.poll(Duration::from_millis(10)));
        offsets.extend(queue.take(100).iter().filter(|fetched| fetched.failure().is_none()).map(Fetched::offset));
        if offsets.len() >= count {
            quiet_until.get_or_insert_with(|| Instant::now() + Duration::from_millis(500));
        }
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_step_over_no_record_when_a_partition_is_paused_at_its_end() {
    let (_broker, kafka) = start(1).await;
    tokio::task::spawn_blocking(move || {
        let mut writer = kafka.fenced_writer("w").unwrap();
        write(&mut writer, 0, 0..3).unwrap();
        let member = kafka.member("batches", &[TOPIC], Rebalancing::Cooperative).unwrap();
        let Rebalance::Assigned(partitions) = next_rebalance(&member) else { panic!("not assigned") };
        let at = partitions[0].clone();
        let queue = member.queue(&at, std::thread::current()).unwrap();
        member.assign(&[(at.clone(), 0)]).unwrap();
        assert_eq!(take(&member, &queue, 3), [0, 1, 2]);
        // As a rebalance does with the partitions that stay.
        member.set_paused(std::slice::from_ref(&at), true).unwrap();
        member.set_paused(std::slice::from_ref(&at), false).unwrap();
        write(&mut writer, 0, 3..5).unwrap();
        assert_eq!(take(&member, &queue, 2), [4, 5], "offset 3 is the marker of the first transaction");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_half_in_every_protocol() {
    let (_broker, kafka) = start(4).await;
    tokio::task::spawn_blocking(move || {
        for rebalancing in Rebalancing::ALL {
            let group = format!("half-{}", rebalancing.as_str());
            let mut members = vec![Follower::join(&kafka, &group, rebalancing)];
            settle(&mut members, &[4]);
            members.push(Follower::join(&kafka, &group, rebalancing));
            settle(&mut members, &[2, 2]);
            members.remove(0);
            settle(&mut members, &[4]);
        }
    })
    .await
    .unwrap();
}

struct Follower {
    member: GroupMember,
    owned: Vec<TopicPartition>,
}

impl Follower {
    fn join(kafka: &Kafka, group: &str, rebalancing: Rebalancing) -> Self {
        Self { member: kafka.member(group, &[TOPIC], rebalancing).unwrap(), owned: Vec::new() }
    }

    fn turn(&mut self) {
        match self.member.poll(Duration::from_millis(10)) {
            Polled::Rebalance(Rebalance::Assigned(partitions)) => {
                self.member.assign(&partitions.iter().map(|at| (at.clone(), 0)).collect::<Vec<_>>()).unwrap();
                self.owned.extend(partitions);
            }
            Polled::Rebalance(Rebalance::Revoked(partitions) | Rebalance::Lost(partitions)) => {
                self.member.release(&partitions).unwrap();
                self.owned.retain(|at| !partitions.contains(at));
            }
            Polled::Record(_) | Polled::Failed(_) | Polled::Nothing => {}
        }
    }
}

fn settle(members: &mut [Follower], expected: &[usize]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut counts = Vec::new();
    while Instant::now() < deadline {
        members.iter_mut().for_each(Follower::turn);
        counts = members.iter().map(|member| member.owned.len()).collect();
        if counts == expected {
            return;
        }
    }
    panic!("expected {expected:?}, found {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_only_asked_keeps_no_events_that_nobody_serves() {
    let (_broker, kafka) = start(1).await;
    tokio::task::spawn_blocking(move || {
        let (tail, view, follower) = (kafka.tail().unwrap(), kafka.group_view("g").unwrap(), kafka.follower().unwrap());
        let ask = || {
            tail.bounds(TOPIC, 0).unwrap();
            view.topic(TOPIC, Duration::from_secs(5)).unwrap();
        };
        ask();
        // Statistics come every few seconds: one that is made at the same time and never served has some by now.
        let deadline = Instant::now() + Duration::from_secs(30);
        while follower.unserved() < 2 {
            assert!(Instant::now() < deadline, "no statistics came");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        ask();
        assert_eq!((tail.unserved(), view.unserved()), (0, 0));
    })
    .await
    .unwrap();
}

/// librdkafka 2.12 aborts the process where a description's time is up before its coordinator is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_described_again_after_its_coordinator_was_away_for_long() {
    let (broker, kafka) = start(1).await;
    let address = broker.address();
    tokio::task::spawn_blocking(move || {
        let mut view = kafka.group_view("g").unwrap();
        view.describe(Duration::from_secs(5)).unwrap();
        broker.stop();
        drop(broker);
        for _ in 0..3 {
            assert!(view.describe(Duration::from_millis(500)).is_err(), "nobody answers");
        }
        let _again = Broker::start(broker::Config { port: address.port(), ..broker::Config::default() }).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while view.describe(Duration::from_millis(500)).is_err() {
            assert!(Instant::now() < deadline, "the group is not described again");
        }
        view.describe(Duration::from_secs(5)).unwrap();
    })
    .await
    .unwrap();
}

/// On a cluster one broker hears of a new topic after another.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_known_yet_is_asked_for_again() {
    let (_broker, kafka) = start(1).await;
    let asking = kafka.clone();
    let asked = tokio::task::spawn_blocking(move || asking.tail().unwrap().topic_id("late"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asked.is_finished(), "nobody knows it yet");
    let wanted = kafka::topics::Wanted { name: "late", partitions: 1, replication: 1, keep: kafka::topics::Keep::Week };
    kafka.ensure_topics(&[wanted]).await.unwrap();
    asked.await.unwrap().unwrap();
}
