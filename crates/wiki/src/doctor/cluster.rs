//! The brokers: their names, connections and settings, the pipeline's topics, this user's rights.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use kafka::copies::{Copies, INTERNAL};
use kafka::{Kafka, KafkaConfig};
use rdkafka::metadata::{Metadata, MetadataTopic};
use service::{Failure, Metrics};

use super::Finding;
use super::stream::resolve;
use crate::gaps;
use crate::topics::metadata;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The cluster ends a transaction of ours after 10 s by itself; one that is older is another's, or hangs.
const HUNG_MS: i64 = 20_000;

/// Looks at the cluster; what rests on something that is wrong is not looked at.
pub(super) fn look(config: &KafkaConfig, group: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in config.kafka_bootstrap_servers.split(',') {
        if let Err(finding) = reach(server.trim()) {
            findings.push(finding);
        }
    }
    // One server that answers is enough for a client.
    if findings.len() == config.kafka_bootstrap_servers.split(',').count() {
        return findings;
    }
    let kafka = Kafka::new(config.clone(), &Metrics::new("wiki"));
    if let Err(Failure::Config(sentence) | Failure::Unavailable(sentence)) = kafka.check_reachable(LIMIT) {
        findings.push(Finding::bad("broker", sentence));
        return findings;
    }
    match metadata(&kafka) {
        Ok(metadata) => {
            findings.extend(brokers(&metadata));
            findings.extend(topics(&kafka, &metadata));
            findings.extend(weak_copies(&kafka));
            findings.extend(hung_transactions(&kafka, &metadata));
            findings.extend(rights(&kafka, &config.prefixed(group)));
            findings.extend(ledger(&kafka, &metadata));
        }
        Err(failure) => findings.push(Finding::bad("broker", failure.to_string())),
    }
    findings
}

/// Open gaps, where there is a ledger.
fn ledger(kafka: &Kafka, metadata: &Metadata) -> Option<Finding> {
    let topic = kafka.config().topics().gaps;
    metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
    // Where it cannot be read, the line about rights says so.
    let open = gaps::open(&kafka.tail().ok()?, &topic).ok()?;
    Some(match open {
        0 => Finding::ok("gaps", "no open gap in the ledger"),
        _ => Finding::bad(
            "gaps",
            format!("{open} open in the ledger: `wiki gaps list` names them, docs/runbooks/WikiGapOpen.md what to do"),
        ),
    })
}

/// Whether somebody listens at a bootstrap server.
fn reach(server: &str) -> Result<(), Finding> {
    let Some((host, port)) = server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    else {
        let sentence = format!("\"{server}\" has no port: write host:port, such as 127.0.0.1:9092");
        return Err(Finding::bad("broker", sentence));
    };
    let found = service::block_on(async { resolve(host, port).await.map_err(Failure::Runtime) });
    found.map_err(|failure| Finding::bad("dns", failure.to_string()))?;
    connect(host, port).map_err(|error| {
        let sentence = format!(
            "nobody listens at {server}: {error}; start Kafka (`wiki broker`, `make up-offline`), or give other servers with \
             --kafka-bootstrap-servers or WIKI_KAFKA_BOOTSTRAP_SERVERS"
        );
        Finding::bad("broker", sentence)
    })
}

