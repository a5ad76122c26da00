//! Connections: where to, with which rights, and what an error means.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use postgres::config::Host;
use postgres::error::SqlState;
use postgres::{Client, Config, Error};
use postgres_openssl::MakeTlsConnector;
use service::Failure;

use super::tls;
use crate::error::WriteError;

const CONNECT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long is gone.
const PEER: Duration = Duration::from_secs(20);
/// A statement, a wait for a lock, and a transaction in which nothing happens end after this: zombies hold nothing for ever.
const LIMITS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '10s'";

/// Where the database is, and as whom to go there.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct DatabaseConfig {
    /// PostgreSQL, as postgres://user:password@host:port/database. Beyond this machine TLS with a checked certificate is
    /// required, unless it ends in ?sslmode=disable.
    #[arg(long, env = "WIKI_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// A file that holds the URL, instead of --database-url.
    #[arg(long, env = "WIKI_DATABASE_URL_FILE", value_name = "FILE", conflicts_with = "database_url")]
    pub database_url_file: Option<PathBuf>,
    /// A role that may make the tables, as a URL; where it is absent the role of --database-url makes them, or must find them made.
    #[arg(long, env = "WIKI_DATABASE_OWNER_URL", value_name = "URL", hide_env_values = true)]
    pub database_owner_url: Option<Secret>,
    /// A file that holds the owner's URL, instead of --database-owner-url.
    #[arg(long, env = "WIKI_DATABASE_OWNER_URL_FILE", value_name = "FILE", conflicts_with = "database_owner_url")]
    pub database_owner_url_file: Option<PathBuf>,
    /// Certificates that may vouch for the server, PEM; else those of the system.
    #[arg(long, env = "WIKI_DATABASE_CA_FILE", value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,
}

/// Text that is never shown.
#[derive(Clone, Default)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// One database and one role.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: MakeTlsConnector,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl DatabaseConfig {
    /// The database as the service's own role.
    ///
    /// # Errors
    /// [`Failure::Config`] naming the setting.
    pub fn target(&self) -> Result<Target, Failure> {
        let url = secret(self.database_url.as_ref(), self.database_url_file.as_ref(), "WIKI_DATABASE_URL")?;
        let Some(url) = url else {
            return Err(Failure::Config(
                "PostgreSQL needs an address: give postgres://user:password@host/database with --database-url, \
                 WIKI_DATABASE_URL or WIKI_DATABASE_URL_FILE, or choose another destination with --writer"
                    .to_owned(),
            ));
        };
        self.parse(&url, "WIKI_DATABASE_URL")
    }

    /// The database as the tables' owner, where one is given.
    ///
    /// # Errors
    /// [`Failure::Config`] naming the setting.
    pub fn owner(&self) -> Result<Option<Target>, Failure> {
        let (url, file) = (self.database_owner_url.as_ref(), self.database_owner_url_file.as_ref());
        let url = secret(url, file, "WIKI_DATABASE_OWNER_URL")?;
        url.map(|url| self.parse(&url, "WIKI_DATABASE_OWNER_URL")).transpose()
    }

    fn parse(&self, url: &str, variable: &str) -> Result<Target, Failure> {
        let (url, mode) =
            tls::mode(url.trim()).map_err(|why| Failure::Config(format!("{variable} cannot be used: {why}")))?;
        // The parser's own message may quote the password.
        let mut config: Config = url.parse().map_err(|_| {
            Failure::Config(format!("{variable} is no address: give postgres://user:password@host:port/database"))
        })?;
        tls::require(&mut config, mode);
        config.connect_timeout(CONNECT).keepalives_idle(PEER).tcp_user_timeout(PEER);
        if config.get_application_name().is_none() {
            config.application_name("wikipedia-events");
        }
        let connector = tls::connector(self.database_ca_file.as_deref(), mode)
            .map_err(|what| Failure::Config(format!("{what}; give PEM certificates with WIKI_DATABASE_CA_FILE")))?;
        Ok(Target { config, tls: connector })
    }
}

