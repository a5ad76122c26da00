//! The enriched edit, value of `wikipedia-events`.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::json::{self, Object, Quick, Reader, Unusual, put};
use crate::rejection::{Reason, Rejection};

/// An enriched change. The first nine fields keep the names and meanings of the original tutorial; fields are
/// only ever added.
// Texts borrow from the bytes that they were read from, as far as those hold no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserType {
    /// Not flagged as a bot.
    #[default]
    Human,
    /// Flagged as a bot.
    Bot,
}

impl UserType {
    fn named(name: &str) -> Option<Self> {
        [Self::Human, Self::Bot].into_iter().find(|one| one.as_str() == name)
    }

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    #[default]
    Unknown,
}

impl UserKind {
    fn named(name: &str) -> Option<Self> {
        let all = [Self::Bot, Self::Registered, Self::Temporary, Self::Ip, Self::Unknown];
        all.into_iter().find(|one| one.as_str() == name)
    }

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

    pub(crate) fn of(bot: bool, user: Option<&str>) -> Self {
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

impl<'a> Object<'a> for Edit<'a> {
    // All but those that may be null, which may be missing too.
    const REQUIRED: u64 = (1 << REQUIRED_FIELDS) - 1;

    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "domain" => put(&mut self.domain, json.text()?, 0),
            "namespace" => put(&mut self.namespace, json.text()?, 1),
            "title" => put(&mut self.title, json.text()?, 2),
            "timestamp" => put(&mut self.timestamp, json.text()?, 3),
            "user_type" => put(&mut self.user_type, UserType::named(&json.text()?).ok_or(Unusual)?, 4),
            "event_id" => put(&mut self.event_id, json.text()?, 5),
            "type" => put(&mut self.change_type, json.text()?, 6),
            "wiki" => put(&mut self.wiki, json.text()?, 7),
            "namespace_id" => put(&mut self.namespace_id, json.integer()?, 8),
            "namespace_local" => put(&mut self.namespace_local, json.text()?, 9),
            "user_kind" => put(&mut self.user_kind, UserKind::named(&json.text()?).ok_or(Unusual)?, 10),
            "id" => put(&mut self.id, json.integer_or_null()?, REQUIRED_FIELDS),
            "user_name" => put(&mut self.user_name, json.text_or_null()?, 12),
            "old_length" => put(&mut self.old_length, json.integer_or_null()?, 13),
            "new_length" => put(&mut self.new_length, json.integer_or_null()?, 14),
            "revision_old" => put(&mut self.revision_old, json.integer_or_null()?, 15),
            "revision_new" => put(&mut self.revision_new, json.integer_or_null()?, 16),
            "minor" => put(&mut self.minor, json.bool_or_null()?, 17),
            "patrolled" => put(&mut self.patrolled, json.bool_or_null()?, 18),
            "comment" => put(&mut self.comment, json.text_or_null()?, 19),
            _ => return Ok(None),
        }))
    }
}

/// Fields of an edit that are never null.
const REQUIRED_FIELDS: u32 = 11;

/// Writes fields one after the other.
struct Fields<'t>(&'t mut Vec<u8>);

impl Fields<'_> {
    /// Begins a field; `name` has its quotes, its colon, and a comma or a brace before it.
    fn text(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        json::write_text(self.0, value);
    }

    fn optional_text(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.literal(name, "null"),
        }
    }

    fn integer(&mut self, name: &str, value: Option<i64>) {
        match value {
            Some(value) => self.literal(name, itoa::Buffer::new().format(value)),
            None => self.literal(name, "null"),
        }
    }

    fn truth(&mut self, name: &str, value: Option<bool>) {
        self.literal(name, value.map_or("null", |value| if value { "true" } else { "false" }));
    }

    fn literal(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
    }
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
        let mut fields = Fields(to);
        fields.integer("{\"id\":", self.id);
        fields.text(",\"domain\":", &self.domain);
        fields.text(",\"namespace\":", &self.namespace);
        fields.text(",\"title\":", &self.title);
        fields.text(",\"timestamp\":", &self.timestamp);
        fields.optional_text(",\"user_name\":", self.user_name.as_deref());
        fields.text(",\"user_type\":", self.user_type.as_str());
        fields.integer(",\"old_length\":", self.old_length);
        fields.integer(",\"new_length\":", self.new_length);
        fields.text(",\"event_id\":", &self.event_id);
        fields.text(",\"type\":", &self.change_type);
        fields.text(",\"wiki\":", &self.wiki);
        fields.integer(",\"namespace_id\":", Some(self.namespace_id));
        fields.text(",\"namespace_local\":", &self.namespace_local);
        fields.text(",\"user_kind\":", self.user_kind.as_str());
        fields.integer(",\"revision_old\":", self.revision_old);
        fields.integer(",\"revision_new\":", self.revision_new);
        fields.truth(",\"minor\":", self.minor);
        fields.truth(",\"patrolled\":", self.patrolled);
        fields.optional_text(",\"comment\":", self.comment.as_deref());
        to.push(b'}');
    }

    /// Reads the value of a `wikipedia-events` record.
    ///
    /// # Errors
    /// A [`Rejection`] where the value is not an enriched edit, or where a text holds U+0000, which no
    /// PostgreSQL can store: every writer refuses it alike, so that the fate of a row does not depend on the
    /// destination.
    pub fn from_json(value: &'a [u8]) -> Result<Self, Rejection> {
        let edit: Self = json::read(value)?;
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
    fn an_edit_is_written_as_its_schema_says() {
        let texts = ["", "plain", "é \u{0} \" \\ \n \u{7f}"];
        for (index, text) in texts.into_iter().enumerate() {
            let (is, cow) = (index > 0, || Cow::Borrowed(text));
            let edit = Edit {
                id: is.then_some(i64::MIN),
                domain: cow(),
                title: cow(),
                user_name: is.then(cow),
                minor: is.then_some(index > 1),
                patrolled: Some(is),
                comment: is.then(cow),
                ..Edit::default()
            };
            let json = edit.to_json();
            assert_eq!(json, serde_json::to_vec(&edit).unwrap());
            assert_eq!(json::read::<Edit<'_>>(&json).unwrap(), edit);
        }
    }
}
