//! What can be done to a consumer group that rests: its committed offsets moved, or all of it deleted.

use kafka::{GroupView, Kafka, KafkaConfig};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use service::Failure;

use super::{ANSWER_LIMIT, expect_consumers, is_there, no_group};
use crate::consume::Start;
use crate::out::{confirm, line};
use crate::topics::{client, failed, partitions_of};

/// Options of `wiki groups reset`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The consumer group.
    group: String,
    /// The topic of which its offsets move.
    #[arg(long)]
    topic: String,
    /// Where to: earliest, latest, an offset, or a time such as 2026-07-01T12:00:00Z. An offset that is not in the log
    /// becomes the log's nearest.
    #[arg(long, value_name = "WHERE")]
    to: Start,
    /// Only this partition; repeatable.
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// Without the question.
    #[arg(long)]
    yes: bool,
    /// JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kafka: KafkaConfig,
}

/// A partition's committed offset, as it is and as it will be.
struct Move {
    partition: i32,
    from: Option<i64>,
    to: i64,
}

/// Runs `wiki groups reset`.
pub(super) fn reset(options: &Options) -> Result<(), Failure> {
    let Options { group, topic, yes, json, .. } = options;
    let kafka = client(&options.kafka)?;
    expect_consumers(&kafka, group)?;
    let mut view = kafka.group_view(group).map_err(|error| failed(&error))?;
    // A group that is not there yet may be given offsets to begin at.
    if !expect_at_rest(&mut view, group)? {
        crate::out::say(format_args!("there is no consumer group {group} yet: this makes one"));
    }
    let moves = plan(&kafka, &view, options)?;
    if *json {
        let one = |Move { partition, from, to }: &Move| json!({ "partition": partition, "from": from, "to": to });
        line(json!({ "group": group, "topic": topic, "partitions": moves.iter().map(one).collect::<Vec<Value>>() }));
    } else {
        line(format!("{:<24} {:>9} {:>10} {:>10}", "topic", "partition", "committed", "becomes"));
        for Move { partition, from, to } in &moves {
            let from = from.map_or_else(|| "-".to_owned(), |from| from.to_string());
            line(format!("{topic:<24} {partition:>9} {from:>10} {to:>10}"));
        }
    }
    confirm(&format!("move the offsets of {group}"), group, *yes)?;
    let mut offsets = TopicPartitionList::new();
    for Move { partition, to, .. } in &moves {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*to)).map_err(|error| refused(group, &error))?;
    }
    let member = kafka.reader(group).map_err(|error| failed(&error))?;
    member.commit(&offsets, CommitMode::Sync).map_err(|error| refused(group, &error))?;
    crate::out::say(format_args!("offsets of {group} moved"));
    Ok(())
}

fn refused(group: &str, error: &rdkafka::error::KafkaError) -> Failure {
    Failure::Runtime(format!(
        "the offsets of {group} cannot be moved: {error}; `wiki groups describe {group}` shows it"
    ))
}

/// Whoever is in the group would commit over what is moved.
fn expect_at_rest(view: &mut GroupView, group: &str) -> Result<bool, Failure> {
    let described = view.describe(ANSWER_LIMIT).map_err(|error| failed(&error))?;
    if described.members.is_empty() {
        return Ok(is_there(&described));
    }
    Err(Failure::Config(format!(
        "{} in {group}: end them first, they hold its offsets (`wiki groups describe {group}`)",
        if described.members.len() == 1 {
            "1 member is".to_owned()
        } else {
            format!("{} members are", described.members.len())
        }
    )))
}

fn plan(kafka: &Kafka, view: &GroupView, options: &Options) -> Result<Vec<Move>, Failure> {
    let Options { topic, to, .. } = options;
    let count = partitions_of(kafka, topic)?;
    if let Some(unknown) = options.partitions.iter().find(|partition| !(0..count).contains(partition)) {
        return Err(Failure::Usage(format!("{topic} has no partition {unknown}: 0 to {}", count - 1)));
    }
    let reader = kafka.reader(&options.group).map_err(|error| failed(&error))?;
    let starts = to.assignment(&reader, topic, count).map_err(|error| refused(&options.group, &error))?;
    let all: Vec<_> = (0..count).map(|partition| kafka::TopicPartition { topic: topic.clone(), partition }).collect();
    let committed = view.committed(&all, ANSWER_LIMIT).map_err(|error| failed(&error))?;
    let mut moves = Vec::new();
    for at in all.iter().filter(|at| options.partitions.is_empty() || options.partitions.contains(&at.partition)) {
        let bounds = view.bounds(at, ANSWER_LIMIT).map_err(|error| failed(&error))?;
        let wanted = starts.find_partition(topic, at.partition).map(|found| found.offset());
        let to = match wanted {
            Some(Offset::Beginning) => bounds.start,
            Some(Offset::Offset(offset)) => offset.clamp(bounds.start, bounds.end),
            // The end, or a time that no record is as young as.
            _ => bounds.end,
        };
        moves.push(Move { partition: at.partition, from: committed.get(at).copied(), to });
    }
    Ok(moves)
}

/// Runs `wiki groups delete`.
pub(super) fn delete(kafka: &Kafka, group: &str, yes: bool) -> Result<(), Failure> {
    expect_consumers(kafka, group)?;
    let mut view = kafka.group_view(group).map_err(|error| failed(&error))?;
    if !expect_at_rest(&mut view, group)? {
        return Err(no_group(group));
    }
    confirm(&format!("delete {group} and its committed offsets"), group, yes)?;
    let admin = kafka.admin().map_err(|error| failed(&error))?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
    let deleted = service::block_on(async {
        admin.delete_groups(&[group], &options).await.map_err(|error| Failure::Runtime(error.to_string()))
    })?;
    for result in deleted {
        result.map_err(|(name, code)| Failure::Runtime(format!("{name} cannot be deleted: {code}")))?;
    }
    line(format!("{group} deleted"));
    Ok(())
}
