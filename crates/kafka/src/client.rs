//! The settings of each kind of client, with their reasons.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use service::{Failure, Metrics};

use crate::context::{ClientMetrics, Context};
use crate::follower::Follower;
use crate::group::{GroupContext, GroupMember};
use crate::group_view::GroupView;
use crate::reporter::Reporter;
use crate::tail::Tail;
use crate::writer::FencedWriter;
use crate::{Error, KafkaConfig, Rebalancing};

/// A record that is not delivered by then fails its transaction; below [`TRANSACTION_TIMEOUT`], as librdkafka demands.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(8);
/// The broker aborts what is open longer: a dead writer's transaction blocks readers no longer than this.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest record; the topics that ingest makes take it too.
pub(crate) const MAX_RECORD_BYTES: &str = "8000000";

/// Makes the clients of one process.
#[derive(Clone, Debug)]
pub struct Kafka {
    config: KafkaConfig,
    metrics: ClientMetrics,
    session_timeout: Duration,
    client_id: String,
    reader_group: String,
}

impl Kafka {
    /// Registers the client metrics, and says in the log what is weak in the settings; connects to nothing yet.
    #[must_use]
    pub fn new(config: KafkaConfig, metrics: &Metrics) -> Self {
        for weakness in config.weaknesses() {
            tracing::warn!("{weakness}");
        }
        Self {
            config,
            metrics: ClientMetrics::new(metrics),
            session_timeout: Duration::from_secs(6),
            client_id: "wikipedia-events".to_owned(),
            reader_group: "wikipedia-reader".to_owned(),
        }
    }

    /// The same, under a name of its own: brokers show it beside the partitions that it owns.
    #[must_use]
    pub fn named(self, client_id: &str) -> Self {
        Self { client_id: client_id.to_owned(), ..self }
    }

    /// The same, for a service with a group of its own. Readers join none, but librdkafka asks for the coordinator of
    /// whatever group they name: with this one they need no right that the service has not got.
    #[must_use]
    pub fn in_group(self, group: &str) -> Self {
        Self { reader_group: self.config.prefixed(group), ..self }
    }

