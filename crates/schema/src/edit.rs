//! The enriched edit, value of `wikipedia-events`, and the pure mapping to it.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Text, content_id, event_type};
use crate::namespace;
use crate::rejection::{Reason, Rejection, parse};

/// An enriched change. The first nine fields keep the names and meanings of the original tutorial; fields are
/// only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit {
    /// Recent-changes id, unique per wiki only; null on some log events.
    pub id: Option<i64>,
    /// Domain of the wiki, such as `en.wikipedia.org`.
    pub domain: String,
    /// Namespace: the canonical English name for ids −2…15, else the wiki's own, else `unknown`.
    pub namespace: String,
    /// Page title with its namespace prefix.
    pub title: String,
    /// When the event was taken in, ISO 8601 UTC, as received (`meta.dt`).
    pub timestamp: String,
    /// User name, address or temporary account; null where it is redacted.
    pub user_name: Option<String>,
    /// `bot` where the edit is flagged as one, else `human`.
    pub user_type: UserType,
    /// Length of the page before, in bytes; null for a new page.
    pub old_length: Option<i64>,
    /// Length of the page after, in bytes.
    pub new_length: Option<i64>,
    /// Unique id of the event (`meta.id`), or `sha256:` and the hash of the event where it has none.
    pub event_id: String,
    /// `edit`, unless other types are routed to the same topic.
    #[serde(rename = "type")]
    pub change_type: String,
    /// Database name of the wiki, such as `enwiki`.
    pub wiki: String,
    /// Namespace id.
    pub namespace_id: i64,
    /// The title's prefix where the namespace is not 0, else empty.
    pub namespace_local: String,
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
    pub comment: Option<String>,
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
    namespace: i64,
    #[serde(borrow)]
    title: Text<'a>,
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
    wiki: Text<'a>,
}

/// Maps a raw record's value to the enriched edit. Pure: the same bytes on every replay.
///
/// # Errors
/// A [`Rejection`] where the bytes are not JSON, or lack what every change has: `meta.domain`, `meta.dt`,
/// `namespace`, `title`, `wiki`. All other fields may be missing.
pub fn enrich(value: &[u8]) -> Result<Edit, Rejection> {
    let source: Source<'_> = parse(value)?;
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
    let bot = bot.unwrap_or(false);
    let length = length.unwrap_or_default();
    let revision = revision.unwrap_or_default();
    let user = user.map(|user| user.0);
    let title = title.0.into_owned();
    let event_id = match meta.id {
        Some(id) if !id.0.is_empty() => id.0.into_owned(),
        _ => content_id(value),
    };
    let change_type = kind.or(meta.stream).map_or_else(String::new, |kind| kind.0.into_owned());
    Ok(Edit {
        id,
        domain: meta.domain.0.into_owned(),
        namespace: namespace::name(namespace_id, &title).0.to_owned(),
        namespace_local: namespace::local(namespace_id, &title).to_owned(),
        title,
        timestamp: meta.dt.0.into_owned(),
        user_kind: UserKind::of(bot, user.as_deref()),
        user_name: user.map(Cow::into_owned),
        user_type: if bot { UserType::Bot } else { UserType::Human },
        old_length: length.old,
        new_length: length.new,
        event_id,
        change_type,
        wiki: wiki.0.into_owned(),
        namespace_id,
        revision_old: revision.old,
        revision_new: revision.new,
        minor,
        patrolled,
        comment: comment.map(|comment| comment.0.into_owned()),
    })
}

impl Edit {
    /// The edit as one line of JSON, the nine tutorial fields first.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and integers only: serialising them into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the value of a `wikipedia-events` record.
    ///
    /// # Errors
    /// A [`Rejection`] where the value is not an enriched edit, or where a text holds U+0000, which no
    /// PostgreSQL can store: every writer refuses it alike, so that the fate of a row does not depend on the
    /// destination.
    pub fn from_json(value: &[u8]) -> Result<Self, Rejection> {
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
}

/// The JSON Schema of [`Edit`], as committed beside this crate.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Edit);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
