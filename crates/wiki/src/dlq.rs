//! Rows that the sinks set aside: listed, shown, and stored after all.

use std::collections::BTreeMap;

use schema::Reason;
use service::Failure;
use service::text::{cut, visible};
use sink::aside::{Aside, Replayed, SetAside};
use sink::config::WriterKind;
use sink::error::WriteError;
use sink::prune::Prune;
use sink::writers::postgres::Postgres;
use sink::writers::postgres::connection::DatabaseConfig;
use sink::writers::sqlite::Sqlite;

use crate::out::{confirm, line};

/// Rows that are read at once.
const AT_ONCE: i64 = 500;
/// Characters of a detail in a list.
const DETAIL: usize = 80;

/// Where the sinks store.
#[derive(clap::Args, Debug)]
pub(crate) struct Destination {
    /// Where the sinks store edits: postgres or sqlite.
    #[arg(long, env = "WIKI_WRITER", value_enum, default_value = "postgres")]
    writer: WriterKind,
    #[command(flatten)]
    database: DatabaseConfig,
    /// The sinks' SQLite file.
    #[arg(long, env = "WIKI_SQLITE_FILE", value_name = "FILE", default_value = "edits.db")]
    sqlite_file: std::path::PathBuf,
}

/// What `wiki dlq` does.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Action {
    /// List the rows that the sinks set aside: number, place, reason.
    List {
        #[command(flatten)]
        destination: Destination,
    },
    /// Show one row with the value of its record.
    Show {
        /// The row, as `wiki dlq list` numbers it.
        row: i64,
        #[command(flatten)]
        destination: Destination,
    },
    /// Store after all what the table refused, once the cause is mended; each row once. Needs the right to delete.
    Replay {
        /// One row; without it all.
        row: Option<i64>,
        /// Without the question.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        destination: Destination,
    },
}

/// Runs `wiki dlq`.
pub(crate) fn main(action: &Action) -> Result<(), Failure> {
    match action {
        Action::List { destination } => list(destination.open()?.as_mut()),
        Action::Show { row, destination } => show(destination.open()?.as_mut(), *row),
        Action::Replay { row, yes, destination } => {
            confirm("store what was set aside", "replay", *yes)?;
            replay(destination.open()?.as_mut(), *row)
        }
    }
}

/// What can be done with a table beside storing into it.
pub(crate) trait Tended: Aside + Prune {}

impl<T: Aside + Prune> Tended for T {}

impl Destination {
    /// Opens it.
    pub(crate) fn open(&self) -> Result<Box<dyn Tended>, Failure> {
        match self.writer {
            WriterKind::Postgres => Ok(Box::new(Postgres::new(&self.database)?)),
            WriterKind::Sqlite if self.sqlite_file.exists() => Ok(Box::new(Sqlite::open(&self.sqlite_file)?)),
            WriterKind::Sqlite => Err(Failure::Config(format!(
                "there is no file {}; name it with --sqlite-file or WIKI_SQLITE_FILE",
                self.sqlite_file.display()
            ))),
            WriterKind::Stdout => {
                Err(Failure::Config("standard output keeps nothing: --writer postgres or sqlite".to_owned()))
            }
        }
    }
}

fn failed(error: &WriteError) -> Failure {
    Failure::Runtime(error.to_string())
}

/// Shows every row that was set aside.
fn each(
    table: &mut dyn Tended,
    mut on: impl FnMut(&mut dyn Tended, &SetAside) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut behind = 0;
    loop {
        let rows = table.set_aside(behind, AT_ONCE).map_err(|error| failed(&error))?;
        let Some(last) = rows.last() else { return Ok(()) };
        behind = last.id;
        rows.iter().try_for_each(|row| on(table, row))?;
    }
}

fn list(table: &mut dyn Tended) -> Result<(), Failure> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    each(table, |_, row| {
        let SetAside { id, partition, seq, reason, detail, .. } = row;
        if counts.is_empty() {
            line(format!("{:>8} {:>9} {:>12}  {:<18} {}", "row", "partition", "seq", "reason", "detail"));
        }
        let detail = cut(&visible(detail), DETAIL).into_owned();
        line(format!("{id:>8} {partition:>9} {seq:>12}  {reason:<18} {detail}"));
        *counts.entry(reason.clone()).or_default() += 1;
        Ok(())
    })?;
    if counts.is_empty() {
        line("no row was set aside");
    }
    for (reason, count) in counts {
        line(format!("{reason}: {count}"));
    }
    Ok(())
}

fn show(table: &mut dyn Tended, number: i64) -> Result<(), Failure> {
    let rows = table.set_aside(number - 1, 1).map_err(|error| failed(&error))?;
    let Some(row) = rows.into_iter().find(|row| row.id == number) else {
        return Err(Failure::Config(format!("there is no row {number}; `wiki dlq list` lists those that there are")));
    };
    line(format!("row        {}", row.id));
    line(format!("place      partition {}, seq {}, offset {}", row.partition, row.seq, row.offset));
    line(format!("reason     {}", row.reason));
    line(format!("detail     {}", visible(&row.detail)));
    line(format!("value      {}", visible(&String::from_utf8_lossy(&row.value))));
    Ok(())
}

fn replay(table: &mut dyn Tended, only: Option<i64>) -> Result<(), Failure> {
    let (mut stored, mut repeats, mut stay) = (0, 0, 0);
    let replayed = each(table, |table, row| {
        if only.is_some_and(|only| only != row.id) {
            return Ok(());
        }
        match table.replay(row).map_err(|error| failed(&error))? {
            Replayed::Stored => stored += 1,
            Replayed::Repeat => repeats += 1,
            Replayed::Stays if row.reason == Reason::DuplicateId.as_str() => repeats += 1,
            Replayed::Stays => stay += 1,
        }
        Ok(())
    });
    line(format!("stored {stored}; {repeats} are in the table already; {stay} cannot be stored"));
    replayed
}
