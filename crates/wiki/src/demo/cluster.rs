//! Where the demo's topics are: on the embedded broker, or on a cluster that somebody named.

use broker::Broker;
use kafka::KafkaConfig;
use service::Failure;

use super::Options;

/// The broker, and how to reach it.
pub(crate) struct Cluster {
    /// For every client.
    pub(crate) config: KafkaConfig,
    embedded: Option<Broker>,
}

impl Cluster {
    /// Starts the embedded broker, unless a cluster is named: there this run has topics and groups of its own.
    pub(crate) fn start(options: &Options) -> Result<Self, Failure> {
        if let Some(named) = &options.kafka_bootstrap_servers {
            let prefix = jiff::Timestamp::now().strftime("demo-%Y%m%dT%H%M%S-").to_string();
            return Ok(Self { config: KafkaConfig { topic_prefix: prefix, ..KafkaConfig::at(named) }, embedded: None });
        }
        let broker = Broker::start(broker::Config::default())
            .map_err(|error| Failure::Runtime(format!("the embedded broker cannot start: {error}")))?;
        Ok(Self { config: KafkaConfig::at(&broker.address().to_string()), embedded: Some(broker) })
    }

    /// What the banner says of it.
    pub(crate) fn describe(&self) -> String {
        let KafkaConfig { kafka_bootstrap_servers: servers, topic_prefix: prefix, .. } = &self.config;
        match &self.embedded {
            Some(_) => format!("{servers}: {}", broker::NOTICE),
            None => format!("{servers}: topics and groups begin with {prefix}, and stay when this ends"),
        }
    }

    /// Ends the broker that is ours.
    pub(crate) fn stop(self) {
        if let Some(broker) = self.embedded {
            broker.stop();
        }
    }
}
