//! The enriched edit, value of `wikipedia-events`, and the pure mapping to it.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{CANARY_DOMAIN, Text, content_id, event_type};
use crate::namespace;
use crate::rejection::{MAX_TITLE_BYTES, Reason, Rejection, bounded, parse};

/// An enriched change. The first nine fields keep the names and meanings of the original tutorial; fields are
/// only ever added.
// Texts borrow from the bytes that they were read from, as far as those hold no escapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit<'a> {
    /// Recent-changes id, unique per wiki only; null on some log events.
    pub id: Option<i64>,
    /// Domain of the wiki, such as `en.wikipedia.org`.
    #[serde(borrow)]
    pub domain: Cow<'a, str>,
    /// Namespace: the canonical English name for ids −2…15, else the wiki's own, else `unknown`.
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    /// Page title with its namespace prefix.
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    /// When the event was taken in, ISO 8601 UTC, as received (`meta.dt`).
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// User name, address or temporary account; null where it is redacted.
    #[serde(borrow)]
    pub user_name: Option<Cow<'a, str>>,
    /// `bot` where the edit is flagged as one, else `human`.
    pub user_type: UserType,
    /// Length of the page before, in bytes; null for a new page.
    pub old_length: Option<i64>,
    /// Length of the page after, in bytes.
    pub new_length: Option<i64>,
    /// Unique id of the event (`meta.id`), or `sha256:` and the hash of the event where it has none.
    #[serde(borrow)]
    pub event_id: Cow<'a, str>,
    /// `edit`, unless other types are routed to the same topic.
    #[serde(borrow, rename = "type")]
    pub change_type: Cow<'a, str>,
    /// Database name of the wiki, such as `enwiki`.
    #[serde(borrow)]
    pub wiki: Cow<'a, str>,
    /// Namespace id.
    pub namespace_id: i64,
    /// The title's prefix where the namespace is not 0, else empty.
    #[serde(borrow)]
    pub namespace_local: Cow<'a, str>,
    /// What kind of account made the edit.
    pub user_kind: UserKind,
    /// Revision before; null for a new page.
    pub revision_old: Option<i64>,
    /// Revision after.
    pub revision_new: Option<i64>,
    /// Whether the edit is marked as minor; null where the wiki does not say.
    pub minor: Option<bool>,
    /// Whether the edit is patrolled; null where the wiki does not say.
    pub patrolled: Option<bool>,
    /// Edit summary.
    #[serde(borrow)]
    pub comment: Option<Cow<'a, str>>,
}

/// The original tutorial's two kinds of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserType {
    /// Not flagged as a bot.
    Human,
    /// Flagged as a bot.
    Bot,
}

impl UserType {
    /// The value as it stands in JSON and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Bot => "bot",
        }
    }
}

/// What kind of account made an edit; the bot flag comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// Flagged as a bot.
    Bot,
    /// A named account.
    Registered,
    /// A temporary account, such as `~2026-12345-6`.
    Temporary,
    /// An IPv4 or IPv6 address.
    Ip,
    /// The user is redacted.
    Unknown,
}

impl UserKind {
    /// The value as it stands in JSON and in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Registered => "registered",
            Self::Temporary => "temporary",
            Self::Ip => "ip",
            Self::Unknown => "unknown",
        }
    }

    fn of(bot: bool, user: Option<&str>) -> Self {
        match user {
            _ if bot => Self::Bot,
            None => Self::Unknown,
            Some(user) if is_temporary(user) => Self::Temporary,
            Some(user) if user.parse::<IpAddr>().is_ok() => Self::Ip,
            Some(_) => Self::Registered,
        }
    }
}

/// Whether `user` is a temporary account: `~`, a year, and groups of digits behind hyphens.
fn is_temporary(user: &str) -> bool {
    let Some(rest) = user.strip_prefix('~') else {
        return false;
    };
    let mut groups = rest.split('-');
    let digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    groups.next().is_some_and(|year| year.len() == 4 && digits(year))
        && groups.clone().count() > 0
        && groups.all(digits)
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    domain: Text<'a>,
    #[serde(borrow)]
    dt: Text<'a>,
    #[serde(borrow)]
    stream: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
struct OldNew {
    old: Option<i64>,
    new: Option<i64>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    meta: Meta<'a>,
    id: Option<i64>,
    #[serde(borrow, default, rename = "type", deserialize_with = "event_type")]
    kind: Option<Text<'a>>,
    namespace: Option<i64>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    comment: Option<Text<'a>>,
    #[serde(borrow)]
    user: Option<Text<'a>>,
    bot: Option<bool>,
    minor: Option<bool>,
    patrolled: Option<bool>,
    length: Option<OldNew>,
    revision: Option<OldNew>,
    #[serde(borrow)]
    wiki: Option<Text<'a>>,
}

/// The types of changes that become edits: `WIKI_EVENT_TYPES`, the same for every service of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    types: Vec<String>,
}

impl Mapping {
    /// Maps changes of these types, such as `edit`.
    #[must_use]
    pub fn new(types: &[String]) -> Self {
        Self { types: types.to_vec() }
    }

