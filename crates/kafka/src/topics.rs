//! Topics made idempotently, and what they are.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use service::Failure;

use crate::client::MAX_RECORD_BYTES;
use crate::limits::ANSWER_LIMIT;
use crate::{Error, Kafka};

const WEEK_MS: &str = "604800000";
const HOUR_MS: &str = "3600000";

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything, for a week.
    Week,
    /// Everything, for an hour.
    Hour,
    /// The latest record of each key.
    Latest,
}

/// A topic that a service needs.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Name.
    pub name: &'a str,
    /// Number of partitions, if it has to be made.
    pub partitions: i32,
    /// Number of copies, if it has to be made.
    pub replication: i32,
    /// What it keeps.
    pub keep: Keep,
}

impl Kafka {
    /// Makes the topics that do not exist; those that do stay as they are.
    ///
    /// All have `LogAppendTime`: neither a service's clock nor an old event's time may decide on retention.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::Stop`] where it refuses a topic.
    pub async fn ensure_topics(&self, wanted: &[Wanted<'_>]) -> Result<(), Error> {
        let admin = self.admin()?;
        let topics = wanted.iter().map(|topic| {
            let new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(topic.replication))
                .set("message.timestamp.type", "LogAppendTime")
                .set("max.message.bytes", MAX_RECORD_BYTES);
            // With three replicas or more an acknowledged record stands on two brokers.
            let new = if topic.replication >= 3 { new.set("min.insync.replicas", "2") } else { new };
            match topic.keep {
                Keep::Week => new.set("retention.ms", WEEK_MS),
                Keep::Hour => new.set("retention.ms", HOUR_MS),
                Keep::Latest => new.set("cleanup.policy", "compact"),
            }
        });
        let topics: Vec<NewTopic<'_>> = topics.collect();
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_LIMIT)).request_timeout(Some(ANSWER_LIMIT));
        let results = admin.create_topics(&topics, &options).await.map_err(Error::doubt("make the topics"))?;
        let mut existing = Vec::new();
        for result in results {
            match result {
                Ok(name) => tracing::info!(topic = name, "topic made"),
                Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => existing.push(name),
                Err((name, code)) => {
                    return Err(Error::Stop(format!(
                        "topic {name} cannot be made: {code}; make it by hand, or check WIKI_PARTITIONS, \
                         WIKI_REPLICATION_FACTOR and the rights of this service"
                    )));
                }
            }
        }
        let existing = wanted.iter().filter(|topic| existing.iter().any(|name| name == topic.name));
        self.report_differences(&existing.collect::<Vec<_>>()).await;
        Ok(())
    }

    /// Says where topics that were there before are not as they would have been made. They are not changed: that is
    /// for whoever made them.
    async fn report_differences(&self, existing: &[&Wanted<'_>]) {
        let names: Vec<&str> = existing.iter().map(|topic| topic.name).collect();
        let all = self.settings(&names).await;
        for topic in existing {
            let Some(settings) = all.get(topic.name) else { continue };
            for (name, due, enough) in due_settings(topic) {
                let found = settings.get(name).map_or("", String::as_str);
                if !enough(found, due) {
                    let topic = topic.name;
                    tracing::warn!(topic, setting = name, found, due, "a topic has another setting than it should");
                }
            }
        }
    }

    /// The settings of topics, by topic and name. A topic whose settings cannot be looked up is warned of and left out.
    pub(crate) async fn settings(&self, topics: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        if topics.is_empty() {
            return all;
        }
        let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let described = match self.admin() {
            Ok(admin) => admin.describe_configs(&resources, &options).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.sentence()),
        };
        let described = described.unwrap_or_else(|error| {
            tracing::warn!(error, "the settings of the topics cannot be looked up");
            Vec::new()
        });
        for (topic, resource) in topics.iter().zip(described) {
            match resource {
                Ok(found) => {
                    let entries = found.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                    all.insert((*topic).to_owned(), entries.collect());
                }
                Err(code) => tracing::warn!(topic, %code, "the settings of a topic cannot be looked up"),
            }
        }
        all
    }
}

