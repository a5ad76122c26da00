//! Where the demo's topics are: on the embedded broker, or on a cluster that somebody named.

use broker::Broker;
use kafka::KafkaConfig;
use service::metrics::IntCounterVec;
use service::{Failure, Metrics};

use super::Options;

/// The broker, and how to reach it.
pub(crate) struct Cluster {
    /// For every client.
    pub(crate) config: KafkaConfig,
    embedded: Option<Broker>,
    metrics: BrokerMetrics,
}

/// What the embedded broker shows.
pub(crate) struct BrokerMetrics {
    refused: IntCounterVec,
}

impl BrokerMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "What the embedded broker refused its clients, by the limit that they went past.";
        Self { refused: metrics.counters("wiki_broker_refused_total", help, "limit", &broker::LIMITS) }
    }

    fn show(&self, broker: &Broker) {
        for (limit, count) in broker::LIMITS.iter().zip(broker.refused()) {
            let shown = self.refused.with_label_values(&[*limit]);
            shown.inc_by(count.saturating_sub(shown.get()));
        }
    }
}

impl Cluster {
    /// Starts the embedded broker, unless a cluster is named: there this run has topics and groups of its own.
    pub(crate) fn start(options: &Options, metrics: &Metrics) -> Result<Self, Failure> {
        let metrics = BrokerMetrics::new(metrics);
        if let Some(named) = &options.kafka_bootstrap_servers {
            let prefix = jiff::Timestamp::now().strftime("demo-%Y%m%dT%H%M%S-").to_string();
            return Ok(Self {
                config: KafkaConfig { topic_prefix: prefix, ..KafkaConfig::at(named) },
                embedded: None,
                metrics,
            });
        }
        let broker = Broker::start(broker::Config::default())
            .map_err(|error| Failure::Runtime(format!("the embedded broker cannot start: {error}")))?;
        Ok(Self { config: KafkaConfig::at(&broker.address().to_string()), embedded: Some(broker), metrics })
    }

    /// Brings the metrics of the embedded broker up to date.
    pub(crate) fn show_metrics(&self) {
        if let Some(broker) = &self.embedded {
            self.metrics.show(broker);
        }
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
