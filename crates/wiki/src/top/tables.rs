//! A snapshot as tables. Pure.

use std::cmp::Ordering;
use std::fmt::Write as _;

use console::board::rebalances::Cause;
use console::board::tile::TileState;
use console::board::view::{BoardView, PartitionView, RebalanceView, ReplicaState, ReplicaView};
use console::live::Snapshot;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tab {
    /// A row a partition.
    Ownership,
    /// A row a sink, and the pipeline in figures.
    Flow,
    /// The log of rebalances.
    Rebalances,
    /// What somebody should look at.
    Errors,
}

impl Tab {
    /// All of them, in the order of their keys.
    pub(crate) const ALL: [Self; 4] = [Self::Ownership, Self::Flow, Self::Rebalances, Self::Errors];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ownership => "Ownership",
            Self::Flow => "Flow",
            Self::Rebalances => "Rebalances",
            Self::Errors => "Errors",
        }
    }
}

/// What somebody wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The table.
    pub(crate) tab: Tab,
    /// Column to sort by, from 1; negative for the other way round.
    pub(crate) sort: i32,
    /// Only rows that hold this text.
    pub(crate) filter: String,
}

/// A table of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// One line above it.
    pub(crate) title: String,
    /// Names of the columns.
    pub(crate) head: Vec<&'static str>,
    /// As many cells each as the head has.
    pub(crate) rows: Vec<Vec<String>>,
}

/// The table that is wanted, filtered and sorted.
pub(crate) fn table(snapshot: &Snapshot, choice: &Choice) -> Table {
    let board = &snapshot.board;
    let (head, mut rows) = match choice.tab {
        Tab::Ownership => ownership(snapshot),
        Tab::Flow => flow(snapshot),
        Tab::Rebalances => (
            vec!["began", "why", "moved", "kept", "took ms", "longest pause", "protocol"],
            board.rebalances.iter().rev().map(rebalance).collect(),
        ),
        Tab::Errors => (vec!["where", "what"], errors(snapshot)),
    };
    let wanted = choice.filter.to_lowercase();
    rows.retain(|row| row.iter().any(|cell| cell.to_lowercase().contains(&wanted)));
    sort(&mut rows, choice);
    Table { title: title(snapshot), head, rows }
}

fn title(snapshot: &Snapshot) -> String {
    let group = &snapshot.board.group;
    let age = group
        .looked_ms
        .map_or_else(|| "not asked yet".to_owned(), |at| format!("{} ms old", (snapshot.ts - at).max(0)));
    format!(
        "group {}, {} members, {}, generation {}; {:.1} edits/s stored, lag {}; the broker's word is {age}",
        group.state, group.members, group.protocol, group.generation, snapshot.flow.stored_rate, snapshot.flow.sink_lag
    )
}

fn sort(rows: &mut [Vec<String>], choice: &Choice) {
    // The log is in order of time already.
    if matches!(choice.tab, Tab::Rebalances) && choice.sort == 1 {
        return;
    }
    let column = usize::try_from(choice.sort.unsigned_abs()).unwrap_or(1).saturating_sub(1);
    rows.sort_by(|left, right| {
        let order = compare(left.get(column), right.get(column));
        if choice.sort < 0 { order.reverse() } else { order }
    });
}

/// Numbers as numbers, everything else as text.
fn compare(left: Option<&String>, right: Option<&String>) -> Ordering {
    let number = |cell: Option<&String>| cell.and_then(|cell| cell.trim_start_matches('p').parse::<f64>().ok());
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => left.cmp(&right),
    }
}

