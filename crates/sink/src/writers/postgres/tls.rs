//! TLS to the database: how much of it the address asks for, and who may vouch for the server.

use std::net::IpAddr;
use std::path::Path;

use openssl::ssl::{SslConnector, SslMethod};
use postgres::Config;
use postgres::config::{Host, SslMode};
use postgres_openssl::MakeTlsConnector;
use service::local::is_local_host;

const NAME: &str = "sslmode=";

/// What an address says of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disable,
    /// Where the server offers it.
    Prefer,
    /// With a certificate of this server: libpq's `verify-full`, and its `require`, which checks less there.
    Require,
    /// With a certificate that may be another server's.
    VerifyCa,
}

/// The address as the driver reads it, and the mode that it names.
pub(super) fn mode(address: &str) -> Result<(String, Option<Mode>), &'static str> {
    let from = if address.contains("://") { address.find('?').unwrap_or(address.len()) } else { 0 };
    let is_begin = |at: usize| at == 0 || address[..at].ends_with(['?', '&', ' ']);
    let found = address[from..].match_indices(NAME).map(|(at, _)| from + at).find(|at| is_begin(*at));
    let Some(at) = found else { return Ok((address.to_owned(), None)) };
    let (before, rest) = address.split_at(at + NAME.len());
    let end = rest.find(['&', ' ']).unwrap_or(rest.len());
    let (value, after) = rest.split_at(end);
    let (mode, known) = match value.trim_matches('\'') {
        "disable" => (Mode::Disable, "disable"),
        "prefer" => (Mode::Prefer, "prefer"),
        "require" | "verify-full" => (Mode::Require, "require"),
        "verify-ca" => (Mode::VerifyCa, "require"),
        _ => return Err("sslmode is one of require, verify-full, verify-ca, prefer, disable"),
    };
    Ok((format!("{before}{known}{after}"), Some(mode)))
}

/// Sets the mode: without one, TLS is required of every server that is not on this machine.
pub(super) fn require(config: &mut Config, mode: Option<Mode>) {
    if mode.is_none() && !is_here(config) {
        config.ssl_mode(SslMode::Require);
    }
}

/// Whether the password may go over a network that others read.
pub(super) fn is_in_clear(config: &Config) -> bool {
    config.get_password().is_some() && config.get_ssl_mode() != SslMode::Require && !is_here(config)
}

fn is_here(config: &Config) -> bool {
    let here = |host: &Host| match host {
        Host::Tcp(name) => is_local_host(name),
        Host::Unix(_) => true,
    };
    // An address stands in the name's place where both are given.
    config.get_hosts().iter().all(here) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// What checks the server's certificate.
pub(super) fn connector(authorities: Option<&Path>, mode: Option<Mode>) -> Result<MakeTlsConnector, String> {
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(|error| format!("OpenSSL cannot be set up: {error}"))?;
    if let Some(file) = authorities {
        builder.set_ca_file(file).map_err(|error| format!("no certificates in {}: {error}", file.display()))?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    if mode == Some(Mode::VerifyCa) {
        connector.set_callback(|connection, _| {
            connection.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> Config {
        let (address, mode) = mode(address).unwrap();
        let mut config: Config = address.parse().unwrap();
        require(&mut config, mode);
        config
    }

    #[test]
    fn tls_is_required_beyond_this_machine_unless_the_address_says_otherwise() {
        for (address, expected, in_clear) in [
            ("postgres://u:p@db/d", SslMode::Require, false),
            ("postgres://u:p@10.1.2.3,127.0.0.1/d", SslMode::Require, false),
            ("host=db user=u password=p", SslMode::Require, false),
            ("postgres://u:p@localhost/d", SslMode::Prefer, false),
            ("postgres://u:p@[::1]/d", SslMode::Prefer, false),
            ("host=localhost hostaddr=10.1.2.3 user=u password=p", SslMode::Require, false),
            ("host=localhost hostaddr=127.0.0.1 user=u password=p", SslMode::Prefer, false),
            ("host=/run/postgresql user=u", SslMode::Prefer, false),
            ("postgres://u:p@db/d?sslmode=prefer", SslMode::Prefer, true),
            ("postgres://u:p@db/d?connect_timeout=5&sslmode=disable", SslMode::Disable, true),
            ("postgres://u@db/d?sslmode=disable", SslMode::Disable, false),
            ("postgres://u:p@db/d?sslmode=verify-full&application_name=x", SslMode::Require, false),
            ("host=db sslmode='verify-ca' user=u password=p", SslMode::Require, false),
            // A password that looks like it.
            ("postgres://u:sslmode=disable@db/d", SslMode::Require, false),
        ] {
            let config = parsed(address);
            assert_eq!((config.get_ssl_mode(), is_in_clear(&config)), (expected, in_clear), "{address}");
        }
        assert!(mode("postgres://u:p@db/d?sslmode=allow").unwrap_err().contains("verify-full"));
        assert_eq!(mode("host=db sslmode=verify-ca").unwrap().1, Some(Mode::VerifyCa));
    }
}
