//! Topics: listed, made, described, deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::{Kafka, KafkaConfig};
use rdkafka::admin::{AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Value, json};
use service::{Failure, Metrics};

use crate::out::{confirm, line};

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What `wiki topics` does.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Action {
    /// List topics with their partitions and copies.
    List {
        /// Kafka's own topics too.
        #[arg(long)]
        internal: bool,
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Make a topic.
    Create {
        /// Its name.
        topic: String,
        /// Number of partitions: how many members of a consumer group can share it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        /// Copies of each partition, on as many brokers.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        replication_factor: i32,
        /// A setting of the topic, such as retention.ms=3600000; repeatable.
        #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
        config: Vec<(String, String)>,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Describe a topic: partitions, leaders, copies, offsets, settings that are not the default.
    Describe {
        /// Its name.
        topic: String,
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Delete a topic with all its records, after a question.
    Delete {
        /// Its name.
        topic: String,
        /// Without the question.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
}

/// Reads NAME=VALUE.
pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is written NAME=VALUE, such as retention.ms=3600000")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs `wiki topics`.
pub(crate) fn main(action: &Action) -> Result<(), Failure> {
    match action {
        Action::List { internal, json, kafka } => list(&client(kafka)?, *internal, *json),
        Action::Create { topic, partitions, replication_factor, config, kafka } => {
            create(&client(kafka)?, topic, *partitions, *replication_factor, config)
        }
        Action::Describe { topic, json, kafka } => describe(&client(kafka)?, topic, *json),
        Action::Delete { topic, yes, kafka } => delete(&client(kafka)?, topic, *yes),
    }
}

/// A client of a cluster that answers.
pub(crate) fn client(config: &KafkaConfig) -> Result<Kafka, Failure> {
    let kafka = Kafka::new(config.clone(), &Metrics::new("wiki"));
    kafka.check_reachable(ANSWER_LIMIT)?;
    Ok(kafka)
}

/// The number of partitions of a topic, which has to be there.
pub(crate) fn partitions_of(kafka: &Kafka, topic: &str) -> Result<i32, Failure> {
    let tail = kafka.tail().map_err(|error| failed(&error))?;
    tail.partitions(topic).map_err(|error| failed(&error))?.ok_or_else(|| {
        Failure::Config(format!(
            "there is no topic {topic}; `wiki topics list` lists those that there are, `wiki topics create {topic}` makes it"
        ))
    })
}

/// A failure of the kit as a sentence.
pub(crate) fn failed(error: &kafka::Error) -> Failure {
    Failure::Runtime(error.sentence())
}

/// The cluster as it describes itself.
pub(crate) fn metadata(kafka: &Kafka) -> Result<Metadata, Failure> {
    let reader = kafka.reader("wikipedia-console").map_err(|error| failed(&error))?;
    reader
        .fetch_metadata(None, ANSWER_LIMIT)
        .map_err(|error| Failure::Runtime(format!("the topics cannot be listed: {error}")))
}

fn list(kafka: &Kafka, internal: bool, json: bool) -> Result<(), Failure> {
    let metadata = metadata(kafka)?;
    let mut topics: Vec<&MetadataTopic> =
        metadata.topics().iter().filter(|topic| internal || !topic.name().starts_with("__")).collect();
    topics.sort_by_key(|topic| topic.name());
    let copies = |topic: &MetadataTopic| topic.partitions().first().map_or(0, |first| first.replicas().len());
    if json {
        let one = |topic: &&MetadataTopic| json!({ "topic": topic.name(), "partitions": topic.partitions().len(), "copies": copies(topic) });
        line(Value::Array(topics.iter().map(one).collect()));
        return Ok(());
    }
    line(format!("{:<32} {:>10} {:>6}", "topic", "partitions", "copies"));
    for topic in topics {
        line(format!("{:<32} {:>10} {:>6}", topic.name(), topic.partitions().len(), copies(topic)));
    }
    Ok(())
}

fn create(
    kafka: &Kafka,
    topic: &str,
    partitions: i32,
    copies: i32,
    config: &[(String, String)],
) -> Result<(), Failure> {
    let admin = kafka.admin().map_err(|error| failed(&error))?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(copies));
    let new = config.iter().fold(new, |new, (name, value)| new.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_LIMIT)).request_timeout(Some(ANSWER_LIMIT));
    let made = service::block_on(async {
        admin.create_topics(&[new], &options).await.map_err(|error| Failure::Runtime(error.to_string()))
    })?;
    for result in made {
        result.map_err(|(name, code)| {
            if code == RDKafkaErrorCode::TopicAlreadyExists {
                return Failure::Runtime(format!(
                    "topic {name} is there already; `wiki topics describe {name}` shows it"
                ));
            }
            Failure::Runtime(format!(
                "topic {name} cannot be made: {code}; a cluster of one broker holds one copy, and `wiki topics list` \
                 shows what is there"
            ))
        })?;
    }
    let counted = |count: i32, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let (partitions, copies) = (counted(partitions, "partition", "partitions"), counted(copies, "copy", "copies"));
    line(format!("{topic} made: {partitions}, {copies} of each"));
    Ok(())
}

/// Settings of a topic that somebody chose.
fn chosen_settings(kafka: &Kafka, topic: &str) -> Result<BTreeMap<String, String>, Failure> {
    let admin = kafka.admin().map_err(|error| failed(&error))?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
    let described = service::block_on(async {
        admin
            .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
            .await
            .map_err(|error| Failure::Runtime(format!("the settings of {topic} cannot be read: {error}")))
    })?;
    let entries = described.into_iter().flatten().flat_map(|resource| resource.entries);
    let chosen = entries.filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic));
    Ok(chosen.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect())
}