    /// Maps a raw record's value to the enriched edit; `None` for a canary and for a change of another type. Pure:
    /// the same bytes on every replay.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are not JSON, or lack what every change has: `meta.domain`, `meta.dt`,
    /// `namespace`, `title`, `wiki`. All other fields may be missing.
    pub fn enrich<'a>(&self, value: &'a [u8]) -> Result<Option<Edit<'a>>, Rejection> {
        let source: Source<'a> = parse(value)?;
        if source.meta.domain.0 == CANARY_DOMAIN {
            return Ok(None);
        }
        let named = source.kind.as_ref().or(source.meta.stream.as_ref());
        let change_type = named.map_or("", |kind| &kind.0);
        if self.types.iter().any(|kept| kept == change_type) { edit(source, value).map(Some) } else { Ok(None) }
    }
}

/// Lengths of pages, in bytes.
const LENGTHS: std::ops::RangeInclusive<i64> = 0..=(1 << 31);

fn required<T>(field: Option<T>, name: &str) -> Result<T, Rejection> {
    field.ok_or_else(|| Rejection::new(Reason::WrongShape, format!("missing field `{name}`")))
}

/// A part of a text, borrowed where the text is.
fn part_of<'a>(text: &Cow<'a, str>, part: impl Fn(&str) -> &str) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(text).to_owned()),
    }
}

fn edit<'a>(source: Source<'a>, value: &[u8]) -> Result<Edit<'a>, Rejection> {
    let Source {
        meta,
        id,
        kind,
        namespace: namespace_id,
        title,
        comment,
        user,
        bot,
        minor,
        patrolled,
        length,
        revision,
        wiki,
    } = source;
    let namespace_id = required(namespace_id, "namespace")?;
    let title = required(title, "title")?.0;
    bounded("title", &title, MAX_TITLE_BYTES)?;
    user.as_ref().map_or(Ok(()), |user| bounded("user", &user.0, MAX_TITLE_BYTES))?;
    let bot = bot.unwrap_or(false);
    let length = length.unwrap_or_default();
    for length in [length.old, length.new].into_iter().flatten() {
        if !LENGTHS.contains(&length) {
            return Err(Rejection::new(Reason::WrongShape, format!("`length` cannot be {length}")));
        }
    }
    let revision = revision.unwrap_or_default();
    let user = user.map(|user| user.0);
    let event_id = match meta.id {
        Some(id) if !id.0.is_empty() => id.0,
        _ => Cow::Owned(content_id(value)),
    };
    Ok(Edit {
        id,
        domain: meta.domain.0,
        namespace: part_of(&title, |title| namespace::name(namespace_id, title).0),
        namespace_local: part_of(&title, |title| namespace::local(namespace_id, title)),
        title,
        timestamp: meta.dt.0,
        user_kind: UserKind::of(bot, user.as_deref()),
        user_name: user,
        user_type: if bot { UserType::Bot } else { UserType::Human },
        old_length: length.old,
        new_length: length.new,
        event_id,
        change_type: kind.or(meta.stream).map_or(Cow::Borrowed(""), |kind| kind.0),
        wiki: required(wiki, "wiki")?.0,
        namespace_id,
        revision_old: revision.old,
        revision_new: revision.new,
        minor,
        patrolled,
        comment: comment.map(|comment| comment.0),
    })
}

impl<'a> Edit<'a> {
    /// The edit as one line of JSON, the nine tutorial fields first.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.write_json(&mut json);
        json
    }

    /// Appends the edit as one line of JSON: for a buffer that is used again.
    pub fn write_json(&self, to: &mut Vec<u8>) {
        // Strings and integers only: serialising them into memory cannot fail.
        let _ = serde_json::to_writer(to, self);
    }

    /// Reads the value of a `wikipedia-events` record.
    ///
    /// # Errors
    /// A [`Rejection`] where the value is not an enriched edit, or where a text holds U+0000, which no
    /// PostgreSQL can store: every writer refuses it alike, so that the fate of a row does not depend on the
    /// destination.
    pub fn from_json(value: &'a [u8]) -> Result<Self, Rejection> {
        let edit: Self = parse(value)?;
        let texts = [
            &edit.domain,
            &edit.namespace,
            &edit.title,
            &edit.timestamp,
            &edit.event_id,
            &edit.change_type,
            &edit.wiki,
        ];
        let optional = [&edit.user_name, &edit.comment];
        if texts.into_iter().chain(optional.into_iter().flatten()).any(|text| text.contains('\0')) {
            return Err(Rejection::new(Reason::NulInText, "a text holds U+0000, which a table cannot store"));
        }
        Ok(edit)
    }

    /// The same edit, outliving the bytes that it was read from.
    #[must_use]
    pub fn into_owned(self) -> Edit<'static> {
        fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        Edit {
            domain: owned(self.domain),
            namespace: owned(self.namespace),
            title: owned(self.title),
            timestamp: owned(self.timestamp),
            user_name: self.user_name.map(owned),
            event_id: owned(self.event_id),
            change_type: owned(self.change_type),
            wiki: owned(self.wiki),
            namespace_local: owned(self.namespace_local),
            comment: self.comment.map(owned),
            ..self
        }
    }
}

