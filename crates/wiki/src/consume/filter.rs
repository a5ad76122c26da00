//! Which edits are printed.

use schema::Edit;
use schema::edit::UserType;

/// What becomes of bots' edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Bots {
    /// Theirs and others'.
    #[default]
    Yes,
    /// Only others'.
    No,
    /// Only theirs.
    Only,
}

/// Filters of edits; a record that is no edit passes where there is none.
#[derive(clap::Args, Debug)]
pub(super) struct Filter {
    /// Only edits of this wiki, such as enwiki; repeatable.
    #[arg(long, value_name = "WIKI")]
    wiki: Vec<String>,
    /// Only edits in this namespace, by its number (0 holds the articles); repeatable.
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    namespace: Vec<i64>,
    /// Edits of bots: too, not, or only.
    #[arg(long, value_enum, default_value = "yes")]
    bots: Bots,
    /// Only edits of pages whose title holds this, in whatever case.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

impl Filter {
    fn is_open(&self) -> bool {
        self.wiki.is_empty() && self.namespace.is_empty() && self.bots == Bots::Yes && self.title.is_none()
    }

    /// Whether a record with this value is printed.
    pub(super) fn passes(&self, value: &[u8]) -> bool {
        self.is_open() || Edit::from_json(value).is_ok_and(|edit| self.passes_edit(&edit))
    }

    fn passes_edit(&self, edit: &Edit<'_>) -> bool {
        let is_bot = edit.user_type == UserType::Bot;
        let title = || edit.title.to_lowercase();
        (self.wiki.is_empty() || self.wiki.iter().any(|wiki| *wiki == edit.wiki))
            && (self.namespace.is_empty() || self.namespace.contains(&edit.namespace_id))
            && (self.bots == Bots::Yes || is_bot == (self.bots == Bots::Only))
            && self.title.as_ref().is_none_or(|wanted| title().contains(&wanted.to_lowercase()))
    }
}