    /// The configuration that all clients share.
    #[must_use]
    pub const fn config(&self) -> &KafkaConfig {
        &self.config
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.config.kafka_bootstrap_servers)
            .set("client.id", &self.client_id)
            .set("statistics.interval.ms", "5000")
            // A broker that restarts is back in a second; the default waits up to ten.
            .set("reconnect.backoff.max.ms", "500")
            .set("socket.keepalive.enable", "true");
        config
    }

    /// A consumer that is asked, and polled at most to be rid of errors: its statistics would pile up between.
    fn asked_only(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer_base(group);
        config.set("statistics.interval.ms", "0");
        config
    }

    /// What the operator passes through comes last and wins.
    fn passed_through(&self, mut config: ClientConfig) -> ClientConfig {
        let from_file = self.config.kafka_x_file.iter().flat_map(|file| &file.0);
        for (key, value) in from_file.chain(&self.config.kafka_x) {
            config.set(key, value);
        }
        config
    }

    fn create<T: FromClientConfigAndContext<Context>>(&self, config: ClientConfig, what: &str) -> Result<T, Error> {
        let context = Context::new(self.metrics.clone());
        self.passed_through(config)
            .create_with_context(context)
            .map_err(|error| Error::Stop(format!("the {what} cannot be made: {error}; check -X and WIKI_KAFKA_X")))
    }

    fn consumer_base(&self, group: &str) -> ClientConfig {
        let mut config = self.base();
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is gone is a loss: stop and say so, never skip.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // Small fetches and no one-second stall when the queue is full: three times the rate for a fifth of
            // the memory, as measured.
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", "2097152")
            .set("queued.max.messages.kbytes", "2048")
            .set("fetch.wait.max.ms", "100");
        config
    }

    /// Joins a consumer group.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn member(&self, group: &str, topics: &[&str], rebalancing: Rebalancing) -> Result<GroupMember, Error> {
        let mut config = self.consumer_base(group);
        // In batches librdkafka 2.12 counts the end of a partition as a record: after the next rebalance one record
        // would be stepped over (docs/adr/0004).
        config.set("enable.partition.eof", "false");
        // Longer than the longest write that is tried before the partition is given up.
        config.set("max.poll.interval.ms", "60000");
        self.set_rebalancing(&mut config, rebalancing);
        let context = GroupContext::new(Context::new(self.metrics.clone()));
        let consumer = self
            .passed_through(config)
            .create_with_context(context)
            .map_err(|error| Error::Stop(refused_setting("consumer", &error)))?;
        GroupMember::join(consumer, group, topics, rebalancing)
    }

    /// Starts the writer of a transactional id, and fences its predecessor. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer in time.
    pub fn fenced_writer(&self, transactional_id: &str) -> Result<FencedWriter, Error> {
        let mut config = self.base();
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
            .set("compression.type", "lz4")
            // The commit flushes, so lingering only fills batches: few requests, and each costs client and broker alike.
            .set("linger.ms", "20")
            .set("batch.num.messages", "100000")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.kbytes", "32768")
            // The longest event is 1 MiB; its key and its enriched form repeat parts of it. Refusing it here would
            // mean meeting it again for ever.
            .set("message.max.bytes", MAX_RECORD_BYTES)
            // Without it every commit would wait for a report per record.
            .set("delivery.report.only.error", "true");
        FencedWriter::start(self.create(config, "producer")?, transactional_id)
    }

    /// A sender of words that may be lost.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn reporter(&self, topic: &str) -> Result<Reporter, Error> {
        let mut config = self.base();
        config
            .set("acks", "1")
            // A word that is late is of no use: the next one says more.
            .set("message.timeout.ms", "3000")
            .set("queue.buffering.max.messages", "100")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("delivery.report.only.error", "true");
        Ok(Reporter::new(self.create(config, "reporter")?, topic.to_owned()))
    }

    /// A reader of tails and offsets. It joins no group.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn tail(&self) -> Result<Tail, Error> {
        let mut config = self.asked_only(&self.reader_group);
        config.set("fetch.wait.max.ms", "10");
        Ok(Tail::new(self.create(config, "reader")?))
    }

    /// The same, which sees records of transactions that are not committed too.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn tail_of_all(&self) -> Result<Tail, Error> {
        let mut config = self.asked_only(&self.reader_group);
        config.set("fetch.wait.max.ms", "10").set("isolation.level", "read_uncommitted");
        Ok(Tail::new(self.create(config, "reader")?))
    }

    /// A view of a consumer group, which it does not join.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn group_view(&self, group: &str) -> Result<GroupView, Error> {
        GroupView::new(group.to_owned(), self.clone())
    }

    /// The client of a [`GroupView`].
    pub(crate) fn view_client(&self, group: &str) -> Result<BaseConsumer<Context>, Error> {
        self.create(self.asked_only(group), "group's view")
    }

    /// A plain consumer without a group's rebalances, for tools.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn reader(&self, group: &str) -> Result<BaseConsumer<Context>, Error> {
        self.create(self.consumer_base(group), "reader")
    }

    /// A console's consumer: with a group it resumes by committed offsets and commits by itself, without one it has
    /// to be assigned.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn console(
        &self,
        group: Option<(&str, Rebalancing)>,
        from_beginning: bool,
    ) -> Result<BaseConsumer<Context>, Error> {
        let mut config = self.consumer_base(group.map_or("wikipedia-console", |(group, _)| group));
        config
            .set("enable.auto.commit", if group.is_some() { "true" } else { "false" })
            // The caller stores what it has printed: closing a consumer polls away what is left in its queue, and
            // would store that too.
            .set("enable.auto.offset.store", "false")
            .set("auto.commit.interval.ms", "500")
            .set("auto.offset.reset", if from_beginning { "earliest" } else { "latest" });
        if let Some((_, rebalancing)) = group {
            self.set_rebalancing(&mut config, rebalancing);
        }
        self.create(config, "consumer")
    }

    /// How a member of a consumer group takes part.
    fn set_rebalancing(&self, config: &mut ClientConfig, rebalancing: Rebalancing) {
        let session_ms = self.session_timeout.as_millis().to_string();
        match rebalancing {
            // Here the broker decides on session and assignment; librdkafka refuses both settings.
            Rebalancing::Consumer => config.set("group.protocol", "consumer"),
            Rebalancing::Cooperative => config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", &session_ms)
                .set("heartbeat.interval.ms", "500"),
            Rebalancing::Eager => config
                .set("partition.assignment.strategy", "range")
                .set("session.timeout.ms", &session_ms)
                .set("heartbeat.interval.ms", "500"),
        };
    }

    /// The settings of a console's producer: nothing is said to be delivered that is not on every copy in sync, and a key
    /// has the partition that Java's clients give it.
    #[must_use]
    pub fn console_producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "30000")
            .set("statistics.interval.ms", "0");
        self.passed_through(config)
    }

    /// A reader that is assigned to whatever it should follow, and steps over what is gone.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn follower(&self) -> Result<Follower, Error> {
        let mut config = self.consumer_base(&self.reader_group);
        config.set("enable.partition.eof", "false").set("auto.offset.reset", "latest");
        Ok(Follower::new(self.create(config, "follower")?))
    }

    /// A client for topic requests.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn admin(&self) -> Result<AdminClient<Context>, Error> {
        self.create(self.base(), "admin client")
    }

    /// Whether the cluster answers within `limit`. Blocks.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] in one sentence, [`Failure::Config`] where a setting is refused.
    pub fn check_reachable(&self, limit: Duration) -> Result<(), Failure> {
        let context = Context::new(self.metrics.clone()).quiet();
        let probe: Result<BaseConsumer<Context>, _> =
            self.passed_through(self.consumer_base(&self.reader_group)).create_with_context(context);
        let reader = probe.map_err(|error| Failure::Config(refused_setting("reader", &error)))?;
        reader.fetch_metadata(None, limit).map(|_| ()).map_err(|error| {
            // Errors come as events: they are heard when the client is polled.
            while reader.poll(EVENT_PAUSE).is_some() {}
            if let Some(reason) = reader.context().refusal() {
                return Failure::Config(format!(
                    "Kafka at {} does not accept this client: {reason}; check security.protocol, sasl.* and ssl.* in -X and \
                     WIKI_KAFKA_X",
                    self.config.kafka_bootstrap_servers
                ));
            }
            Failure::Unavailable(format!(
                "no Kafka answers at {}: {error}; start it, give other servers with --kafka-bootstrap-servers or \
                 WIKI_KAFKA_BOOTSTRAP_SERVERS, or set security.protocol in WIKI_KAFKA_X where it wants TLS or a password",
                self.config.kafka_bootstrap_servers
            ))
        })
    }
}

fn refused_setting(what: &str, error: &KafkaError) -> String {
    format!("the {what} cannot be made: {error}; check -X and WIKI_KAFKA_X")
}

/// Errors of a client are all there when none has come for this long.
const EVENT_PAUSE: Duration = Duration::from_millis(50);

/// How often a service looks for a cluster that does not answer yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Waits until the cluster answers, or until `shutdown`; with `require` one look must do.
///
/// # Errors
/// [`Failure::Unavailable`] where `require` is set and nobody answers, [`Failure::Config`] where a setting is refused.
pub async fn wait_until_reachable(
    kafka: &Kafka,
    require: bool,
    shutdown: &service::CancellationToken,
) -> Result<(), Failure> {
    loop {
        let looking = kafka.clone();
        let look = tokio::task::spawn_blocking(move || looking.check_reachable(LOOK_LIMIT));
        match look.await.unwrap_or_else(|_| Err(Failure::Runtime("the look for Kafka broke".to_owned()))) {
            Ok(()) => return Ok(()),
            Err(Failure::Unavailable(sentence)) if !require => {
                tracing::warn!("{sentence}; looking again until it does (--require-healthy ends instead)");
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}
