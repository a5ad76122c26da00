//! What a page may do to the pipeline, where whoever runs it allows that.

use std::pin::Pin;
use std::sync::Arc;

use serde::Deserialize;

/// A wish of the page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "action", deny_unknown_fields)]
pub enum Action {
    /// One sink more.
    // With braces, so that unknown fields are refused here too.
    Add {},
    /// End a sink in order.
    Stop {
        /// Its name.
        sink: String,
    },
    /// End a sink without warning it.
    Kill {
        /// Its name.
        sink: String,
    },
    /// Slow a sink down, or let it go at its own speed again.
    Slow {
        /// Its name.
        sink: String,
    },
    /// Start the group anew under another rebalancing protocol.
    Protocol {
        /// `cooperative`, `eager` or `consumer`.
        protocol: String,
    },
}

/// What came of it: a sentence, of what was done or why not.
pub type Answer = Result<String, String>;

/// Whoever can do it.
pub trait Controls: Send + Sync + std::fmt::Debug {
    /// Does it, or says why not.
    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}

/// Controls, and the token that a page has to show.
#[derive(Clone, Debug)]
pub struct Control {
    /// Who does it.
    pub controls: Arc<dyn Controls>,
    /// Only a page that was served by us knows it.
    pub token: String,
}
