//! Logs on stderr: pretty on a terminal, one JSON object a line otherwise. Stdout is for data.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, ServiceConfig};
use crate::text;

/// Characters of one field: strangers' text may be among them.
const MOST_CHARS: usize = 2_000;

/// What a service logs unless `RUST_LOG` says otherwise.
pub const DEFAULT_FILTER: &str = "info,rdkafka=warn,librdkafka=warn";

/// Starts logging for this process; a second start changes nothing. `RUST_LOG` wins over `default_filter`.
pub fn start(service: &'static str, config: &ServiceConfig, default_filter: &str) {
    let json = match config.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    // A logger that is there already stays.
    if json {
        let format = JsonFormat { service, replica: config.replica() };
        let _ = builder(filter, std::io::stderr).event_format(format).try_init();
    } else {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = builder(filter, std::io::stderr).with_ansi(colours).with_target(false).compact().try_init();
    }
}

type Builder<W> = tracing_subscriber::fmt::SubscriberBuilder<
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    EnvFilter,
    W,
>;

fn builder<W>(filter: EnvFilter, writer: W) -> Builder<W>
where
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer)
}

struct JsonFormat {
    service: &'static str,
    replica: String,
}

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".into(), jiff::Timestamp::now().to_string().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        line.insert("message".into(), fields.0.remove("message").unwrap_or_default());
        line.insert("service".into(), self.service.into());
        line.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        line.insert("replica".into(), self.replica.as_str().into());
        line.extend(fields.0);
        writeln!(writer, "{}", text::visible_json(&Value::Object(line).to_string()))
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), text::cut(&format!("{value:?}"), MOST_CHARS).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), text::cut(value, MOST_CHARS).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
