//! Asks the acting ingest to read a stretch of the stream again, and waits until it has.

use std::time::Duration;

use jiff::Timestamp;
use kafka::{Kafka, KafkaConfig};
use schema::backfill::{Backfill, BackfillStatus};
use service::Failure;

use crate::gaps::{time, write};
use crate::out::line;
use crate::topics::{client, failed};

/// How often the ledger is read while waiting.
const EVERY: Duration = Duration::from_secs(1);

/// What `wiki backfill` is given.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Log time at which the stretch begins, such as 2026-07-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// Log time before which it ends.
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    /// Ask, and do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    kafka: KafkaConfig,
}

/// Runs `wiki backfill`.
pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let (from_ms, to_ms) = (arguments.from.as_millisecond(), arguments.to.as_millisecond());
    if from_ms >= to_ms {
        return Err(Failure::Usage("a stretch ends after it begins: give --from the earlier time".to_owned()));
    }
    let kafka = client(&arguments.kafka)?;
    let request = Backfill::request(from_ms, to_ms);
    let asked = serde_json::to_string(&request).map_err(|error| Failure::Runtime(error.to_string()))?;
    write(&kafka, &request.backfill, &asked)?;
    line(format!("asked the acting ingest for {} to {}", time(from_ms), time(to_ms)));
    if arguments.no_wait {
        return Ok(());
    }
    wait(&kafka, request)
}

/// Says how far it is, until it is over.
fn wait(kafka: &Kafka, mut known: Backfill) -> Result<(), Failure> {
    loop {
        let now = latest(kafka, &known.backfill)?.unwrap_or_else(|| known.clone());
        let Backfill { status, reached_ms, published, detail, .. } = &now;
        match status {
            BackfillStatus::Requested if now != known => {
                line(format!("done up to {}, {published} events were missing and are published", time(*reached_ms)));
            }
            BackfillStatus::Requested => {}
            BackfillStatus::Done => {
                line(format!("done: {published} events were missing and are published"));
                if !detail.is_empty() {
                    line(detail);
                }
                return Ok(());
            }
            BackfillStatus::Refused => {
                return Err(Failure::Runtime(format!("ingest refuses it: {detail}; {published} events are published")));
            }
        }
        known = now;
        std::thread::park_timeout(EVERY);
    }
}

fn latest(kafka: &Kafka, name: &str) -> Result<Option<Backfill>, Failure> {
    let mut found = None;
    let tail = kafka.tail().map_err(|error| failed(&error))?;
    tail.scan(&kafka.config().topics().gaps, |record| {
        if let Ok(request) = serde_json::from_slice::<Backfill>(record.value())
            && request.backfill == name
        {
            found = Some(request);
        }
    })
    .map_err(|error| failed(&error))?;
    Ok(found)
}