fn describe(kafka: &Kafka, topic: &str, json: bool) -> Result<(), Failure> {
    let metadata = metadata(kafka)?;
    partitions_of(kafka, topic)?;
    let found = metadata.topics().iter().filter(|found| found.name() == topic);
    let tail = kafka.tail().map_err(|error| failed(&error))?;
    let settings = chosen_settings(kafka, topic)?;
    let mut partitions = Vec::new();
    for partition in found.flat_map(MetadataTopic::partitions) {
        let bounds = tail.bounds(topic, partition.id()).map_err(|error| failed(&error))?;
        partitions.push(json!({
            "partition": partition.id(), "leader": partition.leader(), "replicas": partition.replicas(),
            "in_sync": partition.isr(), "start": bounds.start, "end": bounds.end,
        }));
    }
    partitions.sort_by_key(|partition| partition["partition"].as_i64());
    if json {
        line(format!("{}", json!({ "topic": topic, "partitions": partitions, "settings": settings })));
        return Ok(());
    }
    line(format!(
        "{:>9} {:>7} {:>12} {:>12} {:>9} {:>9}",
        "partition", "leader", "replicas", "in sync", "start", "end"
    ));
    for at in &partitions {
        let brokers = |name: &str| {
            let ids = at[name].as_array().into_iter().flatten().map(ToString::to_string);
            ids.collect::<Vec<_>>().join(",")
        };
        let (replicas, in_sync) = (brokers("replicas"), brokers("in_sync"));
        line(format!(
            "{:>9} {:>7} {replicas:>12} {in_sync:>12} {:>9} {:>9}",
            at["partition"].to_string(),
            at["leader"].to_string(),
            at["start"].to_string(),
            at["end"].to_string()
        ));
    }
    for (name, value) in settings {
        line(format!("{name}={value}"));
    }
    Ok(())
}

fn delete(kafka: &Kafka, topic: &str, yes: bool) -> Result<(), Failure> {
    confirm(&format!("delete {topic} and all its records"), topic, yes)?;
    let admin = kafka.admin().map_err(|error| failed(&error))?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_LIMIT)).request_timeout(Some(ANSWER_LIMIT));
    let deleted = service::block_on(async {
        admin.delete_topics(&[topic], &options).await.map_err(|error| Failure::Runtime(error.to_string()))
    })?;
    for result in deleted {
        result.map_err(|(name, code)| Failure::Runtime(format!("topic {name} cannot be deleted: {code}")))?;
    }
    line(format!("{topic} deleted"));
    Ok(())
}
