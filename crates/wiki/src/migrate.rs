//! Makes the sinks' tables, so that no service has to know their owner's password.

use service::Failure;
use sink::writers::postgres::connection::DatabaseConfig;
use sink::writers::postgres::migrate;

use crate::out::line;

/// What `wiki migrate` is given.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseConfig,
}

/// Runs `wiki migrate`.
pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let owner = arguments.database.owner()?;
    let role = owner.map_or_else(|| arguments.database.target(), Ok)?;
    migrate(&role).map_err(|error| Failure::Unavailable(error.to_string()))?;
    line(format!("the tables are up to date: {}", role.name()));
    Ok(())
}
