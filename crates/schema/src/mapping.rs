//! The mapping from an event to the enriched edit.

use std::borrow::Cow;

use serde::Deserialize;

use crate::edit::{Edit, UserKind, UserType};
use crate::event::{CANARY_DOMAIN, Text, content_id, event_type};
use crate::json::{self, Object, Quick, Reader, put};
use crate::namespace;
use crate::rejection::{MAX_TITLE_BYTES, Reason, Rejection, bounded};

#[derive(Debug, Default, Deserialize, PartialEq)]
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

#[derive(Debug, Default, Deserialize, PartialEq)]
struct OldNew {
    old: Option<i64>,
    new: Option<i64>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
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

impl<'a> Object<'a> for Meta<'a> {
    const REQUIRED: u64 = 0b110;

    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "id" => put(&mut self.id, json.text_or_null()?.map(Text), 0),
            "domain" => put(&mut self.domain, Text(json.text()?), 1),
            "dt" => put(&mut self.dt, Text(json.text()?), 2),
            "stream" => put(&mut self.stream, json.text_or_null()?.map(Text), 3),
            _ => return Ok(None),
        }))
    }
}

impl<'a> Object<'a> for OldNew {
    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "old" => put(&mut self.old, json.integer_or_null()?, 0),
            "new" => put(&mut self.new, json.integer_or_null()?, 1),
            _ => return Ok(None),
        }))
    }
}

impl<'a> Object<'a> for Source<'a> {
    const REQUIRED: u64 = 1;

    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "meta" => put(&mut self.meta, json.object()?, 0),
            "id" => put(&mut self.id, json.integer_or_null()?, 1),
            "type" => put(&mut self.kind, json.text_or_null()?.map(Text), 2),
            "namespace" => put(&mut self.namespace, json.integer_or_null()?, 3),
            "title" => put(&mut self.title, json.text_or_null()?.map(Text), 4),
            "comment" => put(&mut self.comment, json.text_or_null()?.map(Text), 5),
            "user" => put(&mut self.user, json.text_or_null()?.map(Text), 6),
            "bot" => put(&mut self.bot, json.bool_or_null()?, 7),
            "minor" => put(&mut self.minor, json.bool_or_null()?, 8),
            "patrolled" => put(&mut self.patrolled, json.bool_or_null()?, 9),
            "length" => put(&mut self.length, json.object_or_null()?, 10),
            "revision" => put(&mut self.revision, json.object_or_null()?, 11),
            "wiki" => put(&mut self.wiki, json.text_or_null()?.map(Text), 12),
            _ => return Ok(None),
        }))
    }
}

/// Whether the quick reader and the full parser agree on these bytes, as they have to: for tests.
#[must_use]
pub fn agree(bytes: &[u8]) -> bool {
    json::agree::<Source<'_>>(bytes) && json::agree::<Edit<'_>>(bytes)
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
        let source: Source<'a> = json::read(value)?;
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
