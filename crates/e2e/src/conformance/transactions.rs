//! Transactions: what is committed is seen, what is not is not, and the old writer is fenced.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER, Check, Cluster, Outcome, expect, numbers, until, values, write};

pub(super) const CHECKS: &[Check] = &[
    ("aborted_records_are_hidden", aborted),
    ("an_open_transaction_is_hidden_until_its_commit", open),
    ("an_open_transaction_holds_back_what_comes_after_it", held_back),
    ("a_transaction_over_many_partitions_is_whole", many_partitions),
    ("offsets_of_a_transaction_count_on_commit_only", offsets),
    ("a_zombie_writer_is_fenced", zombie),
    ("a_restart_aborts_what_its_predecessor_left_open", predecessor),
    ("a_transaction_past_its_time_out_is_aborted", timed_out),
    ("bounds_of_a_committed_reader_end_before_an_open_transaction", stable_bounds),
];

fn text(error: rdkafka::error::KafkaError) -> String {
    error.to_string()
}

/// Writes within the open transaction, and waits until the broker has it.
fn begin(producer: &BaseProducer, topic: &str, partition: i32, range: std::ops::Range<u32>) -> Outcome {
    producer.begin_transaction().map_err(text)?;
    write(producer, topic, partition, range)
}

fn aborted(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.transactional("p", 10_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 0..10)?;
    producer.commit_transaction(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 10..20)?;
    producer.abort_transaction(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 20..30)?;
    producer.commit_transaction(ANSWER).map_err(text)?;
    let seen = values(&cluster.read(&topic, 0)?);
    expect("committed", &seen, &[numbers(0..10), numbers(20..30)].concat())?;
    let all = cluster.consumer("all", &[("isolation.level", "read_uncommitted")]);
    expect("all", &values(&cluster.read_with(&all, &topic, 0, Offset::Beginning)?), &numbers(0..30))
}

fn open(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.transactional("p", 20_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 0..10)?;
    expect("before the commit", &cluster.read(&topic, 0)?.len(), &0)?;
    producer.commit_transaction(ANSWER).map_err(text)?;
    expect("after the commit", &cluster.read(&topic, 0)?.len(), &10)
}

fn held_back(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.transactional("p", 20_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 0..1)?;
    write(&cluster.producer(&[]), &topic, 0, 1..3)?;
    expect("while it is open", &cluster.read(&topic, 0)?.len(), &0)?;
    producer.abort_transaction(ANSWER).map_err(text)?;
    expect("after the abort", &values(&cluster.read(&topic, 0)?), &numbers(1..3))
}

fn many_partitions(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 4, &[])?;
    let producer = cluster.transactional("p", 10_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    producer.begin_transaction().map_err(text)?;
    for partition in 0..4 {
        write(&producer, &topic, partition, 0..5)?;
    }
    producer.commit_transaction(ANSWER).map_err(text)?;
    for partition in 0..4 {
        expect("values", &values(&cluster.read(&topic, partition)?), &numbers(0..5))?;
    }
    Ok(())
}

fn offsets(cluster: &Cluster) -> Outcome {
    let (input, output) = (cluster.topic("in", 1, &[])?, cluster.topic("out", 1, &[])?);
    write(&cluster.producer(&[]), &input, 0, 0..50)?;
    let consumer = cluster.consumer("g", &[]);
    consumer.subscribe(&[&input]).map_err(text)?;
    until("a first record", || consumer.poll(Duration::from_millis(50))?.ok().map(|_| ()))?;
    let identity = consumer.group_metadata().ok_or("no group")?;
    let producer = cluster.transactional("p", 10_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    let committed = || {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&input, 0);
        let found = consumer.committed_offsets(asked, ANSWER).map_err(text)?;
        found
            .elements()
            .first()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            .ok_or("none".to_owned())
    };
    let send = |offset: i64| -> Outcome {
        begin(&producer, &output, 0, 0..1)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&input, 0, Offset::Offset(offset)).map_err(text)?;
        producer.send_offsets_to_transaction(&list, &identity, ANSWER).map_err(text)
    };
    send(20)?;
    producer.abort_transaction(ANSWER).map_err(text)?;
    expect("after the abort", &committed()?, &Offset::Invalid)?;
    send(30)?;
    producer.commit_transaction(ANSWER).map_err(text)?;
    expect("after the commit", &committed()?, &Offset::Offset(30))
}

fn zombie(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let old = cluster.transactional("p", 10_000);
    old.init_transactions(ANSWER).map_err(text)?;
    begin(&old, &topic, 0, 0..5)?;
    let new = cluster.transactional("p", 10_000);
    new.init_transactions(ANSWER).map_err(text)?;
    if old.commit_transaction(ANSWER).is_ok() {
        return Err("the zombie's commit was accepted".to_owned());
    }
    begin(&new, &topic, 0, 5..8)?;
    new.commit_transaction(ANSWER).map_err(text)?;
    expect("values", &values(&cluster.read(&topic, 0)?), &numbers(5..8))
}

fn predecessor(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let old = cluster.transactional("p", 60_000);
    old.init_transactions(ANSWER).map_err(text)?;
    begin(&old, &topic, 0, 0..5)?;
    drop(old);
    let new = cluster.transactional("p", 60_000);
    new.init_transactions(ANSWER).map_err(text)?;
    write(&cluster.producer(&[]), &topic, 0, 5..6)?;
    expect("values", &values(&cluster.read(&topic, 0)?), &numbers(5..6))
}

fn timed_out(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.transactional("p", 1_500);
    producer.init_transactions(ANSWER).map_err(text)?;
    begin(&producer, &topic, 0, 0..5)?;
    write(&cluster.producer(&[]), &topic, 0, 5..6)?;
    until("what is behind it is seen", || {
        let seen = values(&cluster.read(&topic, 0).ok()?);
        (seen == numbers(5..6)).then_some(())
    })?;
    if producer.commit_transaction(ANSWER).is_ok() { Err("it was committed after all".to_owned()) } else { Ok(()) }
}

fn stable_bounds(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..4)?;
    let producer = cluster.transactional("p", 20_000);
    producer.init_transactions(ANSWER).map_err(text)?;
    producer.begin_transaction().map_err(text)?;
    let record = BaseRecord::to(&topic).partition(0).key("k").payload("v");
    producer.send(record).map_err(|(error, _)| error.to_string())?;
    producer.flush(ANSWER).map_err(text)?;
    let bounds = cluster.reader().fetch_watermarks(&topic, 0, ANSWER).map_err(text)?;
    expect("while it is open", &bounds, &(0, 4))?;
    producer.commit_transaction(ANSWER).map_err(text)?;
    let bounds = cluster.reader().fetch_watermarks(&topic, 0, ANSWER).map_err(text)?;
    expect("after the commit, its marker too", &bounds, &(0, 6))
}