fn secret(value: Option<&Secret>, file: Option<&PathBuf>, variable: &str) -> Result<Option<String>, Failure> {
    match (value, file) {
        (Some(value), _) => Ok(Some(value.0.clone())),
        (None, None) => Ok(None),
        (None, Some(file)) => fs::read_to_string(file)
            .map(Some)
            .map_err(|error| Failure::Config(format!("{variable}_FILE: {} cannot be read: {error}", file.display()))),
    }
}

impl Target {
    /// The database in words, without the password.
    #[must_use]
    pub fn name(&self) -> String {
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let ports: Vec<String> = self.config.get_ports().iter().map(ToString::to_string).collect();
        let (user, database) =
            (self.config.get_user().unwrap_or_default(), self.config.get_dbname().unwrap_or_default());
        format!(
            "{database} on {} port {} as {user}",
            hosts.join(","),
            if ports.is_empty() { "5432".to_owned() } else { ports.join(",") }
        )
    }

    /// A sentence, where the password may be read on the way.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        tls::is_in_clear(&self.config).then_some(
            "the password may go to the database in clear: give the server a certificate and write sslmode=require",
        )
    }

    /// Connects. Blocks, at most a few seconds.
    ///
    /// # Errors
    /// What the database or the network said.
    pub fn connect(&self) -> Result<Client, Error> {
        self.config.connect(self.tls.clone())
    }

    /// Connects for writes: what takes too long ends.
    pub(super) fn connect_limited(&self) -> Result<Client, Error> {
        let mut client = self.connect()?;
        client.batch_execute(LIMITS)?;
        Ok(client)
    }
}

/// What must be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again, on the same connection or another.
    Retry,
    /// It took too long: less at once may do.
    TooSlow,
    /// This row is refused; others would be taken.
    BadRow,
    /// The table refuses rows that it was made for.
    Refused,
    /// A person must act: rights, names, passwords.
    Stop,
}

/// Judges an error by its SQLSTATE; what carries none is the network's.
#[must_use]
pub fn judge(error: &Error) -> Verdict {
    let Some(code) = error.code() else { return Verdict::Retry };
    match code.code().get(..2).unwrap_or_default() {
        // 54: too long for an index, for one. A second row of a key is judged by a look at the table.
        "22" | "54" => Verdict::BadRow,
        "23" if *code == SqlState::UNIQUE_VIOLATION => Verdict::BadRow,
        // Rules, partitions and triggers: our rows satisfy the table as we made it.
        "23" | "P0" => Verdict::Refused,
        "57" if *code == SqlState::QUERY_CANCELED => Verdict::TooSlow,
        "26" | "28" | "3D" | "3F" | "42" => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

/// What is said of a pooler that gives each transaction another connection.
pub const POOLED: &str = "PostgreSQL is behind a pooler that gives each transaction another connection, and loses the \
    statements that were prepared on it: use session pooling (PgBouncer: pool_mode = session), or connect to the server \
    itself";

/// Whether a statement that was prepared on a connection is not on it, or another one is.
#[must_use]
pub fn is_pooled(error: &Error) -> bool {
    let lost = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    error.code().is_some_and(|code| lost.contains(code))
}

/// One sentence of an error, with what the server said.
#[must_use]
pub fn sentence(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => {
            let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        }
    }
}

/// As an error of a write.
pub fn failed(doing: &'static str) -> impl Fn(Error) -> WriteError {
    move |error| match judge(&error) {
        Verdict::Stop if is_pooled(&error) => WriteError::Stop(POOLED.to_owned()),
        Verdict::Stop => WriteError::Stop(format!(
            "PostgreSQL refused to {doing}: {}; see docs/postgresql.md for the rights that the role needs",
            sentence(&error)
        )),
        Verdict::Retry => WriteError::Retry { doing, source: Box::new(Said(sentence(&error), error)) },
        Verdict::TooSlow => WriteError::TooSlow { doing, source: Box::new(Said(sentence(&error), error)) },
        // A bad row was looked for and not found.
        Verdict::BadRow | Verdict::Refused => WriteError::Refused(format!("{doing}: {}", sentence(&error))),
    }
}

/// An error with the server's own words, which the driver's text leaves out.
#[derive(Debug)]
struct Said(String, Error);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}
