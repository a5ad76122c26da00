//! Topics: made, grown, described, deleted, aged.

use rdkafka::admin::{NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER, Check, Cluster, Outcome, block_on, expect, options, until, write};

pub(super) const CHECKS: &[Check] = &[
    ("metadata_names_brokers_and_partitions", metadata),
    ("a_topic_made_twice_exists_already", made_twice),
    ("a_topic_name_that_is_illegal_is_refused", illegal_name),
    ("partitions_can_be_added_and_not_taken", grow),
    ("a_deleted_topic_is_gone", delete),
    ("settings_can_be_described", describe),
    ("a_setting_that_is_unknown_or_out_of_bounds_is_refused", bad_settings),
    ("retention_by_bytes_drops_the_oldest", retention),
    ("deleted_records_raise_the_start", delete_records),
];

fn metadata(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 5, &[])?;
    let metadata = cluster.reader().fetch_metadata(None, ANSWER).map_err(|error| error.to_string())?;
    if metadata.brokers().is_empty() {
        return Err("no broker is named".to_owned());
    }
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let leaders = found.map(|found| found.partitions().iter().filter(|partition| partition.leader() >= 0).count());
    expect("partitions with a leader", &leaders, &Some(5))
}

fn made_twice(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let again = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let results = block_on(cluster.admin().create_topics(&[again], &options())).map_err(|error| error.to_string())?;
    let codes: Vec<_> = results.into_iter().map(|result| result.err().map(|(_, code)| code)).collect();
    expect("codes", &codes, &vec![Some(RDKafkaErrorCode::TopicAlreadyExists)])
}

fn illegal_name(cluster: &Cluster) -> Outcome {
    let bad = NewTopic::new("no spaces please", 1, TopicReplication::Fixed(1));
    let results = block_on(cluster.admin().create_topics(&[bad], &options())).map_err(|error| error.to_string())?;
    let codes: Vec<_> = results.into_iter().map(|result| result.err().map(|(_, code)| code)).collect();
    expect("codes", &codes, &vec![Some(RDKafkaErrorCode::InvalidTopic)])
}

fn grow(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 2, &[])?;
    let admin = cluster.admin();
    let to = |count| block_on(admin.create_partitions(&[NewPartitions::new(&topic, count)], &options()));
    let grown = to(4).map_err(|error| error.to_string())?;
    expect("growing", &grown.iter().all(Result::is_ok), &true)?;
    let shrunk = to(1).map_err(|error| error.to_string())?;
    expect("shrinking", &shrunk.iter().all(Result::is_err), &true)?;
    let reader = cluster.reader();
    until("four partitions", || {
        let metadata = reader.fetch_metadata(Some(&topic), ANSWER).ok()?;
        (metadata.topics().first()?.partitions().len() == 4).then_some(())
    })
}

fn delete(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let results = block_on(cluster.admin().delete_topics(&[&topic], &options())).map_err(|error| error.to_string())?;
    expect("deleting", &results.iter().all(Result::is_ok), &true)?;
    let reader = cluster.reader();
    until("the topic is gone", || {
        let metadata = reader.fetch_metadata(None, ANSWER).ok()?;
        metadata.topics().iter().all(|found| found.name() != topic).then_some(())
    })
}

fn describe(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let resource = ResourceSpecifier::Topic(&topic);
    let described =
        block_on(cluster.admin().describe_configs(&[resource], &options())).map_err(|error| error.to_string())?;
    let resource = described.into_iter().next().ok_or("nothing described")?.map_err(|error| error.to_string())?;
    let value = |name: &str| resource.get(name).and_then(|entry| entry.value.clone());
    expect("given", &value("message.timestamp.type"), &Some("LogAppendTime".to_owned()))?;
    expect("default", &value("cleanup.policy"), &Some("delete".to_owned()))
}

fn retention(cluster: &Cluster) -> Outcome {
    // As small as segments may be: only whole ones are dropped.
    let topic = cluster.topic("t", 1, &[("retention.bytes", "1200000"), ("segment.bytes", "1048576")])?;
    let producer = cluster.producer(&[("batch.num.messages", "50")]);
    let value = "x".repeat(5_000);
    for _ in 0..20 {
        for number in 0..50 {
            let key = number.to_string();
            let record = rdkafka::producer::BaseRecord::to(&topic).partition(0).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error.to_string())?;
        }
        rdkafka::producer::Producer::flush(&producer, ANSWER).map_err(|error| error.to_string())?;
    }
    let reader = cluster.reader();
    until("the oldest are dropped", || {
        let (low, high) = reader.fetch_watermarks(&topic, 0, ANSWER).ok()?;
        (low > 0 && high == 1000).then_some(())
    })
}

fn bad_settings(cluster: &Cluster) -> Outcome {
    for (name, value) in [("segment.bytes", "16384"), ("retention.ms", "soon"), ("no.such.setting", "1")] {
        match cluster.topic("t", 1, &[(name, value)]) {
            Err(why) if why.contains("InvalidConfig") => {}
            other => return Err(format!("{name}={value}: {other:?}")),
        }
    }
    Ok(())
}

fn delete_records(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[]);
    for start in 0..10 {
        write(&producer, &topic, 0, start..start + 1)?;
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(6)).map_err(|error| error.to_string())?;
    block_on(cluster.admin().delete_records(&list, &options())).map_err(|error| error.to_string())?;
    let bounds = cluster.reader().fetch_watermarks(&topic, 0, ANSWER).map_err(|error| error.to_string())?;
    expect("bounds", &bounds, &(6, 10))?;
    expect("first offset left", &cluster.read(&topic, 0)?.len(), &4)
}
