//! What stands around the sinks: the stream, the brokers, what was set aside; and what is wrong. Pure.

use std::collections::{BTreeMap, VecDeque};

use schema::control::SourceStatus;
use serde::{Deserialize, Serialize};

use crate::board::tile::TileState;
use crate::board::view::{BoardView, ReplicaState};
use crate::picture::Brokers;

/// A word of ingest older than this counts no more.
const SILENT_MS: i64 = 5_000;
/// What the brokers said longer ago than this is said to be old.
const OLD_MS: i64 = 10_000;
/// The group may be without a sink this long at the start.
const EMPTY_MS: i64 = 5_000;
/// Dead letters of this long are told of.
const SET_ASIDE_MS: i64 = 60_000;

/// What stands around the sinks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AroundView {
    /// The stream, by ingest's word; null before one was heard.
    pub source: Option<SourceView>,
    /// The brokers; null before the first look.
    pub brokers: Option<Brokers>,
    /// Records that were set aside since the console watches, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// What is wrong now, the worst first.
    pub alerts: Vec<Alert>,
}

/// The stream, as the acting ingest says.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SourceView {
    /// The acting replica of ingest.
    pub replica: String,
    /// The stream's host.
    pub host: String,
    /// Since when it is connected, Unix milliseconds; null where it is not.
    pub connected_at_ms: Option<i64>,
    /// What keeps it from reading; empty where nothing does.
    pub trouble: String,
    /// Open entries of the gap ledger.
    #[serde(default)]
    pub gaps: u64,
    /// When ingest was heard last, Unix milliseconds.
    pub heard_ms: i64,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alert {
    /// What it is about.
    pub what: What,
    /// One sentence.
    pub text: String,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Several sinks are said to own one partition.
    Ownership,
    /// The group has no sink.
    Sinks,
    /// A sink cannot store.
    Store,
    /// The stream does not come in.
    Source,
    /// Something of the stream is missing.
    Gaps,
    /// A broker is away.
    Brokers,
    /// Records were set aside.
    DeadLetters,
}

impl What {
    /// In a word, for a table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ownership => "ownership",
            Self::Sinks => "sinks",
            Self::Store => "table",
            Self::Source => "stream",
            Self::Gaps => "gaps",
            Self::Brokers => "brokers",
            Self::DeadLetters => "set aside",
        }
    }
}

/// Knows it.
#[derive(Debug, Default)]
pub struct Around {
    source: Option<SourceView>,
    /// The brokers, and when they were asked.
    brokers: Option<(Brokers, i64)>,
    dead_letters: BTreeMap<String, u64>,
    set_aside: VecDeque<i64>,
    began_ms: Option<i64>,
}

impl Around {
    /// Ingest said something at `at_ms`.
    pub fn heard(&mut self, status: SourceStatus, at_ms: i64) {
        let SourceStatus { replica, host, connected_at_ms, trouble, gaps } = status;
        self.source = Some(SourceView { replica, host, connected_at_ms, trouble, gaps, heard_ms: at_ms });
    }

    /// The brokers were counted at `at_ms`.
    pub const fn counted(&mut self, brokers: Brokers, at_ms: i64) {
        self.brokers = Some((brokers, at_ms));
    }

    /// A dead letter was read.
    pub fn set_aside(&mut self, reason: String, at_ms: i64) {
        *self.dead_letters.entry(reason).or_default() += 1;
        self.set_aside.push_back(at_ms);
    }

    /// All of it, and what is wrong on this board.
    #[must_use]
    pub fn view(&mut self, board: &BoardView, now_ms: i64) -> AroundView {
        let began_ms = *self.began_ms.get_or_insert(now_ms);
        while self.set_aside.front().is_some_and(|at_ms| now_ms - at_ms > SET_ASIDE_MS) {
            self.set_aside.pop_front();
        }
        let mut alerts = on_board(board);
        if board.group.members == 0 && board.group.looked_ms.is_some() && now_ms - began_ms > EMPTY_MS {
            alerts.push(alert(What::Sinks, "no sink is in the group: nothing is stored"));
        }
        alerts.extend(self.source_alert(now_ms));
        alerts.extend(self.gaps_alert());
        alerts.extend(self.brokers_alert(now_ms));
        if !self.set_aside.is_empty() {
            let text = format!("{} records set aside within the last minute", self.set_aside.len());
            alerts.push(alert(What::DeadLetters, text));
        }
        alerts.sort_by_key(|alert| alert.what);
        AroundView {
            source: self.source.clone(),
            brokers: self.brokers.map(|(brokers, _)| brokers),
            dead_letters: self.dead_letters.clone(),
            alerts,
        }
    }

