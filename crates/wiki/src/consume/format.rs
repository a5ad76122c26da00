//! How a record is printed.

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schema::Edit;
use serde_json::{Map, Value, json};
use service::text::{cut, visible, visible_json};

/// Characters of a text for people.
const MOST_CHARS: usize = 300;

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// An edit a line, for people; what is none as its value.
    Pretty,
    /// The value.
    Json,
    /// `topic:partition:offset: key= value=`.
    Offsets,
    /// The whole record as one JSON object: place, time, key, headers, value.
    Record,
}

/// A record as one line.
pub(super) fn line(record: &BorrowedMessage<'_>, format: Format) -> String {
    match format {
        Format::Json => text(record.payload()),
        Format::Offsets => {
            let (key, value) = (text(record.key()), text(record.payload()));
            format!("{}:{}:{}: key={key} value={value}", record.topic(), record.partition(), record.offset())
        }
        Format::Record => visible_json(&whole(record).to_string()).into_owned(),
        Format::Pretty => record
            .payload()
            .and_then(|value| Edit::from_json(value).ok())
            .map_or_else(|| printable(&text(record.payload())), |edit| pretty(&edit, record.partition())),
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// What is not there is null; what is no UTF-8 has its replacement character.
fn whole(record: &BorrowedMessage<'_>) -> Value {
    let optional = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let headers: Vec<Map<String, Value>> = record
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| Map::from_iter([(header.key.to_owned(), json!(optional(header.value)))]))
        .collect();
    json!({
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp_ms": record.timestamp().to_millis(),
        "key": optional(record.key()),
        "headers": headers,
        "value": optional(record.payload()),
    })
}

/// An edit as one line for people.
pub(crate) fn pretty(edit: &Edit<'_>, partition: i32) -> String {
    let time = printable(edit.timestamp.get(11..19).unwrap_or(&edit.timestamp));
    let change = match (edit.old_length, edit.new_length) {
        (Some(old), Some(new)) => format!(" ({:+})", i128::from(new) - i128::from(old)),
        _ => String::new(),
    };
    let user = edit.user_name.as_deref().unwrap_or("(hidden)");
    let title = printable(&edit.title);
    format!(
        "{time} p{partition} {:<14} {title}{change} · {} {}",
        printable(&edit.wiki),
        edit.user_kind.as_str(),
        printable(user)
    )
}

/// Names of pages and people cannot move the cursor, change colours, turn the line around or fill the screen.
fn printable(text: &str) -> String {
    cut(&visible(text), MOST_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}"), "a\\u001b[2Jb\\u202e");
        assert_eq!(printable(&"x".repeat(1_000)).len(), "… (700 more bytes)".len() + 300);
    }
}
