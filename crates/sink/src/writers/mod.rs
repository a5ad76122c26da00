//! The destinations. A new one is a file here, a line in [`open`], and a line in the contract test.

pub mod postgres;
pub mod sqlite;
pub mod stdout;

use service::Failure;

use crate::config::{Config, WriterKind};
use crate::writer::Writer;

/// Opens the configured destination.
///
/// # Errors
/// [`Failure::Config`] in one sentence.
pub fn open(config: &Config) -> Result<Box<dyn Writer>, Failure> {
    match config.writer {
        WriterKind::Postgres => Ok(Box::new(postgres::Postgres::new(&config.database)?)),
        WriterKind::Sqlite => Ok(Box::new(sqlite::Sqlite::open(&config.sqlite_file)?)),
        WriterKind::Stdout => Ok(Box::new(stdout::Stdout::new(std::io::stdout()))),
    }
}
