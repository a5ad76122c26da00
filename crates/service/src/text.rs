//! Text of strangers made visible: titles, names and comments can hold what steers a terminal or turns a line around.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character steers a terminal, reorders a line, or is not seen: control characters of both sets, direction
/// marks, line separators, zero-width characters and tags.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// The same without control characters: what JSON and log formatters let through.
#[must_use]
pub const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The text with every such character written as in JSON, such as `\u001b`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// JSON or a log line, in which only what its format lets through is left to escape. It stays valid JSON.
#[must_use]
pub fn visible_json(text: &str) -> Cow<'_, str> {
    escaped(text, is_invisible)
}

/// Lines of our own that hold text of strangers: line feeds and tabs stay.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// A web address without what may be secret in it: user, password, query, fragment.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (place, more) = rest.split_at(end);
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let more = if more.is_empty() { "" } else { "?***" };
    format!("{scheme}://{host}{path}{more}")
}

/// At most so many characters; the rest is counted.
#[must_use]
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((at, _)) => {
            let (kept, rest) = text.split_at(at);
            Cow::Owned(format!("{kept}… ({} more bytes)", rest.len()))
        }
    }
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(visible, "\\u{unit:04x}");
            }
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_seen() {
        assert_eq!(visible("a\u{1b}[2J\u{9b}b\u{202e}c\u{200b}\n"), "a\\u001b[2J\\u009bb\\u202ec\\u200b\\u000a");
        assert_eq!(visible("Zürich 東京 👍 é"), "Zürich 東京 👍 é");
        assert_eq!(visible_lines("a\tb\n\u{7}"), "a\tb\n\\u0007");
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let value = serde_json::json!({"title": "a\u{9b}\u{202e}\u{e0041}b"});
        let text = value.to_string();
        let visible = visible_json(&text);
        assert!(!visible.chars().any(is_hidden), "{visible}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible).unwrap(), value);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äöü… (2 more bytes)");
    }

    #[test]
    fn a_shown_url_names_the_place_and_no_secret() {
        for (url, shown) in [
            ("https://stream.example/v2/stream/x", "https://stream.example/v2/stream/x"),
            ("https://u:geheim@h:1/p?token=geheim#geheim", "https://h:1/p?***"),
            ("http://h?geheim", "http://h?***"),
            ("http://a:g@e@h/x#geheim", "http://h/x?***"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
