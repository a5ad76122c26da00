//! Consumer groups: who is in them, who owns what, how far they are; and what can be done to one that rests.

mod offsets;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::{GroupDescription, Kafka, KafkaConfig, TopicPartition};
use rdkafka::consumer::Consumer as _;
use serde_json::{Value, json};
use service::Failure;

use crate::out::line;
use crate::topics::{client, failed, metadata};

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What `wiki groups` does.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Action {
    /// List consumer groups with their state.
    List {
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Describe a consumer group: members, what each owns, committed offsets, lag.
    Describe {
        /// Its name.
        group: String,
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Move a consumer group's committed offsets, after a question. Nobody may be in it.
    Reset(offsets::Options),
    /// Delete a consumer group and its committed offsets, after a question. Nobody may be in it.
    Delete {
        /// Its name.
        group: String,
        /// Without the question.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
}

/// Runs `wiki groups`.
pub(crate) fn main(action: &Action) -> Result<(), Failure> {
    match action {
        Action::List { json, kafka } => list(&client(kafka)?, *json),
        Action::Describe { group, json, kafka } => describe(&client(kafka)?, group, *json),
        Action::Reset(options) => offsets::reset(options),
        Action::Delete { group, yes, kafka } => offsets::delete(&client(kafka)?, group, *yes),
    }
}

fn list(kafka: &Kafka, json: bool) -> Result<(), Failure> {
    let mut groups = Vec::new();
    for Listed { name, kind, state, members } in listed(kafka, None)? {
        let described = match &kind {
            // Others use groups too, Kafka Connect for one: only who leads them can describe them.
            Some(kind) => (state, kind.clone(), members),
            None => {
                let described = kafka.group_view(&name).and_then(|mut view| view.describe(ANSWER_LIMIT));
                let GroupDescription { state, protocol, members, .. } = described.map_err(|error| failed(&error))?;
                (state, protocol.to_string(), members.len())
            }
        };
        groups.push((name, described));
    }
    if json {
        let one = |(name, (state, protocol, members)): &(String, (String, String, usize))| json!({ "group": name, "state": state, "protocol": protocol, "members": members });
        line(Value::Array(groups.iter().map(one).collect()));
        return Ok(());
    }
    line(format!("{:<32} {:<20} {:<9} {:>7}", "consumer group", "state", "protocol", "members"));
    for (name, (state, protocol, members)) in groups {
        line(format!("{name:<32} {state:<20} {protocol:<9} {members:>7}"));
    }
    Ok(())
}

/// A group as the brokers list it.
struct Listed {
    name: String,
    /// What uses it, where those are no consumers.
    kind: Option<String>,
    state: String,
    members: usize,
}

fn listed(kafka: &Kafka, group: Option<&str>) -> Result<Vec<Listed>, Failure> {
    let reader = kafka.reader("wikipedia-console").map_err(|error| failed(&error))?;
    let found = reader
        .fetch_group_list(group, ANSWER_LIMIT)
        .map_err(|error| Failure::Runtime(format!("the consumer groups cannot be listed: {error}")))?;
    let mut groups: Vec<Listed> = found
        .groups()
        .iter()
        .map(|found| Listed {
            name: found.name().to_owned(),
            kind: Some(found.protocol_type().to_owned()).filter(|kind| !kind.is_empty() && kind != "consumer"),
            state: found.state().to_owned(),
            members: found.members().len(),
        })
        .collect();
    groups.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(groups)
}

/// Refuses a group that no consumers use.
fn expect_consumers(kafka: &Kafka, group: &str) -> Result<(), Failure> {
    match listed(kafka, Some(group))?.into_iter().find_map(|found| found.kind) {
        None => Ok(()),
        Some(kind) => Err(Failure::Config(format!("{group} is a {kind} group and not a consumer group"))),
    }
}

/// A partition that the group owns or has committed for.
struct Standing {
    owner: Option<String>,
    committed: Option<i64>,
    end: i64,
    /// Records not committed yet; unknown where nothing ever was.
    lag: Option<i64>,
}

fn describe(kafka: &Kafka, group: &str, json: bool) -> Result<(), Failure> {
    expect_consumers(kafka, group)?;
    let mut view = kafka.group_view(group).map_err(|error| failed(&error))?;
    let partitions = partitions(kafka)?;
    let committed = view.committed(&partitions, ANSWER_LIMIT).map_err(|error| failed(&error))?;
    let described = view.describe(ANSWER_LIMIT).map_err(|error| failed(&error))?;
    if !is_there(&described) {
        return Err(no_group(group));
    }
    let mut owners: BTreeMap<TopicPartition, String> = BTreeMap::new();
    for member in &described.members {
        owners.extend(member.owned.iter().map(|at| (at.clone(), member.client_id.clone())));
    }
    let mut standings = BTreeMap::new();
    for at in partitions {
        let (owner, committed) = (owners.get(&at).cloned(), committed.get(&at).copied());
        if owner.is_none() && committed.is_none() {
            continue;
        }
        let bounds = view.bounds(&at, ANSWER_LIMIT).map_err(|error| failed(&error))?;
        let lag = committed.map(|committed| (bounds.end - committed.max(bounds.start)).max(0));
        standings.insert(at, Standing { owner, committed, end: bounds.end, lag });
    }
    if json {
        let members = described.members.iter().map(|member| {
            let owned: Vec<String> = member.owned.iter().map(|at| format!("{}:{}", at.topic, at.partition)).collect();
            json!({ "id": member.id, "client_id": member.client_id, "host": member.host, "owned": owned })
        });
        let partitions = standings.iter().map(|(at, standing)| {
            json!({ "topic": at.topic, "partition": at.partition, "owner": standing.owner,
                    "committed": standing.committed, "end": standing.end, "lag": standing.lag })
        });
        line(format!(
            "{}",
            json!({ "group": group, "state": described.state, "protocol": described.protocol,
                    "members": members.collect::<Vec<_>>(), "partitions": partitions.collect::<Vec<_>>() })
        ));
        return Ok(());
    }
    line(format!("{group}: {}, {} protocol, {} members", described.state, described.protocol, described.members.len()));
    line(format!("{:<24} {:>9} {:>10} {:>9} {:>7}  owner", "topic", "partition", "committed", "end", "lag"));
    for (at, Standing { owner, committed, end, lag }) in &standings {
        let known = |number: &Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (committed, lag) = (known(committed), known(lag));
        let owner = owner.as_deref().unwrap_or("nobody");
        line(format!("{:<24} {:>9} {committed:>10} {end:>9} {lag:>7}  {owner}", at.topic, at.partition));
    }
    if standings.values().any(|standing| standing.lag == Some(1)) {
        line("a lag of 1 can be the marker of a transaction: it is not a record");
    }
    let idle = idle(&described);
    if !idle.is_empty() {
        line(format!("standing by: {}", idle.join(", ")));
    }
    Ok(())
}

/// A coordinator describes a group that nobody knows as a dead one.
fn is_there(described: &GroupDescription) -> bool {
    !described.state.eq_ignore_ascii_case("dead")
}

fn no_group(group: &str) -> Failure {
    Failure::Config(format!("there is no consumer group {group}; `wiki groups list` lists those that there are"))
}

/// Members that own nothing: they stand by.
fn idle(described: &GroupDescription) -> Vec<&str> {
    let idle = described.members.iter().filter(|member| member.owned.is_empty());
    idle.map(|member| member.client_id.as_str()).collect()
}

/// Every partition of the cluster but Kafka's own.
fn partitions(kafka: &Kafka) -> Result<Vec<TopicPartition>, Failure> {
    let metadata = metadata(kafka)?;
    let topics = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
    Ok(topics
        .flat_map(|topic| {
            let at = |partition: i32| TopicPartition { topic: topic.name().to_owned(), partition };
            topic.partitions().iter().map(move |partition| at(partition.id()))
        })
        .collect())
}
