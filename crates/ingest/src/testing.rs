//! A cluster and a stream in this process, for the tests of the parts that speak to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Broker;
use clap::Parser as _;
use kafka::{GroupMember, Kafka, OwnedRecord, Polled, Rebalance, Rebalancing, TopicPartition};
use schema::record::RawHeaders;
use service::{CancellationToken, Heartbeat, Service};
use simulator::Simulator;

use crate::Config;
use crate::context::{Context, GROUP};
use crate::metrics::IngestMetrics;
use crate::position::IngestState;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A command line.
#[derive(clap::Parser)]
struct Line<C: clap::Args> {
    #[command(flatten)]
    config: C,
}

fn parsed<C: clap::Args>(arguments: &[&str]) -> C {
    Line::<C>::parse_from(["test"].iter().chain(arguments)).config
}

/// Waits until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A stream, made by the simulator.
pub(crate) struct Stream {
    pub(crate) simulator: Simulator,
    service: Service,
}

impl Stream {
    /// Serves what the simulator's arguments ask for.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let service = Service::new("simulator", CancellationToken::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let simulator = Simulator::start(&parsed(arguments), &service, listener).unwrap();
        Self { simulator, service }
    }

    /// Where its recent changes are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v2/stream/recentchange", self.simulator.address)
    }

    /// The ids of all edits that were made.
    pub(crate) fn made(&self) -> BTreeSet<String> {
        self.simulator.made("edit").unwrap().into_iter().map(|made| made.id).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.service.shutdown.cancel();
    }
}

/// An embedded broker with ingest's topics.
pub(crate) struct Rig {
    _broker: Broker,
    kafka: Kafka,
    pub(crate) config: Config,
}

impl Rig {
    /// Starts the broker and makes the topics, unless these arguments of ingest say otherwise.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let broker = Broker::start(broker::Config::default()).unwrap();
        let address = broker.address().to_string();
        let mut line = vec!["--kafka-bootstrap-servers", &address, "--backoff-min-ms", "20", "--backoff-max-ms", "100"];
        line.extend(arguments);
        let config: Config = parsed(&line);
        let kafka = Kafka::new(config.kafka.clone(), &service::Metrics::new("rig"));
        crate::make_topics(&config, &kafka).await.unwrap();
        Self { _broker: broker, kafka, config }
    }

    /// What a replica of this name shares between its parts.
    pub(crate) fn replica(&self, name: &str) -> Context {
        let mut service = Service::new("ingest", CancellationToken::new());
        name.clone_into(&mut service.replica);
        Context {
            config: self.config.clone(),
            kafka: Kafka::new(self.config.kafka.clone(), &service.metrics).in_group(GROUP),
            most_bytes: Arc::default(),
            metrics: Arc::new(IngestMetrics::new(&service.metrics)),
            readiness: service.health.check("stream"),
            runtime: tokio::runtime::Handle::current(),
            service,
        }
    }

    /// Joins the group and waits for its one partition.
    pub(crate) fn acting_member(&self, context: &Context) -> Arc<GroupMember> {
        let topic = self.config.kafka.topics().ingest;
        let group = self.config.kafka.prefixed(GROUP);
        let member = context.kafka.member(&group, &[topic.as_str()], Rebalancing::Eager).unwrap();
        wait_until("the group gives its one partition", || match member.poll(Duration::from_millis(100)) {
            Polled::Rebalance(Rebalance::Assigned(partitions)) => {
                member.assign_paused(&partitions).unwrap();
                !partitions.is_empty()
            }
            _ => false,
        });
        Arc::new(member)
    }

    /// The committed records of a topic.
    pub(crate) fn records(&self, topic: &str) -> BTreeMap<i32, Vec<OwnedRecord>> {
        let tail = self.kafka.tail().unwrap();
        let partitions = tail.partitions(topic).unwrap().unwrap();
        let mut starts = BTreeMap::new();
        for partition in 0..partitions {
            starts.insert(partition, tail.bounds(topic, partition).unwrap().start);
        }
        tail.read_to_end(topic, &starts).unwrap()
    }

    /// The sequence number and the id of each raw record, by partition.
    pub(crate) fn raw(&self) -> BTreeMap<i32, Vec<(i64, String)>> {
        let read = |record: &OwnedRecord| {
            let headers = RawHeaders::read(record).unwrap();
            (headers.seq, headers.id.into_owned())
        };
        let records = self.records(&self.config.kafka.topics().raw);
        records.into_iter().map(|(partition, records)| (partition, records.iter().map(read).collect())).collect()
    }

    /// The ids of all raw records; each partition is dense from 0, and no id stands twice.
    pub(crate) fn raw_ids(&self) -> BTreeSet<String> {
        let (mut ids, mut count) = (BTreeSet::new(), 0);
        for (partition, records) in self.raw() {
            for (index, (seq, id)) in records.into_iter().enumerate() {
                assert_eq!(usize::try_from(seq), Ok(index), "partition {partition} is dense");
                ids.insert(id);
                count += 1;
            }
        }
        assert_eq!(ids.len(), count, "no id stands twice");
        ids
    }

    /// The state of the last commit.
    pub(crate) fn committed(&self, member: &GroupMember) -> Option<IngestState> {
        let at = TopicPartition { topic: self.config.kafka.topics().ingest, partition: 0 };
        let committed = member.committed(&[at]).unwrap();
        committed.into_iter().next().and_then(|(_, _, metadata)| IngestState::parse(&metadata))
    }
}

/// Runs what blocks on a supervised thread, and gives its answer.
pub(crate) async fn on_thread<T: Send + 'static>(
    context: &Context,
    body: impl FnOnce(&Heartbeat) -> T + Send + 'static,
) -> T {
    let (send, receive) = tokio::sync::oneshot::channel();
    context
        .service
        .tasks
        .spawn_thread("test", LIMIT, move |heartbeat| {
            drop(send.send(body(&heartbeat)));
            Ok(())
        })
        .unwrap();
    receive.await.expect("the thread ended without an answer")
}
