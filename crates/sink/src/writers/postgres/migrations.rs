//! The tables, made and brought up to date. A new version is a file in `migrations/` and a line in [`MIGRATIONS`].

use postgres::{Client, Error, GenericClient};

/// Every version, in order.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001_edits.sql"), include_str!("migrations/0002_stretches.sql")];
/// A large table takes its time; but who waits for a lock on it keeps all others waiting behind it, and tries again.
const PATIENCE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '3s'";
/// Sinks that start together make the tables one after another: the key of the lock, "wiki" in ASCII.
const LOCK: i64 = 0x77_69_6b_69;

/// Where the tables stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As this program needs them.
    Current,
    /// Missing or older: this many versions are there.
    Behind(usize),
    /// Made by a newer program.
    Newer(usize),
}

/// Asks for the version of the tables; needs no right but to read.
///
/// # Errors
/// What the database said.
pub fn standing(client: &mut impl GenericClient) -> Result<Standing, Error> {
    let is_there: bool = client.query_one("SELECT to_regclass('wiki_migrations') IS NOT NULL", &[])?.get(0);
    let version: i64 = match is_there {
        true => client.query_one("SELECT count(*) FROM wiki_migrations", &[])?.get(0),
        false => 0,
    };
    let version = usize::try_from(version).unwrap_or_default();
    Ok(match version.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Less => Standing::Behind(version),
        std::cmp::Ordering::Equal => Standing::Current,
        std::cmp::Ordering::Greater => Standing::Newer(version),
    })
}

/// Makes what is missing, in one transaction.
///
/// # Errors
/// What the database said; nothing was changed.
pub fn migrate(client: &mut Client) -> Result<(), Error> {
    // Before the transaction: inside one, a sink that had to wait would not see the tables that the other made.
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK])?;
    let made = make_missing(client);
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK])?;
    made
}

fn make_missing(client: &mut Client) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(PATIENCE)?;
    let Standing::Behind(version) = standing(&mut transaction)? else { return Ok(()) };
    transaction.batch_execute(
        "CREATE TABLE IF NOT EXISTS wiki_migrations \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    )?;
    for (number, migration) in (1_i32..).zip(MIGRATIONS).skip(version) {
        transaction.batch_execute(migration)?;
        transaction.execute("INSERT INTO wiki_migrations (version) VALUES ($1)", &[&number])?;
        tracing::info!(version = number, "tables made");
    }
    transaction.commit()
}
