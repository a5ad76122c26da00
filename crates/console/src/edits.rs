//! Edits on their way to the page: shown when a sink says that it stored them, with that sink's letter. Pure.

use std::collections::{BTreeMap, VecDeque};

use schema::Edit;
use schema::edit::{UserKind, UserType};
use serde::{Deserialize, Serialize};
use service::text::cut;

use crate::board::Board;

/// Edits of one partition that wait for a sink's word, at most; older ones are counted and not shown.
const WAITING: usize = 2_000;
/// Edits of one event.
const SHOWN: usize = 20;
/// Records of a partition that can be looked at.
const KEPT: usize = 20;
/// Bytes of a record's value, of its key, and of each of its headers.
const MOST_BYTES: usize = 2_048;
/// Characters of a text on the page.
const MOST_CHARS: usize = 300;
/// Headers of a record.
const MOST_HEADERS: usize = 20;
/// How long delays are remembered.
const DELAYS_MS: i64 = 60_000;

/// An edit as the page shows it.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EditView {
    /// Where its record stands.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// Who stored it.
    pub sink: String,
    /// That sink's letter.
    pub letter: String,
    /// Database name of the wiki.
    pub wiki: String,
    /// Domain of the wiki.
    pub domain: String,
    /// Namespace id.
    pub namespace_id: i64,
    /// Page title.
    pub title: String,
    /// User name, address or temporary account.
    pub user: Option<String>,
    /// `bot`, `registered`, `temporary`, `ip` or `unknown`.
    pub user_kind: UserKind,
    /// Whether it is flagged as a bot's.
    pub is_bot: bool,
    /// Bytes added, or removed.
    pub delta: i64,
    /// Revision before; null for a new page.
    pub revision_old: Option<i64>,
    /// Revision after.
    pub revision_new: Option<i64>,
    /// When it was made, as the stream says.
    pub timestamp: String,
}

impl EditView {
    /// The edit of a record.
    #[must_use]
    pub fn new(edit: &Edit<'_>, partition: i32, offset: i64) -> Self {
        Self {
            partition,
            offset,
            sink: String::new(),
            letter: String::new(),
            wiki: cut(&edit.wiki, MOST_CHARS).into_owned(),
            domain: cut(&edit.domain, MOST_CHARS).into_owned(),
            namespace_id: edit.namespace_id,
            title: cut(&edit.title, MOST_CHARS).into_owned(),
            user: edit.user_name.as_ref().map(|user| cut(user, MOST_CHARS).into_owned()),
            user_kind: edit.user_kind,
            is_bot: edit.user_type == UserType::Bot,
            delta: edit.new_length.unwrap_or(0).saturating_sub(edit.old_length.unwrap_or(0)),
            revision_old: edit.revision_old,
            revision_new: edit.revision_new,
            timestamp: cut(&edit.timestamp, MOST_CHARS).into_owned(),
        }
    }
}

/// A record as it stands in the topic.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecordView {
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, Unix milliseconds.
    pub at_ms: i64,
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its value.
    pub value: String,
}

impl RecordView {
    /// The record as it is kept: long texts are cut.
    fn bounded(self) -> Self {
        let short = |text: &str| cut(text, MOST_BYTES).into_owned();
        let headers = self.headers.iter().take(MOST_HEADERS).map(|(name, value)| (short(name), short(value)));
        Self { key: short(&self.key), headers: headers.collect(), value: short(&self.value), ..self }
    }
}

/// Edits of one event: some of those that were stored since the last.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EditsView {
    /// Edits stored since the last event.
    pub seen: u64,
    /// How many of them are here.
    pub shown: u64,
    /// The latest of them.
    pub edits: Vec<EditView>,
}

/// Edits that wait, and those that are ready.
#[derive(Debug, Default)]
pub struct Edits {
    waiting: BTreeMap<i32, VecDeque<EditView>>,
    records: BTreeMap<i32, VecDeque<RecordView>>,
    ready: VecDeque<EditView>,
    seen: u64,
    stored: u64,
    delays: VecDeque<(i64, i64)>,
}

impl Edits {
    /// A record of the topic was read.
    pub fn read(&mut self, partition: i32, record: RecordView) {
        if let Ok(edit) = Edit::from_json(record.value.as_bytes()) {
            let waiting = self.waiting.entry(partition).or_default();
            waiting.push_back(EditView::new(&edit, partition, record.offset));
            if waiting.len() > WAITING {
                waiting.pop_front();
                self.seen += 1;
            }
        }
        let records = self.records.entry(partition).or_default();
        records.push_back(record.bounded());
        if records.len() > KEPT {
            records.pop_front();
        }
    }

    /// What the board knows to be stored is ready.
    pub fn release(&mut self, board: &Board, now_ms: i64) {
        for (partition, waiting) in &mut self.waiting {
            let Some((sink, next_offset)) = board.stored_by(*partition) else { continue };
            let letter = board.letter(sink).unwrap_or_default();
            while let Some(edit) = waiting.pop_front_if(|edit| edit.offset < next_offset) {
                if let Ok(made) = edit.timestamp.parse::<jiff::Timestamp>() {
                    self.delays.push_back((now_ms, (now_ms - made.as_millisecond()).max(0)));
                }
                self.seen += 1;
                self.stored += 1;
                self.ready.push_back(EditView { sink: sink.to_owned(), letter: letter.clone(), ..edit });
                if self.ready.len() > SHOWN {
                    self.ready.pop_front();
                }
            }
        }
        while self.delays.front().is_some_and(|(at_ms, _)| now_ms - at_ms > DELAYS_MS) {
            self.delays.pop_front();
        }
    }

    /// Takes what is ready.
    pub fn take(&mut self) -> Option<EditsView> {
        if self.seen == 0 {
            return None;
        }
        let edits: Vec<EditView> = self.ready.drain(..).collect();
        Some(EditsView { seen: std::mem::take(&mut self.seen), shown: edits.len() as u64, edits })
    }

    /// Edits known to be stored since we watch.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// The last records of a partition, the oldest first.
    pub fn records(&self, partition: i32) -> impl Iterator<Item = &RecordView> {
        self.records.get(&partition).into_iter().flatten()
    }

    /// Milliseconds from an edit to its being stored, over the last minute: the median, and of 99 in 100 at most.
    #[must_use]
    pub fn delays(&self) -> Option<(i64, i64)> {
        let mut delays: Vec<i64> = self.delays.iter().map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        let at = |hundredths: usize| delays.get((delays.len() * hundredths / 100).min(delays.len() - 1)).copied();
        if delays.is_empty() { None } else { Some((at(50)?, at(99)?)) }
    }
}