fn connect(host: &str, port: u16) -> std::io::Result<()> {
    let mut last = std::io::Error::other("it has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the brokers can be reached where they say that they are.
fn brokers(metadata: &Metadata) -> Vec<Finding> {
    const WHAT: &str = "broker";
    let mut findings = Vec::new();
    for broker in metadata.brokers() {
        let (host, port) = (broker.host(), u16::try_from(broker.port()).unwrap_or(0));
        if let Err(error) = connect(host, port) {
            let sentence = format!(
                "broker {} says that it is at {host}:{port}, and is not to be reached there: {error}; correct its \
                 advertised.listeners, or use the listener that is meant for this network",
                broker.id()
            );
            findings.push(Finding::bad(WHAT, sentence));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(WHAT, format!("{} answer", metadata.brokers().len())));
    }
    findings
}

/// Whether the pipeline's topics are there and whole.
fn topics(kafka: &Kafka, metadata: &Metadata) -> Vec<Finding> {
    const WHAT: &str = "topics";
    let names = kafka.config().topics();
    let find =
        |name: &str| metadata.topics().iter().find(|topic| topic.name() == name && !topic.partitions().is_empty());
    let (raw, events) = (find(&names.raw), find(&names.events));
    let (Some(raw), Some(events)) = (raw, events) else {
        let missing = if raw.is_none() { &names.raw } else { &names.events };
        let sentence =
            format!("there is no topic {missing}: start ingest, which makes the topics, or correct WIKI_TOPIC_PREFIX");
        return vec![Finding::bad(WHAT, sentence)];
    };
    let mut findings = Vec::new();
    if raw.partitions().len() != events.partitions().len() {
        findings.push(Finding::bad(
            WHAT,
            format!(
                "{} has {} partitions and {} has {}: the enricher maps one to one, so give both the same number",
                names.raw,
                raw.partitions().len(),
                names.events,
                events.partitions().len()
            ),
        ));
    }
    findings.extend([raw, events].into_iter().filter_map(copies));
    if findings.is_empty() {
        findings.push(Finding::ok(
            WHAT,
            format!("{} and {}, {} partitions", names.raw, names.events, raw.partitions().len()),
        ));
    }
    findings
}

/// Topics that one broker could take with it.
fn weak_copies(kafka: &Kafka) -> Vec<Finding> {
    const WHAT: &str = "replicas";
    let names = kafka.config().topics();
    let wanted = [names.raw.as_str(), &names.events, &names.ingest, &names.gaps];
    let wanted: Vec<&str> = wanted.into_iter().chain(INTERNAL).collect();
    let found =
        service::block_on(async { kafka.copies(&wanted).await.map_err(|error| Failure::Runtime(error.sentence())) });
    match found {
        Ok(copies) => {
            let weak: Vec<Finding> =
                copies.iter().filter_map(Copies::weakness).map(|sentence| Finding::bad(WHAT, sentence)).collect();
            if !weak.is_empty() {
                return weak;
            }
            let least = copies.iter().map(|copies| copies.replication).min().unwrap_or(0);
            vec![Finding::ok(WHAT, format!("at least {least} of each topic"))]
        }
        Err(failure) => vec![Finding::bad(WHAT, failure.to_string())],
    }
}

/// Transactions that have been open for too long: nothing behind them is read.
fn hung_transactions(kafka: &Kafka, metadata: &Metadata) -> Vec<Finding> {
    const WHAT: &str = "hung";
    let names = kafka.config().topics();
    let ours = metadata.topics().iter().filter(|topic| topic.name() == names.raw || topic.name() == names.events);
    let partitions = ours.flat_map(|topic| topic.partitions().iter().map(|partition| (topic.name(), partition.id())));
    let (Ok(tail), Ok(all)) = (kafka.tail(), kafka.tail_of_all()) else { return Vec::new() };
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let hung = partitions.filter_map(|(topic, partition)| {
        // Where it cannot be looked up, the lines about brokers and rights say so.
        let open = tail.open_transaction(&all, topic, partition).ok()??;
        (now_ms - open.since_ms > HUNG_MS).then(|| {
            let since = crate::gaps::time(open.since_ms);
            Finding::bad(
                WHAT,
                format!(
                    "a transaction has been open in {topic} partition {partition} since {since}, and nothing behind offset {} is \
                     read: `kafka-transactions.sh find-hanging` names it and `abort` ends it; \
                     docs/runbooks/WikiEnricherStalled.md",
                    open.offset
                ),
            )
        })
    });
    hung.collect()
}

/// Partitions that nobody leads, or with copies that are behind.
fn copies(topic: &MetadataTopic) -> Option<Finding> {
    const WHAT: &str = "topics";
    let count =
        |wanted: fn(&&rdkafka::metadata::MetadataPartition) -> bool| topic.partitions().iter().filter(wanted).count();
    let headless = count(|partition| partition.leader() < 0);
    if headless > 0 {
        let sentence =
            format!("nobody leads {headless} partitions of {}: start the brokers that hold their copies", topic.name());
        return Some(Finding::bad(WHAT, sentence));
    }
    let behind = count(|partition| partition.isr().len() < partition.replicas().len());
    (behind > 0).then(|| {
        let sentence = format!(
            "{behind} partitions of {} have copies that are not in sync: a broker is away or slow; start it, or look at its log",
            topic.name()
        );
        Finding::bad(WHAT, sentence)
    })
}

/// Whether this user may read the topics and see the sinks' group.
fn rights(kafka: &Kafka, group: &str) -> Vec<Finding> {
    const WHAT: &str = "rights";
    let names = kafka.config().topics();
    let mut findings = Vec::new();
    for topic in [&names.raw, &names.events] {
        let looked = kafka.tail().and_then(|tail| tail.partitions(topic));
        if let Err(error) = looked {
            findings.push(Finding::bad(WHAT, error.sentence()));
        }
    }
    let described = kafka.group_view(group).and_then(|mut view| view.describe(LIMIT));
    match described {
        Ok(described) => findings.push(Finding::ok("group", format!("{group}: {} members", described.members.len()))),
        Err(error) => findings.push(Finding::bad(WHAT, error.sentence())),
    }
    findings
}