type Rows = (Vec<&'static str>, Vec<Vec<String>>);

fn ownership(snapshot: &Snapshot) -> Rows {
    let rows = snapshot.board.partitions.iter().map(|partition| {
        let still = partition.still_since_ms.map_or_else(String::new, |since| (snapshot.ts - since).max(0).to_string());
        vec![
            format!("p{}", partition.partition),
            owner(&snapshot.board, partition),
            state(partition.state).to_owned(),
            partition.target.clone().unwrap_or_default(),
            partition.lag.to_string(),
            partition.end.to_string(),
            partition.committed.map_or_else(|| "none".to_owned(), |offset| offset.to_string()),
            still,
        ]
    });
    (vec!["partition", "owner", "state", "next owner", "lag", "end", "committed", "still ms"], rows.collect())
}

fn owner(board: &BoardView, partition: &PartitionView) -> String {
    let letter = |name: &String| {
        board.replicas.iter().find(|replica| replica.name == *name).map(|replica| replica.letter.as_str())
    };
    let named = partition.owners.iter().map(|name| format!("{} {name}", letter(name).unwrap_or_default()));
    let owners = named.collect::<Vec<_>>().join(", ");
    if owners.is_empty() { "nobody".to_owned() } else { owners }
}

const fn state(state: TileState) -> &'static str {
    match state {
        TileState::Owned => "owned",
        TileState::Leaving => "leaving",
        TileState::InFlight => "in flight",
        TileState::Arriving => "arriving",
        TileState::Disputed => "disputed",
        TileState::Unowned => "unowned",
    }
}

const fn replica_state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Joining => "joining",
        ReplicaState::Stable => "stable",
        ReplicaState::Standby => "standby",
        ReplicaState::Slow => "slow",
        ReplicaState::Silent => "silent",
        ReplicaState::Left => "left",
        ReplicaState::Lost => "lost",
        ReplicaState::Unheard => "unheard",
    }
}

fn flow(snapshot: &Snapshot) -> Rows {
    let rows = snapshot.board.replicas.iter().map(|replica| {
        let owned = snapshot.board.partitions.iter().filter(|partition| partition.owners.contains(&replica.name));
        vec![
            format!("{} {}", replica.letter, replica.name),
            replica_state(replica.state).to_owned(),
            format!("{:.1}", replica.rate),
            owned.clone().map(|partition| partition.lag).sum::<i64>().to_string(),
            owned.count().to_string(),
            back_pressure(replica),
            replica.stored.to_string(),
        ]
    });
    (vec!["sink", "state", "edits/s", "lag", "partitions", "back-pressure", "stored"], rows.collect())
}

/// How full a sink's buffer is.
fn back_pressure(replica: &ReplicaView) -> String {
    format!("{} %", (replica.buffered * 100).checked_div(replica.buffer_limit).unwrap_or(0))
}

fn rebalance(view: &RebalanceView) -> Vec<String> {
    let rebalance = &view.rebalance;
    let began = jiff::Timestamp::from_millisecond(rebalance.began_ms).unwrap_or_default();
    let numbers =
        |partitions: &[i32]| partitions.iter().map(|partition| format!("p{partition}")).collect::<Vec<_>>().join(" ");
    let causes = rebalance.causes.iter().map(|cause| match cause {
        Cause::Joined(who) => format!("{who} joined"),
        Cause::Left(who) => format!("{who} left"),
        Cause::Lost(who) => format!("{who} LOST"),
        Cause::ProtocolChanged(to) => format!("protocol {to}"),
        Cause::TopicChanged(count) => format!("{count} partitions"),
    });
    let why = causes.collect::<Vec<_>>().join(", ");
    vec![
        began.strftime("%H:%M:%S").to_string(),
        if rebalance.is_over { why } else { format!("going on: {why}") },
        numbers(&rebalance.moved),
        numbers(&rebalance.kept),
        view.duration_ms.to_string(),
        view.longest.map_or_else(String::new, |pause| format!("{} ms (p{})", pause.milliseconds, pause.partition)),
        rebalance.protocol.clone(),
    ]
}

fn errors(snapshot: &Snapshot) -> Vec<Vec<String>> {
    let board = &snapshot.board;
    let line = |place: &str, what: String| vec![place.to_owned(), what];
    let alerts = snapshot.around.alerts.iter();
    let mut found: Vec<Vec<String>> = alerts.map(|alert| line(alert.what.as_str(), alert.text.clone())).collect();
    for replica in &board.replicas {
        if matches!(replica.state, ReplicaState::Silent | ReplicaState::Lost) {
            let seconds = (snapshot.ts - replica.heard_ms).max(0) / 1_000;
            found.push(line(&replica.name, format!("{}: last word {seconds} s ago", replica_state(replica.state))));
        }
    }
    for partition in &board.partitions {
        let place = format!("p{}", partition.partition);
        if partition.is_flapping {
            found.push(line(&place, "moved more than three times within five minutes".to_owned()));
        }
        if partition.committed.is_some_and(|committed| committed < partition.start) {
            found.push(line(&place, "retention took records that were not stored".to_owned()));
        }
    }
    found
}