/// The JSON Schema of [`Edit`], as committed beside this crate.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Edit<'static>);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrich(value: &[u8]) -> Result<Edit<'_>, Rejection> {
        let all = ["edit".to_owned(), String::new()];
        Mapping::new(&all).enrich(value).map(|edit| edit.expect("an edit"))
    }

    const FULL: &str = r#"{"meta":{"id":"e1","domain":"es.wikipedia.org","dt":"2026-01-02T03:04:05.678Z"},
        "id":4294967297,"type":"edit","namespace":104,"title":"Anexo:Uno","comment":"c","user":"~2026-12345-6",
        "bot":false,"minor":true,"patrolled":false,"length":{"old":1,"new":2},"revision":{"old":3,"new":4},"wiki":"eswiki"}"#;

    #[test]
    fn a_full_edit_keeps_every_field() {
        let edit = enrich(FULL.as_bytes()).unwrap();
        let expected = r#"{"id":4294967297,"domain":"es.wikipedia.org","namespace":"Anexo","title":"Anexo:Uno","timestamp":"2026-01-02T03:04:05.678Z","user_name":"~2026-12345-6","user_type":"human","old_length":1,"new_length":2,"event_id":"e1","type":"edit","wiki":"eswiki","namespace_id":104,"namespace_local":"Anexo","user_kind":"temporary","revision_old":3,"revision_new":4,"minor":true,"patrolled":false,"comment":"c"}"#;
        assert_eq!(String::from_utf8(edit.to_json()).unwrap(), expected);
        assert_eq!(Edit::from_json(expected.as_bytes()).unwrap(), edit);
    }

    #[test]
    fn what_may_be_missing_may_be_missing() {
        let bytes = br#"{"meta":{"domain":"d","dt":"t"},"namespace":0,"title":"T","wiki":"w"}"#;
        let edit = enrich(bytes).unwrap();
        assert_eq!((edit.id, edit.user_name.as_deref(), edit.old_length, edit.minor), (None, None, None, None));
        assert_eq!((edit.user_type, edit.user_kind), (UserType::Human, UserKind::Unknown));
        assert_eq!(edit.event_id, content_id(bytes));
    }

    #[test]
    fn nulls_are_like_missing_fields() {
        let bytes = br#"{"meta":{"id":null,"domain":"d","dt":"t"},"id":null,"namespace":0,"title":"T","wiki":"w","length":{"old":null,"new":5},"revision":null,"user":null,"bot":null,"type":null}"#;
        let edit = enrich(bytes).unwrap();
        assert_eq!((edit.old_length, edit.new_length, edit.revision_new), (None, Some(5), None));
    }

    #[test]
    fn user_kinds() {
        let cases = [
            ("~2026-50211-05", UserKind::Temporary),
            ("~2026-1", UserKind::Temporary),
            ("~2026", UserKind::Registered),
            ("~tilde-fan-1", UserKind::Registered),
            ("192.0.2.7", UserKind::Ip),
            ("2001:DB8:0:0:0:0:0:1", UserKind::Ip),
            ("Ada", UserKind::Registered),
        ];
        for (user, kind) in cases {
            assert_eq!(UserKind::of(false, Some(user)), kind, "{user}");
            assert_eq!(UserKind::of(true, Some(user)), UserKind::Bot, "{user}");
        }
        assert_eq!(UserKind::of(false, None), UserKind::Unknown);
    }

    #[test]
    fn a_text_with_nul_is_refused_for_every_writer() {
        let with_nul = FULL.replace("Anexo:Uno", r"Anexo:\u0000");
        let edit = enrich(with_nul.as_bytes()).unwrap();
        assert_eq!(Edit::from_json(&edit.to_json()).unwrap_err().reason, Reason::NulInText);
    }

    #[test]
    fn a_missing_title_is_a_wrong_shape() {
        let rejection = enrich(br#"{"meta":{"domain":"d","dt":"t"},"namespace":0,"wiki":"w"}"#).unwrap_err();
        assert_eq!(rejection.reason, Reason::WrongShape);
        assert!(rejection.detail.contains("title"), "{rejection}");
    }

    #[test]
    fn canaries_and_other_types_are_no_edits() {
        let edits = Mapping::new(&["edit".to_owned()]);
        let canary = br#"{"meta":{"domain":"canary","dt":"t"}}"#;
        assert_eq!(edits.enrich(canary), Ok(None));
        let log = FULL.replace(r#""type":"edit""#, r#""type":"log""#);
        assert_eq!(edits.enrich(log.as_bytes()), Ok(None));
        assert!(Mapping::new(&["log".to_owned()]).enrich(log.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn an_edit_borrows_where_it_can() {
        let edit = enrich(FULL.as_bytes()).unwrap();
        assert!(matches!((&edit.title, &edit.namespace_local), (Cow::Borrowed(_), Cow::Borrowed(_))));
        assert_eq!(edit.clone().into_owned(), edit);
    }
}
