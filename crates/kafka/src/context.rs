//! librdkafka's logs, errors and statistics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use service::Metrics;

use crate::error::is_passing;

/// Kinds of client errors: a closed set, a label.
const ERROR_KINDS: [&str; 5] = ["transport", "auth", "fatal", "timeout", "other"];
/// librdkafka repeats an error at every attempt; the log shows it this often.
const REPEAT_EVERY: Duration = Duration::from_secs(10);
const MICROSECONDS: f64 = 1e6;

/// What every client of a process shows of Kafka; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    errors: IntCounterVec,
    broker_up: IntGaugeVec,
    request_seconds: GaugeVec,
    queue_messages: IntGauge,
    queue_bytes: IntGauge,
}

impl ClientMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            errors: metrics.counters(
                "wiki_kafka_client_errors_total",
                "Errors of the Kafka client.",
                "kind",
                &ERROR_KINDS,
            ),
            broker_up: metrics.int_gauges("wiki_kafka_broker_up", "Whether a broker is connected.", &["broker"]),
            request_seconds: metrics.gauges(
                "wiki_kafka_request_latency_seconds",
                "Round trip to a broker over the client's rolling window, in seconds.",
                &["broker", "quantile"],
            ),
            queue_messages: metrics
                .int_gauge("wiki_kafka_producer_queue_messages", "Records waiting in the producer's queue."),
            queue_bytes: metrics.int_gauge("wiki_kafka_producer_queue_bytes", "Bytes waiting in the producer's queue."),
        }
    }

    fn show(&self, statistics: &Statistics) {
        if statistics.client_type == "producer" {
            self.queue_messages.set(i64::try_from(statistics.msg_cnt).unwrap_or(i64::MAX));
            self.queue_bytes.set(i64::try_from(statistics.msg_size).unwrap_or(i64::MAX));
        }
        for broker in statistics.brokers.values().filter(|broker| broker.nodeid >= 0) {
            let id = broker.nodeid.to_string();
            self.broker_up.with_label_values(&[id.as_str()]).set(i64::from(broker.state == "UP"));
            let Some(round_trip) = &broker.rtt else { continue };
            for (quantile, value) in [("0.5", round_trip.p50), ("0.95", round_trip.p95), ("0.99", round_trip.p99)] {
                #[expect(clippy::cast_precision_loss, reason = "a duration in microseconds fits a float well")]
                let seconds = value as f64 / MICROSECONDS;
                self.request_seconds.with_label_values(&[id.as_str(), quantile]).set(seconds);
            }
        }
    }
}

/// The context of every client: counts errors, shows statistics, passes logs on.
#[derive(Clone, Debug)]
pub struct Context {
    metrics: ClientMetrics,
    last_error: Arc<Mutex<Option<(Instant, String)>>>,
    refused: Arc<Mutex<Option<String>>>,
    is_quiet: bool,
}

impl Context {
    pub(crate) fn new(metrics: ClientMetrics) -> Self {
        Self { metrics, last_error: Arc::default(), refused: Arc::default(), is_quiet: false }
    }

    /// Counts errors and logs none: whoever asks says in its own words that nobody answers.
    pub(crate) fn quiet(self) -> Self {
        Self { is_quiet: true, ..self }
    }

    /// The last thing that the client said of an error, as far as it was one of credentials or certificates.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_repeated(&self, reason: &str) -> bool {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = last.as_ref().is_some_and(|(at, text)| text == reason && at.elapsed() < REPEAT_EVERY);
        if !repeated {
            *last = Some((Instant::now(), reason.to_owned()));
        }
        repeated
    }
}

fn kind_of(error: &KafkaError) -> &'static str {
    match error.rdkafka_error_code() {
        _ if is_passing(error) => "transport",
        Some(
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => "auth",
        Some(RDKafkaErrorCode::Fatal) => "fatal",
        Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut) => "timeout",
        Some(_) | None => "other",
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                // What matters of it arrives as an error too; here it would stand twice.
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::debug!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::trace!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.show(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is asked for, and arrives here too.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let kind = kind_of(&error);
        self.metrics.errors.with_label_values(&[kind]).inc();
        if kind == "auth" {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        if !self.is_quiet && !self.is_repeated(reason) {
            tracing::warn!(%error, reason, "kafka client error");
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            // The transaction fails with it: the commit says so.
            tracing::debug!(%error, "record not delivered");
        }
    }
}
