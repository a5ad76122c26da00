//! Flags of the enricher service.

use kafka::{AcceptedPlaces, KafkaConfig, Rebalancing};

/// What the enricher service can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The cluster and its topics.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// The consumer group.
    #[arg(long, env = "WIKI_ENRICHER_GROUP", value_name = "GROUP", default_value = "wiki-enricher")]
    pub group: String,
    /// How partitions move when replicas come and go.
    #[arg(long, env = "WIKI_REBALANCE", value_enum, default_value = "cooperative")]
    pub rebalance: Rebalancing,
    /// Types of changes that become edits; the same as of ingest.
    #[arg(long, env = "WIKI_EVENT_TYPES", value_name = "TYPE,…", value_delimiter = ',', default_value = "edit")]
    pub event_types: Vec<String>,
    /// Threads that map records; 0 means as many as there are processors.
    #[arg(long, env = "WIKI_ENRICHER_THREADS", value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Take the loss of the raw records before this place, as the log names it when a partition stops.
    #[arg(long, env = "WIKI_ACCEPT_LOST_HISTORY", value_name = "TOPIC/PARTITION@POSITION,…", default_value = "")]
    pub accept_lost_history: AcceptedPlaces,
    /// End where Kafka does not answer at the start, instead of waiting for it.
    #[arg(long, env = "WIKI_REQUIRE_HEALTHY")]
    pub require_healthy: bool,
}