/// The table as lines, columns aligned.
pub(crate) fn text(table: &Table) -> String {
    let widths = widths(table);
    let mut lines = format!("{}\n", table.title);
    let head: Vec<String> = table.head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(&table.rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        // A string takes whatever is written.
        let _ = writeln!(lines, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    lines
}

/// The widest cell of each column, in characters.
pub(crate) fn widths(table: &Table) -> Vec<usize> {
    let widest = |column: usize, name: &str| {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(name.chars().count())
    };
    table.head.iter().enumerate().map(|(column, name)| widest(column, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        serde_json::from_str(
            r#"{"seq":1,"ts":10000,"points":[],"edits":{"seen":0,"shown":0,"edits":[]},
            "around":{"source":null,"brokers":{"up":2,"known":3},"dead_letters":{},"alerts":[{"what":"brokers","text":"1 of 3 brokers away"}]},
            "flow":{"raw_rate":1.0,"events_rate":1.0,"stored_rate":2.5,"stored":9,"enricher_lag":0,"sink_lag":7,"delay_p50_ms":null,"delay_p99_ms":null},
            "board":{"group":{"state":"stable","protocol":"eager","generation":3,"members":2,"topic":"t","looked_ms":9900,"heard_ms":9990},
            "replicas":[{"name":"sink-1","letter":"A","state":"stable","started_ms":1,"heard_ms":9990,"rate":2.5,"stored":9,"buffered":500,"buffer_limit":2000,"trouble":"","host":""},
            {"name":"sink-2","letter":"B","state":"lost","started_ms":1,"heard_ms":4000,"rate":0.0,"stored":9,"buffered":0,"buffer_limit":0,"trouble":"","host":""}],
            "partitions":[{"partition":2,"state":"owned","owners":["sink-1"],"target":null,"since_ms":1,"still_since_ms":null,"lag":7,"start":0,"end":10,"committed":3,"is_flapping":false},
            {"partition":10,"state":"in_flight","owners":[],"target":null,"since_ms":1,"still_since_ms":4000,"lag":0,"start":5,"end":10,"committed":3,"is_flapping":true}],
            "timeline":[],
            "rebalances":[{"id":1,"began_ms":0,"ended_ms":1500,"is_over":true,"causes":[{"what":"lost","who":"sink-2"}],"protocol":"eager","generation":3,"moved":[1],"kept":[],"pauses":[],"duration_ms":1500,"longest":{"partition":1,"milliseconds":1500}}]}}"#,
        )
        .unwrap()
    }

    fn shown(tab: Tab, sort: i32, filter: &str) -> Vec<Vec<String>> {
        table(&snapshot(), &Choice { tab, sort, filter: filter.to_owned() }).rows
    }

    #[test]
    fn partitions_are_sorted_as_numbers_and_filtered_by_text() {
        let first = |rows: Vec<Vec<String>>| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
        assert_eq!(first(shown(Tab::Ownership, 1, "")), ["p2", "p10"]);
        assert_eq!(first(shown(Tab::Ownership, -1, "")), ["p10", "p2"]);
        assert_eq!(first(shown(Tab::Ownership, 5, "")), ["p10", "p2"], "by lag");
        assert_eq!(shown(Tab::Ownership, 1, "FLIGHT"), [["p10", "nobody", "in flight", "", "0", "10", "3", "6000"]]);
    }

    #[test]
    fn every_table_has_as_many_cells_as_columns_and_says_what_it_should() {
        for tab in Tab::ALL {
            let table = table(&snapshot(), &Choice { tab, sort: 1, filter: String::new() });
            assert!(table.rows.iter().all(|row| row.len() == table.head.len()), "{tab:?}");
        }
        assert_eq!(shown(Tab::Flow, 1, "sink-1")[0][5], "25 %");
        assert_eq!(shown(Tab::Rebalances, 1, "")[0][1], "sink-2 LOST");
        let errors = shown(Tab::Errors, 1, "");
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.contains(&vec!["brokers".to_owned(), "1 of 3 brokers away".to_owned()]), "{errors:?}");
        assert!(
            text(&table(&snapshot(), &Choice { tab: Tab::Flow, sort: 1, filter: String::new() })).contains("A sink-1")
        );
    }
}
