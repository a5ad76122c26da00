//! On how many brokers an acknowledged record stands: replication factor and `min.insync.replicas`.

use rdkafka::consumer::Consumer as _;

use crate::limits::ANSWER_LIMIT;
use crate::{Error, Kafka};

/// Topics of Kafka's own on which exactly-once rests.
pub const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// How a topic is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Topic.
    pub topic: String,
    /// Brokers of the cluster.
    pub brokers: usize,
    /// Replication factor.
    pub replication: usize,
    /// `min.insync.replicas`; none where it cannot be looked up.
    pub min_in_sync: Option<usize>,
}

impl Copies {
    /// What can go wrong with it, and what to do; nothing where the cluster has one broker, which has no choice.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        let Self { topic, brokers, replication, min_in_sync } = self;
        if *brokers < 2 {
            return None;
        }
        if *replication < 2 {
            return Some(format!(
                "{topic} has a replication factor of {replication} on {brokers} brokers: a broker that is lost takes edits with \
                 it; give the topic three replicas"
            ));
        }
        match min_in_sync {
            Some(0 | 1) => Some(format!(
                "{topic} has min.insync.replicas=1: an acknowledged record may stand on one broker only, and be lost with it; \
                 set it to 2"
            )),
            Some(in_sync) if in_sync >= replication => Some(format!(
                "{topic} has min.insync.replicas={in_sync} and a replication factor of {replication}: nothing can be written \
                 while one broker is away; give the topic one replica more"
            )),
            _ => None,
        }
    }
}

impl Kafka {
    /// How topics are copied; those that do not exist are left out.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub async fn copies(&self, topics: &[&str]) -> Result<Vec<Copies>, Error> {
        let reader = self.reader("wikipedia-copies")?;
        let looked = tokio::task::spawn_blocking(move || {
            let metadata = reader.fetch_metadata(None, ANSWER_LIMIT).map_err(Error::doubt("look up the topics"))?;
            let of = |topic: &rdkafka::metadata::MetadataTopic| {
                let replication = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
                (topic.name().to_owned(), replication.unwrap_or(0))
            };
            Ok((metadata.brokers().len(), metadata.topics().iter().map(of).collect::<Vec<_>>()))
        });
        let (brokers, found) = looked.await.map_err(|error| Error::Stop(error.to_string()))??;
        let found: Vec<(String, usize)> =
            found.into_iter().filter(|(topic, _)| topics.contains(&topic.as_str())).collect();
        let all = self.settings(&found.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>()).await;
        let of = |(topic, replication): (String, usize)| {
            let min_in_sync = all.get(&topic).and_then(|settings| settings.get("min.insync.replicas")?.parse().ok());
            Copies { topic, brokers, replication, min_in_sync }
        };
        Ok(found.into_iter().map(of).collect())
    }

    /// Warns of topics that one broker could take with it. What cannot be looked up is not warned of.
    pub async fn warn_of_weak_copies(&self, topics: &[&str]) {
        match self.copies(topics).await {
            Ok(all) => all.iter().filter_map(Copies::weakness).for_each(|sentence| tracing::warn!("{sentence}")),
            Err(error) => tracing::warn!(error = error.sentence(), "the replicas of the topics cannot be looked up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_on_one_broker_only_and_a_topic_that_one_broker_blocks_are_weak() {
        let weakness = |brokers, replication, min_in_sync| {
            let topic = "t".to_owned();
            Copies { topic, brokers, replication, min_in_sync }.weakness().unwrap_or_default()
        };
        assert_eq!(weakness(1, 1, Some(1)), "");
        assert!(weakness(3, 1, Some(1)).contains("replication factor of 1"));
        assert!(weakness(3, 3, Some(1)).contains("set it to 2"));
        assert_eq!(weakness(3, 3, Some(2)), "");
        assert!(weakness(2, 2, Some(2)).contains("one replica more"));
        assert_eq!(weakness(3, 3, None), "");
    }
}
