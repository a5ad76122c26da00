//! Records: what goes in comes out, and offsets mean what they should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::{ANSWER, Check, Cluster, Outcome, expect, numbers, until, values, write};

pub(super) const CHECKS: &[Check] = &[
    ("key_headers_and_timestamp_survive", whole_record),
    ("the_log_stamps_records_where_it_should", append_time),
    ("a_time_far_ahead_is_refused", time_ahead),
    ("gzip_survives", |cluster| compressed(cluster, "gzip")),
    ("snappy_survives", |cluster| compressed(cluster, "snappy")),
    ("lz4_survives", |cluster| compressed(cluster, "lz4")),
    ("zstd_survives", |cluster| compressed(cluster, "zstd")),
    ("an_idempotent_producer_keeps_order", idempotent),
    ("bounds_are_first_and_next_offset", bounds),
    ("offsets_for_times_are_exact", times),
    ("a_seek_goes_back", seek),
    ("an_offset_that_is_gone_is_an_error_where_asked", out_of_range),
    ("a_waiting_fetch_is_woken_by_a_record", woken),
    ("a_reader_goes_on_at_its_commit_and_keeps_its_note", resume),
];

const HOUR_MS: i64 = 3_600_000;

/// A time that brokers take: neither ahead nor past its retention. Milliseconds.
fn hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default() - HOUR_MS
}

fn whole_record(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "text", value: Some("ünï") })
        .insert(Header { key: "none", value: None::<&[u8]> })
        .insert(Header { key: "text", value: Some("again") });
    let now = hour_ago();
    let record = BaseRecord::to(&topic).partition(0).key("k").payload("v").headers(headers).timestamp(now);
    producer.send(record).map_err(|(error, _)| error.to_string())?;
    let empty: BaseRecord<'_, (), ()> = BaseRecord::to(&topic).partition(0);
    producer.send(empty).map_err(|(error, _)| error.to_string())?;
    producer.flush(ANSWER).map_err(|error| error.to_string())?;
    let records = cluster.read(&topic, 0)?;
    let (first, second) = (records.first().ok_or("no record")?, records.get(1).ok_or("no second record")?);
    expect("key and value", &(first.key(), first.payload()), &(Some(&b"k"[..]), Some(&b"v"[..])))?;
    expect("timestamp", &first.timestamp(), &Timestamp::CreateTime(now))?;
    let headers: Vec<(String, Option<Vec<u8>>)> = first
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))))
        .collect();
    let text = |value: &str| Some(value.as_bytes().to_vec());
    let expected = vec![("text".into(), text("ünï")), ("none".into(), None), ("text".into(), text("again"))];
    expect("headers", &headers, &expected)?;
    expect("nulls", &(second.key(), second.payload()), &(None, None))
}

fn append_time(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let producer = cluster.producer(&[]);
    // An old event's time must not decide on its retention.
    let record = BaseRecord::to(&topic).partition(0).key("k").payload("v").timestamp(1_000_000_000_000);
    producer.send(record).map_err(|(error, _)| error.to_string())?;
    producer.flush(ANSWER).map_err(|error| error.to_string())?;
    match cluster.read(&topic, 0)?.first().map(rdkafka::Message::timestamp) {
        Some(Timestamp::LogAppendTime(time)) if time > 1_700_000_000_000 => Ok(()),
        other => Err(format!("timestamp {other:?}")),
    }
}

fn time_ahead(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.transactional("p", 10_000);
    producer.init_transactions(ANSWER).map_err(|error| error.to_string())?;
    producer.begin_transaction().map_err(|error| error.to_string())?;
    let ahead = hour_ago() + 3 * HOUR_MS;
    let record = BaseRecord::to(&topic).partition(0).key("k").payload("v").timestamp(ahead);
    producer.send(record).map_err(|(error, _)| error.to_string())?;
    // The commit fails because its record was not delivered.
    if producer.commit_transaction(ANSWER).is_ok() {
        return Err("a record of two hours ahead was taken".to_owned());
    }
    expect("records", &cluster.read(&topic, 0)?.len(), &0)
}

fn compressed(cluster: &Cluster, codec: &str) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[("compression.type", codec), ("linger.ms", "20")]);
    write(&producer, &topic, 0, 0..500)?;
    expect("values", &values(&cluster.read(&topic, 0)?), &numbers(0..500))
}