/// A setting's name, what it should be, and whether what was found will do.
type Due = (&'static str, &'static str, fn(&str, &str) -> bool);

fn due_settings(topic: &Wanted<'_>) -> Vec<Due> {
    let same = |found: &str, due: &str| found == due;
    // Negative means without a limit.
    let at_least = |found: &str, due: &str| {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        number(found) < 0 || number(found) >= number(due)
    };
    let mut due: Vec<Due> =
        vec![("message.timestamp.type", "LogAppendTime", same), ("max.message.bytes", MAX_RECORD_BYTES, at_least)];
    match topic.keep {
        Keep::Latest => due.push(("cleanup.policy", "compact", same)),
        Keep::Week => due.extend(kept(WEEK_MS, at_least)),
        Keep::Hour => due.extend(kept(HOUR_MS, at_least)),
    }
    due
}

fn kept(milliseconds: &'static str, at_least: fn(&str, &str) -> bool) -> [Due; 2] {
    [("cleanup.policy", "delete", |found, due| found == due), ("retention.ms", milliseconds, at_least)]
}

/// What Kafka takes in one batch where a topic does not say otherwise; clients write batches of about as much.
const DEFAULT_BATCH_BYTES: usize = 1_048_588;
/// Room in a batch for its own header, and for a record's key and headers.
const OVERHEAD_BYTES: usize = 8 << 10;

impl Kafka {
    /// The longest value that each topic takes in a record, in bytes, beside its key and headers.
    ///
    /// Where its settings cannot be looked up, a topic counts as one of ours.
    ///
    /// # Errors
    /// [`Failure::Config`] where a topic takes less than Kafka's default: clients write longer batches.
    pub async fn most_value_bytes(&self, topics: &[&str]) -> Result<BTreeMap<String, usize>, Failure> {
        let all = self.settings(topics).await;
        let of = |topic: &&str| {
            let found = all.get(*topic).and_then(|settings| settings.get("max.message.bytes"));
            let most = found.map_or(MAX_RECORD_BYTES, String::as_str).parse().unwrap_or(usize::MAX);
            if most < DEFAULT_BATCH_BYTES {
                return Err(Failure::Config(format!(
                    "topic {topic} takes {most} bytes in a batch, and needs {DEFAULT_BATCH_BYTES} at least, Kafka's default: \
                     set its max.message.bytes, best to {MAX_RECORD_BYTES}"
                )));
            }
            Ok(((*topic).to_owned(), most - OVERHEAD_BYTES))
        };
        topics.iter().map(of).collect()
    }
}

/// How long a service waits between two looks for a topic that another one makes.
pub const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits until every topic is there; false where `shutdown` came first.
///
/// # Errors
/// [`Failure`] where no client can be made.
pub async fn wait_for(kafka: &Kafka, topics: &[&str], shutdown: &service::CancellationToken) -> Result<bool, Failure> {
    let mut told = false;
    loop {
        let (looking, names) = (kafka.clone(), topics.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let look = tokio::task::spawn_blocking(move || {
            let tail = looking.tail()?;
            for name in names {
                if tail.partitions(&name)?.is_none() {
                    return Ok(Some(name));
                }
            }
            Ok::<_, Error>(None)
        });
        match look.await.map_err(|_| Failure::Runtime("the look for topics broke".to_owned()))? {
            Ok(None) => return Ok(true),
            Ok(Some(missing)) if !told => {
                tracing::info!(topic = missing, "waiting for a topic, which ingest makes");
                told = true;
            }
            Ok(Some(_)) => {}
            Err(Error::Stop(sentence)) => return Err(Failure::Runtime(sentence)),
            Err(error) => tracing::warn!(error = error.sentence(), "cannot look for the topics; looking again"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}
