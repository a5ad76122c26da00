//! Where a story's topics are.

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;

/// A cluster, and the prefix of a story's own topics, groups and transactional ids in it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Bootstrap servers.
    pub bootstrap: String,
    /// Put before every name; may be empty.
    pub prefix: String,
    /// Copies of each topic.
    pub copies: i32,
}

impl Target {
    /// The whole of a broker that belongs to one story.
    #[must_use]
    pub fn whole(bootstrap: impl ToString) -> Self {
        Self { bootstrap: bootstrap.to_string(), prefix: String::new(), copies: 1 }
    }

    /// A client for requests about topics.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap()
    }

    /// A topic's name here.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