fn idempotent(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[("enable.idempotence", "true"), ("batch.num.messages", "7")]);
    write(&producer, &topic, 0, 0..3000)?;
    expect("values", &values(&cluster.read(&topic, 0)?), &numbers(0..3000))
}

fn bounds(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 2, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..77)?;
    let reader = cluster.reader();
    let of = |partition| reader.fetch_watermarks(&topic, partition, ANSWER).map_err(|error| error.to_string());
    expect("bounds", &(of(0)?, of(1)?), &((0, 77), (0, 0)))
}

fn times(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[("linger.ms", "50")]);
    let base = hour_ago();
    for number in 0..20 {
        let value = number.to_string();
        let record = BaseRecord::to(&topic).partition(0).key("k").payload(&value).timestamp(base + number * 100);
        producer.send(record).map_err(|(error, _)| error.to_string())?;
    }
    producer.flush(ANSWER).map_err(|error| error.to_string())?;
    let reader = cluster.reader();
    let at = |time: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(time)).map_err(|error| error.to_string())?;
        let found = reader.offsets_for_times(list, ANSWER).map_err(|error| error.to_string())?;
        found
            .elements()
            .first()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            .ok_or("nothing".to_owned())
    };
    expect("exactly", &at(base + 500)?, &Offset::Offset(5))?;
    expect("between", &at(base + 501)?, &Offset::Offset(6))?;
    expect("before all", &at(1)?, &Offset::Offset(0))?;
    expect("after all", &at(base + 9_999)?, &Offset::End)
}

fn seek(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..30)?;
    let reader = cluster.reader();
    cluster.read_with(&reader, &topic, 0, Offset::Beginning)?;
    reader.seek(&topic, 0, Offset::Offset(21), ANSWER).map_err(|error| error.to_string())?;
    let next = until("a record after the seek", || {
        reader.poll(Duration::from_millis(50))?.ok().map(|record| record.offset())
    })?;
    expect("offset", &next, &21)
}

fn out_of_range(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..3)?;
    let reader = cluster.consumer("strict", &[("auto.offset.reset", "error")]);
    match cluster.read_with(&reader, &topic, 0, Offset::Offset(1000)) {
        Err(error) if !error.contains("no end of") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn woken(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let producer = cluster.producer(&[]);
    let reader = cluster.consumer("patient", &[("fetch.wait.max.ms", "20000"), ("socket.timeout.ms", "60000")]);
    // Reads the end, then waits in a fetch of 20 s.
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).map_err(|error| error.to_string())?;
    reader.assign(&list).map_err(|error| error.to_string())?;
    if reader.poll(Duration::from_millis(500)).is_some_and(|polled| polled.is_ok()) {
        return Err("a record out of nothing".to_owned());
    }
    write(&producer, &topic, 0, 0..1)?;
    let started = std::time::Instant::now();
    until("the record", || match reader.poll(Duration::from_millis(50)) {
        Some(Ok(record)) => Some(record.offset()),
        _ => None,
    })?;
    if started.elapsed() < Duration::from_secs(5) { Ok(()) } else { Err(format!("only after {:?}", started.elapsed())) }
}

fn resume(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..40)?;
    let first = cluster.consumer("g", &[]);
    cluster.read_with(&first, &topic, 0, Offset::Beginning)?;
    let mut list = TopicPartitionList::new();
    {
        let mut element = list.add_partition(&topic, 0);
        element.set_offset(Offset::Offset(25)).map_err(|error| error.to_string())?;
        element.set_metadata("a note");
    }
    first.commit(&list, CommitMode::Sync).map_err(|error| error.to_string())?;
    drop(first);
    let second = cluster.consumer("g", &[]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&topic, 0);
    let committed = second.committed_offsets(asked, ANSWER).map_err(|error: KafkaError| error.to_string())?;
    let found: Vec<(Offset, String)> =
        committed.elements().iter().map(|element| (element.offset(), element.metadata().to_owned())).collect();
    expect("committed", &found, &vec![(Offset::Offset(25), "a note".to_owned())])?;
    let records = cluster.read_with(&second, &topic, 0, Offset::Stored)?;
    expect("values", &values(&records), &numbers(25..40))
}