    fn brokers_alert(&self, now_ms: i64) -> Option<Alert> {
        let (Brokers { up, known }, at_ms) = self.brokers?;
        if now_ms - at_ms > OLD_MS {
            let text = "the brokers do not answer the console: what they said of the group and of themselves is old";
            return Some(alert(What::Brokers, text));
        }
        (up < known).then(|| alert(What::Brokers, format!("{} of {known} brokers away", known - up)))
    }

    fn gaps_alert(&self) -> Option<Alert> {
        let gaps = self.source.as_ref().map_or(0, |source| source.gaps);
        let text = match gaps {
            0 => return None,
            1 => "edits of the stream are missing: 1 open gap in the ledger (wiki gaps list)".to_owned(),
            _ => format!("edits of the stream are missing: {gaps} open gaps in the ledger (wiki gaps list)"),
        };
        Some(alert(What::Gaps, text))
    }

    fn source_alert(&self, now_ms: i64) -> Option<Alert> {
        let source = self.source.as_ref()?;
        if now_ms - source.heard_ms > SILENT_MS {
            return Some(alert(What::Source, "ingest says nothing: nothing new comes in"));
        }
        (!source.trouble.is_empty())
            .then(|| alert(What::Source, format!("the stream does not come in: {}", source.trouble)))
    }
}

fn alert(what: What, text: impl Into<String>) -> Alert {
    Alert { what, text: text.into() }
}

fn on_board(board: &BoardView) -> Vec<Alert> {
    let disputed = board.partitions.iter().filter(|partition| partition.state == TileState::Disputed);
    let mut alerts: Vec<Alert> = disputed
        .map(|at| {
            alert(
                What::Ownership,
                format!("partition {} is said to be owned by {}", at.partition, at.owners.join(" and ")),
            )
        })
        .collect();
    let gone = [ReplicaState::Left, ReplicaState::Lost];
    let troubled = board.replicas.iter().filter(|sink| !sink.trouble.is_empty() && !gone.contains(&sink.state));
    alerts.extend(troubled.map(|sink| alert(What::Store, format!("{} cannot store: {}", sink.name, sink.trouble))));
    alerts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    fn told(around: &mut Around, now_ms: i64) -> Vec<What> {
        let board = Board::new("t".to_owned()).view(now_ms);
        around.view(&board, now_ms).alerts.iter().map(|alert| alert.what).collect()
    }

    #[test]
    fn what_is_wrong_is_told_while_it_is() {
        let mut around = Around::default();
        let status = |trouble: &str| SourceStatus {
            replica: "ingest".to_owned(),
            host: "h".to_owned(),
            connected_at_ms: None,
            trouble: trouble.to_owned(),
            gaps: 0,
        };
        around.heard(status(""), 1_000);
        assert_eq!(told(&mut around, 1_000), []);
        around.heard(status("no route"), 2_000);
        around.counted(Brokers { up: 2, known: 3 }, 2_000);
        around.set_aside("invalid_json".to_owned(), 2_000);
        assert_eq!(told(&mut around, 2_000), [What::Source, What::Brokers, What::DeadLetters]);
        around.heard(status(""), 63_000);
        around.counted(Brokers { up: 3, known: 3 }, 63_000);
        assert_eq!(told(&mut around, 63_000), []);
        assert_eq!(told(&mut around, 70_000), [What::Source], "silence is told of");
    }

    #[test]
    fn a_count_of_brokers_that_is_old_says_nothing_of_now() {
        let mut around = Around::default();
        around.counted(Brokers { up: 2, known: 3 }, 1_000);
        let mut said = |now_ms: i64| {
            let board = Board::new("t".to_owned()).view(now_ms);
            around.view(&board, now_ms).alerts.iter().map(|alert| alert.text.clone()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said(11_000), "1 of 3 brokers away");
        assert!(said(11_001).contains("do not answer the console"), "{}", said(11_001));
        around.counted(Brokers { up: 3, known: 3 }, 12_000);
        assert_eq!(told(&mut around, 12_000), []);
    }
}
